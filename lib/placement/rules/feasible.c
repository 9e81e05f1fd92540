#include "placement/feasible.h"

/* ---- views */

struct blx__placement_node blx__placement_node_of(const struct blx_node_info *n) {
  const struct blx_resources *has = n->capacity, *used = n->allocated;
  return (struct blx__placement_node){
      .uid = n->uid,
      .name = n->name,
      .cpu_milli = !has             ? 0
                   : has->cpu_milli ? has->cpu_milli
                                    : (uint64_t)has->vcpus * 1000,
      .memory_mib = has ? has->memory_mib : 0,
      .allocated_cpu_milli = !used             ? 0
                             : used->cpu_milli ? used->cpu_milli
                                               : (uint64_t)used->vcpus * 1000,
      .allocated_memory_mib = used ? used->memory_mib : 0,
      .hypervisors = n->hypervisors,
      .n_hypervisors = n->n_hypervisors,
      .labels = n->labels,
      .n_labels = n->n_labels,
      .taints = n->taints,
      .n_taints = n->n_taints,
      .cpu_features = n->cpu_features,
      .n_cpu_features = n->n_cpu_features,
      .cordoned = n->cordoned != 0,
      .fenced = n->fence != BLX_FENCE_NONE,
      .ha_ready = n->ha_ready != 0,
      .watchdog = n->watchdog && n->watchdog[0],
      .virtualized = n->virtualized != 0,
      .fence_command = n->fence_command && n->fence_command[0],
      .no_watchdog = n->no_watchdog != 0,
  };
}

uint64_t blx__placement_cpu_milli(const struct blx_vm_spec *spec) {
  if (spec->cpu_milli > 0) return spec->cpu_milli;
  return spec->vcpus > 0 ? (uint64_t)spec->vcpus * 1000 : 1000;
}

struct blx__placement_need blx__placement_need_of(const struct blx_vm_spec *s, const struct blx_quota *quota) {
  return (struct blx__placement_need){.cpu_milli = blx__placement_cpu_milli(s),
                                      .memory_mib = s->memory_mib,
                                      .hypervisor = s->hypervisor,
                                      .ha = s->ha,
                                      .selector = s->node_selector,
                                      .n_selector = s->n_node_selector,
                                      .named = s->resources,
                                      .n_named = s->n_resources,
                                      .constraints = s->constraints,
                                      .n_constraints = s->n_constraints,
                                      .tolerations = s->tolerations,
                                      .n_tolerations = s->n_tolerations,
                                      .cpu_features = s->cpu_features,
                                      .n_cpu_features = s->n_cpu_features,
                                      .affinity = s->affinity,
                                      .n_affinity = s->n_affinity,
                                      .spread = s->spread,
                                      .n_spread = s->n_spread,
                                      .quota = quota,
                                      .vcpus = s->vcpus};
}

static bool carries(const struct blx__placement_node *node, const struct blx_label *l) {
  const char *value = blx__placement_label(node, l->key);
  return value && blx__str_eq(value, l->value ? l->value : "");
}

void blx__placement_overcommit(const struct blx_placement_settings *s, struct blx__placement_node *node) {
  for (size_t i = 0; s && i < s->n_overcommit; i++) {
    const struct blx_overcommit *o = s->overcommit[i];
    if (o->nodes && !carries(node, o->nodes)) continue;
    node->cpu_milli = node->cpu_milli * (o->cpu_percent ? o->cpu_percent : 100) / 100;
    node->memory_mib = node->memory_mib * (o->memory_percent ? o->memory_percent : 100) / 100;
    return;
  }
}

/* ---- what a node is */

static bool has_hypervisor(const struct blx__placement_node *node, int32_t hypervisor) {
  for (size_t i = 0; i < node->n_hypervisors; i++) {
    if (node->hypervisors[i] == hypervisor) return true;
  }
  return false;
}

static const char *missing_feature(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  for (size_t i = 0; i < need->n_cpu_features; i++) {
    size_t at = 0;
    while (at < node->n_cpu_features && !blx__str_eq(node->cpu_features[at], need->cpu_features[i])) at++;
    if (at == node->n_cpu_features) return need->cpu_features[i];
  }
  return NULL;
}

