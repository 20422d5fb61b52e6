"""Names of persons and companies: from a party to the keys that it is found by, and to words for people.

Two nodes can see that a name is equal in some respect, never a name, so what may differ between two writings of one
name is decided here and in the modules of ``domain.naming``, before anything is hashed. A party gives keys of its
name and of every alias, all for the same ticket; of a name with its date of birth; and of a name with its country,
city, postcode, telephone number or the domain of its e-mail address, which corroborate. A country or a year alone
never is a key: it would list everybody there.

Decides: which keys a party has on each side, in which order and how many. Leaves to others: persons
(``domain.naming.persons``), companies (``domain.naming.companies``), places (``domain.naming.places``), what equal keys
are worth (``domain.naming.judging``), who may ask with which family (``policy``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from connector_psi.domain.naming import companies, persons, places
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup, NameFamily
from connector_psi.domain.naming.keys import NAME_RULES_VERSION, HeldKey, NameKey, Shape
from connector_psi.domain.records import Identifier, IdentifierType, Party, PartyKind, Record, TokenClass

__all__ = [
    "MAX_COUNTRIES",
    "MAX_KEYS",
    "MAX_NAMES",
    "MAX_NAME_LENGTH",
    "NAME_RULES_VERSION",
    "Subject",
    "asked_keys",
    "contacts_of",
    "held_keys",
    "is_dated",
    "keys_of",
    "subject_of",
]

MAX_NAMES: Final = 64
"""Names of one party that give keys: its name and the first aliases."""
MAX_KEYS: Final = 768
"""Keys of one party."""
MAX_NAME_LENGTH: Final = 300
"""Characters of a name that are read."""
MAX_COUNTRIES: Final = 3
_MAX_PLACED: Final = 3
"""Pairs of parts of one name that are joined with places."""

_MAX_CONTACTS: Final = 3
_CONTACTS: Final = frozenset({IdentifierType.PHONE, IdentifierType.EMAIL})
_WHOLE: Final = Shape(0)
_BIRTH: Final = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a party gives keys, in the form that its source wrote."""

    names: tuple[str, ...] = field(repr=False)
    kinds: frozenset[TokenClass]
    """PERSON, ORGANISATION, or both where nobody knows."""
    births: tuple[str, ...] = field(default=(), repr=False)
    """ISO 8601: ``1980``, ``1980-05`` or ``1980-05-17``."""
    countries: tuple[str, ...] = field(default=(), repr=False)
    """ISO 3166 alpha-2."""
    cities: tuple[str, ...] = field(default=(), repr=False)
    """From ``places.city_keys``."""
    postcodes: tuple[str, ...] = field(default=(), repr=False)
    """From ``places.postcode_key``."""
    phones: tuple[str, ...] = field(default=(), repr=False)
    """In E.164."""
    domains: tuple[str, ...] = field(default=(), repr=False)
    """From ``places.email_domain_key``."""


def contacts_of(record: Record, party: Party) -> tuple[Identifier, ...]:
    """Return the telephone numbers and e-mail addresses of a record that are this party's.

    They stand among the identifiers of the record with the role of the party; where several parties have that role,
    nobody can tell whose they are, and they are nobody's.
    """
    mine = {party.role, ""} if len(record.parties) == 1 else {party.role}
    if sum(other.role == party.role for other in record.parties) > 1:
        return ()
    return tuple(i for i in record.identifiers if i.type in _CONTACTS and i.role in mine)


def subject_of(party: Party, contacts: Sequence[Identifier] = ()) -> Subject:
    """Return what of a party, and of its contacts, gives keys."""
    country = places.country_key(party.country)
    own = [country, *map(places.country_key, party.nationalities)]
    city, postcode = party.city, party.postcode
    if party.address and not (city or postcode):
        city, postcode, _ = places.address_of(party.address, country)
    code = places.postcode_key(postcode, country) if postcode else None
    return Subject(
        names=(party.name, *party.aliases),
        kinds=_kinds(party),
        births=(party.birth_date,) if party.birth_date else (),
        countries=tuple(dict.fromkeys(filter(None, own)))[:MAX_COUNTRIES],
        cities=places.city_keys(city, country) if city else (),
        postcodes=(code,) if code else (),
        phones=_contacts(i.value for i in contacts if i.type is IdentifierType.PHONE),
        domains=_contacts(places.email_domain_key(i.value) for i in contacts if i.type is IdentifierType.EMAIL),
    )


def _contacts(found: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, found)))[:_MAX_CONTACTS]


def asked_keys(
    party: Party, groups: Collection[FamilyGroup], contacts: Sequence[Identifier] = ()
) -> tuple[NameKey, ...]:
    """Return the keys that a querier asks with about a party, each once, most telling first.

    Args:
        party: Of a record of the querier.
        groups: Families that the agreement has.
        contacts: The party's, from ``contacts_of``.

    Cost: 50 to 70 microseconds a Latin name of a person, 100 to 200 other names.
    """
    return tuple(keys_of(subject_of(party, contacts), groups, held=False))


