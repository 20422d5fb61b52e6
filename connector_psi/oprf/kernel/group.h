/* Ristretto255 (RFC 9496) over the lanes of field.h: points, multiplication, the two encodings, hashing to the group.
 *
 * Points of the twisted Edwards curve -x^2 + y^2 = 1 + d x^2 y^2 in extended coordinates, x = X/Z, y = Y/Z, xy = T/Z
 * (Hisil, Wong, Carter, Dawson, "Twisted Edwards Curves Revisited", 2008). Coordinates are tight. Formulas are complete:
 * no input is an exception, so nothing branches.
 *
 * Cost in multiplications M and squarings S of the field: doubling 4M + 4S, with IFMA 5M + 3S (one M less without T),
 * addition of a cached point 8M (7M without T), multiplication by a scalar 252 doublings, 64 additions and 8 table
 * entries.
 */
#pragma once

#include "field.h"

typedef struct { fe x, y, z, t; } point;
typedef struct { fe ypx, ymx, z2, t2d; } cached; /* Y + X, Y - X, 2Z, 2d T; tight */
typedef struct { fe ypx, ymx, t2d; } niels;      /* the same of a point with Z = 1 */

INLINE point point_identity(void)
{
    const fe zero = fe_zero(), one = FE_CONSTANT(ONE);
    return (point){zero, one, one, zero};
}

INLINE cached point_cache(point p)
{
    return (cached){fe_carry(fe_add(p.y, p.x)), fe_carry(fe_sub(p.y, p.x)), fe_carry(fe_add(p.z, p.z)), fe_mul(p.t, FE_CONSTANT(TWO_D))};
}

/* The last step of every formula: E F, G H, F G and, where it is needed, E H; operands are carried once. */
INLINE void point_complete(point *r, wide e, wide f, wide g, wide h, int with_t)
{
    const fe E = fe_reduce(e), F = fe_reduce(f), G = fe_reduce(g), H = fe_reduce(h);
    fe_multiply(&r->x, &E, &F);
    fe_multiply(&r->y, &G, &H);
    fe_multiply(&r->z, &F, &G);
    if (with_t) fe_multiply(&r->t, &E, &H);
}

/* 2p; reads no T. Hisil et al., section 3.3 (dbl-2008-hwcd). */
INLINE void point_double(point *r, const point *p, int with_t)
{
#if defined(KERNEL_IFMA)
    /* E = 2XY: a sum would have to be carried before it is squared. F and H are negated, which negates all four
     * coordinates. F is two biased products less G: with its two biases the largest sum there is. */
    const wide a = fe_sqw(&p->x), b = fe_sqw_biased(&p->y), c = fe_sqw_biased(&p->z), xy = fe_mulw(&p->x, &p->y);
    const wide g = wide_sub(b, a);
    point_complete(r, wide_add(xy, xy), wide_sub(wide_add(c, c), g), g, wide_add(b, a), with_t);
#else
    /* E, F, G and H are negated. S, the square of the sum of tight X and Y, stays below every limb of BIAS: below
     * 77 * 2^54 + 190 * 2^52.1 < 2^60.98 (AVX2, limb 0) and 2^111 (portable). */
    const fe sum = fe_add(p->x, p->y);
    const wide a = fe_sqw_biased(&p->x), b = fe_sqw(&p->y), c = fe_sqw(&p->z), s = fe_sqw(&sum);
    const wide g = wide_sub(a, b), h = wide_add(a, b);
    point_complete(r, wide_sub(h, s), wide_add(wide_add(c, c), g), g, h, with_t);
#endif
}

/* p + q, or p - q in the lanes of a mask. Hisil et al., section 3.1 (add-2008-hwcd-3, a = -1, k = 2d). -q is q with Y + X
 * and Y - X exchanged and T negated; the sign of T is that of C, whose change exchanges F and G. */
INLINE void point_sum(point *r, const point *p, const fe *ypx, const fe *ymx, wide d, const fe *t2d, mask minus, int with_t)
{
    const fe less = fe_sub(p->y, p->x), more = fe_add(p->y, p->x);
    const fe first = fe_select(minus, *ypx, *ymx), second = fe_select(minus, *ymx, *ypx);
    const wide a = fe_mulw(&less, &first), b = fe_mulw_biased(&more, &second), c = fe_mulw(&p->t, t2d);
    const wide f = wide_sub(d, c), g = wide_add(d, c);
    point_complete(r, wide_sub(b, a), wide_select(minus, g, f), wide_select(minus, f, g), wide_add(b, a), with_t);
}

