"""What RFC 9497 hashes, one message a call of ``hashlib``: for backends that have no hashes of their own.

Decides: the bytes of HashToGroup's and HashToScalar's expansion (RFC 9380 section 5.3.1) and of Finalize (RFC 9497
section 3.3.1). The kernel hashes the same bytes in lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha512
from typing import Final

from connector_psi.errors import FormatError

OUTPUT_BYTES: Final = 64
ELEMENT_BYTES: Final = 32
MAX_INPUT_BYTES: Final = 2**16 - 1

Z_PAD: Final = bytes(128)
"""One block of zeros before the message. From: RFC 9380 section 5.3.1."""
LENGTH_AND_ZERO: Final = (64).to_bytes(2, "big") + b"\x00"
"""The length that is asked for, 64 bytes and so one block of output, and the counter of ``b_0``."""


def lp(value: bytes) -> bytes:
    """Return ``I2OSP(len(value), 2) || value``.

    Raises:
        FormatError: The value is longer than 65,535 bytes.
    """
    if len(value) > MAX_INPUT_BYTES:
        raise FormatError("a value is longer than 65,535 bytes")
    return len(value).to_bytes(2, "big") + value


def dst_prime(dst: bytes) -> bytes:
    """Return the domain separation tag with its length after it.

    Raises:
        FormatError: ``dst`` is not 1 to 255 bytes.
    """
    if not 1 <= len(dst) <= 255:
        raise FormatError("a domain separation tag is 1 to 255 bytes")
    return dst + bytes([len(dst)])


def expand_message_xmd(message: bytes, dst: bytes) -> bytes:
    """Return 64 uniform bytes for ``message``, with SHA-512.

    Args:
        message: Of any length.
        dst: Domain separation tag, 1 to 255 bytes.

    Raises:
        FormatError: ``dst`` has another length.

    Source: RFC 9380 section 5.3.1. Every use in this suite asks for 64 bytes, which is one block of output.
    """
    return _expander(dst)(message)


def expand_each(inputs: Sequence[bytes], dst: bytes) -> bytes:
    """Return ``n * 64`` uniform bytes for ``n`` inputs."""
    return b"".join(map(_expander(dst), inputs))


def output_each(inputs: Sequence[bytes], elements: bytes) -> bytes:
    """Return ``n * 64`` bytes: Finalize's hash of each input, at most 65,535 bytes, and its packed element."""
    size = lp(bytes(ELEMENT_BYTES))[:2]
    starts = range(0, len(elements), ELEMENT_BYTES)
    return b"".join(
        sha512(b"".join((lp(value), size, elements[at : at + ELEMENT_BYTES], b"Finalize"))).digest()
        for value, at in zip(inputs, starts, strict=True)
    )


def sha512_each(prefix: bytes, rows: bytes, size_bytes: int, suffix: bytes) -> bytes:
    """Return ``SHA-512(prefix || row || suffix)`` of each row of a packed buffer, 64 bytes a row."""
    begun = sha512(prefix)
    digests = []
    for at in range(0, len(rows), size_bytes):
        one = begun.copy()
        one.update(rows[at : at + size_bytes] + suffix)
        digests.append(one.digest())
    return b"".join(digests)


@lru_cache(maxsize=16)
def _expander(dst: bytes) -> Callable[[bytes], bytes]:
    tag = dst_prime(dst)
    # The first block is the same for every message: its state is computed once.
    padded = sha512(Z_PAD)
    tail, second = LENGTH_AND_ZERO + tag, b"\x01" + tag

    def expand(message: bytes) -> bytes:
        first = padded.copy()
        first.update(message + tail)
        return sha512(first.digest() + second).digest()

    return expand
