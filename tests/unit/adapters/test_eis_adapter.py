"""EIS entities from the project's exchange format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connector_psi.adapters import eis
from connector_psi.domain.records import Field, SourceSystem
from tests.adapter_samples import BAD_BOX, BOX_A, documentation, entity, jsonl, read, values

DOCUMENT = {"document_number": "12AB34567", "document_type": "passport", "document_country": "FR"}
ENTITIES = [
    (
        {"type": "vehicle", "vin": "WVWZZZ1JZXW000001", "plate": "B-AB 1234", "plate_country": "DE"},
        [("vin", "WVWZZZ1JZXW000001"), ("plate", "DE:BAB1234")],
        Field.MEANS_USED,
    ),
    ({"type": "vessel", "imo": "9074729"}, [("imo", "9074729")], Field.MEANS_USED),
    ({"type": "aircraft", "aircraft_registration": "D-ABCD"}, [("aircraft", "DABCD")], Field.MEANS_USED),
    ({"type": "container", "container_number": BOX_A}, [("container", BOX_A)], Field.MEANS_USED),
    (
        {"type": "phone", "phone_number": "030 123456", "phone_country": "DE"},
        [("phone", "+4930123456")],
        Field.MEANS_USED,
    ),
    ({"type": "email", "email_address": "Info@Example.org"}, [("email", "info@example.org")], Field.MEANS_USED),
    (
        {"type": "company", "name": "Lines NV", "country": "BE", "vat_number": "0697449992", "eori": "BE0697449992"},
        [("vat", "BE0697449992"), ("eori", "BE0697449992")],
        Field.MEANS_USED,
    ),
    ({"type": "document", **DOCUMENT}, [("identity_document", "FR/P/12AB34567")], Field.DOCUMENTS),
]


def as_csv(line: dict) -> bytes:
    flat = {"entity_type": line["entity"]["type"], **{k: v for k, v in line["entity"].items() if k != "type"}}
    flat.update({k: "|".join(v) if isinstance(v, list) else v for k, v in line.items() if k != "entity"})
    return (",".join(flat) + "\n" + ",".join(f'"{value}"' for value in flat.values()) + "\n").encode()


@pytest.mark.parametrize(("what", "expected", "holder"), ENTITIES)
def test_each_type_of_entity_in_both_forms(what: dict[str, Any], expected: Any, holder: Field) -> None:
    line = entity(entity=what)
    for data, form in ((jsonl(line), "eis-jsonl"), (as_csv(line), "eis-csv")):
        [record], issues = read(data, form)
        assert issues == []
        assert [(x.type.value, x.value) for x in record.identifiers] == expected
        assert (record.source, record.source_ref, record.category) == (
            SourceSystem.EIS,
            "EIS-2026-000001",
            f"eis.{what['type']}",
        )
        assert record.fields[holder] == tuple(f"{kind} {value}" for kind, value in expected)
        assert record.fields.get(Field.NAMES) == ((what["name"],) if "name" in what else None)


def test_everything_a_line_can_say() -> None:
    line = entity(
        handling_codes=["H1", "H2"], case_references=["A-1", "B-2"], offence="fraud", valid_until="2027-01-01T00:00:00Z"
    )
    both = [read(jsonl(line), "eis-jsonl")[0][0], read(as_csv(line), "eis-csv")[0][0]]
    assert both[0].fields == both[1].fields
    for record in both:
        assert record.valid_until == datetime(2027, 1, 1, tzinfo=UTC)
        assert record.hidden is False
        assert dict(record.fields) == {
            Field.MEANS_USED: (f"container {BOX_A}",),
            Field.OBJECT_TYPE: ("container",),
            Field.SUBJECT_CLASS: ("suspect",),
            Field.PROVIDER: ("NL",),
            Field.HANDLING_CODES: ("H1", "H2"),
            Field.EVALUATION_CODE: ("A1",),
            Field.CASE_REFERENCES: ("A-1", "B-2"),
            Field.OFFENCE: ("fraud",),
        }


def test_a_missing_handling_code_counts_as_the_strictest() -> None:
    for line in (entity(), entity(handling_codes=[])):
        [record], _ = read(jsonl(line), "eis-jsonl")
        assert record.fields[Field.HANDLING_CODES] == ("H2", "H3")


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"entity": {"type": "person"}}, "eis.person_not_supported_yet", "$.entity.type"),
        ({"entity": {"type": "bank_account"}}, "eis.entity_type_not_supported_yet", "$.entity.type"),
        ({"entity": {"type": "company", "name": "Lines NV"}}, "eis.no_identifier", "$.entity"),
        (
            {"entity": {"type": "container", "container_number": BAD_BOX}},
            "container.check_digit",
            "$.entity.container_number",
        ),
        ({"entity": {"type": "planet"}}, "field.invalid", "$.entity.type"),
        ({"entity": None}, "field.missing", "$.entity"),
        ({"evaluation_code": "A5"}, "field.invalid", "$.evaluation_code"),
        ({"evaluation_code": None}, "field.missing", "$.evaluation_code"),
        ({"handling_codes": ["H4"]}, "field.invalid", "$.handling_codes"),
        ({"subject_class": "witness"}, "field.invalid", "$.subject_class"),
        ({"eis_ref": "a b"}, "field.invalid", "$.eis_ref"),
        ({"provider": None}, "field.missing", "$.provider"),
        ({"valid_until": "tomorrow"}, "field.invalid", "$.valid_until"),
    ],
)
def test_what_rejects_a_line(changes: dict[str, Any], code: str, path: str) -> None:
    records, issues = read(jsonl(entity(**changes), entity(eis_ref="EIS-NEXT")), "eis-jsonl")
    assert [record.source_ref for record in records] == ["EIS-NEXT"]
    assert [(x.code, x.line, x.path, x.rejects_record) for x in issues] == [(code, 1, path, True)]


def test_one_usable_identifier_keeps_a_line() -> None:
    what = {"type": "company", "vat_number": "BE0000000001", "eori": "BE0697449992", "imo": "9074729"}
    [record], issues = read(jsonl(entity(entity=what)), "eis-jsonl")
    assert values(record, "eori") == ["BE0697449992"]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("eis.identifier_not_of_type", "$.entity.imo", False),
        ("vat.invalid", "$.entity.vat_number", False),
    ]


def test_the_model_writes_what_the_reader_reads() -> None:
    written = eis.EisLine(
        eis_ref="EIS-1234", provider="NL", entity=eis.EisEntity(type="container", container_number=BOX_A),
        evaluation_code="B2", subject_class="none", handling_codes=("H0",),
    )  # fmt: skip
    [record], issues = read(written.model_dump_json(exclude_none=True).encode(), "eis-jsonl")
    assert issues == []
    assert record.source_ref == "EIS-1234"


def test_the_format_is_documented() -> None:
    text = documentation()
    wanted = [*eis.COLUMNS, *eis.ENTITY_TYPES, *eis.CODES, "suspect", "convicted", "potential_offender", "none"]
    assert [word for word in wanted if f"`{word}`" not in text] == []
