"""R8, short form: every case that is not disclosed looks like every other one, in bytes, in time and in the log.

The latencies are those of the RPC's own code, called in this process: what a network adds hides more. Two samples of one
distribution differ by more than the bound by chance (3.5 % of the rounds of OpenCase), so a round above it is measured again; a
difference that is there is there in every round.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector_psi import disclosure
from connector_psi.audit.entries import Event
from connector_psi.domain.records import IdentifierType, SourceSystem
from connector_psi.errors import ConflictError
from connector_psi.node.ports import CaseRequest
from connector_psi.pki import Role
from connector_psi.rpc import convert
from connector_psi.rpc.v1 import disclosure_pb2
from connector_psi.storage import cases as case_store
from connector_psi.storage.queried import MatchRow
from tests.privacy.staging import (
    AGREEMENT,
    BASIS,
    JUSTIFICATION,
    PURPOSE,
    REFERENCE,
    container,
    leaves_of,
    owner_port,
    signed_case,
    with_hits,
)
from tests.simulation.federation import Federation, alert, declaration, person

KS_BOUND = 0.09
ROUNDS = 3
T_S = disclosure.CASE_TIME_S
PENDING = disclosure_pb2.OUTCOME_STATE_PENDING
SERVED = disclosure_pb2.OUTCOME_STATE_SERVED
SUPERVISOR = person("sis", Role.SUPERVISOR, "supervisor1")

CAUSES = (
    "refused",
    "undecided",
    "unknown_ticket",
    "wrong_codes",
    "too_many_codes",
    "hidden",
    "withdrawn",
    "withdrawn_after_approval",
    "other_purpose",
    "other_basis",
)


@dataclass
class Told:
    """What the querier was told, by cause, while time went on."""

    federation: Federation
    accepted: datetime
    requests: dict[str, CaseRequest]
    opened: dict[str, bytes]
    before: list[dict[str, bytes]] = field(default_factory=list)
    at_t: dict[str, disclosure_pb2.GetOutcomeResponse] = field(default_factory=dict)


def _ask(federation: Federation, request: CaseRequest) -> disclosure_pb2.GetOutcomeResponse:
    port, caller = owner_port(federation)
    message = disclosure_pb2.GetOutcomeRequest(agreement=AGREEMENT, request_id=request.request_id)
    return port.GetOutcome(message, caller)


def _turn(federation: Federation) -> None:
    service = federation.services["sis"]
    while service.received.advance():
        pass
    service.tick_log()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """One case of every cause and one that is disclosed, all taken in at one instant."""
    federation, matches = with_hits(tmp_path_factory.mktemp("causes"), 5)
    rng = random.Random("causes")
    sis = federation.services["sis"]
    hidden = alert("DE1", (IdentifierType.CONTAINER, container(1)), hidden=True)
    assert [r.outcome for r in sis.registration.register([hidden], "test")] == ["updated"]
    assert sis.registration.withdraw(SourceSystem.SIS, "DE2", "recovered", "test")
    codes = bytes.fromhex(matches["M0"].payload["redeem"][0])
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "refused": ("M0", {}),
        "undecided": ("M0", {}),
        "unknown_ticket": ("M0", {"ticket_id": rng.randbytes(16)}),
        "wrong_codes": ("M0", {"redeem_codes": rng.randbytes(8)}),
        "too_many_codes": ("M0", {"redeem_codes": codes + rng.randbytes(8)}),
        "hidden": ("M1", {}),
        "withdrawn": ("M2", {}),
        "withdrawn_after_approval": ("M3", {}),
        "other_purpose": ("M0", {"purpose": "cpsi:CustomsRiskManagement"}),
        "other_basis": ("M0", {"legal_basis": "2018/1862:26"}),
        "disclosed": ("M4", {}),
    }
    assert set(changes) == {*CAUSES, "disclosed"}
    requests = {cause: signed_case(federation, matches[ref], **said) for cause, (ref, said) in changes.items()}
    port, caller = owner_port(federation)
    accepted = federation.clock.now()
    opened = {
        cause: port.OpenCase(convert.open_case_request(request), caller).SerializeToString()
        for cause, request in requests.items()
    }
    story = Told(federation, accepted, requests, opened)
    _turn(federation)
    sis.received.decide(requests["refused"].request_id, SUPERVISOR, "no", approve=False)
    for cause in ("withdrawn_after_approval", "disclosed"):
        sis.received.decide(requests[cause].request_id, SUPERVISOR, "yes", approve=True)
    assert sis.registration.withdraw(SourceSystem.SIS, "DE3", "recovered", "test")
    # At once, after the slots of the decisions, and so on up to the last second before T.
    for until_s in (1, 11, 60, T_S // 4, T_S // 2, T_S - 10, T_S - 1):
        federation.clock.advance(until_s - (federation.clock.now() - accepted).total_seconds())
        _turn(federation)
        story.before.append({cause: _ask(federation, requests[cause]).SerializeToString() for cause in CAUSES})
    federation.clock.advance(1)
    story.at_t = {cause: _ask(federation, request) for cause, request in requests.items()}
    yield story
    federation.close()


def test_the_answer_to_a_case_is_pending_whatever_it_asks_for(told: Told) -> None:
    pending = disclosure_pb2.OpenCaseResponse(state=disclosure_pb2.OUTCOME_STATE_PENDING).SerializeToString()
    assert set(told.opened.values()) == {pending}


def test_until_t_is_over_every_cause_is_answered_with_the_same_bytes(told: Told) -> None:
    pending = disclosure_pb2.GetOutcomeResponse(state=PENDING).SerializeToString()
    assert len(told.before) == 7
    assert {answer for answers in told.before for answer in answers.values()} == {pending}


def test_at_t_every_cause_is_served(told: Told) -> None:
    assert (told.federation.clock.now() - told.accepted).total_seconds() == T_S
    assert {told.at_t[cause].state for cause in CAUSES} == {SERVED}


def test_outcomes_are_equal_byte_for_byte_except_for_what_is_random(told: Told) -> None:
    shapes = set()
    for cause in CAUSES:
        answer, case_id = told.at_t[cause], told.requests[cause].request_id.hex().encode()
        assert answer.envelope.count(case_id) == 1
        shapes.add((answer.envelope.replace(case_id, b"*" * 32), len(answer.signature), len(answer.salt)))
    ((envelope, *_),) = shapes
    assert disclosure.Outcome.NOT_DISCLOSED.encode() in envelope
    salts = [told.at_t[cause].salt for cause in CAUSES]
    assert len(set(salts)) == len(CAUSES)


def test_a_disclosure_of_one_page_has_the_size_of_a_refusal(told: Told) -> None:
    given = told.at_t["disclosed"]
    assert disclosure.parse_envelope(given.envelope).outcome is disclosure.Outcome.DISCLOSED
    assert {len(told.at_t[cause].envelope) for cause in CAUSES} == {len(given.envelope)} == {4096}


def test_each_case_writes_the_same_two_leaves_at_the_owner(told: Told) -> None:
    """Only ids, commitments and times differ between a disclosure and any refusal."""
    varies = {"request_id", "ts", "erase_after", "source_commitment", "body_commit"}
    said: dict[str, list[dict[str, Any]]] = {}
    lengths = set()
    for cause, request in told.requests.items():
        found = leaves_of(told.federation, "sis", request.request_id)
        assert [leaf.event for _, leaf in found] == [Event.CASE_OPEN, Event.CASE_OUTCOME], cause
        said[cause] = [json.loads(raw) for raw, _ in found]
        lengths.add(tuple(len(raw) for raw, _ in found))
    assert len(lengths) == 1
    for position in (0, 1):
        forms = {
            json.dumps({key: type(value).__name__ if key in varies else value for key, value in leaf.items()})
            for leaf in (both[position] for both in said.values())
        }
        assert len(forms) == 1
    # Nothing that is not said at the opening is said at the outcome, but the commitment to what was sent.
    opening, outcome = said["refused"]
    assert {k for k in outcome if outcome[k] is not None} - {k for k in opening if opening[k] is not None} == {
        "source_commitment"
    }


def test_no_other_leaf_is_written_because_of_a_case(told: Told) -> None:
    """A decision of a person at the owner leaves no trace of its own."""
    own = {request.request_id for request in told.requests.values()}
    events = Counter(leaf.event for _, leaf in leaves_of(told.federation, "sis") if leaf.request_id in own)
    assert events == {Event.CASE_OPEN: len(own), Event.CASE_OUTCOME: len(own)}
    assert Event.REVIEW not in {leaf.event for _, leaf in leaves_of(told.federation, "sis")}


def test_both_sides_write_the_same_shape_for_a_batch_with_a_match_and_one_without(tmp_path: Path) -> None:
    """And the querier's RECEIPT of a disclosure has the shape of that of a refusal."""
    federation, matches = with_hits(tmp_path, 2)
    try:
        sis, ics2 = federation.services["sis"], federation.services["ics2"]
        ics2.registration.register([declaration("N1", (IdentifierType.CONTAINER, container(999)))], "test")
        federation.settle()
        assert len(ics2.review.list()) == 2
        opened = {}
        for ref, approve in (("M0", True), ("M1", False)):
            match = matches[ref].match_id
            ics2.review.decide(match, person("ics2"), "same container", confirm=True)
            opened[ref] = ics2.asked.open(
                match,
                person("ics2"),
                purpose=PURPOSE,
                legal_basis=BASIS,
                case_reference=REFERENCE,
                justification=JUSTIFICATION,
            )
            federation.settle()
            sis.received.decide(opened[ref].request_id, SUPERVISOR, "checked", approve=approve)
        federation.settle(rounds=12)
        federation.clock.advance(T_S)
        federation.settle(rounds=8)
        states = {ref: ics2.cases.get(case.request_id).row.state for ref, case in opened.items()}
        assert states == {"M0": "disclosed", "M1": "not_disclosed"}
        for code in ("ics2", "sis"):
            shapes: dict[Event, set[tuple[tuple[str, int], ...]]] = defaultdict(set)
            for raw, leaf in leaves_of(federation, code):
                if leaf.agreement == AGREEMENT and leaf.event in {
                    Event.CONSULT,
                    Event.CASE_OPEN,
                    Event.CASE_OUTCOME,
                    Event.RECEIPT,
                    Event.REVIEW,
                }:
                    shapes[leaf.event].add(tuple((key, len(str(value))) for key, value in json.loads(raw).items()))
            assert {event: len(found) for event, found in shapes.items()} == dict.fromkeys(shapes, 1)
            assert len(shapes) == (4 if code == "ics2" else 3)
    finally:
        federation.close()


