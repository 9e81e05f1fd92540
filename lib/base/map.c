#include "base/map.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* A node that is not the root has HALF..FULL entries. */
enum { HALF = 15, FULL = 2 * HALF + 1 };

struct longer {
  size_t len;
  uint8_t bytes[];
};

/* A key of at most eight bytes is its head, and `longer` holds its length times two plus one. */
struct entry {
  uint64_t head; /* big-endian, filled up with zeros: the eight bytes of the key behind the map's common ones */
  void *value;
  uintptr_t longer;
};

/* Entries, and one child more than there are entries, unless it is a leaf. Only a root that is a leaf has less room
 * than FULL: most maps are small. */
struct blx__map_node {
  uint16_t count, room;
  struct blx__map_node **child; /* NULL: a leaf */
  struct entry e[];
};

static bool is_short(const struct entry *e) {
  return (e->longer & 1) != 0;
}

static const struct longer *longer_of(const struct entry *e) {
  return (const struct longer *)e->longer;
}

static size_t key_len_of(const struct entry *e) {
  return is_short(e) ? e->longer >> 1 : longer_of(e)->len;
}

static const uint8_t *key_of(const struct entry *e) {
  return is_short(e) ? (const uint8_t *)&e->head : longer_of(e)->bytes;
}

/* ---- comparing: all keys of a map begin with the same `common` bytes, 0 when one is short */

struct wanted {
  const uint8_t *key;
  size_t len;
  uint64_t head; /* a number that sorts as the bytes do */
  int outside;   /* < 0: before all keys, > 0: behind them */
};

static uint64_t head_of(const uint8_t *key, size_t len, size_t common) {
  uint64_t bytes = 0;
  if (len > common) memcpy(&bytes, key + common, len - common < 8 ? len - common : 8);
  return be64toh(bytes);
}

static struct wanted wanted(const struct blx__map *m, const void *key, size_t len) {
  struct wanted w = {.key = key, .len = len};
  if (m->common > 0) {
    size_t n = len < m->common ? len : m->common;
    w.outside = memcmp(key, longer_of(&m->root->e[0])->bytes, n);
    if (w.outside == 0 && len < m->common) w.outside = -1;
  }
  if (w.outside == 0) w.head = head_of(key, len, m->common);
  return w;
}

static int compare(const struct blx__map *m, const struct wanted *w, const struct entry *e) {
  uint64_t head = be64toh(e->head);
  if (w->head != head) return w->head < head ? -1 : 1;
  size_t len = key_len_of(e), shorter = w->len < len ? w->len : len, same = m->common + 8;
  int c = shorter > same ? memcmp(w->key + same, longer_of(e)->bytes + same, shorter - same) : 0;
  return c != 0 ? c : w->len < len ? -1 : w->len > len;
}

/* The first entry that is not below @w. */
static unsigned lower(const struct blx__map *m, const struct blx__map_node *n, const struct wanted *w, bool *equal) {
  unsigned from = 0, to = n->count;
  *equal = false;
  while (from < to) {
    unsigned middle = (from + to) / 2;
    int c = compare(m, w, &n->e[middle]);
    if (c > 0)
      from = middle + 1;
    else
      to = middle;
    if (c == 0) *equal = true;
  }
  return from;
}

static struct entry *find(const struct blx__map *m, const struct wanted *w) {
  struct blx__map_node *n = w->outside == 0 ? m->root : NULL;
  while (n) {
    bool equal;
    unsigned i = lower(m, n, w, &equal);
    if (equal) return &n->e[i];
    n = n->child ? n->child[i] : NULL;
  }
  return NULL;
}

static void new_heads(struct blx__map_node *n, size_t common) {
  for (unsigned i = 0; i < n->count; i++)
    n->e[i].head = htobe64(head_of(longer_of(&n->e[i])->bytes, longer_of(&n->e[i])->len, common));
  for (unsigned i = 0; n->child && i <= n->count; i++) new_heads(n->child[i], common);
}

