"""How far each source was read: kept with the records that were read, sealed, one row a source."""

from __future__ import annotations

import sqlalchemy as sa

from connector_psi.storage.schema import positions
from connector_psi.storage.store import Store, Tx

_TABLE = "positions"


def keep(store: Store, tx: Tx, key: str, text: str) -> None:
    """Note how far a source was read; an earlier note of it is forgotten."""
    index = store.index_of("position", key)
    tx.execute(sa.delete(positions).where(positions.c.key_index == index))
    tx.execute(sa.insert(positions).values(key_index=index, sealed=store.seal(_TABLE, {"key": key, "text": text})))


def find(store: Store, tx: Tx, key: str) -> str | None:
    """Return how far a source was read, None where nothing is noted."""
    row = tx.execute(
        sa.select(positions.c.sealed).where(positions.c.key_index == store.index_of("position", key))
    ).one_or_none()
    return None if row is None else str(store.unseal(_TABLE, row.sealed)["text"])
