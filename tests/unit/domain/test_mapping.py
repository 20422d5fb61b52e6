"""The language of mapping.toml, and what a row becomes. Identifiers are invented or published check-digit examples."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from connector_psi.domain import cells, mapping, rows, watermarks
from connector_psi.domain.cells import Calendar, Code
from connector_psi.domain.coverage import COUNTS, Coverage
from connector_psi.domain.mapping import parse_mapping
from connector_psi.domain.records import (
    Field,
    Identifier,
    IdentifierType,
    Issue,
    Party,
    PartyKind,
    Record,
    Supersession,
)
from connector_psi.domain.records import SourceSystem as S
from connector_psi.domain.rows import Counts, Row, RowMapper
from connector_psi.domain.systems import SYSTEMS
from connector_psi.errors import ConfigError, PurposeRefusedError

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BOX, VIN, IMO = "CSQU3054383", "WVWZZZ1JZ3W386752", "9074729"

SOURCE = """
[source]
name = "cases"
system = "AFIS"
category = "afis.vehicle"
kind = "csv"
path = "cases.csv"
"""
RECORD = """
[record]
ref = "id"
"""
PLATE = """
[[identifier]]
type = "plate"
column = "reg"
country = "land"
"""


def naive(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc,arg-type]


def made(text: str = SOURCE + RECORD + PLATE) -> mapping.MappingFile:
    return parse_mapping(text.encode())


def mapped(text: str, columns: Sequence[str], *table: Sequence[object], counts: Counts | None = None) -> list[Any]:
    mapper = RowMapper(made(text), columns, counts=counts or Counts(), read_at=NOW)
    return list(mapper.map((Row(number, each) for number, each in enumerate(table, start=1)), file="cases.csv"))


def one(text: str, **row: object) -> Record:
    [record] = mapped(text, list(row), list(row.values()))
    assert isinstance(record, Record)
    return record


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        made(text)
    return str(caught.value)


def told(*items: Any) -> list[tuple[int | None, str | None, str, bool]]:
    return [(i.line, i.path, i.code, i.rejects_record) for i in items if isinstance(i, Issue)]


def values(record: Record) -> list[tuple[str, str, str]]:
    return [(i.type.value, i.value, i.role) for i in record.identifiers]


# The language


@pytest.mark.parametrize("code", [each.code for each in SYSTEMS.values() if each.refused])
def test_a_refused_system_stays_refused_whatever_else_the_mapping_says(code: str) -> None:
    for written in (code, code.lower()):
        with pytest.raises(PurposeRefusedError, match=f"{code} is refused: "):
            parse_mapping(f'[source]\nsystem = "{written}"\nnonsense = 1'.encode())


@pytest.mark.parametrize("code", [each.code for each in SYSTEMS.values() if not each.refused])
def test_every_other_system_can_be_read(code: str) -> None:
    prefix = SYSTEMS[code].category_prefix
    category = next(name for name in mapping.CATEGORIES if name.startswith(prefix))
    found = made(SOURCE.replace("AFIS", code).replace("afis.vehicle", category) + RECORD + PLATE)
    assert (found.system, found.key) == (S(code), f"{code}/cases")


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ('kind = "csv"', 'kind = "excel"', "[source], kind: is one of csv, parquet, sql"),
        ('kind = "csv"', "", "[source], kind: is one of"),
        ('path = "cases.csv"', "", "[source], path: is missing"),
        ('name = "cases"', 'name = "My Cases"', "[source], name: "),
        ('system = "AFIS"', 'system = "KGB"', "[source], system: no such system; there are ICS2, "),
        ("afis.vehicle", "sis.38.a", "[source], category: AFIS has no such category; it has afis.person, "),
        ("afis.vehicle", "afis.spaceship", "[source], category: "),
        ('ref = "id"', "", "[record], ref: is missing"),
        ('ref = "id"', "ref = 1", "[record], ref: "),
        ('ref = "id"', "ref = []", "[record], ref: "),
        ("[record]", "[[record]]", "[record]: is a table, written once"),
        ("[[identifier]]", "[identifier]", "[identifier]: is written [[identifier]]"),
        ('type = "plate"', 'type = "number_plate"', "[[identifier]] 1, type: Input should be 'container', "),
        ('country = "land"', 'nation = "land"', "[[identifier]] 1, nation: no such key"),
        ('country = "land"', 'make = "land"', "[[identifier]] 1, make: a plate takes country"),
        ('country = "land"', "country = {}", "[[identifier]] 1, country: give one of column and constant"),
        ('country = "land"', 'country = {constant = "DE", column = "x"}', "[[identifier]] 1, country: give one of"),
        ('country = "land"', 'country = {constant = "DE", default = "x"}', "[[identifier]] 1, country: a constant"),
        ('country = "land"', 'country = {colum = "x"}', "[[identifier]] 1, country.colum: no such key"),
        ('country = "land"', "complete_check_digit = true", "[[identifier]] 1, complete_check_digit: not for a plate"),
        ('country = "land"', 'last = "x"', "[[identifier]] 1, last: only a range of identity documents"),
        ('country = "land"', 'role = "the owner!"', "[[identifier]] 1, role: "),
        ('country = "land"', 'when = {column = "a", equals = "b", filled = true}', "[[identifier]] 1, when: give one"),
        ('kind = "csv"', 'kind = "csv"\ndelimiter = ";;"', "[source], delimiter: "),
        ('kind = "csv"', 'kind = "csv"\ndelimiter = \'"\'', "[source], quote: is the delimiter too"),
        ('kind = "csv"', 'kind = "csv"\nencoding = "ebcdic"', "[source], encoding: "),
        ('kind = "csv"', 'kind = "csv"\ncolumns = ["a", "a"]', "[source], columns: a name stands twice"),
        ('kind = "csv"', 'kind = "csv"\ntimezone = "Mars/Base"', "[source], timezone: no such time zone"),
        ('kind = "csv"', 'kind = "csv"\ndate_formats = ["%Q"]', "[source], date_formats: not a format"),
        ('kind = "csv"', 'kind = "csv"\nmode = "full"\nwatermark = "x"', "[source], watermark: a source in mode"),
        ('kind = "csv"', 'kind = "csv"\nwatermark_start = 2026-01-01', "[source], watermark_start: there is no"),
        (
            'kind = "csv"',
            'kind = "csv"\nwatermark = "x"\nwatermark_start = 1',
            "[source], watermark_start: only a query",
        ),
        ('ref = "id"', 'ref = "id"\nwithdrawn = "x"', "[record], withdrawn: needs version"),
        ('ref = "id"', 'ref = "id"\nextra = 1', "[record], extra: no such key"),
        (PLATE, "", "there is no [[identifier]], no [[party]] and no [[free_text]]"),
        (PLATE, '[[party]]\nname = "n"', "[[party]] 1, role: is missing"),
        (PLATE, '[[party]]\nrole = "x"\nname = "n"\nkind = {constant = "firm"}', "[[party]] 1, kind: is one of"),
        (PLATE, PLATE + '[[field]]\nname = "secrets"\ncolumn = "x"', "[[field]] 1, name: Input should be"),
        (PLATE, PLATE + '[[field]]\nname = "action"', "[[field]] 1: give one of column and constant"),
        (PLATE, PLATE + "surprise = [1, 2", "the mapping is not TOML: "),
        (SOURCE, "", "[source]: is missing"),
        (SOURCE, "source = 3", "[source]: "),
    ],
)
def test_what_is_wrong_is_named_by_table_and_key(before: str, after: str, place: str) -> None:
    text = SOURCE + RECORD + PLATE
    assert before in text
    assert place in refused(text.replace(before, after, 1))


def test_a_source_in_full_has_no_version_of_its_own() -> None:
    text = SOURCE.replace('kind = "csv"', 'kind = "csv"\nmode = "full"') + RECORD + 'version = "v"\n' + PLATE
    assert refused(text).startswith("[record], version: ")


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ('query = "SELECT 1"', "[source], url: give exactly one of"),
        ('url = "sqlite:///a"\nurl_env = "A"\nquery = "SELECT 1"', "[source], url: give exactly one of"),
        ('url_env = "A B"\nquery = "SELECT 1"', "[source], url_env: "),
        ('url_env = "A"\nquery = "  "', "[source], query: "),
        (
            'url_env = "A"\nquery = "SELECT 1 WHERE a > :watermark"',
            "[source], query: :watermark needs the key watermark",
        ),
        ('url_env = "A"\nquery = "SELECT :watermark"\nwatermark = "a"', "watermark_start for the first run"),
    ],
)
def test_what_is_wrong_with_a_query(keys: str, place: str) -> None:
    text = SOURCE.replace('kind = "csv"', 'kind = "sql"').replace('path = "cases.csv"', keys)
    assert place in refused(text + RECORD + PLATE)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT * FROM t WHERE a >= :watermark", True),
        ("SELECT * FROM t WHERE a >= :watermark\nORDER BY a", True),
        ("SELECT a::watermark FROM t", False),
        ("SELECT * FROM t WHERE a >= :watermarks", False),
        ("SELECT watermark FROM t", False),
    ],
)
def test_whether_a_query_has_the_parameter(query: str, expected: bool) -> None:
    assert mapping.has_watermark(query) is expected


def test_rows_after_a_watermark_are_no_whole_records() -> None:
    text = SOURCE.replace('kind = "csv"', 'kind = "csv"\nwatermark = "w"') + RECORD + "group = true\n" + PLATE
    assert "rows after a watermark may be a part of a record" in refused(text)


@pytest.mark.parametrize("raw", [b"\xff", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"#" * 70_000, b"\0", b"a = 1"])
def test_what_is_no_mapping_is_an_error_of_one_kind(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_mapping(raw)


def test_the_fingerprint_follows_what_rows_become_and_nothing_else() -> None:
    text = SOURCE + RECORD + PLATE
    same = made("# a comment\n" + text.replace(" = ", "   =  "))
    assert same.fingerprint == made(text).fingerprint
    assert made(text.replace('"reg"', '"vin"')).fingerprint != made(text).fingerprint
    assert made(text.replace("cases.csv", "other.csv")).fingerprint != made(text).fingerprint


def test_the_columns_that_are_read_are_those_that_the_mapping_names() -> None:
    text = (
        SOURCE.replace('kind = "csv"', 'kind = "csv"\nwatermark = "w"')
        + '[record]\nref = ["a", "b"]\nversion = "v"\nvalid_until = "u"\n'
        + 'withdrawn = {column = "d", equals = "gone"}\nhidden = "h"\nwhen = {column = "k", filled = true}\n'
        + '[[identifier]]\ntype = "identity_document"\ncolumn = ["n1", "n2"]\nlast = "n3"\ncountry = "c"\n'
        + 'document_type = {column = "t", map = {x = "P"}}\nwhen = {column = "kw", equals = ["1"]}\n'
        + '[[party]]\nrole = "owner"\nname = ["s", "f"]\naliases = "al"\nbirth_date = "bd"\nbirth_place = "bp"\n'
        + 'nationality = ["na"]\ngender = "g"\naddress = ["st", "ci"]\ncountry = {constant = "BE"}\nkind = "pk"\n'
        + '[[field]]\nname = "action"\ncolumn = "act"\n[[field]]\nname = "reference"\nconstant = "no column"\n'
        + '[[free_text]]\ncolumn = "ft"\n'
    )
    found = made(text)
    assert set(found.columns()) == {
        "w",
        "a",
        "b",
        "v",
        "u",
        "d",
        "h",
        "k",
        "n1",
        "n2",
        "n3",
        "c",
        "t",
        "kw",
        "s",
        "f",
        "al",
        "bd",
        "bp",
        "na",
        "g",
        "st",
        "ci",
        "pk",
        "act",
        "ft",
    }
    assert found.columns()["n1"] == "[[identifier]] 1, column"
    assert found.columns()["t"] == "[[identifier]] 1, document_type"


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    found = made()
    found.check_columns(["land", "reg", "id", "x"], source="cases.csv")
    with pytest.raises(
        ConfigError, match=r"\[\[identifier\]\] 1, column: cases.csv has no column 'reg'; it has id, lan"
    ):
        found.check_columns(["id", "land"], source="cases.csv")
    with pytest.raises(ConfigError, match="has the column 'reg' more than once"):
        found.check_columns(["id", "land", "reg", "reg"], source="cases.csv")


def test_a_first_line_that_may_be_data_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="none of the columns") as caught:
        made().check_columns(["4711", "B-XY 1234", "DE"], source="cases.csv", may_be_data=True)
    assert "B-XY" not in str(caught.value)


# Cells


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("text", "text"),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (-(10**30), "-1" + "0" * 30),
        (10**200, Code("cell.too_long")),
        (4930123456.0, "4930123456"),
        (1.5, "1.5"),
        (math.nan, ""),
        (math.inf, "inf"),
        (1e300, "1e+300"),
        (Decimal("12345.00"), "12345"),
        (Decimal("0.10"), "0.1"),
        (Decimal("1E+5"), "100000"),
        (Decimal("NaN"), ""),
        (Decimal("sNaN"), ""),
        (Decimal("Infinity"), "Infinity"),
        (Decimal("1E+999999"), Code("cell.too_long")),
        (Decimal(12345678901234567890123456789012345), "12345678901234567890123456789012345"),
        (naive(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(days=1), "1 day, 0:00:00"),
        (b"bytes", "bytes"),
        (memoryview(b"view"), "view"),
        (bytearray(b"\xff\x00"), Code("cell.binary")),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (ipaddress.ip_address("192.0.2.1"), "192.0.2.1"),
        (["a", 1, None], ("a", "1", "")),
        ((), ()),
        ([["a"]], Code("cell.type")),
        ([b"\xff"], Code("cell.binary")),
        ({"a": 1}, Code("cell.type")),
        (object(), Code("cell.type")),
        ("x" * (cells.MAX_CELL_CHARS + 1), Code("cell.too_long")),
        (Code("cell.type"), Code("cell.type")),
        (PartyKind.PERSON, "person"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_cell_of_any_type_has_one_text(cell: object, expected: object) -> None:
    assert cells.plain(cell) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a  b ", "a  b"),
        ("two\r\nlines\tand\u2028more", "two lines and more"),
        ("no\u00a0break", "no break"),
        ("zero\u200bwidth", "zero\u200bwidth"),
        ("nul\0", Code("cell.not_printable")),
        ("bell\x07", Code("cell.not_printable")),
        ("esc\x1b[31m", Code("cell.not_printable")),
        ("half\ud800", Code("cell.not_printable")),
        ("x" * 513, Code("cell.too_long")),
    ],
)
def test_a_usable_text_is_one_line(text: str, expected: object) -> None:
    assert cells.usable(text) == expected


VIENNA = made(SOURCE.replace('kind = "csv"', 'kind = "csv"\ntimezone = "Europe/Vienna"') + RECORD + PLATE).calendar


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("infinity", None),
        ("-infinity", Code("cell.not_a_time")),
        ("2026-07-01", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-07-01 12:00:00", datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("2026-07-01T12:00:00.25Z", datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-07-01T12:00:00+00", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-13-01", Code("cell.not_a_time")),
        ("20260701", Code("cell.not_a_time")),
        ("1764072000", Code("cell.not_a_time")),
        ("9999-12-31T23:59:59-12:00", Code("cell.not_a_time")),
        ("0001-01-01", Code("cell.not_a_time")),
        ("tomorrow", Code("cell.not_a_time")),
    ],
)
def test_a_time_is_iso_8601_in_the_zone_of_the_source(text: str, expected: object) -> None:
    assert VIENNA.time_of(text) == expected


def test_other_times_are_read_by_the_formats_of_the_source() -> None:
    calendar = Calendar(timezone(timedelta(hours=2)), ("%d.%m.%Y", "%d.%m.%Y %H:%M"))
    assert calendar.time_of("01.07.2026 12:30") == datetime(2026, 7, 1, 10, 30, tzinfo=UTC)
    assert calendar.time_of("01.07.2026", end_of_day=True) == datetime(2026, 7, 1, 22, tzinfo=UTC)
    assert calendar.time_of("01.07.2026 12:30", end_of_day=True) == datetime(2026, 7, 1, 10, 30, tzinfo=UTC)
    assert calendar.birth_of("17.05.1980") == "1980-05-17"


def test_a_last_day_of_validity_is_valid_to_its_end_where_the_clock_changes_too() -> None:
    assert VIENNA.time_of("2026-10-25", end_of_day=True) == datetime(2026, 10, 25, 23, tzinfo=UTC)
    assert VIENNA.time_of("9999-12-31", end_of_day=True) == Code("cell.not_a_time")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        (" 42 ", 42),
        ("٣", Code("cell.not_a_time")),
        ("1" * 19, Code("cell.not_a_time")),
        ("-1", Code("cell.not_a_time")),
    ],
)
def test_a_version_may_be_a_whole_number(text: str, expected: object) -> None:
    assert Calendar().order_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1980", "1980"),
        ("1980-05", "1980-05"),
        ("1980-05-17", "1980-05-17"),
        ("1980-05-17 00:00:00", "1980-05-17"),
        ("1980-00-00", "1980"),
        ("1980-05-00", "1980-05"),
        ("1980-00-17", "1980"),
        ("1980-02-30", Code("cell.not_a_date")),
        ("0000", Code("cell.not_a_date")),
        ("17.05.1980", Code("cell.not_a_date")),
        ("1980-05-17 12:00", Code("cell.not_a_date")),
    ],
)
def test_a_date_of_birth_is_as_much_of_it_as_is_known(text: str, expected: object) -> None:
    assert Calendar().birth_of(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("Yes", True), ("1", True), ("", False), ("F", False), ("maybe", None)])
def test_yes_and_no(text: str, expected: bool | None) -> None:
    assert cells.flag_of(text) == (Code("cell.not_a_flag") if expected is None else expected)


# Rows


def test_a_row_is_a_record() -> None:
    record = one(SOURCE + RECORD + PLATE, id=7, land="D", reg="b-xy 1234", unused="x")
    assert record == Record(
        source=S.AFIS,
        source_ref="cases/7",
        category="afis.vehicle",
        identifiers=(Identifier(IdentifierType.PLATE, "DE:BXY1234", "reg"),),
        fields={},
        message_digest=hashlib.sha256(rfc8785.dumps({"id": "7", "land": "D", "reg": "b-xy 1234"})).digest(),
    )


def test_the_digest_is_over_what_the_mapping_reads_in_the_order_of_rfc_8785() -> None:
    # By code point U+FB33 comes before U+1F600, by UTF-16 code unit after it.
    text = SOURCE + RECORD + PLATE.replace('"reg"', '"\ufb33"').replace('country = "land"', "")
    text += '[[field]]\nname = "route"\ncolumn = "\U0001f600"\n'
    row: dict[str, Any] = {"\ufb33": "DE:B-XY 1", "id": "7", "\U0001f600": ["DE", 'a"\n'], "other": "changes"}
    record = one(text, **row)
    del row["other"]
    assert record.message_digest == hashlib.sha256(rfc8785.dumps(row)).digest()


@pytest.mark.parametrize("kind", sorted(mapping.CONTEXT))
def test_what_completes_an_identifier_is_what_normalise_takes(kind: IdentifierType) -> None:
    samples = {
        "country": "DE",
        "document_type": "P",
        "make": "Colt",
        "calibre": ".45 ACP",
        "currency": "EUR",
        "denomination": "50",
    }
    number = {"vat": "136695976", "phone": "030 12345678", "hull": "ABC12345D404"}.get(kind, "C1234567")
    keys = "".join(f'{key} = {{constant = "{samples[key]}"}}\n' for key in mapping.CONTEXT[kind])
    record = one(SOURCE + RECORD + f'[[identifier]]\ntype = "{kind}"\ncolumn = "n"\n{keys}', id=1, n=number)
    assert [i.type for i in record.identifiers] == [kind]
    assert tuple(samples) == mapping.CONTEXT_KEYS


def test_a_row_that_lacks_what_completes_a_number_has_the_incomplete_number() -> None:
    text = SOURCE + RECORD + PLATE + '[[identifier]]\ntype = "engine"\ncolumn = "motor"\nmake = "brand"\n'
    record = one(text, id=1, land="", reg="B-XY 1234", motor="2003123456", brand=None)
    assert values(record) == [("plate_number", "BXY1234", ""), ("serial", "2003123456", "")]
    assert told(*mapped(text, ["id", "land", "reg", "motor", "brand"], ["1", "QQ", "B-XY 1234", "", ""])) == [
        (1, "reg", "plate.country", True)
    ]


def test_one_column_may_hold_several_values_and_several_columns_one() -> None:
    text = (
        SOURCE
        + RECORD
        + '[[identifier]]\ntype = "container"\ncolumn = ["owner", "serial", "check"]\nfield = "goods_identifiers"\n'
        + '[[identifier]]\ntype = "phone"\ncolumn = "phones"\nsplit = ";"\nrole = "owner"\n'
    )
    record = one(text, id=1, owner="CSQU", serial=305438, check="3", phones="+49 30 12345678; ;+49 30 12345679;")
    assert values(record) == [
        ("container", BOX, ""),
        ("phone", "+493012345678", "owner"),
        ("phone", "+493012345679", "owner"),
    ]
    assert record.identifiers[0].source_path == "owner+serial+check"
    assert record.fields == {Field.GOODS_IDENTIFIERS: (f"container {BOX}",)}
    listed = one(text, id=1, owner="CSQU", serial=305438, check="3", phones=["+49 30 12345678", None, "+493012345679"])
    assert values(listed) == values(record)


def test_a_range_of_documents_is_all_of_them() -> None:
    text = (
        SOURCE
        + RECORD
        + (
            '[[identifier]]\ntype = "identity_document"\ncolumn = "first"\nlast = "final"\ncountry = {constant = "BE"}\n'
            'document_type = {column = "kind", map = {PP = "P", IDK = "I"}, default = "P"}\n'
        )
    )
    record = one(text, id=1, first="EA000008", final="EA000011", kind="IDK")
    assert [i.value for i in record.identifiers] == [f"BE/I/EA{number:06}" for number in range(8, 12)]
    assert values(one(text, id=1, first="EA000008", final="", kind="?")) == [("identity_document", "BE/P/EA000008", "")]
    assert (
        told(*mapped(text, ["id", "first", "final", "kind"], [1, "EA2", "EA1", "PP"]))[0][2]
        == "identity_document.length"
    )
    assert told(*mapped(text, ["id", "first", "final", "kind"], [1, "EA00002", "EA00001", "PP"])) == [
        (1, "first", "identity_document.range", True)
    ]


def test_a_check_digit_is_completed_only_where_the_mapping_says_so() -> None:
    text = SOURCE + RECORD + '[[identifier]]\ntype = "container"\ncolumn = "box"\n'
    assert told(*mapped(text, ["id", "box"], [1, BOX[:10]])) == [(1, "box", "container.length", True)]
    assert values(one(text + "complete_check_digit = true\n", id=1, box=BOX[:10])) == [("container", BOX, "")]


def test_a_table_may_hold_several_kinds_of_thing() -> None:
    text = (
        SOURCE
        + '[record]\nref = "id"\nwhen = {column = "open", equals = ["y", "?"]}\n'
        + '[[identifier]]\ntype = "vin"\ncolumn = "number"\nwhen = {column = "kind", equals = "car"}\n'
        + '[[identifier]]\ntype = "container"\ncolumn = "number"\nwhen = {column = "kind", equals = ["box", "reefer"]}\n'
        + '[[identifier]]\ntype = "imo"\ncolumn = "ship"\nwhen = {column = "ship", filled = true}\n'
        + '[[identifier]]\ntype = "seal"\ncolumn = "ship"\nwhen = {column = "kind", filled = false}\n'
    )
    counts = Counts()
    columns = ["id", "open", "kind", "number", "ship"]
    found = mapped(
        text, columns, [1, "y", "car", VIN, None], [2, "?", "reefer", BOX, IMO], [3, "n", "car", VIN, ""],
        [4, "y", "", "", "S-1234567"], counts=counts,
    )  # fmt: skip
    assert [[(i.type.value, i.value) for i in record.identifiers] for record in found if isinstance(record, Record)] == [
        [("vin", VIN)], [("container", BOX), ("imo", IMO)], [("seal", "S1234567")],
    ]  # fmt: skip
    assert told(*found) == [(4, "ship", "imo.format", False)]
    assert (counts.rows, counts.records, counts.skipped, counts.rejected) == (4, 3, 1, 0)


def test_parties_are_taken_as_the_source_wrote_them() -> None:
    text = (
        SOURCE.replace("vehicle", "person").replace(
            'kind = "csv"', 'kind = "csv"\ndate_formats = ["%d.%m.%Y"]\nempty = ["n/a"]'
        )
        + RECORD
        + (
            '[[party]]\nrole = "subject"\nkind = {column = "k", map = {N = "person", J = "organisation"}}\n'
            'name = ["surname", "forenames"]\naliases = "aka"\nsplit = "|"\nbirth_date = "born"\nbirth_place = "place"\n'
            'nationality = "nat"\ngender = "sex"\naddress = ["street", "city"]\ncountry = "land"\n'
            'city = "city"\npostcode = "zip"\n'
        )
    )
    row: dict[str, object] = {
        "id": 1, "k": "N", "surname": "Muster", "forenames": "Erika", "aka": "Gabler| Eri |n/a", "born": "17.05.1980",
        "place": "Berlin", "nat": "D|AUT", "sex": "F", "street": "Weg 1\n", "city": "n/a", "land": "deu",
        "zip": "10115",
    }  # fmt: skip
    assert one(text, **row).parties == (
        Party(
            "subject", PartyKind.PERSON, "Muster, Erika", "surname+forenames", aliases=("Gabler", "Eri"),
            birth_date="1980-05-17", birth_place="Berlin", nationalities=("DE", "AT"), gender="F", address="Weg 1",
            country="DE", postcode="10115",
        ),
    )  # fmt: skip
    odd = mapped(text, list(row), list({**row, "k": "X", "born": "spring", "nat": "Atlantis", "land": "QQ"}.values()))
    assert told(*odd) == [
        (1, "born", "cell.not_a_date", False),
        (1, "nat", "mapping.country_unknown", False),
        (1, "land", "mapping.country_unknown", False),
    ]
    [party] = odd[-1].parties
    assert (party.kind, party.birth_date, party.nationalities, party.country) == (PartyKind.UNKNOWN, "", (), "")
    nobody = mapped(text, list(row), list({**row, "surname": "", "forenames": None}.values()))
    assert told(*nobody) == [(1, None, "mapping.no_identifier", True)]


def test_a_kind_of_party_is_a_closed_word() -> None:
    text = SOURCE + RECORD + PLATE + '[[party]]\nrole = "x"\nkind = "k"\nname = "n"\n'
    issue, record = mapped(text, ["id", "reg", "land", "k", "n"], [1, "B-XY 1", "DE", "firm", "Muster GmbH"])
    assert told(issue) == [(1, "k", "mapping.kind_unknown", False)]
    assert record.parties[0].kind is PartyKind.UNKNOWN


def test_fields_are_what_the_mapping_names_and_nothing_more() -> None:
    text = (
        SOURCE
        + RECORD
        + PLATE
        + (
            '[[field]]\nname = "reference"\ncolumn = "file"\n'
            '[[field]]\nname = "route"\ncolumn = "via"\nsplit = ","\n'
            '[[field]]\nname = "action"\nconstant = "observe"\nwhen = "watch"\n'
            '[[field]]\nname = "object_type"\ncolumn = "kind"\nmap = {V = "vehicle"}\n'
        )
    )
    record = one(text, id=1, reg="B-XY 1", land="DE", file="F/1", via="BE, NL,,BE", watch="yes", kind="V")
    assert record.fields == {
        Field.REFERENCE: ("F/1",),
        Field.ROUTE: ("BE", "NL"),
        Field.ACTION: ("observe",),
        Field.OBJECT_TYPE: ("vehicle",),
    }
    record = one(text, id=1, reg="B-XY 1", land="DE", file="", via=None, watch="no", kind="?")
    assert record.fields == {}


def test_an_unknown_class_of_data_subject_opens_nothing() -> None:
    text = SOURCE + RECORD + PLATE + '[[field]]\nname = "subject_class"\ncolumn = "c"\n'
    issue, record = mapped(text, ["id", "reg", "land", "c"], [1, "B-XY 1", "DE", "witness"])
    assert told(issue) == [(1, "c", "field.invalid", False)]
    assert record.fields == {}
    assert one(text, id=1, reg="B-XY 1", land="DE", c="suspect").fields == {Field.SUBJECT_CLASS: ("suspect",)}


@pytest.mark.parametrize(
    ("codes", "expected"), [("H0|H1", ("H0", "H1")), ("H0|H\0", ("H2", "H3")), (b"\xff", ("H2", "H3"))]
)
def test_a_handling_code_that_cannot_be_read_is_the_strictest(codes: object, expected: tuple[str, ...]) -> None:
    text = SOURCE + RECORD + PLATE + '[[field]]\nname = "handling_codes"\ncolumn = "c"\nsplit = "|"\n'
    record = mapped(text, ["id", "reg", "land", "c"], [1, "B-XY 1", "DE", codes])[-1]
    assert record.fields == {Field.HANDLING_CODES: expected}


def test_free_text_is_searched_and_says_so() -> None:
    text = SOURCE + RECORD + '[[free_text]]\ncolumn = "remarks"\n'
    record = one(text, id=1, remarks=f"blue car,\nVIN {VIN}, in container {BOX}")
    assert [(i.type.value, i.value, i.source_path) for i in record.identifiers] == [
        ("vin", VIN, "remarks#free_text"),
        ("container", BOX, "remarks#free_text"),
    ]
    long = mapped(text, ["id", "remarks"], [1, "x" * (cells.MAX_TEXT_CHARS + 1)])
    assert told(*long) == [(1, "remarks", "cell.too_long", True)]


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        (None, "mapping.ref_missing"),
        (math.nan, "mapping.ref_missing"),
        ("  ", "mapping.ref_missing"),
        ("n\0l", "cell.not_printable"),
        (b"\xff", "cell.binary"),
        ({"a": 1}, "cell.type"),
        (["1", "2"], "cell.too_many_values"),
        ("x" * 151, "cell.too_long"),
    ],
)
def test_a_row_that_cannot_be_named_is_no_record(cell: object, code: str) -> None:
    assert told(*mapped(SOURCE + RECORD + PLATE, ["id", "reg", "land"], [cell, "B-XY 1", "DE"])) == [
        (1, "id", code, True)
    ]


def test_several_columns_name_a_record_without_meeting_others() -> None:
    text = SOURCE + '[record]\nref = ["office", "number"]\n' + PLATE
    columns = ["office", "number", "reg", "land"]
    found = mapped(
        text, columns, ["a/b", "c", "B-XY 1", "DE"], ["a", "b/c", "B-XY 1", "DE"], ["a%2Fb", "c", "B-XY 1", "DE"]
    )
    assert [record.source_ref for record in found] == ["cases/a%2Fb/c", "cases/a/b%2Fc", "cases/a%252Fb/c"]
    assert told(*mapped(text, columns, ["x" * 100, "y" * 100, "B-XY 1", "DE"])) == [
        (1, "office+number", "mapping.ref_too_long", True)
    ]
    assert told(*mapped(text, columns, ["x", "", "B-XY 1", "DE"])) == [(1, "number", "mapping.ref_missing", True)]


def test_a_bad_value_costs_itself_and_a_row_without_any_good_one_is_no_record() -> None:
    text = SOURCE + RECORD + PLATE + '[[identifier]]\ntype = "container"\ncolumn = "box"\n'
    columns = ["id", "reg", "land", "box"]
    found = mapped(
        text, columns, [1, "B-XY 1", "DE", "CSQU3054384"], [2, "\0", "DE", "CSQU3054384"], [3, None, None, None]
    )
    assert told(*found) == [
        (1, "box", "container.check_digit", False),
        (2, "reg", "cell.not_printable", False),
        (2, "box", "container.check_digit", True),
        (3, None, "mapping.no_identifier", True),
    ]
    assert [record.source_ref for record in found if isinstance(record, Record)] == ["cases/1"]
    assert not any("CSQU" in str(item) or "B-XY" in str(item) for item in found)


def test_versions_order_rows_and_withdrawals() -> None:
    text = (
        SOURCE
        + (
            '[record]\nref = "id"\nversion = "changed"\nwithdrawn = {column = "state", equals = "closed"}\nvalid_until = "until"\n'
        )
        + PLATE
    )
    columns = ["id", "reg", "land", "changed", "state", "until"]
    found = mapped(
        text, columns,
        [1, "B-XY 1", "DE", "2026-01-01", "open", date(2026, 12, 31)],
        [1, "B-XY 1", "DE", datetime(2026, 1, 2, tzinfo=UTC), "closed", None],
        [2, "B-XY 2", "DE", 17, "open", "infinity"],
        [3, "B-XY 3", "DE", None, "open", ""],
        [4, "", "", None, "closed", ""],
        [5, "B-XY 5", "DE", "soon", "open", ""],
        [6, "B-XY 6", "DE", "", "open", "soon"],
        [7, "B-XY 7", "DE", "", b"\xff", ""],
    )  # fmt: skip
    records = [(i.source_ref, i.version, i.valid_until) for i in found if isinstance(i, Record)]
    first = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000) * 4
    assert records == [
        ("cases/1", first, datetime(2027, 1, 1, tzinfo=UTC)),
        ("cases/2", 17 * 4, None),
        ("cases/3", 0, None),
    ]
    assert [i for i in found if isinstance(i, Supersession)] == [
        Supersession(S.AFIS, "cases/1", first + 86_400_000 * 4 + 3, withdrawn=True, reason="deleted"),
        Supersession(S.AFIS, "cases/4", 3, withdrawn=True, reason="deleted"),
    ]
    assert told(*found) == [
        (2, "id", "mapping.ref_repeated", False),
        (6, "changed", "cell.not_a_time", True),
        (7, "until", "cell.not_a_time", True),
        (8, "state", "cell.binary", True),
    ]


@pytest.mark.parametrize(
    ("cell", "expected"), [("yes", True), ("0", False), (None, False), ("perhaps", True), (b"\xff", True)]
)
def test_a_record_is_hidden_where_that_cannot_be_read(cell: object, expected: bool) -> None:
    found = mapped(
        SOURCE + '[record]\nref = "id"\nhidden = "secret"\n' + PLATE,
        ["id", "reg", "land", "secret"],
        [1, "B-XY 1", "DE", cell],
    )
    assert found[-1].hidden is expected
    assert len(found) == 1 + (cell in ("perhaps", b"\xff"))


GROUPED = SOURCE + '[record]\nref = "id"\ngroup = true\nhidden = "h"\n' + PLATE


def test_rows_that_stand_together_may_be_one_record() -> None:
    columns = ["id", "reg", "land", "h"]
    table = [[1, "B-XY 1", "DE", ""], [1, "B-XY 2", "DE", "yes"], [2, "B-XY 3", "DE", ""], [1, "B-XY 4", "DE", ""]]
    counts = Counts()
    found = mapped(GROUPED, columns, *table, counts=counts)
    assert [(r.source_ref, [i.value for i in r.identifiers], r.hidden) for r in found] == [
        ("cases/1", ["DE:BXY1", "DE:BXY2"], True),
        ("cases/2", ["DE:BXY3"], False),
        ("cases/1", ["DE:BXY4"], False),
    ]
    assert (counts.rows, counts.records) == (4, 3)
    lines = [rfc8785.dumps({"h": h, "id": str(i), "land": land, "reg": reg}) for i, reg, land, h in table[:2]]
    assert found[0].message_digest == hashlib.sha256(b"\n".join(lines)).digest()


def test_a_source_in_full_takes_back_what_it_does_not_hold() -> None:
    text = (
        SOURCE.replace('kind = "csv"', 'kind = "csv"\nmode = "full"')
        + '[record]\nref = "id"\nwithdrawn = "gone"\n'
        + PLATE
    )
    columns, version = ["id", "reg", "land", "gone"], int(NOW.timestamp() * 1000) * 4
    counts = Counts()
    [record] = mapped(text, columns, [1, "B-XY 1", "DE", ""], [2, "B-XY 2", "DE", "yes"], counts=counts)
    assert (record.message_ref, record.version) == ("cases/", version)

    def end() -> list[Any]:
        return list(rows.ended(made(text), counts, read_at=NOW, file="f"))

    assert end() == [Supersession(S.AFIS, "cases/", version)]
    counts.unnamed = 1
    assert told(*end()) == [(None, None, "mapping.incomplete", False)]
    counts.unnamed = counts.rows = 0
    assert told(*end()) == [(None, None, "mapping.empty", False)]
    assert list(rows.ended(made(), Counts(rows=1), read_at=NOW, file="f")) == []


def test_a_row_of_a_full_source_that_is_known_but_useless_takes_nothing_back_by_itself() -> None:
    counts = Counts()
    mapped(SOURCE + RECORD + PLATE, ["id", "reg", "land"], [1, "?", "DE"], [None, "B-XY 1", "DE"], counts=counts)
    assert (counts.rejected, counts.unnamed) == (2, 1)


def test_every_code_of_a_row_is_in_a_table() -> None:
    known = {**rows.ROW_CODES, **cells.CELL_CODES}
    for module in (rows, cells):
        written = re.findall(r'"((?:mapping|cell)\.[a-z_]+)"', Path(module.__file__).read_text())
        assert set(written) - set(known) == set()


# Watermarks


def watermark(text: str | None = None, **changes: Any) -> watermarks.Watermark:
    return watermarks.Watermark("f", text, calendar=Calendar(), now=NOW, **changes)


MARKS: list[tuple[Any, Any, int, Any]] = [
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), 600, datetime(2026, 1, 1, 23, 50, tzinfo=UTC)),
    (naive(2026, 1, 1), naive(2026, 1, 2), 60, naive(2026, 1, 1, 23, 59)),
    (date(2026, 1, 1), date(2026, 1, 2), 1, date(2026, 1, 1)),
    (date(2026, 1, 1), date(2026, 1, 2), 0, date(2026, 1, 2)),
    (1, 2, 5, -3),
    (1.5, 2.5, 1, 1.5),
    (Decimal("1.1"), Decimal("1.2"), 1, Decimal("0.2")),
    ("a b", "a c", 600, "a c"),
    (b"\x00", b"\x01", 600, b"\x01"),
]


@pytest.mark.parametrize(("low", "high", "overlap", "begin"), MARKS, ids=str)
def test_a_watermark_is_kept_as_text_and_read_again(low: Any, high: Any, overlap: int, begin: Any) -> None:
    first = watermark()
    for value in (low, None, high, low, math.nan, Decimal("NaN"), True, [], object()):
        assert first.follow(value)
    again = watermark(first.text)
    assert again.value == high
    assert type(again.value) is type(high)
    assert again.text == first.text
    assert again.begin(overlap) == begin
    assert watermarks.is_before(low, high)
    assert not any(watermarks.is_before(cell, high) for cell in (high, None, math.nan, object()))


@pytest.mark.parametrize(
    "text", [None, "", "f", "f time", "f time x", "f integer x", "f decimal x", "f what 1", "g integer 1", "f bytes x"]
)
def test_what_is_no_watermark_of_this_mapping_means_every_row(text: str | None) -> None:
    assert watermark(text).begin(0) is None
    assert watermark(text).text is None


@pytest.mark.parametrize(
    "far", [datetime(9999, 12, 31, tzinfo=UTC), date(2027, 1, 1), naive(2026, 12, 1), "9999-12-31 00:00:00"]
)
def test_a_row_from_the_future_hides_none_that_come_after(far: Any) -> None:
    mark = watermark()
    assert not mark.follow(far)
    assert mark.text is None
    assert mark.follow(NOW + timedelta(hours=1))


def test_a_watermark_at_the_edge_of_the_calendar_has_no_overlap() -> None:
    mark = watermark()
    mark.follow(naive(1, 1, 1))
    assert mark.begin(600) == naive(1, 1, 1)


# Coverage


def record_of(*identifiers: tuple[str, str, str], parties: tuple[Party, ...] = (), hidden: bool = False) -> Record:
    return Record(
        S.AFIS, "r", "afis.vehicle",
        tuple(Identifier(IdentifierType(kind), value, path, "role" if path == "x" else "") for kind, value, path in identifiers),
        {}, b"\0" * 32, hidden=hidden, parties=parties,
    )  # fmt: skip


def test_coverage_counts_what_records_can_be_matched_by() -> None:
    found = Coverage()
    somebody = Party("x", PartyKind.UNKNOWN, "Muster", "n")
    for record in (
        record_of(("vin", VIN, "x"), ("vin", VIN, "y#free_text"), ("seal", "A1234", "y")),
        record_of(("seal", "A1234", "x"), ("seal", "A1235", "x"), hidden=True),
        record_of(("seal", "A1234", "y#free_text"), parties=(somebody,)),
        record_of(parties=(somebody,)),
        record_of(),
    ):
        found.add(record)
    value = found.as_json()
    assert {name: value[name] for name in COUNTS} == {
        "records": 5, "matchable": 2, "weak_only": 1, "names_only": 1, "nothing": 1, "combined_only": 1, "incomplete": 0,
        "hidden": 1,
    }  # fmt: skip
    assert value["types"] == {
        "vin": {
            "records": 1,
            "share": 0.2,
            "identifiers": 1,
            "in_free_text": 0,
            "suffices_alone": True,
            "roles": {"": 1, "role": 1},
        },
        "seal": {
            "records": 3,
            "share": 0.6,
            "identifiers": 4,
            "in_free_text": 1,
            "suffices_alone": False,
            "roles": {"": 2, "role": 2},
        },
    }
    assert list(value["types"]) == ["vin", "seal"]
    again = Coverage()
    again.add_json(value)
    again.add_json(value)
    assert again.as_json()["records"] == 10
    assert again.as_json()["types"]["seal"] == {
        **value["types"]["seal"],
        "records": 6,
        "identifiers": 8,
        "in_free_text": 2,
        "roles": {"": 4, "role": 4},
    }
    assert Coverage().as_json()["types"] == {}
