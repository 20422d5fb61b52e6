/* The field of 2^255 - 19, one element in each lane of a vector. Three implementations of one set of operations:
 *
 *   KERNEL_IFMA      8 lanes, AVX-512 IFMA, 5 limbs of 51 bits
 *   KERNEL_AVX2      4 lanes, AVX2, 10 limbs of 26 and 25 bits in turn
 *   KERNEL_PORTABLE  1 lane, 64-bit C with 128-bit products, 5 limbs of 51 bits
 *
 * The file is included once by the translation unit of each (ifma.c, avx2.c, portable.c). Nothing here branches on, or
 * addresses memory by, the value of an element.
 *
 * Kinds of values. A value is the integer sum of its limbs at their places; it stands for its residue.
 *
 *   fe, tight   what fe_reduce, fe_mul, fe_sq, fe_load, fe_constant and fe_carry give. Limbs stay below
 *                 IFMA            2^51 + 2^18
 *                 portable        2^51 + 2^22
 *                 AVX2            2^26 for even limbs, 2^25 + 2^17 for odd ones
 *   fe, loose   what fe_add, fe_sub and fe_neg give from tight operands. Limbs stay below
 *                 IFMA            as tight: these carry, since IFMA reads 52 bits and a sum may need 53
 *                 portable        2^54
 *                 AVX2            2^27.6 for even limbs, 2^26.7 for odd ones
 *   wide        a product before its limbs are carried; what fe_mulw and fe_sqw give. Limbs stay below WIDE_BOUND.
 *               fe_mulw_biased and fe_sqw_biased add BIAS, a multiple of 2^255 - 19 whose every limb is at least
 *               WIDE_BOUND, so that a product can be subtracted from theirs and no limb goes below zero. A sum of two
 *               biased products stays below the width of a limb.
 *
 * A multiplication takes loose operands, one of them loose and the other tight where its product is combined as wide.
 * Comparisons take tight values, and freeze them to the one representative from 0 to 2^255 - 20.
 *
 * Names are those of the operations: mul, sq, add, sub, neg. A mask holds, for each lane, all ones or all zeros.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "constants.h"

#define INLINE static inline __attribute__((always_inline))

#if defined(KERNEL_IFMA)
/* ---------------------------------------------------------------------------------------------------------------- */
#include <immintrin.h>

#define LANES 8
#define LIMBS 5

typedef __m512i vec; /* one 64-bit word a lane */
typedef __mmask8 mask;

INLINE vec v_set1(uint64_t x) { return _mm512_set1_epi64((long long)x); }
INLINE vec v_load(const uint64_t *p) { return _mm512_loadu_si512(p); }
INLINE void v_store(uint64_t *p, vec a) { _mm512_storeu_si512(p, a); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_epi64(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm512_sub_epi64(a, b); }
INLINE vec v_and(vec a, vec b) { return _mm512_and_si512(a, b); }
INLINE vec v_or(vec a, vec b) { return _mm512_or_si512(a, b); }
INLINE vec v_xor3(vec a, vec b, vec c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
INLINE vec v_choose(vec a, vec b, vec c) { return _mm512_ternarylogic_epi64(a, b, c, 0xca); }   /* a ? b : c, bit by bit */
INLINE vec v_majority(vec a, vec b, vec c) { return _mm512_ternarylogic_epi64(a, b, c, 0xe8); }
#define v_shr(a, n) _mm512_srli_epi64(a, n)
#define v_shl(a, n) _mm512_slli_epi64(a, n)
#define v_ror(a, n) _mm512_ror_epi64(a, n)
INLINE mask v_equal(vec a, vec b) { return _mm512_cmpeq_epi64_mask(a, b); }
INLINE vec v_select(mask m, vec a, vec b) { return _mm512_mask_mov_epi64(b, m, a); } /* m ? a : b */
INLINE vec v_keep(mask m, vec a, vec b) { return _mm512_mask_mov_epi64(b, m, a); }   /* the same, where b is zero if m is set */
INLINE mask m_and(mask a, mask b) { return a & b; }
INLINE mask m_or(mask a, mask b) { return a | b; }
INLINE mask m_not(mask a) { return (mask)~a; }
INLINE unsigned m_bits(mask a) { return a; } /* bit i is lane i */
INLINE mask m_from_bits(unsigned bits) { return (mask)bits; }
INLINE vec v_gather(const uint64_t *p, vec index) { return _mm512_i64gather_epi64(index, p, 8); }
INLINE void v_scatter(uint64_t *p, vec index, vec a) { _mm512_i64scatter_epi64(p, index, a, 8); }
INLINE vec v_gather_bytes(const uint8_t *p, long long step) /* 8 bytes a lane, step bytes apart */
{
    return _mm512_i64gather_epi64(_mm512_setr_epi64(0, step, 2 * step, 3 * step, 4 * step, 5 * step, 6 * step, 7 * step), p, 1);
}
INLINE vec v_swap_bytes(vec a)
{
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(_mm_setr_epi8(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8)));
}

#elif defined(KERNEL_AVX2)
/* ---------------------------------------------------------------------------------------------------------------- */
#include <immintrin.h>

#define LANES 4
#define LIMBS 10

typedef __m256i vec;
typedef __m256i mask;

INLINE vec v_set1(uint64_t x) { return _mm256_set1_epi64x((long long)x); }
INLINE vec v_load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void v_store(uint64_t *p, vec a) { _mm256_storeu_si256((__m256i *)p, a); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_epi64(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm256_sub_epi64(a, b); }
INLINE vec v_and(vec a, vec b) { return _mm256_and_si256(a, b); }
INLINE vec v_or(vec a, vec b) { return _mm256_or_si256(a, b); }
INLINE vec v_xor3(vec a, vec b, vec c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
INLINE vec v_choose(vec a, vec b, vec c) { return _mm256_xor_si256(c, _mm256_and_si256(a, _mm256_xor_si256(b, c))); }
INLINE vec v_majority(vec a, vec b, vec c) { return _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b))); }
#define v_shr(a, n) _mm256_srli_epi64(a, n)
#define v_shl(a, n) _mm256_slli_epi64(a, n)
#define v_ror(a, n) _mm256_or_si256(_mm256_srli_epi64(a, n), _mm256_slli_epi64(a, 64 - (n)))
INLINE mask v_equal(vec a, vec b) { return _mm256_cmpeq_epi64(a, b); }
INLINE vec v_select(mask m, vec a, vec b) { return _mm256_blendv_epi8(b, a, m); }
INLINE vec v_keep(mask m, vec a, vec b) { return _mm256_or_si256(b, _mm256_and_si256(a, m)); }
INLINE mask m_and(mask a, mask b) { return _mm256_and_si256(a, b); }
INLINE mask m_or(mask a, mask b) { return _mm256_or_si256(a, b); }
INLINE mask m_not(mask a) { return _mm256_xor_si256(a, _mm256_set1_epi64x(-1)); }
INLINE unsigned m_bits(mask a) { return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(a)); }
INLINE mask m_from_bits(unsigned bits)
{
    const __m256i each = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x((long long)bits), each), each);
}
INLINE vec v_gather(const uint64_t *p, vec index) { return _mm256_i64gather_epi64((const long long *)p, index, 8); }
INLINE void v_scatter(uint64_t *p, vec index, vec a)
{
    uint64_t at[LANES], value[LANES];
    v_store(at, index);
    v_store(value, a);
    for (int lane = 0; lane < LANES; lane++) p[at[lane]] = value[lane];
}
INLINE vec v_gather_bytes(const uint8_t *p, long long step)
{
    return _mm256_i64gather_epi64((const long long *)(const void *)p, _mm256_setr_epi64x(0, step, 2 * step, 3 * step), 1);
}
INLINE vec v_swap_bytes(vec a)
{
    return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(_mm_setr_epi8(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8)));
}

