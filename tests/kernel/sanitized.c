/* Every operation of every backend under AddressSanitizer and UndefinedBehaviorSanitizer, at sizes around a vector and a chunk
 * and with valid, invalid and odd inputs in buffers of exactly their size; backends must agree with each other.
 *
 *     sanitized [SECONDS]     goes on with random sizes and bytes for so long (default 0)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel.h"
#include "scalar.h"

void kernel_wipe(void *p, size_t size) { memset(p, 0, size); }

static const kernel *backends[3];
static int backend_count;
static uint64_t state = 88172645463325252u;

static uint8_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint8_t)(state >> 32);
}

static uint8_t *bytes(size_t size)
{
    uint8_t *p = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++) p[i] = draw();
    return p;
}

/* Runs a call on every backend; all must give the same status and, if they take the input, the same output. */
#define AGREE(title, size, call) do { \
        uint8_t *first = NULL; \
        int status = 0; \
        for (int b = 0; b < backend_count; b++) { \
            const kernel *k = backends[b]; \
            uint8_t *out = bytes(size); \
            const int got = call; \
            if (b == 0) { \
                status = got; \
                first = out; \
                continue; \
            } \
            if (got != status || (!got && memcmp(first, out, size))) { \
                fprintf(stderr, "%s: %s disagrees with %s at n = %zu\n", title, k->name, backends[0]->name, n); \
                exit(1); \
            } \
            free(out); \
        } \
        free(first); \
    } while (0)

static void try_size(size_t n, size_t message_size)
{
    static const uint8_t dst[] = "HashToGroup-test\x10", label[] = "label", one[] = {1};
    uint8_t *uniform = bytes(64 * n), *scalars = bytes(32 * n), *elements = malloc(32 * n), *other = malloc(32 * n), *raw = bytes(32 * n);
    uint8_t **texts = malloc(n * sizeof *texts), *rows = bytes(n * (message_size + 1));
    kernel_message *inputs = malloc(n * sizeof *inputs);
    const kernel_message tag = {dst, sizeof dst - 1}, named = {label, 5}, unit = {one, 1};
    for (size_t i = 0; i < n; i++) {
        scalar_store(scalars + 32 * i, scalar_reduce(uniform + 64 * i));
        const size_t size = i % 3 ? message_size : draw() % (message_size + 1);
        texts[i] = bytes(size);
        inputs[i] = (kernel_message){texts[i], size};
    }
    backends[0]->hash_to_group(elements, uniform, n);
    backends[0]->multiply(other, scalars, 32, elements, n);
    AGREE("hash_to_group", 32 * n, k->hash_to_group(out, uniform, n));
    AGREE("multiply by one", 32 * n, k->multiply(out, scalars, 0, elements, n));
    AGREE("multiply", 32 * n, k->multiply(out, scalars, 32, elements, n));
    AGREE("multiply_base", 32 * n, k->multiply_base(out, scalars, n));
    AGREE("add", 32 * n, k->add(out, elements, other, 0, n));
    AGREE("subtract", 32 * n, k->add(out, elements, elements, 1, n));
    AGREE("check", 0, k->check(elements, n));
    AGREE("weighted_sum", 32, k->weighted_sum(out, scalars, elements, n));
    AGREE("sha512", 64 * n, k->sha512(out, named, rows, message_size + 1, unit, n));
    AGREE("blind", 32 * n, k->blind(out, scalars, inputs, n, tag));
    AGREE("finalize", 64 * n, k->finalize(out, scalars, elements, inputs, n));
    AGREE("evaluate", 64 * n, k->evaluate(out, NULL, scalars, inputs, n, tag, named));
    AGREE("evaluate and derive", 128 * n, k->evaluate(out, out + 64 * n, scalars, inputs, n, tag, named));
    /* Random bytes, of which about one in 32 is an encoding; zeros; all ones; a valid one with its top bit. */
    AGREE("check what is none", 0, k->check(raw, n));
    for (size_t i = 0; i < n; i++) {
        raw[32 * i] &= 0xfe;
        raw[32 * i + 31] &= 0x7f;
        AGREE("check one", 0, k->check(raw + 32 * i, 1));
    }
    AGREE("add what is none", 32 * n, k->add(out, raw, elements, 0, n));
    const size_t bad = draw() % n;
    for (int kind = 0; kind < 3; kind++) {
        memcpy(raw, elements, 32 * n);
        if (kind == 2) raw[32 * bad + 31] |= 0x80;
        else memset(raw + 32 * bad, kind ? 0xff : 0, 32);
        AGREE("multiply, one bad", 32 * n, k->multiply(out, scalars, 32, raw, n));
        AGREE("weighted_sum, one bad", 32, k->weighted_sum(out, scalars, raw, n));
        AGREE("finalize, one bad", 64 * n, k->finalize(out, scalars, raw, inputs, n));
        AGREE("add, one bad or zero", 32 * n, k->add(out, raw, elements, 0, n));
    }
    scalar *results = malloc(n * sizeof *results), *before = malloc(n * sizeof *before);
    scalars_invert(results, scalars, n, before);
    for (size_t i = 0; i < n; i++) {
        const scalar product = scalar_product(results[i], scalar_load(scalars + 32 * i));
        if (product.w[0] != 1 || (product.w[1] | product.w[2] | product.w[3])) {
            fprintf(stderr, "an inverse is none\n");
            exit(1);
        }
    }
    for (size_t i = 0; i < n; i++) free(texts[i]);
    free(results);
    free(before);
    free(texts);
    free(inputs);
    free(rows);
    free(uniform);
    free(scalars);
    free(elements);
    free(other);
    free(raw);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 513};
    static const size_t texts[] = {0, 1, 54, 79, 80, 110, 111, 112, 113, 127, 128, 129, 300};
    const kernel *all[] = {
#if defined(__x86_64__)
        &kernel_ifma, &kernel_avx2,
#endif
        &kernel_portable,
    };
    const double until = argc > 1 ? atof(argv[1]) : 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->supported()) {
            all[i]->prepare();
            backends[backend_count++] = all[i];
        }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) try_size(sizes[i], texts[i % (sizeof texts / sizeof *texts)]);
    try_size(9, 65535);
    long rounds = 0;
    for (const time_t begun = time(NULL); difftime(time(NULL), begun) < until; rounds++)
        try_size(1 + (size_t)draw() % 40, (size_t)draw() % 250);
    printf("%d backends agree; %ld random rounds\n", backend_count, rounds);
    return 0;
}
