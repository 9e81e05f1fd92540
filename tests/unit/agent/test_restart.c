/* The agent is closed at every step of a life and opened again: it converges, and nothing ever runs twice. */
#include "support.h"
#include "io/file.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct world w;
#define R (&w.cluster.records[0])

enum { STEPS_MAX = 80 };

static bool is_running(struct world *x) {
  return x->cut || x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}
static bool is_dead(struct world *x) {
  return x->cut || x->cluster.records[0].dead;
}
static bool is_gone(struct world *x) {
  return x->cut || x->cluster.records[0].gone;
}
static bool is_closed(struct world *x) {
  return x->closed && !x->agent;
}
static bool is_still(struct world *x) {
  return x->host.pending == 0 && blx__agent_unreported(x->agent) == 0;
}

enum mode { CLOSED, LOST, REBOOTED };

/* Wait for @cond; where the cut comes between, open the agent again and give it the share. */
static void live_until(bool (*cond)(struct world *x), enum mode mode) {
  run_until(&w, cond);
  if (!w.cut) return;
  run_until(&w, is_closed);
  w.cut = false;
  w.cut_at = 0;
  if (mode == REBOOTED) host_reboot(&w);
  agent_open(&w);
  share(&w);
  run_until(&w, cond);
}

/* Start, crash, start, stop, start, delete; the agent is closed once, at step @cut. True if the life had that many. */
static bool life(unsigned cut, enum mode mode) {
  world_open(&w);
  w.lose = mode != CLOSED;
  w.cluster.restarts = true;
  w.cut_at = cut;
  assign(&w, 0);
  share(&w);
  live_until(is_running, mode);
  R->phase = BLX_PHASE_PENDING;
  host_exit(&w, 0, 1, 0);
  live_until(is_running, mode);
  R->desired = BLX_DESIRED_STOPPED;
  share(&w);
  live_until(is_dead, mode);
  R->desired = BLX_DESIRED_RUNNING;
  R->phase = BLX_PHASE_PENDING;
  assign(&w, 0);
  share(&w);
  live_until(is_running, mode);
  R->remove = true;
  share(&w);
  live_until(is_gone, mode);
  bool reached = w.cut_at == 0;
  ck_assert(!host_runs(&w, 0));
  ck_assert_int_eq(w.host.guests[0].status.state, BLX__VM_ABSENT);
  run_until(&w, is_still);
  ck_assert(!journal_exists(&w, 0));
  world_close(&w);
  return reached;
}

static void live_through(enum mode mode) {
  unsigned cut = 1;
  while (cut <= STEPS_MAX && life(cut, mode)) cut++;
  ck_assert_uint_gt(cut, 15);
  ck_assert_uint_le(cut, STEPS_MAX);
}

START_TEST(closed_at_any_step__it_converges_and_never_starts_twice_in_an_epoch) {
  live_through(CLOSED);
}
END_TEST

START_TEST(killed_before_any_step_is_done__it_converges_and_never_starts_twice_in_an_epoch) {
  live_through(LOST);
}
END_TEST

START_TEST(host_rebooted_at_any_step__it_converges_and_never_starts_twice_in_an_epoch) {
  live_through(REBOOTED);
}
END_TEST

static void run_one(void) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  run_until(&w, is_still);
}

START_TEST(what_runs__is_adopted_and_not_touched) {
  run_one();
  agent_close(&w);
  R->phase = BLX_PHASE_PENDING;
  R->seq = 0;
  agent_open(&w);
  run_until(&w, is_running);
  share(&w);
  run_until(&w, is_still);
  ck_assert(host_runs(&w, 0));
  ck_assert_uint_eq(w.host.kills + w.host.stops, 0);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  host_exit(&w, 0, -1, 9);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->exit_status, -9);
  world_close(&w);
}
END_TEST

START_TEST(what_ended_unseen__is_reported_with_its_status) {
  run_one();
  agent_close(&w);
  host_exit(&w, 0, 7, 0);
  agent_open(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_CRASHED);
  ck_assert_int_eq(R->exit_status, 7);
  world_close(&w);
}
END_TEST

START_TEST(what_is_not_there_any_more__is_node_restarted) {
  run_one();
  agent_close(&w);
  w.host.guests[0].status = (struct blx__vm_status){.state = BLX__VM_ABSENT};
  agent_open(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_NODE_RESTARTED);
  ck_assert_int_eq(R->phase, BLX_PHASE_FAILED);
  share(&w);
  run_until(&w, is_still);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  world_close(&w);
}
END_TEST

START_TEST(what_cannot_be_adopted__is_killed_after_some_tries) {
  run_one();
  agent_close(&w);
  w.host.adopt_errors = BLX__AGENT_ADOPT_TRIES;
  agent_open(&w);
  run_until(&w, is_dead);
  ck_assert_uint_eq(w.host.kills, 1);
  ck_assert(!host_runs(&w, 0));
  world_close(&w);
}
END_TEST

