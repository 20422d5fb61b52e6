"""Who may ask whom, for what, and what may be disclosed: agreements in a closed vocabulary, denied by default.

Rules, in this order:

1. A policy is YAML without aliases, tags or duplicate keys (``parse_policy``); every word comes from
   ``domain.purposes`` or ``domain.records``, so that what is not named here cannot be agreed.
2. A policy that names a system, kind of data or recipient of ``GLOBAL_REFUSALS`` is refused with the reason given.
3. What contradicts itself, its purpose or a law that binds the owner is an error of ``check_pack``, and ``load_policy``
   refuses it.
4. A template joins two authorities as an ``Agreement`` (``instantiate``), known by the hash of its RFC 8785 form.
5. An agreement runs only through its gates (``check_runnable``) and discloses only what ``decide`` returns.

Leaves to others: matching, where records come from, when an outcome is served (``disclosure``), counting capacity
(``storage``), who signs a change of policy (``node``). Only ``load_policy`` touches the disk.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, NoReturn, Self, TypeVar

import rfc8785
import yaml
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

from connector_psi.domain.purposes import (
    CATEGORIES,
    GLOBAL_REFUSALS,
    PERSON_CATEGORIES,
    PURPOSES,
    Condition,
    Handling,
    HandlingCode,
    LegalBasis,
    MatchRule,
    Mode,
    OwnerNotice,
    ProfileRole,
    Purpose,
    PurposeRule,
    RetentionClass,
    Status,
    TokenFamily,
)
from connector_psi.domain.records import IDENTIFIER_TABLE, Field, IdentifierType, TokenClass, TypeRule
from connector_psi.domain.systems import system_of_category
from connector_psi.errors import ConfigError, PurposeRefusedError

__all__ = [
    "CATEGORIES",
    "GLOBAL_REFUSALS",
    "MAX_POLICY_BYTES",
    "PERSON_CATEGORIES",
    "PURPOSES",
    "Agreement",
    "Capacity",
    "Condition",
    "Confirm",
    "Decision",
    "DisclosureRequest",
    "Finding",
    "Handling",
    "HandlingCode",
    "LegalBasis",
    "MatchRule",
    "MatrixRow",
    "Mode",
    "OwnerNotice",
    "PolicyPack",
    "ProfileRole",
    "Purpose",
    "PurposeRule",
    "Reason",
    "Requires",
    "RetentionClass",
    "Severity",
    "Status",
    "Template",
    "TokenFamily",
    "Verdict",
    "capacity_for",
    "category_number",
    "check_pack",
    "check_runnable",
    "decide",
    "fitting_agreements",
    "handling_codes_of",
    "instantiate",
    "judge",
    "load_policy",
    "matrix",
    "parse_policy",
    "policy_hash",
]

MAX_POLICY_BYTES: Final = 1 << 20
POLICY_VERSION: Final = 1
_MAX_NODES: Final = 5_000
_MAX_ENTRIES: Final = 300
_MAX_DEPTH: Final = 8
_MAX_PROBLEMS: Final = 20

# Reason: 2018/1862 Art. 56(3), technical copies live for 48 hours.
SIS_MAX_SET_AGE_H: Final = 48
# Reason: case mode is tight on purpose: 25 padded batches of 8 an officer and day, ten times that a peer.
CASE_PER_OFFICER_DAY: Final = 200
CASE_PER_DAY: Final = 2_000

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


class Requires(_Model):
    """What must exist outside this node before real data flows."""

    legal_ref: _Reference
    dpia_ref: _Reference
    arrangement_ref: _Reference

    @property
    def complete(self) -> bool:
        """Whether every reference is filled in."""
        return all((self.legal_ref, self.dpia_ref, self.arrangement_ref))


class _Terms(_Model):
    """What template and agreement have in common."""

    code: str
    purpose: Purpose
    legal_basis: _NonEmptySetOf[LegalBasis]
    owner_notice: OwnerNotice
    mode: Mode
    classes: _NonEmptySetOf[_Class]
    identifier_types: _NonEmptySetOf[IdentifierType]
    families: _NonEmptySetOf[TokenFamily]
    categories: Annotated[_NonEmptySetOf[_Category], Constraint(max_length=255)]
    category_at_match: _SetOf[_Category]
    match_rule: MatchRule
    disclose: Annotated[Mapping[Field, Condition], AfterValidator(_freeze), PlainSerializer(dict)]
    confirm: Confirm
    capacity: Annotated[
        Mapping[_Class, Capacity],
        AfterValidator(_freeze),
        PlainSerializer(lambda capacity: {c.label: limits.model_dump() for c, limits in capacity.items()}),
    ]
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


class Agreement(_Terms):
    """A template between two authorities, ``TEMPLATE:querier-owner``. The querier learns first."""

    querier: _Authority
    owner: _Authority
    synthetic: bool

    @property
    def template(self) -> str:
        """The code of the template, which the two authorities follow."""
        return self.code.partition(":")[0]


@dataclass(frozen=True, slots=True)
class PolicyPack:
    """The templates of one file."""

    version: int
    templates: tuple[Template, ...]
    source: str = field(default="policy", compare=False)
    """The name of the file, for messages."""


# --- Reading ----------------------------------------------------------------------------------------------------------

_Path = tuple[str | int, ...]
# libyaml where the wheel has it: the pure Python scanner takes seconds for a megabyte.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_NOT_A_WORD: Final = re.compile(r"[^a-z0-9]+")
_REFUSED: Final = re.compile(f"_({'|'.join(GLOBAL_REFUSALS)})_")
_CONSTANTS: Final[Mapping[str, bool | None]] = {"": None, "~": None, "null": None, "true": True, "false": False}


class _Reader:
    """Builds plain values from YAML events; stops at the first event that a policy has no use for.

    Scalars are integers, ``true``, ``false``, ``null`` or text: no implicit dates, no octals, no ``NO`` read as false.
    """

    def __init__(self, text: str, source: str) -> None:
        self.lines: dict[_Path, int] = {}
        self._source = source
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._line = 1

    def document(self) -> object:
        """Return the value of the one document."""
        try:
            event = self._next()
            while isinstance(event, (yaml.StreamStartEvent, yaml.DocumentStartEvent)):
                event = self._next()
            if isinstance(event, yaml.StreamEndEvent):
                self._refuse((), "the file is empty")
            value = self._value(event, ())
            self._next()
            if not isinstance(self._next(), yaml.StreamEndEvent):
                self._refuse((), "more than one document")
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            raise ConfigError(f"{self._source}:{mark.line + 1 if mark else self._line}: not valid YAML") from None
        return value

    def _next(self) -> Any:  # noqa: ANN401  # PyYAML's events have no common typed base
        event = next(self._events)
        self._line = event.start_mark.line + 1
        return event

    def _refuse(self, path: _Path, reason: str) -> NoReturn:
        raise ConfigError(f"{self._source}:{self._line}: {_shown(path)}{reason}")

    def _value(self, event: Any, path: _Path) -> object:  # noqa: ANN401  # see _next
        self.lines.setdefault(path, self._line)
        if len(self.lines) > _MAX_NODES or len(path) > _MAX_DEPTH or path[-1:] == (_MAX_ENTRIES,):
            self._refuse(path[:_MAX_DEPTH], "too many or too deeply nested values")
        # Aliases make a small file expand into gigabytes; tags choose how a value is built.
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(path, "anchors and aliases are not allowed")
        if event.tag is not None:
            self._refuse(path, "tags are not allowed")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[object] = []
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(event, (*path, len(items))))
            return items
        if isinstance(event, yaml.MappingStartEvent):
            mapping: dict[str, object] = {}
            while not isinstance(event := self._next(), yaml.MappingEndEvent):
                if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                    self._refuse(path, "a key is not plain text")
                key = event.value
                if key in mapping:
                    self._refuse((*path, key), "the key stands twice")
                self.lines[*path, key] = self._line
                mapping[key] = self._value(self._next(), (*path, key))
            return mapping
        return event.value if event.style else _scalar(event.value)


def _scalar(text: str) -> object:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return int(text) if _INTEGER.fullmatch(text) else text


def _shown(path: _Path) -> str:
    # A key is shown only in the characters of the vocabulary, and short: an error text is no place for content.
    parts = [re.sub(r"[^A-Za-z0-9_.:-]", "?", str(part))[:40] for part in path if part not in {"templates", "[key]"}]
    return f"{'.'.join(parts)}: " if parts else ""


def _refusals(value: object, path: _Path) -> Iterator[tuple[_Path, str]]:
    """Where a tree of values names what ``GLOBAL_REFUSALS`` refuses, keys included; ``requires`` is free text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "requires":
                yield from _refusals(key, (*path, key))
                yield from _refusals(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _refusals(item, (*path, index))
    elif isinstance(value, str) and (found := _REFUSED.search(f"_{_NOT_A_WORD.sub('_', value.lower())}_")):
        yield path, f"refused, {found[1]}: {GLOBAL_REFUSALS[found[1]]}"


def _problem(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",):
        return "unknown key"
    if error["type"] == "missing":
        return "the key is missing"
    # Pydantic's messages name what is allowed and, without its input, never what was given.
    return str(error["msg"]).removeprefix("Value error, ")


def parse_policy(raw: bytes, source: str = "policy.yaml") -> PolicyPack:
    """Read a policy file whose every word is in the vocabulary.

    Unknown keys, duplicate keys, aliases, tags and whatever ``GLOBAL_REFUSALS`` names are refused. What each word
    means together with the others is the matter of ``check_pack``.

    Args:
        raw: UTF-8 YAML of at most ``MAX_POLICY_BYTES``.
        source: The name of the file, for messages.

    Returns:
        The pack, its templates in the order of their codes.

    Raises:
        ConfigError: For any other bytes; the text names file, line, agreement and key.
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_POLICY_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: not UTF-8") from None
    try:
        reader = _Reader(text, source)
    except yaml.YAMLError:
        raise ConfigError(f"{source}:1: not valid YAML") from None
    tree = reader.document()
    if not isinstance(tree, dict) or not isinstance(tree.get("templates"), dict) or not tree["templates"]:
        raise ConfigError(f"{source}:1: templates: the key is missing")
    if extra := tree.keys() - {"version", "templates"}:
        key = min(extra)
        raise ConfigError(f"{source}:{reader.lines[key,]}: {_shown((key,))}unknown key")
    if type(tree.get("version")) is not int or tree["version"] != POLICY_VERSION:
        raise ConfigError(f"{source}:{reader.lines.get(('version',), 1)}: version: only {POLICY_VERSION} is understood")

    templates: list[Template] = []
    problems: list[tuple[_Path, str]] = []
    for code, terms in tree["templates"].items():
        path: _Path = ("templates", code)
        if refused := [*_refusals(code, path), *_refusals(terms, path)]:
            problems += refused
        elif not isinstance(terms, dict) or "code" in terms:
            problems.append((path, "not a mapping of keys without code"))
        else:
            try:
                # JSON mode: strict, yet with enumerations and dates written as text.
                templates.append(Template.model_validate_json(json.dumps({"code": code, **terms})))
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False, include_context=False)
                problems += [((*path, *item["loc"]), _problem(item)) for item in found]
    if problems:
        places = [f"{source}:{_line_of(path, reader.lines)}: {_shown(path)}{text}" for path, text in problems]
        raise ConfigError("\n".join(places[:_MAX_PROBLEMS]))
    return PolicyPack(POLICY_VERSION, tuple(sorted(templates, key=lambda t: t.code)), source)


def _line_of(path: _Path, lines: Mapping[_Path, int]) -> int:
    while path not in lines:
        path = path[:-1]
    return lines[path]


def load_policy(path: Path) -> PolicyPack:
    """Read a policy file from disk and refuse it if ``check_pack`` finds an error; warnings pass.

    Raises:
        ConfigError: The file is unreadable, malformed or contradicts itself.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or 'unreadable'}") from None
    pack = parse_policy(raw, str(path))
    if errors := [str(finding) for finding in check_pack(pack) if finding.severity is Severity.ERROR]:
        raise ConfigError("\n".join(errors[:_MAX_PROBLEMS]))
    return pack


# --- Agreements -------------------------------------------------------------------------------------------------------


def instantiate(
    template: Template, querier: str, owner: str, *, synthetic: bool, witnesses: int | None = None
) -> Agreement:
    """Make the agreement of two authorities from a template.

    Args:
        template: The terms.
        querier: Code of the authority that learns first, ``[a-z0-9]{2,16}``.
        owner: Code of the authority whose set is asked.
        synthetic: Whether both nodes hold synthetic data only.
        witnesses: Overrides the template's number; by default that number, or 0 on synthetic data.

    Raises:
        ConfigError: A code is malformed, both are the same, or real data would go without a witness.
    """
    code = f"{template.code}:{querier}-{owner}"
    if querier == owner:
        raise ConfigError(f"{template.code}: querier and owner are the same authority")
    if witnesses is None:
        witnesses = 0 if synthetic else template.witnesses
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
    return hashlib.sha256(rfc8785.dumps(agreement.model_dump(mode="json"))).digest()


def category_number(agreement: Agreement, category: str) -> int:
    """Return the byte that a ticket shows at the match: its place in ``categories`` from 1, 0 where policy hides it."""
    return agreement.categories.index(category) + 1 if category in agreement.category_at_match else 0


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
    if any(table[kind].suffices_alone for kind in counted) or len(counted) >= 2:
        return Verdict.MATCH
    return Verdict.WEAK if counted else Verdict.NONE


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


def _gate(agreement: Agreement, now: datetime, *, synthetic: bool) -> Reason | None:
    if agreement.status is Status.BLOCKED:
        return Reason.BLOCKED
    if agreement.synthetic is not synthetic:
        return Reason.SYNTHETIC_MISMATCH
    if agreement.status is Status.PILOT and not (synthetic or agreement.requires.complete):
        return Reason.REQUIREMENTS_MISSING
    if agreement.witnesses == 0 and not synthetic:
        return Reason.WITNESS_MISSING
    if not agreement.valid_from <= now.astimezone(UTC).date() <= agreement.valid_until:
        return Reason.NOT_IN_FORCE
    return None


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
    if reason := _gate(agreement, now, synthetic=synthetic):
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


def decide(
    agreement: Agreement,
    *,
    purpose: str,
    legal_basis: str,
    category: str,
    available_fields: Collection[Field],
    confirmed_by: Sequence[str],
    approved_by: Sequence[str],
    case_reference: str,
    justification: str,
    now: datetime,
    synthetic: bool,
    hidden: bool,
    handling_codes: Collection[str] = (),
    provider_consent: Collection[Field] = (),
    national_basis: bool = False,
) -> Decision:
    """Decide one case. Denied unless every rule allows it; approvals are looked at last.

    So ``Reason.APPROVAL_MISSING`` means that people at the owner are all that is missing; any other refusal is final.

    Args:
        agreement: Between the two authorities of the case.
        purpose: As the querier states it.
        legal_basis: As the querier states it.
        category: Of the owner's record.
        available_fields: That the record has.
        confirmed_by: People at the querier; see ``DisclosureRequest.querier_people``.
        approved_by: People at the owner.
        case_reference: Not blank.
        justification: Not blank.
        now: Aware.
        synthetic: Whether this node holds synthetic data only.
        hidden: The record must never leave, or left the source.
        handling_codes: Of the record, as its provider set them.
        provider_consent: Fields that the provider released for this case beyond its handling codes.
        national_basis: Whether national law gives the basis that ``Condition.NATIONAL_BASIS`` asks for.
    """
    available = frozenset(available_fields)

    def refused(reason: Reason) -> Decision:
        return Decision(allowed=False, reason=reason, withheld=tuple(sorted(available)))

    if gate := _gate(agreement, now, synthetic=synthetic):
        return refused(gate)
    if purpose != agreement.purpose:
        return refused(Reason.PURPOSE_NOT_AGREED)
    if legal_basis not in agreement.legal_basis:
        return refused(Reason.LEGAL_BASIS_NOT_AGREED)
    if hidden:
        return refused(Reason.RECORD_UNAVAILABLE)
    if category not in agreement.categories:
        return refused(Reason.CATEGORY_NOT_COVERED)
    if not case_reference.strip():
        return refused(Reason.CASE_REFERENCE_MISSING)
    if not justification.strip():
        return refused(Reason.JUSTIFICATION_MISSING)
    if category in PERSON_CATEGORIES and Field.SUBJECT_CLASS not in available:
        return refused(Reason.SUBJECT_CLASS_UNKNOWN)

    provider_allows = set(handling_codes_of(handling_codes)) <= {HandlingCode.H0, HandlingCode.H1}
    disclosed = []
    for name, condition in agreement.disclose.items():
        if name not in available:
            if condition is Condition.ALWAYS:
                return refused(Reason.REQUIRED_FIELD_ABSENT)
            continue
        if condition is Condition.PROVIDER_CONSENT and not (provider_allows or name in provider_consent):
            continue
        if condition is Condition.NATIONAL_BASIS and not national_basis:
            continue
        disclosed.append(name)
    if not disclosed:
        return refused(Reason.NOTHING_TO_DISCLOSE)

    confirmed = _people(confirmed_by, agreement.querier)
    if len(confirmed) < agreement.confirm.querier_people:
        return refused(Reason.CONFIRMATION_MISSING)
    # Whoever confirmed cannot also approve, even where a pseudonym hides the authority.
    if len(_people(approved_by, agreement.owner) - confirmed) < agreement.confirm.owner_people:
        return refused(Reason.APPROVAL_MISSING)
    return Decision(
        allowed=True,
        reason=Reason.ALLOWED,
        disclosed=tuple(sorted(disclosed)),
        withheld=tuple(sorted(available.difference(disclosed))),
    )


# --- Reports for people -----------------------------------------------------------------------------------------------


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
    if not all(category.startswith(rule.category_prefix) for category in template.categories):
        yield "categories", f"this purpose covers {rule.category_prefix}* alone"
    if template.mode is Mode.BULK:
        for system in {system_of_category(category) for category in template.categories}:
            if system is not None and not system.real_time:
                yield "categories", f"{system.code} takes no part in an agreement in real time: {system.reason}"
    if beyond := sorted(template.disclose.keys() - rule.fields):
        yield "disclose", f"{', '.join(beyond)}: never disclosed for this purpose"
    if not template.disclose and template.status is not Status.BLOCKED:
        yield "disclose", "nothing can be disclosed"
    if not set(template.category_at_match) <= set(template.categories):
        yield "category_at_match", "not among the categories"
    if {IDENTIFIER_TABLE[kind].token_class for kind in template.identifier_types} != set(template.classes):
        yield "identifier_types", "every class needs a type, and every type its class"
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
    if template.owner_notice is OwnerNotice.NONE and template.confirm.owner_people:
        yield "confirm.owner_people", "nobody at the owner may be asked where nobody may know"
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
    return found


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One line of the table of who can learn what."""

    agreement: str
    purpose: str
    querier: str
    owner: str
    learns_first: str
    category: str
    field: str
    condition: str
    status: str


def matrix(packs: Iterable[PolicyPack]) -> list[MatrixRow]:
    """Return who can learn which field about what, one row per agreement, category and field; equal rows once."""
    rows: dict[MatrixRow, None] = {}
    for template in (template for pack in packs for template in pack.templates):
        querier, owner = " or ".join(template.querier), " or ".join(template.owner)
        for category in template.categories:
            words = f"{category} ({CATEGORIES[category]})"
            for name, condition in sorted(template.disclose.items()):
                rows[
                    MatrixRow(
                        template.code,
                        template.purpose.value,
                        querier,
                        owner,
                        querier,
                        words,
                        name.value,
                        condition.value,
                        template.status.value,
                    )
                ] = None
    return list(rows)
