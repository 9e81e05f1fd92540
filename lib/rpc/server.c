#include "rpc/server_int.h"

#include <stdlib.h>
#include <unistd.h>

enum { CLOSE_MS = 2000 };

static const char component[] = "rpc";

static void server_gone(void *arg) {
  struct blx__rpc_server *s = arg;
  BLX__ASSERT(s->held_bytes == 0 && s->queued_bytes == 0 && s->stats.calls == 0);
  void (*closed)(void *) = s->closed;
  void *user = s->closed_user;
  free(s);
  if (closed) closed(user);
}

static void maybe_gone(struct blx__rpc_server *s) {
  if (s->closing && blx__list_empty(&s->connections)) blx__loop_defer(s->loop, &s->closed_defer);
}

void conn_busy(struct connection *conn) {
  if (blx__list_empty(&conn->idle_link)) return;
  blx__list_remove(&conn->idle_link);
  conn->server->idle_count--;
}

static void retire_idle(struct connection *conn) {
  conn->server->stats.closed_idle++;
  conn_busy(conn);
  h2_farewell(&conn->h2);
}

/* A session takes 20 KiB, so there is room for some only. Those that never called go first: whoever opens many must not
 * end the connections of those who work. */
void conn_idle(struct connection *conn) {
  struct blx__rpc_server *s = conn->server;
  if (conn->h2.closing || s->closing) return;
  blx__list_push(conn->used ? &s->idle : &s->fresh, &conn->idle_link);
  if (++s->idle_count <= BLX__RPC_IDLE_MAX) return;
  struct blx__list *first = blx__list_first(&s->fresh);
  if (!first || first == &conn->idle_link) first = blx__list_first(&s->idle); /* who has just come may stay */
  BLX__ASSERT(first);
  retire_idle(BLX__CONTAINER(first, struct connection, idle_link));
}

static void on_begun(void *owner) {
  conn_idle(owner);
}

static void connection_free(struct connection *conn) {
  struct blx__rpc_server *s = conn->server;
  conn_busy(conn);
  blx__timer_free(conn->timer);
  blx__list_remove(&conn->link);
  s->stats.connections--;
  free(conn);
  maybe_gone(s);
}

static void on_conn_closed(void *owner, const blx_error *why) {
  struct connection *conn = owner;
  struct blx__rpc_server *s = conn->server;
  bool noise = conn->noisy || conn->h2.rude;
  s->stats.noise += noise;
  s->stats.cut_silent += conn->h2.cut;
  unsigned long long count = s->stats.noise + s->stats.cut_silent;
  if (noise || conn->h2.cut)
    blx__log(s->log, BLX_LOG_INFO, component, "closed a connection of user %u, process %d, number %llu so far: %s",
             conn->cred.uid, conn->cred.pid, count, why ? why->message : "it broke the rules of HTTP/2");
  for (struct blx__list *n; (n = blx__list_first(&conn->calls)) != NULL;)
    call_end(BLX__CONTAINER(n, struct blx__rpc_call, link), true);
  connection_free(conn);
}

static void on_flushed(void *owner) {
  calls_tell_writable(owner);
}

static const struct h2_ops h2_ops = {calls_set_callbacks, on_flushed, on_conn_closed, calls_frame_sent, on_begun};

/* The preface did not come, or a close takes too long. */
static void on_timer(void *arg) {
  struct connection *conn = arg;
  struct blx__rpc_server *s = conn->server;
  if (!conn->settled && !s->closing && !conn->h2.closing) {
    s->stats.cut_preface++;
    blx__log(s->log, BLX_LOG_INFO, component,
             "cut a connection of user %u, process %d that said nothing in %d ms, number %llu so far", conn->cred.uid,
             conn->cred.pid, BLX__RPC_PREFACE_MS, (unsigned long long)s->stats.cut_preface);
  }
  h2_close(&conn->h2, NULL);
}

static void look(void *arg) {
  struct blx__rpc_server *s = arg;
  BLX__LIST_FOREACH (n, &s->connections) {
    struct connection *conn = BLX__CONTAINER(n, struct connection, link);
    h2_look(&conn->h2, !blx__list_empty(&conn->calls));
    if (conn->h2.closing || conn->h2.idle_looks < BLX__RPC_IDLE_LOOKS) continue;
    if (!blx__list_empty(&conn->idle_link))
      retire_idle(conn);
    else
      h2_close(&conn->h2, NULL); /* it does not even take our farewell */
  }
}

