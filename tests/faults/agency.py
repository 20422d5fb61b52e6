"""A node, its process, and the people and systems who use its local port.

Decides: how each of them works, as they would at an agency: what was not acknowledged is sent again, what waits for a person is decided.
Leaves to others: when a node dies or a link breaks (``links``, the tests), and what must be true in the end (``model``). Every call may fail
with ``ConnectorError`` because the node is away; whoever calls goes on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

from connector_psi import pki
from connector_psi.audit.checkpoint import parse_vkey, verify_checkpoint
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType, Record
from connector_psi.errors import ConnectorError
from connector_psi.node.config import Layout, load_config
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.node.service import Service
from connector_psi.rpc import convert
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.v1 import audit_pb2, registry_pb2
from tests.simulation.crash import Diary
from tests.simulation.faults import PURPOSE

PEOPLE = ("system1", "officer1", "supervisor1")


def container(number: int) -> tuple[IdentifierType, str]:
    """The number-th container."""
    return IdentifierType.CONTAINER, normalise(IdentifierType.CONTAINER, f"TGHU{number:06d}", complete_check_digit=True)


class Agency:
    """One authority.

    Args:
        directory: Its node directory, named after the authority.
        diary: Where is noted what others were told.
        make: Its n-th record, for ``feed``.
        batch: How many records ``feed`` sends.
        max_cases: No more are opened.
        inside: A command that runs the process somewhere, such as in a network of its own.
        local: Where the local port is reached, if not where the process says.
    """

    def __init__(
        self,
        directory: Path,
        diary: Diary,
        make: Callable[[int], Record],
        *,
        batch: int = 2,
        max_cases: int = 40,
        inside: Sequence[str] = (),
        local: str = "",
    ) -> None:
        self.directory = directory
        self.code = directory.name
        self.make = make
        self.served: live.Served | None = None
        self.acknowledged = 0
        _, self.layout = load_config(directory)
        self._diary = diary
        self._batch = batch
        self._max_cases = max_cases
        self._inside = inside
        self._local = local
        self._clients: dict[str, LocalClient] = {}

    # The process

    def start(self) -> live.Served:
        """Start the process unless it runs."""
        if self.served is None:
            self.served = live.Served(self.directory, self._inside)
        return self.served

    def ready(self) -> None:
        """Wait for the process, unless it was met before, and let everybody connect to it."""
        served = self.start()
        if self._clients:
            return
        served.wait()
        root_pem = self.layout.root_cert.read_bytes()
        for name in PEOPLE:
            credentials = pki.load_credentials(self.layout.people / f"{name}.crt")
            self._clients[name] = LocalClient(self._local or served.local, self.code, credentials, root_pem)

    def kill(self) -> None:
        """Kill the process, if there is one, and see it end."""
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
        """End the process as an operator does."""
        assert self.served is not None
        code, _ = self.served.stop()
        assert code == 0, self.served.log.read_text()[-2000:]
        self.gone()

    # What people and systems do

    def call(self, name: str, method: str, request: Any, *, port: str = "registry") -> Any:
        """Call a method of the local port as somebody."""
        client = self._clients[name]
        return client.call(getattr(getattr(client, port), method), request)

    def client(self, name: str) -> LocalClient:
        """Return somebody's connection."""
        return self._clients[name]

    def send(self, records: Sequence[Record]) -> list[str]:
        """Register records; returns what became of each."""
        request = registry_pb2.RegisterRequest(records=map(convert.record_message, records))
        answer = self.call("system1", "Register", request)
        return [convert.OUTCOME_NAMES[result.outcome] for result in answer.results]

    def register(self, numbers: Sequence[int]) -> list[str]:
        """Register records by number."""
        return self.send([self.make(n) for n in numbers])

    def feed(self) -> None:
        """Send the next records; those that were not acknowledged are sent again."""
        first = self.acknowledged
        self.register(range(first, first + self._batch))
        self.acknowledged += self._batch

    def look(self) -> None:
        """Ask for the newest checkpoint, as a witness would."""
        note = self.call("system1", "GetCheckpoint", audit_pb2.GetCheckpointRequest(), port="audit").checkpoint
        with suppress(ConnectorError):
            self._diary.note("checkpoint", self.code, *_size_and_root(self.layout, note))

    def matches(self, state: str = "") -> Iterator[Any]:
        """Yield matches, oldest first."""
        after = 0
        while page := self.call(
            "officer1", "ListMatches", registry_pb2.ListMatchesRequest(state=state, after=after)
        ).matches:
            yield from page
            after = page[-1].resume_token

    def cases(self, state: str = "") -> Iterator[Any]:
        """Yield cases of both sides, oldest first."""
        offset = 0
        while page := self.call(
            "officer1", "ListCases", registry_pb2.ListCasesRequest(state=state, offset=offset)
        ).cases:
            yield from page
            offset += len(page)

    def review(self) -> None:
        """Confirm every new match."""
        for match in list(self.matches("new")):
            request = registry_pb2.ConfirmMatchRequest(match_id=match.match_id, reason="compared")
            self.call("officer1", "ConfirmMatch", request)

    def open_cases(self) -> None:
        """Open a case for every confirmed match that has none."""
        opened = {case.match_id for case in self.cases()}
        todo = [match for match in self.matches("confirmed") if match.match_id not in opened]
        for match in todo[: max(0, self._max_cases - len(opened))]:
            self.open_case(match)

    def open_case(self, match: Any) -> None:
        """Open a case for a confirmed match."""
        request = registry_pb2.RegistryServiceOpenCaseRequest(
            match_id=match.match_id, **PURPOSE, case_reference=match.record_ref, justification="seen"
        )
        self.call("officer1", "OpenCase", request)

    def approve(self) -> None:
        """Approve what peers opened."""
        for case in list(self.cases("awaiting_decision")):
            request = registry_pb2.DecideCaseRequest(case_id=case.case_id, approve=True, reason="checked")
            self.call("supervisor1", "DecideCase", request)

    def synced(self, mark: int) -> tuple[bool, int]:
        """Tell whether everything registered before a mark is queried and published; returns the mark too."""
        state = self.call("system1", "Sync", registry_pb2.SyncRequest(mark_ms=mark), port="node")
        return state.done, state.mark_ms


