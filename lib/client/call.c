#include "base/digest.h"
#include "client/client_int.h"

#include <stdlib.h>
#include <string.h>

static const char component[] = "client";

static void attempt(struct blx__client_call *call);

static void call_free(struct blx__client_call *call) {
  BLX__ASSERT(!call->pending);
  blx__loop_undefer(&call->told);
  blx__timer_free(call->timer);
  free(call->path);
  free(call->body);
  free(call->meta);
  free(call);
}

static void on_told(void *arg) {
  struct blx__client_call *call = arg;
  struct blx__rpc_result result = {.err = &call->last, .maybe_done = call->maybe_done};
  call->done(call->user, &result);
  client_call_gone(call);
  call_free(call);
}

/* The end with call->last, on a later turn. */
static void end(struct blx__client_call *call) {
  if (call->ended) return;
  call->ended = true;
  blx__timer_stop(call->timer);
  blx__loop_defer(call->client->loop, &call->told);
}

void call_cancel(struct blx__client_call *call) {
  if (call->cancelled || call->ended) return;
  call->cancelled = true;
  if (call->pending) {
    blx__rpc_cancel(call->pending);
    return;
  }
  (void)blx__fail(&call->last, BLX_E_CANCELLED, component, "the call was cancelled");
  end(call);
}

void blx__client_cancel(struct blx__client_call *call) {
  call_cancel(call);
}

void blx__client_resume(struct blx__client_call *call) {
  if (call->pending) blx__rpc_resume(call->pending);
}

bool blx__client_send(struct blx__client_call *call, const void *message, size_t size) {
  BLX__ASSERT(call->bidi);
  if (call->ended || call->cancelled) return true;
  if (call->begun && call->pending) return blx__rpc_send(call->pending, message, size);
  call->writable = true;
  return false;
}

static uint64_t left_ms(const struct blx__client_call *call) {
  uint64_t now = blx__loop_now_ms(call->client->loop);
  return call->deadline_at_ms > now ? call->deadline_at_ms - now : 0;
}

/* Each address is asked once without a wait; then exponential, with half of it random so that many callers of a dead
 * leader do not come back together. */
static uint64_t backoff_ms(struct blx__client_call *call) {
  struct blx__client *c = call->client;
  if (call->failures < c->target_count) return 0;
  unsigned round = call->failures - (unsigned)c->target_count;
  uint64_t ms = BLX__CLIENT_BACKOFF_MAX_MS;
  if (round < 6 && (uint64_t)BLX__CLIENT_BACKOFF_MIN_MS << round < ms)
    ms = (uint64_t)BLX__CLIENT_BACKOFF_MIN_MS << round;
  c->salt = blx__mix64(c->salt + call->attempts);
  return ms / 2 + c->salt % (ms / 2 + 1);
}

static bool may_retry(const blx_error *err) {
  return err->code == BLX_E_NO_LEADER || err->code == BLX_E_UNAVAILABLE;
}

/* The stream's next request comes from its user; false: it ends. */
static bool stream_goes_on(struct blx__client_call *call) {
  struct blx__buf request;
  if (call->bidi) return !call->maybe_done;
  if (!call->ops->on_resume) return false;
  blx__buf_init(&request, BLX__RPC_MESSAGE_MAX_BYTES);
  bool on = call->ops->on_resume(call->user, &call->last, &request);
  if (on) {
    call->client->call_bytes = call->client->call_bytes - call->body_len + request.len;
    free(call->body);
    call->body = request.data;
    call->body_len = request.len;
  } else {
    blx__buf_free(&request);
  }
  return on;
}

/* Nobody was there the first time, nor since, for long enough. */
static bool nobody_there(const struct blx__client_call *call) {
  return !call->reached && blx__loop_now_ms(call->client->loop) - call->began_ms >= BLX__CLIENT_NOBODY_MS;
}

