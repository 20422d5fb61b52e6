"""The closed vocabulary of policies: purposes, legal bases, categories, conditions, and what no policy may name.

Decides: every word that an agreement can use, and the widest agreement that a purpose can carry (``PURPOSES``). The law
changes this file; the engine that reads it (``policy``) stays. Leaves to others: what is agreed and what is disclosed
(``policy``), the fields themselves (``domain.records``). Data only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from connector_psi.domain.naming.families import FamilyGroup
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
    ANTI_FRAUD = "anti_fraud"
    """Keeps the Anti-Fraud Information System and the Customs Risk Management System for its authority."""


class OwnRole(StrEnum):
    """Who acts on the own node alone; the roles of certificates that may."""

    DPO = "dpo"
    AUDITOR = "auditor"
    SUPERVISOR = "supervisor"
    ADMIN = "admin"


class Purpose(StrEnum):
    """Purposes in the style of the W3C Data Privacy Vocabulary, which lacks those of Directive (EU) 2016/680."""

    OBJECT_SEIZURE = "cpsi:ObjectSeizureOrEvidence"
    DISCREET_CHECK = "cpsi:DiscreetInquiryOrSpecificCheck"
    ARREST = "cpsi:ArrestForSurrenderOrExtradition"
    MISSING_PERSONS = "cpsi:MissingOrVulnerablePersons"
    JUDICIAL_PROCEDURE = "cpsi:JudicialProcedure"
    REFUSAL_OF_ENTRY = "cpsi:RefusalOfEntry"
    EUROPOL_SIS = "cpsi:EuropolAccessToSIS"
    CROSS_CHECKING = "cpsi:CrossChecking"
    CUSTOMS_RISK = "cpsi:CustomsRiskManagement"
    CUSTOMS_COOPERATION = "cpsi:CustomsCooperationWithOtherAuthorities"
    CRIMINAL_INVESTIGATION = "cpsi:CriminalInvestigationCase"
    CUSTOMS_FRAUD = "cpsi:CustomsFraudPrevention"
    MARITIME_AWARENESS = "cpsi:MaritimeInformationExchange"
    DATA_SUBJECT_RIGHTS = "cpsi:DataSubjectRights"
    OVERSIGHT = "cpsi:Oversight"
    TESTING = "cpsi:TestingOnSyntheticData"


class LegalBasis(StrEnum):
    """``act:article``; UCC is Regulation (EU) No 952/2013."""

    SIS_ARREST = "2018/1862:26"
    SIS_ARREST_ACTION = "2018/1862:31"
    SIS_MISSING = "2018/1862:32"
    SIS_MISSING_ACTION = "2018/1862:33"
    SIS_JUDICIAL = "2018/1862:34"
    SIS_JUDICIAL_ACTION = "2018/1862:35"
    SIS_DISCREET = "2018/1862:36"
    SIS_DISCREET_ACTION = "2018/1862:37"
    SIS_OBJECTS = "2018/1862:38"
    SIS_OBJECTS_ACTION = "2018/1862:39"
    SIS_CUSTOMS_ACCESS = "2018/1862:44(1)(b)"
    SIS_EUROPOL_ACCESS = "2018/1862:48"
    SIS_DATA_SUBJECTS = "2018/1862:67"
    SIS_SUPERVISION = "2018/1862:69"
    SIS_REFUSAL_OF_ENTRY = "2018/1861:24"
    EUROPOL_CROSS_CHECKING = "2016/794:18(2)(a)"
    EUROPOL_ACCESS = "2016/794:20"
    EUROPOL_ANNEX_II_A = "2016/794:annex-II.A"
    LED_ACCESS = "2016/680:14"
    LED_LOGGING = "2016/680:25"
    LED_SUPERVISION = "2016/680:47"
    GDPR_ACCESS = "2016/679:15"
    GDPR_SECURITY = "2016/679:32"
    CIS_OBJECTIVE = "515/97:23"
    CIS_ACTIONS = "515/97:27"
    COAST_GUARD_COOPERATION = "2019/1896:69"
    UCC_COMMUNICATION = "UCC:12"
    UCC_RISK = "UCC:46"
    UCC_COOPERATION = "UCC:47(2)"
    UCC_RISK_ANALYSIS = "2015/2447:186"
    CUSTOMS_SYSTEMS_RISK = "2025/512:46"
    CUSTOMS_SYSTEMS_ICS2 = "2025/512:116"
    CASE_BY_CASE = "ICS2:case-by-case"
    """"Duly justified case-by-case" access of law enforcement; national law carries it, so the agreement is a pilot."""


class Condition(StrEnum):
    """When a named field is disclosed. A field without a condition never is."""

    ALWAYS = "always"
    """A record that lacks it is not disclosed at all."""
    IF_PRESENT = "if_present"
    PROVIDER_CONSENT = "provider_consent"
    """Only as the provider decides: its handling codes leave it open, or it consented to this field."""
    NATIONAL_BASIS = "national_basis"
    """Only where the policy names the national law that allows it."""


class MatchRule(StrEnum):
    """How equal tokens of one record become a match."""

    SUFFICIENT_OR_TWO = "sufficient_or_two"
    """One identifier that suffices alone, or two different tokens of the same record."""
    SUFFICIENT_ALONE = "sufficient_alone"
    """One identifier that suffices alone; several weak ones stay weak."""


class TokenFamily(StrEnum):
    """Which derivations of a token the owner encodes: identifiers as they are, and groups of families of name keys."""

    EXACT = "exact"
    PERSON_NAME = FamilyGroup.PERSON_NAME.value
    PERSON_BIRTH = FamilyGroup.PERSON_BIRTH.value
    COMPANY_NAME = FamilyGroup.COMPANY_NAME.value
    NAME_PLACE = FamilyGroup.NAME_PLACE.value
    NAME_CONTACT = FamilyGroup.NAME_CONTACT.value


class Handling(StrEnum):
    """The handling regime that travels with a disclosure."""

    SIS_PURPOSE_BOUND = "sis_purpose_bound"
    EUROPOL_CODES = "europol_codes"
    CUSTOMS_CONFIDENTIAL = "customs_confidential"
    LAW_ENFORCEMENT_RESTRICTED = "law_enforcement_restricted"
    ANTI_FRAUD_RESTRICTED = "anti_fraud_restricted"
    MARITIME_SHARED = "maritime_shared"


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

_CUSTOMS: Final = ("ics2.", "ics.", "ncts.", "aes.", "csm.", "surveillance.")
HELD_BY: Final[Mapping[ProfileRole, tuple[str, ...]]] = MappingProxyType(
    {
        ProfileRole.CUSTOMS: _CUSTOMS,
        ProfileRole.NSIS: ("sis.",),
        ProfileRole.EUROPOL: ("eis.", "siena."),
        ProfileRole.NATIONAL_UNIT: ("siena.",),
        ProfileRole.POLICE: ("siena.",),
        ProfileRole.BORDER_GUARD: ("siena.", "cise."),
        ProfileRole.COAST_GUARD: ("siena.", "cise."),
        ProfileRole.ANTI_FRAUD: ("afis.", "crms."),
    }
)
"""Role -> prefixes of the categories that an authority of it has records of, and so can ask with.

