"""Latin letters with marks, and Greek ones, in plain ``a-z``.

A letter such as ``ä`` or ``č`` reaches a register in up to three spellings: as machine-readable travel documents write
it (``ae``), without its mark (``a``), and as it sounds to an English ear (``ch``).

Source: ICAO Doc 9303 part 3 section 6 table A (Latin) and the Greek standard ELOT 743 (ISO 843 type 2); own table for
sounds, after the orthographies of the languages that use the letter.
"""

# ruff: noqa: RUF001, SIM905
# Letters of other alphabets, and tables of words, are what this module consists of.

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["greek", "latin"]

_ICAO: Final = str.maketrans(
    {
        "ä": "ae",
        "å": "aa",
        "æ": "ae",
        "ð": "d",
        "ö": "oe",
        "ø": "oe",
        "œ": "oe",
        "ü": "ue",
        "þ": "th",
        "ß": "ss",
        "ı": "i",
        "đ": "d",
        "ħ": "h",
        "ĸ": "q",
        "ł": "l",
        "ŋ": "n",
        "ŧ": "t",
        "ə": "e",
        "ɛ": "e",
        "ɔ": "o",
        "ɖ": "d",
        "ɗ": "d",
        "ɓ": "b",
        "ƙ": "k",
        "ƴ": "y",
        "ơ": "o",
        "ư": "u",
    }
)
_PLAIN: Final = str.maketrans({"ø": "o", "å": "a", "æ": "a", "œ": "o", "þ": "t", "ə": "a"})
_SOUNDS: Final = str.maketrans(
    {
        "č": "ch",
        "ć": "ch",
        "ç": "s",
        "š": "sh",
        "ş": "sh",
        "ș": "sh",
        "ś": "sh",
        "ž": "zh",
        "ź": "zh",
        "ż": "zh",
        "ř": "rzh",
        "ţ": "ts",
        "ț": "ts",
        "ñ": "ny",
        "ń": "ny",
        "ň": "ny",
        "đ": "dj",
        "ą": "an",
        "ę": "en",
        "ě": "ie",
        "ğ": "",
        "ə": "a",
        "ø": "o",
        "å": "o",
    }
)
_TURKISH: Final = str.maketrans({"ç": "ch", "ñ": "n", "å": "a", "đ": "d", "ę": "e", "ą": "a"})
_NOT_LATIN: Final = re.compile(r"[^a-z0-9]+")

_GREEK_PAIRS: Final = (
    ("αυ", "av"),
    ("ευ", "ev"),
    ("ηυ", "iv"),
    ("ου", "ou"),
    ("γγ", "ng"),
    ("γξ", "nx"),
    ("γχ", "nch"),
)
_GREEK_ALONE: Final = (("μπ", "b"), ("ντ", "nt"), ("γκ", "gk"))
_GREEK_SPOKEN: Final = (("μπ", "b"), ("ντ", "d"), ("γκ", "g"), ("τζ", "tz"), ("χ", "h"), ("γι", "y"))
_GREEK: Final = str.maketrans(
    dict(
        zip(
            "αβγδεζηθικλμνξοπρσςτυφχψω",
            "a v g d e z i th i k l m n x o p r s s t y f ch ps o".split(),
            strict=True,
        )
    )
)


def latin(part: str) -> list[str]:
    """Return the spellings of a part in Latin letters, without marks first, then as a travel document
    writes it, then as it sounds.
    """
    found = [_bare(part.translate(_PLAIN)), _bare(part.translate(_ICAO))]
    spoken = part.translate(_SOUNDS)
    if spoken != part:
        found += [_bare(spoken), _bare(part.translate(_TURKISH).translate(_SOUNDS))]
    return found


def greek(part: str) -> list[str]:
    """Return the spellings of a part in Greek letters: after ELOT 743, and as it sounds."""
    plain = unicodedata.normalize("NFC", _without_marks(part))
    written = plain
    for pair, replacement in (*_GREEK_PAIRS, *_GREEK_ALONE):
        written = written.replace(pair, replacement)
    spoken = plain
    for pair, replacement in (*_GREEK_SPOKEN, *_GREEK_PAIRS):
        spoken = spoken.replace(pair, replacement)
    return [_bare(written.translate(_GREEK)), _bare(spoken.translate(_GREEK))]


def _without_marks(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))


def _bare(text: str) -> str:
    """Drop the marks of all letters that no table names."""
    if not text.isascii():
        text = _without_marks(text).translate(_ICAO)
    return _NOT_LATIN.sub("", text)
