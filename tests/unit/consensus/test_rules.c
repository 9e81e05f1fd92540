/* More of the guard's rules: limits, room, votes, and what was compacted. As in test_guard.c, each runs with and
 * without.
 */
#include "../harness.h"
#include "consensus/guard_int.h"
#include "support.h"

#include <string.h>
#include <unistd.h>

static struct sim_options rules_off(unsigned mask) {
  return (struct sim_options){.seed = 11, .rules_off = mask};
}

/* ---- R8 */

/* How many of 100 operations of a kilobyte a leader takes whose snapshots fail; with room for 32 of them. */
static unsigned taken_without_snapshots(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.snapshot_entries = 10;
  o.log_bytes_max = 32 << 10;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  for (unsigned i = 0; i < 3; i++) w->nodes[i].snapshots_fail = true;
  unsigned taken = 0;
  for (uint64_t id = 1; id <= 100; id++) {
    uint8_t op[1024] = {0};
    struct outcome x = {0};
    memcpy(op, &id, sizeof id);
    blx_error err = {0};
    int code = blx__consensus_propose(w->nodes[0].c, (struct blx__slice){op, sizeof op}, outcome_cb, &x, &err).code;
    if (code == 0) {
      taken++;
      ck_assert(world_until(w, script_fired, &x, 2000));
    } else {
      ck_assert_int_eq(code, BLX_E_BUSY);
      ck_assert_msg(strstr(err.message, "32768") != NULL, "%s", err.message);
    }
  }
  for (unsigned i = 0; i < 3; i++) w->nodes[i].snapshots_fail = false;
  world_run_ms(w, 5000); /* it frees itself, though nothing is let in meanwhile */
  script_commit(w, 0, 1000, 1005);
  world_run_ms(w, 2000);
  ck_assert_uint_ne(sim_disk_snapshot_index(&w->nodes[0]), 0);
  script_free(w);
  return taken;
}

START_TEST(r8__a_log_that_cannot_be_compacted_is_bounded_and_recovers) {
  unsigned taken = taken_without_snapshots(0);
  ck_assert_uint_ge(taken, 20);
  ck_assert_uint_le(taken, 32);
  ck_assert_uint_eq(taken_without_snapshots(BLX__RULE_R8_LOG_BYTES), 100);
}
END_TEST

/* Snapshots sent to a member that was away for less than the time between two of them. */
static uint64_t installs_after_a_short_absence(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.snapshot_entries = 40;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  uint64_t id = 0;
  while (sim_disk_snapshot_index(&w->nodes[0]) < 60) script_commit(w, 0, id + 1, id + 1), id++;
  script_commit(w, 0, id + 1, id + 15);
  id += 15;
  node_crash(&w->nodes[2]);
  uint64_t before = sim_disk_snapshot_index(&w->nodes[0]);
  while (sim_disk_snapshot_index(&w->nodes[0]) == before) script_commit(w, 0, id + 1, id + 1), id++;
  node_start(&w->nodes[2]);
  world_run_ms(w, 3000);
  ck_assert(script_has(w, 2, id));
  uint64_t sent = w->installs_sent;
  script_free(w);
  return sent;
}

START_TEST(r8__a_member_that_was_away_shortly_needs_no_snapshot) {
  ck_assert_uint_eq(installs_after_a_short_absence(0), 0);
  ck_assert_uint_gt(installs_after_a_short_absence(BLX__RULE_R8_LOG_BYTES), 0);
}
END_TEST

static bool snapshots_come_together(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.snapshot_entries = 40;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  script_commit(w, 0, 1, 70);
  world_run_ms(w, 1000);
  uint64_t at[3];
  for (unsigned i = 0; i < 3; i++) {
    at[i] = sim_disk_snapshot_index(&w->nodes[i]);
    ck_assert_uint_ne(at[i], 0);
  }
  script_free(w);
  return at[0] == at[1] && at[1] == at[2];
}

START_TEST(r8__members_do_not_all_write_their_snapshot_in_one_moment) {
  ck_assert(!snapshots_come_together(0));
  ck_assert(snapshots_come_together(BLX__RULE_R8_LOG_BYTES));
}
END_TEST

/* ---- R19 */

static bool is_candidate_voter(struct world *w, void *arg) {
  (void)arg;
  struct blx__consensus_status s;
  blx__consensus_status(w->nodes[0].c, &s);
  return s.members_count == 2 && s.members[1].membership == BLX__MEMBER_VOTER;
}

static bool serves(struct world *w, void *arg) {
  (void)arg;
  return world_leader(w) != NULL;
}

