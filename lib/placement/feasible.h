/* The one check whether a node can take an instance. The scheduler asks it before it proposes, apply asks it again when
 * the proposal is committed; nothing else decides. Pure: integers only. Thread: any. */
#ifndef BLX__PLACEMENT_FEASIBLE_H
#define BLX__PLACEMENT_FEASIBLE_H

#include "base/rc.h"
#include <blixard/types.h>

/* A node as placement sees it. Everything is borrowed. */
struct blx__placement_node {
  uint64_t uid;
  const char *name;
  uint64_t vcpus, memory_mib;                     /* capacity */
  uint64_t allocated_vcpus, allocated_memory_mib; /* what instances not confirmed dead use; may be above a capacity
                                                     that was lowered later: then nothing is free */
  const int32_t *hypervisors;                     /* enum blx_hypervisor */
  size_t n_hypervisors;
  struct blx_label *const *labels;
  size_t n_labels;
  bool cordoned;
  bool fenced;                                            /* cut off, and not back yet */
  bool ha_ready;                                          /* its agent can end instances before a lease ends */
  bool watchdog, virtualized, fence_command, no_watchdog; /* as in node_info: has a device, is a VM, has a command, was
                                                             said to need neither */
};

/* What one instance needs of a node. Everything is borrowed. */
struct blx__placement_need {
  uint64_t vcpus, memory_mib;
  int32_t hypervisor;                /* enum blx_hypervisor */
  int32_t ha;                        /* enum blx_ha_policy */
  struct blx_label *const *selector; /* labels that the node must carry, all of them */
  size_t n_selector;
};

/* Why not; the first obstacle in this order, which runs from the one that no waiting removes to the nearest miss. */
enum blx__placement_obstacle {
  BLX__PLACEMENT_FITS,
  BLX__PLACEMENT_HYPERVISOR,
  BLX__PLACEMENT_LABEL,
  BLX__PLACEMENT_HA, /* nothing would end or reset it there in time; the sentence says which setting would */
  BLX__PLACEMENT_FENCED,
  BLX__PLACEMENT_CORDONED,
  BLX__PLACEMENT_ROOM,
};

struct blx__placement_verdict {
  enum blx__placement_obstacle obstacle;
  uint64_t free_vcpus, free_memory_mib;
  uint64_t short_vcpus, short_memory_mib; /* what is missing; 0: enough of it */
  const struct blx_label *label;          /* the first label missing, or NULL; borrowed from the need */
};

/* The node of a record, with what the record says is allocated. */
struct blx__placement_node blx__placement_node_of(const struct blx_node_info *record);

/* Can @node take @need? @out, unless NULL, is filled in either case. */
bool blx__placement_feasible(const struct blx__placement_node *node, const struct blx__placement_need *need,
                             struct blx__placement_verdict *out);

/* What @node lacks to take an instance with that policy (enum blx_ha_policy), to stand behind its name; NULL: nothing.
 */
const char *blx__placement_ha_missing(const struct blx__placement_node *node, int32_t ha);

/* The verdict as one sentence with its numbers, "node2 has 96 MiB free, 128 needed: 32 MiB short", cut to @size bytes
 * (>= 1) and terminated. */
void blx__placement_sentence(const struct blx__placement_node *node, const struct blx__placement_need *need,
                             const struct blx__placement_verdict *verdict, char *out, size_t size);

/* Can this version place by @strategy? Asked at admission and again by apply.
 * Errors: UNSUPPORTED, with the reason; INVALID for a number that is no strategy. */
blx__rc blx__placement_strategy_check(int32_t strategy, blx_error *err) BLX__MUST;

#endif
