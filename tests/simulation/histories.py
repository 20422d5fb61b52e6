"""Generated histories of two authorities: one list of operations, played on nodes in memory or on real processes.

A history is made of a seed alone, so a failure is repeated by its number. Whoever plays it tells the reference model what was
acknowledged; in the end exactly the pairs of the plaintext join must be found.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType
from connector_psi.encoding import tickets
from connector_psi.node.node import QUERIER
from connector_psi.node.publishing import case_keys
from connector_psi.node.service import Service
from connector_psi.storage import owned, queried
from connector_psi.storage import records as record_store
from tests.faults.model import Reference, Side, Token
from tests.simulation.faults import AGREEMENT

POOL: list[Token] = [
    *(
        (IdentifierType.CONTAINER, normalise(IdentifierType.CONTAINER, f"TGHU{n:06d}", complete_check_digit=True))
        for n in range(100001, 100006)
    ),
    (IdentifierType.VIN, "WVWZZZ1JZ3W386752"),
    (IdentifierType.IMO, "9074729"),
]
REFS = 9
CALLS = ("get_manifest", "read_set", "get_deltas", "evaluate")
HOUR = 3600.0


@dataclass(frozen=True)
class Operation:
    """One step. What a field means depends on the kind."""

    kind: str
    side: str = ""
    ref: str = ""
    tokens: tuple[Token, ...] = ()
    seconds: float = 0.0
    call: str = ""


def history(seed: int, length: int, ends: tuple[float, float] = (40.0, 10 * HOUR)) -> Iterator[Operation]:
    """Return the operations of a seed; ``ends`` are the lives, in seconds, of records that end by themselves."""
    draw = random.Random(seed)
    kinds = {
        "register": 10, "withdraw": 4, "turn": 14, "epoch": 2, "kill": 2, "stop": 1, "lose": 4, "half turn": 4, "wait": 2,
    }  # fmt: skip
    for _ in range(length):
        (kind,) = draw.choices(list(kinds), list(kinds.values()))
        side = draw.choice(("declaration", "alert"))
        if kind == "register":
            # Some end by themselves, while the history goes on or after it.
            until = draw.choice((0.0, 0.0, 0.0, *ends))
            tokens = tuple(draw.sample(POOL, draw.randint(0, 3)))
            yield Operation(kind, side, f"{side[0].upper()}{draw.randrange(REFS)}", tokens, until)
        elif kind == "withdraw":
            yield Operation(kind, side, f"{side[0].upper()}{draw.randrange(REFS)}")
        elif kind == "lose":
            yield Operation(kind, call=f"{draw.choice(('before', 'after'))}:{draw.choice(CALLS)}")
        elif kind == "wait":
            yield Operation(kind, seconds=draw.choice((3.0, 3.0, HOUR, 13 * HOUR)))
        else:
            yield Operation(kind, side)


class Player(Protocol):
    """Carries operations out; what it does not know it leaves out."""

    def now(self) -> float:
        """Time as the nodes see it, in seconds."""
        ...

    def play(self, operation: Operation) -> bool:
        """Carry out an operation. Returns whether a registration or a withdrawal was acknowledged."""
        ...


def play(player: Player, operations: Iterator[Operation]) -> Reference:
    """Play a history; returns the model of what was acknowledged."""
    model = Reference()
    for operation in operations:
        done = player.play(operation)
        if not done:
            continue
        until = player.now() + operation.seconds if operation.seconds else None
        if operation.kind == "register" and operation.side == "alert":
            model.register_alert(operation.ref, operation.tokens, until)
        elif operation.kind == "register":
            model.register_declaration(operation.ref, operation.tokens, until)
        elif operation.kind == "withdraw":
            model.withdraw(Side(operation.side), operation.ref)
    return model


def found_pairs(ics2: Service, sis: Service) -> Counter[tuple[str, str]]:
    """(declaration, alert) of every undecided match: the owner's keys open the ticket, as they do when a case is opened."""
    found: Counter[tuple[str, str]] = Counter()
    rows: list[queried.MatchRow] = []
    while page := ics2.review.list(state=queried.NEW, after=rows[-1].seq if rows else 0):
        rows += page
    for row in rows:
        with sis.node.store.read() as tx:
            epoch = owned.get_epoch(tx, AGREEMENT, row.epoch)
            assert epoch is not None
            k_ticket, _ = case_keys(sis.node, epoch)
            number = tickets.open_ticket_id(k_ticket, bytes.fromhex(row.payload["ticket_id"]))
            assert number is not None
            stored = record_store.by_id(sis.node.store, tx, number)
        assert stored is not None
        found[row.payload["record_ref"], stored[0].source_ref] += 1
    return found


def verify(ics2: Service, sis: Service, model: Reference) -> None:
    """Exactly the pairs of the join, each once; nothing of an epoch that ended is left."""
    assert found_pairs(ics2, sis) == Counter(model.expected_pairs())
    with ics2.node.store.read() as tx:
        used = queried.sets_in_use(tx, AGREEMENT)
    with sis.node.store.read() as tx:
        answering = {row.epoch for row in owned.answering(tx, AGREEMENT, sis.node.now_ms())}
    assert len(used) == 1
    kept = {epoch for code, epoch in ics2.node.keyring.epochs() if code == AGREEMENT}
    assert kept == {used[0].epoch}
    assert {epoch for code, epoch in sis.node.keyring.epochs() if code == AGREEMENT} == answering
    assert folders(ics2.node.layout.taken_set(AGREEMENT, 0).parent) == kept
    assert folders(sis.node.layout.owned_set(AGREEMENT, 0).parent) == answering
    assert ics2.node.bound(AGREEMENT, QUERIER)
    for service in (ics2, sis):
        report = service.oversight.verify()
        assert report["verified"], report["failures"]


def folders(place: Path) -> set[int]:
    """Epochs that have a folder."""
    return {int(path.name) for path in place.iterdir()}
