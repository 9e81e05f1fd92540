/* What would be: explained, planned, counted; and nothing is changed by it. */
#include "../harness.h"
#include "base/digest.h"
#include "lead.h"

static struct blx__control_input input(struct leader *l) {
  if (!l->control) l->control = blx__control_new();
  ck_assert(l->control != NULL);
  blx__arena_reset(&l->arena);
  return (struct blx__control_input){l->t.st, soft_of, l, l->t.time_ms};
}

static struct blx_placement_report explain(struct leader *l, const char *name) {
  const struct blx__control_input in = input(l);
  struct blx_vm_explain_request req = BLX_VM_EXPLAIN_REQUEST_INIT;
  struct blx_placement_report report = BLX_PLACEMENT_REPORT_INIT;
  blx_error err = {0};
  req.name = name;
  ck_assert_msg(blx__control_explain(l->control, &in, &req, &l->arena, &report, &err).code == 0, "%s", err.message);
  return report;
}

static struct blx_vm_plan plan(struct leader *l, struct blx_vm_spec *spec, int code, blx_error *err) {
  const struct blx__control_input in = input(l);
  struct blx_vm_create_request create = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_plan_request req = BLX_VM_PLAN_REQUEST_INIT;
  struct blx_vm_plan out = BLX_VM_PLAN_INIT;
  create.spec = spec;
  req.create = &create;
  ck_assert_int_eq(blx__control_plan(l->control, &in, &req, &l->arena, &out, err).code, code);
  return out;
}

static struct blx_vm_plan plan_scale(struct leader *l, const char *name, uint32_t replicas) {
  const struct blx__control_input in = input(l);
  struct blx_vm_scale_request scale = BLX_VM_SCALE_REQUEST_INIT;
  struct blx_vm_plan_request req = BLX_VM_PLAN_REQUEST_INIT;
  struct blx_vm_plan out = BLX_VM_PLAN_INIT;
  blx_error err = {0};
  scale.name = name;
  scale.has_replicas = 1;
  scale.replicas = replicas;
  req.scale = &scale;
  ck_assert_msg(blx__control_plan(l->control, &in, &req, &l->arena, &out, &err).code == 0, "%s", err.message);
  return out;
}

static struct blx_capacity_report capacity(struct leader *l, struct blx_vm_spec *spec, int survive) {
  const struct blx__control_input in = input(l);
  struct blx_capacity_request req = BLX_CAPACITY_REQUEST_INIT;
  struct blx_capacity_report out = BLX_CAPACITY_REPORT_INIT;
  blx_error err = {0};
  req.spec = spec;
  req.has_survive = survive >= 0;
  req.survive = survive >= 0 ? (uint32_t)survive : 0;
  ck_assert_msg(blx__control_capacity(l->control, &in, &req, &l->arena, &out, &err).code == 0, "%s", err.message);
  return out;
}

START_TEST(one_that_waits__is_explained_with_each_node_and_what_it_lacks) {
  struct leader l;
  open_leader(&l, 3);
  t_cordon(&l.t, "node3", true);
  struct blx_vm_spec spec = t_spec("web", 1);
  spec.memory_mib = 2000;
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  turn(&l);
  struct blx_placement_report r = explain(&l, "web");
  ck_assert_str_eq(r.instance, "web-1");
  ck_assert_str_eq(r.chosen ? r.chosen : "", "");
  ck_assert_str_eq(r.node, "");
  ck_assert_uint_eq(r.nodes_total, 3);
  ck_assert_uint_eq(r.nodes_fit, 0);
  ck_assert_uint_eq(r.n_nodes, 3);
  ck_assert_int_eq(r.reason->code, BLX_REASON_CODE_NO_ROOM);
  ck_assert_uint_eq(r.index, l.t.index);
  close_leader(&l);
}
END_TEST

START_TEST(one_that_runs__is_explained_as_if_it_were_to_be_placed_anew) {
  struct leader l;
  open_leader(&l, 2);
  struct blx_vm_spec spec = t_spec("web", 1);
  spec.memory_mib = 1000; /* it would not fit beside itself */
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  turn_and_run(&l);
  struct blx_placement_report r = explain(&l, "web-1");
  ck_assert_str_eq(r.node, node_of(&l, "web-1"));
  ck_assert_str_eq(r.chosen, r.node);
  ck_assert_uint_eq(r.nodes_fit, 2);
  close_leader(&l);
}
END_TEST

