"""Whatever is delivered however often, in whatever order, takes effect once: every message of the peer port but the matching ones.

``Courier`` delivers a call one to three times, loses answers, keeps copies that it delivers again at any later time, and lets either side
crash between the step at the one and the step at the other. Seeds are printed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.audit.witness import Submission
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import ConflictError, ConnectorError, ProtocolError, UnavailableError
from connector_psi.node import ports
from connector_psi.node.asked import case_bytes, case_request
from connector_psi.node.granting import signed_bytes
from connector_psi.node.recalling import acknowledgement_bytes
from connector_psi.node.service import Service
from connector_psi.protocol import messages
from connector_psi.storage import accesses, cases, schema
from connector_psi.witness.cosigning import WitnessAnswer
from tests.simulation import casework
from tests.simulation.casework import ask_about_sought, message
from tests.simulation.federation import DirectOwner, Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
PROFILES = ("ics2", "sis", "police")
AT_ONCE = 100
CALLS = {"open_case", "get_outcome", "request_access", "recall", "acknowledge_recall", "add_checkpoint"}


class CrashError(BaseException):
    """The caller's process ends here, and no handler of a failure has its say."""


class Courier(DirectOwner):
    """Delivers as networks and crashes do."""

    def open_case(self, request: ports.CaseRequest, at_least: int = 0) -> None:
        self._carry("open_case", lambda: super(Courier, self).open_case(request, at_least))

    def get_outcome(self, agreement: str, request_id: bytes) -> ports.OutcomeAnswer | None:
        return self._carry("get_outcome", lambda: super(Courier, self).get_outcome(agreement, request_id))

    def request_access(self, request: ports.AccessRequest) -> ports.AccessAnswer | None:
        return self._carry("request_access", lambda: super(Courier, self).request_access(request))

    def recall(self, message: ports.RecallMessage) -> None:
        self._carry("recall", lambda: super(Courier, self).recall(message))

    def acknowledge_recall(self, message: ports.Acknowledgement) -> None:
        self._carry("acknowledge_recall", lambda: super(Courier, self).acknowledge_recall(message))

    def add_checkpoint(self, submission: Submission) -> WitnessAnswer:
        return self._carry("add_checkpoint", lambda: super(Courier, self).add_checkpoint(submission))

    def _carry(self, call: str, deliver: Callable[[], Any]) -> Any:
        """Deliver, and again, and perhaps let somebody die."""
        post, dice = self._federation, self._federation.dice  # type: ignore[attr-defined]
        if post.calm:
            return deliver()
        if dice.random() < 0.15:
            raise UnavailableError("never left")
        answers = [deliver() for _ in range(dice.randint(1, 3))]
        post.delivered[call] += len(answers)
        if len({_content(answer) for answer in answers}) > 1:
            # Only a witness says something else the second time: that it has seen this already.
            assert call == "add_checkpoint", call
        post.late.append((call, deliver))
        fate = dice.random()
        if fate < 0.2:
            raise UnavailableError("the answer was lost")
        if fate < 0.35:
            post.restart(self._authority)
            raise UnavailableError("it died before it answered")
        if fate < 0.5:
            raise CrashError
        return answers[0]


def _content(answer: Any) -> Any:
    """An answer without the proof, which grows with the log."""
    return replace(answer, proof=None) if isinstance(answer, ports.OutcomeAnswer) else answer


