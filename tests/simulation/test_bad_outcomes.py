"""What one peer does wrong about one case keeps neither this node nor any other case from going on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.disclosure import CASE_TIME_S
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import PeerError, RefusedError
from connector_psi.node.ports import OutcomeAnswer
from connector_psi.pki import Role
from connector_psi.storage import cases as store
from connector_psi.storage.cases import CaseRow
from tests.simulation.federation import DirectOwner, Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

CONTAINERS = ("CSQU3054383", "MSKU0000006")
CASE = {
    "purpose": "cpsi:ObjectSeizureOrEvidence",
    "legal_basis": "2018/1862:38",
    "case_reference": "C1",
    "justification": "why",
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("begun") / "nodes")
    for n, value in enumerate(CONTAINERS):
        container = (IdentifierType.CONTAINER, value)
        made.services["sis"].registration.register([alert(f"DE{n}", container)], "test")
        made.services["ics2"].registration.register([declaration(f"M{n}", container)], "test")
    made.settle(2)
    return Prepared(made)


@pytest.fixture
def federation(begun: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = begun.copy(tmp_path / "nodes")
    yield made
    made.close()


def _open_all(federation: Federation) -> list[CaseRow]:
    ics2 = federation.services["ics2"]
    rows = []
    for match in ics2.review.list():
        ics2.review.decide(match.match_id, person("ics2"), "same container", confirm=True)
        rows.append(ics2.asked.open(match.match_id, person("ics2"), **CASE))
    return rows


def _bad_signature(answer: OutcomeAnswer) -> OutcomeAnswer:
    return replace(answer, signature=bytes(64))


def _bad_proof(answer: OutcomeAnswer) -> OutcomeAnswer:
    return replace(answer, proof=replace(answer.proof, proof=(bytes(32), *answer.proof.proof[1:])))


def _bad_checkpoint(answer: OutcomeAnswer) -> OutcomeAnswer:
    return replace(answer, proof=replace(answer.proof, checkpoint=b"not a note"))


def _other_leaf(answer: OutcomeAnswer) -> OutcomeAnswer:
    return replace(answer, proof=replace(answer.proof, leaf=b"{}"))


@pytest.mark.parametrize("spoil", [_bad_signature, _bad_proof, _bad_checkpoint, _other_leaf])
def test_an_outcome_that_does_not_hold_stops_nobody(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    """Above all not this node for good: the log that does not prove is the peer's."""
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    first, second = _open_all(federation)
    federation.settle()
    for case in (first, second):
        sis.received.decide(case.request_id, person("sis", Role.SUPERVISOR), "yes", approve=True)
    whole = DirectOwner.get_outcome

    def get_outcome(self: DirectOwner, agreement: str, request_id: bytes) -> OutcomeAnswer | None:
        answer = whole(self, agreement, request_id)
        return spoil(answer) if answer is not None and request_id == first.request_id else answer

    raised = 0
    with monkeypatch.context() as patch:
        patch.setattr(DirectOwner, "get_outcome", get_outcome)
        for _ in range(15):
            federation.clock.advance(2)
            sis.tick_cases()
            sis.tick_log()
            try:
                ics2.tick_cases()
            except PeerError:
                raised += 1
    assert raised
    assert ics2.node.fatal is None
    states = [ics2.cases.get(case.request_id).row.state for case in (first, second)]
    assert states == ["pending", "disclosed"]
    federation.settle(rounds=3, step_s=8)
    assert ics2.cases.get(first.request_id).row.state == "disclosed"


def test_a_refusal_of_one_case_keeps_no_other_waiting(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's refusal arrives as the general class, for its status tells no more."""
    first, second = _open_all(federation)
    whole = DirectOwner.open_case

    def open_case(self: DirectOwner, request: Any, at_least: int = 0) -> None:
        if request.request_id == first.request_id:
            raise RefusedError
        whole(self, request)

    monkeypatch.setattr(DirectOwner, "open_case", open_case)
    federation.settle()
    ics2 = federation.services["ics2"]
    states = [ics2.cases.get(case.request_id).row.state for case in (first, second)]
    assert states == ["drafted", "pending"]


def test_a_case_of_a_peer_that_is_gone_is_closed_like_any_other(federation: Federation) -> None:
    """Also when its agreement has left the policy since: the leaf names the policy under which it was opened."""
    sis = federation.services["sis"]
    first, _ = _open_all(federation)
    federation.settle()
    sis.revoke("ics2")
    sis.node.policy = replace(sis.node.policy, pack=replace(sis.node.pack, templates=()))
    federation.clock.advance(CASE_TIME_S)
    sis.tick_cases()
    sis.tick_log()
    with sis.node.store.read() as tx:
        raw = sis.node.entries.read_leaves(tx, 0, sis.node.entries.size(tx))
    opened, outcome = [leaf for leaf in map(parse_leaf, raw) if leaf.request_id == first.request_id]
    assert (opened.event, outcome.event) == (Event.CASE_OPEN, Event.CASE_OUTCOME)
    assert opened.policy_hash == outcome.policy_hash


def test_a_peer_cannot_name_its_case_after_one_of_ours(federation: Federation) -> None:
    """The people of the owner decide about the case that a peer opened, whatever else has its id."""
    sis = federation.services["sis"]
    case, _ = _open_all(federation)
    own = replace(case, side=store.QUERIER, peer="other", match_id=None)
    with sis.node.store.write() as tx:
        store.put_case(sis.node.store, tx, own)
    federation.settle()
    decided = sis.received.decide(case.request_id, person("sis", Role.SUPERVISOR), "yes", approve=True)
    assert (decided.side, decided.peer, decided.state) == (store.OWNER, "ics2", "approved")
