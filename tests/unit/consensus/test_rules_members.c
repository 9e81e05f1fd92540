/* The guard's rules about who is in the group. As in test_guard.c, each scenario runs with its rule and without. */
#include "../harness.h"
#include "consensus/guard_int.h"
#include "support.h"

static struct sim_options rules_off(unsigned mask) {
  return (struct sim_options){.seed = 11, .rules_off = mask};
}

/* ---- R6 */

/* To @to, of @from: the commands that @from has behind @after, and then a change of members that nobody has committed.
 */
static void deliver_commands_and_a_change(struct world *w, unsigned from, unsigned to, uint64_t after) {
  enum { ENTRIES_MAX = 64 };
  static const char *const names[] = {"n1", "n2", "n3", "n4"};
  const struct raft *r = script_raft(w, from);
  struct raft_entry entries[ENTRIES_MAX + 1];
  struct raft_configuration conf;
  struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
  struct raft_append_entries *a = &m.append_entries;
  *a = (struct raft_append_entries){.term = r->current_term, .prev_log_index = after, .entries = entries};
  a->prev_log_term = guard_entry(r, after)->term;
  for (const struct raft_entry *e; (e = guard_entry(r, after + a->n_entries + 1)) != NULL;) {
    ck_assert_uint_lt(a->n_entries, ENTRIES_MAX);
    entries[a->n_entries++] = *e;
  }
  a->leader_commit = after + a->n_entries;
  raft_configuration_init(&conf);
  for (unsigned i = 0; i < 4; i++) ck_assert_int_eq(raft_configuration_add(&conf, i + 1, names[i], RAFT_VOTER), 0);
  struct raft_entry *change = &entries[a->n_entries++];
  *change = (struct raft_entry){.term = r->current_term, .type = RAFT_CHANGE};
  ck_assert_int_eq(raft_configuration_encode(&conf, &change->buf), 0);
  struct blx__buf bytes;
  blx__buf_init(&bytes, 1 << 20);
  ck_assert(message_encode(&bytes, &m));
  blx__consensus_deliver(w->nodes[to].c, w->nodes[from].uid, (struct blx__slice){bytes.data, bytes.len});
  blx__buf_free(&bytes);
  raft_configuration_close(&conf);
  raft_free(change->buf.base);
}

/* The members in n2's snapshot, of which one is not committed; 0: it took none. */
static uint32_t members_in_the_snapshot(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.snapshot_entries = 20;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  script_commit(w, 0, 1, 2);
  world_run_ms(w, 500);
  uint64_t after = script_raft(w, 1)->last_stored;
  world_isolate(w, 1, true);
  for (unsigned i = 0; i < 3; i += 2) w->nodes[i].snapshots_fail = true;
  script_commit(w, 0, 3, 40);
  deliver_commands_and_a_change(w, 0, 1, after);
  world_run_ms(w, 900);
  ck_assert_uint_gt(script_raft(w, 1)->last_applied, after);
  struct store_snapshot s;
  size_t len = 0;
  uint32_t members = sim_disk_snapshot(&w->nodes[1].disk, &s, &len) ? (uint32_t)s.members_count : 0;
  w->failed = false;
  script_free(w);
  return members;
}

START_TEST(r6__a_snapshot_waits_until_its_members_are_committed) {
  ck_assert_uint_eq(members_in_the_snapshot(0), 0);
  ck_assert_uint_eq(members_in_the_snapshot(BLX__RULE_R6_COMMITTED_CONFIGURATION), 4);
}
END_TEST

/* ---- R7, first half: Ongaro's correction of 2015 to changes of one member at a time */

static bool has_uncommitted_voter(struct world *w, void *arg) {
  struct blx__consensus_status s;
  (void)arg;
  blx__consensus_status(w->nodes[0].c, &s);
  return s.members_count == 5 && s.members[4].membership == BLX__MEMBER_VOTER;
}

static bool holds_change(struct world *w, void *arg) {
  (void)arg;
  return raft_last_index((struct raft *)(uintptr_t)script_raft(w, 4)) ==
         raft_last_index((struct raft *)(uintptr_t)script_raft(w, 0));
}

static bool is_elected(struct world *w, void *arg) {
  (void)arg;
  return script_raft(w, 1)->state == RAFT_LEADER;
}

/* n1 makes n5 a voter, which only n5 hears of. n2 leads n2, n3, n4, loses n4, and takes n1 out at once: what n2 and n3
 * commit is a majority for n2. n1, n4 and n5 are one for n1. True if they overwrite it. */
