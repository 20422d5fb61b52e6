"""What a row of somebody's own database becomes: a record, a withdrawal, or an issue with row and column.

Decides: how the rules of a mapping apply to a row, which rows are no record, how a record is named and ordered, what
its digest is taken over, and when a source that was read in full takes back what it does not hold any more.
Leaves to others: the rules (``domain.mapping``), what a cell says (``domain.cells``), canonical forms
(``domain.identifiers``), where rows come from (``adapters.mapping``).

Nothing in a row raises, and no issue holds a value: it names the row, the column as the mapping names it, and a code.
A doubt falls on the safe side: a record is hidden where ``hidden`` cannot be read, and Europol's strictest handling
codes stand where one of them cannot be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar, get_args

from connector_psi.domain.cells import MAX_TEXT_CHARS, MAX_VALUE_CHARS, MAX_VALUES, Code, Plain, flag_of, plain, usable
from connector_psi.domain.countries import country_code
from connector_psi.domain.drafts import Draft, Found, filled
from connector_psi.domain.exchange import SubjectClass
from connector_psi.domain.identifiers import INCOMPLETE, expand_range, normalise
from connector_psi.domain.intake import Item
from connector_psi.domain.lines import rejecting
from connector_psi.domain.mapping import (
    Condition,
    FieldTable,
    FreeTextTable,
    IdentifierTable,
    MappingFile,
    PartyTable,
    Value,
)
from connector_psi.domain.records import (
    Field,
    Identifier,
    IdentifierType,
    Issue,
    Party,
    PartyKind,
    Rank,
    Record,
    SourceSystem,
    Supersession,
    version_of,
)
from connector_psi.errors import NormalisationError

_T = TypeVar("_T")

MAX_REF_CHARS: Final = 150

ROW_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mapping.ref_missing": "a column of `ref` is empty: the record cannot be named",
        "mapping.ref_too_long": f"the reference has more than {MAX_REF_CHARS} characters",
        "mapping.ref_repeated": "the row before has the same reference; this one replaces what it said",
        "mapping.no_identifier": "the row holds no identifier and no name",
        "mapping.country_unknown": "no country has this code; left out",
        "mapping.kind_unknown": "a party is `person`, `organisation` or `unknown`",
        "mapping.incomplete": "rows could not be read, so that what is missing from the source is not withdrawn",
        "mapping.empty": "the source has no row at all; nothing is withdrawn",
    }
)
"""Reason codes of this module, for the documentation and for tests."""

# A class that nobody knows would open a person's record, which is disclosed only with a known one.
_SUBJECT_CLASSES: Final = frozenset(get_args(SubjectClass))
_WITH_SUBJECT_CLASS: Final = frozenset({SourceSystem.EIS, SourceSystem.SIENA, SourceSystem.AFIS})
_STRICTEST_HANDLING: Final = ("H2", "H3")
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Row(NamedTuple):
    """One row of a source."""

    number: int
    """The line it begins at, or its number from 1."""
    cells: Sequence[object]
    """In the order of the source's columns."""


@dataclass(slots=True)
class Counts:
    """What became of the rows so far."""

    rows: int = 0
    records: int = 0
    skipped: int = 0
    """Rows that ``[record] when`` leaves out."""
    withdrawn: int = 0
    rejected: int = 0
    """Rows and groups of rows that are no record."""
    unnamed: int = 0
    """Of these, rows whose reference is not known, so that nothing tells which record they were."""


class _Group:
    """Rows that are one record, as far as they are read."""

    __slots__ = ("digest", "draft", "hidden", "number", "ref", "rejected", "until", "version", "withdrawn")

    def __init__(self, ref: str, number: int, draft: Draft) -> None:
        self.ref = ref
        self.number = number
        self.draft = draft
        self.digest = hashlib.sha256()
        self.rejected = False
        self.hidden = False
        self.withdrawn = False
        self.until: datetime | None = None
        self.version = 0


