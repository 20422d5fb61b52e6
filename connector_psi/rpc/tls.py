"""Mutual TLS for both ports, and nothing below TLS 1.3.

gRPC's Python API cannot set a minimum version. The only TLS 1.2 suite that this process offers needs a pre-shared key
that neither side has, so a TLS 1.2 handshake has nothing to agree on and fails, while TLS 1.3, whose suites this
setting does not govern, works; the gate before every RPC checks the version once more. The variable is read when gRPC
is first used, so this module is imported first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-AES128-CBC-SHA"
# gRPC writes lines of its own to standard error; what matters of them comes back as a status.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from google.protobuf.internal import api_implementation

from connector_psi import pki
from connector_psi.errors import ConfigError, FormatError

MESSAGE_BYTES = 1 << 20

_LIMITS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 8192),
    ("grpc.enable_channelz", 0),
]
SERVER_OPTIONS: list[tuple[str, int]] = [
    *_LIMITS,
    ("grpc.max_concurrent_streams", 32),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),
    # Streams without a deadline (health, matches) end when their caller's machine is gone.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
]
CHANNEL_OPTIONS: list[tuple[str, int]] = [
    *_LIMITS,
    ("grpc.enable_retries", 0),
    # A peer comes back within seconds of its restart, so the wait between two attempts stays short.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection that a firewall forgot, or whose other end lost its power, says nothing for as long as TCP tries,
    # some fifteen minutes. While a call waits it is asked whether it lives, and given up within the call's deadline.
    # gRPC waits for a minute, whatever the second value says, unless the third one says it too.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
]


def server_credentials(credentials: pki.Credentials, root_pem: bytes) -> grpc.ServerCredentials:
    """Return credentials that demand a client certificate under the root.

    Raises:
        ConfigError: Protobuf runs in pure Python.
    """
    _check_backend()
    return grpc.ssl_server_credentials(
        [(credentials.key_pem, credentials.cert_pem)], root_certificates=root_pem, require_client_auth=True
    )


def channel(address: str, server_authority: str, credentials: pki.Credentials, root_pem: bytes) -> grpc.Channel:
    """Open a channel that reaches this authority's node or nobody.

    Args:
        address: HOST:PORT.
        server_authority: Code of the authority whose certificate the server must show.
        credentials: Of this side.
        root_pem: The federation's root.
    """
    _check_backend()
    options = [
        *CHANNEL_OPTIONS,
        ("grpc.ssl_target_name_override", pki.authority_host(server_authority)),
    ]
    return grpc.secure_channel(
        address,
        grpc.ssl_channel_credentials(root_pem, credentials.key_pem, credentials.cert_pem),
        options=options,
    )


def _check_backend() -> None:
    if api_implementation.Type() == "python":
        raise ConfigError("protobuf runs on its pure-Python backend, which is too slow and unbounded for a node")


def identity_of(context: grpc.ServicerContext) -> pki.Identity:
    """Return who called, from the SAN URI of the certificate that TLS verified.

    Raises:
        FormatError: The certificate names nobody, or the connection is not TLS 1.3.
    """
    if list(_facts(context).get("ssl_tls_version", ())) != [b"TLSv1.3"]:
        raise FormatError("connection: not TLS 1.3")
    return pki.identity_of(certificate_of(context))


def certificate_of(context: grpc.ServicerContext) -> bytes:
    """Return the caller's certificate in PEM, nothing if there is none."""
    return bytes(_facts(context).get("x509_pem_cert", [b""])[0])


def _facts(context: grpc.ServicerContext) -> Mapping[str, Sequence[bytes]]:
    return context.auth_context()  # type: ignore[return-value]  # the stubs leave out the lists
