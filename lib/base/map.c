#include "base/map.h"

#include <stdlib.h>
#include <string.h>

struct blx__map_node {
  struct blx__map_node *child[2];
  void *value;
  uint64_t head; /* of the key, see head_of() */
  uint16_t key_len;
  uint8_t height;
  uint8_t key[];
};

/* A key that is looked for. */
struct wanted {
  uint64_t head;
  const uint8_t *key;
  size_t len;
};

/* The first eight bytes as a number that sorts as they do; a shorter key is filled up with zeros. */
static uint64_t head_of(const void *key, size_t len) {
  uint8_t bytes[8] = {0};
  memcpy(bytes, key, len < sizeof bytes ? len : sizeof bytes);
  uint64_t v = 0;
  for (unsigned i = 0; i < sizeof bytes; i++) v = v << 8 | bytes[i];
  return v;
}

static struct wanted wanted(const void *key, size_t len) {
  return (struct wanted){.head = len ? head_of(key, len) : 0, .key = key, .len = len};
}

static int compare_node(const struct wanted *w, const struct blx__map_node *n) {
  if (w->head != n->head) return w->head < n->head ? -1 : 1;
  size_t shorter = w->len < n->key_len ? w->len : n->key_len;
  int c =
      shorter > sizeof n->head ? memcmp(w->key + sizeof n->head, n->key + sizeof n->head, shorter - sizeof n->head) : 0;
  if (c != 0) return c;
  return w->len < n->key_len ? -1 : w->len > n->key_len ? 1 : 0;
}

static struct wanted of_node(const struct blx__map_node *n) {
  return (struct wanted){.head = n->head, .key = n->key, .len = n->key_len};
}

static uint8_t height(const struct blx__map_node *n) {
  return n ? n->height : 0;
}

static void update(struct blx__map_node *n) {
  uint8_t l = height(n->child[0]), r = height(n->child[1]);
  n->height = (uint8_t)((l > r ? l : r) + 1);
}

/* Lift child[!side] over n; @side is the way n goes down. */
static struct blx__map_node *rotate(struct blx__map_node *n, int side) {
  struct blx__map_node *up = n->child[!side];
  n->child[!side] = up->child[side];
  up->child[side] = n;
  update(n);
  update(up);
  return up;
}

static struct blx__map_node *balance(struct blx__map_node *n) {
  update(n);
  int lean = (int)height(n->child[1]) - (int)height(n->child[0]);
  if (lean >= -1 && lean <= 1) return n;
  int heavy = lean > 0;
  struct blx__map_node *c = n->child[heavy];
  if (height(c->child[!heavy]) > height(c->child[heavy])) n->child[heavy] = rotate(c, heavy);
  return rotate(n, !heavy);
}

static struct blx__map_node *insert(struct blx__map_node *n, struct blx__map_node *fresh, const struct wanted *w) {
  if (!n) return fresh;
  int side = compare_node(w, n) > 0;
  n->child[side] = insert(n->child[side], fresh, w);
  return balance(n);
}

static struct blx__map_node *find(const struct blx__map *m, const struct wanted *w) {
  struct blx__map_node *n = m->root;
  while (n) {
    int c = compare_node(w, n);
    if (c == 0) return n;
    n = n->child[c > 0];
  }
  return NULL;
}

bool blx__map_set(struct blx__map *m, const void *key, size_t key_len, void *value, void **old) {
  BLX__ASSERT(key_len > 0 && key_len <= UINT16_MAX);
  BLX__ASSERT(value != NULL);
  const struct wanted w = wanted(key, key_len);
  struct blx__map_node *n = find(m, &w);
  if (old) *old = n ? n->value : NULL;
  if (n) {
    n->value = value;
    return true;
  }
  n = calloc(1, sizeof *n + key_len);
  if (!n) return false;
  n->value = value;
  n->height = 1;
  n->head = w.head;
  n->key_len = (uint16_t)key_len;
  memcpy(n->key, key, key_len);
  m->root = insert(m->root, n, &w);
  m->count++;
  return true;
}

