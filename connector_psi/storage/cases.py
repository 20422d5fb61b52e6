"""Cases of both sides: what was asked, what is decided, what was disclosed.

``next_ms`` is when the node has to do something about a case by itself; a loop asks for what is due.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from connector_psi.storage.schema import cases, quiet_slots
from connector_psi.storage.store import Store, Tx

QUERIER = "querier"
OWNER = "owner"
NEVER_MS = 1 << 62
QUIET_ROW_BYTES = 49_152
"""What a quiet case is padded to: its length must not tell what became of it. Holds an envelope in hexadecimal."""


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
    quiet: bool
    """People of this authority are not shown it: the owner gets no notice, or it is a cover of the querier."""
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
            quiet=row.quiet,
            request_mac=request_mac,
            sealed=store.seal("cases", row.payload, QUIET_ROW_BYTES if row.quiet else 0),
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
    """Replace epoch, state, times, leaf and payload of a case."""
    tx.execute(
        sa.update(cases)
        .where(cases.c.side == row.side, cases.c.peer == row.peer, cases.c.request_id == row.request_id)
        .values(
            epoch=row.epoch,
            state=row.state,
            due_ms=row.due_ms,
            next_ms=row.next_ms,
            leaf_index=row.leaf_index,
            sealed=store.seal("cases", row.payload, QUIET_ROW_BYTES if row.quiet else 0),
        )
    )


def get_case(store: Store, tx: Tx, side: str, peer: str, request_id: bytes) -> CaseRow | None:
    """Return the case that a peer opened, or that we opened with a peer."""
    row = tx.execute(
        sa.select(*_COLUMNS).where(cases.c.side == side, cases.c.peer == peer, cases.c.request_id == request_id)
    ).one_or_none()
    return _row(store, row) if row else None


def find_case(store: Store, tx: Tx, request_id: bytes, side: str = "") -> CaseRow | None:
    """Return a case that people may see by its id, of one side or of either."""
    query = sa.select(*_COLUMNS).where(cases.c.request_id == request_id, cases.c.quiet.is_(False))
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


def cases_of_match(store: Store, tx: Tx, match_id: str) -> list[CaseRow]:
    """Return every case opened for a match, the oldest first."""
    rows = tx.execute(sa.select(*_COLUMNS).where(cases.c.match_id == match_id).order_by(cases.c.opened_ms))
    return [_row(store, row) for row in rows]


def waiting_cases(store: Store, tx: Tx, agreement: str) -> list[CaseRow]:
    """Return the cases of an agreement that wait for a slot to leave at, the oldest first."""
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(
            cases.c.side == QUERIER,
            cases.c.agreement == agreement,
            cases.c.state == "drafted",
            cases.c.next_ms == NEVER_MS,
            cases.c.parked_ms.is_(None),
        )
        .order_by(cases.c.opened_ms, cases.c.request_id)
    )
    return [_row(store, row) for row in rows]


def quiet_slots_of(tx: Tx) -> dict[str, int]:
    """Return the last slot that was filled, by agreement."""
    return {row.agreement: row.slot for row in tx.execute(sa.select(quiet_slots.c.agreement, quiet_slots.c.slot))}


def set_quiet_slot(tx: Tx, agreement: str, slot: int) -> None:
    """Note that a slot of an agreement was filled."""
    done = tx.execute(sa.update(quiet_slots).where(quiet_slots.c.agreement == agreement).values(slot=slot))
    if not done.rowcount:
        tx.execute(sa.insert(quiet_slots).values(agreement=agreement, slot=slot))


def due_cases(tx: Tx, side: str, states: Collection[str], now_ms: int, limit: int = 200) -> list[tuple[str, bytes]]:
    """Return peer and id of the cases in some states that something has to be done about, the longest waiting first.

    Not their payloads: one that cannot be opened must not keep the others back.
    """
    rows = tx.execute(
        sa.select(cases.c.peer, cases.c.request_id)
        .where(cases.c.side == side, cases.c.state.in_(states), cases.c.next_ms <= now_ms)
        # Ids are random: among those of one slot nothing tells which was there first.
        .order_by(cases.c.next_ms, cases.c.request_id)
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


def agreements_of(tx: Tx, side: str, states: Collection[str]) -> list[tuple[str, str]]:
    """Return agreement and peer of the cases in some states."""
    rows = tx.execute(
        sa.select(cases.c.agreement, cases.c.peer)
        .where(cases.c.side == side, cases.c.state.in_(states))
        .distinct()
        .order_by(cases.c.agreement)
    )
    return [(row.agreement, row.peer) for row in rows]


def unanswered(tx: Tx, side: str, states: Collection[str], agreement: str, before_ms: int) -> list[tuple[str, bytes]]:
    """Return peer and id of the cases of an agreement that are in some states and were opened before a time."""
    rows = tx.execute(
        sa.select(cases.c.peer, cases.c.request_id)
        .where(
            cases.c.side == side,
            cases.c.state.in_(states),
            cases.c.agreement == agreement,
            cases.c.opened_ms <= before_ms,
        )
        .limit(200)
    )
    return [(row.peer, row.request_id) for row in rows]


def list_cases(
    store: Store,
    tx: Tx,
    *,
    states: Sequence[str] = (),
    limit: int,
    offset: int = 0,
    side: str = "",
    newest_first: bool = False,
) -> list[CaseRow]:
    """Return cases that people may see, of one side or of both, oldest first unless the newest are wanted first."""
    query = sa.select(*_COLUMNS).where(cases.c.quiet.is_(False))
    if states:
        query = query.where(cases.c.state.in_(states))
    if side:
        query = query.where(cases.c.side == side)
    order: list[sa.ColumnElement[Any]] = [cases.c.opened_ms, cases.c.request_id]
    if newest_first:
        order = [column.desc() for column in order]
    return [_row(store, r) for r in tx.execute(query.order_by(*order).limit(limit).offset(offset))]


def opened(tx: Tx, states: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return side, agreement and time of opening of the cases in some states that people may see."""
    rows = tx.execute(
        sa.select(cases.c.side, cases.c.agreement, cases.c.opened_ms).where(
            cases.c.quiet.is_(False), cases.c.state.in_(states)
        )
    )
    return [(row.side, row.agreement, row.opened_ms) for row in rows]


