#include "../harness.h"

#include "support_raw.h"

#include <malloc.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

enum { BATCH = 50, FRAMES_MAX = 60000, GROWTH_MAX_BYTES = 4 << 20 };

/* One step of a flood; @i counts them. */
typedef void flood_fn(struct raw *r, uint32_t i);

static void ping(struct raw *r, uint32_t i) {
  (void)i;
  raw_frame(r, NGHTTP2_PING, 0, 0, NULL, 8);
}

static void settings(struct raw *r, uint32_t i) {
  (void)i;
  raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

static void priority(struct raw *r, uint32_t i) {
  raw_frame(r, NGHTTP2_PRIORITY, 0, 2 * i + 1, "\0\0\0\0\1", 5);
}

static void window(struct raw *r, uint32_t i) {
  (void)i;
  raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
}

static void unknown(struct raw *r, uint32_t i) {
  (void)i;
  raw_frame(r, 0xfa, 0, 0, NULL, 0);
}

static void empty_data(struct raw *r, uint32_t i) {
  if (i == 0) raw_call(r, 1, "/t.T/Hear");
  raw_frame(r, NGHTTP2_DATA, 0, 1, NULL, 0);
}

/* A byte that says "no padding", and nothing else. */
static void padded_data(struct raw *r, uint32_t i) {
  if (i == 0) raw_call(r, 1, "/t.T/Hear");
  raw_frame(r, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, NULL, 1);
}

static void empty_continuation(struct raw *r, uint32_t i) {
  if (i == 0) raw_frame(r, NGHTTP2_HEADERS, 0, 1, NULL, 0);
  raw_frame(r, NGHTTP2_CONTINUATION, 0, 1, NULL, 0);
}

/* Calls that are taken back at once: CVE-2023-44487. */
static void rapid_reset(struct raw *r, uint32_t i) {
  raw_call(r, 2 * i + 1, "/t.T/Never");
  raw_frame(r, NGHTTP2_RST_STREAM, 0, 2 * i + 1, "\0\0\0\10", 4);
}

/* Calls that we must reset, for a window that grows by nothing. */
static void made_reset(struct raw *r, uint32_t i) {
  raw_call(r, 2 * i + 1, "/t.T/Never");
  raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 2 * i + 1, NULL, 4);
}

/* Calls whose headers are not allowed. */
static void bad_headers(struct raw *r, uint32_t i) {
  raw_frame(r, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 2 * i + 1, "\x83", 1);
}

/* Answers to questions nobody asked. */
static void ping_ack(struct raw *r, uint32_t i) {
  (void)i;
  raw_frame(r, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, NULL, 8);
}

static const struct {
  const char *name;
  flood_fn *step;
} floods[] = {{"ping", ping},
              {"settings", settings},
              {"priority", priority},
              {"window", window},
              {"unknown", unknown},
              {"empty data", empty_data},
              {"padded data", padded_data},
              {"empty continuation", empty_continuation},
              {"rapid reset", rapid_reset},
              {"made reset", made_reset},
              {"bad headers", bad_headers},
              {"ping ack", ping_ack}};

static void stop(void *arg) {
  blx__loop_stop(arg);
}

static void few_turns(struct world *w) {
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(blx__loop_post(w->loop, stop, w->loop, NULL).code, 0);
    blx__loop_run(w->loop);
  }
}

/* In small batches, so that no single turn is full of it. */
static void flood(struct world *w, const char *name, flood_fn *step) {
  struct raw r;
  int open = 0;
  uint64_t noise = stats_of(w).noise;
  raw_open(w, &r, &open);
  raw_hello(&r);
  uint32_t i = 0;
  while (!r.closed && i < FRAMES_MAX) {
    for (int k = 0; k < BATCH; k++) step(&r, i++);
    few_turns(w);
    if (i % (100 * BATCH) == 0) still_answers(w);
  }
  ck_assert_msg(r.closed, "%s: %u frames and still open", name, i);
  ck_assert_msg(stats_of(w).noise == noise + 1, "%s: closed but not counted", name);
  still_answers(w);
}

START_TEST(flood__of_frames_that_carry_nothing_is_closed_and_counted_and_the_others_are_served) {
  struct world w;
  world_open(&w);
  still_answers(&w);
  size_t before = 0;
  for (size_t i = 0; i < BLX__COUNT(floods); i++) {
    flood(&w, floods[i].name, floods[i].step);
    if (i == 0) before = mallinfo2().uordblks;
    ck_assert_uint_le(mallinfo2().uordblks, before + GROWTH_MAX_BYTES);
  }
  few_turns(&w);
  ck_assert_uint_eq(stats_of(&w).connections, 1);
  ck_assert_uint_eq(stats_of(&w).calls, 0);
  world_close(&w);
}
END_TEST

