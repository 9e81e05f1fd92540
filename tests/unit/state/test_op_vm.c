#include "../harness.h"
#include "support.h"

#include <string.h>

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
static const struct t_seen died = {.phase = BLX_PHASE_STOPPED, .dead = true};
static const struct t_seen gone = {.phase = BLX_PHASE_STOPPED, .dead = true, .gone = true};

START_TEST(create__makes_the_instances_pending_dead_and_unplaced) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 3));
  const struct blx_vm *vm = t_vm(&t, "web");
  ck_assert_uint_eq(t.result.uid, vm->uid);
  ck_assert_uint_eq(t.result.index, t.index);
  ck_assert_int_eq(vm->phase, BLX_PHASE_PENDING);
  ck_assert_str_eq(vm->tenant, "default");
  for (uint32_t n = 1; n <= 3; n++) {
    char name[16];
    blx__str_format(name, sizeof name, "web-%u", n);
    const struct blx_instance *i = t_instance(&t, name);
    ck_assert_uint_eq(i->ordinal, n);
    ck_assert_int_eq(i->phase, BLX_PHASE_PENDING);
    ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_UNPLACED);
    ck_assert(i->dead);
    ck_assert_uint_eq(i->node_uid, 0);
    ck_assert_uint_eq(i->epoch, 0);
    ck_assert_uint_gt(i->uid, vm->uid);
  }
  ck_assert_uint_eq(blx__state_counts(t.st).instances, 3);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(create_stopped__waits_for_nobody) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_vm_spec spec = t_spec("web", 2);
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_STOPPED));
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_STOPPED);
  ck_assert_ptr_null(blx__state_waiting_after(t.st, 0, 0));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  t_close(&t);
}
END_TEST

START_TEST(create_with_no_replicas__runs_and_says_that_it_has_none) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 0));
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_RUNNING);
  ck_assert_str_eq(t_vm(&t, "web")->reason->text, "it has no replicas");
  T_SHALL(0, t_delete(&t, "web"));
  ck_assert_ptr_null(t_vm(&t, "web"));
  t_close(&t);
}
END_TEST

START_TEST(replicas_absent__means_one) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_vm_spec spec = t_spec("web", 0);
  spec.has_replicas = 0;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  ck_assert_ptr_nonnull(t_instance(&t, "web-1"));
  ck_assert_ptr_null(t_instance(&t, "web-2"));
  t_close(&t);
}
END_TEST

START_TEST(a_second_vm_of_one_name__is_refused) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 1));
  T_SHALL(BLX_E_EXISTS, t_create_named(&t, "web", 1));
  T_SAYS("a VM named web exists already: choose another name");
  ck_assert_uint_eq(blx__state_counts(t.st).vms, 1);
  t_close(&t);
}
END_TEST

START_TEST(a_name_in_another_tenant__is_another_name) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 1));
  t.tenant = "blue";
  T_SHALL(0, t_create_named(&t, "web", 1));
  ck_assert_ptr_ne(blx__state_vm_by_name(t.st, "blue", "web"), blx__state_vm_by_name(t.st, NULL, "web"));
  t.tenant = "../blue";
  T_SHALL(BLX_E_INVALID, t_create_named(&t, "web", 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_vm_named_like_an_instance__is_refused_and_the_other_way_round) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 2));
  T_SHALL(BLX_E_EXISTS, t_create_named(&t, "web-2", 1));
  T_SAYS("web-2 is the name of an instance of the VM web: choose another name");
  T_SHALL(0, t_create_named(&t, "db-3", 1));
  T_SHALL(BLX_E_EXISTS, t_create_named(&t, "db", 3));
  T_SAYS("replica 3 would be named db-3, and a VM has that name: choose another name");
  T_SHALL(0, t_create_named(&t, "db", 2));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_strategy_or_name_that_cannot_be__is_refused_by_apply_too) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_vm_spec spec = t_spec("web", 1);
  spec.strategy = BLX_STRATEGY_COMBINED;
  T_SHALL(BLX_E_INVALID, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  T_SHALL(BLX_E_INVALID, t_create_named(&t, "Web", 1));
  T_SHALL(BLX_E_INVALID, t_create_named(&t, "", 1));
  ck_assert_uint_eq(blx__state_counts(t.st).vms, 0);
  t_close(&t);
}
END_TEST