void *blx__map_get(const struct blx__map *m, const void *key, size_t key_len) {
  const struct wanted w = wanted(key, key_len);
  const struct blx__map_node *n = find(m, &w);
  return n ? n->value : NULL;
}

static struct blx__map_node *take_first(struct blx__map_node *n, struct blx__map_node **first) {
  if (!n->child[0]) {
    *first = n;
    return n->child[1];
  }
  n->child[0] = take_first(n->child[0], first);
  return balance(n);
}

static struct blx__map_node *take(struct blx__map_node *n, const struct wanted *w, struct blx__map_node **gone) {
  if (!n) return NULL;
  int c = compare_node(w, n);
  if (c != 0) {
    n->child[c > 0] = take(n->child[c > 0], w, gone);
    return balance(n);
  }
  *gone = n;
  if (!n->child[1]) return n->child[0];
  struct blx__map_node *heir = NULL;
  struct blx__map_node *right = take_first(n->child[1], &heir);
  heir->child[1] = right;
  heir->child[0] = n->child[0];
  return balance(heir);
}

void *blx__map_remove(struct blx__map *m, const void *key, size_t key_len) {
  struct blx__map_node *gone = NULL;
  const struct wanted w = wanted(key, key_len);
  m->root = take(m->root, &w, &gone);
  if (!gone) return NULL;
  void *value = gone->value;
  free(gone);
  m->count--;
  return value;
}

struct blx__map_pos blx__map_seek(const struct blx__map *m, const void *key, size_t key_len) {
  const struct blx__map_node *n = m->root, *best = NULL;
  const struct wanted w = wanted(key, key_len);
  while (n) {
    if (key_len == 0 || compare_node(&w, n) <= 0) {
      best = n;
      n = n->child[0];
    } else {
      n = n->child[1];
    }
  }
  return (struct blx__map_pos){best};
}

struct blx__map_pos blx__map_next(const struct blx__map *m, struct blx__map_pos pos) {
  BLX__ASSERT(pos.node != NULL);
  const struct blx__map_node *n = m->root, *best = NULL;
  const struct wanted w = of_node(pos.node);
  while (n) {
    if (compare_node(&w, n) < 0) {
      best = n;
      n = n->child[0];
    } else {
      n = n->child[1];
    }
  }
  return (struct blx__map_pos){best};
}

void *blx__map_value(struct blx__map_pos pos) {
  return pos.node->value;
}

const void *blx__map_key(struct blx__map_pos pos, size_t *key_len) {
  *key_len = pos.node->key_len;
  return pos.node->key;
}

static void free_tree(struct blx__map_node *n) {
  if (!n) return;
  free_tree(n->child[0]);
  free_tree(n->child[1]);
  free(n);
}

void blx__map_clear(struct blx__map *m) {
  free_tree(m->root);
  m->root = NULL;
  m->count = 0;
}

static void big_endian(uint8_t out[8], uint64_t v) {
  for (int i = 7; i >= 0; i--, v >>= 8) out[i] = (uint8_t)v;
}

bool blx__map_set_u64(struct blx__map *m, uint64_t key, void *value, void **old) {
  uint8_t k[8];
  big_endian(k, key);
  return blx__map_set(m, k, sizeof k, value, old);
}

void *blx__map_get_u64(const struct blx__map *m, uint64_t key) {
  uint8_t k[8];
  big_endian(k, key);
  return blx__map_get(m, k, sizeof k);
}

void *blx__map_remove_u64(struct blx__map *m, uint64_t key) {
  uint8_t k[8];
  big_endian(k, key);
  return blx__map_remove(m, k, sizeof k);
}

bool blx__map_set_str(struct blx__map *m, const char *key, void *value, void **old) {
  return blx__map_set(m, key, strlen(key), value, old);
}

void *blx__map_get_str(const struct blx__map *m, const char *key) {
  return blx__map_get(m, key, strlen(key));
}

void *blx__map_remove_str(struct blx__map *m, const char *key) {
  return blx__map_remove(m, key, strlen(key));
}
