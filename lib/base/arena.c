#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, CHUNK_MIN = 4096, CHUNK_MAX = 1 << 20 };

struct blx__arena_chunk {
  struct blx__arena_chunk *next;
  size_t cap;
  _Alignas(ALIGN) uint8_t data[];
};

static size_t round_up(size_t n) {
  return (n + (ALIGN - 1)) & ~(size_t)(ALIGN - 1);
}

static bool add_chunk(struct blx__arena *a, size_t n) {
  size_t cap = a->chunk ? a->chunk->cap * 2 : CHUNK_MIN;
  if (cap > CHUNK_MAX) cap = CHUNK_MAX;
  if (cap < n) cap = n;
  struct blx__arena_chunk *c = malloc(sizeof *c + cap);
  if (!c) return false;
  c->next = a->chunk;
  c->cap = cap;
  a->chunk = c;
  a->at = c->data;
  a->end = c->data + cap;
  return true;
}

void *blx__arena_alloc(struct blx__arena *a, size_t n) {
  if (n > SIZE_MAX / 2) return NULL;
  n = round_up(n ? n : 1);
  if (n > a->limit_bytes - a->used_bytes) return NULL;
  if (n > (size_t)(a->end - a->at) && !add_chunk(a, n)) return NULL;
  void *p = a->at;
  a->at += n;
  a->used_bytes += n;
  BLX__ASSERT(a->used_bytes <= a->limit_bytes);
  return memset(p, 0, n);
}

void *blx__arena_grow(struct blx__arena *a, void *old, size_t on, size_t nn) {
  BLX__ASSERT(nn >= on && nn <= SIZE_MAX / 2);
  size_t have = round_up(on ? on : 1), want = round_up(nn ? nn : 1), more = want - have;
  bool last = old && (uint8_t *)old + have == a->at;
  if (last && more <= (size_t)(a->end - a->at) && more <= a->limit_bytes - a->used_bytes) {
    memset(a->at, 0, more);
    a->at += more;
    a->used_bytes += more;
    return old;
  }
  void *p = blx__arena_alloc(a, nn);
  if (p && on) memcpy(p, old, on);
  return p;
}

char *blx__arena_strndup(struct blx__arena *a, const char *s, size_t n) {
  if (n == SIZE_MAX) return NULL;
  char *p = blx__arena_alloc(a, n + 1);
  if (p && n) memcpy(p, s, n);
  return p;
}

char *blx__arena_strdup(struct blx__arena *a, const char *s) {
  return blx__arena_strndup(a, s, strlen(s));
}

void blx__arena_reset(struct blx__arena *a) {
  if (!a->chunk) return;
  while (a->chunk->next) {
    struct blx__arena_chunk *next = a->chunk->next;
    a->chunk->next = next->next;
    free(next);
  }
  a->at = a->chunk->data;
  a->end = a->at + a->chunk->cap;
  a->used_bytes = 0;
}

void blx__arena_free(struct blx__arena *a) {
  blx__arena_reset(a);
  free(a->chunk);
  a->chunk = NULL;
  a->at = a->end = NULL;
  a->used_bytes = 0;
}
