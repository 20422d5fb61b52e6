"""Who may ask whom, for what, and what may be disclosed: agreements in a closed vocabulary, denied by default.

Rules, in this order:

1. Every word of a policy comes from ``domain.purposes`` or ``domain.records``, so that what is not named there cannot
   be agreed.
2. A template joins two authorities as an ``Agreement`` (``instantiate``), known by the hash of its RFC 8785 form.
3. An agreement runs only through its gates (``check_runnable``), finds only what ``judge`` calls a match, and discloses
   only what ``decide`` returns.
4. What concerns this node alone, such as the rights of data subjects, is an ``OwnPurpose`` of the pack.

Leaves to others: reading, checking, signing and explaining a pack (``pack``), matching, where records come from, when
an outcome is served (``disclosure``), counting capacity (``storage``). Free of I/O.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, NotRequired, Self, TypedDict, TypeVar, Unpack

import rfc8785
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)
from pydantic import Field as Constraint

from connector_psi.domain.identifiers import FIRST_NORMALISATION_VERSION, FIRST_TYPES, NORMALISATION_VERSION
from connector_psi.domain.naming import judging
from connector_psi.domain.naming.families import FAMILY_TABLE, Corroborator, FamilyGroup
from connector_psi.domain.naming.judging import Band, NameVerdict, Weights
from connector_psi.domain.naming.keys import HeldKey
from connector_psi.domain.purposes import (
    CATEGORIES,
    PERSON_CATEGORIES,
    Condition,
    Handling,
    HandlingCode,
    LegalBasis,
    MatchRule,
    Mode,
    OwnerNotice,
    OwnRole,
    ProfileRole,
    Purpose,
    RetentionClass,
    Status,
    TokenFamily,
)
from connector_psi.domain.records import IDENTIFIER_TABLE, Field, IdentifierType, TokenClass, TypeRule
from connector_psi.errors import ConfigError, PurposeRefusedError

EDITION: Final = 2
"""Edition of terms that this version brings; a peer of version 0.1.0 knows the first alone."""
# Reason: a peer of version 0.1.0 has no word for these: they bind this side alone and are no part of what both agreed.
_NOT_IN_FIRST_EDITION: Final = frozenset(
    {"answer_within_h", "cases_per_slot", "edition", "grant", "names", "querier_categories"}
)

# --- Model ------------------------------------------------------------------------------------------------------------

_Item = TypeVar("_Item")
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _as_set(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    # A list of a policy means a set: sorted, so that two files of one meaning have one hash and one numbering.
    if len(set(items)) != len(items):
        raise ValueError("an entry stands twice")
    return tuple(sorted(items))  # type: ignore[type-var]  # every item type is a str or an int


def _token_class(value: object) -> object:
    for token_class in TokenClass:
        if value is token_class or value == token_class.label:
            return token_class
    raise ValueError("not a token class")


def _category(value: str) -> str:
    if value not in CATEGORIES:
        raise ValueError("not a known category")
    return value


def _freeze(value: Mapping[_Key, _Value]) -> Mapping[_Key, _Value]:
    return MappingProxyType(dict(value))


_SetOf = Annotated[tuple[_Item, ...], AfterValidator(_as_set)]
_NonEmptySetOf = Annotated[tuple[_Item, ...], Constraint(min_length=1), AfterValidator(_as_set)]
_Class = Annotated[TokenClass, BeforeValidator(_token_class), PlainSerializer(lambda c: c.label)]
_Category = Annotated[str, AfterValidator(_category)]
_Count = Annotated[int, Constraint(ge=0, le=10**15)]
_Reference = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
_Authority = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{2,16}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Capacity(_Model):
    """Padded elements that may be asked under one class."""

    per_day: _Count
    per_year: _Count
    per_officer_day: _Count | None = None
    """Absent in ``bulk`` mode, where a system asks and no officer. Binds at the querier."""


class Confirm(_Model):
    """How many different people must agree on each side before anything is disclosed."""

    querier_people: Annotated[int, Constraint(ge=1, le=9)]
    owner_people: Annotated[int, Constraint(ge=0, le=9)]


class Grant(_Model):
    """What people at the owner grant before anything may be asked, in ``case`` mode; what they grant may be less."""

    people: Annotated[int, Constraint(ge=1, le=9)]
    max_identifiers: Annotated[int, Constraint(ge=1, le=256)]
    max_hours: Annotated[int, Constraint(ge=1, le=720)]


class Names(_Model):
    """How equal name keys become a match. A name alone never does, and there is no word for it."""

    weights: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,39}$")]
    """Which of the files of weights that this version brings judges them."""
    possible_with: _SetOf[Corroborator]
    """What must agree besides a name that is possibly the same: one of these."""
    strong_with: _SetOf[Corroborator]
    """What suffices besides a name that is very probably the same, beside those."""


class Requires(_Model):
    """What must exist outside this node before real data flows."""

    legal_ref: _Reference
    dpia_ref: _Reference
    arrangement_ref: _Reference
    national_ref: _Reference = ""
    """National law that ``Condition.NATIONAL_BASIS`` asks for; without it such a field is withheld."""

    @property
    def complete(self) -> bool:
        """Whether every reference that a pilot needs is filled in."""
        return all((self.legal_ref, self.dpia_ref, self.arrangement_ref))


class _Terms(_Model):
    """What template and agreement have in common."""

    code: str
    edition: Annotated[int, Constraint(ge=1, le=EDITION)] = EDITION
    """1 while a party runs version 0.1.0: terms, hash and tokens are then those of that version. All parties change it
    at one time."""
    purpose: Purpose
    legal_basis: _NonEmptySetOf[LegalBasis]
    owner_notice: OwnerNotice
    mode: Mode
    classes: _NonEmptySetOf[_Class]
    identifier_types: _NonEmptySetOf[IdentifierType]
    families: _NonEmptySetOf[TokenFamily]
    querier_categories: _NonEmptySetOf[_Category]
    """Of the querier's own records: those that it asks with."""
    categories: Annotated[_NonEmptySetOf[_Category], Constraint(max_length=255)]
    """Of the owner's records: those that it publishes and discloses."""
    category_at_match: _SetOf[_Category]
    match_rule: MatchRule
    names: Names | None = None
    """Where ``families`` has names, and only there."""
    disclose: Annotated[Mapping[Field, Condition], AfterValidator(_freeze), PlainSerializer(dict)]
    confirm: Confirm
    capacity: Annotated[
        Mapping[_Class, Capacity],
        AfterValidator(_freeze),
        PlainSerializer(lambda capacity: {c.label: limits.model_dump() for c, limits in capacity.items()}),
    ]
    grant: Grant | None = None
    """In ``case`` mode, and only there."""
    cases_per_slot: Annotated[int, Constraint(ge=1, le=64)] | None = None
    """Where the owner gets no notice, and only there: the querier sends so many cases a slot, real ones and covers."""
    answer_within_h: Annotated[int, Constraint(ge=1, le=72)]
    """From a case to its answer; what takes longer is alarmed, not cut off."""
    max_set_age_h: Annotated[int, Constraint(ge=1, le=168)]
    case_window_days: Annotated[int, Constraint(ge=1, le=60)]
    witnesses: Annotated[int, Constraint(ge=0, le=9)]
    handling: Handling
    retention_class: RetentionClass
    status: Status
    requires: Requires
    valid_from: date
    """First day, in UTC."""
    valid_until: date
    """Last day, included, in UTC."""

    @property
    def name_groups(self) -> frozenset[FamilyGroup]:
        """The groups of name families among ``families``."""
        return frozenset(FamilyGroup(each.value) for each in self.families if each is not TokenFamily.EXACT)

    @property
    def normalisation_version(self) -> str:
        """Version of the canonical forms that tokens are made of."""
        return NORMALISATION_VERSION if self.edition == EDITION else FIRST_NORMALISATION_VERSION

    def __hash__(self) -> int:
        return hash((type(self), self.code))

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers take agreements; a read-only mapping does not pickle by itself.
        return type(self).model_validate_json, (self.model_dump_json(),)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self


