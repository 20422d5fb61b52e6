"""What a node needs of a peer, as ports: ``rpc.client`` implements them over mTLS, the simulation in memory.

Promises: every method raises ``RefusedError`` if the peer refuses, ``UnavailableError`` if it cannot be reached or
asks to come
back later, and ``ProtocolError`` if its answer makes no sense. What is returned has not been verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from connector_psi.audit.witness import Submission
    from connector_psi.disclosure import RecallCause, RecallEffect
    from connector_psi.protocol.owner import Query
    from connector_psi.witness.cosigning import WitnessAnswer


@dataclass(frozen=True, slots=True)
class LeafProof:
    """A leaf with its inclusion proof and a signed checkpoint."""

    leaf: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """A manifest as its owner serves it."""

    manifest: bytes
    signature: bytes
    proof: LeafProof
    fresh_until_ms: int


@dataclass(frozen=True, slots=True)
class DeltaAnswer:
    """A delta as its owner serves it."""

    delta: bytes
    signature: bytes
    proof: LeafProof


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """An OpenCase request."""

    agreement: str
    epoch: int
    ticket_id: bytes
    redeem_codes: bytes
    purpose: str
    legal_basis: str
    case_reference: str
    justification: str
    request_id: bytes
    actor_commitments: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OutcomeAnswer:
    """A served outcome."""

    envelope: bytes
    signature: bytes
    salt: bytes
    proof: LeafProof


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A RequestAccess request."""

    agreement: str
    request_id: bytes
    case_reference: str
    offence: str
    necessity: str
    identifiers: int
    expires_ms: int
    actor_commitments: bytes
    """2 x 32 bytes: who asks, and who ordered it."""
    signature: bytes


@dataclass(frozen=True, slots=True)
class AccessAnswer:
    """A served answer to a RequestAccess; nothing was granted where it equals ``NO_ACCESS``."""

    access_id: bytes
    identifiers: int
    elements: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class RecallMessage:
    """A Recall request, from the owner of an agreement to its querier."""

    agreement: str
    case_id: bytes
    recall_id: bytes
    cause: RecallCause
    sent_ms: int
    envelope: bytes
    salt: bytes
    signature: bytes
    proof: LeafProof


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An AcknowledgeRecall request, from the querier to the owner."""

    agreement: str
    recall_id: bytes
    effect: RecallEffect
    acknowledged_ms: int
    signature: bytes


ACCESS_ID_BYTES = 16
NO_ACCESS = AccessAnswer(bytes(ACCESS_ID_BYTES), 0, 0, 0)
FILTER = "filter"
TICKETS = "tickets"


class OwnerPort(Protocol):
    """A peer in the role of owner; ``recall`` alone is what an owner asks of its querier."""

    def get_manifest(self, agreement: str) -> ManifestAnswer:
        """Return the newest manifest."""
        ...

    def read_set(self, manifest_hash: bytes, file: str, offset: int) -> Iterator[bytes]:
        """Yield a set's file from an offset on, in pieces of at most 512 KiB."""
        ...

    def get_deltas(self, agreement: str, epoch: int, from_seq: int) -> Iterator[DeltaAnswer]:
        """Yield the deltas of an epoch from one on, in order."""
        ...

    def evaluate(self, query: Query) -> tuple[bytes, bytes]:
        """Return ``(evaluated elements, proof)``."""
        ...

    def open_case(self, request: CaseRequest, at_least: int = 0) -> None:
        """Ask for disclosure, in a message of at least so many bytes; the answer is always PENDING."""
        ...

    def get_outcome(self, agreement: str, request_id: bytes) -> OutcomeAnswer | None:
        """Return the outcome once it is served, None before."""
        ...

    def request_access(self, request: AccessRequest) -> AccessAnswer | None:
        """Ask for a grant, or for the answer to an earlier request; None while it is pending."""
        ...

    def recall(self, message: RecallMessage) -> None:
        """Tell it, as the querier that was told, that what was disclosed is wrong or withdrawn."""
        ...

    def add_checkpoint(self, submission: Submission) -> WitnessAnswer:
        """Ask it, as a witness, to cosign a checkpoint of this node's log."""
        ...

    def acknowledge_recall(self, message: Acknowledgement) -> None:
        """Tell it what became of a recall here."""
        ...

    def get_checkpoint(self) -> bytes:
        """Return the newest signed checkpoint of its log."""
        ...

    def prove_consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Return the proof that its log of ``old_size`` entries is a prefix of that of ``new_size``."""
        ...


class WitnessPort(Protocol):
    """A witness: a peer, or one of no authority."""

    def add_checkpoint(self, submission: Submission) -> WitnessAnswer:
        """Ask it to cosign a checkpoint of this node's log."""
        ...


class Connector(Protocol):
    """Reaches peers, and witnesses that are no peers."""

    def witness(self, name: str) -> WitnessPort:
        """Return the witness of ``node.toml`` whose key has this name."""
        ...

    def owner(self, authority: str) -> OwnerPort:
        """Return the peer with this code; connecting happens on first use."""
        ...

    def forget(self, authority: str) -> None:
        """Drop any connection to a peer, because it was revoked or its address changed."""
        ...

    def close(self) -> None:
        """Drop all connections and end the calls under way; ``owner`` raises ``UnavailableError`` from now on."""
        ...
