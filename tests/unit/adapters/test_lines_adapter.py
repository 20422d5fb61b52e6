"""What one bad line costs: itself, and nothing else."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from connector_psi.adapters import lines
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
        (HEADER.replace(b",category", b""), [("csv.missing_column", "category", True)]),
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
