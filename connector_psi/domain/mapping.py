"""The language of ``mapping.toml``: how the tables of somebody's own database are records.

Decides: which tables and keys a mapping has, what contradicts itself, and that a mapping names the system its data are
of, so that a refused system stays refused whatever it is read from. ``docs/mapping.md`` teaches it.
Leaves to others: reading the source (``adapters.mapping``), what a row becomes (``domain.rows``), what a cell says
(``domain.cells``). Free of I/O.

An error names the table and the key, such as ``[[identifier]] 2, type``; it never holds a value of the source.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, StringConstraints, ValidationError
from pydantic import Field as Constraint

from connector_psi.domain.cells import Calendar
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.records import Field, IdentifierType, PartyKind, SourceSystem
from connector_psi.domain.systems import SYSTEMS
from connector_psi.domain.toml import parse_toml
from connector_psi.errors import ConfigError, FormatError, PurposeRefusedError

MAX_MAPPING_BYTES: Final = 65_536
MAX_RULES: Final = 200
"""Tables of one kind in a mapping."""
WATERMARK: Final = "watermark"
"""Name of the bound parameter that a query may hold."""
DEFAULT_OVERLAP: Final = 600

CONTEXT: Final[Mapping[IdentifierType, tuple[str, ...]]] = {
    IdentifierType.PLATE: ("country",),
    IdentifierType.HULL: ("country",),
    IdentifierType.VAT: ("country",),
    IdentifierType.PHONE: ("country",),
    IdentifierType.IDENTITY_DOCUMENT: ("country", "document_type"),
    IdentifierType.FIREARM: ("make", "calibre"),
    IdentifierType.ENGINE: ("make",),
    IdentifierType.COMPONENT: ("make",),
    IdentifierType.INDUSTRIAL_EQUIPMENT: ("make",),
    IdentifierType.ITEM: ("make",),
    IdentifierType.BANKNOTE: ("currency", "denomination"),
}
"""Keys that complete an identifier, as ``domain.identifiers.normalise`` takes them."""
CONTEXT_KEYS: Final = tuple(dict.fromkeys(key for keys in CONTEXT.values() for key in keys))
_MAY_LACK_CHECK_DIGIT: Final = frozenset({IdentifierType.CONTAINER, IdentifierType.IMEI})

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]
_Short = Annotated[str, StringConstraints(max_length=200)]
_Separator = Annotated[str, StringConstraints(min_length=1, max_length=8)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


def _columns(value: object) -> object:
    return [value] if isinstance(value, str) else value


Columns = Annotated[tuple[ColumnName, ...], BeforeValidator(_columns), Constraint(min_length=1, max_length=20)]
"""One column, or several that are read as one text."""


class Value(_Table):
    """A column, or a constant; a plain text names a column."""

    column: ColumnName | None = None
    constant: _Short | None = None
    map: dict[_Short, _Short] | None = None
    """What the source writes -> what is meant."""
    default: _Short = ""
    """Where the column is empty, or holds nothing of ``map``."""


class Condition(_Table):
    """Which rows; a plain text names a column that says yes or no."""

    column: ColumnName
    equals: Annotated[tuple[_Short, ...], BeforeValidator(_columns)] | None = None
    filled: bool | None = None


AnyValue = Annotated[Value, BeforeValidator(_column)]
AnyCondition = Annotated[Condition, BeforeValidator(_column)]


class _Source(_Table):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    """Stands before the reference of every record, so that two tables of one system do not meet."""
    system: str
    category: str
    mode: Literal["full", "increment"] = "increment"
    """``full``: what the source does not hold any more leaves matching."""
    watermark: ColumnName | None = None
    watermark_start: datetime | date | int | _Short | None = None
    overlap: Annotated[int, Constraint(ge=0, le=31 * 86400)] = DEFAULT_OVERLAP
    """How far before the last watermark the next run begins: seconds, or whole numbers."""
    timezone: _Short = "UTC"
    date_formats: tuple[_Short, ...] = ()
    empty: tuple[_Short, ...] = ()
    """Texts that mean nothing, such as ``n/a``."""


class CsvSource(_Source):
    """Text with separators; ``path`` may hold wildcards."""

    kind: Literal["csv"]
    path: str
    delimiter: Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]$")] = ","
    quote: Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]?$")] = '"'
    encoding: Literal[
        "utf-8", "utf-16", "us-ascii", "iso-8859-1", "iso-8859-2", "iso-8859-5", "iso-8859-7", "iso-8859-9",
        "iso-8859-13", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254",
        "windows-1257",
    ] = "utf-8"  # fmt: skip
    columns: tuple[ColumnName, ...] | None = None
    """Names of the columns of a file without a header line."""


class ParquetSource(_Source):
    """Parquet; ``path`` may hold wildcards."""

    kind: Literal["parquet"]
    path: str


class SqlSource(_Source):
    """A query to a database."""

    kind: Literal["sql"]
    url: str | None = None
    url_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    url_file: str | None = None
    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


AnySource = CsvSource | ParquetSource | SqlSource


class RecordTable(_Table):
    """What names, dates and limits a record."""

    ref: Columns
    group: bool = False
    """Rows with the same reference stand one after another and are one record."""
    when: AnyCondition | None = None
    """Which rows are records of this mapping; the others are passed over."""
    version: ColumnName | None = None
    valid_until: ColumnName | None = None
    withdrawn: AnyCondition | None = None
    hidden: AnyCondition | None = None


class IdentifierTable(_Table):
    """An identifier of the record."""

    type: IdentifierType
    column: Columns
    last: ColumnName | None = None
    """Last number of a range of documents; ``column`` then holds the first."""
    split: _Separator | None = None
    role: Annotated[str, StringConstraints(pattern=r"^([A-Za-z][A-Za-z0-9_-]{0,39})?$")] = ""
    when: AnyCondition | None = None
    field: Field | None = None
    """Under which its canonical form could be disclosed."""
    country: AnyValue | None = None
    document_type: AnyValue | None = None
    make: AnyValue | None = None
    calibre: AnyValue | None = None
    currency: AnyValue | None = None
    denomination: AnyValue | None = None
    complete_check_digit: bool = False

    @property
    def context(self) -> Mapping[str, Value]:
        """Keyword of ``normalise`` -> where it stands, for those that are given."""
        return {key: value for key in CONTEXT_KEYS if (value := getattr(self, key)) is not None}


class PartyTable(_Table):
    """A person or an organisation of the record."""

    role: Word
    kind: AnyValue | None = None
    """``person``, ``organisation`` or ``unknown``."""
    name: Columns
    """Several columns, such as surname and forenames, are joined with a comma."""
    aliases: Columns | None = None
    birth_date: ColumnName | None = None
    birth_place: ColumnName | None = None
    nationality: Columns | None = None
    gender: AnyValue | None = None
    address: Columns | None = None
    country: AnyValue | None = None
    city: ColumnName | None = None
    """Where it has a column of its own; name it in ``address`` too. Names are found by it."""
    postcode: ColumnName | None = None
    """As ``city``."""
    split: _Separator | None = None
    """Between the items of ``aliases`` and ``nationality``."""
    when: AnyCondition | None = None


class FieldTable(_Table):
    """A value that a policy could disclose."""

    name: Field
    column: ColumnName | None = None
    constant: _Short | None = None
    map: dict[_Short, _Short] | None = None
    split: _Separator | None = None
    when: AnyCondition | None = None

    @property
    def value(self) -> Value:
        """Where it stands."""
        return Value(column=self.column, constant=self.constant, map=self.map)


class FreeTextTable(_Table):
    """Text that is searched for identifiers."""

    column: ColumnName
    when: AnyCondition | None = None


_Rules = Constraint(max_length=MAX_RULES)


class MappingFile(_Table):
    """A mapping that is free of contradictions; made by :func:`parse_mapping` alone."""

    source: Annotated[AnySource, Discriminator("kind")]
    record: RecordTable
    identifier: Annotated[tuple[IdentifierTable, ...], _Rules] = ()
    party: Annotated[tuple[PartyTable, ...], _Rules] = ()
    field: Annotated[tuple[FieldTable, ...], _Rules] = ()
    free_text: Annotated[tuple[FreeTextTable, ...], _Rules] = ()

    @property
    def system(self) -> SourceSystem:
        """The system that the records are of."""
        return SourceSystem(self.source.system)

    @property
    def key(self) -> str:
        """Names the mapping among those of a node: what its watermark is kept under."""
        return f"{self.source.system}/{self.source.name}"

    @property
    def calendar(self) -> Calendar:
        """How the source writes times."""
        return Calendar(ZoneInfo(self.source.timezone), self.source.date_formats)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with what rows become, and not with comments and layout.

        A watermark holds for one fingerprint: after a change of the mapping, or of the rules of canonical forms, every
        row is read again.
        """
        form = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(f"{NORMALISATION_VERSION}\n{form}".encode()).hexdigest()[:16]

    def columns(self) -> Mapping[str, str]:
        """Return each column of the source that the mapping names, with the place where it names it first."""
        found: dict[str, str] = {}
        if self.source.watermark:
            found[self.source.watermark] = "[source], watermark"
        for place, table in _tables(self):
            for key in type(table).model_fields:
                for name in _names(key, getattr(table, key)):
                    found.setdefault(name, f"{place}, {key}")
        return found

    def check_columns(self, available: Sequence[str], *, source: str, may_be_data: bool = False) -> None:
        """Refuse a source that lacks a column.

        Args:
            available: Columns that the source has.
            source: Its name, for the error.
            may_be_data: The columns come from a line that could be data instead of a header, and are then not shown.

        Raises:
            ConfigError: A column stands twice, or is not there; the text lists those that are.
        """
        named = self.columns()
        twice = [name for name in named if available.count(name) > 1]
        if twice:
            raise ConfigError(f"{named[twice[0]]}: {source} has the column '{twice[0]}' more than once")
        missing = [name for name in named if name not in available]
        if not missing:
            return
        if may_be_data and len(missing) == len(named):
            raise ConfigError(
                f"{source} has none of the columns that the mapping names in its first line; if it has no header "
                "line, name them: [source], columns; otherwise check delimiter and encoding"
            )
        shown = ", ".join(available[:100]) + (", ..." if len(available) > 100 else "")
        raise ConfigError(f"{named[missing[0]]}: {source} has no column '{missing[0]}'; it has {shown}")


