/* What of other instances counts where one is placed: counted here as instances come and go, by rule and domain, so
 * that the check in apply costs as much as the instance has rules. The placement engine counts the same for itself
 * (lib/placement/level.c); that both always agree is what tests/unit/state/test_around.c is for.
 *
 * A rule is a selector and a level, said by VMs of one tenant, and known while one of them is there. Only hard ones
 * are: nothing else decides in apply. A VM knows the rules that select it. */
#include "state/state_int.h"
#include "placement/survive.h"

#include <stdlib.h>
#include <string.h>

enum { RULE_KEY_MAX = STATE_TENANT_MAX + 1 + BLX__SHA256_BYTES, SAID_BYTES_MAX = 64 << 10 };

struct state_rule {
  struct blx_vm_affinity *said; /* selector and level */
  uint8_t key[RULE_KEY_MAX];
  size_t key_len;
  uint32_t refs;
  struct blx__map match, apart; /* domain -> instances there that it selects; that say it, and want none such near */
  uint32_t matches, all_apart;
};

/* ---- counters in maps */

static uint32_t counted(const struct blx__map *m, const char *domain) {
  return (uint32_t)(uintptr_t)blx__map_get(m, domain, strlen(domain) + 1);
}

static void bump(struct blx__map *m, const void *key, size_t len, bool in) {
  uintptr_t n = (uintptr_t)blx__map_get(m, key, len);
  BLX__ASSERT(in || n > 0);
  n = in ? n + 1 : n - 1;
  if (n > 0)
    STATE_MUST(blx__map_set(m, key, len, (void *)n, NULL));
  else
    blx__map_remove(m, key, len);
}

static const char *domain_of(const struct state_node *n, const char *level) {
  const struct blx__placement_node view = blx__placement_node_of(n->rec);
  return blx__placement_domain(&view, level);
}

static void count_rule(struct state_rule *r, const struct state_node *n, bool apart, bool in) {
  const char *domain = domain_of(n, r->said->level);
  uint32_t *all = apart ? &r->all_apart : &r->matches;
  bump(apart ? &r->apart : &r->match, domain, strlen(domain) + 1, in);
  *all = in ? *all + 1 : *all - 1;
}

/* ---- rules */

static bool is_hard(const struct blx_vm_affinity *a) {
  return a->weight == 0;
}

static bool selects(const struct state_rule *r, const struct blx_vm_spec *spec) {
  return blx__placement_selects(r->said->selector, r->said->n_selector, spec->labels, spec->n_labels);
}

static size_t tenant_prefix(uint8_t key[RULE_KEY_MAX], const char *tenant) {
  const char *t = blx__state_tenant(tenant);
  size_t n = strnlen(t, STATE_TENANT_MAX);
  memcpy(key, t, n);
  key[n] = 0;
  return n + 1;
}

static struct blx_vm_affinity bare_of(const struct blx_vm_affinity *said) {
  struct blx_vm_affinity bare = BLX_VM_AFFINITY_INIT;
  bare.selector = said->selector;
  bare.n_selector = said->n_selector;
  bare.level = said->level && said->level[0] ? said->level : "host";
  return bare;
}

static size_t rule_key(uint8_t key[RULE_KEY_MAX], const char *tenant, const struct blx_vm_affinity *bare) {
  size_t n = tenant_prefix(key, tenant);
  struct blx__buf bytes;
  blx__buf_init(&bytes, SAID_BYTES_MAX);
  STATE_MUST(blx__msg_encode(blx__desc_vm_affinity(), bare, &bytes, NULL).code == 0);
  struct blx__slice part = {bytes.data, bytes.len};
  blx__sha256(&part, 1, key + n);
  blx__buf_free(&bytes);
  return n + BLX__SHA256_BYTES;
}

/* The tenant's rule after @r; NULL: its first. NULL: no more. */
static struct state_rule *next_rule(const struct blx__state *st, const char *tenant, const struct state_rule *r) {
  uint8_t prefix[RULE_KEY_MAX];
  size_t n = tenant_prefix(prefix, tenant);
  struct state_rule *next = blx__state_after(&st->data.rules, r ? r->key : prefix, r ? r->key_len : n);
  return next && next->key_len > n && memcmp(next->key, prefix, n) == 0 ? next : NULL;
}

