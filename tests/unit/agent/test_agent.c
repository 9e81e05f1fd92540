/* What the agent does about its share, and what it tells the cluster. */
#include "support.h"

#include <string.h>

static struct world w;
#define R (&w.cluster.records[0])

static bool is_running(struct world *x) {
  return x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}
static bool is_dead(struct world *x) {
  return x->cluster.records[0].dead;
}
static bool is_gone(struct world *x) {
  return x->cluster.records[0].gone;
}
static bool is_forgotten(struct world *x) {
  return blx__agent_instances(x->agent) == 0;
}
static bool is_quiet_and_told(struct world *x) {
  return x->host.pending == 0 && blx__agent_unreported(x->agent) == 0;
}

static void start_first(void) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  ck_assert(host_runs(&w, 0));
}

START_TEST(share__with_a_new_instance__is_prepared_started_and_reported_running) {
  world_open(&w);
  for (int n = 0; n < GUESTS; n++) assign(&w, n);
  share(&w);
  run_until(&w, is_running);
  run_until(&w, is_quiet_and_told);
  for (int n = 0; n < GUESTS; n++) {
    ck_assert_int_eq(w.cluster.records[n].phase, BLX_PHASE_RUNNING);
    ck_assert_uint_eq(host_starts(&w, n), 1);
  }
  struct blx__vm_key key;
  ck_assert_int_eq(blx__agent_find(w.agent, NULL, "web-2", &key, NULL).code, 0);
  ck_assert_uint_eq(key.uid, 12);
  ck_assert_int_eq(blx__agent_find(w.agent, NULL, "web-9", &key, NULL).code, BLX_E_NOT_FOUND);
  world_close(&w);
}
END_TEST

START_TEST(before_the_first_share__nothing_is_started) {
  start_first();
  host_exit(&w, 0, 1, 0);
  run_until(&w, is_dead);
  agent_close(&w);
  agent_open(&w);
  run_until(&w, is_quiet_and_told);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  ck_assert_uint_eq(w.host.prepares, 1);
  world_close(&w);
}
END_TEST

START_TEST(desired_stopped__is_shut_down_with_its_own_deadline) {
  start_first();
  R->desired = BLX_DESIRED_STOPPED;
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_STOPPED_BY_USER);
  ck_assert_uint_eq(w.host.stop_deadline_ms, 1234);
  ck_assert_uint_eq(w.host.kills, 0);
  ck_assert(R->has_exit && R->exit_status == 0);
  R->desired = BLX_DESIRED_RUNNING;
  R->phase = BLX_PHASE_PENDING;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(host_starts(&w, 0), 2);
  world_close(&w);
}
END_TEST

static unsigned sends_before;
static bool has_told(struct world *x) {
  return x->cluster.sends > sends_before;
}

START_TEST(running_and_asked_how_it_is__reports_again) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  sends_before = w.cluster.sends;
  R->tell = true;
  share(&w);
  run_until(&w, has_told);
  ck_assert_int_eq(R->phase, BLX_PHASE_RUNNING);
  world_close(&w);
}
END_TEST

START_TEST(stopped_before_it_was_seen__is_reported_dead_without_a_start) {
  world_open(&w);
  assign(&w, 0)->desired = BLX_DESIRED_STOPPED;
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_STOPPED_BY_USER);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  world_close(&w);
}
END_TEST

START_TEST(remove__stops_destroys_reports_gone_and_forgets) {
  start_first();
  R->remove = true;
  share(&w);
  run_until(&w, is_gone);
  run_until(&w, is_forgotten);
  ck_assert_int_eq(w.host.guests[0].status.state, BLX__VM_ABSENT);
  ck_assert(!journal_exists(&w, 0));
  world_close(&w);
}
END_TEST

START_TEST(remove__of_what_was_never_here__is_reported_gone) {
  world_open(&w);
  assign(&w, 0)->remove = true;
  R->dead = true;
  share(&w);
  run_until(&w, is_gone);
  world_close(&w);
}
END_TEST

/* As a node finds it that died before it heard of the later epoch, in which the instance was deleted. */
START_TEST(remove__under_a_later_epoch_than_the_last_here_is_reported_gone_in_that_epoch) {
  for (int running = 0; running < 2; running++) {
    start_first();
    if (!running) {
      host_exit(&w, 0, 1, 0);
      run_until(&w, is_dead);
      run_until(&w, is_quiet_and_told);
    }
    assign(&w, 0)->remove = true;
    ck_assert_uint_eq(R->epoch, 2);
    share(&w);
    run_until(&w, is_gone);
    run_until(&w, is_forgotten);
    ck_assert_int_eq(w.host.guests[0].status.state, BLX__VM_ABSENT);
    ck_assert_uint_eq(host_starts(&w, 0), 1);
    ck_assert(!journal_exists(&w, 0));
    world_close(&w);
  }
}
END_TEST