/* Try again, or end with call->last. */
static void failed(struct blx__client_call *call) {
  struct blx__client *c = call->client;
  call->failures++;
  bool late = call->deadline_at_ms != 0 && left_ms(call) == 0;
  if (call->cancelled || !may_retry(&call->last) || late || nobody_there(call) ||
      (call->stream && !stream_goes_on(call)) || call->cancelled) {
    end(call);
    return;
  }
  client_move(c, call->target, call->last.leader);
  uint64_t wait = backoff_ms(call);
  if (call->deadline_at_ms != 0 && wait >= left_ms(call)) {
    end(call); /* what is known now says more than "the deadline passed" */
    return;
  }
  blx__log(c->log, BLX_LOG_DEBUG, component, "attempt %u of %s failed (%s), the next in %llu ms", call->attempts,
           call->path, call->last.message, (unsigned long long)wait);
  blx__timer_start(call->timer, wait, 0);
}

static void on_attempt_done(void *user, const struct blx__rpc_result *result) {
  struct blx__client_call *call = user;
  call->pending = NULL;
  if (!result->err) {
    call->ended = true;
    call->done(call->user, result);
    client_call_gone(call);
    call_free(call);
    return;
  }
  call->last = *result->err;
  if (result->maybe_done || result->err->code != BLX_E_UNAVAILABLE) call->reached = true;
  call->maybe_done = call->maybe_done || result->maybe_done;
  failed(call);
}

static bool on_stream_message(void *user, struct blx__slice message) {
  struct blx__client_call *call = user;
  call->failures = 0;
  call->reached = true;
  return call->ops->on_message(call->user, message);
}

static const struct blx__rpc_stream_ops stream_ops = {on_stream_message, on_attempt_done};

static void on_bidi_writable(void *user) {
  struct blx__client_call *call = user;
  if (call->ops->on_writable) call->ops->on_writable(call->user);
}

static bool on_bidi_message(void *user, struct blx__slice message) {
  struct blx__client_call *call = user;
  call->begun = true;
  bool on = on_stream_message(user, message);
  bool writable = call->writable && !call->cancelled;
  call->writable = false;
  if (writable) on_bidi_writable(call);
  return on;
}

static const struct blx__rpc_bidi_ops bidi_ops = {{on_bidi_message, on_attempt_done}, on_bidi_writable};

static blx__rc attempt_bidi(struct blx__client_call *call, struct blx__rpc_conn *conn, struct blx__rpc_request r) {
  struct blx__slice first = r.body;
  r.body = (struct blx__slice){0};
  BLX__TRY(blx__rpc_bidi(conn, &r, &bidi_ops, call, &call->pending, &call->last));
  (void)blx__rpc_send(call->pending, first.data, first.len);
  return BLX__OK;
}

static void attempt(struct blx__client_call *call) {
  struct blx__client *c = call->client;
  struct blx__rpc_request r = {
      .path = call->path, .body = {call->body, call->body_len}, .meta = call->meta, .meta_count = call->meta_count};
  if (call->deadline_at_ms != 0) r.deadline_ms = left_ms(call) > 0 ? left_ms(call) : 1;
  call->attempts++;
  call->target = c->current;
  struct blx__rpc_conn *conn = c->targets[call->target].conn;
  blx__rc rc = call->bidi     ? attempt_bidi(call, conn, r)
               : call->stream ? blx__rpc_stream(conn, &r, &stream_ops, call, &call->pending, &call->last)
                              : blx__rpc_unary(conn, &r, on_attempt_done, call, &call->pending, &call->last);
  if (rc.code != 0) end(call);
}

static void on_timer(void *arg) {
  attempt(arg);
}

/* ---- a new call */

/* The array and its strings in one block. */
static bool meta_copy(struct blx__client_call *call, const struct blx__rpc_request *r) {
  if (r->meta_count == 0) return true;
  size_t bytes = r->meta_count * sizeof *call->meta;
  for (size_t i = 0; i < r->meta_count; i++) bytes += strlen(r->meta[i].name) + strlen(r->meta[i].value) + 2;
  call->meta = malloc(bytes);
  if (!call->meta) return false;
  char *at = (char *)(call->meta + r->meta_count);
  for (size_t i = 0; i < r->meta_count; i++) {
    const char *from[2] = {r->meta[i].name, r->meta[i].value};
    const char *to[2];
    for (int k = 0; k < 2; k++) {
      size_t n = strlen(from[k]) + 1;
      to[k] = memcpy(at, from[k], n);
      at += n;
    }
    call->meta[i] = (struct blx__rpc_meta){to[0], to[1]};
  }
  call->meta_count = r->meta_count;
  return true;
}

