#include "support_oracle.h"
#include "base/digest.h"
#include "placement/survive.h"

#include <string.h>

#define EACH(x, array) (size_t x = 0; x < BLX__COUNT(array); x++)

static const struct oracle_vm *vm_of(const struct oracle *o, uint64_t uid) {
  for
    EACH(i, o->vms)
  if (o->vms[i].uid == uid) return &o->vms[i];
  return NULL;
}

static size_t node_of(const struct oracle *o, uint64_t uid) {
  size_t at = 0;
  while (o->nodes[at].info.uid != uid) at++;
  return at;
}

/* ---- a node with what is allocated on it */

struct seen {
  struct blx__placement_node view;
  struct blx__placement_amount named[8];
};

static void use(struct seen *s, uint64_t cpu_milli, uint64_t memory_mib, struct blx_amount *const *named, size_t n) {
  s->view.allocated_cpu_milli += cpu_milli;
  s->view.allocated_memory_mib += memory_mib;
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < s->view.n_named; k++)
      if (blx__str_eq(s->named[k].name, named[i]->name)) s->named[k].allocated += named[i]->amount;
}

static void see(const struct oracle *o, const struct blx__fleet_request *r, size_t node, struct seen *s) {
  const struct blx_node_info *n = &o->nodes[node].info;
  *s = (struct seen){.view = blx__placement_node_of(n)};
  s->view.allocated_cpu_milli = s->view.allocated_memory_mib = 0;
  for (size_t i = 0; i < n->capacity->n_named; i++)
    s->named[i] = (struct blx__placement_amount){n->capacity->named[i]->name, n->capacity->named[i]->amount, 0};
  s->view.named = s->named;
  s->view.n_named = n->capacity->n_named;
  blx__placement_overcommit(o->settings, &s->view);
  const struct blx_resources *extra = &o->nodes[node].extra;
  use(s, extra->cpu_milli ? extra->cpu_milli : extra->vcpus * 1000, extra->memory_mib, extra->named, extra->n_named);
  for
    EACH(i, o->instances) {
      const struct blx__fleet_instance *e = &o->instances[i].told;
      if (e->uid == 0 || e->node_uid != n->uid || e->uid == r->instance_uid) continue;
      const struct blx_vm_spec *spec = &vm_of(o, e->vm_uid)->spec;
      use(s, blx__placement_cpu_milli(spec), spec->memory_mib, spec->resources, spec->n_resources);
    }
}

/* ---- what of other instances counts */

static const char *domain(const struct oracle *o, size_t node, const char *level) {
  struct blx__placement_node view = blx__placement_node_of(&o->nodes[node].info);
  return blx__placement_domain(&view, level);
}

static bool matches(const struct oracle_vm *asks, const struct blx_vm_affinity *rule, const struct oracle_vm *other) {
  if (!blx__str_eq(asks->tenant, other->tenant)) return false;
  if (rule->n_selector == 0) return asks == other;
  return blx__placement_selects(rule->selector, rule->n_selector, other->spec.labels, other->spec.n_labels);
}

static bool in_domain(const struct oracle *o, const struct blx__fleet_instance *e, size_t node, const char *level) {
  return blx__str_eq(domain(o, node_of(o, e->node_uid), level), domain(o, node, level));
}

