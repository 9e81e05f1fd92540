/* A member of a consensus whose completions an embedder dispatches: on its own thread, on a libuv loop, in the close.
 */
#include "../harness.h"

#include <blixard/uv.h>
#include "io/file.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

enum { CALLS = 300, WAIT_MS = 20000 };

static char dir[64];

/* All but the table's own is told on `thread`. */
struct member {
  blx_consensus *c;
  pthread_t thread;
  uint64_t sum; /* the table's */
  int32_t role;
  unsigned roles, fatals, done, failed, cancelled;
  uint64_t last; /* answer */
  int inner, inner_dispatch, inner_async;
};

static int fsm_apply(void *user, const void *op, size_t op_len, blx_output *answer) {
  struct member *m = user;
  ck_assert(!pthread_equal(m->thread, pthread_self()));
  if (*(const char *)op == '!') return BLX_E_UNSUPPORTED;
  m->sum += op_len;
  return blx_output_add(answer, &m->sum, sizeof m->sum);
}

static int fsm_snapshot(void *user, blx_output *out) {
  struct member *m = user;
  return blx_output_add(out, &m->sum, sizeof m->sum);
}

static int fsm_restore(void *user, const void *bytes, size_t len) {
  struct member *m = user;
  memcpy(&m->sum, bytes, len);
  return 0;
}

static void on_role(void *user, int32_t role, uint64_t leader, uint64_t term) {
  struct member *m = user;
  (void)leader;
  (void)term;
  ck_assert(pthread_equal(m->thread, pthread_self()));
  m->role = role;
  m->roles++;
}

static void on_fatal(void *user, int code, const char *text) {
  struct member *m = user;
  ck_assert(pthread_equal(m->thread, pthread_self()));
  ck_assert(code == BLX_E_UNSUPPORTED && *text);
  m->fatals++;
}

static void on_done(void *user, const blx_error *err, uint64_t index, const void *answer, size_t len) {
  struct member *m = user;
  ck_assert(pthread_equal(m->thread, pthread_self()));
  m->done++;
  m->failed += err != NULL;
  m->cancelled += err && err->code == BLX_E_CANCELLED;
  if (err || len == 0) return;
  ck_assert_uint_eq(len, sizeof m->last);
  ck_assert_uint_gt(index, 0);
  uint64_t before = m->last;
  memcpy(&m->last, answer, len);
  ck_assert_uint_gt(m->last, before);
}

static void open_member(struct member *m, int32_t completions) {
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  blx_error err = {0};
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-consensus-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  m->thread = pthread_self();
  fsm.user = m;
  fsm.apply = fsm_apply;
  fsm.snapshot = fsm_snapshot;
  fsm.restore = fsm_restore;
  o.dir = dir;
  o.uid = 1;
  o.fsm = &fsm;
  o.user = m;
  o.on_role = on_role;
  o.on_fatal = on_fatal;
  o.heartbeat_ms = 40;
  o.election_ms = 400;
  o.completions = completions;
  ck_assert_msg(blx_consensus_bootstrap(&o, &err) == 0, "%s", err.message);
  ck_assert_msg(blx_consensus_open(&o, &m->c, &err) == 0, "%s", err.message);
}

static void close_member(struct member *m) {
  blx_error err;
  blx_consensus_close(m->c);
  ck_assert_int_eq(blx__dir_remove_tree(dir, &err).code, 0);
}

static void dispatch(struct member *m) {
  struct pollfd fd = {.fd = blx_consensus_fd(m->c, NULL), .events = POLLIN};
  ck_assert_int_eq(poll(&fd, 1, WAIT_MS), 1);
  ck_assert_int_gt(blx_consensus_dispatch(m->c, 0, NULL), 0);
}

static void open_leader(struct member *m) {
  open_member(m, BLX_COMPLETIONS_DISPATCH);
  while (m->role != BLX_CONSENSUS_LEADER) dispatch(m);
}

