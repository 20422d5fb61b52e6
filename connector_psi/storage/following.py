"""Which cases stand on which own records, and which records are told by which messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from connector_psi.domain.records import SourceSystem
from connector_psi.storage.cases import QUERIER
from connector_psi.storage.schema import cases, matches, message_names, records
from connector_psi.storage.store import Store, Tx

# Below the limit of bound values of any SQLite.
_IN_CHUNK = 500


class Changed(NamedTuple):
    """A record that changed, whatever became of it."""

    change_seq: int
    id: int
    category: str


def changed_after(tx: Tx, after_seq: int, limit: int) -> list[Changed]:
    """Return the records changed after ``after_seq``, in the order of their changes."""
    rows = tx.execute(
        sa.select(records.c.change_seq, records.c.id, records.c.category)
        .where(records.c.change_seq > after_seq)
        .order_by(records.c.change_seq)
        .limit(limit)
    )
    return [Changed(*row) for row in rows]


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


def live_of_messages(store: Store, tx: Tx, source: SourceSystem, message_refs: Collection[str]) -> list[int]:
    """Return the live records that some messages tell, under whichever name of the thing they are kept."""
    wanted = [store.index_of("message", source.value, ref) for ref in message_refs]
    kept = tx.execute(sa.select(message_names.c.kept_under).where(message_names.c.message_index.in_(wanted))).scalars()
    rows = tx.execute(
        sa.select(records.c.id)
        .where(records.c.message_index.in_([*wanted, *kept]), records.c.state == "live")
        .order_by(records.c.id)
    )
    return list(rows.scalars())
