"""Fitting the model of name matching to labelled groups, and choosing its bands.

Decides: the estimate (logistic regression with a ridge on standardised columns, by Newton's method), how thresholds are
chosen (on scores of groups that the model did not see, at a wanted precision), and how figures are measured. Everything
is deterministic. Leaves to others: reading labelled data (``domain.naming.labelled``), the columns
(``domain.naming.judging``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from connector_psi.domain.naming.judging import Floats, KindWeights, columns_of
from connector_psi.domain.records import TokenClass

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FOLDS: Final = 5
_RIDGE: Final = 3.0
_STEPS: Final = 40
_CONVERGED: Final = 1e-7
_RESAMPLES: Final = 1000
_STRONG_PRECISION: Final = 0.99
_STRONG_MARGIN: Final = 1.0
"""Log odds above every background party that was seen, for those that were not."""
_WEAK_PRECISION: Final = 0.5
_NONE: Final = 1e9
"""A threshold that nothing reaches."""


class Sample(NamedTuple):
    """Labelled groups of one kind, one row a group."""

    kind: TokenClass
    columns: Floats
    """From ``judging.matrix``."""
    match: Bools
    """Whether the pair is a match."""
    known: Bools
    """Whether its truth is known; others are neither fitted nor counted."""
    fold: Ints
    """0 to ``FOLDS`` - 1; all groups of one entity have one."""
    background: Bools
    """Whether the party matches nothing at all."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model in the units of its columns."""

    bias: float
    points: Floats

    def log_odds(self, columns: Floats) -> Floats:
        """Return the log odds of each row."""
        return columns @ self.points + self.bias


def fit(sample: Sample, rows: Bools, start: Fitted | None = None) -> Fitted:
    """Fit the model to some rows of a sample.

    A difference in birth dates never speaks for a match: the owner cannot see it, so it may only take points away.

    Args:
        sample: Labelled groups.
        rows: Which of them; unknown ones are left out.
        start: Where to begin. There is one best model, so this saves time and changes nothing.
    """
    use = rows & sample.known
    fitted = _newton(sample.columns[use], sample.match[use], start)
    if fitted.points[-1] > 0:
        without = sample.columns[use].copy()
        without[:, -1] = 0.0
        fitted = _newton(without, sample.match[use], start)
    return fitted


def _newton(columns: Floats, match: Bools, start: Fitted | None) -> Fitted:
    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    varies = scale > 0
    scaled = np.where(varies, (columns - mean) / np.where(varies, scale, 1.0), 0.0)
    design = np.hstack([np.ones((len(scaled), 1)), scaled])
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[0] = 0.0
    estimate = np.zeros(design.shape[1])
    if start is not None:
        estimate[0] = start.bias + start.points @ mean
        estimate[1:] = np.where(varies, start.points * scale, 0.0)
    target = match.astype(np.float64)
    for _ in range(_STEPS):
        odds = np.clip(design @ estimate, -30.0, 30.0)
        chance = 1.0 / (1.0 + np.exp(-odds))
        weight = np.maximum(chance * (1.0 - chance), 1e-9)
        gradient = design.T @ (target - chance) - ridge * estimate
        curvature = (design * weight[:, None]).T @ design + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        longest = float(np.abs(step).max())
        # A full step may overshoot where the classes are apart.
        estimate += step if longest <= 5.0 else step * (5.0 / longest)
        if longest < _CONVERGED:
            break
    points = np.where(varies, estimate[1:] / np.where(varies, scale, 1.0), 0.0)
    return Fitted(float(estimate[0] - points @ mean), points)


def threshold(scores: Floats, match: Bools, precision: float) -> float:
    """Return the least score at and above which a share of at least ``precision`` are matches."""
    if not len(scores):
        return _NONE
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(match[order])
    share = hits / np.arange(1, len(order) + 1)
    # Equal scores are taken together.
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    good = np.flatnonzero((share >= precision) & last)
    return float(scores[order[good[-1]]]) if len(good) else _NONE


def unseen_scores(sample: Sample, rows: Bools, start: Fitted | None = None) -> Floats:
    """Return log odds of the given rows, each from a model that saw none of its fold; NaN elsewhere."""
    scores = np.full(len(sample.match), np.nan)
    for fold in range(FOLDS):
        held_out = rows & (sample.fold == fold)
        if held_out.any():
            scores[held_out] = fit(sample, rows & (sample.fold != fold), start).log_odds(sample.columns[held_out])
    return scores


