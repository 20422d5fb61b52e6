"""RFC 9496 section 4 line by line, with Python integers: what every backend of the group is compared with.

It shares no code with the package, is slow, and is not constant time.
"""

from __future__ import annotations

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
