#include "../harness.h"

#include "io/process.h"
#include "support_service.h"

#include <stdio.h>
#include <string.h>

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

BLX_TEST_MAIN("rpc/stock", stock_grpcio_client__finds_everything_as_grpc_says)