def test_a_decision_after_the_last_slot_comes_too_late(tmp_path: Path) -> None:
    """Otherwise an outcome could be told from the others by its time."""
    federation, matches = with_hits(tmp_path, 1)
    try:
        request = signed_case(federation, matches["M0"])
        sis = federation.services["sis"]
        sis.received.accept("ics2", request)
        _turn(federation)
        federation.clock.advance(T_S - 1)
        with pytest.raises(ConflictError):
            sis.received.decide(request.request_id, SUPERVISOR, "yes", approve=True)
        _turn(federation)
        federation.clock.advance(1)
        envelope = disclosure.parse_envelope(_ask(federation, request).envelope)
        assert envelope.outcome is disclosure.Outcome.NOT_DISCLOSED
    finally:
        federation.close()


# --- Latency ----------------------------------------------------------------------------------------------------------


def _ks(a: Sequence[float], b: Sequence[float]) -> float:
    """Kolmogorov and Smirnov's distance of two samples."""
    x, y = np.sort(np.asarray(a)), np.sort(np.asarray(b))
    places = np.concatenate([x, y])
    return float(
        np.abs(np.searchsorted(x, places, "right") / len(x) - np.searchsorted(y, places, "right") / len(y)).max()
    )


@dataclass
class Taken:
    """Nanoseconds of a cause's calls, step by step."""

    wall: list[int] = field(default_factory=list)
    cpu: list[int] = field(default_factory=list)
    """Of this thread: what a busy machine adds is left out."""


