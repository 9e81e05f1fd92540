/* The cheapest node of a shape: branch and bound over groups of 16 nodes, or rooms (Land and Doig, 1960). Nothing is
 * kept of a node. A group has a bound, the least that one of its nodes may cost: a change can only lower it, or make
 * unknown whose it is; it is raised when a question comes to the group and works out its costs, or all of the tree is
 * built anew. */
#include "placement/index.h"

#include <stdlib.h>
#include <string.h>

enum {
  TREE_IDLE = 4, /* questions, times the trees: a tree not asked for so long may go */
  BATCH = 64,    /* worked out at once: those of a word of bits, in whole groups */
};

static uint32_t groups_of(uint32_t n) {
  return (n + FLEET_FAN - 1) / FLEET_FAN;
}

/* ---- memory */

/* One piece for all trees there can ever be, of which the system gives what is written to. */
bool fleet_trees_new(struct fleet_index *x, uint32_t nodes_max) {
  size_t room[FLEET_TREE_LEVELS], bounds = 0;
  uint32_t n = nodes_max + 1; /* rooms: one is nobody's */
  for (uint32_t i = 0; i < FLEET_TREE_LEVELS; i++) {
    n = groups_of(n);
    room[i] = bounds;
    bounds += (size_t)groups_of(n) * FLEET_FAN;
  }
  x->tree_bytes = (bounds * sizeof(uint64_t) + FLEET_LINE - 1) / FLEET_LINE * FLEET_LINE;
  uint8_t *at = x->tree_memory = aligned_alloc(FLEET_LINE, FLEET_TREES_MAX * x->tree_bytes);
  if (!at) return false;
  for (size_t t = 0; t < FLEET_TREES_MAX; t++, at += x->tree_bytes) {
    for (size_t i = 0; i < FLEET_TREE_LEVELS; i++) x->trees[t].least[i] = (uint64_t *)(void *)at + room[i];
  }
  return true;
}

/* ---- what nodes cost */

/* What a gauge decides alone. More taken than there is looks in a room as if nothing were free: then only what asks for
 * nothing would differ. */
static bool gauge_decides(const struct fleet_class *c, int32_t strategy) {
  bool asks = c->need.cpu_milli > 0 && c->need.memory_mib > 0 && c->need.n_named == 0;
  return asks && c->spec->n_preferences == 0 && c->spec->strategy == strategy;
}

static const struct blx__fit *fit_of(const struct blx__fleet *f, const struct fleet_class *c) {
  return gauge_decides(c, BLX_STRATEGY_BEST_FIT) ? fleet_fit(f) : NULL;
}

static struct fleet_costs costs_for(struct blx__fleet *f, const struct fleet_class *c, const uint64_t *suits) {
  struct fleet_costs costs = {.f = f, .c = c, .suits = suits, .fit = fit_of(f, c)};
  costs.balances = gauge_decides(c, BLX_STRATEGY_LOAD_BALANCED);
  if (!costs.fit) return costs;
  costs.ask = blx__fit_ask_of(costs.fit, c->need.cpu_milli, c->need.memory_mib);
  costs.by_room = !suits;
  fleet_rooms_price(f);
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

static void costs_fit(const struct fleet_costs *costs, const uint32_t *places, size_t n, int32_t *out) {
  const struct fleet_rooms *r = &costs->f->index->rooms;
  uint32_t rooms[BATCH];
  BLX__ASSERT(n <= BATCH);
  for (size_t i = 0; i < n; i++) rooms[i] = r->places[places[i]].room;
  blx__fit_costs(costs->fit, r->of, rooms, n, &costs->ask, out);
}

void fleet_costs_of(const struct fleet_costs *costs, const uint32_t *places, size_t n, int32_t *out) {
  const struct fleet_index *x = costs->f->index;
  if (costs->fit) {
    costs_fit(costs, places, n, out);
  } else if (costs->balances) {
    for (size_t i = 0; i < n; i++) out[i] = fleet_balanced_alone(&x->gauge[places[i]], &costs->c->need);
  } else {
    costs_alone(costs, places, n, out);
  }
}

/* ---- what a tree is over: places, or rooms */

static uint32_t all_of(const struct fleet_costs *costs) {
  return costs->by_room ? costs->f->index->rooms.n : costs->f->index->n;
}

static const struct fleet_log *log_of(const struct fleet_costs *costs) {
  return costs->by_room ? &costs->f->index->rooms.log : &costs->f->index->places;
}

/* Of the @n from @first on, all of one word of bits, those that suit. */
static size_t suiting(const struct fleet_costs *costs, uint32_t first, uint32_t n, uint32_t which[BATCH]) {
  size_t found = 0;
  uint64_t left = costs->suits ? costs->suits[first / 64] >> first % 64 : UINT64_MAX;
  BLX__ASSERT(n > 0 && first % 64 + n <= 64);
  if (n < 64) left &= (UINT64_C(1) << n) - 1;
  for (; left != 0; left &= left - 1) which[found++] = first + (uint32_t)__builtin_ctzll(left);
  return found;
}

/* Of those that suit. */
static void keys_of(const struct fleet_costs *costs, const uint32_t *which, size_t n, uint64_t *out) {
  const struct fleet_rooms *r = &costs->f->index->rooms;
  int32_t cost[BATCH];
  BLX__ASSERT(n <= BATCH);
  if (costs->by_room) {
    const uint32_t *first = r->first;
    blx__fit_costs(costs->fit, r->of, which, n, &costs->ask, cost);
    for (size_t i = 0; i < n; i++) out[i] = fleet_key(cost[i], first[which[i]], which[i]);
  } else {
    fleet_costs_of(costs, which, n, cost);
    for (size_t i = 0; i < n; i++) out[i] = fleet_key(cost[i], which[i], which[i]);
  }
}

/* Up to whole groups FLEET_KEY_FULL follows. */
static void keys_from(const struct fleet_costs *costs, uint32_t first, uint32_t n, uint64_t *out) {
  uint32_t which[BATCH], filled = groups_of(n) * FLEET_FAN;
  uint64_t found[BATCH];
  size_t suit = suiting(costs, first, n, which);
  keys_of(costs, which, suit, found);
  for (uint32_t i = 0; i < filled; i++) out[i] = FLEET_KEY_FULL;
  for (size_t i = 0; i < suit; i++) out[which[i] - first] = found[i];
}

/* ---- bounds */

/* In four chains, so that no comparison waits for the one before. */
static inline uint64_t least_of(const uint64_t *group) {
  uint64_t least[4] = {group[0], group[1], group[2], group[3]};
  for (int i = 4; i < FLEET_FAN; i += 4)
    for (int k = 0; k < 4; k++) least[k] = group[i + k] < least[k] ? group[i + k] : least[k];
  uint64_t left = least[0] < least[1] ? least[0] : least[1], right = least[2] < least[3] ? least[2] : least[3];
  return left < right ? left : right;
}

static uint32_t leftmost_of(const uint64_t *group) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < FLEET_FAN; i++) best = group[i] < group[best] ? i : best;
  return best;
}

