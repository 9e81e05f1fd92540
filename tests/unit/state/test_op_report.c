#include "../harness.h"
#include "support.h"

#include <string.h>

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};

static struct t_seen ended(int32_t phase, int32_t code, int32_t exit_status) {
  return (struct t_seen){.phase = phase, .code = code, .dead = true, .has_exit = true, .exit_status = exit_status};
}

static struct t_seen crash(void) {
  return ended(BLX_PHASE_FAILED, BLX_REASON_CODE_CRASHED, 1);
}

static void open_running(struct t *t, int32_t policy) {
  t_open_cluster(t, 2);
  struct blx_vm_spec spec = t_spec("web", 1);
  spec.restart_policy = policy;
  ck_assert_int_eq(t_create(t, &spec, BLX_DESIRED_RUNNING), 0);
  t_run(t, "web-1", 1);
}

START_TEST(reports__take_the_instance_through_its_phases) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_RUNNING);
  ck_assert_uint_eq(blx__state_counts(t.st).running, 1);
  t.time_ms += 5000;
  t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_STOPPING, .code = BLX_REASON_CODE_EXITED});
  ck_assert_uint_eq(t_instance(&t, "web-1")->phase_since_ms, t.time_ms);
  ck_assert_uint_eq(blx__state_counts(t.st).running, 0);
  t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_DELETING});
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_STOPPING);
  t_close(&t);
}
END_TEST

START_TEST(a_report_seen_before__is_ignored) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  const struct blx_instance *i = t_instance(&t, "web-1");
  uint64_t uid = i->uid, seq = i->report_seq, revision = i->revision;
  T_SHALL(0, t_report_as(&t, 1, uid, 1, seq, (struct t_seen){.phase = BLX_PHASE_STARTING}));
  T_SHALL(0, t_report_as(&t, 1, uid, 1, seq - 1, (struct t_seen){.phase = BLX_PHASE_STARTING}));
  ck_assert_uint_eq(t.result.n_stale_instances, 0);
  ck_assert_uint_eq(t_instance(&t, "web-1")->revision, revision);
  ck_assert(!t_instance(&t, "web-1")->dead);
  t_close(&t);
}
END_TEST

START_TEST(a_report_that_changes_nothing_visible__keeps_the_revision_and_counts_its_number) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  uint64_t revision = t_instance(&t, "web-1")->revision, seq = t_instance(&t, "web-1")->report_seq;
  T_SHALL(0, t_report(&t, "web-1", running));
  ck_assert_uint_eq(t_instance(&t, "web-1")->revision, revision);
  ck_assert_uint_eq(t_instance(&t, "web-1")->report_seq, seq + 1);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_report_of_an_old_epoch_another_node_or_an_unknown_instance__is_answered_kill_it) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  uint64_t uid = t_instance(&t, "web-1")->uid;
  T_SHALL(0, t_report_as(&t, 2, uid, 1, 9, running));
  ck_assert_uint_eq(t.result.n_stale_instances, 1);
  ck_assert_uint_eq(t.result.stale_instances[0], uid);
  T_SHALL(0, t_report_as(&t, 1, 999, 1, 9, running));
  ck_assert_uint_eq(t.result.stale_instances[0], 999);
  t_report(&t, "web-1", crash());
  t.time_ms += 2000;
  T_SHALL(0, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_report_as(&t, 1, uid, 1, 99, running));
  ck_assert_uint_eq(t.result.n_stale_instances, 1);
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_CREATING);
  T_SHALL(BLX_E_NOT_FOUND, t_report_as(&t, 9, uid, 2, 1, running));
  t_close(&t);
}
END_TEST

START_TEST(an_instance_confirmed_dead__cannot_live_again_in_that_epoch) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  t_report(&t, "web-1", crash());
  T_SHALL(0, t_report(&t, "web-1", running));
  ck_assert_uint_eq(t.result.n_stale_instances, 1);
  ck_assert(t_instance(&t, "web-1")->dead);
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_PENDING);
  t_close(&t);
}
END_TEST

