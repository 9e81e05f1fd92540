/* Restart, pause, kill, and the order that depends_on gives. */
#include "../harness.h"
#include "support.h"

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
static const struct t_seen stopping = {.phase = BLX_PHASE_STOPPING, .code = BLX_REASON_CODE_STOPPED_BY_USER};
static const struct t_seen stopped = {
    .phase = BLX_PHASE_STOPPED, .code = BLX_REASON_CODE_STOPPED_BY_USER, .dead = true};
static const struct t_seen gone = {.phase = BLX_PHASE_STOPPED, .dead = true, .gone = true};

static void run(struct t *t, const char *instance) {
  t_run(t, instance, 1);
}

static int create_on(struct t *t, const char *name, const char *on) {
  struct blx_vm_spec spec = t_spec(name, 1);
  spec.depends_on = &on;
  spec.n_depends_on = 1;
  return t_create(t, &spec, BLX_DESIRED_RUNNING);
}

static int32_t reason_of(struct t *t, const char *instance) {
  const struct blx_instance *i = t_instance(t, instance);
  return i->reason ? i->reason->code : BLX_REASON_CODE_NONE;
}

/* ---- restart */

START_TEST(restart__ends_every_instance_and_starts_it_at_once_under_the_next_epoch) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 2));
  run(&t, "web-1");
  run(&t, "web-2");
  T_SHALL(0, t_restart(&t, "web", BLX_ENDING_NONE));
  for (unsigned n = 1; n <= 2; n++) {
    const char *name = n == 1 ? "web-1" : "web-2";
    ck_assert_int_eq(t_instance(&t, name)->phase, BLX_PHASE_STOPPING);
    ck_assert_int_eq(reason_of(&t, name), BLX_REASON_CODE_RESTART_REQUESTED);
    ck_assert_int_eq(t_told(&t, name)->ending, BLX_ENDING_SHUT_DOWN);
    ck_assert_int_eq(t_told(&t, name)->desired, BLX_DESIRED_RUNNING);
  }
  T_SHALL(0, t_report(&t, "web-1", stopping)); /* that does not hide why */
  ck_assert_int_eq(reason_of(&t, "web-1"), BLX_REASON_CODE_RESTART_REQUESTED);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1)); /* it still runs */
  T_SHALL(0, t_report(&t, "web-1", stopped));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_PENDING);
  ck_assert_uint_eq(t_instance(&t, "web-1")->not_before_ms, 0);
  T_SHALL(0, t_assign(&t, "web-1", 1));
  ck_assert_uint_eq(t_instance(&t, "web-1")->epoch, 2);
  ck_assert_int_eq(t_told(&t, "web-1")->ending, BLX_ENDING_NONE);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(restart_of_one_instance__leaves_the_others) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 2));
  run(&t, "web-1");
  run(&t, "web-2");
  T_SHALL(0, t_restart(&t, "web-2", BLX_ENDING_SHUT_DOWN));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_RUNNING);
  ck_assert_int_eq(t_instance(&t, "web-2")->phase, BLX_PHASE_STOPPING);
  T_SHALL(0, t_restart(&t, "web-2", BLX_ENDING_KILL)); /* may be hurried, */
  ck_assert_int_eq(t_told(&t, "web-2")->ending, BLX_ENDING_KILL);
  T_SHALL(0, t_restart(&t, "web-2", BLX_ENDING_SHUT_DOWN)); /* not slowed down again */
  ck_assert_int_eq(t_told(&t, "web-2")->ending, BLX_ENDING_KILL);
  t_close(&t);
}
END_TEST

