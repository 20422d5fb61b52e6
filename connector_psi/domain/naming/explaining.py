"""Why two names match or do not: how each is read, its keys, and what equal keys are worth.

For people who look at one pair of names, on their own machine. Leaves to others: printing (``commands.names``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from connector_psi.domain import names
from connector_psi.domain.names import Subject
from connector_psi.domain.naming import companies, judging, persons
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup
from connector_psi.domain.naming.judging import Band, Weights
from connector_psi.domain.naming.keys import HeldKey, Shape
from connector_psi.domain.naming.words import BAND_WORDS, FAMILY_WORDS, column_words
from connector_psi.domain.records import TokenClass

_GROUPS = frozenset(FamilyGroup)


@dataclass(frozen=True, slots=True)
class Explained:
    """How a party is read."""

    reading: list[tuple[str, str, str, str]] = field(repr=False)
    """Name, kind, part, and what the part is taken for."""
    tokens: list[tuple[str, str, str]] = field(repr=False)
    """Family, text, and what it says."""

    def as_json(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {
            "reading": [dict(zip(("name", "kind", "part", "is"), row, strict=True)) for row in self.reading],
            "tokens": [dict(zip(("family", "text", "says"), row, strict=True)) for row in self.tokens],
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """What is equal in two parties, judged as one kind."""

    kind: str
    equal: list[tuple[str, str]] = field(repr=False)
    points: list[tuple[str, str]] = field(repr=False)
    """Signed points, and what they are for; they add up to the last."""
    band: Band
    total: float
    corroborators: list[str]
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {
            "kind": self.kind,
            "equal": [{"family": family, "text": text} for family, text in self.equal],
            "points": [{"points": float(points), "for": what} for points, what in self.points],
            "band": self.band.value,
            "total": round(self.total, 3) if math.isfinite(self.total) else None,
            "corroborators": self.corroborators,
            "verdict": self.verdict,
        }


def explain_subject(subject: Subject, *, held: bool) -> Explained:
    """Return how the names of a party are read, and its keys.

    Args:
        subject: The party.
        held: With the keys that an owner publishes, rather than those that a querier asks with.
    """
    reading: list[tuple[str, str, str, str]] = []
    for name in subject.names:
        if TokenClass.PERSON in subject.kinds:
            person = persons.canonical(name)
            reading += [(name, "person", part.text, part.role.value) for part in person.parts]
            reading += [(name, "person", word, "left out: title, particle or initial") for word in person.dropped]
        if TokenClass.ORGANISATION in subject.kinds:
            company = companies.canonical(name)
            for what, words in company._asdict().items():
                for word in (words,) if isinstance(words, str) else words:
                    if word:
                        reading.append((name, "organisation", word, what.replace("_", " ")))
    tokens = [(key.family, key.text, FAMILY_WORDS[key.family]) for key in names.keys_of(subject, _GROUPS, held=held)]
    return Explained(reading, tokens)


def compare(weights: Weights, asking: Subject, holding: Subject) -> list[Compared]:
    """Return what is equal in two parties and what it is worth, for each kind that both may be.

    Args:
        weights: A file of weights.
        asking: The querier's party.
        holding: The owner's.
    """
    asked = names.keys_of(asking, _GROUPS, held=False)
    held = names.keys_of(holding, _GROUPS, held=True)
    return [
        _judged(
            weights, kind, [HeldKey(key, held[key]) for key in asked if key in held], born=names.is_dated(asking.births)
        )
        for kind in sorted(asking.kinds & holding.kinds & weights.kinds.keys())
    ]


def _judged(weights: Weights, kind: TokenClass, equal: list[HeldKey], *, born: bool) -> Compared:
    group = [each for each in equal if FAMILY_TABLE[each.key.family].token_class is kind]
    (verdict,) = judging.judge(weights, kind, [group], [born])
    model = weights.kinds[kind]
    points = [
        (f"{share.points:+.2f}", column_words(share.column))
        for share in judging.shares(weights, kind, group, born=born)
    ]
    if math.isfinite(verdict.points):
        points.append((f"{model.bias - model.possible:+.2f}", "to begin with"))
        points.append((f"{verdict.points:+.2f}", "in all; from 0 on the names are possibly the same"))
    agrees = sorted(each.value for each in verdict.corroborators)
    return Compared(
        kind=kind.label,
        equal=[(FAMILY_WORDS[each.key.family], f"{each.key.text}{_said(each.shape)}") for each in group],
        points=points,
        band=verdict.band,
        total=verdict.points,
        corroborators=agrees,
        verdict=f"{BAND_WORDS[verdict.band]}. {_agreement(verdict)}",
    )


def _said(shape: Shape) -> str:
    if shape & Shape.CORE:
        return " (forename and surname, or the ends, of a longer name)"
    return " (other parts of a longer name)" if shape & Shape.OTHER else ""


def _agreement(verdict: judging.NameVerdict) -> str:
    words = ", ".join(sorted(each.value.replace("_", " ") for each in verdict.corroborators)) or "nothing"
    outcome = "shown" if judging.enough_with(verdict.band) & verdict.corroborators else "not shown"
    return f"Besides the name agrees: {words}. By the shipped policies: {outcome}."
