"""EIS entities from the project's exchange format."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from connector_psi.adapters import eis
from connector_psi.domain.purposes import CATEGORIES, PERSON_CATEGORIES
from connector_psi.domain.records import Field, PartyKind, Rank, SourceSystem, Supersession, version_of
from tests.adapter_samples import (
    BAD_BOX,
    BOX_A,
    as_csv,
    codes,
    documentation,
    documented_examples,
    entity,
    jsonl,
    read,
    supersessions,
    values,
)

DOCUMENT = {"document_number": "12AB34567", "document_type": "passport", "document_country": "FR"}
USED, PAPERS = Field.MEANS_USED, Field.DOCUMENTS
# LEI: an example of ISO 17442; card and IBAN: published examples.
ENTITIES = [
    (
        {"type": "vehicle", "vin": "WVWZZZ1JZXW000001", "plate": "B-AB 1234", "plate_country": "DE"},
        {USED: [("vin", "WVWZZZ1JZXW000001"), ("plate", "DE:BAB1234")]},
    ),
    (
        {"type": "vessel", "imo": "9074729", "mmsi": "211234560", "eni": "02345678", "hull_number": "FR-ABC12345A898"},
        {USED: [("imo", "9074729"), ("eni", "02345678"), ("mmsi", "211234560"), ("hull", "FRABC12345A898")]},
    ),
    ({"type": "aircraft", "aircraft_registration": "D-ABCD"}, {USED: [("aircraft", "DABCD")]}),
    ({"type": "container", "container_number": BOX_A, "seal": "SEAL-77"}, {USED: [("container", BOX_A), ("seal", "SEAL77")]}),
    ({"type": "phone", "phone_number": "030 123456", "phone_country": "DE"}, {USED: [("phone", "+4930123456")]}),
    ({"type": "email", "email_address": "Info@Example.org"}, {USED: [("email", "info@example.org")]}),
    ({"type": "website", "website": "https://www.example.org/shop"}, {USED: [("website", "example.org")]}),
    ({"type": "bank_account", "iban": "DE89 3704 0044 0532 0130 00"}, {USED: [("iban", "DE89370400440532013000")]}),
    ({"type": "payment_card", "card_number": "4111111111111111"}, {USED: [("payment_card", "411111*1111")]}),
    (
        {"type": "firearm", "serial_number": "C12345", "make": "Colt", "calibre": ".45 ACP"},
        {USED: [("firearm", "COLT/45ACP/C12345")]},
    ),
    (
        {"type": "currency", "serial_number": "X12345678901", "currency": "EUR", "denomination": "50"},
        {USED: [("banknote", "EUR/50/X12345678901")]},
    ),
    (
        {"type": "company", "name": "Lines NV", "country": "BE", "vat_number": "0697449992", "eori": "BE0697449992",
         "lei": "5493001KJTIIGC8Y1R12", "phone_number": "+3222345678", "website": "example.com"},
        {USED: [("vat", "BE0697449992"), ("eori", "BE0697449992"), ("lei", "5493001KJTIIGC8Y1R12"),
                ("phone", "+3222345678"), ("website", "example.com")]},
    ),
    ({"type": "document", **DOCUMENT}, {PAPERS: [("identity_document", "FR/P/12AB34567")]}),
    (
        {"type": "person", "surnames": "Muster", **DOCUMENT, "more_documents": ["DE/I/L01X00T47"],
         "national_register_number": "64.08.12-123.45", "register_country": "BE",
         "social_security_number": "12 345678 M 901", "social_security_country": "DE",
         "phone_number": "030 123456", "phone_country": "DE", "email_address": "max@example.org"},
        {
            PAPERS: [("identity_document", number) for number in
                     ("FR/P/12AB34567", "DE/I/L01X00T47", "BE/N/64081212345", "DE/S/12345678M901")],
            USED: [("phone", "+4930123456"), ("email", "max@example.org")],
        },
    ),
    ({"type": "drugs", "description": f"12 kg cocaine in container {BOX_A}"}, {USED: [("container", BOX_A)]}),
    (
        {"type": "location", "address": "Quay 7", "country": "BE", "description": f"beside {BOX_A}"},
        {USED: [("container", BOX_A)]},
    ),
]  # fmt: skip
PERSON = {
    "type": "person",
    "surnames": "Muster",
    "forenames": "Max",
    "names_at_birth": ["Beispiel"],
    "aliases": ["El Toro"],
    "birth_date": "1980-05",
    "birth_place": "Ghent",
    "gender": "male",
    "nationalities": ["BE"],
    "address": "Kaai 7, Antwerpen",
    "country": "BE",
    **DOCUMENT,
    "document_issued": "2019",
}


@pytest.mark.parametrize(("what", "expected"), ENTITIES)
def test_each_type_of_entity_in_both_forms(what: dict[str, Any], expected: dict[Field, Any]) -> None:
    line = entity(entity=what)
    for data, form in ((jsonl(line), "eis-jsonl"), (as_csv(eis.COLUMNS, line), "eis-csv")):
        [record], issues = read(data, form)
        assert issues == []
        found = [(x.type.value, x.value) for x in record.identifiers]
        assert found == [label for labels in expected.values() for label in labels]
        assert (record.source, record.source_ref, record.category) == (
            SourceSystem.EIS,
            "EIS-2026-000001",
            f"eis.{what['type']}",
        )
        for holder in (USED, PAPERS):
            labels = tuple(f"{kind} {value}" for kind, value in expected.get(holder, ()))
            assert record.fields.get(holder, ()) == labels
        assert record.fields.get(Field.NAMES) == {"company": ("Lines NV",), "person": ("Muster",)}.get(what["type"])
        assert [party.kind for party in record.parties] == {
            "company": [PartyKind.ORGANISATION],
            "person": [PartyKind.PERSON],
        }.get(what["type"], [])


def test_every_type_is_read() -> None:
    assert {what["type"] for what, _ in ENTITIES} == set(eis.ENTITY_TYPES)
    assert {name for name, keys in eis.ENTITY_TYPES.items() if not keys} == {"drugs", "location"}


def test_everything_a_line_can_say() -> None:
    line = entity(
        handling_codes=["H1", "H2"], case_references=["A-1", "B-2"], offence="fraud", convictions=["2019, fraud"],
        valid_until="2027-01-01T00:00:00Z", updated_at="2026-05-01T10:00:00Z",
    )  # fmt: skip
    both = [read(jsonl(line), "eis-jsonl")[0][0], read(as_csv(eis.COLUMNS, line), "eis-csv")[0][0]]
    assert both[0].fields == both[1].fields
    for record in both:
        assert record.valid_until == datetime(2027, 1, 1, tzinfo=UTC)
        assert record.version == version_of(datetime(2026, 5, 1, 10, tzinfo=UTC))
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
            Field.CONVICTIONS: ("2019, fraud",),
        }
        assert all(type(value) is str for texts in record.fields.values() for value in texts)


def test_everything_a_line_can_say_of_a_person() -> None:
    line = entity(entity=PERSON, subject_class="convicted")
    both = [read(jsonl(line), "eis-jsonl")[0][0], read(as_csv(eis.COLUMNS, line), "eis-csv")[0][0]]
    for record in both:
        [party] = record.parties
        assert (party.role, party.name, party.aliases) == ("subject", "Muster, Max", ("Beispiel", "El Toro"))
        assert (party.birth_date, party.birth_place, party.gender, party.nationalities, party.address, party.country) == (
            "1980-05", "Ghent", "male", ("BE",), "Kaai 7, Antwerpen", "BE",
        )  # fmt: skip
        assert dict(record.fields) == {
            Field.OBJECT_TYPE: ("person",),
            Field.NAMES: ("Muster, Max", "Beispiel", "El Toro"),
            Field.BIRTH: ("1980-05, Ghent",),
            Field.GENDER: ("male",),
            Field.NATIONALITY: ("BE",),
            Field.RESIDENCE: ("Kaai 7, Antwerpen", "BE"),
            Field.DOCUMENTS: ("identity_document FR/P/12AB34567, issued 2019",),
            Field.SUBJECT_CLASS: ("convicted",),
            Field.PROVIDER: ("NL",),
            Field.HANDLING_CODES: ("H2", "H3"),
            Field.EVALUATION_CODE: ("A1",),
        }


def test_a_company_may_have_a_name_and_a_number_that_nobody_matches_by() -> None:
    [record], issues = read(
        jsonl(entity(entity={"type": "company", "name": "Lines NV", "registration_number": "RPR 77"}))
    )
    assert (record.identifiers, [party.name for party in record.parties], issues) == ((), ["Lines NV"], [])
    assert record.fields[Field.MEANS_USED] == ("registration_number RPR 77",)


def test_a_missing_handling_code_counts_as_the_strictest() -> None:
    for line in (entity(), entity(handling_codes=[])):
        [record], _ = read(jsonl(line), "eis-jsonl")
        assert record.fields[Field.HANDLING_CODES] == ("H2", "H3")


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"entity": {"type": "person"}}, "eis.no_identifier", "$.entity"),
        ({"entity": {"type": "bank_account"}}, "eis.no_identifier", "$.entity"),
        ({"entity": {"type": "company", "country": "BE"}}, "eis.no_identifier", "$.entity"),
        ({"entity": {"type": "drugs", "description": "12 kg cocaine"}}, "eis.descriptive_only", "$.entity"),
        ({"entity": {"type": "location", "address": "Quay 7", "country": "BE"}}, "eis.descriptive_only", "$.entity"),
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
        ({"withdrawn": 1}, "field.invalid", "$.withdrawn"),
    ],
)
def test_what_rejects_a_line(changes: dict[str, Any], code: str, path: str) -> None:
    records, issues = read(jsonl(entity(**changes), entity(eis_ref="EIS-NEXT")), "eis-jsonl")
    assert [record.source_ref for record in records] == ["EIS-NEXT"]
    assert [(x.code, x.line, x.path, x.rejects_record) for x in issues] == [(code, 1, path, True)]


def test_one_usable_identifier_keeps_a_line() -> None:
    what = {"type": "company", "vat_number": "BE0000000001", "eori": "BE0697449992", "imo": "9074729", "lei": 7}
    [record], issues = read(jsonl(entity(entity=what)), "eis-jsonl")
    assert values(record, "eori") == ["BE0697449992"]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("field.invalid", "$.entity.lei", False),
        ("eis.identifier_not_of_type", "$.entity.imo", False),
        ("vat.invalid", "$.entity.vat_number", False),
    ]


def test_what_describes_a_person_is_nothing_that_a_vehicle_has() -> None:
    what = {
        "type": "vehicle",
        "plate": "DE:BAB1234",
        "surnames": "Muster",
        "birth_date": "1980",
        "phone_number": "+4930123456",
    }
    [record], issues = read(jsonl(entity(entity=what)))
    assert (record.parties, values(record, "phone")) == ((), [])
    assert [(x.code, x.path) for x in issues] == [
        ("eis.identifier_not_of_type", f"$.entity.{name}") for name in ("birth_date", "phone_number", "surnames")
    ]


def test_a_deleted_entity_is_withdrawn_with_its_key_and_its_time_alone() -> None:
    line = {"eis_ref": "EIS-1234", "updated_at": "2026-05-01T10:00:00Z", "withdrawn": True}
    version = version_of(datetime(2026, 5, 1, 10, tzinfo=UTC), Rank.WITHDRAWAL)
    expected = [Supersession(SourceSystem.EIS, "EIS-1234", version, withdrawn=True, reason="deleted")]
    assert supersessions(jsonl(line), "eis-jsonl") == expected
    assert supersessions(as_csv(eis.COLUMNS, line), "eis-csv") == expected
    assert supersessions(jsonl(entity(updated_at="2026-05-01T10:00:00Z")), "eis-jsonl") == []


def test_the_model_writes_what_the_reader_reads() -> None:
    written = eis.EisLine(
        eis_ref="EIS-1234", provider="NL", entity=eis.EisEntity(type="container", container_number=BOX_A),
        evaluation_code="B2", subject_class="none", handling_codes=("H0",),
    )  # fmt: skip
    [record], issues = read(written.model_dump_json(exclude_none=True).encode(), "eis-jsonl")
    assert issues == []
    assert record.source_ref == "EIS-1234"


def test_every_category_is_in_the_vocabulary() -> None:
    assert {name for name in CATEGORIES if name.startswith("eis.")} == {f"eis.{name}" for name in eis.ENTITY_TYPES}
    assert "eis.person" in PERSON_CATEGORIES


def test_the_objects_of_the_system_are_covered(shared: Path) -> None:
    # Criminal offences are data of a case and no entity.
    text = (shared / "reference" / "europol" / "eis_object_types.csv").read_text(encoding="utf-8")
    for words, kinds in (
        ("person,", "person"),
        ("company / organisation", "company"),
        ("means of transport", "vehicle vessel aircraft container"),
        ("communication (telephone number; email; website)", "phone email website"),
        ("means of payment (bank details)", "bank_account payment_card"),
        ("identity document", "document"),
        ("firearm", "firearm"),
        ("drugs", "drugs"),
        ("currency", "currency"),
        ("location", "location"),
    ):
        assert words in text
        assert set(kinds.split()) <= set(eis.ENTITY_TYPES)


def test_the_format_is_documented() -> None:
    text = documentation("eis") + documentation("things")
    wanted = [*eis.COLUMNS, *eis.ENTITY_TYPES, *eis.CODES, "suspect", "convicted", "potential_offender", "none"]
    wanted += get_args(get_args(eis.EisEntity.model_fields["gender"].annotation)[0])
    assert [word for word in wanted if f"`{word}`" not in text] == []


def test_the_examples_in_the_documentation_are_read() -> None:
    for form, data in documented_examples("eis").items():
        records, issues = read(data, f"eis-{form}")
        assert codes(issues) == []
        assert len(records) >= 3
        assert len(supersessions(data, f"eis-{form}")) == 1
