#include "../harness.h"

#include "client/client.h"
#include "io/file.h"
#include "rpc/server.h"

#include <stdio.h>
#include <string.h>

/* A member of a cluster of two: "/t.T/Write" works on the leader only; "/t.T/Watch" sends numbers from the one asked
 * for and breaks after three; "/t.T/Talk" says each message back. */
struct member {
  struct world *w;
  char path[96];
  struct blx__rpc_service service;
  struct blx__rpc_server *server;
  bool leader, hints, breaks;
  int writes, refused, watches, talks;
  struct blx__rpc_call *talk;
};

struct world {
  char dir[64];
  struct blx__loop *loop;
  struct member m[2];
  struct blx__client *client;
  int closing;
};

static const struct blx__rpc_method methods[] = {{"/t.T/Write", BLX__RPC_UNARY, NULL},
                                                 {"/t.T/Watch", BLX__RPC_SERVER_STREAM, NULL},
                                                 {"/t.T/Bad", BLX__RPC_UNARY, NULL},
                                                 {"/t.T/Talk", BLX__RPC_BIDI, NULL}};

static const struct blx__rpc_method *find(void *user, const char *path) {
  (void)user;
  for (size_t i = 0; i < BLX__COUNT(methods); i++)
    if (strcmp(methods[i].path, path) == 0) return &methods[i];
  return NULL;
}

static void refuse(struct member *m, struct blx__rpc_call *call) {
  blx_error err;
  (void)blx__fail(&err, BLX_E_NO_LEADER, "test", "not the leader");
  const struct member *other = &m->w->m[m == m->w->m];
  if (m->hints) (void)blx__str_format(err.leader, sizeof err.leader, "unix:%s", other->path);
  m->refused++;
  blx__rpc_call_finish(call, &err);
}

static void watch_some(struct member *m, struct blx__rpc_call *call, struct blx__slice request) {
  char text[24] = "";
  uint64_t from = 0;
  if (request.len < sizeof text && request.len) memcpy(text, request.data, request.len);
  ck_assert(blx__parse_u64(text, 0, 1000000, &from));
  m->watches++;
  for (uint64_t i = from; i < from + 3 && i < 10; i++) {
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)i);
    ck_assert(blx__rpc_call_send(call, text, strlen(text)));
  }
  blx_error err;
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, "test", "the watch breaks");
  blx__rpc_call_finish(call, from + 3 < 10 ? &err : NULL);
}

static bool say_back(void *user, struct blx__slice message) {
  struct member *m = user;
  blx_error err;
  m->talks++;
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, "test", "it breaks");
  if (m->breaks)
    blx__rpc_call_finish(m->talk, &err);
  else
    ck_assert(blx__rpc_call_send(m->talk, message.data, message.len));
  return true;
}

static const struct blx__rpc_receive_ops talk_ops = {say_back, NULL};

static void on_call(void *user, struct blx__rpc_call *call, struct blx__slice request) {
  struct member *m = user;
  blx_error err;
  switch (blx__rpc_call_method(call) - methods) {
  case 0:
    if (!m->leader) {
      refuse(m, call);
      return;
    }
    m->writes++;
    blx__rpc_call_reply(call, request.data, request.len);
    return;
  case 1: watch_some(m, call, request); return;
  case 3:
    m->talk = call;
    blx__rpc_call_receive(call, &talk_ops, m);
    return;
  default: (void)blx__fail(&err, BLX_E_INVALID, "test", "not allowed"); blx__rpc_call_finish(call, &err);
  }
}

static void member_open(struct world *w, struct member *m) {
  m->w = w;
  ck_assert(blx__str_format(m->path, sizeof m->path, "%s/%d.sock", w->dir, (int)(m - w->m)));
  m->service = (struct blx__rpc_service){m, find, on_call};
  struct blx__rpc_server_options o = {.path = m->path, .mode = 0660, .service = &m->service};
  ck_assert_int_eq(blx__rpc_server_open(w->loop, &o, &m->server, NULL).code, 0);
}

static void world_open(struct world *w) {
  *w = (struct world){.dir = "/tmp/blx-client-XXXXXX"};
  ck_assert_ptr_nonnull(mkdtemp(w->dir));
  ck_assert_int_eq(blx__loop_new(&w->loop, NULL).code, 0);
  for (int i = 0; i < 2; i++) member_open(w, &w->m[i]);
  const char *addresses[] = {w->m[0].path, w->m[1].path};
  ck_assert_int_eq(blx__client_new(w->loop, addresses, 2, NULL, &w->client, NULL).code, 0);
}

