/* Verdicts as sentences for people, with their numbers. */
#include "placement/feasible.h"

typedef unsigned long long ull;

static const char *const hypervisor_names[] = {"QEMU",   "Cloud Hypervisor", "Firecracker",
                                               "crosvm", "kvmtool",          "StratoVirt"};

static const char *hypervisor_name(int32_t h) {
  bool known = h >= 0 && (size_t)h < BLX__COUNT(hypervisor_names);
  return known ? hypervisor_names[h] : "a monitor unknown to this version";
}

enum { CPUS_BYTES = 32 };

/* "2", "1.5", "0.25" */
static const char *cpus(uint64_t milli, char out[CPUS_BYTES]) {
  unsigned part = (unsigned)(milli % 1000), digits = 3;
  while (part > 0 && part % 10 == 0) {
    part /= 10;
    digits--;
  }
  if (part == 0)
    blx__str_format(out, CPUS_BYTES, "%llu", (ull)(milli / 1000));
  else
    blx__str_format(out, CPUS_BYTES, "%llu.%0*u", (ull)(milli / 1000), (int)digits, part);
  return out;
}

static void room_sentence(const struct blx__placement_case *c, char *out, size_t size) {
  const struct blx__placement_verdict *v = c->verdict;
  char has[CPUS_BYTES], needs[CPUS_BYTES], lacks[CPUS_BYTES];
  ull free_mib = v->free_memory_mib, mib = c->need->memory_mib, short_mib = v->short_memory_mib;
  (void)cpus(v->free_cpu_milli, has);
  (void)cpus(c->need->cpu_milli, needs);
  (void)cpus(v->short_cpu_milli, lacks);
  if (v->short_memory_mib && v->short_cpu_milli)
    blx__str_format(out, size, "%s has %llu MiB and %s vCPUs free, %llu and %s needed: %llu MiB and %s vCPUs short",
                    c->node->name, free_mib, has, mib, needs, short_mib, lacks);
  else if (v->short_memory_mib)
    blx__str_format(out, size, "%s has %llu MiB free, %llu needed: %llu MiB short", c->node->name, free_mib, mib,
                    short_mib);
  else
    blx__str_format(out, size, "%s has %s vCPUs free, %s needed: %s vCPUs short", c->node->name, has, needs, lacks);
}

static void selector_sentence(const struct blx__placement_case *c, char *out, size_t size) {
  for (size_t i = 0; i < c->need->n_selector; i++) {
    const struct blx_label *l = c->need->selector[i];
    const char *has = blx__placement_label(c->node, l->key), *wanted = l->value ? l->value : "";
    if (has && blx__str_eq(has, wanted)) continue;
    blx__str_format(out, size, "%s does not carry the label %s=%s", c->node->name, l->key ? l->key : "", wanted);
    return;
  }
}

static const char *op_words(int32_t op) {
  switch ((enum blx_match_op)op) {
  case BLX_MATCH_OP_IN: return "one of";
  case BLX_MATCH_OP_NOT_IN: return "none of";
  case BLX_MATCH_OP_EXISTS: return "any value";
  case BLX_MATCH_OP_NOT_EXISTS: return "none at all";
  case BLX_MATCH_OP_GREATER: return "a number above";
  case BLX_MATCH_OP_LESS: return "a number below";
  case BLX_MATCH_OP_WIDTH_: break;
  }
  return "something unknown to this version";
}

/* The first condition that does not hold: "node2 has zone=b, and must have one of a, c". */
static void match_sentence(const struct blx__placement_case *c, struct blx_node_match *const *all, size_t n, char *out,
                           size_t size) {
  size_t at = 0;
  while (at < n && blx__placement_matches(c->node, all[at])) at++;
  BLX__ASSERT(at < n);
  const struct blx_node_match *m = all[at];
  const char *has = blx__placement_label(c->node, m->key);
  char values[160] = "";
  size_t len = 0;
  for (size_t i = 0; i < m->n_values && len + 1 < sizeof values; i++) {
    (void)blx__str_format(values + len, sizeof values - len, "%s%s", i ? ", " : " ", m->values[i] ? m->values[i] : "");
    while (values[len]) len++;
  }
  if (has)
    blx__str_format(out, size, "%s has the label %s=%s, which must have %s%s", c->node->name, m->key, has,
                    op_words(m->op), values);
  else
    blx__str_format(out, size, "%s does not carry the label %s, which must have %s%s", c->node->name, m->key,
                    op_words(m->op), values);
}

static void label_sentence(const struct blx__placement_case *c, char *out, size_t size) {
  out[0] = 0;
  selector_sentence(c, out, size);
  if (!out[0]) match_sentence(c, c->need->constraints, c->need->n_constraints, out, size);
}

