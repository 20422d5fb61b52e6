"""Tickets: what a lookup opens, one sorted file a set.

::

    row       lookup(16) || nonce(12) || sealed(32) || tag(16)                                        76 bytes
    sealed    ChaCha20-Poly1305 under ticket_key, associated data
              "connector-psi/v1 ticket" || lp(agreement) || uint64(epoch) || lookup
    plaintext ticket_id(16) || class(1) || category(1) || family(1) || shape(1) || part(1) || zero(3) || redeem(8)
    ticket_id AES-256(K_ticket, 0^8 || uint64(record))

Decides: the bytes of a row, the size a set is padded to, the order of the file, what a received file must look like,
and how the owner makes ticket ids and redeem codes. A row shows nothing to whoever has not evaluated its token: a
dummy is 76 random bytes.
Leaves to others: where ``lookup`` and ``ticket_key`` come from (``oprf``), which class was asked for and whether
categories are shown (``protocol``), where an owner keeps the file (``sealedfile``), who holds the keys (``keyring``).
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from connector_psi.domain.clock import RandomSource
from connector_psi.domain.naming.keys import Shape
from connector_psi.domain.records import TokenClass
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import ConflictError, FormatError, ProtocolError, UnavailableError

LOOKUP_BYTES: Final = 16
NONCE_BYTES: Final = 12
TICKET_KEY_BYTES: Final = 32
PLAINTEXT_BYTES: Final = 32
ROW_BYTES: Final = 76
TICKET_ID_BYTES: Final = 16
REDEEM_BYTES: Final = 8
TICKET_TAG_BYTES: Final = 8
MIN_SIZE_CLASS: Final = 1024

_LABEL: Final = b"connector-psi/v1 ticket"
_PLAINTEXT: Final = struct.Struct(">16sBBBBB3s8s")
_ZERO: Final = bytes(3)
FIRST_NAME_FAMILY: Final = 64
"""Families of identifier types have smaller numbers."""
MAX_PART: Final = 255
"""Parties of a record beyond so many yield no tokens of names: a part is one byte."""
# A key is of the whole name, of its core or of other parts of it: never of two of them.
_SHAPES: Final = frozenset(
    shape for shape in range(2 * max(Shape)) if shape & (Shape.CORE | Shape.OTHER) != Shape.CORE | Shape.OTHER
)
_CLASSES: Final = frozenset(TokenClass)
_SEALED_AT: Final = LOOKUP_BYTES + NONCE_BYTES
_CHUNK_ROWS: Final = 1 << 16

Rows = npt.NDArray[np.uint8]


# --- sizes


def size_class(n: int) -> int:
    """Give the smallest size class that holds ``n`` rows: ``2^k`` times 1, 1.25, 1.5 or 1.75, at least 1,024."""
    if n <= MIN_SIZE_CLASS:
        return MIN_SIZE_CLASS
    quarter = 1 << ((n - 1).bit_length() - 3)
    return -(-n // quarter) * quarter


def padded_size(n_tokens: int) -> int:
    """Give the number of rows of a set of ``n_tokens``: the smallest size class with at least one dummy in 64 rows.

    Dummies are what a delta may later pretend to remove, so a set is never published without them.
    """
    return size_class(-(-64 * n_tokens // 63))


# --- tickets


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a match opens: nothing about the record but its class, its family and perhaps its category."""

    ticket_id: bytes = field(repr=False)
    """16 bytes; opens for the owner alone, groups the tokens of one record within this set."""
    token_class: int
    """A ``TokenClass``."""
    category: int
    """0 unless the agreement shows categories at the match; one byte."""
    family: int
    """Token family; one byte."""
    redeem: bytes = field(repr=False)
    """8 bytes; shows the owner that the querier holds this token."""
    shape: int = 0
    """A ``Shape`` of a name key; 0 for an identifier."""
    part: int = 0
    """Which party of the record the token is about, from 1; 0 for an identifier, which is the record's as a whole."""


