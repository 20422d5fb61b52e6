"""The elements of a JSON document as they come: whole, in pieces, cut, broken, too long."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from connector_psi.domain import jsontext
from connector_psi.domain.jsontext import DOCUMENT_CODES, Element, read_json_document
from connector_psi.domain.records import Issue

# Every kind of value, escapes, text beyond ASCII, white space of each kind.
WHOLE = (
    '[ {"a":1,"b":[true,false,null,-1.5e3,0],"c":"x\\u00e9\\n\\"y\\ud83d\\ude00"},\r\n\t{"é":"ü","d":{"e":{}}} ,{}\n]\n'
)
DOCUMENTS = json.loads(WHOLE)


def read(data: bytes | str, array: str = "") -> list[Element | Issue]:
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return list(read_json_document(stream, file="f", array=array))


def codes(found: list[Element | Issue]) -> list[str]:
    return [each.code for each in found if isinstance(each, Issue)]


def documents(found: list[Element | Issue]) -> list[dict[str, Any]]:
    return [each.document for each in found if isinstance(each, Element)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_an_array_is_read_in_whatever_pieces_it_comes(monkeypatch: pytest.MonkeyPatch, size: int, bom: bytes) -> None:
    monkeypatch.setattr(jsontext, "_CHUNK_BYTES", size)
    found = read(bom + WHOLE.encode())
    assert documents(found) == DOCUMENTS
    assert [each.number for each in found if isinstance(each, Element)] == [1, 2, 2]
    assert [each.place("d", 0, "e") for each in found if isinstance(each, Element)] == [
        f"$.{n}.d.1.e" for n in (1, 2, 3)
    ]


def test_the_digest_is_over_the_bytes_of_the_element() -> None:
    raw = '{"é" : 1}'
    found = read(f"[{raw},\n{raw} ]")
    assert [each.digest for each in found if isinstance(each, Element)] == [hashlib.sha256(raw.encode()).digest()] * 2


def test_one_object_is_the_element_itself() -> None:
    raw = '{"a" : {"b":[1]},\n "c":2}'
    [element] = read("\n " + raw + "\n")
    assert isinstance(element, Element)
    assert (element.document, element.number) == ({"a": {"b": [1]}, "c": 2}, 2)
    assert element.digest == hashlib.sha256(raw.encode()).digest()
    assert element.place("a", "b") == "$.a.b"


@pytest.mark.parametrize("where", ['{"events":%s}', '{"page":1,"events":%s}', '{"events":%s,"next":{"events":[{}]}}'])
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_an_object_around_the_array_is_read_as_the_array(
    monkeypatch: pytest.MonkeyPatch, where: str, size: int
) -> None:
    monkeypatch.setattr(jsontext, "_CHUNK_BYTES", size)
    assert documents(read(where % WHOLE, "events")) == DOCUMENTS
    assert documents(read('{"events":5}', "events")) == [{"events": 5}]


@pytest.mark.parametrize("data", ["[]", " [ ] ", '{"events":[]}'])
def test_an_empty_array_has_no_element(data: str) -> None:
    assert read(data, "events") == []


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("wrapper", ["%s", '{"events":%s,"z":1}'])
def test_every_beginning_of_a_document_is_cut_and_keeps_what_closed(
    monkeypatch: pytest.MonkeyPatch, size: int, wrapper: str
) -> None:
    monkeypatch.setattr(jsontext, "_CHUNK_BYTES", size)
    data = (wrapper % WHOLE).rstrip().encode()
    for end in range(len(data)):
        found = read(data[:end], "events")
        assert documents(found) == DOCUMENTS[: len(found) - 1]
        assert codes(found) in (["json.truncated"], ["json.encoding"]), end
        assert codes(found) == ["json.truncated"] or data[end - 1] > 127


@pytest.mark.parametrize(
    ("data", "before", "line"),
    [
        ('[{"a" 1}]', 0, 1),
        ('[{"a":1}\n,\n{"a":1 "b"}]', 1, 3),
        ("[{}{}]", 1, 1),
        ("[{},]", 1, 1),
        ("[{}] x", 1, 1),
        ("[{}]\n[{}]", 1, 2),
        ("[{} x", 1, 1),
        ('[{"a":"\n"}]', 0, 1),
        ('[{"a":"\\x"}]', 0, 1),
        ("[{},{]", 1, 1),
        ("[{},nope]", 1, 1),
        ("[{},Infinit]", 1, 1),
        ("5", 0, 1),
        ("{5:1}", 0, 1),
        ('{"a":1,}', 0, 1),
        ('{"a":{"b"}}', 0, 1),
        ("[" * 100_000, 0, 1),
        ('{"a":' * 100_000, 0, 1),
    ],
)
def test_what_is_no_json_costs_what_follows(data: str, before: int, line: int) -> None:
    found = read(data)
    assert len(documents(found)) == before
    assert found[before:] == [Issue("f", line, None, "json.malformed", rejects_record=True)]


def test_an_element_that_breaks_a_rule_costs_itself() -> None:
    bad = ["1", '"x"', "[]", "null", '{"a":NaN}', '{"a":[-Infinity]}', '{"a":1,"a":2}', '{"b":{"a":1,"a":2}}']
    bad.append('{"a":%s}' % ("9" * 5000))
    found = read('[{"ok":1},\n' + ",\n".join(bad) + ',{"ok":2}]')
    assert documents(found) == [{"ok": 1}, {"ok": 2}]
    expected = ["json.not_an_object"] * 4 + ["json.malformed"] * 2 + ["json.duplicate_key"] * 2 + ["json.malformed"]
    assert [(each.line, each.path, each.code, each.rejects_record) for each in found if isinstance(each, Issue)] == [
        (position + 1, f"$.{position + 1}", code, True) for position, code in enumerate(expected, 1)
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ('{"a":1,"a":2}', "json.duplicate_key"),
        ('{"a":{"b":1,"b":2}}', "json.duplicate_key"),
        ('{"a":NaN}', "json.malformed"),
    ],
)
def test_an_object_alone_that_breaks_a_rule_is_lost(data: str, code: str) -> None:
    assert read(data) == [Issue("f", 1, "$", code, rejects_record=True)]


def test_bytes_that_are_no_utf_8_end_the_document() -> None:
    assert codes(read(b'[{"a":"\xff"}]')) == ["json.encoding"]
    assert codes(read('[{"a":"é"}]'.encode("utf-16"))) == ["json.encoding"]


@pytest.mark.parametrize(
    "data",
    [
        b'[{"a":1},{"a":"' + b"x" * 3_000_000 + b'"}]',
        b'[{"a":1},{"a":[' + b"1," * 1_500_000 + b"1]}]",
        b'{"events":[{"a":1}],"b":[' + b"1," * 1_500_000 + b"1]}",
    ],
    ids=["text", "list", "beside"],
)
def test_an_element_that_is_too_long_is_not_held(data: bytes) -> None:
    found = read(data, "events")
    assert documents(found) == [{"a": 1}]
    assert codes(found) == ["json.too_large"]


class Endless(io.RawIOBase):
    """An array that goes on, made as it is read."""

    def __init__(self, piece: bytes, count: int, begin: bytes = b"[", end: bytes = b"{}]") -> None:
        self._parts = iter([begin, *[piece] * count, end])
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and (part := next(self._parts, b"")):
            self._rest = part
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@pytest.mark.parametrize("end", [b"{}]", b'{}],"a":1' + b',"b":2' * 60_000 + b"}"], ids=["array", "wrapper"])
def test_memory_stays_bounded(end: bytes) -> None:
    begin = b"[" if end == b"{}]" else b'{"events":['
    piece = b'{"a":"' + b"x" * 100_000 + b'"},'
    stream = io.BufferedReader(Endless(piece, 300, begin, end))
    tracemalloc.start()
    try:
        count = sum(isinstance(each, Element) for each in read_json_document(stream, file="f", array="events"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 301
    assert peak < 8_000_000


def test_every_code_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    assert [code for code in DOCUMENT_CODES if f"`{code}`" not in page] == []
