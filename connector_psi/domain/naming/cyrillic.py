"""Cyrillic letters in Latin ones: Russian and its neighbours, South Slavic languages, names from abroad.

A record does not say which language a name is in, so a part is read in the ways that differ in consonants: as Russian
is romanised, as a name from abroad was spelled before it was written in Cyrillic, as the Latin alphabets of Slavic
languages have it, and with the ``h`` that Ukrainian, Belarusian and names from abroad have for ``г``.

Source: ICAO Doc 9303 part 3 section 6 table B; BGN/PCGN romanisations of Russian, Ukrainian, Belarusian and Bulgarian;
ISO 9:1995 and the Serbian Latin alphabet for the third reading; the systems of Polivanov (Japanese) and of Palladius
(Chinese), reversed.
"""

# ruff: noqa: RUF001, RUF002
# Letters of other alphabets, and tables of words, are what this module consists of.

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["cyrillic"]

_COMMON: Final = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ё": "e", "ж": "zh", "з": "z", "и": "i", "й": "y",
    "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u", "ф": "f",
    "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "yu",
    "я": "ya",
    "і": "i", "ї": "i", "є": "ie", "ґ": "g", "ў": "u", "'": "",
    "ђ": "dj", "ј": "j", "љ": "lj", "њ": "nj", "ћ": "c", "џ": "dzh", "ѓ": "gj", "ќ": "kj", "ѕ": "dz",
    "ә": "a", "ғ": "gh", "қ": "q", "ң": "ng", "ө": "o", "ұ": "u", "ү": "u", "һ": "h", "ҳ": "h", "ҷ": "j", "ӣ": "i",
    "ӯ": "u", "ѣ": "e", "ѳ": "f", "ѵ": "i", "ҡ": "q", "ҙ": "z", "ҫ": "s", "җ": "j", "ӑ": "a", "ӗ": "e", "ӳ": "u",
    "ӷ": "gh", "ӏ": "",
}  # fmt: skip
_RUSSIAN: Final = str.maketrans(_COMMON)
_ABROAD: Final = str.maketrans(_COMMON | {"х": "h", "щ": "sch", "ё": "yo", "є": "ye", "ї": "yi", "ў": "v"})
_LATIN_ALPHABETS: Final = str.maketrans(
    _COMMON
    | {"ж": "z", "й": "j", "х": "h", "ц": "c", "ч": "c", "ш": "s", "щ": "sc", "ю": "ju", "я": "ja", "ё": "jo"}
    | {"є": "je", "ї": "ji", "ь": "j"}
)
_SPIRANT: Final = str.maketrans(
    _COMMON | {"г": "h", "х": "ch", "ж": "j", "й": "i", "ю": "iu", "я": "ia", "ц": "z", "ў": "w"}
)

_SPIRANT_LENGTH: Final = 11
"""Longest word that is read with ``h`` for ``г``: longer ones are words of companies' names rather than names."""
# Ends a syllable: no sound of its own there.
_SOFT: Final = re.compile(r"ь(?![аеиоуыэюяёіїє])")
_JAPANESE: Final = re.compile(r"(?:(?:дз|[бгдзкмнпрстфхцвй])?[ьй]?[аеиоуыэюяё]|н|й|к(?=к)|с(?=с)|т(?=[тц])|п(?=п))+")
"""A word that Japanese syllables can make up, in Polivanov's system."""
_ONLY_JAPANESE: Final = re.compile(r"дз|ти|тё|тя|тю|те|си|сё|ся|сю|цу|[кгмнрхб]ё|оу")
_Replacements = Sequence[tuple[str, str]]
_POLIVANOV: Final[_Replacements] = (
    ("дзи", "ji"),
    ("дзё", "jo"),
    ("дзе", "jo"),
    ("дзя", "ja"),
    ("дзю", "ju"),
    ("дз", "z"),
    ("тти", "tchi"),
    ("ти", "chi"),
    ("тё", "cho"),
    ("тя", "cha"),
    ("тю", "chu"),
    ("си", "shi"),
    ("сё", "sho"),
    ("ся", "sha"),
    ("сю", "shu"),
    ("х", "h"),
)
_PALLADIUS: Final[_Replacements] = (("чж", "zh"), ("цз", "j"), ("нъ", "n"), ("хуэй", "hui"), ("юй", "yu"))
_PAIRS: Final[_Replacements] = (
    ("дж", "j"),
    ("кс", "x"),
    ("уэ", "we"),
    ("уи", "wi"),
    ("уо", "wo"),
    ("уа", "wa"),
)
_NOT_LATIN: Final = re.compile(r"[^a-z0-9]+")


def cyrillic(part: str) -> list[str]:
    """Return the readings of a part in Cyrillic letters, as Russian is romanised first."""
    found = [part.translate(_RUSSIAN)]
    chinese = "чж" in part or "цз" in part
    found.append(_replaced(_replaced(part, _PALLADIUS) if chinese else part, _PAIRS).translate(_ABROAD))
    if _ONLY_JAPANESE.search(part) and _JAPANESE.fullmatch(part):
        found.append(_replaced(part, _POLIVANOV).translate(_RUSSIAN))
    latin = _SOFT.sub("", part.replace("дж", "g").replace("кв", "qu")).translate(_LATIN_ALPHABETS)
    found.append(f"j{latin}" if part.startswith("е") else latin)
    if len(part) <= _SPIRANT_LENGTH:
        found.append(part.translate(_SPIRANT))
    return [_NOT_LATIN.sub("", reading) for reading in found]


def _replaced(text: str, replacements: _Replacements) -> str:
    for written, replacement in replacements:
        if written in text:
            text = text.replace(written, replacement)
    return text
