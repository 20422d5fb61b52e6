"""Sounds of one Latin name part: what stays equal when one name is romanised by different conventions.

Three encodings, from telling to coarse. ``skeleton`` keeps the consonants of a part and knows the conventions of
romanisation; ``metaphones`` is Double Metaphone, which knows how English, German, French, Slavic and Romance spelling
is pronounced; ``sound`` keeps only classes of sounds, for names that went through a script which does not tell ``b``
from ``p`` or ``l`` from ``r``. Encodings of equal kind are compared for equality, never across kinds.

Decides: which Latin spellings count as one. Leaves to others: other scripts (``domain.naming.transliteration``), and
what equal encodings are worth (``domain.naming.judging``).

Nothing here raises on what a part holds. No encoding is empty but that of a part without any letter or digit. Caches
hold single parts, and are bounded.

Source: own rules after the romanisations named in the modules of the scripts; Double Metaphone is Lawrence Philips'
(C/C++ Users Journal, June 2000), as the package DoubleMetaphone (MIT) implements it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import eq
from typing import Final

from doublemetaphone import doublemetaphone

__all__ = ["metaphones", "skeleton", "sound"]

_CACHE: Final = 1 << 16
_VOWELS: Final = "aeiouy"
_Replacements = Sequence[tuple[str, str]]

# Upper case stands for a sound that Latin writes with several letters: C as in church, S as in ship, J as in jam,
# Z as in tsar. Longer spellings come first.
_WITH_H: Final[_Replacements] = (
    ("tzsch", "C"),
    ("tzh", "Zh"),
    ("tsch", "C"),
    ("zsch", "C"),
    ("shch", "S"),
    ("sch", "S"),
    ("tch", "C"),
    ("tsh", "C"),
    ("dzh", "J"),
    ("chr", "kr"),
    ("chl", "kl"),
    ("chs", "ks"),
    ("cch", "k"),
    ("ch", "C"),
    ("sh", "S"),
    ("zh", "J"),
    ("jh", "J"),
    ("kh", "h"),
    ("gh", "g"),
    ("ph", "f"),
    ("th", "t"),
    ("dh", "d"),
    ("bh", "b"),
    ("rh", "r"),
    ("wh", "w"),
    ("hh", "h"),
)
_WITH_Z: Final[_Replacements] = (("tz", "Z"), ("cz", "C"), ("sz", "s"), ("dz", "Z"))
_WITH_C: Final[_Replacements] = (("ck", "k"), ("ce", "se"), ("ci", "si"), ("cy", "sy"), ("c", "k"))
_STARTS: Final = {
    "ya": "Ja", "yo": "Jo", "yu": "Ju", "ia": "Ja", "io": "Jo", "iu": "Ju",
    "hs": "s", "mc": "mk",
    "oua": "va", "oue": "ve", "oui": "vi",
}  # fmt: skip
"""Initial y as a consonant, Wade-Giles hs, and w as French writes it."""
_ENDS: Final = {
    "dt": "t", "off": "ov", "eff": "ev", "vic": "viC", "cic": "ciC", "ics": "iC", "itsj": "iC", "cki": "Zki",
    "cka": "Zka", "ovs": "ov", "evs": "ev", "ijs": "i", "skis": "ski",
}  # fmt: skip
"""Ends of Slavic surnames without their marks, as older spellings and as Latvian has them."""
_LONG: Final = 5
"""Letters from which on a part may have one of these ends: Vic is a name."""
_SLAVIC_J: Final = re.compile(r"(?<=[bfgklmpstvz])j|(?<=[eio])j(?=[aeiou])|j(?![aeiouy])")
"""A j that is heard as a vowel."""
_DOUBLED: Final = re.compile(r"(.)\1+")
_SILENT_H: Final = re.compile(r"(?<=.)h(?![aeiouy])|(?<=[^aeiouy])h")
_VOWEL_W: Final = re.compile(r"(?<=[aeou])w(?=[bdfghklmnprtS]|s(?!k))")
_HEARD_W: Final = re.compile(r"(?<=[aeiouy])w(?=[aeiouy]|sk)")
_FIRST_VOWEL: Final = re.compile(r"[aeiouy]")
_NOT_LATIN: Final = re.compile(r"[^a-z0-9]+")
# French ends that are not heard, and the ending that other languages leave out of Latin names.
_MAYBE_UNHEARD: Final = frozenset("tdsx")
_UNHEARD: Final = re.compile(
    r"(?<=..)(?:(?<=[eo])ts?|(?<=[ao]n)[td]|(?<=au)l?[td]|(?<=[aeo]u)x|us)$"
    r"|(?<=....)(?:(?<=[aeo]r)[td]|(?<=our)[td]|(?<=[^aeious])s)$"
)
# Chinese and Korean write no r that ends a syllable, and no difference between nasals there.
_CODA_R: Final = re.compile(r"(?<=[aeiouy])r+(?![aeiouyr])|(?<=..)r$")
_NASAL: Final = re.compile(r"ng|(?<=[^m])m+(?![aeiouym])")

_NO_VOWELS: Final = dict.fromkeys(map(ord, _VOWELS))
_SKELETON: Final = str.maketrans("SCZJqw", "sczjkv")
_SOUND: Final = str.maketrans("SZzCJjqgbdvwr", "sssccckkptffl")
_VOWEL_CLASS: Final = str.maketrans("eoy", "iui")


@lru_cache(maxsize=_CACHE)
def skeleton(latin: str) -> str:
    """Return the consonants of a part, one symbol for all usual romanisations of a sound.

    A leading vowel is ``a``. A part of one consonant keeps the class of its first vowel, and one of vowels alone the
    classes of all.

    Args:
        latin: ``a-z``, lower case; digits stay, anything else is left out.
    """
    word = _sounds(latin)
    if "h" in word:
        word = _SILENT_H.sub("", word)
    return _consonants(word, _SKELETON)


@lru_cache(maxsize=_CACHE)
def sound(latin: str) -> str:
    """Return classes of sounds: for names that came through Chinese, Korean, Arabic or Hebrew letters.

    Voiced and unvoiced are one, so are ``l`` and ``r``, hissing sounds, and nasals but in front of a vowel. An ``h`` is
    kept in first place alone, an ``r`` not where a syllable ends. Vowels as in ``skeleton``.

    Args:
        latin: ``a-z``, lower case; digits stay, anything else is left out.
    """
    word = _sounds(latin)
    if word[-1:] in _MAYBE_UNHEARD:
        word = _UNHEARD.sub("", word)
    if "m" in word or "ng" in word:
        word = _NASAL.sub("n", word)
    if "r" in word:
        word = _CODA_R.sub("", word)
    if "h" in word:
        word = word[0] + word[1:].replace("h", "")
    return _consonants(word, _SOUND)


@lru_cache(maxsize=_CACHE)
def metaphones(latin: str) -> tuple[str, ...]:
    """Return the Double Metaphone codes of a part: the first, and the second where it differs.

    Args:
        latin: ``a-z``, lower case.
    """
    first, second = doublemetaphone(_respelled(latin))
    if not first:
        return (second or skeleton(latin),)
    return (first, second) if second and second != first else (first,)


@lru_cache(maxsize=_CACHE)
def _sounds(latin: str) -> str:
    """Rewrite a part to one symbol a sound; vowels stay, because rules look at them."""
    word = latin if latin.isalpha() and latin.isascii() else _NOT_LATIN.sub("", latin)
    if len(word) >= _LONG:
        for length in (4, 3, 2):
            end = _ENDS.get(word[-length:])
            if end is not None:
                word = word[:-length] + end
                break
    for length in (3, 2):
        start = _STARTS.get(word[:length])
        if start is not None:
            word = start + word[length:]
            break
    if "h" in word:
        word = _replaced(word, _WITH_H)
    if "z" in word:
        word = _replaced(word, _WITH_Z)
    if "ts" in word:
        word = word.replace("ts", "Z")
    if "c" in word:
        word = _replaced(word, _WITH_C)
    if "x" in word:
        word = word[0].replace("x", "s") + word[1:].replace("x", "ks")
    if "j" in word:
        word = word.replace("dj", "J")
        word = (word[0] + _SLAVIC_J.sub("i", word[1:])).replace("j", "J")
    if "w" in word:
        word = _VOWEL_W.sub("u", word)
    return word


def _replaced(word: str, replacements: _Replacements) -> str:
    for written, replacement in replacements:
        if written in word:
            word = word.replace(written, replacement)
    return word


def _consonants(word: str, classes: dict[int, int]) -> str:
    """Leave the vowels out, but for those that are needed to tell anything."""
    word = word.translate(classes)
    if any(map(eq, word, word[1:])):
        word = _DOUBLED.sub(r"\1", word)
    body = word.translate(_NO_VOWELS)
    if word and word[0] in _VOWELS:
        body = "a" + body
    if len(body) > 1:
        return body
    if body == "a":
        return _DOUBLED.sub(r"\1", "a" + word.translate(_VOWEL_CLASS))
    vowel = _FIRST_VOWEL.search(word)
    return body if vowel is None else body + vowel[0].translate(_VOWEL_CLASS)


def _respelled(latin: str) -> str:
    """Spell for Double Metaphone what it does not know: Slavic and German ``j``, ``w`` between vowels, ``tsch``."""
    if "j" in latin:
        latin = latin.replace("dj", "j")
        latin = latin[:1] + _SLAVIC_J.sub("i", latin[1:])
    if "h" in latin:
        latin = latin.replace("tsch", "ch").replace("dzh", "j")
    return _HEARD_W.sub("v", latin) if "w" in latin else latin
