"""What of cases, requests for access and recalls is to be sent, how often that failed, and what is parked.

The things themselves are rows of their own tables; this module reads and writes the columns that they share. Nothing
sealed is opened: what cannot be opened must not keep the others back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from connector_psi.storage.cases import NEVER_MS, OWNER, QUERIER
from connector_psi.storage.recalls import ACKNOWLEDGED, OPEN, SENDING
from connector_psi.storage.schema import accesses, cases, recalls
from connector_psi.storage.store import Tx


@dataclass(frozen=True, eq=False)
class Kind:
    """Rows of a table of which something is sent."""

    table: sa.Table
    key: sa.Column[bytes]
    side: str
    names: Mapping[str, str]
    """What is sent in a state."""
    asked_again: frozenset[str]
    """States in which a peer is asked what became of something: nothing waits unless it is due or failed."""
    since: sa.Column[int]

    def of(self, peer: str, key: bytes) -> tuple[sa.ColumnElement[bool], ...]:
        """Conditions for one row."""
        return self.table.c.side == self.side, self.table.c.peer == peer, self.key == key

    @property
    def live(self) -> tuple[sa.ColumnElement[bool], ...]:
        """Conditions for what is sent by itself."""
        c = self.table.c
        return c.side == self.side, c.state.in_(list(self.names)), c.parked_ms.is_(None)

    @property
    def quiet(self) -> sa.ColumnElement[bool]:
        """Whether people here are not shown it."""
        return self.table.c.quiet if "quiet" in self.table.c else sa.literal(value=False)


CASES = Kind(
    cases,
    cases.c.request_id,
    QUERIER,
    {"drafted": "case", "pending": "outcome"},
    frozenset({"pending"}),
    cases.c.opened_ms,
)
ACCESS = Kind(
    accesses,
    accesses.c.request_id,
    QUERIER,
    {"drafted": "access", "pending": "access_answer"},
    frozenset({"pending"}),
    accesses.c.opened_ms,
)
RECALLS = Kind(recalls, recalls.c.recall_id, OWNER, {SENDING: "recall"}, frozenset(), recalls.c.sent_ms)
ACKNOWLEDGEMENTS = Kind(
    recalls,
    recalls.c.recall_id,
    QUERIER,
    {OPEN: "acknowledgement", ACKNOWLEDGED: "acknowledgement"},
    frozenset(),
    recalls.c.sent_ms,
)
KINDS = (CASES, ACCESS, RECALLS, ACKNOWLEDGEMENTS)


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is sent. Times are Unix milliseconds."""

    kind: Kind
    peer: str
    id: bytes
    agreement: str
    state: str
    quiet: bool
    since_ms: int
    next_ms: int
    attempts: int
    last_error: str | None
    first_failed_ms: int | None
    parked_ms: int | None

    @property
    def name(self) -> str:
        """What is sent: ``case``, ``outcome``, ``access``, ``access_answer``, ``recall`` or ``acknowledgement``."""
        return self.kind.names[self.state]


def _columns(kind: Kind) -> tuple[sa.ColumnElement[Any], ...]:
    c = kind.table.c
    return (
        c.peer, kind.key, c.agreement, c.state, kind.quiet, kind.since, c.next_ms, c.attempts, c.last_error,
        c.first_failed_ms, c.parked_ms,
    )  # fmt: skip


def _item(kind: Kind, row: Any) -> Item:  # noqa: ANN401 - a row of the columns above
    peer, key, agreement, state, quiet, *rest = row
    return Item(kind, peer, bytes(key), agreement, state, bool(quiet), *rest)


def peers_due(tx: Tx, kind: Kind, now_ms: int) -> list[str]:
    """Return the peers to which something is to be sent now."""
    c = kind.table.c
    rows = tx.execute(sa.select(c.peer).where(*kind.live, c.next_ms <= now_ms).distinct().order_by(c.peer))
    return list(rows.scalars())


def due(
    tx: Tx, kind: Kind, peer: str, now_ms: int, limit: int, codes: Collection[str], *, of_slots: bool
) -> list[Item]:
    """Return what is to be sent to a peer now.

    Args:
        tx: A transaction.
        kind: Of what.
        peer: To whom.
        now_ms: The time.
        limit: At most so many.
        codes: Agreements that send in slots alone.
        of_slots: What is of these agreements, in an order that tells nothing: by state, then by random id. Otherwise
            what is of all others, the oldest first.
    """
    c = kind.table.c
    # Questions come after what the peer does not have yet, and the longest waiting of them first: so none starves.
    asked = c.state.in_(list(kind.asked_again))
    aged = (asked, sa.case((asked, c.next_ms), else_=0), kind.since, kind.key)
    order = (c.state, kind.key) if of_slots else aged
    which = c.agreement.in_(list(codes)) if of_slots else c.agreement.not_in(list(codes))
    rows = tx.execute(
        sa.select(*_columns(kind))
        .where(*kind.live, c.peer == peer, c.next_ms <= now_ms, which)
        .order_by(*order)
        .limit(limit)
    )
    return [_item(kind, row) for row in rows]


