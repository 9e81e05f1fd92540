#include "rpc/conn_int.h"

#include <stdlib.h>

/* ---- the end of a call */

static void pending_free(struct blx__rpc_pending *p) {
  struct blx__rpc_conn *c = p->conn;
  BLX__ASSERT(!p->link);
  blx__list_remove(&p->in_conn);
  blx__loop_undefer(&p->turn);
  blx__timer_free(p->timer);
  c->pending_count--;
  c->pending_bytes -= p->body_len;
  c->bidi_count -= p->bidi != NULL;
  reader_free(&p->reader);
  writer_free(&p->out);
  free(p->body);
  free(p->response);
  free(p);
  conn_maybe_closed(c);
}

/* Leave the stream; nghttp2 then knows nothing of the call any more. */
static void detach(struct blx__rpc_pending *p, uint32_t reset_code) {
  if (!p->link) return;
  nghttp2_session *session = p->link->h2.session;
  if (session && !p->link->h2.closing) {
    (void)nghttp2_session_set_stream_user_data(session, p->stream_id, NULL);
    if (reset_code != NGHTTP2_NO_ERROR)
      (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, p->stream_id, reset_code);
    (void)nghttp2_session_consume_stream(session, p->stream_id, p->unacked);
    h2_dirty(&p->link->h2);
  }
  blx__list_remove(&p->in_link);
  p->link = NULL;
}

/* What the other side's last words mean. */
static void judge(struct blx__rpc_pending *p) {
  struct status_seen *s = &p->seen;
  if (s->status == 0 && p->unary && p->messages != 1) {
    p->failed = true;
    (void)blx__fail(&p->err, BLX_E_INTERNAL, "rpc", "the answer has %d messages instead of one", p->messages);
  }
  if (s->status <= 0) return;
  p->failed = true;
  p->err = s->err;
  p->err.code = s->has_code ? s->err.code : code_of_grpc(s->status);
  if (!p->err.message[0]) (void)blx__str_copy(p->err.message, sizeof p->err.message, blx_error_text(p->err.code));
  if (!p->err.origin[0]) (void)blx__str_copy(p->err.origin, sizeof p->err.origin, "server");
}

void pending_end(struct blx__rpc_pending *p, const blx_error *err) {
  if (p->ended) return;
  p->ended = true;
  detach(p, err ? NGHTTP2_CANCEL : NGHTTP2_NO_ERROR);
  blx__timer_free(p->timer);
  p->timer = NULL;
  if (err) {
    p->failed = p->drop = true;
    p->err = *err;
  } else {
    judge(p);
  }
  if (!p->paused) blx__loop_defer(p->conn->loop, &p->turn);
}

static void end_with(struct blx__rpc_pending *p, int code, const char *text) {
  blx_error err;
  (void)blx__fail(&err, code, "rpc", "%s", text);
  pending_end(p, &err);
}

/* ---- messages */

/* One message; false: stop here. */
static bool take(struct blx__rpc_pending *p, struct blx__slice message) {
  p->messages++;
  if (p->unary) {
    if (p->messages > 1) return true; /* judged at the end */
    p->response = malloc(message.len ? message.len : 1);
    if (!p->response) {
      end_with(p, BLX_E_NOMEM, "no memory for the answer");
      return false;
    }
    if (message.len) memcpy(p->response, message.data, message.len);
    p->response_len = message.len;
    return true;
  }
  if (!p->ops->on_message(p->user, message)) p->paused = true;
  return true;
}

static void read_messages(struct blx__rpc_pending *p, const uint8_t *bytes, size_t n) {
  blx_error err;
  blx__rc rc = BLX__OK;
  struct blx__slice message;
  bool ok = reader_begin(&p->reader, bytes, n);
  while (ok && !p->paused && !p->drop && reader_next(&p->reader, &message, &rc, &err))
    if (!take(p, message)) break;
  if (ok) ok = reader_end(&p->reader);
  if (rc.code != 0)
    pending_end(p, &err);
  else if (!ok)
    end_with(p, BLX_E_NOMEM, "no memory for the answer");
}

