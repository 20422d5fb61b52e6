r"""Deltas: what changed in the set of an epoch since it was published, in bytes that the owner signs and logs.

::

    delta    "cpsi-delta-v1" || 0^3 || lp(agreement) || uint64 epoch || uint64 seq || prev_hash(32)
             || uint64 snapshot_ms || uint32 n || n rows of 76 bytes || uint32 m || m lookups of 16 bytes
    hash     SHA-256 of these bytes; the first delta's prev_hash is the manifest's delta_chain_start
    signed   Ed25519 over "connector-psi/v1 delta\n" || delta

Rows are those of the ticket file, sorted by lookup; removed lookups are sorted too. n and m stand on ladders: a row
that fills up is 76 random bytes, a lookup that fills up names such a row which was published earlier in this epoch, so
that nobody who evaluated none of the tokens sees how many alerts came or went. A delta fits one gRPC message; what is
more goes into the next one of the chain.

Decides: the bytes, the ladders, what a delta from a peer must look like. Leaves to others: which rows and lookups
(``node.deltas``), the log entry (``node``), what a delta changes for a querier (``protocol.querier``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from connector_psi.encoding.tickets import LOOKUP_BYTES, ROW_BYTES, Rows
from connector_psi.errors import FormatError, ProtocolError

ROW_LADDER: Final = (16, 64, 256, 1024, 4096, 8192)
"""Rows of a delta, dummies included."""
MIN_DUMMIES: Final = 8
"""Of these rows at least so many are dummies: what a later delta may pretend to remove."""
REMOVED_LADDER: Final = (8, 32, 128, 512, 2048, 8192)
"""Removed lookups of a delta, those of dummies included."""
MAX_NEW_ROWS: Final = ROW_LADDER[-1] - MIN_DUMMIES
MAX_REMOVED: Final = REMOVED_LADDER[-1]
MAX_DELTA_BYTES: Final = 200 + ROW_LADDER[-1] * ROW_BYTES + MAX_REMOVED * LOOKUP_BYTES
HASH_BYTES: Final = 32

_MAGIC: Final = b"cpsi-delta-v1\0\0\0"
_HEAD: Final = struct.Struct(">QQ32sQI")
_COUNT: Final = struct.Struct(">I")
_SIGNATURE_LABEL: Final = b"connector-psi/v1 delta\n"
_MAX_CODE_BYTES: Final = 128
_MAX_NUMBER: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Delta:
    """One link of the chain of an epoch's changes."""

    agreement: str
    epoch: int
    seq: int
    """From 1, without gaps."""
    prev_hash: bytes
    snapshot_ms: int
    """Unix milliseconds at the owner: every change of its records before is in the set with the chain up to here."""
    rows: bytes = field(repr=False)
    """``n * 76`` bytes, strictly sorted by lookup, n of ``ROW_LADDER``."""
    removed: bytes = field(repr=False)
    """``m * 16`` bytes, strictly sorted, m of ``REMOVED_LADDER``."""

    def row_lookups(self) -> list[bytes]:
        """Return the lookups of the rows, in order."""
        return [self.rows[at : at + LOOKUP_BYTES] for at in range(0, len(self.rows), ROW_BYTES)]

    def removed_lookups(self) -> list[bytes]:
        """Return the removed lookups, in order."""
        return [self.removed[at : at + LOOKUP_BYTES] for at in range(0, len(self.removed), LOOKUP_BYTES)]


def row_rung(new_rows: int) -> int:
    """Return how many rows a delta with so many new ones has, at least ``MIN_DUMMIES`` more.

    Raises:
        ValueError: More than ``MAX_NEW_ROWS``.
    """
    return _rung(ROW_LADDER, new_rows + MIN_DUMMIES)


def removed_parts(count: int, dummies: int) -> list[int]:
    """Split removed lookups over deltas, so that the dummies that are there fill every one up to a rung.

    Args:
        count: Lookups to remove, any number.
        dummies: Dummy rows that may still be removed, at least ``MIN_DUMMIES``.

    Returns:
        How many of the lookups each delta has, at least one number; each but the last fills its rung exactly where the
        dummies do not suffice for more.
    """
    parts: list[int] = []
    while True:
        if count <= MAX_REMOVED and _rung(REMOVED_LADDER, count) - count <= dummies:
            return [*parts, count]
        parts.append(max(rung for rung in REMOVED_LADDER if rung <= count))
        count -= parts[-1]


