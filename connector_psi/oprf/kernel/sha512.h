/* SHA-512 (FIPS 180-4), a message in each lane. Messages may differ in length; a lane that is done keeps its state. */
#pragma once

#include "field.h"

typedef struct { const uint8_t *bytes; size_t size; } part;

/* A message as its parts, after `before` bytes that are in the state already (a multiple of 128). */
typedef struct {
    const part *parts;
    size_t count, before;
    size_t index, offset, total; /* what was read */
    int ended, finished;         /* the 0x80 is written; the length is written */
} message;

typedef struct { uint64_t h[8]; } sha512_state;

INLINE uint64_t load_be64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    return __builtin_bswap64(x);
}

INLINE void store_be64(uint8_t *p, uint64_t x)
{
    x = __builtin_bswap64(x);
    memcpy(p, &x, 8);
}

static void message_block(message *m, uint8_t block[128])
{
    size_t have = 0;
    while (have < 128 && m->index < m->count) {
        const part *p = &m->parts[m->index];
        size_t take = p->size - m->offset;
        if (take > 128 - have) take = 128 - have;
        if (take) memcpy(block + have, p->bytes + m->offset, take);
        have += take;
        m->offset += take;
        m->total += take;
        if (m->offset == p->size) m->index++, m->offset = 0;
    }
    if (have == 128) return;
    if (!m->ended) {
        block[have++] = 0x80;
        m->ended = 1;
    }
    memset(block + have, 0, 128 - have);
    if (have <= 112) {
        store_be64(block + 120, (uint64_t)(m->before + m->total) * 8);
        m->finished = 1;
    }
}

static __attribute__((noinline)) void sha512_compress(vec h[8], vec w[16], mask active)
{
    vec a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], hh = h[7];
#define ROUND(a, b, c, d, e, f, g, h, i, k) do { \
        const vec t1 = v_add(v_add(v_add(h, v_xor3(v_ror(e, 14), v_ror(e, 18), v_ror(e, 41))), v_add(v_choose(e, f, g), v_set1(k))), w[i]); \
        d = v_add(d, t1); \
        h = v_add(t1, v_add(v_xor3(v_ror(a, 28), v_ror(a, 34), v_ror(a, 39)), v_majority(a, b, c))); \
    } while (0)
#define EIGHT(i, k) \
    ROUND(a, b, c, d, e, f, g, hh, i, (k)[0]); ROUND(hh, a, b, c, d, e, f, g, i + 1, (k)[1]); \
    ROUND(g, hh, a, b, c, d, e, f, i + 2, (k)[2]); ROUND(f, g, hh, a, b, c, d, e, i + 3, (k)[3]); \
    ROUND(e, f, g, hh, a, b, c, d, i + 4, (k)[4]); ROUND(d, e, f, g, hh, a, b, c, i + 5, (k)[5]); \
    ROUND(c, d, e, f, g, hh, a, b, i + 6, (k)[6]); ROUND(b, c, d, e, f, g, hh, a, i + 7, (k)[7])
    for (int t = 0; t < 80; t += 16) {
        if (t) {
#define SCHEDULE(i) w[i] = v_add(v_add(w[i], w[((i) + 9) % 16]), \
        v_add(v_xor3(v_ror(w[((i) + 1) % 16], 1), v_ror(w[((i) + 1) % 16], 8), v_shr(w[((i) + 1) % 16], 7)), \
              v_xor3(v_ror(w[((i) + 14) % 16], 19), v_ror(w[((i) + 14) % 16], 61), v_shr(w[((i) + 14) % 16], 6))))
            SCHEDULE(0); SCHEDULE(1); SCHEDULE(2); SCHEDULE(3); SCHEDULE(4); SCHEDULE(5); SCHEDULE(6); SCHEDULE(7);
            SCHEDULE(8); SCHEDULE(9); SCHEDULE(10); SCHEDULE(11); SCHEDULE(12); SCHEDULE(13); SCHEDULE(14); SCHEDULE(15);
        }
        EIGHT(0, SHA512_K + t);
        EIGHT(8, SHA512_K + t + 8);
    }
    const vec sum[8] = {a, b, c, d, e, f, g, hh};
    for (int i = 0; i < 8; i++) h[i] = v_select(active, v_add(h[i], sum[i]), h[i]);
#undef ROUND
#undef EIGHT
#undef SCHEDULE
}

/* The digests of LANES messages, 64 bytes each, one after the other; `start` is the state before all of them. */
static void sha512_lanes(uint8_t *out, const sha512_state *start, message m[LANES])
{
    vec h[8], w[16];
    uint64_t each[LANES];
    uint8_t blocks[LANES][128] = {{0}};
    unsigned running = ALL_LANES;
    for (int i = 0; i < 8; i++) h[i] = v_set1(start->h[i]);
    while (running) {
        const unsigned active = running;
        for (int lane = 0; lane < LANES; lane++) {
            if (active >> lane & 1) {
                message_block(&m[lane], blocks[lane]);
                if (m[lane].finished) running &= ~(1u << lane);
            }
        }
        for (int t = 0; t < 16; t++) w[t] = v_swap_bytes(v_gather_bytes(blocks[0] + 8 * t, 128));
        sha512_compress(h, w, m_from_bits(active));
    }
    for (int i = 0; i < 8; i++) {
        v_store(each, h[i]);
        for (int lane = 0; lane < LANES; lane++) store_be64(out + 64 * lane + 8 * i, each[lane]);
    }
}

/* The state after whole blocks. */
static sha512_state sha512_begin(const uint8_t *bytes, size_t size)
{
    sha512_state state;
    vec h[8], w[16];
    uint64_t first[LANES];
    for (int i = 0; i < 8; i++) h[i] = v_set1(SHA512_INITIAL[i]);
    for (size_t at = 0; at + 128 <= size; at += 128) {
        for (int t = 0; t < 16; t++) w[t] = v_set1(load_be64(bytes + at + 8 * t));
        sha512_compress(h, w, m_from_bits(ALL_LANES));
    }
    for (int i = 0; i < 8; i++) {
        v_store(first, h[i]);
        state.h[i] = first[0];
    }
    return state;
}
