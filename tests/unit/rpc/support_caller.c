#include "support_caller.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void send_more(void *user) {
  struct caller *c = user;
  while (c->sent < c->until) {
    (void)snprintf((char *)c->bytes, 24, "%llu ", (unsigned long long)c->sent);
    if (!blx__rpc_send(c->pending, c->bytes, c->size)) {
      c->refused++;
      return;
    }
    c->sent++;
  }
  if (!c->keep_open) blx__rpc_half_close(c->pending);
}

static bool on_message(void *user, struct blx__slice m) {
  struct caller *c = user;
  char text[24];
  int n = snprintf(text, sizeof text, "%llu ", (unsigned long long)c->messages);
  bool counted = m.len >= (size_t)n && memcmp(m.data, text, (size_t)n) == 0;
  if (c->messages < c->until && !counted) c->out_of_order = true;
  if (c->paused) c->out_of_order = true;
  size_t len = m.len < sizeof c->last - 1 ? m.len : sizeof c->last - 1;
  memcpy(c->last, m.data, len);
  c->last[len] = '\0';
  c->messages++;
  c->received_bytes += m.len;
  if (c->messages == c->cancel_at) blx__rpc_cancel(c->pending);
  if (c->messages != c->pause_at) return true;
  c->paused = true;
  blx__loop_stop(c->loop);
  return false;
}

static void on_done(void *user, const struct blx__rpc_result *result) {
  struct caller *c = user;
  c->done++;
  c->failed = result->err != NULL;
  c->maybe_done = result->maybe_done;
  if (result->err) c->err = *result->err;
  blx__loop_stop(c->loop);
}

const struct blx__rpc_bidi_ops caller_ops = {{on_message, on_done}, send_more};

void caller_begin(struct world *w, struct caller *c, const char *path, uint64_t deadline_ms) {
  c->loop = w->loop;
  c->size = c->size < 24 ? 24 : c->size;
  c->bytes = calloc(1, c->size);
  struct blx__rpc_request r = {.path = path, .deadline_ms = deadline_ms};
  ck_assert_int_eq(blx__rpc_bidi(w->conn, &r, &caller_ops, c, &c->pending, NULL).code, 0);
  send_more(c);
  ck_assert_uint_eq(c->messages, 0);
}

void caller_run(struct caller *c) {
  while (c->done == 0) blx__loop_run(c->loop);
  ck_assert_int_eq(c->done, 1);
  free(c->bytes);
}
