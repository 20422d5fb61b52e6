"""The batch group port, ristretto255 (RFC 9496), and libsodium behind it.

Decides: what a group backend promises, which encodings are refused, and how a batch reaches
libsodium (packed buffers, one C call an element on pointer offsets, chunks shared among threads).
Leaves to others: hashing, blinding, proofs (``suite``), where scalars come from.

Every operation that takes elements refuses, itself, every encoding that RFC 9496 section 4.3.1
refuses. The libsodium 1.0.18 that ``rbcl`` bundles does not: it ignores the top bit, so each
element would have a second encoding. The canonical form is therefore checked here, for the whole
batch, before libsodium sees a byte.

Not achieved: Python cannot erase a ``bytes`` object. A ``SecretScalar`` is handed to libsodium by
address, so no copy of it is made, and buffers that this module allocates for secret intermediates
are overwritten before they are released; but the scalar itself, the blinds and every result live
in immutable objects until the allocator reuses their memory.
"""

from __future__ import annotations

import ctypes
import hmac
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple, NewType, NoReturn, Protocol

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

# Elements that one task takes: about 4 ms of libsodium, so that threads finish together, an interrupt is
# noticed soon, and handing out the task (about 20 us) is lost in it.
_CHUNK: Final = 64


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
        _require_scalars(value)
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


