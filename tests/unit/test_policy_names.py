"""What policies say about names: what makes one a match, what cannot be agreed, and what a change of it newly allows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import rfc8785

from connector_psi import policy
from connector_psi.domain.naming.families import FAMILY_TABLE, Corroborator, FamilyGroup, NameFamily
from connector_psi.domain.naming.judging import Band, NameVerdict, Weights
from connector_psi.domain.naming.keys import HeldKey, NameKey, Shape
from connector_psi.domain.naming.shipped import load_shipped
from connector_psi.domain.purposes import CATEGORIES, HELD_BY, PURPOSES, ProfileRole, TokenFamily, name_groups
from connector_psi.domain.records import IdentifierType, TokenClass
from connector_psi.errors import ConfigError
from connector_psi.pack.checks import Severity, check_pack
from connector_psi.pack.diff import diff
from connector_psi.pack.matrix import sheets
from connector_psi.pack.reading import load_policy
from connector_psi.policy import EqualTokens, NameGroup, Names, PolicyPack, Template, Verdict, instantiate, judge_all

NODES = Path(__file__).resolve().parents[2] / "nodes"
C = Corroborator
PACK = load_policy(NODES / "ics2" / "policy.yaml")
TEMPLATES = {template.code: template for template in PACK.templates}
ARREST, CROSS_CHECK, OBJECTS = TEMPLATES["SIS-ARR"], TEMPLATES["EUR-XCHK"], TEMPLATES["SIS-OBJ"]
WEIGHTS = load_shipped("cp-names-1")
NAME = HeldKey(NameKey(NameFamily.PERSON_PAIR_SOUND, "a b", ("a", "b")), Shape(0))
COMPANY = HeldKey(NameKey(NameFamily.COMPANY_COUNTRY, "a BE", ("a",)), Shape(0))


def verdicts(*of_groups: tuple[Band, set[Corroborator]]) -> object:
    """Stands in for the model: what it says of persons' groups, in order; a later one has more points."""

    def judge(
        _weights: Weights, kind: TokenClass, groups: Sequence[Sequence[HeldKey]], _born: Sequence[bool]
    ) -> list[NameVerdict]:
        assert len(groups) == (len(of_groups) if kind is TokenClass.PERSON else 0)
        return [NameVerdict(band, float(n), frozenset(agrees)) for n, (band, agrees) in enumerate(of_groups)][
            : len(groups)
        ]

    return judge


def judged(
    monkeypatch: pytest.MonkeyPatch,
    *groups: tuple[Band, set[Corroborator]],
    exact: tuple[IdentifierType, ...] = (),
    template: Template = ARREST,
) -> policy.Judgement:
    monkeypatch.setattr(policy.judging, "judge", verdicts(*groups))
    agreement = instantiate(template, "sis", "ics2", synthetic=True)
    (found,) = judge_all(agreement, [EqualTokens(exact, (NameGroup((NAME,)),) * len(groups))], WEIGHTS)
    return found


@pytest.mark.parametrize("band", Band)
@pytest.mark.parametrize("agrees", [None, *Corroborator])
def test_what_is_enough_besides_a_name(
    monkeypatch: pytest.MonkeyPatch, band: Band, agrees: Corroborator | None
) -> None:
    """SIS-ARR: a city, a postcode or an identifier; where the name is very probably the same, also the country."""
    exact = (IdentifierType.VIN_LAST8,) if agrees is C.IDENTIFIER else ()
    found = judged(monkeypatch, (band, set() if agrees in {None, C.IDENTIFIER} else {agrees}), exact=exact)
    enough = {
        Band.POSSIBLE: {C.CITY, C.POSTCODE, C.IDENTIFIER},
        Band.STRONG: {C.CITY, C.POSTCODE, C.IDENTIFIER, C.COUNTRY},
    }
    if agrees in enough.get(band, set()):
        assert (found.verdict, found.group, found.band) == (Verdict.MATCH, 0, band)
        assert found.corroborators == (agrees,)
    else:
        weak = band is not Band.NOT_SHOWN or exact
        assert found == policy.Judgement(Verdict.WEAK if weak else Verdict.NONE)


def test_a_name_alone_is_never_a_match_whatever_a_policy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Names(weights="cp-names-1", possible_with=tuple(C), strong_with=tuple(C))
    template = ARREST.model_copy(update={"names": everything})
    assert judged(monkeypatch, (Band.STRONG, set()), template=template) == policy.Judgement(Verdict.WEAK)


def test_the_group_with_the_most_points_is_the_match_and_others_do_not_lend_it_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = judged(monkeypatch, (Band.STRONG, {C.CITY}), (Band.POSSIBLE, {C.CITY}), (Band.STRONG, set()))
    assert (found.group, found.band, found.corroborators) == (1, Band.POSSIBLE, (C.CITY,))


