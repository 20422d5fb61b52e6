"""What becomes of an own record while a case about it is open: amended, re-routed, arrived, gone.

Rules:

1. When a case is opened, a keyed hash of each field, of the identifiers of each type and of the parties of the own
   record is kept in its sealed payload, and no value. What differs later is a change; what it means says
   ``domain.changes``.
2. A change is shown in the case by its kind and by names of fields and identifier types, and logged, in one
   transaction. It is noticed once: what is compared with moves on.
3. A case is followed while it is drafted, pending or disclosed.
4. Nothing of it goes to the owner, whether or not the owner gets notice of the case: whoever learned of the match owns
   the record, and may see what becomes of it.

Nothing is kept of how far the changes were looked through: after a start every open case is compared once.

Leaves to others: what a changed record is asked for anew (``querying``), what people see (``caseviews``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any, Final

import structlog

from connector_psi.audit.entries import Event
from connector_psi.disclosure import CaseState
from connector_psi.domain import changes
from connector_psi.domain.changes import ChangeKind
from connector_psi.domain.records import Field, Record
from connector_psi.errors import AuditError, UnavailableError
from connector_psi.node.node import QUERIER, Node
from connector_psi.storage import cases, queried, records
from connector_psi.storage import following as store
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.store import Tx

logger = structlog.get_logger("connector_psi.node")

STATES: Final = (CaseState.DRAFTED, CaseState.PENDING, CaseState.DISCLOSED)
MAX_CHANGES: Final = 200
"""Of one case; the oldest are dropped."""
_CHUNK: Final = 2_000
_MAC_BYTES: Final = 16
_FIELD, _TYPE, _PARTIES = "field:", "type:", "parties:"
"""Before a name in what is compared: a field and a type may have one name."""


class Following:
    """Use case of the clock, in the loop that sends the querier's cases: no other writes what it writes."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._cursor: int | None = None

    def advance(self) -> int:
        """Look at the cases whose records changed since the last look. Returns how many changes were noticed.

        Raises:
            UnavailableError: Nothing can be written now; it is looked at again.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            newest = records.max_change_seq(tx)
            if newest == self._cursor:
                return 0
            found = set(store.cases_of_records(tx, STATES)) if self._cursor is None else self._concerned(tx)
        noticed = sum(self._turn(peer, request_id) for peer, request_id in sorted(found))
        self._cursor = newest
        return noticed

    def _concerned(self, tx: Tx) -> set[tuple[str, bytes]]:
        """The cases about records that changed, and about what changed records say the arrival of."""
        seq = self._cursor or 0
        found: set[tuple[str, bytes]] = set()
        if not store.cases_of_records(tx, STATES):
            return found
        while changed := records.changed_after(tx, seq, _CHUNK):
            seq = changed[-1].change_seq
            numbers = [row.id for row in changed]
            for row in changed:
                if row.category.startswith(changes.STATING):
                    numbers += self._stated_by(tx, row.id)
            found.update(store.cases_of_records(tx, STATES, numbers))
        return found

    def _stated_by(self, tx: Tx, record_id: int) -> list[int]:
        """The records of a movement whose arrival a record states, if it does."""
        node = self._node
        known = records.by_id(node.store, tx, record_id)
        if known is None or not changes.is_arrival(known[0]):
            return []
        return records.live_of_messages(node.store, tx, known[0].source, changes.messages_about(known[0]))

    def _turn(self, peer: str, request_id: bytes) -> int:
        try:
            return self._compare(peer, request_id)
        except (AuditError, UnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - one case must not keep the others back
            # The type alone: the text of a defect may hold a value.
            logger.warning("following.failed", case=request_id.hex(), error=type(error).__name__)
            return 0

    def _compare(self, peer: str, request_id: bytes) -> int:
        node = self._node
        with node.store.write() as tx:
            row = cases.get_case(node.store, tx, cases.QUERIER, peer, request_id)
            match = None if row is None else queried.get_match(node.store, tx, row.match_id or "")
            if row is None or row.state not in STATES or match is None:
                return 0
            before, now = row.payload["seen"], seen(node, tx, match.record_id)
            if now == before:
                return 0
            found = _differences(before, now)
            arrived = set(now["arrived"]) - set(before["arrived"])
            if arrived:
                found[ChangeKind.ARRIVED] = _named(node, tx, match.record_id, arrived)
            told = [
                {"when_ms": node.now_ms(), "kind": kind.value, "fields": list(names)} for kind, names in found.items()
            ]
            payload = {
                **row.payload,
                "seen": {
                    "live": now["live"],
                    # What it said when it left is what it is compared with if it comes back.
                    "says": now["says"] if now["live"] else before["says"],
                    "arrived": sorted({*before["arrived"], *now["arrived"]}),
                },
                "changes": [*row.payload.get("changes", ()), *told][-MAX_CHANGES:],
            }
            if told:
                self._log(tx, row, told)
            if payload != row.payload:
                cases.update_case(node.store, tx, replace(row, payload=payload))
        return len(told)

    def _log(self, tx: Tx, row: CaseRow, told: Sequence[Mapping[str, Any]]) -> None:
        # Without the id of the case in the leaf: it is nothing that its owner has an entry for.
        self._node.append(
            tx,
            Event.ALTER,
            {
                "operation": "alteration",
                "case": row.request_id.hex(),
                "record": row.payload["record_ref"],
                "changes": [{"kind": each["kind"], "fields": each["fields"]} for each in told],
            },
            self._node.bound_of_case(tx, row.agreement, QUERIER, row.peer),
            purpose=row.payload["purpose"],
        )


def seen(node: Node, tx: Tx, record_id: int) -> dict[str, Any]:
    """Return what a record is compared by later: whether it is live, and keyed hashes of what it says."""
    found = records.by_id(node.store, tx, record_id)
    if found is None:
        return {"live": False, "says": {}, "arrived": []}
    record, live = found
    by_type: dict[str, list[str]] = defaultdict(list)
    for identifier in record.identifiers:
        by_type[identifier.type.value].append(identifier.value)
    says = {
        **{f"{_FIELD}{name.value}": _mac(node, *sorted(values)) for name, values in record.fields.items() if values},
        **{f"{_TYPE}{kind}": _mac(node, *sorted(values)) for kind, values in by_type.items()},
    }
    if record.parties:
        # Of all fields it is this one that a party belongs to.
        parties = [repr(astuple(replace(party, source_path=""))) for party in record.parties]
        says[f"{_PARTIES}{Field.PARTY_NAMES.value}"] = _mac(node, *sorted(parties))
    stated = _arrivals(node, tx, record) if not changes.is_arrival(record) else {}
    return {"live": live, "says": says, "arrived": sorted(stated)}


def _arrivals(node: Node, tx: Tx, record: Record) -> dict[str, Record]:
    """The live records that state the arrival of what a record is about, by a keyed hash of their names."""
    numbers = records.live_of_messages(node.store, tx, record.source, changes.arrivals_of(record))
    stated = [found[0] for number in numbers if (found := records.by_id(node.store, tx, number)) is not None]
    return {_mac(node, each.source.value, each.source_ref): each for each in stated}


def _named(node: Node, tx: Tx, record_id: int, macs: Collection[str]) -> tuple[str, ...]:
    """Names of the fields and identifier types that some statements of arrival have."""
    found = records.by_id(node.store, tx, record_id)
    stated = {} if found is None else _arrivals(node, tx, found[0])
    names = {
        name.value
        for mac in macs
        if mac in stated
        for name in (*stated[mac].fields, *(identifier.type for identifier in stated[mac].identifiers))
    }
    return tuple(sorted(names))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[ChangeKind, tuple[str, ...]]:
    if not now["live"]:
        return {ChangeKind.LEFT: ()} if before["live"] else {}
    told, tells = before["says"], now["says"]
    names = {key.partition(":")[2] for key in told.keys() | tells.keys() if told.get(key) != tells.get(key)}
    found = changes.kinds(names)
    if not before["live"] and not found:
        # It is there again, as it was.
        found[ChangeKind.AMENDED] = ()
    return found


def _mac(node: Node, *values: str) -> str:
    return node.store.index_of("followed", *values)[:_MAC_BYTES].hex()