static void taint_sentence(const struct blx__placement_case *c, char *out, size_t size) {
  const struct blx_taint *t = blx__placement_taint(c->node, c->need, BLX_TAINT_EFFECT_NO_PLACE);
  BLX__ASSERT(t != NULL);
  bool valued = t->value && t->value[0];
  blx__str_format(out, size, "%s has the taint %s%s%s, which is not tolerated", c->node->name, t->key,
                  valued ? "=" : "", valued ? t->value : "");
}

/* Where the domain is the node alone it is not named twice. */
static void domain_words(const struct blx__placement_case *c, const char *level, char *out, size_t size) {
  const char *domain = blx__placement_domain(c->node, level);
  if (blx__str_eq(domain, c->node->name))
    blx__str_format(out, size, "%s", c->node->name);
  else
    blx__str_format(out, size, "%s=%s, where %s is,", level, domain, c->node->name);
}

static void near_sentence(const struct blx__placement_case *c, bool apart, const char *what, char *out, size_t size) {
  const struct blx__placement_around *a = c->around;
  char where[200];
  BLX__ASSERT(a != NULL);
  if (apart && a->unwanted_by && blx__str_eq(what, a->unwanted_by)) {
    blx__str_format(out, size, "%s is in one domain with %s, which wants no such instance near", c->node->name, what);
    return;
  }
  domain_words(c, what, where, sizeof where);
  blx__str_format(out, size,
                  apart ? "%s has an instance that it must not be near" : "%s has no instance that it must be near",
                  where);
}

static void full_sentence(const struct blx__placement_case *c, char *out, size_t size) {
  char where[200];
  for (size_t i = 0; i < c->need->n_spread; i++) {
    const struct blx_vm_spread *s = c->need->spread[i];
    if (s->max_per_domain == 0 || c->around->replicas[i] < s->max_per_domain) continue;
    domain_words(c, s->level, where, sizeof where);
    blx__str_format(out, size, "%s has %u replicas, and may have %u", where, c->around->replicas[i], s->max_per_domain);
    return;
  }
}

static void quota_sentence(const struct blx__placement_case *c, char *out, size_t size) {
  static const struct blx__placement_around nothing;
  const struct blx__placement_around *a = c->around ? c->around : &nothing;
  const struct blx_quota *q = c->need->quota;
  const char *tenant = q->tenant && q->tenant[0] ? q->tenant : "default";
  if (q->has_node_instances && (uint64_t)a->tenant_instances + 1 > q->node_instances)
    blx__str_format(out, size, "tenant %s has %u of %u instances on %s", tenant, a->tenant_instances, q->node_instances,
                    c->node->name);
  else if (q->has_node_vcpus && (uint64_t)a->tenant_vcpus + c->need->vcpus > q->node_vcpus)
    blx__str_format(out, size, "tenant %s has %u of %u vCPUs on %s, %u needed", tenant, a->tenant_vcpus, q->node_vcpus,
                    c->node->name, c->need->vcpus);
  else
    blx__str_format(out, size, "tenant %s has %llu of %llu MiB on %s, %llu needed", tenant, (ull)a->tenant_memory_mib,
                    (ull)q->node_memory_mib, c->node->name, (ull)c->need->memory_mib);
}

static const struct blx__placement_amount *named(const struct blx__placement_node *node, const char *name) {
  size_t at = 0;
  while (at < node->n_named && !blx__str_eq(node->named[at].name, name)) at++;
  return at < node->n_named ? &node->named[at] : NULL;
}

static void resource_sentence(const struct blx__placement_case *c, const char *name, char *out, size_t size) {
  const struct blx__placement_amount *has = named(c->node, name);
  uint64_t needed = 0;
  for (size_t i = 0; i < c->need->n_named; i++)
    if (blx__str_eq(c->need->named[i]->name, name)) needed = c->need->named[i]->amount;
  if (!has)
    blx__str_format(out, size, "%s has no %s", c->node->name, name);
  else
    blx__str_format(out, size, "%s has %llu %s free, %llu needed: %llu short", c->node->name,
                    (ull)(has->capacity > has->allocated ? has->capacity - has->allocated : 0), name, (ull)needed,
                    (ull)c->verdict->short_named);
}

