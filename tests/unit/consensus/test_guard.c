/* Each rule has a scenario that goes wrong without it: every test runs it twice, with the rule and without. */
#include "../harness.h"
#include "consensus/consensus_int.h"
#include "support.h"

#include <string.h>

static struct sim_options rules_off(unsigned mask) {
  return (struct sim_options){.seed = 11, .rules_off = mask};
}

static bool follows_in_term(struct world *w, void *arg) {
  return script_raft(w, 0)->state == RAFT_FOLLOWER && script_raft(w, 0)->current_term == *(uint64_t *)arg;
}

/* n1 holds an entry that nobody else has. A new leader n2, cut off from n3, reaches n1 with an empty message, then
 * proposes another entry at the same index and loses n1 again: is n1's old tail taken for it? */
static bool lonely_tail_is_counted(unsigned mask) {
  const struct sim_options o = rules_off(BLX__RULE_R2_BARRIER | mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 300);
  world_isolate(w, 0, true);
  struct outcome x, y;
  ck_assert_int_eq(script_propose(w, 0, 111, &x), 0);
  world_run_ms(w, 50);
  w->nodes[0].ticks_held = true;
  script_elect(w, 1);
  w->nodes[0].ticks_held = w->nodes[2].ticks_held = true;
  world_cut(w, 1, 2, true);
  world_cut(w, 2, 1, true);
  world_cut(w, 0, 1, false);
  world_cut(w, 1, 0, false);
  world_delay(w, 20000, 20000);
  uint64_t term = script_raft(w, 1)->current_term;
  ck_assert(world_until(w, follows_in_term, &term, 2000));
  ck_assert_int_eq(script_propose(w, 1, 222, &y), 0);
  world_cut(w, 1, 0, true);
  world_run_ms(w, 300);
  bool counted = y.fired && y.code == 0;
  script_free(w);
  return counted;
}

START_TEST(r1__a_tail_that_was_never_compared_is_not_acknowledged) {
  ck_assert(!lonely_tail_is_counted(0));
  ck_assert(lonely_tail_is_counted(BLX__RULE_R1_CLAMP));
}
END_TEST

/* n1 restarts with an entry of an older term that only it has, and leads again while its disk hangs. */
static bool old_entry_is_committed_by_counting(unsigned mask) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 500);
  world_isolate(w, 0, true);
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 111, &x), 0);
  world_run_ms(w, 50);
  uint64_t index = raft_last_index((struct raft *)(uintptr_t)script_raft(w, 0));
  node_crash(&w->nodes[0]);
  world_isolate(w, 0, false);
  node_start(&w->nodes[0]);
  bool still_there = raft_last_index((struct raft *)(uintptr_t)script_raft(w, 0)) == index;
  ck_assert(still_there);
  w->nodes[0].disk.held = true;
  w->nodes[1].votes_muted = w->nodes[2].votes_muted = true;
  world_run_ms(w, 8000);
  ck_assert_int_eq(script_raft(w, 0)->state, RAFT_LEADER);
  bool committed = script_raft(w, 0)->commit_index >= index;
  script_free(w);
  return committed;
}

START_TEST(r2__entries_of_older_terms_are_not_committed_by_counting) {
  ck_assert(!old_entry_is_committed_by_counting(0));
  ck_assert(old_entry_is_committed_by_counting(BLX__RULE_R2_BARRIER));
}
END_TEST

static int fate_after_a_failed_write(unsigned mask, struct outcome *x) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 300);
  w->nodes[0].fail_next_append = RAFT_IOERR;
  ck_assert_int_eq(script_propose(w, 0, 111, x), 0);
  world_run_ms(w, 200);
  int fatal = w->nodes[0].fatal_code;
  if (fatal) {
    struct outcome again;
    ck_assert_int_eq(script_propose(w, 0, 112, &again), BLX_E_FATAL);
    node_crash(&w->nodes[0]);
    node_start(&w->nodes[0]);
    script_elect(w, 1);
  }
  script_free(w);
  return fatal;
}

START_TEST(r3__a_failed_write_stops_the_member) {
  struct outcome x;
  ck_assert_int_eq(fate_after_a_failed_write(0, &x), BLX_E_IO);
  ck_assert_uint_eq(x.fired, 1);
  ck_assert_int_eq(x.code, BLX_E_FATAL);
  ck_assert_int_eq(fate_after_a_failed_write(BLX__RULE_R3_FAIL_STOP, &x), 0);
}
END_TEST

