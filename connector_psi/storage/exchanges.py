"""What the log's index says of entries, without reading them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from connector_psi.storage.schema import log_index
from connector_psi.storage.store import Tx

# Below the limit of bound values of any SQLite.
_IN_CHUNK = 500


def said_of(tx: Tx, indexes: Sequence[int]) -> list[tuple[str, str | None, str | None]]:
    """Return event, side and agreement of some entries, in the order of the log."""
    found: list[tuple[str, str | None, str | None]] = []
    for start in range(0, len(indexes), _IN_CHUNK):
        rows = tx.execute(
            sa.select(log_index.c.event, log_index.c.side, log_index.c.agreement)
            .where(log_index.c.idx.in_(indexes[start : start + _IN_CHUNK]))
            .order_by(log_index.c.idx)
        )
        found += [(row.event, row.side, row.agreement) for row in rows]
    return found