START_TEST(moved_away__is_stopped_and_removed) {
  start_first();
  R->assigned = false;
  share(&w);
  run_until(&w, is_forgotten);
  ck_assert(!host_runs(&w, 0));
  ck_assert_int_eq(w.host.guests[0].status.state, BLX__VM_ABSENT);
  ck_assert(!journal_exists(&w, 0));
  world_close(&w);
}
END_TEST

START_TEST(dead_in_the_share__is_not_started) {
  world_open(&w);
  assign(&w, 0)->dead = true;
  share(&w);
  run_until(&w, is_quiet_and_told);
  ck_assert_uint_eq(blx__agent_instances(w.agent), 0);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  world_close(&w);
}
END_TEST

START_TEST(monitor_crash__is_reported_with_its_signal_and_not_restarted_in_its_epoch) {
  start_first();
  host_exit(&w, 0, -1, 9);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->phase, BLX_PHASE_FAILED);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_CRASHED);
  ck_assert_int_eq(R->exit_status, -9);
  share(&w);
  run_until(&w, is_quiet_and_told);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  assign(&w, 0);
  R->phase = BLX_PHASE_PENDING;
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(w.host.guests[0].starts[2], 1);
  world_close(&w);
}
END_TEST

START_TEST(guest_that_powers_itself_off__is_exited_with_status_zero) {
  start_first();
  host_exit(&w, 0, 0, 0);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_EXITED);
  ck_assert_int_eq(R->phase, BLX_PHASE_STOPPED);
  ck_assert(R->has_exit && R->exit_status == 0);
  world_close(&w);
}
END_TEST

START_TEST(guest_that_reboots_or_panics__crashed_though_its_monitor_ended_well) {
  start_first();
  w.host.guests[0].status.reset = true;
  host_exit(&w, 0, 0, 0);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_CRASHED);
  ck_assert_int_eq(R->phase, BLX_PHASE_FAILED);
  ck_assert(R->has_exit && R->exit_status == 0);
  world_close(&w);
}
END_TEST

START_TEST(end_of_a_shim_that_nobody_can_tell_of__is_a_crash_and_no_restart_of_the_node) {
  start_first();
  (void)blx__str_copy(w.host.guests[0].status.text, sizeof w.host.guests[0].status.text, "its shim is gone");
  host_exit(&w, 0, -1, 0);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_CRASHED);
  ck_assert_str_eq(R->text, "its shim is gone");
  ck_assert(!R->has_exit);
  world_close(&w);
}
END_TEST

START_TEST(failed_build__is_reported_dead_with_its_text) {
  world_open(&w);
  w.host.fail_prepare = true;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->phase, BLX_PHASE_FAILED);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_BUILD_FAILED);
  ck_assert_str_eq(R->text, "the module does not build");
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  world_close(&w);
}
END_TEST

START_TEST(failed_start__is_killed_and_reported_dead) {
  world_open(&w);
  w.host.fail_start = true;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_START_FAILED);
  ck_assert_str_eq(R->text, "no monitor today");
  ck_assert_uint_eq(w.host.kills, 1);
  world_close(&w);
}
END_TEST

START_TEST(driver_that_is_busy__is_asked_again) {
  world_open(&w);
  w.host.refuse = 1;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  world_close(&w);
}
END_TEST

START_TEST(guest_that_never_says_ready__is_killed_with_a_sentence) {
  world_open(&w);
  agent_close(&w);
  w.ready_timeout_ms = 200;
  w.host.never_ready = true;
  agent_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->phase, BLX_PHASE_FAILED);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_CRASHED);
  ck_assert_ptr_nonnull(strstr(R->text, "did not say ready"));
  ck_assert(!host_runs(&w, 0));
  world_close(&w);
}
END_TEST

START_TEST(monitor_that_answers_garbage__is_killed_as_vmm_protocol) {
  start_first();
  host_garbage(&w, 0);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->phase, BLX_PHASE_FAILED);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_VMM_PROTOCOL);
  ck_assert_str_eq(R->text, "its monitor answered half a brace");
  ck_assert(!host_runs(&w, 0));
  world_close(&w);
}
END_TEST

static bool second_is_running(struct world *x) {
  return x->cluster.records[1].phase == BLX_PHASE_RUNNING;
}

