/* VMs deleted by force: what their silent nodes must still remove. */
#include "../harness.h"
#include "support.h"

#include <string.h>

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
static const struct t_seen died = {.phase = BLX_PHASE_STOPPED, .dead = true};
static const struct t_seen gone = {.phase = BLX_PHASE_STOPPED, .dead = true, .gone = true};

/* web-1 runs on node1, web-2 on node2, web-3 has no node; node2 is silent. */
static void open_web(struct t *t) {
  t_open_cluster(t, 2);
  ck_assert_int_eq(t_create_named(t, "web", 3), 0);
  ck_assert_int_eq(t_assign(t, "web-1", 1), 0);
  t_run(t, "web-2", 2);
}

static uint64_t allocated_mib(const struct t *t, uint64_t uid) {
  struct blx__placement_node n;
  ck_assert(blx__state_placement_node(t->st, uid, &n));
  return n.allocated_memory_mib;
}

START_TEST(delete_by_force__leaves_a_tombstone_on_the_silent_node_and_waits_for_the_others) {
  struct t t;
  open_web(&t);
  uint64_t uid = t_instance(&t, "web-2")->uid;
  T_SHALL(0, t_delete_force(&t, "web", 2));
  ck_assert_ptr_null(t_instance(&t, "web-2"));
  ck_assert_ptr_null(t_instance(&t, "web-3"));
  ck_assert_str_eq(t_vm(&t, "web")->reason->text, "was deleted; its name is free when node1 confirmed that it is gone");
  const struct blx_tombstone *b = blx__state_tombstone_on_node_after(t.st, 2, 0);
  ck_assert_str_eq(b->instance, "web-2");
  ck_assert_uint_eq(b->instance_uid, uid);
  ck_assert_uint_eq(b->epoch, 1);
  ck_assert_uint_eq(b->node_uid, 2);
  ck_assert_str_eq(b->tenant, "default");
  ck_assert_str_eq(b->deleted_by, "uid:1000");
  ck_assert_uint_eq(b->since_ms, t.time_ms);
  ck_assert(!b->dead);
  ck_assert_ptr_null(blx__state_tombstone_on_node_after(t.st, 2, uid));
  ck_assert_ptr_null(blx__state_tombstone_on_node_after(t.st, 1, 0));
  T_SHALL(BLX_E_CONFLICT, t_create_named(&t, "web", 1));
  T_SHALL(0, t_report(&t, "web-1", gone));
  ck_assert_ptr_null(t_vm(&t, "web"));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(the_name__is_free_at_once_and_its_new_owner_has_other_uids) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 1);
  t_assign(&t, "web-1", 2);
  uint64_t vm = t_vm(&t, "web")->uid, instance = t_instance(&t, "web-1")->uid;
  T_SHALL(0, t_delete_force(&t, "web", 2));
  ck_assert_uint_eq(t.result.uid, vm);
  ck_assert_ptr_null(t_vm(&t, "web"));
  T_SHALL(0, t_create_named(&t, "web", 1));
  ck_assert_uint_gt(t_vm(&t, "web")->uid, vm);
  ck_assert_uint_gt(t_instance(&t, "web-1")->uid, instance);
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-1", 2));
  T_SAYS("web-1 cannot go to node2: an earlier instance of that name was deleted by force, and node2 has not confirmed "
         "that it is gone");
  T_SHALL(0, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_report_as(&t, 2, instance, 1, 5, gone));
  ck_assert_uint_eq(t.result.n_stale_instances, 0);
  ck_assert_uint_eq(blx__state_tombstone_node_after(t.st, NULL, "web-1", 0), 0);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_vm_that_is_being_deleted__can_be_deleted_by_force) {
  struct t t;
  open_web(&t);
  T_SHALL(0, t_delete(&t, "web"));
  ck_assert_str_eq(t_vm(&t, "web")->reason->text,
                   "was deleted; its name is free when node1 and node2 confirmed that it is gone");
  T_SHALL(0, t_report(&t, "web-1", died));
  ck_assert_str_eq(t_instance(&t, "web-1")->reason->text, "was deleted and has stopped; node1 removes its files");
  T_SHALL(0, t_report(&t, "web-1", gone));
  ck_assert_str_eq(t_vm(&t, "web")->reason->text, "was deleted; its name is free when node2 confirmed that it is gone");
  T_SHALL(0, t_delete_force(&t, "web", 2));
  ck_assert_ptr_null(t_vm(&t, "web"));
  ck_assert_str_eq(blx__state_tombstone_on_node_after(t.st, 2, 0)->instance, "web-2");
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(force__is_refused_while_no_node_is_silent_and_for_what_is_not_there) {
  struct t t;
  open_web(&t);
  T_SHALL(BLX_E_CONFLICT, t_delete_force(&t, "web", 0));
  T_SAYS(
      "node1 and node2 are heard from and can remove web: delete it without --force; a node is Suspect after 9000 ms "
      "of silence (lease.suspect_ms)");
  T_SHALL(BLX_E_NOT_FOUND, t_delete_force(&t, "none", 2));
  T_SHALL(0, t_create_named(&t, "new", 1));
  T_SHALL(BLX_E_CONFLICT, t_delete_force(&t, "new", 2));
  T_SAYS("no node holds an instance of new: delete it without --force");
  struct blx_op_vm_delete_force o = BLX_OP_VM_DELETE_FORCE_INIT;
  uint64_t silent = 2;
  o.name = "web";
  o.silent_nodes = &silent;
  o.n_silent_nodes = 1;
  o.if_revision = 1;
  struct blx_op op = BLX_OP_INIT;
  op.vm_delete_force = &o;
  T_SHALL(BLX_E_STALE, t_apply(&t, &op));
  ck_assert(!t_vm(&t, "web")->deleting);
  ck_assert_ptr_null(blx__state_tombstone_on_node_after(t.st, 2, 0));
  t_close(&t);
}
END_TEST

START_TEST(what_may_still_run__keeps_its_room_until_it_is_reported_dead) {
  struct t t;
  open_web(&t);
  uint64_t uid = t_instance(&t, "web-2")->uid;
  T_SHALL(0, t_delete_force(&t, "web", 2));
  ck_assert_uint_eq(allocated_mib(&t, 2), 128);
  struct blx_vm_spec big = t_spec("big", 1);
  big.memory_mib = 1000;
  T_SHALL(0, t_create(&t, &big, BLX_DESIRED_RUNNING));
  T_SHALL(BLX_E_NO_CAPACITY, t_assign(&t, "big-1", 2));
  uint64_t revision = blx__state_share_revision(t.st, 2);
  T_SHALL(0, t_report_as(&t, 2, uid, 1, 7, died));
  ck_assert_uint_eq(t.result.n_stale_instances, 0);
  ck_assert(blx__state_tombstone_on_node_after(t.st, 2, 0)->dead);
  ck_assert_uint_gt(blx__state_share_revision(t.st, 2), revision);
  ck_assert_uint_eq(allocated_mib(&t, 2), 0);
  t_check_indexes(&t);
  T_SHALL(0, t_assign(&t, "big-1", 2));
  T_SHALL(0, t_report_as(&t, 2, uid, 1, 8, gone));
  ck_assert_ptr_null(blx__state_tombstone_on_node_after(t.st, 2, 0));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_report__of_what_still_runs_or_of_another_epoch_or_node_is_stale) {
  struct t t;
  open_web(&t);
  uint64_t uid = t_instance(&t, "web-2")->uid;
  T_SHALL(0, t_delete_force(&t, "web", 2));
  const struct {
    uint64_t node_uid, epoch;
    struct t_seen seen;
  } cases[] = {{2, 1, running}, {2, 2, gone}, {1, 1, gone}};
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    T_SHALL(0, t_report_as(&t, cases[i].node_uid, uid, cases[i].epoch, 9, cases[i].seen));
    ck_assert_uint_eq(t.result.n_stale_instances, 1);
    ck_assert_uint_eq(t.result.stale_instances[0], uid);
    ck_assert_ptr_nonnull(blx__state_tombstone_on_node_after(t.st, 2, 0));
  }
  t_close(&t);
}
END_TEST

