/* Snapshots between members: in parts, beside everything else, through losses and crashes (R11). */
#include "../harness.h"
#include "consensus/consensus_int.h"
#include "support.h"

enum { IDS = 20000, BURST = 250 }; /* 8 bytes each in the snapshot: more than goes into one message */

static struct outcome outcomes[BURST];

static bool all_fired(struct world *w, void *arg) {
  (void)w;
  (void)arg;
  for (unsigned i = 0; i < BURST; i++)
    if (!outcomes[i].fired) return false;
  return true;
}

static void commit_many(struct world *w, unsigned leader, uint64_t first, uint64_t count) {
  for (uint64_t id = first; id < first + count; id += BURST) {
    for (unsigned i = 0; i < BURST; i++) ck_assert_int_eq(script_propose(w, leader, id + i, &outcomes[i]), 0);
    ck_assert(world_until(w, all_fired, NULL, 5000));
    for (unsigned i = 0; i < BURST; i++) ck_assert_int_eq(outcomes[i].code, 0);
  }
}

static struct blx__consensus_status status_of(struct world *w, unsigned i) {
  struct blx__consensus_status s;
  blx__consensus_status(w->nodes[i].c, &s);
  return s;
}

/* Bytes of its data. */
static size_t snapshot_len(struct world *w, unsigned i) {
  struct store_snapshot s;
  size_t len = 0;
  ck_assert(sim_disk_snapshot(&w->nodes[i].disk, &s, &len));
  return len;
}

/* n3 is down while n1, which leads, commits IDS operations and compacts its log. */
static struct world *behind(unsigned mask, uint32_t chunk_bytes) {
  const struct sim_options o = {
      .seed = 5, .snapshot_entries = 10, .snapshot_trailing = 1, .rules_off = mask, .chunk_bytes = chunk_bytes};
  struct world *w = script_new(&o);
  script_elect(w, 0);
  node_crash(&w->nodes[2]);
  commit_many(w, 0, 1, IDS);
  world_run_ms(w, 1000);
  ck_assert_uint_gt(snapshot_len(w, 0), CHUNK_BYTES_MAX);
  ck_assert_uint_gt(script_raft(w, 0)->log.offset, 10);
  w->installs_sent = 0;
  return w;
}

static bool n3_has_all(struct world *w, void *arg) {
  (void)arg;
  return w->nodes[2].alive && status_of(w, 2).applied_index == status_of(w, 0).applied_index;
}

static bool n3_holds_a_part(struct world *w, void *arg) {
  (void)arg;
  return w->nodes[2].c->transfer.in.have > IDS; /* an eighth */
}

static void n3_gets_all(struct world *w) {
  ck_assert_msg(world_until(w, n3_has_all, NULL, 30000), "%s", w->why);
  ck_assert(script_has(w, 2, 1) && script_has(w, 2, IDS / 4));
}

static bool arrives(unsigned mask) {
  struct world *w = behind(mask, 0);
  node_start(&w->nodes[2]);
  bool there = world_until(w, n3_has_all, NULL, 10000);
  script_free(w);
  return there;
}

START_TEST(r11__a_snapshot_larger_than_a_message_arrives) {
  ck_assert(arrives(0));
  ck_assert(!arrives(BLX__RULE_R11_PARTS));
}
END_TEST

/* Longer than an election timeout, and nobody stands for election; operations commit meanwhile. */
START_TEST(a_long_transfer__costs_no_election_and_no_operation) {
  struct world *w = behind(0, 400);
  world_delay(w, 10000, 10000);
  uint64_t term = status_of(w, 0).term, from_us = w->sim.now_us;
  node_start(&w->nodes[2]);
  ck_assert(world_until(w, n3_holds_a_part, NULL, 10000));
  script_commit(w, 0, IDS + 1, IDS + 5);
  n3_gets_all(w);
  ck_assert_uint_gt(w->sim.now_us - from_us, 2000000); /* two election timeouts */
  ck_assert_uint_eq(status_of(w, 0).term, term);
  ck_assert_uint_eq(status_of(w, 2).term, term);
  script_free(w);
}
END_TEST

START_TEST(parts_that_are_lost_doubled_and_late__are_sent_again) {
  struct world *w = behind(0, 8000);
  struct blx__sim_link link = w->sim.links[1][2];
  link.loss_percent = 15;
  link.double_percent = 30;
  link.late_percent = 20;
  blx__sim_net_set(&w->sim, &link);
  node_start(&w->nodes[2]);
  n3_gets_all(w);
  ck_assert_uint_gt(w->installs_sent, snapshot_len(w, 0) / 8000);
  script_free(w);
}
END_TEST