def encode_ticket(ticket: Ticket) -> bytes:
    """Give the 32 bytes that are sealed; the inverse of ``decode_ticket``.

    Raises:
        ValueError: A field has another length or range than the layout, or the class is none.
    """
    if len(ticket.ticket_id) != TICKET_ID_BYTES or len(ticket.redeem) != REDEEM_BYTES:
        raise ValueError("a ticket id is 16 bytes and a redeem code 8")
    if ticket.token_class not in _CLASSES or not (0 <= ticket.category <= 255 and 0 <= ticket.family <= 255):
        raise ValueError("ticket class, category or family out of range")
    if not 0 <= ticket.part <= MAX_PART or not _is_told(ticket.family, ticket.shape, ticket.part):
        raise ValueError("ticket shape or part out of range")
    return _PLAINTEXT.pack(
        ticket.ticket_id,
        ticket.token_class,
        ticket.category,
        ticket.family,
        ticket.shape,
        ticket.part,
        _ZERO,
        ticket.redeem,
    )


def decode_ticket(plaintext: bytes) -> Ticket:
    """Read what a row opened to.

    Raises:
        ProtocolError: Not 32 bytes, an unknown class or shape, a shape or part of an identifier, or the zero bytes are
            not zero (all of these could mark a querier).
    """
    if len(plaintext) != PLAINTEXT_BYTES:
        raise ProtocolError("ticket length")
    ticket_id, token_class, category, family, shape, part, zero, redeem = _PLAINTEXT.unpack(plaintext)
    if zero != _ZERO:
        raise ProtocolError("ticket has reserved bytes set")
    if token_class not in _CLASSES:
        raise ProtocolError("ticket class")
    if not _is_told(family, shape, part):
        raise ProtocolError("ticket shape or part")
    return Ticket(ticket_id, token_class, category, family, redeem, shape, part)


def _is_told(family: int, shape: int, part: int) -> bool:
    """Whether a family goes with a shape and a part: a name key is one party's, an identifier the record's."""
    return (shape in _SHAPES and part > 0) if family >= FIRST_NAME_FAMILY else shape == part == 0


def pack_tickets(
    ticket_ids: bytes,
    classes: bytes,
    categories: bytes,
    families: bytes,
    shapes: bytes,
    parts: bytes,
    redeems: bytes,
) -> bytes:
    """Give ``n`` plaintexts for ``seal_rows`` from columns; equal to ``encode_ticket`` row by row, without its checks.

    Args:
        ticket_ids: ``n * 16`` bytes.
        classes: ``n`` bytes, a ``TokenClass`` each.
        categories: ``n`` bytes.
        families: ``n`` bytes.
        shapes: ``n`` bytes.
        parts: ``n`` bytes.
        redeems: ``n * 8`` bytes.

    Raises:
        ValueError: The columns are not equally long.
    """
    n = len(classes)
    plaintexts = np.zeros((n, PLAINTEXT_BYTES), dtype=np.uint8)
    plaintexts[:, :16] = _columns(ticket_ids, n, TICKET_ID_BYTES)
    plaintexts[:, 16:17] = _columns(classes, n, 1)
    plaintexts[:, 17:18] = _columns(categories, n, 1)
    plaintexts[:, 18:19] = _columns(families, n, 1)
    plaintexts[:, 19:20] = _columns(shapes, n, 1)
    plaintexts[:, 20:21] = _columns(parts, n, 1)
    plaintexts[:, 24:] = _columns(redeems, n, REDEEM_BYTES)
    return plaintexts.tobytes()


