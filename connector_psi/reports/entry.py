"""An entry of the log as reports read it, and what all of them ask of one.

Decides: who acted, whether that is a person, what stands in a cell of a spreadsheet. Leaves to others: how entries are
read and which bodies may be opened (the node); reports take what they are given and read nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connector_psi.audit.entries import Event, Leaf, Side

_PERSON = "urn:connector-psi:person:"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula; white space before one is dropped by some of them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        index: Place in the log.
        leaf: The leaf.
        body: What was sealed; None where it is erased or was not opened.
    """

    index: int
    leaf: Leaf
    body: Mapping[str, Any] | None = None

    def said(self, key: str) -> Any:  # noqa: ANN401 - whatever the body holds
        """Return what the body says under a key, None where it says nothing."""
        return None if self.body is None else self.body.get(key)

    @property
    def operation(self) -> str:
        """What the body calls it; empty where that is not known."""
        return _text(self.said("operation"))

    @property
    def is_own_query(self) -> bool:
        """Whether a batch of this node was sent."""
        return self.leaf.event is Event.CONSULT and self.leaf.side is Side.QUERIER

    @property
    def is_search(self) -> bool:
        """Whether it was searched for a data subject what this node holds."""
        return self.leaf.event is Event.CONSULT and self.leaf.side is None

    @property
    def is_cover(self) -> bool:
        """Whether the case or recall asks about nothing and only fills a slot."""
        return self.said("cover") is True

    @property
    def is_access_request(self) -> bool:
        """Whether the case is a request for access; unknown bodies count as cases about a match."""
        return self.leaf.event is Event.CASE_OPEN and self.operation == "access request"

    def person(self) -> str:
        """Return the URI of the person of this node who acted; empty for systems, peers and unknown bodies."""
        for key in ("officer", "executing_officer", "actor", "by"):
            uri = _text(self.said(key))
            if uri.startswith(_PERSON):
                return uri
        return ""


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order of the log, so that a result does not depend on how they were read."""
    return sorted(entries, key=lambda entry: entry.index)


def person_key(uri: str) -> str:
    """Return what tells people apart: one person with certificates of two roles is one person."""
    parts = uri.split(":")
    return f"{parts[3]}:{parts[-1]}" if len(parts) > 4 else uri


def role_of(uri: str) -> str:
    """Return the role in the URI of a person, ``unknown`` where there is none."""
    parts = uri.split(":")
    return parts[4] if uri.startswith(_PERSON) and len(parts) > 5 else "unknown"


def texts(value: object) -> list[str]:
    """Return the texts of a list in a body, nothing for anything else."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, (list, tuple)) else []


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV (RFC 4180) with a header, safe to open in a spreadsheet.

    Text that a spreadsheet would take for a formula gets an apostrophe before it. Numbers stay numbers: one below zero
    begins with ``-`` and is no formula.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return file.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return value
    text = str(value)
    return "'" + text if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