static void add_matched(struct state_vm *vm, struct state_rule *r) {
  if (vm->n_matched == vm->matched_room) {
    vm->matched_room = vm->matched_room ? 2 * vm->matched_room : 4;
    vm->matched = reallocarray(vm->matched, vm->matched_room, sizeof(struct state_rule *));
    STATE_MUST(vm->matched != NULL);
  }
  vm->matched[vm->n_matched++] = r;
}

static void drop_matched(struct state_vm *vm, const struct state_rule *r) {
  size_t kept = 0;
  for (size_t i = 0; i < vm->n_matched; i++)
    if (vm->matched[i] != r) vm->matched[kept++] = vm->matched[i];
  vm->n_matched = kept;
}

static struct state_vm *vm_after(const struct blx__state *st, const char *tenant, const struct state_vm *vm) {
  const struct blx_vm *next = blx__state_vm_after(st, tenant, vm ? vm->rec->spec->name : NULL);
  return next ? blx__state_vm_get(st, next->uid) : NULL;
}

static bool is_there(const struct state_instance *e) {
  return e->rec->node_uid != 0 && !e->rec->dead && !e->aside;
}

/* A new rule counts what is there already. */
static void meet(struct blx__state *st, const char *tenant, struct state_rule *r) {
  for (struct state_vm *vm = NULL; (vm = vm_after(st, tenant, vm)) != NULL;) {
    if (!selects(r, vm->rec->spec)) continue;
    add_matched(vm, r);
    BLX__MAP_FOREACH(pos, &vm->instances) {
      const struct state_instance *i = blx__map_value(pos);
      if (is_there(i)) count_rule(r, blx__state_node_get(st, i->rec->node_uid), false, true);
    }
  }
  BLX__MAP_FOREACH(pos, &st->data.tombstones) {
    const struct blx_tombstone *t = blx__map_value(pos);
    bool its = !t->dead && blx__str_eq(blx__state_tenant(t->tenant), blx__state_tenant(tenant));
    if (its && selects(r, t->spec)) count_rule(r, blx__state_node_get(st, t->node_uid), false, true);
  }
}

static struct state_rule *rule_get(const struct blx__state *st, const char *tenant, const struct blx_vm_affinity *a) {
  uint8_t key[RULE_KEY_MAX];
  struct blx_vm_affinity bare = bare_of(a);
  return blx__map_get(&st->data.rules, key, rule_key(key, tenant, &bare));
}

static struct state_rule *rule_ref(struct blx__state *st, const char *tenant, const struct blx_vm_affinity *a) {
  struct state_rule *r = rule_get(st, tenant, a);
  if (!r) {
    struct blx_vm_affinity bare = bare_of(a);
    void *said = NULL;
    r = calloc(1, sizeof *r);
    STATE_MUST(r != NULL && blx__msg_own(blx__desc_vm_affinity(), &bare, &said, NULL).code == 0);
    r->said = said;
    r->key_len = rule_key(r->key, tenant, &bare);
    STATE_MUST(blx__map_set(&st->data.rules, r->key, r->key_len, r, NULL));
    meet(st, tenant, r);
  }
  r->refs++;
  return r;
}

static void rule_free(struct state_rule *r) {
  blx__map_clear(&r->match);
  blx__map_clear(&r->apart);
  blx__msg_free_owned(r->said);
  free(r);
}

static void rule_unref(struct blx__state *st, const char *tenant, struct state_rule *r) {
  BLX__ASSERT(r->refs > 0);
  if (--r->refs > 0) return;
  for (struct state_vm *vm = NULL; (vm = vm_after(st, tenant, vm)) != NULL;)
    if (selects(r, vm->rec->spec)) drop_matched(vm, r);
  const void *was = blx__map_remove(&st->data.rules, r->key, r->key_len);
  BLX__ASSERT(was == r);
  rule_free(r);
}

