/* Fencing: when epochs rise, what proves a death, and how a node comes back. */
#include "../harness.h"
#include "support.h"

#include <string.h>

enum { OLD = 11, NEW = 12 };

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
static const struct t_seen dead = {.phase = BLX_PHASE_STOPPED, .dead = true};

/* Two nodes that can have everything; auto, manual and off run on node1. */
static void open_three(struct t *t) {
  static const char *const names[] = {"auto", "manual", "off"};
  t_open_cluster(t, 2);
  ck_assert_int_eq(t_register_ha(t, 1, OLD), 0);
  ck_assert_int_eq(t_register_ha(t, 2, 21), 0);
  for (unsigned i = 0; i < 3; i++) {
    char instance[16];
    blx__str_format(instance, sizeof instance, "%s-1", names[i]);
    ck_assert_int_eq(t_create_ha(t, names[i],
                                 i == 0   ? BLX_HA_POLICY_AUTO
                                 : i == 1 ? BLX_HA_POLICY_MANUAL
                                          : BLX_HA_POLICY_OFF),
                     0);
    t_run(t, instance, 1);
  }
}

static void check_unreachable(const struct t *t, const char *name, int32_t code, uint64_t epoch, bool fenced) {
  const struct blx_instance *i = t_instance(t, name);
  ck_assert_int_eq(i->phase, BLX_PHASE_UNREACHABLE);
  ck_assert_int_eq(i->reason->code, code);
  ck_assert_uint_eq(i->epoch, epoch);
  ck_assert_int_eq(i->fenced, fenced);
  ck_assert_int_eq(i->dead, 0);
}

static int32_t fence_of(const struct t *t, uint64_t uid) {
  return blx__state_node(t->st, uid)->fence;
}

START_TEST(an_automatic_fence__raises_the_epochs_of_auto_alone_and_says_what_becomes_of_the_others) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  check_unreachable(&t, "auto-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  check_unreachable(&t, "manual-1", BLX_REASON_CODE_HA_MANUAL, 1, false);
  check_unreachable(&t, "off-1", BLX_REASON_CODE_HA_OFF, 1, false);
  ck_assert_str_eq(t_instance(&t, "manual-1")->reason->unblock, "`blixard node fence node1`");
  ck_assert_str_eq(t_instance(&t, "off-1")->reason->unblock,
                   "it goes on when node1 comes back; `blixard vm delete off --force` gives it up");
  ck_assert_int_eq(t_vm(&t, "auto")->phase, BLX_PHASE_UNREACHABLE);
  const struct blx_node_info *n = blx__state_node(t.st, 1);
  ck_assert_int_eq(n->fence, BLX_FENCE_BEGUN);
  ck_assert_uint_eq(n->fence_incarnation, OLD);
  ck_assert_uint_eq(n->fence_since_ms, t.time_ms);
  ck_assert_str_eq(n->fence_reason, "silent");
  T_SHALL(BLX_E_CONFLICT, t_fence_begin(&t, 1, OLD, false));
  T_SAYS("the node node1 is fenced already");
  t_close(&t);
}
END_TEST

START_TEST(another_incarnation__is_not_fenced_for_the_silence_of_the_one_before) {
  struct t t;
  open_three(&t);
  T_SHALL(BLX_E_CONFLICT, t_fence_begin(&t, 1, NEW, true));
  T_SAYS("the node node1 was started anew meanwhile");
  T_SHALL(BLX_E_NOT_FOUND, t_fence_begin(&t, 9, OLD, true));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_NONE);
  t_close(&t);
}
END_TEST

START_TEST(an_operators_fence__takes_the_manual_ones_and_may_follow_an_automatic_one) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  check_unreachable(&t, "auto-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  check_unreachable(&t, "manual-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  check_unreachable(&t, "off-1", BLX_REASON_CODE_HA_OFF, 1, false);
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  ck_assert_int_eq(t_instance(&t, "manual-1")->dead, 1);
  t_close(&t);
}
END_TEST

START_TEST(an_operators_fence_after_the_proof__is_begun_again_for_the_manual_ones) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  check_unreachable(&t, "manual-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_BEGUN);
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 1);
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  ck_assert_int_eq(t_instance(&t, "manual-1")->phase, BLX_PHASE_PENDING);
  /* Nothing more to take: it stays proved. */
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_DONE);
  t_close(&t);
}
END_TEST