static bool user_may(const struct blx__cred *cred) {
  return cred->uid == 0 || cred->uid == geteuid();
}

static void on_accept(void *user, struct blx__stream *stream) {
  struct blx__rpc_server *s = user;
  struct blx__cred cred;
  s->stats.accepted++;
  if (blx__stream_cred(stream, &cred, NULL).code != 0 || !user_may(&cred)) {
    s->stats.refused_user++;
    blx__stream_close(stream);
    return;
  }
  struct connection *conn = s->stats.connections < BLX__RPC_CONNECTIONS_MAX ? calloc(1, sizeof *conn) : NULL;
  struct blx__timer *timer = conn ? blx__timer_new(s->loop, on_timer, conn) : NULL;
  if (!timer) {
    s->stats.refused_full++;
    blx__stream_close(stream);
    free(conn);
    return;
  }
  conn->server = s;
  conn->cred = cred;
  conn->timer = timer;
  blx__list_init(&conn->calls);
  blx__list_init(&conn->idle_link);
  blx__list_init(&conn->writable);
  blx__list_push(&s->connections, &conn->link);
  s->stats.connections++;
  h2_accept(&conn->h2, s->loop, stream, &h2_ops, conn);
  blx__timer_start(timer, BLX__RPC_PREFACE_MS, 0);
}

blx__rc blx__rpc_server_open(struct blx__loop *loop, const struct blx__rpc_server_options *options,
                             struct blx__rpc_server **out, blx_error *err) {
  BLX__ASSERT(options->service && options->service->find && options->service->on_call);
  struct blx__rpc_server *s = calloc(1, sizeof *s);
  if (!s) return blx__fail(err, BLX_E_NOMEM, component, "no memory for a server at %s", options->path);
  s->loop = loop;
  s->service = options->service;
  s->log = options->log;
  blx__list_init(&s->connections);
  blx__list_init(&s->fresh);
  blx__list_init(&s->idle);
  blx__defer_init(&s->closed_defer, server_gone, s);
  s->look = blx__timer_new(loop, look, s);
  blx__rc rc = s->look ? BLX__OK : blx__fail(err, BLX_E_NOMEM, component, "no memory for a timer");
  if (rc.code == 0) rc = blx__listener_open(loop, options->path, options->mode, on_accept, s, &s->listener, err);
  if (rc.code != 0) {
    blx__timer_free(s->look);
    free(s);
    return rc;
  }
  uint32_t look_ms = options->look_ms ? options->look_ms : BLX__RPC_LOOK_MS;
  blx__timer_start(s->look, look_ms, look_ms);
  *out = s;
  return BLX__OK;
}

void blx__rpc_server_stats(const struct blx__rpc_server *s, struct blx__rpc_server_stats *out) {
  *out = s->stats;
}

/* Calls that finish here are answered; GOAWAY says that no other will be. */
static void connection_drain(struct connection *conn) {
  blx_error err;
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, component, "the node is shutting down: ask another");
  if (conn->h2.closing) return;
  BLX__LIST_FOREACH (n, &conn->calls) {
    struct blx__rpc_call *c = BLX__CONTAINER(n, struct blx__rpc_call, link);
    if (!c->headers_done || c->finished) continue;
    c->cut = true;
    blx__rpc_call_finish(c, &err);
  }
  conn->settled = true;
  blx__timer_start(conn->timer, CLOSE_MS, 0);
  h2_retire(&conn->h2);
}

void blx__rpc_server_close(struct blx__rpc_server *s, void (*closed)(void *user), void *user) {
  BLX__ASSERT(!s->closing);
  s->closing = true;
  s->closed = closed;
  s->closed_user = user;
  blx__listener_close(s->listener);
  s->listener = NULL;
  blx__timer_free(s->look);
  s->look = NULL;
  BLX__LIST_FOREACH (n, &s->connections) connection_drain(BLX__CONTAINER(n, struct connection, link));
  maybe_gone(s);
}
