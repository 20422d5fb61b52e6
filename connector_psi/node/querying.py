"""The querier asks: tokens of changed records in batches, and of all live records anew when an epoch turns.

Decides: which records a round covers, what is logged before anything is sent, how a crash continues: open batches are
sent again with identical bytes, and the cursor moves only when a round is complete; how a delta finds the records that
were evaluated before, with no query at all. Leaves to others: the sets (``node.taking``), the batch itself
(``protocol.querier``), what was found (``node.matching``), transport (``ports``).
"""

from __future__ import annotations

import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from connector_psi.audit.entries import Event
from connector_psi.domain.purposes import Mode
from connector_psi.domain.records import TokenClass
from connector_psi.encoding import deltas as links
from connector_psi.encoding import livetokens
from connector_psi.encoding import manifest as manifests
from connector_psi.encoding.livetokens import Appended
from connector_psi.errors import KeyUnavailableError, PeerError, ProtocolError, UnavailableError
from connector_psi.node.config import MAX_RECORDS_PER_ROUND
from connector_psi.node.matching import Found, Matching
from connector_psi.node.node import QUERIER, Bound, Node
from connector_psi.node.ports import Connector
from connector_psi.node.taking import Taking, is_of_policy, published_lookups
from connector_psi.oprf.suite import EvaluatedElements
from connector_psi.protocol import messages
from connector_psi.protocol.owner import Query
from connector_psi.protocol.querier import Batch, Prepared, plan_sizes
from connector_psi.protocol.tokens import Token
from connector_psi.storage import queried, records
from connector_psi.storage.queried import BatchRow, TakenSet
from connector_psi.storage.records import StoredRecord
from connector_psi.storage.store import Tx

