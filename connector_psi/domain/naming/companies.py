"""Names of companies and other organisations: how one is read, and the keys it is found by.

A name is read into what it consists of: distinctive words (``Zvezda``), trade words and institutions, each as a concept
that is the same in every language (``zavod`` and ``plant`` are ``=plant``), places (``@moscow``), numbers, short words,
and the legal form, which is only kept to explain. Its keys are combinations of these: the whole name, its distinctive
words, each pair of them, each distinctive word with a trade word. A key of one word alone exists only where the
distinctive words of a name are a single one that is long enough to be looked for.

Decides: what a company's name consists of, and its keys. Leaves to others: letters of other scripts to Latin ones
(``domain.naming.transliteration``), what equal keys are worth (``domain.naming.judging``), names of persons.

The tables of words are part of the rules of canonical names: a changed entry changes tokens, and with them the version
of the rules.

Nothing here raises on what a name holds; a name without anything to compare has no keys. Caches hold single words, and
are bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Final, NamedTuple

from connector_psi.domain.naming.generic_words import (
    HAN_WORDS,
    NATIVE_WORDS,
    STOP_WORDS,
    concepts_of_word,
    phrase_at,
)
from connector_psi.domain.naming.keys import NameKey
from connector_psi.domain.naming.legal_forms import UNAMBIGUOUS_FORMS, legal_form_at
from connector_psi.domain.naming.transliteration import readings
from connector_psi.domain.naming.wordfold import fold, skeleton, spelling
from connector_psi.domain.naming.written import WORD

__all__ = ["COMPANY_FAMILIES", "MAX_COMPANY_TOKENS", "CompanyName", "canonical", "company_tokens", "has_legal_form"]

MAX_COMPANY_TOKENS: Final = 16
"""No name has more keys; what says most comes first, so a long name loses pairs."""

NAME: Final = "company-name"
"""All a name consists of, distinctive words as spelled: the same name, but for legal form, order and letters."""
CORE: Final = "company-core"
"""The distinctive words as spelled, of a name that has more than these."""
CONCEPTS: Final = "company-concepts"
"""All a name without a distinctive word consists of: the name of an institution, in whatever language."""
WORDS: Final = "company-words"
"""Two and more distinctive words, by their consonants, of all there are."""
JOINED: Final = "company-joined"
"""The consonants of a name run together: words written as one."""
PAIR: Final = "company-pair"
"""Two distinctive words out of two and more."""
MIXED: Final = "company-mixed"
"""A distinctive word with a trade word, a place or a number."""

COMPANY_FAMILIES: Final = (NAME, CORE, CONCEPTS, WORDS, JOINED, PAIR, MIXED)
"""All families of ``company_tokens``."""

_SINGLE: Final = 5
"""A word alone is a key from so many letters on: shorter ones are somebody's abbreviation."""
_PAIRED: Final = 4
_MIXED_WORDS: Final = 3
_MIXED_CONCEPTS: Final = 3
_MIXED_OTHERS: Final = 2
_JOINED: Final = 6

_QUOTES: Final = str.maketrans("", "", "'`\u00b4\u02b9\u02bb\u02bc\u02be\u02bf\u05f3\u05f4\u2018\u2019\u2032")
"""Apostrophes, and what stands for hamza, ain, the soft sign and geresh: none separates words."""
_DOTTED: Final = re.compile(r"\b(?:[^\W\d_]\.){2,}(?:[^\W\d_]\b)?")
_HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_HAN_SPLIT: Final = re.compile("|".join(sorted(map(re.escape, HAN_WORDS), key=lambda word: (-len(word), word))))
_NOT_LATIN: Final = re.compile(r"[^a-z0-9]+")
_ARTICLE: Final = re.compile(r"al(?=[^aeiou]...)")
_BETWEEN: Final = frozenset({"and", "y", "und"})
"""Left out after a single letter: ``J & M`` and ``J and M`` are one word."""
_ROMAN: Final = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}
_EDGE_FORM: Final = 2
"""Legal forms of one word and at most so many letters count at the ends of a name only: elsewhere they are a word."""

