/* A node is forgotten when nothing ties it to the cluster, and never taken for another one. */
#include "../harness.h"
#include "support.h"

#include <string.h>

enum { OLD = 11 };

static const struct t_seen dead = {.phase = BLX_PHASE_STOPPED, .dead = true};

static void open_two(struct t *t) {
  t_open_cluster(t, 2);
  ck_assert_int_eq(t_register_ha(t, 1, OLD), 0);
  ck_assert_int_eq(t_register_ha(t, 2, 21), 0);
}

static void run_on(struct t *t, const char *vm, uint64_t uid, int32_t ha) {
  char instance[64];
  blx__str_format(instance, sizeof instance, "%s-1", vm);
  ck_assert_int_eq(t_create_ha(t, vm, ha), 0);
  t_run(t, instance, uid);
}

START_TEST(a_node_that_holds_nothing__goes_and_its_uid_never_comes_back) {
  struct t t;
  open_two(&t);
  T_SHALL(0, t_remove(&t, "node2"));
  ck_assert_uint_eq(t.result.uid, 2);
  ck_assert_ptr_null(blx__state_node(t.st, 2));
  ck_assert_ptr_null(blx__state_node_by_name(t.st, "node2"));
  ck_assert_uint_eq(blx__state_counts(t.st).nodes, 1);
  T_SHALL(BLX_E_NOT_FOUND, t_register_ha(&t, 2, 22));
  T_SAYS("the node with uid 2 was removed: wipe its data directory and join anew");
  T_SHALL(BLX_E_NOT_FOUND, t_register_ha(&t, 7, 22));
  T_SAYS("the cluster has no node with uid 7: it must join first");
  T_SHALL(0, t_join(&t, "node2", 8, 1024));
  ck_assert_uint_eq(t.result.uid, 3);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_voter_and_one_that_is_being_fenced__are_not_removed) {
  struct t t;
  open_two(&t);
  struct blx_op_node_voter o = BLX_OP_NODE_VOTER_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.uid = 2;
  o.voter = 1;
  op.node_voter = &o;
  T_SHALL(0, t_apply(&t, &op));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node2"));
  T_SAYS("the node node2 votes: it must stop voting before it is removed");
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node1"));
  T_SAYS("the node node1 is being fenced: remove it when it is Fenced");
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  T_SHALL(0, t_remove(&t, "node1"));
  T_SHALL(BLX_E_NOT_FOUND, t_remove(&t, "node1"));
  t_close(&t);
}
END_TEST

START_TEST(what_lives_there__is_named_with_the_way_out) {
  struct t t;
  open_two(&t);
  run_on(&t, "a", 1, BLX_HA_POLICY_AUTO);
  run_on(&t, "b", 1, BLX_HA_POLICY_OFF);
  run_on(&t, "c", 1, BLX_HA_POLICY_OFF);
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node1"));
  T_SAYS("a-1 and 2 more instances: not confirmed dead on node1: stop or delete what is there; if the machine is gone, "
         "`blixard node fence NODE`");
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node1"));
  T_SAYS("b-1 and 1 more instance: not confirmed dead on node1: `blixard vm delete VM --force` gives up what is there");
  T_SHALL(0, t_delete_force(&t, "b", 1));
  T_SHALL(0, t_delete_force(&t, "c", 1));
  T_SHALL(0, t_remove(&t, "node1"));
  /* What was fenced goes on without it. */
  const struct blx_instance *a = t_instance(&t, "a-1");
  ck_assert_uint_eq(a->node_uid, 0);
  ck_assert_uint_eq(a->epoch, 2);
  t_check_rebuilt(&t);
  T_SHALL(0, t_assign(&t, "a-1", 2));
  ck_assert_uint_eq(t_instance(&t, "a-1")->epoch, 3);
  t_close(&t);
}
END_TEST

START_TEST(a_stopped_one_whose_disk_is_there__is_not_left_behind) {
  struct t t;
  open_two(&t);
  run_on(&t, "a", 1, BLX_HA_POLICY_OFF);
  struct t_seen end = dead;
  end.local_data = true;
  T_SHALL(0, t_desire(&t, "a", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_report(&t, "a-1", end));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node1"));
  T_SAYS("a-1: the disk is on node1: `blixard vm delete VM`, if need be with --force, gives it up");
  T_SHALL(0, t_delete(&t, "a"));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node1"));
  T_SAYS("a-1: deleted, and node1 has not confirmed yet that it is gone");
  T_SHALL(0, t_report(&t, "a-1", (struct t_seen){.dead = true, .gone = true}));
  T_SHALL(0, t_remove(&t, "node1"));
  t_close(&t);
}
END_TEST

START_TEST(a_stopped_one_without_a_disk__starts_anywhere_later) {
  struct t t;
  open_two(&t);
  run_on(&t, "a", 1, BLX_HA_POLICY_OFF);
  T_SHALL(0, t_desire(&t, "a", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_report(&t, "a-1", dead));
  T_SHALL(0, t_remove(&t, "node1"));
  ck_assert_int_eq(t_instance(&t, "a-1")->phase, BLX_PHASE_STOPPED);
  T_SHALL(0, t_desire(&t, "a", BLX_DESIRED_RUNNING));
  T_SHALL(0, t_assign(&t, "a-1", 2));
  t_close(&t);
}
END_TEST

START_TEST(tombstones__keep_a_living_node_and_go_with_a_dead_one) {
  struct t t;
  open_two(&t);
  run_on(&t, "a", 1, BLX_HA_POLICY_OFF);
  T_SHALL(0, t_delete_force(&t, "a", 1));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node1"));
  T_SAYS("node1 must still remove 1 instance that was deleted by force: start it, or have it fenced");
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  T_SHALL(0, t_remove(&t, "node1"));
  ck_assert_uint_eq(blx__state_tombstone_node_after(t.st, NULL, "a-1", 0), 0);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_deleted_one_that_a_dead_node_was_to_remove__is_gone_with_it) {
  struct t t;
  open_two(&t);
  run_on(&t, "a", 1, BLX_HA_POLICY_AUTO);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  T_SHALL(0, t_delete(&t, "a"));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  ck_assert_ptr_nonnull(t_vm(&t, "a"));
  T_SHALL(0, t_remove(&t, "node1"));
  ck_assert_ptr_null(t_vm(&t, "a"));
  t_close(&t);
}
END_TEST

START_TEST(a_revision_that_is_over__is_refused) {
  struct t t;
  open_two(&t);
  struct blx_op_node_remove o = BLX_OP_NODE_REMOVE_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.name = "node2";
  o.if_revision = blx__state_node(t.st, 2)->revision - 1;
  op.node_remove = &o;
  T_SHALL(BLX_E_STALE, t_apply(&t, &op));
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/remove", a_node_that_holds_nothing__goes_and_its_uid_never_comes_back,
              a_voter_and_one_that_is_being_fenced__are_not_removed, what_lives_there__is_named_with_the_way_out,
              a_stopped_one_whose_disk_is_there__is_not_left_behind,
              a_stopped_one_without_a_disk__starts_anywhere_later,
              tombstones__keep_a_living_node_and_go_with_a_dead_one,
              a_deleted_one_that_a_dead_node_was_to_remove__is_gone_with_it, a_revision_that_is_over__is_refused)
