"""Cases that this node opens at owners, from a hit to what was disclosed.

Decides: what a person must say to open one, when it is sent and its outcome collected, that nothing is kept that does
not verify. Leaves to others: states, slots and the envelope (``disclosure``), what people see of it (``caseviews``),
what is tried again when (``outbox``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from connector_psi import disclosure, pki
from connector_psi.audit.entries import Event
from connector_psi.disclosure import CaseState, Outcome
from connector_psi.errors import (
    ApprovalMissingError,
    ConflictError,
    ConnectorError,
    FormatError,
    ProtocolError,
    PurposeRefusedError,
)
from connector_psi.node import caseclock
from connector_psi.node.covers import Covers
from connector_psi.node.following import seen
from connector_psi.node.node import QUERIER, Bound, Node, millis
from connector_psi.node.outbox import CASES, Item, Outbox
from connector_psi.node.ports import CaseRequest, Connector, OutcomeAnswer
from connector_psi.node.taking import verify_leaf
from connector_psi.protocol import messages
from connector_psi.storage import cases as store
from connector_psi.storage import queried
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.store import Tx

MAX_TEXT = 4000
MAX_REFERENCE = 200
DISCLOSED = "disclosed"
"""Counted by day: cases that something was disclosed for to this node."""


class AskedCases:
    """Use cases of the querier's cases."""

    def __init__(self, node: Node, connector: Connector, outbox: Outbox) -> None:
        self._node = node
        self._connector = connector
        self._outbox = outbox
        self._covers = Covers(node)

    def open(
        self,
        match_id: str,
        person: pki.PersonIdentity,
        *,
        purpose: str,
        legal_basis: str,
        case_reference: str,
        justification: str,
        ordered_by: str = "",
    ) -> CaseRow:
        """Open a case for a confirmed match; sent to the owner by ``advance``.

        Args:
            match_id: Of the match.
            person: Who opens it, the executing officer.
            purpose: Of the agreement.
            legal_basis: One of the agreement's.
            case_reference: Of this authority.
            justification: Why the disclosure is needed.
            ordered_by: URN of the ordering officer of this authority; empty where that is ``person``. Sealed in this
                node's log, and not told to the owner.

        Raises:
            PurposeRefusedError: No such match, or purpose or legal basis are not agreed, or somebody ordered it who
                may not.
            ApprovalMissingError: The match is not confirmed, or reference or justification are missing.
            ConflictError: A case is open for it already.
        """
        node = self._node
        if not case_reference.strip() or len(case_reference) > MAX_REFERENCE:
            raise ApprovalMissingError("a case reference is needed, of at most 200 characters")
        if not justification.strip() or len(justification) > MAX_TEXT:
            raise ApprovalMissingError("a justification is needed, of at most 4000 characters")
        ordering = ordering_officer(node, ordered_by, person)
        with node.store.write() as tx:
            match = queried.get_match(node.store, tx, match_id)
            if match is None:
                raise PurposeRefusedError("no such match")
            bound = node.bound(match.agreement, QUERIER)
            if match.state != queried.CONFIRMED:
                raise ApprovalMissingError(f"the match is {match.state}, not confirmed")
            if purpose != bound.agreement.purpose.value:
                raise PurposeRefusedError(f"{bound.code}: the purpose is not agreed")
            silent = disclosure.is_silent(bound.agreement)
            if silent and len(f"{case_reference}{justification}".encode()) > disclosure.SILENT_TEXT_BYTES:
                raise ApprovalMissingError(
                    f"reference and justification are too long: {disclosure.SILENT_TEXT_BYTES} bytes where the owner "
                    "gets no notice"
                )
            if legal_basis not in {basis.value for basis in bound.agreement.legal_basis}:
                raise PurposeRefusedError(f"{bound.code}: the legal basis is not agreed")
            earlier = store.case_of_match(node.store, tx, match_id)
            if earlier is not None and earlier.state in {CaseState.DRAFTED, CaseState.PENDING}:
                raise ConflictError("a case is open for this match already")
            request_id, now = node.random.bytes(messages.REQUEST_ID_BYTES), node.now_ms()
            day = node.clock.now().date()
            people = [person.uri, *(uri for uri in match.payload["people"] if uri != person.uri)]
            # The first stands for whoever opens the case, the others for those who confirmed the match.
            pseudonyms = [node.keyring.actor_commitment(bound.code, day, uri) for uri in people]
            row = CaseRow(
                side=store.QUERIER,
                peer=bound.peer,
                request_id=request_id,
                agreement=bound.code,
                epoch=match.epoch,
                state=CaseState.DRAFTED,
                opened_ms=now,
                due_ms=now + node.config.disclosure.not_disclosed_after_s * 1000,
                # One that must not be noticed leaves with the covers of a slot.
                next_ms=store.NEVER_MS if silent else now,
                match_id=match_id,
                leaf_index=None,
                quiet=False,
                payload={
                    "ticket_id": match.payload["ticket_id"],
                    "redeem": sorted(set(match.payload["redeem"])),
                    "purpose": purpose,
                    "legal_basis": legal_basis,
                    "case_reference": case_reference,
                    "justification": justification,
                    "actors": [pseudonym.hex() for pseudonym in pseudonyms],
                    "types": match.payload["types"],
                    "band": match.payload.get("band", ""),
                    "corroborators": match.payload.get("corroborators", []),
                    "record_ref": match.payload["record_ref"],
                    "ordered_by": ordering,
                    "opened_by": person.uri,
                    "seen": seen(node, tx, match.record_id),
                },
            )
            store.put_case(node.store, tx, row)
            node.append(
                tx,
                Event.CASE_OPEN,
                {
                    "operation": "consultation",
                    "ordering_officer": ordering,
                    "executing_officer": person.uri,
                    "confirmed_by": match.payload["people"],
                    "match": match_id,
                    "record": match.payload["record_ref"],
                    "case_reference": case_reference,
                    "justification": justification,
                },
                bound,
                epoch=match.epoch,
                request_id=request_id,
                purpose=purpose,
                legal_basis=legal_basis,
                actor_commitment=pseudonyms[0],
            )
        return row

    def advance(self) -> int:
        """Send drafted cases and collect outcomes that are due. Returns how many cases moved.

        Nothing is lost, and no case keeps another waiting; what fails is tried again as ``outbox`` says.

        Raises:
            PeerError: The first answer that does not hold, after all cases had their turn.
        """
        self._node.check_alive()
        self._covers.fill_slots()
        turn = self._outbox.turn(CASES, self._advance_case)
        if turn.failure is not None:
            raise turn.failure
        return turn.moved

    def _advance_case(self, bound: Bound, item: Item) -> int:
        node = self._node
        with node.store.read() as tx:
            row = store.get_case(node.store, tx, store.QUERIER, item.peer, item.id)
        if row is None or row.state not in {CaseState.DRAFTED, CaseState.PENDING}:
            return 0
        return self._send(bound, row) if row.state == CaseState.DRAFTED else self._collect(bound, row)

    def _send(self, bound: Bound, row: CaseRow) -> int:
        node = self._node
        request = case_request(node, row)
        try:
            self._connector.owner(bound.peer).open_case(
                request, at_least=disclosure.SILENT_CASE if disclosure.is_silent(bound.agreement) else 0
            )
        except ConflictError:
            raise ProtocolError(f"{bound.code}: the owner knows another case of this id") from None
        with node.store.write() as tx:
            if not self._unmoved(tx, row):
                return 0
            store.update_case(
                node.store, tx, replace(row, state=_next(row, CaseState.PENDING), next_ms=caseclock.next_slot_ms(node))
            )
        return 1

    def _collect(self, bound: Bound, row: CaseRow) -> int:
        node = self._node
        answer = self._connector.owner(bound.peer).get_outcome(bound.code, row.request_id)
        if answer is None:
            with node.store.write() as tx:
                next_ms = caseclock.next_slot_ms(node)
                store.postpone_case(tx, store.QUERIER, row.peer, row.request_id, next_ms)
            return 0
        envelope = self._verified(bound, row, answer)
        state = CaseState.DISCLOSED if envelope.outcome is Outcome.DISCLOSED else CaseState.NOT_DISCLOSED
        with node.store.write() as tx:
            if not self._unmoved(tx, row):
                return 0
            entry = node.append(
                tx,
                Event.RECEIPT,
                {
                    "operation": "collection" if state is CaseState.DISCLOSED else "consultation",
                    "outcome": envelope.outcome.value,
                    "fields": sorted(name.value for name in envelope.fields),
                    "handling": list(envelope.handling),
                    "owner_leaf": answer.proof.index,
                    "owner_checkpoint": answer.proof.checkpoint.decode("utf-8", "replace"),
                },
                bound,
                epoch=row.epoch,
                request_id=row.request_id,
                purpose=row.payload["purpose"],
                legal_basis=row.payload["legal_basis"],
                source_commitment=disclosure.source_commitment(answer.salt, answer.envelope),
            )
            if state is CaseState.DISCLOSED:
                node.count(tx, DISCLOSED, bound)
            payload = {**row.payload, "outcome": _outcome_payload(envelope, answer)}
            store.update_case(
                node.store,
                tx,
                # Next, it is erased.
                replace(
                    row,
                    state=_next(row, state),
                    next_ms=millis(envelope.erase_after),
                    leaf_index=entry.index,
                    payload=payload,
                ),
            )
        return 1

    def _verified(self, bound: Bound, row: CaseRow, answer: OutcomeAnswer) -> disclosure.Envelope:
        peer = self._node.peer(bound.peer)
        disclosure.verify_envelope(peer.public_key, answer.envelope, answer.signature)
        try:
            envelope = disclosure.parse_envelope(answer.envelope, disclosure.envelope_sizes(bound.agreement))
            commitment = disclosure.source_commitment(answer.salt, answer.envelope)
        except FormatError:
            raise ProtocolError(f"{bound.code}: malformed disclosure") from None
        disclosure.verify_release(bound.agreement, envelope, row.request_id)
        leaf = verify_leaf(self._node, bound, answer.proof, Event.CASE_OUTCOME, epoch=row.epoch)
        if leaf.request_id != row.request_id or leaf.source_commitment != commitment:
            raise ProtocolError(f"{bound.code}: the owner's log entry is about something else")
        return envelope

    def _unmoved(self, tx: Tx, row: CaseRow) -> bool:
        """Whether a case is as it was read; asked under the write lock, so that no step is done twice."""
        known = store.get_case(self._node.store, tx, row.side, row.peer, row.request_id)
        return known is not None and known.state == row.state


