/* Placement alone: decide without a cluster which node takes an instance. The decision is the cluster's own, made by
 * the same code. Tell it the nodes, ask for one; nothing is started anywhere.
 *
 * Which nodes can take an instance (feasible): those that are heard from (node.status is not SUSPECT), run its
 * hypervisor, carry every label of its node_selector, can end highly available instances (node.ha_ready; for ha=auto
 * also a watchdog device on a real machine, a fence command, or no_watchdog), are neither fenced nor cordoned, and have
 * the vCPUs and the memory free. Of these the first by this order is chosen:
 *  1. the node it was on (sticky_uid);
 *  2. the fewest replicas of the same VM (replica_uids): spreading is a preference, no replica waits for it;
 *  3. the strategy's score. With used = allocated + what the instance needs, in whole numbers rounded down,
 *         fullness = used_vcpus * 10000 / vcpus + used_memory_mib * 10000 / memory_mib      (0 empty .. 20000 full)
 *     BestFit takes the highest fullness, so that large gaps stay; LoadBalanced the lowest. These are Kubernetes'
 *     MostAllocated and LeastAllocated (NodeResourcesFit) with equal weights; best fit is that of bin packing (Johnson,
 *     1974);
 *  4. among equals a hash of seed and uid, so that callers with different seeds do not all take the same one
 *     (rendezvous hashing: Thaler and Ravishankar, 1998; the hash is splitmix64's, Steele et al., 2014);
 *  5. the lower uid.
 * There is no floating point, clock or randomness: the same nodes and request give the same answer on every machine,
 * whatever order the nodes were told in. Nodes and requests are the cluster's own structs (blixard/types.h), so they
 * come from JSON with blx_from_json("node_info", ...) and from blx_node_list_get() as they are.
 *
 * A decision over 5,000 nodes takes some 100 us and no memory. Every function may be called on any thread; calls of one
 * placement take turns. Errors of all of them: BLX_E_MISUSE (no open placement, NULL). Since 0.1. */
#ifndef BLIXARD_PLACEMENT_H
#define BLIXARD_PLACEMENT_H

#include <blixard/error.h>
#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  BLX_PLACEMENT_NODES_MAX = 5000,
  BLX_PLACEMENT_REPLICAS_MAX = 1000,
  BLX_PLACEMENT_TEXT_BYTES = 480, /* as many as an explanation ever has, its end included */
};

/* Why a node cannot take an instance; the first that applies, from the one no waiting removes to the nearest miss. */
enum {
  BLX_PLACEMENT_FITS = 0,
  BLX_PLACEMENT_HYPERVISOR = 1, /* it cannot run it */
  BLX_PLACEMENT_LABEL = 2,      /* a label of the selector is missing */
  BLX_PLACEMENT_CORDONED = 3,
  BLX_PLACEMENT_SILENT = 4, /* it has not been heard from */
  BLX_PLACEMENT_ROOM = 5,   /* vCPUs or memory are short */
  BLX_PLACEMENT_HA = 6,     /* it cannot take highly available ones, or none with ha=auto */
  BLX_PLACEMENT_FENCED = 7,
};

typedef struct blx_placement blx_placement;

struct blx_placement_options {
  size_t struct_size;
  uint32_t nodes_max; /* 0: 5000; 1..5000; memory for so many is taken at the open */
};
#define BLX_PLACEMENT_OPTIONS_INIT BLX_INIT_(struct blx_placement_options)
BLX_INIT_FN_(placement_options)

struct blx_placement_request {
  size_t struct_size;
  const struct blx_vm_spec *spec; /* required: vcpus, memory_mib, hypervisor, strategy and node_selector are looked at;
                                     zero: the default (types.h); the limits of blx_vm_create() hold */
  uint64_t sticky_uid;            /* node that it was on; 0: none */
  uint64_t seed;                  /* for ties */
  const uint64_t *replica_uids;   /* a node for each other replica of the VM; unknown ones are ignored */
  size_t n_replica_uids;          /* 0..1000 */
  uint32_t reserve;               /* 1: a choice counts as allocated on its node from now on */
};
#define BLX_PLACEMENT_REQUEST_INIT BLX_INIT_(struct blx_placement_request)
BLX_INIT_FN_(placement_request)