START_TEST(a_death_under_a_number_seen_before__counts_and_so_does_its_removal) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  uint64_t uid = t_instance(&t, "web-1")->uid;
  T_SHALL(0, t_report_as(&t, 1, uid, 1, 100, (struct t_seen){.phase = BLX_PHASE_STOPPING}));
  T_SHALL(0, t_report_as(&t, 1, uid, 1, 5, crash()));
  ck_assert(t_instance(&t, "web-1")->dead);
  ck_assert_uint_eq(t_instance(&t, "web-1")->report_seq, 100);
  T_SHALL(0, t_delete(&t, "web"));
  T_SHALL(0, t_report_as(&t, 1, uid, 1, 6, (struct t_seen){.phase = BLX_PHASE_STOPPED, .dead = true, .gone = true}));
  ck_assert_ptr_null(t_vm(&t, "web"));
  t_close(&t);
}
END_TEST

START_TEST(policy_always__waits_a_second_and_then_twice_as_long_each_time) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  uint64_t want_ms = 1000;
  for (unsigned n = 1; n <= 12; n++) {
    T_SHALL(0, t_report(&t, "web-1", n % 2 ? crash() : ended(BLX_PHASE_STOPPED, BLX_REASON_CODE_EXITED, 0)));
    const struct blx_instance *i = t_instance(&t, "web-1");
    uint64_t wait_ms = i->not_before_ms - t.time_ms;
    ck_assert_uint_ge(wait_ms, want_ms * 9 / 10);
    ck_assert_uint_le(wait_ms, want_ms * 11 / 10);
    ck_assert_int_eq(i->phase, BLX_PHASE_PENDING);
    ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_BACK_OFF);
    ck_assert_uint_eq(i->failures, n);
    t.time_ms = i->not_before_ms;
    t_run(&t, "web-1", 1);
    want_ms = want_ms * 2 > 300000 ? 300000 : want_ms * 2;
  }
  t_close(&t);
}
END_TEST

START_TEST(a_back_off__says_how_it_ended_and_when_it_starts_again) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  t_report(&t, "web-1", crash());
  ck_assert_str_eq(t_instance(&t, "web-1")->reason->text, "web-1 ended with status 1; starts again in about 1 s");
  ck_assert_int_eq(t_instance(&t, "web-1")->exit_status, 1);
  t.time_ms += 2000;
  t_assign(&t, "web-1", 1);
  t_report(&t, "web-1", ended(BLX_PHASE_FAILED, BLX_REASON_CODE_CRASHED, -9));
  ck_assert_str_eq(t_instance(&t, "web-1")->reason->text, "web-1 was ended by signal 9; starts again in about 2 s");
  t_close(&t);
}
END_TEST

START_TEST(ten_minutes_of_running__forget_the_failures_before) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  for (unsigned n = 0; n < 4; n++) {
    t_report(&t, "web-1", crash());
    t.time_ms += 20000;
    t_run(&t, "web-1", 1);
  }
  ck_assert_uint_eq(t_instance(&t, "web-1")->failures, 4);
  t.time_ms += 599999;
  t_report(&t, "web-1", crash());
  ck_assert_uint_eq(t_instance(&t, "web-1")->failures, 5);
  t.time_ms += 20000;
  t_run(&t, "web-1", 1);
  t.time_ms += 600000;
  t_report(&t, "web-1", crash());
  ck_assert_uint_eq(t_instance(&t, "web-1")->failures, 1);
  t_close(&t);
}
END_TEST

START_TEST(policy_on_failure__leaves_a_clean_exit_and_restarts_the_rest) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ON_FAILURE);
  t_report(&t, "web-1", crash());
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_PENDING);
  t.time_ms += 2000;
  t_assign(&t, "web-1", 1);
  t_report(&t, "web-1", ended(BLX_PHASE_STOPPED, BLX_REASON_CODE_EXITED, 0));
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_int_eq(i->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_EXITED);
  ck_assert_ptr_null(blx__state_waiting_after(t.st, 0, 0));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  T_SHALL(0, t_assign(&t, "web-1", 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(policy_on_failure__restarts_what_its_node_lost) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ON_FAILURE);
  t_report(&t, "web-1",
           (struct t_seen){.phase = BLX_PHASE_STOPPED, .code = BLX_REASON_CODE_NODE_RESTARTED, .dead = true});
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_PENDING);
  ck_assert_str_eq(t_instance(&t, "web-1")->reason->text,
                   "web-1 was not running any more when its node came back; starts again in about 1 s");
  t_close(&t);
}
END_TEST