/* Costs alone: whose they are is not told. */
static void bounds_of_rooms(const struct fleet_costs *costs, uint64_t *least) {
  const struct fleet_rooms *r = &costs->f->index->rooms;
  int32_t out[BATCH];
  for (uint32_t first = 0, n; first < r->n; first += n) {
    n = r->n - first < BATCH * FLEET_FAN ? r->n - first : BATCH * FLEET_FAN;
    blx__fit_least(costs->fit, &r->of[first], n, &costs->ask, out);
    for (uint32_t g = 0; g < groups_of(n); g++) *least++ = fleet_key_bound(out[g]);
  }
}

static void bounds_of_nodes(const struct fleet_costs *costs, uint64_t *least) {
  uint32_t which[BATCH];
  uint64_t keys[BATCH];
  for (uint32_t first = 0, n, all = costs->f->index->n; first < all; first += n) {
    n = all - first < BATCH ? all - first : BATCH;
    size_t suit = suiting(costs, first, n, which);
    keys_of(costs, which, suit, keys);
    for (size_t i = 0; i < suit; i++) {
      uint64_t *of = &least[which[i] / FLEET_FAN];
      *of = keys[i] < *of ? keys[i] : *of;
    }
  }
}

/* All is full in the beginning, for there may come to be more rooms than there are now. */
static void tree_build(const struct fleet_costs *costs, struct fleet_tree *t) {
  uint32_t n = groups_of(all_of(costs));
  memset(t->least[0], UINT8_MAX, costs->f->index->tree_bytes);
  if (costs->by_room)
    bounds_of_rooms(costs, t->least[0]);
  else
    bounds_of_nodes(costs, t->least[0]);
  for (size_t level = 1; level < FLEET_TREE_LEVELS; level++) {
    n = groups_of(n);
    for (uint32_t at = 0; at < n; at++) t->least[level][at] = least_of(&t->least[level - 1][(size_t)at * FLEET_FAN]);
  }
  BLX__ASSERT(n <= FLEET_FAN);
}

static void lower(struct fleet_tree *t, uint32_t group, uint64_t key) {
  for (size_t level = 0; level < FLEET_TREE_LEVELS && key < t->least[level][group]; level++, group /= FLEET_FAN)
    t->least[level][group] = key;
}

static inline bool owns(uint64_t least, uint32_t which) {
  return fleet_key_has_place(least) & ((least & (FLEET_FAN - 1)) == which % FLEET_FAN);
}