#elif defined(KERNEL_PORTABLE)
/* ---------------------------------------------------------------------------------------------------------------- */
#define LANES 1
#define LIMBS 5

typedef uint64_t vec;
typedef uint64_t mask;

INLINE vec v_set1(uint64_t x) { return x; }
INLINE vec v_load(const uint64_t *p) { return *p; }
INLINE void v_store(uint64_t *p, vec a) { *p = a; }
INLINE vec v_add(vec a, vec b) { return a + b; }
INLINE vec v_sub(vec a, vec b) { return a - b; }
INLINE vec v_and(vec a, vec b) { return a & b; }
INLINE vec v_or(vec a, vec b) { return a | b; }
INLINE vec v_xor3(vec a, vec b, vec c) { return a ^ b ^ c; }
INLINE vec v_choose(vec a, vec b, vec c) { return c ^ (a & (b ^ c)); }
INLINE vec v_majority(vec a, vec b, vec c) { return (a & b) | (c & (a | b)); }
#define v_shr(a, n) ((a) >> (n))
#define v_shl(a, n) ((a) << (n))
#define v_ror(a, n) ((a) >> (n) | (a) << (64 - (n)))
/* The empty statements keep a compiler from learning that a mask has two values, and branching on it. */
INLINE mask m_opaque(mask a) { __asm__("" : "+r"(a)); return a; }
INLINE mask v_equal(vec a, vec b) { uint64_t x = a ^ b; return m_opaque(((x | (0 - x)) >> 63) - 1); }
INLINE vec v_select(mask m, vec a, vec b) { return b ^ (m & (a ^ b)); }
INLINE vec v_keep(mask m, vec a, vec b) { return b | (a & m); }
INLINE mask m_and(mask a, mask b) { return a & b; }
INLINE mask m_or(mask a, mask b) { return a | b; }
INLINE mask m_not(mask a) { return ~a; }
INLINE unsigned m_bits(mask a) { return (unsigned)(a & 1); }
INLINE mask m_from_bits(unsigned bits) { return m_opaque(0 - (uint64_t)(bits & 1)); }
INLINE vec v_gather(const uint64_t *p, vec index) { return p[index]; }
INLINE void v_scatter(uint64_t *p, vec index, vec a) { p[index] = a; }
INLINE vec v_gather_bytes(const uint8_t *p, long long step)
{
    (void)step;
    vec a;
    memcpy(&a, p, 8);
    return a;
}
INLINE vec v_swap_bytes(vec a) { return __builtin_bswap64(a); }

#else
#error "field.h is included by ifma.c, avx2.c and portable.c"
#endif

typedef struct { vec v[LIMBS]; } fe;
typedef struct { vec w[4]; } words; /* 32 little-endian bytes a lane */

#define ALL_LANES ((1u << LANES) - 1)

/* ---- Multiplication, carries, sums: one set for each representation ---------------------------------------------- */

#if defined(KERNEL_IFMA)

#define FE_CONSTANT(name) fe_constant(FE_##name##_51)
#define MASK51 0x7ffffffffffffu

typedef struct { vec v[LIMBS]; } wide; /* WIDE_BOUND is 2^60, and 2^59.3 is the most that tight operands give */

#define LO(sum, a, b) _mm512_madd52lo_epu64(sum, a, b)
#define HI(sum, a, b) _mm512_madd52hi_epu64(sum, a, b)

/* 2^10 p: limbs of at least 2^61 - 2^15, above any product. */
#define BIAS_LIMB(i) v_set1(((MASK51 - ((i) == 0 ? 18 : 0)) << 10))

/* Multiplication by 19 of a column. The empty statement keeps gcc from making shifts and sums of it. */
INLINE vec v_times_19(vec a)
{
    vec nineteen = v_set1(19);
    __asm__("" : "+v"(nineteen));
    return _mm512_mullo_epi64(a, nineteen);
}

