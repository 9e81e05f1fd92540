#include "rpc/server_int.h"

#include <stdlib.h>

static void fail_call(struct blx__rpc_call *c, int code, const char *text) {
  blx_error err;
  (void)blx__fail(&err, code, "rpc", "%s", text);
  blx__rpc_call_finish(c, &err);
}

/* ---- answering */

static void count_queued(struct blx__rpc_call *c) {
  size_t *all = &c->conn->server->queued_bytes, now = writer_queued(&c->out);
  *all = *all - c->queued + now;
  c->queued = now;
}

static ssize_t data_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length, uint32_t *flags,
                         nghttp2_data_source *source, void *user_data) {
  struct blx__rpc_call *c = source->ptr;
  (void)user_data;
  size_t n = writer_take(&c->out, buf, length);
  count_queued(c);
  if (writer_calls_for_more(&c->out) && !c->gone && blx__list_empty(&c->writable_link))
    blx__list_push(&c->conn->writable, &c->writable_link);
  if (writer_queued(&c->out) > 0) return (ssize_t)n;
  if (!c->finished) return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
  blx_error plain = {.code = c->end_code};
  struct status_fields f;
  status_fields(&f, c->end_code == 0 ? NULL : c->end ? c->end : &plain);
  *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
  if (nghttp2_submit_trailer(session, stream_id, f.nv, f.count) != 0) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  return (ssize_t)n;
}

static void answer_more(struct blx__rpc_call *c) {
  nghttp2_session *session = c->conn->h2.session;
  if (c->headers_sent) {
    (void)nghttp2_session_resume_data(session, c->stream_id);
  } else {
    c->headers_sent = true;
    nghttp2_nv nv[2] = {nv_fixed(":status", "200"), nv_fixed("content-type", "application/grpc")};
    nghttp2_data_provider data = {.source.ptr = c, .read_callback = data_read};
    if (nghttp2_submit_response(session, c->stream_id, nv, BLX__COUNT(nv), &data) != 0)
      (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, c->stream_id, NGHTTP2_INTERNAL_ERROR);
  }
  h2_dirty(&c->conn->h2);
}

bool blx__rpc_call_send(struct blx__rpc_call *c, const void *message, size_t size) {
  if (c->gone || c->finished) return true;
  if (size > BLX__RPC_MESSAGE_MAX_BYTES) {
    blx_error err;
    (void)blx__fail(&err, BLX_E_INTERNAL, "rpc",
                    "the answer has %zu bytes, over the limit of %d: ask for less at a time", size,
                    BLX__RPC_MESSAGE_MAX_BYTES);
    blx__rpc_call_finish(c, &err);
    return true;
  }
  if (!writer_has_room(&c->out, size)) return false;
  if (c->conn->server->queued_bytes + size > QUEUED_MAX_BYTES)
    fail_call(c, BLX_E_BUSY, "too many answers wait for callers who do not read them: try again later");
  else if (!writer_add(&c->out, message, size))
    fail_call(c, BLX_E_NOMEM, "no memory for the answer");
  else
    answer_more(c);
  count_queued(c);
  return true;
}

/* Trailers-Only: an error before any message is one header block. */
static void answer_error_only(struct blx__rpc_call *c, const blx_error *err) {
  nghttp2_session *session = c->conn->h2.session;
  nghttp2_nv nv[10] = {nv_fixed(":status", "200"), nv_fixed("content-type", "application/grpc")};
  struct status_fields f;
  status_fields(&f, err);
  memcpy(nv + 2, f.nv, f.count * sizeof f.nv[0]);
  c->headers_sent = true;
  if (nghttp2_submit_response(session, c->stream_id, nv, 2 + f.count, NULL) != 0)
    (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, c->stream_id, NGHTTP2_INTERNAL_ERROR);
  h2_dirty(&c->conn->h2);
}

