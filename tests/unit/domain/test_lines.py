"""What one bad line costs: itself, and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import time
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from connector_psi.domain import lines
from tests.adapter_samples import BOX_A, alert, codes, documentation, jsonl, read

HEADER = b"schengen_id,issuing_state,article,category,object_type,action,sirene_contact,container_number\n"
GOOD, LAST = alert(schengen_id="DE-GOOD-1"), alert(schengen_id="DE-GOOD-2")


def row(reference: str, number: str = BOX_A) -> bytes:
    return f'{reference},DE,38,g,container,seizure,"SIRENE ""DE"", desk",{number}\n'.encode()


class Endless(io.RawIOBase):
    """A line of 100 MB between two lines, made as it is read."""

    def __init__(self, head: bytes, tail: bytes, middle: int) -> None:
        self.parts = [io.BytesIO(head), None, io.BytesIO(tail)]
        self.left = middle
        self.largest = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        self.largest = max(self.largest, len(buffer))
        head, _, tail = self.parts
        if n := head.readinto(buffer):
            return n
        if self.left:
            n = min(self.left, len(buffer))
            buffer[:n] = b"x" * n
            self.left -= n
            return n
        return tail.readinto(buffer)


def test_a_line_of_100_megabytes_is_skipped_without_being_held() -> None:
    source = Endless(jsonl(GOOD), b"\n" + jsonl(LAST), 100_000_000)
    found = list(lines.read_json_lines(io.BufferedReader(source), file="f"))
    assert [getattr(x, "code", None) or x.document["schengen_id"] for x in found] == [
        "DE-GOOD-1",
        "line.too_long",
        "DE-GOOD-2",
    ]
    assert (found[1].line, found[1].rejects_record) == (2, True)
    assert found[2].number == 3
    assert source.left == 0
    assert source.largest <= 2 * lines.MAX_LINE_BYTES


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_bound_is_on_the_line_without_its_end(end: bytes) -> None:
    for size, code in ((lines.MAX_LINE_BYTES, "json.malformed"), (lines.MAX_LINE_BYTES + 1, "line.too_long")):
        [issue] = lines.read_json_lines(io.BytesIO(b"x" * size + end), file="f")
        assert issue.code == code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\xff\xfe\n", "line.encoding"),
        (b'{"schengen_id": "\xe9"}\n', "line.encoding"),
        (b'{"a":\0 1}\n', "line.nul"),
        (b"not json\n", "json.malformed"),
        (b'{"a": NaN}\n', "json.malformed"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", "json.malformed"),
        (b"[" * 100_000 + b"\n", "json.malformed"),
        (b'{"a": 1} {"b": 2}\n', "json.malformed"),
        (b"[1]\n", "json.not_an_object"),
        (b"null\n", "json.not_an_object"),
        (b'{"object": 1, "object": 2}\n', "json.duplicate_key"),
    ],
)
def test_a_bad_line_of_json_costs_itself(line: bytes, code: str) -> None:
    records, issues = read(jsonl(GOOD, b"\n", line, LAST), "sis-jsonl")
    assert [record.source_ref for record in records] == ["DE-GOOD-1", "DE-GOOD-2"]
    assert [(x.code, x.line, x.path, x.rejects_record) for x in issues] == [(code, 3, None, True)]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\xff,\n", "line.encoding"),
        (b"a\0b,\n", "line.nul"),
        (b'"never closed,DE,38,g\n', "csv.malformed"),
        (b'"closed"early,DE\n', "csv.malformed"),
        (b'"' + b"x" * 200_000 + b'",DE\n', "csv.malformed"),
        (b"too,few\n", "csv.field_count"),
        (row("DE-LONG")[:-1] + b",more\n", "csv.field_count"),
    ],
)
def test_a_bad_row_of_csv_costs_itself(line: bytes, code: str) -> None:
    records, issues = read(HEADER + row("DE-GOOD-1") + b"\r\n" + line + row("DE-GOOD-2"), "sis-csv")
    assert [record.source_ref for record in records] == ["DE-GOOD-1", "DE-GOOD-2"]
    assert [(x.code, x.line, x.rejects_record) for x in issues] == [(code, 4, True)]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (HEADER.replace(b",action", b""), [("csv.missing_column", "action", True)]),
        (HEADER.replace(b"\n", b",article\n"), [("csv.duplicate_column", "article", True)]),
        (b"\xff" + HEADER, [("line.encoding", None, True)]),
        (b'"' + HEADER, [("csv.malformed", None, True)]),
    ],
)
def test_a_header_that_cannot_be_used_ends_the_file(header: bytes, found: list[tuple[str, str | None, bool]]) -> None:
    records, issues = read(header + row("DE-GOOD-1"), "sis-csv")
    assert records == []
    assert [(x.code, x.path, x.rejects_record) for x in issues] == found


def test_unknown_columns_and_keys_are_reported_once_and_never_by_name() -> None:
    header = HEADER.replace(b"\n", b"," + BOX_A.encode() + b"\n")
    records, issues = read(header + row("DE-1234")[:-1] + b",x\n" + row("DE-1235")[:-1] + b",y\n", "sis-csv")
    assert len(records) == 2
    assert [(x.code, x.path, x.line) for x in issues] == [("csv.unknown_column", "*", 1)]
    strange = alert(**{BOX_A: 1, "object": {"type": "container", "container_number": BOX_A, "note": "x"}})
    records, issues = read(jsonl(strange, strange), "sis-jsonl")
    assert len(records) == 2
    assert [(x.code, x.path, x.line) for x in issues] == [
        ("json.unknown_key", "$.*", 1),
        ("json.unknown_key", "$.object.*", 1),
    ]


def test_the_digest_is_over_the_line_without_its_end_and_without_a_byte_order_mark() -> None:
    raw = json.dumps(GOOD).encode()
    for data in (raw, raw + b"\n", raw + b"\r\n", b"\xef\xbb\xbf" + raw + b"\n"):
        [record], issues = read(data, "sis-jsonl")
        assert issues == []
        assert record.message_digest == hashlib.sha256(raw).digest()
    [record], _ = read(b"\xef\xbb\xbf" + HEADER.replace(b"\n", b"\r\n") + row("DE-1234"), "sis-csv")
    assert record.message_digest == hashlib.sha256(row("DE-1234")[:-1]).digest()


@pytest.mark.parametrize(
    "text",
    ["a\u0000b", "a\nb", "a\u2028b", "\ud800", "", "   ", "x" * 513],
)
def test_texts_that_no_page_or_database_can_take_are_refused(text: str) -> None:
    records, issues = read(jsonl(alert(reason=text), LAST), "sis-jsonl")
    assert [record.source_ref for record in records] == ["DE-GOOD-2"]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [("field.invalid", "$.reason", True)]


def test_every_code_of_a_line_is_documented() -> None:
    text = documentation()
    assert [code for code in lines.LINE_CODES if f"`{code}`" not in text] == []
    assert "line.too_long" in codes(lines.read_json_lines(io.BytesIO(b"x" * 2_000_000), file="f"))


# Objects inside of a line


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    kind: lines.Text
    number: lines.Text | None = None
    born: lines.BirthDate | None = None
    names: lines.Texts = ()


class Whole(BaseModel):
    model_config = ConfigDict(extra="ignore")

    key: lines.Text
    one: Part | None = None
    many: tuple[Part | None, ...] = ()
    flag: bool = False


COLUMNS = {
    **lines.columns_of(Whole),
    **lines.columns_of(Part, "one", names={"kind": "one_kind"}, optional=True),
    **lines.columns_of(
        Part, "many", lines.EACH, names={"kind": "many_kind", "number": "many_number", "born": "many_born"}
    ),
}


def parsed(document: dict[str, Any]) -> tuple[Whole | None, list[tuple[str, str | None, bool]]]:
    line = lines.Line(7, b"", document)
    whole, issues = lines.parse(Whole, line, file="f", spared=("one", "many"))
    assert {issue.line for issue in issues} <= {7}
    return whole, [(x.code, x.path, x.rejects_record) for x in issues]


def test_columns_come_from_the_model() -> None:
    assert {
        "key": lines.Column(("key",), required=True),
        "flag": lines.Column(("flag",), is_bool=True),
        "one_kind": lines.Column(("one", "kind")),
        "number": lines.Column(("one", "number")),
        "born": lines.Column(("one", "born")),
        "names": lines.Column(("one", "names"), is_list=True),
        "many_kind": lines.Column(("many", "*", "kind"), required=True),
        "many_number": lines.Column(("many", "*", "number")),
        "many_born": lines.Column(("many", "*", "born")),
    } == COLUMNS


def test_a_wrong_value_of_a_thing_is_left_out_and_the_rest_stands() -> None:
    one = {"kind": "a", "number": 7, "names": ["x", 8, "y", ""], "born": "1980-13"}
    document = {"key": "k", "one": one, "many": [{"kind": "b", "names": [1, "z"]}]}
    before = json.dumps(document)
    whole, issues = parsed(document)
    assert whole == Whole(key="k", one=Part(kind="a", names=("x", "y")), many=(Part(kind="b", names=("z",)),))
    assert issues == [
        ("field.invalid", "$.one.number", False),
        ("field.invalid", "$.one.born", False),
        ("field.invalid", "$.one.names", False),
        ("field.invalid", "$.many.1.names", False),
    ]
    # The line stays as it was read: its digest is that of the file.
    assert json.dumps(document) == before


def test_an_object_of_a_list_that_lacks_what_it_must_have_is_none() -> None:
    many = [{"kind": "a"}, {"number": "1", "born": "x"}, {"kind": 3, "number": 4}, "text", {"kind": "b"}]
    whole, issues = parsed({"key": "k", "many": many})
    assert whole == Whole(key="k", many=(Part(kind="a"), None, None, None, Part(kind="b")))
    assert [issue for issue in issues if issue[2]] == []
    assert {path for _, path, _ in issues} == {
        "$.many.2.kind", "$.many.2.born", "$.many.3.kind", "$.many.3.number", "$.many",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"one": {"kind": "a"}}, [("field.missing", "$.key", True)]),
        ({"key": 7, "one": {"kind": "a"}}, [("field.invalid", "$.key", True)]),
        ({"key": "k", "one": {"number": "1"}}, [("field.missing", "$.one.kind", True)]),
        ({"key": "k", "one": {"kind": 1}}, [("field.invalid", "$.one.kind", True)]),
        ({"key": "k", "one": "text"}, [("field.invalid", "$.one", True)]),
        ({"key": "k", "many": "text"}, [("field.invalid", "$.many", True)]),
        ({"key": "k", "flag": "maybe", "one": {"kind": "a"}}, [("field.invalid", "$.flag", True)]),
        (
            {"key": 1, "one": {"kind": "a", "born": 7}},
            [("field.invalid", "$.key", False), ("field.invalid", "$.one.born", True)],
        ),
    ],
)
def test_what_a_line_must_have_is_not_spared(document: dict[str, Any], expected: list[Any]) -> None:
    assert parsed(document) == (None, expected)


def test_a_line_full_of_wrong_values_costs_little() -> None:
    for document in (
        {"key": "k", "many": [{"number": n} for n in range(20_000)]},
        {"key": "k", "one": {"kind": "a", "names": list(range(20_000))}},
        {"key": "k", "many": [{"kind": "a", "names": [1, 2, 3]}] * 10_000},
    ):
        begin = time.process_time()
        parsed(document)
        # Half a second where each is looked at once; a minute where each costs a copy of all.
        assert time.process_time() - begin < 5


def test_objects_of_a_list_stand_in_parallel_columns() -> None:
    data = b"key,many_kind,many_number,many_born\nk1,a|b|,1||3,\nk2,a,1|2,\nk3,,,\nk4,a,,1980\n"
    found = list(lines.read_csv_rows(io.BytesIO(data), file="f", columns=COLUMNS))
    assert [x.document if isinstance(x, lines.Line) else (x.code, x.line, x.rejects_record) for x in found] == [
        {"key": "k1", "many": [{"kind": "a", "number": "1"}, {"kind": "b"}, {"number": "3"}]},
        ("csv.list_length", 3, True),
        {"key": "k3"},
        {"key": "k4", "many": [{"kind": "a", "born": "1980"}]},
    ]
    line = found[0]
    assert isinstance(line, lines.Line)
    assert line.place("many", 2, "number") == "many_number.3"
    assert line.place("one", "number") == "number"
    assert lines.Spot(line, ("many", 0)).at("kind") == "many_kind.1"


def test_a_file_that_withdraws_needs_no_other_columns() -> None:
    for header, refused in ((b"key,number\n", True), (b"key,withdrawn\n", False)):
        columns = COLUMNS | {"withdrawn": lines.Column(("withdrawn",), is_bool=True)}
        found = list(lines.read_csv_rows(io.BytesIO(header + b"k,true\n"), file="f", columns=columns))
        assert isinstance(found[0], lines.Line) is not refused


def test_keys_of_special_categories_are_told_from_others_wherever_they_stand() -> None:
    unknown = lines.UnknownKeys(Whole, file="f")
    document = {
        "key": "k",
        "extra": 1,
        "one": {"kind": "a", "dna_profile": 1},
        "many": [{"kind": "a"}, {"facialImage": 1, "x": 2}],
    }
    assert [(x.code, x.path) for x in unknown.in_line(lines.Line(1, b"", document))] == [
        ("json.unknown_key", "$.*"),
        ("key.special_category", "$.one.*"),
        ("key.special_category", "$.many.*"),
        ("json.unknown_key", "$.many.*"),
    ]
    assert unknown.in_line(lines.Line(2, b"", document)) == []


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("1980", "1980"), ("1980-05", "1980-05"), ("1980-05-17", "1980-05-17"), ("1980-00-00", "1980"),
        ("1980-05-00", "1980-05"), ("0001-01-01", "0001-01-01"), ("1980-02-30", None), ("1980-13", None), ("0000", None),
        ("80", None), ("1980-5-17", None), ("17.05.1980", None), ("", None), ("\u0661\u0669\u0668\u0660", None),
    ],
)  # fmt: skip
def test_dates_of_birth(written: str, read_as: str | None) -> None:
    whole, _ = parsed({"key": "k", "one": {"kind": "a", "born": written}})
    assert whole is not None
    assert whole.one is not None
    assert whole.one.born == read_as
