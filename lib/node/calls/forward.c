/* Calls to other daemons: on a caller's behalf, or our own. One connection to each address, kept. */
#include "node/node_int.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more, from an address that is not being asked: it is connected to again when it is needed. */
static bool make_room(struct blx__node *n) {
  if (n->conns.count < BLX__NODE_CONNS_MAX) return true;
  BLX__MAP_FOREACH(pos, &n->conns) {
    struct blx__rpc_conn *conn = blx__map_value(pos);
    if (!blx__rpc_conn_is_idle(conn)) continue;
    size_t key_len = 0;
    const void *key = blx__map_key(pos, &key_len);
    (void)blx__map_remove(&n->conns, key, key_len);
    blx__rpc_conn_close(conn, NULL, NULL);
    return true;
  }
  return false;
}

struct blx__rpc_conn *blx__node_conn(struct blx__node *n, const char *address, blx_error *err) {
  struct blx__rpc_conn *conn = blx__map_get_str(&n->conns, address);
  if (conn) return conn;
  if (!make_room(n)) {
    (void)blx__fail(err, BLX_E_BUSY, "node", "%d connections to other members are in use: try again later",
                    BLX__NODE_CONNS_MAX);
    return NULL;
  }
  if (blx__rpc_conn_new(n->loop, address, &conn, err).code != 0) return NULL;
  if (!blx__map_set_str(&n->conns, address, conn, NULL)) {
    blx__rpc_conn_close(conn, NULL, NULL);
    (void)blx__fail(err, BLX_E_NOMEM, "node", "no memory for a connection");
    return NULL;
  }
  return conn;
}

enum { META_MAX = 4, REASON_META_BYTES = 3 * 256 + 1 };

/* On whose behalf, and what the audit log says of it. @room takes the encoded reason. */
static size_t meta_of(const struct blx__call *call, bool forwarded, char room[REASON_META_BYTES],
                      struct blx__rpc_meta out[META_MAX]) {
  size_t n = 0;
  out[n++] = (struct blx__rpc_meta){"blixard-principal", call->principal};
  if (forwarded) out[n++] = (struct blx__rpc_meta){"blixard-forwarded", "1"};
  if (call->source) out[n++] = (struct blx__rpc_meta){"blixard-source", call->source};
  if (!call->reason) return n;
  blx__rpc_text_encode(call->reason, room, REASON_META_BYTES);
  out[n++] = (struct blx__rpc_meta){"blixard-reason", room};
  return n;
}

static uint64_t deadline_of(const struct blx__call *call) {
  /* Our own are said again: a leader that does not answer must not keep us from the next one. */
  uint64_t left = call->rpc ? blx__rpc_call_deadline_ms(call->rpc) : BLX__NODE_OWN_DEADLINE_MS;
  return left > 0 ? left : BLX__NODE_DEADLINE_MS;
}

/* Nobody answered there. A write that may have been done must not be taken for "not done". */
static void went_away(struct blx__call *call, const blx_error *why, bool maybe_done) {
  const struct blx__node *n = call->node;
  blx_error err = *why;
  if (n->worker) blx__worker_avoid(call->node, call->forwarded_to);
  if (maybe_done && call->row->route == BLX__ROUTE_WRITE)
    err.code = BLX_E_TIMEOUT;
  else if (n->worker)
    (void)blx__fail(&err, BLX_E_NO_LEADER, n->self->name,
                    "worker %s reaches no server at the moment, what runs on it runs on: %.300s", n->self->name,
                    why->message);
  else
    err.code = BLX_E_NO_LEADER;
  blx__call_fail(call, &err);
}

static void forwarded(void *user, const struct blx__rpc_result *result) {
  struct blx__call *call = user;
  bool left = result->err && result->err->code == BLX_E_CANCELLED && call->passed_looks != 0;
  call->passed = NULL;
  blx_error err;
  if (left) (void)blx__fail(&err, BLX_E_UNAVAILABLE, "node", "the member that led does not answer: try again");
  if (!result->err)
    blx__call_answer_bytes(call, result->response);
  else if (left || result->err->code == BLX_E_UNAVAILABLE)
    went_away(call, left ? &err : result->err, result->maybe_done);
  else
    blx__call_fail(call, result->err);
}