def shown_cases(store: Store, tx: Tx, side: str, chunk: int = 500) -> Iterator[CaseRow]:
    """Yield the cases of a side that people may see, in the order of their ids; each is opened."""
    last = ("", b"")
    while True:
        rows = tx.execute(
            sa.select(*_COLUMNS)
            .where(
                cases.c.side == side,
                cases.c.quiet.is_(False),
                sa.tuple_(cases.c.peer, cases.c.request_id) > sa.tuple_(*map(sa.literal, last)),
            )
            .order_by(cases.c.peer, cases.c.request_id)
            .limit(chunk)
        ).all()
        if not rows:
            return
        yield from (_row(store, row) for row in rows)
        last = (rows[-1].peer, rows[-1].request_id)


def count_cases(tx: Tx) -> dict[str, int]:
    """Return the number of cases that people may see, as ``side.state``."""
    rows = tx.execute(
        sa.select(cases.c.side, cases.c.state, sa.func.count().label("n"))
        .where(cases.c.quiet.is_(False))
        .group_by(cases.c.side, cases.c.state)
    )
    return {f"{row.side}.{row.state}": int(row.n) for row in rows}


def _row(store: Store, row: Any) -> CaseRow:  # noqa: ANN401 - a row of the columns above
    values = tuple(row)[:-1]
    return CaseRow(*values, payload=store.unseal("cases", row.sealed))  # type: ignore[misc]  # the columns of _COLUMNS
