"""Both access tables against the protos: what is there is named, what is named is there, and who may do what is written out."""

from __future__ import annotations

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi.pki import Role
from connector_psi.rpc import interceptors, server, servicers
from connector_psi.rpc.interceptors import AUTHORITY, LOCAL_ACCESS, PEER_ACCESS

V1 = "/connector_psi.rpc.v1."
PEER = live.methods(*live.PEER_SERVICES, *live.HEALTH_SERVICES)
LOCAL = live.methods(*live.LOCAL_SERVICES, *live.HEALTH_SERVICES)
# Witnesses are nodes: nobody inside the authority asks for a cosignature over the local port.
NOT_LOCAL = {f"{V1}AuditService/AddCheckpoint"}
# What a mistake in would matter most.
SENSITIVE = {
    "RegistryService/Register": {Role.SYSTEM, Role.ADMIN},
    "RegistryService/RegisterStream": {Role.SYSTEM, Role.ADMIN},
    "RegistryService/Withdraw": {Role.SYSTEM, Role.ADMIN},
    "RegistryService/ConfirmMatch": {Role.OFFICER, Role.SUPERVISOR},
    "RegistryService/DismissMatch": {Role.OFFICER, Role.SUPERVISOR},
    "RegistryService/OpenCase": {Role.OFFICER, Role.SUPERVISOR},
    "RegistryService/DecideCase": {Role.OFFICER, Role.SUPERVISOR},
    "RegistryService/RequestAccess": {Role.OFFICER, Role.SUPERVISOR},
    "RegistryService/DecideAccess": {Role.OFFICER, Role.SUPERVISOR},
    "RegistryService/ListRecalls": {Role.OFFICER, Role.SUPERVISOR, Role.DPO, Role.SYSTEM},
    "RegistryService/GetRecall": {Role.OFFICER, Role.SUPERVISOR, Role.DPO, Role.SYSTEM},
    "RegistryService/SendRecall": {Role.SUPERVISOR, Role.DPO},
    "RegistryService/AcknowledgeRecall": {Role.OFFICER, Role.SUPERVISOR, Role.DPO},
    "NodeService/AddPeer": {Role.ADMIN},
    "NodeService/RevokePeer": {Role.ADMIN},
    "NodeService/Publish": {Role.SYSTEM, Role.ADMIN},
    "AuditService/GetEntries": {Role.AUDITOR, Role.DPO},
    "NodeService/GetAuditEntries": {Role.AUDITOR, Role.DPO, Role.SUPERVISOR},
    "NodeService/OpenBodies": {Role.AUDITOR, Role.DPO, Role.SUPERVISOR},
    "NodeService/ExportBodies": {Role.AUDITOR, Role.DPO},
    "NodeService/SetHold": {Role.AUDITOR, Role.DPO},
    "NodeService/ListHolds": {Role.AUDITOR, Role.DPO},
    "NodeService/SearchSubject": {Role.DPO},
    "NodeService/SimulatePolicy": {Role.DPO, Role.SUPERVISOR},
    "NodeService/ListOutbox": {Role.ADMIN, Role.SUPERVISOR},
    "NodeService/RetryOutbox": {Role.ADMIN, Role.SUPERVISOR},
    "NodeService/ConfirmClock": {Role.ADMIN},
}


def test_the_peer_table_names_every_method_and_no_other() -> None:
    assert set(PEER_ACCESS) == set(PEER)


def test_the_local_table_names_every_method_and_no_other() -> None:
    assert set(LOCAL_ACCESS) | NOT_LOCAL == set(LOCAL)
    assert not NOT_LOCAL & set(LOCAL_ACCESS)


def test_each_port_serves_the_services_of_its_table() -> None:
    assert set(server.PEER_SERVICES) == {service.full_name for service in live.PEER_SERVICES}
    assert set(server.LOCAL_SERVICES) == {service.full_name for service in live.LOCAL_SERVICES}


@pytest.mark.parametrize("path", sorted(LOCAL | PEER))
def test_every_method_is_implemented(path: str) -> None:
    _, service, method = path.rsplit(".", 1)[0], *path.rsplit(".", 1)[1].split("/")
    servicer = getattr(servicers, "Health" if service == "Health" else f"{service.removesuffix('Service')}Servicer")
    generated = next(base for base in reversed(servicer.__mro__) if method in vars(base))
    # The generated base raises NotImplementedError.
    assert getattr(servicer, method) is not vars(generated)[method]


def test_authorities_and_people_share_no_method_but_the_audit_of_a_nodes_own_auditor() -> None:
    assert all(roles and roles <= frozenset(Role) for roles in LOCAL_ACCESS.values())
    assert all(roles and roles <= {AUTHORITY, Role.AUDITOR} for roles in PEER_ACCESS.values())
    shared = {path for path, roles in PEER_ACCESS.items() if Role.AUDITOR in roles}
    assert all("/AuditService/" in path.replace(V1, "/") or "Health" in path for path in shared)
    assert PEER_ACCESS[f"{V1}AuditService/GetEntries"] == {Role.AUDITOR}


def test_who_may_do_what_matters_most() -> None:
    assert {name: set(LOCAL_ACCESS[V1 + name]) for name in SENSITIVE} == SENSITIVE


def test_only_streams_that_last_go_without_a_deadline() -> None:
    without = interceptors._NO_DEADLINE
    assert all((LOCAL | PEER)[path].server_streaming for path in without)
    assert {path for path in without if path in PEER} == {"/grpc.health.v1.Health/Watch"}