static bool request_copy(struct blx__client_call *call, const struct blx__rpc_request *r) {
  call->path = strdup(r->path);
  call->body = malloc(r->body.len ? r->body.len : 1);
  call->timer = blx__timer_new(call->client->loop, on_timer, call);
  if (!call->path || !call->body || !call->timer || !meta_copy(call, r)) return false;
  if (r->body.len) memcpy(call->body, r->body.data, r->body.len);
  call->body_len = r->body.len;
  return true;
}

static blx__rc check(const struct blx__client *c, const struct blx__rpc_request *r, blx_error *err) {
  if (c->closing) return blx__fail(err, BLX_E_CANCELLED, component, "the client is closing");
  if (r->meta_count > BLX__RPC_META_MAX)
    return blx__fail(err, BLX_E_INVALID, component, "the metadata of a call has at most %d entries", BLX__RPC_META_MAX);
  if (r->body.len > BLX__RPC_MESSAGE_MAX_BYTES)
    return blx__fail(err, BLX_E_INVALID, component, "the request has %zu bytes, over the limit of %d", r->body.len,
                     BLX__RPC_MESSAGE_MAX_BYTES);
  if (c->call_count >= BLX__CLIENT_CALLS_MAX || c->call_bytes + r->body.len > BLX__CLIENT_BYTES_MAX)
    return blx__fail(err, BLX_E_BUSY, component, "%zu calls with %zu bytes are under way: try again later",
                     c->call_count, c->call_bytes);
  return BLX__OK;
}

static blx__rc call_new(struct blx__client *c, const struct blx__rpc_request *r, struct blx__client_call **out,
                        blx_error *err) {
  BLX__TRY(check(c, r, err));
  struct blx__client_call *call = calloc(1, sizeof *call);
  if (!call) return blx__fail(err, BLX_E_NOMEM, component, "no memory for a call");
  call->client = c;
  call->began_ms = blx__loop_now_ms(c->loop);
  blx__defer_init(&call->told, on_told, call);
  if (!request_copy(call, r)) {
    call_free(call);
    return blx__fail(err, BLX_E_NOMEM, component, "no memory for a call");
  }
  if (r->deadline_ms > 0) call->deadline_at_ms = blx__loop_now_ms(c->loop) + r->deadline_ms;
  blx__list_push(&c->calls, &call->link);
  c->call_count++;
  c->call_bytes += call->body_len;
  *out = call;
  return BLX__OK;
}

blx__rc blx__client_call(struct blx__client *c, const struct blx__rpc_request *request, blx__rpc_done_fn *done,
                         void *user, struct blx__client_call **out, blx_error *err) {
  struct blx__rpc_request r = *request;
  struct blx__client_call *call = NULL;
  if (r.deadline_ms == 0) r.deadline_ms = BLX__CLIENT_DEADLINE_MS;
  BLX__TRY(call_new(c, &r, &call, err));
  call->done = done;
  call->user = user;
  if (out) *out = call;
  attempt(call);
  return BLX__OK;
}

static void stream_begin(struct blx__client_call *call, bool bidi, const struct blx__client_stream_ops *ops, void *user,
                         struct blx__client_call **out) {
  call->stream = true;
  call->bidi = bidi;
  call->ops = ops;
  call->done = ops->on_done;
  call->user = user;
  if (out) *out = call;
  attempt(call);
}

blx__rc blx__client_stream(struct blx__client *c, const struct blx__rpc_request *request,
                           const struct blx__client_stream_ops *ops, void *user, struct blx__client_call **out,
                           blx_error *err) {
  struct blx__client_call *call = NULL;
  BLX__TRY(call_new(c, request, &call, err));
  stream_begin(call, false, ops, user, out);
  return BLX__OK;
}

blx__rc blx__client_bidi(struct blx__client *c, const struct blx__rpc_request *request,
                         const struct blx__client_stream_ops *ops, void *user, struct blx__client_call **out,
                         blx_error *err) {
  struct blx__client_call *call = NULL;
  BLX__TRY(call_new(c, request, &call, err));
  stream_begin(call, true, ops, user, out);
  return BLX__OK;
}
