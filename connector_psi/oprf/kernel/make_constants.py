"""Makes ``constants.h``: every number of the kernel that is not typed in by hand, from its definition.

    python connector_psi/oprf/kernel/make_constants.py > connector_psi/oprf/kernel/constants.h

A test runs it and compares. Sources: RFC 9496 section 4.1 (field constants), RFC 8032 section 5.1 (base point, order),
FIPS 180-4 sections 4.2.3 and 5.3.5 (SHA-512).
"""

from __future__ import annotations

import sys
from itertools import count, islice
from math import isqrt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493

RADIX_51: Final = [51 * i for i in range(5)]
RADIX_25: Final = [(51 * i + 1) // 2 for i in range(10)]


def field_constants() -> dict[str, int]:
    """Return the field elements by name, each from 0 to ``P - 1``."""
    d = -121665 * _inverse(121666) % P
    sqrt_m1 = _non_negative(pow(2, (P - 1) // 4, P))
    y = 4 * _inverse(5) % P
    x = _square_root((y * y - 1) * _inverse(d * y * y + 1) % P)
    return {
        "ONE": 1,
        "D": d,
        "TWO_D": 2 * d % P,
        "SQRT_M1": sqrt_m1,
        # RFC 9496 gives this root as the negative one.
        "SQRT_AD_MINUS_ONE": -_square_root((-d - 1) % P) % P,
        "INVSQRT_A_MINUS_D": _square_root(_inverse((-1 - d) % P)),
        "ONE_MINUS_D_SQ": (1 - d * d) % P,
        "D_MINUS_ONE_SQ": (d - 1) ** 2 % P,
        "BASE_X": x,
        "BASE_Y": y,
        "BASE_T": x * y % P,
    }


def scalar_constants() -> dict[str, int]:
    """Return numbers about the group order by name, each below 2^256."""
    return {
        "ORDER": L,
        "ORDER_R2": pow(2, 512, L),
        "ORDER_R": pow(2, 256, L),
        "ORDER_MINUS_2": L - 2,
        "HALF": (L + 1) // 2,
    }


def sha512_constants() -> tuple[list[int], list[int]]:
    """Return the 80 round constants and the 8 words of the initial state."""
    primes = list(islice(_primes(), 80))
    return [_cube_root(p << 192) % 2**64 for p in primes], [isqrt(p << 128) % 2**64 for p in primes[:8]]


def render() -> str:
    """Return the text of ``constants.h``."""
    lines = [
        "/* Made by make_constants.py, which says where each number is from. Do not edit. */",
        "#pragma once",
        "",
        "#include <stdint.h>",
        "",
    ]
    for name, value in field_constants().items():
        lines += _array(f"FE_{name}_51", _limbs(value, RADIX_51))
        lines += _array(f"FE_{name}_25", _limbs(value, RADIX_25))
    for name, value in scalar_constants().items():
        lines += _array(f"SC_{name}", [value >> 64 * i & 2**64 - 1 for i in range(4)])
    lines += [f"#define SC_ORDER_NEGATED_INVERSE {-pow(L, -1, 2**64) % 2**64:#018x}u", ""]
    rounds, initial = sha512_constants()
    lines += _array("SHA512_K", rounds)
    lines += _array("SHA512_INITIAL", initial)
    return "\n".join(lines).rstrip("\n") + "\n"


def _limbs(value: int, places: Sequence[int]) -> list[int]:
    ends = [*places[1:], 255]
    return [value >> place & 2 ** (end - place) - 1 for place, end in zip(places, ends, strict=True)]


def _array(name: str, values: Sequence[int]) -> list[str]:
    rows = [", ".join(f"{value:#018x}u" for value in values[at : at + 5]) for at in range(0, len(values), 5)]
    return [f"static const uint64_t {name}[{len(values)}] = {{", *(f"    {row}," for row in rows), "};", ""]


def _inverse(value: int) -> int:
    return pow(value, -1, P)


def _non_negative(value: int) -> int:
    return value if value % 2 == 0 else P - value


def _square_root(value: int) -> int:
    """Return the non-negative square root; negative means odd (RFC 9496 section 3.1)."""
    root = pow(value, (P + 3) // 8, P)
    if root * root % P != value:
        root = root * pow(2, (P - 1) // 4, P) % P
    assert root * root % P == value
    return _non_negative(root)


def _cube_root(value: int) -> int:
    low, high = 0, 1 << (value.bit_length() // 3 + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= value else (low, middle)
    return low


def _primes() -> Iterator[int]:
    return (n for n in count(2) if all(n % k for k in range(2, isqrt(n) + 1)))


if __name__ == "__main__":
    sys.stdout.write(render())
