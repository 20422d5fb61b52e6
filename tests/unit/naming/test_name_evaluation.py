"""Reading labelled names, joining them by keys, fitting and measuring. Every name is invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connector_psi.domain.naming import evaluating, fitting, judging
from connector_psi.domain.naming.fitting import FOLDS, Sample, threshold
from connector_psi.domain.naming.labelled import Labelled, fold_of, read_dataset
from connector_psi.domain.records import TokenClass
from connector_psi.errors import ConfigError
from tests.invented_names import write_watchlist

PERSON, ORGANISATION = TokenClass.PERSON, TokenClass.ORGANISATION


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "watchlist"
    write_watchlist(path, alerts=400, parties=1500)
    return path


def of_label(folder: Path, label: str) -> Labelled:
    return next(labelled for labelled in read_dataset(folder).sets if labelled.label == label)


def made(rows: int, seed: int = 3) -> Sample:
    """Groups of which two columns decide."""
    random = np.random.default_rng(seed)
    columns = np.zeros((rows, len(judging.columns_of(PERSON))))
    columns[:, 0] = random.random(rows) < 0.5
    columns[:, 1] = random.normal(size=rows)
    odds = -2 + 3 * columns[:, 0] + 2 * columns[:, 1]
    match = random.random(rows) < 1 / (1 + np.exp(-odds))
    everything = np.ones(rows, dtype=np.bool_)
    return Sample(PERSON, columns, match, everything, np.arange(rows) % FOLDS, ~match)


def test_the_fit_finds_the_points_that_made_the_data() -> None:
    sample = made(20_000)
    fitted = fitting.fit(sample, sample.known)
    assert fitted.bias == pytest.approx(-2, abs=0.15)
    assert fitted.points[0] == pytest.approx(3, abs=0.15)
    assert fitted.points[1] == pytest.approx(2, abs=0.1)
    assert np.abs(fitted.points[2:]).max() == 0.0


def test_other_birth_dates_never_speak_for_a_match() -> None:
    sample = made(4_000)
    columns = sample.columns.copy()
    columns[:, -1] = sample.match
    fitted = fitting.fit(sample._replace(columns=columns), sample.known)
    assert fitted.points[-1] <= 0


def test_unknown_pairs_are_not_fitted_to() -> None:
    sample = made(4_000)
    known = np.arange(4_000) % 2 == 0
    turned = sample._replace(match=np.where(known, sample.match, ~sample.match), known=known)
    assert fitting.fit(turned, sample.known).points[0] == pytest.approx(fitting.fit(sample, known).points[0])


def test_a_threshold_has_the_wanted_precision_and_takes_equal_scores_together() -> None:
    scores = np.array([5.0, 4.0, 4.0, 3.0, 2.0])
    match = np.array([True, True, False, True, False])
    assert threshold(scores, match, 1.0) == 5.0
    assert threshold(scores, match, 0.75) == 3.0
    assert threshold(scores, match, 0.6) == 2.0
    assert threshold(scores, ~match, 1.0) > 5.0
    assert threshold(scores[:0], match[:0], 0.9) > 1e6


def test_scores_come_from_models_that_did_not_see_the_row() -> None:
    sample = made(2_000)
    everything = np.ones(2_000, dtype=np.bool_)
    scores = fitting.unseen_scores(sample, everything)
    # Labels of one fold turned around change the models of the others, never their own.
    fold = sample.fold == 2
    turned = sample._replace(match=np.where(fold, ~sample.match, sample.match))
    again = fitting.unseen_scores(turned, everything)
    assert np.array_equal(scores[fold], again[fold])
    assert not np.array_equal(scores[~fold], again[~fold])


def test_bands_contain_one_another_and_strong_excludes_the_background() -> None:
    sample = made(5_000)
    model = fitting.fit_weights(sample, 0.9)
    assert model.weak <= model.possible <= model.strong
    everything = np.ones(5_000, dtype=np.bool_)
    assert not ((fitting.unseen_scores(sample, everything) >= model.strong) & ~sample.match).any()


def test_intervals_hold_the_figure_and_narrow_with_the_data() -> None:
    widths = []
    for rows in (500, 8_000):
        sample = made(rows)
        taken = sample.columns[:, 1] > 0
        found = fitting.measure(sample, taken, list(range(rows)), sample.match.astype(np.int64))
        low, high = found.precision_ci95
        assert low <= found.precision <= high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_labelled_lists_are_read_by_kind(folder: Path) -> None:
    found = read_dataset(folder)
    assert (found.layout, [labelled.label for labelled in found.sets]) == ("watchlist_link", ["person", "organisation"])
    assert found.problems == []
    people = found.sets[0]
    assert len(people.alerts) == 300
    assert all(PERSON in party.kinds for party in people.parties if party.names)
    assert len(people.truth) == sum(not b for b in people.background())


def test_entities_stay_in_one_fold() -> None:
    assert {fold_of("C-00000000000a", FOLDS) for _ in range(3)} == {fold_of("C-00000000000a", FOLDS)}
    assert len({fold_of(f"C-{n:012x}", FOLDS) for n in range(60)}) == FOLDS


@pytest.mark.parametrize(("label", "recall"), [("person", 0.6), ("organisation", 0.6)])
def test_cross_validation_keeps_the_wanted_precision(folder: Path, label: str, recall: float) -> None:
    found = evaluating.evaluate_set(of_label(folder, label), None)
    assert found["precision"] >= 0.9
    assert found["recall"] >= recall
    assert found["ci95"]["recall"][0] <= found["recall"] <= found["ci95"]["recall"][1]
    assert found["tokens_per_name_most"] <= 16
    assert set(found) >= {
        "precision",
        "recall",
        "recall_reachable",
        "ci95",
        "false_per_background_party",
        "tokens_per_name",
    }


def test_the_same_data_give_the_same_figures(folder: Path) -> None:
    people = of_label(folder, "person")
    assert evaluating.evaluate_set(people, None) == evaluating.evaluate_set(people, None)


def test_given_weights_are_scored_and_nothing_is_fitted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = evaluating.fit_datasets([read_dataset(folder)], "test-1", {})
    again = judging.parse_weights(judging.write_weights(weights))

    def never(*_: object) -> None:
        raise AssertionError("fitted")

    monkeypatch.setattr(fitting, "fit", never)
    found = evaluating.evaluate_set(of_label(folder, "person"), again)
    assert found["precision"] >= 0.9
    assert found["recall"] >= 0.6


def test_weights_hold_no_name_and_no_rare_key(folder: Path) -> None:
    raw = judging.write_weights(evaluating.fit_datasets([read_dataset(folder)], "test-1", {})).decode().lower()
    for labelled in read_dataset(folder).sets:
        for alert in labelled.alerts:
            assert not any(name.lower() in raw for name in alert.names)
    read = judging.parse_weights(raw.encode())
    assert all(count >= 5 for counts in read.counts.values() for count in counts.values())


def test_lists_can_be_left_out_with_their_parties(folder: Path) -> None:
    whole, part = read_dataset(folder), read_dataset(folder, without_sources=["EU"])
    for all_of, some in zip(whole.sets, part.sets, strict=True):
        assert len(some.alerts) < len(all_of.alerts)
        assert len(some.truth) < len(all_of.truth)
    rows = (folder / "alerts.csv").read_text(encoding="utf-8").splitlines()
    left = sum(row.endswith((",UN", ",OFAC")) for row in rows)
    assert sum(len(labelled.alerts) for labelled in part.sets) == left


def test_bad_rows_are_reported_with_their_place_and_the_rest_is_read(folder: Path, tmp_path: Path) -> None:
    for name in ("alerts", "parties", "truth", "ignore"):
        text = (folder / f"{name}.csv").read_text(encoding="utf-8")
        (tmp_path / f"{name}.csv").write_text(text + ("P-cut\n" if name == "parties" else ""), encoding="utf-8")
    found = read_dataset(tmp_path)
    assert [str(problem) for problem in found.problems] == ["parties.csv: row 1501: column person_type is missing"]
    assert len(found.sets[0].parties) == len(read_dataset(folder).sets[0].parties)


def test_a_folder_of_no_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no layout"):
        read_dataset(tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        read_dataset(tmp_path / "absent")
    (tmp_path / "pairs.csv").write_bytes(b"component,schema\xff")
    with pytest.raises(ConfigError, match="not CSV in UTF-8"):
        read_dataset(tmp_path)


def test_pairs_are_judged_alone(tmp_path: Path) -> None:
    lines = ["component,schema,name1,name2,is_match"]
    lines += [f"NP-{n},Person,Ottokar Brunn{n},Brunn{n} Ottokar,true" for n in range(40)]
    lines += [f"NP-x{n},Person,Ottokar Brunn{n},Ottokar Zubkin{n},false" for n in range(40)]
    lines += ["NP-v,Vessel,Zvezda,Zvezda,true"]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (people,) = read_dataset(tmp_path).sets
    assert (len(people.alerts), len(people.truth), len(people.differ)) == (80, 40, 40)


def test_letters_are_compared_with_chance(tmp_path: Path) -> None:
    rows = [("Зубкин", "zubkin", "5", "1", "100"), ("Горкин", "gorkin", "1", "1", "100"), ("Зубкин", "zoobkin", "1", "0", "80"),
            ("Миров", "mirov", "9", "1", "100"), ("Миров", "x", "many", "0", "80")]  # fmt: skip
    text = "native,latin,count,is_head,ratio_to_head\n" + "\n".join(map(",".join, rows)) + "\n"
    (tmp_path / "russian.csv").write_text(text, encoding="utf-8")
    found = read_dataset(tmp_path)
    assert [str(problem) for problem in found.problems] == ["russian.csv: row 5: count or ratio_to_head is no number"]
    figures = evaluating.evaluate_letters(found.letters[0])
    assert (figures["pairs"], figures["recall"]) == (3, 1.0)
    assert figures["false_per_background_party"] < 0.4


def test_nothing_to_fit_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "russian.csv").write_text("native,latin,count,is_head,ratio_to_head\nж,zh,2,1,100\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing to fit to"):
        evaluating.fit_datasets([read_dataset(tmp_path)], "test-1", {})
