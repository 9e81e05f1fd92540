#include "placement/index.h"
#include "base/digest.h"
#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- memory */

enum {
  GROUP_BYTES = FLEET_FAN * sizeof(int32_t), /* a line of most caches */
  LARGE_PAGE = 2 << 20,
  LARGE_FLEET = 4096, /* nodes, from which on a tree fills its pages */
  TREE_IDLE = 4,      /* questions, times the trees: a tree not asked for so long may go */
};

static uint32_t groups_of(uint32_t n) {
  return (n + FLEET_FAN - 1) / FLEET_FAN;
}

/* Of all levels of one tree, each padded to whole groups; their beginnings in @room. */
static size_t tree_room(uint32_t nodes_max, size_t room[FLEET_TREE_LEVELS]) {
  size_t all = 0;
  uint32_t n = nodes_max;
  for (size_t i = 0; i < FLEET_TREE_LEVELS; i++) {
    room[i] = all;
    all += (size_t)groups_of(n) * FLEET_FAN;
    n = groups_of(n);
  }
  return all;
}

/* One piece for all trees there can ever be, of which the system gives what is written to. */
static bool trees_new(struct fleet_index *x, uint32_t nodes_max) {
  size_t room[FLEET_TREE_LEVELS], each = tree_room(nodes_max, room), all = FLEET_TREES_MAX * each * sizeof(int32_t);
  size_t align = all < LARGE_PAGE ? GROUP_BYTES : LARGE_PAGE;
  x->least_bytes = (all + align - 1) / align * align;
  x->least = aligned_alloc(align, x->least_bytes);
  if (!x->least) return false;
  for (size_t t = 0; t < FLEET_TREES_MAX; t++)
    for (size_t i = 0; i < FLEET_TREE_LEVELS; i++) x->trees[t].least[i] = x->least + t * each + room[i];
  return true;
}

/* A question reads some lines of every page of its tree: large pages spare a large fleet the walk to each of them. A
 * hint: not every kernel has such pages. */
static void ask_for_large_pages(struct fleet_index *x) {
  if (x->large || x->n < LARGE_FLEET || x->least_bytes < LARGE_PAGE) return;
  x->large = true;
  (void)madvise(x->least, x->least_bytes, MADV_HUGEPAGE);
}

static bool log_new(struct fleet_log *log, uint32_t nodes_max) {
  log->room = 1;
  while (log->room < FLEET_LOG && log->room < nodes_max) log->room *= 2;
  log->of = malloc(log->room * sizeof *log->of);
  return log->of != NULL;
}

struct fleet_index *fleet_index_new(uint32_t nodes_max) {
  struct fleet_index *x = calloc(1, sizeof *x);
  if (!x) return NULL;
  bool made = log_new(&x->rooms, nodes_max) && log_new(&x->kinds, nodes_max) && trees_new(x, nodes_max);
  x->changed = malloc(x->rooms.room * sizeof *x->changed);
  x->place_of = malloc(nodes_max * sizeof *x->place_of);
  x->slot_at = malloc(nodes_max * sizeof *x->slot_at);
  x->room = malloc(nodes_max * sizeof *x->room);
  x->gauge = malloc(nodes_max * sizeof *x->gauge);
  x->heap = malloc((nodes_max + groups_of(nodes_max) * 2 + 2 * FLEET_FAN) * sizeof *x->heap);
  x->layout = x->epoch = 1;
  x->stale = true;
  if (made && x->changed && x->place_of && x->slot_at && x->room && x->gauge && x->heap) return x;
  fleet_index_free(x);
  return NULL;
}

void fleet_index_free(struct fleet_index *x) {
  if (!x) return;
  BLX__ASSERT(x->shapes.count == 0 && x->pairs.count == 0 && x->kind_map.count == 0);
  for (size_t i = 0; i < x->n_bits; i++) free(x->bits[i].suits);
  blx__map_clear(&x->shapes);
  blx__map_clear(&x->pairs);
  blx__map_clear(&x->kind_map);
  free(x->rooms.of);
  free(x->kinds.of);
  free(x->changed);
  free(x->least);
  free(x->place_of);
  free(x->slot_at);
  free(x->room);
  free(x->gauge);
  free(x->heap);
  free(x);
}