START_TEST(an_explanation_of_what_is_not_there__says_where_to_look) {
  struct leader l;
  open_leader(&l, 1);
  t_create_named(&l.t, "none", 0);
  const struct blx__control_input in = input(&l);
  struct blx_vm_explain_request req = BLX_VM_EXPLAIN_REQUEST_INIT;
  struct blx_placement_report report;
  blx_error err = {0};
  req.name = "nobody";
  ck_assert_int_eq(blx__control_explain(l.control, &in, &req, &l.arena, &report, &err).code, BLX_E_NOT_FOUND);
  req.name = "none";
  ck_assert_int_eq(blx__control_explain(l.control, &in, &req, &l.arena, &report, &err).code, BLX_E_CONFLICT);
  ck_assert_str_eq(err.message, "the VM none has no instances: `blixard vm scale none --replicas 1`");
  close_leader(&l);
}
END_TEST

/* What a plan says is what comes about. */
START_TEST(a_plan_of_a_creation__is_what_the_scheduler_then_does) {
  struct leader l;
  open_leader(&l, 3);
  t_create_named(&l.t, "other", 4);
  turn(&l);
  struct blx_vm_spec spec = t_spec("web", 5);
  spec.memory_mib = 500;
  blx_error err;
  struct blx_vm_plan p = plan(&l, &spec, 0, &err);
  ck_assert_uint_eq(p.n_instances, 5);
  char planned[5][64];
  for (unsigned i = 0; i < 5; i++) blx__str_format(planned[i], sizeof planned[i], "%s", p.instances[i]->node);
  uint32_t waiting = p.waiting;
  ck_assert_uint_gt(waiting, 0);
  ck_assert_uint_eq(p.changes, 6);
  ck_assert_str_eq(p.report->chosen ? p.report->chosen : "", ""); /* of the first that finds none */
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  turn(&l);
  for (unsigned i = 0; i < 5; i++) {
    char name[32];
    blx__str_format(name, sizeof name, "web-%u", i + 1);
    ck_assert_str_eq(node_of(&l, name), planned[i]);
  }
  ck_assert_uint_eq(l.explains, waiting);
  close_leader(&l);
}
END_TEST

START_TEST(a_plan__leaves_nothing_behind) {
  struct leader l;
  open_leader(&l, 2);
  struct blx_vm_spec spec = t_spec("web", 3);
  spec.memory_mib = 500;
  blx_error err;
  for (unsigned n = 0; n < 3; n++) ck_assert_uint_eq(plan(&l, &spec, 0, &err).waiting, 0);
  ck_assert_ptr_null(blx__state_vm_by_name(l.t.st, NULL, "web"));
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  step(&l);
  check_fresh(&l);
  close_leader(&l);
}
END_TEST

START_TEST(a_plan_of_what_apply_refuses__is_refused_with_its_words) {
  struct leader l;
  open_leader(&l, 1);
  t_create_named(&l.t, "web", 1);
  struct blx_vm_spec spec = t_spec("web", 1);
  blx_error err = {0};
  (void)plan(&l, &spec, BLX_E_EXISTS, &err);
  ck_assert_int_eq(t_create(&l.t, &spec, BLX_DESIRED_RUNNING), BLX_E_EXISTS);
  ck_assert_str_eq(err.message, l.t.result.message);
  close_leader(&l);
}
END_TEST

START_TEST(a_plan_of_another_scale__says_what_comes_and_what_goes) {
  struct leader l;
  open_leader(&l, 2);
  t_create_named(&l.t, "web", 3);
  turn(&l);
  struct blx_vm_plan p = plan_scale(&l, "web", 5);
  ck_assert_uint_eq(p.n_instances, 2);
  ck_assert_str_eq(p.instances[0]->instance, "web-4");
  ck_assert_str_eq(p.instances[1]->action, "place");
  p = plan_scale(&l, "web", 1);
  ck_assert_uint_eq(p.n_instances, 2);
  ck_assert_str_eq(p.instances[0]->instance, "web-2");
  ck_assert_str_eq(p.instances[1]->action, "remove");
  ck_assert_uint_eq(plan_scale(&l, "web", 3).changes, 0);
  close_leader(&l);
}
END_TEST

