"""Encoded sets that are here: those that were published, and those that were taken."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from connector_psi.storage.owned import PUBLISHED, SUPERSEDED
from connector_psi.storage.queried import MAPPED, TURNING
from connector_psi.storage.schema import epochs, taken_sets
from connector_psi.storage.store import Tx


@dataclass(frozen=True, slots=True)
class SetRow:
    """A set that is here. Times are Unix milliseconds."""

    agreement: str
    epoch: int
    state: str
    manifest: bytes
    manifest_hash: bytes
    begun_ms: int
    """When it was published, or taken."""
    not_after_ms: int
    delta_seq: int
    tokens: int | None
    """Of one that was published."""
    leaf_index: int | None
    """Of one that was published, in this log."""


def owned_sets(tx: Tx) -> list[SetRow]:
    """Return the sets that this node published and did not destroy yet."""
    c = epochs.c
    rows = tx.execute(
        sa.select(
            c.agreement, c.epoch, c.state, c.manifest, c.manifest_hash, c.published_ms, c.not_after_ms, c.delta_seq,
            c.tokens, c.leaf_index,
        )
        .where(c.state.in_((PUBLISHED, SUPERSEDED)))
        .order_by(c.agreement, c.epoch)
    )  # fmt: skip
    return [SetRow(*tuple(row)) for row in rows]


def taken_sets_here(tx: Tx) -> list[SetRow]:
    """Return the sets that this node took and did not end yet."""
    c = taken_sets.c
    rows = tx.execute(
        sa.select(
            c.agreement, c.epoch, c.state, c.manifest, c.manifest_hash, c.taken_ms, c.not_after_ms, c.delta_seq,
        )
        .where(c.state.in_((MAPPED, TURNING)))
        .order_by(c.agreement, c.epoch)
    )  # fmt: skip
    return [SetRow(*row, None, None) for row in rows]
