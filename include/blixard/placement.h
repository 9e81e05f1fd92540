/* Placement alone: decide without a cluster which node takes an instance. The decision is the cluster's own, made by
 * the same code. Tell it nodes, VMs and where their instances are; ask for a node, for reasons, for whom to end;
 * nothing is started anywhere.
 *
 * A node can take an instance if nothing of enum blx_obstacle_code stands against it: it is heard from (node.status is
 * not SUSPECT), neither cordoned nor fenced, runs its hypervisor with its CPU features, carries the labels of its
 * node_selector and fulfils its constraints, is one of its tenant's nodes, has no taint NoPlace that it does not
 * tolerate, can end highly available instances; is near what spec.affinity demands and apart from what it forbids, in a
 * domain that is not full of its replicas (spec.spread), within the tenant's quota for a node; has its named resources,
 * processors (in thousandths) and memory free; and room stays for the loss of nodes, where the settings ask for it and
 * keep_survive is set. Of these the first by this order is chosen:
 *  1. not the node to avoid (avoid_uid);
 *  2. the node it was on (sticky_uid);
 *  3. nodes without a taint Avoid that it does not tolerate;
 *  4. the fewest replicas of the same VM: spreading is a preference, no replica waits for it;
 *  5. the lowest cost: spec.strategy's, 0..1,000,000, and 10,000 x weight for each preference that does not hold, each
 *     weighted affinity that is not met, and each replica beyond max_skew.
 *       LoadBalanced     half of used / capacity of processors and memory each, in millionths; where load is measured
 *                        (load_cpu_permille, load_memory_mib) the mean of that and of the measured shares
 *       BestFit          how much worse the fleet can take what will come: what of a node's room will stay unused, and
 *                        what rare room is spent, by the shapes that came so far (blx_placement_place() and reserve
 * count). Before two came, the fullest node: 1,000,000 less what LoadBalanced says without load DataLocality     share
 * of spec.data's bytes that the node does not have (node.stored) NetworkProximity distance to what spec.near names: 0
 * on the host, 100,000 in the rack, 250,000 in the zone, else 250,000 and a microsecond each of the settings'
 * distances, 1,000,000 without Combined         the mean of several by weight your own blx_placement_add_strategy()
 *  6. among equals a hash of the seed and the node's uid, so that fleets with different seeds do not all take the same
 *     one (rendezvous hashing: Thaler and Ravishankar, 1998; the hash is splitmix64's, Steele et al., 2014);
 *  7. the lower uid.
 * There is no floating point, clock or randomness: the same calls give the same answers on every machine. Without
 * BestFit the order in which things were told is of no matter either; BestFit's tables are made anew when the number of
 * instances that came has doubled, and then after each twelfth of as many as there are nodes.
 *
 * Structs are the cluster's own (blixard/types.h, blixard/calls.h), so they come from JSON with
 * blx_from_json("node_info", ...) and go to it with blx_to_json("placement_report", ...) as they are. A decision about
 * a VM that was told takes some 10 us on 10,000 nodes and no memory. Every function may be called on any thread; calls
 * of one placement take turns. Errors of all of them: BLX_E_MISUSE (no open placement, NULL), BLX_E_NOMEM; a placement
 * that answered NOMEM to something it was told is to be closed. Since 0.1. */
#ifndef BLIXARD_PLACEMENT_H
#define BLIXARD_PLACEMENT_H

#include <blixard/calls.h>
#include <blixard/error.h>
#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  BLX_PLACEMENT_NODES_MAX = 20000,
  BLX_PLACEMENT_INSTANCES_MAX = 1000000,
  BLX_PLACEMENT_REPLICAS_MAX = 1000,
  BLX_PLACEMENT_BARRED_MAX = 1000,
  BLX_PLACEMENT_STRATEGIES_MAX = 16,
  BLX_PLACEMENT_VICTIMS_MAX = 64,
  BLX_PLACEMENT_TEXT_BYTES = 480, /* as many as an explanation ever has, its end included */
};