static void look_around(const struct oracle *o, const struct blx__fleet_request *r, size_t node,
                        struct blx__placement_around *a) {
  const struct oracle_vm *vm = vm_of(o, r->vm_uid);
  memset(a, 0, sizeof *a);
  for (size_t k = 0; k < vm->spec.n_affinity; k++) a->itself[k] = matches(vm, vm->spec.affinity[k], vm);
  for
    EACH(i, o->instances) {
      const struct blx__fleet_instance *e = &o->instances[i].told;
      if (e->uid == 0 || e->uid == r->instance_uid) continue;
      const struct oracle_vm *other = vm_of(o, e->vm_uid);
      for (size_t k = 0; k < vm->spec.n_affinity; k++) {
        if (!matches(vm, vm->spec.affinity[k], other)) continue;
        a->anywhere[k]++;
        a->near[k] += in_domain(o, e, node, vm->spec.affinity[k]->level);
      }
      for (size_t k = 0; k < vm->spec.n_spread; k++)
        a->replicas[k] += other == vm && in_domain(o, e, node, vm->spec.spread[k]->level);
      for (size_t k = 0; k < other->spec.n_affinity; k++) {
        const struct blx_vm_affinity *rule = other->spec.affinity[k];
        if (rule->apart && rule->weight == 0 && matches(other, rule, vm) && in_domain(o, e, node, rule->level))
          a->unwanted_by = other->spec.name;
      }
      if (!blx__str_eq(other->tenant, vm->tenant) || e->node_uid != o->nodes[node].info.uid) continue;
      a->tenant_instances++;
      a->tenant_vcpus += other->spec.vcpus;
      a->tenant_memory_mib += other->spec.memory_mib;
    }
}

/* With the instance on @node, are there places for the ha=auto instances of any lost nodes? */
static uint64_t short_places(const struct oracle *o, const struct blx__fleet_request *r, size_t node) {
  const struct oracle_vm *vm = vm_of(o, r->vm_uid);
  struct blx__survive_node all[ORACLE_NODES];
  struct blx__survive_shape shape = {0};
  uint64_t scratch[ORACLE_NODES], missing = 0, level = 0;
  size_t n = 0;
  for
    EACH(i, o->nodes) {
      struct seen s;
      if (o->nodes[i].info.uid == 0) continue;
      see(o, r, i, &s);
      if (i == node) use(&s, blx__placement_cpu_milli(&vm->spec), vm->spec.memory_mib, NULL, 0);
      bool usable = blx__survive_usable(&s.view);
      struct blx__survive_node *v = &all[n];
      *v = (struct blx__survive_node){.domain = (uint32_t)n};
      if (usable && s.view.cpu_milli > s.view.allocated_cpu_milli)
        v->free_cpu_milli = s.view.cpu_milli - s.view.allocated_cpu_milli;
      if (usable && s.view.memory_mib > s.view.allocated_memory_mib)
        v->free_memory_mib = s.view.memory_mib - s.view.allocated_memory_mib;
      for (size_t k = 0, at = 0; k < i; k++) {
        if (o->nodes[k].info.uid == 0) continue;
        if (blx__str_eq(domain(o, i, o->settings->survive_level), domain(o, k, o->settings->survive_level)))
          v->domain = all[at].domain;
        at++;
      }
    for
      EACH(k, o->instances) {
        const struct blx__fleet_instance *e = &o->instances[k].told;
        if (e->uid == 0 || e->uid == r->instance_uid || e->node_uid != o->nodes[i].info.uid) continue;
        const struct blx_vm_spec *spec = &vm_of(o, e->vm_uid)->spec;
        if (spec->ha != BLX_HA_POLICY_AUTO) continue;
        v->ha_instances++;
        if (blx__placement_cpu_milli(spec) > shape.cpu_milli) shape.cpu_milli = blx__placement_cpu_milli(spec);
        if (spec->memory_mib > shape.memory_mib) shape.memory_mib = spec->memory_mib;
      }
    if (i == node && vm->spec.ha == BLX_HA_POLICY_AUTO) {
      v->ha_instances++;
      if (blx__placement_cpu_milli(&vm->spec) > shape.cpu_milli) shape.cpu_milli = blx__placement_cpu_milli(&vm->spec);
      if (vm->spec.memory_mib > shape.memory_mib) shape.memory_mib = vm->spec.memory_mib;
    }
    n++;
    }
  missing = blx__survive_nodes_missing(all, n, shape, o->settings->survive_nodes);
  if (o->settings->survive_level && o->settings->survive_level[0])
    level = blx__survive_domain_missing(all, n, shape, scratch);
  return missing > level ? missing : level;
}

