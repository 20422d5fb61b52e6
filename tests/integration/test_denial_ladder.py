"""Up the ladder of denials, for every RPC of both ports: who is nobody, who is somebody else, who is right and asks for what is another's.

What a caller sees on a rung is one constant: it tells neither which method, nor which reason, nor whether a thing is there.
The methods come from the protos, so that a new one is on the ladder the day it is written.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connector_psi import pki
from connector_psi.domain.clock import SystemClock
from connector_psi.keyring import Keyring
from connector_psi.node.config import Layout
from connector_psi.oprf import suite
from connector_psi.pki import Role
from connector_psi.protocol import messages
from connector_psi.rpc.interceptors import CODE_KEY, LOCAL_ACCESS, PEER_ACCESS
from connector_psi.rpc.v1 import disclosure_pb2, matching_pb2, registry_pb2

V1 = "/connector_psi.rpc.v1."
OWN, OTHERS = "SIS-OBJ:ics2-sis", "SIS-OBJ:cz-sis"
UNKNOWN = ("SIS-OBJ:pl-sis", "EUR-XCHK:ics2-sis", "SIS-OBJ:ics2-de", "SIS-OBJ", "sis-obj:ics2-sis", "", "x" * 70_000)
NOWHERE = (
    f"{V1}MatchingService/Unknown",
    f"{V1}UnknownService/Evaluate",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.channelz.v1.Channelz/GetTopChannels",
    "/unknown",
)
PEER_PORT = live.methods(*live.PEER_SERVICES, *live.HEALTH_SERVICES)
LOCAL_PORT = live.methods(*live.LOCAL_SERVICES, *live.HEALTH_SERVICES)
FORBIDDEN_HERE = live.Answer("PERMISSION_DENIED", "refused", ((CODE_KEY, "refused"),))
"""On the local port, where people are told more once they are somebody."""

COVERED_S = 20

Caller = Callable[[live.Mint], pki.IssuedCert | None]


@dataclass
class Federation:
    """A node that is served, ``sis``, and one that asks it, ``ics2``, served too."""

    sis: live.Served
    ics2: live.Served
    mint: live.Mint
    root_pem: bytes

    @contextlib.contextmanager
    def peer_port(self, cert: pki.IssuedCert | pki.Credentials | None) -> Iterator[grpc.Channel]:
        with live.channel(self.sis.peer, "sis", self.root_pem, cert) as channel:
            yield channel

    @contextlib.contextmanager
    def local_port(self, cert: pki.IssuedCert | pki.Credentials | None) -> Iterator[grpc.Channel]:
        with live.channel(self.sis.local, "sis", self.root_pem, cert) as channel:
            yield channel


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("ladder")
    sis = live.make_node(root, "sis", "sis")
    ics2, cz, gone, late = (live.make_node(root, code, "ics2") for code in ("ics2", "cz", "gone", "late"))
    live.introduce(sis, ics2, cz, gone, late, revoke=["gone"])
    live.introduce(ics2, sis)
    with live.serving(sis, ics2) as (owner, querier):
        yield Federation(owner, querier, live.Mint(root), Layout(sis).root_cert.read_bytes())


def _crafted(mint: live.Mint, *uris: str) -> pki.IssuedCert:
    """A certificate of the federation's root with any SAN URIs, such as nobody should issue."""
    issuer = x509.load_pem_x509_certificate(mint.root.cert_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    now = SystemClock().now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority ics2")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.replace(hour=0, minute=0))
        .not_valid_after(now.replace(year=now.year + 1, day=1))
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    cert = builder.sign(mint.root.key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pki.IssuedCert(cert.public_bytes(serialization.Encoding.PEM), private)


# Those whom TLS does not let in

NOBODY: dict[str, Caller] = {
    "no certificate": lambda _: None,
    "another CA": lambda mint: mint.authority("ics2", stranger=True),
    "another CA, a person": lambda mint: mint.person("sis", Role.ADMIN, stranger=True),
    "expired": lambda mint: mint.authority("ics2", days_ago=60),
    "expired, a person": lambda mint: mint.person("sis", Role.ADMIN, days_ago=60),
    "not yet valid": lambda mint: mint.authority("ics2", days_ago=-2),
}


@pytest.mark.parametrize("name", NOBODY)
def test_nobody_gets_a_connection(federation: Federation, name: str) -> None:
    cert = NOBODY[name](federation.mint)
    for port, methods in ((federation.peer_port, PEER_PORT), (federation.local_port, LOCAL_PORT)):
        with port(cert) as channel:
            answers = {path: live.call(channel, path) for path in methods}
        # The text is the caller's own library's: no byte of an answer reached it.
        assert {answer.status for answer in answers.values()} == {"UNAVAILABLE"}
        assert {answer.trailing for answer in answers.values()} == {()}
        assert all("failed to connect" in answer.details for answer in answers.values())


@pytest.mark.parametrize("local", [False, True])
def test_only_tls_1_3_is_spoken(federation: Federation, local: bool) -> None:
    layout = Layout(federation.ics2.directory)
    address = federation.sis.local if local else federation.sis.peer
    with live.tls_socket(address, layout.root_cert, layout.node_cert) as accepted:
        assert (accepted.version(), accepted.selected_alpn_protocol()) == ("TLSv1.3", "h2")
    with pytest.raises(ssl.SSLError):
        live.tls_socket(address, layout.root_cert, layout.node_cert, maximum=ssl.TLSVersion.TLSv1_2)


# Those who are somebody else

STRANGERS: dict[str, Caller] = {
    "an authority that is no peer": lambda mint: mint.authority("pl"),
    "a revoked peer": lambda mint: mint.authority("gone"),
    "the node itself": lambda mint: mint.authority("sis"),
    "a person of a peer": lambda mint: mint.person("ics2", Role.OFFICER),
    "an auditor of a peer": lambda mint: mint.person("ics2", Role.AUDITOR),
    "a system of a peer": lambda mint: mint.person("ics2", Role.SYSTEM),
    "a person of the node": lambda mint: mint.person("sis", Role.OFFICER),
    "an administrator of the node": lambda mint: mint.person("sis", Role.ADMIN),
    "a certificate without identity": _crafted,
    "a certificate with two identities": lambda mint: _crafted(
        mint, "urn:connector-psi:authority:ics2", "urn:connector-psi:authority:cz"
    ),
    "a certificate with a peer in capitals": lambda mint: _crafted(mint, "URN:connector-psi:authority:ics2"),
    "a certificate that only looks like a peer": lambda mint: _crafted(mint, "urn:connector-psi:authority:ics2:x"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_on_the_peer_port_gets_one_answer_everywhere(federation: Federation, name: str) -> None:
    with federation.peer_port(STRANGERS[name](federation.mint)) as channel:
        answers = {path: live.call(channel, path) for path in (*PEER_PORT, *NOWHERE)}
        # Nor does it matter what is sent: bytes that are no message are not looked at.
        answers |= {f"{path} malformed": live.call(channel, path, b"\xff\xff\xff") for path in PEER_PORT}
    assert {path: answer for path, answer in answers.items() if answer != live.FORBIDDEN} == {}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("peer", {path for path in PEER_ACCESS if not path.endswith("/GetEntries")}),
        ("auditor", {path for path in PEER_ACCESS if "AuditService/Get" in path or "Health" in path}),
    ],
)
def test_who_may_call_some_methods_may_not_call_the_others(
    federation: Federation, name: str, allowed: set[str]
) -> None:
    mint = federation.mint
    with federation.peer_port(
        mint.authority("ics2") if name == "peer" else mint.person("sis", Role.AUDITOR)
    ) as channel:
        answers = {path: live.call(channel, path, b"\xff\xff\xff") for path in (*PEER_PORT, *LOCAL_PORT, *NOWHERE)}
    # Whoever may call learns that the bytes are no message; the others learn nothing.
    malformed = live.Answer("INVALID_ARGUMENT", "malformed data")
    assert answers == {path: malformed if path in allowed else live.FORBIDDEN for path in answers}


def test_a_peer_is_refused_on_the_connection_it_has_open_once_it_is_revoked(federation: Federation) -> None:
    check = "/grpc.health.v1.Health/Check"
    with (
        federation.peer_port(federation.mint.authority("late")) as peer,
        federation.local_port(federation.mint.person("sis", Role.ADMIN)) as admin,
    ):
        assert live.call(peer, check).status == "OK"
        request = registry_pb2.RevokePeerRequest(authority="late").SerializeToString()
        assert live.call(admin, f"{V1}NodeService/RevokePeer", request).status == "OK"
        assert live.call(peer, check) == live.FORBIDDEN


# Those who are right and ask for what is another's


def _asking(agreement: str, querier: str = "ics2") -> dict[str, bytes]:
    """Requests that are sound in all but the agreement that they name."""
    request_id, commitment = secrets.token_bytes(16), secrets.token_bytes(32)
    scalars = b"".join(int(n).to_bytes(32, "little") for n in range(2, 10))
    blinded = suite.blind([b"token %d" % n for n in range(8)], scalars)
    batch = messages.batch_commitment(querier, agreement[:1000], 1, "object", request_id, blinded)
    return {
        "MatchingService/GetManifest": matching_pb2.GetManifestRequest(agreement=agreement).SerializeToString(),
        "MatchingService/GetDeltas": matching_pb2.GetDeltasRequest(agreement=agreement).SerializeToString(),
        "MatchingService/Evaluate": matching_pb2.EvaluateRequest(
            agreement=agreement[:1000],
            epoch=1,
            token_class=1,
            request_id=request_id,
            batch_commitment=batch,
            source_commitment=commitment,
            actor_commitment=commitment,
            blinded_elements=blinded,
        ).SerializeToString(),
        "DisclosureService/OpenCase": _case(agreement, request_id).SerializeToString(),
        "DisclosureService/GetOutcome": disclosure_pb2.GetOutcomeRequest(
            agreement=agreement, request_id=request_id
        ).SerializeToString(),
        "DisclosureService/RequestAccess": disclosure_pb2.RequestAccessRequest(
            agreement=agreement, request_id=request_id
        ).SerializeToString(),
        "DisclosureService/Recall": disclosure_pb2.RecallRequest(
            agreement=agreement,
            request_id=request_id,
            recall_id=request_id,
            cause=disclosure_pb2.RECALL_CAUSE_DATA_WRONG,
        ).SerializeToString(),
        "DisclosureService/AcknowledgeRecall": disclosure_pb2.AcknowledgeRecallRequest(
            agreement=agreement, recall_id=request_id, effect=disclosure_pb2.RECALL_EFFECT_ERASED
        ).SerializeToString(),
    }


def _case(agreement: str, request_id: bytes) -> disclosure_pb2.OpenCaseRequest:
    return disclosure_pb2.OpenCaseRequest(
        agreement=agreement,
        epoch=1,
        ticket_id=secrets.token_bytes(16),
        redeem_codes=secrets.token_bytes(8),
        purpose="cpsi:ObjectSeizureOrEvidence",
        legal_basis="2018/1862:38",
        case_reference="C1",
        justification="j",
        request_id=request_id,
        actor_commitments=secrets.token_bytes(32),
        signature=bytes(64),
    )


def test_every_method_that_names_an_agreement_is_asked() -> None:
    named = {path.removeprefix(V1) for path, m in PEER_PORT.items() if "agreement" in m.input_type.fields_by_name}
    assert named == set(_asking(OWN))


def test_an_agreement_of_others_looks_like_one_that_does_not_exist(federation: Federation) -> None:
    with federation.peer_port(federation.mint.authority("ics2")) as channel:
        answers = {
            (path, agreement[:20]): live.call(channel, V1 + path, request)
            for agreement in (OTHERS, *UNKNOWN)
            for path, request in _asking(agreement).items()
        }
    assert {asked: answer for asked, answer in answers.items() if answer != live.FORBIDDEN} == {}


def test_the_owner_cannot_ask_the_querier(federation: Federation) -> None:
    cert = federation.mint.authority("sis")
    with live.channel(federation.ics2.peer, "ics2", federation.root_pem, cert) as channel:
        asking = _asking(OWN, "sis")
        # The one thing that an owner asks of its querier; unsigned, it is wrong and not forbidden.
        recall = live.call(channel, f"{V1}DisclosureService/Recall", asking.pop("DisclosureService/Recall"))
        assert recall.status == "INVALID_ARGUMENT"
        answers = {path: live.call(channel, V1 + path, request) for path, request in asking.items()}
        assert live.call(channel, f"{V1}AuditService/GetCheckpoint").status == "OK"
    assert set(answers.values()) == {live.FORBIDDEN}


def test_a_set_of_others_looks_like_one_that_does_not_exist(federation: Federation) -> None:
    def read(channel: grpc.Channel, digest: bytes, offset: int = 0) -> live.Answer:
        request = matching_pb2.ReadSetRequest(manifest_hash=digest, file=1, offset=offset)  # type: ignore[arg-type]
        return live.call(channel, f"{V1}MatchingService/ReadSet", request.SerializeToString())

    with federation.peer_port(federation.mint.authority("cz")) as channel:
        digest = _digest(_manifest(channel, OTHERS))
        assert read(channel, digest).status == "OK"
    with federation.peer_port(federation.mint.authority("ics2")) as channel:
        assert read(channel, digest) == read(channel, bytes(32)) == read(channel, b"") == live.FORBIDDEN
        assert read(channel, digest, 1 << 60) == live.FORBIDDEN


def _manifest(channel: grpc.Channel, agreement: str) -> live.Answer:
    """Ask for a manifest until there is one: a set that was just published is not served before a checkpoint covers it."""
    request = matching_pb2.GetManifestRequest(agreement=agreement).SerializeToString()
    deadline = time.monotonic() + COVERED_S
    while (answer := live.call(channel, f"{V1}MatchingService/GetManifest", request)).status == "UNAVAILABLE":
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    return answer


def _digest(answer: live.Answer) -> bytes:
    assert answer.status == "OK", answer
    digest = hashes.Hash(hashes.SHA256())
    digest.update(matching_pb2.GetManifestResponse.FromString(answer.message).manifest)
    return digest.finalize()


def test_who_is_right_in_everything_is_answered(federation: Federation) -> None:
    """The other end of the ladder, without which a port that refuses all would pass."""
    keys = Keyring.open(federation.ics2.directory)
    with federation.peer_port(federation.mint.authority("ics2")) as channel:
        asking = _asking(OWN)
        manifest = _manifest(channel, OWN)
        digest = _digest(manifest)
        epoch = json.loads(matching_pb2.GetManifestResponse.FromString(manifest.message).manifest)["epoch"]
        query = matching_pb2.EvaluateRequest.FromString(asking["MatchingService/Evaluate"])
        query.epoch = epoch
        query.batch_commitment = messages.batch_commitment(
            "ics2", OWN, epoch, "object", query.request_id, query.blinded_elements
        )
        case = _case(OWN, secrets.token_bytes(16))
        signed = inspect.signature(messages.case_bytes).parameters.keys() - {"querier"}
        values = {name: getattr(case, name) for name in signed}
        case.signature = keys.signing_key.sign(messages.case_bytes(querier="ics2", **values))
        outcome = disclosure_pb2.GetOutcomeRequest(agreement=OWN, request_id=case.request_id)
        # The type stubs want the enum's own type.
        reading = matching_pb2.ReadSetRequest(manifest_hash=digest, file=2)  # type: ignore[arg-type]
        deltas = matching_pb2.GetDeltasRequest(agreement=OWN, epoch=epoch, from_seq=1)
        answers = {
            path: live.call(channel, V1 + path, request)
            for path, request in {
                "MatchingService/ReadSet": reading.SerializeToString(),
                "MatchingService/GetDeltas": deltas.SerializeToString(),
                "MatchingService/Evaluate": query.SerializeToString(),
                "DisclosureService/OpenCase": case.SerializeToString(),
                "DisclosureService/GetOutcome": outcome.SerializeToString(),
                "AuditService/GetCheckpoint": b"",
            }.items()
        }
    assert {answer.status for answer in answers.values()} == {"OK"}, answers
    assert len(matching_pb2.EvaluateResponse.FromString(answers["MatchingService/Evaluate"].message).proof) == 64


# The local port


@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(lambda mint: mint.authority("sis"), id="the node itself"),
        pytest.param(lambda mint: mint.authority("ics2"), id="a peer"),
        pytest.param(_crafted, id="a certificate without identity"),
        *(pytest.param(lambda mint, role=role: mint.person("ics2", role), id=f"{role} of a peer") for role in Role),
    ],
)
def test_nobody_from_outside_uses_the_local_port(federation: Federation, caller: Caller) -> None:
    with federation.local_port(caller(federation.mint)) as channel:
        answers = {path: live.call(channel, path) for path in (*LOCAL_PORT, *PEER_PORT, *NOWHERE)}
        answers |= {f"{path} malformed": live.call(channel, path, b"\xff\xff\xff") for path in LOCAL_PORT}
    assert {path: answer for path, answer in answers.items() if answer != FORBIDDEN_HERE} == {}