/* The vote cannot be written when leadership is handed to n2. libraft crashes on its own way back from there. */
static int fate_of_a_vote_that_fails(unsigned mask) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 500);
  w->nodes[1].fail_next_vote = RAFT_IOERR;
  struct outcome x = {0};
  ck_assert_int_eq(blx__consensus_transfer(w->nodes[0].c, 2, outcome_cb, &x, NULL).code, 0);
  world_run_ms(w, 10000);
  int fatal = w->nodes[1].fatal_code;
  ck_assert_ptr_nonnull(world_leader(w));
  script_free(w);
  return fatal;
}

START_TEST(r3__a_vote_that_cannot_be_written_stops_the_member_and_does_not_crash) {
  ck_assert_int_eq(fate_of_a_vote_that_fails(0), BLX_E_IO);
  ck_assert(script_ends_badly(fate_of_a_vote_that_fails, BLX__RULE_R3_FAIL_STOP));
}
END_TEST

static int fate_after_silence(unsigned mask) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 300);
  w->nodes[0].disk.held = true;
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 111, &x), 0);
  world_run_ms(w, 50000);
  ck_assert_int_eq(w->nodes[0].fatal_code, 0);
  world_run_ms(w, 15000);
  int fatal = w->nodes[0].fatal_code;
  script_free(w);
  return fatal;
}

START_TEST(r3__a_disk_that_never_answers_stops_the_member) {
  ck_assert_int_eq(fate_after_silence(0), BLX_E_IO);
  ck_assert_int_eq(fate_after_silence(BLX__RULE_R3_FAIL_STOP), 0);
}
END_TEST

static bool campaigns_with_a_write_in_flight(unsigned mask) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 300);
  w->nodes[1].disk.held = w->nodes[1].votes_muted = w->nodes[2].votes_muted = true;
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 111, &x), 0);
  world_run_ms(w, 200);
  node_crash(&w->nodes[0]);
  w->nodes[1].votes_muted = false;
  world_run_ms(w, 5000);
  bool campaigns = script_raft(w, 1)->state != RAFT_FOLLOWER;
  if (!campaigns) { /* and once it is on disk, it does */
    w->nodes[1].disk.held = false;
    sim_disk_release(&w->nodes[1]);
    script_elect(w, 1);
  }
  w->failed = false; /* without the rule anything may have happened */
  script_free(w);
  return campaigns;
}

START_TEST(r4__what_is_not_on_disk_is_not_advertised) {
  ck_assert(!campaigns_with_a_write_in_flight(0));
  ck_assert(campaigns_with_a_write_in_flight(BLX__RULE_R4_STORED_ONLY));
}
END_TEST

/* The leader hands over to a member that is still writing its last entry. */
START_TEST(r4__leadership_that_comes_before_the_log_is_on_disk_is_taken_then) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  world_run_ms(w, 300);
  w->nodes[1].disk.held = true;
  struct outcome entry = {0}, x = {0};
  ck_assert_int_eq(script_propose(w, 0, 111, &entry), 0);
  ck_assert(world_until(w, script_fired, &entry, 5000));
  ck_assert_int_eq(blx__consensus_transfer(w->nodes[0].c, 2, outcome_cb, &x, NULL).code, 0);
  world_run_ms(w, 200);
  ck_assert_uint_eq(x.fired, 0);
  w->nodes[1].disk.held = false;
  sim_disk_release(&w->nodes[1]);
  ck_assert(world_until(w, script_fired, &x, 5000));
  ck_assert_int_eq(x.code, 0);
  ck_assert_uint_eq(blx__consensus_leader(w->nodes[0].c), 2);
  script_free(w);
}
END_TEST

static bool installs(struct world *w, void *arg) {
  (void)arg;
  return w->nodes[2].c->guard.put_install;
}