void blx__call_forward(struct blx__call *call, const char *address) {
  blx_error err;
  struct blx__rpc_conn *conn = blx__node_conn(call->node, address, &err);
  struct blx__rpc_meta meta[META_MAX];
  char reason[REASON_META_BYTES];
  struct blx__rpc_request request = {.path = call->row->path, .body = call->bytes, .deadline_ms = deadline_of(call)};
  request.meta = meta;
  request.meta_count = meta_of(call, !call->node->worker, reason, meta);
  call->forwarded_to = blx__arena_strdup(&call->arena, address);
  if (!conn || blx__rpc_unary(conn, &request, forwarded, call, &call->passed, &err).code != 0)
    blx__call_fail(call, &err);
}

void blx__forward_look(struct blx__node *n) {
  if (!n->consensus || n->closing) return;
  uint64_t uid = blx__consensus_leader(n->consensus);
  const struct blx_node_info *leader = uid != 0 ? blx__state_node(n->state, uid) : NULL;
  const char *address = leader && leader->address ? leader->address : "";
  BLX__LIST_FOREACH (it, &n->calls) {
    struct blx__call *call = BLX__CONTAINER(it, struct blx__call, link);
    if (!call->passed) continue;
    if (strcmp(call->forwarded_to, address) == 0)
      call->passed_looks = 0;
    else if (++call->passed_looks >= BLX__NODE_LEFT_LOOKS)
      blx__rpc_cancel(call->passed);
  }
}

/* ---- streams, passed on message by message */

struct relay {
  struct blx__node *node;
  struct blx__rpc_call *to;
  struct blx__rpc_pending *from; /* NULL: it has ended */
  struct blx__buf held;          /* one message that the caller's queue had no room for */
  bool gone;                     /* the caller is */
};

static void relay_free(struct relay *r) {
  blx__rpc_call_unref(r->to);
  blx__buf_free(&r->held);
  free(r);
}

static bool relay_message(void *user, struct blx__slice message) {
  struct relay *r = user;
  if (r->gone || blx__rpc_call_send(r->to, message.data, message.len)) return true;
  if (blx__buf_add(&r->held, message.data, message.len)) return false;
  blx_error err;
  (void)blx__fail(&err, BLX_E_NOMEM, r->node->self->name, "no memory to pass on a message");
  blx__rpc_call_finish(r->to, &err);
  return true;
}

static void relay_done(void *user, const struct blx__rpc_result *result) {
  struct relay *r = user;
  r->from = NULL;
  if (r->gone)
    relay_free(r);
  else
    blx__rpc_call_finish(r->to, result->err);
}

static void relay_writable(void *user) {
  struct relay *r = user;
  if (!r->from || r->held.len == 0 || !blx__rpc_call_send(r->to, r->held.data, r->held.len)) return;
  blx__buf_clear(&r->held);
  blx__rpc_resume(r->from);
}

static void relay_gone(void *user, bool cancelled) {
  (void)cancelled;
  struct relay *r = user;
  r->gone = true;
  if (r->from)
    blx__rpc_cancel(r->from);
  else
    relay_free(r);
}

static const struct blx__rpc_stream_ops relay_from = {relay_message, relay_done};
static const struct blx__rpc_call_ops relay_to = {relay_writable, relay_gone};

