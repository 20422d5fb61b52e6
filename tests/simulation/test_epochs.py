"""Epochs turn while nodes work: the set before serves until every live record was evaluated anew, then it is gone, with evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.domain.records import Record, SourceSystem
from connector_psi.errors import KeyUnavailableError, UnavailableError
from connector_psi.node import querying
from connector_psi.storage import queried
from tests.simulation.faults import AGREEMENT
from tests.simulation.federation import Federation, alert, declaration
from tests.simulation.prepared import Prepared
from tests.simulation.test_deltas import BOXES, matches, queries, register, taken


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("begun") / "nodes")
    made.empty_deltas = True
    made.settle(2)
    return Prepared(made)


@pytest.fixture
def federation(begun: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = begun.copy(tmp_path / "nodes")
    yield made
    made.close()


def in_use(federation: Federation) -> list[queried.TakenSet]:
    with federation.services["ics2"].node.store.read() as tx:
        return queried.sets_in_use(tx, AGREEMENT)


def leaves(federation: Federation, code: str, event: Event) -> list[Leaf]:
    node = federation.services[code].node
    with node.store.read() as tx:
        found = [parse_leaf(leaf) for leaf in node.read_leaves(tx, 0, node.entries.size(tx))]
    return [leaf for leaf in found if leaf.event is event and leaf.agreement == AGREEMENT]


def files(federation: Federation, code: str, side: str) -> list[str]:
    folder = federation.root / code / "data" / side / AGREEMENT.replace(":", "_")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def ending(federation: Federation, record: Record, hours: float) -> Record:
    return replace(record, valid_until=federation.clock.now() + timedelta(hours=hours))


def turn(federation: Federation) -> None:
    """A new epoch is published and taken, and nothing evaluated anew yet."""
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    sis.publish([AGREEMENT])
    assert ics2.querying.take_newest(AGREEMENT)
    federation.clock.advance(1)
    sis.tick_deltas()
    sis.tick_log()
    ics2.querying.take_deltas(AGREEMENT)


def test_the_set_before_serves_until_all_are_evaluated_anew(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(querying, "TURN_RECORDS", 2)
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    # The last of them is the first whose time ends.
    declared = [ending(federation, declaration(f"26DE{n:02}", BOXES[n]), 90 - n) for n in range(5)]
    register(federation, "ics2", *declared, declaration("26DE99", BOXES[9]))
    federation.settle()
    turn(federation)
    assert [one.state for one in in_use(federation)] == [queried.MAPPED, queried.TURNING]
    # What is registered now goes into the new set at once.
    register(federation, "ics2", declaration("26DE50", BOXES[10]))
    assert ics2.querying.run_round(AGREEMENT) == 1
    assert federation.queries[-1].epoch == 2
    assert ics2.querying.run_turn(AGREEMENT) == 2
    # A delta of the old set finds those that wait, one of the new set those that were evaluated; none is found twice.
    register(federation, "sis", *(alert(f"S{n}", BOXES[n]) for n in (0, 3, 4, 9, 10)))
    federation.clock.advance(1)
    sis.tick_deltas()
    sis.tick_log()
    asked = queries(federation)
    ics2.querying.take_deltas(AGREEMENT)
    found = {row.payload["record_ref"]: row.epoch for row in ics2.review.list()}
    assert found == {"26DE04": 2, "26DE03": 2, "26DE50": 2, "26DE00": 1, "26DE99": 1}
    assert queries(federation) == asked
    while ics2.querying.run_turn(AGREEMENT):
        pass
    assert {row.epoch for row in ics2.review.list()} == {2}
    assert len(matches(federation)) == 5
    assert [one.epoch for one in in_use(federation)] == [2]
    assert files(federation, "ics2", "taken") == ["2"]
    (gone,) = leaves(federation, "ics2", Event.SET_DELETE)
    assert gone.epoch == 1
    assert (AGREEMENT, 1) not in ics2.node.keyring.epochs()


def test_a_crash_in_the_middle_of_a_turn_sends_the_same_bytes_and_goes_on(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(querying, "TURN_RECORDS", 2)
    register(federation, "ics2", *(declaration(f"26DE{n:02}", BOXES[n]) for n in range(5)))
    register(federation, "sis", alert("S3", BOXES[3]))
    federation.settle()
    turn(federation)

    def lost(name: str) -> None:
        if name == "after:evaluate":
            raise UnavailableError("lost")

    federation.fault = lost
    with pytest.raises(UnavailableError):
        federation.services["ics2"].querying.run_turn(AGREEMENT)
    sent = federation.queries[-1]
    federation.fault = lambda _name: None
    federation.close("ics2")
    ics2 = federation.open("ics2")
    # One of the page leaves meanwhile, another is amended.
    ics2.registration.withdraw(SourceSystem.ICS2, "26DE00", "invalidated", "urn:connector-psi:person:ics2:system:feed1")
    register(federation, "ics2", declaration("26DE01", BOXES[3]))
    ics2.querying.run_turn(AGREEMENT)
    assert federation.queries[-1] == sent
    federation.settle(1)
    assert matches(federation) == [("26DE01", ("container",)), ("26DE03", ("container",))]
    assert len(in_use(federation)) == 1


def test_sets_of_a_source_are_dead_48_hours_after_its_snapshot_whatever_happens(federation: Federation) -> None:
    register(federation, "sis", alert("S1", BOXES[0]))
    register(federation, "ics2", declaration("26DE01", BOXES[0]))
    federation.settle()
    query = federation.queries[-1]
    answered = federation.services["sis"].evaluation.evaluate(query)
    epoch = taken(federation).epoch
    # The owner is away, and so is its clock's loop: nobody publishes, nobody retires.
    sis = federation.services.pop("sis")
    federation.clock.advance(48 * 3600 - 60)
    assert taken(federation).not_after_ms > federation.services["ics2"].node.now_ms()
    federation.clock.advance(60)
    ics2 = federation.services["ics2"]
    register(federation, "ics2", declaration("26DE02", BOXES[0]))
    assert ics2.querying.run_round(AGREEMENT) == 0
    assert in_use(federation) == []
    assert files(federation, "ics2", "taken") == []
    assert (AGREEMENT, epoch) not in ics2.node.keyring.epochs()
    federation.services["sis"] = sis
    with pytest.raises(KeyUnavailableError):
        sis.evaluation.evaluate(query)
    with pytest.raises(KeyUnavailableError):
        list(sis.deltas.answers("ics2", AGREEMENT, epoch, 1))
    with pytest.raises(KeyUnavailableError):
        sis.publishing.get_manifest("ics2", AGREEMENT)
    sis.publishing.retire()
    assert (AGREEMENT, epoch) not in sis.node.keyring.epochs()
    assert files(federation, "sis", "owned") == []
    created, destroyed = leaves(federation, "sis", Event.KEY_EPOCH)[:2]
    assert (created.epoch, destroyed.epoch) == (epoch, epoch)
    assert answered != b""
    # A new set, and everything is asked again.
    federation.settle(2)
    assert len(matches(federation)) == 2


def test_a_turn_that_is_not_done_when_the_old_set_ends_raises_an_alarm(federation: Federation) -> None:
    register(federation, "ics2", *(declaration(f"26DE{n:02}", BOXES[n]) for n in range(3)))
    federation.settle()
    federation.clock.advance(47 * 3600)
    turn(federation)
    ics2 = federation.services["ics2"]
    with ics2.node.store.read() as tx:
        assert ics2.alarms.current(tx) == []
    federation.clock.advance(2 * 3600)
    federation.services["sis"].publishing.retire()
    ics2.querying.take_deltas(AGREEMENT)
    with ics2.node.store.read() as tx:
        (alarm,) = ics2.alarms.current(tx)
    assert (alarm.code, alarm.agreement, alarm.count) == ("epoch.unfinished", AGREEMENT, 3)
    federation.settle(1)
    with ics2.node.store.read() as tx:
        assert ics2.alarms.current(tx) == []


def test_a_querier_that_asks_for_no_deltas_gets_new_sets(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    register(federation, "ics2", declaration("26DE01", BOXES[0]))
    federation.settle()
    monkeypatch.setattr(ics2.querying, "take_deltas", lambda _code: 0)
    federation.settle(5)
    assert not sis.publishing.takes_deltas(AGREEMENT)
    links = taken(federation).delta_seq
    register(federation, "sis", alert("S1", BOXES[0]))
    federation.settle(2)
    assert matches(federation) == [("26DE01", ("container",))]
    assert taken(federation).epoch > 1
    assert taken(federation).delta_seq <= links
    # One that asks again is told by deltas again.
    monkeypatch.undo()
    federation.settle(2)
    epoch = taken(federation).epoch
    register(federation, "sis", alert("S2", BOXES[0]))
    federation.settle(1)
    assert len(matches(federation)) == 2
    assert taken(federation).epoch == epoch


def test_epochs_turn_by_themselves_before_their_time_and_no_query_fails(federation: Federation) -> None:
    register(federation, "sis", *(alert(f"S{n}", BOXES[n]) for n in range(3)))
    for hour in range(0, 96, 6):
        register(federation, "ics2", declaration(f"26DE{hour:02}", BOXES[hour % 3]))
        federation.settle(1, 6 * 3600)
        assert federation.services["ics2"].querying.pending(AGREEMENT) == 0
    assert len(matches(federation)) == 16
    epochs = {query.epoch for query in federation.queries if query.agreement == AGREEMENT}
    assert len(epochs) == 3
    assert len(files(federation, "sis", "owned")) <= 2
