"""CRMS risk information forms from the project's exchange format: a form is one record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from connector_psi.adapters import crms
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.records import Field, PartyKind, Rank, SourceSystem, Supersession, version_of
from connector_psi.domain.things import KINDS
from tests.adapter_samples import (
    BAD_BOX,
    BOX_A,
    BOX_B,
    BOX_C,
    as_csv,
    codes,
    documentation,
    documented_examples,
    jsonl,
    read,
    supersessions,
)

ISSUED = datetime(2026, 5, 1, 10, tzinfo=UTC)
BOX = {"type": "container", "container_number": BOX_A, "seal": "SEAL-77"}
THINGS = [
    BOX,
    {"type": "container", "container_number": BOX_B},
    {"type": "consignment", "mrn": "25BE000000000SYN01", "transport_document": "H-1001"},
    {"type": "vehicle", "plate": "B-AB 1234", "plate_country": "DE"},
    {"type": "company", "role": "consignee", "name": "Lines NV", "country": "BE", "vat_number": "0697449992",
     "eori": "BE0697449992", "phone_number": "+3222345678"},
    {"type": "person", "role": "driver", "surnames": "Muster", "forenames": "Max", "birth_date": "1980"},
]  # fmt: skip


def form(*entities: Any, **changes: Any) -> dict[str, Any]:
    line: dict[str, Any] = {
        "rif_ref": "RIF-2026-0001",
        "issued_at": "2026-05-01T10:00:00Z",
        "issuing_authority": "Customs BE",
        "risk_area": "security and safety",
        "entities": list(entities or (BOX,)),
    }
    return {key: value for key, value in (line | changes).items() if value is not None}


def test_a_form_is_one_record_in_both_forms() -> None:
    for data, name, place in (
        (jsonl(form(*THINGS)), "crms-jsonl", "$.entities.{1}.{0}"),
        (as_csv(crms.COLUMNS, form(*THINGS)), "crms-csv", "{0}.{1}"),
    ):
        [record], issues = read(data, name)
        assert issues == []
        assert (record.source, record.source_ref, record.category, record.message_ref, record.version) == (
            SourceSystem.CRMS, "RIF-2026-0001", "crms.risk", "", version_of(ISSUED),
        )  # fmt: skip
        assert [(x.type.value, x.value, x.source_path, x.role) for x in record.identifiers] == [
            ("container", BOX_A, place.format("container_number", 1), ""),
            ("seal", "SEAL77", place.format("seal", 1), ""),
            ("container", BOX_B, place.format("container_number", 2), ""),
            ("mrn", "25BE000000000SYN01", place.format("mrn", 3), ""),
            ("transport_document", "H1001", place.format("transport_document", 3), ""),
            ("plate", "DE:BAB1234", place.format("plate", 4), ""),
            ("vat", "BE0697449992", place.format("vat_number", 5), "consignee"),
            ("eori", "BE0697449992", place.format("eori", 5), "consignee"),
            ("phone", "+3222345678", place.format("phone_number", 5), "consignee"),
        ]
        assert [(x.role, x.kind, x.name, x.country, x.birth_date) for x in record.parties] == [
            ("consignee", PartyKind.ORGANISATION, "Lines NV", "BE", ""),
            ("driver", PartyKind.PERSON, "Muster, Max", "", "1980"),
        ]
        # A form ends no message but itself.
        assert supersessions(data, name) == []


def test_everything_a_form_can_say() -> None:
    line = form(
        {**BOX, "description": "white reefer"}, contact="+32 2 000 00 00", risk_type="narcotics", risk_level="high",
        description=f"also look at {BOX_C}", valid_until="2027-01-01T00:00:00Z",
    )  # fmt: skip
    for data, name in ((jsonl(line), "crms-jsonl"), (as_csv(crms.COLUMNS, line), "crms-csv")):
        [record], issues = read(data, name)
        assert issues == []
        assert record.valid_until == datetime(2027, 1, 1, tzinfo=UTC)
        assert dict(record.fields) == {
            Field.REFERENCE: ("RIF-2026-0001",),
            Field.RISK_INFORMATION: (
                "security and safety", "narcotics", "high", f"also look at {BOX_C}", "white reefer",
            ),
            Field.CONTACT: ("Customs BE", "+32 2 000 00 00"),
        }  # fmt: skip
        assert record.identifiers[-1].value == BOX_C
        assert record.identifiers[-1].source_path == ("$." if name == "crms-jsonl" else "") + "description#free_text"


def test_what_cannot_be_used_costs_itself() -> None:
    entities = [
        {"type": "container", "container_number": BAD_BOX},
        {"type": "planet", "container_number": BOX_B},
        None,
        {"type": "vehicle", "container_number": BOX_C, "plate": 7},
        BOX,
    ]
    [record], issues = read(jsonl(form(*entities)), "crms-jsonl")
    assert [x.value for x in record.identifiers] == [BOX_A, "SEAL77"]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("field.invalid", "$.entities.2.type", False),
        ("field.invalid", "$.entities.4.plate", False),
        ("container.check_digit", "$.entities.1.container_number", False),
        ("field.invalid", "$.entities.2", False),
        ("field.invalid", "$.entities.3", False),
        ("crms.identifier_not_of_type", "$.entities.4.container_number", False),
    ]


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"rif_ref": None}, "field.missing", "$.rif_ref"),
        ({"issued_at": None}, "field.missing", "$.issued_at"),
        ({"issuing_authority": None}, "field.missing", "$.issuing_authority"),
        ({"risk_area": None}, "field.missing", "$.risk_area"),
        ({"risk_level": "red"}, "field.invalid", "$.risk_level"),
        ({"entities": None}, "field.missing", "$.entities"),
        ({"entities": [{"type": "vehicle"}]}, "crms.no_identifier", "$"),
        ({"entities": [{"type": "location", "address": "Quay 7"}]}, "crms.no_identifier", "$"),
        (
            {"entities": [{"type": "container", "container_number": BAD_BOX}]},
            "container.check_digit",
            "$.entities.1.container_number",
        ),
    ],
)
def test_what_rejects_a_form(changes: dict[str, Any], code: str, path: str) -> None:
    records, issues = read(jsonl(form(**changes), form(rif_ref="RIF-NEXT")), "crms-jsonl")
    assert [record.source_ref for record in records] == ["RIF-NEXT"]
    assert [(x.code, x.line, x.path, x.rejects_record) for x in issues] == [(code, 1, path, True)]


def test_lists_of_different_lengths_cost_the_row() -> None:
    head = "rif_ref,issued_at,issuing_authority,risk_area,entity_type,container_number,plate,plate_country\n"
    start = "RIF-2026-{},2026-05-01T10:00:00Z,Customs BE,security,"
    rows = [
        f"container|vehicle,{BOX_A}|,|B-AB 1234,|DE",
        f"container|vehicle,{BOX_A},|B-AB 1234,|DE",
        f"container,{BOX_A}|{BOX_B},,",
        f"container|container,{BOX_A}|{BOX_B},,",
    ]
    data = head + "".join(start.format(1000 + n) + row + "\n" for n, row in enumerate(rows))
    records, issues = read(data.encode(), "crms-csv")
    assert [(x.source_ref, [y.value for y in x.identifiers]) for x in records] == [
        ("RIF-2026-1000", [BOX_A, "DE:BAB1234"]),
        ("RIF-2026-1003", [BOX_A, BOX_B]),
    ]
    assert [(x.code, x.line, x.rejects_record) for x in issues] == [
        ("csv.list_length", 3, True),
        ("csv.list_length", 4, True),
    ]


def test_a_form_is_withdrawn_with_its_key_and_its_time_alone() -> None:
    line = {"rif_ref": "RIF-2026-0001", "issued_at": "2026-05-01T10:00:00Z", "withdrawn": True}
    version = version_of(ISSUED, Rank.WITHDRAWAL)
    expected = [Supersession(SourceSystem.CRMS, "RIF-2026-0001", version, withdrawn=True, reason="deleted")]
    assert supersessions(jsonl(line), "crms-jsonl") == expected
    assert supersessions(as_csv(crms.COLUMNS, line), "crms-csv") == expected


def test_both_forms_are_recognised() -> None:
    assert len(read(jsonl(form()))[0]) == len(read(as_csv(crms.COLUMNS, form()))[0]) == 1


def test_the_model_writes_what_the_reader_reads() -> None:
    written = crms.RiskForm(
        rif_ref="RIF-1", issued_at=ISSUED, issuing_authority="Customs BE", risk_area="fraud",
        entities=(crms.RiskEntity(type="container", container_number=BOX_A),),
    )  # fmt: skip
    [record], issues = read(written.model_dump_json(exclude_none=True).encode(), "crms-jsonl")
    assert (record.source_ref, issues) == ("RIF-1", [])


def test_the_tables_of_the_format_agree() -> None:
    assert set(get_args(crms.EntityType)) <= set(KINDS)
    assert {name for name in CATEGORIES if name.startswith("crms.")} == {crms.CATEGORY}


def test_the_format_is_documented() -> None:
    text = documentation("crms") + documentation("things")
    wanted = [
        *crms.COLUMNS,
        *crms.RiskForm.model_fields,
        *get_args(crms.EntityType),
        *get_args(crms.RiskLevel),
        *crms.CODES,
    ]
    assert [word for word in wanted if f"`{word}`" not in text] == []


def test_the_examples_in_the_documentation_are_read() -> None:
    for name, data in documented_examples("crms").items():
        records, issues = read(data, f"crms-{name}")
        assert codes(issues) == []
        assert len(records) >= 2
        assert len(supersessions(data, f"crms-{name}")) == 1
