"""The CISE reader and writer against the schemas and the sample messages.

Source: data model 1.5.3 (headers: EC JRC XSD Generator; merged per namespace, no licence file), service model and samples
of enextus/cise-sim (BSD-3-Clause, Joint Research Centre). 34 samples and one synthetic message; 31 of them are valid.
"""

from __future__ import annotations

import base64
import random
from datetime import date, datetime
from pathlib import Path

import pytest
from lxml import etree

from connector_psi.adapters import cise, cise_writing, formats
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
from connector_psi.adapters.xml import Node
from connector_psi.domain.maritime import KINDS, OTHER_KINDS, RELATIONS
from tests.cise_samples import (
    BOX_A,
    CREATED,
    IMO,
    LEI,
    MESSAGE_ID,
    MMSI,
    MRN,
    SERVICE,
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

XS = "{http://www.w3.org/2001/XMLSchema}"
_SIM = "cise-sim-assembly_messages_"
# From the provenance of the material: element order and missing elements; a template of SOAP with no message of its own.
INVALID = {
    "cise-sim-api_messages_PULLREQUEST_with_CONTENT.xml": ("xsd.rejected", "/PullRequest"),
    "cise-sim-api_templateDir_COM_01_Vessel_a.xml": ("xsd.rejected", "/Feedback"),
    "cise-sim-api_templateDir_COM_01_Vessel_b.xml": ("xsd.rejected", "/PullResponse"),
    "cise-sim-assembly_messages_foo.xml": ("cise.unsupported_message", "/*"),
}
_ONE = [{("imo", "7710525", "")}]
# Of three vessels, two have IMO numbers without a right check digit.
_THREE = [{("imo", "7710525", ""), ("mmsi", MMSI, "")}, {("mmsi", "448002000", "")}, {("mmsi", "668002000", "")}]
TELLING = {
    "cise-sim-api_messages_Pull_responseTemplate.xml": _ONE,
    "cise-sim-api_messages_PushTemplateEULSA1.xml": _THREE,
    "cise-sim-api_messages_PushTemplateToSim2.xml": _ONE,
    "cise-sim-api_messages_SubscribeTemplate.xml": _ONE,
    f"{_SIM}Pull_responseTemplate.xml": _ONE,
    f"{_SIM}PushTemplate.xml": _ONE,
    f"{_SIM}PushTemplateToRTISim2.xml": _ONE,
    f"{_SIM}SubscribeTemplate.xml": _ONE,
    f"{_SIM}SubscribeTemplateWithDiscoveryProfile.xml": _ONE,
    f"{_SIM}SubscribeTemplateWithRecipient.xml": _ONE,
    f"{_SIM}SubscribeTemplateWithRecipientAndDiscoveryProfile.xml": _ONE,
    "cise-sim-assembly_payloads_Vessel.xml": _THREE,
    "Push_Risk_container_synthetic.xml": [
        {("container", BOX_A, "containment_unit"), ("imo", IMO, "vessel"), ("mrn", MRN, "cargo_document")}
    ],
}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "reference" / "cise"


@pytest.fixture(scope="module")
def samples(folder: Path) -> dict[str, bytes]:
    paths = [*folder.glob("samples/*.xml"), *folder.glob("samples-synthetic/*.xml")]
    return {path.name: path.read_bytes() for path in sorted(paths)}


class Model:
    """The types of the schemas of a folder, with the elements of each."""

    def __init__(self, folder: Path) -> None:
        self.types: dict[str, etree._Element] = {}
        self.roots: dict[str, str] = {}
        for path in sorted(folder.glob("*.xsd")):
            top = etree.parse(path).getroot()
            self.types.update({each.get("name", ""): each for each in top.findall(f"{XS}complexType")})
            self.roots.update(
                {each.get("name", ""): self.local(each.get("type")) for each in top.findall(f"{XS}element")}
            )

    @staticmethod
    def local(name: str | None) -> str:
        return (name or "").rpartition(":")[2]

    def elements(self, type_: etree._Element) -> dict[str, etree._Element | None]:
        """Return the elements of a type, those of its base first, each with its own type; None where it is a text."""
        found: dict[str, etree._Element | None] = {}
        for base in type_.findall(f".//{XS}extension")[:1]:
            if (above := self.types.get(self.local(base.get("base")))) is not None:
                found.update(self.elements(above))
        own = type_.find(f"{XS}complexContent/{XS}extension/{XS}sequence")
        for element in own if own is not None else type_.findall(f"{XS}sequence/{XS}element"):
            if element.tag == f"{XS}element":
                inner = element.find(f"{XS}complexType")
                found[element.get("name", "")] = (
                    self.types.get(self.local(element.get("type"))) if inner is None else inner
                )
        return found

    def kinds_of(self, name: str) -> set[str]:
        """Return a type and all that are derived from it."""
        found = {name}
        for other, type_ in self.types.items():
            if any(self.local(base.get("base")) == name for base in type_.findall(f"{XS}complexContent/{XS}extension")):
                found |= self.kinds_of(other)
        return found


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model(folder / "datamodel-1.5.3-merged")


def read(data: bytes, folder: Path) -> Told:
    return told(cise.read, data, folder)


# --- the samples ---


def test_exactly_the_valid_samples_are_taken_in_with_their_identifiers(samples: dict[str, bytes], folder: Path) -> None:
    assert len(samples) == 35
    for name, data in samples.items():
        found = read(data, folder)
        assert [identifiers(record) for record in found.records] == TELLING.get(name, []), name
        rejected = [(code, path) for code, path, line in found.rejections if line is not None]
        assert rejected == ([INVALID[name]] if name in INVALID else []), name
        assert ("xsd." in str(found.codes)) == (name in INVALID and "foo" not in name), name


def test_every_sample_is_recognised(samples: dict[str, bytes]) -> None:
    assert {formats.detect("x", data) for data in samples.values()} == {"cise"}


def test_violations_are_reported_where_they_are(samples: dict[str, bytes], folder: Path) -> None:
    found = read(samples["cise-sim-api_templateDir_COM_01_Vessel_a.xml"], folder)
    assert [(x.code, x.path, x.line, x.rejects_record) for x in found.issues] == [
        ("xsd.element_content", "/Feedback/Payload/Vessel/Identifier", 62, False),
        ("xsd.element_content", "/Feedback/RefMessageID", 75, False),
        ("xsd.rejected", "/Feedback", 34, True),
    ]


# --- the tables against the schemas ---


def test_the_types_are_those_of_the_model(model: Model) -> None:
    abstract = {"AttachedDocument", "CargoUnit", "Event", "Object", "Relationship", "Vehicle"}
    parts = {"Geometry", "Metadata", "Period", "PersonIdentifier"}
    assert set(KINDS) | OTHER_KINDS == set(model.types) - abstract - parts
    # Each can stand in a payload, under its own name.
    assert {name: name for name in cise.ENTITIES} == model.roots


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_table_of_an_entity_is_that_of_its_type(name: str, model: Model) -> None:
    def hold(node: Node, type_: etree._Element, place: str) -> None:
        declared = model.elements(type_)
        if place.endswith(("/GeneratedBy", "/Location")):
            # Of whatever type: the table knows all that are derived from it.
            for other in model.kinds_of(place.rpartition("/")[2].replace("GeneratedBy", "Organization")):
                declared |= model.elements(model.types[other])
        known = {child.name: child for child in node.children.values()}
        if place.rpartition("/")[2] in RELATIONS:
            # A relation of one name is another with each base type; the table knows them all.
            assert set(declared) <= set(known), place
        else:
            assert set(declared) == set(known), place
        for child in known.values():
            inner = declared.get(child.name)
            assert not (child.leaf and inner is not None), f"{place}/{child.name} holds elements"
            if not child.leaf and not child.skipped:
                assert inner is not None
                hold(child, inner, f"{place}/{child.name}")

    hold(cise._table_at(f"/Push/Payload/{name}", name), model.types[name], name)


def test_the_tables_of_the_messages_are_those_of_the_service_model(folder: Path) -> None:
    service = Model(folder / "servicemodel")
    for name, node in cise.TABLES.items():
        known = {child.name for child in node.children.values()} - {"Signature"}
        assert known == set(service.elements(service.types[name])), name
        sender = {child.name for child in node.at("Sender").children.values()}
        assert sender == set(service.elements(service.types["Service"])), name
        payload = {child.name for child in node.at("Payload").children.values()} - cise.ENTITIES
        declared = {
            *service.elements(service.types["XmlEntityPayload"]),
            *service.elements(service.types["EncryptedEntityPayload"]),
        }
        assert payload == declared, name


def test_relations_relate_what_the_schema_relates(model: Model) -> None:
    found: dict[str, set[str]] = {}
    for name, kind in KINDS.items():
        for relation, type_ in model.elements(model.types[name]).items():
            if relation.endswith("Rel") and type_ is not None:
                entities = {each for each, inner in model.elements(type_).items() if inner is not None} - {
                    "InvolvementPeriod",
                    "DateTime",
                    "Metadata",
                    "PeriodOfTime",
                }
                found.setdefault(relation, set()).update(entities)
                assert relation in RELATIONS or relation in {"LocationRel", "CorrespondentAssetRel"}, (name, kind)
    assert {name: set(relation.targets) for name, relation in RELATIONS.items()} == {
        name: targets for name, targets in found.items() if name in RELATIONS
    }


# --- what tests build is what the schemas want ---

UNIT = rel("ContainedCargoUnitRel", "CargoUnit", "ContainmentUnit", container())
VALID = [
    message(entity("Vessel", uuid("U-1", "BE-MRCC"), tag("Name", "STAR"), agent("Person", passport(), role="CrewMember"), tag("Nationality", "PA"), rel("CargoRel", "Cargo", "Cargo", UNIT), imo())),
    message(entity("Risk", uuid("R-1"), "<RiskLevel>High</RiskLevel>", concerns("Vessel", imo()), described("CargoDocument", title(f"MRN {MRN}")))),
    message(entity("Incident", concerns("ContainmentUnit", container(), role="Mean"), agent("Person", passport(), role="Perpetrator")), payload=tag("RetentionPeriod", CREATED)),
    message(entity("LandVehicle", tag("ExternalMarkings", "1-ABC-123"), tag("Nationality", "BE"))),
    message(entity("Vessel", imo()), kind="PullResponse"),
    message(entity("Vessel", imo()), kind="PullRequest"),
    message(kind="Acknowledgement"),
    deletion(entity("Vessel", uuid("U-1"))),
    b"<Vessel>" + imo().encode() + b"</Vessel>",
]  # fmt: skip


@pytest.mark.parametrize("data", VALID)
def test_what_the_tests_build_is_valid(data: bytes, folder: Path) -> None:
    assert not [code for code in read(data, folder).codes if code.startswith("xsd.")]
    assert read(data, folder).records == told(cise.read, data).records


def test_the_documented_example_is_valid(folder: Path) -> None:
    assert (read(example("cise"), folder).codes, len(read(example("cise"), folder).records)) == ([], 1)


# --- what departs from the schemas ---


def test_an_entity_that_departs_is_rejected_alone(folder: Path) -> None:
    bad = entity("Vessel", "\n" + imo(), tag("CallSign", "H3XY"))
    data = message(entity("Vessel", imo()), bad, entity("ContainmentUnit", container()))
    found = read(data, folder)
    assert [record.category for record in found.records] == ["cise.vessel", "cise.containment_unit"]
    line = data[: data.index(b"<CallSign>")].count(b"\n") + 1
    assert [(x.code, x.path, x.line, x.rejects_record) for x in found.issues] == [
        ("xsd.element_content", "/Push/Payload/Vessel/CallSign", line, False),
        ("xsd.rejected", "/Push/Payload/Vessel", line - 1, True),
    ]
    assert len(told(cise.read, data).records) == 3


def test_an_envelope_that_departs_rejects_the_message(folder: Path) -> None:
    data = message(entity("Vessel", imo())).replace(b"<Priority>High</Priority>", b"<Priority>Urgent</Priority>")
    found = read(data, folder)
    assert (found.records, found.ends) == ([], [])
    assert found.rejections == [("xsd.rejected", "/Push", 2)]
    assert len(told(cise.read, data).records) == 1


def test_what_the_model_does_not_have_is_rejected_alone_and_not_named(folder: Path) -> None:
    data = message(entity("Vessel", imo()), f"<{BOX_A}/>")
    found = read(data, folder)
    assert [identifiers(record) for record in found.records] == [{("imo", IMO, "")}]
    assert found.rejections == [("xsd.rejected", "/Push/Payload/*", 7)]
    assert BOX_A not in repr(found.issues)


def test_an_entity_alone_that_departs_is_rejected(folder: Path) -> None:
    found = read(b"<Vessel>\n<IMONumber>x</IMONumber></Vessel>", folder)
    assert found.records == []
    assert found.rejections == [("xsd.rejected", "/Vessel", 1)]


def test_departures_beyond_bounds_are_counted_and_not_listed(folder: Path) -> None:
    data = message(*(entity("Vessel", imo(), "<Beam>wide</Beam>") for _ in range(300)), entity("Vessel", imo()))
    found = read(data, folder)
    assert len([code for code, _, _ in found.rejections]) == 300
    assert len(found.records) == 1
    assert len(found.issues) == 300 + 201
    assert found.codes[200] == "xsd.too_many_errors"


def test_a_cut_message_is_judged_as_far_as_it_goes(folder: Path) -> None:
    data = message(entity("Vessel", imo()), entity("Vessel", "<Beam>wide</Beam>", imo()), entity("Vessel", imo()))
    found = read(data[: data.rindex(b"</Vessel>")], folder)
    assert [record.incomplete for record in found.records] == [True]
    assert [code for code, _, _ in found.rejections] == ["xsd.rejected", "xml.truncated"]


def test_a_large_attachment_is_no_departure(folder: Path) -> None:
    content = random.Random(7).randbytes(200_000)
    for written in (base64.encodebytes(content), base64.b64encode(content)):
        document = entity("CargoDocument", title(f"MRN {MRN}"), tag("Content", written.decode()))
        found = read(message(document), folder)
        assert (found.codes, [identifiers(record) for record in found.records]) == ([], [{("mrn", MRN, "")}])


# --- what is written ---

MADE = datetime.fromisoformat(CREATED)
NUMBER = UniqueIdentifier(generated_by=Issuer(legal_name="BE & CUSTOMS <1>"), generated_in=MADE, uuid="U-1")
COMPANY = Organization(
    contact="desk@lines.example", identifier=NUMBER, is_of_interest=True, is_suspect=False, nationalities=("BE", "NL"),
    documents=(Document(title="x"),), alternative_name="Lines", identification_number=LEI, legal_name="Lines NV",
)  # fmt: skip
PERSON = Person(
    contact="+32 2 555 01 23", identifier=NUMBER, nationalities=("FR",), documents=(Document(title="x"),), alternative_name="J",
    birth_date=date(1980, 5, 17), birth_name="Roe", family_name="Doe", full_name="Jane Doe", gender="Female",
    given_name="Jane", identifiers=(PersonIdentifier(type="Passport", value="12AB34567"), PersonIdentifier(type="VISA")),
)  # fmt: skip
PAPER = CargoDocument(identifier=NUMBER, subject="y", title=f"MRN {MRN}", type="EntrySummaryDeclaration")
UNIT_ = ContainmentUnit(
    markings=("m",), identifier=NUMBER, names=("a", "b"), documents=(PAPER,), agents=(Involved(entity=COMPANY, role="Declarant"),),
    container=BOX_A, other_marks="z", package_type="RigidOther",
)  # fmt: skip
CARGO = Cargo(identifier=NUMBER, documents=(PAPER,), type="LargeFreightContainers", units=(UNIT_, Cargo()))
VESSEL = Vessel(
    markings=("m",), identifier=NUMBER, names=("STAR",), documents=(PAPER,), agents=(Involved(entity=PERSON, role="CrewMember"), COMPANY),
    nationalities=("PA",), vehicles=(LandVehicle(markings=("1-ABC-123",), nationalities=("BE",)), Aircraft()), cargo=CARGO,
    call_sign="H3XY", imo=IMO, mmsi=MMSI, types=("GeneralCargoShip", "Other"),
)  # fmt: skip
INCIDENT = LawInfringementIncident(
    identifier=NUMBER, nature="Observed", risks=(Risk(level="Low"),), objects=(Involved(entity=VESSEL, role="Mean"), UNIT_),
    documents=(RiskDocument(identifier=NUMBER, subject="y", title="x", type="RiskAssessment"),),
    agents=(Involved(entity=PERSON, role="Perpetrator"), COMPANY), certainty="Likely", urgency="Immediate", severity="Severe",
    type="DrugSmugglingCocaine",
)  # fmt: skip
RISK = Risk(
    identifier=NUMBER, level="High", probability="Probable", severity="Critical", type="Smuggling", objects=(VESSEL, UNIT_, CARGO),
    incidents=(INCIDENT, Incident()), documents=(PAPER,), agents=(Involved(entity=PERSON, role="Cause"), COMPANY),
)  # fmt: skip
ALL = (
    COMPANY,
    PERSON,
    PAPER,
    UNIT_,
    CARGO,
    VESSEL,
    INCIDENT,
    RISK,
    Incident(),
    Aircraft(),
    LandVehicle(),
    Document(),
    RiskDocument(),
)
BODIES = (
    Push(),
    PullRequest(pull_type="Request", timeout_s=60),
    PullResponse(error_detail="x", result="Success"),
    Feedback(type="delete", reason="x", about=MESSAGE_ID),
    Acknowledgement(code="Success", detail="x"),
)


def written(body: cise_writing.Body, *entities: Entity) -> bytes:
    sender = Service(service_id=SERVICE, operation="Push", role="Provider", type="RiskService")
    payload = Payload(
        sensitivity="Amber",
        personal_data=True,
        purpose="CustomsOperation",
        entities=entities,
        retention=MADE,
    )
    return write_message(
        body, message_id=MESSAGE_ID, created=MADE, sender=sender, recipient=sender, payload=payload,
        priority="Low", requires_ack=True, correlation_id="c", context_id="x",
    )  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_every_message_that_is_written_is_valid(body: cise_writing.Body, folder: Path) -> None:
    found = read(written(body, *ALL), folder)
    assert not [code for code in found.codes if code.startswith(("xsd.", "xml."))]
    assert bool(found.records) == isinstance(body, (Push, PullResponse))


@pytest.mark.parametrize("one", ALL, ids=lambda one: type(one).__name__)
def test_every_entity_that_is_written_is_valid_where_it_stands_and_taken_out(one: Entity, folder: Path) -> None:
    data = written(Push(), one)
    assert not [code for code in read(data, folder).codes if code.startswith(("xsd.", "xml."))]
    [entity] = etree.fromstring(data).iterfind(f"Payload/{type(one).__name__}")
    alone = etree.tostring(entity)
    assert not [code for code in read(alone, folder).codes if code.startswith(("xsd.", "xml."))]


def test_every_word_that_can_be_written_is_one_of_the_schemas(folder: Path) -> None:
    declared: dict[str, set[frozenset[str]]] = {}
    for path in [*folder.glob("datamodel-1.5.3-merged/*.xsd"), *folder.glob("servicemodel/*.xsd")]:
        for type_ in etree.parse(path).getroot().findall(f"{XS}simpleType"):
            words = frozenset(each.get("value", "") for each in type_.iter(f"{XS}enumeration"))
            declared.setdefault("", set()).add(words)
    lists = {
        name: frozenset(value.__closure__[0].cell_contents)
        for name, value in vars(cise_writing).items()
        if callable(value) and getattr(value, "__name__", "") == "write_word" and value.__closure__
    }
    assert len(lists) >= 25
    for name, words in lists.items():
        if name in {"_SERVICE_TYPE", "_INFRINGEMENT"}:
            # Of services, those for what is written; of offences, those that concern customs.
            assert any(words < each for each in declared[""]), name
        else:
            assert words in declared[""], name