/* For a key that comes. It gets less only, each time for all: at most as often as a key has bytes. */
static void set_common(struct blx__map *m, const uint8_t *key, size_t len) {
  if (m->count == 0) {
    m->common = (uint16_t)(len > 8 ? len : 0);
    return;
  }
  size_t n = 0, most = len > 8 ? m->common : 0;
  if (most == 0 && m->common == 0) return;
  const struct longer *any = longer_of(&m->root->e[0]);
  while (n < most && n < len && key[n] == any->bytes[n]) n++;
  if (n == m->common) return;
  m->common = (uint16_t)n;
  new_heads(m->root, n);
}

/* ---- nodes */

static struct blx__map_node *node_new(unsigned room, bool leaf) {
  struct blx__map_node *n = malloc(sizeof *n + room * sizeof n->e[0]);
  if (!n) return NULL;
  *n = (struct blx__map_node){.room = (uint16_t)room};
  if (leaf) return n;
  n->child = malloc((FULL + 1) * sizeof(struct blx__map_node *));
  if (n->child) return n;
  free(n);
  return NULL;
}

static void node_free(struct blx__map_node *n) {
  free(n->child);
  free(n);
}

static void open_entry(struct blx__map_node *n, unsigned i) {
  memmove(&n->e[i + 1], &n->e[i], (n->count - i) * sizeof n->e[0]);
}

static void close_entry(struct blx__map_node *n, unsigned i) {
  memmove(&n->e[i], &n->e[i + 1], (n->count - i - 1u) * sizeof n->e[0]);
}

static void open_child(struct blx__map_node *n, unsigned i) {
  memmove(&n->child[i + 1], &n->child[i], (n->count + 1u - i) * sizeof n->child[0]);
}

static void close_child(struct blx__map_node *n, unsigned i) {
  memmove(&n->child[i], &n->child[i + 1], (n->count - i) * sizeof n->child[0]);
}

/* Child @i of @n, which is full, as @n is not, becomes two. */
static bool split(struct blx__map_node *n, unsigned i) {
  struct blx__map_node *c = n->child[i], *right = node_new(FULL, c->child == NULL);
  if (!right) return false;
  right->count = HALF;
  memcpy(right->e, &c->e[HALF + 1], HALF * sizeof c->e[0]);
  if (c->child) memcpy(right->child, &c->child[HALF + 1], (HALF + 1) * sizeof(struct blx__map_node *));
  c->count = HALF;
  open_entry(n, i);
  open_child(n, i + 1);
  n->e[i] = c->e[HALF];
  n->child[i + 1] = right;
  n->count++;
  return true;
}

/* Room for one more in the root. */
static bool root_room(struct blx__map *m) {
  struct blx__map_node *n = m->root;
  if (!n) return (m->root = node_new(1, true)) != NULL;
  if (n->count < n->room) return true;
  if (n->room < FULL) {
    unsigned room = n->room < HALF ? 2u * n->room : FULL;
    n = realloc(n, sizeof *n + room * sizeof n->e[0]);
    if (!n) return false;
    n->room = (uint16_t)room;
    m->root = n;
    return true;
  }
  struct blx__map_node *up = node_new(FULL, false);
  if (!up) return false;
  up->child[0] = n;
  if (!split(up, 0)) {
    node_free(up);
    return false;
  }
  m->root = up;
  return true;
}

static bool insert(struct blx__map *m, const struct wanted *w, const struct entry *fresh) {
  if (!root_room(m)) return false;
  for (struct blx__map_node *n = m->root;;) {
    bool equal;
    unsigned i = lower(m, n, w, &equal);
    if (!n->child) {
      open_entry(n, i);
      n->e[i] = *fresh;
      n->count++;
      return true;
    }
    if (n->child[i]->count == FULL) {
      if (!split(n, i)) return false;
      if (compare(m, w, &n->e[i]) > 0) i++;
    }
    n = n->child[i];
  }
}

