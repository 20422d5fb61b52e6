"""Dossiers: everything that this node knows of one exchange, and whether it can be proven now.

Rules:

1. A dossier shows leaves and facts that are no personal data: bodies are opened by ``Oversight.open_bodies``, with a
   reason. It is for data protection officers and auditors; what stands at the owner's side of an agreement of which the
   owner gets no notice, for the former alone.
2. ``verify`` computes everything anew when it is asked, and believes nothing that was found before. One entry of the
   log says that it was asked, before anything is read. Steps name numbers of entries, sizes, witnesses and times.
3. What cannot be checked now, because it was erased on its day or a peer is away, is ``unknown``. It is never taken for
   good.
4. The other side is asked for nothing where it must not notice: which checkpoint is asked about would tell the owner
   which of the cases is looked at, and that it is no cover.

Leaves to others: both logs beside one another, for whoever has both (``audit.joint``), the log as a whole
(``Oversight.verify_steps``), what a grade says (``grading``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from cryptography.exceptions import InvalidSignature

from connector_psi import disclosure
from connector_psi.audit import merkle
from connector_psi.audit.checkpoint import Checkpoint, parse_note, parse_vkey, verify_checkpoint
from connector_psi.audit.cosignature import verify_cosignatures
from connector_psi.audit.entries import OF_OVERSIGHT, Event, Leaf, Side, encode_time, parse_leaf
from connector_psi.domain.purposes import Purpose
from connector_psi.errors import (
    AuditError,
    ConnectorError,
    FormatError,
    InputError,
    KeyUnavailableError,
    ProofInvalidError,
    ProtocolError,
    PurposeRefusedError,
    StorageError,
    UnavailableError,
)
from connector_psi.node.asked import case_bytes
from connector_psi.node.descriptor import Descriptor, parse_descriptor
from connector_psi.node.grading import SampleView, sample_view
from connector_psi.node.granting import signed_bytes
from connector_psi.node.node import OWNER, QUERIER, Node, millis
from connector_psi.node.oversight import Oversight
from connector_psi.node.ports import AccessRequest, CaseRequest, Connector, LeafProof
from connector_psi.node.steps import Result, Step
from connector_psi.pki import PersonIdentity, Role
from connector_psi.policy import OwnPurpose, authorities_of, own_purpose
from connector_psi.protocol import messages
from connector_psi.storage import accesses, cases, logindex, recalls, samples, witnesses
from connector_psi.storage import peers as peer_store
from connector_psi.storage.accesses import AccessRow
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.recalls import RecallRow
from connector_psi.storage.store import Tx

OWN_CHECKPOINT: Final = "The newest checkpoint of this log is signed by its key."
OWN_ENTRY: Final = "The entry is in this log, under that checkpoint."
OWN_WITNESSES: Final = "Witnesses cosigned a checkpoint of this log that covers the entries."
OWN_BODY: Final = "The sealed body is there, and it is the one that the entry commits to."
CASE_ROW: Final = "What is stored of the case was not changed outside this program."
REQUEST_SIGNATURE: Final = "The querier signed the request that is stored here."
OUTCOME_COMMITMENT: Final = "The outcome that is stored here is the one that this log's entry commits to."
THEIR_SIGNATURE: Final = "The owner signed the outcome that is stored here."
THEIR_COMMITMENT: Final = "The owner's entry commits to that outcome."
SAME_OUTCOME: Final = "This log's entry commits to the same outcome as the owner's entry."
THEIR_CHECKPOINT: Final = "The checkpoint that came with the outcome is signed by the key of the owner's log."
THEIR_ENTRY: Final = "The owner's entry is in its log, under that checkpoint."
THEIR_WITNESSES: Final = "That checkpoint has the witnesses that the agreement wants."
OWNER_LOG: Final = "The owner's log, as it is now, continues that checkpoint."
QUERIER_LOG: Final = "The querier's log, as it is now, continues the last checkpoint of it that was cosigned here."

STEP_NAMES: Final = (
    OWN_CHECKPOINT,
    OWN_ENTRY,
    OWN_WITNESSES,
    OWN_BODY,
    CASE_ROW,
    REQUEST_SIGNATURE,
    OUTCOME_COMMITMENT,
    THEIR_SIGNATURE,
    THEIR_COMMITMENT,
    SAME_OUTCOME,
    THEIR_CHECKPOINT,
    THEIR_ENTRY,
    THEIR_WITNESSES,
    OWNER_LOG,
    QUERIER_LOG,
)
"""Every name that a step of ``verify`` can have, in the order in which they come."""

_ERASED: Final = "erased on its day"
_NO_OUTCOME: Final = "there is no outcome yet"
_READERS: Final = frozenset({Role.DPO, Role.AUDITOR})


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of this log."""

    index: int
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class TheirEntry:
    """The owner's entry as it came with an outcome, with the proof that it is in the owner's log."""

    index: int
    leaf: Leaf
    proof: tuple[bytes, ...] = ()
    """Empty once what came is erased."""
    checkpoint: bytes = b""
    """The signed note; empty once what came is erased."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a querier signed, as far as it is no personal data."""

    purpose: str
    legal_basis: str
    people: int
    """How many people of the querier it names by their pseudonyms."""
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecallFacts:
    """A recall of what a case disclosed. Times are Unix milliseconds."""

    recall_id: bytes
    state: str
    cause: str
    effect: str
    """What became of it; empty while nobody acknowledged it."""
    sent_ms: int
    due_ms: int
    leaf_index: int


