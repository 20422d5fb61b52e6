"""Which formats there are, which of them a file is in, and the one call that reads any of them.

Decides: that every module of this folder with a ``FORMATS`` is an adapter, how a file is recognised, that a file in no
known format is an issue and not an exception, and that the data of a system that is refused is refused.
Leaves to others: reading (one module per system, none of which knows another), which systems are refused
(``domain.systems``). This is the only module that knows all adapters.

A file is recognised by what it says, in this order:

1. XML by the name of its root element, behind whatever may precede it;
2. CSV by a column in its first line that one format alone has;
3. JSON by the first key that one format alone has. Bad lines before it hide nothing. Whether it is JSON Lines or a
   document counts only where the format is read as either;
4. where nothing of this tells, by its name: a word of it that is the code of a system, and its suffix. What it holds is
   then reported by the adapter, line by line.
"""

from __future__ import annotations

import csv
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import BinaryIO

import connector_psi.adapters as package
from connector_psi.adapters.xml import refuse, root_name
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.records import Issue
from connector_psi.domain.systems import SYSTEMS, System, refused_system
from connector_psi.errors import ConfigError, FormatError, PurposeRefusedError

HEAD_BYTES = 65_536
"""How much of a file :func:`detect` wants to see."""


def _discover() -> Mapping[str, Format]:
    found = [
        each
        for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__))
        if module != "formats"
        for each in getattr(import_module(f"{package.__name__}.{module}"), "FORMATS", ())
    ]
    order = list(SYSTEMS)
    found.sort(key=lambda each: order.index(each.source.value))
    return MappingProxyType({each.name: each for each in found})


FORMATS: Mapping[str, Format] = _discover()
"""By the name that ``--format`` takes, in the order of the systems."""

_BOM = b"\xef\xbb\xbf"
_XML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<|\xff\xfe(?:\s\0)*<\0|\xfe\xff(?:\0\s)*\0<")
_JSON_KINDS = (Kind.JSONL, Kind.JSON)
_JSON_KEY = re.compile(rb'"([A-Za-z0-9_]{1,64})"\s*:')
_SUFFIXES: Mapping[str, Sequence[Kind]] = MappingProxyType(
    {
        ".jsonl": _JSON_KINDS,
        ".ndjson": _JSON_KINDS,
        ".json": (Kind.JSON, Kind.JSONL),
        ".csv": (Kind.CSV,),
        ".xml": (Kind.XML,),
    }
)


def formats_of(source: str) -> tuple[Format, ...]:
    """Return the formats of a system, by its code."""
    return tuple(each for each in FORMATS.values() if each.source == source)


def detect(name: str, head: bytes) -> str:
    """Say which format a file is in.

    Args:
        name: Its name, with or without folders.
        head: Its first ``HEAD_BYTES`` bytes, or all of it.

    Returns:
        A key of ``FORMATS``.

    Raises:
        PurposeRefusedError: It holds data of a system that is refused; the text gives the reason.
        FormatError: It is in none of them. Carries no byte of the file.
    """
    root = _root(head)
    if (system := refused_system(head, root)) is not None:
        raise _refusal(system)
    text = head.removeprefix(_BOM).lstrip()
    found = _by_root(root) if root else _by_column(text) or _by_key(text, is_cut=len(head) >= HEAD_BYTES)
    found = found or _by_name(PurePath(name.lower()))
    if found is None:
        raise FormatError("the file is in no known format")
    return found.name


def _root(head: bytes) -> str:
    """Return the qualified name of the root element; empty where there is none.

    White space before an XML declaration is an error, and the adapter's to report.
    """
    if not _XML_START.match(head):
        return ""
    return root_name(head if b"\0" in head[:4] else head.removeprefix(_BOM).lstrip()) or ""


def _by_root(root: str) -> Format | None:
    formats = _of_kinds(Kind.XML)
    namespace = root.rpartition("}")[0] + "}*"
    exact = next((each for each in formats if root in each.marks), None)
    return exact or next((each for each in formats if namespace in each.marks), None)


def _by_column(text: bytes) -> Format | None:
    """Return the format that has a column which the first line names."""
    try:
        cells = next(csv.reader([text.split(b"\n", 1)[0].decode(errors="replace").rstrip("\r")]), [])
    except csv.Error:
        return None
    formats = _of_kinds(Kind.CSV)
    return next((each for cell in cells for each in formats if cell.strip() in each.marks), None)