START_TEST(stale__kills_what_runs_under_that_epoch_only) {
  start_first();
  blx__agent_instance_stale(w.agent, R->uid, R->epoch - 1);
  assign(&w, 1);
  share(&w);
  run_until(&w, second_is_running);
  ck_assert(host_runs(&w, 0));
  blx__agent_instance_stale(w.agent, R->uid, R->epoch);
  run_until(&w, is_dead);
  ck_assert_uint_eq(w.host.kills, 1);
  ck_assert(!host_runs(&w, 0));
  world_close(&w);
}
END_TEST

static bool has_ended(struct world *x) {
  return !host_runs(x, 0);
}

START_TEST(stale_answer_to_a_report__kills_even_before_the_first_share) {
  start_first();
  agent_close(&w);
  R->assigned = false;
  agent_open(&w);
  run_until(&w, has_ended);
  ck_assert_uint_eq(w.host.kills, 1);
  world_close(&w);
}
END_TEST

static bool is_stopping(struct world *x) {
  return x->cluster.records[0].phase == BLX_PHASE_STOPPING;
}

START_TEST(graceful_stop__is_overtaken_by_a_kill_when_the_epoch_is_over) {
  start_first();
  w.host.hold_stop = true;
  R->desired = BLX_DESIRED_STOPPED;
  share(&w);
  run_until(&w, is_stopping);
  blx__agent_instance_stale(w.agent, R->uid, R->epoch);
  run_until(&w, is_dead);
  ck_assert_uint_eq(w.host.kills, 1);
  world_close(&w);
}
END_TEST

START_TEST(higher_epoch__kills_the_old_one_before_it_starts_the_new) {
  start_first();
  assign(&w, 0);
  R->phase = BLX_PHASE_PENDING;
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(w.host.kills, 1);
  ck_assert_uint_eq(w.host.guests[0].starts[1], 1);
  ck_assert_uint_eq(w.host.guests[0].starts[2], 1);
  world_close(&w);
}
END_TEST

START_TEST(lower_epoch__is_never_acted_on) {
  start_first();
  R->epoch = 5;
  R->phase = BLX_PHASE_PENDING;
  share(&w);
  run_until(&w, is_running);
  R->epoch = 4;
  R->remove = true;
  share(&w);
  run_until(&w, is_quiet_and_told);
  ck_assert(host_runs(&w, 0));
  world_close(&w);
}
END_TEST

static bool is_building(struct world *x) {
  return x->host.prepares == 1;
}

START_TEST(build_that_nobody_wants_any_more__is_overtaken) {
  world_open(&w);
  w.host.hold_prepare = true;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_building);
  R->remove = true;
  share(&w);
  run_until(&w, is_gone);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  world_close(&w);
}
END_TEST

START_TEST(reports__are_sent_again_until_acknowledged) {
  world_open(&w);
  w.cluster.fail = 3;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_ge(w.cluster.sends, 4);
  world_close(&w);
}
END_TEST

static bool is_held(struct world *x) {
  return x->cluster.held != NULL;
}
static bool runs_on_host(struct world *x) {
  return host_runs(x, 0);
}

START_TEST(reports__go_one_batch_at_a_time_and_the_dead_one_is_not_lost) {
  world_open(&w);
  w.cluster.hold = true;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_held);
  run_until(&w, runs_on_host);
  host_exit(&w, 0, 3, 0);
  blx__agent_sent_fn *held = w.cluster.held;
  w.cluster.held = NULL;
  w.cluster.hold = false;
  held(w.cluster.held_arg, NULL, NULL, 0);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->exit_status, 3);
  ck_assert_uint_eq(w.cluster.violations, 0);
  world_close(&w);
}
END_TEST

/* Its report of the older epoch is under way when the later one is assigned and deleted at once. */
START_TEST(gone__and_removed_again_under_a_later_epoch_is_reported_gone_in_that_one) {
  start_first();
  run_until(&w, is_quiet_and_told);
  R->assigned = false;
  share(&w);
  w.cluster.hold = true;
  run_until(&w, is_held);
  while (journal_exists(&w, 0) && w.host.guests[0].status.state != BLX__VM_ABSENT) {
    blx__agent_sent_fn *sent = w.cluster.held;
    w.cluster.held = NULL;
    sent(w.cluster.held_arg, NULL, NULL, 0);
    run_until(&w, is_held);
  }
  assign(&w, 0)->remove = true;
  w.cluster.hold = false;
  share(&w);
  blx__agent_sent_fn *last = w.cluster.held;
  w.cluster.held = NULL;
  last(w.cluster.held_arg, NULL, NULL, 0);
  run_until(&w, is_gone);
  run_until(&w, is_forgotten);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  world_close(&w);
}
END_TEST

