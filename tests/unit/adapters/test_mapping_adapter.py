"""Reading tables: CSV, Parquet and SQLite, in bounded memory, with what is wrong in them at its place."""

from __future__ import annotations

import re
import sqlite3
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connector_psi.adapters import formats
from connector_psi.adapters import mapping as adapter
from connector_psi.adapters.mapping import Reading, load_mapping, read_mapping
from connector_psi.domain.records import Issue, Record, SourceSystem, Supersession
from connector_psi.errors import ConfigError, PurposeRefusedError, UnavailableError

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
VIN, VIN_2 = "WVWZZZ1JZ3W386752", "WVWZZZ1JZ3W386753"

SOURCE = """
[source]
name = "cars"
system = "AFIS"
category = "afis.vehicle"
"""
RULES = """
[record]
ref = "id"
[[identifier]]
type = "vin"
column = "vin"
"""


def mapping_file(folder: Path, keys: str, rules: str = RULES, *, name: str = "mapping.toml") -> Path:
    path = folder / name
    path.write_text(SOURCE + keys + rules, encoding="utf-8")
    return path


def csv_mapping(folder: Path, content: bytes | str, keys: str = "", rules: str = RULES) -> Path:
    (folder / "cars.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return mapping_file(folder, f'kind = "csv"\npath = "cars.csv"\n{keys}', rules)


def parquet_mapping(folder: Path, table: pa.Table, keys: str = "", rules: str = RULES, **options: Any) -> Path:
    pq.write_table(table, folder / "cars.parquet", **options)
    return mapping_file(folder, f'kind = "parquet"\npath = "cars.parquet"\n{keys}', rules)


def sqlite_mapping(
    folder: Path,
    rows: Sequence[Sequence[object]],
    *,
    query: str = "SELECT * FROM cars",
    keys: str = "",
    rules: str = RULES,
) -> Path:
    database = sqlite3.connect(folder / "cars.db")
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS cars (id, vin, changed)")
        database.executemany("INSERT INTO cars VALUES (?, ?, ?)", rows)
    database.close()
    return mapping_file(folder, f'kind = "sql"\nurl = "sqlite:///cars.db"\nquery = """{query}"""\n{keys}', rules)


def read(path: Path, watermark: str | None = None, *, now: datetime = NOW, **environ: str) -> tuple[list[Any], Reading]:
    reading = read_mapping(path, now=now, watermark=watermark, environ=environ)
    return list(reading), reading


def refs(items: Sequence[Any]) -> list[str]:
    return [item.source_ref.removeprefix("cars/") for item in items if isinstance(item, Record)]


def told(items: Sequence[Any]) -> list[tuple[int | None, str | None, str, bool]]:
    return [(i.line, i.path, i.code, i.rejects_record) for i in items if isinstance(i, Issue)]


def refused(path: Path, kind: type[Exception] = ConfigError, **environ: str) -> str:
    with pytest.raises(kind) as caught:
        read(path, **environ)
    return str(caught.value)


# The mapping


def test_a_mapping_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: No such file"):
        load_mapping(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("[source")
    with pytest.raises(ConfigError, match=r"bad\.toml: the mapping is not TOML"):
        load_mapping(tmp_path / "bad.toml")
    (tmp_path / "pnr.toml").write_text('[source]\nsystem = "PNR"\n')
    with pytest.raises(PurposeRefusedError):
        load_mapping(tmp_path / "pnr.toml")


def test_a_mapping_is_no_format_of_files() -> None:
    assert not any("mapping" in name for name in formats.FORMATS)


# CSV


def test_csv_of_an_agency(tmp_path: Path) -> None:
    path = csv_mapping(
        tmp_path,
        "\ufeffvin;unused;id\r\nWVWZZZ1JZ3W386752;x;1\r\n\r\n'WVWZZZ1JZ3W386753';'a;''b''\r\nc';2\r\n",
        'delimiter = ";"\nquote = "\'"',
    )
    items, reading = read(path)
    assert [(i.source_ref, i.identifiers[0].value, i.source) for i in items] == [
        ("cars/1", VIN, SourceSystem.AFIS),
        ("cars/2", VIN_2, SourceSystem.AFIS),
    ]
    assert (reading.watermark, reading.counts.rows, reading.mapping.key) == (None, 2, "AFIS/cars")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-16", "id,vin\n1ä,%s\n"),
        ("windows-1252", "id,vin\n1ä€,%s\n"),
        ("iso-8859-7", "id,vin\n1Ω,%s\n"),
        ("utf-8", "id,vin\n1ä,%s\n"),
    ],
)
def test_csv_in_other_encodings(tmp_path: Path, encoding: str, text: str) -> None:
    path = csv_mapping(tmp_path, (text % VIN).encode(encoding), f'encoding = "{encoding}"')
    [record] = read(path)[0]
    assert record.source_ref == "cars/" + text.split("\n")[1].partition(",")[0]


