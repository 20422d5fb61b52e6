"""The desk of a person or a system at their own node: the local port in the node's own terms, without protobuf.

For programs that work with several nodes at once. Every call is authenticated and authorised like any other on the local port.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connector_psi import pki
from connector_psi.domain.records import Record
from connector_psi.rpc import convert
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import open_local
from connector_psi.rpc.v1 import audit_pb2, registry_pb2

MAX_RECORDS = 500
MAX_BYTES = 800_000
"""Of one request; the ports take messages of 1 MiB."""
_PAGE = 256


@dataclass(frozen=True, slots=True)
class Match:
    """A match as its authority sees it."""

    match_id: str
    agreement: str
    record_ref: str
    identifier_types: tuple[str, ...]
    category: str
    state: str


@dataclass(frozen=True, slots=True)
class Case:
    """A case as one side sees it."""

    case_id: str
    side: str
    agreement: str
    state: str
    record_ref: str
    match_id: str
    opened_ms: int
    due_ms: int
    fields: Mapping[str, tuple[str, ...]] = field(repr=False)
    withheld: tuple[str, ...]
    handling: tuple[str, ...]
    obligations: tuple[str, ...]


class Desk:
    """What a role may do at a node. Every method raises the ``ConnectorError`` that the node raised.

    Args:
        client: Connected with the certificate of whoever acts.
    """

    def __init__(self, client: LocalClient) -> None:
        self._client = client

    def add_peer(self, descriptor: bytes) -> tuple[str, ...]:
        """Add a peer and return the agreements that come into force."""
        answer = self._client.call(self._client.node.AddPeer, registry_pb2.AddPeerRequest(descriptor=descriptor))
        return tuple(answer.agreements)

    def register(self, records: Iterable[Record]) -> Counter[str]:
        """Register records; durable when it returns. Returns how many had which outcome."""
        outcomes: Counter[str] = Counter()
        for chunk in _chunks(records):
            answer = self._client.call(self._client.registry.Register, registry_pb2.RegisterRequest(records=chunk))
            outcomes.update(convert.OUTCOME_NAMES[result.outcome] for result in answer.results)
        return outcomes

    def status(self) -> dict[str, Any]:
        """Return the state of the node."""
        answer = self._client.call(self._client.node.GetStatus, registry_pb2.GetStatusRequest())
        return dict(json.loads(answer.json))

    def sync(self, mark_ms: int = 0) -> tuple[bool, int]:
        """Return whether everything registered before a mark is queried and published, and the mark."""
        answer = self._client.call(self._client.node.Sync, registry_pb2.SyncRequest(mark_ms=mark_ms))
        return answer.done, answer.mark_ms

    def matches(self, state: str = "") -> list[Match]:
        """Return all matches in the order they were found."""
        found: list[Match] = []
        after = 0
        while True:
            request = registry_pb2.ListMatchesRequest(state=state, after=after, limit=_PAGE)
            page = self._client.call(self._client.registry.ListMatches, request).matches
            found += [
                Match(m.match_id, m.agreement, m.record_ref, tuple(m.identifier_types), m.category, m.state)
                for m in page
            ]
            if len(page) < _PAGE:
                return found
            after = page[-1].resume_token

    def confirm(self, match_id: str, reason: str) -> None:
        """Confirm a match: it becomes a hit."""
        request = registry_pb2.ConfirmMatchRequest(match_id=match_id, reason=reason)
        self._client.call(self._client.registry.ConfirmMatch, request)

    def open_case(
        self, match_id: str, *, purpose: str, legal_basis: str, case_reference: str, justification: str
    ) -> Case:
        """Ask the owner of a confirmed match for disclosure."""
        request = registry_pb2.RegistryServiceOpenCaseRequest(
            match_id=match_id,
            purpose=purpose,
            legal_basis=legal_basis,
            case_reference=case_reference,
            justification=justification,
        )
        return _case(self._client.call(self._client.registry.OpenCase, request).case)

    def cases(self, state: str = "") -> list[Case]:
        """Return cases of both sides, oldest first, at most 1,000."""
        answer = self._client.call(self._client.registry.ListCases, registry_pb2.ListCasesRequest(state=state))
        return [_case(message) for message in answer.cases]

    def decide(self, case_id: str, reason: str, *, approve: bool) -> None:
        """Approve or refuse a case that a peer opened here."""
        request = registry_pb2.DecideCaseRequest(case_id=case_id, approve=approve, reason=reason)
        self._client.call(self._client.registry.DecideCase, request)

    def verify_log(self) -> dict[str, Any]:
        """Let the node verify its whole log."""
        answer = self._client.call(self._client.node.VerifyLog, registry_pb2.VerifyLogRequest())
        return dict(json.loads(answer.json))

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""
        return self._client.call(self._client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest()).checkpoint

    def leaves(self, size: int) -> list[bytes]:
        """Return the first ``size`` leaves of the log."""
        leaves: list[bytes] = []
        while len(leaves) < size:
            request = audit_pb2.GetEntriesRequest(start=len(leaves), limit=_PAGE)
            page = self._client.call(self._client.audit.GetEntries, request).leaves
            if not page:
                break
            leaves += page
        return leaves[:size]


@contextmanager
def open_desk(directory: Path, certificate: Path | pki.Role) -> Iterator[Desk]:
    """Sit down at a node, served or not.

    Args:
        directory: The node directory.
        certificate: Of whoever acts, or a role whose certificate is looked for in the directory.

    Raises:
        ConfigError: No node directory, or no usable certificate.
        UnavailableError: Another process has the node open without serving it.
    """
    with open_local(directory, certificate) as client:
        yield Desk(client)


def _chunks(records: Iterable[Record]) -> Iterator[list[registry_pb2.Record]]:
    chunk: list[registry_pb2.Record] = []
    size = 0
    for record in records:
        message = convert.record_message(record)
        length = message.ByteSize()
        if chunk and (len(chunk) >= MAX_RECORDS or size + length > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += length
    if chunk:
        yield chunk


def _case(message: registry_pb2.Case) -> Case:
    return Case(
        case_id=message.case_id,
        side=message.side,
        agreement=message.agreement,
        state=message.state,
        record_ref=message.record_ref,
        match_id=message.match_id,
        opened_ms=message.opened_ms,
        due_ms=message.due_ms,
        fields={name: tuple(values.values) for name, values in message.fields.items()},
        withheld=tuple(message.withheld_fields),
        handling=tuple(message.handling),
        obligations=tuple(message.obligations),
    )