INLINE void point_add(point *r, const point *p, const cached *q, mask minus, int with_t)
{
    point_sum(r, p, &q->ypx, &q->ymx, fe_mulw_biased(&p->z, &q->z2), &q->t2d, minus, with_t);
}

/* 2Z instead of Z * 2: a sum of tight limbs is in the bounds of a product. */
INLINE void point_add_niels(point *r, const point *p, const niels *q, mask minus, int with_t)
{
    wide d;
    for (int i = 0; i < LIMBS; i++) {
        const vec z = p->z.v[i];
        d.v[i] = BIAS_LIMB(i) + v_add(z, z);
    }
    point_sum(r, p, &q->ypx, &q->ymx, d, &q->t2d, minus, with_t);
}

static void point_add_points(point *r, const point *p, const point *q)
{
    const cached c = point_cache(*q);
    point_add(r, p, &c, m_from_bits(0), 1);
}

/* ---- Multiplication by a secret scalar ---------------------------------------------------------------------------- */

/* A scalar k below 2^253 as 64 signed digits of 4 bits: nibble i of k + 0x88...8, less 8, is digit i, from -8 to 7; the
 * sum is below 2^256. Here in the form of that sum. */
typedef words digits;

INLINE vec digit_nibble(const digits *k, int i) { return v_and(v_shr(k->w[i / 16], 4 * (i % 16)), v_set1(15)); }

/* The absolute value of the digit, and the lanes where it is negative. */
INLINE vec digit_abs(vec nibble, mask *minus)
{
    *minus = v_equal(v_and(nibble, v_set1(8)), v_set1(0));
    return v_select(*minus, v_sub(v_set1(8), nibble), v_sub(nibble, v_set1(8)));
}

/* table[|digit| - 1], or the identity for zero. Every entry is read, whatever the digit. */
INLINE void table_select(cached *r, const cached table[8], vec magnitude)
{
    const mask none = v_equal(magnitude, v_set1(0));
    const vec one = v_keep(none, v_set1(1), v_set1(0));
    *r = (cached){fe_zero(), fe_zero(), fe_zero(), fe_zero()};
    r->ypx.v[0] = r->ymx.v[0] = one;
    r->z2.v[0] = v_add(one, one);
#if defined(KERNEL_AVX2)
    /* Eight masks stay in registers, forty sums would not. */
    mask here[8];
    for (int j = 0; j < 8; j++) here[j] = v_equal(magnitude, v_set1((uint64_t)j + 1));
#define SELECT(coordinate) \
    for (int i = 0; i < LIMBS; i++) { \
        vec sum = r->coordinate.v[i]; \
        for (int j = 0; j < 8; j++) sum = v_keep(here[j], table[j].coordinate.v[i], sum); \
        r->coordinate.v[i] = sum; \
    }
    SELECT(ypx)
    SELECT(ymx)
    SELECT(z2)
    SELECT(t2d)
#else
    for (int j = 0; j < 8; j++) {
        const mask here = v_equal(magnitude, v_set1((uint64_t)j + 1));
        for (int i = 0; i < LIMBS; i++) {
            r->ypx.v[i] = v_keep(here, table[j].ypx.v[i], r->ypx.v[i]);
            r->ymx.v[i] = v_keep(here, table[j].ymx.v[i], r->ymx.v[i]);
            r->z2.v[i] = v_keep(here, table[j].z2.v[i], r->z2.v[i]);
            r->t2d.v[i] = v_keep(here, table[j].t2d.v[i], r->t2d.v[i]);
        }
    }
#endif
}

static __attribute__((noinline)) void table_make(cached table[8], const point *p)
{
    point multiple[9];
    multiple[1] = *p;
    table[0] = point_cache(*p);
    for (int j = 2; j <= 8; j++) {
        if (j % 2 == 0) point_double(&multiple[j], &multiple[j / 2], 1);
        else point_add(&multiple[j], &multiple[j - 1], &table[0], m_from_bits(0), 1);
        table[j - 1] = point_cache(multiple[j]);
    }
}

