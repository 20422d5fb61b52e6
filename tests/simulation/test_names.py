"""Names from a record to a disclosure, between real nodes: never by a name alone, and never by the keys of two parties together.

All names are invented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_psi import policy
from connector_psi.disclosure import CaseState
from connector_psi.domain.naming.families import FAMILY_TABLE, Corroborator, FamilyGroup, NameFamily
from connector_psi.domain.naming.judging import Band, NameVerdict, Weights
from connector_psi.domain.naming.keys import HeldKey
from connector_psi.domain.records import (
    Field,
    Identifier,
    IdentifierType,
    Party,
    PartyKind,
    Record,
    SourceSystem,
    TokenClass,
)
from connector_psi.encoding import manifest as manifests
from connector_psi.encoding.tickets import FIRST_NAME_FAMILY, make_redeem
from connector_psi.errors import ProtocolError
from connector_psi.node.node import OWNER, QUERIER
from connector_psi.node.publishing import case_keys
from connector_psi.protocol import tokens
from connector_psi.storage import owned, queried, records
from connector_psi.storage.queried import MatchRow
from tests.privacy.staging import container
from tests.simulation.federation import Federation, declaration, person

ARREST, CROSS_CHECK = "SIS-ARR:sis-ics2", "EUR-XCHK:ics2-europol"
WANTED = Party(
    "subject", PartyKind.PERSON, "Vandermeulen, Joris Pieter", "$.person",
    birth_date="1980-05-17", nationalities=("BE",), country="BE",
)  # fmt: skip


def declared(ref: str, *parties: Party, **known: Any) -> Record:
    return replace(declaration(ref), parties=parties, **known)


def party(
    name: str, country: str = "", city: str = "", role: str = "consignee", kind: PartyKind = PartyKind.UNKNOWN
) -> Party:
    return Party(role, kind, name, f"/declaration/{role}", country=country, city=city)


def wanted(ref: str, *parties: Party, category: str = "sis.person.26") -> Record:
    digest = hashlib.sha256(ref.encode()).digest()
    return Record(SourceSystem.SIS, ref, category, (), {}, digest, parties=parties)


def known_to_europol(ref: str, *parties: Party, category: str = "eis.person", **known: Any) -> Record:
    fields = {
        Field.NAMES: tuple(p.name for p in parties),
        Field.HANDLING_CODES: ("H0",),
        Field.SUBJECT_CLASS: ("suspect",),
    }
    digest = hashlib.sha256(ref.encode()).digest()
    return Record(SourceSystem.EIS, ref, category, (), fields, digest, parties=parties, **known)


@contextmanager
def running(root: Path, *profiles: str) -> Iterator[Federation]:
    federation = Federation(root, profiles=profiles)
    try:
        yield federation
    finally:
        federation.close()


def take_in(federation: Federation, **held: Sequence[Record]) -> None:
    for code, found in held.items():
        federation.services[code].registration.register(found, "test")
    federation.settle()


def matches(federation: Federation, code: str) -> list[MatchRow]:
    querier = code.partition(":")[2].partition("-")[0]
    return [row for row in federation.services[querier].review.list() if row.agreement == code]


def weak(federation: Federation, code: str) -> int:
    querier = code.partition(":")[2].partition("-")[0]
    agreements = federation.services[querier].status()["agreements"]
    assert isinstance(agreements, list)
    (line,) = [each for each in agreements if each["agreement"] == code]
    return int(line["weak_matches"])


def open_case(federation: Federation, match: MatchRow) -> bytes:
    """An officer confirms a match and asks about it."""
    node = federation.services[match.agreement.partition(":")[2].partition("-")[0]]
    terms = node.node.bound(match.agreement, QUERIER).agreement
    node.review.decide(match.match_id, person(terms.querier), "the same person", confirm=True)
    row = node.asked.open(
        match.match_id,
        person(terms.querier),
        purpose=terms.purpose.value,
        legal_basis=terms.legal_basis[0].value,
        case_reference="CASE-1",
        justification="the same person is to arrive",
    )
    return row.request_id


def claim(federation: Federation, match: MatchRow, held: Sequence[tokens.Token]) -> None:
    """Let the querier claim other tokens of the owner's record than those that it matched."""
    terms = policy_of(federation, match.agreement)
    owner = federation.services[terms.owner].node
    with owner.store.read() as tx:
        row = owned.get_epoch(tx, match.agreement, match.epoch)
    assert row is not None
    _, k_redeem = case_keys(owner, row)
    codes = [make_redeem(k_redeem, bytes.fromhex(match.payload["ticket_id"]), each.value).hex() for each in held]
    store = federation.services[terms.querier].node.store
    with store.write() as tx:
        queried.set_match_state(store, tx, match.match_id, match.state, {**match.payload, "redeem": codes})


