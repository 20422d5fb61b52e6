"""One record per line, from a text file that nobody vouches for: JSON Lines and CSV.

Decides: how a file falls into lines (LF or CRLF, UTF-8, an optional byte order mark), that one bad line costs one
line, and the codes of what can be wrong with a line (``LINE_CODES``).
Leaves to others: which keys and columns there are and what they mean (each adapter; ``domain.things`` for what several
formats describe), what a line of an exchange format goes through (``domain.exchange``).

A line may have ``MAX_LINE_BYTES``; what is longer is skipped without being held. A CSV row is one line: a quoted
field cannot hold a line break, so that a quote left open cannot swallow the rest of the file.

Special categories of data are never read: a key that names one (``_SPECIAL``) is reported and what it holds ignored.

The digest of a record is taken over its line as it stands in the file, without the line end.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Annotated, Any, BinaryIO, NamedTuple, NoReturn, TypeVar, get_args, get_origin

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, StringConstraints, ValidationError
from pydantic import Field as Constraint
from pydantic_core import ErrorDetails

from connector_psi.domain.records import Issue
from connector_psi.errors import FormatError

MAX_LINE_BYTES = 1_048_576
LIST_SEPARATOR = "|"
"""Between the items of a CSV field that holds a list."""
EACH = "*"
"""Stands for the position in a list, among the keys of a column."""
WITHDRAWN = "withdrawn"
"""The key of a line that takes back what earlier ones said."""

LINE_CODES: Mapping[str, str] = {
    "line.too_long": "the line has more than 1 MiB",
    "line.encoding": "the line is not UTF-8",
    "line.nul": "the line holds a NUL byte",
    "json.malformed": "the line is not JSON",
    "json.duplicate_key": "a key stands twice in one object",
    "json.not_an_object": "the line is JSON, but no object",
    "json.unknown_key": "a key that the format does not have; ignored, reported once per object and file",
    "key.special_category": "a key or column for biometric data or another special category; never read, as above",
    "csv.malformed": "quotes that do not close, or a field over 128 KiB",
    "csv.field_count": "more or fewer fields than the header has",
    "csv.duplicate_column": "the header names a column twice; the file is not read",
    "csv.missing_column": "the header lacks a column that every row must fill; the file is not read",
    "csv.unknown_column": "a column that the format does not have; ignored",
    "csv.list_length": "columns that hold one list of objects have different numbers of items",
    "field.missing": "a key or column that must be filled is not",
    "field.invalid": "a value has the wrong type, length, pattern or is none of the closed values; what only describes "
    "a thing is then left out",
}
"""Reason codes of this module, for the documentation and for tests."""

Model = TypeVar("Model", bound=BaseModel)
Items = TypeVar("Items", bound=tuple[object, ...])

_BOM = b"\xef\xbb\xbf"
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
# From: Directive (EU) 2016/680, Article 10; Regulation (EC) No 515/97, Article 25(5). One such word in a key is enough.
_SPECIAL = re.compile(
    r"biometrics?|dactyloscopic|fingerprints?|palmprints?|facial|photos?|photographs?|dna|genetics?|health|medical|race|"
    r"racial|ethnic(ity)?|politics|political|religion|religious|beliefs?|philosophical|union|sexual|life|orientation"
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_BIRTH = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")
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


def _not_empty(value: Items) -> Items:
    if not value:
        raise ValueError("empty")
    return value


def _birth(value: str) -> str:
    """Read a date as far as it is known; zeros stand for what is not."""
    found = _BIRTH.fullmatch(value)
    if found is None:
        raise ValueError("not a date")
    year, month, day = (int(part or 0) for part in found.groups())
    date(year, month or 1, day or 1)
    return f"{year:04}" + (f"-{month:02}" + (f"-{day:02}" if day else "") if month else "")


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
BirthDate = Annotated[str, AfterValidator(_birth)]
"""``1980``, ``1980-05`` or ``1980-05-17``; also ``1980-05-00``."""

NotEmpty = AfterValidator(_not_empty)
"""Of a list. A least length would also count those items that cannot be read."""
Texts = Annotated[tuple[Text, ...], Constraint(max_length=1_000)]
Countries = Annotated[tuple[Country, ...], Constraint(max_length=1_000)]


@dataclass(frozen=True, slots=True)
class Column:
    """Where a CSV column stands in the JSON form of the same line."""

    keys: tuple[str, ...]
    """``EACH`` among them: the column holds that key of each object of a list. All columns of the list have the same
    number of items, an empty one where the object lacks the key; a cell that is empty as a whole fills none."""
    required: bool = False
    """The column must be in the header, unless the file has a column ``withdrawn``: such rows need less."""
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

    def place(self, *keys: str | int) -> str:
        """Name a place: ``$.object.vin``, ``$.entities.2.vin`` in JSON; ``vin``, ``vin.2`` in CSV.

        Args:
            keys: The format's own; positions in a list count from 0 here and from 1 in the name, as records do.
        """
        words = [str(key + 1) if isinstance(key, int) else key for key in keys]
        if self.columns is None:
            return ".".join(["$", *words])
        column = self.columns.get(tuple(EACH if isinstance(key, int) else key for key in keys))
        if column is None:
            return "/".join(words)
        return ".".join([column, *(word for word, key in zip(words, keys, strict=True) if isinstance(key, int))])


class Spot(NamedTuple):
    """An object of a line, by its place."""

    line: Line
    keys: tuple[str | int, ...] = ()

    def at(self, key: str) -> str:
        """Name the place of one of its keys."""
        return self.line.place(*self.keys, key)

    @property
    def itself(self) -> str:
        """Name its own place."""
        return self.line.place(*self.keys)


def columns_of(
    model: type[BaseModel], *at: str, names: Mapping[str, str] = MappingProxyType({}), optional: bool = False
) -> dict[str, Column]:
    """Return the CSV columns for an object of a format, by its model; objects inside it are not among them.

    Args:
        model: Of the object.
        at: Where it stands in a line; with ``EACH`` in it, keys that hold lists have no column.
        names: Key -> column, where that is not its name.
        optional: The object may be missing as a whole, and so may its columns.
    """
    found = {}
    for key, info in model.model_fields.items():
        is_list = get_origin(info.annotation) is tuple
        if not (is_list and EACH in at) and not any(_inner_models(info.annotation, ())):
            required = info.is_required() and not optional
            found[names.get(key, key)] = Column((*at, key), required, is_list, info.annotation is bool)
    return found


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
            document = _nested(header, cells, columns)
            if document is None:
                yield Issue(file, number, None, "csv.list_length", rejects_record=True)
            else:
                yield Line(number, hashlib.sha256(raw).digest(), document, places)


def parse(
    model: type[Model], line: Line, *, file: str, spared: Collection[str] = ()
) -> tuple[Model | None, list[Issue]]:
    """Validate a line against a format's model.

    Args:
        model: The format's model.
        line: What was read.
        file: Display name, for issues.
        spared: Keys of objects, and of lists of objects, that describe things: a wrong value below one of them is left
            out, an object of such a list without a key that it must have is None, and the rest stands.

    Returns:
        The model, and an issue for each place that was left out; or None and one issue for each place that is wrong.
        Then the last issue rejects the record, so that a lost record is counted once.
    """
    document = line.document
    issues: dict[str, Issue] = {}
    # Once for wrong values, once for what is missing without them, once for the result.
    for _ in range(3):
        try:
            return model.model_validate(document), list(issues.values())
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
        for detail in details:
            # A position in a list of texts is not worth a second issue, and keys of the input never get this far:
            # models ignore them.
            keys = detail["loc"][:-1] if isinstance(detail["loc"][-1], int) else detail["loc"]
            place, code = line.place(*keys), "field.missing" if detail["type"] == "missing" else "field.invalid"
            issues.setdefault(place, Issue(file, line.number, place, code, rejects_record=False))
        repaired = _without(document, details, spared)
        if repaired is None:
            break
        document = repaired
    return None, rejecting(list(issues.values()))


def _without(
    document: Mapping[str, Any], details: list[ErrorDetails], spared: Collection[str]
) -> dict[str, Any] | None:
    """Return a document without the values that are wrong; None where one of them cannot be spared."""
    # What is on the way is copied, and copied once: the line stays as it was read.
    copies: dict[tuple[str | int, ...], Any] = {(): dict(document)}
    dropped: set[tuple[str | int, ...]] = set()
    # From the end, so that positions in a list stay what they are.
    for detail in reversed(details):
        keys, missing = detail["loc"], detail["type"] == "missing"
        of_list = len(keys) > 1 and isinstance(keys[1], int)
        if keys[0] not in spared or len(keys) == 1 or (missing and not of_list):
            return None
        path = keys[:2] if missing else keys
        if path[:2] in dropped:
            continue
        for depth in range(1, len(path)):
            if path[:depth] not in copies:
                parent = copies[path[: depth - 1]]
                parent[path[depth - 1]] = copies[path[:depth]] = parent[path[depth - 1]].copy()
        parent = copies[path[:-1]]
        if of_list and len(path) == 2:
            parent[path[1]] = None
            dropped.add(path)
        else:
            del parent[path[-1]]
    return dict(copies[()])


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
        self._reported: set[tuple[str, str]] = set()

    def in_line(self, line: Line) -> list[Issue]:
        """Return what is new in this line."""
        issues: list[Issue] = []
        for keys, known in self._objects if line.columns is None else ():
            for found in _at(line.document, keys):
                for code in _unknown(found.keys() - known, "json.unknown_key"):
                    place = line.place(*(key for key in keys if key != EACH), "*")
                    if (place, code) not in self._reported:
                        self._reported.add((place, code))
                        issues.append(Issue(self._file, line.number, place, code, rejects_record=False))
        return issues


def _unknown(names: Collection[str], code: str) -> list[str]:
    """Return the codes of names that a format does not have."""
    special = [name for name in names if any(_SPECIAL.fullmatch(word.lower()) for word in _WORDS.findall(name))]
    return ["key.special_category"] * bool(special) + [code] * (len(names) > len(special))


def _at(document: Mapping[str, Any], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the objects that stand at a place of a document."""
    found: list[Any] = [document]
    for key in keys:
        if key == EACH:
            found = [item for each in found if isinstance(each, list) for item in each]
        else:
            found = [each.get(key) for each in found if isinstance(each, dict)]
    return [each for each in found if isinstance(each, dict)]