void blx__rpc_call_finish(struct blx__rpc_call *c, const blx_error *err) {
  if (c->gone || c->finished) return;
  c->finished = true;
  blx__timer_free(c->timer);
  c->timer = NULL;
  if (err && !c->headers_sent && writer_queued(&c->out) == 0) {
    answer_error_only(c, err);
    return;
  }
  if (err) {
    c->end_code = err->code;
    c->end = malloc(sizeof *c->end);
    if (c->end) *c->end = *err;
  }
  answer_more(c);
}

void blx__rpc_call_reply(struct blx__rpc_call *c, const void *message, size_t size) {
  bool taken = blx__rpc_call_send(c, message, size);
  if (!taken) fail_call(c, BLX_E_INTERNAL, "the answer came after messages that have not been sent");
  blx__rpc_call_finish(c, NULL);
}

/* ---- the life of a call */

struct blx__rpc_call *blx__rpc_call_ref(struct blx__rpc_call *c) {
  BLX__ASSERT(c->refs > 0);
  c->refs++;
  return c;
}

void blx__rpc_call_unref(struct blx__rpc_call *c) {
  BLX__ASSERT(c->refs > 0);
  if (--c->refs > 0) return;
  BLX__ASSERT(!c->conn);
  blx__buf_free(&c->meta);
  writer_free(&c->out);
  reader_free(&c->reader);
  free(c->end);
  free(c);
}

static void tell_gone(struct blx__rpc_call *c, bool cancelled) {
  if (c->gone) return;
  c->gone = true;
  blx__list_remove(&c->writable_link);
  blx__loop_undefer(&c->turn);
  if (cancelled) c->conn->server->stats.calls_cancelled++;
  if (c->ops && c->ops->on_gone) c->ops->on_gone(c->user, cancelled);
}

static void hold(struct blx__rpc_call *c, size_t bytes) {
  size_t *all = &c->conn->server->held_bytes;
  *all = *all - c->held + bytes;
  c->held = bytes;
}

void call_end(struct blx__rpc_call *c, bool cancelled) {
  tell_gone(c, cancelled || c->cut || !c->finished);
  blx__timer_free(c->timer);
  c->timer = NULL;
  hold(c, 0);
  writer_free(&c->out);
  count_queued(c);
  blx__list_remove(&c->writable_link);
  blx__list_remove(&c->link);
  c->conn->server->stats.calls--;
  if (blx__list_empty(&c->conn->calls)) conn_idle(c->conn);
  c->conn = NULL;
  blx__rpc_call_unref(c);
}

static void on_time(void *arg) {
  struct blx__rpc_call *c = arg;
  /* Not by the clock: on a busy loop the timer may be ahead of it. */
  bool late = c->due_is_deadline;
  c->conn->server->stats.calls_late += late;
  writer_free(&c->out); /* what was queued is of no use to a caller who gave up */
  count_queued(c);
  if (late)
    fail_call(c, BLX_E_TIMEOUT, "the deadline of the call passed; the outcome is unknown");
  else
    fail_call(c, BLX_E_INVALID, "the request did not arrive whole within 30 s");
  tell_gone(c, true);
}

/* One timer: until the request is whole it guards its arrival too. */
static void arm(struct blx__rpc_call *c, bool request_due) {
  uint64_t now = blx__loop_now_ms(c->conn->h2.loop);
  uint64_t after = request_due ? BLX__RPC_REQUEST_MS : 0;
  if (c->deadline_at_ms != 0) {
    uint64_t left = c->deadline_at_ms > now ? c->deadline_at_ms - now : 0;
    c->due_is_deadline = !request_due || left < after;
    if (c->due_is_deadline) after = left;
  } else if (!request_due) {
    if (c->timer) blx__timer_stop(c->timer);
    return;
  }
  if (!c->timer) c->timer = blx__timer_new(c->conn->h2.loop, on_time, c);
  if (c->timer)
    blx__timer_start(c->timer, after, 0);
  else
    fail_call(c, BLX_E_NOMEM, "no memory for the call's deadline");
}