def test_csv_without_header_and_without_quotes(tmp_path: Path) -> None:
    path = csv_mapping(
        tmp_path, f'1\t{VIN}\t5" wheel\n', 'delimiter = "\\t"\nquote = ""\ncolumns = ["id", "vin", "note"]'
    )
    assert refs(read(path)[0]) == ["1"]


@pytest.mark.parametrize(
    ("body", "expected", "issues"),
    [
        # A quote that never closes costs its row alone.
        (f'1,"{VIN}\n2,{VIN}\n3,{VIN}\n', ["2", "3"], [(2, None, "csv.malformed", True)]),
        (f'1,{VIN}\n2,"{VIN}\n3,"x" y\n4,{VIN}\n', ["1", "4"], [(3, None, "csv.malformed", True), (4, None, "csv.malformed", True)]),
        # An inch sign is no quote.
        (f'1",{VIN}\n2,{VIN}\n', ['1"', "2"], []),
        (f'"1\n\n"",a",{VIN}\n2,{VIN}\n', ['1 ",a', "2"], []),
        (f"1,{VIN},3\n2\n3,{VIN}\n", ["3"], [(2, None, "csv.field_count", True), (3, None, "csv.field_count", True)]),
        (f"1\0,{VIN}\n2,{VIN}", ["2"], [(2, "id", "cell.not_printable", True)]),
        (f"1\r2,{VIN}\r3,{VIN}", ["2", "3"], [(2, None, "csv.field_count", True)]),
        (f"1,{'x' * 140_000}\n2,{VIN}\n", ["2"], [(2, None, "csv.malformed", True)]),
        (f"1,{'x' * 1_100_000}\n2,{VIN}\n", ["2"], [(2, None, "line.too_long", True)]),
        (f"1,{VIN}\n" + '"' * 1999 + f"\n2,{VIN}\n", ["1", "2"], [(3, None, "csv.malformed", True)]),
    ],
    ids=["open", "odd", "inch", "lines", "width", "nul", "cr", "cell", "line", "quotes"],
)  # fmt: skip
def test_a_bad_row_of_csv_costs_itself(tmp_path: Path, body: str, expected: list[str], issues: list[Any]) -> None:
    items, _ = read(csv_mapping(tmp_path, "id,vin\n" + body))
    assert refs(items) == expected
    assert told(items) == issues


def test_a_row_in_another_encoding_costs_itself(tmp_path: Path) -> None:
    items, _ = read(csv_mapping(tmp_path, f"id,vin\n1,{VIN}\nä,{VIN}\n2,{VIN}\n".encode("latin-1")))
    assert (refs(items), told(items)) == (["1", "2"], [(3, None, "line.encoding", True)])
    broken = f"id,vin\n1,{VIN}\n".encode("utf-16") + b"\x00\xd8" + f",{VIN}\n3,{VIN}\n".encode("utf-16-le")
    items, _ = read(csv_mapping(tmp_path, broken, 'encoding = "utf-16"'))
    assert (refs(items), told(items)) == (["1", "3"], [(3, None, "line.encoding", True)])


def test_open_quotes_do_not_cost_the_square_of_their_number(tmp_path: Path) -> None:
    rows = "".join(f'{number},"{VIN}\n' if number % 2 else f"{number},{VIN}\n" for number in range(3_000))
    items, _ = read(csv_mapping(tmp_path, "id,vin\n" + rows))
    # Two open quotes close one another, so that rows between them are one row with too many lines for a number.
    assert len(refs(items)) + len(told(items)) > 100


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b'"id,vin\n', "no usable header line: csv.malformed"),
        (b"id,v\xefn\n1,2\n", "no usable header line: line.encoding"),
        (b"id;vin\n1;2\n", "none of the columns that the mapping names in its first line"),
        (b"4711,WVWZZZ1JZ3W386752\n", "none of the columns"),
        (b"id,number,vin2\n", "[[identifier]] 1, column: "),
        (b"id,vin,vin\n", "has the column 'vin' more than once"),
    ],
)
def test_a_file_without_the_columns_is_refused_at_once(tmp_path: Path, content: bytes, says: str) -> None:
    text = refused(csv_mapping(tmp_path, content))
    assert says in text
    assert "4711" not in text
    assert VIN not in text


