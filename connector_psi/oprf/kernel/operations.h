/* The operations of kernel.h over the lanes of field.h; included once by each backend's translation unit.
 *
 * A batch is worked on in chunks of VECTORS vectors, so that an inversion is shared among that many and scratch memory stays
 * in the second cache. The last vector repeats the last element, so that every lane always holds valid data.
 */
#pragma once

#include <stdlib.h>

#include "group.h"
#include "kernel.h"
#include "scalar.h"
#include "sha512.h"

#if LANES == 1
#define VECTORS 64
#else
#define VECTORS 32
#endif
#define CHUNK ((size_t)VECTORS * LANES)

typedef struct {
    point points[VECTORS];
    halved halves[VECTORS];
    words encoded[VECTORS];
    digits scalars[VECTORS];
    uint8_t elements[CHUNK * 32];
} workspace;

/* The state after Z_pad, one block of zeros (RFC 9380 section 5.3.1); set by prepare. */
static sha512_state expand_start, sha512_start;

static workspace *workspace_new(void)
{
    void *p = NULL;
    return posix_memalign(&p, 64, sizeof(workspace)) ? NULL : p;
}

/* Registers and spilled values of the functions that have returned lie on the stack below. */
static __attribute__((noinline)) void wipe_stack(void)
{
    uint8_t area[48 * 1024];
    kernel_wipe(area, sizeof area);
}

static void workspace_end(workspace *ws)
{
    if (ws) kernel_wipe(ws, sizeof *ws);
    free(ws);
    wipe_stack();
}

INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Elements at, at + 1, ... of packed rows, the last one repeated. */
INLINE words words_load(const uint8_t *rows, size_t step, size_t at, size_t n)
{
    uint64_t w[4][LANES];
    words r;
    for (size_t lane = 0; lane < LANES; lane++) {
        const uint8_t *row = rows + step * least(at + lane, n - 1);
        for (int i = 0; i < 4; i++) memcpy(&w[i][lane], row + 8 * i, 8);
    }
    for (int i = 0; i < 4; i++) r.w[i] = v_load(w[i]);
    return r;
}

INLINE void words_store(uint8_t *out, words a, size_t at, size_t n)
{
    uint64_t w[4][LANES];
    for (int i = 0; i < 4; i++) v_store(w[i], a.w[i]);
    for (size_t lane = 0; lane < LANES && at + lane < n; lane++)
        for (int i = 0; i < 4; i++) memcpy(out + 32 * (at + lane) + 8 * i, &w[i][lane], 8);
}

/* Signed digits of half of each scalar: the points that they multiply are doubled again as they are encoded. */
static digits digits_load(const uint8_t *scalars, size_t step, size_t at, size_t n)
{
    uint8_t rows[32 * LANES];
    for (size_t lane = 0; lane < LANES; lane++)
        scalar_store(rows + 32 * lane, scalar_digits(scalar_half(scalar_load(scalars + step * least(at + lane, n - 1)))));
    return words_load(rows, 32, 0, LANES);
}

/* The encodings of 2p for n points of a workspace, zeros refused. */
static int encode_doubled(uint8_t *out, workspace *ws, size_t n)
{
    const size_t vectors = (n + LANES - 1) / LANES;
    mask zero = m_from_bits(0);
    points_double_encode(ws->encoded, ws->points, vectors, ws->halves);
    for (size_t v = 0; v < vectors; v++) {
        zero = m_or(zero, words_zero(ws->encoded[v]));
        words_store(out, ws->encoded[v], v * LANES, n);
    }
    unsigned refused = m_bits(zero);
    KERNEL_DECLASSIFY(&refused, sizeof refused);
    return refused ? KERNEL_BAD_ELEMENT : KERNEL_OK;
}

/* Elements of a peer: every encoding is checked, the identity is refused unless it is allowed. */
INLINE int decode(point *p, const uint8_t *elements, size_t at, size_t n, int identity_allowed)
{
    const words in = words_load(elements, 32, at, n);
    mask good = point_decode(p, in);
    if (!identity_allowed) good = m_and(good, m_not(words_zero(in)));
    return m_bits(good) == ALL_LANES ? KERNEL_OK : KERNEL_BAD_ELEMENT;
}

INLINE int decode_pair(point p[2], const uint8_t *elements, size_t at, size_t n)
{
    const words in[2] = {words_load(elements, 32, at, n), words_load(elements, 32, at + LANES, n)};
    mask good[2];
    point_decode_pair(p, good, in);
    const mask both = m_and(m_and(good[0], m_not(words_zero(in[0]))), m_and(good[1], m_not(words_zero(in[1]))));
    return m_bits(both) == ALL_LANES ? KERNEL_OK : KERNEL_BAD_ELEMENT;
}

