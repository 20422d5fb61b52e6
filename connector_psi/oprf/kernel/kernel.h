/* What a backend of the kernel offers to the module: batches in packed buffers, n elements or scalars of 32 bytes each.
 *
 * Every function returns KERNEL_OK, or why the batch is refused; then its output is not to be used. Elements are refused
 * that RFC 9496 section 4.3.1 refuses and, but for add and sub, the identity. Scalars are from 1 to l - 1: the caller has
 * checked them (scalar_valid). A scalar, the values made of it, messages and outputs are secret: no branch and no address
 * depends on them. Elements that come in, the lengths of messages, and the weights of weighted_sum are not.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#if !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel needs 128-bit integers and a little-endian processor; the package works without it"
#endif

enum { KERNEL_OK, KERNEL_BAD_ELEMENT, KERNEL_NO_MEMORY };

/* Bytes objects, or slices of one buffer. */
typedef struct { const uint8_t *bytes; size_t size; } kernel_message;

typedef struct {
    const char *name;
    unsigned lanes;
    int (*supported)(void);
    void (*prepare)(void); /* once, before any other call: makes the tables */

    int (*hash_to_group)(uint8_t *out, const uint8_t *uniform, size_t n);
    /* scalar_step is 32, or 0 for one scalar. */
    int (*multiply)(uint8_t *out, const uint8_t *scalars, size_t scalar_step, const uint8_t *elements, size_t n);
    int (*multiply_base)(uint8_t *out, const uint8_t *scalars, size_t n);
    int (*add)(uint8_t *out, const uint8_t *a, const uint8_t *b, int subtract, size_t n);
    int (*check)(const uint8_t *elements, size_t n);
    int (*weighted_sum)(uint8_t out[32], const uint8_t *scalars, const uint8_t *elements, size_t n);

    /* SHA-512(prefix || row i || suffix), 64 bytes a row. */
    int (*sha512)(uint8_t *out, kernel_message prefix, const uint8_t *rows, size_t row_size, kernel_message suffix, size_t n);
    /* RFC 9497: blind is HashToGroup and the blind; finalize takes inverted blinds; evaluate is the owner's own, and with a
     * label derives SHA-512(label || output || uint32(0)) too. dst is DST_prime of RFC 9380 section
     * 5.3.1: the tag and its length, at most 256 bytes. */
    int (*blind)(uint8_t *out, const uint8_t *scalars, const kernel_message *inputs, size_t n, kernel_message dst);
    int (*finalize)(uint8_t *out, const uint8_t *scalars, const uint8_t *elements, const kernel_message *inputs, size_t n);
    int (*evaluate)(uint8_t *out, uint8_t *derived, const uint8_t scalar[32], const kernel_message *inputs, size_t n,
                    kernel_message dst, kernel_message label);
} kernel;

extern const kernel kernel_ifma, kernel_avx2, kernel_portable;

/* Where a secret leaves by the protocol: whether a batch is refused. A checker that follows secrets is told here. */
#if !defined(KERNEL_DECLASSIFY)
#define KERNEL_DECLASSIFY(p, size) ((void)0)
#endif

/* memset that is not left out. */
void kernel_wipe(void *p, size_t size);