START_TEST(a_plan_with_priority__names_who_would_end) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec high = t_spec("high", 1);
  high.memory_mib = 400;
  high.priority = 9;
  t_create_sized(&l.t, "low", 2, 512, 0);
  turn(&l);
  blx_error err;
  struct blx_vm_plan p = plan(&l, &high, 0, &err);
  ck_assert_str_eq(p.instances[0]->action, "preempt");
  ck_assert_uint_eq(p.instances[0]->n_victims, 1);
  ck_assert_str_eq(p.instances[0]->node, "node1");
  ck_assert_ptr_null(strchr(p.instances[0]->victims[0], '/'));
  close_leader(&l);
}
END_TEST

START_TEST(a_plan__names_the_tenant_of_whom_would_end_if_that_is_another) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec low = t_spec("low", 1), high = t_spec("high", 1);
  low.memory_mib = 1000;
  high.memory_mib = 400;
  high.priority = 9;
  l.t.tenant = "acme";
  t_create(&l.t, &low, BLX_DESIRED_RUNNING);
  turn(&l);
  blx_error err;
  struct blx_vm_plan p = plan(&l, &high, 0, &err);
  ck_assert_uint_eq(p.instances[0]->n_victims, 1);
  ck_assert_str_eq(p.instances[0]->victims[0], "acme/low-1");
  close_leader(&l);
}
END_TEST

/* web-1 would fit, if nobody had come before it. */
START_TEST(a_plan__gives_those_that_wait_their_turn_first) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec web = t_spec("web", 1);
  web.memory_mib = 300;
  t_create_sized(&l.t, "first", 2, 400, 0);
  blx_error err;
  struct blx_vm_plan p = plan(&l, &web, 0, &err);
  ck_assert_str_eq(p.instances[0]->action, "wait");
  ck_assert_str_eq(p.instances[0]->text,
                   "when 2 that wait already, first-1 first, have their nodes, node1 lacks 76 MiB");
  ck_assert_str_eq(p.report->chosen ? p.report->chosen : "", "");
  ck_assert_uint_eq(p.waiting, 1);
  web.priority = 1;
  p = plan(&l, &web, 0, &err);
  ck_assert_str_eq(p.instances[0]->action, "place");
  step(&l);
  check_fresh(&l);
  close_leader(&l);
}
END_TEST

START_TEST(a_plan__leaves_a_node_to_the_one_for_which_others_end_there) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec web = t_spec("web", 1);
  t_create_sized(&l.t, "low", 2, 400, 0);
  turn(&l);
  t_create_sized(&l.t, "high", 1, 600, 9);
  turn(&l);
  ck_assert_uint_eq(l.preempts, 1);
  web.memory_mib = 200; /* which is free */
  web.priority = 9;
  blx_error err;
  struct blx_vm_plan p = plan(&l, &web, 0, &err);
  ck_assert_str_eq(p.instances[0]->text, "node1 has room that is kept for high-1, which other instances end for there");
  web.priority = 10;
  ck_assert_str_eq(plan(&l, &web, 0, &err).instances[0]->action, "place");
  close_leader(&l);
}
END_TEST

/* ---- plans of random creations, each of which is then made */

enum { ROUNDS = 400 };

struct seen_plans {
  unsigned placed, waits, preempts;
};

static uint64_t draw(uint64_t *random, uint64_t below) {
  *random = blx__mix64(*random);
  return *random % below;
}

/* LoadBalanced: what BestFit expects of the future changes with the creation itself. */
static struct blx_vm_spec random_spec(uint64_t *random, const char *name) {
  struct blx_vm_spec spec = t_spec(name, 1 + (uint32_t)draw(random, 4));
  spec.strategy = BLX_STRATEGY_LOAD_BALANCED;
  spec.memory_mib = 100 + 50 * (uint32_t)draw(random, 12);
  spec.priority = (uint32_t)draw(random, 3);
  spec.has_preemptible = 1;
  spec.preemptible = draw(random, 4) > 0;
  return spec;
}

