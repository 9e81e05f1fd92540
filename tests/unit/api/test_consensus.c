/* The consensus part alone, through its public header, on real directories and sockets. */
#include "../harness.h"

#include <blixard/consensus.h>
#include "io/file.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { MEMBERS = 3, HISTORY = 8192 };

static char dir[64];

/* A member and its state machine, which counts bytes; an operation that begins with '!' it cannot carry out. */
struct side {
  blx_consensus *c;
  uint64_t uid, sum, restored;
  int restore_fails;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int32_t role;
  uint64_t leader;
  unsigned begins, ends;
  int fatal_code, fatals;
};

static struct side sides[MEMBERS + 1]; /* by uid */

static void fsm_begin(void *user, uint64_t index, uint64_t time_ms) {
  struct side *s = user;
  ck_assert(index > 0 && time_ms > 0);
  s->begins++;
}

static int fsm_apply(void *user, const void *op, size_t op_len, blx_output *answer) {
  struct side *s = user;
  if (*(const char *)op == '!') return BLX_E_UNSUPPORTED;
  s->sum += op_len;
  if (*(const char *)op == '+') {
    static uint8_t much[BLX_CONSENSUS_ANSWER_MAX];
    ck_assert_int_eq(blx_output_add(answer, much, sizeof much), 0);
    ck_assert_int_eq(blx_output_add(answer, "x", 1), answer ? BLX_E_NOSPACE : 0);
    return 0;
  }
  return blx_output_add(answer, &s->sum, sizeof s->sum);
}

static void fsm_end(void *user) {
  struct side *s = user;
  s->ends++;
}

static int fsm_snapshot(void *user, blx_output *out) {
  struct side *s = user;
  return blx_output_add(out, &s->sum, sizeof s->sum);
}

static int fsm_restore(void *user, const void *bytes, size_t len) {
  struct side *s = user;
  ck_assert_uint_eq(len, sizeof s->sum);
  if (s->restore_fails) return BLX_E_CORRUPT;
  memcpy(&s->sum, bytes, len);
  s->restored = s->sum;
  return 0;
}