START_TEST(the_share_of_the_node__holds_it_as_an_assignment_to_remove) {
  struct t t;
  open_web(&t);
  uint64_t uid = t_instance(&t, "web-2")->uid, revision = blx__state_share_revision(t.st, 2);
  T_SHALL(0, t_delete_force(&t, "web", 2));
  ck_assert_uint_gt(blx__state_share_revision(t.st, 2), revision);
  struct blx_assignment **share = NULL;
  size_t n = 0;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  ck_assert_int_eq(blx__state_share(t.st, 2, &arena, &share, &n, NULL).code, 0);
  ck_assert_uint_eq(n, 1);
  ck_assert_str_eq(share[0]->instance, "web-2");
  ck_assert_str_eq(share[0]->tenant, "default");
  ck_assert_uint_eq(share[0]->instance_uid, uid);
  ck_assert_uint_eq(share[0]->epoch, 1);
  ck_assert(share[0]->remove && !share[0]->dead);
  ck_assert_uint_eq(share[0]->spec->stop_timeout_ms, 30000);
  struct blx_node_info *node = NULL;
  ck_assert_int_eq(blx__state_view_node(t.st, 2, &arena, &node, NULL).code, 0);
  ck_assert_uint_eq(node->tombstones, 1);
  ck_assert_uint_eq(node->instances, 0);
  blx__arena_free(&arena);
  t_close(&t);
}
END_TEST

