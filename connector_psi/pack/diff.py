"""What a change of policy would newly allow, no longer allow, or change otherwise, in words.

Decides: which change widens: after it more may be learnt, by more, about more, for longer or with less in between. A
change that cannot be ordered counts as widening, so that nobody overlooks it. Leaves to others: whether a policy may be
changed, and by whom (``node``, the people who sign), how differences are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from connector_psi.domain.naming.judging import Band
from connector_psi.domain.purposes import (
    RETENTION_YEARS,
    Condition,
    MatchRule,
    Mode,
    OwnerNotice,
    RetentionClass,
    Status,
)
from connector_psi.domain.records import Field
from connector_psi.pack import words
from connector_psi.policy import EDITION, Capacity, Confirm, Grant, Names, OwnPurpose, PolicyPack, Template


class Kind(StrEnum):
    """What a difference does."""

    ALLOWS = "newly_allows"
    STOPS = "no_longer_allows"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of one agreement, or of one purpose of the own node."""

    agreement: str
    key: str
    """Where in the policy, e.g. ``disclose.names``; empty where the whole agreement comes or goes."""
    kind: Kind
    widens: bool
    text: str
    """In words of the vocabulary and numbers: no reference of a policy is repeated."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A difference before it is known whether its agreement runs."""

    key: str
    kind: Kind
    text: str
    widens: bool


def diff(old: PolicyPack | None, new: PolicyPack) -> list[Change]:
    """Compare two packs.

    Args:
        old: The pack in force; None where there is none yet.
        new: The pack that would replace it.

    Returns:
        The differences, agreements before purposes of the own node, by code and then in the order of the model's keys;
        none if and only if templates and own purposes are equal. In an agreement that is blocked nothing widens.
    """
    found: list[Change] = []
    before = {template.code: template for template in old.templates} if old else {}
    after = {template.code: template for template in new.templates}
    for code in sorted(before.keys() | after.keys()):
        found += _agreement(code, before.get(code), after.get(code))
    own_before = {own.code: own for own in old.own} if old else {}
    own_after = {own.code: own for own in new.own}
    for code in sorted(own_before.keys() | own_after.keys()):
        found += _own(code, own_before.get(code), own_after.get(code))
    return found


def _agreement(code: str, old: Template | None, new: Template | None) -> Iterator[Change]:
    if new is None:
        assert old is not None
        gone = Kind.CHANGES if old.status is Status.BLOCKED else Kind.STOPS
        yield Change(code, "", gone, widens=False, text=f"is gone: {_summary(old)}")
        return
    blocked = new.status is Status.BLOCKED
    if old is None:
        yield Change(code, "", Kind.CHANGES if blocked else Kind.ALLOWS, not blocked, f"is new: {_summary(new)}")
        return
    for key in Template.model_fields:
        before, after = getattr(old, key), getattr(new, key)
        if before == after:
            continue
        values = (old, new) if key == "requires" else (before, after)
        for found in _COMPARE[key](key, *values):
            kind = Kind.CHANGES if blocked and key != "status" else found.kind
            text = f"{found.text} (in an agreement that is blocked)" if blocked and key != "status" else found.text
            yield Change(code, found.key, kind, found.widens and not blocked, text)
    if old.status is Status.BLOCKED and not blocked:
        yield Change(code, "", Kind.ALLOWS, widens=True, text=f"was blocked: {_summary(new)}")


def _own(code: str, old: OwnPurpose | None, new: OwnPurpose | None) -> Iterator[Change]:
    if old is None or new is None:
        terms = new or old
        assert terms is not None
        kind, verb = (Kind.STOPS, "gone") if new is None else (Kind.ALLOWS, "new")
        people, purpose = words.roles_words(terms.people), words.PURPOSE_WORDS[terms.purpose]
        yield Change(code, "", kind, new is not None, f"is {verb}, on the own node: {people}, for {purpose}")
        return
    for key in OwnPurpose.model_fields:
        before, after = getattr(old, key), getattr(new, key)
        if before != after:
            yield from (Change(code, f.key, f.kind, f.widens, f.text) for f in _COMPARE[key](key, before, after))


