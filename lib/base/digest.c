#include "base/digest.h"

#include <openssl/evp.h>
#include <pthread.h>

/* To look the algorithm up takes libcrypto longer than to digest a short text. Kept for the process. */
static const EVP_MD *sha256_found;

static void find_sha256(void) {
  sha256_found = EVP_MD_fetch(NULL, "SHA256", NULL);
  if (!sha256_found) sha256_found = EVP_sha256(); /* it is looked up each time, then */
}

static const EVP_MD *sha256(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, find_sha256);
  return sha256_found;
}

static void digest(EVP_MD_CTX *ctx, const struct blx__slice *parts, size_t n, uint8_t out[BLX__SHA256_BYTES]) {
  BLX__ASSERT(ctx != NULL);
  int ok = EVP_DigestInit_ex(ctx, sha256(), NULL);
  for (size_t i = 0; i < n; i++) ok = ok && EVP_DigestUpdate(ctx, parts[i].data, parts[i].len);
  unsigned len = 0;
  ok = ok && EVP_DigestFinal_ex(ctx, out, &len);
  BLX__ASSERT(ok && len == BLX__SHA256_BYTES);
}

void blx__sha256(const struct blx__slice *parts, size_t n, uint8_t out[BLX__SHA256_BYTES]) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  digest(ctx, parts, n, out);
  EVP_MD_CTX_free(ctx);
}

/* The handle is libcrypto's own. */
static EVP_MD_CTX *ctx_of(struct blx__sha256 *d) {
  return (EVP_MD_CTX *)(void *)d;
}

struct blx__sha256 *blx__sha256_new(void) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  if (ctx && !EVP_DigestInit_ex(ctx, sha256(), NULL)) {
    EVP_MD_CTX_free(ctx);
    ctx = NULL;
  }
  return (struct blx__sha256 *)(void *)ctx;
}

void blx__sha256_add(struct blx__sha256 *d, struct blx__slice part) {
  int ok = EVP_DigestUpdate(ctx_of(d), part.data, part.len);
  BLX__ASSERT(ok);
}

void blx__sha256_end(struct blx__sha256 *d, uint8_t out[BLX__SHA256_BYTES]) {
  unsigned len = 0;
  int ok = EVP_DigestFinal_ex(ctx_of(d), out, &len);
  BLX__ASSERT(ok && len == BLX__SHA256_BYTES);
  blx__sha256_free(d);
}

void blx__sha256_with(struct blx__sha256 *d, const struct blx__slice *parts, size_t n, uint8_t out[BLX__SHA256_BYTES]) {
  digest(ctx_of(d), parts, n, out);
}

void blx__sha256_free(struct blx__sha256 *d) {
  EVP_MD_CTX_free(ctx_of(d));
}

void blx__sha256_hex(const uint8_t digest[BLX__SHA256_BYTES], char out[BLX__SHA256_HEX]) {
  static const char hex[] = "0123456789abcdef";
  for (size_t i = 0; i < BLX__SHA256_BYTES; i++) {
    out[2 * i] = hex[digest[i] >> 4];
    out[2 * i + 1] = hex[digest[i] & 15];
  }
  out[BLX__SHA256_HEX - 1] = '\0';
}

uint64_t blx__mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
