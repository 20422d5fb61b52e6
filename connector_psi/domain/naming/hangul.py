"""Hangul in Latin letters: Korean names, and foreign names as Korean writes them.

Source: Revised Romanisation of Korean (2000) and McCune-Reischauer for Korean names; own table of the usual spellings
of surnames; the Korean loanword orthography (Ministry of Education notice 85-11 of 1986) read backwards for others.
"""

# ruff: noqa: SIM905
# Letters of other alphabets, and tables of words, are what this module consists of.

from __future__ import annotations

from typing import Final

__all__ = ["HANGUL_SURNAMES", "hangul"]

_FIRST: Final = "g kk n d tt r m b pp s ss  j jj ch k t p h".split(" ")
_VOWEL: Final = "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i".split()
_LAST: Final = " k k k n n n t l k m l l l p l m p p t t ng t t k t p t".split(" ")
_SURNAMES: Final = """
김 kim gim
이 lee yi i rhee
박 park pak bak
최 choi choe
정 jung jeong chung
강 kang gang
조 cho jo
윤 yoon yun
장 jang chang
임 lim im yim
한 han
오 oh o
서 seo suh
신 shin sin
권 kwon gwon
황 hwang
안 ahn an
송 song
류 ryu yoo
유 yoo yu ryu
홍 hong
전 jeon chun jun
고 ko go koh
문 moon mun
양 yang
손 son sohn
배 bae pae
백 baek paik back
허 heo hur huh
남 nam
심 shim sim
노 noh roh no
하 ha
곽 kwak gwak
성 sung seong
차 cha
주 joo ju chu
우 woo wu u
구 koo gu ku
나 na ra
민 min
진 jin chin
지 ji chi
엄 eom um
원 won
천 cheon chun
방 bang pang
공 kong gong
현 hyun hyeon
함 ham
변 byun byeon
염 yeom yum
여 yeo yuh
추 choo chu
도 do
소 so
석 seok suk
선 sun seon
설 seol sul
마 ma
길 gil kil
연 yeon yun
위 wi wee
표 pyo
명 myung myeong
기 ki gi
반 ban pan
왕 wang
금 keum geum
옥 ok
육 yook yuk
인 in
맹 maeng
제 je jae
모 mo
탁 tak
국 kook guk
어 eo uh
은 eun
편 pyeon pyun
용 yong
남궁 namgung namkoong
황보 hwangbo
제갈 jegal chegal
선우 sunwoo seonu
독고 dokgo tokko
사공 sagong
서문 seomun
동방 dongbang
"""
_SPELLINGS: Final = {line.split()[0]: line.split()[1:] for line in _SURNAMES.strip().splitlines()}
HANGUL_SURNAMES: Final = frozenset(_SPELLINGS)
"""Surnames, those of two syllables included."""

_SBASE: Final = 0xAC00


def hangul(part: str) -> list[str]:
    """Return the readings of a part in Hangul syllables; anything else in it is left out."""
    syllables = [_taken_apart(char) for char in part if 0xAC00 <= ord(char) <= 0xD7A3]
    revised = _revised(syllables)
    known = _SPELLINGS.get(part)
    if known:
        return [*known, revised]
    return [revised, _abroad(syllables, stops=False), _abroad(syllables, stops=True)]


def _taken_apart(char: str) -> tuple[int, int, int]:
    number = ord(char) - _SBASE
    return number // 588, number % 588 // 28, number % 28


def _revised(syllables: list[tuple[int, int, int]]) -> str:
    out = []
    for at, (first, vowel, last) in enumerate(syllables):
        onset = _FIRST[first]
        if at and first == 5 and syllables[at - 1][2] == 8:
            onset = "l"
        following = syllables[at + 1][0] if at + 1 < len(syllables) else None
        out.append(onset + _VOWEL[vowel] + _coda(last, following))
    return "".join(out)


_CARRIED: Final = dict(enumerate(" g kk gs n nj n d r lg lm lb ls lt lp r m b bs s ss ng j ch k t p h".split(" ")))


def _coda(last: int, following: int | None) -> str:
    """A final consonant is carried over to a syllable that begins with a vowel."""
    return _CARRIED[last] if following == 11 else _LAST[last]


_FOREIGN_FIRST: Final = "g k n d t r m b p s s  j j ch k t p h".split(" ")
_FOREIGN_LAST: Final = {1: "k", 4: "n", 7: "t", 8: "l", 16: "m", 17: "p", 19: "t", 20: "t", 21: "ng"}
_EU: Final = 18
_VOICED: Final = {"b": "v", "p": "f", "j": "z"}


def _abroad(syllables: list[tuple[int, int, int]], *, stops: bool) -> str:
    """Read a foreign name: without the vowel that Korean puts after a consonant it cannot end in."""
    out = []
    for first, vowel, last in syllables:
        onset = _FOREIGN_FIRST[first]
        if not stops:
            onset = _VOICED.get(onset, onset)
        nucleus = "" if vowel == _EU and onset else _VOWEL[vowel]
        if onset == "s" and nucleus[:1] in {"i", "y", "w"}:
            onset = "sh"
        out.append(onset + nucleus + _FOREIGN_LAST.get(last, _LAST[last]))
    word = "".join(out).replace("lr", "l")
    # What Korean ends in "seu" for may be th.
    return f"{word[:-1]}th" if stops and word.endswith("s") else word