class Post(Federation):
    """A federation that a courier connects."""

    def __init__(self, root: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.calm = True
        self.late: list[tuple[str, Callable[[], Any]]] = []
        self.delivered: Counter[str] = Counter()
        super().__init__(root, seed=f"inbox-{seed}", profiles=PROFILES)
        for service in self.services.values():
            # Covers would be most of what is carried.
            with service.node.store.write() as tx:
                tx.execute(schema.agreements.delete().where(schema.agreements.c.code.like("%-CHK%")))
            service.node.refresh_peers()

    def connector(self, code: str) -> ports.Connector:
        made: Any = super().connector(code)
        made.owner = lambda authority: Courier(self, code, authority)
        return made

    def restart(self, code: str) -> None:
        self.close(code)
        self.open(code)

    def turn(self) -> None:
        """A turn of every loop of everybody; who crashes in one is started again."""
        self.clock.advance(self.dice.choice([2, 11]))
        for code in self.dice.sample(PROFILES, len(PROFILES)):
            for tick in ("tick_log", "tick_witnesses", "tick_owned_cases", "tick_queried_cases", "tick_recalls"):
                try:
                    getattr(self.services[code], tick)()
                except CrashError:
                    self.restart(code)
                except ConnectorError:
                    continue
            if self.dice.random() < 0.1:
                self.restart(code)
        self.dice.shuffle(self.late)
        while self.late and self.dice.random() < 0.7:
            call, deliver = self.late.pop() if self.dice.random() < 0.5 else self.dice.choice(self.late)
            with suppress(UnavailableError):
                deliver()
                self.delivered[call] += 1


def entries(service: Service) -> list[tuple[str, bytes | None, str]]:
    """Event, request and operation of everything that people here did with peers."""
    node = service.node
    kinds = {Event.CASE_OPEN, Event.CASE_OUTCOME, Event.RECEIPT, Event.RECALL, Event.ERASE, Event.CONSULT}
    with node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
        return [
            (leaf.event.value, leaf.request_id, node.log.open_body(tx, index).get("operation", ""))
            for index, leaf in enumerate(leaves)
            if leaf.event in kinds
        ]


@pytest.mark.parametrize("seed", [1])
def test_everything_takes_effect_once_however_often_and_late_it_is_delivered(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    _tell(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_long_everything_takes_effect_once(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    _tell(tmp_path, seed)


def _tell(root: Path, seed: int) -> None:
    post = Post(root, seed)
    try:
        ics2, sis, police = (post.services[code] for code in PROFILES)
        ics2.registration.register([declaration("M1", BOX)], "test")
        sis.registration.register([alert("DE1", BOX)], "test")
        police.registration.register([message("S1", BOX)], "test")
        post.settle()
        case, access = ask_about_sought(post), casework.ask(post).request_id
        post.calm = False
        _until(post, lambda: bool(post.services["sis"].cases.list(("awaiting_decision",))))
        post.services["sis"].received.decide(case, person("sis"), "it is the box", approve=True)
        _until(post, lambda: bool(post.services["ics2"].accesses.list(("awaiting_decision",))))
        casework.grant(post, access)
        _until(post, lambda: post.services["ics2"].cases.get(case).row.state == "disclosed")
        _until(post, lambda: casework.states(post) == ["granted"])
        post.services["sis"].registration.withdraw(alert("DE1", BOX).source, "DE1", "entered by mistake", "test")
        _until(post, lambda: bool(post.services["ics2"].recalls.list(("open",))))
        (recall,) = post.services["ics2"].recalls.list(("open",))
        post.services["ics2"].recalled.acknowledge(recall.row.recall_id, person("ics2"))
        _until(post, lambda: [v.row.state for v in post.services["sis"].recalls.list()] == ["acknowledged"])
        for _ in range(6):
            post.turn()
        post.calm = True
        for _ in range(6):
            post.turn()
        recall_id = recall.row.recall_id
        found = {code: Counter(entries(post.services[code])) for code in PROFILES}
        assert all(count == 1 for code in PROFILES for count in found[code].values()), found
        assert {k for k in found["ics2"] if k[1] in {case, recall_id}} == {
            ("CASE_OPEN", case, "consultation"), ("RECEIPT", case, "collection"), ("ERASE", case, "erasure"),
            ("RECALL", recall_id, "recall received"), ("RECALL", recall_id, "recall acknowledged"),
        }  # fmt: skip
        assert {k for k in found["sis"] if k[1] in {case, recall_id}} == {
            ("CASE_OPEN", case, "consultation"), ("CASE_OUTCOME", case, "disclosure"),
            ("RECALL", recall_id, "recall"), ("RECALL", recall_id, "recall acknowledged"),
        }  # fmt: skip
        assert {k for k in found["police"] if k[1] == access} == {
            ("CASE_OPEN", access, "access request"), ("RECEIPT", access, "access decision"),
        }  # fmt: skip
        assert {k for k in found["ics2"] if k[1] == access} == {
            ("CASE_OPEN", access, "access request"), ("CASE_OUTCOME", access, "access decision"),
        }  # fmt: skip
        for service in post.services.values():
            assert service.oversight.verify()["verified"] is True
            queues: Any = service.status()["queues"]
            assert not [line for line in queues if line["parked"]]
        assert set(post.delivered) == CALLS
    finally:
        post.close()


def _until(post: Post, done: Callable[[], bool], turns: int = 400) -> None:
    for _ in range(turns):
        if done():
            return
        post.turn()
    raise AssertionError(f"not there after {turns} turns")


# --- R5: the same request a hundred times at once


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Post]:
    made = Post(tmp_path_factory.mktemp("begun") / "nodes", 0)
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.services["police"].registration.register([message("S1", BOX)], "test")
    made.settle(2)
    return Prepared(made)


@pytest.fixture
def calm(begun: Prepared[Post], tmp_path: Path) -> Iterator[Post]:
    """Nothing is lost nor comes twice: that is up to the test."""
    made = begun.copy(tmp_path / "nodes")
    yield made
    made.close()


def at_once(call: Callable[[Any], Any], requests: list[Any]) -> list[Any]:
    """Make all calls at once; a refusal is an answer too."""

    def answer(request: Any) -> Any:
        try:
            return call(request)
        except ConnectorError as error:
            return type(error)

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(answer, requests))


def of_request(service: Service, request_id: bytes) -> Counter[str]:
    return Counter(event for event, key, _ in entries(service) if key == request_id)


def test_a_case_a_hundred_times_at_once_is_one_and_another_under_its_id_is_refused(calm: Post) -> None:
    ics2, sis, request_id = calm.services["ics2"], calm.services["sis"], ask_about_sought(calm)
    with ics2.node.store.read() as tx:
        row = cases.get_case(ics2.node.store, tx, cases.QUERIER, "sis", request_id)
    assert row is not None
    request = case_request(ics2.node, row)
    assert set(at_once(lambda r: sis.received.accept("ics2", r), [request] * AT_ONCE)) == {None}
    assert of_request(sis, request_id) == {"CASE_OPEN": 1}
    other = replace(request, justification="another one", signature=b"")
    other = replace(other, signature=ics2.node.signing_key.sign(case_bytes("ics2", other)))
    mixed = at_once(lambda r: sis.received.accept("ics2", r), [request, other] * (AT_ONCE // 2))
    assert mixed == [None, ConflictError] * (AT_ONCE // 2)
    assert of_request(sis, request_id) == {"CASE_OPEN": 1}


def test_an_outcome_a_hundred_times_at_once_has_the_same_bytes(calm: Post) -> None:
    sis, request_id = calm.services["sis"], ask_about_sought(calm)
    calm.settle()
    sis.received.decide(request_id, person("sis"), "it is the box", approve=True)
    calm.clock.advance(11)
    sis.tick_owned_cases()
    sis.tick_log()
    answers = at_once(lambda key: sis.received.outcome("ics2", "SIS-OBJ:ics2-sis", key), [request_id] * AT_ONCE)
    assert len(set(answers)) == 1
    assert isinstance(answers[0], ports.OutcomeAnswer)
    assert of_request(sis, request_id) == {"CASE_OPEN": 1, "CASE_OUTCOME": 1}


def test_a_request_for_access_a_hundred_times_at_once_is_one_and_is_answered_alike(calm: Post) -> None:
    police, ics2 = calm.services["police"], calm.services["ics2"]
    request = casework.signed(calm)
    assert set(at_once(lambda r: ics2.granting.request("police", r), [request] * AT_ONCE)) == {None}
    other = replace(request, necessity="another one", signature=b"")
    other = replace(other, signature=police.node.signing_key.sign(signed_bytes("police", other)))
    mixed = at_once(lambda r: ics2.granting.request("police", r), [request, other] * (AT_ONCE // 2))
    assert mixed == [None, ConflictError] * (AT_ONCE // 2)
    answer = casework.granted(calm, request)
    assert set(at_once(lambda r: ics2.granting.request("police", r), [request] * AT_ONCE)) == {answer}
    assert of_request(ics2, request.request_id) == {"CASE_OPEN": 1, "CASE_OUTCOME": 1}
    with ics2.node.store.read() as tx:
        assert accesses.count(tx) == {"owner.granted": 1}


def test_a_recall_and_its_acknowledgement_a_hundred_times_at_once_are_one(
    calm: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    ics2, sis, request_id = calm.services["ics2"], calm.services["sis"], ask_about_sought(calm)
    calm.settle()
    sis.received.decide(request_id, person("sis"), "it is the box", approve=True)
    calm.settle(rounds=12)
    kept: list[Any] = []

    def keep(_peer: str, told: Any) -> None:
        kept.append(told)
        raise UnavailableError("lost on the way")

    with monkeypatch.context() as patch:
        patch.setattr(ics2.recalled, "receive", keep)
        sis.registration.withdraw(alert("DE1", BOX).source, "DE1", "entered by mistake", "test")
        calm.settle()
    told = kept[0]
    assert set(at_once(lambda m: ics2.recalled.receive("sis", m), [told] * AT_ONCE)) == {None}
    other = replace(told, sent_ms=told.sent_ms + 1)
    signed = messages.recall_bytes(
        owner="sis", agreement=other.agreement, case_id=other.case_id, recall_id=other.recall_id, cause=other.cause,
        sent_ms=other.sent_ms, envelope=other.envelope,
    )  # fmt: skip
    other = replace(other, signature=sis.node.signing_key.sign(signed))
    mixed = at_once(lambda m: ics2.recalled.receive("sis", m), [told, other] * (AT_ONCE // 2))
    assert mixed == [None, ConflictError] * (AT_ONCE // 2)
    assert of_request(ics2, told.recall_id) == {"RECALL": 1}
    kept.clear()
    with monkeypatch.context() as patch:
        patch.setattr(sis.recalling, "acknowledge", keep)
        ics2.recalled.acknowledge(told.recall_id, person("ics2"))
        calm.settle()
    said = kept[0]
    assert set(at_once(lambda m: sis.recalling.acknowledge("ics2", m), [said] * AT_ONCE)) == {None}
    wrong = replace(said, acknowledged_ms=said.acknowledged_ms + 1, signature=b"")
    forged = replace(wrong, signature=bytes(64))
    wrong = replace(wrong, signature=ics2.node.signing_key.sign(acknowledgement_bytes("ics2", wrong)))
    assert at_once(lambda m: sis.recalling.acknowledge("ics2", m), [said, wrong, forged]) == [
        None, ConflictError, ProtocolError,
    ]  # fmt: skip
    assert of_request(sis, told.recall_id) == {"RECALL": 2}, "it was sent, and acknowledged"


def test_a_checkpoint_a_hundred_times_at_once_is_cosigned_once_or_alike(calm: Post) -> None:
    ics2, sis = calm.services["ics2"], calm.services["sis"]
    ics2.registration.register([declaration("M9", BOX)], "test")
    ics2.tick_log()
    node = ics2.node
    witness = next(key for key, whose in node.asked_witnesses().items() if whose == "sis")
    with node.store.read() as tx:
        before, size = node.entries.cosigned_by(tx, witness.name), node.entries.size(tx)
        note = node.entries.cosigned(tx, size)
        proof = tuple(node.log.prove_consistency(tx, before, size))
    assert note is not None
    answers = at_once(lambda s: sis.witnessing.add_checkpoint("ics2", s), [Submission(before, proof, note)] * AT_ONCE)
    lines = {answer.lines for answer in answers if answer.refusal is None}
    assert len(lines) == 1
    assert {answer.held_size for answer in answers if answer.refusal is not None} <= {size}
    with sis.node.store.read() as tx:
        rows = tx.execute(schema.witnessed.select()).all()
    assert [row.size for row in rows if row.origin == node.signer.name] == [size]
