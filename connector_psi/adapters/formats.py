"""Which formats there are, which of them a file is in, and the one call that reads any of them.

Decides: that every module of this folder with a ``FORMATS`` is an adapter, how an unnamed file is recognised (by its
content, by its name only where that does not tell), that a file in no known format is an issue and not an exception,
and that the data of a system that is refused is refused.
Leaves to others: reading (one module per system, none of which knows another), which systems are refused
(``domain.systems``). This is the only module that knows all adapters.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import connector_psi.adapters as package
from connector_psi.adapters.xml import root_name
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.records import Issue
from connector_psi.domain.systems import SYSTEMS, System, refused_system
from connector_psi.errors import ConfigError, FormatError, PurposeRefusedError

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES = 65_536
"""How much of a file :func:`detect` wants to see."""


def _discover() -> Mapping[str, Format]:
    found = {
        each.name: each
        for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__))
        if module != "formats"
        for each in getattr(import_module(f"{package.__name__}.{module}"), "FORMATS", ())
    }
    order = list(SYSTEMS)
    return MappingProxyType(
        {each.name: each for each in sorted(found.values(), key=lambda each: order.index(each.source.value))}
    )


FORMATS: Mapping[str, Format] = _discover()
"""By the name that ``--format`` takes, in the order of the systems."""

_XML_STARTS = (b"<", b"\xff\xfe<\x00", b"\xfe\xff\x00<")
_SUFFIXES = {".jsonl": Kind.JSONL, ".ndjson": Kind.JSONL, ".json": Kind.JSON, ".csv": Kind.CSV, ".xml": Kind.XML}


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
    if (system := refused_system(head)) is not None:
        raise _refusal(system)
    kind = _kind(name, head)
    found = _by_root(head) if kind is Kind.XML else _by_key(kind, head)
    if found is None:
        # Nothing in the head tells, but the name does: the records are then reported one by one.
        words = re.split(r"[^a-z0-9]+", PurePath(name.lower()).name)
        suffix = _SUFFIXES.get(PurePath(name.lower()).suffix)
        found = next(
            (each for each in FORMATS.values() if each.kind is suffix and each.name.partition("-")[0] in words), None
        )
    if found is None:
        raise FormatError("the file is in no known format")
    return found.name


def _kind(name: str, head: bytes) -> Kind:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(_XML_STARTS):
        return Kind.XML
    suffix = _SUFFIXES.get(PurePath(name.lower()).suffix)
    if start.startswith(b"["):
        return Kind.JSON
    if start.startswith(b"{"):
        return suffix if suffix in {Kind.JSONL, Kind.JSON} else Kind.JSONL if _is_json(start) else Kind.JSON
    return suffix or Kind.CSV


def _is_json(start: bytes) -> bool:
    """Whether the first line is a JSON document by itself."""
    try:
        json.loads(start.split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return True


def _by_root(head: bytes) -> Format | None:
    root = root_name(head) or ""
    namespace = root.rpartition("}")[0] + "}*"
    formats = [each for each in FORMATS.values() if each.kind is Kind.XML]
    exact = next((each for each in formats if root in each.marks), None)
    return exact or next((each for each in formats if namespace in each.marks), None)


def _by_key(kind: Kind, head: bytes) -> Format | None:
    """Return the format whose key stands first. A bad first line must not hide a file of JSON Lines."""
    if kind is Kind.CSV:
        # A CSV file has its keys in the first line or nowhere.
        line = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
        names = [cell.strip(b' \t\r"') for cell in line.split(b",")]
    else:
        names = re.findall(rb'"([A-Za-z_]{1,64})"\s*:', head)
    formats = [each for each in FORMATS.values() if each.kind is kind]
    marks = {mark.encode(): each for each in formats for mark in each.marks}
    return next((marks[name] for name in names if name in marks), None)


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
    if name is None:
        try:
            name = detect(file, head)
        except FormatError:
            yield Issue(file, 1, None, "file.unknown_format", rejects_record=True)
            return
    yield from FORMATS[name].read(stream, file, schemas)
