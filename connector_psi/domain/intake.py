"""What an adapter is to the rest of the node: the formats it reads, and what comes out of it.

Decides: the shape of an adapter. A module in ``adapters`` that has a ``FORMATS`` is found by ``adapters.formats``;
nothing else has to know of it. Leaves to others: recognising a file (``adapters.formats``), reading it (each adapter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from connector_psi.domain.records import Issue, Record, SourceSystem, Supersession

Item = Record | Issue | Supersession
"""What comes out of a file. The issues of a record come before it, the supersession of a message after its records."""

Read = Callable[[BinaryIO, str, Path | None], Iterator[Item]]
"""Stream (seekable, binary, buffered, at its first byte), display name of the file, folder of schemas -> items."""


class Kind(StrEnum):
    """How a file is built, before it is known what it says."""

    XML = "xml"
    JSONL = "jsonl"
    """One JSON object a line."""
    JSON = "json"
    """One JSON document: an array, or an object that spans lines."""
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Format:
    """A format that records can be read from."""

    name: str
    """What ``--format`` takes, such as ``sis-jsonl``."""
    source: SourceSystem
    kind: Kind
    description: str
    """For ``--help`` and ``systems show``."""
    marks: frozenset[str]
    """What tells it from others of its kind.

    XML: qualified names of root elements, ``{namespace}name``; ``{namespace}*`` claims whatever else the namespace has,
    so that a message which is not read is reported by the adapter that knows it. Otherwise: names of keys or columns,
    of which the first one that stands in a file decides.
    """
    read: Read