/* The window is given back only while the reader takes, so a paused one stops the sender; but also for a message that
 * is half received, which could not grow beyond the window otherwise. */
static void give_window(struct blx__rpc_pending *p) {
  if (!p->link || p->paused || p->unacked == 0) return;
  (void)nghttp2_session_consume_stream(p->link->h2.session, p->stream_id, p->unacked);
  p->unacked = 0;
  h2_dirty(&p->link->h2);
}

/* A later turn: tell of room, deliver what a pause held back, then the end if it came. */
static void on_turn(void *arg) {
  struct blx__rpc_pending *p = arg;
  bool writable = p->writable && !p->ended;
  p->writable = false;
  if (writable && p->bidi->on_writable) p->bidi->on_writable(p->user);
  if (!p->drop) read_messages(p, NULL, 0);
  if (p->paused) return;
  give_window(p);
  if (!p->ended) return;
  if (!p->failed && !p->drop && reader_is_partial(&p->reader)) {
    p->failed = true;
    (void)blx__fail(&p->err, BLX_E_INTERNAL, "rpc", "the answer ends in the middle of a message");
  }
  struct blx__rpc_result result = {.maybe_done = p->failed && p->maybe_done};
  if (p->failed)
    result.err = &p->err;
  else if (p->unary)
    result.response = (struct blx__slice){p->response, p->response_len};
  p->done(p->user, &result);
  pending_free(p);
}

void blx__rpc_resume(struct blx__rpc_pending *p) {
  if (!p->paused) return;
  p->paused = false;
  blx__loop_defer(p->conn->loop, &p->turn);
}

void blx__rpc_cancel(struct blx__rpc_pending *p) {
  p->paused = false;
  if (p->ended) {
    /* Its end is known and waits to be told: who cancels first hears of the cancellation only. */
    p->failed = p->drop = true;
    (void)blx__fail(&p->err, BLX_E_CANCELLED, "rpc", "the call was cancelled");
    blx__loop_defer(p->conn->loop, &p->turn);
    return;
  }
  end_with(p, BLX_E_CANCELLED, "the call was cancelled");
}

static void on_deadline(void *arg) {
  struct blx__rpc_pending *p = arg;
  p->paused = false;
  end_with(p, BLX_E_TIMEOUT,
           p->maybe_done ? "no answer within the deadline; the outcome is unknown"
                         : "the request could not be sent within the deadline");
}

/* ---- nghttp2's callbacks */

static struct blx__rpc_pending *pending_of(nghttp2_session *session, int32_t stream_id) {
  return nghttp2_session_get_stream_user_data(session, stream_id);
}

static ssize_t body_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length, uint32_t *flags,
                         nghttp2_data_source *source, void *user_data) {
  (void)source;
  (void)user_data;
  struct blx__rpc_pending *p = pending_of(session, stream_id);
  if (!p) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  size_t n = p->body_len - p->body_at < length ? p->body_len - p->body_at : length;
  memcpy(buf, p->body + p->body_at, n);
  p->body_at += n;
  if (p->body_at == p->body_len) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    p->maybe_done = true;
  }
  return (ssize_t)n;
}

/* The messages of a bidirectional call, as they come. */
static ssize_t out_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length, uint32_t *flags,
                        nghttp2_data_source *source, void *user_data) {
  (void)source;
  (void)user_data;
  struct blx__rpc_pending *p = pending_of(session, stream_id);
  if (!p) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  size_t n = writer_take(&p->out, buf, length);
  p->maybe_done = p->maybe_done || n > 0;
  if (writer_calls_for_more(&p->out)) {
    p->out.has_more = false;
    p->writable = true;
    blx__loop_defer(p->conn->loop, &p->turn);
  }
  bool last = p->half_closed && writer_queued(&p->out) == 0;
  if (last) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return n > 0 || last ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user_data) {
  (void)flags;
  (void)user_data;
  struct blx__rpc_pending *p = pending_of(session, frame->hd.stream_id);
  if (!p) return 0;
  if (bytes_are(name, name_len, ":status") && value_len == 3)
    p->http_status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
  else if (bytes_are(name, name_len, "content-type"))
    p->is_grpc = is_grpc_type(value, value_len);
  else
    status_seen(&p->seen, name, name_len, value, value_len);
  return 0;
}