class Thresholds(NamedTuple):
    """Least log odds of each band."""

    weak: float
    possible: float
    strong: float


def thresholds(sample: Sample, rows: Bools, precision: float, start: Fitted | None = None) -> Thresholds:
    """Choose the bands on scores of models that did not see the row.

    *Possible* is the least score with the wanted precision, *strong* with 99 in 100 and clearly above every background
    party, *weak* with one in two.

    Args:
        sample: Labelled groups.
        rows: Those that may be used.
        precision: Wanted of *possible*.
        start: As for ``fit``.
    """
    use = rows & sample.known
    scores, match = unseen_scores(sample, rows, start)[use], sample.match[use]
    possible = threshold(scores, match, precision)
    strong = max(possible, threshold(scores, match, _STRONG_PRECISION))
    false = scores[sample.background[use] & ~match]
    if len(false):
        strong = max(strong, float(false.max()) + _STRONG_MARGIN)
    return Thresholds(min(possible, threshold(scores, match, _WEAK_PRECISION)), possible, strong)


class Judged(NamedTuple):
    """Which groups reach a band, by models that did not see them."""

    possible: Bools
    strong: Bools


def cross_validate(sample: Sample, precision: float) -> Judged:
    """Fit and choose the thresholds on all folds but one, and judge that one; once for each."""
    possible, strong = np.zeros(len(sample.match), dtype=np.bool_), np.zeros(len(sample.match), dtype=np.bool_)
    for fold in range(FOLDS):
        inside, outside = sample.fold != fold, sample.fold == fold
        if outside.any():
            fitted = fit(sample, inside)
            least = thresholds(sample, inside, precision, fitted)
            scores = fitted.log_odds(sample.columns[outside])
            possible[outside], strong[outside] = scores >= least.possible, scores >= least.strong
    return Judged(possible, strong)


def fit_weights(sample: Sample, precision: float) -> KindWeights:
    """Fit the model on a whole sample, with the bands that it implies."""
    everything = np.ones(len(sample.match), dtype=np.bool_)
    fitted = fit(sample, everything)
    least = thresholds(sample, everything, precision, fitted)
    return KindWeights(
        bias=fitted.bias,
        points={
            name: float(value)
            for name, value in zip(columns_of(sample.kind), fitted.points, strict=True)
            if abs(value) >= 5e-7
        },
        possible=least.possible,
        strong=least.strong,
        weak=least.weak,
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """How good the decisions on a sample were."""

    precision: float
    recall: float
    precision_ci95: tuple[float, float]
    recall_ci95: tuple[float, float]
    false_background: int
    """False matches among parties that match nothing."""


def measure(sample: Sample, taken: Bools, entities: Sequence[int], truths: Ints) -> Figures:
    """Return precision and recall of decisions, with intervals from resampling entities.

    Args:
        sample: Labelled groups.
        taken: Which of them were taken for matches.
        entities: Number of the entity of each row, from 0.
        truths: True pairs of each entity, those without a row included.
    """
    count = len(truths)
    entity = np.asarray(entities, dtype=np.int64)
    found = taken & sample.known
    right = np.bincount(entity[found & sample.match], minlength=count)
    wrong = np.bincount(entity[found & ~sample.match], minlength=count)
    low_high = _resampled(right, wrong, truths)
    return Figures(
        precision=_share(right.sum(), right.sum() + wrong.sum()),
        recall=_share(right.sum(), truths.sum()),
        precision_ci95=low_high[0],
        recall_ci95=low_high[1],
        false_background=int((found & ~sample.match & sample.background).sum()),
    )


def _resampled(right: Ints, wrong: Ints, truths: Ints) -> tuple[tuple[float, float], tuple[float, float]]:
    """The middle 95 of 100 of precision and recall when entities are drawn anew; rows of one entity go together."""
    active = np.flatnonzero(right + wrong + truths)
    if not len(active):
        return (0.0, 1.0), (0.0, 1.0)
    random = np.random.default_rng(2024)
    precision, recall = np.empty(_RESAMPLES), np.empty(_RESAMPLES)
    for at in range(_RESAMPLES):
        drawn = active[random.integers(0, len(active), len(active))]
        hits, misses, wanted = right[drawn].sum(), wrong[drawn].sum(), truths[drawn].sum()
        precision[at], recall[at] = _share(hits, hits + misses), _share(hits, wanted)
    return _middle(precision), _middle(recall)


def _middle(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