def _tables(mapping: MappingFile) -> Iterator[tuple[str, BaseModel]]:
    yield "[record]", mapping.record
    for kind in ("identifier", "party", "field", "free_text"):
        for number, table in enumerate(getattr(mapping, kind), start=1):
            yield f"[[{kind}]] {number}", table


_COLUMN_KEYS: Final = frozenset(
    {
        "ref",
        "version",
        "valid_until",
        "column",
        "last",
        "aliases",
        "birth_date",
        "birth_place",
        "nationality",
        "address",
        "city",
        "postcode",
    }
)


def _names(key: str, value: object) -> Iterator[str]:
    """Yield the columns that a key names."""
    if isinstance(value, Value | Condition):
        if value.column:
            yield value.column
    elif isinstance(value, tuple):
        # Every key that takes several texts takes columns.
        yield from value
    elif isinstance(value, str) and key in _COLUMN_KEYS:
        yield value


def parse_mapping(raw: bytes) -> MappingFile:
    """Read a mapping.

    Args:
        raw: The whole file.

    Raises:
        ConfigError: It is no mapping, or contradicts itself; the text names table and key.
        PurposeRefusedError: It reads the data of a system that is refused; the text gives the reason.
    """
    if len(raw) > MAX_MAPPING_BYTES:
        raise ConfigError(f"the mapping has more than {MAX_MAPPING_BYTES} bytes")
    try:
        document = parse_toml(raw)
    except FormatError as error:
        raise ConfigError(f"the mapping is {error}") from None
    _check_system(document)
    try:
        mapping = MappingFile.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_told(error)) from None
    _check_source(mapping.source)
    _check_record(mapping)
    for place, table in _tables(mapping):
        _check_table(place, table)
    return mapping