class SodiumGroup:
    """``BatchGroup`` over the libsodium that ``rbcl`` bundles.

    The promise is that of the port. A batch of more than 64 elements is shared among threads, since
    libsodium runs without the interpreter's lock.

    Args:
        threads: Threads to use, at least 1; by default the CPUs that this process may run on.

    Raises:
        ConfigError: ``threads`` is below 1, or libsodium cannot be loaded.

    Cost: an element costs one C call and about 0.4 us around it; multiplication 55 to 60 us at 3.6 GHz.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = _usable_cpus() if threads is None else threads
        if self._threads < 1:
            raise ConfigError("a group needs at least one thread")
        self._c = _load_sodium()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_pid = 0
        self._pool_lock = threading.Lock()

    @property
    def name(self) -> str:
        """Name and version, such as ``libsodium 1.0.18 (rbcl 1.1.2)``."""
        return self._c.name

    def hash_to_group(self, uniform: bytes) -> bytes:
        """Map ``n * 64`` uniform bytes to ``n`` elements; see the port."""
        count = _count(uniform, UNIFORM_BYTES, FormatError)
        return self._each(self._c.from_hash, count, _column(uniform, UNIFORM_BYTES))

    def scalar_mul(self, scalar: SecretScalar, elements: bytes) -> bytes:
        """Multiply each of ``n`` elements by one scalar; see the port."""
        count = _require_canonical(elements)
        key = scalar.reveal()
        return self._each(self._c.mul, count, _constant(key), _column(elements, ELEMENT_BYTES))

    def scalar_mul_each(self, scalars: bytes, elements: bytes) -> bytes:
        """Multiply element ``i`` by scalar ``i``; see the port."""
        count = _require_scalars(scalars)
        _require_equal(count, _require_canonical(elements))
        return self._each(self._c.mul, count, _column(scalars, SCALAR_BYTES), _column(elements, ELEMENT_BYTES))

    def base_mul_each(self, scalars: bytes) -> bytes:
        """Multiply the generator by each of ``n`` scalars; see the port."""
        count = _require_scalars(scalars)
        return self._each(self._c.base_mul, count, _column(scalars, SCALAR_BYTES))

    def weighted_sum(self, scalars: bytes, elements: bytes) -> bytes:
        """Return the sum of ``scalar_i * element_i``; see the port.

        Cost: a multiplication and an addition (about a quarter of one) for each element; libsodium exports no
        multi-scalar multiplication.
        """
        count = len(scalars) // SCALAR_BYTES
        if count == 0:
            raise FormatError("the sum of no elements is not asked for")
        products = np.frombuffer(bytearray(self.scalar_mul_each(scalars, elements)), np.uint8)
        at = _addresses(products.ctypes.data, count)

        def fold(start: int) -> bool:
            head, *rest = at[start : start + _CHUNK]
            return not any(map(self._c.add, repeat(head), repeat(head), rest))

        self._run(fold, range(0, count, _CHUNK))
        any(map(self._c.add, repeat(at[0]), repeat(at[0]), at[_CHUNK::_CHUNK]))
        return products[:ELEMENT_BYTES].tobytes()

    def add(self, a: bytes, b: bytes) -> bytes:
        """Return ``a_i + b_i``; see the port."""
        return self._element_pairs(self._c.add, a, b)

    def sub(self, a: bytes, b: bytes) -> bytes:
        """Return ``a_i - b_i``; see the port."""
        return self._element_pairs(self._c.sub, a, b)

    def check_elements(self, elements: bytes) -> None:
        """Raise ``InvalidElementError`` unless every element is canonical and none is the identity."""
        count = _require_canonical(elements)
        if count == 0:
            return
        at = _addresses(_column(elements, ELEMENT_BYTES).address, count)

        def check(start: int) -> bool:
            return all(map(self._c.is_valid, at[start : start + _CHUNK]))

        if not self._run(check, range(0, count, _CHUNK)):
            raise InvalidElementError

    def check_scalars(self, scalars: bytes) -> None:
        """Raise ``FormatError`` unless every scalar is below the group order and none is zero."""
        _require_scalars(scalars)

    def scalar_reduce(self, wide: bytes) -> Scalars:
        """Reduce ``n`` integers of 64 bytes modulo the group order; see the port."""
        count = _count(wide, UNIFORM_BYTES, FormatError)
        return self._scalars(self._c.scalar_reduce, count, _column(wide, UNIFORM_BYTES))

    def scalar_invert(self, scalars: bytes) -> Scalars:
        """Return the inverse of each scalar; see the port.

        Cost: one inversion (about 35 us) and three products an element (about 1 us in all), by Montgomery's
        simultaneous inversion; one zero would make every result zero, which is why zeros are refused.
        """
        count = _require_scalars(scalars)
        if count == 0:
            return Scalars(b"")
        # prefix_i = s_0 ... s_i, suffix_i = 1 / prefix_i; so 1 / s_i = suffix_i * prefix_(i-1).
        prefix = np.frombuffer(bytearray(scalars), np.uint8)
        suffix = np.zeros(count * SCALAR_BYTES, np.uint8)
        s = _addresses(_column(scalars, SCALAR_BYTES).address, count)
        p, q = _addresses(prefix.ctypes.data, count), _addresses(suffix.ctypes.data, count)
        any(map(self._c.scalar_mul, p[1:], p[:-1], s[1:]))
        self._c.scalar_invert(q[-1], p[-1])
        any(map(self._c.scalar_mul, q[-2::-1], q[:0:-1], s[:0:-1]))
        any(map(self._c.scalar_mul, q[1:], q[1:], p[:-1]))
        result = Scalars(suffix.tobytes())
        prefix.fill(0)
        suffix.fill(0)
        return result

    def scalar_product(self, a: bytes, b: bytes) -> Scalars:
        """Return ``a_i * b_i`` modulo the group order; see the port."""
        return self._scalar_pairs(self._c.scalar_mul, a, b)

    def scalar_difference(self, a: bytes, b: bytes) -> Scalars:
        """Return ``a_i - b_i`` modulo the group order; see the port."""
        return self._scalar_pairs(self._c.scalar_sub, a, b)

    def _element_pairs(self, function: _Function, a: bytes, b: bytes) -> bytes:
        count = _require_canonical(a, identity_allowed=True)
        _require_equal(count, _require_canonical(b, identity_allowed=True))
        return self._each(function, count, _column(a, ELEMENT_BYTES), _column(b, ELEMENT_BYTES))

    def _scalar_pairs(self, function: _Function, a: bytes, b: bytes) -> Scalars:
        count = _require_scalars(a, zero_allowed=True)
        _require_equal(count, _require_scalars(b, zero_allowed=True))
        return self._scalars(function, count, _column(a, SCALAR_BYTES), _column(b, SCALAR_BYTES))

    def _scalars(self, function: _Function, count: int, *operands: _Column) -> Scalars:
        # Under a microsecond each: a second thread would cost more than it saves.
        out = np.zeros(count * SCALAR_BYTES, np.uint8)
        result = _Column(out.ctypes.data, SCALAR_BYTES, out)
        if count:
            any(map(function, *(column.addresses(0, count) for column in (result, *operands))))
        packed = Scalars(out.tobytes())
        out.fill(0)
        return packed

    def _each(self, function: _Function, count: int, *operands: _Column) -> bytes:
        """Call ``function(out_i, operand_i, ...)`` for each ``i``; a non-zero answer refuses the batch."""
        if count == 0:
            return b""
        out = np.zeros(count * ELEMENT_BYTES, np.uint8)
        columns = (_Column(out.ctypes.data, ELEMENT_BYTES, out), *operands)

        def call(start: int) -> bool:
            stop = min(start + _CHUNK, count)
            # map() over ranges of addresses keeps the loop in C: about 0.4 us an element instead of 1.5.
            return not any(map(function, *(column.addresses(start, stop) for column in columns)))

        try:
            if not self._run(call, range(0, count, _CHUNK)):
                raise InvalidElementError
            return out.tobytes()
        finally:
            out.fill(0)

    def _run(self, task: Callable[[int], bool], starts: range) -> bool:
        if self._threads == 1 or len(starts) == 1:
            return all(map(task, starts))
        # All tasks end before this returns, also after a failure: they write into the caller's buffer.
        return all(list(self._executor().map(task, starts)))

    def _executor(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            # The threads of a pool do not survive fork; the child makes its own.
            if self._pool is None or self._pool_pid != os.getpid():
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="oprf-group")
                self._pool_pid = os.getpid()
            return self._pool


@cache
def default_group() -> BatchGroup:
    """Return the process's group: libsodium, on the CPUs that the process may use.

    Raises:
        ConfigError: libsodium cannot be loaded.

    Cost: the first call loads libsodium (about 0.1 s).
    """
    return SodiumGroup()


def backend_name() -> str:
    """Return the name and version of the default group's implementation."""
    return default_group().name


