"""From a party to its keys, on both sides. Every name is invented."""

from __future__ import annotations

import pytest

from connector_psi.domain import names
from connector_psi.domain.names import MAX_KEYS, MAX_NAMES, asked_keys, held_keys, subject_of
from connector_psi.domain.naming.families import FAMILY_TABLE, Corroborator, FamilyGroup, NameFamily
from connector_psi.domain.naming.keys import Shape
from connector_psi.domain.naming.words import FAMILY_WORDS
from connector_psi.domain.records import (
    IDENTIFIER_TABLE,
    Identifier,
    IdentifierType,
    Party,
    PartyKind,
    Record,
    SourceSystem,
    TokenClass,
)

ALL = frozenset(FamilyGroup)
F = NameFamily


def party(name: str, kind: PartyKind = PartyKind.PERSON, **more: object) -> Party:
    return Party(role="consignee", kind=kind, name=name, source_path="/x", **more)  # type: ignore[arg-type]


def families(found: Party, groups: frozenset[FamilyGroup] = ALL) -> set[str]:
    return {key.family for key in asked_keys(found, groups)}


def test_every_family_has_a_number_of_its_own_and_words() -> None:
    numbers = [rule.number for rule in FAMILY_TABLE.values()]
    assert len(set(numbers)) == len(numbers)
    assert set(FAMILY_TABLE) == set(NameFamily) == set(FAMILY_WORDS)
    assert set(numbers).isdisjoint(rule.family for rule in IDENTIFIER_TABLE.values())
    assert all(64 <= number <= 255 for number in numbers)


def test_both_sides_of_one_party_meet_in_every_key_that_is_asked() -> None:
    one = party("Ottokar Ludwig Brunnhilde", birth_date="1980-05-17", country="DE", city="Hamburg", postcode="20457")
    held = {key for key, _ in held_keys(one, ALL)}
    assert set(asked_keys(one, ALL)) <= held


@pytest.mark.parametrize("group", list(FamilyGroup))
def test_a_group_that_is_not_wanted_gives_no_key(group: FamilyGroup) -> None:
    unknown = party("Ottokar Brunnhilde", PartyKind.UNKNOWN, birth_date="1980-05-17", country="DE", city="Hamburg")
    assert groups_of(unknown, ALL - {group}).isdisjoint({group})
    assert group in groups_of(unknown, ALL)


def groups_of(one: Party, groups: frozenset[FamilyGroup]) -> set[FamilyGroup]:
    contacts = (PHONE, MAIL)
    return {FAMILY_TABLE[key.family].group for key, _ in held_keys(one, groups, contacts)} | {
        FAMILY_TABLE[key.family].group for key in asked_keys(one, groups, contacts)
    }


def test_without_dates_nothing_says_that_there_is_one() -> None:
    one = party("Ottokar Brunnhilde", birth_date="1980-05-17")
    assert all(shape & Shape.BORN for _, shape in held_keys(one, ALL))
    assert not any(shape & Shape.BORN for _, shape in held_keys(one, ALL - {FamilyGroup.PERSON_BIRTH}))


def test_a_place_is_never_a_key_by_itself() -> None:
    assert families(party("Brunnhilde", country="DE", city="Hamburg", postcode="20457")) == set()
    one = party("Ottokar Brunnhilde", country="DE", city="Hamburg", postcode="20457")
    placed = [key for key in asked_keys(one, ALL) if FAMILY_TABLE[key.family].group is FamilyGroup.NAME_PLACE]
    assert {key.family for key in placed} == {F.PERSON_COUNTRY, F.PERSON_CITY, F.PERSON_POSTCODE}
    assert all(len(key.keys) == 2 for key in placed)


def test_places_meet_in_other_writings() -> None:
    one = set(asked_keys(party("Ottokar Brunnhilde", country="Germany", city="Köln"), ALL))
    other = set(asked_keys(party("BRUNNHILDE, Ottokar", country="DE", city="Cologne"), ALL))
    agrees = {FAMILY_TABLE[key.family].corroborates for key in one & other}
    assert {Corroborator.COUNTRY, Corroborator.CITY} <= agrees


def test_nationalities_are_countries_too() -> None:
    keys = {key.text for key in asked_keys(party("Ottokar Brunnhilde", country="FR", nationalities=("DE",)), ALL)}
    assert any(text.endswith(" FR") for text in keys)
    assert any(text.endswith(" DE") for text in keys)


def test_an_address_on_one_line_is_read_where_nothing_better_is_known() -> None:
    subject = subject_of(party("Ottokar Brunnhilde", country="DE", address="Hafenstrasse 1, 20457 Hamburg, DE"))
    assert subject.cities
    assert subject.postcodes


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("Zvezdakraft GmbH", PartyKind.UNKNOWN, {TokenClass.ORGANISATION}),
        ("Zvezdakraft GmbH", PartyKind.PERSON, {TokenClass.PERSON}),
        ("Ottokar Brunnhilde", PartyKind.UNKNOWN, {TokenClass.PERSON, TokenClass.ORGANISATION}),
        ("Ottokar Brunnhilde", PartyKind.ORGANISATION, {TokenClass.ORGANISATION}),
    ],
)
def test_a_party_of_unknown_kind_is_asked_about_as_both(name: str, kind: PartyKind, wanted: set[TokenClass]) -> None:
    one = party(name, kind)
    assert subject_of(one).kinds == wanted
    assert {FAMILY_TABLE[key.family].token_class for key in asked_keys(one, ALL)} == wanted