void calls_tell_writable(struct connection *conn) {
  for (struct blx__list *n; (n = blx__list_first(&conn->writable)) != NULL;) {
    struct blx__rpc_call *c = BLX__CONTAINER(n, struct blx__rpc_call, writable_link);
    blx__list_remove(n);
    c->out.has_more = false;
    if (!c->finished && !c->gone && c->ops && c->ops->on_writable) c->ops->on_writable(c->user);
  }
}

/* ---- what the caller sends */

/* After bytes were read from: refuse what they broke, count what is kept of them. */
static void bytes_read(struct blx__rpc_call *c, bool held, blx__rc rc, const blx_error *err) {
  if (rc.code != 0)
    blx__rpc_call_finish(c, err);
  else if (!held)
    fail_call(c, BLX_E_NOMEM, "no memory for the request");
  hold(c, c->reader.kept.len + c->meta.len);
  if (c->conn->server->held_bytes > HELD_MAX_BYTES)
    fail_call(c, BLX_E_BUSY, "too many large requests are arriving at the same time: try again later");
}

/* The one request message of a call; a second one is an error. Both kinds begin once it is whole. */
static void request_bytes(struct blx__rpc_call *c, const uint8_t *p, size_t n) {
  blx_error err;
  blx__rc rc = BLX__OK;
  struct blx__slice message;
  bool held = reader_begin(&c->reader, p, n);
  if (held && reader_next(&c->reader, &message, &rc, &err)) {
    if (c->asked) {
      rc = blx__fail(&err, BLX_E_INVALID, "rpc", "the request has more than one message");
    } else {
      c->asked = true;
      arm(c, false);
      const struct blx__rpc_service *s = c->conn->server->service;
      s->on_call(s->user, c, message);
    }
  }
  if (held) held = reader_end(&c->reader);
  bytes_read(c, held, rc, &err);
}

static bool is_heard(const struct blx__rpc_call *c) {
  return c->receive && !c->in_paused && !c->finished && !c->gone;
}

/* Of a BIDI method: messages go to the method until it pauses. */
static void hear(struct blx__rpc_call *c, const uint8_t *p, size_t n) {
  blx_error err;
  blx__rc rc = BLX__OK;
  struct blx__slice message;
  bool held = reader_begin(&c->reader, p, n);
  while (held && is_heard(c) && reader_next(&c->reader, &message, &rc, &err))
    if (!c->receive->on_message(c->receive_user, message)) c->in_paused = true;
  if (held) held = reader_end(&c->reader);
  bytes_read(c, held, rc, &err);
}

/* A method that pauses keeps the window from its caller, who so comes to a stop. A half-received message needs it back:
 * it could not grow beyond the window otherwise. */
static void give_window(struct blx__rpc_call *c) {
  if (c->in_paused || c->unacked == 0) return;
  (void)nghttp2_session_consume_stream(c->conn->h2.session, c->stream_id, c->unacked);
  c->unacked = 0;
  h2_dirty(&c->conn->h2);
}

static void tell_half_close(struct blx__rpc_call *c) {
  if (!c->in_ended || c->end_told || !is_heard(c)) return;
  c->end_told = true;
  if (reader_is_partial(&c->reader))
    fail_call(c, BLX_E_INVALID, "the caller ended in the middle of a message");
  else if (c->receive->on_half_close)
    c->receive->on_half_close(c->receive_user);
}

/* A later turn: deliver what a pause held back, then the end if it came. */
static void on_turn(void *arg) {
  struct blx__rpc_call *c = arg;
  if (!is_heard(c)) return;
  blx__rpc_call_ref(c);
  hear(c, NULL, 0);
  give_window(c);
  tell_half_close(c);
  blx__rpc_call_unref(c);
}

void blx__rpc_call_receive(struct blx__rpc_call *c, const struct blx__rpc_receive_ops *ops, void *user) {
  BLX__ASSERT(!c->receive && ops->on_message);
  if (c->gone || c->finished) return;
  BLX__ASSERT(c->method->kind == BLX__RPC_BIDI);
  c->receive = ops;
  c->receive_user = user;
  blx__rpc_call_resume(c);
}

