/* What apply counts of other instances, beside the engine, which counts the same for itself; and what is refused. */
#include "../harness.h"
#include "placement/fleet.h"
#include "state/state_int.h"
#include "support.h"

#include <string.h>

enum { STEPS = 1000, SEEDS = 4, NODES = 4, VMS = 9, REPLICAS = 5 };

struct world {
  struct t t;
  uint64_t random;
  uint32_t seen; /* obstacles that came up */
  unsigned fits, preemptions, moot;
};

static uint64_t draw(struct world *w, uint64_t below) {
  w->random = blx__mix64(w->random);
  return w->random % below;
}

static void vm_name(struct world *w, char out[16]) {
  blx__str_format(out, 16, "vm%u", (unsigned)draw(w, VMS));
}

static void instance_name(struct world *w, char out[32]) {
  blx__str_format(out, 32, "vm%u-%u", (unsigned)draw(w, VMS), (unsigned)draw(w, REPLICAS) + 1);
}

/* ---- random specs */

struct spec {
  struct blx_vm_spec s;
  struct blx_label labels[2], *label_list[2], asked[3], *asked_list[3];
  struct blx_vm_affinity affinity[3], *affinity_list[3];
  struct blx_vm_spread spread, *spread_list;
  struct blx_amount gpu, *gpu_list;
  struct blx_toleration old, *old_list;
};

static const char *const apps[] = {"web", "db", "job"};
static const char *const levels[] = {"host", "rack", "zone", ""};

static void random_rule(struct world *w, struct spec *out, unsigned i) {
  struct blx_vm_affinity *a = &out->affinity[i];
  *a = (struct blx_vm_affinity)BLX_VM_AFFINITY_INIT;
  out->asked[i] = (struct blx_label){.struct_size = sizeof out->asked[i], .key = "app", .value = apps[draw(w, 3)]};
  out->asked_list[i] = &out->asked[i];
  a->selector = &out->asked_list[i];
  a->n_selector = draw(w, 3) > 0;
  a->level = levels[draw(w, 4)];
  a->apart = draw(w, 3) > 0;
  a->weight = draw(w, 6) ? 0 : 50;
  out->affinity_list[i] = a;
}

static void random_spec(struct world *w, const char *name, struct spec *out) {
  memset(out, 0, sizeof *out);
  out->s = t_spec(name, 1 + (uint32_t)draw(w, REPLICAS));
  struct blx_vm_spec *s = &out->s;
  s->memory_mib = 32 + 32 * (uint32_t)draw(w, 6);
  s->cpu_milli = draw(w, 2) ? 0 : 250 * (uint32_t)(1 + draw(w, 6));
  s->priority = (uint32_t)draw(w, 9) * 100;
  s->has_preemptible = 1;
  s->preemptible = draw(w, 5) > 0;
  s->ha = draw(w, 3) ? BLX_HA_POLICY_AUTO : BLX_HA_POLICY_OFF;
  out->labels[0] = (struct blx_label){.struct_size = sizeof out->labels[0], .key = "app", .value = apps[draw(w, 3)]};
  out->label_list[0] = &out->labels[0];
  s->labels = out->label_list;
  s->n_labels = draw(w, 6) > 0;
  s->n_affinity = draw(w, 3) ? 0 : draw(w, 4);
  for (unsigned i = 0; i < s->n_affinity; i++) random_rule(w, out, i);
  s->affinity = out->affinity_list;
  out->spread = (struct blx_vm_spread){.struct_size = sizeof out->spread, .level = levels[draw(w, 4)]};
  out->spread.max_per_domain = 1 + (uint32_t)draw(w, 2);
  out->spread_list = &out->spread;
  s->spread = &out->spread_list;
  s->n_spread = draw(w, 3) == 0;
  out->gpu = (struct blx_amount){.struct_size = sizeof out->gpu, .name = "gpu", .amount = 1 + draw(w, 5)};
  out->gpu_list = &out->gpu;
  s->resources = &out->gpu_list;
  s->n_resources = draw(w, 4) == 0;
  out->old = (struct blx_toleration){.struct_size = sizeof out->old, .key = "old"};
  out->old_list = &out->old;
  s->tolerations = &out->old_list;
  s->n_tolerations = draw(w, 2);
}

