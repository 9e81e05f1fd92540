/* After a recovery whose log may lack what others had acknowledged: nothing may run twice, whatever that was. */
#include "../harness.h"
#include "support.h"

#include <string.h>

#define ERA (UINT64_C(1) << 32)

enum { UIDS = 1 << 24, NODES = 1 << 16, BYTES_MAX = 1 << 20 };

static int regroup(struct t *t, uint64_t survivor, uint64_t below) {
  struct blx_op_regroup o = BLX_OP_REGROUP_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.survivor_uid = survivor;
  o.below = below;
  op.regroup = &o;
  return t_apply(t, &op);
}

static int clear(struct t *t, uint64_t uid, uint64_t incarnation, uint64_t era) {
  struct blx_op_node_clear o = BLX_OP_NODE_CLEAR_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.node_uid = uid;
  o.incarnation = incarnation;
  o.era = era;
  op.node_clear = &o;
  return t_apply(t, &op);
}

/* By the operator's word, or by a lease's end. */
static int prove(struct t *t, uint64_t uid, uint64_t incarnation, bool whole) {
  struct blx_op_fence_done o = BLX_OP_FENCE_DONE_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.node_uid = uid;
  o.incarnation = incarnation;
  o.proof = whole ? "operator root: unplugged" : "lease: not answered for 40 s";
  o.whole = whole;
  op.fence_done = &o;
  return t_apply(t, &op);
}

/* Three servers, of which node1 goes on: web-1 ran on node2, db-1 was dead on node3 and waits, new-1 was never
 * assigned. */
static struct t lost(void) {
  struct t t;
  t_open_cluster(&t, 3);
  for (uint64_t uid = 1; uid <= 3; uid++) T_SHALL(0, t_register_ha(&t, uid, 10 + uid));
  T_SHALL(0, t_create_named(&t, "web", 1));
  T_SHALL(0, t_create_named(&t, "db", 1));
  T_SHALL(0, t_create_named(&t, "new", 1));
  T_SHALL(0, t_assign(&t, "web-1", 2));
  T_SHALL(0, t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_RUNNING}));
  T_SHALL(0, t_assign(&t, "db-1", 3));
  T_SHALL(0,
          t_report(&t, "db-1",
                   (struct t_seen){.phase = BLX_PHASE_STOPPED, .code = BLX_REASON_CODE_NODE_RESTARTED, .dead = true}));
  t.time_ms += 600000; /* whatever back-off there is is over */
  T_SHALL(0, regroup(&t, 1, 4));
  ck_assert_uint_eq(blx__state_era(t.st), ERA);
  ck_assert_uint_eq(blx__state_unclear(t.st), 3);
  t_check_rebuilt(&t);
  return t;
}

static void clear_all(struct t *given) {
  struct t t = *given;
  for (uint64_t uid = 1; uid <= 3; uid++) T_SHALL(0, clear(&t, uid, 10 + uid, ERA));
  *given = t;
}

START_TEST(what_was_there_before__is_started_nowhere_until_every_node_is_clear) {
  struct t t = lost();
  T_SHALL(0, clear(&t, 1, 11, ERA));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "db-1", 1));
  T_SAYS("db-1 may run where a part of the log that is lost had put it: 2 nodes have not said what runs there");
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "new-1", 1)); /* never assigned, as far as is known */
  T_SHALL(0, clear(&t, 2, 12, ERA));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "db-1", 1));
  T_SHALL(0, clear(&t, 3, 13, ERA));
  ck_assert_uint_eq(blx__state_unclear(t.st), 0);
  T_SHALL(0, t_assign(&t, "db-1", 1));
  T_SHALL(0, t_assign(&t, "new-1", 1));
  ck_assert_uint_eq(t_instance(&t, "db-1")->epoch, ERA); /* above all that may have been given */
  ck_assert_uint_eq(t_instance(&t, "new-1")->epoch, ERA);
  ck_assert_uint_eq(t_instance(&t, "new-1")->restarts, 0);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(what_is_made_after_it__is_placed_at_once_on_a_node_that_is_clear_with_uids_of_its_own) {
  struct t t = lost();
  T_SHALL(0, clear(&t, 1, 11, ERA));
  T_SHALL(0, t_create_named(&t, "late", 1));
  ck_assert_uint_ge(t_instance(&t, "late-1")->uid, UIDS);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "late-1", 2));
  ck_assert_ptr_nonnull(strstr(t.result.message, "node2, which has not said since the recovery what runs there"));
  T_SHALL(0, t_assign(&t, "late-1", 1));
  ck_assert_uint_eq(t_instance(&t, "late-1")->epoch, 1);
  T_SHALL(0, t_join(&t, "fresh", 8, 1024)); /* there was no such node: it has nothing to say */
  ck_assert_uint_ge(t.result.uid, NODES);
  ck_assert(!blx__state_is_unclear(t.st, t.result.uid));
  /* A server that only the lost part knew is gone as the others are. */
  ck_assert(blx__state_is_gone(t.st, 4) && blx__state_is_gone(t.st, NODES - 1) && !blx__state_is_gone(t.st, NODES));
  t_close(&t);
}
END_TEST