void blx__rpc_call_resume(struct blx__rpc_call *c) {
  if (!c->in_paused || c->gone || c->finished) return;
  c->in_paused = false;
  blx__loop_defer(c->conn->h2.loop, &c->turn);
}

/* ---- the request, as nghttp2 tells it */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
  struct h2 *h = user_data;
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  struct connection *conn = h->owner;
  struct blx__rpc_call *c = calloc(1, sizeof *c);
  if (!c) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  c->refs = 1;
  c->conn = conn;
  c->cred = conn->cred;
  c->stream_id = frame->hd.stream_id;
  blx__list_init(&c->writable_link);
  blx__list_push(&conn->calls, &c->link);
  conn->used = true;
  conn_busy(conn);
  blx__buf_init(&c->meta, BLX__RPC_HEADERS_MAX_BYTES);
  blx__defer_init(&c->turn, on_turn, c);
  writer_init(&c->out);
  reader_init(&c->reader);
  conn->server->stats.calls++;
  conn->server->stats.calls_seen++;
  (void)nghttp2_session_set_stream_user_data(session, c->stream_id, c);
  return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user_data) {
  (void)flags;
  (void)user_data;
  struct blx__rpc_call *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
  if (!c || c->headers_done) return 0;
  c->header_bytes += name_len + value_len + 32; /* as RFC 9113 counts them */
  if (c->header_bytes > BLX__RPC_HEADERS_MAX_BYTES) return 0;
  uint64_t timeout_ms = 0;
  if (bytes_are(name, name_len, ":path")) {
    c->path_long = value_len >= sizeof c->path;
    if (!c->path_long) memcpy(c->path, value, value_len);
  } else if (bytes_are(name, name_len, ":method")) {
    c->is_post = bytes_are(value, value_len, "POST");
  } else if (bytes_are(name, name_len, "content-type")) {
    c->is_grpc = is_grpc_type(value, value_len);
  } else if (bytes_are(name, name_len, "grpc-timeout")) {
    if (timeout_parse(value, value_len, &timeout_ms))
      c->deadline_at_ms = blx__loop_now_ms(c->conn->h2.loop) + timeout_ms;
  } else if (name_len > 0 && name[0] != ':') {
    bool kept = blx__buf_add(&c->meta, name, name_len) && blx__buf_add_byte(&c->meta, 0) &&
                blx__buf_add(&c->meta, value, value_len) && blx__buf_add_byte(&c->meta, 0);
    if (!kept) c->header_bytes = SIZE_MAX / 2;
  }
  return 0;
}

/* What is not gRPC at all is answered in HTTP. */
static void refuse_http(struct blx__rpc_call *c) {
  nghttp2_nv nv[1] = {nv_fixed(":status", c->is_post ? "415" : "405")};
  c->finished = c->headers_sent = true;
  (void)nghttp2_submit_response(c->conn->h2.session, c->stream_id, nv, 1, NULL);
  h2_dirty(&c->conn->h2);
}

static void headers_whole(struct blx__rpc_call *c) {
  struct blx__rpc_server *s = c->conn->server;
  c->headers_done = true;
  hold(c, c->meta.len);
  if (c->header_bytes > BLX__RPC_HEADERS_MAX_BYTES) {
    fail_call(c, BLX_E_INVALID, "the metadata of the call is over the limit of 16384 bytes");
    return;
  }
  if (!c->is_post || !c->is_grpc) {
    refuse_http(c);
    return;
  }
  c->method = c->path_long ? NULL : s->service->find(s->service->user, c->path);
  if (!c->method) {
    blx_error err;
    (void)blx__fail(&err, BLX_E_UNSUPPORTED, "rpc", "there is no method %s here",
                    c->path_long ? "of so long a name" : c->path);
    blx__rpc_call_finish(c, &err);
  } else if (s->closing) {
    fail_call(c, BLX_E_UNAVAILABLE, "the node is shutting down");
  } else if (c->method->kind == BLX__RPC_BIDI) {
    c->asked = c->in_paused = true;
    arm(c, false);
    if (!c->finished) s->service->on_call(s->service->user, c, (struct blx__slice){0});
  } else {
    arm(c, true);
  }
}

