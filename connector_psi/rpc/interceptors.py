"""What stands before every RPC: who may call it, how long it may take, and what a caller sees when it fails.

Access is a table, denied by default: a method that is not in it gets the answer of a forbidden one. Every kind of
handler (unary, streaming either way) is wrapped as a whole, because an exception inside a gRPC handler reaches the peer
verbatim otherwise. The bytes of a request are parsed only once its sender is admitted.

On the peer port a failure is a status and the constant text of its class. On the local port the agency's own people
also get the error's text, which names places and never values.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import grpc
import structlog

from connector_psi import errors, pki
from connector_psi.domain.clock import Clock
from connector_psi.node.measuring import NoTelemetry, Span, Telemetry
from connector_psi.pki import Role
from connector_psi.rpc import tls
from connector_psi.rpc.transcript import Transcript

logger = structlog.get_logger("connector_psi.rpc")

MAX_DEADLINE_S = 30.0
MAX_OPEN_STREAMS = 32
"""Streams without a deadline at one time on one port: each holds a thread for as long as its caller likes."""
MAX_DETAIL_CHARS = 1_000
"""Of an error's text on the local port; it travels in metadata, which is bounded."""
CODE_KEY = "connector-psi-code"
INCIDENT = "internal error "
"""What the text of a defect begins with; the number of the incident follows."""
TRACE_KEY = "traceparent"
"""W3C trace context, on the local port alone."""

STATUS: Mapping[type[errors.ConnectorError], grpc.StatusCode] = {
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NormalisationError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FormatError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidElementError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ProofError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PeerError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.CapacityExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.PurposeRefusedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ApprovalMissingError: grpc.StatusCode.PERMISSION_DENIED,
    errors.RefusedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.LogForkError: grpc.StatusCode.UNAVAILABLE,
    errors.ProofInvalidError: grpc.StatusCode.UNAVAILABLE,
    errors.AuditError: grpc.StatusCode.UNAVAILABLE,
    errors.KeyUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ConflictError: grpc.StatusCode.ALREADY_EXISTS,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.StorageError: grpc.StatusCode.UNAVAILABLE,
    errors.ConnectorError: grpc.StatusCode.INTERNAL,
}
"""One status per error; the only place where errors become statuses."""

AUTHORITY = "authority"
Access = frozenset[str]

_PEOPLE = frozenset(Role)
_REVIEW = frozenset({Role.OFFICER, Role.SUPERVISOR})
_READ = _REVIEW | {Role.DPO, Role.SYSTEM}
_FEED = frozenset({Role.SYSTEM, Role.ADMIN})
_OVERSIGHT = frozenset({Role.AUDITOR, Role.DPO, Role.SUPERVISOR})
_V1 = "/connector_psi.rpc.v1."
_HEALTH = "/grpc.health.v1.Health/"