Round = dict[str, Taken]


def _interleaved(
    rpc: Callable[[Any, Any], object], caller: object, by_cause: Mapping[str, Sequence[object]], rng: random.Random
) -> Round:
    """In each step one call of every cause, in random order."""
    taken: Round = {cause: Taken() for cause in by_cause}
    causes = list(by_cause)
    gc.collect()
    gc.disable()
    try:
        for step in range(min(map(len, by_cause.values()))):
            rng.shuffle(causes)
            for cause in causes:
                message = by_cause[cause][step]
                cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
                rpc(message, caller)
                taken[cause].wall.append(time.perf_counter_ns() - wall)
                taken[cause].cpu.append(time.thread_time_ns() - cpu)
    finally:
        gc.enable()
    return taken


def _told_by(reference: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """What tells two samples apart, each as a part of what is tolerated.

    Beside the distance of the distributions, how often one took longer than the other in the same step, where
    the machine was equally busy: by chance not further from half than four standard deviations, once in 16,000 times.
    """
    longer = float(np.mean(np.asarray(other) > np.asarray(reference)))
    return {
        "distance": round(_ks(reference, other) / KS_BOUND, 2),
        "longer": round(abs(longer - 0.5) / (4 * 0.5 / len(reference) ** 0.5), 2),
    }


def _assert_alike(rounds: Iterable[Round], planted: float) -> None:
    """Assert that no cause's latencies can be told from the first one's; ``planted`` is a part that must be found."""
    found = []
    for taken in rounds:
        reference, *others = taken.values()
        later = [latency + planted * float(np.median(reference.wall)) for latency in reference.wall]
        assert min(_told_by(reference.wall, later).values()) > 1, "the measurement is too coarse to find anything"
        found.append([(_told_by(reference.wall, other.wall), _told_by(reference.cpu, other.cpu)) for other in others])
        if max(part for pair in found[-1] for each in pair for part in each.values()) <= 1:
            return
    pytest.fail(f"latencies can be told apart in every round: {found}")


@dataclass
class Crowd:
    """A thousand cases, half for a record that may be disclosed ("known"), half for none that ever is ("never")."""

    federation: Federation
    matches: Mapping[str, MatchRow]
    by_cause: dict[str, list[CaseRequest]] = field(default_factory=lambda: {"known": [], "never": []})
    rng: random.Random = field(default_factory=lambda: random.Random("crowd"))

    def open_1000(self) -> Round:
        """Open a thousand cases more; latencies by cause."""
        new = {
            "known": [signed_case(self.federation, self.matches["M0"]) for _ in range(500)],
            "never": [self._never(kind) for kind in range(500)],
        }
        for cause, requests in new.items():
            self.by_cause[cause] += requests
        port, caller = owner_port(self.federation)
        return _interleaved(
            port.OpenCase, caller, {c: list(map(convert.open_case_request, new[c])) for c in new}, self.rng
        )

    def _never(self, kind: int) -> CaseRequest:
        match kind % 8:
            case 0:
                return signed_case(self.federation, self.matches["M0"], redeem_codes=self.rng.randbytes(8))
            case 1:
                return signed_case(self.federation, self.matches["M1"])
            case 2:
                return signed_case(self.federation, self.matches["M2"])
        return signed_case(self.federation, self.matches["M0"], ticket_id=self.rng.randbytes(16))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Crowd, Round]]:
    federation, matches = with_hits(tmp_path_factory.mktemp("crowd"), 3)
    sis = federation.services["sis"]
    sis.registration.register([alert("DE1", (IdentifierType.CONTAINER, container(1)), hidden=True)], "test")
    sis.registration.withdraw(SourceSystem.SIS, "DE2", "recovered", "test")
    made = Crowd(federation, matches)
    yield made, made.open_1000()
    federation.close()


