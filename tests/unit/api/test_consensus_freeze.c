/* A state machine that freezes: its snapshot is written on another thread, while operations go on. */
#include "../harness.h"

#include <blixard/consensus.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ENTRIES = 64 }; /* log entries until a snapshot is due */

/* It counts operations. What is frozen is the count. */
struct machine {
  uint64_t count, restored;
  atomic_uint freezes, thaws, writes;
  atomic_bool refuse, fail, hold; /* freeze is refused, write fails, write does not end */
  _Atomic pthread_t apply_thread;
};

static struct machine m;

static int apply(void *user, const void *op, size_t op_len, blx_output *answer) {
  (void)user;
  (void)op;
  (void)op_len;
  m.apply_thread = pthread_self();
  m.count++;
  return blx_output_add(answer, &m.count, sizeof m.count);
}

static int freeze(void *user, void **out) {
  (void)user;
  if (m.refuse) return BLX_E_BUSY;
  uint64_t *frozen = malloc(sizeof *frozen);
  *frozen = m.count;
  *out = frozen;
  m.freezes++;
  return 0;
}

static int write_frozen(void *frozen, blx_output *out) {
  ck_assert(!pthread_equal(pthread_self(), m.apply_thread));
  m.writes++;
  while (m.hold) usleep(1000);
  return m.fail ? BLX_E_IO : blx_output_add(out, frozen, sizeof(uint64_t));
}

static void thaw(void *user, void *frozen) {
  (void)user;
  ck_assert(pthread_equal(pthread_self(), m.apply_thread));
  free(frozen);
  m.thaws++;
}

static int restore(void *user, const void *bytes, size_t len) {
  (void)user;
  ck_assert_uint_eq(len, sizeof m.count);
  memcpy(&m.count, bytes, len);
  m.restored = m.count;
  return 0;
}

static char dir[64];

static int open_with(struct blx_consensus_fsm *fsm, blx_consensus **out) {
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  char own[96];
  (void)snprintf(own, sizeof own, "%s/1", dir);
  o.dir = own;
  o.uid = 1;
  o.fsm = fsm;
  o.snapshot_entries = ENTRIES;
  int rc = blx_consensus_bootstrap(&o, NULL);
  return rc == 0 || rc == BLX_E_EXISTS ? blx_consensus_open(&o, out, NULL) : rc;
}

static blx_consensus *open_machine(void) {
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  fsm.apply = apply;
  fsm.restore = restore;
  fsm.freeze = freeze;
  fsm.write = write_frozen;
  fsm.thaw = thaw;
  blx_consensus *c = NULL;
  m.count = m.restored = 0;
  ck_assert_int_eq(open_with(&fsm, &c), 0);
  while (blx_consensus_read(c, NULL, NULL, NULL) != 0) usleep(1000);
  return c;
}

static void commit(blx_consensus *c, unsigned n) {
  for (unsigned i = 0; i < n; i++) ck_assert_int_eq(blx_consensus_propose(c, "x", 1, NULL, NULL), 0);
}

static void await(atomic_uint *what, unsigned at_least) {
  while (*what < at_least) usleep(1000);
}

static void begin(void) {
  memset(&m, 0, sizeof m);
  (void)snprintf(dir, sizeof dir, "/tmp/blixard-freeze-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void end(blx_consensus *c) {
  char line[96];
  blx_consensus_close(c);
  ck_assert_uint_eq(m.freezes, m.thaws);
  (void)snprintf(line, sizeof line, "rm -rf '%s'", dir);
  ck_assert_int_eq(system(line), 0);
}

START_TEST(operations__go_on_while_a_snapshot_is_written) {
  begin();
  blx_consensus *c = open_machine();
  m.hold = true;
  commit(c, 2 * ENTRIES);
  await(&m.writes, 1);
  commit(c, 2 * ENTRIES); /* answered, though the writer does not end; and no second one begins */
  ck_assert_uint_eq(m.freezes, 1);
  ck_assert_uint_eq(m.thaws, 0);
  m.hold = false;
  await(&m.thaws, 1);
  for (struct blx_consensus_status *s = NULL; !s;) { /* until it is on the disk */
    ck_assert_int_eq(blx_consensus_status_get(c, &s, NULL), 0);
    bool there = s->snapshot_index > 0;
    blx_consensus_status_free(s);
    if (!there) s = NULL;
    usleep(1000);
  }
  blx_consensus_close(c);
  c = open_machine();
  ck_assert_uint_gt(m.restored, 0);
  ck_assert_uint_lt(m.restored, 4 * ENTRIES);
  ck_assert_uint_eq(m.count, 4 * ENTRIES);
  end(c);
}
END_TEST

START_TEST(a_snapshot_that_fails__is_tried_again_and_costs_nothing) {
  begin();
  blx_consensus *c = open_machine();
  m.refuse = true;
  commit(c, 2 * ENTRIES);
  ck_assert_uint_eq(m.freezes, 0);
  m.refuse = false;
  m.fail = true;
  commit(c, 1);
  await(&m.thaws, 1);
  commit(c, ENTRIES / 2); /* not at once */
  ck_assert_uint_eq(m.freezes, 1);
  m.fail = false;
  commit(c, ENTRIES);
  await(&m.thaws, 2);
  ck_assert_uint_eq(m.count, 3 * ENTRIES + ENTRIES / 2 + 1);
  end(c);
}
END_TEST

static void *let_go(void *arg) {
  (void)arg;
  usleep(100000);
  m.hold = false;
  return NULL;
}

START_TEST(close__waits_for_the_writer_and_thaws) {
  begin();
  pthread_t thread;
  blx_consensus *c = open_machine();
  m.hold = true;
  commit(c, 2 * ENTRIES);
  await(&m.writes, 1);
  ck_assert_int_eq(pthread_create(&thread, NULL, let_go, NULL), 0);
  blx_consensus_close(c);
  ck_assert_uint_eq(m.thaws, 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  c = open_machine();
  ck_assert_uint_eq(m.count, 2 * ENTRIES);
  end(c);
}
END_TEST

static int snapshot(void *user, blx_output *out) {
  (void)user;
  return blx_output_add(out, &m.count, sizeof m.count);
}

START_TEST(a_table__has_snapshot_or_all_of_the_three) {
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  blx_consensus *c = NULL;
  begin();
  fsm.apply = apply;
  fsm.restore = restore;
  ck_assert_int_eq(open_with(&fsm, &c), BLX_E_MISUSE);
  fsm.snapshot = snapshot;
  fsm.freeze = freeze;
  ck_assert_int_eq(open_with(&fsm, &c), BLX_E_MISUSE);
  fsm.write = write_frozen;
  ck_assert_int_eq(open_with(&fsm, &c), BLX_E_MISUSE);
  fsm.freeze = NULL;
  fsm.write = NULL;
  fsm.struct_size = offsetof(struct blx_consensus_fsm, freeze); /* a program built with an older header */
  ck_assert_int_eq(open_with(&fsm, &c), 0);
  while (blx_consensus_read(c, NULL, NULL, NULL) != 0) usleep(1000);
  commit(c, 2 * ENTRIES);
  end(c);
}
END_TEST

BLX_TEST_MAIN("api/consensus that freezes", operations__go_on_while_a_snapshot_is_written,
              a_snapshot_that_fails__is_tried_again_and_costs_nothing, close__waits_for_the_writer_and_thaws,
              a_table__has_snapshot_or_all_of_the_three)
