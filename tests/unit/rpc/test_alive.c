#include "../harness.h"

#include "io/timer.h"
#include "support_raw.h"

#include <nghttp2/nghttp2.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 10, CUT_MS = LOOK_MS * BLX__RPC_CUT_LOOKS, IDLE_MS = LOOK_MS * BLX__RPC_IDLE_LOOKS };

static void stop(void *arg) {
  blx__loop_stop(arg);
}

/* Let the loop run so long. */
static void pass(struct world *w, uint64_t ms) {
  struct blx__timer *t = blx__timer_new(w->loop, stop, w->loop);
  uint64_t until = blx__loop_now_ms(w->loop) + ms;
  blx__timer_start(t, ms, 1);
  while (blx__loop_now_ms(w->loop) < until) blx__loop_run(w->loop);
  blx__timer_free(t);
}

/* A server that takes connections and never says a word. */
struct mute {
  struct blx__stream *stream;
  struct blx__listener *listener;
};

static void mute_bytes(void *user, const uint8_t *p, size_t n) {
  (void)user;
  (void)p;
  (void)n;
}

static void mute_closed(void *user, const blx_error *why) {
  (void)why;
  ((struct mute *)user)->stream = NULL;
}

static const struct blx__stream_ops mute_ops = {NULL, mute_bytes, NULL, mute_closed};

static void mute_accept(void *user, struct blx__stream *s) {
  struct mute *m = user;
  m->stream = s;
  blx__stream_attach(s, &mute_ops, m);
}

START_TEST(caller__whose_server_says_nothing_any_more_is_told_so_without_a_deadline) {
  struct world w;
  struct mute m = {0};
  char path[96];
  world_open_looking(&w, LOOK_MS);
  ck_assert(blx__str_format(path, sizeof path, "%s/mute.sock", w.dir));
  ck_assert_int_eq(blx__listener_open(w.loop, path, 0660, mute_accept, &m, &m.listener, NULL).code, 0);
  struct blx__rpc_conn *mine = w.conn;
  ck_assert_int_eq(blx__rpc_conn_new(w.loop, path, &w.conn, NULL).code, 0);
  blx__rpc_conn_look(w.conn, LOOK_MS);
  uint64_t began = blx__loop_now_ms(w.loop);
  struct answer a = ask(&w, "/t.T/Echo", "x", 1, 0);
  ck_assert_int_eq(a.err.code, BLX_E_UNAVAILABLE);
  ck_assert_msg(strstr(a.err.message, "not even that it lives") != NULL, "%s", a.err.message);
  ck_assert(a.maybe_done);
  ck_assert_uint_ge(blx__loop_now_ms(w.loop) - began, CUT_MS / 2);
  blx__rpc_conn_close(w.conn, NULL, NULL);
  w.conn = mine;
  while (m.stream) settle(&w);
  blx__listener_close(m.listener);
  world_close(&w);
}
END_TEST

START_TEST(caller__who_does_not_answer_a_ping_is_cut_and_counted) {
  struct world w;
  struct raw r;
  int open = 0;
  world_open_looking(&w, LOOK_MS);
  raw_open(&w, &r, &open);
  raw_hello(&r);
  raw_call(&r, 1, "/t.T/Never");
  raw_frame(&r, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, NULL, 5);
  blx__loop_run(w.loop);
  ck_assert(r.closed);
  ck_assert_uint_eq(r.frames[NGHTTP2_PING], 1);
  ck_assert_uint_eq(stats_of(&w).cut_silent, 1);
  ck_assert_uint_eq(stats_of(&w).noise, 0);
  ck_assert_int_eq(w.service.gone_cancelled, 1);
  still_answers(&w);
  world_close(&w);
}
END_TEST

static void never_done(void *user, const struct blx__rpc_result *result) {
  *(int *)user = result->err ? result->err->code : 1;
}

START_TEST(call__that_waits_long_is_kept_by_pings_and_by_them_alone) {
  struct world w;
  int ended = 0;
  world_open_looking(&w, LOOK_MS);
  struct blx__rpc_pending *p = NULL;
  struct blx__rpc_request request = {.path = "/t.T/Never"};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &request, never_done, &ended, &p, NULL).code, 0);
  pass(&w, 3 * IDLE_MS);
  ck_assert_int_eq(ended, 0);
  ck_assert_uint_eq(stats_of(&w).cut_silent + stats_of(&w).closed_idle, 0);
  /* This whole process stops for longer than the bound: what came meanwhile is an answer. */
  struct timespec stopped = {.tv_nsec = 2L * CUT_MS * 1000000};
  for (int i = 0; i < 3; i++) {
    pass(&w, LOOK_MS * (BLX__RPC_PING_LOOKS + 1));
    (void)nanosleep(&stopped, NULL);
  }
  pass(&w, LOOK_MS);
  ck_assert_int_eq(ended, 0);
  blx__rpc_cancel(p);
  settle(&w);
  ck_assert_int_eq(ended, BLX_E_CANCELLED);
  world_close(&w);
}
END_TEST

START_TEST(connection__without_a_call_is_not_pinged_and_is_closed_in_the_end) {
  struct world w;
  struct raw r;
  int open = 0;
  world_open_looking(&w, LOOK_MS);
  raw_open(&w, &r, &open);
  raw_hello(&r);
  still_answers(&w);
  pass(&w, CUT_MS);
  ck_assert(!r.closed);
  while (!r.closed) blx__loop_run(w.loop);
  ck_assert_uint_eq(r.frames[NGHTTP2_PING], 0);
  ck_assert_uint_eq(r.frames[NGHTTP2_GOAWAY], 1);
  while (stats_of(&w).connections > 0) pass(&w, LOOK_MS);
  ck_assert_uint_eq(stats_of(&w).closed_idle, 2);
  ck_assert_uint_eq(stats_of(&w).cut_silent, 0);
  still_answers(&w); /* on a new one */
  ck_assert_uint_eq(stats_of(&w).accepted, 3);
  world_close(&w);
}
END_TEST

START_TEST(caller__does_not_race_the_server_that_closes_what_is_idle) {
  struct world w;
  world_open_looking(&w, LOOK_MS);
  blx__rpc_conn_look(w.conn, LOOK_MS);
  for (int i = 0; i < 4; i++) {
    pass(&w, IDLE_MS - 2 * LOOK_MS); /* the server is about to */
    still_answers(&w);
    still_answers(&w); /* on the same one */
    ck_assert_uint_eq(stats_of(&w).accepted, (uint64_t)i + 1);
  }
  ck_assert_uint_eq(stats_of(&w).closed_idle, 0);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("rpc/alive", caller__whose_server_says_nothing_any_more_is_told_so_without_a_deadline,
              caller__who_does_not_answer_a_ping_is_cut_and_counted,
              call__that_waits_long_is_kept_by_pings_and_by_them_alone,
              connection__without_a_call_is_not_pinged_and_is_closed_in_the_end,
              caller__does_not_race_the_server_that_closes_what_is_idle)
