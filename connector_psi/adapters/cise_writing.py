"""Writes what a node tells maritime authorities: confirmed hits and risks, as messages of CISE.

Decides: which entities and which of their elements can be written, in the order that the schemas want; that a value
which the schemas or the canonical forms do not have is refused, by the name of its field and never by what it is; that
a payload with a person must say that it holds personal data.
Leaves to others: what may be told at all (``policy``: no personal data but what an agreement lists; nothing is written
here but what is given), what a message tells its reader (``adapters.cise``), building XML (``adapters.xml``), signing
and delivery (the gateway).

What lies within an entity is written there, by relations. White space in texts is folded, as it is on reading. Of the
types of incident those are here that concern customs.

Example::

    risk = Risk(level="High", type="Smuggling", objects=(ContainmentUnit(container="CSQU3054383"),))
    data = write_message(
        Push(),
        message_id="5f0c8a52-3f0e-4d51-9a53-6f2f0f6d0a02",
        created=clock.now(),
        sender=Service(service_id="be.customs-node01.risk.push.provider"),
        payload=Payload(purpose="CustomsMonitoring", sensitivity="Amber", entities=(risk,)),
    )

Source: CISE service model v1 and data model 1.5.3, Joint Research Centre.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Final, get_type_hints

from connector_psi.adapters.xml import Written, write
from connector_psi.domain.countries import country_code
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import InputError, NormalisationError

MESSAGE: Final = "http://www.cise.eu/servicemodel/v1/message/"
MODEL: Final = "http://www.cise.eu/datamodel/v1/entity/"
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"

MAX_TEXT_CHARS: Final = 512
MAX_DEPTH: Final = 6
"""Relations between an entity of the payload and what lies within it: what the reader follows."""

# What XML does not have, and controls.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_Write = Callable[[object], str]
"""A value as it is written. Raises ``ValueError`` with a reason, which never holds the value."""


# --- values --------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text or len(text) > MAX_TEXT_CHARS or _UNFIT.search(text):
        raise ValueError(f"no text of 1 to {MAX_TEXT_CHARS} characters that XML has")
    return text


def _one_of(words: str) -> _Write:
    known = frozenset(words.split())

    def write_word(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError("none of the words that the schema has")
        return value

    return write_word


def _number(type_: IdentifierType) -> _Write:
    def write_number(value: object) -> str:
        try:
            return normalise(type_, _text(value))
        except NormalisationError as error:
            raise ValueError(error.reason) from None

    return write_number


def _country(value: object) -> str:
    if not isinstance(value, str) or country_code(value) != value:
        raise ValueError("no ISO 3166 alpha-2 code")
    return value


def _flag(value: object) -> str:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")  # noqa: TRY004 - all values fail alike
    return str(value).lower()


def _seconds(value: object) -> str:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("no number of seconds")
    return str(value)


def _day(value: object) -> str:
    # A time is a date too.
    if type(value) is not date:
        raise ValueError("no date")
    return value.isoformat()


def _moment(value: object) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("no time with a zone")
    try:
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        raise ValueError("a time beyond the calendar") from None


# --- words: of the enumerations that the schemas have --------------------------------------------------------------

_CARGO_DOCUMENT = _one_of(
    "CargoManifest VATException EntrySummaryDeclaration IMOFALForm2CargoDeclaration IMOFALForm3ShipsStoresDeclaration "
    "IMOFALForm4CrewsEffectsDeclaration NotificationOfDangerousGoods IMOFALForm7DangerousGoods "
    "SingleAdministrativeDocument CatchCertificate FishingLogbook Other NonSpecified"
)
_RISK_DOCUMENT = _one_of(
    "BriefingNotes RouteDescription Facilitationanalysis MigrantProfile KeyDevelopments RiskRatings "
    "HAZMATNotification RiskAssessment OrganisedCrimeDocuments TerroristThreatDocuments ShipHijackingSuspicionReport "
    "CrewHostagingSuspicionReport WeaponsOnBoardSuspicionReport Other NonSpecified"
)
_PERSON_PAPER = _one_of(
    "IdentityCard SocialSecurityCard Passport FiscalDocument VISA CrewMasterBook Other NonSpecified"
)
_GENDER = _one_of("Female Male Other Unknown NotApplicable")
_PACKAGE = _one_of(
    "Bulk LoosedUnpackedExcludingBulk RigidBoxTypePrismatic RigidDrumTypeCylindrical RigidBulbTypeSpherical "
    "RigidOther FlexibleBagType ForFutureUse Reserved OtherSpecialPackages Other NonSpecified"
)
_CARGO = _one_of(
    "NoCargoUnitLiquidBulkGoods NoCargoUnitSolidBulkGoods LargeFreightContainers OtherFreightContainers Palletized "
    "PreSlung MobileSelfPropelledUnits OtherMobileUnits Reserved OtherCargoTypes Other NonSpecified"
)
_SHIP = _one_of(
    "PassengerShip FishingVessel NuclearShip BulkCarrier OilTanker GeneralCargoShip HighSpeedCraft "
    "MobileOffShoreDrillingUnit SpecialPurposeShip Other NonSpecified"
)
_RISK_LEVEL = _one_of("High Medium Low Other NonSpecified")
_RISK_PROBABILITY = _one_of("Frequent Probable Occasional Rare Improbable Other NonSpecified")
_RISK_SEVERITY = _one_of("Catastrophic Critical Marginal Negligible Other NonSpecified")
_RISK_TYPE = _one_of(
    "Accident IllegalImmigration DrugTrafficking Collision HumanTrafficking Smuggling IllegalFishing "
    "WeaponsTrafficking Fire Pollution Other NonSpecified"
)
_NATURE = _one_of("Observed Declared Estimated Simulated Other NonSpecified")
_CERTAINTY = _one_of("Observed Likely Possible Unlikely Unknown Other NonSpecified")
_URGENCY = _one_of("Immediate Expected Future Past Unknown Other NonSpecified")
_SEVERITY = _one_of("Extreme Severe Moderate Minor Unknown Other NonSpecified")
_INFRINGEMENT = _one_of(
    "DrugSmugglingMarihuana DrugSmugglingCocaine DrugSmugglingHashish DrugSmugglingCannabis DrugSmugglingHeroin "
    "DrugSmugglingAmphetamine DrugSmugglingMetamphetamine DrugSmugglingEcstasy DrugSmugglingOpium "
    "DrugSmugglingHallucinogens DrugSmugglingOtherDrugs GoodsSmugglingGoodsCarriedWithNoRequiredPermits "
    "GoodsSmugglingExciseGoods GoodsSmugglingCounterfeitedProducts GoodsSmugglingNaturalResourcesMinerals "
    "GoodsSmugglingThreatenedSpecies GoodsSmugglingCulturalHeritageGoods "
    "SmugglingInWasteAndOtherHazardousMaterialWaste SmugglingInWasteAndOtherHazardousMaterialChemical "
    "SmugglingInWasteAndOtherHazardousMaterialBiohazard SmugglingInWasteAndOtherHazardousMaterialRadioActive "
    "SmugglingInWasteAndOtherHazardousMaterialNuclear "
    "SmugglingInWasteAndOtherHazardousMaterialOtherDangerousSubstances "
    "SmugglingInWeaponAndRelatedAccessoriesArmsWeapons SmugglingInWeaponAndRelatedAccessoriesWeaponsOfMassDestruction "
    "SmugglingInWeaponAndRelatedAccessoriesAmmunition SmugglingInWeaponAndRelatedAccessoriesExplosives "
    "SmugglingInOtherMaterial OtherRelatedCrossBorderCriminalActivityStolenVehicle "
    "OtherRelatedCrossBorderCriminalActivityDocumentFalsificationFraud OtherRelatedCrossBorderCriminalActivityOther "
    "LawInfringementByVessels IllegalFlightOfAnAircraft LawInfringementByVehicles OtherAdministrativeOffense Other "
    "NonSpecified"
)
_SERVICE_ROLE = _one_of("Consumer Provider")
_SERVICE_TYPE = _one_of(
    "CargoService RiskService PersonService LandVehicleService OrganizationService AgentService AircraftService "
    "IncidentService LawInfringementIncidentService CargoDocumentService RiskDocumentService DocumentService "
    "VesselService"
)
_SECURITY_LEVEL = _one_of("NonSpecified NonClassified EURestricted EUConfidential EUSecret EUTopSecret")
_SENSITIVITY = _one_of("White Green Amber Red NonSpecified")
_PURPOSE = _one_of(
    "DefenceMonitoring CSDPTask BorderMonitoring CounterTerrorism EnvironmentWarning EnvironmentMonitoring "
    "EnvironmentResponse CustomsMonitoring LawEnforcementMonitoring FisheriesOperation BorderOperation Safety "
    "Security SAR FisheriesWarning FisheriesMonitoring VTM Operation LawEnforcementOperation CustomsOperation "
    "NonSpecified"
)
_PULL = _one_of("GetSubscribers Discover Unsubscribe Subscribe Request")
_FEEDBACK = _one_of("info delete")
_ACKNOWLEDGEMENT = _one_of(
    "InvalidRequestObject ObjectTypeNotAccepted AuthenticationError BadRequest EntityTypeNotAccepted "
    "InternalGatewayFault ServiceManagerError Success SecurityError Unauthorized ServerError ServiceTypeNotSupported "
    "TimestampError NetworkError EndPointNotFound"
)
_PRIORITY = _one_of("Low Medium High")
_OPERATION = _one_of("Feedback Pull Subscribe Acknowledgement Push")
_RESULT = _one_of(
    "ServerError EndPointNotFound Success InternalGatewayFault Unauthorized InvalidRequestObject "
    "EntityTypeNotAccepted SecurityError BadRequest TimestampError AuthenticationError ServiceTypeNotSupported "
    "ObjectTypeNotAccepted"
)
_IN_OBJECT = _one_of(
    "Owner ShipAgent Passenger CrewMember CaptainMaster ShipOperatingCompany CompanySecurityOfficer Employee "
    "VesselBuilder VesselCharterer VesselRegisteredOwner VesselCompany ShippingAgent Declarant CarrierAgent "
    "ShippingLine CustomsBroker DGPContactPoint Other NonSpecified"
)
_IN_RISK = _one_of("Cause Involved Reports Other NonSpecified")
_IN_EVENT = _one_of("Coordinator Participant Observer Cause Reporter Victim Informed Perpetrator Other NonSpecified")
_OBJECT_IN_EVENT = _one_of("Coordinator Participant Observer Cause Reporter Victim Mean Other NonSpecified")


# --- fields: a class has them in the order of the schema, those of its base first ----------------------------------


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A field that is an element with a text, or several of one name."""

    element: str
    write: _Write = _text