def policy_of(federation: Federation, code: str) -> policy.Agreement:
    querier = code.partition(":")[2].partition("-")[0]
    return federation.services[querier].node.bound(code, QUERIER).agreement


def held_tokens(federation: Federation, code: str, ref: str) -> list[tokens.Token]:
    """What the owner publishes of its record."""
    node = federation.services[policy_of(federation, code).owner].node
    with node.store.read() as tx:
        found = [r for chunk in records.live_by_id(node.store, tx, 0) for r in chunk if r.record.source_ref == ref]
    (stored,) = found
    return node.tokens(node.bound(code, OWNER), stored.record)


def corroborates(token: tokens.Token) -> bool:
    assert token.key is not None
    return FAMILY_TABLE[token.key.family].corroborates is not None


# With the names and the weights that are shipped


def test_a_wanted_person_is_found_by_name_and_place_and_never_by_name_alone(tmp_path: Path) -> None:
    with running(tmp_path, "ics2", "sis") as federation:
        take_in(
            federation,
            ics2=[
                declared(
                    "M1", party("Annelies Desmedt", "BE", role="consignor"), party("Joris Pieter Vandermeulen", "BE")
                ),
                declared("M2", party("Joris Pieter Vandermeulen", "PT")),
                declared("M3", party("Wouter Hendrickx", "BE")),
            ],
            sis=[wanted("A1", WANTED), wanted("A2", WANTED, category="sis.person.24")],
        )
        (match,) = matches(federation, ARREST)
        assert match.payload["record_ref"] == "A1"
        assert match.payload["types"] == ["name_place", "person_name"]
        assert match.payload["evidence"] == [
            ["name_place", "$.person", "subject"],
            ["person_name", "$.person", "subject"],
        ]
        assert (match.payload["band"], match.payload["corroborators"]) == ("strong", ["country"])
        assert weak(federation, ARREST) == 1, "the same name in another country is counted"
        case = open_case(federation, match)
        federation.settle(rounds=24, step_s=5)
        view = federation.services["sis"].cases.get(case)
        assert (view.row.state, dict(view.fields)) == (CaseState.DISCLOSED, {"mrn": ("M1",)})
        assert (view.row.payload["band"], view.row.payload["corroborators"]) == ("strong", ["country"])
        assert federation.services["ics2"].cases.list() == [], "customs sees nothing of it"
        written = [path.read_bytes().lower() for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(b"andermeulen" in raw or b"svndrmln" in raw for raw in written), "neither a name nor a key of it"


def test_persons_and_companies_are_cross_checked_and_the_owner_judges_again(tmp_path: Path) -> None:
    company = party("Zandvliet Vrachtlogistiek BV", "NL", "Vlissingen", "carrier", PartyKind.ORGANISATION)
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(
            federation,
            ics2=[
                declared("M1", party("Joris Pieter Vandermeulen", "BE", "Gent")),
                declared("M2", company),
                declared("M3", replace(company, country="PT", city="Faro")),
            ],
            europol=[
                known_to_europol("P1", replace(WANTED, city="Gent")),
                known_to_europol("C1", replace(company, name="ZANDVLIET VRACHTLOGISTIEK B.V."), category="eis.company"),
            ],
        )
        found = {match.payload["record_ref"]: match for match in matches(federation, CROSS_CHECK)}
        assert found.keys() == {"M1", "M2"}
        assert found["M1"].payload["types"] == ["name_place", "person_name"]
        assert found["M2"].payload["types"] == ["company_name", "name_place"]
        assert "city" in found["M2"].payload["corroborators"]
        cases = {ref: open_case(federation, match) for ref, match in found.items()}
        federation.settle()
        owner = federation.services["europol"]
        for view in owner.cases.list():
            assert "name_place" in view.row.payload["types"]
            assert (view.row.payload["band"], view.row.payload["judged"]) == ("strong", "approval_missing")
            owner.received.decide(view.row.request_id, person("europol"), "the same", approve=True)
        federation.settle(rounds=12, step_s=5)
        for ref, case in cases.items():
            view = federation.services["ics2"].cases.get(case)
            assert view.row.state == CaseState.DISCLOSED, ref
            assert "names" in view.fields


def test_a_contact_of_the_same_party_corroborates_a_name_and_one_of_another_does_not(tmp_path: Path) -> None:
    """Two mailboxes of one firm are two identifiers; the firm's domain with the firm's name is what both sides know."""

    def mail(value: str, role: str) -> Identifier:
        return Identifier(IdentifierType.EMAIL, value, f"/{role}/email", role)

    firm = Party("subject", PartyKind.ORGANISATION, "Kwyzibo Maritime Trading BV", "$.company")
    held = replace(
        known_to_europol("E1", firm, category="eis.company"), identifiers=(mail("ops@kwyzibo.example", "subject"),)
    )
    own, other = party("KWYZIBO MARITIME TRADING"), party("Ostermeier Blom", role="consignor")
    asked = [
        declared("M1", own, other, identifiers=(mail("import@kwyzibo.example", "consignee"),)),
        declared("M2", own, other, identifiers=(mail("import@kwyzibo.example", "consignor"),)),
        declared("M3", own, other),
    ]
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(federation, europol=[held], ics2=asked)
        (found,) = matches(federation, CROSS_CHECK)
        assert found.payload["record_ref"] == "M1"
        assert found.payload["types"] == ["company_name", "name_contact"]
        assert found.payload["corroborators"] == [Corroborator.EMAIL_DOMAIN.value]
        assert weak(federation, CROSS_CHECK) == 2


@pytest.mark.parametrize("what", ["names alone", "a place alone"])
def test_a_querier_that_claims_less_than_the_rule_is_told_nothing(tmp_path: Path, what: str) -> None:
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(
            federation,
            ics2=[declared("M1", party("Joris Pieter Vandermeulen", "BE", "Gent"))],
            europol=[known_to_europol("P1", replace(WANTED, city="Gent"))],
        )
        (match,) = matches(federation, CROSS_CHECK)
        held = held_tokens(federation, CROSS_CHECK, "P1")
        claim(federation, match, [t for t in held if corroborates(t) is (what == "a place alone")][:4])
        case = open_case(federation, match)
        federation.settle()
        (view,) = federation.services["europol"].cases.list()
        assert (view.row.state, view.row.payload["judged"]) == ("auto_refused", "record_unavailable")
        federation.clock.advance(federation.services["ics2"].node.config.disclosure.not_disclosed_after_s)
        federation.settle(rounds=8)
        assert federation.services["ics2"].cases.get(case).row.state == CaseState.NOT_DISCLOSED


def test_one_name_of_two_parties_is_one_match_that_one_claim_proves(tmp_path: Path) -> None:
    twice = [party("Joris Pieter Vandermeulen", "BE", "Gent", role) for role in ("consignor", "consignee")]
    with running(tmp_path, "ics2", "sis") as federation:
        take_in(federation, ics2=[declared("M1", *twice)], sis=[wanted("A1", WANTED)])
        (match,) = matches(federation, ARREST)
        assert len(set(match.payload["redeem"])) == len(match.payload["redeem"])
        parts = {t.part for t in held_tokens(federation, ARREST, "M1")}
        assert parts == {1, 2}
        case = open_case(federation, match)
        federation.settle(rounds=24, step_s=5)
        assert federation.services["sis"].cases.get(case).row.state == CaseState.DISCLOSED


def test_a_set_for_customs_has_no_family_with_a_date_of_birth(tmp_path: Path) -> None:
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(federation, europol=[known_to_europol("P1", WANTED)])
        publishing = federation.services["europol"].publishing
        manifest = manifests.parse_manifest(publishing.get_manifest("ics2", CROSS_CHECK).manifest)
        birth = {rule.number for rule in FAMILY_TABLE.values() if rule.group is FamilyGroup.PERSON_BIRTH}
        numbers = {rule.number for rule in FAMILY_TABLE.values()}
        assert birth.isdisjoint(manifest.families)
        assert {n for n in manifest.families if n >= FIRST_NAME_FAMILY} == numbers - birth
        held = held_tokens(federation, CROSS_CHECK, "P1")
        assert {t.family for t in held} <= set(manifest.families)
        assert {t.word for t in held} == {"name_place", "person_name"}
        assert not any(t.shape & 4 for t in held), "nor does a ticket say that there is a date"


@pytest.mark.parametrize("what", ["weights", "rules"])
def test_a_set_of_other_weights_or_rules_of_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with running(tmp_path, "ics2", "europol") as federation:
        federation.services["europol"].registration.register([known_to_europol("P1", WANTED)], "test")
        service = federation.services["europol"]
        federation.clock.advance(2)
        service.tick_publish()
        service.tick_log()
        if what == "weights":
            other = replace(tokens.load_shipped("cp-names-1"), digest=bytes(32))
            monkeypatch.setattr(tokens, "load_shipped", lambda _version: other)
        else:
            monkeypatch.setattr("connector_psi.node.publishing.NAME_RULES_VERSION", "cp-name-0")
        querying = federation.services["ics2"].querying
        with pytest.raises(ProtocolError, match="other rules or weights of names"):
            querying.take_newest(CROSS_CHECK)
        monkeypatch.undo()
        assert querying.take_newest(CROSS_CHECK)


def test_parties_that_a_ticket_cannot_number_are_counted_and_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_PART", 1)
    three = [party(name, "BE") for name in ("Wouter Hendrickx", "Annelies Desmedt", "Joris Pieter Vandermeulen")]
    with running(tmp_path, "ics2", "sis") as federation:
        federation.services["ics2"].registration.register([declared("M1", *three)], "test")
        assert federation.services["ics2"].publishing.publish(ARREST).parties_left_out == 2
        take_in(federation, sis=[wanted("A1", WANTED)])
        assert matches(federation, ARREST) == []


# With a judge that counts, so that what is grouped shows


def counting(least: int) -> Any:
    """Stands in for the model: so many equal keys of a name are strong, fewer are nothing."""

    def judge(
        _weights: Weights, kind: TokenClass, groups: Sequence[Sequence[HeldKey]], born: Sequence[bool]
    ) -> list[NameVerdict]:
        found = []
        for group in groups:
            rules = [FAMILY_TABLE[held.key.family] for held in group]
            count = sum(rule.corroborates is None and rule.token_class is kind for rule in rules)
            agrees = frozenset(rule.corroborates for rule in rules if rule.corroborates is not None)
            band = Band.STRONG if count >= least else Band.NOT_SHOWN
            found.append(NameVerdict(band, float(count - least), agrees))
        return found

    return judge


MANY, FEW = "Joris Pieter Vandermeulen", "Pieter Vandermeulen"


def name_keys(code: str, federation: Federation, ref: str, part: int) -> list[tokens.Token]:
    return [t for t in held_tokens(federation, code, ref) if t.part == part and not corroborates(t)]


def test_keys_of_two_parties_of_the_owner_never_make_a_match_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many keys of the consignor's name without a place, and the place with few of the consignee's."""
    consignor, consignee = party(MANY, "PT", role="consignor"), party(FEW, "BE", role="consignee")
    with running(tmp_path, "ics2", "sis") as federation:
        take_in(federation, ics2=[declared("M1", consignor, consignee)])
        asked = {t.value for t in tokens.record_tokens(
            policy_of(federation, ARREST), wanted("A1", WANTED), QUERIER, FamilyGroup
        )}  # fmt: skip
        both = [[t for t in name_keys(ARREST, federation, "M1", part) if t.value in asked] for part in (1, 2)]
        assert len(both[0]) > len(both[1]) > 0
        monkeypatch.setattr(policy.judging, "judge", counting(len(both[1]) + 1))
        take_in(federation, sis=[wanted("A1", WANTED)])
        assert matches(federation, ARREST) == []
        assert weak(federation, ARREST) == 1


def test_keys_of_two_parties_of_the_querier_never_make_a_match_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consignor, consignee = party(MANY, "PT", role="consignor"), party(FEW, "BE", role="consignee")
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(federation, europol=[known_to_europol("P1", WANTED)])
        held = {t.value for t in name_keys(CROSS_CHECK, federation, "P1", 1)}
        asked = tokens.record_tokens(
            policy_of(federation, CROSS_CHECK), declared("M1", consignor, consignee), QUERIER, FamilyGroup
        )
        both = [[t for t in asked if t.part == part and t.value in held] for part in (1, 2)]
        assert len(both[0]) > len(both[1]) > 0
        monkeypatch.setattr(policy.judging, "judge", counting(len(both[1]) + 1))
        take_in(federation, ics2=[declared("M1", consignor, consignee)])
        assert matches(federation, CROSS_CHECK) == []
        assert weak(federation, CROSS_CHECK) == 1
        take_in(federation, ics2=[declared("M2", replace(consignor, country="BE"))])
        assert [m.payload["record_ref"] for m in matches(federation, CROSS_CHECK)] == ["M2"]


def test_a_claim_of_keys_of_two_parties_is_no_match_at_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner holds both; a querier that claims the names of one and the place of the other gets nothing."""
    first = replace(WANTED, country="PT", nationalities=())
    second = Party("associate", PartyKind.PERSON, "Desmedt, Annelies", "$.other", country="BE", city="Gent")
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(
            federation,
            europol=[known_to_europol("P1", first, second)],
            ics2=[declared("M1", party("Annelies Desmedt", "BE", "Gent"))],
        )
        (match,) = matches(federation, CROSS_CHECK)
        held = held_tokens(federation, CROSS_CHECK, "P1")
        names_of_first = [t for t in held if t.part == 1 and not corroborates(t)]
        places_of_second = [t for t in held if t.part == 2 and corroborates(t)]
        monkeypatch.setattr(policy.judging, "judge", counting(2))
        claim(federation, match, [*names_of_first, *places_of_second])
        open_case(federation, match)
        federation.settle()
        (view,) = federation.services["europol"].cases.list()
        assert (view.row.state, view.row.payload["judged"]) == ("auto_refused", "record_unavailable")


def test_an_identifier_that_is_the_same_corroborates_a_name_even_one_that_does_not_suffice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy.judging, "judge", counting(2))
    last8 = (Identifier(IdentifierType.VIN_LAST8, "A1234567", "/vin"),)
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(
            federation,
            ics2=[
                declared("M1", party(MANY, "PT"), identifiers=last8),
                declared("M2", party("Wouter Hendrickx", "PT"), identifiers=last8),
            ],
            europol=[replace(known_to_europol("P1", replace(WANTED, nationalities=())), identifiers=last8)],
        )
        (match,) = matches(federation, CROSS_CHECK)
        assert match.payload["record_ref"] == "M1"
        assert match.payload["corroborators"] == [Corroborator.IDENTIFIER.value]
        assert match.payload["types"] == ["person_name", "vin_last8"]
        assert weak(federation, CROSS_CHECK) == 1


