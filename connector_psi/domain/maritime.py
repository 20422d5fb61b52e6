"""Entities of the CISE data model: what is read of them, what each yields, and which belong together.

Entities lie within one another, and which lies within which is the sender's choice: a risk may hold the vessel that it
concerns, or the vessel the risk. Decides:

1. which types are subjects (``KINDS``) and which are not (``OTHER_KINDS``): the authorities' own actions and assets,
   places, the weather;
2. whose record an entity belongs to (``joined``). Events, which are risks, incidents and anomalies, concern objects and
   agents; agents have to do with objects; documents describe anything. What is lower belongs to the record of what is
   higher, whichever of the two holds the other. Equals are records of their own: the cargo of a vessel, a lorry on a
   ferry. So are passengers and crew, who are on board and otherwise have nothing to do with a vessel. The units of a
   cargo belong to it, and a risk that an incident implies to the incident;
3. who is left out (``is_subject``): agents who reported, observed, were informed or coordinated, and victims;
4. what of an entity becomes an identifier, a party and a disclosable value (:class:`Sketch`). What is said of health is
   not read at all, nor are descriptions of metadata, which are analysts' notes.

Leaves to others: messages, references and order (``adapters.cise``), canonical forms (``domain.identifiers``), parsing:
an entity comes as a :class:`Part`.

The model has no element for a plate, a registration mark or the number of a document. What is written on a vehicle
(``ExternalMarkings``) and the titles of documents are read for them, as far as their form is certain.

Source: CISE data model 1.5.3, Joint Research Centre.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, IntEnum, auto
from itertools import islice
from types import MappingProxyType
from typing import Final, Protocol

from connector_psi.domain.countries import country_code
from connector_psi.domain.drafts import FREE_TEXT_MARK, Draft, Found
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.movements import moment, paths, under
from connector_psi.domain.records import Field, Identifier, IdentifierType, Party, PartyKind
from connector_psi.errors import NormalisationError

MAX_SHARED: Final = 32
"""Identifiers, parties and values of a field that one entity gives to the record of another."""


class Part(Protocol):
    """An element that holds others, as its reader hands it out."""

    @property
    def path(self) -> str:
        """Where it stands."""

    @property
    def line(self) -> int | None:
        """The line on which it starts."""

    def text(self, name: str) -> str:
        """Return the text of an element directly below, or nothing."""

    def texts(self, name: str) -> list[str]:
        """Return the texts of an element that may stand more than once."""

    def found(self, name: str) -> Found | None:
        """Return the text of an element and its place."""

    def path_of(self, name: str) -> str:
        """Return the place of an element directly below."""

    def all(self, name: str) -> Sequence[Part]:
        """Return the groups of a name directly below."""

    def first(self, name: str) -> Part | None:
        """Return the first of them, or None."""


# --- elements: True is read, False is known and left alone ---------------------------------------------------------

_ORGANISATION_NAMES = "LegalName FormalOrganizationName IdentificationNumber"
_IDENTIFIER = under(
    "Identifier",
    {
        **paths("UUID", "GeneratedIn correlatedWithRel"),
        **under(
            "GeneratedBy",
            paths(
                _ORGANISATION_NAMES,
                "ContactInformation Identifier IsOfInterest IsSuspect Metadata Nationality LocationRel DocumentRel "
                "InvolvedWithRel InvolvedObjectRel InvolvedRiskRel InvolvedEventRel AlternativeName ParticipantRel "
                "OrganizationClassification OrganizationPurpose OrganizationRole UnitIdentifier "
                "IMOCompanyIdentificationNumber",
            ),
        ),
    },
)
_METADATA = under(
    "Metadata",
    {
        **paths(
            "InformationSecurityClassification InformationSensitivityDegree",
            "Abstract Comments CreationDate Creator Description Designation FileMediaType FileSchema FileURI "
            "InformationReliabilityLevel Language PublicationDate Publisher",
        ),
        **under("ValidityPeriod", paths("EndDate EndTime", "Duration StartDate StartTime")),
    },
)
_ANY = {**_IDENTIFIER, **_METADATA}
_LOCATION = under(
    "LocationRel/Location",
    {
        **paths(
            "GeographicName LocationCode PortName PortFacilityName PortFacilityNumber",
            "GeographicIdentifier LocationQualitativeAccuracy LocationZone Metadata OperationalPurpose "
            "PortSecurityLevel",
        ),
        **under("Geometry", paths("Latitude Longitude", "Altitude WKT XMLGeometry")),
    },
)
_OBJECT = {
    **_ANY,
    **_LOCATION,
    **under(
        "LocationRel",
        paths(
            "",
            "LocationRole COG Heading Metadata PeriodOfTime SourceType PlacementPurpose PlannedOperations PlannedWorks "
            "SensorType SOG SpecialSecurityMeasures Speed",
        ),
    ),
    **paths("ExternalMarkings Name", "Colour"),
}
_VEHICLE = {**_OBJECT, **paths("Nationality", "MaximumSpeed TotalPersonsOnBoard CorrespondentAssetRel")}
_AGENT = {
    **_ANY,
    **_LOCATION,
    **under("LocationRel", paths("AgentRole", "InvolvementPeriod")),
    **paths("ContactInformation IsOfInterest IsSuspect Nationality"),
}
_ORGANISATION = {
    **_AGENT,
    **paths(
        "AlternativeName IdentificationNumber LegalName",
        "OrganizationClassification OrganizationPurpose OrganizationRole",
    ),
}
_EVENT = {
    **_ANY,
    **_LOCATION,
    **under("LocationRel", paths("", "LocationRole DateTime EventArea SourceType")),
    **paths("NatureType", "OccurrencePeriod"),
}
# Deaths and diseases are data of health, which are never matched or disclosed.
_INCIDENT = {
    **_EVENT,
    **paths(
        "Certainty ResponseUrgency Severity",
        "DeathsOnBoard DiseasesOnBoard InfectionOnBoard Instructions NumberOfIIllPersons ResponseType "
        "SickAnimalOnBoard",
    ),
}
_DOCUMENT = {**_ANY, **paths("Subject Title", "Version LocationRel")}
_ATTACHED = {**_DOCUMENT, **paths("DocumentType", "Content Hash ReferenceURI")}


class Tier(IntEnum):
    """What belongs to the record of what: the lower to the higher."""

    DOCUMENT = 0
    AGENT = 1
    OBJECT = 2
    EVENT = 3


class Join(Enum):
    """What an entity within another one is to it."""

    TOGETHER = auto()
    """A part of the outer one's record."""
    APART = auto()
    """A record of its own."""
    SHARING = auto()
    """A record of its own, which the outer one belongs to."""


