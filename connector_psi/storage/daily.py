"""How often what happened on each day: one number a day, word and agreement, added to as it happens.

Decides: nothing. What is counted under which word: ``node.node`` (each entry of the log, under the name of its event),
``node.registration``, ``node.matching``, ``node.review``, ``node.asked``, ``node.received``.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from connector_psi.storage.schema import daily
from connector_psi.storage.store import Tx

DAY_S = 86_400

# Put together once, since every entry of the log is counted.
_ADD = (
    sa.update(daily)
    .where(
        daily.c.day == sa.bindparam("of_day"),
        daily.c.what == sa.bindparam("of_what"),
        daily.c.agreement == sa.bindparam("of_agreement"),
    )
    .values(count=daily.c.count + sa.bindparam("n"))
)
_FIRST = sa.insert(daily)


@dataclass(frozen=True, slots=True)
class DailyRow:
    """How often something happened on a day."""

    day: int
    """Since 1970-01-01, UTC."""
    what: str
    agreement: str
    """Empty for what belongs to none."""
    count: int


def count(tx: Tx, day: int, what: str, agreement: str, n: int = 1) -> None:
    """Add to what happened on a day.

    Args:
        tx: The transaction of what happened.
        day: Since 1970-01-01, UTC.
        what: A word.
        agreement: Code of the agreement; empty for none.
        n: How often; nothing is written for 0.
    """
    if not n:
        return
    done = tx.execute(_ADD, {"of_day": day, "of_what": what, "of_agreement": agreement, "n": n})
    if not done.rowcount:
        tx.execute(_FIRST, {"day": day, "what": what, "agreement": agreement, "count": n})


def read(tx: Tx, since_day: int, until_day: int) -> list[DailyRow]:
    """Return what happened from one day to another, both included, by day, word and agreement."""
    rows = tx.execute(
        sa.select(daily.c.day, daily.c.what, daily.c.agreement, daily.c.count)
        .where(daily.c.day >= since_day, daily.c.day <= until_day)
        .order_by(daily.c.day, daily.c.what, daily.c.agreement)
    )
    return [DailyRow(*row) for row in rows]