START_TEST(one_with_a_disk_on_the_node__stays_whatever_its_policy) {
  struct t t;
  open_three(&t);
  struct t_seen disk = running;
  disk.local_data = true;
  T_SHALL(0, t_report(&t, "auto-1", disk));
  T_SHALL(0, t_report(&t, "auto-1", running)); /* a later word that does not mention it takes nothing back */
  ck_assert_int_eq(t_instance(&t, "auto-1")->local_data, 1);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  check_unreachable(&t, "auto-1", BLX_REASON_CODE_LOCAL_DISK, 1, false);
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  check_unreachable(&t, "auto-1", BLX_REASON_CODE_LOCAL_DISK, 1, false);
  t_close(&t);
}
END_TEST

START_TEST(one_whose_disk_is_not_known_yet__stays_until_its_agent_has_looked) {
  struct t t;
  t_open_cluster(&t, 2);
  ck_assert_int_eq(t_register_disks(&t, 1, OLD), 0);
  ck_assert_int_eq(t_register_disks(&t, 2, 21), 0);
  for (int i = 0; i < 3; i++) {
    static const char *const names[] = {"untold", "early", "looked"};
    T_SHALL(0, t_create_ha(&t, names[i], BLX_HA_POLICY_AUTO));
  }
  for (int i = 0; i < 3; i++) {
    static const char *const names[] = {"untold-1", "early-1", "looked-1"};
    T_SHALL(0, t_assign(&t, names[i], 1));
  }
  T_SHALL(0, t_report(&t, "early-1", running));
  struct t_seen known = running;
  known.data_known = true;
  T_SHALL(0, t_report(&t, "looked-1", known));
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  check_unreachable(&t, "untold-1", BLX_REASON_CODE_LOCAL_DISK, 1, false);
  check_unreachable(&t, "early-1", BLX_REASON_CODE_LOCAL_DISK, 1, false);
  check_unreachable(&t, "looked-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  ck_assert_str_eq(t_instance(&t, "untold-1")->reason->text,
                   "node1 is gone, before it was known whether a disk of it is there");
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  /* Its spec makes no disk, there or elsewhere: it goes on although nothing was said yet of the new node's. */
  T_SHALL(0, t_assign(&t, "looked-1", 2));
  T_SHALL(0, t_fence_begin(&t, 2, 21, false));
  check_unreachable(&t, "looked-1", BLX_REASON_CODE_NODE_FENCING, 4, true);
  t_close(&t);
}
END_TEST

static int say_off(struct t *t, uint64_t uid, uint64_t incarnation) {
  struct blx_op_fence_done o = BLX_OP_FENCE_DONE_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.node_uid = uid;
  o.incarnation = incarnation;
  o.proof = "operator root: its plug was pulled";
  o.word = 1;
  op.fence_done = &o;
  return t_apply(t, &op);
}

START_TEST(an_operators_word__is_void_when_the_node_came_back_before_it_was_committed) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  T_SHALL(0, t_return(&t, 1, NEW)); /* between the leader's look and its proposal */
  T_SHALL(BLX_E_CONFLICT, say_off(&t, 1, OLD));
  T_SAYS("the node node1 has come back, so its machine is not off: what is to end there is proved by itself");
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 0);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "auto-1", 2));
  T_SHALL(0, t_fence_done(&t, 1, OLD)); /* the end of a lease proves it, whatever came since */
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 1);
  T_SHALL(0, t_assign(&t, "auto-1", 2));
  t_close(&t);

  open_three(&t); /* the other way round it counts */
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  T_SHALL(0, say_off(&t, 1, OLD));
  T_SHALL(0, t_return(&t, 1, NEW));
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 1);
  t_close(&t);
}
END_TEST

START_TEST(a_proof__lets_what_was_fenced_start_elsewhere_at_once_without_a_failure) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "auto-1", 2));
  T_SHALL(BLX_E_CONFLICT, t_fence_done(&t, 1, NEW));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  const struct blx_instance *i = t_instance(&t, "auto-1");
  ck_assert_int_eq(i->dead, 1);
  ck_assert_int_eq(i->phase, BLX_PHASE_PENDING);
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_NODE_FENCED);
  ck_assert_uint_eq(i->failures, 0);
  ck_assert_uint_eq(i->not_before_ms, 0);
  ck_assert_ptr_eq(blx__state_waiting_after(t.st, 0, 0), i);
  ck_assert_str_eq(blx__state_node(t.st, 1)->fence_proof, "lease: not answered for 40 s");
  T_SHALL(BLX_E_CONFLICT, t_fence_done(&t, 1, OLD));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "auto-1", 1));
  T_SAYS("auto-1 cannot go there: node1 is fenced");
  T_SHALL(0, t_assign(&t, "auto-1", 2));
  ck_assert_uint_eq(t_instance(&t, "auto-1")->epoch, 3);
  ck_assert_int_eq(t_instance(&t, "auto-1")->fenced, 0);
  t_close(&t);
}
END_TEST

