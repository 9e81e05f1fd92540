/* What makes a decision cheap. Nodes stand in the order of ties (hash, uid), so that of two equal ones the left one
 * wins.
 *
 * For each shape, which is what of a need decides cost and room: a tree of fan-out 16 over groups of nodes, of which it
 * keeps what their cheapest node costs at least (tree.c). For each kind, which is what of a need a node's record
 * decides: a bit per node that suits it, and one per node with an Avoid taint that it does not tolerate. A kind that
 * not all nodes suit has, with a shape, a tree of the nodes that suit it, as long as there are trees enough. All are
 * brought up to date when they are asked, from a log of the nodes that changed since, or built anew where that is
 * cheaper. There is a bounded number of each: the one asked for least recently makes room. */
#ifndef BLX__PLACEMENT_INDEX_H
#define BLX__PLACEMENT_INDEX_H

#include "placement/fleet_int.h"

enum {
  FLEET_FULL = BLX__FIT_FULL,
  FLEET_FAN = BLX__FIT_GROUP,
  FLEET_TREE_LEVELS = 3, /* above the nodes: 16^4 are more than BLX__FLEET_NODES_MAX */
  FLEET_TREES_MAX = 512,
  FLEET_KINDS_MAX = 256,
  FLEET_LOG = 8192, /* at most in a log; a power of two */
};

/* Nodes that changed, the newest overwriting the oldest; FLEET_NONE: struck out. */
struct fleet_log {
  uint32_t *of;
  size_t room;   /* a power of two */
  uint64_t head; /* how many ever */
};

struct fleet_tree {
  struct fleet_shape *of;
  int32_t *least[FLEET_TREE_LEVELS]; /* bounds; 0: of groups of FLEET_FAN nodes; the last: at most FLEET_FAN */
  uint8_t *owner;                    /* per group: the leftmost of its nodes that costs its bound, if known */
  uint64_t seen, layout, asked, epoch;
};

/* Interned: classes with the same have the same. A shape, or a pair of a shape and a kind. */
struct fleet_shape {
  uint8_t key[32];
  uint32_t refs;
  struct fleet_tree *tree; /* NULL: none at present */
};

struct fleet_bits {
  struct fleet_kind *of;
  uint64_t *suits, *avoids; /* a bit per place in the order */
  uint32_t n_suits, n_avoids;
  uint64_t seen, layout, asked;
};

struct fleet_kind {
  uint8_t key[32];
  uint32_t refs;
  struct fleet_bits *bits;
};

/* What of a node LoadBalanced and BestFit ask. */
struct fleet_gauge {
  uint64_t cpu_milli, memory_mib, allocated_cpu_milli, allocated_memory_mib;
  uint32_t load; /* 0 .. FLEET_COST_MAX; FLEET_NONE: not measured */
};

struct fleet_index {
  struct fleet_log rooms, kinds; /* places; slots of those told anew, each of them is among the rooms too */
  uint32_t *place_of, *slot_at;  /* the order of ties: of a slot, and back */
  uint32_t n;                    /* nodes in it */
  uint64_t layout, asked, epoch; /* counts of nodes that came or went; of questions; of what changes every cost */
  struct blx__fit_room *room;    /* per place, one behind the other: what BestFit goes by */
  uint64_t room_epoch;           /* for which they are; 0: for none */
  struct fleet_gauge *gauge;     /* per place: what LoadBalanced goes by, and what rooms are made of */
  bool stale;                    /* the order is to be made anew */
  uint64_t *heap;                /* of a walk */
  uint32_t *changed;             /* of a replay: places, each once */
  uint64_t *logged;              /* per place: the count of `rooms` after its newest entry, 0: none */
  uint8_t *tree_memory;          /* of all trees */
  size_t tree_bytes;             /* of one */
  struct fleet_tree trees[FLEET_TREES_MAX];
  struct fleet_bits bits[FLEET_KINDS_MAX];
  size_t n_trees, n_bits;
  struct blx__map shapes, pairs, kind_map; /* digest -> fleet_shape, fleet_shape, fleet_kind */
};

struct fleet_index *fleet_index_new(uint32_t nodes_max); /* NULL: no memory */
void fleet_index_free(struct fleet_index *x);
size_t fleet_index_bytes(const struct blx__fleet *f);
void fleet_index_note(struct blx__fleet *f, uint32_t slot, bool kind);
void fleet_index_layout(struct blx__fleet *f); /* nodes came or went */
void fleet_index_order(struct blx__fleet *f);  /* places and gauges are right */
blx__rc fleet_index_class(struct blx__fleet *f, struct fleet_class *c, blx_error *err) BLX__MUST;
void fleet_index_drop(struct blx__fleet *f, struct fleet_class *c);

bool fleet_trees_new(struct fleet_index *x, uint32_t nodes_max);
void fleet_rooms_build(struct blx__fleet *f);

/* What of a question the cost of a node needs. BestFit alone goes by rooms, LoadBalanced alone by gauges. */
struct fleet_costs {
  struct blx__fleet *f;
  const struct fleet_class *c;
  const struct blx__fit *fit; /* NULL: the cost is more than that */
  struct blx__fit_ask ask;
  bool balances;
  const uint64_t *suits; /* the places that are in the tree; NULL: all */
};

/* Up to date, for the class of a question. */
const struct fleet_bits *fleet_bits_of(const struct fleet_query *q);
struct fleet_tree *fleet_tree_of(const struct fleet_query *q, const struct fleet_bits *bits, struct fleet_costs *costs);

/* What places cost without what residents decide, FLEET_FULL where there is no room; whether they suit or not. */
void fleet_costs_of(const struct fleet_costs *costs, const uint32_t *places, size_t n, int32_t *out);
/* The same of all nodes of a group, FLEET_FULL also where they do not suit; its bound is exact then. */
void fleet_tree_group(const struct fleet_costs *costs, struct fleet_tree *t, uint32_t group, int32_t out[FLEET_FAN]);
/* The place of the leftmost of the cheapest; FLEET_NONE: all are full. */
uint32_t fleet_tree_cheapest(const struct fleet_costs *costs, struct fleet_tree *t);

static inline bool fleet_bit(const uint64_t *bits, uint32_t at) {
  return bits[at / 64] >> at % 64 & 1;
}

/* What a node costs without what residents decide, at most what it costs with it. FLEET_FULL: it has no room. */
int32_t fleet_cost_alone(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot);
struct fleet_gauge fleet_gauge_of(const struct fleet_node *n);
struct blx__fit_node fleet_fit_node(const struct fleet_gauge *g);
int32_t fleet_balanced_alone(const struct fleet_gauge *g, const struct blx__placement_need *need);
/* The rest, whose sum is fleet_cost() exactly unless the class moves (NetworkProximity): then ask that. */
uint64_t fleet_cost_around(const struct fleet_query *q, uint32_t slot);

#endif