def _check_system(document: Mapping[str, Any]) -> None:
    """Before anything else: whether the data are refused does not depend on the rest of the mapping."""
    source = document.get("source")
    code = source.get("system") if isinstance(source, dict) else None
    if not isinstance(code, str):
        return
    system = SYSTEMS.get(code) or SYSTEMS.get(code.upper())
    if system is not None and system.refused:
        raise PurposeRefusedError(f"{system.code} is refused: {system.reason}")
    if code not in SYSTEMS:
        known = ", ".join(each.code for each in SYSTEMS.values() if not each.refused)
        raise ConfigError(f"[source], system: no such system; there are {known}")


def _refuse(place: str, key: str, why: str) -> NoReturn:
    raise ConfigError(f"{place}, {key}: {why}")


def _check_source(source: AnySource) -> None:
    place = "[source]"
    prefix = SYSTEMS[source.system].category_prefix
    if source.category not in CATEGORIES or not source.category.startswith(prefix):
        known = ", ".join(name for name in CATEGORIES if name.startswith(prefix))
        _refuse(place, "category", f"{source.system} has no such category; it has {known}")
    try:
        ZoneInfo(source.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        _refuse(place, "timezone", "no such time zone; write one such as Europe/Brussels")
    for layout in source.date_formats:
        try:
            datetime.strptime(datetime(2026, 11, 25, 10, 20, 30).strftime(layout), layout)  # noqa: DTZ001, DTZ007
        except (ValueError, re.error):
            # strptime makes a pattern of it, which no two parts of one kind fit into.
            _refuse(place, "date_formats", "not a format of strptime, such as %d.%m.%Y")
    if source.mode == "full" and source.watermark:
        _refuse(place, "watermark", 'a source in mode "full" is always read from its beginning')
    if source.watermark_start is not None and not source.watermark:
        _refuse(place, "watermark_start", "there is no watermark")
    if isinstance(source, SqlSource):
        if sum(each is not None for each in (source.url, source.url_env, source.url_file)) != 1:
            _refuse(place, "url", "give exactly one of url, url_env and url_file")
        if has_watermark(source.query) and (source.watermark is None or source.watermark_start is None):
            _refuse(
                place,
                "query",
                ":watermark needs the key watermark, and watermark_start for the first run: compared with nothing, no "
                "row would be greater",
            )
    elif source.watermark_start is not None:
        _refuse(place, "watermark_start", "only a query can begin at a watermark")
    if isinstance(source, CsvSource):
        if source.quote == source.delimiter:
            _refuse(place, "quote", "is the delimiter too")
        if source.columns is not None and len(set(source.columns)) != len(source.columns):
            _refuse(place, "columns", "a name stands twice")


def has_watermark(query: str) -> bool:
    """Whether a query holds the parameter ``:watermark``."""
    before, found, after = query.partition(f":{WATERMARK}")
    return bool(found) and not before.endswith(":") and not (after[:1].isalnum() or after[:1] == "_")


def _check_record(mapping: MappingFile) -> None:
    source, record = mapping.source, mapping.record
    if not (mapping.identifier or mapping.party or mapping.free_text):
        raise ConfigError("there is no [[identifier]], no [[party]] and no [[free_text]]: nothing could match")
    if record.withdrawn and source.mode == "increment" and not record.version:
        _refuse("[record]", "withdrawn", "needs version: a record that comes back must be newer than its withdrawal")
    if record.version and source.mode == "full":
        _refuse("[record]", "version", 'what a source in mode "full" says has the time at which it is read')
    if record.group and source.watermark and not (isinstance(source, SqlSource) and has_watermark(source.query)):
        _refuse(
            "[record]",
            "group",
            "rows after a watermark may be a part of a record; use a query that holds :watermark and gives every row "
            "of a record that changed",
        )


def _check_table(place: str, table: BaseModel) -> None:
    for key in type(table).model_fields:
        value = getattr(table, key)
        if isinstance(value, Value):
            _check_value(f"{place}, {key}", value)
        elif isinstance(value, Condition) and value.equals is not None and value.filled is not None:
            _refuse(place, key, "give one of equals and filled")
    match table:
        case FieldTable():
            _check_value(place, table.value)
        case IdentifierTable():
            takes = CONTEXT.get(table.type, ())
            for key in table.context:
                if key not in takes:
                    _refuse(place, key, f"a {table.type} takes " + (" and ".join(takes) if takes else "no such key"))
            if table.complete_check_digit and table.type not in _MAY_LACK_CHECK_DIGIT:
                _refuse(place, "complete_check_digit", f"not for a {table.type}")
            if table.last and (table.type is not IdentifierType.IDENTITY_DOCUMENT or table.split):
                _refuse(place, "last", "only a range of identity documents has a last number, and it is not split")
        case PartyTable():
            kinds = {kind.value for kind in PartyKind}
            said = table.kind and {table.kind.constant, *(table.kind.map or {}).values(), table.kind.default}
            if said and not said <= {*kinds, None, ""}:
                _refuse(place, "kind", "is one of " + ", ".join(sorted(kinds)))
        case _:
            pass


def _check_value(place: str, value: Value) -> None:
    if (value.column is None) == (value.constant is None):
        raise ConfigError(f"{place}: give one of column and constant")
    if value.constant is not None and (value.map is not None or value.default):
        raise ConfigError(f"{place}: a constant takes neither map nor default")


_KINDS: Final = frozenset({"csv", "parquet", "sql"})


def _told(error: ValidationError) -> str:
    """Say the first thing that is wrong, by table and key."""
    details = error.errors(include_url=False, include_context=True, include_input=False)
    detail = details[0]
    table, *rest = detail["loc"]
    place, keys = f"[{table}]", rest
    if table in {"identifier", "party", "field", "free_text"}:
        place = f"[[{table}]]"
        if rest and isinstance(rest[0], int):
            place, keys = f"{place} {rest[0] + 1}", rest[1:]
    elif table == "source" and rest and rest[0] in _KINDS:
        keys = rest[1:]
    words = [str(key) for key in keys if not (isinstance(key, str) and key.startswith(("constrained-", "function-")))]
    where = ", ".join([place, ".".join(words)] if words else [place])
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: no such key"
        case "missing":
            return f"{where}: is missing"
        case "union_tag_not_found" | "union_tag_invalid":
            return f"{place}, kind: is one of csv, parquet, sql"
        case "tuple_type":
            return f"{where}: is a list" if words else f"[{table}]: is written [[{table}]]"
        case "model_type" | "model_attributes_type":
            return f"{where}: is a table, written once"
        case _:
            return f"{where}: {detail['msg']}"