def _next(row: CaseRow, state: CaseState) -> CaseState:
    return disclosure.advance(CaseState(row.state), state)


def ordering_officer(node: Node, uri: str, person: pki.PersonIdentity) -> str:
    """Return the URI of who ordered something: of ``person`` where ``uri`` is empty.

    Raises:
        PurposeRefusedError: Not an officer or a supervisor of this authority.
    """
    if not uri:
        return person.uri
    try:
        ordering = pki.parse_identity(uri)
    except ConnectorError:
        ordering = None
    if (
        not isinstance(ordering, pki.PersonIdentity)
        or ordering.authority != node.authority
        or ordering.role not in {pki.Role.OFFICER, pki.Role.SUPERVISOR}
    ):
        raise PurposeRefusedError("only an officer or a supervisor of this authority orders a case")
    return ordering.uri


def case_request(node: Node, row: CaseRow) -> CaseRequest:
    """Return the signed request of a case that this node drafted; always the same bytes."""
    p = row.payload
    request = CaseRequest(
        agreement=row.agreement,
        epoch=row.epoch,
        ticket_id=bytes.fromhex(p["ticket_id"]),
        redeem_codes=bytes.fromhex("".join(p["redeem"])),
        purpose=p["purpose"],
        legal_basis=p["legal_basis"],
        case_reference=p["case_reference"],
        justification=p["justification"],
        request_id=row.request_id,
        actor_commitments=bytes.fromhex("".join(p["actors"])),
        signature=b"",
    )
    return replace(request, signature=node.signing_key.sign(case_bytes(node.authority, request)))


def case_bytes(querier: str, request: CaseRequest) -> bytes:
    """Return the bytes that the querier signs in a request."""
    return messages.case_bytes(
        querier=querier,
        agreement=request.agreement,
        epoch=request.epoch,
        ticket_id=request.ticket_id,
        redeem_codes=request.redeem_codes,
        purpose=request.purpose,
        legal_basis=request.legal_basis,
        case_reference=request.case_reference,
        justification=request.justification,
        request_id=request.request_id,
        actor_commitments=request.actor_commitments,
    )


def _outcome_payload(envelope: disclosure.Envelope, answer: OutcomeAnswer) -> dict[str, Any]:
    return {
        **disclosure.outcome_terms(envelope),
        "receipt": {
            "envelope": answer.envelope.hex(),
            "signature": answer.signature.hex(),
            "salt": answer.salt.hex(),
            "leaf": answer.proof.leaf.decode("ascii"),
            "index": answer.proof.index,
            "proof": [digest.hex() for digest in answer.proof.proof],
            "checkpoint": answer.proof.checkpoint.decode("utf-8"),
        },
    }
