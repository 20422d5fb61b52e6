"""The querier asks: take the newest set, send the tokens of changed records in batches, judge what opens.

Decides: which records a round covers, what is logged before anything is sent, how a crash continues: open batches are
sent again
with identical bytes, and the cursor moves only when a round is complete. Leaves to others: the batch itself
(``protocol.querier``), the
match rule (``policy``), transport (``ports``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from connector_psi import policy
from connector_psi.audit import merkle
from connector_psi.audit.checkpoint import parse_note, parse_vkey, verify_checkpoint
from connector_psi.audit.cosignature import Trust
from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.domain.purposes import Mode
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, TokenClass
from connector_psi.encoding import manifest as manifests
from connector_psi.encoding.atomicfile import sync_directory
from connector_psi.encoding.bloom import Filter
from connector_psi.encoding.tickets import TicketFile
from connector_psi.errors import AuditError, FormatError, PeerError, ProtocolError, UnavailableError
from connector_psi.node.config import MAX_RECORDS_PER_ROUND
from connector_psi.node.node import QUERIER, Bound, Node, millis
from connector_psi.node.ports import FILTER, TICKETS, Connector, LeafProof, ManifestAnswer, OwnerPort
from connector_psi.node.publishing import record_tokens
from connector_psi.oprf.suite import EvaluatedElements
from connector_psi.protocol import messages
from connector_psi.protocol.owner import Query
from connector_psi.protocol.querier import Batch, Opened, Prepared, SetView, plan_sizes
from connector_psi.storage import queried, records
from connector_psi.storage.queried import BatchRow, TakenSet
from connector_psi.storage.records import StoredRecord
from connector_psi.storage.store import Tx

CLOCK_SKEW_MS = 120_000


@dataclass
class _Mapped:
    """A set that is mapped into memory."""

    epoch: int
    view: SetView
    filter: Filter
    tickets: TicketFile

    def close(self) -> None:
        self.filter.close()
        self.tickets.close()


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch and what is sent of it."""

    batch: Batch
    prepared: Prepared
    payload: Mapping[str, Any] = field(repr=False)
    said: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """For the entry in the log: who asks, and with which records."""


