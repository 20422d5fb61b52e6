"""One record per line, from a text file that nobody vouches for: JSON Lines and CSV.

Decides: how a file falls into lines (LF or CRLF, UTF-8, an optional byte order mark), that one bad line costs one
line, and the codes of what can be wrong with a line (``LINE_CODES``).
Leaves to others: which keys and columns there are and what they mean (``sis``, ``eis``).

A line may have ``MAX_LINE_BYTES``; what is longer is skipped without being held. A CSV row is one line: a quoted
field cannot hold a line break, so that a quote left open cannot swallow the rest of the file.

The digest of a record is taken over its line as it stands in the file, without the line end.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, NoReturn, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, StringConstraints, ValidationError

from connector_psi.domain.records import Issue
from connector_psi.errors import FormatError

MAX_LINE_BYTES = 1_048_576
LIST_SEPARATOR = "|"
"""Between the items of a CSV field that holds a list."""

LINE_CODES: Mapping[str, str] = {
    "line.too_long": "the line has more than 1 MiB",
    "line.encoding": "the line is not UTF-8",
    "line.nul": "the line holds a NUL byte",
    "json.malformed": "the line is not JSON",
    "json.duplicate_key": "a key stands twice in one object",
    "json.not_an_object": "the line is JSON, but no object",
    "json.unknown_key": "a key that the format does not have; ignored, reported once per object and file",
    "csv.malformed": "quotes that do not close, or a field over 128 KiB",
    "csv.field_count": "more or fewer fields than the header has",
    "csv.duplicate_column": "the header names a column twice; the file is not read",
    "csv.missing_column": "the header lacks a column that every row must fill; the file is not read",
    "csv.unknown_column": "a column that the format does not have; ignored",
    "field.missing": "a key or column that must be filled is not",
    "field.invalid": "a value has the wrong type, length, pattern or is none of the closed values",
}
"""Reason codes of this module, for the documentation and for tests."""

_BOM = b"\xef\xbb\xbf"
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


def _printable(value: str) -> str:
    # Control characters forge lines in whatever shows the text, a database takes no NUL, and half of a
    # surrogate pair cannot be written at all. No-break spaces are no harm.
    if not value.isprintable() and any(unicodedata.category(char) in _FORBIDDEN for char in value):
        raise ValueError("not printable")
    return value


def _time(value: object) -> object:
    """Read ISO 8601 with an offset; pydantic alone would take bare numbers for seconds."""
    if isinstance(value, str):
        if not _TIME.fullmatch(value):
            raise ValueError("not a time with an offset")
        return datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ValueError("not a time")  # noqa: TRY004 - pydantic turns only a ValueError into an issue
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the calendar") from None


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=512), AfterValidator(_printable)
]
"""One line of text that people read, or a value before normalisation."""
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9./_-]{3,63}$")]
"""A key of a record: 4 to 64 letters, digits and ``. / _ -``."""
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
"""ISO 3166 alpha-2."""
Time = Annotated[AwareDatetime, BeforeValidator(_time), AfterValidator(_utc)]
"""ISO 8601 with an offset, kept in UTC."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Column:
    """Where a CSV column stands in the JSON form of the same line."""

    keys: tuple[str, ...]
    required: bool = False
    """The column must be in the header."""
    is_list: bool = False
    is_bool: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line that could be taken apart."""

    number: int
    digest: bytes = field(repr=False)
    """SHA-256 of the line's bytes."""
    document: dict[str, Any] = field(repr=False)
    """In the structure of the JSON form, from whichever form it came."""
    columns: Mapping[tuple[str, ...], str] | None = None
    """Keys -> column, for a CSV row."""

    def place(self, *keys: str) -> str:
        """Name a place: ``$.object.vin`` in JSON, ``vin`` in CSV. The keys are the format's own."""
        if self.columns is None:
            return "$." + ".".join(keys)
        return self.columns.get(keys) or "/".join(keys)


def read_json_lines(stream: BinaryIO, *, file: str) -> Iterator[Line | Issue]:
    """Yield each line of a JSON Lines file, or what is wrong with it; blank lines are passed over.

    Args:
        stream: Buffered and binary, at its first byte.
        file: Display name, for issues.
    """
    for number, raw, text, problem in _lines(stream):
        if problem:
            yield Issue(file, number, None, problem, rejects_record=True)
            continue
        document, code = _parsed_object(text)
        if document is None:
            yield Issue(file, number, None, code, rejects_record=True)
        else:
            yield Line(number, hashlib.sha256(raw).digest(), document)


