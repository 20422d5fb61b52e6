"""Element events from an XML stream that nobody vouches for, in bounded memory.

Decides, in this order:

1. the encoding is one of ``ENCODINGS``, and the prolog holds no DOCTYPE; both are read from the bytes before
   any XML parser sees them, so that no entity is ever declared, let alone expanded;
2. what an attachment holds (a run of base64 as long as a whole chunk) never reaches the parser;
3. depth, text and name lengths are libxml2's own limits (``huge_tree`` is off); the number of different names,
   attributes and namespaces is bounded here, because libxml2 keeps each of them for as long as it parses;
4. whatever breaks the stream ends it: the events before the break stand, and ``XmlStream.cut`` says what and where.

Leaves to others: what the elements mean (``ics2``). The tree that libxml2 builds is cut down behind the reader:
an element is complete at its end event, and gone soon after it.

Nothing here copies a parser's message into an issue, because libxml2 and lxml quote the input in theirs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from lxml import etree

from connector_psi.domain.records import Issue
from connector_psi.errors import ConfigError

ENCODINGS = frozenset({"utf-8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"})
"""Encodings that are read. UTF-7 and EBCDIC can hide a DOCTYPE from whoever looks for one."""

MAX_PROLOG_BYTES = 65_536
MAX_NAMES = 5_000
"""Different element and attribute names of one message; the whole of ICS2 has some 300."""
MAX_NAMESPACES = 1_000
"""Different namespace declarations of one message."""
MAX_SCHEMA_ISSUES = 200
"""Schema errors reported of one message; the last one says that there were more."""

_CHUNK_BYTES = 32_768
_CLEAN_EVERY = 256
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n"
_DECLARED_ENCODING = re.compile(r"""\A<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_XSD_ELEMENT = "{http://www.w3.org/2001/XMLSchema}element"


def line_of(element: etree._Element) -> int | None:
    """Return the line on which an element starts, 1-based, also beyond the 65,535 that old parsers counted to."""
    return element.sourceline  # type: ignore[return-value]  # the stubs leave its type open


class XmlStream:
    """One pass over a message.

    Args:
        stream: The message, at its first byte.
        file: Display name, for issues.
    """

    def __init__(self, stream: BinaryIO, *, file: str) -> None:
        self._source = _Source(stream)
        self._file = file
        self.cut: Issue | None = None
        """What ended the stream before its end; None while all is well."""

    def events(self) -> Iterator[tuple[str, etree._Element]]:
        """Yield ``("start", element)`` and ``("end", element)`` in document order.

        An element's text is complete at its end event. The reader may keep nothing of an element beyond it.
        After the last event, ``cut`` is set if the message broke off or was refused.
        """
        names: set[str] = set()
        namespaces: set[object] = set()
        count = 0
        line: int | None = None
        broken = False
        try:
            for event, item in _parser(self._source):
                if event == "start-ns":
                    namespaces.add(item)
                    if len(namespaces) > MAX_NAMESPACES:
                        self.stop("xml.too_many_names", line=line)
                        return
                    continue
                if broken:
                    continue
                line = line_of(item)
                if event == "start":
                    if self._source.at_end:
                        # Only a tag that was cut begins after the last byte: what it says is not what was sent.
                        broken = True
                        continue
                    if item.tag not in names:
                        # The root comes through here, so this also sees a DOCTYPE that the prolog check missed.
                        names.add(item.tag)
                        if item.getroottree().docinfo.internalDTD is not None:
                            self.stop("xml.doctype", line=line)
                    if attributes := item.keys():
                        names.update(attributes)
                    if len(names) > MAX_NAMES:
                        self.stop("xml.too_many_names", line=line)
                    if self.cut is not None:
                        return
                yield event, item
                count += 1
                if event == "end" and count >= _CLEAN_EVERY:
                    count = 0
                    _drop_what_precedes(item)
        except etree.LxmlError as error:
            self.stop(_code(error, at_end=self._source.at_end), line=getattr(error, "lineno", None) or line)

    def stop(self, code: str, *, line: int | None, path: str | None = None) -> None:
        """End the stream here; the first reason stands."""
        if self.cut is None:
            self.cut = Issue(self._file, line or None, path, code, rejects_record=False)

    def digest(self) -> bytes:
        """Read what is left and return the SHA-256 of the whole message as it stands in the file."""
        self._source.drain()
        return self._source.sha256.digest()


