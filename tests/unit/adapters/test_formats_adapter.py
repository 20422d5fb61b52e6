"""Which format a file is in, and the one call that reads any of them: over every format that there is."""

from __future__ import annotations

import io
import random
import re
import time
from pathlib import Path

import pytest

from connector_psi.adapters import formats
from connector_psi.domain.intake import Kind
from connector_psi.domain.records import Issue, Record
from connector_psi.domain.systems import SYSTEMS
from connector_psi.errors import ConfigError, FormatError, PurposeRefusedError
from tests.adapter_samples import BOX_A, alert, entity, jsonl, read
from tests.format_samples import SAMPLES, sample

ROOT = Path(__file__).parents[3]
NAMES = list(formats.FORMATS)
BOM = b"\xef\xbb\xbf"
OF_XML = [name for name in NAMES if formats.FORMATS[name].kind is Kind.XML]
OF_JSON_LINES = [name for name in NAMES if formats.FORMATS[name].kind is Kind.JSONL]
OF_CSV = [name for name in NAMES if formats.FORMATS[name].kind is Kind.CSV]


# Every format


def test_every_format_has_a_sample_and_every_sample_a_format() -> None:
    assert sorted(SAMPLES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["x", "x.bin", "-", "sis.csv", "ics2.xml", "EIS-2026.jsonl", "csm.json"])
def test_a_format_is_recognised_whatever_the_name_of_the_file(name: str, file: str) -> None:
    assert formats.detect(file, sample(name)) == name
    assert formats.detect(file, sample(name)[: formats.HEAD_BYTES]) == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [BOM, b"\n \r\n\t", BOM + b"\n  "], ids=["mark", "space", "both"])
def test_what_stands_in_front_of_a_file_does_not_matter(name: str, before: bytes) -> None:
    assert formats.detect("x", before + sample(name)) == name


@pytest.mark.parametrize("name", OF_XML)
def test_xml_is_recognised_behind_comments_and_in_other_encodings(name: str) -> None:
    declaration, _, rest = sample(name).decode().partition("\n")
    assert declaration.startswith("<?xml")
    for text in (
        rest,
        f"{declaration}<!-- schengen_id -->\n<?say eis_ref?>\n{rest}",
        f"<!-- {'-' * 0}{'x' * 60_000} -->{rest}",
    ):
        assert formats.detect("x", text.encode()) == name
    utf_16 = f'<?xml version="1.0" encoding="UTF-16"?>{rest}'
    for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        data = mark + utf_16.encode(encoding)
        assert formats.detect("x", data) == name
        assert [x for x in read(data)[1] if x.rejects_record] == []


@pytest.mark.parametrize("name", OF_JSON_LINES)
@pytest.mark.parametrize(
    "bad",
    [
        b"broken\n",
        b"{\n",
        b'{"a":\n',
        b"[1,2]\n{}\n",
        b"\xff\xfe\x00\n",
        b'"x"\n\n',
        b"a,b,c\n1,2,3\n",
        b"x" * 2000 + b"\n",
    ],
)
def test_bad_first_lines_hide_nothing(name: str, bad: bytes) -> None:
    line = sample(name).splitlines(keepends=True)[0]
    assert formats.detect("x", bad + line + line) == name
    records, _ = read(bad + line + line)
    assert records


@pytest.mark.parametrize("name", OF_CSV)
def test_columns_may_be_quoted_and_stand_in_any_order(name: str) -> None:
    header, *rows = sample(name).decode().splitlines()
    columns = header.split(",")
    quoted = ",".join(f'"{column}"' for column in columns)
    assert formats.detect("x", (quoted + "\n" + "\n".join(rows)).encode()) == name
    assert formats.detect("x", (header + "\r\n" + "\r\n".join(rows)).encode()) == name
    assert formats.detect("x", ",".join(reversed(columns)).encode()) == name
    records, issues = read(("\n" + ",".join(f" {column} " for column in columns) + "\n" + "\n".join(rows)).encode())
    assert records
    assert issues == []


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_read_whole_named_or_not_and_from_where_the_stream_stands(name: str) -> None:
    stream = io.BytesIO(b"prefix" + sample(name))
    stream.seek(6)
    found = list(formats.read(stream, file="f"))
    assert [item for item in found if isinstance(item, Issue)] == []
    assert any(isinstance(item, Record) for item in found)
    for asked in (name, "auto"):
        assert list(formats.read(io.BytesIO(sample(name)), file="f", format=asked)) == found
    assert {item.source for item in found if not isinstance(item, Issue)} == {formats.FORMATS[name].source}