def test_an_identifier_that_suffices_needs_no_name_and_takes_one_along_only_where_it_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = (IdentifierType.CONTAINER,)
    assert judged(monkeypatch, (Band.WEAK, set()), exact=box) == policy.Judgement(Verdict.MATCH)
    found = judged(monkeypatch, (Band.POSSIBLE, set()), exact=box)
    assert (found.verdict, found.group, found.corroborators) == (Verdict.MATCH, 0, (C.IDENTIFIER,))


def test_a_type_that_the_agreement_does_not_name_corroborates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(monkeypatch, (Band.STRONG, set()), exact=(IdentifierType.IBAN,)) == policy.Judgement(Verdict.WEAK)


def test_keys_of_a_class_that_the_agreement_does_not_have_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.judging, "judge", verdicts())
    agreement = instantiate(ARREST, "sis", "ics2", synthetic=True)
    pairs = [EqualTokens((), (NameGroup((COMPANY,)),))]
    assert judge_all(agreement, pairs, WEIGHTS) == [policy.Judgement(Verdict.NONE)]


def test_an_agreement_without_names_judges_identifiers_alone() -> None:
    agreement = instantiate(OBJECTS, "ics2", "sis", synthetic=True)
    pairs = [EqualTokens((kind,)) for kind in (IdentifierType.CONTAINER, IdentifierType.VIN_LAST8)]
    assert [each.verdict for each in judge_all(agreement, pairs, None)] == [Verdict.MATCH, Verdict.WEAK]
    assert judge_all(agreement, [], None) == []


# The vocabulary


def test_families_of_a_policy_are_the_groups_of_name_families_and_exact() -> None:
    assert {family.value for family in TokenFamily} == {"exact", *(group.value for group in FamilyGroup)}
    assert {family.name for family in TokenFamily} == {"EXACT", *(group.name for group in FamilyGroup)}
    assert {rule.group for rule in FAMILY_TABLE.values()} == set(FamilyGroup)
    assert {rule.token_class for rule in FAMILY_TABLE.values()} == {TokenClass.PERSON, TokenClass.ORGANISATION}


def test_no_role_has_records_of_which_the_vocabulary_does_not_know() -> None:
    assert HELD_BY.keys() == set(ProfileRole)
    for prefixes in HELD_BY.values():
        for prefix in prefixes:
            assert any(category.startswith(prefix) for category in CATEGORIES), prefix


def test_what_a_source_cannot_yield_is_asked_by_nobody() -> None:
    named = CROSS_CHECK.querier_categories
    assert name_groups(ProfileRole.CUSTOMS, named) == {
        FamilyGroup.PERSON_NAME,
        FamilyGroup.COMPANY_NAME,
        FamilyGroup.NAME_PLACE,
        FamilyGroup.NAME_CONTACT,
    }, "no message of customs has a date of birth, and siena.* is not theirs"
    assert name_groups(ProfileRole.NATIONAL_UNIT, named) == set(FamilyGroup)
    assert name_groups(ProfileRole.NSIS, ("sis.26",)) == frozenset()
    assert name_groups(ProfileRole.CUSTOMS, ("csm.event",)) == frozenset()
    assert FamilyGroup.NAME_CONTACT not in name_groups(ProfileRole.NSIS, ("sis.26", "sis.person.26"))
    assert FamilyGroup.COMPANY_NAME not in name_groups(ProfileRole.NSIS, ("sis.26", "sis.person.26"))


# What a policy may say


def errors(template: Template, **changes: object) -> list[str]:
    changed = template.model_copy(update=changes)
    return [
        f"{finding.key}: {finding.text}"
        for finding in check_pack(PolicyPack(1, (changed,)))
        if finding.severity is Severity.ERROR
    ]


def families(*words: str) -> tuple[TokenFamily, ...]:
    return tuple(sorted(map(TokenFamily, words)))


def with_names(**changes: object) -> Names:
    assert ARREST.names is not None
    return ARREST.names.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"families": families("exact")}, ["names: what makes", "classes: every class needs"]),
        ({"names": None}, ["names: what makes"]),
        ({"names": with_names(possible_with=(), strong_with=())}, ["names: a name alone is never a match"]),
        ({"names": with_names(possible_with=(C.BIRTH_DATE,), strong_with=())}, ["names: nothing of what"]),
        ({"names": with_names(possible_with=(C.COUNTRY,))}, ["names.possible_with: country"]),
        ({"names": with_names(weights="cp-names-0")}, ["names.weights: a version"]),
        ({"families": families("person_name", "name_place")}, ["families: identifiers are matched"]),
        ({"families": families("exact", "company_name", "person_name")}, ["families: company_name", "classes: every"]),
        ({"families": families("exact", "name_place")}, ["families: name_place and name_contact go", "classes: every"]),
        ({"families": families("exact", "person_birth")}, ["families: person_birth goes"]),
        ({"classes": (TokenClass.OBJECT,)}, ["classes: every", "capacity: every"]),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_an_error(changes: dict[str, object], expected: list[str]) -> None:
    found = errors(ARREST, **changes)
    assert len(found) == len(expected), found
    for text, start in zip(found, expected, strict=True):
        assert text.startswith(start)