static const char *missing_label(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  for (size_t i = 0; i < need->n_selector; i++) {
    if (!carries(node, need->selector[i])) return need->selector[i]->key;
  }
  for (size_t i = 0; i < need->n_constraints; i++) {
    if (!blx__placement_matches(node, need->constraints[i])) return need->constraints[i]->key;
  }
  return NULL;
}

static const char *missing_tenant(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  for (size_t i = 0; need->quota && i < need->quota->n_nodes; i++) {
    if (!blx__placement_matches(node, need->quota->nodes[i])) return need->quota->nodes[i]->key;
  }
  return NULL;
}

static bool tolerates(const struct blx_toleration *t, const struct blx_taint *taint) {
  if (t->key && t->key[0] && !blx__str_eq(t->key, taint->key)) return false;
  return !t->has_value || blx__str_eq(t->value ? t->value : "", taint->value ? taint->value : "");
}

const struct blx_taint *blx__placement_taint(const struct blx__placement_node *node,
                                             const struct blx__placement_need *need, int32_t effect) {
  for (size_t i = 0; i < node->n_taints; i++) {
    size_t at = 0;
    if (node->taints[i]->effect != effect) continue;
    while (at < need->n_tolerations && !tolerates(need->tolerations[at], node->taints[i])) at++;
    if (at == need->n_tolerations) return node->taints[i];
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

/* ---- the check */

static void add(struct blx__placement_verdict *v, int32_t code, const char *what) {
  BLX__ASSERT(code >= 0 && code < BLX__PLACEMENT_OBSTACLES);
  if (v->obstacles & 1u << code) return;
  v->obstacles |= 1u << code;
  v->what[code] = what;
}

static void add_if(struct blx__placement_verdict *v, int32_t code, const char *what) {
  if (what) add(v, code, what);
}

static void check_kind(const struct blx__placement_node *node, const struct blx__placement_need *need,
                       struct blx__placement_verdict *v) {
  const struct blx_taint *taint = blx__placement_taint(node, need, BLX_TAINT_EFFECT_NO_PLACE);
  if (!has_hypervisor(node, need->hypervisor)) add(v, BLX_OBSTACLE_CODE_HYPERVISOR, NULL);
  add_if(v, BLX_OBSTACLE_CODE_CPU_FEATURE, missing_feature(node, need));
  add_if(v, BLX_OBSTACLE_CODE_LABEL, missing_label(node, need));
  add_if(v, BLX_OBSTACLE_CODE_TENANT, missing_tenant(node, need));
  if (taint) add(v, BLX_OBSTACLE_CODE_TAINT, taint->key);
  if (blx__placement_ha_missing(node, need->ha)) add(v, BLX_OBSTACLE_CODE_HA, NULL);
  if (node->fenced) add(v, BLX_OBSTACLE_CODE_FENCED, NULL);
  if (node->cordoned) add(v, BLX_OBSTACLE_CODE_CORDONED, NULL);
}

static void check_others(const struct blx__placement_need *need, const struct blx__placement_around *a,
                         struct blx__placement_verdict *v) {
  BLX__ASSERT(need->n_affinity <= BLX__PLACEMENT_AFFINITY_MAX && need->n_spread <= BLX__PLACEMENT_SPREAD_MAX);
  for (size_t i = 0; i < need->n_affinity; i++) {
    const struct blx_vm_affinity *rule = need->affinity[i];
    bool first = a->anywhere[i] == 0 && a->itself[i];
    if (rule->weight > 0) continue;
    if (rule->apart && a->near[i] > 0) add(v, BLX_OBSTACLE_CODE_ANTI_AFFINITY, rule->level);
    if (!rule->apart && a->near[i] == 0 && !first) add(v, BLX_OBSTACLE_CODE_AFFINITY, rule->level);
  }
  add_if(v, BLX_OBSTACLE_CODE_ANTI_AFFINITY, a->unwanted_by);
  for (size_t i = 0; i < need->n_spread; i++) {
    uint32_t most = need->spread[i]->max_per_domain;
    if (most > 0 && a->replicas[i] >= most) add(v, BLX_OBSTACLE_CODE_DOMAIN_FULL, need->spread[i]->level);
  }
  if (a->short_places > 0) add(v, BLX_OBSTACLE_CODE_SURVIVE, NULL);
}

static void check_quota(const struct blx__placement_need *need, const struct blx__placement_around *a,
                        struct blx__placement_verdict *v) {
  static const struct blx__placement_around nothing;
  const struct blx_quota *q = need->quota;
  if (!q) return;
  if (!a) a = &nothing;
  if (q->has_node_instances && (uint64_t)a->tenant_instances + 1 > q->node_instances)
    add(v, BLX_OBSTACLE_CODE_NODE_QUOTA, "instances");
  if (q->has_node_vcpus && (uint64_t)a->tenant_vcpus + need->vcpus > q->node_vcpus)
    add(v, BLX_OBSTACLE_CODE_NODE_QUOTA, "vcpus");
  if (q->has_node_memory_mib && a->tenant_memory_mib + need->memory_mib > q->node_memory_mib)
    add(v, BLX_OBSTACLE_CODE_NODE_QUOTA, "memory_mib");
}

static uint64_t above_zero(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

static void check_named(const struct blx__placement_node *node, const struct blx__placement_need *need,
                        struct blx__placement_verdict *v) {
  for (size_t i = 0; i < need->n_named; i++) {
    const struct blx_amount *wanted = need->named[i];
    size_t at = 0;
    while (at < node->n_named && !blx__str_eq(node->named[at].name, wanted->name)) at++;
    bool there = at < node->n_named;
    uint64_t left = there ? above_zero(node->named[at].capacity, node->named[at].allocated) : 0;
    if (there && left >= wanted->amount) continue;
    if (!(v->obstacles & 1u << BLX_OBSTACLE_CODE_RESOURCE)) v->short_named = above_zero(wanted->amount, left);
    add(v, BLX_OBSTACLE_CODE_RESOURCE, wanted->name);
  }
}

static void check_room(const struct blx__placement_node *node, const struct blx__placement_need *need,
                       struct blx__placement_verdict *v) {
  v->free_cpu_milli = above_zero(node->cpu_milli, node->allocated_cpu_milli);
  v->free_memory_mib = above_zero(node->memory_mib, node->allocated_memory_mib);
  v->short_cpu_milli = above_zero(need->cpu_milli, v->free_cpu_milli);
  v->short_memory_mib = above_zero(need->memory_mib, v->free_memory_mib);
  if (v->short_cpu_milli || v->short_memory_mib) add(v, BLX_OBSTACLE_CODE_ROOM, NULL);
}

bool blx__placement_feasible(const struct blx__placement_node *node, const struct blx__placement_need *need,
                             const struct blx__placement_around *around, struct blx__placement_verdict *out) {
  struct blx__placement_verdict v = {.obstacles = 0};
  BLX__ASSERT(need->cpu_milli > 0);
  check_room(node, need, &v);
  if (!out && v.obstacles) return false;
  check_named(node, need, &v);
  if (around) check_others(need, around, &v);
  check_quota(need, around, &v);
  if (!out && v.obstacles) return false;
  check_kind(node, need, &v);
  if (out) *out = v;
  return v.obstacles == 0;
}

bool blx__placement_suits(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  struct blx__placement_verdict v = {.obstacles = 0};
  check_kind(node, need, &v);
  return v.obstacles == 0;
}

bool blx__placement_has_room(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  struct blx__placement_verdict v = {.obstacles = 0};
  if (node->cpu_milli < node->allocated_cpu_milli + need->cpu_milli) return false;
  if (node->memory_mib < node->allocated_memory_mib + need->memory_mib) return false;
  if (need->n_named > 0) check_named(node, need, &v);
  return v.obstacles == 0;
}

bool blx__placement_agrees(const struct blx__placement_need *need, const struct blx__placement_around *around) {
  struct blx__placement_verdict v = {.obstacles = 0};
  check_others(need, around, &v);
  check_quota(need, around, &v);
  return v.obstacles == 0;
}