/* An answer that is not gRPC, from something else that listens there. */
static int code_of_http(int status) {
  switch (status) {
  case 401:
  case 403: return BLX_E_DENIED;
  case 404:
  case 405:
  case 415: return BLX_E_UNSUPPORTED;
  case 429:
  case 502:
  case 503:
  case 504: return BLX_E_UNAVAILABLE;
  default: return BLX_E_INTERNAL;
  }
}

static void check_http(struct blx__rpc_pending *p) {
  if (p->ended || p->http_status / 100 == 1) return;
  if (p->http_status == 200 && p->is_grpc) return;
  blx_error err;
  (void)blx__fail(&err, p->http_status == 200 ? BLX_E_INTERNAL : code_of_http(p->http_status), "rpc",
                  "%s answered HTTP status %d without gRPC: is it a Blixard node?", p->conn->path, p->http_status);
  pending_end(p, &err);
}

static void stream_over(struct blx__rpc_pending *p, uint32_t error_code) {
  if (p->seen.status >= 0) {
    pending_end(p, NULL);
    return;
  }
  blx_error err;
  if (error_code == NGHTTP2_REFUSED_STREAM) {
    p->maybe_done = false;
    (void)blx__fail(&err, BLX_E_UNAVAILABLE, "rpc", "%s takes no more calls: ask another node", p->conn->path);
  } else {
    (void)blx__fail(&err, BLX_E_UNAVAILABLE, "rpc", "%s ended the call without a status: %s", p->conn->path,
                    nghttp2_http2_strerror(error_code));
  }
  pending_end(p, &err);
}

/* The answer is whole while the request is not: the rest of it is of no use to anybody. A server need not say so. */
static void answer_over(struct blx__rpc_pending *p, nghttp2_session *session) {
  int32_t id = p->stream_id;
  if (p->ended || nghttp2_session_get_stream_local_close(session, id) != 0) return;
  stream_over(p, NGHTTP2_NO_ERROR);
  (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
  struct h2 *h = user_data;
  struct link *link = h->owner;
  if (frame->hd.type == NGHTTP2_GOAWAY && link->conn->link == link) link->conn->link = NULL;
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  struct blx__rpc_pending *p = pending_of(session, frame->hd.stream_id);
  if (!p) return 0;
  if (frame->hd.type == NGHTTP2_HEADERS) check_http(p);
  if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) answer_over(p, session);
  return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *bytes, size_t n,
                   void *user_data) {
  (void)flags;
  (void)user_data;
  (void)nghttp2_session_consume_connection(session, n);
  struct blx__rpc_pending *p = pending_of(session, stream_id);
  if (!p || p->ended) {
    (void)nghttp2_session_consume_stream(session, stream_id, n);
    return 0;
  }
  p->unacked += n;
  read_messages(p, bytes, n);
  give_window(p);
  return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user_data) {
  (void)user_data;
  struct blx__rpc_pending *p = pending_of(session, stream_id);
  if (p) stream_over(p, error_code);
  return 0;
}

void pendings_set_callbacks(nghttp2_session_callbacks *cbs) {
  nghttp2_session_callbacks_set_on_header_callback(cbs, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame_recv);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_stream_close);
}

/* ---- the beginning of a call */

