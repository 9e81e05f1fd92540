/* One arena per operation or message, freed once. Memory is zeroed and aligned to 16. Thread: one at a time. */
#ifndef BLX__BASE_ARENA_H
#define BLX__BASE_ARENA_H

#include "base/rc.h"

struct blx__arena_chunk;

/* Zero-initialise with the limit set: `struct blx__arena a = {.limit_bytes = 1 << 20};` */
struct blx__arena {
  struct blx__arena_chunk *chunk;
  uint8_t *at, *end;
  size_t used_bytes, limit_bytes;
};

/* @n bytes, zeroed; NULL when the limit or memory is exhausted. Owned by the arena. */
void *blx__arena_alloc(struct blx__arena *a, size_t n);

/* Room for @nn bytes that begins with the @on bytes at @old, in place where possible; NULL as above. */
void *blx__arena_grow(struct blx__arena *a, void *old, size_t on, size_t nn);

/* A terminated copy of @n bytes. NULL as above. */
char *blx__arena_strndup(struct blx__arena *a, const char *s, size_t n);
char *blx__arena_strdup(struct blx__arena *a, const char *s);

/* Forget everything, keep the newest chunk for reuse. */
void blx__arena_reset(struct blx__arena *a);

/* Give all memory back; the arena may be used again. */
void blx__arena_free(struct blx__arena *a);

#endif