PEER_ACCESS: Mapping[str, Access] = {
    **{
        f"{_V1}{name}": frozenset({AUTHORITY})
        for name in (
            "MatchingService/GetManifest",
            "MatchingService/ReadSet",
            "MatchingService/GetDeltas",
            "MatchingService/Evaluate",
            "DisclosureService/OpenCase",
            "DisclosureService/GetOutcome",
            "DisclosureService/RequestAccess",
            "DisclosureService/Recall",
            "DisclosureService/AcknowledgeRecall",
            "AuditService/AddCheckpoint",
        )
    },
    **{
        f"{_V1}AuditService/{name}": frozenset({AUTHORITY, Role.AUDITOR})
        for name in ("GetCheckpoint", "GetInclusionProof", "GetConsistencyProof")
    },
    f"{_V1}AuditService/GetEntries": frozenset({Role.AUDITOR}),
    **{f"{_HEALTH}{name}": frozenset({AUTHORITY, Role.AUDITOR}) for name in ("Check", "Watch", "List")},
}
LOCAL_ACCESS: Mapping[str, Access] = {
    f"{_V1}RegistryService/Register": _FEED,
    f"{_V1}RegistryService/RegisterStream": _FEED,
    f"{_V1}RegistryService/Withdraw": _FEED,
    f"{_V1}RegistryService/ListMatches": _READ,
    f"{_V1}RegistryService/GetMatch": _READ,
    f"{_V1}RegistryService/WatchMatches": _READ,
    f"{_V1}RegistryService/ConfirmMatch": _REVIEW,
    f"{_V1}RegistryService/DismissMatch": _REVIEW,
    f"{_V1}RegistryService/OpenCase": _REVIEW,
    f"{_V1}RegistryService/ListCases": _READ,
    f"{_V1}RegistryService/GetCase": _READ,
    f"{_V1}RegistryService/DecideCase": _REVIEW,
    f"{_V1}RegistryService/ListDisclosures": _READ,
    f"{_V1}RegistryService/RequestAccess": _REVIEW,
    f"{_V1}RegistryService/ListAccess": _READ,
    f"{_V1}RegistryService/GetAccess": _READ,
    f"{_V1}RegistryService/DecideAccess": _REVIEW,
    f"{_V1}RegistryService/ListRecalls": _READ,
    f"{_V1}RegistryService/GetRecall": _READ,
    f"{_V1}RegistryService/SendRecall": frozenset({Role.SUPERVISOR, Role.DPO}),
    f"{_V1}RegistryService/AcknowledgeRecall": _REVIEW | {Role.DPO},
    f"{_V1}NodeService/GetStatus": _PEOPLE,
    f"{_V1}NodeService/Publish": _FEED,
    f"{_V1}NodeService/Sync": _PEOPLE,
    f"{_V1}NodeService/AddPeer": frozenset({Role.ADMIN}),
    f"{_V1}NodeService/ListPeers": _PEOPLE,
    f"{_V1}NodeService/RevokePeer": frozenset({Role.ADMIN}),
    f"{_V1}NodeService/VerifyLog": _PEOPLE,
    f"{_V1}NodeService/GetPosition": _FEED,
    f"{_V1}NodeService/ReportQuality": _PEOPLE,
    f"{_V1}NodeService/GetAuditEntries": _OVERSIGHT,
    f"{_V1}NodeService/OpenBodies": _OVERSIGHT,
    f"{_V1}NodeService/ExportBodies": frozenset({Role.AUDITOR, Role.DPO}),
    f"{_V1}NodeService/ListCheckpoints": _PEOPLE,
    f"{_V1}NodeService/SetHold": frozenset({Role.AUDITOR, Role.DPO}),
    f"{_V1}NodeService/ListHolds": frozenset({Role.AUDITOR, Role.DPO}),
    f"{_V1}NodeService/SearchSubject": frozenset({Role.DPO}),
    f"{_V1}NodeService/SimulatePolicy": frozenset({Role.SUPERVISOR, Role.DPO}),
    f"{_V1}NodeService/ListOutbox": frozenset({Role.ADMIN, Role.SUPERVISOR}),
    f"{_V1}NodeService/RetryOutbox": frozenset({Role.ADMIN, Role.SUPERVISOR}),
    f"{_V1}NodeService/ConfirmClock": frozenset({Role.ADMIN}),
    f"{_V1}AuditService/GetCheckpoint": _PEOPLE,
    f"{_V1}AuditService/GetInclusionProof": _PEOPLE,
    f"{_V1}AuditService/GetConsistencyProof": _PEOPLE,
    f"{_V1}AuditService/GetEntries": frozenset({Role.AUDITOR, Role.DPO}),
    **{f"{_HEALTH}{name}": _PEOPLE for name in ("Check", "Watch", "List")},
}
# Streams that live as long as their caller does.
_NO_DEADLINE = {
    f"{_V1}NodeService/ExportBodies",
    f"{_V1}RegistryService/RegisterStream",
    f"{_V1}RegistryService/WatchMatches",
    f"{_HEALTH}Watch",
}
# Of these, those that nothing ends but their caller.
_ENDLESS = _NO_DEADLINE - {f"{_V1}NodeService/ExportBodies"}


