#include "rpc/rpc_int.h"

#include <stdlib.h>

enum {
  OUT_QUEUE_MAX_BYTES = 256 * 1024, /* of the stream; on_writable comes at half */
  PULL_UNTIL_BYTES = 128 * 1024,    /* take no more frames from nghttp2 while so much waits */
  GATHER_BYTES = 48 * 1024,         /* one write for many small frames */
  FREE_FRAMES_BURST = 10000,        /* frames that carry nothing, at once, */
  FREE_FRAMES_PER_S = 1000,         /* and for ever */
  FREE_FRAMES_PER_DATA = 4          /* and for each frame with data either way: they cause windows and pings */
};

static void set_why(struct h2 *h, const blx_error *why) {
  if (h->why) return;
  h->why = malloc(sizeof *h->why);
  if (h->why) *h->why = *why;
}

static void is_rude(struct h2 *h, const char *text) {
  blx_error why;
  h->rude = true;
  (void)blx__fail(&why, BLX_E_UNAVAILABLE, "rpc", "the other side does not speak HTTP/2 as it should: %s", text);
  h2_close(h, &why);
}

/* ---- frames that carry nothing: PING, SETTINGS, RST_STREAM, empty DATA and the like cost their sender next to nothing
 * and us a little each (CVE-2019-9511 to 9518, CVE-2023-44487). Some belong to every connection, so there is a credit
 * of them, which time and data renew. */

static void free_add(struct h2 *h, uint64_t n) {
  h->free_frames = n >= FREE_FRAMES_BURST - h->free_frames ? FREE_FRAMES_BURST : h->free_frames + (unsigned)n;
}

