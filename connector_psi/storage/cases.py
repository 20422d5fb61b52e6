"""Cases of both sides: what was asked, what is decided, what was disclosed.

``next_ms`` is when the node has to do something about a case by itself; a loop asks for what is due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from connector_psi.storage.schema import cases
from connector_psi.storage.store import Store, Tx

QUERIER = "querier"
OWNER = "owner"
NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One case at one side. Times are Unix milliseconds."""

    side: str
    peer: str
    request_id: bytes
    agreement: str
    epoch: int
    state: str
    opened_ms: int
    due_ms: int
    next_ms: int
    match_id: str | None
    leaf_index: int | None
    payload: Mapping[str, Any] = field(repr=False)


_COLUMNS = tuple(cases.c[name if name != "payload" else "sealed"] for name in CaseRow.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class CaseHead:
    """What the peer port asks of a case before its outcome is served.

    Columns of fixed size alone: the sealed part grows with what people decide, and opening it would take longer then.
    """

    agreement: str
    state: str
    due_ms: int
    request_mac: bytes


def put_case(store: Store, tx: Tx, row: CaseRow, request_mac: bytes | None = None) -> None:
    """Store a new case; ``request_mac`` is a keyed hash of what a peer sent."""
    tx.execute(
        sa.insert(cases).values(
            side=row.side,
            peer=row.peer,
            request_id=row.request_id,
            agreement=row.agreement,
            epoch=row.epoch,
            state=row.state,
            opened_ms=row.opened_ms,
            due_ms=row.due_ms,
            next_ms=row.next_ms,
            match_id=row.match_id,
            leaf_index=row.leaf_index,
            request_mac=request_mac,
            sealed=store.seal("cases", row.payload),
        )
    )


def get_head(tx: Tx, peer: str, request_id: bytes) -> CaseHead | None:
    """Return the head of a case that a peer opened."""
    row = tx.execute(
        sa.select(cases.c.agreement, cases.c.state, cases.c.due_ms, cases.c.request_mac).where(
            cases.c.side == OWNER, cases.c.peer == peer, cases.c.request_id == request_id
        )
    ).one_or_none()
    return CaseHead(*row) if row else None


def update_case(store: Store, tx: Tx, row: CaseRow) -> None:
    """Replace state, times, leaf and payload of a case."""
    tx.execute(
        sa.update(cases)
        .where(cases.c.side == row.side, cases.c.peer == row.peer, cases.c.request_id == row.request_id)
        .values(
            state=row.state,
            due_ms=row.due_ms,
            next_ms=row.next_ms,
            leaf_index=row.leaf_index,
            sealed=store.seal("cases", row.payload),
        )
    )


def get_case(store: Store, tx: Tx, side: str, peer: str, request_id: bytes) -> CaseRow | None:
    """Return the case that a peer opened, or that we opened with a peer."""
    row = tx.execute(
        sa.select(*_COLUMNS).where(cases.c.side == side, cases.c.peer == peer, cases.c.request_id == request_id)
    ).one_or_none()
    return _row(store, row) if row else None


def find_case(store: Store, tx: Tx, request_id: bytes, side: str = "") -> CaseRow | None:
    """Return a case by its id, of one side or of either."""
    query = sa.select(*_COLUMNS).where(cases.c.request_id == request_id)
    if side:
        query = query.where(cases.c.side == side)
    row = tx.execute(query.limit(1)).one_or_none()
    return _row(store, row) if row else None


def case_of_match(store: Store, tx: Tx, match_id: str) -> CaseRow | None:
    """Return the newest case opened for a match."""
    row = tx.execute(
        sa.select(*_COLUMNS).where(cases.c.match_id == match_id).order_by(cases.c.opened_ms.desc()).limit(1)
    ).one_or_none()
    return _row(store, row) if row else None


def due_cases(tx: Tx, side: str, now_ms: int, limit: int = 200) -> list[tuple[str, bytes]]:
    """Return peer and id of the cases that something has to be done about, the longest waiting first.

    Not their payloads: one that cannot be opened must not keep the others back.
    """
    rows = tx.execute(
        sa.select(cases.c.peer, cases.c.request_id)
        .where(cases.c.side == side, cases.c.next_ms <= now_ms)
        .order_by(cases.c.next_ms)
        .limit(limit)
    )
    return [(row.peer, row.request_id) for row in rows]


def postpone_case(tx: Tx, side: str, peer: str, request_id: bytes, next_ms: int) -> None:
    """Look at a case again at another time."""
    tx.execute(
        sa.update(cases)
        .where(cases.c.side == side, cases.c.peer == peer, cases.c.request_id == request_id)
        .values(next_ms=next_ms)
    )


def postpone_peer(tx: Tx, side: str, peer: str, now_ms: int, next_ms: int) -> None:
    """Look at all cases with a peer that are due now at another time."""
    tx.execute(
        sa.update(cases)
        .where(cases.c.side == side, cases.c.peer == peer, cases.c.next_ms <= now_ms)
        .values(next_ms=next_ms)
    )


def list_cases(
    store: Store, tx: Tx, *, states: Sequence[str] = (), hidden: Sequence[str] = (), limit: int, offset: int = 0
) -> list[CaseRow]:
    """Return cases of both sides, oldest first, without those owned under the agreements in ``hidden``."""
    query = sa.select(*_COLUMNS).where(sa.not_(sa.and_(cases.c.side == OWNER, cases.c.agreement.in_(hidden))))
    if states:
        query = query.where(cases.c.state.in_(states))
    return [
        _row(store, r)
        for r in tx.execute(query.order_by(cases.c.opened_ms, cases.c.request_id).limit(limit).offset(offset))
    ]


def count_cases(tx: Tx) -> dict[str, int]:
    """Return the number of cases as ``side.state``."""
    rows = tx.execute(
        sa.select(cases.c.side, cases.c.state, sa.func.count().label("n")).group_by(cases.c.side, cases.c.state)
    )
    return {f"{row.side}.{row.state}": int(row.n) for row in rows}


def _row(store: Store, row: Any) -> CaseRow:  # noqa: ANN401 - a row of the columns above
    values = tuple(row)[:-1]
    return CaseRow(*values, payload=store.unseal("cases", row.sealed))  # type: ignore[misc]  # the columns of _COLUMNS
