"""The plaintext join: what the nodes should have found, from the samples alone.

It sees everything that no authority may see, and shares with the nodes only the reading of files. Eligibility, the
types that an agreement covers and the rule of sufficiency are applied here a second time, as the documents state them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from connector_psi.adapters import formats
from connector_psi.demo.plan import Pair
from connector_psi.domain.identifiers import INCOMPLETE, implied
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, Issue, Record
from connector_psi.policy import Agreement


@dataclass(frozen=True, slots=True)
class Reading:
    """What the adapters make of an authority's files."""

    records: tuple[Record, ...] = field(repr=False)
    issues: tuple[Issue, ...]


def read_samples(paths: Iterable[Path]) -> Reading:
    """Read files of any format."""
    records, issues = [], []
    for path in paths:
        with path.open("rb") as stream:
            for item in formats.read(stream, file=path.name):
                if isinstance(item, Issue):
                    issues.append(item)
                elif isinstance(item, Record):
                    records.append(item)
    return Reading(tuple(records), tuple(issues))


def tokens_of(agreement: Agreement, records: Iterable[Record]) -> set[tuple[IdentifierType, str]]:
    """Return the different identifiers of some records that an agreement covers, with those that they imply."""
    return {
        (kind, value)
        for record in records
        for i in record.identifiers
        for kind, value in ((i.type, i.value), *implied(i.type, i.value))
        if kind in agreement.identifier_types
    }


def type_of_pair(types: Iterable[str]) -> str:
    """Return what two records have in common, joined by ``+``, without what follows from the rest of it."""
    shared = {IdentifierType(name) for name in types}
    return "+".join(sorted(shared - {INCOMPLETE[kind] for kind in shared & INCOMPLETE.keys()}))


def eligible(agreement: Agreement, records: Iterable[Record], now: datetime) -> list[Record]:
    """Return the owner's records that an agreement lets into its set."""
    return [
        record
        for record in records
        if record.category in agreement.categories
        and not record.hidden
        and (record.valid_until is None or record.valid_until > now)
    ]


def join(agreement: Agreement, querier: Sequence[Record], owner: Sequence[Record], now: datetime) -> list[Pair]:
    """Return the pairs that an agreement should find.

    Two records are a pair if they share an identifier that suffices alone, or two of any type.
    """
    holders: Mapping[tuple[IdentifierType, str], list[str]] = defaultdict(list)
    for record in eligible(agreement, owner, now):
        for token in tokens_of(agreement, [record]):
            holders[token].append(record.source_ref)
    pairs = []
    for record in querier:
        shared: dict[str, list[IdentifierType]] = defaultdict(list)
        for token in tokens_of(agreement, [record]):
            for ref in holders.get(token, ()):
                shared[ref].append(token[0])
        for ref, types in shared.items():
            if len(types) > 1 or IDENTIFIER_TABLE[types[0]].suffices_alone:
                pairs.append(Pair(agreement.code, record.source_ref, ref, type_of_pair(types)))
    return sorted(pairs)
