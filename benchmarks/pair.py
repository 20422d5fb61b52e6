"""Two nodes as processes on loopback over mutual TLS: customs asks, N.SIS owns. What P4, P5 and P6 are measured on.

Decides: how the nodes are made, filled and served, what a declaration of a benchmark is, how records are sent and
matches awaited. Leaves to others: what is measured of it (``flow``).

Both have the agreement SIS-OBJ and no other, with a capacity that suffices, and deltas once a minute, so that what is
measured is the way of a declaration. Everything else is as it is for anybody: records are stored encrypted, entries are
logged and witnessed by the other node, batches are padded and proven.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from connector_psi.rpc import tls  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import yaml

from connector_psi import pki
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.records import Field, Identifier, IdentifierType, Record, SourceSystem
from connector_psi.encoding import tickets
from connector_psi.node import setup
from connector_psi.node.config import Layout
from connector_psi.node.publishing import Published
from connector_psi.node.service import Service
from connector_psi.rpc.client import LocalClient, PeerConnector
from connector_psi.rpc.local import open_local
from connector_psi.rpc.v1 import registry_pb2

QUERIER, OWNER, TEMPLATE = "ics2", "sis", "SIS-OBJ"
CAPACITY = {"per_day": 10**9, "per_year": 10**11}
DELTA_S = 60
CHUNK = 500
BOXES = 6
"""Container identifiers of a declaration: as many tokens."""
START_S, STOP_S, TAKE_S = 120, 60, 1800
QUIET_CORES = 0.5
"""Both nodes together use less than this once the set is taken and checked."""


class Pair:
    """A querier and an owner that know one another, as directories.

    Args:
        folder: An empty one.
        interval_s: Of the querier, ``query.interval_s``.
    """

    def __init__(self, folder: Path, interval_s: float) -> None:
        self._filled = 0
        self.querier, self.owner = folder / QUERIER, folder / OWNER
        ports = _free_ports(4)
        for directory in (self.querier, self.owner):
            setup.init_node(
                directory,
                authority=directory.name,
                profile=directory.name,
                pkidir=folder / "pki",
                listen=f"127.0.0.1:{ports.pop()}",
                local=f"127.0.0.1:{ports.pop()}",
                clock=SystemClock(),
                random=SystemRandom(),
            )
            self._keep_one_agreement(Layout(directory))
            _set(directory, "delta_s", DELTA_S)
        self.set_interval(interval_s)
        for directory, other in ((self.querier, self.owner), (self.owner, self.querier)):
            service = Service(directory, PeerConnector)
            try:
                service.peering.add((other / "descriptor.json").read_bytes())
            finally:
                service.close()

    @staticmethod
    def _keep_one_agreement(layout: Layout) -> None:
        pack = yaml.safe_load(layout.policy.read_text())
        template = pack["templates"][TEMPLATE]
        template["capacity"] = dict.fromkeys(template["capacity"], CAPACITY)
        pack["templates"] = {TEMPLATE: template}
        layout.policy.write_text(yaml.safe_dump(pack, sort_keys=False))
        setup.sign_policy(layout, SystemClock())

    def set_interval(self, interval_s: float) -> None:
        """Have the querier begin its rounds at multiples of this time; takes effect when it is served."""
        _set(self.querier, "interval_s", interval_s)

    def fill(self, boxes: Sequence[str], rows: int = 0) -> tuple[Published, float, float]:
        """Register an alert for each container at the owner beside those that are there, and publish all.

        Args:
            boxes: Canonical container numbers.
            rows: Of the set; where the alerts are fewer, the rest is random, as what fills a set up always is. By
                default the size class of the alerts.

        Returns:
            What was published, and how many seconds that took, of wall time and of processor time.
        """
        service = Service(self.owner, PeerConnector)
        try:
            for start in range(0, len(boxes), CHUNK):
                chunk = [_alert(self._filled + n, box) for n, box in enumerate(boxes[start : start + CHUNK])]
                self._filled += len(chunk)
                results = service.registration.register(chunk, "benchmark")
                assert all(result.outcome == "accepted" for result in results), "every alert must be kept"
            with ExitStack() as patched:
                if rows:
                    patched.enter_context(mock.patch.object(tickets, "padded_size", return_value=rows))
                begun, spent = time.perf_counter(), time.process_time()
                (published,) = service.publish()
                took_s, spent_s = time.perf_counter() - begun, time.process_time() - spent
        finally:
            service.close()
        assert published.tokens == self._filled, "every alert must be in the set"
        return published, took_s, spent_s

    @contextmanager
    def served(self) -> Iterator[Served]:
        """Serve both, and go on once the querier has the set in use and both are idle."""
        with ExitStack() as opened:
            pids = {each.name: opened.enter_context(_serving(each)) for each in (self.querier, self.owner)}
            served = Served(opened.enter_context(open_local(self.querier, pki.Role.SYSTEM)), pids)
            served.wait_for_set()
            opened.enter_context(served.watching())
            yield served


@dataclass
class Times:
    """When what happened to declarations, in seconds of ``time.perf_counter``, by reference."""

    due: dict[str, float] = field(default_factory=dict)
    """When it was to be sent; where it was sent as fast as possible, when it was."""
    acknowledged: dict[str, float] = field(default_factory=dict)


class Served:
    """Both nodes at work.

    Args:
        client: The querier's local port, as one of its systems.
        pids: Of the processes, by authority.
    """

    def __init__(self, client: LocalClient, pids: dict[str, int]) -> None:
        self.client = client
        self._pids = pids
        self._changed = threading.Condition()
        self.matched: dict[str, float] = {}
        """By reference of a declaration, when its first match came from WatchMatches."""
        self.found: dict[str, float] = {}
        """The same by the querier's clock, when it wrote the match down."""
        self._ended = ""

    def wait_for_set(self) -> None:
        """Wait until the querier has taken the set, and both nodes have nothing more to do."""
        until = time.monotonic() + TAKE_S
        while not self.querier_line()["epoch"]:
            assert time.monotonic() < until, "the querier did not take the set"
            time.sleep(0.2)
        while True:
            before = sum(self.cpu_s().values())
            time.sleep(2)
            if (sum(self.cpu_s().values()) - before) / 2 < QUIET_CORES:
                return
            assert time.monotonic() < until, "the nodes do not become idle"

    def querier_line(self) -> dict[str, Any]:
        """Return what the querier's status says about the agreement."""
        (line,) = self.client.status()["agreements"]
        return line  # type: ignore[no-any-return]

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time of each node since its start."""
        return {code: _cpu_s(pid) for code, pid in self._pids.items()}

    def register(self, declarations: Sequence[registry_pb2.Record], gaps_s: Sequence[float] = ()) -> Times:
        """Send declarations on one RegisterStream, and return once all are acknowledged.

        Args:
            declarations: What is sent.
            gaps_s: Time before each of them, kept whatever the answers do; none to send as fast as the stream takes.
        """
        times, refs = Times(), [declaration.source_ref for declaration in declarations]

        def requests() -> Iterator[registry_pb2.RegisterStreamRequest]:
            due = time.perf_counter()
            for number, declaration in enumerate(declarations):
                if gaps_s:
                    due += gaps_s[number]
                    time.sleep(max(0.0, due - time.perf_counter()))
                times.due[refs[number]] = due if gaps_s else time.perf_counter()
                yield registry_pb2.RegisterStreamRequest(sequence=number, record=declaration)

        for answer in self.client.registry.RegisterStream(requests()):
            times.acknowledged[refs[answer.sequence]] = time.perf_counter()
            assert answer.result.outcome == registry_pb2.REGISTER_OUTCOME_ACCEPTED, "every declaration must be kept"
        assert len(times.acknowledged) == len(refs), "every declaration must be acknowledged"
        return times

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the matches as they come."""
        # Of ``time.perf_counter`` against the clock that both nodes and this process have in common.
        behind = time.time() - time.perf_counter()
        stream = self.client.registry.WatchMatches(registry_pb2.WatchMatchesRequest())

        def watch() -> None:
            try:
                for answer in stream:
                    with self._changed:
                        self.matched.setdefault(answer.match.record_ref, time.perf_counter())
                        self.found.setdefault(answer.match.record_ref, answer.match.found_ms / 1000 - behind)
                        self._changed.notify_all()
            except grpc.RpcError as error:
                with self._changed:
                    self._ended = error.code().name
                    self._changed.notify_all()

        thread = threading.Thread(target=watch, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]  # the stubs leave its types out
            thread.join()

    def wait_for_matches(self, refs: Sequence[str], timeout_s: float) -> None:
        """Wait until a match of each of these declarations has come."""
        wanted = set(refs)
        with self._changed:
            came = self._changed.wait_for(lambda: self._ended or wanted <= self.matched.keys(), timeout_s)
        assert not self._ended, f"WatchMatches ended: {self._ended}"
        assert came, f"{len(wanted - self.matched.keys())} of {len(wanted)} matches did not come"

    def wait_until_asked(self, timeout_s: float) -> None:
        """Wait until the querier has asked with everything that was registered."""
        until = time.monotonic() + timeout_s
        while self.querier_line()["pending_records"]:
            assert time.monotonic() < until, "the querier does not come to an end"
            time.sleep(0.2)


