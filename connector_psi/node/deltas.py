"""The owner's deltas: what changed in its records since a set was published, on a clock, empty or not.

Every set that still answers has a chain of its own. A link says which rows came and which lookups went, padded to a
ladder, signed, and in the log as SET_PUBLISH before anybody gets it. An edit that keeps a token publishes nothing.

Decides: when links are due, which rows a change takes and gives, which dummies fill up. Leaves to others: the bytes
(``encoding.deltas``), rows (``protocol.owner``), what is kept (``storage.owned``), whole sets (``node.publishing``).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from connector_psi.audit.entries import Event
from connector_psi.encoding import deltas as links
from connector_psi.encoding import manifest as manifests
from connector_psi.encoding import tickets
from connector_psi.encoding.atomicfile import PARTIAL_SUFFIX
from connector_psi.encoding.deltas import Delta
from connector_psi.encoding.ownedset import OwnedSet
from connector_psi.encoding.sealedfile import SealedFile, seal_bytes
from connector_psi.errors import KeyUnavailableError, UnavailableError
from connector_psi.node.node import OWNER, Bound, Node
from connector_psi.node.ports import DeltaAnswer
from connector_psi.node.publishing import Publishing, case_keys, encode_item, is_of_policy
from connector_psi.protocol.owner import EncodeItem, SetEncoder, count_published, derive_class_keys
from connector_psi.protocol.tokens import Token
from connector_psi.storage import owned, records
from connector_psi.storage.owned import EpochRow, RowOf

T = TypeVar("T")
CHANGES_A_LINK = 2_000
"""Changed records that are looked at together."""
LINKS_A_TURN = 64
"""More than that waits for the next turn, so that other agreements have theirs."""
LINKS_A_PAGE = 64
UNASKED_MS = 600_000
"""A superseded epoch for whose links nobody asked for so long gets none until somebody does."""
_DUMMIES = 0
"""In the place of a record: dummies that deltas published and did not pretend to remove yet."""
_NO_TAG = bytes(tickets.TICKET_TAG_BYTES)


@dataclass
class _Chain:
    """What is open of a set that still answers."""

    files: OwnedSet
    added: set[bytes]
    """Lookups of all rows of its links."""
    encoder: SetEncoder


@dataclass
class _Changes:
    """What some changes of records do to a set."""

    until: int
    """The last of the changes."""
    whole: bool
    """Whether there are no more."""
    rows: dict[int, list[RowOf]] = field(default_factory=dict)
    """What each changed record has afterwards."""
    removed: list[bytes] = field(default_factory=list)
    new: bytearray = field(default_factory=bytearray)


class Deltas:
    """Use cases of an owner's chains."""

    def __init__(self, node: Node, publishing: Publishing) -> None:
        self._node = node
        self._publishing = publishing
        self._lock = threading.Lock()
        self._chains: dict[tuple[str, int], _Chain] = {}
        self._opened_ms = node.now_ms()
        self._asked: dict[tuple[str, int], int] = {}
        """When the querier last asked for the links of an epoch."""

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for chain in self._chains.values():
                chain.files.close()
            self._chains.clear()

    def forget(self, code: str, epoch: int) -> None:
        """Close the files of an epoch that has ended."""
        with self._lock:
            chain = self._chains.pop((code, epoch), None)
            self._asked.pop((code, epoch), None)
        if chain is not None:
            chain.files.close()

    # The clock

    def due(self, code: str) -> list[EpochRow]:
        """Return the epochs of an agreement of which a link is due: one at each multiple of the setting since 1970,
        unless the querier takes none.

        The newest comes last, so that it knows all that the others know.
        """
        node = self._node
        bound = node.bound(code, OWNER)
        if not self._publishing.takes_deltas(code):
            return []
        now, step = node.now_ms(), max(1, round(node.config.publish.delta_s * 1000))
        with node.store.read() as tx:
            rows = owned.answering(tx, code, now)
        rows.reverse()
        return [
            row
            for row in rows
            if is_of_policy(row, bound) and (row.linked_ms or 0) // step < now // step and self._is_used(row, now)
        ]

    def _is_used(self, row: EpochRow, now_ms: int) -> bool:
        """Whether the querier may still use an epoch: of one that it left nothing is made, until it asks again."""
        asked_ms = self._asked.get((row.agreement, row.epoch), self._opened_ms)
        return row.superseded_ms is None or now_ms - max(asked_ms, row.superseded_ms) < UNASKED_MS

    def publish(self, code: str, epoch: int) -> int:
        """Publish the links of an epoch that its records' changes need, at least one. Returns how many.

        Raises:
            PurposeRefusedError: The agreement is not this node's, or may not run.
            KeyUnavailableError: The epoch has ended.
            UnavailableError: The disk is full.
        """
        bound = self._node.bound(code, OWNER)
        with self._lock:
            done = 0
            while True:
                with self._node.store.read() as tx:
                    row = owned.get_epoch(tx, code, epoch)
                if row is None or row.wrapped_seed is None or row.manifest is None or not is_of_policy(row, bound):
                    raise KeyUnavailableError("the epoch is not in force")
                changes, made = self._link(bound, row, self._chain(bound, row))
                done += made
                if changes.whole or done >= LINKS_A_TURN:
                    return done

    def _chain(self, bound: Bound, row: EpochRow) -> _Chain:
        held = self._chains.get((row.agreement, row.epoch))
        if held is not None:
            return held
        node, code, epoch = self._node, row.agreement, row.epoch
        assert row.manifest is not None
        assert row.wrapped_seed is not None
        key = bytes(node.keyring.epoch_file_key(code, epoch))
        folder = node.layout.owned_set(code, epoch)
        for partial in folder.glob(f".*{PARTIAL_SUFFIX}"):
            # What a crash left of a link that was never published.
            partial.unlink(missing_ok=True)
        files = OwnedSet(folder, key, manifests.parse_manifest(row.manifest).size_class)
        added: set[bytes] = set()
        try:
            for seq in range(1, row.delta_seq + 1):
                added.update(links.parse_delta(self._read(row, seq, key)).row_lookups())
        except BaseException:
            files.close()
            raise
        k_ticket, k_redeem = case_keys(node, row)
        seed = node.keyring.epoch_seed(code, epoch, row.wrapped_seed)
        keys = derive_class_keys(bytes(seed), code, epoch, bound.agreement.classes)

        def had(lookup: bytes) -> bool:
            return lookup in added or files.had(lookup)

        encoder = SetEncoder(
            code, epoch, keys, k_ticket, k_redeem, node.random, published=lambda y: count_published(y, had)
        )
        chain = self._chains[code, epoch] = _Chain(files, added, encoder)
        return chain

    def _read(self, row: EpochRow, seq: int, key: bytes) -> bytes:
        with SealedFile(self._node.layout.owned_set(row.agreement, row.epoch) / _file(seq), key) as sealed:
            return sealed.read(0, sealed.size_bytes)

    # What changed

    def _changes(self, bound: Bound, row: EpochRow, chain: _Chain, now_ms: int) -> _Changes:
        node, code, epoch = self._node, row.agreement, row.epoch
        with node.store.read() as tx:
            since = row.change_seq or 0
            changed = records.changed_after(tx, since, CHANGES_A_LINK)
            found = _Changes(changed[-1].change_seq if changed else since, whole=len(changed) < CHANGES_A_LINK)
            numbers = [change.id for change in changed]
            rows_before = owned.changed_rows_among(node.store, tx, code, epoch, numbers)
            eligible = records.eligible_among(node.store, tx, numbers, bound.agreement.categories, now_ms)
            new: list[EncodeItem] = []
            for number in numbers:
                before = rows_before.get(number)
                published = chain.files.rows_of(number) if before is None else before
                stored = eligible.get(number)
                if not published and stored is None:
                    continue
                item = encode_item(node, bound, stored) if stored is not None else None
                kept, wanted = _kept(published, chain.encoder.tags(item) if item is not None else [])
                staying = {lookup for _, lookup in kept}
                found.removed += [lookup for _, lookup in published if lookup not in staying]
                if before is not None or len(kept) < len(published) or wanted:
                    found.rows[number] = kept
                if item is not None and wanted:
                    new.append(EncodeItem(item.record_number, item.category_number, tuple(wanted)))
        for encoded in chain.encoder.encode([new] if new else []):
            found.new += encoded.rows
            for at, number in enumerate(encoded.records):
                lookup = encoded.lookups[16 * at : 16 * at + 16]
                found.rows[number].append((encoded.tags[8 * at : 8 * at + 8], lookup))
        return found

    def _link(self, bound: Bound, row: EpochRow, chain: _Chain) -> tuple[_Changes, int]:
        try:
            return self._linked(bound, row, chain)
        except BaseException:
            # The encoder counts rows that were not published; it begins anew with what is on the disk.
            self._chains.pop((row.agreement, row.epoch)).files.close()
            raise

    def _linked(self, bound: Bound, row: EpochRow, chain: _Chain) -> tuple[_Changes, int]:
        node, code, epoch = self._node, row.agreement, row.epoch
        now = node.now_ms()
        changes = self._changes(bound, row, chain, now)
        with node.store.read() as tx:
            held = owned.changed_rows_among(node.store, tx, code, epoch, [_DUMMIES]).get(_DUMMIES, [])
        dummies = _Dummies(chain.files, row.dummies_used, [lookup for _, lookup in held], self._random_below)
        made = self._assemble(row, changes, dummies, now)
        key = bytes(node.keyring.epoch_file_key(code, epoch))
        folder = node.layout.owned_set(code, epoch)
        for delta, raw in made:
            seal_bytes(raw, folder / _file(delta.seq), key, node.random)
        changes.rows[_DUMMIES] = [(_NO_TAG, lookup) for lookup in dummies.published]
        new_rows = len(changes.new) // tickets.ROW_BYTES
        with node.store.write() as tx:
            for delta, raw in made:
                digest = links.delta_hash(raw)
                entry = node.append(
                    tx,
                    Event.SET_PUBLISH,
                    {"delta": delta.seq, "records_until": changes.until},
                    bound,
                    epoch=epoch,
                    manifest_hash=digest,
                )
                owned.keep_delta(
                    tx,
                    code,
                    epoch,
                    delta.seq,
                    digest,
                    links.sign_delta(node.signing_key, raw),
                    entry.index,
                    fresh_ms=delta.snapshot_ms,
                    linked_ms=now,
                    change_seq=changes.until,
                    dummies_used=dummies.used,
                    tokens=(row.tokens or 0) + new_rows - len(changes.removed),
                    delta_rows=row.delta_rows + sum(len(d.rows) // tickets.ROW_BYTES for d, _ in made),
                )
            owned.keep_changed_rows(node.store, tx, code, epoch, changes.rows)
        for delta, _ in made:
            chain.added.update(delta.row_lookups())
        return changes, len(made)

    def _assemble(self, row: EpochRow, changes: _Changes, dummies: _Dummies, now_ms: int) -> list[tuple[Delta, bytes]]:
        """Distribute rows and removed lookups over links, and fill each up."""
        node = self._node
        assert row.manifest is not None
        new = [bytes(changes.new[at : at + _ROW]) for at in range(0, len(changes.new), _ROW)]
        row_parts = _chunks(new, links.MAX_NEW_ROWS)
        removed_parts, removed = [], changes.removed
        for count in links.removed_parts(len(removed), len(dummies)):
            removed_parts.append(removed[:count])
            removed = removed[count:]
        prev = row.delta_hash or bytes.fromhex(manifests.parse_manifest(row.manifest).delta_chain_start)
        made: list[tuple[Delta, bytes]] = []
        count = max(len(row_parts), len(removed_parts))
        for at in range(count):
            own = row_parts[at] if at < len(row_parts) else []
            gone = removed_parts[at] if at < len(removed_parts) else []
            gone = [*gone, *dummies.take(links.removed_rung(len(gone)) - len(gone))]
            filling = tickets.dummy_rows(links.row_rung(len(own)) - len(own), node.random)
            last = at == count - 1 and changes.whole
            delta = Delta(
                agreement=row.agreement,
                epoch=row.epoch,
                seq=row.delta_seq + at + 1,
                prev_hash=prev,
                snapshot_ms=now_ms if last else row.fresh_ms or 0,
                rows=links.sort_rows(b"".join(own) + filling),
                removed=b"".join(sorted(gone)),
            )
            raw = links.encode_delta(delta)
            dummies.publish(filling)
            prev = links.delta_hash(raw)
            made.append((delta, raw))
        return made

    def _random_below(self, bound: int) -> int:
        # 64 bits more than the bound needs: the bias is 2^-64.
        return int.from_bytes(self._node.random.bytes(16)) % bound

    # Serving

    def answers(self, peer: str, code: str, epoch: int, from_seq: int) -> Iterator[DeltaAnswer]:
        """Yield the links of an epoch's chain from one on, as far as a checkpoint covers them.

        Raises:
            PurposeRefusedError: The peer is not the querier of the agreement.
            KeyUnavailableError: There is no such epoch, or it has ended.
        """
        node = self._node
        node.bound(code, OWNER, peer)
        self._publishing.note_deltas(code)
        seq = max(1, from_seq)
        while True:
            bound = node.bound(code, OWNER, peer)
            with node.store.read() as tx:
                row = owned.get_epoch(tx, code, epoch)
                page = owned.deltas_from(tx, code, epoch, seq, LINKS_A_PAGE)
            if (
                row is None
                or row.wrapped_seed is None
                or (row.not_after_ms or 0) <= node.now_ms()
                or not is_of_policy(row, bound)
            ):
                raise KeyUnavailableError("the epoch is not in force")
            self._asked[code, epoch] = node.now_ms()
            key = bytes(node.keyring.epoch_file_key(code, epoch))
            for link in page:
                try:
                    proof = node.leaf_proof(link.leaf_index, bound.agreement)
                except UnavailableError:
                    # The next checkpoint covers it, or the next witness.
                    return
                yield DeltaAnswer(self._read(row, link.seq, key), link.signature, proof)
                seq = link.seq + 1
            if len(page) < LINKS_A_PAGE:
                return


class _Dummies:
    """Rows of nobody that a delta may pretend to remove, each of them once: the set's own, and those of deltas."""

    def __init__(self, files: OwnedSet, used: int, published: list[bytes], below: Callable[[int], int]) -> None:
        self._files = files
        self._below = below
        self._left = max(0, files.dummy_count - used)
        self.used = used
        """Of the set's own."""
        self.published = published
        """By deltas, and not removed."""

    def __len__(self) -> int:
        return self._left + len(self.published)

    def take(self, count: int) -> list[bytes]:
        """Take some at random, so that what goes says nothing about when it came."""
        taken: list[bytes] = []
        for _ in range(count):
            chosen = self._below(len(self)) - self._left
            if chosen < 0:
                taken += self._files.dummies(self.used, 1)
                self.used += 1
                self._left -= 1
            else:
                self.published[chosen], self.published[-1] = self.published[-1], self.published[chosen]
                taken.append(self.published.pop())
        return taken

    def publish(self, rows: bytes) -> None:
        """Take in dummies that a delta adds; later ones may remove them."""
        self.published += [rows[at : at + tickets.LOOKUP_BYTES] for at in range(0, len(rows), _ROW)]


_ROW = tickets.ROW_BYTES


def _file(seq: int) -> str:
    return f"delta-{seq}.sealed"


def _kept(published: Sequence[RowOf], wanted: Sequence[tuple[Token, bytes]]) -> tuple[list[RowOf], list[Token]]:
    """Return the rows of a record that stay as they are, and the tokens that need a new one."""
    by_tag: Mapping[bytes, list[bytes]] = defaultdict(list)
    for tag, lookup in published:
        by_tag[tag].append(lookup)
    kept, new = [], []
    for token, tag in wanted:
        if by_tag[tag]:
            kept.append((tag, by_tag[tag].pop()))
        else:
            new.append(token)
    return kept, new


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