START_TEST(a_restart_policy_of_never__does_not_keep_it_from_starting_elsewhere) {
  struct t t;
  open_three(&t);
  struct blx_vm_spec spec = t_spec("once", 1);
  spec.ha = BLX_HA_POLICY_AUTO;
  spec.restart_policy = BLX_RESTART_POLICY_NEVER;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_assign(&t, "once-1", 1));
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  T_SHALL(0, t_assign(&t, "once-1", 2));
  t_close(&t);
}
END_TEST

START_TEST(the_share_of_a_fenced_node__has_the_new_epoch_as_dead_and_asks_for_a_word) {
  struct t t;
  open_three(&t);
  uint64_t before = blx__state_share_revision(t.st, 1);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  ck_assert_uint_gt(blx__state_share_revision(t.st, 1), before);
  const struct blx_assignment *a = t_told(&t, "auto-1");
  ck_assert_uint_eq(a->epoch, 2);
  ck_assert_int_eq(a->dead, 1);
  ck_assert_int_eq(a->tell, 1);
  ck_assert_int_eq(t_told(&t, "off-1")->dead, 0);
  t_close(&t);
}
END_TEST

START_TEST(reports_of_the_old_epoch__are_stale_and_so_is_life_under_the_new_one) {
  struct t t;
  open_three(&t);
  uint64_t uid = t_instance(&t, "auto-1")->uid;
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_report_as(&t, 1, uid, 1, 9, dead));
  ck_assert_uint_eq(t.result.n_stale_instances, 1);
  T_SHALL(0, t_report_as(&t, 1, uid, 2, 1, running));
  ck_assert_uint_eq(t.result.n_stale_instances, 1);
  check_unreachable(&t, "auto-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  t_close(&t);
}
END_TEST

START_TEST(a_death_reported_under_the_new_epoch__is_proof_for_that_instance_alone) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  uint64_t uid = t_instance(&t, "auto-1")->uid;
  T_SHALL(0, t_report_as(&t, 2, uid, 2, 1, dead)); /* not its node */
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 0);
  T_SHALL(0, t_report(&t, "auto-1", dead));
  ck_assert_int_eq(t_instance(&t, "auto-1")->phase, BLX_PHASE_PENDING);
  ck_assert_int_eq(t_instance(&t, "auto-1")->reason->code, BLX_REASON_CODE_NODE_FENCED);
  ck_assert_uint_eq(t_instance(&t, "auto-1")->failures, 0);
  check_unreachable(&t, "manual-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_BEGUN);
  T_SHALL(0, t_assign(&t, "auto-1", 2));
  t_close(&t);
}
END_TEST

START_TEST(a_fenced_node__does_not_register_and_its_fenced_incarnation_never_comes_back) {
  struct t t;
  open_three(&t);
  T_SHALL(BLX_E_CONFLICT, t_return(&t, 1, NEW));
  T_SAYS("the node node1 is not fenced: it registers");
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(BLX_E_CONFLICT, t_register_ha(&t, 1, NEW));
  T_SAYS("the node node1 is fenced: it comes back by itself");
  T_SHALL(BLX_E_CONFLICT, t_return(&t, 1, OLD));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  T_SHALL(0, t_return(&t, 1, NEW));
  T_SHALL(BLX_E_CONFLICT, t_register_ha(&t, 1, OLD));
  T_SAYS("this incarnation of node1 was fenced: it comes back as a new one");
  ck_assert_uint_eq(blx__state_node(t.st, 1)->incarnation, NEW);
  T_SHALL(0, t_register_ha(&t, 1, 13));
  t_close(&t);
}
END_TEST

START_TEST(a_return_before_the_proof__is_lifted_by_the_report_that_settles_the_last_one) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  T_SHALL(0, t_return(&t, 1, NEW));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_BEGUN);
  ck_assert_uint_eq(blx__state_node(t.st, 1)->incarnation, NEW);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "auto-1", 1));
  T_SHALL(0, t_report(&t, "auto-1", dead));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_BEGUN);
  T_SHALL(0, t_report(&t, "manual-1", dead));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_NONE);
  ck_assert_ptr_null(blx__state_node(t.st, 1)->fence_reason);
  T_SHALL(0, t_assign(&t, "auto-1", 1));
  t_close(&t);
}
END_TEST

