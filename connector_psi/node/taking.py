"""The sets that a querier has in use: fetched, checked, mapped, kept up to date by deltas, and ended.

Of each agreement the newest set is what queries use. Earlier ones serve on for the records that were not evaluated anew
yet, and end with them, or with their time. What is kept of a set (its files, deltas, live tokens) lies in one folder;
live tokens under a key that is destroyed with it.

Decides: what a manifest and a delta must be before they count, what lies on the disk, when a set ends and what is
logged of it. Leaves to others: what is asked (``node.querying``), what a match is (``node.matching``), transport
(``ports``).
"""

from __future__ import annotations

import os
import shutil
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from connector_psi import policy
from connector_psi.audit import merkle
from connector_psi.audit.checkpoint import parse_note, parse_vkey, verify_checkpoint
from connector_psi.audit.cosignature import Trust
from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.encoding import deltas as links
from connector_psi.encoding import manifest as manifests
from connector_psi.encoding.atomicfile import sync_directory
from connector_psi.encoding.bloom import Filter
from connector_psi.encoding.deltas import Delta
from connector_psi.encoding.livetokens import EMPTY_BYTES, Entries, LiveTokens
from connector_psi.encoding.tickets import TicketFile
from connector_psi.errors import (
    AuditError,
    FormatError,
    KeyUnavailableError,
    ProtocolError,
    StorageError,
    UnavailableError,
)
from connector_psi.node.node import QUERIER, Bound, Node, millis
from connector_psi.node.ports import FILTER, TICKETS, Connector, DeltaAnswer, LeafProof, ManifestAnswer, OwnerPort
from connector_psi.node.publishing import token_terms
from connector_psi.protocol import messages
from connector_psi.protocol.querier import SetView
from connector_psi.storage import queried
from connector_psi.storage.queried import TakenSet

logger = structlog.get_logger("connector_psi.node")

CLOCK_SKEW_MS = 120_000
DELTAS = "deltas"
"""File of the deltas that were taken, each behind its length."""
DELTAS_TOGETHER = 64
"""Deltas that are taken in one transaction."""
CHECKED_AT_ONCE_BYTES = 64 * 1024 * 1024
"""A ticket file up to so long is checked before it is used again after a restart, SHA-256 of some 0.1 s."""
_LENGTH = struct.Struct(">I")
_DAMAGE = (StorageError, FormatError, ProtocolError, KeyUnavailableError)


@dataclass
class Mapped:
    """A set that is mapped into memory, with its deltas and live tokens."""

    view: SetView
    live: LiveTokens
    filter: Filter
    tickets: TicketFile
    deltas_bytes: int
    """How much of the file of deltas counts."""

    def close(self) -> None:
        """Unmap it."""
        self.filter.close()
        self.tickets.close()
        self.live.close()


