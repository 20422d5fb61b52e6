"""What a mapping makes of its source, before anything is taken in: the first rows mapped, rejects, coverage.

Decides: what an operator sees who judges a mapping. The first records are shown with their values, because nothing else
tells a right column from a wrong one, and whoever runs this can read the source; every number and every reason is free
of values. With no rows to show, so is the whole answer.
Leaves to others: reading (``adapters.mapping``), what counts as enough for a match (``domain.coverage``), printing
(``commands``).
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

from connector_psi.adapters.mapping import read_mapping
from connector_psi.domain.coverage import COUNTS, Coverage
from connector_psi.domain.mapping import MappingFile
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, Issue, Record
from connector_psi.domain.rows import Counts

MAX_ERRORS: Final = 1_000
"""Errors that are listed; all are counted."""
MAX_REFERENCES: Final = 1_000_000
"""References that are compared with one another; about 100 MB."""
SKETCH_SIZE: Final = 4_096
MAX_SHOWN_ERRORS: Final = 50
"""Errors that are shown to people; JSON has all that are listed."""
_ADVANCE_EVERY: Final = 1_000


class Distinct:
    """Counts different values: exactly below ``SKETCH_SIZE``, from there on with a standard error of 1.6 per cent.

    Keeps the smallest hashes: the more values there are, the denser they lie.

    Source: Z. Bar-Yossef et al., Counting Distinct Elements in a Data Stream, 2002.
    """

    def __init__(self) -> None:
        self._largest_first: list[int] = []
        self._kept: set[int] = set()

    def add(self, value: str) -> None:
        """Count a value."""
        number = _hash(value)
        if number in self._kept:
            return
        if len(self._kept) < SKETCH_SIZE:
            heapq.heappush(self._largest_first, -number)
        elif number < -self._largest_first[0]:
            self._kept.remove(-heapq.heapreplace(self._largest_first, -number))
        else:
            return
        self._kept.add(number)

    def count(self) -> int:
        """Return how many different values there were."""
        if len(self._kept) < SKETCH_SIZE:
            return len(self._kept)
        return round((SKETCH_SIZE - 1) * 2**64 / -self._largest_first[0])


# Nothing of an identifier is hashed without a key, in memory neither.
_KEY: Final = os.urandom(16)


def _hash(value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8, key=_KEY).digest())


@dataclass(slots=True)
class Checked:
    """What a mapping makes of its source."""

    mapping: MappingFile
    counts: Counts
    first: list[Record] = field(default_factory=list, repr=False)
    """The first records, in full."""
    coverage: Coverage = field(default_factory=Coverage)
    distinct: dict[str, Distinct] = field(default_factory=dict)
    """Identifier type -> its different values. One value in many records is a constant, or many things' number."""
    rejects: Counter[str] = field(default_factory=Counter)
    """Reason code -> rows that are no record."""
    unusable: Counter[str] = field(default_factory=Counter)
    """Reason code -> what was left out of rows, of those that are rejected too."""
    errors: list[Issue] = field(default_factory=list)
    repeated: int = 0
    """Records with the reference of an earlier one: each replaces what that one said."""
    is_whole: bool = True
    """False where reading stopped at the limit."""

    def as_json(self) -> dict[str, Any]:
        """Return everything; ``first`` alone holds values of the source."""
        source, counts = self.mapping.source, self.counts
        return {
            "name": source.name,
            "system": source.system,
            "category": source.category,
            "kind": source.kind,
            "mode": source.mode,
            "rows": counts.rows,
            "records": counts.records,
            "withdrawn": counts.withdrawn,
            "skipped": counts.skipped,
            "rejected": counts.rejected,
            "repeated": self.repeated,
            "is_whole": self.is_whole,
            "first": [_shown(record) for record in self.first],
            "rejects": dict(self.rejects.most_common()),
            "unusable": dict(self.unusable.most_common()),
            "errors": [
                {"file": e.file, "line": e.line, "path": e.path, "code": e.code, "rejects_record": e.rejects_record}
                for e in self.errors
            ],
            "coverage": self._coverage(),
        }

    def tables(self) -> Iterator[tuple[str, Sequence[str], Iterable[Sequence[object]]]]:
        """Yield what people are shown, as tables: title, columns, rows. Only the first holds values of the source."""
        counts, coverage = self.counts, self._coverage()
        if self.first:
            lines = chain.from_iterable(map(_lines, self.first))
            yield "First records", ["record", "what", "of", "value", "from"], lines
        yield (
            "Rows" if self.is_whole else "Rows, as far as they were read",
            ["rows", "records", "rejected", "withdrawn", "passed over", "repeated references"],
            [(counts.rows, counts.records, counts.rejected, counts.withdrawn, counts.skipped, self.repeated)],
        )
        yield (
            "Records, and what they can be matched by",
            ["", "records", "share"],
            [(COUNTS[name], coverage[name], _share(coverage[name], counts.records)) for name in COUNTS],
        )
        yield (
            "Identifiers",
            ["type", "suffices alone", "records", "share", "different", "unusable", "in free text", "roles"],
            [
                (
                    kind,
                    "yes" if IDENTIFIER_TABLE[IdentifierType(kind)].suffices_alone else "no",
                    of["records"],
                    _share(of["records"], counts.records),
                    of["distinct"],
                    of["unusable"],
                    of["in_free_text"],
                    ", ".join(f"{role or '-'} {n}" for role, n in of["roles"].items()),
                )
                for kind, of in coverage["types"].items()
            ],
        )
        if self.errors:
            yield (
                "Not usable, by reason",
                ["code", "rows rejected", "values left out"],
                [(code, self.rejects[code], self.unusable[code]) for code in sorted(self.rejects | self.unusable)],
            )
            yield (
                "Not usable, by place",
                ["file", "line", "column", "code", "row"],
                [
                    (e.file, e.line, e.path, e.code, "rejected" if e.rejects_record else "kept")
                    for e in self.errors[:MAX_SHOWN_ERRORS]
                ],
            )

    def _coverage(self) -> dict[str, Any]:
        """Return coverage with what only a check tells: different values, and values without a canonical form."""
        value = self.coverage.as_json()
        empty = {"records": 0, "share": 0.0, "identifiers": 0, "in_free_text": 0, "roles": {}}
        for rule in self.mapping.identifier:
            # A type that the mapping names and no row has is what one looks for here.
            value["types"].setdefault(rule.type.value, dict(empty))
        for kind, found in value["types"].items():
            found["distinct"] = self.distinct[kind].count() if kind in self.distinct else 0
            codes = (self.rejects + self.unusable).items()
            found["unusable"] = sum(count for code, count in codes if code.startswith(f"{kind}."))
        return value