START_TEST(restart__ends_a_back_off_and_is_refused_for_what_is_stopped_or_goes) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 1));
  run(&t, "web-1");
  T_SHALL(0, t_report(&t, "web-1",
                      (struct t_seen){.phase = BLX_PHASE_FAILED, .code = BLX_REASON_CODE_CRASHED, .dead = true}));
  ck_assert_uint_gt(t_instance(&t, "web-1")->not_before_ms, 0);
  T_SHALL(0, t_restart(&t, "web", BLX_ENDING_SHUT_DOWN));
  ck_assert_uint_eq(t_instance(&t, "web-1")->not_before_ms, 0);
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  T_SHALL(BLX_E_CONFLICT, t_restart(&t, "web", BLX_ENDING_SHUT_DOWN));
  T_SAYS("the VM web is stopped: start it instead");
  T_SHALL(BLX_E_NOT_FOUND, t_restart(&t, "web-7", BLX_ENDING_SHUT_DOWN));
  T_SHALL(0, t_delete(&t, "web"));
  T_SHALL(BLX_E_CONFLICT, t_restart(&t, "web-1", BLX_ENDING_SHUT_DOWN));
  T_SAYS("the VM web is being deleted: nothing else can be done with it");
  t_close(&t);
}
END_TEST

/* ---- if_revision */

/* Each verb once, with the revision that it asks for. */
static int verb_at(struct t *t, unsigned verb, uint64_t if_revision) {
  struct blx_op_vm_desire desire = BLX_OP_VM_DESIRE_INIT;
  struct blx_op_vm_restart restart = BLX_OP_VM_RESTART_INIT;
  struct blx_op_vm_pause pause = BLX_OP_VM_PAUSE_INIT;
  struct blx_op_vm_kill kill = BLX_OP_VM_KILL_INIT;
  struct blx_op op = BLX_OP_INIT;
  desire.name = restart.name = pause.name = kill.name = "web";
  desire.if_revision = restart.if_revision = pause.if_revision = kill.if_revision = if_revision;
  desire.desired = verb == 0 ? BLX_DESIRED_RUNNING : BLX_DESIRED_STOPPED;
  pause.paused = verb == 2;
  if (verb == 0 || verb == 5) op.vm_desire = &desire;
  if (verb == 1) op.vm_restart = &restart;
  if (verb == 2 || verb == 3) op.vm_pause = &pause;
  if (verb == 4) op.vm_kill = &kill;
  return t_apply(t, &op);
}

START_TEST(start_restart_pause_resume_kill_stop__under_an_old_revision_are_refused_and_change_nothing) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 1));
  run(&t, "web-1");
  for (unsigned verb = 0; verb < 6; verb++) {
    uint64_t revision = t_vm(&t, "web")->revision, of_instance = t_instance(&t, "web-1")->revision;
    char says[80];
    (void)blx__str_format(says, sizeof says, "the VM web has revision %llu, not %llu: read it again",
                          (unsigned long long)revision, (unsigned long long)revision - 1);
    T_SHALL(BLX_E_STALE, verb_at(&t, verb, revision - 1));
    T_SAYS(says);
    ck_assert_uint_eq(t_vm(&t, "web")->revision, revision);
    ck_assert_uint_eq(t_instance(&t, "web-1")->revision, of_instance);
    T_SHALL(0, verb_at(&t, verb, revision));
  }
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

/* ---- pause */

START_TEST(pause__is_told_to_the_node_and_shown_once_it_is_so) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 1));
  run(&t, "web-1");
  uint64_t share = blx__state_share_revision(t.st, 1);
  T_SHALL(0, t_pause(&t, "web", true));
  ck_assert_uint_gt(blx__state_share_revision(t.st, 1), share);
  ck_assert(t_told(&t, "web-1")->paused);
  ck_assert(!t_instance(&t, "web-1")->paused);
  T_SHALL(0, t_report(&t, "web-1",
                      (struct t_seen){.phase = BLX_PHASE_RUNNING, .code = BLX_REASON_CODE_PAUSED, .paused = true}));
  ck_assert(t_instance(&t, "web-1")->paused);
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_RUNNING);
  ck_assert_int_eq(t_vm(&t, "web")->reason->code, BLX_REASON_CODE_PAUSED);
  T_SHALL(0, t_pause(&t, "web", false));
  ck_assert(!t_told(&t, "web-1")->paused);
  T_SHALL(0, t_report(&t, "web-1", running));
  ck_assert(!t_instance(&t, "web-1")->paused);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(stop_and_start_of_a_paused_vm__let_it_go_on) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 1));
  run(&t, "web-1");
  T_SHALL(0, t_pause(&t, "web", true));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  ck_assert(!t_vm(&t, "web")->paused);
  T_SHALL(0, t_pause(&t, "web", true));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  ck_assert(!t_told(&t, "web-1")->paused);
  T_SHALL(BLX_E_CONFLICT, t_pause(&t, "web", true));
  T_SAYS("the VM web is stopped: only what runs can be paused or resumed");
  T_SHALL(0, t_report(&t, "web-1", stopped));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_STOPPED);
  t_close(&t);
}
END_TEST

