"""What was found for a record is judged, and becomes matches: the match rule over groups of one owner's record.

Decides: how equal tokens are grouped, what identifies a match over epochs, what of it is kept. Leaves to others: the
rule itself (``policy``), what is found (``protocol.querier``), when (``node.querying``), people (``node.review``).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connector_psi import policy
from connector_psi.domain.naming.keys import HeldKey, Shape
from connector_psi.domain.records import IdentifierType
from connector_psi.encoding.tickets import Ticket
from connector_psi.node.node import Bound, Node
from connector_psi.protocol import messages
from connector_psi.protocol.querier import Probed
from connector_psi.protocol.tokens import Token, is_born, weights_of
from connector_psi.storage import queried
from connector_psi.storage.queried import TakenSet
from connector_psi.storage.records import StoredRecord
from connector_psi.storage.store import Tx

MATCH = "match"
"""Counted by day: matches that were not known before."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a set has of one token."""

    output: bytes = field(repr=False)
    """Of the PRF, 64 bytes."""
    probed: Probed


_Hit = tuple[Token, Ticket]
"""A token of the own record, and a ticket that it opened."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """What is equal between a record of this node and a record of the owner, known by its ticket."""

    stored: StoredRecord
    ticket_id: bytes
    exact: tuple[_Hit, ...]
    """Identifiers."""
    groups: tuple[tuple[_Hit, ...], ...]
    """Name keys, each group of one party here and one party there."""
    born: tuple[bool, ...]
    """Of each group, whether the party here was asked about with a date of birth."""

    def equal(self) -> policy.EqualTokens:
        """What the match rule looks at; shapes are those that the owner's tickets say."""
        return policy.EqualTokens(
            tuple(token.kind for token, _ in self.exact if isinstance(token.kind, IdentifierType)),
            tuple(
                policy.NameGroup(
                    tuple(HeldKey(t.key, Shape(ticket.shape)) for t, ticket in group if t.key is not None), born
                )
                for group, born in zip(self.groups, self.born, strict=True)
            ),
        )

    def claimed(self, judgement: policy.Judgement) -> tuple[_Hit, ...]:
        """What a match consists of, and is claimed with: all identifiers, and the names of the party that matched."""
        return self.exact if judgement.group is None else (*self.exact, *self.groups[judgement.group])

    @property
    def category(self) -> int:
        """Of the owner's record, as its tickets show it."""
        (_, ticket), *_ = self.exact or self.groups[0]
        return ticket.category


