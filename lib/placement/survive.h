/* Whether the ha=auto instances of lost nodes fit elsewhere. Counted in places of one size, the componentwise largest
 * of all ha=auto instances, so that a yes holds however they are packed: it may say no too early, never too late. After
 * Ganeti's N+1 check. Pure; the engine, apply and the cluster's capacity ask it. Thread: any. */
#ifndef BLX__PLACEMENT_SURVIVE_H
#define BLX__PLACEMENT_SURVIVE_H

#include "base/rc.h"

struct blx__placement_node;

enum { BLX__SURVIVE_NODES_MAX = 16 };

struct blx__survive_node {
  uint64_t free_cpu_milli, free_memory_mib; /* 0 of a node that could take none of them: blx__survive_usable() */
  uint32_t ha_instances;                    /* with ha=auto, not confirmed dead */
  uint32_t domain;                          /* below n; equal numbers: one domain */
};

struct blx__survive_shape {
  uint64_t cpu_milli, memory_mib; /* both 0: there are no such instances, and everything survives */
};

/* Can a node take instances of others: it is neither cordoned nor fenced, and takes ha=auto ones. */
bool blx__survive_usable(const struct blx__placement_node *node);

/* How many places of @shape a node has free. */
uint64_t blx__survive_places(const struct blx__survive_node *node, struct blx__survive_shape shape);

/* Places missing after the loss of the worst @k nodes. 0: it survives.
 * @k  0..BLX__SURVIVE_NODES_MAX. Costs n * k. */
uint64_t blx__survive_nodes_missing(const struct blx__survive_node *nodes, size_t n, struct blx__survive_shape shape,
                                    uint32_t k);

/* The same after the loss of the worst domain.
 * @scratch  n numbers, no matter which */
uint64_t blx__survive_domain_missing(const struct blx__survive_node *nodes, size_t n, struct blx__survive_shape shape,
                                     uint64_t *scratch);

#endif