void blx__call_relay(struct blx__call *call, const char *address) {
  struct blx__node *n = call->node;
  struct relay *r = call->rpc ? calloc(1, sizeof *r) : NULL;
  if (!r) {
    blx__call_failf(call, BLX_E_NOMEM, "no memory for a stream");
    return;
  }
  r->node = n;
  r->to = blx__rpc_call_ref(call->rpc);
  blx__buf_init(&r->held, BLX__RPC_MESSAGE_MAX_BYTES);
  blx_error err;
  struct blx__rpc_conn *conn = blx__node_conn(n, address, &err);
  const struct blx__rpc_meta meta[] = {{"blixard-principal", call->principal}};
  struct blx__rpc_request request = {.path = call->row->path, .body = call->bytes, .meta = meta};
  request.meta_count = BLX__COUNT(meta);
  request.deadline_ms = blx__rpc_call_deadline_ms(call->rpc);
  if (!conn || blx__rpc_stream(conn, &request, &relay_from, r, &r->from, &err).code != 0) {
    relay_free(r);
    blx__call_fail(call, &err);
    return;
  }
  blx__rpc_call_watch(r->to, &relay_to, r);
  blx__call_release(call);
}

/* ---- our own questions */

struct ask {
  blx__call_done done;
  void *user;
  struct blx__node_asking how;
};

static const struct blx__node_asking usual = {.deadline_ms = BLX__NODE_DEADLINE_MS};

static void asked(void *user, const struct blx__rpc_result *result) {
  struct ask ask = *(struct ask *)user;
  free(user);
  ask.done(ask.user, result->err, result->response);
}

static blx__rc ask_as(struct blx__node *n, const struct blx__call *call, const char *address, enum blx__rpc_id id,
                      const void *request, const struct ask *with, blx_error *err) {
  const struct blx__rpc_row *row = &blx__rpc_rows()[id];
  struct blx__rpc_conn *conn = blx__node_conn(n, address, err);
  if (!conn) return (blx__rc){err ? err->code : BLX_E_UNAVAILABLE};
  struct ask *ask = malloc(sizeof *ask);
  if (!ask) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a call");
  *ask = *with;
  struct blx__buf bytes;
  blx__buf_init(&bytes, BLX__NODE_ANSWER_MAX);
  blx__rc rc = blx__msg_encode(row->request(), request, &bytes, err);
  struct blx__rpc_request req = {
      .path = row->path, .body = {bytes.data, bytes.len}, .deadline_ms = with->how.deadline_ms};
  struct blx__rpc_meta meta[META_MAX];
  char reason[REASON_META_BYTES];
  req.meta = meta;
  if (call) {
    req.meta_count = meta_of(call, false, reason, meta);
  } else if (with->how.forwarded) {
    meta[0] = (struct blx__rpc_meta){"blixard-forwarded", "1"};
    req.meta_count = 1;
  }
  if (rc.code == 0) rc = blx__rpc_unary(conn, &req, asked, ask, NULL, err);
  blx__buf_free(&bytes);
  if (rc.code != 0) free(ask);
  return rc;
}

blx__rc blx__node_ask(struct blx__node *n, const char *address, enum blx__rpc_id id, const void *request,
                      blx__call_done done, void *user, blx_error *err) {
  return ask_as(n, NULL, address, id, request, &(struct ask){done, user, usual}, err);
}

blx__rc blx__node_ask_with(struct blx__node *n, const char *address, enum blx__rpc_id id, const void *request,
                           const struct blx__node_asking *how, blx__call_done done, void *user, blx_error *err) {
  return ask_as(n, NULL, address, id, request, &(struct ask){done, user, *how}, err);
}

blx__rc blx__node_ask_for(struct blx__call *call, const char *address, enum blx__rpc_id id, const void *request,
                          blx__call_done done, blx_error *err) {
  return ask_as(call->node, call, address, id, request, &(struct ask){done, call, usual}, err);
}

static void conn_closed(void *user) {
  blx__node_part_closed(user);
}

void blx__forward_close(struct blx__node *n) {
  BLX__MAP_FOREACH(pos, &n->conns) {
    n->close_waits++;
    blx__rpc_conn_close(blx__map_value(pos), conn_closed, n);
  }
  blx__map_clear(&n->conns);
}
