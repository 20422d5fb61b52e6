"""The model: what it sees of equal keys, its bands, its file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from connector_psi.domain.naming import judging
from connector_psi.domain.naming.families import Corroborator, NameFamily
from connector_psi.domain.naming.judging import Band, KindWeights, Weights, columns_of, judge, matrix, packed
from connector_psi.domain.naming.keys import HeldKey, NameKey, Shape
from connector_psi.domain.records import TokenClass
from connector_psi.errors import ConfigError

PERSON = TokenClass.PERSON
F = NameFamily


def held(family: str, text: str, *keys: str, shape: Shape = Shape(0)) -> HeldKey:  # noqa: B008 - it cannot change
    return HeldKey(NameKey(family, text, keys), shape)


PAIR = held(F.PERSON_PAIR_SKELETON, "sa sb", "sa", "sb")
CORE = held(F.PERSON_PAIR_SKELETON, "sa sb", "sa", "sb", shape=Shape.CORE)
DAY = held(F.PERSON_BIRTH_DAY, "mA 05-17", "mA")
COUNTRY = held(F.PERSON_COUNTRY, "sa sb DE", "sa", "sb")
CITY = held(F.PERSON_CITY, "sa sb DE/x", "sa", "sb")


def weights(**points: float) -> Weights:
    named = {name.replace("__", "/").replace("_", "-"): value for name, value in points.items()}
    model = KindWeights(bias=-4.0, points=named, possible=0.0, strong=3.0, weak=-2.0)
    return Weights("test-1", "cp-name-1", {PERSON: model}, {PERSON: 320}, {PERSON: {"sa": 40, "sb": 5}})


def test_a_key_is_the_rarer_the_fewer_have_it() -> None:
    rare = weights()
    assert rare.rarity(PERSON, ["sa"]) == 3.0
    assert rare.rarity(PERSON, ["sb"]) == 6.0
    assert rare.rarity(PERSON, ["nobody"]) == 6.0
    assert rare.rarity(PERSON, ["sa", "sb"]) == 9.0


def test_columns_hold_what_is_equal_how_often_and_how_rare() -> None:
    rows = matrix(packed(weights(), PERSON, [[CORE, PAIR, PAIR], [DAY], []], [False, False, False]))
    row = dict(zip(columns_of(PERSON), rows[0].tolist(), strict=True))
    pair = F.PERSON_PAIR_SKELETON
    assert row[f"{pair}/whole"] == row[f"{pair}/core"] == 1.0
    assert row[f"{pair}/core/rarity"] == row[f"{pair}/rarest"] == 9.0
    assert row[f"{pair}/rarity"] == 27.0
    assert (row[f"{pair}/2"], row[f"{pair}/3"], row[f"{pair}/6"]) == (1.0, 1.0, 0.0)
    assert sum(value for name, value in row.items() if not name.startswith(pair)) == 0.0
    assert not rows[2].any()


def test_birth_dates_differ_only_where_both_are_known_and_no_key_of_one_is_equal() -> None:
    born = held(F.PERSON_PAIR_SKELETON, "sa sb", "sa", "sb", shape=Shape.BORN)
    cases = [([born], True, 1.0), ([born], False, 0.0), ([PAIR], True, 0.0), ([born, DAY], True, 0.0)]
    rows = matrix(packed(weights(), PERSON, [group for group, _, _ in cases], [asks for _, asks, _ in cases]))
    assert rows[:, -1].tolist() == [wanted for _, _, wanted in cases]


@pytest.mark.parametrize(
    ("points", "band"), [(1.0, Band.NOT_SHOWN), (2.5, Band.WEAK), (4.0, Band.POSSIBLE), (7.5, Band.STRONG)]
)
def test_points_fall_into_bands(points: float, band: Band) -> None:
    (verdict,) = judge(weights(person_pair_skeleton__whole=points), PERSON, [[PAIR]], [False])
    assert verdict.band is band
    assert verdict.points == pytest.approx(points - 4.0)


def test_day_and_month_without_the_year_are_told_apart_and_corroborate_nothing() -> None:
    year = held(F.PERSON_BIRTH_YEAR, "mA 1980", "mA")
    rows = matrix(packed(weights(), PERSON, [[PAIR, DAY], [PAIR, DAY, year], [PAIR, year]], [True] * 3))
    assert rows[:, -2].tolist() == [1.0, 0.0, 0.0]
    alone, both, only_year = judge(
        weights(person_pair_skeleton__whole=5.0), PERSON, [[PAIR, DAY], [PAIR, DAY, year], [PAIR, year]], [True] * 3
    )
    assert alone.corroborators == frozenset()
    assert both.corroborators == {Corroborator.BIRTH_DATE, Corroborator.BIRTH_YEAR}
    assert only_year.corroborators == {Corroborator.BIRTH_YEAR}


def test_many_groups_are_judged_as_each_alone() -> None:
    model = weights(person_pair_skeleton__whole=5.0, person_birth_day__whole=2.5, birth_differs=-3.0)
    groups = [[PAIR], [PAIR, DAY], [DAY], [], [CORE]]
    born = [True, True, False, True, True]
    together = judge(model, PERSON, groups, born)
    assert together == [judge(model, PERSON, [group], [asks])[0] for group, asks in zip(groups, born, strict=True)]


def test_places_and_keys_of_other_kinds_give_no_points() -> None:
    model = weights(person_pair_skeleton__whole=5.0)
    company = held(F.COMPANY_NAME, "x y", "x", "y")
    (alone,), (more,) = (judge(model, PERSON, [g], [False]) for g in ([PAIR], [PAIR, COUNTRY, CITY, company]))
    assert alone.points == more.points
    assert more.corroborators == {Corroborator.COUNTRY, Corroborator.CITY}
    assert alone.corroborators == frozenset()


def test_one_part_with_a_date_corroborates_nothing_unless_it_is_strong() -> None:
    date = held(F.PERSON_BIRTH_INITIAL, "a 1980-05-17")
    (weak,) = judge(weights(person_birth_initial__whole=5.0), PERSON, [[date]], [True])
    assert (weak.band, weak.corroborators) == (Band.POSSIBLE, frozenset())
    (strong,) = judge(weights(person_birth_initial__whole=9.0), PERSON, [[date]], [True])
    assert strong.corroborators == {Corroborator.BIRTH_DATE}
    (named,) = judge(weights(person_birth_initial__whole=5.0), PERSON, [[date, PAIR]], [True])
    assert named.corroborators == {Corroborator.BIRTH_DATE}


def test_without_an_equal_key_nothing_is_shown_whatever_the_bands_are() -> None:
    lenient = Weights("x", "y", {PERSON: KindWeights(1.0, {}, 0.0, 0.5, -9.0)}, {PERSON: 10}, {PERSON: {}})
    assert [each.band for each in judge(lenient, PERSON, [[], [COUNTRY], [PAIR]], [False] * 3)] == [
        Band.NOT_SHOWN,
        Band.NOT_SHOWN,
        Band.STRONG,
    ]


def test_without_a_model_nothing_is_shown() -> None:
    (verdict,) = judge(weights(), TokenClass.ORGANISATION, [[held(F.COMPANY_NAME, "x y", "x", "y")]], [False])
    assert (verdict.band, verdict.points, verdict.corroborators) == (Band.NOT_SHOWN, -math.inf, frozenset())


def test_shares_add_up_to_the_points() -> None:
    model = weights(person_pair_skeleton__whole=5.0, person_pair_skeleton__rarity=0.1, person_birth_day__whole=2.0)
    (verdict,) = judge(model, PERSON, [[PAIR, DAY]], [True])
    shares = judging.shares(model, PERSON, [PAIR, DAY], born=True)
    assert sum(share.points for share in shares) - 4.0 == pytest.approx(verdict.points)
    assert [abs(share.points) for share in shares] == sorted((abs(share.points) for share in shares), reverse=True)


def test_a_file_of_weights_comes_back_as_it_was() -> None:
    model = weights(person_pair_skeleton__whole=5.0)
    raw = judging.write_weights(model)
    read = judging.parse_weights(raw)
    assert (read.kinds, read.counts, read.total, read.version) == (model.kinds, model.counts, model.total, "test-1")
    assert judging.write_weights(read) == raw
    assert len(read.digest) == 32


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version": "x", "rules": "y", "kinds": {"ghost": {}}}',
        b'{"version": "x", "rules": "y", "kinds": {"person": {"bias": "secret value"}}}',
    ],
)
def test_what_is_no_file_of_weights_is_refused_without_its_text(raw: bytes) -> None:
    with pytest.raises(ConfigError) as refused:
        judging.parse_weights(raw)
    assert "secret" not in str(refused.value)


def test_weights_of_other_rules_are_refused() -> None:
    raw = judging.write_weights(weights(person_pair_skeleton__whole=5.0)).replace(b"cp-name-1", b"cp-name-0")
    with pytest.raises(ConfigError, match="other rules of names"):
        judging.parse_weights(raw)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    raw = json.loads(judging.write_weights(weights(person_pair_skeleton__whole=5.0)))
    text = json.dumps(raw).replace('"bias": -4.0', f'"bias": {number}')
    with pytest.raises(ConfigError):
        judging.parse_weights(text.encode())


def test_the_model_scores_a_hundred_thousand_groups_a_second() -> None:
    import time

    model = weights(person_pair_skeleton__whole=5.0)
    groups = packed(model, PERSON, [[CORE, PAIR, DAY]] * 20_000, [True] * 20_000)
    start = time.perf_counter()
    scores = matrix(groups) @ model.kinds[PERSON].vector(PERSON)
    elapsed = time.perf_counter() - start
    assert np.isfinite(scores).all()
    # A third of the promise, so that a busy machine does not fail it; the benchmark measures the promise itself.
    assert 20_000 / elapsed > 33_000