def removed_rung(count: int) -> int:
    """Return how many removed lookups a delta with so many has.

    Raises:
        ValueError: More than ``MAX_REMOVED``.
    """
    return _rung(REMOVED_LADDER, count)


def _rung(ladder: Sequence[int], count: int) -> int:
    for rung in ladder:
        if count <= rung:
            return rung
    raise ValueError("beyond the ladder of a delta")


def sort_rows(rows: bytes) -> bytes:
    """Return rows of 76 bytes sorted by lookup, which also hides which of them are dummies."""
    return b"".join(sorted(rows[at : at + ROW_BYTES] for at in range(0, len(rows), ROW_BYTES)))


def encode_delta(delta: Delta) -> bytes:
    """Give the bytes of a delta; ``parse_delta`` is the exact inverse."""
    code = delta.agreement.encode("ascii")
    return b"".join(
        (
            _MAGIC,
            struct.pack(">H", len(code)),
            code,
            _HEAD.pack(delta.epoch, delta.seq, delta.prev_hash, delta.snapshot_ms, len(delta.rows) // ROW_BYTES),
            delta.rows,
            _COUNT.pack(len(delta.removed) // LOOKUP_BYTES),
            delta.removed,
        )
    )


def parse_delta(raw: bytes) -> Delta:
    """Read delta bytes from a peer.

    Raises:
        FormatError: Too long, another layout, numbers off the ladders, rows or lookups out of order or twice.
    """
    if len(raw) > MAX_DELTA_BYTES:
        raise FormatError("delta: too long")
    try:
        return _parse(raw)
    except (struct.error, UnicodeDecodeError):
        raise FormatError("delta: cut off, or no delta") from None


def _parse(raw: bytes) -> Delta:
    at = len(_MAGIC) + 2
    (length,) = struct.unpack(">H", raw[len(_MAGIC) : at])
    if raw[: len(_MAGIC)] != _MAGIC or not 0 < length <= _MAX_CODE_BYTES:
        raise FormatError("delta: no delta")
    agreement = raw[at : at + length].decode("ascii")
    at += length
    epoch, seq, prev_hash, snapshot_ms, n = _HEAD.unpack(raw[at : at + _HEAD.size])
    at += _HEAD.size
    if n not in ROW_LADDER or max(epoch, seq, snapshot_ms) > _MAX_NUMBER or not seq:
        raise FormatError("delta: a number off its range")
    rows = raw[at : at + n * ROW_BYTES]
    at += n * ROW_BYTES
    (m,) = _COUNT.unpack(raw[at : at + _COUNT.size])
    removed = raw[at + _COUNT.size :]
    if m not in REMOVED_LADDER or len(removed) != m * LOOKUP_BYTES:
        raise FormatError("delta: a number off its range")
    lookups = np.frombuffer(rows, dtype=np.uint8).reshape(n, ROW_BYTES)[:, :LOOKUP_BYTES]
    if not _ascends(lookups) or not _ascends(np.frombuffer(removed, dtype=np.uint8).reshape(m, LOOKUP_BYTES)):
        raise FormatError("delta: rows or removed lookups out of order")
    return Delta(agreement, epoch, seq, prev_hash, snapshot_ms, rows, removed)


def _ascends(lookups: Rows) -> bool:
    halves = np.ascontiguousarray(lookups).view(">u8").astype(np.uint64)
    high, low = halves[:, 0], halves[:, 1]
    return bool(np.all((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))))


def delta_hash(raw: bytes) -> bytes:
    """Give the 32 bytes by which the log and the next delta name one: SHA-256 of its bytes."""
    return hashlib.sha256(raw).digest()


def sign_delta(private_key: Ed25519PrivateKey, raw: bytes) -> bytes:
    """Sign delta bytes; 64 bytes."""
    return private_key.sign(_SIGNATURE_LABEL + raw)


def verify_delta_signature(public_key: Ed25519PublicKey, raw: bytes, signature: bytes) -> None:
    """Check that the owner signed exactly these bytes.

    Raises:
        ProtocolError: It did not.
    """
    try:
        public_key.verify(signature, _SIGNATURE_LABEL + raw)
    except InvalidSignature:
        raise ProtocolError("delta signature") from None
