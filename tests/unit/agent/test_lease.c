/* Highly available instances and the lease of their node. */
#include "support.h"

#include "lease/lease.h"

#include <unistd.h>

static struct world w;
#define R (&w.cluster.records[0])

static bool is_running(struct world *x) {
  return x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}
static bool is_dead(struct world *x) {
  return x->cluster.records[0].dead;
}
static bool is_paused(struct world *x) {
  return x->cluster.records[0].paused;
}
static bool is_not_paused(struct world *x) {
  return !x->cluster.records[0].paused;
}
static bool is_told(struct world *x) {
  return x->host.pending == 0 && blx__agent_unreported(x->agent) == 0 && x->cluster.records[0].reports > 0;
}
static bool waits(struct world *x) {
  return x->cluster.records[0].code == BLX_REASON_CODE_LEASE_LOST;
}
static bool runs_again(struct world *x) {
  return host_starts(x, 0) == 2 && x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}

static bool has_disk(struct world *x) {
  return x->cluster.records[0].local_data;
}

static uint64_t until_ms;
static bool is_late(struct world *x) {
  return blx__loop_boot_ms(x->loop) >= until_ms;
}
/* Let the agent do for a while what it would. */
static void idle(uint64_t ms) {
  until_ms = blx__loop_boot_ms(w.loop) + ms;
  run_until(&w, is_late);
}

static void open_first(void) {
  world_open(&w);
  assign(&w, 0)->ha = BLX_HA_POLICY_AUTO;
  share(&w);
}

static void start_first(void) {
  open_first();
  lease(&w);
  run_until(&w, is_running);
}

START_TEST(without_a_lease__it_waits_with_the_reason_and_starts_when_there_is_one) {
  open_first();
  run_until(&w, waits);
  ck_assert_int_eq(R->phase, BLX_PHASE_CREATING);
  ck_assert_str_eq(R->text, "this node has no lease at the moment: it starts as soon as it has");
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  lease(&w);
  run_until(&w, is_running);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_NONE);
  world_close(&w);
}
END_TEST

START_TEST(one_that_is_not_highly_available__needs_none) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  pass(&w, 100000);
  idle(1200);
  ck_assert(host_runs(&w, 0));
  ck_assert_uint_eq(w.host.pauses + w.host.kills, 0);
  world_close(&w);
}
END_TEST

START_TEST(a_node_that_cannot_end_it__does_not_start_it) {
  world_open(&w);
  agent_close(&w);
  w.no_killer = true;
  agent_open(&w);
  assign(&w, 0)->ha = BLX_HA_POLICY_MANUAL;
  share(&w);
  lease(&w);
  run_until(&w, waits);
  idle(300);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  ck_assert_str_eq(R->text, "this node cannot end it in time when it is cut off: it has no watchdog process");
  ck_assert(!blx__agent_ha_ready(w.agent));
  world_close(&w);
}
END_TEST

START_TEST(nothing_starts__while_nobody_watches) {
  world_open(&w);
  w.not_watched = true;
  assign(&w, 0)->ha = BLX_HA_POLICY_AUTO;
  share(&w);
  lease(&w);
  run_until(&w, waits);
  ck_assert_str_eq(R->text, "the watchdog process of this node does not look at the moment");
  w.not_watched = false;
  run_until(&w, is_running);
  world_close(&w);
}
END_TEST

/* With the killer gone only the agent would end it, and that may be the next to stand still. */
START_TEST(while_nobody_watches__a_lease_is_not_made_longer) {
  start_first();
  w.not_watched = true;
  pass(&w, 300);
  lease(&w);
  uint64_t left_ms = blx__agent_lease_left_ms(w.agent);
  ck_assert_uint_gt(left_ms, 19000);
  pass(&w, 3000);
  struct blx_lease_settings s = blx__lease_defaults();
  ck_assert(!blx__agent_lease_granted(w.agent, blx__agent_lease_ask(w.agent), s.lease_ms, &s));
  ck_assert_uint_lt(blx__agent_lease_left_ms(w.agent), left_ms - 2900);
  w.not_watched = false;
  lease(&w);
  ck_assert_uint_gt(blx__agent_lease_left_ms(w.agent), 19000);
  ck_assert(host_runs(&w, 0));
  world_close(&w);
}
END_TEST

