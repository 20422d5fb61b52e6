"""Real processes: epochs turn under load and no query fails (R15), and generated histories with kills find exactly the plaintext join."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.faults.agency import Agency, all_synced, container, wait  # isort: skip  # sets up gRPC's environment first

import pytest

from connector_psi.domain.records import SourceSystem
from connector_psi.errors import ConnectorError
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from connector_psi.rpc.v1 import registry_pb2
from tests.integration.live import introduce, make_node
from tests.simulation.crash import Diary
from tests.simulation.federation import alert, declaration
from tests.simulation.histories import Operation, found_pairs, history, play, verify

TURNS, LONG_TURNS = 2, 60
SEED, LENGTH = 7, 30
LONG_SEEDS = range(200, 220)
SETTLE_S = 60.0
CODES = {"declaration": "ics2", "alert": "sis"}
SOURCES = {"declaration": SourceSystem.ICS2, "alert": SourceSystem.SIS}


class Pair:
    """Customs and N.SIS, as processes."""

    def __init__(self, root: Path) -> None:
        sis, ics2 = make_node(root, "sis", "sis"), make_node(root, "ics2", "ics2")
        introduce(sis, ics2)
        introduce(ics2, sis)
        diary = Diary(root / "diary")
        self.agencies = {
            "sis": Agency(sis, diary, lambda n: alert(f"A{n}", container(n))),
            "ics2": Agency(ics2, diary, lambda n: declaration(f"D{n}", container(n))),
        }
        for agency in self.agencies.values():
            agency.start()

    def ready(self) -> None:
        for agency in self.agencies.values():
            agency.ready()

    def settle(self) -> None:
        self.ready()
        wait(all_synced(list(self.agencies.values())), SETTLE_S)

    def stop(self) -> dict[str, Service]:
        """End the processes as an operator does, and open the nodes here."""
        for agency in self.agencies.values():
            agency.stop()
        return {code: Service(agency.directory, PeerConnector) for code, agency in self.agencies.items()}

    def end(self) -> None:
        for agency in self.agencies.values():
            agency.kill()
            agency.gone()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.end()


def turn_under_load(pair: Pair, turns: int) -> None:
    pair.settle()
    ics2, sis = pair.agencies["ics2"], pair.agencies["sis"]
    over = threading.Event()
    sent: list[int] = []

    def feed() -> None:
        while not over.is_set():
            first = len(sent)
            ics2.register(range(first, first + 20))
            sent.extend(range(first, first + 20))
            time.sleep(0.1)

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        for turn in range(turns):
            sis.register(range(40 * turn, 40 * turn + 40))
            sis.client("system1").publish("SIS-OBJ")
            time.sleep(1.0)
    finally:
        over.set()
        feeding.join()
    sis.register(range(len(sent)))
    pair.settle()
    found = sorted(match.record_ref for match in ics2.matches("new"))
    assert found == sorted(f"D{n}" for n in sent)
    status = ics2.client("system1").status()
    (line,) = (line for line in status["agreements"] if line["agreement"] == "SIS-OBJ:ics2-sis")
    assert line["epoch"] >= turns
    wait(lambda: not _agreement(ics2)["turning"], SETTLE_S)
    for agency in pair.agencies.values():
        assert agency.served is not None
        log = agency.served.log.read_text()
        # Whatever a loop could not do at some time would be a query that failed, or one that had to be sent again.
        assert not [text for text in log.splitlines() if "loop.failed" in text and "SIS-OBJ" in text], log
    services = pair.stop()
    try:
        assert len(found_pairs(services["ics2"], services["sis"])) == len(sent)
    finally:
        for service in services.values():
            service.close()


def _agreement(agency: Agency) -> dict[str, object]:
    (line,) = (
        line for line in agency.client("system1").status()["agreements"] if line["agreement"] == "SIS-OBJ:ics2-sis"
    )
    return dict(line)


def test_epochs_turn_under_load_and_no_query_fails(pair: Pair) -> None:
    turn_under_load(pair, TURNS)


@pytest.mark.slow
def test_long_epochs_turn_under_load_and_no_query_fails(pair: Pair) -> None:
    turn_under_load(pair, LONG_TURNS)


class Processes:
    """Plays a history on the processes of a pair; what takes hours there takes seconds here, or is left out."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def now(self) -> float:
        return time.time()

    def play(self, operation: Operation) -> bool:
        agency = self.pair.agencies.get(CODES.get(operation.side, ""))
        if operation.kind in {"register", "withdraw"}:
            assert agency is not None
            agency.ready()
            return self._send(agency, operation)
        if operation.kind in {"kill", "stop"} and agency is not None:
            if agency.served is not None and operation.kind == "kill":
                agency.kill()
                agency.gone()
            elif agency.served is not None:
                agency.ready()
                agency.stop()
            agency.start()
        elif operation.kind == "epoch":
            self.pair.agencies["sis"].ready()
            self.pair.agencies["sis"].client("system1").publish("SIS-OBJ")
        elif operation.kind in {"turn", "half turn"}:
            time.sleep(0.15)
        return False

    def _send(self, agency: Agency, operation: Operation) -> bool:
        if operation.kind == "withdraw":
            request = registry_pb2.WithdrawRequest(
                source=SOURCES[operation.side].value, source_ref=operation.ref, reason="gone"
            )
            return bool(agency.call("system1", "Withdraw", request).withdrawn)
        make = declaration if operation.side == "declaration" else alert
        record = make(operation.ref, *operation.tokens)
        if operation.seconds:
            record = replace(record, valid_until=datetime.now(tz=UTC) + timedelta(seconds=operation.seconds))
        agency.send([record])
        return True


def play_on(pair: Pair, seed: int, length: int) -> None:
    player = Processes(pair)
    try:
        # A record that ends while the history goes on ends within seconds here.
        model = play(player, history(seed, length, ends=(3.0, 36_000.0)))
        time.sleep(3.5)
        model.expire(player.now())
        pair.settle()
        wait(lambda: not _agreement(pair.agencies["ics2"])["turning"], SETTLE_S)
        services = pair.stop()
        try:
            # What is over is deleted on the clock of a loop.
            services["sis"].publishing.retire()
            verify(services["ics2"], services["sis"], model)
        finally:
            for service in services.values():
                service.close()
    except (AssertionError, ConnectorError) as error:
        error.add_note(f"seed {seed}")
        raise


def test_a_history_on_real_processes_finds_the_pairs_of_the_join(pair: Pair) -> None:
    play_on(pair, SEED, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_histories_on_real_processes_find_the_pairs_of_the_join(pair: Pair, seed: int) -> None:
    play_on(pair, seed, 3 * LENGTH)
