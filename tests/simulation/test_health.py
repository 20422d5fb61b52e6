"""What a node says of itself: health of each service, readiness, its peers, and whether people keep up with its matches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.domain.records import IdentifierType
from connector_psi.errors import LogForkError, UnavailableError
from connector_psi.node import node as node_module
from connector_psi.node.contacts import PeerContacts
from connector_psi.node.health import (
    CLOCK_BEHIND,
    LOG_BLOCKED,
    LOG_FATAL,
    NOT_SERVED,
    SERVICES,
    SET_EXPIRED,
    SET_MISSING,
    STOPPING,
    STORE_UNUSABLE,
    Health,
)
from connector_psi.node.quality import manageability
from connector_psi.node.service import Service
from connector_psi.pki import Role
from tests.privacy.staging import container
from tests.simulation.federation import Federation, ManualClock, alert, declaration, person

CODE, SILENT = "SIS-OBJ:ics2-sis", "SIS-CHK:sis-ics2"
BOXES = tuple(map(container, range(1, 5)))
DAY_S = 86_400


def _made(root: Path) -> Federation:
    made = Federation(root, "health")
    for service in made.services.values():
        service.health.works()
    return made


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = _made(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Every set is there; whoever breaks something of it mends it."""
    made = _made(tmp_path_factory.mktemp("settled"))
    made.settle()
    yield made
    made.close()


def lost(service: Service) -> dict[str, set[str]]:
    """The codes of what keeps each service from serving; only of those that do not serve."""
    found = {name: {reason.code for reason in each.reasons} for name, each in service.health.services().items()}
    return {name: codes for name, codes in found.items() if codes}


