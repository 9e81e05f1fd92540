#include "../harness.h"

#include "base/buf.h"
#include "io/file.h"
#include "io/stream.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct end {
  struct blx__loop *loop;
  struct blx__stream *stream;
  struct blx__buf got;
  size_t want; /* stop the loop once so much came */
  int opened, writable, closed;
  bool stop_on_close, stop_on_writable;
  blx_error why;
};

static void end_open(void *user) {
  struct end *e = user;
  e->opened++;
}

static void end_bytes(void *user, const uint8_t *bytes, size_t n) {
  struct end *e = user;
  if (!blx__buf_add(&e->got, bytes, n)) blx__stream_close(e->stream);
  if (e->want && e->got.len >= e->want) blx__loop_stop(e->loop);
}

static void end_writable(void *user) {
  struct end *e = user;
  e->writable++;
  if (e->stop_on_writable) blx__loop_stop(e->loop);
}

static void end_closed(void *user, const blx_error *why) {
  struct end *e = user;
  e->closed++;
  e->stream = NULL;
  if (why) e->why = *why;
  if (e->stop_on_close) blx__loop_stop(e->loop);
}

static const struct blx__stream_ops end_ops = {end_open, end_bytes, end_writable, end_closed};

static void accepted(void *user, struct blx__stream *s) {
  struct end *e = user;
  e->stream = s;
  blx__stream_attach(s, &end_ops, e);
  if (e->want == SIZE_MAX) blx__loop_stop(e->loop);
}

struct pair {
  char dir[64], path[80];
  struct blx__loop *loop;
  struct blx__listener *listener;
  struct end server, client;
};

static void pair_open(struct pair *p) {
  *p = (struct pair){.dir = "/tmp/blx-io-XXXXXX"};
  ck_assert_ptr_nonnull(mkdtemp(p->dir));
  ck_assert(blx__str_format(p->path, sizeof p->path, "%s/s", p->dir));
  ck_assert_int_eq(blx__loop_new(&p->loop, NULL).code, 0);
  p->server.loop = p->client.loop = p->loop;
  blx__buf_init(&p->server.got, 32 << 20);
  blx__buf_init(&p->client.got, 32 << 20);
  ck_assert_int_eq(blx__listener_open(p->loop, p->path, 0660, accepted, &p->server, &p->listener, NULL).code, 0);
  p->server.want = SIZE_MAX;
  ck_assert_int_eq(blx__stream_connect(p->loop, p->path, &end_ops, &p->client, &p->client.stream, NULL).code, 0);
  ck_assert_int_eq(p->client.opened, 0);
  blx__loop_run(p->loop);
  p->server.want = 0;
  ck_assert_int_eq(p->client.opened, 1);
  ck_assert_ptr_nonnull(p->server.stream);
}

static void pair_close(struct pair *p) {
  if (p->client.stream) blx__stream_close(p->client.stream);
  if (p->server.stream) blx__stream_close(p->server.stream);
  blx__listener_close(p->listener);
  blx__loop_free(p->loop);
  ck_assert_int_eq(p->client.closed, 1);
  ck_assert_int_eq(p->server.closed, 1);
  ck_assert_int_ne(access(p->path, F_OK), 0);
  blx__buf_free(&p->server.got);
  blx__buf_free(&p->client.got);
  ck_assert_int_eq(blx__dir_remove_tree(p->dir, NULL).code, 0);
}

