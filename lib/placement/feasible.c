#include "placement/feasible.h"

static const char *const hypervisor_names[] = {"QEMU",   "Cloud Hypervisor", "Firecracker",
                                               "crosvm", "kvmtool",          "StratoVirt"};

static const char *hypervisor_name(int32_t h) {
  bool known = h >= 0 && (size_t)h < BLX__COUNT(hypervisor_names);
  return known ? hypervisor_names[h] : "a monitor unknown to this version";
}

struct blx__placement_node blx__placement_node_of(const struct blx_node_info *n) {
  return (struct blx__placement_node){
      .uid = n->uid,
      .name = n->name,
      .vcpus = n->capacity ? n->capacity->vcpus : 0,
      .memory_mib = n->capacity ? n->capacity->memory_mib : 0,
      .allocated_vcpus = n->allocated ? n->allocated->vcpus : 0,
      .allocated_memory_mib = n->allocated ? n->allocated->memory_mib : 0,
      .hypervisors = n->hypervisors,
      .n_hypervisors = n->n_hypervisors,
      .labels = n->labels,
      .n_labels = n->n_labels,
      .cordoned = n->cordoned != 0,
      .fenced = n->fence != BLX_FENCE_NONE,
      .ha_ready = n->ha_ready != 0,
      .watchdog = n->watchdog && n->watchdog[0],
      .virtualized = n->virtualized != 0,
      .fence_command = n->fence_command && n->fence_command[0],
      .no_watchdog = n->no_watchdog != 0,
  };
}

static bool has_hypervisor(const struct blx__placement_node *node, int32_t hypervisor) {
  for (size_t i = 0; i < node->n_hypervisors; i++) {
    if (node->hypervisors[i] == hypervisor) return true;
  }
  return false;
}

static bool has_label(const struct blx__placement_node *node, const struct blx_label *wanted) {
  for (size_t i = 0; i < node->n_labels; i++) {
    const struct blx_label *l = node->labels[i];
    if (blx__str_eq(l->key, wanted->key) && blx__str_eq(l->value ? l->value : "", wanted->value ? wanted->value : ""))
      return true;
  }
  return false;
}

static const struct blx_label *missing_label(const struct blx__placement_node *node,
                                             const struct blx__placement_need *need) {
  for (size_t i = 0; i < need->n_selector; i++) {
    if (!has_label(node, need->selector[i])) return need->selector[i];
  }
  return NULL;
}

/* What makes sure that an instance is dead on @node when its lease is over; NULL: that is there, or none is needed. A
 * device cannot help where the machine itself can be stopped without its clock going on. */
const char *blx__placement_ha_missing(const struct blx__placement_node *node, int32_t ha) {
  if (ha == BLX_HA_POLICY_OFF) return NULL;
  if (!node->ha_ready) return "cannot end highly available instances itself: no watchdog process or control groups";
  if (ha != BLX_HA_POLICY_AUTO || node->fence_command || node->no_watchdog) return NULL;
  if (!node->watchdog)
    return "has no --watchdog-device: ha=auto needs it, `blixard node fence-command` or --no-watchdog there";
  return node->virtualized ? "is a virtual machine: ha=auto needs `blixard node fence-command` or --no-watchdog there"
                           : NULL;
}

static uint64_t above_zero(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

bool blx__placement_feasible(const struct blx__placement_node *node, const struct blx__placement_need *need,
                             struct blx__placement_verdict *out) {
  struct blx__placement_verdict v = {.obstacle = BLX__PLACEMENT_FITS};
  v.free_vcpus = above_zero(node->vcpus, node->allocated_vcpus);
  v.free_memory_mib = above_zero(node->memory_mib, node->allocated_memory_mib);
  v.short_vcpus = above_zero(need->vcpus, v.free_vcpus);
  v.short_memory_mib = above_zero(need->memory_mib, v.free_memory_mib);
  v.label = missing_label(node, need);
  if (!has_hypervisor(node, need->hypervisor))
    v.obstacle = BLX__PLACEMENT_HYPERVISOR;
  else if (v.label)
    v.obstacle = BLX__PLACEMENT_LABEL;
  else if (blx__placement_ha_missing(node, need->ha))
    v.obstacle = BLX__PLACEMENT_HA;
  else if (node->fenced)
    v.obstacle = BLX__PLACEMENT_FENCED;
  else if (node->cordoned)
    v.obstacle = BLX__PLACEMENT_CORDONED;
  else if (v.short_vcpus || v.short_memory_mib)
    v.obstacle = BLX__PLACEMENT_ROOM;
  if (out) *out = v;
  return v.obstacle == BLX__PLACEMENT_FITS;
}

static void room_sentence(const struct blx__placement_node *node, const struct blx__placement_need *need,
                          const struct blx__placement_verdict *v, char *out, size_t size) {
  unsigned long long free_mib = v->free_memory_mib, mib = need->memory_mib, short_mib = v->short_memory_mib;
  unsigned long long free_cpus = v->free_vcpus, cpus = need->vcpus, short_cpus = v->short_vcpus;
  if (short_mib && short_cpus)
    blx__str_format(out, size,
                    "%s has %llu MiB and %llu vCPUs free, %llu and %llu needed: %llu MiB and %llu vCPUs short",
                    node->name, free_mib, free_cpus, mib, cpus, short_mib, short_cpus);
  else if (short_mib)
    blx__str_format(out, size, "%s has %llu MiB free, %llu needed: %llu MiB short", node->name, free_mib, mib,
                    short_mib);
  else
    blx__str_format(out, size, "%s has %llu vCPUs free, %llu needed: %llu vCPUs short", node->name, free_cpus, cpus,
                    short_cpus);
}

void blx__placement_sentence(const struct blx__placement_node *node, const struct blx__placement_need *need,
                             const struct blx__placement_verdict *verdict, char *out, size_t size) {
  BLX__ASSERT(size > 0);
  switch (verdict->obstacle) {
  case BLX__PLACEMENT_FITS: blx__str_format(out, size, "%s has room", node->name); return;
  case BLX__PLACEMENT_HYPERVISOR:
    blx__str_format(out, size, "%s cannot run %s", node->name, hypervisor_name(need->hypervisor));
    return;
  case BLX__PLACEMENT_LABEL:
    BLX__ASSERT(verdict->label != NULL);
    blx__str_format(out, size, "%s does not carry the label %s=%s", node->name,
                    verdict->label->key ? verdict->label->key : "", verdict->label->value ? verdict->label->value : "");
    return;
  case BLX__PLACEMENT_HA:
    BLX__ASSERT(blx__placement_ha_missing(node, need->ha) != NULL);
    blx__str_format(out, size, "%s %s", node->name, blx__placement_ha_missing(node, need->ha));
    return;
  case BLX__PLACEMENT_FENCED: blx__str_format(out, size, "%s is fenced", node->name); return;
  case BLX__PLACEMENT_CORDONED: blx__str_format(out, size, "%s is cordoned", node->name); return;
  case BLX__PLACEMENT_ROOM: room_sentence(node, need, verdict, out, size); return;
  }
  BLX__ASSERT(false);
}