/* ---- what a node costs */

static struct blx__fit_node vector(const struct seen *s) {
  const struct blx__placement_node *v = &s->view;
  struct blx__fit_node n = {.cpu_milli = v->cpu_milli, .memory_mib = v->memory_mib};
  if (v->cpu_milli > v->allocated_cpu_milli) n.free_cpu_milli = v->cpu_milli - v->allocated_cpu_milli;
  if (v->memory_mib > v->allocated_memory_mib) n.free_memory_mib = v->memory_mib - v->allocated_memory_mib;
  return n;
}

void oracle_refresh(const struct oracle *o, struct blx__fit *fit) {
  const struct blx__fleet_request nobody = {.vm_uid = 0};
  struct blx__fit_node nodes[ORACLE_NODES];
  size_t n = 0;
  for
    EACH(i, o->nodes) {
      struct seen s;
      if (o->nodes[i].info.uid == 0) continue;
      see(o, &nobody, i, &s);
      nodes[n++] = vector(&s);
    }
  (void)blx__fit_refresh(fit, nodes, n);
}

static uint64_t full(const struct seen *s, const struct blx_vm_spec *spec) {
  uint64_t cpus = s->view.cpu_milli
                      ? (s->view.allocated_cpu_milli + blx__placement_cpu_milli(spec)) * 10000 / s->view.cpu_milli
                      : 0;
  uint64_t memory =
      s->view.memory_mib ? (s->view.allocated_memory_mib + spec->memory_mib) * 10000 / s->view.memory_mib : 0;
  return cpus + memory < 20000 ? (cpus + memory) * 50 : 1000000;
}

static uint64_t balance(const struct oracle *o, size_t node, const struct seen *s, const struct blx_vm_spec *spec) {
  const struct blx__fleet_soft *soft = &o->nodes[node].soft;
  const struct blx_resources *has = o->nodes[node].info.capacity;
  if (!soft->has_load) return full(s, spec);
  uint64_t memory = has->memory_mib ? soft->load_memory_mib * 1000000 / has->memory_mib : 0;
  return (full(s, spec) + (soft->load_cpu_permille * 1000 + (memory < 1000000 ? memory : 1000000)) / 2) / 2;
}

static uint64_t bytes_to_move(const struct oracle *o, size_t node, const struct blx_vm_spec *spec) {
  const struct blx__fleet_soft *soft = &o->nodes[node].soft;
  uint64_t all = 0, there = 0;
  for (size_t i = 0; i < spec->n_data; i++) {
    all += spec->data[i]->bytes;
    for (size_t k = 0; k < soft->n_stored; k++)
      if (blx__str_eq(soft->stored[k]->key, spec->data[i]->key)) there += spec->data[i]->bytes;
  }
  return all ? (all - there) * 1000000 / all : 0;
}

static uint64_t between(const struct oracle *o, size_t a, size_t b) {
  const char *zone_a = domain(o, a, "zone"), *zone_b = domain(o, b, "zone");
  bool zone = blx__str_eq(zone_a, zone_b);
  if (blx__str_eq(domain(o, a, "host"), domain(o, b, "host"))) return 0;
  if (domain(o, a, "rack")[0] && zone && blx__str_eq(domain(o, a, "rack"), domain(o, b, "rack"))) return 100000;
  if (zone_a[0] && zone) return 250000;
  for (size_t i = 0; o->settings && i < o->settings->n_distances; i++) {
    const struct blx_distance *d = o->settings->distances[i];
    bool listed = (blx__str_eq(d->a, zone_a) && blx__str_eq(d->b, zone_b)) ||
                  (blx__str_eq(d->a, zone_b) && blx__str_eq(d->b, zone_a));
    if (listed) return d->us < 750000 ? 250000 + d->us : 1000000;
  }
  return 1000000;
}

