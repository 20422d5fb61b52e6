"""Which formats there are, which of them a file is in, and the one call that reads any of them.

Decides: the names of the formats, how an unnamed file is recognised (by its first bytes, by its name only where
those do not tell), and that a file in no known format is an issue and not an exception.
Leaves to others: reading (one module per source format, none of which knows another). This is the only module that
knows all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from connector_psi.adapters import eis, ics2, sis
from connector_psi.domain.records import Issue, Record, SourceSystem
from connector_psi.errors import ConfigError, FormatError

HEAD_BYTES = 65_536
"""How much of a file :func:`detect` wants to see."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format that records can be read from."""

    name: str
    source: SourceSystem
    suffix: str
    """Usual end of a file's name."""
    description: str
    read: Callable[[BinaryIO, str, Path | None], Iterator[Record | Issue]]
    """Stream, display name and schema folder -> records and issues."""


_ALL = (
    Format(
        "ics2-ens",
        SourceSystem.ICS2,
        ".xml",
        "ICS2 full ENS, message IE4R05",
        lambda stream, file, schemas: ics2.read(stream, file=file, schemas=schemas),
    ),
    Format(
        "sis-jsonl",
        SourceSystem.SIS,
        ".jsonl",
        "SIS object alerts, JSON Lines",
        lambda stream, file, _: sis.read_jsonl(stream, file=file),
    ),
    Format(
        "sis-csv",
        SourceSystem.SIS,
        ".csv",
        "SIS object alerts, CSV",
        lambda stream, file, _: sis.read_csv(stream, file=file),
    ),
    Format(
        "eis-jsonl",
        SourceSystem.EIS,
        ".jsonl",
        "Europol EIS entities, JSON Lines",
        lambda stream, file, _: eis.read_jsonl(stream, file=file),
    ),
    Format(
        "eis-csv",
        SourceSystem.EIS,
        ".csv",
        "Europol EIS entities, CSV",
        lambda stream, file, _: eis.read_csv(stream, file=file),
    ),
)
FORMATS: Mapping[str, Format] = MappingProxyType({each.name: each for each in _ALL})
"""By the name that ``--format`` takes."""

_XML_MARKS = (b"<", b"\xff\xfe<\x00", b"\xfe\xff\x00<")
_KEYS = {"sis": b"schengen_id", "eis": b"eis_ref"}
"""The key that every line of an exchange format has, and every header row."""
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
_SYSTEM_IN_NAME = re.compile(r"(?<![a-z])(sis|eis)(?![a-z])")


def detect(name: str, head: bytes) -> str:
    """Say which format a file is in.

    Args:
        name: Its name, with or without folders.
        head: Its first ``HEAD_BYTES`` bytes, or all of it.

    Returns:
        A key of ``FORMATS``.

    Raises:
        FormatError: If it is in none of them. Carries no byte of the file.
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(_XML_MARKS):
        return "ics2-ens"
    path = Path(name.lower())
    kind = _SUFFIXES.get(path.suffix) or ("jsonl" if start.startswith(b"{") else "csv")
    first_line = start.split(b"\n", 1)[0]
    # A bad first line must not hide a file of JSON Lines; a CSV file has its keys in the first line or nowhere.
    places = {
        system: start.find(b'"' + key + b'"') if kind == "jsonl" else first_line.find(key)
        for system, key in _KEYS.items()
    }
    found = {system: place for system, place in places.items() if place >= 0}
    if found:
        return f"{min(found, key=lambda system: found[system])}-{kind}"
    if path.suffix == ".xml":
        return "ics2-ens"
    # Nothing in the head tells, but the name does: the lines are then reported one by one.
    system_in_name = _SYSTEM_IN_NAME.search(path.name)
    if path.suffix not in _SUFFIXES or system_in_name is None:
        raise FormatError("the file is in no known format")
    return f"{system_in_name[1]}-{kind}"


def read(
    stream: BinaryIO,
    *,
    file: str,
    format: str | None = None,  # noqa: A002 - as --format
    schemas: Path | None = None,
) -> Iterator[Record | Issue]:
    """Read a file in any of the formats, in bounded memory.

    Nothing in the file raises: what cannot be used is an issue that names the place and a reason code, never the
    value. What can be used comes out even where the rest cannot.

    Args:
        stream: Seekable, buffered and binary; read from where it stands to its end.
        file: Display name, for issues and for recognising the format.
        format: A key of ``FORMATS``; recognised from the file where it is None.
        schemas: Folder with the XSDs to hold XML messages against; optional.

    Returns:
        Records and issues in source order, as they are read. The issues of a record come before it.

    Raises:
        ConfigError: At once, if ``format`` is unknown; on reading, if ``schemas`` holds no usable schema.
        OSError: On reading, if the stream fails.
    """
    if format is not None and format not in FORMATS:
        raise ConfigError("unknown format; known are " + ", ".join(FORMATS))
    return _read(stream, file, format, schemas)


def _read(stream: BinaryIO, file: str, name: str | None, schemas: Path | None) -> Iterator[Record | Issue]:
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
            yield Issue(file, None, None, "file.unknown_format", rejects_record=True)
            return
    yield from FORMATS[name].read(stream, file, schemas)