START_TEST(a_config__is_checked_against_its_digest_and_goes_with_its_last_vm) {
  struct t t;
  t_open_cluster(&t, 1);
  char sha256[65], other[65];
  T_SHALL(0, t_config(&t, "{ }", sha256));
  T_SHALL(0, t_config(&t, "{ }", sha256));
  struct blx_op_config_put o = BLX_OP_CONFIG_PUT_INIT;
  o.sha256 = sha256;
  o.text = (struct blx_bytes){(const uint8_t *)"{}", 2};
  struct blx_op op = BLX_OP_INIT;
  op.config_put = &o;
  T_SHALL(BLX_E_INVALID, t_apply(&t, &op));
  struct blx_vm_spec a = t_spec("a", 1), b = t_spec("b", 1);
  a.config_sha256 = b.config_sha256 = sha256;
  T_SHALL(0, t_create(&t, &a, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_create(&t, &b, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_delete(&t, "a"));
  ck_assert_ptr_nonnull(blx__state_config(t.st, sha256));
  T_SHALL(0, t_delete(&t, "b"));
  ck_assert_ptr_null(blx__state_config(t.st, sha256));
  T_SHALL(BLX_E_STALE, t_create(&t, &a, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_config(&t, "{ other = 1; }", other));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(configs__are_bounded_and_the_oldest_unused_one_makes_room) {
  struct t t;
  t_open_cluster(&t, 1);
  char first[65], sha256[65], text[32];
  T_SHALL(0, t_config(&t, "0", first));
  for (int n = 1; n <= BLX__STATE_CONFIGS_MAX; n++) {
    blx__str_format(text, sizeof text, "%d", n);
    T_SHALL(0, t_config(&t, text, sha256));
    ck_assert_ptr_nonnull(blx__state_config(t.st, sha256));
  }
  ck_assert_ptr_null(blx__state_config(t.st, first));
  t_close(&t);
}
END_TEST

START_TEST(create__with_one_config_more_than_the_cluster_keeps_says_what_would_help) {
  struct t t;
  t_open_cluster(&t, 1);
  char sha256[65], text[32];
  for (int n = 0; n <= BLX__STATE_CONFIGS_MAX; n++) {
    bool fits = n < BLX__STATE_CONFIGS_MAX;
    blx__str_format(text, sizeof text, "vm%d", n);
    T_SHALL(fits ? 0 : BLX_E_BUSY, t_config(&t, text, sha256));
    struct blx_vm_spec spec = t_spec(text, 1);
    spec.config_sha256 = sha256;
    spec.flake = NULL;
    T_SHALL(fits ? 0 : BLX_E_QUOTA, t_create(&t, &spec, BLX_DESIRED_STOPPED));
  }
  T_SAYS("the cluster keeps 256 configs, the most it can, and VMs use all of them: delete a VM, or use a config that "
         "another VM has");
  t_close(&t);
}
END_TEST

START_TEST(stop__stops_the_dead_at_once_and_asks_the_living) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 2);
  t_run(&t, "web-1", 1);
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_STOPPING);
  ck_assert_int_eq(t_instance(&t, "web-2")->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(t_instance(&t, "web-2")->reason->code, BLX_REASON_CODE_STOPPED_BY_USER);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_STOPPING);
  T_SHALL(0, t_report(&t, "web-1", running));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_STOPPING);
  T_SHALL(0, t_report(&t, "web-1", died));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(t_instance(&t, "web-1")->reason->code, BLX_REASON_CODE_STOPPED_BY_USER);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_STOPPED);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(start__makes_the_dead_pending_and_forgets_their_failures) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  t_assign(&t, "web-1", 1);
  t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_FAILED, .dead = true, .has_exit = true, .exit_status = 1});
  ck_assert_uint_gt(t_instance(&t, "web-1")->not_before_ms, t.time_ms);
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_int_eq(i->phase, BLX_PHASE_PENDING);
  ck_assert_uint_eq(i->not_before_ms, 0);
  ck_assert_uint_eq(i->failures, 0);
  uint64_t revision = i->revision;
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  ck_assert_uint_eq(t_instance(&t, "web-1")->revision, revision);
  t_close(&t);
}
END_TEST

START_TEST(start_while_stopping__lets_the_stop_finish_and_then_starts_at_once) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  t_run(&t, "web-1", 1);
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_STOPPING);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_report(&t, "web-1", died));
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_int_eq(i->phase, BLX_PHASE_PENDING);
  ck_assert_uint_eq(i->not_before_ms, 0);
  ck_assert_uint_eq(i->failures, 0);
  T_SHALL(0, t_assign(&t, "web-1", 1));
  t_close(&t);
}
END_TEST

START_TEST(start_before_its_node_heard_of_the_stop__asks_how_it_is) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  t_run(&t, "web-1", 1);
  const struct blx_instance *i = t_instance(&t, "web-1");
  uint64_t uid = i->uid, seq = i->report_seq;
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  struct blx_assignment **share = NULL;
  size_t n = 0;
  ck_assert_int_eq(blx__state_share(t.st, 1, &arena, &share, &n, NULL).code, 0);
  ck_assert_uint_eq(n, 1);
  ck_assert(share[0]->tell);
  T_SHALL(0, t_report_as(&t, 1, uid, 1, seq, running));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_RUNNING);
  ck_assert_int_eq(blx__state_share(t.st, 1, &arena, &share, &n, NULL).code, 0);
  ck_assert(!share[0]->tell);
  blx__arena_free(&arena);
  t_close(&t);
}
END_TEST

