"""Two networks of this machine's kernel with one cable between them, which can be pulled and made bad.

Where a proxy ends at TCP, a pulled cable is what a partition is: packets go nowhere, and TCP finds out for itself. It takes root, and a
kernel with network namespaces; loss and delay on the cable take ``tc netem``, which many kernels leave out. All addresses are in the
namespaces that are made here, and all of it is gone at the end of the block.

The local port of a node in a namespace is reached through a socket in the file system: ``python -m tests.faults.netns PATH HOST:PORT``, run
inside, passes connections on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = 20.0


class NoNamespacesError(Exception):
    """This machine does not allow it; the text says what."""


@dataclass(frozen=True)
class Network:
    """A namespace and its end of the cable."""

    name: str
    address: str
    device: str

    @property
    def inside(self) -> tuple[str, ...]:
        """The command that runs another one in it."""
        return ("ip", "netns", "exec", self.name)

    def pull(self) -> None:
        """Pull this end of the cable."""
        _run("ip", "-n", self.name, "link", "set", self.device, "down")

    def plug(self) -> None:
        """Put it back."""
        _run("ip", "-n", self.name, "link", "set", self.device, "up")

    def weather(self, *what: str) -> bool:
        """Let packets from this end suffer as ``tc netem`` has it, nothing to end it. Returns False where the kernel cannot."""
        _try("tc", "-n", self.name, "qdisc", "del", "dev", self.device, "root")
        return not what or _try("tc", "-n", self.name, "qdisc", "add", "dev", self.device, "root", "netem", *what)

    @contextlib.contextmanager
    def door(self, path: Path, address: str) -> Iterator[str]:
        """Reach a port of it from outside for the length of a block; yields what gRPC dials."""
        process = subprocess.Popen(
            [*self.inside, sys.executable, "-m", "tests.faults.netns", str(path), address],
            stdin=subprocess.PIPE,
            cwd=ROOT,
        )
        try:
            deadline = time.monotonic() + START_S
            while not path.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NoNamespacesError("nothing runs in a network namespace here")
                time.sleep(0.02)
            yield f"unix:{path}"
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[Network, Network]]:
    """Make two networks with a cable between them.

    Raises:
        NoNamespacesError: This machine does not allow it.
    """
    ends = tuple(
        Network(f"cpsi-{os.getpid()}-{side}", f"10.203.77.{number}", f"cable-{side}")
        for number, side in ((1, "a"), (2, "b"))
    )
    try:
        for end in ends:
            _run("ip", "netns", "add", end.name)
            _run("ip", "-n", end.name, "link", "set", "lo", "up")
        one, other = ends
        # Both ends are made inside: nothing of it is ever seen outside.
        _run(
            *("ip", "-n", one.name, "link", "add", one.device, "type", "veth"),
            *("peer", "name", other.device, "netns", other.name),
        )
        for end in ends:
            _run("ip", "-n", end.name, "address", "add", f"{end.address}/30", "dev", end.device)
            end.plug()
        yield one, other
    finally:
        for end in ends:
            _try("ip", "netns", "delete", end.name)


def _try(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True)
    except FileNotFoundError:
        raise NoNamespacesError(f"there is no command {command[0]}") from None
    if done.returncode:
        raise NoNamespacesError(f"{' '.join(command[:4])}: {done.stderr.strip()}")


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _serve(near: socket.socket, host: str, port: int) -> None:
    with near, contextlib.suppress(OSError), socket.create_connection((host, port)) as far:
        up = threading.Thread(target=_pass_on, args=(near, far), daemon=True)
        up.start()
        _pass_on(far, near)
        up.join()


def main() -> None:
    """Pass connections to a socket in the file system on to an address, until the parent is gone."""
    path, address = sys.argv[1:]
    host, _, port = address.rpartition(":")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_serve, args=(near, host, int(port)), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    while os.read(0, 1):
        pass


if __name__ == "__main__":
    main()