static void one_closed(void *user) {
  struct world *w = user;
  w->closing--;
  blx__loop_stop(w->loop);
}

static void member_close(struct world *w, struct member *m) {
  w->closing++;
  blx__rpc_server_close(m->server, one_closed, w);
  m->server = NULL;
  while (w->closing > 0) blx__loop_run(w->loop);
}

static void client_close(struct world *w) {
  w->closing++;
  blx__client_close(w->client, one_closed, w);
  w->client = NULL;
  while (w->closing > 0) blx__loop_run(w->loop);
}

static void world_close(struct world *w) {
  if (w->client) client_close(w);
  for (int i = 0; i < 2; i++)
    if (w->m[i].server) member_close(w, &w->m[i]);
  blx__loop_free(w->loop);
  ck_assert_int_eq(blx__dir_remove_tree(w->dir, NULL).code, 0);
}

struct answer {
  struct blx__loop *loop;
  int calls, code;
  bool maybe_done;
  char text[64];
};

static void on_done(void *user, const struct blx__rpc_result *r) {
  struct answer *a = user;
  a->calls++;
  a->code = r->err ? r->err->code : 0;
  a->maybe_done = r->maybe_done;
  if (r->response.len < sizeof a->text && r->response.len) memcpy(a->text, r->response.data, r->response.len);
  blx__loop_stop(a->loop);
}

static struct answer ask(struct world *w, const char *path, uint64_t deadline_ms) {
  struct answer a = {.loop = w->loop};
  struct blx__rpc_meta meta = {"x-name", "value"};
  struct blx__rpc_request r = {
      .path = path, .body = {(const uint8_t *)"body", 4}, .deadline_ms = deadline_ms, .meta = &meta, .meta_count = 1};
  ck_assert_int_eq(blx__client_call(w->client, &r, on_done, &a, NULL, NULL).code, 0);
  ck_assert_int_eq(a.calls, 0);
  blx__loop_run(w->loop);
  ck_assert_int_eq(a.calls, 1);
  return a;
}

START_TEST(call__finds_the_leader_and_stays_with_it) {
  for (int hints = 0; hints < 2; hints++) {
    struct world w;
    world_open(&w);
    w.m[1].leader = true;
    w.m[0].hints = hints;
    for (int i = 0; i < 5; i++) {
      struct answer a = ask(&w, "/t.T/Write", 5000);
      ck_assert_int_eq(a.code, 0);
      ck_assert_str_eq(a.text, "body");
    }
    ck_assert_int_eq(w.m[0].refused, 1);
    ck_assert_int_eq(w.m[1].writes, 5);
    world_close(&w);
  }
}
END_TEST

START_TEST(hint__to_an_address_not_given_is_followed) {
  struct world w;
  world_open(&w);
  client_close(&w);
  const char *only[] = {w.m[0].path};
  ck_assert_int_eq(blx__client_new(w.loop, only, 1, NULL, &w.client, NULL).code, 0);
  w.m[1].leader = w.m[0].hints = true;
  struct answer a = ask(&w, "/t.T/Write", 5000);
  ck_assert_int_eq(a.code, 0);
  ck_assert_int_eq(w.m[1].writes, 1);
  world_close(&w);
}
END_TEST

START_TEST(member__that_is_gone_is_passed_over) {
  struct world w;
  world_open(&w);
  w.m[0].leader = w.m[1].leader = true;
  ck_assert_int_eq(ask(&w, "/t.T/Write", 5000).code, 0);
  ck_assert_int_eq(w.m[0].writes, 1);
  member_close(&w, &w.m[0]);
  ck_assert_int_eq(ask(&w, "/t.T/Write", 5000).code, 0);
  ck_assert_int_eq(w.m[1].writes, 1);
  world_close(&w);
}
END_TEST