@pytest.mark.parametrize("role", list(Role))
def test_a_role_calls_what_is_its_own_and_nothing_else(federation: Federation, role: Role) -> None:
    allowed = {path for path, roles in LOCAL_ACCESS.items() if role in roles}
    with federation.local_port(federation.mint.person("sis", role)) as channel:
        answers = {path: live.call(channel, path, b"\xff\xff\xff") for path in (*LOCAL_PORT, *PEER_PORT, *NOWHERE)}
    malformed = live.Answer("INVALID_ARGUMENT", "request: not a message of this method", ((CODE_KEY, "format"),))
    assert answers == {path: malformed if path in allowed else FORBIDDEN_HERE for path in answers}


def test_the_node_says_nothing_of_its_callers(federation: Federation) -> None:
    """Whoever was refused above left no name and no text of theirs in the log."""
    text = federation.sis.log.read_text()
    assert "rpc.refused" in text
    for planted in ("somebody", "urn:connector-psi", "xxxxxxxx", "UnknownService", "ServerReflection"):
        assert planted not in text
    assert "rpc.internal" not in text


def test_the_ladder_leaves_a_sound_log(federation: Federation) -> None:
    with federation.local_port(federation.mint.person("sis", Role.AUDITOR)) as channel:
        answer = live.call(channel, f"{V1}NodeService/VerifyLog")
    assert json.loads(registry_pb2.VerifyLogResponse.FromString(answer.message).json)["verified"] is True