_LAST_FORMS: Final = frozenset(
    map(fold, ("sa", "as", "ag", "nv", "bv", "ab", "oy", "kg", "sas", "sal", "lp", "co", "cv", "sl"))
)
_FIRST_FORMS: Final = frozenset(map(fold, ("pt", "ao", "ab", "oy", "cv")))


class CompanyName(NamedTuple):
    """How a name was read.

    Attributes:
        distinctive: Words that belong to this company more than to others, Latin letters, as they stand in the name.
        concepts: Trade words and institutions, as ``=plant``.
        places: Places, as ``@moscow``.
        numbers: Numbers in digits, as ``#560``; Roman ones are read too.
        short: Words of one or two letters, as ``~m``.
        legal_forms: Kinds of legal forms found: ``limited``, ``stock``, ``state``, ``partnership``, ``sole``,
            ``association``.
        joined: All words but legal forms and articles, run together.
    """

    distinctive: tuple[str, ...]
    concepts: tuple[str, ...]
    places: tuple[str, ...]
    numbers: tuple[str, ...]
    short: tuple[str, ...]
    legal_forms: tuple[str, ...]
    joined: str


def canonical(name: str) -> CompanyName:
    """Read a company's name, in whatever script.

    Args:
        name: The name as written, with or without legal form.

    Returns:
        What it consists of; every part is empty where nothing was found.
    """
    words = _words(name)
    folded = [fold(word) for word in words]
    distinctive: list[str] = []
    found: list[str] = []
    short: list[str] = []
    forms: list[str] = []
    kept: list[str] = []
    at, last = 0, len(words) - 1
    while at <= last:
        length, kind = legal_form_at(folded, at)
        if length and (length > 1 or len(words[at]) > _EDGE_FORM or at in {0, last}):
            forms.append(kind)
            at += length
            continue
        length, concepts = phrase_at(folded, at)
        if length:
            found += concepts
            kept += words[at : at + length]
            at += length
            continue
        word, key = words[at], folded[at]
        at += 1
        if key in STOP_WORDS:
            continue
        kept.append(word)
        number = _number(word)
        if concepts := concepts_of_word(key):
            found += concepts
        elif number:
            found.append(number)
        elif len(word) <= 2:
            short.append(word)
        else:
            distinctive.append(_ARTICLE.sub("", word, count=1) if _ARTICLE.match(word) else word)
    if not distinctive and max(map(len, short), default=0) > 1:
        distinctive, short = ["".join(short)], []
    return CompanyName(
        distinctive=_distinct(distinctive),
        concepts=_distinct(key for key in found if key[0] == "="),
        places=_distinct(key for key in found if key[0] == "@"),
        numbers=_distinct(key for key in found if key[0] == "#"),
        short=_distinct(f"~{word}" for word in short),
        legal_forms=_distinct(forms),
        joined="".join(kept),
    )


def company_tokens(name: str) -> tuple[NameKey, ...]:
    """Return the keys of a company's name, distinct, most telling first, at most ``MAX_COMPANY_TOKENS``.

    The word keys inside: consonants of a distinctive word (the word itself if these are fewer than three), concepts,
    places, numbers and short words with their mark.
    """
    return tuple(dict.fromkeys(_keys(canonical(name))))[:MAX_COMPANY_TOKENS]


def has_legal_form(name: str) -> bool:
    """Tell whether a name carries a legal form or a word for company that no person's name has.

    Cheap, for guessing what a party is whose type is not given. Abbreviations of two letters count at the ends only.
    """
    words = [fold(word) for word in _words(name)]
    if not UNAMBIGUOUS_FORMS.isdisjoint(words):
        return True
    return len(words) > 1 and (words[-1] in _LAST_FORMS or words[0] in _FIRST_FORMS)


