/* Constant time by measurement: Welch's t-test over two classes of secrets, taken at random (Reparaz, Balasch, Verbauwhede,
 * "Dude, is my code constant time?", 2017).
 *
 *     dudect OPERATION SAMPLES [CPU]
 *
 * Class 0 is one secret, class 1 random ones. An operation passes if |t| stays below 4.5 in one of three runs of SAMPLES
 * samples; slow samples are cropped at several percentiles, since what else the machine does is slow, and the largest |t| of
 * all croppings counts. Exit code 1: it does not pass. Built once for each backend, as benchmarks/kernel/cycles.c is.
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
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "operations.h"

enum { POOL = 256, CROPS = 20 };

void kernel_wipe(void *p, size_t size)
{
    memset(p, 0, size);
    __asm__ volatile("" : : "r"(p) : "memory");
}

static uint64_t ticks(void)
{
#if defined(__x86_64__)
    unsigned aux;
    const uint64_t t = __rdtscp(&aux);
    _mm_lfence();
    return t;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

static uint64_t state = 0x9e3779b97f4a7c15u;
static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1du;
}

/* ---- What is measured: one vector, or 8 scalars, of secrets ------------------------------------------------------------ */

typedef struct { uint8_t scalars[LANES][32], wide[8][64], texts[LANES][64]; } secrets;
static secrets pool[2][POOL], now;
static point base_points[1];
static uint8_t out[64 * LANES];
static volatile uint64_t sink;

static void scalar_each(int with)
{
    scalar s[8], before[8], inverted[8];
    uint8_t rows[32 * 8];
    for (int i = 0; i < 8; i++) {
        s[i] = scalar_reduce(now.wide[i]);
        if (with) s[i] = scalar_product(s[i], scalar_difference(s[i], scalar_half(s[i])));
        scalar_store(rows + 32 * i, s[i]);
    }
    if (with) scalars_invert(inverted, rows, 8, before), sink += inverted[3].w[0];
    sink += s[0].w[0];
}

static void op_point(void)
{
    point r;
    const digits k = digits_load(now.scalars[0], 32, 0, LANES);
    point_mul(&r, base_points, &k);
    sink += m_bits(v_equal(r.x.v[0], v_set1(0)));
}

static void op_generator(void)
{
    point r;
    const digits k = digits_load(now.scalars[0], 32, 0, LANES);
    base_mul(&r, &k);
    sink += m_bits(v_equal(r.x.v[0], v_set1(0)));
}

static void op_scalars(void) { scalar_each(1); }

static void op_messages(void)
{
    static const uint8_t dst[] = "HashToGroup-test\x10";
    kernel_message inputs[LANES];
    for (int i = 0; i < LANES; i++) inputs[i] = (kernel_message){now.texts[i], 64};
    sink += (uint64_t)op_blind(out, now.scalars[0], inputs, LANES, (kernel_message){dst, sizeof dst - 1});
}

/* Leaks on purpose: a skipped multiplication for each zero bit of one byte of the first scalar. */
static void op_control(void)
{
    scalar s = scalar_load(now.scalars[0]);
    for (int bit = 0; bit < 8; bit++)
        if (now.scalars[0][0] >> bit & 1) s = scalar_montgomery(s, s);
    sink += s.w[0];
}

static const struct { const char *name; void (*run)(void); } operations[] = {
    {"point", op_point}, {"generator", op_generator}, {"scalars", op_scalars}, {"messages", op_messages}, {"control", op_control},
};

static void make_secrets(secrets *s)
{
    uint8_t wide[64];
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 64; i++) wide[i] = (uint8_t)(draw() >> 56), s->texts[lane][i] = (uint8_t)(draw() >> 56);
        scalar_store(s->scalars[lane], scalar_reduce(wide));
    }
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 64; i++) s->wide[j][i] = (uint8_t)(draw() >> 56);
}

/* Class 0: scalars with few digits that are not zero, texts and wide values of equal bytes. */
static void make_fixed(secrets *s)
{
    memset(s, 0, sizeof *s);
    for (int lane = 0; lane < LANES; lane++) s->scalars[lane][0] = 2;
}

/* ---- Statistics --------------------------------------------------------------------------------------------------------- */

typedef struct { double n[2], mean[2], square[2]; } welch;

static void welch_add(welch *w, int class, double x)
{
    const double d = x - w->mean[class];
    w->n[class]++;
    w->mean[class] += d / w->n[class];
    w->square[class] += d * (x - w->mean[class]);
}

static double welch_t(const welch *w)
{
    if (w->n[0] < 100 || w->n[1] < 100) return 0;
    const double v0 = w->square[0] / (w->n[0] - 1) / w->n[0], v1 = w->square[1] / (w->n[1] - 1) / w->n[1];
    return v0 + v1 > 0 ? (w->mean[0] - w->mean[1]) / sqrt(v0 + v1) : 0;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double run(void (*operation)(void), long samples)
{
    welch all[CROPS + 1] = {0};
    double crops[CROPS], largest = 0;
    const long first = samples / 20 < 5000 ? samples / 4 : samples / 20;
    double *measured = malloc((size_t)first * sizeof *measured);
    for (long i = -first; i < samples; i++) {
        const uint64_t choice = draw();
        const int class = (int)(choice & 1);
        memcpy(&now, &pool[class][choice >> 8 & (POOL - 1)], sizeof now);
        const uint64_t t0 = ticks();
        operation();
        const double x = (double)(ticks() - t0);
        if (i < 0) {
            measured[i + first] = x;
            continue;
        }
        if (i == 0) {
            qsort(measured, (size_t)first, sizeof *measured, ascending);
            for (int c = 0; c < CROPS; c++) crops[c] = measured[(size_t)((1 - pow(0.5, 10.0 * (c + 1) / CROPS)) * (double)(first - 1))];
        }
        welch_add(&all[CROPS], class, x);
        for (int c = 0; c < CROPS; c++)
            if (x <= crops[c]) welch_add(&all[c], class, x);
    }
    free(measured);
    for (int c = 0; c <= CROPS; c++)
        if (fabs(welch_t(&all[c])) > fabs(largest)) largest = welch_t(&all[c]);
    return largest;
}

int main(int argc, char **argv)
{
    const long samples = argc > 2 ? atol(argv[2]) : 0;
    void (*operation)(void) = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof operations / sizeof *operations; i++)
        if (!strcmp(argv[1], operations[i].name)) operation = operations[i].run;
    if (!operation || samples < 1000) {
        fprintf(stderr, "usage: dudect point|generator|scalars|messages|control SAMPLES [CPU]; at least 1000 samples\n");
        return 2;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(argc > 3 ? atoi(argv[3]) : 0, &one);
    if (sched_setaffinity(0, sizeof one, &one)) fprintf(stderr, "not pinned to a processor\n");
    op_prepare();
    base_points[0] = (point){FE_CONSTANT(BASE_X), FE_CONSTANT(BASE_Y), FE_CONSTANT(ONE), FE_CONSTANT(BASE_T)};
    for (int i = 0; i < POOL; i++) {
        make_fixed(&pool[0][i]);
        make_secrets(&pool[1][i]);
    }
    for (int attempt = 1; attempt <= 3; attempt++) {
        const double t = run(operation, samples);
        printf("%s: run %d of %ld samples: t = %.2f%s\n", argv[1], attempt, samples, t, fabs(t) < 4.5 ? "" : "  (4.5 or more)");
        fflush(stdout);
        if (fabs(t) < 4.5) return 0;
    }
    return 1;
}