void blx__state_rules_free(struct state_data *d) {
  BLX__MAP_FOREACH(pos, &d->rules) rule_free(blx__map_value(pos));
  blx__map_clear(&d->rules);
  blx__map_clear(&d->levels);
  blx__map_clear(&d->auto_cpu);
  blx__map_clear(&d->auto_memory);
}

/* ---- VMs, instances, tombstones, nodes */

static size_t affinities(const struct blx_vm_spec *spec) {
  return spec->n_affinity < BLX__PLACEMENT_AFFINITY_MAX ? spec->n_affinity : BLX__PLACEMENT_AFFINITY_MAX;
}

/* ---- levels, of preferred rules too: the engine keeps the domains of each, and has room for so many */

/* The rule @at of a spec, affinity first; NULL: no more. */
static const char *level_of(const struct blx_vm_spec *spec, size_t at) {
  size_t n = affinities(spec);
  if (at >= n + spec->n_spread) return NULL;
  const char *level = at < n ? spec->affinity[at]->level : spec->spread[at - n]->level;
  return level && level[0] ? level : "host";
}

static void count_levels(struct blx__state *st, const struct blx_vm_spec *spec, bool in) {
  const char *level;
  for (size_t at = 0; (level = level_of(spec, at)) != NULL; at++) bump(&st->data.levels, level, strlen(level) + 1, in);
}

static bool named_before(const struct blx_vm_spec *spec, size_t at) {
  for (size_t i = 0; i < at; i++)
    if (blx__str_eq(level_of(spec, i), level_of(spec, at))) return true;
  return false;
}

blx__rc blx__state_levels_allow(const struct blx__state *st, const struct blx_vm_spec *spec, blx_error *err) {
  const char *level, *first = NULL;
  size_t has = st->data.levels.count, more = 0;
  for (size_t at = 0; (level = level_of(spec, at)) != NULL; at++) {
    if (counted(&st->data.levels, level) > 0 || named_before(spec, at)) continue;
    if (more++ == 0) first = level;
  }
  if (more == 0 || has + more <= BLX__PLACEMENT_LEVELS_MAX) return BLX__OK;
  return blx__fail(err, BLX_E_QUOTA, "state",
                   "the affinity and spread of the cluster's VMs name %zu levels, %d is the most, and %s needs %zu "
                   "more (%.64s): name one that another VM names, or delete the VMs that name one of them",
                   has, BLX__PLACEMENT_LEVELS_MAX, spec->name, more, first);
}

void blx__state_around_vm(struct blx__state *st, struct state_vm *vm, bool in) {
  const struct blx_vm_spec *spec = vm->rec->spec;
  const char *tenant = vm->rec->tenant;
  count_levels(st, spec, in);
  if (!in) {
    for (size_t i = 0; i < BLX__PLACEMENT_AFFINITY_MAX; i++)
      if (vm->rule[i]) rule_unref(st, tenant, vm->rule[i]);
    free(vm->matched);
    return;
  }
  for (struct state_rule *r = NULL; (r = next_rule(st, tenant, r)) != NULL;)
    if (selects(r, spec)) add_matched(vm, r);
  for (size_t i = 0; i < affinities(spec); i++)
    if (is_hard(spec->affinity[i]) && spec->affinity[i]->n_selector > 0)
      vm->rule[i] = rule_ref(st, tenant, spec->affinity[i]);
}

/* It was said by an earlier one of the same list. */
static bool said_before(struct state_rule *const *rules, size_t at) {
  for (size_t i = 0; i < at; i++)
    if (rules[i] == rules[at]) return true;
  return false;
}

static void count_apart(struct state_rule *const *rules, const struct blx_vm_spec *spec, const struct state_node *n,
                        bool in) {
  struct state_rule *apart[BLX__PLACEMENT_AFFINITY_MAX];
  size_t count = 0;
  for (size_t i = 0; i < affinities(spec); i++) {
    if (!rules[i] || !spec->affinity[i]->apart) continue;
    apart[count] = rules[i];
    if (!said_before(apart, count)) count_rule(apart[count++], n, true, in);
  }
}

