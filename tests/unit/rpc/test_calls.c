#include "../harness.h"

#include "support_service.h"

#include <unistd.h>

#include <string.h>

START_TEST(unary__brings_the_bytes_back_also_none_and_3_mib) {
  struct world w;
  world_open(&w);
  struct answer a = ask(&w, "/t.T/Echo", "hello", 5, 0);
  ck_assert(!a.failed);
  ck_assert_uint_eq(a.len, 5);
  ck_assert_int_eq(memcmp(a.bytes, "hello", 5), 0);
  free(a.bytes);
  a = ask(&w, "/t.T/Echo", NULL, 0, 0);
  ck_assert(!a.failed);
  ck_assert_uint_eq(a.len, 0);
  size_t size = 3 << 20;
  uint8_t *big = malloc(size);
  for (size_t i = 0; i < size; i++) big[i] = (uint8_t)(i * 7 >> 4);
  a = ask(&w, "/t.T/Echo", big, size, 10000);
  ck_assert(!a.failed);
  ck_assert_uint_eq(a.len, size);
  ck_assert_int_eq(memcmp(a.bytes, big, size), 0);
  free(a.bytes);
  free(big);
  world_close(&w);
}
END_TEST

START_TEST(message__over_the_limit_is_refused_on_either_side) {
  struct world w;
  world_open(&w);
  uint8_t *big = calloc(1, BLX__RPC_MESSAGE_MAX_BYTES + 1);
  struct blx__rpc_request r = {.path = "/t.T/Echo", .body = {big, BLX__RPC_MESSAGE_MAX_BYTES + 1}};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, NULL, NULL, NULL).code, BLX_E_INVALID);
  free(big);
  struct answer a = ask(&w, "/t.T/Big", "4194304", 7, 0);
  ck_assert(!a.failed);
  ck_assert_uint_eq(a.len, 4194304);
  free(a.bytes);
  a = ask(&w, "/t.T/Big", "4194305", 7, 0);
  ck_assert(a.failed);
  ck_assert_int_eq(a.err.code, BLX_E_INTERNAL);
  ck_assert_ptr_nonnull(strstr(a.err.message, "4194305"));
  world_close(&w);
}
END_TEST

START_TEST(error__keeps_code_message_origin_and_leader) {
  struct world w;
  world_open(&w);
  struct answer a = ask(&w, "/t.T/Fail", "", 0, 0);
  ck_assert_int_eq(a.err.code, BLX_E_EXISTS);
  ck_assert_str_eq(a.err.message, tricky_message);
  ck_assert_str_eq(a.err.origin, "test-origin");
  ck_assert_str_eq(a.err.leader, "unix:/run/l");
  a = ask(&w, "/t.T/Nothing", "", 0, 0);
  ck_assert_int_eq(a.err.code, BLX_E_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(a.err.message, "/t.T/Nothing"));
  world_close(&w);
}
END_TEST

START_TEST(metadata_and_deadline__reach_the_method) {
  struct world w;
  world_open(&w);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_meta meta[] = {{"x-other", "1"}, {"blixard-principal", "alice"}};
  struct blx__rpc_request r = {.path = "/t.T/Meta", .meta = meta, .meta_count = 2};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, NULL, NULL).code, 0);
  blx__loop_run(w.loop);
  ck_assert_uint_eq(a.len, 5);
  ck_assert_int_eq(memcmp(a.bytes, "alice", 5), 0);
  free(a.bytes);
  meta[1].value = "two\nlines";
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, NULL, NULL).code, BLX_E_INVALID);
  a = ask(&w, "/t.T/Left", "", 0, 60000);
  ck_assert_uint_gt(a.len, 1);
  ck_assert_uint_le(a.len, 5);
  free(a.bytes);
  a = ask(&w, "/t.T/Left", "", 0, 0);
  ck_assert_uint_eq(a.len, 1);
  free(a.bytes);
  world_close(&w);
}
END_TEST

static void busy(void *arg) {
  (void)arg;
  usleep(150000);
}

/* The loop's idea of now is then older than the clock, and the timer fires before the deadline by the clock. */
START_TEST(deadline__of_a_call_that_reached_a_busy_loop_is_still_a_deadline) {
  struct world w;
  world_open(&w);
  struct answer a = ask(&w, "/t.T/Echo", "x", 1, 0);
  ck_assert(!a.failed);
  free(a.bytes);
  ck_assert_int_eq(blx__loop_post(w.loop, busy, NULL, NULL).code, 0);
  /* The server's deadline only: the caller's own would come first. */
  const struct blx__rpc_meta meta = {"grpc-timeout", "300m"};
  struct blx__rpc_request r = {.path = "/t.T/Never", .meta = &meta, .meta_count = 1};
  a = (struct answer){.loop = w.loop};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, NULL, NULL).code, 0);
  usleep(5000); /* nobody has asked for this turn's time before the loop is busy */
  blx__loop_run(w.loop);
  ck_assert(a.failed);
  ck_assert_int_eq(a.err.code, BLX_E_TIMEOUT);
  free(a.bytes);
  world_close(&w);
}
END_TEST

