"""A record under construction: what an adapter found so far, and what it could not use.

Decides: that a value without a canonical form becomes an :class:`Issue` and never stops the record, that
an identifier counts once per type, value and role, and how much one record may hold (``MAX_*``), so that
a hostile message cannot make a record grow without bound.
Leaves to others: canonical forms (``domain.identifiers``), what the parts of a customs declaration mean
(``domain.declarations``), where values stand and whether a record without identifiers is worth keeping (each adapter).

No issue ever carries a value: only the file, the line, the place and a reason code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from connector_psi.domain.identifiers import extract_candidates, normalise
from connector_psi.domain.records import Field, Identifier, IdentifierType, Issue, Party
from connector_psi.errors import NormalisationError

MAX_IDENTIFIERS = 20_000
"""Identifiers of one record; a master consignment with thousands of goods items stays below."""
MAX_VALUES = 1_000
"""Values of one field of one record."""
MAX_ISSUES = 1_000
"""Issues of one record; the last one says that there were more."""

FREE_TEXT_MARK = "#free_text"
"""Ends the ``source_path`` of an identifier that was found inside free text."""


class Found(NamedTuple):
    """A value and where it stands in a file."""

    text: str
    path: str
    line: int | None


class Draft:
    """Collects the identifiers, the fields and the issues of one record.

    Args:
        file: Display name of the file, for issues.
    """

    __slots__ = ("fields", "file", "identifiers", "issues", "parties")

    def __init__(self, file: str) -> None:
        self.file = file
        self.identifiers: dict[tuple[IdentifierType, str, str], Identifier] = {}
        self.fields: dict[Field, dict[str, None]] = {}
        self.issues: list[Issue] = []
        self.parties: dict[Party, None] = {}

    @property
    def size(self) -> int:
        """How much it holds, in identifiers and values of usual length: what a reader bounds its memory by."""
        values = [len(value) for values in self.fields.values() for value in values]
        held = len(self.identifiers) + 3 * len(self.parties) + len(self.issues)
        return held + len(values) + sum(values) // 64

    def identify(
        self, kind: IdentifierType, found: Found | None, *, role: str = "", **context: str
    ) -> Identifier | None:
        """Take in, and return, one identifier.

        A value without a canonical form is reported and left out; the record goes on without it.

        Args:
            kind: What the source says the value is.
            found: The value as it stands in the source, and where; None does nothing.
            role: Role of the party or means it belongs to.
            context: What ``normalise`` takes beside the value: ``country``, ``document_type``, ``make`` ...
        """
        if found is None:
            return None
        try:
            value = normalise(kind, found.text, **context)  # type: ignore[arg-type]  # the one bool is not among them
        except NormalisationError as error:
            self.report(error.reason, line=found.line, path=found.path)
            return None
        identifier = Identifier(kind, value, found.path, role)
        self.add(identifier, line=found.line)
        return identifier

    def normalised(
        self, kind: IdentifierType, found: Found | None, *, role: str = "", **context: str
    ) -> Identifier | None:
        """Return the canonical identifier without taking it in; report it where there is none."""
        if found is None:
            return None
        try:
            canonical = normalise(kind, found.text, **context)  # type: ignore[arg-type]  # the one bool is not among them
        except NormalisationError as error:
            self.report(error.reason, line=found.line, path=found.path)
            return None
        return Identifier(kind, canonical, found.path, role)

    def add(self, identifier: Identifier, *, line: int | None = None) -> None:
        """Take in one canonical identifier; the first place it was found at stands."""
        self.identifiers.setdefault((identifier.type, identifier.value, identifier.role), identifier)
        if len(self.identifiers) > MAX_IDENTIFIERS:
            self.identifiers.popitem()
            self._report_once("record.too_many_identifiers", line=line)

    def search_text(self, found: Found | None) -> list[Identifier]:
        """Take in, and return, what free text holds: numbers with a check digit or a strict pattern.

        Such an identifier's path ends in ``#free_text``, so that a reviewer sees how it was found.
        """
        if found is None:
            return []
        candidates = extract_candidates(found.text)
        if not candidates:
            return []
        place = found.path + FREE_TEXT_MARK
        identifiers = [Identifier(kind, value, place) for kind, value in candidates]
        for identifier in identifiers:
            self.add(identifier, line=found.line)
        return identifiers

    def involve(self, party: Party) -> None:
        """Take in a party; the same one again counts once."""
        self.parties.setdefault(party)
        if len(self.parties) > MAX_VALUES:
            self.parties.popitem()
            self._report_once("record.too_many_values", line=None)

    def note(self, name: Field, value: str) -> None:
        """Take in a value that a policy could disclose; a repeated value counts once."""
        if not value:
            return
        values = self.fields.get(name)
        if values is None:
            values = self.fields[name] = {}
        elif value in values:
            return
        if len(values) >= MAX_VALUES:
            self._report_once("record.too_many_values", line=None)
            return
        values[value] = None

    def report(self, code: str, *, line: int | None, path: str | None, rejects_record: bool = False) -> None:
        """Report something that could not be used."""
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(self.file, line, path, code, rejects_record))
        elif len(self.issues) == MAX_ISSUES:
            self.issues.append(Issue(self.file, line, None, "record.too_many_issues", rejects_record))

    def _report_once(self, code: str, *, line: int | None) -> None:
        if all(issue.code != code for issue in self.issues):
            self.report(code, line=line, path=None)


def merge(drafts: Iterable[Draft]) -> Draft:
    """Return what several drafts hold together, in their order; their issues stay with them.

    The limits of one record hold for the whole.
    """
    whole: Draft | None = None
    for draft in drafts:
        if whole is None:
            whole = Draft(draft.file)
        for identifier in draft.identifiers.values():
            whole.add(identifier)
        for name, values in draft.fields.items():
            for value in values:
                whole.note(name, value)
        for party in draft.parties:
            whole.involve(party)
    assert whole is not None, "there is nothing to merge"
    return whole


def filled(fields: Mapping[Field, Iterable[str]]) -> Mapping[Field, tuple[str, ...]]:
    """Return fields as a record holds them: frozen, and without those that have no value."""
    return MappingProxyType({name: tuple(values) for name, values in fields.items() if values})
