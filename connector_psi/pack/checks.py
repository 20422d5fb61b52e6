"""What is wrong with a pack of policies: what contradicts itself, its purpose, or a law that binds the owner.

Leaves to others: reading (``pack.reading``), deciding (``policy``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from connector_psi.domain.naming.families import FAMILY_TABLE, Corroborator, FamilyGroup
from connector_psi.domain.naming.shipped import load_shipped
from connector_psi.domain.purposes import PURPOSES, Handling, Mode, OwnerNotice, ProfileRole, Status, TokenFamily
from connector_psi.domain.records import IDENTIFIER_TABLE, Field, TokenClass
from connector_psi.domain.systems import system_of_category
from connector_psi.errors import ConfigError
from connector_psi.policy import PolicyPack, Template, beyond_first_edition

# Reason: 2018/1862 Art. 56(3), technical copies live for 48 hours.
SIS_MAX_SET_AGE_H: Final = 48
# Reason: case mode is tight on purpose: 25 padded batches of 8 an officer and day, ten times that a peer.
CASE_PER_OFFICER_DAY: Final = 200
CASE_PER_DAY: Final = 2_000
CASE_GRANT_PEOPLE: Final = 2
CLASS_OF_NAMES: Final[Mapping[FamilyGroup, TokenClass]] = MappingProxyType(
    {
        FamilyGroup.PERSON_NAME: TokenClass.PERSON,
        FamilyGroup.PERSON_BIRTH: TokenClass.PERSON,
        FamilyGroup.COMPANY_NAME: TokenClass.ORGANISATION,
    }
)
"""Class that a group of families puts into an agreement; a place goes with the names of either."""
CORROBORATED_BY: Final[Mapping[Corroborator, frozenset[FamilyGroup]]] = MappingProxyType(
    {
        each: frozenset(rule.group for rule in FAMILY_TABLE.values() if rule.corroborates is each)
        for each in Corroborator
        if each is not Corroborator.IDENTIFIER
    }
)
"""Groups that can show that something agrees; an identifier always can."""
BY_CHANCE: Final = frozenset({Corroborator.COUNTRY, Corroborator.BIRTH_YEAR})
# Reason: SIRENE manual, Commission Implementing Decision (EU) 2017/1528: a request is answered within 12 hours.
SIRENE_ANSWER_H: Final = 12


class Severity(StrEnum):
    """Whether a pack with this finding may be loaded."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a pack that a person must see."""

    severity: Severity
    source: str
    agreement: str
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.source}: {self.agreement}.{self.key}: {self.severity}: {self.text}"


def _findings(template: Template) -> Iterator[tuple[str, str]]:
    """The errors of one template: key and text."""
    rule = PURPOSES[template.purpose]
    if not set(template.legal_basis) <= rule.legal_basis:
        yield "legal_basis", "does not carry this purpose"
    if rule.own_node:
        yield "purpose", "concerns the own node alone: it belongs under own_node"
        return
    sides = (
        ("categories", template.categories, rule.covers),
        ("querier_categories", template.querier_categories, rule.asks_with),
    )
    for key, categories, prefixes in sides:
        if not all(category.startswith(prefixes) for category in categories):
            yield key, f"this purpose covers {', '.join(f'{prefix}*' for prefix in prefixes)} alone"
        if template.mode is Mode.BULK:
            for system in {system_of_category(category) for category in categories}:
                if system is not None and not system.real_time:
                    yield key, f"{system.code} takes no part in an agreement in real time: {system.reason}"
    if beyond := sorted(template.disclose.keys() - rule.fields):
        yield "disclose", f"{', '.join(beyond)}: never disclosed for this purpose"
    if not template.disclose and template.status is not Status.BLOCKED:
        yield "disclose", "nothing can be disclosed"
    if not set(template.category_at_match) <= set(template.categories):
        yield "category_at_match", "not among the categories"
    yield from _of_names(template)
    yield from beyond_first_edition(template)
    typed = {IDENTIFIER_TABLE[kind].token_class for kind in template.identifier_types}
    named = {CLASS_OF_NAMES[group] for group in template.name_groups if group in CLASS_OF_NAMES}
    if typed | named != set(template.classes):
        yield "classes", "every class needs a type or a family of names, and every type and family its class"
    if template.capacity.keys() != set(template.classes):
        yield "capacity", "every class needs a capacity, and no other"
    for token_class, capacity in template.capacity.items():
        officer = capacity.per_officer_day
        if not (officer or 0) <= capacity.per_day <= capacity.per_year:
            yield f"capacity.{token_class.label}", "an officer's day, a day and a year do not contain one another"
        if template.mode is Mode.CASE and (
            officer is None or officer > CASE_PER_OFFICER_DAY or capacity.per_day > CASE_PER_DAY
        ):
            yield (
                f"capacity.{token_class.label}",
                f"at most {CASE_PER_OFFICER_DAY} an officer and {CASE_PER_DAY} a day in case mode",
            )
    if template.witnesses == 0:
        yield "witnesses", "at least one; synthetic nodes need none and are given none"
    if template.valid_from > template.valid_until:
        yield "valid_until", "before valid_from"
    silent = template.owner_notice is OwnerNotice.NONE
    if silent and template.confirm.owner_people:
        yield "confirm.owner_people", "nobody at the owner may be asked where nobody may know"
    if silent and template.mode is Mode.CASE:
        yield "mode", "people at the owner grant access in case mode, and here nobody may know"
    if silent is not (template.cases_per_slot is not None):
        yield "cases_per_slot", "how many cases leave a slot is fixed where the owner gets no notice, and only there"
    if (template.mode is Mode.CASE) is not (template.grant is not None):
        yield "grant", "people at the owner grant access in case mode, and only there"
    if template.grant is not None and template.grant.people < CASE_GRANT_PEOPLE:
        yield "grant.people", f"at least {CASE_GRANT_PEOPLE} people grant access"
    if template.answer_within_h > SIRENE_ANSWER_H and any(
        c.startswith("sis.") for c in (*template.categories, *template.querier_categories)
    ):
        yield "answer_within_h", f"a SIRENE bureau is answered within {SIRENE_ANSWER_H} hours"
    if ProfileRole.NSIS in template.owner:
        if template.max_set_age_h > SIS_MAX_SET_AGE_H:
            yield "max_set_age_h", f"a set from SIS lives {SIS_MAX_SET_AGE_H} hours (2018/1862 Art. 56(3))"
        if ProfileRole.EUROPOL in template.querier and template.status is not Status.BLOCKED:
            yield "querier", "no copy of SIS may go to Europol (2018/1862 Art. 48(5))"
    if ProfileRole.EUROPOL in template.owner and (
        template.handling is not Handling.EUROPOL_CODES
        or not {Field.HANDLING_CODES, Field.EVALUATION_CODE} <= template.disclose.keys()
    ):
        yield "handling", "Europol's handling and evaluation codes go with every disclosure"