size_t fleet_index_bytes(const struct blx__fleet *f) {
  const struct fleet_index *x = f->index;
  size_t n = f->options.nodes_max, room[FLEET_TREE_LEVELS];
  size_t trees = x->n_trees * tree_room((uint32_t)n, room) * sizeof(int32_t);
  size_t bits = x->n_bits * ((n + 63) / 64 * 2 * sizeof(uint64_t));
  size_t logs = (x->rooms.room * 2 + x->kinds.room) * sizeof(uint32_t);
  size_t per_place = 2 * sizeof(uint32_t) + sizeof *x->room + sizeof *x->gauge + sizeof *x->heap;
  return sizeof *x + n * per_place + trees + bits + logs;
}

/* ---- what changed */

static struct blx__fit_room room_of(const struct blx__fleet *f, uint32_t slot) {
  struct blx__fit_node node = fleet_fit_node(&f->nodes[slot].view);
  return blx__fit_room_of(fleet_fit(f), &node);
}

static void note(struct fleet_log *log, uint32_t of) {
  log->of[log->head++ & (log->room - 1)] = of;
}

/* While the order is to be made anew no place is known; then every tree is too. */
void fleet_index_note(struct blx__fleet *f, uint32_t slot, bool kind) {
  struct fleet_index *x = f->index;
  uint32_t place = x->stale ? 0 : x->place_of[slot];
  note(&x->rooms, place);
  if (kind) note(&x->kinds, slot);
  if (x->stale) return;
  x->gauge[place] = fleet_gauge_of(&f->nodes[slot]);
  if (x->room_epoch == x->epoch) x->room[place] = room_of(f, slot);
}

static void rooms_build(struct blx__fleet *f) {
  struct fleet_index *x = f->index;
  for (uint32_t at = 0; at < x->n; at++) x->room[at] = room_of(f, x->slot_at[at]);
  x->room_epoch = x->epoch;
}

void fleet_index_layout(struct blx__fleet *f) {
  f->index->stale = true;
  f->index->layout++;
}

static bool ties_before(const struct blx__fleet *f, uint32_t a, uint32_t b) {
  const struct fleet_node *left = &f->nodes[a], *right = &f->nodes[b];
  return left->hash != right->hash ? left->hash < right->hash : left->view.uid < right->view.uid;
}

static void swap(uint32_t *a, uint32_t *b) {
  uint32_t was = *a;
  *a = *b;
  *b = was;
}

static void sift(const struct blx__fleet *f, uint32_t *slots, uint32_t root, uint32_t end) {
  for (uint32_t child; (child = root * 2 + 1) < end; root = child) {
    if (child + 1 < end && ties_before(f, slots[child], slots[child + 1])) child++;
    if (!ties_before(f, slots[root], slots[child])) return;
    swap(&slots[root], &slots[child]);
  }
}

/* Heapsort (Williams, 1964): in place, for a question takes no memory. */
static void sort_places(struct blx__fleet *f) {
  struct fleet_index *x = f->index;
  x->n = 0;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++)
    if (f->nodes[slot].view.uid != 0) x->slot_at[x->n++] = slot;
  for (uint32_t root = x->n / 2; root-- > 0;) sift(f, x->slot_at, root, x->n);
  for (uint32_t end = x->n; end > 1; end--) {
    swap(&x->slot_at[0], &x->slot_at[end - 1]);
    sift(f, x->slot_at, 0, end - 1);
  }
  for (uint32_t at = 0; at < x->n; at++) {
    x->place_of[x->slot_at[at]] = at;
    x->gauge[at] = fleet_gauge_of(&f->nodes[x->slot_at[at]]);
  }
  x->stale = false;
  x->room_epoch = 0;
  ask_for_large_pages(x);
}