static bool is_near(const struct oracle *o, const struct oracle_vm *vm, const struct blx_near *near, size_t node) {
  struct blx__placement_node view = blx__placement_node_of(&o->nodes[node].info);
  if (near->node) return blx__str_eq(near->node, view.name);
  if (near->domain) return blx__str_eq(blx__placement_label(&view, near->domain->key), near->domain->value);
  return vm && blx__str_eq(vm->spec.name, near->vm);
}

static uint64_t proximity(const struct oracle *o, const struct blx__fleet_request *r, size_t node) {
  const struct oracle_vm *vm = vm_of(o, r->vm_uid);
  uint64_t sum = 0;
  for (size_t i = 0; i < vm->spec.n_near; i++) {
    uint64_t nearest = UINT64_MAX;
    for
      EACH(k, o->nodes) {
        bool there = o->nodes[k].info.uid && !vm->spec.near[i]->vm && is_near(o, NULL, vm->spec.near[i], k);
      for
        EACH(e, o->instances) {
          const struct blx__fleet_instance *t = &o->instances[e].told;
          if (t->uid == 0 || t->uid == r->instance_uid || t->node_uid != o->nodes[k].info.uid || !vm->spec.near[i]->vm)
            continue;
          const struct oracle_vm *other = vm_of(o, t->vm_uid);
          there |= blx__str_eq(other->tenant, vm->tenant) && is_near(o, other, vm->spec.near[i], k);
        }
      if (there && between(o, node, k) < nearest) nearest = between(o, node, k);
      }
    sum += nearest == UINT64_MAX ? 0 : nearest;
  }
  return vm->spec.n_near ? sum / vm->spec.n_near : 0;
}

static uint64_t strategy(const struct oracle *o, const struct blx__fleet_request *r, size_t node, const struct seen *s,
                         int32_t number) {
  const struct blx_vm_spec *spec = &vm_of(o, r->vm_uid)->spec;
  uint64_t sum = 0, weights = 0;
  if (number == BLX_STRATEGY_BEST_FIT && blx__fit_ready(o->fit)) {
    struct blx__fit_node n = vector(s);
    return blx__fit_cost(o->fit, &n, blx__placement_cpu_milli(spec), spec->memory_mib);
  }
  if (number == BLX_STRATEGY_BEST_FIT) return 1000000 - full(s, spec);
  if (number == BLX_STRATEGY_LOAD_BALANCED) return balance(o, node, s, spec);
  if (number == BLX_STRATEGY_DATA_LOCALITY) return bytes_to_move(o, node, spec);
  if (number == BLX_STRATEGY_NETWORK_PROXIMITY) return proximity(o, r, node);
  if (number != BLX_STRATEGY_COMBINED) {
    struct blx__placement_need need = blx__placement_need_of(spec, NULL);
    uint64_t cost = o->own(NULL, &s->view, &need);
    return cost < 1000000 ? cost : 1000000;
  }
  for (size_t i = 0; i < spec->n_strategies; i++) {
    sum += spec->strategies[i]->weight * strategy(o, r, node, s, spec->strategies[i]->strategy);
    weights += spec->strategies[i]->weight;
  }
  return sum / weights;
}

/* Per spread rule: replicas in the domain that has the fewest. */
struct emptiest {
  uint32_t replicas[BLX__PLACEMENT_SPREAD_MAX];
};

static struct emptiest emptiest(const struct oracle *o, const struct blx__fleet_request *r) {
  struct emptiest least;
  memset(&least, 0xff, sizeof least);
  for
    EACH(i, o->nodes) {
      struct blx__placement_around a;
      if (o->nodes[i].info.uid == 0 || vm_of(o, r->vm_uid)->spec.n_spread == 0) continue;
      look_around(o, r, i, &a);
    for
      EACH(k, least.replicas)
    if (a.replicas[k] < least.replicas[k]) least.replicas[k] = a.replicas[k];
    }
  return least;
}

