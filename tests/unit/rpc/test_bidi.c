#include "../harness.h"

#include "support_caller.h"

#include <stdio.h>
#include <string.h>

START_TEST(messages__go_both_ways_whole_and_in_order_until_the_half_close) {
  struct world w;
  world_open(&w);
  const struct {
    uint64_t messages;
    size_t size;
  } cases[] = {{0, 24}, {1, 24}, {20000, 100}, {40, 300000}, {5, BLX__RPC_MESSAGE_MAX_BYTES}};
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    struct caller c = {.until = cases[i].messages, .size = cases[i].size};
    char want[64];
    caller_begin(&w, &c, "/t.T/Talk", 0);
    caller_run(&c);
    ck_assert(!c.failed && !c.out_of_order);
    ck_assert_uint_eq(c.messages, cases[i].messages + 1);
    (void)snprintf(want, sizeof want, "%llu %llu", (unsigned long long)c.until,
                   (unsigned long long)c.until * cases[i].size);
    ck_assert_str_eq(c.last, want);
  }
  world_close(&w);
  ck_assert_int_eq(w.service.gone_good, (int)BLX__COUNT(cases));
}
END_TEST

START_TEST(empty_message__is_a_message) {
  struct world w;
  world_open(&w);
  struct caller c = {.keep_open = true};
  caller_begin(&w, &c, "/t.T/Hear", 0);
  for (int i = 0; i < 3; i++) ck_assert(blx__rpc_send(c.pending, NULL, 0));
  blx__rpc_half_close(c.pending);
  blx__rpc_half_close(c.pending);
  caller_run(&c);
  ck_assert_str_eq(c.last, "3 0");
  world_close(&w);
}
END_TEST

START_TEST(method__that_pauses_stops_its_caller_and_resume_goes_on_without_loss) {
  struct world w;
  world_open(&w);
  enum { MESSAGES = 20000, SIZE = 1000, PAUSE_EACH = 7000 };
  struct caller c = {.until = MESSAGES, .size = SIZE};
  w.service.hear_until = PAUSE_EACH;
  caller_begin(&w, &c, "/t.T/Hear", 0);
  for (int k = 1; k * PAUSE_EACH <= MESSAGES; k++) {
    settle(&w);
    ck_assert_uint_eq(w.service.heard, (uint64_t)k * PAUSE_EACH);
    uint64_t ahead = (c.sent - w.service.heard) * SIZE;
    /* What is under way is a window and a queue, not what is to come. */
    ck_assert_uint_le(ahead, 3u << 20);
    if (c.sent < MESSAGES) ck_assert_int_gt(c.refused, 0);
    ck_assert(!w.service.half_closed);
    settle(&w);
    ck_assert_uint_eq(w.service.heard, (uint64_t)k * PAUSE_EACH);
    blx__rpc_call_resume(w.service.talk);
    ck_assert_uint_eq(w.service.heard, (uint64_t)k * PAUSE_EACH);
  }
  caller_run(&c);
  ck_assert_str_eq(c.last, "20000 20000000");
  world_close(&w);
}
END_TEST

START_TEST(half_close__behind_a_pause_waits_for_the_messages_before_it) {
  struct world w;
  world_open(&w);
  struct caller c = {.until = 4};
  w.service.hear_until = 2;
  caller_begin(&w, &c, "/t.T/Hear", 0);
  settle(&w);
  ck_assert_uint_eq(w.service.heard, 2);
  ck_assert(!w.service.half_closed);
  blx__rpc_call_resume(w.service.talk);
  settle(&w);
  ck_assert_uint_eq(w.service.heard, 4);
  ck_assert(!w.service.half_closed);
  blx__rpc_call_resume(w.service.talk);
  caller_run(&c);
  ck_assert(w.service.half_closed);
  ck_assert_str_eq(c.last, "4 96");
  world_close(&w);
}
END_TEST

START_TEST(caller__that_pauses_stops_the_method_and_so_itself) {
  struct world w;
  world_open(&w);
  struct caller c = {.until = 100000, .size = 1000, .pause_at = 10};
  caller_begin(&w, &c, "/t.T/Talk", 0);
  blx__loop_run(w.loop);
  settle(&w);
  ck_assert_uint_eq(c.messages, 10);
  uint64_t sent = c.sent, heard = w.service.heard;
  settle(&w);
  ck_assert_uint_eq(c.sent, sent);
  ck_assert_uint_eq(w.service.heard, heard);
  ck_assert_uint_lt(sent, 8000); /* windows and queues both ways, not the whole */
  c.paused = false;
  blx__rpc_resume(c.pending);
  caller_run(&c);
  ck_assert(!c.failed && !c.out_of_order);
  ck_assert_str_eq(c.last, "100000 100000000");
  world_close(&w);
}
END_TEST