static void request_over(struct blx__rpc_call *c) {
  if (c->finished || c->gone) return;
  if (c->method->kind == BLX__RPC_BIDI) {
    c->in_ended = true;
    tell_half_close(c);
    return;
  }
  if (c->asked) return;
  if (reader_is_partial(&c->reader))
    fail_call(c, BLX_E_INVALID, "the request ends in the middle of its message");
  else
    fail_call(c, BLX_E_INVALID, "the request has no message");
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
  struct h2 *h = user_data;
  struct connection *conn = h->owner;
  if (!conn->settled && frame->hd.type == NGHTTP2_SETTINGS) {
    conn->settled = true;
    blx__timer_stop(conn->timer);
  }
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  struct blx__rpc_call *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
  if (!c) return 0;
  if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) headers_whole(c);
  if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) request_over(c);
  return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *p, size_t n,
                   void *user_data) {
  (void)flags;
  (void)user_data;
  (void)nghttp2_session_consume_connection(session, n);
  struct blx__rpc_call *c = nghttp2_session_get_stream_user_data(session, stream_id);
  if (!c || c->finished || c->gone || !c->method) {
    (void)nghttp2_session_consume_stream(session, stream_id, n);
    return 0;
  }
  c->unacked += n;
  if (c->method->kind == BLX__RPC_BIDI)
    hear(c, p, n);
  else
    request_bytes(c, p, n);
  give_window(c);
  return 0;
}

/* The answer is out while the request is not whole: tell the caller to stop, without an error. */
void calls_frame_sent(struct h2 *h, const nghttp2_frame *frame) {
  struct connection *conn = h->owner;
  int32_t id = frame->hd.stream_id;
  if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) conn->noisy = true;
  bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (frame->hd.type != NGHTTP2_HEADERS || !last) return;
  if (nghttp2_session_get_stream_remote_close(h->session, id) != 0) return;
  (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
  h2_dirty(h);
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user_data) {
  (void)user_data;
  struct blx__rpc_call *c = nghttp2_session_get_stream_user_data(session, stream_id);
  if (!c) return 0;
  (void)nghttp2_session_set_stream_user_data(session, stream_id, NULL);
  call_end(c, error_code == NGHTTP2_CANCEL);
  return 0;
}

void calls_set_callbacks(nghttp2_session_callbacks *cbs) {
  nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(cbs, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame_recv);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_stream_close);
}

/* ---- questions */

void blx__rpc_call_watch(struct blx__rpc_call *c, const struct blx__rpc_call_ops *ops, void *user) {
  c->ops = ops;
  c->user = user;
}

const struct blx__rpc_method *blx__rpc_call_method(const struct blx__rpc_call *c) {
  return c->method;
}

bool blx__rpc_call_is_over(const struct blx__rpc_call *c) {
  return c->gone || c->finished;
}

uint64_t blx__rpc_call_deadline_ms(const struct blx__rpc_call *c) {
  if (c->deadline_at_ms == 0) return 0;
  uint64_t now = c->conn ? blx__loop_now_ms(c->conn->h2.loop) : c->deadline_at_ms;
  return c->deadline_at_ms > now ? c->deadline_at_ms - now : 1;
}

struct blx__cred blx__rpc_call_cred(const struct blx__rpc_call *c) {
  return c->cred;
}

const char *blx__rpc_call_meta(const struct blx__rpc_call *c, const char *name) {
  const char *p = (const char *)c->meta.data, *end = p ? p + c->meta.len : p;
  while (p != end) {
    const char *value = p + strlen(p) + 1;
    if (strcmp(p, name) == 0) return value;
    p = value + strlen(value) + 1;
  }
  return NULL;
}