/* Columns 0 to 9 stand at places 2^51k, and 2^255 = 19, so that column k + 5 counts 19 times in limb k. A low half of a
 * product is below 2^52, a high half of tight operands below 2^50.1 and counted twice. So a column holds at most
 * 5 * 2^52 + 10 * 2^50.1 < 2^54.9, and a limb of the result 20 times that, < 2^59.3.
 *
 * Columns 8 and 9 are few halves, each sum of them below 2^52: IFMA multiplies these by 19, 38 or 76. What it cuts off at
 * 2^52, below 2^7, belongs to the high halves of the next column. */
INLINE wide fe_fold(vec r0, vec r1, vec r2, vec r3, vec r4, vec r5, vec r6, vec r7)
{
    return (wide){{v_add(r0, v_times_19(r5)), v_add(r1, v_times_19(r6)), v_add(r2, v_times_19(r7)), r3, r4}};
}

/* The high half of a_i * b_j belongs at 2^(51 (i + j) + 52), twice the place of column i + j + 1: a column begins with its
 * high halves, doubles them, and goes on with its low halves. */
INLINE wide fe_mulw_from(const fe *a, const fe *b, int biased)
{
    const vec a0 = a->v[0], a1 = a->v[1], a2 = a->v[2], a3 = a->v[3], a4 = a->v[4];
    const vec b0 = b->v[0], b1 = b->v[1], b2 = b->v[2], b3 = b->v[3], b4 = b->v[4];
    const vec zero = _mm512_setzero_si512(), whole = biased ? BIAS_LIMB(0) : zero, half = biased ? v_shr(BIAS_LIMB(1), 1) : zero;
    const vec by19 = v_set1(19), by38 = v_set1(38);
    vec r0 = whole, r1 = half, r2 = half, r3 = half, r4 = half, r5 = zero, r6 = zero, r7 = zero;
    const vec low8 = LO(zero, a4, b4), high8 = HI(HI(zero, a3, b4), a4, b3), high9 = HI(zero, a4, b4); /* high8 < 2^51.1 */
    r1 = HI(r1, a0, b0); r2 = HI(r2, a0, b1); r3 = HI(r3, a0, b2); r4 = HI(r4, a0, b3); r5 = HI(r5, a0, b4);
    r2 = HI(r2, a1, b0); r3 = HI(r3, a1, b1); r4 = HI(r4, a1, b2); r5 = HI(r5, a1, b3); r6 = HI(r6, a1, b4);
    r3 = HI(r3, a2, b0); r4 = HI(r4, a2, b1); r5 = HI(r5, a2, b2); r6 = HI(r6, a2, b3); r7 = HI(r7, a2, b4);
    r4 = HI(r4, a3, b0); r5 = HI(r5, a3, b1); r6 = HI(r6, a3, b2); r7 = HI(r7, a3, b3);
    r5 = HI(r5, a4, b0); r6 = HI(r6, a4, b1); r7 = HI(r7, a4, b2);
    r4 = HI(r4, low8, by19); r4 = HI(r4, high8, by38); r5 = HI(r5, high9, by38);
    r1 = v_add(r1, r1); r2 = v_add(r2, r2); r3 = v_add(r3, r3); r4 = v_add(r4, r4); r5 = v_add(r5, r5);
    r6 = v_add(r6, r6); r7 = v_add(r7, r7);
    r3 = LO(r3, low8, by19); r3 = LO(r3, high8, by38); r4 = LO(r4, high9, by38);
    r0 = LO(r0, a0, b0); r1 = LO(r1, a0, b1); r2 = LO(r2, a0, b2); r3 = LO(r3, a0, b3); r4 = LO(r4, a0, b4);
    r1 = LO(r1, a1, b0); r2 = LO(r2, a1, b1); r3 = LO(r3, a1, b2); r4 = LO(r4, a1, b3); r5 = LO(r5, a1, b4);
    r2 = LO(r2, a2, b0); r3 = LO(r3, a2, b1); r4 = LO(r4, a2, b2); r5 = LO(r5, a2, b3); r6 = LO(r6, a2, b4);
    r3 = LO(r3, a3, b0); r4 = LO(r4, a3, b1); r5 = LO(r5, a3, b2); r6 = LO(r6, a3, b3); r7 = LO(r7, a3, b4);
    r4 = LO(r4, a4, b0); r5 = LO(r5, a4, b1); r6 = LO(r6, a4, b2); r7 = LO(r7, a4, b3);
    return fe_fold(r0, r1, r2, r3, r4, r5, r6, r7);
}

/* Products of two different limbs count twice: 2 (2 high + low + high of the square) + low of the square. The bounds are
 * those of fe_mulw, whose columns hold the same numbers. */
INLINE wide fe_sqw_from(const fe *a, int biased)
{
    const vec a0 = a->v[0], a1 = a->v[1], a2 = a->v[2], a3 = a->v[3], a4 = a->v[4];
    const vec zero = _mm512_setzero_si512(), whole = biased ? BIAS_LIMB(0) : zero;
    const vec half = biased ? v_shr(BIAS_LIMB(1), 1) : zero, quarter = biased ? v_shr(BIAS_LIMB(1), 2) : zero;
    const vec by19 = v_set1(19), by38 = v_set1(38), by76 = v_set1(76);
    vec r0 = whole, r1 = half, r2 = quarter, r3 = quarter, r4 = quarter, r5 = zero, r6 = zero, r7 = zero;
    const vec low8 = LO(zero, a4, a4), high8 = HI(zero, a3, a4), high9 = HI(zero, a4, a4);
    r2 = HI(r2, a0, a1); r3 = HI(r3, a0, a2); r4 = HI(r4, a0, a3); r5 = HI(r5, a0, a4); r6 = HI(r6, a1, a4);
    r4 = HI(r4, a1, a2); r5 = HI(r5, a1, a3); r6 = HI(r6, a2, a3); r7 = HI(r7, a2, a4);
    r2 = v_add(r2, r2); r3 = v_add(r3, r3); r4 = v_add(r4, r4); r5 = v_add(r5, r5); r6 = v_add(r6, r6);
    r7 = v_add(r7, r7);
    r1 = LO(r1, a0, a1); r2 = LO(r2, a0, a2); r3 = LO(r3, a0, a3); r4 = LO(r4, a0, a4); r5 = LO(r5, a1, a4);
    r3 = LO(r3, a1, a2); r4 = LO(r4, a1, a3); r5 = LO(r5, a2, a3); r6 = LO(r6, a2, a4); r7 = LO(r7, a3, a4);
    r1 = HI(r1, a0, a0); r3 = HI(r3, a1, a1); r5 = HI(r5, a2, a2); r7 = HI(r7, a3, a3);
    r4 = HI(r4, low8, by19); r4 = HI(r4, high8, by76); r5 = HI(r5, high9, by38);
    r1 = v_add(r1, r1); r2 = v_add(r2, r2); r3 = v_add(r3, r3); r4 = v_add(r4, r4); r5 = v_add(r5, r5);
    r6 = v_add(r6, r6); r7 = v_add(r7, r7);
    r3 = LO(r3, low8, by19); r3 = LO(r3, high8, by76); r4 = LO(r4, high9, by38);
    r0 = LO(r0, a0, a0); r2 = LO(r2, a1, a1); r4 = LO(r4, a2, a2); r6 = LO(r6, a3, a3);
    return fe_fold(r0, r1, r2, r3, r4, r5, r6, r7);
}

