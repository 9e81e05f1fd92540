/* Ordered map from byte strings to pointers: a B-tree (Bayer and McCreight 1972; split and merged on the way down,
 * Cormen et al., chapter 18) whose nodes hold eight telling bytes of each key, so that few comparisons leave the node,
 * and the whole of a short one. Order is memcmp, shorter first on a tie, so iteration is the same on every machine.
 * Thread: one at a time. */
#ifndef BLX__BASE_MAP_H
#define BLX__BASE_MAP_H

#include "base/rc.h"

struct blx__map_node;

struct blx__map {
  struct blx__map_node *root;
  size_t count;
  uint16_t common; /* bytes that all keys begin with, or fewer */
};

/* A place in the map; valid until the map changes. */
struct blx__map_pos {
  const struct blx__map_node *node; /* NULL: past the end */
  unsigned at;
};

/* Set @key (copied, 1..65535 bytes) to @value (not NULL, borrowed). @old, unless NULL, receives the value that was
 * there or NULL. False when memory is out; the map is then unchanged. */
bool blx__map_set(struct blx__map *m, const void *key, size_t key_len, void *value, void **old) BLX__MUST;

/* Value, or NULL. */
void *blx__map_get(const struct blx__map *m, const void *key, size_t key_len);

/* Remove; returns the value that was there, or NULL. */
void *blx__map_remove(struct blx__map *m, const void *key, size_t key_len);

/* First place with a key >= @key; @key_len 0 gives the first of all. O(log n). */
struct blx__map_pos blx__map_seek(const struct blx__map *m, const void *key, size_t key_len);

/* The place after @pos; O(log n), mostly O(1). */
struct blx__map_pos blx__map_next(const struct blx__map *m, struct blx__map_pos pos);

void *blx__map_value(struct blx__map_pos pos);
const void *blx__map_key(struct blx__map_pos pos, size_t *key_len);

/* Free the nodes; the values stay the caller's. */
void blx__map_clear(struct blx__map *m);

/* Shorthands for u64 keys (stored big-endian, so that the order is numeric) and C strings. */
bool blx__map_set_u64(struct blx__map *m, uint64_t key, void *value, void **old) BLX__MUST;
void *blx__map_get_u64(const struct blx__map *m, uint64_t key);
void *blx__map_remove_u64(struct blx__map *m, uint64_t key);
bool blx__map_set_str(struct blx__map *m, const char *key, void *value, void **old) BLX__MUST;
void *blx__map_get_str(const struct blx__map *m, const char *key);
void *blx__map_remove_str(struct blx__map *m, const char *key);

/* for (pos = first; pos.node; pos = next) */
#define BLX__MAP_FOREACH(pos, map) \
  for (struct blx__map_pos pos = blx__map_seek((map), NULL, 0); pos.node; pos = blx__map_next((map), pos))

#endif