/* ---- interning */

static blx__rc digest(const struct blx__msg_desc *desc, const void *msg, const struct blx_quota *quota,
                      uint8_t key[BLX__SHA256_BYTES], blx_error *err) {
  struct blx__buf bytes;
  blx__buf_init(&bytes, 8 << 20);
  blx__rc rc = blx__msg_encode(desc, msg, &bytes, err);
  if (rc.code == 0 && quota) rc = blx__msg_encode(blx__desc_quota(), quota, &bytes, err);
  struct blx__slice part = {.data = bytes.data, .len = bytes.len};
  if (rc.code == 0) blx__sha256(&part, 1, key);
  blx__buf_free(&bytes);
  return rc;
}

/* What decides room and the cost alone. An embedder's strategy may look at all of a need. */
static blx__rc shape_key(const struct fleet_class *c, uint8_t key[BLX__SHA256_BYTES], blx_error *err) {
  const struct blx_vm_spec *s = c->spec;
  struct blx_vm_spec shape = BLX_VM_SPEC_INIT;
  if (s->strategy >= BLX__FLEET_STRATEGY_FIRST) return digest(blx__desc_vm_spec(), s, c->quota, key, err);
  shape.cpu_milli = (uint32_t)c->need.cpu_milli;
  shape.memory_mib = s->memory_mib;
  shape.strategy = s->strategy;
  shape.strategies = s->strategies;
  shape.n_strategies = s->n_strategies;
  shape.preferences = s->preferences;
  shape.n_preferences = s->n_preferences;
  shape.resources = s->resources;
  shape.n_resources = s->n_resources;
  shape.data = s->data;
  shape.n_data = s->n_data;
  return digest(blx__desc_vm_spec(), &shape, NULL, key, err);
}

static blx__rc kind_key(const struct fleet_class *c, uint8_t key[BLX__SHA256_BYTES], blx_error *err) {
  const struct blx_vm_spec *s = c->spec;
  struct blx_vm_spec kind = BLX_VM_SPEC_INIT;
  struct blx_quota nodes = BLX_QUOTA_INIT;
  kind.hypervisor = s->hypervisor;
  kind.ha = s->ha;
  kind.node_selector = s->node_selector;
  kind.n_node_selector = s->n_node_selector;
  kind.constraints = s->constraints;
  kind.n_constraints = s->n_constraints;
  kind.tolerations = s->tolerations;
  kind.n_tolerations = s->n_tolerations;
  kind.cpu_features = s->cpu_features;
  kind.n_cpu_features = s->n_cpu_features;
  if (c->quota) {
    nodes.nodes = c->quota->nodes;
    nodes.n_nodes = c->quota->n_nodes;
  }
  return digest(blx__desc_vm_spec(), &kind, c->quota && c->quota->n_nodes ? &nodes : NULL, key, err);
}

/* Shapes and kinds begin alike: key, refs. */
static void *interned(struct blx__map *map, const uint8_t key[BLX__SHA256_BYTES], size_t size) {
  void *found = blx__map_get(map, key, BLX__SHA256_BYTES);
  if (found) return found;
  found = calloc(1, size);
  if (found && blx__map_set(map, key, BLX__SHA256_BYTES, found, NULL)) return found;
  free(found);
  return NULL;
}

/* Room for one more shape's or kind's answers while there is; after that they take turns. */
static void more_trees(struct fleet_index *x) {
  if (x->n_trees < FLEET_TREES_MAX && x->n_trees < x->pairs.count) x->n_trees++;
}

static bool more_bits(struct blx__fleet *f) {
  struct fleet_index *x = f->index;
  size_t words = (f->options.nodes_max + 63) / 64;
  if (x->n_bits == FLEET_KINDS_MAX || x->n_bits >= x->kind_map.count) return true;
  uint64_t *memory = malloc(words * 2 * sizeof *memory);
  if (!memory) return false;
  x->bits[x->n_bits].suits = memory;
  x->bits[x->n_bits++].avoids = memory + words;
  return true;
}