@dataclass(frozen=True, slots=True)
class Relation:
    """An element that relates entities."""

    targets: tuple[str, ...]
    """Names of the elements in it that are entities."""
    elements: Mapping[str, bool]
    join: Join | None = None
    """None: by tier."""


def _relation(*targets: str, read: str = "", left: str = "", join: Join | None = None) -> Relation:
    return Relation(targets, paths(read, " ".join([left, *targets])), join)


RELATIONS: Final[Mapping[str, Relation]] = MappingProxyType(
    {
        "DocumentRel": _relation("Document"),
        "InvolvedObjectRel": _relation(
            "Object", read="AgentRole ObjectRole", left="Duty InvolvementPeriod TransitPassenger"
        ),
        "InvolvedAgentRel": _relation("Agent", read="AgentRole", left="Duty InvolvementPeriod TransitPassenger"),
        "InvolvedRiskRel": _relation("Risk", read="AgentRole", left="InvolvementPeriod"),
        "InvolvedEventRel": _relation("Event", read="AgentRole ObjectRole", left="InvolvementPeriod"),
        "InvolvedWithRel": _relation(
            "Agent", "Event", read="AgentRole", left="EventRole Duty InvolvementPeriod", join=Join.APART
        ),
        "ImpliedRiskRel": _relation("Risk", join=Join.TOGETHER),
        "ImpliedEventRel": _relation("Event", join=Join.TOGETHER),
        "ContainedCargoUnitRel": _relation("CargoUnit", join=Join.TOGETHER),
        "CargoRel": _relation("Cargo", join=Join.APART),
        "VehiclesRel": _relation("Vehicle", join=Join.APART),
        "ParticipantRel": _relation("Organization", join=Join.APART),
    }
)
"""Relations that are followed. Places are read with the entity."""


