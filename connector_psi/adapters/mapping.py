"""Reads an authority's own tables, as a ``mapping.toml`` describes them: CSV, Parquet, or a query to a database.

Decides: how a source falls into rows in bounded memory, that a database is only read and how, which rows an increment
asks for, and what of a driver's error may be shown.
Leaves to others: the language of mappings (``domain.mapping``), what a row becomes (``domain.rows``), where the next
increment begins (``domain.watermarks``) and where that is kept between runs (the caller).

A password stands in no mapping. What a driver says is shown only where it is about the query: it may hold values,
hosts and passwords.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sqlite3
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from connector_psi.domain.cells import Code, plain
from connector_psi.domain.intake import Item
from connector_psi.domain.mapping import (
    MAX_MAPPING_BYTES,
    WATERMARK,
    CsvSource,
    MappingFile,
    ParquetSource,
    SqlSource,
    has_watermark,
    parse_mapping,
)
from connector_psi.domain.records import Issue
from connector_psi.domain.rows import Counts, Row, RowMapper, ended
from connector_psi.domain.watermarks import Mark, Watermark, is_before
from connector_psi.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS: Final = 500
"""Rows that a database or a Parquet file hands over at once."""
MAX_WHOLE_BYTES = 32 * 2**20
"""Of a Parquet file that is read column by column; a larger one is read page by page."""
CONNECT_TIMEOUT_S: Final = 10
MAX_LINE_CHARS: Final = 1_048_576
MAX_ROW_LINES: Final = 1_000
"""Lines of one CSV row whose quoted cells hold line breaks."""

SOURCE_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "line.too_long": "the line has more than 1,048,576 characters",
        "line.encoding": "the row has bytes that are not in the encoding of the source",
        "csv.malformed": "quotes that do not close, or a cell over 128 KiB",
        "csv.field_count": "more or fewer cells than there are columns",
        "file.unreadable": "the file broke off or is damaged; what follows in it is not read",
        "source.failed": "the database broke off, or could not give a row; what follows is not read",
        "mapping.watermark_in_future": "over a day after now, here first; the next increment begins as without it",
    }
)
"""Reason codes of this module, for the documentation and for tests."""

_BREAKS: Final = frozenset({"file.unreadable", "source.failed"})

_Rows = Iterator[Row | Issue]


class _Part(NamedTuple):
    """A source, or one file of it, that is open."""

    columns: Sequence[str]
    rows: _Rows


class Reading:
    """One pass over the source of a mapping; made by :func:`read_mapping`.

    Iterating yields items as ``adapters.formats.read`` does: the issues of a record before it, a supersession last.
    Whatever it raises comes before the first item.

    Raises:
        ConfigError: On iterating: the source is not what the mapping says, or lacks a column.
        UnavailableError: On iterating: the database cannot be reached now.
    """

    def __init__(
        self, path: Path, mapping: MappingFile, *, watermark: str | None, now: datetime, environ: Mapping[str, str]
    ) -> None:
        self.mapping = mapping
        """``mapping.key`` names it among those of a node."""
        self.counts = Counts()
        """What became of the rows so far."""
        self._path = path
        self._now = now
        self._environ = environ
        self._seen = self._watermark(watermark)
        self._kept = watermark

    @property
    def watermark(self) -> str | None:
        """What the next run is to be given once the items so far are registered; None where nothing is to be kept."""
        return self._kept

    def _watermark(self, text: str | None) -> Watermark:
        return Watermark(self.mapping.fingerprint, text, calendar=self.mapping.calendar, now=self._now)

    def __iter__(self) -> Generator[Item]:
        source = self.mapping.source
        broke = False
        with closing(self._database(source) if isinstance(source, SqlSource) else self._files(source)) as parts:
            for part, file in parts:
                mapper = RowMapper(self.mapping, part.columns, counts=self.counts, read_at=self._now)
                for item in mapper.map(self._followed(part, file), file=file):
                    broke = broke or (isinstance(item, Issue) and item.code in _BREAKS)
                    yield item
        yield from ended(self.mapping, self.counts, read_at=self._now, file=str(self._path))
        if source.watermark and not broke:
            self._kept = self._seen.text

    def _followed(self, part: _Part, file: str) -> _Rows:
        """Yield the rows that an increment is about, and follow its watermark."""
        source = self.mapping.source
        if source.watermark is None:
            yield from part.rows
            return
        place = part.columns.index(source.watermark)
        is_query = isinstance(source, SqlSource)
        # Only the order that this module asks a database for is known.
        ordered = isinstance(source, SqlSource) and not has_watermark(source.query)
        begin = self._seen.begin(source.overlap)
        calendar = self.mapping.calendar
        warned = False
        for row in part.rows:
            if isinstance(row, Row):
                cell = row.cells[place]
                if not is_query:
                    text = plain(cell)
                    cell = calendar.order_of(text) if isinstance(text, str) else None
                    if is_before(cell, begin):
                        continue
                if not self._seen.follow(cell) and not warned:
                    warned = True
                    yield Issue(file, row.number, source.watermark, "mapping.watermark_in_future", rejects_record=False)
                if ordered:
                    # The row itself may not be registered yet; the next run begins at it and not after it.
                    self._kept = self._seen.text
            yield row

    def _files(self, source: CsvSource | ParquetSource) -> Generator[tuple[_Part, str]]:
        read = _csv if isinstance(source, CsvSource) else _parquet
        for path in _paths(self._path.parent, source.path):
            with read(path, self.mapping) as part:
                yield part, str(path)

    def _database(self, source: SqlSource) -> Generator[tuple[_Part, str]]:
        begin = source.watermark_start if self._seen.value is None else self._seen.begin(source.overlap)
        with (
            _connected(source, self._path.parent, self._environ) as connection,
            _queried(connection, source, begin, file=str(self._path)) as part,
        ):
            self.mapping.check_columns(part.columns, source="the query")
            yield part, str(self._path)


def load_mapping(path: Path) -> MappingFile:
    """Read a ``mapping.toml``.

    Raises:
        ConfigError: It cannot be read, or is no mapping; the text names table and key.
        PurposeRefusedError: It is about a system that is refused; the text gives the reason.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_MAPPING_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        return parse_mapping(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_mapping(
    path: Path,
    *,
    now: datetime,
    watermark: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Reading:
    """Read the source that a mapping describes.

    Args:
        path: The mapping. Paths in it are relative to its folder.
        now: Aware; the version of what a source in mode ``full`` says.
        watermark: What ``Reading.watermark`` was after the last run; None reads every row.
        environ: Where ``url_env`` is looked up.

    Raises:
        ConfigError: It is no mapping.
        PurposeRefusedError: It is about a system that is refused.
    """
    return Reading(path, load_mapping(path), watermark=watermark, now=now, environ=environ)


def _paths(folder: Path, pattern: str) -> list[Path]:
    """Return the files that a path names, in the order of their names."""
    full = folder / pattern
    if full.is_file() or not re.search(r"[*?\[]", pattern):
        return [full]
    anchor = Path(full.anchor)
    try:
        found = sorted(path for path in anchor.glob(str(full.relative_to(anchor))) if path.is_file())
    except (ValueError, OSError):
        found = []
    if not found:
        raise ConfigError(f"[source], path: no file is named like {full}")
    return found


# CSV


@contextmanager
def _csv(path: Path, mapping: MappingFile) -> Iterator[_Part]:
    source = mapping.source
    assert isinstance(source, CsvSource), "the caller looked"
    encoding = "utf-8-sig" if source.encoding == "utf-8" else source.encoding
    # Bytes that are not in the encoding become characters that no text has: a row with them is one bad row.
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    try:
        stream = path.open("r", encoding=encoding, errors=errors, newline="")
    except OSError as error:
        raise ConfigError(f"[source], path: {path}: {error.strerror}") from None
    with stream:
        rows = _csv_rows(stream, source, str(path))
        columns: Sequence[str] | None = source.columns
        if columns is None:
            header = next(rows, None)
            if header is None:
                raise ConfigError(f"{path} is empty: it has no header line")
            if isinstance(header, Issue):
                raise ConfigError(f"{path} has no usable header line: {header.code}; check encoding and quote")
            columns = [str(cell).strip() for cell in header.cells]
            mapping.check_columns(columns, source=str(path), may_be_data=True)
        else:
            mapping.check_columns(columns, source="[source], columns")
        yield _Part(columns, rows)


def _csv_rows(stream: io.TextIOWrapper, source: CsvSource, file: str) -> _Rows:
    """Yield rows as wide as the columns that are named, or as the first row.

    A quote that does not close costs the row it stands in, and no row after it.
    """
    lines = _Lines(stream)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if source.quote else csv.QUOTE_NONE
    mark = source.quote or None
    width = len(source.columns or ())
    try:
        while True:
            number = lines.begin_row()
            reader = csv.reader(
                iter(lines.take, ""), strict=True, delimiter=source.delimiter, quotechar=mark, quoting=quoting
            )
            problem = ""
            try:
                cells = next(reader)
            except StopIteration:
                if not lines.is_too_long:
                    return
                problem = "line.too_long"
            except csv.Error:
                problem = "csv.malformed"
            else:
                if len(cells) < 2 and not "".join(cells).strip():
                    continue
                width = width or len(cells)
                if len(cells) != width:
                    problem = "csv.field_count"
                elif not all(map(_is_decoded, cells)):
                    problem = "line.encoding"
            if not problem:
                yield Row(number, cells)
                continue
            lines.give_back()
            yield Issue(file, number, None, problem, rejects_record=True)
    except (OSError, UnicodeError):
        yield Issue(file, lines.number, None, "file.unreadable", rejects_record=True)


def _is_decoded(cell: str) -> bool:
    return cell.isascii() or not any(char == "\ufffd" or "\udc80" <= char <= "\udcff" for char in cell)


class _Lines:
    """Lines of a text, row by row: a row takes more than one where a quoted cell holds line breaks.

    Those after the first can be given back, so that a quote left open does not swallow them.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._again: deque[str | None] = deque()
        self._row: list[str | None] = []
        self.number = 0
        """Of the last line that was taken."""

    def begin_row(self) -> int:
        """Return the number of the line at which the next row begins."""
        self._row.clear()
        return self.number + 1

    @property
    def is_too_long(self) -> bool:
        """Whether the row is a line that is too long to be held."""
        return self._row == [None]

    def give_back(self) -> None:
        """Make the lines of a row after the first the next ones."""
        self._again.extendleft(reversed(self._row[1:]))
        self.number -= len(self._row) - 1
        del self._row[1:]

    def take(self) -> str:
        """Return the next line of the row; an empty text where the row cannot go on."""
        line = "" if len(self._row) >= MAX_ROW_LINES else self._again.popleft() if self._again else self._read()
        if line != "":
            self._row.append(line)
            self.number += 1
        return line or ""

    def _read(self) -> str | None:
        """Read a line; None where it is too long, and an empty text at the end."""
        line = self._stream.readline(MAX_LINE_CHARS + 1)
        if len(line) <= MAX_LINE_CHARS or line.endswith(("\n", "\r")):
            return line
        while (rest := self._stream.readline(MAX_LINE_CHARS)) and not rest.endswith(("\n", "\r")):
            pass
        return None


# Parquet


@contextmanager
def _parquet(path: Path, mapping: MappingFile) -> Iterator[_Part]:
    import pyarrow as pa  # noqa: PLC0415 - a fifth of a second that only Parquet needs
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    try:
        with path.open("rb") as stream:
            try:
                # Page by page instead of whole row groups, as a row group may be as large as the file. Where that is
                # small, whole columns: a page is then never larger than what is there, whatever its header says.
                buffer_size = 0 if path.stat().st_size <= MAX_WHOLE_BYTES else 1 << 20
                file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=buffer_size)
                places = dict(_fields(file.schema_arrow))
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                # A name of a column that is not UTF-8 is a UnicodeDecodeError.
                raise ConfigError(f"[source], path: {path}: no Parquet file that can be read") from None
            mapping.check_columns(list(places), source=str(path))
            columns = list(mapping.columns())
            yield _Part(columns, _parquet_rows(file, [places[name] for name in columns], str(path)))
    except OSError as error:
        raise ConfigError(f"[source], path: {path}: {error.strerror}") from None


def _fields(schema: pa.Schema) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Yield each column with its place: its name, and the positions of structures inside it. ``a.b`` is b inside a."""
    import pyarrow as pa  # noqa: PLC0415 - loaded before

    todo: deque[tuple[str, tuple[str | int, ...], Any]] = deque((f.name, (f.name,), f.type) for f in schema)
    while todo:
        name, place, kind = todo.popleft()
        yield name, place
        if pa.types.is_struct(kind):
            inner = (kind.field(position) for position in range(kind.num_fields))
            todo.extend((f"{name}.{f.name}", (*place, position), f.type) for position, f in enumerate(inner))


def _parquet_rows(file: Any, places: Sequence[tuple[str | int, ...]], name: str) -> _Rows:  # noqa: ANN401 - it has no types
    import pyarrow as pa  # noqa: PLC0415 - loaded before
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    number = 0
    try:
        roots = list(dict.fromkeys(str(place[0]) for place in places))
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=roots, use_threads=False):
            columns = []
            for root, *inner in places:
                array = batch.column(root)
                columns.append(_values(pc.struct_field(array, inner) if inner else array))
            for cells in zip(*columns, strict=True):
                number += 1
                yield Row(number, cells)
    except (pa.ArrowException, OSError):
        yield Issue(name, number + 1, None, "file.unreadable", rejects_record=True)


def _values(array: Any) -> list[object]:  # noqa: ANN401 - it has no types
    import pyarrow as pa  # noqa: PLC0415 - loaded before

    if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
        # Python has no nanoseconds.
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    try:
        values: list[object] = array.to_pylist()
    except (ValueError, ArithmeticError, LookupError):
        # One value that Python has no form for must not cost the others.
        values = [_value(each) for each in array]
    return values


def _value(scalar: Any) -> object:  # noqa: ANN401 - it has no types
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return Code("cell.binary")
    except (ValueError, ArithmeticError, LookupError):
        return Code("cell.type")


# Databases


@contextmanager
def _connected(source: SqlSource, folder: Path, environ: Mapping[str, str]) -> Iterator[Connection]:
    """Open a transaction that reads and is rolled back."""
    url, where = _url(source, folder, environ)
    options: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    try:
        if url.get_backend_name() == "sqlite":
            # Made here and not inside the call, so that its own text can name the file.
            path = _sqlite_file(url, folder)
            engine = sa.create_engine("sqlite://", creator=lambda: _sqlite(path), **options)
        else:
            if url.drivername == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            if url.drivername == "postgresql+psycopg" and "connect_timeout" not in url.query:
                # By itself it would wait for a host that does not answer until TCP gives up.
                url = url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})
            engine = sa.create_engine(url, **options)
    except (NoSuchModuleError, ModuleNotFoundError):
        raise ConfigError(
            f"{where}: the driver of this database is not installed; for PostgreSQL: "
            "pip install 'connector-psi[postgresql]'"
        ) from None
    except (SQLAlchemyError, TypeError, ValueError):
        # A setting of the URL that the driver does not have; the text may hold the URL.
        raise ConfigError(f"{where}: the driver does not take this URL") from None
    try:
        connection = engine.connect()
    except (SQLAlchemyError, OSError, TypeError) as error:
        raise UnavailableError(
            f"{where}: the database cannot be reached, or refuses the login ({_state(error)})"
        ) from None
    try:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
            _keep_infinity(connection)
        yield connection
    finally:
        _close(connection)
        engine.dispose()