INLINE wide fe_mulw(const fe *a, const fe *b) { return fe_mulw_from(a, b, 0); }
INLINE wide fe_sqw(const fe *a) { return fe_sqw_from(a, 0); }

/* BIAS + a b and BIAS + a^2: the sums begin with it, at no cost. */
INLINE wide fe_mulw_biased(const fe *a, const fe *b) { return fe_mulw_from(a, b, 1); }
INLINE wide fe_sqw_biased(const fe *a) { return fe_sqw_from(a, 1); }

/* One carry out of each limb at once. A limb below 2^64 gives a carry below 2^13, and 19 times it stays below 2^17.3. */
INLINE fe fe_reduce(wide a)
{
    const vec low = v_set1(MASK51), nineteen = v_set1(19);
    const vec c0 = v_shr(a.v[0], 51), c1 = v_shr(a.v[1], 51), c2 = v_shr(a.v[2], 51), c3 = v_shr(a.v[3], 51), c4 = v_shr(a.v[4], 51);
    return (fe){{LO(v_and(a.v[0], low), c4, nineteen), v_add(v_and(a.v[1], low), c0), v_add(v_and(a.v[2], low), c1),
                 v_add(v_and(a.v[3], low), c2), v_add(v_and(a.v[4], low), c3)}};
}

INLINE wide wide_add(wide a, wide b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_add(a.v[i], b.v[i]);
    return r;
}

INLINE wide wide_sub(wide a, wide b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_sub(a.v[i], b.v[i]);
    return r;
}

/* Below 2^52 + 2^19, which IFMA would cut: carried. */
INLINE fe fe_add(fe a, fe b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_add(a.v[i], b.v[i]);
    return fe_reduce(r);
}

/* a + 4p - b: 4p has limbs of at least 2^53 - 76. */
INLINE fe fe_sub(fe a, fe b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_sub(v_add(a.v[i], v_set1((MASK51 - (i == 0 ? 18 : 0)) << 2)), b.v[i]);
    return fe_reduce(r);
}

INLINE fe fe_carry(fe a) { return a; }

#elif defined(KERNEL_PORTABLE)

#define FE_CONSTANT(name) fe_constant(FE_##name##_51)
#define MASK51 0x7ffffffffffffu

typedef unsigned __int128 u128;
typedef struct { u128 v[LIMBS]; } wide; /* WIDE_BOUND is 2^115: 5 * 19 * 2^54 * 2^54 < 2^114.6 */

INLINE wide fe_mulw(const fe *a, const fe *b)
{
    const uint64_t *x = a->v, *y = b->v;
    const uint64_t y1 = 19 * y[1], y2 = 19 * y[2], y3 = 19 * y[3], y4 = 19 * y[4]; /* below 2^58.3 */
    return (wide){{
        (u128)x[0] * y[0] + (u128)x[1] * y4 + (u128)x[2] * y3 + (u128)x[3] * y2 + (u128)x[4] * y1,
        (u128)x[0] * y[1] + (u128)x[1] * y[0] + (u128)x[2] * y4 + (u128)x[3] * y3 + (u128)x[4] * y2,
        (u128)x[0] * y[2] + (u128)x[1] * y[1] + (u128)x[2] * y[0] + (u128)x[3] * y4 + (u128)x[4] * y3,
        (u128)x[0] * y[3] + (u128)x[1] * y[2] + (u128)x[2] * y[1] + (u128)x[3] * y[0] + (u128)x[4] * y4,
        (u128)x[0] * y[4] + (u128)x[1] * y[3] + (u128)x[2] * y[2] + (u128)x[3] * y[1] + (u128)x[4] * y[0],
    }};
}

INLINE wide fe_sqw(const fe *a)
{
    const uint64_t *x = a->v;
    const uint64_t x0 = 2 * x[0], x1 = 2 * x[1], x3 = 19 * x[3], x4 = 19 * x[4];
    return (wide){{
        (u128)x[0] * x[0] + (u128)x1 * x4 + (u128)(2 * x[2]) * x3,
        (u128)x0 * x[1] + (u128)(2 * x[2]) * x4 + (u128)x[3] * x3,
        (u128)x0 * x[2] + (u128)x[1] * x[1] + (u128)(2 * x[3]) * x4,
        (u128)x0 * x[3] + (u128)x1 * x[2] + (u128)x[4] * x4,
        (u128)x0 * x[4] + (u128)x1 * x[3] + (u128)x[2] * x[2],
    }};
}

/* Limbs below 2^119 in a chain: a carry is below 2^68, so it is 128 bits wide until the chain has come around. The last
 * one, below 2^68 times 19, is spread over limbs 0 and 1. */
