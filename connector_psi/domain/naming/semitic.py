"""Arabic and Hebrew letters to Latin: scripts that leave out short vowels, and write some consonants as vowels.

A reading is a guess of one spelling: letters that are consonants or vowels are decided by their place, and an ``a``
stands wherever two consonants meet that need not. What the codes of ``domain.naming.phonetics`` compare does not depend
on which vowel it is, only on whether there is one.

Source: BGN/PCGN Arabic (1956) and Persian (1958), ALA-LC Arabic, Persian and Urdu; ISO 259-3 and the rules of the
Academy of the Hebrew Language (2006); customary Latin spellings of foreign names by own observation of the alphabets.
"""

# ruff: noqa: RUF001, SIM905
# Letters of other alphabets, and tables of words, are what this module consists of.

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["arabic", "hebrew"]

_MARKS: Final = re.compile("[\u064b-\u065f\u0670\u0640\u06d6-\u06ed\u0591-\u05c7\u200b-\u200f\u061c]")
_VOWELS: Final = "aeiou"

# --- Arabic

_ARABIC: Final = {
    **dict(zip("بتثجحخدذرزسشصضطظغفقكلمنه", (
        "b t th j h kh d dh r z s sh s d t z gh f q k l m n h"
    ).split(), strict=True)),
    **dict(zip("پچژڤگکڭھہۀۃڈٹڑںڨݣڥ", "p ch zh v g k g h h a a d t r n g g p".split(), strict=True)),
    "آ": "a", "أ": "a", "إ": "i", "ا": "a", "ٱ": "a", "ى": "a", "ة": "a", "ء": "", "ئ": "", "ؤ": "u", "ع": "",
    "ۇ": "u", "ې": "e", "ے": "e", "ە": "a", "ۆ": "o", "ێ": "e", "ﻻ": "la",
}  # fmt: skip
_TWO_ARABIC: Final = {"تش": "ch", "دج": "j", "تس": "ts", "كس": "x", "ڭ": "ng"}
# As names from abroad use the letters.
_ARABIC_FOREIGN: Final = {**_ARABIC, "ج": "g", "غ": "g", "ث": "s", "ذ": "z", "ض": "z", "ق": "g", "ف": "v", "ح": "h"}
_ARABIC_OTHER: Final = {**_ARABIC, "ب": "p", "خ": "ch", "ظ": "d", "ج": "dj", "ه": "", "ح": "ch", "ي": "j"}
_ARTICLE: Final = re.compile("(?:ال|أل)(?=...)")


def arabic(word: str) -> list[str]:
    """Return Latin spellings of a word in Arabic letters, the usual one first; not all need be distinct."""
    word = _MARKS.sub("", word)
    bare = _ARTICLE.sub("", word)
    found = [
        _spelled(word, _ARABIC, _TWO_ARABIC, "و", "يی"),
        _spelled(bare, _ARABIC_FOREIGN, _TWO_ARABIC, "و", "يی"),
        _spelled(bare, _ARABIC_OTHER, {}, "و", "", insert=False),
    ]
    if bare != word:
        found.insert(1, _spelled(bare, _ARABIC, _TWO_ARABIC, "و", "يی"))
    else:
        found.append(_spelled(word, _ARABIC, _TWO_ARABIC, "", "يی", insert=False))
    return found


# --- Hebrew

_HEBREW: Final = dict(
    zip(
        "אבגדהוזחטיךכלםמןנסעףפץצקרשת",
        "a v g d h v z h t y kh k l m m n n s a f f ts ts k r sh t".split(),
        strict=True,
    )
)
_HEBREW_HARD: Final = {**_HEBREW, "ב": "b", "פ": "p", "ש": "s", "ח": "ch"}
_HEBREW_MIXED: Final = {**_HEBREW, "ב": "b", "פ": "f", "כ": "kh", "ח": "kh", "צ": "z", "ץ": "z", "ת": "th"}
_HEBREW_SOFT: Final = {**_HEBREW, "ב": "v", "פ": "p", "ש": "s", "ג": "j"}
_GERESH: Final = re.compile("['\u05f3\u2018\u2019`\u00b4\u2032]")
_WITH_GERESH: Final = {"ג'": "j", "צ'": "ch", "ץ'": "ch", "ז'": "zh", "ת'": "th", "ד'": "dh", "ח'": "kh", "ר'": "gh",
                       "ט'": "th", "ו'": "w", "ע'": "gh"}  # fmt: skip
_FIRST_HARD: Final = {"ב": "b", "פ": "p", "כ": "k"}


def hebrew(word: str) -> list[str]:
    """Return Latin spellings of a word in Hebrew letters, the usual one first; not all need be distinct."""
    word = _GERESH.sub("'", _MARKS.sub("", word))
    return [
        _spelled(word, _HEBREW, _WITH_GERESH, "ו", "י", first=_FIRST_HARD, end="ה"),
        _spelled(word, _HEBREW_HARD, _WITH_GERESH, "ו", "י", end="ה"),
        _spelled(word, _HEBREW_MIXED, _WITH_GERESH, "ו", "י", end="ה", insert=False),
        _spelled(word, _HEBREW_SOFT, _WITH_GERESH, "", "י", end="ה", insert=False),
    ]


def _spelled(
    word: str,
    table: Mapping[str, str],
    pairs: Mapping[str, str],
    waw: str,
    yod: str,
    *,
    first: Mapping[str, str] | None = None,
    end: str = "",
    insert: bool = True,
) -> str:
    """Spell a word letter by letter.

    Args:
        word: Letters without marks.
        table: Letter to Latin.
        pairs: Two letters to Latin, looked up before single ones.
        waw: Letters that are ``w`` or ``v`` first and beside vowels, else ``u``; none: always as the table has them.
        yod: Letters that are ``y`` first and beside vowels, else ``i``.
        first: Letters that sound otherwise in first place.
        end: Letters that are ``a`` in last place.
        insert: Whether a vowel is put between consonants.
    """
    out: list[str] = []
    at, last = 0, len(word) - 1
    while at <= last:
        letter = word[at]
        latin = pairs.get(word[at : at + 2])
        if latin is not None:
            at += 2
        else:
            at += 1
            if letter in waw:
                latin = "v" if table.get("ו") else "w"
                if at <= last and word[at] == letter:
                    at += 1
                elif at > 1 and not (out and out[-1][-1:] in _VOWELS and at <= last and word[at] in "اהא"):
                    latin = "u"
            elif letter in yod:
                latin = "y" if at == 1 or (at <= last and word[at] in "اوאו") else "i"
            elif at == 1 and letter in "عע":
                latin = "a"
            elif at > 1 and letter in "עא":
                latin = "a" if letter == "א" else ""
            elif at > last and letter in end and at > 1:
                latin = "a"
            elif at == 1 and first and letter in first:
                latin = first[letter]
            else:
                latin = table.get(letter, "w" if letter == "و" else "y" if letter in "يی" else letter)
        if not latin:
            continue
        if insert and out and latin[0] not in _VOWELS and out[-1][-1] not in _VOWELS:
            out.append("a")
        out.append(latin)
    return "".join(out)
