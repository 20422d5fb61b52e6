"""The two ports of a node: the peer port for other authorities, the local port for the agency's own people and systems.

Decides: what is served where, limits, health. Both ports speak mutual TLS 1.3 and nothing else; there is no reflection
and no channelz.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from connector_psi.rpc import tls  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
from grpc_health.v1 import health_pb2_grpc

from connector_psi.errors import ConfigError
from connector_psi.node.service import Service
from connector_psi.rpc import interceptors, servicers
from connector_psi.rpc.client import PeerConnector
from connector_psi.rpc.local import Serving, serving_file, write_serving
from connector_psi.rpc.transcript import Transcript
from connector_psi.rpc.v1 import audit_pb2_grpc, disclosure_pb2_grpc, matching_pb2_grpc, registry_pb2_grpc

PEER_SERVICES = tuple(
    f"connector_psi.rpc.v1.{name}" for name in ("MatchingService", "DisclosureService", "AuditService")
)
LOCAL_SERVICES = tuple(f"connector_psi.rpc.v1.{name}" for name in ("RegistryService", "NodeService", "AuditService"))
_THREADS = 16
_GRACE_S = 5.0


def open_node(directory: Path) -> Service:
    """Open a node that reaches its peers over their peer ports."""
    return Service(directory, PeerConnector)


def serve(directory: Path, stop: threading.Event, announce: Callable[[Serving], None]) -> None:
    """Serve both ports of a node and let it work by itself until told to stop.

    Args:
        directory: The node directory.
        stop: Ends it.
        announce: Called once everything answers.

    Raises:
        ConfigError: No node directory, or a port is taken.
        UnavailableError: Another process has the node open.
        AuditError: The log cannot be trusted.
    """
    service = open_node(directory)
    layout, settings = service.node.layout, service.node.config.node
    try:
        service.tick_log()
        ports = Ports(service, peer=settings.listen, local=settings.local)
        try:
            service.start()
            ports.serving(yes=True)
            serving = Serving(os.getpid(), ports.peer_address, ports.local_address)
            write_serving(layout, serving)
            announce(serving)
            while not stop.wait(1.0):
                ports.serving(yes=service.node.fatal is None)
        finally:
            serving_file(layout).unlink(missing_ok=True)
            ports.stop(_GRACE_S)
        service.tick_log()
    finally:
        service.close()


class Ports:
    """The running ports of a node.

    Args:
        service: The node at work.
        peer: HOST:PORT of the peer port, None to leave it closed.
        local: HOST:PORT of the local port; port 0 chooses a free one.

    Raises:
        ConfigError: A port is taken or cannot be bound.
    """

    def __init__(self, service: Service, *, peer: str | None, local: str) -> None:
        self._service = service
        self._servers: list[grpc.Server] = []
        path = service.node.config.transcript.path
        self._transcript = Transcript(Path(path)) if path else None
        self._health: list[servicers.Health] = []
        self.peer_address = self._open(peer, local=False) if peer is not None else ""
        try:
            self.local_address = self._open(local, local=True)
        except BaseException:
            self.stop(0)
            raise

    def _open(self, address: str, *, local: bool) -> str:
        node = self._service.node
        gate = interceptors.Gate(
            node.authority,
            node.clock,
            local=local,
            is_active_peer=node.has_peer,
            transcript=None if local else self._transcript,
        )
        server = grpc.server(
            # Open streams have threads of their own, so that they never keep a call waiting.
            ThreadPoolExecutor(
                _THREADS + interceptors.MAX_OPEN_STREAMS, thread_name_prefix="rpc-local" if local else "rpc-peer"
            ),
            interceptors=[gate],
            options=tls.SERVER_OPTIONS,
        )
        audit_pb2_grpc.add_AuditServiceServicer_to_server(servicers.AuditServicer(self._service), server)
        if local:
            registry_pb2_grpc.add_RegistryServiceServicer_to_server(servicers.RegistryServicer(self._service), server)
            registry_pb2_grpc.add_NodeServiceServicer_to_server(servicers.NodeServicer(self._service), server)
        else:
            matching_pb2_grpc.add_MatchingServiceServicer_to_server(servicers.MatchingServicer(self._service), server)
            disclosure_pb2_grpc.add_DisclosureServiceServicer_to_server(
                servicers.DisclosureServicer(self._service), server
            )
        state = servicers.Health(LOCAL_SERVICES if local else PEER_SERVICES)
        health_pb2_grpc.add_HealthServicer_to_server(state, server)
        self._health.append(state)
        credentials = tls.server_credentials(node.credentials, node.root_pem)
        try:
            port = server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(f"{address}: cannot listen there")
        server.start()
        self._servers.append(server)
        return f"{address.rpartition(':')[0]}:{port}"

    def serving(self, *, yes: bool) -> None:
        """Tell the health service whether calls are answered."""
        for state in self._health:
            state.tell(serving=yes)

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way finish, close."""
        self.serving(yes=False)
        for event in [server.stop(grace_s) for server in self._servers]:
            event.wait(grace_s + 1)
        if self._transcript is not None:
            self._transcript.close()