typedef struct blx_placement blx_placement;

struct blx_placement_options {
  size_t struct_size;
  uint32_t nodes_max;     /* 0: 5000; 1..20000; some memory for so many is taken at the first call */
  uint32_t instances_max; /* 0: 100000; 1..1000000 */
  uint64_t seed;          /* for ties */
};
#define BLX_PLACEMENT_OPTIONS_INIT BLX_INIT_(struct blx_placement_options)
BLX_INIT_FN_(placement_options)

/* A VM, as far as placement is concerned. */
struct blx_placement_vm {
  size_t struct_size;
  uint64_t uid;       /* 1..2^63 */
  const char *tenant; /* NULL: default; only VMs of the same tenant matter to its affinity rules */
  const struct blx_vm_spec
      *spec; /* required; zero: the default (types.h); the limits of blx_vm_create() hold, and a name
                is needed only where another VM's spec.near names it: it is unique in the tenant */
  const struct blx_quota *quota; /* nodes and node_*; NULL: none */
  int32_t strategy;              /* of blx_placement_add_strategy(); 0: spec->strategy */
};
#define BLX_PLACEMENT_VM_INIT BLX_INIT_(struct blx_placement_vm)
BLX_INIT_FN_(placement_vm)

/* An instance that is on a node. */
struct blx_placement_instance {
  size_t struct_size;
  uint64_t uid;              /* 1 or more */
  uint64_t vm_uid, node_uid; /* told before */
  uint64_t epoch;            /* of the embedder's, given back by blx_placement_preempt() */
  uint32_t ending;           /* 1: its room is about to be free; it counts until it is removed, but to a preemption */
};
#define BLX_PLACEMENT_INSTANCE_INIT BLX_INIT_(struct blx_placement_instance)
BLX_INIT_FN_(placement_instance)

/* About a VM that was told, or about one that is given here and forgotten again. */
struct blx_placement_request {
  size_t struct_size;
  const struct blx_vm_spec *spec; /* as blx_placement_vm.spec, of the default tenant; NULL: vm_uid says which */
  uint64_t vm_uid;                /* told before; 0: spec is given */
  uint64_t instance_uid;          /* of an instance of that VM; if it is on a node, it is looked at as if it were not */
  uint64_t sticky_uid;            /* node that it was on; 0: none */
  uint64_t avoid_uid;             /* node that is taken only if no other can; 0: none */
  const uint64_t *replica_uids;   /* a node for each other replica that was not told; unknown ones are ignored */
  size_t n_replica_uids;          /* 0..1000 */
  const uint64_t *barred_uids;    /* nodes out for it; unknown ones are ignored */
  size_t n_barred_uids;           /* 0..1000 */
  int32_t strategy;               /* with spec: as blx_placement_vm.strategy */
  uint32_t reserve;      /* 1: what is chosen counts from now on: with spec, as allocated on its node; with vm_uid, the
                            instance instance_uid, which is needed then, is on it */
  uint32_t keep_survive; /* 1: room is kept for the loss of nodes, as the settings say */
};
#define BLX_PLACEMENT_REQUEST_INIT BLX_INIT_(struct blx_placement_request)
BLX_INIT_FN_(placement_request)

/* Whom to end to make room, and where. Yours, to be filled. */
struct blx_placement_preemption {
  size_t struct_size;
  uint64_t node_uid;
  size_t n; /* 0: it is enough to wait for those that end already */
  uint64_t victim_uids[BLX_PLACEMENT_VICTIMS_MAX], victim_epochs[BLX_PLACEMENT_VICTIMS_MAX];
};
#define BLX_PLACEMENT_PREEMPTION_INIT BLX_INIT_(struct blx_placement_preemption)
BLX_INIT_FN_(placement_preemption)

