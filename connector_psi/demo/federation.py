"""Three authorities on one machine: made, started as processes of their own, reached, stopped.

Decides: ports, the settings that a demonstration needs (short times to decide, a recording of the peer port), how long a process may
take to come up and to go. Leaves to others: everything that the nodes do; they are served by ``connector-psi serve`` like any other.
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
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from connector_psi import pki
from connector_psi.demo.samples import CUSTOMS, EUROPOL, SIS
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.errors import ConfigError, UnavailableError
from connector_psi.node import setup
from connector_psi.node.config import Layout, parse_config
from connector_psi.rpc.desk import Desk, open_desk

AUTHORITIES = (CUSTOMS, SIS, EUROPOL)
"""Codes of the authorities; each uses the shipped profile of its name."""

SLOT_S = 1
DECIDE_S = 8
"""T of the demonstration: the time that an owner's people have, 72 hours in operation."""

_READY_S = 60.0
_STOP_S = 15.0
_ATTEMPTS = 3
_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "query": {"interval_s": 0.25, "manifest_poll_s": 0.25},
    "publish": {"quiet_s": 0.5},
    "disclosure": {"slot_s": SLOT_S, "not_disclosed_after_s": DECIDE_S},
    "log": {"checkpoint_s": 0.25},
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
    def descriptor(self) -> bytes:
        """What the authority hands to its peers."""
        return Layout(self.directory).descriptor.read_bytes()


class Federation:
    """The nodes of a demonstration.

    Args:
        root: Folder for node directories, the development root, recordings and logs of the processes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._desks: dict[tuple[str, pki.Role], Desk] = {}
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
            )
            _configure(Layout(directory).config, {**_SETTINGS, "transcript": {"path": str(transcript.resolve())}})
            started[code] = (directory, transcript, self._spawn(directory, self._root / "nodes" / f"{code}.log"))
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
            # A session of its own: Ctrl-C at the terminal reaches the demonstration alone, which stops the nodes in order.
            process = subprocess.Popen(  # noqa: S603 - this package, this interpreter
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
            )
        self._processes.append(process)
        return process

    def desk(self, authority: str, role: pki.Role) -> Desk:
        """Return the desk of a role at a node; connected on first use."""
        key = (authority, role)
        if key not in self._desks:
            self._desks[key] = self._connections.enter_context(open_desk(self.nodes[authority].directory, role))
        return self._desks[key]

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
        self._desks.clear()
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