START_TEST(delete__drops_what_has_no_node_and_waits_for_the_others) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 3);
  t_assign(&t, "web-1", 1);
  t_run(&t, "web-3", 2);
  T_SHALL(0, t_delete(&t, "web"));
  ck_assert_ptr_null(t_instance(&t, "web-2"));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_DELETING);
  ck_assert_str_eq(t_instance(&t, "web-1")->reason->text, "was deleted; node1 has not confirmed yet");
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_DELETING);
  T_SHALL(BLX_E_CONFLICT, t_create_named(&t, "web", 1));
  T_SAYS("the VM web is being deleted: its name is free when node1 and node2 confirmed");
  T_SHALL(BLX_E_CONFLICT, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  T_SHALL(BLX_E_CONFLICT, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  uint64_t revision = t_vm(&t, "web")->revision;
  T_SHALL(0, t_delete(&t, "web"));
  ck_assert_uint_eq(t_vm(&t, "web")->revision, revision);
  T_SHALL(0, t_report(&t, "web-1", gone));
  ck_assert_ptr_null(t_instance(&t, "web-1"));
  T_SHALL(0, t_report(&t, "web-3", running));
  ck_assert_int_eq(t_instance(&t, "web-3")->phase, BLX_PHASE_DELETING);
  T_SHALL(0, t_report(&t, "web-3", died));
  ck_assert_int_eq(t_instance(&t, "web-3")->phase, BLX_PHASE_DELETING);
  T_SHALL(BLX_E_CONFLICT, t_create_named(&t, "web", 1));
  t_check_indexes(&t);
  T_SHALL(0, t_report(&t, "web-3", gone));
  ck_assert_ptr_null(t_vm(&t, "web"));
  T_SHALL(0, t_create_named(&t, "web", 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(an_unknown_vm_or_an_old_revision__is_refused_with_both_numbers) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(BLX_E_NOT_FOUND, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  T_SHALL(BLX_E_NOT_FOUND, t_delete(&t, "web"));
  T_SAYS("there is no VM named web");
  t_create_named(&t, "web", 1);
  struct blx_op_vm_delete o = BLX_OP_VM_DELETE_INIT;
  o.name = "web";
  o.if_revision = 1;
  struct blx_op op = BLX_OP_INIT;
  op.vm_delete = &o;
  T_SHALL(BLX_E_STALE, t_apply(&t, &op));
  T_SAYS("the VM web has revision 5, not 1: read it again");
  o.if_revision = 5;
  T_SHALL(0, t_apply(&t, &op));
  t_close(&t);
}
END_TEST

START_TEST(the_phase_of_a_vm__is_the_one_furthest_from_done) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 3);
  t_run(&t, "web-1", 1);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_PENDING);
  t_assign(&t, "web-2", 2);
  t_assign(&t, "web-3", 2);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_CREATING);
  t_report(&t, "web-2", (struct t_seen){.phase = BLX_PHASE_STARTING, .code = BLX_REASON_CODE_BOOTING, .text = "boots"});
  t_report(&t, "web-3", running);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_STARTING);
  ck_assert_str_eq(t_vm(&t, "web")->reason->text, "boots");
  t_report(&t, "web-2", running);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_RUNNING);
  t_report(
      &t, "web-3",
      (struct t_seen){.phase = BLX_PHASE_FAILED, .code = BLX_REASON_CODE_BUILD_FAILED, .text = "no", .dead = true});
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_FAILED);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/op_vm", create__makes_the_instances_pending_dead_and_unplaced, create_stopped__waits_for_nobody,
              create_with_no_replicas__runs_and_says_that_it_has_none, replicas_absent__means_one,
              a_second_vm_of_one_name__is_refused, a_name_in_another_tenant__is_another_name,
              a_vm_named_like_an_instance__is_refused_and_the_other_way_round,
              a_strategy_or_name_that_cannot_be__is_refused_by_apply_too,
              a_config__is_checked_against_its_digest_and_goes_with_its_last_vm,
              configs__are_bounded_and_the_oldest_unused_one_makes_room,
              create__with_one_config_more_than_the_cluster_keeps_says_what_would_help,
              stop__stops_the_dead_at_once_and_asks_the_living,
              start__makes_the_dead_pending_and_forgets_their_failures,
              start_while_stopping__lets_the_stop_finish_and_then_starts_at_once,
              start_before_its_node_heard_of_the_stop__asks_how_it_is,
              delete__drops_what_has_no_node_and_waits_for_the_others,
              an_unknown_vm_or_an_old_revision__is_refused_with_both_numbers,
              the_phase_of_a_vm__is_the_one_furthest_from_done)