static blx__rc check_request(const struct blx__rpc_conn *c, const struct blx__rpc_request *r, blx_error *err) {
  if (c->closing) return blx__fail(err, BLX_E_CANCELLED, "rpc", "the connection to %s is closing", c->path);
  if (r->body.len > BLX__RPC_MESSAGE_MAX_BYTES)
    return blx__fail(err, BLX_E_INVALID, "rpc", "the request has %zu bytes, over the limit of %d", r->body.len,
                     BLX__RPC_MESSAGE_MAX_BYTES);
  size_t header_bytes = strlen(r->path);
  for (size_t i = 0; i < r->meta_count && i < BLX__RPC_META_MAX; i++) {
    const char *name = r->meta[i].name, *value = r->meta[i].value;
    if (!nghttp2_check_header_name((const uint8_t *)name, strlen(name)) ||
        !nghttp2_check_header_value((const uint8_t *)value, strlen(value)))
      return blx__fail(err, BLX_E_INVALID, "rpc", "the metadata %s is not a lower-case name with printable text", name);
    header_bytes += strlen(name) + strlen(value) + 32;
  }
  if (r->meta_count > BLX__RPC_META_MAX || header_bytes > BLX__RPC_HEADERS_MAX_BYTES - 1024)
    return blx__fail(err, BLX_E_INVALID, "rpc", "the metadata of a call has at most %d entries and %d bytes",
                     BLX__RPC_META_MAX, BLX__RPC_HEADERS_MAX_BYTES - 1024);
  if (c->pending_count >= BLX__RPC_PENDING_MAX ||
      c->pending_bytes > BLX__RPC_PENDING_BYTES_MAX - r->body.len - FRAME_HEAD_BYTES)
    return blx__fail(err, BLX_E_BUSY, "rpc", "%zu calls with %zu bytes are under way to %s: try again later",
                     c->pending_count, c->pending_bytes, c->path);
  return BLX__OK;
}

static blx__rc submit(struct blx__rpc_pending *p, const struct blx__rpc_request *r, blx_error *err) {
  struct link *link = NULL;
  BLX__TRY(conn_link(p->conn, &link, err));
  nghttp2_nv nv[8 + BLX__RPC_META_MAX] = {
      nv_fixed(":method", "POST"),         nv_fixed(":scheme", "http"), nv_fixed(":path", r->path),
      nv_fixed(":authority", "localhost"), nv_fixed("te", "trailers"),  nv_fixed("content-type", "application/grpc"),
      nv_fixed("user-agent", "blixard")};
  size_t n = 7;
  char timeout[TIMEOUT_TEXT_BYTES];
  timeout_format(r->deadline_ms, timeout);
  if (r->deadline_ms > 0) nv[n++] = nv_of("grpc-timeout", timeout, strlen(timeout));
  for (size_t i = 0; i < r->meta_count; i++)
    nv[n++] = nv_of(r->meta[i].name, r->meta[i].value, strlen(r->meta[i].value));
  nghttp2_data_provider data = {.source.ptr = p, .read_callback = p->bidi ? out_read : body_read};
  int32_t id = nghttp2_submit_request(link->h2.session, NULL, nv, n, &data, p);
  if (id < 0) return blx__fail(err, BLX_E_UNAVAILABLE, "rpc", "cannot begin a call: %s", nghttp2_strerror(id));
  p->stream_id = id;
  p->link = link;
  blx__list_push(&link->calls, &p->in_link);
  h2_dirty(&link->h2);
  return BLX__OK;
}

static blx__rc pending_new(struct blx__rpc_conn *c, const struct blx__rpc_request *r, struct blx__rpc_pending **out,
                           blx_error *err) {
  BLX__TRY(check_request(c, r, err));
  struct blx__rpc_pending *p = calloc(1, sizeof *p);
  uint8_t *body = malloc(FRAME_HEAD_BYTES + r->body.len);
  struct blx__timer *timer = NULL;
  if (p && r->deadline_ms > 0) timer = blx__timer_new(c->loop, on_deadline, p);
  if (!p || !body || (r->deadline_ms > 0 && !timer)) {
    free(p);
    free(body);
    return blx__fail(err, BLX_E_NOMEM, "rpc", "no memory for a call");
  }
  frame_head(body, r->body.len);
  if (r->body.len) memcpy(body + FRAME_HEAD_BYTES, r->body.data, r->body.len);
  p->conn = c;
  p->body = body;
  p->body_len = FRAME_HEAD_BYTES + r->body.len;
  p->seen.status = -1;
  p->timer = timer;
  reader_init(&p->reader);
  writer_init(&p->out);
  blx__list_init(&p->in_link);
  blx__list_push(&c->pendings, &p->in_conn);
  blx__defer_init(&p->turn, on_turn, p);
  if (c->pending_count++ == 0) conn_watch(c);
  c->pending_bytes += p->body_len;
  if (timer) blx__timer_start(timer, r->deadline_ms, 0);
  *out = p;
  return BLX__OK;
}