def test_a_missing_column_is_said_with_those_that_are_there(tmp_path: Path) -> None:
    assert refused(csv_mapping(tmp_path, b"id,number,colour\n")).endswith(
        "has no column 'vin'; it has id, number, colour"
    )


def test_several_files_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.csv", "b/1.csv", "b/x.txt"):
        (tmp_path / name).write_text(f"vin,id\n{VIN},{name[2]}\n,9\n")
    items, reading = read(mapping_file(tmp_path, 'kind = "csv"\npath = "b/*.csv"\nmode = "full"\n'))
    assert refs(items) == ["1", "2"]
    assert [(Path(i.file).name, i.line) for i in items if isinstance(i, Issue)] == [("1.csv", 3), ("2.csv", 3)]
    assert isinstance(items[-1], Supersession)
    assert reading.counts.rows == 4
    assert "no file is named like" in refused(mapping_file(tmp_path, 'kind = "csv"\npath = "c/*.csv"\n'))
    assert "No such file" in refused(mapping_file(tmp_path, 'kind = "csv"\npath = "c.csv"\n'))
    assert "Is a directory" in refused(mapping_file(tmp_path, 'kind = "csv"\npath = "b"\n'))


def test_a_full_source_with_rows_that_could_be_anything_takes_nothing_back(tmp_path: Path) -> None:
    keys = 'mode = "full"'
    items, _ = read(csv_mapping(tmp_path, f"id,vin\n1,{VIN}\n2,?\n", keys))
    assert isinstance(items[-1], Supersession), "row 2 is known, and says nothing that is usable"
    items, _ = read(csv_mapping(tmp_path, f"id,vin\n1,{VIN}\n2\n", keys))
    assert told(items) == [(3, None, "csv.field_count", True), (None, None, "mapping.incomplete", False)]
    items, _ = read(csv_mapping(tmp_path, "id,vin\n", keys))
    assert told(items) == [(None, None, "mapping.empty", False)]


# Parquet


def test_parquet_with_nested_and_nasty_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2, 3, 4], pa.int64()),
            "vin": pa.array([VIN, None, "half", b"\xff\xfe".decode("latin-1")], pa.string()),
            "owner": pa.array(
                [{"name": "Muster", "docs": ["AB123456", "CD123456"], "home": {"city": "Wien"}}, None, {"name": None, "docs": [], "home": None}, {"name": "N\0", "docs": [None], "home": {"city": "x"}}]
            ),
            "born": pa.array([date(1980, 5, 17), None, date(1, 1, 1), date(9999, 12, 31)], pa.date32()),
            "phone": pa.array([4.930123456e11, float("nan"), float("inf"), 1.5], pa.float64()),
            "until": pa.array([1_800_000_000_123_456_789, None, 0, -(2**62)], pa.timestamp("ns", "UTC")),
            "money": pa.array([Decimal("5.00"), None, Decimal("-0.10"), Decimal("99999999.99")], pa.decimal128(10, 2)),
            "blob": pa.array([b"\xff", b"text", None, b""], pa.binary()),
            "list": pa.array([[{"a": 1}], [], None, [{"a": 2}]]),
            "kind": pa.array(["car", "car", "van", None]).dictionary_encode(),
        }
    )  # fmt: skip
    rules = """
[record]
ref = "id"
[[identifier]]
type = "vin"
column = "vin"
[[identifier]]
type = "identity_document"
column = "owner.docs"
country = {constant = "AT"}
document_type = {constant = "passport"}
[[identifier]]
type = "phone"
column = "phone"
country = {constant = "DE"}
[[party]]
role = "owner"
name = "owner.name"
birth_date = "born"
address = "owner.home.city"
[[field]]
name = "eta"
column = "until"
[[field]]
name = "hs6"
column = "money"
[[field]]
name = "route"
column = "blob"
[[field]]
name = "flags"
column = "list"
[[field]]
name = "object_type"
column = "kind"
"""
    items, _ = read(parquet_mapping(tmp_path, table, rules=rules))
    first = next(i for i in items if isinstance(i, Record))
    assert [(i.type.value, i.value, i.source_path) for i in first.identifiers] == [
        ("vin", VIN, "vin"),
        ("identity_document", "AT/P/AB123456", "owner.docs"),
        ("identity_document", "AT/P/CD123456", "owner.docs"),
        ("phone", "+493012345600", "phone"),
    ]
    assert (first.parties[0].name, first.parties[0].birth_date, first.parties[0].address) == (
        "Muster",
        "1980-05-17",
        "Wien",
    )
    assert {name.value: values for name, values in first.fields.items()} == {
        "eta": ("2027-01-15T08:00:00.123456+00:00",),
        "hs6": ("5",),
        "object_type": ("car",),
    }
    assert {(line, path, code) for line, path, code, _ in told(items)} >= {
        (1, "blob", "cell.binary"),
        (1, "list", "cell.type"),
        (3, "phone", "phone.format"),
        (3, "vin", "vin.length"),
        (4, "owner.name", "cell.not_printable"),
    }
    assert not any("Muster" in repr(item) for item in items if isinstance(item, Issue))