static const struct blx_instance *victim_of(const struct leader *l, const char *name) {
  bool foreign = strncmp(name, "other/", 6) == 0;
  const struct blx_instance *i =
      blx__state_instance_by_name(l->t.st, foreign ? "other" : NULL, foreign ? name + 6 : name);
  ck_assert_msg(i != NULL, "there is no %s", name);
  return i;
}

static void check_came_about(struct leader *l, const struct blx_vm_plan *p, unsigned round, struct seen_plans *seen) {
  for (size_t i = 0; i < p->n_instances; i++) {
    const struct blx_planned_instance *x = p->instances[i];
    const struct blx_instance *is = t_instance(&l->t, x->instance);
    const struct blx_node_info *kept = is->room_on_uid ? blx__state_node(l->t.st, is->room_on_uid) : NULL;
    const char *where = kept ? kept->name : node_of(l, x->instance);
    bool placed = strcmp(x->action, "place") == 0, preempts = strcmp(x->action, "preempt") == 0;
    ck_assert_msg(blx__str_eq(where, x->node ? x->node : ""), "round %u: %s was to %s on '%s' (%s) and is on '%s'",
                  round, x->instance, x->action, x->node, x->text, where);
    ck_assert_msg(placed == (is->node_uid != 0), "round %u: %s was to %s", round, x->instance, x->action);
    for (size_t v = 0; v < x->n_victims; v++)
      ck_assert_uint_eq(victim_of(l, x->victims[v])->preempted_for_uid, is->uid);
    seen->placed += placed;
    seen->preempts += preempts;
    seen->waits += !placed && !preempts;
  }
}

/* Of those that are to end or to go most do. */
static void go_on(struct leader *l, uint64_t *random) {
  static const struct t_seen dead = {.phase = BLX_PHASE_STOPPED, .dead = true}, gone = {.dead = true, .gone = true};
  l->t.time_ms += draw(random, 30000);
  for (uint64_t node = 1; node <= 3; node++) {
    const struct blx_instance *i = blx__state_instance_on_node_after(l->t.st, node, 0);
    while (i) {
      const struct blx_vm *vm = blx__state_vm(l->t.st, i->vm_uid);
      uint64_t uid = i->uid;
      bool ends = vm->deleting || blx__state_is_ending(vm, i);
      if (ends && draw(random, 3) > 0)
        (void)t_report_as(&l->t, node, uid, i->epoch, i->report_seq + 1, vm->deleting ? gone : dead);
      i = blx__state_instance_on_node_after(l->t.st, node, uid);
    }
  }
}

/* Two VMs that wait are there beside, or one that there was goes. */
static void stir(struct leader *l, uint64_t *random) {
  for (unsigned k = 0; k < 3; k++) {
    char name[16];
    blx__str_format(name, sizeof name, "%s%u", k == 1 ? "other" : "vm", (unsigned)draw(random, 12));
    l->t.tenant = k == 1 ? "other" : NULL;
    const struct blx_vm *vm = blx__state_vm_by_name(l->t.st, l->t.tenant, name);
    struct blx_vm_spec spec = random_spec(random, name);
    if (vm && !vm->deleting) ck_assert_int_eq(t_delete(&l->t, name), 0);
    if (!vm && k < 2) ck_assert_int_eq(t_create(&l->t, &spec, BLX_DESIRED_RUNNING), 0);
  }
  l->t.tenant = NULL;
}

