"""What a node owes its peers: kept while they are away, drained when they are back, parked where trying does not help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.disclosure import is_silent
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import ConnectorError, ProtocolError, PurposeRefusedError, UnavailableError
from connector_psi.node import outbox
from connector_psi.node.ports import CaseRequest
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.storage import cases, schema
from connector_psi.storage.cases import NEVER_MS, CaseRow
from tests.simulation import casework
from tests.simulation.casework import ask_about_sought, message
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX, OTHER = (IdentifierType.CONTAINER, "CSQU3054383"), (IdentifierType.CONTAINER, "MSCU1234566")
ADMIN = person("ics2", Role.ADMIN, "admin1")
OUTGOING = ("open_case", "get_outcome", "request_access", "recall", "acknowledge_recall")
DAY_S, STEP_S = 24 * 3600, 3600


class Line:
    """Calls between the nodes: which were made when, and whether they get through."""

    def __init__(self, federation: Federation) -> None:
        self.calls: list[tuple[float, str]] = []
        self.cut = False
        self._federation = federation
        federation.fault = self

    def __call__(self, name: str) -> None:
        when, _, call = name.partition(":")
        if when == "before" and call in OUTGOING:
            self.calls.append((self._federation.clock.now().timestamp(), call))
            if self.cut:
                raise UnavailableError("cut")

    def counted(self) -> Counter[str]:
        found = Counter(call for _, call in self.calls)
        self.calls.clear()
        return found


def without_covers(federation: Federation) -> None:
    """The agreements without notice send by themselves; the tests of them have their own federation."""
    for service in federation.services.values():
        silent = [b.code for b in service.node.agreements() if is_silent(b.agreement)]
        with service.node.store.write() as tx:
            tx.execute(schema.agreements.delete().where(schema.agreements.c.code.in_(silent)))
        service.node.refresh_peers()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("begun") / "nodes", profiles=("ics2", "sis"))
    without_covers(made)
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle(2)
    return Prepared(made)


@pytest.fixture
def federation(begun: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = begun.copy(tmp_path / "nodes")
    yield made
    made.close()


def turn(federation: Federation, seconds: float = 11, turns: int = 1, code: str = "") -> None:
    """Turns of the loops of cases and recalls, which outlive failures."""
    for _ in range(turns):
        federation.clock.advance(seconds)
        for name, service in federation.services.items():
            if code in {"", name}:
                for tick in (service.tick_owned_cases, service.tick_queried_cases, service.tick_recalls):
                    try:
                        tick()
                    except ConnectorError:
                        continue
                service.tick_log()


def leaves(service: Service, *events: Event) -> Counter[tuple[str, bytes | None]]:
    node = service.node
    with node.store.read() as tx:
        found = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
    return Counter((leaf.event.value, leaf.request_id) for leaf in found if leaf.event in events)


def drafted(service: Service, count: int, peer: str = "sis", opened_ms: int = 0) -> list[bytes]:
    """Cases about tickets that nobody has, waiting to be sent, each a second younger than the one before."""
    made, now = [], opened_ms or service.node.now_ms()
    for number in range(count):
        request_id = service.node.random.bytes(16)
        row = CaseRow(
            side=cases.QUERIER, peer=peer, request_id=request_id, agreement=f"SIS-OBJ:ics2-{peer}", epoch=1,
            state="drafted", opened_ms=now - 1000 * (count - number), due_ms=now + 72 * 3_600_000, next_ms=now,
            match_id=None, leaf_index=None, quiet=False,
            payload={
                "ticket_id": bytes(16).hex(), "redeem": [bytes(8).hex()], "purpose": "cpsi:ObjectSeizureOrEvidence",
                "legal_basis": "2018/1862:38", "case_reference": f"C{number}", "justification": "it is needed",
                "actors": [bytes(32).hex()], "types": [], "record_ref": "", "opened_by": "", "ordered_by": "",
            },
        )  # fmt: skip
        with service.node.store.write() as tx:
            cases.put_case(service.node.store, tx, row)
        made.append(request_id)
    return made


def queues(service: Service) -> dict[str, dict[str, Any]]:
    found: Any = service.status()["queues"]
    return {line["kind"]: line for line in found}


def alarms(service: Service) -> list[tuple[str, str, str, int]]:
    found: Any = service.status()["alarms"]
    return [tuple(alarm.values()) for alarm in found]


# --- A peer is away


def test_a_day_without_the_other_side_costs_a_few_hundred_calls_and_everything_is_there_soon_after(
    tmp_path: Path,
) -> None:
    federation = casework.begun(tmp_path, messages=[message("S1", BOX)], profiles=("ics2", "sis", "police"))
    try:
        without_covers(federation)
        ics2, sis, police = (federation.services[code] for code in ("ics2", "sis", "police"))
        sis.registration.register([alert("DE1", BOX)], "test")
        federation.settle()
        first = ask_about_sought(federation)
        federation.settle()
        sis.received.decide(first, person("sis"), "it is the box", approve=True)
        federation.settle(rounds=12)
        # A recall is at customs and acknowledged there, another is made at N.SIS, a case and a request are open.
        sis.recalling.send(first, person("sis", Role.SUPERVISOR, "supervisor1"), "wrong", withdraw=True)
        federation.settle()
        (recalled,) = ics2.recalls.list(("open",))
        ics2.registration.register([declaration("M2", OTHER)], "test")
        sis.registration.register([alert("DE2", OTHER)], "test")
        federation.settle()
        line = Line(federation)
        line.cut = True
        ics2.recalled.acknowledge(recalled.row.recall_id, person("ics2"))
        second = ask_about_sought(federation)
        access = casework.ask(federation)
        for _ in range(DAY_S // STEP_S):
            turn(federation, STEP_S)
        kept = queues(ics2)
        assert kept["case"]["waiting"] == kept["acknowledgement"]["waiting"] == 1
        assert kept["case"]["oldest_s"] >= DAY_S - 2 * STEP_S
        assert kept["case"]["away_s"] >= DAY_S - 10 * STEP_S
        assert queues(police)["access"]["parked"] == kept["case"]["parked"] == 0
        assert not [alarm for alarm in alarms(ics2) if alarm[0].startswith("outbox")]
        calls = line.counted()
        # One thing tries for all that customs owes N.SIS, another for what the police owe customs.
        assert calls.total() <= 2 * DAY_S / STEP_S + 2, calls
        line.cut = False
        federation.settle(rounds=6, step_s=60)  # a pause is at most five minutes
        assert ics2.cases.get(second).row.state == "pending"
        assert [view.row.state for view in police.accesses.list()] == ["pending"]
        assert not {"case", "acknowledgement"} & set(queues(ics2))
        assert [view.row.state for view in sis.recalls.list()] == ["acknowledged"]
        casework.grant(federation, access.request_id)
        sis.received.decide(second, person("sis"), "it is the box", approve=True)
        turn(federation, turns=4)
        assert ics2.cases.get(second).row.state in {"disclosed", "not_disclosed"}
        assert [view.row.state for view in police.accesses.list()] == ["granted"]
        at_owner = leaves(sis, Event.CASE_OPEN, Event.CASE_OUTCOME)
        assert at_owner["CASE_OPEN", second] == at_owner["CASE_OUTCOME", second] == 1
        assert leaves(ics2, Event.CASE_OPEN)["CASE_OPEN", access.request_id] == 1
        assert leaves(sis, Event.RECALL)["RECALL", recalled.row.recall_id] == 2, "sent, and acknowledged"
    finally:
        federation.close()


def test_one_thing_tries_for_all_and_the_oldest_goes_first_when_the_peer_is_back(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    made = drafted(ics2, 30)
    line = Line(federation)
    line.cut = True
    turn(federation, 1, turns=20, code="ics2")
    tried = line.counted()["open_case"]
    assert 2 <= tried <= 20, "one a turn at most, and fewer while the pause grows"
    turn(federation, 1, turns=200, code="ics2")
    assert line.counted()["open_case"] <= 40
    line.cut = False
    # After a restart it is not known that the peer is away, and nothing waits for the end of a pause.
    federation.close("ics2")
    ics2 = federation.open("ics2")
    turn(federation, 1, turns=2, code="ics2")
    with sis.node.store.read() as tx:
        entries = [parse_leaf(raw) for raw in sis.node.entries.read_leaves(tx, 0, sis.node.entries.size(tx))]
    order = [leaf.request_id for leaf in entries if leaf.event is Event.CASE_OPEN and leaf.request_id in made]
    assert sorted(order) == sorted(made)
    oldest = [made.index(request_id) for request_id in order if request_id is not None]
    # But for those that tried while it was away.
    assert sum(a > b for a, b in pairwise(oldest)) <= tried
    with ics2.node.store.read() as tx:
        assert set(tx.execute(sa.select(schema.cases.c.last_error)).scalars()) == {None}


def test_what_is_behind_for_one_peer_keeps_no_other_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PER_TURN", 5)
    federation = Federation(tmp_path, profiles=("ics2", "sis", "nsis2=sis"))
    try:
        federation.settle(1)
        ics2 = federation.services["ics2"]
        old = drafted(ics2, 23)
        new = drafted(ics2, 1, peer="nsis2", opened_ms=ics2.node.now_ms() + 5_000)
        turn(federation, 6, code="ics2")
        sent = leaves(federation.services["nsis2"], Event.CASE_OPEN)
        assert sent["CASE_OPEN", new[0]] == 1
        got = leaves(federation.services["sis"], Event.CASE_OPEN)
        assert [got["CASE_OPEN", each] for each in old] == [1] * 5 + [0] * 18, "the oldest first, so many a turn"
        turn(federation, 1, turns=4, code="ics2")
        got = leaves(federation.services["sis"], Event.CASE_OPEN)
        assert [got["CASE_OPEN", each] for each in old] == [1] * 23
    finally:
        federation.close()


# --- What the peer does not take


def refusing(
    monkeypatch: pytest.MonkeyPatch, service: Service, wrong: set[bytes], error: type[ConnectorError]
) -> Counter[bytes]:
    """An owner that does not take some cases."""
    tried: Counter[bytes] = Counter()
    accept = service.received.accept

    def refuse(peer: str, request: CaseRequest) -> None:
        tried[request.request_id] += 1
        if request.request_id in wrong:
            raise error
        accept(peer, request)

    monkeypatch.setattr(service.received, "accept", refuse)
    return tried


@pytest.mark.parametrize("error", [PurposeRefusedError, ProtocolError])
def test_a_case_that_is_refused_five_times_is_parked_shown_and_sent_again_when_somebody_says_so(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, error: type[ConnectorError]
) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    made = drafted(ics2, 3)
    wrong = {made[1]}
    tried = refusing(monkeypatch, sis, wrong, error)
    turn(federation, code="ics2")
    assert [ics2.cases.get(each).row.state for each in made] == ["pending", "drafted", "pending"]
    assert queues(ics2)["case"] | {"oldest_s": 0} == {
        "kind": "case", "peer": "sis", "waiting": 1, "oldest_s": 0, "attempts": 1, "away_s": None, "parked": 0,
    }  # fmt: skip
    assert not [alarm for alarm in alarms(ics2) if alarm[0] == "outbox.parked"]
    turn(federation, turns=20, code="ics2")
    assert tried[made[1]] == outbox.MAX_ATTEMPTS
    assert (queues(ics2)["case"]["waiting"], queues(ics2)["case"]["parked"]) == (0, 1)
    assert ("outbox.parked", "SIS-OBJ:ics2-sis", "querier", 1) in alarms(ics2)
    # Also after a restart.
    federation.close("ics2")
    ics2 = federation.open("ics2")
    turn(federation, turns=5, code="ics2")
    assert tried[made[1]] == outbox.MAX_ATTEMPTS
    (item,) = [item for item in ics2.outbox.list() if item["kind"] == "case"]
    assert (item["id"], item["attempts"], item["last_error"]) == (made[1].hex(), 5, error.code)
    with pytest.raises(PurposeRefusedError):
        ics2.outbox.retry([made[1], bytes(16)], ADMIN)
    wrong.clear()
    assert ics2.outbox.retry([made[1]], ADMIN) == 1
    turn(federation, code="ics2")
    assert ics2.cases.get(made[1]).row.state == "pending"
    assert "case" not in queues(ics2)
    assert not [alarm for alarm in alarms(ics2) if alarm[0] == "outbox.parked"]
    assert [leaves(sis, Event.CASE_OPEN)["CASE_OPEN", each] for each in made] == [1, 1, 1]
    assert leaves(ics2, Event.CONFIG).total() == 2, "the peer that was added, and the retry"


def test_what_cannot_be_read_here_is_parked_and_keeps_no_other_back(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    made = drafted(ics2, 3)
    with ics2.node.store.write() as tx:
        tx.execute(sa.update(schema.cases).where(schema.cases.c.request_id == made[0]).values(sealed=bytes(40)))
    turn(federation, turns=12, code="ics2")
    assert {leaves(federation.services["sis"], Event.CASE_OPEN)["CASE_OPEN", each] for each in made[1:]} == {1}
    (item,) = [item for item in ics2.outbox.list() if item["parked_ms"]]
    assert (item["id"], item["last_error"]) == (made[0].hex(), "storage")


def test_a_defect_of_one_thing_at_the_peer_does_not_keep_the_others_waiting(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is not there whenever it is asked about one of them."""
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    made = drafted(ics2, 6)
    refusing(monkeypatch, sis, {made[0]}, UnavailableError)
    turn(federation, 2, turns=40, code="ics2")
    assert [ics2.cases.get(each).row.state for each in made] == ["drafted"] + ["pending"] * 5
    assert queues(ics2)["case"]["parked"] == 0