def ticket_tags(plaintexts: bytes) -> bytes:
    """Give 8 bytes a plaintext by which its owner tells whether a later row would say the same, packed.

    The plaintext holds a redeem code, so nothing of the token is hashed without a key.
    """
    pieces = _pieces(plaintexts, len(plaintexts) // PLAINTEXT_BYTES, PLAINTEXT_BYTES)
    return b"".join([hashlib.sha256(piece).digest()[:TICKET_TAG_BYTES] for piece in pieces])


# --- rows


def seal_rows(
    agreement: str,
    epoch: int,
    lookups: bytes,
    ticket_keys: bytes,
    tickets: Sequence[Ticket] | bytes,
    random: RandomSource,
) -> bytes:
    """Seal a batch of tickets.

    Args:
        agreement: Agreement code.
        epoch: Epoch number.
        lookups: ``n * 16`` bytes.
        ticket_keys: ``n * 32`` bytes, one fresh key per lookup.
        tickets: ``n`` tickets, or their plaintexts as ``n * 32`` bytes.
        random: Source of the nonces.

    Returns:
        ``n * 76`` bytes, rows in the order given.

    Raises:
        ValueError: The arguments are not equally long, or a ticket has no encoding.

    Cost:
        About 6 us a row, of which more than half sets up a cipher for the row's own key.
    """
    plaintexts = tickets if isinstance(tickets, bytes) else b"".join(map(encode_ticket, tickets))
    n = len(plaintexts) // PLAINTEXT_BYTES
    rows = np.empty((n, ROW_BYTES), dtype=np.uint8)
    nonces = random.bytes(n * NONCE_BYTES)
    rows[:, :16] = _columns(lookups, n, LOOKUP_BYTES)
    rows[:, 16:28] = _columns(nonces, n, NONCE_BYTES)
    # Tuples of fixed-width bytes come out of numpy in one pass ("V" keeps trailing NULs, "S" would drop them).
    inputs = zip(
        _pieces(ticket_keys, n, TICKET_KEY_BYTES),
        _pieces(nonces, n, NONCE_BYTES),
        _pieces(plaintexts, n, PLAINTEXT_BYTES),
        _pieces(lookups, n, LOOKUP_BYTES),
        strict=True,
    )
    prefix = _associated_data(agreement, epoch)
    cipher = ChaCha20Poly1305
    sealed = b"".join([cipher(key).encrypt(nonce, text, prefix + lookup) for key, nonce, text, lookup in inputs])
    rows[:, 28:] = _columns(sealed, n, ROW_BYTES - _SEALED_AT)
    return rows.tobytes()


def dummy_rows(n: int, random: RandomSource) -> bytes:
    """Give ``n`` rows that open under no key anyone has, and look like any other row."""
    return random.bytes(n * ROW_BYTES)


def open_row(agreement: str, epoch: int, row: bytes, ticket_key: bytes) -> Ticket:
    """Open the row that ``TicketFile.find`` (or a delta) gave for a lookup.

    Args:
        agreement: Agreement code of the set.
        epoch: Epoch of the set.
        row: 76 bytes.
        ticket_key: The 32 bytes derived with the row's lookup.

    Raises:
        ProtocolError: The row is not sealed under this key for this agreement, epoch and lookup, or is no ticket. A
            dummy that carries an evaluated lookup is as good as impossible (2^-128), so the owner broke the protocol.
    """
    if len(row) != ROW_BYTES:
        raise ProtocolError("ticket row length")
    associated = _associated_data(agreement, epoch) + row[:LOOKUP_BYTES]
    try:
        plaintext = ChaCha20Poly1305(ticket_key).decrypt(row[LOOKUP_BYTES:_SEALED_AT], row[_SEALED_AT:], associated)
    except InvalidTag:
        raise ProtocolError("ticket does not open") from None
    return decode_ticket(plaintext)


def _associated_data(agreement: str, epoch: int) -> bytes:
    code = agreement.encode()
    return _LABEL + struct.pack(">H", len(code)) + code + struct.pack(">Q", epoch)


def _columns(packed: bytes, n: int, width: int) -> Rows:
    if len(packed) != n * width:
        raise ValueError("batch columns are not equally long")
    return np.frombuffer(packed, dtype=np.uint8).reshape(n, width)


def _pieces(packed: bytes, n: int, width: int) -> Iterable[bytes]:
    pieces: list[bytes] = _columns(packed, n, width).view(f"V{width}").ravel().tolist() if n else []
    return pieces


# --- the file


def write_tickets(path: Path, rows: bytes | Rows) -> None:
    """Write the ticket file of a set, sorted by lookup.

    The file is there whole or not at all. Sorting also hides which rows are dummies and which record came first.

    Args:
        path: Final name of the file.
        rows: ``n * 76`` bytes in any order, dummies included; packed, or an array of shape ``(n, 76)``.

    Raises:
        ValueError: Not a whole number of rows.
        ConflictError: Two rows have one lookup.
        UnavailableError: The disk is full or cannot be written.

    Cost:
        About 0.7 s a million rows; about 60 bytes of memory a row beside the rows themselves.
    """
    flat = np.frombuffer(rows, dtype=np.uint8) if isinstance(rows, bytes) else rows.reshape(-1)
    if len(flat) % ROW_BYTES:
        raise ValueError("ticket rows are 76 bytes each")
    table = flat.reshape(-1, ROW_BYTES)
    high, low = _lookup_halves(table)
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    if bool(np.any((high[1:] == high[:-1]) & (low[1:] == low[:-1]))):
        raise ConflictError(f"{path.name}: two rows have one lookup")
    with atomic_file(path) as file:
        for start in range(0, len(order), _CHUNK_ROWS):
            file.write(table[order[start : start + _CHUNK_ROWS]].data)


class TicketFile:
    """A ticket file, checked and memory-mapped.

    Safe for several threads. Must be closed; also a context manager.
    """

    def __init__(self, mapped: mmap.mmap, rows: int) -> None:
        """Use ``TicketFile.open``."""
        self._mapped = mapped
        self._rows = rows

    @classmethod
    def open(cls, path: Path, expected_rows: int, *, check_order: bool = True) -> Self:
        """Check a ticket file and map it.

        Args:
            path: The file.
            expected_rows: The size class in the signed manifest.
            check_order: False only for a file that this node has opened with the check before and kept since; a set of
                80 million rows is 6 GB to read.

        Raises:
            FormatError: Not exactly that many rows, or the lookups do not strictly increase.
            UnavailableError: The file cannot be read.
        """
        try:
            with path.open("rb") as file:
                if expected_rows < 1 or file.seek(0, 2) != expected_rows * ROW_BYTES:
                    raise FormatError(f"{path.name}: ticket file length")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise UnavailableError(f"cannot read {path.name}: {error.strerror}") from error
        if check_order and not _strictly_sorted(mapped, expected_rows):
            mapped.close()
            raise FormatError(f"{path.name}: ticket rows out of order")
        return cls(mapped, expected_rows)

    def __len__(self) -> int:
        """Return the number of rows, dummies included."""
        return self._rows

    def find(self, lookup: bytes) -> bytes | None:
        """Find the row of a lookup, or None: for a lookup that the filter let through, a Bloom false positive.

        Raises:
            ValueError: The lookup is not 16 bytes, or the file is closed.

        Cost:
            About 10 us, and one page read for each of the last steps of the search on a file not in memory.
        """
        if len(lookup) != LOOKUP_BYTES:
            raise ValueError("a lookup is 16 bytes")
        mapped = self._mapped
        at = bisect_left(range(self._rows), lookup, key=lambda i: mapped[i * ROW_BYTES : i * ROW_BYTES + LOOKUP_BYTES])
        row = mapped[at * ROW_BYTES : (at + 1) * ROW_BYTES]
        return row if row[:LOOKUP_BYTES] == lookup else None

    def close(self) -> None:
        """Unmap the file."""
        self._mapped.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lookup_halves(table: Rows) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    # Big-endian halves order like the bytes do; numpy's own byte strings drop trailing NULs and would not.
    halves = np.ascontiguousarray(table[:, :LOOKUP_BYTES]).view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1]