def _summary(terms: Template) -> str:
    fields = ", ".join(words.field_words(name) for name in sorted(terms.disclose)) or "nothing"
    return (
        f"{words.roles_words(terms.querier)} may learn {fields} from {words.roles_words(terms.owner)}, for "
        f"{words.PURPOSE_WORDS[terms.purpose]}; {words.status_words(terms.status, terms.requires.complete)}"
    )


# One comparison for each key of a policy. Each takes the key and two values that differ.

_Compare = Callable[[str, Any, Any], Iterator[_Found]]


def _set_of(noun: str, say: Callable[[Any], str] = str) -> _Compare:
    """More entries allow more."""

    def compare(key: str, old: Collection[Any], new: Collection[Any]) -> Iterator[_Found]:
        for item in sorted(set(new) - set(old)):
            yield _Found(f"{key}.{say_key(item)}", Kind.ALLOWS, f"{noun}: also {say(item)}", widens=True)
        for item in sorted(set(old) - set(new)):
            yield _Found(f"{key}.{say_key(item)}", Kind.STOPS, f"{noun}: no longer {say(item)}", widens=False)

    def say_key(item: object) -> str:
        return str(getattr(item, "label", item))

    return compare


def _number_of(noun: str, unit: str, *, more_is_wider: bool) -> _Compare:
    def compare(key: str, old: float, new: float) -> Iterator[_Found]:
        wider = (new > old) is more_is_wider
        text = f"{noun}: {new:,} {unit}, was {old:,}"
        yield _Found(key, Kind.ALLOWS if wider else Kind.STOPS, text, wider)

    return compare


def _ordered(noun: str, order: tuple[Any, ...], say: Callable[[Any], str] = str) -> _Compare:
    """Values from the narrowest to the widest."""

    def compare(key: str, old: object, new: object) -> Iterator[_Found]:
        wider = order.index(new) > order.index(old)
        yield _Found(key, Kind.ALLOWS if wider else Kind.STOPS, f"{noun}: {say(new)}, was {say(old)}", wider)

    return compare


def _other(noun: str, say: Callable[[Any], str] = str) -> _Compare:
    """Values without an order: whatever it is after the change was not so before."""

    def compare(key: str, old: object, new: object) -> Iterator[_Found]:
        yield _Found(key, Kind.CHANGES, f"{noun}: {say(new)}, was {say(old)}", widens=True)

    return compare


def _answer(key: str, old: int, new: int) -> Iterator[_Found]:
    yield _Found(key, Kind.CHANGES, f"time to answer a case: {new} hours, was {old}", widens=False)


def _names(key: str, old: Names | None, new: Names | None) -> Iterator[_Found]:
    if old is None or new is None:
        wider = new is not None
        text = "names are matched, each with something else that agrees" if wider else "names are not matched any more"
        yield _Found(key, Kind.ALLOWS if wider else Kind.STOPS, text, wider)
        return
    if old.weights != new.weights:
        # Other weights find others: nothing tells which of two files finds more.
        yield from _other("names are judged by the weights")(f"{key}.weights", old.weights, new.weights)
    for name, band in (("possible_with", Band.POSSIBLE), ("strong_with", Band.STRONG)):
        before, after = getattr(old, name), getattr(new, name)
        noun = f"enough besides {words.BAND_WORDS[band]}"
        yield from _set_of(noun, lambda each: words.CORROBORATOR_WORDS[each])(f"{key}.{name}", before, after)


def _covers(key: str, old: int | None, new: int | None) -> Iterator[_Found]:
    if old is None or new is None:
        text = f"cases of fixed number: {'no longer' if new is None else f'{new} a slot'}"
        # What it hides, and from whom, the change of owner_notice says.
        yield _Found(key, Kind.CHANGES, text, widens=False)
    else:
        kind = Kind.ALLOWS if new > old else Kind.STOPS
        yield _Found(key, kind, f"cases a slot, real ones and covers: {new}, was {old}", new > old)


def _retention(key: str, old: RetentionClass, new: RetentionClass) -> Iterator[_Found]:
    years = RETENTION_YEARS[new] - RETENTION_YEARS[old]
    kind = Kind.CHANGES if not years else Kind.ALLOWS if years > 0 else Kind.STOPS
    text = f"kept: {words.retention_words(new)}, was {words.retention_words(old)}"
    yield _Found(key, kind, text, years > 0)


