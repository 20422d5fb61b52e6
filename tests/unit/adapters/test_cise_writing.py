"""What is written as CISE messages comes back as it was given; what cannot be written is refused by the name of its field."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from lxml import etree

from connector_psi.adapters import cise, cise_writing
from connector_psi.adapters.cise_writing import (
    Acknowledgement,
    Aircraft,
    Cargo,
    CargoDocument,
    ContainmentUnit,
    Document,
    Entity,
    Feedback,
    Incident,
    Involved,
    Issuer,
    LandVehicle,
    LawInfringementIncident,
    Organization,
    Payload,
    Person,
    PersonIdentifier,
    PullRequest,
    PullResponse,
    Push,
    Risk,
    RiskDocument,
    Service,
    UniqueIdentifier,
    Vessel,
    write_message,
)
from connector_psi.domain.records import Field, Record
from connector_psi.errors import InputError
from tests.cise_samples import BAD_BOX, BOX_A, CREATED, IMO, LEI, MESSAGE_ID, MMSI, MRN, PARTICIPANT, SERVICE
from tests.customs_samples import Told, identifiers, told

CREATED_AT = datetime.fromisoformat(CREATED)
SENDER = Service(service_id=SERVICE, operation="Push", role="Provider", type="RiskService")
PLANTED = "PLANTED-77"


def written(*entities: Entity, body: Any = None, **changes: Any) -> bytes:
    """Write a message that carries entities; changes are of the payload."""
    payload = Payload(
        **{
            "purpose": "CustomsMonitoring",
            "sensitivity": "Amber",
            "personal_data": True,
            "entities": entities,
            **changes,
        }
    )
    return write_message(
        Push() if body is None else body, message_id=MESSAGE_ID, created=CREATED_AT, sender=SENDER, payload=payload
    )


def read(data: bytes) -> Told:
    found = told(cise.read, data)
    assert found.issues == []
    return found


def back(*entities: Entity) -> Record:
    [record] = read(written(*entities)).records
    return record


NUMBER = UniqueIdentifier(generated_by=Issuer(legal_name="BE-CUSTOMS"), generated_in=CREATED_AT, uuid="U-1")
COMPANY = Organization(legal_name="Lines NV", identification_number=LEI)
PERSON = Person(
    family_name="Doe", given_name="Jane", birth_date=date(1980, 5, 17), gender="Female", nationalities=("FR",),
    identifiers=(PersonIdentifier(type="Passport", value="12AB34567"),), is_suspect=True,
)  # fmt: skip


# --- round trips ---


@pytest.mark.parametrize(
    ("entity", "category", "expected"),
    [
        (Vessel(imo=IMO, mmsi=MMSI, names=("STAR",), call_sign="H3XY", types=("OilTanker", "Other")), "cise.vessel", {("imo", IMO, ""), ("mmsi", MMSI, "")}),
        (Aircraft(markings=("D-ABCD",)), "cise.aircraft", {("aircraft", "DABCD", "")}),
        (LandVehicle(markings=("1-ABC-123",), nationalities=("BE",)), "cise.vehicle", {("plate", "BE:1ABC123", "")}),
        (ContainmentUnit(container="csqu 305438-3", package_type="RigidOther"), "cise.containment_unit", {("container", BOX_A, "")}),
        (ContainmentUnit(other_marks=f"box {BOX_A}"), "cise.containment_unit", {("container", BOX_A, "")}),
        (Cargo(type="LargeFreightContainers", units=(ContainmentUnit(container=BOX_A),), documents=(CargoDocument(title=f"MRN {MRN}", type="EntrySummaryDeclaration"),)), "cise.cargo", {("container", BOX_A, "containment_unit"), ("mrn", MRN, "cargo_document")}),
        (PERSON, "cise.person", {("identity_document", "FR/P/12AB34567", "")}),
        (COMPANY, "cise.organisation", {("lei", LEI, "")}),
        (Organization(contact="desk@lines.example"), "cise.organisation", {("email", "desk@lines.example", "")}),
        (Document(title="AWB 020-12345675", subject="freight"), "cise.document", {("transport_document", "02012345675", "")}),
        (RiskDocument(title=f"on IMO {IMO}", type="RiskAssessment"), "cise.document", {("imo", IMO, "")}),
        (Incident(objects=(Involved(entity=Vessel(imo=IMO), role="Mean"),), severity="Severe", certainty="Likely", urgency="Immediate", nature="Observed"), "cise.incident", {("imo", IMO, "vessel")}),
        (LawInfringementIncident(type="DrugSmugglingCocaine", agents=(Involved(entity=COMPANY, role="Participant"),)), "cise.incident", {("lei", LEI, "Participant")}),
        (Risk(level="High", probability="Probable", severity="Critical", type="Smuggling", objects=(Vessel(imo=IMO),), agents=(Involved(entity=COMPANY, role="Cause"),)), "cise.risk", {("imo", IMO, "vessel"), ("lei", LEI, "Cause")}),
        (Risk(incidents=(LawInfringementIncident(objects=(Aircraft(markings=("D-ABCD",)),)),)), "cise.risk", {("aircraft", "DABCD", "aircraft")}),
    ],
)  # fmt: skip
def test_each_entity_comes_back(entity: Entity, category: str, expected: set[tuple[str, str, str]]) -> None:
    record = back(entity)
    assert (record.category, identifiers(record)) == (category, expected)


def test_what_an_entity_says_beside_its_identifiers_comes_back() -> None:
    risk = back(
        Risk(identifier=NUMBER, level="High", probability="Rare", severity="Marginal", type="DrugTrafficking", objects=(Vessel(imo=IMO, nationalities=("PA",)),))
    )  # fmt: skip
    assert risk.source_ref == f"{PARTICIPANT}/BE-CUSTOMS/U-1"
    words = ("type DrugTrafficking", "level High", "probability Rare", "severity Marginal")
    assert risk.fields[Field.RISK_INFORMATION] == tuple(f"risk {each}" for each in words)
    assert risk.fields[Field.MEANS] == (f"vessel, imo {IMO}, flag PA",)
    [party] = back(PERSON).parties
    assert (party.name, party.birth_date, party.gender, party.nationalities) == (
        "Doe, Jane",
        "1980-05-17",
        "female",
        ("FR",),
    )


def test_what_lies_in_an_entity_comes_back_as_it_would_have_alone() -> None:
    vessel = Vessel(
        identifier=NUMBER, imo=IMO, agents=(Involved(entity=COMPANY, role="Owner"), Involved(entity=PERSON, role="CrewMember")),
        cargo=Cargo(units=(ContainmentUnit(container=BOX_A),)), vehicles=(LandVehicle(markings=("BE:1-ABC-123",)),),
    )  # fmt: skip
    found = read(written(vessel, COMPANY))
    assert [(record.category, identifiers(record)) for record in found.records] == [
        ("cise.vessel", {("imo", IMO, ""), ("lei", LEI, "Owner")}),
        ("cise.person", {("identity_document", "FR/P/12AB34567", "")}),
        ("cise.cargo", {("container", BOX_A, "containment_unit")}),
        ("cise.vehicle", {("plate", "BE:1ABC123", "")}),
        ("cise.organisation", {("lei", LEI, "")}),
    ]


def test_the_payload_says_how_it_is_to_be_handled() -> None:
    until = datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    [record] = read(written(Vessel(imo=IMO), retention=until, sensitivity="Red", security_level="NonSpecified")).records
    assert record.valid_until == until
    assert record.hidden
    assert record.fields[Field.HANDLING_CODES] == ("NonSpecified", "Red", "CustomsMonitoring")


def test_every_message_is_read_as_what_it_is() -> None:
    vessel = Vessel(identifier=NUMBER, imo=IMO)
    assert len(read(written(vessel, body=PullResponse(result="Success"))).records) == 1
    found = read(written(vessel, body=Feedback(type="delete", about=MESSAGE_ID, reason="sent by error")))
    assert [(x.message_ref, x.withdrawn) for x in found.ends] == [
        (f"{PARTICIPANT}/BE-CUSTOMS/U-1", True),
        (f"{PARTICIPANT}@{MESSAGE_ID}", True),
    ]
    for body in (
        PullRequest(pull_type="Request", timeout_s=60),
        PullResponse(result="Unauthorized", error_detail="no"),
    ):
        assert told(cise.read, written(vessel, body=body)).records == []
    data = write_message(
        Acknowledgement(code="Success", detail="stored"),
        message_id=MESSAGE_ID,
        created=CREATED_AT,
        sender=SENDER,
        recipient=SENDER,
        priority="High",
        requires_ack=False,
        correlation_id="c-1",
        context_id="x-1",
    )
    assert read(data).items == []
    root = etree.fromstring(data)
    assert [child.tag for child in root] == [
        "ContextID", "CorrelationID", "CreationDateTime", "MessageID", "Priority", "RequiresAck", "Sender", "Recipient",
        "AckCode", "AckDetail",
    ]  # fmt: skip
    assert root.findtext("CreationDateTime") == "2026-03-02T08:00:00.000Z"


def test_texts_are_escaped_and_come_back() -> None:
    for text in (
        "A & B <c> \"d\" 'e' ]]> &amp; <!-- x --> <?y?>",
        "\u00e9\u00df\u4e2d\U0001f6a2",
        "a\u0085b\u2028c  d\n e",
        "<Name>x</Name>",
    ):
        assert back(Organization(legal_name=text)).parties[0].name == " ".join(text.split())


def test_random_texts_come_back_or_are_refused() -> None:
    source = random.Random(20260303)
    signs = [
        *"<>&\"' \t\n\r\x00\x0b\x1f\x7f\x9f",
        "\ud800",
        "\ufffe",
        "\uffff",
        "\ufdd0",
        "\u200b",
        "a",
        "\u00e9",
        "\U0010ffff",
    ]
    refused = 0
    for _ in range(2_000):
        text = "".join(source.choices(signs, k=source.randint(1, 6)))
        try:
            data = written(Organization(legal_name=f"n{text}"))
        except InputError:
            refused += 1
            continue
        assert read(data).records[0].parties[0].name == " ".join(f"n{text}".split())
    assert 500 < refused < 1_900


# --- refusals ---


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Vessel(imo="9074720"), "Vessel.imo: imo.check_digit"),
        (lambda: Vessel(imo=9074729), "Vessel.imo: no text"),  # type: ignore[arg-type]
        (lambda: Vessel(imo=(IMO, IMO)), "Vessel.imo: no text"),  # type: ignore[arg-type]
        (lambda: Vessel(mmsi="12"), "Vessel.mmsi: mmsi.format"),
        (lambda: Vessel(types=("Submarine",)), "Vessel.types: none of the words"),
        (lambda: Vessel(types="OilTanker"), "Vessel.types: no tuple"),  # type: ignore[arg-type]
        (lambda: Vessel(names=(PLANTED, "")), "Vessel.names: no text"),
        (lambda: Vessel(names=(f"{PLANTED}\x00",)), "Vessel.names: no text"),
        (lambda: Vessel(names=("x" * 513,)), "Vessel.names: no text"),
        (lambda: Vessel(nationalities=("Panama",)), "Vessel.nationalities: no ISO 3166"),
        (lambda: ContainmentUnit(container=BAD_BOX), "ContainmentUnit.container: container.check_digit"),
        (lambda: Person(birth_date=CREATED_AT), "Person.birth_date: no date"),
        (lambda: Person(gender=PLANTED), "Person.gender: none of the words"),
        (lambda: Person(is_suspect="yes"), "Person.is_suspect: neither true nor false"),  # type: ignore[arg-type]
        (lambda: Person(identifiers=(PersonIdentifier(type=PLANTED),)), "PersonIdentifier.type: none of the words"),
        (lambda: Person(identifiers=("12AB34567",)), "Person.identifiers: no PersonIdentifier"),  # type: ignore[arg-type]
        (lambda: Risk(level="high"), "Risk.level: none of the words"),
        (lambda: Risk(objects=(COMPANY,)), "Risk.objects: no entity that can stand there"),
        (lambda: Risk(objects=(PLANTED,)), "Risk.objects: no entity that can stand there"),  # type: ignore[arg-type]
        (lambda: Risk(objects=(Involved(entity=Vessel(), role="Mean"),)), "Risk.objects: there is no role"),
        (lambda: Risk(agents=(Involved(entity=COMPANY, role="Owner"),)), "Risk.agents.role: none of the words"),
        (lambda: Incident(objects=(Involved(entity=Vessel(), role=PLANTED),)), "Incident.objects.role: none of the words"),
        (lambda: Cargo(units=(Vessel(),)), "Cargo.units: no entity that can stand there"),
        (lambda: Vessel(cargo=ContainmentUnit()), "Vessel.cargo: no entity that can stand there"),  # type: ignore[arg-type]
        (lambda: Vessel(identifier="U-1"), "Vessel.identifier: no UniqueIdentifier"),  # type: ignore[arg-type]
        (lambda: Risk(identifier=UniqueIdentifier(generated_in=datetime(2026, 1, 1))), "UniqueIdentifier.generated_in: no time with a zone"),  # noqa: DTZ001 - what is refused
        (lambda: Risk(identifier=UniqueIdentifier(generated_in=datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))))), "UniqueIdentifier.generated_in: a time beyond"),
        (lambda: PLANTED, "Payload.entities: not all are entities"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_written_is_refused_by_the_name_of_its_field(
    make: Callable[[], Entity], field: str
) -> None:
    with pytest.raises(InputError) as refused:
        written(make())
    assert str(refused.value).startswith(field)
    shown = repr(refused.value) + str(refused.value.__cause__) + str(refused.value.__suppress_context__)
    assert not [value for value in (PLANTED, "9074720", BAD_BOX, "12AB34567", "Panama") if value in shown]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"purpose": None}, "Payload.purpose"),
        ({"purpose": "Curiosity"}, "Payload.purpose"),
        ({"sensitivity": None}, "Payload.sensitivity"),
        ({"security_level": None}, "Payload.security_level"),
        ({"personal_data": None}, "Payload.personal_data"),
        ({"retention": date(2027, 1, 1)}, "Payload.retention"),
    ],
)
def test_a_payload_that_cannot_be_handled_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}: "):
        written(Vessel(imo=IMO), **changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"message_id": ""}, "Message.message_id"),
        ({"created": None}, "Message.created"),
        ({"sender": None}, "Message.sender"),
        ({"sender": Service(service_id="")}, "Service.service_id"),
        ({"sender": Service(service_id=SERVICE, type="WeatherService")}, "Service.type"),
        ({"priority": "Urgent"}, "Message.priority"),
        ({"requires_ack": 1}, "Message.requires_ack"),
        ({"body": PullRequest(pull_type="Ask")}, "PullRequest.pull_type"),
        ({"body": PullRequest(pull_type="Request", timeout_s=True)}, "PullRequest.timeout_s"),
        ({"body": PullRequest(pull_type="Request", timeout_s=2**31)}, "PullRequest.timeout_s"),
        ({"body": PullResponse(result="Maybe")}, "PullResponse.result"),
        ({"body": Feedback(type="delete", about="")}, "Feedback.about"),
        ({"body": Acknowledgement(code="OK")}, "Acknowledgement.code"),
    ],
)
def test_a_message_that_lacks_something_is_refused(changes: dict[str, Any], field: str) -> None:
    given = {"body": Push(), "message_id": MESSAGE_ID, "created": CREATED_AT, "sender": SENDER, **changes}
    with pytest.raises(InputError, match=f"^{field}: "):
        write_message(**given)


def test_a_person_anywhere_makes_a_payload_personal_data() -> None:
    aboard = Vessel(imo=IMO, agents=(Involved(entity=PERSON, role="CrewMember"),))
    for entity in (PERSON, aboard, Risk(objects=(aboard,))):
        assert read(written(entity)).records
        with pytest.raises(InputError, match=r"^Payload\.personal_data: "):
            written(entity, personal_data=False)
    assert read(written(Vessel(imo=IMO, agents=(COMPANY,)), personal_data=False)).records


def test_what_the_reader_would_not_follow_is_not_written() -> None:
    def ferry(depth: int) -> Vessel:
        return Vessel(imo=IMO) if depth == 0 else Vessel(vehicles=(ferry(depth - 1),))

    assert len(read(written(ferry(cise_writing.MAX_DEPTH))).records) == 1
    with pytest.raises(InputError, match=r"^Vessel.vehicles: lies too deep"):
        written(ferry(cise_writing.MAX_DEPTH + 1))
    assert cise_writing.MAX_DEPTH == cise.MAX_DEPTH


def test_nothing_shows_what_it_holds() -> None:
    for holder in (
        PERSON,
        COMPANY,
        NUMBER,
        SENDER,
        Involved(entity=PERSON, role="Owner"),
        Feedback(type="info", about=PLANTED),
    ):
        assert not [value for value in ("Doe", "12AB", "Lines", LEI, "U-1", SERVICE, PLANTED) if value in repr(holder)]


def test_an_entity_can_be_taken_out_of_its_message() -> None:
    root = etree.fromstring(written(Risk(objects=(Vessel(imo=IMO), ContainmentUnit(container=BOX_A)))))
    risk = root.find("Payload/Risk")
    assert risk is not None
    for child in risk.iter("Object"):
        prefix = child.get("{http://www.w3.org/2001/XMLSchema-instance}type", "").partition(":")[0]
        assert dict(risk.nsmap)[prefix] == f"http://www.cise.eu/datamodel/v1/entity/{prefix}/"