/* k p; r and p may be the same. */
static __attribute__((noinline)) void point_mul(point *r, const point *p, const digits *k)
{
    cached table[8], chosen;
    mask minus;
    point acc;
    table_make(table, p);
    /* The first digit is 0, 1 or 2: no sign. 2X, 2Y and 2Z are as good as X, Y and Z, and a doubling needs no T. */
    table_select(&chosen, table, digit_abs(digit_nibble(k, 63), &minus));
    acc.x = fe_carry(fe_sub(chosen.ypx, chosen.ymx));
    acc.y = fe_carry(fe_add(chosen.ypx, chosen.ymx));
    acc.z = chosen.z2;
    for (int i = 62; i >= 0; i--) {
        /* T is needed by additions and by what comes after the last digit. */
        for (int j = 0; j < 3; j++) point_double(&acc, &acc, 0);
        point_double(&acc, &acc, 1);
        const vec magnitude = digit_abs(digit_nibble(k, i), &minus);
        table_select(&chosen, table, magnitude);
        point_add(&acc, &acc, &chosen, minus, i == 0);
    }
    *r = acc;
}

/* ---- Multiplication of the generator ------------------------------------------------------------------------------- */

/* base_table[w][j] = (j + 1) 16^(2w) B, of one lane, broadcast as it is read: 32 windows of every second digit, once for
 * the odd digits, then four doublings, then the even ones (Bernstein et al., "High-speed high-security signatures", 2011,
 * section 4). 32 * 8 points, made once a process by base_table_make. */
typedef struct { uint64_t ypx[LIMBS], ymx[LIMBS], t2d[LIMBS]; } niels_lane;
static niels_lane base_table[32][8];

INLINE niels niels_broadcast(const niels_lane *q)
{
    return (niels){fe_constant(q->ypx), fe_constant(q->ymx), fe_constant(q->t2d)};
}

static void base_table_make(void)
{
    const point base = {FE_CONSTANT(BASE_X), FE_CONSTANT(BASE_Y), FE_CONSTANT(ONE), FE_CONSTANT(BASE_T)};
    uint64_t lanes[LANES];
    point window = base, multiple;
    for (int w = 0; w < 32; w++) {
        multiple = window;
        for (int j = 0; j < 8; j++) {
            const fe inverse = fe_invert(multiple.z);
            const fe x = fe_mul(multiple.x, inverse), y = fe_mul(multiple.y, inverse);
            const fe ypx = fe_carry(fe_add(y, x)), ymx = fe_carry(fe_sub(y, x)), t2d = fe_mul(fe_mul(x, y), FE_CONSTANT(TWO_D));
            for (int i = 0; i < LIMBS; i++) {
                v_store(lanes, ypx.v[i]);
                base_table[w][j].ypx[i] = lanes[0];
                v_store(lanes, ymx.v[i]);
                base_table[w][j].ymx[i] = lanes[0];
                v_store(lanes, t2d.v[i]);
                base_table[w][j].t2d[i] = lanes[0];
            }
            point_add_points(&multiple, &multiple, &window);
        }
        for (int i = 0; i < 8; i++) point_double(&window, &window, 1);
    }
}

/* k B. */
static __attribute__((noinline)) void base_mul(point *r, const digits *k)
{
    point acc = point_identity();
    for (int odd = 1; odd >= 0; odd--) {
        for (int w = 0; w < 32; w++) {
            mask minus;
            const vec magnitude = digit_abs(digit_nibble(k, 2 * w + odd), &minus);
            const mask none = v_equal(magnitude, v_set1(0));
            niels chosen = {fe_zero(), fe_zero(), fe_zero()};
            chosen.ypx.v[0] = chosen.ymx.v[0] = v_keep(none, v_set1(1), v_set1(0));
            for (int j = 0; j < 8; j++) {
                const mask here = v_equal(magnitude, v_set1((uint64_t)j + 1));
                const niels_lane *entry = &base_table[w][j];
                for (int i = 0; i < LIMBS; i++) {
                    chosen.ypx.v[i] = v_keep(here, v_set1(entry->ypx[i]), chosen.ypx.v[i]);
                    chosen.ymx.v[i] = v_keep(here, v_set1(entry->ymx[i]), chosen.ymx.v[i]);
                    chosen.t2d.v[i] = v_keep(here, v_set1(entry->t2d[i]), chosen.t2d.v[i]);
                }
            }
            point_add_niels(&acc, &acc, &chosen, minus, 1);
        }
        if (odd)
            for (int i = 0; i < 4; i++) point_double(&acc, &acc, 1);
    }
    *r = acc;
}