def _confirm(key: str, old: Confirm, new: Confirm) -> Iterator[_Found]:
    for name, noun in (("querier_people", "people who confirm a match"), ("owner_people", "people who approve a case")):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield from _number_of(noun, "people", more_is_wider=False)(f"{key}.{name}", before, after)


def _grant(key: str, old: Grant | None, new: Grant | None) -> Iterator[_Found]:
    if old is None or new is None:
        wider = new is None
        text = "no grant is needed before anything is asked" if wider else "a grant is needed before anything is asked"
        yield _Found(key, Kind.ALLOWS if wider else Kind.STOPS, text, wider)
        return
    for name, noun, unit, more_is_wider in (
        ("people", "who grant access", "people", False),
        ("max_identifiers", "granted at most", "identifiers", True),
        ("max_hours", "granted for at most", "hours", True),
    ):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield from _number_of(noun, unit, more_is_wider=more_is_wider)(f"{key}.{name}", before, after)


def _capacity(key: str, old: Mapping[Any, Capacity], new: Mapping[Any, Capacity]) -> Iterator[_Found]:
    for token_class in sorted(old.keys() | new.keys()):
        place, before, after = f"{key}.{token_class.label}", old.get(token_class), new.get(token_class)
        if before is None or after is None:
            kind = Kind.STOPS if after is None else Kind.ALLOWS
            text = f"questions of class {token_class.label}: {'none any more' if after is None else 'newly allowed'}"
            yield _Found(place, kind, text, after is not None)
            continue
        for name, noun in (("per_day", "a day"), ("per_year", "a year"), ("per_officer_day", "a day by one officer")):
            limit, now = getattr(before, name), getattr(after, name)
            if limit == now:
                continue
            # No limit is wider than any.
            wider = now is None or (limit is not None and now > limit)
            text = f"class {token_class.label}: {_limit(now)} padded elements {noun}, was {_limit(limit)}"
            yield _Found(f"{place}.{name}", Kind.ALLOWS if wider else Kind.STOPS, text, wider)


def _limit(number: int | None) -> str:
    return "any number of" if number is None else f"{number:,}"


def _disclose(key: str, old: Mapping[Field, Condition], new: Mapping[Field, Condition]) -> Iterator[_Found]:
    for name in sorted(old.keys() | new.keys()):
        place, word = f"{key}.{name}", words.field_words(name)
        before, after = old.get(name), new.get(name)
        if before is after:
            continue
        if before is None:
            assert after is not None
            yield _Found(place, Kind.ALLOWS, f"discloses {word}: {words.CONDITION_WORDS[after]}", widens=True)
        elif after is None:
            yield _Found(place, Kind.STOPS, f"no longer discloses {word}", widens=False)
        else:
            # A field that was held back by one condition and is held back by another may show where it did not.
            wider = before in _HELD_BACK
            kind = Kind.ALLOWS if wider else Kind.CHANGES if after is Condition.IF_PRESENT else Kind.STOPS
            text = f"{word}: {words.CONDITION_WORDS[after]}, was: {words.CONDITION_WORDS[before]}"
            yield _Found(place, kind, text, wider)
        if before is Condition.ALWAYS:
            # It held back the others: without it a record was not disclosed at all.
            text = f"records without {word} are disclosed too; they were not"
            yield _Found(place, Kind.ALLOWS, text, widens=True)


_HELD_BACK: Final = frozenset({Condition.PROVIDER_CONSENT, Condition.NATIONAL_BASIS})


def _requires(key: str, old: Template, new: Template) -> Iterator[_Found]:
    """Takes whole templates: what a reference opens depends on the rest."""
    opens_pilot = new.status is Status.PILOT and new.requires.complete and not old.requires.complete
    for name, noun in (
        ("legal_ref", "legal reference"),
        ("dpia_ref", "impact assessment"),
        ("arrangement_ref", "arrangement of the controllers"),
        ("national_ref", "national law"),
    ):
        before, after = getattr(old.requires, name), getattr(new.requires, name)
        if before == after:
            continue
        verb = "is named" if not before else "is named no longer" if not after else "is another one"
        effect = ""
        if not before and name == "national_ref" and Condition.NATIONAL_BASIS in new.disclose.values():
            effect = ", so fields that needed one are disclosed"
        elif not before and name != "national_ref" and opens_pilot:
            effect = ", so the pilot runs on real data"
        kind = Kind.ALLOWS if effect else Kind.STOPS if not after else Kind.CHANGES
        yield _Found(f"{key}.{name}", kind, f"{noun} {verb}{effect}", bool(effect))