static bool two_majorities(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.nodes = 4;
  struct world *w = script_new(&o);
  script_elect(w, 0);
  script_commit(w, 0, 1, 3);
  node_start(world_add_node(w));
  struct outcome add = {0}, out = {0}, lost = {0};
  w->nodes[4].disk.held = true; /* it does not catch up yet */
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 5, outcome_cb, &add, NULL).code, 0);
  world_run_ms(w, 1000);
  for (unsigned i = 1; i < 4; i++) world_isolate(w, i, true);
  for (unsigned i = 1; i < 4; i++)
    for (unsigned k = 1; k < 4; k++) world_cut(w, i, k, false);
  w->nodes[4].disk.held = false;
  sim_disk_release(&w->nodes[4]);
  ck_assert(world_until(w, has_uncommitted_voter, NULL, 900) && world_until(w, holds_change, NULL, 900));
  world_isolate(w, 0, true);
  world_isolate(w, 4, true);
  for (unsigned k = 0; k < w->nodes_count; k++) w->nodes[k].votes_muted = k != 1;
  ck_assert(world_until(w, is_elected, NULL, 20000));
  world_isolate(w, 3, true);
  blx__rc rc = blx__consensus_remove_member(w->nodes[1].c, 1, outcome_cb, &out, NULL);
  if (mask == 0) ck_assert_int_eq(rc.code, BLX_E_NO_LEADER);
  world_run_ms(w, 900);
  bool acknowledged = script_propose(w, 1, 100, &lost) == 0 && world_until(w, script_fired, &lost, 900) && !lost.code;
  for (unsigned i = 1; i < 3; i++) world_isolate(w, i, true);
  for (unsigned i = 0; i < 5; i++)
    for (unsigned k = 0; k < 5; k++)
      if (i != 1 && i != 2 && k != 1 && k != 2) world_cut(w, i, k, false);
  for (unsigned k = 0; k < w->nodes_count; k++) w->nodes[k].votes_muted = k != 0;
  world_run_ms(w, 20000);
  bool overwritten = acknowledged && script_raft(w, 0)->state == RAFT_LEADER && !script_has(w, 0, 100);
  w->failed = false;
  script_free(w);
  return overwritten;
}

START_TEST(r7__no_change_before_the_leaders_own_barrier_is_committed) {
  ck_assert(!two_majorities(0));
  ck_assert(two_majorities(BLX__RULE_R7_OWN_BARRIER));
}
END_TEST

/* ---- stand-bys */

static void make_stand_by(struct world *w, unsigned leader, uint64_t uid) {
  struct outcome x = {0};
  ck_assert_int_eq(blx__consensus_stand_by(w->nodes[leader].c, uid, outcome_cb, &x, NULL).code, 0);
  ck_assert(world_until(w, script_fired, &x, 5000));
  ck_assert_int_eq(x.code, 0);
}

/* Of n1, n2 and n3, which stands by: without n2 nothing is committed, without n3 all is. */
START_TEST(a_stand_by__has_all_and_is_counted_for_nothing) {
  struct sim_options o = rules_off(0);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  script_commit(w, 0, 1, 2);
  make_stand_by(w, 0, 3);
  world_isolate(w, 2, true);
  script_commit(w, 0, 3, 4);
  world_isolate(w, 2, false);
  world_run_ms(w, 1000);
  ck_assert(script_has(w, 2, 4));
  world_isolate(w, 1, true);
  struct outcome x = {0};
  ck_assert_int_eq(script_propose(w, 0, 5, &x), 0);
  ck_assert(!world_until(w, script_fired, &x, 800));
  ck_assert(!script_has(w, 0, 5) && !script_has(w, 2, 5));
  world_isolate(w, 1, false);
  ck_assert(world_until(w, script_fired, &x, 20000));
  script_free(w);
}
END_TEST

static bool leads_alone(struct world *w, void *arg) {
  (void)arg;
  return script_raft(w, 2)->state == RAFT_LEADER || script_raft(w, 2)->state == RAFT_CANDIDATE;
}

/* However long it hears of no leader. */
START_TEST(a_stand_by__never_stands_for_election) {
  struct sim_options o = rules_off(0);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  make_stand_by(w, 0, 3);
  script_commit(w, 0, 1, 2);
  world_isolate(w, 0, true);
  world_isolate(w, 1, true);
  ck_assert(!world_until(w, leads_alone, NULL, 20000));
  script_free(w);
}
END_TEST

