"""A clock that is put back, or jumps: time never goes back, what expired stays so, and nothing is erased by a doubtful one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import ConflictError, ConnectorError, KeyUnavailableError, UnavailableError
from connector_psi.node.service import Service
from connector_psi.node.timekeeping import DOWN_MS, JUMP_MS, SKEW_MS
from connector_psi.pki import Role
from connector_psi.storage import timemark
from tests.simulation.faults import AGREEMENT, make_query
from tests.simulation.federation import Federation, ManualClock, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
ADMIN = person("ics2", Role.ADMIN, "admin1")
DAY_S, YEARS_4 = 86_400.0, 4 * 366 * 86_400.0


class SetClock(ManualClock):
    """A clock that somebody sets: the wall clock moves, the monotonic one does not."""

    def set(self, seconds: float) -> None:
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._start += timedelta(seconds=seconds)


class OwnClocks(Federation):
    """Each node has its own machine; ``clock`` moves all of them."""

    def open(self, code: str) -> Service:
        self.clock.__class__ = SetClock
        return super().open(code)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[OwnClocks]:
    made = OwnClocks(tmp_path_factory.mktemp("begun") / "nodes")
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle(2)
    return Prepared(made)


@pytest.fixture
def federation(begun: Prepared[OwnClocks], tmp_path: Path) -> Iterator[Federation]:
    made = begun.copy(tmp_path / "nodes")
    for service in made.services.values():
        service.tick_clock()
    yield made
    made.close()


def set_clock(federation: Federation, seconds: float) -> None:
    clock: Any = federation.clock
    clock.set(seconds)


def told(service: Service) -> list[str]:
    """What the CLOCK entries say."""
    node = service.node
    with node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
        return [
            node.log.open_body(tx, index)["operation"] for index, leaf in enumerate(leaves) if leaf.event is Event.CLOCK
        ]


def state(service: Service) -> dict[str, Any]:
    found: Any = service.status()
    return {**found["clock"], "alarms": [alarm["code"] for alarm in found["alarms"]]}


# --- Behind


def test_within_two_minutes_time_stands_still_until_the_clock_has_caught_up(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    before = ics2.node.clock.now()
    set_clock(federation, -SKEW_MS / 1000)
    assert ics2.node.clock.now() == before
    federation.clock.advance(60)
    assert ics2.node.clock.now() == before
    ics2.registration.register([declaration("M2", BOX)], "test")
    assert (state(ics2)["state"], told(ics2)) == ("good", [])
    federation.clock.advance(61)
    assert ics2.node.clock.now() == before + timedelta(seconds=1)


def test_beyond_that_nothing_that_depends_on_time_is_answered_and_it_recovers_by_itself(federation: Federation) -> None:
    sis, before = federation.services["sis"], federation.services["sis"].node.clock.now()
    set_clock(federation, -600)
    assert sis.node.clock.now() == before
    for refused in (
        lambda: sis.evaluation.evaluate(make_query(1)), sis.tick_publish, sis.tick_cases, sis.tick_retention,
        sis.tick_erasure, lambda: sis.received.outcome("ics2", AGREEMENT, bytes(16)),
        lambda: sis.registration.register([alert("DE2", BOX)], "test"),
        lambda: sis.publishing.get_manifest("ics2", AGREEMENT),
    ):  # fmt: skip
        with pytest.raises(UnavailableError, match="clock is behind"):
            refused()
    for _ in range(3):
        sis.tick_clock()
    assert told(sis) == ["clock behind"]
    assert (state(sis)["state"], state(sis)["behind_s"], state(sis)["alarms"]) == ("behind", 600, ["clock.behind"])
    # A restart changes nothing, and says nothing again.
    sis.tick_log()
    federation.close("sis")
    sis = federation.open("sis")
    sis.tick_clock()
    assert sis.node.clock.now() >= before - timedelta(seconds=10)
    with pytest.raises(UnavailableError, match="clock is behind"):
        sis.tick_publish()
    assert told(sis) == ["clock behind"]
    federation.clock.advance(600)
    sis.tick_publish()
    sis.tick_clock()
    assert told(sis) == ["clock behind", "clock good"]
    assert (state(sis)["state"], state(sis)["alarms"]) == ("good", [])
    assert sis.oversight.verify()["verified"] is True


def test_an_expired_set_answers_nothing_though_the_clock_is_put_back(federation: Federation) -> None:
    """R11: also where nobody had destroyed its keys yet, and across a restart."""
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    assert len(ics2.review.list()) == 1
    asked = len(federation.queries)
    for _ in range(50):
        federation.clock.advance(3600)
        for service in (ics2, sis):
            service.tick_clock()
    for back, restart in ((-60.0, False), (-40 * 3600.0, False), (-3600.0, True)):
        set_clock(federation, back)
        if restart:
            for code in ("ics2", "sis"):
                federation.close(code)
                federation.open(code)
            ics2, sis = federation.services["ics2"], federation.services["sis"]
        with pytest.raises((UnavailableError, KeyUnavailableError)):
            sis.evaluation.evaluate(make_query(1))
        with suppress(ConnectorError):
            ics2.registration.register([declaration("M2", BOX)], "test")
        with suppress(ConnectorError):
            ics2.tick_query()
        # The querier does not ask with it either.
        assert len(federation.queries) == asked


def test_the_mark_is_kept_every_ten_seconds_at_most_and_at_every_checkpoint(federation: Federation) -> None:
    ics2 = federation.services["ics2"]

    def mark() -> int:
        with ics2.node.store.read() as tx:
            found = timemark.load(tx)
        assert found is not None
        return found.high_water_ms

    begun = mark()
    federation.clock.advance(9)
    ics2.tick_clock()
    assert mark() == begun
    federation.clock.advance(1)
    ics2.tick_clock()
    assert mark() == begun + 10_000
    federation.clock.advance(3)
    ics2.tick_log()
    assert mark() == begun + 10_000, "the log did not grow"
    ics2.registration.register([declaration("M3", BOX)], "test")
    ics2.tick_log()
    assert mark() == begun + 13_000


# --- Ahead


def bodies(service: Service) -> int:
    with service.node.store.read() as tx:
        return sum(
            service.node.entries.read_body(tx, index) is not None for index in range(service.node.entries.size(tx))
        )


def test_a_node_that_is_years_ahead_erases_nothing_for_good(federation: Federation) -> None:
    ics2, there = federation.services["ics2"], bodies(federation.services["ics2"])
    set_clock(federation, YEARS_4)
    assert ics2.tick_retention() == 0
    ics2.tick_clock()
    assert told(ics2) == ["clock jumped"]
    assert (state(ics2)["state"], state(ics2)["alarms"]) == ("jumped", ["clock.jumped"])
    assert ics2.tick_retention() == ics2.tick_erasure() == 0
    assert bodies(ics2) == there + 1
    # Put right, it goes on as if nothing had been: the mark did not go with the jump.
    set_clock(federation, -YEARS_4)
    ics2.tick_clock()
    assert told(ics2) == ["clock jumped", "clock good"]
    ics2.registration.register([declaration("M2", BOX)], "test")
    assert state(ics2)["state"] == "good"


def test_an_hour_is_no_jump_and_time_that_went_by_is_none(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    set_clock(federation, JUMP_MS / 1000)
    assert state(ics2)["state"] == "good"
    federation.clock.advance(YEARS_4)
    assert state(ics2)["state"] == "good"
    assert ics2.tick_retention() > 0
    set_clock(federation, 1)
    assert state(ics2)["state"] == "jumped", "small steps add up"


def test_an_administrator_says_that_the_clock_is_right(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    with pytest.raises(ConflictError):
        ics2.node.timekeeping.confirm(ADMIN)
    set_clock(federation, YEARS_4)
    ics2.tick_clock()
    # Also after a restart: it is not forgotten that nobody agreed.
    ics2.tick_log()
    federation.close("ics2")
    ics2 = federation.open("ics2")
    assert state(ics2)["state"] == "jumped"
    assert ics2.tick_retention() == 0
    ics2.node.timekeeping.confirm(ADMIN)
    assert told(ics2) == ["clock jumped", "clock confirmed"]
    assert state(ics2)["state"] == "good"
    assert ics2.tick_retention() > 0
    set_clock(federation, -3600)
    with pytest.raises(UnavailableError):
        ics2.tick_retention()


def test_a_witness_that_agrees_is_enough_and_one_that_does_not_is_none(federation: Federation) -> None:
    """Both machines were asleep for a day; then customs alone goes wrong, whose log N.SIS cosigns."""
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    ics2.tick_log()
    ics2.tick_witnesses()
    set_clock(federation, DAY_S)
    ics2.tick_clock()
    ics2.tick_clock()
    assert told(ics2) == ["clock jumped"], "what was cosigned before says nothing"
    ics2.tick_log()
    ics2.tick_witnesses()
    ics2.tick_clock()
    assert told(ics2) == ["clock jumped", "clock agreed"]
    assert state(ics2)["state"] == "good"
    right = SetClock(federation.clock.now())
    sis.node.clock._clock = right  # type: ignore[attr-defined]
    set_clock(federation, YEARS_4)
    for _ in range(2):
        ics2.tick_clock()
        ics2.tick_log()
        ics2.tick_witnesses()
    ics2.tick_clock()
    log: Any = ics2.status()["log"]
    assert max(log["witnesses"].values()) == log["signed_size"], "N.SIS cosigned, and says another time"
    assert (state(ics2)["state"], told(ics2)[2:]) == ("jumped", ["clock jumped"])
    assert ics2.tick_retention() == 0


def test_a_node_that_was_down_for_a_month_does_not_trust_its_clock_and_after_less_it_does(
    federation: Federation,
) -> None:
    federation.close("ics2")
    set_clock(federation, DOWN_MS / 1000 - 60)
    ics2 = federation.open("ics2")
    ics2.tick_clock()
    assert (state(ics2)["state"], told(ics2)) == ("good", [])
    federation.close("ics2")
    set_clock(federation, DOWN_MS / 1000 + 60)
    ics2 = federation.open("ics2")
    ics2.tick_clock()
    assert (state(ics2)["state"], told(ics2)) == ("jumped", ["clock jumped"])
