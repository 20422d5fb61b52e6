"""What the stored records can be matched by, and what comes of it: the use cases behind ``report quality``.

Decides: that coverage is counted in parts, so that a large store keeps no call waiting; which figures tell whether
people can keep up with the matches of an agreement, and who is told them. Leaves to others: what is counted of a record
(``domain.coverage``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from connector_psi.disclosure import is_silent
from connector_psi.domain.coverage import Coverage
from connector_psi.node.node import QUERIER, Bound, Node
from connector_psi.pki import Role
from connector_psi.storage import figures, queried, records
from connector_psi.storage.figures import CategoryCount
from connector_psi.storage.store import Tx

PART_RECORDS = 20_000
"""Records of one part; about two seconds."""
MAX_DAYS = 3_660
_DAY_MS = 86_400_000
SEES_MATCHES = frozenset({Role.OFFICER, Role.SUPERVISOR, Role.DPO, Role.SYSTEM})
"""Who may list matches. Of agreements whose owner gets no notice nobody else is told how many there are."""


@dataclass(frozen=True, slots=True)
class Manageability:
    """Whether people can keep up with the matches of an agreement. Counts are of a period that ends now."""

    days: float
    """Length of the period; shorter than asked for where the first declaration is younger, but at least a day."""
    declarations: int
    """Records that this node may ask with and that were first registered in the period."""
    declarations_live: int
    """Records that it may ask with and that are in matching now, whenever they were registered."""
    matches: int
    """Found in the period and not gone since."""
    per_1000: float | None
    """Matches of 1,000 declarations of the period; None without one."""
    confirmed: int
    dismissed: int
    undecided: int
    gone: int
    """Found in the period, and gone since without a decision."""
    confirmed_share: float | None
    """Of those that were decided; None without one."""
    median_decision_s: int | None
    """From match to decision; None where none was decided."""
    matches_per_day: float
    """To expect, if declarations go on to arrive as they did."""


def manageability(node: Node, days: int, role: Role) -> dict[str, Manageability]:
    """Count what became of the matches of each agreement in which this node is the querier.

    Args:
        node: The node.
        days: Length of the period, 1 to ``MAX_DAYS``.
        role: Of whoever asks.

    Returns:
        Figures by agreement; none of agreements that the role is not told about.
    """
    node.check_alive()
    found: dict[str, Manageability] = {}
    now = node.now_ms()
    with node.store.read() as tx:
        counts = figures.matches_by_agreement(tx, now - days * _DAY_MS)
        by_category = figures.records_by_category(tx, now - days * _DAY_MS)
        for bound in node.agreements(QUERIER):
            if role in SEES_MATCHES or not is_silent(bound.agreement):
                found[bound.code] = _manageability(tx, bound, now, days, counts.get(bound.code, {}), by_category)
    return found


def _manageability(
    tx: Tx, bound: Bound, now: int, days: int, counts: Mapping[str, int], by_category: Mapping[str, CategoryCount]
) -> Manageability:
    since = now - days * _DAY_MS
    asked_with = [by_category[name] for name in bound.agreement.querier_categories if name in by_category]
    first = min((each.first_ms for each in asked_with), default=now)
    seen_days = max(1.0, (now - max(since, first)) / _DAY_MS)
    declarations = sum(each.since for each in asked_with)
    confirmed, dismissed = counts.get(queried.CONFIRMED, 0), counts.get(queried.DISMISSED, 0)
    undecided, decided = counts.get(queried.NEW, 0), confirmed + dismissed
    matches = decided + undecided
    median_ms = figures.median_decision_ms(tx, bound.code, since) if decided else None
    return Manageability(
        days=round(seen_days, 2),
        declarations=declarations,
        declarations_live=sum(each.live for each in asked_with),
        matches=matches,
        per_1000=round(matches * 1000 / declarations, 3) if declarations else None,
        confirmed=confirmed,
        dismissed=dismissed,
        undecided=undecided,
        gone=counts.get(queried.GONE, 0),
        confirmed_share=round(confirmed / decided, 4) if decided else None,
        median_decision_s=None if median_ms is None else round(median_ms / 1000),
        matches_per_day=round(matches / seen_days, 3),
    )


def manageability_json(found: dict[str, Manageability]) -> dict[str, dict[str, float | int | None]]:
    """Return figures as JSON-able data."""
    return {code: asdict(each) for code, each in sorted(found.items())}


def coverage_part(node: Node, after: int) -> tuple[dict[str, Coverage], int]:
    """Count the live records after one, hidden ones too.

    Args:
        node: The node.
        after: From an earlier answer, 0 to begin.

    Returns:
        Coverage by category, and where the next part begins; 0 once all are counted.
    """
    node.check_alive()
    found: dict[str, Coverage] = {}
    counted = 0
    last = after
    with node.store.read() as tx:
        for chunk in records.live_by_id(node.store, tx, after):
            for stored in chunk:
                found.setdefault(stored.record.category, Coverage()).add(stored.record)
            counted += len(chunk)
            last = chunk[-1].id
            if counted >= PART_RECORDS:
                return found, last
    return found, 0
