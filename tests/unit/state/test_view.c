#include "../harness.h"
#include "support.h"

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
static const struct t_seen died = {.phase = BLX_PHASE_FAILED, .dead = true, .has_exit = true, .exit_status = 1};

START_TEST(a_vm__is_shown_with_its_instances_their_nodes_and_how_many_run) {
  struct t t;
  t_open_cluster(&t, 2);
  t_create_named(&t, "web", 3);
  t_run(&t, "web-2", 2);
  struct blx_vm *vm = NULL;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  ck_assert_int_eq(blx__state_view_vm(t.st, t_vm(&t, "web")->uid, &arena, &vm, NULL).code, 0);
  ck_assert_uint_eq(vm->n_instances, 3);
  ck_assert_uint_eq(vm->running, 1);
  ck_assert_str_eq(vm->instances[1]->name, "web-2");
  ck_assert_str_eq(vm->instances[1]->node, "node2");
  ck_assert_ptr_null(vm->instances[0]->node);
  blx__arena_free(&arena);
  t_close(&t);
}
END_TEST

/* Of the VM web: its reason's code; what would help is told as its instance's too. */
static int waits(struct t *t, int32_t phase) {
  struct blx_vm *vm = NULL;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  ck_assert_int_eq(blx__state_view_vm(t->st, t_vm(t, "web")->uid, &arena, &vm, NULL).code, 0);
  ck_assert_int_eq(vm->phase, phase);
  const struct blx_reason *all[] = {vm->reason, vm->instances[0]->reason};
  for (size_t i = 0; i < 2; i++) {
    ck_assert(all[i] && all[i]->code != BLX_REASON_CODE_NONE && all[i]->text && all[i]->text[0]);
    ck_assert_msg(all[i]->unblock && all[i]->unblock[0], "nothing would help against: %s", all[i]->text);
  }
  int code = vm->reason->code;
  blx__arena_free(&arena);
  return code;
}

START_TEST(whatever_waits__says_what_would_help) {
  static const struct t_seen booting = {.phase = BLX_PHASE_STARTING, .code = BLX_REASON_CODE_BOOTING, .text = "boots"};
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  ck_assert_int_eq(waits(&t, BLX_PHASE_PENDING), BLX_REASON_CODE_UNPLACED);
  t_assign(&t, "web-1", 1);
  ck_assert_int_eq(waits(&t, BLX_PHASE_CREATING), BLX_REASON_CODE_BUILDING);
  t_report(&t, "web-1", booting);
  ck_assert_int_eq(waits(&t, BLX_PHASE_STARTING), BLX_REASON_CODE_BOOTING);
  t_report(&t, "web-1", died);
  ck_assert_int_eq(waits(&t, BLX_PHASE_PENDING), BLX_REASON_CODE_BACK_OFF);
  t_restart(&t, "web", BLX_ENDING_SHUT_DOWN);
  t_run(&t, "web-1", 1);
  t_restart(&t, "web", BLX_ENDING_SHUT_DOWN);
  ck_assert_int_eq(waits(&t, BLX_PHASE_STOPPING), BLX_REASON_CODE_RESTART_REQUESTED);
  t_desire(&t, "web", BLX_DESIRED_STOPPED);
  ck_assert_int_eq(waits(&t, BLX_PHASE_STOPPING), BLX_REASON_CODE_STOPPED_BY_USER);
  t_delete(&t, "web");
  ck_assert_int_eq(waits(&t, BLX_PHASE_DELETING), BLX_REASON_CODE_DELETE_REQUESTED);
  t_close(&t);
}
END_TEST

START_TEST(a_view__that_does_not_fit_the_arena_is_an_error) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 100);
  struct blx_vm *vm = NULL;
  struct blx__arena arena = {.limit_bytes = 4096};
  ck_assert_int_ne(blx__state_view_vm(t.st, t_vm(&t, "web")->uid, &arena, &vm, NULL).code, 0);
  ck_assert_int_eq(blx__state_view_vm(t.st, 999, &arena, &vm, NULL).code, BLX_E_NOT_FOUND);
  ck_assert_ptr_null(vm);
  blx__arena_free(&arena);
  t_close(&t);
}
END_TEST

START_TEST(a_node__is_shown_with_what_its_living_instances_use) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 3);
  t_assign(&t, "web-1", 1);
  t_assign(&t, "web-2", 1);
  t_report(&t, "web-2", died);
  struct blx_node_info *n = NULL;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  ck_assert_int_eq(blx__state_view_node(t.st, 1, &arena, &n, NULL).code, 0);
  ck_assert_uint_eq(n->allocated->memory_mib, 128);
  ck_assert_uint_eq(n->allocated->vcpus, 1);
  ck_assert_uint_eq(n->instances, 1);
  ck_assert_int_eq(blx__state_view_node(t.st, 2, &arena, &n, NULL).code, BLX_E_NOT_FOUND);
  blx__arena_free(&arena);
  t_close(&t);
}
END_TEST