START_TEST(before_the_end__it_stands_still_and_goes_on_with_the_next_lease) {
  start_first();
  pass(&w, 15000);
  run_until(&w, is_paused);
  ck_assert(w.host.guests[0].status.paused);
  ck_assert_int_eq(R->phase, BLX_PHASE_RUNNING);
  lease(&w);
  run_until(&w, is_not_paused);
  ck_assert(!w.host.guests[0].status.paused);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_NONE);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  world_close(&w);
}
END_TEST

START_TEST(what_a_user_paused__stays_so_when_the_lease_comes_back) {
  start_first();
  R->pause = true;
  share(&w);
  run_until(&w, is_paused);
  pass(&w, 15000);
  idle(1200);
  lease(&w);
  idle(300);
  ck_assert(w.host.guests[0].status.paused);
  ck_assert_uint_eq(w.host.pauses, 1);
  world_close(&w);
}
END_TEST

START_TEST(what_a_user_paused_meanwhile__stays_so_too_and_says_who_did) {
  start_first();
  pass(&w, 15000);
  run_until(&w, is_paused);
  R->pause = true;
  share(&w);
  lease(&w);
  run_until(&w, is_told);
  idle(300);
  ck_assert(w.host.guests[0].status.paused);
  ck_assert_str_eq(R->text, "stands still on request, in its node's memory");
  world_close(&w);
}
END_TEST

START_TEST(at_the_end__it_is_dead_for_want_of_a_lease_and_starts_again_under_the_next) {
  start_first();
  w.cluster.restarts = true;
  pass(&w, 18000);
  ck_assert(!host_runs(&w, 0));
  run_until(&w, waits);
  ck_assert_str_eq(R->text, "its node had no lease any more: the cluster did not answer it in time");
  lease(&w);
  run_until(&w, runs_again);
  world_close(&w);
}
END_TEST

START_TEST(a_killer_that_hangs__is_not_waited_for) {
  start_first();
  w.ahead_ms += 18000; /* and the watchdog does not look */
  run_until(&w, is_dead);
  ck_assert_uint_eq(w.host.kills, 1);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_LEASE_LOST);
  world_close(&w);
}
END_TEST

START_TEST(an_agent_that_slept_past_the_end__knows_it_dead_although_the_next_lease_is_there) {
  start_first();
  w.ahead_ms += 18000; /* nothing of the agent's runs until it is told */
  lease(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_LEASE_LOST);
  world_close(&w);
}
END_TEST

START_TEST(a_late_answer__is_none) {
  const struct blx_lease_settings s = blx__lease_defaults();
  open_first();
  uint64_t seq = blx__agent_lease_ask(w.agent);
  pass(&w, 18000);
  ck_assert(!blx__agent_lease_granted(w.agent, seq, 20000, &s));
  ck_assert_uint_eq(blx__agent_lease_left_ms(w.agent), 0);
  ck_assert_uint_eq(w.kill_at_ms, 0);
  run_until(&w, waits);
  world_close(&w);
}
END_TEST

