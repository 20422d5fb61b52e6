/* Nanoseconds and time-stamp cycles of each step of the kernel, an element, on one core; the table of docs/kernel.md.
 *
 * Built once for each backend by benchmarks/kernel/run.py. A figure is the least of many short measurements: what else the
 * machine does only adds. Results go into a volatile sum, so that no compiler leaves a step out.
 */
#define _GNU_SOURCE
#if defined(BACKEND_IFMA)
#pragma GCC target("avx512f,avx512ifma,avx512vl,avx512dq,avx512bw,tune=icelake-server")
#define KERNEL_IFMA
#elif defined(BACKEND_AVX2)
#pragma GCC target("avx2,bmi2,tune=icelake-server")
#define KERNEL_AVX2
#else
#define KERNEL_PORTABLE
#endif
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#define TICKS() ((double)__rdtsc())
#else
#define TICKS() 0.0
#endif

#include "operations.h"

void kernel_wipe(void *p, size_t size) { memset(p, 0, size); }

static volatile uint64_t sink;

static void use(fe a)
{
    uint64_t lanes[LANES];
    v_store(lanes, a.v[0]);
    sink += lanes[0];
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

#define ROUNDS 200
#define MEASURE(name, elements, times, step) do { \
        double ns = 1e30, ticks = 1e30; \
        for (int round = 0; round < ROUNDS; round++) { \
            const double n0 = now(), t0 = TICKS(); \
            for (int i = 0; i < (times); i++) { step; } \
            const double t1 = TICKS(), n1 = now(), count = (double)(times) * (double)(elements); \
            if ((n1 - n0) / count < ns) ns = (n1 - n0) / count; \
            if ((t1 - t0) / count < ticks) ticks = (t1 - t0) / count; \
        } \
        printf("%s\t%.2f\t%.1f\n", name, ns, ticks); \
    } while (0)

int main(void)
{
    static point points[VECTORS];
    static halved halves[VECTORS];
    static words encoded[VECTORS];
    static cached table[8];
    static fe a[4];
    vec h[8], w[16];
    digits k;
    niels base;
    op_prepare();
    base = niels_broadcast(&base_table[3][4]);
    for (int i = 0; i < 4; i++) k.w[i] = v_set1(0x9e3779b97f4a7c15u * (uint64_t)(i + 1) >> (i == 3 ? 4 : 0));
    for (int i = 0; i < 8; i++) h[i] = v_set1(SHA512_INITIAL[i]);
    for (int i = 0; i < 16; i++) w[i] = v_set1(SHA512_K[i]);
    a[0] = FE_CONSTANT(D);
    a[1] = FE_CONSTANT(BASE_X);
    a[2] = FE_CONSTANT(TWO_D);
    a[3] = FE_CONSTANT(SQRT_AD_MINUS_ONE);
    for (int i = 0; i < VECTORS; i++) {
        base_mul(&points[i], &k);
        k.w[0] = v_add(k.w[0], v_set1(0x1234567));
    }
    table_make(table, &points[0]);
    points_double_encode(encoded, points, VECTORS, halves);

    MEASURE("field multiplication, four side by side", 4 * LANES, 200,
            for (int j = 0; j < 4; j++) fe_multiply(&a[j], &a[j], &points[j].x));
    MEASURE("field squaring, four side by side", 4 * LANES, 200, for (int j = 0; j < 4; j++) fe_square(&a[j], &a[j]));
    MEASURE("field multiplication, one after the other", LANES, 400, fe_multiply(&a[0], &a[0], &a[1]));
    MEASURE("field squaring, one after the other", LANES, 400, fe_square(&a[0], &a[0]));
    MEASURE("doubling, without T", LANES, 100, point_double(&points[0], &points[0], 0));
    MEASURE("addition of a cached point, without T", LANES, 100, point_add(&points[0], &points[0], &table[3], m_from_bits(1), 0));
    MEASURE("addition of a point with Z = 1, with T", LANES, 100, point_add_niels(&points[0], &points[0], &base, m_from_bits(1), 1));
    MEASURE("selection from the table", LANES, 100, cached c; table_select(&c, table, k.w[0]); __asm__ volatile("" : : "r"(&c) : "memory"); k.w[0] = v_and(c.t2d.v[0], v_set1(7)));
    MEASURE("table of eight multiples", LANES, 20, table_make(table, &points[1]));
    MEASURE("multiplication of a point", LANES, 2, point_mul(&points[2], &points[2], &k));
    MEASURE("multiplication of the generator", LANES, 4, base_mul(&points[3], &k));
    MEASURE("decoding", LANES, 10, point_decode(&points[4], encoded[5]));
    MEASURE("encoding", LANES, 10, encoded[6] = point_encode(&points[6]));
    MEASURE("double and encode, one inversion for all", (size_t)VECTORS * LANES, 1, points_double_encode(encoded, points, VECTORS, halves));
    MEASURE("hashing to the group, two roots", LANES, 10, point_from_uniform(&points[7], encoded[8], encoded[9]));
    MEASURE("SHA-512, a block", LANES, 50, sha512_compress(h, w, m_from_bits(ALL_LANES)));
    use(points[0].x);
    use(points[2].x);
    use(points[3].x);
    use(points[4].x);
    use(points[7].x);
    use(a[3]);
    sink += (uint64_t)m_bits(v_equal(h[0], encoded[0].w[0]));
    return 0;
}
