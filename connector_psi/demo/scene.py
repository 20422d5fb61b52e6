"""What the stages of the demonstration share: the running nodes, the samples, the agreements, and who tells it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from connector_psi import policy
from connector_psi.demo.federation import Federation
from connector_psi.demo.join import Reading, count_asked
from connector_psi.demo.plan import CROSS_CHECK, CUSTOMS, EUROPOL, OBJECTS, SILENT, SIS, Pair, Plan
from connector_psi.demo.telling import Teller
from connector_psi.domain.records import Record
from connector_psi.errors import UnavailableError
from connector_psi.node.setup import find_profile
from connector_psi.pack.reading import load_policy
from connector_psi.pki import Role

NAMES = {CUSTOMS: "Customs (ICS2)", SIS: "N.SIS", EUROPOL: "Europol"}
OWNERS = {OBJECTS: SIS, CROSS_CHECK: EUROPOL}
"""Who owns the set of an agreement."""

_WAIT_S = 60.0
_POLL_S = 0.1


class Scene:
    """The state of a demonstration, filled stage by stage.

    Args:
        root: Folder of everything it writes.
        seed: Of the samples.
        federation: The nodes.
        tell: Who tells it.
    """

    def __init__(self, root: Path, seed: int, federation: Federation, tell: Teller) -> None:
        self.root = root
        self.seed = seed
        self.federation = federation
        self.tell = tell
        self.agreements = _agreements({code: (CUSTOMS, owner) for code, owner in OWNERS.items()})
        self.silent = _agreements(dict.fromkeys(SILENT, (SIS, CUSTOMS)))
        """Those in which N.SIS learns first, and nobody at customs is told."""
        self.plan: Plan
        self.readings: dict[str, Reading] = {}
        self.status: dict[str, dict[str, Any]] = {}

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for the nodes.

        Raises:
            UnavailableError: It takes too long, or a node has ended.
        """
        deadline = time.monotonic() + _WAIT_S
        while not done():
            self.federation.check()
            if time.monotonic() > deadline:
                raise UnavailableError(f"demonstration: waited too long for {what}")
            time.sleep(_POLL_S)

    def sync(self, code: str) -> None:
        """Wait until a node has published and queried all that is registered."""
        client, mark = self.federation.client(code, Role.SYSTEM), 0

        def done() -> bool:
            nonlocal mark
            mark, state = client.sync(mark)
            return bool(state["done"])

        self.until(f"{code} to publish and query", done)

    def tokens(self, code: str) -> int:
        """Tokens that an owner published, or that customs asked for."""
        if code == CUSTOMS:
            return sum(count_asked(a, self.readings[CUSTOMS].records) for a in self.agreements.values())
        return sum(int(a.get("tokens", 0)) for a in self.status[code]["agreements"])

    def epoch(self, code: str) -> int:
        """Return the epoch of the set that customs asks in an agreement."""
        return next(int(a["epoch"]) for a in self.status[CUSTOMS]["agreements"] if a["agreement"] == code)

    def owner_record(self, pair: Pair) -> Record | None:
        """Return the owner's record of a pair, from the samples."""
        records = self.readings[OWNERS[pair.agreement]].records
        return next((record for record in records if record.source_ref == pair.owner_ref), None)


def _agreements(sides: Mapping[str, tuple[str, str]]) -> dict[str, policy.Agreement]:
    """Agreements by their codes, from the policy that customs ships with; each with its querier and its owner."""
    pack = load_policy(find_profile(CUSTOMS) / "policy.yaml")
    templates = {template.code: template for template in pack.templates}
    return {
        code: policy.instantiate(templates[code.partition(":")[0]], querier, owner, synthetic=True)
        for code, (querier, owner) in sides.items()
    }
