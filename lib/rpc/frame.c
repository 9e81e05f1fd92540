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
