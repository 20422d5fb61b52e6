"""The fault table: a log that cannot be written, a peer that is away or hostile, answers that get lost, and one bad apple.

Each fault is tried, then ends, and then everything goes on by itself: nothing is lost, nothing is done twice.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType
from connector_psi.encoding import bloom, tickets
from connector_psi.errors import AuditError, ConnectorError, PeerError, ProtocolError, UnavailableError
from connector_psi.node import ports
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.storage import owned, schema
from tests.simulation.faults import AGREEMENT, FULL, PURPOSE, READ_ONLY, make_query, unwritable
from tests.simulation.federation import DirectOwner, Federation, alert, declaration, person

CONTAINERS = [
    (IdentifierType.CONTAINER, normalise(IdentifierType.CONTAINER, f"TGHU{n}", complete_check_digit=True))
    for n in (111111, 222222, 333333)
]


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    yield made
    made.close()


def register_all(federation: Federation) -> None:
    federation.services["sis"].registration.register([alert(f"A{n}", c) for n, c in enumerate(CONTAINERS)], "test")
    federation.services["ics2"].registration.register(
        [declaration(f"D{n}", c) for n, c in enumerate(CONTAINERS)], "test"
    )


def turn(federation: Federation, rounds: int = 1, step_s: float = 10.0) -> Counter[str]:
    """One turn of every loop of every node that is there, which outlives failures as ``Service`` lets it."""
    failures: Counter[str] = Counter()
    for _ in range(rounds):
        federation.clock.advance(step_s)
        for name in ("tick_publish", "tick_log", "tick_query", "tick_cases", "tick_log"):
            for code, service in federation.services.items():
                try:
                    getattr(service, name)()
                except AuditError:
                    raise
                except ConnectorError as error:
                    failures[f"{code} {name} {error.code}"] += 1
    return failures


def turn_until(federation: Federation, done: Callable[[], bool], most: int) -> None:
    """Turns until something is so, at most so many."""
    for _ in range(most):
        turn(federation)
        if done():
            return


def open_cases(federation: Federation) -> list[bytes]:
    """Confirm every match and open a case for it."""
    ics2 = federation.services["ics2"]
    for row in ics2.review.list(state="new"):
        ics2.review.decide(row.match_id, person("ics2"), "compared", confirm=True)
        ics2.asked.open(row.match_id, person("ics2"), **PURPOSE, case_reference="C1", justification="seen")
    return [view.row.request_id for view in ics2.cases.list()]


def approve_all(federation: Federation) -> None:
    sis = federation.services["sis"]
    for view in sis.cases.list(("awaiting_decision",)):
        sis.received.decide(view.row.request_id, person("sis", Role.SUPERVISOR), "checked", approve=True)


def states(federation: Federation) -> list[str]:
    return sorted(view.row.state for view in federation.services["ics2"].cases.list())


def leaves(service: Service) -> list[Leaf]:
    node = service.node
    with node.store.read() as tx:
        found = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
    # Under the agreements without notice covers come and go.
    return [leaf for leaf in found if leaf.agreement in {None, AGREEMENT}]


def assert_one_leaf_each(federation: Federation, cases: int) -> None:
    """Both logs verify and hold one leaf a query and a case, on each side where it belongs."""
    per_side: dict[str, Counter[Event]] = {}
    for code, service in federation.services.items():
        assert service.oversight.verify()["verified"]
        found = Counter((leaf.event, leaf.request_id) for leaf in leaves(service) if leaf.request_id)
        assert max(found.values(), default=1) == 1, code
        per_side[code] = Counter(event for event, _ in found)
    assert per_side["ics2"][Event.CONSULT] == per_side["sis"][Event.CONSULT] > 0
    assert [per_side[code][Event.CASE_OPEN] for code in ("ics2", "sis")] == [cases, cases]
    assert [per_side["sis"][Event.CASE_OUTCOME], per_side["ics2"][Event.RECEIPT]] == [cases, cases]


# --- the log cannot be written


def test_without_a_log_nothing_is_answered_and_afterwards_everything_is(federation: Federation) -> None:
    register_all(federation)
    turn(federation, 2)
    cases = open_cases(federation)
    turn(federation)
    approve_all(federation)
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    before = leaves(sis)
    query = make_query(1)
    federation.clock.advance(10)
    with unwritable(sis, *READ_ONLY):
        calls: list[Callable[[], object]] = [
            lambda: sis.evaluation.evaluate(query),
            lambda: sis.registration.register([alert("late", CONTAINERS[0])], "test"),
            lambda: sis.received.accept("ics2", _request_of(ics2, cases[0], b"n" * 16)),
            sis.received.advance,
            lambda: sis.publishing.publish(AGREEMENT),
        ]
        for call in calls:
            with pytest.raises(UnavailableError):
                call()
        turn(federation, 3)
        assert [sis.received.outcome("ics2", AGREEMENT, case) for case in cases] == [None] * 3
        assert leaves(sis) == before
    assert states(federation) == ["pending"] * 3
    turn(federation, 4)
    assert states(federation) == ["disclosed"] * 3
    assert_one_leaf_each(federation, 3)


def _request_of(service: Service, case: bytes, new_id: bytes) -> ports.CaseRequest:
    """A case like one that is open already, under another id."""
    from connector_psi.node.asked import case_request

    row = service.cases.get(case).row
    return case_request(service.node, replace(row, request_id=new_id))


def test_a_full_disk_keeps_what_was_acknowledged_and_recovers(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    taken, refused = [], []
    with unwritable(ics2, *FULL):
        for n in range(200):
            try:
                ics2.registration.register([declaration(f"D{n}", CONTAINERS[n % 3])], "test")
                taken.append(n)
            except UnavailableError:
                refused.append(n)
                break
    assert refused, "the disk never became full"
    assert [leaf.event for leaf in leaves(ics2)].count(Event.COLLECT) == len(taken)
    outcomes = ics2.registration.register([declaration(f"D{n}", CONTAINERS[n % 3]) for n in (*taken, *refused)], "test")
    assert [result.outcome for result in outcomes] == ["duplicate"] * len(taken) + ["accepted"] * len(refused)
    assert ics2.oversight.verify()["verified"]


def test_no_outcome_is_served_while_no_checkpoint_can_be_signed(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_all(federation)
    turn(federation, 2)
    cases = open_cases(federation)
    turn(federation)
    approve_all(federation)
    sis = federation.services["sis"]
    real = os.fsync

    def full(handle: int) -> None:
        if "sis" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, "no space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        failures = turn(federation, 3)
        assert failures["sis tick_log unavailable"] >= 3
        # The leaves are there, and what they cover stays inside all the same.
        assert [leaf.event for leaf in leaves(sis)].count(Event.CASE_OUTCOME) == 3
        assert [sis.received.outcome("ics2", AGREEMENT, case) for case in cases] == [None] * 3
    turn(federation, 3)
    assert states(federation) == ["disclosed"] * 3
    assert_one_leaf_each(federation, 3)


# --- a peer that is away, answers that get lost


@pytest.mark.parametrize("phase", ["query", "send", "collect"])
def test_a_peer_that_is_away_is_found_again_and_nothing_is_lost(federation: Federation, phase: str) -> None:
    def away() -> None:
        federation.close("sis")
        failures = turn(federation, 3)
        assert {key.split()[1] for key in failures} == {"tick_query"}, "cases wait without failing"
        federation.open("sis")

    register_all(federation)
    turn(federation)
    if phase == "query":
        federation.services["ics2"].registration.register([declaration("D9", CONTAINERS[0])], "test")
        away()
    turn(federation, 2)
    assert len(federation.services["ics2"].review.list()) == 3 + (phase == "query")
    cases = len(open_cases(federation))
    if phase == "send":
        away()
    turn(federation, 2)
    approve_all(federation)
    if phase == "collect":
        away()
    turn(federation, 4)
    assert states(federation) == ["disclosed"] * cases
    assert_one_leaf_each(federation, cases)


@pytest.mark.parametrize("call", ["get_manifest", "read_set", "evaluate", "open_case", "get_outcome"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_call_that_fails_several_times_is_done_once(federation: Federation, call: str, when: str) -> None:
    """``after`` is the hard one: the owner did it, and the querier was told that it failed."""
    left = 3

    def lose(name: str) -> None:
        nonlocal left
        if name == f"{when}:{call}" and left:
            left -= 1
            raise UnavailableError("lost")

    federation.fault = lose
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    register_all(federation)
    turn_until(federation, lambda: len(ics2.review.list()) == 3, 5)
    assert sorted(row.payload["record_ref"] for row in ics2.review.list()) == ["D0", "D1", "D2"]
    cases = len(open_cases(federation))
    turn_until(federation, lambda: len(sis.cases.list(("awaiting_decision",))) == cases, 5)
    approve_all(federation)
    turn_until(federation, lambda: states(federation) == ["disclosed"] * cases, 6)
    # Nothing comes after that any more.
    turn(federation)
    assert not left, "the fault never happened"
    assert states(federation) == ["disclosed"] * cases
    assert_one_leaf_each(federation, cases)
    # The same bytes went out each time: an id stands for one query.
    assert len({query.request_id for query in federation.queries}) == len(set(federation.queries))


def test_an_outcome_is_taken_in_once_however_many_collect_it(federation: Federation) -> None:
    register_all(federation)
    turn(federation, 2)
    cases = len(open_cases(federation))
    turn(federation, 2)
    approve_all(federation)
    federation.clock.advance(20)
    federation.services["sis"].tick_cases()
    federation.services["sis"].tick_log()
    meet = threading.Barrier(2, timeout=10)

    def both_have_it(name: str) -> None:
        if name == "after:get_outcome":
            meet.wait()

    federation.fault = both_have_it
    threads = [threading.Thread(target=federation.services["ics2"].asked.advance) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    federation.fault = lambda _name: None
    assert states(federation) == ["disclosed"] * cases
    assert_one_leaf_each(federation, cases)


# --- one bad apple


class LyingOwner(DirectOwner):
    """An owner whose proofs do not prove, for one case or for its sets."""

    case = b""
    sets = False

    def get_manifest(self, agreement: str) -> ports.ManifestAnswer:
        answer = super().get_manifest(agreement)
        return replace(answer, proof=_broken(answer.proof)) if self.sets else answer

    def get_outcome(self, agreement: str, request_id: bytes) -> ports.OutcomeAnswer | None:
        answer = super().get_outcome(agreement, request_id)
        if answer is None or request_id != self.case:
            return answer
        return replace(answer, proof=_broken(answer.proof))


def _broken(proof: ports.LeafProof) -> ports.LeafProof:
    return replace(proof, proof=(bytes(32), *proof.proof[1:]))


@pytest.fixture
def lying(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> LyingOwner:
    owner = LyingOwner(federation, "ics2", "sis")
    monkeypatch.setattr(federation.services["ics2"].connector, "owner", lambda _authority: owner)
    return owner


def test_a_peers_proof_that_fails_costs_that_case_alone_and_never_this_node(
    federation: Federation, lying: LyingOwner
) -> None:
    register_all(federation)
    turn(federation, 2)
    lying.case = open_cases(federation)[0]
    turn(federation, 2)
    approve_all(federation)
    failures = turn(federation, 4)
    assert failures["ics2 tick_cases protocol"] >= 1
    ics2 = federation.services["ics2"]
    assert ics2.node.fatal is None
    assert states(federation) == ["disclosed", "disclosed", "pending"]
    lying.case = b""
    turn(federation, 2)
    assert states(federation) == ["disclosed"] * 3
    assert_one_leaf_each(federation, 3)


def test_a_set_whose_proof_fails_is_not_taken_and_does_not_end_this_node(
    federation: Federation, lying: LyingOwner
) -> None:
    lying.sets = True
    register_all(federation)
    with pytest.raises(PeerError):
        federation.settle(1)
    ics2 = federation.services["ics2"]
    assert ics2.node.fatal is None
    assert ics2.review.list() == []
    lying.sets = False
    turn(federation, 2)
    assert len(ics2.review.list()) == 3


@pytest.mark.parametrize("code", ["ics2", "sis"])
def test_a_case_that_cannot_be_read_does_not_keep_the_others_back(federation: Federation, code: str) -> None:
    register_all(federation)
    turn(federation, 2)
    bad, *good = open_cases(federation)
    turn(federation, 2)
    approve_all(federation)
    store = federation.services[code].node.store
    with store.write() as tx:
        where = schema.cases.c.request_id == bad
        sealed = tx.execute(sa.select(schema.cases.c.sealed).where(where)).scalar_one()
        tx.execute(sa.update(schema.cases).where(where).values(sealed=sealed[:-1] + bytes([sealed[-1] ^ 1])))
    turn(federation, 4)
    ics2 = federation.services["ics2"]
    assert [ics2.cases.get(case).row.state for case in good] == ["disclosed"] * 2
    with store.write() as tx:
        tx.execute(sa.update(schema.cases).where(where).values(sealed=sealed))
    turn(federation, 4)
    assert states(federation) == ["disclosed"] * 3
    assert_one_leaf_each(federation, 3)


def test_one_owner_that_is_away_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    federation = Federation(tmp_path, profiles=("ics2", "europol", "sis"))
    try:
        federation.close("europol")
        register_all(federation)
        failures = turn(federation, 2)
        assert failures["ics2 tick_query unavailable"] == 2
        assert len(federation.services["ics2"].review.list()) == 3
    finally:
        federation.close()


def test_one_agreement_that_cannot_be_published_keeps_back_neither_others_nor_the_end_of_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path, profiles=("ics2", "sis"))
    try:
        sis = federation.services["sis"]
        federation.settle(1)
        _begin_epoch(sis)
        publish = sis.publishing.publish

        def fail_for_one(code: str) -> object:
            if code == AGREEMENT:
                raise UnavailableError("no space")
            return publish(code)

        monkeypatch.setattr(sis.publishing, "publish", fail_for_one)
        monkeypatch.setattr(sis.publishing, "due", lambda: [AGREEMENT])
        with pytest.raises(UnavailableError):
            sis.tick_publish()
        assert owned.PREPARING not in _epoch_states(sis)
    finally:
        federation.close()


def _begin_epoch(service: Service) -> None:
    """What a build that was interrupted leaves."""
    node = service.node
    with node.store.write() as tx:
        epoch = owned.next_epoch(tx, AGREEMENT)
        made = node.keyring.new_epoch(AGREEMENT, epoch)
        owned.begin_epoch(tx, AGREEMENT, epoch, made.wrapped_seed, b"")


def _epoch_states(service: Service) -> list[str]:
    with service.node.store.read() as tx:
        return list(tx.execute(sa.select(schema.epochs.c.state).order_by(schema.epochs.c.epoch)).scalars())


def test_a_set_that_is_finished_while_old_ones_are_cleared_is_not_taken_for_an_interrupted_one(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sis = federation.services["sis"]
    building, go_on = threading.Event(), threading.Event()
    write_filter, list_epochs = bloom.write_filter, owned.list_epochs

    def slow_write(*arguments: Any) -> None:
        building.set()
        assert go_on.wait(10)
        write_filter(*arguments)

    builder = threading.Thread(target=sis.publishing.publish, args=(AGREEMENT,))

    def list_then_finish(tx: Any) -> Any:
        rows = list_epochs(tx)
        go_on.set()
        builder.join(10)
        return rows

    monkeypatch.setattr(bloom, "write_filter", slow_write)
    builder.start()
    assert building.wait(10)
    monkeypatch.setattr(owned, "list_epochs", list_then_finish)
    sis.publishing.retire()
    assert _epoch_states(sis) == [owned.PUBLISHED]
    sis.tick_log()
    assert sis.publishing.get_manifest("ics2", AGREEMENT).manifest


# --- sets on the disk of the querier


def _folder(federation: Federation) -> Path:
    (folder,) = federation.services["ics2"].node.layout.taken_set(AGREEMENT, 0).parent.iterdir()
    return folder


@pytest.mark.parametrize("name", ["filter", "tickets"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_set_that_was_damaged_on_disk_is_found_at_start_and_fetched_again(
    federation: Federation, name: str, damage: str
) -> None:
    federation.services["sis"].registration.register([alert("A0", CONTAINERS[0])], "test")
    turn(federation, 2)
    path = _folder(federation) / name
    federation.close("ics2")
    sound = path.read_bytes()
    raw = bytearray(sound)
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    else:
        # A bit that neither header nor fill nor order tell: only the manifest's hash does.
        raw[len(raw) // 2] ^= 0x10
        path.write_bytes(raw)
    ics2 = federation.open("ics2")
    ics2.registration.register([declaration("D0", CONTAINERS[0])], "test")
    turn(federation, 3)
    assert [row.payload["record_ref"] for row in ics2.review.list()] == ["D0"]
    assert path.read_bytes() == sound


def test_a_round_meets_a_damaged_set_while_its_owner_is_away_and_gives_no_answer(federation: Federation) -> None:
    federation.services["sis"].registration.register([alert("A0", CONTAINERS[0])], "test")
    turn(federation, 2)
    path = _folder(federation) / "filter"
    federation.close("ics2")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    ics2 = federation.open("ics2")
    ics2.registration.register([declaration("D0", CONTAINERS[0])], "test")
    federation.fault = lambda name: _away() if name == "before:get_manifest" else None
    for _ in range(2):
        with pytest.raises(UnavailableError):
            ics2.querying.run_round(AGREEMENT)
    assert ics2.querying.pending(AGREEMENT) == 1
    federation.fault = lambda _name: None
    turn(federation, 2)
    assert len(ics2.review.list()) == 1


def _away() -> None:
    raise UnavailableError("away")


def test_a_file_that_stopped_halfway_is_gone_on_with_unless_it_is_of_another_set(federation: Federation) -> None:
    register_all(federation)
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    sis.publish()
    folder = ics2.node.layout.taken_set(AGREEMENT, 1)
    folder.mkdir(parents=True)
    (folder / "filter").write_bytes(b"half of something else")
    (folder / "tickets").write_bytes(bytes(1 << 20))
    with pytest.raises(ProtocolError):
        ics2.querying.take_newest(AGREEMENT)
    assert not folder.exists()
    assert ics2.querying.take_newest(AGREEMENT)
    turn(federation)
    assert len(ics2.review.list()) == 3


def test_a_set_that_expired_is_not_kept(federation: Federation) -> None:
    register_all(federation)
    turn(federation)
    folder = _folder(federation)
    federation.close("sis")
    federation.clock.advance(49 * 3600)
    with suppress(UnavailableError):
        federation.services["ics2"].tick_query()
    assert federation.services["ics2"].querying.run_round(AGREEMENT) == 0
    assert not folder.exists()


def test_a_set_that_is_damaged_while_in_use_gives_no_wrong_answer_and_is_fetched_again(federation: Federation) -> None:
    register_all(federation)
    federation.settle(1)
    path, ics2 = _folder(federation) / "tickets", federation.services["ics2"]
    assert len(ics2.review.list()) == 3
    with path.open("r+b") as file:
        rows = bytearray(file.read())
        rows[30 :: tickets.ROW_BYTES] = bytes(b ^ 1 for b in rows[30 :: tickets.ROW_BYTES])
        file.seek(0)
        file.write(rows)
    ics2.registration.register([declaration("D9", CONTAINERS[0])], "test")
    failures = turn(federation, 4)
    assert failures["ics2 tick_query protocol"] >= 1
    assert [row.payload["record_ref"] for row in ics2.review.list()] == ["D0", "D1", "D2", "D9"]


def test_a_round_that_was_cut_short_is_finished_whole_under_a_smaller_setting(federation: Federation) -> None:
    register_all(federation)
    federation.services["sis"].publish()
    federation.fault = lambda name: _away() if name == "after:evaluate" else None
    turn(federation)
    federation.close("ics2")
    settings = federation.root / "ics2" / "node.toml"
    settings.write_text(settings.read_text().replace("[query]\n", "[query]\nrecords_per_round = 1\n"))
    federation.open("ics2")
    federation.fault = lambda _name: None
    turn(federation, 2)
    assert len(federation.services["ics2"].review.list()) == 3
    assert federation.services["ics2"].querying.pending(AGREEMENT) == 0
