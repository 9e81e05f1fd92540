/* BestFit's cost: how much worse the fleet becomes when a node takes a request.
 *
 *   score(node, request) = potential(free - request) - potential(free) + opening(capacity) if the node was empty
 *   potential(free)      = waste(free) - room(free)
 *
 * waste:   what of a free vector will stay unused, if the node may choose the best of 16 requests drawn from the shapes
 *          that came so far, again and again until none of them fits.
 * room:    for each shape, price x how many of it still fit. The price is the shape's size x the demand expected for it
 * / the places left for it in the whole fleet, and rises steeply when these are few: what only few nodes can take keeps
 * its places. Each capacity class counts as a request seen, so that a whole machine has a price before anybody asked
 * for one; that fades as requests come. opening: smaller machines cost more to open, as long as much of the fleet is
 * free.
 *
 * waste and room are one table over a grid of (processor, memory) cells, so that a cost is two loads. It follows from
 * the histogram of shapes and the nodes' free vectors at the last refresh, and from nothing else. Nothing overflows up
 * to 65,536,000 x 20 thousandths and 2^32 MiB a node and 20,000 nodes. Thread: one at a time. */
#ifndef BLX__PLACEMENT_FIT_H
#define BLX__PLACEMENT_FIT_H

#include "base/rc.h"

enum {
  BLX__FIT_SHAPES_MAX = 128,
  BLX__FIT_EXACT_MAX = 96, /* of more shapes than may be, so many stay as they are; the others are made coarse */
  BLX__FIT_CLASSES_MAX = 32,
  BLX__FIT_GROUP = 16, /* rooms, of which blx__fit_least() tells the least cost */
  BLX__FIT_COST_MAX = 1000000,
  BLX__FIT_FULL = INT32_MAX,
};

struct blx__fit;

struct blx__fit_shape {
  uint64_t cpu_milli, memory_mib, count;
};

/* A node: what it may give out, and what of that is free. */
struct blx__fit_node {
  uint64_t cpu_milli, memory_mib, free_cpu_milli, free_memory_mib;
};

/* @cpu_cells, @memory_cells: of the grid; 2 or more. NULL: no memory. */
struct blx__fit *blx__fit_new(uint32_t cpu_cells, uint32_t memory_cells);
void blx__fit_free(struct blx__fit *m); /* NULL is allowed */

/* Take over a histogram: sorted by count, at most BLX__FIT_SHAPES_MAX kept. The waste is computed again at the next
 * refresh if that changes anything. @shapes: reordered. */
void blx__fit_learn(struct blx__fit *m, struct blx__fit_shape *shapes, size_t n);

/* Take over the fleet as it is. False: there is nothing to go by, no shapes or no nodes. */
bool blx__fit_refresh(struct blx__fit *m, const struct blx__fit_node *nodes, size_t n);
bool blx__fit_ready(const struct blx__fit *m);

/* 0 .. BLX__FIT_COST_MAX of a node with room for it; the order is the score's, exact for small ones and to a part in
 * 32,768 for large ones. */
uint64_t blx__fit_cost(const struct blx__fit *m, const struct blx__fit_node *node, uint64_t cpu_milli,
                       uint64_t memory_mib);

/* The same for many nodes: what of them and of a request a cost needs, worked out once. A room holds until the next
 * refresh. */
struct blx__fit_room {
  uint32_t cpu_milli, memory_mib; /* free, as far as 32 bits say it */
  int64_t before;                 /* what a score has of the node as it is */
};
struct blx__fit_room blx__fit_room_of(const struct blx__fit *m, const struct blx__fit_node *node);

struct blx__fit_ask {
  uint64_t cpu_milli, memory_mib;
  int64_t size;
};
struct blx__fit_ask blx__fit_ask_of(const struct blx__fit *m, uint64_t cpu_milli, uint64_t memory_mib);

/* blx__fit_cost() in the @n rooms that @which numbers into @out, BLX__FIT_FULL where there is no room. */
void blx__fit_costs(const struct blx__fit *m, const struct blx__fit_room *rooms, const uint32_t *which, size_t n,
                    const struct blx__fit_ask *ask, int32_t *out);
/* The least such cost of the first BLX__FIT_GROUP rooms, of the next, and so on until @n are done. */
void blx__fit_least(const struct blx__fit *m, const struct blx__fit_room *rooms, size_t n,
                    const struct blx__fit_ask *ask, int32_t *out);

size_t blx__fit_bytes(const struct blx__fit *m);

#endif