class _Source:
    """What the parser reads from: hashes every byte, and drops the content of attachments."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.at_end = False

    def read(self, _size: int = -1) -> bytes:
        while chunk := self._stream.read(_CHUNK_BYTES):
            self.sha256.update(chunk)
            if b"<" in chunk or chunk.translate(None, _BASE64):
                return chunk
            # An attachment: libxml2 would hold all of it, and refuses texts of over 10 MB. Its line
            # breaks stay, so that the lines of what follows are right.
            if breaks := chunk.count(b"\n"):
                return b"\n" * breaks
        self.at_end = True
        return b""

    def drain(self) -> None:
        while chunk := self._stream.read(_CHUNK_BYTES):
            self.sha256.update(chunk)


class _TagSource:
    """Hands out the stream so that a piece ends with each tag: an error belongs to the last event."""

    def __init__(self, stream: BinaryIO) -> None:
        self._source = _Source(stream)
        self._pieces: Iterator[bytes] = iter(())

    def read(self, _size: int = -1) -> bytes:
        for piece in self._pieces:
            return piece
        self._pieces = iter(re.findall(rb"[^>]*>|[^>]+", self._source.read()))
        return next(self._pieces, b"")


def refuse(stream: BinaryIO, *, file: str) -> Issue | None:
    """Say why a message is not read at all, or None if it may be parsed. Leaves the stream where it was.

    Args:
        stream: The message, at its first byte; seekable.
        file: Display name, for the issue.

    Returns:
        ``file.empty``, ``xml.encoding``, ``xml.malformed``, ``xml.prolog_too_long`` or ``xml.doctype``.
    """
    start = stream.tell()
    head = stream.read(MAX_PROLOG_BYTES)
    stream.seek(start)
    if not head:
        return Issue(file, None, None, "file.empty", rejects_record=True)
    text = _decoded(head)
    if text is None:
        return Issue(file, 1, None, "xml.encoding", rejects_record=True)
    code, line = _prolog(text, whole=len(head) < MAX_PROLOG_BYTES)
    return None if code is None else Issue(file, line, None, code, rejects_record=True)


def _decoded(head: bytes) -> str | None:
    """Return the head as text, or None if its encoding is not read or contradicts itself."""
    if head.startswith(b"\xef\xbb\xbf"):
        bom, text = "utf-8", head[3:].decode("utf-8", errors="replace")
    elif head.startswith((b"\xff\xfe", b"\xfe\xff")):
        # UTF-32 begins with the same two bytes; its NULs show it below.
        bom, text = "utf-16", head.decode("utf-16", errors="replace")
    else:
        bom, text = "", head.decode("latin-1")
    if "\0" in text[:4]:
        return None
    declared = match[1].lower() if (match := _DECLARED_ENCODING.match(text)) else bom or "utf-8"
    if declared in {"utf-16le", "utf-16be"}:
        declared = "utf-16"
    return text if declared in ENCODINGS and declared.startswith("utf-16") == (bom == "utf-16") else None


def _prolog(text: str, *, whole: bool) -> tuple[str | None, int | None]:
    """Walk declarations, comments and white space up to the root element."""
    at = 0
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
        line = text.count("\n", 0, at) + 1
        if text.startswith("<!--", at):
            end, size = text.find("-->", at + 4), 3
        elif text.startswith("<?", at):
            end, size = text.find("?>", at + 2), 2
        elif text.startswith("<!", at):
            return "xml.doctype", line
        elif text.startswith("<", at):
            return None, None
        elif at < len(text):
            return "xml.malformed", line
        else:
            end, size = -1, 0
        if end < 0:
            return ("xml.truncated" if whole else "xml.prolog_too_long"), line
        at = end + size


def _parser(source: _Source | _TagSource, schema: etree.XMLSchema | None = None) -> etree.iterparse:
    """Return the one way in which this package parses XML from outside."""
    return etree.iterparse(
        source,
        events=("start", "end", "start-ns"),
        schema=schema,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )


def _drop_what_precedes(element: etree._Element) -> None:
    """Free every element that closed before this one did: the earlier siblings of it and of its ancestors.

    Only elements whose end event was read are touched; libxml2 may be a chunk ahead of the events.
    """
    inner: etree._Element | None = element
    while inner is not None:
        outer = inner.getparent()
        if outer is not None and (position := outer.index(inner)):
            del outer[:position]
        inner = outer


def _code(error: etree.LxmlError, *, at_end: bool) -> str:
    number = getattr(error, "code", None)
    if number in {etree.ErrorTypes.ERR_INVALID_ENCODING, etree.ErrorTypes.ERR_UNSUPPORTED_ENCODING}:
        return "xml.encoding"
    if number == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
        return "xml.too_large"
    if number == etree.ErrorTypes.ERR_INTERNAL_ERROR:
        # libxml2 stopped in the midst, at an entity that nobody declared, and lxml says so only at the end.
        return "xml.malformed"
    return "xml.truncated" if at_end else "xml.malformed"


class Schema:
    """A compiled XSD and the element names that it declares, which are all that an issue may name.

    Args:
        path: The XSD. It comes from the operator of this node and is trusted.

    Raises:
        ConfigError: If it cannot be read or does not compile.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.compiled = etree.XMLSchema(etree.parse(path, etree.XMLParser(no_network=True, resolve_entities=False)))
            # Included documents lie beside the main one.
            declared = (
                element.get("name")
                for document in sorted(path.parent.glob("*.xsd"))
                for _, element in etree.iterparse(document, tag=_XSD_ELEMENT, no_network=True, resolve_entities=False)
            )
            self.names = frozenset(name for name in declared if name)
        except (OSError, etree.LxmlError) as error:
            raise ConfigError(f"schema {path.name} does not compile") from error


