from __future__ import annotations

from typing import Any

import pytest

from connector_psi.domain.evaluation import Counts, count_objects, matches_of
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import FormatError


def evaluate_objects(*arguments: Any, **options: Any) -> dict[str, dict[str, dict[str, int]]]:
    """What ``identifiers evaluate --json`` prints."""
    return matches_of(count_objects(*arguments, **options))


ALERTS = [
    {"alert_id": "C1", "object_type": "container", "number": "CSQU3054383", "extra": ""},
    {"alert_id": "C2", "object_type": "container", "number": "csqu 305438 3", "extra": ""},
    {"alert_id": "P1", "object_type": "plate", "number": "LÖKS6042", "extra": "DE"},
    {"alert_id": "V1", "object_type": "vehicle_vin", "number": "WVWZZZ1JZ3W386752", "extra": ""},
    {"alert_id": "S1", "object_type": "vessel", "number": "9074729", "extra": "AMBER"},
    {"alert_id": "S2", "object_type": "vessel", "number": "not a number", "extra": "PEARL"},
]


def declared(object_type: str, value: str, variation: str, label: str = "", extra: str = "") -> dict[str, str]:
    return {
        "declared_id": "D",
        "object_type": object_type,
        "value": value,
        "extra": extra,
        "true_alert_id": label,
        "variation": variation,
    }


def test_counts_by_type_and_variation() -> None:
    result = evaluate_objects(
        ALERTS[:1] + ALERTS[2:],
        [
            declared("container", "CSQU3O54383", "ocr", "C1"),
            declared("container", "CSQU305438", "no_check_digit", "C1"),
            declared("container", "CSQU3054383", "none"),
            declared("container", "CSQU3054383", "typo", "C9"),
            declared("plate", "LÖ-KS 6042", "separated", "P1", "DE"),
            declared("plate", "LÖ-KS 6042", "no_country", "P1"),
            declared("plate", "LÖ-KS 6042", "none", "", "AT"),
            declared("vehicle_vin", "wvwzzz1jz3w386752", "lower", "V1"),
            declared("vessel", "IMO:9074729", "renamed", "S1", "EMERALD"),
            declared("vessel", "", "name_only", "S1", "AMBER"),
            declared("vessel", "not a number", "name_only", "S2", "PEARL"),
        ],
    )
    assert result == {
        "container": {
            "no_check_digit": {"n": 1, "matched": 0, "false_matches": 0},
            "none": {"n": 1, "matched": 0, "false_matches": 1},
            "ocr": {"n": 1, "matched": 1, "false_matches": 0},
            "typo": {"n": 1, "matched": 0, "false_matches": 1},
        },
        "plate": {
            "no_country": {"n": 1, "matched": 0, "false_matches": 0},
            "none": {"n": 1, "matched": 0, "false_matches": 0},
            "separated": {"n": 1, "matched": 1, "false_matches": 0},
        },
        "vehicle_vin": {"lower": {"n": 1, "matched": 1, "false_matches": 0}},
        "vessel": {
            "name_only": {"n": 2, "matched": 0, "false_matches": 0},
            "renamed": {"n": 1, "matched": 1, "false_matches": 0},
        },
    }


def test_check_digit_is_completed_only_for_a_source_that_leaves_it_out() -> None:
    row = declared("container", "CSQU305438", "no_check_digit", "C1")
    assert evaluate_objects(ALERTS[:1], [row])["container"]["no_check_digit"]["matched"] == 0
    completed = evaluate_objects(ALERTS[:1], [row], complete_check_digit=True)
    assert completed["container"]["no_check_digit"] == {"n": 1, "matched": 1, "false_matches": 0}


def test_two_alerts_on_one_object_are_one_true_and_one_false_match() -> None:
    result = evaluate_objects(ALERTS[:2], [declared("container", "CSQU3054383", "canonical", "C2")])
    assert result["container"]["canonical"] == {"n": 1, "matched": 1, "false_matches": 1}