def _by_key(text: bytes, *, is_cut: bool) -> Format | None:
    """Return the format that has a key which the text names first, as lines or as a document."""
    marks: dict[bytes, list[Format]] = {}
    for each in _of_kinds(*_JSON_KINDS):
        for mark in each.marks:
            marks.setdefault(mark.encode(), []).append(each)
    formats = next((marks[key[1]] for key in _JSON_KEY.finditer(text) if key[1] in marks), None)
    if formats is None:
        return None
    kind = _json_kind(text, is_cut=is_cut) if len(formats) > 1 else formats[0].kind
    return next((each for each in formats if each.kind is kind), formats[0])


def _json_kind(text: bytes, *, is_cut: bool) -> Kind:
    """Say whether the beginning of a text is of JSON Lines or of one document.

    Of a document that spans lines neither the first line nor the last is an object by itself. A single line may be
    either, and means the same as both.
    """
    lines = [line for line in text.split(b"\n") if line.strip()]
    if len(lines) < 2:
        return Kind.JSON
    whole = lines[:-1] if is_cut else lines
    return Kind.JSONL if _is_object(whole[0]) or _is_object(whole[-1]) else Kind.JSON


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _by_name(name: PurePath) -> Format | None:
    words = re.split(r"[^a-z0-9]+", name.stem)
    return next(
        (
            each
            for kind in _SUFFIXES.get(name.suffix, ())
            for each in _of_kinds(kind)
            if each.name.partition("-")[0] in words
        ),
        None,
    )


def _of_kinds(*kinds: Kind) -> tuple[Format, ...]:
    return tuple(each for each in FORMATS.values() if each.kind in kinds)


def read(
    stream: BinaryIO,
    *,
    file: str,
    format: str | None = None,  # noqa: A002 - as --format
    schemas: Path | None = None,
) -> Iterator[Item]:
    """Read a file in any of the formats, in bounded memory.

    Nothing in the file raises: what cannot be used is an issue that names the place and a reason code, never the
    value. What can be used comes out even where the rest cannot.

    Args:
        stream: Seekable, buffered and binary; read from where it stands to its end.
        file: Display name, for issues and for recognising the format.
        format: A key of ``FORMATS``; recognised from the file where it is None or ``auto``.
        schemas: Folder with the XSDs to hold XML messages against; optional.

    Returns:
        Records and issues in source order, as they are read. The issues of a record come before it, the supersession
        of a message after its records.

    Raises:
        ConfigError: At once, if ``format`` is unknown; on reading, if ``schemas`` holds no usable schema.
        PurposeRefusedError: At once, if ``format`` is a system that is refused; on reading, if the file is of one.
        OSError: On reading, if the stream fails.
    """
    return _read(stream, file, known_format(format), schemas)


def known_format(name: str | None) -> str | None:
    """Return the key of ``FORMATS`` that ``--format`` means, None where it is to be recognised.

    Raises:
        ConfigError: There is no such format.
        PurposeRefusedError: It is the code of a system that is refused.
    """
    if name is None or name == "auto":
        return None
    if name not in FORMATS:
        system = SYSTEMS.get(name.upper())
        if system is not None and system.refused:
            raise _refusal(system)
        raise ConfigError("unknown format; known are auto, " + ", ".join(FORMATS))
    return name


def _refusal(system: System) -> PurposeRefusedError:
    return PurposeRefusedError(f"{system.code} is refused: {system.reason}")


def _read(stream: BinaryIO, file: str, name: str | None, schemas: Path | None) -> Iterator[Item]:
    start = stream.tell()
    head = stream.read(HEAD_BYTES)
    stream.seek(start)
    if not head:
        yield Issue(file, None, None, "file.empty", rejects_record=True)
        return
    if name is not None and (system := refused_system(head, _root(head))) is not None:
        raise _refusal(system)
    try:
        name = name or detect(file, head)
    except FormatError:
        # An XML message may hide its root behind what is not read at all, such as a DOCTYPE.
        is_xml = _XML_START.match(head) is not None
        refused = refuse(stream, file=file) if is_xml else None
        yield refused or Issue(file, 1 if is_xml else None, None, "file.unknown_format", rejects_record=True)
        return
    yield from FORMATS[name].read(stream, file, schemas)
