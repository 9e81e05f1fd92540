#include "support_service.h"

#include "io/file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char tricky_message[] = "no \"vm\" n\xc3\xa4me 100% \n done";

struct count {
  struct service *service;
  struct blx__rpc_call *call;
  uint64_t at, until;
  size_t size;
  uint8_t *bytes;
};

static void count_more(void *user) {
  struct count *c = user;
  while (c->at < c->until) {
    (void)snprintf((char *)c->bytes, 24, "%llu ", (unsigned long long)c->at);
    if (!blx__rpc_call_send(c->call, c->bytes, c->size)) return;
    c->service->sent++;
    c->at++;
  }
  blx__rpc_call_finish(c->call, NULL);
}

static void count_gone(void *user, bool cancelled) {
  struct count *c = user;
  struct service *s = c->service;
  if (cancelled)
    s->gone_cancelled++;
  else
    s->gone_good++;
  blx__rpc_call_unref(c->call);
  free(c->bytes);
  free(c);
  if (s->stop_at_cancelled && s->gone_cancelled == s->stop_at_cancelled) blx__loop_stop(s->loop);
}

static const struct blx__rpc_call_ops count_ops = {count_more, count_gone};

static void on_count(struct service *s, struct blx__rpc_call *call, const char *text) {
  unsigned long long n = 0;
  size_t size = 0;
  struct count *c = calloc(1, sizeof *c);
  if (sscanf(text, "%llu %zu", &n, &size) != 2) n = 0;
  c->service = s;
  c->call = blx__rpc_call_ref(call);
  c->until = n;
  c->size = size < 24 ? 24 : size;
  c->bytes = calloc(1, c->size);
  blx__rpc_call_watch(call, &count_ops, c);
  count_more(c);
}

static void never_gone(void *user, bool cancelled) {
  struct service *s = user;
  s->waiting--;
  if (cancelled)
    s->gone_cancelled++;
  else
    s->gone_good++;
  if (s->stop_at_cancelled && s->gone_cancelled == s->stop_at_cancelled) blx__loop_stop(s->loop);
}

static const struct blx__rpc_call_ops never_ops = {NULL, never_gone};

static void on_never(struct service *s, struct blx__rpc_call *call) {
  blx__rpc_call_watch(call, &never_ops, s);
  s->waiting++;
  if (s->stop_at_waiting && s->waiting == s->stop_at_waiting) blx__loop_stop(s->loop);
}

static void on_big(struct blx__rpc_call *call, const char *text) {
  uint64_t n = 0;
  (void)blx__parse_u64(text, 0, 64 << 20, &n);
  uint8_t *bytes = malloc(n + 1);
  memset(bytes, 'b', n);
  blx__rpc_call_reply(call, bytes, n);
  free(bytes);
}

static void on_fail(struct blx__rpc_call *call) {
  blx_error err;
  (void)blx__fail(&err, BLX_E_EXISTS, "test-origin", "%s", tricky_message);
  (void)blx__str_copy(err.leader, sizeof err.leader, "unix:/run/l");
  blx__rpc_call_finish(call, &err);
}

static void on_break(struct blx__rpc_call *call) {
  blx_error err;
  (void)blx__fail(&err, BLX_E_STALE, "test-origin", "the index 7 is gone");
  for (int i = 0; i < 3; i++) ck_assert(blx__rpc_call_send(call, "m", 1));
  blx__rpc_call_finish(call, &err);
}

struct talk {
  struct service *service;
  struct blx__rpc_call *call;
  uint64_t messages, bytes;
  bool echo, enough, ended;
  struct blx__buf kept; /* a message that could not be sent back yet */
};

static bool talk_send(struct talk *t, const void *message, size_t size) {
  if (blx__rpc_call_send(t->call, message, size)) return true;
  blx__buf_clear(&t->kept);
  ck_assert(blx__buf_add(&t->kept, message, size));
  return false;
}

