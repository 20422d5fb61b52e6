"""The closed vocabulary of policies: purposes, legal bases, categories, conditions, and what no policy may name.

Decides: every word that an agreement can use, and the widest agreement that a purpose can carry (``PURPOSES``). The law
changes this file; the engine that reads it (``policy``) stays. Leaves to others: what is agreed and what is disclosed
(``policy``), the fields themselves (``domain.records``). Data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from connector_psi.domain.records import Field
from connector_psi.domain.systems import OUTSIDE_MAPPING, SYSTEMS


class Status(StrEnum):
    """Whether an agreement may run at all."""

    ENABLED = "enabled"
    PILOT = "pilot"
    """Only where ``requires`` is filled in, or between synthetic nodes."""
    BLOCKED = "blocked"


class Mode(StrEnum):
    """Who asks: a person about one case, or a system about every declaration."""

    CASE = "case"
    BULK = "bulk"


class OwnerNotice(StrEnum):
    """Whether people at the owner see a case."""

    CASE = "case"
    NONE = "none"


class ProfileRole(StrEnum):
    """What an authority is. There is no role for a third country or an international organisation."""

    CUSTOMS = "customs"
    NSIS = "nsis"
    EUROPOL = "europol"
    NATIONAL_UNIT = "national_unit"
    POLICE = "police"
    BORDER_GUARD = "border_guard"
    COAST_GUARD = "coast_guard"


class Purpose(StrEnum):
    """Purposes in the style of the W3C Data Privacy Vocabulary, which lacks those of Directive (EU) 2016/680."""

    OBJECT_SEIZURE = "cpsi:ObjectSeizureOrEvidence"
    CROSS_CHECKING = "cpsi:CrossChecking"
    CUSTOMS_RISK = "cpsi:CustomsRiskManagement"


class LegalBasis(StrEnum):
    """``act:article``; UCC is Regulation (EU) No 952/2013."""

    SIS_OBJECTS = "2018/1862:38"
    SIS_OBJECTS_ACTION = "2018/1862:39"
    SIS_CUSTOMS_ACCESS = "2018/1862:44(1)(b)"
    EUROPOL_CROSS_CHECKING = "2016/794:18(2)(a)"
    EUROPOL_ACCESS = "2016/794:20"
    EUROPOL_ANNEX_II_A = "2016/794:annex-II.A"
    UCC_RISK = "UCC:46"
    UCC_RISK_ANALYSIS = "2015/2447:186"
    CUSTOMS_SYSTEMS_RISK = "2025/512:46"
    CUSTOMS_SYSTEMS_ICS2 = "2025/512:116"


class Condition(StrEnum):
    """When a named field is disclosed. A field without a condition never is."""

    ALWAYS = "always"
    """A record that lacks it is not disclosed at all."""
    IF_PRESENT = "if_present"
    PROVIDER_CONSENT = "provider_consent"
    """Only as the provider decides: its handling codes leave it open, or it consented to this field."""
    NATIONAL_BASIS = "national_basis"


class MatchRule(StrEnum):
    """How equal tokens of one record become a match."""

    SUFFICIENT_OR_TWO = "sufficient_or_two"
    """One identifier that suffices alone, or two different tokens of the same record."""


class TokenFamily(StrEnum):
    """Which derivations of a token the owner encodes. Families of name keys belong to class ``person``."""

    EXACT = "exact"


class Handling(StrEnum):
    """The handling regime that travels with a disclosure."""

    SIS_PURPOSE_BOUND = "sis_purpose_bound"
    EUROPOL_CODES = "europol_codes"
    CUSTOMS_CONFIDENTIAL = "customs_confidential"


class HandlingCode(StrEnum):
    """Europol's handling codes."""

    H0 = "H0"
    H1 = "H1"
    """Not as evidence without the provider's permission."""
    H2 = "H2"
    """Not disseminated without the provider's permission."""
    H3 = "H3"
    """Other restrictions of the provider."""