def held_keys(
    party: Party, groups: Collection[FamilyGroup], contacts: Sequence[Identifier] = ()
) -> tuple[HeldKey, ...]:
    """Return the keys that an owner publishes for a party, each once, most telling first.

    Args:
        party: Of a record of the owner.
        groups: Families that the agreement has and that the querier's sources can yield.
        contacts: The party's, from ``contacts_of``.
    """
    keys = keys_of(subject_of(party, contacts), groups, held=True)
    return tuple(HeldKey(key, shape) for key, shape in keys.items())


def keys_of(subject: Subject, groups: Collection[FamilyGroup], *, held: bool) -> dict[NameKey, Shape]:
    """Return the keys of a subject, with what the owner's tickets say of each.

    Args:
        subject: Names, dates and places.
        groups: Families that are wanted.
        held: For the owner's set.

    Returns:
        Each key once, in a fixed order.
    """
    births = _births(subject) if FamilyGroup.PERSON_BIRTH in groups else ()
    born = held and bool(births)
    keys: dict[NameKey, Shape] = {}
    for key, shape in islice(_all_keys(subject, births, groups, held=held), 4 * MAX_KEYS):
        known = keys.get(key)
        if known is None and len(keys) == MAX_KEYS:
            continue
        if known is None or shape < known:
            # Several aliases give one key: what says most of it holds.
            keys[key] = shape
    return {key: _BORN[shape] for key, shape in keys.items()} if born else keys


_BORN: Final = {shape: shape | Shape.BORN for shape in (Shape(0), Shape.CORE, Shape.OTHER)}


def _all_keys(
    subject: Subject, births: Sequence[str], groups: Collection[FamilyGroup], *, held: bool
) -> Iterator[tuple[NameKey, Shape]]:
    names = [name[:MAX_NAME_LENGTH] for name in subject.names[:MAX_NAMES] if name.strip()]
    if TokenClass.PERSON in subject.kinds and FamilyGroup.PERSON_NAME in groups:
        for name in names:
            yield from persons.person_keys(name, births, held=held).items()
    if TokenClass.ORGANISATION in subject.kinds and FamilyGroup.COMPANY_NAME in groups:
        for name in names:
            for key in companies.company_tokens(name):
                yield key, _WHOLE
    for name in names:
        for key in _joined(subject, name, groups):
            yield key, _WHOLE


_GROUP_OF: Final = {
    TokenClass.PERSON: FamilyGroup.PERSON_NAME,
    TokenClass.ORGANISATION: FamilyGroup.COMPANY_NAME,
}
_F: Final = NameFamily
_JOINED: Final = {
    TokenClass.PERSON: (
        (_F.PERSON_COUNTRY, "countries"),
        (_F.PERSON_CITY, "cities"),
        (_F.PERSON_POSTCODE, "postcodes"),
        (_F.PERSON_PHONE, "phones"),
        (_F.PERSON_DOMAIN, "domains"),
    ),
    TokenClass.ORGANISATION: (
        (_F.COMPANY_COUNTRY, "countries"),
        (_F.COMPANY_CITY, "cities"),
        (_F.COMPANY_POSTCODE, "postcodes"),
        (_F.COMPANY_PHONE, "phones"),
        (_F.COMPANY_DOMAIN, "domains"),
    ),
}
"""What is joined with a name, and where it stands in a subject."""


def _joined(subject: Subject, name: str, groups: Collection[FamilyGroup]) -> Iterator[NameKey]:
    """Keys of a name with a place or a contact. Joined with what is a key by itself, they say that and nothing more."""
    for kind, group in _GROUP_OF.items():
        if kind not in subject.kinds or group not in groups:
            continue
        wanted = [(family, getattr(subject, where)) for family, where in _JOINED[kind]]
        wanted = [(f, known) for f, known in wanted if known and FAMILY_TABLE[f].group in groups]
        stems = _stems(kind, name) if wanted else []
        for family, known in wanted:
            for each in known:
                for text, words in stems:
                    yield NameKey(family, f"{text} {each}", words)


def _stems(kind: TokenClass, name: str) -> list[tuple[str, tuple[str, ...]]]:
    """What of a name is joined with places and contacts: text, and the word keys in it."""
    if kind is TokenClass.PERSON:
        return [(" ".join(words), words) for words in persons.paired_words(name)[:_MAX_PLACED]]
    return [(key.text, key.keys) for key in companies.company_tokens(name)[:_MAX_PLACED]]


def is_dated(births: Iterable[str]) -> bool:
    """Return whether some date of birth is one that keys are made with; another is as good as none."""
    return any(_BIRTH.fullmatch(birth) for birth in births)


def _births(subject: Subject) -> tuple[str, ...]:
    """Dates in the form that keys are made of: a year, or a whole date; a month without a day says the year."""
    found = [birth if len(birth) == 10 else birth[:4] for birth in subject.births if _BIRTH.fullmatch(birth)]
    return tuple(dict.fromkeys(found))


def _kinds(party: Party) -> frozenset[TokenClass]:
    if party.kind is PartyKind.PERSON:
        return frozenset({TokenClass.PERSON})
    if party.kind is PartyKind.ORGANISATION or companies.has_legal_form(party.name):
        return frozenset({TokenClass.ORGANISATION})
    return frozenset({TokenClass.PERSON, TokenClass.ORGANISATION})
