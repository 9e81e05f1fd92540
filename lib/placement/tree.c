/* The cheapest node of a shape: branch and bound over groups of nodes (Land and Doig, 1960). Nothing is kept of a node.
 * A group has a bound, the least that one of its nodes may cost: a change can only lower it, or make its owner unknown;
 * it is raised when a question comes to the group and works out its costs, or all of the tree is built anew. */
#include "placement/index.h"

#include <stdlib.h>
#include <string.h>

enum {
  UNKNOWN = FLEET_FAN, /* which node of a group costs what is its bound, and whether any does */
  TREE_IDLE = 4,       /* questions, times the trees: a tree not asked for so long may go */
  LINE = 64,           /* bytes, of most caches */
  BATCH = 64,          /* places worked out at once: those of a word of bits, in whole groups */
};

static uint32_t groups_of(uint32_t n) {
  return (n + FLEET_FAN - 1) / FLEET_FAN;
}

/* ---- memory */

/* One piece for all trees there can ever be, of which the system gives what is written to. */
bool fleet_trees_new(struct fleet_index *x, uint32_t nodes_max) {
  size_t room[FLEET_TREE_LEVELS], bounds = 0;
  uint32_t groups = groups_of(nodes_max);
  for (uint32_t i = 0, n = groups; i < FLEET_TREE_LEVELS; i++, n = groups_of(n)) {
    room[i] = bounds;
    bounds += (size_t)groups_of(n) * FLEET_FAN;
  }
  x->tree_bytes = (bounds * sizeof(int32_t) + groups + LINE - 1) / LINE * LINE;
  uint8_t *at = x->tree_memory = aligned_alloc(LINE, FLEET_TREES_MAX * x->tree_bytes);
  if (!at) return false;
  for (size_t t = 0; t < FLEET_TREES_MAX; t++, at += x->tree_bytes) {
    for (size_t i = 0; i < FLEET_TREE_LEVELS; i++) x->trees[t].least[i] = (int32_t *)(void *)at + room[i];
    x->trees[t].owner = at + bounds * sizeof(int32_t);
  }
  return true;
}

/* ---- what nodes cost */

/* More taken than there is looks in a room as if nothing were free: then only what asks for nothing would differ. */
static struct fleet_costs costs_for(struct blx__fleet *f, const struct fleet_class *c, const uint64_t *suits) {
  struct fleet_costs costs = {.f = f, .c = c, .suits = suits};
  bool asks = c->need.cpu_milli > 0 && c->need.memory_mib > 0 && c->need.n_named == 0;
  if (!asks || c->spec->n_preferences > 0) return costs;
  costs.balances = c->spec->strategy == BLX_STRATEGY_LOAD_BALANCED;
  if (c->spec->strategy == BLX_STRATEGY_BEST_FIT) costs.fit = fleet_fit(f);
  if (!costs.fit) return costs;
  costs.ask = blx__fit_ask_of(costs.fit, c->need.cpu_milli, c->need.memory_mib);
  if (f->index->room_epoch != f->index->epoch) fleet_rooms_build(f);
  return costs;
}

/* Records lie apart, each in several lines: all are asked for before the first is read. */
static void costs_alone(const struct fleet_costs *costs, const uint32_t *places, size_t n, int32_t *out) {
  const struct blx__fleet *f = costs->f;
  const uint32_t *slot_at = f->index->slot_at;
  for (size_t i = 0; i < n; i++) {
    const struct fleet_node *node = &f->nodes[slot_at[places[i]]];
    __builtin_prefetch(&node->view.cpu_milli);
    __builtin_prefetch(&node->rec);
    __builtin_prefetch(&node->raw_memory_mib);
  }
  for (size_t i = 0; i < n; i++) __builtin_prefetch(&f->nodes[slot_at[places[i]]].rec->has_load_cpu_permille);
  for (size_t i = 0; i < n; i++) out[i] = fleet_cost_alone(f, costs->c, slot_at[places[i]]);
}

