/* Little-endian integers in byte runs. */
#ifndef BLX__CONSENSUS_BYTES_INT_H
#define BLX__CONSENSUS_BYTES_INT_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void put_u32(uint8_t *at, uint32_t v) {
  v = htole32(v);
  memcpy(at, &v, sizeof v);
}

static inline void put_u64(uint8_t *at, uint64_t v) {
  v = htole64(v);
  memcpy(at, &v, sizeof v);
}

static inline uint32_t get_u32(const uint8_t *at) {
  uint32_t v;
  memcpy(&v, at, sizeof v);
  return le32toh(v);
}

static inline uint64_t get_u64(const uint8_t *at) {
  uint64_t v;
  memcpy(&v, at, sizeof v);
  return le64toh(v);
}

#endif