START_TEST(a_share__holds_what_is_not_known_dead_until_all_is_clear) {
  struct t t = lost();
  ck_assert(t_told(&t, "web-1")->held);
  ck_assert(!t_told(&t, "db-1")->held && t_told(&t, "db-1")->dead);
  uint64_t revision = blx__state_share_revision(t.st, 2);
  clear_all(&t);
  ck_assert(!t_told(&t, "web-1")->held);
  ck_assert_uint_gt(blx__state_share_revision(t.st, 2), revision);
  t_close(&t);
}
END_TEST

START_TEST(what_is_seen_running_where_it_was__runs_on_and_is_free) {
  struct t t = lost();
  uint64_t revision = blx__state_share_revision(t.st, 2);
  T_SHALL(0, t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_RUNNING})); /* of before, late on its way */
  ck_assert(t_told(&t, "web-1")->held);
  T_SHALL(0, t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_STARTING, .era = ERA}));
  ck_assert(t_told(&t, "web-1")->held);
  /* Told once more, under the number that was taken over already. */
  const struct blx_instance *i = t_instance(&t, "web-1");
  T_SHALL(0, t_report_as(&t, 2, i->uid, 1, i->report_seq, (struct t_seen){.phase = BLX_PHASE_RUNNING, .era = ERA}));
  ck_assert(!t_told(&t, "web-1")->held);
  ck_assert_uint_gt(blx__state_share_revision(t.st, 2), revision);
  T_SHALL(0, clear(&t, 1, 11, ERA));
  /* It ends, and starts again although others are not clear: they cannot have it. */
  T_SHALL(0, t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_STOPPED, .dead = true, .era = ERA}));
  t.time_ms += 600000;
  T_SHALL(0, t_assign(&t, "web-1", 1));
  ck_assert_uint_eq(t_instance(&t, "web-1")->epoch, ERA);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(an_epoch_that_only_the_lost_part_gave_on_the_same_node__is_learnt_from_it) {
  struct t t = lost();
  uint64_t db = t_instance(&t, "db-1")->uid, web = t_instance(&t, "web-1")->uid;
  T_SHALL(0, t_report_as(&t, 3, db, 4, 7, (struct t_seen){.phase = BLX_PHASE_RUNNING})); /* not by a share of now */
  ck_assert_uint_eq(t.result.n_stale_instances, 1);
  T_SHALL(0, t_report_as(&t, 3, db, 4, 7, (struct t_seen){.phase = BLX_PHASE_RUNNING, .era = ERA}));
  ck_assert_uint_eq(t.result.n_stale_instances, 0);
  ck_assert_uint_eq(t_instance(&t, "db-1")->epoch, 4);
  ck_assert(!t_instance(&t, "db-1")->dead && t_instance(&t, "db-1")->phase == BLX_PHASE_RUNNING);
  /* It died under one. */
  T_SHALL(0, t_report_as(&t, 2, web, 3, 9, (struct t_seen){.phase = BLX_PHASE_STOPPED, .dead = true, .era = ERA}));
  ck_assert(t_instance(&t, "web-1")->dead);
  t.time_ms += 600000;
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 2));
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(what_runs_elsewhere__is_stale_and_stays_held) {
  struct t t = lost();
  uint64_t db = t_instance(&t, "db-1")->uid;
  T_SHALL(0, t_report_as(&t, 2, db, 2, 7, (struct t_seen){.phase = BLX_PHASE_RUNNING, .era = ERA}));
  ck_assert_uint_eq(t.result.n_stale_instances, 1); /* kill it */
  T_SHALL(0, clear(&t, 1, 11, ERA));
  T_SHALL(0, clear(&t, 3, 13, ERA));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "db-1", 1));
  T_SHALL(0, clear(&t, 2, 12, ERA)); /* it is killed there */
  T_SHALL(0, t_assign(&t, "db-1", 1));
  t_close(&t);
}
END_TEST