@pytest.mark.parametrize(
    ("object_type", "number", "extra", "value"),
    [
        ("vehicle_vin", "WVWZZZ1JZ3W386752", "", "3w 386752"),
        ("vin", "WVWZZZ1JZ3W386752", "", "3w 386752"),
        ("plate", "LÖKS6042", "DE", "LÖ-KS 6042"),
        ("engine", "2003123456", "Volvo", "2003 123456"),
        ("firearm", "C12345", "Colt/.45 ACP", "C12345"),
    ],
)
def test_what_does_not_suffice_alone_meets_and_does_not_match(
    object_type: str, number: str, extra: str, value: str
) -> None:
    alerts = [{"alert_id": "A1", "object_type": object_type, "number": number, "extra": extra}]
    rows = [
        declared(object_type, number, "whole", "A1", extra),
        declared(object_type, value, "part", "A1"),
        declared(object_type, value, "other"),
        declared(object_type, "?", "unusable", "A1"),
    ]
    assert count_objects(alerts, rows)[object_type] == {
        # What matched is not counted a second time.
        "whole": Counts(n=1, matched=1),
        "part": Counts(n=1, met=1),
        "other": Counts(n=1, false_met=1),
        "unusable": Counts(n=1),
    }
    assert evaluate_objects(alerts, rows)[object_type]["part"] == {"n": 1, "matched": 0, "false_matches": 0}


def test_a_type_that_never_suffices_alone_only_meets() -> None:
    alerts = [{"alert_id": "A1", "object_type": "seal", "number": "ML-0012", "extra": ""}]
    assert count_objects(alerts, [declared("seal", "ml 0012", "spaced", "A1")])["seal"]["spaced"] == Counts(1, met=1)


def test_a_ship_is_found_by_its_imo_number_behind_an_eni() -> None:
    alerts = [{"alert_id": "S1", "object_type": "vessel", "number": "9074729", "extra": "AMBER"}]
    assert count_objects(alerts, [declared("eni", "99074729", "eni", "S1")])["eni"]["eni"] == Counts(n=1, matched=1)


@pytest.mark.parametrize(
    ("object_type", "number", "extra"),
    [
        ("identity_document", "12AB34567", "FR/P"),
        ("banknote", "X12345678901", "EUR/50"),
        ("firearm", "C12345", "Colt/.45 ACP"),
        ("item", "C02XL0ABJG5J", "AEG/Telefunken"),
        ("hull", "ABC00042A399", "GB"),
        ("phone", "030 231251234", "DE"),
        ("vat", "136695976", "DE"),
    ],
)
def test_extra_holds_what_stands_before_the_number(object_type: str, number: str, extra: str) -> None:
    alerts = [{"alert_id": "A1", "object_type": object_type, "number": number, "extra": extra}]
    assert count_objects(alerts, [declared(object_type, number, "same", "A1", extra)])[object_type]["same"].matched


@pytest.mark.parametrize("kind", list(IdentifierType))
def test_every_identifier_type_may_be_labelled(kind: IdentifierType) -> None:
    assert evaluate_objects([], [declared(kind.value, "", "empty")])[kind.value]["empty"]["n"] == 1


def test_no_rows_give_an_empty_table() -> None:
    assert evaluate_objects([], []) == {}
    assert evaluate_objects(iter(ALERTS), iter(())) == {}


@pytest.mark.parametrize("column", ["alert_id", "object_type", "number", "extra"])
def test_missing_alert_column(column: str) -> None:
    row = {key: value for key, value in ALERTS[0].items() if key != column}
    with pytest.raises(FormatError, match=f"alerts: row 2: column {column} is missing"):
        evaluate_objects([ALERTS[0], row], [])


@pytest.mark.parametrize("column", ["object_type", "value", "extra", "true_alert_id", "variation"])
def test_missing_declared_column(column: str) -> None:
    row = {key: value for key, value in declared("container", "CSQU3054383", "none").items() if key != column}
    with pytest.raises(FormatError, match=f"declared: row 1: column {column} is missing"):
        evaluate_objects([], [row])


def test_unknown_object_type_is_not_repeated_in_the_error() -> None:
    with pytest.raises(FormatError, match="declared: row 1: column object_type") as caught:
        evaluate_objects([], [declared("SECRET9", "1", "none")])
    assert "SECRET9" not in str(caught.value)