START_TEST(completions_and_roles__are_told_in_the_dispatch_and_nowhere_else) {
  struct member m = {0};
  open_leader(&m);
  for (int i = 0; i < CALLS; i++) ck_assert_int_eq(blx_consensus_propose_async(m.c, "x", 1, on_done, &m, NULL), 0);
  ck_assert_int_eq(blx_consensus_read_async(m.c, on_done, &m, NULL), 0);
  ck_assert_int_eq(blx_consensus_transfer_async(m.c, 7, on_done, &m, NULL), 0);
  usleep(200000);
  ck_assert_uint_eq(m.done, 0);
  while (m.done < CALLS + 2) dispatch(&m);
  ck_assert_uint_eq(m.failed, 1); /* there is no voter 7 */
  ck_assert_uint_eq(m.last, CALLS);
  /* A blocking call needs no dispatch, and its answer is its own. */
  struct blx_consensus_answer *answer = NULL;
  ck_assert_int_eq(blx_consensus_propose(m.c, "yy", 2, &answer, NULL), 0);
  ck_assert_uint_eq(answer->bytes.len, sizeof m.last);
  blx_consensus_answer_free(answer);
  ck_assert_int_eq(blx_consensus_dispatch(m.c, 0, NULL), 0);
  close_member(&m);
}
END_TEST

static void on_reentrant(void *user, const blx_error *err, uint64_t index, const void *answer, size_t len) {
  struct member *m = user;
  struct blx_consensus_status *status = NULL;
  on_done(user, err, index, answer, len);
  m->inner = blx_consensus_read(m->c, NULL, NULL, NULL);
  m->inner_dispatch = blx_consensus_dispatch(m->c, 0, NULL);
  blx_consensus_close(m->c);
  ck_assert_int_eq(blx_consensus_status_get(m->c, &status, NULL), 0);
  blx_consensus_status_free(status);
  m->inner_async = blx_consensus_propose_async(m->c, "z", 1, on_done, m, NULL);
}

START_TEST(inside_a_completion__blocking_dispatching_and_closing_are_refused_and_submitting_is_not) {
  struct member m = {0};
  open_leader(&m);
  ck_assert_int_eq(blx_consensus_propose_async(m.c, "x", 1, on_reentrant, &m, NULL), 0);
  while (m.done < 2) dispatch(&m);
  ck_assert_int_eq(m.inner, BLX_E_MISUSE);
  ck_assert_int_eq(m.inner_dispatch, BLX_E_MISUSE);
  ck_assert_int_eq(m.inner_async, 0);
  ck_assert_uint_eq(m.failed, 0);
  close_member(&m);
}
END_TEST

START_TEST(a_close__tells_what_nobody_dispatched_on_the_thread_that_closes) {
  struct member m = {0};
  open_leader(&m);
  unsigned roles = m.roles;
  for (int i = 0; i < CALLS; i++) ck_assert_int_eq(blx_consensus_propose_async(m.c, "x", 1, on_done, &m, NULL), 0);
  usleep(50000);
  for (int i = 0; i < CALLS; i++) ck_assert_int_eq(blx_consensus_read_async(m.c, on_done, &m, NULL), 0);
  close_member(&m);
  ck_assert_uint_eq(m.done, 2 * CALLS);
  ck_assert_uint_eq(m.failed, m.cancelled);
  ck_assert_uint_eq(m.roles, roles);
  ck_assert_int_eq(blx_consensus_dispatch(m.c, 0, NULL), BLX_E_MISUSE);
}
END_TEST

