"""What is matched: records, their identifiers, and the vocabulary that all layers share.

Decides: which identifier types exist, which class each belongs to, which suffice alone for a
match (``IDENTIFIER_TABLE``, data in one table), and the names of the fields that a policy can disclose.
Leaves to others: canonical forms (``domain.identifiers``), where values come from (``adapters``), who may
learn what (``policy``). Free of I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from types import MappingProxyType


class TokenClass(IntEnum):
    """Classes that policy bounds separately; each has its own PRF key. The number is on the wire."""

    OBJECT = 1
    CONTACT = 2
    ORGANISATION = 3
    PERSON = 4

    @property
    def label(self) -> str:
        """The name used in policies, key derivation and commitments."""
        return self.name.lower()


class IdentifierType(StrEnum):
    """Exact identifier types. The value is part of every token, so it never changes."""

    CONTAINER = "container"
    PLATE = "plate"
    VIN = "vin"
    IMO = "imo"
    AIRCRAFT = "aircraft"
    IDENTITY_DOCUMENT = "identity_document"
    MRN = "mrn"
    TRANSPORT_DOCUMENT = "transport_document"
    SEAL = "seal"
    EORI = "eori"
    VAT = "vat"
    PHONE = "phone"
    EMAIL = "email"
    ENI = "eni"
    """European number of a vessel on inland waterways."""
    MMSI = "mmsi"
    """Maritime mobile service identity of a ship's radio."""
    HULL = "hull"
    """Hull identification number of a small craft (ISO 10087)."""
    LEI = "lei"
    """Legal entity identifier (ISO 17442)."""
    WEBSITE = "website"
    """Host name."""
    IBAN = "iban"
    PAYMENT_CARD = "payment_card"
    """A card number, truncated to what PCI DSS allows to be kept."""
    IMEI = "imei"
    BANKNOTE = "banknote"
    """Serial number with currency and denomination."""
    FIREARM = "firearm"
    """Serial number with make and calibre."""
    ENGINE = "engine"
    """Serial number with make; so are the three that follow."""
    COMPONENT = "component"
    INDUSTRIAL_EQUIPMENT = "industrial_equipment"
    ITEM = "item"
    """Information technology and other objects of high value."""
    SERIAL = "serial"
    """A serial number without make, of whatever kind of thing."""
    VIN_LAST8 = "vin_last8"
    PLATE_NUMBER = "plate_number"
    """A plate without its country."""
    POSTAL_ITEM = "postal_item"
    """S10 identifier of the Universal Postal Union."""
    RECEPTACLE = "receptacle"
    """S9 identifier of a bag, tray or pallet of mail."""


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What matching needs to know about an identifier type."""

    token_class: TokenClass
    family: int
    """Number of the token family inside a sealed ticket; one byte, never reused."""
    suffices_alone: bool
    """Whether one equal token of this type is a match without a second one."""


# Source: design decision "facts that decide the matching": numbers that are unique by a register
# suffice alone; seals and transport documents are reused, and truncated or incomplete numbers are many things' numbers,
# so they need a second token.
IDENTIFIER_TABLE: Mapping[IdentifierType, TypeRule] = MappingProxyType(
    {
        IdentifierType.CONTAINER: TypeRule(TokenClass.OBJECT, 1, suffices_alone=True),
        IdentifierType.PLATE: TypeRule(TokenClass.OBJECT, 2, suffices_alone=True),
        IdentifierType.VIN: TypeRule(TokenClass.OBJECT, 3, suffices_alone=True),
        IdentifierType.IMO: TypeRule(TokenClass.OBJECT, 4, suffices_alone=True),
        IdentifierType.AIRCRAFT: TypeRule(TokenClass.OBJECT, 5, suffices_alone=True),
        IdentifierType.IDENTITY_DOCUMENT: TypeRule(TokenClass.OBJECT, 6, suffices_alone=True),
        IdentifierType.MRN: TypeRule(TokenClass.OBJECT, 7, suffices_alone=True),
        IdentifierType.TRANSPORT_DOCUMENT: TypeRule(TokenClass.OBJECT, 8, suffices_alone=False),
        IdentifierType.SEAL: TypeRule(TokenClass.OBJECT, 9, suffices_alone=False),
        IdentifierType.EORI: TypeRule(TokenClass.ORGANISATION, 10, suffices_alone=True),
        IdentifierType.VAT: TypeRule(TokenClass.ORGANISATION, 11, suffices_alone=True),
        IdentifierType.PHONE: TypeRule(TokenClass.CONTACT, 12, suffices_alone=True),
        IdentifierType.EMAIL: TypeRule(TokenClass.CONTACT, 13, suffices_alone=True),
        IdentifierType.ENI: TypeRule(TokenClass.OBJECT, 14, suffices_alone=True),
        IdentifierType.MMSI: TypeRule(TokenClass.OBJECT, 15, suffices_alone=True),
        IdentifierType.HULL: TypeRule(TokenClass.OBJECT, 16, suffices_alone=True),
        IdentifierType.LEI: TypeRule(TokenClass.ORGANISATION, 17, suffices_alone=True),
        # A host is shared by whoever has a page on it.
        IdentifierType.WEBSITE: TypeRule(TokenClass.CONTACT, 18, suffices_alone=False),
        IdentifierType.IBAN: TypeRule(TokenClass.CONTACT, 19, suffices_alone=True),
        IdentifierType.PAYMENT_CARD: TypeRule(TokenClass.CONTACT, 20, suffices_alone=False),
        IdentifierType.IMEI: TypeRule(TokenClass.OBJECT, 21, suffices_alone=True),
        IdentifierType.BANKNOTE: TypeRule(TokenClass.OBJECT, 22, suffices_alone=True),
        IdentifierType.FIREARM: TypeRule(TokenClass.OBJECT, 23, suffices_alone=True),
        IdentifierType.ENGINE: TypeRule(TokenClass.OBJECT, 24, suffices_alone=True),
        IdentifierType.COMPONENT: TypeRule(TokenClass.OBJECT, 25, suffices_alone=True),
        IdentifierType.INDUSTRIAL_EQUIPMENT: TypeRule(TokenClass.OBJECT, 26, suffices_alone=True),
        IdentifierType.ITEM: TypeRule(TokenClass.OBJECT, 27, suffices_alone=True),
        IdentifierType.SERIAL: TypeRule(TokenClass.OBJECT, 28, suffices_alone=False),
        IdentifierType.VIN_LAST8: TypeRule(TokenClass.OBJECT, 29, suffices_alone=False),
        IdentifierType.PLATE_NUMBER: TypeRule(TokenClass.OBJECT, 30, suffices_alone=False),
        IdentifierType.POSTAL_ITEM: TypeRule(TokenClass.OBJECT, 31, suffices_alone=True),
        IdentifierType.RECEPTACLE: TypeRule(TokenClass.OBJECT, 32, suffices_alone=False),
    }
)


class SourceSystem(StrEnum):
    """Systems whose records a node takes in; ``domain.systems`` says what each is."""

    ICS2 = "ICS2"
    ICS = "ICS"
    NCTS = "NCTS"
    AES = "AES"
    CSM = "CSM"
    SURVEILLANCE = "SURVEILLANCE"
    CRMS = "CRMS"
    AFIS = "AFIS"
    SIS = "SIS"
    EIS = "EIS"
    SIENA = "SIENA"
    CISE = "CISE"


class Field(StrEnum):
    """Fields that a policy can name. A field that is not named is never disclosed."""

    # customs
    MRN = "mrn"
    GOODS_IDENTIFIERS = "goods_identifiers"
    MEANS = "means"
    ROUTE = "route"
    ETA = "eta"
    PLACE = "place"
    HS6 = "hs6"
    GOODS_DESCRIPTION = "goods_description"
    PARTY_NAMES = "party_names"
    PARTY_ADDRESSES = "party_addresses"
    PARTY_CONTACTS = "party_contacts"
    RISK_RESULT = "risk_result"
    CONTROL_RECOMMENDATION = "control_recommendation"
    CONTROL_RESULT = "control_result"
    # SIS (Regulation 2018/1862, Articles 20(3) and 38)
    OBJECT_TYPE = "object_type"
    OBJECT_IDENTIFIERS = "object_identifiers"
    ACTION = "action"
    SCHENGEN_ID = "schengen_id"
    ISSUING_STATE = "issuing_state"
    SIRENE_CONTACT = "sirene_contact"
    ALERT_REASON = "alert_reason"
    OFFENCE = "offence"
    WARNINGS = "warnings"
    # Europol (Regulation 2016/794, Annex II.A)
    SUBJECT_CLASS = "subject_class"
    NAMES = "names"
    BIRTH = "birth"
    NATIONALITY = "nationality"
    RESIDENCE = "residence"
    DOCUMENTS = "documents"
    MEANS_USED = "means_used"
    CASE_REFERENCES = "case_references"
    CONVICTIONS = "convictions"
    PROVIDER = "provider"
    HANDLING_CODES = "handling_codes"
    EVALUATION_CODE = "evaluation_code"
    # risk information between customs, anti-fraud cases, police messages
    REFERENCE = "reference"
    RISK_INFORMATION = "risk_information"
    CONTACT = "contact"
    # more of SIS (2018/1862 Articles 20(3), 56; 2018/1861 Article 20)
    GENDER = "gender"
    FLAGS = "flags"
    LINKS = "links"
    DECISION_REFERENCE = "decision_reference"


@dataclass(frozen=True, slots=True)
class Identifier:
    """One canonical identifier of a record and where it came from."""

    type: IdentifierType
    value: str = field(repr=False)
    """Canonical form, from ``domain.identifiers``."""
    source_path: str
    """Where in the message it stood: an element path, a JSON key or a column."""
    role: str = ""
    """Role of the party or means it belongs to, e.g. ``consignee``; empty where there is none."""


class PartyKind(StrEnum):
    """What a party is, where its source says so."""

    PERSON = "person"
    ORGANISATION = "organisation"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Party:
    """A person or an organisation of a record, as its source wrote it."""

    role: str
    """``consignee``, ``carrier``, ``subject`` ..."""
    kind: PartyKind
    name: str = field(repr=False)
    """In the order of the source; ``surname, forenames`` where the source keeps them apart."""
    source_path: str
    aliases: tuple[str, ...] = field(default=(), repr=False)
    """Names at birth, names used before, aliases."""
    birth_date: str = field(default="", repr=False)
    """ISO 8601, as far as it is known: ``1980``, ``1980-05`` or ``1980-05-17``."""
    birth_place: str = field(default="", repr=False)
    nationalities: tuple[str, ...] = field(default=(), repr=False)
    gender: str = field(default="", repr=False)
    address: str = field(default="", repr=False)
    """On one line."""
    country: str = field(default="", repr=False)
    """ISO 3166 alpha-2 of the address or seat."""
    city: str = field(default="", repr=False)
    """Of the address, where its source keeps it apart; it stands in ``address`` too."""
    postcode: str = field(default="", repr=False)
    """As ``city``."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that an authority knows: a consignment, an alert, an object or a person."""

    source: SourceSystem
    source_ref: str
    """Unique within the source; the key of idempotent registration."""
    category: str
    """Dotted category that policies name, e.g. ``ics2.ens``, ``sis.38.g``, ``eis.vehicle``."""
    identifiers: tuple[Identifier, ...] = field(repr=False)
    fields: Mapping[Field, tuple[str, ...]] = field(repr=False)
    """What could be disclosed, by field; values in source order."""
    message_digest: bytes = field(repr=False)
    """SHA-256 of the raw message in the system of record (the XML file, the line), 32 bytes."""
    incomplete: bool = False
    """The message was cut after this record was closed."""
    hidden: bool = False
    """Never published and never disclosed (e.g. SIS Article 26(4))."""
    valid_until: datetime | None = None
    parties: tuple[Party, ...] = field(default=(), repr=False)
    message_ref: str = ""
    """What a newer message replaces as a whole: the declaration that this consignment is part of. Empty where a record
    is a message of its own; then ``source_ref`` is meant."""
    version: int = 0
    """Orders the messages about one thing, from ``version_of``; 0 where the source tells no order, and then the one
    that arrives last holds."""


