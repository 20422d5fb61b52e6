"""Labelled containers, vehicles, plates and vessels: alerts against identifiers as declarations carry them.

Source: the development half of the labelled object data, 3,132 alerts and 10,676 declared rows, all of which run. The data is not part
of the project; its README names the sources and licences. The figures are those of docs/identifiers.md: a change of a
rule that moves one of them needs a reason.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from connector_psi.domain.evaluation import count_objects, matches_of


def evaluate_objects(*arguments: Any, **options: Any) -> dict[str, dict[str, dict[str, int]]]:
    """What ``identifiers evaluate --json`` prints."""
    return matches_of(count_objects(*arguments, **options))


PAGE = Path(__file__).resolve().parents[2] / "docs" / "identifiers.md"
# type, variation: n, matched, false matches, met
DOCUMENTED = {
    (kind, variation): tuple(map(int, figures.split(" | ")))
    for kind, variation, figures in re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| ([\d |]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    path = folder / "data" / "objects" / name
    if not path.is_file():
        pytest.skip(f"labelled object data is absent: {name}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tables(shared: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    return rows(shared, "alerts.csv"), rows(shared, "declared.csv")


def test_the_documented_figures_are_those_of_a_fresh_run(
    tables: tuple[list[dict[str, str]], list[dict[str, str]]],
) -> None:
    alerts, declared = tables
    assert (len(alerts), len(declared)) == (3132, 10676)
    counts = count_objects(alerts, declared)
    assert {
        (kind, variation): (cell.n, cell.matched, cell.false_matches, cell.met)
        for kind, variations in counts.items()
        for variation, cell in variations.items()
    } == DOCUMENTED
    assert sum(cell.false_met for variations in counts.values() for cell in variations.values()) == 0
    evaluated = evaluate_objects(alerts, declared)
    assert all(
        evaluated[kind][variation] == {"n": n, "matched": matched, "false_matches": false}
        for (kind, variation), (n, matched, false, _) in DOCUMENTED.items()
    )


@pytest.mark.parametrize("variation", ["canonical", "lower", "spaced", "separated", "imo_plain", "imo_prefixed", "ocr"])
def test_every_row_that_only_is_written_differently_is_matched(variation: str) -> None:
    figures = [row for (_, name), row in DOCUMENTED.items() if name == variation]
    assert figures
    assert all(matched == n and not false for n, matched, false, _ in figures)


def test_no_near_miss_matches() -> None:
    assert [row[1:] for (_, name), row in DOCUMENTED.items() if name == "near_miss"] == [(0, 0, 0)]


def test_completing_check_digits_finds_the_rest_and_nothing_false(
    tables: tuple[list[dict[str, str]], list[dict[str, str]]],
) -> None:
    completed = evaluate_objects(*tables, complete_check_digit=True)["container"]
    assert completed["no_check_digit"] == {"n": 71, "matched": 71, "false_matches": 0}
    assert sum(cell["false_matches"] for cell in completed.values()) == 0
