"""From a hit to a disclosure, at both sides.

Querier: open a case, collect its outcome at the slots, verify, log, keep. Owner: take cases in, re-apply the match
rule, let people decide,
write one CASE_OUTCOME a case at its slot, serve.

Two rules hold everything together. Every case gets the same answer (PENDING) and writes the same two leaves, whatever
becomes of it;
so the RPC only stores and logs, and ``advance_owned`` judges later, on the clock. And an envelope is served only from
the store, after its leaf is durable and a signed checkpoint covers it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from cryptography.exceptions import InvalidSignature

from connector_psi import disclosure, pki, policy
from connector_psi.audit.entries import Event
from connector_psi.disclosure import CaseState, Outcome, OwnerCaseState
from connector_psi.domain.purposes import Condition, HandlingCode, OwnerNotice
from connector_psi.domain.records import Field, Record
from connector_psi.encoding.tickets import open_ticket_id
from connector_psi.errors import (
    ApprovalMissingError,
    AuditError,
    ConflictError,
    FormatError,
    KeyUnavailableError,
    PeerError,
    ProtocolError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node.node import OWNER, QUERIER, Bound, Node, from_millis, millis
from connector_psi.node.ports import CaseRequest, Connector, OutcomeAnswer
from connector_psi.node.publishing import case_keys, record_tokens
from connector_psi.node.querying import verify_leaf
from connector_psi.protocol import messages
from connector_psi.protocol.owner import claimed_types
from connector_psi.storage import cases as store
from connector_psi.storage import owned, peers, queried, records
from connector_psi.storage.cases import NEVER_MS, CaseRow
from connector_psi.storage.store import Tx

logger = structlog.get_logger("connector_psi.node")

MAX_TEXT = 4000
MAX_REFERENCE = 200
MAX_CODES = 4096
PAGE = 100
RETRY_MS = 30_000


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case as people of this authority see it."""

    row: CaseRow
    fields: Mapping[str, tuple[str, ...]]
    withheld: tuple[str, ...] = ()
    people_needed: int = 0
    people_approved: int = 0
    record_ref: str = ""


