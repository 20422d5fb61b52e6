"""Bodies of the log whose time is over, and what holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from connector_psi.storage import logindex
from connector_psi.storage.schema import log_bodies, log_holds, log_leaves
from connector_psi.storage.store import Store, Tx

PLACED, RELEASED, LAPSED = "placed", "released", "lapsed"


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold. Times are Unix milliseconds."""

    hold_id: str
    state: str
    placed_ms: int
    until_ms: int
    request_id: bytes | None
    agreement: str | None
    payload: Mapping[str, Any] = field(repr=False)
    """The procedure, who placed it and why, renewals and the end."""


_HOLD = tuple(log_holds.c[name if name != "payload" else "sealed"] for name in HoldRow.__dataclass_fields__)


def due(tx: Tx, now_s: int, after: int, limit: int) -> list[tuple[int, bytes, str]]:
    """Return ``(index, leaf, key id)`` of bodies whose time is over, in order, beyond an index."""
    rows = tx.execute(
        sa.select(log_bodies.c.idx, log_leaves.c.leaf, log_bodies.c.key_id)
        .join(log_leaves, log_leaves.c.idx == log_bodies.c.idx)
        .where(log_bodies.c.erase_after_s <= now_s, log_bodies.c.idx > after)
        .order_by(log_bodies.c.idx)
        .limit(limit)
    )
    return [(row.idx, bytes(row.leaf), row.key_id) for row in rows]


def erase(tx: Tx, indexes: Sequence[int]) -> None:
    """Delete bodies, with their keys and salts, and the words that they are found by."""
    for start in range(0, len(indexes), 500):
        tx.execute(sa.delete(log_bodies).where(log_bodies.c.idx.in_(indexes[start : start + 500])))
    logindex.forget_words(tx, indexes)


def is_key_used(tx: Tx, key_id: str) -> bool:
    """Return whether a wrapping key still wraps a body."""
    return tx.execute(sa.select(log_bodies.c.idx).where(log_bodies.c.key_id == key_id).limit(1)).first() is not None


def put_hold(store: Store, tx: Tx, row: HoldRow) -> None:
    """Store a hold in the place of an earlier state of it."""
    tx.execute(sa.delete(log_holds).where(log_holds.c.hold_id == row.hold_id))
    tx.execute(
        sa.insert(log_holds).values(
            hold_id=row.hold_id,
            state=row.state,
            placed_ms=row.placed_ms,
            until_ms=row.until_ms,
            request_id=row.request_id,
            agreement=row.agreement,
            sealed=store.seal("log_holds", row.payload),
        )
    )


def get_hold(store: Store, tx: Tx, hold_id: str) -> HoldRow | None:
    """Return a hold."""
    row = tx.execute(sa.select(*_HOLD).where(log_holds.c.hold_id == hold_id)).one_or_none()
    return _row(store, row) if row else None


def list_holds(store: Store, tx: Tx, state: str = "") -> list[HoldRow]:
    """Return holds, optionally of one state, oldest first."""
    query = sa.select(*_HOLD).order_by(log_holds.c.placed_ms, log_holds.c.hold_id)
    if state:
        query = query.where(log_holds.c.state == state)
    return [_row(store, row) for row in tx.execute(query)]


def _row(store: Store, row: Any) -> HoldRow:  # noqa: ANN401 - a row of the columns above
    return HoldRow(
        row.hold_id,
        row.state,
        row.placed_ms,
        row.until_ms,
        row.request_id,
        row.agreement,
        store.unseal("log_holds", row.sealed),
    )