static int op_hash_to_group(uint8_t *out, const uint8_t *uniform, size_t n)
{
    for (size_t at = 0; at < n; at += LANES) {
        point p;
        point_from_uniform(&p, words_load(uniform, 64, at, n), words_load(uniform + 32, 64, at, n));
        words_store(out, point_encode(&p), at, n);
    }
    wipe_stack();
    return KERNEL_OK;
}

static int op_multiply(uint8_t *out, const uint8_t *scalars, size_t scalar_step, const uint8_t *elements, size_t n)
{
    workspace *ws = workspace_new();
    int status = ws ? KERNEL_OK : KERNEL_NO_MEMORY;
    for (size_t at = 0; at < n && !status; at += CHUNK) {
        const size_t end = least(n, at + CHUNK), vectors = (end - at + LANES - 1) / LANES;
        size_t v = 0;
        for (; v + 2 <= vectors && !status; v += 2) status = decode_pair(&ws->points[v], elements, at + v * LANES, end);
        if (v < vectors && !status) status = decode(&ws->points[v], elements, at + v * LANES, end, 0);
        if (status) break;
        for (v = 0; v < vectors; v++) {
            ws->scalars[v] = digits_load(scalars, scalar_step, at + v * LANES, end);
            point_mul(&ws->points[v], &ws->points[v], &ws->scalars[v]);
        }
        status = encode_doubled(out + 32 * at, ws, end - at);
    }
    workspace_end(ws);
    return status;
}

static int op_multiply_base(uint8_t *out, const uint8_t *scalars, size_t n)
{
    workspace *ws = workspace_new();
    int status = ws ? KERNEL_OK : KERNEL_NO_MEMORY;
    for (size_t at = 0; at < n && !status; at += CHUNK) {
        const size_t end = least(n, at + CHUNK);
        for (size_t v = 0; at + v * LANES < end; v++) {
            ws->scalars[v] = digits_load(scalars, 32, at + v * LANES, end);
            base_mul(&ws->points[v], &ws->scalars[v]);
        }
        status = encode_doubled(out + 32 * at, ws, end - at);
    }
    workspace_end(ws);
    return status;
}

static int op_add(uint8_t *out, const uint8_t *a, const uint8_t *b, int subtract, size_t n)
{
    int status = KERNEL_OK;
    for (size_t at = 0; at < n && !status; at += LANES) {
        point p, q;
        status = decode(&p, a, at, n, 1) | decode(&q, b, at, n, 1);
        if (status) break;
        const cached c = point_cache(q);
        point_add(&p, &p, &c, m_from_bits(subtract ? ALL_LANES : 0), 1);
        words_store(out, point_encode(&p), at, n);
    }
    return status ? KERNEL_BAD_ELEMENT : KERNEL_OK;
}

static int op_check(const uint8_t *elements, size_t n)
{
    int status = KERNEL_OK;
    for (size_t at = 0; at < n && !status; at += 2 * LANES) {
        point p[2];
        status = at + LANES < n ? decode_pair(p, elements, at, n) : decode(p, elements, at, n, 0);
    }
    return status;
}

/* ---- The sum of weighted elements; everything here is public --------------------------------------------------------- */

/* Pippenger's buckets (Bernstein, Doumen, Lange, Oosterwijk, "Faster batch forgery identification", 2012, section 4), a
 * window of the scalars in each lane: lane l of group g holds window l * groups + g, so that the lanes of a group meet the
 * same element with digits of their own. A bucket lies in one lane's own rows of memory, one point after the other. */
#define POINT_WORDS (4 * LIMBS)
#define NIELS_WORDS (3 * LIMBS)

typedef struct {
    size_t bits, groups, buckets; /* of a window; vectors of windows; most a digit can be */
} windows;

static windows windows_for(size_t n)
{
    windows best = {0};
    size_t least_cost = SIZE_MAX;
    for (size_t bits = 3; bits <= 13; bits++) {
        /* 254 bits: a carry comes out of bit 252. */
        const size_t groups = (254 / bits + 1 + LANES - 1) / LANES, buckets = (size_t)1 << (bits - 1);
        const size_t cost = groups * (2 * n + 3 * buckets);
        if (cost < least_cost) {
            least_cost = cost;
            best = (windows){bits, groups, buckets};
        }
    }
    return best;
}

