/* Integers modulo the order l of the group, 2^252 + 27742317777372353535851937790883648493 (RFC 9496 section 4), in four
 * 64-bit words; one at a time, since they cost a hundredth of what an element costs. Nothing branches on a value, or
 * addresses memory by it.
 *
 * Products are Montgomery's ("Modular multiplication without trial division", 1985) with R = 2^256.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "constants.h"

typedef struct { uint64_t w[4]; } scalar;

static inline scalar scalar_load(const uint8_t *bytes)
{
    scalar s;
    memcpy(s.w, bytes, 32);
    return s;
}

static inline void scalar_store(uint8_t *bytes, scalar s) { memcpy(bytes, s.w, 32); }

/* a - b; *borrow is 1 if b is larger, or 0. */
static inline scalar scalar_minus(scalar a, const uint64_t b[4], uint64_t *borrow)
{
    scalar r;
    uint64_t out = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned __int128 t = (unsigned __int128)a.w[i] - b[i] - out;
        r.w[i] = (uint64_t)t;
        out = (uint64_t)(t >> 64) & 1;
    }
    *borrow = out;
    return r;
}

/* a + (b and mask), cut to 256 bits. */
static inline scalar scalar_plus(scalar a, const uint64_t b[4], uint64_t mask)
{
    scalar r;
    unsigned __int128 t = 0;
    for (int i = 0; i < 4; i++) {
        t += (unsigned __int128)a.w[i] + (b[i] & mask);
        r.w[i] = (uint64_t)t;
        t >>= 64;
    }
    return r;
}

/* Of a value below 2l. */
static inline scalar scalar_reduce_once(scalar a)
{
    uint64_t borrow;
    const scalar less = scalar_minus(a, SC_ORDER, &borrow);
    return scalar_plus(less, SC_ORDER, 0 - borrow);
}

/* 1 if the value is below l and, unless zero is allowed, not zero; 0 otherwise. */
static inline uint64_t scalar_valid(scalar a, uint64_t zero_allowed)
{
    uint64_t below;
    (void)scalar_minus(a, SC_ORDER, &below);
    const uint64_t any = a.w[0] | a.w[1] | a.w[2] | a.w[3];
    return below & (((any | (0 - any)) >> 63) | zero_allowed);
}

/* a b / R, below l; a below 2^256, b below l: the sum before the last step is below (2^256 l + 2^256 l) / R = 2l. */
static inline scalar scalar_montgomery(scalar a, scalar b)
{
    uint64_t t[5] = {0};
    for (int i = 0; i < 4; i++) {
        unsigned __int128 c = 0;
        for (int j = 0; j < 4; j++) {
            c += (unsigned __int128)a.w[i] * b.w[j] + t[j];
            t[j] = (uint64_t)c;
            c >>= 64;
        }
        const unsigned __int128 top = c + t[4];
        const uint64_t m = t[0] * SC_ORDER_NEGATED_INVERSE;
        c = (unsigned __int128)m * SC_ORDER[0] + t[0];
        c >>= 64;
        for (int j = 1; j < 4; j++) {
            c += (unsigned __int128)m * SC_ORDER[j] + t[j];
            t[j - 1] = (uint64_t)c;
            c >>= 64;
        }
        c += top;
        t[3] = (uint64_t)c;
        t[4] = (uint64_t)(c >> 64);
    }
    return scalar_reduce_once((scalar){{t[0], t[1], t[2], t[3]}});
}

static inline scalar scalar_constant(const uint64_t w[4]) { return (scalar){{w[0], w[1], w[2], w[3]}}; }

static inline scalar scalar_product(scalar a, scalar b)
{
    return scalar_montgomery(scalar_montgomery(a, b), scalar_constant(SC_ORDER_R2));
}

static inline scalar scalar_difference(scalar a, scalar b)
{
    uint64_t borrow;
    const scalar r = scalar_minus(a, b.w, &borrow);
    return scalar_plus(r, SC_ORDER, 0 - borrow);
}

/* 64 little-endian bytes modulo l: high * 2^256 is high * R2 / R, low is low * R / R. */
static inline scalar scalar_reduce(const uint8_t wide[64])
{
    const scalar low = scalar_montgomery(scalar_load(wide), scalar_constant(SC_ORDER_R));
    const scalar high = scalar_montgomery(scalar_load(wide + 32), scalar_constant(SC_ORDER_R2));
    return scalar_reduce_once(scalar_plus(low, high.w, UINT64_MAX));
}

/* 1/a = a^(l - 2); the exponent is public. */
static inline scalar scalar_inverse(scalar a)
{
    const scalar base = scalar_montgomery(a, scalar_constant(SC_ORDER_R2)); /* a R */
    scalar r = scalar_constant(SC_ORDER_R);                                 /* 1 R */
    for (int bit = 252; bit >= 0; bit--) {
        r = scalar_montgomery(r, r);
        if (SC_ORDER_MINUS_2[bit / 64] >> (bit % 64) & 1) r = scalar_montgomery(r, base);
    }
    return scalar_montgomery(r, (scalar){{1, 0, 0, 0}});
}

/* Inverses of count scalars, none of them zero, with one inversion (Montgomery, 1987). before and out have room for count,
 * and are not in. With p_i = p_(i-1) s_i / R and u_i = 1 / p_i: 1 / s_i = u_i p_(i-1) / R, and u_(i-1) = u_i s_i / R. */
static inline void scalars_invert(scalar *out, const uint8_t *in, size_t count, scalar *before)
{
    if (count == 0) return;
    before[0] = scalar_load(in);
    for (size_t i = 1; i < count; i++) before[i] = scalar_montgomery(before[i - 1], scalar_load(in + 32 * i));
    scalar u = scalar_inverse(before[count - 1]);
    for (size_t i = count - 1; i > 0; i--) {
        out[i] = scalar_montgomery(u, before[i - 1]);
        u = scalar_montgomery(u, scalar_load(in + 32 * i));
    }
    out[0] = u;
}

/* a / 2: a is even, or a + l is. */
static inline scalar scalar_half(scalar a)
{
    const uint64_t odd = 0 - (a.w[0] & 1);
    const scalar shifted = {{a.w[0] >> 1 | a.w[1] << 63, a.w[1] >> 1 | a.w[2] << 63, a.w[2] >> 1 | a.w[3] << 63, a.w[3] >> 1}};
    return scalar_plus(shifted, SC_HALF, odd);
}

/* a + 0x88...8: each nibble of it, less 8, is a signed digit of a (group.h). */
static inline scalar scalar_digits(scalar a)
{
    static const uint64_t eights[4] = {0x8888888888888888u, 0x8888888888888888u, 0x8888888888888888u, 0x8888888888888888u};
    return scalar_plus(a, eights, UINT64_MAX);
}