def _objects(model: type[BaseModel], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
    """Yield where an object of the format stands, and the keys that it has."""
    yield keys, frozenset(model.model_fields)
    for name, info in model.model_fields.items():
        for inner, place in _inner_models(info.annotation, (*keys, name)):
            yield from _objects(inner, place)


def _inner_models(annotation: Any, keys: tuple[str, ...]) -> Iterator[tuple[type[BaseModel], tuple[str, ...]]]:  # noqa: ANN401 - of a field, whatever it is
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, keys
    for part in get_args(annotation):
        yield from _inner_models(part, (*keys, EACH) if get_origin(annotation) is tuple else keys)


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


STRICT_JSON = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
"""Takes a key twice in one object for a ``FormatError``, and NaN and Infinity for no JSON."""


def _parsed_object(text: str) -> tuple[dict[str, Any] | None, str]:
    try:
        document = STRICT_JSON.decode(text)
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
    for code in _unknown([name for name in header if name not in columns], "csv.unknown_column"):
        yield Issue(file, line, "*", code, rejects_record=False)
    for name, column in columns.items():
        if known.count(name) > 1:
            yield Issue(file, line, name, "csv.duplicate_column", rejects_record=True)
        if column.required and name not in known and WITHDRAWN not in known:
            yield Issue(file, line, name, "csv.missing_column", rejects_record=True)


def _nested(header: list[str], cells: list[str], columns: Mapping[str, Column]) -> dict[str, Any] | None:
    """Build the JSON form of a row; None where the columns of a list have different numbers of items."""
    document: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        column = columns.get(name)
        text = cell.strip()
        if column is None or not text:
            continue
        if EACH not in column.keys:
            _put(document, column.keys, _cell_value(column, text))
            continue
        here = column.keys.index(EACH)
        items = [item.strip() for item in text.split(LIST_SEPARATOR)]
        objects: list[dict[str, Any]] = document.setdefault(column.keys[0], [{} for _ in items])
        if len(objects) != len(items):
            return None
        for each, item in zip(objects, items, strict=True):
            if item:
                _put(each, column.keys[here + 1 :], _cell_value(column, item))
    return document


def _put(document: dict[str, Any], keys: tuple[str, ...], value: object) -> None:
    for key in keys[:-1]:
        document = document.setdefault(key, {})
    document[keys[-1]] = value


def _cell_value(column: Column, text: str) -> object:
    if column.is_list:
        return [item.strip() for item in text.split(LIST_SEPARATOR)]
    return {"true": True, "false": False}.get(text, text) if column.is_bool else text