static void free_spend(struct h2 *h) {
  uint64_t now = blx__loop_now_ms(h->loop), gained = (now - h->free_ms) * FREE_FRAMES_PER_S / 1000;
  if (gained > 0) {
    h->free_ms = now;
    free_add(h, gained);
  }
  if (h->free_frames > 0)
    h->free_frames--;
  else
    h->rude = true;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user_data) {
  struct h2 *h = user_data;
  (void)session;
  if (hd->type == NGHTTP2_DATA && hd->length > 0 && (hd->flags & NGHTTP2_FLAG_PADDED) == 0)
    free_add(h, FREE_FRAMES_PER_DATA);
  else if (hd->type != NGHTTP2_HEADERS && (hd->type != NGHTTP2_DATA || (hd->flags & NGHTTP2_FLAG_END_STREAM) == 0))
    free_spend(h);
  return h->rude ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* Frames of a kind that HTTP/2 does not know: allowed, and of no use to us. nghttp2 tells of them if asked to. */
static int on_unknown_bytes(nghttp2_session *session, const nghttp2_frame_hd *hd, const uint8_t *p, size_t n,
                            void *user_data) {
  (void)session;
  (void)hd;
  (void)p;
  (void)n;
  (void)user_data;
  return NGHTTP2_ERR_CANCEL;
}

static int on_unknown(nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd, void *user_data) {
  (void)session;
  (void)payload;
  (void)hd;
  (void)user_data;
  return NGHTTP2_ERR_CANCEL;
}

/* A stream that we reset for what was wrong with it counts as well. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
  struct h2 *h = user_data;
  (void)session;
  if (frame->hd.type == NGHTTP2_DATA && frame->hd.length > 0) free_add(h, FREE_FRAMES_PER_DATA);
  uint32_t code = frame->hd.type == NGHTTP2_RST_STREAM ? frame->rst_stream.error_code : NGHTTP2_NO_ERROR;
  if (code != NGHTTP2_NO_ERROR && code != NGHTTP2_CANCEL) free_spend(h);
  if (h->ops->on_sent) h->ops->on_sent(h, frame);
  return 0;
}

static blx__rc session_new(struct h2 *h, bool server, blx_error *err) {
  nghttp2_session_callbacks *cbs = NULL;
  nghttp2_option *opt = NULL;
  int e = nghttp2_session_callbacks_new(&cbs);
  if (e == 0) e = nghttp2_option_new(&opt);
  if (e == 0) {
    h->ops->set_callbacks(cbs);
    nghttp2_session_callbacks_set_on_begin_frame_callback(cbs, on_begin_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cbs, on_frame_send);
    nghttp2_session_callbacks_set_unpack_extension_callback(cbs, on_unknown);
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(cbs, on_unknown_bytes);
    for (int type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
      nghttp2_option_set_user_recv_extension_type(opt, (uint8_t)type);
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

/* ---- bytes in */

static void feed(struct h2 *h, const uint8_t *p, size_t n) {
  ssize_t r = nghttp2_session_mem_recv(h->session, p, n);
  if (r >= 0)
    h2_dirty(h);
  else
    is_rude(h, h->rude ? "it sends too many frames that carry nothing" : nghttp2_strerror((int)r));
}

/* A session takes 20 KiB: it is made for whoever has said a client's first words, not for whoever connects. */
static void greet(struct h2 *h, const uint8_t *p, size_t n) {
  size_t left = NGHTTP2_CLIENT_MAGIC_LEN - h->magic_at, len = n < left ? n : left;
  if (memcmp(p, &NGHTTP2_CLIENT_MAGIC[h->magic_at], len) != 0) {
    is_rude(h, "it does not begin as a client does");
    return;
  }
  h->magic_at = (uint8_t)(h->magic_at + len);
  if (h->magic_at < NGHTTP2_CLIENT_MAGIC_LEN) return;
  blx_error why;
  if (session_new(h, true, &why).code != 0) {
    h2_close(h, &why);
    return;
  }
  if (h->ops->on_begun) h->ops->on_begun(h->owner);
  feed(h, (const uint8_t *)NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
  if (n > len && !h->closing) feed(h, p + len, n - len);
}

static void on_bytes(void *user, const uint8_t *p, size_t n) {
  struct h2 *h = user;
  h->silent_looks = 0;
  h->heard_ms = blx__loop_now_ms(h->loop);
  if (h->session)
    feed(h, p, n);
  else
    greet(h, p, n);
}

static void on_writable(void *user) {
  h2_dirty(user);
}

static void on_stream_closed(void *user, const blx_error *why) {
  struct h2 *h = user;
  h->closing = true;
  blx__loop_undefer(&h->flush);
  h->stream = NULL;
  if (why) set_why(h, why);
  nghttp2_session_del(h->session); /* closes no stream: the owner ends its calls by its own list */
  h->session = NULL;
  blx_error *kept = h->why;
  h->ops->on_closed(h->owner, kept);
  free(kept);
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
  if (!h->session) return;
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

static void begin(struct h2 *h, struct blx__loop *loop, const struct h2_ops *ops, void *owner) {
  *h = (struct h2){.loop = loop, .ops = ops, .owner = owner, .free_frames = FREE_FRAMES_BURST};
  h->heard_ms = h->free_ms = blx__loop_now_ms(loop);
  blx__defer_init(&h->flush, flush, h);
}

void h2_accept(struct h2 *h, struct blx__loop *loop, struct blx__stream *s, const struct h2_ops *ops, void *owner) {
  begin(h, loop, ops, owner);
  h->stream = s;
  blx__stream_queue_max(s, OUT_QUEUE_MAX_BYTES);
  blx__stream_attach(s, &stream_ops, h);
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
  if (why) set_why(h, why);
  blx__loop_undefer(&h->flush);
  blx__stream_close(h->stream);
}

void h2_look(struct h2 *h, bool has_calls) {
  if (h->closing || !h->session) return;
  h->idle_looks = has_calls ? 0 : h->idle_looks + 1;
  h->silent_looks = has_calls ? h->silent_looks + 1 : 0;
  if (h->silent_looks == BLX__RPC_PING_LOOKS) {
    (void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
    h2_dirty(h);
  }
  if (h->silent_looks < BLX__RPC_CUT_LOOKS) return;
  blx_error why;
  h->cut = true;
  (void)blx__fail(&why, BLX_E_UNAVAILABLE, "rpc", "the other side says nothing any more, not even that it lives");
  h2_close(h, &why);
}

void h2_retire(struct h2 *h) {
  if (h->closing) return;
  if (!h->session) {
    h2_close(h, NULL);
    return;
  }
  (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
  h2_dirty(h);
}

void h2_farewell(struct h2 *h) {
  h2_retire(h);
  if (h->closing) return;
  blx__loop_undefer(&h->flush);
  flush(h);
  if (!h->closing) return; /* it takes nothing: its flush waits for that */
  nghttp2_session_del(h->session);
  h->session = NULL;
}
