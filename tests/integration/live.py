"""Real nodes as processes on loopback, certificates of every kind, and calls with any of them.

A call is answered here as ``Answer``: status and text as the caller sees them, so that tests can compare what causes have in common.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from connector_psi.rpc import tls  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2

from connector_psi import cli, pki
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.node.config import Layout
from connector_psi.node.service import Service
from connector_psi.node.setup import init_node
from connector_psi.rpc.client import PeerConnector
from connector_psi.rpc.v1 import audit_pb2, disclosure_pb2, matching_pb2, registry_pb2

START_S, STOP_S, CALL_S = 40, 30, 10
REFUSED = "refused"

AGREEMENTS = ["SIS-ARR:sis-ics2", "SIS-CHK:sis-ics2", "SIS-JUD:sis-ics2", "SIS-MIS:sis-ics2", "SIS-OBJ:ics2-sis"]
"""What customs and N.SIS have with one another."""


# Nodes


def free_port() -> int:
    """A port below those that the system gives to outgoing connections, so that nobody takes it in between."""
    first = 12_000 + os.getpid() % 1_500 * 10
    # Workers of one run look in places of their own: a port is free until its node listens.
    worker = 27_000 + 1_000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4)
    for port in (*range(first, first + 10), *range(worker, worker + 1_000)):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        _given.add(port)
        return port
    raise AssertionError("no port is free")


_given: set[int] = set()


def make_node(root: Path, authority: str, profile: str) -> Path:
    """Init a node under the federation's root, with fixed ports that peers can be told and short slots."""
    directory = root / authority
    init_node(
        directory,
        authority=authority,
        profile=profile,
        pkidir=root / "pki",
        listen=f"127.0.0.1:{free_port()}",
        local=f"127.0.0.1:{free_port()}",
        clock=SystemClock(),
        random=SystemRandom(),
    )
    settings = Layout(directory).config
    text = settings.read_text().replace("slot_s = 10", "slot_s = 1").replace("delta_s = 5", "delta_s = 0.5")
    settings.write_text(
        text.replace("interval_s = 1.0\nmanifest_poll_s = 1.0", "interval_s = 0.2\nmanifest_poll_s = 0.2")
    )
    return directory


def introduce(directory: Path, *peers: Path, revoke: Sequence[str] = ()) -> None:
    """Add peers to a node that is not being served."""
    service = Service(directory, PeerConnector)
    try:
        for peer in peers:
            service.peering.add((peer / "descriptor.json").read_bytes())
        for authority in revoke:
            assert service.revoke(authority)
    finally:
        service.close()


class Served:
    """A ``serve`` process. ``wait`` for it before asking for its ports.

    Args:
        directory: The node directory.
        inside: A command that runs another one somewhere, such as in a network of its own.
    """

    def __init__(self, directory: Path, inside: Sequence[str] = ()) -> None:
        self.directory = directory
        self.log = directory.with_suffix(".stderr")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*inside, sys.executable, "-m", "connector_psi.cli", "serve", str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def wait(self) -> Served:
        """Return once it says that it is ready."""
        assert self.process.stdout is not None
        found, _, _ = select.select([self.process.stdout], [], [], START_S)
        line = self.process.stdout.readline() if found else b""
        assert line, f"serve said nothing: {self.log.read_text()}"
        self.ready: dict[str, Any] = json.loads(line)
        self.peer, self.local = str(self.ready["peer"]), str(self.ready["local"])
        return self

    def says_something(self) -> bool:
        """Whether ``wait`` would return, or fail, at once."""
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, bytes]:
        """Send a signal; return the exit code and what it still said on standard output."""
        self.process.send_signal(number)
        code = self.process.wait(STOP_S)
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        self.end()
        return code, rest

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def serving(*directories: Path) -> Iterator[list[Served]]:
    """Serve nodes for the length of a block."""
    started: list[Served] = []
    try:
        started += map(Served, directories)
        yield [served.wait() for served in started]
    finally:
        for served in started:
            if served.process.poll() is None:
                served.process.terminate()
        for served in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                served.process.wait(STOP_S)
            served.end()


# The command line


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one line of JSON."""
        (line,) = self.out.splitlines()
        return json.loads(line)


def run(*arguments: object, stdin: bytes = b"") -> Done:
    """Run a command in this process, the way the installed script does."""
    out, err = io.StringIO(), io.StringIO()
    text = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["connector-psi", *map(str, arguments)])
        patch.setattr(sys, "stdin", text)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    # What the command set would outlive it.
    structlog.reset_defaults()
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


# A process begins with the peak of the one that started it, so a small one stands between this one and what is measured.
_MEASURED = """
import os, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
import resource
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def run_process(*arguments: object) -> tuple[Done, int]:
    """Run a command as a process; also returns the most memory that it had, in MiB."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _MEASURED, sys.executable, "-m", "connector_psi.cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # Errors are few lines: they fit the pipe while the output is read.
        out, err = process.stdout.read(), process.stderr.read()
        process.wait()
    err, _, peak_kib = err.rstrip("\n").rpartition("\n")
    return Done(process.returncode, out, err), int(peak_kib) // 1024


# Certificates


class ShiftedClock:
    """The system's time, some days off."""

    def __init__(self, days: float) -> None:
        self._shift = timedelta(days=days)

    def now(self) -> datetime:
        return datetime.now(tz=UTC) + self._shift

    def monotonic_s(self) -> float:
        return 0.0


