/* When control cuts a node off, and when it says that this is proved: around each limit. */
#include "../harness.h"
#include "../state/support.h"

#include "control/control.h"
#include "lease/lease.h"

#include <string.h>

/* Of the default settings. */
enum { FENCE_MS = 21000, T_SAFE_MS = 33150, OLD = 11 };

struct leader {
  struct t t;
  struct blx__control *control;
  struct blx__control_soft soft[4]; /* by uid */
  unsigned asked;
  struct blx__arena arena;
  struct blx__control_out out;
  struct blx_op *ops[BLX__CONTROL_OPS_MAX];
};

static void soft_of(void *user, uint64_t uid, struct blx__control_soft *out) {
  struct leader *l = user;
  ck_assert_uint_lt(uid, BLX__COUNT(l->soft));
  l->asked++;
  *out = l->soft[uid];
}

static blx__rc step_with(struct leader *l, blx__control_soft_fn soft, struct blx__arena *arena,
                         struct blx__control_out *out, blx_error *err) {
  const struct blx__control_input in = {l->t.st, soft, l, l->t.time_ms};
  if (!l->control) l->control = blx__control_new();
  ck_assert(l->control != NULL);
  return blx__control_step(l->control, &in, arena, out, err);
}

static void step(struct leader *l) {
  blx_error err = {0};
  blx__arena_reset(&l->arena);
  l->asked = 0;
  ck_assert_msg(step_with(l, soft_of, &l->arena, &l->out, &err).code == 0, "%s", err.message);
  for (size_t i = 0; i < l->out.op_count; i++) {
    void *op = NULL;
    ck_assert_int_eq(blx__msg_decode_known(blx__desc_op(), &l->arena, l->out.ops[i], &op, &err).code, 0);
    l->ops[i] = op;
  }
}

static uint64_t due_in(const struct leader *l) {
  return l->out.next_due_ms ? l->out.next_due_ms - l->t.time_ms : 0;
}

/* Applied, and accepted. */
static void apply_all(struct leader *l) {
  for (size_t i = 0; i < l->out.op_count; i++)
    ck_assert_msg(t_apply_bytes(&l->t, l->out.ops[i].data, l->out.ops[i].len) == 0, "%s", l->t.result.message);
}

static void run_on(struct leader *l, const char *vm, uint64_t uid, int32_t ha) {
  char instance[64];
  blx__str_format(instance, sizeof instance, "%s-1", vm);
  ck_assert_int_eq(t_create_ha(&l->t, vm, ha), 0);
  ck_assert_int_eq(t_assign(&l->t, instance, uid), 0);
  ck_assert_int_eq(t_report(&l->t, instance, (struct t_seen){.phase = BLX_PHASE_RUNNING}), 0);
}

/* node1 has one instance of that policy and was not answered for @unanswered_ms; node2 is well. */
static void open_leader(struct leader *l, int32_t ha, uint64_t unanswered_ms) {
  memset(l, 0, sizeof *l);
  l->arena.limit_bytes = 4 << 20;
  t_open_cluster(&l->t, 2);
  t_register_ha(&l->t, 1, OLD);
  t_register_ha(&l->t, 2, 21);
  run_on(l, "web", 1, ha);
  l->soft[1] = (struct blx__control_soft){.status = BLX_NODE_STATUS_SUSPECT, .unanswered_ms = unanswered_ms};
  l->soft[2] = (struct blx__control_soft){.status = BLX_NODE_STATUS_READY};
}

static void close_leader(struct leader *l) {
  blx__arena_free(&l->arena);
  blx__control_free(l->control);
  t_close(&l->t);
}

static void open_begun(struct leader *l, uint64_t unanswered_ms) {
  open_leader(l, BLX_HA_POLICY_AUTO, unanswered_ms);
  ck_assert_int_eq(t_fence_begin(&l->t, 1, OLD, false), 0);
}

