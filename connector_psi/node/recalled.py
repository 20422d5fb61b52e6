"""Recalls that peers send here: what they disclosed is wrong, or was withdrawn.

Rules:

1. From the moment a recall is here, nobody is shown what it is about: a wrong field is not read meanwhile.
2. A person acknowledges it, within two working days. In that transaction what was disclosed is erased, or replaced by
   what came with the recall, and the entry says so. The owner is then told, until it knows.
3. Retention goes first: what has to be erased is erased on its day, recalled or not.
4. Of several recalls of one case the newest counts.
5. Where the owner gets no notice it is told by the clock that each recall came, cover or not, and never what people
   did with it; that stands in this node's log.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from cryptography.exceptions import InvalidSignature

from connector_psi import disclosure, pki
from connector_psi.audit.entries import Event
from connector_psi.disclosure import CaseState, Envelope, Outcome, RecallEffect
from connector_psi.errors import (
    ConflictError,
    FormatError,
    InputError,
    ProtocolError,
    PurposeRefusedError,
)
from connector_psi.node.erasure import RECALLED, erase_case
from connector_psi.node.node import QUERIER, Bound, Node, millis
from connector_psi.node.outbox import ACKNOWLEDGEMENTS, Item, Outbox
from connector_psi.node.ports import Acknowledgement, Connector, RecallMessage
from connector_psi.node.recalling import MAX_TEXT, QUIET_KEPT_MS, acknowledgement_bytes, due_ms
from connector_psi.node.taking import verify_leaf
from connector_psi.protocol import messages
from connector_psi.storage import cases
from connector_psi.storage import recalls as store
from connector_psi.storage.cases import NEVER_MS, CaseRow
from connector_psi.storage.recalls import RecallRow
from connector_psi.storage.store import Tx

KEPT_MS = 3 * 366 * 86_400_000
"""Of an acknowledged recall: as long as any retention class keeps what it was about."""

logger = structlog.get_logger("connector_psi.node")


class Recalled:
    """Use cases of the recipient."""

    def __init__(self, node: Node, connector: Connector, outbox: Outbox) -> None:
        self._node = node
        self._connector = connector
        self._outbox = outbox

    def receive(self, peer: str, message: RecallMessage) -> None:
        """Take a recall in; the same one again changes nothing.

        Raises:
            PurposeRefusedError: No such agreement with this peer, or no such case of it.
            ProtocolError: Signature, envelope or entry do not hold.
            ConflictError: Another recall came under this id.
        """
        node = self._node
        node.check_alive()
        if len(message.case_id) != messages.REQUEST_ID_BYTES or len(message.recall_id) != messages.REQUEST_ID_BYTES:
            raise ProtocolError("a recall has a field of wrong length")
        with node.store.read() as tx:
            bound = node.bound_of_case(tx, message.agreement, QUERIER, peer)
        envelope = self._verified(bound, message)
        mac, silent = node.store.mac(message.signature), disclosure.is_silent(bound.agreement)
        with node.store.write() as tx:
            known = store.request_mac(tx, cases.QUERIER, peer, message.recall_id)
            if known is not None:
                if not hmac.compare_digest(known, mac):
                    raise ConflictError("a recall id was used for another recall")
                return
            case = cases.get_case(node.store, tx, cases.QUERIER, peer, message.case_id)
            if case is not None and (case.agreement != bound.code or case.quiet):
                case = None
            if case is None and not silent:
                raise PurposeRefusedError("no such case")
            # Nothing of it: where the owner gets no notice it sends covers.
            cover = case is None
            entry = node.append(
                tx,
                Event.RECALL,
                {
                    "operation": "recall received",
                    "case": message.case_id.hex(),
                    "cause": message.cause.name.lower(),
                    "outcome": envelope.outcome.value,
                    "fields": sorted(name.value for name in envelope.fields),
                    "cover": cover,
                    "owner_leaf": message.proof.index,
                    "owner_checkpoint": message.proof.checkpoint.decode("utf-8", "replace"),
                },
                bound,
                request_id=message.recall_id,
                parent_id=message.case_id,
                source_commitment=disclosure.source_commitment(message.salt, message.envelope),
            )
            row = RecallRow(
                side=cases.QUERIER,
                peer=peer,
                recall_id=message.recall_id,
                case_id=message.case_id,
                agreement=bound.code,
                state=store.ACKNOWLEDGED if cover else store.OPEN,
                sent_ms=message.sent_ms,
                # From when it came: an owner that was away has used up nobody's two days.
                due_ms=due_ms(node.now_ms()),
                next_ms=node.now_ms() if silent else NEVER_MS,
                leaf_index=entry.index,
                quiet=cover,
                payload={
                    "cause": message.cause.name.lower(),
                    "outcome": envelope.outcome.value,
                    "fields": sorted(name.value for name in envelope.fields),
                    "received_ms": node.now_ms(),
                    "message": _kept(message),
                },
            )
            store.put_recall(node.store, tx, row, mac)
            latest = store.recalls_of_case(node.store, tx, cases.QUERIER, peer, message.case_id)[-1]
            # One that comes late, after a newer one, hides nothing.
            if case is not None and latest.recall_id == message.recall_id:
                payload = {**case.payload, "recalled": message.recall_id.hex()}
                cases.update_case(node.store, tx, replace(case, payload=payload))

    def acknowledge(self, recall_id: bytes, person: pki.PersonIdentity, note: str = "") -> RecallRow:
        """Acknowledge a recall: what was disclosed is erased or replaced with it.

        Args:
            recall_id: Of the recall.
            person: Who acknowledges it.
            note: What the person did beside that, such as whom they told; sealed in the log.

        Raises:
            PurposeRefusedError: There is no such recall.
            InputError: The note is too long.
            ConflictError: It is acknowledged already, or the outcome of its case did not come yet.
        """
        node = self._node
        node.check_alive()
        if len(note) > MAX_TEXT:
            raise InputError("note: more than 4000 characters")
        with node.store.write() as tx:
            row = store.find_recall(node.store, tx, recall_id, side=cases.QUERIER)
            if row is None:
                raise PurposeRefusedError("no such recall here to acknowledge")
            if row.state == store.ACKNOWLEDGED:
                raise ConflictError("the recall is acknowledged already")
            case = cases.get_case(node.store, tx, cases.QUERIER, row.peer, row.case_id)
            if case is not None and case.state in {CaseState.DRAFTED, CaseState.PENDING}:
                raise ConflictError("the outcome of the case did not come yet; acknowledge once it is here")
            bound = node.bound_of_case(tx, row.agreement, QUERIER, row.peer)
            latest = store.recalls_of_case(node.store, tx, cases.QUERIER, row.peer, row.case_id)[-1]
            effect = self._apply(tx, row, case, superseded=latest.recall_id != row.recall_id)
            now = node.now_ms()
            entry = node.append(
                tx,
                Event.RECALL,
                {
                    "operation": "recall acknowledged",
                    "case": row.case_id.hex(),
                    "effect": effect.name.lower(),
                    "by": person.uri,
                    "note": note,
                },
                bound,
                request_id=row.recall_id,
                parent_id=row.case_id,
            )
            payload = {name: value for name, value in row.payload.items() if name != "message"}
            payload["acknowledged"] = {
                "at_ms": now,
                "by": person.uri,
                "note": note,
                "effect": effect.name.lower(),
                "leaf": entry.index,
            }
            silent = disclosure.is_silent(bound.agreement)
            done = replace(
                row,
                state=store.ACKNOWLEDGED,
                # Where the owner gets no notice the clock told it what it may know, or is about to.
                next_ms=row.next_ms if silent else now,
                payload=payload,
            )
            store.update_recall(node.store, tx, done)
        return done

    def _apply(self, tx: Tx, row: RecallRow, case: CaseRow | None, *, superseded: bool) -> RecallEffect:
        if superseded:
            return RecallEffect.SUPERSEDED
        if case is None or case.state != CaseState.DISCLOSED:
            return RecallEffect.NOTHING_HELD
        node = self._node
        payload = {name: value for name, value in case.payload.items() if name != "recalled"}
        case = replace(case, payload=payload)
        if row.payload["outcome"] == Outcome.NOT_DISCLOSED:
            erase_case(node, tx, case, RECALLED)
            return RecallEffect.ERASED
        kept = row.payload["message"]
        envelope = stored_envelope(kept["envelope"])
        payload["outcome"] = _replaced(envelope, row, kept)
        cases.update_case(node.store, tx, replace(case, next_ms=millis(envelope.erase_after), payload=payload))
        return RecallEffect.REPLACED

    def advance(self) -> int:
        """Tell owners of what was acknowledged. Returns how many were told."""
        self._node.check_alive()
        return self._outbox.turn(ACKNOWLEDGEMENTS, self._tell).moved

    def forget(self) -> int:
        """Delete acknowledged recalls that nothing is kept of any more but in the log, and old covers."""
        node = self._node
        with node.store.write() as tx:
            done = store.drop_old(tx, cases.QUERIER, node.now_ms() - QUIET_KEPT_MS, quiet=True)
            return done + store.drop_old(tx, cases.QUERIER, node.now_ms() - KEPT_MS, quiet=False)

    def _tell(self, bound: Bound, item: Item) -> int:
        node, peer, recall_id = self._node, item.peer, item.id
        with node.store.read() as tx:
            row = store.get_recall(node.store, tx, cases.QUERIER, peer, recall_id)
        if row is None:
            return 0
        if disclosure.is_silent(bound.agreement):
            effect, at_ms = RecallEffect.RECEIVED, row.payload["received_ms"]
        else:
            acknowledged = row.payload["acknowledged"]
            effect, at_ms = RecallEffect[acknowledged["effect"].upper()], acknowledged["at_ms"]
        message = Acknowledgement(row.agreement, recall_id, effect, at_ms, b"")
        message = replace(message, signature=node.signing_key.sign(acknowledgement_bytes(node.authority, message)))
        self._connector.owner(peer).acknowledge_recall(message)
        with node.store.write() as tx:
            store.postpone_recall(tx, cases.QUERIER, peer, recall_id, NEVER_MS)
        return 1

    def _verified(self, bound: Bound, message: RecallMessage) -> Envelope:
        peer = self._node.peer(bound.peer)
        signed = messages.recall_bytes(
            owner=bound.peer,
            agreement=message.agreement,
            case_id=message.case_id,
            recall_id=message.recall_id,
            cause=message.cause,
            sent_ms=message.sent_ms,
            envelope=message.envelope,
        )
        try:
            peer.public_key.verify(message.signature, signed)
        except InvalidSignature:
            raise ProtocolError(f"{bound.code}: the signature of a recall does not verify") from None
        try:
            envelope = disclosure.parse_envelope(message.envelope, disclosure.envelope_sizes(bound.agreement))
            commitment = disclosure.source_commitment(message.salt, message.envelope)
        except FormatError:
            raise ProtocolError(f"{bound.code}: malformed recall") from None
        disclosure.verify_release(bound.agreement, envelope, message.case_id)
        leaf = verify_leaf(self._node, bound, message.proof, Event.RECALL, epoch=None)
        if leaf.request_id != message.recall_id or leaf.source_commitment != commitment:
            raise ProtocolError(f"{bound.code}: the owner's log entry is about something else")
        return envelope


def stored_envelope(text: str) -> Envelope:
    """Return the envelope of a stored recall; its size was checked when it came."""
    padded = bytes.fromhex(text)
    return disclosure.parse_envelope(padded, (len(padded),))


def _kept(message: RecallMessage) -> dict[str, Any]:
    return {
        "envelope": message.envelope.hex(),
        "signature": message.signature.hex(),
        "salt": message.salt.hex(),
        "cause": int(message.cause),
        "sent_ms": message.sent_ms,
        "leaf": message.proof.leaf.decode("ascii"),
        "index": message.proof.index,
        "proof": [digest.hex() for digest in message.proof.proof],
        "checkpoint": message.proof.checkpoint.decode("utf-8"),
    }


def _replaced(envelope: Envelope, row: RecallRow, kept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **disclosure.outcome_terms(envelope),
        # The signature is over the bytes of a recall: cause and time belong to it.
        "receipt": {**kept, "recall_id": row.recall_id.hex()},
    }
