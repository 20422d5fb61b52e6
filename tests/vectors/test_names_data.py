"""What is promised of name matching, measured on labelled data by the evaluation in its default setting."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from connector_psi.domain.naming import evaluating
from connector_psi.domain.naming.labelled import read_dataset
from connector_psi.domain.naming.shipped import load_shipped

read = cache(read_dataset)


@cache
def figures(folder: Path, label: str) -> dict[str, Any]:
    (labelled,) = [each for each in read(folder).sets if each.label == label]
    return evaluating.evaluate_set(labelled, None)


@pytest.mark.parametrize(
    ("dataset", "label", "precision", "recall"),
    [
        ("watchlist_link", "person", 0.95, 0.80),
        ("watchlist_link", "organisation", 0.92, 0.45),
        ("febrl", "person", 0.96, 0.94),
    ],
)
def test_precision_and_recall(shared: Path, dataset: str, label: str, precision: float, recall: float) -> None:
    found = figures(shared / "data" / dataset, label)
    assert found["precision"] >= precision
    assert found["recall"] >= recall
    assert found["tokens_per_name_most"] <= 16


@pytest.mark.parametrize("label", ["person", "organisation"])
def test_with_a_corroborator_no_background_party_matches(shared: Path, label: str) -> None:
    found = figures(shared / "data" / "watchlist_link", label)
    assert found["corroborated"]["false_background_parties"] == 0
    assert found["background_parties"] > 5_000


@pytest.mark.parametrize("label", ["person", "organisation"])
def test_the_shipped_weights_match_no_background_party_either(shared: Path, label: str) -> None:
    (labelled,) = [s for s in read(shared / "data" / "watchlist_link").sets if s.label == label]
    found = evaluating.evaluate_set(labelled, load_shipped("cp-names-1"))
    assert found["corroborated"]["false_background_parties"] == 0
    assert found["precision"] >= 0.92
    assert found["recall"] >= 0.45


@pytest.mark.parametrize(
    ("script", "recall"),
    [("russian", 0.95), ("arabic", 0.85), ("hebrew", 0.75), ("chinese", 0.75), ("korean", 0.75)],
)
def test_parts_meet_across_scripts(shared: Path, script: str, recall: float) -> None:
    (letters,) = [each for each in read(shared / "data" / "transliteration").letters if each.label == script]
    found = evaluating.evaluate_letters(letters)
    assert found["recall"] >= recall
    # By chance hardly any two parts do.
    assert found["false_per_background_party"] <= 0.006


def test_pairs_that_were_made_to_mislead_are_measured_too(shared: Path) -> None:
    """Siblings, swapped forenames, near misses: half of the matches are found at a precision far below that of lists."""
    for labelled in read(shared / "data" / "name_pairs").sets:
        found = evaluating.evaluate_set(labelled, load_shipped("cp-names-1"))
        assert found["recall"] >= 0.45
        assert found["precision"] >= 0.5


def test_the_shipped_weights_hold_no_listed_name(shared: Path) -> None:
    raw = Path(evaluating.__file__).with_name("weights").joinpath("cp-names-1.json").read_text(encoding="utf-8").lower()
    for labelled in read(shared / "data" / "watchlist_link").sets:
        for alert in labelled.alerts:
            assert not any(len(name) > 5 and name.lower() in raw for name in alert.names)
