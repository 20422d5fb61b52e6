"""SIENA messages from the project's exchange format: a header, and a record for each entity."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from connector_psi.adapters import siena
from connector_psi.domain.purposes import CATEGORIES, PERSON_CATEGORIES
from connector_psi.domain.records import Field, Rank, SourceSystem, Supersession, version_of
from connector_psi.domain.things import KINDS
from tests.adapter_samples import (
    BAD_BOX,
    BOX_A,
    BOX_B,
    as_csv,
    codes,
    documentation,
    documented_examples,
    jsonl,
    read,
    supersessions,
)

SENT = datetime(2026, 5, 1, 10, tzinfo=UTC)
BOX = {"type": "container", "container_number": BOX_A}
CAR = {"type": "vehicle", "plate": "B-AB 1234", "plate_country": "DE"}
PERSON = {"type": "person", "surnames": "Muster", "forenames": "Max", "subject_class": "suspect", "role": "driver"}
LOAD = {
    "type": "consignment", "mrn": "25BE000000000SYN01", "transport_document": "H-1001", "container_number": BOX_B,
    "seal": "SEAL-77", "postal_item": "RB123456785GB",
}  # fmt: skip


def message(*entities: Any, **changes: Any) -> dict[str, Any]:
    line: dict[str, Any] = {
        "siena_ref": "SIENA-2026-0001",
        "sent_at": "2026-05-01T10:00:00Z",
        "sender": "Police BE",
        "evaluation_code": "A1",
        "entities": list(entities or (BOX,)),
    }
    return {key: value for key, value in (line | changes).items() if value is not None}


def row(number: Any, what: Any, **changes: Any) -> dict[str, Any]:
    return message(**{"entities": None, "entity_number": number, "entity": what} | changes)


def test_a_message_is_a_record_for_each_entity_and_then_its_end() -> None:
    records, issues = read(jsonl(message(BOX, CAR, PERSON, LOAD)), "siena-jsonl")
    assert issues == []
    assert [(x.source_ref, x.category, x.message_ref, x.version) for x in records] == [
        (f"SIENA-2026-0001/{n}", f"siena.{kind}", "SIENA-2026-0001", version_of(SENT))
        for n, kind in enumerate(("container", "vehicle", "person", "consignment"), start=1)
    ]
    assert [[(x.type.value, x.value, x.source_path, x.role) for x in record.identifiers] for record in records] == [
        [("container", BOX_A, "$.entities.1.container_number", "")],
        [("plate", "DE:BAB1234", "$.entities.2.plate", "")],
        [],
        [
            ("mrn", "25BE000000000SYN01", "$.entities.4.mrn", ""),
            ("transport_document", "H1001", "$.entities.4.transport_document", ""),
            ("container", BOX_B, "$.entities.4.container_number", ""),
            ("seal", "SEAL77", "$.entities.4.seal", ""),
            ("postal_item", "RB123456785GB", "$.entities.4.postal_item", ""),
        ],
    ]
    assert [(party.name, party.role) for party in records[2].parties] == [("Muster, Max", "driver")]
    assert len({record.message_digest for record in records}) == 1
    assert supersessions(jsonl(message(BOX, CAR)), "siena-jsonl") == [
        Supersession(SourceSystem.SIENA, "SIENA-2026-0001", version_of(SENT))
    ]


def test_a_row_of_csv_is_one_entity_and_stands_for_itself() -> None:
    rows = [row(1, BOX), row(2, CAR), row(7, {**PERSON, "aliases": ["M", "N"]}), row(9, LOAD)]
    records, issues = read(as_csv(siena.COLUMNS, *rows), "siena-csv")
    assert issues == []
    assert [(x.source_ref, x.message_ref, x.version) for x in records] == [
        (f"SIENA-2026-0001/{n}", "", version_of(SENT)) for n in (1, 2, 7, 9)
    ]
    assert [x.source_path for x in records[1].identifiers] == ["plate"]
    assert records[2].parties[0].aliases == ("M", "N")
    assert supersessions(as_csv(siena.COLUMNS, *rows), "siena-csv") == []
    # What a row says is what the entity of a line says.
    whole, _ = read(jsonl(message(BOX)), "siena-jsonl")
    assert records[0].fields == whole[0].fields


def test_everything_a_message_can_say() -> None:
    line = message(
        PERSON, recipients=["Europol", "Police NL"], handling_codes=["H1"], subject="Cocaine in bananas", crime_area="drugs",
        case_references=["A-1"], valid_until="2027-01-01T00:00:00Z",
    )  # fmt: skip
    [record], issues = read(jsonl(line), "siena-jsonl")
    assert issues == []
    assert record.valid_until == datetime(2027, 1, 1, tzinfo=UTC)
    assert dict(record.fields) == {
        Field.OBJECT_TYPE: ("person",),
        Field.NAMES: ("Muster, Max",),
        Field.SUBJECT_CLASS: ("suspect",),
        Field.REFERENCE: ("SIENA-2026-0001",),
        Field.CONTACT: ("Police BE",),
        Field.PROVIDER: ("Police BE",),
        Field.HANDLING_CODES: ("H1",),
        Field.EVALUATION_CODE: ("A1",),
        Field.CASE_REFERENCES: ("A-1",),
        Field.OFFENCE: ("drugs",),
        Field.RISK_INFORMATION: ("Cocaine in bananas",),
    }
    [record], _ = read(jsonl(message()), "siena-jsonl")
    assert record.fields[Field.HANDLING_CODES] == ("H2", "H3")
    assert Field.SUBJECT_CLASS not in record.fields


def test_an_entity_that_cannot_be_used_costs_itself_and_keeps_the_numbers_of_the_others() -> None:
    bad = [
        {"type": "planet"},
        {"container_number": BOX_A},
        "a text",
        None,
        {"type": "container", "container_number": BAD_BOX},
        {"type": "vehicle"},
        {"type": "drugs", "description": "12 kg"},
    ]
    records, issues = read(jsonl(message(BOX, *bad, CAR)), "siena-jsonl")
    assert [x.source_ref for x in records] == ["SIENA-2026-0001/1", f"SIENA-2026-0001/{len(bad) + 2}"]
    assert [(x.code, x.path) for x in issues if x.rejects_record] == [
        ("field.invalid", "$.entities.2"),
        ("field.invalid", "$.entities.3"),
        ("field.invalid", "$.entities.4"),
        ("field.invalid", "$.entities.5"),
        ("container.check_digit", "$.entities.6.container_number"),
        ("siena.no_identifier", "$.entities.7"),
        ("siena.descriptive_only", "$.entities.8"),
    ]
    assert [(x.code, x.path) for x in issues if not x.rejects_record] == [
        ("field.invalid", "$.entities.2.type"),
        ("field.missing", "$.entities.3.type"),
        ("field.invalid", "$.entities"),
    ]
    # The message was read to its end all the same: what it replaces holds no longer.
    assert len(supersessions(jsonl(message(BOX, *bad)), "siena-jsonl")) == 1


def test_what_is_wrong_in_an_entity_costs_itself() -> None:
    what = {
        **PERSON,
        "birth_date": "yesterday",
        "nationalities": ["DE", 7],
        "role": "wizard",
        "subject_class": "victim",
    }
    for data, form, places in (
        (jsonl(message(BOX, what)), "siena-jsonl", "$.entities.2.{}"),
        (as_csv(siena.COLUMNS, row(2, {**what, "nationalities": ["DE", "7"]})), "siena-csv", "{}"),
    ):
        *_, record = read(data, form)[0]
        assert (record.source_ref, record.parties[0].nationalities) == ("SIENA-2026-0001/2", ("DE",))
        assert record.parties[0].role == "subject"
        # Of a class that nobody agreed on, nothing is ever disclosed.
        assert Field.SUBJECT_CLASS not in record.fields
        issues = read(data, form)[1]
        assert {(x.code, x.path, x.rejects_record) for x in issues} == {
            ("field.invalid", places.format(name), False)
            for name in ("birth_date", "nationalities", "role", "subject_class")
        }


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"siena_ref": None}, "field.missing", "$.siena_ref"),
        ({"sent_at": None}, "field.missing", "$.sent_at"),
        ({"sent_at": "2026-05-01"}, "field.invalid", "$.sent_at"),
        ({"sender": None}, "field.missing", "$.sender"),
        ({"evaluation_code": "Z9"}, "field.invalid", "$.evaluation_code"),
        ({"handling_codes": ["H9"]}, "field.invalid", "$.handling_codes"),
        ({"entities": None}, "field.missing", "$.entities"),
        ({"entities": []}, "field.invalid", "$.entities"),
        ({"entities": BOX}, "field.invalid", "$.entities"),
        ({"entities": [BOX] * 10_001}, "field.invalid", "$.entities"),
        ({"withdrawn": "true"}, "field.invalid", "$.withdrawn"),
    ],
)
def test_what_rejects_a_message(changes: dict[str, Any], code: str, path: str) -> None:
    data = jsonl(message(**changes), message(siena_ref="SIENA-NEXT"))
    records, issues = read(data, "siena-jsonl")
    assert [record.source_ref for record in records] == ["SIENA-NEXT/1"]
    assert [(x.code, x.line, x.path, x.rejects_record) for x in issues] == [(code, 1, path, True)]
    assert [x.message_ref for x in supersessions(data, "siena-jsonl")] == ["SIENA-NEXT"]


@pytest.mark.parametrize("number", ["0", "10001", "x", "1.5", ""])
def test_a_row_needs_the_number_of_its_entity(number: str) -> None:
    records, issues = read(as_csv(siena.COLUMNS, row(number, BOX), row(2, CAR)), "siena-csv")
    assert [record.source_ref for record in records] == ["SIENA-2026-0001/2"]
    code = "field.invalid" if number else "field.missing"
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [(code, "entity_number", True)]


def test_a_withdrawal_takes_back_a_message_or_a_row() -> None:
    line = {"siena_ref": "SIENA-2026-0001", "sent_at": "2026-05-01T10:00:00Z", "withdrawn": True}
    version = version_of(SENT, Rank.WITHDRAWAL)
    [whole] = supersessions(jsonl(line), "siena-jsonl")
    assert whole == Supersession(SourceSystem.SIENA, "SIENA-2026-0001", version, withdrawn=True, reason="deleted")
    [one] = supersessions(as_csv(siena.COLUMNS, {**line, "entity_number": 3}), "siena-csv")
    assert one == Supersession(SourceSystem.SIENA, "SIENA-2026-0001/3", version, withdrawn=True, reason="deleted")
    records, issues = read(as_csv(siena.COLUMNS, line), "siena-csv")
    assert (records, [(x.code, x.path, x.rejects_record) for x in issues]) == (
        [], [("field.missing", "entity_number", True)],
    )  # fmt: skip


def test_special_categories_are_never_read_wherever_they_stand() -> None:
    needle = "QZPLANT7"
    data = jsonl(message({**PERSON, "fingerprints": needle, "note": needle}, {**BOX, "note": needle}))
    records, issues = read(data, "siena-jsonl")
    assert needle not in str([(x.identifiers, x.fields, x.parties) for x in records])
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("key.special_category", "$.entities.*", False),
        ("json.unknown_key", "$.entities.*", False),
    ]


def test_both_forms_are_recognised() -> None:
    assert len(read(jsonl(message()))[0]) == 1
    assert len(read(as_csv(siena.COLUMNS, row(1, BOX)))[0]) == 1


def test_the_models_write_what_the_reader_reads() -> None:
    written = siena.SienaMessage(
        siena_ref="SIENA-1", sent_at=SENT, sender="Police BE", evaluation_code="B2",
        entities=(siena.SienaEntity(type="container", container_number=BOX_A),),
    )  # fmt: skip
    [record], issues = read(written.model_dump_json(exclude_none=True).encode(), "siena-jsonl")
    assert (record.source_ref, issues) == ("SIENA-1/1", [])


def test_every_category_is_in_the_vocabulary() -> None:
    kinds = set(get_args(siena.EntityType))
    assert kinds <= set(KINDS)
    assert {name for name in CATEGORIES if name.startswith("siena.")} == {f"siena.{kind}" for kind in kinds}
    assert "siena.person" in PERSON_CATEGORIES


def test_the_format_is_documented() -> None:
    text = documentation("siena") + documentation("things")
    wanted = [*siena.COLUMNS, *siena.SienaMessage.model_fields, *get_args(siena.EntityType), *siena.CODES]
    assert [word for word in wanted if f"`{word}`" not in text] == []


def test_the_examples_in_the_documentation_are_read() -> None:
    for form, data in documented_examples("siena").items():
        records, issues = read(data, f"siena-{form}")
        assert codes(issues) == []
        assert len(records) >= 3
        assert any(each.withdrawn for each in supersessions(data, f"siena-{form}"))