/* ---- the engine, told all there is */

static void tell_vm(const struct t *t, struct blx__fleet *f, uint64_t uid, const char *tenant,
                    const struct blx_vm_spec *spec) {
  ck_assert_int_eq(blx__fleet_set_vm(f, uid, tenant, spec, blx__state_limits(t->st, tenant), NULL).code, 0);
}

static void place(struct blx__fleet *f, struct blx__fleet_instance i) {
  ck_assert_int_eq(blx__fleet_place(f, &i, NULL).code, 0);
}

static void tell_instances(const struct t *t, struct blx__fleet *f) {
  for (const struct blx_vm *vm = NULL; (vm = blx__state_vm_after_uid(t->st, vm ? vm->uid : 0)) != NULL;) {
    tell_vm(t, f, vm->uid, vm->tenant, vm->spec);
    const struct blx_instance *i = blx__state_instance_after(t->st, vm->uid, 0);
    for (; i; i = blx__state_instance_after(t->st, vm->uid, i->ordinal))
      if (i->node_uid && !i->dead)
        place(f, (struct blx__fleet_instance){i->uid, vm->uid, i->node_uid, i->epoch, blx__state_is_ending(vm, i)});
  }
}

static struct blx__fleet *fleet_of(const struct t *t) {
  const struct blx__fleet_options options = {.nodes_max = 64, .instances_max = 1024, .seed = 7};
  struct blx__fleet *f = NULL;
  ck_assert_int_eq(blx__fleet_new(&options, &f, NULL).code, 0);
  ck_assert_int_eq(blx__fleet_settings(f, blx__state_settings(t->st)->placement, NULL).code, 0);
  const struct blx_node_info *n = blx__state_node_after_uid(t->st, 0);
  for (; n; n = blx__state_node_after_uid(t->st, n->uid))
    ck_assert_int_eq(blx__fleet_set_node(f, n, NULL, NULL, NULL).code, 0);
  tell_instances(t, f);
  BLX__MAP_FOREACH(pos, &t->st->data.tombstones) {
    const struct blx_tombstone *b = blx__map_value(pos);
    if (b->dead) continue;
    tell_vm(t, f, b->instance_uid, b->tenant, b->spec);
    place(f, (struct blx__fleet_instance){b->instance_uid, b->instance_uid, b->node_uid, b->epoch, true});
  }
  return f;
}

/* ---- both, asked the same */

static void same_around(const struct blx__placement_need *need, const struct blx__placement_around *a,
                        const struct blx__placement_around *b) {
  for (size_t i = 0; i < need->n_affinity; i++) {
    if (need->affinity[i]->weight > 0) continue;
    ck_assert_uint_eq(a->near[i], b->near[i]);
    ck_assert_uint_eq(a->anywhere[i], b->anywhere[i]);
    ck_assert_int_eq(a->itself[i], b->itself[i]);
  }
  for (size_t i = 0; i < need->n_spread; i++) ck_assert_uint_eq(a->replicas[i], b->replicas[i]);
  ck_assert_int_eq(a->unwanted_by != NULL, b->unwanted_by != NULL);
  ck_assert_uint_eq(a->tenant_instances, b->tenant_instances);
  ck_assert_uint_eq(a->tenant_vcpus, b->tenant_vcpus);
  ck_assert_uint_eq(a->tenant_memory_mib, b->tenant_memory_mib);
  ck_assert_uint_eq(a->short_places, b->short_places);
}

