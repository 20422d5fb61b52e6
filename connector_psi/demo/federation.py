"""Three authorities on one machine: made, started as processes of their own, reached, stopped.

Decides: ports, the settings that a demonstration needs (short times to decide, a recording of the peer port), how long
a process may take to come up and to go. Leaves to others: everything that the nodes do; they are served by
``connector-psi serve`` like any other.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from connector_psi import pki
from connector_psi.demo.plan import CUSTOMS, EUROPOL, SIS
from connector_psi.demo.signins import SignIns, make_sign_ins
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.records import Record
from connector_psi.errors import ConfigError, UnavailableError
from connector_psi.node import setup
from connector_psi.node.config import Layout, parse_config
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.convert import record_size_bytes
from connector_psi.rpc.local import open_local, serving_of

AUTHORITIES = (CUSTOMS, SIS, EUROPOL)
"""Codes of the authorities; each uses the shipped profile of its name."""

SLOT_S = 1
DECIDE_S = 6
"""T of the demonstration: the time that an owner's people have, 72 hours in operation."""

_READY_S = 60.0
_STOP_S = 15.0
_ATTEMPTS = 3
_REQUEST_RECORDS = 500
_REQUEST_BYTES = 800_000
_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "query": {"interval_s": 0.5, "manifest_poll_s": 0.5},
    # Long enough that the samples are published once, when they are complete and the demonstration says so.
    "publish": {"quiet_s": 10.0, "delta_s": 2.0},
    "disclosure": {"slot_s": SLOT_S, "not_disclosed_after_s": DECIDE_S},
    "log": {"checkpoint_s": 0.5},
}


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that is being served."""

    authority: str
    directory: Path
    transcript: Path
    process: subprocess.Popen[bytes]
    pid: int
    peer: str
    local: str

    @property
    def console(self) -> str:
        """URL of its web console; empty without one."""
        serving = serving_of(self.directory)
        return serving.console if serving is not None else ""

    @property
    def descriptor(self) -> bytes:
        """What the authority hands to its peers."""
        return Layout(self.directory).descriptor.read_bytes()


class Federation:
    """The nodes of a demonstration.

    Args:
        root: Folder for node directories, the development root, recordings and logs of the processes.
        consoles: Whether the nodes serve consoles, to which people may sign in with what ``sign_ins`` says.
    """

    def __init__(self, root: Path, *, consoles: bool = False) -> None:
        self._root = root
        self._consoles = consoles
        self.sign_ins: SignIns | None = None
        self._clients: dict[tuple[str, pki.Role], LocalClient] = {}
        self._connections = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.nodes: dict[str, RunningNode] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make the node directories and start a process for each.

        Raises:
            UnavailableError: A node does not come up; the text names its log.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start()
            except UnavailableError:
                # Somebody else may have taken a port since it was chosen.
                self.stop()
                if attempt == _ATTEMPTS:
                    raise
                for code in AUTHORITIES:
                    shutil.rmtree(self._root / "nodes" / code, ignore_errors=True)
            else:
                return

    def _start(self) -> None:
        addresses = _free_addresses(2 * len(AUTHORITIES))
        recordings = self._root / "transcript"
        recordings.mkdir(parents=True, exist_ok=True)
        started: dict[str, tuple[Path, Path, subprocess.Popen[bytes]]] = {}
        for code in AUTHORITIES:
            directory, transcript = self._root / "nodes" / code, recordings / f"{code}.jsonl"
            setup.init_node(
                directory,
                authority=code,
                profile=code,
                pkidir=self._root / "pki",
                listen=addresses.pop(),
                local=addresses.pop(),
                clock=SystemClock(),
                random=SystemRandom(),
                console="127.0.0.1:0" if self._consoles else "",
            )
            _configure(Layout(directory).config, {**_SETTINGS, "transcript": {"path": str(transcript.resolve())}})
            started[code] = (directory, transcript, self._spawn(directory, self._root / "nodes" / f"{code}.log"))
        if self._consoles:
            self.sign_ins = make_sign_ins((code, directory) for code, (directory, _, _) in started.items())
        deadline = time.monotonic() + _READY_S
        for code, (directory, transcript, process) in started.items():
            ready = _ready_line(process, deadline)
            if ready is None:
                raise UnavailableError(f"{code}: did not come up; see {self._root / 'nodes' / f'{code}.log'}")
            self.nodes[code] = RunningNode(
                code, directory, transcript, process, ready["pid"], ready["peer"], ready["local"]
            )

    def _spawn(self, directory: Path, log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "connector_psi.cli", "serve", str(directory)]
        with log.open("ab") as stderr:
            # A session of its own: Ctrl-C at the terminal reaches the demonstration alone, which then stops the nodes.
            process = subprocess.Popen(  # noqa: S603 - this package, this interpreter
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
            )
        self._processes.append(process)
        return process

    def client(self, authority: str, role: pki.Role) -> LocalClient:
        """Return a node's local port as somebody of this role; connected on first use."""
        key = (authority, role)
        if key not in self._clients:
            self._clients[key] = self._connections.enter_context(open_local(self.nodes[authority].directory, role))
        return self._clients[key]

    def register(self, authority: str, records: Iterable[Record]) -> Counter[str]:
        """Register records at a node, in requests that it takes; returns how many had which outcome."""
        client = self.client(authority, pki.Role.SYSTEM)
        outcomes: Counter[str] = Counter()
        chunk: list[Record] = []
        size = 0
        for record in records:
            length = record_size_bytes(record)
            if len(chunk) >= _REQUEST_RECORDS or size + length > _REQUEST_BYTES:
                outcomes.update(result.outcome for result in client.register(chunk))
                chunk, size = [], 0
            chunk.append(record)
            size += length
        outcomes.update(result.outcome for result in client.register(chunk))
        return outcomes

    def check(self) -> None:
        """See that all nodes are running.

        Raises:
            UnavailableError: One has ended.
        """
        for node in self.nodes.values():
            if node.process.poll() is not None:
                raise UnavailableError(f"{node.authority}: its process ended with code {node.process.returncode}")

    def stop(self) -> None:
        """End every process that was started: asked first, then made to."""
        self._connections.close()
        self._clients.clear()
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()
        self.nodes.clear()


def _free_addresses(count: int) -> list[str]:
    """Return loopback addresses that nobody listens on at this moment."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def _configure(path: Path, settings: Mapping[str, Mapping[str, object]]) -> None:
    """Put settings into a ``node.toml``, in place where they stand already."""
    text = path.read_text(encoding="utf-8")
    for section, values in settings.items():
        if f"[{section}]" not in text:
            text += f"\n[{section}]\n"
        for key, value in values.items():
            line = f"{key} = {json.dumps(value)}"
            pattern = re.compile(rf"(\[{section}\]\n(?:(?!\[).*\n)*?){key} = .*\n")
            if pattern.search(text):
                text = pattern.sub(lambda found, line=line: f"{found[1]}{line}\n", text)  # type: ignore[misc]
            else:
                text = text.replace(f"[{section}]\n", f"[{section}]\n{line}\n")
    config = parse_config(text.encode(), str(path)).model_dump()
    for section, values in settings.items():
        if any(config[section][key] != value for key, value in values.items()):
            raise ConfigError(f"{path}: [{section}] could not be set")
    path.write_text(text, encoding="utf-8")


def _ready_line(process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any] | None:
    """Return what ``serve`` prints once it is ready, None if it ends or takes too long."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            return None
    try:
        ready: dict[str, Any] = json.loads(process.stdout.readline())
    except ValueError:
        return None
    return ready