bool blx__map_set(struct blx__map *m, const void *key, size_t key_len, void *value, void **old) {
  BLX__ASSERT(key_len > 0 && key_len <= UINT16_MAX);
  BLX__ASSERT(value != NULL);
  struct wanted w = wanted(m, key, key_len);
  struct entry *e = find(m, &w);
  if (old) *old = e ? e->value : NULL;
  if (e) {
    e->value = value;
    return true;
  }
  struct entry fresh = {.value = value, .longer = (uintptr_t)key_len << 1 | 1};
  struct longer *copy = NULL;
  if (key_len > 8) {
    copy = malloc(sizeof *copy + key_len);
    if (!copy) return false;
    copy->len = key_len;
    memcpy(copy->bytes, key, key_len);
    fresh.longer = (uintptr_t)copy;
  }
  set_common(m, key, key_len);
  w.head = head_of(key, key_len, m->common);
  fresh.head = htobe64(w.head);
  if (!insert(m, &w, &fresh)) {
    free(copy);
    return false;
  }
  m->count++;
  return true;
}

void *blx__map_get(const struct blx__map *m, const void *key, size_t key_len) {
  if (m->count == 0) return NULL;
  const struct wanted w = wanted(m, key, key_len);
  const struct entry *e = find(m, &w);
  return e ? e->value : NULL;
}

/* ---- removing: on the way down every node but the root has one entry to spare */

/* Child @i, the entry behind it and the next child become one. */
static struct blx__map_node *merge(struct blx__map_node *n, unsigned i) {
  struct blx__map_node *l = n->child[i], *r = n->child[i + 1];
  l->e[l->count] = n->e[i];
  memcpy(&l->e[l->count + 1], r->e, r->count * sizeof r->e[0]);
  if (l->child) memcpy(&l->child[l->count + 1], r->child, (r->count + 1u) * sizeof r->child[0]);
  l->count = (uint16_t)(l->count + 1 + r->count);
  close_entry(n, i);
  close_child(n, i + 1);
  n->count--;
  node_free(r);
  return l;
}

static struct blx__map_node *from_left(struct blx__map_node *n, unsigned i) {
  struct blx__map_node *l = n->child[i - 1], *c = n->child[i];
  open_entry(c, 0);
  c->e[0] = n->e[i - 1];
  n->e[i - 1] = l->e[l->count - 1];
  if (c->child) {
    open_child(c, 0);
    c->child[0] = l->child[l->count];
  }
  c->count++;
  l->count--;
  return c;
}

static struct blx__map_node *from_right(struct blx__map_node *n, unsigned i) {
  struct blx__map_node *c = n->child[i], *r = n->child[i + 1];
  c->e[c->count] = n->e[i];
  n->e[i] = r->e[0];
  if (c->child) {
    c->child[c->count + 1] = r->child[0];
    close_child(r, 0);
  }
  close_entry(r, 0);
  c->count++;
  r->count--;
  return c;
}

/* Child @i, with more than HALF entries; it may be another node then. */
static struct blx__map_node *spare(struct blx__map_node *n, unsigned i) {
  if (n->child[i]->count > HALF) return n->child[i];
  if (i > 0 && n->child[i - 1]->count > HALF) return from_left(n, i);
  if (i < n->count && n->child[i + 1]->count > HALF) return from_right(n, i);
  return merge(n, i < n->count ? i : i - 1);
}

/* The first or last entry below @n. */
static struct entry take_end(struct blx__map_node *n, bool last) {
  while (n->child) n = spare(n, last ? n->count : 0);
  struct entry e = n->e[last ? n->count - 1u : 0];
  if (!last) close_entry(n, 0);
  n->count--;
  return e;
}

static struct entry take(const struct blx__map *m, const struct wanted *w) {
  for (struct blx__map_node *n = m->root;;) {
    bool equal;
    unsigned i = lower(m, n, w, &equal);
    BLX__ASSERT(equal || n->child);
    struct entry e = n->e[equal ? i : 0];
    if (!equal) {
      n = spare(n, i);
    } else if (!n->child) {
      close_entry(n, i);
      n->count--;
      return e;
    } else if (n->child[i]->count > HALF || n->child[i + 1]->count > HALF) {
      bool left = n->child[i]->count > HALF;
      n->e[i] = take_end(n->child[left ? i : i + 1], left);
      return e;
    } else {
      n = merge(n, i);
    }
  }
}

