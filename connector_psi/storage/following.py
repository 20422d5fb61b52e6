"""Which cases stand on which own records."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from connector_psi.storage.cases import QUERIER
from connector_psi.storage.schema import cases, matches
from connector_psi.storage.store import Tx

# Below the limit of bound values of any SQLite.
_IN_CHUNK = 500


def cases_of_records(
    tx: Tx, states: Collection[str], record_ids: Sequence[int] | None = None
) -> list[tuple[str, bytes]]:
    """Return peer and id of the cases in some states that people of the querier may see.

    Args:
        tx: A transaction.
        states: Of the cases.
        record_ids: Those whose match is of one of these records; None for all.
    """
    query = (
        sa.select(cases.c.peer, cases.c.request_id)
        .join(matches, matches.c.match_id == cases.c.match_id)
        .where(cases.c.side == QUERIER, cases.c.quiet.is_(False), cases.c.state.in_(states))
    )
    if record_ids is None:
        return [(row.peer, row.request_id) for row in tx.execute(query)]
    found: list[tuple[str, bytes]] = []
    for start in range(0, len(record_ids), _IN_CHUNK):
        chunk = record_ids[start : start + _IN_CHUNK]
        found += [(row.peer, row.request_id) for row in tx.execute(query.where(matches.c.record_id.in_(chunk)))]
    return found
