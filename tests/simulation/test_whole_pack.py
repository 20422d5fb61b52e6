"""The whole shipped pack, between seven nodes: every agreement from a record to an erased disclosure, and what may not run refused.

What should leave is read from the policies as text, not asked of the engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_psi.audit.entries import Event, Leaf, Side, parse_leaf
from connector_psi.disclosure import CaseState
from connector_psi.domain.purposes import PERSON_CATEGORIES
from connector_psi.domain.records import Field, Identifier, IdentifierType, Record, SourceSystem
from connector_psi.domain.systems import system_of
from connector_psi.encoding.manifest import parse_manifest
from connector_psi.errors import ConfigError, PurposeRefusedError
from connector_psi.node.node import QUERIER, Bound
from connector_psi.node.service import Service
from connector_psi.pki import PersonIdentity, Role
from connector_psi.policy import Agreement, check_runnable
from connector_psi.storage import cases as case_store
from connector_psi.storage import owned, queried
from connector_psi.storage.queried import MatchRow
from tests.privacy.staging import container
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person

PROFILES = ("ics2", "customs2", "sis", "europol", "police", "coastguard", "afis")
RUNNING = {
    "CUS-RISK", "CUS-47", "SIS-OBJ", "SIS-CHK", "SIS-ARR", "SIS-MIS", "SIS-JUD", "EUR-XCHK", "LEA-CASE", "CIS-FRAUD", "CE-CISE",
}  # fmt: skip
BLOCKED = {"SIS-REF", "EUR-SIS"}


@dataclass(frozen=True)
class Pair:
    """One agreement between two nodes, with the record that each of them has of the same box."""

    bound: Bound
    terms: dict[str, Any]
    """As the policy's text says them."""
    asked_with: Record
    held: Record

    @property
    def code(self) -> str:
        return self.bound.code

    @property
    def template(self) -> str:
        return self.code.partition(":")[0]

    @property
    def querier(self) -> str:
        return self.bound.agreement.querier

    @property
    def owner(self) -> str:
        return self.bound.agreement.owner