START_TEST(a_return_before_the_proof__is_lifted_by_the_proof_too) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_return(&t, 1, NEW));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_NONE);
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 1);
  t_close(&t);
}
END_TEST

START_TEST(a_return_after_the_proof__is_lifted_at_once_and_asks_how_the_others_are) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  ck_assert_int_eq(t_told(&t, "off-1")->tell, 0);
  T_SHALL(0, t_return(&t, 1, NEW));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_NONE);
  ck_assert_int_eq(t_told(&t, "off-1")->tell, 1);
  ck_assert_int_eq(t_told(&t, "manual-1")->tell, 1);
  T_SHALL(0, t_report(&t, "off-1", running));
  T_SHALL(0, t_report(&t, "manual-1", dead));
  ck_assert_int_eq(t_instance(&t, "off-1")->phase, BLX_PHASE_RUNNING);
  ck_assert_uint_eq(t_instance(&t, "off-1")->epoch, 1);
  ck_assert_int_eq(t_instance(&t, "manual-1")->phase, BLX_PHASE_PENDING);
  t_close(&t);
}
END_TEST

START_TEST(one_that_comes_back_and_is_fenced_again__is_proved_by_its_new_incarnation) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_return(&t, 1, NEW));
  T_SHALL(0, t_fence_begin(&t, 1, NEW, true));
  check_unreachable(&t, "manual-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  T_SHALL(BLX_E_CONFLICT, t_fence_done(&t, 1, OLD));
  T_SHALL(BLX_E_CONFLICT, t_return(&t, 1, NEW));
  T_SHALL(0, t_fence_done(&t, 1, NEW));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_DONE);
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 1);
  t_close(&t);
}
END_TEST

/* It ran there because of the fence command alone; that it now says to need none says nothing of what it was. */
START_TEST(time__proves_by_what_was_cut_off_and_not_by_what_comes_back) {
  struct t t;
  t_open_cluster(&t, 2);
  ck_assert_int_eq(t_register_ha(&t, 1, OLD), 0);
  struct blx_node_info n = *blx__state_node(t.st, 1);
  struct blx_op_node_register reg = BLX_OP_NODE_REGISTER_INIT;
  struct blx_op op = BLX_OP_INIT;
  n.no_watchdog = 0;
  reg.node = &n;
  op.node_register = &reg;
  T_SHALL(0, t_apply(&t, &op));
  T_SHALL(0, t_fence_command(&t, "node1", "/bin/off"));
  T_SHALL(0, t_create_ha(&t, "auto", BLX_HA_POLICY_AUTO));
  T_SHALL(0, t_assign(&t, "auto-1", 1));
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  ck_assert(!blx__state_time_proves(t.st, 1));
  T_SHALL(0, t_return(&t, 1, NEW));
  ck_assert(blx__state_node(t.st, 1)->no_watchdog);
  ck_assert(!blx__state_time_proves(t.st, 1));
  T_SHALL(0, t_report(&t, "auto-1", dead));
  ck_assert(blx__state_time_proves(t.st, 1));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_NONE);
  t_close(&t);
}
END_TEST

START_TEST(what_is_on_its_way_out__keeps_its_words_unless_it_is_fenced) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_desire(&t, "auto", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_desire(&t, "off", BLX_DESIRED_STOPPED));
  T_SHALL(0, t_delete(&t, "manual"));
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  ck_assert_int_eq(t_instance(&t, "off-1")->phase, BLX_PHASE_STOPPING);
  ck_assert_int_eq(t_instance(&t, "manual-1")->phase, BLX_PHASE_DELETING);
  ck_assert_uint_eq(t_instance(&t, "manual-1")->epoch, 1);
  check_unreachable(&t, "auto-1", BLX_REASON_CODE_NODE_FENCING, 2, true);
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  ck_assert_int_eq(t_instance(&t, "auto-1")->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 1);
  T_SHALL(0, t_desire(&t, "auto", BLX_DESIRED_RUNNING));
  T_SHALL(0, t_assign(&t, "auto-1", 2));
  t_close(&t);
}
END_TEST