def check(
    path: Path,
    *,
    now: datetime,
    rows: int = 10,
    limit: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
    environ: Mapping[str, str] = os.environ,
) -> Checked:
    """Read a source as its mapping says, from the beginning, and take nothing in.

    Args:
        path: The mapping.
        now: Aware.
        rows: How many of the first records are kept to be shown.
        limit: Stop once a source has more rows than that; None reads all.
        advance: Told how many more rows were read, now and then.
        environ: Where the mapping's ``url_env`` is looked up.

    Raises:
        ConfigError: The mapping is unusable, or the source is not what it says.
        PurposeRefusedError: It is about a system that is refused.
        UnavailableError: The database cannot be reached now.
    """
    reading = read_mapping(path, now=now, environ=environ)
    found = Checked(reading.mapping, reading.counts)
    references: set[int] = set()
    told = 0
    with closing(iter(reading)) as items:
        for item in items:
            if isinstance(item, Issue):
                _count(found, item)
            elif isinstance(item, Record):
                _look_at(found, item, rows, references)
            if reading.counts.rows - told >= _ADVANCE_EVERY:
                advance(reading.counts.rows - told)
                told = reading.counts.rows
            if limit is not None and reading.counts.rows > limit:
                found.is_whole = False
                break
    advance(reading.counts.rows - told)
    return found


def _count(found: Checked, issue: Issue) -> None:
    (found.rejects if issue.rejects_record else found.unusable)[issue.code] += 1
    if len(found.errors) < MAX_ERRORS:
        found.errors.append(issue)


def _look_at(found: Checked, record: Record, rows: int, references: set[int]) -> None:
    found.coverage.add(record)
    for kind, value in {(identifier.type.value, identifier.value) for identifier in record.identifiers}:
        if kind not in found.distinct:
            found.distinct[kind] = Distinct()
        found.distinct[kind].add(value)
    if len(found.first) < rows:
        found.first.append(record)
    reference = _hash(record.source_ref)
    if reference in references:
        found.repeated += 1
    elif len(references) < MAX_REFERENCES:
        references.add(reference)


def _share(count: int, whole: int) -> str:
    return f"{count / whole:.1%}" if whole else ""


def _lines(record: Record) -> Iterator[Sequence[object]]:
    ref = record.source_ref
    for i in record.identifiers:
        yield ref, i.type, i.role, i.value, i.source_path
        ref = ""
    for p in record.parties:
        born = (p.birth_date, p.birth_place, *p.nationalities, p.gender)
        about = (p.name, *p.aliases, *born, p.address, p.postcode, p.city, p.country)
        yield ref, p.kind, p.role, "; ".join(filter(None, about)), p.source_path
        ref = ""
    for name, values in record.fields.items():
        yield ref, "field", name, "; ".join(values), ""
        ref = ""
    if record.hidden or record.valid_until:
        until = f"valid until {record.valid_until:%Y-%m-%d %H:%M} UTC" if record.valid_until else ""
        yield ref, "record", "", ", ".join(filter(None, ("hidden" if record.hidden else "", until))), ""


def _shown(record: Record) -> dict[str, Any]:
    return {
        "source_ref": record.source_ref,
        "version": record.version,
        "valid_until": record.valid_until.isoformat() if record.valid_until else None,
        "hidden": record.hidden,
        "identifiers": [
            {"type": i.type.value, "value": i.value, "role": i.role, "path": i.source_path} for i in record.identifiers
        ],
        "parties": [
            {
                "role": p.role,
                "kind": p.kind.value,
                "name": p.name,
                "aliases": list(p.aliases),
                "birth_date": p.birth_date,
                "birth_place": p.birth_place,
                "nationalities": list(p.nationalities),
                "gender": p.gender,
                "address": p.address,
                "country": p.country,
                "city": p.city,
                "postcode": p.postcode,
            }
            for p in record.parties
        ],
        "fields": {name.value: list(values) for name, values in record.fields.items()},
    }
