"""The RPCs: about three lines each. Rules live in ``node``; who may call and what a failure looks like, in
``interceptors``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from connector_psi.rpc import tls  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from connector_psi import pki
from connector_psi.audit.bodies import OpenedBody
from connector_psi.disclosure import Grade
from connector_psi.errors import FormatError, RefusedError, UnavailableError
from connector_psi.node.peering import PeerView
from connector_psi.node.quality import MAX_DAYS, coverage_part, manageability, manageability_json
from connector_psi.node.retention import hold_json
from connector_psi.node.service import Service
from connector_psi.rpc import convert
from connector_psi.rpc.streaming import Batches, Intake
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
from connector_psi.storage.accesses import AccessRow
from connector_psi.storage.cases import CaseRow

Context = grpc.ServicerContext
MAX_ID = 2**63 - 1
"""Of a row; on the wire it is a uint64, which no store holds."""
MAX_RECORDS = 1000
WATCH_POLL_S = 0.5
MATCHES_POLL_S = 0.2
MATCHES_AT_ONCE = 100
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
PUBLISH_WAIT_S = 10.0
BODY_PIECE_BYTES = 512 * 1024
"""Of a body in one message, which has one MiB."""


def _peer(context: Context) -> str:
    identity = tls.identity_of(context)
    if not isinstance(identity, pki.AuthorityIdentity):
        raise RefusedError
    return identity.authority


def _person(context: Context) -> pki.PersonIdentity:
    identity = tls.identity_of(context)
    if not isinstance(identity, pki.PersonIdentity):
        raise RefusedError
    return identity


def _hex_id(text: str, name: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FormatError(f"{name}: not hexadecimal") from None


class MatchingServicer(matching_pb2_grpc.MatchingServiceServicer):
    """Peer port: the encoded set and the PRF."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def GetManifest(
        self, request: matching_pb2.GetManifestRequest, context: Context
    ) -> matching_pb2.GetManifestResponse:
        """The newest manifest, or that of one epoch."""
        answer = self._service.publishing.get_manifest(_peer(context), request.agreement, request.epoch)
        return matching_pb2.GetManifestResponse(
            manifest=answer.manifest,
            signature=answer.signature,
            proof=convert.leaf_proof_message(answer.proof),
            fresh_until_ms=answer.fresh_until_ms,
        )

    def ReadSet(self, request: matching_pb2.ReadSetRequest, context: Context) -> Iterator[matching_pb2.ReadSetResponse]:
        """A file of a set from an offset on."""
        offset, file = request.offset, convert.parse_set_file(request.file)
        for piece in self._service.publishing.read_set(_peer(context), request.manifest_hash, file, offset):
            yield matching_pb2.ReadSetResponse(offset=offset, data=piece)
            offset += len(piece)

    def GetDeltas(
        self, request: matching_pb2.GetDeltasRequest, context: Context
    ) -> Iterator[matching_pb2.GetDeltasResponse]:
        """The links of an epoch's chain from one on."""
        for answer in self._service.deltas.answers(_peer(context), request.agreement, request.epoch, request.from_seq):
            yield matching_pb2.GetDeltasResponse(
                delta=answer.delta, signature=answer.signature, proof=convert.leaf_proof_message(answer.proof)
            )

    def Evaluate(self, request: matching_pb2.EvaluateRequest, context: Context) -> matching_pb2.EvaluateResponse:
        """Evaluate a batch and prove it."""
        query, telemetry = convert.parse_query(request, _peer(context)), self._service.node.telemetry
        with telemetry.span("evaluate", elements=query.n_padded) as span:
            evaluated, proof = self._service.evaluation.evaluate(query)
            # Not before: until here it is a text of the peer's.
            span.note(agreement=query.agreement, token_class=query.token_class.label, epoch=query.epoch)
        telemetry.evaluated(query.agreement, query.token_class.label, query.n_padded)
        return matching_pb2.EvaluateResponse(evaluated_elements=evaluated, proof=proof)