static void sentence(const struct blx__placement_case *c, enum blx_obstacle_code code, char *out, size_t size) {
  const char *name = c->node->name, *what = c->verdict->what[code];
  switch (code) {
  case BLX_OBSTACLE_CODE_HYPERVISOR:
    blx__str_format(out, size, "%s cannot run %s", name, hypervisor_name(c->need->hypervisor));
    return;
  case BLX_OBSTACLE_CODE_CPU_FEATURE: blx__str_format(out, size, "%s's processors lack %s", name, what); return;
  case BLX_OBSTACLE_CODE_LABEL: label_sentence(c, out, size); return;
  case BLX_OBSTACLE_CODE_TENANT:
    blx__str_format(out, size, "%s is not one of the nodes of tenant %s", name,
                    c->need->quota && c->need->quota->tenant ? c->need->quota->tenant : "default");
    return;
  case BLX_OBSTACLE_CODE_TAINT: taint_sentence(c, out, size); return;
  case BLX_OBSTACLE_CODE_HA:
    blx__str_format(out, size, "%s %s", name, blx__placement_ha_missing(c->node, c->need->ha));
    return;
  case BLX_OBSTACLE_CODE_FENCED: blx__str_format(out, size, "%s is fenced", name); return;
  case BLX_OBSTACLE_CODE_CORDONED: blx__str_format(out, size, "%s is cordoned", name); return;
  case BLX_OBSTACLE_CODE_SILENT: blx__str_format(out, size, "%s %s", name, what ? what : "is not usable now"); return;
  case BLX_OBSTACLE_CODE_BARRED:
    blx__str_format(out, size, "%s has not confirmed that an earlier instance of that name is gone", name);
    return;
  case BLX_OBSTACLE_CODE_AFFINITY: near_sentence(c, false, what, out, size); return;
  case BLX_OBSTACLE_CODE_ANTI_AFFINITY: near_sentence(c, true, what, out, size); return;
  case BLX_OBSTACLE_CODE_DOMAIN_FULL: full_sentence(c, out, size); return;
  case BLX_OBSTACLE_CODE_NODE_QUOTA: quota_sentence(c, out, size); return;
  case BLX_OBSTACLE_CODE_SURVIVE:
    blx__str_format(out, size, "with it on %s, %llu ha=auto instance%s would find no room after the loss of nodes",
                    name, (ull)c->around->short_places, c->around->short_places == 1 ? "" : "s");
    return;
  case BLX_OBSTACLE_CODE_RESOURCE: resource_sentence(c, what, out, size); return;
  case BLX_OBSTACLE_CODE_ROOM: room_sentence(c, out, size); return;
  case BLX_OBSTACLE_CODE_WIDTH_: break;
  }
  BLX__ASSERT(false);
}

int32_t blx__placement_worst(uint32_t obstacles) {
  return obstacles ? __builtin_ctz(obstacles) : -1;
}

void blx__placement_sentence(const struct blx__placement_case *c, int32_t code, char *out, size_t size) {
  BLX__ASSERT(size > 0 && code < BLX__PLACEMENT_OBSTACLES);
  BLX__ASSERT(code < 0 || (c->verdict->obstacles & 1u << code));
  if (code < 0)
    blx__str_format(out, size, "%s has room", c->node->name);
  else
    sentence(c, (enum blx_obstacle_code)code, out, size);
}

void blx__placement_short(const struct blx__placement_case *c, int32_t code, char *out, size_t size) {
  const struct blx__placement_verdict *v = c->verdict;
  char number[CPUS_BYTES];
  const char *lacks = cpus(v->short_cpu_milli, number), *many = v->short_cpu_milli == 1000 ? "" : "s";
  if (code == BLX_OBSTACLE_CODE_RESOURCE && v->short_named > 0)
    blx__str_format(out, size, "%s lacks %llu %s", c->node->name, (ull)v->short_named, v->what[code]);
  else if (code != BLX_OBSTACLE_CODE_ROOM)
    blx__placement_sentence(c, code, out, size);
  else if (v->short_memory_mib && v->short_cpu_milli)
    blx__str_format(out, size, "%s lacks %llu MiB and %s vCPU%s", c->node->name, (ull)v->short_memory_mib, lacks, many);
  else if (v->short_memory_mib)
    blx__str_format(out, size, "%s lacks %llu MiB", c->node->name, (ull)v->short_memory_mib);
  else
    blx__str_format(out, size, "%s lacks %s vCPU%s", c->node->name, lacks, many);
}

static uint64_t quota_short(const struct blx__placement_need *need, const struct blx__placement_around *a) {
  const struct blx_quota *q = need->quota;
  uint64_t instances = (uint64_t)(a ? a->tenant_instances : 0) + 1;
  uint64_t vcpus = (uint64_t)(a ? a->tenant_vcpus : 0) + need->vcpus;
  uint64_t memory = (a ? a->tenant_memory_mib : 0) + need->memory_mib;
  if (q->has_node_instances && instances > q->node_instances) return instances - q->node_instances;
  if (q->has_node_vcpus && vcpus > q->node_vcpus) return vcpus - q->node_vcpus;
  return q->has_node_memory_mib && memory > q->node_memory_mib ? memory - q->node_memory_mib : 0;
}

uint64_t blx__placement_short_amount(const struct blx__placement_case *c, int32_t code) {
  if (code == BLX_OBSTACLE_CODE_RESOURCE) return c->verdict->short_named;
  if (code == BLX_OBSTACLE_CODE_NODE_QUOTA) return quota_short(c->need, c->around);
  return code == BLX_OBSTACLE_CODE_SURVIVE && c->around ? c->around->short_places : 0;
}