class Template(_Terms):
    """An agreement over roles, as a policy file holds it."""

    code: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{1,7}(-[A-Z0-9]{1,8})?$")]
    querier: _NonEmptySetOf[ProfileRole]
    owner: _NonEmptySetOf[ProfileRole]
    witnesses_synthetic: Annotated[int, Constraint(ge=0, le=9)] = 0
    """Witnesses that are wanted between nodes that hold synthetic data only."""


class Agreement(_Terms):
    """A template between two authorities, ``TEMPLATE:querier-owner``. The querier learns first."""

    querier: _Authority
    owner: _Authority
    synthetic: bool

    @property
    def template(self) -> str:
        """The code of the template, which the two authorities follow."""
        return self.code.partition(":")[0]


class OwnPurpose(_Model):
    """What an authority does on its own node, with nobody on the other side."""

    code: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{1,7}(-[A-Z0-9]{1,8})?$")]
    purpose: Purpose
    legal_basis: _NonEmptySetOf[LegalBasis]
    people: _NonEmptySetOf[OwnRole]
    """Roles of those who may."""
    restricts: _SetOf[_Category] = ()
    """Categories about which a data subject is told nothing but where to turn."""
    retention_class: RetentionClass
    status: Status

    def __hash__(self) -> int:
        return hash((type(self), self.code))