def test_an_identifier_that_suffices_is_a_match_whatever_the_names_say(tmp_path: Path) -> None:
    box = (Identifier(IdentifierType.CONTAINER, container(1), "/box"),)
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(
            federation,
            ics2=[declared("M1", party("Wouter Hendrickx", "PT"), identifiers=box)],
            europol=[replace(known_to_europol("P1", WANTED), identifiers=box)],
        )
        (match,) = matches(federation, CROSS_CHECK)
        assert (match.payload["types"], match.payload["band"], match.payload["corroborators"]) == (
            ["container"],
            "",
            [],
        )


def test_what_was_disclosed_by_a_name_is_taken_back_once_the_name_is_another(tmp_path: Path) -> None:
    with running(tmp_path, "ics2", "europol") as federation:
        take_in(
            federation,
            ics2=[declared("M1", party(MANY, "BE", "Gent"))],
            europol=[known_to_europol("P1", replace(WANTED, city="Gent"))],
        )
        (match,) = matches(federation, CROSS_CHECK)
        case = open_case(federation, match)
        federation.settle()
        owner = federation.services["europol"]
        owner.received.decide(case, person("europol"), "the same", approve=True)
        federation.settle(rounds=12, step_s=5)
        assert federation.services["ics2"].cases.get(case).row.state == CaseState.DISCLOSED
        assert owner.recalling.advance() == 0
        take_in(federation, europol=[known_to_europol("P1", replace(WANTED, name="Hendrickx, Wouter"))])
        federation.settle(rounds=4, step_s=5)
        assert federation.services["ics2"].cases.get(case).recall_id


def test_families_are_numbers_that_identifiers_do_not_have() -> None:
    assert min(rule.number for rule in FAMILY_TABLE.values()) == FIRST_NAME_FAMILY
    assert set(FAMILY_TABLE) == set(NameFamily)