/* The answer is to a report that was made before the question. */
START_TEST(asked_while_a_report_is_under_way__reports_once_more) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  R->tell = true;
  w.cluster.hold = true;
  share(&w);
  run_until(&w, is_held);
  R->seq = 0;
  share(&w);
  sends_before = w.cluster.sends;
  blx__agent_sent_fn *held = w.cluster.held;
  w.cluster.held = NULL;
  w.cluster.hold = false;
  R->tell = false;
  held(w.cluster.held_arg, NULL, NULL, 0);
  run_until(&w, has_told);
  ck_assert_uint_gt(R->seq, 0);
  ck_assert_uint_eq(blx__agent_unreported(w.agent), 0);
  world_close(&w);
}
END_TEST

static uint64_t found(const char *tenant, const char *name) {
  struct blx__vm_key key = {0};
  return blx__agent_find(w.agent, tenant, name, &key, NULL).code == 0 ? key.uid : 0;
}

static void check_both_found(void) {
  ck_assert_uint_eq(found("acme", "web-1"), 11);
  ck_assert_uint_eq(found("other", "web-1"), 12);
  ck_assert_uint_eq(found(NULL, "web-1"), 0);
  ck_assert_str_eq(blx__agent_tenant(w.agent, 12), "other");
  ck_assert_uint_eq(found(NULL, "web-3"), 13); /* of a server that does not say it */
  ck_assert_uint_eq(found("default", "web-3"), 13);
  ck_assert_uint_eq(found("acme", "web-3"), 0);
  ck_assert_ptr_null(blx__agent_tenant(w.agent, 13));
}

START_TEST(two_tenants_of_one_name__run_beside_each_other_and_are_found_apart_also_after_a_restart) {
  world_open(&w);
  (void)blx__str_copy(w.cluster.records[1].name, sizeof w.cluster.records[1].name, "web-1");
  (void)blx__str_copy(w.host.guests[1].name, sizeof w.host.guests[1].name, "web-1");
  assign(&w, 0)->tenant = "acme";
  assign(&w, 1)->tenant = "other";
  assign(&w, 2);
  share(&w);
  run_until(&w, is_running);
  run_until(&w, is_quiet_and_told);
  for (int n = 0; n < 3; n++) ck_assert(host_runs(&w, n));
  check_both_found();
  agent_close(&w);
  agent_open(&w);
  check_both_found(); /* the journal says it before a server does */
  R->remove = true;
  share(&w);
  run_until(&w, is_gone);
  ck_assert(!host_runs(&w, 0) && host_runs(&w, 1));
  ck_assert_uint_eq(found("acme", "web-1"), 0);
  ck_assert_uint_eq(found("other", "web-1"), 12);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("agent", share__with_a_new_instance__is_prepared_started_and_reported_running,
              two_tenants_of_one_name__run_beside_each_other_and_are_found_apart_also_after_a_restart,
              before_the_first_share__nothing_is_started, desired_stopped__is_shut_down_with_its_own_deadline,
              running_and_asked_how_it_is__reports_again, asked_while_a_report_is_under_way__reports_once_more,
              stopped_before_it_was_seen__is_reported_dead_without_a_start,
              remove__stops_destroys_reports_gone_and_forgets, remove__of_what_was_never_here__is_reported_gone,
              remove__under_a_later_epoch_than_the_last_here_is_reported_gone_in_that_epoch,
              moved_away__is_stopped_and_removed, dead_in_the_share__is_not_started,
              monitor_crash__is_reported_with_its_signal_and_not_restarted_in_its_epoch,
              guest_that_powers_itself_off__is_exited_with_status_zero,
              guest_that_reboots_or_panics__crashed_though_its_monitor_ended_well,
              end_of_a_shim_that_nobody_can_tell_of__is_a_crash_and_no_restart_of_the_node,
              failed_build__is_reported_dead_with_its_text, failed_start__is_killed_and_reported_dead,
              driver_that_is_busy__is_asked_again, guest_that_never_says_ready__is_killed_with_a_sentence,
              monitor_that_answers_garbage__is_killed_as_vmm_protocol, stale__kills_what_runs_under_that_epoch_only,
              stale_answer_to_a_report__kills_even_before_the_first_share,
              graceful_stop__is_overtaken_by_a_kill_when_the_epoch_is_over,
              higher_epoch__kills_the_old_one_before_it_starts_the_new, lower_epoch__is_never_acted_on,
              build_that_nobody_wants_any_more__is_overtaken, reports__are_sent_again_until_acknowledged,
              reports__go_one_batch_at_a_time_and_the_dead_one_is_not_lost,
              gone__and_removed_again_under_a_later_epoch_is_reported_gone_in_that_one)
