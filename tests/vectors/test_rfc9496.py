"""RFC 9496, ristretto255: published values, and the group against an independent reference.

Source: RFC 9496 appendix A, https://www.rfc-editor.org/rfc/rfc9496 (IETF Trust Legal Provisions, test data under the
Revised BSD licence). The values are third-party material outside this repository: 16 multiples of the generator,
29 encodings to refuse, 7 derivations and 4 with one output, 6 square roots. The differential tests need none of it.

The reference is ``ristretto.py`` beside this file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from connector_psi.errors import InvalidElementError
from connector_psi.oprf.backends import backend_names, default_group, make_group
from connector_psi.oprf.group import GROUP_ORDER, BatchGroup, SecretScalar
from tests.vectors.ristretto import P, add, decode, encode, multiply, one_way_map, sqrt_ratio_m1


def scalar(value: int) -> bytes:
    return (value % GROUP_ORDER).to_bytes(32, "little")


def seeded(label: str, n: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(n)


GENERATOR = default_group().base_mul_each(scalar(1))


@pytest.fixture(scope="module", params=backend_names())
def group(request: pytest.FixtureRequest) -> BatchGroup:
    return make_group(request.param)


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "reference/rfc9497/ristretto255_rfc9496.json").read_text())
    return loaded


def test_multiples_of_the_generator(group: BatchGroup, vectors: dict[str, Any]) -> None:
    multiples = [bytes.fromhex(value) for value in vectors["multiples_of_generator"]]
    assert len(multiples) == 16
    assert group.base_mul_each(b"".join(scalar(i) for i in range(1, 16))) == b"".join(multiples[1:])
    assert group.add(b"".join(multiples[:-1]), multiples[1] * 15) == b"".join(multiples[1:])
    assert group.sub(b"".join(multiples[1:]), multiples[1] * 15) == b"".join(multiples[:-1])
    for i, multiple in enumerate(multiples[1:], start=1):
        assert group.scalar_mul(SecretScalar(scalar(i)), multiples[1]) == multiple
        assert encode(multiply(i, decode(GENERATOR) or (0, 0, 0, 0))) == multiple
    with pytest.raises(InvalidElementError):
        group.check_elements(multiples[0])


def test_invalid_encodings_are_refused_by_every_operation(group: BatchGroup, vectors: dict[str, Any]) -> None:
    encodings = [bytes.fromhex(entry["encoding"]) for entry in vectors["invalid_encodings"]]
    assert len(encodings) == 29
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


def test_element_derivation(group: BatchGroup, vectors: dict[str, Any]) -> None:
    derivations = [(entry["input"], entry["output"]) for entry in vectors["element_derivation"]]
    same = vectors["element_derivation_same_output"]
    derivations += [(value, same["output"]) for value in same["inputs"]]
    assert len(derivations) == 7 + 4
    uniform = b"".join(bytes.fromhex(value) for value, _ in derivations)
    expected = b"".join(bytes.fromhex(output) for _, output in derivations)
    assert group.hash_to_group(uniform) == expected
    assert b"".join(encode(one_way_map(uniform[at : at + 64])) for at in range(0, len(uniform), 64)) == expected


def test_square_roots_of_the_reference(vectors: dict[str, Any]) -> None:
    assert len(vectors["sqrt_ratio_m1"]) == 6
    for entry in vectors["sqrt_ratio_m1"]:
        u, v, r = (int.from_bytes(bytes.fromhex(entry[name]), "little") for name in ("u", "v", "r"))
        assert sqrt_ratio_m1(u, v) == (entry["was_square"], r)


def test_the_map_agrees_with_the_reference(group: BatchGroup) -> None:
    # All four corners of the top bits, then seeded values.
    uniform = b"".join((bytes(64), b"\xff" * 64, b"\xff" * 32 + bytes(32), bytes(32) + b"\xff" * 32)) + seeded(
        "map", 1280
    )
    expected = b"".join(encode(one_way_map(uniform[at : at + 64])) for at in range(0, len(uniform), 64))
    assert group.hash_to_group(uniform) == expected


def test_arithmetic_agrees_with_the_reference(group: BatchGroup) -> None:
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


def test_decoding_agrees_with_the_reference(group: BatchGroup) -> None:
    """Half of the even values below p are no encodings: both must refuse the same half."""
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


def test_values_around_the_prime_are_refused(group: BatchGroup) -> None:
    for value in (P - 1, P, P + 1, P + 2, 2**255 - 1, 2**255, 2**255 + 2, 2**256 - 1):
        encoding = value.to_bytes(32, "little")
        assert decode(encoding) is None
        with pytest.raises(InvalidElementError):
            group.check_elements(encoding)
    # Second encodings of valid elements: s + p, which fits in 255 bits only for s below 19.
    for s in range(0, 19, 2):
        with pytest.raises(InvalidElementError):
            group.check_elements((s + P).to_bytes(32, "little"))