class Querying:
    """Use cases of the querier."""

    def __init__(self, node: Node, connector: Connector) -> None:
        self._node = node
        self._connector = connector
        self._mapped: dict[str, _Mapped] = {}
        self._fresh_until: dict[str, int] = {}
        # One round at a time: rounds of one agreement share a cursor.
        self._running = threading.Lock()

    def close(self) -> None:
        """Unmap all sets."""
        with self._running:
            for mapped in self._mapped.values():
                mapped.close()
            self._mapped.clear()

    def fresh_until_ms(self, code: str) -> int:
        """Return the owner's time up to which its records are in the set in use, 0 before the first."""
        return self._fresh_until.get(code, 0)

    # Taking sets

    def take_newest(self, code: str) -> bool:
        """Fetch the newest set of an agreement, check all of it and put it in use. Returns whether it is a new one.

        A set in use whose files are gone or were damaged is fetched again.

        Raises:
            ProtocolError: The manifest, its log entry or a file is not what it must be; the set in use stays in use.
            UnavailableError: The owner cannot be reached, has published nothing yet, or the disk is full.
        """
        node = self._node
        bound = node.bound(code, QUERIER)
        owner = self._connector.owner(bound.peer)
        answer = owner.get_manifest(code)
        digest = manifests.manifest_hash(answer.manifest)
        with self._running:
            with node.store.read() as tx:
                current = queried.current_set(tx, code)
            if current is not None and current.manifest_hash == digest and _is_of_policy(current, bound):
                if code not in self._mapped:
                    self._use(code, self._fetch(code, manifests.parse_manifest(current.manifest), digest, owner))
                self._fresh_until[code] = answer.fresh_until_ms
                return False
            manifest = self._checked(bound, answer, digest)
            mapped = self._fetch(code, manifest, digest, owner)
            keys = [bytes.fromhex(key) for key in manifest.class_keys.values()]
            with node.store.write() as tx:
                queried.take_set(
                    tx,
                    code,
                    manifest.epoch,
                    answer.manifest,
                    digest,
                    keys,
                    node.now_ms(),
                    millis(manifests.decode_time(manifest.not_after)),
                )
            self._use(code, mapped)
            self._fresh_until[code] = answer.fresh_until_ms
        return True

    def _fetch(self, code: str, manifest: manifests.Manifest, digest: bytes, owner: OwnerPort) -> _Mapped:
        """Make the files of a set lie in its folder, whole, durable and as the manifest says, and map them."""
        folder = self._node.layout.taken_set(code, manifest.epoch)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in (FILTER, TICKETS):
                _download(owner, digest, name, folder / name, getattr(manifest.files, name).size_bytes)
            sync_directory(folder)
        except OSError as error:
            raise UnavailableError(f"{code}: cannot write a set: {error.strerror}") from None
        try:
            return self._map(code, manifest)
        except FormatError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ProtocolError(f"{code}: {error}") from None

    def _checked(self, bound: Bound, answer: ManifestAnswer, digest: bytes) -> manifests.Manifest:
        node, code = self._node, bound.code
        peer = node.peer(bound.peer)
        try:
            manifest = manifests.parse_manifest(answer.manifest)
        except FormatError:
            raise ProtocolError(f"{code}: malformed manifest") from None
        manifests.verify_manifest_signature(peer.public_key, answer.manifest, answer.signature)
        now = node.now_ms()
        expected = (
            manifest.agreement == code
            and manifest.owner == bound.peer
            and manifest.querier == node.authority
            and manifest.synthetic == node.synthetic
            and manifest.policy_hash == bound.policy_hash.hex()
            and manifest.normalisation_version == NORMALISATION_VERSION
            and set(manifest.class_keys) == {c.label for c in bound.agreement.classes}
        )
        if not expected:
            raise ProtocolError(f"{code}: the manifest is not of this agreement, policy or normalisation version")
        life_ms = bound.agreement.max_set_age_h * 3_600_000
        snapshot, not_after = (millis(manifests.decode_time(t)) for t in (manifest.source_snapshot, manifest.not_after))
        if not now < not_after + CLOCK_SKEW_MS or snapshot > now + CLOCK_SKEW_MS or not_after - snapshot > life_ms:
            raise ProtocolError(f"{code}: the manifest's times do not hold")
        keys = [bytes.fromhex(key) for key in manifest.class_keys.values()]
        with node.store.read() as tx:
            if manifest.epoch <= queried.newest_epoch(tx, code):
                raise ProtocolError(f"{code}: an epoch not newer than the newest taken")
            if queried.seen_in_other_epoch(tx, code, keys, manifest.epoch) or len(set(keys)) != len(keys):
                raise ProtocolError(f"{code}: a key of another epoch")
        verify_leaf(node, bound, answer.proof, Event.SET_PUBLISH, manifest_hash=digest, epoch=manifest.epoch)
        return manifest

    def _map(self, code: str, manifest: manifests.Manifest) -> _Mapped:
        """Check the files against the manifest and map them.

        Cost: SHA-256 of the whole set. Without it, a bit that flipped on the disk since would be a match not found.
        """
        folder = self._node.layout.taken_set(code, manifest.epoch)
        manifests.verify_files(manifest, folder / FILTER, folder / TICKETS)
        filter_ = Filter.open(folder / FILTER, manifest.size_class)
        try:
            rows = TicketFile.open(folder / TICKETS, manifest.size_class)
        except BaseException:
            filter_.close()
            raise
        return _Mapped(manifest.epoch, SetView(code, manifest.epoch, filter_, rows), filter_, rows)

    def _view(self, taken: TakenSet) -> SetView:
        code, mapped = taken.agreement, self._mapped.get(taken.agreement)
        if mapped is None or mapped.epoch != taken.epoch:
            try:
                mapped = self._map(code, manifests.parse_manifest(taken.manifest))
            except FormatError as error:
                shutil.rmtree(self._node.layout.taken_set(code, taken.epoch), ignore_errors=True)
                raise UnavailableError(f"{code}: the set was damaged and must be fetched again: {error}") from None
            self._use(code, mapped)
        return mapped.view

    def _use(self, code: str, mapped: _Mapped) -> None:
        """Put a mapped set in use, and delete all others of its agreement with what a crash left of them."""
        self._unmap(code)
        self._mapped[code] = mapped
        folder = self._node.layout.taken_set(code, mapped.epoch)
        for other in folder.parent.iterdir():
            if other.name != folder.name:
                shutil.rmtree(other, ignore_errors=True)

    def _discard(self, taken: TakenSet) -> None:
        self._unmap(taken.agreement)
        shutil.rmtree(self._node.layout.taken_set(taken.agreement, taken.epoch), ignore_errors=True)

    def _unmap(self, code: str) -> None:
        mapped = self._mapped.pop(code, None)
        if mapped is not None:
            mapped.close()

    # Asking

    def pending(self, code: str) -> int:
        """Return how many registered changes have not been queried in the set in use; all of them without a set."""
        with self._node.store.read() as tx:
            taken = queried.current_set(tx, code)
            return records.max_change_seq(tx) - (taken.cursor_seq if taken else 0)

    def run_round(self, code: str) -> int:
        """Query the next changed records of an agreement. Returns how many were followed; 0 means up to date.

        Raises:
            UnavailableError: There is no set, or the owner cannot be reached now.
            RefusedError: The owner refuses.
            PeerError: The owner's answer does not hold; the round stays open.
        """
        node = self._node
        bound = node.bound(code, QUERIER)
        with self._running:
            with node.store.read() as tx:
                taken = queried.current_set(tx, code)
                if taken is None:
                    return 0
                if taken.not_after_ms <= node.now_ms() or not _is_of_policy(taken, bound):
                    # An expired set answers nothing any more, nor does one of another policy: it is not kept either.
                    self._discard(taken)
                    return 0
                open_rows = queried.open_batches(node.store, tx, code, taken.epoch)
                # A round that was opened under a larger setting is finished whole.
                limit = MAX_RECORDS_PER_ROUND if open_rows else node.config.query.records_per_round
                covered = records.live_after(node.store, tx, taken.cursor_seq, limit, node.now_ms())
                newest = records.max_change_seq(tx)
            followed = len(covered)
            if bound.agreement.mode is Mode.CASE:
                # Nothing is asked here without a grant (``access``): what was withdrawn is taken back, no more.
                self._pass_over(code, taken, newest)
                return 0
            if open_rows:
                # A crash: the round is the one whose batches were logged, whatever was registered since.
                until = open_rows[0].round_seq
                covered = [r for r in covered if r.change_seq <= until]
                covered = self._own(bound, covered)
                ready = [self.ready(bound, taken, row) for row in open_rows]
            else:
                # Changes without a live record (withdrawn, expired) need no query.
                until = covered[-1].change_seq if len(covered) == node.config.query.records_per_round else newest
                if until <= taken.cursor_seq:
                    return 0
                covered = self._own(bound, covered)
                ready = self._open_round(bound, taken, covered, until)
            self._finish_round(bound, taken, covered, ready, until)
        return followed

    def _pass_over(self, code: str, taken: TakenSet, until: int) -> None:
        if until > taken.cursor_seq:
            with self._node.store.write() as tx:
                queried.mark_left(tx, code, taken.cursor_seq, until)
                queried.advance_cursor(tx, code, taken.epoch, until)

    @contextmanager
    def set_in_use(self, code: str) -> Iterator[TakenSet | None]:
        """The set in use of an agreement, None without one that holds; no other is taken and no round run meanwhile."""
        with self._running:
            with self._node.store.read() as tx:
                taken = queried.current_set(tx, code)
            yield None if taken is None or taken.not_after_ms <= self._node.now_ms() else taken

    def _own(self, bound: Bound, covered: Sequence[StoredRecord]) -> list[StoredRecord]:
        """The records that this authority may ask with under an agreement, by their category."""
        return [stored for stored in covered if stored.record.category in bound.agreement.querier_categories]

    def _open_round(self, bound: Bound, taken: TakenSet, covered: Sequence[StoredRecord], until: int) -> list[Ready]:
        """Form batches, and log them with seed and tokens in one transaction, before anything is sent."""
        node = self._node
        wanted = [
            (kind, token, stored) for stored in covered for kind, token in record_tokens(bound.agreement, stored.record)
        ]
        actor = f"urn:connector-psi:authority:{node.authority}"
        formed = self.form(bound, taken, wanted, actor, until)
        if not formed:
            return []
        with node.store.write() as tx:
            for ready in formed:
                batch = ready.batch
                queried.put_batch(
                    node.store,
                    tx,
                    batch.request_id,
                    bound.code,
                    taken.epoch,
                    int(batch.token_class),
                    until,
                    ready.payload,
                    node.now_ms(),
                )
                self.log(tx, bound, taken, ready)
        return formed

    def form(
        self,
        bound: Bound,
        taken: TakenSet,
        wanted: Iterable[tuple[IdentifierType, bytes, StoredRecord]],
        actor: str,
        round_seq: int = 0,
    ) -> list[Ready]:
        """Make batches of tokens, class by class. Nothing may be sent before they were kept and logged.

        Args:
            bound: The agreement.
            taken: The set that is asked.
            wanted: Tokens, each with a record that holds it.
            actor: URI of the system or the person who asks.
            round_seq: Up to which change the round goes.
        """
        node = self._node
        by_class: dict[TokenClass, dict[bytes, list[StoredRecord]]] = defaultdict(dict)
        for identifier_type, token, stored in wanted:
            by_class[IDENTIFIER_TABLE[identifier_type].token_class].setdefault(token, []).append(stored)
        commitment = node.keyring.actor_commitment(bound.code, node.clock.now().date(), actor)
        formed: list[Ready] = []
        for token_class, holders_of in by_class.items():
            tokens = list(holders_of)
            start = 0
            for size in plan_sizes(len(tokens)):
                own = tokens[start : start + size]
                start += size
                sources = _sources(own, holders_of)
                payload: dict[str, Any] = {
                    "seed": node.random.bytes(32).hex(),
                    "tokens": [token.hex() for token in own],
                    "digests": [digest.hex() for digest, _ in sources],
                    "held": [held for _, held in sources],
                    "actor_commitment": commitment.hex(),
                }
                refs = sorted({stored.record.source_ref for token in own for stored in holders_of[token]})
                row = BatchRow(node.random.bytes(16), int(token_class), round_seq, payload)
                formed.append(replace(self.ready(bound, taken, row), said={"actor": actor, "records": refs}))
        return formed

    def log(self, tx: Tx, bound: Bound, taken: TakenSet, ready: Ready, **said: str) -> None:
        """Write the CONSULT entry of a batch, with seed and tokens in its body, in the transaction that keeps it."""
        batch = ready.batch
        self._node.append(
            tx,
            Event.CONSULT,
            {"operation": "consultation", **said, **ready.said, **ready.payload},
            bound,
            epoch=taken.epoch,
            token_class=batch.token_class.label,
            request_id=batch.request_id,
            purpose=bound.agreement.purpose.value,
            n_padded=batch.n_padded,
            batch_commitment=ready.prepared.commitment,
            source_commitment=_source_commitment(batch, ready.payload),
            actor_commitment=bytes.fromhex(ready.payload["actor_commitment"]),
            manifest_hash=taken.manifest_hash,
        )

    def _finish_round(
        self, bound: Bound, taken: TakenSet, covered: Sequence[StoredRecord], formed: Sequence[Ready], until: int
    ) -> None:
        found = self.ask(bound, taken, formed)
        with self._node.store.write() as tx:
            self.keep_matches(tx, bound, taken, covered, found)
            queried.mark_left(tx, bound.code, taken.cursor_seq, until)
            queried.drop_batches(tx, bound.code, taken.epoch)
            queried.advance_cursor(tx, bound.code, taken.epoch, until)

    def ask(
        self, bound: Bound, taken: TakenSet, formed: Sequence[Ready], access_id: bytes = b""
    ) -> Mapping[bytes, list[Opened]]:
        """Send batches, check the proofs, and look up. Returns what each token opened.

        Args:
            bound: The agreement.
            taken: The set in use, which stays so meanwhile.
            formed: Batches that were kept and logged.
            access_id: Of the grant, in ``case`` mode.

        Raises:
            UnavailableError: The owner cannot be reached now.
            RefusedError: The owner refuses.
            PeerError: The owner's answer does not hold.
        """
        node = self._node
        owner = self._connector.owner(bound.peer)
        class_keys = {str(label): key for label, key in manifests.parse_manifest(taken.manifest).class_keys.items()}
        view = self._view(taken)
        found: dict[bytes, list[Opened]] = defaultdict(list)
        for ready in formed:
            batch = ready.batch
            query = Query(
                querier=node.authority,
                agreement=bound.code,
                epoch=taken.epoch,
                token_class=batch.token_class,
                request_id=batch.request_id,
                batch_commitment=ready.prepared.commitment,
                source_commitment=_source_commitment(batch, ready.payload),
                actor_commitment=bytes.fromhex(ready.payload["actor_commitment"]),
                access_id=access_id,
                blinded_elements=ready.prepared.blinded_elements,
            )
            evaluated, proof = owner.evaluate(query)
            public_key = bytes.fromhex(class_keys[batch.token_class.label])
            outputs = ready.prepared.finish(public_key, EvaluatedElements(evaluated), proof)
            try:
                opened_rows = view.join(outputs)
            except PeerError:
                # Perhaps the file was damaged since it was mapped: the next turn checks it, and fetches it again.
                self._unmap(bound.code)
                raise
            for opened in opened_rows:
                if opened.ticket.token_class != batch.token_class:
                    raise ProtocolError(f"{bound.code}: a ticket of another class")
                found[batch.tokens[opened.token_index]].append(opened)
        return found

    def keep_matches(
        self,
        tx: Tx,
        bound: Bound,
        taken: TakenSet,
        covered: Sequence[StoredRecord],
        found: Mapping[bytes, list[Opened]],
        whole: Sequence[StoredRecord] | None = None,
    ) -> None:
        """Judge what was found for records and keep the matches; undecided ones that are no more are taken back.

        Args:
            tx: The transaction that ends the round.
            bound: The agreement.
            taken: The set that was asked.
            covered: Records that were asked with.
            found: What ``ask`` returned.
            whole: Those of them of which every token was asked; by default all.
        """
        weak = 0
        kept: set[bytes] = set()
        for stored in covered:
            weak += self._judge(bound, taken, stored, found, tx, kept)
        queried.mark_gone(tx, bound.code, [stored.id for stored in (covered if whole is None else whole)], kept)
        queried.count_weak(tx, bound.code, taken.epoch, weak)

    def ready(self, bound: Bound, taken: TakenSet, row: BatchRow) -> Ready:
        """Return a batch with what is sent of it; always the same bytes."""
        batch = Batch(
            querier=self._node.authority,
            agreement=bound.code,
            epoch=taken.epoch,
            token_class=TokenClass(row.token_class),
            request_id=row.request_id,
            seed=bytes.fromhex(row.payload["seed"]),
            tokens=tuple(bytes.fromhex(token) for token in row.payload["tokens"]),
        )
        return Ready(batch, batch.prepare(), row.payload)

    # Judging

    def _judge(
        self,
        bound: Bound,
        taken: TakenSet,
        stored: StoredRecord,
        found: Mapping[bytes, list[Opened]],
        tx: Tx,
        kept: set[bytes],
    ) -> int:
        """Group what a record's tokens opened by ticket and apply the match rule.

        Adds the identities of its matches to ``kept``. Returns the number of weak groups.
        """
        node = self._node
        groups: dict[bytes, list[tuple[IdentifierType, bytes, Opened]]] = defaultdict(list)
        for identifier_type, token in record_tokens(bound.agreement, stored.record):
            for opened in found.get(token, ()):
                groups[opened.ticket.ticket_id].append((identifier_type, token, opened))
        weak = 0
        judged: dict[tuple[bytes, int], list[tuple[bytes, list[tuple[IdentifierType, bytes, Opened]]]]] = defaultdict(
            list
        )
        for ticket_id, group in sorted(groups.items()):
            verdict = policy.judge(bound.agreement, [identifier_type for identifier_type, _, _ in group])
            if verdict is policy.Verdict.MATCH:
                content = hashlib.sha256(b"".join(messages.lp(t) for t in sorted({t for _, t, _ in group}))).digest()
                judged[content, group[0][2].ticket.category].append((ticket_id, group))
            elif verdict is policy.Verdict.WEAK:
                weak += 1
        for (content, category), same in judged.items():
            for position, (ticket_id, group) in enumerate(same):
                # Ticket ids change with the epoch. Records of the owner that show the same tokens cannot be told apart
                # over epochs, so
                # their number is part of the identity: one more or less, and each is looked at again.
                key = json.dumps([bound.code, stored.id, content.hex(), category, position, len(same)])
                identity = node.store.mac(key.encode())
                kept.add(identity)
                payload = {
                    "ticket_id": ticket_id.hex(),
                    "redeem": [opened.ticket.redeem.hex() for _, _, opened in group],
                    "types": sorted({identifier_type.value for identifier_type, _, _ in group}),
                    "evidence": _evidence(stored, group),
                    "category": _category_name(bound.agreement, category),
                    "record_ref": stored.record.source_ref,
                }
                queried.put_match(
                    node.store,
                    tx,
                    identity=identity,
                    match_id=identity[:16].hex(),
                    agreement=bound.code,
                    epoch=taken.epoch,
                    record_id=stored.id,
                    payload=payload,
                    now_ms=node.now_ms(),
                )
        return weak