class Gate(grpc.ServerInterceptor):  # type: ignore[type-arg]  # the stubs are generic, the class at run time is not
    """Authenticates, authorises, bounds and translates every call of one port.

    Args:
        authority: This node's code.
        clock: Time, for certificates that expire while a connection lasts.
        local: True for the local port.
        is_active_peer: Whether an authority is an active peer (peer port).
        transcript: Records every message, for synthetic federations.
        access: Who may call what; by default the table of the port.
        heard: Told of each authority whose call was admitted.
        telemetry: Told of each call.
    """

    def __init__(
        self,
        authority: str,
        clock: Clock,
        *,
        local: bool,
        is_active_peer: Callable[[str], bool],
        transcript: Transcript | None = None,
        access: Mapping[str, Access] | None = None,
        heard: Callable[[str], None] = lambda _authority: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._transcript = transcript
        self._local = local
        self._is_active_peer = is_active_peer
        self._access = access or (LOCAL_ACCESS if local else PEER_ACCESS)
        self._open_streams = threading.BoundedSemaphore(MAX_OPEN_STREAMS)
        self._heard = heard
        self._telemetry = telemetry or NoTelemetry()
        self._waiting: set[grpc.ServicerContext] = set()
        self._waiting_lock = threading.Lock()

    def end_streams(self) -> None:
        """End the streams that would go on for as long as their caller likes."""
        with self._waiting_lock:
            waiting = [*self._waiting]
        for context in waiting:
            context.cancel()  # type: ignore[no-untyped-call]  # the stubs leave its type out

    def intercept_service(
        self,
        continuation: Callable[[Any], Any],
        handler_call_details: Any,  # noqa: ANN401 - grpc's own types
    ) -> Any:  # noqa: ANN401
        """Wrap the handler of a method; an unknown method gets the answer of a forbidden one."""
        method: str = handler_call_details.method
        handler = continuation(handler_call_details)
        if handler is None or method not in self._access:
            # Streaming both ways, so that the answer does not wait for, or depend on, what is sent.
            return grpc.stream_stream_rpc_method_handler(self._refuse)
        build = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        wrapped = self._streamed(method, handler) if handler.response_streaming else self._single(method, handler)
        # gRPC sees bytes only: it would parse them before anybody is asked, and log what it cannot write.
        return build(wrapped, request_deserializer=None, response_serializer=None)

    def _single(self, method: str, handler: Any) -> Callable[[Any, Any], bytes]:  # noqa: ANN401
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary

        def call(request: Any, context: grpc.ServicerContext) -> bytes:  # noqa: ANN401 - bytes, or an iterator of them
            begun, status = time.monotonic(), ""
            with self._span(method, context) as span:
                try:
                    self._admit(method, context)
                    answer = self._sent(
                        method, handler, behaviour(self._received(method, handler, request, context), context), context
                    )
                    status = "OK"
                except Exception as error:  # noqa: BLE001 - the last stop before the wire
                    self._fail(method, context, error)
                finally:
                    self._tell(method, status or _status(context), begun, span)
            return answer

        return call

    def _streamed(self, method: str, handler: Any) -> Callable[[Any, Any], Iterator[bytes]]:  # noqa: ANN401
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream

        def call(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: ANN401 - as above
            begun, status, held = time.monotonic(), "", False
            span = self._span(method, context, apart=True)
            noted = span.__enter__()
            try:
                self._admit(method, context)
                if method in _NO_DEADLINE:
                    held = self._open_streams.acquire(blocking=False)
                    if not held:
                        raise errors.CapacityExceededError("too many streams are open")  # noqa: TRY301 - _fail renders it
                    if method in _ENDLESS:
                        with self._waiting_lock:
                            self._waiting.add(context)
                for response in behaviour(self._received(method, handler, request, context), context):
                    yield self._sent(method, handler, response, context)
                status = "OK"
            except Exception as error:  # noqa: BLE001 - the last stop before the wire
                self._fail(method, context, error)
            finally:
                if held:
                    with self._waiting_lock:
                        self._waiting.discard(context)
                    self._open_streams.release()
                self._tell(method, status or _status(context), begun, noted)
                span.__exit__(None, None, None)

        return call

    def _received(self, method: str, handler: Any, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        """Make a message of the bytes that came in, or messages of a stream of them."""

        def parsed(data: bytes) -> Any:  # noqa: ANN401 - any message
            self._note(method, "request", context, data)
            try:
                return handler.request_deserializer(data)
            except Exception:  # noqa: BLE001 - protobuf's own kinds of failure; the bytes are from outside
                raise errors.FormatError("request: not a message of this method") from None

        return map(parsed, request) if handler.request_streaming else parsed(request)

    def _sent(self, method: str, handler: Any, response: Any, context: grpc.ServicerContext) -> bytes:  # noqa: ANN401
        data: bytes = handler.response_serializer(response)
        self._note(method, "response", context, data)
        return data

    def _note(self, method: str, direction: str, context: grpc.ServicerContext, data: bytes) -> None:
        if self._transcript is not None:
            self._transcript.record(method, direction, tls.identity_of(context).authority, data)

    def _admit(self, method: str, context: grpc.ServicerContext) -> None:
        if not self._may_call(method, context):
            raise errors.RefusedError
        if method in _NO_DEADLINE:
            return
        remaining = context.time_remaining()
        # A little more than the limit is let pass: the clock started at the caller.
        if remaining is None or remaining > MAX_DEADLINE_S + 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a deadline of at most 30 seconds is needed")

    def _may_call(self, method: str, context: grpc.ServicerContext) -> bool:
        allowed = self._access[method]
        try:
            caller = tls.identity_of(context)
            pki.check_validity(tls.certificate_of(context), self._clock.now())
        except errors.InputError:
            return False
        if isinstance(caller, pki.PersonIdentity):
            return caller.authority == self._authority and caller.role in allowed
        admitted = not self._local and AUTHORITY in allowed and self._is_active_peer(caller.authority)
        if admitted:
            self._heard(caller.authority)
        return admitted

    def _span(self, method: str, context: grpc.ServicerContext, *, apart: bool = False) -> AbstractContextManager[Span]:
        parent = ""
        if self._local:
            # Never from a peer: one number of a trace would join a case here to a line there.
            metadata = context.invocation_metadata() or ()
            parent = next((str(value) for key, value in metadata if key == TRACE_KEY), "")
        return self._telemetry.span(f"rpc {_short(method)}", parent=parent, apart=apart, port=self._side)

    def _tell(self, method: str, status: str, begun: float, span: Span) -> None:
        span.note(status=status)
        self._telemetry.called(self._side, _short(method), status, time.monotonic() - begun)

    @property
    def _side(self) -> str:
        return "local" if self._local else "peer"

    def _refuse(self, _request: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
        # What the caller named may be anything: it is not logged.
        self._telemetry.called(self._side, "unknown", grpc.StatusCode.PERMISSION_DENIED.name, 0.0)
        self._fail("unknown", context, errors.RefusedError())

    def _fail(self, method: str, context: grpc.ServicerContext, error: Exception) -> NoReturn:
        if not context.is_active() or (_is_abort(error) and _is_answered(context)):
            # The caller is gone, or has its answer: what is raised now reaches nobody.
            try:
                raise error
            finally:
                # Else the error holds this frame, which holds the error, and with it the call: its stream would count
                # among the open ones of the connection until the next search for cycles.
                del error
        if isinstance(error, errors.ConnectorError):
            logger.info("rpc.refused", method=method, code=error.code)
            status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
            if self._local:
                context.set_trailing_metadata(((CODE_KEY, error.code),))
                context.abort(status, str(error)[:MAX_DETAIL_CHARS])
            context.abort(status, error.public_detail)
        incident = secrets.token_hex(4)
        # The type alone: an exception's text may hold a value.
        logger.error("rpc.internal", method=method, incident=incident, error=type(error).__name__, **_place(error))
        context.abort(grpc.StatusCode.INTERNAL, f"{INCIDENT}{incident}")
        raise AssertionError


def _is_abort(error: Exception) -> bool:
    # grpc raises a bare Exception to leave a handler after abort().
    return type(error) is Exception and not error.args


def _is_answered(context: grpc.ServicerContext) -> bool:
    return context.code() is not None  # type: ignore[attr-defined]  # the stubs leave it out


def _status(context: grpc.ServicerContext) -> str:
    # A caller that went away before it was answered has no status.
    code = context.code() if _is_answered(context) else None  # type: ignore[attr-defined]  # as above
    return str(code.name) if code is not None else grpc.StatusCode.CANCELLED.name


def _short(method: str) -> str:
    return method.rpartition(".")[2]


def _place(error: Exception) -> dict[str, object]:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return {} if last is None else {"where": f"{last.tb_frame.f_code.co_name}:{last.tb_lineno}"}