/* ---- kill */

START_TEST(kill__wants_it_stopped_and_asks_no_guest) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 2));
  run(&t, "web-1");
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED)); /* a stop that takes too long, */
  T_SHALL(0, t_kill(&t, "web"));                        /* cut short */
  ck_assert_int_eq(t_vm(&t, "web")->desired, BLX_DESIRED_STOPPED);
  ck_assert_int_eq(t_told(&t, "web-1")->ending, BLX_ENDING_KILL);
  ck_assert_int_eq(t_instance(&t, "web-2")->phase, BLX_PHASE_STOPPED);
  T_SHALL(0, t_report(&t, "web-1", stopped));
  ck_assert_int_eq(t_vm(&t, "web")->phase, BLX_PHASE_STOPPED);
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_RUNNING));
  run(&t, "web-1");
  ck_assert_int_eq(t_told(&t, "web-1")->ending, BLX_ENDING_NONE);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

/* ---- dependencies */

START_TEST(what_it_depends_on__must_be_there_first_and_cannot_be_deleted_before_it) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(BLX_E_NOT_FOUND, create_on(&t, "web", "db"));
  T_SAYS("spec.depends_on: there is no VM named db: create it first");
  T_SHALL(BLX_E_INVALID, create_on(&t, "web", "web"));
  T_SAYS("spec.depends_on: web cannot wait for itself");
  T_SHALL(0, t_create_named(&t, "db", 1));
  T_SHALL(0, create_on(&t, "web", "db"));
  T_SHALL(BLX_E_CONFLICT, t_delete(&t, "db"));
  T_SAYS("the VM web depends on db: delete web first");
  T_SHALL(0, t_delete(&t, "web"));
  T_SHALL(0, t_delete(&t, "db"));
  ck_assert_uint_eq(blx__state_counts(t.st).vms, 0);
  t_close(&t);
}
END_TEST

START_TEST(it_starts__when_all_instances_that_it_depends_on_run) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "db", 2));
  T_SHALL(0, create_on(&t, "web", "db"));
  run(&t, "db-1");
  T_SHALL(0, t_assign(&t, "db-2", 1));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 1));
  T_SAYS("web-1 waits for the VM db, which does not run");
  ck_assert_ptr_eq(blx__state_awaits(t.st, t_vm(&t, "web")), t_vm(&t, "db"));
  T_SHALL(0, t_report(&t, "db-2", running));
  ck_assert_ptr_null(blx__state_awaits(t.st, t_vm(&t, "web")));
  T_SHALL(0, t_assign(&t, "web-1", 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(what_is_depended_on__is_stopped_after_what_depends_on_it) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "db", 1));
  T_SHALL(0, create_on(&t, "web", "db"));
  run(&t, "db-1");
  run(&t, "web-1");
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_STOPPED));
  ck_assert_int_eq(t_told(&t, "web-1")->desired, BLX_DESIRED_STOPPED);
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_RUNNING);
  ck_assert_int_eq(reason_of(&t, "db-1"), BLX_REASON_CODE_WAITS_FOR_STOP);
  ck_assert_str_eq(t_instance(&t, "db-1")->reason->text,
                   "shuts down when the VM web, which depends on it, has stopped");
  uint64_t share = blx__state_share_revision(t.st, 1);
  T_SHALL(0, t_report(&t, "web-1", stopped));
  ck_assert_uint_gt(blx__state_share_revision(t.st, 1), share);
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_STOPPED);
  ck_assert_int_eq(t_instance(&t, "db-1")->phase, BLX_PHASE_STOPPING);
  T_SHALL(0, t_report(&t, "db-1", stopped));
  ck_assert_int_eq(t_vm(&t, "db")->phase, BLX_PHASE_STOPPED);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_dependent_that_is_deleted__lets_the_stop_go_on_too) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "db", 1));
  T_SHALL(0, create_on(&t, "web", "db"));
  run(&t, "db-1");
  run(&t, "web-1");
  T_SHALL(0, t_delete(&t, "web"));
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_STOPPED));
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_RUNNING);
  T_SHALL(0, t_report(&t, "web-1", gone));
  ck_assert_ptr_null(t_vm(&t, "web"));
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_STOPPED);
  t_close(&t);
}
END_TEST