/* Signed digits, from -buckets to buckets, least significant first. */
static void window_digits(int16_t *out, const uint8_t *bytes, windows win)
{
    const scalar s = scalar_load(bytes);
    int64_t carry = 0;
    for (size_t w = 0; w < win.groups * LANES; w++) {
        const size_t bit = w * win.bits;
        uint64_t chunk = 0;
        if (bit < 256) {
            chunk = s.w[bit / 64] >> (bit % 64);
            if (bit % 64 + win.bits > 64 && bit / 64 < 3) chunk |= s.w[bit / 64 + 1] << (64 - bit % 64);
        }
        int64_t digit = (int64_t)(chunk & (((uint64_t)1 << win.bits) - 1)) + carry;
        carry = digit > (int64_t)win.buckets;
        digit -= carry << win.bits;
        out[w] = (int16_t)digit;
    }
}

INLINE point point_gather(const uint64_t *rows, vec index)
{
    point p;
    fe *coordinates[4] = {&p.x, &p.y, &p.z, &p.t};
    for (int c = 0; c < 4; c++)
        for (int i = 0; i < LIMBS; i++) coordinates[c]->v[i] = v_gather(rows + c * LIMBS + i, index);
    return p;
}

INLINE void point_scatter(uint64_t *rows, vec index, const point *p)
{
    const fe *coordinates[4] = {&p->x, &p->y, &p->z, &p->t};
    for (int c = 0; c < 4; c++)
        for (int i = 0; i < LIMBS; i++) v_scatter(rows + c * LIMBS + i, index, coordinates[c]->v[i]);
}

/* Row `bucket` of each lane, in words from the beginning. */
INLINE vec bucket_index(const uint64_t bucket[LANES])
{
    uint64_t at[LANES];
    for (size_t lane = 0; lane < LANES; lane++) at[lane] = (bucket[lane] * LANES + lane) * POINT_WORDS;
    return v_load(at);
}

static __attribute__((noinline)) point sum_buckets(uint64_t *rows, windows win)
{
    point running = point_identity(), sum = running, bucket;
    for (size_t b = win.buckets; b > 0; b--) {
        uint64_t each[LANES];
        for (int lane = 0; lane < LANES; lane++) each[lane] = b;
        bucket = point_gather(rows, bucket_index(each));
        point_add_points(&running, &running, &bucket);
        point_add_points(&sum, &sum, &running);
    }
    return sum;
}

static __attribute__((noinline)) void fill_buckets(uint64_t *rows, windows win, size_t group, const niels_lane *elements, const int16_t *digit, size_t n)
{
    const point identity = point_identity();
    uint64_t each[LANES];
    for (size_t b = 0; b <= win.buckets; b++) {
        for (int lane = 0; lane < LANES; lane++) each[lane] = b;
        point_scatter(rows, bucket_index(each), &identity);
    }
    for (size_t i = 0; i < n; i++) {
        const int16_t *own = digit + i * win.groups * LANES + group;
        unsigned negative = 0;
        for (size_t lane = 0; lane < LANES; lane++) {
            const int d = own[lane * win.groups];
            negative |= (unsigned)(d < 0) << lane;
            each[lane] = (uint64_t)(d < 0 ? -d : d); /* row 0 takes what counts nothing */
        }
        const vec index = bucket_index(each);
        const niels q = niels_broadcast(&elements[i]);
        point p = point_gather(rows, index);
        point_add_niels(&p, &p, &q, m_from_bits(negative), 1);
        point_scatter(rows, index, &p);
    }
}

INLINE point point_broadcast(const point *p, size_t lane)
{
    uint64_t rows[LANES];
    point r;
    const fe *from[4] = {&p->x, &p->y, &p->z, &p->t};
    fe *to[4] = {&r.x, &r.y, &r.z, &r.t};
    for (int c = 0; c < 4; c++)
        for (int i = 0; i < LIMBS; i++) {
            v_store(rows, from[c]->v[i]);
            to[c]->v[i] = v_set1(rows[lane]);
        }
    return r;
}