@dataclass(frozen=True, slots=True)
class Erased:
    """That what a case disclosed is gone."""

    at_ms: int
    reason: str
    leaf_index: int


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """A case, or a request for access, of one side: what is no personal data of it. Times are Unix milliseconds."""

    kind: str
    """``case`` or ``access``."""
    side: str
    peer: str
    agreement: str
    state: str
    opened_ms: int
    due_ms: int
    purpose: str
    legal_basis: str
    epoch: int | None
    theirs: TheirEntry | None = None
    """Querier: the owner's entry about the outcome."""
    request: SignedRequest | None = None
    """Owner: what the querier signed."""
    recalls: tuple[RecallFacts, ...] = ()
    erased: Erased | None = None
    sample: SampleView | None = None


@dataclass(frozen=True, slots=True)
class Dossier:
    """What this node knows of one exchange."""

    request_id: bytes
    entries: tuple[Entry, ...]
    """Of this log, in its order: those of the exchange, and those that follow from it."""
    cases: tuple[CaseFacts, ...]
    """Empty for what is no case and no request for access, such as a query; more than one only where a peer chose an
    id that another exchange has.
    """


@dataclass(frozen=True, slots=True)
class _Found:
    """Where everything about an exchange is."""

    indexes: tuple[int, ...]
    cases: tuple[CaseRow, ...] = ()
    accesses: tuple[AccessRow, ...] = ()
    damaged: tuple[str, ...] = ()
    """Agreements of rows that could not be opened."""


