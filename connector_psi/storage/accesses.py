"""Requests for access of both sides, the grants that came of them, and what officers asked on a day.

``next_ms`` is when the node has to do something about a request by itself; a loop asks for what is due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from connector_psi.errors import CapacityExceededError
from connector_psi.storage.schema import accesses, officer_use
from connector_psi.storage.store import Store, Tx

QUERIER = "querier"
OWNER = "owner"
NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class AccessRow:
    """One request at one side. Times are Unix milliseconds.

    ``payload``, both sides: case reference, offence, necessity, identifiers and expiry as asked. Owner: pseudonyms,
    signature, approvals, refusal. Querier: officer, who ordered it, pseudonyms, records, batches under way.
    """

    side: str
    peer: str
    request_id: bytes
    agreement: str
    state: str
    opened_ms: int
    due_ms: int
    """When the answer is served at the latest; once it is there, when it is served."""
    next_ms: int
    leaf_index: int | None = None
    access_id: bytes | None = field(default=None, repr=False)
    identifiers: int = 0
    elements: int = 0
    used: int = 0
    expires_ms: int = 0
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)


_COLUMNS = tuple(accesses.c[name if name != "payload" else "sealed"] for name in AccessRow.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class AccessHead:
    """What the peer port asks of a request: columns of fixed size alone, so that a grant takes no longer to read."""

    agreement: str
    state: str
    due_ms: int
    leaf_index: int | None
    access_id: bytes | None = field(repr=False)
    identifiers: int
    elements: int
    expires_ms: int
    request_mac: bytes = field(repr=False)


_HEAD = tuple(accesses.c[name] for name in AccessHead.__dataclass_fields__)


def _key(side: str, peer: str, request_id: bytes) -> tuple[sa.ColumnElement[bool], ...]:
    return accesses.c.side == side, accesses.c.peer == peer, accesses.c.request_id == request_id


def _values(store: Store, row: AccessRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in AccessRow.__dataclass_fields__ if name != "payload"}
    return {**values, "sealed": store.seal("accesses", row.payload)}


def put(store: Store, tx: Tx, row: AccessRow, request_mac: bytes | None = None) -> None:
    """Store a new request; ``request_mac`` is a keyed hash of what a peer sent."""
    tx.execute(sa.insert(accesses).values(**_values(store, row), request_mac=request_mac))


def update(store: Store, tx: Tx, row: AccessRow) -> None:
    """Replace everything of a request but its names."""
    tx.execute(sa.update(accesses).where(*_key(row.side, row.peer, row.request_id)).values(**_values(store, row)))


def get_head(tx: Tx, peer: str, request_id: bytes) -> AccessHead | None:
    """Return the head of a request that a peer made."""
    row = tx.execute(sa.select(*_HEAD).where(*_key(OWNER, peer, request_id))).one_or_none()
    return AccessHead(*row) if row else None


def get(store: Store, tx: Tx, side: str, peer: str, request_id: bytes) -> AccessRow | None:
    """Return the request that a peer made here, or that we made to a peer."""
    row = tx.execute(sa.select(*_COLUMNS).where(*_key(side, peer, request_id))).one_or_none()
    return _row(store, row) if row else None


def find(store: Store, tx: Tx, request_id: bytes, side: str = "") -> AccessRow | None:
    """Return a request by its id, of one side or of either."""
    query = sa.select(*_COLUMNS).where(accesses.c.request_id == request_id)
    if side:
        query = query.where(accesses.c.side == side)
    row = tx.execute(query.limit(1)).one_or_none()
    return _row(store, row) if row else None


def debit(tx: Tx, peer: str, agreement: str, access_id: bytes, now_ms: int, amount: int) -> bool:
    """Debit a grant, durably with the transaction. Returns whether it could be.

    It cannot where nothing was granted to this peer under this agreement and id, the grant is over, or less is left.
    """
    done = tx.execute(
        sa.update(accesses)
        .where(
            *_granted(peer, agreement, access_id, now_ms),
            accesses.c.used + amount <= accesses.c.elements,
        )
        .values(used=accesses.c.used + amount)
    )
    return done.rowcount == 1


def granted(tx: Tx, peer: str, agreement: str, access_id: bytes, now_ms: int) -> bytes | None:
    """Return the id of the request behind a grant that is in force, None where there is none."""
    return tx.execute(
        sa.select(accesses.c.request_id).where(*_granted(peer, agreement, access_id, now_ms))
    ).scalar_one_or_none()


def _granted(peer: str, agreement: str, access_id: bytes, now_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    # Served, not only decided: before that the peer cannot have the id.
    return (
        accesses.c.side == OWNER,
        accesses.c.peer == peer,
        accesses.c.access_id == access_id,
        accesses.c.agreement == agreement,
        accesses.c.due_ms <= now_ms,
        accesses.c.expires_ms > now_ms,
    )


def due(tx: Tx, side: str, states: Sequence[str], now_ms: int, limit: int = 200) -> list[tuple[str, bytes]]:
    """Return peer and id of the requests that something has to be done about, the longest waiting first."""
    rows = tx.execute(
        sa.select(accesses.c.peer, accesses.c.request_id)
        .where(accesses.c.side == side, accesses.c.state.in_(states), accesses.c.next_ms <= now_ms)
        .order_by(accesses.c.next_ms)
        .limit(limit)
    )
    return [(row.peer, row.request_id) for row in rows]


def in_state(store: Store, tx: Tx, side: str, agreement: str, state: str, now_ms: int) -> list[AccessRow]:
    """Return the requests of an agreement that are in a state and due, oldest first."""
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(
            accesses.c.side == side,
            accesses.c.agreement == agreement,
            accesses.c.state == state,
            accesses.c.next_ms <= now_ms,
        )
        .order_by(accesses.c.opened_ms, accesses.c.request_id)
    )
    return [_row(store, r) for r in rows]


def postpone(tx: Tx, side: str, peer: str, request_id: bytes, next_ms: int) -> None:
    """Look at a request again at another time."""
    tx.execute(sa.update(accesses).where(*_key(side, peer, request_id)).values(next_ms=next_ms))


def list_page(store: Store, tx: Tx, *, states: Sequence[str] = (), limit: int, offset: int = 0) -> list[AccessRow]:
    """Return requests of both sides, oldest first."""
    query = sa.select(*_COLUMNS)
    if states:
        query = query.where(accesses.c.state.in_(states))
    ordered = query.order_by(accesses.c.opened_ms, accesses.c.request_id)
    return [_row(store, r) for r in tx.execute(ordered.limit(limit).offset(offset))]


def asked(store: Store, tx: Tx) -> list[AccessRow]:
    """Return all requests that this node made."""
    rows = tx.execute(sa.select(*_COLUMNS).where(accesses.c.side == QUERIER).order_by(accesses.c.opened_ms))
    return [_row(store, row) for row in rows]


def count(tx: Tx) -> dict[str, int]:
    """Return the number of requests as ``side.state``."""
    rows = tx.execute(
        sa.select(accesses.c.side, accesses.c.state, sa.func.count().label("n")).group_by(
            accesses.c.side, accesses.c.state
        )
    )
    return {f"{row.side}.{row.state}": int(row.n) for row in rows}


def debit_officer(tx: Tx, officer_index: bytes, token_class: int, amount: int, per_day: int) -> None:
    """Debit what an officer may ask on a day, durably with the transaction.

    Args:
        tx: The transaction.
        officer_index: Keyed hash of agreement, day and person.
        token_class: Of the batch.
        amount: Padded elements.
        per_day: What the agreement allows.

    Raises:
        CapacityExceededError: The day's limit would be passed; nothing is debited.
    """
    of_officer = (officer_use.c.officer_index == officer_index, officer_use.c.token_class == token_class)
    used = tx.execute(sa.select(officer_use.c.used).where(*of_officer)).scalar()
    if (used or 0) + amount > per_day:
        raise CapacityExceededError(f"the officer's limit of the day for class {token_class} is reached")
    if used is None:
        tx.execute(sa.insert(officer_use).values(officer_index=officer_index, token_class=token_class, used=amount))
    else:
        tx.execute(sa.update(officer_use).where(*of_officer).values(used=used + amount))


def _row(store: Store, row: Any) -> AccessRow:  # noqa: ANN401 - a row of the columns above
    values = tuple(row)[:-1]
    return AccessRow(*values, payload=store.unseal("accesses", row.sealed))  # type: ignore[misc]  # the columns of _COLUMNS