START_TEST(no_leader__for_the_whole_deadline_is_what_the_caller_hears) {
  struct world w;
  world_open(&w);
  struct answer a = ask(&w, "/t.T/Write", 400);
  ck_assert_int_eq(a.code, BLX_E_NO_LEADER);
  ck_assert_int_gt(w.m[0].refused + w.m[1].refused, 3);
  ck_assert_int_lt(w.m[0].refused + w.m[1].refused, 40); /* it backs off */
  member_close(&w, &w.m[0]);
  member_close(&w, &w.m[1]);
  a = ask(&w, "/t.T/Write", 200);
  ck_assert_int_eq(a.code, BLX_E_UNAVAILABLE);
  ck_assert(!a.maybe_done);
  world_close(&w);
}
END_TEST

START_TEST(refusal__is_not_retried) {
  struct world w;
  world_open(&w);
  struct answer a = ask(&w, "/t.T/Bad", 5000);
  ck_assert_int_eq(a.code, BLX_E_INVALID);
  world_close(&w);
}
END_TEST

static void stop(void *arg) {
  blx__loop_stop(arg);
}

START_TEST(call__during_an_election_waits_for_it) {
  struct world w;
  world_open(&w);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_request r = {.path = "/t.T/Write", .deadline_ms = 20000};
  ck_assert_int_eq(blx__client_call(w.client, &r, on_done, &a, NULL, NULL).code, 0);
  while (w.m[1].refused == 0) {
    ck_assert_int_eq(blx__loop_post(w.loop, stop, w.loop, NULL).code, 0);
    blx__loop_run(w.loop);
  }
  w.m[1].leader = true;
  while (a.calls == 0) blx__loop_run(w.loop);
  ck_assert_int_eq(a.code, 0);
  ck_assert_int_eq(w.m[1].writes, 1);
  world_close(&w);
}
END_TEST

struct watch {
  struct blx__loop *loop;
  struct blx__client_call *call;
  uint64_t next;
  int resumed, resume_max, done, code;
  bool pause;
};

static bool on_number(void *user, struct blx__slice m) {
  struct watch *s = user;
  char text[24] = "";
  uint64_t n = 0;
  if (m.len < sizeof text) memcpy(text, m.data, m.len);
  if (blx__parse_u64(text, 0, 100, &n) && n == s->next) s->next++;
  if (!s->pause) return true;
  blx__loop_stop(s->loop);
  return false;
}

static bool on_resume(void *user, const blx_error *why, struct blx__buf *request) {
  struct watch *s = user;
  if (why->code != BLX_E_UNAVAILABLE || ++s->resumed > s->resume_max) return false;
  return blx__buf_addf(request, "%llu", (unsigned long long)s->next);
}

static void on_watch_done(void *user, const struct blx__rpc_result *r) {
  struct watch *s = user;
  s->done++;
  s->code = r->err ? r->err->code : 0;
  blx__loop_stop(s->loop);
}

static const struct blx__client_stream_ops watch_ops = {
    .on_message = on_number, .on_resume = on_resume, .on_done = on_watch_done};

static void watch_begin(struct world *w, struct watch *s) {
  s->loop = w->loop;
  struct blx__rpc_request r = {.path = "/t.T/Watch", .body = {(const uint8_t *)"0", 1}};
  ck_assert_int_eq(blx__client_stream(w->client, &r, &watch_ops, s, &s->call, NULL).code, 0);
}

START_TEST(stream__goes_on_where_it_broke_without_gap_or_duplicate) {
  struct world w;
  world_open(&w);
  struct watch s = {.resume_max = 100};
  watch_begin(&w, &s);
  blx__loop_run(w.loop);
  ck_assert_int_eq(s.code, 0);
  ck_assert_uint_eq(s.next, 10);
  ck_assert_int_eq(s.resumed, 3);
  ck_assert_int_eq(w.m[0].watches + w.m[1].watches, 4);
  s = (struct watch){.resume_max = 1};
  watch_begin(&w, &s);
  blx__loop_run(w.loop);
  ck_assert_int_eq(s.code, BLX_E_UNAVAILABLE);
  ck_assert_uint_eq(s.next, 6);
  ck_assert_int_eq(s.done, 1);
  world_close(&w);
}
END_TEST

/* A bidirectional stream, and what was heard. */
struct talk {
  struct watch watch;
  int heard, writable;
};

static bool on_talk(void *user, struct blx__slice m) {
  struct talk *t = user;
  (void)m;
  t->heard++;
  blx__loop_stop(t->watch.loop);
  return true;
}