/* n1 made n2 a voter, wrote that down and crashed before n2 heard of it. Is there ever a leader again? */
static bool leads_again(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.nodes = 1;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  script_commit(w, 0, 1, 3);
  struct outcome add = {0};
  node_start(world_add_node(w));
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 2, outcome_cb, &add, NULL).code, 0);
  ck_assert(world_until(w, is_candidate_voter, NULL, 20000));
  world_isolate(w, 0, true);
  world_run_ms(w, 200);
  node_crash(&w->nodes[0]);
  world_isolate(w, 0, false);
  node_start(&w->nodes[0]);
  ck_assert_int_eq(script_raft(w, 0)->state, RAFT_FOLLOWER); /* it needs n2 */
  bool led = world_until(w, serves, NULL, 20000);
  script_free(w);
  return led;
}

START_TEST(r19__a_voter_that_does_not_know_it_votes) {
  ck_assert(leads_again(0));
  ck_assert(!leads_again(BLX__RULE_R19_VOTE));
}
END_TEST

/* ---- R20 */

/* A message that was under way for long: the whole log of @from, which has not been compacted. */
static void deliver_whole_log(struct world *w, unsigned from, unsigned to) {
  enum { ENTRIES_MAX = 64 };
  const struct raft *r = script_raft(w, from);
  struct raft_entry entries[ENTRIES_MAX];
  struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
  m.append_entries = (struct raft_append_entries){.term = r->current_term, .entries = entries};
  for (const struct raft_entry *e; (e = guard_entry(r, m.append_entries.n_entries + 1)) != NULL;) {
    ck_assert_uint_lt(m.append_entries.n_entries, ENTRIES_MAX);
    entries[m.append_entries.n_entries++] = *e;
  }
  struct blx__buf bytes;
  blx__buf_init(&bytes, 1 << 20);
  ck_assert(message_encode(&bytes, &m));
  blx__consensus_deliver(w->nodes[to].c, w->nodes[from].uid, (struct blx__slice){bytes.data, bytes.len});
  blx__buf_free(&bytes);
}

/* n1 has compacted its log, n3, which leads, has not. By how much n1's log is then longer than n3's. */
static int surplus_after_old_entries(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.snapshot_entries = 40;
  o.snapshot_trailing = 1;
  struct world *w = script_new(&o);
  script_elect(w, 2);
  script_commit(w, 2, 1, 47);
  world_run_ms(w, 500);
  ck_assert_uint_gt(script_raft(w, 0)->log.offset, 0);
  ck_assert_uint_eq(script_raft(w, 2)->log.offset, 0);
  struct blx__consensus_status here, there;
  deliver_whole_log(w, 2, 0);
  blx__consensus_status(w->nodes[0].c, &here);
  blx__consensus_status(w->nodes[2].c, &there);
  int surplus = (int)here.last_index - (int)there.last_index;
  if (mask == 0) {
    script_commit(w, 2, 48, 60);
    world_run_ms(w, 500);
    ck_assert(script_has(w, 0, 60));
  }
  script_free(w);
  return surplus;
}

static int fate_after_old_entries(unsigned mask) {
  _exit(surplus_after_old_entries(mask) == 0 ? 0 : 1);
}

START_TEST(r20__entries_that_were_compacted_are_not_appended_again) {
  ck_assert_int_eq(surplus_after_old_entries(0), 0);
  ck_assert(script_ends_badly(fate_after_old_entries, BLX__RULE_R20_COMPACTED_ENTRIES));
}
END_TEST

/* ---- R21 */

/* n2 has more of the log, n1 a term that n2 has not heard of. Is there ever a leader? */
static bool leads_from_an_older_term(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.nodes = 2;
  struct world *w = script_new(&o);
  script_elect(w, 1);
  script_commit(w, 1, 1, 3);
  world_isolate(w, 0, true);
  struct outcome more;
  ck_assert_int_eq(script_propose(w, 1, 4, &more), 0);
  world_run_ms(w, 3000);
  struct raft *r = (struct raft *)(uintptr_t)script_raft(w, 0);
  ck_assert_int_eq(r->io->set_term(r->io, r->current_term + 3), 0);
  r->current_term += 3;
  r->voted_for = 0;
  world_isolate(w, 0, false);
  bool led = world_until(w, serves, NULL, 20000);
  script_free(w);
  return led;
}

START_TEST(r21__a_candidate_that_is_refused_learns_of_a_newer_term) {
  ck_assert(leads_from_an_older_term(0));
  ck_assert(!leads_from_an_older_term(BLX__RULE_R21_TERM));
}
END_TEST

/* ---- R22 */

/* Simulated ms that a group of three needs after the loss of its leader, on average of 60 seeds. */
static unsigned ms_without_a_leader(unsigned mask) {
  unsigned ms = 0;
  for (unsigned seed = 1; seed <= 60; seed++) {
    struct sim_options o = {.seed = seed, .rules_off = mask};
    struct world *w = script_new(&o);
    script_elect(w, 0);
    script_commit(w, 0, 1, 3);
    node_crash(&w->nodes[0]);
    for (unsigned began = ms; !serves(w, NULL); ms += 10) {
      ck_assert_uint_lt(ms, began + 20000);
      world_run_ms(w, 10);
    }
    script_free(w);
  }
  return ms / 60;
}

