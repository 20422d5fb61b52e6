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


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What matching needs to know about an identifier type."""

    token_class: TokenClass
    family: int
    """Number of the token family inside a sealed ticket; one byte, never reused."""
    suffices_alone: bool
    """Whether one equal token of this type is a match without a second one."""


# Source: design decision "facts that decide the matching": numbers that are unique by a register
# suffice alone; seals and transport documents are reused, so they need a second token.
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
    }
)


class SourceSystem(StrEnum):
    """Systems whose records a node takes in."""

    ICS2 = "ICS2"
    SIS = "SIS"
    EIS = "EIS"


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


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that an authority knows: a consignment, an alert, an object or a person."""

    source: SourceSystem
    source_ref: str
    """Unique within the source; the key of idempotent registration."""
    category: str
    """Dotted category that policies name, e.g. ``ics2.ens``, ``sis.38.g``, ``eis.object``."""
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


@dataclass(frozen=True, slots=True)
class Issue:
    """Something in the input that could not be used: the place and a reason code, never the value."""

    file: str
    line: int | None
    path: str | None
    code: str
    rejects_record: bool
    """True if a whole record was lost; False if the record was kept without this value."""