class Matching:
    """Use cases of what was found."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def keep(
        self,
        tx: Tx,
        bound: Bound,
        taken: TakenSet,
        covered: Sequence[StoredRecord],
        found: Mapping[bytes, Found],
        whole: Sequence[StoredRecord] | None = None,
    ) -> None:
        """Judge what was found for records and keep the matches; undecided ones that are no more are taken back.

        Args:
            tx: The transaction that ends the round.
            bound: The agreement.
            taken: The set that was asked.
            covered: Records that were asked with.
            found: By token, what was found of it.
            whole: Those of them of which every token was asked; by default all.
        """
        pairs = [pair for stored in covered for pair in self._pairs(bound, stored, found)]
        judgements = policy.judge_all(bound.agreement, [pair.equal() for pair in pairs], weights_of(bound.agreement))
        by_record: dict[int, list[tuple[_Pair, policy.Judgement]]] = defaultdict(list)
        for pair, judgement in zip(pairs, judgements, strict=True):
            if judgement.verdict is policy.Verdict.MATCH:
                by_record[pair.stored.id].append((pair, judgement))
        weak = Counter(
            pair.stored.id
            for pair, judgement in zip(pairs, judgements, strict=True)
            if judgement.verdict is policy.Verdict.WEAK
        )
        kept: set[bytes] = set()
        new = sum(self._keep(tx, bound, taken, matches, kept) for matches in by_record.values())
        self._node.count(tx, MATCH, bound, new)
        judged = [stored.id for stored in (covered if whole is None else whole)]
        queried.mark_gone(tx, bound.code, judged, kept)
        queried.count_weak(tx, bound.code, taken.epoch, [stored.id for stored in covered], weak)

    def _pairs(self, bound: Bound, stored: StoredRecord, found: Mapping[bytes, Found]) -> list[_Pair]:
        """Group what a record's tokens opened by ticket, and of names by the party here and the party there."""
        groups = self._node.name_groups(bound)
        # By token: an owner that publishes one twice for a record does not make it count twice.
        exact: dict[bytes, dict[bytes, _Hit]] = defaultdict(dict)
        named: dict[bytes, dict[tuple[int, int], dict[bytes, _Hit]]] = defaultdict(lambda: defaultdict(dict))
        for token in self._node.tokens(bound, stored.record):
            for ticket in found[token.value].probed.opened if token.value in found else ():
                if token.key is None:
                    exact[ticket.ticket_id].setdefault(token.value, (token, ticket))
                else:
                    named[ticket.ticket_id][token.part, ticket.part].setdefault(token.value, (token, ticket))
        parties = stored.record.parties
        return [
            _Pair(
                stored,
                ticket_id,
                tuple(exact.get(ticket_id, {}).values()),
                tuple(tuple(hits.values()) for _, hits in parts),
                tuple(is_born(parties[own - 1], groups) for (own, _), _ in parts),
            )
            for ticket_id in sorted(exact.keys() | named.keys())
            for parts in [sorted(named.get(ticket_id, {}).items())]
        ]

    def _keep(
        self,
        tx: Tx,
        bound: Bound,
        taken: TakenSet,
        matches: Sequence[tuple[_Pair, policy.Judgement]],
        kept: set[bytes],
    ) -> int:
        """Keep the matches of one record, and add their identities to ``kept``. Returns how many are new."""
        node, new = self._node, 0
        judged: dict[tuple[bytes, int], list[tuple[_Pair, policy.Judgement]]] = defaultdict(list)
        for pair, judgement in matches:
            values = sorted({token.value for token, _ in pair.claimed(judgement)})
            content = hashlib.sha256(b"".join(map(messages.lp, values))).digest()
            judged[content, pair.category].append((pair, judgement))
        for (content, category), same in judged.items():
            for position, (pair, judgement) in enumerate(same):
                # Ticket ids change with the epoch. Records of the owner that show the same tokens cannot be told apart
                # over epochs, so
                # their number is part of the identity: one more or less, and each is looked at again.
                stored, claimed = pair.stored, pair.claimed(judgement)
                key = json.dumps([bound.code, stored.id, content.hex(), category, position, len(same)])
                identity = node.store.mac(key.encode())
                kept.add(identity)
                payload = {
                    "ticket_id": pair.ticket_id.hex(),
                    "redeem": [ticket.redeem.hex() for _, ticket in claimed],
                    "types": sorted({token.word for token, _ in claimed}),
                    "evidence": _evidence(bound.agreement, stored, [token for token, _ in claimed]),
                    "band": judgement.band.value if judgement.band is not None else "",
                    "corroborators": [each.value for each in judgement.corroborators],
                    "category": _category_name(bound.agreement, category),
                    "record_ref": stored.record.source_ref,
                }
                new += queried.put_match(
                    node.store,
                    tx,
                    identity=identity,
                    match_id=identity[:16].hex(),
                    agreement=bound.code,
                    epoch=taken.epoch,
                    record_id=stored.id,
                    payload=payload,
                    now_ms=node.now_ms(),
                )
        return new


def _evidence(agreement: policy.Agreement, stored: StoredRecord, tokens: Sequence[Token]) -> list[list[str]]:
    """Where in the own record what a match consists of stands: what it is, path and role."""
    values = {token.value for token in tokens if token.key is None}
    version = agreement.normalisation_version
    found = [
        [i.type.value, i.source_path, i.role]
        for i in stored.record.identifiers
        if messages.encode_token(version, i.type, i.value) in values
    ]
    for part, word in sorted({(token.part, token.word) for token in tokens if token.key is not None}):
        party = stored.record.parties[part - 1]
        found.append([word, party.source_path, party.role])
    return found


def _category_name(agreement: policy.Agreement, number: int) -> str:
    return agreement.categories[number - 1] if 0 < number <= len(agreement.categories) else ""
