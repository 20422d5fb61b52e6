"""The plaintext join: what the nodes should have found, from the samples alone.

It sees everything that no authority may see, and shares with the nodes only the reading of files, and of names the keys
and the weights. Eligibility, the types that an agreement covers, the rule of sufficiency and the grouping of names by
party are applied here a second time, as the documents state them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from connector_psi.adapters import formats
from connector_psi.demo.plan import Pair
from connector_psi.domain import names
from connector_psi.domain.identifiers import INCOMPLETE, implied
from connector_psi.domain.naming.families import FAMILY_TABLE
from connector_psi.domain.naming.keys import HeldKey, Shape
from connector_psi.domain.naming.shipped import load_shipped
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, Issue, Record
from connector_psi.policy import Agreement, EqualTokens, NameGroup, judge_all

_TYPES = frozenset(kind.value for kind in IdentifierType)
_Parties = dict[tuple[int, int], list[HeldKey]]
"""By party of the querier's record and of the owner's."""


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


def count_asked(agreement: Agreement, records: Sequence[Record]) -> int:
    """Return how many different tokens some records ask with: identifiers, and name keys of their parties."""
    groups = agreement.name_groups
    keys = {
        (key.family, key.text)
        for record in records
        for party in (record.parties if groups else ())
        for key in names.asked_keys(party, groups, names.contacts_of(record, party))
    }
    return len(tokens_of(agreement, records)) + len(keys)


def type_of_pair(types: Iterable[str]) -> str:
    """Return what two records have in common, joined by ``+``, without what follows from the rest of it."""
    named = set(types)
    shared = {IdentifierType(name) for name in named & _TYPES}
    return "+".join(sorted((named | shared) - {INCOMPLETE[kind] for kind in shared & INCOMPLETE.keys()}))


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

    Two records are a pair if they share an identifier that suffices alone, or two of any type, or if the names of a
    party here and a party there are the same by the weights of the agreement and something else agrees.
    """
    holders: Mapping[tuple[IdentifierType, str], list[str]] = defaultdict(list)
    held: Mapping[tuple[str, str], list[tuple[str, int, Shape]]] = defaultdict(list)
    for record in eligible(agreement, owner, now):
        for token in tokens_of(agreement, [record]):
            holders[token].append(record.source_ref)
        for part, party in enumerate(record.parties, 1):
            for key, shape in names.held_keys(party, agreement.name_groups, names.contacts_of(record, party)):
                held[key.family, key.text].append((record.source_ref, part, shape))
    pairs = []
    for record in querier:
        shared: dict[str, list[IdentifierType]] = defaultdict(list)
        for token in tokens_of(agreement, [record]):
            for ref in holders.get(token, ()):
                shared[ref].append(token[0])
        named = _named(agreement, record, held)
        for ref in dict.fromkeys((*shared, *named)):
            kinds, same = shared.get(ref, []), _same_names(agreement, record, shared.get(ref, []), named.get(ref, {}))
            if same or len(kinds) > 1 or (kinds and IDENTIFIER_TABLE[kinds[0]].suffices_alone):
                pairs.append(Pair(agreement.code, record.source_ref, ref, type_of_pair([*kinds, *same])))
    return sorted(pairs)


def _named(
    agreement: Agreement, record: Record, held: Mapping[tuple[str, str], list[tuple[str, int, Shape]]]
) -> Mapping[str, _Parties]:
    """Equal name keys of a record, by the reference of the owner's."""
    named: dict[str, _Parties] = defaultdict(lambda: defaultdict(list))
    for own, party in enumerate(record.parties, 1):
        for key in names.asked_keys(party, agreement.name_groups, names.contacts_of(record, party)):
            for ref, part, shape in held.get((key.family, key.text), ()):
                named[ref][own, part].append(HeldKey(key, shape))
    return named


def _same_names(agreement: Agreement, record: Record, kinds: Iterable[IdentifierType], parties: _Parties) -> set[str]:
    """The groups of families by which two records are a pair, by the names of two parties; none where they are not."""
    if agreement.names is None or not parties:
        return set()
    groups = [
        NameGroup(tuple(keys), names.is_dated((record.parties[own - 1].birth_date,)))
        for (own, _), keys in sorted(parties.items())
    ]
    (judged,) = judge_all(agreement, [EqualTokens(tuple(kinds), tuple(groups))], load_shipped(agreement.names.weights))
    if judged.group is None:
        return set()
    return {FAMILY_TABLE[key.family].group.value for key, _ in groups[judged.group].keys}