START_TEST(a_suspect_node__is_cut_off_when_its_lease_is_over_and_not_a_millisecond_before) {
  struct leader l;
  open_leader(&l, BLX_HA_POLICY_AUTO, FENCE_MS - 1);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  ck_assert_uint_eq(due_in(&l), 1);
  l.soft[1].unanswered_ms = FENCE_MS;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  const struct blx_op_fence_begin *o = l.ops[0]->fence_begin;
  ck_assert_uint_eq(o->node_uid, 1);
  ck_assert_uint_eq(o->incarnation, OLD);
  ck_assert_int_eq(o->by_operator, 0);
  ck_assert_str_eq(o->reason, "not heard from, and not answered for 21 s: its lease of 20 s is over");
  apply_all(&l);
  ck_assert_int_eq(t_instance(&l.t, "web-1")->fenced, 1);
  close_leader(&l);
}
END_TEST

START_TEST(a_node_that_is_heard_from_or_not_known__is_not_cut_off) {
  static const enum blx_node_status not_silent[] = {BLX_NODE_STATUS_READY, BLX_NODE_STATUS_UNKNOWN};
  for (unsigned i = 0; i < BLX__COUNT(not_silent); i++) {
    struct leader l;
    open_leader(&l, BLX_HA_POLICY_AUTO, 10 * FENCE_MS);
    l.soft[1].status = not_silent[i];
    step(&l);
    ck_assert_uint_eq(l.out.op_count, 0);
    ck_assert_uint_eq(due_in(&l), BLX__CONTROL_LOOK_AGAIN_MS);
    close_leader(&l);
  }
}
END_TEST

START_TEST(a_ready_node__is_looked_at_again_when_its_lease_would_be_over) {
  struct leader l;
  open_leader(&l, BLX_HA_POLICY_AUTO, 2000);
  l.soft[1].status = BLX_NODE_STATUS_READY;
  step(&l);
  ck_assert_uint_eq(due_in(&l), FENCE_MS - 2000);
  l.soft[1].status = BLX_NODE_STATUS_SUSPECT;
  step(&l);
  ck_assert_uint_eq(due_in(&l), BLX__CONTROL_LOOK_AGAIN_MS);
  close_leader(&l);
}
END_TEST

START_TEST(a_node_without_ha_instances__is_never_cut_off_nor_looked_at) {
  struct leader l;
  open_leader(&l, BLX_HA_POLICY_OFF, 100 * FENCE_MS);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  ck_assert_uint_eq(l.out.next_due_ms, 0);
  ck_assert_uint_eq(l.asked, 0);
  close_leader(&l);
}
END_TEST

START_TEST(manual_ones_alone__have_their_node_cut_off_and_stay_for_an_operator) {
  struct leader l;
  open_leader(&l, BLX_HA_POLICY_MANUAL, FENCE_MS);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  apply_all(&l);
  ck_assert_int_eq(t_instance(&l.t, "web-1")->reason->code, BLX_REASON_CODE_HA_MANUAL);
  close_leader(&l);
}
END_TEST

START_TEST(a_disarmed_cluster__cuts_off_nobody_and_looks_when_it_is_armed) {
  struct leader l;
  open_leader(&l, BLX_HA_POLICY_AUTO, FENCE_MS);
  t_disarm(&l.t, 60000);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  ck_assert_uint_eq(due_in(&l), 60000);
  l.t.time_ms += 59999;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  l.t.time_ms += 1;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  apply_all(&l);
  close_leader(&l);
}
END_TEST

START_TEST(the_lease__is_a_proof_after_t_safe_and_not_a_millisecond_before) {
  struct leader l;
  open_begun(&l, T_SAFE_MS - 1);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  ck_assert_uint_eq(due_in(&l), 1);
  l.soft[1].unanswered_ms = T_SAFE_MS - 5000;
  step(&l);
  ck_assert_uint_eq(due_in(&l), BLX__CONTROL_LOOK_AGAIN_MS);
  l.soft[1].unanswered_ms = T_SAFE_MS;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  ck_assert_str_eq(l.ops[0]->fence_done->proof, "lease: not answered for 33 s, T_safe is 34 s");
  ck_assert_uint_eq(l.ops[0]->fence_done->incarnation, OLD);
  apply_all(&l);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  ck_assert_uint_eq(l.ops[0]->assign->node_uid, 2);
  apply_all(&l);
  close_leader(&l);
}
END_TEST

