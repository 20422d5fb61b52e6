"""The filter of a set: a Bloom filter over its lookups, in the file layout of pybloom-live 4.0.0.

::

    header   '<dQQQQ'  error rate, slices k, bits per slice m, capacity, count                        40 bytes
    bits     k slices of m bits each, end to end without alignment; bit i is bit i % 8 of byte i // 8   ceil(k * m / 8)

    key      the lookup as lowercase hex text, 32 ASCII characters
    hash     H = SHA-384, words of 2 bytes   while m < 2^15
             H = SHA-512, words of 4 bytes   while m < 2^31
             H = SHA-512, words of 8 bytes   beyond
             digest s is H(H(uint32 s) || key), all integers little-endian; the words of digests 0, 1, ... in order,
             each mod m, are the key's bits in slices 0 to k - 1

Decides: sizing, the bits (equal to the library's, bit for bit, tested against it), and what a filter from a peer must
look like before anything trusts an answer of it: a header with k = 0 makes everything a member, a huge k in a 42-byte
file burns seconds in the library, a slice of ones lets every key through. ``Filter`` never hands bytes to the library.
Leaves to others: which lookups are in the set (``tickets`` pads, the owner derives them), whether the file is the one
that was published (``manifest``).

The library packs hash input and words in the machine's byte order; this layout is its little-endian form everywhere.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

import numpy as np
import numpy.typing as npt

from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import FormatError, UnavailableError

ERROR_RATE: Final = 2.0**-20
SLICES: Final = 20
"""k = ceil(log2(1 / ERROR_RATE))."""
LOOKUP_BYTES: Final = 16
MAX_CAPACITY: Final = 2**32
"""Far above any set (SIS holds 80 million records); keeps sizes from a manifest or header within sane bounds."""

_HEADER: Final = struct.Struct("<dQQQQ")
_KEY_BYTES: Final = 2 * LOOKUP_BYTES
_BATCH_KEYS: Final = 1 << 15
_SCAN_BYTES: Final = 1 << 23

Bits = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]


def filter_size_bytes(capacity: int) -> int:
    """Give the exact length of the filter file of a set of ``capacity`` lookups.

    Args:
        capacity: Size class of the set, 1 to ``MAX_CAPACITY``.
    """
    return _HEADER.size + (_Layout.of(capacity).total_bits + 7) // 8


def write_filter(path: Path, lookups: bytes | memoryview, capacity: int) -> None:
    """Write the filter of a whole set.

    The file is there whole or not at all, and equals what pybloom-live writes after ``add(key, skip_check=True)`` of
    every lookup.

    Args:
        path: Final name of the file.
        lookups: ``capacity * 16`` bytes, dummies included.
        capacity: Size class of the set; header capacity and count.

    Raises:
        ValueError: ``lookups`` does not hold exactly ``capacity`` lookups.
        UnavailableError: The disk is full or cannot be written.

    Cost:
        Two SHA-512 and 20 scattered bits a key, 2.4 to 4 us; memory is the filter (3.6 bytes a key, 288 MB for
        80 million) and a few MB.
    """
    layout = _Layout.of(capacity)
    if len(lookups) != capacity * LOOKUP_BYTES:
        raise ValueError("a filter is written from exactly as many lookups as its capacity")
    bits = np.zeros((layout.total_bits + 7) // 8, dtype=np.uint8)
    for keys in _key_batches(memoryview(lookups)):
        for first_slice, positions in layout.positions(keys):
            # One slice after the other, so that the scattered writes of a batch stay in one slice's cache lines.
            flat = np.ascontiguousarray(positions.T).ravel()
            flat += np.repeat(layout.slice_starts(first_slice, positions.shape[1]), len(keys))
            np.bitwise_or.at(bits, flat >> 3, _BIT[flat & 7])
    with atomic_file(path) as file:
        file.write(_HEADER.pack(ERROR_RATE, SLICES, layout.bits_per_slice, capacity, capacity))
        file.write(bits.data)


class Filter:
    """A filter file, checked and memory-mapped.

    Safe for several threads. Must be closed; also a context manager.
    """

    def __init__(self, layout: _Layout, bits: Bits) -> None:
        """Use ``Filter.open``; this takes bits that were already checked."""
        self._layout = layout
        self._bits: Bits | None = bits

    @classmethod
    def open(cls, path: Path, expected_capacity: int) -> Self:
        """Check a filter file and map it.

        Nothing in the file is believed: the header must be the one header that the expected capacity has, the length
        exact, and each slice filled as independent keys would fill it.

        Args:
            path: The file.
            expected_capacity: The size class in the signed manifest.

        Raises:
            FormatError: The file is not a filter of that capacity.
            UnavailableError: The file cannot be read.

        Cost:
            One pass over the file (about 0.3 s for 300 MB already in memory).
        """
        if not 1 <= expected_capacity <= MAX_CAPACITY:
            raise FormatError(f"{path.name}: filter capacity out of range")
        layout = _Layout.of(expected_capacity)
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER.size)
                if file.seek(0, 2) != filter_size_bytes(expected_capacity):
                    raise FormatError(f"{path.name}: filter length")
                _check_header(path.name, header, layout)
                bits = np.asarray(np.memmap(file, dtype=np.uint8, mode="r", offset=_HEADER.size))
        except OSError as error:
            raise UnavailableError(f"cannot read {path.name}: {error.strerror}") from error
        _check_fill(path.name, bits, layout)
        return cls(layout, bits)

    @classmethod
    def of_own(cls, raw: bytes, capacity: int) -> Self:
        """Use a filter that this node made itself and whose bytes are authentic; nothing is checked but the length.

        Raises:
            FormatError: Not the length of a filter of that capacity.
        """
        if len(raw) != filter_size_bytes(capacity):
            raise FormatError("filter length")
        return cls(_Layout.of(capacity), np.frombuffer(raw, dtype=np.uint8, offset=_HEADER.size))

    def contains(self, lookups: bytes | memoryview) -> npt.NDArray[np.bool_]:
        """Look up a batch.

        Every member is found. A lookup that is no member is found with probability 2^-20.

        Args:
            lookups: ``n * 16`` bytes.

        Returns:
            ``n`` booleans, in order.

        Raises:
            ValueError: ``lookups`` is no whole number of lookups, or the filter is closed.

        Cost:
            About 1.5 us a lookup that is no member: it meets its first zero bit after two slices on average.
        """
        if self._bits is None:
            raise ValueError("the filter is closed")
        if len(lookups) % LOOKUP_BYTES:
            raise ValueError("lookups are 16 bytes each")
        answers = [self._contains_batch(self._bits, keys) for keys in _key_batches(memoryview(lookups))]
        return np.concatenate(answers) if answers else np.zeros(0, dtype=np.bool_)

    def close(self) -> None:
        """Unmap the file; the filter answers nothing afterwards."""
        self._bits = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _contains_batch(self, bits: Bits, keys: list[bytes]) -> npt.NDArray[np.bool_]:
        layout = self._layout
        alive = np.arange(len(keys))
        for digest in range(layout.digests):
            first_slice, positions = layout.positions_of_digest([keys[i] for i in alive], digest)
            rows = np.arange(len(alive))
            for column, start in enumerate(layout.slice_starts(first_slice, positions.shape[1])):
                at = positions[rows, column] + start
                rows = rows[(bits[at >> 3] & _BIT[at & 7]) != 0]
            alive = alive[rows]
            if not len(alive):
                break  # a key that fell out in the first digest is never hashed again
        found = np.zeros(len(keys), dtype=np.bool_)
        found[alive] = True
        return found


_BIT: Final[Bits] = (1 << np.arange(8)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the bits of a key are, for one capacity."""

    capacity: int
    bits_per_slice: int
    hash_name: str
    word: str
    """Numpy type of a digest's words."""
    words: int
    """Words in one digest."""
    salts: tuple[bytes, ...]

    @classmethod
    def of(cls, capacity: int) -> _Layout:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ValueError("filter capacity out of range")
        return cls.of_slices(
            capacity,
            # The library's own floating-point expression, so that both round alike.
            math.ceil((capacity * abs(math.log(ERROR_RATE))) / (SLICES * (math.log(2) ** 2))),
        )

    @classmethod
    def of_slices(cls, capacity: int, bits_per_slice: int) -> _Layout:
        # From: pybloom_live.pybloom.make_hashfuncs, for k = 20
        if bits_per_slice >= 1 << 31:
            hash_name, word = "sha512", "<u8"
        elif bits_per_slice >= 1 << 15:
            hash_name, word = "sha512", "<u4"
        else:
            hash_name, word = "sha384", "<u2"
        words = hashlib.new(hash_name).digest_size // np.dtype(word).itemsize
        salts = tuple(hashlib.new(hash_name, struct.pack("<I", i)).digest() for i in range(-(-SLICES // words)))
        return cls(capacity, bits_per_slice, hash_name, word, words, salts)

    @property
    def total_bits(self) -> int:
        return SLICES * self.bits_per_slice

    @property
    def digests(self) -> int:
        return len(self.salts)

    def slice_starts(self, first: int, count: int) -> Positions:
        return np.arange(first, first + count, dtype=np.int64) * self.bits_per_slice

    def positions(self, keys: list[bytes]) -> Iterator[tuple[int, Positions]]:
        for digest in range(self.digests):
            yield self.positions_of_digest(keys, digest)

    def positions_of_digest(self, keys: list[bytes], digest: int) -> tuple[int, Positions]:
        """Give the first slice that this digest serves, and a row of bit positions within its slices for each key."""
        hash_new = getattr(hashlib, self.hash_name)
        salt = self.salts[digest]
        first = digest * self.words
        packed = b"".join([hash_new(salt + key).digest() for key in keys])
        words = np.frombuffer(packed, dtype=self.word).reshape(len(keys), self.words)[:, : SLICES - first]
        # The modulus has the word's own width: no bits_per_slice reaches its word's limit.
        return first, (words % words.dtype.type(self.bits_per_slice)).astype(np.int64)


def _key_batches(lookups: memoryview) -> Iterator[list[bytes]]:
    step = _BATCH_KEYS * LOOKUP_BYTES
    for start in range(0, len(lookups), step):
        text = lookups[start : start + step].hex().encode()
        # Fixed-width strings lose trailing NULs, which hex text has none of.
        yield cast("list[bytes]", np.frombuffer(text, dtype=f"S{_KEY_BYTES}").tolist())


def _check_header(name: str, header: bytes, layout: _Layout) -> None:
    fields: tuple[Any, ...] = _HEADER.unpack(header)
    expected = (ERROR_RATE, SLICES, layout.bits_per_slice, layout.capacity, layout.capacity)
    for label, got, want in zip(
        ("error rate", "slices", "slice size", "capacity", "count"), fields, expected, strict=True
    ):
        if got != want:  # a NaN rate differs from every rate
            raise FormatError(f"{name}: filter {label}")


def _check_fill(name: str, bits: Bits, layout: _Layout) -> None:
    # At capacity every slice is half full. The spread of m bits is 0.277 / sqrt(m), so the bound is six of them; words
    # of 2 bytes are a little uneven mod m, which the 0.005 covers.
    m = layout.bits_per_slice
    tolerance = max(0.01, 0.005 + 1.7 / math.sqrt(m))
    for index in range(SLICES):
        ones = _count_ones(bits, index * m, (index + 1) * m)
        if abs(ones / m - 0.5) > tolerance:
            raise FormatError(f"{name}: filter slice {index} is not filled as a set of this size would")
    if _count_ones(bits, layout.total_bits, 8 * len(bits)):
        raise FormatError(f"{name}: filter has bits beyond its last slice")


def _count_ones(bits: Bits, start: int, stop: int) -> int:
    """Count the ones among bits ``start`` to ``stop``, which need not be on byte borders."""
    if start >= stop:
        return 0
    first, last = start >> 3, (stop - 1) >> 3
    total = 0
    for at in range(first, last + 1, _SCAN_BYTES):
        total += int(np.bitwise_count(bits[at : min(at + _SCAN_BYTES, last + 1)]).sum(dtype=np.int64))
    before = int(bits[first]) & ((1 << (start & 7)) - 1)
    after = int(bits[last]) >> (((stop - 1) & 7) + 1)
    return total - before.bit_count() - after.bit_count()
