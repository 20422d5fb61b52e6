"""Calling: peers over the peer port (implements ``node.ports``), and this node's local port for the command line.

A status becomes the exception class that the other side raised, as far as it tells; its text is never shown to anybody
but the operator.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from connector_psi.rpc import tls  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc

from connector_psi import errors, pki
from connector_psi.audit.checkpoint import parse_checkpoint, parse_note
from connector_psi.audit.cosignature import parse_witness_key
from connector_psi.audit.merkle import leaf_hash
from connector_psi.domain.coverage import Coverage
from connector_psi.domain.records import Record, Supersession
from connector_psi.node import ports
from connector_psi.node.measuring import NoTelemetry, Telemetry
from connector_psi.rpc import convert
from connector_psi.rpc.interceptors import CODE_KEY, INCIDENT
from connector_psi.rpc.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    disclosure_pb2,
    disclosure_pb2_grpc,
    matching_pb2,
    matching_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
)
from connector_psi.witness.client import HttpWitness

if TYPE_CHECKING:
    from connector_psi.audit.witness import Submission
    from connector_psi.node.node import Node
    from connector_psi.node.registration import Result
    from connector_psi.protocol.owner import Query
    from connector_psi.witness.cosigning import WitnessAnswer

DEADLINE_S = 25.0
T = TypeVar("T")

_BY_STATUS: dict[grpc.StatusCode, type[errors.ConnectorError]] = {
    grpc.StatusCode.PERMISSION_DENIED: errors.RefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.CapacityExceededError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.UnavailableError,
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.ALREADY_EXISTS: errors.ConflictError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.ProtocolError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.ConfigError,
}


def _all_errors() -> dict[str, type[errors.ConnectorError]]:
    found: dict[str, type[errors.ConnectorError]] = {}
    todo: list[type[errors.ConnectorError]] = [errors.ConnectorError]
    while todo:
        kind = todo.pop()
        found[kind.code] = kind
        todo += kind.__subclasses__()
    return found


def _raised(call: Callable[[], T], where: str) -> T:
    try:
        return call()
    except grpc.RpcError as error:
        raise _translate(error, where) from None
    except ValueError:
        # What gRPC raises on a channel that was closed meanwhile.
        raise errors.UnavailableError(f"{where}: the connection was closed") from None


def _translate(error: grpc.RpcError, where: str) -> errors.ConnectorError:
    status = error.code()
    kind = _BY_STATUS.get(status, errors.UnavailableError)
    if status is grpc.StatusCode.INTERNAL and (error.details() or "").startswith(INCIDENT):
        # Its defect, with this request: gRPC gives the same status to a connection that breaks.
        kind = errors.PeerError
    return kind(f"{where}: {status.name.lower()}")


class PeerClient:
    """A peer in the role of owner; implements ``ports.OwnerPort``."""

    def __init__(self, authority: str, channel: grpc.Channel, telemetry: Telemetry | None = None) -> None:
        self._where = f"peer {authority}"
        self._telemetry = telemetry or NoTelemetry()
        self._channel = channel
        self._matching = matching_pb2_grpc.MatchingServiceStub(channel)
        self._disclosure = disclosure_pb2_grpc.DisclosureServiceStub(channel)
        self._audit = audit_pb2_grpc.AuditServiceStub(channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def get_manifest(self, agreement: str) -> ports.ManifestAnswer:
        """Return the newest manifest."""
        request = matching_pb2.GetManifestRequest(agreement=agreement)
        answer = _raised(lambda: self._matching.GetManifest(request, timeout=DEADLINE_S), self._where)
        return ports.ManifestAnswer(
            answer.manifest, answer.signature, convert.leaf_proof(answer.proof), answer.fresh_until_ms
        )

    def read_set(self, manifest_hash: bytes, file: str, offset: int) -> Iterator[bytes]:
        """Yield a set's file; a call that reaches its deadline is continued where it stopped."""
        while True:
            start = offset
            request = matching_pb2.ReadSetRequest(
                manifest_hash=manifest_hash, file=convert.SET_FILES[file], offset=offset
            )
            try:
                for piece in _raised(lambda: self._matching.ReadSet(request, timeout=DEADLINE_S), self._where):  # noqa: B023
                    if piece.offset != offset:
                        raise errors.ProtocolError(f"{self._where}: a set's file came out of order")
                    offset += len(piece.data)
                    yield piece.data
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and offset > start:
                    continue
                raise _translate(error, self._where) from None
            return

    def get_deltas(self, agreement: str, epoch: int, from_seq: int) -> Iterator[ports.DeltaAnswer]:
        """Yield the deltas of an epoch from one on; a call that reaches its deadline is continued where it stopped."""
        while True:
            start, seq = from_seq, from_seq
            request = matching_pb2.GetDeltasRequest(agreement=agreement, epoch=epoch, from_seq=seq)
            try:
                for answer in _raised(lambda: self._matching.GetDeltas(request, timeout=DEADLINE_S), self._where):  # noqa: B023
                    seq += 1
                    yield ports.DeltaAnswer(answer.delta, answer.signature, convert.leaf_proof(answer.proof))
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and seq > start:
                    from_seq = seq
                    continue
                raise _translate(error, self._where) from None
            return

    def evaluate(self, query: Query) -> tuple[bytes, bytes]:
        """Return ``(evaluated elements, proof)``."""
        request = convert.evaluate_request(query)
        label, n_padded = query.token_class.label, query.n_padded
        with self._telemetry.span(
            "query", agreement=query.agreement, token_class=label, elements=n_padded, epoch=query.epoch
        ):
            answer = _raised(lambda: self._matching.Evaluate(request, timeout=DEADLINE_S), self._where)
        self._telemetry.asked(query.agreement, label, n_padded)
        return answer.evaluated_elements, answer.proof

    def open_case(self, request: ports.CaseRequest, at_least: int = 0) -> None:
        """Ask for disclosure."""
        message = convert.open_case_request(request, at_least)
        answer = _raised(lambda: self._disclosure.OpenCase(message, timeout=DEADLINE_S), self._where)
        if answer.state != disclosure_pb2.OUTCOME_STATE_PENDING:
            raise errors.ProtocolError(f"{self._where}: a case was answered with another state than PENDING")

    def get_outcome(self, agreement: str, request_id: bytes) -> ports.OutcomeAnswer | None:
        """Return the outcome once it is served."""
        request = disclosure_pb2.GetOutcomeRequest(agreement=agreement, request_id=request_id)
        answer = _raised(lambda: self._disclosure.GetOutcome(request, timeout=DEADLINE_S), self._where)
        if answer.state != disclosure_pb2.OUTCOME_STATE_SERVED:
            return None
        return ports.OutcomeAnswer(answer.envelope, answer.signature, answer.salt, convert.leaf_proof(answer.proof))

    def request_access(self, request: ports.AccessRequest) -> ports.AccessAnswer | None:
        """Ask for a grant, or for the answer to an earlier request."""
        message = convert.access_request_message(request)
        return convert.access_answer(
            _raised(lambda: self._disclosure.RequestAccess(message, timeout=DEADLINE_S), self._where)
        )

    def recall(self, message: ports.RecallMessage) -> None:
        """Tell a querier that what was disclosed is wrong or withdrawn."""
        request = convert.recall_request(message)
        _raised(lambda: self._disclosure.Recall(request, timeout=DEADLINE_S), self._where)

    def add_checkpoint(self, submission: Submission) -> WitnessAnswer:
        """Ask it to cosign a checkpoint of this node's log."""
        request = convert.submission_message(submission)
        return convert.witness_answer(
            _raised(lambda: self._audit.AddCheckpoint(request, timeout=DEADLINE_S), self._where)
        )

    def acknowledge_recall(self, message: ports.Acknowledgement) -> None:
        """Tell an owner what became of a recall."""
        request = convert.acknowledgement_request(message)
        _raised(lambda: self._disclosure.AcknowledgeRecall(request, timeout=DEADLINE_S), self._where)

    def get_checkpoint(self) -> bytes:
        """Return the newest signed checkpoint of its log."""
        request = audit_pb2.GetCheckpointRequest()
        return _raised(lambda: self._audit.GetCheckpoint(request, timeout=DEADLINE_S), self._where).checkpoint

    def prove_consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Return the proof that its log of ``old_size`` entries is a prefix of that of ``new_size``."""
        request = audit_pb2.GetConsistencyProofRequest(old_size=old_size, new_size=new_size)
        return list(_raised(lambda: self._audit.GetConsistencyProof(request, timeout=DEADLINE_S), self._where).proof)


class NodeLog:
    """The log of a node, as an auditor reads it on the peer port; implements ``witness.mirror.Source``.

    Args:
        address: HOST:PORT of the peer port.
        authority: Whose node it is.
        credentials: An auditor of that authority.
        root_pem: The federation's root.
        entries: Whether leaves are wanted, or their hashes.
    """

    def __init__(
        self, address: str, authority: str, credentials: pki.Credentials, root_pem: bytes, *, entries: bool
    ) -> None:
        self._where = f"node {authority}"
        self._audit = audit_pb2_grpc.AuditServiceStub(tls.channel(address, authority, credentials, root_pem))
        self._entries = entries

    def checkpoint(self) -> bytes:
        """Return the newest signed note."""
        request = audit_pb2.GetCheckpointRequest()
        return _raised(lambda: self._audit.GetCheckpoint(request, timeout=DEADLINE_S), self._where).checkpoint

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield leaves, or their hashes, from ``start`` up to and not including ``end``."""
        while start < end:
            request = audit_pb2.GetEntriesRequest(start=start, limit=256)
            page = _raised(lambda: self._audit.GetEntries(request, timeout=DEADLINE_S), self._where).leaves  # noqa: B023
            if not page:
                return
            for leaf in page[: end - start]:
                yield leaf if self._entries else leaf_hash(leaf)
            start += len(page)


