/* How many instances of which shape are defined, and the shapes by how frequent they are. */
#include "state/state_int.h"

#include <stdlib.h>

enum { FREQUENT_KEY_BYTES = 3 * 8 };

struct shape {
  uint64_t cpu_milli, memory_mib, count;
};

static void put_u64(uint8_t *key, uint64_t v) {
  for (unsigned i = 0; i < 8; i++) key[i] = (uint8_t)(v >> (56 - 8 * i));
}

/* The most frequent has the lowest key; then the largest. */
static void frequent_key(uint8_t key[FREQUENT_KEY_BYTES], const struct shape *s) {
  put_u64(key, ~s->count);
  put_u64(key + 8, ~s->memory_mib);
  put_u64(key + 16, ~s->cpu_milli);
}

void blx__state_count_shape(struct blx__state *st, uint64_t cpu_milli, uint64_t memory_mib, bool in) {
  uint8_t pair[16], key[FREQUENT_KEY_BYTES];
  size_t n = blx__state_pair_key(pair, cpu_milli, memory_mib);
  struct shape *s = blx__map_get(&st->data.shapes, pair, n);
  if (!s) {
    BLX__ASSERT(in);
    s = calloc(1, sizeof *s);
    STATE_MUST(s != NULL && blx__map_set(&st->data.shapes, pair, n, s, NULL));
    s->cpu_milli = cpu_milli;
    s->memory_mib = memory_mib;
  } else {
    frequent_key(key, s);
    const void *was = blx__map_remove(&st->data.frequent, key, sizeof key);
    BLX__ASSERT(was == s);
  }
  s->count = in ? s->count + 1 : s->count - 1;
  if (s->count == 0) {
    blx__map_remove(&st->data.shapes, pair, n);
    free(s);
    return;
  }
  frequent_key(key, s);
  STATE_MUST(blx__map_set(&st->data.frequent, key, sizeof key, s, NULL));
}

size_t blx__state_shapes(const struct blx__state *st, struct blx__state_shape *out, size_t max) {
  size_t n = 0;
  BLX__MAP_FOREACH(pos, &st->data.frequent) {
    const struct shape *s = blx__map_value(pos);
    if (n == max) break;
    out[n++] = (struct blx__state_shape){s->cpu_milli, s->memory_mib, s->count};
  }
  return n;
}

void blx__state_shapes_free(struct state_data *d) {
  BLX__MAP_FOREACH(pos, &d->shapes) free(blx__map_value(pos));
  blx__map_clear(&d->shapes);
  blx__map_clear(&d->frequent);
}
