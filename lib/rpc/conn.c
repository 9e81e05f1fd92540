#include "rpc/conn_int.h"

#include <stdlib.h>

static void conn_gone(void *arg) {
  struct blx__rpc_conn *c = arg;
  void (*closed)(void *) = c->closed;
  void *user = c->closed_user;
  blx__timer_free(c->look);
  free(c);
  if (closed) closed(user);
}

void conn_maybe_closed(struct blx__rpc_conn *c) {
  if (c->pending_count == 0) blx__timer_stop(c->look);
  if (c->closing && c->pending_count == 0 && blx__list_empty(&c->links)) blx__loop_defer(c->loop, &c->closed_defer);
}

static void on_link_closed(void *owner, const blx_error *why) {
  struct link *link = owner;
  struct blx__rpc_conn *c = link->conn;
  blx_error err;
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, "rpc", "the connection to %s ended before the answer: %s", c->path,
                  why ? why->message : "the other side closed it");
  for (struct blx__list *n; (n = blx__list_first(&link->calls)) != NULL;)
    pending_end(BLX__CONTAINER(n, struct blx__rpc_pending, in_link), &err);
  if (c->link == link) c->link = NULL;
  blx__list_remove(&link->in_conn);
  free(link);
  conn_maybe_closed(c);
}

static const struct h2_ops link_ops = {pendings_set_callbacks, NULL, on_link_closed, NULL, NULL};

static void look(void *arg) {
  struct blx__rpc_conn *c = arg;
  BLX__LIST_FOREACH (n, &c->links) {
    struct link *link = BLX__CONTAINER(n, struct link, in_conn);
    h2_look(&link->h2, !blx__list_empty(&link->calls));
  }
}

void conn_watch(struct blx__rpc_conn *c) {
  blx__timer_start(c->look, c->look_ms, c->look_ms);
}

/* A server closes idle connections: not to race it, one that was idle for half of that time is not used again. */
static bool is_stale(const struct link *link) {
  uint64_t idle_ms = blx__loop_now_ms(link->conn->loop) - link->h2.heard_ms;
  return blx__list_empty(&link->calls) && idle_ms >= (uint64_t)link->conn->look_ms * BLX__RPC_IDLE_LOOKS / 2;
}

static bool may_use(struct link *link) {
  if (link->h2.closing) return false;
  if (nghttp2_session_check_request_allowed(link->h2.session) == 0) return false;
  if (!is_stale(link)) return true;
  h2_retire(&link->h2);
  return false;
}

blx__rc conn_link(struct blx__rpc_conn *c, struct link **out, blx_error *err) {
  if (c->link && !may_use(c->link)) c->link = NULL;
  if (!c->link) {
    struct link *link = calloc(1, sizeof *link);
    if (!link) return blx__fail(err, BLX_E_NOMEM, "rpc", "no memory for a connection to %s", c->path);
    blx__rc rc = h2_connect(&link->h2, c->loop, c->path, &link_ops, link, err);
    if (rc.code != 0) {
      free(link);
      return rc;
    }
    link->conn = c;
    blx__list_init(&link->calls);
    blx__list_push(&c->links, &link->in_conn);
    c->link = link;
  }
  *out = c->link;
  return BLX__OK;
}

blx__rc blx__rpc_conn_new(struct blx__loop *loop, const char *address, struct blx__rpc_conn **out, blx_error *err) {
  static const char scheme[] = "unix:";
  const char *path = strncmp(address, scheme, sizeof scheme - 1) == 0 ? address + sizeof scheme - 1 : address;
  struct blx__rpc_conn *c = calloc(1, sizeof *c);
  if (!c) return blx__fail(err, BLX_E_NOMEM, "rpc", "no memory for a connection to %s", address);
  if (!*path || !blx__str_copy(c->path, sizeof c->path, path)) {
    free(c);
    return blx__fail(err, BLX_E_INVALID, "rpc", "an address is unix:PATH or PATH, with a path of 1 to %d bytes",
                     BLX__STREAM_PATH_MAX);
  }
  c->loop = loop;
  c->look_ms = BLX__RPC_LOOK_MS;
  c->look = blx__timer_new(loop, look, c);
  if (!c->look) {
    free(c);
    return blx__fail(err, BLX_E_NOMEM, "rpc", "no memory for a connection to %s", address);
  }
  blx__list_init(&c->links);
  blx__list_init(&c->pendings);
  blx__defer_init(&c->closed_defer, conn_gone, c);
  *out = c;
  return BLX__OK;
}

void blx__rpc_conn_look(struct blx__rpc_conn *c, uint32_t look_ms) {
  BLX__ASSERT(look_ms >= 1 && look_ms <= 60000);
  c->look_ms = look_ms;
  if (c->pending_count > 0) conn_watch(c);
}

bool blx__rpc_conn_is_idle(const struct blx__rpc_conn *c) {
  return c->pending_count == 0;
}

void blx__rpc_conn_close(struct blx__rpc_conn *c, void (*closed)(void *user), void *user) {
  BLX__ASSERT(!c->closing);
  c->closing = true;
  c->closed = closed;
  c->closed_user = user;
  BLX__LIST_FOREACH (n, &c->pendings) blx__rpc_cancel(BLX__CONTAINER(n, struct blx__rpc_pending, in_conn));
  BLX__LIST_FOREACH (n, &c->links) {
    struct link *link = BLX__CONTAINER(n, struct link, in_conn);
    if (link->h2.closing) continue;
    (void)nghttp2_session_terminate_session(link->h2.session, NGHTTP2_NO_ERROR);
    h2_dirty(&link->h2);
  }
  conn_maybe_closed(c);
}
