"""The elements of one JSON document that nobody vouches for, as they come: an array, or one object alone.

Decides: that an element is read as a line of JSON Lines is (the same decoder, the digest over its bytes as they stand),
how much of a document is held (one element and what was read ahead), what ends a document before its end, and that a
wrapper, an object with the array under a key, is read as the array.
Leaves to others: files of one object a line (``lines``), what an element means (each adapter).

An element that is JSON but breaks a rule costs itself. What is no JSON costs what follows too, because nothing then
says where the next element begins.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO

from connector_psi.domain.lines import STRICT_JSON, Line
from connector_psi.domain.records import Issue
from connector_psi.errors import FormatError

MAX_ELEMENT_CHARS = 1_048_576
"""Of one element; as much as a line of JSON Lines may have."""

DOCUMENT_CODES: Mapping[str, str] = MappingProxyType(
    {
        "json.truncated": "the document ends before its last bracket; what follows is lost",
        "json.malformed": "no JSON; what follows is lost",
        "json.encoding": "not UTF-8; what follows is lost",
        "json.too_large": "one element has more than 1,048,576 characters; what follows is lost",
        "json.not_an_object": "an element is JSON, but no object; the others stand",
        "json.duplicate_key": "a key stands twice in one object of an element; the others stand",
    }
)
"""Reason codes of this module."""

_CHUNK_BYTES = 262_144
_SPACE = re.compile(r"[ \t\r\n]*")
# What stands where the decoder stops if more text could mend it: nothing, or a part of a literal, a number, an escape.
_CUT = re.compile(r"\s*(?:t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?|[-.]|[eE][+-]?|\\?(?:u[0-9A-Fa-f]{0,4})?)\Z")
# Finds where an element ends that the strict decoder does not take; numbers of any length are left as they are.
_LAX_JSON = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True)
class Element(Line):
    """One element of a document; ``number`` is the line on which it begins."""

    position: int | None = None
    """In the array, from 0; None if the document is this one object."""

    def place(self, *keys: str | int) -> str:
        """Name a place: ``$.4.seals.1.number``; where the document is one object, ``$.seals.1.number``."""
        # Not ``super()``: a dataclass with slots is another class than the one whose body this is.
        return Line.place(self, *keys) if self.position is None else Line.place(self, self.position, *keys)


class _Broken(Exception):  # noqa: N818 - never leaves this module
    """Nothing more can be read."""

    def __init__(self, code: str, line: int) -> None:
        super().__init__()
        self.code = code
        self.line = line


class _Text:
    """As much of a document as is needed at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._keep: int | None = None
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """Return the next character that is no white space, without taking it; empty at the end."""
        while True:
            start, self._at = self._at, self._spaces()
            self.line += self._text.count("\n", start, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """Take the next character, which must be one of those expected."""
        char = self.peek()
        if not char:
            raise _Broken("json.truncated", self.line)
        if char not in expected:
            raise _Broken("json.malformed", self.line)
        self._at += 1
        return char

    def end(self) -> None:
        """Stop at what follows the last value."""
        if self.peek():
            raise _Broken("json.malformed", self.line)

    def keep(self) -> None:
        """Hold on to what comes from here, until :meth:`kept` or :meth:`forget`."""
        self._keep = self._at

    def kept(self) -> str:
        """Return what came since :meth:`keep`."""
        kept = self._text[self._keep : self._at]
        self._keep = None
        return kept

    def forget(self) -> None:
        """Hold on to nothing any longer."""
        self._keep = None

    def value(self) -> tuple[Any, str]:
        """Take one value, and return it with an empty code; or None and the code of the rule that it breaks."""
        if not self.peek():
            raise _Broken("json.truncated", self.line)
        while True:
            code = ""
            try:
                try:
                    value, end = STRICT_JSON.raw_decode(self._text, self._at)
                except (FormatError, ValueError) as error:
                    if isinstance(error, json.JSONDecodeError):
                        raise
                    # NaN, a number of too many digits, a key that stands twice: the value ends somewhere all the same.
                    code = "json.duplicate_key" if isinstance(error, FormatError) else "json.malformed"
                    value, (_, end) = None, _LAX_JSON.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                line = self.line + self._text.count("\n", self._at, error.pos)
                if not (error.msg.startswith("Unterminated string") or _CUT.match(self._text, error.pos)):
                    raise _Broken("json.malformed", line) from None
                if not self._more():
                    raise _Broken("json.truncated", line) from None
                continue
            except RecursionError:
                raise _Broken("json.malformed", self.line) from None
            # A number may go on in what is unread.
            if end == len(self._text) and self._more():
                continue
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            return value, code

    def _spaces(self) -> int:
        found = _SPACE.match(self._text, self._at)
        assert found is not None, "it matches nothing too"
        return found.end()

    def _more(self) -> bool:
        """Read on; what was taken and is not kept is dropped."""
        start = self._at if self._keep is None else self._keep
        if len(self._text) - start > MAX_ELEMENT_CHARS:
            raise _Broken("json.too_large", self.line)
        if self._ended:
            return False
        chunk = self._stream.read(_CHUNK_BYTES)
        self._ended = not chunk
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError:
            raise _Broken("json.encoding", self.line) from None
        self._text = self._text[start:] + text
        self._at -= start
        self._keep = None if self._keep is None else 0
        return not self._ended


def read_json_document(stream: BinaryIO, *, file: str, array: str = "") -> Iterator[Element | Issue]:
    """Yield each element of a JSON document, or what is wrong with it.

    Args:
        stream: Buffered and binary, at its first byte.
        file: Display name, for issues.
        array: Key of the array in documents that are an object around it; what stands beside it is not read. An object
            without this key is an element itself.

    Cost: one element, and 1.3 million characters at most beside it, are held; as fast as JSON Lines.
    """
    text = _Text(stream)
    try:
        yield from _array(text, file) if text.peek() == "[" else _object(text, file, array)
        text.end()
    except _Broken as broken:
        yield Issue(file, broken.line, None, broken.code, rejects_record=True)


def _array(text: _Text, file: str) -> Iterator[Element | Issue]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    position = 0
    while True:
        text.peek()
        line = text.line
        text.keep()
        value, code = text.value()
        raw = text.kept()
        if isinstance(value, dict):
            yield Element(line, _digest(raw), value, position=position)
        else:
            yield Issue(file, line, f"$.{position + 1}", code or "json.not_an_object", rejects_record=True)
        position += 1
        if text.take(",]") == "]":
            return


def _object(text: _Text, file: str, array: str) -> Iterator[Element | Issue]:
    text.peek()
    line = text.line
    text.keep()
    document: dict[str, Any] = {}
    is_wrapper, problem = False, ""
    sign = text.take("{")
    if text.peek() == "}":
        sign = text.take("}")
    while sign != "}":
        if text.peek() not in {'"', ""}:
            raise _Broken("json.malformed", text.line)
        key, _ = text.value()
        text.take(":")
        if array and key == array and text.peek() == "[":
            is_wrapper = True
            text.forget()
            yield from _array(text, file)
        else:
            value, code = text.value()
            if not is_wrapper:
                problem = problem or code or ("json.duplicate_key" if key in document else "")
                document[key] = value
        sign = text.take(",}")
    if is_wrapper:
        return
    raw = text.kept()
    if problem:
        yield Issue(file, line, "$", problem, rejects_record=True)
    else:
        yield Element(line, _digest(raw), document)


def _digest(raw: str) -> bytes:
    return hashlib.sha256(raw.encode()).digest()
