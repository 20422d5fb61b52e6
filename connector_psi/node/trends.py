"""What happened on each day, as a node counted it while it happened.

Decides: which counts are put together to a figure, and who is told which. Of agreements of which the owner gets no
notice the owner counts nothing, so that nobody there is told anything; at their querier the figures are for roles that
may list matches. Leaves to others: when something is counted (``storage.daily`` names who does).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from connector_psi.audit.entries import Event
from connector_psi.errors import InputError
from connector_psi.node import asked, matching, received, registration, review
from connector_psi.node.node import Node
from connector_psi.node.quality import MAX_DAYS, SEES_MATCHES
from connector_psi.pki import Role
from connector_psi.policy import authorities_of
from connector_psi.storage import daily


@dataclass(slots=True)
class DayFigures:
    """What happened on one day, UTC."""

    day: date
    declarations: int = 0
    """Records that were not known before."""
    queries: int = 0
    """Batches that this node sent."""
    matches: int = 0
    """That were not known before."""
    hits: int = 0
    """Matches that people confirmed."""
    dismissed: int = 0
    disclosures: int = 0
    """Cases that something was disclosed for, to this node or by it."""


_FIGURES: Final = {
    registration.DECLARATIONS: "declarations",
    Event.CONSULT.value: "queries",
    matching.MATCH: "matches",
    review.HIT: "hits",
    review.DISMISSED: "dismissed",
    asked.DISCLOSED: "disclosures",
    received.RELEASED: "disclosures",
}
"""What is counted -> the figure that it is part of."""


class Trends:
    """Use cases of whoever watches what a node does over days."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def days(self, role: Role, days: int) -> list[DayFigures]:
        """Return the figures of the last days, the oldest first; the last is today, which is not over.

        Args:
            role: Of whoever asks.
            days: How many, 1 to ``MAX_DAYS``.

        Raises:
            InputError: Another number of days.
        """
        node = self._node
        node.check_alive()
        if not 1 <= days <= MAX_DAYS:
            raise InputError(f"days: 1 to {MAX_DAYS}")
        today = int(node.clock.now().timestamp()) // daily.DAY_S
        found = {day: DayFigures(_date(day)) for day in range(today - days + 1, today + 1)}
        told = node.with_notice() | {""}
        with node.store.read() as tx:
            rows = daily.read(tx, today - days + 1, today)
        for row in rows:
            name = _FIGURES.get(row.what)
            if name is None or (row.agreement not in told and role not in SEES_MATCHES):
                continue
            # Of all that is counted under the name of an event, only queries that were sent from here.
            if row.what == Event.CONSULT and not self._is_asked_by_us(row.agreement):
                continue
            setattr(found[row.day], name, getattr(found[row.day], name) + row.count)
        return [found[day] for day in sorted(found)]

    def today(self, role: Role) -> DayFigures:
        """Return the figures of today so far."""
        return self.days(role, 1)[0]

    def _is_asked_by_us(self, code: str) -> bool:
        # Also of agreements that are not in force any more.
        return authorities_of(code)[0] == self._node.authority


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * daily.DAY_S, tz=UTC).date()