static void count_auto(struct blx__state *st, struct state_node *n, const struct blx_vm_spec *spec, bool in) {
  uint8_t cpu[16], memory[16];
  n->autos = in ? n->autos + 1 : n->autos - 1;
  bump(&st->data.auto_cpu, cpu, blx__state_pair_key(cpu, ~blx__placement_cpu_milli(spec), 0), in);
  bump(&st->data.auto_memory, memory, blx__state_pair_key(memory, ~(uint64_t)spec->memory_mib, 0), in);
}

static void count_rules(struct state_instance *e, const struct state_node *n, bool in) {
  for (size_t i = 0; i < e->vm->n_matched; i++) count_rule(e->vm->matched[i], n, false, in);
  count_apart(e->vm->rule, e->vm->rec->spec, n, in);
}

void blx__state_around_instance(struct blx__state *st, struct state_instance *e, struct state_node *n, bool in) {
  const struct blx_vm_spec *spec = e->vm->rec->spec;
  BLX__ASSERT(is_there(e) && (in || e->vm->placed > 0));
  e->vm->placed = in ? e->vm->placed + 1 : e->vm->placed - 1;
  if (spec->ha == BLX_HA_POLICY_AUTO) count_auto(st, n, spec, in);
  count_rules(e, n, in);
}

static void count_buried(struct blx__state *st, const struct blx_tombstone *t, const struct state_node *n, bool in) {
  struct state_rule *rules[BLX__PLACEMENT_AFFINITY_MAX] = {0};
  for (struct state_rule *r = NULL; (r = next_rule(st, t->tenant, r)) != NULL;)
    if (selects(r, t->spec)) count_rule(r, n, false, in);
  for (size_t i = 0; i < affinities(t->spec); i++)
    if (is_hard(t->spec->affinity[i]) && t->spec->affinity[i]->n_selector > 0)
      rules[i] = rule_get(st, t->tenant, t->spec->affinity[i]);
  count_apart(rules, t->spec, n, in);
}

void blx__state_around_tombstone(struct blx__state *st, const struct blx_tombstone *t, const struct state_node *n,
                                 bool in) {
  BLX__ASSERT(!t->dead && !blx__map_get_u64(&st->data.tombstones, t->instance_uid));
  count_levels(st, t->spec, in);
  if (!in) count_buried(st, t, n, false);
  for (size_t i = 0; i < affinities(t->spec); i++) {
    const struct blx_vm_affinity *a = t->spec->affinity[i];
    if (!is_hard(a) || a->n_selector == 0) continue;
    if (in)
      (void)rule_ref(st, t->tenant, a);
    else
      rule_unref(st, t->tenant, rule_get(st, t->tenant, a));
  }
  if (in) count_buried(st, t, n, true);
}

void blx__state_around_buried(struct blx__state *st, const struct state_node *n, bool in) {
  BLX__MAP_FOREACH(pos, &n->tombstones) {
    const struct blx_tombstone *t = blx__map_value(pos);
    if (!t->dead) count_buried(st, t, n, in);
  }
}

void blx__state_around_node(struct blx__state *st, const struct state_node *n, bool in) {
  if (st->data.rules.count == 0) return;
  BLX__MAP_FOREACH(pos, &n->instances) {
    struct state_instance *e = blx__map_value(pos);
    if (is_there(e)) count_rules(e, n, in);
  }
  blx__state_around_buried(st, n, in);
}

/* ---- the question */

static void count_self(const struct blx__state *st, const struct state_vm *vm, const struct state_node *n,
                       struct blx__placement_around *out) {
  const struct blx_vm_spec *spec = vm->rec->spec;
  const struct blx__placement_node here = blx__placement_node_of(n->rec);
  BLX__MAP_FOREACH(pos, &vm->instances) {
    const struct state_instance *i = blx__map_value(pos);
    if (!is_there(i)) continue;
    const struct blx__placement_node there = blx__placement_node_of(blx__state_node_get(st, i->rec->node_uid)->rec);
    for (size_t k = 0; k < spec->n_affinity; k++) {
      const char *level = spec->affinity[k]->level;
      if (!is_hard(spec->affinity[k]) || spec->affinity[k]->n_selector > 0) continue;
      out->near[k] += blx__str_eq(blx__placement_domain(&here, level), blx__placement_domain(&there, level));
    }
    for (size_t k = 0; k < spec->n_spread; k++) {
      const char *level = spec->spread[k]->level;
      out->replicas[k] += blx__str_eq(blx__placement_domain(&here, level), blx__placement_domain(&there, level));
    }
  }
}