def test_a_value_that_python_has_no_form_for_costs_itself(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2, 3]),
            "vin": pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(b"\x00\0\0\0\x11\0\0\0\x12\0\0\0\x23\0\0\0"), pa.py_buffer(VIN.encode() + b"\xff" + VIN_2.encode())]),
            "changed": pa.array([2**52, 0, 1], pa.timestamp("ms")),
        }
    )  # fmt: skip
    rules = RULES + '[[field]]\nname = "eta"\ncolumn = "changed"\n'
    items, _ = read(parquet_mapping(tmp_path, table, rules=rules))
    assert refs(items) == ["1", "3"]
    assert told(items) == [(1, "changed", "cell.type", False), (2, "vin", "cell.binary", True)]


def test_a_dotted_column_that_is_no_structure(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "a.vin": [VIN], "a": pa.array([{"b": 1}])})
    assert refs(
        read(
            parquet_mapping(
                tmp_path, table, rules=RULES.replace('"vin"\n', '"a.vin"\n').replace('type = "a.vin"', 'type = "vin"')
            )
        )[0]
    ) == ["1"]


def test_parquet_that_is_damaged(tmp_path: Path) -> None:
    table = pa.table({"id": list(range(5_000)), "vin": [VIN] * 5_000})
    path = parquet_mapping(
        tmp_path, table, row_group_size=1_000, compression="NONE", use_dictionary=False, data_page_size=2_000
    )
    raw = bytearray((tmp_path / "cars.parquet").read_bytes())
    assert "no Parquet file" in refused(csv_then_parquet(tmp_path))
    raw[len(raw) // 2 : len(raw) // 2 + 3_000] = b"\xff" * 3_000
    (tmp_path / "cars.parquet").write_bytes(raw)
    items, _ = read(path)
    assert told(items)[-1][2:] == ("file.unreadable", True)
    assert 0 < len(refs(items)) < 5_000
    (tmp_path / "cars.parquet").write_bytes(raw[:500])
    assert "no Parquet file" in refused(path)
    (tmp_path / "cars.parquet").unlink()
    assert "No such file" in refused(path)


def csv_then_parquet(folder: Path) -> Path:
    (folder / "x.parquet").write_bytes(b"id,vin\n")
    return mapping_file(folder, 'kind = "parquet"\npath = "x.parquet"\n', name="other.toml")


# SQLite


def test_a_query_to_sqlite_reads_and_cannot_write(tmp_path: Path) -> None:
    path = sqlite_mapping(tmp_path, [(1, VIN, None), ("two", VIN, None), (3.0, VIN.encode(), None), (None, VIN, None)])
    items, _ = read(path)
    assert refs(items) == ["1", "two", "3"]
    assert told(items) == [(4, "id", "mapping.ref_missing", True)]
    for query in ("DELETE FROM cars", "UPDATE cars SET id = 1", "-- SELECT\nDROP TABLE cars", "VACUUM"):
        assert "does not begin with SELECT" in refused(sqlite_mapping(tmp_path, [], query=query))
    deleting = "WITH a AS (SELECT 1) DELETE FROM cars"
    assert "the database refuses it (SQLITE_READONLY)" in refused(sqlite_mapping(tmp_path, [], query=deleting))
    assert "the database refuses it" in refused(sqlite_mapping(tmp_path, [], query="SELECT 1; DELETE FROM cars"))
    assert len(refs(read(sqlite_mapping(tmp_path, []))[0])) == 3


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT colour FROM cars", "SQLITE_ERROR): no such column: colour"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT * FROM", "incomplete input"),
        ("SELECT id AS a, vin AS a FROM cars", "the query has no column 'id'; it has a, a"),
        ("SELECT id, vin, vin FROM cars", "the column 'vin' more than once"),
        ("SELECT id, json_extract(vin, '$.a') AS vin FROM cars", "SQLITE_ERROR)"),
    ],
)
def test_what_is_wrong_with_a_query_is_said_without_values(tmp_path: Path, query: str, says: str) -> None:
    text = refused(sqlite_mapping(tmp_path, [(1, VIN, None)], query=query))
    assert says in text
    assert VIN not in text


