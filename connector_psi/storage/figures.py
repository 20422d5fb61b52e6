"""Counts over tables of the querier, for whoever watches a node: how many, since when, how long it took.

Decides: nothing. Reads columns that stand in clear, each figure in one pass over one index.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from connector_psi.storage.queried import CONFIRMED, DISMISSED
from connector_psi.storage.schema import batches, matches, records
from connector_psi.storage.store import Tx


@dataclass(frozen=True, slots=True)
class OpenBatches:
    """Queries of an agreement that are logged and have no answer yet."""

    count: int
    oldest_ms: int


def open_batches(tx: Tx) -> dict[str, OpenBatches]:
    """Return the queries without an answer, by agreement."""
    rows = tx.execute(
        sa.select(batches.c.agreement, sa.func.count().label("n"), sa.func.min(batches.c.created_ms).label("oldest_ms"))
        .where(batches.c.state == "open")
        .group_by(batches.c.agreement)
    )
    return {row.agreement: OpenBatches(int(row.n), int(row.oldest_ms)) for row in rows}


def matches_by_agreement(tx: Tx, since_ms: int = 0) -> dict[str, dict[str, int]]:
    """Return the number of matches found since a time, by agreement and state."""
    found: dict[str, dict[str, int]] = {}
    query = sa.select(matches.c.agreement, matches.c.state, sa.func.count().label("n"))
    if since_ms > 0:
        # Without it the count needs no time, and a narrower index serves.
        query = query.where(matches.c.found_ms >= since_ms)
    for row in tx.execute(query.group_by(matches.c.state, matches.c.agreement)):
        found.setdefault(row.agreement, {})[row.state] = int(row.n)
    return found


def median_decision_ms(tx: Tx, agreement: str, since_ms: int) -> float | None:
    """Return the median time from a match to its decision, of matches found since a time, None without one.

    Those that were decided before the time of a decision was kept do not count. Cost: a sort of integers in the
    database, which hands out two of them.
    """
    which = (
        matches.c.agreement == agreement,
        matches.c.found_ms >= since_ms,
        matches.c.state.in_((CONFIRMED, DISMISSED)),
        matches.c.decided_ms.is_not(None),
    )
    count = int(tx.execute(sa.select(sa.func.count()).select_from(matches).where(*which)).scalar() or 0)
    if not count:
        return None
    took = (matches.c.decided_ms - matches.c.found_ms).label("took")
    middle = sa.select(took).where(*which).order_by(took).offset((count - 1) // 2).limit(2 - count % 2)
    values = [max(0, int(value)) for value in tx.execute(middle).scalars()]
    return sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class CategoryCount:
    """The records of a category."""

    since: int
    """First registered since a time."""
    live: int
    """In matching now."""
    first_ms: int
    """When the first of all was registered."""


def records_by_category(tx: Tx, since_ms: int) -> dict[str, CategoryCount]:
    """Return the records counted by category, hidden ones and those that left too.

    Args:
        tx: A transaction.
        since_ms: From when on a registration counts as new, Unix milliseconds.
    """
    rows = tx.execute(
        sa.select(
            records.c.category,
            sa.func.sum(sa.case((records.c.registered_ms >= since_ms, 1), else_=0)).label("since"),
            sa.func.sum(sa.case((records.c.state == "live", 1), else_=0)).label("live"),
            sa.func.min(records.c.registered_ms).label("first_ms"),
        ).group_by(records.c.category)
    )
    return {row.category: CategoryCount(int(row.since), int(row.live), int(row.first_ms)) for row in rows}