START_TEST(a_gone_node__is_cleared_by_a_proof_that_its_machine_is_off_and_by_no_lease) {
  struct t t = lost();
  T_SHALL(0, clear(&t, 1, 11, ERA));
  T_SHALL(0, clear(&t, 2, 12, ERA));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node3"));
  ck_assert_ptr_nonnull(strstr(t.result.message, "`blixard node fence node3 --proved 'HOW YOU KNOW'`"));
  T_SHALL(0, t_fence_begin(&t, 3, 13, true));
  T_SHALL(0, prove(&t, 3, 13, false));
  ck_assert(blx__state_is_unclear(t.st, 3));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "db-1", 1));
  T_SHALL(BLX_E_CONFLICT, t_remove(&t, "node3"));
  T_SHALL(0, t_fence_begin(&t, 3, 13, true)); /* fenced as it is, it is asked for */
  T_SHALL(0, prove(&t, 3, 13, true));
  ck_assert_uint_eq(blx__state_unclear(t.st), 0);
  T_SHALL(0, t_assign(&t, "db-1", 1));
  T_SHALL(0, t_remove(&t, "node3"));
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_node_speaks_for_itself__in_its_present_start_and_of_the_present_era) {
  struct t t = lost();
  T_SHALL(BLX_E_STALE, clear(&t, 2, 99, ERA));
  T_SHALL(BLX_E_STALE, clear(&t, 2, 0, ERA));
  T_SHALL(BLX_E_STALE, clear(&t, 2, 12, 0));
  T_SHALL(BLX_E_STALE, clear(&t, 2, 12, 2 * ERA));
  T_SHALL(BLX_E_NOT_FOUND, clear(&t, 9, 12, ERA));
  clear_all(&t);
  T_SHALL(0, t_assign(&t, "db-1", 3));
  T_SHALL(0, t_join(&t, "other", 8, 1024));
  T_SHALL(0, regroup(&t, 1, blx__state_next_node_uid(t.st))); /* once more */
  ck_assert_uint_eq(blx__state_era(t.st), 2 * ERA);
  ck_assert_uint_eq(blx__state_unclear(t.st), 4);
  T_SHALL(BLX_E_STALE, clear(&t, 2, 12, ERA));
  T_SHALL(0, regroup(&t, 1, NODES)); /* said again: nothing changes */
  ck_assert_uint_eq(blx__state_era(t.st), 2 * ERA);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_fence__gives_epochs_of_the_new_era) {
  struct t t = lost();
  T_SHALL(0, t_create_ha(&t, "other", BLX_HA_POLICY_AUTO)); /* of now: not held */
  T_SHALL(0, clear(&t, 1, 11, ERA));
  T_SHALL(0, t_assign(&t, "other-1", 1));
  T_SHALL(0, t_fence_begin(&t, 1, 11, true));
  ck_assert_uint_eq(t_instance(&t, "other-1")->epoch, 2);
  t_close(&t);

  t_open_cluster(&t, 2);
  for (uint64_t uid = 1; uid <= 2; uid++) T_SHALL(0, t_register_ha(&t, uid, 10 + uid));
  T_SHALL(0, t_create_ha(&t, "old", BLX_HA_POLICY_AUTO));
  T_SHALL(0, t_assign(&t, "old-1", 2));
  T_SHALL(0, regroup(&t, 1, 3));
  T_SHALL(0, t_fence_begin(&t, 2, 12, false));
  ck_assert_uint_eq(t_instance(&t, "old-1")->epoch, ERA);
  T_SHALL(0, prove(&t, 2, 12, false));
  T_SHALL(0, clear(&t, 1, 11, ERA));
  ck_assert(t_instance(&t, "old-1")->dead);
  T_SHALL(0, t_fence_begin(&t, 2, 12, true));
  T_SHALL(0, prove(&t, 2, 12, true));
  T_SHALL(0, t_assign(&t, "old-1", 1));
  ck_assert_uint_eq(t_instance(&t, "old-1")->epoch, ERA + 1);
  t_close(&t);
}
END_TEST

