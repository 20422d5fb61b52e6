"""Every backend gives what libsodium gives: on edges of the field, of the order and of a lane, and on random inputs.

The default run takes some thousand random inputs; the form marked slow takes a million for each operation and backend. What
libsodium takes wrongly is decided by the reference (``tests/vectors/ristretto.py``).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_psi.errors import InvalidElementError
from connector_psi.oprf import native
from connector_psi.oprf.backends import backend_names, make_group
from connector_psi.oprf.group import FIELD_PRIME, GROUP_ORDER, BatchGroup, SecretScalar
from connector_psi.oprf.sodium import SodiumGroup
from tests.vectors.ristretto import decode

SODIUM: BatchGroup = SodiumGroup()
RANDOM, RANDOM_LONG, PIECE = 2_000, 1_000_000, 10_000

pytestmark = pytest.mark.skipif(not native.KERNELS, reason="the kernel is not built here: libsodium serves alone")


def seeded(label: str, n: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(n)


def little(value: int, size: int = 32) -> bytes:
    return value.to_bytes(size, "little")


def edge_values() -> list[int]:
    """Values below 2^256 where limbs, carries and reductions have their edges."""
    values = {0, 1, 2, 2**256 - 1, 2**256 - 2, GROUP_ORDER, GROUP_ORDER - 1, GROUP_ORDER + 1}
    values |= {FIELD_PRIME + k for k in range(-40, 20)} | {2**255 + k for k in range(-20, 21)} | set(range(40))
    for bit in range(256):
        values |= {2**bit, 2**bit - 1, (2**bit + 1) % 2**256, FIELD_PRIME - 2**bit if bit < 255 else 0}
    for place in (26, 51, 52, 64, 102, 128, 153, 204):
        values |= {(2**place - 1) << shift for shift in range(0, 256 - place, place)}
    values |= {int(digit * 64, 16) for digit in "123456789abcdef"}
    return sorted(values)


def edge_scalars() -> bytes:
    """Scalars from 1 to the order less 1, those of edge values and those near the order's own."""
    near = [GROUP_ORDER - k for k in range(1, 20)] + [(GROUP_ORDER + k) // 2 for k in (-1, 1)]
    values = [value % GROUP_ORDER for value in (*edge_values(), *near)]
    return b"".join(little(value) for value in values if value)


@pytest.fixture(scope="module", params=native.KERNELS)
def kernel(request: pytest.FixtureRequest) -> BatchGroup:
    return make_group(request.param)


@pytest.fixture(scope="module")
def elements() -> bytes:
    """As many elements as edge scalars: multiples of the generator by them."""
    return SODIUM.base_mul_each(edge_scalars())


def taken(group: BatchGroup, encoding: bytes) -> bool:
    try:
        group.check_elements(encoding)
    except InvalidElementError:
        return False
    return True


def test_the_same_encodings_are_taken_at_the_edges(kernel: BatchGroup) -> None:
    encodings = [little(value) for value in edge_values()]
    # Small multiples, their negatives, and all of them with the top bit, which libsodium alone would take.
    multiples = SODIUM.base_mul_each(b"".join(map(little, range(1, 40))))
    encodings += [multiples[at : at + 32] for at in range(0, len(multiples), 32)]
    encodings += [little((FIELD_PRIME - int.from_bytes(each, "little")) % 2**256) for each in encodings]
    encodings += [each[:31] + bytes([each[31] | 0x80]) for each in encodings]
    verdicts = [decode(each) is not None and any(each) for each in encodings]
    assert [taken(kernel, each) for each in encodings] == verdicts
    assert [taken(SODIUM, each) for each in encodings] == verdicts
    assert 100 < sum(verdicts) < len(verdicts) - 500


def test_multiplication_at_the_edges(kernel: BatchGroup, elements: bytes) -> None:
    scalars = edge_scalars()
    assert kernel.base_mul_each(scalars) == elements
    backwards = b"".join(scalars[at : at + 32] for at in range(len(scalars) - 32, -1, -32))
    assert kernel.scalar_mul_each(backwards, elements) == SODIUM.scalar_mul_each(backwards, elements)
    for value in (1, 2, 8, GROUP_ORDER - 1, GROUP_ORDER // 2, int("8" * 63, 16) % GROUP_ORDER):
        key = SecretScalar(little(value))
        assert kernel.scalar_mul(key, elements[: 32 * 40]) == SODIUM.scalar_mul(key, elements[: 32 * 40])


def test_sums_at_the_edges(kernel: BatchGroup, elements: bytes) -> None:
    """Equal points, opposite points and the identity are no exceptions of the formulas."""
    zeros = bytes(len(elements))
    opposite = SODIUM.sub(zeros, elements)
    shifted = elements[32:] + elements[:32]
    for other in (elements, opposite, shifted, zeros):
        assert kernel.add(elements, other) == SODIUM.add(elements, other)
        assert kernel.sub(elements, other) == SODIUM.sub(elements, other)
        assert kernel.add(zeros, other) == other


@pytest.mark.parametrize("n", [1, 2, 3, 9, 33, 257, 500])
def test_weighted_sums_at_the_edges(kernel: BatchGroup, elements: bytes, n: int) -> None:
    scalars = edge_scalars()[: 32 * n]
    n = len(scalars) // 32
    assert kernel.weighted_sum(scalars, elements[: 32 * n]) == SODIUM.weighted_sum(scalars, elements[: 32 * n])
    # The same element everywhere fills few buckets; weights that cancel give the identity.
    same = elements[-32:] * n
    assert kernel.weighted_sum(scalars, same) == SODIUM.weighted_sum(scalars, same)
    cancelling = scalars + SODIUM.scalar_difference(bytes(32 * n), scalars)
    assert kernel.weighted_sum(cancelling, same + same) == bytes(32)


def test_hashing_to_the_group_at_the_edges(kernel: BatchGroup) -> None:
    values = edge_values()
    halves = [little(value) for value in values]
    uniform = b"".join(a + b for a, b in zip(halves, halves[7:] + halves[:7], strict=True))
    assert kernel.hash_to_group(uniform) == SODIUM.hash_to_group(uniform)


def test_scalars_at_the_edges(kernel: BatchGroup) -> None:
    scalars = edge_scalars()
    shifted = scalars[32:] + scalars[:32]
    wide = b"".join(little(a << 256 | b, 64) for a, b in zip(edge_values(), edge_values()[::-1], strict=True))
    wide += b"".join(little(GROUP_ORDER * k + d, 64) for k in (1, 2**200, 2**259) for d in (-1, 0, 1))
    assert kernel.scalar_reduce(wide) == SODIUM.scalar_reduce(wide)
    assert kernel.scalar_invert(scalars) == SODIUM.scalar_invert(scalars)
    assert kernel.scalar_product(scalars, shifted) == SODIUM.scalar_product(scalars, shifted)
    assert kernel.scalar_difference(scalars, shifted) == SODIUM.scalar_difference(scalars, shifted)


def pieces(count: int) -> Iterator[tuple[str, int]]:
    for start in range(0, count, PIECE):
        yield f"random {start}", min(PIECE, count - start)


def compare_random(kernels: list[BatchGroup], label: str, n: int) -> None:
    """Compare every operation on ``n`` inputs; what libsodium gives is computed once for all."""
    uniform, wide, other = (seeded(f"{label} {part}", 64 * n) for part in ("uniform", "wide", "other"))
    elements, scalars, factors = SODIUM.hash_to_group(uniform), SODIUM.scalar_reduce(wide), SODIUM.scalar_reduce(other)
    key = SecretScalar(scalars[:32])
    products = SODIUM.scalar_mul_each(factors, elements)
    inputs = [uniform[at : at + 1 + uniform[at] % 64] for at in range(0, len(uniform), 64)]
    expected = {
        "hash_to_group": elements,
        "scalar_reduce": scalars,
        "scalar_mul_each": products,
        "scalar_mul": SODIUM.scalar_mul(key, elements),
        "base_mul_each": SODIUM.base_mul_each(scalars),
        "add": SODIUM.add(elements, products),
        "sub": SODIUM.sub(elements, products),
        "scalar_invert": SODIUM.scalar_invert(factors),
        "scalar_product": SODIUM.scalar_product(scalars, factors),
        "scalar_difference": SODIUM.scalar_difference(scalars, factors),
        "evaluate_tokens": SODIUM.evaluate_tokens(key, inputs, b"test", b"label"),
    }
    for kernel in kernels:
        kernel.check_elements(elements)
        for name, computed in (
            ("hash_to_group", kernel.hash_to_group(uniform)),
            ("scalar_reduce", kernel.scalar_reduce(wide)),
            ("scalar_mul_each", kernel.scalar_mul_each(factors, elements)),
            ("scalar_mul", kernel.scalar_mul(key, elements)),
            ("base_mul_each", kernel.base_mul_each(scalars)),
            ("add", kernel.add(elements, products)),
            ("sub", kernel.sub(elements, products)),
            ("scalar_invert", kernel.scalar_invert(factors)),
            ("scalar_product", kernel.scalar_product(scalars, factors)),
            ("scalar_difference", kernel.scalar_difference(scalars, factors)),
            ("evaluate_tokens", kernel.evaluate_tokens(key, inputs, b"test", b"label")),
        ):
            assert computed == expected[name], (kernel.name, name, label)


def test_random_inputs() -> None:
    compare_random([make_group(name) for name in native.KERNELS], "default run", RANDOM)


@pytest.mark.slow
def test_a_million_random_inputs() -> None:
    kernels = [make_group(name) for name in native.KERNELS]
    for label, n in pieces(RANDOM_LONG):
        compare_random(kernels, label, n)
        print(f"{label}: {n} inputs agree on {', '.join(kernel.name for kernel in kernels)}", flush=True)


@pytest.mark.slow
def test_random_encodings_are_taken_or_refused_alike() -> None:
    groups = [make_group(name) for name in backend_names()]
    for i in range(100_000):
        encoding = bytearray(seeded(f"encoding {i}", 32))
        encoding[0] &= 0xFE
        encoding[31] &= 0x7F
        verdict = decode(bytes(encoding)) is not None
        assert all(taken(group, bytes(encoding)) == verdict for group in groups)


class TestModule:
    """The extension module checks sizes itself, whoever calls it."""

    def test_what_does_not_fit(self) -> None:
        from connector_psi.oprf import _kernel

        out, two, one = bytearray(64), bytes(64), bytes(32)
        for call in (
            lambda: _kernel.hash_to_group(0, bytearray(32), two + one),
            lambda: _kernel.hash_to_group(9, bytearray(32), two),
            lambda: _kernel.hash_to_group(-1, bytearray(32), two),
            lambda: _kernel.hash_to_group(0, bytearray(33), two),
            lambda: _kernel.multiply(0, out, two + one, two),
            lambda: _kernel.multiply(0, out, two, one),
            lambda: _kernel.multiply_base(0, out, one),
            lambda: _kernel.add(0, out, two, one, False),
            lambda: _kernel.add(0, out, one, two, False),
            lambda: _kernel.check(0, bytes(33)),
            lambda: _kernel.weighted_sum(0, bytearray(32), b"", b""),
            lambda: _kernel.weighted_sum(0, bytearray(31), one, one),
            lambda: _kernel.sha512(0, out, b"", two, 0, b""),
            lambda: _kernel.sha512(0, out, b"", two, -1, b""),
            lambda: _kernel.sha512(0, out, b"", two, 63, b""),
            lambda: _kernel.blind(0, bytearray(32), one, (b"x",), 0, 2, b"t\x01"),
            lambda: _kernel.blind(0, bytearray(32), one, (b"x",), -1, 0, b"t\x01"),
            lambda: _kernel.blind(0, bytearray(32), one, (b"x",), 1, 0, b"t\x01"),
            lambda: _kernel.blind(0, bytearray(32), one, [b"x"], 0, 1, b"t\x01"),  # type: ignore[arg-type]
            lambda: _kernel.blind(0, bytearray(32), one, (bytes(65536),), 0, 1, b"t\x01"),
            lambda: _kernel.blind(0, bytearray(32), one, (b"x",), 0, 1, bytes(257)),
            lambda: _kernel.evaluate_tokens(0, out, bytearray(0), one, (b"x",), 0, 1, b"", b""),
            lambda: _kernel.finalize(0, out, one, two, (b"x",), 0, 1),
            lambda: _kernel.evaluate_tokens(0, out, bytearray(32), one, (b"x",), 0, 1, b"t\x01", b""),
            lambda: _kernel.evaluate_tokens(0, out, bytearray(0), two, (b"x",), 0, 1, b"t\x01", b""),
            lambda: _kernel.scalars_valid(bytes(33), False),
            lambda: _kernel.scalars_reduce(out, two),
            lambda: _kernel.scalars_invert(out, one),
            lambda: _kernel.scalars_product(out, two, one),
        ):
            with pytest.raises(ValueError):
                call()

    def test_inputs_are_bytes(self) -> None:
        from connector_psi.oprf import _kernel

        with pytest.raises(TypeError):
            _kernel.blind(0, bytearray(32), bytes(32), ("text",), 0, 1, b"t\x01")  # type: ignore[arg-type]


def test_the_constants_are_those_that_the_script_makes() -> None:
    folder = Path(native.__file__).parent / "kernel"
    made = subprocess.run([sys.executable, folder / "make_constants.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (folder / "constants.h").read_text(encoding="utf-8")