class RetentionClass(StrEnum):
    """How long a log entry or a disclosure lives."""

    SIS_3Y = "SIS_3Y"
    PRUM_3Y = "PRUM_3Y"
    EUOP_3Y = "EUOP_3Y"
    LED_NATIONAL = "LED_NATIONAL"
    CUSTOMS_NATIONAL = "CUSTOMS_NATIONAL"
    INTEROP_1Y = "INTEROP_1Y"


# Sources: 2018/1862 Art. 12(4) and 64, Prüm II Art. 40 and 45, 2018/1725 Art. 88(2). Where national law sets the time,
# three years hold until a node says otherwise.
RETENTION_YEARS: Final[Mapping[RetentionClass, int]] = MappingProxyType(
    {kind: 1 if kind is RetentionClass.INTEROP_1Y else 3 for kind in RetentionClass}
)


# Source: Regulation (EU) 2018/1862, Article 38(2), in short words for people.
_SIS_OBJECTS: Final = {
    "a": "motor vehicles",
    "b": "trailers",
    "c": "caravans",
    "d": "industrial equipment",
    "e": "boats",
    "f": "boat engines",
    "g": "containers",
    "h": "aircraft",
    "i": "aircraft engines",
    "j": "firearms",
    "k": "blank official documents",
    "l": "issued identity documents",
    "m": "vehicle registration certificates and number plates",
    "n": "banknotes",
    "o": "information technology",
    "p": "parts of motor vehicles",
    "q": "parts of industrial equipment",
    "r": "other identifiable objects of high value",
}
_ENTITIES: Final = {
    "person": "persons",
    "company": "companies and organisations",
    "vehicle": "vehicles",
    "trailer": "trailers",
    "vessel": "vessels",
    "aircraft": "aircraft",
    "container": "containers",
    "consignment": "consignments",
    "phone": "telephone numbers",
    "email": "email addresses",
    "website": "websites",
    "bank_account": "bank accounts",
    "payment_card": "payment cards",
    "document": "identity documents",
    "firearm": "firearms",
    "currency": "currency",
    "item": "identifiable items",
    "drugs": "drugs",
    "location": "locations",
}
_OF_EIS: Final = (
    "person company vehicle vessel aircraft container phone email website bank_account payment_card document firearm "
    "currency drugs location"
)
_OF_SIENA: Final = f"{_OF_EIS} trailer consignment item"
_OF_AFIS: Final = "person company vehicle trailer vessel aircraft container consignment document item currency"
CATEGORIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ics2.ens": "consignments declared before entry",
        "ics2.placi": "consignments declared before loading",
        "ics2.risk": "results of risk analysis",
        "ics2.hit": "notifications of a risk hit",
        "ics.ens": "consignments declared before entry, first release",
        "ncts.transit": "transit movements",
        "aes.export": "export declarations",
        "csm.event": "container status events",
        "surveillance.declaration": "declarations of goods, after the fact",
        "cise.vessel": "vessels known to maritime authorities",
        "cise.aircraft": "aircraft known to maritime authorities",
        "cise.vehicle": "land vehicles known to maritime authorities",
        "cise.cargo": "cargo known to maritime authorities",
        "cise.containment_unit": "containers and packages known to maritime authorities",
        "cise.person": "persons known to maritime authorities",
        "cise.organisation": "organisations known to maritime authorities",
        "cise.risk": "maritime risks",
        "cise.incident": "maritime incidents",
        "cise.document": "documents known to maritime authorities",
        **{f"sis.38.{point}": f"{words}, sought for seizure or as evidence" for point, words in _SIS_OBJECTS.items()},
        "sis.26": "objects connected with persons wanted for arrest",
        "sis.32": "objects connected with missing or vulnerable persons",
        "sis.34": "objects connected with persons sought for a judicial procedure",
        "sis.36": "objects under discreet, inquiry or specific check",
        "sis.person.26": "persons wanted for arrest",
        "sis.person.32": "missing persons, and persons to be prevented from travelling",
        "sis.person.34": "persons sought to assist with a judicial procedure",
        "sis.person.36": "persons under discreet, inquiry or specific check",
        "sis.person.24": "third-country nationals refused entry and stay",
        "sis.person.25": "third-country nationals under restrictive measures",
        **{f"eis.{kind}": _ENTITIES[kind] for kind in _OF_EIS.split()},
        **{f"siena.{kind}": f"{_ENTITIES[kind]} in police messages" for kind in _OF_SIENA.split()},
        "crms.risk": "risk information forms",
        **{f"afis.{kind}": f"{_ENTITIES[kind]} in anti-fraud cases" for kind in _OF_AFIS.split()},
    }
)
"""Every category that a policy can name, in words for people."""
PERSON_CATEGORIES: Final = frozenset(
    {"eis.person", "siena.person", "afis.person", *(name for name in CATEGORIES if name.startswith("sis.person."))}
)
"""Categories that are disclosed only with a known class of data subject: Regulation (EU) 2016/794, Annex II.A.1;
Regulation (EC) No 515/97, Article 27(2). An alert of SIS has one by its article."""


