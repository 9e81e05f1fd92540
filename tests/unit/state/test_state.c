#include "../harness.h"
#include "support.h"

#include <string.h>

START_TEST(bytes_that_are_no_operation__make_the_state_fatal_and_change_nothing) {
  struct t t;
  t_open_cluster(&t, 1);
  t_apply_bytes(&t, "\xff\xff\xff", 3);
  ck_assert_ptr_nonnull(blx__state_fatal(t.st));
  uint64_t index = blx__state_index(t.st);
  t_create_named(&t, "web", 1);
  ck_assert_ptr_null(t_vm(&t, "web"));
  ck_assert_uint_eq(blx__state_index(t.st), index);
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, BLX_E_FATAL);
  blx__buf_free(&b);
  t_close(&t);
}
END_TEST

START_TEST(an_operation_of_a_newer_version__is_fatal_and_says_upgrade) {
  struct t t;
  t_open_cluster(&t, 1);
  t_apply_bytes(&t, "\xfa\x3e\x00", 3); /* field 1007, empty */
  ck_assert_ptr_nonnull(blx__state_fatal(t.st));
  ck_assert_ptr_nonnull(strstr(blx__state_fatal(t.st), "upgrade this node"));
  t_close(&t);
}
END_TEST

START_TEST(an_entry_with_no_operation_or_two__is_fatal) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_op op = BLX_OP_INIT;
  op.principal = "x";
  t_apply(&t, &op);
  ck_assert_ptr_nonnull(blx__state_fatal(t.st));
  t_close(&t);
  t_open_cluster(&t, 1);
  struct blx_op_node_cordon cordon = BLX_OP_NODE_CORDON_INIT;
  struct blx_op_node_voter voter = BLX_OP_NODE_VOTER_INIT;
  op = (struct blx_op)BLX_OP_INIT;
  op.node_cordon = &cordon;
  op.node_voter = &voter;
  t_apply(&t, &op);
  ck_assert_ptr_nonnull(blx__state_fatal(t.st));
  t_close(&t);
}
END_TEST

START_TEST(a_log_that_goes_back__is_fatal) {
  struct t t;
  t_open_cluster(&t, 1);
  t.index -= 1;
  t_create_named(&t, "web", 1);
  ck_assert_ptr_nonnull(blx__state_fatal(t.st));
  t_close(&t);
}
END_TEST

START_TEST(cluster_time__never_goes_back) {
  struct t t;
  t_open_cluster(&t, 1);
  uint64_t before = blx__state_time_ms(t.st);
  t.time_ms = 5;
  T_SHALL(0, t_create_named(&t, "web", 1));
  ck_assert_uint_eq(blx__state_time_ms(t.st), before);
  ck_assert_uint_eq(t_vm(&t, "web")->created_ms, before);
  t_close(&t);
}
END_TEST

START_TEST(several_operations_in_one_entry__share_its_index) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_vm_spec specs[2] = {t_spec("a", 1), t_spec("b", 1)};
  blx__state_begin(t.st, ++t.index, t.time_ms);
  for (unsigned i = 0; i < 2; i++) {
    struct blx_op_vm_create o = BLX_OP_VM_CREATE_INIT;
    o.spec = &specs[i];
    struct blx_op op = BLX_OP_INIT;
    op.vm_create = &o;
    struct blx__buf b;
    blx__buf_init(&b, 4096);
    ck_assert_int_eq(blx__msg_encode(blx__desc_op(), &op, &b, NULL).code, 0);
    blx__state_apply(t.st, (struct blx__slice){b.data, b.len}, NULL);
    blx__buf_free(&b);
  }
  blx__state_end(t.st);
  ck_assert_uint_eq(t_vm(&t, "a")->revision, t.index);
  ck_assert_uint_eq(t_vm(&t, "b")->revision, t.index);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/state", bytes_that_are_no_operation__make_the_state_fatal_and_change_nothing,
              an_operation_of_a_newer_version__is_fatal_and_says_upgrade, an_entry_with_no_operation_or_two__is_fatal,
              a_log_that_goes_back__is_fatal, cluster_time__never_goes_back,
              several_operations_in_one_entry__share_its_index)