START_TEST(bytes__of_8_mib_arrive_whole_in_both_directions) {
  struct pair p;
  pair_open(&p);
  struct stat st;
  ck_assert_int_eq(stat(p.path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 0777, 0660);
  enum { SIZE = 8 << 20 };
  uint8_t *bytes = malloc(SIZE);
  for (size_t i = 0; i < SIZE; i++) bytes[i] = (uint8_t)(i * 31 >> 3);
  struct end *ends[2][2] = {{&p.client, &p.server}, {&p.server, &p.client}};
  for (int way = 0; way < 2; way++) {
    struct end *from = ends[way][0], *to = ends[way][1];
    ck_assert(blx__stream_write(from->stream, bytes, SIZE));
    to->want = SIZE;
    blx__loop_run(p.loop);
    ck_assert_uint_eq(to->got.len, SIZE);
    ck_assert_int_eq(memcmp(to->got.data, bytes, SIZE), 0);
    ck_assert_uint_eq(blx__stream_queued(from->stream), 0);
  }
  free(bytes);
  pair_close(&p);
}
END_TEST

START_TEST(write__over_the_maximum_takes_nothing_and_says_when_there_is_room) {
  struct pair p;
  pair_open(&p);
  static uint8_t bytes[100000];
  blx__stream_queue_max(p.client.stream, 300000);
  blx__stream_pause(p.server.stream, true);
  size_t taken = 0;
  while (blx__stream_write(p.client.stream, bytes, sizeof bytes)) taken += sizeof bytes;
  size_t queued = blx__stream_queued(p.client.stream);
  ck_assert_uint_le(queued, 300000);
  ck_assert(!blx__stream_write(p.client.stream, bytes, sizeof bytes));
  ck_assert_uint_eq(blx__stream_queued(p.client.stream), queued);
  ck_assert_int_eq(p.client.writable, 0);
  p.client.stop_on_writable = true;
  blx__stream_pause(p.server.stream, false);
  blx__loop_run(p.loop);
  ck_assert_int_eq(p.client.writable, 1);
  p.server.want = taken;
  if (p.server.got.len < taken) blx__loop_run(p.loop);
  ck_assert_uint_eq(p.server.got.len, taken);
  pair_close(&p);
}
END_TEST

/* The kernel's buffer fills in the middle of a part, now of one, now of the other. */
START_TEST(parts__arrive_in_order_and_are_taken_all_or_not_at_all) {
  struct pair p;
  pair_open(&p);
  enum { BODY = 70001, MAX = 400000 };
  static uint8_t body[BODY], want[64 * (BODY + 3)];
  for (size_t i = 0; i < BODY; i++) body[i] = (uint8_t)(i * 7 >> 2);
  blx__stream_queue_max(p.client.stream, MAX);
  blx__stream_pause(p.server.stream, true);
  size_t taken = 0;
  for (uint8_t i = 0; i < 64; i++) {
    const uint8_t head[] = {i, 1, 2};
    const struct blx__slice parts[] = {{head, sizeof head}, {NULL, 0}, {body, BODY}};
    size_t queued = blx__stream_queued(p.client.stream);
    if (!blx__stream_write_parts(p.client.stream, parts, 3)) {
      ck_assert_uint_gt(queued + BODY + sizeof head, MAX);
      ck_assert_uint_eq(blx__stream_queued(p.client.stream), queued);
      break;
    }
    memcpy(want + taken, head, sizeof head);
    memcpy(want + taken + sizeof head, body, BODY);
    taken += BODY + sizeof head;
  }
  ck_assert_uint_gt(blx__stream_queued(p.client.stream), BODY);
  p.server.want = taken;
  blx__stream_pause(p.server.stream, false);
  blx__loop_run(p.loop);
  ck_assert_uint_eq(p.server.got.len, taken);
  ck_assert_int_eq(memcmp(p.server.got.data, want, taken), 0);
  pair_close(&p);
}
END_TEST

START_TEST(close__reaches_the_other_side_after_its_bytes) {
  struct pair p;
  pair_open(&p);
  p.client.stop_on_close = true;
  ck_assert(blx__stream_write(p.server.stream, "last words", 10));
  blx__stream_close(p.server.stream);
  blx__stream_close(p.server.stream);
  ck_assert_int_eq(p.server.closed, 0);
  blx__loop_run(p.loop);
  ck_assert_uint_eq(p.client.got.len, 10);
  ck_assert_int_eq(p.client.why.code, 0);
  pair_close(&p);
}
END_TEST

START_TEST(break_off__with_our_bytes_unread_delivers_theirs_and_then_the_reason) {
  struct pair p;
  pair_open(&p);
  p.client.stop_on_close = true;
  blx__stream_pause(p.server.stream, true);
  ck_assert(blx__stream_write(p.client.stream, "unread", 6));
  ck_assert(blx__stream_write(p.server.stream, "bye", 3));
  blx__stream_close(p.server.stream);
  blx__loop_run(p.loop);
  ck_assert_uint_eq(p.client.got.len, 3);
  ck_assert_int_eq(p.client.why.code, BLX_E_UNAVAILABLE);
  pair_close(&p);
}
END_TEST

/* A server that refuses says why and closes, while the client still writes. */
START_TEST(write__to_a_peer_that_has_said_something_and_closed_delivers_that_first) {
  struct pair p;
  pair_open(&p);
  ck_assert(blx__stream_write(p.server.stream, "no", 2));
  blx__stream_close(p.server.stream); /* the descriptor is closed in this turn or the next; nothing is read meanwhile */
  p.client.stop_on_close = true;
  p.server.stop_on_close = true;
  blx__stream_pause(p.client.stream, true);
  blx__loop_run(p.loop);
  blx__stream_pause(p.client.stream, false);
  ck_assert(blx__stream_write(p.client.stream, "more", 4));
  ck_assert(blx__stream_write(p.client.stream, "and more", 8)); /* taken, and dropped */
  ck_assert_int_eq(p.client.closed, 0);
  blx__loop_run(p.loop);
  ck_assert_int_eq(p.client.closed, 1);
  ck_assert(p.client.got.len == 2 && memcmp(p.client.got.data, "no", 2) == 0);
  ck_assert_int_eq(p.client.why.code, BLX_E_UNAVAILABLE);
  pair_close(&p);
}
END_TEST

START_TEST(write__to_a_closed_peer_raises_no_signal) {
  struct pair p;
  pair_open(&p);
  blx__stream_pause(p.client.stream, true);
  p.server.stop_on_close = true;
  blx__stream_close(p.server.stream);
  blx__loop_run(p.loop);
  p.client.stop_on_close = true;
  ck_assert(blx__stream_write(p.client.stream, "x", 1));
  blx__loop_run(p.loop);
  ck_assert_int_eq(p.client.why.code, BLX_E_UNAVAILABLE);
  pair_close(&p);
}
END_TEST

START_TEST(finish__sends_what_is_queued_before_it_closes) {
  struct pair p;
  pair_open(&p);
  enum { SIZE = 4 << 20 };
  uint8_t *bytes = calloc(1, SIZE);
  ck_assert(blx__stream_write(p.server.stream, bytes, SIZE));
  blx__stream_finish(p.server.stream);
  p.client.stop_on_close = true;
  blx__loop_run(p.loop);
  ck_assert_uint_eq(p.client.got.len, SIZE);
  free(bytes);
  pair_close(&p);
}
END_TEST

START_TEST(peer__is_known_by_its_credentials) {
  struct pair p;
  pair_open(&p);
  struct blx__cred c = {0};
  ck_assert_int_eq(blx__stream_cred(p.server.stream, &c, NULL).code, 0);
  ck_assert_uint_eq(c.uid, geteuid());
  ck_assert_int_eq(c.pid, getpid());
  pair_close(&p);
}
END_TEST

START_TEST(listener__refuses_a_live_socket_and_a_plain_file_but_replaces_a_dead_one) {
  struct pair p;
  pair_open(&p);
  struct blx__listener *l = NULL;
  blx_error err = {0};
  ck_assert_int_eq(blx__listener_open(p.loop, p.path, 0600, accepted, &p.server, &l, &err).code, BLX_E_BUSY);
  ck_assert_ptr_nonnull(strstr(err.message, p.path));
  char file[96], dead[96];
  ck_assert(blx__str_format(file, sizeof file, "%s/file", p.dir));
  ck_assert(blx__str_format(dead, sizeof dead, "%s/dead", p.dir));
  ck_assert_int_eq(blx__file_write_atomic(file, "x", 1, 0600, NULL).code, 0);
  ck_assert_int_eq(blx__listener_open(p.loop, file, 0600, accepted, &p.server, &l, &err).code, BLX_E_EXISTS);
  ck_assert_int_eq(blx__listener_open(p.loop, dead, 0600, accepted, &p.server, &l, NULL).code, 0);
  char kept[96];
  ck_assert(blx__str_format(kept, sizeof kept, "%s/kept", p.dir));
  ck_assert_int_eq(link(dead, kept), 0);
  blx__listener_close(l);
  ck_assert_int_eq(blx__listener_open(p.loop, kept, 0600, accepted, &p.server, &l, NULL).code, 0);
  blx__listener_close(l);
  ck_assert_int_eq(blx__stream_connect(p.loop, dead, &end_ops, &p.client, &p.client.stream, &err).code,
                   BLX_E_UNAVAILABLE);
  pair_close(&p);
}
END_TEST

START_TEST(path__of_500_bytes_works) {
  struct pair p;
  pair_open(&p);
  char path[600];
  ck_assert(blx__str_format(path, sizeof path, "%s", p.dir));
  for (int i = 0; i < 5; i++) {
    size_t n = strlen(path);
    memset(path + n, 'd', 91);
    path[n] = '/';
    path[n + 91] = '\0';
  }
  ck_assert_int_eq(blx__dir_make(path, 0700, NULL).code, 0);
  memcpy(path + strlen(path), "/sock", 6);
  struct blx__listener *l = NULL;
  struct end server = {.loop = p.loop, .want = SIZE_MAX}, client = {.loop = p.loop};
  ck_assert_int_eq(blx__listener_open(p.loop, path, 0600, accepted, &server, &l, NULL).code, 0);
  ck_assert_int_eq(blx__stream_connect(p.loop, path, &end_ops, &client, &client.stream, NULL).code, 0);
  blx__loop_run(p.loop);
  ck_assert_ptr_nonnull(server.stream);
  blx__stream_close(server.stream);
  blx__stream_close(client.stream);
  blx__listener_close(l);
  pair_close(&p);
}
END_TEST

BLX_TEST_MAIN("io/stream", bytes__of_8_mib_arrive_whole_in_both_directions,
              write__over_the_maximum_takes_nothing_and_says_when_there_is_room,
              parts__arrive_in_order_and_are_taken_all_or_not_at_all, close__reaches_the_other_side_after_its_bytes,
              break_off__with_our_bytes_unread_delivers_theirs_and_then_the_reason,
              write__to_a_closed_peer_raises_no_signal,
              write__to_a_peer_that_has_said_something_and_closed_delivers_that_first,
              finish__sends_what_is_queued_before_it_closes, peer__is_known_by_its_credentials,
              listener__refuses_a_live_socket_and_a_plain_file_but_replaces_a_dead_one, path__of_500_bytes_works)
