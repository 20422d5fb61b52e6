"""Cases that peers open here: taken in, judged, decided by people, answered.

Two rules hold everything together. Every case gets the same answer (PENDING) and writes the same two leaves, whatever
becomes of it; so ``accept`` only stores and logs, and ``advance`` judges later, on the clock. And an envelope is served
only from the store, after its leaf is durable and a signed checkpoint covers it.

Leaves to others: what may be disclosed (``policy``), states, slots and the envelope (``disclosure``), what people see
of it (``caseviews``).
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature

from connector_psi import disclosure, pki, policy
from connector_psi.audit.entries import Event
from connector_psi.disclosure import Grade, Outcome, OwnerCaseState
from connector_psi.domain.purposes import Condition
from connector_psi.domain.records import Field, Record
from connector_psi.encoding.tickets import open_ticket_id
from connector_psi.errors import (
    ApprovalMissingError,
    AuditError,
    ConflictError,
    FormatError,
    KeyUnavailableError,
    ProtocolError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node import caseclock
from connector_psi.node.asked import case_bytes
from connector_psi.node.node import OWNER, Bound, Node, from_millis, millis
from connector_psi.node.outbox import hold
from connector_psi.node.ports import CaseRequest, OutcomeAnswer
from connector_psi.node.publishing import case_keys
from connector_psi.node.releases import note_release
from connector_psi.protocol import messages
from connector_psi.protocol.owner import claimed_tokens
from connector_psi.protocol.tokens import Token, judge_claim
from connector_psi.storage import cases as store
from connector_psi.storage import owned, records
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.store import Tx

MAX_TEXT = 4000
MAX_REFERENCE = 200
MAX_CODES = 4096
RELEASED = "released"
"""Counted by day: cases that this node disclosed something for; of agreements without notice none."""
_MOVING = tuple(state for state in OwnerCaseState if state not in {OwnerCaseState.RELEASED, OwnerCaseState.ERASED})


class ReceivedCases:
    """Use cases of the owner's cases."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # Taking in and serving

    def accept(self, peer: str, request: CaseRequest) -> None:
        """Take a case in; the same work for every case, so that neither answer nor time tells anything.

        Raises:
            PurposeRefusedError: No such agreement with this peer.
            ProtocolError: The signature does not verify, or a field has a wrong length.
            ConflictError: Another case came under this id.
        """
        node = self._node
        bound = node.bound(request.agreement, OWNER, peer)
        _check_request(request)
        silent = disclosure.is_silent(bound.agreement)
        if silent and len(f"{request.case_reference}{request.justification}".encode()) > disclosure.SILENT_TEXT_BYTES:
            raise ProtocolError("a case has a field of wrong length")
        try:
            node.peer(peer).public_key.verify(request.signature, case_bytes(peer, request))
        except InvalidSignature:
            raise ProtocolError(f"{bound.code}: the signature of a case does not verify") from None
        payload: dict[str, Any] = {
            "ticket_id": request.ticket_id.hex(),
            "redeem": request.redeem_codes.hex(),
            "purpose": request.purpose,
            "legal_basis": request.legal_basis,
            "case_reference": request.case_reference,
            "justification": request.justification,
            "actors": request.actor_commitments.hex(),
            "signature": request.signature.hex(),
            "approvals": [],
        }
        request_mac = node.store.mac(request.signature)
        with node.store.write() as tx:
            known = store.get_head(tx, peer, request.request_id)
            if known is not None:
                if not hmac.compare_digest(known.request_mac, request_mac):
                    raise ConflictError("a case id was used for another case")
                return
            now = node.now_ms()
            due, next_ms = now + node.config.disclosure.not_disclosed_after_s * 1000, now
            if silent:
                # Nobody decides: whatever it becomes is written at one slot, and served from there.
                due = next_ms = caseclock.next_slot_ms(node)
            row = CaseRow(
                side=store.OWNER,
                peer=peer,
                request_id=request.request_id,
                agreement=bound.code,
                epoch=request.epoch,
                state=OwnerCaseState.RECEIVED,
                opened_ms=now,
                due_ms=due,
                next_ms=next_ms,
                match_id=None,
                leaf_index=None,
                quiet=silent,
                payload=payload,
            )
            store.put_case(node.store, tx, row, request_mac)
            node.append(
                tx,
                Event.CASE_OPEN,
                {
                    "operation": "consultation",
                    "peer": peer,
                    "case_reference": request.case_reference,
                    "justification": request.justification,
                },
                bound,
                epoch=request.epoch,
                request_id=request.request_id,
                purpose=bound.agreement.purpose.value,
                actor_commitment=request.actor_commitments[:32],
            )

    def outcome(self, peer: str, code: str, request_id: bytes) -> OutcomeAnswer | None:
        """Return the outcome of a case once it is served, None before.

        Raises:
            PurposeRefusedError: No such agreement with this peer, or no such case of it.
        """
        node = self._node
        bound = node.bound(code, OWNER, peer)
        # Whatever became of the case, the same is done up to here and to the first return: the clock is read before
        # anything is known, and the row stays closed, for opening it takes longer once there is an outcome in it.
        now = node.now_ms()
        with node.store.read() as tx:
            head = store.get_head(tx, peer, request_id)
        if head is None or head.agreement != code:
            raise PurposeRefusedError("no such case")
        if head.state == OwnerCaseState.ERASED:
            # The case window is over, at every querier too.
            raise PurposeRefusedError("no such case any more")
        if not (head.state == OwnerCaseState.RELEASED) & (now >= head.due_ms):
            return None
        with node.store.read() as tx:
            row = store.get_case(node.store, tx, store.OWNER, peer, request_id)
        assert row is not None
        assert row.leaf_index is not None
        if now < row.payload["served_ms"]:
            return None
        try:
            proof = node.leaf_proof(row.leaf_index, bound.agreement)
        except UnavailableError:
            # No checkpoint covers the entry yet. The peer sees PENDING, as for any case that is not served.
            return None
        p = row.payload
        return OutcomeAnswer(
            bytes.fromhex(p["envelope"]), bytes.fromhex(p["envelope_signature"]), bytes.fromhex(p["salt"]), proof
        )

    # Judging, deciding, releasing

    def advance(self) -> int:
        """Judge received cases and write the outcomes that are due. Returns how many cases were due.

        A case that cannot be moved is left to the next slot, and no other case is kept waiting.

        Raises:
            UnavailableError: The log cannot be written now; what is due stays due.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            due = store.due_cases(tx, store.OWNER, _MOVING, node.now_ms())
        for peer, request_id in due:
            try:
                with node.store.write() as tx:
                    # Read under the write lock: a person may have decided since.
                    row = store.get_case(node.store, tx, store.OWNER, peer, request_id)
                    if row is None or row.next_ms > node.now_ms():
                        continue
                    if row.state == OwnerCaseState.RECEIVED and not row.quiet:
                        self._judge(tx, row)
                    elif row.state in _MOVING:
                        self._release(tx, row)
            except (AuditError, UnavailableError):
                raise
            except Exception as error:  # noqa: BLE001 - one case must not keep the others back
                hold(node, "case", store.OWNER, peer, request_id, error)
        return len(due)

    def decide(
        self,
        request_id: bytes,
        person: pki.PersonIdentity,
        reason: str,
        *,
        approve: bool,
        grade: Grade = Grade.ADEQUATE,
        released: Collection[Field] = (),
    ) -> CaseRow:
        """A person at the owner approves or refuses a case.

        Args:
            request_id: Of the case.
            person: Who decides.
            reason: Why; required, and sealed in the log.
            approve: True to approve.
            grade: What the person thinks of the querier's justification.
            released: Fields that the provider of the data released for this case. Where several people approve,
                a field counts as released if each of them says so.

        Raises:
            ApprovalMissingError: There is no reason, or what is approved is graded inadequate.
            PurposeRefusedError: There is no such case at this owner, or a field does not wait for a provider's consent.
            ConflictError: It is decided already, this person has approved it already, or the last slot is over.
        """
        node = self._node
        if not reason.strip() or len(reason) > MAX_TEXT:
            raise ApprovalMissingError("a reason is needed, of at most 4000 characters")
        if approve and grade is Grade.INADEQUATE:
            raise ApprovalMissingError("an inadequate justification carries no approval; refuse the case")
        with node.store.write() as tx:
            # A peer chooses the ids of its cases, and could choose that of a case that we opened at it.
            row = store.find_case(node.store, tx, request_id, side=store.OWNER)
            if row is None:
                # Also where the owner gets no notice: its people must not learn that there is one.
                raise PurposeRefusedError("no such case")
            bound = node.bound(row.agreement, OWNER)
            waiting = {f for f, c in bound.agreement.disclose.items() if c is Condition.PROVIDER_CONSENT}
            if not waiting.issuperset(released):
                raise PurposeRefusedError(f"{bound.code}: a field that waits for no provider's consent")
            if row.state != OwnerCaseState.AWAITING_DECISION:
                raise ConflictError(f"the case is {row.state}")
            if node.clock.now() >= caseclock.last_slot(node, row):
                raise ConflictError("the time to decide is over")
            approvals = list(row.payload["approvals"])
            if approve:
                if person.id in {pki.person_id(a["by"]) for a in approvals}:
                    raise ConflictError("this person has approved the case already")
                approvals.append(
                    {
                        "by": person.uri,
                        "reason": reason,
                        "grade": grade.value,
                        "released": sorted(name.value for name in released),
                    }
                )
            payload = {**row.payload, "approvals": approvals}
            state = OwnerCaseState.AWAITING_DECISION
            if not approve:
                payload["refusal"] = {"by": person.uri, "reason": reason, "grade": grade.value}
                state = OwnerCaseState.REFUSED
            elif len(approvals) >= bound.agreement.confirm.owner_people:
                state = OwnerCaseState.APPROVED
            changed = replace(row, payload=payload)
            if state is not OwnerCaseState.AWAITING_DECISION:
                changed = replace(changed, state=_next(row, state), next_ms=caseclock.decided_slot_ms(node, row))
            store.update_case(node.store, tx, changed)
        return changed

    def _judge(self, tx: Tx, row: CaseRow) -> None:
        """Re-apply the match rule to the codes and find out what the case waits for."""
        node, settings = self._node, self._node.config.disclosure
        accepted = from_millis(row.opened_ms)
        decision, claim = self._decision(tx, row)
        state = disclosure.state_after(decision)
        if state is OwnerCaseState.APPROVED:
            next_ms = caseclock.decided_slot_ms(node, row)
        elif state is OwnerCaseState.AWAITING_DECISION:
            next_ms = millis(caseclock.last_slot(node, row))
        else:
            next_ms = millis(
                disclosure.random_slot_before(accepted, settings.not_disclosed_after_s, settings.slot_s, node.random)
            )
        payload = {**row.payload, "types": claim.types if claim else [], "judged": decision.reason.value}
        if claim is not None:
            name = claim.judgement
            payload["record_id"] = claim.record_id
            payload["band"] = "" if name.band is None else name.band.value
            payload["corroborators"] = [each.value for each in name.corroborators]
        moved = replace(row, state=_next(row, state), next_ms=next_ms, payload=payload)
        store.update_case(node.store, tx, moved)

    def _decision(self, tx: Tx, row: CaseRow) -> tuple[policy.Decision, Claim | None]:
        """Decide as of now: the record may have changed or gone since the case was opened."""
        node, p = self._node, row.payload
        bound = _bound_or_none(node, row)
        if bound is None:
            return policy.Decision(allowed=False, reason=policy.Reason.PURPOSE_NOT_AGREED), None
        claim = claim_of(node, tx, bound, row)
        decision = disclosure.decide_case(
            bound.agreement,
            request_of(row),
            claim.record if claim else None,
            approved_by=[approval["by"] for approval in p["approvals"]],
            now=node.clock.now(),
            synthetic=node.synthetic,
            provider_consent=released_fields(p["approvals"]),
        )
        return decision, claim

    def _release(self, tx: Tx, row: CaseRow) -> None:
        """Write the one CASE_OUTCOME of a case, and prepare what is served."""
        node, settings = self._node, self._node.config.disclosure
        now = node.clock.now()
        decision, claim = self._decision(tx, row)
        record = claim.record if claim else None
        state = OwnerCaseState(row.state)
        bound = node.bound_of_case(tx, row.agreement, OWNER, row.peer)
        agreement = bound.agreement
        sizes = disclosure.envelope_sizes(agreement)
        # Where nobody at the owner is asked, all is served from one slot; else what is no disclosure has to wait.
        later = disclosure.not_disclosed_at(from_millis(row.opened_ms), settings.not_disclosed_after_s)
        served = from_millis(row.due_ms) if row.quiet else now
        envelope = None
        if (row.quiet or state is OwnerCaseState.APPROVED) and decision.allowed and record is not None:
            try:
                envelope = disclosure.disclosed(
                    agreement, decision, record, case_id=row.request_id, epoch=row.epoch, served=served
                )
                padded = disclosure.encode_envelope(envelope, sizes)
            except (FormatError, ValueError):
                # Larger than any envelope: nothing may be cut off silently, so nothing is disclosed.
                envelope = None
        if envelope is None:
            served = served if row.quiet else later
            envelope = disclosure.not_disclosed(agreement, case_id=row.request_id, epoch=row.epoch, served=served)
            padded = disclosure.encode_envelope(envelope, sizes)
        salt = node.random.bytes(disclosure.SALT_BYTES)
        given = envelope.outcome is Outcome.DISCLOSED
        if state is OwnerCaseState.AWAITING_DECISION:
            state = disclosure.advance(state, OwnerCaseState.LAPSED)
        elif state is OwnerCaseState.APPROVED and not given:
            state = disclosure.advance(state, OwnerCaseState.AUTO_REFUSED)
        entry = node.append(
            tx,
            Event.CASE_OUTCOME,
            {
                "operation": "disclosure" if given else "consultation",
                "decision": envelope.outcome.value,
                "reason": decision.reason.value,
                "state": state.value,
                "fields": sorted(name.value for name in envelope.fields),
                "withheld": [name.value for name in decision.withheld],
                "record": f"{record.source.value}/{record.source_ref}" if record else "",
                "claimed_types": row.payload.get("types", []),
                "recipient": row.peer,
                "handling": list(envelope.handling),
                "approvals": row.payload["approvals"],
                "refusal": row.payload.get("refusal"),
                "case_reference": row.payload["case_reference"],
            },
            bound,
            epoch=row.epoch,
            request_id=row.request_id,
            purpose=agreement.purpose.value,
            source_commitment=disclosure.source_commitment(salt, padded),
        )
        if given and not disclosure.is_silent(agreement):
            node.count(tx, RELEASED, bound)
        note_release(node, tx, bound, row, envelope, claim, salt)
        payload = {
            **row.payload,
            "outcome": envelope.outcome.value,
            "envelope": padded.hex(),
            "envelope_signature": disclosure.sign_envelope(node.signing_key, padded).hex(),
            "salt": salt.hex(),
            "served_ms": millis(served),
            "released": sorted(name.value for name in envelope.fields),
            "source_commitment": disclosure.source_commitment(salt, padded).hex(),
            "erase_after": envelope.erase_after.isoformat(),
            "withheld": [name.value for name in decision.withheld],
            "reason": decision.reason.value,
            # Of whatever was judged, so that a data subject can be answered; -1 where no record stands behind it.
            "record_id": claim.record_id if claim is not None else row.payload.get("record_id", -1),
        }
        store.update_case(
            node.store,
            tx,
            replace(
                row,
                state=disclosure.advance(state, OwnerCaseState.RELEASED),
                due_ms=payload["served_ms"],
                # Next, it is erased.
                next_ms=caseclock.window_end_ms(node, agreement, row.opened_ms),
                leaf_index=entry.index,
                payload=payload,
            ),
        )


def _next(row: CaseRow, state: OwnerCaseState) -> OwnerCaseState:
    return disclosure.advance(OwnerCaseState(row.state), state)


def _bound_or_none(node: Node, row: CaseRow) -> Bound | None:
    try:
        return node.bound(row.agreement, OWNER, row.peer)
    except PurposeRefusedError:
        return None


def request_of(row: CaseRow) -> policy.DisclosureRequest:
    """Return what the querier said when it opened a case."""
    p, actors = row.payload, bytes.fromhex(row.payload["actors"])
    return policy.DisclosureRequest(
        agreement=row.agreement,
        purpose=p["purpose"],
        legal_basis=p["legal_basis"],
        case_reference=p["case_reference"],
        justification=p["justification"],
        querier_people=tuple(actors[i : i + 32].hex() for i in range(0, len(actors), 32)),
    )


def released_fields(approvals: Sequence[Mapping[str, Any]]) -> set[Field]:
    """Return the fields that every approval so far says the provider released."""
    said = [{Field(name) for name in approval.get("released", ())} for approval in approvals]
    return set.intersection(*said) if said else set()


@dataclass(frozen=True, slots=True)
class Claim:
    """What the redeem codes of a case prove."""

    record_id: int
    record: Record
    tokens: tuple[Token, ...]
    """Those of the record that the querier holds."""
    judgement: policy.Judgement
    """Of this node, by its own record."""

    @property
    def types(self) -> list[str]:
        """Their types, and of names the groups of their families, each once."""
        return sorted({token.word for token in self.tokens})


def claim_of(node: Node, tx: Tx, bound: Bound, row: CaseRow) -> Claim | None:
    """Return the record behind a ticket, if the redeem codes prove a match with it as it stands now."""
    p = row.payload
    epoch = owned.get_epoch(tx, row.agreement, row.epoch)
    if epoch is None:
        return None
    try:
        k_ticket, k_redeem = case_keys(node, epoch)
    except KeyUnavailableError:
        return None
    ticket_id = bytes.fromhex(p["ticket_id"])
    number = open_ticket_id(k_ticket, ticket_id)
    found = records.by_id(node.store, tx, number) if number is not None and number < 1 << 63 else None
    if number is None or found is None or not found[1] or found[0].category not in bound.agreement.categories:
        return None
    record = found[0]
    try:
        tokens = claimed_tokens(k_redeem, ticket_id, bytes.fromhex(p["redeem"]), node.tokens(bound, record))
    except ProtocolError:
        return None
    judgement = judge_claim(bound.agreement, tokens)
    if judgement.verdict is not policy.Verdict.MATCH:
        return None
    return Claim(number, record, tokens, judgement)


def _check_request(request: CaseRequest) -> None:
    sound = (
        len(request.ticket_id) == 16
        and len(request.request_id) == messages.REQUEST_ID_BYTES
        and 0 < len(request.redeem_codes) <= 8 * MAX_CODES
        and len(request.redeem_codes) % 8 == 0
        and 0 < len(request.actor_commitments) <= 32 * 16
        and len(request.actor_commitments) % 32 == 0
        and len(request.purpose) <= MAX_REFERENCE
        and len(request.legal_basis) <= MAX_REFERENCE
        and len(request.case_reference) <= MAX_REFERENCE
        and len(request.justification) <= MAX_TEXT
        and request.epoch < 1 << 53
    )
    if not sound:
        raise ProtocolError("a case has a field of wrong length")