def _strictly_sorted(mapped: mmap.mmap, rows: int) -> bool:
    # Chunks overlap by a row, so that the seams are checked too.
    for start in range(0, rows, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS + 1, rows - start)
        # A copy, not a view: an exported buffer would keep the map from being closed.
        chunk = mapped[start * ROW_BYTES : (start + count) * ROW_BYTES]
        high, low = _lookup_halves(np.frombuffer(chunk, dtype=np.uint8).reshape(count, ROW_BYTES))
        if not bool(np.all((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1])))):
            return False
    return True


# --- ticket ids and redeem codes, at the owner


def make_ticket_ids(k_ticket: bytes, record_numbers: Sequence[int] | npt.NDArray[np.uint64]) -> bytes:
    """Encrypt record numbers into ticket ids.

    Args:
        k_ticket: 32 bytes, random per agreement and epoch.
        record_numbers: ``n`` numbers below 2^64.

    Returns:
        ``n * 16`` bytes, in order.
    """
    blocks = np.zeros((len(record_numbers), 2), dtype=">u8")
    blocks[:, 1] = np.asarray(record_numbers, dtype=np.uint64)
    encryptor = _block_cipher(k_ticket).encryptor()
    return encryptor.update(blocks.tobytes()) + encryptor.finalize()


def make_ticket_id(k_ticket: bytes, record_number: int) -> bytes:
    """Encrypt one record number into its ticket id."""
    return make_ticket_ids(k_ticket, [record_number])