# What is in none


@pytest.mark.parametrize("name", [None, "auto", *NAMES])
def test_an_empty_file_is_an_issue(name: str | None) -> None:
    records, [issue] = read(b"", name)
    assert (records, issue.code, issue.line, issue.path, issue.rejects_record) == ([], "file.empty", None, None, True)


@pytest.mark.parametrize(
    ("file", "head"),
    [
        ("x", b"{}"),
        ("x.jsonl", b"{}\n"),
        ("x.json", b"[]"),
        ("sister.csv", b"a,b\n"),
        ("sis.txt", b"a"),
        ("sis", b"a"),
        ("x", BOX_A.encode()),
        ("x", b"<a/>"),
        ("x", b"\xff\xfe"),
        # A value is no key, and no part of a key is one.
        ("x", b'{"a": "schengen_id"}'),
        ("x", b'{"a": "\\"schengen_id\\": 1"}'),
        ("x", b'{"my_schengen_id": 1}'),
        ("x", b"my_schengen_id,a\nschengen_id,b\n"),
    ],
)
def test_any_other_file_is_an_error_without_its_content(file: str, head: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        formats.detect(file, head)
    assert BOX_A not in str(caught.value)
    records, [issue] = read(head, file=file)
    assert (records, issue.file, issue.code, issue.rejects_record) == ([], file, "file.unknown_format", True)
    assert BOX_A not in repr(issue)


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"<!DOCTYPE a><IE4R05/>", "xml.doctype"),
        (b"<!-- never ends", "xml.truncated"),
        (b"<!--" + b"x" * 70_000 + b"--><IE4R05/>", "xml.prolog_too_long"),
        (b"\xff\xfe<\x00", "file.unknown_format"),
        (b'<?xml version="1.0" encoding="utf-7"?><IE4R05/>', "xml.encoding"),
    ],
)
def test_xml_that_hides_its_root_is_refused_for_what_hides_it(head: bytes, code: str) -> None:
    records, [issue] = read(head)
    assert (records, issue.code, issue.rejects_record) == ([], code, True)


def test_an_empty_head_is_in_no_format() -> None:
    with pytest.raises(FormatError):
        formats.detect("x.csv", b"")


@pytest.mark.parametrize(
    ("file", "head", "expected"),
    [
        ("dir.d/alerts-sis.jsonl", b"broken\n", "sis-jsonl"),
        ("dir.d/alerts-sis.json", b"broken\n", "sis-jsonl"),
        ("EIS_2026.CSV", b"a,b\n", "eis-csv"),
        ("csm.json", b"[]", "csm-json"),
        ("csm.ndjson", b"{}", "csm-jsonl"),
        ("ics2 2026.xml", b"broken", "ics2-ens"),
    ],
)
def test_where_the_content_does_not_tell_the_name_does(file: str, head: bytes, expected: str) -> None:
    assert formats.detect(file, head) == expected


def test_the_first_key_that_tells_decides() -> None:
    assert formats.detect("x", jsonl(alert(eis_ref="EIS-1"))) == "sis-jsonl"
    assert formats.detect("x", jsonl({"eis_ref": "EIS-1", **alert()})) == "eis-jsonl"
    assert formats.detect("x", jsonl(entity(provider="schengen_id"))) == "eis-jsonl"


@pytest.mark.parametrize("name", NAMES)
def test_an_object_that_spans_lines_does_not_change_the_system(name: str) -> None:
    if (kind := formats.FORMATS[name].kind) in {Kind.JSON, Kind.JSONL}:
        spread = sample(name).splitlines()[0].replace(b'", "', b'",\n"')
        assert formats.detect("x", spread).partition("-")[0] == name.partition("-")[0], kind


# What is asked for


def test_an_unknown_format_is_the_callers_error_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        formats.read(io.BytesIO(b""), file="f", format="cc315a")
    assert all(name in str(caught.value) for name in ("auto", *NAMES))


def test_formats_come_in_the_order_of_the_systems() -> None:
    order = [list(SYSTEMS).index(each.source.value) for each in formats.FORMATS.values()]
    assert order == sorted(order)
    assert [each.name for code in SYSTEMS for each in formats.formats_of(code)] == NAMES


# What is refused