/* What an embedder's strategy is asked about. Borrowed for the call. */
struct blx_placement_candidate {
  size_t struct_size;
  uint64_t uid;
  const char *name;
  struct blx_label *const *labels;
  size_t n_labels;
  uint64_t cpu_milli, memory_mib;                     /* what the node may give out */
  uint64_t allocated_cpu_milli, allocated_memory_mib; /* what it gave out */
  uint64_t need_cpu_milli, need_memory_mib;           /* what is asked for */
};

/* The cost of a node, 0 the best; above 1,000,000 counts as 1,000,000. It must depend on its arguments alone: any
 * decision may ask it again, of any node, and goes by what it said before of those it does not ask. It calls no
 * function of the placement. */
typedef uint64_t (*blx_placement_cost_fn)(void *user, const struct blx_placement_candidate *candidate);

/* Open a placement without nodes.
 * @options  borrowed; NULL: defaults
 * @out      close with blx_placement_close(); untouched on error
 * Errors: BLX_E_INVALID (nodes_max, instances_max), BLX_E_UNSUPPORTED (the struct is of a newer library), BLX_E_BUSY
 * (65536 handles), BLX_E_NOMEM. Thread: any. Since 0.1. */
BLX_API int blx_placement_open(const struct blx_placement_options *options, blx_placement **out, blx_error *reterr);

/* Close it. NULL is allowed, and so is a second time. Thread: any. Since 0.1. */
BLX_API void blx_placement_close(blx_placement *placement);

/* ---- telling */

/* Tell what holds for the whole fleet: overcommit, what is kept free for the loss of nodes, distances.
 * @settings  copied; NULL: none of it
 * Errors: BLX_E_INVALID (names the field), BLX_E_UNSUPPORTED. Thread: any. Since 0.1. */
BLX_API int blx_placement_set_settings(blx_placement *placement, const struct blx_placement_settings *settings,
                                       blx_error *reterr);

/* Tell a node, or tell it anew: one of the same uid is replaced, and the instances told stay on it.
 * @node  copied. uid 1 or more and name required; capacity; hypervisors, at least one, or nothing fits; labels; taints;
 *        cpu_features; cordoned; status SUSPECT: nothing is placed there; fence, ha_ready, watchdog, virtualized,
 *        fence_command, no_watchdog; load_*; stored. allocated: what is used besides the instances that are told.
 *        The rest is ignored.
 * Errors: BLX_E_INVALID (names the field), BLX_E_UNSUPPORTED (a struct of a newer library), BLX_E_BUSY (nodes_max are
 * known). Thread: any. Since 0.1. */
BLX_API int blx_placement_set_node(blx_placement *placement, const struct blx_node_info *node, blx_error *reterr);

/* Say what is allocated on a node besides the instances that are told, instead of what was said or reserved.
 * @vcpus, @memory_mib  0..1073741824; above the node's capacity: nothing is free
 * Errors: BLX_E_NOT_FOUND (no such node), BLX_E_INVALID. Thread: any. Since 0.1. */
BLX_API int blx_placement_set_allocated(blx_placement *placement, uint64_t uid, uint64_t vcpus, uint64_t memory_mib,
                                        blx_error *reterr);

/* Forget a node, and the instances on it. Errors: BLX_E_NOT_FOUND. Thread: any. Since 0.1. */
BLX_API int blx_placement_remove_node(blx_placement *placement, uint64_t uid, blx_error *reterr);

/* Tell a VM, or tell it anew: its instances stay. @vm: copied.
 * Errors: BLX_E_INVALID (names the field), BLX_E_UNSUPPORTED, BLX_E_BUSY (1,000,000 VMs). Thread: any. Since 0.1. */
BLX_API int blx_placement_set_vm(blx_placement *placement, const struct blx_placement_vm *vm, blx_error *reterr);

/* Forget a VM, and its instances. Errors: BLX_E_NOT_FOUND. Thread: any. Since 0.1. */
BLX_API int blx_placement_remove_vm(blx_placement *placement, uint64_t uid, blx_error *reterr);