static void same_answer(struct world *w, struct blx__fleet *f, const struct blx_instance *i, uint64_t node_uid) {
  struct blx__fleet_request request = {.vm_uid = i->vm_uid, .instance_uid = i->uid, .keep_survive = i->epoch == 0};
  static struct blx__fleet_verdict engine;
  struct state_judgement apply;
  ck_assert(blx__fleet_judge(f, &request, node_uid, &engine));
  bool fits = blx__state_judge(w->t.st, blx__state_instance_get(w->t.st, i->uid), node_uid, &apply);
  ck_assert_int_eq(fits, engine.v.obstacles == 0);
  ck_assert_uint_eq(apply.verdict.obstacles, engine.v.obstacles);
  ck_assert_uint_eq(apply.verdict.short_cpu_milli, engine.v.short_cpu_milli);
  ck_assert_uint_eq(apply.verdict.short_memory_mib, engine.v.short_memory_mib);
  ck_assert_uint_eq(apply.verdict.short_named, engine.v.short_named);
  same_around(&apply.need, &apply.around, &engine.around);
  w->seen |= apply.verdict.obstacles;
  w->fits += fits;
}

static void same_answers(struct world *w) {
  struct blx__fleet *f = fleet_of(&w->t);
  for (const struct blx_vm *vm = NULL; (vm = blx__state_vm_after_uid(w->t.st, vm ? vm->uid : 0)) != NULL;) {
    const struct blx_instance *i = blx__state_instance_after(w->t.st, vm->uid, 0);
    for (; i; i = blx__state_instance_after(w->t.st, vm->uid, i->ordinal)) {
      const struct blx_node_info *n = i->dead ? blx__state_node_after_uid(w->t.st, 0) : NULL;
      for (; n; n = blx__state_node_after_uid(w->t.st, n->uid)) same_answer(w, f, i, n->uid);
    }
  }
  blx__fleet_free(f);
}

/* What the engine proposes, apply takes. */
static void preempt(struct world *w, const struct blx_instance *i) {
  struct blx__fleet_request request = {.vm_uid = i->vm_uid, .instance_uid = i->uid, .keep_survive = i->epoch == 0};
  struct blx__fleet_preemption found;
  struct blx__fleet *f = fleet_of(&w->t);
  bool any = blx__fleet_preempt(f, &request, &found);
  blx__fleet_free(f);
  if (!any || blx__state_tombstone_named(w->t.st, i->name, found.node_uid)) return;
  struct blx_preempt_victim rows[BLX__FLEET_VICTIMS_MAX], *list[BLX__FLEET_VICTIMS_MAX];
  struct blx_op_preempt o = {.struct_size = sizeof o, .instance_uid = i->uid, .expected_epoch = i->epoch};
  o.node_uid = found.node_uid;
  o.victims = list;
  for (; o.n_victims < found.n; o.n_victims++) {
    list[o.n_victims] = &rows[o.n_victims];
    rows[o.n_victims] = (struct blx_preempt_victim)BLX_PREEMPT_VICTIM_INIT;
    rows[o.n_victims].uid = found.victims[o.n_victims];
    rows[o.n_victims].epoch = found.epochs[o.n_victims];
  }
  struct blx_op op = {.struct_size = sizeof op, .preempt = &o};
  uint64_t uid = i->uid;
  ck_assert_msg(t_apply(&w->t, &op) == 0, "%s", w->t.result.message);
  ck_assert_uint_eq(blx__state_instance(w->t.st, uid)->room_on_uid, found.node_uid);
  w->preemptions += found.n > 0;
  w->moot += found.n == 0;
}

/* ---- the walk */

