"""The batch group port: ristretto255 (RFC 9496) and the batch steps of RFC 9497 on packed buffers.

Decides: what a backend promises, and which scalars and encodings are refused. Every operation that takes elements
refuses, itself, every encoding that RFC 9496 section 4.3.1 refuses.
Leaves to others: how a batch is computed (``sodium``, ``native``), which backend serves (``backends``), what is hashed,
proofs (``suite``), where scalars come from.
"""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NewType, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from connector_psi.errors import ConfigError, FormatError, InvalidElementError

ELEMENT_BYTES: Final = 32
SCALAR_BYTES: Final = 32
UNIFORM_BYTES: Final = 64

Scalars = NewType("Scalars", bytes)
"""Packed scalars, ``n * 32`` bytes, each little-endian and below the group order."""

# From: RFC 9496 section 4.1 (field prime) and section 4 (group order).
FIELD_PRIME: Final = 2**255 - 19
GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493


class SecretScalar:
    """A scalar that must not leave the process: hidden ``repr``, no pickling, constant-time equality.

    Args:
        value: 32 bytes, little-endian, from 1 to the group order minus 1.

    Raises:
        FormatError: ``value`` has another length, is zero, or is not below the group order. Zero would map
            every element to the identity, and make every output public.
    """

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]  # a table of secrets would compare in variable time

    def __init__(self, value: bytes) -> None:
        if len(value) != SCALAR_BYTES:
            raise FormatError("a scalar is 32 bytes")
        require_scalars(value)
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """Return the 32 bytes, for the group and for sealing; the caller owns what happens to them."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretScalar):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return "SecretScalar(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret scalar is neither pickled nor copied")


class BatchGroup(Protocol):
    """Ristretto255 on packed buffers: ``n`` elements or scalars are ``n * 32`` bytes, in order.

    Promises of every backend, none of which a caller needs to check again:

    - an element that is not the one canonical encoding of a group element, or has a length that is not
      a multiple of 32, raises ``InvalidElementError``; one error for the whole batch, which does not say
      which element. The identity is refused too, except by ``add`` and ``sub``;
    - a scalar that is zero or not below the group order raises ``FormatError``, except in
      ``scalar_product`` and ``scalar_difference``, whose results may be zero;
    - multiplications never give the identity; ``add``, ``sub`` and ``weighted_sum`` may, and ``hash_to_group``
      for an input that nobody knows;
    - time does not depend on the value of a valid scalar;
    - an empty batch gives an empty result; ``weighted_sum`` refuses it;
    - calls may come from several threads at once.
    """

    @property
    def name(self) -> str:
        """Name and version of the implementation, for logs and benchmarks."""
        ...

    def hash_to_group(self, uniform: bytes) -> bytes:
        """Map ``n * 64`` uniform bytes to ``n`` elements (RFC 9496 section 4.3.4)."""
        ...

    def scalar_mul(self, scalar: SecretScalar, elements: bytes) -> bytes:
        """Multiply each of ``n`` elements by one scalar."""
        ...

    def scalar_mul_each(self, scalars: bytes, elements: bytes) -> bytes:
        """Multiply element ``i`` by scalar ``i``."""
        ...

    def base_mul_each(self, scalars: bytes) -> bytes:
        """Multiply the generator by each of ``n`` scalars."""
        ...

    def weighted_sum(self, scalars: bytes, elements: bytes) -> bytes:
        """Return the one element that is the sum of ``scalar_i * element_i``; the scalars are public."""
        ...

    def add(self, a: bytes, b: bytes) -> bytes:
        """Return ``a_i + b_i``; the identity is taken and returned like any element."""
        ...

    def sub(self, a: bytes, b: bytes) -> bytes:
        """Return ``a_i - b_i``; the identity is taken and returned like any element."""
        ...

    def check_elements(self, elements: bytes) -> None:
        """Raise ``InvalidElementError`` unless every element is canonical and none is the identity."""
        ...

    def check_scalars(self, scalars: bytes) -> None:
        """Raise ``FormatError`` unless every scalar is below the group order and none is zero."""
        ...

    def scalar_reduce(self, wide: bytes) -> Scalars:
        """Reduce ``n`` little-endian integers of 64 bytes modulo the group order; a result may be zero."""
        ...

    def scalar_invert(self, scalars: bytes) -> Scalars:
        """Return the inverse of each scalar."""
        ...

    def scalar_product(self, a: bytes, b: bytes) -> Scalars:
        """Return ``a_i * b_i`` modulo the group order."""
        ...

    def scalar_difference(self, a: bytes, b: bytes) -> Scalars:
        """Return ``a_i - b_i`` modulo the group order."""
        ...

    def sha512_each(self, prefix: bytes, rows: bytes, size_bytes: int, suffix: bytes) -> bytes:
        """Return ``SHA-512(prefix || row_i || suffix)``, 64 bytes each, of ``n`` rows of ``size_bytes``, at least 1."""
        ...

    def blind(self, blinds: bytes, inputs: Sequence[bytes], dst: bytes) -> bytes:
        """Hash each input to the group under ``dst`` and multiply it by its blind; ``n * 32`` bytes.

        Inputs are at most 65,535 bytes each, here and below.
        """
        ...

    def finalize(self, blinds: bytes, inputs: Sequence[bytes], elements: bytes) -> bytes:
        """Divide each element by its blind, and hash it with its input (RFC 9497 section 3.3.1); ``n * 64`` bytes."""
        ...

    def evaluate_tokens(
        self, secret: SecretScalar, inputs: Sequence[bytes], dst: bytes, label: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """Compute what ``blind`` and ``finalize`` give together, with ``secret`` as the key.

        Returns:
            ``n * 64`` bytes of outputs; and with a label ``SHA-512(label || output || uint32(0))`` of each, or nothing.
        """
        ...


class Workers:
    """Threads that share the chunks of a batch; made at the first batch that has several, and anew after a fork.

    Args:
        threads: At least 1; by default the CPUs that this process may run on.

    Raises:
        ConfigError: ``threads`` is below 1.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = usable_cpus() if threads is None else threads
        if self.threads < 1:
            raise ConfigError("a group needs at least one thread")
        self._pool: ThreadPoolExecutor | None = None
        self._pool_pid = 0
        self._lock = threading.Lock()

    def all(self, task: Callable[[int], bool], starts: range) -> bool:
        """Run the task for each start, and tell whether every answer was true."""
        if self.threads == 1 or len(starts) == 1:
            return all(map(task, starts))
        # All tasks end before this returns, also after a failure: they write into the caller's buffer.
        return all(list(self._executor().map(task, starts)))

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            # The threads of a pool do not survive fork; the child makes its own.
            if self._pool is None or self._pool_pid != os.getpid():
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="oprf-group")
                self._pool_pid = os.getpid()
            return self._pool