static void on_talk_writable(void *user) {
  struct talk *t = user;
  t->writable++;
  ck_assert(blx__client_send(t->watch.call, "more", 4));
}

static const struct blx__client_stream_ops talking = {
    .on_message = on_talk, .on_done = on_watch_done, .on_writable = on_talk_writable};

static void talk_begin(struct world *w, struct talk *t) {
  *t = (struct talk){.watch.loop = w->loop};
  struct blx__rpc_request r = {.path = "/t.T/Talk", .body = {(const uint8_t *)"first", 5}};
  ck_assert_int_eq(blx__client_bidi(w->client, &r, &talking, t, &t->watch.call, NULL).code, 0);
}

START_TEST(talk__asks_the_next_member_and_takes_more_once_it_was_answered) {
  struct world w;
  struct talk t;
  world_open(&w);
  member_close(&w, &w.m[0]);
  talk_begin(&w, &t);
  ck_assert(!blx__client_send(t.watch.call, "early", 5));
  while (t.heard < 2) blx__loop_run(w.loop);
  ck_assert(t.writable == 1 && w.m[1].talks == 2);
  blx__client_cancel(t.watch.call);
  while (t.watch.done == 0) blx__loop_run(w.loop);
  ck_assert_int_eq(t.watch.code, BLX_E_CANCELLED);
  world_close(&w);
}
END_TEST

START_TEST(talk__that_was_sent__is_not_sent_again) {
  struct world w;
  struct talk t;
  world_open(&w);
  w.m[0].breaks = w.m[1].breaks = true;
  talk_begin(&w, &t);
  while (t.watch.done == 0) blx__loop_run(w.loop);
  ck_assert_int_eq(t.watch.code, BLX_E_UNAVAILABLE);
  ck_assert_int_eq(w.m[0].talks + w.m[1].talks, 1);
  world_close(&w);
}
END_TEST

START_TEST(cancel_and_close__end_every_call_once) {
  struct world w;
  world_open(&w);
  struct watch s = {.pause = true, .resume_max = 1}, t = s;
  watch_begin(&w, &s);
  blx__loop_run(w.loop);
  blx__client_cancel(s.call);
  blx__client_cancel(s.call);
  ck_assert_int_eq(s.done, 0);
  blx__loop_run(w.loop);
  ck_assert_int_eq(s.done, 1);
  ck_assert_int_eq(s.code, BLX_E_CANCELLED);
  watch_begin(&w, &t);
  blx__loop_run(w.loop);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_request r = {.path = "/t.T/Write", .deadline_ms = 60000};
  ck_assert_int_eq(blx__client_call(w.client, &r, on_done, &a, NULL, NULL).code, 0);
  client_close(&w);
  ck_assert_int_eq(t.done, 1);
  ck_assert_int_eq(t.code, BLX_E_CANCELLED);
  ck_assert_int_eq(a.calls, 1);
  ck_assert_int_eq(a.code, BLX_E_CANCELLED);
  world_close(&w);
}
END_TEST

START_TEST(calls__over_the_maximum_are_refused_as_busy) {
  struct world w;
  world_open(&w);
  struct answer a = {.loop = w.loop};
  struct blx__rpc_request r = {.path = "/t.T/Write"};
  for (int i = 0; i < BLX__CLIENT_CALLS_MAX; i++)
    ck_assert_int_eq(blx__client_call(w.client, &r, on_done, &a, NULL, NULL).code, 0);
  ck_assert_int_eq(blx__client_call(w.client, &r, on_done, &a, NULL, NULL).code, BLX_E_BUSY);
  client_close(&w);
  ck_assert_int_eq(a.calls, BLX__CLIENT_CALLS_MAX);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("client", call__finds_the_leader_and_stays_with_it, hint__to_an_address_not_given_is_followed,
              member__that_is_gone_is_passed_over, no_leader__for_the_whole_deadline_is_what_the_caller_hears,
              refusal__is_not_retried, call__during_an_election_waits_for_it,
              stream__goes_on_where_it_broke_without_gap_or_duplicate,
              talk__asks_the_next_member_and_takes_more_once_it_was_answered, talk__that_was_sent__is_not_sent_again,
              cancel_and_close__end_every_call_once, calls__over_the_maximum_are_refused_as_busy)
