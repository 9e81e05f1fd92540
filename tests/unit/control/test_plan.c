/* What would be: explained, planned, counted; and nothing is changed by it. */
#include "../harness.h"
#include "lead.h"

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};

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
  turn(&l);
  t_report(&l.t, "web-1", running);
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
  struct blx_vm_spec low = t_spec("low", 2), high = t_spec("high", 1);
  low.memory_mib = 512;
  high.memory_mib = 400;
  high.priority = 9;
  t_create(&l.t, &low, BLX_DESIRED_RUNNING);
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

BLX_TEST_MAIN("control/plan", one_that_waits__is_explained_with_each_node_and_what_it_lacks,
              one_that_runs__is_explained_as_if_it_were_to_be_placed_anew,
              an_explanation_of_what_is_not_there__says_where_to_look,
              a_plan_of_a_creation__is_what_the_scheduler_then_does, a_plan__leaves_nothing_behind,
              a_plan_of_what_apply_refuses__is_refused_with_its_words,
              a_plan_of_another_scale__says_what_comes_and_what_goes, a_plan_with_priority__names_who_would_end,
              a_plan__names_the_tenant_of_whom_would_end_if_that_is_another,
              capacity__is_how_often_a_create_would_find_a_node, capacity__is_the_same_whichever_way_it_is_counted,
              capacity__that_is_to_survive_a_node_leaves_room_for_it)