TURN_RECORDS = 200
"""Records that are evaluated anew at a time: new ones wait no longer than that takes."""
_TURN = -1
"""In the place of the last change of a round: its records are evaluated anew."""
_ENTRY = struct.Struct(">Q8sI16s64s")


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
        self._taking = Taking(node, connector)
        self.matching = Matching(node)
        """Judges what ``ask`` found."""
        self._looked = threading.Condition()

    def close(self) -> None:
        """Unmap all sets."""
        self._taking.close()

    def fresh_until_ms(self, code: str) -> int:
        """Return the owner's time up to which its records were looked at for all of this node's; 0 before the first."""
        with self._node.store.read() as tx:
            used = queried.sets_in_use(tx, code)
        return min((taken.fresh_ms for taken in used), default=0)

    def live_tokens(self, code: str) -> int:
        """Return how many tokens of records are kept for deltas, those that were superseded included."""
        with self._node.store.read() as tx:
            used = queried.sets_in_use(tx, code)
        return sum(livetokens.entries_in(taken.live_bytes) for taken in used)

    def wait_for_matches(self, timeout_s: float) -> None:
        """Wait until records were looked at again, for a time at most."""
        with self._looked:
            self._looked.wait(timeout_s)

    # Taking sets and deltas

    def take_newest(self, code: str) -> bool:
        """Fetch the newest set of an agreement and put it in use; see :meth:`Taking.take_newest`."""
        return self._taking.take_newest(code)

    def take_deltas(self, code: str) -> int:
        """Fetch the deltas of the sets in use, and look at the records that each concerns. Returns how many came.

        Raises:
            ProtocolError: A delta is not what it must be; those before it count.
            UnavailableError: The owner cannot be reached now.
        """
        node = self._node
        bound = node.bound(code, QUERIER)
        done = 0
        with self._taking.lock(code):
            used = self._used(bound)
            # The newest last, so that it knows all that the others know.
            for at in reversed(range(len(used))):
                try:
                    done += self._take_chain(bound, used, at)
                except (KeyUnavailableError, UnavailableError):
                    if not at:
                        raise
                    # The owner has ended that epoch: what is known of it serves on.
        return done

    def _take_chain(self, bound: Bound, used: list[TakenSet], at: int) -> int:
        done = 0
        for piece in self._taking.new_deltas(bound, used[at]):
            used[at] = self._take_piece(bound, used[at], piece, used[:at])
            done += len(piece)
        return done

    def _used(self, bound: Bound) -> list[TakenSet]:
        """The sets in use that answer now, the newest first; what does not is ended."""
        node = self._node
        with node.store.read() as tx:
            used = queried.sets_in_use(tx, bound.code)
        answering = []
        for taken in used:
            # An expired set answers nothing any more, nor does one of another policy: it is not kept either.
            if taken.not_after_ms <= node.now_ms():
                self._taking.end(taken, "expired")
            elif not is_of_policy(taken, bound):
                self._taking.end(taken, "policy")
            else:
                answering.append(taken)
        return answering

    def _take_piece(
        self,
        bound: Bound,
        taken: TakenSet,
        piece: Sequence[tuple[links.Delta, bytes]],
        newer: Sequence[TakenSet],
    ) -> TakenSet:
        """Apply deltas, and judge anew the records that they concern, in one transaction."""
        mapped = self._taking.mapped(taken)
        last, raw = piece[-1]
        digest = links.delta_hash(raw)
        try:
            self._taking.apply(taken, piece)
            numbers = mapped.live.met_by(
                [lookup for delta, _ in piece for lookup in delta.row_lookups()],
                [lookup for delta, _ in piece for lookup in delta.removed_lookups()],
            )
            for other in newer:
                # What was evaluated in a newer set is found there.
                numbers -= self._taking.mapped(other).live.has(numbers)
            concerned, found = self._probed(bound, taken, numbers)
            appended = mapped.live.append(self._entries(bound, concerned, found))
            with self._node.store.write() as tx:
                queried.keep_delta(tx, bound.code, taken.epoch, last.seq, digest, last.snapshot_ms)
                if concerned:
                    self.matching.keep(tx, bound, taken, concerned, found)
                    queried.keep_live(tx, bound.code, taken.epoch, appended.size_bytes)
        except BaseException:
            self._taking.unmap(bound.code, taken.epoch)
            raise
        self._keep_live(taken, appended, concerned, found, bound)
        return replace(
            taken,
            delta_seq=last.seq,
            delta_hash=digest,
            fresh_ms=last.snapshot_ms,
            live_bytes=appended.size_bytes,
        )

    def _probed(
        self, bound: Bound, taken: TakenSet, numbers: Iterable[int]
    ) -> tuple[list[StoredRecord], dict[bytes, Found]]:
        """Look live records up once more, without a query, by what is kept of their tokens."""
        node = self._node
        wanted = sorted(numbers)
        if not wanted:
            return [], {}
        mapped = self._taking.mapped(taken)
        held = mapped.live.of(wanted)
        with node.store.read() as tx:
            live = records.live_among(node.store, tx, wanted, node.now_ms())
        concerned, outputs = [], dict[bytes, bytes]()
        for stored in self._own(bound, live):
            tokens = {token.value for token in node.tokens(bound, stored.record)}
            tags = {token: self._tag(token) for token in tokens}
            kept = held[stored.id].outputs if stored.id in held else {}
            # What changed since it was evaluated waits for its round.
            if stored.change_seq <= taken.cursor_seq and all(tag in kept for tag in tags.values()):
                concerned.append(stored)
                outputs |= {token: kept[tag] for token, tag in tags.items()}
        probed = mapped.view.probe(list(outputs.values()))
        return concerned, {
            token: Found(output, one) for (token, output), one in zip(outputs.items(), probed, strict=True)
        }

    # Live tokens

    def _tag(self, token: bytes) -> bytes:
        return self._node.store.mac(token)[: livetokens.TAG_BYTES]

    def _entries(
        self, bound: Bound, covered: Sequence[StoredRecord], found: Mapping[bytes, Found]
    ) -> livetokens.Entries:
        tags = {token: self._tag(token) for token in found}
        packed = b"".join(
            _ENTRY.pack(
                stored.id,
                tags[token],
                found[token].probed.published,
                found[token].probed.next_lookup,
                found[token].output,
            )
            for stored in covered
            for token in dict.fromkeys(t.value for t in self._node.tokens(bound, stored.record))
            if token in found
        )
        return np.frombuffer(packed, dtype=livetokens.ENTRY)

    def _keep_live(
        self,
        taken: TakenSet,
        appended: Appended,
        covered: Sequence[StoredRecord],
        found: Mapping[bytes, Found],
        bound: Bound,
    ) -> None:
        """Take what was appended into account, once its transaction is durable."""
        live = self._taking.mapped(taken).live
        live.keep(appended)
        with self._looked:
            self._looked.notify_all()
        met = {
            token: published_lookups(one.output, one.probed.published)
            for token, one in found.items()
            if one.probed.published
        }
        if not met:
            return
        for stored in covered:
            for token in self._node.tokens(bound, stored.record):
                live.note_opened(stored.id, met.get(token.value, ()))

    def drop_left(self, code: str) -> int:
        """Write the files of live tokens anew without what records had that left or were evaluated since.

        Returns how many entries went.
        """
        node = self._node
        bound = node.bound(code, QUERIER)
        gone = 0
        with self._taking.lock(code):
            for taken in self._used(bound):
                live = self._taking.mapped(taken).live
                entries = np.concatenate([np.zeros(0, dtype=livetokens.ENTRY), *live.newest()])
                with node.store.read() as tx:
                    still = records.still_live(tx, np.unique(entries["record"]).tolist(), node.now_ms())
                kept = entries[np.isin(entries["record"], np.array(sorted(still), dtype=np.uint64))]
                if len(kept) < len(live):
                    gone += len(live) - len(kept)
                    self._taking.rewrite_live(taken, kept)
        return gone

    # Asking

    def pending(self, code: str) -> int:
        """Return how many registered changes have not been queried in the set in use; all of them without a set."""
        with self._node.store.read() as tx:
            taken = queried.current_set(tx, code)
            return records.max_change_seq(tx) - (taken.cursor_seq if taken else 0)

    def waits(self, code: str, until_ms: int) -> bool:
        """Return whether something that was registered until a time has not been queried in the set in use."""
        with self._node.store.read() as tx:
            taken = queried.current_set(tx, code)
            return taken is None or records.changed_until(tx, taken.cursor_seq, until_ms)

    def turning(self, code: str) -> bool:
        """Return whether live records wait to be evaluated anew in the newest set, or a set before it to be ended."""
        with self._node.store.read() as tx:
            used = queried.sets_in_use(tx, code)
        return bool(used) and (len(used) > 1 or not used[0].turn_done)

    def run_rounds(self, code: str) -> int:
        """Query all that changed until now; what comes meanwhile waits for the next turn, which is on a clock.

        Returns how many records were followed.

        Raises:
            As ``run_round``.
        """
        with self._node.store.read() as tx:
            newest = records.max_change_seq(tx)
        followed, before = 0, -1
        while before < (cursor := self._cursor(code)) < newest:
            before = cursor
            followed += self.run_round(code)
        return followed

    def _cursor(self, code: str) -> int:
        with self._node.store.read() as tx:
            taken = queried.current_set(tx, code)
        return taken.cursor_seq if taken is not None else -1

    def run_round(self, code: str) -> int:
        """Query the next changed records of an agreement. Returns how many were followed; 0 means up to date.

        Raises:
            UnavailableError: There is no set, or the owner cannot be reached now.
            RefusedError: The owner refuses.
            PeerError: The owner's answer does not hold; the round stays open.
        """
        node = self._node
        bound = node.bound(code, QUERIER)
        with self._taking.lock(code):
            used = self._used(bound)
            if not used or used[0].state != queried.MAPPED:
                return 0
            taken = used[0]
            if _is_behind(taken, used[1:]):
                return 0
            with node.store.read() as tx:
                open_rows = [
                    row for row in queried.open_batches(node.store, tx, code, taken.epoch) if row.round_seq != _TURN
                ]
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
                formed = [self.ready(bound, taken, row) for row in open_rows]
            else:
                # Changes without a live record (withdrawn, expired) need no query.
                until = covered[-1].change_seq if len(covered) == node.config.query.records_per_round else newest
                if until <= taken.cursor_seq:
                    return 0
                covered = self._own(bound, covered)
                formed = self._open_round(bound, taken, covered, until)
            found = self.ask(bound, taken, formed)
            with self._finishing(bound, taken, covered, formed, found) as tx:
                queried.mark_left(tx, code, taken.cursor_seq, until)
                queried.advance_cursor(tx, code, taken.epoch, until)
        return followed

    def run_turn(self, code: str) -> int:
        """Evaluate some live records anew in the newest set, in the order in which their time ends: what leaves soonest
        has the least time to be found in. Returns how many; 0 once all are, and the sets before have ended.

        Raises:
            As ``run_round``.
        """
        node = self._node
        bound = node.bound(code, QUERIER)
        with self._taking.lock(code):
            used = self._used(bound)
            if not used or used[0].state != queried.MAPPED:
                return 0
            taken, before = used[0], used[1:]
            if taken.turn_done or _is_behind(taken, before):
                self._end_before(taken, before)
                return 0
            with node.store.read() as tx:
                open_rows = [
                    row for row in queried.open_batches(node.store, tx, code, taken.epoch) if row.round_seq == _TURN
                ]
                page = records.by_remaining_life(
                    node.store,
                    tx,
                    until_seq=taken.turn_seq,
                    after=(taken.turn_until_ms, taken.turn_id),
                    limit=TURN_RECORDS,
                    now_ms=node.now_ms(),
                )
            if open_rows:
                last = (open_rows[0].payload["turn"][0], open_rows[0].payload["turn"][1])
                page = [(stored, key) for stored, key in page if key <= last]
                formed = [self.ready(bound, taken, row) for row in open_rows]
            else:
                last = page[-1][1] if page else (taken.turn_until_ms, taken.turn_id)
                formed = []
            covered = [] if bound.agreement.mode is Mode.CASE else self._own(bound, [stored for stored, _ in page])
            if not open_rows:
                formed = self._open_round(bound, taken, covered, _TURN, last)
            done = not open_rows and len(page) < TURN_RECORDS
            found = self.ask(bound, taken, formed)
            with self._finishing(bound, taken, covered, formed, found) as tx:
                queried.advance_turn(tx, code, taken.epoch, *last, done=done)
            if done:
                self._end_before(replace(taken, turn_done=True), before)
        return len(page)

    def _end_before(self, taken: TakenSet, before: Sequence[TakenSet]) -> None:
        """End the sets before the newest once it knows all of their records."""
        for other in before:
            if taken.turn_done and taken.cursor_seq >= other.cursor_seq:
                self._taking.end(other, "superseded")

    def _pass_over(self, code: str, taken: TakenSet, until: int) -> None:
        if until > taken.cursor_seq:
            with self._node.store.write() as tx:
                queried.mark_left(tx, code, taken.cursor_seq, until)
                queried.advance_cursor(tx, code, taken.epoch, until)

    @contextmanager
    def set_in_use(self, code: str) -> Iterator[TakenSet | None]:
        """The set in use of an agreement, None without one that holds; no other is taken and no round run meanwhile."""
        with self._taking.lock(code):
            with self._node.store.read() as tx:
                taken = queried.current_set(tx, code)
            yield None if taken is None or taken.not_after_ms <= self._node.now_ms() else taken

    def _own(self, bound: Bound, covered: Sequence[StoredRecord]) -> list[StoredRecord]:
        """The records that this authority may ask with under an agreement, by their category."""
        return [stored for stored in covered if stored.record.category in bound.agreement.querier_categories]

    def _open_round(
        self,
        bound: Bound,
        taken: TakenSet,
        covered: Sequence[StoredRecord],
        until: int,
        turn: tuple[int, int] | None = None,
    ) -> list[Ready]:
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
                    ready.payload if turn is None else {**ready.payload, "turn": list(turn)},
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

    @contextmanager
    def _finishing(
        self,
        bound: Bound,
        taken: TakenSet,
        covered: Sequence[StoredRecord],
        formed: Sequence[Ready],
        found: Mapping[bytes, Found],
    ) -> Iterator[Tx]:
        """The transaction that ends a round: its matches, its live tokens, and what the block does."""
        live = self._taking.mapped(taken).live
        appended = live.append(self._entries(bound, covered, found))
        with self._node.store.write() as tx:
            self.matching.keep(tx, bound, taken, covered, found)
            queried.drop_batches(tx, [ready.batch.request_id for ready in formed])
            queried.keep_live(tx, bound.code, taken.epoch, appended.size_bytes)
            yield tx
        self._keep_live(taken, appended, covered, found, bound)

    def ask(
        self, bound: Bound, taken: TakenSet, formed: Sequence[Ready], access_id: bytes = b""
    ) -> Mapping[bytes, Found]:
        """Send batches, check the proofs, and look up. Returns what was found of each token.

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
        if not formed:
            return {}
        owner = self._connector.owner(bound.peer)
        class_keys = {str(label): key for label, key in manifests.parse_manifest(taken.manifest).class_keys.items()}
        view = self._taking.mapped(taken).view
        found: dict[bytes, Found] = {}
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
                probed = view.probe(outputs)
            except PeerError:
                # Perhaps the file was damaged since it was mapped: the next turn checks it, and fetches it again.
                self._taking.unmap(bound.code, taken.epoch)
                raise
            for token, output, one in zip(batch.tokens, outputs, probed, strict=True):
                if any(ticket.token_class != batch.token_class for ticket in one.opened):
                    raise ProtocolError(f"{bound.code}: a ticket of another class")
                found[token] = Found(output, one)
        return found

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


def _is_behind(newest: TakenSet, before: Sequence[TakenSet]) -> bool:
    """Whether a set does not yet know all that those before it know: a match would go and come back."""
    return any(other.fresh_ms > newest.fresh_ms for other in before)


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