START_TEST(what_belongs_to_a_connection__is_not_taken_for_a_flood) {
  struct world w;
  struct raw r;
  int open = 0;
  world_open(&w);
  raw_open(&w, &r, &open);
  raw_hello(&r);
  raw_call(&r, 1, "/t.T/Hear");
  /* A ping and a window for each message, as callers do who measure the line. */
  for (uint32_t i = 0; i < 30000; i++) {
    raw_frame(&r, NGHTTP2_DATA, 0, 1, "\0\0\0\0\1x", 6);
    ping(&r, i);
    window(&r, i);
    if (i % BATCH == 0) few_turns(&w);
  }
  few_turns(&w);
  ck_assert(!r.closed);
  ck_assert_uint_eq(w.service.heard, 30000);
  ck_assert_uint_eq(stats_of(&w).noise, 0);
  blx__stream_close(r.stream);
  blx__loop_run(w.loop);
  world_close(&w);
}
END_TEST

/* CVE-2019-9517: a caller who asks for much and opens no window for it. */
START_TEST(answers__that_nobody_reads_are_bounded_for_all_together) {
  struct world w;
  struct raw r;
  int open = 0;
  world_open(&w);
  raw_open(&w, &r, &open);
  raw_hello(&r);
  raw_frame(&r, NGHTTP2_SETTINGS, 0, 0, "\0\4\0\0\0\0", 6);
  for (uint32_t i = 0; i < 63; i++) {
    raw_call(&r, 2 * i + 1, "/t.T/Big");
    raw_frame(&r, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 2 * i + 1, "\0\0\0\0\0074194304", 12);
    few_turns(&w);
  }
  ck_assert_uint_eq(stats_of(&w).calls, 63);
  struct answer a = ask(&w, "/t.T/Big", "4194304", 7, 10000);
  ck_assert(a.failed);
  ck_assert_int_eq(a.err.code, BLX_E_BUSY);
  still_answers(&w);
  blx__stream_close(r.stream);
  blx__loop_run(w.loop);
  while (stats_of(&w).calls > 0) few_turns(&w);
  still_answers(&w);
  world_close(&w);
}
END_TEST

/* A server that floods its caller. */
struct flooder {
  struct raw r;
  struct blx__listener *listener;
  int open;
};

static void flooder_bytes(void *user, const uint8_t *p, size_t n) {
  (void)user;
  (void)p;
  (void)n;
}

static void flooder_closed(void *user, const blx_error *why) {
  struct flooder *f = user;
  (void)why;
  f->r.closed = true;
  f->r.stream = NULL;
}

static const struct blx__stream_ops flooder_ops = {NULL, flooder_bytes, NULL, flooder_closed};

static void flooder_accept(void *user, struct blx__stream *s) {
  struct flooder *f = user;
  f->r.stream = s;
  blx__stream_attach(s, &flooder_ops, f);
  settings(&f->r, 0);
}

START_TEST(server__that_floods_its_caller_is_left) {
  struct world w;
  struct flooder f = {.open = 1};
  char path[96];
  world_open(&w);
  f.r = (struct raw){.w = &w, .open = &f.open};
  ck_assert(blx__str_format(path, sizeof path, "%s/flooder.sock", w.dir));
  ck_assert_int_eq(blx__listener_open(w.loop, path, 0660, flooder_accept, &f, &f.listener, NULL).code, 0);
  struct blx__rpc_conn *mine = w.conn;
  ck_assert_int_eq(blx__rpc_conn_new(w.loop, path, &w.conn, NULL).code, 0);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_request r = {.path = "/t.T/Echo"};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, NULL, NULL).code, 0);
  for (uint32_t i = 0; a.calls == 0 && i < FRAMES_MAX;) {
    for (int k = 0; k < BATCH; k++) ping(&f.r, i++);
    few_turns(&w);
  }
  ck_assert_int_eq(a.err.code, BLX_E_UNAVAILABLE);
  ck_assert_msg(strstr(a.err.message, "frames that carry nothing") != NULL, "%s", a.err.message);
  blx__rpc_conn_close(w.conn, NULL, NULL);
  w.conn = mine;
  few_turns(&w);
  ck_assert(f.r.closed);
  blx__listener_close(f.listener);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("rpc/flood", flood__of_frames_that_carry_nothing_is_closed_and_counted_and_the_others_are_served,
              what_belongs_to_a_connection__is_not_taken_for_a_flood,
              answers__that_nobody_reads_are_bounded_for_all_together, server__that_floods_its_caller_is_left)
