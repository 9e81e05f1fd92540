#include "rpc/rpc_int.h"

enum {
  OUT_QUEUE_MAX_BYTES = 256 * 1024, /* of the stream; on_writable comes at half */
  PULL_UNTIL_BYTES = 128 * 1024,    /* take no more frames from nghttp2 while so much waits */
  GATHER_BYTES = 48 * 1024          /* one write for many small frames */
};

static void on_bytes(void *user, const uint8_t *p, size_t n) {
  struct h2 *h = user;
  ssize_t r = nghttp2_session_mem_recv(h->session, p, n);
  if (r >= 0) {
    h2_dirty(h);
    return;
  }
  blx_error why;
  h->rude = true;
  (void)blx__fail(&why, BLX_E_UNAVAILABLE, "rpc", "the other side does not speak HTTP/2 as it should: %s",
                  nghttp2_strerror((int)r));
  h2_close(h, &why);
}

static void on_writable(void *user) {
  h2_dirty(user);
}

static void on_stream_closed(void *user, const blx_error *why) {
  struct h2 *h = user;
  h->closing = true;
  blx__loop_undefer(&h->flush);
  h->stream = NULL;
  if (why && !h->broken) {
    h->broken = true;
    h->why = *why;
  }
  nghttp2_session_del(h->session); /* closes no stream: the owner ends its calls by its own list */
  h->session = NULL;
  h->ops->on_closed(h->owner, h->broken ? &h->why : NULL);
}

static const struct blx__stream_ops stream_ops = {NULL, on_bytes, on_writable, on_stream_closed};

/* Up to GATHER_BYTES of frames into @buf; returns how many, -1 when the session broke. */
static ssize_t gather(struct h2 *h, uint8_t *buf) {
  size_t used = 0;
  for (;;) {
    const uint8_t *p = NULL;
    ssize_t n = nghttp2_session_mem_send(h->session, &p);
    if (n < 0) {
      blx_error why;
      (void)blx__fail(&why, BLX_E_UNAVAILABLE, "rpc", "HTTP/2 failed: %s", nghttp2_strerror((int)n));
      h2_close(h, &why);
      return -1;
    }
    /* A frame is at most 16 KiB and its head; the loop leaves room for one more. */
    BLX__ASSERT((size_t)n <= GATHER_BYTES - used);
    if (n > 0) memcpy(buf + used, p, (size_t)n);
    used += (size_t)n;
    if (n == 0 || GATHER_BYTES - used < 16384 + 9) return (ssize_t)used;
  }
}

static void flush(void *arg) {
  struct h2 *h = arg;
  uint8_t buf[GATHER_BYTES];
  while (!h->closing && blx__stream_queued(h->stream) < PULL_UNTIL_BYTES) {
    ssize_t n = gather(h, buf);
    if (n < 0) return;
    if (n == 0) break;
    bool taken = blx__stream_write(h->stream, buf, (size_t)n);
    BLX__ASSERT(taken);
  }
  if (h->closing) return;
  if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session)) {
    h->closing = true;
    blx__stream_finish(h->stream);
    return;
  }
  if (h->ops->on_flushed) h->ops->on_flushed(h->owner);
}

static blx__rc session_new(struct h2 *h, bool server, blx_error *err) {
  nghttp2_session_callbacks *cbs = NULL;
  nghttp2_option *opt = NULL;
  int e = nghttp2_session_callbacks_new(&cbs);
  if (e == 0) e = nghttp2_option_new(&opt);
  if (e == 0) {
    h->ops->set_callbacks(cbs);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_stream_reset_rate_limit(opt, RESET_BURST, RESET_RATE);
    nghttp2_option_set_max_send_header_block_length(opt, 65536);
    e = server ? nghttp2_session_server_new2(&h->session, cbs, h, opt)
               : nghttp2_session_client_new2(&h->session, cbs, h, opt);
  }
  nghttp2_option_del(opt);
  nghttp2_session_callbacks_del(cbs);
  nghttp2_settings_entry iv[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, BLX__RPC_STREAMS_MAX},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, BLX__RPC_HEADERS_MAX_BYTES},
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
  };
  if (e == 0) e = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, iv, server ? 3 : 4);
  if (e == 0) e = nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW_BYTES);
  if (e == 0) return BLX__OK;
  nghttp2_session_del(h->session);
  h->session = NULL;
  return blx__fail(err, BLX_E_NOMEM, "rpc", "cannot begin an HTTP/2 session: %s", nghttp2_strerror(e));
}

static void begin(struct h2 *h, struct blx__loop *loop, const struct h2_ops *ops, void *owner) {
  *h = (struct h2){.loop = loop, .ops = ops, .owner = owner};
  blx__defer_init(&h->flush, flush, h);
}

blx__rc h2_accept(struct h2 *h, struct blx__loop *loop, struct blx__stream *s, const struct h2_ops *ops, void *owner,
                  blx_error *err) {
  begin(h, loop, ops, owner);
  blx__rc rc = session_new(h, true, err);
  if (rc.code != 0) {
    blx__stream_close(s);
    return rc;
  }
  h->stream = s;
  blx__stream_queue_max(s, OUT_QUEUE_MAX_BYTES);
  blx__stream_attach(s, &stream_ops, h);
  h2_dirty(h);
  return BLX__OK;
}

blx__rc h2_connect(struct h2 *h, struct blx__loop *loop, const char *path, const struct h2_ops *ops, void *owner,
                   blx_error *err) {
  begin(h, loop, ops, owner);
  BLX__TRY(session_new(h, false, err));
  blx__rc rc = blx__stream_connect(loop, path, &stream_ops, h, &h->stream, err);
  if (rc.code != 0) {
    nghttp2_session_del(h->session);
    h->session = NULL;
    return rc;
  }
  blx__stream_queue_max(h->stream, OUT_QUEUE_MAX_BYTES);
  h2_dirty(h);
  return BLX__OK;
}

void h2_dirty(struct h2 *h) {
  if (!h->closing) blx__loop_defer(h->loop, &h->flush);
}

void h2_close(struct h2 *h, const blx_error *why) {
  if (h->closing) return;
  h->closing = true;
  if (why) {
    h->broken = true;
    h->why = *why;
  }
  blx__loop_undefer(&h->flush);
  blx__stream_close(h->stream);
}