class Dossiers:
    """Use cases of dossiers."""

    def __init__(self, node: Node, connector: Connector, oversight: Oversight) -> None:
        self._node = node
        self._connector = connector
        self._oversight = oversight

    def dossier(self, person: PersonIdentity, request_id: bytes) -> Dossier:
        """Return what this node knows of one exchange.

        Args:
            person: A data protection officer or an auditor. Entries that say what was read are shown to the former.
            request_id: Of a query, a case, a request for access or a recall.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person, it is another role, or
                there is no such exchange for it.
            ProofInvalidError: A stored leaf is not the one that was hashed.
            StorageError: What is stored of the case was changed outside this program.
        """
        node = self._node
        self._reader(person)
        with node.store.read() as tx:
            found = self._found(tx, person.role, request_id)
            if found.damaged:
                raise StorageError("a row of a case was changed outside this program")
            entries = []
            for index in found.indexes:
                for raw in node.read_leaves(tx, index, index + 1):
                    leaf = parse_leaf(raw)
                    self._check(leaf.event, leaf.side, leaf.agreement, person.role)
                    if self._oversight.may_open(leaf, person.role):
                        entries.append(Entry(index, leaf))
            drawn = {
                row.agreement: sample_view(row, person.role) for row in samples.samples_of(node.store, tx, request_id)
            }
            known = [self._case(tx, row) for row in found.cases] + [_access(row) for row in found.accesses]
            facts = tuple(replace(each, sample=drawn.get(each.agreement)) for each in known)
        return Dossier(request_id, tuple(entries), facts)

    def verify(self, person: PersonIdentity, request_id: bytes) -> list[Step]:
        """Check everything about an exchange that can be checked from here, now; see ``STEP_NAMES``.

        LOG_READ is durable before anything is read.

        Args:
            person: A data protection officer or an auditor.
            request_id: Of a query, a case, a request for access or a recall.

        Returns:
            The steps in the order of ``STEP_NAMES``, those about entries and cases once for each; none of a side that
            this node does not have in it.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person, it is another role, or
                there is no such exchange for it.

        Cost: A proof and a body for each entry, and at most two calls to the peer.
        """
        node = self._node
        own = self._reader(person)
        with node.store.write() as tx:
            found = self._found(tx, person.role, request_id)
            node.append(
                tx,
                Event.LOG_READ,
                {
                    "operation": "dossier verified",
                    "code": own.code,
                    "actor": person.uri,
                    "entries": list(found.indexes),
                    "request_ids": [request_id.hex()],
                },
                purpose=own.purpose.value,
            )
        with node.store.read() as tx:
            steps = list(_OwnLog(node, tx).steps(found.indexes))
            steps += [Step(CASE_ROW, "failed", code) for code in found.damaged]
            steps += [Step(CASE_ROW, "ok", row.agreement) for row in found.cases]
            steps += [Step(CASE_ROW, "ok", row.agreement) for row in found.accesses]
            leaves = dict(_readable(node, tx, found.indexes))
        for row in found.cases:
            steps += self._of_querier(row, leaves) if row.side == QUERIER else self._of_owner(row, leaves)
        for access in found.accesses:
            if access.side == OWNER:
                steps.append(self._request_step(access.peer, access.agreement, partial(_access_signed, access)))
                steps.append(self._cosigned(access.peer, access.agreement))
        return sorted(steps, key=lambda step: STEP_NAMES.index(step.name))

    # Finding

    def _reader(self, person: PersonIdentity) -> OwnPurpose:
        node = self._node
        node.check_alive()
        own = own_purpose(node.pack, Purpose.OVERSIGHT, person.role.value)
        if person.role not in _READERS:
            raise PurposeRefusedError("dossiers are for data protection officers and auditors")
        return own

    def _check(self, event: str, side: str | None, agreement: str | None, role: Role) -> None:
        if event not in OF_OVERSIGHT and not self._oversight.may_know(side, agreement, role):
            raise PurposeRefusedError("no such request, or not one that this role looks at")

    def _found(self, tx: Tx, role: Role, request_id: bytes) -> _Found:
        node = self._node
        # An empty id would be that of every entry that has none.
        indexes = set(logindex.of_request(tx, request_id)) if len(request_id) == messages.REQUEST_ID_BYTES else set()
        if not indexes:
            raise PurposeRefusedError("no such request, or not one that this role looks at")
        sides = set()
        for event, side, agreement in logindex.said_of(tx, sorted(indexes)):
            self._check(event, side, agreement, role)
            if side is not None and agreement is not None:
                sides.add((side, agreement))
        found, asked, damaged = list[CaseRow](), list[AccessRow](), list[str]()
        for side, agreement in sorted(sides):
            querier, owner = authorities_of(agreement)
            peer = owner if side == QUERIER else querier
            try:
                case = cases.get_case(node.store, tx, side, peer, request_id)
                access = accesses.get(node.store, tx, side, peer, request_id)
                if case is not None:
                    found.append(case)
                    # Where the owner gets no notice no leaf of a recall names the case.
                    indexes |= _entries_of(case, recalls.recalls_of_case(node.store, tx, side, peer, request_id))
                if access is not None:
                    asked.append(access)
            except UnavailableError:
                raise
            except StorageError:
                damaged.append(agreement)
        return _Found(tuple(sorted(indexes)), tuple(found), tuple(asked), tuple(damaged))

    def _case(self, tx: Tx, row: CaseRow) -> CaseFacts:
        p = row.payload
        erased = p.get("erased")
        told = recalls.recalls_of_case(self._node.store, tx, row.side, row.peer, row.request_id)
        return CaseFacts(
            kind="case",
            side=row.side,
            peer=row.peer,
            agreement=row.agreement,
            state=row.state,
            opened_ms=row.opened_ms,
            due_ms=row.due_ms,
            purpose=p["purpose"],
            legal_basis=p["legal_basis"],
            epoch=row.epoch,
            theirs=_theirs(p["outcome"]["receipt"]) if row.side == QUERIER and "outcome" in p else None,
            request=_request(p) if row.side == OWNER else None,
            recalls=tuple(_recall(each) for each in told),
            erased=_erased(erased) if erased else None,
        )

    # At the querier: what the owner's log says

    def _of_querier(self, row: CaseRow, leaves: Mapping[int, Leaf]) -> Iterator[Step]:
        names = (THEIR_SIGNATURE, THEIR_COMMITMENT, SAME_OUTCOME, THEIR_CHECKPOINT, THEIR_ENTRY, THEIR_WITNESSES)
        outcome, peer = row.payload.get("outcome"), self._descriptor(row.peer)
        if outcome is None or peer is None:
            why = _NO_OUTCOME if outcome is None else "the keys of the owner are not known"
            yield from (Step(name, "unknown", why) for name in (*names, OWNER_LOG))
            return
        receipt = outcome["receipt"]
        try:
            leaf = parse_leaf(receipt["leaf"].encode())
        except FormatError:
            leaf = None
        if "envelope" in receipt:
            yield _tried(THEIR_SIGNATURE, lambda: _verify_outcome(row, receipt, peer))
            yield _tried(THEIR_COMMITMENT, lambda: _verify_commitment(row, receipt, leaf))
        else:
            yield Step(THEIR_SIGNATURE, "unknown", _ERASED)
            kept = leaf is not None and receipt["commitment"] == (leaf.source_commitment or b"").hex()
            yield Step(THEIR_COMMITMENT, "ok" if kept else "failed", "the outcome is erased, its commitment is not")
        yield _same_outcome(leaf, leaves)
        if "checkpoint" not in receipt:
            yield from (Step(name, "unknown", _ERASED) for name in (THEIR_CHECKPOINT, THEIR_ENTRY, THEIR_WITNESSES))
            yield Step(OWNER_LOG, "unknown", _ERASED)
            return
        yield from self._of_receipt(row, _leaf_proof(receipt), peer)

    def _of_receipt(self, row: CaseRow, proof: LeafProof, peer: Descriptor) -> Iterator[Step]:
        key = parse_vkey(peer.log_vkey)
        try:
            signed = verify_checkpoint(proof.checkpoint, key, key.name)
        except (AuditError, FormatError) as error:
            yield Step(THEIR_CHECKPOINT, "failed", str(error))
            for name in (THEIR_ENTRY, THEIR_WITNESSES, OWNER_LOG):
                yield Step(name, "unknown", "the checkpoint is not to be trusted")
            return
        yield Step(THEIR_CHECKPOINT, "ok", f"size {signed.size}")
        yield _tried(
            THEIR_ENTRY,
            lambda: _verify_inclusion(proof, signed),
            f"entry {proof.index} of {signed.size}",
        )
        yield self._wanted(row, proof.checkpoint)
        yield self._live(OWNER_LOG, row.peer, row.agreement, peer, signed)

    def _wanted(self, row: CaseRow, note: bytes) -> Step:
        node = self._node
        try:
            with node.store.read() as tx:
                agreement = node.bound_of_case(tx, row.agreement, QUERIER, row.peer).agreement
        except PurposeRefusedError:
            return Step(THEIR_WITNESSES, "unknown", "the agreement is not known any more")
        trust = node.trust(agreement, row.peer)
        keys = [key for key, whose in trust.witnesses.items() if whose != row.peer]
        try:
            parsed = parse_note(note)
            enough = trust.suffices(parsed)
            said = [f"{each.name} {_time(each.time_s)}" for each in verify_cosignatures(parsed, keys)]
        except (AuditError, FormatError) as error:
            return Step(THEIR_WITNESSES, "failed", str(error))
        detail = "; ".join([f"{trust.wanted} wanted", *said])
        return Step(THEIR_WITNESSES, "ok" if enough else "failed", detail)

    # At the owner: what the querier signed, and what was answered

    def _of_owner(self, row: CaseRow, leaves: Mapping[int, Leaf]) -> Iterator[Step]:
        yield self._request_step(row.peer, row.agreement, partial(_case_signed, row))
        yield _stored_outcome(row, leaves)
        yield self._cosigned(row.peer, row.agreement)

    def _request_step(self, authority: str, agreement: str, signed: Callable[[], tuple[bytes, bytes] | None]) -> Step:
        peer, found = self._descriptor(authority), signed()
        if peer is None or found is None:
            why = "the keys of the querier are not known" if peer is None else _ERASED
            return Step(REQUEST_SIGNATURE, "unknown", why)
        signature, said = found
        try:
            peer.public_key.verify(signature, said)
        except InvalidSignature:
            return Step(REQUEST_SIGNATURE, "failed", agreement)
        return Step(REQUEST_SIGNATURE, "ok", agreement)

    def _cosigned(self, authority: str, agreement: str) -> Step:
        node, peer = self._node, self._descriptor(authority)
        if peer is None:
            return Step(QUERIER_LOG, "unknown", "the keys of the querier are not known")
        key = parse_vkey(peer.log_vkey)
        with node.store.read() as tx:
            row = witnesses.latest(tx, key.name)
        if row is None:
            return Step(QUERIER_LOG, "unknown", "no checkpoint of it was cosigned here")
        try:
            signed = verify_checkpoint(row.note, key, key.name)
        except (AuditError, FormatError) as error:
            return Step(QUERIER_LOG, "failed", str(error))
        return self._live(QUERIER_LOG, authority, agreement, peer, signed)

    # Asking the peer

    def _descriptor(self, authority: str) -> Descriptor | None:
        """Of a peer, also of one that was revoked: what it signed before does not change by that."""
        node = self._node
        if node.has_peer(authority):
            return node.peer(authority)
        with node.store.read() as tx:
            return next(
                (parse_descriptor(r.descriptor) for r in peer_store.list_peers(tx) if r.authority == authority), None
            )

    def _live(self, name: str, authority: str, agreement: str, peer: Descriptor, old: Checkpoint) -> Step:
        """Whether a peer's log as it is now continues a checkpoint of it."""
        node, key = self._node, parse_vkey(peer.log_vkey)
        if not node.has_peer(authority):
            return Step(name, "unknown", "it is no active peer")
        bound = node.in_force(agreement)
        if bound is None or disclosure.is_silent(bound.agreement):
            return Step(name, "unknown", "not asked: it would show which case is looked at")
        port = self._connector.owner(authority)
        try:
            note = port.get_checkpoint()
        except ConnectorError as error:
            return Step(name, "unknown", f"the peer does not answer: {error.code}")
        try:
            new = verify_checkpoint(note, key, key.name)
        except (AuditError, FormatError) as error:
            return Step(name, "failed", str(error))
        sizes = f"sizes {old.size} and {new.size}"
        if new.size < old.size:
            return Step(name, "failed", f"its log is smaller than it was: {sizes}")
        try:
            proof = [] if new.size == old.size else port.prove_consistency(old.size, new.size)
        except ConnectorError as error:
            return Step(name, "unknown", f"the peer does not prove: {error.code}")
        return _tried(name, lambda: merkle.verify_consistency(old.size, old.root, new.size, new.root, proof), sizes)