START_TEST(error__of_the_method_ends_the_call_while_the_caller_still_sends) {
  struct world w;
  world_open(&w);
  for (int i = 0; i < 50; i++) {
    struct caller c = {.until = 10000, .size = 1000};
    caller_begin(&w, &c, "/t.T/Enough", 0);
    caller_run(&c);
    ck_assert_int_eq(c.err.code, BLX_E_STALE);
    ck_assert_str_eq(c.err.message, "one is enough");
    ck_assert(c.maybe_done);
    ck_assert_uint_eq(w.service.heard, 1);
  }
  settle(&w);
  ck_assert_int_eq(w.service.gone_good + w.service.gone_cancelled, 50);
  struct answer a = ask(&w, "/t.T/Echo", "x", 1, 10000);
  ck_assert(!a.failed);
  free(a.bytes);
  world_close(&w);
}
END_TEST

START_TEST(cancel__and_deadline_end_both_sides_and_what_is_sent_afterwards_is_dropped) {
  struct world w;
  world_open(&w);
  struct caller c = {.until = 100000, .size = 1000, .cancel_at = 50};
  w.service.stop_at_cancelled = 1;
  caller_begin(&w, &c, "/t.T/Talk", 0);
  while (c.cancel_at != c.messages) blx__loop_run(w.loop);
  if (c.done == 0) ck_assert(blx__rpc_send(c.pending, "late", 4));
  caller_run(&c);
  ck_assert_int_eq(c.err.code, BLX_E_CANCELLED);
  ck_assert_uint_eq(c.messages, 50);
  while (w.service.gone_cancelled == 0) blx__loop_run(w.loop);
  struct caller d = {.keep_open = true};
  caller_begin(&w, &d, "/t.T/Talk", 100);
  caller_run(&d);
  ck_assert_int_eq(d.err.code, BLX_E_TIMEOUT);
  settle(&w);
  ck_assert_ptr_null(w.service.talk);
  /* And while its method pauses. */
  struct caller e = {.until = 9, .pause_at = 1};
  w.service.hear_until = 3;
  caller_begin(&w, &e, "/t.T/Hear", 0);
  settle(&w);
  ck_assert_uint_eq(w.service.heard, 3);
  blx__rpc_cancel(e.pending);
  caller_run(&e);
  settle(&w);
  ck_assert_ptr_null(w.service.talk);
  world_close(&w);
  ck_assert_int_eq(w.service.gone_cancelled, 3);
}
END_TEST

START_TEST(server__that_closes_ends_it_and_a_caller_that_closes_ends_the_method) {
  struct world w;
  world_open(&w);
  struct caller c = {.until = 3, .keep_open = true};
  caller_begin(&w, &c, "/t.T/Hear", 0);
  settle(&w);
  ck_assert_uint_eq(w.service.heard, 3);
  world_close(&w);
  ck_assert_int_eq(c.done, 1);
  ck_assert(c.err.code == BLX_E_CANCELLED || c.err.code == BLX_E_UNAVAILABLE);
  ck_assert_int_eq(w.service.gone_cancelled, 1);
  free(c.bytes);
}
END_TEST

START_TEST(calls__over_the_maximum_are_busy_and_nobody_there_is_unavailable) {
  struct world w;
  world_open(&w);
  struct caller c[BLX__RPC_BIDI_MAX] = {0}, over = {0};
  for (size_t i = 0; i < BLX__RPC_BIDI_MAX; i++) {
    c[i].keep_open = true;
    caller_begin(&w, &c[i], "/t.T/Hear", 0);
  }
  blx_error err;
  struct blx__rpc_request r = {.path = "/t.T/Hear"};
  ck_assert_int_eq(blx__rpc_bidi(w.conn, &r, &caller_ops, &over, NULL, &err).code, BLX_E_BUSY);
  blx__rpc_half_close(c[0].pending);
  caller_run(&c[0]);
  struct caller again = {.until = 2};
  caller_begin(&w, &again, "/t.T/Talk", 0);
  caller_run(&again);
  ck_assert(!again.failed);
  for (size_t i = 1; i < BLX__RPC_BIDI_MAX; i++) blx__rpc_cancel(c[i].pending);
  for (size_t i = 1; i < BLX__RPC_BIDI_MAX; i++) caller_run(&c[i]);

  struct blx__rpc_conn *mine = w.conn;
  ck_assert_int_eq(blx__rpc_conn_new(w.loop, "unix:/nonexistent/s", &w.conn, NULL).code, 0);
  struct caller lost = {.until = 2};
  caller_begin(&w, &lost, "/t.T/Talk", 0);
  caller_run(&lost);
  ck_assert_int_eq(lost.err.code, BLX_E_UNAVAILABLE);
  ck_assert(!lost.maybe_done);
  blx__rpc_conn_close(w.conn, NULL, NULL);
  w.conn = mine;
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("rpc/bidi", messages__go_both_ways_whole_and_in_order_until_the_half_close, empty_message__is_a_message,
              method__that_pauses_stops_its_caller_and_resume_goes_on_without_loss,
              half_close__behind_a_pause_waits_for_the_messages_before_it,
              caller__that_pauses_stops_the_method_and_so_itself,
              error__of_the_method_ends_the_call_while_the_caller_still_sends,
              cancel__and_deadline_end_both_sides_and_what_is_sent_afterwards_is_dropped,
              server__that_closes_ends_it_and_a_caller_that_closes_ends_the_method,
              calls__over_the_maximum_are_busy_and_nobody_there_is_unavailable)