START_TEST(policy_never__leaves_it_there_and_says_so) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_NEVER);
  t_report(&t, "web-1", crash());
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_int_eq(i->phase, BLX_PHASE_FAILED);
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_POLICY_NEVER);
  ck_assert_str_eq(i->reason->text, "web-1 ended with status 1; its restart policy never leaves it there");
  ck_assert_ptr_null(blx__state_waiting_after(t.st, 0, 0));
  t.time_ms += 1000000;
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_crash__is_told_in_the_agents_words_however_long_they_are) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  struct t_seen seen = crash();
  seen.text = "the monitor ended with status 1: -drive: no such file";
  t_report(&t, "web-1", seen);
  ck_assert_str_eq(t_instance(&t, "web-1")->reason->text,
                   "web-1: the monitor ended with status 1: -drive: no such file; starts again in about 1 s");
  for (size_t shift = 0; shift < 2; shift++) {
    char accents[1202] = "x";
    for (size_t i = shift; i < 1200; i += 2) memcpy(accents + i, "\xc3\xa9", 2);
    seen.text = accents;
    t.time_ms += 300000;
    t_assign(&t, "web-1", 1);
    t_report(&t, "web-1", seen);
    const char *text = t_instance(&t, "web-1")->reason->text;
    ck_assert_msg(blx__utf8_ok(text, strlen(text)), "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "; starts again in about"));
  }
  t_close(&t);
}
END_TEST

START_TEST(a_failed_build__keeps_the_log_in_its_reason_and_is_tried_again) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  struct t_seen seen = {.phase = BLX_PHASE_FAILED,
                        .code = BLX_REASON_CODE_BUILD_FAILED,
                        .text = "error: no such attribute",
                        .dead = true};
  t_report(&t, "web-1", seen);
  const struct blx_instance *i = t_instance(&t, "web-1");
  ck_assert_int_eq(i->phase, BLX_PHASE_FAILED);
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_BUILD_FAILED);
  ck_assert_str_eq(i->reason->text, "error: no such attribute");
  ck_assert_str_eq(i->reason->unblock, "it is tried again in about 1 s");
  ck_assert_ptr_eq(blx__state_waiting_after(t.st, 0, 0), i);
  t_check_indexes(&t);
  t.time_ms += 2000;
  T_SHALL(0, t_assign(&t, "web-1", 2));
  t_close(&t);
}
END_TEST

START_TEST(a_second_confirmation_of_a_death__is_no_second_failure) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  t_report(&t, "web-1", crash());
  uint64_t due = t_instance(&t, "web-1")->not_before_ms;
  struct t_seen gone = crash();
  gone.gone = true;
  T_SHALL(0, t_report(&t, "web-1", gone));
  ck_assert_uint_eq(t.result.n_stale_instances, 0);
  ck_assert_uint_eq(t_instance(&t, "web-1")->failures, 1);
  ck_assert_uint_eq(t_instance(&t, "web-1")->not_before_ms, due);
  t_close(&t);
}
END_TEST

START_TEST(dead__frees_the_room_on_the_node_and_alive_does_not) {
  struct t t;
  open_running(&t, BLX_RESTART_POLICY_ALWAYS);
  struct blx__placement_node n;
  t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_FAILED, .code = BLX_REASON_CODE_VMM_PROTOCOL});
  ck_assert(blx__state_placement_node(t.st, 1, &n));
  ck_assert_uint_eq(n.allocated_memory_mib, 128);
  t_report(&t, "web-1", crash());
  ck_assert(blx__state_placement_node(t.st, 1, &n));
  ck_assert_uint_eq(n.allocated_memory_mib, 0);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/op_report", reports__take_the_instance_through_its_phases, a_report_seen_before__is_ignored,
              a_report_that_changes_nothing_visible__keeps_the_revision_and_counts_its_number,
              a_report_of_an_old_epoch_another_node_or_an_unknown_instance__is_answered_kill_it,
              an_instance_confirmed_dead__cannot_live_again_in_that_epoch,
              a_death_under_a_number_seen_before__counts_and_so_does_its_removal,
              policy_always__waits_a_second_and_then_twice_as_long_each_time,
              a_back_off__says_how_it_ended_and_when_it_starts_again,
              ten_minutes_of_running__forget_the_failures_before,
              policy_on_failure__leaves_a_clean_exit_and_restarts_the_rest,
              policy_on_failure__restarts_what_its_node_lost, policy_never__leaves_it_there_and_says_so,
              a_crash__is_told_in_the_agents_words_however_long_they_are,
              a_failed_build__keeps_the_log_in_its_reason_and_is_tried_again,
              a_second_confirmation_of_a_death__is_no_second_failure,
              dead__frees_the_room_on_the_node_and_alive_does_not)
