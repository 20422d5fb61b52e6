"""The owner publishes: eligible records -> tokens -> PRF -> encoded set, signed and logged.

Decides: when a set is due, what a manifest says, when an epoch ends. Leaves to others: the rows (``protocol.owner``),
the files
(``encoding``), keys (``keyring``).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from connector_psi import policy
from connector_psi.audit.entries import Event
from connector_psi.domain.names import NAME_RULES_VERSION
from connector_psi.domain.naming.families import FamilyGroup
from connector_psi.encoding import bloom, tickets
from connector_psi.encoding import manifest as manifests
from connector_psi.encoding.atomicfile import sync_directory
from connector_psi.encoding.ownedset import FILTER_FILE, TICKETS_FILE, make_index, write_index
from connector_psi.encoding.sealedfile import SealedFile, seal_file
from connector_psi.encoding.tickets import TICKET_TAG_BYTES
from connector_psi.errors import KeyUnavailableError, PurposeRefusedError, UnavailableError
from connector_psi.node.node import OWNER, Bound, Node, millis
from connector_psi.node.ports import FILTER, TICKETS, ManifestAnswer
from connector_psi.protocol.owner import EncodeItem, SetEncoder, derive_class_keys
from connector_psi.protocol.tokens import family_numbers, left_out, weights_of
from connector_psi.storage import owned, records
from connector_psi.storage.owned import EpochRow
from connector_psi.storage.records import StoredRecord
from connector_psi.storage.store import Tx

READ_BYTES = 512 * 1024
_FILES = {FILTER: FILTER_FILE, TICKETS: TICKETS_FILE}
MANY_CHANGES = 10_000
"""More changed records than this, and than the set has tokens, are published as a new set: that costs less."""
LONG_CHAIN_ROWS = 262_144
"""Deltas of more rows than this, and than the set, are compacted into a new one."""
WITHOUT_DELTAS = 5
"""A querier that asks for the manifest so often and for no delta in between takes none: it is of version 0.1.0."""


@dataclass(frozen=True, slots=True)
class Published:
    """A set that was published."""

    agreement: str
    epoch: int
    tokens: int
    size_class: int
    manifest_hash: bytes
    parties_left_out: int = 0
    """Parties of records that have more of them than a ticket can number: their names are not in the set."""


class Publishing:
    """Use cases of the owner's sets."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # One set of an agreement is built at a time; building holds no database lock.
        self._building = threading.Lock()
        self._manifests_since: dict[str, int] = {}
        """By agreement, how often the manifest was asked for since deltas were."""
        self.encoded = 0
        """Tokens of the set being built, encoded so far; for progress."""

    # Building

    def publish(self, code: str) -> Published:
        """Build and publish a new epoch of an agreement.

        Args:
            code: Of an agreement that this node owns.

        Raises:
            PurposeRefusedError: The agreement is not this node's, or may not run.

        Cost: one PRF evaluation and one sealed row a token, one hash round a row of the size class.
        """
        with self._building:
            bound = self._node.bound(code, OWNER)
            with self._node.telemetry.span("publish", agreement=bound.code) as span:
                published = self._publish(bound)
                span.note(epoch=published.epoch, elements=published.size_class)
            return published

    def _publish(self, bound: Bound) -> Published:
        node, code = self._node, bound.code
        snapshot = node.clock.now().replace(microsecond=0)
        with node.store.write() as tx:
            epoch = owned.next_epoch(tx, code)
            # A crash between the key's file and this transaction's end left a key that nothing refers to.
            if (code, epoch) in node.keyring.epochs():
                node.keyring.destroy_epoch(code, epoch)
            made = node.keyring.new_epoch(code, epoch)
            k_ticket, k_redeem = node.keyring.new_case_keys()
            wrapped = node.keyring.wrap("case", bytes(k_ticket) + bytes(k_redeem), _case_ad(code, epoch))
            owned.begin_epoch(tx, code, epoch, made.wrapped_seed, wrapped)
            node.append(tx, Event.KEY_EPOCH, {"action": "created", "epoch": epoch}, bound, epoch=epoch)
        seed = node.keyring.epoch_seed(code, epoch, made.wrapped_seed)
        keys = derive_class_keys(seed, code, epoch, bound.agreement.classes)
        groups = node.name_groups(bound)
        encoder = SetEncoder(code, epoch, keys, k_ticket, k_redeem, node.random)
        with node.store.read() as tx:
            change_seq = records.max_change_seq(tx)
            lookups, rows, tags, count, parties_left_out = bytearray(), bytearray(), bytearray(), 0, 0
            owners: list[NDArray[np.uint64]] = []

            def items() -> Iterator[list[EncodeItem]]:
                nonlocal parties_left_out
                for chunk in records.eligible(node.store, tx, bound.agreement.categories, millis(snapshot)):
                    parties_left_out += sum(left_out(stored.record) for stored in chunk) if groups else 0
                    yield [encode_item(node, bound, stored) for stored in chunk]

            for encoded in encoder.encode(items()):
                lookups += encoded.lookups
                rows += encoded.rows
                tags += encoded.tags
                owners.append(np.array(encoded.records, dtype=np.uint64))
                count += encoded.count
                self.encoded = count
        size = tickets.padded_size(count)
        dummies = tickets.dummy_rows(size - count, node.random)
        lookups += b"".join(dummies[i : i + 16] for i in range(0, len(dummies), tickets.ROW_BYTES))
        rows += dummies
        tags += bytes(TICKET_TAG_BYTES * (size - count))
        owners.append(np.zeros(size - count, dtype=np.uint64))
        index = make_index(np.concatenate(owners), bytes(tags), bytes(lookups))
        folder = node.layout.owned_set(code, epoch)
        _make_folder(folder)
        plain = {FILTER: folder / "filter.plain", TICKETS: folder / "tickets.plain"}
        bloom.write_filter(plain[FILTER], bytes(lookups), size)
        tickets.write_tickets(plain[TICKETS], bytes(rows))
        manifest = manifests.Manifest(
            agreement=code,
            epoch=epoch,
            owner=node.authority,
            querier=bound.peer,
            normalisation_version=bound.agreement.normalisation_version,
            policy_hash=bound.policy_hash.hex(),
            class_keys={c.label: pair.public.hex() for c, pair in keys.items()},  # type: ignore[misc]  # labels are the literals
            size_class=size,
            files=manifests.Files(filter=_entry(plain[FILTER]), tickets=_entry(plain[TICKETS])),
            source_snapshot=manifests.encode_time(snapshot),
            not_before=manifests.encode_time(snapshot),
            not_after=manifests.encode_time(snapshot + timedelta(hours=bound.agreement.max_set_age_h)),
            delta_chain_start=node.random.bytes(32).hex(),
            synthetic=node.synthetic,
            **token_terms(bound.agreement, groups),
        )
        file_key = node.keyring.epoch_file_key(code, epoch)
        for name, path in plain.items():
            seal_file(path, folder / _FILES[name], file_key, node.random)
            path.unlink()
        write_index(folder, index, file_key, node.random)
        return self._release(bound, manifest, count, change_seq, parties_left_out)

    def _release(
        self, bound: Bound, manifest: manifests.Manifest, count: int, change_seq: int, parties_left_out: int
    ) -> Published:
        node, code, epoch = self._node, bound.code, manifest.epoch
        snapshot_ms = millis(manifests.decode_time(manifest.source_snapshot))
        raw = manifests.encode_manifest(manifest)
        digest = manifests.manifest_hash(raw)
        with node.store.write() as tx:
            entry = node.append(
                tx,
                Event.SET_PUBLISH,
                {
                    "tokens": count,
                    "size_class": manifest.size_class,
                    "records_until": change_seq,
                    **({"parties_left_out": parties_left_out} if manifest.name_rules is not None else {}),
                },
                bound,
                epoch=epoch,
                manifest_hash=digest,
            )
            owned.publish_epoch(
                tx,
                code,
                epoch,
                node.now_ms(),
                manifest=raw,
                signature=manifests.sign_manifest(node.signing_key, raw),
                manifest_hash=digest,
                leaf_index=entry.index,
                tokens=count,
                change_seq=change_seq,
                set_seq=change_seq,
                linked_ms=snapshot_ms,
                fresh_ms=snapshot_ms,
                not_after_ms=millis(manifests.decode_time(manifest.not_after)),
            )
        return Published(code, epoch, count, manifest.size_class, digest, parties_left_out)

    # The clock

    def due(self) -> list[str]:
        """Return the agreements that need a new set: it is missing, of another policy or close to its end, there are
        more changes or deltas than a set costs, or the querier takes no deltas and the source changed and is quiet.
        """
        return [code for code in self.runnable() if self._is_due(self._node.bound(code, OWNER))]

    def _is_due(self, bound: Bound) -> bool:
        node, now = self._node, self._node.now_ms()
        settings = node.config.publish
        with node.store.read() as tx:
            newest = newest_set(tx, bound)
            if newest is None:
                return True
            change_seq, changed_ms = records.newest_change(tx, bound.agreement.categories)
        assert newest.change_seq is not None
        assert newest.set_seq is not None
        assert newest.published_ms is not None
        assert newest.not_after_ms is not None
        life = newest.not_after_ms - newest.published_ms
        if now - newest.published_ms >= life * settings.renew_fraction:
            return True
        if newest.delta_rows > max(LONG_CHAIN_ROWS, manifests.parse_manifest(newest.manifest or b"").size_class):
            return True
        quiet = now - changed_ms >= settings.quiet_s * 1000
        waited = now - newest.published_ms >= settings.max_wait_s * 1000
        if not (quiet or waited):
            return False
        if self.takes_deltas(bound.code):
            return change_seq - newest.change_seq > max(MANY_CHANGES, newest.tokens or 0)
        return change_seq > newest.set_seq

    def takes_deltas(self, code: str) -> bool:
        """Return whether the querier of an agreement asks for deltas, as far as is known since the node was opened."""
        return self._asked_since(code) < WITHOUT_DELTAS

    def _asked_since(self, code: str) -> int:
        # A querier of version 0.1.0 may look for a set once in half a minute: it is not waited for to look five times.
        current = self._node.bound(code, OWNER).agreement.edition == policy.EDITION
        return self._manifests_since.get(code, 0 if current else WITHOUT_DELTAS)

    def note_deltas(self, code: str) -> None:
        """Note that the querier of an agreement asked for its deltas."""
        self._manifests_since[code] = 0

    def named(self, codes: Sequence[str]) -> list[str]:
        """Return the agreements that this node owns under these codes, or under these codes of templates.

        Raises:
            PurposeRefusedError: A code names none.
        """
        found = []
        for code in codes:
            own = [b.code for b in self._node.agreements(OWNER) if code in {b.code, b.agreement.template}]
            if not own:
                raise PurposeRefusedError("this node is the owner in no such agreement")
            found += own
        return found

    def runnable(self) -> list[str]:
        """Return the agreements that this node owns and that may run now."""
        codes = []
        for bound in self._node.agreements(OWNER):
            with suppress(PurposeRefusedError, UnavailableError):
                codes.append(self._node.bound(bound.code, OWNER).code)
        return codes

    def retire(self) -> list[tuple[str, int]]:
        """Destroy the seeds and files of epochs that ended, and the case keys whose window passed."""
        # Held to the end if no set is being built: one that is finished meanwhile would look like an interrupted one.
        idle = self._building.acquire(blocking=False)
        try:
            return self._retire(idle=idle)
        finally:
            if idle:
                self._building.release()

    def _retire(self, *, idle: bool) -> list[tuple[str, int]]:
        node, now = self._node, self._node.now_ms()
        with node.store.read() as tx:
            rows = owned.list_epochs(tx)
        agreements = {b.code: b for b in node.agreements(OWNER)}
        ended = []
        for row in rows:
            bound = agreements.get(row.agreement)
            if row.wrapped_seed is not None and self._has_ended(row, now, idle=idle):
                node.keyring.destroy_epoch(row.agreement, row.epoch)
                shutil.rmtree(node.layout.owned_set(row.agreement, row.epoch), ignore_errors=True)
                with node.store.write() as tx:
                    owned.destroy_epoch(tx, row.agreement, row.epoch)
                    node.append(
                        tx, Event.KEY_EPOCH, {"action": "destroyed", "epoch": row.epoch}, bound, epoch=row.epoch
                    )
                ended.append((row.agreement, row.epoch))
            window_days = bound.agreement.case_window_days if bound else 0
            not_after = row.not_after_ms or 0
            if row.wrapped_seed is None and now > not_after + window_days * 86_400_000:
                with node.store.write() as tx:
                    owned.forget_case_keys(tx, row.agreement, row.epoch)
        return ended

    def _has_ended(self, row: EpochRow, now: int, *, idle: bool) -> bool:
        if row.state == owned.PREPARING:
            # A build that a crash interrupted; one that is running holds the lock.
            return idle
        overlap_ms = self._node.config.publish.overlap_s * 1000
        superseded = row.superseded_ms is not None and now >= row.superseded_ms + overlap_ms
        return superseded or now >= (row.not_after_ms or 0)

    def fresh_until_ms(self, code: str) -> int:
        """Return the time up to which this node's changes are in the newest set of an agreement with its deltas.

        To a querier that takes no deltas: the present if nothing changed since the set was made.
        """
        node = self._node
        bound = node.bound(code, OWNER)
        with node.store.read() as tx:
            newest = newest_set(tx, bound)
            change_seq, _ = records.newest_change(tx, bound.agreement.categories)
        if newest is None or newest.set_seq is None or newest.fresh_ms is None or newest.not_after_ms is None:
            return 0
        if self.takes_deltas(code):
            return newest.fresh_ms
        snapshot_ms = newest.not_after_ms - bound.agreement.max_set_age_h * 3_600_000
        return node.now_ms() if change_seq <= newest.set_seq else snapshot_ms

    # Serving

    def get_manifest(self, peer: str, code: str, epoch: int = 0) -> ManifestAnswer:
        """Return the newest manifest that is proven, or that of an epoch, to the querier of the agreement.

        Raises:
            PurposeRefusedError: The peer is not the querier.
            KeyUnavailableError: There is no such set, or its time is over.
            UnavailableError: No checkpoint covers the set's log entry yet, and no set before it answers.
        """
        node = self._node
        bound = node.bound(code, OWNER, peer)
        with node.store.read() as tx:
            rows = [
                row
                for row in owned.answering(tx, code, node.now_ms())
                if is_of_policy(row, bound) and epoch in {0, row.epoch}
            ]
        if not rows:
            raise KeyUnavailableError(f"{code}: no set is published")
        self._manifests_since[code] = self._asked_since(code) + 1
        waits: UnavailableError | None = None
        for row in rows:
            assert row.manifest is not None
            assert row.signature is not None
            assert row.leaf_index is not None
            try:
                proof = node.leaf_proof(row.leaf_index, bound.agreement)
            except UnavailableError as error:
                # Published a moment ago: the set before serves until a checkpoint covers this one.
                waits = waits or error
                continue
            fresh_ms = self.fresh_until_ms(code) if waits is None else 0
            return ManifestAnswer(row.manifest, row.signature, proof, fresh_ms)
        assert waits is not None
        raise waits

    def read_set(self, peer: str, manifest_hash: bytes, file: str, offset: int) -> Iterator[bytes]:
        """Yield a set's file from an offset on, in pieces of at most 512 KiB.

        Raises:
            PurposeRefusedError: The peer is not the querier of that set, or there is no such set or offset.
            KeyUnavailableError: The epoch has ended.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            row = owned.by_manifest(tx, manifest_hash)
        if row is None or row.manifest is None or file not in _FILES:
            raise PurposeRefusedError("no such set")
        bound = node.bound(row.agreement, OWNER, peer)
        if (row.not_after_ms or 0) <= node.now_ms() or not is_of_policy(row, bound):
            raise KeyUnavailableError("the set has expired, or its policy has")
        # Covers the set only once its entry is under a checkpoint.
        node.leaf_proof(row.leaf_index or 0, bound.agreement)
        key = node.keyring.epoch_file_key(row.agreement, row.epoch)
        with SealedFile(node.layout.owned_set(row.agreement, row.epoch) / _FILES[file], key) as sealed:
            if offset > sealed.size_bytes:
                raise PurposeRefusedError("no such offset")
            for start in range(offset, sealed.size_bytes, READ_BYTES):
                yield sealed.read(start, min(READ_BYTES, sealed.size_bytes - start))


def is_of_policy(row: EpochRow, bound: Bound) -> bool:
    """Return whether a set was published under the agreement as it is in force; under another it answers nothing."""
    return row.manifest is not None and manifests.parse_manifest(row.manifest).policy_hash == bound.policy_hash.hex()


def encode_item(node: Node, bound: Bound, stored: StoredRecord) -> EncodeItem:
    """Return a record as the encoder needs it."""
    number = policy.category_number(bound.agreement, stored.record.category)
    return EncodeItem(stored.id, number, tuple(node.tokens(bound, stored.record)))


def newest_set(tx: Tx, bound: Bound) -> EpochRow | None:
    """Return the newest published set of an agreement as it is in force."""
    row = owned.newest_published(tx, bound.code)
    return row if row is not None and is_of_policy(row, bound) else None


class TokenTerms(TypedDict):
    """What a manifest says of the tokens of its set."""

    families: tuple[int, ...]
    name_rules: str | None
    name_weights: manifests.NameWeights | None


def token_terms(agreement: policy.Agreement, groups: Collection[FamilyGroup]) -> TokenTerms:
    """Return what a manifest says of the tokens of a set; owner and querier come to the same, or there is no match.

    Args:
        agreement: The agreement.
        groups: That its querier can ask with, from ``Node.name_groups``.

    Raises:
        ConfigError: This version does not bring the weights that the agreement names.
    """
    families, weights = family_numbers(agreement, groups), weights_of(agreement)
    if weights is None or families[-1] < tickets.FIRST_NAME_FAMILY:
        return TokenTerms(families=families, name_rules=None, name_weights=None)
    said = manifests.NameWeights(version=weights.version, sha256=weights.digest.hex())
    return TokenTerms(families=families, name_rules=NAME_RULES_VERSION, name_weights=said)


def _make_folder(folder: Path) -> None:
    """Make the folder of an epoch, durable up to the data folder."""
    try:
        folder.mkdir(mode=0o700, parents=True)
        for parent in list(folder.parents)[:3]:
            sync_directory(parent)
    except OSError as error:
        raise UnavailableError(f"cannot make the folder of a set: {error.strerror}") from None


def _entry(path: Path) -> manifests.FileEntry:
    return manifests.FileEntry(size_bytes=path.stat().st_size, root=manifests.file_root(path).hex())


def case_keys(node: Node, row: EpochRow) -> tuple[bytes, bytes]:
    """Return ``(K_ticket, K_redeem)`` of an epoch.

    Raises:
        KeyUnavailableError: The case window has passed.
    """
    if row.wrapped_case_keys is None:
        raise KeyUnavailableError("the case window of the epoch has passed")
    both = bytes(node.keyring.unwrap("case", row.wrapped_case_keys, _case_ad(row.agreement, row.epoch)))
    return both[:32], both[32:]


def _case_ad(code: str, epoch: int) -> bytes:
    return f"{code}@{epoch}".encode()