void fleet_costs_of(const struct fleet_costs *costs, const uint32_t *places, size_t n, int32_t *out) {
  const struct fleet_index *x = costs->f->index;
  if (costs->fit) {
    blx__fit_costs(costs->fit, x->room, places, n, &costs->ask, out);
  } else if (costs->balances) {
    for (size_t i = 0; i < n; i++) out[i] = fleet_balanced_alone(&x->gauge[places[i]], &costs->c->need);
  } else {
    costs_alone(costs, places, n, out);
  }
}

/* Of the @n places from @first on, all of one word of bits, those that suit. */
static size_t suiting(const struct fleet_costs *costs, uint32_t first, uint32_t n, uint32_t places[BATCH]) {
  size_t found = 0;
  uint64_t left = costs->suits ? costs->suits[first / 64] >> first % 64 : UINT64_MAX;
  BLX__ASSERT(n > 0 && first % 64 + n <= 64);
  if (n < 64) left &= (UINT64_C(1) << n) - 1;
  for (; left != 0; left &= left - 1) places[found++] = first + (uint32_t)__builtin_ctzll(left);
  return found;
}

/* Of such places. Up to whole groups FLEET_FULL follows. */
static void costs_from(const struct fleet_costs *costs, uint32_t first, uint32_t n, int32_t *out) {
  uint32_t places[BATCH], filled = groups_of(n) * FLEET_FAN;
  int32_t found[BATCH];
  places[0] = first; /* so that no compiler takes it for unset */
  size_t suit = suiting(costs, first, n, places);
  fleet_costs_of(costs, places, suit, found);
  for (uint32_t i = 0; i < filled; i++) out[i] = FLEET_FULL;
  for (size_t i = 0; i < suit; i++) out[places[i] - first] = found[i];
}

/* ---- bounds */

/* In four chains, so that no comparison waits for the one before. */
static inline int32_t least_of(const int32_t *group) {
  int32_t least[4] = {group[0], group[1], group[2], group[3]};
  for (int i = 4; i < FLEET_FAN; i += 4)
    for (int k = 0; k < 4; k++) least[k] = group[i + k] < least[k] ? group[i + k] : least[k];
  int32_t left = least[0] < least[1] ? least[0] : least[1], right = least[2] < least[3] ? least[2] : least[3];
  return left < right ? left : right;
}

static uint32_t leftmost_of(const int32_t *group) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < FLEET_FAN; i++) best = group[i] < group[best] ? i : best;
  return best;
}

static void pad(int32_t *level, uint32_t n) {
  for (uint32_t i = n; i % FLEET_FAN != 0 || i == 0; i++) level[i] = FLEET_FULL;
}

static void bounds_build(const struct fleet_costs *costs, int32_t *least) {
  const struct fleet_index *x = costs->f->index;
  int32_t out[BATCH];
  if (costs->fit && !costs->suits) {
    blx__fit_least(costs->fit, x->room, x->n, &costs->ask, least);
    return;
  }
  for (uint32_t first = 0; first < x->n; first += BATCH) {
    uint32_t n = x->n - first < BATCH ? x->n - first : BATCH;
    costs_from(costs, first, n, out);
    for (uint32_t g = 0; g < groups_of(n); g++) *least++ = least_of(&out[(size_t)g * FLEET_FAN]);
  }
}

static void tree_build(const struct fleet_costs *costs, struct fleet_tree *t) {
  uint32_t n = groups_of(costs->f->index->n);
  bounds_build(costs, t->least[0]);
  memset(t->owner, UNKNOWN, n);
  pad(t->least[0], n);
  for (size_t level = 1; level < FLEET_TREE_LEVELS; level++) {
    n = groups_of(n);
    for (uint32_t at = 0; at < n; at++) t->least[level][at] = least_of(&t->least[level - 1][(size_t)at * FLEET_FAN]);
    pad(t->least[level], n);
  }
  BLX__ASSERT(n <= FLEET_FAN);
}

static void lower(struct fleet_tree *t, uint32_t group, int32_t cost) {
  for (size_t level = 0; level < FLEET_TREE_LEVELS && cost < t->least[level][group]; level++, group /= FLEET_FAN)
    t->least[level][group] = cost;
}

