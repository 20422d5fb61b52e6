"""Name parts of any script in Latin letters.

Decides: which script a part is in, and its Latin readings, most likely first. Leaves to others: taking names apart
(``domain.naming.persons``, ``domain.naming.companies``), sounds (``domain.naming.phonetics``).

A part is without spaces, NFKC, casefolded; nothing here raises on what it holds. The same part always has the same
readings: keys are made of them on both sides.

Source: see the modules of the scripts; scripts without one are read by the package anyascii (ISC).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from typing import Final

from anyascii import anyascii

from connector_psi.domain.naming.cjk_names import split_han, split_hangul
from connector_psi.domain.naming.cyrillic import cyrillic
from connector_psi.domain.naming.han import han
from connector_psi.domain.naming.hangul import hangul
from connector_psi.domain.naming.kana import kana
from connector_psi.domain.naming.latin import greek, latin
from connector_psi.domain.naming.semitic import arabic, hebrew

__all__ = ["MAX_READINGS", "readings", "script_of", "split_cjk"]

MAX_READINGS: Final = 4

_RANGES: Final = (
    (0x0000, 0x02AF, "latin"),
    (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0590, 0x05FF, "hebrew"),
    (0x0600, 0x06FF, "arabic"),
    (0x0750, 0x077F, "arabic"),
    (0x08A0, 0x08FF, "arabic"),
    (0x1E00, 0x1EFF, "latin"),
    (0x1F00, 0x1FFF, "greek"),
    (0x3005, 0x3007, "han"),
    (0x3041, 0x30FF, "kana"),
    (0x3400, 0x9FFF, "han"),
    (0xAC00, 0xD7A3, "hangul"),
    (0xF900, 0xFAFF, "han"),
    (0x20000, 0x3FFFF, "han"),
)
_NOT_LATIN: Final = re.compile(r"[^a-z0-9]+")


def _other(part: str) -> list[str]:
    return [_plain("".join(char for char in part if char.isalnum() or unicodedata.category(char)[0] == "M"))]


def _digits(part: str) -> list[str]:
    return ["".join(str(unicodedata.decimal(digit)) for digit in part if digit.isdecimal())]


def _plain(text: str) -> str:
    return _NOT_LATIN.sub("", anyascii(text).lower())


_READERS: Final[dict[str, Callable[[str], list[str]]]] = {
    "latin": latin,
    "greek": greek,
    "cyrillic": cyrillic,
    "hebrew": hebrew,
    "arabic": arabic,
    "kana": kana,
    "han": han,
    "hangul": hangul,
    "digits": _digits,
    "other": _other,
}


def _script(char: str) -> str:
    code = ord(char)
    if not (char.isalpha() or code > 0x2FF):
        return ""
    for first, last, name in _RANGES:
        if first <= code <= last:
            return name
    return "other"


def script_of(part: str) -> str:
    """Return the script of the first letter: ``latin``, ``cyrillic``, ``arabic``, ``hebrew``, ``han``, ``hangul``,
    ``kana``, ``greek`` or ``other``, which is said of a part without letters too.
    """
    if part.isascii():
        return "latin" if part and not part.isdigit() else "other"
    return next((script for char in part if (script := _script(char))), "other")


@lru_cache(maxsize=1 << 16)
def readings(part: str) -> tuple[str, ...]:
    """Return one to four Latin readings of a part, most likely first, distinct.

    Args:
        part: In any script; without spaces, NFKC, casefolded.

    Returns:
        Of ``a-z`` and digits; a single empty one where nothing can be read.

    Cost: below a microsecond for ASCII, 10 to 20 for other scripts; the first Chinese character loads the tables of
    pypinyin, which takes a sixth of a second.
    """
    if part.isascii():
        return (part,) if part.isalnum() else (_NOT_LATIN.sub("", part),)
    runs = [_READERS[script](run) for script, run in _runs(part)]
    # Where scripts are mixed, the readings of like rank belong together.
    found = ("".join(run[min(rank, len(run) - 1)] for run in runs) for rank in range(max(map(len, runs))))
    latin_only = (reading if reading.isascii() else _plain(reading) for reading in found)
    return tuple(dict.fromkeys(reading for reading in latin_only if reading))[:MAX_READINGS] or ("",)


def _runs(part: str) -> list[tuple[str, str]]:
    """Split where the script changes; marks stay with what is before them."""
    script = script_of(part)
    marked = []
    for char in part:
        script = "digits" if char.isdecimal() else _script(char) or script
        marked.append((script, char))
    return [(name, "".join(char for _, char in run)) for name, run in groupby(marked, key=lambda pair: pair[0])]


@lru_cache(maxsize=1 << 14)
def split_cjk(name: str) -> tuple[str, str] | None:
    """Return surname and given name of an unspaced Chinese or Korean name.

    Args:
        name: Han characters or Hangul syllables alone, as NFKC has them.

    Returns:
        Both parts in their script, a compound surname as one; None where the name is of another script, has another
        length than such a name, begins with no surname that is known, or looks like a name from abroad.
    """
    scripts = set(map(_script, name))
    if scripts == {"han"}:
        return split_han(name)
    if scripts == {"hangul"}:
        return split_hangul(name)
    return None