START_TEST(a_lease__lasts_from_the_question_and_only_a_later_one_counts) {
  const struct blx_lease_settings s = blx__lease_defaults();
  world_open(&w);
  uint64_t first = blx__agent_lease_ask(w.agent), asked_ms = boot_ms(&w);
  pass(&w, 500);
  uint64_t second = blx__agent_lease_ask(w.agent);
  ck_assert(blx__agent_lease_granted(w.agent, first, 20000, &s));
  ck_assert_uint_le(w.kill_at_ms, asked_ms + 18000);
  ck_assert_uint_gt(w.kill_at_ms, asked_ms + 17900);
  ck_assert_uint_le(blx__agent_lease_left_ms(w.agent), 19500);
  uint64_t kill_at_ms = w.kill_at_ms;
  ck_assert(!blx__agent_lease_granted(w.agent, first, 200000, &s));
  ck_assert(blx__agent_lease_granted(w.agent, second, 20000, &s));
  ck_assert_uint_ge(w.kill_at_ms, kill_at_ms + 490);
  ck_assert(!blx__agent_lease_granted(w.agent, first, 20000, &s));
  world_close(&w);
}
END_TEST

START_TEST(a_longer_lease__has_its_pause_before_its_own_end) {
  const struct blx_lease_settings s = blx__lease_defaults();
  start_first();
  ck_assert(blx__agent_lease_granted(w.agent, blx__agent_lease_ask(w.agent), 60000, &s));
  pass(&w, 50000);
  idle(1200);
  ck_assert(host_runs(&w, 0) && !w.host.guests[0].status.paused);
  world_close(&w);
}
END_TEST

START_TEST(fenced__it_is_ended_at_once_and_no_answer_on_its_way_brings_the_lease_back) {
  const struct blx_lease_settings s = blx__lease_defaults();
  start_first();
  uint64_t seq = blx__agent_lease_ask(w.agent);
  blx__agent_lease_end(w.agent);
  ck_assert_uint_eq(w.kill_at_ms, 0);
  ck_assert(!host_runs(&w, 0));
  ck_assert(!blx__agent_lease_granted(w.agent, seq, 20000, &s));
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_LEASE_LOST);
  world_close(&w);
}
END_TEST

START_TEST(a_restart_of_the_agent_within_the_lease__ends_nothing) {
  start_first();
  agent_close(&w);
  agent_open(&w);
  share(&w);
  run_until(&w, is_told);
  ck_assert(host_runs(&w, 0) && !w.host.guests[0].status.paused);
  lease(&w);
  idle(300);
  ck_assert_uint_eq(w.host.pauses + w.host.kills, 0);
  world_close(&w);
}
END_TEST

START_TEST(the_lease_of_a_life_before__starts_nothing) {
  world_open(&w);
  lease(&w);
  agent_close(&w);
  agent_open(&w);
  assign(&w, 0)->ha = BLX_HA_POLICY_AUTO;
  share(&w);
  run_until(&w, waits);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  world_close(&w);
}
END_TEST

START_TEST(an_agent_that_comes_back_after_the_end__finds_it_dead_for_want_of_a_lease) {
  start_first();
  agent_close(&w);
  pass(&w, 60000);
  agent_open(&w);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_LEASE_LOST);
  world_close(&w);
}
END_TEST

START_TEST(one_that_was_fenced__is_killed_and_told_dead_under_the_epoch_of_the_fence) {
  start_first();
  uint64_t epoch = R->epoch;
  assign(&w, 0);
  R->fenced = true;
  share(&w);
  run_until(&w, is_dead);
  ck_assert_uint_eq(R->epoch, epoch + 1);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  ck_assert(!host_runs(&w, 0));
  ck_assert_int_eq(R->code, BLX_REASON_CODE_NODE_FENCED);
  world_close(&w);
}
END_TEST

START_TEST(one_that_was_fenced__is_looked_for_by_an_agent_that_lost_its_journal) {
  char path[256];
  start_first();
  agent_close(&w);
  ck_assert_int_eq(unlink(journal_path(&w, 0, path, sizeof path)), 0);
  agent_open(&w);
  assign(&w, 0);
  R->fenced = true;
  share(&w);
  run_until(&w, is_dead);
  ck_assert(!host_runs(&w, 0));
  world_close(&w);
}
END_TEST