def verify_leaf(
    node: Node, bound: Bound, proof: LeafProof, event: Event, *, manifest_hash: bytes | None = None, epoch: int | None
) -> Leaf:
    """Check that the other side's log holds a leaf with these fields; see :func:`check_leaf`."""
    trust = node.trust(bound.agreement, bound.peer)
    vkey = node.peer(bound.peer).log_vkey
    return check_leaf(proof, vkey, trust, event, bound.code, manifest_hash=manifest_hash, epoch=epoch)


def check_leaf(
    proof: LeafProof,
    vkey: str,
    trust: Trust,
    event: Event,
    agreement: str,
    *,
    manifest_hash: bytes | None = None,
    epoch: int | None,
) -> Leaf:
    """Check that a peer's log holds a leaf with these fields, under the witnesses that are wanted; return the leaf.

    Raises:
        ProtocolError: The leaf says something else, or checkpoint, proof or witnesses do not suffice. Never
            ``AuditError``: that is for this node's own log, and ends the node.
    """
    try:
        key = parse_vkey(vkey)
        checkpoint = verify_checkpoint(proof.checkpoint, key, key.name)
        merkle.verify_inclusion(
            merkle.leaf_hash(proof.leaf), proof.index, checkpoint.size, list(proof.proof), checkpoint.root
        )
        witnessed = trust.suffices(parse_note(proof.checkpoint))
        leaf = parse_leaf(proof.leaf)
    except (AuditError, FormatError):
        raise ProtocolError(f"{agreement}: a log entry does not prove") from None
    if not witnessed:
        raise ProtocolError(f"{agreement}: a log entry is not under the witnesses that the agreement wants")
    if (
        leaf.event is not event
        or leaf.agreement != agreement
        or leaf.epoch != epoch
        or leaf.manifest_hash != manifest_hash
    ):
        raise ProtocolError(f"{agreement}: a log entry says something else")
    return leaf


