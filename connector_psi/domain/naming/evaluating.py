"""How well private name matching finds labelled parties: the computation behind ``names evaluate`` and ``names fit``.

Decides: which keys of which side meet (the same keys that nodes exchange as tokens), and which figures are given.
Leaves to others: the model and its fit (``domain.naming.judging``, ``domain.naming.fitting``), files
(``domain.naming.labelled``).
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from connector_psi.domain import names
from connector_psi.domain.naming import fitting, judging
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup
from connector_psi.domain.naming.fitting import FOLDS, Bools, Sample
from connector_psi.domain.naming.judging import MIN_COUNT, Band, KindWeights, NameVerdict, Weights
from connector_psi.domain.naming.keys import HeldKey, NameKey, Shape
from connector_psi.domain.naming.labelled import Dataset, Labelled, Letters, fold_of
from connector_psi.domain.naming.persons import part_encodings
from connector_psi.domain.records import TokenClass
from connector_psi.errors import ConfigError

PRECISION: Final[Mapping[TokenClass, float]] = {TokenClass.PERSON: 0.963, TokenClass.ORGANISATION: 0.935}
"""Wanted of the band *possible*, on scores that were not fitted: a little above what is promised, so that other data of
the same kind keep the promise."""

_GROUPS: Final = frozenset(FamilyGroup)
_CHANCE_PAIRS: Final = 200_000
Advance = Callable[[int], None]


@dataclass(slots=True)
class Joined:
    """Groups of equal keys of one labelled set."""

    labelled: Labelled
    pairs: list[tuple[int, int]] = field(default_factory=list, repr=False)
    """(party, alert) of each group."""
    groups: list[list[HeldKey]] = field(default_factory=list, repr=False)
    born: list[bool] = field(default_factory=list, repr=False)
    counts: Counter[str] = field(default_factory=Counter, repr=False)
    """Background parties that have each word key."""
    crowd: int = 0
    """How many background parties that are."""
    asked: int = 0
    """Keys that parties ask with, those with places left out."""
    asked_most: int = 0


def join(labelled: Labelled, advance: Advance | None = None, families: Collection[FamilyGroup] = _GROUPS) -> Joined:
    """Let the parties ask for the alerts, as a querier asks an owner: by equal keys alone.

    Args:
        labelled: Alerts and parties.
        advance: Called with the number of parties done.
        families: Those of an agreement; by default all.
    """
    owners: dict[NameKey, dict[int, Shape]] = defaultdict(dict)
    for number, alert in enumerate(labelled.alerts):
        for key, shape in names.keys_of(alert, families, held=True).items():
            owners[key][number] = shape
    found = Joined(labelled)
    background = labelled.background()
    # Where every party matches something, all of them are the crowd.
    any_background = any(background) and not labelled.only_labelled
    seen = set(judging.families_of(labelled.kind))
    done = 0
    for number, party in enumerate(labelled.parties):
        asked = names.keys_of(party, families, held=False)
        own = [key for key in asked if FAMILY_TABLE[key.family].token_class is labelled.kind]
        telling = [key for key in own if key.family in seen]
        found.asked += len(telling)
        found.asked_most = max(found.asked_most, len(telling))
        if background[number] or not any_background:
            found.crowd += 1
            found.counts.update({word for key in telling for word in key.keys})
        born = FamilyGroup.PERSON_BIRTH in families and names.is_dated(party.births)
        groups: dict[int, list[HeldKey]] = defaultdict(list)
        for key in own:
            for alert_number, shape in owners.get(key, {}).items():
                groups[alert_number].append(HeldKey(key, shape))
        for alert_number, group in groups.items():
            found.pairs.append((number, alert_number))
            found.groups.append(group)
            found.born.append(born)
        done += 1
        if advance is not None and done % 500 == 0:
            advance(500)
    if advance is not None:
        advance(done % 500)
    return found


class Decision(NamedTuple):
    """What policy makes of a pair."""

    party: int
    alert: int
    band: Band
    shown: bool
    """Something besides the name agrees, by the rule of the shipped policies; what is not shown is counted at most."""


def decide(joined: Joined, weights: Weights) -> list[Decision]:
    """Return the decision on every pair that has an equal key, as nodes with these weights make it."""
    verdicts = judging.judge(weights, joined.labelled.kind, joined.groups, joined.born)
    return [
        Decision(party, alert, verdict.band, _is_shown(verdict))
        for (party, alert), verdict in zip(joined.pairs, verdicts, strict=True)
    ]


def _is_shown(verdict: NameVerdict) -> bool:
    return not judging.enough_with(verdict.band).isdisjoint(verdict.corroborators)


def rarity_of(joined: Joined) -> Weights:
    """Return weights that hold nothing but how rare keys are among the background parties."""
    kind = joined.labelled.kind
    counts = {key: count for key, count in joined.counts.items() if count >= MIN_COUNT}
    return Weights("", names.NAME_RULES_VERSION, {}, {kind: joined.crowd}, {kind: counts})


def sample_of(joined: Joined, rarity: Weights) -> Sample:
    """Return the groups as rows that a model can be fitted to."""
    labelled = joined.labelled
    fold_of_alert = [fold_of(entity, FOLDS) for entity in labelled.entities]
    background = labelled.background()
    groups = judging.packed(rarity, labelled.kind, joined.groups, joined.born)
    return Sample(
        kind=labelled.kind,
        columns=judging.matrix(groups),
        match=np.array([pair in labelled.truth for pair in joined.pairs], dtype=np.bool_),
        known=np.array([_is_known(labelled, pair) for pair in joined.pairs], dtype=np.bool_),
        fold=np.array([fold_of_alert[alert] for _, alert in joined.pairs], dtype=np.int64),
        background=np.array([background[party] for party, _ in joined.pairs], dtype=np.bool_),
    )


def _is_known(labelled: Labelled, pair: tuple[int, int]) -> bool:
    if pair in labelled.ignored:
        return False
    return not labelled.only_labelled or pair in labelled.truth or pair in labelled.differ


def evaluate_set(
    labelled: Labelled, weights: Weights | None, precision: float | None = None, advance: Advance | None = None
) -> dict[str, Any]:
    """Return the figures of one labelled set.

    Args:
        labelled: Alerts and parties.
        weights: Scores with these and fits nothing; None cross-validates, folds by entity.
        precision: Wanted in cross-validation; by default what the set says, or ``PRECISION`` of its kind.
        advance: Called with the number of parties done.
    """
    joined = join(labelled, advance)
    rarity = weights or rarity_of(joined)
    sample = sample_of(joined, rarity)
    if weights is None:
        judged = fitting.cross_validate(sample, precision or labelled.precision or PRECISION[labelled.kind])
        possible, strong = judged.possible, judged.strong
    else:
        bands = [v.band for v in judging.judge(weights, labelled.kind, joined.groups, joined.born)]
        strong = np.array([band is Band.STRONG for band in bands], dtype=np.bool_)
        possible = strong | np.array([band is Band.POSSIBLE for band in bands], dtype=np.bool_)
    return _figures(joined, sample, possible, strong)


def _figures(joined: Joined, sample: Sample, possible: Bools, strong: Bools) -> dict[str, Any]:
    labelled = joined.labelled
    reachable = {pair for pair, letters in labelled.truth.items() if letters}
    found = _measure(joined, sample, possible)
    taken = {pair for pair, is_taken in zip(joined.pairs, possible, strict=True) if is_taken}
    agreed = np.array(
        [
            _corroborated(labelled.kind, group, bool(is_strong))
            for group, is_strong in zip(joined.groups, strong, strict=True)
        ],
        dtype=np.bool_,
    )
    corroborated = _measure(joined, sample, possible & agreed)
    parties, background = len(labelled.parties), sum(labelled.background())
    return {
        "precision": _rounded(found.precision),
        "recall": _rounded(found.recall),
        "recall_reachable": _rounded(len(taken & reachable) / len(reachable) if reachable else 0.0),
        "ci95": {
            "precision": [_rounded(x) for x in found.precision_ci95],
            "recall": [_rounded(x) for x in found.recall_ci95],
        },
        "false_per_background_party": _rounded(found.false_background / background if background else 0.0, 6),
        "tokens_per_name": _rounded(joined.asked / parties if parties else 0.0, 2),
        "tokens_per_name_most": joined.asked_most,
        "corroborated": {
            "precision": _rounded(corroborated.precision) if (possible & agreed).any() else None,
            "recall": _rounded(corroborated.recall),
            "false_background_parties": corroborated.false_background,
        },
        "alerts": len(labelled.alerts),
        "parties": parties,
        "background_parties": background,
        "true_pairs": len(labelled.truth),
        "groups": len(joined.groups),
    }


def _measure(joined: Joined, sample: Sample, taken: Bools) -> fitting.Figures:
    labelled = joined.labelled
    number = {name: at for at, name in enumerate(dict.fromkeys(labelled.entities))}
    of_alert = [number[entity] for entity in labelled.entities]
    truths = np.bincount(
        np.array([of_alert[alert] for _, alert in labelled.truth], dtype=np.int64), minlength=len(number)
    )
    return fitting.measure(sample, taken, [of_alert[alert] for _, alert in joined.pairs], truths)


def _corroborated(kind: TokenClass, group: Sequence[HeldKey], is_strong: bool) -> bool:
    """Whether something besides the name agrees, by the rule of the shipped policies."""
    band = Band.STRONG if is_strong else Band.POSSIBLE
    return not judging.enough_with(band).isdisjoint(judging.corroborators(kind, group, band))


def evaluate_letters(letters: Letters) -> dict[str, Any]:
    """Return how often a part in its script and in Latin letters have an encoding in common, and how often by chance.

    Args:
        letters: Trusted pairs of one script.
    """
    native = [part_encodings(part) for part, _ in letters.pairs]
    latin = [part_encodings(part) for _, part in letters.pairs]
    hits = np.array([bool(a & b) for a, b in zip(native, latin, strict=True)], dtype=np.float64)
    n = len(hits)
    recall = float(hits.mean()) if n else 0.0
    chance = random.Random(7)  # noqa: S311 - draws rows to compare, no secret
    drawn = [(chance.randrange(n), chance.randrange(n)) for _ in range(_CHANCE_PAIRS)] if n else []
    others = [(a, b) for a, b in drawn if letters.pairs[a] != letters.pairs[b]]
    false = sum(bool(native[a] & latin[b]) for a, b in others)
    error = 1.96 * float(np.sqrt(recall * (1 - recall) / n)) if n else 1.0
    return {
        "precision": None,
        "recall": _rounded(recall),
        "recall_reachable": None,
        "ci95": {"precision": None, "recall": [_rounded(max(0.0, recall - error)), _rounded(min(1.0, recall + error))]},
        "false_per_background_party": _rounded(false / len(others) if others else 0.0, 6),
        "tokens_per_name": _rounded(sum(map(len, native)) / n if n else 0.0, 2),
        "pairs": n,
    }


def fit_datasets(
    datasets: Iterable[Dataset],
    version: str,
    about: Mapping[str, object],
    advance: Advance | None = None,
    precision: float | None = None,
) -> Weights:
    """Fit weights to labelled sets: all of one kind together, rarity from all their background parties.

    Args:
        datasets: Folders; layouts without parties add nothing.
        version: Name of the weights, as policies will use it.
        about: Where the data came from, for people.
        advance: Called with the number of parties done.
        precision: Wanted of the band *possible*; by default ``PRECISION`` of the kind.

    Raises:
        ConfigError: No set has both matches and others.
    """
    kinds: dict[TokenClass, KindWeights] = {}
    totals: dict[TokenClass, int] = {}
    counts: dict[TokenClass, Mapping[str, int]] = {}
    joined: dict[TokenClass, list[Joined]] = defaultdict(list)
    for dataset in datasets:
        for labelled in dataset.sets:
            joined[labelled.kind].append(join(labelled, advance))
    for kind, parts in sorted(joined.items()):
        whole: Counter[str] = Counter()
        for part in parts:
            whole.update(part.counts)
        totals[kind] = sum(part.crowd for part in parts)
        counts[kind] = {key: count for key, count in whole.items() if count >= MIN_COUNT}
        rarity = Weights("", names.NAME_RULES_VERSION, {}, {kind: totals[kind]}, {kind: counts[kind]})
        sample = _stacked([sample_of(part, rarity) for part in parts])
        if not (sample.match & sample.known).any() or (sample.match | ~sample.known).all():
            raise ConfigError(f"{kind.label}: nothing to fit to: matches and pairs that are none are both needed")
        kinds[kind] = fitting.fit_weights(sample, precision or PRECISION[kind])
    if not kinds:
        raise ConfigError("nothing to fit to: no folder has labelled alerts and parties")
    return Weights(version, names.NAME_RULES_VERSION, kinds, totals, counts, about=dict(about))


def _stacked(samples: Sequence[Sample]) -> Sample:
    return Sample(samples[0].kind, *(np.concatenate(part) for part in zip(*(s[1:] for s in samples), strict=True)))


def _rounded(value: float, digits: int = 4) -> float:
    return round(float(value), digits)