An agreement names the categories of all the roles that may have it; each authority has those of its own role alone."""

_WITH: Final = frozenset({FamilyGroup.NAME_PLACE, FamilyGroup.NAME_CONTACT})
_ANY_NAME: Final = _WITH | {FamilyGroup.PERSON_NAME, FamilyGroup.COMPANY_NAME}
_ANY_PERSON: Final = _WITH | {FamilyGroup.PERSON_NAME, FamilyGroup.PERSON_BIRTH}
_ANY_COMPANY: Final = _WITH | {FamilyGroup.COMPANY_NAME}
_YIELDS: Final[Mapping[str, frozenset[FamilyGroup]]] = MappingProxyType(
    {
        # Parties of declarations: names and addresses; no message has a date of birth.
        **dict.fromkeys(("ics2.", "ics.", "ncts.", "aes."), _ANY_NAME),
        # Alerts have no contacts.
        "sis.person.": _ANY_PERSON - {FamilyGroup.NAME_CONTACT},
        **dict.fromkeys(("eis.person", "siena.person", "afis.person", "cise.person"), _ANY_PERSON),
        **dict.fromkeys(("eis.company", "siena.company", "afis.company", "cise.organisation"), _ANY_COMPANY),
        # Maritime reports name masters, crews and owners beside the ship.
        **dict.fromkeys(("cise.vessel", "cise.incident", "cise.risk"), _ANY_PERSON | _ANY_COMPANY),
    }
)
"""Prefix of a category -> what its records can yield besides identifiers; of all others nothing."""


def name_groups(role: ProfileRole, categories: Iterable[str]) -> frozenset[FamilyGroup]:
    """Return the groups of name families that an authority can ask with, whatever its records say.

    A group that is not among them is not published to it: everything published can be asked for.

    Args:
        role: Of the authority that asks.
        categories: That an agreement lets it ask with.
    """
    own = [category for category in categories if category.startswith(HELD_BY[role])]
    return frozenset().union(
        *(groups for prefix, groups in _YIELDS.items() if any(category.startswith(prefix) for category in own))
    )


@dataclass(frozen=True, slots=True)
class PurposeRule:
    """The widest agreement that a purpose can carry; a policy narrows it and never widens it."""

    legal_basis: frozenset[LegalBasis]
    asks_with: tuple[str, ...] = ()
    """Prefixes of the categories that the querier may ask with; none where a purpose concerns the own node alone."""
    covers: tuple[str, ...] = ()
    """Prefixes of the categories that the owner may publish and disclose."""
    fields: frozenset[Field] = frozenset()
    names: frozenset[FamilyGroup] = frozenset()
    """Families of name keys that may be asked with; of most purposes none."""

    @property
    def own_node(self) -> bool:
        """Whether nobody is on the other side."""
        return not self.covers


def _fields(names: str) -> frozenset[Field]:
    return frozenset(map(Field, names.split()))


_DECLARED: Final = ("ics2.ens", "ics2.placi", "ics.", "ncts.", "aes.", "csm.", "surveillance.")
"""What customs asks with: what was declared to it, not what it concluded."""
_POLICE: Final = ("siena.", "cise.")
# Whoever looks for a person or an object learns where it is to arrive, not who else has to do with it.
_ARRIVAL: Final = _fields("mrn means route eta place")


# Alerts under these articles are about persons, who are found by what Article 20(3) lets an alert hold of them.
_PERSONS: Final = frozenset({FamilyGroup.PERSON_NAME, FamilyGroup.PERSON_BIRTH, FamilyGroup.NAME_PLACE})


def _sis(article: str, *bases: LegalBasis) -> PurposeRule:
    """The rule of an alert about which JHA learns first: the N.SIS asks customs."""
    return PurposeRule(frozenset(bases), (f"sis.{article}", f"sis.person.{article}"), _DECLARED, _ARRIVAL, _PERSONS)


PURPOSES: Final[Mapping[Purpose, PurposeRule]] = MappingProxyType(
    {
        # Reasons, offences and warnings of an alert are not for whoever seizes an object.
        Purpose.OBJECT_SEIZURE: PurposeRule(
            frozenset({LegalBasis.SIS_OBJECTS, LegalBasis.SIS_OBJECTS_ACTION, LegalBasis.SIS_CUSTOMS_ACCESS}),
            _DECLARED,
            ("sis.38.",),
            _fields("object_type object_identifiers action schengen_id issuing_state sirene_contact"),
        ),
        Purpose.DISCREET_CHECK: _sis("36", LegalBasis.SIS_DISCREET, LegalBasis.SIS_DISCREET_ACTION),
        Purpose.ARREST: _sis("26", LegalBasis.SIS_ARREST, LegalBasis.SIS_ARREST_ACTION),
        Purpose.MISSING_PERSONS: _sis("32", LegalBasis.SIS_MISSING, LegalBasis.SIS_MISSING_ACTION),
        Purpose.JUDICIAL_PROCEDURE: _sis("34", LegalBasis.SIS_JUDICIAL, LegalBasis.SIS_JUDICIAL_ACTION),
        Purpose.REFUSAL_OF_ENTRY: PurposeRule(
            frozenset({LegalBasis.SIS_REFUSAL_OF_ENTRY}), ("sis.person.24",), _DECLARED
        ),
        Purpose.EUROPOL_SIS: PurposeRule(frozenset({LegalBasis.SIS_EUROPOL_ACCESS}), ("eis.", "siena."), ("sis.",)),
        Purpose.CROSS_CHECKING: PurposeRule(
            frozenset({LegalBasis.EUROPOL_CROSS_CHECKING, LegalBasis.EUROPOL_ACCESS, LegalBasis.EUROPOL_ANNEX_II_A}),
            (*_DECLARED, "siena."),
            ("eis.",),
            _fields(
                "object_type subject_class names birth nationality residence documents means_used case_references "
                "convictions provider handling_codes evaluation_code"
            ),
            frozenset(FamilyGroup),
        ),
        Purpose.CUSTOMS_RISK: PurposeRule(
            frozenset({LegalBasis.UCC_RISK, LegalBasis.UCC_RISK_ANALYSIS})
            | {LegalBasis.CUSTOMS_SYSTEMS_RISK, LegalBasis.CUSTOMS_SYSTEMS_ICS2},
            _DECLARED,
            ("ics2.",),
            _fields("mrn risk_result control_recommendation control_result"),
        ),
        Purpose.CUSTOMS_COOPERATION: PurposeRule(
            frozenset({LegalBasis.UCC_COOPERATION, LegalBasis.UCC_COMMUNICATION}),
            _POLICE,
            _DECLARED,
            _fields("mrn goods_identifiers means route eta hs6 party_names"),
        ),
        Purpose.CRIMINAL_INVESTIGATION: PurposeRule(
            frozenset({LegalBasis.CASE_BY_CASE}),
            ("siena.",),
            _DECLARED,
            _fields(
                "mrn party_names party_addresses party_contacts goods_description goods_identifiers hs6 means route"
            ),
            frozenset(FamilyGroup),
        ),
        Purpose.CUSTOMS_FRAUD: PurposeRule(
            frozenset({LegalBasis.CIS_OBJECTIVE, LegalBasis.CIS_ACTIONS, LegalBasis.UCC_COOPERATION}),
            _DECLARED,
            ("afis.", "crms."),
            _fields("reference risk_information contact subject_class"),
            frozenset(FamilyGroup),
        ),
        Purpose.MARITIME_AWARENESS: PurposeRule(
            frozenset({LegalBasis.UCC_COOPERATION, LegalBasis.COAST_GUARD_COOPERATION}),
            _DECLARED,
            ("cise.",),
            _fields("object_type object_identifiers reference risk_information place route eta"),
        ),
        Purpose.DATA_SUBJECT_RIGHTS: PurposeRule(
            frozenset({LegalBasis.SIS_DATA_SUBJECTS, LegalBasis.LED_ACCESS, LegalBasis.GDPR_ACCESS})
        ),
        Purpose.OVERSIGHT: PurposeRule(
            frozenset({LegalBasis.SIS_SUPERVISION, LegalBasis.LED_LOGGING, LegalBasis.LED_SUPERVISION})
        ),
        Purpose.TESTING: PurposeRule(frozenset({LegalBasis.GDPR_SECURITY})),
    }
)

IMPORTANCE: Final[tuple[Purpose, ...]] = (
    # People first: whoever is sought, missing or in danger.
    Purpose.ARREST,
    Purpose.MISSING_PERSONS,
    Purpose.JUDICIAL_PROCEDURE,
    Purpose.DISCREET_CHECK,
    Purpose.REFUSAL_OF_ENTRY,
    # Then what is to be seized when it arrives, and crimes that are looked into.
    Purpose.OBJECT_SEIZURE,
    Purpose.CRIMINAL_INVESTIGATION,
    Purpose.CROSS_CHECKING,
    Purpose.EUROPOL_SIS,
    # Then money and goods, and what serves to be aware of things.
    Purpose.CUSTOMS_FRAUD,
    Purpose.CUSTOMS_COOPERATION,
    Purpose.CUSTOMS_RISK,
    Purpose.MARITIME_AWARENESS,
)
"""Which matches people are shown first where their tickets end at one time. No law says so; it decides about nothing
but an order on a screen."""


def importance(purpose: Purpose) -> int:
    """Return the place of a purpose in ``IMPORTANCE``; those of the own node alone come after all others."""
    return IMPORTANCE.index(purpose) if purpose in IMPORTANCE else len(IMPORTANCE)


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