START_TEST(a_stop_that_waits__can_be_taken_back_and_a_kill_does_not_wait) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "db", 1));
  T_SHALL(0, create_on(&t, "web", "db"));
  run(&t, "db-1");
  run(&t, "web-1");
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_RUNNING));
  ck_assert_int_eq(t_instance(&t, "db-1")->phase, BLX_PHASE_RUNNING);
  ck_assert_int_eq(reason_of(&t, "db-1"), BLX_REASON_CODE_NONE);
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_STOPPED));
  ck_assert_int_eq(reason_of(&t, "db-1"), BLX_REASON_CODE_WAITS_FOR_STOP);
  T_SHALL(0, t_kill(&t, "db"));
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_STOPPED);
  ck_assert_int_eq(t_told(&t, "db-1")->ending, BLX_ENDING_KILL);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

/* A stop of what runs dependents does not wait: only those that are on their way out are waited for. */
START_TEST(a_stop__does_not_wait_for_a_dependent_that_shall_run_on) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "db", 1));
  T_SHALL(0, create_on(&t, "web", "db"));
  run(&t, "db-1");
  run(&t, "web-1");
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_STOPPED));
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_STOPPED);
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_RUNNING));
  t_close(&t);
}
END_TEST

/* Whoever took its share before saw the stop, and whoever took it later did not: nothing would tell him again. */
START_TEST(a_stop_that_was_told__is_not_taken_back_when_a_dependent_stops_after_it) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "db", 1));
  T_SHALL(0, create_on(&t, "web", "db"));
  run(&t, "db-1");
  run(&t, "web-1");
  T_SHALL(0, t_desire(&t, "db", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_desire(&t, "web", BLX_DESIRED_STOPPED));
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_STOPPED);
  T_SHALL(0, t_report(&t, "web-1", stopped));
  ck_assert_int_eq(t_told(&t, "db-1")->desired, BLX_DESIRED_STOPPED);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN(
    "state/op_verbs", restart__ends_every_instance_and_starts_it_at_once_under_the_next_epoch,
    restart_of_one_instance__leaves_the_others, restart__ends_a_back_off_and_is_refused_for_what_is_stopped_or_goes,
    start_restart_pause_resume_kill_stop__under_an_old_revision_are_refused_and_change_nothing,
    pause__is_told_to_the_node_and_shown_once_it_is_so, stop_and_start_of_a_paused_vm__let_it_go_on,
    kill__wants_it_stopped_and_asks_no_guest, what_it_depends_on__must_be_there_first_and_cannot_be_deleted_before_it,
    it_starts__when_all_instances_that_it_depends_on_run, what_is_depended_on__is_stopped_after_what_depends_on_it,
    a_dependent_that_is_deleted__lets_the_stop_go_on_too, a_stop_that_waits__can_be_taken_back_and_a_kill_does_not_wait,
    a_stop__does_not_wait_for_a_dependent_that_shall_run_on,
    a_stop_that_was_told__is_not_taken_back_when_a_dependent_stops_after_it)