_Function = Callable[..., int | None]


class _Column(NamedTuple):
    """Where operand ``i`` of a batch lies: ``address + i * stride``; ``owner`` keeps the memory alive."""

    address: int
    stride: int
    owner: Any

    def addresses(self, start: int, stop: int) -> range | repeat[int]:
        if self.stride == 0:
            return repeat(self.address)
        return range(self.address + start * self.stride, self.address + stop * self.stride, self.stride)


def _column(packed: bytes, stride: int) -> _Column:
    if not packed:
        return _Column(0, stride, packed)
    view = np.frombuffer(packed, np.uint8)
    return _Column(view.ctypes.data, stride, view)


def _addresses(base: int, count: int) -> range:
    return range(base, base + count * ELEMENT_BYTES, ELEMENT_BYTES)


def _constant(value: bytes) -> _Column:
    return _column(value, 0)


def _words(packed: bytes, size_bytes: int) -> npt.NDArray[np.uint64]:
    return np.frombuffer(packed, "<u8").reshape(-1, size_bytes // 8)


def _below(words: npt.NDArray[np.uint64], bound: int) -> bool:
    """Tell whether every row, a little-endian integer of four words, is below ``bound``; without branching."""
    limbs = [np.uint64(bound >> shift & 2**64 - 1) for shift in (0, 64, 128, 192)]
    below = words[:, 0] < limbs[0]
    for column in (1, 2, 3):
        below = (words[:, column] < limbs[column]) | ((words[:, column] == limbs[column]) & below)
    return bool(below.all())


def _count(packed: bytes, size_bytes: int, error: type[FormatError | InvalidElementError]) -> int:
    count, rest = divmod(len(packed), size_bytes)
    if rest:
        raise error(f"a packed buffer is not a multiple of {size_bytes} bytes")
    return count


def _require_equal(a: int, b: int) -> None:
    if a != b:
        raise FormatError("two operands of one batch differ in length")


def _require_scalars(scalars: bytes, *, zero_allowed: bool = False) -> int:
    count = _count(scalars, SCALAR_BYTES, FormatError)
    if count:
        words = _words(scalars, SCALAR_BYTES)
        if not _below(words, GROUP_ORDER) or not (zero_allowed or bool(words.any(axis=1).all())):
            raise FormatError("a scalar is zero or not below the group order")
    return count


def _require_canonical(elements: bytes, *, identity_allowed: bool = False) -> int:
    """Check what libsodium does not (see the module's docstring); it decodes, and refuses the rest, itself."""
    count = _count(elements, ELEMENT_BYTES, InvalidElementError)
    if count:
        words = _words(elements, ELEMENT_BYTES)
        non_negative = not bool((words[:, 0] & np.uint64(1)).any())
        identity_absent = identity_allowed or bool(words.any(axis=1).all())
        if not (_below(words, FIELD_PRIME) and non_negative and identity_absent):
            raise InvalidElementError
    return count


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Sodium(NamedTuple):
    """The C functions, as prototypes of our own: those that ``rbcl`` holds keep their argument types."""

    name: str
    from_hash: _Function
    mul: _Function
    base_mul: _Function
    add: _Function
    sub: _Function
    is_valid: _Function
    scalar_reduce: _Function
    scalar_invert: _Function
    scalar_mul: _Function
    scalar_sub: _Function


_load_lock = threading.Lock()


@cache
def _load_sodium() -> _Sodium:
    library = _open_library()

    def bind(symbol: str, arguments: int, result: type[ctypes.c_int] | None = ctypes.c_int) -> _Function:
        # CFUNCTYPE releases the interpreter's lock during the call, which is what threads live on.
        bound: _Function = ctypes.CFUNCTYPE(result, *[ctypes.c_void_p] * arguments)((symbol, library))
        return bound

    if bind("sodium_init", 0)() not in {0, 1}:
        raise ConfigError("libsodium could not be initialised")
    sodium_version = ctypes.CFUNCTYPE(ctypes.c_char_p)(("sodium_version_string", library))().decode("ascii")
    return _Sodium(
        name=f"libsodium {sodium_version} (rbcl {version('rbcl')})",
        from_hash=bind("crypto_core_ristretto255_from_hash", 2),
        mul=bind("crypto_scalarmult_ristretto255", 3),
        base_mul=bind("crypto_scalarmult_ristretto255_base", 2),
        add=bind("crypto_core_ristretto255_add", 3),
        sub=bind("crypto_core_ristretto255_sub", 3),
        is_valid=bind("crypto_core_ristretto255_is_valid_point", 1),
        scalar_reduce=bind("crypto_core_ristretto255_scalar_reduce", 2, None),
        scalar_invert=bind("crypto_core_ristretto255_scalar_invert", 2),
        scalar_mul=bind("crypto_core_ristretto255_scalar_mul", 3, None),
        scalar_sub=bind("crypto_core_ristretto255_scalar_sub", 3, None),
    )


def _open_library() -> Any:  # noqa: ANN401 - rbcl ships no types
    """Import ``rbcl``, which writes its library to a temporary file, and remove that file.

    The file lies in a directory that only this user may enter, so that nobody can exchange it between its
    writing and its loading.
    """
    unusable = "libsodium cannot be loaded: TMPDIR must name a directory that can be written and allows execution"
    with _load_lock:
        try:
            private = tempfile.mkdtemp(prefix="connector-psi-")
        except OSError:
            raise ConfigError(unusable) from None
        before, tempfile.tempdir = tempfile.tempdir, private
        try:
            import rbcl  # noqa: PLC0415 - the import itself writes and loads the library
        except OSError:
            raise ConfigError(unusable) from None
        finally:
            tempfile.tempdir = before
            for leftover in Path(private).glob("*.so"):
                leftover.unlink()
            # Another thread may have made a temporary file here meanwhile: then the directory stays.
            with suppress(OSError):
                Path(private).rmdir()
        # Imported earlier by somebody else, it left its file elsewhere; a mapped library needs no file.
        with suppress(OSError):
            Path(rbcl._sodium._name).unlink(missing_ok=True)  # noqa: SLF001 - rbcl has no public name for it
        return rbcl._sodium  # noqa: SLF001
