"""The gate before every RPC, with services of all four kinds behind it, over mutual TLS.

Whatever a handler raises, nothing of it but its class reaches the caller.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connector_psi.rpc import tls  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest
from structlog.testing import capture_logs

from connector_psi import errors, pki
from connector_psi.domain.clock import SystemClock
from connector_psi.pki import Role
from connector_psi.rpc import interceptors
from connector_psi.rpc.interceptors import CODE_KEY, Gate
from connector_psi.rpc.transcript import Transcript
from tests.simulation.federation import ManualClock

SECRET = "CSQU3054383 of Jane Doe"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
STREAMS = ("unary_stream", "stream_stream")
SERVICE = "test.v1.Fake"
PATHS = {kind: f"/{SERVICE}/{kind}" for kind in KINDS}
LASTING = f"/{SERVICE}/lasting"


class SecretError(Exception):
    def __str__(self) -> str:
        return SECRET


def _raise(error: BaseException) -> None:
    raise error


def _chained() -> None:
    try:
        _raise(KeyError(SECRET))
    except KeyError as error:
        raise RuntimeError(SECRET) from error


# What goes wrong in a handler -> what the caller sees on the peer port.
INTERNAL = ("INTERNAL", "internal error ########")
FAILURES: dict[str, tuple[Callable[[], None], tuple[str, str]]] = {
    "a defect": (lambda: _raise(ValueError(SECRET)), INTERNAL),
    "a missing key": (lambda: _raise(KeyError(SECRET)), INTERNAL),
    "an exception that tells by its text alone": (lambda: _raise(SecretError()), INTERNAL),
    "a bare exception, as gRPC's own abort": (lambda: _raise(Exception()), INTERNAL),
    "an exception of the root class": (lambda: _raise(Exception(SECRET)), INTERNAL),
    "a chain": (_chained, INTERNAL),
    "a call of its own that failed": (lambda: _raise(grpc.RpcError(SECRET)), INTERNAL),
    "an exhausted recursion": (lambda: _raise(RecursionError(SECRET)), INTERNAL),
    "not implemented": (lambda: _raise(NotImplementedError(SECRET)), INTERNAL),
    **{
        kind.__name__: (lambda kind=kind: _raise(kind(SECRET)), (status.name, kind.public_detail))  # type: ignore[misc]
        for kind, status in interceptors.STATUS.items()
    },
}


@dataclass
class Fake:
    """Handlers of all kinds; what they do is set by each test."""

    before: Callable[[], None] = lambda: None
    after_one: Callable[[], None] = lambda: None
    on_write: Callable[[], None] = lambda: None
    parsed: list[bytes] = field(default_factory=list)
    reading: threading.Event = field(default_factory=threading.Event)
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def read(self, data: bytes) -> bytes:
        self.parsed.append(data)
        self.reading.set()
        if data == b"broken":
            raise SecretError
        return data

    def write(self, message: bytes) -> bytes:
        self.on_write()
        return message

    def one(self, request: Any, _context: grpc.ServicerContext) -> bytes:
        self.before()
        try:
            return request if isinstance(request, bytes) else b"".join(request)
        finally:
            self.closed.release()

    def many(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.before()
        yield b"first"
        self.after_one()
        yield self.one(request, context)

    def lasting(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        gone = threading.Event()
        context.add_callback(gone.set)
        try:
            yield b"first"
            gone.wait(10)
        finally:
            self.closed.release()

    def handler(self) -> grpc.GenericRpcHandler:
        build = {kind: getattr(grpc, f"{kind}_rpc_method_handler") for kind in KINDS}
        made = {kind: build[kind](self.many if kind in STREAMS else self.one, self.read, self.write) for kind in KINDS}
        made["lasting"] = build["unary_stream"](self.lasting, self.read, self.write)
        made["unlisted"] = build["unary_unary"](self.one, self.read, self.write)
        return grpc.method_handlers_generic_handler(SERVICE, made)


@dataclass(frozen=True)
class Pki:
    root_pem: bytes
    node: pki.IssuedCert
    peer: pki.IssuedCert
    officer: pki.IssuedCert


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    clock = SystemClock()
    root = pki.ensure_test_root(tmp_path_factory.mktemp("pki"), clock)
    return Pki(
        root.cert_pem,
        pki.issue_authority(root, "sis", (), clock, 30),
        pki.issue_authority(root, "ics2", (), clock, 30),
        pki.issue_person(root, "sis", Role.OFFICER, "jane.doe", clock, 30),
    )


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [*PATHS.values(), LASTING]
    monkeypatch.setattr(interceptors, "PEER_ACCESS", dict.fromkeys(paths, frozenset({interceptors.AUTHORITY})))
    monkeypatch.setattr(interceptors, "LOCAL_ACCESS", dict.fromkeys(paths, frozenset({Role.OFFICER})))
    monkeypatch.setattr(interceptors, "_NO_DEADLINE", {LASTING})
    monkeypatch.setattr(interceptors, "MAX_OPEN_STREAMS", 2)


@contextlib.contextmanager
def served(
    fake: Fake, certs: Pki, *, local: bool = False, transcript: Any = None, clock: ManualClock | None = None
) -> Iterator[Callable[..., Any]]:
    """Serve a fake behind the gate; yields ``connect(certificate)``."""
    gate = Gate(
        "sis",
        clock or SystemClock(),
        local=local,
        is_active_peer={"ics2"}.__contains__,
        transcript=transcript,
    )
    server = grpc.server(ThreadPoolExecutor(6), interceptors=[gate], options=tls.SERVER_OPTIONS)
    server.add_generic_rpc_handlers((fake.handler(),))
    identity = pki.AuthorityIdentity("sis")
    credentials = tls.server_credentials(
        pki.Credentials(certs.node.cert_pem, certs.node.key_pem, identity), certs.root_pem
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    with contextlib.ExitStack() as open_channels:

        def connect(cert: pki.IssuedCert) -> grpc.Channel:
            own = pki.Credentials(cert.cert_pem, cert.key_pem, pki.identity_of(cert.cert_pem))
            return open_channels.enter_context(tls.channel(f"127.0.0.1:{port}", "sis", own, certs.root_pem))

        try:
            yield connect
        finally:
            open_channels.close()
            server.stop(0).wait()


def call(
    channel: grpc.Channel, kind: str, request: bytes = b"x", *, deadline_s: float | None = 10, path: str = ""
) -> tuple[str, str, list[bytes], dict[str, Any]]:
    """Return status, text, the messages that came, and every piece of metadata."""
    stub = getattr(channel, kind)(path or PATHS[kind], None, None)
    argument = iter([request, request]) if kind.startswith("stream") else request
    got: list[bytes] = []
    running = None
    try:
        if kind in STREAMS:
            running = stub(argument, timeout=deadline_s)
            got += running
        else:
            answer, running = stub.with_call(argument, timeout=deadline_s)
            got.append(answer)
        error: Any = running
    except grpc.RpcError as caught:
        error = caught
    metadata = {k: v for pairs in (error.initial_metadata(), error.trailing_metadata()) for k, v in pairs or ()}
    return error.code().name, error.details() or "", got, metadata


def masked(details: str) -> str:
    """The text without the number of the incident, which differs from call to call."""
    head, space, number = details.rpartition(" ")
    is_number = head == "internal error" and len(number) == 8 and set(number) <= set("0123456789abcdef")
    return f"{head}{space}########" if is_number else details


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_is_allowed_is_served(certs: Pki, kind: str) -> None:
    with served(Fake(), certs) as connect:
        status, details, got, _ = call(connect(certs.peer), kind)
    once = b"xx" if kind.startswith("stream") else b"x"
    assert (status, details, got) == ("OK", "", [b"first", once] if kind in STREAMS else [once])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_an_exception_reaches_the_peer_or_the_log(
    certs: Pki, kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    fake = Fake()
    seen: dict[str, tuple[str, str]] = {}
    everything: list[Any] = []
    with served(fake, certs) as connect, capture_logs() as logged, caplog.at_level(logging.DEBUG):
        channel = connect(certs.peer)
        for name, (fail, _) in FAILURES.items():
            fake.before = fail
            status, details, got, metadata = call(channel, kind)
            seen[name] = (status, masked(details))
            everything += [details, got, metadata]
    assert seen == {name: expected for name, (_, expected) in FAILURES.items()}
    text = repr(everything) + json.dumps(logged) + caplog.text + "".join(capfd.readouterr())
    assert not any(word in text for word in ("CSQU3054383", "Jane", "Doe"))
    incidents = [entry for entry in logged if entry["event"] == "rpc.internal"]
    assert len({entry["incident"] for entry in incidents}) == len(incidents) > 5
    assert {entry["method"] for entry in logged} == {PATHS[kind]}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("name", FAILURES)
def test_nothing_of_an_exception_in_the_midst_of_a_stream_reaches_the_peer(certs: Pki, kind: str, name: str) -> None:
    fail, expected = FAILURES[name]
    with served(Fake(after_one=fail), certs) as connect:
        status, details, got, metadata = call(connect(certs.peer), kind)
    assert (status, masked(details), got) == (*expected, [b"first"])
    assert SECRET not in repr(metadata)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_cannot_be_written_is_internal(
    certs: Pki, kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(Fake(on_write=FAILURES["a defect"][0]), certs) as connect, caplog.at_level(logging.DEBUG):
        status, details, got, _ = call(connect(certs.peer), kind)
    assert (status, masked(details), got) == (*INTERNAL, [])
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_message_are_malformed(
    certs: Pki, kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(Fake(), certs) as connect, caplog.at_level(logging.DEBUG):
        status, details, _, _ = call(connect(certs.peer), kind, b"broken")
    assert (status, details) == ("INVALID_ARGUMENT", errors.FormatError.public_detail)
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_stranger_is_parsed(certs: Pki, kind: str, local: bool) -> None:
    fake = Fake()
    with served(fake, certs, local=local) as connect:
        status, details, _, _ = call(connect(certs.peer if local else certs.officer), kind)
    assert (status, details, fake.parsed) == ("PERMISSION_DENIED", "refused", [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [f"/{SERVICE}/unlisted", f"/{SERVICE}/unknown", "/unknown.v1.Service/Method"])
def test_what_is_not_in_the_table_is_refused_even_if_it_is_served(certs: Pki, kind: str, path: str) -> None:
    with served(Fake(), certs) as connect:
        channel = connect(certs.peer)
        assert call(channel, kind, path=path)[:2] == ("PERMISSION_DENIED", "refused")
        # A caller that never sends a message gets the same answer, and gets it at once.
        stub = channel.stream_stream(path, None, None)
        with pytest.raises(grpc.RpcError) as refused:
            list(stub(iter([]), timeout=10))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "refused")


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_is_needed_and_bounded(certs: Pki, kind: str) -> None:
    fake = Fake()
    with served(fake, certs) as connect:
        channel = connect(certs.peer)
        answers = {deadline: call(channel, kind, deadline_s=deadline)[:2] for deadline in (None, 3600, 32, 30, 1)}
    late = ("INVALID_ARGUMENT", "a deadline of at most 30 seconds is needed")
    assert answers == {None: late, 3600: late, 32: late, 30: ("OK", ""), 1: ("OK", "")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_agencys_own_people_are_told_the_place_and_still_no_defects_text(certs: Pki, kind: str) -> None:
    fake = Fake(before=lambda: _raise(errors.FormatError("records[3]: " + "x" * 20_000)))
    with served(fake, certs, local=True) as connect:
        channel = connect(certs.officer)
        status, details, _, metadata = call(channel, kind)
        assert (status, details[:12], metadata[CODE_KEY]) == ("INVALID_ARGUMENT", "records[3]: ", "format")
        # A longer text would not fit what a caller takes of metadata.
        assert len(details) == interceptors.MAX_DETAIL_CHARS
        fake.before = FAILURES["a defect"][0]
        status, details, _, metadata = call(channel, kind)
        assert (status, masked(details)) == INTERNAL
        assert CODE_KEY not in metadata


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_that_fails_tells_nothing(certs: Pki, kind: str) -> None:
    class Full:
        def record(self, *_: object) -> None:
            raise OSError(28, SECRET)

    with served(Fake(), certs, transcript=Full()) as connect:
        status, details, _, metadata = call(connect(certs.peer), kind)
    assert (status, masked(details)) == INTERNAL
    assert SECRET not in repr(metadata)


def test_a_recording_holds_the_bytes_of_every_message(certs: Pki, tmp_path: Path) -> None:
    transcript = Transcript(tmp_path / "wire.jsonl")
    with served(Fake(), certs, transcript=transcript) as connect:
        for kind in KINDS:
            call(connect(certs.peer), kind, b"x")
    transcript.close()
    lines = [json.loads(line) for line in (tmp_path / "wire.jsonl").read_text().splitlines()]
    assert len(lines) == 2 + 3 + 3 + 4
    assert {line["peer"] for line in lines} == {"ics2"}
    assert {(line["direction"], line["data"]) for line in lines if line["method"] == PATHS["unary_unary"]} == {
        ("request", "eA=="),
        ("response", "eA=="),
    }


def test_a_certificate_that_expires_ends_the_calls_of_its_connection(certs: Pki) -> None:
    clock = ManualClock()
    with served(Fake(), certs, clock=clock) as connect:
        channel = connect(certs.peer)
        assert call(channel, "unary_unary")[0] == "OK"
        clock.advance(30 * 86_400 + 1)
        assert call(channel, "unary_unary")[:2] == ("PERMISSION_DENIED", "refused")


def test_streams_that_last_are_bounded_and_keep_nobody_waiting(certs: Pki) -> None:
    fake = Fake()
    with served(fake, certs) as connect:
        channel = connect(certs.peer)
        stub = channel.unary_stream(LASTING, None, None)

        def opened() -> Any:
            stream = stub(b"x", timeout=10)
            try:
                next(stream)
            except grpc.RpcError as error:
                refused.append((error.code().name, error.details()))
                return None
            return stream

        refused: list[tuple[str, str | None]] = []
        streams = [opened(), opened()]
        assert refused == []
        assert opened() is None
        assert call(channel, "unary_unary")[0] == "OK"
        streams[0].cancel()
        assert fake.closed.acquire(timeout=10)
        # The place is given back just after the handler ended.
        streams[0] = next(filter(None, (opened() for _ in range(1000))), None)
        assert streams[0] is not None
        assert set(refused) == {("RESOURCE_EXHAUSTED", "refused")}
        for stream in streams:
            stream.cancel()


def test_a_caller_that_goes_away_is_no_incident(certs: Pki) -> None:
    fake = Fake()
    stay = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"x"
        stay.wait(10)

    with capture_logs() as logged, served(fake, certs) as connect:
        running = connect(certs.peer).stream_unary(PATHS["stream_unary"], None, None).future(requests(), timeout=10)
        assert fake.reading.wait(10)
        running.cancel()
        stay.set()
        assert fake.closed.acquire(timeout=10)
    assert logged == []