START_TEST(what_a_plan_says__comes_about_whatever_waits) {
  struct leader l;
  struct seen_plans seen = {0};
  uint64_t random = 20261126;
  open_leader(&l, 3);
  for (unsigned round = 0; round < ROUNDS; round++) {
    stir(&l, &random);
    struct blx_vm_spec spec = random_spec(&random, "new");
    if (!blx__state_vm_by_name(l.t.st, NULL, "new")) {
      blx_error err = {0};
      void *own = NULL;
      const struct blx_vm_plan p = plan(&l, &spec, 0, &err);
      ck_assert_uint_eq(p.n_instances, spec.replicas);
      ck_assert_int_eq(blx__msg_own(blx__desc_vm_plan(), &p, &own, &err).code, 0);
      ck_assert_int_eq(t_create(&l.t, &spec, BLX_DESIRED_RUNNING), 0);
      turn(&l);
      check_came_about(&l, own, round, &seen);
      blx__msg_free_owned(own);
      ck_assert_int_eq(t_delete(&l.t, "new"), 0);
    }
    go_on(&l, &random);
  }
  ck_assert_uint_gt(seen.placed, 50);
  ck_assert_uint_gt(seen.waits, 50);
  ck_assert_uint_gt(seen.preempts, 10);
  close_leader(&l);
}
END_TEST

START_TEST(capacity__is_how_often_a_create_would_find_a_node) {
  struct leader l;
  open_leader(&l, 3);
  t_cordon(&l.t, "node3", true);
  struct blx_vm_spec spec = t_spec("shape", 1);
  spec.memory_mib = 300;
  struct blx_capacity_report r = capacity(&l, &spec, -1);
  ck_assert_uint_eq(r.fits, 6); /* three times 300 of 1024 MiB, twice */
  ck_assert_str_eq(r.limit, "memory");
  ck_assert_uint_eq(r.n_nodes, 3);
  ck_assert_uint_eq(r.nodes[0]->fits, 3);
  ck_assert_uint_eq(r.nodes[2]->fits, 0);
  ck_assert_str_eq(r.nodes[2]->node, "node3");
  struct blx_vm_spec real = t_spec("web", 7);
  real.memory_mib = 300;
  t_create(&l.t, &real, BLX_DESIRED_RUNNING);
  turn(&l);
  ck_assert_uint_eq(l.assigns, r.fits);
  ck_assert_uint_eq(capacity(&l, &spec, -1).fits, 0);
  close_leader(&l);
}
END_TEST

/* The way of division and the way of one after another: the same number. */
START_TEST(capacity__is_the_same_whichever_way_it_is_counted) {
  struct leader l;
  open_leader(&l, 4);
  t_create_named(&l.t, "other", 9);
  turn(&l);
  struct blx_vm_spec spec = t_spec("shape", 1);
  struct blx_vm_spread loose = BLX_VM_SPREAD_INIT, *spread[] = {&loose};
  loose.level = "host";
  loose.max_skew = 1; /* which is only preferred */
  for (uint32_t mib = 64; mib < 1024; mib += 96) {
    spec.memory_mib = mib;
    spec.cpu_milli = mib * 5;
    spec.n_spread = 0;
    uint32_t divided = capacity(&l, &spec, -1).fits;
    spec.spread = spread;
    spec.n_spread = 1;
    ck_assert_uint_eq(capacity(&l, &spec, -1).fits, divided);
  }
  close_leader(&l);
}
END_TEST

START_TEST(capacity__that_is_to_survive_a_node_leaves_room_for_it) {
  struct leader l;
  open_leader(&l, 3);
  for (uint64_t uid = 1; uid <= 3; uid++) t_register_ha(&l.t, uid, uid * 10);
  struct blx_vm_spec spec = t_spec("shape", 1);
  spec.memory_mib = 256;
  spec.ha = BLX_HA_POLICY_AUTO;
  uint32_t all = capacity(&l, &spec, 0).fits, kept = capacity(&l, &spec, 1).fits;
  ck_assert_uint_eq(all, 12);
  ck_assert_uint_eq(kept, 8);
  ck_assert_uint_eq(capacity(&l, &spec, -1).fits, 12); /* the settings are what they were */
  close_leader(&l);
}
END_TEST