def read_csv_rows(stream: BinaryIO, *, file: str, columns: Mapping[str, Column]) -> Iterator[Line | Issue]:
    """Yield each row of a CSV file (RFC 4180, commas, a header line), or what is wrong with it.

    An empty field is a field that is not filled. Columns may stand in any order.

    Args:
        stream: Buffered and binary, at its first byte.
        file: Display name, for issues.
        columns: The format's columns.
    """
    places = {column.keys: name for name, column in columns.items()}
    header: list[str] | None = None
    for number, raw, text, problem in _lines(stream):
        cells = None if problem else _cells(text)
        code = problem or ("csv.malformed" if cells is None else "")
        if header is None:
            header = [cell.strip() for cell in cells or ()]
            refusals = list(_header_issues(header, code, columns, file=file, line=number))
            yield from refusals
            if any(issue.rejects_record for issue in refusals):
                return
        elif cells is None or len(cells) != len(header):
            yield Issue(file, number, None, code or "csv.field_count", rejects_record=True)
        else:
            yield Line(number, hashlib.sha256(raw).digest(), _nested(header, cells, columns), places)


def parse(model: type[Model], line: Line, *, file: str) -> tuple[Model | None, list[Issue]]:
    """Validate a line against a format's model.

    Returns:
        The model and no issue, or None and one issue for each place that is wrong. The last issue rejects the
        record, so that a lost record is counted once.
    """
    try:
        return model.model_validate(line.document), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    # A position in a list is not worth a second issue, and keys of the input never get this far: models ignore them.
    places = dict.fromkeys(
        (line.place(*(key for key in detail["loc"] if isinstance(key, str))), detail["type"] == "missing")
        for detail in details
    )
    issues = [
        Issue(file, line.number, place, "field.missing" if missing else "field.invalid", rejects_record=False)
        for place, missing in places
    ]
    return None, rejecting(issues)


def rejecting(issues: list[Issue]) -> list[Issue]:
    """Return the issues of a record that is lost; exactly the last one says so."""
    last = issues[-1]
    return [*issues[:-1], Issue(last.file, last.line, last.path, last.code, rejects_record=True)]


class UnknownKeys:
    """Reports keys that a format does not have: once per object and file, and never by their name.

    Args:
        model: The format's model.
        file: Display name, for issues.
    """

    def __init__(self, model: type[BaseModel], *, file: str) -> None:
        self._file = file
        self._objects = tuple(_objects(model, ()))
        self._reported: set[str] = set()

    def in_line(self, line: Line) -> list[Issue]:
        """Return what is new in this line."""
        issues: list[Issue] = []
        for keys, known in self._objects if line.columns is None else ():
            found: Any = line.document
            for key in keys:
                found = found.get(key) if isinstance(found, dict) else None
            if isinstance(found, dict) and not known >= found.keys():
                place = line.place(*keys, "*")
                if place not in self._reported:
                    self._reported.add(place)
                    issues.append(Issue(self._file, line.number, place, "json.unknown_key", rejects_record=False))
        return issues


def _objects(model: type[BaseModel], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
    """Yield where an object of the format stands, and the keys that it has."""
    yield keys, frozenset(model.model_fields)
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _objects(inner, (*keys, name))


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes, str, str]]:
    """Yield number, bytes, text and problem of each line that is not blank."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 2):
        number += 1
        line = raw[:-1].removesuffix(b"\r") if raw.endswith(b"\n") else raw
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_LINE_BYTES)
            yield number, b"", "", "line.too_long"
        elif b"\0" in line:
            yield number, b"", "", "line.nul"
        elif line.strip():
            try:
                text = line.decode()
            except UnicodeDecodeError:
                yield number, b"", "", "line.encoding"
            else:
                yield number, line, text, ""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        # Which of the two counts would depend on the parser.
        raise FormatError("json.duplicate_key")
    return document


def _no_constant(_name: str) -> NoReturn:
    # NaN and Infinity are no JSON.
    raise ValueError


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)


def _parsed_object(text: str) -> tuple[dict[str, Any] | None, str]:
    try:
        document = _DECODER.decode(text)
    except FormatError:
        return None, "json.duplicate_key"
    except (ValueError, RecursionError):
        return None, "json.malformed"
    return (document, "") if isinstance(document, dict) else (None, "json.not_an_object")


def _cells(text: str) -> list[str] | None:
    try:
        return next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration):
        return None


def _header_issues(
    header: list[str], problem: str, columns: Mapping[str, Column], *, file: str, line: int
) -> Iterator[Issue]:
    if problem:
        yield Issue(file, line, None, problem, rejects_record=True)
        return
    known = [name for name in header if name in columns]
    if len(known) < len(header):
        yield Issue(file, line, "*", "csv.unknown_column", rejects_record=False)
    for name, column in columns.items():
        if known.count(name) > 1:
            yield Issue(file, line, name, "csv.duplicate_column", rejects_record=True)
        if column.required and name not in known:
            yield Issue(file, line, name, "csv.missing_column", rejects_record=True)


def _nested(header: list[str], cells: list[str], columns: Mapping[str, Column]) -> dict[str, Any]:
    """Build the JSON form of a row."""
    document: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        column = columns.get(name)
        text = cell.strip()
        if column is None or not text:
            continue
        inner = document
        for key in column.keys[:-1]:
            inner = inner.setdefault(key, {})
        value: Any = text
        if column.is_list:
            value = [item.strip() for item in text.split(LIST_SEPARATOR)]
        elif column.is_bool:
            value = {"true": True, "false": False}.get(text, text)
        inner[column.keys[-1]] = value
    return document