INLINE fe fe_reduce(wide a)
{
    u128 c = a.v[0];
    const uint64_t r0 = (uint64_t)c & MASK51;
    c = (c >> 51) + a.v[1];
    const uint64_t r1 = (uint64_t)c & MASK51;
    c = (c >> 51) + a.v[2];
    const uint64_t r2 = (uint64_t)c & MASK51;
    c = (c >> 51) + a.v[3];
    const uint64_t r3 = (uint64_t)c & MASK51;
    c = (c >> 51) + a.v[4];
    const uint64_t r4 = (uint64_t)c & MASK51;
    c = (c >> 51) * 19 + r0;
    const uint64_t first = (uint64_t)c & MASK51;
    c = (c >> 51) + r1;
    return (fe){{first, (uint64_t)c & MASK51, r2 + (uint64_t)(c >> 51), r3, r4}};
}

/* 2^66 p: limbs of at least 2^117 - 2^71. */
#define BIAS_LIMB(i) ((u128)(MASK51 - ((i) == 0 ? 18 : 0)) << 66)

INLINE wide wide_add(wide a, wide b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = a.v[i] + b.v[i];
    return r;
}

INLINE wide wide_sub(wide a, wide b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = a.v[i] - b.v[i];
    return r;
}

INLINE fe fe_add(fe a, fe b)
{
    fe r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = a.v[i] + b.v[i];
    return r;
}

/* a + 4p - b, below 2^53.6. */
INLINE fe fe_sub(fe a, fe b)
{
    fe r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = a.v[i] + ((MASK51 - (i == 0 ? 18 : 0)) << 2) - b.v[i];
    return r;
}

/* Limbs below 2^54 give carries below 8. */
INLINE fe fe_carry(fe a)
{
    const uint64_t *v = a.v;
    return (fe){{(v[0] & MASK51) + 19 * (v[4] >> 51), (v[1] & MASK51) + (v[0] >> 51), (v[2] & MASK51) + (v[1] >> 51),
                 (v[3] & MASK51) + (v[2] >> 51), (v[4] & MASK51) + (v[3] >> 51)}};
}

#else /* KERNEL_AVX2 */

#define FE_CONSTANT(name) fe_constant(FE_##name##_25)
#define MASK26 0x3ffffffu
#define MASK25 0x1ffffffu

typedef struct { vec v[LIMBS]; } wide; /* WIDE_BOUND is 2^61; see fe_mulw */

#define MUL(a, b) _mm256_mul_epu32(a, b)

INLINE vec v_times_19(vec a) { return v_add(v_shl(a, 4), v_add(v_add(a, a), a)); }

/* Limb i stands at 2^ceil(25.5 i): a product of two odd limbs counts twice, a product beyond limb 9 nineteen times. The
 * worst column, limb 0 of a product of a loose and a tight operand, is five products of odd limbs,
 * 5 * 2 * 19 * 2^26.7 * 2^25.01 < 2^59.3, and five of even ones, 5 * 19 * 2^27.6 * 2^26 < 2^60.2: below 2^61. Of two loose
 * ones: below 2^62.6. 19 * 2^27.6 < 2^32, so that no operand of a product is cut. */
INLINE void fe_mulw_rows(wide *out, const fe *a, const fe *b)
{
    const vec *x = a->v, *y = b->v;
    const vec nineteen = v_set1(19);
    vec far[LIMBS], r[LIMBS];
    for (int j = 1; j < LIMBS; j++) far[j] = MUL(y[j], nineteen);
    /* A row is one limb of a times all of b: ten sums stay in registers, and one operand of a product comes from memory. */
#define KEEP() __asm__("" : "+x"(r[0]), "+x"(r[1]), "+x"(r[2]), "+x"(r[3]), "+x"(r[4]), "+x"(r[5]), "+x"(r[6]), "+x"(r[7]), "+x"(r[8]), "+x"(r[9]))
#define TERM(i, j) MUL(((i) & (j) & 1) ? twice : one, (i) + (j) < LIMBS ? y[j] : far[j])
#define FIRST_ROW(j) r[j] = TERM(0, j)
#define NEXT(i, j) r[((i) + (j)) % LIMBS] = v_add(r[((i) + (j)) % LIMBS], TERM(i, j))
#define ROW(i) do { const vec one = x[i], twice = (i) & 1 ? v_add(one, one) : one; \
        NEXT(i, 0); NEXT(i, 1); NEXT(i, 2); NEXT(i, 3); NEXT(i, 4); NEXT(i, 5); NEXT(i, 6); NEXT(i, 7); NEXT(i, 8); NEXT(i, 9); KEEP(); } while (0)
    {
        const vec one = x[0], twice = one;
        FIRST_ROW(0); FIRST_ROW(1); FIRST_ROW(2); FIRST_ROW(3); FIRST_ROW(4);
        FIRST_ROW(5); FIRST_ROW(6); FIRST_ROW(7); FIRST_ROW(8); FIRST_ROW(9);
        KEEP();
    }
    ROW(1); ROW(2); ROW(3); ROW(4); ROW(5); ROW(6); ROW(7); ROW(8); ROW(9);
    for (int k = 0; k < LIMBS; k++) out->v[k] = r[k];
}