START_TEST(the_share_of_a_node__holds_all_an_agent_needs) {
  struct t t;
  t_open_cluster(&t, 2);
  char sha256[65];
  t_config(&t, "{ x = 1; }", sha256);
  struct blx_vm_spec spec = t_spec("web", 3);
  spec.config_sha256 = sha256;
  t_create(&t, &spec, BLX_DESIRED_RUNNING);
  t_assign(&t, "web-1", 1);
  t_assign(&t, "web-3", 1);
  t_report(&t, "web-3", died);
  struct blx_assignment **share = NULL;
  size_t n = 0;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  ck_assert_int_eq(blx__state_share(t.st, 1, &arena, &share, &n, NULL).code, 0);
  ck_assert_uint_eq(n, 2);
  ck_assert_str_eq(share[0]->instance, "web-1");
  ck_assert_uint_eq(share[0]->epoch, 1);
  ck_assert_int_eq(share[0]->desired, BLX_DESIRED_RUNNING);
  ck_assert_mem_eq(share[0]->config.data, "{ x = 1; }", 10);
  ck_assert_uint_eq(share[0]->spec->memory_mib, 128);
  ck_assert(!share[0]->dead && !share[0]->remove);
  ck_assert(share[1]->dead);
  t_delete(&t, "web");
  ck_assert_int_eq(blx__state_share(t.st, 1, &arena, &share, &n, NULL).code, 0);
  ck_assert_uint_eq(n, 2);
  ck_assert(share[0]->remove && share[1]->remove);
  ck_assert_int_eq(blx__state_share(t.st, 2, &arena, &share, &n, NULL).code, 0);
  ck_assert_uint_eq(n, 0);
  ck_assert_int_eq(blx__state_share(t.st, 3, &arena, &share, &n, NULL).code, BLX_E_NOT_FOUND);
  blx__arena_free(&arena);
  t_close(&t);
}
END_TEST

START_TEST(the_revision_of_a_share__rises_when_that_share_changes_and_only_then) {
  struct t t;
  t_open_cluster(&t, 2);
  uint64_t one = blx__state_share_revision(t.st, 1), two = blx__state_share_revision(t.st, 2);
#define ROSE(which, uid)                                                          \
  do {                                                                            \
    uint64_t now_ = blx__state_share_revision(t.st, uid);                         \
    ck_assert_uint_gt(now_, which);                                               \
    ck_assert_uint_eq(blx__state_share_index(t.st, uid), blx__state_index(t.st)); \
    which = now_;                                                                 \
  } while (0)
  t_create_named(&t, "web", 1);
  ck_assert_uint_eq(blx__state_share_revision(t.st, 1), one);
  t_assign(&t, "web-1", 1);
  ROSE(one, 1);
  uint64_t index = blx__state_index(t.st);
  t_report(&t, "web-1", running);
  ck_assert_uint_eq(blx__state_share_revision(t.st, 1), one);
  ck_assert_uint_eq(blx__state_share_index(t.st, 1), index);
  ck_assert_uint_lt(index, blx__state_index(t.st));
  t_desire(&t, "web", BLX_DESIRED_STOPPED);
  ROSE(one, 1);
  t_desire(&t, "web", BLX_DESIRED_RUNNING);
  ROSE(one, 1);
  t_report(&t, "web-1", died);
  ROSE(one, 1);
  ck_assert_uint_eq(blx__state_share_revision(t.st, 2), two);
  t.time_ms += 5000;
  t_assign(&t, "web-1", 2);
  ROSE(one, 1);
  ROSE(two, 2);
  t_delete(&t, "web");
  ROSE(two, 2);
  t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_STOPPED, .dead = true, .gone = true});
  ROSE(two, 2);
  ck_assert_uint_eq(blx__state_share_revision(t.st, 1), one);
  ck_assert_uint_eq(blx__state_share_revision(t.st, 9), 0);
  ck_assert_uint_eq(blx__state_share_index(t.st, 9), 0);
#undef ROSE
  t_close(&t);
}
END_TEST

struct noted {
  uint64_t uids[8];
  size_t count;
};

static void note_share(void *user, uint64_t node_uid) {
  struct noted *noted = user;
  ck_assert_uint_lt(noted->count, BLX__COUNT(noted->uids));
  noted->uids[noted->count++] = node_uid;
}

START_TEST(who_follows_shares__is_told_of_those_that_change_and_of_no_other) {
  struct t t;
  t_open_cluster(&t, 3);
  struct blx__buf snapshot;
  blx__buf_init(&snapshot, 1 << 20);
  struct noted noted = {0};
  t_create_named(&t, "web", 2);
  t_assign(&t, "web-1", 2);
  ck_assert_int_eq(blx__state_snapshot(t.st, &snapshot, NULL).code, 0);
  struct blx__state_options options = {.on_share = note_share, .user = &noted};
  struct blx__state *other = blx__state_new(&options);
  ck_assert_int_eq(blx__state_restore(other, (struct blx__slice){snapshot.data, snapshot.len}, NULL).code, 0);
  ck_assert_uint_eq(blx__state_share_index(other, 2), blx__state_index(other));
  ck_assert_uint_ge(noted.count, 4); /* three nodes, and what the second one has */
  noted.count = 0;
  struct blx__state *first = t.st;
  t.st = other;
  t_report(&t, "web-1", running);
  ck_assert_uint_eq(noted.count, 0);
  t_assign(&t, "web-2", 3);
  for (size_t i = 0; i < noted.count; i++) ck_assert(noted.uids[i] == 3);
  ck_assert_uint_gt(noted.count, 0);
  blx__state_free(first);
  blx__buf_free(&snapshot);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/view", a_vm__is_shown_with_its_instances_their_nodes_and_how_many_run,
              whatever_waits__says_what_would_help, a_view__that_does_not_fit_the_arena_is_an_error,
              a_node__is_shown_with_what_its_living_instances_use, the_share_of_a_node__holds_all_an_agent_needs,
              the_revision_of_a_share__rises_when_that_share_changes_and_only_then,
              who_follows_shares__is_told_of_those_that_change_and_of_no_other)