START_TEST(a_disk_of_its_own__is_told) {
  start_first();
  w.host.guests[0].status.local_data = true;
  struct blx__vm_key key = {w.host.guests[0].name, R->uid, R->epoch};
  blx__agent_event(w.agent, &key, BLX__VM_EVENT_DATA, &w.host.guests[0].status);
  run_until(&w, has_disk);
  world_close(&w);
}
END_TEST

static bool knows_disk(struct world *x) {
  return x->cluster.records[0].data_known && blx__agent_unreported(x->agent) == 0;
}

START_TEST(that_it_has_no_disk__is_told_of_what_may_start_elsewhere_and_once) {
  start_first();
  ck_assert(!R->data_known);
  w.host.guests[0].status.data_known = true;
  struct blx__vm_key key = {w.host.guests[0].name, R->uid, R->epoch};
  blx__agent_event(w.agent, &key, BLX__VM_EVENT_DATA, &w.host.guests[0].status);
  run_until(&w, knows_disk);
  ck_assert(!R->local_data);
  unsigned reports = R->reports;
  blx__agent_event(w.agent, &key, BLX__VM_EVENT_DATA, &w.host.guests[0].status);
  idle(300);
  ck_assert_uint_eq(R->reports, reports);
  world_close(&w);
}
END_TEST

START_TEST(a_watchdog_process_that_does_not_start__leaves_it_waiting_and_keeps_nothing_open) {
  static const char *const programs[] = {"/bin/false", "/nowhere/blixard-watchdog"};
  for (size_t i = 0; i < BLX__COUNT(programs); i++) {
    char page[80];
    world_open(&w);
    agent_close(&w);
    w.watchdog = programs[i];
    agent_open(&w);
    assign(&w, 0)->ha = BLX_HA_POLICY_AUTO;
    share(&w);
    lease(&w);
    run_until(&w, waits);
    ck_assert_str_eq(R->text, "the watchdog process of this node does not look at the moment");
    ck_assert(!blx__agent_ha_ready(w.agent));
    idle(600);
    ck_assert_uint_eq(host_starts(&w, 0), 0);
    ck_assert(blx__str_format(page, sizeof page, "%s.page", w.dir));
    world_close(&w);
    ck_assert_int_eq(unlink(page), 0);
  }
}
END_TEST

BLX_TEST_MAIN("agent lease", without_a_lease__it_waits_with_the_reason_and_starts_when_there_is_one,
              one_that_is_not_highly_available__needs_none, a_node_that_cannot_end_it__does_not_start_it,
              nothing_starts__while_nobody_watches, while_nobody_watches__a_lease_is_not_made_longer,
              before_the_end__it_stands_still_and_goes_on_with_the_next_lease,
              what_a_user_paused__stays_so_when_the_lease_comes_back,
              what_a_user_paused_meanwhile__stays_so_too_and_says_who_did,
              at_the_end__it_is_dead_for_want_of_a_lease_and_starts_again_under_the_next,
              a_killer_that_hangs__is_not_waited_for,
              an_agent_that_slept_past_the_end__knows_it_dead_although_the_next_lease_is_there, a_late_answer__is_none,
              a_lease__lasts_from_the_question_and_only_a_later_one_counts,
              a_longer_lease__has_its_pause_before_its_own_end,
              fenced__it_is_ended_at_once_and_no_answer_on_its_way_brings_the_lease_back,
              a_restart_of_the_agent_within_the_lease__ends_nothing, the_lease_of_a_life_before__starts_nothing,
              an_agent_that_comes_back_after_the_end__finds_it_dead_for_want_of_a_lease,
              one_that_was_fenced__is_killed_and_told_dead_under_the_epoch_of_the_fence,
              one_that_was_fenced__is_looked_for_by_an_agent_that_lost_its_journal, a_disk_of_its_own__is_told,
              that_it_has_no_disk__is_told_of_what_may_start_elsewhere_and_once,
              a_watchdog_process_that_does_not_start__leaves_it_waiting_and_keeps_nothing_open)