class _OwnLog:
    """The entries of this log, checked in one snapshot of it."""

    def __init__(self, node: Node, tx: Tx) -> None:
        self._node = node
        self._tx = tx

    def steps(self, indexes: Sequence[int]) -> Iterator[Step]:
        node = self._node
        signed: Checkpoint | None = None
        note = node.entries.latest_checkpoint(self._tx)
        if note is None:
            yield Step(OWN_CHECKPOINT, "unknown", "none is signed yet")
        else:
            try:
                signed = verify_checkpoint(note, node.signer.vkey, node.signer.name)
                yield Step(OWN_CHECKPOINT, "ok", f"size {signed.size}")
            except (AuditError, FormatError) as error:
                yield Step(OWN_CHECKPOINT, "failed", str(error))
        for index in indexes:
            yield self._entry(index, signed)
        yield self._witnesses(indexes, signed)
        for index in indexes:
            yield self._body(index)

    def _entry(self, index: int, signed: Checkpoint | None) -> Step:
        node, tx, at = self._node, self._tx, f"entry {index}"
        if signed is None:
            return Step(OWN_ENTRY, "unknown", f"{at}: no checkpoint is to be trusted")
        leaves = node.entries.read_leaves(tx, index, index + 1)
        if not leaves:
            return Step(OWN_ENTRY, "failed", f"{at}: it is gone")
        try:
            event = parse_leaf(leaves[0]).event.value
            if index >= signed.size:
                return Step(OWN_ENTRY, "unknown", f"{at}, {event}: no checkpoint covers it yet")
            proof = node.log.prove_inclusion(tx, index, signed.size)
            merkle.verify_inclusion(merkle.leaf_hash(leaves[0]), index, signed.size, proof, signed.root)
        except (AuditError, InputError) as error:
            return Step(OWN_ENTRY, "failed", f"{at}: {error}")
        return Step(OWN_ENTRY, "ok", f"{at}, {event}, under size {signed.size}")

    def _witnesses(self, indexes: Sequence[int], signed: Checkpoint | None) -> Step:
        node, tx = self._node, self._tx
        covered = [index for index in indexes if signed is not None and index < signed.size]
        sizes = node.entries.cosigned_sizes(tx, max(covered, default=0) + 1, 1)
        note = node.entries.cosigned(tx, sizes[0]) if sizes else None
        if note is None:
            return Step(OWN_WITNESSES, "unknown", "no witness cosigned such a checkpoint yet")
        keys = [key for key, whose in node.witnesses().items() if whose != node.authority]
        try:
            of_size = verify_checkpoint(note, node.signer.vkey, node.signer.name)
            said = verify_cosignatures(parse_note(note), keys)
            node.log.check_prefix(tx, of_size, f"checkpoint of size {of_size.size}")
        except (AuditError, FormatError) as error:
            return Step(OWN_WITNESSES, "failed", str(error))
        detail = "; ".join([f"size {of_size.size}", *(f"{each.name} {_time(each.time_s)}" for each in said)])
        return Step(OWN_WITNESSES, "ok" if said else "unknown", detail)

    def _body(self, index: int) -> Step:
        node, at = self._node, f"entry {index}"
        try:
            # Opened, compared, and shown to nobody.
            node.log.open_encoded(self._tx, index)
        except KeyUnavailableError:
            leaf = dict(_readable(node, self._tx, [index])).get(index)
            if leaf is not None and leaf.erase_after <= node.clock.now():
                return Step(OWN_BODY, "ok", f"{at}: {_ERASED}")
            return Step(OWN_BODY, "failed", f"{at}: erased before its time")
        except UnavailableError:
            return Step(OWN_BODY, "unknown", f"{at}: it cannot be read now")
        except (AuditError, FormatError, InputError, StorageError) as error:
            return Step(OWN_BODY, "failed", f"{at}: {error}")
        return Step(OWN_BODY, "ok", at)