static uint64_t cost_of(const struct oracle *o, const struct blx__fleet_request *r, size_t node, const struct seen *s,
                        const struct blx__placement_around *a, const struct emptiest *least) {
  const struct blx_vm_spec *spec = &vm_of(o, r->vm_uid)->spec;
  uint64_t cost = strategy(o, r, node, s, spec->strategy);
  for (size_t i = 0; i < spec->n_preferences; i++)
    if (!blx__placement_matches(&s->view, spec->preferences[i])) cost += spec->preferences[i]->weight * 10000;
  for (size_t i = 0; i < spec->n_affinity; i++)
    if ((a->near[i] > 0) == (spec->affinity[i]->apart != 0)) cost += spec->affinity[i]->weight * 10000;
  for (size_t i = 0; i < spec->n_spread; i++) {
    uint32_t most = spec->spread[i]->max_skew ? least->replicas[i] + spec->spread[i]->max_skew : UINT32_MAX;
    if (a->replicas[i] + 1 > most) cost += (a->replicas[i] + 1 - most) * (uint64_t)spec->spread[i]->weight * 10000;
  }
  return cost;
}

/* ---- verdict and choice */

static bool listed(const uint64_t *uids, size_t n, uint64_t uid) {
  size_t at = 0;
  while (at < n && uids[at] != uid) at++;
  return at < n;
}

static struct oracle_verdict judge(const struct oracle *o, const struct blx__fleet_request *r, size_t node,
                                   const struct emptiest *least) {
  const struct oracle_vm *vm = vm_of(o, r->vm_uid);
  struct blx__placement_need need = blx__placement_need_of(&vm->spec, vm->quota);
  struct blx__placement_around a;
  struct blx__placement_verdict v;
  struct oracle_verdict out = {0};
  struct seen s;
  uint64_t uid = o->nodes[node].info.uid;
  see(o, r, node, &s);
  look_around(o, r, node, &a);
  if (r->keep_survive && o->settings) a.short_places = short_places(o, r, node);
  (void)blx__placement_feasible(&s.view, &need, &a, &v);
  out.obstacles = v.obstacles;
  if (!o->nodes[node].soft.usable || listed(r->reserved, r->n_reserved, uid))
    out.obstacles |= 1u << BLX_OBSTACLE_CODE_SILENT;
  if (listed(r->barred, r->n_barred, uid)) out.obstacles |= 1u << BLX_OBSTACLE_CODE_BARRED;
  out.avoids = blx__placement_taint(&s.view, &need, BLX_TAINT_EFFECT_AVOID) != NULL;
  for
    EACH(i, o->instances) {
      const struct blx__fleet_instance *e = &o->instances[i].told;
      out.replicas += e->uid != 0 && e->uid != r->instance_uid && e->vm_uid == r->vm_uid && e->node_uid == uid;
    }
  out.cost = cost_of(o, r, node, &s, &a, least);
  return out;
}

struct oracle_verdict oracle_judge(const struct oracle *o, const struct blx__fleet_request *r, size_t node) {
  struct emptiest least = emptiest(o, r);
  return judge(o, r, node, &least);
}

uint64_t oracle_choose(const struct oracle *o, const struct blx__fleet_request *r, uint64_t *cost) {
  uint64_t best[7] = {0}, chosen = 0;
  struct emptiest least = emptiest(o, r);
  for
    EACH(i, o->nodes) {
      uint64_t uid = o->nodes[i].info.uid;
      if (uid == 0) continue;
      struct oracle_verdict v = judge(o, r, i, &least);
      uint64_t rank[7] = {r->avoid_uid && r->avoid_uid == uid,
                          !(r->sticky_uid && r->sticky_uid == uid),
                          v.avoids,
                          v.replicas,
                          v.cost,
                          blx__mix64(o->seed ^ blx__mix64(uid)),
                          uid};
      size_t at = 0;
      while (at < 6 && rank[at] == best[at]) at++;
      if (v.obstacles || (chosen && rank[at] > best[at])) continue;
      memcpy(best, rank, sizeof best);
      chosen = uid;
      *cost = v.cost;
    }
  return chosen;
}
