"""Which format a file is in, and the one call that reads any of them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from connector_psi.adapters import formats
from connector_psi.errors import ConfigError, FormatError
from tests.adapter_samples import BOX_A, alert, ens, entity, jsonl, read

SIS_CSV = b"schengen_id,issuing_state,article,category,object_type,action,sirene_contact,container_number\n"
EIS_CSV = b"entity_type,eis_ref,provider,evaluation_code,subject_class,container_number\n"


def test_the_names_of_the_formats() -> None:
    assert list(formats.FORMATS) == ["ics2-ens", "sis-jsonl", "sis-csv", "eis-jsonl", "eis-csv"]
    assert all(name == each.name and each.description and each.suffix for name, each in formats.FORMATS.items())


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("x", ens(), "ics2-ens"),
        ("x", b"\xef\xbb\xbf  " + ens(), "ics2-ens"),
        ("x", ens().decode().encode("utf-16"), "ics2-ens"),
        ("x.xml", b"broken", "ics2-ens"),
        ("x", jsonl(alert()), "sis-jsonl"),
        ("x", jsonl(entity()), "eis-jsonl"),
        ("x", b"\xef\xbb\xbf" + jsonl(entity(provider="schengen_id")), "eis-jsonl"),
        ("x.jsonl", b"broken first line\n" + jsonl(alert()), "sis-jsonl"),
        ("x", SIS_CSV, "sis-csv"),
        ("x", EIS_CSV, "eis-csv"),
        ("dir.d/alerts-sis.jsonl", b"broken\n", "sis-jsonl"),
        ("EIS_2026.CSV", b"a,b\n", "eis-csv"),
    ],
)
def test_a_file_is_recognised_by_its_bytes_and_only_then_by_its_name(name: str, head: bytes, expected: Any) -> None:
    assert formats.detect(name, head) == expected


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("x", b"{}"),
        ("x.jsonl", b"{}\n"),
        ("sister.csv", b"a,b\n"),
        ("sis.txt", b"a"),
        ("x", b""),
        ("x", BOX_A.encode()),
    ],
)
def test_any_other_file_is_an_error_without_its_content(name: str, head: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        formats.detect(name, head)
    assert BOX_A not in str(caught.value)
    records, [issue] = read(head or b"?", file=name)
    assert (records, issue.file, issue.code, issue.rejects_record) == ([], name, "file.unknown_format", True)


@pytest.mark.parametrize("name", [None, *formats.FORMATS])
def test_an_empty_file_is_an_issue(name: str | None) -> None:
    records, [issue] = read(b"", name)
    assert (records, issue.code, issue.line, issue.path, issue.rejects_record) == ([], "file.empty", None, None, True)


def test_an_unknown_format_is_the_callers_error_at_once() -> None:
    with pytest.raises(ConfigError):
        formats.read(io.BytesIO(b""), file="f", format="cc315a")


@pytest.mark.parametrize(
    "data",
    [
        ens(),
        jsonl(alert()),
        jsonl(entity()),
        SIS_CSV + f"DE-1234,DE,38,g,container,seizure,desk,{BOX_A}\n".encode(),
        EIS_CSV + f"container,EIS-1,NL,A1,none,{BOX_A}\n".encode(),
    ],
)
def test_each_format_is_read_without_being_named_and_from_where_the_stream_stands(data: bytes) -> None:
    stream = io.BytesIO(b"prefix" + data)
    stream.seek(6)
    records = list(formats.read(stream, file="f"))
    assert [getattr(record, "source_ref", record) for record in records] == [read(data)[0][0].source_ref]


def test_records_come_out_while_the_file_is_read() -> None:
    stream = io.BufferedReader(io.BytesIO(jsonl(*(alert(schengen_id=f"DE-{n:06}") for n in range(5000)))))
    first = next(iter(formats.read(stream, file="f")))
    assert first.source_ref == "DE-000000"
    assert stream.tell() < 70_000
