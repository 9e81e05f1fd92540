#include "../harness.h"

#include "support_service.h"

#include <stdio.h>
#include <string.h>

struct watch {
  struct blx__loop *loop;
  struct blx__rpc_pending *pending;
  uint64_t messages, bytes, pause_at, cancel_at;
  bool in_order, paused;
  int done;
  bool failed;
  blx_error err;
};

static bool on_message(void *user, struct blx__slice m) {
  struct watch *w = user;
  char text[24];
  int n = snprintf(text, sizeof text, "%llu ", (unsigned long long)w->messages);
  w->in_order = w->in_order && !w->paused && m.len >= (size_t)n && memcmp(m.data, text, (size_t)n) == 0;
  w->messages++;
  w->bytes += m.len;
  if (w->messages == w->cancel_at) blx__rpc_cancel(w->pending);
  if (w->messages == w->pause_at) {
    w->paused = true;
    blx__loop_stop(w->loop);
    return false;
  }
  return true;
}

static void on_done(void *user, const struct blx__rpc_result *result) {
  struct watch *w = user;
  w->done++;
  w->failed = result->err != NULL;
  if (result->err) w->err = *result->err;
  blx__loop_stop(w->loop);
}

static const struct blx__rpc_stream_ops ops = {on_message, on_done};

static void begin(struct world *w, struct watch *s, const char *path, const char *body, uint64_t deadline_ms) {
  s->loop = w->loop;
  s->in_order = true;
  struct blx__rpc_request r = {.path = path, .body = {(const uint8_t *)body, strlen(body)}, .deadline_ms = deadline_ms};
  ck_assert_int_eq(blx__rpc_stream(w->conn, &r, &ops, s, &s->pending, NULL).code, 0);
  ck_assert_uint_eq(s->messages, 0);
}

START_TEST(stream__of_small_and_of_large_messages_comes_whole_and_in_order) {
  struct world w;
  world_open(&w);
  struct watch s = {0};
  begin(&w, &s, "/t.T/Count", "20000 100", 0);
  blx__loop_run(w.loop);
  ck_assert(s.in_order && !s.failed);
  ck_assert_uint_eq(s.messages, 20000);
  s = (struct watch){0};
  begin(&w, &s, "/t.T/Count", "20 3000000", 0);
  blx__loop_run(w.loop);
  ck_assert(s.in_order && !s.failed);
  ck_assert_uint_eq(s.bytes, 60000000);
  s = (struct watch){0};
  begin(&w, &s, "/t.T/Count", "0 0", 0);
  blx__loop_run(w.loop);
  ck_assert(!s.failed);
  ck_assert_uint_eq(s.messages, 0);
  world_close(&w);
  ck_assert_int_eq(w.service.gone_good, 3);
}
END_TEST

START_TEST(pause__stops_the_sender_and_resume_goes_on_without_loss) {
  struct world w;
  world_open(&w);
  struct watch s = {.pause_at = 10};
  begin(&w, &s, "/t.T/Count", "100000 1000", 0);
  blx__loop_run(w.loop);
  settle(&w);
  ck_assert_uint_eq(s.messages, 10);
  uint64_t sent = w.service.sent;
  settle(&w);
  ck_assert_uint_eq(w.service.sent, sent);
  ck_assert_uint_lt(sent, 8000); /* windows and queues, not the whole */
  s.paused = false;
  blx__rpc_resume(s.pending);
  ck_assert_uint_eq(s.messages, 10);
  blx__loop_run(w.loop);
  ck_assert(s.in_order && !s.failed);
  ck_assert_uint_eq(s.messages, 100000);
  world_close(&w);
}
END_TEST

START_TEST(pause__at_the_last_message_holds_the_end_back) {
  struct world w;
  world_open(&w);
  struct watch s = {.pause_at = 2};
  begin(&w, &s, "/t.T/Count", "5 30", 0);
  blx__loop_run(w.loop);
  settle(&w);
  ck_assert_uint_eq(s.messages, 2);
  ck_assert_int_eq(s.done, 0);
  s.paused = false;
  blx__rpc_resume(s.pending);
  blx__loop_run(w.loop);
  ck_assert_uint_eq(s.messages, 5);
  ck_assert(s.done == 1 && !s.failed && s.in_order);
  /* And a paused call that is cancelled ends without the rest. */
  s = (struct watch){.pause_at = 2};
  begin(&w, &s, "/t.T/Count", "5 30", 0);
  blx__loop_run(w.loop);
  settle(&w);
  blx__rpc_cancel(s.pending);
  blx__loop_run(w.loop);
  ck_assert_int_eq(s.done, 1);
  ck_assert_uint_eq(s.messages, 2);
  world_close(&w);
}
END_TEST

START_TEST(cancel__inside_a_message_is_the_last_of_it) {
  struct world w;
  world_open(&w);
  struct watch s = {.cancel_at = 1000};
  w.service.stop_at_cancelled = 1;
  begin(&w, &s, "/t.T/Count", "100000000 100", 0);
  while (s.done == 0 || w.service.gone_cancelled == 0) blx__loop_run(w.loop);
  ck_assert_uint_eq(s.messages, 1000);
  ck_assert_int_eq(s.err.code, BLX_E_CANCELLED);
  world_close(&w);
}
END_TEST

START_TEST(deadline__in_the_middle_of_a_stream_ends_it) {
  struct world w;
  world_open(&w);
  struct watch s = {0};
  begin(&w, &s, "/t.T/Count", "100000000 1000", 100);
  while (s.done == 0) blx__loop_run(w.loop);
  ck_assert_int_eq(s.err.code, BLX_E_TIMEOUT);
  ck_assert_uint_gt(s.messages, 0);
  world_close(&w);
  ck_assert_int_eq(w.service.gone_cancelled, 1);
}
END_TEST

START_TEST(error__after_messages_comes_after_them) {
  struct world w;
  world_open(&w);
  struct watch s = {0};
  begin(&w, &s, "/t.T/Break", "", 0);
  blx__loop_run(w.loop);
  ck_assert_uint_eq(s.messages, 3);
  ck_assert_int_eq(s.err.code, BLX_E_STALE);
  ck_assert_str_eq(s.err.message, "the index 7 is gone");
  world_close(&w);
}
END_TEST

START_TEST(sixty_slow_readers__do_not_hold_up_a_unary_call) {
  struct world w;
  world_open(&w);
  enum { READERS = 60 };
  struct watch *s = calloc(READERS, sizeof *s);
  for (int i = 0; i < READERS; i++) {
    s[i].pause_at = 1;
    begin(&w, &s[i], "/t.T/Count", "1000000 10000", 0);
  }
  settle(&w);
  struct answer a = ask(&w, "/t.T/Echo", "x", 1, 10000);
  ck_assert(!a.failed);
  free(a.bytes);
  world_close(&w);
  for (int i = 0; i < READERS; i++) ck_assert_int_eq(s[i].done, 1);
  free(s);
}
END_TEST

BLX_TEST_MAIN("rpc/streams", stream__of_small_and_of_large_messages_comes_whole_and_in_order,
              pause__stops_the_sender_and_resume_goes_on_without_loss, pause__at_the_last_message_holds_the_end_back,
              cancel__inside_a_message_is_the_last_of_it, deadline__in_the_middle_of_a_stream_ends_it,
              error__after_messages_comes_after_them, sixty_slow_readers__do_not_hold_up_a_unary_call)
