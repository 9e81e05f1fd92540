/* The engine against the specification's plain form, over random fleets that live and change: the same node, the same
 * cost, the same obstacles of every node. A failure prints its seed: BLX_SEED=N, or BLX_SEED_LARGE=N, runs that one
 * alone. */
#include "../harness.h"
#include "support_oracle.h"

#include "base/digest.h"

#include <string.h>

#ifdef __SANITIZE_ADDRESS__
enum { FLEETS = 1000, LARGE = 20, ROUNDS = 20 };
#else
enum { FLEETS = 5000, LARGE = 100, ROUNDS = 20 };
#endif

enum { SMALL = 12 }; /* nodes */

struct world {
  struct oracle o;
  struct blx__fleet *f;
  struct blx__arena arena;
  struct blx__fit *fit; /* the specification's, of the small grid */
  struct blx__fit_shape shapes[ORACLE_VMS];
  size_t n_shapes;
  size_t nodes; /* at most */
  uint64_t seed, drawn, next_node, next_vm, next_instance;
  int32_t own;
};

static uint64_t draw(struct world *w, uint64_t n) {
  return blx__mix64(w->seed * 0x9e3779b97f4a7c15ull + w->drawn++) % n;
}

static bool one_in(struct world *w, uint64_t n) {
  return draw(w, n) == 0;
}

