/* More and fewer replicas. */
#include "../harness.h"
#include "support.h"

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
static const struct t_seen died = {.phase = BLX_PHASE_STOPPED, .dead = true};
static const struct t_seen gone = {.phase = BLX_PHASE_STOPPED, .dead = true, .gone = true};

/* web-1 and web-3 run on node1, web-2 on node2. */
static void open_web(struct t *t) {
  t_open_cluster(t, 2);
  ck_assert_int_eq(t_create_named(t, "web", 3), 0);
  t_run(t, "web-1", 1);
  t_run(t, "web-2", 2);
  t_run(t, "web-3", 1);
}

START_TEST(more_replicas__wait_for_nodes_and_nothing_else_changes) {
  struct t t;
  open_web(&t);
  uint64_t spec_revision = t_vm(&t, "web")->spec_revision, revision = blx__state_share_revision(t.st, 1);
  T_SHALL(0, t_scale(&t, "web", 5));
  const struct blx_vm *vm = t_vm(&t, "web");
  ck_assert_uint_eq(t.result.uid, vm->uid);
  ck_assert_uint_eq(vm->spec->replicas, 5);
  ck_assert_uint_eq(vm->revision, t.index);
  ck_assert_uint_eq(vm->spec_revision, spec_revision);
  ck_assert_int_eq(vm->phase, BLX_PHASE_PENDING);
  ck_assert_uint_eq(blx__state_share_revision(t.st, 1), revision);
  const struct blx_instance *i = t_instance(&t, "web-5");
  ck_assert_uint_eq(i->ordinal, 5);
  ck_assert_uint_eq(i->epoch, 0);
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_UNPLACED);
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 2);
  T_SHALL(0, t_assign(&t, "web-5", 2));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(fewer_replicas__take_the_highest_ordinals_when_their_nodes_confirmed) {
  struct t t;
  open_web(&t);
  T_SHALL(0, t_scale(&t, "web", 1));
  ck_assert(!t_vm(&t, "web")->deleting);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_RUNNING);
  ck_assert(!t_told(&t, "web-1")->remove);
  ck_assert(t_told(&t, "web-2")->remove && t_told(&t, "web-3")->remove);
  ck_assert_int_eq(t_instance(&t, "web-2")->phase, BLX_PHASE_DELETING);
  ck_assert_str_eq(t_instance(&t, "web-2")->reason->text, "was deleted; node2 has not confirmed yet");
  T_SHALL(0, t_report(&t, "web-3", running)); /* not heard of it yet */
  ck_assert_int_eq(t_instance(&t, "web-3")->phase, BLX_PHASE_DELETING);
  T_SHALL(0, t_report(&t, "web-3", died));
  ck_assert_str_eq(t_instance(&t, "web-3")->reason->text, "was deleted and has stopped; node1 removes its files");
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 0);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-3", 1));
  T_SAYS("web-3 is being deleted: the VM web has fewer replicas now");
  T_SHALL(0, t_report(&t, "web-3", gone));
  ck_assert_ptr_null(t_instance(&t, "web-3"));
  T_SHALL(0, t_report(&t, "web-2", gone));
  ck_assert_uint_eq(blx__state_counts(t.st).instances, 1);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(those_that_are_nowhere__go_at_once) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 3));
  T_SHALL(0, t_scale(&t, "web", 1));
  ck_assert_uint_eq(blx__state_counts(t.st).instances, 1);
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 1);
  uint64_t revision = t_vm(&t, "web")->revision;
  T_SHALL(0, t_scale(&t, "web", 1));
  ck_assert_uint_eq(t_vm(&t, "web")->revision, revision);
  T_SHALL(0, t_scale(&t, "web", 0));
  ck_assert_str_eq(t_vm(&t, "web")->reason->text, "it has no replicas");
  T_SHALL(0, t_scale(&t, "web", 2));
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 2);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_name__is_not_used_again_before_it_is_gone) {
  struct t t;
  open_web(&t);
  uint64_t old = t_instance(&t, "web-3")->uid;
  T_SHALL(0, t_scale(&t, "web", 2));
  T_SHALL(BLX_E_CONFLICT, t_scale(&t, "web", 4));
  T_SAYS("web-3 is being deleted since web was scaled to 2: its name is free when node1 confirmed");
  ck_assert_uint_eq(t_vm(&t, "web")->spec->replicas, 2);
  T_SHALL(0, t_report(&t, "web-3", gone));
  T_SHALL(0, t_scale(&t, "web", 4));
  ck_assert_uint_ne(t_instance(&t, "web-3")->uid, old);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(what_leaves__is_left_alone_by_start_stop_kill_and_restart) {
  struct t t;
  open_web(&t);
  T_SHALL(0, t_scale(&t, "web", 2));
  uint64_t revision = t_instance(&t, "web-3")->revision;
  T_SHALL(0, t_restart(&t, "web", BLX_ENDING_SHUT_DOWN));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_kill(&t, "web"));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  ck_assert_uint_eq(t_instance(&t, "web-3")->revision, revision);
  T_SHALL(BLX_E_CONFLICT, t_restart(&t, "web-3", BLX_ENDING_KILL));
  T_SAYS("web-3 is being deleted: nothing else can be done with it");
  T_SHALL(0, t_delete(&t, "web"));
  ck_assert_uint_eq(t_instance(&t, "web-3")->revision, revision);
  T_SHALL(0, t_report(&t, "web-3", gone));
  T_SHALL(0, t_report(&t, "web-2", gone));
  T_SHALL(0, t_report(&t, "web-1", gone));
  ck_assert_ptr_null(t_vm(&t, "web"));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(one_whose_node_is_silent__can_be_given_up_alone) {
  struct t t;
  open_web(&t);
  T_SHALL(BLX_E_CONFLICT, t_delete_force(&t, "web-3", 1));
  T_SAYS("web-3 is an instance of the VM web, which is to have it: scale web to fewer replicas first");
  T_SHALL(0, t_scale(&t, "web", 2));
  T_SHALL(BLX_E_CONFLICT, t_delete_force(&t, "web-3", 2));
  T_SAYS(
      "node1 is heard from and removes web-3 by itself; a node is Suspect after 9000 ms of silence (lease.suspect_ms)");
  uint64_t uid = t_instance(&t, "web-3")->uid;
  T_SHALL(0, t_delete_force(&t, "web-3", 1));
  ck_assert_uint_eq(t.result.uid, t_vm(&t, "web")->uid);
  ck_assert_uint_eq(blx__state_tombstone_on_node_after(t.st, 1, 0)->instance_uid, uid);
  T_SHALL(0, t_scale(&t, "web", 3));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-3", 1));
  T_SHALL(0, t_assign(&t, "web-3", 2));
  ck_assert_ptr_nonnull(t_instance(&t, "web-1"));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_fence__does_not_bring_back_what_leaves) {
  struct t t;
  t_open_cluster(&t, 2);
  T_SHALL(0, t_register_ha(&t, 1, 7));
  T_SHALL(0, t_create_ha(&t, "web", BLX_HA_POLICY_AUTO));
  T_SHALL(0, t_scale(&t, "web", 2));
  T_SHALL(0, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_assign(&t, "web-2", 1));
  T_SHALL(0, t_scale(&t, "web", 1));
  T_SHALL(0, t_fence_begin(&t, 1, 7, false));
  ck_assert(t_instance(&t, "web-1")->fenced && !t_instance(&t, "web-2")->fenced);
  T_SHALL(0, t_fence_done(&t, 1, 7));
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 1);
  ck_assert_int_eq(t_instance(&t, "web-2")->phase, BLX_PHASE_DELETING);
  T_SHALL(0, t_delete_force(&t, "web-2", 1));
  ck_assert_ptr_null(t_instance(&t, "web-2"));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(replicas_of_a_stopped_vm__are_made_stopped) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_vm_spec spec = t_spec("web", 1);
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_STOPPED));
  T_SHALL(0, t_scale(&t, "web", 2));
  ck_assert_int_eq(t_instance(&t, "web-2")->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_STOPPED);
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 0);
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  ck_assert_uint_eq(blx__state_counts(t.st).waiting, 2);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_scale__that_cannot_be_is_refused_and_changes_nothing) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 1));
  T_SHALL(0, t_create_named(&t, "web-3", 1));
  uint64_t revision = t_vm(&t, "web")->revision;
  T_SHALL(BLX_E_NOT_FOUND, t_scale(&t, "none", 2));
  T_SHALL(BLX_E_INVALID, t_scale(&t, "web", 1001));
  T_SAYS("replicas: 1001 is above 1000");
  T_SHALL(BLX_E_EXISTS, t_scale(&t, "web", 3));
  T_SAYS("replica 3 would be named web-3, and a VM has that name: choose another name");
  struct blx_op_vm_scale o = BLX_OP_VM_SCALE_INIT;
  o.name = "web";
  o.if_revision = revision + 1;
  struct blx_op op = BLX_OP_INIT;
  op.vm_scale = &o;
  T_SHALL(BLX_E_STALE, t_apply(&t, &op));
  ck_assert_uint_eq(t_vm(&t, "web")->revision, revision);
  T_SHALL(0, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_delete(&t, "web"));
  T_SHALL(BLX_E_CONFLICT, t_scale(&t, "web", 2));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/scale", more_replicas__wait_for_nodes_and_nothing_else_changes,
              fewer_replicas__take_the_highest_ordinals_when_their_nodes_confirmed, those_that_are_nowhere__go_at_once,
              a_name__is_not_used_again_before_it_is_gone, what_leaves__is_left_alone_by_start_stop_kill_and_restart,
              one_whose_node_is_silent__can_be_given_up_alone, a_fence__does_not_bring_back_what_leaves,
              replicas_of_a_stopped_vm__are_made_stopped, a_scale__that_cannot_be_is_refused_and_changes_nothing)