static bool campaigns_during_an_install(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.snapshot_entries = 5;
  o.snapshot_trailing = 1;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  node_crash(&w->nodes[2]);
  for (uint64_t id = 1; id <= 30; id++) {
    struct outcome x;
    ck_assert_int_eq(script_propose(w, 0, id, &x), 0);
    ck_assert(world_until(w, script_fired, &x, 1000));
  }
  node_start(&w->nodes[2]);
  w->nodes[2].disk.held = true;
  ck_assert(world_until(w, installs, NULL, 5000));
  node_crash(&w->nodes[0]);
  node_crash(&w->nodes[1]);
  world_run_ms(w, 5000);
  bool campaigns = script_raft(w, 2)->state != RAFT_FOLLOWER;
  w->failed = false;
  script_free(w);
  return campaigns;
}

START_TEST(r5__no_candidate_while_a_snapshot_is_installed) {
  ck_assert(!campaigns_during_an_install(0));
  ck_assert(campaigns_during_an_install(BLX__RULE_R5_INSTALL));
}
END_TEST

/* Proposals that keep coming, faster than the followers' answers. */
static uint64_t committed_under_load(unsigned mask, unsigned *appends_max) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 500);
  world_delay(w, 20000, 20000);
  w->nodes[0].disk.min_us = w->nodes[0].disk.max_us = 1000;
  w->nodes[0].logio.appends_max_seen = 0;
  uint64_t before = script_raft(w, 0)->commit_index;
  struct outcome x[150];
  for (unsigned i = 0; i < 150; i++) {
    ck_assert_int_eq(script_propose(w, 0, i + 1, &x[i]), 0);
    world_run_ms(w, 12);
  }
  uint64_t after = script_raft(w, 0)->commit_index;
  *appends_max = w->nodes[0].logio.appends_max_seen;
  world_run_ms(w, 1000);
  for (unsigned i = 0; i < 150; i++) ck_assert_uint_eq(x[i].fired, 1);
  script_free(w);
  return after - before;
}

START_TEST(r10__entries_commit_while_proposals_keep_coming) {
  unsigned appends = 0;
  ck_assert_uint_ge(committed_under_load(0, &appends), 20);
  ck_assert_uint_eq(appends, 1);
  ck_assert_uint_le(committed_under_load(BLX__RULE_R10_ONE_OUTSTANDING, &appends), 2);
}
END_TEST

static bool commits_what_it_never_compared(unsigned mask) {
  const struct sim_options o = rules_off(BLX__RULE_R2_BARRIER | mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  world_run_ms(w, 300);
  world_isolate(w, 0, true);
  struct outcome x;
  ck_assert_int_eq(script_propose(w, 0, 111, &x), 0);
  world_run_ms(w, 50);
  const struct raft_message m = {
      .type = RAFT_IO_APPEND_ENTRIES,
      .append_entries = {.term = 9, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 2}};
  struct blx__buf bytes;
  blx__buf_init(&bytes, 4096);
  ck_assert(message_encode(&bytes, &m));
  blx__consensus_deliver(w->nodes[0].c, 2, (struct blx__slice){bytes.data, bytes.len});
  blx__buf_free(&bytes);
  bool committed = script_raft(w, 0)->commit_index == 2;
  script_free(w);
  return committed;
}

START_TEST(r16__commit_does_not_run_past_what_was_compared) {
  ck_assert(!commits_what_it_never_compared(0));
  ck_assert(commits_what_it_never_compared(BLX__RULE_R16_COMMIT));
}
END_TEST

/* Operations come faster than n3's disk syncs, for longer than any queue is. */
START_TEST(a_slow_disk__slows_its_member_down_and_does_not_stop_it) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  world_run_ms(w, 300);
  world_delay(w, 50, 100);
  for (unsigned i = 0; i < 3; i++) w->nodes[i].disk.min_us = w->nodes[i].disk.max_us = i == 2 ? 8000 : 200;
  enum { OPS = 5000 };
  struct outcome *x = calloc(OPS, sizeof *x);
  ck_assert_ptr_nonnull(x);
  for (uint64_t id = 1; id <= OPS; id++) {
    ck_assert_int_eq(script_propose(w, 0, id, &x[id - 1]), 0);
    world_run_ms(w, 1);
  }
  world_run_ms(w, 3000);
  ck_assert_int_eq(w->nodes[2].fatal_code, 0);
  ck_assert_uint_le(w->nodes[2].logio.appends_max_seen, 64);
  ck_assert(script_has(w, 2, OPS));
  script_free(w);
  free(x);
}
END_TEST