class DisclosureServicer(disclosure_pb2_grpc.DisclosureServiceServicer):
    """Peer port: cases and their outcomes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def OpenCase(self, request: disclosure_pb2.OpenCaseRequest, context: Context) -> disclosure_pb2.OpenCaseResponse:
        """Take a case in; the answer is always PENDING."""
        self._service.received.accept(_peer(context), convert.parse_case_request(request))
        return disclosure_pb2.OpenCaseResponse(state=disclosure_pb2.OUTCOME_STATE_PENDING)

    def GetOutcome(
        self, request: disclosure_pb2.GetOutcomeRequest, context: Context
    ) -> disclosure_pb2.GetOutcomeResponse:
        """The outcome of a case, once it is served."""
        answer = self._service.received.outcome(_peer(context), request.agreement, request.request_id)
        if answer is None:
            return disclosure_pb2.GetOutcomeResponse(state=disclosure_pb2.OUTCOME_STATE_PENDING)
        return disclosure_pb2.GetOutcomeResponse(
            state=disclosure_pb2.OUTCOME_STATE_SERVED,
            envelope=answer.envelope,
            signature=answer.signature,
            salt=answer.salt,
            proof=convert.leaf_proof_message(answer.proof),
        )

    def RequestAccess(
        self, request: disclosure_pb2.RequestAccessRequest, context: Context
    ) -> disclosure_pb2.RequestAccessResponse:
        """Take a request for access in, or tell what became of it."""
        answer = self._service.granting.request(_peer(context), convert.parse_access_request(request))
        return convert.access_answer_message(answer)

    def Recall(self, request: disclosure_pb2.RecallRequest, context: Context) -> disclosure_pb2.RecallResponse:
        """An owner takes back or replaces what it disclosed to this node."""
        self._service.recalled.receive(_peer(context), convert.parse_recall(request))
        return disclosure_pb2.RecallResponse()

    def AcknowledgeRecall(
        self, request: disclosure_pb2.AcknowledgeRecallRequest, context: Context
    ) -> disclosure_pb2.AcknowledgeRecallResponse:
        """A querier tells what became of a recall."""
        self._service.recalling.acknowledge(_peer(context), convert.parse_acknowledgement(request))
        return disclosure_pb2.AcknowledgeRecallResponse()


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Both ports: the log."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def GetCheckpoint(
        self, request: audit_pb2.GetCheckpointRequest, context: Context
    ) -> audit_pb2.GetCheckpointResponse:
        """The newest signed checkpoint."""
        return audit_pb2.GetCheckpointResponse(checkpoint=self._service.oversight.checkpoint())

    def GetInclusionProof(
        self, request: audit_pb2.GetInclusionProofRequest, context: Context
    ) -> audit_pb2.GetInclusionProofResponse:
        """Proof of a leaf hash."""
        leaf_hash, proof = self._service.oversight.prove_inclusion(request.index, request.size)
        return audit_pb2.GetInclusionProofResponse(leaf_hash=leaf_hash, proof=proof)

    def GetConsistencyProof(
        self, request: audit_pb2.GetConsistencyProofRequest, context: Context
    ) -> audit_pb2.GetConsistencyProofResponse:
        """Proof that a tree is a prefix of a later one."""
        proof = self._service.oversight.prove_consistency(request.old_size, request.new_size)
        return audit_pb2.GetConsistencyProofResponse(proof=proof)

    def AddCheckpoint(
        self, request: audit_pb2.AddCheckpointRequest, context: Context
    ) -> audit_pb2.AddCheckpointResponse:
        """Cosign a checkpoint of the caller's log."""
        answer = self._service.witnessing.add_checkpoint(_peer(context), convert.parse_submission(request))
        return convert.witness_answer_message(answer)

    def GetEntries(self, request: audit_pb2.GetEntriesRequest, context: Context) -> audit_pb2.GetEntriesResponse:
        """Leaves, for auditors."""
        return audit_pb2.GetEntriesResponse(leaves=self._service.oversight.leaves(request.start, request.limit))


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Local port: records, matches, cases.

    Args:
        service: The node at work.
        ending: Set when the port is about to close: streams that last end then.
    """

    def __init__(self, service: Service, ending: threading.Event) -> None:
        self._service = service
        self._ending = ending

    def Register(self, request: registry_pb2.RegisterRequest, context: Context) -> registry_pb2.RegisterResponse:
        """Register records, and what came to an end with them, in one transaction."""
        if max(len(request.records), len(request.supersessions)) > MAX_RECORDS:
            raise FormatError(f"records: more than {MAX_RECORDS}")
        for ended in request.supersessions:
            # What a caller says of the end of a message is right as a whole, or nothing of the call is kept.
            convert.parse_supersession(ended)
        intake = Intake(self._service.registration, _person(context).uri)
        results = intake.take([*request.records, *request.supersessions], convert.parse_position(request))
        return registry_pb2.RegisterResponse(results=results)

    def RegisterStream(
        self, request_iterator: Iterator[registry_pb2.RegisterStreamRequest], context: Context
    ) -> Iterator[registry_pb2.RegisterStreamResponse]:
        """Register what comes, in batches; an acknowledgement means durable."""
        intake = Intake(self._service.registration, _person(context).uri)
        with Batches(request_iterator, lambda request: request.ByteSize(), self._ending) as batches:
            for batch in batches:
                results = intake.take([convert.stream_item(request) for request in batch])
                for request, result in zip(batch, results, strict=True):
                    yield registry_pb2.RegisterStreamResponse(sequence=request.sequence, result=result)

    def Withdraw(self, request: registry_pb2.WithdrawRequest, context: Context) -> registry_pb2.WithdrawResponse:
        """Take a record out of matching."""
        source = convert.parse_source(request.source)
        done = self._service.registration.withdraw(source, request.source_ref, request.reason, _person(context).uri)
        return registry_pb2.WithdrawResponse(withdrawn=done)

    def ListMatches(
        self, request: registry_pb2.ListMatchesRequest, context: Context
    ) -> registry_pb2.ListMatchesResponse:
        """Matches in the order they were found."""
        rows = self._service.review.list(state=request.state, after=request.after, limit=request.limit)
        return registry_pb2.ListMatchesResponse(matches=[convert.match_message(row) for row in rows])

    def GetMatch(self, request: registry_pb2.GetMatchRequest, context: Context) -> registry_pb2.GetMatchResponse:
        """A match beside the own record."""
        row, record = self._service.review.get(request.match_id)
        return registry_pb2.GetMatchResponse(
            match=convert.match_message(row), record=convert.record_message(record) if record else None
        )

    def WatchMatches(
        self, request: registry_pb2.WatchMatchesRequest, context: Context
    ) -> Iterator[registry_pb2.WatchMatchesResponse]:
        """Every change of a match after a resume token, as the match stands when it is sent."""
        after = request.resume_token
        while context.is_active():
            if self._ending.is_set():
                raise UnavailableError("the node is being stopped")
            rows = self._service.review.changed(after, MATCHES_AT_ONCE)
            for row in rows:
                yield registry_pb2.WatchMatchesResponse(match=convert.match_message(row, resume=row.change_seq))
                after = row.change_seq
            if not rows:
                self._service.querying.wait_for_matches(MATCHES_POLL_S)

    def ConfirmMatch(
        self, request: registry_pb2.ConfirmMatchRequest, context: Context
    ) -> registry_pb2.ConfirmMatchResponse:
        """A person confirms a match."""
        row = self._service.review.decide(request.match_id, _person(context), request.reason, confirm=True)
        return registry_pb2.ConfirmMatchResponse(match=convert.match_message(row))

    def DismissMatch(
        self, request: registry_pb2.DismissMatchRequest, context: Context
    ) -> registry_pb2.DismissMatchResponse:
        """A person dismisses a match."""
        row = self._service.review.decide(request.match_id, _person(context), request.reason, confirm=False)
        return registry_pb2.DismissMatchResponse(match=convert.match_message(row))

    def OpenCase(
        self, request: registry_pb2.RegistryServiceOpenCaseRequest, context: Context
    ) -> registry_pb2.RegistryServiceOpenCaseResponse:
        """Ask the owner for disclosure."""
        row = self._service.asked.open(
            request.match_id,
            _person(context),
            purpose=request.purpose,
            legal_basis=request.legal_basis,
            case_reference=request.case_reference,
            justification=request.justification,
            ordered_by=request.ordered_by,
        )
        return registry_pb2.RegistryServiceOpenCaseResponse(case=self._case(row))

    def ListCases(self, request: registry_pb2.ListCasesRequest, context: Context) -> registry_pb2.ListCasesResponse:
        """Cases of both sides."""
        states = (request.state,) if request.state else ()
        views = self._service.cases.list(states, request.limit, request.offset)
        return registry_pb2.ListCasesResponse(cases=[convert.case_message(view) for view in views])

    def GetCase(self, request: registry_pb2.GetCaseRequest, context: Context) -> registry_pb2.GetCaseResponse:
        """One case."""
        view = self._service.cases.get(_hex_id(request.case_id, "case_id"))
        return registry_pb2.GetCaseResponse(case=convert.case_message(view))

    def DecideCase(self, request: registry_pb2.DecideCaseRequest, context: Context) -> registry_pb2.DecideCaseResponse:
        """A person at the owner approves or refuses."""
        row = self._service.received.decide(
            _hex_id(request.case_id, "case_id"),
            _person(context),
            request.reason,
            approve=request.approve,
            grade=_grade(request.grade),
            released=convert.parse_fields(request.released_fields),
        )
        return registry_pb2.DecideCaseResponse(case=self._case(row))

    def ListDisclosures(
        self, request: registry_pb2.ListDisclosuresRequest, context: Context
    ) -> registry_pb2.ListDisclosuresResponse:
        """What was disclosed to this node."""
        views = self._service.cases.list(("disclosed",), request.limit, request.offset)
        return registry_pb2.ListDisclosuresResponse(disclosures=[convert.case_message(view) for view in views])

    def RequestAccess(
        self, request: registry_pb2.RegistryServiceRequestAccessRequest, context: Context
    ) -> registry_pb2.RegistryServiceRequestAccessResponse:
        """Ask an owner for access with the identifiers of some own records."""
        row = self._service.asked_access.request(
            request.agreement,
            _person(context),
            [(convert.parse_source(name.source), name.source_ref) for name in request.records],
            case_reference=request.case_reference,
            offence=request.offence,
            necessity=request.necessity,
            hours=request.hours,
            ordered_by=request.ordered_by,
        )
        return registry_pb2.RegistryServiceRequestAccessResponse(access=self._access(row))

    def ListAccess(self, request: registry_pb2.ListAccessRequest, context: Context) -> registry_pb2.ListAccessResponse:
        """Requests for access of both sides."""
        states = (request.state,) if request.state else ()
        views = self._service.accesses.list(states, request.limit, request.offset)
        return registry_pb2.ListAccessResponse(access=[convert.access_message(view) for view in views])

    def GetAccess(self, request: registry_pb2.GetAccessRequest, context: Context) -> registry_pb2.GetAccessResponse:
        """One request for access."""
        view = self._service.accesses.get(_hex_id(request.request_id, "request_id"))
        return registry_pb2.GetAccessResponse(access=convert.access_message(view))

    def DecideAccess(
        self, request: registry_pb2.DecideAccessRequest, context: Context
    ) -> registry_pb2.DecideAccessResponse:
        """A person at the owner grants or refuses."""
        row = self._service.granting.decide(
            _hex_id(request.request_id, "request_id"),
            _person(context),
            request.reason,
            approve=request.approve,
            identifiers=request.identifiers,
            hours=request.hours,
        )
        return registry_pb2.DecideAccessResponse(access=self._access(row))

    def ListRecalls(
        self, request: registry_pb2.ListRecallsRequest, context: Context
    ) -> registry_pb2.ListRecallsResponse:
        """Recalls of both sides."""
        states = (request.state,) if request.state else ()
        views = self._service.recalls.list(states, request.limit, request.offset)
        return registry_pb2.ListRecallsResponse(recalls=[convert.recall_message(view) for view in views])

    def GetRecall(self, request: registry_pb2.GetRecallRequest, context: Context) -> registry_pb2.GetRecallResponse:
        """One recall."""
        view = self._service.recalls.get(_hex_id(request.recall_id, "recall_id"))
        return registry_pb2.GetRecallResponse(recall=convert.recall_message(view))

    def SendRecall(self, request: registry_pb2.SendRecallRequest, context: Context) -> registry_pb2.SendRecallResponse:
        """A person at the owner recalls what a case disclosed."""
        row = self._service.recalling.send(
            _hex_id(request.case_id, "case_id"), _person(context), request.reason, withdraw=request.withdraw
        )
        return registry_pb2.SendRecallResponse(recall=convert.recall_message(self._service.recalls.get(row.recall_id)))

    def AcknowledgeRecall(
        self, request: registry_pb2.RegistryServiceAcknowledgeRecallRequest, context: Context
    ) -> registry_pb2.RegistryServiceAcknowledgeRecallResponse:
        """A person at the recipient acknowledges a recall."""
        row = self._service.recalled.acknowledge(
            _hex_id(request.recall_id, "recall_id"), _person(context), request.note
        )
        view = self._service.recalls.get(row.recall_id)
        return registry_pb2.RegistryServiceAcknowledgeRecallResponse(recall=convert.recall_message(view))

    def _access(self, row: AccessRow) -> registry_pb2.Access:
        return convert.access_message(self._service.accesses.view(row))

    def _case(self, row: CaseRow) -> registry_pb2.Case:
        return convert.case_message(self._service.cases.get(row.request_id))


def _grade(text: str) -> Grade:
    try:
        return Grade(text or Grade.ADEQUATE)
    except ValueError:
        raise FormatError(f"grade: one of {', '.join(Grade)}") from None


class NodeServicer(registry_pb2_grpc.NodeServiceServicer):
    """Local port: the node itself."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def GetStatus(self, request: registry_pb2.GetStatusRequest, context: Context) -> registry_pb2.GetStatusResponse:
        """The state of the node."""
        return registry_pb2.GetStatusResponse(json=convert.json_text(self._service.status()))

    def GetPosition(
        self, request: registry_pb2.GetPositionRequest, context: Context
    ) -> registry_pb2.GetPositionResponse:
        """How far a source was read."""
        return registry_pb2.GetPositionResponse(text=self._service.registration.position(request.key) or "")

    def ReportQuality(
        self, request: registry_pb2.ReportQualityRequest, context: Context
    ) -> registry_pb2.ReportQualityResponse:
        """What the stored records can be matched by, in parts."""
        found, following = coverage_part(self._service.node, min(request.after, MAX_ID))
        value = {category: coverage.as_json() for category, coverage in found.items()}
        matches = ""
        if request.days and not request.after:
            role = _person(context).role
            told = manageability(self._service.node, min(request.days, MAX_DAYS), role)
            matches = convert.json_text(manageability_json(told))
        return registry_pb2.ReportQualityResponse(json=convert.json_text(value), next=following, matches=matches)

    def GetAuditEntries(
        self, request: registry_pb2.GetAuditEntriesRequest, context: Context
    ) -> registry_pb2.GetAuditEntriesResponse:
        """The log as an audit of this node's own queries reads it."""
        found = self._service.oversight.audit_entries(request.start, request.limit, _person(context))
        entries = [registry_pb2.AuditEntry(leaf=leaf or b"", leaf_hash=digest) for leaf, digest in found]
        return registry_pb2.GetAuditEntriesResponse(entries=entries)

    def OpenBodies(
        self, request: registry_pb2.OpenBodiesRequest, context: Context
    ) -> Iterator[registry_pb2.OpenBodiesResponse]:
        """The bodies of this node's own queries, for whoever audits them."""
        yield from _bodies(
            self._service.oversight.open_bodies(request.indexes, _person(context), request.reason, audit=request.audit)
        )

    def ExportBodies(
        self, request: registry_pb2.ExportBodiesRequest, context: Context
    ) -> Iterator[registry_pb2.OpenBodiesResponse]:
        """Bodies for a bundle."""
        if len(request.request_id) not in {0, 16}:
            raise FormatError("request_id: 16 bytes, or none")
        yield from _bodies(
            self._service.oversight.export_bodies(request.size, _person(context), request.reason, request.request_id)
        )

    def ListCheckpoints(
        self, request: registry_pb2.ListCheckpointsRequest, context: Context
    ) -> registry_pb2.ListCheckpointsResponse:
        """Checkpoints that this node signed."""
        found = self._service.oversight.checkpoints(request.start, request.limit)
        return registry_pb2.ListCheckpointsResponse(checkpoints=found)

    def SearchSubject(
        self, request: registry_pb2.SearchSubjectRequest, context: Context
    ) -> registry_pb2.SearchSubjectResponse:
        """What was processed and disclosed about an identifier."""
        annex = self._service.subjects.search(
            request.type,
            request.value,
            _person(context),
            reference=request.reference,
            received=convert.parse_date(request.received),
        )
        return registry_pb2.SearchSubjectResponse(json=convert.json_text(annex))

    def SetHold(self, request: registry_pb2.SetHoldRequest, context: Context) -> registry_pb2.SetHoldResponse:
        """Place, renew or release a hold."""
        retention, person, until = self._service.retention, _person(context), convert.parse_date(request.until)
        if request.action == registry_pb2.SetHoldRequest.RELEASE:
            row = retention.release(request.hold, person, reason=request.reason)
        elif until is None:
            raise FormatError("until: a day is needed")
        elif request.action == registry_pb2.SetHoldRequest.RENEW:
            row = retention.renew(request.hold, person, until=until, reason=request.reason)
        elif request.action == registry_pb2.SetHoldRequest.PLACE and len(request.request_id) in {0, 16}:
            row = retention.place(
                person,
                procedure=request.procedure,
                until=until,
                reason=request.reason,
                request_id=request.request_id,
                agreement=request.agreement,
            )
        else:
            raise FormatError("hold: an action, and a request_id of 16 bytes or none")
        return registry_pb2.SetHoldResponse(json=convert.json_text(hold_json(row)))

    def ListHolds(self, request: registry_pb2.ListHoldsRequest, context: Context) -> registry_pb2.ListHoldsResponse:
        """All holds."""
        return registry_pb2.ListHoldsResponse(json=convert.json_text(self._service.retention.holds(_person(context))))

    def SimulatePolicy(
        self, request: registry_pb2.SimulatePolicyRequest, context: Context
    ) -> registry_pb2.SimulatePolicyResponse:
        """Past cases judged again under another policy."""
        return convert.replay_message(self._service.simulate(request.policy))

    def ListOutbox(self, request: registry_pb2.ListOutboxRequest, context: Context) -> registry_pb2.ListOutboxResponse:
        """What waits to be sent, and what is parked."""
        items = [registry_pb2.OutboxItem(**item) for item in self._service.outbox.list()]
        return registry_pb2.ListOutboxResponse(items=items)

    def RetryOutbox(
        self, request: registry_pb2.RetryOutboxRequest, context: Context
    ) -> registry_pb2.RetryOutboxResponse:
        """Send some of it again."""
        ids = [_hex_id(text, "ids") for text in request.ids]
        return registry_pb2.RetryOutboxResponse(retried=self._service.outbox.retry(ids, _person(context)))

    def ConfirmClock(
        self, request: registry_pb2.ConfirmClockRequest, context: Context
    ) -> registry_pb2.ConfirmClockResponse:
        """A person says that the clock is right."""
        self._service.node.timekeeping.confirm(_person(context))
        return registry_pb2.ConfirmClockResponse()

    def Publish(self, request: registry_pb2.PublishRequest, context: Context) -> registry_pb2.PublishResponse:
        """Publish new sets now."""
        codes = [request.agreement] if request.agreement else []
        job, done = self._service.publish_job(codes, request.job, PUBLISH_WAIT_S)
        return registry_pb2.PublishResponse(
            job=job,
            tokens=self._service.publishing.encoded,
            published=[
                registry_pb2.Published(
                    agreement=p.agreement,
                    epoch=p.epoch,
                    tokens=p.tokens,
                    size_class=p.size_class,
                    manifest_hash=p.manifest_hash,
                )
                for p in done
            ],
        )

    def Sync(self, request: registry_pb2.SyncRequest, context: Context) -> registry_pb2.SyncResponse:
        """Whether everything registered before the mark is queried and published."""
        state = self._service.sync(request.mark_ms)
        return registry_pb2.SyncResponse(
            done=state.done,
            mark_ms=state.mark_ms,
            pending_records=state.pending_records,
            waiting_for=state.waiting_for,
        )

    def AddPeer(self, request: registry_pb2.AddPeerRequest, context: Context) -> registry_pb2.AddPeerResponse:
        """Add a peer."""
        view = self._service.peering.add(request.descriptor)
        return registry_pb2.AddPeerResponse(authority=view.authority, agreements=view.agreements)

    def ListPeers(self, request: registry_pb2.ListPeersRequest, context: Context) -> registry_pb2.ListPeersResponse:
        """All peers."""
        return registry_pb2.ListPeersResponse(peers=[_peer_message(view) for view in self._service.peering.list()])

    def RevokePeer(self, request: registry_pb2.RevokePeerRequest, context: Context) -> registry_pb2.RevokePeerResponse:
        """Stop all exchange with a peer."""
        return registry_pb2.RevokePeerResponse(revoked=self._service.revoke(request.authority))

    def VerifyLog(self, request: registry_pb2.VerifyLogRequest, context: Context) -> registry_pb2.VerifyLogResponse:
        """Verify the whole log."""
        return registry_pb2.VerifyLogResponse(json=convert.json_text(self._service.oversight.verify()))