START_TEST(a_longer_lease_that_may_be_out__is_waited_for) {
  struct leader l;
  open_begun(&l, T_SAFE_MS);
  l.soft[1].lease_ms = 100000;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  l.soft[1].unanswered_ms = 113550 - 1;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  l.soft[1].unanswered_ms = 113550;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  close_leader(&l);
}
END_TEST

START_TEST(leases_of_the_settings_before__are_waited_for) {
  struct leader l;
  open_begun(&l, T_SAFE_MS - 1);
  struct blx_lease_settings fast = blx__lease_scaled(2000);
  struct blx_op_settings_set o = BLX_OP_SETTINGS_SET_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.lease = &fast;
  op.settings_set = &o;
  ck_assert_int_eq(t_apply(&l.t, &op), 0);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  l.soft[1].unanswered_ms = T_SAFE_MS;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  close_leader(&l);
}
END_TEST

START_TEST(a_lease_given_while_disarmed__is_waited_for_after_arming_too) {
  struct leader l;
  open_begun(&l, 10 * T_SAFE_MS);
  t_disarm(&l.t, 80000);
  t_disarm(&l.t, 0);
  uint64_t extended_ms = 80000 + T_SAFE_MS + 10000;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  l.t.time_ms += extended_ms - 1;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  ck_assert_uint_eq(due_in(&l), 1);
  l.t.time_ms += 1;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  close_leader(&l);
}
END_TEST

START_TEST(a_fence_command_that_proved_it__is_a_proof_at_once_disarmed_or_not) {
  struct leader l;
  open_begun(&l, 1);
  t_disarm(&l.t, 80000);
  l.soft[1].powered_off = "Chassis Power Control:\nDown\x01\xc3";
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  ck_assert_str_eq(l.ops[0]->fence_done->proof, "command: Chassis Power Control: Down??");
  apply_all(&l);
  ck_assert_int_eq(blx__state_node(l.t.st, 1)->fence, BLX_FENCE_DONE);
  close_leader(&l);
}
END_TEST

START_TEST(a_fence_command_that_says_a_lot_or_nothing__is_kept_as_far_as_there_is_room) {
  struct leader l;
  char long_text[2000];
  memset(long_text, 'x', sizeof long_text - 1);
  long_text[sizeof long_text - 1] = '\0';
  open_begun(&l, 1);
  l.soft[1].powered_off = long_text;
  step(&l);
  ck_assert_uint_eq(strlen(l.ops[0]->fence_done->proof), 511);
  l.soft[1].powered_off = "";
  step(&l);
  ck_assert_str_eq(l.ops[0]->fence_done->proof, "command: it ended with status 0 and said nothing");
  apply_all(&l);
  close_leader(&l);
}
END_TEST

/* ha=auto was placed there for the fence command's sake: nothing ends or resets that machine in time. */
START_TEST(where_only_the_fence_command_was_trusted__time_is_no_proof) {
  struct leader l;
  open_leader(&l, BLX_HA_POLICY_MANUAL, 100 * T_SAFE_MS);
  run_on(&l, "auto", 1, BLX_HA_POLICY_AUTO);
  struct blx_node_info bare = *blx__state_node(l.t.st, 1);
  struct blx_op_node_register o = BLX_OP_NODE_REGISTER_INIT;
  struct blx_op op = BLX_OP_INIT;
  bare.no_watchdog = 0;
  o.node = &bare;
  op.node_register = &o;
  ck_assert_int_eq(t_apply(&l.t, &op), 0);
  ck_assert_int_eq(t_fence_command(&l.t, "node1", "/usr/bin/power off"), 0);
  ck_assert_int_eq(t_fence_begin(&l.t, 1, OLD, true), 0);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  ck_assert_uint_eq(due_in(&l), BLX__CONTROL_LOOK_AGAIN_MS);
  /* With manual alone an operator has seen to it. */
  ck_assert_int_eq(t_report(&l.t, "auto-1", (struct t_seen){.dead = true}), 0);
  step(&l);
  ck_assert_ptr_nonnull(l.ops[0]->fence_done);
  close_leader(&l);
}
END_TEST

START_TEST(one_that_came_back_before_the_proof__is_proved_by_time_all_the_same) {
  struct leader l;
  open_begun(&l, T_SAFE_MS);
  ck_assert_int_eq(t_return(&l.t, 1, 12), 0);
  l.soft[1].status = BLX_NODE_STATUS_READY;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  apply_all(&l);
  ck_assert_int_eq(blx__state_node(l.t.st, 1)->fence, BLX_FENCE_NONE);
  close_leader(&l);
}
END_TEST