static void random_settings(struct world *w) {
  struct blx_placement_settings s = BLX_PLACEMENT_SETTINGS_INIT;
  struct blx_label west = {.struct_size = sizeof west, .key = "zone", .value = "b"};
  struct blx_overcommit more = {.struct_size = sizeof more, .cpu_percent = 150, .memory_percent = 110}, *list = &more;
  more.nodes = draw(w, 2) ? &west : NULL;
  s.overcommit = &list;
  s.n_overcommit = draw(w, 2);
  s.survive_nodes = draw(w, 6) ? 0 : (uint32_t)draw(w, 3);
  s.survive_level = draw(w, 8) ? "" : "rack";
  ck_assert_int_eq(t_placement(&w->t, &s), 0);
}

static void random_quota(struct world *w) {
  struct blx_node_match match = {.struct_size = sizeof match, .key = "zone", .op = BLX_MATCH_OP_NOT_IN}, *list = &match;
  const char *values[] = {"b"};
  struct blx_quota q = BLX_QUOTA_INIT;
  match.values = values;
  match.n_values = 1;
  q.nodes = &list;
  q.n_nodes = draw(w, 3) == 0;
  q.has_node_instances = draw(w, 2) == 0;
  q.node_instances = 1 + (uint32_t)draw(w, 4);
  q.has_node_vcpus = draw(w, 2) == 0;
  q.node_vcpus = 1 + (uint32_t)draw(w, 4);
  q.has_node_memory_mib = draw(w, 2) == 0;
  q.node_memory_mib = 256 + draw(w, 512);
  ck_assert_int_eq(draw(w, 6) ? t_quota_remove(&w->t, NULL) : t_quota(&w->t, &q), 0);
}

static void random_node(struct world *w) {
  static const char *const changes[] = {"zone=a", "zone=b", "zone-", "rack=r1", "rack=r2", "rack-"};
  char node[16];
  blx__str_format(node, sizeof node, "node%u", (unsigned)draw(w, NODES) + 1);
  switch (draw(w, 6)) {
  case 0: t_cordon(&w->t, node, draw(w, 3) == 0); return;
  case 1: t_taint(&w->t, node, "old", "", draw(w, 2) ? BLX_TAINT_EFFECT_NO_PLACE : BLX_TAINT_EFFECT_AVOID); return;
  case 2: t_untaint(&w->t, node, "old"); return;
  default: t_label(&w->t, node, changes[draw(w, BLX__COUNT(changes))]); return;
  }
}

static void random_end(struct world *w, const struct blx_instance *i) {
  bool leaves = i->phase == BLX_PHASE_DELETING;
  if (i->node_uid == 0) return;
  t_report(&w->t, i->name, (struct t_seen){.phase = BLX_PHASE_STOPPED, .dead = true, .gone = leaves && draw(w, 2)});
}

/* One of the first that wait. */
static const struct blx_instance *first_ready(struct world *w) {
  struct blx__state_ready at = {0};
  const struct blx_instance *i = NULL;
  for (uint64_t n = draw(w, 4); n < 4; n++) i = blx__state_ready_next(w->t.st, w->t.time_ms, &at);
  return i;
}

/* What was told to end does, sooner or later. */
static void end_some(struct world *w) {
  char name[32];
  instance_name(w, name);
  const struct blx_instance *i = t_instance(&w->t, name);
  uint64_t node_uid = 1 + draw(w, NODES);
  const struct blx_tombstone *b = blx__state_tombstone_on_node_after(w->t.st, node_uid, 0);
  if (i && blx__state_is_ending(t_vm(&w->t, i->vm), i)) random_end(w, i);
  if (b && draw(w, 8) == 0)
    t_report_as(&w->t, node_uid, b->instance_uid, b->epoch, 1,
                (struct t_seen){.phase = BLX_PHASE_STOPPED, .dead = true, .gone = true});
}

