"""Coarse spellings of one Latin word: for looking it up in tables, for comparing it, and its consonants.

``predpriyatie``, ``predpriyatiye`` and ``predpriiatie`` are one Russian word in three romanisations; ``Industry`` and
``Industrie`` differ less than two romanisations do. ``fold`` maps them near each other: it is for the tables of
``domain.naming.legal_forms`` and ``domain.naming.generic_words``, whose entries are folded the same way. ``spelling``
is what a distinctive word of a company's name is compared as, ``skeleton`` what is left of that without vowels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

__all__ = ["fold", "skeleton", "spelling"]

_Replacements = Sequence[tuple[str, str]]

_FOLDED: Final[_Replacements] = (
    ("shch", "sh"),
    ("sch", "sh"),
    ("tch", "ch"),
    ("kh", "h"),
    ("gh", "g"),
    ("ph", "f"),
    ("ck", "k"),
    ("tz", "ts"),
    ("q", "k"),
    ("w", "v"),
    ("x", "ks"),
    ("y", "i"),
    ("j", "i"),
)
_SPELLED: Final[_Replacements] = (
    ("shch", "sh"),
    ("sch", "sh"),
    ("tch", "ch"),
    ("dzh", "j"),
    ("dj", "j"),
    ("zh", "j"),
    ("ph", "f"),
    ("ck", "k"),
    ("tz", "ts"),
    ("q", "k"),
    ("w", "v"),
    ("x", "ks"),
    ("y", "i"),
    ("ou", "u"),
    ("oo", "u"),
    ("ee", "i"),
)
_CONSONANTS: Final[_Replacements] = (
    ("sh", "s"),
    ("ch", "c"),
    ("gh", "g"),
    ("kh", "k"),
    ("th", "t"),
    ("ts", "s"),
    ("z", "s"),
)
_ABBREVIATION: Final = 3
_HARD_C: Final = re.compile(r"c(?!h)")
_SOFT_C: Final = re.compile(r"c(?=[eiy])")
_DOUBLED: Final = re.compile(r"([a-z])\1+")
_SILENT_H: Final = re.compile(r"(?<=[aeiou])h(?![aeiou])")
_VOWELS: Final = str.maketrans("", "", "aeiouh")


@lru_cache(maxsize=65536)
def fold(word: str) -> str:
    """Return the coarse spelling for tables of a word of ``a-z`` and ``0-9``; other characters pass unchanged.

    Words of three letters and fewer stay: they are abbreviations, and ``ooo`` is not ``o``. Digits never change.
    ``fold(fold(word)) == fold(word)`` is not promised: ``ie`` may come into being.
    """
    if len(word) <= _ABBREVIATION:
        return word
    word = _replaced(word, _FOLDED)
    word = _DOUBLED.sub(r"\1", _HARD_C.sub("k", word))
    return word.replace("ie", "e")


@lru_cache(maxsize=65536)
def spelling(word: str) -> str:
    """Return how a distinctive Latin word is compared: one spelling for the usual romanisations of a sound."""
    word = _replaced(_SOFT_C.sub("s", word), _SPELLED)
    word = _DOUBLED.sub(r"\1", _HARD_C.sub("k", word))
    return _SILENT_H.sub("", word).replace("ie", "e")


def skeleton(spelled: str) -> str:
    """Return the consonants of a word from ``spelling``; a vowel in first place is ``a``. Digits stay."""
    if not spelled:
        return ""
    word = _replaced(spelled, _CONSONANTS)
    first = "a" if word[0] in "aeiou" else word[0]
    return _DOUBLED.sub(r"\1", first + word[1:].translate(_VOWELS))


def _replaced(word: str, replacements: _Replacements) -> str:
    for written, replacement in replacements:
        if written in word:
            word = word.replace(written, replacement)
    return word
