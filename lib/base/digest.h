/* SHA-256 (FIPS 180-4) by libcrypto, and CRC-free small hashes. Thread: any. */
#ifndef BLX__BASE_DIGEST_H
#define BLX__BASE_DIGEST_H

#include "base/buf.h"

enum { BLX__SHA256_BYTES = 32, BLX__SHA256_HEX = 65 };

/* Digest of the concatenation of @n slices. */
void blx__sha256(const struct blx__slice *parts, size_t n, uint8_t out[BLX__SHA256_BYTES]);

/* The same in parts. NULL: no memory. blx__sha256_end frees it, as blx__sha256_free does (NULL allowed). */
struct blx__sha256;
struct blx__sha256 *blx__sha256_new(void);
void blx__sha256_add(struct blx__sha256 *d, struct blx__slice part);
void blx__sha256_end(struct blx__sha256 *d, uint8_t out[BLX__SHA256_BYTES]);
void blx__sha256_free(struct blx__sha256 *d);

/* As blx__sha256, with a handle that nothing was added to, and that can be used again and again: to make one takes as
 * long as to digest a short text. */
void blx__sha256_with(struct blx__sha256 *d, const struct blx__slice *parts, size_t n, uint8_t out[BLX__SHA256_BYTES]);

/* Lower-case hexadecimal, terminated. */
void blx__sha256_hex(const uint8_t digest[BLX__SHA256_BYTES], char out[BLX__SHA256_HEX]);

/* A 64-bit mix (splitmix64's finaliser, Steele et al. 2014): seeds and tie-breaks, never security. */
uint64_t blx__mix64(uint64_t x);

#endif
