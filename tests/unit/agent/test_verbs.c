/* Pause, resume, and ends that the cluster asks for in an epoch. */
#include "support.h"

static struct world w;
#define R (&w.cluster.records[0])

static bool is_running(struct world *x) {
  return x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}
static bool is_dead(struct world *x) {
  return x->cluster.records[0].dead;
}
static bool is_quiet_and_told(struct world *x) {
  return x->host.pending == 0 && blx__agent_unreported(x->agent) == 0;
}

static void start_first(void) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
}

static bool is_paused(struct world *x) {
  return x->cluster.records[0].paused;
}
static bool is_not_paused(struct world *x) {
  return !x->cluster.records[0].paused;
}
static bool is_being_stopped(struct world *x) {
  return x->host.stops == 1;
}
static bool is_told_of_failure(struct world *x) {
  return x->cluster.records[0].code == BLX_REASON_CODE_PAUSE_FAILED;
}

START_TEST(pause_and_resume__are_done_once_each_and_told_with_the_reason) {
  start_first();
  R->pause = true;
  share(&w);
  run_until(&w, is_paused);
  ck_assert_int_eq(R->phase, BLX_PHASE_RUNNING);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_PAUSED);
  ck_assert(w.host.guests[0].status.paused);
  share(&w);
  run_until(&w, is_quiet_and_told);
  ck_assert_uint_eq(w.host.pauses, 1);
  R->pause = false;
  share(&w);
  run_until(&w, is_not_paused);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_NONE);
  ck_assert(!w.host.guests[0].status.paused);
  ck_assert_uint_eq(w.host.pauses, 2);
  world_close(&w);
}
END_TEST

START_TEST(paused_from_the_beginning__stands_still_once_it_runs) {
  world_open(&w);
  assign(&w, 0)->pause = true;
  share(&w);
  run_until(&w, is_paused);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  world_close(&w);
}
END_TEST

START_TEST(a_paused_one__is_still_known_as_paused_after_a_restart_of_the_agent) {
  start_first();
  R->pause = true;
  share(&w);
  run_until(&w, is_paused);
  agent_close(&w);
  R->paused = false;
  R->pause = false;
  agent_open(&w);
  share(&w);
  run_until(&w, is_quiet_and_told);
  ck_assert(!w.host.guests[0].status.paused); /* it was known, so it was resumed */
  ck_assert_uint_eq(w.host.pauses, 2);
  world_close(&w);
}
END_TEST

START_TEST(a_pause_that_fails__is_told_and_tried_again_only_when_asked_again) {
  start_first();
  w.host.fail_pause = true;
  R->pause = true;
  share(&w);
  run_until(&w, is_told_of_failure);
  ck_assert_str_eq(R->text, "the monitor did not pause");
  ck_assert_int_eq(R->phase, BLX_PHASE_RUNNING);
  share(&w);
  run_until(&w, is_quiet_and_told);
  ck_assert_uint_eq(w.host.pauses, 1);
  w.host.fail_pause = false;
  R->pause = false;
  share(&w);
  R->pause = true;
  share(&w);
  run_until(&w, is_paused);
  world_close(&w);
}
END_TEST

START_TEST(an_end_in_this_epoch__is_a_shutdown_whatever_is_desired) {
  start_first();
  R->ending = BLX_ENDING_SHUT_DOWN;
  share(&w);
  run_until(&w, is_dead);
  ck_assert_uint_eq(w.host.stops, 1);
  ck_assert_uint_eq(w.host.kills, 0);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_STOPPED_BY_USER);
  R->ending = BLX_ENDING_NONE;
  R->phase = BLX_PHASE_PENDING;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(host_starts(&w, 0), 2);
  world_close(&w);
}
END_TEST

START_TEST(a_kill__overtakes_the_shutdown_that_takes_its_time) {
  start_first();
  w.host.hold_stop = true;
  R->ending = BLX_ENDING_SHUT_DOWN;
  share(&w);
  run_until(&w, is_being_stopped);
  R->ending = BLX_ENDING_KILL;
  share(&w);
  run_until(&w, is_dead);
  ck_assert_uint_eq(w.host.kills, 1);
  w.host.hold_stop = false;
  run_until(&w, is_quiet_and_told);
  world_close(&w);
}
END_TEST

START_TEST(a_kill_from_the_beginning__asks_no_guest) {
  start_first();
  R->ending = BLX_ENDING_KILL;
  share(&w);
  run_until(&w, is_dead);
  ck_assert_uint_eq(w.host.stops, 0);
  ck_assert_uint_eq(w.host.kills, 1);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("agent verbs", pause_and_resume__are_done_once_each_and_told_with_the_reason,
              paused_from_the_beginning__stands_still_once_it_runs,
              a_paused_one__is_still_known_as_paused_after_a_restart_of_the_agent,
              a_pause_that_fails__is_told_and_tried_again_only_when_asked_again,
              an_end_in_this_epoch__is_a_shutdown_whatever_is_desired,
              a_kill__overtakes_the_shutdown_that_takes_its_time, a_kill_from_the_beginning__asks_no_guest)
