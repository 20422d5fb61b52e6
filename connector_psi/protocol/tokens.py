"""What of a record goes through the PRF: its identifiers, and the name keys of its parties.

Decides: which tokens a record has under an agreement, on either side, what a ticket says of each, and how tokens that
are equal are grouped before they are judged: identifiers are the record's as a whole, name keys are one party's, and
keys of two parties never count together. Leaves to others: canonical forms (``domain.identifiers``), name keys
(``domain.names``), what is a match (``policy``), bytes (``messages``).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from connector_psi import policy
from connector_psi.audit.entries import Side
from connector_psi.domain import names, purposes
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup, NameFamily
from connector_psi.domain.naming.judging import Weights
from connector_psi.domain.naming.keys import HeldKey, NameKey, Shape
from connector_psi.domain.naming.shipped import load_shipped
from connector_psi.domain.purposes import ProfileRole
from connector_psi.domain.records import IDENTIFIER_TABLE, Identifier, IdentifierType, Party, Record, TokenClass
from connector_psi.encoding.tickets import MAX_PART
from connector_psi.errors import ProtocolError
from connector_psi.protocol.messages import encode_token


@dataclass(frozen=True, slots=True)
class Token:
    """One input of the PRF, and what it stands for."""

    value: bytes = field(repr=False)
    """At most 512 bytes."""
    token_class: TokenClass
    family: int
    """Number of the family, one byte."""
    kind: IdentifierType | NameFamily
    shape: int = 0
    """A ``Shape``, on the owner's side; 0 for an identifier."""
    part: int = 0
    """Which party of the record it is about, from 1; 0 for an identifier."""
    key: NameKey | None = field(default=None, repr=False)
    """None for an identifier."""

    @property
    def word(self) -> str:
        """What it is called where matches are shown: the type of an identifier, the group of a name key's family."""
        return self.kind.value if isinstance(self.kind, IdentifierType) else FAMILY_TABLE[self.kind].group.value


def name_groups(agreement: policy.Agreement, querier: ProfileRole | None) -> frozenset[FamilyGroup]:
    """Return the groups of name families that an agreement has and that its querier can ask with.

    Both sides come to the same: the owner publishes no others, since everything published can be asked for.

    Args:
        agreement: The agreement.
        querier: Role of the authority that asks; None where it is not known, then all of the agreement's.
    """
    if querier is None:
        return agreement.name_groups
    return agreement.name_groups & purposes.name_groups(querier, agreement.querier_categories)


def family_numbers(agreement: policy.Agreement, groups: Collection[FamilyGroup]) -> tuple[int, ...]:
    """Return the numbers of all families that a set may hold, ascending.

    Args:
        agreement: The agreement.
        groups: From ``name_groups``.
    """
    exact = {IDENTIFIER_TABLE[kind].family for kind in agreement.identifier_types}
    named = {rule.number for family, rule in FAMILY_TABLE.items() if _is_asked(agreement, family, groups)}
    return tuple(sorted(exact | named))


def record_tokens(
    agreement: policy.Agreement, record: Record, side: Side, groups: Collection[FamilyGroup]
) -> list[Token]:
    """Return the tokens of a record that an agreement covers, no two of one value and part.

    Args:
        agreement: Its identifier types, classes and families count.
        record: Of the querier or of the owner.
        side: Whose record it is: what is asked about a name is less than what is published of it.
        groups: From ``name_groups``.

    Returns:
        Identifiers in the record's order, then name keys, party by party. Parties beyond ``MAX_PART`` yield none.
    """
    version = agreement.normalisation_version
    found = [
        Token(encode_token(version, i.type, i.value), rule.token_class, rule.family, i.type)
        for i in record.identifiers
        if i.type in agreement.identifier_types and (rule := IDENTIFIER_TABLE[i.type]).token_class in agreement.classes
    ]
    if groups:
        for part, party in enumerate(record.parties[:MAX_PART], 1):
            contacts = names.contacts_of(record, party) if FamilyGroup.NAME_CONTACT in groups else ()
            found += _name_tokens(agreement, party, contacts, part, side, groups)
    return found if len(found) < 2 else list({(token.value, token.part): token for token in found}.values())


def left_out(record: Record) -> int:
    """Return how many parties of a record yield no tokens because there are too many of them."""
    return max(0, len(record.parties) - MAX_PART)


def is_born(party: Party, groups: Collection[FamilyGroup]) -> bool:
    """Return whether a party was asked about with a date of birth."""
    return FamilyGroup.PERSON_BIRTH in groups and names.is_dated((party.birth_date,))


def _name_tokens(
    agreement: policy.Agreement,
    party: Party,
    contacts: Sequence[Identifier],
    part: int,
    side: Side,
    groups: Collection[FamilyGroup],
) -> Iterator[Token]:
    held: Iterable[HeldKey] = (
        names.held_keys(party, groups, contacts)
        if side is Side.OWNER
        else (HeldKey(key, Shape(0)) for key in names.asked_keys(party, groups, contacts))
    )
    for key, shape in held:
        if _is_asked(agreement, key.family, groups):
            family, rule = NameFamily(key.family), FAMILY_TABLE[key.family]
            yield Token(encode_key(key), rule.token_class, rule.number, family, int(shape), part, key)


_NAMES_OF = {TokenClass.PERSON: FamilyGroup.PERSON_NAME, TokenClass.ORGANISATION: FamilyGroup.COMPANY_NAME}


def _is_asked(agreement: policy.Agreement, family: str, groups: Collection[FamilyGroup]) -> bool:
    rule = FAMILY_TABLE[family]
    # A place or a contact goes with the names of a kind, and is none of its own.
    return rule.token_class in agreement.classes and rule.group in groups and _NAMES_OF[rule.token_class] in groups


def encode_key(key: NameKey) -> bytes:
    """Return the token of a name key; a text that is too long for one goes in as its SHA-256 in hexadecimal."""
    version, family = names.NAME_RULES_VERSION, NameFamily(key.family)
    try:
        return encode_token(version, family, key.text)
    except ProtocolError:
        return encode_token(version, family, hashlib.sha256(key.text.encode()).hexdigest())


# Judging


def weights_of(agreement: policy.Agreement) -> Weights | None:
    """Return the weights that judge names under an agreement, None where it has no names.

    Raises:
        ConfigError: This version does not bring them.
    """
    return None if agreement.names is None else load_shipped(agreement.names.weights)


def equal_tokens(tokens: Iterable[Token]) -> policy.EqualTokens:
    """Group tokens of an owner's record that a querier holds: by party, so that no two parties count together."""
    exact: list[IdentifierType] = []
    parts: dict[int, list[HeldKey]] = defaultdict(list)
    for token in tokens:
        if isinstance(token.kind, IdentifierType):
            exact.append(token.kind)
        elif token.key is not None:
            parts[token.part].append(HeldKey(token.key, Shape(token.shape)))
    return policy.EqualTokens(tuple(exact), tuple(policy.NameGroup(tuple(keys)) for _, keys in sorted(parts.items())))


def judge_claim(agreement: policy.Agreement, tokens: Collection[Token]) -> policy.Judgement:
    """Judge the tokens of one record of the owner that a querier proves to hold, as the querier judged them.

    Raises:
        ConfigError: The agreement names weights that this version does not bring.
    """
    (judgement,) = policy.judge_all(agreement, [equal_tokens(tokens)], weights_of(agreement))
    return judgement