/* One that others make room for. NULL: it is there already, and goes. */
static const struct blx_instance *important(struct world *w) {
  struct blx_vm_spec spec = t_spec("vip", 1);
  spec.priority = 900;
  spec.memory_mib = 160 + 32 * (uint32_t)draw(w, 5);
  t_create(&w->t, &spec, BLX_DESIRED_RUNNING);
  const struct blx_instance *i = t_instance(&w->t, "vip-1");
  if (i && blx__state_wants_node(i, t_vm(&w->t, "vip")) && i->not_before_ms <= w->t.time_ms) return i;
  t_delete(&w->t, "vip");
  if (i && (i = t_instance(&w->t, "vip-1")) != NULL) random_end(w, i);
  return NULL;
}

static void random_op(struct world *w) {
  char vm[16], name[32];
  struct spec spec;
  vm_name(w, vm);
  instance_name(w, name);
  const struct blx_instance *i = t_instance(&w->t, name);
  switch (draw(w, 24)) {
  case 0:
  case 1:
  case 2:
  case 3:
    random_spec(w, vm, &spec);
    t_create(&w->t, &spec.s, BLX_DESIRED_RUNNING);
    return;
  case 4: t_delete(&w->t, vm); return;
  case 5: t_delete_force(&w->t, draw(w, 4) == 0 ? vm : name, 1 + draw(w, NODES)); return;
  case 6: t_scale(&w->t, vm, draw(w, 4) ? REPLICAS : (uint32_t)draw(w, REPLICAS)); return;
  case 7: random_settings(w); return;
  case 8: random_quota(w); return;
  case 9:
  case 10: random_node(w); return;
  case 11: t_desire(&w->t, vm, draw(w, 9) ? BLX_DESIRED_RUNNING : BLX_DESIRED_STOPPED); return;
  case 12:
    if (i) random_end(w, i);
    return;
  case 13:
  case 14:
    i = draw(w, 2) ? important(w) : first_ready(w);
    if (i) preempt(w, i);
    return;
  default:
    if (draw(w, 2)) i = first_ready(w);
    if (i) t_assign(&w->t, i->name, 1 + draw(w, NODES));
    return;
  }
}

START_TEST(apply_and_the_engine__never_disagree) {
  struct world w = {.random = 1};
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    w.random = seed;
    t_open_cluster(&w.t, 0);
    for (unsigned n = 1; n <= NODES; n++) {
      char name[16];
      blx__str_format(name, sizeof name, "node%u", n);
      ck_assert_int_eq(t_join(&w.t, name, 3 + n % 2, 256 + 64 * n), 0);
      ck_assert_int_eq(t_register_ha(&w.t, n, n + 10), 0);
    }
    for (unsigned step = 0; step < STEPS; step++) {
      w.t.time_ms += draw(&w, 4000);
      random_op(&w);
      end_some(&w);
      ck_assert_ptr_null(blx__state_fatal(w.t.st));
      same_answers(&w);
      if (step % 25 == 0) t_check_rebuilt(&w.t);
    }
    t_close(&w.t);
  }
  static const int32_t codes[] = {BLX_OBSTACLE_CODE_TENANT,        BLX_OBSTACLE_CODE_TAINT,
                                  BLX_OBSTACLE_CODE_CORDONED,      BLX_OBSTACLE_CODE_AFFINITY,
                                  BLX_OBSTACLE_CODE_ANTI_AFFINITY, BLX_OBSTACLE_CODE_DOMAIN_FULL,
                                  BLX_OBSTACLE_CODE_NODE_QUOTA,    BLX_OBSTACLE_CODE_SURVIVE,
                                  BLX_OBSTACLE_CODE_RESOURCE,      BLX_OBSTACLE_CODE_ROOM};
  for (unsigned i = 0; i < BLX__COUNT(codes); i++)
    ck_assert_msg(w.seen & 1u << codes[i], "obstacle %d never came up", (int)codes[i]);
  ck_assert_uint_ge(w.fits, 1000);
  ck_assert_uint_ge(w.preemptions, 10);
  ck_assert_uint_ge(w.moot, 5);
}
END_TEST

BLX_TEST_MAIN("state/around", apply_and_the_engine__never_disagree)
