"""Any bytes and any cells into a mapping: items come out, never an exception, and no issue repeats what was in them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.adapters.mapping import read_mapping
from connector_psi.domain.cells import Code, plain, usable
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.intake import Item
from connector_psi.domain.mapping import parse_mapping
from connector_psi.domain.records import Issue, Record
from connector_psi.domain.rows import Counts, Row, RowMapper
from connector_psi.domain.watermarks import Watermark
from connector_psi.errors import ConfigError, PurposeRefusedError

NOW = datetime(2026, 11, 25, tzinfo=UTC)
VIN = "WVWZZZ1JZ3W386752"
PLANT = "QZPLANT7"
COLUMNS = ["id", "a", "b", "c", "d", "e"]
EVERYTHING = """
[source]
name = "cases"
system = "EIS"
category = "eis.person"
kind = "csv"
path = "cases.csv"
empty = ["n/a"]
date_formats = ["%d.%m.%Y"]
timezone = "Europe/Vienna"

[record]
ref = ["id"]
when = {column = "e", filled = false}
version = "a"
valid_until = "b"
withdrawn = "c"
hidden = "d"

[[identifier]]
type = "plate"
column = ["a", "b"]
country = {column = "c", map = {x = "DE"}, default = "AT"}
field = "means"

[[identifier]]
type = "identity_document"
column = "a"
last = "b"
country = "c"
document_type = {constant = "P"}

[[identifier]]
type = "firearm"
column = "b"
split = "|"
make = "c"
calibre = "d"

[[party]]
role = "subject"
name = ["a", "b"]
aliases = "c"
split = "|"
birth_date = "b"
nationality = "d"
country = "c"
kind = "d"

[[field]]
name = "handling_codes"
column = "a"
split = "|"

[[field]]
name = "subject_class"
column = "b"

