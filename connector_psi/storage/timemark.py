"""How far the time of a node went, and what was found wrong with its clock: one row."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from connector_psi.storage.schema import clock
from connector_psi.storage.store import Tx

GOOD, BEHIND, JUMPED = "good", "behind", "jumped"


@dataclass(frozen=True, slots=True)
class Mark:
    """The high-water mark. Times are Unix milliseconds."""

    high_water_ms: int
    state: str = GOOD
    jumped_ms: int | None = None
    """What the clock showed when it was found to have jumped."""
    leaf_index: int | None = None
    """Of the CLOCK entry of ``state``."""


def load(tx: Tx) -> Mark | None:
    """Return the mark, None before the first."""
    row = tx.execute(
        sa.select(clock.c.high_water_ms, clock.c.state, clock.c.jumped_ms, clock.c.leaf_index)
    ).one_or_none()
    return Mark(*row) if row else None


def keep(tx: Tx, mark: Mark) -> None:
    """Keep the mark in the place of the earlier one."""
    values = {
        "high_water_ms": mark.high_water_ms,
        "state": mark.state,
        "jumped_ms": mark.jumped_ms,
        "leaf_index": mark.leaf_index,
    }
    if not tx.execute(sa.update(clock).values(**values)).rowcount:
        tx.execute(sa.insert(clock).values(id=1, **values))


def raise_to(tx: Tx, high_water_ms: int) -> None:
    """Move the mark forward; it never goes back."""
    moved = tx.execute(
        sa.update(clock).where(clock.c.high_water_ms < high_water_ms).values(high_water_ms=high_water_ms)
    )
    if not moved.rowcount and load(tx) is None:
        keep(tx, Mark(high_water_ms))
