"""What the stored records can be matched by: the use case behind ``report quality``.

Decides: that it is counted in parts, so that a large store keeps no call waiting. Leaves to others: what is counted
(``domain.coverage``).
"""

from __future__ import annotations

from connector_psi.domain.coverage import Coverage
from connector_psi.node.node import Node
from connector_psi.storage import records

PART_RECORDS = 20_000
"""Records of one part; about two seconds."""


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
