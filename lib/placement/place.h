/* The placement engine: (fleet, request) -> node. Pure and integral: the same arguments give the same node on every
 * machine. Order of preference among the nodes that are usable and feasible: not the one to avoid; the node the
 * instance was on; then the fewest replicas of the same VM; then the strategy's score; then a hash of seed and uid;
 * then the lower uid. What each of them is, and where it comes from: blixard/placement.h, which is this engine for
 * embedders. Thread: any. */
#ifndef BLX__PLACEMENT_PLACE_H
#define BLX__PLACEMENT_PLACE_H

#include "placement/feasible.h"

enum {
  BLX__PLACEMENT_NONE = -1,
  BLX__PLACEMENT_EXPLAIN_NODES = 6, /* nodes named in an explanation; the rest is counted */
  BLX__PLACEMENT_EXPLAIN_BYTES = 480,
};

/* A node and what the leader knows of it right now, which apply does not. */
struct blx__place_node {
  struct blx__placement_node node;
  bool usable;
  const char *why_not;    /* of a node not usable: "has not been heard from"; static or borrowed */
  uint32_t same_vm_count; /* other replicas of the VM that are there */
};

struct blx__place_request {
  struct blx__placement_need need;
  int32_t strategy;    /* enum blx_strategy, supported */
  uint64_t sticky_uid; /* node it was on; 0: none */
  uint64_t avoid_uid;  /* taken only if no other can; 0: none */
  uint64_t seed;       /* for ties */
};

/* Both shares of a node with the instance there, in 1/10000 rounded down, added: 0 empty, 20000 full. @node need not
 * have the room; what it has none of at all counts as empty. */
uint64_t blx__place_fullness(const struct blx__placement_node *node, const struct blx__placement_need *need);

/* Index of the chosen node in @nodes, or BLX__PLACEMENT_NONE.
 * @nodes  @n of them (0..5000), sorted by uid */
int32_t blx__place_choose(const struct blx__place_node *nodes, size_t n, const struct blx__place_request *request);

/* Why none was chosen, nearest miss first: "node2 lacks 32 MiB; node3 is cordoned". Cut to @size bytes and terminated.
 * Costs a sort of the fleet: ask once per VM, not per replica. */
void blx__place_explain(const struct blx__place_node *nodes, size_t n, const struct blx__place_request *request,
                        char *out, size_t size);

#endif
