#include "placement/index.h"
#include "base/digest.h"
#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>

/* ---- logs */

bool fleet_log_new(struct fleet_log *log, uint32_t numbers) {
  log->room = 1;
  while (log->room < FLEET_LOG && log->room < numbers) log->room *= 2;
  log->of = malloc(log->room * sizeof *log->of);
  log->newest = calloc(numbers, sizeof *log->newest);
  return log->of && log->newest;
}

void fleet_log_free(struct fleet_log *log) {
  free(log->of);
  free(log->newest);
}

size_t fleet_log_bytes(const struct fleet_log *log, uint32_t numbers) {
  return log->room * sizeof *log->of + numbers * sizeof *log->newest;
}

void fleet_log_note(struct fleet_log *log, uint32_t what) {
  uint64_t before = log->newest[what];
  if (before > 0 && log->head - before < log->room) log->of[(before - 1) & (log->room - 1)] = FLEET_NONE;
  log->of[log->head++ & (log->room - 1)] = what;
  log->newest[what] = log->head;
}

/* ---- memory */

/* Everything of a tree at once, at most. */
static size_t heap_size(uint32_t nodes_max) {
  return nodes_max + nodes_max / FLEET_FAN * 2 + 4 * FLEET_FAN;
}

struct fleet_index *fleet_index_new(uint32_t nodes_max) {
  struct fleet_index *x = calloc(1, sizeof *x);
  if (!x) return NULL;
  bool logs = fleet_log_new(&x->places, nodes_max) && fleet_log_new(&x->kinds, nodes_max);
  bool made = logs && fleet_rooms_new(&x->rooms, nodes_max) && fleet_trees_new(x, nodes_max);
  x->changed = malloc(x->rooms.log.room * sizeof *x->changed); /* there are not fewer rooms than places */
  x->place_of = malloc(nodes_max * sizeof *x->place_of);
  x->slot_at = malloc(nodes_max * sizeof *x->slot_at);
  x->gauge = malloc(nodes_max * sizeof *x->gauge);
  x->heap = malloc(heap_size(nodes_max) * sizeof *x->heap);
  x->layout = x->epoch = 1;
  x->stale = true;
  if (made && x->changed && x->place_of && x->slot_at && x->gauge && x->heap) return x;
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
  fleet_log_free(&x->places);
  fleet_log_free(&x->kinds);
  fleet_rooms_free(&x->rooms);
  free(x->changed);
  free(x->tree_memory);
  free(x->place_of);
  free(x->slot_at);
  free(x->gauge);
  free(x->heap);
  free(x);
}

size_t fleet_index_bytes(const struct blx__fleet *f) {
  const struct fleet_index *x = f->index;
  uint32_t n = f->options.nodes_max;
  size_t bits = x->n_bits * ((n + 63) / 64 * 2 * sizeof(uint64_t)), trees = x->n_trees * x->tree_bytes;
  size_t logs = fleet_log_bytes(&x->places, n) + fleet_log_bytes(&x->kinds, n) + x->rooms.log.room * sizeof *x->changed;
  size_t per_place = sizeof *x->place_of + sizeof *x->slot_at + sizeof *x->gauge;
  return sizeof *x + n * per_place + heap_size(n) * sizeof *x->heap + fleet_rooms_bytes(&x->rooms, n) + logs + trees +
         bits;
}

/* ---- what changed */

static uint64_t above_zero(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

struct blx__fit_node fleet_fit_node(const struct fleet_gauge *g) {
  return (struct blx__fit_node){.cpu_milli = g->cpu_milli,
                                .memory_mib = g->memory_mib,
                                .free_cpu_milli = above_zero(g->cpu_milli, g->allocated_cpu_milli),
                                .free_memory_mib = above_zero(g->memory_mib, g->allocated_memory_mib)};
}

/* While the order is to be made anew no place is known; then every tree is too. */
void fleet_index_note(struct blx__fleet *f, uint32_t slot, bool kind) {
  struct fleet_index *x = f->index;
  if (x->stale) return;
  uint32_t place = x->place_of[slot];
  fleet_log_note(&x->places, place);
  if (kind) {
    fleet_log_note(&x->kinds, place);
    fleet_rooms_told(f, place);
    x->gauge[place] = fleet_gauge_of(&f->nodes[slot]);
  }
  x->gauge[place].allocated_cpu_milli = f->nodes[slot].view.allocated_cpu_milli;
  x->gauge[place].allocated_memory_mib = f->nodes[slot].view.allocated_memory_mib;
  fleet_rooms_note(f, place);
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
void fleet_index_order(struct blx__fleet *f) {
  struct fleet_index *x = f->index;
  if (!x->stale) return;
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
  fleet_rooms_build(f);
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
  BLX__ASSERT(!suits || f->index->rooms.places[at].open); /* else no room has it */
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
  fleet_index_order(q->f);
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
    for (uint64_t i = b->seen; i < x->kinds.head; i++) {
      uint32_t place = x->kinds.of[i & (x->kinds.room - 1)];
      if (place != FLEET_NONE) look(q->f, q->class, b, place);
    }
  }
  b->seen = x->kinds.head;
  b->layout = x->layout;
  b->asked = ++x->asked;
  return b;
}
