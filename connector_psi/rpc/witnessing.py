"""A stand-alone witness over gRPC: ``AuditService/AddCheckpoint`` of the peer port, and nothing else of it.

Decides: who may ask (authorities whose log the witness knows, by the certificate that TLS verified). Leaves to others:
what is cosigned (``witness``).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from connector_psi.rpc import tls  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc

from connector_psi import pki
from connector_psi.domain.clock import Clock
from connector_psi.errors import ConfigError
from connector_psi.node.descriptor import log_origin
from connector_psi.rpc import convert
from connector_psi.rpc.interceptors import AUTHORITY, Access, Gate
from connector_psi.rpc.v1 import audit_pb2
from connector_psi.witness.standalone import StandaloneWitness

SERVICE: Final = "connector_psi.rpc.v1.AuditService"
ACCESS: Final[dict[str, Access]] = {f"/{SERVICE}/AddCheckpoint": frozenset({AUTHORITY})}
_THREADS = 8


class WitnessPort:
    """The running port of a witness.

    Args:
        witness: The witness.
        address: HOST:PORT; port 0 chooses a free one.
        credentials: Certificate of an authority under the federation's root.
        root_pem: The root.
        clock: Time.

    Raises:
        ConfigError: The port is taken, or the certificate is no authority's.
    """

    def __init__(
        self, witness: StandaloneWitness, address: str, credentials: pki.Credentials, root_pem: bytes, clock: Clock
    ) -> None:
        identity = credentials.identity
        if not isinstance(identity, pki.AuthorityIdentity):
            raise ConfigError("--rpc-cert: not the certificate of an authority")
        gate = Gate(
            identity.authority,
            clock,
            local=False,
            is_active_peer=lambda authority: log_origin(authority) in witness.logs,
            access=ACCESS,
        )
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="rpc-witness"),
            interceptors=[gate],
            options=tls.SERVER_OPTIONS,
        )
        self._server.add_generic_rpc_handlers((_handlers(witness),))
        try:
            port = self._server.add_secure_port(address, tls.server_credentials(credentials, root_pem))
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(f"{address}: cannot listen there")
        self._server.start()
        self.address = f"{address.rpartition(':')[0]}:{port}"

    def close(self) -> None:
        """Refuse new calls and let those under way finish."""
        self._server.stop(5).wait(6)


def _handlers(witness: StandaloneWitness) -> grpc.GenericRpcHandler[Any, Any]:
    def add_checkpoint(
        request: audit_pb2.AddCheckpointRequest, _: grpc.ServicerContext
    ) -> audit_pb2.AddCheckpointResponse:
        # The signature on the checkpoint says whose it is.
        return convert.witness_answer_message(witness.add_checkpoint(convert.parse_submission(request)))

    method = grpc.unary_unary_rpc_method_handler(
        add_checkpoint,
        request_deserializer=audit_pb2.AddCheckpointRequest.FromString,
        response_serializer=audit_pb2.AddCheckpointResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"AddCheckpoint": method})
