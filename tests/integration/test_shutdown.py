"""Stopping a node: what it took is answered, what it answered is kept, and its peers and systems notice a pause and no more."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2

from connector_psi import pki
from connector_psi.domain.records import IdentifierType, Record
from connector_psi.errors import UnavailableError
from connector_psi.node.config import Layout
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import find_certificate
from connector_psi.rpc.server import GRACE_S
from tests.integration import live
from tests.privacy.staging import container
from tests.simulation.federation import alert, declaration

WATCH = "/grpc.health.v1.Health/Watch"
CLIENTS, PLANTED = 4, 6
RETRY_S = 60.0


def _client(directory: Path, address: str) -> LocalClient:
    layout = Layout(directory)
    credentials = pki.load_credentials(find_certificate(layout, pki.Role.SYSTEM))
    return LocalClient(address, directory.name, credentials, layout.root_cert.read_bytes())


def _box(number: int) -> Record:
    return declaration(f"D{number}", (IdentifierType.CONTAINER, container(number)))


class Load:
    """Systems that register one declaration after the other, and try again what was not answered."""

    def __init__(self, directory: Path, address: str) -> None:
        self._directory, self._address = directory, address
        self._numbers = itertools.count()
        self._over = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.retries = 0
        self.failures: list[Exception] = []
        self.sent = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more were answered."""
        wanted, end = self.outcomes.total() + more, time.monotonic() + RETRY_S
        while self.outcomes.total() < wanted:
            assert time.monotonic() < end, (self.outcomes, self.retries, self.failures)
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._over.is_set():
            with self._lock:
                number = next(self._numbers)
            try:
                outcome = self._register(_box(number))
            except Exception as error:  # noqa: BLE001 - the test tells
                self.failures.append(error)
                return
            with self._lock:
                self.sent = max(self.sent, number + 1)
                self.outcomes[outcome] += 1
            time.sleep(0.01)

    def _register(self, record: Record) -> str:
        end = time.monotonic() + RETRY_S
        while True:
            try:
                with _client(self._directory, self._address) as client:
                    return client.register([record])[0].outcome
            except UnavailableError:
                if time.monotonic() > end:
                    raise
                with self._lock:
                    self.retries += 1
                time.sleep(0.05)


@contextlib.contextmanager
def _watched(served: live.Served) -> Iterator[list[int]]:
    """The states of the whole node that a watcher on the local port was told, until its stream ended."""
    layout = Layout(served.directory)
    credentials = pki.load_credentials(layout.people / "admin1.crt")
    told: list[int] = []
    root_pem = layout.root_cert.read_bytes()
    with live.channel(served.local, served.directory.name, root_pem, credentials) as channel:
        stream = channel.unary_stream(WATCH, None, health_pb2.HealthCheckResponse.FromString)(b"")

        def read() -> None:
            with contextlib.suppress(grpc.RpcError):
                told.extend(each.status for each in stream)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield told
        finally:
            stream.cancel()
            thread.join()


def _events(served: live.Served) -> list[dict[str, Any]]:
    return [json.loads(line) for line in served.log.read_text().splitlines()]


def test_nodes_are_restarted_one_after_the_other_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    ics2, sis = live.make_node(tmp_path, "ics2", "ics2"), live.make_node(tmp_path, "sis", "sis")
    live.introduce(sis, ics2)
    live.introduce(ics2, sis)
    with contextlib.ExitStack() as stack:
        first, second = stack.enter_context(live.serving(ics2, sis))
        with _client(sis, second.local) as client:
            client.register([alert(f"A{n}", (IdentifierType.CONTAINER, container(n))) for n in range(PLANTED)])
        with Load(ics2, first.local) as load:
            load.wait_for(20)
            assert second.stop()[0] == 0
            load.wait_for(20)
            (second,) = stack.enter_context(live.serving(sis))
            with _watched(first) as told:
                load.wait_for(20)
                begun = time.monotonic()
                assert first.stop()[0] == 0
                took = time.monotonic() - begun
            (first,) = stack.enter_context(live.serving(ics2))
            load.wait_for(20)
        assert load.failures == []
        assert load.retries > 0
        # What was tried again had not been taken in: everything that was, was answered.
        assert load.outcomes == Counter(accepted=load.outcomes.total())
        assert took < GRACE_S, "an open stream does not keep a node from stopping"
        assert told[-1] == health_pb2.HealthCheckResponse.NOT_SERVING
        assert live.run("sync", ics2, "--wait", "60").code == 0
        status = live.run("status", ics2, "--json").json
        assert status["records"] == load.outcomes.total() == load.sent
        for directory in (ics2, sis):
            end = time.monotonic() + RETRY_S
            while (done := live.run("status", directory, "--ready")).code:
                assert (done.code, time.monotonic() < end) == (6, True), done.out
                time.sleep(0.2)
            assert done.out == "ready\n"
        (contact,) = status["contacts"]
        assert (contact["authority"], contact["reachable"]) == ("sis", True)
        refs = {match["record_ref"] for match in live.run("matches", "list", ics2, "--json").json}
        assert refs == {f"D{n}" for n in range(PLANTED)}
        assert live.run("log", "verify", ics2, "--json").json["verified"] is True
        # A second signal ends a node at once; both wait for the process when it goes on.
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            second.process.send_signal(number)
        assert second.process.wait(5) in {128 + signal.SIGTERM, 128 + signal.SIGINT}
        assert live.run("log", "verify", sis).code == 0
    events = _events(first)
    assert {tuple(line)[:4] for line in events} == {("time", "level", "event", "node")}
    assert {line["node"] for line in events} == {"ics2"}
    started = [line for line in events if line["event"] == "node.started"]
    stopped = [line["reason"] for line in events if line["event"] == "node.stopped"]
    assert (len(started), stopped) == (2, ["SIGTERM", "SIGTERM"])
    assert started[0]["policy"] == status["policy"]["hash"]
    # Everything was signed before it went.
    log = live.run("status", ics2, "--json").json["log"]
    assert log["size"] == log["signed_size"]
    done = live.run("status", ics2, "--ready", "--json")
    assert (done.code, done.json["ready"]) == (6, False)
    assert "not_served" in done.json["reasons"]
