/* Members' sockets, without members. */
#include "../harness.h"

#include "consensus/peer.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/timer.h"

#include <string.h>

struct end {
  struct blx__peers *peers;
  char path[64];
  uint64_t got_from;
  unsigned got;
};

static struct blx__loop *loop;
static char dir[32];
static struct end a, b;
static unsigned closes;
static bool (*done)(void);

static void deliver(void *user, uint64_t from_uid, struct blx__slice message) {
  struct end *e = user;
  ck_assert_uint_eq(message.len, 3);
  e->got_from = from_uid;
  e->got++;
}

static void open_end(struct end *e, uint64_t uid) {
  *e = (struct end){0};
  ck_assert(blx__str_format(e->path, sizeof e->path, "%s/%llu.sock", dir, (unsigned long long)uid));
  struct blx__peers_options o = {
      .loop = loop, .listen_path = e->path, .uid = uid, .user = e, .deliver = deliver, .cluster_id = "a cluster"};
  ck_assert_int_eq(blx__peers_open(&o, &e->peers, NULL).code, 0);
}

static void open_both(void) {
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-peer-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  ck_assert_int_eq(blx__loop_new(&loop, NULL).code, 0);
  open_end(&a, 1);
  open_end(&b, 2);
}

static void look(void *arg) {
  (void)arg;
  if (done()) blx__loop_stop(loop);
}

static void run_until(bool (*fn)(void)) {
  done = fn;
  struct blx__timer *t = blx__timer_new(loop, look, NULL);
  blx__timer_start(t, 1, 1);
  blx__loop_run(loop);
  blx__timer_free(t);
}

static void on_closed(void *user) {
  (void)user;
  closes++;
}

static bool both_closed(void) {
  return closes == 2;
}

static void close_both(void) {
  closes = 0;
  blx__peers_close(a.peers, on_closed, NULL);
  blx__peers_close(b.peers, on_closed, NULL);
  run_until(both_closed);
  blx__loop_free(loop);
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}

static bool b_heard(void) {
  return b.got > 0;
}

static bool a_heard(void) {
  return a.got > 0;
}

static const struct blx__slice message = {(const uint8_t *)"\1\1x", 3};

/* A member that lost its power before it noted the newest one must be able to answer it: it may be the leader. */
START_TEST(a_member_that_is_not_known__can_be_answered_once_it_spoke) {
  open_both();
  ck_assert_int_eq(blx__peers_set_address(a.peers, 2, b.path, NULL).code, 0);
  ck_assert(!blx__peers_send(b.peers, 1, message));
  ck_assert(blx__peers_send(a.peers, 2, message));
  run_until(b_heard);
  ck_assert_uint_eq(b.got_from, 1);
  ck_assert(blx__peers_send(b.peers, 1, message));
  run_until(a_heard);
  ck_assert_uint_eq(a.got_from, 2);
  close_both();
}
END_TEST

START_TEST(an_address_that_is_known__is_not_changed_by_a_hello) {
  open_both();
  ck_assert_int_eq(blx__peers_set_address(a.peers, 2, b.path, NULL).code, 0);
  ck_assert_int_eq(blx__peers_set_address(b.peers, 1, "/nowhere/1.sock", NULL).code, 0);
  ck_assert(blx__peers_send(a.peers, 2, message));
  run_until(b_heard);
  ck_assert(!blx__peers_send(b.peers, 1, message));
  close_both();
}
END_TEST

BLX_TEST_MAIN("consensus/peer", a_member_that_is_not_known__can_be_answered_once_it_spoke,
              an_address_that_is_known__is_not_changed_by_a_hello)
