#include "rpc/rpc_int.h"

/* A whole message, what one window may bring after it, and one frame. */
enum { KEPT_MAX_BYTES = BLX__RPC_MESSAGE_MAX_BYTES + STREAM_WINDOW_BYTES + 65536 };

void reader_init(struct reader *r) {
  *r = (struct reader){.borrowed = false};
  blx__buf_init(&r->kept, KEPT_MAX_BYTES);
}

void reader_free(struct reader *r) {
  blx__buf_free(&r->kept);
}

bool reader_begin(struct reader *r, const uint8_t *p, size_t n) {
  BLX__ASSERT(!r->chunk.data);
  r->at = 0;
  r->borrowed = r->kept.len == 0;
  if (!r->borrowed && !blx__buf_add(&r->kept, p, n)) return false;
  r->chunk = r->borrowed ? (struct blx__slice){p, n} : (struct blx__slice){r->kept.data, r->kept.len};
  return true;
}

bool reader_next(struct reader *r, struct blx__slice *message, blx__rc *rc, blx_error *err) {
  *rc = BLX__OK;
  size_t left = r->chunk.len - r->at;
  if (left < FRAME_HEAD_BYTES) return false;
  const uint8_t *p = r->chunk.data + r->at;
  if (p[0] != 0) {
    *rc = blx__fail(err, BLX_E_UNSUPPORTED, "rpc", "compressed messages are not supported: send them as they are");
    return false;
  }
  uint32_t n = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
  if (n > BLX__RPC_MESSAGE_MAX_BYTES) {
    *rc = blx__fail(err, BLX_E_INVALID, "rpc", "a message of %u bytes is over the limit of %d", n,
                    BLX__RPC_MESSAGE_MAX_BYTES);
    return false;
  }
  if (left - FRAME_HEAD_BYTES < n) return false;
  *message = (struct blx__slice){p + FRAME_HEAD_BYTES, n};
  r->at += FRAME_HEAD_BYTES + n;
  return true;
}

bool reader_end(struct reader *r) {
  bool ok = true;
  if (!r->borrowed)
    blx__buf_consume(&r->kept, r->at);
  else if (r->at < r->chunk.len)
    ok = blx__buf_add(&r->kept, r->chunk.data + r->at, r->chunk.len - r->at);
  if (r->kept.len == 0 && r->kept.cap > 0) blx__buf_free(&r->kept);
  r->chunk = (struct blx__slice){0};
  return ok;
}

bool reader_is_partial(const struct reader *r) {
  return r->kept.len > 0;
}

void frame_head(uint8_t out[FRAME_HEAD_BYTES], size_t n) {
  BLX__ASSERT(n <= BLX__RPC_MESSAGE_MAX_BYTES);
  out[0] = 0;
  out[1] = (uint8_t)(n >> 24);
  out[2] = (uint8_t)(n >> 16);
  out[3] = (uint8_t)(n >> 8);
  out[4] = (uint8_t)n;
}

void writer_init(struct writer *w) {
  *w = (struct writer){.at = 0};
  blx__buf_init(&w->out, BLX__RPC_MESSAGE_MAX_BYTES + BLX__RPC_SEND_QUEUE_MAX_BYTES + FRAME_HEAD_BYTES);
}

void writer_free(struct writer *w) {
  blx__buf_free(&w->out);
  w->at = 0;
}

size_t writer_queued(const struct writer *w) {
  return w->out.len - w->at;
}

bool writer_has_room(struct writer *w, size_t size) {
  if (writer_queued(w) == 0 || writer_queued(w) + size <= BLX__RPC_SEND_QUEUE_MAX_BYTES) return true;
  w->has_more = true;
  return false;
}

bool writer_add(struct writer *w, const void *message, size_t size) {
  uint8_t head[FRAME_HEAD_BYTES];
  frame_head(head, size);
  blx__buf_consume(&w->out, w->at);
  w->at = 0;
  if (!blx__buf_reserve(&w->out, sizeof head + size)) return false;
  return blx__buf_add(&w->out, head, sizeof head) && blx__buf_add(&w->out, message, size);
}

size_t writer_take(struct writer *w, uint8_t *buf, size_t length) {
  size_t n = writer_queued(w) < length ? writer_queued(w) : length;
  if (n > 0) memcpy(buf, w->out.data + w->at, n);
  w->at += n;
  if (w->at == w->out.len) writer_free(w);
  return n;
}

bool writer_calls_for_more(const struct writer *w) {
  return w->has_more && writer_queued(w) <= BLX__RPC_SEND_QUEUE_MAX_BYTES / 2;
}
