"""R1 with real processes: two served nodes are killed (SIGKILL) at random times while they take in, publish, query and disclose.

The people and systems of both agencies go on as they would: what was not acknowledged is sent again, matches are confirmed, cases opened
and approved. In the end nothing acknowledged is missing, every shared container is a match once, every case was disclosed once, and both
logs hold all of it once and verify. The long form, ``make crash-long``, kills 1,000 times.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connector_psi import pki
from connector_psi.audit.checkpoint import verify_checkpoint
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType, Record
from connector_psi.errors import ConnectorError
from connector_psi.node.config import load_config
from connector_psi.node.service import Service
from connector_psi.rpc import convert
from connector_psi.rpc.client import LocalClient, PeerConnector
from connector_psi.rpc.v1 import audit_pb2, registry_pb2
from tests.integration.live import Served, introduce, make_node, run
from tests.simulation.crash import Diary, Told, read_leaves, verify_invariants, verify_tidy
from tests.simulation.faults import PURPOSE
from tests.simulation.federation import alert, declaration

SEED = 7
LOOPS = 6
# New nodes every 25 loops: sets and logs that only grow would make each loop slower than the last.
LONG_LOOPS, LONG_SEEDS = 25, range(100, 140)
WORK_S = 2.5
START_S = 1.5
SETTLE_S = 60.0
PAIRS_A_BATCH = 2
MAX_CASES = 40
"""Cases are listed by the hundred; a few loops open far fewer."""


def _container(number: int) -> tuple[IdentifierType, str]:
    return IdentifierType.CONTAINER, normalise(IdentifierType.CONTAINER, f"TGHU{number:06d}", complete_check_digit=True)


class Agency:
    """A node, its process, and the people and systems who use its local port."""

    def __init__(self, directory: Path, diary: Diary, make: Callable[[int], Record]) -> None:
        self.directory = directory
        self.code = directory.name
        self.make = make
        self.served: Served | None = None
        self.acknowledged = 0
        _, self.layout = load_config(directory)
        self._diary = diary
        self._clients: dict[str, LocalClient] = {}

    def start(self) -> Served:
        if self.served is None:
            self.served = Served(self.directory)
        return self.served

    def ready(self) -> None:
        """Wait for the process, unless it was met before, and let everybody connect to it."""
        served = self.start()
        if self._clients:
            return
        served.wait()
        root_pem = self.layout.root_cert.read_bytes()
        for name in ("system1", "officer1", "supervisor1"):
            credentials = pki.load_credentials(self.layout.people / f"{name}.crt")
            self._clients[name] = LocalClient(served.local, self.code, credentials, root_pem)

    def kill(self) -> None:
        if self.served is not None:
            self.served.process.send_signal(signal.SIGKILL)
            self.served.process.wait()

    def gone(self) -> None:
        """Forget the process after its end."""
        for client in self._clients.values():
            client.__exit__()
        self._clients.clear()
        if self.served is not None:
            self.served.end()
            self.served = None

    def stop(self) -> None:
        assert self.served is not None
        code, _ = self.served.stop()
        assert code == 0, self.served.log.read_text()[-2000:]
        self.gone()

    # What people and systems do; every call may fail because the node dies

    def call(self, name: str, method: str, request: Any, *, port: str = "registry") -> Any:
        client = self._clients[name]
        return client.call(getattr(getattr(client, port), method), request)

    def register(self, numbers: Sequence[int]) -> list[str]:
        records = [convert.record_message(self.make(n)) for n in numbers]
        answer = self.call("system1", "Register", registry_pb2.RegisterRequest(records=records))
        return [convert.OUTCOME_NAMES[result.outcome] for result in answer.results]

    def feed(self) -> None:
        """Send the next records; those that were not acknowledged are sent again."""
        first = self.acknowledged
        self.register(range(first, first + PAIRS_A_BATCH))
        self.acknowledged += PAIRS_A_BATCH

    def look(self) -> None:
        """Ask for the newest checkpoint, as a witness would."""
        note = self.call("system1", "GetCheckpoint", audit_pb2.GetCheckpointRequest(), port="audit").checkpoint
        with suppress(ConnectorError):
            self._diary.note("checkpoint", self.code, *_size_and_root(self.layout, note))

    def matches(self, state: str) -> Any:
        return self.call("officer1", "ListMatches", registry_pb2.ListMatchesRequest(state=state)).matches

    def cases(self, state: str = "") -> Any:
        return self.call("officer1", "ListCases", registry_pb2.ListCasesRequest(state=state)).cases

    def review(self) -> None:
        for match in self.matches("new"):
            request = registry_pb2.ConfirmMatchRequest(match_id=match.match_id, reason="compared")
            self.call("officer1", "ConfirmMatch", request)

    def open_cases(self) -> None:
        opened = {case.match_id for case in self.cases()}
        todo = [match for match in self.matches("confirmed") if match.match_id not in opened]
        for match in todo[: max(0, MAX_CASES - len(opened))]:
            request = registry_pb2.RegistryServiceOpenCaseRequest(
                match_id=match.match_id, **PURPOSE, case_reference=match.record_ref, justification="seen"
            )
            self.call("officer1", "OpenCase", request)

    def approve(self) -> None:
        for case in self.cases("awaiting_decision"):
            request = registry_pb2.DecideCaseRequest(case_id=case.case_id, approve=True, reason="checked")
            self.call("supervisor1", "DecideCase", request)

    def synced(self, mark: int) -> tuple[bool, int]:
        state = self.call("system1", "Sync", registry_pb2.SyncRequest(mark_ms=mark), port="node")
        return state.done, state.mark_ms


def _size_and_root(layout: Any, note: bytes) -> tuple[int, str]:
    from connector_psi.audit.checkpoint import parse_vkey
    from connector_psi.node.descriptor import parse_descriptor

    key = parse_vkey(parse_descriptor(layout.descriptor.read_bytes()).log_vkey)
    found = verify_checkpoint(note, key, key.name)
    return found.size, found.root.hex()


class Drill:
    """Two agencies at work, and somebody who kills their nodes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.diary = Diary(root / "diary")
        directories = [make_node(root, code, code) for code in ("ics2", "sis")]
        introduce(directories[0], directories[1])
        introduce(directories[1], directories[0])
        self.ics2 = Agency(directories[0], self.diary, lambda n: declaration(f"D{n}", _container(n)))
        self.sis = Agency(directories[1], self.diary, lambda n: alert(f"A{n}", _container(n)))
        self.both = (self.ics2, self.sis)
        self.killed: Counter[str] = Counter()

    def loop(self) -> None:
        """Start what is not running, work, and kill one node or both at some time, perhaps while they start."""
        victims = self.draw.choice(([self.ics2], [self.sis], [*self.both]))
        early = self.draw.random() < 0.2
        for agency in self.both:
            agency.start()
        if early:
            time.sleep(self.draw.uniform(0, START_S))
        else:
            for agency in self.both:
                agency.ready()
        kill = threading.Timer(self.draw.uniform(0, 0 if early else WORK_S), lambda: [v.kill() for v in victims])
        kill.start()
        while not early and kill.is_alive():
            self.work()
        kill.join()
        for victim in victims:
            self.killed[victim.code] += 1
            victim.gone()

    def work(self) -> None:
        steps = [
            self.ics2.feed, self.sis.feed, self.ics2.look, self.sis.look, self.ics2.review, self.ics2.open_cases, self.sis.approve,
        ]  # fmt: skip
        for step in self.draw.sample(steps, len(steps)):
            # Whoever dies while it is asked is asked again.
            with suppress(ConnectorError):
                step()

    def settle(self) -> None:
        """Nobody dies any more: wait until everything registered is queried and every case is disclosed."""
        for agency in self.both:
            agency.ready()
        last = max(agency.acknowledged for agency in self.both)
        for agency in self.both:
            while agency.acknowledged < last:
                agency.feed()
        marks = {agency.code: 0 for agency in self.both}

        def synced() -> bool:
            done = []
            for agency in self.both:
                state, marks[agency.code] = agency.synced(marks[agency.code])
                done.append(state)
            return all(done)

        _wait(synced)
        self.ics2.review()
        self.ics2.open_cases()

        def disclosed() -> bool:
            self.sis.approve()
            found = [case.state for case in self.ics2.cases()]
            return bool(found) and set(found) == {"disclosed"}

        _wait(disclosed)
        for agency in self.both:
            agency.look()

    def end(self) -> None:
        for agency in self.both:
            agency.kill()
            agency.gone()

    def verify(self) -> None:
        """Over the local ports first, then, once the processes have ended, in the nodes themselves."""
        count = self.ics2.acknowledged
        assert count == self.sis.acknowledged > 0
        for agency in self.both:
            for first in range(0, count, 500):
                found = agency.register(range(first, min(first + 500, count)))
                assert set(found) == {"duplicate"}, f"{agency.code} lost what it acknowledged"
        for agency in self.both:
            done = run("log", "verify", agency.directory, "--json")
            assert (done.code, done.json["verified"]) == (0, True), done.json
            agency.stop()
        services = {agency.code: Service(agency.directory, PeerConnector) for agency in self.both}
        try:
            closed: Any = SimpleNamespace(services=services, diary=self.diary)
            self._verify_nodes(closed, count)
        finally:
            for service in services.values():
                service.close()

    def _verify_nodes(self, closed: Told, count: int) -> None:
        verify_invariants(closed)
        verify_tidy(closed)
        ics2 = closed.services["ics2"]
        rows, after = [], 0
        while page := ics2.review.list(after=after):
            rows += page
            after = page[-1].seq
        assert sorted(row.payload["record_ref"] for row in rows) == sorted(f"D{n}" for n in range(count))
        for view in ics2.cases.list(("disclosed",)):
            got = ics2.cases.get(view.row.request_id)
            assert got.fields["schengen_id"] == (f"A{got.row.payload['case_reference'].removeprefix('D')}",)
        assert any(leaf.event.value == "CASE_OUTCOME" for leaf in read_leaves(closed.services["sis"]))


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        with suppress(ConnectorError):
            if done():
                return
        time.sleep(0.1)
    raise AssertionError(f"not settled within {SETTLE_S:.0f} s")


def drill(root: Path, loops: int, seed: int) -> None:
    made = Drill(root, seed)
    try:
        for _ in range(loops):
            made.loop()
        made.settle()
        made.verify()
    finally:
        made.end()
    print(f"\nseed {seed}: {loops} loops, killed {dict(made.killed)}, {made.ics2.acknowledged} records a side")


def test_nodes_killed_at_random_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    drill(tmp_path, LOOPS, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    drill(tmp_path, LONG_LOOPS, seed)