class Taking:
    """Use cases of the sets in use. Its methods want the lock of the agreement held, but for ``take_newest``."""

    def __init__(self, node: Node, connector: Connector) -> None:
        self._node = node
        self._connector = connector
        self._mapped: dict[tuple[str, int], Mapped] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._locks_lock = threading.Lock()
        self._checking = ThreadPoolExecutor(1, thread_name_prefix="check-set")

    @contextmanager
    def lock(self, code: str) -> Iterator[None]:
        """One thing at a time with the sets of an agreement: rounds share a cursor."""
        with self._lock_of(code):
            yield

    def _lock_of(self, what: str) -> threading.RLock:
        with self._locks_lock:
            return self._locks.setdefault(what, threading.RLock())

    def close(self) -> None:
        """Unmap all sets."""
        self._checking.shutdown(cancel_futures=True)
        for code in {code for code, _ in self._mapped}:
            with self.lock(code):
                for key in [key for key in self._mapped if key[0] == code]:
                    self._mapped.pop(key).close()

    # Taking

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
        # Fetching is a lock of its own: queries go on in the set before while a large one comes.
        with self._lock_of(f"fetch {code}"):
            with node.store.read() as tx:
                current = queried.current_set(tx, code)
            if current is not None and current.manifest_hash == digest and is_of_policy(current, bound):
                if (code, current.epoch) not in self._mapped:
                    self._fetch(code, manifests.parse_manifest(current.manifest), digest, owner)
                    with self.lock(code):
                        self.mapped(current)
                if bound.agreement.edition != policy.EDITION:
                    self._keep_fresh(current, answer.fresh_until_ms)
                return False
            manifest = self._checked(bound, answer, digest)
            self._fetch(code, manifest, digest, owner)
            with self.lock(code):
                self._begin(bound, manifest, answer.manifest, digest)
        return True

    def _keep_fresh(self, current: TakenSet, until_ms: int) -> None:
        # An owner of version 0.1.0 says by this that nothing changed; others say it by deltas, which are signed.
        if current.delta_seq == 0 and until_ms > current.fresh_ms:
            with self._node.store.write() as tx:
                queried.keep_fresh(tx, current.agreement, current.epoch, until_ms)

    def _fetch(self, code: str, manifest: manifests.Manifest, digest: bytes, owner: OwnerPort) -> None:
        """Make the files of a set lie in its folder, whole and durable."""
        folder = self._node.layout.taken_set(code, manifest.epoch)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in (FILTER, TICKETS):
                _download(owner, digest, name, folder / name, getattr(manifest.files, name).size_bytes)
            sync_directory(folder)
        except OSError as error:
            raise UnavailableError(f"{code}: cannot write a set: {error.strerror}") from None

    def _begin(self, bound: Bound, manifest: manifests.Manifest, raw: bytes, digest: bytes) -> None:
        """Put a fetched set in use, with nothing evaluated in it yet."""
        node, code, epoch = self._node, bound.code, manifest.epoch
        folder = node.layout.taken_set(code, epoch)
        self.unmap(code, epoch)
        try:
            filter_, rows = self._checked_files(code, manifest)
        except FormatError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ProtocolError(f"{code}: {error}") from None
        try:
            for left in (*folder.glob("live-*"), folder / DELTAS):
                left.unlink(missing_ok=True)
            node.keyring.new_taken_epoch(code, epoch)
            live = self._live(code, epoch, 0, EMPTY_BYTES)
        except BaseException:
            filter_.close()
            rows.close()
            raise
        self._mapped[code, epoch] = Mapped(SetView(code, epoch, filter_, rows), live, filter_, rows, 0)
        keys = [bytes.fromhex(key) for key in manifest.class_keys.values()]
        with node.store.write() as tx:
            queried.take_set(
                tx,
                code,
                epoch,
                raw,
                digest,
                keys,
                now_ms=node.now_ms(),
                not_after_ms=millis(manifests.decode_time(manifest.not_after)),
                fresh_ms=millis(manifests.decode_time(manifest.source_snapshot)),
                chain_start=bytes.fromhex(manifest.delta_chain_start),
                live_bytes=EMPTY_BYTES,
            )
        self._sweep(code)

    def _checked(self, bound: Bound, answer: ManifestAnswer, digest: bytes) -> manifests.Manifest:
        node, code = self._node, bound.code
        peer = node.peer(bound.peer)
        try:
            manifest = manifests.parse_manifest(answer.manifest)
        except FormatError:
            raise ProtocolError(f"{code}: malformed manifest") from None
        manifests.verify_manifest_signature(peer.public_key, answer.manifest, answer.signature)
        now = node.now_ms()
        parties = (manifest.agreement, manifest.owner, manifest.querier, manifest.synthetic)
        if parties != (code, bound.peer, node.authority, node.synthetic):
            raise ProtocolError(f"{code}: the manifest is of another agreement")
        for what, found, held in (
            ("terms (policy hash)", manifest.policy_hash, bound.policy_hash.hex()),
            ("rules of identifiers", manifest.normalisation_version, bound.agreement.normalisation_version),
        ):
            if found != held:
                raise ProtocolError(f"{code}: the owner has other {what} than this node: {found} instead of {held}")
        if set(manifest.class_keys) != {c.label for c in bound.agreement.classes}:
            raise ProtocolError(f"{code}: the manifest has other classes than the agreement")
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
            # The newest itself may come again: what was kept of it was damaged, or of another policy for a while.
            if manifest.epoch < queried.newest_epoch(tx, code) or queried.is_other(tx, code, manifest.epoch, digest):
                raise ProtocolError(f"{code}: an epoch not newer than the newest taken")
            if queried.seen_in_other_epoch(tx, code, keys, manifest.epoch) or len(set(keys)) != len(keys):
                raise ProtocolError(f"{code}: a key of another epoch")
        verify_leaf(node, bound, answer.proof, Event.SET_PUBLISH, manifest_hash=digest, epoch=manifest.epoch)
        return manifest

    # Mapping

    def mapped(self, taken: TakenSet) -> Mapped:
        """Return a set in use, mapped, with all deltas that were taken.

        Raises:
            UnavailableError: What is kept of it was damaged; it is fetched again with the next turn.
        """
        code, epoch = taken.agreement, taken.epoch
        held = self._mapped.get((code, epoch))
        if held is not None:
            return held
        manifest = manifests.parse_manifest(taken.manifest)
        # A large set that was checked when it was taken is used at once, and checked again meanwhile.
        at_once = manifest.files.tickets.size_bytes <= CHECKED_AT_ONCE_BYTES
        try:
            filter_, rows = self._checked_files(code, manifest, whole=at_once)
        except FormatError as error:
            self._delete_files(code, epoch)
            raise UnavailableError(f"{code}: the set was damaged and must be fetched again: {error}") from None
        try:
            view = SetView(code, epoch, filter_, rows)
            size = self._apply_kept(taken, view)
            live = self._live(code, epoch, taken.live_file, taken.live_bytes)
            for record, count, output in live.published():
                live.note_opened(record, published_lookups(output, count))
        except BaseException as error:
            filter_.close()
            rows.close()
            if isinstance(error, UnavailableError) or not isinstance(error, _DAMAGE):
                raise
            self.end(taken, "damaged")
            raise UnavailableError(f"{code}: what was kept of a set was damaged, and is made anew") from None
        found = self._mapped[code, epoch] = Mapped(view, live, filter_, rows, size)
        if not at_once:
            self._checking.submit(self._check_again, code, manifest)
        return found

    def _checked_files(
        self, code: str, manifest: manifests.Manifest, *, whole: bool = True
    ) -> tuple[Filter, TicketFile]:
        """Check the files against the manifest and map them.

        Cost: with ``whole``, SHA-256 of the set. Without it, a bit that flipped on the disk since would be a match not
        found.
        """
        folder = self._node.layout.taken_set(code, manifest.epoch)
        if whole:
            manifests.verify_files(manifest, folder / FILTER, folder / TICKETS)
        filter_ = Filter.open(folder / FILTER, manifest.size_class)
        try:
            return filter_, TicketFile.open(folder / TICKETS, manifest.size_class, check_order=whole)
        except BaseException:
            filter_.close()
            raise

    def _check_again(self, code: str, manifest: manifests.Manifest) -> None:
        """Check the files of a set in use; damaged ones are deleted, and fetched again with the next turn."""
        folder = self._node.layout.taken_set(code, manifest.epoch)
        try:
            manifests.verify_files(manifest, folder / FILTER, folder / TICKETS)
        except FormatError:
            logger.warning("set.damaged", agreement=code, epoch=manifest.epoch)
            with self.lock(code):
                self.unmap(code, manifest.epoch)
                self._delete_files(code, manifest.epoch)
        except UnavailableError:
            # It has ended meanwhile, or the disk fails, and then its user notices.
            return

    def _delete_files(self, code: str, epoch: int) -> None:
        for name in (FILTER, TICKETS):
            (self._node.layout.taken_set(code, epoch) / name).unlink(missing_ok=True)

    def _live(self, code: str, epoch: int, number: int, size_bytes: int) -> LiveTokens:
        key = bytes(self._node.keyring.epoch_file_key(code, epoch))
        path = self._node.layout.taken_set(code, epoch) / f"live-{number}"
        return LiveTokens(path, key, size_bytes, self._node.random)

    def rewrite_live(self, taken: TakenSet, entries: Entries) -> None:
        """Put a new file of live tokens in the place of the one that is there, which is deleted.

        Raises:
            UnavailableError: The disk is full; the file stays.
        """
        code, epoch, number = taken.agreement, taken.epoch, taken.live_file + 1
        folder = self._node.layout.taken_set(code, epoch)
        # A crash may have left one of this number.
        (folder / f"live-{number}").unlink(missing_ok=True)
        live = self._live(code, epoch, number, EMPTY_BYTES)
        try:
            size = live.append(entries).size_bytes
        finally:
            live.close()
        with self._node.store.write() as tx:
            queried.keep_live(tx, code, epoch, size, number)
        # It is mapped from the disk when it is used again.
        self.unmap(code, epoch)
        (folder / f"live-{taken.live_file}").unlink(missing_ok=True)

    def _apply_kept(self, taken: TakenSet, view: SetView) -> int:
        """Apply the deltas on the disk that count; returns how many bytes of the file those are."""
        path = self._node.layout.taken_set(taken.agreement, taken.epoch) / DELTAS
        size, digest = 0, b""
        if taken.delta_seq == 0:
            return 0
        try:
            with path.open("rb") as file:
                for _ in range(taken.delta_seq):
                    head = file.read(_LENGTH.size)
                    raw = file.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
                    view.apply(links.parse_delta(raw))
                    digest = links.delta_hash(raw)
                    size += _LENGTH.size + len(raw)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UnavailableError(f"cannot read {path.name}: {error.strerror}") from None
        if digest != taken.delta_hash:
            raise StorageError("the deltas on the disk are not those that were taken")
        return size

    def unmap(self, code: str, epoch: int) -> None:
        """Forget what is in memory of a set: the disk says how it was before something failed."""
        mapped = self._mapped.pop((code, epoch), None)
        if mapped is not None:
            mapped.close()

    # Deltas

    def new_deltas(self, bound: Bound, taken: TakenSet) -> Iterator[list[tuple[Delta, bytes]]]:
        """Fetch the deltas of a set that follow those which were taken, and check them. Yields them in pieces.

        Raises:
            ProtocolError: One is not what it must be; those before it stay.
            UnavailableError: The owner cannot be reached now.
        """
        owner = self._connector.owner(bound.peer)
        piece: list[tuple[Delta, bytes]] = []
        seq, prev = taken.delta_seq + 1, taken.delta_hash
        for answer in owner.get_deltas(bound.code, taken.epoch, seq):
            delta = self._checked_delta(bound, taken, answer, seq, prev)
            piece.append((delta, answer.delta))
            seq, prev = seq + 1, links.delta_hash(answer.delta)
            if len(piece) >= DELTAS_TOGETHER:
                yield piece
                piece = []
        if piece:
            yield piece

    def _checked_delta(self, bound: Bound, taken: TakenSet, answer: DeltaAnswer, seq: int, prev: bytes) -> Delta:
        node, code = self._node, bound.code
        try:
            delta = links.parse_delta(answer.delta)
        except FormatError:
            raise ProtocolError(f"{code}: malformed delta") from None
        links.verify_delta_signature(node.peer(bound.peer).public_key, answer.delta, answer.signature)
        if (delta.agreement, delta.epoch, delta.seq, delta.prev_hash) != (code, taken.epoch, seq, prev):
            raise ProtocolError(f"{code}: a delta of another set, or out of the chain")
        if delta.snapshot_ms > node.now_ms() + CLOCK_SKEW_MS:
            raise ProtocolError(f"{code}: a delta from the future")
        digest = links.delta_hash(answer.delta)
        verify_leaf(node, bound, answer.proof, Event.SET_PUBLISH, manifest_hash=digest, epoch=taken.epoch)
        return delta

    def apply(self, taken: TakenSet, piece: Sequence[tuple[Delta, bytes]]) -> None:
        """Write deltas behind those that count, durably, and apply them. They count with ``queried.keep_delta``.

        Raises:
            ProtocolError: One adds or removes what it cannot.
            UnavailableError: The disk is full.
        """
        mapped = self.mapped(taken)
        path = self._node.layout.taken_set(taken.agreement, taken.epoch) / DELTAS
        data = b"".join(_LENGTH.pack(len(raw)) + raw for _, raw in piece)
        made = not path.exists()
        try:
            with path.open("r+b" if not made else "w+b") as file:
                file.truncate(mapped.deltas_bytes)
                file.seek(mapped.deltas_bytes)
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
            if made:
                sync_directory(path.parent)
        except OSError as error:
            raise UnavailableError(f"cannot write {path.name}: {error.strerror}") from None
        for delta, _ in piece:
            mapped.view.apply(delta)
        mapped.deltas_bytes += len(data)

    # Ending

    def end(self, taken: TakenSet, why: str) -> None:
        """End a set: its key first, then its files, with an entry in the log that says so."""
        node, code, epoch = self._node, taken.agreement, taken.epoch
        self.unmap(code, epoch)
        node.keyring.destroy_epoch(code, epoch)
        shutil.rmtree(node.layout.taken_set(code, epoch), ignore_errors=True)
        with node.store.write() as tx:
            queried.retire_set(tx, code, epoch)
            node.append(
                tx,
                Event.SET_DELETE,
                {"epoch": epoch, "reason": why},
                next((bound for bound in node.agreements(QUERIER) if bound.code == code), None),
                epoch=epoch,
                manifest_hash=taken.manifest_hash,
            )

    def _sweep(self, code: str) -> None:
        """Delete folders of sets that are not in use, with what a crash left of them."""
        with self._node.store.read() as tx:
            used = {str(taken.epoch) for taken in queried.sets_in_use(tx, code)}
        folder = self._node.layout.taken_set(code, 0).parent
        for other in folder.iterdir():
            if other.name not in used:
                shutil.rmtree(other, ignore_errors=True)


def published_lookups(output: bytes, count: int) -> list[bytes]:
    """Return the lookups of the rows that an owner published of a PRF output."""
    return [messages.derive_lookup(output, j)[0] for j in range(count)]


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


def is_of_policy(taken: TakenSet, bound: Bound) -> bool:
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