def _bodies(opened: Iterable[tuple[int, OpenedBody | None]]) -> Iterator[registry_pb2.OpenBodiesResponse]:
    for index, body in opened:
        if body is None:
            yield registry_pb2.OpenBodiesResponse(index=index, erased=True)
            continue
        data = body.salt + body.encoded
        for start in range(0, len(data), BODY_PIECE_BYTES):
            yield registry_pb2.OpenBodiesResponse(index=index, data=data[start : start + BODY_PIECE_BYTES])


def _peer_message(view: PeerView) -> registry_pb2.Peer:
    return registry_pb2.Peer(
        authority=view.authority,
        role=view.role,
        address=view.address,
        state=view.state,
        agreements=view.agreements,
    )


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the generated class has no types
    """The standard health service of one port, for the services that are there and no other name.

    Args:
        names: Full names of the services.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, int] = dict.fromkeys(("", *names), _NOT_SERVING)
        self._stopping = False

    def tell(self, serving: Mapping[str, bool]) -> None:
        """Set the state of each service; that of all together, under no name, follows from it."""
        with self._changed:
            if self._stopping:
                return
            for name in self._states:
                serves = serving.get(name, False) if name else all(serving.get(each) for each in self._states if each)
                self._states[name] = _SERVING if serves else _NOT_SERVING
            self._changed.notify_all()

    def stop(self) -> None:
        """Nothing serves any more; whoever watches is told so, and its stream ends."""
        with self._changed:
            self._stopping = True
            self._states = dict.fromkeys(self._states, _NOT_SERVING)
            self._changed.notify_all()

    def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """The state of a service now."""
        with self._changed:
            state = self._states.get(request.service)
        if state is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=state)

    def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """The state of a service, now and whenever it changes."""
        known = request.service in self._states
        told: int | None = None
        context.add_callback(self._wake)
        while context.is_active():
            with self._changed:
                state = self._states[request.service] if known else _SERVICE_UNKNOWN
                stopping = self._stopping
                if state == told and not stopping:
                    # It was looked whether the caller is there before the lock was taken: not for ever.
                    self._changed.wait(WATCH_POLL_S)
                    continue
            if state != told:
                yield health_pb2.HealthCheckResponse(status=state)
                told = state
            if stopping or not known:
                return

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def List(self, request: health_pb2.HealthListRequest, context: Context) -> health_pb2.HealthListResponse:
        """The state of all services."""
        with self._changed:
            states = {name: health_pb2.HealthCheckResponse(status=state) for name, state in self._states.items()}
        return health_pb2.HealthListResponse(statuses=states)