def _tried(name: str, check: Callable[[], None], detail: str = "") -> Step:
    try:
        check()
    except (AuditError, FormatError, ProtocolError) as error:
        return Step(name, "failed", "; ".join(filter(None, (detail, str(error)))))
    return Step(name, "ok", detail)


def _readable(node: Node, tx: Tx, indexes: Sequence[int]) -> Iterator[tuple[int, Leaf]]:
    for index in indexes:
        for raw in node.entries.read_leaves(tx, index, index + 1):
            try:
                yield index, parse_leaf(raw)
            except FormatError:
                continue


def _entries_of(row: CaseRow, told: Sequence[RecallRow]) -> set[int]:
    erased = row.payload.get("erased")
    acknowledged = [each.payload["acknowledged"]["leaf"] for each in told if "acknowledged" in each.payload]
    named = [row.leaf_index, erased["leaf"] if erased else None, *(each.leaf_index for each in told), *acknowledged]
    return {index for index in named if index is not None}


# Of stored rows


def _theirs(receipt: Mapping[str, Any]) -> TheirEntry:
    proof = tuple(bytes.fromhex(digest) for digest in receipt.get("proof", ()))
    leaf = parse_leaf(receipt["leaf"].encode())
    return TheirEntry(receipt["index"], leaf, proof, receipt.get("checkpoint", "").encode())