def _words(packed: bytes, size_bytes: int) -> npt.NDArray[np.uint64]:
    return np.frombuffer(packed, "<u8").reshape(-1, size_bytes // 8)


def _below(words: npt.NDArray[np.uint64], bound: int) -> bool:
    """Tell whether every row, a little-endian integer of four words, is below ``bound``; without branching."""
    limbs = [np.uint64(bound >> shift & 2**64 - 1) for shift in (0, 64, 128, 192)]
    below = words[:, 0] < limbs[0]
    for column in (1, 2, 3):
        below = (words[:, column] < limbs[column]) | ((words[:, column] == limbs[column]) & below)
    return bool(below.all())


def packed_count(packed: bytes, size_bytes: int, error: type[FormatError | InvalidElementError]) -> int:
    """Return how many pieces of ``size_bytes`` a buffer holds; raise ``error`` if the last one is cut."""
    count, rest = divmod(len(packed), size_bytes)
    if rest:
        raise error(f"a packed buffer is not a multiple of {size_bytes} bytes")
    return count


def require_equal(a: int, b: int) -> None:
    """Raise ``FormatError`` unless both operands have as many pieces."""
    if a != b:
        raise FormatError("two operands of one batch differ in length")


def require_rows(rows: bytes, size_bytes: int) -> int:
    """Return how many rows there are, of at least one byte."""
    if size_bytes < 1:
        raise FormatError("a row has at least one byte")
    return packed_count(rows, size_bytes, FormatError)


def require_scalars(scalars: bytes, *, zero_allowed: bool = False) -> int:
    """Return how many scalars there are, all below the group order.

    Raises:
        FormatError: One is not, or is zero where that is not allowed, or a length is no multiple of 32.
    """
    count = packed_count(scalars, SCALAR_BYTES, FormatError)
    if count:
        words = _words(scalars, SCALAR_BYTES)
        if not _below(words, GROUP_ORDER) or not (zero_allowed or bool(words.any(axis=1).all())):
            raise FormatError("a scalar is zero or not below the group order")
    return count


def require_canonical(elements: bytes, *, identity_allowed: bool = False) -> int:
    """Return how many elements there are, all of canonical form.

    This needs no decoding: whether there is an element of that form is the backend's part.

    Raises:
        InvalidElementError: One is not, or is the identity where that is not allowed, or a length is no multiple of 32.
    """
    count = packed_count(elements, ELEMENT_BYTES, InvalidElementError)
    if count:
        words = _words(elements, ELEMENT_BYTES)
        non_negative = not bool((words[:, 0] & np.uint64(1)).any())
        identity_absent = identity_allowed or bool(words.any(axis=1).all())
        if not (_below(words, FIELD_PRIME) and non_negative and identity_absent):
            raise InvalidElementError
    return count


def usable_cpus() -> int:
    """Return on how many CPUs this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
