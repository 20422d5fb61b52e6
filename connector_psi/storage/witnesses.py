"""What this node saw of other logs: the latest checkpoint it cosigned of each, and forks."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from connector_psi.storage.schema import log_forks, witnessed
from connector_psi.storage.store import Tx


@dataclass(frozen=True, slots=True)
class WitnessedRow:
    """The latest checkpoint of a log that was cosigned here."""

    origin: str
    size: int
    note: bytes
    seen_ms: int


@dataclass(frozen=True, slots=True)
class ForkRow:
    """Two signed notes of one log that contradict each other."""

    origin: str
    size: int
    first: bytes
    second: bytes
    found_ms: int


_WITNESSED = tuple(witnessed.c[name] for name in WitnessedRow.__dataclass_fields__)
_FORK = tuple(log_forks.c[name] for name in ForkRow.__dataclass_fields__)


def latest(tx: Tx, origin: str) -> WitnessedRow | None:
    """Return the latest checkpoint cosigned of a log."""
    row = tx.execute(sa.select(*_WITNESSED).where(witnessed.c.origin == origin)).one_or_none()
    return WitnessedRow(*row) if row else None


def list_witnessed(tx: Tx) -> list[WitnessedRow]:
    """Return the latest checkpoint of every log."""
    return [WitnessedRow(*row) for row in tx.execute(sa.select(*_WITNESSED).order_by(witnessed.c.origin))]


def put_latest(tx: Tx, row: WitnessedRow) -> None:
    """Keep a checkpoint as the latest."""
    tx.execute(sa.delete(witnessed).where(witnessed.c.origin == row.origin))
    tx.execute(sa.insert(witnessed).values(origin=row.origin, size=row.size, note=row.note, seen_ms=row.seen_ms))


def put_fork(tx: Tx, row: ForkRow) -> bool:
    """Keep a fork. Returns False where one of that size is known already."""
    where = (log_forks.c.origin == row.origin, log_forks.c.size == row.size)
    if tx.execute(sa.select(log_forks.c.size).where(*where)).scalar() is not None:
        return False
    tx.execute(
        sa.insert(log_forks).values(
            origin=row.origin, size=row.size, first=row.first, second=row.second, found_ms=row.found_ms
        )
    )
    return True


def list_forks(tx: Tx) -> list[ForkRow]:
    """Return all forks that were found."""
    return [ForkRow(*row) for row in tx.execute(sa.select(*_FORK).order_by(log_forks.c.origin, log_forks.c.size))]