def test_an_error_in_the_midst_of_a_query_ends_it_and_is_told(tmp_path: Path) -> None:
    query = "SELECT id, json_extract(vin, '$') AS vin FROM cars"
    path = sqlite_mapping(
        tmp_path,
        [(n, f'"{VIN}"', None) for n in range(700)] + [(700, "secret", None)],
        query=query,
        keys='mode = "full"',
    )
    items, _ = read(path)
    # The driver looks one row ahead.
    assert len(refs(items)) == 699
    assert told(items) == [(700, None, "source.failed", True), (None, None, "mapping.incomplete", False)]


def test_wrong_bytes_in_a_text_of_sqlite_cost_themselves(tmp_path: Path) -> None:
    path = sqlite_mapping(tmp_path, [(1, VIN, None)])
    database = sqlite3.connect(tmp_path / "cars.db")
    with database:
        database.execute("INSERT INTO cars VALUES (2, CAST(x'ff' AS TEXT), NULL)")
    database.close()
    items, _ = read(path)
    assert (refs(items), told(items)) == (["1"], [(2, "vin", "cell.not_printable", True)])


def test_colons_in_a_query_are_no_parameters(tmp_path: Path) -> None:
    query = "SELECT id, vin FROM cars WHERE changed = ' :x 10:30' OR vin LIKE '100%'"
    assert refs(read(sqlite_mapping(tmp_path, [(1, VIN, " :x 10:30"), (2, VIN, "")], query=query))[0]) == ["1"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "name the file of the SQLite database"),
        ("sqlite:///:memory:", "name the file"),
        ("sqlite:///file:cars.db?uri=true", "name the file"),
        ("sqlite:///other.db", "other.db: no such file"),
        ("postgresql://reader:hunter2@host/db", "holds a password"),
        ("postgresql://reader@host/db?password=hunter2", "holds a password"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter2", "holds a password"),
        ("hunter2 is no url", "no URL of a database"),
        ("nosuchdb://host/db", "the driver of this database is not installed"),
        ("mysql+nosuchdriver://host/db", "the driver of this database is not installed"),
    ],
)
def test_a_url_is_refused_without_being_shown(tmp_path: Path, url: str, says: str) -> None:
    text = refused(mapping_file(tmp_path, f'kind = "sql"\nurl = "{url}"\nquery = "SELECT 1"\n'))
    assert says in text
    assert "hunter2" not in text


def test_a_url_may_stand_in_the_environment_or_in_a_file(tmp_path: Path) -> None:
    sqlite_mapping(tmp_path, [(1, VIN, None)])
    path = mapping_file(tmp_path, 'kind = "sql"\nurl_env = "CARS_URL"\nquery = "SELECT * FROM cars"\n')
    assert refs(read(path, CARS_URL="sqlite:///cars.db")[0]) == ["1"]
    assert "[source], url_env: the environment variable CARS_URL is not set" in refused(path)
    assert "hunter2" not in refused(path, CARS_URL="hunter2")
    path = mapping_file(tmp_path, 'kind = "sql"\nurl_file = "url"\nquery = "SELECT * FROM cars"\n')
    assert "[source], url_file: " in refused(path)
    (tmp_path / "url").write_text("sqlite:///cars.db\n")
    assert refs(read(path)[0]) == ["1"]