def _leaf_proof(receipt: Mapping[str, Any]) -> LeafProof:
    proof = tuple(bytes.fromhex(digest) for digest in receipt["proof"])
    return LeafProof(receipt["leaf"].encode(), receipt["index"], proof, receipt["checkpoint"].encode())


def _request(p: Mapping[str, Any]) -> SignedRequest:
    people = len(p["actors"]) // 64
    return SignedRequest(p.get("purpose", ""), p.get("legal_basis", ""), people, bytes.fromhex(p["signature"]))


def _recall(row: RecallRow) -> RecallFacts:
    effect = row.payload.get("acknowledged", {}).get("effect", "")
    return RecallFacts(row.recall_id, row.state, row.payload["cause"], effect, row.sent_ms, row.due_ms, row.leaf_index)


def _erased(said: Mapping[str, Any]) -> Erased:
    return Erased(millis(datetime.fromisoformat(said["at"])), said["reason"], said["leaf"])


def _access(row: AccessRow) -> CaseFacts:
    return CaseFacts(
        kind="access",
        side=row.side,
        peer=row.peer,
        agreement=row.agreement,
        state=row.state,
        opened_ms=row.opened_ms,
        due_ms=row.due_ms,
        purpose=row.payload.get("purpose", ""),
        legal_basis=row.payload.get("legal_basis", ""),
        epoch=None,
        request=_request(row.payload) if row.side == OWNER else None,
    )