def _keys(name: CompanyName) -> Iterator[NameKey]:
    spelled = _distinct(spelling(word) for word in name.distinctive)
    core = _distinct(_word_key(word) for word in spelled)
    others = (*name.concepts, *name.places, *name.numbers, *name.short)
    every = _in_order((*core, *others))
    core_keys = _in_order((*core, *name.numbers))
    if core and (len(every) > 1 or len(spelled[0]) >= _SINGLE):
        yield NameKey(NAME, " ".join(_in_order((*spelled, *others))), every)
    if core and len(others) > len(name.numbers) and (len(core_keys) > 1 or len(spelled[0]) >= _SINGLE):
        yield NameKey(CORE, " ".join(_in_order((*spelled, *name.numbers))), core_keys)
    if not core and len(every) > 1:
        yield _of_words(CONCEPTS, every)
    if len(core_keys) > 1:
        yield _of_words(WORDS, core_keys)
    joined = skeleton(spelling(name.joined))
    if (core or len(every) > 1) and len(joined) >= _JOINED:
        yield NameKey(JOINED, joined, ())
    for two in combinations(core[:_PAIRED], 2):
        yield _of_words(PAIR, _in_order(two))
    with_words = (
        *name.concepts[:_MIXED_CONCEPTS],
        *name.places[:_MIXED_OTHERS],
        *name.numbers[:_MIXED_OTHERS],
    )[:5]
    for word in core[:_MIXED_WORDS]:
        for other in with_words:
            yield _of_words(MIXED, (word, other))


def _of_words(family: str, keys: tuple[str, ...]) -> NameKey:
    return NameKey(family, " ".join(keys), keys)


@lru_cache(maxsize=65536)
def _word_key(spelled: str) -> str:
    """Return the consonants of a spelled word if they tell it from others, else the word."""
    consonants = skeleton(spelled)
    return consonants if len(consonants) > 2 else spelled


def _words(name: str) -> list[str]:
    """Split a name into Latin words; letters with dots, and letters in a row, are one word."""
    text = unicodedata.normalize("NFKC", name).casefold().translate(_QUOTES)
    text = _DOTTED.sub(lambda found: f" {found.group().replace('.', '')} ", text)
    words: list[str] = []
    letters = ""
    for written in WORD.findall(text):
        for word in _latin(written):
            if letters and word in _BETWEEN:
                continue
            if len(word) == 1 and word.isalpha():
                letters += word
                continue
            if letters:
                words.append(letters)
                letters = ""
            words.append(word)
    if letters:
        words.append(letters)
    return words


@lru_cache(maxsize=65536)
def _latin(written: str) -> tuple[str, ...]:
    """Return the Latin words of a casefolded word: one in most cases, none if it has no reading."""
    if written.isascii():
        return (written,)
    if written.isdecimal():
        return ("".join(str(unicodedata.decimal(digit)) for digit in written),)
    known = NATIVE_WORDS.get(written)
    if known is not None:
        return tuple(known.split())
    if _HAN.search(written):
        return tuple(_han_words(written))
    return _read(written)


def _read(written: str) -> tuple[str, ...]:
    """Return the first reading that the tables know, else the first."""
    latin = [word for reading in readings(written) if (word := _NOT_LATIN.sub("", reading.casefold()))]
    for word in latin:
        if concepts_of_word(fold(word)):
            return (word,)
    return tuple(latin[:1])


def _han_words(written: str) -> Iterator[str]:
    start = 0
    for found in _HAN_SPLIT.finditer(written):
        yield from _read(written[start : found.start()]) if found.start() > start else ()
        yield from HAN_WORDS[found.group()].split()
        start = found.end()
    if start < len(written):
        yield from _read(written[start:])


def _number(word: str) -> str:
    """Return the number that a word is, marked, without leading zeros; "" if none."""
    if word.isdigit():
        return f"#{word.lstrip('0') or '0'}"
    return f"#{_ROMAN[word]}" if word in _ROMAN else ""


def _distinct(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _in_order(items: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(items)))
