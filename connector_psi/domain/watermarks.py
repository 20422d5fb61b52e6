"""How far the rows of a source have been read, so that the next run begins there and loses nothing.

Decides: the kinds of values that order rows, the text that a node keeps between runs, how far before it the next run
begins, and that a row dated in the future moves nothing: otherwise it would hide every row that comes after.
Leaves to others: where the text is kept (the caller), which rows a database is asked for (``adapters.mapping``).

The next run begins *at* the watermark, less an overlap: rows of the same time, and rows of transactions that were
committed late, come again and are duplicates. Free of I/O.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from connector_psi.domain.cells import Calendar

Mark = datetime | date | Decimal | int | float | str | bytes
"""A value of a watermark column, as the driver of a database gives it."""

FUTURE_TOLERANCE: Final = timedelta(days=1)


class Watermark:
    """The greatest value seen so far.

    Args:
        fingerprint: Of the mapping; a watermark of another one is forgotten.
        text: What :attr:`text` was after the last run; None, and whatever is not one, means all rows.
        calendar: How the source writes times.
        now: Aware.
    """

    def __init__(self, fingerprint: str, text: str | None, *, calendar: Calendar, now: datetime) -> None:
        self._fingerprint = fingerprint
        self._calendar = calendar
        self._latest = now + FUTURE_TOLERANCE
        before, _, written = (text or "").partition(" ")
        self.value: Mark | None = _read(written) if before == fingerprint else None
        """None where no row was seen."""

    @property
    def text(self) -> str | None:
        """What the next run is given."""
        return None if self.value is None else f"{self._fingerprint} {_written(self.value)}"

    def begin(self, overlap: int) -> Mark | None:
        """Return where a run begins.

        Args:
            overlap: Seconds before a time, numbers before a number; a text or bytes have none.
        """
        try:
            match self.value:
                case datetime():
                    return self.value - timedelta(seconds=overlap)
                case date():
                    return self.value - timedelta(days=-(-overlap // 86400))
                case int() | float() | Decimal():
                    return self.value - overlap
                case _:
                    return self.value
        except OverflowError:
            return self.value

    def follow(self, cell: object) -> bool:
        """Take in the value of a row; False, and nothing happens, where it lies in the future.

        A value that is not comparable with those before, such as NULL, moves nothing.
        """
        kind = _kind(cell)
        if not kind:
            return True
        # A database without a type for times has them as text.
        text = cell.isoformat() if isinstance(cell, date) else cell if isinstance(cell, str) else ""
        when = self._calendar.time_of(text)
        if isinstance(when, datetime) and when > self._latest:
            return False
        if self.value is None or (kind == _kind(self.value) and cell > self.value):  # type: ignore[operator]
            self.value = cell  # type: ignore[assignment]
        return True


def is_before(cell: object, begin: Mark | None) -> bool:
    """Whether a row is surely older than where a run begins."""
    kind = _kind(cell)
    return bool(kind) and kind == _kind(begin) and cell < begin  # type: ignore[operator]


def _kind(cell: object) -> str:
    """Name the kind of a value; values of one kind can be compared."""
    match cell:
        case datetime():
            return "local" if cell.tzinfo is None else "time"
        case date():
            return "date"
        case bool():
            return ""
        case int():
            return "integer"
        case float():
            return "real" if cell == cell and abs(cell) != float("inf") else ""  # noqa: PLR0124 - NaN is not itself
        case Decimal():
            return "decimal" if cell.is_finite() else ""
        case str():
            return "text" if cell.isprintable() else ""
        case bytes():
            return "bytes"
        case _:
            return ""


def _written(value: Mark) -> str:
    kind = _kind(value)
    if isinstance(value, bytes):
        return f"{kind} {value.hex()}"
    return f"{kind} {value.isoformat() if isinstance(value, date) else value}"


def _read(text: str) -> Mark | None:
    kind, _, written = text.partition(" ")
    try:
        match kind:
            case "time" | "local":
                return datetime.fromisoformat(written)
            case "date":
                return date.fromisoformat(written)
            case "integer":
                return int(written)
            case "real":
                return float(written)
            case "decimal":
                return Decimal(written)
            case "bytes":
                return bytes.fromhex(written)
            case "text":
                return written
            case _:
                return None
    except (ValueError, InvalidOperation):
        return None
