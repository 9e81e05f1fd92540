#include "base/digest.h"

#include <openssl/evp.h>

void blx__sha256(const struct blx__slice *parts, size_t n, uint8_t out[BLX__SHA256_BYTES]) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  BLX__ASSERT(ctx != NULL);
  int ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
  for (size_t i = 0; i < n; i++) ok = ok && EVP_DigestUpdate(ctx, parts[i].data, parts[i].len);
  unsigned len = 0;
  ok = ok && EVP_DigestFinal_ex(ctx, out, &len);
  EVP_MD_CTX_free(ctx);
  BLX__ASSERT(ok && len == BLX__SHA256_BYTES);
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
