"""The two ports of a node: the peer port for other authorities, the local port for the agency's own people and systems.

Decides: what is served where, limits, health. Both ports speak mutual TLS 1.3 and nothing else; there is no reflection
and no channelz.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from connector_psi.rpc import tls  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from connector_psi.disclosure import is_silent
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.errors import ConfigError
from connector_psi.node.health import Condition
from connector_psi.node.node import OWNER
from connector_psi.node.service import Service
from connector_psi.oprf.backends import backend_name
from connector_psi.rpc import interceptors, servicers
from connector_psi.rpc.client import PeerConnector
from connector_psi.rpc.local import Serving, serving_file, write_serving
from connector_psi.rpc.transcript import Transcript
from connector_psi.rpc.v1 import audit_pb2_grpc, disclosure_pb2_grpc, matching_pb2_grpc, registry_pb2_grpc

if TYPE_CHECKING:
    from connector_psi.telemetry.recorder import Recorder

logger = structlog.get_logger("connector_psi.rpc")

_PACKAGE = "connector_psi.rpc.v1."
PEER_SERVICES = tuple(f"{_PACKAGE}{name}" for name in ("MatchingService", "DisclosureService", "AuditService"))
LOCAL_SERVICES = tuple(f"{_PACKAGE}{name}" for name in ("RegistryService", "NodeService", "AuditService"))
_THREADS = 16
GRACE_S = 10.0
"""So long calls under way have to finish when a node is stopped."""
STREAM_GRACE_S = 2.0
"""So long streams that would go on for ever have, of which nothing is under way by then."""
HEALTH_S = 1.0


def open_node(directory: Path) -> Service:
    """Open a node that reaches its peers over their peer ports."""
    return Service(directory, PeerConnector)


class Beside(Protocol):
    """Something else that is served beside the ports."""

    @property
    def url(self) -> str:
        """Where."""
        ...

    def close(self) -> None:
        """Stop serving it."""
        ...


def serve(
    directory: Path,
    stop: threading.Event,
    announce: Callable[[Serving], None],
    beside: Callable[[Service], Beside | None] = lambda _service: None,
) -> None:
    """Serve both ports of a node and let it work by itself until told to stop.

    Args:
        directory: The node directory.
        stop: Ends it.
        announce: Called once everything answers.
        beside: Serves the console, if the settings want one.

    Raises:
        ConfigError: No node directory, or a port is taken.
        UnavailableError: Another process has the node open.
        AuditError: The log cannot be trusted.
    """
    service = open_node(directory)
    layout, settings = service.node.layout, service.node.config.node
    recorder: Recorder | None = None
    try:
        recorder = _recorder(service)
        service.tick_log()
        ports = Ports(service, peer=settings.listen, local=settings.local)
        console: Beside | None = None
        try:
            console = beside(service)
            service.console_url = console.url if console is not None else ""
            service.start()
            ports.tell(_looked(service))
            serving = Serving(os.getpid(), ports.peer_address, ports.local_address, service.console_url)
            write_serving(layout, serving)
            announce(serving)
            _started(service)
            while not stop.wait(HEALTH_S):
                ports.tell(_looked(service))
        finally:
            service.health.stops()
            serving_file(layout).unlink(missing_ok=True)
            if console is not None:
                console.close()
            ports.stop(GRACE_S)
        # Loops first: what they still log is signed too.
        service.stop()
        service.tick_log()
    finally:
        if recorder is not None:
            recorder.close()
        service.close()


def _recorder(service: Service) -> Recorder | None:
    """What takes the figures and traces of a node, if its settings want any."""
    node = service.node
    metrics, traces = node.config.metrics, node.config.traces
    if not (metrics.listen or traces.endpoint or traces.file):
        return None
    from connector_psi.telemetry.recorder import Recorder  # noqa: PLC0415 - most nodes start without it

    build = {"authority": node.authority, **_build()}

    def is_quiet() -> bool:
        return any(is_silent(bound.agreement) for bound in node.agreements(OWNER))

    recorder = Recorder(
        service.status, build, is_quiet, metrics=metrics.listen, traces=traces.endpoint, trace_file=traces.file
    )
    node.telemetry = recorder
    return recorder


def _build() -> dict[str, str]:
    return {"version": version("connector-psi"), "backend": backend_name(), "normalisation": NORMALISATION_VERSION}


def _looked(service: Service) -> Mapping[str, Condition]:
    try:
        return service.health.turn()
    except Exception as error:  # noqa: BLE001 - a defect here must not end the node; nothing is promised meanwhile
        # The type alone: the text may hold a value.
        logger.error("health.defect", error=type(error).__name__)  # noqa: TRY400
        return {}


def _started(service: Service) -> None:
    node = service.node
    logger.info("node.started", policy=node.policy.pack_hash.hex(), **_build())


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
        self._gates: list[interceptors.Gate] = []
        path = service.node.config.transcript.path
        self._transcript = Transcript(Path(path)) if path else None
        self._health: list[servicers.Health] = []
        self._ending = threading.Event()
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
            heard=node.contacts.heard,
            telemetry=node.telemetry,
        )
        self._gates.append(gate)
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
            registry = servicers.RegistryServicer(self._service, self._ending)
            registry_pb2_grpc.add_RegistryServiceServicer_to_server(registry, server)
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

    def tell(self, conditions: Mapping[str, Condition]) -> None:
        """Tell the health service which services serve; one that is not named does not."""
        serving = {f"{_PACKAGE}{name}": condition.serving for name, condition in conditions.items()}
        for state in self._health:
            state.tell(serving)

    def serving(self, *, yes: bool) -> None:
        """Tell the health service whether calls are answered."""
        for state in self._health:
            state.tell(dict.fromkeys((*PEER_SERVICES, *LOCAL_SERVICES), yes))

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way finish, close."""
        self._ending.set()
        for state in self._health:
            state.stop()
        ended = [server.stop(grace_s) for server in self._servers]
        deadline = time.monotonic() + min(grace_s, STREAM_GRACE_S)
        if not all(event.wait(max(0.0, deadline - time.monotonic())) for event in ended):
            for gate in self._gates:
                gate.end_streams()
        for event in ended:
            event.wait(grace_s + 1)
        if self._transcript is not None:
            self._transcript.close()