class RowMapper:
    """Turns the rows of one source into items.

    Args:
        mapping: Its columns are among ``columns``.
        columns: Of the source, in the order of its cells.
        counts: Counted on, where a source has several parts.
        read_at: When reading began, aware: the version of a source that is read in full.
    """

    def __init__(self, mapping: MappingFile, columns: Sequence[str], *, counts: Counts, read_at: datetime) -> None:
        self.mapping = mapping
        self.counts = counts
        # RFC 8785 sorts keys by UTF-16 code units.
        names = sorted(mapping.columns(), key=lambda name: name.encode("utf-16-be"))
        self._places = tuple((name, columns.index(name)) for name in names)
        self._calendar = mapping.calendar
        self._empty = frozenset(mapping.source.empty)
        self._full = mapping.source.mode == "full"
        # What does not change from row to row: looking it up there would take longer than the row.
        self._identifiers = tuple(
            (each, "+".join(each.column), tuple(each.context.items())) for each in mapping.identifier
        )
        self._read_at = read_at
        self._texts: dict[str, Plain] = {}
        self._draft = Draft("")
        self._number = 0
        self._ref = ""

    def map(self, rows: Iterable[Row | Issue], *, file: str) -> Iterator[Item]:
        """Yield what rows become, in their order.

        Args:
            rows: An issue stands for a row that could not be taken apart, or for the rest of a source that broke off.
            file: Display name of the part, for issues.
        """
        group: _Group | None = None
        for row in rows:
            if isinstance(row, Issue):
                self.counts.rejected += row.rejects_record
                self.counts.unnamed += row.rejects_record
                yield row
                continue
            self.counts.rows += 1
            self._texts = {name: plain(row.cells[place]) for name, place in self._places}
            self._number = row.number
            self._draft = Draft(file)
            if not self._is_meant():
                if self._draft.issues:
                    yield from self._rejected()
                else:
                    self.counts.skipped += 1
                continue
            ref = self._reference()
            if not ref:
                yield from self._rejected()
                continue
            if group is not None and not (self.mapping.record.group and ref == group.ref):
                yield from self._closed(group)
                group = None
            if group is None:
                if ref == self._ref:
                    self._report("mapping.ref_repeated", self.mapping.record.ref[0])
                group = _Group(ref, row.number, self._draft)
                self._ref = ref
            else:
                self._draft = group.draft
            self._add(group)
        if group is not None:
            yield from self._closed(group)

    # Rows

    def _is_meant(self) -> bool:
        when = self.mapping.record.when
        return when is None or self._holds(when) is True

    def _rejected(self) -> Iterator[Issue]:
        self.counts.rejected += 1
        self.counts.unnamed += 1
        yield from rejecting(self._draft.issues)

    def _reference(self) -> str:
        """Give the reference, or an empty text and an issue."""
        names = self.mapping.record.ref
        parts = []
        for name in names:
            text = self._one(name, longest=MAX_REF_CHARS)
            if text is None:
                return ""
            if not text:
                self._report("mapping.ref_missing", name)
                return ""
            parts.append(text)
        if len(parts) > 1:
            # ("a/b", "c") and ("a", "b/c") are two records.
            parts = [part.replace("%", "%25").replace("/", "%2F") for part in parts]
        ref = "/".join(parts)
        if len(ref) > MAX_REF_CHARS:
            self._report("mapping.ref_too_long", "+".join(names))
            return ""
        return f"{self.mapping.source.name}/{ref}"

    def _add(self, group: _Group) -> None:
        """Take in what one row says."""
        first = group.number == self._number
        group.digest.update((b"" if first else b"\n") + self._canonical())
        record = self.mapping.record
        if record.hidden:
            # Where it cannot be told, nobody may see the record.
            group.hidden |= self._holds(record.hidden) is not False
        if first:
            self._limits(group)
        if group.rejected or group.withdrawn:
            return
        for identifier, path, context in self._identifiers:
            if self._applies(identifier.when):
                self._identify(identifier, path, context)
        for party in self.mapping.party:
            if self._applies(party.when):
                self._involve(party)
        for field in self.mapping.field:
            if self._applies(field.when):
                self._note(field)
        for free_text in self.mapping.free_text:
            if self._applies(free_text.when):
                self._search(free_text)

    def _limits(self, group: _Group) -> None:
        """Read what the first row of a record says about the whole of it."""
        record = self.mapping.record
        if record.withdrawn:
            withdrawn = self._holds(record.withdrawn)
            group.rejected |= withdrawn is None
            group.withdrawn = withdrawn is True
        rank = Rank.WITHDRAWAL if group.withdrawn else Rank.ORIGINAL
        if self._full:
            group.version = version_of(self._read_at)
        elif record.version:
            text = self._one(record.version)
            order = self._calendar.order_of(text or "")
            group.rejected |= text is None or isinstance(order, Code)
            when = self._told(order, record.version)
            group.version = when * len(Rank) + rank if isinstance(when, int) else version_of(when, rank)
        if record.valid_until:
            text = self._one(record.valid_until)
            until = self._calendar.time_of(text or "", end_of_day=True)
            group.rejected |= text is None or isinstance(until, Code)
            group.until = self._told(until, record.valid_until)

    def _closed(self, group: _Group) -> Iterator[Item]:
        """Yield what a record is once its last row is read."""
        draft, source = group.draft, self.mapping.system
        if group.rejected or not (group.withdrawn or draft.identifiers or draft.parties):
            self.counts.rejected += 1
            if not draft.issues:
                draft.report("mapping.no_identifier", line=group.number, path=None)
            yield from rejecting(draft.issues)
            return
        yield from draft.issues
        if group.withdrawn:
            self.counts.withdrawn += 1
            if not self._full:
                yield Supersession(source, group.ref, group.version, withdrawn=True, reason="deleted")
            return
        self.counts.records += 1
        yield Record(
            source=source,
            source_ref=group.ref,
            category=self.mapping.source.category,
            identifiers=tuple(draft.identifiers.values()),
            fields=filled(draft.fields),
            message_digest=group.digest.digest(),
            hidden=group.hidden,
            valid_until=group.until,
            parties=tuple(draft.parties),
            message_ref=_whole(self.mapping) if self._full else "",
            version=group.version,
        )

    def _canonical(self) -> bytes:
        """Encode the row as RFC 8785 has it: column -> text, list of texts, or null where it cannot be read."""
        row = {name: None if isinstance(text, Code) else text for name, text in self._texts.items()}
        return _ENCODER.encode(row).encode("utf-8", "surrogatepass")

    # Rules

    def _identify(self, table: IdentifierTable, path: str, keys: Iterable[tuple[str, Value]]) -> None:
        if len(table.column) == 1:
            texts = self._many(table.column[0], table.split)
        else:
            joined = [self._one(name) for name in table.column]
            texts = [] if None in joined else list(_split("".join(text or "" for text in joined), table.split))
        if not texts:
            return
        context: dict[str, str] = {}
        for key, value in keys:
            text = self._value(value)
            if text is None:
                return
            context[key] = text
        last = self._one(table.last) if table.last else ""
        if last is None:
            return
        for text in texts:
            try:
                values = self._canonical_forms(table, text, last, context)
            except NormalisationError as error:
                self._report(error.reason, path)
                continue
            for kind, canonical in values:
                self._draft.add(Identifier(kind, canonical, path, table.role), line=self._number)
                if table.field:
                    self._draft.note(table.field, f"{kind} {canonical}")

    def _canonical_forms(
        self, table: IdentifierTable, text: str, last: str, context: Mapping[str, str]
    ) -> Iterable[tuple[IdentifierType, str]]:
        kind = table.type
        if last:
            return [(kind, value) for value in expand_range(text, last, **context)]
        try:
            return ((kind, normalise(kind, text, complete_check_digit=table.complete_check_digit, **context)),)
        except NormalisationError as error:
            # A plate whose country, or a number whose make, this row does not have.
            if kind not in INCOMPLETE or not error.reason.endswith("_missing"):
                raise
            return ((INCOMPLETE[kind], normalise(INCOMPLETE[kind], text)),)

    def _involve(self, table: PartyTable) -> None:
        names = [self._one(name) for name in table.name]
        name = ", ".join(filter(None, names))
        if not name:
            return
        birth = self._one(table.birth_date) if table.birth_date else ""
        address = [self._one(column) for column in table.address or ()]
        self._draft.involve(
            Party(
                role=table.role,
                kind=self._kind(table.kind),
                name=name,
                source_path="+".join(table.name),
                aliases=tuple(text for column in table.aliases or () for text in self._many(column, table.split)),
                birth_date=self._told(self._calendar.birth_of(birth), table.birth_date or "") or "" if birth else "",
                birth_place=(self._one(table.birth_place) if table.birth_place else "") or "",
                nationalities=tuple(
                    code
                    for column in table.nationality or ()
                    for text in self._many(column, table.split)
                    if (code := self._country(text, column))
                ),
                gender=(self._value(table.gender) if table.gender else "") or "",
                address=", ".join(filter(None, address)),
                country=self._country(
                    (self._value(table.country) if table.country else "") or "", _path(table.country)
                ),
                city=(self._one(table.city) if table.city else "") or "",
                postcode=(self._one(table.postcode) if table.postcode else "") or "",
            )
        )

    def _kind(self, value: Value | None) -> PartyKind:
        text = (self._value(value) if value else "") or PartyKind.UNKNOWN.value
        try:
            return PartyKind(text)
        except ValueError:
            self._report("mapping.kind_unknown", _path(value))
            return PartyKind.UNKNOWN

    def _country(self, text: str, path: str) -> str:
        code = country_code(text.upper()) if text else ""
        if text and not code:
            self._report("mapping.country_unknown", path)
        return code

    def _note(self, table: FieldTable) -> None:
        before = len(self._draft.issues)
        if table.column:
            texts: Sequence[str] = self._many(table.column, table.split)
            if table.map is not None:
                texts = [table.map.get(text, "") for text in texts]
        else:
            texts = (table.constant or "",)
        if table.name is Field.HANDLING_CODES and len(self._draft.issues) > before:
            texts = _STRICTEST_HANDLING
        is_class = table.name is Field.SUBJECT_CLASS and self.mapping.system in _WITH_SUBJECT_CLASS
        for text in texts:
            if is_class and text and text not in _SUBJECT_CLASSES:
                self._report("field.invalid", table.column or "")
            else:
                self._draft.note(table.name, text)

    def _search(self, table: FreeTextTable) -> None:
        for text in self._many(table.column, None, longest=MAX_TEXT_CHARS):
            self._draft.search_text(Found(text, table.column, self._number))

    # Cells

    def _applies(self, when: Condition | None) -> bool:
        return when is None or self._holds(when) is True

    def _holds(self, condition: Condition) -> bool | None:
        """Tell whether a condition holds; None, and an issue, where its column cannot be read."""
        text = self._one(condition.column)
        if text is None:
            return None
        if condition.filled is not None:
            return bool(text) is condition.filled
        if condition.equals is not None:
            return text in condition.equals
        return self._told(flag_of(text), condition.column)

    def _one(self, name: str, *, longest: int = MAX_VALUE_CHARS) -> str | None:
        """Give what a column that holds one value says; None, and an issue, where it cannot be read."""
        text = self._texts[name]
        if isinstance(text, tuple):
            if len(text) > 1:
                self._report("cell.too_many_values", name)
                return None
            text = text[0] if text else ""
        return self._read(text, name, longest)

    def _many(self, name: str, separator: str | None, *, longest: int = MAX_VALUE_CHARS) -> list[str]:
        """Give what a column says that may hold several values, without those that say nothing or cannot be read."""
        text = self._texts[name]
        if not isinstance(text, tuple) and (separator is None or isinstance(text, Code)):
            whole = self._read(text, name, longest)
            return [whole] if whole else []
        parts = [part for each in ((text,) if isinstance(text, str) else text) for part in _split(each, separator)]
        if len(parts) > MAX_VALUES:
            self._report("cell.too_many_values", name)
            parts = parts[:MAX_VALUES]
        return [part for each in parts if (part := self._read(each, name, longest))]

    def _value(self, value: Value) -> str | None:
        if value.column is None:
            return value.constant or ""
        text = self._one(value.column)
        if text is None:
            return None
        if value.map is not None:
            text = value.map.get(text, "")
        return text or value.default

    def _read(self, text: str | Code, path: str, longest: int) -> str | None:
        """Give a usable text; None, and an issue, where there is none."""
        read = text if isinstance(text, Code) else usable(text, longest=longest)
        if isinstance(read, Code):
            self._report(read.reason, path)
            return None
        return "" if read in self._empty else read

    def _told(self, read: _T | Code, path: str) -> _T | None:
        if isinstance(read, Code):
            self._report(read.reason, path)
            return None
        return read

    def _report(self, code: str, path: str) -> None:
        self._draft.report(code, line=self._number, path=path)


def ended(mapping: MappingFile, counts: Counts, *, read_at: datetime, file: str) -> Iterator[Item]:
    """Yield what follows the last row of a source that was read to its end.

    A source in mode ``full`` takes back what it does not hold any more, unless rows in it could be anything.
    """
    if mapping.source.mode != "full":
        return
    if counts.unnamed:
        yield Issue(file, None, None, "mapping.incomplete", rejects_record=False)
    elif not counts.rows:
        # A table that is being filled anew is empty for a while.
        yield Issue(file, None, None, "mapping.empty", rejects_record=False)
    else:
        yield Supersession(mapping.system, _whole(mapping), version_of(read_at))


def _whole(mapping: MappingFile) -> str:
    """Name the source as a whole. No record is named like this: what follows the slash is never empty."""
    return f"{mapping.source.name}/"


def _split(text: str, separator: str | None) -> Sequence[str]:
    return (text,) if separator is None else text.split(separator)


def _path(value: Value | None) -> str:
    return (value.column if value else None) or ""
