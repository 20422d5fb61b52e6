"""How names of persons are read, and the keys they give. Every name is invented."""

from __future__ import annotations

import pytest

from connector_psi.domain.naming import persons
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup, NameFamily
from connector_psi.domain.naming.keys import Shape
from connector_psi.domain.naming.persons import MAX_KEYS, Role, canonical, person_keys


def parts(name: str) -> set[str]:
    return {part.text for part in canonical(name).parts}


def keys(name: str, *births: str, held: bool = False) -> set[tuple[str, str]]:
    return {(key.family, key.text) for key in person_keys(name, births, held=held)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Abd al-Rahman Zoltani", "Abdulrahman ZOLTANI"),
        ("Abdel Rahman Zoltani", "ZOLTANI, Abd-ar-Rahman"),
        ("Taj al-Din Zoltani", "Tajuddin Zoltani"),
        ("Tajeddine Zoltani", "Zoltani Taj ad-Din"),
        ("Mohammed Zoltani", "Muhamad Zoltani"),
        ("Mohd. Zoltani", "Mahomed Zoltani"),
        ("Sheikh Dr. Zoltan al-Quvari", "Zoltan Quvari"),
        ("von der Brunnhilde, Ottokar", "Ottokar Brunnhilde"),
        ("Vladimir Petrovich Zubkin", "Uladzimir Piatrovich ZUBKIN"),
        ("Herasimau Mikalai Ivanavich", "Nikolay Ivanovich Gerasimov"),
        ("Hanna Mikhailauna Zubkina", "Anna Mihajlovna Zubkina"),
        ("Zubkina Anna Mikhaylovna", "ZUBKINA, Anna Mikhailovna"),
    ],
)
def test_writings_of_one_name_have_equal_wholes(one: str, other: str) -> None:
    whole = NameFamily.PERSON_WHOLE_SKELETON
    assert {key for key in keys(one) if key[0] == whole} & {key for key in keys(other) if key[0] == whole}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ottokar Brunnhilde", "Ludmilla Zubkina"),
        ("Aleksandr Brunnhilde", "Albertina Brunnhilde"),
        ("Zoltan Quvari", "Zoltan Mirzapour"),
    ],
)
def test_other_names_share_no_key_of_the_name(one: str, other: str) -> None:
    assert not keys(one) & keys(other)


def test_the_writing_shows_which_part_is_a_surname() -> None:
    assert [(p.text, p.role) for p in canonical("BRUNNHILDE, Ottokar").parts] == [
        ("brunnhilde", Role.SURNAME),
        ("ottokar", Role.FORENAME),
    ]
    assert [p.role for p in canonical("Ottokar BRUNNHILDE").parts] == [Role.FORENAME, Role.SURNAME]
    assert {p.role for p in canonical("OTTOKAR BRUNNHILDE").parts} == {Role.UNKNOWN}
    assert {p.role for p in canonical("Ottokar Brunnhilde").parts} == {Role.UNKNOWN}


def test_what_is_no_part_is_told() -> None:
    read = canonical("Prof. Dr. Ottokar J. van Brunnhilde")
    assert [part.text for part in read.parts] == ["ottokar", "brunnhilde"]
    assert read.dropped == ("prof", "dr", "j", "van")


@pytest.mark.parametrize("name", ["", "  ", "-", "Dr.", "()", ",", "J. K.", "\u200f", "7"])
def test_a_name_without_parts_has_no_keys(name: str) -> None:
    assert not keys(name)


def test_one_part_alone_is_never_a_key() -> None:
    assert not keys("Brunnhilde")
    assert {FAMILY_TABLE[family].group for family, _ in keys("Brunnhilde", "1980-05-17")} == {FamilyGroup.PERSON_BIRTH}


def test_order_does_not_matter() -> None:
    def of_all_pairs(name: str) -> set[tuple[str, str]]:
        return {key for key in keys(name) if key[0] != NameFamily.PERSON_PAIR_SOUND}

    assert of_all_pairs("Ottokar Brunnhilde Zoltani") == of_all_pairs("Brunnhilde Zoltani Ottokar")
    assert keys("Ottokar Brunnhilde") == keys("BRUNNHILDE, Ottokar")


def test_day_and_month_meet_in_either_order() -> None:
    day = NameFamily.PERSON_BIRTH_DAY
    one, other = keys("Ottokar Brunnhilde", "1980-05-03"), keys("Ottokar Brunnhilde", "1980-03-05")
    assert {k for k in one if k[0] == day} == {k for k in other if k[0] == day} != set()


def test_a_year_gives_keys_of_the_year_alone() -> None:
    found = {family for family, _ in keys("Ottokar Brunnhilde", "1980")} - {
        family for family, _ in keys("Ottokar Brunnhilde")
    }
    assert found == {NameFamily.PERSON_BIRTH_YEAR}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "Ottokar Brunnhilde",
        "Ottokar Ludwig Brunnhilde",
        "Ottokar Ludwig Maria Brunnhilde Zoltani",
        "Abd al-Rahman Muhammad Zoltan Quvari Mirzapour Hamdani Tikvari Salmani Rostami",
    ],
)
def test_no_name_has_more_keys_than_its_budget(name: str, held: bool) -> None:
    found = person_keys(name, ["1980-05-17"], held=held)
    assert 0 < len(found) <= MAX_KEYS
    assert list(found) == list(person_keys(name, ["1980-05-17"], held=held))


def test_the_owner_says_what_of_the_name_a_key_is() -> None:
    held = {
        (key.family, key.text): shape for key, shape in person_keys("BRUNNHILDE, Ottokar Ludwig", (), held=True).items()
    }
    asked = keys("Ottokar Brunnhilde")
    assert {held[key] for key in asked if key in held} == {Shape.CORE}
    assert {held[key] for key in keys("Ludwig Brunnhilde") if key in held} == {Shape.OTHER}
    two = {(key.family, key.text): shape for key, shape in person_keys("BRUNNHILDE, Ottokar", (), held=True).items()}
    assert set(two.values()) == {Shape(0)}


def test_a_declared_name_of_two_parts_is_a_whole_within_a_longer_one() -> None:
    whole = NameFamily.PERSON_WHOLE_SKELETON
    shared = keys("Ottokar Brunnhilde") & keys("BRUNNHILDE, Ottokar Ludwig", held=True)
    assert whole in {family for family, _ in shared}
    assert whole not in {family for family, _ in keys("Ottokar Brunnhilde") & keys("BRUNNHILDE, Ottokar Ludwig")}


def test_texts_are_ascii_and_say_their_words() -> None:
    for key in person_keys("Øystein Ünlü-Šćepanović", ["1980-05-17"], held=True):
        assert key.text.isascii()
        assert all(word in key.text for word in key.keys)


def test_parts_of_other_scripts_are_compared_by_all_readings() -> None:
    assert persons.part_encodings("Зубкин") & persons.part_encodings("Zubkin")
