/* What makes a decision cheap. Nodes stand in the order of ties (hash, uid), so that of two equal ones the left one
 * wins: a node's place.
 *
 * For each shape, which is what of a need decides cost and room: a tree of fan-out 16 over groups, of which it keeps
 * what their cheapest node costs at least (tree.c). Groups are of nodes, or of rooms, which are nodes that are
 * alike to BestFit (rooms.c), where it alone decides (no preferences, no named resources) and all nodes suit that take
 * what is new. For each kind, which is what of a need a node's record decides: a bit per node
 * that suits it, and one per node with an Avoid taint that it does not tolerate. A kind that not all nodes suit has,
 * with a shape, a tree of the nodes that suit it, as long as there are trees enough. All are brought up to date when
 * they are asked, from a log of what changed since, or built anew where that is cheaper. There is a bounded number of
 * each: the one asked for least recently makes room. */
#ifndef BLX__PLACEMENT_INDEX_H
#define BLX__PLACEMENT_INDEX_H

#include "placement/fleet_int.h"

enum {
  FLEET_FULL = BLX__FIT_FULL,
  FLEET_FAN = BLX__FIT_GROUP,
  FLEET_TREE_LEVELS = 3, /* above the nodes or rooms: 16^4 are more than BLX__FLEET_NODES_MAX */
  FLEET_TREES_MAX = 512,
  FLEET_KINDS_MAX = 256,
  FLEET_LOG = 8192, /* entries of a log at most; a power of two */
};

/* Numbers of what changed, the newest overwriting the oldest. Of what changed again the entry before is struck out. */
struct fleet_log {
  uint32_t *of;     /* FLEET_NONE: struck out */
  uint64_t *newest; /* per number: the count of entries after its newest, 0: none */
  size_t room;      /* a power of two */
  uint64_t head;    /* how many ever */
};

bool fleet_log_new(struct fleet_log *log, uint32_t numbers);
void fleet_log_free(struct fleet_log *log);
size_t fleet_log_bytes(const struct fleet_log *log, uint32_t numbers);
void fleet_log_note(struct fleet_log *log, uint32_t what);

/* Nodes with the same room (rooms.c), one behind the other what is asked for together. */
struct fleet_rooms {
  struct blx__fit_room *of; /* per room: what BestFit goes by; of one that is nobody's: nothing is free */
  uint32_t *first;          /* per room: its leftmost place; FLEET_NONE: nobody's */
  struct fleet_room {
    uint64_t key;  /* what is free, and whether that is all */
    uint32_t root; /* of the treap of its places; of one that is nobody's: the next such room */
  } * at;
  struct fleet_place {
    uint32_t room, left, right; /* in the treap */
    bool open;                  /* its node takes what is new */
  } * places;
  struct fleet_ids by_key;
  struct fleet_log log; /* rooms whose first place is another, those that came and went among them */
  uint32_t n, spare;    /* rooms up to the last that was ever somebody's; the first that is nobody's */
  uint32_t n_open;      /* places whose node takes what is new, full or not */
  uint64_t epoch;       /* for which `of` is */
};

/* What a node costs, and which it is, so that of keys the least is the best: cost, place + 1, number in its group.
 * Without a place it is a bound: which of a group costs that is not known, or whether any does. */
_Static_assert(BLX__FLEET_NODES_MAX < 1 << 28, "a place and a number in 32 bits");
#define FLEET_KEY_FULL UINT64_MAX /* nobody has room */
static inline uint64_t fleet_key(int32_t cost, uint32_t place, uint32_t which) {
  uint64_t key = (uint64_t)cost << 32 | ((uint64_t)place + 1) << 4 | which % FLEET_FAN;
  return cost == FLEET_FULL ? FLEET_KEY_FULL : key;
}
static inline uint64_t fleet_key_bound(int32_t cost) {
  return cost == FLEET_FULL ? FLEET_KEY_FULL : (uint64_t)cost << 32;
}
static inline int32_t fleet_key_cost(uint64_t key) {
  return (int32_t)(key >> 32);
}
static inline bool fleet_key_has_place(uint64_t key) {
  return (uint32_t)key != 0;
}
static inline uint32_t fleet_key_place(uint64_t key) {
  return ((uint32_t)key >> 4) - 1;
}

struct fleet_tree {
  struct fleet_shape *of;
  uint64_t *least[FLEET_TREE_LEVELS]; /* bounds; 0: of groups of FLEET_FAN; the last: at most FLEET_FAN */
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
  struct fleet_log places, kinds; /* kinds: places of those told anew, each of them is among the others too */
  uint32_t *place_of, *slot_at;   /* the order of ties: of a slot, and back */
  uint32_t n;                     /* nodes in it */
  uint64_t layout, asked, epoch;  /* counts of nodes that came or went; of questions; of what changes every cost */
  struct fleet_gauge *gauge;      /* per place: what LoadBalanced goes by, and what rooms are made of */
  struct fleet_rooms rooms;
  bool stale;              /* the order is to be made anew */
  struct fleet_next *heap; /* of a walk */
  uint32_t *changed;       /* of a replay: what is in a log, each once */
  uint8_t *tree_memory;    /* of all trees */
  size_t tree_bytes;       /* of one */
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

bool fleet_rooms_new(struct fleet_rooms *r, uint32_t nodes_max);
void fleet_rooms_free(struct fleet_rooms *r);
size_t fleet_rooms_bytes(const struct fleet_rooms *r, uint32_t nodes_max);
void fleet_rooms_build(struct blx__fleet *f);                /* from the gauges */
void fleet_rooms_told(struct blx__fleet *f, uint32_t place); /* what its node is changed; fleet_rooms_note() follows */
void fleet_rooms_note(struct blx__fleet *f, uint32_t place); /* its gauge changed */
void fleet_rooms_price(struct blx__fleet *f);                /* for this epoch */
/* The next place to the right in the room of @place; FLEET_NONE: none. */
uint32_t fleet_rooms_next(const struct fleet_rooms *r, uint32_t place);

/* What is left to look at in a walk. */
struct fleet_next {
  uint64_t key;
  uint32_t at, level; /* 0: a node, of that group or room; 1: a group of them; and so on */
};

/* What of a question the cost of a node needs. BestFit alone goes by rooms, LoadBalanced alone by gauges. */
struct fleet_costs {
  struct blx__fleet *f;
  const struct fleet_class *c;
  const struct blx__fit *fit; /* NULL: the cost is more than that */
  struct blx__fit_ask ask;
  bool balances;
  bool by_room;          /* the tree is over rooms */
  const uint64_t *suits; /* the places that are in the tree; NULL: all */
};

/* Up to date, for the class of a question. */
const struct fleet_bits *fleet_bits_of(const struct fleet_query *q);
struct fleet_tree *fleet_tree_of(const struct fleet_query *q, const struct fleet_bits *bits, struct fleet_costs *costs);

/* What places cost without what residents decide, FLEET_FULL where there is no room; whether they suit or not. */
void fleet_costs_of(const struct fleet_costs *costs, const uint32_t *places, size_t n, int32_t *out);
/* Of all nodes or rooms of a group, FLEET_KEY_FULL also where they do not suit; its bound is exact then. */
void fleet_tree_group(const struct fleet_costs *costs, struct fleet_tree *t, uint32_t group, uint64_t out[FLEET_FAN]);
/* The leftmost of the cheapest, with its place; FLEET_KEY_FULL: all are full. */
uint64_t fleet_tree_cheapest(const struct fleet_costs *costs, struct fleet_tree *t);

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
