/* Leaks on purpose, one way each, which tests/kernel/disassembly.py must find. */
#if defined(BACKEND_IFMA)
#pragma GCC target("avx512f,avx512ifma,avx512vl,avx512dq,avx512bw,tune=icelake-server")
#define KERNEL_IFMA
#else
#pragma GCC target("avx2,bmi2,tune=icelake-server")
#define KERNEL_AVX2
#endif
#include "operations.h"

/* A branch on a mask. */
__attribute__((noinline)) void point_mul_branching(point *r, const point *p, const digits *k)
{
    *r = *p;
    if (m_bits(v_equal(k->w[0], v_set1(0)))) point_double(r, r, 1);
}

/* A branch on a word that a vector was stored to. */
__attribute__((noinline)) void point_mul_skipping(point *r, const point *p, const digits *k)
{
    uint64_t lanes[LANES];
    v_store(lanes, v_and(k->w[1], v_set1(7)));
    *r = *p;
    for (uint64_t i = 0; i < lanes[2]; i++) point_double(r, r, 1);
}

/* An address that depends on a digit. */
__attribute__((noinline)) void point_mul_indexing(cached *r, const cached *table, const digits *k)
{
    uint64_t lanes[LANES];
    v_store(lanes, v_and(k->w[0], v_set1(7)));
    *r = table[lanes[0]];
}

/* The same with one instruction. */
__attribute__((noinline)) void point_mul_gathering(fe *r, const uint64_t *table, const digits *k)
{
    r->v[0] = v_gather(table, v_and(k->w[0], v_set1(7)));
}
