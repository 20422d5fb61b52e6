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
from connector_psi.domain.naming.keys import HeldKey, Shape
from connector_psi.domain.purposes import Mode
from connector_psi.domain.records import IdentifierType, TokenClass
from connector_psi.encoding import manifest as manifests
from connector_psi.encoding.atomicfile import sync_directory
from connector_psi.encoding.bloom import Filter
from connector_psi.encoding.tickets import TicketFile
from connector_psi.errors import AuditError, FormatError, PeerError, ProtocolError, UnavailableError
from connector_psi.node.config import MAX_RECORDS_PER_ROUND
from connector_psi.node.node import QUERIER, Bound, Node, millis
from connector_psi.node.ports import FILTER, TICKETS, Connector, LeafProof, ManifestAnswer, OwnerPort
from connector_psi.node.publishing import token_terms
from connector_psi.oprf.suite import EvaluatedElements
from connector_psi.protocol import messages
from connector_psi.protocol.owner import Query
from connector_psi.protocol.querier import Batch, Opened, Prepared, SetView, plan_sizes
from connector_psi.protocol.tokens import Token, is_born, weights_of
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
        terms = token_terms(bound.agreement, node.name_groups(bound))
        if (manifest.name_rules, manifest.name_weights) != (terms["name_rules"], terms["name_weights"]):
            raise ProtocolError(f"{code}: the set was made by other rules or weights of names than this node's")
        if manifest.families != terms["families"]:
            raise ProtocolError(f"{code}: the set may hold other families of tokens than the agreement has")
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
        wanted = [(token, stored) for stored in covered for token in node.tokens(bound, stored.record)]
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
        wanted: Iterable[tuple[Token, StoredRecord]],
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
        for token, stored in wanted:
            holders = by_class[token.token_class].setdefault(token.value, [])
            # Two parties of one name have one token; the record holds it once.
            if not holders or holders[-1] is not stored:
                holders.append(stored)
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
        pairs = [pair for stored in covered for pair in self._pairs(bound, stored, found)]
        judgements = policy.judge_all(bound.agreement, [pair.equal() for pair in pairs], weights_of(bound.agreement))
        by_record: dict[int, list[tuple[_Pair, policy.Judgement]]] = defaultdict(list)
        for pair, judgement in zip(pairs, judgements, strict=True):
            if judgement.verdict is policy.Verdict.MATCH:
                by_record[pair.stored.id].append((pair, judgement))
        weak = sum(judgement.verdict is policy.Verdict.WEAK for judgement in judgements)
        kept: set[bytes] = set()
        for matches in by_record.values():
            self._keep(tx, bound, taken, matches, kept)
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

    def _pairs(self, bound: Bound, stored: StoredRecord, found: Mapping[bytes, list[Opened]]) -> list[_Pair]:
        """Group what a record's tokens opened by ticket, and of names by the party here and the party there."""
        groups = self._node.name_groups(bound)
        # By token: an owner that publishes one twice for a record does not make it count twice.
        exact: dict[bytes, dict[bytes, _Hit]] = defaultdict(dict)
        named: dict[bytes, dict[tuple[int, int], dict[bytes, _Hit]]] = defaultdict(lambda: defaultdict(dict))
        for token in self._node.tokens(bound, stored.record):
            for opened in found.get(token.value, ()):
                ticket = opened.ticket
                if token.key is None:
                    exact[ticket.ticket_id].setdefault(token.value, (token, opened))
                else:
                    named[ticket.ticket_id][token.part, ticket.part].setdefault(token.value, (token, opened))
        parties = stored.record.parties
        return [
            _Pair(
                stored,
                ticket_id,
                tuple(exact.get(ticket_id, {}).values()),
                tuple(tuple(hits.values()) for _, hits in parts),
                tuple(is_born(parties[own - 1], groups) for (own, _), _ in parts),
            )
            for ticket_id in sorted(exact.keys() | named.keys())
            for parts in [sorted(named.get(ticket_id, {}).items())]
        ]

    def _keep(
        self,
        tx: Tx,
        bound: Bound,
        taken: TakenSet,
        matches: Sequence[tuple[_Pair, policy.Judgement]],
        kept: set[bytes],
    ) -> None:
        """Keep the matches of one record, and add their identities to ``kept``."""
        node = self._node
        judged: dict[tuple[bytes, int], list[tuple[_Pair, policy.Judgement]]] = defaultdict(list)
        for pair, judgement in matches:
            values = sorted({token.value for token, _ in pair.claimed(judgement)})
            content = hashlib.sha256(b"".join(map(messages.lp, values))).digest()
            judged[content, pair.category].append((pair, judgement))
        for (content, category), same in judged.items():
            for position, (pair, judgement) in enumerate(same):
                # Ticket ids change with the epoch. Records of the owner that show the same tokens cannot be told apart
                # over epochs, so
                # their number is part of the identity: one more or less, and each is looked at again.
                stored, claimed = pair.stored, pair.claimed(judgement)
                key = json.dumps([bound.code, stored.id, content.hex(), category, position, len(same)])
                identity = node.store.mac(key.encode())
                kept.add(identity)
                payload = {
                    "ticket_id": pair.ticket_id.hex(),
                    "redeem": [opened.ticket.redeem.hex() for _, opened in claimed],
                    "types": sorted({token.word for token, _ in claimed}),
                    "evidence": _evidence(stored, [token for token, _ in claimed]),
                    "band": judgement.band.value if judgement.band is not None else "",
                    "corroborators": [each.value for each in judgement.corroborators],
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


_Hit = tuple[Token, Opened]
"""A token of the own record, and a ticket that it opened."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """What is equal between a record of this node and a record of the owner, known by its ticket."""

    stored: StoredRecord
    ticket_id: bytes
    exact: tuple[_Hit, ...]
    """Identifiers."""
    groups: tuple[tuple[_Hit, ...], ...]
    """Name keys, each group of one party here and one party there."""
    born: tuple[bool, ...]
    """Of each group, whether the party here was asked about with a date of birth."""

    def equal(self) -> policy.EqualTokens:
        """What the match rule looks at; shapes are those that the owner's tickets say."""
        return policy.EqualTokens(
            tuple(token.kind for token, _ in self.exact if isinstance(token.kind, IdentifierType)),
            tuple(
                policy.NameGroup(
                    tuple(HeldKey(t.key, Shape(o.ticket.shape)) for t, o in group if t.key is not None), born
                )
                for group, born in zip(self.groups, self.born, strict=True)
            ),
        )

    def claimed(self, judgement: policy.Judgement) -> tuple[_Hit, ...]:
        """What a match consists of, and is claimed with: all identifiers, and the names of the party that matched."""
        return self.exact if judgement.group is None else (*self.exact, *self.groups[judgement.group])

    @property
    def category(self) -> int:
        """Of the owner's record, as its tickets show it."""
        (_, opened), *_ = self.exact or self.groups[0]
        return opened.ticket.category


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


def _evidence(stored: StoredRecord, tokens: Sequence[Token]) -> list[list[str]]:
    """Where in the own record what a match consists of stands: what it is, path and role."""
    values = {token.value for token in tokens if token.key is None}
    found = [
        [i.type.value, i.source_path, i.role]
        for i in stored.record.identifiers
        if messages.encode_token(NORMALISATION_VERSION, i.type, i.value) in values
    ]
    for part, word in sorted({(token.part, token.word) for token in tokens if token.key is not None}):
        party = stored.record.parties[part - 1]
        found.append([word, party.source_path, party.role])
    return found


def _category_name(agreement: policy.Agreement, number: int) -> str:
    return agreement.categories[number - 1] if 0 < number <= len(agreement.categories) else ""
