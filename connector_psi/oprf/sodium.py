"""``BatchGroup`` over the libsodium that ``rbcl`` bundles: the backend of every machine.

Decides: how a batch reaches libsodium (packed buffers, one C call an element on pointer offsets, chunks shared among
threads). Leaves to others: what the port promises (``group``), the hashes of the suite (``hashing``).

libsodium 1.0.18 does not refuse every encoding that RFC 9496 refuses: it ignores the top bit, so each element would
have a second encoding. The canonical form is checked for the whole batch before libsodium sees a byte.

Not achieved: Python cannot erase a ``bytes`` object. A ``SecretScalar`` is handed to libsodium by address, so no copy
of it is made, and buffers that this module allocates for secret intermediates are overwritten before they are released;
but the scalar itself, the blinds and every result live in immutable objects until the allocator reuses their memory.
"""

from __future__ import annotations

import ctypes
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from connector_psi.errors import ConfigError, FormatError, InvalidElementError
from connector_psi.oprf import hashing
from connector_psi.oprf.group import (
    ELEMENT_BYTES,
    SCALAR_BYTES,
    UNIFORM_BYTES,
    Scalars,
    SecretScalar,
    Workers,
    packed_count,
    require_canonical,
    require_equal,
    require_rows,
    require_scalars,
)

# Elements that one task takes: about 4 ms of libsodium, so that threads finish together, an interrupt is
# noticed soon, and handing out the task (about 20 us) is lost in it.
_CHUNK: Final = 64


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
        self._workers = Workers(threads)
        self._c = _load_sodium()

    @property
    def name(self) -> str:
        """Name and version, such as ``libsodium 1.0.18 (rbcl 1.1.2)``."""
        return self._c.name

    def hash_to_group(self, uniform: bytes) -> bytes:
        """Map ``n * 64`` uniform bytes to ``n`` elements; see the port."""
        count = packed_count(uniform, UNIFORM_BYTES, FormatError)
        return self._each(self._c.from_hash, count, _column(uniform, UNIFORM_BYTES))

    def scalar_mul(self, scalar: SecretScalar, elements: bytes) -> bytes:
        """Multiply each of ``n`` elements by one scalar; see the port."""
        count = require_canonical(elements)
        key = scalar.reveal()
        return self._each(self._c.mul, count, _constant(key), _column(elements, ELEMENT_BYTES))

    def scalar_mul_each(self, scalars: bytes, elements: bytes) -> bytes:
        """Multiply element ``i`` by scalar ``i``; see the port."""
        count = require_scalars(scalars)
        require_equal(count, require_canonical(elements))
        return self._each(self._c.mul, count, _column(scalars, SCALAR_BYTES), _column(elements, ELEMENT_BYTES))

    def base_mul_each(self, scalars: bytes) -> bytes:
        """Multiply the generator by each of ``n`` scalars; see the port."""
        count = require_scalars(scalars)
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

        self._workers.all(fold, range(0, count, _CHUNK))
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
        count = require_canonical(elements)
        if count == 0:
            return
        at = _addresses(_column(elements, ELEMENT_BYTES).address, count)

        def check(start: int) -> bool:
            return all(map(self._c.is_valid, at[start : start + _CHUNK]))

        if not self._workers.all(check, range(0, count, _CHUNK)):
            raise InvalidElementError

    def check_scalars(self, scalars: bytes) -> None:
        """Raise ``FormatError`` unless every scalar is below the group order and none is zero."""
        require_scalars(scalars)

    def scalar_reduce(self, wide: bytes) -> Scalars:
        """Reduce ``n`` integers of 64 bytes modulo the group order; see the port."""
        count = packed_count(wide, UNIFORM_BYTES, FormatError)
        return self._scalars(self._c.scalar_reduce, count, _column(wide, UNIFORM_BYTES))

    def scalar_invert(self, scalars: bytes) -> Scalars:
        """Return the inverse of each scalar; see the port.

        Cost: one inversion (about 35 us) and three products an element (about 1 us in all), by Montgomery's
        simultaneous inversion; one zero would make every result zero, which is why zeros are refused.
        """
        count = require_scalars(scalars)
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

    def sha512_each(self, prefix: bytes, rows: bytes, size_bytes: int, suffix: bytes) -> bytes:
        """Hash each of ``n`` rows; see the port."""
        require_rows(rows, size_bytes)
        return hashing.sha512_each(prefix, rows, size_bytes, suffix)

    def blind(self, blinds: bytes, inputs: Sequence[bytes], dst: bytes) -> bytes:
        """Hash each input to the group and multiply it by its blind; see the port."""
        return self.scalar_mul_each(blinds, self.hash_to_group(hashing.expand_each(inputs, dst)))

    def finalize(self, blinds: bytes, inputs: Sequence[bytes], elements: bytes) -> bytes:
        """Divide each element by its blind and hash it with its input; see the port."""
        return hashing.output_each(inputs, self.scalar_mul_each(self.scalar_invert(blinds), elements))

    def evaluate_tokens(
        self, secret: SecretScalar, inputs: Sequence[bytes], dst: bytes, label: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """Compute the outputs of inputs and, with a label, what is derived first of each; see the port."""
        elements = self.scalar_mul(secret, self.hash_to_group(hashing.expand_each(inputs, dst)))
        outputs = hashing.output_each(inputs, elements)
        if label is None:
            return outputs, b""
        return outputs, self.sha512_each(label, outputs, hashing.OUTPUT_BYTES, bytes(4))

    def _element_pairs(self, function: _Function, a: bytes, b: bytes) -> bytes:
        count = require_canonical(a, identity_allowed=True)
        require_equal(count, require_canonical(b, identity_allowed=True))
        return self._each(function, count, _column(a, ELEMENT_BYTES), _column(b, ELEMENT_BYTES))

    def _scalar_pairs(self, function: _Function, a: bytes, b: bytes) -> Scalars:
        count = require_scalars(a, zero_allowed=True)
        require_equal(count, require_scalars(b, zero_allowed=True))
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
            if not self._workers.all(call, range(0, count, _CHUNK)):
                raise InvalidElementError
            return out.tobytes()
        finally:
            out.fill(0)


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
