"""How a value is written: Unicode, separators, case, and characters that are mistaken for one another.

Decides the first steps towards a canonical form, the same for every identifier type: NFKC and the limit before it,
which characters are separators, what else may stay, and how a character is read where a standard allows only digits or
only letters.
Leaves to others: which steps a type takes, its structure and its check digit (``domain.transport``, ``domain.trade``,
``domain.documents``, ``domain.contacts``, ``domain.payment``, ``domain.serials``).

``kind`` is the identifier type; it begins the reason of every refusal. No error holds a value.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from connector_psi.domain.countries import country_code
from connector_psi.errors import NormalisationError

MAX_INPUT_CHARS: Final = 512
"""Longest value that is looked at. NFKC can lengthen a text 18 times, so the limit comes first."""

_DASHES = (
    "-\u00ad\u02d7\u058a\u05be\u1400\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2796\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u2e5d"
    "\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d\U00010d6e\U00010ead"
)
_INVISIBLE = "\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
DASH: Final = re.compile(f"[{re.escape(_DASHES)}]")
HIDDEN: Final = re.compile(f"[{_INVISIBLE}]")
SPACE_OR_DASH: Final = re.compile(rf"[\s{_INVISIBLE}{re.escape(_DASHES)}\u00b7\u2022]")
_ASCII_SEPARATORS = {ord(char): None for char in " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f-.,/:_"}
_ASCII_SIGNS = re.compile(r"[\x20-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e]")

TO_DIGIT: Final = str.maketrans("OI", "01")
TO_LETTER: Final = str.maketrans("01", "OI")


def nfkc(kind: str, value: str) -> str:
    """Give the value in NFKC; refuse what is too long to look at."""
    if len(value) > MAX_INPUT_CHARS:
        raise NormalisationError(f"{kind}.too_long")
    return value if value.isascii() else unicodedata.normalize("NFKC", value)


def bare(text: str) -> str:
    """Drop separators and go to upper case; the result may still hold anything else."""
    if not text.isascii():
        text = SPACE_OR_DASH.sub("", text)
        if not text.isascii():
            # Upper-casing would turn some letters into ASCII ones that nobody wrote (sharp s into SS).
            return text
    return text.translate(_ASCII_SEPARATORS).upper()


def alphanumeric(kind: str, value: str) -> str:
    """Give upper-case A-Z and 0-9, at least one character; separators go."""
    if len(value) <= MAX_INPUT_CHARS and value.isascii() and value.isalnum():
        return value.upper()
    text = bare(nfkc(kind, value))
    if not text:
        raise NormalisationError(f"{kind}.empty")
    if not (text.isascii() and text.isalnum()):
        raise NormalisationError(f"{kind}.characters")
    return text


def without_signs(text: str) -> str:
    """Drop every ASCII character that is neither letter, digit nor control character."""
    return _ASCII_SIGNS.sub("", text)


def with_digit(kind: str, value: str, shortest: int, longest: int) -> str:
    """Give letters and digits, any ASCII sign dropped. At least one digit: NONE, NIL or ORIGINAL are no numbers."""
    text = alphanumeric(kind, without_signs(nfkc(kind, value)))
    if not shortest <= len(text) <= longest:
        raise NormalisationError(f"{kind}.length")
    if text.isalpha():
        raise NormalisationError(f"{kind}.format")
    return text


def without_accents(text: str) -> str:
    """Take combining marks off their letters."""
    if text.isascii():
        return text
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


def country_of(kind: str, country: str) -> str:
    """Give the alpha-2 code of a country argument; empty stays empty."""
    if not country:
        return ""
    code = country_code(country) or country_code(bare(nfkc(kind, country)))
    if not code:
        raise NormalisationError(f"{kind}.country")
    return code


def by_position(text: str, layout: str) -> str:
    """Read O, I, 0 and 1 as the layout has them.

    Args:
        text: A-Z and 0-9.
        layout: As long; D where only a digit may stand, L where only a letter may, X where both may.

    Returns:
        The reading, or an empty string where some character has none.
    """
    read = []
    for char, place in zip(text, layout, strict=True):
        if place == "D":
            # Only ASCII gets here, so that isdigit() means 0 to 9.
            reading = char if char.isdigit() else _AS_DIGIT.get(char, "")
        elif place == "L":
            reading = char if char.isalpha() else _AS_LETTER.get(char, "")
        else:
            reading = char
        if not reading:
            return ""
        read.append(reading)
    return "".join(read)


_AS_DIGIT = {"O": "0", "I": "1"}
_AS_LETTER = {"0": "O", "1": "I"}


def one_character_only(text: str) -> bool:
    """Tell a placeholder such as 00000000: equal placeholders would match."""
    return len(set(text)) == 1