START_TEST(a_snapshot__keeps_who_is_clear_and_what_is_held) {
  struct t t = lost(), twin;
  struct blx__buf b;
  T_SHALL(0, clear(&t, 2, 12, ERA));
  blx__buf_init(&b, BYTES_MAX);
  t_open(&twin, 0);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  ck_assert_int_eq(blx__state_restore(twin.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  ck_assert_uint_eq(blx__state_era(twin.st), ERA);
  ck_assert_uint_eq(blx__state_unclear(twin.st), 2);
  ck_assert(blx__state_is_unclear(twin.st, 1) && !blx__state_is_unclear(twin.st, 2));
  ck_assert(blx__state_is_held(twin.st, t_instance(&twin, "web-1")));
  blx__buf_free(&b);
  t_close(&twin);
  t_close(&t);
}
END_TEST

START_TEST(what_a_fence_proved_dead_where_it_was__may_run_elsewhere_and_stays_held) {
  struct t t;
  t_open_cluster(&t, 3);
  for (uint64_t uid = 1; uid <= 3; uid++) T_SHALL(0, t_register_ha(&t, uid, 10 + uid));
  T_SHALL(0, t_create_ha(&t, "old", BLX_HA_POLICY_AUTO));
  T_SHALL(0, t_assign(&t, "old-1", 2));
  T_SHALL(0, regroup(&t, 1, 4)); /* the lost part had given it to node3 */
  T_SHALL(0, clear(&t, 1, 11, ERA));
  T_SHALL(0, t_fence_begin(&t, 2, 12, true));
  T_SHALL(0, prove(&t, 2, 12, true));
  ck_assert(t_instance(&t, "old-1")->dead);
  ck_assert(blx__state_is_unclear(t.st, 3));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "old-1", 1));
  T_SHALL(0, clear(&t, 3, 13, ERA));
  T_SHALL(0, t_assign(&t, "old-1", 1));
  t_close(&t);
}
END_TEST

START_TEST(a_held_one__keeps_its_name_until_every_node_is_clear) {
  struct t t;
  t_open_cluster(&t, 3);
  for (uint64_t uid = 1; uid <= 3; uid++) T_SHALL(0, t_register_ha(&t, uid, 10 + uid));
  T_SHALL(0, t_create_named(&t, "old", 2));
  T_SHALL(0, regroup(&t, 1, 4)); /* the lost part had given them to node3 */
  T_SHALL(BLX_E_CONFLICT, t_delete(&t, "old"));
  T_SHALL(BLX_E_CONFLICT, t_scale(&t, "old", 1));
  for (uint64_t uid = 1; uid <= 3; uid++) T_SHALL(0, clear(&t, uid, 10 + uid, ERA));
  T_SHALL(0, t_scale(&t, "old", 1));
  T_SHALL(0, t_delete(&t, "old"));
  T_SHALL(0, t_create_named(&t, "old", 1));
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/regroup", what_was_there_before__is_started_nowhere_until_every_node_is_clear,
              what_is_made_after_it__is_placed_at_once_on_a_node_that_is_clear_with_uids_of_its_own,
              a_share__holds_what_is_not_known_dead_until_all_is_clear,
              what_is_seen_running_where_it_was__runs_on_and_is_free,
              an_epoch_that_only_the_lost_part_gave_on_the_same_node__is_learnt_from_it,
              what_runs_elsewhere__is_stale_and_stays_held,
              a_gone_node__is_cleared_by_a_proof_that_its_machine_is_off_and_by_no_lease,
              a_node_speaks_for_itself__in_its_present_start_and_of_the_present_era,
              a_fence__gives_epochs_of_the_new_era, a_held_one__keeps_its_name_until_every_node_is_clear,
              what_a_fence_proved_dead_where_it_was__may_run_elsewhere_and_stays_held,
              a_snapshot__keeps_who_is_clear_and_what_is_held)
