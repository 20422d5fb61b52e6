"""RFC 9496, ristretto255: published values, and the group against an independent reference.

Source: RFC 9496 appendix A, https://www.rfc-editor.org/rfc/rfc9496 (IETF Trust Legal Provisions, test data under the
Revised BSD licence). The values are third-party material outside this repository: 16 multiples of the generator,
29 encodings to refuse, 7 derivations and 4 with one output, 6 square roots. The differential tests need none of it.

The reference below follows section 4 of the RFC line by line with Python integers. It shares no code with
the package, is slow, and is not constant time.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from connector_psi.errors import InvalidElementError
from connector_psi.oprf.group import GROUP_ORDER, SecretScalar, default_group

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]


def is_negative(x: int) -> bool:
    return x % 2 == 1


def absolute(x: int) -> int:
    return P - x if is_negative(x) else x


def sqrt_ratio_m1(u: int, v: int) -> tuple[bool, int]:
    """Section 4.2."""
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    correct, flipped, flipped_i = check == u % P, check == -u % P, check == -u * SQRT_M1 % P
    if flipped or flipped_i:
        r = r * SQRT_M1 % P
    return correct or flipped, absolute(r)


SQRT_AD_MINUS_ONE = P - sqrt_ratio_m1(-D - 1, 1)[1]  # the odd root, as section 4.1 gives it
INVSQRT_A_MINUS_D = sqrt_ratio_m1(1, -1 - D)[1]
ONE_MINUS_D_SQ = (1 - D * D) % P
D_MINUS_ONE_SQ = (D - 1) * (D - 1) % P


def decode(encoding: bytes) -> Point | None:
    """Section 4.3.1; None where decoding fails."""
    s = int.from_bytes(encoding, "little")
    if s >= P or is_negative(s):
        return None
    ss = s * s % P
    u1, u2 = (1 - ss) % P, (1 + ss) % P
    v = (-(D * u1 * u1) - u2 * u2) % P
    was_square, invsqrt = sqrt_ratio_m1(1, v * u2 * u2 % P)
    den_x, den_y = invsqrt * u2 % P, invsqrt * invsqrt * u2 * v % P
    x, y = absolute(2 * s * den_x % P), u1 * den_y % P
    t = x * y % P
    return None if not was_square or is_negative(t) or y == 0 else (x, y, 1, t)


def encode(point: Point) -> bytes:
    """Section 4.3.2."""
    x0, y0, z0, t0 = point
    u1, u2 = (z0 + y0) * (z0 - y0) % P, x0 * y0 % P
    invsqrt = sqrt_ratio_m1(1, u1 * u2 * u2 % P)[1]
    den1, den2 = invsqrt * u1 % P, invsqrt * u2 % P
    z_inv = den1 * den2 * t0 % P
    if is_negative(t0 * z_inv % P):
        x, y, den_inv = y0 * SQRT_M1 % P, x0 * SQRT_M1 % P, den1 * INVSQRT_A_MINUS_D % P
    else:
        x, y, den_inv = x0, y0, den2
    if is_negative(x * z_inv % P):
        y = -y % P
    return absolute(den_inv * (z0 - y) % P).to_bytes(32, "little")


def add(a: Point, b: Point) -> Point:
    """Unified addition on the twisted Edwards curve with a = -1, extended coordinates."""
    aa, bb = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    cc, dd = 2 * a[3] * D * b[3] % P, 2 * a[2] * b[2] % P
    e, f, g, h = bb - aa, dd - cc, dd + cc, bb + aa
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    for bit in f"{scalar:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def one_way_map(uniform: bytes) -> Point:
    """Section 4.3.4."""

    def half(data: bytes) -> Point:
        t = int.from_bytes(data, "little") % 2**255 % P
        r = SQRT_M1 * t * t % P
        u, c = (r + 1) * ONE_MINUS_D_SQ % P, -1
        v = (c - r * D) * (r + D) % P
        was_square, s = sqrt_ratio_m1(u, v)
        if not was_square:
            s, c = -absolute(s * t % P), r
        n = (c * (r - 1) * D_MINUS_ONE_SQ - v) % P
        w0, w1, w2, w3 = 2 * s * v, n * SQRT_AD_MINUS_ONE, 1 - s * s, 1 + s * s
        return w0 * w3 % P, w2 * w1 % P, w1 * w3 % P, w0 * w2 % P

    return add(half(uniform[:32]), half(uniform[32:]))


def scalar(value: int) -> bytes:
    return (value % GROUP_ORDER).to_bytes(32, "little")


def seeded(label: str, n: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(n)


GENERATOR = default_group().base_mul_each(scalar(1))


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "reference/rfc9497/ristretto255_rfc9496.json").read_text())
    return loaded


def test_multiples_of_the_generator(vectors: dict[str, Any]) -> None:
    multiples = [bytes.fromhex(value) for value in vectors["multiples_of_generator"]]
    assert len(multiples) == 16
    group = default_group()
    assert group.base_mul_each(b"".join(scalar(i) for i in range(1, 16))) == b"".join(multiples[1:])
    assert group.add(b"".join(multiples[:-1]), multiples[1] * 15) == b"".join(multiples[1:])
    assert group.sub(b"".join(multiples[1:]), multiples[1] * 15) == b"".join(multiples[:-1])
    for i, multiple in enumerate(multiples[1:], start=1):
        assert group.scalar_mul(SecretScalar(scalar(i)), multiples[1]) == multiple
        assert encode(multiply(i, decode(GENERATOR) or (0, 0, 0, 0))) == multiple
    with pytest.raises(InvalidElementError):
        group.check_elements(multiples[0])


def test_invalid_encodings_are_refused_by_every_operation(vectors: dict[str, Any]) -> None:
    encodings = [bytes.fromhex(entry["encoding"]) for entry in vectors["invalid_encodings"]]
    assert len(encodings) == 29
    group = default_group()
    one = SecretScalar(scalar(1))
    refused = 0
    for encoding in encodings:
        assert decode(encoding) is None
        for call in (
            group.check_elements,
            lambda e: group.scalar_mul(one, e),
            lambda e: group.scalar_mul_each(scalar(1), e),
            lambda e: group.weighted_sum(scalar(1), e),
            lambda e: group.add(e, GENERATOR),
            lambda e: group.add(GENERATOR, e),
            lambda e: group.sub(e, GENERATOR),
            lambda e: group.sub(GENERATOR, e),
        ):
            with pytest.raises(InvalidElementError):
                call(encoding)
            refused += 1
    assert refused == 29 * 8


def test_element_derivation(vectors: dict[str, Any]) -> None:
    derivations = [(entry["input"], entry["output"]) for entry in vectors["element_derivation"]]
    same = vectors["element_derivation_same_output"]
    derivations += [(value, same["output"]) for value in same["inputs"]]
    assert len(derivations) == 7 + 4
    uniform = b"".join(bytes.fromhex(value) for value, _ in derivations)
    expected = b"".join(bytes.fromhex(output) for _, output in derivations)
    assert default_group().hash_to_group(uniform) == expected
    assert b"".join(encode(one_way_map(uniform[at : at + 64])) for at in range(0, len(uniform), 64)) == expected


def test_square_roots_of_the_reference(vectors: dict[str, Any]) -> None:
    assert len(vectors["sqrt_ratio_m1"]) == 6
    for entry in vectors["sqrt_ratio_m1"]:
        u, v, r = (int.from_bytes(bytes.fromhex(entry[name]), "little") for name in ("u", "v", "r"))
        assert sqrt_ratio_m1(u, v) == (entry["was_square"], r)


def test_the_map_agrees_with_the_reference() -> None:
    # All four corners of the top bits, then seeded values.
    uniform = b"".join((bytes(64), b"\xff" * 64, b"\xff" * 32 + bytes(32), bytes(32) + b"\xff" * 32)) + seeded(
        "map", 1280
    )
    expected = b"".join(encode(one_way_map(uniform[at : at + 64])) for at in range(0, len(uniform), 64))
    assert default_group().hash_to_group(uniform) == expected


def test_arithmetic_agrees_with_the_reference() -> None:
    group = default_group()
    elements = group.hash_to_group(seeded("elements", 12 * 64))
    scalars = group.scalar_reduce(seeded("scalars", 9 * 64)) + scalar(1) + scalar(2) + scalar(-1)
    points = [decode(elements[at : at + 32]) for at in range(0, len(elements), 32)]
    values = [int.from_bytes(scalars[at : at + 32], "little") for at in range(0, len(scalars), 32)]
    products = [multiply(value, point) for value, point in zip(values, points, strict=True) if point is not None]
    assert len(products) == 12
    assert group.scalar_mul_each(scalars, elements) == b"".join(map(encode, products))
    total = products[0]
    for product in products[1:]:
        total = add(total, product)
    assert group.weighted_sum(scalars, elements) == encode(total)


def test_decoding_agrees_with_the_reference() -> None:
    """Half of the even values below p are no encodings: both must refuse the same half."""
    group = default_group()
    verdicts = []
    for i in range(200):
        encoding = bytearray(seeded(f"encoding {i}", 32))
        encoding[0] &= 0xFE
        encoding[31] &= 0x7F
        try:
            group.check_elements(bytes(encoding))
        except InvalidElementError:
            verdicts.append(False)
        else:
            verdicts.append(True)
        assert verdicts[-1] == (decode(bytes(encoding)) is not None)
    assert 20 < sum(verdicts) < 180


def test_values_around_the_prime_are_refused() -> None:
    group = default_group()
    for value in (P - 1, P, P + 1, P + 2, 2**255 - 1, 2**255, 2**255 + 2, 2**256 - 1):
        encoding = value.to_bytes(32, "little")
        assert decode(encoding) is None
        with pytest.raises(InvalidElementError):
            group.check_elements(encoding)
    # Second encodings of valid elements: s + p, which fits in 255 bits only for s below 19.
    for s in range(0, 19, 2):
        with pytest.raises(InvalidElementError):
            group.check_elements((s + P).to_bytes(32, "little"))