/* A node costs now @cost. While the owner of a bound is unknown, one left of this may cost the same. */
static void note_cost(struct fleet_tree *t, uint32_t place, int32_t cost) {
  uint32_t group = place / FLEET_FAN;
  uint8_t at = place % FLEET_FAN, owner = t->owner[group];
  int32_t least = t->least[0][group];
  if (cost < least) lower(t, group, cost);
  bool gone = cost > least && owner == at, before = cost == least && owner != UNKNOWN && at < owner;
  owner = gone ? UNKNOWN : owner;
  t->owner[group] = cost < least || before ? at : owner;
}

/* Places that changed since, each once: those struck out changed again. */
static size_t changed_since(struct fleet_index *x, uint64_t seen) {
  size_t n = 0;
  for (uint64_t i = seen; i < x->rooms.head; i++) {
    uint32_t at = x->rooms.of[i & (x->rooms.room - 1)];
    x->changed[n] = at;
    n += at != FLEET_NONE;
  }
  return n;
}

static void tree_replay(const struct fleet_costs *costs, struct fleet_tree *t) {
  struct fleet_index *x = costs->f->index;
  int32_t out[BATCH];
  size_t n = changed_since(x, t->seen);
  for (size_t first = 0, batch; first < n; first += batch) {
    const uint32_t *places = &x->changed[first];
    batch = n - first < BATCH ? n - first : BATCH;
    fleet_costs_of(costs, places, batch, out);
    for (size_t i = 0; i < batch; i++) {
      bool suits = !costs->suits || fleet_bit(costs->suits, places[i]);
      note_cost(t, places[i], suits ? out[i] : FLEET_FULL);
    }
  }
}

void fleet_tree_group(const struct fleet_costs *costs, struct fleet_tree *t, uint32_t group, int32_t out[FLEET_FAN]) {
  uint32_t first = group * FLEET_FAN, left = costs->f->index->n - first;
  costs_from(costs, first, left < FLEET_FAN ? left : FLEET_FAN, out);
  t->owner[group] = (uint8_t)leftmost_of(out);
  int32_t least = out[t->owner[group]];
  BLX__ASSERT(least >= t->least[0][group] || costs->c->spec->strategy >= BLX__FLEET_STRATEGY_FIRST);
  t->least[0][group] = least;
  for (size_t level = 1; level < FLEET_TREE_LEVELS; level++) {
    group /= FLEET_FAN;
    least = least_of(&t->least[level - 1][(size_t)group * FLEET_FAN]);
    if (least == t->least[level][group]) return;
    t->least[level][group] = least;
  }
}

uint32_t fleet_tree_cheapest(const struct fleet_costs *costs, struct fleet_tree *t) {
  int32_t out[FLEET_FAN];
  for (;;) {
    uint32_t at = 0;
    for (size_t level = FLEET_TREE_LEVELS; level-- > 0;) {
      const int32_t *group = t->least[level] + (size_t)at * FLEET_FAN;
      uint32_t best = leftmost_of(group);
      if (group[best] == FLEET_FULL) return FLEET_NONE;
      at = at * FLEET_FAN + best;
    }
    if (t->owner[at] != UNKNOWN) return at * FLEET_FAN + t->owner[at];
    fleet_tree_group(costs, t, at, out);
  }
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

struct fleet_tree *fleet_tree_of(const struct fleet_query *q, const struct fleet_bits *bits,
                                 struct fleet_costs *costs) {
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
  *costs = costs_for(q->f, q->class, s == q->class->pair ? bits->suits : NULL);
  uint64_t behind = x->rooms.head - t->seen;
  if (t->layout != x->layout || (q->class->fits && t->epoch != x->epoch) || behind > x->rooms.room || behind > x->n / 2)
    tree_build(costs, t);
  else
    tree_replay(costs, t);
  t->seen = x->rooms.head;
  t->layout = x->layout;
  t->epoch = x->epoch;
  t->asked = ++x->asked;
  return t;
}
