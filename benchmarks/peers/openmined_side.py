"""OpenMined PSI, both roles in one process: set-up, request, process, intersect.

    openmined_side.py ELEMENTS

The set-up message is the raw one, which costs least: elements are hashed to P-256 and raised, and no filter is built.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from driver import Driver, timed, token
from private_set_intersection import python as psi

FALSE_POSITIVES = 1e-9
WARM_UP = 64


def main() -> None:
    """Take each step once with sets of equal size, half of which they share, and report the costs."""
    elements = int(sys.argv[1])
    driver = Driver()
    owner, querier = psi.server.CreateWithNewKey(True), psi.client.CreateWithNewKey(True)  # noqa: FBT003 - their signature
    held = [token(number) for number in range(elements)]
    asked = [token(number + elements // 2) for number in range(elements)]
    raw = psi.DataStructure.RAW
    owner.CreateSetupMessage(FALSE_POSITIVES, WARM_UP, held[:WARM_UP], raw)
    driver.await_start()
    steps = {}
    setup, steps["setup"] = timed(lambda: owner.CreateSetupMessage(FALSE_POSITIVES, elements, held, raw))
    request, steps["request"] = timed(lambda: querier.CreateRequest(asked))
    response, steps["process"] = timed(lambda: owner.ProcessRequest(request))
    shared, steps["intersect"] = timed(lambda: querier.GetIntersection(setup, response))
    if len(shared) != elements - elements // 2:
        raise SystemExit("the intersection is not what was planted")
    driver.report({"steps": steps, "elements": elements, "version": version("openmined-psi")})


if __name__ == "__main__":
    main()