def _case_signed(row: CaseRow) -> tuple[bytes, bytes] | None:
    """Signature and signed bytes of a case that a peer opened; None once part of them is erased."""
    p = row.payload
    if "ticket_id" not in p:
        return None
    request = CaseRequest(
        agreement=row.agreement,
        epoch=row.epoch,
        ticket_id=bytes.fromhex(p["ticket_id"]),
        redeem_codes=bytes.fromhex(p["redeem"]),
        purpose=p["purpose"],
        legal_basis=p["legal_basis"],
        case_reference=p["case_reference"],
        justification=p["justification"],
        request_id=row.request_id,
        actor_commitments=bytes.fromhex(p["actors"]),
        signature=bytes.fromhex(p["signature"]),
    )
    return request.signature, case_bytes(row.peer, request)


def _access_signed(row: AccessRow) -> tuple[bytes, bytes]:
    """Signature and signed bytes of a request for access that a peer made."""
    p = row.payload
    request = AccessRequest(
        agreement=row.agreement,
        request_id=row.request_id,
        case_reference=p["case_reference"],
        offence=p["offence"],
        necessity=p["necessity"],
        identifiers=p["identifiers"],
        expires_ms=p["expires_ms"],
        actor_commitments=bytes.fromhex(p["actors"]),
        signature=bytes.fromhex(p["signature"]),
    )
    return request.signature, signed_bytes(row.peer, request)