PNRGOV = (
    b"UNA:+.? '\nUNB+IATA:1+1A+APIS+260517:0800+1++PNRGOV'\nUNG+PNRGOV+XX+XX+260517:0800+1+IA+11:1'\n"
    b"UNH+1+PNRGOV:11:1:IA+270517/0800/XX'\nMSG+:22'\n"
)
PNR = {
    "edifact": PNRGOV,
    "edifact without separators": PNRGOV.partition(b"\n")[2],
    "edifact with other separators": PNRGOV.replace(b"+", b"*").replace(b":", b"|"),
    "edifact behind a mark": BOM + b"\r\n" + PNRGOV,
    "xml": b'<?xml version="1.0"?><IATA_PNRGOVNotifRQ xmlns="http://www.iata.org/IATA/2007/00" Version="1.0"/>',
    "xml with prefix": b'<!-- a --><p:IATA_PNRGOVNotifRQ xmlns:p="http://www.iata.org/IATA/2007/00"/>',
    "xml without namespace": b"\n<IATA_PNRGOVNotifRQ/>",
    "xml in utf-16": '<?xml version="1.0" encoding="UTF-16"?><IATA_PNRGOVNotifRQ/>'.encode("utf-16"),
}


@pytest.mark.parametrize("data", PNR.values(), ids=PNR)
@pytest.mark.parametrize("name", [None, "auto", "sis-jsonl", "sis-csv", "ics2-ens", "csm-json"])
def test_passenger_name_records_are_refused_with_the_reason_whatever_they_are_called(
    data: bytes, name: str | None
) -> None:
    for call in (lambda: read(data, name, file="sis.jsonl"), lambda: formats.detect("sis.jsonl", data)):
        with pytest.raises(PurposeRefusedError) as caught:
            call()
        assert str(caught.value) == f"PNR is refused: {SYSTEMS['PNR'].reason}"


@pytest.mark.parametrize("code", [code for code, system in SYSTEMS.items() if system.refused])
def test_a_system_that_is_refused_is_refused_by_its_code(code: str) -> None:
    for name in (code, code.lower()):
        with pytest.raises(PurposeRefusedError, match=re.escape(SYSTEMS[code].reason)):
            formats.read(io.BytesIO(b""), file="f", format=name)
    assert formats.formats_of(code) == ()


@pytest.mark.parametrize("mark", ["<IATA_PNRGOVNotifRQ>", "UNB+IATA:1'UNH+1+PNRGOV:11:1'", "PNRGOV"])
def test_words_inside_a_record_do_not_refuse_the_file(mark: str) -> None:
    assert formats.detect("x", jsonl(alert(reason=mark))) == "sis-jsonl"
    message = sample("ics2-ens").replace(b"<relatedENS>", f"<!-- {mark} --><relatedENS>".encode())
    assert formats.detect("x", message) == "ics2-ens"


# Anything


def test_nothing_raises_takes_long_or_repeats_the_input() -> None:
    """Truncations, flipped bits and noise, recognised and read as every format; ``make fuzz`` goes on from here."""
    marker = b"QZPLANT7738"
    rng = random.Random(3)
    slowest = 0.0
    for name in NAMES:
        data = sample(name)
        tokens = list(re.finditer(rb"[A-Za-z0-9]+", data))
        inputs = [data[: rng.randrange(len(data))] for _ in range(15)]
        for _ in range(25):
            token = rng.choice(tokens)
            inputs.append(data[: token.start()] + marker + data[token.end() :])
            flipped = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            inputs.append(bytes(flipped))
        inputs += [rng.randbytes(500), marker * 50, b"[" * 50_000, b'{"a":' * 20_000, b"<a>" * 20_000, b'"' * 60_000]
        for each in inputs:
            for asked in (name, None):
                begin = time.process_time()
                found = list(formats.read(io.BytesIO(each), file="f", format=asked))
                slowest = max(slowest, time.process_time() - begin)
                assert marker.decode().lower() not in repr([x for x in found if isinstance(x, Issue)]).lower()
    assert slowest < 1


def test_records_come_out_while_the_file_is_read() -> None:
    stream = io.BufferedReader(io.BytesIO(jsonl(*(alert(schengen_id=f"DE-{n:06}") for n in range(5000)))))
    first = next(iter(formats.read(stream, file="f")))
    assert isinstance(first, Record)
    assert first.source_ref == "DE-000000"
    assert stream.tell() < 70_000


# The page


def test_the_index_names_every_format_once_and_no_other() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    rows = [line.split("|") for line in page.partition("## ")[0].splitlines() if line.startswith("| [")]
    assert sorted(name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row[3])) == sorted(NAMES)
