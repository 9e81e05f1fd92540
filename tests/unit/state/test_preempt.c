/* Instances of lower priority end so that one that waits fits. */
#include "../harness.h"
#include "support.h"

static const struct t_seen died = {.phase = BLX_PHASE_STOPPED, .dead = true};

/* Two of low with 400 MiB and a fixed one with 200 are on node1, which has 1024; big needs 600. */
static void open_full(struct t *t) {
  t_open_cluster(t, 2);
  struct blx_vm_spec fixed = t_spec("fixed", 1);
  fixed.memory_mib = 200;
  fixed.has_preemptible = 1;
  ck_assert_int_eq(t_create(t, &fixed, BLX_DESIRED_RUNNING), 0);
  ck_assert_int_eq(t_create_sized(t, "low", 2, 400, 10), 0);
  ck_assert_int_eq(t_create_sized(t, "big", 1, 400, 500), 0);
  t_run(t, "fixed-1", 1);
  t_run(t, "low-1", 1);
  t_run(t, "low-2", 1);
}

START_TEST(a_victim__is_told_to_end_and_the_other_waits_for_its_room) {
  struct t t;
  open_full(&t);
  const char *const victims[] = {"low-2", NULL};
  T_SHALL(0, t_preempt(&t, "big-1", 1, victims));
  const struct blx_instance *low = t_instance(&t, "low-2"), *big = t_instance(&t, "big-1");
  ck_assert_int_eq(low->ending, BLX_ENDING_SHUT_DOWN);
  ck_assert_uint_eq(low->preempted_for_uid, big->uid);
  ck_assert_int_eq(low->reason->code, BLX_REASON_CODE_PREEMPTED);
  ck_assert_str_eq(low->reason->text, "shuts down to make room for big-1 of priority 500; it is killed after 30 s");
  ck_assert_int_eq(t_told(&t, "low-2")->ending, BLX_ENDING_SHUT_DOWN);
  ck_assert_uint_eq(big->room_on_uid, 1);
  ck_assert_int_eq(big->reason->code, BLX_REASON_CODE_WAITS_FOR_ROOM);
  ck_assert_str_eq(big->reason->text, "waits for room on node1 until low-2 has ended");
  ck_assert_ptr_eq(blx__state_room_after(t.st, 1, 0), big);
  T_SHALL(BLX_E_NO_CAPACITY, t_assign(&t, "big-1", 1));
  T_SHALL(0, t_report(&t, "low-2", died));
  low = t_instance(&t, "low-2");
  ck_assert_int_eq(low->phase, BLX_PHASE_PENDING);
  ck_assert_uint_eq(low->preempted_for_uid, 0);
  T_SHALL(0, t_assign(&t, "big-1", 1));
  ck_assert_uint_eq(t_instance(&t, "big-1")->room_on_uid, 0);
  ck_assert_ptr_null(blx__state_room_after(t.st, 1, 0));
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 1);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(nobody__ends_who_could_stay) {
  struct t t;
  open_full(&t);
  const char *const both[] = {"low-1", "low-2", NULL};
  T_SHALL(BLX_E_CONFLICT, t_preempt(&t, "big-1", 1, both));
  T_SAYS("low-1 need not end: big-1 fits on node1 beside it");
  T_SHALL(BLX_E_NO_CAPACITY, t_preempt(&t, "big-1", 1, NULL));
  T_SAYS("big-1 does not fit there without them either: node1 has 24 MiB free, 400 needed: 376 MiB short");
  const char *const one[] = {"low-1", NULL};
  T_SHALL(0, t_restart(&t, "low-2", BLX_ENDING_SHUT_DOWN)); /* it ends anyhow */
  T_SHALL(BLX_E_CONFLICT, t_preempt(&t, "big-1", 1, one));
  T_SHALL(0, t_preempt(&t, "big-1", 1, NULL));
  ck_assert_int_eq(t_instance(&t, "low-1")->ending, BLX_ENDING_NONE);
  ck_assert_str_eq(t_instance(&t, "big-1")->reason->text, "waits for room on node1 until low-2 has ended");
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(one_that_may_not_end__is_left_alone) {
  struct t t;
  open_full(&t);
  const char *const fixed[] = {"fixed-1", NULL}, *const low[] = {"low-1", NULL},
                    *const twice[] = {"low-1", "low-1", NULL};
  T_SHALL(BLX_E_CONFLICT, t_preempt(&t, "big-1", 1, fixed));
  T_SAYS("fixed-1 is not preemptible");
  T_SHALL(BLX_E_CONFLICT, t_preempt(&t, "big-1", 2, low));
  T_SAYS("low-1 does not run on node2");
  T_SHALL(BLX_E_INVALID, t_preempt(&t, "big-1", 1, twice));
  T_SHALL(0, t_create_sized(&t, "same", 1, 400, 10));
  T_SHALL(BLX_E_CONFLICT, t_preempt(&t, "same-1", 1, low));
  T_SAYS("low-1 has priority 10, which is not below the 10 of same-1");
  T_SHALL(BLX_E_CONFLICT, t_preempt(&t, "low-2", 1, low)); /* it does not wait */
  T_SHALL(BLX_E_NOT_FOUND, t_preempt(&t, "big-1", 9, NULL));
  ck_assert_int_eq(t_instance(&t, "low-1")->ending, BLX_ENDING_NONE);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(the_wait_for_room__ends_with_the_node_with_the_vm_or_when_it_is_moot) {
  struct t t;
  const char *const low[] = {"low-1", NULL};
  for (unsigned how = 0; how < 4; how++) {
    open_full(&t);
    T_SHALL(0, t_preempt(&t, "big-1", 1, low));
    if (how == 0) T_SHALL(0, t_fence_begin(&t, 1, 0, true));
    if (how == 1) T_SHALL(0, t_desire(&t, "big", BLX_DESIRED_STOPPED));
    if (how == 2) T_SHALL(0, t_explain(&t, "big-1", BLX_REASON_CODE_NO_ROOM, "no"));
    if (how == 3) T_SHALL(0, t_assign(&t, "big-1", 2));
    ck_assert_uint_eq(t_instance(&t, "big-1")->room_on_uid, 0);
    ck_assert_ptr_null(blx__state_room_after(t.st, 1, 0));
    t_check_indexes(&t);
    t_close(&t);
  }
}
END_TEST

/* after needs mid, and mid needs low; a leader would not ask for this. */
START_TEST(what_it_depends_on__does_not_end_for_it_whoever_asks) {
  struct t t;
  open_full(&t);
  const char *on_low = "low", *on_mid = "mid";
  struct blx_vm_spec mid = t_spec("mid", 1), after = t_spec("after", 1);
  mid.depends_on = &on_low;
  after.depends_on = &on_mid;
  mid.n_depends_on = after.n_depends_on = 1;
  after.memory_mib = 400;
  after.priority = 500;
  T_SHALL(0, t_create(&t, &mid, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_create(&t, &after, BLX_DESIRED_RUNNING));
  t_run(&t, "mid-1", 2);
  const char *const low[] = {"low-1", NULL};
  uint64_t revision = t_instance(&t, "low-1")->revision;
  T_SHALL(BLX_E_CONFLICT, t_preempt(&t, "after-1", 1, low));
  T_SAYS("low-1 cannot end for after-1, which depends on the VM low");
  ck_assert_uint_eq(t_instance(&t, "low-1")->revision, revision);
  ck_assert_uint_eq(t_instance(&t, "after-1")->room_on_uid, 0);
  T_SHALL(0, t_preempt(&t, "big-1", 1, low)); /* for another one it may */
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(those_of_another_tenant__are_named_with_it) {
  struct t t;
  open_full(&t);
  t.tenant = "acme";
  T_SHALL(0, t_create_sized(&t, "low", 1, 400, 500));
  const struct blx_instance *by = blx__state_instance_by_name(t.st, "acme", "low-1");
  const struct blx_instance *low = blx__state_instance_by_name(t.st, NULL, "low-1");
  struct blx_preempt_victim victim = BLX_PREEMPT_VICTIM_INIT, *list[] = {&victim};
  struct blx_op_preempt o = BLX_OP_PREEMPT_INIT;
  struct blx_op op = BLX_OP_INIT;
  uint64_t by_uid = by->uid, low_uid = low->uid;
  victim.uid = low_uid;
  victim.epoch = low->epoch;
  o.instance_uid = by_uid;
  o.node_uid = 1;
  o.victims = list;
  o.n_victims = 1;
  op.preempt = &o;
  T_SHALL(0, t_apply(&t, &op));
  ck_assert_str_eq(blx__state_instance(t.st, low_uid)->reason->text,
                   "shuts down to make room for low-1 of tenant acme of priority 500; it is killed after 30 s");
  ck_assert_str_eq(blx__state_instance(t.st, by_uid)->reason->text,
                   "waits for room on node1 until low-1 of tenant default has ended");
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/preempt", a_victim__is_told_to_end_and_the_other_waits_for_its_room, nobody__ends_who_could_stay,
              one_that_may_not_end__is_left_alone, the_wait_for_room__ends_with_the_node_with_the_vm_or_when_it_is_moot,
              what_it_depends_on__does_not_end_for_it_whoever_asks, those_of_another_tenant__are_named_with_it)