@dataclass
class Mint:
    """Issues certificates under the federation's root, and under one that it does not know."""

    root_dir: Path
    root: pki.Root = field(init=False)
    stranger: pki.Root = field(init=False)

    def __post_init__(self) -> None:
        self.root = pki.ensure_test_root(self.root_dir / "pki", SystemClock())
        self.stranger = pki.ensure_test_root(self.root_dir / "strange-pki", SystemClock())

    def authority(self, code: str, *, days_ago: float = 0, days: int = 30, stranger: bool = False) -> pki.IssuedCert:
        """A node's certificate."""
        root = self.stranger if stranger else self.root
        return pki.issue_authority(root, code, (), ShiftedClock(-days_ago), days)

    def person(
        self, code: str, role: pki.Role, *, days_ago: float = 0, days: int = 30, stranger: bool = False
    ) -> pki.IssuedCert:
        """A person's or a system's certificate."""
        root = self.stranger if stranger else self.root
        return pki.issue_person(root, code, role, "somebody", ShiftedClock(-days_ago), days)

    def __del__(self) -> None:
        shutil.rmtree(self.root_dir / "strange-pki", ignore_errors=True)


# Calls


@dataclass(frozen=True)
class Answer:
    """What a caller sees of a call: status, text, trailing metadata without gRPC's own, and the first message."""

    status: str
    details: str
    trailing: tuple[tuple[str, str], ...] = ()
    message: bytes = field(default=b"", compare=False)


FORBIDDEN = Answer("PERMISSION_DENIED", REFUSED)

PEER_SERVICES: tuple[ServiceDescriptor, ...] = (
    *matching_pb2.DESCRIPTOR.services_by_name.values(),
    *disclosure_pb2.DESCRIPTOR.services_by_name.values(),
    *audit_pb2.DESCRIPTOR.services_by_name.values(),
)
LOCAL_SERVICES: tuple[ServiceDescriptor, ...] = (
    *registry_pb2.DESCRIPTOR.services_by_name.values(),
    *audit_pb2.DESCRIPTOR.services_by_name.values(),
)
HEALTH_SERVICES: tuple[ServiceDescriptor, ...] = tuple(health_pb2.DESCRIPTOR.services_by_name.values())


def methods(*services: ServiceDescriptor) -> dict[str, MethodDescriptor]:
    """Every method of some services, by the path it is called under."""
    return {f"/{service.full_name}/{method.name}": method for service in services for method in service.methods}


ALL_METHODS = methods(*PEER_SERVICES, *LOCAL_SERVICES, *HEALTH_SERVICES)


@contextlib.contextmanager
def channel(
    address: str, authority: str, root_pem: bytes, cert: pki.IssuedCert | pki.Credentials | None, **options: int
) -> Iterator[grpc.Channel]:
    """A channel without limits of its own, so that those of the server show."""
    pair = (cert.key_pem, cert.cert_pem) if cert is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(root_pem, *pair)
    settings: list[tuple[str, Any]] = [
        ("grpc.ssl_target_name_override", pki.authority_host(authority)),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        *((f"grpc.{name}", value) for name, value in options.items()),
    ]
    with grpc.secure_channel(address, credentials, options=settings) as made:
        yield made


def call(
    connection: grpc.Channel,
    path: str,
    request: bytes = b"",
    *,
    deadline_s: float | None = CALL_S,
    metadata: Sequence[tuple[str, str | bytes]] = (),
) -> Answer:
    """Call a method with the bytes of a request. Of a stream the first message is taken, then the call ends."""
    method = ALL_METHODS.get(path)
    kind = ("stream" if method and method.client_streaming else "unary") + (
        "_stream" if method and method.server_streaming else "_unary"
    )
    stub = getattr(connection, kind)(path, request_serializer=None, response_deserializer=None)
    argument = iter([request]) if kind.startswith("stream") else request
    try:
        answer = stub(argument, timeout=deadline_s, metadata=tuple(metadata))
        if not kind.endswith("stream"):
            return Answer("OK", "", message=answer)
        first = next(answer, b"")
        answer.cancel()
        return Answer("OK", "", message=first)
    except grpc.RpcError as error:
        own = tuple((key, value) for key, value in error.trailing_metadata() or () if not key.startswith("grpc-"))
        return Answer(error.code().name, error.details() or "", own)


def tls_socket(
    address: str, root_pem: Path, cert: Path | None, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLSocket:
    """A TLS connection below gRPC, for HTTP/2 frames by hand."""
    context = ssl.create_default_context(cafile=str(root_pem))
    context.check_hostname = False
    context.maximum_version = maximum
    context.set_alpn_protocols(["h2"])
    if cert is not None:
        context.load_cert_chain(str(cert), str(cert.with_suffix(".key")))
    host, _, port = address.rpartition(":")
    raw = socket.create_connection((host, int(port)), timeout=CALL_S)
    try:
        return context.wrap_socket(raw)
    except BaseException:
        raw.close()
        raise
