"""What is read from CISE messages, what is a record of its own, which message replaces which, and what a bad one costs."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import pytest

from connector_psi.adapters import cise, formats, xml
from connector_psi.domain import maritime
from connector_psi.domain.records import Field, PartyKind, Rank, Record, SourceSystem, Supersession, version_of
from connector_psi.errors import ConfigError
from connector_psi.storage import records as store_records
from connector_psi.storage.store import Store
from tests.cise_samples import (
    BAD_BOX,
    BOX_A,
    BOX_B,
    CREATED,
    IMO,
    LEI,
    MESSAGE_ID,
    MMSI,
    MRN,
    NAMESPACES,
    PARTICIPANT,
    VAT,
    agent,
    concerns,
    container,
    deletion,
    described,
    entity,
    imo,
    message,
    passport,
    rel,
    tag,
    title,
    uuid,
)
from tests.customs_samples import Told, example, identifiers, told
from tests.simulation.federation import SeededRandom

REF = f"{PARTICIPANT}@{MESSAGE_ID}"
VERSION = version_of(datetime.fromisoformat(CREATED))
VESSEL = entity("Vessel", imo())


def read(data: bytes, schemas: Path | None = None) -> Told:
    return told(cise.read, data, schemas)


def one(*parts: str, kind: str = "Push", **options: Any) -> Record:
    """Read a message that holds one record and costs nothing."""
    found = read(message(*parts, kind=kind, **options))
    assert found.issues == []
    [record] = found.records
    return record


def told_of(*parts: str) -> list[tuple[str, set[tuple[str, str, str]]]]:
    """Return category and identifiers of each record of an entity."""
    found = read(message(*parts))
    assert found.issues == []
    return [(record.category, identifiers(record)) for record in found.records]


def refs(found: Told) -> list[str]:
    return [record.source_ref for record in found.records]


def line_of(data: bytes, text: str) -> int:
    return data[: data.index(text.encode())].count(b"\n") + 1


# --- what an entity yields ---


def test_a_vessel_is_a_record_with_its_numbers_and_what_people_call_it() -> None:
    vessel = entity(
        "Vessel", uuid("U-1"), tag("Name", "EXAMPLE  STAR"),
        rel("LocationRel", "Location", "PortLocation", tag("LocationCode", "BEANR")),
        tag("Nationality", "PA"), tag("CallSign", "H3XY"), imo(), tag("MMSI", MMSI), tag("ShipType", "GeneralCargoShip"),
    )  # fmt: skip
    data = message(vessel)
    found = read(data)
    [record] = found.records
    assert found.issues == []
    assert (record.source, record.category) == ("CISE", "cise.vessel")
    assert (record.source_ref, record.message_ref, record.version) == (f"{PARTICIPANT}/-/U-1",) * 2 + (VERSION,)
    assert record.message_digest == hashlib.sha256(data).digest()
    assert (record.incomplete, record.hidden, record.valid_until) == (False, False, None)
    assert [(x.type, x.value, x.source_path, x.role) for x in record.identifiers] == [
        ("imo", IMO, "/Push/Payload/Vessel/IMONumber", ""),
        ("mmsi", MMSI, "/Push/Payload/Vessel/MMSI", ""),
    ]
    assert record.fields == {
        Field.REFERENCE: ("U-1", MESSAGE_ID),
        Field.PLACE: ("BEANR",),
        Field.OBJECT_TYPE: ("vessel", "GeneralCargoShip"),
        Field.MEANS: (f"vessel EXAMPLE STAR, imo {IMO}, mmsi {MMSI}, call sign H3XY, flag PA",),
        Field.OBJECT_IDENTIFIERS: (f"imo {IMO}", f"mmsi {MMSI}"),
        Field.PROVIDER: (PARTICIPANT,),
        Field.HANDLING_CODES: ("NonClassified", "Amber", "CustomsMonitoring"),
    }


def markings(*texts: str) -> str:
    return "".join(tag("ExternalMarkings", text) for text in texts)


@pytest.mark.parametrize(
    ("name", "parts", "category", "expected"),
    [
        ("Aircraft", [markings("D-ABCD")], "cise.aircraft", {("aircraft", "DABCD", "")}),
        ("Aircraft", [markings("N123AB", "POLICE", "BORDER")], "cise.aircraft", {("aircraft", "N123AB", "")}),
        ("LandVehicle", [markings("1-ABC-123"), tag("Nationality", "BE")], "cise.vehicle", {("plate", "BE:1ABC123", "")}),
        ("LandVehicle", [markings("1-ABC-123")], "cise.vehicle", {("plate_number", "1ABC123", "")}),
        ("LandVehicle", [markings("BE:1-ABC-123", "DHL")], "cise.vehicle", {("plate", "BE:1ABC123", "")}),
        ("LandVehicle", [tag("Name", "car WVWZZZ1JZXW000001")], "cise.vehicle", {("vin", "WVWZZZ1JZXW000001", "")}),
        ("ContainmentUnit", [container("csqu 305438-3")], "cise.containment_unit", {("container", BOX_A, "")}),
        ("ContainmentUnit", [container(f"{BOX_A} / {BOX_B}")], "cise.containment_unit", {("container", BOX_A, ""), ("container", BOX_B, "")}),
        ("ContainmentUnit", [tag("OtherMarksAndNumber", f"in {BOX_B}")], "cise.containment_unit", {("container", BOX_B, "")}),
        ("Organization", [tag("IdentificationNumber", LEI)], "cise.organisation", {("lei", LEI, "")}),
        ("FormalOrganization", [tag("IdentificationNumber", VAT)], "cise.organisation", {("vat", VAT, "")}),
        ("Person", [passport()], "cise.person", {("identity_document", "FR/P/12AB34567", "")}),
        ("Agent", [tag("ContactInformation", "a.b@lines.example, tel. +32 2 555 01 23.")], "cise.person", {("email", "a.b@lines.example", ""), ("phone", "+3225550123", "")}),
        ("CargoDocument", [title(f"MRN {MRN}")], "cise.document", {("mrn", MRN, "")}),
        ("CargoDocument", [title("Bill of Lading No. SYNM-2025/771")], "cise.document", {("transport_document", "SYNM2025771", "")}),
        ("Document", [title("AWB 020-12345675")], "cise.document", {("transport_document", "02012345675", "")}),
        ("VesselDocument", [tag("Subject", f"IMO {IMO}, container {BOX_A}")], "cise.document", {("imo", IMO, ""), ("container", BOX_A, "")}),
        ("PersonDocument", [title("passport FR 12AB34567")], "cise.document", {("identity_document", "FR/P/12AB34567", "")}),
    ],
)  # fmt: skip
def test_each_entity_yields_its_identifiers(
    name: str, parts: list[str], category: str, expected: set[tuple[str, str, str]]
) -> None:
    record = one(entity(name, *parts))
    assert (record.category, identifiers(record)) == (category, expected)


def test_what_stands_in_a_text_is_marked_as_found_there() -> None:
    record = one(entity("ContainmentUnit", tag("Name", f"box {BOX_A}")))
    assert [x.source_path for x in record.identifiers] == ["/Push/Payload/ContainmentUnit/Name#free_text"]
    record = one(entity("CargoDocument", title(f"MRN {MRN}")))
    assert [x.source_path for x in record.identifiers] == ["/Push/Payload/CargoDocument/Title#free_text"]


@pytest.mark.parametrize(
    "parts",
    [
        [container("NONE"), markings("D-ABCD")],
        [tag("Name", "MRN"), title(MRN)],
        [title("AWB"), tag("Subject", "mawb 020-12345675")],
    ],
)
def test_what_is_not_certain_is_not_taken(parts: list[str]) -> None:
    name = "ContainmentUnit" if "Marks" in parts[0] else "Document"
    assert read(message(entity(name, *parts))).records == []


def test_a_person_is_who_it_is_and_told_of_by_field() -> None:
    born = rel("LocationRel", "Location", "NamedLocation", tag("GeographicName", "Lyon"), role="PlaceOfBirth")
    lives = rel("LocationRel", "Location", "PortLocation", tag("LocationCode", "BEANR"), role="IsLocatedIn")
    person = entity(
        "Person", "<IsOfInterest>true</IsOfInterest><IsSuspect>1</IsSuspect>", tag("Nationality", "fra"), born, lives,
        tag("AlternativeName", "J. Doe"), tag("BirthDate", "1980-05-17+01:00"), tag("BirthName", "Roe"), tag("FamilyName", "Doe"),
        tag("FullName", "Jane Doe"), tag("Gender", "Female"), tag("GivenName", "Jane"), tag("PatronymicName", "Ann"),
    )  # fmt: skip
    record = one(person)
    [party] = record.parties
    assert (party.role, party.kind, party.name, party.aliases) == (
        "subject",
        PartyKind.PERSON,
        "Doe, Jane Ann",
        ("Roe", "J. Doe"),
    )
    assert (party.birth_date, party.birth_place, party.nationalities, party.gender) == (
        "1980-05-17",
        "Lyon",
        ("FR",),
        "female",
    )
    assert (party.address, party.country, party.source_path) == ("BEANR", "BE", "/Push/Payload/Person")
    fields = {
        name: values for name, values in record.fields.items() if name not in {Field.HANDLING_CODES, Field.PROVIDER}
    }
    assert fields == {
        Field.REFERENCE: (MESSAGE_ID,),
        Field.NAMES: ("Doe, Jane Ann", "Roe", "J. Doe"),
        Field.BIRTH: ("1980-05-17, Lyon",),
        Field.RESIDENCE: ("BEANR",),
        Field.GENDER: ("female",),
        Field.NATIONALITY: ("FR",),
        Field.SUBJECT_CLASS: ("suspect", "of_interest"),
    }


def test_a_name_as_a_whole_is_taken_where_its_parts_are_not_kept_apart() -> None:
    assert one(entity("Person", tag("FullName", "Jane Doe"), tag("FamilyName", "Doe"))).parties[0].name == "Jane Doe"
    assert one(entity("Person", tag("FamilyName", "Doe"))).parties[0].name == "Doe"


def test_a_paper_of_somebody_with_two_nationalities_is_of_neither() -> None:
    two = tag("Nationality", "BE") + passport()
    [issue] = read(message(entity("Person", two))).issues
    assert (issue.code, issue.rejects_record) == ("identity_document.country_missing", True)
    written = passport("FR/P/12AB34567", "FR").replace("<Nationality>", "<Nationality>BE</Nationality><Nationality>")
    assert identifiers(one(entity("Person", written))) == {("identity_document", "FR/P/12AB34567", "")}


def test_numbers_of_tax_and_social_security_are_not_read() -> None:
    for kind in ("FiscalDocument", "SocialSecurityCard", "VISA", "CrewMasterBook", "Other"):
        person = entity("Person", passport().replace("Passport", kind), tag("FamilyName", "Doe"))
        record = one(person.replace("</PersonIdentifiers><FamilyName>", "</PersonIdentifiers><FamilyName>"))
        assert identifiers(record) == set()
        assert "12AB34567" not in str(dict(record.fields))


def test_an_organisation_has_its_names_and_other_numbers_for_people() -> None:
    record = one(
        entity(
            "PortOrganization", tag("AlternativeName", "Lines"), tag("IdentificationNumber", "HRB 123456"),
            tag("LegalName", "Lines NV"), tag("IMOCompanyIdentificationNumber", IMO),
        )
    )  # fmt: skip
    # A company's IMO number is of another register than that of ships.
    assert identifiers(record) == set()
    assert record.fields[Field.OBJECT_IDENTIFIERS] == ("registered HRB 123456", f"imo company {IMO}")
    assert [(x.kind, x.name, x.aliases) for x in record.parties] == [(PartyKind.ORGANISATION, "Lines NV", ("Lines",))]


@pytest.mark.parametrize(
    ("name", "leaf", "value", "words"),
    [
        ("Incident", "Severity", "Minor", "incident severity Minor"),
        (
            "LawInfringementIncident",
            "LawInfringementIncidentType",
            "DrugSmugglingCocaine",
            "incident type DrugSmugglingCocaine",
        ),
        (
            "MaritimeSafetyIncident",
            "MaritimeSafetyIncidentType",
            "LostFoundContainers",
            "incident type LostFoundContainers",
        ),
        ("PollutionIncident", "PollutionType", "OIL", "incident pollution OIL"),
        ("CrisisIncident", "CrisisIncidentType", "ArmedConflict", "incident type ArmedConflict"),
        (
            "IrregularMigrationIncident",
            "IrregularMigrationIncidentType",
            "IrregularStay",
            "incident type IrregularStay",
        ),
        ("Anomaly", "AnomalyType", "WithoutAISTransmission", "anomaly type WithoutAISTransmission"),
        ("Risk", "RiskType", "Smuggling", "risk type Smuggling"),
    ],
)
def test_an_event_is_told_in_words_and_found_by_what_it_concerns(name: str, leaf: str, value: str, words: str) -> None:
    record = one(entity(name, concerns("Vessel", imo()), tag(leaf, value)))
    assert record.category == ("cise.risk" if name == "Risk" else "cise.incident")
    assert identifiers(record) == {("imo", IMO, "vessel")}
    assert record.fields[Field.RISK_INFORMATION] == (words,)


def test_what_is_said_of_health_is_not_read() -> None:
    health = (
        "<DeathsOnBoard>7</DeathsOnBoard><DiseasesOnBoard>true</DiseasesOnBoard><InfectionOnBoard>true</InfectionOnBoard>"
        "<Instructions>isolate Doe</Instructions><NumberOfIIllPersons>77</NumberOfIIllPersons>"
    )
    record = one(entity("Incident", concerns("Vessel", imo()), health, "<SickAnimalOnBoard>true</SickAnimalOnBoard>"))
    assert Field.RISK_INFORMATION not in record.fields
    assert "isolate" not in str(dict(record.fields))
    described_by = entity("PersonDocument", title("passport FR 12AB34567"), tag("DocumentType", "HealthCertificate"))
    assert one(described_by).fields[Field.OBJECT_TYPE] == ("person_document",)


# --- what belongs to whose record ---


def test_a_risk_has_the_identifiers_of_all_that_it_concerns() -> None:
    risk = entity(
        "Risk", uuid("R-1", "BE-CUSTOMS"), "<RiskLevel>High</RiskLevel><RiskType>Smuggling</RiskType>",
        concerns("ContainmentUnit", container()), concerns("Vessel", imo(), agent("Organization", tag("IdentificationNumber", LEI), tag("LegalName", "Lines NV"), role="VesselCompany")),
        described("CargoDocument", title(f"MRN {MRN}")), agent("Person", passport(), tag("FamilyName", "Doe"), role="Cause"),
    )  # fmt: skip
    record = one(risk)
    assert record.source_ref == f"{PARTICIPANT}/BE-CUSTOMS/R-1"
    assert identifiers(record) == {
        ("container", BOX_A, "containment_unit"),
        ("imo", IMO, "vessel"),
        ("lei", LEI, "VesselCompany"),
        ("mrn", MRN, "cargo_document"),
        ("identity_document", "FR/P/12AB34567", "Cause"),
    }
    assert record.fields[Field.RISK_INFORMATION] == ("risk type Smuggling", "risk level High")
    assert record.fields[Field.GOODS_IDENTIFIERS] == (f"container {BOX_A}",)
    assert record.fields[Field.MEANS] == (f"vessel, imo {IMO}",)
    assert record.fields[Field.PARTY_NAMES] == ("VesselCompany: Lines NV", "Cause: Doe")
    assert record.fields[Field.MRN] == (MRN,)
    assert [(x.role, x.kind, x.name) for x in record.parties] == [
        ("VesselCompany", PartyKind.ORGANISATION, "Lines NV"),
        ("Cause", PartyKind.PERSON, "Doe"),
    ]
    # What a person is belongs to a record of the person alone.
    assert not {Field.NAMES, Field.BIRTH, Field.DOCUMENTS, Field.OBJECT_IDENTIFIERS} & set(record.fields)


RISK = "<RiskType>Smuggling</RiskType>"
OWNER = [tag("LegalName", "Lines NV"), tag("IdentificationNumber", LEI)]


@pytest.mark.parametrize(
    ("one_way", "other_way", "category"),
    [
        (
            entity("Risk", RISK, concerns("Vessel", imo())),
            entity("Vessel", rel("InvolvedRiskRel", "Risk", "Risk", RISK), imo()),
            "cise.risk",
        ),
        (
            entity("Incident", concerns("ContainmentUnit", container())),
            entity("ContainmentUnit", rel("InvolvedEventRel", "Event", "Incident"), container()),
            "cise.incident",
        ),
        (
            entity("Risk", agent("Organization", *OWNER, role="Involved")),
            entity("Organization", rel("InvolvedRiskRel", "Risk", "Risk", role="Involved"), *OWNER),
            "cise.risk",
        ),
        (
            entity("Vessel", agent("Organization", *OWNER, role="Owner")),
            entity("Organization", rel("InvolvedObjectRel", "Object", "Vessel", role="Owner"), *OWNER),
            "cise.vessel",
        ),
    ],
)
def test_it_does_not_matter_which_of_two_holds_the_other(one_way: str, other_way: str, category: str) -> None:
    outer = one(one_way)
    [inner] = [record for record in read(message(other_way)).records if record.category == category]
    assert identifiers(outer) == identifiers(inner) != set()
    assert [(x.role, x.name) for x in outer.parties] == [(x.role, x.name) for x in inner.parties]
    for name in (Field.RISK_INFORMATION, Field.MEANS, Field.GOODS_IDENTIFIERS, Field.PARTY_NAMES):
        assert outer.fields.get(name) == inner.fields.get(name)


def test_equals_are_records_of_their_own() -> None:
    unit = rel("ContainedCargoUnitRel", "CargoUnit", "ContainmentUnit", container())
    cargo = rel("CargoRel", "Cargo", "Cargo", described("CargoDocument", title(f"MRN {MRN}")), unit)
    lorry = rel("VehiclesRel", "Vehicle", "LandVehicle", markings("1-ABC-123"), tag("Nationality", "BE"))
    assert told_of(entity("Vessel", lorry, cargo, imo())) == [
        ("cise.vessel", {("imo", IMO, "")}),
        ("cise.cargo", {("mrn", MRN, "cargo_document"), ("container", BOX_A, "containment_unit")}),
        ("cise.vehicle", {("plate", "BE:1ABC123", "")}),
    ]
    partner = rel("InvolvedWithRel", "Agent", "Person", passport(), role="WorksFor")
    member = rel("ParticipantRel", "Organization", "Organization", tag("IdentificationNumber", VAT))
    group = entity("OrganizationalCollaboration", partner, tag("IdentificationNumber", LEI), member)
    assert told_of(group) == [
        ("cise.organisation", {("lei", LEI, "")}),
        ("cise.person", {("identity_document", "FR/P/12AB34567", "")}),
        ("cise.organisation", {("vat", VAT, "")}),
    ]


def test_what_is_aboard_says_of_what_in_words_only() -> None:
    cargo = rel("CargoRel", "Cargo", "Cargo", rel("ContainedCargoUnitRel", "CargoUnit", "ContainmentUnit", container()))
    found = read(message(entity("Vessel", uuid("U-1"), tag("Name", "STAR"), cargo, imo())))
    assert refs(found) == [f"{PARTICIPANT}/-/U-1", f"{PARTICIPANT}/-/U-1/1"]
    assert identifiers(found.records[1]) == {("container", BOX_A, "containment_unit")}
    assert found.records[1].fields[Field.MEANS] == (f"vessel STAR, imo {IMO}",)


@pytest.mark.parametrize("role", ["Passenger", "CrewMember", "Employee"])
def test_people_aboard_are_records_of_their_own_from_either_end(role: str) -> None:
    expected = [("cise.vessel", {("imo", IMO, "")}), ("cise.person", {("identity_document", "FR/P/12AB34567", "")})]
    assert told_of(entity("Vessel", agent("Person", passport(), role=role), imo())) == expected
    assert told_of(entity("Person", rel("InvolvedObjectRel", "Object", "Vessel", imo(), role=role), passport())) == [
        expected[1],
        expected[0],
    ]


def test_a_master_belongs_to_the_vessel() -> None:
    vessel = entity("Vessel", agent("Person", passport(), role="CaptainMaster"), imo())
    assert told_of(vessel) == [
        ("cise.vessel", {("imo", IMO, ""), ("identity_document", "FR/P/12AB34567", "CaptainMaster")})
    ]


@pytest.mark.parametrize("role", ["Reporter", "Observer", "Informed", "Coordinator", "Victim"])
def test_who_reported_and_who_suffered_are_left_out_from_either_end(role: str) -> None:
    expected = [("cise.incident", {("imo", IMO, "vessel")})]
    incident = entity("Incident", concerns("Vessel", imo()), agent("Person", passport(), role=role))
    assert told_of(incident) == expected
    involved = rel("InvolvedEventRel", "Event", "Incident", concerns("Vessel", imo()), role=role)
    assert told_of(entity("Person", involved, passport())) == [
        ("cise.person", {("identity_document", "FR/P/12AB34567", "")})
    ]


def test_a_vessel_that_reported_is_left_out_and_one_that_suffered_is_not() -> None:
    for role, expected in (("Reporter", set()), ("Observer", set()), ("Victim", {("imo", IMO, "vessel")})):
        incident = entity("Incident", concerns("Vessel", imo(), role=role), concerns("ContainmentUnit", container()))
        assert told_of(incident) == [("cise.incident", {("container", BOX_A, "containment_unit"), *expected})]
    assert told_of(entity("Risk", agent("Person", passport(), role="Reports"), concerns("Vessel", imo()))) == [
        ("cise.risk", {("imo", IMO, "vessel")})
    ]


def test_a_risk_that_an_incident_implies_is_one_thing_with_it_and_another_incident_is_not() -> None:
    implied = rel("ImpliedRiskRel", "Risk", "Risk", RISK, concerns("ContainmentUnit", container()))
    other = rel("InvolvedWithRel", "Event", "Incident", concerns("Vessel", imo("9176187")))
    found = read(message(entity("Incident", other, implied, concerns("Vessel", imo()))))
    assert [identifiers(record) for record in found.records] == [
        {("imo", IMO, "vessel"), ("container", BOX_A, "containment_unit")},
        {("imo", "9176187", "vessel")},
    ]
    assert found.records[0].fields[Field.RISK_INFORMATION] == ("risk type Smuggling",)


def test_a_movement_is_no_record_and_what_moves_is() -> None:
    movement = entity("Movement", concerns("Vessel", imo()), concerns("Aircraft", markings("D-ABCD")))
    assert told_of(movement) == [("cise.vessel", {("imo", IMO, "")}), ("cise.aircraft", {("aircraft", "DABCD", "")})]
    sails = rel("InvolvedEventRel", "Event", "Movement", concerns("LandVehicle", markings("BE:1-ABC-123")))
    assert told_of(entity("Vessel", sails, imo())) == [
        ("cise.vessel", {("imo", IMO, "")}),
        ("cise.vehicle", {("plate", "BE:1ABC123", "")}),
    ]


def test_the_authorities_own_actions_and_assets_are_not_read() -> None:
    boat = rel("CorrespondentVehicleRel", "Vehicle", "Vessel", imo())
    data = message(entity("OperationalAsset", boat), entity("Action", concerns("Vessel", imo())), entity("Location"))
    found = read(data)
    assert found.records == []
    assert [(x.code, x.path, x.rejects_record) for x in found.issues] == [
        ("cise.entity_not_read", f"/Push/Payload/{name}", False) for name in ("OperationalAsset", "Action", "Location")
    ]
    asset = rel("CorrespondentAssetRel", "OperationalAsset", "OperationalAsset", boat)
    action = rel("InvolvedEventRel", "Event", "Action", concerns("Vessel", imo("9176187")))
    assert told_of(entity("Vessel", action, asset, imo())) == [("cise.vessel", {("imo", IMO, "")})]


def test_a_type_that_the_model_does_not_have_costs_itself_alone() -> None:
    strange = tag("InvolvedObjectRel", "<Object>\n" + imo() + "</Object>")
    other = tag("InvolvedObjectRel", f'<Object xsi:type="vessel:{BOX_A}">{imo()}</Object>')
    data = message(entity("Risk", strange, other, concerns("ContainmentUnit", container())))
    found = read(data)
    assert [identifiers(record) for record in found.records] == [{("container", BOX_A, "containment_unit")}]
    path = "/Push/Payload/Risk/InvolvedObjectRel/Object"
    assert [(x.code, x.path, x.rejects_record) for x in found.issues] == [("cise.type_unknown", path, False)] * 2
    assert found.issues[0].line == line_of(data, "<Object>")


def test_the_type_that_an_entity_states_counts_and_not_its_element() -> None:
    risk = f'<Entity xsi:type="risk:Risk">{concerns("Vessel", imo())}</Entity>'
    assert [record.category for record in read(message(risk)).records] == ["cise.risk"]
    found = read(message('<Vessel xsi:type="Strange"/>'))
    assert [(x.code, x.rejects_record) for x in found.issues] == [("cise.type_unknown", False)]


def test_what_lies_too_deep_is_reported_and_left() -> None:
    def ferry(depth: int) -> str:
        return imo() if depth == 0 else rel("VehiclesRel", "Vehicle", "Vessel", ferry(depth - 1))

    assert len(read(message(entity("Vessel", ferry(cise.MAX_DEPTH)))).records) == 1
    found = read(message(entity("Vessel", ferry(cise.MAX_DEPTH + 1))))
    assert (found.records, found.codes) == ([], ["cise.too_deep"])


def test_names_of_entities_within_entities_are_no_entities_of_the_payload() -> None:
    inner = rel("InvolvedRiskRel", "Risk", "Risk", described("Document", title("AWB 020-12345675")))
    cargo = rel("CargoRel", "Cargo", "Cargo", described("Document", title("AWB 020-12345686")))
    found = read(message(entity("Vessel", inner, cargo, imo()), VESSEL))
    assert [(record.category, record.source_ref) for record in found.records] == [
        ("cise.vessel", f"{REF}/1"),
        ("cise.risk", f"{REF}/1/1"),
        ("cise.cargo", f"{REF}/1/2"),
        ("cise.vessel", f"{REF}/2"),
    ]


def test_what_one_entity_gives_to_another_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maritime, "MAX_SHARED", 2)
    names = "".join(tag("Name", f"IMO {number}") for number in ("9074729", "9176187", "9362255", "7710525"))
    found = read(message(entity("Vessel", names, rel("InvolvedRiskRel", "Risk", "Risk", RISK))))
    assert [len(record.identifiers) for record in found.records] == [4, 2]


# --- what holds for all of a message ---


@pytest.mark.parametrize(
    ("level", "sensitivity", "hidden"),
    [
        ("NonClassified", "White", False),
        ("NonSpecified", "NonSpecified", False),
        ("NonClassified", "Amber", False),
        ("NonClassified", "Red", True),
        ("EURestricted", "Green", True),
        ("EUConfidential", "Green", True),
        ("EUSecret", "Green", True),
        ("EUTopSecret", "Green", True),
        ("NATOSecret", "Green", True),
        ("NonClassified", "Purple", True),
    ],
)
def test_what_is_classified_or_for_its_recipient_alone_stays_hidden(level: str, sensitivity: str, hidden: bool) -> None:
    assert one(VESSEL, level=level, sensitivity=sensitivity).hidden is hidden
    metadata = tag(
        "Metadata",
        tag("InformationSecurityClassification", level) + tag("InformationSensitivityDegree", sensitivity),
    )
    assert one(entity("Vessel", metadata, imo())).hidden is hidden


def test_one_classified_part_hides_the_record_and_what_lies_in_it() -> None:
    secret = tag("Metadata", tag("InformationSecurityClassification", "EUSecret"))
    part = entity("Risk", concerns("Vessel", secret, imo()))
    assert [record.hidden for record in read(message(part, VESSEL)).records] == [True, False]
    cargo = rel("CargoRel", "Cargo", "Cargo", title(""), tag("Name", f"box {BOX_A}"))
    assert [x.hidden for x in read(message(entity("Vessel", secret, cargo, imo()))).records] == [True, True]
    open_vessel = entity("Vessel", cargo.replace("<Name>", f"{secret}<Name>"), imo())
    assert [x.hidden for x in read(message(open_vessel)).records] == [False, True]


def validity(*ends: str) -> str:
    return "".join(tag("Metadata", tag("ValidityPeriod", end)) for end in ends)


@pytest.mark.parametrize(
    ("retention", "periods", "until"),
    [
        ("2027-01-01T00:00:00+01:00", [], datetime(2026, 12, 31, 23, tzinfo=UTC)),
        ("2027-01-01T00:00:00", [], datetime(2027, 1, 1, tzinfo=UTC)),
        ("", ["<EndDate>2027-03-01</EndDate>"], datetime(2027, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)),
        ("", ["<EndDate>2027-03-01Z</EndDate><EndTime>12:00:00+01:00</EndTime>"], datetime(2027, 3, 1, 11, tzinfo=UTC)),
        ("", ["<EndDate>2027-03-01+02:00</EndDate><EndTime>12:00:00</EndTime>"], datetime(2027, 3, 1, 10, tzinfo=UTC)),
        ("", ["<EndDate>2027-03-01</EndDate>", "<EndDate>2028-03-01</EndDate>"], datetime(2028, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2027-01-01T00:00:00Z", ["<EndDate>2027-03-01</EndDate>"], datetime(2027, 1, 1, tzinfo=UTC)),
        ("2028-01-01T00:00:00Z", ["<EndDate>2027-03-01</EndDate>"], datetime(2027, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)),
        ("", ["<EndDate>9999-12-31-14:00</EndDate>"], datetime.fromisoformat("9999-12-31T23:59:59.999999-14:00")),
        ("", ["<EndDate>2027-02-30</EndDate>", "<StartDate>2026-01-01</StartDate>"], None),
    ],
)  # fmt: skip
def test_a_record_leaves_when_it_may_no_longer_be_kept_or_no_longer_holds(
    retention: str, periods: list[str], until: datetime | None
) -> None:
    payload = tag("RetentionPeriod", retention) if retention else ""
    assert one(entity("Vessel", validity(*periods), imo()), payload=payload).valid_until == until


def test_what_lies_in_an_entity_holds_as_long_unless_it_says_otherwise() -> None:
    def aboard(period: str) -> list[int]:
        cargo = rel("CargoRel", "Cargo", "Cargo", validity(period) if period else "", tag("Name", f"box {BOX_A}"))
        vessel = entity("Vessel", validity("<EndDate>2027-03-01</EndDate>"), cargo, imo())
        found = [record.valid_until for record in read(message(vessel)).records]
        return [end.year for end in found if end is not None]

    assert aboard("") == [2027, 2027]
    assert aboard("<EndDate>2026-12-01</EndDate>") == [2027, 2026]


def test_a_payload_that_nobody_knows_how_long_to_keep_is_not_taken_in() -> None:
    data = message(VESSEL, payload="\n" + tag("RetentionPeriod", "2027-01-01T1:00:00Z"))
    found = read(data)
    assert found.records == []
    assert found.rejections == [
        ("cise.retention_invalid", "/Push/Payload/RetentionPeriod", line_of(data, "<RetentionPeriod>"))
    ]


def test_what_the_envelope_says_counts_wherever_it_stands() -> None:
    data = message(VESSEL).decode()
    sender = data[data.index("<Sender>") : data.index("</Sender>") + 9]
    behind = data.replace(sender, "").replace("</msg:Push>", sender + "</msg:Push>")
    behind = behind.replace("<InformationSensitivity>Amber</InformationSensitivity>", "")
    behind = behind.replace("</Payload>", "<InformationSensitivity>Red</InformationSensitivity></Payload>")
    [record] = read(behind.encode()).records
    assert (record.source_ref, record.hidden) == (f"{REF}/1", True)


@pytest.mark.parametrize(
    ("old", "twice", "path"),
    [
        ("<Priority>", "<MessageID>other</MessageID><Priority>", "/Push/MessageID"),
        ("<Purpose>", "<InformationSensitivity>White</InformationSensitivity><Purpose>", "/Push/Payload/InformationSensitivity"),
        ("</ServiceID>", "</ServiceID><ServiceID>fr.other.risk.push.provider</ServiceID>", "/Push/Sender/ServiceID"),
        ("<Payload ", "<Sender/><Payload ", "/Push/Sender"),
        ("</msg:Push>", "<Payload><InformationSensitivity>White</InformationSensitivity></Payload></msg:Push>", "/Push/Payload"),
    ],
)  # fmt: skip
def test_an_envelope_that_says_two_things_is_not_taken_in(old: str, twice: str, path: str) -> None:
    found = read(message(VESSEL).decode().replace(old, twice, 1).encode())
    assert found.records == []
    assert [(code, place) for code, place, _ in found.rejections] == [("cise.repeated_element", path)]


def test_a_message_without_a_usable_time_is_read_and_orders_nothing() -> None:
    for time in ("", "yesterday", "2026-13-01T00:00:00Z"):
        found = read(message(VESSEL, created=time))
        assert [record.version for record in found.records] == [0]
        assert [(x.code, x.path, x.rejects_record) for x in found.issues] == [
            ("cise.time_invalid", "/Push/CreationDateTime", False)
        ]


# --- what a record is called ---


def test_a_thing_keeps_its_reference_in_every_message_of_one_participant() -> None:
    vessel = entity("Vessel", uuid("U-1", "BE-MRCC"), imo())
    again = one(vessel, kind="PullResponse", message_id="other", service="be.customs-node01.vessel.pull.provider")
    assert again.source_ref == one(vessel).source_ref == f"{PARTICIPANT}/BE-MRCC/U-1"
    others = {
        one(vessel, service="fr.customs-node01.risk.push.provider").source_ref,
        one(vessel, service="customs-node01").source_ref,
        one(vessel, service="").source_ref,
        one(entity("Vessel", uuid("U-1"), imo())).source_ref,
        one(entity("Vessel", uuid("U-1", "BE_MRCC"), imo())).source_ref,
    }
    assert len(others) == 5
    assert again.source_ref not in others


def test_references_are_short_plain_and_different_for_different_names() -> None:
    names = ["Jane Doe", "Jane  Doe ", "a/b", "a@b", "x" * 49, "x" * 4_000, "\u00e9", "~", "-" * 3]
    found = [one(entity("Vessel", uuid(name, name), imo())).source_ref for name in names]
    assert found[0] == found[1]
    assert len(set(found)) == len(names) - 1
    for ref in found:
        assert len(ref) <= 200
        assert "Jane" not in ref
        assert ref.isascii()
    ids = ["", "M/1", "x" * 4_000]
    assert len({one(VESSEL, message_id=name).source_ref for name in ids}) == 3


def test_without_a_message_an_entity_is_named_by_its_content() -> None:
    data = f"<Vessel {NAMESPACES}>{imo()}</Vessel>".encode()
    [record] = read(data).records
    assert (record.source_ref, record.version) == (f"~{hashlib.sha256(data).hexdigest()[:32]}/1", 0)
    assert [x.source_path for x in record.identifiers] == ["/Vessel/IMONumber"]
    [named] = read(f"<Vessel>{uuid('U-1')}{imo()}</Vessel>".encode()).records
    assert named.source_ref == "-/-/U-1"


def test_one_uuid_twice_in_an_entity_is_two_records() -> None:
    risk = rel("InvolvedRiskRel", "Risk", "Risk", uuid("R-1"), RISK)
    lorry = rel("VehiclesRel", "Vehicle", "LandVehicle", markings("BE:1-ABC-123"), risk)
    found = read(message(entity("Vessel", uuid("U-1"), risk, lorry, imo())))
    assert refs(found) == [f"{PARTICIPANT}/-/{name}" for name in ("U-1", "R-1", "U-1/2", "U-1/3")]


# --- which message replaces which ---


def test_a_message_of_one_thing_shares_its_fate() -> None:
    vessel = entity("Vessel", uuid("U-1"), imo())
    ref = f"{PARTICIPANT}/-/U-1"
    assert read(message(vessel)).ends == [Supersession(SourceSystem.CISE, ref, 0, same_as=REF)]
    # Of several things, none does.
    assert read(message(vessel, VESSEL)).ends == []
    # Without a UUID the message is the thing.
    found = read(message(VESSEL))
    assert (found.records[0].message_ref, found.ends) == (REF, [])


def test_an_entity_that_speaks_of_what_lies_in_it_ends_what_it_no_longer_names() -> None:
    cargo = rel("CargoRel", "Cargo", "Cargo", tag("Name", f"box {BOX_A}"))
    found = read(message(entity("Vessel", uuid("U-1"), cargo, imo())))
    ref = f"{PARTICIPANT}/-/U-1"
    assert [(x.source_ref, x.message_ref) for x in found.records] == [(ref, ref), (f"{ref}/1", ref)]
    assert [(x.message_ref, x.version, x.withdrawn, x.same_as) for x in found.ends] == [(ref, VERSION, False, REF)]


def live(tmp_path: Path, deliveries: Sequence[bytes]) -> set[str]:
    """Deliver messages to a new store; return what is live in the end."""
    store = Store(f"sqlite:///{tmp_path}/x.db", bytes(32), bytes([1]) * 32, SeededRandom("cise"))
    now = 1_800_000_000_000
    try:
        for data in deliveries:
            found = read(data)
            with store.write() as tx:
                store_records.put(store, tx, found.records, now)
                for end in found.ends:
                    store_records.supersede(store, tx, end, now)
        with store.read() as tx:
            found_live = store_records.live_after(store, tx, 0, 100, now)
            return {identifier.value for each in found_live for identifier in each.record.identifiers}
    finally:
        store.close()


def in_any_order(tmp_path: Path, *messages: bytes) -> set[frozenset[str]]:
    states = set()
    for n, deliveries in enumerate(itertools.permutations(messages)):
        folder = tmp_path / str(n)
        folder.mkdir()
        states.add(frozenset(live(folder, deliveries)))
    return states


def test_the_newest_message_about_a_thing_holds_in_any_order(tmp_path: Path) -> None:
    def vessel(number: str, box: str, day: int) -> bytes:
        cargo = rel("CargoRel", "Cargo", "Cargo", tag("Name", f"box {box}")) if box else ""
        sent = entity("Vessel", uuid("U-1"), cargo, imo(number))
        return message(sent, message_id=f"m{day}", created=f"2026-03-0{day}T08:00:00Z")

    first, second = vessel("9074729", BOX_A, 1), vessel("9176187", BOX_B, 2)
    assert in_any_order(tmp_path, first, second) == {frozenset({"9176187", BOX_B})}


def test_an_update_that_is_silent_on_the_cargo_leaves_it(tmp_path: Path) -> None:
    cargo = rel("CargoRel", "Cargo", "Cargo", tag("Name", f"box {BOX_A}"))
    first = message(entity("Vessel", uuid("U-1"), cargo, imo()), message_id="m1", created="2026-03-01T08:00:00Z")
    update = message(entity("Vessel", uuid("U-1"), imo()), message_id="m2", created="2026-03-02T08:00:00Z")
    assert in_any_order(tmp_path, first, update) == {frozenset({IMO, BOX_A})}


def test_a_withdrawal_by_number_holds_in_any_order(tmp_path: Path) -> None:
    def vessel(day: int) -> bytes:
        sent = entity("Vessel", uuid("U-1"), imo())
        return message(sent, message_id=f"m{day}", created=f"2026-03-0{day}T08:00:00Z")

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    about = deletion(about="m2", created="2026-03-03T08:00:00Z")
    assert in_any_order(tmp_path / "a", vessel(1), vessel(2), about) == {frozenset()}
    assert in_any_order(tmp_path / "b", message(VESSEL), deletion()) == {frozenset()}


def test_a_withdrawal_by_entity_holds_in_any_order_and_only_there(tmp_path: Path) -> None:
    both = message(entity("Vessel", uuid("U-1"), imo()), entity("ContainmentUnit", uuid("U-2"), container()))
    about = deletion(entity("Vessel", uuid("U-1")))
    assert in_any_order(tmp_path, both, about) == {frozenset({BOX_A})}


def test_a_withdrawal_says_what_it_withdraws() -> None:
    found = read(deletion(entity("Vessel", uuid("U-1")), entity("Vessel", imo())))
    version = version_of(datetime.fromisoformat("2026-03-03T08:00:00Z"), Rank.WITHDRAWAL)
    assert [(x.message_ref, x.version, x.withdrawn, x.reason) for x in found.ends] == [
        (f"{PARTICIPANT}/-/U-1", version, True, "deleted"),
        (REF, version, True, "deleted"),
    ]
    assert (found.records, found.issues) == ([], [])
    by_number = read(deletion())
    assert [x.message_ref for x in by_number.ends] == [REF]
    assert [(x.code, x.path, x.rejects_record) for x in by_number.issues] == [
        ("cise.delete_by_number", "/Feedback/RefMessageID", False)
    ]


def test_nobody_withdraws_what_another_participant_said() -> None:
    found = read(deletion(entity("Vessel", uuid("U-1")), service="fr.other-node.vessel.feedback.provider"))
    assert [x.message_ref for x in found.ends] == ["fr.other-node/-/U-1", f"fr.other-node@{MESSAGE_ID}"]


def test_a_withdrawal_without_a_time_or_an_end_withdraws_nothing() -> None:
    undated = read(deletion(entity("Vessel", uuid("U-1")), created="x"))
    assert (undated.ends, [code for code, _, _ in undated.rejections]) == ([], ["cise.delete_undated"])
    cut = read(deletion(entity("Vessel", uuid("U-1"))).rstrip()[:-3])
    assert (cut.ends, cut.codes[-1]) == ([], "xml.truncated")


# --- messages that tell nothing ---


@pytest.mark.parametrize("kind", ["PullRequest", "Feedback", "Acknowledgement"])
def test_queries_and_answers_to_messages_tell_nothing(kind: str) -> None:
    found = read(message(VESSEL, kind=kind))
    assert (found.records, found.ends) == ([], [])
    assert [(x.code, x.path, x.rejects_record) for x in found.issues] == [
        ("cise.not_knowledge", f"/{kind}/Payload", False)
    ]
    assert read(message(kind=kind)).items == []


def test_a_response_tells_if_it_succeeded() -> None:
    assert [record.category for record in read(message(VESSEL, kind="PullResponse")).records] == ["cise.vessel"]
    found = read(message(VESSEL, kind="PullResponse", tail=tag("ResultCode", "Unauthorized")))
    assert [(x.code, x.path, x.rejects_record) for x in found.issues] == [
        ("cise.no_success", "/PullResponse/ResultCode", False)
    ]
    assert found.records == []


def test_an_encrypted_payload_is_lost_and_says_so() -> None:
    found = read(message(payload="\n" + tag("Entities", "c2VjcmV0")))
    assert found.rejections == [("cise.encrypted", "/Push/Payload/Entities", 6)]


def test_an_entity_without_identifiers_is_no_record_and_no_loss() -> None:
    data = message(entity("Incident", uuid("U-1"), "<Severity>Minor</Severity>"), entity("Vessel", tag("Name", "STAR")))
    found = read(data)
    assert found.records == []
    assert [(x.code, x.path, x.line, x.rejects_record) for x in found.issues] == [
        ("cise.no_identifier", "/Push/Payload/Incident", line_of(data, "<Incident>"), False),
        ("cise.no_identifier", "/Push/Payload/Vessel", line_of(data, "<Vessel>"), False),
    ]


@pytest.mark.parametrize(
    "root",
    [
        '<m:Pull xmlns:m="http://www.cise.eu/servicemodel/v1/message/"/>',
        '<m:XmlEntityPayload xmlns:m="http://www.cise.eu/servicemodel/v1/message/"/>',
        '<S:Envelope xmlns:S="http://schemas.xmlsoap.org/eu.cise.dispatcher.soap/envelope/"/>',
        "<Push/>",
        "<Unknown/>",
    ],
)
def test_another_message_is_reported_and_its_name_is_not(root: str) -> None:
    found = read(f"\n\n{root}".encode())
    assert found.rejections == [("cise.unsupported_message", "/*", 3)]


# --- what a bad message costs ---


def test_a_number_without_a_canonical_form_costs_itself_and_the_record_only_if_it_was_the_last() -> None:
    data = message(
        entity("Vessel", imo("9074720"), "\n" + tag("MMSI", MMSI)), entity("ContainmentUnit", container(BAD_BOX))
    )
    found = read(data)
    assert [identifiers(record) for record in found.records] == [{("mmsi", MMSI, "")}]
    path = "/Push/Payload/ContainmentUnit/ContainerMarksAndNumber"
    assert [(x.code, x.path, x.line, x.rejects_record) for x in found.issues] == [
        ("imo.check_digit", "/Push/Payload/Vessel/IMONumber", line_of(data, "<IMONumber>"), False),
        ("container.check_digit", path, line_of(data, BAD_BOX), True),
    ]


def test_unknown_elements_are_reported_once_a_place_and_never_by_name() -> None:
    strange = f"<{BOX_A}>{BOX_B}</{BOX_A}>"
    data = message(
        entity("Vessel", strange, imo()), entity("Risk", tag("InvolvedObjectRel", strange), concerns("Vessel", strange, imo())), payload=strange
    )  # fmt: skip
    found = read(data)
    assert len(found.records) == 2
    assert sorted((x.code, x.path or "", x.rejects_record) for x in found.issues) == [
        ("xml.unknown_element", "/Push/Payload/*", False),
        ("xml.unknown_element", "/Push/Payload/Risk/InvolvedObjectRel/*", False),
        ("xml.unknown_element", "/Push/Payload/Risk/InvolvedObjectRel/Object/*", False),
        ("xml.unknown_element", "/Push/Payload/Vessel/*", False),
    ]


def test_entities_outside_the_payload_are_not_read() -> None:
    data = message(VESSEL).decode()
    stray = data.replace("<Payload ", f"{entity('Vessel', imo('9176187'))}<Payload ").encode()
    assert [record.source_ref for record in read(stray).records] == [f"{REF}/1"]
    nested = message(entity("Vessel", tag("Payload", entity("Vessel", imo("9176187"))), imo()))
    assert [identifiers(record) for record in read(nested).records] == [{("imo", IMO, "")}]
    foreign = message('<v:Vessel xmlns:v="urn:other">' + imo() + "</v:Vessel>")
    assert read(foreign).records == []


def test_a_signature_is_left_to_the_gateway() -> None:
    signature = '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo/></Signature>'
    assert one(VESSEL, tail=signature).category == "cise.vessel"


def test_a_message_cut_anywhere_keeps_the_entities_that_closed() -> None:
    data = message(
        *(entity("Vessel", uuid(f"U-{n}"), imo()) for n in range(3)), payload=tag("RetentionPeriod", CREATED)
    )
    data = data.rstrip()
    for cut in range(data.index(b"<Sender>"), len(data)):
        found = read(data[:cut])
        closed = data[:cut].count(b"</Vessel>")
        assert refs(found) == [f"{PARTICIPANT}/-/U-{n}" for n in range(closed)]
        assert all(record.incomplete and record.valid_until is not None for record in found.records)
        assert found.ends == []
        last = found.issues[-1]
        is_open = data[:cut].count(b"<Vessel>") > closed
        assert (last.code, last.rejects_record) == ("xml.truncated", is_open or not closed)
    assert read(data).issues == []


def test_an_entity_that_is_cut_is_lost() -> None:
    data = f"<Vessel>{imo()}<MMSI>{MMSI}</MMSI></Vessel>".encode()
    for cut in range(9, len(data)):
        found = read(data[:cut])
        assert (found.records, [code for code, _, _ in found.rejections]) == ([], ["xml.truncated"])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "file.empty"),
        (b"  ", "xml.truncated"),
        (b"<a", "cise.unsupported_message"),
        (message(VESSEL).replace(b"UTF-8", b"UTF-7"), "xml.encoding"),
        (message(VESSEL).replace(b"?>\n", b'?>\n<!DOCTYPE a [<!ENTITY b "c">]>', 1), "xml.doctype"),
        (message(VESSEL).replace(b"</Vessel>", b"</Vassel>"), "xml.malformed"),
        (message(VESSEL).replace(IMO.encode(), b"&planted;"), "xml.malformed"),
        (message("<a>" * 300 + "</a>" * 300), "xml.too_large"),
        (message("".join(f"<n{n}/>" for n in range(6_000))), "xml.too_many_names"),
        (message(entity("Vessel", "".join(f"<n{n}/>" for n in range(6_000)))), "xml.too_many_names"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, code: str) -> None:
    found = read(data)
    assert (found.records, found.ends) == ([], [])
    assert code in [each for each, _, _ in found.rejections]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_doctype_is_refused_before_any_parser_runs(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object, **_options: object) -> Never:
        raise AssertionError("a parser was given the message")

    monkeypatch.setattr("lxml.etree.iterparse", never)
    text = message(VESSEL).decode().split("\n", 1)[1]
    doctype = '<!DOCTYPE a [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    assert read((doctype + text).encode(encoding)).rejections == [("xml.doctype", None, 1)]


def test_random_damage_never_raises_and_never_shows_in_an_issue() -> None:
    source = random.Random(20260302)
    risk = entity(
        "Risk",
        uuid("PLANTED-1"),
        concerns("Vessel", tag("Name", "PLANTED77"), imo()),
        agent("Person", passport("PLANTED778")),
    )
    data = message(risk, VESSEL, entity("Person", tag("FullName", "PLANTED")))
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(source.randint(1, 6)):
            at = source.randrange(len(broken))
            broken[at : at + source.randint(0, 4)] = source.randbytes(source.randint(0, 4))
        found = read(bytes(broken))
        assert "PLANTED" not in repr(found.issues)
        assert found.issues or found.records


class Repeated(io.RawIOBase):
    """A stream that holds one part many times, and nothing of it in memory."""

    def __init__(self, head: bytes, part: bytes, times: int, tail: bytes) -> None:
        self._edges = (head, part * 64, tail)
        self._times = times
        self.size = len(head) + len(part) * 64 * times + len(tail)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        self._at = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        head, block, tail = self._edges
        body_end = len(head) + len(block) * self._times
        if self._at < len(head):
            piece = head[self._at :]
        elif self._at < body_end:
            piece = block[(self._at - len(head)) % len(block) :]
        else:
            piece = tail[self._at - body_end :]
        piece = piece[: len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def test_entities_are_freed_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    head, tail = message("SPLIT").split(b"SPLIT\n")
    stream = Repeated(head, entity("Vessel", imo()).encode() + b"\n", 100, tail)
    most = 0
    frame = xml.XmlMessage.frame

    def counted(self: xml.XmlMessage, element: xml.Element, node: xml.Node) -> xml.Frame:
        nonlocal most
        assert self.root is not None
        most = max(most, sum(1 for _ in self.root.iter()))
        return frame(self, element, node)

    monkeypatch.setattr(xml.XmlMessage, "frame", counted)
    found = cise.read(io.BufferedReader(stream), "f", None)
    assert sum(isinstance(item, Record) for item in found) == 64 * 100
    assert stream.size > 200_000
    # The envelope, an entity, and what the parser is ahead: one chunk.
    assert most < 2_000


def test_an_entity_beyond_bounds_is_cut_and_the_ones_before_it_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml, "MAX_UNIT_BYTES", 200_000)
    data = message(entity("Vessel", imo()), entity("Vessel", imo(), tag("Name", "x") * 30_000), entity("Vessel", imo()))
    found = read(data)
    assert refs(found) == [f"{REF}/1"]
    assert [(code, line) for code, _, line in found.rejections] == [("xml.too_large", 7)]


# --- around it ---


def test_the_format_is_recognised_by_its_content() -> None:
    for data in (message(VESSEL), message(kind="Acknowledgement"), b"<Vessel/>", b"<LawInfringementIncident/>"):
        assert formats.detect("x", data) == "cise"
    items = list(formats.read(io.BytesIO(message(entity("Vessel", uuid("U-1"), imo()))), file="f"))
    assert [type(item) for item in items] == [Record, Supersession]


def test_a_folder_without_the_schemas_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read(message(VESSEL), tmp_path)
    with pytest.raises(ConfigError):
        read(b"<Vessel/>", tmp_path)


def test_every_code_entity_and_relation_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/formats/cise.md").read_text(encoding="utf-8")
    for word in (*cise.CODES, *cise.TABLES, *maritime.KINDS, *maritime.OTHER_KINDS, *maritime.RELATIONS):
        assert f"`{word}`" in page


def test_the_documented_example_is_read_as_the_page_says() -> None:
    found = read(example("cise"))
    assert found.issues == []
    assert refs(found) == ["be.customs-node01/BE-CUSTOMS/5f0c8a52-3f0e-4d51-9a53-6f2f0f6d0a03"]
    assert identifiers(found.records[0]) == {
        ("container", BOX_A, "containment_unit"),
        ("imo", IMO, "vessel"),
        ("mrn", MRN, "cargo_document"),
    }
