"""Requests of peers for access to one case: taken in, decided by people of this owner, answered, debited.

In ``case`` mode nothing is evaluated before that. The rules are those of cases (``received``): every request gets the
same answer until its time came, writes the same two leaves whatever becomes of it, and an answer is served only once
its leaf is covered by a signed checkpoint. A grant is served from the slot after the last approval; that nothing was
granted is told at ``accepted + T``, whatever the reason.

A grant is counted in padded elements, which are all that an owner sees (``messages.grant_elements``). Leaves to others:
slots (``disclosure``), evaluation (``evaluation``), what people see of a request (``accessviews``).
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature

from connector_psi import disclosure, pki
from connector_psi.audit.entries import Event
from connector_psi.domain.purposes import Mode
from connector_psi.errors import (
    ApprovalMissingError,
    AuditError,
    ConflictError,
    ProtocolError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node import caseclock
from connector_psi.node.node import OWNER, Bound, Node, from_millis, millis
from connector_psi.node.outbox import hold
from connector_psi.node.ports import ACCESS_ID_BYTES, NO_ACCESS, AccessAnswer, AccessRequest
from connector_psi.protocol import messages
from connector_psi.storage import accesses as store
from connector_psi.storage.accesses import NEVER_MS, AccessRow
from connector_psi.storage.store import Tx

MAX_TEXT = 4000
MAX_REFERENCE = 200
HOUR_MS = 3_600_000
_MAX_MS = 1 << 53


class GrantState(StrEnum):
    """A request for access as the owner sees it."""

    AWAITING_DECISION = "awaiting_decision"
    APPROVED = "approved"
    REFUSED = "refused"
    LAPSED = "lapsed"
    """Nobody, or too few, decided before the last slot."""
    GRANTED = "granted"
    NOT_GRANTED = "not_granted"


_DECIDED = (GrantState.GRANTED, GrantState.NOT_GRANTED)
_OPEN = (GrantState.AWAITING_DECISION, GrantState.APPROVED, GrantState.REFUSED)


class Granting:
    """Use cases of the owner who grants access."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # Taking in and answering

    def request(self, peer: str, request: AccessRequest) -> AccessAnswer | None:
        """Take a request in, or tell what became of it; the same work for every request that is not answered yet.

        Returns:
            None while it is pending.

        Raises:
            PurposeRefusedError: No such agreement with this peer, or none of mode ``case``.
            ProtocolError: The signature does not verify, a field has a wrong length, or more is asked than the
                agreement has.
            ConflictError: Another request came under this id.
        """
        node = self._node
        bound = node.bound(request.agreement, OWNER, peer)
        grant = bound.agreement.grant
        if bound.agreement.mode is not Mode.CASE or grant is None:
            raise PurposeRefusedError("no such agreement")
        check_request(request, grant.max_identifiers)
        try:
            node.peer(peer).public_key.verify(request.signature, signed_bytes(peer, request))
        except InvalidSignature:
            raise ProtocolError(f"{bound.code}: the signature of a request does not verify") from None
        request_mac = node.store.mac(request.signature)
        now = node.now_ms()
        with node.store.read() as tx:
            head = store.get_head(tx, peer, request.request_id)
        if head is None:
            self._accept(bound, request, request_mac, now)
            return None
        if not hmac.compare_digest(head.request_mac, request_mac):
            raise ConflictError("a request id was used for another request")
        if not (head.state in _DECIDED) & (now >= head.due_ms):
            return None
        assert head.leaf_index is not None
        try:
            node.leaf_proof(head.leaf_index, bound.agreement)
        except UnavailableError:
            # No checkpoint covers the decision yet.
            return None
        if head.access_id is None:
            return NO_ACCESS
        return AccessAnswer(head.access_id, head.identifiers, head.elements, head.expires_ms)

    def _accept(self, bound: Bound, request: AccessRequest, request_mac: bytes, now: int) -> None:
        node = self._node
        payload: dict[str, Any] = {
            "case_reference": request.case_reference,
            "offence": request.offence,
            "necessity": request.necessity,
            "identifiers": request.identifiers,
            "expires_ms": request.expires_ms,
            "actors": request.actor_commitments.hex(),
            "signature": request.signature.hex(),
            "approvals": [],
        }
        row = AccessRow(
            side=store.OWNER,
            peer=bound.peer,
            request_id=request.request_id,
            agreement=bound.code,
            state=GrantState.AWAITING_DECISION,
            opened_ms=now,
            due_ms=now + node.config.disclosure.not_disclosed_after_s * 1000,
            next_ms=0,
            payload=payload,
        )
        row = replace(row, next_ms=millis(caseclock.last_slot(node, row)))
        with node.store.write() as tx:
            known = store.get_head(tx, bound.peer, request.request_id)
            if known is not None:
                if not hmac.compare_digest(known.request_mac, request_mac):
                    raise ConflictError("a request id was used for another request")
                return
            store.put(node.store, tx, row, request_mac)
            node.append(
                tx,
                Event.CASE_OPEN,
                {
                    "operation": "access request",
                    "peer": bound.peer,
                    "case_reference": request.case_reference,
                    "offence": request.offence,
                    "necessity": request.necessity,
                    "identifiers": request.identifiers,
                    "expires_ms": request.expires_ms,
                    "ordered_by": request.actor_commitments[32:].hex(),
                },
                bound,
                request_id=request.request_id,
                purpose=bound.agreement.purpose.value,
                actor_commitment=request.actor_commitments[:32],
            )

    # Deciding and releasing

    def decide(
        self,
        request_id: bytes,
        person: pki.PersonIdentity,
        reason: str,
        *,
        approve: bool,
        identifiers: int = 0,
        hours: int = 0,
    ) -> AccessRow:
        """A person at the owner grants or refuses access.

        Args:
            request_id: Of the request.
            person: Who decides.
            reason: Why; required, and sealed in the log.
            approve: True to grant.
            identifiers: At most so many; 0 for as many as asked. The least that somebody grants counts.
            hours: At most so long from now; 0 for as long as asked. The earliest end that somebody grants counts.

        Raises:
            ApprovalMissingError: There is no reason.
            PurposeRefusedError: There is no such request at this owner.
            ConflictError: It is decided already, this person has granted it already, more would be granted than was
                asked, or the last slot or the time asked for is over.
        """
        node = self._node
        if not reason.strip() or len(reason) > MAX_TEXT:
            raise ApprovalMissingError("a reason is needed, of at most 4000 characters")
        with node.store.write() as tx:
            row = store.find(node.store, tx, request_id, side=store.OWNER)
            if row is None:
                raise PurposeRefusedError("no such request for access")
            bound = node.bound(row.agreement, OWNER)
            if row.state != GrantState.AWAITING_DECISION:
                raise ConflictError(f"the request is {row.state}")
            if node.clock.now() >= caseclock.last_slot(node, row):
                raise ConflictError("the time to decide is over")
            changed = (
                self._approved(bound, row, person, reason, identifiers, hours)
                if approve
                else replace(
                    row,
                    state=GrantState.REFUSED,
                    payload={**row.payload, "refusal": {"by": person.uri, "reason": reason}},
                )
            )
            if changed.state != GrantState.AWAITING_DECISION:
                changed = replace(changed, next_ms=caseclock.decided_slot_ms(node, row))
            store.update(node.store, tx, changed)
        return changed

    def _approved(
        self, bound: Bound, row: AccessRow, person: pki.PersonIdentity, reason: str, identifiers: int, hours: int
    ) -> AccessRow:
        grant = bound.agreement.grant
        assert grant is not None
        approvals = list(row.payload["approvals"])
        if person.id in {pki.person_id(a["by"]) for a in approvals}:
            raise ConflictError("this person has granted the request already")
        now = self._node.now_ms()
        expires_ms = min(row.payload["expires_ms"], row.opened_ms + grant.max_hours * HOUR_MS)
        if identifiers > min(row.payload["identifiers"], grant.max_identifiers) or hours > grant.max_hours:
            raise ConflictError("no more can be granted than was asked and than the agreement has")
        if expires_ms <= now:
            raise ConflictError("the time that was asked for is over")
        approvals.append(
            {
                "by": person.uri,
                "reason": reason,
                "identifiers": identifiers or row.payload["identifiers"],
                "expires_ms": min(expires_ms, now + hours * HOUR_MS) if hours else expires_ms,
            }
        )
        done = len(approvals) >= grant.people
        state = GrantState.APPROVED if done else GrantState.AWAITING_DECISION
        return replace(row, state=state, payload={**row.payload, "approvals": approvals})

    def advance(self) -> int:
        """Write the answers that are due. Returns how many requests were due.

        Raises:
            UnavailableError: The log cannot be written now; what is due stays due.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            due = store.due(tx, store.OWNER, _OPEN, node.now_ms())
        for peer, request_id in due:
            try:
                with node.store.write() as tx:
                    # Read under the write lock: a person may have decided since.
                    row = store.get(node.store, tx, store.OWNER, peer, request_id)
                    if row is not None and row.state in _OPEN and row.next_ms <= node.now_ms():
                        self._release(tx, row)
            except (AuditError, UnavailableError):
                raise
            except Exception as error:  # noqa: BLE001 - one request must not keep the others back
                hold(node, "access", store.OWNER, peer, request_id, error)
        return len(due)

    def _release(self, tx: Tx, row: AccessRow) -> None:
        """Write the one CASE_OUTCOME of a request, and what is served."""
        node, now = self._node, self._node.now_ms()
        state = GrantState.LAPSED if row.state == GrantState.AWAITING_DECISION else GrantState(row.state)
        try:
            bound, runs = node.bound(row.agreement, OWNER, row.peer), True
        except PurposeRefusedError:
            # The peer was revoked, or the agreement ended: nothing is granted, and all is logged as ever.
            bound, runs = node.bound_of_case(tx, row.agreement, OWNER, row.peer), False
        approvals = row.payload["approvals"]
        expires_ms = min((a["expires_ms"] for a in approvals), default=0)
        given = runs and state is GrantState.APPROVED and expires_ms > now
        identifiers = min(a["identifiers"] for a in approvals) if given else 0
        elements = messages.grant_elements(identifiers, len(bound.agreement.classes)) if given else 0
        entry = node.append(
            tx,
            Event.CASE_OUTCOME,
            {
                "operation": "access decision",
                "decision": "granted" if given else "not_granted",
                "state": state.value,
                "identifiers": identifiers,
                "elements": elements,
                "expires_ms": expires_ms if given else 0,
                "recipient": row.peer,
                "approvals": approvals,
                "refusal": row.payload.get("refusal"),
                "case_reference": row.payload["case_reference"],
            },
            bound,
            request_id=row.request_id,
            purpose=bound.agreement.purpose.value,
        )
        told_at = disclosure.not_disclosed_at(from_millis(row.opened_ms), node.config.disclosure.not_disclosed_after_s)
        store.update(
            node.store,
            tx,
            replace(
                row,
                state=GrantState.GRANTED if given else GrantState.NOT_GRANTED,
                due_ms=now if given else millis(told_at),
                next_ms=NEVER_MS,
                leaf_index=entry.index,
                access_id=self._new_id() if given else None,
                identifiers=identifiers,
                elements=elements,
                expires_ms=expires_ms if given else 0,
                payload={**row.payload, "ended": state.value},
            ),
        )

    def _new_id(self) -> bytes:
        while (made := self._node.random.bytes(ACCESS_ID_BYTES)) == NO_ACCESS.access_id:
            pass
        return made


def signed_bytes(querier: str, request: AccessRequest) -> bytes:
    """Return the bytes that the querier signs in a request."""
    return messages.access_bytes(
        querier=querier,
        agreement=request.agreement,
        request_id=request.request_id,
        case_reference=request.case_reference,
        offence=request.offence,
        necessity=request.necessity,
        identifiers=request.identifiers,
        expires_ms=request.expires_ms,
        actor_commitments=request.actor_commitments,
    )


def check_request(request: AccessRequest, max_identifiers: int) -> None:
    """Refuse a request with a field that is not what it must be.

    Raises:
        ProtocolError: One constant reason for all of them.
    """
    sound = (
        len(request.request_id) == messages.REQUEST_ID_BYTES
        and len(request.actor_commitments) == 64
        and 0 < len(request.case_reference.strip()) <= len(request.case_reference) <= MAX_REFERENCE
        and 0 < len(request.offence.strip()) <= len(request.offence) <= MAX_TEXT
        and 0 < len(request.necessity.strip()) <= len(request.necessity) <= MAX_TEXT
        and 0 < request.identifiers <= max_identifiers
        and 0 < request.expires_ms < _MAX_MS
    )
    if not sound:
        raise ProtocolError("a request for access has a field that is not what it must be")