@dataclass(frozen=True, slots=True)
class PolicyPack:
    """One file: the templates of agreements, and what concerns the own node alone."""

    version: int
    templates: tuple[Template, ...]
    own: tuple[OwnPurpose, ...] = ()
    source: str = field(default="policy", compare=False)
    """The name of the file, for messages."""


# --- Agreements -------------------------------------------------------------------------------------------------------


def authorities_of(code: str) -> tuple[str, str]:
    """Return querier and owner of an agreement from its code, ``TEMPLATE:QUERIER-OWNER``."""
    querier, _, owner = code.rpartition(":")[2].partition("-")
    return querier, owner


def instantiate(
    template: Template, querier: str, owner: str, *, synthetic: bool, witnesses: int | None = None
) -> Agreement:
    """Make the agreement of two authorities from a template.

    Args:
        template: The terms.
        querier: Code of the authority that learns first, ``[a-z0-9]{2,16}``.
        owner: Code of the authority whose set is asked.
        synthetic: Whether both nodes hold synthetic data only.
        witnesses: Overrides the template's number; by default that number, or ``witnesses_synthetic``.

    Raises:
        ConfigError: A code is malformed, both are the same, or real data would go without a witness.
    """
    code = f"{template.code}:{querier}-{owner}"
    if querier == owner:
        raise ConfigError(f"{template.code}: querier and owner are the same authority")
    if witnesses is None:
        witnesses = template.witnesses_synthetic if synthetic else template.witnesses
    if witnesses == 0 and not synthetic:
        raise ConfigError(f"{code}: witnesses: at least one outside synthetic data")
    terms = {name: getattr(template, name) for name in _Terms.model_fields}
    terms |= {"code": code, "querier": querier, "owner": owner, "synthetic": synthetic, "witnesses": witnesses}
    try:
        return Agreement(**terms)
    except ValidationError as error:
        keys = ", ".join(sorted({str(item["loc"][0]) for item in error.errors(include_input=False)}))
        raise ConfigError(f"{template.code}: {keys}: malformed") from None