class _Watched(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    """Notes of each call to a peer whether it was answered, and how long that took."""

    def __init__(self, node: Node, authority: str) -> None:
        self._node = node
        self._authority = authority

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401 - grpc's own
        """Watch a call with one answer."""
        begun, method = time.monotonic(), _short(client_call_details.method)
        with self._node.telemetry.span(f"out {method}", peer=self._authority) as span:
            call = continuation(client_call_details, request)
            span.note(status=self._note(method, call, begun))
        return call

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401 - as above
        """Watch a call whose answers come one by one."""
        begun, method = time.monotonic(), _short(client_call_details.method)
        call = continuation(client_call_details, request)
        if not call.add_callback(lambda: self._note(method, call, begun)):
            self._note(method, call, begun)
        return call

    def _note(self, method: str, call: Any, begun: float) -> str:  # noqa: ANN401 - as above
        status = call.code() or grpc.StatusCode.OK
        if status in _SILENT and call.details() != errors.UnavailableError.public_detail:
            self._node.contacts.failed(self._authority)
        elif status is not grpc.StatusCode.CANCELLED:
            self._node.contacts.answered(self._authority)
        self._node.telemetry.called("out", method, status.name, time.monotonic() - begun)
        return str(status.name)


_SILENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL}
"""No answer, unless it is a peer that says that it cannot answer now."""