START_TEST(a_fenced_one_that_is_deleted__stays_until_its_node_or_force_says_so) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_delete(&t, "auto"));
  T_SHALL(0, t_fence_done(&t, 1, OLD));
  ck_assert_int_eq(t_instance(&t, "auto-1")->phase, BLX_PHASE_DELETING);
  ck_assert_int_eq(t_instance(&t, "auto-1")->dead, 1);
  T_SHALL(0, t_delete_force(&t, "auto", 1));
  ck_assert_ptr_null(t_vm(&t, "auto"));
  T_SHALL(0, t_return(&t, 1, NEW));
  const struct blx_tombstone *left = blx__state_tombstone_on_node_after(t.st, 1, 0);
  ck_assert_uint_eq(left->epoch, 2);
  T_SHALL(0, t_report_as(&t, 1, left->instance_uid, 2, 1, (struct t_seen){.dead = true, .gone = true}));
  ck_assert_ptr_null(blx__state_tombstone_on_node_after(t.st, 1, 0));
  t_close(&t);
}
END_TEST

START_TEST(force_on_the_last_fenced_one_of_a_node_that_came_back__lifts_the_fence) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  T_SHALL(0, t_return(&t, 1, NEW));
  T_SHALL(0, t_delete_force(&t, "auto", 1));
  ck_assert_int_eq(fence_of(&t, 1), BLX_FENCE_NONE);
  t_close(&t);
}
END_TEST

START_TEST(a_lost_lease__is_no_failure_and_starts_again_whatever_the_policy) {
  struct t t;
  open_three(&t);
  struct blx_vm_spec spec = t_spec("once", 1);
  spec.ha = BLX_HA_POLICY_AUTO;
  spec.restart_policy = BLX_RESTART_POLICY_NEVER;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  t_run(&t, "once-1", 1);
  struct t_seen lost = dead;
  lost.code = BLX_REASON_CODE_LEASE_LOST;
  lost.has_exit = true;
  lost.exit_status = -9;
  T_SHALL(0, t_report(&t, "once-1", lost));
  const struct blx_instance *i = t_instance(&t, "once-1");
  ck_assert_int_eq(i->phase, BLX_PHASE_PENDING);
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_LEASE_LOST);
  ck_assert_uint_eq(i->failures, 0);
  ck_assert_uint_eq(i->not_before_ms, 0);
  T_SHALL(0, t_assign(&t, "once-1", 1));
  t_close(&t);
}
END_TEST

START_TEST(an_instance_with_ha__goes_only_where_it_can_be_ended_in_time) {
  struct t t;
  t_open_cluster(&t, 2);
  T_SHALL(0, t_create_ha(&t, "auto", BLX_HA_POLICY_AUTO));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "auto-1", 1));
  T_SAYS("auto-1 cannot go there: node1 cannot end highly available instances itself: no watchdog process or control "
         "groups");
  T_SHALL(0, t_register_ha(&t, 1, OLD));
  T_SHALL(0, t_assign(&t, "auto-1", 1));
  t_close(&t);
}
END_TEST

static void count(void *user, const struct blx_event *e) {
  unsigned *seen = user;
  ck_assert_int_lt(e->kind, 4);
  seen[e->kind]++;
}

START_TEST(events__tell_of_the_node_and_of_each_instance) {
  struct t t;
  open_three(&t);
  uint64_t since = t.index;
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  unsigned seen[4] = {0};
  ck_assert_int_eq(blx__state_events_since(t.st, since, count, seen, NULL).code, 0);
  ck_assert_uint_eq(seen[BLX_EVENT_KIND_NODE], 1);
  ck_assert_uint_eq(seen[BLX_EVENT_KIND_INSTANCE], 3);
  ck_assert_uint_eq(seen[BLX_EVENT_KIND_VM], 3);
  t_close(&t);
}
END_TEST

