"""Names of persons: from what a source wrote to parts, and from parts to keys.

Decides, for one name: which words are parts and which are titles, particles or initials; what belongs together
(``Abd al-Rahman``, ``Taj al-Din``); the one form of forenames and patronymics that three Slavic languages write
differently; which part is a surname, where the writing shows it; and which keys follow, at most ``MAX_KEYS`` a name.
Keys are of unordered pairs of parts, of all parts as a set, and of a part with a date of birth; never of one part
alone. The owner adds, for a longer name, the pairs and triples of parts as sets, so that a declared name of two parts
is known to be *all* that was declared.
Leaves to others: letters (``domain.naming.transliteration``), sounds (``domain.naming.phonetics``), companies, places.

Source of particles and titles: ICAO Doc 9303 part 3 section 4 (names), United Nations guides to naming practices; own
lists.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import combinations, islice
from typing import Final, NamedTuple

from connector_psi.domain.naming import slavic
from connector_psi.domain.naming.families import NameFamily
from connector_psi.domain.naming.keys import NameKey, Shape
from connector_psi.domain.naming.phonetics import metaphones, skeleton, sound
from connector_psi.domain.naming.transliteration import readings, split_cjk
from connector_psi.domain.naming.written import WORD

MAX_KEYS: Final = 16
"""Keys of one name, those with a date of birth included, those with a place not."""
MAX_BIRTH_KEYS: Final = 5
"""Keys of one name with one date of birth."""
MAX_PARTS: Final = 8
_MAX_LETTERS: Final = 40
_MAX_PAIRS: Final = 6
_MAX_COARSE: Final = 1
_MAX_TRIPLES: Final = 4
_MAX_SUBSETS: Final = 3
_PREFIX: Final = 3


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES: Final = _listed("""
    mr mrs ms miss mx dr doctor prof professor eng engr engineer ing dipl sir lord lady dame
    haji hajji hajj alhaj alhajj alhaji haj hadji sheikh shaikh shaykh cheikh sheik sheykh mullah mulla maulavi
    maulawi
    mawlawi molvi maulana mawlana qari hafiz hafez sayyid sayed seyed seyyed syed said imam ayatollah hojjatoleslam
    hojatoleslam
    general gen colonel col major maj captain capt lieutenant lt brigadier brig admiral commander comandante sgt
    sergeant
    president minister senator rev reverend father bishop fra sr jr senior junior
    herr frau fraulein signor signora senor senora don dona monsieur madame mme mlle
    """)
_PARTICLES: Final = _listed("""
    al el ul as ad ash at an az ar bin ibn ben bint bt bte binti ould wuld
    de del della dela di da do dos das du des la le les lo van von der den ter ten zu zum zur af av
    y e i of the und and et ap
    ogly oglu ogli kyzy kizi
    """)
_SERVANT: Final = _listed("abd abdul abdel abdal abdol abdoul abdur abdus abdu abed abdl abdour abdoull")
_SERVANT_ATTACHED: Final = re.compile(r"abd(?:oull|oul|our|ul|el|al|ol|ur|us|er|es|ar|as|)(?=[a-z]{3})")
_ARTICLES: Final = _listed("al el ul ur ar as us ol an ad ush ash")
_FAITH: Final = _listed("din dine deen eddine eddin uddin eddeen uddeen aldin eldin eldine addin")
_FAITH_ATTACHED: Final = re.compile(r"(?P<first>.{3,}?)(?:ed|ud|ad|id|el|al|ul|e|u|i|a)?d(?:ine|in|een|yn)$")
_FAITH_ENDINGS: Final = tuple(
    sorted(
        _listed("eddine eddin uddin addin ideen edeen udeen adeen aldin eldin eddeen uddeen iddin eldine iddine uldin")
    )
)
_MUHAMMAD: Final = re.compile(r"m[uoae](?:h|kh)[ae]?mm*[eaiu]?(?:d|t|dd|tt|th)$")
_MUHAMMAD_SHORT: Final = _listed("mohd md mhd mohmd")
_BRACKETS: Final = re.compile(r"\([^)]*\)|\[[^\]]*\]|[\"“”«»„]")
_GERESH: Final = re.compile(r"(?<=[\u05d0-\u05ea])['\u2019]")
# Marks inside a word: apostrophes, modifier letters for hamza and ayn, the dot of abbreviations is left to the word.
_INSIDE: Final = re.compile(r"[\u02b0-\u02ff\u2018\u2019\u201b\u2032'`\u00b4\u200b-\u200f\u0640]")


class Role(StrEnum):
    """What the writing says of a part: in front of a comma or in capitals among small letters stands a surname."""

    SURNAME = "surname"
    FORENAME = "forename"
    UNKNOWN = "unknown"


class Part(NamedTuple):
    """One part of a name, in the form that keys are made of."""

    text: str
    """Latin, lower case."""
    role: Role
    others: tuple[str, ...] = ()
    """Other Latin readings of the same letters."""


class PersonName(NamedTuple):
    """A name as it was understood."""

    parts: tuple[Part, ...]
    """In the order of the source, each once."""
    dropped: tuple[str, ...]
    """Titles, particles and initials, in Latin letters."""


class _Word(NamedTuple):
    texts: tuple[str, ...]
    role: Role


@lru_cache(maxsize=1 << 15)
def canonical(name: str) -> PersonName:
    """Take a name apart.

    Args:
        name: As the source wrote it, in any script; ``surname, forenames`` where the source keeps them apart.

    Returns:
        The parts; none where no word of the name is one.

    Cost: 30 microseconds for a Latin name that was not seen lately.
    """
    parts: dict[str, Part] = {}
    dropped: list[str] = []
    for word in _joined(_words(name), dropped):
        text = word.texts[0]
        if text not in parts:
            parts[text] = Part(text, word.role, word.texts[1:])
    found = list(parts.values())[:MAX_PARTS]
    if any(slavic.is_patronymic(part.text) for part in found):
        found = [part if slavic.is_patronymic(part.text) else _russian(part) for part in found]
    return PersonName(tuple({part.text: part for part in found}.values()), tuple(dropped))


def _russian(part: Part) -> Part:
    return part._replace(text=slavic.surname(part.text), others=tuple(map(slavic.surname, part.others)))


def _words(name: str) -> list[_Word]:
    """The words of a name with what the writing says of each."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
    name = _BRACKETS.sub(" ", name)
    if not name.isascii():
        # A mark that makes another letter of a Hebrew one, as people type it.
        name = _GERESH.sub("\u05f3", name)
    name = _INSIDE.sub("", name)
    before, comma, after = name.partition(",")
    if comma and "," not in after and after.strip():
        return [
            _Word(readings(word.lower()), role)
            for role, side in ((Role.SURNAME, before), (Role.FORENAME, after))
            for word in WORD.findall(side)
        ]
    words = [word for word in WORD.findall(name) if not word.isdigit()]
    if len(words) == 1 and (halves := split_cjk(words[0])) is not None:
        return [_Word(readings(half), role) for role, half in zip((Role.SURNAME, Role.FORENAME), halves, strict=True)]
    loud = [len(word) > 1 and word.isupper() for word in words]
    if not any(loud) or not any(word[0].isupper() and not word.isupper() for word in words):
        return [_Word(readings(word.lower()), Role.UNKNOWN) for word in words]
    return [
        _Word(readings(word.lower()), Role.SURNAME if is_loud else Role.FORENAME)
        for word, is_loud in zip(words, loud, strict=True)
    ]