/* The same products, each pair of different limbs once and doubled, doubled again where both are odd; 4 * 2^26.7 < 2^32. */
INLINE void fe_sqw_rows(wide *out, const fe *a)
{
    const vec *x = a->v;
    const vec nineteen = v_set1(19);
    vec far[LIMBS], r[LIMBS];
    for (int i = 5; i < LIMBS; i++) far[i] = MUL(x[i], nineteen);
#define PAIR(i, j) MUL(((i) & (j) & 1) ? four : two, (i) + (j) < LIMBS ? x[j] : far[j])
#define SQUARE(i) MUL(((i) & 1) && 2 * (i) >= LIMBS ? two : x[i], 2 * (i) < LIMBS ? ((i) & 1 ? two : x[i]) : far[i])
#define ADD(i, j) r[((i) + (j)) % LIMBS] = v_add(r[((i) + (j)) % LIMBS], PAIR(i, j))
#define TWICE(i) const vec two = v_add(x[i], x[i]), four = (i) & 1 ? v_add(two, two) : two
    {
        TWICE(0);
        r[0] = MUL(x[0], x[0]);
        r[1] = PAIR(0, 1); r[2] = PAIR(0, 2); r[3] = PAIR(0, 3); r[4] = PAIR(0, 4); r[5] = PAIR(0, 5);
        r[6] = PAIR(0, 6); r[7] = PAIR(0, 7); r[8] = PAIR(0, 8); r[9] = PAIR(0, 9);
        (void)four;
    }
#define SQ(i) r[2 * (i) % LIMBS] = v_add(r[2 * (i) % LIMBS], SQUARE(i))
    { TWICE(1); SQ(1); ADD(1, 2); ADD(1, 3); ADD(1, 4); ADD(1, 5); ADD(1, 6); ADD(1, 7); ADD(1, 8); ADD(1, 9); KEEP(); }
    { TWICE(2); SQ(2); ADD(2, 3); ADD(2, 4); ADD(2, 5); ADD(2, 6); ADD(2, 7); ADD(2, 8); ADD(2, 9); KEEP(); (void)four; }
    { TWICE(3); SQ(3); ADD(3, 4); ADD(3, 5); ADD(3, 6); ADD(3, 7); ADD(3, 8); ADD(3, 9); KEEP(); }
    { TWICE(4); SQ(4); ADD(4, 5); ADD(4, 6); ADD(4, 7); ADD(4, 8); ADD(4, 9); KEEP(); (void)four; }
    { TWICE(5); SQ(5); ADD(5, 6); ADD(5, 7); ADD(5, 8); ADD(5, 9); KEEP(); }
    { TWICE(6); SQ(6); ADD(6, 7); ADD(6, 8); ADD(6, 9); KEEP(); (void)four; }
    { TWICE(7); SQ(7); ADD(7, 8); ADD(7, 9); KEEP(); }
    { TWICE(8); SQ(8); ADD(8, 9); KEEP(); (void)four; }
    { const vec two = v_add(x[9], x[9]); SQ(9); }
    for (int k = 0; k < LIMBS; k++) out->v[k] = r[k];
}

/* Some 200 and 120 instructions: called, not repeated where they are used, so that a formula stays in the first cache. */
static __attribute__((noinline)) void fe_mulw_into(wide *out, const fe *a, const fe *b) { fe_mulw_rows(out, a, b); }
static __attribute__((noinline)) void fe_sqw_into(wide *out, const fe *a) { fe_sqw_rows(out, a); }

INLINE wide fe_mulw(const fe *a, const fe *b)
{
    wide r;
    fe_mulw_into(&r, a, b);
    return r;
}

INLINE wide fe_sqw(const fe *a)
{
    wide r;
    fe_sqw_into(&r, a);
    return r;
}

#define CARRY(from, to, bits) do { r[to] = v_add(r[to], v_shr(r[from], bits)); \
                                   r[from] = v_and(r[from], v_set1((1u << (bits)) - 1)); } while (0)

/* Two chains of carries at once, from limb 0 and from limb 4; limbs below 2^63.5 give carries below 2^38.5, and limb 9's,
 * times 19, below 2^43: so limb 1 gets one below 2^17 at last, and limb 5 one below 2^13. */
INLINE fe fe_reduce(wide a)
{
    fe result;
    vec *r = a.v;
    CARRY(0, 1, 26); CARRY(4, 5, 26);
    CARRY(1, 2, 25); CARRY(5, 6, 25);
    CARRY(2, 3, 26); CARRY(6, 7, 26);
    CARRY(3, 4, 25); CARRY(7, 8, 25);
    CARRY(4, 5, 26); CARRY(8, 9, 26);
    r[0] = v_add(r[0], v_times_19(v_shr(r[9], 25)));
    r[9] = v_and(r[9], v_set1(MASK25));
    CARRY(0, 1, 26);
    for (int i = 0; i < LIMBS; i++) result.v[i] = r[i];
    return result;
}

/* 2^36 p: limbs of at least 2^61 - 2^36. */
#define BIAS_LIMB(i) v_set1((uint64_t)((i) % 2 ? MASK25 : MASK26 - ((i) == 0 ? 18 : 0)) << 36)

INLINE wide wide_add(wide a, wide b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_add(a.v[i], b.v[i]);
    return r;
}

INLINE wide wide_sub(wide a, wide b)
{
    wide r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_sub(a.v[i], b.v[i]);
    return r;
}

INLINE fe fe_add(fe a, fe b)
{
    fe r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_add(a.v[i], b.v[i]);
    return r;
}

/* a + 2p - b: 2p has limbs of at least 2^27 - 38 and 2^26 - 2. Even limbs stay below 2^27 + 2^26, odd ones below
 * 2^26 + 2^25 + 2^17. */
INLINE fe fe_sub(fe a, fe b)
{
    fe r;
    for (int i = 0; i < LIMBS; i++)
        r.v[i] = v_sub(v_add(a.v[i], v_set1((uint64_t)(i % 2 ? MASK25 : MASK26 - (i == 0 ? 18 : 0)) << 1)), b.v[i]);
    return r;
}

INLINE fe fe_carry(fe a)
{
    wide w;
    for (int i = 0; i < LIMBS; i++) w.v[i] = a.v[i];
    return fe_reduce(w);
}

#endif

#if !defined(KERNEL_IFMA)
INLINE wide wide_biased(wide a)
{
    for (int i = 0; i < LIMBS; i++) a.v[i] += BIAS_LIMB(i);
    return a;
}

