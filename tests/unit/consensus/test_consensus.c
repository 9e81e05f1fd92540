#include "../harness.h"
#include "support.h"

#include <string.h>

static int propose_bytes(struct world *w, unsigned i, const void *bytes, size_t n, struct outcome *o) {
  *o = (struct outcome){0};
  return blx__consensus_propose(w->nodes[i].c, (struct blx__slice){bytes, n}, outcome_cb, o, NULL).code;
}

START_TEST(propose__on_the_leader_is_applied_everywhere_and_answered_once) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 5, &x), 0);
  ck_assert_uint_eq(x.fired, 0); /* never from inside the call */
  world_run_ms(w, 500);
  ck_assert_uint_eq(x.fired, 1);
  ck_assert_int_eq(x.code, 0);
  ck_assert_uint_eq(x.result_len, 8);
  for (unsigned i = 0; i < 3; i++) ck_assert(script_has(w, i, 5));
  script_free(w);
}
END_TEST

START_TEST(propose__on_a_follower_is_refused_and_names_the_leader) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  world_run_ms(w, 500);
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 1, 5, &x), BLX_E_NO_LEADER);
  ck_assert_uint_eq(blx__consensus_leader(w->nodes[1].c), 1);
  script_free(w);
}
END_TEST

START_TEST(propose__keeps_its_limits) {
  static uint8_t big[BLX__CONSENSUS_OP_MAX + 1];
  static struct outcome many[BLX__CONSENSUS_WAITING_MAX + 1];
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x;
  ck_assert_int_eq(propose_bytes(w, 0, big, 0, &x), BLX_E_INVALID);
  ck_assert_int_eq(propose_bytes(w, 0, big, sizeof big, &x), BLX_E_INVALID);
  for (unsigned i = 0; i < BLX__CONSENSUS_WAITING_MAX; i++) {
    memcpy(big, &(uint64_t){i + 1}, sizeof(uint64_t));
    ck_assert_int_eq(propose_bytes(w, 0, big, i % 64 == 0 ? BLX__CONSENSUS_OP_MAX : 8, &many[i]), 0);
  }
  ck_assert_int_eq(script_propose(w, 0, 99999, &x), BLX_E_BUSY);
  world_run_ms(w, 20000);
  for (unsigned i = 0; i < BLX__CONSENSUS_WAITING_MAX; i++) {
    ck_assert_uint_eq(many[i].fired, 1);
    ck_assert_int_eq(many[i].code, 0);
  }
  for (unsigned i = 0; i < 3; i++) ck_assert(script_has(w, i, BLX__CONSENSUS_WAITING_MAX));
  script_free(w);
}
END_TEST

START_TEST(a_cut_off_leader__answers_outcome_unknown_and_confirms_nothing) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  world_run_ms(w, 300);
  world_isolate(w, 0, true);
  struct outcome x, waits, read = {0};
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  world_run_ms(w, 10);
  ck_assert_int_eq(script_propose(w, 0, 2, &waits), 0);
  ck_assert_int_eq(blx__consensus_confirm(w->nodes[0].c, outcome_cb, &read, NULL).code, 0);
  world_run_ms(w, 5000);
  ck_assert_int_eq(x.code, BLX_E_TIMEOUT);       /* it was on its way */
  ck_assert_int_eq(waits.code, BLX_E_NO_LEADER); /* it never was in a log */
  ck_assert_int_eq(read.code, BLX_E_NO_LEADER);
  ck_assert_uint_eq(x.fired + waits.fired + read.fired, 3);
  ck_assert_ptr_nonnull(world_leader(w));
  ck_assert_uint_ne(world_leader(w)->uid, 1);
  script_free(w);
}
END_TEST

START_TEST(confirm__sees_what_was_acknowledged_before) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x, read[3] = {{0}};
  uint64_t last = raft_last_index((struct raft *)(uintptr_t)script_raft(w, 0));
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  ck_assert(world_until(w, script_fired, &x, 2000));
  for (unsigned i = 0; i < 3; i++)
    ck_assert_int_eq(blx__consensus_confirm(w->nodes[0].c, outcome_cb, &read[i], NULL).code, 0);
  ck_assert(world_until(w, script_fired, &read[2], 2000));
  for (unsigned i = 0; i < 3; i++) {
    ck_assert_int_eq(read[i].code, 0);
    ck_assert_uint_ge(read[i].index, x.index);
  }
  ck_assert_uint_eq(raft_last_index((struct raft *)(uintptr_t)script_raft(w, 0)), last + 1); /* no log entry */
  ck_assert_int_eq(blx__consensus_confirm(w->nodes[1].c, outcome_cb, &read[0], NULL).code, BLX_E_NO_LEADER);
  script_free(w);
}
END_TEST

