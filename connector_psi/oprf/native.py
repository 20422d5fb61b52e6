"""``BatchGroup`` over the kernel: an extension module in C that works on four or eight elements at once.

Decides: how a batch is cut among threads, and which of the kernel's backends is meant. Leaves to others: the arithmetic
(``kernel/``, documented in docs/kernel.md), what the port promises (``group``), which backend serves (``backends``).

The module is built where there is a C compiler for it, and is missing otherwise.

Not achieved, as with libsodium: Python cannot erase a ``bytes`` object. The kernel wipes its own memory and the stack
that it used; scalars, blinds and results live in immutable objects until the allocator reuses their memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from connector_psi.errors import ConfigError, FormatError, InvalidElementError
from connector_psi.oprf.group import (
    ELEMENT_BYTES,
    SCALAR_BYTES,
    UNIFORM_BYTES,
    Scalars,
    SecretScalar,
    Workers,
    packed_count,
    require_equal,
    require_rows,
)
from connector_psi.oprf.hashing import OUTPUT_BYTES, dst_prime

try:
    from connector_psi.oprf import _kernel
except ImportError:
    KERNELS: tuple[str, ...] = ()
else:
    KERNELS = _kernel.backends()
"""Backends of the kernel that this processor runs, the fastest first; none where the module was not built."""

# Elements that one task takes: whole chunks of the kernel, within which an inversion is shared.
_CHUNK: Final = 256
# Hashes that one task takes: a tenth of a microsecond each.
_CHUNK_HASHES: Final = 4096
# A part of a sum pays for doublings and buckets of its own, some hundred elements' worth.
_LEAST_SUM: Final = 512


class KernelGroup:
    """``BatchGroup`` over a backend of the kernel.

    The promise is that of the port. A batch of more than 256 elements is shared among threads.

    Args:
        kernel: One of ``KERNELS``.
        threads: Threads to use, at least 1; by default the CPUs that this process may run on.

    Raises:
        ConfigError: There is no such backend here, ``threads`` is below 1, or the kernel miscalculates a published
            value.

    Cost: docs/kernel.md; a PRF of a token takes a tenth of libsodium's time with AVX-512 IFMA.
    """

    def __init__(self, kernel: str, threads: int | None = None) -> None:
        if kernel not in KERNELS:
            raise ConfigError(f"no PRF kernel of that name runs here; there are: {', '.join(KERNELS) or 'none'}")
        self._kernel = KERNELS.index(kernel)
        self._name = f"kernel {kernel}"
        self._workers = Workers(threads)
        self._check_published_value()

    @property
    def name(self) -> str:
        """Name of the backend, such as ``kernel avx512ifma``."""
        return self._name

    def hash_to_group(self, uniform: bytes) -> bytes:
        """Map ``n * 64`` uniform bytes to ``n`` elements; see the port."""
        count = packed_count(uniform, UNIFORM_BYTES, FormatError)
        source = memoryview(uniform)
        return self._each(
            count,
            ELEMENT_BYTES,
            lambda out, start, stop: _kernel.hash_to_group(self._kernel, out, source[64 * start : 64 * stop]),
        )

    def scalar_mul(self, scalar: SecretScalar, elements: bytes) -> bytes:
        """Multiply each of ``n`` elements by one scalar; see the port."""
        count = packed_count(elements, ELEMENT_BYTES, InvalidElementError)
        key, own = scalar.reveal(), memoryview(elements)
        return self._each(
            count,
            ELEMENT_BYTES,
            lambda out, start, stop: _kernel.multiply(self._kernel, out, key, own[32 * start : 32 * stop]),
        )

    def scalar_mul_each(self, scalars: bytes, elements: bytes) -> bytes:
        """Multiply element ``i`` by scalar ``i``; see the port."""
        count = self._require_scalars(scalars)
        require_equal(count, packed_count(elements, ELEMENT_BYTES, InvalidElementError))
        factors, own = memoryview(scalars), memoryview(elements)
        return self._each(
            count,
            ELEMENT_BYTES,
            lambda out, start, stop: _kernel.multiply(
                self._kernel, out, factors[32 * start : 32 * stop], own[32 * start : 32 * stop]
            ),
        )

    def base_mul_each(self, scalars: bytes) -> bytes:
        """Multiply the generator by each of ``n`` scalars; see the port."""
        count, factors = self._require_scalars(scalars), memoryview(scalars)
        return self._each(
            count,
            ELEMENT_BYTES,
            lambda out, start, stop: _kernel.multiply_base(self._kernel, out, factors[32 * start : 32 * stop]),
        )

    def weighted_sum(self, scalars: bytes, elements: bytes) -> bytes:
        """Return the sum of ``scalar_i * element_i``; see the port.

        Cost: a few additions an element (Pippenger's buckets), and some 40 us.
        """
        count = self._require_scalars(scalars)
        if count == 0:
            raise FormatError("the sum of no elements is not asked for")
        require_equal(count, packed_count(elements, ELEMENT_BYTES, InvalidElementError))
        parts = max(1, min(self._workers.threads, count // _LEAST_SUM))
        step = -(-count // parts)
        sums = memoryview(bytearray(parts * ELEMENT_BYTES))
        factors, own = memoryview(scalars), memoryview(elements)

        def add_up(start: int) -> bool:
            at, stop = start // step, start + step
            out = sums[32 * at : 32 * at + 32]
            return _kernel.weighted_sum(self._kernel, out, factors[32 * start : 32 * stop], own[32 * start : 32 * stop])

        if not self._workers.all(add_up, range(0, count, step)):
            raise InvalidElementError
        total = bytes(sums[:ELEMENT_BYTES])
        for at in range(1, parts):
            total = self.add(total, bytes(sums[32 * at : 32 * at + 32]))
        return total

    def add(self, a: bytes, b: bytes) -> bytes:
        """Return ``a_i + b_i``; see the port."""
        return self._element_pairs(a, b, subtract=False)

    def sub(self, a: bytes, b: bytes) -> bytes:
        """Return ``a_i - b_i``; see the port."""
        return self._element_pairs(a, b, subtract=True)

    def check_elements(self, elements: bytes) -> None:
        """Raise ``InvalidElementError`` unless every element is canonical and none is the identity."""
        own = memoryview(elements)
        count = packed_count(elements, ELEMENT_BYTES, InvalidElementError)

        def check(start: int) -> bool:
            return _kernel.check(self._kernel, own[32 * start : 32 * (start + _CHUNK)])

        if not self._workers.all(check, range(0, count, _CHUNK)):
            raise InvalidElementError

    def check_scalars(self, scalars: bytes) -> None:
        """Raise ``FormatError`` unless every scalar is below the group order and none is zero."""
        self._require_scalars(scalars)

    def scalar_reduce(self, wide: bytes) -> Scalars:
        """Reduce ``n`` integers of 64 bytes modulo the group order; see the port."""
        count = packed_count(wide, UNIFORM_BYTES, FormatError)
        return self._scalars(count, lambda out: _kernel.scalars_reduce(out, wide))

    def scalar_invert(self, scalars: bytes) -> Scalars:
        """Return the inverse of each scalar; see the port.

        Cost: one inversion, and three products an element.
        """
        return self._scalars(self._require_scalars(scalars), lambda out: _kernel.scalars_invert(out, scalars))

    def scalar_product(self, a: bytes, b: bytes) -> Scalars:
        """Return ``a_i * b_i`` modulo the group order; see the port."""
        return self._scalars(self._scalar_pairs(a, b), lambda out: _kernel.scalars_product(out, a, b))

    def scalar_difference(self, a: bytes, b: bytes) -> Scalars:
        """Return ``a_i - b_i`` modulo the group order; see the port."""
        return self._scalars(self._scalar_pairs(a, b), lambda out: _kernel.scalars_difference(out, a, b))

    def sha512_each(self, prefix: bytes, rows: bytes, size_bytes: int, suffix: bytes) -> bytes:
        """Hash each of ``n`` rows; see the port."""
        count, own = require_rows(rows, size_bytes), memoryview(rows)
        return self._each(
            count,
            OUTPUT_BYTES,
            lambda out, start, stop: _kernel.sha512(
                self._kernel, out, prefix, own[size_bytes * start : size_bytes * stop], size_bytes, suffix
            ),
            _CHUNK_HASHES,
        )

    def blind(self, blinds: bytes, inputs: Sequence[bytes], dst: bytes) -> bytes:
        """Hash each input to the group and multiply it by its blind; see the port."""
        count, factors = self._require_scalars(blinds), memoryview(blinds)
        messages, tag = tuple(inputs), dst_prime(dst)
        require_equal(count, len(messages))
        return self._each(
            count,
            ELEMENT_BYTES,
            lambda out, start, stop: _kernel.blind(
                self._kernel, out, factors[32 * start : 32 * stop], messages, start, stop, tag
            ),
        )

    def finalize(self, blinds: bytes, inputs: Sequence[bytes], elements: bytes) -> bytes:
        """Divide each element by its blind and hash it with its input; see the port."""
        inverses, own, messages = memoryview(self.scalar_invert(blinds)), memoryview(elements), tuple(inputs)
        count = packed_count(elements, ELEMENT_BYTES, InvalidElementError)
        require_equal(count, len(messages))
        require_equal(32 * count, len(inverses))
        return self._each(
            count,
            OUTPUT_BYTES,
            lambda out, start, stop: _kernel.finalize(
                self._kernel,
                out,
                inverses[32 * start : 32 * stop],
                own[32 * start : 32 * stop],
                messages,
                start,
                stop,
            ),
        )

    def evaluate_tokens(
        self, secret: SecretScalar, inputs: Sequence[bytes], dst: bytes, label: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """Compute the outputs of inputs and, with a label, what is derived first of each; see the port."""
        messages, tag, key = tuple(inputs), dst_prime(dst), secret.reveal()
        derived = memoryview(bytearray(0 if label is None else len(messages) * OUTPUT_BYTES))

        def evaluate(out: memoryview, start: int, stop: int) -> bool:
            own = derived[64 * start : 64 * stop]
            return _kernel.evaluate_tokens(self._kernel, out, own, key, messages, start, stop, tag, label or b"")

        return self._each(len(messages), OUTPUT_BYTES, evaluate), bytes(derived)

    def _element_pairs(self, a: bytes, b: bytes, *, subtract: bool) -> bytes:
        count = packed_count(a, ELEMENT_BYTES, InvalidElementError)
        require_equal(count, packed_count(b, ELEMENT_BYTES, InvalidElementError))
        left, right = memoryview(a), memoryview(b)
        return self._each(
            count,
            ELEMENT_BYTES,
            lambda out, start, stop: _kernel.add(
                self._kernel, out, left[32 * start : 32 * stop], right[32 * start : 32 * stop], subtract
            ),
        )

    def _scalar_pairs(self, a: bytes, b: bytes) -> int:
        count = self._require_scalars(a, zero_allowed=True)
        require_equal(count, self._require_scalars(b, zero_allowed=True))
        return count

    @staticmethod
    def _require_scalars(scalars: bytes, *, zero_allowed: bool = False) -> int:
        count = packed_count(scalars, SCALAR_BYTES, FormatError)
        if not _kernel.scalars_valid(scalars, zero_allowed):
            raise FormatError("a scalar is zero or not below the group order")
        return count

    @staticmethod
    def _scalars(count: int, call: Callable[[bytearray], bool]) -> Scalars:
        # A tenth of a microsecond each: a second thread would cost more than it saves.
        out = bytearray(count * SCALAR_BYTES)
        call(out)
        return Scalars(_taken(out))

    def _each(
        self, count: int, size_bytes: int, call: Callable[[memoryview, int, int], bool], chunk: int = _CHUNK
    ) -> bytes:
        """Call ``call(part of the result, start, stop)`` for each chunk; a false answer refuses the batch."""
        result = bytearray(count * size_bytes)
        out = memoryview(result)

        def run(start: int) -> bool:
            stop = min(start + chunk, count)
            return call(out[size_bytes * start : size_bytes * stop], start, stop)

        if not self._workers.all(run, range(0, count, chunk)):
            raise InvalidElementError
        out.release()
        return _taken(result)

    def _check_published_value(self) -> None:
        # RFC 9497 appendix A.1.2, vector 1 of VOPRF: a compiler that miscompiles is found before any key is used.
        secret = SecretScalar(bytes.fromhex("e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909"))
        outputs, _ = self.evaluate_tokens(secret, [b"\x00"], b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512")
        if outputs.hex() != (
            "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7d"
            "a4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c"
        ):
            raise ConfigError("the PRF kernel miscalculates a published value; it is not used")


def _taken(buffer: bytearray) -> bytes:
    """Return the bytes of a buffer, and overwrite it."""
    result = bytes(buffer)
    buffer[:] = bytes(len(buffer))
    return result