def fitting_agreements(
    pack: PolicyPack, own: tuple[str, ProfileRole], peer: tuple[str, ProfileRole], synthetic: bool
) -> list[Agreement]:
    """Return the agreements that two authorities can have, in both directions, blocked ones left out.

    Args:
        pack: The templates of one side; the other side's give the same hashes, or there is no agreement.
        own: Code and role of this node.
        peer: Code and role of the other.
        synthetic: Whether both hold synthetic data only.

    Raises:
        ConfigError: A code is malformed, or both are the same.
    """
    return [
        instantiate(template, querier[0], owner[0], synthetic=synthetic)
        for template in pack.templates
        for querier, owner in ((own, peer), (peer, own))
        if template.status is not Status.BLOCKED and querier[1] in template.querier and owner[1] in template.owner
    ]


def policy_hash(agreement: Agreement) -> bytes:
    """Return the SHA-256 of the agreement's RFC 8785 form, 32 bytes; lists of one meaning give one hash."""
    tree = _hashed(agreement)
    if agreement.edition < EDITION:
        tree = {key: value for key, value in tree.items() if key not in _NOT_IN_FIRST_EDITION}
        del tree["requires"]["national_ref"]
    return hashlib.sha256(rfc8785.dumps(tree)).digest()


def beyond_first_edition(terms: _Terms) -> Iterator[tuple[str, str]]:
    """Yield what terms hold that a peer of version 0.1.0 cannot: key and text; nothing of terms of this edition."""
    if terms.edition == EDITION:
        return
    if terms.mode is not Mode.BULK:
        yield "mode", "the first edition has bulk mode alone"
    if terms.owner_notice is not OwnerNotice.CASE:
        yield "owner_notice", "in the first edition people at the owner see every case"
    if terms.names is not None or terms.name_groups:
        yield "families", "the first edition matches no names"
    if beyond := sorted(set(terms.identifier_types) - FIRST_TYPES):
        yield "identifier_types", f"the first edition has no {', '.join(beyond)}"
    if terms.requires.national_ref or Condition.NATIONAL_BASIS in terms.disclose.values():
        yield "requires.national_ref", "the first edition has no field that national law opens"


def _hashed(terms: _Terms) -> dict[str, Any]:
    """What is hashed of terms: where there are no names, what was hashed before there were any; so with editions."""
    tree: dict[str, Any] = terms.model_dump(mode="json")
    if tree["edition"] == EDITION:
        del tree["edition"]
    if tree["names"] is None:
        del tree["names"]
    return tree


def category_number(agreement: Agreement, category: str) -> int:
    """Return the byte that a ticket shows at the match: its place in ``categories`` from 1, 0 where policy hides it."""
    return agreement.categories.index(category) + 1 if category in agreement.category_at_match else 0


def own_purpose(pack: PolicyPack, purpose: Purpose, role: str) -> OwnPurpose:
    """Return the purpose of the own node for which the policy lets people of a role work.

    Raises:
        PurposeRefusedError: No policy in force names the role for it.
    """
    for own in pack.own:
        if own.purpose is purpose and own.status is not Status.BLOCKED and role in {each.value for each in own.people}:
            return own
    raise PurposeRefusedError(f"the policy lets nobody of this role act for this purpose: {purpose.value}")


def capacity_for(agreement: Agreement, token_class: TokenClass) -> Capacity:
    """Return what may be asked under a class.

    Raises:
        PurposeRefusedError: The agreement does not cover the class.
    """
    try:
        return agreement.capacity[token_class]
    except KeyError:
        raise PurposeRefusedError(f"{agreement.code}: class {token_class.label} is not covered") from None


class Verdict(StrEnum):
    """What equal tokens of one record amount to."""

    MATCH = "match"
    WEAK = "weak"
    """Counted, never shown."""
    NONE = "none"


def judge(
    agreement: Agreement,
    matched: Collection[IdentifierType],
    table: Mapping[IdentifierType, TypeRule] = IDENTIFIER_TABLE,
) -> Verdict:
    """Apply the match rule to the tokens of one record that were found.

    Args:
        agreement: Only its identifier types count.
        matched: One entry per *different* token, so a type stands twice where two of its values are equal.
        table: Which types suffice alone.
    """
    counted = [kind for kind in matched if kind in agreement.identifier_types]
    if any(table[kind].suffices_alone for kind in counted):
        return Verdict.MATCH
    if agreement.match_rule is MatchRule.SUFFICIENT_OR_TWO and len(counted) >= 2:
        return Verdict.MATCH
    return Verdict.WEAK if counted else Verdict.NONE