def _has(relations: str) -> dict[str, bool]:
    """Return the elements of relations; the turn of what they relate comes later."""
    found = {f"{name}Rel": RELATIONS[f"{name}Rel"].elements for name in relations.split()}
    return {path: is_read for name, elements in found.items() for path, is_read in under(name, elements).items()}


_OF_OBJECT = _has("InvolvedRisk InvolvedEvent Document InvolvedAgent")
_OF_VEHICLE = {**_OF_OBJECT, **_has("Vehicles Cargo")}
_OF_AGENT = _has("Document InvolvedWith InvolvedObject InvolvedRisk InvolvedEvent")
_OF_EVENT = _has("InvolvedWith ImpliedRisk InvolvedObject Document InvolvedAgent")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of entity."""

    tier: Tier
    label: str
    """For roles and for people."""
    category: str
    """Of its records; empty where it is none and only carries others."""
    elements: Mapping[str, bool]


def _object(label: str, *elements: Mapping[str, bool], category: str = "") -> Kind:
    whole = {path: read for each in elements for path, read in each.items()}
    return Kind(Tier.OBJECT, label, category or f"cise.{label}", whole)


def _organisation(read: str = "", left: str = "", relations: str = "") -> Kind:
    elements = {**_ORGANISATION, **_OF_AGENT, **_has(relations), **paths(read, left)}
    return Kind(Tier.AGENT, "organisation", "cise.organisation", elements)


def _incident(read: str = "", left: str = "") -> Kind:
    return Kind(Tier.EVENT, "incident", "cise.incident", {**_INCIDENT, **_OF_EVENT, **paths(read, left)})


def _document(label: str) -> Kind:
    return Kind(Tier.DOCUMENT, f"{label}_document", "cise.document", _ATTACHED)


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "Vessel": _object(
            "vessel",
            _VEHICLE,
            _OF_VEHICLE,
            paths(
                "CallSign IMONumber IRNumber MMSI RegistryNumber ShipType UVI",
                "Arrangement Beam Breadth ConditionOfTheCargoAndBallast ContainerCapacity Deadweight Depth DesignSpeed "
                "Draught FishingGear GrossTonnage HullMaterial INFShipClass INMARSATNumber ISPSSSecurityLevel IsBanned "
                "IsFishing LOA Length LengthenedYear NavigationalStatus NetTonnage RegionalIdentification RegistryDate "
                "SegregatedBallastVolume ShipConfiguration UnderSanitaryMeasure YearBuilt",
            ),
        ),
        "Aircraft": _object("aircraft", _VEHICLE, _OF_VEHICLE),
        "LandVehicle": _object("vehicle", _VEHICLE, _OF_VEHICLE),
        "Cargo": _object("cargo", _OBJECT, _OF_OBJECT, paths("CargoType"), _has("ContainedCargoUnit")),
        "Catch": _object(
            "catch",
            _OBJECT,
            _OF_OBJECT,
            paths(
                "",
                "CatchWeight FishNumber NetHeld QuantityHeld SizeDeclaration Species TotalNumber TotalWeight "
                "WeightMeans",
            ),
            category="cise.cargo",
        ),
        "ContainmentUnit": _object(
            "containment_unit",
            _OBJECT,
            _OF_OBJECT,
            paths(
                "ContainerMarksAndNumber DangerousSubstancesCode OtherMarksAndNumber PackageType UNDG",
                "CommunityStatusOfGoods FlashPoint GrossQuantity LocationOnBoardContainer LocationOnBoardGoods "
                "NetQuantity PackagingMaterial PackingGroupCode PollutionCode UnitsOfMeasure",
            ),
        ),
        # An agent of no type could be a person.
        "Agent": Kind(Tier.AGENT, "agent", "cise.person", {**_AGENT, **_OF_AGENT}),
        "Person": Kind(
            Tier.AGENT,
            "person",
            "cise.person",
            {
                **_AGENT,
                **_OF_AGENT,
                **paths(
                    "AlternativeName BirthDate BirthName FamilyName FullName Gender GivenName PatronymicName",
                    "DateOfDeath",
                ),
                **under("PersonIdentifiers", paths("IdentifierType IdentifierValue")),
            },
        ),
        "Organization": _organisation(),
        "FormalOrganization": _organisation("FormalOrganizationName"),
        "OrganizationalCollaboration": _organisation(relations="Participant"),
        "OrganizationalUnit": _organisation(left="UnitIdentifier"),
        "PortOrganization": _organisation("IMOCompanyIdentificationNumber"),
        "Risk": Kind(
            Tier.EVENT,
            "risk",
            "cise.risk",
            {
                **_ANY,
                **_LOCATION,
                **paths("RiskLevel RiskProbability RiskSeverity RiskType", "OccurrencePeriod"),
                **_has("InvolvedObject ImpliedEvent Document InvolvedAgent"),
            },
        ),
        "Incident": _incident(),
        "CrisisIncident": _incident("CrisisIncidentType"),
        "IrregularMigrationIncident": _incident("IrregularMigrationIncidentType"),
        "LawInfringementIncident": _incident("LawInfringementIncidentType"),
        "MaritimeSafetyIncident": _incident("MaritimeSafetyIncidentType"),
        "PollutionIncident": _incident(
            "MaritimeSafetyIncidentType PollutionType",
            "AreaCoverPercentage Characteristics DriftCourse DriftSpeed Quantity",
        ),
        "Anomaly": Kind(Tier.EVENT, "anomaly", "cise.incident", {**_EVENT, **_OF_EVENT, **paths("AnomalyType")}),
        # A voyage is nothing to match by, but what is on it is.
        "Movement": Kind(
            Tier.EVENT, "movement", "", {**_EVENT, **_OF_EVENT, **paths("", "MovementType Purpose VoyageNumber")}
        ),
        "Document": Kind(Tier.DOCUMENT, "document", "cise.document", _DOCUMENT),
        "Stream": Kind(Tier.DOCUMENT, "stream", "cise.document", {**_DOCUMENT, **paths("", "StreamType StreamURI")}),
        "CargoDocument": _document("cargo"),
        "CertificateDocument": _document("certificate"),
        "EventDocument": _document("event"),
        "LocationDocument": _document("location"),
        "OrganizationDocument": _document("organisation"),
        "PersonDocument": _document("person"),
        "RiskDocument": _document("risk"),
        "VesselDocument": _document("vessel"),
    }
)
"""Types of entity that are read."""
OTHER_KINDS: Final = frozenset(
    {
        "Action", "Entity", "Location", "MeteoOceanographicCondition", "NamedLocation", "OperationalAsset",
        "PortFacilityLocation", "PortLocation", "UniqueIdentifier",
    }
)  # fmt: skip
"""Types that are no subject."""


# --- what belongs together -----------------------------------------------------------------------------------------

_NO_SUBJECTS = frozenset({"Reports", "Reporter", "Observer", "Informed", "Coordinator"})
_ON_BOARD = frozenset({"Passenger", "CrewMember", "Employee"})
# From: AgentRoleInObjectType, AgentRoleInRiskType, AgentRoleInEventType.
_AGENT_ROLES = frozenset(
    {
        "Owner", "ShipAgent", "CaptainMaster", "ShipOperatingCompany", "CompanySecurityOfficer", "VesselBuilder",
        "VesselCharterer", "VesselRegisteredOwner", "VesselCompany", "ShippingAgent", "Declarant", "CarrierAgent",
        "ShippingLine", "CustomsBroker", "DGPContactPoint", "Cause", "Involved", "Participant", "Perpetrator",
    }
)  # fmt: skip


def is_subject(related: Part) -> bool:
    """Whether the two ends of a relation have to do with one another in a way that is read."""
    agent, thing = related.text("AgentRole"), related.text("ObjectRole")
    return agent != "Victim" and agent not in _NO_SUBJECTS and thing not in _NO_SUBJECTS


def joined(outer: Kind, inner: Kind, relation: Relation, agent_role: str) -> Join:
    """Return whose record the inner of two related entities belongs to.

    Args:
        outer: Type of the one that holds the relation.
        inner: Type of the other.
        relation: The relation.
        agent_role: What the agent among them is to the other, as the relation has it.
    """
    if not (outer.category and inner.category):
        return Join.APART
    if relation.join is not None:
        return relation.join
    if outer.tier == inner.tier or agent_role in _ON_BOARD:
        return Join.APART
    return Join.TOGETHER if outer.tier > inner.tier else Join.SHARING


def role(kind: Kind, agent_role: str) -> str:
    """Return what an entity is to the record of another one."""
    return agent_role if kind.tier is Tier.AGENT and agent_role in _AGENT_ROLES else kind.label


# --- what an entity yields -----------------------------------------------------------------------------------------

# What a title begins with: the kind of document, then its number and nothing else.
_TRANSPORT_DOCUMENT = re.compile(
    r"(?:B/L|BILL OF LADING|(?:SEA |AIR )?WAYBILL|AWB|CMR)(?: ?(?:NO|NR|NUMBER)\b)?[ .:#]{0,3}"
    r"([A-Z0-9][A-Z0-9/-]{3,34})",
    re.IGNORECASE,
)
_MRN = re.compile(r"(?<![A-Z0-9])MRN[ .:#]{0,3}([0-9]{2}[A-Z]{2}[A-Z0-9]{14})(?![A-Z0-9])", re.IGNORECASE)
_EMAIL = re.compile(r"[^\s;,|<>()\"']{1,64}@[^\s;,|<>()\"']{3,255}")
_PHONE = re.compile(r"\+[0-9][0-9 ()./-]{5,24}[0-9]")
# A hyphen behind the nationality mark, or the form of the United States: letters alone could be a word.
_REGISTRATION = re.compile(r"[A-Z0-9]{1,2}-[A-Z0-9]{2,5}|N[1-9][0-9]{0,4}[A-Z]{0,2}", re.IGNORECASE)
_PLATE = re.compile(r"(?=.*[0-9])[A-Z0-9 .:-]{2,14}", re.IGNORECASE)
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(Z|[+-][0-9]{2}:[0-9]{2})?")
_TIME = re.compile(r"([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)(Z|[+-][0-9]{2}:[0-9]{2})?")

# Numbers of social security and tax have a country that nobody knows. ``VISA`` is a payment card to the schema and a
# visa to its users.
_PERSON_DOCUMENTS = {"Passport": "passport", "IdentityCard": "identity card"}
_VEHICLE_NUMBERS = (
    ("imo", "IMONumber"), ("mmsi", "MMSI"), ("call sign", "CallSign"), ("registry", "RegistryNumber"),
    ("ir", "IRNumber"), ("uvi", "UVI"), ("flag", "Nationality"), ("markings", "ExternalMarkings"),
)  # fmt: skip
_EVENT_WORDS = (
    ("type", "RiskType"), ("type", "CrisisIncidentType"), ("type", "IrregularMigrationIncidentType"),
    ("type", "LawInfringementIncidentType"), ("type", "MaritimeSafetyIncidentType"), ("type", "AnomalyType"),
    ("pollution", "PollutionType"), ("level", "RiskLevel"), ("probability", "RiskProbability"),
    ("severity", "RiskSeverity"), ("severity", "Severity"), ("certainty", "Certainty"), ("urgency", "ResponseUrgency"),
    ("nature", "NatureType"),
)  # fmt: skip

_OPEN_LEVELS = frozenset({"", "NonClassified", "NonSpecified"})
_OPEN_SENSITIVITIES = frozenset({"", "White", "Green", "Amber", "NonSpecified"})


class Sketch(Draft):
    """A record under construction: an entity and what belongs to it."""

    __slots__ = ("hidden",)

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.hidden = False
        """Something in it is classified, or for its recipient alone."""

    def describe(self, part: Part, kind: Kind, role: str) -> None:
        """Take in what an entity says of itself.

        Args:
            part: The entity.
            kind: Its type.
            role: What it is to the record; empty where the record is its own.
        """
        if not role:
            for identifier in part.all("Identifier"):
                self.note(Field.REFERENCE, identifier.text("UUID"))
        for metadata in part.all("Metadata"):
            level = metadata.text("InformationSecurityClassification")
            self.hidden = self.hidden or is_restricted(level, metadata.text("InformationSensitivityDegree"))
        if kind.tier is Tier.AGENT:
            self._agent(part, kind, role)
        elif kind.tier is Tier.DOCUMENT:
            self._document(part, kind, role)
        elif kind.tier is Tier.EVENT:
            self._event(part, kind)
        else:
            self._object(part, kind, role)

    def share(self, other: Draft, *, whole: bool) -> None:
        """Take in what another entity is: all of it, or what means of transport it is, for people."""
        for name, values in other.fields.items():
            if whole or name is Field.MEANS:
                for value in islice(values, MAX_SHARED):
                    self.note(name, value)
        if whole:
            for identifier in islice(other.identifiers.values(), MAX_SHARED):
                self.add(identifier)
            for party in islice(other.parties, MAX_SHARED):
                self.involve(party)

    def _object(self, part: Part, kind: Kind, role: str) -> None:
        for leaf in ("Name", "ExternalMarkings", "OtherMarksAndNumber"):
            for found in _each(part, leaf):
                self.search_text(found)
        self._places(part)
        if not role:
            self._types(kind, part, "ShipType", "CargoType", "PackageType")
        if kind.label == "vessel":
            self.identify(IdentifierType.IMO, part.found("IMONumber"), role=role)
            self.identify(IdentifierType.MMSI, part.found("MMSI"), role=role)
        elif kind.label == "aircraft":
            for found in _each(part, "ExternalMarkings"):
                if _REGISTRATION.fullmatch(found.text):
                    self.identify(IdentifierType.AIRCRAFT, found, role=role)
        elif kind.label == "vehicle":
            self._plates(part, role)
        else:
            self._goods(part, role)
            return
        numbers = (f"{word} {text}" for word, leaf in _VEHICLE_NUMBERS for text in part.texts(leaf))
        words = [" ".join([kind.label, *islice(part.texts("Name"), MAX_SHARED)]), *numbers]
        self.note(Field.MEANS, ", ".join(words[:MAX_SHARED]))

    def _plates(self, part: Part, role: str) -> None:
        flags = part.texts("Nationality")
        country = _country(flags[0]) if len(flags) == 1 else ""
        for found in _each(part, "ExternalMarkings"):
            if not _PLATE.fullmatch(found.text):
                continue
            if country or ":" in found.text:
                self.identify(IdentifierType.PLATE, found, role=role, country=country)
            else:
                self.identify(IdentifierType.PLATE_NUMBER, found, role=role)

    def _goods(self, part: Part, role: str) -> None:
        marks = part.found("ContainerMarksAndNumber")
        for number in [] if marks is None else self._container(marks, role):
            self.note(Field.GOODS_IDENTIFIERS, f"container {number}")
        for leaf in ("DangerousSubstancesCode", "UNDG"):
            self.note(Field.GOODS_DESCRIPTION, part.text(leaf))

    def _container(self, marks: Found, role: str) -> list[str]:
        """Take in marks that are a number, or hold some."""
        if not self._add_certain(IdentifierType.CONTAINER, marks.text, marks, role):
            inside = [each.value for each in self.search_text(marks) if each.type is IdentifierType.CONTAINER]
            if inside:
                return inside
        whole = self.identify(IdentifierType.CONTAINER, marks, role=role)
        return [] if whole is None else [whole.value]

    def _agent(self, part: Part, kind: Kind, role: str) -> None:
        countries = tuple(dict.fromkeys(filter(None, map(_country, part.texts("Nationality")))))
        contact = part.found("ContactInformation")
        if contact is not None:
            self._contact(contact, role)
        if kind.category == "cise.person":
            party = _person(part, countries)
            for document in part.all("PersonIdentifiers"):
                self._person_document(document, countries[0] if len(countries) == 1 else "", role)
        else:
            party = _organisation_party(part)
            number = part.found("IdentificationNumber")
            # Of any register; its check digits say which one.
            if number is not None and not self._add_certain(IdentifierType.LEI, number.text, number, role):
                self._add_certain(IdentifierType.VAT, number.text, number, role)
        if party.name:
            self.involve(replace(party, role=role or "subject"))
        if role:
            self.note(Field.PARTY_NAMES, party.name and f"{role}: {party.name}")
            return
        for name in (party.name, *party.aliases):
            self.note(Field.NAMES, name)
        self.note(Field.BIRTH, ", ".join(filter(None, (party.birth_date, party.birth_place))))
        self.note(Field.RESIDENCE, party.address)
        self.note(Field.GENDER, party.gender)
        for country in countries:
            self.note(Field.NATIONALITY, country)
        for word, leaf in (("suspect", "IsSuspect"), ("of_interest", "IsOfInterest")):
            if part.text(leaf) in {"true", "1"}:
                self.note(Field.SUBJECT_CLASS, word)
        for word, leaf in (("registered", "IdentificationNumber"), ("imo company", "IMOCompanyIdentificationNumber")):
            if text := part.text(leaf):
                self.note(Field.OBJECT_IDENTIFIERS, f"{word} {text}")

    def _person_document(self, part: Part, country: str, role: str) -> None:
        kind = _PERSON_DOCUMENTS.get(part.text("IdentifierType"))
        if kind is None:
            return
        # Passports and identity cards are a state's to its nationals; the model has no place for who issued one.
        number = self.identify(
            IdentifierType.IDENTITY_DOCUMENT,
            part.found("IdentifierValue"),
            role=role,
            country=country,
            document_type=kind,
        )
        if number is not None and not role:
            self.note(Field.DOCUMENTS, f"{kind} {number.value}")

    def _contact(self, found: Found, role: str) -> None:
        """Take in addresses and international numbers in a text that may hold anything."""
        self.note(Field.PARTY_CONTACTS, f"{role}: {found.text}" if role else found.text)
        for type_, pattern in ((IdentifierType.EMAIL, _EMAIL), (IdentifierType.PHONE, _PHONE)):
            for match in islice(pattern.finditer(found.text), MAX_SHARED):
                self._add_certain(type_, match[0].rstrip("."), found, role, FREE_TEXT_MARK)

    def _document(self, part: Part, kind: Kind, role: str) -> None:
        if not role:
            # What kind of paper somebody has can say more of them than a number.
            self._types(kind, part, *(() if kind.label == "person_document" else ("DocumentType",)))
        for leaf in ("Title", "Subject"):
            found = part.found(leaf)
            if found is None:
                continue
            self.search_text(found)
            inside = found._replace(path=found.path + FREE_TEXT_MARK)
            if (match := _TRANSPORT_DOCUMENT.fullmatch(found.text)) is not None:
                number = self.identify(IdentifierType.TRANSPORT_DOCUMENT, inside._replace(text=match[1]), role=role)
                if number is not None:
                    self.note(Field.GOODS_IDENTIFIERS, f"transport_document {number.value}")
            for match in islice(_MRN.finditer(found.text), MAX_SHARED):
                number = self.identify(IdentifierType.MRN, inside._replace(text=match[1]), role=role)
                if number is not None:
                    self.note(Field.MRN, number.value)

    def _event(self, part: Part, kind: Kind) -> None:
        for word, leaf in _EVENT_WORDS:
            if text := part.text(leaf):
                self.note(Field.RISK_INFORMATION, f"{kind.label} {word} {text}")
        self._places(part)

    def _places(self, part: Part) -> None:
        for relation in part.all("LocationRel"):
            for location in relation.all("Location"):
                self.note(Field.PLACE, _place(location))

    def _types(self, kind: Kind, part: Part, *leaves: str) -> None:
        self.note(Field.OBJECT_TYPE, kind.label)
        for leaf in leaves:
            for text in part.texts(leaf):
                self.note(Field.OBJECT_TYPE, text)

    def _add_certain(self, type_: IdentifierType, text: str, found: Found, role: str, mark: str = "") -> bool:
        """Take in a number if it has a canonical form; nothing is wrong if it has none."""
        try:
            value = normalise(type_, text)
        except NormalisationError:
            return False
        self.add(Identifier(type_, value, found.path + mark, role), line=found.line)
        return True


def _each(part: Part, leaf: str) -> Iterator[Found]:
    first = part.found(leaf)
    for text in part.texts(leaf):
        yield Found(text, part.path_of(leaf), part.line if first is None else first.line)


def _country(text: str) -> str:
    return country_code(text.upper())


def _place(location: Part) -> str:
    for leaf in ("LocationCode", "PortName", "PortFacilityName", "PortFacilityNumber", "GeographicName"):
        if text := location.text(leaf):
            return text
    geometry = location.first("Geometry")
    return "" if geometry is None else " ".join(filter(None, (geometry.text("Latitude"), geometry.text("Longitude"))))


def _place_of(part: Part, *roles: str) -> tuple[str, str]:
    """Return a place of an agent, and its country."""
    for relation in part.all("LocationRel"):
        location = relation.first("Location")
        if location is not None and relation.text("AgentRole") in roles:
            place = _place(location)
            # UN/LOCODE begins with the country.
            return place, _country(location.text("LocationCode")[:2]) or _country(place)
    return "", ""


def _person(part: Part, nationalities: tuple[str, ...]) -> Party:
    forenames = " ".join(filter(None, (part.text("GivenName"), part.text("PatronymicName"))))
    family = part.text("FamilyName")
    birth = _DATE.fullmatch(part.text("BirthDate"))
    address, country = _place_of(part, "CountryOfResidence", "IsLocatedIn")
    return Party(
        role="",
        kind=PartyKind.PERSON,
        name=f"{family}, {forenames}" if family and forenames else part.text("FullName") or family or forenames,
        source_path=part.path,
        aliases=tuple(filter(None, (part.text("BirthName"), part.text("AlternativeName")))),
        birth_date="" if birth is None else birth[1],
        birth_place=_place_of(part, "PlaceOfBirth", "CountryOfBirth")[0],
        nationalities=nationalities,
        gender={"Female": "female", "Male": "male"}.get(part.text("Gender"), ""),
        address=address,
        country=country,
    )


def _organisation_party(part: Part) -> Party:
    names = filter(None, map(part.text, ("LegalName", "FormalOrganizationName", "AlternativeName")))
    name, *aliases = [*dict.fromkeys(names)] or [""]
    address, country = _place_of(part, "IsLocatedIn")
    return Party("", PartyKind.ORGANISATION, name, part.path, aliases=tuple(aliases), address=address, country=country)


def issuer(part: Part) -> str:
    """Return who gave an entity its UUID, or nothing."""
    by = part.first("GeneratedBy")
    return "" if by is None else next(filter(None, map(by.text, _ORGANISATION_NAMES.split())), "")


def is_restricted(level: str, sensitivity: str) -> bool:
    """Whether something is classified, or for its recipient alone; a word that nobody knows counts as such.

    Args:
        level: Of security, as EU classified information has it.
        sensitivity: A colour of the Traffic Light Protocol.
    """
    return level not in _OPEN_LEVELS or sensitivity not in _OPEN_SENSITIVITIES


def valid_until(part: Part) -> datetime | None:
    """Return when the last validity of an entity's data ends; a day ends when it is over."""
    ends = []
    for metadata in part.all("Metadata"):
        for period in metadata.all("ValidityPeriod"):
            day, time = _DATE.fullmatch(period.text("EndDate")), _TIME.fullmatch(period.text("EndTime"))
            if day is not None:
                clock, zone = ("23:59:59.999999", day[2]) if time is None else (time[1], time[2] or day[2])
                ends.append(moment(f"{day[1]}T{clock}{zone or 'Z'}"))
    return max((end for end in ends if end is not None), default=None)