def _date_of(noun: str, *, later_is_wider: bool) -> _Compare:
    def compare(key: str, old: date, new: date) -> Iterator[_Found]:
        wider = (new > old) is later_is_wider
        yield _Found(key, Kind.ALLOWS if wider else Kind.STOPS, f"{noun}: {new}, was {old}", wider)

    return compare


def _restricts(key: str, old: Collection[str], new: Collection[str]) -> Iterator[_Found]:
    # Whoever is told less has fewer means against a mistake, so this is what widens here.
    for category in sorted(set(new) - set(old)):
        text = f"a data subject is told nothing any more about {words.category_words(category)}"
        yield _Found(f"{key}.{category}", Kind.STOPS, text, widens=True)
    for category in sorted(set(old) - set(new)):
        text = f"a data subject is told about {words.category_words(category)}"
        yield _Found(f"{key}.{category}", Kind.ALLOWS, text, widens=False)


_WORD_OF_NOTICE: Final = {
    OwnerNotice.CASE: "people at the owner see every case",
    OwnerNotice.NONE: "nobody at the owner is told",
}
_WORD_OF_MODE: Final = {Mode.CASE: "a person about one case", Mode.BULK: "a system about every record"}

_COMPARE: Final[Mapping[str, _Compare]] = MappingProxyType(
    {
        "code": _other("code"),
        "edition": _ordered("terms", (EDITION, 1), lambda edition: words.EDITION_WORDS[edition]),
        "purpose": _other("purpose", lambda purpose: words.PURPOSE_WORDS[purpose]),
        "legal_basis": _set_of("legal basis", lambda basis: words.basis_words([basis])),
        "querier": _set_of("who learns", lambda role: words.ROLE_WORDS[role]),
        "owner": _set_of("who is asked", lambda role: words.ROLE_WORDS[role]),
        "owner_notice": _ordered("notice", (OwnerNotice.CASE, OwnerNotice.NONE), lambda n: _WORD_OF_NOTICE[n]),
        "mode": _ordered("who asks", (Mode.CASE, Mode.BULK), lambda mode: _WORD_OF_MODE[mode]),
        "classes": _set_of("classes of identifiers", lambda token_class: str(token_class.label)),
        "identifier_types": _set_of("matched by"),
        "families": _set_of("families of tokens", lambda family: words.FAMILY_WORDS[family]),
        "querier_categories": _set_of("asked with", words.category_words),
        "categories": _set_of("learnt about", words.category_words),
        "category_at_match": _set_of("shown at the match, before any approval", words.category_words),
        "match_rule": _ordered(
            "a match is",
            (MatchRule.SUFFICIENT_ALONE, MatchRule.SUFFICIENT_OR_TWO),
            lambda rule: words.MATCH_RULE_WORDS[rule],
        ),
        "names": _names,
        "disclose": _disclose,
        "confirm": _confirm,
        "capacity": _capacity,
        "grant": _grant,
        "cases_per_slot": _covers,
        "answer_within_h": _answer,
        "max_set_age_h": _number_of("the encoded set lives", "hours", more_is_wider=True),
        "case_window_days": _number_of("a match can become a case for", "days", more_is_wider=True),
        "witnesses": _number_of("witnesses of the log", "needed", more_is_wider=False),
        "witnesses_synthetic": _number_of("witnesses of the log", "needed on synthetic data", more_is_wider=False),
        "handling": _other("handling", lambda handling: words.HANDLING_WORDS[handling]),
        "retention_class": _retention,
        "status": _ordered("status", (Status.BLOCKED, Status.PILOT, Status.ENABLED), lambda status: status.value),
        "requires": _requires,
        "valid_from": _date_of("in force from", later_is_wider=False),
        "valid_until": _date_of("in force until", later_is_wider=True),
        "people": _set_of("who may", lambda role: words.ROLE_WORDS[role]),
        "restricts": _restricts,
    }
)