def _url(source: SqlSource, folder: Path, environ: Mapping[str, str]) -> tuple[URL, str]:
    """Return the URL of the database, and the key of the mapping that leads to it."""
    if source.url_env is not None:
        where, text = "[source], url_env", environ.get(source.url_env)
        if not text:
            raise ConfigError(f"{where}: the environment variable {source.url_env} is not set")
    elif source.url_file is not None:
        where, path = "[source], url_file", folder / source.url_file
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{where}: {path} cannot be read") from None
    else:
        where, text = "[source], url", source.url or ""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(f"{where}: no URL of a database, such as postgresql://user@host/name") from None
    if source.url is not None and (url.password is not None or re.search(r"(?i)p(ass)?w(or)?d\s*(=|%3d)", text)):
        raise ConfigError(f"{where}: holds a password; keep it outside of the mapping, in url_env or url_file")
    return url, where


def _sqlite_file(url: URL, folder: Path) -> Path:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigError("[source], url: name the file of the SQLite database, such as sqlite:///cases.db")
    path = folder / url.database
    if not path.is_file():
        raise ConfigError(f"[source], url: {path}: no such file")
    return path


def _sqlite(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
    # A text with wrong bytes is one bad cell and not the end.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return connection


def _keep_infinity(connection: Connection) -> None:
    """Let times that Python has no form for, such as ``infinity``, arrive as text."""
    raw = connection.connection.dbapi_connection
    if connection.dialect.driver != "psycopg" or raw is None:
        return
    import psycopg  # noqa: PLC0415 - an extra

    def lenient(inner: type[psycopg.abc.Loader]) -> type[psycopg.abc.Loader]:
        class Lenient(psycopg.adapt.Loader):
            def __init__(self, oid: int, context: psycopg.abc.AdaptContext | None = None) -> None:
                super().__init__(oid, context)
                self._inner = inner(oid, context)

            def load(self, data: psycopg.abc.Buffer) -> object:
                try:
                    return self._inner.load(data)
                except psycopg.DataError:
                    return bytes(data).decode()

        return Lenient

    adapters = raw.adapters
    for name in ("date", "timestamp", "timestamptz"):
        known = adapters.get_loader(adapters.types[name].oid, psycopg.pq.Format.TEXT)
        adapters.register_loader(name, lenient(known))


@contextmanager
def _queried(connection: Connection, source: SqlSource, begin: Mark | None, *, file: str) -> Iterator[_Part]:
    statement = _statement(connection, source, begin)
    with ExitStack() as stack:
        try:
            result = connection.execution_options(stream_results=True, yield_per=BATCH_ROWS).execute(statement)
            stack.callback(_close, result)
            if not result.returns_rows:
                raise ConfigError("[source], query: it gives no rows; write a SELECT")
            # A database may begin to work only now: what is wrong with the query is said before anything is taken in.
            first = result.fetchone()
        except SQLAlchemyError as error:
            raise _refused(error) from None
        yield _Part(list(result.keys()), _fetched(result, first, file))


def _close(opened: Connection | sa.CursorResult[Any]) -> None:
    # Where the database broke off, closing fails too; it was only read, so that nothing is lost.
    with suppress(SQLAlchemyError):
        opened.close()


def _fetched(result: sa.CursorResult[Any], first: sa.Row[Any] | None, file: str) -> _Rows:
    if first is None:
        return
    number = 1
    yield Row(number, first)
    try:
        for row in result:
            number += 1
            yield Row(number, row)
    except (SQLAlchemyError, ValueError, OSError):
        # Some drivers raise their own where a value has no form in Python.
        yield Issue(file, number + 1, None, "source.failed", rejects_record=True)


_SELECT: Final = re.compile(r"(?is)\A(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(?:select|with|values|table)\b")
_PARAMETER: Final = re.compile(rf"(?<![:\w\\]):(?!{WATERMARK}\b)(?=\w)")


def _statement(connection: Connection, source: SqlSource, begin: Mark | None) -> sa.TextClause:
    """Write what the database is asked.

    A query without ``:watermark`` becomes a part of another one that has it. Rows whose watermark is NULL come every
    time: nothing tells that they are old. The query is the operator's own, and the name of the column is quoted.
    """
    query = source.query.rstrip().rstrip(";")
    if not _SELECT.match(query):
        raise ConfigError("[source], query: it does not begin with SELECT or WITH")
    query = _PARAMETER.sub(r"\\:", query)
    if source.watermark and not has_watermark(source.query):
        column = connection.dialect.identifier_preparer.quote(source.watermark)
        after = "" if begin is None else f"WHERE mapped.{column} >= :{WATERMARK} OR mapped.{column} IS NULL\n"
        query = f"SELECT * FROM (\n{query}\n) mapped\n{after}ORDER BY mapped.{column}"  # noqa: S608 - see above
        if begin is None:
            return sa.text(query)
    elif not source.watermark:
        return sa.text(query)
    return sa.text(query).bindparams(sa.bindparam(WATERMARK, begin, type_=_sql_type(begin)))


def _sql_type(mark: Mark | None) -> sa.types.TypeEngine[Any]:
    match mark:
        case datetime():
            return sa.DateTime(timezone=mark.tzinfo is not None)
        case date():
            return sa.Date()
        case int():
            return sa.BigInteger()
        case float():
            return sa.Double()
        case Decimal():
            return sa.Numeric()
        case bytes():
            return sa.LargeBinary()
        case _:
            return sa.String()


# SQLSTATE class 42: what is wrong with a statement, its names and rights, before any row is looked at.
_ABOUT_THE_QUERY: Final = "42"
_SQLITE_ABOUT_THE_QUERY: Final = re.compile(
    r"no such (?:column|table|function)|ambiguous column name|near \"|incomplete input"
)


def _state(error: BaseException) -> str:
    """Name a driver's error by its code, without its text."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return str(code or type(cause).__name__)


def _refused(error: SQLAlchemyError) -> ConfigError | UnavailableError:
    cause = getattr(error, "orig", None)
    text = ""
    if isinstance(cause, sqlite3.Error):
        text = str(cause) if _SQLITE_ABOUT_THE_QUERY.match(str(cause)) else ""
    elif str(getattr(cause, "sqlstate", "")).startswith(_ABOUT_THE_QUERY):
        text = str(getattr(getattr(cause, "diag", None), "message_primary", "") or "")
    elif isinstance(error, OperationalError):
        return UnavailableError(f"[source], query: the database does not answer ({_state(error)})")
    return ConfigError(f"[source], query: the database refuses it ({_state(error)})" + (f": {text}" if text else ""))