START_TEST(add_member__brings_a_fourth_to_voter_through_a_snapshot) {
  const struct sim_options o = {.seed = 3, .snapshot_entries = 10, .snapshot_trailing = 2};
  struct world *w = script_new(&o);
  script_elect(w, 0);
  for (uint64_t id = 1; id <= 50; id++) {
    struct outcome x;
    ck_assert_int_eq(script_propose(w, 0, id, &x), 0);
    ck_assert(world_until(w, script_fired, &x, 2000));
  }
  node_start(world_add_node(w));
  struct outcome added = {0}, second = {0};
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 4, outcome_cb, &added, NULL).code, 0);
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 5, outcome_cb, &second, NULL).code, BLX_E_BUSY);
  ck_assert(world_until(w, script_fired, &added, 20000));
  ck_assert_int_eq(added.code, 0);
  world_run_ms(w, 1000);
  ck_assert(script_has(w, 3, 1) && script_has(w, 3, 50));
  struct blx__consensus_status s;
  blx__consensus_status(w->nodes[3].c, &s);
  ck_assert_uint_eq(s.members_count, 4);
  ck_assert_int_eq(s.members[3].membership, BLX__MEMBER_VOTER);
  script_free(w);
}
END_TEST

START_TEST(remove_member__takes_one_out_and_the_leader_must_hand_over_first) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x = {0}, y = {0};
  ck_assert_int_eq(blx__consensus_remove_member(w->nodes[0].c, 1, outcome_cb, &x, NULL).code, BLX_E_CONFLICT);
  ck_assert_int_eq(blx__consensus_transfer(w->nodes[0].c, 2, outcome_cb, &x, NULL).code, 0);
  ck_assert(world_until(w, script_fired, &x, 5000));
  ck_assert_int_eq(x.code, 0);
  world_run_ms(w, 1000);
  ck_assert_uint_eq(world_leader(w)->uid, 2);
  ck_assert_int_eq(blx__consensus_remove_member(w->nodes[1].c, 1, outcome_cb, &y, NULL).code, 0);
  ck_assert(world_until(w, script_fired, &y, 5000));
  ck_assert_int_eq(y.code, 0);
  struct blx__consensus_status s;
  blx__consensus_status(w->nodes[1].c, &s);
  ck_assert_uint_eq(s.members_count, 2);
  script_free(w);
}
END_TEST

START_TEST(transfer__to_nobody_is_refused) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x = {0};
  ck_assert_int_eq(blx__consensus_transfer(w->nodes[0].c, 1, outcome_cb, &x, NULL).code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx__consensus_transfer(w->nodes[0].c, 77, outcome_cb, &x, NULL).code, BLX_E_NOT_FOUND);
  script_free(w);
}
END_TEST

START_TEST(poison__completes_every_call_once_and_the_others_go_on) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x, read = {0};
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  ck_assert_int_eq(blx__consensus_confirm(w->nodes[0].c, outcome_cb, &read, NULL).code, 0);
  blx__consensus_poison(w->nodes[0].c, BLX_E_CORRUPT, "for the test");
  blx__consensus_poison(w->nodes[0].c, BLX_E_IO, "again");
  ck_assert_uint_eq(x.fired, 0);
  world_run_ms(w, 10000);
  ck_assert_uint_eq(x.fired, 1);
  ck_assert_int_eq(x.code, BLX_E_FATAL);
  ck_assert_int_eq(read.code, BLX_E_FATAL);
  ck_assert_int_eq(w->nodes[0].fatal_code, BLX_E_CORRUPT);
  ck_assert_int_eq(script_propose(w, 0, 2, &x), BLX_E_FATAL);
  ck_assert_ptr_nonnull(world_leader(w));
  ck_assert_uint_ne(world_leader(w)->uid, 1);
  script_free(w);
}
END_TEST

START_TEST(close__completes_what_waits_with_cancelled) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x, read = {0}, add = {0};
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  ck_assert_int_eq(blx__consensus_confirm(w->nodes[0].c, outcome_cb, &read, NULL).code, 0);
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 4, outcome_cb, &add, NULL).code, 0);
  node_crash(&w->nodes[0]);
  ck_assert_uint_eq(x.fired + read.fired + add.fired, 3);
  ck_assert_int_eq(x.code, BLX_E_CANCELLED);
  ck_assert_int_eq(read.code, BLX_E_CANCELLED);
  ck_assert_int_eq(add.code, BLX_E_CANCELLED);
  script_free(w);
}
END_TEST

static void fill_until_snapshot(struct world *w) {
  for (uint64_t id = 1; id <= 40; id++) {
    struct outcome x;
    ck_assert_int_eq(script_propose(w, 0, id, &x), 0);
    ck_assert(world_until(w, script_fired, &x, 2000));
  }
  world_run_ms(w, 500);
  for (unsigned i = 0; i < 3; i++) ck_assert_uint_ne(sim_disk_snapshot_index(&w->nodes[i]), 0);
}

