"""How much equal keys of two names say: points from a fitted model, and the band that they fall into.

Decides: the form of the model, what it sees of a group of equal keys, and what the bands are. A logistic model over
counts: per family whether a key is equal (by what the owner's ticket says of it), how rare the rarest is, how many are
equal and how rare they are together, and whether both sides know a date of birth and no date key is equal. So the
decision is a function of equal keys alone, and the owner computes the same from the keys that a querier proves to hold.
Leaves to others: fitting (``domain.naming.fitting``), corroboration as a rule (``policy``).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from connector_psi.domain.naming.families import (
    FAMILY_TABLE,
    POSSIBLE_WITH,
    STRONG_WITH,
    Corroborator,
    FamilyGroup,
    NameFamily,
)
from connector_psi.domain.naming.keys import NAME_RULES_VERSION, HeldKey, Shape
from connector_psi.domain.records import TokenClass
from connector_psi.errors import ConfigError

Floats = npt.NDArray[np.float64]

MIN_COUNT: Final = 5
"""A key that fewer background parties have is not in a rarity table, and counts as one that so many have."""


class Band(StrEnum):
    """What the points of a group amount to, by themselves."""

    NOT_SHOWN = "not_shown"
    WEAK = "weak"
    """Counted, never shown."""
    POSSIBLE = "possible"
    STRONG = "strong"


class NameVerdict(NamedTuple):
    """The model's judgement of one group."""

    band: Band
    points: float
    """Above 0: at least possible."""
    corroborators: frozenset[Corroborator]
    """What agrees besides the name, among the keys of the group."""


_BESIDES: Final = frozenset({FamilyGroup.NAME_PLACE, FamilyGroup.NAME_CONTACT})
_NAMES: Final = frozenset({FamilyGroup.PERSON_NAME, FamilyGroup.COMPANY_NAME})
_DATES: Final = frozenset({NameFamily.PERSON_BIRTH_INITIAL, NameFamily.PERSON_BIRTH_DAY, NameFamily.PERSON_BIRTH_YEAR})
_DAY_ALONE: Final = frozenset({NameFamily.PERSON_BIRTH_DAY})
_BORN: Final = int(Shape.BORN)
_SHAPES: Final = (Shape(0), Shape.CORE, Shape.OTHER)
_COUNTS: Final = (2, 3, 6)
_SLOTS: Final = 2 * len(_SHAPES) + len(_COUNTS) + 2
"""Columns of a family: equal and rarest by shape, counts, rarity in all, rarest of all."""


def families_of(kind: TokenClass) -> tuple[str, ...]:
    """Return the families that the model of a kind sees, in the order of its columns; places and contacts only
    corroborate.
    """
    return tuple(name for name, rule in FAMILY_TABLE.items() if rule.token_class is kind and rule.group not in _BESIDES)


def columns_of(kind: TokenClass) -> tuple[str, ...]:
    """Return the names of the model's columns."""
    names = []
    for family in families_of(kind):
        for shape in ("whole", "core", "other"):
            names += [f"{family}/{shape}", f"{family}/{shape}/rarity"]
        names += [f"{family}/{n}" for n in _COUNTS]
        names += [f"{family}/rarity", f"{family}/rarest"]
    return (*names, "birth-day-alone", "birth-differs")


class Groups(NamedTuple):
    """Groups of equal keys in flat columns, one entry an equal key."""

    kind: TokenClass
    group: npt.NDArray[np.int64]
    """Number of the group, from 0."""
    family: npt.NDArray[np.int64]
    """Position in ``families_of(kind)``."""
    shape: npt.NDArray[np.int64]
    """0 whole, 1 core, 2 other."""
    rarity: Floats
    """Bits."""
    day_alone: npt.NDArray[np.bool_]
    """One entry a group: day and month are equal, and neither the whole date nor the year."""
    birth_differs: npt.NDArray[np.bool_]
    """One entry a group: both sides know a date of birth, and no key of a date is equal."""


def matrix(groups: Groups) -> Floats:
    """Return the model's columns, one row a group.

    Cost: About 2 microseconds a group, in numpy throughout.
    """
    n, families = len(groups.birth_differs), len(families_of(groups.kind))
    cell = (groups.group * families + groups.family) * len(_SHAPES) + groups.shape
    size = n * families * len(_SHAPES)
    equal = np.bincount(cell, minlength=size).reshape(n, families, len(_SHAPES))
    total = np.bincount(cell, weights=groups.rarity, minlength=size).reshape(n, families, len(_SHAPES)).sum(axis=2)
    highest = np.zeros(size)
    np.maximum.at(highest, cell, groups.rarity)
    rarest = highest.reshape(n, families, len(_SHAPES))
    out = np.empty((n, families, _SLOTS))
    out[:, :, 0 : 2 * len(_SHAPES) : 2] = equal > 0
    out[:, :, 1 : 2 * len(_SHAPES) : 2] = rarest
    counts = equal.sum(axis=2)
    for position, least in enumerate(_COUNTS, start=2 * len(_SHAPES)):
        out[:, :, position] = counts >= least
    out[:, :, -2] = total
    out[:, :, -1] = rarest.max(axis=2, initial=0.0)
    dates = np.column_stack([groups.day_alone, groups.birth_differs]).astype(np.float64)
    return np.hstack([out.reshape(n, families * _SLOTS), dates])