START_TEST(deadline__ends_the_call_on_both_sides_with_outcome_unknown) {
  struct world w;
  world_open(&w);
  w.service.stop_at_cancelled = 1;
  struct answer a = ask(&w, "/t.T/Never", "", 0, 50);
  ck_assert_int_eq(a.err.code, BLX_E_TIMEOUT);
  ck_assert(a.maybe_done);
  if (w.service.gone_cancelled == 0) blx__loop_run(w.loop);
  ck_assert_int_eq(w.service.gone_cancelled, 1);
  ck_assert_int_eq(w.service.waiting, 0);
  world_close(&w);
}
END_TEST

START_TEST(cancel__reaches_the_method_and_calls_back_once_on_a_later_turn) {
  struct world w;
  world_open(&w);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_pending *p = NULL;
  struct blx__rpc_request r = {.path = "/t.T/Never"};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, &p, NULL).code, 0);
  w.service.stop_at_waiting = 1;
  blx__loop_run(w.loop);
  blx__rpc_cancel(p);
  blx__rpc_cancel(p);
  ck_assert_int_eq(a.calls, 0);
  w.service.stop_at_cancelled = 1;
  while (a.calls == 0 || w.service.gone_cancelled == 0) blx__loop_run(w.loop);
  ck_assert_int_eq(a.calls, 1);
  ck_assert_int_eq(a.err.code, BLX_E_CANCELLED);
  /* Before it was ever sent. */
  a = (struct answer){.loop = w.loop};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, &p, NULL).code, 0);
  blx__rpc_cancel(p);
  blx__loop_run(w.loop);
  ck_assert_int_eq(a.calls, 1);
  ck_assert(!a.maybe_done);
  world_close(&w);
  ck_assert_int_eq(w.service.waiting, 0);
}
END_TEST

START_TEST(two_thousand_calls_at_once__are_all_answered) {
  struct world w;
  world_open(&w);
  enum { CALLS = 2000 };
  struct answer *a = calloc(CALLS, sizeof *a);
  struct blx__rpc_request r = {.path = "/t.T/Echo", .body = {(const uint8_t *)"x", 1}};
  for (int i = 0; i < CALLS; i++) {
    a[i].loop = w.loop;
    ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a[i], NULL, NULL).code, 0);
  }
  for (int done = 0; done < CALLS;) {
    blx__loop_run(w.loop);
    done = 0;
    for (int i = 0; i < CALLS; i++) done += a[i].calls;
  }
  for (int i = 0; i < CALLS; i++) {
    ck_assert_int_eq(a[i].calls, 1);
    ck_assert(!a[i].failed);
    free(a[i].bytes);
  }
  free(a);
  world_close(&w);
}
END_TEST

START_TEST(calls__over_the_maximum_are_refused_as_busy) {
  struct world w;
  world_open(&w);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_request r = {.path = "/t.T/Never"};
  for (int i = 0; i < BLX__RPC_PENDING_MAX; i++)
    ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, NULL, NULL).code, 0);
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, NULL, NULL).code, BLX_E_BUSY);
  world_close(&w);
  ck_assert_int_eq(a.calls, BLX__RPC_PENDING_MAX);
  ck_assert_int_eq(a.err.code, BLX_E_CANCELLED);
}
END_TEST

static void server_closed(void *user) {
  struct world *w = user;
  w->server = NULL;
  blx__loop_stop(w->loop);
}

START_TEST(server_close__ends_open_calls_as_unavailable_and_a_new_server_is_found_again) {
  struct world w;
  world_open(&w);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_request r = {.path = "/t.T/Never"};
  ck_assert_int_eq(blx__rpc_unary(w.conn, &r, answer_done, &a, NULL, NULL).code, 0);
  w.service.stop_at_waiting = 1;
  blx__loop_run(w.loop);
  w.service.stop_at_waiting = 0;
  blx__rpc_server_close(w.server, server_closed, &w);
  while (a.calls == 0 || w.server) blx__loop_run(w.loop);
  ck_assert_int_eq(a.err.code, BLX_E_UNAVAILABLE);
  ck_assert(a.maybe_done);
  ck_assert_int_eq(w.service.gone_cancelled, 1);
  a = ask(&w, "/t.T/Echo", "x", 1, 0);
  ck_assert_int_eq(a.err.code, BLX_E_UNAVAILABLE);
  ck_assert(!a.maybe_done);
  struct blx__rpc_server_options o = {.path = w.path, .mode = 0660, .service = &w.service.table};
  ck_assert_int_eq(blx__rpc_server_open(w.loop, &o, &w.server, NULL).code, 0);
  a = ask(&w, "/t.T/Echo", "x", 1, 0);
  ck_assert(!a.failed);
  free(a.bytes);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("rpc/calls", unary__brings_the_bytes_back_also_none_and_3_mib,
              message__over_the_limit_is_refused_on_either_side, error__keeps_code_message_origin_and_leader,
              metadata_and_deadline__reach_the_method, deadline__of_a_call_that_reached_a_busy_loop_is_still_a_deadline,
              deadline__ends_the_call_on_both_sides_with_outcome_unknown,
              cancel__reaches_the_method_and_calls_back_once_on_a_later_turn,
              two_thousand_calls_at_once__are_all_answered, calls__over_the_maximum_are_refused_as_busy,
              server_close__ends_open_calls_as_unavailable_and_a_new_server_is_found_again)