static int op_weighted_sum(uint8_t out[32], const uint8_t *scalars, const uint8_t *elements, size_t n)
{
    const windows win = windows_for(n);
    const size_t padded = (n + LANES - 1) / LANES * LANES, columns = win.groups * LANES;
    niels_lane *points = malloc(padded * sizeof *points);
    int16_t *digit = malloc(n * columns * sizeof *digit);
    uint64_t *rows = malloc((win.buckets + 1) * LANES * POINT_WORDS * sizeof *rows);
    int status = points && digit && rows ? KERNEL_OK : KERNEL_NO_MEMORY;
    for (size_t at = 0; at < n && !status; at += LANES) {
        point p;
        uint64_t lanes[3][LIMBS][LANES];
        status = decode(&p, elements, at, n, 0);
        const fe parts[3] = {fe_carry(fe_add(p.y, p.x)), fe_carry(fe_sub(p.y, p.x)), fe_mul(p.t, FE_CONSTANT(TWO_D))};
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < LIMBS; i++) v_store(lanes[c][i], parts[c].v[i]);
        for (size_t lane = 0; lane < LANES; lane++)
            for (int i = 0; i < LIMBS; i++) {
                points[at + lane].ypx[i] = lanes[0][i][lane];
                points[at + lane].ymx[i] = lanes[1][i][lane];
                points[at + lane].t2d[i] = lanes[2][i][lane];
            }
    }
    if (!status) {
        point sum = point_identity(), window;
        for (size_t i = 0; i < n; i++) window_digits(digit + i * columns, scalars + 32 * i, win);
        for (size_t group = win.groups; group-- > 0;) {
            for (size_t i = 0; i < win.bits && group + 1 < win.groups; i++) point_double(&sum, &sum, 1);
            fill_buckets(rows, win, group, points, digit, n);
            window = sum_buckets(rows, win);
            point_add_points(&sum, &sum, &window);
        }
        /* Lane l counts 2^(bits * groups * l) times. */
        point total = point_broadcast(&sum, LANES - 1);
        for (size_t lane = LANES - 1; lane-- > 0;) {
            for (size_t i = 0; i < win.bits * win.groups; i++) point_double(&total, &total, 1);
            window = point_broadcast(&sum, lane);
            point_add_points(&total, &total, &window);
        }
        words_store(out, point_encode(&total), 0, 1);
    }
    free(points);
    free(digit);
    free(rows);
    return status;
}

/* ---- Hashes, and RFC 9497 on batches --------------------------------------------------------------------------------- */

static int op_sha512(uint8_t *out, kernel_message prefix, const uint8_t *rows, size_t row_size, kernel_message suffix, size_t n)
{
    const size_t whole = prefix.size / 128 * 128;
    const sha512_state start = sha512_begin(prefix.bytes, whole);
    for (size_t at = 0; at < n; at += LANES) {
        part parts[LANES][3];
        message m[LANES] = {0};
        uint8_t digests[64 * LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            parts[lane][0] = (part){prefix.bytes + whole, prefix.size - whole};
            parts[lane][1] = (part){rows + row_size * least(at + lane, n - 1), row_size};
            parts[lane][2] = (part){suffix.bytes, suffix.size};
            m[lane] = (message){.parts = parts[lane], .count = 3, .before = whole};
        }
        sha512_lanes(digests, &start, m);
        memcpy(out + 64 * at, digests, 64 * least(LANES, n - at));
    }
    wipe_stack();
    return KERNEL_OK;
}

/* expand_message_xmd (RFC 9380 section 5.3.1) for 64 bytes of output: b_1 alone, 64 bytes a lane. */
static void expand(uint8_t *uniform, const kernel_message *inputs, size_t at, size_t n, kernel_message dst)
{
    uint8_t first[64 * LANES], tail[3 + 256] = {0, 64, 0}; /* the length that is asked for, the counter of b_0, DST_prime */
    part parts[LANES][2];
    message m[LANES];
    const size_t size = least(dst.size, 256); /* it is never longer */
    memcpy(tail + 3, dst.bytes, size);
    for (size_t lane = 0; lane < LANES; lane++) {
        const kernel_message *input = &inputs[least(at + lane, n - 1)];
        parts[lane][0] = (part){input->bytes, input->size};
        parts[lane][1] = (part){tail, 3 + size};
        m[lane] = (message){.parts = parts[lane], .count = 2, .before = 128};
    }
    sha512_lanes(first, &expand_start, m);
    tail[2] = 1; /* the counter of b_1 */
    for (size_t lane = 0; lane < LANES; lane++) {
        parts[lane][0] = (part){first + 64 * lane, 64};
        parts[lane][1] = (part){tail + 2, 1 + size};
        m[lane] = (message){.parts = parts[lane], .count = 2};
    }
    sha512_lanes(uniform, &sha512_start, m);
}

static void hash_to_point(point *p, const kernel_message *inputs, size_t at, size_t n, kernel_message dst)
{
    uint8_t uniform[64 * LANES];
    expand(uniform, inputs, at, n, dst);
    point_from_uniform(p, words_load(uniform, 64, 0, LANES), words_load(uniform + 32, 64, 0, LANES));
}