START_TEST(calls_that_nobody_dispatches__are_bounded) {
  struct member m = {0};
  blx_error err = {0};
  open_leader(&m);
  int taken = 0;
  while (blx_consensus_propose_async(m.c, "x", 1, on_done, &m, &err) == 0) taken++;
  ck_assert_int_eq(taken, BLX_CONSENSUS_WAITING_MAX);
  ck_assert_int_eq(err.code, BLX_E_BUSY);
  ck_assert_ptr_nonnull(strstr(err.message, "dispatch"));
  usleep(300000); /* they are done, and none is told */
  ck_assert_int_eq(blx_consensus_propose_async(m.c, "x", 1, on_done, &m, &err), BLX_E_BUSY);
  ck_assert_int_eq(blx_consensus_dispatch(m.c, 1, NULL), 1);
  ck_assert_int_eq(blx_consensus_propose_async(m.c, "x", 1, on_done, &m, &err), 0);
  while (m.done < BLX_CONSENSUS_WAITING_MAX + 1) dispatch(&m);
  close_member(&m);
}
END_TEST

START_TEST(on_fatal__is_dispatched_like_a_completion) {
  struct member m = {0};
  open_leader(&m);
  ck_assert_int_eq(blx_consensus_propose_async(m.c, "!", 1, on_done, &m, NULL), 0);
  while (m.fatals == 0 || m.done == 0) dispatch(&m);
  ck_assert_uint_eq(m.failed, 1);
  close_member(&m);
  ck_assert_uint_eq(m.fatals, 1);
}
END_TEST

struct looping {
  struct member m;
  struct blx_uv uv;
  unsigned stopped;
};

static void on_stopped(void *user) {
  ((struct looping *)user)->stopped++;
}

static void on_uv_done(void *user, const blx_error *err, uint64_t index, const void *answer, size_t len) {
  struct looping *l = user;
  on_done(&l->m, err, index, answer, len);
  if (l->m.done < 5)
    ck_assert_int_eq(blx_consensus_propose_async(l->m.c, "x", 1, on_uv_done, l, NULL), 0);
  else
    blx_uv_stop(&l->uv, on_stopped, l);
}

START_TEST(a_libuv_loop__dispatches_a_member) {
  struct looping l = {0};
  uv_loop_t loop;
  blx_error err = {0};
  open_leader(&l.m);
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_msg(blx_uv_start_consensus(&l.uv, &loop, l.m.c, &err) == 0, "%s", err.message);
  ck_assert_int_eq(blx_consensus_propose_async(l.m.c, "x", 1, on_uv_done, &l, NULL), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_uint_eq(l.m.done, 5);
  ck_assert_uint_eq(l.stopped, 1);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  close_member(&l.m);
}
END_TEST

START_TEST(what_was_not_opened_so__has_no_descriptor_and_another_choice_is_refused) {
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  blx_consensus *c = NULL;
  blx_error err = {0};
  o.dir = "/tmp/blx-consensus-nowhere";
  o.uid = 1;
  o.fsm = &fsm;
  o.completions = 2;
  ck_assert_int_eq(blx_consensus_open(&o, &c, &err), BLX_E_INVALID);
  ck_assert_str_eq(err.message, "completions: 2 is none of BLX_COMPLETIONS_*");
  ck_assert_int_eq(blx_consensus_fd(NULL, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_consensus_dispatch(NULL, 0, &err), BLX_E_MISUSE);
  /* An older program's struct ends where its padding is. */
  o.reserved = 77;
  o.struct_size = offsetof(struct blx_consensus_options, completions);
  o.fsm = NULL;
  ck_assert_int_eq(blx_consensus_open(&o, &c, &err), BLX_E_MISUSE);
  ck_assert_str_eq(err.message, "the state machine's table, or the addresses, are NULL");
}
END_TEST

BLX_TEST_MAIN("api consensus dispatch", completions_and_roles__are_told_in_the_dispatch_and_nowhere_else,
              inside_a_completion__blocking_dispatching_and_closing_are_refused_and_submitting_is_not,
              a_close__tells_what_nobody_dispatched_on_the_thread_that_closes,
              calls_that_nobody_dispatches__are_bounded, on_fatal__is_dispatched_like_a_completion,
              a_libuv_loop__dispatches_a_member,
              what_was_not_opened_so__has_no_descriptor_and_another_choice_is_refused)