START_TEST(a_receiver_that_crashes_half_way__begins_anew) {
  struct world *w = behind(0, 1000);
  for (unsigned i = 0; i < 3; i++) {
    node_start(&w->nodes[2]);
    ck_assert(world_until(w, n3_holds_a_part, NULL, 20000));
    node_crash(&w->nodes[2]);
  }
  node_start(&w->nodes[2]);
  n3_gets_all(w);
  script_free(w);
}
END_TEST

START_TEST(a_leader_that_crashes_half_way__is_replaced_by_another) {
  struct world *w = behind(0, 1000);
  node_start(&w->nodes[2]);
  ck_assert(world_until(w, n3_holds_a_part, NULL, 10000));
  node_crash(&w->nodes[0]);
  script_elect(w, 1); /* by n3, which has no log yet */
  node_start(&w->nodes[0]);
  world_run_ms(w, 500);
  n3_gets_all(w);
  script_free(w);
}
END_TEST

/* Nothing of it reaches the state machine or the disk. */
START_TEST(a_damaged_copy__is_dropped_by_who_gets_it) {
  struct world *w = behind(0, 10000);
  const size_t len = snapshot_len(w, 0), at = len / 2;
  ck_assert(blx__sim_disk_flip(&w->nodes[0].disk, "snapshot", at, 2));
  node_start(&w->nodes[2]);
  world_run_ms(w, 8000);
  ck_assert_uint_gt(w->installs_sent, 2 * len / 10000); /* it was tried again */
  ck_assert_uint_lt(status_of(w, 2).snapshot_index, sim_disk_snapshot_index(&w->nodes[0]));
  ck_assert_int_eq(w->nodes[2].fatal_code, 0);
  ck_assert(blx__sim_disk_flip(&w->nodes[0].disk, "snapshot", at, 2));
  n3_gets_all(w);
  script_free(w);
}
END_TEST

static bool n3_writes(struct world *w, void *arg) {
  (void)arg;
  return w->nodes[2].work.fn != NULL;
}

static bool n3_waits_with_a_whole_one(struct world *w, void *arg) {
  const struct incoming *in = &w->nodes[2].c->transfer.in;
  (void)arg;
  return in->whole && in->bytes && w->nodes[2].work.fn;
}

/* libraft drops an install without a word while its own snapshot is written, and its leader waits for long. */
START_TEST(a_member_that_writes_its_own__takes_the_leaders_after_that) {
  const struct sim_options o = {.seed = 6, .snapshot_entries = 10, .snapshot_trailing = 1};
  struct world *w = script_new(&o);
  script_elect(w, 0);
  w->nodes[2].disk.min_us = w->nodes[2].disk.max_us = 200000; /* a worker takes ten times as long */
  uint64_t id = 0;
  while (!n3_writes(w, NULL)) {
    id++;
    script_commit(w, 0, id, id);
    world_run_ms(w, 250);
    ck_assert_uint_lt(id, 100);
  }
  world_isolate(w, 2, true);
  script_commit(w, 0, id + 1, id + 30);
  world_isolate(w, 2, false);
  ck_assert(world_until(w, n3_waits_with_a_whole_one, NULL, 2000));
  ck_assert(world_until(w, n3_has_all, NULL, 4000));
  script_free(w);
}
END_TEST

/* Two members at once share what was read from the disk; a close in the middle frees it. */
START_TEST(two_transfers_at_once__end_with_the_leader_that_closes) {
  const struct sim_options o = {
      .seed = 8, .nodes = 5, .snapshot_entries = 10, .snapshot_trailing = 1, .chunk_bytes = 300};
  struct world *w = script_new(&o);
  script_elect(w, 0);
  node_crash(&w->nodes[2]);
  node_crash(&w->nodes[3]);
  commit_many(w, 0, 1, IDS / 4);
  world_run_ms(w, 500);
  node_start(&w->nodes[2]);
  node_start(&w->nodes[3]);
  world_delay(w, 5000, 5000);
  ck_assert(world_until(w, n3_holds_a_part, NULL, 20000));
  node_crash(&w->nodes[0]);
  script_elect(w, 1);
  node_start(&w->nodes[0]);
  n3_gets_all(w);
  script_free(w);
}
END_TEST

BLX_TEST_MAIN("consensus/transfer", r11__a_snapshot_larger_than_a_message_arrives,
              a_long_transfer__costs_no_election_and_no_operation, parts_that_are_lost_doubled_and_late__are_sent_again,
              a_receiver_that_crashes_half_way__begins_anew, a_leader_that_crashes_half_way__is_replaced_by_another,
              a_damaged_copy__is_dropped_by_who_gets_it, a_member_that_writes_its_own__takes_the_leaders_after_that,
              two_transfers_at_once__end_with_the_leader_that_closes)