static bool talk_message(void *user, struct blx__slice m) {
  struct talk *t = user;
  struct service *s = t->service;
  t->messages++;
  t->bytes += m.len;
  s->heard++;
  if (t->enough) {
    blx_error err;
    (void)blx__fail(&err, BLX_E_STALE, "test-origin", "one is enough");
    blx__rpc_call_finish(t->call, &err);
    return true;
  }
  if (t->echo) return talk_send(t, m.data, m.len);
  return s->hear_until == 0 || s->heard % s->hear_until != 0;
}

static void talk_writable(void *user) {
  struct talk *t = user;
  ck_assert(blx__rpc_call_send(t->call, t->kept.data, t->kept.len));
  if (t->ended)
    blx__rpc_call_finish(t->call, NULL);
  else
    blx__rpc_call_resume(t->call);
}

static void talk_half_close(void *user) {
  struct talk *t = user;
  char text[48];
  int n = snprintf(text, sizeof text, "%llu %llu", (unsigned long long)t->messages, (unsigned long long)t->bytes);
  t->service->half_closed = t->ended = true;
  if (talk_send(t, text, (size_t)n)) blx__rpc_call_finish(t->call, NULL);
}

static void talk_gone(void *user, bool cancelled) {
  struct talk *t = user;
  struct service *s = t->service;
  if (cancelled)
    s->gone_cancelled++;
  else
    s->gone_good++;
  if (s->talk == t->call) s->talk = NULL;
  blx__rpc_call_unref(t->call);
  blx__buf_free(&t->kept);
  free(t);
  if (s->stop_at_cancelled && s->gone_cancelled == s->stop_at_cancelled) blx__loop_stop(s->loop);
}

static const struct blx__rpc_call_ops talk_ops = {talk_writable, talk_gone};
static const struct blx__rpc_receive_ops talk_receive_ops = {talk_message, talk_half_close};

static void on_talk(struct service *s, struct blx__rpc_call *call, bool echo, bool enough) {
  struct talk *t = calloc(1, sizeof *t);
  *t = (struct talk){.service = s, .call = blx__rpc_call_ref(call), .echo = echo, .enough = enough};
  blx__buf_init(&t->kept, BLX__RPC_MESSAGE_MAX_BYTES);
  s->talk = call;
  s->heard = 0;
  s->half_closed = false;
  blx__rpc_call_watch(call, &talk_ops, t);
  blx__rpc_call_receive(call, &talk_receive_ops, t);
}

static const struct blx__rpc_method methods[] = {
    {"/t.T/Echo", BLX__RPC_UNARY, NULL},          {"/t.T/Big", BLX__RPC_UNARY, NULL},
    {"/t.T/Meta", BLX__RPC_UNARY, NULL},          {"/t.T/Left", BLX__RPC_UNARY, NULL},
    {"/t.T/Fail", BLX__RPC_UNARY, NULL},          {"/t.T/Never", BLX__RPC_UNARY, NULL},
    {"/t.T/Count", BLX__RPC_SERVER_STREAM, NULL}, {"/t.T/Break", BLX__RPC_SERVER_STREAM, NULL},
    {"/t.T/Talk", BLX__RPC_BIDI, NULL},           {"/t.T/Hear", BLX__RPC_BIDI, NULL},
    {"/t.T/Enough", BLX__RPC_BIDI, NULL},
};

static const struct blx__rpc_method *find(void *user, const char *path) {
  (void)user;
  for (size_t i = 0; i < BLX__COUNT(methods); i++)
    if (strcmp(methods[i].path, path) == 0) return &methods[i];
  return NULL;
}