def test_a_database_that_does_not_answer_is_unavailable_and_its_password_unsaid(tmp_path: Path) -> None:
    path = mapping_file(tmp_path, 'kind = "sql"\nurl_env = "URL"\nquery = "SELECT 1"\n')
    text = refused(path, UnavailableError, URL="postgresql://reader:hunter2@127.0.0.1:1/db?connect_timeout=2")
    assert text == "[source], url_env: the database cannot be reached, or refuses the login (OperationalError)"
    with pytest.raises(UnavailableError) as caught:
        read(path, URL="postgresql://reader:hunter2@127.0.0.1:1/db?connect_timeout=2")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "hunter2" not in repr(caught.value)


# Increments


def test_an_increment_begins_at_the_last_watermark_and_loses_nothing(tmp_path: Path) -> None:
    keys, rules = 'watermark = "changed"\noverlap = 0', RULES
    path = sqlite_mapping(tmp_path, [(1, VIN, 10), (2, VIN, 20), (3, VIN, 20), (4, VIN, None)], keys=keys, rules=rules)
    items, reading = read(path)
    assert sorted(refs(items)) == ["1", "2", "3", "4"]
    first = reading.watermark
    assert first is not None
    assert re.fullmatch(r"[0-9a-f]{16} integer 20", first)
    # Of the same time as the last one, later, earlier, and without any.
    sqlite_mapping(tmp_path, [(5, VIN, 20), (6, VIN, 21), (7, VIN, 19), (8, VIN, None)], keys=keys, rules=rules)
    items, reading = read(path, first)
    assert sorted(refs(items)) == ["2", "3", "4", "5", "6", "8"]
    assert reading.watermark == first.replace("20", "21")
    items, again = read(path, reading.watermark)
    assert sorted(refs(items)) == ["4", "6", "8"]
    assert again.watermark == reading.watermark
    # With the overlap that holds by default, what was committed late comes too.
    sqlite_mapping(tmp_path, [], keys='watermark = "changed"', rules=rules)
    assert "7" in refs(read(path, f"{load_mapping(path).fingerprint} integer 21")[0])


def test_a_changed_mapping_reads_every_row_again(tmp_path: Path) -> None:
    keys = 'watermark = "changed"\noverlap = 0'
    path = sqlite_mapping(tmp_path, [(1, VIN, 10), (2, VIN, 20)], keys=keys)
    watermark = read(path)[1].watermark
    assert refs(read(path, watermark)[0]) == ["2"]
    sqlite_mapping(tmp_path, [], keys=keys, rules=RULES + '[[field]]\nname = "eta"\ncolumn = "changed"\n')
    assert refs(read(path, watermark)[0]) == ["1", "2"]


def test_an_increment_that_is_empty_keeps_its_watermark(tmp_path: Path) -> None:
    path = sqlite_mapping(tmp_path, [], keys='watermark = "changed"')
    assert read(path)[1].watermark is None
    known = f"{load_mapping(path).fingerprint} integer 5"
    items, reading = read(path, known)
    assert (items, reading.watermark) == ([], known)


def test_what_broke_off_goes_on_where_it_broke(tmp_path: Path) -> None:
    path = sqlite_mapping(tmp_path, [(n, VIN, n) for n in range(1_200)], keys='watermark = "changed"\noverlap = 0')
    reading = read_mapping(path, now=NOW)
    items = iter(reading)
    taken = [next(items) for _ in range(700)]
    items.close()
    rest, again = read(path, reading.watermark)
    assert refs(rest)[0] in {"699", "700"}, "whatever was handed over may be forgotten, and nothing else"
    assert {*refs(taken), *refs(rest)} == {str(n) for n in range(1_200)}
    assert again.watermark is not None
    assert again.watermark.endswith("integer 1199")


def test_a_query_may_ask_with_the_watermark_itself(tmp_path: Path) -> None:
    query = "SELECT id, group_concat(vin, '|') AS vin, max(changed) AS changed FROM cars GROUP BY id HAVING max(changed) >= :watermark ORDER BY id"
    keys = 'watermark = "changed"\nwatermark_start = 0\noverlap = 0'
    rules = RULES.replace('column = "vin"', 'column = "vin"\nsplit = "|"')
    path = sqlite_mapping(tmp_path, [(1, VIN, 10), (1, VIN_2, 30), (2, VIN, 20)], query=query, keys=keys, rules=rules)
    items, reading = read(path)
    assert [[i.value for i in record.identifiers] for record in items] == [[VIN, VIN_2], [VIN]]
    assert reading.watermark is not None
    assert reading.watermark.endswith(" integer 30")
    assert refs(read(path, reading.watermark)[0]) == ["1"]


