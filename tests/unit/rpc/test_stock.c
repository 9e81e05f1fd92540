#include "../harness.h"

#include "io/process.h"
#include "support_caller.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct seen {
  struct blx__loop *loop;
  int status;
  char output[4096];
};

static void on_exit_cb(void *user, int status, int signal, bool timed_out, struct blx__slice tail) {
  struct seen *s = user;
  s->status = timed_out ? 1000 : signal ? 1000 + signal : status;
  size_t n = tail.len < sizeof s->output - 1 ? tail.len : sizeof s->output - 1;
  memcpy(s->output, tail.data, n);
  s->output[n] = '\0';
  blx__loop_stop(s->loop);
}

START_TEST(stock_grpcio_client__finds_everything_as_grpc_says) {
  struct world w;
  world_open(&w);
  struct seen s = {.loop = w.loop};
  const char *const argv[] = {"/usr/bin/python3", "tests/unit/rpc/stock_client.py", w.path, NULL};
  struct blx__process_spec spec = {.argv = argv, .output_max = 4000, .deadline_ms = 100000};
  struct blx__process *p = NULL;
  ck_assert_int_eq(blx__process_spawn(w.loop, &spec, on_exit_cb, &s, &p, NULL).code, 0);
  blx__loop_run(w.loop);
  if (s.status == 77)
    fputs("  SKIP: python3-grpcio is not installed\n", stdout);
  else
    ck_assert_msg(s.status == 0, "status %d: %s", s.status, s.output);
  world_close(&w);
  ck_assert_int_eq(w.service.waiting, 0);
}
END_TEST

/* Call @path of the stock server; false when nobody is there. */
static bool call(struct world *w, struct caller *c, const char *path, uint64_t messages, size_t size) {
  *c = (struct caller){.until = messages, .size = size};
  caller_begin(w, c, path, 60000);
  caller_run(c);
  return !c->failed || c->err.code != BLX_E_UNAVAILABLE;
}

/* False without grpcio. */
static bool wait_for_server(struct world *w, const struct seen *s) {
  struct caller c;
  while (s->status == -1 && !call(w, &c, "/t.T/Talk", 0, 0)) {
    struct timespec pause = {.tv_nsec = 20000000};
    (void)nanosleep(&pause, NULL);
  }
  ck_assert_int_ne(s->status, 1);
  return s->status == -1;
}

static void check_stock_server(struct world *w) {
  struct caller c;
  ck_assert(call(w, &c, "/t.T/Talk", 3000, 50));
  ck_assert(!c.failed && !c.out_of_order);
  ck_assert_str_eq(c.last, "3000");
  ck_assert(call(w, &c, "/t.T/Talk", 20, 1000000));
  ck_assert(!c.failed && !c.out_of_order);
  ck_assert_uint_eq(c.messages, 21);
  ck_assert(call(w, &c, "/t.T/Slow", 20000, 1000));
  ck_assert_str_eq(c.last, "20000");
  ck_assert_int_gt(c.refused, 0); /* while it slept */
  ck_assert(call(w, &c, "/t.T/Enough", 20000, 1000));
  ck_assert_int_eq(c.err.code, BLX_E_STALE);
  ck_assert_str_eq(c.err.message, "one is enough");
  ck_assert(call(w, &c, "/t.T/Nope", 3, 0));
  ck_assert_int_eq(c.err.code, BLX_E_UNSUPPORTED);
  ck_assert(call(w, &c, "/t.T/Talk", 1, 0));
  ck_assert(!c.failed);
}

START_TEST(stock_grpcio_server__speaks_both_ways_with_our_caller) {
  struct world w;
  char path[96];
  world_open(&w);
  ck_assert(blx__str_format(path, sizeof path, "%s/stock.sock", w.dir));
  blx__rpc_conn_close(w.conn, NULL, NULL);
  ck_assert_int_eq(blx__rpc_conn_new(w.loop, path, &w.conn, NULL).code, 0);
  struct seen s = {.loop = w.loop, .status = -1};
  const char *const argv[] = {"/usr/bin/python3", "tests/unit/rpc/stock_server.py", path, NULL};
  struct blx__process_spec spec = {.argv = argv, .output_max = 4000, .deadline_ms = 100000};
  struct blx__process *p = NULL;
  ck_assert_int_eq(blx__process_spawn(w.loop, &spec, on_exit_cb, &s, &p, NULL).code, 0);
  if (wait_for_server(&w, &s)) {
    check_stock_server(&w);
    blx__process_kill(p, SIGKILL);
    while (s.status == -1) blx__loop_run(w.loop);
  } else {
    fputs("  SKIP: python3-grpcio is not installed\n", stdout);
  }
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("rpc/stock", stock_grpcio_client__finds_everything_as_grpc_says,
              stock_grpcio_server__speaks_both_ways_with_our_caller)