START_TEST(an_operators_fence_of_a_node_without_ha__is_proved_as_any_other) {
  struct leader l;
  open_leader(&l, BLX_HA_POLICY_OFF, T_SAFE_MS - 1);
  ck_assert_int_eq(t_fence_begin(&l.t, 1, OLD, true), 0);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  l.soft[1].unanswered_ms = T_SAFE_MS;
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 1);
  apply_all(&l);
  step(&l);
  ck_assert_uint_eq(l.out.op_count, 0);
  ck_assert_uint_eq(l.out.next_due_ms, 0);
  close_leader(&l);
}
END_TEST

static void all_silent(void *user, uint64_t uid, struct blx__control_soft *out) {
  (void)user;
  (void)uid;
  *out = (struct blx__control_soft){.status = BLX_NODE_STATUS_SUSPECT, .unanswered_ms = FENCE_MS};
}

START_TEST(many_at_once__are_cut_off_in_the_order_of_their_uids_a_few_in_each_step) {
  enum { MANY = 40 };
  static struct leader l;
  memset(&l, 0, sizeof l);
  l.arena.limit_bytes = 4 << 20;
  t_open_cluster(&l.t, MANY);
  struct blx_vm_spec spec = t_spec("web", MANY);
  spec.ha = BLX_HA_POLICY_AUTO;
  ck_assert_int_eq(t_create(&l.t, &spec, BLX_DESIRED_RUNNING), 0);
  for (unsigned n = 1; n <= MANY; n++) {
    char instance[16];
    blx__str_format(instance, sizeof instance, "web-%u", n);
    t_register_ha(&l.t, n, n + 100);
    ck_assert_int_eq(t_assign(&l.t, instance, n), 0);
  }
  unsigned fenced = 0;
  for (unsigned steps = 1; steps <= 3; steps++) {
    blx__arena_reset(&l.arena);
    ck_assert_int_eq(step_with(&l, all_silent, &l.arena, &l.out, NULL).code, 0);
    ck_assert_uint_eq(l.out.op_count, steps < 3 ? BLX__CONTROL_FENCE_MAX : MANY - 2 * BLX__CONTROL_FENCE_MAX);
    ck_assert_uint_ne(l.out.next_due_ms, 0);
    apply_all(&l);
    fenced += (unsigned)l.out.op_count;
    ck_assert_int_eq(blx__state_node(l.t.st, fenced)->fence, BLX_FENCE_BEGUN);
    ck_assert(fenced == MANY || blx__state_node(l.t.st, fenced + 1)->fence == BLX_FENCE_NONE);
  }
  close_leader(&l);
}
END_TEST

BLX_TEST_MAIN("control/fence", where_only_the_fence_command_was_trusted__time_is_no_proof,
              a_suspect_node__is_cut_off_when_its_lease_is_over_and_not_a_millisecond_before,
              a_node_that_is_heard_from_or_not_known__is_not_cut_off,
              a_ready_node__is_looked_at_again_when_its_lease_would_be_over,
              a_node_without_ha_instances__is_never_cut_off_nor_looked_at,
              manual_ones_alone__have_their_node_cut_off_and_stay_for_an_operator,
              a_disarmed_cluster__cuts_off_nobody_and_looks_when_it_is_armed,
              the_lease__is_a_proof_after_t_safe_and_not_a_millisecond_before,
              a_longer_lease_that_may_be_out__is_waited_for, leases_of_the_settings_before__are_waited_for,
              a_lease_given_while_disarmed__is_waited_for_after_arming_too,
              a_fence_command_that_proved_it__is_a_proof_at_once_disarmed_or_not,
              a_fence_command_that_says_a_lot_or_nothing__is_kept_as_far_as_there_is_room,
              one_that_came_back_before_the_proof__is_proved_by_time_all_the_same,
              an_operators_fence_of_a_node_without_ha__is_proved_as_any_other,
              many_at_once__are_cut_off_in_the_order_of_their_uids_a_few_in_each_step)
