"""Which tokens a record has under an agreement, and how equal ones are grouped."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from connector_psi.audit.entries import Side
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.domain.names import NAME_RULES_VERSION
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup, NameFamily
from connector_psi.domain.naming.keys import NameKey
from connector_psi.domain.purposes import ProfileRole, TokenFamily
from connector_psi.domain.records import Identifier, IdentifierType, Party, PartyKind, Record, SourceSystem, TokenClass
from connector_psi.encoding.tickets import MAX_PART
from connector_psi.pack.reading import load_policy
from connector_psi.policy import Agreement, instantiate
from connector_psi.protocol import tokens
from connector_psi.protocol.messages import encode_token
from connector_psi.protocol.tokens import Token, encode_key, equal_tokens, family_numbers, name_groups, record_tokens

POLICY = Path(__file__).resolve().parents[3] / "nodes" / "ics2" / "policy.yaml"
SOMEBODY = Party("consignee", PartyKind.UNKNOWN, "Joris Pieter Vandermeulen", "/c", country="BE", city="Gent")
BOX = Identifier(IdentifierType.CONTAINER, "CSQU3054383", "/box")
ALL = frozenset(FamilyGroup)


def agreement(code: str) -> Agreement:
    (template,) = [t for t in load_policy(POLICY).templates if t.code == code]
    return instantiate(template, "learner", "holder", synthetic=True)


def record(*parties: Party, identifiers: tuple[Identifier, ...] = (BOX,)) -> Record:
    return Record(SourceSystem.ICS2, "M1", "ics2.ens", identifiers, {}, bytes(32), parties=parties)


def test_identifiers_come_first_and_belong_to_the_record_as_a_whole() -> None:
    found = record_tokens(agreement("EUR-XCHK"), record(SOMEBODY), Side.QUERIER, ALL)
    value = encode_token(NORMALISATION_VERSION, IdentifierType.CONTAINER, BOX.value)
    assert found[0] == Token(value, TokenClass.OBJECT, 1, IdentifierType.CONTAINER)
    assert all(token.key is not None and token.part == 1 and token.shape == 0 for token in found[1:])
    assert {token.token_class for token in found[1:]} == {TokenClass.PERSON, TokenClass.ORGANISATION}


def test_an_agreement_without_names_has_identifiers_alone() -> None:
    terms = agreement("SIS-OBJ")
    assert name_groups(terms, ProfileRole.CUSTOMS) == frozenset()
    assert [t.kind for t in record_tokens(terms, record(SOMEBODY), Side.OWNER, ())] == [IdentifierType.CONTAINER]
    assert max(family_numbers(terms, ())) < 64


def test_families_and_classes_of_the_agreement_bound_what_is_asked_and_held() -> None:
    for side in Side:
        found = record_tokens(agreement("SIS-ARR"), record(replace(SOMEBODY, birth_date="1980-05-17")), side, ALL)
        words = {token.word for token in found}
        assert words == {"container", "person_birth", "person_name", "name_place"}, "the groups are the caller's"
        assert {token.token_class for token in found} == {TokenClass.OBJECT, TokenClass.PERSON}
        places = {token.kind for token in found if token.word == "name_place"}
        assert places == {NameFamily.PERSON_COUNTRY, NameFamily.PERSON_CITY}, "no place of a company without its names"


def test_the_querier_and_the_owner_come_to_the_same_groups_and_numbers() -> None:
    terms = agreement("EUR-XCHK")
    customs, unit = (name_groups(terms, role) for role in (ProfileRole.CUSTOMS, ProfileRole.NATIONAL_UNIT))
    assert unit - customs == {FamilyGroup.PERSON_BIRTH}
    assert name_groups(terms, None) == terms.name_groups == unit
    birth = {rule.number for rule in FAMILY_TABLE.values() if rule.group is FamilyGroup.PERSON_BIRTH}
    assert set(family_numbers(terms, unit)) - set(family_numbers(terms, customs)) == birth
    fewer = terms.model_copy(update={"families": (TokenFamily.EXACT, TokenFamily.PERSON_NAME)})
    assert name_groups(fewer, ProfileRole.CUSTOMS) == {FamilyGroup.PERSON_NAME}


def test_a_name_of_two_parties_gives_a_token_for_each_and_a_repeated_identifier_one() -> None:
    twice = record(
        SOMEBODY, replace(SOMEBODY, role="notifyParty"), identifiers=(BOX, replace(BOX, source_path="/other"))
    )
    found = record_tokens(agreement("EUR-XCHK"), twice, Side.OWNER, ALL)
    assert sum(token.kind is IdentifierType.CONTAINER for token in found) == 1
    parts = {part: {t.value for t in found if t.part == part} for part in (1, 2)}
    assert parts[1] == parts[2]
    assert len({(t.value, t.part) for t in found}) == len(found)
    grouped = equal_tokens(found)
    assert grouped.exact == (IdentifierType.CONTAINER,)
    assert [len(group.keys) for group in grouped.groups] == [len(parts[1]), len(parts[2])]


def test_parties_beyond_what_a_ticket_can_number_are_left_out_and_counted() -> None:
    many = record(*(replace(SOMEBODY, role=f"party{n}") for n in range(MAX_PART + 2)))
    found = record_tokens(agreement("SIS-ARR"), many, Side.OWNER, ALL)
    assert max(token.part for token in found) == MAX_PART
    assert (tokens.left_out(many), tokens.left_out(record(SOMEBODY))) == (2, 0)


def test_a_name_key_has_the_version_of_its_own_rules_and_fits_whatever_its_length() -> None:
    key = NameKey(NameFamily.PERSON_PAIR_SOUND, "a b", ("a", "b"))
    assert encode_key(key) == encode_token(NAME_RULES_VERSION, NameFamily.PERSON_PAIR_SOUND, "a b")
    long = "a" * 600
    digest = hashlib.sha256(long.encode()).hexdigest()
    assert encode_key(key._replace(text=long)) == encode_key(key._replace(text=digest))


def test_nothing_of_a_name_shows_in_what_is_printed() -> None:
    (*_, token) = record_tokens(agreement("SIS-ARR"), record(SOMEBODY), Side.OWNER, ALL)
    assert "vandermeulen" not in repr(token).lower()
    assert "vndrmln" not in repr(token).lower()
    assert "svndrmln" not in repr(equal_tokens([token])).lower()


@pytest.mark.parametrize("groups", [frozenset({FamilyGroup.NAME_PLACE}), frozenset()])
def test_a_place_without_names_is_no_family(groups: frozenset[FamilyGroup]) -> None:
    assert max(family_numbers(agreement("EUR-XCHK"), groups)) < 64