def test_taking_a_case_in_takes_as_long_whatever_it_asks_for(crowd: tuple[Crowd, Round]) -> None:
    made, first = crowd
    _assert_alike(itertools.chain([first], (made.open_1000() for _ in range(ROUNDS - 1))), planted=0.2)


def test_automatic_refusals_are_written_at_any_slot_before_t_alike(crowd: tuple[Crowd, Round]) -> None:
    federation, by_cause = crowd[0].federation, crowd[0].by_cause
    node = federation.services["sis"].node
    accepted, slot_s = federation.clock.now(), node.config.disclosure.slot_s
    _turn(federation)
    numbers = []
    with node.store.read() as tx:
        for request in by_cause["never"][:500]:
            row = case_store.get_case(node.store, tx, case_store.OWNER, "ics2", request.request_id)
            assert row is not None
            assert row.state == "auto_refused"
            assert row.next_ms % (slot_s * 1000) == 0
            numbers.append((row.next_ms / 1000 - accepted.timestamp()) / T_S)
    assert min(numbers) > 0
    assert max(numbers) < 1
    # 500 draws of a uniform distribution are further away once in 100,000 runs; the seed is fixed.
    assert _ks(numbers, [(i + 0.5) / 500 for i in range(500)]) < 0.11
    assert len(set(numbers)) > 450


