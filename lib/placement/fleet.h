/* The placement engine: a fleet, kept up to date by its owner, and decisions about it. It is a cache of what it was
 * told: after the same nodes, VMs and instances, in any order, it decides the same, however long it lived. Pure and
 * integral: no clock, no randomness, the same on every machine. Everything told is copied. Thread: one at a time.
 *
 * A node can take an instance if the verdict of feasible.h is without obstacles, it is usable, and not barred or
 * reserved. Of those the first by this order is chosen: not the one to avoid; the node it was on; no taint with the
 * effect Avoid that it does not tolerate; the fewest replicas of the same VM; the lowest cost; a hash of the fleet's
 * seed and the node's uid (rendezvous hashing: Thaler and Ravishankar, 1998); the lower uid. What costs what: score.h.
 */
#ifndef BLX__PLACEMENT_FLEET_H
#define BLX__PLACEMENT_FLEET_H

#include "base/arena.h"
#include "placement/feasible.h"

struct blx__fleet;

enum {
  BLX__FLEET_NODES_MAX = 20000,
  BLX__FLEET_INSTANCES_MAX = 1000000,
  BLX__FLEET_VMS_MAX = 1000000,
  BLX__FLEET_SHAPES_MAX = 1024,
  BLX__FLEET_STRATEGIES_MAX = 16,  /* of embedders */
  BLX__FLEET_STRATEGY_FIRST = 100, /* their numbers begin here */
  BLX__FLEET_PARTS_MAX = 64,
  BLX__FLEET_VICTIMS_MAX = 64,
  BLX__FLEET_BARRED_MAX = 1024,
  BLX__FLEET_NAMED_MAX = 6, /* nodes named in a sentence; the rest is counted */
  BLX__FLEET_NEAREST_BYTES = 480,
};

struct blx__fleet_options {
  uint32_t nodes_max;     /* 1..BLX__FLEET_NODES_MAX */
  uint32_t instances_max; /* 1..BLX__FLEET_INSTANCES_MAX */
  uint64_t seed;          /* of ties */
  bool learns;            /* it counts the shapes that come itself; else blx__fleet_shapes() tells them */
};

/* Errors: INVALID (options), NOMEM. */
blx__rc blx__fleet_new(const struct blx__fleet_options *options, struct blx__fleet **out, blx_error *err) BLX__MUST;
void blx__fleet_free(struct blx__fleet *f); /* NULL is allowed */

/* ---- what it is told. Errors of all: NOMEM; the fleet is then as it was, but for an owner that does not know which of
 * two states to believe: it frees it and begins anew. */

/* What holds for the whole fleet; NULL: nothing is given out twice, nothing is kept free. Errors: INVALID. */
blx__rc blx__fleet_settings(struct blx__fleet *f, const struct blx_placement_settings *settings,
                            blx_error *err) BLX__MUST;

/* What else is known of a node now, that its record does not say. */
struct blx__fleet_soft {
  bool usable;
  const char *why_not; /* of one that is not: "has not been heard from"; static */
  bool has_load;
  uint32_t load_cpu_permille;
  uint64_t load_memory_mib;
  struct blx_data_item *const *stored;
  size_t n_stored;
};

/* A node, or a node told anew, whose instances stay. Its record's `allocated` is of no meaning: allocated is what
 * blx__fleet_place() says, and @extra, which may be NULL: what instances not told use there.
 * @soft  NULL: usable, nothing measured
 * Errors: INVALID (uid 0, no name), BUSY (nodes_max). */
blx__rc blx__fleet_set_node(struct blx__fleet *f, const struct blx_node_info *record, const struct blx_resources *extra,
                            const struct blx__fleet_soft *soft, blx_error *err) BLX__MUST;

/* What is allocated on a node besides the instances told, in place of what was said before; or more of it, as an
 * instance with that spec uses. False: no such node. */
bool blx__fleet_set_extra(struct blx__fleet *f, uint64_t uid, const struct blx_resources *extra);
bool blx__fleet_add_extra(struct blx__fleet *f, uint64_t uid, const struct blx_vm_spec *spec);

/* Forget a node, and the instances on it. False: there is none. */
bool blx__fleet_drop_node(struct blx__fleet *f, uint64_t uid);

/* A VM: what its instances need, and what others may say about it. Told again when its spec or quota changed; its
 * instances stay. spec->strategy may be a number of blx__fleet_add_strategy().
 * @tenant  NULL or empty: default
 * @quota   NULL: none
 * Errors: INVALID, BUSY (too many VMs). */
blx__rc blx__fleet_set_vm(struct blx__fleet *f, uint64_t vm_uid, const char *tenant, const struct blx_vm_spec *spec,
                          const struct blx_quota *quota, blx_error *err) BLX__MUST;

/* Forget a VM, and its instances. False: there is none. */
bool blx__fleet_drop_vm(struct blx__fleet *f, uint64_t vm_uid);

struct blx__fleet_instance {
  uint64_t uid, vm_uid, node_uid, epoch;
  bool ending; /* its room is about to be free */
};

/* An instance is on a node, not confirmed dead, whatever fits there. Told again: it moved, or ends.
 * Errors: NOT_FOUND (VM or node were not told), INVALID (uid 0), BUSY (instances_max). */
blx__rc blx__fleet_place(struct blx__fleet *f, const struct blx__fleet_instance *instance, blx_error *err) BLX__MUST;
bool blx__fleet_unplace(struct blx__fleet *f, uint64_t instance_uid); /* false: it was not there */
bool blx__fleet_has_vm(const struct blx__fleet *f, uint64_t vm_uid);