def test_names_are_not_asked_with_for_a_purpose_that_has_none() -> None:
    assert [code for code, t in TEMPLATES.items() if PURPOSES[t.purpose].names] == [
        "CIS-FRAUD", "EUR-XCHK", "LEA-CASE", "SIS-ARR", "SIS-CHK", "SIS-JUD", "SIS-MIS",
    ]  # fmt: skip
    changes = {
        "families": families("exact", "person_name"),
        "classes": (TokenClass.OBJECT, TokenClass.PERSON),
        "names": ARREST.names,
        "capacity": ARREST.capacity,
    }
    assert errors(OBJECTS, **changes) == ["families: person_name: never asked with for this purpose"]


@pytest.mark.parametrize("missing", ["possible_with", "strong_with", "weights"])
def test_no_part_of_the_rule_may_be_left_out_and_there_is_no_word_for_a_name_alone(
    tmp_path: Path, missing: str
) -> None:
    text = (NODES / "sis" / "policy.yaml").read_text()
    rule = "{weights: cp-names-1, possible_with: [city, identifier, postcode], strong_with: [country]}"
    assert rule in text
    parts = {
        "possible_with": "possible_with: [city, identifier, postcode], ",
        "weights": "weights: cp-names-1, ",
        "strong_with": ", strong_with: [country]",
    }
    path = tmp_path / "policy.yaml"
    for changed in (
        rule.replace(parts[missing], ""),
        rule.replace("[country]", "[none]"),
        rule.replace("[country]", "none"),
    ):
        path.write_text(text.replace(rule, changed))
        with pytest.raises(ConfigError):
            load_policy(path)


def test_an_agreement_without_names_has_the_hash_that_it_had_before_there_were_any() -> None:
    agreement = instantiate(OBJECTS, "ics2", "sis", synthetic=True)
    before = {key: value for key, value in agreement.model_dump(mode="json").items() if key not in {"names", "edition"}}
    assert policy.policy_hash(agreement) == hashlib.sha256(rfc8785.dumps(before)).digest()
    named = instantiate(ARREST, "sis", "ics2", synthetic=True)
    laxer = named.model_copy(update={"names": with_names(strong_with=(C.BIRTH_YEAR, C.COUNTRY))})
    assert policy.policy_hash(named) != policy.policy_hash(laxer)
    stored = policy.Agreement.model_validate_json(agreement.model_dump_json())
    assert policy.policy_hash(stored) == policy.policy_hash(agreement)


# What a change of it means


def changes_of(old: Template, **changes: object) -> list[tuple[str, str, bool]]:
    new = old.model_copy(update=changes)
    return [(c.key, c.kind.value, c.widens) for c in diff(PolicyPack(1, (old,)), PolicyPack(1, (new,)))]


def test_a_laxer_rule_newly_allows_and_a_stricter_one_does_not() -> None:
    assert changes_of(ARREST, names=with_names(strong_with=(C.BIRTH_YEAR, C.COUNTRY))) == [
        ("names.strong_with.birth_year", "newly_allows", True)
    ]
    assert changes_of(ARREST, names=with_names(possible_with=(C.CITY,))) == [
        ("names.possible_with.identifier", "no_longer_allows", False),
        ("names.possible_with.postcode", "no_longer_allows", False),
    ]
    assert changes_of(ARREST, names=with_names(weights="cp-names-2")) == [("names.weights", "changes", True)]
    assert changes_of(ARREST, names=None, families=families("exact")) == [
        ("families.name_place", "no_longer_allows", False),
        ("families.person_name", "no_longer_allows", False),
        ("names", "no_longer_allows", False),
    ]
    without = ARREST.model_copy(update={"names": None})
    assert changes_of(without, names=ARREST.names) == [("names", "newly_allows", True)]


def test_people_read_how_names_are_matched() -> None:
    told = {sheet.code: dict(sheet.facts)["Names"] for sheet in sheets([PACK]) if not sheet.own_node}
    assert told["SIS-OBJ"] == "no names"
    assert told["SIS-ARR"] == (
        "names with a country, a city or a postcode; names of persons. A match is: possibly the same name, and its city, "
        "identifier of the same record or postcode agrees, or very probably the same name, and its country agrees. A name "
        "alone is counted and never shown (weights cp-names-1)"
    )
