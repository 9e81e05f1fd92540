#include "base/map.h"

#include <stdlib.h>
#include <string.h>

struct blx__map_node {
  struct blx__map_node *child[2];
  void *value;
  uint16_t key_len;
  uint8_t height;
  uint8_t key[];
};

static int compare(const void *a, size_t an, const void *b, size_t bn) {
  size_t n = an < bn ? an : bn;
  int c = n ? memcmp(a, b, n) : 0;
  if (c != 0) return c;
  return an < bn ? -1 : an > bn ? 1 : 0;
}

static int compare_node(const void *key, size_t key_len, const struct blx__map_node *n) {
  return compare(key, key_len, n->key, n->key_len);
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

static struct blx__map_node *insert(struct blx__map_node *n, struct blx__map_node *fresh) {
  if (!n) return fresh;
  int side = compare_node(fresh->key, fresh->key_len, n) > 0;
  n->child[side] = insert(n->child[side], fresh);
  return balance(n);
}

static struct blx__map_node *find(const struct blx__map *m, const void *key, size_t key_len) {
  struct blx__map_node *n = m->root;
  while (n) {
    int c = compare_node(key, key_len, n);
    if (c == 0) return n;
    n = n->child[c > 0];
  }
  return NULL;
}

bool blx__map_set(struct blx__map *m, const void *key, size_t key_len, void *value, void **old) {
  BLX__ASSERT(key_len > 0 && key_len <= UINT16_MAX);
  BLX__ASSERT(value != NULL);
  struct blx__map_node *n = find(m, key, key_len);
  if (old) *old = n ? n->value : NULL;
  if (n) {
    n->value = value;
    return true;
  }
  n = calloc(1, sizeof *n + key_len);
  if (!n) return false;
  n->value = value;
  n->height = 1;
  n->key_len = (uint16_t)key_len;
  memcpy(n->key, key, key_len);
  m->root = insert(m->root, n);
  m->count++;
  return true;
}

void *blx__map_get(const struct blx__map *m, const void *key, size_t key_len) {
  const struct blx__map_node *n = find(m, key, key_len);
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

static struct blx__map_node *take(struct blx__map_node *n, const void *key, size_t key_len,
                                  struct blx__map_node **gone) {
  if (!n) return NULL;
  int c = compare_node(key, key_len, n);
  if (c != 0) {
    n->child[c > 0] = take(n->child[c > 0], key, key_len, gone);
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
  m->root = take(m->root, key, key_len, &gone);
  if (!gone) return NULL;
  void *value = gone->value;
  free(gone);
  m->count--;
  return value;
}

struct blx__map_pos blx__map_seek(const struct blx__map *m, const void *key, size_t key_len) {
  const struct blx__map_node *n = m->root, *best = NULL;
  while (n) {
    if (key_len == 0 || compare_node(key, key_len, n) <= 0) {
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
  while (n) {
    if (compare_node(pos.node->key, pos.node->key_len, n) < 0) {
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