static struct fleet_shape *shape_ref(struct blx__map *map, const uint8_t key[BLX__SHA256_BYTES]) {
  struct fleet_shape *s = interned(map, key, sizeof *s);
  if (!s) return NULL;
  s->refs++;
  memcpy(s->key, key, sizeof s->key);
  return s;
}

static void shape_unref(struct blx__map *map, struct fleet_shape *s) {
  if (!s || --s->refs > 0) return;
  if (s->tree) s->tree->of = NULL;
  blx__map_remove(map, s->key, sizeof s->key);
  free(s);
}

blx__rc fleet_index_class(struct blx__fleet *f, struct fleet_class *c, blx_error *err) {
  struct fleet_index *x = f->index;
  uint8_t shape[BLX__SHA256_BYTES], kind[BLX__SHA256_BYTES], pair[BLX__SHA256_BYTES];
  BLX__TRY(shape_key(c, shape, err));
  BLX__TRY(kind_key(c, kind, err));
  const struct blx__slice both[] = {{.data = shape, .len = sizeof shape}, {.data = kind, .len = sizeof kind}};
  blx__sha256(both, BLX__COUNT(both), pair);
  c->shape = shape_ref(&x->shapes, shape);
  c->pair = shape_ref(&x->pairs, pair);
  c->kind = interned(&x->kind_map, kind, sizeof *c->kind);
  if (c->kind) {
    c->kind->refs++;
    memcpy(c->kind->key, kind, sizeof kind);
  }
  if (c->pair) more_trees(x);
  bool made = c->shape && c->pair && c->kind && more_bits(f);
  return made ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "placement", "no memory for an index");
}

void fleet_index_drop(struct blx__fleet *f, struct fleet_class *c) {
  struct fleet_kind *k = c->kind;
  shape_unref(&f->index->shapes, c->shape);
  shape_unref(&f->index->pairs, c->pair);
  if (k && --k->refs == 0) {
    if (k->bits) k->bits->of = NULL;
    blx__map_remove(&f->index->kind_map, k->key, sizeof k->key);
    free(k);
  }
  c->shape = c->pair = NULL;
  c->kind = NULL;
}

/* ---- trees */

/* In four chains, so that no comparison waits for the one before. */
static inline int32_t least_of(const int32_t *group) {
  int32_t least[4] = {group[0], group[1], group[2], group[3]};
  for (int i = 4; i < FLEET_FAN; i += 4)
    for (int k = 0; k < 4; k++) least[k] = group[i + k] < least[k] ? group[i + k] : least[k];
  int32_t left = least[0] < least[1] ? least[0] : least[1], right = least[2] < least[3] ? least[2] : least[3];
  return left < right ? left : right;
}

/* What of a question a leaf's cost needs. BestFit alone goes by rooms, LoadBalanced alone by gauges. */
struct leaf {
  struct blx__fleet *f;
  const struct fleet_class *c;
  const struct blx__fit *fit; /* NULL: the cost is more than that */
  struct blx__fit_ask ask;
  bool balances;
  const uint64_t *suits; /* places that have a cost; NULL: all */
};

/* More taken than there is looks in a room as if nothing were free: then only what asks for nothing would differ. */
static struct leaf leaf_of(struct blx__fleet *f, const struct fleet_class *c, const uint64_t *suits) {
  struct leaf leaf = {.f = f, .c = c, .suits = suits};
  bool asks = c->need.cpu_milli > 0 && c->need.memory_mib > 0 && c->need.n_named == 0;
  if (!asks || c->spec->n_preferences > 0) return leaf;
  leaf.balances = c->spec->strategy == BLX_STRATEGY_LOAD_BALANCED;
  if (c->spec->strategy == BLX_STRATEGY_BEST_FIT) leaf.fit = fleet_fit(f);
  if (!leaf.fit) return leaf;
  leaf.ask = blx__fit_ask_of(leaf.fit, c->need.cpu_milli, c->need.memory_mib);
  if (f->index->room_epoch != f->index->epoch) rooms_build(f);
  return leaf;
}