START_TEST(a_snapshot__holds_tombstones_and_goes_on_the_same) {
  struct t t, u;
  open_web(&t);
  uint64_t uid = t_instance(&t, "web-2")->uid;
  T_SHALL(0, t_delete_force(&t, "web", 2));
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  struct blx__state_frozen *z = blx__state_freeze(t.st, NULL);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  t_open(&u, 0);
  ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  u.index = t.index;
  T_SHALL(0, t_report_as(&t, 2, uid, 1, 9, gone));
  T_SHALL(0, t_report_as(&u, 2, uid, 1, 9, gone));
  uint8_t x[BLX__SHA256_BYTES], y[BLX__SHA256_BYTES];
  ck_assert_int_eq(blx__state_digest(t.st, x, NULL).code, 0);
  ck_assert_int_eq(blx__state_digest(u.st, y, NULL).code, 0);
  ck_assert_mem_eq(x, y, sizeof x);
  ck_assert_ptr_null(blx__state_tombstone_on_node_after(u.st, 2, 0));
  struct blx__buf frozen;
  blx__buf_init(&frozen, 1 << 20);
  ck_assert_int_eq(blx__state_write(z, &frozen, NULL).code, 0);
  ck_assert(frozen.len == b.len && memcmp(frozen.data, b.data, b.len) == 0);
  blx__state_thaw(t.st, z);
  blx__buf_free(&frozen);
  blx__buf_free(&b);
  t_close(&u);
  t_close(&t);
}
END_TEST