def message_of(record: Record) -> tuple[SourceSystem, str]:
    """Return what a newer message replaces the record with: the thing that it is part of, or itself."""
    return record.source, record.message_ref or record.source_ref


class Rank(IntEnum):
    """Order among messages of one time about one thing."""

    ORIGINAL = 0
    DECISION = 1
    AMENDMENT = 2
    WITHDRAWAL = 3


def version_of(when: datetime | None, rank: Rank = Rank.ORIGINAL) -> int:
    """Return the version of a message.

    Args:
        when: When its sender made it, aware; None where it does not say: the rank alone then orders.
        rank: Decides between messages of the same time.
    """
    return (0 if when is None else max(0, int(when.timestamp() * 1000)) * len(Rank)) + rank


@dataclass(frozen=True, slots=True)
class Supersession:
    """The end of a message: whatever older messages said about the same thing holds no longer.

    It comes after the last record of its message, and not at all where the message was cut. Records of the thing that
    the message did not name again leave matching; records of older messages that arrive later are ignored.
    """

    source: SourceSystem
    message_ref: str
    version: int
    withdrawn: bool = False
    """The message invalidates the thing: its records leave matching too, unless a newer message comes."""
    reason: str = ""
    """Of a withdrawal, in a closed word: ``invalidated``, ``deleted``."""
    same_as: str = ""
    """Another ``message_ref`` of the same thing, where a message names both: the declaration that has this MRN was
    lodged under that local reference. What is newest under either then holds for both, in any order of arrival."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Something in the input that could not be used: the place and a reason code, never the value."""

    file: str
    line: int | None
    path: str | None
    code: str
    rejects_record: bool
    """True if a whole record was lost; False if the record was kept without this value."""
