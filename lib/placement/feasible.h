/* The one check whether a node can take an instance. The engine asks it before it proposes, apply asks it again when
 * the proposal is committed; nothing else decides. Pure: integers only. Thread: any. */
#ifndef BLX__PLACEMENT_FEASIBLE_H
#define BLX__PLACEMENT_FEASIBLE_H

#include "base/rc.h"
#include <blixard/calls.h>
#include <blixard/types.h>

enum {
  BLX__PLACEMENT_AFFINITY_MAX = 8, /* as in vm_spec */
  BLX__PLACEMENT_SPREAD_MAX = 4,
  BLX__PLACEMENT_DISTANCES_MAX = 64, /* as in placement_settings */
  BLX__PLACEMENT_LEVELS_MAX = 64,    /* that the affinity and spread of all VMs of a cluster may name */
  BLX__PLACEMENT_OBSTACLES = 17,     /* codes of enum blx_obstacle_code */
  BLX__PLACEMENT_SENTENCE_BYTES = 400,
};

/* What a node has of a named resource. What it does not list it does not have: of disk/POOL, it does not reach it. */
struct blx__placement_amount {
  const char *name;
  uint64_t capacity, allocated;
};

/* A node as placement sees it. Everything is borrowed. */
struct blx__placement_node {
  uint64_t uid;
  uint64_t cpu_milli, memory_mib;                     /* what may be given out: capacity times overcommit */
  uint64_t allocated_cpu_milli, allocated_memory_mib; /* what instances not confirmed dead use; may be above a capacity
                                                         that was lowered later: then nothing is free */
  size_t n_taints, n_named;
  const struct blx__placement_amount *named;
  const char *name;
  const int32_t *hypervisors; /* enum blx_hypervisor */
  size_t n_hypervisors;
  struct blx_label *const *labels;
  size_t n_labels;
  struct blx_taint *const *taints;
  const char *const *cpu_features;
  size_t n_cpu_features;
  bool cordoned;
  bool fenced;                                            /* cut off, and not back yet */
  bool ha_ready;                                          /* its agent can end instances before a lease ends */
  bool watchdog, virtualized, fence_command, no_watchdog; /* as in node_info: has a device, is a VM, has a command, was
                                                             said to need neither */
};

/* What one instance needs of a node. Everything is borrowed: a view of a vm_spec and of its tenant's quota. */
struct blx__placement_need {
  uint64_t cpu_milli, memory_mib;    /* cpu_milli: never 0 */
  int32_t hypervisor;                /* enum blx_hypervisor */
  int32_t ha;                        /* enum blx_ha_policy */
  struct blx_label *const *selector; /* labels that the node must carry, all of them */
  size_t n_selector;
  struct blx_amount *const *named;
  size_t n_named;
  struct blx_node_match *const *constraints;
  size_t n_constraints;
  struct blx_toleration *const *tolerations;
  size_t n_tolerations;
  const char *const *cpu_features;
  size_t n_cpu_features;
  struct blx_vm_affinity *const *affinity; /* those of weight 0 are hard; the others are no matter here */
  size_t n_affinity;
  struct blx_vm_spread *const *spread; /* max_per_domain is hard */
  size_t n_spread;
  const struct blx_quota *quota; /* nodes and node_* are looked at; NULL: none */
  uint32_t vcpus;                /* for the quota */
};

/* What of other instances counts for one node and one need: whoever asks has counted it. Zero where the need has no
 * such rule. Instances are those not confirmed dead, the one that is placed not among them; of the same tenant. */
struct blx__placement_around {
  uint32_t near[BLX__PLACEMENT_AFFINITY_MAX];     /* per rule: instances that match, in the node's domain */
  uint32_t anywhere[BLX__PLACEMENT_AFFINITY_MAX]; /* and in the whole cluster */
  bool itself[BLX__PLACEMENT_AFFINITY_MAX];       /* the VM matches itself: the first of its kind may go anywhere */
  uint32_t replicas[BLX__PLACEMENT_SPREAD_MAX];   /* per rule: other replicas of the VM in the node's domain */
  const char *unwanted_by; /* a VM in one domain with the node whose hard `apart` rule matches this VM; NULL: none */
  uint32_t tenant_instances, tenant_vcpus; /* the tenant's, on the node */
  uint64_t tenant_memory_mib;
  uint64_t short_places; /* places missing for survive_* with the instance there; 0: none, or it is not demanded */
};