# Checks


def _verify_outcome(row: CaseRow, receipt: Mapping[str, Any], peer: Descriptor) -> None:
    envelope, signature = bytes.fromhex(receipt["envelope"]), bytes.fromhex(receipt["signature"])
    if "recall_id" not in receipt:
        disclosure.verify_envelope(peer.public_key, envelope, signature)
        return
    # It came with a recall in the place of the first: cause and time are signed with it.
    signed = messages.recall_bytes(
        owner=row.peer,
        agreement=row.agreement,
        case_id=row.request_id,
        recall_id=bytes.fromhex(receipt["recall_id"]),
        cause=receipt["cause"],
        sent_ms=receipt["sent_ms"],
        envelope=envelope,
    )
    try:
        peer.public_key.verify(signature, signed)
    except InvalidSignature:
        raise ProtocolError("recall: the signature does not verify") from None


def _verify_commitment(row: CaseRow, receipt: Mapping[str, Any], leaf: Leaf | None) -> None:
    if leaf is None:
        raise ProofInvalidError("the entry is malformed")
    recalled = receipt.get("recall_id")
    event, about = (Event.RECALL, bytes.fromhex(recalled)) if recalled else (Event.CASE_OUTCOME, row.request_id)
    commitment = disclosure.source_commitment(bytes.fromhex(receipt["salt"]), bytes.fromhex(receipt["envelope"]))
    if (leaf.event, leaf.request_id, leaf.agreement) != (event, about, row.agreement):
        raise ProofInvalidError("the entry is about something else")
    if leaf.source_commitment != commitment:
        raise ProofInvalidError("the entry commits to something else")


def _verify_inclusion(proof: LeafProof, signed: Checkpoint) -> None:
    merkle.verify_inclusion(merkle.leaf_hash(proof.leaf), proof.index, signed.size, list(proof.proof), signed.root)


def _same_outcome(leaf: Leaf | None, leaves: Mapping[int, Leaf]) -> Step:
    said = leaf.source_commitment if leaf is not None else None
    for index, own in leaves.items():
        if (
            own.event in {Event.RECEIPT, Event.RECALL}
            and own.side is Side.QUERIER
            and said is not None
            and own.source_commitment == said
        ):
            return Step(SAME_OUTCOME, "ok", f"entry {index}")
    return Step(SAME_OUTCOME, "failed", "no entry here commits to it")


def _stored_outcome(row: CaseRow, leaves: Mapping[int, Leaf]) -> Step:
    if row.leaf_index is None:
        return Step(OUTCOME_COMMITMENT, "unknown", _NO_OUTCOME)
    leaf, p, at = leaves.get(row.leaf_index), row.payload, f"entry {row.leaf_index}"
    if "envelope" in p:
        try:
            said = disclosure.source_commitment(bytes.fromhex(p["salt"]), bytes.fromhex(p["envelope"]))
        except FormatError as error:
            return Step(OUTCOME_COMMITMENT, "failed", f"{at}: {error}")
    else:
        said, at = bytes.fromhex(p["source_commitment"]), f"{at}: the outcome is erased, its commitment is not"
    result: Result = "ok" if leaf is not None and leaf.source_commitment == said else "failed"
    return Step(OUTCOME_COMMITMENT, result, at)


def _time(seconds: int) -> str:
    try:
        return encode_time(datetime.fromtimestamp(seconds, tz=UTC))
    except (ValueError, OverflowError, OSError):
        # A witness says what it likes.
        return "at no time"
