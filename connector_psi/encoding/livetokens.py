"""What a querier keeps of the tokens it evaluated, so that a delta finds its records without a new query.

::

    file     "cpsi-live-v1" || 0^4, then blocks one after the other
    block    uint32 n || nonce(12) || AES-256-GCM of n entries || tag(16)
             key    HKDF-SHA256(file key of the epoch, "connector-psi/v1 live tokens")
             AD     "connector-psi/v1 live tokens" || uint64 offset of the block
    entry    uint64 record || tag(8) || uint32 j || next(16) || y(64)                                    100 bytes

All entries of a record are in one block, and its newest block supersedes what it had before. ``y`` is the PRF output of
a token of a record, ``next`` the first of its lookups that the owner never published in this epoch, the ``j``-th;
``tag`` is a keyed hash of the token, by which the record finds it again. The file is appended to; how much of it counts
is kept in the database, in the transaction that made it count, so that a crash leaves nothing half done. Blocks are
read where a delta meets a record; in memory are lookups and record numbers alone, some 28 bytes a token.

Decides: the format, how a delta is joined with millions of lookups. Leaves to others: what is evaluated and when
(``node.querying``), the key and its destruction (``keyring``), what a hit means (``node.matching``).
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connector_psi.domain.clock import RandomSource
from connector_psi.encoding.atomicfile import sync_directory
from connector_psi.encoding.tickets import LOOKUP_BYTES
from connector_psi.errors import StorageError, UnavailableError

TAG_BYTES: Final = 8
OUTPUT_BYTES: Final = 64
ENTRY: Final = np.dtype(
    [
        ("record", ">u8"),
        ("tag", f"V{TAG_BYTES}"),
        ("j", ">u4"),
        ("next", f"V{LOOKUP_BYTES}"),
        ("output", f"V{OUTPUT_BYTES}"),
    ]
)
"""One token of one record; no padding between the fields."""
Entries = npt.NDArray[Any]
"""An array of ``ENTRY``."""

_MAGIC: Final = b"cpsi-live-v1\0\0\0\0"
_LABEL: Final = b"connector-psi/v1 live tokens"
_HEAD: Final = struct.Struct(">I12s")
_SEAL_BYTES: Final = 16
_BLOCK_ENTRIES: Final = 4096
_PREFIX_BITS: Final = 20
"""Lookups of a delta are sieved by so many bits first: a table that stays in the processor's cache."""

EMPTY_BYTES: Final = len(_MAGIC)
"""Length of a file without blocks."""


def entries_in(size_bytes: int) -> int:
    """Return about how many entries a file of some length has."""
    return max(0, size_bytes - EMPTY_BYTES) // ENTRY.itemsize


@dataclass(frozen=True, slots=True)
class Appended:
    """Blocks that are durable in the file, and count once ``LiveTokens.keep`` was told."""

    size_bytes: int
    """Of the file up to their end."""
    entries: Entries = field(repr=False)
    blocks: tuple[tuple[int, int], ...]
    """Offset and number of entries of each."""


@dataclass(frozen=True, slots=True)
class Held:
    """The tokens of one record, by tag."""

    outputs: Mapping[bytes, bytes] = field(repr=False)
    """PRF output of each, 64 bytes."""


