"""Asking a peer for its log: the newest checkpoint, and that it continues an earlier one."""

from __future__ import annotations

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from connector_psi.errors import RefusedError, UnavailableError
from connector_psi.rpc import client
from connector_psi.rpc.v1 import audit_pb2, audit_pb2_grpc

NOTE = b"a note\n\nits signatures\n"


class Log(audit_pb2_grpc.AuditServiceServicer):
    """Says what it has, but for one size."""

    def GetCheckpoint(self, request: Any, context: Any) -> audit_pb2.GetCheckpointResponse:
        assert context.time_remaining() <= client.DEADLINE_S + 1
        return audit_pb2.GetCheckpointResponse(checkpoint=NOTE)

    def GetConsistencyProof(self, request: Any, context: Any) -> audit_pb2.GetConsistencyProofResponse:
        assert context.time_remaining() <= client.DEADLINE_S + 1
        if request.new_size == 99:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "refused")
        return audit_pb2.GetConsistencyProofResponse(proof=[b"%d" % request.old_size, b"%d" % request.new_size])


@pytest.fixture
def peer() -> Iterator[tuple[client.PeerClient, grpc.Server]]:
    assert live
    server = grpc.server(ThreadPoolExecutor(2))
    audit_pb2_grpc.add_AuditServiceServicer_to_server(Log(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    made = client.PeerClient("sis", grpc.insecure_channel(f"127.0.0.1:{port}"))
    yield made, server
    made.close()
    server.stop(None).wait()


def test_a_peer_is_asked_for_its_newest_checkpoint_and_for_a_proof(peer: tuple[client.PeerClient, Any]) -> None:
    asked, _ = peer
    assert asked.get_checkpoint() == NOTE
    assert asked.prove_consistency(3, 7) == [b"3", b"7"]


def test_a_refusal_and_a_peer_that_is_away_are_errors_of_their_own(peer: tuple[client.PeerClient, Any]) -> None:
    asked, server = peer
    with pytest.raises(RefusedError):
        asked.prove_consistency(3, 99)
    server.stop(None).wait()
    for call in (asked.get_checkpoint, lambda: asked.prove_consistency(3, 7)):
        with pytest.raises(UnavailableError):
            call()
    asked.close()
    with pytest.raises(UnavailableError):
        asked.get_checkpoint()