/* The shapes that came so far, for BestFit's look ahead (fit.h), in place of those told before, and a refresh. None: it
 * looks at the node alone. Counts matter by their highest three bits.
 * @shapes  at most BLX__FLEET_SHAPES_MAX, in any order. Errors: INVALID. */
struct blx__fleet_shape {
  uint64_t cpu_milli, memory_mib, count;
};
blx__rc blx__fleet_shapes(struct blx__fleet *f, const struct blx__fleet_shape *shapes, size_t n,
                          blx_error *err) BLX__MUST;

/* Let BestFit go by the room there is now: until then it goes by that at the last refresh, whatever was placed since.
 * The only thing that makes a decision depend on more than what was told; so an owner refreshes where all that would
 * decide in its place do: at the begin of a pass. Costs of all nodes change by it. */
void blx__fleet_refresh(struct blx__fleet *f);

/* Of a fleet that learns: an instance of a VM comes that is not told itself. */
void blx__fleet_arrived(struct blx__fleet *f, uint64_t vm_uid);

/* An embedder's strategy: the cost of a node, 0 the best, cut at 1,000,000. It must depend on nothing but its
 * arguments: any question may ask it again, and goes by what it said before of the nodes that it does not ask.
 * @number  out: for spec.strategy
 * Errors: INVALID (name), BUSY (too many). */
typedef uint64_t (*blx__fleet_score_fn)(void *user, const struct blx__placement_node *node,
                                        const struct blx__placement_need *need);
blx__rc blx__fleet_add_strategy(struct blx__fleet *f, const char *name, blx__fleet_score_fn fn, void *user,
                                int32_t *number, blx_error *err) BLX__MUST;

/* ---- decisions. None of them changes what was told. */

struct blx__fleet_request {
  uint64_t vm_uid;        /* told before */
  uint64_t instance_uid;  /* if it is on a node it is looked at as if it were not; 0: a new one */
  uint64_t sticky_uid;    /* node it was on; 0: none */
  uint64_t avoid_uid;     /* taken only if no other can; 0: none */
  const uint64_t *barred; /* nodes out for it: BARRED */
  size_t n_barred;
  const uint64_t *reserved; /* nodes kept for one that waits for long: SILENT, "is kept for ..." */
  size_t n_reserved;
  const uint64_t *replicas; /* nodes with replicas of the VM that were not told, one entry for each */
  size_t n_replicas;
  bool keep_survive; /* survive_* holds for it: it was never placed before */
};

struct blx__fleet_choice {
  uint64_t node_uid, cost;
  uint32_t replicas;
};

/* The best node. False: none can take it, or the VM is not known. Takes no memory. */
bool blx__fleet_choose(struct blx__fleet *f, const struct blx__fleet_request *request, struct blx__fleet_choice *out);

struct blx__fleet_part {
  char name[64];
  uint64_t cost;
};

struct blx__fleet_verdict {
  struct blx__placement_verdict v; /* with SILENT, BARRED */
  struct blx__placement_around around;
  uint32_t replicas;
  bool avoids; /* it has an Avoid taint that is not tolerated */
  uint64_t cost;
  struct blx__fleet_part parts[BLX__FLEET_PARTS_MAX];
  size_t n_parts;
};

/* How one node stands to it. False: no such node or VM. */
bool blx__fleet_judge(struct blx__fleet *f, const struct blx__fleet_request *request, uint64_t node_uid,
                      struct blx__fleet_verdict *out);

/* The same for every node, in @arena: by rank, then the nearest misses; groups; text; need. instance, node, reason and
 * index stay for the caller.
 * @most  nodes listed; 0: all, but at most 5000
 * Errors: NOT_FOUND (VM), INVALID (arena's limit), NOMEM. */
blx__rc blx__fleet_explain(struct blx__fleet *f, const struct blx__fleet_request *request, size_t most,
                           struct blx__arena *arena, struct blx_placement_report *out, blx_error *err) BLX__MUST;

/* The verdict on one node as the report has it, without rank. Errors: NOT_FOUND (node, VM), INVALID, NOMEM. */
blx__rc blx__fleet_node_verdict(struct blx__fleet *f, const struct blx__fleet_request *request, uint64_t node_uid,
                                struct blx__arena *arena, struct blx_node_verdict **out, blx_error *err) BLX__MUST;

/* Why none can take it, nearest miss first: "node2 lacks 32 MiB; node3 is cordoned; and 44 more nodes: 40 lack memory
 * or vCPUs, 4 are cordoned". Cut to @size bytes and terminated. As dear as an explanation. */
void blx__fleet_nearest(struct blx__fleet *f, const struct blx__fleet_request *request, char *out, size_t size);

/* The node with the nearest miss that room alone would help, for a reservation; 0: none. */
uint64_t blx__fleet_nearest_node(struct blx__fleet *f, const struct blx__fleet_request *request);

/* Instances to end so that it fits. Instances that end already count as gone: n may be 0, then it only has to wait. */
struct blx__fleet_preemption {
  uint64_t node_uid;
  size_t n;
  uint64_t victims[BLX__FLEET_VICTIMS_MAX], epochs[BLX__FLEET_VICTIMS_MAX];
};

/* The node on which the least is lost: the lowest highest priority of a victim, the lowest sum of priorities, the
 * fewest, the lower cost, hash, uid. Victims are preemptible and of lower priority; none of them could stay. False: no
 * node. */
bool blx__fleet_preempt(struct blx__fleet *f, const struct blx__fleet_request *request,
                        struct blx__fleet_preemption *out);

/* ---- what it takes */

struct blx__fleet_memory {
  size_t index_bytes, instance_bytes, record_bytes; /* derived from nodes; of instances and VMs; copies of records */
};
struct blx__fleet_memory blx__fleet_memory(const struct blx__fleet *f);

#endif
