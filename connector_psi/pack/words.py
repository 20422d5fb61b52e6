"""The vocabulary of policies in words, for lawyers, data protection officers and whoever approves a case.

Decides: how a purpose, legal basis, role, field, condition and status read to people. Leaves to others: what they mean
(``domain.purposes``, ``policy``). Data and plain functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from connector_psi.domain.naming.families import Corroborator
from connector_psi.domain.naming.judging import Band
from connector_psi.domain.purposes import (
    CATEGORIES,
    RETENTION_YEARS,
    Condition,
    Handling,
    LegalBasis,
    MatchRule,
    OwnRole,
    ProfileRole,
    Purpose,
    RetentionClass,
    Status,
    TokenFamily,
)
from connector_psi.domain.records import Field
from connector_psi.policy import EDITION, FieldReason, Names, Reason

EDITION_WORDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "those of version 0.1.0, which do not bind the other side to what it may ask with",
        EDITION: "those of this version",
    }
)

PURPOSE_WORDS: Final[Mapping[Purpose, str]] = MappingProxyType(
    {
        Purpose.OBJECT_SEIZURE: "seizing objects that are sought, or using them as evidence",
        Purpose.DISCREET_CHECK: "discreet, inquiry or specific checks",
        Purpose.ARREST: "arrest for surrender or extradition",
        Purpose.MISSING_PERSONS: "finding missing or vulnerable persons",
        Purpose.JUDICIAL_PROCEDURE: "finding persons sought for a judicial procedure",
        Purpose.REFUSAL_OF_ENTRY: "refusal of entry",
        Purpose.EUROPOL_SIS: "Europol's access to SIS",
        Purpose.CROSS_CHECKING: "cross-checking against Europol's data",
        Purpose.CUSTOMS_RISK: "risk management between customs authorities",
        Purpose.CUSTOMS_COOPERATION: "cooperation of customs with other authorities",
        Purpose.CRIMINAL_INVESTIGATION: "one criminal investigation",
        Purpose.CUSTOMS_FRAUD: "prevention of customs fraud",
        Purpose.MARITIME_AWARENESS: "exchange of information at sea",
        Purpose.DATA_SUBJECT_RIGHTS: "rights of data subjects",
        Purpose.OVERSIGHT: "oversight",
        Purpose.TESTING: "tests on synthetic data",
    }
)
ROLE_WORDS: Final[Mapping[ProfileRole | OwnRole, str]] = MappingProxyType(
    {
        ProfileRole.CUSTOMS: "customs",
        ProfileRole.NSIS: "the national SIS office",
        ProfileRole.EUROPOL: "Europol",
        ProfileRole.NATIONAL_UNIT: "the Europol national unit",
        ProfileRole.POLICE: "the police",
        ProfileRole.BORDER_GUARD: "the border guard",
        ProfileRole.COAST_GUARD: "the coast guard",
        ProfileRole.ANTI_FRAUD: "the anti-fraud office",
        OwnRole.DPO: "data protection officer",
        OwnRole.AUDITOR: "auditor",
        OwnRole.SUPERVISOR: "supervisor",
        OwnRole.ADMIN: "administrator",
    }
)
CONDITION_WORDS: Final[Mapping[Condition, str]] = MappingProxyType(
    {
        Condition.ALWAYS: "always; a record without it is not disclosed at all",
        Condition.IF_PRESENT: "if the record has it",
        Condition.PROVIDER_CONSENT: "only as the provider of the data decides",
        Condition.NATIONAL_BASIS: "only where the policy names a national law",
    }
)
MATCH_RULE_WORDS: Final[Mapping[MatchRule, str]] = MappingProxyType(
    {
        MatchRule.SUFFICIENT_OR_TWO: "one identifier that suffices alone, or two others of one record",
        MatchRule.SUFFICIENT_ALONE: "one identifier that suffices alone",
    }
)
FAMILY_WORDS: Final[Mapping[TokenFamily, str]] = MappingProxyType(
    {
        TokenFamily.EXACT: "identifiers as they are",
        TokenFamily.PERSON_NAME: "names of persons",
        TokenFamily.PERSON_BIRTH: "names of persons with a date of birth",
        TokenFamily.COMPANY_NAME: "names of companies",
        TokenFamily.NAME_PLACE: "names with a country, a city or a postcode",
        TokenFamily.NAME_CONTACT: "names with a telephone number or the domain of an e-mail address",
    }
)
CORROBORATOR_WORDS: Final[Mapping[Corroborator, str]] = MappingProxyType(
    {
        Corroborator.BIRTH_DATE: "date of birth",
        Corroborator.BIRTH_YEAR: "year of birth",
        Corroborator.COUNTRY: "country",
        Corroborator.CITY: "city",
        Corroborator.POSTCODE: "postcode",
        Corroborator.PHONE: "telephone number",
        Corroborator.EMAIL_DOMAIN: "domain of the e-mail address",
        Corroborator.IDENTIFIER: "identifier of the same record",
    }
)
BAND_WORDS: Final[Mapping[Band, str]] = MappingProxyType(
    {
        Band.NOT_SHOWN: "not the same",
        Band.WEAK: "a weak resemblance",
        Band.POSSIBLE: "possibly the same name",
        Band.STRONG: "very probably the same name",
    }
)
HANDLING_WORDS: Final[Mapping[Handling, str]] = MappingProxyType(
    {
        Handling.SIS_PURPOSE_BOUND: "bound to the purpose of the alert",
        Handling.EUROPOL_CODES: "under Europol's handling and evaluation codes",
        Handling.CUSTOMS_CONFIDENTIAL: "confidential among customs",
        Handling.LAW_ENFORCEMENT_RESTRICTED: "restricted to law enforcement",
        Handling.ANTI_FRAUD_RESTRICTED: "restricted to fighting fraud",
        Handling.MARITIME_SHARED: "shared among maritime authorities",
    }
)
RULE_WORDS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.BLOCKED: "the agreement is not blocked",
        Reason.SYNTHETIC_MISMATCH: "agreement and node are both for synthetic data, or both for real data",
        Reason.REQUIREMENTS_MISSING: "no pilot on real data without legal reference, impact assessment and arrangement",
        Reason.WITNESS_MISSING: "no real data without a witness of the log",
        Reason.NOT_IN_FORCE: "the agreement is in force on that day",
        Reason.PURPOSE_NOT_AGREED: "the purpose stated is that of the agreement",
        Reason.LEGAL_BASIS_NOT_AGREED: "the legal basis stated is one of the agreement",
        Reason.RECORD_UNAVAILABLE: "the record is there, matches, and may leave at all",
        Reason.CATEGORY_NOT_COVERED: "the record is of a category of the agreement",
        Reason.CASE_REFERENCE_MISSING: "the case has a reference",
        Reason.JUSTIFICATION_MISSING: "the case has a justification",
        Reason.SUBJECT_CLASS_UNKNOWN: "of a person, the class of data subject is known",
        Reason.REQUIRED_FIELD_ABSENT: "the record has every field that is always disclosed",
        Reason.NOTHING_TO_DISCLOSE: "there is a field to disclose",
        Reason.CONFIRMATION_MISSING: "enough different people of the querier confirmed the match",
        Reason.APPROVAL_MISSING: "enough different people of the owner, none of whom confirmed it, approved the case",
    }
)
"""What each rule asks for, by the reason that it refuses with."""
FIELD_REASON_WORDS: Final[Mapping[FieldReason, str]] = MappingProxyType(
    {
        FieldReason.DISCLOSED: "named by the agreement, and its condition holds",
        FieldReason.NOT_NAMED: "not named by the agreement, so it never leaves",
        FieldReason.ABSENT: "named by the agreement; the record does not have it",
        FieldReason.PROVIDER_WITHHOLDS: "the provider's handling codes do not leave it open, and it gave no consent",
        FieldReason.NATIONAL_BASIS_MISSING: "the policy names no national law that allows it",
    }
)
_ACTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "2018/1861": "Regulation (EU) 2018/1861 (SIS, border checks)",
        "2018/1862": "Regulation (EU) 2018/1862 (SIS, police and judicial cooperation)",
        "2016/794": "Regulation (EU) 2016/794 (Europol)",
        "2016/680": "Directive (EU) 2016/680 (law enforcement)",
        "2016/679": "Regulation (EU) 2016/679 (general data protection)",
        "515/97": "Regulation (EC) No 515/97 (mutual assistance of customs)",
        "2019/1896": "Regulation (EU) 2019/1896 (European Border and Coast Guard)",
        "UCC": "Regulation (EU) No 952/2013 (Union Customs Code)",
        "2015/2447": "Implementing Regulation (EU) 2015/2447 (Union Customs Code)",
        "2025/512": "Implementing Regulation (EU) 2025/512 (customs systems)",
    }
)
_CASE_BY_CASE: Final = 'access to ICS2 that is "duly justified case-by-case", for national law to carry'
_ABBREVIATIONS: Final = frozenset({"mrn", "eta", "hs6"})


def basis_words(bases: Iterable[LegalBasis]) -> str:
    """Return legal bases as they are cited, each act once: ``Regulation (EU) 2018/1862 (SIS), Articles 38, 39``."""
    articles: dict[str, list[str]] = {}
    rest = []
    for basis in bases:
        act, _, article = basis.value.partition(":")
        if basis is LegalBasis.CASE_BY_CASE:
            rest.append(_CASE_BY_CASE)
        else:
            articles.setdefault(act, []).append(article)
    return "; ".join([*(f"{_ACTS[act]}, {_articles(found)}" for act, found in articles.items()), *rest])


def _articles(articles: list[str]) -> str:
    numbered = [article for article in articles if article[0].isdigit()]
    annexes = [f"Annex {article.removeprefix('annex-')}" for article in articles if not article[0].isdigit()]
    cited = [f"Article{'s' if len(numbered) > 1 else ''} {', '.join(numbered)}"] if numbered else []
    return ", ".join([*cited, *annexes])


def roles_words(roles: Iterable[ProfileRole | OwnRole]) -> str:
    """Return roles in words, joined by "or"."""
    return " or ".join(ROLE_WORDS[role] for role in roles)


def field_words(name: Field) -> str:
    """Return a field in words."""
    return " ".join(word.upper() if word in _ABBREVIATIONS else word for word in name.value.split("_"))


def names_words(families: Iterable[TokenFamily], names: Names | None) -> str:
    """Return how names are matched under an agreement: ``no names``, or which, and what must agree besides them."""
    if names is None:
        return "no names"
    told = "; ".join(FAMILY_WORDS[each] for each in families if each is not TokenFamily.EXACT)
    rules = [
        f"{BAND_WORDS[band]}, and its {alternatives(CORROBORATOR_WORDS[each] for each in besides)} agrees"
        for band, besides in (
            (Band.POSSIBLE, names.possible_with),
            (Band.STRONG, [each for each in names.strong_with if each not in names.possible_with]),
        )
        if besides
    ]
    return (
        f"{told}. A match is: {', or '.join(rules)}. A name alone is counted and never shown (weights {names.weights})"
    )


def alternatives(items: Iterable[str]) -> str:
    """Return words joined by commas and ``or``."""
    *first, last = items
    return f"{', '.join(first)} or {last}" if first else last


def category_words(category: str) -> str:
    """Return a category with what it is, e.g. ``sis.38.e (boats, sought for seizure or as evidence)``."""
    return f"{category} ({CATEGORIES[category]})"


def status_words(status: Status, complete: bool) -> str:
    """Return what a status means for an agreement.

    Args:
        status: Of the agreement.
        complete: Whether every reference that a pilot needs is named.
    """
    if status is Status.BLOCKED:
        return "blocked: never runs, with whatever data"
    if status is Status.PILOT and not complete:
        return "pilot: synthetic data only, until legal reference, impact assessment and arrangement are named"
    return "pilot: the references that real data needs are named" if status is Status.PILOT else "enabled"


def retention_words(kind: RetentionClass) -> str:
    """Return how long a retention class keeps something, e.g. ``3 years (SIS_3Y)``."""
    return f"{counted(RETENTION_YEARS[kind], 'year')} ({kind.value})"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, e.g. ``1 person`` or ``2 people``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