/* Hash(lp(input) || lp(element) || "Finalize"), RFC 9497 section 3.3.1. */
static void finalize_outputs(uint8_t *out, const uint8_t *elements, const kernel_message *inputs, size_t n)
{
    uint8_t ends[LANES][42]; /* lp(element) || "Finalize" */
    for (size_t lane = 0; lane < LANES; lane++) {
        memcpy(ends[lane], (const uint8_t[2]){0, 32}, 2);
        memcpy(ends[lane] + 34, "Finalize", 8);
    }
    for (size_t at = 0; at < n; at += LANES) {
        part parts[LANES][3];
        message m[LANES];
        uint8_t sizes[LANES][2], digests[64 * LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            const size_t i = least(at + lane, n - 1);
            sizes[lane][0] = (uint8_t)(inputs[i].size >> 8);
            sizes[lane][1] = (uint8_t)inputs[i].size;
            parts[lane][0] = (part){sizes[lane], 2};
            parts[lane][1] = (part){inputs[i].bytes, inputs[i].size};
            memcpy(ends[lane] + 2, elements + 32 * i, 32);
            parts[lane][2] = (part){ends[lane], 42};
            m[lane] = (message){.parts = parts[lane], .count = 3};
        }
        sha512_lanes(digests, &sha512_start, m);
        memcpy(out + 64 * at, digests, 64 * least(LANES, n - at));
    }
}

static int op_blind(uint8_t *out, const uint8_t *scalars, const kernel_message *inputs, size_t n, kernel_message dst)
{
    workspace *ws = workspace_new();
    int status = ws ? KERNEL_OK : KERNEL_NO_MEMORY;
    for (size_t at = 0; at < n && !status; at += CHUNK) {
        const size_t end = least(n, at + CHUNK);
        for (size_t v = 0; at + v * LANES < end; v++) {
            hash_to_point(&ws->points[v], inputs, at + v * LANES, end, dst);
            ws->scalars[v] = digits_load(scalars, 32, at + v * LANES, end);
            point_mul(&ws->points[v], &ws->points[v], &ws->scalars[v]);
        }
        status = encode_doubled(out + 32 * at, ws, end - at);
    }
    workspace_end(ws);
    return status;
}

static int op_finalize(uint8_t *out, const uint8_t *scalars, const uint8_t *elements, const kernel_message *inputs, size_t n)
{
    workspace *ws = workspace_new();
    int status = ws ? KERNEL_OK : KERNEL_NO_MEMORY;
    for (size_t at = 0; at < n && !status; at += CHUNK) {
        const size_t count = least(CHUNK, n - at);
        status = op_multiply(ws->elements, scalars + 32 * at, 32, elements + 32 * at, count);
        if (!status) finalize_outputs(out + 64 * at, ws->elements, inputs + at, count);
    }
    workspace_end(ws);
    return status;
}

static int op_evaluate(uint8_t *out, uint8_t *derived, const uint8_t scalar_bytes[32], const kernel_message *inputs, size_t n,
                       kernel_message dst, kernel_message label)
{
    static const uint8_t first[4] = {0};
    workspace *ws = workspace_new();
    int status = ws ? KERNEL_OK : KERNEL_NO_MEMORY;
    digits k;
    if (ws) k = digits_load(scalar_bytes, 0, 0, 1);
    for (size_t at = 0; at < n && !status; at += CHUNK) {
        const size_t count = least(CHUNK, n - at);
        for (size_t v = 0; v * LANES < count; v++) {
            hash_to_point(&ws->points[v], inputs + at, v * LANES, count, dst);
            point_mul(&ws->points[v], &ws->points[v], &k);
        }
        status = encode_doubled(ws->elements, ws, count);
        if (!status) finalize_outputs(out + 64 * at, ws->elements, inputs + at, count);
        if (!status && derived)
            op_sha512(derived + 64 * at, label, out + 64 * at, 64, (kernel_message){first, 4}, count);
    }
    if (ws) kernel_wipe(&k, sizeof k);
    workspace_end(ws);
    return status;
}

static void op_prepare(void)
{
    static const uint8_t zeros[128];
    sha512_start = sha512_begin(zeros, 0);
    expand_start = sha512_begin(zeros, 128);
    base_table_make();
}

#define KERNEL(symbol, title) \
    const kernel symbol = { \
        .name = title, .lanes = LANES, .supported = supported, .prepare = op_prepare, \
        .hash_to_group = op_hash_to_group, .multiply = op_multiply, .multiply_base = op_multiply_base, .add = op_add, \
        .check = op_check, .weighted_sum = op_weighted_sum, .sha512 = op_sha512, .blind = op_blind, \
        .finalize = op_finalize, .evaluate = op_evaluate, \
    }