@contextmanager
def full_disk(service: Service) -> Iterator[None]:
    """The disk of a node takes nothing, as SQLite tells it."""

    def refuse(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            raise sa.exc.OperationalError(statement, None, sqlite3.OperationalError("database or disk is full"))

    sa.event.listen(service.node.store._engine, "before_cursor_execute", refuse)
    try:
        yield
    finally:
        sa.event.remove(service.node.store._engine, "before_cursor_execute", refuse)


def test_a_node_that_nobody_serves_is_not_ready(settled: Federation) -> None:
    health = Health(settled.services["sis"].node)
    assert {name: [str(r) for r in each.reasons] for name, each in health.services().items()} == {
        name: [NOT_SERVED] for name in SERVICES
    }
    assert [str(reason) for reason in health.missing()] == [NOT_SERVED]


def test_a_set_that_is_missing_or_over_is_told_by_whoever_lacks_it(federation: Federation) -> None:
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    assert lost(sis) == {"MatchingService": {SET_MISSING}}
    missing = {(r.code, r.agreement, r.side) for r in ics2.health.missing()}
    assert {(SET_MISSING, CODE, "querier"), (SET_MISSING, SILENT, "owner")} <= missing
    federation.settle()
    for service in (sis, ics2):
        assert lost(service) == {}
        assert (service.status()["ready"], service.status()["reasons"]) == (True, [])
    # Nobody publishes any more: all sets of both sides end.
    federation.clock.advance(30 * DAY_S)
    assert lost(sis) == {"MatchingService": {SET_EXPIRED}}
    assert f"{SET_EXPIRED} {CODE} (querier)" in ics2.status()["reasons"]  # type: ignore[operator]  # JSON
    federation.settle()
    assert lost(sis) == lost(ics2) == {}


def test_a_log_that_takes_nothing_stops_what_depends_on_it_until_it_does_again(
    settled: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sis = settled.services["sis"]
    blocked = {"MatchingService", "DisclosureService", "RegistryService"}
    with full_disk(sis):
        with pytest.raises(UnavailableError):
            sis.registration.register([alert("A1", (IdentifierType.CONTAINER, BOXES[0]))], "test")
        assert lost(sis) == {key: {LOG_BLOCKED} for key in blocked}
        # It is tried at every turn, and stays as it is.
        sis.health.turn()
        assert lost(sis) == {key: {LOG_BLOCKED} for key in blocked}
    # A small entry may still fit where a large one does not: room is wanted too.
    with monkeypatch.context() as patch:
        patch.setattr(node_module, "LOG_ROOM_BYTES", 1 << 62)
        sis.health.turn()
        assert LOG_BLOCKED in lost(sis)["MatchingService"]
    sis.health.turn()
    assert lost(sis) == {}
    sis.registration.register([alert("A1", (IdentifierType.CONTAINER, BOXES[0]))], "test")


def test_what_a_caller_did_wrong_blocks_nothing(settled: Federation) -> None:
    node = settled.services["sis"].node
    with pytest.raises(UnavailableError), node.store.write():
        raise UnavailableError("of a peer")
    assert not node.log_blocked


def test_a_log_that_cannot_be_trusted_leaves_the_status_alone(
    settled: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sis = settled.services["sis"]
    monkeypatch.setattr(sis.node, "_fatal", None)
    sis.node.fail(LogForkError("test"))
    assert lost(sis) == {
        key: {LOG_FATAL} for key in ("MatchingService", "DisclosureService", "AuditService", "RegistryService")
    }
    assert sis.status()["reasons"] == [LOG_FATAL]


def test_a_clock_that_is_behind_stops_what_depends_on_time(settled: Federation) -> None:
    sis = settled.services["sis"]
    settled.clock.advance(-600)
    try:
        assert lost(sis) == {
            name: {CLOCK_BEHIND} for name in ("MatchingService", "DisclosureService", "RegistryService")
        }
        assert sis.status()["reasons"] == [CLOCK_BEHIND]
    finally:
        settled.clock.advance(600)
    assert lost(sis) == {}


def test_a_node_that_is_being_stopped_serves_nothing(settled: Federation) -> None:
    sis = settled.services["sis"]
    sis.health.stops()
    assert lost(sis) == {key: {STOPPING} for key in SERVICES}
    sis.health.works()
    assert lost(sis) == {}


def test_a_store_that_cannot_be_read_serves_nothing(settled: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    sis = settled.services["sis"]

    def fail(*_: object) -> None:
        raise UnavailableError("the database cannot be used now")

    monkeypatch.setattr("connector_psi.node.health.newest_set", fail)
    assert lost(sis) == {key: {STORE_UNUSABLE} for key in SERVICES}


def test_contacts_tell_an_answer_from_silence() -> None:
    clock = ManualClock()
    contacts = PeerContacts(clock)
    assert contacts.of("sis").reachable is None
    contacts.failed("sis")
    contacts.failed("sis")
    assert (contacts.of("sis").reachable, contacts.of("sis").failures) == (False, 2)
    clock.advance(5)
    contacts.answered("sis")
    found = contacts.of("sis")
    assert (found.reachable, found.failures, found.answered_ms - found.failed_ms) == (True, 0, 5_000)
    assert contacts.of("europol").heard_ms == 0
    contacts.heard("europol")
    assert contacts.of("europol").heard_ms == found.answered_ms
    assert contacts.of("europol").reachable is None


def test_quality_says_whether_people_keep_up(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    boxes = [(IdentifierType.CONTAINER, box) for box in BOXES]
    sis.registration.register([alert(f"A{n}", box) for n, box in enumerate(boxes[:3])], "test")
    ics2.registration.register([declaration(f"M{n}", box) for n, box in enumerate(boxes)], "test")
    federation.settle()
    one, two, _ = ics2.review.list()
    federation.clock.advance(600)
    ics2.review.decide(one.match_id, person("ics2"), "it is", confirm=True)
    federation.clock.advance(600)
    ics2.review.decide(two.match_id, person("ics2"), "it is not", confirm=False)
    ics2.registration.withdraw(declaration("M3").source, "M3", "over", "test")
    federation.clock.advance(2 * DAY_S)
    federation.settle()
    found = manageability(ics2.node, 30, Role.SYSTEM)[CODE]
    assert (found.declarations, found.declarations_live) == (4, 3)
    assert (found.matches, found.confirmed, found.dismissed, found.undecided, found.gone) == (3, 1, 1, 1, 0)
    assert (found.per_1000, found.confirmed_share) == (750.0, 0.5)
    # Of ten and of twenty minutes; found a moment before.
    assert found.median_decision_s is not None
    assert 900 <= found.median_decision_s <= 910
    # Two days old: what there is is shared among these, not among thirty.
    assert 2 < found.days < 2.1
    assert found.matches_per_day == pytest.approx(3 / found.days, abs=0.01)
    # A period in which nothing came in has nothing to tell.
    federation.clock.advance(10 * DAY_S)
    idle = manageability(ics2.node, 5, Role.SYSTEM)[CODE]
    assert (idle.declarations, idle.matches, idle.per_1000, idle.confirmed_share, idle.median_decision_s) == (
        0,
        0,
        None,
        None,
        None,
    )


def test_quality_keeps_agreements_without_notice_from_whoever_sees_no_matches(settled: Federation) -> None:
    sis, ics2 = settled.services["sis"].node, settled.services["ics2"].node
    assert SILENT in manageability(sis, 30, Role.OFFICER)
    for role in (Role.ADMIN, Role.AUDITOR):
        assert SILENT not in manageability(sis, 30, role)
        assert CODE in manageability(ics2, 30, role)
    # The owner is told of no agreement in which it does not ask.
    assert set(manageability(ics2, 30, Role.DPO)) == {CODE}