/* R7 holds for it as for any change: by a leader whose own barrier is committed, one at a time, and not of itself. */
START_TEST(a_stand_by__is_made_by_the_rules_for_every_change) {
  struct sim_options o = rules_off(0);
  struct world *w = script_new(&o);
  script_elect(w, 0);
  struct outcome x = {0}, y = {0};
  ck_assert_int_eq(blx__consensus_stand_by(w->nodes[0].c, 1, outcome_cb, &x, NULL).code, BLX_E_CONFLICT);
  ck_assert_int_eq(blx__consensus_stand_by(w->nodes[1].c, 3, outcome_cb, &x, NULL).code, BLX_E_NO_LEADER);
  ck_assert_int_eq(blx__consensus_stand_by(w->nodes[0].c, 3, outcome_cb, &x, NULL).code, 0);
  ck_assert_int_eq(blx__consensus_stand_by(w->nodes[0].c, 2, outcome_cb, &y, NULL).code, BLX_E_BUSY);
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 4, outcome_cb, &y, NULL).code, BLX_E_BUSY);
  ck_assert(world_until(w, script_fired, &x, 5000));
  ck_assert_int_eq(x.code, 0);
  ck_assert_int_eq(y.code, 0);
  script_free(w);
}
END_TEST

/* ---- R7, second half, and R9: a change of members that is taken back */

/* n1, cut off, writes a change of members that nobody else has; then n2 leads. The world is ready to be joined. */
static struct world *lonely_change(const struct sim_options *o, uint64_t entries) {
  struct world *w = script_new(o);
  script_elect(w, 0);
  script_commit(w, 0, 1, entries);
  world_run_ms(w, 500);
  world_isolate(w, 0, true);
  static struct outcome add;
  add = (struct outcome){0};
  ck_assert_int_eq(blx__consensus_add_member(w->nodes[0].c, 4, outcome_cb, &add, NULL).code, 0);
  world_run_ms(w, 100);
  ck_assert_uint_ne(script_raft(w, 0)->configuration_uncommitted_index, 0);
  script_elect(w, 1);
  return w;
}

static void note_type(void *arg, const struct store_record *r, uint8_t *data) {
  (void)data;
  *(uint64_t *)arg = r->type;
}

/* 0: it could not go back, and stopped itself. */
static uint32_t members_after_a_loaded_change(unsigned mask) {
  const struct sim_options o = rules_off(mask);
  struct world *w = lonely_change(&o, 3);
  node_crash(&w->nodes[0]);
  uint64_t last_type = 0;
  sim_disk_edit(&w->nodes[0].disk, note_type, &last_type);
  ck_assert_uint_eq(last_type, RAFT_CHANGE); /* it is there */
  node_start(&w->nodes[0]);
  struct blx__consensus_status s;
  blx__consensus_status(w->nodes[0].c, &s);
  ck_assert_uint_eq(s.members_count, 4);
  world_isolate(w, 0, false);
  world_run_ms(w, 3000);
  blx__consensus_status(w->nodes[0].c, &s);
  uint32_t count = w->nodes[0].fatal_code ? 0 : s.members_count;
  script_free(w);
  return count;
}

START_TEST(r7__a_loaded_change_of_members_can_still_be_taken_back) {
  ck_assert_uint_eq(members_after_a_loaded_change(0), 3);
  ck_assert_uint_eq(members_after_a_loaded_change(BLX__RULE_R7_LOADED_CHANGE), 0); /* it has to join anew */
}
END_TEST

/* What was before the change is compacted away when n1 must go back to it. The members it then knows. */
static int members_after_a_compacted_configuration(unsigned mask) {
  struct sim_options o = rules_off(mask);
  o.snapshot_entries = 5;
  o.snapshot_trailing = 1;
  struct world *w = lonely_change(&o, 40);
  ck_assert_uint_ne(sim_disk_snapshot_index(&w->nodes[0]), 0);
  world_isolate(w, 0, false);
  world_run_ms(w, 3000);
  ck_assert_int_eq(w->nodes[0].fatal_code, 0);
  struct blx__consensus_status s;
  blx__consensus_status(w->nodes[0].c, &s);
  script_commit(w, 1, 100, 100);
  world_run_ms(w, 500);
  ck_assert(script_has(w, 0, 100));
  script_free(w);
  return (int)s.members_count;
}

START_TEST(r9__a_change_whose_predecessor_was_compacted_can_be_taken_back) {
  ck_assert_int_eq(members_after_a_compacted_configuration(0), 3);
  ck_assert(script_ends_badly(members_after_a_compacted_configuration, BLX__RULE_R9_COMPACTED_CONFIGURATION));
}
END_TEST

BLX_TEST_MAIN("consensus/rules of membership", a_stand_by__has_all_and_is_counted_for_nothing,
              a_stand_by__never_stands_for_election, a_stand_by__is_made_by_the_rules_for_every_change,
              r6__a_snapshot_waits_until_its_members_are_committed,
              r7__no_change_before_the_leaders_own_barrier_is_committed,
              r7__a_loaded_change_of_members_can_still_be_taken_back,
              r9__a_change_whose_predecessor_was_compacted_can_be_taken_back)