def _terms(federation: Federation, code: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((federation.root / code / "policy.yaml").read_text())["templates"]
    return found


def _record(category: str, ref: str, number: int, fields: dict[Field, tuple[str, ...]]) -> Record:
    (source, *_) = [s for s in SourceSystem if category.startswith(system_of(s).category_prefix)]
    return Record(
        source=source,
        source_ref=ref,
        category=category,
        identifiers=(Identifier(IdentifierType.CONTAINER, container(number), "/box"),),
        fields=fields,
        message_digest=hashlib.sha256(ref.encode()).digest(),
    )


def _pairs(federation: Federation) -> list[Pair]:
    found = []
    for code, service in federation.services.items():
        policy = _terms(federation, code)
        for bound in service.node.agreements(QUERIER):
            terms = policy[bound.code.partition(":")[0]]
            number = 100 + len(found)
            things = [category for category in terms["categories"] if category not in PERSON_CATEGORIES]
            fields = {Field(name): (f"{name} of {number}",) for name in terms["disclose"]}
            # What the provider lets everybody have, so that nobody has to be asked; and something that is no field of it.
            fields[Field.HANDLING_CODES] = ("H0",)
            fields[Field.WARNINGS] = ("never disclosed",)
            found.append(
                Pair(
                    bound,
                    terms,
                    _record(terms["querier_categories"][0], f"Q{number}", number, {}),
                    _record(things[0], f"O{number}", number, fields),
                )
            )
    return found


@dataclass
class Played:
    """The federation after every pair had its disclosure."""

    federation: Federation
    pairs: list[Pair]
    case_ids: dict[str, bytes]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    federation = Federation(tmp_path_factory.mktemp("pack"), profiles=PROFILES)
    try:
        pairs = _pairs(federation)
        for pair in pairs:
            federation.services[pair.querier].registration.register([pair.asked_with], "test")
            federation.services[pair.owner].registration.register([pair.held], "test")
        federation.settle(rounds=2)
        _grant(federation, pairs)
        federation.settle(rounds=4)
        ids = {pair.code: _open(federation, pair) for pair in pairs}
        federation.settle(rounds=2)
        for pair in pairs:
            for row in [
                view.row for view in federation.services[pair.owner].cases.list() if view.row.agreement == pair.code
            ]:
                if row.side == case_store.OWNER:
                    for n in range(pair.terms["confirm"]["owner_people"]):
                        who = person(pair.owner, name=f"officer{n + 1}")
                        federation.services[pair.owner].received.decide(
                            row.request_id, who, "it is the box", approve=True
                        )
        federation.settle(rounds=12, step_s=10)
        yield Played(federation, pairs, ids)
    finally:
        federation.close()


def _grant(federation: Federation, pairs: list[Pair]) -> None:
    for pair in (p for p in pairs if p.terms["mode"] == "case"):
        asked = federation.services[pair.querier].asked_access.request(
            pair.code,
            person(pair.querier),
            [(pair.asked_with.source, pair.asked_with.source_ref)],
            case_reference="BE-1",
            offence="trafficking in drugs",
            necessity="the box was named",
            hours=0,
        )
        federation.settle()
        for n in range(pair.terms["grant"]["people"]):
            who = person(pair.owner, name=f"officer{n + 1}")
            federation.services[pair.owner].granting.decide(asked.request_id, who, "needed", approve=True)
    federation.settle(rounds=3, step_s=10)


def _match(federation: Federation, pair: Pair) -> MatchRow:
    """Of the pair's own record: under CUS-RISK either side also learns of what the other asked with."""
    found = federation.services[pair.querier].review.list()
    (match,) = [
        m for m in found if m.agreement == pair.code and m.payload["record_ref"].endswith(pair.asked_with.source_ref)
    ]
    return match


def _open(federation: Federation, pair: Pair) -> bytes:
    service = federation.services[pair.querier]
    match = _match(federation, pair)
    for n in range(pair.terms["confirm"]["querier_people"]):
        service.review.decide(
            match.match_id, person(pair.querier, name=f"officer{n + 1}"), "the same box", confirm=True
        )
    row = service.asked.open(
        match.match_id,
        person(pair.querier),
        purpose=pair.terms["purpose"],
        legal_basis=pair.terms["legal_basis"][0],
        case_reference="CASE-1",
        justification="the same box",
    )
    return row.request_id


def _leaves(service: Service, request_id: bytes) -> list[Leaf]:
    node = service.node
    with node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
    return [leaf for leaf in leaves if leaf.request_id == request_id]


def test_every_agreement_that_may_run_is_there_in_both_directions_of_learning(played: Played) -> None:
    assert {pair.template for pair in played.pairs} == RUNNING
    learners = {(pair.bound.agreement.querier, pair.template) for pair in played.pairs}
    # Customs learns of sought objects first, N.SIS of checks and arrests.
    assert {("ics2", "SIS-OBJ"), ("sis", "SIS-CHK"), ("sis", "SIS-ARR"), ("customs2", "CUS-RISK")} <= learners
    shipped = {code for profile in PROFILES for code in _terms(played.federation, profile)}
    assert shipped == RUNNING | BLOCKED


def test_each_disclosed_exactly_what_its_policy_names(played: Played) -> None:
    for pair in played.pairs:
        view = played.federation.services[pair.querier].cases.get(played.case_ids[pair.code])
        assert view.row.state == CaseState.DISCLOSED, pair.code
        named = {name for name, condition in pair.terms["disclose"].items() if condition != "national_basis"}
        number = pair.held.source_ref[1:]
        expected = {name: (f"{name} of {number}",) for name in named}
        if "handling_codes" in expected:
            expected["handling_codes"] = ("H0",)
        assert dict(view.fields) == expected, pair.code
        outcome = view.row.payload["outcome"]
        assert outcome["handling"][0] == pair.terms["handling"]
        assert outcome["retention_class"] == pair.terms["retention_class"]
        assert {"erase_after", "no_onward_transfer", "person_decides"} <= set(outcome["obligations"])


def test_each_is_logged_at_both_sides_with_purpose_basis_and_policy(played: Played) -> None:
    for pair in played.pairs:
        case_id = played.case_ids[pair.code]
        asked = _leaves(played.federation.services[pair.querier], case_id)
        held = _leaves(played.federation.services[pair.owner], case_id)
        assert [leaf.event for leaf in asked] == [Event.CASE_OPEN, Event.RECEIPT], pair.code
        assert [leaf.event for leaf in held] == [Event.CASE_OPEN, Event.CASE_OUTCOME], pair.code
        for leaf in (*asked, *held):
            assert (leaf.agreement, leaf.purpose, leaf.policy_hash) == (
                pair.code, pair.terms["purpose"], pair.bound.policy_hash,
            )  # fmt: skip
        assert {leaf.side for leaf in asked} == {Side.QUERIER}
        assert {leaf.side for leaf in held} == {Side.OWNER}
        assert {leaf.legal_basis for leaf in asked} == {pair.terms["legal_basis"][0]}
        # One outcome, bound alike in both logs.
        assert asked[1].source_commitment == held[1].source_commitment


def test_an_owner_without_notice_shows_no_case_and_every_other_one_does(played: Played) -> None:
    for pair in played.pairs:
        shown = {
            v.row.agreement
            for v in played.federation.services[pair.owner].cases.list()
            if v.row.side == case_store.OWNER
        }
        assert (pair.code in shown) == (pair.terms["owner_notice"] == "case"), pair.code


def test_the_category_is_shown_at_a_match_only_where_the_policy_shows_it(played: Played) -> None:
    for pair in played.pairs:
        match = _match(played.federation, pair)
        told = pair.held.category in (pair.terms.get("category_at_match") or ())
        assert match.payload["category"] == (pair.held.category if told else ""), pair.code


def test_each_agreement_and_class_has_a_key_of_its_own_and_capacity_for_its_classes_alone(played: Played) -> None:
    keys: set[str] = set()
    wanted = 0
    for pair in played.pairs:
        node = played.federation.services[pair.querier].node
        with node.store.read() as tx:
            taken = queried.current_set(tx, pair.code)
        assert taken is not None
        published = parse_manifest(taken.manifest).class_keys
        wanted += len(pair.terms["classes"])
        assert set(published) == set(pair.terms["classes"])
        keys |= set(published.values())
        assert {c.label for c in pair.bound.agreement.capacity} == set(pair.terms["classes"])
    assert len(keys) == wanted


def test_what_is_blocked_is_nowhere_and_does_not_run(played: Played) -> None:
    for code, service in played.federation.services.items():
        assert not {b.code.partition(":")[0] for b in service.node.agreements()} & BLOCKED
        for blocked in BLOCKED & set(_terms(played.federation, code)):
            with pytest.raises(PurposeRefusedError):
                service.publishing.publish(f"{blocked}:europol-sis")
    from connector_psi.policy import instantiate

    for code in ("sis", "europol"):
        for template in played.federation.services[code].node.pack.templates:
            if template.code in BLOCKED:
                agreement = instantiate(template, "europol", "sis", synthetic=True)
                with pytest.raises(PurposeRefusedError, match="blocked"):
                    check_runnable(agreement, played.federation.clock.now(), synthetic=True)


def test_a_pilot_without_its_references_does_not_run_on_real_data(played: Played) -> None:
    pilots = {pair.template for pair in played.pairs if pair.terms["status"] == "pilot"}
    assert pilots
    for pair in played.pairs:
        real: Agreement = pair.bound.agreement.model_copy(update={"synthetic": False, "witnesses": 1})
        if pair.terms["status"] == "pilot":
            with pytest.raises(PurposeRefusedError, match="requirements_missing"):
                check_runnable(real, played.federation.clock.now(), synthetic=False)
        else:
            check_runnable(real, played.federation.clock.now(), synthetic=False)


def test_a_synthetic_and_a_real_node_refuse_each_other(played: Played) -> None:
    from connector_psi.node.descriptor import encode_descriptor, parse_descriptor

    sis = played.federation.services["sis"].node
    real = parse_descriptor(sis.layout.descriptor.read_bytes()).model_copy(update={"synthetic": False})
    with pytest.raises(ConfigError, match="synthetic and a real node"):
        played.federation.services["ics2"].peering.add(encode_descriptor(real, sis.signing_key))


def test_sets_of_n_sis_end_two_days_after_their_source_and_never_go_to_europol(played: Played) -> None:
    sis = played.federation.services["sis"].node
    assert "europol" not in {b.peer for b in sis.agreements()}
    with sis.store.read() as tx:
        for epoch in owned.list_epochs(tx):
            if epoch.not_after_ms is not None and epoch.published_ms is not None:
                assert epoch.not_after_ms - epoch.published_ms <= 48 * 3_600_000


def test_for_purposes_of_the_own_node_only_whom_the_policy_names_may_work(played: Played) -> None:
    acts: dict[str, Callable[[Service, PersonIdentity], object]] = {
        "cpsi:DataSubjectRights": lambda service, who: service.subjects.search("container", container(1), who),
        "cpsi:Oversight": lambda service, who: service.oversight.audit_entries(0, 1, who),
    }
    for code, service in played.federation.services.items():
        own = yaml.safe_load((played.federation.root / code / "policy.yaml").read_text())["own_node"]
        named = {terms["purpose"]: set(terms["people"]) for terms in own.values()}
        # Tests on synthetic data are a status of nodes, and nothing that a person does at one.
        assert named.keys() == {*acts, "cpsi:TestingOnSyntheticData"}
        for purpose, act in acts.items():
            for role in Role:
                who = person(code, role, "somebody")
                if role.value in named[purpose]:
                    act(service, who)
                else:
                    with pytest.raises(PurposeRefusedError):
                        act(service, who)


def test_everything_disclosed_is_erased_on_its_day_at_both_sides(played: Played) -> None:
    """The last one: it goes years ahead."""
    federation = played.federation
    federation.clock.advance(timedelta(days=3 * 366).total_seconds())
    for service in federation.services.values():
        service.tick_erasure()
    for pair in played.pairs:
        case_id = played.case_ids[pair.code]
        view = federation.services[pair.querier].cases.get(case_id)
        assert (view.row.state, dict(view.fields)) == (CaseState.EXPIRED, {}), pair.code
        for code in (pair.querier, pair.owner):
            assert [leaf.event for leaf in _leaves(federation.services[code], case_id)][-1] is Event.ERASE


# --- Match rules ------------------------------------------------------------------------------------------------------

PLATE = (IdentifierType.PLATE_NUMBER, "ABC123")
LAST8 = (IdentifierType.VIN_LAST8, "3W386752")


@pytest.mark.parametrize("both", [False, True])
def test_what_does_not_suffice_alone_is_counted_and_shown_to_nobody_until_a_second_identifier_agrees(
    tmp_path: Path, both: bool
) -> None:
    federation = Federation(tmp_path)
    try:
        ics2, sis = federation.services["ics2"], federation.services["sis"]
        ics2.registration.register([declaration("M1", PLATE, LAST8)], "test")
        sis.registration.register([alert("DE1", PLATE, *([LAST8] if both else []), category="sis.38.a")], "test")
        federation.settle()
        shown = [m for m in ics2.review.list() if m.agreement == "SIS-OBJ:ics2-sis"]
        agreements = ics2.status()["agreements"]
        assert isinstance(agreements, list)
        (line,) = [a for a in agreements if a["agreement"] == "SIS-OBJ:ics2-sis"]
        assert (len(shown), line["weak_matches"]) == ((1, 0) if both else (0, 1))
    finally:
        federation.close()


def test_the_owner_applies_the_rule_again_to_the_codes_that_are_claimed(tmp_path: Path) -> None:
    """A querier that claims one of two tokens, which do not suffice alone, gets nothing, whatever its people say."""
    federation = Federation(tmp_path)
    try:
        ics2, sis = federation.services["ics2"], federation.services["sis"]
        ics2.registration.register([declaration("M1", PLATE, LAST8)], "test")
        sis.registration.register([alert("DE1", PLATE, LAST8, category="sis.38.a")], "test")
        federation.settle()
        (match,) = [m for m in ics2.review.list() if m.agreement == "SIS-OBJ:ics2-sis"]
        with ics2.node.store.write() as tx:
            found = queried.get_match(ics2.node.store, tx, match.match_id)
            assert found is not None
            payload = {**found.payload, "redeem": found.payload["redeem"][:1]}
            queried.set_match_state(ics2.node.store, tx, match.match_id, found.state, payload)
        request_id = ask_about_sought(federation)
        federation.settle()
        (view,) = sis.cases.list()
        assert (view.row.state, view.row.payload["judged"], view.record_ref) == (
            "auto_refused",
            "record_unavailable",
            "",
        )
        federation.clock.advance(ics2.node.config.disclosure.not_disclosed_after_s)
        federation.settle(rounds=8)
        assert ics2.cases.get(request_id).row.state == CaseState.NOT_DISCLOSED
    finally:
        federation.close()
