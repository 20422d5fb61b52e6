"""Items of declarations after the fact: what a row yields, what takes it back, what is rejected, never in real time."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connector_psi.adapters import formats, surveillance
from connector_psi.domain.intake import Item
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.records import Field, Issue, Rank, Record, SourceSystem, Supersession, version_of
from connector_psi.domain.systems import SYSTEMS, SystemStatus
from tests.adapter_samples import BOX_A, codes
from tests.format_samples import lines, table

PAGE = Path(__file__).parents[3] / "docs" / "formats" / "surveillance.md"
MRN = "26BE000000000SYN01"
EORI = "BE0697449992"


def row(**changes: Any) -> dict[str, Any]:
    """An item with everything; None removes a key."""
    values: dict[str, Any] = {
        "surveillance_ref": f"{MRN}/1",
        "updated_at": "2026-05-18T04:00:00+02:00",
        "flow": "import",
        "accepted_on": "2026-05-17",
        "customs_office": "BE101000",
        "mrn": MRN,
        "declaration_number": "2026/BE/4711",
        "declarant_eori": EORI,
        "representative_eori": "NL123456789",
        "importer_eori": EORI,
        "exporter_eori": "US123456",
        "commodity_code": "8703231990",
        "origin": "JP",
        "dispatch": "AE",
        "destination": "BE",
        "net_mass_kg": "1450.50",
        "supplementary_units": "1",
        "goods_description": f"used car VIN WVWZZZ1JZXW000001 in {BOX_A}",
    }
    values.update(changes)
    return {key: value for key, value in values.items() if value is not None}


def read(data: bytes, name: str | None = None) -> list[Item]:
    return list(formats.read(io.BytesIO(data), file="f", format=name))


def test_a_row_yields_numbers_with_their_roles_and_what_may_be_disclosed() -> None:
    [record] = read(table(row()))
    assert isinstance(record, Record)
    assert [(each.type.value, each.value, each.role, each.source_path) for each in record.identifiers] == [
        ("mrn", MRN, "", "mrn"),
        ("eori", EORI, "declarant", "declarant_eori"),
        ("eori", "NL123456789", "representative", "representative_eori"),
        ("eori", EORI, "importer", "importer_eori"),
        ("eori", "US123456", "exporter", "exporter_eori"),
        ("vin", "WVWZZZ1JZXW000001", "", "goods_description#free_text"),
        ("container", BOX_A, "", "goods_description#free_text"),
    ]
    assert dict(record.fields) == {
        Field.GOODS_IDENTIFIERS: ("vin WVWZZZ1JZXW000001", f"container {BOX_A}"),
        Field.MRN: (MRN,),
        Field.REFERENCE: ("2026/BE/4711",),
        Field.PLACE: ("BE101000 import 2026-05-17",),
        Field.HS6: ("870323",),
        Field.ROUTE: ("AE", "BE"),
        Field.GOODS_DESCRIPTION: (
            f"used car VIN WVWZZZ1JZXW000001 in {BOX_A}",
            "commodity code 8703231990",
            "origin JP",
            "net mass in kg 1450.50",
            "supplementary units 1",
        ),
    }
    assert (record.source, record.source_ref) == (SourceSystem.SURVEILLANCE, f"{MRN}/1")
    assert record.category == "surveillance.declaration"
    assert record.category in CATEGORIES
    assert (record.message_ref, record.version) == ("", version_of(datetime(2026, 5, 18, 2, tzinfo=UTC)))
    assert record.valid_until is None
    assert not record.parties


def test_both_forms_say_the_same() -> None:
    rows = [row(), row(surveillance_ref="X-0001", mrn=None, goods_description=None, valid_until="2027-01-01T00:00:00Z")]
    [*of_csv] = read(table(*rows))
    [*of_json] = read(lines(*rows))
    told = [
        [(x.source_ref, x.fields, x.valid_until) for x in found if isinstance(x, Record)] for found in (of_csv, of_json)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 2


def test_a_row_needs_little() -> None:
    needed = ("surveillance_ref", "flow", "accepted_on", "customs_office", "commodity_code")
    [record] = read(table({name: row()[name] for name in needed} | {"exporter_eori": EORI}))
    assert isinstance(record, Record)
    assert record.version == 0
    for name in needed:
        found = read(lines(row(**{name: None})), "surveillance-jsonl")
        assert found == [Issue("f", 1, f"$.{name}", "field.missing", rejects_record=True)]
        without = table({key: value for key, value in row().items() if key != name})
        assert read(without, "surveillance-csv") == [Issue("f", 1, name, "csv.missing_column", rejects_record=True)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flow", "transit"),
        ("accepted_on", "2026-13-17"),
        ("accepted_on", "17.05.2026"),
        ("accepted_on", "1779000000"),
        ("accepted_on", "2026-05-17T00:00:00Z"),
        ("accepted_on", "20260517"),
        ("customs_office", "BE10100"),
        ("commodity_code", "87032"),
        ("commodity_code", "8703.23"),
        ("origin", "JPN"),
        ("net_mass_kg", "1,450"),
        ("net_mass_kg", "-1"),
        ("net_mass_kg", "1e9"),
        ("updated_at", "2026-05-18"),
        ("surveillance_ref", "a b c d"),
        ("goods_description", "x" * 513),
    ],
)
def test_a_value_of_the_wrong_form_rejects_the_row(name: str, value: str) -> None:
    bad, good = row(**{name: value}), row(surveillance_ref="OTHER-1")
    for found, place, line in (
        (read(table(bad, good)), name, 2),
        (read(lines(bad, good)), f"$.{name}", 1),
    ):
        issue, record = found
        assert issue == Issue("f", line, place, "field.invalid", rejects_record=True)
        assert isinstance(record, Record)
        assert record.source_ref == "OTHER-1"


@pytest.mark.parametrize("value", [1450.5, True, {"a": 1}, ["1"]])
def test_a_quantity_is_text(value: Any) -> None:
    [issue] = read(json.dumps(row(net_mass_kg=value)).encode())
    assert isinstance(issue, Issue)
    assert (issue.path, issue.code) == ("$.net_mass_kg", "field.invalid")


def test_a_row_without_any_usable_number_is_no_record() -> None:
    numbers = dict.fromkeys(name for name in row() if name.endswith("_eori"))
    bare = row(**numbers, mrn=None, goods_description="used car")
    assert read(lines(bare)) == [Issue("f", 1, "$", "surveillance.no_identifier", rejects_record=True)]
    [issue] = read(table(bare))
    assert isinstance(issue, Issue)
    assert (issue.line, issue.code, issue.rejects_record) == (2, "surveillance.no_identifier", True)
    found = read(lines({**bare, "mrn": "4711", "importer_eori": "??"}))
    assert [(x.path, x.code, x.rejects_record) for x in found if isinstance(x, Issue)] == [
        ("$.mrn", "mrn.length", False),
        ("$.importer_eori", "eori.characters", True),
    ]
    issue, record = read(lines({**bare, "mrn": "4711", "importer_eori": EORI}))
    assert isinstance(issue, Issue)
    assert not issue.rejects_record
    assert isinstance(record, Record)


def test_a_later_row_replaces_and_a_withdrawn_one_takes_back() -> None:
    old, new, end = read(
        table(
            row(),
            row(updated_at="2026-05-19T02:00:00Z"),
            {"surveillance_ref": f"{MRN}/1", "updated_at": "2026-05-20T02:00:00Z", "withdrawn": "true"},
        )
    )
    assert isinstance(old, Record)
    assert isinstance(new, Record)
    assert old.source_ref == new.source_ref
    assert old.version < new.version
    when = version_of(datetime(2026, 5, 20, 2, tzinfo=UTC), Rank.WITHDRAWAL)
    assert end == Supersession(SourceSystem.SURVEILLANCE, f"{MRN}/1", when, withdrawn=True, reason="deleted")


def test_the_system_is_for_batches() -> None:
    system = SYSTEMS["SURVEILLANCE"]
    assert system.status is SystemStatus.BATCH_ONLY
    assert not system.real_time


# The page


def test_the_page_names_every_column_and_code_and_no_other() -> None:
    page = PAGE.read_text()
    columns = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    assert columns == set(surveillance.COLUMNS)
    assert [code for code in surveillance.CODES if f"`{code}`" not in page] == []


def test_the_examples_of_the_page_are_read() -> None:
    blocks = re.findall(r"```(text|json)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found = {kind: read(block.encode()) for kind, block in blocks}
    assert [type(each) for each in found["text"]] == [Record, Record, Supersession]
    assert [type(each) for each in found["json"]] == [Record]
    assert codes(each for items in found.values() for each in items if isinstance(each, Issue)) == []
