"""What a cell of somebody's own database says, as text: whatever type a driver or a file gave it.

Decides: which Python values have a text form and which; what text is usable (one line, printable, not too long);
how times, dates of birth and yes-or-no are read. A cell that says nothing (NULL, NaN, blank) is an empty text.
Leaves to others: where cells come from (``adapters.mapping``), what they mean (``domain.rows``).

Nothing here raises. What cannot be read is a :class:`Code`, which holds a reason and never the value.
"""

from __future__ import annotations

import ipaddress
import math
import re
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Final

MAX_CELL_CHARS: Final = 1_048_576
"""Longest cell that is looked at; a longer one counts as unreadable."""
MAX_TEXT_CHARS: Final = 65_536
"""Longest free text."""
MAX_VALUE_CHARS: Final = 512
"""Longest name, address or other value."""
MAX_VALUES: Final = 1_000
"""Values in one cell."""

CELL_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cell.type": "neither text, number, time nor a list of these: a nested value, a row, a document",
        "cell.binary": "bytes that are not UTF-8",
        "cell.not_printable": "a NUL byte, a control character or half of a surrogate pair",
        "cell.too_long": f"more than {MAX_VALUE_CHARS} characters (free text {MAX_TEXT_CHARS:,}, before splitting "
        f"{MAX_CELL_CHARS:,})",
        "cell.too_many_values": f"more than {MAX_VALUES:,} values; those after are left out",
        "cell.not_a_time": "no date or time in ISO 8601 or one of `date_formats`",
        "cell.not_a_date": "no date of birth: year, month and day, as far as they are known",
        "cell.not_a_flag": "neither yes nor no",
    }
)
"""Reason codes of this module, for the documentation and for tests."""


@dataclass(frozen=True, slots=True)
class Code:
    """Why a cell cannot be read."""

    reason: str


Plain = str | tuple[str, ...] | Code
"""The text form of a cell: one text, several, or none for a reason."""

_FORBIDDEN: Final = frozenset({"Cc", "Cs"})
_TRUE: Final = frozenset({"true", "t", "yes", "y", "1", "x"})
_FALSE: Final = frozenset({"", "false", "f", "no", "n", "0"})
_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])")
_BIRTH: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]00:00(?::00(?:\.0+)?)?)?)?)?")
_MAX_NUMBER_DIGITS: Final = 100
# Beyond it a float does not hold every whole number, so that the digits could be wrong.
_EXACT_FLOAT: Final = 2**53


def plain(cell: object) -> Plain:
    """Give the text form of a cell, unchanged where it is text.

    Whole numbers have no decimal point, whatever type holds them: a nullable column of numbers often comes as floats.

    Cost: a tenth of a microsecond for text and whole numbers.
    """
    kind = type(cell)
    if kind is str:
        return cell if len(cell) <= MAX_CELL_CHARS else Code("cell.too_long")  # type: ignore[arg-type,return-value]
    if cell is None:
        return ""
    if kind is int:
        return str(cell) if -(10**18) < cell < 10**18 else _number(Decimal(cell))  # type: ignore[operator,arg-type]
    return _other(cell)


def _other(cell: object) -> Plain:
    match cell:
        case bool():
            return "true" if cell else "false"
        case str() | int():
            # A subclass, such as an enumeration.
            return plain(str.__str__(cell) if isinstance(cell, str) else int(cell))
        case float():
            return _float(cell)
        case Decimal():
            return _number(cell)
        case datetime() | date() | time():
            return cell.isoformat()
        case bytes() | bytearray() | memoryview():
            try:
                return plain(bytes(cell).decode())
            except UnicodeDecodeError:
                return Code("cell.binary")
        case uuid.UUID() | timedelta() | ipaddress.IPv4Address() | ipaddress.IPv6Address():
            return str(cell)
        case list() | tuple() | set() | frozenset():
            return _several(list(cell))
        case Code():
            return cell
        case _:
            return Code("cell.type")


def _several(cells: Sequence[object]) -> Plain:
    texts = [plain(cell) for cell in cells]
    if all(isinstance(text, str) for text in texts):
        return tuple(text for text in texts if isinstance(text, str))
    return next((text for text in texts if isinstance(text, Code)), Code("cell.type"))


