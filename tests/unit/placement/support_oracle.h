/* What is to come out, written as the specification reads: every rule by looking at every instance, every node by
 * itself. Only the check of feasible.h is shared with the engine. */
#ifndef BLX_TESTS_PLACEMENT_ORACLE_H
#define BLX_TESTS_PLACEMENT_ORACLE_H

#include "placement/fit.h"
#include "placement/fleet.h"

enum { ORACLE_NODES = 64, ORACLE_VMS = 8, ORACLE_INSTANCES = 48 };

struct oracle_node {
  struct blx_node_info info; /* uid 0: none */
  struct blx_resources extra;
  struct blx__fleet_soft soft;
};

struct oracle_vm {
  uint64_t uid; /* 0: none */
  const char *tenant;
  struct blx_vm_spec spec;
  const struct blx_quota *quota;
};

struct oracle_instance {
  struct blx__fleet_instance told; /* uid 0: none */
};

struct oracle {
  struct oracle_node nodes[ORACLE_NODES];
  struct oracle_vm vms[ORACLE_VMS];
  struct oracle_instance instances[ORACLE_INSTANCES];
  const struct blx_placement_settings *settings;
  uint64_t seed;
  const struct blx__fit *fit; /* NULL: no shapes are known */
  blx__fleet_score_fn own;    /* the embedder's strategy */
};

struct oracle_verdict {
  uint32_t obstacles, replicas;
  uint64_t cost;
  bool avoids;
};

struct oracle_verdict oracle_judge(const struct oracle *o, const struct blx__fleet_request *r, size_t node);
void oracle_refresh(const struct oracle *o, struct blx__fit *fit);
uint64_t oracle_choose(const struct oracle *o, const struct blx__fleet_request *r, uint64_t *cost); /* 0: none */

#endif
