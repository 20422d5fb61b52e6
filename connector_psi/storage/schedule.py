"""When bodies of the log are to be erased, counted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import sqlalchemy as sa

from connector_psi.storage.schema import log_bodies
from connector_psi.storage.store import Tx


def count_due(tx: Tx, ends_s: Sequence[int]) -> list[int]:
    """Return how many bodies are due before the first time, between each and the next, and from the last one on.

    Args:
        tx: A transaction.
        ends_s: Unix seconds, ascending.

    Cost: One walk over the index of times; no body is read.
    """
    due = log_bodies.c.erase_after_s
    bounds: list[int | None] = [None, *ends_s, None]
    spans = [
        sa.select(sa.func.count())
        .select_from(log_bodies)
        .where(*([due >= low] if low is not None else []), *([due < high] if high is not None else []))
        .scalar_subquery()
        for low, high in pairwise(bounds)
    ]
    return [int(n) for n in tx.execute(sa.select(*spans)).one()]