/* Most keys change no bound: which do is told first, without a jump. */
static void note_keys(struct fleet_tree *t, const uint32_t *which, const uint64_t *keys, size_t n) {
  uint8_t told[BATCH];
  size_t n_told = 0;
  for (size_t i = 0; i < n; i++) {
    uint64_t least = t->least[0][which[i] / FLEET_FAN];
    told[n_told] = (uint8_t)i;
    n_told += (keys[i] < least) | (owns(least, which[i]) & (keys[i] > least));
  }
  for (size_t i = 0; i < n_told; i++) {
    uint32_t at = which[told[i]], group = at / FLEET_FAN;
    uint64_t key = keys[told[i]], least = t->least[0][group];
    if (key < least)
      lower(t, group, key);
    else if (owns(least, at))
      lower(t, group, fleet_key_bound(fleet_key_cost(least)));
  }
}

/* Each once: those struck out changed again. */
static size_t changed_since(struct fleet_index *x, const struct fleet_log *log, uint64_t seen) {
  size_t n = 0;
  for (uint64_t i = seen; i < log->head; i++) {
    uint32_t which = log->of[i & (log->room - 1)];
    x->changed[n] = which;
    n += which != FLEET_NONE;
  }
  return n;
}

static void tree_replay(const struct fleet_costs *costs, struct fleet_tree *t) {
  struct fleet_index *x = costs->f->index;
  uint64_t out[BATCH];
  for (uint32_t g = 0; g < groups_of(all_of(costs)); g += FLEET_LINE / sizeof *t->least[0])
    __builtin_prefetch(&t->least[0][g], 1);
  size_t n = changed_since(x, log_of(costs), t->seen);
  for (size_t first = 0, batch; first < n; first += batch) {
    const uint32_t *which = &x->changed[first];
    batch = n - first < BATCH ? n - first : BATCH;
    keys_of(costs, which, batch, out);
    for (size_t i = 0; costs->suits && i < batch; i++)
      if (!fleet_bit(costs->suits, which[i])) out[i] = FLEET_KEY_FULL;
    note_keys(t, which, out, batch);
  }
}

void fleet_tree_group(const struct fleet_costs *costs, struct fleet_tree *t, uint32_t group, uint64_t out[FLEET_FAN]) {
  uint32_t first = group * FLEET_FAN, left = all_of(costs) - first;
  keys_from(costs, first, left < FLEET_FAN ? left : FLEET_FAN, out);
  uint64_t least = least_of(out);
  BLX__ASSERT(least >= t->least[0][group] || costs->c->spec->strategy >= BLX__FLEET_STRATEGY_FIRST);
  t->least[0][group] = least;
  for (size_t level = 1; level < FLEET_TREE_LEVELS; level++) {
    group /= FLEET_FAN;
    least = least_of(&t->least[level - 1][(size_t)group * FLEET_FAN]);
    if (least == t->least[level][group]) return;
    t->least[level][group] = least;
  }
}

uint64_t fleet_tree_cheapest(const struct fleet_costs *costs, struct fleet_tree *t) {
  uint64_t out[FLEET_FAN];
  for (;;) {
    uint64_t least = 0;
    uint32_t at = 0;
    for (size_t level = FLEET_TREE_LEVELS; level-- > 0;) {
      const uint64_t *group = t->least[level] + (size_t)at * FLEET_FAN;
      uint32_t best = leftmost_of(group);
      least = group[best];
      at = at * FLEET_FAN + best;
    }
    if (least == FLEET_KEY_FULL || fleet_key_has_place(least)) return least;
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

/* That of the pair where it spares a search, unless trees are so few that the shape's, shared by all kinds, must do. Of
 * what BestFit alone decides the shape's is over rooms, where nodes that take nothing new are not. */
static struct fleet_shape *tree_owner(const struct blx__fleet *f, const struct fleet_class *c,
                                      const struct fleet_bits *b) {
  struct fleet_index *x = f->index;
  if (b->n_suits == (fit_of(f, c) ? x->rooms.n_open : x->n)) return c->shape;
  if (c->pair->tree) return c->pair;
  const struct fleet_tree *spare = tree_spare(x);
  return !spare->of || spare->asked + TREE_IDLE * x->n_trees < x->asked ? c->pair : c->shape;
}

struct fleet_tree *fleet_tree_of(const struct fleet_query *q, const struct fleet_bits *bits,
                                 struct fleet_costs *costs) {
  struct fleet_index *x = q->f->index;
  struct fleet_shape *s = tree_owner(q->f, q->class, bits);
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
  const struct fleet_log *log = log_of(costs);
  /* Most of what is logged of rooms is struck out: they come and go. */
  uint64_t behind = log->head - t->seen, most = costs->by_room ? x->rooms.n * 2 : x->n / 2;
  bool other = t->layout != x->layout || (q->class->fits && t->epoch != x->epoch);
  if (other || behind > log->room || behind > most)
    tree_build(costs, t);
  else
    tree_replay(costs, t);
  t->seen = log->head;
  t->layout = x->layout;
  t->epoch = x->epoch;
  t->asked = ++x->asked;
  return t;
}