static const char *one_of(struct world *w, const char *const *texts, size_t n) {
  return texts[draw(w, n)];
}
#define ONE_OF(w, ...) \
  one_of((w), (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void *take(struct world *w, size_t n) {
  void *p = blx__arena_alloc(&w->arena, n);
  ck_assert(p != NULL);
  return p;
}

/* A list of up to @most random things of a type: NEW gives one. */
#define LIST(w, type, most, fill)                                      \
  static struct type **list_##type(struct world *w, size_t *n) {       \
    *n = draw(w, 3) ? 0 : draw(w, (most) + 1);                         \
    struct type **all = take(w, ((most) + 1) * sizeof(struct type *)); \
    for (size_t i = 0; i < *n; i++) {                                  \
      all[i] = take(w, sizeof *all[i]);                                \
      all[i]->struct_size = sizeof *all[i];                            \
      fill(w, all[i], i);                                              \
    }                                                                  \
    return all;                                                        \
  }

static void fill_label(struct world *w, struct blx_label *l, size_t i) {
  static const char *const keys[] = {"app", "tier", "team"};
  l->key = keys[i % 3];
  l->value = ONE_OF(w, "a", "b");
}
LIST(w, blx_label, 2, fill_label)

static void fill_match(struct world *w, struct blx_node_match *m, size_t i) {
  (void)i;
  m->op = (int32_t)draw(w, 6);
  bool number = m->op >= BLX_MATCH_OP_GREATER;
  m->key = number ? "size" : ONE_OF(w, "zone", "rack", "disk", "node.name", "size");
  m->weight = (uint32_t)draw(w, 101);
  m->values = take(w, 2 * sizeof(char *));
  m->n_values = number ? 1 : m->op <= BLX_MATCH_OP_NOT_IN ? 1 + draw(w, 2) : 0;
  for (size_t k = 0; k < m->n_values; k++)
    m->values[k] = number ? ONE_OF(w, "1", "2", "3", "-1") : ONE_OF(w, "a", "b", "ssd", "node2", "node3", "2");
}
LIST(w, blx_node_match, 2, fill_match)

static void fill_amount(struct world *w, struct blx_amount *a, size_t i) {
  a->name = i ? "gpu" : "disk/fast";
  a->amount = draw(w, 3);
}
LIST(w, blx_amount, 2, fill_amount)

static void fill_taint(struct world *w, struct blx_taint *t, size_t i) {
  t->key = ONE_OF(w, "spot", "old");
  t->value = ONE_OF(w, "", "x");
  t->effect = (int32_t)draw(w, 2);
  (void)i;
}
LIST(w, blx_taint, 2, fill_taint)

static void fill_toleration(struct world *w, struct blx_toleration *t, size_t i) {
  t->key = ONE_OF(w, "spot", "old", "");
  t->has_value = (uint32_t)draw(w, 2);
  t->value = ONE_OF(w, "", "x");
  (void)i;
}
LIST(w, blx_toleration, 2, fill_toleration)

static void fill_affinity(struct world *w, struct blx_vm_affinity *a, size_t i) {
  (void)i;
  a->selector = list_blx_label(w, &a->n_selector);
  a->level = ONE_OF(w, "host", "rack", "zone");
  a->apart = (uint32_t)draw(w, 2);
  a->weight = one_in(w, 2) ? 0 : (uint32_t)draw(w, 101);
}
LIST(w, blx_vm_affinity, 2, fill_affinity)

static void fill_spread(struct world *w, struct blx_vm_spread *s, size_t i) {
  (void)i;
  s->level = ONE_OF(w, "host", "rack", "zone");
  s->max_per_domain = (uint32_t)draw(w, 4);
  s->max_skew = (uint32_t)draw(w, 3) + (s->max_per_domain == 0);
  s->weight = (uint32_t)draw(w, 101);
}
LIST(w, blx_vm_spread, 2, fill_spread)

static void fill_near(struct world *w, struct blx_near *n, size_t i) {
  (void)i;
  switch (draw(w, 3)) {
  case 0: n->vm = ONE_OF(w, "vm1", "vm2", "vm3", "gone"); return;
  case 1: n->node = ONE_OF(w, "node1", "node2", "node9", "gone"); return;
  default: break;
  }
  n->domain = take(w, sizeof *n->domain);
  n->domain->struct_size = sizeof *n->domain;
  n->domain->key = ONE_OF(w, "zone", "rack", "disk");
  n->domain->value = ONE_OF(w, "a", "b", "c", "ssd");
}
LIST(w, blx_near, 4, fill_near)

static void fill_data(struct world *w, struct blx_data_item *d, size_t i) {
  d->key = i ? "volume/b" : "volume/a";
  d->bytes = draw(w, 1u << 30);
}
LIST(w, blx_data_item, 2, fill_data)

static void fill_weight(struct world *w, struct blx_strategy_weight *s, size_t i) {
  s->strategy = (int32_t)i;
  s->weight = (uint32_t)draw(w, 101) + (i == 0);
}
LIST(w, blx_strategy_weight, 4, fill_weight)

static const char **features(struct world *w, size_t *n) {
  const char **all = take(w, 2 * sizeof(char *));
  *n = draw(w, 4) ? 0 : 1 + draw(w, 2);
  all[0] = "avx2";
  all[1] = "sgx";
  return all;
}

/* ---- things of a world */

static struct blx_vm_spec new_spec(struct world *w, const char *name) {
  struct blx_vm_spec s = BLX_VM_SPEC_INIT;
  s.name = name;
  s.vcpus = 1 + (uint32_t)draw(w, 3);
  s.cpu_milli = one_in(w, 2) ? (uint32_t)draw(w, 2500) : 0;
  s.memory_mib = 32 + 32 * (uint32_t)draw(w, 8);
  s.hypervisor = one_in(w, 16);
  s.ha = one_in(w, 3) ? (int32_t)draw(w, 3) : 0;
  s.priority = (uint32_t)draw(w, 3);
  s.has_preemptible = (uint32_t)draw(w, 2);
  s.preemptible = (uint32_t)draw(w, 2);
  s.labels = list_blx_label(w, &s.n_labels);
  s.node_selector = one_in(w, 6) ? list_blx_label(w, &s.n_node_selector) : NULL;
  s.constraints = one_in(w, 2) ? list_blx_node_match(w, &s.n_constraints) : NULL;
  s.preferences = list_blx_node_match(w, &s.n_preferences);
  s.resources = list_blx_amount(w, &s.n_resources);
  s.tolerations = list_blx_toleration(w, &s.n_tolerations);
  s.affinity = list_blx_vm_affinity(w, &s.n_affinity);
  s.spread = list_blx_vm_spread(w, &s.n_spread);
  s.cpu_features = features(w, &s.n_cpu_features);
  s.near = list_blx_near(w, &s.n_near);
  s.data = list_blx_data_item(w, &s.n_data);
  s.strategy = (int32_t)draw(w, 6);
  if (s.strategy == 5) s.strategy = w->own;
  if (s.strategy == BLX_STRATEGY_COMBINED) s.strategies = list_blx_strategy_weight(w, &s.n_strategies);
  if (s.strategy == BLX_STRATEGY_COMBINED && s.n_strategies == 0) s.strategy = BLX_STRATEGY_BEST_FIT;
  return s;
}

static const struct blx_quota *new_quota(struct world *w) {
  struct blx_quota *q = take(w, sizeof *q);
  *q = (struct blx_quota)BLX_QUOTA_INIT;
  q->has_node_instances = (uint32_t)draw(w, 2);
  q->node_instances = (uint32_t)draw(w, 5);
  q->has_node_vcpus = (uint32_t)draw(w, 2);
  q->node_vcpus = (uint32_t)draw(w, 10);
  q->has_node_memory_mib = (uint32_t)draw(w, 2);
  q->node_memory_mib = draw(w, 1024);
  q->nodes = list_blx_node_match(w, &q->n_nodes);
  return q;
}

static char *named(struct world *w, const char *what, uint64_t number) {
  char *text = take(w, 24);
  ck_assert(blx__str_format(text, 24, "%s%llu", what, (unsigned long long)number));
  return text;
}

static void node_label(struct world *w, struct blx_node_info *n, const char *key, const char *value) {
  if (one_in(w, 5)) return;
  struct blx_label *l = take(w, sizeof *l);
  l->struct_size = sizeof *l;
  l->key = key;
  l->value = value;
  n->labels[n->n_labels++] = l;
}

static void new_info(struct world *w, struct blx_node_info *n, uint64_t uid) {
  static int32_t monitors[] = {0, 1};
  *n = (struct blx_node_info)BLX_NODE_INFO_INIT;
  n->uid = uid;
  n->name = named(w, "node", uid);
  n->capacity = take(w, sizeof *n->capacity);
  *n->capacity = (struct blx_resources)BLX_RESOURCES_INIT;
  n->capacity->vcpus = 2 + (uint32_t)draw(w, 8);
  n->capacity->cpu_milli = one_in(w, 3) ? (uint32_t)draw(w, 9000) : 0;
  n->capacity->memory_mib = 128 * draw(w, 10);
  n->capacity->named = one_in(w, 3) ? NULL : list_blx_amount(w, &n->capacity->n_named);
  n->hypervisors = monitors;
  n->n_hypervisors = 1 + draw(w, 2);
  n->labels = take(w, 5 * sizeof(struct blx_label *));
  node_label(w, n, "zone", ONE_OF(w, "a", "b", "c"));
  node_label(w, n, "rack", ONE_OF(w, "a", "b", "c"));
  node_label(w, n, "disk", ONE_OF(w, "ssd", "hdd"));
  node_label(w, n, "size", ONE_OF(w, "1", "2", "4", "-3", "big"));
  if (one_in(w, 6)) node_label(w, n, "app", ONE_OF(w, "a", "b"));
  n->taints = list_blx_taint(w, &n->n_taints);
  n->cpu_features = features(w, &n->n_cpu_features);
  n->cordoned = one_in(w, 8);
  n->fence = one_in(w, 12);
  n->ha_ready = !one_in(w, 4);
  n->no_watchdog = !one_in(w, 4);
  n->watchdog = one_in(w, 2) ? "/dev/watchdog" : NULL;
}

static void set_node(struct world *w, size_t at, uint64_t uid) {
  struct oracle_node *n = &w->o.nodes[at];
  memset(n, 0, sizeof *n);
  new_info(w, &n->info, uid);
  n->extra = (struct blx_resources)BLX_RESOURCES_INIT;
  if (one_in(w, 4)) n->extra.memory_mib = draw(w, 256);
  if (one_in(w, 4)) n->extra.vcpus = (uint32_t)draw(w, 2);
  if (one_in(w, 4)) n->extra.named = list_blx_amount(w, &n->extra.n_named);
  n->soft = (struct blx__fleet_soft){.usable = !one_in(w, 10), .why_not = "has not been heard from"};
  n->soft.has_load = one_in(w, 2);
  n->soft.load_cpu_permille = (uint32_t)draw(w, 1001);
  n->soft.load_memory_mib = draw(w, 1500);
  n->soft.stored = list_blx_data_item(w, &n->soft.n_stored);
}

static void set_vm(struct world *w, size_t at, uint64_t uid) {
  struct oracle_vm *vm = &w->o.vms[at];
  vm->spec = new_spec(w, named(w, "vm", uid));
  vm->tenant = vm->uid == uid ? vm->tenant : ONE_OF(w, "default", "default", "other");
  vm->quota = one_in(w, 4) ? new_quota(w) : NULL;
  vm->uid = uid;
}

static void set_settings(struct world *w) {
  struct blx_placement_settings *s = take(w, sizeof *s);
  *s = (struct blx_placement_settings)BLX_PLACEMENT_SETTINGS_INIT;
  s->overcommit = take(w, sizeof(struct blx_overcommit *));
  s->overcommit[0] = take(w, sizeof *s->overcommit[0]);
  *s->overcommit[0] = (struct blx_overcommit)BLX_OVERCOMMIT_INIT;
  s->overcommit[0]->cpu_percent = 100 + (uint32_t)draw(w, 3) * 50;
  s->overcommit[0]->memory_percent = 100 + (uint32_t)draw(w, 2) * 50;
  s->n_overcommit = draw(w, 2);
  s->survive_nodes = w->nodes == SMALL && one_in(w, 3) ? (uint32_t)draw(w, 4) : 0;
  s->survive_level = w->nodes == SMALL && one_in(w, 4) ? "rack" : NULL;
  static const char *const pairs[][2] = {{"b", "a"}, {"a", "c"}, {"gone", "b"}, {"b", "c"}};
  s->distances = take(w, BLX__COUNT(pairs) * sizeof(struct blx_distance *));
  s->n_distances = draw(w, BLX__COUNT(pairs) + 1);
  for (size_t i = 0; i < s->n_distances; i++) {
    s->distances[i] = take(w, sizeof *s->distances[i]);
    *s->distances[i] = (struct blx_distance)BLX_DISTANCE_INIT;
    s->distances[i]->a = pairs[i][0];
    s->distances[i]->b = pairs[i][1];
    s->distances[i]->us = (uint32_t)draw(w, 1000000);
  }
  w->o.settings = s;
}

/* ---- telling */

#define TOLD(expr)                                                                               \
  do {                                                                                           \
    blx_error err_ = {0};                                                                        \
    ck_assert_msg((expr).code == 0, "seed %llu: %s", (unsigned long long)w->seed, err_.message); \
  } while (0)

static void tell_node(struct world *w, struct blx__fleet *f, size_t at) {
  const struct oracle_node *n = &w->o.nodes[at];
  TOLD(blx__fleet_set_node(f, &n->info, &n->extra, &n->soft, &err_));
}

static void tell_vm(struct world *w, struct blx__fleet *f, size_t at) {
  const struct oracle_vm *vm = &w->o.vms[at];
  TOLD(blx__fleet_set_vm(f, vm->uid, vm->tenant, &vm->spec, vm->quota, &err_));
}

static void drop_instances(struct world *w, uint64_t node_uid, uint64_t vm_uid) {
  for (size_t i = 0; i < ORACLE_INSTANCES; i++) {
    struct blx__fleet_instance *e = &w->o.instances[i].told;
    if (e->node_uid == node_uid || e->vm_uid == vm_uid) *e = (struct blx__fleet_instance){.uid = 0};
  }
}

static uint64_t known_node(struct world *w) {
  size_t at = draw(w, w->nodes);
  return w->o.nodes[at].info.uid;
}

static uint64_t known_vm(struct world *w) {
  return w->o.vms[draw(w, ORACLE_VMS)].uid;
}

static void change_node(struct world *w) {
  size_t at = draw(w, w->nodes);
  uint64_t uid = w->o.nodes[at].info.uid;
  if (uid != 0 && one_in(w, 4)) {
    ck_assert(blx__fleet_drop_node(w->f, uid));
    drop_instances(w, uid, UINT64_MAX);
    w->o.nodes[at].info.uid = 0;
    return;
  }
  set_node(w, at, uid && one_in(w, 2) ? uid : uid ? uid : w->next_node++);
  tell_node(w, w->f, at);
}

static void change_vm(struct world *w) {
  size_t at = draw(w, ORACLE_VMS);
  uint64_t uid = w->o.vms[at].uid;
  if (uid != 0 && one_in(w, 4)) {
    ck_assert(blx__fleet_drop_vm(w->f, uid));
    drop_instances(w, UINT64_MAX, uid);
    w->o.vms[at].uid = 0;
    return;
  }
  set_vm(w, at, uid ? uid : w->next_vm++);
  tell_vm(w, w->f, at);
}

static void put_instance(struct world *w, uint64_t vm_uid, uint64_t node_uid) {
  size_t at = draw(w, ORACLE_INSTANCES);
  struct blx__fleet_instance *e = &w->o.instances[at].told;
  if (vm_uid == 0 || node_uid == 0) return;
  if (e->uid == 0) e->uid = w->next_instance++;
  e->vm_uid = vm_uid;
  e->node_uid = node_uid;
  e->epoch = 1 + draw(w, 3);
  e->ending = one_in(w, 5);
  TOLD(blx__fleet_place(w->f, e, &err_));
}

static void change_instance(struct world *w) {
  struct blx__fleet_instance *e = &w->o.instances[draw(w, ORACLE_INSTANCES)].told;
  if (e->uid != 0 && one_in(w, 2)) {
    ck_assert(blx__fleet_unplace(w->f, e->uid));
    *e = (struct blx__fleet_instance){.uid = 0};
    return;
  }
  put_instance(w, known_vm(w), known_node(w));
}

/* Few shapes with few of each, so that counts are not rounded. */
static void draw_shapes(struct world *w) {
  w->n_shapes = draw(w, ORACLE_VMS + 1);
  for (size_t i = 0; i < w->n_shapes; i++)
    w->shapes[i] = (struct blx__fit_shape){100 + 100 * draw(w, 30), 32 + 32 * draw(w, 8) + i, 1 + draw(w, 7)};
}

static void tell_shapes(struct world *w, struct blx__fleet *f) {
  struct blx__fleet_shape told[ORACLE_VMS];
  for (size_t i = 0; i < w->n_shapes; i++)
    told[i] = (struct blx__fleet_shape){w->shapes[i].cpu_milli, w->shapes[i].memory_mib, w->shapes[i].count};
  TOLD(blx__fleet_shapes(f, told, w->n_shapes, &err_));
}

static void refresh(struct world *w, bool anew) {
  if (anew) draw_shapes(w);
  if (!w->fit) w->fit = blx__fit_new(256, 64);
  ck_assert(w->fit != NULL);
  struct blx__fit_shape sorted[ORACLE_VMS];
  memcpy(sorted, w->shapes, sizeof sorted);
  blx__fit_learn(w->fit, sorted, w->n_shapes);
  oracle_refresh(&w->o, w->fit);
  w->o.fit = w->fit;
  if (anew)
    tell_shapes(w, w->f);
  else
    blx__fleet_refresh(w->f);
}

static void change(struct world *w) {
  uint64_t what = draw(w, 16);
  if (w->seed % 8 == 0 && one_in(w, 16)) refresh(w, true);
  if (w->fit && one_in(w, 4)) refresh(w, false);
  if (what == 0) {
    set_settings(w);
    TOLD(blx__fleet_settings(w->f, w->o.settings, &err_));
  } else if (what < 4) {
    change_node(w);
  } else if (what < 6) {
    change_vm(w);
  } else {
    change_instance(w);
  }
}

/* ---- asking */

static struct blx__fleet_request new_request(struct world *w, uint64_t vm_uid) {
  static uint64_t barred[1], reserved[1];
  struct blx__fleet_request r = {.vm_uid = vm_uid, .keep_survive = !one_in(w, 3)};
  if (one_in(w, 4)) r.instance_uid = w->o.instances[draw(w, ORACLE_INSTANCES)].told.uid;
  if (one_in(w, 4)) r.sticky_uid = known_node(w);
  if (one_in(w, 6)) r.avoid_uid = one_in(w, 2) ? r.sticky_uid : known_node(w);
  barred[0] = known_node(w);
  reserved[0] = known_node(w);
  r.barred = barred;
  r.reserved = reserved;
  r.n_barred = one_in(w, 8);
  r.n_reserved = one_in(w, 8);
  return r;
}

static void compare(struct world *w, struct blx__fleet *f, const struct blx__fleet_request *r, int round) {
  uint64_t cost = 0, wanted = oracle_choose(&w->o, r, &cost);
  struct blx__fleet_choice c = {0};
  bool found = blx__fleet_choose(f, r, &c);
  ck_assert_msg((found ? c.node_uid : 0) == wanted && (!found || c.cost == cost),
                "seed %llu round %d: node %llu at %llu, by the specification %llu at %llu", (unsigned long long)w->seed,
                round, (unsigned long long)c.node_uid, (unsigned long long)c.cost, (unsigned long long)wanted,
                (unsigned long long)cost);
}

static void compare_all(struct world *w, const struct blx__fleet_request *r, int round) {
  static struct blx__fleet_verdict v;
  compare(w, w->f, r, round);
  for (size_t i = 0; i < w->nodes; i++) {
    if (w->o.nodes[i].info.uid == 0 || (w->nodes > SMALL && !one_in(w, 16))) continue;
    struct oracle_verdict wanted = oracle_judge(&w->o, r, i);
    ck_assert(blx__fleet_judge(w->f, r, w->o.nodes[i].info.uid, &v));
    uint64_t sum = 0;
    for (size_t k = 0; k < v.n_parts; k++) sum += v.parts[k].cost;
    ck_assert_msg(v.v.obstacles == wanted.obstacles && v.cost == wanted.cost && v.replicas == wanted.replicas &&
                      v.avoids == wanted.avoids && sum == v.cost,
                  "seed %llu round %d node %llu: obstacles %x cost %llu, by the specification %x and %llu",
                  (unsigned long long)w->seed, round, (unsigned long long)w->o.nodes[i].info.uid, v.v.obstacles,
                  (unsigned long long)v.cost, wanted.obstacles, (unsigned long long)wanted.cost);
  }
}

/* ---- a world's life */

static uint64_t own_cost(void *user, const struct blx__placement_node *node, const struct blx__placement_need *need) {
  (void)user;
  return node->allocated_memory_mib * 3000 + need->memory_mib + node->n_labels * 17;
}

static struct blx__fleet *new_fleet(struct world *w) {
  struct blx__fleet_options o = {.nodes_max = ORACLE_NODES, .instances_max = ORACLE_INSTANCES, .seed = w->seed};
  struct blx__fleet *f = NULL;
  TOLD(blx__fleet_new(&o, &f, &err_));
  TOLD(blx__fleet_add_strategy(f, "own", own_cost, NULL, &w->own, &err_));
  w->o.own = own_cost;
  return f;
}

static bool gone(const struct blx__fleet_preemption *p, const struct blx__fleet_instance *e, uint64_t but) {
  if (e->uid == 0 || e->uid == but || e->node_uid != p->node_uid) return false;
  bool victim = e->ending;
  for (size_t i = 0; i < p->n; i++) victim |= p->victims[i] == e->uid;
  return victim;
}

/* Whether it fits there when all victims but one are gone, and what ends already. */
static bool fits_without(const struct world *w, const struct blx__fleet_request *r,
                         const struct blx__fleet_preemption *p, uint64_t but) {
  static struct oracle o;
  size_t node = 0;
  o = w->o;
  for (size_t i = 0; i < ORACLE_INSTANCES; i++)
    if (gone(p, &o.instances[i].told, but)) o.instances[i].told = (struct blx__fleet_instance){.uid = 0};
  while (o.nodes[node].info.uid != p->node_uid) node++;
  return oracle_judge(&o, r, node).obstacles == 0;
}

static void check_preemption(struct world *w, const struct blx__fleet_request *r,
                             const struct blx__fleet_preemption *p) {
  ck_assert_msg(fits_without(w, r, p, 0), "seed %llu: it would not fit after the preemption",
                (unsigned long long)w->seed);
  for (size_t i = 0; i < p->n; i++)
    ck_assert_msg(!fits_without(w, r, p, p->victims[i]), "seed %llu: victim %zu could stay",
                  (unsigned long long)w->seed, i);
}

/* Another fleet, told the same backwards, says the same: nothing depends on order or age. */
static void compare_reborn(struct world *w) {
  struct blx__fleet *f = new_fleet(w);
  for (size_t i = ORACLE_VMS; i-- > 0;)
    if (w->o.vms[i].uid != 0) tell_vm(w, f, i);
  for (size_t i = ORACLE_NODES; i-- > 0;)
    if (w->o.nodes[i].info.uid != 0) tell_node(w, f, i);
  for (size_t i = ORACLE_INSTANCES; i-- > 0;)
    if (w->o.instances[i].told.uid != 0) TOLD(blx__fleet_place(f, &w->o.instances[i].told, &err_));
  TOLD(blx__fleet_settings(f, w->o.settings, &err_));
  if (w->fit) refresh(w, false);
  if (w->fit) tell_shapes(w, f);
  for (size_t i = 0; i < ORACLE_VMS; i++) {
    if (w->o.vms[i].uid == 0) continue;
    struct blx__fleet_request r = new_request(w, w->o.vms[i].uid);
    struct blx__fleet_preemption a = {0}, b = {0};
    compare(w, f, &r, -1);
    ck_assert(blx__fleet_preempt(f, &r, &a) == blx__fleet_preempt(w->f, &r, &b));
    ck_assert_msg(memcmp(&a, &b, sizeof a) == 0, "seed %llu: the preemptions differ", (unsigned long long)w->seed);
    if (a.node_uid != 0) check_preemption(w, &r, &a);
  }
  blx__fleet_free(f);
}

static void live(uint64_t seed, size_t nodes) {
  struct world *w = calloc(1, sizeof *w);
  ck_assert(w != NULL);
  w->seed = w->o.seed = seed;
  w->nodes = nodes;
  w->arena.limit_bytes = 16 << 20;
  w->next_node = w->next_vm = w->next_instance = 1;
  w->f = new_fleet(w);
  for (size_t i = 0; i < w->nodes; i++) {
    if (one_in(w, w->nodes > SMALL ? 32 : 4)) continue;
    set_node(w, i, w->next_node++);
    tell_node(w, w->f, i);
  }
  for (size_t i = 0; i < ORACLE_VMS; i++) {
    set_vm(w, i, w->next_vm++);
    tell_vm(w, w->f, i);
  }
  for (int round = 0; round < ROUNDS; round++) {
    for (uint64_t changes = draw(w, 6); changes > 0; changes--) change(w);
    uint64_t vm_uid = known_vm(w);
    if (vm_uid == 0) continue;
    struct blx__fleet_request r = new_request(w, vm_uid);
    compare_all(w, &r, round);
    struct blx__fleet_choice c;
    r.instance_uid = 0;
    if (blx__fleet_choose(w->f, &r, &c)) put_instance(w, vm_uid, c.node_uid);
  }
  compare_reborn(w);
  blx__fleet_free(w->f);
  blx__fit_free(w->fit);
  blx__arena_free(&w->arena);
  free(w);
}

START_TEST(random_fleets__are_judged_as_the_specification_says) {
  const char *one = getenv("BLX_SEED");
  if (one) live(strtoull(one, NULL, 10), SMALL);
  for (uint64_t seed = 1; !one && seed <= FLEETS / 2; seed++) live(seed, SMALL);
}
END_TEST

START_TEST(as_many_again__are_too) {
  for (uint64_t seed = FLEETS / 2 + 1; !getenv("BLX_SEED") && seed <= FLEETS; seed++) live(seed, SMALL);
}
END_TEST

/* Where the index is read in order, not as a whole. */
START_TEST(large_fleets__are_judged_so_too) {
  const char *one = getenv("BLX_SEED_LARGE");
  if (one) {
    live(strtoull(one, NULL, 10), ORACLE_NODES);
    return;
  }
  for (uint64_t seed = 1; seed <= LARGE; seed++) live(seed, ORACLE_NODES);
}
END_TEST

BLX_TEST_MAIN("placement/differential", random_fleets__are_judged_as_the_specification_says, as_many_again__are_too,
              large_fleets__are_judged_so_too)