def _short(method: str) -> str:
    return method.rpartition(".")[2]


class PeerConnector:
    """Connections to peers, one channel each; implements ``ports.Connector``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._clients: dict[str, tuple[str, PeerClient]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def owner(self, authority: str) -> PeerClient:
        """Return the peer with this code.

        Raises:
            PurposeRefusedError: It is not an active peer.
            UnavailableError: This node is closing.
        """
        return self._client(authority, authority, self._node.peer(authority).address)

    def _client(self, key: str, authority: str, address: str) -> PeerClient:
        with self._lock:
            if self._closed:
                raise errors.UnavailableError("this node is closing")
            held = self._clients.get(key)
            if held is not None and held[0] == address:
                return held[1]
            if held is not None:
                held[1].close()
            channel = tls.channel(address, authority, self._node.credentials, self._node.root_pem)
            client = PeerClient(
                authority,
                grpc.intercept_channel(channel, _Watched(self._node, authority)),
                self._node.telemetry,
            )
            self._clients[key] = (address, client)
            return client

    def witness(self, name: str) -> ports.WitnessPort:
        """Return the witness of ``node.toml`` whose key has this name.

        Raises:
            PurposeRefusedError: There is none.
            UnavailableError: This node is closing.
        """
        for witness in self._node.config.witnesses:
            if parse_witness_key(witness.vkey).name == name:
                parts = urlsplit(witness.url)
                if parts.scheme != "grpcs":
                    return HttpWitness(witness.url, name)
                return self._client(f"witness {name}", parts.username or "", f"{parts.hostname}:{parts.port}")
        raise errors.PurposeRefusedError("no such witness")

    def forget(self, authority: str) -> None:
        """Drop the connection to a peer."""
        with self._lock:
            held = self._clients.pop(authority, None)
        if held is not None:
            held[1].close()

    def close(self) -> None:
        """Drop all connections and end the calls under way."""
        with self._lock:
            self._closed = True
            clients, self._clients = self._clients, {}
        for _, client in clients.values():
            client.close()


def _opened(pieces: Iterable[registry_pb2.OpenBodiesResponse]) -> Iterator[tuple[int, bytes | None]]:
    index, data, erased = -1, bytearray(), False
    for piece in pieces:
        if piece.index != index and index >= 0:
            yield index, None if erased else bytes(data)
            data.clear()
        index, erased = piece.index, piece.erased
        data += piece.data
    if index >= 0:
        yield index, None if erased else bytes(data)


class LocalClient:
    """The node's local port, as one person or system.

    Args:
        address: HOST:PORT.
        authority: Code of the node.
        credentials: Of the caller.
        root_pem: The federation's root.
    """

    def __init__(self, address: str, authority: str, credentials: pki.Credentials, root_pem: bytes) -> None:
        self._channel = tls.channel(address, authority, credentials, root_pem)
        self.registry = registry_pb2_grpc.RegistryServiceStub(self._channel)
        self.node = registry_pb2_grpc.NodeServiceStub(self._channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._channel.close()

    # Records

    def register(
        self,
        records: Sequence[Record],
        supersessions: Sequence[Supersession] = (),
        position: tuple[str, str] | None = None,
    ) -> list[Result]:
        """Register records, what came to an end with them, and how far a source was read, in one transaction.

        Args:
            records: At most 1,000.
            supersessions: At most 1,000.
            position: Key of the source, and the position in words of its reader.

        Returns:
            One result a record, then one a supersession.
        """
        from connector_psi.node.registration import Result  # noqa: PLC0415 - whoever only reads needs no store

        request = registry_pb2.RegisterRequest(
            records=[convert.record_message(record) for record in records],
            supersessions=[convert.supersession_message(item) for item in supersessions],
            position=None if position is None else registry_pb2.Position(key=position[0], text=position[1]),
        )
        answer = self.call(self.registry.Register, request)
        return [Result(convert.OUTCOME_NAMES[r.outcome], tuple(r.problems)) for r in answer.results]

    def position(self, key: str) -> str | None:
        """Return how far a source was read, None where nothing is noted."""
        return self.call(self.node.GetPosition, registry_pb2.GetPositionRequest(key=key)).text or None

    def withdraw(self, source: str, source_ref: str, reason: str) -> bool:
        """Take a record out of matching."""
        request = registry_pb2.WithdrawRequest(source=source, source_ref=source_ref, reason=reason)
        return self.call(self.registry.Withdraw, request).withdrawn

    # Matches

    def matches(self, state: str = "") -> Iterator[dict[str, Any]]:
        """Yield matches in the order they were found."""
        after = 0
        while page := self.call(
            self.registry.ListMatches, registry_pb2.ListMatchesRequest(state=state, after=after)
        ).matches:
            yield from map(convert.match_json, page)
            after = page[-1].resume_token

    def watch_matches(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield each match that changes, as it stands then, for as long as the node serves.

        Args:
            after: Resume token of the last one that was handled.

        Raises:
            UnavailableError: The node is away, or the connection reached its age; go on after the last token.
        """
        stream = self.registry.WatchMatches(registry_pb2.WatchMatchesRequest(resume_token=after))
        try:
            for answer in self._each(stream):
                yield convert.match_change_json(answer.match)
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]  # the stubs leave its types out

    def match(self, match_id: str) -> dict[str, Any]:
        """Return a match beside the own record."""
        answer = self.call(self.registry.GetMatch, registry_pb2.GetMatchRequest(match_id=match_id))
        return convert.match_detail_json(answer)

    def confirm(self, match_id: str, reason: str) -> dict[str, Any]:
        """Confirm a match."""
        request = registry_pb2.ConfirmMatchRequest(match_id=match_id, reason=reason)
        return convert.match_json(self.call(self.registry.ConfirmMatch, request).match)

    def dismiss(self, match_id: str, reason: str) -> dict[str, Any]:
        """Dismiss a match."""
        request = registry_pb2.DismissMatchRequest(match_id=match_id, reason=reason)
        return convert.match_json(self.call(self.registry.DismissMatch, request).match)

    # Cases

    def open_case(
        self,
        match_id: str,
        *,
        purpose: str,
        legal_basis: str,
        case_reference: str,
        justification: str,
        ordered_by: str = "",
    ) -> dict[str, Any]:
        """Ask the owner for disclosure of a confirmed match."""
        request = registry_pb2.RegistryServiceOpenCaseRequest(
            match_id=match_id,
            purpose=purpose,
            legal_basis=legal_basis,
            case_reference=case_reference,
            justification=justification,
            ordered_by=ordered_by,
        )
        return convert.case_json(self.call(self.registry.OpenCase, request).case)

    def cases(self, state: str = "") -> Iterator[dict[str, Any]]:
        """Yield the cases of both sides without their fields, oldest first."""
        offset = 0
        while page := self.call(
            self.registry.ListCases, registry_pb2.ListCasesRequest(state=state, offset=offset)
        ).cases:
            yield from map(convert.case_summary_json, page)
            offset += len(page)

    def case(self, case_id: str) -> dict[str, Any]:
        """Return a case with its fields."""
        return convert.case_json(self.call(self.registry.GetCase, registry_pb2.GetCaseRequest(case_id=case_id)).case)

    def decide(
        self, case_id: str, *, approve: bool, reason: str, grade: str = "", released: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Approve or refuse a case that a peer opened here."""
        request = registry_pb2.DecideCaseRequest(
            case_id=case_id, approve=approve, reason=reason, grade=grade, released_fields=released
        )
        return convert.case_json(self.call(self.registry.DecideCase, request).case)

    # Access by case

    def request_access(
        self,
        agreement: str,
        records: Sequence[tuple[str, str]],
        *,
        case_reference: str,
        offence: str,
        necessity: str,
        hours: int = 0,
        ordered_by: str = "",
    ) -> dict[str, Any]:
        """Ask the owner for access with the identifiers of some own records, given by source and reference."""
        request = registry_pb2.RegistryServiceRequestAccessRequest(
            agreement=agreement,
            records=[registry_pb2.RecordName(source=source, source_ref=ref) for source, ref in records],
            case_reference=case_reference,
            offence=offence,
            necessity=necessity,
            hours=hours,
            ordered_by=ordered_by,
        )
        return convert.access_json(self.call(self.registry.RequestAccess, request).access)

    def accesses(self, state: str = "") -> Iterator[dict[str, Any]]:
        """Yield the requests for access of both sides, oldest first."""
        offset = 0
        while page := self.call(
            self.registry.ListAccess, registry_pb2.ListAccessRequest(state=state, offset=offset)
        ).access:
            yield from map(convert.access_json, page)
            offset += len(page)

    def access(self, request_id: str) -> dict[str, Any]:
        """Return a request for access."""
        request = registry_pb2.GetAccessRequest(request_id=request_id)
        return convert.access_json(self.call(self.registry.GetAccess, request).access)

    def decide_access(
        self, request_id: str, *, approve: bool, reason: str, identifiers: int = 0, hours: int = 0
    ) -> dict[str, Any]:
        """Grant or refuse access that a peer asked for."""
        request = registry_pb2.DecideAccessRequest(
            request_id=request_id, approve=approve, reason=reason, identifiers=identifiers, hours=hours
        )
        return convert.access_json(self.call(self.registry.DecideAccess, request).access)

    # The node

    def status(self) -> dict[str, Any]:
        """Return the state of the node."""
        value: dict[str, Any] = json.loads(self.call(self.node.GetStatus, registry_pb2.GetStatusRequest()).json)
        return value

    def quality(self, days: int) -> tuple[dict[str, Coverage], dict[str, dict[str, Any]]]:
        """Return what the stored records can be matched by, by category, and figures of matches by agreement.

        Args:
            days: Length of the period of the matches.
        """
        found: dict[str, Coverage] = {}
        matches: dict[str, dict[str, Any]] = {}
        request = registry_pb2.ReportQualityRequest(days=days)
        while True:
            answer = self.call(self.node.ReportQuality, request)
            matches |= json.loads(answer.matches or "{}")
            for category, counts in json.loads(answer.json).items():
                found.setdefault(category, Coverage()).add_json(counts)
            if not answer.next:
                return dict(sorted(found.items())), matches
            request = registry_pb2.ReportQualityRequest(after=answer.next)

    def publish(self, agreement: str = "", progress: Callable[[int], None] | None = None) -> list[dict[str, Any]]:
        """Publish now, and return what was published; ``progress`` gets the number of tokens encoded so far."""
        request = registry_pb2.PublishRequest(agreement=agreement)
        while (answer := self.call(self.node.Publish, request)).job:
            if progress is not None:
                progress(answer.tokens)
            request = registry_pb2.PublishRequest(job=answer.job)
        return [
            {
                "agreement": p.agreement,
                "epoch": p.epoch,
                "tokens": p.tokens,
                "size_class": p.size_class,
                "manifest_hash": p.manifest_hash.hex(),
            }
            for p in answer.published
        ]

    def sync(self, mark_ms: int = 0) -> tuple[int, dict[str, Any]]:
        """Return ``(mark, state)``: whether everything registered before the mark is queried and published."""
        answer = self.call(self.node.Sync, registry_pb2.SyncRequest(mark_ms=mark_ms))
        return answer.mark_ms, {
            "done": answer.done,
            "pending_records": answer.pending_records,
            "waiting_for": list(answer.waiting_for),
        }

    def add_peer(self, descriptor: bytes) -> dict[str, Any]:
        """Add a peer."""
        answer = self.call(self.node.AddPeer, registry_pb2.AddPeerRequest(descriptor=descriptor))
        return {"authority": answer.authority, "agreements": list(answer.agreements)}

    def peers(self) -> list[dict[str, Any]]:
        """Return all peers."""
        answer = self.call(self.node.ListPeers, registry_pb2.ListPeersRequest())
        return [
            {
                "authority": p.authority,
                "role": p.role,
                "address": p.address,
                "state": p.state,
                "agreements": list(p.agreements),
            }
            for p in answer.peers
        ]

    def revoke_peer(self, authority: str) -> bool:
        """Stop all exchange with a peer."""
        return self.call(self.node.RevokePeer, registry_pb2.RevokePeerRequest(authority=authority)).revoked

    # The log

    def verify_log(self) -> dict[str, Any]:
        """Return what ``log verify --json`` prints."""
        value: dict[str, Any] = json.loads(self.call(self.node.VerifyLog, registry_pb2.VerifyLogRequest()).json)
        return value

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield leaves from ``start`` up to and not including ``end``."""
        while end is None or start < end:
            page = self.call(self.audit.GetEntries, audit_pb2.GetEntriesRequest(start=start, limit=256)).leaves
            if not page:
                return
            yield from page if end is None else page[: end - start]
            start += len(page)

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""
        return self.call(self.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest()).checkpoint

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, list[bytes]]:
        """Return ``(leaf hash, proof)``."""
        request = audit_pb2.GetInclusionProofRequest(index=index, size=size)
        answer = self.call(self.audit.GetInclusionProof, request)
        return answer.leaf_hash, list(answer.proof)

    def audit_entries(self, end: int) -> Iterator[tuple[bytes | None, bytes]]:
        """Yield ``(leaf, b"")`` of the entries up to ``end``, ``(None, hash)`` where a leaf is not for the caller."""
        start = 0
        while start < end:
            request = registry_pb2.GetAuditEntriesRequest(start=start, limit=min(256, end - start))
            page = self.call(self.node.GetAuditEntries, request).entries
            if not page:
                return
            yield from ((entry.leaf or None, entry.leaf_hash) for entry in page)
            start += len(page)

    def open_bodies(
        self, indexes: Sequence[int], reason: str, *, audit: bool = False
    ) -> Iterator[tuple[int, bytes | None]]:
        """Yield ``(index, salt || body)`` of entries, None for a body that is gone; the node logs it once a call.

        Args:
            indexes: Of entries, at most 64.
            reason: Why; sealed in the log.
            audit: Whether it is for an audit of own queries.
        """
        request = registry_pb2.OpenBodiesRequest(indexes=indexes, reason=reason, audit=audit)
        yield from _opened(self._each(self.node.OpenBodies(request, timeout=DEADLINE_S)))

    def export_bodies(self, size: int, reason: str, request_id: bytes = b"") -> Iterator[tuple[int, bytes | None]]:
        """Yield ``(index, salt || body)`` of all entries below a size that the caller may open; logged once."""
        request = registry_pb2.ExportBodiesRequest(size=size, reason=reason, request_id=request_id)
        yield from _opened(self._each(self.node.ExportBodies(request)))

    def checkpoints(self) -> Iterator[bytes]:
        """Yield the checkpoints that the node signed, smallest first."""
        start = 0
        while page := self.call(
            self.node.ListCheckpoints, registry_pb2.ListCheckpointsRequest(start=start)
        ).checkpoints:
            yield from page
            start = parse_checkpoint(parse_note(page[-1]).text).size + 1

    # Holds

    def set_hold(
        self,
        action: str,
        *,
        hold: str = "",
        procedure: str = "",
        until: str = "",
        reason: str = "",
        request_id: bytes = b"",
        agreement: str = "",
    ) -> dict[str, Any]:
        """Place, renew or release a hold (``PLACE``, ``RENEW``, ``RELEASE``); the node logs it."""
        request = registry_pb2.SetHoldRequest(
            action=registry_pb2.SetHoldRequest.Action.Value(action),
            hold=hold,
            procedure=procedure,
            until=until,
            reason=reason,
            request_id=request_id,
            agreement=agreement,
        )
        found: dict[str, Any] = json.loads(self.call(self.node.SetHold, request).json)
        return found

    def holds(self) -> list[dict[str, Any]]:
        """Return all holds."""
        found: list[dict[str, Any]] = json.loads(self.call(self.node.ListHolds, registry_pb2.ListHoldsRequest()).json)
        return found

    # Data subjects

    def search_subject(self, kind: str, value: str, *, reference: str = "", received: str = "") -> dict[str, Any]:
        """Return what was processed and disclosed about an identifier; the node logs the search."""
        request = registry_pb2.SearchSubjectRequest(type=kind, value=value, reference=reference, received=received)
        found: dict[str, Any] = json.loads(self.call(self.node.SearchSubject, request).json)
        return found

    # Recalls

    def recalls(self, state: str = "") -> Iterator[dict[str, Any]]:
        """Yield the recalls of both sides without fields, oldest first."""
        offset = 0
        while page := self.call(
            self.registry.ListRecalls, registry_pb2.ListRecallsRequest(state=state, offset=offset)
        ).recalls:
            for recall in page:
                value = convert.recall_json(recall)
                del value["fields"]
                yield value
            offset += len(page)

    def recall(self, recall_id: str) -> dict[str, Any]:
        """Return a recall."""
        request = registry_pb2.GetRecallRequest(recall_id=recall_id)
        return convert.recall_json(self.call(self.registry.GetRecall, request).recall)

    def send_recall(self, case_id: str, reason: str, *, withdraw: bool = False) -> dict[str, Any]:
        """Recall what a case disclosed."""
        request = registry_pb2.SendRecallRequest(case_id=case_id, reason=reason, withdraw=withdraw)
        return convert.recall_json(self.call(self.registry.SendRecall, request).recall)

    def acknowledge_recall(self, recall_id: str, note: str = "") -> dict[str, Any]:
        """Acknowledge a recall: what was disclosed is erased or replaced."""
        request = registry_pb2.RegistryServiceAcknowledgeRecallRequest(recall_id=recall_id, note=note)
        return convert.recall_json(self.call(self.registry.AcknowledgeRecall, request).recall)

    # Outbox and clock

    def outbox(self) -> list[dict[str, Any]]:
        """Return what waits to be sent to peers, and what is parked."""
        answer = self.call(self.node.ListOutbox, registry_pb2.ListOutboxRequest())
        return [convert.outbox_json(item) for item in answer.items]

    def retry_outbox(self, ids: Sequence[str]) -> int:
        """Send something of it again; returns how much. The node logs it."""
        return self.call(self.node.RetryOutbox, registry_pb2.RetryOutboxRequest(ids=ids)).retried

    def confirm_clock(self) -> None:
        """Say that the clock is right after it jumped; the node logs it."""
        self.call(self.node.ConfirmClock, registry_pb2.ConfirmClockRequest())

    # Policy

    def simulate_policy(self, policy: bytes) -> dict[str, Any]:
        """Return which cases that peers opened would be decided otherwise under a policy, JSON-able.

        Args:
            policy: The bytes of a policy file.
        """
        return convert.replay_json(
            self.call(self.node.SimulatePolicy, registry_pb2.SimulatePolicyRequest(policy=policy))
        )

    # Calling

    def call(self, method: Callable[..., T], request: Any) -> T:  # noqa: ANN401 - any message
        """Call a unary method; a failure is raised as the class that the node raised.

        Raises:
            ConnectorError: As the node told.
        """
        try:
            return method(request, timeout=DEADLINE_S)
        except grpc.RpcError as error:
            raise _told(error) from None

    @staticmethod
    def _each(stream: Iterable[T]) -> Iterator[T]:
        try:
            yield from stream
        except grpc.RpcError as error:
            raise _told(error) from None


def _told(error: grpc.RpcError) -> errors.ConnectorError:
    """The failure of a local call as the class that the node raised."""
    codes = [str(item.value) for item in error.trailing_metadata() or () if item.key == CODE_KEY]
    kind = _all_errors().get(codes[0]) if codes else None
    return _translate(error, "local port") if kind is None else kind(error.details() or "")