def _joined(words: Iterable[_Word], dropped: list[str]) -> Iterator[_Word]:
    """Join what is one name in several words, and drop what is none."""
    waiting = [word for word in words if word.texts and word.texts[0]]
    at = 0
    held: _Word | None = None
    while at < len(waiting):
        word = waiting[at]
        text = word.texts[0]
        at += 1
        if text in _SERVANT and at < len(waiting):
            if waiting[at].texts[0] in _ARTICLES and at + 1 < len(waiting):
                at += 1
            if held is not None:
                yield held
            held = word._replace(texts=tuple(f"abd{_plain(other)}" for other in waiting[at].texts))
            at += 1
        elif text in _FAITH and held is not None:
            held = held._replace(texts=tuple(f"{other}din" for other in held.texts))
        elif text in _TITLES or text in _PARTICLES or len(text) < 2:
            dropped.append(text)
        else:
            if held is not None:
                yield held
            held = _Word(_one_form(word.texts), word.role)
    if held is not None:
        yield held


@lru_cache(maxsize=1 << 16)
def _one_form(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The one form of each reading of a part, each once."""
    return tuple(dict.fromkeys(map(_plain, texts)))


@lru_cache(maxsize=1 << 16)
def _plain(text: str) -> str:
    """The one form of a part by itself."""
    text = text[:_MAX_LETTERS]
    if text in _MUHAMMAD_SHORT or _MUHAMMAD.match(text):
        return "muhammad"
    known = slavic.forename(text)
    if known != text:
        return known
    father = slavic.patronymic(text)
    if father is not None:
        return father
    if len(text) > 6 and text.startswith("abd"):
        text = _SERVANT_ATTACHED.sub("abd", text, count=1)
    if len(text) > 6 and text.endswith(_FAITH_ENDINGS):
        text = _FAITH_ATTACHED.sub(r"\g<first>din", text)
    # An article that is written together: alarifi. Before a vowel it may be no article: alexander.
    if len(text) >= 6 and text.startswith("al") and text[2] not in "aeiouybfv" and slavic.forename(text) == text:
        text = text[2:]
    return text


# --- keys


class _Pair(NamedTuple):
    """Two parts of a name, by position."""

    i: int
    j: int
    shape: Shape


@lru_cache(maxsize=1 << 12)
def _pairs(roles: tuple[Role, ...]) -> tuple[_Pair, ...]:
    """Pairs of parts, those that tell most first: a forename with a surname, or else the ends of a name."""
    last = len(roles) - 1
    found: list[tuple[tuple[int, int, int], _Pair]] = []
    known = Role.FORENAME in roles and Role.SURNAME in roles
    forename, surname = (roles.index(Role.FORENAME), roles.index(Role.SURNAME)) if known else (0, last)
    for i, j in combinations(range(len(roles)), 2):
        if known:
            core = (i == forename and roles[j] is Role.SURNAME) or (j == forename and roles[i] is Role.SURNAME)
            rank = 0 if {i, j} == {forename, surname} else 1 if roles[i] is not roles[j] else 2
            order = (rank, j - i, i)
        else:
            core = i == 0 and j in {1, last}
            order = (0 if (i, j) == (0, last) else 1 if i == 0 else 2 if j == last else 3, i, j)
        shape = Shape(0) if last == 1 else Shape.CORE if core else Shape.OTHER
        found.append((order, _Pair(i, j, shape)))
    return tuple(pair for _, pair in sorted(found))


def _spellings(name: PersonName) -> list[tuple[str, ...]]:
    """The parts of a name in each reading: the first of all parts, the second of all that have one, and so on."""
    if not any(part.others for part in name.parts):
        return [tuple(part.text for part in name.parts)] if name.parts else []
    depth = max(1 + len(part.others) for part in name.parts)
    return list(
        dict.fromkeys(
            tuple((part.text, *part.others)[min(at, len(part.others))] for part in name.parts) for at in range(depth)
        )
    )


_F: Final = NameFamily
_WHOLE: Final = Shape(0)


class _Codes(NamedTuple):
    """What one part is compared by; each with its mark, so that no two kinds are taken for one another."""

    skeleton: str
    sound: str
    prefix: str
    coarse: str


@lru_cache(maxsize=1 << 16)
def _codes(text: str) -> _Codes:
    return _Codes(f"s{skeleton(text)}", f"m{metaphones(text)[0]}", f"p{text[:_PREFIX]}", f"c{sound(text)}")


def person_keys(name: str, births: Sequence[str], *, held: bool) -> dict[NameKey, Shape]:
    """Return the keys of one name, most telling first: at most ``MAX_KEYS``, and ``MAX_BIRTH_KEYS`` a further date.

    Args:
        name: As the source wrote it.
        births: Dates of birth, ISO 8601, as far as they are known: ``1980``, ``1980-05-17``; empty for keys of the
            name alone.
        held: For the owner's set, which holds parts of longer names as sets too.

    Returns:
        Each key with what the owner's ticket says of it; the querier has no use for that.

    Cost: 20 microseconds after ``canonical``.
    """
    read = canonical(name)
    roles = tuple([part.role for part in read.parts])
    spellings = _spellings(read)
    if len(spellings) == 1 and not held and len(births) < 2:
        # By far the most that is asked. The querier has no use for shapes, so which of two stays is all the same.
        return dict(_keys(spellings[0], roles, births, held=False)[:MAX_KEYS])
    keys: dict[NameKey, Shape] = {}
    for number, texts in enumerate(spellings):
        for key, shape in _keys(texts, roles, births[:1] if number == 0 else (), held=held):
            known = keys.get(key)
            if known is None:
                if len(keys) == MAX_KEYS:
                    break
                keys[key] = shape
            elif shape < known:
                keys[key] = shape
    if spellings and len(births) > 1:
        sounds = [_codes(text).sound for text in spellings[0]]
        for birth in births[1:]:
            for key in _birth_keys(spellings[0], sounds, birth):
                keys.setdefault(key, _WHOLE)
    return keys


def part_encodings(part: str) -> frozenset[str]:
    """Return what one part, in any script, is compared by: the words of keys of all its readings.

    Args:
        part: Without spaces, any case.
    """
    found: set[str] = set()
    for reading in readings(unicodedata.normalize("NFKC", part).lower()):
        text = _plain(reading)
        if text:
            codes = _codes(text)
            found |= {codes.skeleton, codes.sound, codes.coarse}
    return frozenset(found)


def paired_words(name: str) -> list[tuple[str, ...]]:
    """Return the pairs of parts, as words of keys, that a name is joined with places by; most telling first."""
    read = canonical(name)
    pairs = _pairs(tuple([part.role for part in read.parts]))
    found: dict[tuple[str, ...], None] = {}
    for texts in _spellings(read):
        words = [_codes(text).skeleton for text in texts]
        for i, j, _ in pairs:
            found.setdefault(tuple(sorted((words[i], words[j]))))
    return list(found)


def _keys(
    texts: Sequence[str], roles: tuple[Role, ...], births: Sequence[str], *, held: bool
) -> list[tuple[NameKey, Shape]]:
    codes = [_codes(text) for text in texts]
    skeletons = [code.skeleton for code in codes]
    found: list[tuple[NameKey, Shape]] = []
    if len(texts) > 1:
        found.append((_of_all(_F.PERSON_WHOLE_SKELETON, skeletons), _WHOLE))
        found.append((_of_all(_F.PERSON_WHOLE_SOUND, [code.sound for code in codes]), _WHOLE))
    for birth in births:
        found += [(key, _WHOLE) for key in _birth_keys(texts, [code.sound for code in codes], birth)]
    pairs = _pairs(roles)
    for i, j, shape in pairs[:_MAX_PAIRS]:
        found.append((_of_two(_F.PERSON_PAIR_SKELETON, skeletons[i], skeletons[j]), shape))
    for i, j, shape in pairs[:_MAX_PAIRS]:
        found.append((_of_two(_F.PERSON_PAIR_PREFIX, codes[i].prefix, codes[j].prefix), shape))
    for i, j, shape in pairs[:_MAX_COARSE]:
        found.append((_of_two(_F.PERSON_PAIR_SOUND, codes[i].coarse, codes[j].coarse), shape))
    if held and len(texts) > 2:
        for i, j, shape in pairs[:_MAX_SUBSETS]:
            found.append((_of_all(_F.PERSON_WHOLE_SKELETON, (skeletons[i], skeletons[j])), shape))
        if len(texts) > 3:
            for triple in islice(combinations(skeletons, 3), _MAX_TRIPLES):
                found.append((_of_all(_F.PERSON_WHOLE_SKELETON, triple), Shape.OTHER))
    return found


def _birth_keys(texts: Sequence[str], sounds: Sequence[str], birth: str) -> Iterator[NameKey]:
    """Keys with one date of birth, at most ``MAX_BIRTH_KEYS``."""
    if len(birth) == 10:
        year, month, day = birth.split("-")
        for initial in list(dict.fromkeys(text[0] for text in texts))[:2]:
            yield NameKey(_F.PERSON_BIRTH_INITIAL, f"{initial} {birth}", ())
        for word in list(dict.fromkeys(sounds))[:2]:
            yield NameKey(_F.PERSON_BIRTH_DAY, f"{word} {'-'.join(sorted((month, day)))}", (word,))
        yield NameKey(_F.PERSON_BIRTH_YEAR, f"{sounds[0]} {year}", (sounds[0],))
    else:
        for word in list(dict.fromkeys(sounds))[:3]:
            yield NameKey(_F.PERSON_BIRTH_YEAR, f"{word} {birth[:4]}", (word,))


def _of_two(family: NameFamily, one: str, other: str) -> NameKey:
    keys = (one, other) if one <= other else (other, one)
    return NameKey(family, f"{keys[0]} {keys[1]}", keys)


def _of_all(family: NameFamily, words: Iterable[str]) -> NameKey:
    keys = tuple(sorted(set(words)))
    return NameKey(family, " ".join(keys), keys)
