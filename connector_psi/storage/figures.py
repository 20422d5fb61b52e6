"""Counts over tables of the querier, for whoever watches a node: how many, since when, how long it took.

Decides: nothing. Reads columns that stand in clear, and of decided matches the time of the decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from connector_psi.storage.queried import CONFIRMED, DISMISSED
from connector_psi.storage.schema import batches, matches, records
from connector_psi.storage.store import Store, Tx


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
    rows = tx.execute(
        sa.select(matches.c.agreement, matches.c.state, sa.func.count().label("n"))
        .where(matches.c.found_ms >= since_ms)
        .group_by(matches.c.agreement, matches.c.state)
    )
    for row in rows:
        found.setdefault(row.agreement, {})[row.state] = int(row.n)
    return found


def decision_times(store: Store, tx: Tx, agreement: str, since_ms: int) -> Iterator[int]:
    """Yield how many milliseconds passed from a match to its decision, of matches found since a time.

    Those that were decided before the time of a decision was kept yield nothing.
    """
    rows = tx.execute(
        sa.select(matches.c.found_ms, matches.c.sealed).where(
            matches.c.agreement == agreement,
            matches.c.found_ms >= since_ms,
            matches.c.state.in_((CONFIRMED, DISMISSED)),
        )
    )
    for row in rows:
        decided_ms = store.unseal("matches", row.sealed).get("decided_ms")
        if decided_ms is not None:
            yield max(0, decided_ms - row.found_ms)


def count_records(tx: Tx, categories: Collection[str], since_ms: int = 0, *, live: bool = False) -> int:
    """Return the number of records of some categories that were first registered since a time.

    Args:
        tx: A transaction.
        categories: Of the records.
        since_ms: Unix milliseconds.
        live: Only those that are in matching now.
    """
    query = sa.select(sa.func.count()).where(
        records.c.category.in_(sorted(categories)), records.c.registered_ms >= since_ms
    )
    if live:
        query = query.where(records.c.state == "live")
    return int(tx.execute(query).scalar() or 0)


def first_registered_ms(tx: Tx, categories: Collection[str]) -> int | None:
    """Return when the first record of some categories was registered, None without one."""
    found = tx.execute(
        sa.select(sa.func.min(records.c.registered_ms)).where(records.c.category.in_(sorted(categories)))
    ).scalar()
    return None if found is None else int(found)