START_TEST(adoption_that_fails_once__is_tried_again) {
  run_one();
  agent_close(&w);
  w.host.adopt_errors = 1;
  R->phase = BLX_PHASE_PENDING;
  R->seq = 0;
  agent_open(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(w.host.kills, 0);
  world_close(&w);
}
END_TEST

/* Change one byte in the middle of the journal. */
static void damage(void) {
  char path[256];
  struct blx__buf bytes;
  blx__buf_init(&bytes, 1 << 20);
  ck_assert_int_eq(blx__file_read(journal_path(&w, 0, path, sizeof path), 1 << 20, &bytes, NULL).code, 0);
  bytes.data[bytes.len / 2] ^= 0x40;
  ck_assert_int_eq(blx__file_write_atomic(path, bytes.data, bytes.len, 0600, NULL).code, 0);
  blx__buf_free(&bytes);
}

START_TEST(damaged_journal_of_what_runs__is_an_error_in_the_log_and_it_is_adopted) {
  run_one();
  agent_close(&w);
  damage();
  R->phase = BLX_PHASE_PENDING;
  agent_open(&w);
  ck_assert_uint_eq(w.errors, 1);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  ck_assert_uint_eq(w.host.kills, 0);
  world_close(&w);
}
END_TEST

START_TEST(damaged_journal_of_what_does_not_run__is_reported_dead_and_not_started) {
  run_one();
  host_reboot(&w);
  agent_close(&w);
  damage();
  agent_open(&w);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_NODE_RESTARTED);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  world_close(&w);
}
END_TEST

START_TEST(damaged_journal_under_an_old_epoch__is_killed_first) {
  run_one();
  agent_close(&w);
  damage();
  w.cluster.restarts = true;
  assign(&w, 0);
  R->phase = BLX_PHASE_PENDING;
  agent_open(&w);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(w.host.kills, 1);
  ck_assert_uint_eq(host_starts(&w, 0), 2);
  world_close(&w);
}
END_TEST

static bool is_forgotten(struct world *x) {
  return blx__agent_instances(x->agent) == 0;
}

START_TEST(damaged_journal_of_what_was_deleted__is_killed_and_removed) {
  run_one();
  agent_close(&w);
  damage();
  R->assigned = false;
  agent_open(&w);
  share(&w);
  run_until(&w, is_forgotten);
  ck_assert_int_eq(w.host.guests[0].status.state, BLX__VM_ABSENT);
  ck_assert(!journal_exists(&w, 0));
  world_close(&w);
}
END_TEST

/* A tombstone in the share of a node that was away: the daemon's machine runs on, or was rebooted; its journal is
 * there, or lost; and the cluster answers "stale" to whatever else is said of it. */
START_TEST(what_was_deleted_by_force_while_away__is_killed_removed_and_reported_gone) {
  for (unsigned n = 0; n < 4; n++) {
    char path[256];
    run_one();
    agent_close(&w);
    if (n & 1) host_reboot(&w);
    if (n & 2) ck_assert_int_eq(unlink(journal_path(&w, 0, path, sizeof path)), 0);
    R->remove = true;
    R->desired = BLX_DESIRED_STOPPED;
    agent_open(&w);
    share(&w);
    run_until(&w, is_gone);
    run_until(&w, is_forgotten);
    ck_assert(R->dead);
    ck_assert_int_eq(w.host.guests[0].status.state, BLX__VM_ABSENT);
    ck_assert_uint_eq(host_starts(&w, 0), 1);
    ck_assert_uint_eq(w.cluster.violations + w.host.violations, 0);
    ck_assert(!journal_exists(&w, 0));
    world_close(&w);
  }
}
END_TEST

START_TEST(lost_journal_of_what_runs__is_adopted_instead_of_started) {
  char path[256];
  run_one();
  agent_close(&w);
  ck_assert_int_eq(unlink(journal_path(&w, 0, path, sizeof path)), 0);
  R->phase = BLX_PHASE_PENDING;
  agent_open(&w);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  world_close(&w);
}
END_TEST

START_TEST(foreign_files_in_the_journal__are_left_alone_and_named) {
  char path[128];
  world_open(&w);
  agent_close(&w);
  ck_assert(blx__str_format(path, sizeof path, "%s/notes.txt", w.dir));
  ck_assert_int_eq(blx__file_write_atomic(path, "x", 1, 0600, NULL).code, 0);
  agent_open(&w);
  ck_assert_uint_eq(w.errors, 1);
  ck_assert_int_eq(access(path, F_OK), 0);
  world_close(&w);
}
END_TEST

START_TEST(journal_that_cannot_be_written__means_no_start) {
  world_open(&w);
  ck_assert_int_eq(blx__dir_remove_tree(w.dir, NULL).code, 0);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_START_FAILED);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  ck_assert_uint_gt(w.errors, 0);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("agent restart", closed_at_any_step__it_converges_and_never_starts_twice_in_an_epoch,
              killed_before_any_step_is_done__it_converges_and_never_starts_twice_in_an_epoch,
              host_rebooted_at_any_step__it_converges_and_never_starts_twice_in_an_epoch,
              what_runs__is_adopted_and_not_touched, what_ended_unseen__is_reported_with_its_status,
              what_is_not_there_any_more__is_node_restarted, what_cannot_be_adopted__is_killed_after_some_tries,
              adoption_that_fails_once__is_tried_again,
              damaged_journal_of_what_runs__is_an_error_in_the_log_and_it_is_adopted,
              damaged_journal_of_what_does_not_run__is_reported_dead_and_not_started,
              damaged_journal_under_an_old_epoch__is_killed_first,
              damaged_journal_of_what_was_deleted__is_killed_and_removed,
              what_was_deleted_by_force_while_away__is_killed_removed_and_reported_gone,
              lost_journal_of_what_runs__is_adopted_instead_of_started,
              foreign_files_in_the_journal__are_left_alone_and_named, journal_that_cannot_be_written__means_no_start)