/* The first of two random times between one and two election timeouts decides, not the second. */
START_TEST(r22__a_candidate_waits_for_its_own_time_and_not_for_the_slowest_one_s) {
  unsigned with = ms_without_a_leader(0), without = ms_without_a_leader(BLX__RULE_R22_SILENT_LEADER);
  ck_assert_msg(10 * with < 9 * without, "%u ms with the rule, %u without", with, without);
}
END_TEST

/* ---- R2 */

static enum blx__consensus_role best_role(const struct world *w) {
  enum blx__consensus_role best = BLX__ROLE_FOLLOWER;
  for (unsigned i = 1; i < 3; i++) {
    struct blx__consensus_status s;
    blx__consensus_status(w->nodes[i].c, &s);
    if (s.role > best) best = s.role;
  }
  return best;
}

/* What followers say before the leader's barrier is on its disk counts when it is: no heartbeat is waited for. */
START_TEST(r2__what_was_withheld_counts_as_soon_as_it_may) {
  for (unsigned seed = 1; seed <= 20; seed++) {
    struct sim_options o = {.seed = seed};
    struct world *w = script_new(&o);
    unsigned ms = 0;
    script_elect(w, 0);
    script_commit(w, 0, 1, 3);
    node_crash(&w->nodes[0]);
    while (best_role(w) < BLX__ROLE_ELECTED) world_run_ms(w, 1);
    for (; best_role(w) == BLX__ROLE_ELECTED; ms++) world_run_ms(w, 1);
    ck_assert_int_eq(best_role(w), BLX__ROLE_LEADER);
    ck_assert_msg(ms < 60, "seed %u: %u ms from the election to service", seed, ms);
    script_free(w);
  }
}
END_TEST

/* ---- R12 */

static int propose_on_a_full_disk(unsigned mask) {
  const struct sim_options o = rules_off(mask);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  w->nodes[0].size_bytes = 1000 << 20;
  w->nodes[0].free_bytes = 104857599;
  world_run_ms(w, 1500);
  const uint64_t id = 1;
  struct outcome x = {0}, read = {0};
  blx_error err = {0};
  int code =
      blx__consensus_propose(w->nodes[0].c, (struct blx__slice){(const uint8_t *)&id, 8}, outcome_cb, &x, &err).code;
  if (code != 0) ck_assert_msg(strstr(err.message, "104857599") && strstr(err.message, "104857600"), "%s", err.message);
  ck_assert_int_eq(blx__consensus_confirm(w->nodes[0].c, outcome_cb, &read, NULL).code, 0);
  ck_assert(world_until(w, script_fired, &read, 2000));
  ck_assert_int_eq(read.code, 0);
  w->nodes[0].free_bytes = 105 << 20;
  world_run_ms(w, 1500);
  script_commit(w, 0, 2, 2);
  script_free(w);
  return code;
}

START_TEST(r12__a_nearly_full_disk_refuses_proposals_and_serves_reads) {
  ck_assert_int_eq(propose_on_a_full_disk(0), BLX_E_NOSPACE);
  ck_assert_int_eq(propose_on_a_full_disk(BLX__RULE_R12_SPACE), 0);
}
END_TEST

START_TEST(a_member_whose_disk_fails_at_its_start__says_io_and_not_that_it_is_damaged) {
  struct sim_options o = rules_off(0);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  script_commit(w, 0, 1, 5);
  node_crash(&w->nodes[1]);
  blx__sim_disk_fail(&w->nodes[1].disk, BLX__SIM_DISK_SYNC, BLX_E_IO);
  blx_error err = {0};
  ck_assert_int_eq(node_try_start(&w->nodes[1], &err), BLX_E_IO);
  ck_assert_msg(strstr(err.message, "backup") == NULL, "%s", err.message);
  ck_assert_int_eq(node_try_start(&w->nodes[1], &err), 0);
  script_free(w);
}
END_TEST

BLX_TEST_MAIN("consensus/rules", a_member_whose_disk_fails_at_its_start__says_io_and_not_that_it_is_damaged,
              r19__a_voter_that_does_not_know_it_votes, r8__a_log_that_cannot_be_compacted_is_bounded_and_recovers,
              r8__a_member_that_was_away_shortly_needs_no_snapshot,
              r8__members_do_not_all_write_their_snapshot_in_one_moment,
              r20__entries_that_were_compacted_are_not_appended_again,
              r21__a_candidate_that_is_refused_learns_of_a_newer_term,
              r22__a_candidate_waits_for_its_own_time_and_not_for_the_slowest_one_s,
              r2__what_was_withheld_counts_as_soon_as_it_may,
              r12__a_nearly_full_disk_refuses_proposals_and_serves_reads)