class LiveTokens:
    """The file of one set, and in memory what a delta is joined with.

    Not safe for several threads: its user holds the lock of the agreement. Must be closed.

    Args:
        path: The file; made where there is none.
        key: 32 bytes, the epoch's file key.
        size_bytes: How much of it counts, from the database; ``EMPTY_BYTES`` for a new one.
        random: Source of nonces.

    Raises:
        StorageError: What counts is not there, or was changed.
        UnavailableError: The disk fails.

    Cost:
        Opening decrypts what counts, about 1 s for 10 million tokens.
    """

    def __init__(self, path: Path, key: bytes, size_bytes: int, random: RandomSource) -> None:
        self._name = path.name
        self._random = random
        self._aead = AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_LABEL).derive(key))
        self._high = np.zeros(0, dtype=np.uint64)
        self._low = np.zeros(0, dtype=np.uint64)
        self._records = np.zeros(0, dtype=np.uint64)
        self._count = 0
        self._blocks: list[tuple[int, int]] = []
        self._starts: list[int] = []
        """Position of the first entry of each block."""
        self._opened: dict[bytes, set[int]] = defaultdict(set)
        self._had_rows: list[Entries] = []
        """Entries that the file held when it was opened, of tokens with rows."""
        try:
            made = not path.exists()
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if made:
                os.pwrite(self._file, _MAGIC, 0)
                os.fsync(self._file)
                sync_directory(path.parent)
        except OSError as error:
            raise UnavailableError(f"cannot write {path.name}: {error.strerror}") from error
        try:
            self._size = max(size_bytes, EMPTY_BYTES)
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __len__(self) -> int:
        """Return the number of entries, those that were superseded included."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """How much of the file counts."""
        return self._size

    # Adding

    def append(self, entries: Entries) -> Appended:
        """Write entries behind what counts, durably. They count once ``keep`` is told, after the transaction.

        All entries of one record must be in one call, one behind the other; they supersede what it had.

        Raises:
            UnavailableError: The disk is full or fails.
        """
        # numpy gives the fields of arrays that were put together the machine's byte order.
        entries = np.asarray(entries, dtype=ENTRY)
        at, blocks = self._size, []
        pieces = []
        for part in _parts(entries):
            sealed = self._sealed(part.tobytes(), len(part), at)
            pieces.append(sealed)
            blocks.append((at, len(part)))
            at += len(sealed)
        if pieces:
            self._pwrite(b"".join(pieces), self._size)
        return Appended(at, entries, tuple(blocks))

    def keep(self, appended: Appended) -> None:
        """Take appended entries into account: the transaction with their ``size_bytes`` is durable."""
        self._size = appended.size_bytes
        start = 0
        for block in appended.blocks:
            self._index(appended.entries[start : start + block[1]], block)
            start += block[1]

    def _index(self, entries: Entries, block: tuple[int, int]) -> None:
        first, count = self._count, self._count + len(entries)
        if count > len(self._records):
            room = max(count, 2 * len(self._records), 1024)
            for name in ("_high", "_low", "_records"):
                grown = np.zeros(room, dtype=np.uint64)
                grown[:first] = getattr(self, name)[:first]
                setattr(self, name, grown)
        halves = np.frombuffer(entries["next"].tobytes(), dtype=">u8").reshape(-1, 2)
        self._high[first:count], self._low[first:count] = halves[:, 0], halves[:, 1]
        self._records[first:count] = entries["record"]
        self._count = count
        self._blocks.append(block)
        self._starts.append(first)

    def note_opened(self, record: int, lookups: Iterable[bytes]) -> None:
        """Note which published lookups a record met, so that their removal finds it again."""
        for lookup in lookups:
            self._opened[lookup].add(record)

    def published(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield ``(record, j, output)``, once, of what was in the file when it was opened and whose token had rows."""
        had, self._had_rows = self._had_rows, []
        for entries in had:
            for entry in entries:
                yield int(entry["record"]), int(entry["j"]), entry["output"].tobytes()

    # Joining

    def met_by(self, added: Sequence[bytes], removed: Sequence[bytes]) -> set[int]:
        """Return the records that a delta may concern: one of its new lookups is the next of a token of theirs, or one
        of the removed ones was met by them. Superseded entries count too; looking at a record once more is harmless.

        Args:
            added: Lookups of the delta's rows, 16 bytes each.
            removed: Lookups that it removes.

        Cost:
            One pass over all entries, about 10 ns each.
        """
        found: set[int] = set()
        for lookup in removed:
            found |= self._opened.get(lookup, set())
        if not added or not self._count:
            return found
        wanted = np.sort(np.frombuffer(b"".join(lookup[:8] for lookup in added), dtype=">u8").astype(np.uint64))
        high = self._high[: self._count]
        sieve = np.zeros(1 << _PREFIX_BITS, dtype=np.bool_)
        sieve[wanted >> np.uint64(64 - _PREFIX_BITS)] = True
        candidates = np.flatnonzero(sieve[high >> np.uint64(64 - _PREFIX_BITS)])
        at = np.minimum(np.searchsorted(wanted, high[candidates]), len(wanted) - 1)
        exact = set(added)
        for position in candidates[wanted[at] == high[candidates]].tolist():
            lookup = struct.pack(">QQ", int(self._high[position]), int(self._low[position]))
            if lookup in exact:
                found.add(int(self._records[position]))
        return found

    def of(self, records: Collection[int]) -> dict[int, Held]:
        """Return what is kept of some records; those that have nothing are left out.

        Raises:
            StorageError: A block was changed.

        Cost: One pass over the record numbers, and 0.2 ms for each block that is read.
        """
        wanted = np.fromiter(records, dtype=np.uint64, count=len(records))
        positions = np.flatnonzero(np.isin(self._records[: self._count], wanted))
        by_block: dict[int, list[int]] = defaultdict(list)
        for position, block in zip(
            positions.tolist(), (np.searchsorted(self._starts, positions, side="right") - 1).tolist(), strict=True
        ):
            by_block[block].append(position - self._starts[block])
        found: dict[int, Held] = {}
        for block, inside in sorted(by_block.items()):
            # All entries of a record are in one block, and a later one supersedes it.
            outputs: dict[int, dict[bytes, bytes]] = defaultdict(dict)
            for entry in self._read(*self._blocks[block])[inside]:
                outputs[int(entry["record"])][entry["tag"].tobytes()] = entry["output"].tobytes()
            found |= {record: Held(own) for record, own in outputs.items()}
        return found

    def has(self, records: Collection[int]) -> set[int]:
        """Return which of some records were evaluated."""
        wanted = np.fromiter(records, dtype=np.uint64, count=len(records))
        return set(wanted[np.isin(wanted, self._records[: self._count])].tolist())

    def newest(self) -> Iterator[Entries]:
        """Yield the entries that are not superseded, block by block; for a file that is written anew."""
        records = self._records[: self._count]
        numbers, behind = np.unique(records[::-1], return_index=True)
        last = np.searchsorted(self._starts, self._count - 1 - behind, side="right") - 1
        for index, block in enumerate(self._blocks):
            entries = self._read(*block)
            yield entries[last[np.searchsorted(numbers, entries["record"].astype(np.uint64))] == index]

    # The file

    def _load(self) -> None:
        if self._pread(len(_MAGIC), 0) != _MAGIC:
            raise StorageError(f"{self._name}: no file of live tokens")
        at = EMPTY_BYTES
        while at < self._size:
            n, _ = self._head(at)
            entries = self._read(at, n)
            self._index(entries, (at, n))
            if (had := entries[entries["j"] > 0]).size:
                self._had_rows.append(had)
            at += _HEAD.size + n * ENTRY.itemsize + _SEAL_BYTES
        if at != self._size:
            raise StorageError(f"{self._name}: live tokens end inside a block")

    def _head(self, at: int) -> tuple[int, bytes]:
        raw = self._pread(_HEAD.size, at)
        if len(raw) != _HEAD.size:
            raise StorageError(f"{self._name}: live tokens end inside a block")
        n, nonce = _HEAD.unpack(raw)
        return n, nonce

    def _sealed(self, plain: bytes, n: int, at: int) -> bytes:
        nonce = self._random.bytes(12)
        return _HEAD.pack(n, nonce) + self._aead.encrypt(nonce, plain, _LABEL + struct.pack(">Q", at))

    def _read(self, at: int, n: int) -> Entries:
        raw = self._pread(_HEAD.size + n * ENTRY.itemsize + _SEAL_BYTES, at)
        try:
            count, nonce = _HEAD.unpack(raw[: _HEAD.size])
            plain = self._aead.decrypt(nonce, raw[_HEAD.size :], _LABEL + struct.pack(">Q", at))
        except (InvalidTag, struct.error):
            raise StorageError(f"{self._name}: live tokens do not open") from None
        if count != n:
            raise StorageError(f"{self._name}: live tokens do not open")
        return np.frombuffer(plain, dtype=ENTRY)

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._file, length, offset)
        except OSError as error:
            raise UnavailableError(f"cannot read {self._name}: {error.strerror}") from error

    def _pwrite(self, data: bytes, offset: int) -> None:
        try:
            # What a crash left behind what counts is overwritten.
            view, at = memoryview(data), offset
            while view:
                written = os.pwrite(self._file, view, at)
                view, at = view[written:], at + written
            os.fdatasync(self._file)
        except OSError as error:
            raise UnavailableError(f"cannot write {self._name}: {error.strerror}") from error


def _parts(entries: Entries) -> Iterator[Entries]:
    """Split entries into blocks of a size that is quick to open, never within a record."""
    ends = (np.flatnonzero(entries["record"][1:] != entries["record"][:-1]) + 1).tolist() if len(entries) else []
    start = 0
    for end, following in pairwise([*ends, len(entries), len(entries)]):
        # ``end`` is a border; the part ends here if the next border is too far.
        if end > start and (end == len(entries) or following - start > _BLOCK_ENTRIES):
            yield entries[start:end]
            start = end
