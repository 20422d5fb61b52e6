"""SIS alerts from the project's exchange format."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from connector_psi.adapters import sis
from connector_psi.domain.records import Field, SourceSystem
from tests.adapter_samples import BAD_BOX, BOX_A, alert, codes, documentation, jsonl, read, values

PLATE = {"plate": "B-AB 1234", "plate_country": "DE"}
DOCUMENT = {"document_number": "12AB34567", "document_type": "passport", "document_country": "FR"}
OBJECTS = [
    (
        "a",
        {"type": "vehicle", "vin": "WVWZZZ1JZXW000001", **PLATE},
        [("vin", "WVWZZZ1JZXW000001"), ("plate", "DE:BAB1234")],
    ),
    ("b", {"type": "trailer", **PLATE}, [("plate", "DE:BAB1234")]),
    ("c", {"type": "caravan", "vin": "WVWZZZ1JZXW000001"}, [("vin", "WVWZZZ1JZXW000001")]),
    ("e", {"type": "boat", "imo": "IMO 9074729"}, [("imo", "9074729")]),
    ("g", {"type": "container", "container_number": "csqu 305438 3"}, [("container", BOX_A)]),
    ("h", {"type": "aircraft", "aircraft_registration": "D-ABCD"}, [("aircraft", "DABCD")]),
    ("k", {"type": "blank_document", **DOCUMENT}, [("identity_document", "FR/P/12AB34567")]),
    ("l", {"type": "issued_document", **DOCUMENT}, [("identity_document", "FR/P/12AB34567")]),
    ("m", {"type": "vehicle_registration", **PLATE}, [("plate", "DE:BAB1234")]),
]


def as_csv(*alerts: dict) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(sis.COLUMNS)
    for line in alerts:
        cells = []
        for column in sis.COLUMNS.values():
            value = line
            for key in column.keys:
                value = value.get(key, "") if value != "" else ""
            cells.append(
                "|".join(value) if isinstance(value, list) else {True: "true", False: "false"}.get(value, value)
            )
        writer.writerow(cells)
    return out.getvalue().encode()


@pytest.mark.parametrize(("category", "sought", "expected"), OBJECTS)
def test_each_type_of_object_in_both_forms(category: str, sought: dict[str, Any], expected: Any) -> None:
    line = alert(category=category, object=sought)
    for data, form, places in (
        (jsonl(line), "sis-jsonl", {f"$.object.{key}" for key in sought}),
        (as_csv(line), "sis-csv", set(sought)),
    ):
        [record], issues = read(data, form)
        assert issues == []
        assert [(x.type.value, x.value) for x in record.identifiers] == expected
        assert {x.source_path for x in record.identifiers} <= places
        assert (record.source, record.source_ref, record.category) == (
            SourceSystem.SIS,
            "DE0000000000001",
            f"sis.38.{category}",
        )
        assert record.fields[Field.OBJECT_TYPE] == (sought["type"],)
        assert record.fields[Field.OBJECT_IDENTIFIERS] == tuple(f"{kind} {value}" for kind, value in expected)


def test_everything_an_alert_can_say() -> None:
    line = alert(
        reason="vol aggravé\u00a0: conteneur", offence="trafficking", warnings=["armed", "violent"],
        valid_until="2027-01-01T00:00:00+01:00", hidden=True, article="38(2)(g)",
    )  # fmt: skip
    both = [read(jsonl(line), "sis-jsonl")[0][0], read(as_csv(line), "sis-csv")[0][0]]
    assert both[0].fields == both[1].fields
    for record in both:
        assert record.hidden is True
        assert record.valid_until == datetime(2026, 12, 31, 23, 0, tzinfo=UTC)
        assert record.category == "sis.38.g"
        assert dict(record.fields) == {
            Field.OBJECT_IDENTIFIERS: (f"container {BOX_A}",),
            Field.OBJECT_TYPE: ("container",),
            Field.ACTION: ("seizure",),
            Field.SCHENGEN_ID: ("DE0000000000001",),
            Field.ISSUING_STATE: ("DE",),
            Field.SIRENE_CONTACT: ("SIRENE DE, duty desk",),
            Field.ALERT_REASON: ("vol aggravé\u00a0: conteneur",),
            Field.OFFENCE: ("trafficking",),
            Field.WARNINGS: ("armed", "violent"),
        }


def test_article_36_is_one_category() -> None:
    [record], issues = read(jsonl(alert(article="36", action="discreet_check")), "sis-jsonl")
    assert (record.category, issues) == ("sis.36", [])


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"article": "26", "object": None}, "sis.person_alert_not_supported_yet", "$.article"),
        ({"article": "32"}, "sis.person_alert_not_supported_yet", "$.article"),
        ({"article": "36", "object": None}, "sis.person_alert_not_supported_yet", "$.article"),
        ({"article": "24"}, "sis.article_not_supported", "$.article"),
        ({"article": "38(2)"}, "sis.article_not_supported", "$.article"),
        ({"article": "38\n"}, "sis.article_not_supported", "$.article"),
        ({"article": 38}, "field.invalid", "$.article"),
        ({"article": "38(2)(a)"}, "sis.category_mismatch", "$.category"),
        ({"category": "a"}, "sis.category_mismatch", "$.category"),
        (
            {
                "article": "36",
                "action": "discreet_check",
                "category": "m",
                "object": {"type": "vehicle_registration", **PLATE},
            },
            "sis.category_not_allowed",
            "$.category",
        ),
        ({"action": "discreet_check"}, "sis.action_mismatch", "$.action"),
        ({"article": "36"}, "sis.action_mismatch", "$.action"),
        ({"action": "arrest"}, "field.invalid", "$.action"),
        ({"category": "j", "object": {"type": "firearm"}}, "sis.object_type_not_supported_yet", "$.object.type"),
        ({"object": {"type": "spaceship"}}, "field.invalid", "$.object.type"),
        ({"object": {"container_number": BOX_A}}, "field.missing", "$.object.type"),
        ({"object": BOX_A}, "field.invalid", "$.object"),
        ({"object": None}, "field.missing", "$.object"),
        ({"object": {"type": "container"}}, "sis.no_identifier", "$.object"),
        ({"object": {"type": "container", "container_number": 7}}, "field.invalid", "$.object.container_number"),
        ({"schengen_id": None}, "field.missing", "$.schengen_id"),
        ({"schengen_id": "x"}, "field.invalid", "$.schengen_id"),
        ({"schengen_id": "DE/../ x"}, "field.invalid", "$.schengen_id"),
        ({"issuing_state": "de"}, "field.invalid", "$.issuing_state"),
        ({"sirene_contact": None}, "field.missing", "$.sirene_contact"),
        ({"warnings": ["rude"]}, "field.invalid", "$.warnings"),
        ({"warnings": "armed"}, "field.invalid", "$.warnings"),
        ({"hidden": "yes"}, "field.invalid", "$.hidden"),
        ({"hidden": 1}, "field.invalid", "$.hidden"),
        ({"valid_until": "2027-01-01T00:00:00"}, "field.invalid", "$.valid_until"),
        ({"valid_until": "2027-13-01T00:00:00Z"}, "field.invalid", "$.valid_until"),
        ({"valid_until": 1893456000}, "field.invalid", "$.valid_until"),
        ({"valid_until": "0001-01-01T00:00:00+14:00"}, "field.invalid", "$.valid_until"),
        (
            {"object": {"type": "container", "container_number": BAD_BOX}},
            "container.check_digit",
            "$.object.container_number",
        ),
    ],
)
def test_what_rejects_an_alert(changes: dict[str, Any], code: str, path: str) -> None:
    records, issues = read(jsonl(alert(**changes), alert(schengen_id="DE-NEXT")), "sis-jsonl")
    assert [record.source_ref for record in records] == ["DE-NEXT"]
    assert [(x.code, x.line, x.path, x.rejects_record) for x in issues] == [(code, 1, path, True)]


def test_one_usable_identifier_keeps_an_alert() -> None:
    sought = {"type": "vehicle", "vin": "WVW", **PLATE, "imo": "9074729"}
    for data, form, prefix in (
        (jsonl(alert(category="a", object=sought)), "sis-jsonl", "$.object."),
        (as_csv(alert(category="a", object=sought)), "sis-csv", ""),
    ):
        [record], issues = read(data, form)
        assert values(record, "plate") == ["DE:BAB1234"]
        assert len(record.identifiers) == 1
        assert [(x.code, x.path, x.rejects_record) for x in issues] == [
            ("sis.identifier_not_of_type", f"{prefix}imo", False),
            ("vin.length", f"{prefix}vin", False),
        ]


def test_a_lost_alert_counts_once_however_many_places_are_wrong() -> None:
    for line in (
        alert(category="a", object={"type": "vehicle", "vin": "WVW", "plate": "AB 1"}),
        alert(action="x", hidden=3, issuing_state=4),
    ):
        records, issues = read(jsonl(line), "sis-jsonl")
        assert records == []
        assert [x.rejects_record for x in issues] == [False] * (len(issues) - 1) + [True]
        assert len(issues) > 1


def test_the_model_writes_what_the_reader_reads() -> None:
    written = sis.SisAlert(
        schengen_id="DE-1234", issuing_state="DE", article="38", category="g", action="evidence", sirene_contact="desk",
        object=sis.SisObject(type="container", container_number=BOX_A), valid_until=datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    [record], issues = read(written.model_dump_json(exclude_none=True).encode(), "sis-jsonl")
    assert issues == []
    assert (record.source_ref, record.valid_until) == ("DE-1234", datetime(2027, 1, 1, tzinfo=UTC))


def test_the_tables_of_the_format_agree() -> None:
    assert [kind.category for kind in sis.OBJECT_TYPES.values()] == list("abcdefghijklmnopqr")
    names = set(sis.SisObject.model_fields)
    assert {key.name for kind in sis.OBJECT_TYPES.values() for key in kind.keys} < names
    assert {column.keys for column in sis.COLUMNS.values()} == {("object", name) for name in names} | {
        (name,) for name in sis.SisAlert.model_fields if name != "object"
    }


def test_the_format_is_documented() -> None:
    text = documentation()
    wanted = [
        *sis.COLUMNS,
        *sis.OBJECT_TYPES,
        *sis.CODES,
        *(action for actions in sis.ACTIONS.values() for action in actions),
    ]
    assert [word for word in wanted if f"`{word}`" not in text] == []


def test_the_examples_in_the_documentation_are_read() -> None:
    text = documentation()
    for language, form in (("json", "jsonl"), ("text", "csv")):
        blocks = text.split(f"```{language}\n")[1:]
        for system, block in zip(("sis", "eis"), blocks, strict=True):
            records, issues = read(block.split("```")[0].encode(), f"{system}-{form}")
            assert codes(issues) == []
            assert len(records) >= 2