INLINE wide fe_mulw_biased(const fe *a, const fe *b) { return wide_biased(fe_mulw(a, b)); }
INLINE wide fe_sqw_biased(const fe *a) { return wide_biased(fe_sqw(a)); }
#endif

/* ---- Operations made of those above -------------------------------------------------------------------------------- */

INLINE fe fe_constant(const uint64_t limbs[LIMBS])
{
    fe r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_set1(limbs[i]);
    return r;
}

INLINE fe fe_zero(void)
{
    fe r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_set1(0);
    return r;
}

#if defined(KERNEL_AVX2)
static __attribute__((noinline)) void fe_multiply(fe *r, const fe *a, const fe *b)
{
    wide w;
    fe_mulw_rows(&w, a, b);
    *r = fe_reduce(w);
}

static __attribute__((noinline)) void fe_square(fe *r, const fe *a)
{
    wide w;
    fe_sqw_rows(&w, a);
    *r = fe_reduce(w);
}
#else
INLINE void fe_multiply(fe *r, const fe *a, const fe *b) { *r = fe_reduce(fe_mulw(a, b)); }
INLINE void fe_square(fe *r, const fe *a) { *r = fe_reduce(fe_sqw(a)); }
#endif

INLINE fe fe_mul(fe a, fe b)
{
    fe r;
    fe_multiply(&r, &a, &b);
    return r;
}

INLINE fe fe_sq(fe a)
{
    fe r;
    fe_square(&r, &a);
    return r;
}

INLINE fe fe_neg(fe a) { return fe_sub(fe_zero(), a); }

INLINE fe fe_select(mask m, fe a, fe b)
{
    fe r;
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_select(m, a.v[i], b.v[i]);
    return r;
}

INLINE wide wide_select(mask m, wide a, wide b)
{
    wide r;
#if defined(KERNEL_PORTABLE)
    const u128 both = (u128)m << 64 | m;
    for (int i = 0; i < LIMBS; i++) r.v[i] = b.v[i] ^ (both & (a.v[i] ^ b.v[i]));
#else
    for (int i = 0; i < LIMBS; i++) r.v[i] = v_select(m, a.v[i], b.v[i]);
#endif
    return r;
}

/* The least representative. A tight value is below 2p, so p is subtracted once or not at all: value + 19 reaches 2^255
 * exactly if the value reaches p. */
INLINE words fe_freeze(fe a)
{
    const vec *v = a.v;
    words out;
#if LIMBS == 5
    const vec low = v_set1(MASK51);
    vec c = v_shr(v_add(v[0], v_set1(19)), 51);
    for (int i = 1; i < 5; i++) c = v_shr(v_add(v[i], c), 51);
    vec r[5];
    /* 19 c, c being 0 or 1. */
    c = v_add(v_shl(c, 4), v_add(v_add(c, c), c));
    for (int i = 0; i < 5; i++) {
        const vec t = v_add(v[i], c);
        c = v_shr(t, 51);
        r[i] = v_and(t, low);
    }
    out.w[0] = v_or(r[0], v_shl(r[1], 51));
    out.w[1] = v_or(v_shr(r[1], 13), v_shl(r[2], 38));
    out.w[2] = v_or(v_shr(r[2], 26), v_shl(r[3], 25));
    out.w[3] = v_or(v_shr(r[3], 39), v_shl(r[4], 12));
#else
    vec c = v_shr(v_add(v[0], v_set1(19)), 26);
    c = v_shr(v_add(v[1], c), 25);
    for (int i = 2; i < 10; i += 2) {
        c = v_shr(v_add(v[i], c), 26);
        c = v_shr(v_add(v[i + 1], c), 25);
    }
    vec r[10];
    c = v_add(v_shl(c, 4), v_add(v_add(c, c), c));
    for (int i = 0; i < 10; i += 2) {
        vec t = v_add(v[i], c);
        c = v_shr(t, 26);
        r[i] = v_and(t, v_set1(MASK26));
        t = v_add(v[i + 1], c);
        c = v_shr(t, 25);
        r[i + 1] = v_and(t, v_set1(MASK25));
    }
    /* Places 0 26 51 77 102 128 153 179 204 230. */
    out.w[0] = v_or(v_or(r[0], v_shl(r[1], 26)), v_shl(r[2], 51));
    out.w[1] = v_or(v_or(v_shr(r[2], 13), v_shl(r[3], 13)), v_shl(r[4], 38));
    out.w[2] = v_or(v_or(r[5], v_shl(r[6], 25)), v_shl(r[7], 51));
    out.w[3] = v_or(v_or(v_shr(r[7], 13), v_shl(r[8], 12)), v_shl(r[9], 38));
#endif
    return out;
}

/* Of 32 little-endian bytes; the top bit is not read. */
INLINE fe fe_load(words in)
{
    const vec *w = in.w;
    fe r;
#if LIMBS == 5
    const vec low = v_set1(MASK51);
    r.v[0] = v_and(w[0], low);
    r.v[1] = v_and(v_or(v_shr(w[0], 51), v_shl(w[1], 13)), low);
    r.v[2] = v_and(v_or(v_shr(w[1], 38), v_shl(w[2], 26)), low);
    r.v[3] = v_and(v_or(v_shr(w[2], 25), v_shl(w[3], 39)), low);
    r.v[4] = v_and(v_shr(w[3], 12), low);
#else
    const vec m26 = v_set1(MASK26), m25 = v_set1(MASK25);
    r.v[0] = v_and(w[0], m26);
    r.v[1] = v_and(v_shr(w[0], 26), m25);
    r.v[2] = v_and(v_or(v_shr(w[0], 51), v_shl(w[1], 13)), m26);
    r.v[3] = v_and(v_shr(w[1], 13), m25);
    r.v[4] = v_and(v_shr(w[1], 38), m26);
    r.v[5] = v_and(w[2], m25);
    r.v[6] = v_and(v_shr(w[2], 25), m26);
    r.v[7] = v_and(v_or(v_shr(w[2], 51), v_shl(w[3], 13)), m25);
    r.v[8] = v_and(v_shr(w[3], 12), m26);
    r.v[9] = v_and(v_shr(w[3], 38), m25);
#endif
    return r;
}