void *blx__map_remove(struct blx__map *m, const void *key, size_t key_len) {
  if (m->count == 0) return NULL;
  const struct wanted w = wanted(m, key, key_len);
  if (!find(m, &w)) return NULL;
  const struct entry e = take(m, &w);
  if (!is_short(&e)) free((void *)e.longer);
  m->count--;
  struct blx__map_node *root = m->root;
  if (root->count == 0) {
    m->root = root->child ? root->child[0] : NULL;
    if (!m->root) m->common = 0;
    node_free(root);
  }
  return e.value;
}

/* ---- in order */

static struct blx__map_pos first_of(const struct blx__map_node *n) {
  while (n->child) n = n->child[0];
  return (struct blx__map_pos){n, 0};
}

/* The first entry that is not below @w; with @after the first above it. */
static struct blx__map_pos seek(const struct blx__map *m, const struct wanted *w, bool after) {
  struct blx__map_pos best = {NULL, 0};
  const struct blx__map_node *n = w->outside > 0 ? NULL : m->root;
  if (n && w->outside < 0) return first_of(n);
  while (n) {
    bool equal;
    unsigned i = lower(m, n, w, &equal);
    if (equal && !after) return (struct blx__map_pos){n, i};
    if (equal) i++;
    if (i < n->count) best = (struct blx__map_pos){n, i};
    n = n->child ? n->child[i] : NULL;
  }
  return best;
}

struct blx__map_pos blx__map_seek(const struct blx__map *m, const void *key, size_t key_len) {
  if (m->count == 0) return (struct blx__map_pos){NULL, 0};
  if (key_len == 0) return first_of(m->root);
  const struct wanted w = wanted(m, key, key_len);
  return seek(m, &w, false);
}

struct blx__map_pos blx__map_next(const struct blx__map *m, struct blx__map_pos pos) {
  const struct blx__map_node *n = pos.node;
  BLX__ASSERT(n != NULL && pos.at < n->count);
  if (n->child) return first_of(n->child[pos.at + 1]);
  if (pos.at + 1 < n->count) return (struct blx__map_pos){n, pos.at + 1};
  const struct entry *e = &n->e[pos.at];
  const struct wanted w = {.key = key_of(e), .len = key_len_of(e), .head = be64toh(e->head)};
  return seek(m, &w, true);
}

void *blx__map_value(struct blx__map_pos pos) {
  return pos.node->e[pos.at].value;
}

const void *blx__map_key(struct blx__map_pos pos, size_t *key_len) {
  const struct entry *e = &pos.node->e[pos.at];
  *key_len = key_len_of(e);
  return key_of(e);
}

static void free_tree(struct blx__map_node *n) {
  for (unsigned i = 0; n->child && i <= n->count; i++) free_tree(n->child[i]);
  for (unsigned i = 0; i < n->count; i++)
    if (!is_short(&n->e[i])) free((void *)n->e[i].longer);
  node_free(n);
}

void blx__map_clear(struct blx__map *m) {
  if (m->root) free_tree(m->root);
  *m = (struct blx__map){0};
}

bool blx__map_set_u64(struct blx__map *m, uint64_t key, void *value, void **old) {
  const uint64_t k = htobe64(key);
  return blx__map_set(m, &k, sizeof k, value, old);
}

void *blx__map_get_u64(const struct blx__map *m, uint64_t key) {
  const uint64_t k = htobe64(key);
  return blx__map_get(m, &k, sizeof k);
}

void *blx__map_remove_u64(struct blx__map *m, uint64_t key) {
  const uint64_t k = htobe64(key);
  return blx__map_remove(m, &k, sizeof k);
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