/* Records lie apart, each in several lines: all are asked for before the first is read. */
static void costs_alone(const struct leaf *leaf, const uint32_t *places, size_t n, int32_t *out) {
  const struct blx__fleet *f = leaf->f;
  const uint32_t *slot_at = f->index->slot_at;
  for (size_t i = 0; i < n; i++) {
    const struct fleet_node *node = &f->nodes[slot_at[places[i]]];
    __builtin_prefetch(&node->view.cpu_milli);
    __builtin_prefetch(&node->rec);
    __builtin_prefetch(&node->raw_memory_mib);
  }
  for (size_t i = 0; i < n; i++) __builtin_prefetch(&f->nodes[slot_at[places[i]]].rec->has_load_cpu_permille);
  for (size_t i = 0; i < n; i++) out[i] = fleet_cost_alone(f, leaf->c, slot_at[places[i]]);
}

static void balanced_costs(const struct leaf *leaf, const uint32_t *places, size_t n, int32_t *out) {
  const struct fleet_gauge *gauge = leaf->f->index->gauge;
  for (size_t i = 0; i < n; i++) out[i] = fleet_balanced_alone(&gauge[places[i]], &leaf->c->need);
}

static void leaf_costs(const struct leaf *leaf, const uint32_t *places, size_t n, int32_t *out) {
  const struct fleet_index *x = leaf->f->index;
  if (leaf->fit)
    blx__fit_costs_of(leaf->fit, x->room, places, n, &leaf->ask, out);
  else if (leaf->balances)
    balanced_costs(leaf, places, n, out);
  else
    costs_alone(leaf, places, n, out);
  for (size_t i = 0; leaf->suits && i < n; i++) out[i] = fleet_bit(leaf->suits, places[i]) ? out[i] : FLEET_FULL;
}

static void pad(int32_t *level, uint32_t n) {
  for (uint32_t i = n; i % FLEET_FAN != 0 || i == 0; i++) level[i] = FLEET_FULL;
}

/* A word of places that suit. */
static void leaves_of(const struct leaf *leaf, uint32_t first, uint64_t suits, int32_t *out) {
  uint32_t places[64];
  int32_t costs[64];
  size_t n = 0;
  for (; suits != 0; suits &= suits - 1) places[n++] = first + (uint32_t)__builtin_ctzll(suits);
  leaf_costs(leaf, places, n, costs);
  for (size_t i = 0; i < n; i++) out[places[i]] = costs[i];
}

static void leaves_build(const struct leaf *leaf, int32_t *out) {
  const struct fleet_index *x = leaf->f->index;
  if (!leaf->suits && leaf->fit) {
    blx__fit_costs(leaf->fit, x->room, x->n, &leaf->ask, out);
    return;
  }
  for (uint32_t at = 0; at < x->n; at++) out[at] = FLEET_FULL;
  for (uint32_t first = 0; first < x->n; first += 64) {
    uint64_t all = x->n - first < 64 ? (UINT64_C(1) << (x->n - first)) - 1 : UINT64_MAX;
    leaves_of(leaf, first, leaf->suits ? leaf->suits[first / 64] : all, out);
  }
}

static void tree_build(const struct leaf *leaf, struct fleet_tree *t) {
  const struct fleet_index *x = leaf->f->index;
  t->n[0] = x->n;
  leaves_build(leaf, t->least[0]);
  pad(t->least[0], x->n);
  for (size_t level = 1; level < FLEET_TREE_LEVELS; level++) {
    t->n[level] = groups_of(t->n[level - 1]);
    for (uint32_t at = 0; at < t->n[level]; at++)
      t->least[level][at] = least_of(&t->least[level - 1][(size_t)at * FLEET_FAN]);
    pad(t->least[level], t->n[level]);
  }
  BLX__ASSERT(t->n[FLEET_TREE_LEVELS - 1] <= FLEET_FAN);
}

