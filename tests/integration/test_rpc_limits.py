"""Limits of both ports: size, metadata, deadlines, streams, handshakes, and requests that are sound to protobuf alone."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from connector_psi import pki
from connector_psi.node.config import Layout
from connector_psi.pki import Role
from connector_psi.rpc import tls
from connector_psi.rpc.interceptors import CODE_KEY, LOCAL_ACCESS, PEER_ACCESS
from connector_psi.rpc.v1 import matching_pb2, registry_pb2

V1 = "/connector_psi.rpc.v1."
MANIFEST, REGISTER = f"{V1}MatchingService/GetManifest", f"{V1}RegistryService/Register"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
LASTING = {WATCH, f"{V1}RegistryService/RegisterStream", f"{V1}RegistryService/WatchMatches"}
NO_DEADLINE = live.Answer("INVALID_ARGUMENT", "a deadline of at most 30 seconds is needed")
HANDSHAKE_S = 5
MIB = 1 << 20


@dataclass
class Node:
    served: live.Served
    mint: live.Mint
    root_pem: bytes
    silent: socket.socket
    since: float

    @contextlib.contextmanager
    def port(self, name: str, role: Role = Role.SYSTEM) -> Iterator[grpc.Channel]:
        """A connection of somebody who may call: a peer, or a person of a role."""
        local = name == "local"
        cert = self.mint.person("sis", role) if local else self.mint.authority("ics2")
        address = self.served.local if local else self.served.peer
        with live.channel(address, "sis", self.root_pem, cert) as channel:
            yield channel


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    root = tmp_path_factory.mktemp("limits")
    sis, ics2 = live.make_node(root, "sis", "sis"), live.make_node(root, "ics2", "ics2")
    live.introduce(sis, ics2)
    with live.serving(sis) as (served,):
        host, _, port = served.peer.rpartition(":")
        # Says nothing while the tests below run, so that none of them has to wait for it.
        with socket.create_connection((host, int(port))) as silent:
            yield Node(served, live.Mint(root), Layout(sis).root_cert.read_bytes(), silent, time.monotonic())


def _sized(size: int) -> bytes:
    """A GetManifest or Register request of exactly so many bytes."""
    message = matching_pb2.GetManifestRequest(agreement="x" * size)
    message.agreement = "x" * (2 * size - message.ByteSize())
    return message.SerializeToString()


@pytest.mark.parametrize(("port", "path"), [("peer", MANIFEST), ("local", f"{V1}RegistryService/GetMatch")])
def test_a_message_of_one_mebibyte_is_taken_and_one_byte_more_is_not(node: Node, port: str, path: str) -> None:
    with node.port(port) as channel:
        assert live.call(channel, path, _sized(MIB)).status == "PERMISSION_DENIED"
        for size in (MIB + 1, 4 * MIB):
            assert live.call(channel, path, _sized(size)).status == "RESOURCE_EXHAUSTED"
        assert live.call(channel, CHECK).status == "OK"


@pytest.mark.parametrize("port", ["peer", "local"])
@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param([("x-long", "v" * 9_000)], id="one long value"),
        pytest.param([(f"x-many-{n}", "v" * 100) for n in range(100)], id="many values"),
        pytest.param([("x-binary-bin", bytes(8_000))], id="bytes"),
    ],
)
def test_metadata_over_eight_kibibytes_is_refused(node: Node, port: str, metadata: list[tuple[str, str]]) -> None:
    with node.port(port) as channel:
        assert live.call(channel, CHECK, metadata=[("x-fair", "v" * 4_000)]).status == "OK"
        assert live.call(channel, CHECK, metadata=metadata).status == "RESOURCE_EXHAUSTED"
        assert live.call(channel, CHECK).status == "OK"


@pytest.mark.parametrize("port", ["peer", "local"])
def test_every_call_but_a_lasting_stream_needs_a_deadline_of_at_most_30_s(node: Node, port: str) -> None:
    access = LOCAL_ACCESS if port == "local" else PEER_ACCESS
    with node.port("local", Role.ADMIN) if port == "local" else node.port("peer") as channel:
        own = Role.ADMIN if port == "local" else "authority"
        paths = [path for path, who in access.items() if own in who and path not in LASTING]
        assert len(paths) > 10
        for deadline_s in (None, 120.0):
            answers = {path: live.call(channel, path, deadline_s=deadline_s) for path in paths}
            assert {path: answer for path, answer in answers.items() if answer != NO_DEADLINE} == {}
        assert live.call(channel, CHECK, deadline_s=30).status == "OK"
        assert live.call(channel, WATCH, deadline_s=None).status == "OK"


def test_calls_that_fail_leave_no_stream_open(node: Node) -> None:
    many = 8 * dict(tls.SERVER_OPTIONS)["grpc.max_concurrent_streams"]
    with node.port("local") as channel:
        paths = (f"{V1}NodeService/GetStatus", f"{V1}RegistryService/GetMatch")
        assert {live.call(channel, path, deadline_s=None) for path in paths for _ in range(many)} == {NO_DEADLINE}
        assert {live.call(channel, f"{V1}Nothing/Here").status for _ in range(many)} == {"PERMISSION_DENIED"}
        assert {live.call(channel, paths[1], b"\xff").status for _ in range(many)} == {"INVALID_ARGUMENT"}


def test_a_system_may_keep_a_stream_of_records_open(node: Node) -> None:
    path = f"{V1}RegistryService/RegisterStream"
    request = registry_pb2.RegisterStreamRequest(sequence=7, record=registry_pb2.Record(source="nowhere"))
    with node.port("local") as channel:
        answer = live.call(channel, path, request.SerializeToString(), deadline_s=None)
    response = registry_pb2.RegisterStreamResponse.FromString(answer.message)
    assert (answer.status, response.sequence, list(response.result.problems)) == (
        "OK",
        7,
        ["source: not in the vocabulary"],
    )


@pytest.mark.parametrize("port", ["peer", "local"])
def test_the_settings_that_a_connection_begins_with(node: Node, port: str) -> None:
    layout = Layout(node.served.directory)
    cert = layout.people / "officer1.crt"
    address = node.served.local if port == "local" else node.served.peer
    with live.tls_socket(address, layout.root_cert, cert) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        head = _exactly(connection, 9)
        assert head[3] == 4, "SETTINGS comes first"
        body = _exactly(connection, int.from_bytes(head[:3], "big"))
    settings = dict(struct.iter_unpack(">HI", body))
    # RFC 9113 section 6.5.2: SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE.
    assert (settings[3], settings[6]) == (32, 8192)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "the connection ended"
        data += piece
    return data


def test_a_connection_has_32_streams_and_they_keep_no_other_waiting(node: Node) -> None:
    with node.port("peer") as full, node.port("peer") as other:
        # Watching is what a peer can do for as long as it likes.
        watch = full.unary_stream(WATCH, None, None)
        streams = [watch(b"") for _ in range(32)]
        assert all(next(stream) for stream in streams)
        assert live.call(full, CHECK, deadline_s=0.5).status == "DEADLINE_EXCEEDED"
        assert live.call(other, CHECK).status == "OK"
        # Nor can it take more than its share of threads over further connections.
        assert live.call(other, WATCH) == live.Answer("RESOURCE_EXHAUSTED", "refused")
        for stream in streams:
            stream.cancel()
        assert live.call(full, CHECK).status == "OK"


def test_health_knows_its_services_and_no_other_name(node: Node) -> None:
    def status(path: str, service: str) -> Any:
        answer = live.call(channel, path, health_pb2.HealthCheckRequest(service=service).SerializeToString())
        return answer.status, health_pb2.HealthCheckResponse.FromString(answer.message).status

    serving = ("OK", health_pb2.HealthCheckResponse.SERVING)
    with node.port("peer") as channel:
        for name in ("", "connector_psi.rpc.v1.MatchingService"):
            assert status(CHECK, name) == status(WATCH, name) == serving
        for name in ("connector_psi.rpc.v1.RegistryService", "nobody", "x" * 100_000):
            assert status(WATCH, name) == ("OK", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            assert status(CHECK, name)[0] == "NOT_FOUND"
        listed = live.call(channel, "/grpc.health.v1.Health/List")
    assert set(health_pb2.HealthListResponse.FromString(listed.message).statuses) == {
        "",
        *(f"connector_psi.rpc.v1.{name}Service" for name in ("Matching", "Disclosure", "Audit")),
    }


# Requests that protobuf takes and nobody means

EXTREMES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the largest": {"integer": True, "text": "x" * 5_000, "data": b"\xff" * 5_000},
    "the longest": {"text": "x" * 100_000, "data": bytes(100_000)},
    "odd text": {"text": "\0\u202e../../node.toml'\"%s{}\n", "data": b"\0"},
    "right lengths": {"integer": True, "text": "SIS-OBJ:ics2-sis", "data": b"\xff" * 16},
    "right lengths of hashes": {"integer": True, "text": "SIS-OBJ:ics2-sis", "data": b"\xff" * 32},
}


def _extreme(kind: Descriptor, extreme: dict[str, Any], depth: int = 0) -> Any:
    """A message with every field filled."""
    message = GetMessageClass(kind)()
    for field in kind.fields if extreme else ():
        values: list[Any] = []
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if field.message_type.GetOptions().map_entry:
                getattr(message, field.name)[extreme.get("text", "")].values.append("x")
                continue
            values = [_extreme(field.message_type, extreme, depth + 1)] if depth < 3 else []
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            is_text = field.type == FieldDescriptor.TYPE_STRING
            values = [extreme.get("text", "") if is_text else extreme.get("data", b"")]
        elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            values = [True]
        elif field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            values = [1 if extreme.get("integer") else 99]
        else:
            bits = 64 if field.cpp_type in {FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_INT64} else 32
            values = [(1 << bits) - 1 if extreme.get("integer") else 1]
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for value in values:
                getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, values[0])
    return message


@pytest.mark.parametrize("name", EXTREMES)
def test_no_request_is_a_defect(node: Node, name: str) -> None:
    answers: dict[str, live.Answer] = {}
    for port, access in (("peer", PEER_ACCESS), ("local", LOCAL_ACCESS)):
        for caller in Role if port == "local" else ("authority",):
            with node.port("local", Role(caller)) if port == "local" else node.port("peer") as channel:
                for path, who in access.items():
                    if caller in who and path != WATCH:
                        request = _extreme(live.ALL_METHODS[path].input_type, EXTREMES[name]).SerializeToString()
                        # Nothing may come on a stream of matches.
                        deadline_s = 0.05 if path.endswith("/WatchMatches") else 10
                        answers[f"{caller} {path}"] = live.call(channel, path, request, deadline_s=deadline_s)
    assert len(answers) > 80
    defects = {path: answer for path, answer in answers.items() if answer.status in {"INTERNAL", "UNKNOWN"}}
    assert defects == {}, node.served.log.read_text()[-2000:]
    assert {path for path, answer in answers.items() if answer.status == "DEADLINE_EXCEEDED"} <= {
        path for path in answers if path.endswith("/WatchMatches")
    }
    # What a caller sent does not come back in what went wrong.
    assert not [answer for answer in answers.values() if "xxx" in answer.details or "202e" in ascii(answer.details)]
    for path, answer in answers.items():
        codes = [value for key, value in answer.trailing if key == CODE_KEY]
        assert not codes or not path.startswith("authority"), "a code is for the agency's own people"


# Connections that are no connections


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", id="HTTP/1.1"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 without TLS"),
        pytest.param(b"\x16\x03\x01\xff\xff" + bytes(1000), id="a broken ClientHello"),
        pytest.param(b"\xff" * 5000, id="noise"),
    ],
)
def test_what_is_not_tls_is_closed_and_hurts_nobody(node: Node, first: bytes) -> None:
    for address in (node.served.peer, node.served.local):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=HANDSHAKE_S + 5) as connection:
            connection.sendall(first)
            with contextlib.suppress(ConnectionResetError):
                answer = b"".join(iter(lambda: connection.recv(1000), b""))
                # At most a TLS alert.
                assert len(answer) < 100
    with node.port("peer") as channel:
        assert live.call(channel, CHECK).status == "OK"


def test_a_silent_connection_is_closed_after_5_s(node: Node) -> None:
    node.silent.settimeout(max(0.1, node.since + HANDSHAKE_S + 2 - time.monotonic()))
    assert node.silent.recv(100) == b""
    if time.monotonic() - node.since < HANDSHAKE_S - 1:
        pytest.fail("closed before the handshake's time was over")


def test_limits_that_take_too_long_to_wait_for() -> None:
    options = dict(tls.SERVER_OPTIONS)
    assert len(options) == len(tls.SERVER_OPTIONS)
    assert {
        "grpc.max_receive_message_length": MIB,
        "grpc.max_send_message_length": MIB,
        "grpc.max_metadata_size": 8192,
        "grpc.absolute_max_metadata_size": 8192,
        "grpc.max_concurrent_streams": 32,
        "grpc.server_handshake_timeout_ms": 5_000,
        "grpc.max_connection_idle_ms": 300_000,
        "grpc.max_connection_age_ms": 3_600_000,
        "grpc.so_reuseport": 0,
        "grpc.enable_channelz": 0,
    }.items() <= options.items()


def test_protobuf_in_pure_python_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    monkeypatch.setattr(tls.api_implementation, "Type", lambda: "python")
    cert = node.mint.authority("sis")
    credentials = pki.Credentials(cert.cert_pem, cert.key_pem, pki.AuthorityIdentity("sis"))
    with pytest.raises(tls.ConfigError, match="pure-Python"):
        tls.server_credentials(credentials, node.root_pem)
