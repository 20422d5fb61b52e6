"""Cases of the Customs Information System from the project's exchange format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from connector_psi.adapters import afis
from connector_psi.domain.purposes import CATEGORIES, PERSON_CATEGORIES
from connector_psi.domain.records import Field, Rank, SourceSystem, Supersession, version_of
from connector_psi.domain.things import KINDS
from tests.adapter_samples import (
    BAD_BOX,
    BOX_A,
    as_csv,
    codes,
    documentation,
    documented_examples,
    jsonl,
    read,
    supersessions,
    values,
)

UPDATED = datetime(2026, 5, 1, 10, tzinfo=UTC)
BOX = {"type": "container", "container_number": BOX_A}
CASH = {"type": "currency", "serial_number": "X12345678901", "currency": "EUR", "denomination": "50"}
PERSON = {
    "type": "person", "surnames": "Muster", "forenames": "Max", "names_at_birth": ["Beispiel"], "birth_date": "1980-05",
    "birth_place": "Ghent", "nationalities": ["BE"], "gender": "male", "address": "Kaai 7", "country": "BE",
    "document_number": "12AB34567", "document_type": "passport", "document_country": "FR", "plate": "1-ABC-234",
    "plate_country": "BE",
}  # fmt: skip


def case(*entities: Any, **changes: Any) -> dict[str, Any]:
    line: dict[str, Any] = {
        "cis_ref": "CIS-2026-0001",
        "updated_at": "2026-05-01T10:00:00Z",
        "purpose": "sighting_and_reporting",
        "supplied_by": "Customs BE",
        "entities": list(entities or (BOX,)),
    }
    return {key: value for key, value in (line | changes).items() if value is not None}


def row(number: Any, what: Any, **changes: Any) -> dict[str, Any]:
    return case(**{"entities": None, "entity_number": number, "entity": what} | changes)


def test_a_case_is_a_record_for_each_entity_and_then_its_end() -> None:
    entities = [BOX, CASH, PERSON, {"type": "company", "name": "Lines NV", "eori": "BE0697449992"}]
    records, issues = read(jsonl(case(*entities)), "afis-jsonl")
    assert issues == []
    kinds = ("container", "currency", "person", "company")
    assert [(x.source_ref, x.category, x.message_ref, x.version) for x in records] == [
        (f"CIS-2026-0001/{n}", f"afis.{kind}", "CIS-2026-0001", version_of(UPDATED)) for n, kind in enumerate(kinds, 1)
    ]
    assert supersessions(jsonl(case(*entities)), "afis-jsonl") == [
        Supersession(SourceSystem.AFIS, "CIS-2026-0001", version_of(UPDATED))
    ]
    rows = [row(n, what) for n, what in enumerate(entities, 1)]
    of_csv, issues = read(as_csv(afis.COLUMNS, *rows), "afis-csv")
    assert issues == []
    assert [(x.source_ref, x.category, x.message_ref, x.fields) for x in of_csv] == [
        (x.source_ref, x.category, "", x.fields) for x in records
    ]


def test_everything_a_case_can_say() -> None:
    what = {**BOX, "description": "hidden compartment"}
    line = case(
        what, case_reference="OF/2026/0007", contact="+32 2 000 00 00", reason="cigarettes", purpose="specific_check",
        valid_until="2027-01-01T00:00:00Z",
    )  # fmt: skip
    [record], issues = read(jsonl(line), "afis-jsonl")
    assert issues == []
    assert record.valid_until == datetime(2027, 1, 1, tzinfo=UTC)
    assert dict(record.fields) == {
        Field.REFERENCE: ("CIS-2026-0001", "OF/2026/0007"),
        Field.RISK_INFORMATION: ("specific_check", "cigarettes", "hidden compartment"),
        Field.CONTACT: ("Customs BE", "+32 2 000 00 00"),
    }


def test_a_person_has_what_the_regulation_lists_and_no_more() -> None:
    # Source: Regulation (EC) No 515/97, Article 25(2).
    what = {**PERSON, "warnings": ["armed", "escaped"], "subject_class": "suspect"}
    [record], issues = read(jsonl(case(what)), "afis-jsonl")
    assert issues == []
    assert [(x.type.value, x.value) for x in record.identifiers] == [
        ("identity_document", "FR/P/12AB34567"),
        ("plate", "BE:1ABC234"),
    ]
    [party] = record.parties
    assert (party.name, party.aliases, party.birth_date, party.address) == (
        "Muster, Max",
        ("Beispiel",),
        "1980-05",
        "Kaai 7",
    )
    assert record.fields[Field.SUBJECT_CLASS] == ("suspect",)
    assert record.fields[Field.WARNINGS] == ("armed", "escaped")
    # Names stand with the party and are nothing that is disclosed of a case.
    assert Field.NAMES not in record.fields
    more = {
        "phone_number": "+3222345678", "email_address": "max@example.org", "iban": "DE89370400440532013000",
        "national_register_number": "64.08.12-123.45", "register_country": "BE", "social_security_number": "12 345678 M 901",
        "social_security_country": "DE", "description": f"drives {BOX_A}",
    }  # fmt: skip
    [record], issues = read(jsonl(case({**PERSON, **more})), "afis-jsonl")
    assert len(record.identifiers) == 2
    assert [(x.code, x.path) for x in issues] == [
        ("afis.identifier_not_of_type", f"$.entities.1.{name}") for name in sorted(more)
    ]


def test_a_person_without_a_class_has_none_to_be_disclosed_by() -> None:
    [record], _ = read(jsonl(case(PERSON)), "afis-jsonl")
    assert Field.SUBJECT_CLASS not in record.fields
    assert record.category in PERSON_CATEGORIES


def test_special_categories_are_never_read() -> None:
    needle = "QZPLANT7"
    for key in ("ethnic_origin", "politicalOpinions", "religion", "trade_union_membership", "health", "sexLife"):
        [record], issues = read(jsonl(case({**PERSON, key: needle})), "afis-jsonl")
        assert needle not in str((record.identifiers, record.fields, record.parties))
        assert [(x.code, x.path) for x in issues] == [("key.special_category", "$.entities.*")]


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"cis_ref": None}, "field.missing", "$.cis_ref"),
        ({"purpose": None}, "field.missing", "$.purpose"),
        ({"purpose": "curiosity"}, "field.invalid", "$.purpose"),
        ({"supplied_by": None}, "field.missing", "$.supplied_by"),
        ({"updated_at": "now"}, "field.invalid", "$.updated_at"),
        ({"entities": [{"type": "vehicle"}]}, "afis.no_identifier", "$.entities.1"),
        ({"entities": [{"type": "phone", "phone_number": "+3222345678"}]}, "field.invalid", "$.entities.1"),
        (
            {"entities": [{"type": "container", "container_number": BAD_BOX}]},
            "container.check_digit",
            "$.entities.1.container_number",
        ),
    ],
)
def test_what_rejects(changes: dict[str, Any], code: str, path: str) -> None:
    records, issues = read(jsonl(case(**changes), case(cis_ref="CIS-NEXT")), "afis-jsonl")
    assert [record.source_ref for record in records] == ["CIS-NEXT/1"]
    assert [(x.code, x.line, x.path) for x in issues if x.rejects_record] == [(code, 1, path)]


@pytest.mark.parametrize("purpose", get_args(afis.SuggestedAction))
def test_each_suggested_action(purpose: str) -> None:
    [record], issues = read(jsonl(case(purpose=purpose, updated_at=None)), "afis-jsonl")
    assert (record.fields[Field.RISK_INFORMATION], record.version, issues) == ((purpose,), 0, [])


def test_a_case_or_a_row_of_it_is_withdrawn() -> None:
    line = {"cis_ref": "CIS-2026-0001", "updated_at": "2026-05-01T10:00:00Z", "withdrawn": True}
    version = version_of(UPDATED, Rank.WITHDRAWAL)
    for data, name, ref in (
        (jsonl(line), "afis-jsonl", "CIS-2026-0001"),
        (as_csv(afis.COLUMNS, {**line, "entity_number": 2}), "afis-csv", "CIS-2026-0001/2"),
    ):
        assert supersessions(data, name) == [
            Supersession(SourceSystem.AFIS, ref, version, withdrawn=True, reason="deleted")
        ]


def test_both_forms_are_recognised() -> None:
    assert values(read(jsonl(case()))[0][0], "container") == [BOX_A]
    assert values(read(as_csv(afis.COLUMNS, row(1, CASH)))[0][0], "banknote") == ["EUR/50/X12345678901"]


def test_every_category_is_in_the_vocabulary() -> None:
    kinds = set(get_args(afis.EntityType))
    assert kinds <= set(KINDS)
    assert {name for name in CATEGORIES if name.startswith("afis.")} == {f"afis.{kind}" for kind in kinds}


def test_the_format_is_documented() -> None:
    text = documentation("afis") + documentation("things")
    wanted = [*afis.COLUMNS, *afis.CisCase.model_fields, *get_args(afis.EntityType), *afis.CODES]
    wanted += [*get_args(afis.SuggestedAction), *get_args(afis.WarningCode)]
    assert [word for word in wanted if f"`{word}`" not in text] == []


def test_the_examples_in_the_documentation_are_read() -> None:
    for name, data in documented_examples("afis").items():
        records, issues = read(data, f"afis-{name}")
        assert codes(issues) == []
        assert len(records) >= 3
        assert any(each.withdrawn for each in supersessions(data, f"afis-{name}"))