def test_a_query_may_begin_at_a_watermark(tmp_path: Path) -> None:
    path = sqlite_mapping(
        tmp_path,
        [(1, VIN, "2025-01-01"), (2, VIN, "2026-01-01")],
        keys='watermark = "changed"\nwatermark_start = "2026-01-01"',
    )
    assert refs(read(path)[0]) == ["2"]


def test_a_row_from_the_future_does_not_hide_what_comes_after(tmp_path: Path) -> None:
    path = sqlite_mapping(
        tmp_path, [(1, VIN, "2026-11-25 10:00"), (2, VIN, "9999-12-31 00:00")], keys='watermark = "changed"'
    )
    items, reading = read(path)
    assert refs(items) == ["1", "2"]
    assert told(items) == [(2, "changed", "mapping.watermark_in_future", False)]
    assert reading.watermark is not None
    assert reading.watermark.endswith(" text 2026-11-25 10:00")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_have_increments_too(tmp_path: Path, kind: str) -> None:
    def write(*rows: tuple[int, str]) -> Path:
        keys = 'watermark = "changed"\noverlap = 3600'
        if kind == "csv":
            return csv_mapping(tmp_path, "id,vin,changed\n" + "".join(f"{n},{VIN},{when}\n" for n, when in rows), keys)
        times = [datetime.fromisoformat(when) if when[:1].isdigit() else None for _, when in rows]
        table = pa.table(
            {"id": [n for n, _ in rows], "vin": [VIN] * len(rows), "changed": pa.array(times, pa.timestamp("us"))}
        )
        return parquet_mapping(tmp_path, table, keys)

    rows = [(2, "2026-11-02 12:00:00"), (1, "2026-11-01 12:00:00"), (3, "unknown"), (4, "2026-11-02T11:30:00")]
    items, reading = read(write(*rows))
    assert refs(items) == ["2", "1", "3", "4"]
    assert reading.watermark is not None
    assert reading.watermark.endswith(" time 2026-11-02T12:00:00+00:00")
    items, reading = read(write(*rows, (5, "2026-11-03 00:00:00"), (6, "2026-11-02 10:59:59")), reading.watermark)
    assert refs(items) == ["2", "3", "4", "5"]
    assert reading.watermark is not None
    assert reading.watermark.endswith(" time 2026-11-03T00:00:00+00:00")


def test_a_file_that_broke_off_keeps_the_watermark_that_was(tmp_path: Path) -> None:
    table = pa.table({"id": list(range(5_000)), "vin": [VIN] * 5_000, "changed": list(range(5_000))})
    path = parquet_mapping(
        tmp_path,
        table,
        'watermark = "changed"',
        row_group_size=1_000,
        compression="NONE",
        use_dictionary=False,
        data_page_size=2_000,
    )
    raw = bytearray((tmp_path / "cars.parquet").read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 3_000] = b"\xff" * 3_000
    (tmp_path / "cars.parquet").write_bytes(raw)
    items, reading = read(path)
    assert told(items)[-1][2] == "file.unreadable"
    assert reading.watermark is None


# Bounds


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        with (tmp_path / "cars.csv").open("w") as out:
            out.write("id,vin\n")
            out.writelines(f"{number},{VIN}\n" for number in range(rows))
        path = mapping_file(tmp_path, 'kind = "csv"\npath = "cars.csv"\n')
        tracemalloc.start()
        try:
            count = sum(isinstance(item, Record) for item in read_mapping(path, now=NOW))
            assert count == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(500)
    assert peak(6_000) < few + 300_000


def test_every_code_of_a_source_is_in_the_table() -> None:
    text = Path(adapter.__file__).read_text()
    written = set(re.findall(r'"((?:line|csv|file|source|mapping)\.[a-z_]+)"', text))
    assert written == set(adapter.SOURCE_CODES)


def test_what_a_reading_shows_of_itself_holds_no_url(tmp_path: Path) -> None:
    path = mapping_file(tmp_path, 'kind = "sql"\nurl_env = "URL"\nquery = "SELECT 1"\n')
    assert "hunter2" not in repr(read_mapping(path, now=NOW, environ={"URL": "sqlite:///hunter2"}))