/* ---- Encodings ------------------------------------------------------------------------------------------------------ */

/* RFC 9496 section 4.3.1, Decode, of `pair` vectors; tells the lanes that hold the one encoding of an element, zero (the
 * identity) included. What it gives in the others is a point of no meaning, and must not be used. */
INLINE void points_decode(point *r, mask *good, const words *in, int pair)
{
    const fe one = FE_CONSTANT(ONE);
    fe s[2], u1[2], u2[2], v[2], ones[2] = {one, one}, square[2], root[2];
    mask was_square[2];
    for (int k = 0; k < pair; k++) {
        s[k] = fe_load(in[k]);
        const fe ss = fe_sq(s[k]);
        u1[k] = fe_carry(fe_sub(one, ss));
        u2[k] = fe_carry(fe_add(one, ss));
        const fe u2_sqr = fe_sq(u2[k]);
        v[k] = fe_carry(fe_sub(fe_carry(fe_neg(fe_mul(FE_CONSTANT(D), fe_sq(u1[k])))), u2_sqr));
        square[k] = fe_mul(v[k], u2_sqr);
    }
    fe_sqrt_ratio_each(root, was_square, ones, square, pair);
    for (int k = 0; k < pair; k++) {
        const fe den_x = fe_mul(root[k], u2[k]);
        const fe den_y = fe_mul(fe_mul(root[k], den_x), v[k]);
        r[k].x = fe_abs(fe_mul(fe_add(s[k], s[k]), den_x));
        r[k].y = fe_mul(u1[k], den_y);
        r[k].z = one;
        r[k].t = fe_mul(r[k].x, r[k].y);
        /* A top bit, and values from p on, come back otherwise. */
        const mask canonical = words_equal(fe_freeze(s[k]), in[k]);
        const mask no_element = m_or(m_not(was_square[k]), m_or(fe_negative(r[k].t), fe_is_zero(r[k].y)));
        good[k] = m_not(m_or(m_or(words_odd(in[k]), m_not(canonical)), no_element));
    }
}

static __attribute__((noinline)) mask point_decode(point *r, words in)
{
    mask good;
    points_decode(r, &good, &in, 1);
    return good;
}

static __attribute__((noinline)) void point_decode_pair(point r[2], mask good[2], const words in[2])
{
    points_decode(r, good, in, 2);
}

/* RFC 9496 section 4.3.2, Encode. */
static __attribute__((noinline)) words point_encode(const point *p)
{
    const fe sqrt_m1 = FE_CONSTANT(SQRT_M1);
    const fe u1 = fe_mul(fe_add(p->z, p->y), fe_sub(p->z, p->y));
    const fe u2 = fe_mul(p->x, p->y);
    fe root;
    (void)fe_sqrt_ratio(&root, FE_CONSTANT(ONE), fe_mul(u1, fe_sq(u2)));
    const fe den1 = fe_mul(root, u1), den2 = fe_mul(root, u2);
    const fe z_inv = fe_mul(fe_mul(den1, den2), p->t);
    const mask rotate = fe_negative(fe_mul(p->t, z_inv));
    const fe x = fe_select(rotate, fe_mul(p->y, sqrt_m1), p->x);
    const fe y = fe_select(rotate, fe_mul(p->x, sqrt_m1), p->y);
    const fe den_inv = fe_select(rotate, fe_mul(den1, FE_CONSTANT(INVSQRT_A_MINUS_D)), den2);
    const fe signed_y = fe_negate_if(fe_negative(fe_mul(x, z_inv)), y);
    return fe_freeze(fe_abs(fe_mul(den_inv, fe_sub(p->z, signed_y))));
}

/* The encodings of 2p for count vectors of points, with one inversion for each lane: "double and encode in batches", by
 * Hamburg's isogeny (Ristretto's design notes; the formulas as in curve25519-dalek's double_and_compress_batch). A point
 * that encodes to zero has the product of all denominators zero: it counts as one in the batch, and its inverse as zero,
 * which encodes it to zero. scratch holds count entries. */
typedef struct { fe e, f, g, h, eg, fh, before; mask zero; } halved;

