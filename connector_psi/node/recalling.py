"""Recalls that this node sends: what it disclosed is wrong, or was withdrawn, and every recipient is told.

Rules:

1. A recall is a new envelope of the case: one that says NOT_DISCLOSED takes back what was disclosed, one that discloses
   replaces it, under the terms, approvals and retention of the case as it was.
2. It is due when a record is withdrawn, or changes in a field that was disclosed or in the identifiers that the match
   was about; a change of anything else, and the expiry of a record, are none. A person may also send one.
3. Its RECALL entry is durable and under a checkpoint before the first byte leaves, as of a disclosure. It is sent until
   the recipient took it; who is told of it there has two working days.
4. Where the owner gets no notice one recall an agreement leaves at every slot, a cover where none is due; entries, rows
   and messages of both have one form, and nobody here is shown either.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import structlog
from cryptography.exceptions import InvalidSignature

from connector_psi import disclosure, pki, policy
from connector_psi.audit.entries import Event
from connector_psi.disclosure import Envelope, Outcome, RecallCause
from connector_psi.domain.records import Field, Record
from connector_psi.errors import (
    ApprovalMissingError,
    AuditError,
    ConflictError,
    FormatError,
    ProtocolError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node.node import OWNER, Bound, Node, from_millis, millis
from connector_psi.node.outbox import RECALLS, Item, Outbox
from connector_psi.node.ports import Acknowledgement, Connector, RecallMessage
from connector_psi.node.received import released_fields, request_of
from connector_psi.node.releases import field_mac, token_mac
from connector_psi.protocol import messages
from connector_psi.protocol.tokens import judge_claim
from connector_psi.storage import cases, records
from connector_psi.storage import recalls as store
from connector_psi.storage.cases import NEVER_MS, CaseRow
from connector_psi.storage.recalls import RecallRow, Release
from connector_psi.storage.store import Tx

logger = structlog.get_logger("connector_psi.node")

MAX_TEXT = 4000
QUIET_KEPT_MS = 7 * 86_400_000
"""How long an acknowledged recall without notice is kept, so that an acknowledgement that comes again is known."""
CURSOR_KEPT_MS = 60_000
"""How long the changes that were looked through may be looked through again after a crash."""
ENDED_KEPT_MS = 60_000
"""How long it is believed which agreements something was disclosed under."""
_CHUNK = 2_000


class Recalling:
    """Use cases of the owner's recalls."""

    def __init__(self, node: Node, connector: Connector, outbox: Outbox) -> None:
        self._node = node
        self._connector = connector
        self._outbox = outbox
        # How far the changes of records were looked through, by agreement. What stands in the store is older: after a
        # crash some are looked through again, and what was told is told by then.
        self._cursors: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._ended: list[tuple[str, str]] = []
        self._ended_ms = -ENDED_KEPT_MS
        # Without notice to the owner: records that wait for their slot.
        self._waiting: dict[str, list[int]] = {}

    # By a person

    def send(self, case_id: bytes, person: pki.PersonIdentity, reason: str, *, withdraw: bool = False) -> RecallRow:
        """Recall what a case disclosed, because a person says that it is wrong.

        Args:
            case_id: Of a case that a peer opened here.
            person: Who sends it.
            reason: Why; required, and sealed in the log. The recipient is told that data were wrong, and not this.
            withdraw: Take it back, whatever the record says now.

        Raises:
            ApprovalMissingError: There is no reason.
            PurposeRefusedError: There is no such case, or it disclosed nothing.
            ConflictError: It is taken back already, or the record still says what was disclosed.
        """
        node = self._node
        node.check_alive()
        if not reason.strip() or len(reason) > MAX_TEXT:
            raise ApprovalMissingError("a reason is needed, of at most 4000 characters")
        with node.store.write() as tx:
            row = cases.find_case(node.store, tx, case_id, side=cases.OWNER)
            release = None if row is None else store.release_of_case(node.store, tx, row.peer, row.request_id)
            if row is None or release is None:
                raise PurposeRefusedError("no such case, or it disclosed nothing that is still kept")
            if release.payload["recalled"]:
                raise ConflictError("what the case disclosed is taken back already")
            bound = node.bound_of_case(tx, row.agreement, OWNER, row.peer)
            envelope = _taken_back(bound, row) if withdraw else self._due(tx, bound, row, release)
            if envelope is None:
                raise ConflictError(
                    "the record says what was disclosed; correct it at its source first, or take the disclosure back"
                )
            return self._put(tx, bound, row, release, envelope, RecallCause.DATA_WRONG, person.uri, reason)

    # By the clock

    def advance(self) -> int:
        """Find what has to be recalled, and send it. Returns how many recalls were made or moved.

        Raises:
            UnavailableError: The log cannot be written now; what is due stays due.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            newest, slots = records.max_change_seq(tx), cases.quiet_slots_of(tx)
        done = 0
        for bound in self._agreements():
            if disclosure.is_silent(bound.agreement):
                slot = node.now_ms() // (node.config.disclosure.silent_recall_s * 1000)
                if slots.get(bound.code, -1) < slot:
                    done += self._fill_slot(bound, slot, first=bound.code not in slots)
            elif self._cursors.get(bound.code) != newest:
                done += self._look_through(bound)
        return done + self._outbox.turn(RECALLS, self._deliver).moved

    def _agreements(self) -> list[Bound]:
        """Those in force, and those with active peers that ended and under which something is still kept."""
        node, now = self._node, self._node.now_ms()
        if now - self._ended_ms >= ENDED_KEPT_MS:
            with node.store.read() as tx:
                self._ended, self._ended_ms = store.released_agreements(tx), now
        found = {bound.code: bound for bound in node.agreements(OWNER)}
        for code, peer in self._ended:
            if code in found:
                continue
            with suppress(PurposeRefusedError), node.store.read() as tx:
                node.peer(peer)
                found[code] = node.bound_of_case(tx, code, OWNER, peer)
        return [found[code] for code in sorted(found)]

    def forget(self) -> int:
        """Delete what stands here of disclosures that their recipients had to erase by now, and of old covers."""
        node, done = self._node, 0
        with node.store.write() as tx:
            done += store.drop_old(tx, cases.OWNER, node.now_ms() - QUIET_KEPT_MS, quiet=True)
        while True:
            with node.store.write() as tx:
                gone = store.drop_releases(node.store, tx, node.now_ms())
                for peer, request_id in gone:
                    store.drop_recalls_of_case(tx, cases.OWNER, peer, request_id)
            done += len(gone)
            if not gone:
                return done

    def _look_through(self, bound: Bound) -> int:
        """Recall what changed since the last look, all of it."""
        node, done = self._node, 0
        while True:
            seq, found = self._next_disclosed(bound)
            now = node.now_ms()
            if not found and now - self._kept.get(bound.code, 0) < CURSOR_KEPT_MS:
                return done
            with node.store.write() as tx:
                for release in store.releases_of_records(node.store, tx, bound.code, found):
                    done += self._recall(tx, bound, release) is not None
                self._keep_cursor(tx, bound, seq)
            if not found:
                return done

    def _next_disclosed(self, bound: Bound) -> tuple[int, list[int]]:
        """Look through the records that changed since the last look, up to some of which something was disclosed.

        Returns:
            The change up to which was looked, and the records; none where nothing more changed.
        """
        node = self._node
        with node.store.read() as tx:
            seq = self._cursors.get(bound.code)
            seq = store.cursor(node.store, tx, bound.code) if seq is None else seq
            if seq is None or not store.has_releases(tx, bound.code):
                # What changed before anything was disclosed concerns nobody.
                seq = records.max_change_seq(tx)
            while changed := records.changed_after(tx, seq, _CHUNK):
                seq = changed[-1].change_seq
                found = store.releases_of_records(node.store, tx, bound.code, [row.id for row in changed])
                if found:
                    self._cursors[bound.code] = seq
                    return seq, list(dict.fromkeys(release.record_id for release in found))
        self._cursors[bound.code] = seq
        return seq, []

    def _keep_cursor(self, tx: Tx, bound: Bound, seq: int) -> None:
        store.set_cursor(self._node.store, tx, bound.code, seq)
        self._kept[bound.code] = self._node.now_ms()

    def _recall(self, tx: Tx, bound: Bound, release: Release) -> RecallRow | None:
        """Recall what a case disclosed, if its record says something else now."""
        try:
            return self._recalled(tx, bound, release)
        except (AuditError, UnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - one case must not keep the others back
            # The type alone: the text of a defect may hold a value.
            logger.warning("recall.failed", error=type(error).__name__)
            return None

    def _recalled(self, tx: Tx, bound: Bound, release: Release) -> RecallRow | None:
        node = self._node
        row = cases.get_case(node.store, tx, cases.OWNER, release.peer, release.request_id)
        if row is None or release.payload["recalled"]:
            return None
        envelope = self._due(tx, bound, row, release)
        if envelope is None:
            return None
        withdrawn = envelope.outcome is Outcome.NOT_DISCLOSED
        cause = RecallCause.RECORD_WITHDRAWN if withdrawn else RecallCause.RECORD_CHANGED
        return self._put(tx, bound, row, release, envelope, cause, f"urn:connector-psi:authority:{node.authority}", "")

    def _due(self, tx: Tx, bound: Bound, row: CaseRow, release: Release) -> Envelope | None:
        """The envelope that has to follow what was disclosed; None where the record still says it."""
        node = self._node
        found = records.by_id(node.store, tx, release.record_id)
        if found is None or records.is_withdrawn(tx, release.record_id):
            return _taken_back(bound, row)
        record, live = found
        if not live:
            return None
        if not self._matches(bound, record, release):
            return _taken_back(bound, row)
        told = release.payload["fields"]
        if not record.hidden and all(
            field_mac(node, *record.fields.get(Field(name), ())) == mac for name, mac in told.items()
        ):
            return None
        approvals = row.payload["approvals"]
        decision = disclosure.decide_case(
            bound.agreement,
            request_of(row),
            record,
            approved_by=[approval["by"] for approval in approvals],
            now=node.clock.now(),
            synthetic=node.synthetic,
            provider_consent=released_fields(approvals),
        )
        if not decision.allowed:
            return _taken_back(bound, row)
        try:
            envelope = disclosure.disclosed(
                bound.agreement, decision, record, case_id=row.request_id, epoch=row.epoch, served=_served(row)
            )
            disclosure.encode_envelope(envelope, disclosure.envelope_sizes(bound.agreement))
        except (FormatError, ValueError, PurposeRefusedError):
            # What cannot be told correctly must not go on standing there wrongly.
            return _taken_back(bound, row)
        return envelope

    def _matches(self, bound: Bound, record: Record, release: Release) -> bool:
        node, told = self._node, set(release.payload["tokens"])
        held = [token for token in node.tokens(bound, record) if token_mac(node, token.value) in told]
        return judge_claim(bound.agreement, held).verdict is policy.Verdict.MATCH

    def _fill_slot(self, bound: Bound, slot: int, *, first: bool) -> int:
        """The one recall of a slot where the owner gets no notice, a cover where none is due.

        Args:
            bound: The agreement.
            slot: Its number.
            first: No slot of the agreement was filled yet: nothing can have been disclosed, and the next is the first.
        """
        node = self._node
        if first:
            with node.store.write() as tx:
                cases.set_quiet_slot(tx, bound.code, slot)
                # From here on changes count.
                self._keep_cursor(tx, bound, records.max_change_seq(tx))
            return 0
        done, waiting = False, self._waiting.get(bound.code, [])
        seq = self._cursors.get(bound.code, 0)
        if not waiting:
            seq, waiting = self._next_disclosed(bound)
        with node.store.write() as tx:
            cases.set_quiet_slot(tx, bound.code, slot)
            while waiting and not done:
                # One at a time; a record that several cases disclosed stays first until all of them are told.
                told = (
                    self._recall(tx, bound, release)
                    for release in store.releases_of_records(node.store, tx, bound.code, waiting[:1])
                )
                done = any(row is not None for row in told)
                if not done:
                    waiting = waiting[1:]
            if not done:
                self._put_cover(tx, bound)
            if not waiting:
                self._keep_cursor(tx, bound, seq)
            else:
                # Nothing of it is kept: after a crash the same changes are looked through again.
                store.set_cursor(node.store, tx, bound.code, store.cursor(node.store, tx, bound.code) or 0)
        self._waiting[bound.code] = waiting
        return 1

    def _put_cover(self, tx: Tx, bound: Bound) -> None:
        node = self._node
        envelope = disclosure.not_disclosed(
            bound.agreement,
            case_id=node.random.bytes(messages.REQUEST_ID_BYTES),
            epoch=0,
            served=node.clock.now(),
        )
        self._store(tx, bound, envelope, RecallCause.RECORD_WITHDRAWN, "", "", quiet=True)

    def _put(
        self,
        tx: Tx,
        bound: Bound,
        row: CaseRow,
        release: Release,
        envelope: Envelope,
        cause: RecallCause,
        by: str,
        reason: str,
    ) -> RecallRow:
        node = self._node
        taken_back = envelope.outcome is Outcome.NOT_DISCLOSED
        payload = {**release.payload, "recalled": taken_back}
        if not taken_back:
            payload["fields"] = {name.value: field_mac(node, *values) for name, values in envelope.fields.items()}
        store.update_release(node.store, tx, replace(release, payload=payload), row.quiet)
        return self._store(tx, bound, envelope, cause, by, reason, quiet=row.quiet)

    def _store(
        self,
        tx: Tx,
        bound: Bound,
        envelope: Envelope,
        cause: RecallCause,
        by: str,
        reason: str,
        *,
        quiet: bool,
    ) -> RecallRow:
        node = self._node
        padded = disclosure.encode_envelope(envelope, disclosure.envelope_sizes(bound.agreement))
        recall_id, salt = node.random.bytes(messages.REQUEST_ID_BYTES), node.random.bytes(disclosure.SALT_BYTES)
        now = node.now_ms()
        entry = node.append(
            tx,
            Event.RECALL,
            {
                "operation": "recall",
                "case": envelope.case_id.hex(),
                "cause": cause.name.lower(),
                "outcome": envelope.outcome.value,
                "fields": sorted(name.value for name in envelope.fields),
                "recipient": bound.peer,
                "by": by,
                "reason": reason,
            },
            bound,
            request_id=recall_id,
            # Without notice no entry names the case that it is about.
            parent_id=None if quiet else envelope.case_id,
            purpose=bound.agreement.purpose.value,
            source_commitment=disclosure.source_commitment(salt, padded),
        )
        message = messages.recall_bytes(
            owner=node.authority,
            agreement=bound.code,
            case_id=envelope.case_id,
            recall_id=recall_id,
            cause=cause,
            sent_ms=now,
            envelope=padded,
        )
        row = RecallRow(
            side=cases.OWNER,
            peer=bound.peer,
            recall_id=recall_id,
            case_id=envelope.case_id,
            agreement=bound.code,
            state=store.SENDING,
            sent_ms=now,
            due_ms=due_ms(now),
            next_ms=now,
            leaf_index=entry.index,
            quiet=quiet,
            payload={
                "cause": cause.name.lower(),
                "outcome": envelope.outcome.value,
                "fields": sorted(name.value for name in envelope.fields),
                "by": by,
                "reason": reason,
                "envelope": padded.hex(),
                "salt": salt.hex(),
                "signature": node.signing_key.sign(message).hex(),
            },
        )
        store.put_recall(node.store, tx, row)
        return row

    # Telling the recipient

    def _deliver(self, bound: Bound, item: Item) -> int:
        node, peer, recall_id = self._node, item.peer, item.id
        with node.store.read() as tx:
            row = store.get_recall(node.store, tx, cases.OWNER, peer, recall_id)
        if row is None or row.state != store.SENDING:
            return 0
        try:
            proof = node.leaf_proof(row.leaf_index, bound.agreement)
        except UnavailableError:
            # No checkpoint covers the entry yet; the next turn comes soon.
            return 0
        p = row.payload
        self._connector.owner(peer).recall(
            RecallMessage(
                agreement=row.agreement,
                case_id=row.case_id,
                recall_id=row.recall_id,
                cause=RecallCause[p["cause"].upper()],
                sent_ms=row.sent_ms,
                envelope=bytes.fromhex(p["envelope"]),
                salt=bytes.fromhex(p["salt"]),
                signature=bytes.fromhex(p["signature"]),
                proof=proof,
            )
        )
        with node.store.write() as tx:
            known = store.get_recall(node.store, tx, cases.OWNER, peer, recall_id)
            # The acknowledgement may have come while the answer was on its way.
            if known is not None and known.state == store.SENDING:
                store.update_recall(node.store, tx, replace(known, state=store.SENT, next_ms=NEVER_MS))
        return 1

    def acknowledge(self, peer: str, message: Acknowledgement) -> None:
        """Take a recipient's acknowledgement in; the same one again changes nothing.

        Raises:
            PurposeRefusedError: No such recall of this peer.
            ProtocolError: The signature does not verify.
            ConflictError: Another acknowledgement came for this recall.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            known = store.get_recall(node.store, tx, cases.OWNER, peer, message.recall_id)
        if known is None or known.agreement != message.agreement:
            raise PurposeRefusedError("no such recall")
        signed = acknowledgement_bytes(peer, message)
        try:
            node.peer(peer).public_key.verify(message.signature, signed)
        except InvalidSignature:
            raise ProtocolError("the signature of an acknowledgement does not verify") from None
        mac = node.store.mac(signed)
        with node.store.write() as tx:
            row = store.get_recall(node.store, tx, cases.OWNER, peer, message.recall_id)
            if row is None:
                raise PurposeRefusedError("no such recall any more")
            if row.state == store.ACKNOWLEDGED:
                if not hmac.compare_digest(mac, store.request_mac(tx, cases.OWNER, peer, message.recall_id) or b""):
                    raise ConflictError("a recall was acknowledged otherwise before")
                return
            entry = node.append(
                tx,
                Event.RECALL,
                {
                    "operation": "recall acknowledged",
                    "case": row.case_id.hex(),
                    "effect": message.effect.name.lower(),
                    "recipient": peer,
                    "acknowledged_ms": message.acknowledged_ms,
                },
                node.bound_of_case(tx, row.agreement, OWNER, peer),
                request_id=row.recall_id,
                parent_id=None if row.quiet else row.case_id,
            )
            kept = {name: value for name, value in row.payload.items() if name not in {"envelope", "salt"}}
            kept["acknowledged"] = {
                "at_ms": message.acknowledged_ms,
                "effect": message.effect.name.lower(),
                "signature": message.signature.hex(),
                "leaf": entry.index,
            }
            store.update_recall(
                node.store, tx, replace(row, state=store.ACKNOWLEDGED, next_ms=NEVER_MS, payload=kept), mac
            )


def due_ms(sent_ms: int) -> int:
    """Return until when a recall has to be acknowledged, in Unix milliseconds."""
    return millis(disclosure.working_days_after(from_millis(sent_ms), disclosure.RECALL_WORKING_DAYS))


def acknowledgement_bytes(querier: str, message: Acknowledgement) -> bytes:
    """Return the bytes that the recipient signs."""
    return messages.acknowledgement_bytes(
        querier=querier,
        agreement=message.agreement,
        recall_id=message.recall_id,
        effect=message.effect,
        acknowledged_ms=message.acknowledged_ms,
    )


def _taken_back(bound: Bound, row: CaseRow) -> Envelope:
    return disclosure.not_disclosed(bound.agreement, case_id=row.request_id, epoch=row.epoch, served=_served(row))


def _served(row: CaseRow) -> datetime:
    return from_millis(row.payload["served_ms"])