def _of_names(template: Template) -> Iterator[tuple[str, str]]:
    """The errors of one template in what it says about names: key and text."""
    groups, terms = template.name_groups, template.names
    if TokenFamily.EXACT not in template.families:
        yield "families", "identifiers are matched as they are: exact is always among them"
    if beyond := sorted(groups - PURPOSES[template.purpose].names):
        yield "families", f"{', '.join(beyond)}: never asked with for this purpose"
    if FamilyGroup.PERSON_BIRTH in groups and FamilyGroup.PERSON_NAME not in groups:
        yield "families", "person_birth goes with person_name"
    if groups and not groups & CLASS_OF_NAMES.keys():
        yield "families", "name_place and name_contact go with person_name or company_name"
    if bool(groups) is not (terms is not None):
        yield "names", "what makes a name a match is said where families has names, and only there"
    if terms is None:
        return
    try:
        load_shipped(terms.weights)
    except ConfigError:
        yield "names.weights", "a version of weights that this program does not bring"
    enough = {*terms.possible_with, *terms.strong_with}
    if not enough:
        yield "names", "a name alone is never a match: something must agree besides"
    elif groups and not any(CORROBORATED_BY.get(each, groups) & groups for each in enough):
        yield "names", "nothing of what must agree besides a name can, by these families"
    if template.mode is Mode.BULK and (by_chance := sorted(BY_CHANCE & {*terms.possible_with})):
        # Reason: where a system asks about everybody, these agree for one in a few by chance.
        yield (
            "names.possible_with",
            f"{', '.join(by_chance)}: in bulk mode only besides a name that is strongly the same",
        )


def check_pack(pack: PolicyPack, others: Iterable[PolicyPack] = ()) -> list[Finding]:
    """Find what makes a pack invalid, incomplete or contradictory.

    Args:
        pack: From ``parse_policy``.
        others: Packs of other sides; a template of one code must have one meaning everywhere.

    Returns:
        Findings in the order of the templates; a pack without an error can be loaded.
    """
    found: list[Finding] = []
    elsewhere = [(other.source, template) for other in others for template in other.templates]
    for index, template in enumerate(pack.templates):

        def add(severity: Severity, key: str, text: str, code: str = template.code) -> None:
            found.append(Finding(severity, pack.source, code, key, text))

        for key, text in _findings(template):
            add(Severity.ERROR, key, text)
        if template.status is Status.PILOT and not template.requires.complete:
            add(Severity.WARNING, "requires", "not filled in: runs between synthetic nodes only")
        for earlier in pack.templates[:index]:
            if (
                earlier.purpose == template.purpose
                and set(earlier.querier) & set(template.querier)
                and set(earlier.owner) & set(template.owner)
                and set(earlier.categories) & set(template.categories)
                and earlier.disclose != template.disclose
            ):
                add(
                    Severity.ERROR,
                    "disclose",
                    f"conflicts with {earlier.code}: one purpose, other fields of one category",
                )
        for source, other in elsewhere:
            if other.code == template.code and other != template:
                add(Severity.ERROR, "code", f"has another meaning in {source}")
    for own in pack.own:
        rule = PURPOSES[own.purpose]
        if not rule.own_node:
            found.append(Finding(Severity.ERROR, pack.source, own.code, "purpose", "needs another authority"))
        elif not set(own.legal_basis) <= rule.legal_basis:
            found.append(Finding(Severity.ERROR, pack.source, own.code, "legal_basis", "does not carry this purpose"))
    return found
