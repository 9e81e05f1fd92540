#include "../harness.h"
#include "support.h"

static const struct t_seen crashed = {.phase = BLX_PHASE_FAILED, .dead = true, .has_exit = true, .exit_status = 1};

START_TEST(assign__raises_the_epoch_and_gives_the_instance_to_the_node) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 1);
  T_SHALL(0, t_assign(&t, "web-1", 2));
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_uint_eq(i->epoch, 1);
  ck_assert_uint_eq(i->node_uid, 2);
  ck_assert(!i->dead);
  ck_assert_int_eq(i->phase, BLX_PHASE_CREATING);
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_BUILDING);
  ck_assert_uint_eq(i->spec_revision, t_vm(&t, "web")->spec_revision);
  ck_assert_uint_eq(i->restarts, 0);
  ck_assert_ptr_null(blx__state_waiting_after(t.st, 0, 0));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(assign__on_full_node__is_refused_with_the_missing_number) {
  struct t t;
  t_open(&t, 0);
  t_init(&t);
  t_join(&t, "node1", 8, 200);
  t_create_named(&t, "web", 2);
  T_SHALL(0, t_assign(&t, "web-1", 1));
  T_SHALL(BLX_E_NO_CAPACITY, t_assign(&t, "web-2", 1));
  T_SAYS("web-2 cannot go there: node1 has 72 MiB free, 128 needed: 56 MiB short");
  ck_assert_uint_eq(t_instance(&t, "web-2")->epoch, 0);
  T_SHALL(0, t_report(&t, "web-1", crashed));
  T_SHALL(0, t_assign(&t, "web-2", 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(assign__to_a_cordoned_or_unknown_node__is_refused) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  t_cordon(&t, "node1", true);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  T_SAYS("web-1 cannot go there: node1 is cordoned");
  T_SHALL(BLX_E_NOT_FOUND, t_assign(&t, "web-1", 9));
  t_close(&t);
}
END_TEST

START_TEST(assign__of_one_that_may_live__is_refused) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 1);
  t_assign(&t, "web-1", 1);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 2));
  T_SAYS("web-1 is not confirmed dead on node1 in epoch 1: an instance never runs twice");
  t_close(&t);
}
END_TEST

START_TEST(assign__with_an_old_epoch__is_refused_with_both_numbers) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 1);
  struct blx_op_assign o = BLX_OP_ASSIGN_INIT;
  o.instance_uid = t_instance(&t, "web-1")->uid;
  o.node_uid = 1;
  o.expected_epoch = 3;
  struct blx_op op = BLX_OP_INIT;
  op.assign = &o;
  T_SHALL(BLX_E_CONFLICT, t_apply(&t, &op));
  T_SAYS("web-1 is at epoch 0, not 3: it was assigned meanwhile");
  o.expected_epoch = 0;
  T_SHALL(0, t_apply(&t, &op));
  T_SHALL(BLX_E_CONFLICT, t_apply(&t, &op));
  o.instance_uid = 999;
  T_SHALL(BLX_E_NOT_FOUND, t_apply(&t, &op));
  t_close(&t);
}
END_TEST

START_TEST(assign__before_its_time__is_refused_with_the_time_left) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 1);
  t_run(&t, "web-1", 1);
  t_report(&t, "web-1", crashed);
  uint64_t due = t_instance(&t, "web-1")->not_before_ms;
  t.time_ms = due - 1;
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 2));
  T_SAYS("web-1 is not started again for another 1 ms");
  t.time_ms = due;
  T_SHALL(0, t_assign(&t, "web-1", 2));
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_uint_eq(i->epoch, 2);
  ck_assert_uint_eq(i->restarts, 1);
  ck_assert_uint_eq(i->report_seq, 0);
  ck_assert_uint_eq(i->not_before_ms, 0);
  ck_assert_uint_eq(i->failures, 1);
  t_close(&t);
}
END_TEST

START_TEST(assign__of_a_stopped_or_deleted_vm__is_refused) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  t_desire(&t, "web", BLX_DESIRED_STOPPED);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  T_SAYS("the VM web shall be stopped");
  t_desire(&t, "web", BLX_DESIRED_RUNNING);
  t_assign(&t, "web-1", 1);
  t_report(&t, "web-1", crashed);
  t_delete(&t, "web");
  t.time_ms += 10000;
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  T_SAYS("the VM web is being deleted");
  t_close(&t);
}
END_TEST

START_TEST(explain__sets_the_reason_once) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  T_SHALL(0, t_explain(&t, "web-1", BLX_REASON_CODE_NO_ROOM, "node1 lacks 32 MiB"));
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_NO_ROOM);
  ck_assert_str_eq(t_vm(&t, "web")->reason->text, "node1 lacks 32 MiB");
  uint64_t revision = i->revision;
  T_SHALL(0, t_explain(&t, "web-1", BLX_REASON_CODE_NO_ROOM, "node1 lacks 32 MiB"));
  ck_assert_uint_eq(t_instance(&t, "web-1")->revision, revision);
  T_SHALL(0, t_explain(&t, "web-1", BLX_REASON_CODE_NO_ROOM, "node1 lacks 64 MiB"));
  ck_assert_uint_gt(t_instance(&t, "web-1")->revision, revision);
  t_assign(&t, "web-1", 1);
  T_SHALL(BLX_E_CONFLICT, t_explain(&t, "web-1", BLX_REASON_CODE_NO_ROOM, "late"));
  ck_assert_int_eq(t_instance(&t, "web-1")->reason->code, BLX_REASON_CODE_BUILDING);
  t_close(&t);
}
END_TEST

START_TEST(explain__with_an_old_epoch__is_refused) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  struct blx_op_explain o = BLX_OP_EXPLAIN_INIT;
  o.instance_uid = t_instance(&t, "web-1")->uid;
  o.expected_epoch = 1;
  struct blx_op op = BLX_OP_INIT;
  op.explain = &o;
  T_SHALL(BLX_E_CONFLICT, t_apply(&t, &op));
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/op_run", assign__raises_the_epoch_and_gives_the_instance_to_the_node,
              assign__on_full_node__is_refused_with_the_missing_number,
              assign__to_a_cordoned_or_unknown_node__is_refused, assign__of_one_that_may_live__is_refused,
              assign__with_an_old_epoch__is_refused_with_both_numbers,
              assign__before_its_time__is_refused_with_the_time_left, assign__of_a_stopped_or_deleted_vm__is_refused,
              explain__sets_the_reason_once, explain__with_an_old_epoch__is_refused)