[[free_text]]
column = "c"
"""
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["", "n/a", "yes", "no", "2026-01-01", "17.05.1980", "1980-00-00", "infinity", "DE", "B-XY 1234", "P", "H0|H1", "suspect", PLANT, f"{PLANT}\0", VIN]
)  # fmt: skip
CELLS = st.recursive(
    TEXTS
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.binary(max_size=10)
    | st.ip_addresses(v=4)
    | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
fixed = settings(derandomize=True, database=None, deadline=None, max_examples=200)


@contextmanager
def folder(**files: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file.replace("__", ".")).write_bytes(content)
        yield Path(name) / "mapping.toml"


def checked(items: list[Item]) -> list[Item]:
    for item in items:
        if isinstance(item, Issue):
            assert item.path is None or set(item.path.split("+")) <= {*COLUMNS, "vin"}
            assert PLANT not in str(item)
        if isinstance(item, Record):
            assert item.source_ref.isprintable()
            for identifier in item.identifiers:
                assert normalise(identifier.type, identifier.value) == identifier.value
            for texts in (*item.fields.values(), *([p.name, *p.aliases, p.address] for p in item.parties)):
                "".join(texts).encode()
    return items


def read_or_refused(path: Path) -> None:
    said = ""
    try:
        checked(list(read_mapping(path, now=NOW)))
    except ConfigError as error:
        said = str(error)
    assert PLANT not in said


@fixed
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_a_mapping_are_refused_in_one_way(raw: bytes) -> None:
    try:
        parse_mapping(raw)
    except (ConfigError, PurposeRefusedError):
        return


@fixed
@given(st.data())
def test_a_mapping_with_a_piece_changed_is_taken_or_refused_in_one_way(data: st.DataObject) -> None:
    words = EVERYTHING.split(" ")
    place = data.draw(st.integers(0, len(words) - 1))
    words[place] = data.draw(
        st.sampled_from(
            ["", "1", '"x"', "[]", "{}", "true", "=", "\n", "[[x]]", "2026-01-01", "nan", '"' + "x" * 300 + '"']
        )
    )
    try:
        found = parse_mapping(" ".join(words).encode())
    except (ConfigError, PurposeRefusedError):
        return
    assert found.columns()
    assert len(found.fingerprint) == 16


@fixed
@given(st.lists(st.lists(CELLS, min_size=6, max_size=6), max_size=5))
def test_any_cells_are_rows(table: list[list[object]]) -> None:
    mapping = parse_mapping(EVERYTHING.encode())
    counts = Counts()
    mapper = RowMapper(mapping, COLUMNS, counts=counts, read_at=NOW)
    items = list(mapper.map((Row(number, cells) for number, cells in enumerate(table, start=1)), file="f"))
    checked(items)
    assert counts.rows == len(table) == counts.records + counts.rejected + counts.skipped + counts.withdrawn
    again = RowMapper(mapping, COLUMNS, counts=Counts(), read_at=NOW)
    assert items == list(again.map((Row(number, cells) for number, cells in enumerate(table, start=1)), file="f"))


@fixed
@given(CELLS)
def test_a_cell_that_was_read_reads_the_same_again(cell: object) -> None:
    text = plain(cell)
    assert plain(text) == text
    if isinstance(text, str):
        once = usable(text)
        assert once == (once if isinstance(once, Code) else usable(once))


@fixed
@given(st.lists(CELLS, max_size=6))
def test_a_watermark_that_is_kept_is_the_one_that_comes_back(seen: list[object]) -> None:
    mapping = parse_mapping(EVERYTHING.encode())
    mark = Watermark("f", None, calendar=mapping.calendar, now=NOW)
    for cell in seen:
        mark.follow(cell)
    again = Watermark("f", mark.text, calendar=mapping.calendar, now=NOW)
    assert (again.value, type(again.value)) == (mark.value, type(mark.value))
    again.begin(600)


@fixed
@given(
    st.binary(max_size=200) | st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"7", b"ab", PLANT.encode()]), max_size=60).map(b"".join),
    st.sampled_from(["utf-8", "utf-16", "windows-1252", "us-ascii"]),
)  # fmt: skip
def test_any_bytes_as_csv(body: bytes, encoding: str) -> None:
    rules = EVERYTHING.replace('kind = "csv"', f'kind = "csv"\nencoding = "{encoding}"')
    header = ",".join(COLUMNS).encode("utf-16" if encoding == "utf-16" else "ascii") + "\n".encode(
        "utf-16-le" if encoding == "utf-16" else "ascii"
    )
    with folder(mapping__toml=rules.encode(), cases__csv=header + body) as path:
        checked(list(read_mapping(path, now=NOW)))
    with folder(mapping__toml=rules.encode(), cases__csv=body) as path:
        read_or_refused(path)


SMALL = """
[source]
name = "cases"
system = "EIS"
category = "eis.vehicle"
kind = "KIND"
path = "cases.KIND"
[record]
ref = "id"
[[identifier]]
type = "vin"
column = "vin"
"""


@fixed
@given(
    st.lists(
        st.sampled_from(["good", '1,"open', 'a "quote" b,2', "1,2,3", '"x"y,1', "\0", f'"{PLANT}', '1,""', ",", '"']),
        max_size=12,
    )
)
def test_a_row_with_one_bad_quote_costs_no_other(lines: list[str]) -> None:
    """Two open quotes may close one another; with at most one, every good row comes out."""
    if sum(line.count('"') % 2 for line in lines) > 1:
        return
    body = "id,vin\n" + "".join(
        f"{number},{VIN}\n" if line == "good" else f"{line}\n" for number, line in enumerate(lines)
    )
    with folder(mapping__toml=SMALL.replace("KIND", "csv").encode(), cases__csv=body.encode()) as path:
        items = checked(list(read_mapping(path, now=NOW)))
    found = {item.source_ref for item in items if isinstance(item, Record)}
    assert found >= {f"cases/{number}" for number, line in enumerate(lines) if line == "good"}


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"id": list(range(60)), "vin": [VIN] * 60, "more": [{"x": [PLANT]}] * 60})
    pq.write_table(table, sink, row_group_size=20)
    return bytes(sink.getvalue())


PARQUET = _parquet()


@fixed
@given(
    st.lists(st.tuples(st.integers(0, len(PARQUET) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, len(PARQUET)),
)
def test_any_damage_to_parquet(changes: list[tuple[int, int]], end: int) -> None:
    raw = bytearray(PARQUET)
    for place, value in changes:
        raw[place] = value
    for content in (bytes(raw), PARQUET[:end]):
        with folder(mapping__toml=SMALL.replace("KIND", "parquet").encode(), cases__parquet=content) as path:
            read_or_refused(path)