enum {
  GROUPS_MAX = (BLX__FLEET_NODES_MAX + FLEET_FAN - 1) / FLEET_FAN,
  GROUP_WORDS = (GROUPS_MAX + 63) / 64,
  PLACE_WORDS = (BLX__FLEET_NODES_MAX + 63) / 64,
  BATCH = 32,
};

/* Of the groups marked below, the least; and what that changes above. */
static void tree_lift(struct fleet_tree *t, size_t level, uint64_t *marked) {
  uint64_t above[GROUP_WORDS] = {0};
  size_t words = (t->n[level] + 63) / 64;
  for (size_t w = 0; w < words; w++) {
    for (uint64_t left = marked[w]; left != 0; left &= left - 1) {
      uint32_t at = (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(left);
      int32_t least = least_of(&t->least[level - 1][(size_t)at * FLEET_FAN]);
      above[at / FLEET_FAN / 64] |= (uint64_t)(least != t->least[level][at]) << at / FLEET_FAN % 64;
      t->least[level][at] = least;
    }
  }
  memcpy(marked, above, sizeof above);
}

/* Places that changed since, each once. */
static size_t changed_since(struct fleet_index *x, uint64_t seen) {
  uint64_t met[PLACE_WORDS] = {0};
  size_t n = 0;
  for (uint64_t i = seen; i < x->rooms.head; i++) {
    uint32_t at = x->rooms.of[i & (x->rooms.room - 1)];
    x->changed[n] = at;
    n += !(met[at / 64] >> at % 64 & 1);
    met[at / 64] |= UINT64_C(1) << at % 64;
  }
  return n;
}

static void fetch(const struct fleet_tree *t, const uint32_t *places, size_t n) {
  for (size_t i = 0; i < n; i++) __builtin_prefetch(&t->least[0][places[i]], 1);
}

/* In batches: while one is worked out the leaves of the next come from memory. A group whose least neither left nor was
 * undercut is as it was above. No jump there depends on a cost: half of them change, in no order. */
static void tree_replay(const struct leaf *leaf, struct fleet_tree *t) {
  struct fleet_index *x = leaf->f->index;
  uint64_t marked[GROUP_WORDS] = {0};
  const uint32_t *left = x->changed;
  int32_t costs[BATCH];
  size_t n = changed_since(x, t->seen), batch = n < BATCH ? n : BATCH;
  fetch(t, left, batch);
  for (; n > 0; left += batch, n -= batch, batch = n < BATCH ? n : BATCH) {
    size_t more = n - batch < BATCH ? n - batch : BATCH;
    fetch(t, left + batch, more);
    leaf_costs(leaf, left, batch, costs);
    for (size_t i = 0; i < batch; i++) {
      uint32_t at = left[i], group = at / FLEET_FAN;
      int32_t was = t->least[0][at], lower = was < costs[i] ? was : costs[i];
      marked[group / 64] |= (uint64_t)((was != costs[i]) & (lower <= t->least[1][group])) << group % 64;
      t->least[0][at] = costs[i];
    }
  }
  for (size_t level = 1; level < FLEET_TREE_LEVELS; level++) tree_lift(t, level, marked);
}

/* ---- kinds */

static void bit_set(uint64_t *bits, uint32_t *count, uint32_t at, bool on) {
  uint64_t bit = UINT64_C(1) << at % 64;
  *count += on && !(bits[at / 64] & bit);
  *count -= !on && (bits[at / 64] & bit);
  bits[at / 64] = on ? bits[at / 64] | bit : bits[at / 64] & ~bit;
}

static void look(const struct blx__fleet *f, const struct fleet_class *c, struct fleet_bits *b, uint32_t at) {
  const struct fleet_node *n = &f->nodes[f->index->slot_at[at]];
  bool suits = n->usable && blx__placement_suits(&n->view, &c->need);
  bool avoids = n->view.n_taints > 0 && blx__placement_taint(&n->view, &c->need, BLX_TAINT_EFFECT_AVOID) != NULL;
  bit_set(b->suits, &b->n_suits, at, suits);
  bit_set(b->avoids, &b->n_avoids, at, suits && avoids);
}

static struct fleet_bits *bits_take(struct fleet_index *x) {
  struct fleet_bits *oldest = &x->bits[0];
  for (size_t i = 0; i < x->n_bits; i++) {
    if (!x->bits[i].of) return &x->bits[i];
    if (x->bits[i].asked < oldest->asked) oldest = &x->bits[i];
  }
  oldest->of->bits = NULL;
  return oldest;
}

const struct fleet_bits *fleet_bits_of(const struct fleet_query *q) {
  struct fleet_index *x = q->f->index;
  struct fleet_kind *k = q->class->kind;
  struct fleet_bits *b = k->bits;
  if (x->stale) sort_places(q->f);
  if (!b) {
    b = bits_take(x);
    b->of = k;
    b->layout = 0;
    k->bits = b;
  }
  if (b->layout != x->layout || x->kinds.head - b->seen > x->kinds.room || x->kinds.head - b->seen > x->n) {
    size_t words = (x->n + 63) / 64;
    memset(b->suits, 0, words * sizeof *b->suits);
    memset(b->avoids, 0, words * sizeof *b->avoids);
    b->n_suits = b->n_avoids = 0;
    for (uint32_t at = 0; at < x->n; at++) look(q->f, q->class, b, at);
  } else {
    for (uint64_t i = b->seen; i < x->kinds.head; i++)
      look(q->f, q->class, b, x->place_of[x->kinds.of[i & (x->kinds.room - 1)]]);
  }
  b->seen = x->kinds.head;
  b->layout = x->layout;
  b->asked = ++x->asked;
  return b;
}

/* ---- which tree */

/* One that is free, or the one asked for least recently. */
static struct fleet_tree *tree_spare(struct fleet_index *x) {
  struct fleet_tree *oldest = &x->trees[0];
  for (size_t i = 0; i < x->n_trees; i++) {
    if (!x->trees[i].of) return &x->trees[i];
    if (x->trees[i].asked < oldest->asked) oldest = &x->trees[i];
  }
  return oldest;
}

/* That of the pair where it spares a search, unless trees are so few that the shape's, shared by all kinds, must do. */
static struct fleet_shape *tree_owner(struct fleet_index *x, const struct fleet_class *c, const struct fleet_bits *b) {
  if (b->n_suits == x->n) return c->shape;
  if (c->pair->tree) return c->pair;
  const struct fleet_tree *spare = tree_spare(x);
  return !spare->of || spare->asked + TREE_IDLE * x->n_trees < x->asked ? c->pair : c->shape;
}

const struct fleet_tree *fleet_tree_of(const struct fleet_query *q, const struct fleet_bits *bits) {
  struct fleet_index *x = q->f->index;
  struct fleet_shape *s = tree_owner(x, q->class, bits);
  struct fleet_tree *t = s->tree;
  BLX__ASSERT(!x->stale && bits->layout == x->layout);
  if (!t) {
    t = tree_spare(x);
    if (t->of) t->of->tree = NULL;
    t->of = s;
    t->layout = 0;
    s->tree = t;
  }
  struct leaf leaf = leaf_of(q->f, q->class, s == q->class->pair ? bits->suits : NULL);
  uint64_t behind = x->rooms.head - t->seen;
  if (t->layout != x->layout || (q->class->fits && t->epoch != x->epoch) || behind > x->rooms.room || behind > x->n / 2)
    tree_build(&leaf, t);
  else
    tree_replay(&leaf, t);
  t->seen = x->rooms.head;
  t->layout = x->layout;
  t->epoch = x->epoch;
  t->asked = ++x->asked;
  return t;
}
