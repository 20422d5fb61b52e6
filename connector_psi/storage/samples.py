"""Exchanges that were drawn for the data protection officer to look at, and what was said of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from connector_psi.storage import logindex
from connector_psi.storage.cases import OWNER
from connector_psi.storage.schema import log_bodies, log_index, samples
from connector_psi.storage.store import Store, Tx

OPEN: Final = "open"
GRADED: Final = "graded"
# Below the limit of bound values of any SQLite.
_IN_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One exchange that was drawn. Times are Unix milliseconds."""

    request_id: bytes
    side: str
    agreement: str
    outcome_index: int
    drawn_ms: int
    checkpoint_size: int
    state: str
    graded_ms: int | None
    payload: Mapping[str, Any] = field(repr=False)
    """Kind and purpose of the exchange; grade, note and who gave it once there are any."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exchange that came to an outcome and was not drawn yet."""

    index: int
    request_id: bytes
    side: str
    agreement: str


_COLUMNS = tuple(samples.c[name if name != "payload" else "sealed"] for name in SampleRow.__dataclass_fields__)


def candidates(tx: Tx, outcomes: Collection[tuple[str, str]], below: int) -> Iterator[Candidate]:
    """Yield the exchanges that came to an outcome, were not drawn yet, and of whose outcome the body is kept.

    Args:
        tx: A transaction.
        outcomes: Event and side of the entries that are outcomes.
        below: Only entries of smaller numbers.

    Cost: One row of an index for each of them; other entries are not looked at.
    """
    numbers = [kind.number for kind in logindex.kinds(tx) if (kind.event, kind.side) in outcomes]
    drawn = sa.exists().where(
        samples.c.request_id == log_index.c.request_id,
        samples.c.side == log_index.c.side,
        samples.c.agreement == log_index.c.agreement,
    )
    for number in numbers:
        rows = tx.execute(
            sa.select(log_index.c.idx, log_index.c.request_id, log_index.c.side, log_index.c.agreement)
            .where(
                log_index.c.kind == number,
                log_index.c.idx < below,
                log_index.c.request_id.is_not(None),
                sa.exists().where(log_bodies.c.idx == log_index.c.idx),
                ~drawn,
            )
            .execution_options(yield_per=_IN_CHUNK)
        )
        with rows:
            for row in rows:
                yield Candidate(row.idx, bytes(row.request_id), row.side, row.agreement)


def put_sample(store: Store, tx: Tx, row: SampleRow) -> None:
    """Store an exchange that was drawn."""
    values = {name: getattr(row, name) for name in SampleRow.__dataclass_fields__ if name != "payload"}
    tx.execute(sa.insert(samples).values(**values, sealed=store.seal("samples", row.payload)))


def update_sample(store: Store, tx: Tx, row: SampleRow) -> None:
    """Replace state, time of grading and payload."""
    tx.execute(
        sa.update(samples)
        .where(samples.c.request_id == row.request_id, samples.c.side == row.side, samples.c.agreement == row.agreement)
        .values(state=row.state, graded_ms=row.graded_ms, sealed=store.seal("samples", row.payload))
    )


def samples_of(store: Store, tx: Tx, request_id: bytes) -> list[SampleRow]:
    """Return what was drawn under an id: more than one row only where peers chose the same."""
    query = sa.select(*_COLUMNS).where(samples.c.request_id == request_id).order_by(samples.c.outcome_index)
    return [_row(store, row) for row in tx.execute(query)]


def list_samples(
    store: Store, tx: Tx, *, state: str = "", told: Collection[str] | None = None, limit: int, offset: int = 0
) -> list[SampleRow]:
    """Return what was drawn, the oldest draw first.

    Args:
        store: The store.
        tx: A transaction.
        state: ``OPEN``, ``GRADED``, or empty for both.
        told: The agreements of which rows of the owner's side are wanted; None for all.
        limit: At most so many.
        offset: Behind so many.
    """
    query = sa.select(*_COLUMNS).where(*_which(state, told))
    query = query.order_by(samples.c.drawn_ms, samples.c.outcome_index).limit(limit).offset(offset)
    return [_row(store, row) for row in tx.execute(query)]


def count_samples(tx: Tx, told: Collection[str] | None = None) -> dict[str, int]:
    """Return how many were drawn, by state; ``told`` as for ``list_samples``."""
    rows = tx.execute(
        sa.select(samples.c.state, sa.func.count().label("n")).where(*_which("", told)).group_by(samples.c.state)
    )
    return {row.state: int(row.n) for row in rows}


def forget_samples(tx: Tx, outcome_indexes: Sequence[int]) -> None:
    """Delete what was drawn of some outcomes, with what was said of it."""
    for start in range(0, len(outcome_indexes), _IN_CHUNK):
        chunk = outcome_indexes[start : start + _IN_CHUNK]
        tx.execute(sa.delete(samples).where(samples.c.outcome_index.in_(chunk)))


def _which(state: str, told: Collection[str] | None) -> list[sa.ColumnElement[bool]]:
    which: list[sa.ColumnElement[bool]] = []
    if state:
        which.append(samples.c.state == state)
    if told is not None:
        which.append(sa.or_(samples.c.side != OWNER, samples.c.agreement.in_(sorted(told))))
    return which


def _row(store: Store, row: Any) -> SampleRow:  # noqa: ANN401 - a row of the columns above
    values = tuple(row)[:-1]
    return SampleRow(*values, payload=store.unseal("samples", row.sealed))  # type: ignore[misc]  # the columns of _COLUMNS