def _float(cell: float) -> str:
    if math.isnan(cell):
        return ""
    return str(int(cell)) if cell.is_integer() and abs(cell) <= _EXACT_FLOAT else repr(cell)


def _number(cell: Decimal) -> Plain:
    if cell.is_nan():
        return ""
    if not cell.is_finite():
        return str(cell)
    if abs(cell.adjusted()) > _MAX_NUMBER_DIGITS or len(cell.as_tuple().digits) > _MAX_NUMBER_DIGITS:
        return Code("cell.too_long")
    text = format(cell, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def usable(text: str, *, longest: int = MAX_VALUE_CHARS) -> str | Code:
    """Give a text on one line and without space around it.

    Control characters forge lines in whatever shows the text, and a database takes no NUL.

    Args:
        text: From :func:`plain`.
        longest: In characters.
    """
    if text.isprintable():
        text = text.strip()
    else:
        # Line breaks are usual in addresses and free text.
        text = " ".join(text.split())
        if len(text) <= longest and any(unicodedata.category(char) in _FORBIDDEN for char in text):
            return Code("cell.not_printable")
    return text if len(text) <= longest else Code("cell.too_long")


def flag_of(text: str) -> bool | Code:
    """Read yes or no; an empty text is no."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    return False if word in _FALSE else Code("cell.not_a_flag")


@dataclass(frozen=True, slots=True)
class Calendar:
    """How a source writes times.

    Args:
        zone: Of times that do not say their own.
        formats: Of ``strptime``, tried in order where a text is not ISO 8601.
    """

    zone: tzinfo = UTC
    formats: tuple[str, ...] = ()

    def time_of(self, text: str, *, end_of_day: bool = False) -> datetime | Code | None:
        """Read a time, in UTC; None where the text is empty or says ``infinity``.

        Args:
            text: As the source wrote it.
            end_of_day: A date without a time means the end of that day, not its beginning.
        """
        text = text.strip()
        if not text or text.lower() == "infinity":
            return None
        read, is_date = self._read(text)
        if read is None:
            return Code("cell.not_a_time")
        try:
            if read.tzinfo is None:
                read = read.replace(tzinfo=self.zone)
            if is_date and end_of_day:
                # The next midnight of the wall clock; a day need not have 24 hours.
                read += timedelta(days=1)
            return read.astimezone(UTC)
        except (OverflowError, ValueError):
            return Code("cell.not_a_time")

    def _read(self, text: str) -> tuple[datetime | None, bool]:
        if _ISO_DATE.match(text):
            try:
                return datetime.fromisoformat(text), len(text) == len("2026-11-25")
            except ValueError:
                return None, False
        for layout in self.formats:
            try:
                return datetime.strptime(text, layout), not _HAS_TIME.search(layout)  # noqa: DTZ007 - the caller adds it
            except ValueError:
                continue
        return None, False

    def order_of(self, text: str) -> int | datetime | Code | None:
        """Read what orders the versions of a row: a time, or a whole number that counts up."""
        read = self.time_of(text)
        if isinstance(read, Code) and len(text) < 19 and text.strip().isdecimal() and text.isascii():
            return int(text)
        return read

    def birth_of(self, text: str) -> str | Code:
        """Read a date of birth: ``1980``, ``1980-05`` or ``1980-05-17``; zeros stand for what is not known."""
        found = _BIRTH.fullmatch(text)
        if found:
            year, month, day = found[1], found[2] or "00", found[3] or "00"
        else:
            read, _ = self._read(text) if not _ISO_DATE.match(text) else (None, False)
            if read is None:
                return Code("cell.not_a_date")
            year, month, day = read.strftime("%Y").zfill(4), f"{read.month:02}", f"{read.day:02}"
        try:
            date(int(year), int(month) or 1, int(day) or 1)
        except ValueError:
            return Code("cell.not_a_date")
        if month == "00":
            return year
        return f"{year}-{month}" if day == "00" else f"{year}-{month}-{day}"


_HAS_TIME: Final = re.compile(r"%[HIMSfpXcT]")