@dataclass(frozen=True, slots=True)
class _Group:
    """A field that is an element with elements in it, or several of one name."""

    element: str
    holder: type


@dataclass(frozen=True, slots=True)
class _Relation:
    """A field that relates entities, each in an element of its own."""

    element: str
    target: str
    role: str = ""
    """Name of the element that says the role; empty where there is none."""
    write: _Write = _text


# --- entities ------------------------------------------------------------------------------------------------------


class Entity:
    """What a payload can carry. Each field is left out where it is None or empty."""

    __slots__ = ()
    package: ClassVar[str]
    """Last part of the namespace of its type."""
    targets: ClassVar[frozenset[str]]
    """Names under which a relation can hold it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Involved:
    """An entity and its role in a relation."""

    entity: Entity
    role: str


Related = tuple[Entity | Involved, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Issuer:
    """Who gave a thing its UUID."""

    legal_name: Annotated[str | None, _Leaf("LegalName")] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UniqueIdentifier:
    """What a thing is called, so that a later message can replace what this one says of it."""

    generated_by: Annotated[Issuer | None, _Group("GeneratedBy", Issuer)] = None
    generated_in: Annotated[datetime | None, _Leaf("GeneratedIn", _moment)] = None
    uuid: Annotated[str | None, _Leaf("UUID")] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Document(Entity):
    """A document of any kind. Its number stands in the title, behind what it is: ``MRN 25BE...``, ``AWB 020-...``."""

    package: ClassVar[str] = "document"
    targets: ClassVar[frozenset[str]] = frozenset({"Document"})

    identifier: Annotated[UniqueIdentifier | None, _Group("Identifier", UniqueIdentifier)] = None
    subject: Annotated[str | None, _Leaf("Subject")] = None
    title: Annotated[str | None, _Leaf("Title")] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CargoDocument(Document):
    """A document of a cargo."""

    type: Annotated[str | None, _Leaf("DocumentType", _CARGO_DOCUMENT)] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RiskDocument(Document):
    """A document on a risk."""

    type: Annotated[str | None, _Leaf("DocumentType", _RISK_DOCUMENT)] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Agent(Entity):
    targets: ClassVar[frozenset[str]] = frozenset({"Agent"})

    contact: Annotated[str | None, _Leaf("ContactInformation")] = None
    identifier: Annotated[UniqueIdentifier | None, _Group("Identifier", UniqueIdentifier)] = None
    is_of_interest: Annotated[bool | None, _Leaf("IsOfInterest", _flag)] = None
    is_suspect: Annotated[bool | None, _Leaf("IsSuspect", _flag)] = None
    nationalities: Annotated[tuple[str, ...], _Leaf("Nationality", _country)] = ()
    documents: Annotated[Related, _Relation("DocumentRel", "Document")] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PersonIdentifier:
    """A paper of a person. Its country is that of the person's nationality."""

    type: Annotated[str | None, _Leaf("IdentifierType", _PERSON_PAPER)] = None
    value: Annotated[str | None, _Leaf("IdentifierValue")] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Person(_Agent):
    """A person. Its payload must be marked as personal data."""

    package: ClassVar[str] = "person"

    alternative_name: Annotated[str | None, _Leaf("AlternativeName")] = None
    birth_date: Annotated[date | None, _Leaf("BirthDate", _day)] = None
    birth_name: Annotated[str | None, _Leaf("BirthName")] = None
    family_name: Annotated[str | None, _Leaf("FamilyName")] = None
    full_name: Annotated[str | None, _Leaf("FullName")] = None
    gender: Annotated[str | None, _Leaf("Gender", _GENDER)] = None
    given_name: Annotated[str | None, _Leaf("GivenName")] = None
    identifiers: Annotated[tuple[PersonIdentifier, ...], _Group("PersonIdentifiers", PersonIdentifier)] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Organization(_Agent):
    """A company or an authority. A LEI or a VAT number stands in ``identification_number``."""

    package: ClassVar[str] = "organization"

    alternative_name: Annotated[str | None, _Leaf("AlternativeName")] = None
    identification_number: Annotated[str | None, _Leaf("IdentificationNumber")] = None
    legal_name: Annotated[str | None, _Leaf("LegalName")] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Object(Entity):
    markings: Annotated[tuple[str, ...], _Leaf("ExternalMarkings")] = ()
    identifier: Annotated[UniqueIdentifier | None, _Group("Identifier", UniqueIdentifier)] = None
    names: Annotated[tuple[str, ...], _Leaf("Name")] = ()
    documents: Annotated[Related, _Relation("DocumentRel", "Document")] = ()
    agents: Annotated[Related, _Relation("InvolvedAgentRel", "Agent", "AgentRole", _IN_OBJECT)] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ContainmentUnit(_Object):
    """A container or a package."""

    package: ClassVar[str] = "cargo"
    targets: ClassVar[frozenset[str]] = frozenset({"Object", "CargoUnit"})

    container: Annotated[str | None, _Leaf("ContainerMarksAndNumber", _number(IdentifierType.CONTAINER))] = None
    other_marks: Annotated[str | None, _Leaf("OtherMarksAndNumber")] = None
    package_type: Annotated[str | None, _Leaf("PackageType", _PACKAGE)] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Cargo(_Object):
    """Goods, as they are carried together."""

    package: ClassVar[str] = "cargo"
    targets: ClassVar[frozenset[str]] = frozenset({"Object", "CargoUnit", "Cargo"})

    type: Annotated[str | None, _Leaf("CargoType", _CARGO)] = None
    units: Annotated[Related, _Relation("ContainedCargoUnitRel", "CargoUnit")] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Vehicle(_Object):
    targets: ClassVar[frozenset[str]] = frozenset({"Object", "Vehicle"})

    nationalities: Annotated[tuple[str, ...], _Leaf("Nationality", _country)] = ()
    vehicles: Annotated[Related, _Relation("VehiclesRel", "Vehicle")] = ()
    cargo: Annotated[Cargo | None, _Relation("CargoRel", "Cargo")] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Vessel(_Vehicle):
    """A ship or a boat."""

    package: ClassVar[str] = "vessel"

    call_sign: Annotated[str | None, _Leaf("CallSign")] = None
    imo: Annotated[str | None, _Leaf("IMONumber", _number(IdentifierType.IMO))] = None
    mmsi: Annotated[str | None, _Leaf("MMSI", _number(IdentifierType.MMSI))] = None
    types: Annotated[
        tuple[str, ...],
        _Leaf("ShipType", _SHIP),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Aircraft(_Vehicle):
    """An aircraft. Its registration stands in ``markings``, with the hyphen."""

    package: ClassVar[str] = "object"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LandVehicle(_Vehicle):
    """A road vehicle. Its plate stands in ``markings``, the country of the plate in ``nationalities``."""

    package: ClassVar[str] = "object"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Risk(Entity):
    """A risk, and what it concerns."""

    package: ClassVar[str] = "risk"
    targets: ClassVar[frozenset[str]] = frozenset({"Risk"})

    identifier: Annotated[UniqueIdentifier | None, _Group("Identifier", UniqueIdentifier)] = None
    level: Annotated[str | None, _Leaf("RiskLevel", _RISK_LEVEL)] = None
    probability: Annotated[str | None, _Leaf("RiskProbability", _RISK_PROBABILITY)] = None
    severity: Annotated[str | None, _Leaf("RiskSeverity", _RISK_SEVERITY)] = None
    type: Annotated[str | None, _Leaf("RiskType", _RISK_TYPE)] = None
    objects: Annotated[Related, _Relation("InvolvedObjectRel", "Object")] = ()
    incidents: Annotated[Related, _Relation("ImpliedEventRel", "Event")] = ()
    documents: Annotated[Related, _Relation("DocumentRel", "Document")] = ()
    agents: Annotated[Related, _Relation("InvolvedAgentRel", "Agent", "AgentRole", _IN_RISK)] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Incident(Entity):
    """Something that happened, and what was involved in it."""

    package: ClassVar[str] = "incident"
    targets: ClassVar[frozenset[str]] = frozenset({"Event"})

    identifier: Annotated[UniqueIdentifier | None, _Group("Identifier", UniqueIdentifier)] = None
    nature: Annotated[str | None, _Leaf("NatureType", _NATURE)] = None
    risks: Annotated[Related, _Relation("ImpliedRiskRel", "Risk")] = ()
    objects: Annotated[Related, _Relation("InvolvedObjectRel", "Object", "ObjectRole", _OBJECT_IN_EVENT)] = ()
    documents: Annotated[Related, _Relation("DocumentRel", "Document")] = ()
    agents: Annotated[Related, _Relation("InvolvedAgentRel", "Agent", "AgentRole", _IN_EVENT)] = ()
    certainty: Annotated[str | None, _Leaf("Certainty", _CERTAINTY)] = None
    urgency: Annotated[str | None, _Leaf("ResponseUrgency", _URGENCY)] = None
    severity: Annotated[str | None, _Leaf("Severity", _SEVERITY)] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LawInfringementIncident(Incident):
    """An offence, such as smuggling."""

    type: Annotated[str | None, _Leaf("LawInfringementIncidentType", _INFRINGEMENT)] = None


# --- messages ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Service:
    """A sender or a recipient."""

    service_id: Annotated[str, _Leaf("ServiceID")]
    operation: Annotated[str | None, _Leaf("ServiceOperation", _OPERATION)] = None
    role: Annotated[str | None, _Leaf("ServiceRole", _SERVICE_ROLE)] = None
    type: Annotated[str | None, _Leaf("ServiceType", _SERVICE_TYPE)] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Payload:
    """What a message carries, and how it is to be handled."""

    security_level: Annotated[str, _Leaf("InformationSecurityLevel", _SECURITY_LEVEL)] = "NonClassified"
    sensitivity: Annotated[str, _Leaf("InformationSensitivity", _SENSITIVITY)]
    personal_data: Annotated[bool, _Leaf("IsPersonalData", _flag)] = False
    """Whether it holds personal data; a person is refused in one that does not."""
    purpose: Annotated[str, _Leaf("Purpose", _PURPOSE)]
    retention: Annotated[datetime | None, _Leaf("RetentionPeriod", _moment)] = None
    """Until when its reader may keep it."""
    entities: tuple[Entity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Push:
    """Tells."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PullRequest:
    """Asks for what is like the entities of the payload."""

    pull_type: Annotated[str, _Leaf("PullType", _PULL)]
    timeout_s: Annotated[int | None, _Leaf("ResponseTimeOut", _seconds)] = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PullResponse:
    """Answers a request."""

    error_detail: Annotated[str | None, _Leaf("ErrorDetail")] = None
    result: Annotated[str, _Leaf("ResultCode", _RESULT)]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Feedback:
    """Says something of an earlier message; ``delete`` takes it back."""

    type: Annotated[str, _Leaf("FeedbackType", _FEEDBACK)]
    reason: Annotated[str | None, _Leaf("Reason")] = None
    about: Annotated[str, _Leaf("RefMessageID")]
    """Number of that message."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Acknowledgement:
    """Says that a message came."""

    code: Annotated[str, _Leaf("AckCode", _ACKNOWLEDGEMENT)]
    detail: Annotated[str | None, _Leaf("AckDetail")] = None


Body = Push | PullRequest | PullResponse | Feedback | Acknowledgement


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Message:
    context_id: Annotated[str | None, _Leaf("ContextID")] = None
    correlation_id: Annotated[str | None, _Leaf("CorrelationID")] = None
    created: Annotated[datetime, _Leaf("CreationDateTime", _moment)]
    message_id: Annotated[str, _Leaf("MessageID")]
    priority: Annotated[str, _Leaf("Priority", _PRIORITY)]
    requires_ack: Annotated[bool, _Leaf("RequiresAck", _flag)]
    sender: Annotated[Service, _Group("Sender", Service)]
    recipient: Annotated[Service | None, _Group("Recipient", Service)] = None


def write_message(
    body: Body,
    *,
    message_id: str,
    created: datetime,
    sender: Service,
    recipient: Service | None = None,
    payload: Payload | None = None,
    priority: str = "Medium",
    requires_ack: bool = False,
    correlation_id: str | None = None,
    context_id: str | None = None,
) -> bytes:
    """Return a message that holds against ``message.xsd`` and ``cise-entities.xsd``, envelope and entities apart.

    Args:
        body: What kind of message, with what only such a one says.
        message_id: Its number, unique for its sender.
        created: When it is written, aware.
        sender: The service that sends it.
        recipient: The service that it is for; None where the gateway finds out.
        payload: What it carries.
        priority: ``Low``, ``Medium`` or ``High``.
        requires_ack: Whether the sender wants to be told that it arrived.
        correlation_id: Of the request that a response answers.
        context_id: Of messages that belong together.

    Raises:
        InputError: A value is missing, or is none that the schemas and the canonical forms have; a person stands in a
            payload that is not marked as personal data. The text names class and field, never the value.
    """
    header = _Message(
        context_id=context_id,
        correlation_id=correlation_id,
        created=created,
        message_id=message_id,
        priority=priority,
        requires_ack=requires_ack,
        sender=sender,
        recipient=recipient,
    )
    content = [*_elements(header, set(), 0)]
    if payload is not None:
        content.append(_payload(payload))
    content += _elements(body, set(), 0)
    name = f"{{{MESSAGE}}}{type(body).__name__}"
    return write(Written(name, content, namespaces={"msg": MESSAGE, "xsi": XSI}))


def _payload(payload: Payload) -> Written:
    content = [*_elements(payload, set(), 0)]
    for entity in payload.entities:
        if not isinstance(entity, Entity):
            raise InputError("Payload.entities: not all are entities")
        packages: set[str] = set()
        inner = [*_elements(entity, packages, 0)]
        if not payload.personal_data and "person" in packages | {entity.package}:
            raise InputError("Payload.personal_data: the payload holds a person")
        # Declared here, so that an entity can be taken out of its message.
        namespaces = {package: f"{MODEL}{package}/" for package in sorted(packages)}
        content.append(Written(type(entity).__name__, inner, namespaces=namespaces))
    return Written("Payload", content, attributes={f"{{{XSI}}}type": "msg:XmlEntityPayload"})


@cache
def _plan(cls: type[Any]) -> tuple[tuple[str, _Leaf | _Group | _Relation, object], ...]:
    """Return name, way of writing and default of each field."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        (each.name, kind, each.default)
        for each in fields(cls)
        for kind in getattr(hints[each.name], "__metadata__", ())
    )


def _elements(owner: Any, packages: set[str], depth: int) -> Iterator[Written]:  # noqa: ANN401 - any class above
    """Yield the elements of what has fields, and note the packages of the types that it names."""
    cls: Any = type(owner)
    for name, kind, default in _plan(cls):
        value, place = getattr(owner, name), f"{cls.__name__.lstrip('_')}.{name}"
        if value is None and default is None:
            continue
        if default == () and not isinstance(value, tuple):
            raise InputError(f"{place}: no tuple")
        for one in value if default == () else (value,):
            if isinstance(kind, _Leaf):
                yield Written(kind.element, _checked(kind.write, one, place))
            elif isinstance(kind, _Relation):
                yield _relation(kind, one, place, packages, depth + 1)
            elif isinstance(one, kind.holder):
                yield Written(kind.element, [*_elements(one, packages, depth)])
            else:
                raise InputError(f"{place}: no {kind.holder.__name__}")


def _checked(write_value: _Write, value: object, place: str) -> str:
    try:
        return write_value(value)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def _relation(kind: _Relation, value: object, place: str, packages: set[str], depth: int) -> Written:
    entity, role = (value.entity, value.role) if isinstance(value, Involved) else (value, None)
    if depth > MAX_DEPTH:
        raise InputError(f"{place}: lies too deep")
    if not isinstance(entity, Entity) or kind.target not in entity.targets:
        raise InputError(f"{place}: no entity that can stand there")
    if role is not None and not kind.role:
        raise InputError(f"{place}: there is no role")
    name, attributes = type(entity).__name__, {}
    if name != kind.target:
        packages.add(entity.package)
        attributes[f"{{{XSI}}}type"] = f"{entity.package}:{name}"
    content = [Written(kind.target, [*_elements(entity, packages, depth)], attributes=attributes)]
    if role is not None:
        content.append(Written(kind.role, _checked(kind.write, role, f"{place}.role")))
    return Written(kind.element, content)