START_TEST(tombstones__are_bounded_with_what_would_help) {
  struct t t;
  enum { EACH = 512 };
  t_open(&t, 0);
  t_init(&t);
  ck_assert_int_eq(t_join(&t, "big", 65536, (uint64_t)1 << 30), 0);
  for (unsigned made = 0; made < BLX__STATE_TOMBSTONES_MAX; made += EACH) {
    char vm[16], name[32];
    blx__str_format(vm, sizeof vm, "vm%u", made);
    ck_assert_int_eq(t_create_named(&t, vm, EACH), 0);
    for (unsigned i = 1; i <= EACH; i++) {
      blx__str_format(name, sizeof name, "%s-%u", vm, i);
      ck_assert_int_eq(t_assign(&t, name, 1), 0);
    }
    ck_assert_int_eq(t_delete_force(&t, vm, 1), 0);
  }
  t_create_named(&t, "last", 1);
  ck_assert_int_eq(t_assign(&t, "last-1", 1), 0);
  T_SHALL(BLX_E_QUOTA, t_delete_force(&t, "last", 1));
  T_SAYS(
      "the cluster remembers 4096 instances that silent nodes must still remove, 4096 is the most, and last would add "
      "1: bring back a node that `blixard node list` shows as Suspect");
  ck_assert(!t_vm(&t, "last")->deleting);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

static int assign_by_tenant(struct t *t, const char *instance, uint64_t node_uid) {
  const struct blx_instance *i = blx__state_instance_by_name(t->st, t->tenant, instance);
  struct blx_op_assign o = BLX_OP_ASSIGN_INIT;
  struct blx_op op = BLX_OP_INIT;
  ck_assert_ptr_nonnull(i);
  o.instance_uid = i->uid;
  o.node_uid = node_uid;
  o.expected_epoch = i->epoch;
  o.by_tenant = 1;
  op.assign = &o;
  return t_apply(t, &op);
}

START_TEST(one_of_another_tenant__bars_the_node_only_from_those_of_its_own) {
  struct t t;
  open_web(&t);
  T_SHALL(0, t_delete_force(&t, "web", 2));
  ck_assert(blx__state_tombstone_named(t.st, "web-2", 2));
  ck_assert(!blx__state_tombstone_named(t.st, "web-2", 1));
  ck_assert(!blx__state_tombstone_named(t.st, "web-1", 2));
  ck_assert_uint_eq(blx__state_tombstone_node_after(t.st, NULL, "web-2", 0), 2);
  ck_assert_uint_eq(blx__state_tombstone_node_after(t.st, "acme", "web-2", 0), 0);
  t.tenant = "acme";
  T_SHALL(0, t_create_named(&t, "web", 2));
  T_SHALL(0, assign_by_tenant(&t, "web-2", 2));
  T_SHALL(BLX_E_CONFLICT, t_delete_force(&t, "web", 1));
  T_SHALL(0, t_delete_force(&t, "web", 2));
  ck_assert_uint_eq(blx__state_tombstone_node_after(t.st, "acme", "web-2", 0), 2);
  ck_assert_uint_eq(blx__state_tombstone_node_after(t.st, "acme", "web-2", 2), 0);
  T_SHALL(0, t_create_named(&t, "web", 2));
  T_SHALL(BLX_E_CONFLICT, assign_by_tenant(&t, "web-2", 2));
  t_check_indexes(&t);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

/* As members of a version without tenants apply it. */
START_TEST(without_a_word_about_tenants__a_name_bars_the_node_whosever_it_was) {
  struct t t;
  open_web(&t);
  T_SHALL(0, t_delete_force(&t, "web", 2));
  t.tenant = "acme";
  T_SHALL(0, t_create_named(&t, "web", 2));
  const struct blx_instance *i = blx__state_instance_by_name(t.st, "acme", "web-2");
  struct blx_op_assign o = BLX_OP_ASSIGN_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.instance_uid = i->uid;
  o.node_uid = 2;
  op.assign = &o;
  T_SHALL(BLX_E_CONFLICT, t_apply(&t, &op));
  T_SAYS("web-2 cannot go to node2: an earlier instance of that name was deleted by force, and node2 has not confirmed "
         "that it is gone");
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/tombstone", delete_by_force__leaves_a_tombstone_on_the_silent_node_and_waits_for_the_others,
              the_name__is_free_at_once_and_its_new_owner_has_other_uids,
              a_vm_that_is_being_deleted__can_be_deleted_by_force,
              force__is_refused_while_no_node_is_silent_and_for_what_is_not_there,
              what_may_still_run__keeps_its_room_until_it_is_reported_dead,
              a_report__of_what_still_runs_or_of_another_epoch_or_node_is_stale,
              the_share_of_the_node__holds_it_as_an_assignment_to_remove,
              a_snapshot__holds_tombstones_and_goes_on_the_same,
              one_of_another_tenant__bars_the_node_only_from_those_of_its_own,
              without_a_word_about_tenants__a_name_bars_the_node_whosever_it_was,
              tombstones__are_bounded_with_what_would_help)