def test_what_waits_for_a_revoked_peer_is_held_and_not_to_blame(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    (made,) = drafted(ics2, 1)
    ics2.revoke("sis")
    turn(federation, turns=12, code="ics2")
    (item,) = [item for item in ics2.outbox.list() if item["kind"] == "case"]
    assert (item["attempts"], item["parked_ms"], item["last_error"]) == (0, 0, "purpose_refused")
    ics2.peering.add((federation.root / "sis" / "descriptor.json").read_bytes())
    turn(federation, turns=2, code="ics2")
    assert ics2.cases.get(made).row.state == "pending"


# --- Where the owner gets no notice

SILENT, SLOT_S = "SIS-CHK:sis-ics2", 60


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    # At a full minute, so that slots fall alike in every run.
    start = datetime.now(tz=UTC).replace(second=0, microsecond=0)
    made = Federation(tmp_path_factory.mktemp("silent") / "nodes", profiles=("ics2", "sis"), start=start)
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE36", BOX, category="sis.36")], "test")
    made.settle(2)
    sis = made.services["sis"]
    (match,) = [row for row in sis.review.list() if row.agreement == SILENT]
    sis.review.decide(match.match_id, person("sis"), "the same box", confirm=True)
    sis.asked.open(
        match.match_id, person("sis"), purpose="cpsi:DiscreetInquiryOrSpecificCheck", legal_basis="2018/1862:36",
        case_reference="SIRENE-1", justification="it arrives this week",
    )  # fmt: skip
    return Prepared(made)


@pytest.fixture
def silent(confirmed: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = confirmed.copy(tmp_path / "silent")
    yield made
    made.close()


def _slots(line: Line, call: str, slot_s: int, step_s: float) -> set[bool]:
    """Whether calls were made at the first look after the beginning of a slot."""
    return {when % slot_s < step_s for when, name in line.calls if name == call}


def test_a_case_without_notice_is_tried_again_at_its_slots_alone(silent: Federation) -> None:
    sis, line = silent.services["sis"], Line(silent)
    line.cut = True
    turn(silent, 3, turns=120, code="sis")
    assert line.counted()["open_case"] <= 120 * 3 // SLOT_S + 1, "one a slot finds out that the owner is away"
    line.cut = False
    turn(silent, 3, turns=60, code="sis")
    assert _slots(line, "open_case", SLOT_S, 3) == {True}
    (case,) = [view.row for view in sis.cases.list() if view.row.agreement == SILENT]
    assert case.state in {"pending", "disclosed"}
    assert _slots(line, "get_outcome", 10, 3) <= {True}


def test_covers_are_parked_with_the_case_and_sent_again_with_it_and_the_owner_is_shown_nothing(
    silent: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sis, ics2 = silent.services["sis"], silent.services["ics2"]
    accept, refused = ics2.received.accept, True
    tried: Counter[bytes] = Counter()

    def refuse(peer: str, request: CaseRequest) -> None:
        if request.agreement == SILENT:
            tried[request.request_id] += 1
            if refused:
                raise PurposeRefusedError
        accept(peer, request)

    monkeypatch.setattr(ics2.received, "accept", refuse)
    turn(silent, 20, turns=30)
    (case,) = [view.row for view in sis.cases.list() if view.row.agreement == SILENT]
    with sis.node.store.read() as tx:
        rows = tx.execute(
            sa.select(schema.cases).where(schema.cases.c.agreement == SILENT, schema.cases.c.side == cases.QUERIER)
        ).all()
    parked = {bytes(row.request_id) for row in rows if row.parked_ms}
    assert case.request_id in parked
    assert len(parked) > 1
    assert {tried[each] for each in parked} == {outbox.MAX_ATTEMPTS}
    assert all(tried[each] <= outbox.MAX_ATTEMPTS for each in tried)
    # Here the case is shown, and no cover.
    mine = [item for item in sis.outbox.list() if item["agreement"] == SILENT and item["parked_ms"]]
    assert [item["id"] for item in mine] == [case.request_id.hex()]
    assert ("outbox.parked", SILENT, "querier", 1) in alarms(sis)
    assert ics2.outbox.list() == []
    assert ics2.status()["queues"] == []
    assert not [alarm for alarm in alarms(ics2) if alarm[0] == "outbox.parked"]
    refused = False
    before = dict(tried)
    line = Line(silent)
    sis.outbox.retry([case.request_id], person("sis", Role.SUPERVISOR, "supervisor1"))
    turn(silent, 3, turns=25, code="sis")
    assert {tried[each] - before[each] for each in parked} == {1}
    assert _slots(line, "open_case", SLOT_S, 3) == {True}


def test_a_recall_without_notice_is_never_parked_nor_shown(silent: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    ics2, sis = silent.services["ics2"], silent.services["sis"]

    def refuse(*_: object) -> None:
        raise ProtocolError

    with monkeypatch.context() as patch:
        patch.setattr(sis.recalled, "receive", refuse)
        turn(silent, 3600)
        turn(silent, 41, turns=12)
        with ics2.node.store.read() as tx:
            rows = tx.execute(sa.select(schema.recalls)).all()
        waiting = [row for row in rows if row.state == "sending"]
        assert waiting
        assert max(row.attempts for row in waiting) > outbox.MAX_ATTEMPTS
        assert {row.parked_ms for row in waiting} == {None}
        assert not any(row.next_ms == NEVER_MS for row in waiting)
        assert (ics2.status()["queues"], ics2.outbox.list()) == ([], [])
    # A pause is five minutes at most. What was begun meanwhile, as a cover, may still wait.
    turn(silent, 120, turns=6)
    with ics2.node.store.read() as tx:
        states = dict(tx.execute(sa.select(schema.recalls.c.recall_id, schema.recalls.c.state)).all())
    assert "sending" not in {states[row.recall_id] for row in waiting}


# --- The rule itself


def test_pauses_double_up_to_five_minutes_and_are_shortened_at_random(federation: Federation) -> None:
    box = federation.services["ics2"].outbox
    for failures, longest in ((1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000), (1_000, 300_000)):
        drawn = [box._backoff_ms(failures) for _ in range(200)]
        assert 0 < min(drawn) < longest / 5
        assert longest * 4 / 5 < max(drawn) <= longest
        assert abs(sum(drawn) / len(drawn) - longest / 2) < longest / 8


def test_a_store_that_cannot_be_written_blames_no_peer(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    ics2 = federation.services["ics2"]
    drafted(ics2, 1)
    line = Line(federation)
    line.cut = True

    def full(*_: object, **__: object) -> None:
        raise UnavailableError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(ics2.node.store, "write", full)
        federation.clock.advance(11)
        with pytest.raises(UnavailableError, match="disk full"):
            ics2.outbox.turn(outbox.CASES, ics2.asked._advance_case)
    line.cut = False
    ics2.asked.advance()
    assert line.counted()["open_case"] == 2, "at once, without a pause"