/* Nobody there is an end of the call like any other, told on a later turn. */
static void start(struct blx__rpc_pending *p, const struct blx__rpc_request *r, struct blx__rpc_pending **out) {
  blx_error err;
  if (submit(p, r, &err).code != 0) pending_end(p, &err);
  if (out) *out = p;
}

blx__rc blx__rpc_unary(struct blx__rpc_conn *c, const struct blx__rpc_request *request, blx__rpc_done_fn *done,
                       void *user, struct blx__rpc_pending **out, blx_error *err) {
  struct blx__rpc_pending *p = NULL;
  BLX__TRY(pending_new(c, request, &p, err));
  p->unary = true;
  p->done = done;
  p->user = user;
  start(p, request, out);
  return BLX__OK;
}

blx__rc blx__rpc_stream(struct blx__rpc_conn *c, const struct blx__rpc_request *request,
                        const struct blx__rpc_stream_ops *ops, void *user, struct blx__rpc_pending **out,
                        blx_error *err) {
  struct blx__rpc_pending *p = NULL;
  BLX__TRY(pending_new(c, request, &p, err));
  p->ops = ops;
  p->done = ops->on_done;
  p->user = user;
  start(p, request, out);
  return BLX__OK;
}

blx__rc blx__rpc_bidi(struct blx__rpc_conn *c, const struct blx__rpc_request *request,
                      const struct blx__rpc_bidi_ops *ops, void *user, struct blx__rpc_pending **out, blx_error *err) {
  BLX__ASSERT(request->body.len == 0 && ops->in.on_message && ops->in.on_done);
  struct blx__rpc_pending *p = NULL;
  if (c->bidi_count >= BLX__RPC_BIDI_MAX)
    return blx__fail(err, BLX_E_BUSY, "rpc", "%zu bidirectional calls are under way to %s: try again later",
                     c->bidi_count, c->path);
  BLX__TRY(pending_new(c, request, &p, err));
  c->bidi_count++;
  p->bidi = ops;
  p->ops = &ops->in;
  p->done = ops->in.on_done;
  p->user = user;
  start(p, request, out);
  return BLX__OK;
}

/* ---- the caller's messages */

static void send_more(struct blx__rpc_pending *p) {
  if (!p->link || p->link->h2.closing) return;
  (void)nghttp2_session_resume_data(p->link->h2.session, p->stream_id);
  h2_dirty(&p->link->h2);
}

bool blx__rpc_send(struct blx__rpc_pending *p, const void *message, size_t size) {
  BLX__ASSERT(p->bidi && !p->half_closed);
  if (p->ended) return true;
  if (size > BLX__RPC_MESSAGE_MAX_BYTES) {
    end_with(p, BLX_E_INVALID, "a message is over the limit of 4 MiB: send less at a time");
    return true;
  }
  if (!writer_has_room(&p->out, size)) return false;
  if (writer_add(&p->out, message, size))
    send_more(p);
  else
    end_with(p, BLX_E_NOMEM, "no memory for a message");
  return true;
}

void blx__rpc_half_close(struct blx__rpc_pending *p) {
  BLX__ASSERT(p->bidi);
  if (p->half_closed) return;
  p->half_closed = true;
  send_more(p);
}