@lru_cache(maxsize=8)
def load_schema(directory: Path, name: str) -> Schema:
    """Find and compile an XSD below a folder; compiled once per process.

    Args:
        directory: The folder that ``--schemas`` names, or any folder above the XSD.
        name: File name of the XSD.

    Raises:
        ConfigError: If there is none, or it does not compile.
    """
    found = [directory / name] if (directory / name).is_file() else sorted(directory.rglob(name))
    if not found:
        raise ConfigError(f"no {name} below the schema folder")
    return Schema(found[0])


def validate(stream: BinaryIO, schema: Schema, *, file: str) -> Iterator[Issue]:
    """Report where a message departs from its schema, in one pass of bounded memory.

    The message must have passed :func:`refuse`. What breaks off the stream ends the validation without a word:
    the reading pass reports that.

    Args:
        stream: The message, at its first byte.
        schema: From :func:`load_schema`.
        file: Display name, for the issues.

    Returns:
        At most ``MAX_SCHEMA_ISSUES`` issues with codes ``xsd.`` and libxml2's name of the error; the path holds
        names that the schema declares and ``*`` for any other. None of them rejects a record.
    """
    context = _parser(_TagSource(stream), schema.compiled)
    path: list[str] = []
    reported = 0
    count = 0
    try:
        for event, element in context:
            if event == "start-ns":
                continue
            if event == "start":
                name = etree.QName(element).localname
                path.append(name if name in schema.names else "*")
            errors = context.error_log
            for entry in list(errors)[reported:]:
                reported += 1
                code = entry.type_name.lower().removeprefix("schemav_")
                if reported > MAX_SCHEMA_ISSUES:
                    yield Issue(file, line_of(element), None, "xsd.too_many_errors", rejects_record=False)
                    return
                yield Issue(file, line_of(element), "/" + "/".join(path), f"xsd.{code}", rejects_record=False)
            if event == "end":
                path.pop()
                count += 1
                if count % _CLEAN_EVERY == 0:
                    _drop_what_precedes(element)
    except etree.LxmlError:
        return