def open_ticket_id(k_ticket: bytes, ticket_id: bytes) -> int | None:
    """Give the record number of a ticket id, or None if it is none of ours (2^-64 for random bytes).

    Never raises for 16 bytes from a peer: an unknown ticket is one of the outcomes that look alike.

    Raises:
        ValueError: Not 16 bytes.
    """
    if len(ticket_id) != TICKET_ID_BYTES:
        raise ValueError("a ticket id is 16 bytes")
    decryptor = _block_cipher(k_ticket).decryptor()
    block = decryptor.update(ticket_id) + decryptor.finalize()
    return int.from_bytes(block[8:]) if block[:8] == bytes(8) else None


def _block_cipher(k_ticket: bytes) -> Cipher[modes.ECB]:
    if len(k_ticket) != 32:
        raise ValueError("K_ticket is 32 bytes")
    # One block per record and no mode at all: a pseudorandom permutation of record numbers is what a ticket id is.
    return Cipher(algorithms.AES(k_ticket), modes.ECB())  # noqa: S305


def make_redeem(k_redeem: bytes, ticket_id: bytes, token: bytes) -> bytes:
    """Give the code by which the owner recognises a claimed token: ``HMAC-SHA256(K_redeem, ticket_id || token)[:8]``.

    Compare with ``hmac.compare_digest``.
    """
    return make_redeems(k_redeem, ticket_id, [token])


def make_redeems(k_redeem: bytes, ticket_ids: bytes, tokens: Sequence[bytes]) -> bytes:
    """Give the redeem codes of a batch, packed.

    Args:
        k_redeem: 32 bytes, random per agreement and epoch.
        ticket_ids: ``n * 16`` bytes.
        tokens: ``n`` tokens.
    """
    if len(k_redeem) != 32:
        raise ValueError("K_redeem is 32 bytes")
    # RFC 2104 spelled out, so that the key is set up once and not for every row: half the time of hmac.digest.
    key = k_redeem.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key)).copy
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key)).copy
    codes = []
    for ticket_id, token in zip(_pieces(ticket_ids, len(tokens), TICKET_ID_BYTES), tokens, strict=True):
        first = inner()
        first.update(ticket_id + token)
        second = outer()
        second.update(first.digest())
        codes.append(second.digest()[:REDEEM_BYTES])
    return b"".join(codes)