static __attribute__((noinline)) void points_double_encode(words *out, const point *p, size_t count, halved *scratch)
{
    const fe one = FE_CONSTANT(ONE), sqrt_m1 = FE_CONSTANT(SQRT_M1);
    fe product = one;
    for (size_t i = 0; i < count; i++) {
        halved *s = &scratch[i];
        const fe xx = fe_sq(p[i].x), yy = fe_sq(p[i].y), zz = fe_sq(p[i].z);
        const fe dtt = fe_mul(fe_sq(p[i].t), FE_CONSTANT(D));
        s->e = fe_mul(p[i].x, fe_add(p[i].y, p[i].y));
        s->f = fe_carry(fe_add(zz, dtt));
        s->g = fe_carry(fe_add(yy, xx));
        s->h = fe_carry(fe_sub(zz, dtt));
        s->eg = fe_mul(s->e, s->g);
        s->fh = fe_mul(s->f, s->h);
        fe all = fe_mul(s->eg, s->fh);
        s->zero = fe_is_zero(all);
        all = fe_select(s->zero, one, all);
        s->before = product;
        product = fe_mul(product, all);
    }
    fe rest = fe_invert(product);
    for (size_t i = count; i-- > 0;) {
        halved *s = &scratch[i];
        const fe all = fe_select(s->zero, one, fe_mul(s->eg, s->fh));
        const fe inverse = fe_select(s->zero, fe_zero(), fe_mul(rest, s->before));
        rest = fe_mul(rest, all);
        const fe z_inv = fe_mul(s->eg, inverse), t_inv = fe_mul(s->fh, inverse);
        const mask rotate = fe_negative(fe_mul(s->eg, z_inv));
        const fe e = fe_select(rotate, s->g, s->e);
        const fe g = fe_select(rotate, fe_carry(fe_neg(s->e)), s->g);
        const fe h = fe_select(rotate, fe_mul(s->f, sqrt_m1), s->h);
        const fe magic = fe_select(rotate, sqrt_m1, FE_CONSTANT(INVSQRT_A_MINUS_D));
        const fe signed_g = fe_negate_if(fe_negative(fe_mul(fe_mul(h, e), z_inv)), g);
        out[i] = fe_freeze(fe_abs(fe_mul(fe_sub(h, signed_g), fe_mul(magic, fe_mul(signed_g, t_inv)))));
    }
}

/* ---- Hashing to the group ------------------------------------------------------------------------------------------- */

/* RFC 9496 section 4.3.4: the sum of the MAPs of both halves, whose roots are taken side by side. */
static __attribute__((noinline)) void point_from_uniform(point *r, words first, words second)
{
    const fe one = FE_CONSTANT(ONE), d = FE_CONSTANT(D), minus_one = fe_carry(fe_neg(one));
    const fe t[2] = {fe_load(first), fe_load(second)};
    fe square[2], u[2], v[2], root[2];
    mask was_square[2];
    point p[2];
    for (int k = 0; k < 2; k++) {
        square[k] = fe_mul(FE_CONSTANT(SQRT_M1), fe_sq(t[k])); /* r of the RFC */
        u[k] = fe_mul(fe_add(square[k], one), FE_CONSTANT(ONE_MINUS_D_SQ));
        v[k] = fe_mul(fe_sub(minus_one, fe_mul(square[k], d)), fe_add(square[k], d));
    }
    fe_sqrt_ratio_pair(root, was_square, u, v);
    for (int k = 0; k < 2; k++) {
        const fe other = fe_carry(fe_neg(fe_abs(fe_mul(root[k], t[k]))));
        const fe s = fe_select(was_square[k], root[k], other);
        const fe c = fe_select(was_square[k], minus_one, square[k]);
        const fe n = fe_carry(fe_sub(fe_mul(fe_mul(c, fe_sub(square[k], one)), FE_CONSTANT(D_MINUS_ONE_SQ)), v[k]));
        const fe w0 = fe_mul(fe_add(s, s), v[k]), w1 = fe_mul(n, FE_CONSTANT(SQRT_AD_MINUS_ONE));
        const fe ss = fe_sq(s);
        const fe w2 = fe_sub(one, ss), w3 = fe_add(one, ss);
        p[k] = (point){fe_mul(w0, w3), fe_mul(w2, w1), fe_mul(w1, w3), fe_mul(w0, w2)};
    }
    point_add_points(r, &p[0], &p[1]);
}