/* n1 is the only voter. n2, which is no voter, gets an entry that n1's disk loses in a crash; n1 then writes another.
 * They differ, or n1 waits for ever, for it believes what n2 says of an entry of that term. */
static bool two_entries_look_alike(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.nodes = 1;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  script_commit(w, 0, 1, 3);
  struct outcome add = {0}, lost;
  node_start(world_add_node(w));
  w->nodes[1].disk.held = true; /* so that it stays what it is: it does not catch up */
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 2, outcome_cb, &add, NULL).code, 0);
  world_run_ms(w, 1500);
  w->nodes[0].disk.held = true;
  ck_assert_int_eq(script_propose(w, 0, 111, &lost), 0);
  w->nodes[1].disk.held = false;
  sim_disk_release(&w->nodes[1]);
  world_run_ms(w, 1000);
  w->nodes[0].disk.reach_percent = 0; /* nothing of what is under way reaches the disk */
  node_crash(&w->nodes[0]);
  w->nodes[0].disk.held = false;
  node_start(&w->nodes[0]);
  script_elect(w, 0);
  struct outcome again;
  ck_assert_int_eq(script_propose(w, 0, 222, &again), 0);
  bool served = world_until(w, script_fired, &again, 2000);
  add = (struct outcome){0};
  int code = blx__consensus_add_member(w->nodes[0].c, 2, outcome_cb, &add, NULL).code;
  ck_assert(code == 0 || code == BLX_E_BUSY);
  world_run_ms(w, 3000);
  bool differ = w->failed;
  w->failed = false;
  script_free(w);
  return differ || !served;
}

START_TEST(r18__an_only_voter_writes_in_a_term_of_its_own) {
  ck_assert(!two_entries_look_alike(0));
  ck_assert(two_entries_look_alike(BLX__RULE_R18_OWN_TERM));
}
END_TEST

/* Two writes under way when a leader closes: an operation and a change of members. */
START_TEST(r17__a_close_with_two_writes_under_way_is_survived) {
  struct world *w = script_new(NULL);
  script_elect(w, 0);
  world_run_ms(w, 500);
  struct outcome x, add = {0};
  w->nodes[0].disk.held = true;
  ck_assert_int_eq(script_propose(w, 0, 1, &x), 0);
  world_run_ms(w, 20);
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 4, outcome_cb, &add, NULL).code, 0);
  world_run_ms(w, 20);
  ck_assert_uint_eq(w->nodes[0].logio.queue_count, 2);
  node_crash(&w->nodes[0]);
  ck_assert_uint_eq(x.fired + add.fired, 2);
  w->nodes[0].disk.held = false;
  node_start(&w->nodes[0]);
  script_elect(w, 1);
  script_free(w);
}
END_TEST

/* The simulated disk calls its close callback twice, as raft_uv does; a second pass through libraft frees twice. */
static int close_often(unsigned mask) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  for (unsigned i = 0; i < 200; i++) {
    world_run_ms(w, 37);
    node_crash(&w->nodes[i % 3]);
    node_start(&w->nodes[i % 3]);
  }
  script_elect(w, 0);
  script_free(w);
  return 0;
}

START_TEST(r17__a_close_told_twice_is_passed_on_once) {
  ck_assert_int_eq(close_often(0), 0);
  ck_assert(script_ends_badly(close_often, BLX__RULE_R17_CLOSED_ONCE));
}
END_TEST

BLX_TEST_MAIN("consensus/guard", r1__a_tail_that_was_never_compared_is_not_acknowledged,
              r2__entries_of_older_terms_are_not_committed_by_counting, r3__a_failed_write_stops_the_member,
              r3__a_vote_that_cannot_be_written_stops_the_member_and_does_not_crash,
              r3__a_disk_that_never_answers_stops_the_member, r4__what_is_not_on_disk_is_not_advertised,
              r4__leadership_that_comes_before_the_log_is_on_disk_is_taken_then,
              r5__no_candidate_while_a_snapshot_is_installed, r10__entries_commit_while_proposals_keep_coming,
              r16__commit_does_not_run_past_what_was_compared, r17__a_close_with_two_writes_under_way_is_survived,
              a_slow_disk__slows_its_member_down_and_does_not_stop_it, r18__an_only_voter_writes_in_a_term_of_its_own,
              r17__a_close_told_twice_is_passed_on_once)