class Casework:
    """Use cases of cases."""

    def __init__(self, node: Node, connector: Connector) -> None:
        self._node = node
        self._connector = connector

    # Querier

    def open(
        self,
        match_id: str,
        person: pki.PersonIdentity,
        *,
        purpose: str,
        legal_basis: str,
        case_reference: str,
        justification: str,
    ) -> CaseRow:
        """Open a case for a confirmed match; sent to the owner by ``advance_queried``.

        Raises:
            PurposeRefusedError: No such match, or purpose or legal basis are not agreed.
            ApprovalMissingError: The match is not confirmed, or reference or justification are missing.
            ConflictError: A case is open for it already.
        """
        node = self._node
        if not case_reference.strip() or len(case_reference) > MAX_REFERENCE:
            raise ApprovalMissingError("a case reference is needed, of at most 200 characters")
        if not justification.strip() or len(justification) > MAX_TEXT:
            raise ApprovalMissingError("a justification is needed, of at most 4000 characters")
        with node.store.write() as tx:
            match = queried.get_match(node.store, tx, match_id)
            if match is None:
                raise PurposeRefusedError("no such match")
            bound = node.bound(match.agreement, QUERIER)
            if match.state != queried.CONFIRMED:
                raise ApprovalMissingError(f"the match is {match.state}, not confirmed")
            if purpose != bound.agreement.purpose.value:
                raise PurposeRefusedError(f"{bound.code}: the purpose is not agreed")
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
                next_ms=now,
                match_id=match_id,
                leaf_index=None,
                payload={
                    "ticket_id": match.payload["ticket_id"],
                    "redeem": sorted(set(match.payload["redeem"])),
                    "purpose": purpose,
                    "legal_basis": legal_basis,
                    "case_reference": case_reference,
                    "justification": justification,
                    "actors": [pseudonym.hex() for pseudonym in pseudonyms],
                    "types": match.payload["types"],
                    "record_ref": match.payload["record_ref"],
                },
            )
            store.put_case(node.store, tx, row)
            node.append(
                tx,
                Event.CASE_OPEN,
                {
                    "operation": "consultation",
                    "officer": person.uri,
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

    def advance_queried(self) -> int:
        """Send drafted cases and collect outcomes that are due. Returns how many cases moved.

        A peer that cannot be reached is asked again soon, one that refuses or whose answer does not hold at the next
        slot; nothing is lost, and no other case is kept waiting.

        Raises:
            PeerError: The first answer that does not hold, after all cases had their turn.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            due = store.due_cases(tx, store.QUERIER, node.now_ms())
        moved = 0
        away: set[str] = set()
        failure: PeerError | None = None
        for peer, request_id in due:
            if peer in away:
                continue
            try:
                moved += self._advance_queried(peer, request_id)
            except AuditError:
                raise
            except UnavailableError:
                # Every further call could take as long to fail as this one did.
                away.add(peer)
                now = node.now_ms()
                with node.store.write() as tx:
                    store.postpone_peer(tx, store.QUERIER, peer, now, min(self._next_slot_ms(now), now + RETRY_MS))
            except Exception as error:  # noqa: BLE001 - one case must not keep the others back
                self._park(store.QUERIER, peer, request_id, error)
                if isinstance(error, PeerError):
                    failure = failure or error
        if failure is not None:
            raise failure
        return moved

    def _advance_queried(self, peer: str, request_id: bytes) -> int:
        node = self._node
        with node.store.read() as tx:
            row = store.get_case(node.store, tx, store.QUERIER, peer, request_id)
        if row is None:
            return 0
        bound = node.bound(row.agreement, QUERIER, row.peer)
        return self._send(bound, row) if row.state == CaseState.DRAFTED else self._collect(bound, row)

    def _send(self, bound: Bound, row: CaseRow) -> int:
        node = self._node
        request = case_request(node, row)
        try:
            self._connector.owner(bound.peer).open_case(request)
        except ConflictError:
            raise ProtocolError(f"{bound.code}: the owner knows another case of this id") from None
        with node.store.write() as tx:
            if not self._unmoved(tx, row):
                return 0
            store.update_case(
                node.store, tx, replace(row, state=CaseState.PENDING, next_ms=self._next_slot_ms(node.now_ms()))
            )
        return 1

    def _collect(self, bound: Bound, row: CaseRow) -> int:
        node = self._node
        answer = self._connector.owner(bound.peer).get_outcome(bound.code, row.request_id)
        if answer is None:
            with node.store.write() as tx:
                next_ms = self._next_slot_ms(node.now_ms())
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
            payload = {**row.payload, "outcome": _outcome_payload(envelope, answer)}
            store.update_case(
                node.store,
                tx,
                replace(row, state=state, next_ms=NEVER_MS, leaf_index=entry.index, payload=payload),
            )
        return 1

    def _verified(self, bound: Bound, row: CaseRow, answer: OutcomeAnswer) -> disclosure.Envelope:
        peer = self._node.peer(bound.peer)
        disclosure.verify_envelope(peer.public_key, answer.envelope, answer.signature)
        try:
            envelope = disclosure.parse_envelope(answer.envelope)
            commitment = disclosure.source_commitment(answer.salt, answer.envelope)
        except FormatError:
            raise ProtocolError(f"{bound.code}: malformed disclosure") from None
        disclosure.verify_release(bound.agreement, envelope, row.request_id)
        leaf = verify_leaf(answer.proof, peer.log_vkey, Event.CASE_OUTCOME, bound.code, epoch=row.epoch)
        if leaf.request_id != row.request_id or leaf.source_commitment != commitment:
            raise ProtocolError(f"{bound.code}: the owner's log entry is about something else")
        return envelope

    def _unmoved(self, tx: Tx, row: CaseRow) -> bool:
        """Whether a case is as it was read; asked under the write lock, so that no step is done twice."""
        known = store.get_case(self._node.store, tx, row.side, row.peer, row.request_id)
        return known is not None and known.state == row.state

    def _park(self, side: str, peer: str, request_id: bytes, error: Exception) -> None:
        """Leave a case that cannot be moved now to the next slot."""
        node = self._node
        # The type alone: the text of a defect may hold a value.
        logger.warning("case.parked", side=side, case=request_id.hex(), error=type(error).__name__)
        with node.store.write() as tx:
            store.postpone_case(tx, side, peer, request_id, self._next_slot_ms(node.now_ms()))

    def _next_slot_ms(self, now_ms: int) -> int:
        return millis(disclosure.next_slot(from_millis(now_ms), self._node.config.disclosure.slot_s))

    # Owner: taking in and serving

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
            due = now + node.config.disclosure.not_disclosed_after_s * 1000
            row = CaseRow(
                store.OWNER, peer, request.request_id, bound.code, request.epoch, OwnerCaseState.RECEIVED, now, due,
                now,
                None, None, payload,
            )  # fmt: skip
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
        node.bound(code, OWNER, peer)
        # Whatever became of the case, the same is done up to here and to the first return: the clock is read before
        # anything is known, and the row stays closed, for opening it takes longer once there is an outcome in it.
        now = node.now_ms()
        with node.store.read() as tx:
            head = store.get_head(tx, peer, request_id)
        if head is None or head.agreement != code:
            raise PurposeRefusedError("no such case")
        if not (head.state == OwnerCaseState.RELEASED) & (now >= head.due_ms):
            return None
        with node.store.read() as tx:
            row = store.get_case(node.store, tx, store.OWNER, peer, request_id)
        assert row is not None
        assert row.leaf_index is not None
        if now < row.payload["served_ms"]:
            return None
        try:
            proof = node.leaf_proof(row.leaf_index)
        except UnavailableError:
            # No checkpoint covers the entry yet. The peer sees PENDING, as for any case that is not served.
            return None
        p = row.payload
        return OutcomeAnswer(
            bytes.fromhex(p["envelope"]), bytes.fromhex(p["envelope_signature"]), bytes.fromhex(p["salt"]), proof
        )

    # Owner: judging, deciding, releasing

    def advance_owned(self) -> int:
        """Judge received cases and write the outcomes that are due. Returns how many cases were due.

        A case that cannot be moved is left to the next slot, and no other case is kept waiting.

        Raises:
            UnavailableError: The log cannot be written now; what is due stays due.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            due = store.due_cases(tx, store.OWNER, node.now_ms())
        for peer, request_id in due:
            try:
                with node.store.write() as tx:
                    # Read under the write lock: a person may have decided since.
                    row = store.get_case(node.store, tx, store.OWNER, peer, request_id)
                    if row is None or row.next_ms > node.now_ms():
                        continue
                    if row.state == OwnerCaseState.RECEIVED:
                        self._judge(tx, row)
                    elif row.state != OwnerCaseState.RELEASED:
                        self._release(tx, row)
            except (AuditError, UnavailableError):
                raise
            except Exception as error:  # noqa: BLE001 - one case must not keep the others back
                self._park(store.OWNER, peer, request_id, error)
        return len(due)

    def decide(self, request_id: bytes, person: pki.PersonIdentity, reason: str, *, approve: bool) -> CaseRow:
        """A person at the owner approves or refuses a case.

        Raises:
            ApprovalMissingError: There is no reason.
            PurposeRefusedError: There is no such case at this owner.
            ConflictError: It is decided already, this person has approved it already, or the last slot is over.
        """
        node = self._node
        if not reason.strip() or len(reason) > MAX_TEXT:
            raise ApprovalMissingError("a reason is needed, of at most 4000 characters")
        with node.store.write() as tx:
            # A peer chooses the ids of its cases, and could choose that of a case that we opened at it.
            row = store.find_case(node.store, tx, request_id, side=store.OWNER)
            if row is None:
                raise PurposeRefusedError("no such case")
            bound = node.bound(row.agreement, OWNER)
            if row.state != OwnerCaseState.AWAITING_DECISION:
                raise ConflictError(f"the case is {row.state}")
            if node.clock.now() >= self._last_slot(row):
                raise ConflictError("the time to decide is over")
            approvals = list(row.payload["approvals"])
            if approve:
                if person.id in {a["by"].rsplit(":", 1)[-1] for a in approvals}:
                    raise ConflictError("this person has approved the case already")
                approvals.append({"by": person.uri, "reason": reason})
            payload = {**row.payload, "approvals": approvals}
            state = OwnerCaseState.AWAITING_DECISION
            if not approve:
                payload["refusal"] = {"by": person.uri, "reason": reason}
                state = OwnerCaseState.REFUSED
            elif len(approvals) >= bound.agreement.confirm.owner_people:
                state = OwnerCaseState.APPROVED
            changed = replace(row, state=state, payload=payload)
            if state is not OwnerCaseState.AWAITING_DECISION:
                changed = replace(changed, next_ms=self._decided_slot_ms(row))
            store.update_case(node.store, tx, changed)
        return changed

    def _decided_slot_ms(self, row: CaseRow) -> int:
        settings = self._node.config.disclosure
        return millis(
            disclosure.outcome_slot(
                from_millis(row.opened_ms), self._node.clock.now(), settings.not_disclosed_after_s, settings.slot_s
            )
        )

    def _last_slot(self, row: CaseRow) -> datetime:
        settings = self._node.config.disclosure
        return disclosure.last_slot(from_millis(row.opened_ms), settings.not_disclosed_after_s, settings.slot_s)

    def _judge(self, tx: Tx, row: CaseRow) -> None:
        """Re-apply the match rule to the codes and find out what the case waits for."""
        node, settings = self._node, self._node.config.disclosure
        accepted = from_millis(row.opened_ms)
        decision, types, _ = self._decision(tx, row)
        state = disclosure.state_after(decision)
        if state is OwnerCaseState.APPROVED:
            next_ms = self._decided_slot_ms(row)
        elif state is OwnerCaseState.AWAITING_DECISION:
            next_ms = millis(self._last_slot(row))
        else:
            next_ms = millis(
                disclosure.random_slot_before(accepted, settings.not_disclosed_after_s, settings.slot_s, node.random)
            )
        payload = {**row.payload, "types": types, "judged": decision.reason.value}
        store.update_case(node.store, tx, replace(row, state=state, next_ms=next_ms, payload=payload))

    def _decision(self, tx: Tx, row: CaseRow) -> tuple[policy.Decision, list[str], Record | None]:
        """Decide as of now: the record may have changed or gone since the case was opened."""
        node, p = self._node, row.payload
        bound = self._bound_or_none(row)
        if bound is None:
            return policy.Decision(allowed=False, reason=policy.Reason.PURPOSE_NOT_AGREED), [], None
        record, types = self._claimed(tx, bound, row)
        actors = bytes.fromhex(p["actors"])
        decision = disclosure.decide_case(
            bound.agreement,
            policy.DisclosureRequest(
                agreement=row.agreement,
                purpose=p["purpose"],
                legal_basis=p["legal_basis"],
                case_reference=p["case_reference"],
                justification=p["justification"],
                querier_people=tuple(actors[i : i + 32].hex() for i in range(0, len(actors), 32)),
            ),
            record,
            approved_by=[approval["by"] for approval in p["approvals"]],
            now=node.clock.now(),
            synthetic=node.synthetic,
        )
        return decision, types, record

    def _bound_or_none(self, row: CaseRow) -> Bound | None:
        try:
            return self._node.bound(row.agreement, OWNER, row.peer)
        except PurposeRefusedError:
            return None

    def _claimed(self, tx: Tx, bound: Bound, row: CaseRow) -> tuple[Record | None, list[str]]:
        """The record behind a ticket, if the redeem codes prove a match with it as it stands now."""
        node, p = self._node, row.payload
        epoch = owned.get_epoch(tx, row.agreement, row.epoch)
        if epoch is None:
            return None, []
        try:
            k_ticket, k_redeem = case_keys(node, epoch)
        except KeyUnavailableError:
            return None, []
        ticket_id = bytes.fromhex(p["ticket_id"])
        number = open_ticket_id(k_ticket, ticket_id)
        found = records.by_id(node.store, tx, number) if number is not None and number < 1 << 63 else None
        if found is None or not found[1] or found[0].category not in bound.agreement.categories:
            return None, []
        record = found[0]
        try:
            types = claimed_types(
                k_redeem, ticket_id, bytes.fromhex(p["redeem"]), record_tokens(bound.agreement, record)
            )
        except ProtocolError:
            return None, []
        if policy.judge(bound.agreement, types) is not policy.Verdict.MATCH:
            return None, []
        return record, sorted({t.value for t in types})

    def _release(self, tx: Tx, row: CaseRow) -> None:
        """Write the one CASE_OUTCOME of a case, and prepare what is served."""
        node, settings = self._node, self._node.config.disclosure
        now = node.clock.now()
        decision, _, record = self._decision(tx, row)
        state = OwnerCaseState(row.state)
        bound = self._bound_or_none(row)
        agreement = bound.agreement if bound is not None else self._stored_agreement(tx, row)
        accepted = from_millis(row.opened_ms)
        envelope = None
        if state is OwnerCaseState.APPROVED and decision.allowed and record is not None:
            try:
                envelope = disclosure.disclosed(
                    agreement, decision, record, case_id=row.request_id, epoch=row.epoch, served=now
                )
                padded = disclosure.encode_envelope(envelope)
            except (FormatError, ValueError):
                # Larger than any envelope: nothing may be cut off silently, so nothing is disclosed.
                envelope = None
        if envelope is None:
            envelope = disclosure.not_disclosed(
                agreement,
                case_id=row.request_id,
                epoch=row.epoch,
                accepted=accepted,
                t_s=settings.not_disclosed_after_s,
            )
            padded = disclosure.encode_envelope(envelope)
        salt = node.random.bytes(disclosure.SALT_BYTES)
        given = envelope.outcome is Outcome.DISCLOSED
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
            bound or Bound(agreement, policy.policy_hash(agreement), OWNER, row.peer),
            epoch=row.epoch,
            request_id=row.request_id,
            purpose=agreement.purpose.value,
            source_commitment=disclosure.source_commitment(salt, padded),
        )
        served = now if given else disclosure.not_disclosed_at(accepted, settings.not_disclosed_after_s)
        payload = {
            **row.payload,
            "outcome": envelope.outcome.value,
            "envelope": padded.hex(),
            "envelope_signature": disclosure.sign_envelope(node.signing_key, padded).hex(),
            "salt": salt.hex(),
            "served_ms": millis(served),
            "released": sorted(name.value for name in envelope.fields),
            "withheld": [name.value for name in decision.withheld],
            "reason": decision.reason.value,
        }
        store.update_case(
            node.store,
            tx,
            replace(
                row,
                state=OwnerCaseState.RELEASED,
                due_ms=payload["served_ms"],
                next_ms=NEVER_MS,
                leaf_index=entry.index,
                payload=payload,
            ),
        )

    def _stored_agreement(self, tx: Tx, row: CaseRow) -> policy.Agreement:
        """The agreement of a case whose peer was revoked, or that left the policy, since."""
        stored = peers.get_agreement(tx, row.agreement)
        if stored is not None:
            return policy.Agreement.model_validate_json(stored.definition)
        for template in self._node.pack.templates:
            if row.agreement.startswith(f"{template.code}:"):
                querier, _, owner = row.agreement.partition(":")[2].partition("-")
                return policy.instantiate(template, querier, owner, synthetic=self._node.synthetic)
        raise PurposeRefusedError(f"{row.agreement}: not in the policy any more")

    # Reading

    def list(self, states: tuple[str, ...] = (), limit: int = 0, offset: int = 0) -> list[CaseView]:
        """Return cases of both sides, oldest first, without their fields, at most 100.

        Cases under an agreement without notice are not shown at their owner.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            rows = store.list_cases(
                node.store,
                tx,
                states=states,
                hidden=[b.code for b in node.agreements(OWNER) if b.agreement.owner_notice is OwnerNotice.NONE],
                limit=min(limit or PAGE, PAGE),
                offset=offset,
            )
            return [replace(self._view(tx, row), fields={}, withheld=()) for row in rows]

    def get(self, request_id: bytes) -> CaseView:
        """Return one case.

        Raises:
            PurposeRefusedError: There is none.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            row = store.find_case(node.store, tx, request_id)
            if row is None or self._silent(row):
                raise PurposeRefusedError("no such case")
            return self._view(tx, row)

    def _silent(self, row: CaseRow) -> bool:
        if row.side != store.OWNER:
            return False
        bound = next((b for b in self._node.agreements(OWNER) if b.code == row.agreement), None)
        return bound is not None and bound.agreement.owner_notice is OwnerNotice.NONE

    def _view(self, tx: Tx, row: CaseRow) -> CaseView:
        bound = next((b for b in self._node.agreements() if b.code == row.agreement), None)
        if row.side == store.QUERIER:
            outcome = row.payload.get("outcome", {})
            fields = {name: tuple(values) for name, values in outcome.get("fields", {}).items()}
            needed = bound.agreement.confirm.querier_people if bound else 0
            return CaseView(row, fields, (), needed, len(row.payload["actors"]), row.payload["record_ref"])
        needed = bound.agreement.confirm.owner_people if bound else 0
        approved = len(row.payload["approvals"])
        if row.state == OwnerCaseState.RELEASED:
            if row.payload["outcome"] != Outcome.DISCLOSED:
                return CaseView(row, {}, tuple(row.payload["withheld"]), needed, approved)
            envelope = disclosure.parse_envelope(bytes.fromhex(row.payload["envelope"]))
            fields = {name.value: values for name, values in envelope.fields.items()}
            return CaseView(row, fields, tuple(row.payload["withheld"]), needed, approved)
        if bound is None:
            return CaseView(row, {}, (), needed, approved)
        record, _ = self._claimed(tx, bound, row)
        if record is None:
            return CaseView(row, {}, (), needed, approved)
        shown = _would_disclose(bound.agreement, record)
        withheld = tuple(sorted(f.value for f in record.fields if f not in shown))
        return CaseView(row, {f.value: record.fields[f] for f in shown}, withheld, needed, approved, record.source_ref)


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


def _outcome_payload(envelope: disclosure.Envelope, answer: OutcomeAnswer) -> dict[str, Any]:
    return {
        "outcome": envelope.outcome.value,
        "fields": {name.value: list(values) for name, values in envelope.fields.items()},
        "handling": list(envelope.handling),
        "evaluation": list(envelope.evaluation),
        "obligations": [obligation.value for obligation in envelope.obligations],
        "retention_class": envelope.retention_class.value,
        "erase_after": envelope.erase_after.isoformat(),
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


def _would_disclose(agreement: policy.Agreement, record: Record) -> tuple[Field, ...]:
    """The fields that an approval now would disclose, for the person who decides."""
    provider_allows = set(policy.handling_codes_of(record.fields.get(Field.HANDLING_CODES, ()))) <= {
        HandlingCode.H0,
        HandlingCode.H1,
    }
    return tuple(
        name
        for name, condition in sorted(agreement.disclose.items())
        if record.fields.get(name)
        and (
            condition in {Condition.ALWAYS, Condition.IF_PRESENT}
            or (condition is Condition.PROVIDER_CONSENT and provider_allows)
        )
    )
