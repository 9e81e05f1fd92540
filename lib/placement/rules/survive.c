#include "placement/survive.h"
#include "placement/feasible.h"

bool blx__survive_usable(const struct blx__placement_node *node) {
  return !node->cordoned && !node->fenced && !blx__placement_ha_missing(node, BLX_HA_POLICY_AUTO);
}

uint64_t blx__survive_places(const struct blx__survive_node *node, struct blx__survive_shape shape) {
  uint64_t cpus = shape.cpu_milli ? node->free_cpu_milli / shape.cpu_milli : UINT32_MAX;
  uint64_t memory = shape.memory_mib ? node->free_memory_mib / shape.memory_mib : UINT32_MAX;
  uint64_t places = cpus < memory ? cpus : memory;
  return places < UINT32_MAX ? places : UINT32_MAX;
}

/* Losing a node takes its places away and asks for as many as it has instances: both weigh the same. */
static uint64_t weight_of(const struct blx__survive_node *node, struct blx__survive_shape shape) {
  return blx__survive_places(node, shape) + node->ha_instances;
}

static bool none(struct blx__survive_shape shape) {
  return shape.cpu_milli == 0 && shape.memory_mib == 0;
}

uint64_t blx__survive_nodes_missing(const struct blx__survive_node *nodes, size_t n, struct blx__survive_shape shape,
                                    uint32_t k) {
  BLX__ASSERT(k <= BLX__SURVIVE_NODES_MAX);
  uint64_t worst[BLX__SURVIVE_NODES_MAX + 1] = {0}, places = 0, lost = 0; /* worst: the heaviest first */
  if (none(shape) || k == 0) return 0;
  for (size_t i = 0; i < n; i++) {
    uint64_t weight = weight_of(&nodes[i], shape);
    places += blx__survive_places(&nodes[i], shape);
    uint32_t at = k;
    for (; at > 0 && worst[at - 1] < weight; at--) worst[at] = worst[at - 1];
    worst[at] = weight;
  }
  for (uint32_t i = 0; i < k; i++) lost += worst[i];
  return lost > places ? lost - places : 0;
}

uint64_t blx__survive_domain_missing(const struct blx__survive_node *nodes, size_t n, struct blx__survive_shape shape,
                                     uint64_t *scratch) {
  uint64_t places = 0, lost = 0;
  if (none(shape)) return 0;
  for (size_t i = 0; i < n; i++) scratch[i] = 0;
  for (size_t i = 0; i < n; i++) {
    BLX__ASSERT(nodes[i].domain < n);
    places += blx__survive_places(&nodes[i], shape);
    scratch[nodes[i].domain] += weight_of(&nodes[i], shape);
  }
  for (size_t i = 0; i < n; i++) lost = scratch[i] > lost ? scratch[i] : lost;
  return lost > places ? lost - places : 0;
}
