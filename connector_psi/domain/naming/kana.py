"""Japanese syllables in Latin letters.

Source: modified Hepburn romanisation (ALA-LC, ICAO Doc 9303 part 3 section 6), long vowels not marked.
"""

# ruff: noqa: RUF001
# Letters of other alphabets, and tables of words, are what this module consists of.

from __future__ import annotations

from typing import Final

__all__ = ["kana"]

_ROWS: Final = """
アaイiウuエeオoァaィiゥuェeォo
カkaキkiクkuケkeコkoガgaギgiグguゲgeゴgo
サsaシshiスsuセseソsoザzaジjiズzuゼzeゾzo
タtaチchiツtsuテteトtoダdaヂjiヅzuデdeドdo
ナnaニniヌnuネneノno
ハhaヒhiフfuヘheホhoバbaビbiブbuベbeボboパpaピpiプpuペpeポpo
マmaミmiムmuメmeモmo
ヤyaユyuヨyoャyaュyuョyo
ラraリriルruレreロro
ワwaヰiヱeヲoンnヴvuヮwa
"""


def _table(rows: str) -> dict[str, str]:
    found: dict[str, str] = {}
    char = ""
    for letter in "".join(rows.split()):
        if letter.isascii():
            found[char] += letter
        else:
            char = letter
            found[char] = ""
    return found


_KANA: Final = _table(_ROWS)
_SMALL: Final = frozenset("ャュョァィゥェォヮ")
_HIRAGANA: Final = {code: code + 0x60 for code in range(0x3041, 0x3097)}


def kana(part: str) -> list[str]:
    """Return the reading of a part in Hiragana or Katakana; anything else in it is left out."""
    out: list[str] = []
    doubled = False
    for char in part.translate(_HIRAGANA):
        if char == "ッ":
            doubled = True
            continue
        syllable = _KANA.get(char, "")
        if char in _SMALL and out and len(out[-1]) > 1:
            before = out.pop()[:-1]
            glide = syllable if before in {"sh", "ch", "j"} or not syllable.startswith("y") else "+" + syllable
            syllable = before + (glide.removeprefix("y") if before in {"sh", "ch", "j"} else glide.replace("+", ""))
        elif doubled and syllable:
            syllable = ("t" if syllable.startswith("ch") else syllable[0]) + syllable
        doubled = False
        if syllable:
            out.append(syllable)
    return ["".join(out)]