def disclosed_cases(service: Service) -> set[bytes]:
    """Return the request ids of everything that was disclosed to a node, however many pages that takes."""
    found: set[bytes] = set()
    offset = 0
    while page := service.cases.list(("disclosed",), offset=offset):
        found |= {view.row.request_id for view in page}
        offset += len(page)
    return found


def all_synced(agencies: Sequence[Agency]) -> Callable[[], bool]:
    """Return what tells whether everything registered at all of them until now is queried and published."""
    marks = dict.fromkeys((agency.code for agency in agencies), 0)

    def synced() -> bool:
        done = []
        for agency in agencies:
            state, marks[agency.code] = agency.synced(marks[agency.code])
            done.append(state)
        return all(done)

    return synced


def wait(done: Callable[[], bool], seconds: float) -> float:
    """Wait until something is so; returns after how many seconds it was."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        with suppress(ConnectorError):
            if done():
                return time.monotonic() - begun
        time.sleep(0.1)
    raise AssertionError(f"not settled within {seconds:.0f} s")


def wait_lasting(done: Callable[[], bool], seconds: float, lasting_s: float = 2.0) -> None:
    """Wait until something has been so for a while: a set that was just published is not served before its checkpoint."""
    since: list[float] = []

    def lasts() -> bool:
        try:
            held = done()
        except ConnectorError:
            held = False
        if not held:
            since.clear()
        elif not since:
            since.append(time.monotonic())
        return held and time.monotonic() - since[0] >= lasting_s

    wait(lasts, seconds)


def _size_and_root(layout: Layout, note: bytes) -> tuple[int, str]:
    key = parse_vkey(parse_descriptor(layout.descriptor.read_bytes()).log_vkey)
    found = verify_checkpoint(note, key, key.name)
    return found.size, found.root.hex()