@dataclass(frozen=True, slots=True)
class NameGroup:
    """Equal name keys of one party of a record of the querier and one party of a record of the owner."""

    keys: tuple[HeldKey, ...] = field(repr=False)
    born: bool = False
    """Whether the querier's party has a date of birth that was asked with. The owner cannot know and says no, which
    can only be more lenient: the model then takes nothing off where both know a date and the dates differ."""


@dataclass(frozen=True, slots=True)
class EqualTokens:
    """All that is equal between one record of the querier and one of the owner."""

    exact: tuple[IdentifierType, ...]
    """One entry a different token."""
    groups: tuple[NameGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What equal tokens of one record amount to, and by what."""

    verdict: Verdict
    group: int | None = None
    """Place of the group that is a match by name, the one with the most points; None where no name matches."""
    band: Band | None = None
    """Of that group."""
    corroborators: tuple[Corroborator, ...] = ()
    """What agrees besides its names."""


def judge_all(
    agreement: Agreement,
    pairs: Sequence[EqualTokens],
    weights: Weights | None,
    table: Mapping[IdentifierType, TypeRule] = IDENTIFIER_TABLE,
) -> list[Judgement]:
    """Apply the match rule, and the rule for names, to what is equal between pairs of records.

    Identifiers are looked at first, as ``judge`` does. A name is a match only where something else agrees that the
    agreement names: ``names.possible_with`` for one that is possibly the same, ``names.strong_with`` too for one that
    is very probably the same. Both sides decide by this function.

    Args:
        agreement: Only its identifier types, classes and corroborators count.
        pairs: Any number; all are judged in one pass.
        weights: The file that ``agreement.names`` names; None where there are no names.
        table: Which types suffice alone.

    Returns:
        One judgement a pair, in order.
    """
    found = _judged_groups(agreement, pairs, weights)
    judgements = []
    for pair, verdicts in zip(pairs, found, strict=True):
        exact = judge(agreement, pair.exact, table)
        identified = any(kind in agreement.identifier_types for kind in pair.exact)
        best: tuple[float, int, NameVerdict] | None = None
        weak = exact is Verdict.WEAK
        for place, each in verdicts:
            agrees = each.corroborators | {Corroborator.IDENTIFIER} if identified else each.corroborators
            if not agrees.isdisjoint(_enough_with(agreement, each.band)):
                if best is None or each.points > best[0]:
                    best = each.points, place, each._replace(corroborators=agrees)
            else:
                weak |= each.band is not Band.NOT_SHOWN
        if best is not None:
            _, place, name = best
            judgements.append(Judgement(Verdict.MATCH, place, name.band, tuple(sorted(name.corroborators))))
        elif exact is Verdict.MATCH:
            judgements.append(Judgement(exact))
        else:
            judgements.append(Judgement(Verdict.WEAK if weak else Verdict.NONE))
    return judgements


def _enough_with(agreement: Agreement, band: Band) -> frozenset[Corroborator]:
    """What one of must agree besides a name of a band, by an agreement."""
    terms = agreement.names
    return frozenset() if terms is None else judging.enough_with(band, terms.possible_with, terms.strong_with)


def _judged_groups(
    agreement: Agreement, pairs: Sequence[EqualTokens], weights: Weights | None
) -> list[list[tuple[int, NameVerdict]]]:
    """The model's verdicts on the groups of each pair, with the place of the group; one for each kind of party."""
    found: list[list[tuple[int, NameVerdict]]] = [[] for _ in pairs]
    if agreement.names is None or weights is None:
        return found
    for kind in (TokenClass.PERSON, TokenClass.ORGANISATION):
        if kind not in agreement.classes:
            continue
        places = [
            (number, place, group)
            for number, pair in enumerate(pairs)
            for place, group in enumerate(pair.groups)
            if any(FAMILY_TABLE[held.key.family].token_class is kind for held in group.keys)
        ]
        verdicts = judging.judge(weights, kind, [g.keys for _, _, g in places], [g.born for _, _, g in places])
        for (number, place, _), verdict in zip(places, verdicts, strict=True):
            found[number].append((place, verdict))
    return found


# --- Decisions --------------------------------------------------------------------------------------------------------


class Reason(StrEnum):
    """Why ``decide`` said what it said. For the sealed body of the log, never for the peer."""

    ALLOWED = "allowed"
    BLOCKED = "blocked"
    SYNTHETIC_MISMATCH = "synthetic_mismatch"
    REQUIREMENTS_MISSING = "requirements_missing"
    WITNESS_MISSING = "witness_missing"
    NOT_IN_FORCE = "not_in_force"
    PURPOSE_NOT_AGREED = "purpose_not_agreed"
    LEGAL_BASIS_NOT_AGREED = "legal_basis_not_agreed"
    RECORD_UNAVAILABLE = "record_unavailable"
    CATEGORY_NOT_COVERED = "category_not_covered"
    CASE_REFERENCE_MISSING = "case_reference_missing"
    JUSTIFICATION_MISSING = "justification_missing"
    SUBJECT_CLASS_UNKNOWN = "subject_class_unknown"
    REQUIRED_FIELD_ABSENT = "required_field_absent"
    NOTHING_TO_DISCLOSE = "nothing_to_disclose"
    CONFIRMATION_MISSING = "confirmation_missing"
    APPROVAL_MISSING = "approval_missing"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a case is disclosed, and which fields of it."""

    allowed: bool
    reason: Reason
    disclosed: tuple[Field, ...] = ()
    withheld: tuple[Field, ...] = ()
    """Fields that the record has and that are not disclosed."""


class FieldReason(StrEnum):
    """Why a field of a case is disclosed or not, where every rule allows the case."""

    DISCLOSED = "disclosed"
    NOT_NAMED = "not_named"
    """The agreement does not name it, so it never leaves."""
    ABSENT = "absent"
    """Named, and the record does not have it."""
    PROVIDER_WITHHOLDS = "provider_withholds"
    NATIONAL_BASIS_MISSING = "national_basis_missing"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and how it came about."""

    decision: Decision
    passed: tuple[Reason, ...]
    """The rules that allowed the case, in order, each by the reason that it would refuse with. The next one, if any,
    is the decision's."""
    fields: Mapping[Field, FieldReason]
    """Every field that the agreement names or the record has. Where a rule refuses, nothing of it leaves."""


@dataclass(frozen=True, slots=True)
class DisclosureRequest:
    """What the querier says when it opens a case."""

    agreement: str
    purpose: str
    legal_basis: str
    case_reference: str = field(repr=False)
    justification: str = field(repr=False)
    querier_people: tuple[str, ...] = field(repr=False)
    """Who confirmed the match: person URNs or the querier's pseudonyms of people."""


_Rule = tuple[Reason, bool]
"""Why a rule refuses, and whether it allows."""


def _gates(agreement: Agreement, now: datetime, *, synthetic: bool) -> Iterator[_Rule]:
    today = now.astimezone(UTC).date()
    yield Reason.BLOCKED, agreement.status is not Status.BLOCKED
    yield Reason.SYNTHETIC_MISMATCH, agreement.synthetic is synthetic
    yield Reason.REQUIREMENTS_MISSING, agreement.status is not Status.PILOT or synthetic or agreement.requires.complete
    # Version 0.1.0 neither asks for witnesses nor is one.
    yield Reason.WITNESS_MISSING, (agreement.witnesses > 0 and agreement.edition == EDITION) or synthetic
    yield Reason.NOT_IN_FORCE, agreement.valid_from <= today <= agreement.valid_until


def check_runnable(agreement: Agreement, now: datetime, *, synthetic: bool) -> None:
    """Refuse an agreement that must not run now: for publishing, asking and answering alike.

    Args:
        agreement: The agreement.
        now: Aware.
        synthetic: Whether this node holds synthetic data only.

    Raises:
        PurposeRefusedError: The agreement is blocked, not in force, between a synthetic and a real node, or a pilot
            on real data without all its references.
    """
    for reason, allows in _gates(agreement, now, synthetic=synthetic):
        if not allows:
            raise PurposeRefusedError(f"{agreement.code}: {reason}")


# Only officers and supervisors decide: a system is no person, data protection officers and auditors check the others.
_PERSON_URN: Final = re.compile(r"urn:connector-psi:person:([^:]+):([^:]+):(.+)")
_DECIDING_ROLES: Final = frozenset({"officer", "supervisor"})


def _people(names: Iterable[str], authority: str) -> set[str]:
    """The different people among ``names``; one person with certificates of two roles is one person."""
    people = set()
    for name in names:
        key = name.strip().casefold()
        if key.startswith("urn:"):
            urn = _PERSON_URN.fullmatch(key)
            if not urn or urn[1] != authority or urn[2] not in _DECIDING_ROLES:
                continue
            key = f"{urn[1]}:{urn[3]}"
        if key:
            people.add(key)
    return people


def handling_codes_of(values: Collection[str]) -> tuple[HandlingCode, ...]:
    """Return Europol's handling codes in order; none, or one that is not known, is treated as H2 and H3."""
    known = {code.value for code in HandlingCode}
    if not values or not set(values) <= known:
        return HandlingCode.H2, HandlingCode.H3
    return tuple(HandlingCode(value) for value in sorted(set(values)))


class Case(TypedDict):
    """What ``decide`` needs to know of a case, beside its agreement."""

    purpose: str
    """As the querier states it."""
    legal_basis: str
    """As the querier states it."""
    category: str
    """Of the owner's record."""
    available_fields: Collection[Field]
    """That the record has."""
    confirmed_by: Sequence[str]
    """People at the querier; see ``DisclosureRequest.querier_people``."""
    approved_by: Sequence[str]
    """People at the owner."""
    case_reference: str
    """Not blank."""
    justification: str
    """Not blank."""
    now: datetime
    """Aware."""
    synthetic: bool
    """Whether this node holds synthetic data only."""
    hidden: bool
    """The record must never leave, or left the source."""
    handling_codes: NotRequired[Collection[str]]
    """Of the record, as its provider set them."""
    provider_consent: NotRequired[Collection[Field]]
    """Fields that the provider released for this case beyond its handling codes."""


def decide(agreement: Agreement, **case: Unpack[Case]) -> Decision:
    """Decide one case. Denied unless every rule allows it; approvals are looked at last.

    So ``Reason.APPROVAL_MISSING`` means that people at the owner are all that is missing; any other refusal is final.

    Args:
        agreement: Between the two authorities of the case.
        case: See ``Case``.
    """
    return explain(agreement, **case).decision


def explain(agreement: Agreement, **case: Unpack[Case]) -> Explanation:
    """Decide one case as ``decide`` does, and tell how.

    Args:
        agreement: Between the two authorities of the case.
        case: See ``Case``.
    """
    available = frozenset(case["available_fields"])
    reasons = field_reasons(
        agreement,
        available,
        handling_codes=case.get("handling_codes", ()),
        provider_consent=case.get("provider_consent", ()),
    )
    passed: list[Reason] = []
    for reason, allows in _rules(agreement, reasons, case):
        if not allows:
            refusal = Decision(allowed=False, reason=reason, withheld=tuple(sorted(available)))
            return Explanation(refusal, tuple(passed), reasons)
        passed.append(reason)
    disclosed = tuple(name for name, reason in reasons.items() if reason is FieldReason.DISCLOSED)
    decision = Decision(
        allowed=True,
        reason=Reason.ALLOWED,
        disclosed=disclosed,
        withheld=tuple(sorted(available.difference(disclosed))),
    )
    return Explanation(decision, tuple(passed), reasons)


def field_reasons(
    agreement: Agreement,
    available: Collection[Field],
    *,
    handling_codes: Collection[str] = (),
    provider_consent: Collection[Field] = (),
) -> dict[Field, FieldReason]:
    """Return why each field that the agreement names or the record has is disclosed or not, by the fields' names.

    Args:
        agreement: Between the two authorities of the case.
        available: Fields that the record has.
        handling_codes: Of the record; see ``Case``.
        provider_consent: See ``Case``.
    """
    return {
        name: _field_reason(agreement, name, available, handling_codes, provider_consent)
        for name in sorted({*available, *agreement.disclose})
    }


def _field_reason(
    agreement: Agreement,
    name: Field,
    available: Collection[Field],
    handling_codes: Collection[str],
    provider_consent: Collection[Field],
) -> FieldReason:
    condition = agreement.disclose.get(name)
    if condition is None:
        return FieldReason.NOT_NAMED
    if name not in available:
        return FieldReason.ABSENT
    if condition is Condition.PROVIDER_CONSENT and name not in provider_consent:
        codes = handling_codes_of(handling_codes)
        if not set(codes) <= {HandlingCode.H0, HandlingCode.H1}:
            return FieldReason.PROVIDER_WITHHOLDS
    if condition is Condition.NATIONAL_BASIS and not agreement.requires.national_ref:
        return FieldReason.NATIONAL_BASIS_MISSING
    return FieldReason.DISCLOSED


def _rules(agreement: Agreement, fields: Mapping[Field, FieldReason], case: Case) -> Iterator[_Rule]:
    """The rules of a case in their order; the first that does not allow it decides."""
    yield from _gates(agreement, case["now"], synthetic=case["synthetic"])
    yield Reason.PURPOSE_NOT_AGREED, case["purpose"] == agreement.purpose
    yield Reason.LEGAL_BASIS_NOT_AGREED, case["legal_basis"] in agreement.legal_basis
    yield Reason.RECORD_UNAVAILABLE, not case["hidden"]
    yield Reason.CATEGORY_NOT_COVERED, case["category"] in agreement.categories
    yield Reason.CASE_REFERENCE_MISSING, bool(case["case_reference"].strip())
    yield Reason.JUSTIFICATION_MISSING, bool(case["justification"].strip())
    known = case["category"] not in PERSON_CATEGORIES or Field.SUBJECT_CLASS in case["available_fields"]
    yield Reason.SUBJECT_CLASS_UNKNOWN, known
    absent = {name for name, reason in fields.items() if reason is FieldReason.ABSENT}
    yield Reason.REQUIRED_FIELD_ABSENT, all(agreement.disclose[name] is not Condition.ALWAYS for name in absent)
    yield Reason.NOTHING_TO_DISCLOSE, FieldReason.DISCLOSED in fields.values()
    confirmed = _people(case["confirmed_by"], agreement.querier)
    yield Reason.CONFIRMATION_MISSING, len(confirmed) >= agreement.confirm.querier_people
    # Whoever confirmed cannot also approve, even where a pseudonym hides the authority.
    approved = _people(case["approved_by"], agreement.owner) - confirmed
    yield Reason.APPROVAL_MISSING, len(approved) >= agreement.confirm.owner_people


def pack_hash(pack: PolicyPack) -> bytes:
    """Return the SHA-256 of a pack's RFC 8785 form, 32 bytes: what two people sign, and what leaves carry."""
    tree: dict[str, Any] = {
        "version": pack.version,
        "templates": {template.code: _hashed(template) for template in pack.templates},
        "own_node": {own.code: own.model_dump(mode="json") for own in pack.own},
    }
    return hashlib.sha256(rfc8785.dumps(tree)).digest()