static bool asks_of_itself(const struct blx_vm_spec *spec) {
  for (size_t k = 0; k < spec->n_affinity; k++)
    if (is_hard(spec->affinity[k]) && spec->affinity[k]->n_selector == 0) return true;
  return spec->n_spread > 0;
}

static void count_near(const struct state_vm *vm, const struct state_node *n, struct blx__placement_around *out) {
  const struct blx_vm_spec *spec = vm->rec->spec;
  for (size_t k = 0; k < spec->n_affinity; k++) {
    const struct blx_vm_affinity *a = spec->affinity[k];
    const struct state_rule *r = vm->rule[k];
    out->itself[k] =
        a->n_selector == 0 || blx__placement_selects(a->selector, a->n_selector, spec->labels, spec->n_labels);
    out->anywhere[k] = r ? r->matches : vm->placed;
    if (r) out->near[k] = counted(&r->match, domain_of(n, r->said->level));
  }
}

/* Of the VMs that want none such near, the first that has an instance in the domain. */
static const char *who_says(const struct blx__state *st, const struct state_vm *vm, const struct state_rule *r,
                            const char *domain) {
  for (struct state_vm *by = NULL; (by = vm_after(st, vm->rec->tenant, by)) != NULL;) {
    bool says = false;
    for (size_t k = 0; k < affinities(by->rec->spec); k++)
      says = says || (by->rule[k] == r && by->rec->spec->affinity[k]->apart);
    if (!says) continue;
    BLX__MAP_FOREACH(pos, &by->instances) {
      const struct state_instance *i = blx__map_value(pos);
      if (is_there(i) && blx__str_eq(domain_of(blx__state_node_get(st, i->rec->node_uid), r->said->level), domain))
        return by->rec->spec->name;
    }
  }
  return "a VM that was deleted by force";
}

static void find_unwanted(const struct blx__state *st, const struct state_vm *vm, const struct state_node *n,
                          struct blx__placement_around *out) {
  for (size_t i = 0; i < vm->n_matched && !out->unwanted_by; i++) {
    const struct state_rule *r = vm->matched[i];
    if (r->all_apart == 0) continue;
    const char *domain = domain_of(n, r->said->level);
    if (counted(&r->apart, domain) > 0) out->unwanted_by = who_says(st, vm, r, domain);
  }
}

static void count_tenant(const struct state_vm *vm, const struct state_node *n, struct blx__placement_around *out) {
  BLX__MAP_FOREACH(pos, &n->instances) {
    const struct state_instance *e = blx__map_value(pos);
    if (!is_there(e) || !blx__str_eq(e->vm->rec->tenant, vm->rec->tenant)) continue;
    out->tenant_instances++;
    out->tenant_vcpus += e->vm->rec->spec->vcpus;
    out->tenant_memory_mib += e->vm->rec->spec->memory_mib;
  }
  BLX__MAP_FOREACH(pos, &n->tombstones) {
    const struct blx_tombstone *t = blx__map_value(pos);
    if (t->dead || n->buried_aside || !blx__str_eq(blx__state_tenant(t->tenant), vm->rec->tenant)) continue;
    out->tenant_instances++;
    out->tenant_vcpus += t->spec->vcpus;
    out->tenant_memory_mib += t->spec->memory_mib;
  }
}

/* ---- survival of nodes' loss */

static uint64_t largest(const struct blx__map *m) {
  struct blx__map_pos first = blx__map_seek(m, NULL, 0);
  if (!first.node) return 0;
  size_t n = 0;
  const uint8_t *key = blx__map_key(first, &n);
  uint64_t inverse = 0;
  for (unsigned i = 0; i < 8; i++) inverse = inverse << 8 | key[i];
  return ~inverse;
}