/* Obstacles are bits 1 << enum blx_obstacle_code; SILENT and BARRED are the engine's, never set here. */
struct blx__placement_verdict {
  uint32_t obstacles; /* 0: it fits */
  uint64_t free_cpu_milli, free_memory_mib;
  uint64_t short_cpu_milli, short_memory_mib; /* ROOM: what is missing; 0: enough of it */
  uint64_t short_named;                       /* RESOURCE: of the first that is short, what is missing */
  const char *what[BLX__PLACEMENT_OBSTACLES]; /* per code the first label, feature, taint, level, resource or VM that it
                                                 is about; NULL: nothing to name. Borrowed from node and need */
};

/* The node of a record, with what the record says is allocated. Named resources are left to the caller, and so is
 * overcommit. */
struct blx__placement_node blx__placement_node_of(const struct blx_node_info *record);

/* What an instance with that spec needs; of a quota that holds for its tenant, or NULL. Borrowed from both. */
struct blx__placement_need blx__placement_need_of(const struct blx_vm_spec *spec, const struct blx_quota *quota);

/* Thousandths of a processor that it reserves. */
uint64_t blx__placement_cpu_milli(const struct blx_vm_spec *spec);

/* The value of a label; `host` and `node.name` are the node's name where it has no such label. NULL: none. */
const char *blx__placement_label(const struct blx__placement_node *node, const char *key);

/* The domain of a node at a level: the value of that label, "" without it. */
const char *blx__placement_domain(const struct blx__placement_node *node, const char *level);

bool blx__placement_matches(const struct blx__placement_node *node, const struct blx_node_match *match);

/* Do @labels hold all of @selector? An empty selector holds always: whoever means the VM itself asks before. */
bool blx__placement_selects(struct blx_label *const *selector, size_t n, struct blx_label *const *labels,
                            size_t n_labels);

/* The first taint with that effect that nothing of the need tolerates, or NULL. */
const struct blx_taint *blx__placement_taint(const struct blx__placement_node *node,
                                             const struct blx__placement_need *need, int32_t effect);

/* Can @node take @need?
 * @around  NULL: nothing is known of other instances, and no rule about them is looked at
 * @out     unless NULL, is filled in either case, with every obstacle */
bool blx__placement_feasible(const struct blx__placement_node *node, const struct blx__placement_need *need,
                             const struct blx__placement_around *around, struct blx__placement_verdict *out);

/* The three parts of that, for indexes: what the node is; its room and named resources; what counts around it. */
bool blx__placement_suits(const struct blx__placement_node *node, const struct blx__placement_need *need);
bool blx__placement_has_room(const struct blx__placement_node *node, const struct blx__placement_need *need);
bool blx__placement_agrees(const struct blx__placement_need *need, const struct blx__placement_around *around);

/* What @node lacks to take an instance with that policy (enum blx_ha_policy), to stand behind its name; NULL: nothing.
 */
const char *blx__placement_ha_missing(const struct blx__placement_node *node, int32_t ha);

/* What may be given out of a node, in place of its capacity: by the first overcommit row whose label it carries.
 * @settings  NULL: nothing is given out twice */
void blx__placement_overcommit(const struct blx_placement_settings *settings, struct blx__placement_node *node);

/* The most stubborn obstacle of some, which is that of the lowest code; -1 of none. */
int32_t blx__placement_worst(uint32_t obstacles);

/* A verdict, and what it is about. */
struct blx__placement_case {
  const struct blx__placement_node *node;
  const struct blx__placement_need *need;
  const struct blx__placement_around *around; /* NULL: as in feasible */
  const struct blx__placement_verdict *verdict;
};

/* One obstacle of a verdict as a sentence with its numbers, "node2 has 96 MiB free, 128 needed: 32 MiB short"; of no
 * obstacle (code < 0) "node2 has room". Cut to @size bytes (>= 1) and terminated. */
void blx__placement_sentence(const struct blx__placement_case *c, int32_t code, char *out, size_t size);

/* The same as short as it can be: "node2 lacks 32 MiB". */
void blx__placement_short(const struct blx__placement_case *c, int32_t code, char *out, size_t size);

/* What is missing of the obstacle as a number: of a named resource, a quota, places elsewhere; else 0. */
uint64_t blx__placement_short_amount(const struct blx__placement_case *c, int32_t code);

/* Is what a spec says about placement meaningful together? Asked at admission and again by apply.
 * Errors: INVALID, naming the field. */
blx__rc blx__placement_spec_check(const struct blx_vm_spec *spec, blx_error *err) BLX__MUST;
blx__rc blx__placement_settings_check(const struct blx_placement_settings *settings, blx_error *err) BLX__MUST;

#endif