def declaration(ref: str, boxes: Sequence[str]) -> registry_pb2.Record:
    """Return a declaration with some containers, as a system sends it."""
    return registry_pb2.Record(
        source="ICS2",
        source_ref=ref,
        category="ics2.ens",
        identifiers=[
            registry_pb2.Identifier(type="container", value=box, source_path=f"/equipment[{n}]/number")
            for n, box in enumerate(boxes, 1)
        ],
        fields={
            "mrn": registry_pb2.Values(values=[ref]),
            "goods_description": registry_pb2.Values(values=[f"Fresh bananas in cartons, {ref}"]),
        },
        message_digest=hashlib.sha256(ref.encode()).digest(),
    )


def _alert(number: int, box: str) -> Record:
    ref = f"XX{number:012d}"
    return Record(
        source=SourceSystem.SIS,
        source_ref=ref,
        category="sis.38.g",
        identifiers=(Identifier(IdentifierType.CONTAINER, box, "$.object.container_number"),),
        fields={
            Field.OBJECT_TYPE: ("container",),
            Field.OBJECT_IDENTIFIERS: (box,),
            Field.ACTION: ("seizure",),
            Field.SCHENGEN_ID: (ref,),
            Field.ISSUING_STATE: ("DE",),
        },
        message_digest=hashlib.sha256(ref.encode()).digest(),
    )


def _set(directory: Path, key: str, value: float) -> None:
    path = Layout(directory).config
    text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", path.read_text())
    assert count == 1, f"the profile has no {key}"
    path.write_text(text)


@contextmanager
def _serving(directory: Path) -> Iterator[int]:
    said = directory.with_suffix(".stderr")
    with said.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "connector_psi.cli", "serve", directory],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else b""
        assert line and json.loads(line)["ready"], f"serve did not start: {said.read_text()}"  # noqa: PT018
        yield process.pid
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process, all its threads together."""
    # Behind the name, which may hold anything; user and system time are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_ports(count: int) -> list[int]:
    """Return ports below those that the system gives to outgoing connections, so that nobody takes them in between."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no ports are free")