static void on_call(void *user, struct blx__rpc_call *call, struct blx__slice request) {
  struct service *s = user;
  char text[64] = "";
  if (request.len < sizeof text && request.len > 0) memcpy(text, request.data, request.len);
  switch (blx__rpc_call_method(call) - methods) {
  case 0: blx__rpc_call_reply(call, request.data, request.len); break;
  case 1: on_big(call, text); break;
  case 2: {
    const char *value = blx__rpc_call_meta(call, "blixard-principal");
    if (!value) value = "none";
    blx__rpc_call_reply(call, value, strlen(value));
    break;
  }
  case 3:
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)blx__rpc_call_deadline_ms(call));
    blx__rpc_call_reply(call, text, strlen(text));
    break;
  case 4: on_fail(call); break;
  case 5: on_never(s, call); break;
  case 6: on_count(s, call, text); break;
  case 7: on_break(call); break;
  case 8: on_talk(s, call, true, false); break;
  case 9: on_talk(s, call, false, false); break;
  case 10: on_talk(s, call, false, true); break;
  }
}

static void stop(void *arg) {
  blx__loop_stop(arg);
}

void settle(struct world *w) {
  for (int i = 0; i < 200; i++) {
    ck_assert_int_eq(blx__loop_post(w->loop, stop, w->loop, NULL).code, 0);
    blx__loop_run(w->loop);
  }
}

void world_open(struct world *w) {
  world_open_looking(w, BLX__RPC_LOOK_MS);
}

void world_open_looking(struct world *w, uint32_t look_ms) {
  *w = (struct world){.dir = "/tmp/blx-rpc-XXXXXX"};
  ck_assert_ptr_nonnull(mkdtemp(w->dir));
  ck_assert(blx__str_format(w->path, sizeof w->path, "%s/api.sock", w->dir));
  ck_assert_int_eq(blx__loop_new(&w->loop, NULL).code, 0);
  w->service.loop = w->loop;
  w->service.table = (struct blx__rpc_service){&w->service, find, on_call};
  struct blx__rpc_server_options o = {.path = w->path, .mode = 0660, .service = &w->service.table, .look_ms = look_ms};
  ck_assert_int_eq(blx__rpc_server_open(w->loop, &o, &w->server, NULL).code, 0);
  ck_assert_int_eq(blx__rpc_conn_new(w->loop, w->path, &w->conn, NULL).code, 0);
  blx__rpc_conn_look(w->conn, look_ms);
}

static void count_down(void *user) {
  struct world *w = user;
  if (!w->conn && !w->server) blx__loop_stop(w->loop);
}

static void conn_closed(void *user) {
  struct world *w = user;
  w->conn = NULL;
  count_down(w);
}

static void server_closed(void *user) {
  struct world *w = user;
  w->server = NULL;
  count_down(w);
}

void world_close(struct world *w) {
  if (w->conn) blx__rpc_conn_close(w->conn, conn_closed, w);
  if (w->server) blx__rpc_server_close(w->server, server_closed, w);
  while (w->conn || w->server) blx__loop_run(w->loop);
  blx__loop_free(w->loop);
  ck_assert_int_eq(blx__dir_remove_tree(w->dir, NULL).code, 0);
}

void answer_done(void *user, const struct blx__rpc_result *result) {
  struct answer *a = user;
  a->calls++;
  a->failed = result->err != NULL;
  a->maybe_done = result->maybe_done;
  if (result->err) a->err = *result->err;
  a->len = result->response.len;
  if (a->len > 0) {
    a->bytes = malloc(a->len);
    memcpy(a->bytes, result->response.data, a->len);
  }
  blx__loop_stop(a->loop);
}

struct answer ask(struct world *w, const char *path, const void *body, size_t len, uint64_t deadline_ms) {
  struct answer a = {.loop = w->loop};
  struct blx__rpc_request r = {.path = path, .body = {body, len}, .deadline_ms = deadline_ms};
  ck_assert_int_eq(blx__rpc_unary(w->conn, &r, answer_done, &a, NULL, NULL).code, 0);
  ck_assert_int_eq(a.calls, 0);
  blx__loop_run(w->loop);
  ck_assert_int_eq(a.calls, 1);
  return a;
}
