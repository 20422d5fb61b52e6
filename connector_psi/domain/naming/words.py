"""Keys, columns of the model and bands in words, for people who want to know why.

Leaves to others: what they are (``domain.naming.families``, ``domain.naming.judging``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from connector_psi.domain.naming.families import NameFamily
from connector_psi.domain.naming.judging import Band

_F = NameFamily
FAMILY_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        _F.PERSON_WHOLE_SKELETON: "all parts, by their consonants",
        _F.PERSON_WHOLE_SOUND: "all parts, by their sound",
        _F.PERSON_PAIR_SKELETON: "two parts, by their consonants",
        _F.PERSON_PAIR_SOUND: "two parts, by their coarse sound",
        _F.PERSON_PAIR_PREFIX: "two parts, by their first three letters",
        _F.PERSON_BIRTH_INITIAL: "an initial and the date of birth",
        _F.PERSON_BIRTH_DAY: "a part, by its sound, with day and month of birth",
        _F.PERSON_BIRTH_YEAR: "a part, by its sound, with the year of birth",
        _F.PERSON_COUNTRY: "two parts with the country",
        _F.PERSON_CITY: "two parts with the city",
        _F.PERSON_POSTCODE: "two parts with the postcode",
        _F.PERSON_PHONE: "two parts with the telephone number",
        _F.PERSON_DOMAIN: "two parts with the domain of the e-mail address",
        _F.COMPANY_NAME: "all of the name but the legal form",
        _F.COMPANY_CORE: "the distinctive words, as spelled",
        _F.COMPANY_CONCEPTS: "the words of an institution, in whatever language",
        _F.COMPANY_WORDS: "the distinctive words, by their consonants",
        _F.COMPANY_JOINED: "the name written as one word, by its consonants",
        _F.COMPANY_PAIR: "two distinctive words",
        _F.COMPANY_MIXED: "a distinctive word with a trade word, a place or a number",
        _F.COMPANY_COUNTRY: "the name with the country",
        _F.COMPANY_CITY: "the name with the city",
        _F.COMPANY_POSTCODE: "the name with the postcode",
        _F.COMPANY_PHONE: "the name with the telephone number",
        _F.COMPANY_DOMAIN: "the name with the domain of the e-mail address",
    }
)
"""What an equal key of each family says."""

BAND_WORDS: Final[Mapping[Band, str]] = MappingProxyType(
    {
        Band.NOT_SHOWN: "not shown: as likely by chance",
        Band.WEAK: "weak: counted, never shown",
        Band.POSSIBLE: "possible: shown if a date of birth, a city, a postcode, a contact or an identifier agrees too",
        Band.STRONG: "strong: shown if anything else agrees too, a country or a year of birth included",
    }
)

_SHAPE_WORDS: Final = MappingProxyType(
    {
        "whole": "and that is all of the owner's name",
        "core": "a forename and a surname, or the ends, of a longer name of the owner",
        "other": "other parts of a longer name of the owner",
    }
)


_DATE_WORDS: Final = MappingProxyType(
    {
        "birth-day-alone": "day and month of birth agree, and the year does not",
        "birth-differs": "both sides know a date of birth, and none agrees",
    }
)


def column_words(column: str) -> str:
    """Return what a column of the model says: ``person-pair-skeleton/core/rarity`` and the like."""
    family, _, rest = column.partition("/")
    if family not in FAMILY_WORDS:
        return _DATE_WORDS[family]
    said = FAMILY_WORDS[family]
    if rest.isdigit():
        return f"{said}: {rest} or more of them"
    if rest == "rarity":
        return f"{said}: how rare they are together"
    if rest == "rarest":
        return f"{said}: how rare the rarest is"
    shape, _, rarity = rest.partition("/")
    return f"{said}, {_SHAPE_WORDS[shape]}{': how rare' if rarity else ''}"