/* Tell that an instance is on a node, whatever fits there; told again: it moved, or ends. @instance: copied.
 * Errors: BLX_E_NOT_FOUND (its VM or node), BLX_E_INVALID, BLX_E_BUSY (instances_max). Thread: any. Since 0.1. */
BLX_API int blx_placement_place(blx_placement *placement, const struct blx_placement_instance *instance,
                                blx_error *reterr);

/* Tell that an instance is gone. Errors: BLX_E_NOT_FOUND. Thread: any. Since 0.1. */
BLX_API int blx_placement_unplace(blx_placement *placement, uint64_t uid, blx_error *reterr);

/* Add a strategy of your own.
 * @name    1..63 bytes, copied: what its part of a cost is called
 * @cost    called on the thread of the call that decides, under the placement's lock
 * @number  out: for blx_placement_vm.strategy
 * Errors: BLX_E_INVALID, BLX_E_BUSY (16 of them). Thread: any. Since 0.1. */
BLX_API int blx_placement_add_strategy(blx_placement *placement, const char *name, blx_placement_cost_fn cost,
                                       void *user, int32_t *number, blx_error *reterr);

/* ---- asking. Requests are borrowed for the call. */

/* Choose a node.
 * @out_uid  the node's uid; untouched on error
 * Errors: BLX_E_NO_CAPACITY (no node can take it: ask blx_placement_explain()), BLX_E_NOT_FOUND (vm_uid), BLX_E_INVALID
 * (names the field), BLX_E_BUSY (reserve: instances_max), BLX_E_UNSUPPORTED (a struct of a newer library). Thread: any.
 * Since 0.1. */
BLX_API int blx_placement_choose(blx_placement *placement, const struct blx_placement_request *request,
                                 uint64_t *out_uid, blx_error *reterr);

/* Why none was chosen, in one sentence for people, the nearest misses first: "node2 lacks 32 MiB; node3 is cordoned;
 * and 44 more nodes: 40 lack memory or vCPUs, 4 are cordoned". Looks at every node.
 * @out  of @size bytes (1 or more; BLX_PLACEMENT_TEXT_BYTES hold every one), cut there and terminated
 * Errors: as blx_placement_choose(), but for NO_CAPACITY. Thread: any. Since 0.1. */
BLX_API int blx_placement_explain(blx_placement *placement, const struct blx_placement_request *request, char *out,
                                  size_t size, blx_error *reterr);

/* How every node stands to a request: those that can take it by rank, then the others, the nearest misses first, with
 * every obstacle and every part of the cost; and how many have which obstacle.
 * @most  so many nodes are listed; 0: all, at most 5000
 * @out   free with blx_message_free(); untouched on error
 * Errors: as blx_placement_explain(). Thread: any. Since 0.1. */
BLX_API int blx_placement_report_get(blx_placement *placement, const struct blx_placement_request *request, size_t most,
                                     struct blx_placement_report **out, blx_error *reterr);

/* How one node stands to a request; its rank is not looked for, and is 0.
 * @out  free with blx_message_free(); untouched on error
 * Errors: as blx_placement_explain(); BLX_E_NOT_FOUND also for a node. Thread: any. Since 0.1. */
BLX_API int blx_placement_judge(blx_placement *placement, const struct blx_placement_request *request,
                                uint64_t node_uid, struct blx_node_verdict **out, blx_error *reterr);

/* Find the node on which the least would end so that a request fits: instances told of lower spec.priority whose
 * spec.preemptible is not false; the lowest highest priority, the lowest sum of priorities, the fewest. None of them
 * could stay. Nothing is changed: end them, tell it, and ask again.
 * @out  struct_size set; filled on success, else untouched
 * Errors: BLX_E_NO_CAPACITY (no node), else as blx_placement_explain(). Thread: any. Since 0.1. */
BLX_API int blx_placement_preempt(blx_placement *placement, const struct blx_placement_request *request,
                                  struct blx_placement_preemption *out, blx_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