def _is_of_policy(taken: TakenSet, bound: Bound) -> bool:
    """Whether a set was published under the agreement as it is in force here."""
    return manifests.parse_manifest(taken.manifest).policy_hash == bound.policy_hash.hex()


def _download(owner: OwnerPort, digest: bytes, name: str, path: Path, size: int) -> None:
    """Fetch a file, going on where an earlier attempt stopped."""
    offset = path.stat().st_size if path.exists() else 0
    if offset > size:
        path.unlink()
        offset = 0
    if offset == size:
        return
    with path.open("ab") as out:
        for piece in owner.read_set(digest, name, offset):
            offset += len(piece)
            if offset > size:
                raise ProtocolError("a set's file is longer than its manifest says")
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())


def _sources(tokens: Sequence[bytes], holders: Mapping[bytes, list[StoredRecord]]) -> list[tuple[bytes, list[int]]]:
    """The messages behind a batch, by digest: which of the batch's tokens each holds, in batch order."""
    held: dict[bytes, list[int]] = {}
    for position, token in enumerate(tokens):
        for stored in holders[token]:
            positions = held.setdefault(stored.record.message_digest, [])
            if not positions or positions[-1] != position:
                positions.append(position)
    return list(held.items())


def _source_commitment(batch: Batch, payload: Mapping[str, Any]) -> bytes:
    digests = [bytes.fromhex(d) for d in payload["digests"]]
    return messages.source_commitment(
        batch.source_salts(len(digests)), digests, [[batch.tokens[p] for p in held] for held in payload["held"]]
    )


def _evidence(stored: StoredRecord, group: Sequence[tuple[IdentifierType, bytes, Opened]]) -> list[list[str]]:
    tokens = {token for _, token, _ in group}
    return [
        [i.type.value, i.source_path, i.role]
        for i in stored.record.identifiers
        if messages.encode_token(NORMALISATION_VERSION, i.type, i.value) in tokens
    ]


def _category_name(agreement: policy.Agreement, number: int) -> str:
    return agreement.categories[number - 1] if 0 < number <= len(agreement.categories) else ""