def contact(kind: IdentifierType, value: str, role: str = "consignee") -> Identifier:
    return Identifier(kind, value, "/contact", role)


PHONE, MAIL = contact(IdentifierType.PHONE, "+493012345678"), contact(IdentifierType.EMAIL, "desk@zvezdakraft.example")


def test_contacts_corroborate_a_name_and_are_no_keys_without_one() -> None:
    one = party("Ottokar Brunnhilde")
    with_contacts = set(asked_keys(one, ALL, (PHONE, MAIL))) - set(asked_keys(one, ALL))
    assert {key.family for key in with_contacts} == {F.PERSON_PHONE, F.PERSON_DOMAIN}
    assert not asked_keys(party("Brunnhilde"), ALL, (PHONE, MAIL))
    colleague = contact(IdentifierType.EMAIL, "other@mail.zvezdakraft.example")
    held = {key for key, _ in held_keys(party("BRUNNHILDE, Ottokar"), ALL, (colleague,))}
    agrees = {FAMILY_TABLE[key.family].corroborates for key in with_contacts & held}
    assert agrees == {Corroborator.EMAIL_DOMAIN}


def test_a_provider_of_addresses_for_everybody_corroborates_nothing() -> None:
    public = contact(IdentifierType.EMAIL, "ottokar.brunnhilde@gmail.com")
    one = party("Ottokar Brunnhilde")
    assert asked_keys(one, ALL, (public,)) == asked_keys(one, ALL)


@pytest.mark.parametrize(
    ("roles", "contact_role", "whose"),
    [
        (("consignee", "consignor"), "consignee", [1, 0]),
        (("consignee", "consignor"), "", [0, 0]),
        (("consignee", "consignee"), "consignee", [0, 0]),
        (("subject",), "", [1]),
        (("subject",), "carrier", [0]),
    ],
)
def test_contacts_are_those_of_the_party_whose_role_they_have(
    roles: tuple[str, ...], contact_role: str, whose: list[int]
) -> None:
    parties = tuple(Party(role, PartyKind.PERSON, "Ottokar Brunnhilde", f"/{n}") for n, role in enumerate(roles))
    phone = contact(IdentifierType.PHONE, "+493012345678", contact_role)
    box = contact(IdentifierType.CONTAINER, "CSQU3054383", contact_role)
    record = Record(SourceSystem.EIS, "x", "eis.person", (phone, box), {}, bytes(32), parties=parties)
    assert [len(names.contacts_of(record, each)) for each in parties] == whose


def test_aliases_give_keys_of_one_party_within_its_budget() -> None:
    aliases = tuple(f"Ottokar{n} Brunnhilde{n} Zoltani{n}" for n in range(200))
    one = party("Ottokar Brunnhilde", aliases=aliases)
    held = held_keys(one, ALL)
    assert len(held) == len({key for key, _ in held}) <= MAX_KEYS
    within = set(asked_keys(party(aliases[MAX_NAMES - 3]), ALL))
    assert within & {key for key, _ in held}


def test_the_alias_that_says_most_decides_what_is_said_of_a_key() -> None:
    longer, shorter = "Ottokar Ludwig Brunnhilde", "Ottokar Brunnhilde"
    for first, second in ((longer, shorter), (shorter, longer)):
        held = dict(held_keys(party(first, aliases=(second,)), ALL))
        (pair,) = (k for k in asked_keys(party(shorter), ALL) if k.family == F.PERSON_PAIR_SKELETON)
        assert held[pair] == Shape(0)


@pytest.mark.parametrize("date", ["", "17.05.1980", "1980-5-17", "80", "1980-05-17T00:00:00Z"])
def test_what_is_no_date_gives_no_key(date: str) -> None:
    assert F.PERSON_BIRTH_YEAR not in families(party("Ottokar Brunnhilde", birth_date=date))
    # Nor does it count as a date that the other side's could differ from.
    assert not names.is_dated((date,))
    assert names.is_dated((date, "1980"))


def test_a_month_without_a_day_says_the_year() -> None:
    one, other = (party("Ottokar Brunnhilde", birth_date=date) for date in ("1980-05", "1980"))
    assert asked_keys(one, ALL) == asked_keys(other, ALL)


@pytest.mark.parametrize(
    "name", ["a" * 10_000, "a b " * 5_000, "\ud7ff" * 400, "\u0300" * 400, "المحمد " * 300, "王" * 500]
)
def test_names_of_any_length_and_script_are_bounded(name: str) -> None:
    for kind in PartyKind:
        keys = held_keys(party(name, kind, country="DE"), ALL)
        assert len(keys) <= MAX_KEYS
        assert all(len(key.text) <= 4_000 for key, _ in keys)


def test_the_version_of_the_rules() -> None:
    assert names.NAME_RULES_VERSION == "cp-name-1"