INLINE mask words_zero(words a)
{
    return v_equal(v_or(v_or(a.w[0], a.w[1]), v_or(a.w[2], a.w[3])), v_set1(0));
}

INLINE mask words_equal(words a, words b)
{
    return m_and(m_and(v_equal(a.w[0], b.w[0]), v_equal(a.w[1], b.w[1])), m_and(v_equal(a.w[2], b.w[2]), v_equal(a.w[3], b.w[3])));
}

INLINE mask words_odd(words a) { return v_equal(v_and(a.w[0], v_set1(1)), v_set1(1)); }

/* RFC 9496 section 3.1: negative is odd. */
INLINE mask fe_negative(fe a) { return words_odd(fe_freeze(a)); }
INLINE mask fe_is_zero(fe a) { return words_zero(fe_freeze(a)); }

/* m ? -a : a, tight. */
INLINE fe fe_negate_if(mask m, fe a) { return fe_select(m, fe_carry(fe_neg(a)), a); }
INLINE fe fe_abs(fe a) { return fe_negate_if(fe_negative(a), a); }

/* Chains of squarings wait for one another: those of `pair` independent elements, one or two, go side by side. */
INLINE void fe_sqn(fe *r, const fe *a, int times, int pair)
{
    fe x[2];
    for (int k = 0; k < pair; k++) fe_square(&x[k], &a[k]);
    while (--times)
        for (int k = 0; k < pair; k++) fe_square(&x[k], &x[k]);
    for (int k = 0; k < pair; k++) r[k] = x[k];
}

INLINE void fe_mul_each(fe *r, const fe *a, const fe *b, int pair)
{
    for (int k = 0; k < pair; k++) fe_multiply(&r[k], &a[k], &b[k]);
}

/* a^(2^250 - 1), and a^11 beside it: the chain of Bernstein's Curve25519 (2006), 249 squarings and 10 multiplications. */
INLINE void fe_pow_2_250_1(fe *r, fe *a11, const fe *a, int pair)
{
    fe t[2], e5[2], e10[2], e20[2], e50[2];
    fe_sqn(t, a, 1, pair);
    fe_sqn(e5, t, 2, pair);
    fe_mul_each(e5, e5, a, pair); /* a^9 */
    fe_mul_each(a11, e5, t, pair);
    fe_sqn(t, a11, 1, pair);
    fe_mul_each(e5, t, e5, pair); /* a^(2^5 - 1), and so on */
    fe_sqn(t, e5, 5, pair);
    fe_mul_each(e10, t, e5, pair);
    fe_sqn(t, e10, 10, pair);
    fe_mul_each(e20, t, e10, pair);
    fe_sqn(t, e20, 20, pair);
    fe_mul_each(t, t, e20, pair);
    fe_sqn(t, t, 10, pair);
    fe_mul_each(e50, t, e10, pair);
    fe_sqn(t, e50, 50, pair);
    fe_mul_each(e20, t, e50, pair); /* a^(2^100 - 1) */
    fe_sqn(t, e20, 100, pair);
    fe_mul_each(t, t, e20, pair);
    fe_sqn(t, t, 50, pair);
    fe_mul_each(r, t, e50, pair);
}

/* a^(p - 2), the inverse; of zero it is zero. p - 2 = 2^255 - 21. */
static __attribute__((noinline)) fe fe_invert(fe a)
{
    fe a11, e;
    fe_pow_2_250_1(&e, &a11, &a, 1);
    fe_sqn(&e, &e, 5, 1);
    return fe_mul(e, a11);
}

/* a^((p - 5) / 8). (p - 5) / 8 = 2^252 - 3. */
INLINE void fe_pow_p58(fe *r, const fe *a, int pair)
{
    fe a11[2], e[2];
    fe_pow_2_250_1(e, a11, a, pair);
    fe_sqn(e, e, 2, pair);
    fe_mul_each(r, e, a, pair);
}

/* RFC 9496 section 4.2, SQRT_RATIO_M1: a root of u/v, or of SQRT_M1 * u/v where u/v has none; non-negative. Tells the
 * lanes where u/v has one. */
INLINE void fe_sqrt_ratio_each(fe *root, mask *was_square, const fe *u, const fe *v, int pair)
{
    const fe sqrt_m1 = FE_CONSTANT(SQRT_M1);
    fe uv3[2], uv7[2], power[2];
    for (int k = 0; k < pair; k++) {
        const fe v3 = fe_mul(fe_sq(v[k]), v[k]);
        uv3[k] = fe_mul(u[k], v3);
        uv7[k] = fe_mul(fe_mul(uv3[k], v3), v[k]);
    }
    fe_pow_p58(power, uv7, pair);
    for (int k = 0; k < pair; k++) {
        const fe r = fe_mul(uv3[k], power[k]);
        const words check = fe_freeze(fe_mul(v[k], fe_sq(r)));
        const fe minus_u = fe_carry(fe_neg(u[k]));
        const mask correct = words_equal(check, fe_freeze(u[k]));
        const mask flipped = words_equal(check, fe_freeze(minus_u));
        const mask flipped_i = words_equal(check, fe_freeze(fe_mul(minus_u, sqrt_m1)));
        root[k] = fe_abs(fe_select(m_or(flipped, flipped_i), fe_mul(r, sqrt_m1), r));
        was_square[k] = m_or(correct, flipped);
    }
}

static __attribute__((noinline)) mask fe_sqrt_ratio(fe *root, fe u, fe v)
{
    mask was_square;
    fe_sqrt_ratio_each(root, &was_square, &u, &v, 1);
    return was_square;
}

static __attribute__((noinline)) void fe_sqrt_ratio_pair(fe root[2], mask was_square[2], const fe u[2], const fe v[2])
{
    fe_sqrt_ratio_each(root, was_square, u, v, 2);
}