START_TEST(a_snapshot_in_the_middle__goes_on_as_the_original) {
  struct t t, back;
  struct blx__buf b;
  open_three(&t);
  T_SHALL(0, t_fence_begin(&t, 1, OLD, false));
  t_check_rebuilt(&t);
  blx__buf_init(&b, 1 << 20);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  t_open(&back, 0);
  ck_assert_int_eq(blx__state_restore(back.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  blx__buf_free(&b);
  back.index = t.index;
  ck_assert_uint_eq(blx__state_counts(back.st).fencing, 1);
  ck_assert_uint_eq(blx__state_counts(back.st).ha, 2);
  ck_assert_uint_eq(blx__state_ha_on_node(back.st, 1), 2);
  T_SHALL(0, t_fence_done(&back, 1, OLD));
  ck_assert_int_eq(t_instance(&back, "auto-1")->dead, 1);
  ck_assert_uint_eq(blx__state_counts(back.st).fencing, 0);
  ck_assert_uint_eq(blx__state_ha_on_node(back.st, 1), 1);
  T_SHALL(0, t_return(&back, 1, NEW));
  t_check_rebuilt(&back);
  t_close(&back);
  t_close(&t);
}
END_TEST

START_TEST(a_disarmed_cluster__takes_an_operators_fence_alone) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_disarm(&t, 60000));
  T_SHALL(BLX_E_CONFLICT, t_fence_begin(&t, 1, OLD, false));
  T_SAYS("fencing is disarmed for another 60 s");
  T_SHALL(0, t_fence_begin(&t, 1, OLD, true));
  t.time_ms += 60000;
  T_SHALL(0, t_fence_begin(&t, 2, 21, false));
  t_close(&t);
}
END_TEST

START_TEST(a_fence_command__is_kept_and_taken_away_and_survives_a_registration) {
  struct t t;
  open_three(&t);
  T_SHALL(0, t_fence_command(&t, "node1", "/usr/sbin/ipmi off"));
  T_SHALL(0, t_register_ha(&t, 1, OLD));
  ck_assert_str_eq(blx__state_node(t.st, 1)->fence_command, "/usr/sbin/ipmi off");
  struct blx__placement_node n;
  ck_assert(blx__state_placement_node(t.st, 1, &n) && n.fence_command);
  uint64_t revision = blx__state_node(t.st, 1)->revision;
  T_SHALL(0, t_fence_command(&t, "node1", "/usr/sbin/ipmi off"));
  ck_assert_uint_eq(blx__state_node(t.st, 1)->revision, revision);
  T_SHALL(0, t_fence_command(&t, "node1", NULL));
  ck_assert(blx__state_placement_node(t.st, 1, &n) && !n.fence_command);
  T_SHALL(BLX_E_NOT_FOUND, t_fence_command(&t, "node9", "x"));
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/fence", an_operators_word__is_void_when_the_node_came_back_before_it_was_committed,
              one_whose_disk_is_not_known_yet__stays_until_its_agent_has_looked,
              an_automatic_fence__raises_the_epochs_of_auto_alone_and_says_what_becomes_of_the_others,
              another_incarnation__is_not_fenced_for_the_silence_of_the_one_before,
              an_operators_fence__takes_the_manual_ones_and_may_follow_an_automatic_one,
              an_operators_fence_after_the_proof__is_begun_again_for_the_manual_ones,
              one_with_a_disk_on_the_node__stays_whatever_its_policy,
              a_proof__lets_what_was_fenced_start_elsewhere_at_once_without_a_failure,
              a_restart_policy_of_never__does_not_keep_it_from_starting_elsewhere,
              the_share_of_a_fenced_node__has_the_new_epoch_as_dead_and_asks_for_a_word,
              reports_of_the_old_epoch__are_stale_and_so_is_life_under_the_new_one,
              a_death_reported_under_the_new_epoch__is_proof_for_that_instance_alone,
              a_fenced_node__does_not_register_and_its_fenced_incarnation_never_comes_back,
              a_return_before_the_proof__is_lifted_by_the_report_that_settles_the_last_one,
              a_return_before_the_proof__is_lifted_by_the_proof_too,
              a_return_after_the_proof__is_lifted_at_once_and_asks_how_the_others_are,
              one_that_comes_back_and_is_fenced_again__is_proved_by_its_new_incarnation,
              time__proves_by_what_was_cut_off_and_not_by_what_comes_back,
              what_is_on_its_way_out__keeps_its_words_unless_it_is_fenced,
              a_fenced_one_that_is_deleted__stays_until_its_node_or_force_says_so,
              force_on_the_last_fenced_one_of_a_node_that_came_back__lifts_the_fence,
              a_lost_lease__is_no_failure_and_starts_again_whatever_the_policy,
              an_instance_with_ha__goes_only_where_it_can_be_ended_in_time,
              events__tell_of_the_node_and_of_each_instance, a_snapshot_in_the_middle__goes_on_as_the_original,
              a_disarmed_cluster__takes_an_operators_fence_alone,
              a_fence_command__is_kept_and_taken_away_and_survives_a_registration)
