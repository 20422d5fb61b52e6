"""A defect at a peer, and a connection that breaks, have one status in gRPC: the outbox must not take one for the other."""

from __future__ import annotations

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest

from connector_psi.errors import ConnectorError, PeerError, UnavailableError
from connector_psi.rpc import client


class _Failed(grpc.RpcError):
    def __init__(self, status: grpc.StatusCode, details: str) -> None:
        self._status, self._details = status, details

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        (grpc.StatusCode.INTERNAL, "internal error 0a1b2c3d", PeerError),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", UnavailableError),
        (grpc.StatusCode.INTERNAL, "", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "internal error 0a1b2c3d", UnavailableError),
    ],
)
def test_what_a_peer_says_of_its_own_defect_is_its_answer(
    status: grpc.StatusCode, details: str, kind: type[ConnectorError]
) -> None:
    assert live
    assert type(client._translate(_Failed(status, details), "peer sis")) is kind