@dataclass(frozen=True, slots=True)
class PurposeRule:
    """The widest agreement that a purpose can carry; a policy narrows it and never widens it."""

    legal_basis: frozenset[LegalBasis]
    category_prefix: str
    fields: frozenset[Field]


def _fields(names: str) -> frozenset[Field]:
    return frozenset(map(Field, names.split()))


PURPOSES: Final[Mapping[Purpose, PurposeRule]] = MappingProxyType(
    {
        # Reasons, offences and warnings of an alert are not for whoever seizes an object.
        Purpose.OBJECT_SEIZURE: PurposeRule(
            frozenset({LegalBasis.SIS_OBJECTS, LegalBasis.SIS_OBJECTS_ACTION, LegalBasis.SIS_CUSTOMS_ACCESS}),
            "sis.38.",
            _fields("object_type object_identifiers action schengen_id issuing_state sirene_contact"),
        ),
        Purpose.CROSS_CHECKING: PurposeRule(
            frozenset({LegalBasis.EUROPOL_CROSS_CHECKING, LegalBasis.EUROPOL_ACCESS, LegalBasis.EUROPOL_ANNEX_II_A}),
            "eis.",
            _fields(
                "object_type subject_class names birth nationality residence documents means_used case_references "
                "convictions provider handling_codes evaluation_code"
            ),
        ),
        Purpose.CUSTOMS_RISK: PurposeRule(
            frozenset({LegalBasis.UCC_RISK, LegalBasis.UCC_RISK_ANALYSIS})
            | {LegalBasis.CUSTOMS_SYSTEMS_RISK, LegalBasis.CUSTOMS_SYSTEMS_ICS2},
            "ics2.",
            _fields("mrn risk_result control_recommendation control_result"),
        ),
    }
)

_SPECIAL_CATEGORY: Final = (
    "special categories of data are never matched or disclosed (2016/680 Art. 10, 2016/794 Art. 30(2))"
)
_THIRD_COUNTRY: Final = "SIS data never goes to a third country or an international organisation (2018/1862 Art. 65)"
_SPECIAL_WORDS: Final = (
    "biometric biometrics dactyloscopic fingerprint fingerprints facial_image photograph dna genetic health "
    "ethnic_origin racial_origin political_opinion religion trade_union sexual_orientation"
)
GLOBAL_REFUSALS: Final[Mapping[str, str]] = MappingProxyType(
    {system.code.lower(): system.reason for system in SYSTEMS.values() if system.refused}
    | dict.fromkeys(["prum_vehicle", "eucaris"], OUTSIDE_MAPPING)
    | dict.fromkeys(["third_country", "third_countries", "interpol", "international_organisation"], _THIRD_COUNTRY)
    | dict.fromkeys(_SPECIAL_WORDS.split(), _SPECIAL_CATEGORY)
)
"""Words that no policy may name, with the reason. What needs no word is refused by shape: an unknown class of data
subject and a change of purpose in ``decide``, a release without a person in ``Confirm``, and a query about a person by
the classes and families that exist."""
