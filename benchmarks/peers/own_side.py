"""The owner-side PRF of tokens in batches: ``connector_psi`` on its default group, or plain libsodium calls.

    own_side.py own|libsodium ELEMENTS BATCH PASSES

The outputs of each pass over the elements are hashed, so that ``benchmarks/peers.py`` can compare the two sides.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib.metadata import version

from driver import Driver, timed, token
from prf import plain_prf

from connector_psi.oprf import suite
from connector_psi.oprf.backends import default_group


def main() -> None:
    """Compute the PRF of all elements, and report its cost and a hash of the outputs."""
    side = sys.argv[1]
    elements, size, passes = map(int, sys.argv[2:])
    driver = Driver()
    group = default_group()
    keys = suite.derive_key_pair(bytes(range(32)), b"benchmark", group=group)
    tokens = [token(number).encode() for number in range(elements)]
    batches = [tokens[at : at + size] for at in range(0, elements, size)]
    sides: dict[str, Callable[[list[bytes]], bytes]] = {
        "own": lambda batch: suite.evaluate(keys.secret, batch, group=group),
        "libsodium": lambda batch: plain_prf(keys.secret, batch),
    }
    evaluate = sides[side]
    evaluate(batches[0])  # loads what is loaded at the first call
    driver.await_start()
    outputs, cost = timed(lambda: [evaluate(batch) for batch in batches * passes])
    driver.report(
        {
            "steps": {"prf": cost},
            "elements": elements * passes,
            "outputs": [
                hashlib.sha256(b"".join(outputs[len(batches) * n :][: len(batches)])).hexdigest() for n in range(passes)
            ],
            "version": group.name if side == "own" else f"rbcl {version('rbcl')}",
        }
    )


if __name__ == "__main__":
    main()