static uint64_t less(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

/* Equal values of the label: equal numbers. */
static uint32_t number_of(struct blx__map *domains, const char *domain) {
  size_t len = strlen(domain) + 1;
  uintptr_t known = (uintptr_t)blx__map_get(domains, domain, len);
  if (known) return (uint32_t)known - 1;
  STATE_MUST(blx__map_set(domains, domain, len, (void *)(uintptr_t)(domains->count + 1), NULL));
  return (uint32_t)domains->count - 1;
}

static uint64_t short_places(struct blx__state *st, const struct state_vm *vm, const struct state_node *there) {
  const struct blx_placement_settings *s = blx__state_settings(st)->placement;
  const struct blx_vm_spec *spec = vm->rec->spec;
  bool by_domain = s && s->survive_level && s->survive_level[0], is_auto = spec->ha == BLX_HA_POLICY_AUTO;
  if (!s || (s->survive_nodes == 0 && !by_domain)) return 0;
  size_t count = st->data.nodes.count, at = 0;
  struct blx__survive_shape shape = {largest(&st->data.auto_cpu), largest(&st->data.auto_memory)};
  uint64_t cpu_milli = blx__placement_cpu_milli(spec);
  if (is_auto && cpu_milli > shape.cpu_milli) shape.cpu_milli = cpu_milli;
  if (is_auto && spec->memory_mib > shape.memory_mib) shape.memory_mib = spec->memory_mib;
  struct blx__survive_node *nodes = calloc(count, sizeof *nodes);
  uint64_t *scratch = calloc(count, sizeof *scratch);
  struct blx__map domains = {0};
  STATE_MUST(nodes && scratch);
  BLX__MAP_FOREACH(pos, &st->data.nodes) {
    const struct state_node *n = blx__map_value(pos);
    struct blx__placement_node view;
    BLX__ASSERT(at < count && blx__state_placement_node(st, n->rec->uid, &view));
    struct blx__survive_node *x = &nodes[at++];
    *x = (struct blx__survive_node){.ha_instances = n->autos + (n == there && is_auto)};
    if (by_domain) x->domain = number_of(&domains, blx__placement_domain(&view, s->survive_level));
    if (!blx__survive_usable(&view)) continue;
    x->free_cpu_milli = less(view.cpu_milli, view.allocated_cpu_milli);
    x->free_memory_mib = less(view.memory_mib, view.allocated_memory_mib);
    if (n != there) continue;
    x->free_cpu_milli = less(x->free_cpu_milli, cpu_milli);
    x->free_memory_mib = less(x->free_memory_mib, spec->memory_mib);
  }
  blx__map_clear(&domains);
  uint32_t k = s->survive_nodes < BLX__SURVIVE_NODES_MAX ? s->survive_nodes : BLX__SURVIVE_NODES_MAX;
  uint64_t of_nodes = blx__survive_nodes_missing(nodes, at, shape, k), of_domain = 0;
  if (by_domain) of_domain = blx__survive_domain_missing(nodes, at, shape, scratch);
  free(nodes);
  free(scratch);
  return of_nodes > of_domain ? of_nodes : of_domain;
}

bool blx__state_judge(struct blx__state *st, const struct state_instance *e, uint64_t node_uid,
                      struct state_judgement *out) {
  const struct state_vm *vm = e->vm;
  const struct state_node *n = blx__state_node_get(st, node_uid);
  const struct state_tenant *tenant = blx__state_tenant_get(st, vm->rec->tenant);
  const struct blx_quota *quota = tenant ? tenant->rec : NULL;
  *out = (struct state_judgement){0};
  BLX__ASSERT(n != NULL && blx__state_placement_node(st, node_uid, &out->node));
  out->need = blx__placement_need_of(vm->rec->spec, quota);
  struct blx__placement_around *a = &out->around;
  count_near(vm, n, a);
  if (asks_of_itself(vm->rec->spec)) count_self(st, vm, n, a);
  find_unwanted(st, vm, n, a);
  if (quota && (quota->has_node_instances || quota->has_node_vcpus || quota->has_node_memory_mib))
    count_tenant(vm, n, a);
  /* What ran before never waits for this. */
  if (e->rec->spec_revision == 0) a->short_places = short_places(st, vm, n);
  return blx__placement_feasible(&out->node, &out->need, a, &out->verdict);
}
