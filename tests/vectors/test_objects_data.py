"""Labelled containers, vehicles, plates and vessels: alerts against identifiers as declarations carry them.

Source: the development half of the labelled object data, 3,132 alerts and 10,676 declared rows, all of which run. The data is not part
of the project; its README names the sources and licences. The figures below are the measured ones: a change of a rule
that moves one of them needs a reason.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from connector_psi.domain.evaluation import evaluate_objects

# (n, matched, false_matches)
MEASURED = {
    "container": {
        "canonical": (178, 178, 0),
        "lower": (51, 51, 0),
        "near_miss": (299, 0, 0),
        # This format does not leave the check digit out by definition (most rows have it), so it is not computed.
        "no_check_digit": (71, 0, 0),
        "none": (2952, 0, 0),
        "ocr": (57, 57, 0),
        "spaced": (155, 155, 0),
        "transposed": (40, 0, 0),
        "typo": (46, 0, 0),
    },
    "plate": {
        "ascii_umlaut": (22, 22, 0),
        "canonical": (66, 66, 0),
        "lower": (23, 23, 0),
        "no_country": (33, 0, 0),  # not sufficient alone
        "none": (1222, 0, 0),
        "ocr": (17, 17, 0),
        "separated": (93, 93, 0),
        "typo": (18, 0, 0),
    },
    "vehicle_vin": {
        "canonical": (189, 189, 0),
        "last8": (36, 0, 0),  # not sufficient alone
        "lower": (33, 33, 0),
        "none": (1521, 0, 0),
        "ocr": (47, 47, 0),
        "spaced": (57, 57, 0),
        "typo": (44, 0, 0),
    },
    "vessel": {
        "imo_plain": (166, 166, 0),
        "imo_prefixed": (174, 174, 0),
        # One wrong digit gives the valid number of another listed ship: the weights of IMO numbers do not find every such error.
        "imo_typo": (61, 0, 1),
        "name_only": (43, 0, 0),
        "none": (2962, 0, 0),
    },
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


def test_measured_figures(tables: tuple[list[dict[str, str]], list[dict[str, str]]]) -> None:
    alerts, declared = tables
    assert (len(alerts), len(declared)) == (3132, 10676)
    found = {
        object_type: {name: (cell["n"], cell["matched"], cell["false_matches"]) for name, cell in variations.items()}
        for object_type, variations in evaluate_objects(alerts, declared).items()
    }
    assert found == MEASURED


def test_completing_check_digits_finds_the_rest_and_nothing_false(
    tables: tuple[list[dict[str, str]], list[dict[str, str]]],
) -> None:
    completed = evaluate_objects(*tables, complete_check_digit=True)["container"]
    assert completed["no_check_digit"] == {"n": 71, "matched": 71, "false_matches": 0}
    assert sum(cell["false_matches"] for cell in completed.values()) == 0