START_TEST(a_snapshot_with_a_changed_byte__is_refused_at_start_and_nothing_is_empty) {
  const struct sim_options o = {.seed = 5, .snapshot_entries = 10, .snapshot_trailing = 2};
  struct world *w = script_new(&o);
  script_elect(w, 0);
  fill_until_snapshot(w);
  struct sim_node *n = &w->nodes[2];
  node_crash(n);
  struct blx__slice file;
  ck_assert_int_eq(blx__sim_disk_read(&n->disk, "snapshot", &file).code, 0);
  size_t len = file.len;
  for (size_t i = 0; i < len; i += 1 + len / 64) {
    ck_assert(blx__sim_disk_flip(&n->disk, "snapshot", i, 4));
    node_start(n);
    ck_assert(!n->alive);
    ck_assert_msg(w->failed && strstr(w->why, "snapshot") != NULL, "%s", w->why);
    w->failed = false;
    ck_assert(blx__sim_disk_flip(&n->disk, "snapshot", i, 4));
  }
  node_start(n);
  ck_assert(n->alive && script_has(w, 2, 1));
  script_free(w);
}
END_TEST

static void make_unreadable(void *arg, const struct store_record *r, uint8_t *data) {
  (void)arg;
  if (r->type == RAFT_COMMAND) data[0] = 99;
}

START_TEST(an_entry_that_cannot_be_read__poisons_and_is_not_skipped) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  ck_assert(world_until(w, script_fired, &x, 2000));
  world_run_ms(w, 500);
  struct sim_node *n = &w->nodes[2];
  node_crash(n);
  sim_disk_edit(&n->disk, make_unreadable, NULL);
  node_start(n);
  world_run_ms(w, 1000);
  ck_assert_int_eq(n->fatal_code, BLX_E_CORRUPT);
  ck_assert(!script_has(w, 2, 1));
  script_free(w);
}
END_TEST

START_TEST(cluster_time__never_goes_back_when_the_clock_does) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct blx__consensus_status before, after;
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  ck_assert(world_until(w, script_fired, &x, 2000));
  blx__consensus_status(w->nodes[0].c, &before);
  ck_assert_uint_gt(before.time_ms, 0);
  blx__sim_wall_set(&w->sim, 2, -1000000);
  node_crash(&w->nodes[0]);
  script_elect(w, 1);
  ck_assert_int_eq(script_propose(w, 1, 2, &x), 0);
  ck_assert(world_until(w, script_fired, &x, 2000));
  blx__consensus_status(w->nodes[1].c, &after);
  ck_assert_uint_eq(after.time_ms, before.time_ms);
  script_free(w);
}
END_TEST

START_TEST(bytes_of_anyone__do_no_harm) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  struct blx__sim_rng r = {.state = 42};
  uint8_t bytes[200];
  for (unsigned i = 0; i < 20000; i++) {
    size_t n = (size_t)blx__sim_rng_in(&r, 0, sizeof bytes);
    for (size_t k = 0; k < n; k++) bytes[k] = (uint8_t)blx__sim_rng_next(&r);
    if (n > 1) bytes[0] = 1, bytes[1] = (uint8_t)blx__sim_rng_in(&r, 0, 18);
    if (n > 9) memset(bytes + 2, 0, 8); /* a term of 0: it must not move the group's */
    blx__consensus_deliver(w->nodes[1].c, blx__sim_rng_in(&r, 0, 9), (struct blx__slice){bytes, n});
  }
  world_run_ms(w, 500);
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  ck_assert(world_until(w, script_fired, &x, 2000));
  ck_assert_int_eq(x.code, 0);
  script_free(w);
}
END_TEST

BLX_TEST_MAIN("consensus", propose__on_the_leader_is_applied_everywhere_and_answered_once,
              propose__on_a_follower_is_refused_and_names_the_leader, propose__keeps_its_limits,
              a_cut_off_leader__answers_outcome_unknown_and_confirms_nothing,
              confirm__sees_what_was_acknowledged_before, add_member__brings_a_fourth_to_voter_through_a_snapshot,
              remove_member__takes_one_out_and_the_leader_must_hand_over_first, transfer__to_nobody_is_refused,
              poison__completes_every_call_once_and_the_others_go_on, close__completes_what_waits_with_cancelled,
              a_snapshot_with_a_changed_byte__is_refused_at_start_and_nothing_is_empty,
              an_entry_that_cannot_be_read__poisons_and_is_not_skipped,
              cluster_time__never_goes_back_when_the_clock_does, bytes_of_anyone__do_no_harm)