/* Until the quota is full, as a create would find it; the nodes have room for 12. */
START_TEST(capacity__ends_with_the_tenants_quota_and_says_its_numbers) {
  struct leader l;
  open_leader(&l, 3);
  t_create_named(&l.t, "other", 2); /* 128 MiB and a vCPU each */
  turn(&l);
  struct blx_amount most = {.struct_size = sizeof most, .name = "disk/ssd", .amount = 50}, *named[] = {&most};
  struct blx_amount disk = {.struct_size = sizeof disk, .name = "disk/ssd", .amount = 60}, *list[] = {&disk};
  struct blx_vm_spec spec = t_spec("shape", 1);
  spec.memory_mib = 256;
  spec.vcpus = 2;
  spec.cpu_milli = 1000;
  static const struct {
    uint32_t vms, instances, vcpus, memory_mib, fits;
    const char *limit, *says;
  } cases[] = {
      {1, 0, 0, 0, 0, "quota vms", "tenant default has 1 of 1 VMs and the next one needs 1 more"},
      {2, 0, 0, 0, 10, "memory", "10 more fit, on 3 of 3 nodes; what stops the next one: memory"},
      {0, 5, 0, 0, 3, "quota instances", "3 more fit: tenant default has 2 of 5 instances and the next one needs 1"},
      {0, 0, 9, 0, 3, "quota vcpus", "3 more fit: tenant default has 2 of 9 vCPUs and the next one needs 2 more"},
      {0, 9, 9, 600, 1, "quota memory", "1 more fits: tenant default has 256 of 600 MiB of memory and the next one"},
      {0, 0, 0, 0, 0, "quota disk/ssd", "0 more fit: tenant default has 0 of 50 disk/ssd and the next one needs 60"},
  };
  for (unsigned i = 0; i < BLX__COUNT(cases); i++) {
    struct blx_quota q = BLX_QUOTA_INIT;
    q.has_vms = (q.vms = cases[i].vms) > 0;
    q.has_instances = (q.instances = cases[i].instances) > 0;
    q.has_vcpus = (q.vcpus = cases[i].vcpus) > 0;
    q.has_memory_mib = (q.memory_mib = cases[i].memory_mib) > 0;
    q.named = named;
    q.n_named = 1;
    ck_assert_int_eq(t_quota(&l.t, &q), 0);
    struct blx_vm_spec asked = spec;
    if (strcmp(cases[i].limit, "quota disk/ssd") == 0) {
      asked.resources = list;
      asked.n_resources = 1;
    }
    struct blx_capacity_report r = capacity(&l, &asked, -1);
    ck_assert_uint_eq(r.fits, cases[i].fits);
    ck_assert_str_eq(r.limit, cases[i].limit);
    ck_assert_msg(strstr(r.text, cases[i].says) != NULL, "%s", r.text);
    asked.name = "web";
    asked.has_replicas = 1;
    asked.replicas = r.fits + 1;
    bool by_quota = strncmp(r.limit, "quota", 5) == 0;
    ck_assert_int_eq(t_create(&l.t, &asked, BLX_DESIRED_STOPPED), by_quota ? BLX_E_QUOTA : 0);
    if (!by_quota) ck_assert_int_eq(t_delete(&l.t, "web"), 0);
  }
  close_leader(&l);
}
END_TEST

BLX_TEST_MAIN("control/plan", one_that_waits__is_explained_with_each_node_and_what_it_lacks,
              one_that_runs__is_explained_as_if_it_were_to_be_placed_anew,
              an_explanation_of_what_is_not_there__says_where_to_look,
              a_plan_of_a_creation__is_what_the_scheduler_then_does, a_plan__leaves_nothing_behind,
              a_plan_of_what_apply_refuses__is_refused_with_its_words,
              a_plan_of_another_scale__says_what_comes_and_what_goes, a_plan_with_priority__names_who_would_end,
              a_plan__gives_those_that_wait_their_turn_first,
              a_plan__leaves_a_node_to_the_one_for_which_others_end_there, what_a_plan_says__comes_about_whatever_waits,
              a_plan__names_the_tenant_of_whom_would_end_if_that_is_another,
              capacity__is_how_often_a_create_would_find_a_node, capacity__is_the_same_whichever_way_it_is_counted,
              capacity__that_is_to_survive_a_node_leaves_room_for_it,
              capacity__ends_with_the_tenants_quota_and_says_its_numbers)
