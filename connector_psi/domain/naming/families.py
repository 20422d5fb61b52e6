"""The kinds of keys that a name can give: their numbers in a ticket, their class, and what they corroborate.

Decides: which families exist, under which word of a policy each is published, and what agreement in one says besides
the name. Leaves to others: how keys are made (``domain.names``), how much each is worth (``domain.naming.judging``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from connector_psi.domain.records import TokenClass


class FamilyGroup(StrEnum):
    """What a policy switches on or off together; the words of its ``families``."""

    PERSON_NAME = "person_name"
    PERSON_BIRTH = "person_birth"
    """Parts of a name with a date of birth."""
    COMPANY_NAME = "company_name"
    NAME_PLACE = "name_place"
    """Names with a country, a city or a postcode."""
    NAME_CONTACT = "name_contact"
    """Names with a telephone number or the domain of an e-mail address."""


class Corroborator(StrEnum):
    """What agrees besides a name. A name alone is never a match."""

    BIRTH_DATE = "birth_date"
    """Day and month, or the whole date."""
    BIRTH_YEAR = "birth_year"
    COUNTRY = "country"
    CITY = "city"
    POSTCODE = "postcode"
    PHONE = "phone"
    EMAIL_DOMAIN = "email_domain"
    """The registered domain of an e-mail address; of a provider that gives everybody one it says nothing."""
    IDENTIFIER = "identifier"
    """An exact identifier of the same record: a document, a phone, a company number, a container."""


POSSIBLE_WITH: Final = frozenset(
    {
        Corroborator.BIRTH_DATE,
        Corroborator.CITY,
        Corroborator.POSTCODE,
        Corroborator.PHONE,
        Corroborator.EMAIL_DOMAIN,
        Corroborator.IDENTIFIER,
    }
)
"""What suffices with a name that is possibly the same; the shipped policies say so too."""
STRONG_WITH: Final = frozenset({Corroborator.COUNTRY, Corroborator.BIRTH_YEAR})
"""What suffices with a name that is strongly the same alone: many people share a country or a year."""


class NameFamily(StrEnum):
    """Families of name keys. The value is part of every token, so it never changes."""

    PERSON_WHOLE_SKELETON = "person-whole-skeleton"
    PERSON_WHOLE_SOUND = "person-whole-sound"
    PERSON_PAIR_SKELETON = "person-pair-skeleton"
    PERSON_PAIR_SOUND = "person-pair-sound"
    PERSON_PAIR_PREFIX = "person-pair-prefix"
    PERSON_BIRTH_INITIAL = "person-birth-initial"
    """An initial and the whole date."""
    PERSON_BIRTH_DAY = "person-birth-day"
    """The sound of a part with day and month in either order."""
    PERSON_BIRTH_YEAR = "person-birth-year"
    """The sound of a part with the year."""
    PERSON_COUNTRY = "person-country"
    PERSON_CITY = "person-city"
    PERSON_POSTCODE = "person-postcode"
    PERSON_PHONE = "person-phone"
    PERSON_DOMAIN = "person-domain"
    COMPANY_NAME = "company-name"
    """All that a name consists of."""
    COMPANY_CORE = "company-core"
    """The distinctive words of a name that has more than these."""
    COMPANY_CONCEPTS = "company-concepts"
    """All of a name without a distinctive word: an institution, in whatever language."""
    COMPANY_WORDS = "company-words"
    """All distinctive words, by their consonants."""
    COMPANY_JOINED = "company-joined"
    """The consonants of the name run together."""
    COMPANY_PAIR = "company-pair"
    COMPANY_MIXED = "company-mixed"
    """A distinctive word with a trade word, a place or a number."""
    COMPANY_COUNTRY = "company-country"
    COMPANY_CITY = "company-city"
    COMPANY_POSTCODE = "company-postcode"
    COMPANY_PHONE = "company-phone"
    COMPANY_DOMAIN = "company-domain"


@dataclass(frozen=True, slots=True)
class FamilyRule:
    """What matching needs to know about a family."""

    number: int
    """Inside a sealed ticket; one byte, never reused. Exact identifier types have 1 to 63."""
    token_class: TokenClass
    group: FamilyGroup
    corroborates: Corroborator | None = None


_P, _O = TokenClass.PERSON, TokenClass.ORGANISATION
_F, _G, _C = NameFamily, FamilyGroup, Corroborator
FAMILY_TABLE: Final[Mapping[str, FamilyRule]] = MappingProxyType(
    {
        _F.PERSON_WHOLE_SKELETON: FamilyRule(64, _P, _G.PERSON_NAME),
        _F.PERSON_WHOLE_SOUND: FamilyRule(65, _P, _G.PERSON_NAME),
        _F.PERSON_PAIR_SKELETON: FamilyRule(66, _P, _G.PERSON_NAME),
        _F.PERSON_PAIR_SOUND: FamilyRule(67, _P, _G.PERSON_NAME),
        _F.PERSON_PAIR_PREFIX: FamilyRule(68, _P, _G.PERSON_NAME),
        _F.PERSON_BIRTH_INITIAL: FamilyRule(69, _P, _G.PERSON_BIRTH, _C.BIRTH_DATE),
        _F.PERSON_BIRTH_DAY: FamilyRule(70, _P, _G.PERSON_BIRTH, _C.BIRTH_DATE),
        _F.PERSON_BIRTH_YEAR: FamilyRule(71, _P, _G.PERSON_BIRTH, _C.BIRTH_YEAR),
        _F.PERSON_COUNTRY: FamilyRule(72, _P, _G.NAME_PLACE, _C.COUNTRY),
        _F.PERSON_CITY: FamilyRule(73, _P, _G.NAME_PLACE, _C.CITY),
        _F.PERSON_POSTCODE: FamilyRule(74, _P, _G.NAME_PLACE, _C.POSTCODE),
        _F.PERSON_PHONE: FamilyRule(75, _P, _G.NAME_CONTACT, _C.PHONE),
        _F.PERSON_DOMAIN: FamilyRule(76, _P, _G.NAME_CONTACT, _C.EMAIL_DOMAIN),
        _F.COMPANY_NAME: FamilyRule(90, _O, _G.COMPANY_NAME),
        _F.COMPANY_CORE: FamilyRule(91, _O, _G.COMPANY_NAME),
        _F.COMPANY_CONCEPTS: FamilyRule(92, _O, _G.COMPANY_NAME),
        _F.COMPANY_WORDS: FamilyRule(93, _O, _G.COMPANY_NAME),
        _F.COMPANY_JOINED: FamilyRule(94, _O, _G.COMPANY_NAME),
        _F.COMPANY_PAIR: FamilyRule(95, _O, _G.COMPANY_NAME),
        _F.COMPANY_MIXED: FamilyRule(96, _O, _G.COMPANY_NAME),
        _F.COMPANY_COUNTRY: FamilyRule(80, _O, _G.NAME_PLACE, _C.COUNTRY),
        _F.COMPANY_CITY: FamilyRule(81, _O, _G.NAME_PLACE, _C.CITY),
        _F.COMPANY_POSTCODE: FamilyRule(82, _O, _G.NAME_PLACE, _C.POSTCODE),
        _F.COMPANY_PHONE: FamilyRule(83, _O, _G.NAME_CONTACT, _C.PHONE),
        _F.COMPANY_DOMAIN: FamilyRule(84, _O, _G.NAME_CONTACT, _C.EMAIL_DOMAIN),
    }
)