def note_failure(
    tx: Tx, item: Item, *, next_ms: int, error: str, now_ms: int, attempts: int | None = None, park: bool = False
) -> None:
    """Note that something could not be sent, unless it moved since it was read.

    Args:
        tx: A transaction.
        item: As it was read.
        next_ms: When it is tried again.
        error: Code of the error.
        now_ms: The time.
        attempts: How often the peer had it and it failed; None where that is as it was.
        park: Whether it is not tried again by itself.
    """
    c = item.kind.table.c
    tx.execute(
        sa.update(item.kind.table)
        .where(*item.kind.of(item.peer, item.id), c.state == item.state, c.next_ms == item.next_ms)
        .values(
            next_ms=NEVER_MS if park else next_ms,
            attempts=item.attempts if attempts is None else attempts,
            last_error=error,
            first_failed_ms=now_ms if item.first_failed_ms is None else item.first_failed_ms,
            parked_ms=now_ms if park else None,
        )
    )


def clear(tx: Tx, item: Item) -> None:
    """Forget the failures of something that was sent."""
    tx.execute(
        sa.update(item.kind.table)
        .where(*item.kind.of(item.peer, item.id))
        .values(attempts=0, last_error=None, first_failed_ms=None, parked_ms=None)
    )


def wake(tx: Tx, kind: Kind, peer: str, error: str, codes: Collection[str], now_ms: int) -> None:
    """Bring forward what waits for a peer that could not be reached, but that of agreements that send in slots."""
    c = kind.table.c
    tx.execute(
        sa.update(kind.table)
        .where(
            *kind.live, c.peer == peer, c.last_error == error, c.next_ms > now_ms, c.next_ms < NEVER_MS,
            c.agreement.not_in(list(codes)),
        )
        .values(next_ms=now_ms)
    )  # fmt: skip


def resume(tx: Tx, item: Item, next_ms: int) -> None:
    """Let something be sent again, as if it had never failed."""
    c = item.kind.table.c
    tx.execute(
        sa.update(item.kind.table)
        .where(*item.kind.of(item.peer, item.id), c.state == item.state, c.next_ms == item.next_ms)
        .values(next_ms=next_ms, attempts=0, last_error=None, first_failed_ms=None, parked_ms=None)
    )


def parked_like(tx: Tx, item: Item) -> list[Item]:
    """Return all that is parked of an item's kind, peer and agreement, also what people are not shown."""
    c = item.kind.table.c
    rows = tx.execute(
        sa.select(*_columns(item.kind)).where(
            c.side == item.kind.side,
            c.state.in_(list(item.kind.names)),
            c.peer == item.peer,
            c.agreement == item.agreement,
            c.parked_ms.is_not(None),
        )
    )
    return [_item(item.kind, row) for row in rows]


def waiting(tx: Tx, now_ms: int) -> list[Item]:
    """Return what waits to be sent or is parked, and people here may see, the oldest first of each kind."""
    found: list[Item] = []
    for kind in KINDS:
        c = kind.table.c
        shown = sa.or_(
            c.parked_ms.is_not(None),
            c.last_error.is_not(None),
            c.next_ms <= now_ms,
            sa.and_(c.state.not_in(list(kind.asked_again)), _unsent(kind)),
        )
        rows = tx.execute(
            sa.select(*_columns(kind))
            .where(c.side == kind.side, c.state.in_(list(kind.names)), sa.not_(kind.quiet), shown)
            .order_by(kind.since, kind.key)
        )
        found += [_item(kind, row) for row in rows]
    return found


def _unsent(kind: Kind) -> sa.ColumnElement[bool]:
    # A case that waits for its slot has no time yet; a recall without one has been sent.
    return sa.literal(value=True) if kind.table is not recalls else kind.table.c.next_ms < NEVER_MS


def parked_counts(tx: Tx) -> list[tuple[str, str, int]]:
    """Return side, agreement and number of what is parked and people here may see."""
    found: list[tuple[str, str, int]] = []
    for kind in KINDS:
        c = kind.table.c
        rows = tx.execute(
            sa.select(c.side, c.agreement, sa.func.count())
            .where(
                c.side == kind.side, c.state.in_(list(kind.names)), sa.not_(kind.quiet), c.parked_ms.is_not(None)
            )
            .group_by(c.side, c.agreement)
        )  # fmt: skip
        found += [(side, agreement, int(n)) for side, agreement, n in rows]
    return found