def test_asking_for_an_outcome_takes_as_long_whatever_became_of_the_case(crowd: tuple[Crowd, Round]) -> None:
    """1,000 calls of GetOutcome for each cause, and of OpenCase sent again, at a time when some outcomes are written."""
    federation, by_cause = crowd[0].federation, crowd[0].by_cause
    node, received = federation.services["sis"].node, federation.services["sis"].received
    _turn(federation)
    refused, undecided = by_cause["known"][:40], by_cause["known"][40:80]
    for request in refused:
        received.decide(request.request_id, SUPERVISOR, "no " * 1000, approve=False)
    federation.clock.advance(T_S // 6)
    _turn(federation)
    of_state: dict[str, list[CaseRequest]] = defaultdict(list)
    with node.store.read() as tx:
        for request in (*refused, *undecided, *by_cause["never"][:500]):
            row = case_store.get_case(node.store, tx, case_store.OWNER, "ics2", request.request_id)
            assert row is not None
            of_state[row.state].append(request)
    assert of_state["awaiting_decision"] == undecided
    assert of_state["released"][:40] == refused
    causes = {"undecided": undecided, "refused": refused, "never": of_state["released"][40:80]}
    assert {len(requests) for requests in causes.values()} == {40}
    port, caller = owner_port(federation)
    rng = random.Random("order")
    ask = {
        cause: [disclosure_pb2.GetOutcomeRequest(agreement=AGREEMENT, request_id=r.request_id) for r in requests] * 25
        for cause, requests in causes.items()
    }
    assert {port.GetOutcome(message, caller).state for messages in ask.values() for message in messages[:40]} == {
        PENDING
    }
    _assert_alike((_interleaved(port.GetOutcome, caller, ask, rng) for _ in range(ROUNDS)), planted=0.1)
    again = {cause: list(map(convert.open_case_request, causes[cause])) * 25 for cause in ("undecided", "refused")}
    _assert_alike((_interleaved(port.OpenCase, caller, again, rng) for _ in range(ROUNDS)), planted=0.1)
