#include "support_raw.h"

#include <check.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

static void raw_bytes(void *user, const uint8_t *p, size_t n) {
  struct raw *r = user;
  r->got += n;
  for (size_t at = 0; at + 9 <= n;) {
    if (p[at + 3] < BLX__COUNT(r->frames)) r->frames[p[at + 3]]++;
    at += 9 + ((size_t)p[at] << 16 | (size_t)p[at + 1] << 8 | p[at + 2]);
  }
}

static void raw_closed(void *user, const blx_error *why) {
  struct raw *r = user;
  (void)why;
  r->closed = true;
  r->stream = NULL;
  if (--*r->open == 0) blx__loop_stop(r->w->loop);
}

static const struct blx__stream_ops raw_ops = {NULL, raw_bytes, NULL, raw_closed};

void raw_open(struct world *w, struct raw *r, int *open) {
  *r = (struct raw){.w = w, .open = open};
  ++*open;
  ck_assert_int_eq(blx__stream_connect(w->loop, w->path, &raw_ops, r, &r->stream, NULL).code, 0);
}

void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream_id, const void *payload, size_t len) {
  uint8_t frame[9 + RAW_FRAME_MAX] = {
      (uint8_t)(len >> 16),       (uint8_t)(len >> 8),       (uint8_t)len,      type, flags, (uint8_t)(stream_id >> 24),
      (uint8_t)(stream_id >> 16), (uint8_t)(stream_id >> 8), (uint8_t)stream_id};
  ck_assert_uint_le(len, RAW_FRAME_MAX);
  if (payload) memcpy(frame + 9, payload, len);
  if (r->stream) (void)blx__stream_write(r->stream, frame, 9 + len);
}

void raw_hello(struct raw *r) {
  ck_assert(blx__stream_write(r->stream, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN));
  raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

/* By the static table of RFC 7541: POST, http, an authority, :path and content-type. */
void raw_call(struct raw *r, uint32_t stream_id, const char *path) {
  static const char type[] = "application/grpc";
  uint8_t block[128] = {0x83, 0x86, 0x01, 1, 'x', 0x04, (uint8_t)strlen(path)};
  size_t n = 7 + strlen(path);
  ck_assert_uint_lt(n + 3 + sizeof type, sizeof block);
  memcpy(block + 7, path, strlen(path));
  block[n++] = 0x0f;
  block[n++] = 0x10;
  block[n++] = sizeof type - 1;
  memcpy(block + n, type, sizeof type - 1);
  raw_frame(r, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream_id, block, n + sizeof type - 1);
}

struct blx__rpc_server_stats stats_of(struct world *w) {
  struct blx__rpc_server_stats s;
  blx__rpc_server_stats(w->server, &s);
  return s;
}

void still_answers(struct world *w) {
  struct answer a = ask(w, "/t.T/Echo", "x", 1, 10000);
  ck_assert(!a.failed);
  free(a.bytes);
}
