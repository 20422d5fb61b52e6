/* Constant time by valgrind: secrets are marked as uninitialised, so that memcheck reports every branch and every address that
 * depends on them (Langley's ctgrind, 2010).
 *
 *     valgrind ./uninitialised BACKEND [control]
 *
 * Exit code 1 if memcheck found something; with `control` a function that leaks on purpose is run, which must be found.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "kernel.h"
#include "scalar.h"

void kernel_wipe(void *p, size_t size) { memset(p, 0, size); }

enum { N = 37, UNIFORM = 64 };

static uint8_t scalars[32 * N], inverses[32 * N], wide[64 * N], elements[32 * N], out[64 * N], derived[64 * N], texts[N][100];
static kernel_message inputs[N];
static const uint8_t dst[] = "HashToGroup-test\x10";

#define SECRET(x) (void)VALGRIND_MAKE_MEM_UNDEFINED(x, sizeof x)
#define PUBLIC(x) (void)VALGRIND_MAKE_MEM_DEFINED(x, sizeof x)

static unsigned found;

/* A call whose answer is public: what it computed is so after it was counted. */
#define CHECK(name, call) do { \
        const unsigned before = VALGRIND_COUNT_ERRORS; \
        call; \
        PUBLIC(out); PUBLIC(derived); \
        const unsigned errors = VALGRIND_COUNT_ERRORS - before; \
        printf("%-32s %s\n", name, errors ? "depends on a secret" : "no branch or address depends on a secret"); \
        found += errors; \
    } while (0)

static void leak(void)
{
    static const uint8_t table[256] = {1};
    out[0] = table[scalars[3]];
    if (scalars[5] & 1) out[1] = 1;
}

static void scalar_arithmetic(void)
{
    static scalar results[N], before[N];
    for (int i = 0; i < N; i++) {
        const scalar a = scalar_load(scalars + 32 * i), b = scalar_load(inverses + 32 * i);
        scalar_store(out, scalar_reduce(wide + 64 * i));
        scalar_store(out, scalar_product(a, b));
        scalar_store(out, scalar_difference(a, b));
        scalar_store(out, scalar_digits(scalar_half(a)));
        scalar_store(out, scalar_inverse(a));
        out[0] = (uint8_t)scalar_valid(a, 0);
    }
    scalars_invert(results, scalars, N, before);
}

int main(int argc, char **argv)
{
    const kernel *k = argc > 1 && !strcmp(argv[1], "portable") ? &kernel_portable : NULL;
#if defined(__x86_64__)
    if (argc > 1 && !strcmp(argv[1], "avx2")) k = &kernel_avx2;
#endif
    if (!k || !k->supported()) {
        fprintf(stderr, "no such backend, or not on this processor\n");
        return 2;
    }
    if (!RUNNING_ON_VALGRIND) {
        fprintf(stderr, "to be run by valgrind\n");
        return 2;
    }
    k->prepare();
    srand(1);
    for (size_t i = 0; i < sizeof wide; i++) wide[i] = (uint8_t)rand();
    for (int i = 0; i < N; i++) {
        scalar_store(scalars + 32 * i, scalar_reduce(wide + 64 * i));
        scalar_store(inverses + 32 * i, scalar_inverse(scalar_load(scalars + 32 * i)));
        for (int j = 0; j < 100; j++) texts[i][j] = (uint8_t)rand();
        inputs[i] = (kernel_message){texts[i], (size_t)(i * 3 % 100)};
    }
    if (k->hash_to_group(elements, wide, N)) return 2;

    SECRET(scalars);
    SECRET(inverses);
    SECRET(texts);
    SECRET(wide);
    if (argc > 2) CHECK("control, which leaks", leak());
    CHECK("multiplication, one scalar", k->multiply(out, scalars, 0, elements, N));
    CHECK("multiplication, a scalar each", k->multiply(out, scalars, 32, elements, N));
    CHECK("multiplication of the generator", k->multiply_base(out, scalars, N));
    CHECK("hashing to the group", k->hash_to_group(out, wide, N));
    CHECK("blind", k->blind(out, scalars, inputs, N, (kernel_message){dst, sizeof dst - 1}));
    CHECK("finalize", k->finalize(out, inverses, elements, inputs, N));
    CHECK("evaluate", k->evaluate(out, derived, scalars, inputs, N, (kernel_message){dst, sizeof dst - 1}, (kernel_message){dst, 5}));
    CHECK("hashes of rows", k->sha512(out, (kernel_message){dst, 9}, texts[0], 100, (kernel_message){dst, 5}, N));
    CHECK("scalar arithmetic", scalar_arithmetic());
    return found ? 1 : 0;
}