static void on_role(void *user, int32_t role, uint64_t leader, uint64_t term) {
  struct side *s = user;
  (void)term;
  pthread_mutex_lock(&s->lock);
  s->role = role;
  s->leader = leader;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

static void on_fatal(void *user, int code, const char *text) {
  struct side *s = user;
  ck_assert(*text);
  pthread_mutex_lock(&s->lock);
  s->fatal_code = code;
  s->fatals++;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

static struct side *await_role(uint64_t uid, int32_t role) {
  struct side *s = &sides[uid];
  pthread_mutex_lock(&s->lock);
  while (s->role != role) pthread_cond_wait(&s->changed, &s->lock);
  pthread_mutex_unlock(&s->lock);
  return s;
}

static void await_fatal(struct side *s) {
  pthread_mutex_lock(&s->lock);
  while (s->fatals == 0) pthread_cond_wait(&s->changed, &s->lock);
  pthread_mutex_unlock(&s->lock);
}

static int open_side(uint64_t uid, uint32_t snapshot_entries, blx_error *err) {
  struct side *s = &sides[uid];
  char own[96], paths[MEMBERS][112];
  struct blx_consensus_address addresses[MEMBERS];
  const struct blx_consensus_address *all[MEMBERS];
  for (unsigned i = 0; i < MEMBERS; i++) {
    (void)blx__str_format(paths[i], sizeof paths[i], "%s/%u/peer.sock", dir, i + 1);
    addresses[i] = (struct blx_consensus_address){sizeof addresses[i], i + 1, paths[i]};
    all[i] = &addresses[i];
  }
  (void)blx__str_format(own, sizeof own, "%s/%u", dir, (unsigned)uid);
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  fsm.user = s;
  fsm.begin = fsm_begin;
  fsm.apply = fsm_apply;
  fsm.end = fsm_end;
  fsm.snapshot = fsm_snapshot;
  fsm.restore = fsm_restore;
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  o.dir = own;
  o.uid = uid;
  o.addresses = all;
  o.n_addresses = MEMBERS;
  o.fsm = &fsm;
  o.user = s;
  o.on_role = on_role;
  o.on_fatal = on_fatal;
  o.heartbeat_ms = 40;
  o.election_ms = 400;
  o.snapshot_entries = snapshot_entries;
  if (uid == 1) {
    int rc = blx_consensus_bootstrap(&o, err);
    if (rc != 0 && rc != BLX_E_EXISTS) return rc;
  }
  int restore_fails = s->restore_fails;
  *s = (struct side){.uid = uid, .restore_fails = restore_fails};
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->changed, NULL);
  return blx_consensus_open(&o, &s->c, err);
}

#define OK(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, err.message)

static struct side *up(uint64_t uid) {
  blx_error err = {0};
  OK(open_side(uid, 0, &err));
  return &sides[uid];
}

static void make_dir(void) {
  memset(sides, 0, sizeof sides);
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-consensus-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_all(void) {
  blx_error err;
  for (unsigned uid = 1; uid <= MEMBERS; uid++) blx_consensus_close(sides[uid].c);
  ck_assert_int_eq(blx__dir_remove_tree(dir, &err).code, 0);
}

static void down(struct side *s) {
  blx_consensus_close(s->c);
  s->c = NULL;
}

static uint64_t add(struct side *s, const char *op) {
  blx_error err = {0};
  struct blx_consensus_answer *answer = NULL;
  OK(blx_consensus_propose(s->c, op, strlen(op), &answer, &err));
  uint64_t sum;
  ck_assert_uint_eq(answer->bytes.len, sizeof sum);
  memcpy(&sum, answer->bytes.data, sizeof sum);
  ck_assert_uint_gt(answer->index, 0);
  blx_consensus_answer_free(answer);
  return sum;
}

static void look(void *user) {
  struct side *s = user;
  s->restored = s->sum; /* on the thread that applies: no lock */
}

static uint64_t read_sum(struct side *s) {
  blx_error err = {0};
  OK(blx_consensus_read(s->c, look, s, &err));
  return s->restored;
}

/* ---- what an asynchronous call came to */

struct outcome {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  blx_consensus *c;
  int calls, code, inner, inner_status;
};

static void outcome_done(void *user, const blx_error *err, uint64_t index, const void *answer, size_t len) {
  struct outcome *o = user;
  (void)index;
  (void)answer;
  (void)len;
  blx_error why;
  struct blx_consensus_status *status = NULL;
  if (o->c) {
    o->inner = blx_consensus_read(o->c, NULL, NULL, &why);
    o->inner_status = blx_consensus_status_get(o->c, &status, &why);
    blx_consensus_status_free(status);
  }
  pthread_mutex_lock(&o->lock);
  o->code = err ? err->code : 0;
  o->calls++;
  pthread_cond_signal(&o->cond);
  pthread_mutex_unlock(&o->lock);
}

static void outcome_await(struct outcome *o, int calls) {
  pthread_mutex_lock(&o->lock);
  while (o->calls < calls) pthread_cond_wait(&o->cond, &o->lock);
  pthread_mutex_unlock(&o->lock);
}

#define OUTCOME \
  { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER }

/* ---- tests */

START_TEST(one_member__answers_from_its_state_machine_and_is_after_a_restart_what_it_was) {
  make_dir();
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  ck_assert_uint_eq(add(s, "abc"), 3);
  ck_assert_uint_eq(add(s, "de"), 5);
  ck_assert_uint_eq(read_sum(s), 5);
  ck_assert_uint_eq(s->begins, s->ends);
  ck_assert_uint_ge(s->begins, 2);
  struct blx_consensus_status *before = NULL, *after = NULL;
  blx_error err = {0};
  OK(blx_consensus_status_get(s->c, &before, &err));
  ck_assert_int_eq(before->role, BLX_CONSENSUS_LEADER);
  ck_assert_uint_eq(before->n_members, 1);
  ck_assert_uint_eq(before->members[0]->uid, 1);
  ck_assert_int_eq(before->members[0]->membership, BLX_CONSENSUS_VOTER);
  down(s);
  s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  ck_assert_uint_eq(read_sum(s), 5);
  OK(blx_consensus_status_get(s->c, &after, &err));
  ck_assert_mem_eq(before->chain, after->chain, sizeof before->chain);
  ck_assert_uint_eq(blx_consensus_leader(s->c), 1);
  blx_consensus_status_free(before);
  blx_consensus_status_free(after);
  remove_all();
}
END_TEST

START_TEST(an_answer__may_be_as_long_as_the_header_says_and_no_longer) {
  make_dir();
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  blx_error err = {0};
  struct blx_consensus_answer *answer = NULL;
  OK(blx_consensus_propose(s->c, "+", 1, &answer, &err));
  ck_assert_uint_eq(answer->bytes.len, BLX_CONSENSUS_ANSWER_MAX);
  blx_consensus_answer_free(answer);
  remove_all();
}
END_TEST

START_TEST(three_members__agree_hand_over_and_let_go) {
  make_dir();
  blx_error err = {0};
  for (uint64_t uid = 1; uid <= MEMBERS; uid++) up(uid);
  struct side *one = await_role(1, BLX_CONSENSUS_LEADER), *two = &sides[2];
  OK(blx_consensus_add_member(one->c, 2, &err));
  OK(blx_consensus_add_member(one->c, 3, &err));
  OK(blx_consensus_add_member(one->c, 3, &err)); /* is in already */
  ck_assert_uint_eq(add(one, "abc"), 3);
  ck_assert_int_eq(blx_consensus_propose(two->c, "x", 1, NULL, &err), BLX_E_NO_LEADER);
  ck_assert_str_eq(err.leader, "1");
  ck_assert_int_eq(blx_consensus_read(two->c, NULL, NULL, &err), BLX_E_NO_LEADER);
  ck_assert_int_eq(blx_consensus_transfer(one->c, 9, &err), BLX_E_NOT_FOUND);
  OK(blx_consensus_transfer(one->c, 2, &err));
  await_role(2, BLX_CONSENSUS_LEADER);
  ck_assert_uint_eq(read_sum(two), 3);
  ck_assert_int_eq(blx_consensus_remove_member(two->c, 2, &err), BLX_E_CONFLICT);
  OK(blx_consensus_remove_member(two->c, 3, &err));
  down(&sides[3]);
  OK(blx_consensus_set_address(two->c, 3, NULL, &err));
  ck_assert_uint_eq(add(two, "de"), 5);
  struct blx_consensus_status *status = NULL;
  OK(blx_consensus_status_get(two->c, &status, &err));
  ck_assert_uint_eq(status->n_members, 2);
  ck_assert_uint_eq(status->leader_uid, 2);
  blx_consensus_status_free(status);
  remove_all();
}
END_TEST

START_TEST(a_member_that_was_not_added__is_told_that_there_is_no_leader) {
  make_dir();
  blx_error err = {0};
  struct side *s = up(2);
  ck_assert_int_eq(blx_consensus_propose(s->c, "x", 1, NULL, &err), BLX_E_NO_LEADER);
  ck_assert_str_eq(err.leader, "");
  ck_assert_uint_eq(blx_consensus_leader(s->c), 0);
  remove_all();
}
END_TEST

START_TEST(close__completes_with_cancelled_what_cannot_be_committed) {
  make_dir();
  blx_error err = {0};
  struct outcome out = OUTCOME;
  up(1);
  up(2);
  struct side *one = await_role(1, BLX_CONSENSUS_LEADER);
  OK(blx_consensus_add_member(one->c, 2, &err));
  down(&sides[2]);
  OK(blx_consensus_propose_async(one->c, "x", 1, outcome_done, &out, &err));
  down(one);
  ck_assert_int_eq(out.calls, 1);
  ck_assert_msg(out.code == BLX_E_CANCELLED || out.code == BLX_E_TIMEOUT || out.code == BLX_E_NO_LEADER, "%d",
                out.code);
  remove_all();
}
END_TEST

START_TEST(an_operation_that_cannot_be_carried_out__stops_the_member_and_nothing_else) {
  make_dir();
  blx_error err = {0};
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  ck_assert_int_eq(blx_consensus_propose(s->c, "!", 1, NULL, &err), BLX_E_FATAL);
  await_fatal(s);
  ck_assert_int_eq(s->fatal_code, BLX_E_UNSUPPORTED);
  ck_assert_int_eq(blx_consensus_propose(s->c, "x", 1, NULL, &err), BLX_E_FATAL);
  ck_assert_int_eq(blx_consensus_read(s->c, NULL, NULL, &err), BLX_E_FATAL);
  struct blx_consensus_status *status = NULL;
  OK(blx_consensus_status_get(s->c, &status, &err));
  ck_assert_int_eq(status->role, BLX_CONSENSUS_STOPPED);
  ck_assert_int_eq(status->fatal_code, BLX_E_UNSUPPORTED);
  blx_consensus_status_free(status);
  remove_all();
}
END_TEST

START_TEST(poison__tells_once_and_the_directory_opens_again) {
  make_dir();
  blx_error err = {0};
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  ck_assert_uint_eq(add(s, "abc"), 3);
  ck_assert_int_eq(blx_consensus_poison(s->c, 0, "no code", &err), BLX_E_MISUSE);
  OK(blx_consensus_poison(s->c, BLX_E_IO, "the embedder's own disk is broken", &err));
  OK(blx_consensus_poison(s->c, BLX_E_IO, "again", &err));
  await_fatal(s);
  ck_assert_int_eq(blx_consensus_propose(s->c, "x", 1, NULL, &err), BLX_E_FATAL);
  ck_assert_ptr_nonnull(strstr(err.message, "own disk"));
  ck_assert_int_eq(s->fatals, 1);
  down(s);
  s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  ck_assert_uint_eq(read_sum(s), 3);
  remove_all();
}
END_TEST

START_TEST(a_snapshot_that_cannot_be_read__makes_the_open_fail_and_changes_nothing) {
  make_dir();
  blx_error err = {0};
  OK(open_side(1, 64, &err));
  struct side *s = await_role(1, BLX_CONSENSUS_LEADER);
  struct blx_consensus_status *status = NULL;
  uint64_t snapshot = 0, sum = 0;
  while (snapshot == 0 && sum < HISTORY) {
    sum = add(s, "x");
    OK(blx_consensus_status_get(s->c, &status, &err));
    snapshot = status->snapshot_index;
    blx_consensus_status_free(status);
  }
  ck_assert_uint_gt(snapshot, 0);
  down(s);
  s->restore_fails = 1;
  ck_assert_int_eq(open_side(1, 64, &err), BLX_E_CORRUPT);
  s->restore_fails = 0;
  OK(open_side(1, 64, &err));
  ck_assert_uint_gt(s->restored, 0);
  await_role(1, BLX_CONSENSUS_LEADER);
  ck_assert_uint_eq(read_sum(s), sum);
  remove_all();
}
END_TEST

START_TEST(a_blocking_call_in_a_completion__is_misuse_and_a_status_is_not) {
  make_dir();
  blx_error err = {0};
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  struct outcome out = OUTCOME;
  out.c = s->c;
  OK(blx_consensus_read_async(s->c, outcome_done, &out, &err));
  outcome_await(&out, 1);
  ck_assert_int_eq(out.code, 0);
  ck_assert_int_eq(out.inner, BLX_E_MISUSE);
  ck_assert_int_eq(out.inner_status, 0);
  remove_all();
}
END_TEST

/* A completion that asks for more: the second is never completed inside of the first. */
struct chain {
  struct outcome out;
  blx_consensus *c;
  int asked, done_inside;
};

static void chain_first(void *user, const blx_error *err, uint64_t index, const void *answer, size_t len) {
  struct chain *chain = user;
  (void)index;
  (void)answer;
  (void)len;
  ck_assert_ptr_null(err);
  chain->asked = blx_consensus_propose_async(chain->c, "x", 1, outcome_done, &chain->out, NULL);
  chain->done_inside = chain->out.calls;
  if (chain->asked != 0) outcome_done(&chain->out, NULL, 0, NULL, 0);
}

START_TEST(a_call_from_a_completion__completes_later) {
  make_dir();
  blx_error err = {0};
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  struct chain chain = {.out = OUTCOME, .c = s->c};
  OK(blx_consensus_read_async(s->c, chain_first, &chain, &err));
  outcome_await(&chain.out, 1);
  ck_assert_int_eq(chain.asked, 0);
  ck_assert_int_eq(chain.done_inside, 0);
  ck_assert_int_eq(chain.out.code, 0);
  ck_assert_uint_eq(read_sum(s), 1);
  remove_all();
}
END_TEST

START_TEST(calls_beyond_the_maximum__are_refused_and_the_others_complete_once) {
  make_dir();
  blx_error err = {0};
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  struct outcome out = OUTCOME;
  int taken = 0, refused = 0;
  pthread_mutex_lock(&out.lock); /* the first completion waits here, so nothing ends meanwhile */
  while (taken <= BLX_CONSENSUS_WAITING_MAX + 1 && refused == 0) {
    int rc = blx_consensus_propose_async(s->c, "x", 1, outcome_done, &out, &err);
    ck_assert(rc == 0 || rc == BLX_E_BUSY);
    if (rc == 0)
      taken++;
    else
      refused++;
  }
  pthread_mutex_unlock(&out.lock);
  ck_assert_int_eq(refused, 1);
  ck_assert_int_le(taken, BLX_CONSENSUS_WAITING_MAX + 1); /* one has left the count when its completion runs */
  ck_assert_int_ge(taken, BLX_CONSENSUS_WAITING_MAX);
  outcome_await(&out, taken);
  ck_assert_uint_eq(add(s, "x"), (uint64_t)taken + 1);
  ck_assert_int_eq(out.calls, taken);
  remove_all();
}
END_TEST

START_TEST(misuse_and_values_out_of_range__are_refused_with_their_reason) {
  make_dir();
  blx_error err = {0};
  char own[96];
  (void)blx__str_format(own, sizeof own, "%s/x", dir);
  blx_consensus *c = NULL;
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  struct blx_consensus_options good = BLX_CONSENSUS_OPTIONS_INIT, o;
  ck_assert_int_eq(blx_consensus_open(NULL, &c, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_consensus_open(&good, NULL, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_consensus_bootstrap(NULL, &err), BLX_E_MISUSE);
  good.dir = own;
  good.uid = 1;
  good.fsm = &fsm;
  ck_assert_int_eq(blx_consensus_open(&good, &c, &err), BLX_E_MISUSE); /* the table is empty */
  fsm.apply = fsm_apply;
  fsm.snapshot = fsm_snapshot;
  fsm.restore = fsm_restore;
#define REFUSED(code, text, ...)                              \
  do {                                                        \
    o = good;                                                 \
    __VA_ARGS__;                                              \
    err.message[0] = '\0';                                    \
    ck_assert_int_eq(blx_consensus_open(&o, &c, &err), code); \
    ck_assert_ptr_nonnull(strstr(err.message, text));         \
  } while (0)
  REFUSED(BLX_E_MISUSE, "struct_size", o.struct_size = 0);
  REFUSED(BLX_E_INVALID, "dir", o.dir = "");
  REFUSED(BLX_E_INVALID, "uid", o.uid = 0);
  REFUSED(BLX_E_INVALID, "heartbeat_ms: 9", o.heartbeat_ms = 9);
  REFUSED(BLX_E_INVALID, "election_ms: 999", o.election_ms = 999);
  REFUSED(BLX_E_INVALID, "election_ms: 10001", o.election_ms = 10001);
  REFUSED(BLX_E_INVALID, "snapshot_entries: 63", o.snapshot_entries = 63);
  REFUSED(BLX_E_INVALID, "addresses: 65", o.n_addresses = 65);
  REFUSED(BLX_E_MISUSE, "NULL", o.n_addresses = 1);
  REFUSED(BLX_E_MISUSE, "NULL", o.fsm = NULL);
#undef REFUSED
  ck_assert_ptr_null(c);
  ck_assert_int_eq(access(own, F_OK), -1); /* nothing was made */
  ck_assert_int_eq(blx_consensus_propose(NULL, "x", 1, NULL, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_consensus_read_async(NULL, outcome_done, NULL, &err), BLX_E_MISUSE);
  ck_assert_uint_eq(blx_consensus_leader(NULL), 0);
  blx_consensus_close(NULL);
  remove_all();
}
END_TEST

START_TEST(operations_of_a_size_that_is_not_allowed__are_refused) {
  make_dir();
  blx_error err = {0};
  static const uint8_t long_op[BLX_CONSENSUS_OP_MAX + 1] = {'x'};
  struct side *s = up(1);
  await_role(1, BLX_CONSENSUS_LEADER);
  ck_assert_int_eq(blx_consensus_propose(s->c, "", 0, NULL, &err), BLX_E_INVALID);
  ck_assert_int_eq(blx_consensus_propose(s->c, NULL, 1, NULL, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_consensus_propose(s->c, long_op, sizeof long_op, NULL, &err), BLX_E_INVALID);
  OK(blx_consensus_propose(s->c, long_op, sizeof long_op - 1, NULL, &err));
  ck_assert_int_eq(blx_consensus_propose_async(s->c, "x", 1, NULL, NULL, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_consensus_set_address(s->c, 0, "/x", &err), BLX_E_INVALID);
  ck_assert_int_eq(blx_consensus_set_address(s->c, 2, "", &err), BLX_E_INVALID);
  remove_all();
}
END_TEST

START_TEST(a_struct_of_a_newer_header__is_taken_as_long_as_its_tail_is_zero) {
  make_dir();
  blx_error err = {0};
  struct {
    struct blx_consensus_options o;
    uint64_t later;
  } newer = {.o = BLX_CONSENSUS_OPTIONS_INIT, .later = 1};
  char own[96];
  (void)blx__str_format(own, sizeof own, "%s/1", dir);
  newer.o.struct_size = sizeof newer;
  newer.o.dir = own;
  newer.o.uid = 1;
  ck_assert_int_eq(blx_consensus_bootstrap(&newer.o, &err), BLX_E_UNSUPPORTED);
  newer.later = 0;
  OK(blx_consensus_bootstrap(&newer.o, &err));
  ck_assert_int_eq(blx_consensus_bootstrap(&newer.o, &err), BLX_E_EXISTS);
  remove_all();
}
END_TEST

START_TEST(a_directory_in_use__is_busy) {
  make_dir();
  blx_error err = {0};
  char own[96];
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  blx_consensus *second = NULL;
  up(1);
  (void)blx__str_format(own, sizeof own, "%s/1", dir);
  fsm.apply = fsm_apply;
  fsm.snapshot = fsm_snapshot;
  fsm.restore = fsm_restore;
  o.fsm = &fsm;
  o.dir = own;
  o.uid = 1;
  ck_assert_int_eq(blx_consensus_open(&o, &second, &err), BLX_E_BUSY);
  o.socket_path = "/tmp/blx-consensus-second.sock";
  ck_assert_int_eq(blx_consensus_open(&o, &second, &err), BLX_E_BUSY);
  down(&sides[1]);
  o.cluster_id[0] = 1;
  ck_assert_int_eq(blx_consensus_open(&o, &second, &err), BLX_E_CONFLICT);
  ck_assert_ptr_null(second);
  remove_all();
}
END_TEST

BLX_TEST_MAIN("api consensus", one_member__answers_from_its_state_machine_and_is_after_a_restart_what_it_was,
              an_answer__may_be_as_long_as_the_header_says_and_no_longer, three_members__agree_hand_over_and_let_go,
              a_member_that_was_not_added__is_told_that_there_is_no_leader,
              close__completes_with_cancelled_what_cannot_be_committed,
              an_operation_that_cannot_be_carried_out__stops_the_member_and_nothing_else,
              poison__tells_once_and_the_directory_opens_again,
              a_snapshot_that_cannot_be_read__makes_the_open_fail_and_changes_nothing,
              a_blocking_call_in_a_completion__is_misuse_and_a_status_is_not, a_call_from_a_completion__completes_later,
              calls_beyond_the_maximum__are_refused_and_the_others_complete_once,
              misuse_and_values_out_of_range__are_refused_with_their_reason, a_directory_in_use__is_busy,
              operations_of_a_size_that_is_not_allowed__are_refused,
              a_struct_of_a_newer_header__is_taken_as_long_as_its_tail_is_zero)