@dataclass(frozen=True, slots=True)
class KindWeights:
    """The fitted model of one kind of party."""

    bias: float
    points: Mapping[str, float]
    """By column; a column that is missing has no points."""
    possible: float
    """Least log odds of the band."""
    strong: float
    weak: float

    def vector(self, kind: TokenClass) -> Floats:
        """Return the points in the order of the columns."""
        return np.array([self.points.get(name, 0.0) for name in columns_of(kind)])


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights: the models, and how rare keys are."""

    version: str
    """What policies call it, such as ``cp-names-1``."""
    rules: str
    """Version of the canonical names that it was fitted on."""
    kinds: Mapping[TokenClass, KindWeights]
    total: Mapping[TokenClass, int]
    """Background parties that the counts are from."""
    counts: Mapping[TokenClass, Mapping[str, int]] = field(repr=False)
    """How many of them have a key; keys that fewer than ``MIN_COUNT`` have are left out."""
    digest: bytes = b""
    """SHA-256 of the file."""
    about: Mapping[str, object] = field(default_factory=dict)
    """Where it came from, for people."""

    _bits: dict[TokenClass, dict[str, float]] = field(default_factory=dict, repr=False, compare=False)

    def bits(self, kind: TokenClass) -> Mapping[str, float]:
        """Return how many bits each word key of the table is worth: log2 of how seldom it occurs."""
        if kind not in self._bits:
            total = max(self.total.get(kind, 0), MIN_COUNT)
            self._bits[kind] = {
                key: math.log2(total / max(count, MIN_COUNT)) for key, count in self.counts.get(kind, {}).items()
            }
        return self._bits[kind]

    def least_common_bits(self, kind: TokenClass) -> float:
        """Return how many bits a word key is worth that is not in the table."""
        return math.log2(max(self.total.get(kind, 0), MIN_COUNT) / MIN_COUNT)

    def rarity(self, kind: TokenClass, keys: Sequence[str]) -> float:
        """Return how many bits equal word keys are worth together, as if they occurred independently."""
        bits, common = self.bits(kind), self.least_common_bits(kind)
        return sum(bits.get(key, common) for key in keys)


def judge(
    weights: Weights, kind: TokenClass, groups: Sequence[Sequence[HeldKey]], born: Sequence[bool]
) -> list[NameVerdict]:
    """Judge groups of equal keys, each of one party of the querier and one party of a record of the owner.

    Args:
        weights: The file that the agreement names.
        kind: PERSON or ORGANISATION.
        groups: The equal keys of each group, with the shapes that the owner's tickets say; keys of other kinds are
            ignored.
        born: For each group whether the asking party has a date of birth.

    Returns:
        One verdict a group. Without a model of the kind, or a key that it knows, the band is NOT_SHOWN.
    """
    model = weights.kinds.get(kind)
    if model is None or not groups:
        return [NameVerdict(Band.NOT_SHOWN, -math.inf, frozenset()) for _ in groups]
    columns = packed(weights, kind, groups, born)
    log_odds = matrix(columns) @ model.vector(kind) + model.bias
    # The model was fitted to pairs with an equal key and knows nothing of others.
    log_odds[np.bincount(columns.group, minlength=len(groups)) == 0] = -math.inf
    found = []
    for group, value in zip(groups, log_odds, strict=True):
        band = _band(model, float(value))
        found.append(NameVerdict(band, float(value) - model.possible, corroborators(kind, group, band)))
    return found


def corroborators(kind: TokenClass, group: Sequence[HeldKey], band: Band) -> frozenset[Corroborator]:
    """Return what agrees besides the name, among the equal keys of a group.

    A date of birth corroborates a name. Where no key of the name itself is equal, a part of it with the date *is* the
    evidence, and nothing corroborates it unless it is strong. Day and month alone, in whatever order, corroborate
    nothing: one in a hundred and eighty people has them.
    """
    families = {held.key.family for held in group}
    if families & _DATES == _DAY_ALONE:
        families.discard(NameFamily.PERSON_BIRTH_DAY)
    rules = [rule for family in families if (rule := FAMILY_TABLE[family]).token_class is kind]
    if band is not Band.STRONG and not any(rule.group in _NAMES for rule in rules):
        return frozenset()
    return frozenset(rule.corroborates for rule in rules if rule.corroborates is not None)


def enough_with(
    band: Band,
    possible_with: Collection[Corroborator] = POSSIBLE_WITH,
    strong_with: Collection[Corroborator] = STRONG_WITH,
) -> frozenset[Corroborator]:
    """Return what one of must agree besides a name of a band for a match; nothing is enough for the lower bands.

    Args:
        band: Of the name.
        possible_with: What an agreement says suffices with POSSIBLE, and so with STRONG; by default the shipped ones.
        strong_with: What suffices with STRONG alone.
    """
    if band is Band.STRONG:
        return frozenset(possible_with) | frozenset(strong_with)
    return frozenset(possible_with) if band is Band.POSSIBLE else frozenset()


class Share(NamedTuple):
    """What one column adds to the points of a group."""

    column: str
    value: float
    points: float


def shares(weights: Weights, kind: TokenClass, group: Sequence[HeldKey], *, born: bool) -> tuple[Share, ...]:
    """Return what adds to the points of a group, the most first; with the bias they add up to its log odds.

    Args:
        weights: A file of weights that has a model of the kind.
        kind: PERSON or ORGANISATION.
        group: Equal keys.
        born: Whether the asking party has a date of birth.
    """
    values = matrix(packed(weights, kind, [group], [born]))[0]
    points = weights.kinds[kind].vector(kind) * values
    found = [Share(*each) for each in zip(columns_of(kind), values.tolist(), points.tolist(), strict=True)]
    return tuple(sorted((each for each in found if each.points), key=lambda each: -abs(each.points)))


def _band(model: KindWeights, log_odds: float) -> Band:
    for band, least in ((Band.STRONG, model.strong), (Band.POSSIBLE, model.possible), (Band.WEAK, model.weak)):
        if log_odds >= least:
            return band
    return Band.NOT_SHOWN


def packed(weights: Weights, kind: TokenClass, groups: Sequence[Sequence[HeldKey]], born: Sequence[bool]) -> Groups:
    """Bring groups into the columns that ``matrix`` takes."""
    position = {name: at for at, name in enumerate(families_of(kind))}
    bits = weights.bits(kind)
    common = weights.least_common_bits(kind)
    numbers: list[int] = []
    families: list[int] = []
    shapes: list[int] = []
    rarity: list[float] = []
    differs, day_alone = np.zeros((2, len(groups)), dtype=np.bool_)
    for number, (group, has_birth) in enumerate(zip(groups, born, strict=True)):
        said = 0
        dated: set[str] = set()
        for (family, _, keys), shape in group:
            at = position.get(family)
            if at is None:
                continue
            # A plain number: operators of a flag are slow.
            says = int(shape)
            said |= says
            if family in _DATES:
                dated.add(family)
            numbers.append(number)
            families.append(at)
            shapes.append(says & 3)
            worth = 0.0
            for key in keys:
                worth += bits.get(key, common)
            rarity.append(worth)
        if dated:
            day_alone[number] = dated == _DAY_ALONE
        else:
            differs[number] = has_birth and said & _BORN != 0
    return Groups(
        kind,
        np.array(numbers, dtype=np.int64),
        np.array(families, dtype=np.int64),
        np.array(shapes, dtype=np.int64),
        np.array(rarity, dtype=np.float64),
        day_alone,
        differs,
    )


# The file

_OTHER_RULES: Final = "weights of names that were fitted on other rules of names than this version has"
_NO_FILE: Final = "not a file of name weights, or of a form that this version does not know"


def parse_weights(raw: bytes) -> Weights:
    """Read a file of weights.

    Raises:
        ConfigError: It is not one, or of a form that this version does not know, or for other rules of names.
    """
    try:
        value = json.loads(raw, parse_constant=_refused, parse_float=_finite)
        if value["rules"] != NAME_RULES_VERSION:
            raise ConfigError(_OTHER_RULES)
        kinds = {TokenClass[name.upper()]: part for name, part in value["kinds"].items()}
        return Weights(
            version=str(value["version"]),
            rules=str(value["rules"]),
            kinds={
                kind: KindWeights(
                    bias=float(part["bias"]),
                    points={str(k): float(v) for k, v in part["points"].items()},
                    possible=float(part["bands"]["possible"]),
                    strong=float(part["bands"]["strong"]),
                    weak=float(part["bands"]["weak"]),
                )
                for kind, part in kinds.items()
            },
            total={kind: int(part["rarity"]["parties"]) for kind, part in kinds.items()},
            counts={
                kind: {str(k): int(v) for k, v in part["rarity"]["counts"].items()} for kind, part in kinds.items()
            },
            digest=hashlib.sha256(raw).digest(),
            about=dict(value.get("about", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(_NO_FILE) from None


def _refused(_: str) -> float:
    raise ConfigError(_NO_FILE)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused(text)


def write_weights(weights: Weights) -> bytes:
    """Return the bytes of a file of weights; equal weights give equal bytes."""
    value = {
        "version": weights.version,
        "rules": weights.rules,
        "about": dict(weights.about),
        "kinds": {
            kind.label: {
                "bias": round(model.bias, 6),
                "points": {name: round(model.points[name], 6) for name in sorted(model.points)},
                "bands": {
                    "weak": round(model.weak, 6),
                    "possible": round(model.possible, 6),
                    "strong": round(model.strong, 6),
                },
                "rarity": {
                    "parties": weights.total.get(kind, 0),
                    "counts": dict(sorted(weights.counts.get(kind, {}).items())),
                },
            }
            for kind, model in sorted(weights.kinds.items())
        },
    }
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()