/* How a node stands to a request. Yours, to be filled; nothing in it is to be freed. */
struct blx_placement_reason {
  size_t struct_size;
  uint64_t uid;
  int32_t obstacle;  /* BLX_PLACEMENT_* */
  uint32_t replicas; /* of the same VM that are there */
  uint64_t fullness; /* 0..20000 with the instance there; more if it does not fit */
  uint64_t free_vcpus, free_memory_mib;
  uint64_t short_vcpus, short_memory_mib; /* what is missing */
  char text[256];                         /* "node2 has 96 MiB free, 128 needed: 32 MiB short"; UTF-8, terminated */
};
#define BLX_PLACEMENT_REASON_INIT BLX_INIT_(struct blx_placement_reason)
BLX_INIT_FN_(placement_reason)

/* Open a placement without nodes.
 * @options  borrowed; NULL: defaults
 * @out      close with blx_placement_close(); untouched on error
 * Errors: BLX_E_INVALID (nodes_max), BLX_E_UNSUPPORTED (the struct is of a newer library), BLX_E_BUSY (65536 handles),
 * BLX_E_NOMEM. Thread: any. Since 0.1. */
BLX_API int blx_placement_open(const struct blx_placement_options *options, blx_placement **out, blx_error *reterr);

/* Close it. NULL is allowed, and so is a second time. Thread: any. Since 0.1. */
BLX_API void blx_placement_close(blx_placement *placement);

/* Tell a node, or tell it anew: one of the same uid is replaced.
 * @node  copied. uid 1 or more and name required; capacity and allocated in vCPUs and MiB, NULL: none; hypervisors, at
 *        least one, or nothing fits; labels; cordoned; status SUSPECT: nothing is placed there; fence, ha_ready,
 *        watchdog, virtualized, fence_command, no_watchdog. The rest is ignored.
 * Errors: BLX_E_INVALID (names the field), BLX_E_UNSUPPORTED (a struct of a newer library), BLX_E_BUSY (nodes_max are
 * known), BLX_E_NOMEM. Thread: any. Since 0.1. */
BLX_API int blx_placement_set_node(blx_placement *placement, const struct blx_node_info *node, blx_error *reterr);

/* Say what is allocated on a node now: after an instance is gone, or instead of what was reserved.
 * @vcpus, @memory_mib  0..1073741824; above the node's capacity: nothing is free
 * Errors: BLX_E_NOT_FOUND (no such node), BLX_E_INVALID. Thread: any. Since 0.1. */
BLX_API int blx_placement_set_allocated(blx_placement *placement, uint64_t uid, uint64_t vcpus, uint64_t memory_mib,
                                        blx_error *reterr);

/* Forget a node. Errors: BLX_E_NOT_FOUND. Thread: any. Since 0.1. */
BLX_API int blx_placement_remove_node(blx_placement *placement, uint64_t uid, blx_error *reterr);

/* Choose a node.
 * @request  borrowed for the call
 * @out_uid  the node's uid; untouched on error
 * Errors: BLX_E_NO_CAPACITY (no node can take it: ask blx_placement_explain()), BLX_E_INVALID (names the field),
 * BLX_E_UNSUPPORTED (DataLocality and NetworkProximity; a struct of a newer library). Thread: any. Since 0.1. */
BLX_API int blx_placement_choose(blx_placement *placement, const struct blx_placement_request *request,
                                 uint64_t *out_uid, blx_error *reterr);

/* Why none was chosen, in one sentence for people, the nearest misses first: "node2 lacks 32 MiB; node3 is cordoned".
 * Computed when it is asked for; costs as much as a choice and more.
 * @out  of @size bytes (1 or more; BLX_PLACEMENT_TEXT_BYTES hold every one), cut there and terminated
 * Errors: as blx_placement_choose(), but for NO_CAPACITY. Thread: any. Since 0.1. */
BLX_API int blx_placement_explain(blx_placement *placement, const struct blx_placement_request *request, char *out,
                                  size_t size, blx_error *reterr);

/* How the next node stands to a request: that with the lowest uid above @after_uid. Begin with 0, go on with out->uid:
 * each node's reason is computed when it is asked for.
 * @out  struct_size set; filled when 1 is returned, else untouched
 * Returns 1, or 0 when there is none above, or an error: as blx_placement_explain(). Thread: any. Since 0.1. */
BLX_API int blx_placement_reason_after(blx_placement *placement, const struct blx_placement_request *request,
                                       uint64_t after_uid, struct blx_placement_reason *out, blx_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
