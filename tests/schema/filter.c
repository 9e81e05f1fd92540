/* The codec as a filter, for cross.py.
 *   filter gen SEED N   random messages of all types: frames of name, bytes, JSON
 *   filter pass         reads frames of operation ("p": bytes to bytes, "j": bytes to JSON, "J": JSON to bytes), name
 *                       and data; answers each with "K" and the result or "E" and the sentence
 * A frame's parts are a little-endian u32 length and so many bytes. */
#include "../unit/schema/support_random.h"
#include "schema/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 64 << 20, BUF_BYTES = 16 << 20 };

struct work {
  struct blx__arena arena;
  struct blx__buf in, name, out, json;
  struct random_source random;
};

static void put_part(const void *data, size_t n) {
  uint8_t head[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
  if (fwrite(head, 1, sizeof head, stdout) != sizeof head || fwrite(data, 1, n, stdout) != n) exit(1);
}

/* False at the end of the input. */
static bool get_part(struct blx__buf *out) {
  uint8_t head[4];
  if (fread(head, 1, sizeof head, stdin) != sizeof head) return false;
  size_t n = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
  blx__buf_clear(out);
  if (!blx__buf_reserve(out, n) || fread(out->data, 1, n, stdin) != n) exit(1);
  out->len = n;
  return true;
}

static void gen_one(void *user, const struct blx__msg_desc *desc) {
  struct work *w = user;
  blx_error err;
  blx__arena_reset(&w->arena);
  blx__buf_clear(&w->out);
  blx__buf_clear(&w->json);
  void *msg = random_message(desc, &w->arena, &w->random);
  if (blx__msg_encode(desc, msg, &w->out, &err).code != 0 || blx__json_write(desc, msg, 0, &w->json, &err).code != 0) {
    fprintf(stderr, "filter: %s: %s\n", desc->name, err.message);
    exit(1);
  }
  put_part(desc->proto, strlen(desc->proto));
  put_part(w->out.data, w->out.len);
  put_part(w->json.data, w->json.len);
}

static blx__rc pass_one(struct work *w, char op, const struct blx__msg_desc *desc, blx_error *err) {
  struct blx__slice in = {w->in.data, w->in.len};
  void *msg;
  if (op == 'J')
    BLX__TRY(blx__json_read(desc, &w->arena, in, &msg, err));
  else
    BLX__TRY(blx__msg_decode(desc, &w->arena, in, &msg, err));
  if (op == 'j') return blx__json_write(desc, msg, 0, &w->out, err);
  return blx__msg_encode(desc, msg, &w->out, err);
}

static int pass(struct work *w) {
  struct blx__buf op;
  blx__buf_init(&op, 1);
  while (get_part(&op) && get_part(&w->name) && get_part(&w->in)) {
    blx_error err = {0};
    const char *name = blx__buf_cstr(&w->name);
    const struct blx__msg_desc *desc = name ? blx__desc_find(name) : NULL;
    if (!desc || op.len != 1) return 1;
    blx__arena_reset(&w->arena);
    blx__buf_clear(&w->out);
    bool ok = pass_one(w, (char)op.data[0], desc, &err).code == 0;
    put_part(ok ? "K" : "E", 1);
    put_part(ok ? (const void *)w->out.data : err.message, ok ? w->out.len : strlen(err.message));
    if (fflush(stdout) != 0) return 1;
  }
  blx__buf_free(&op);
  return 0;
}

int main(int argc, char **argv) {
  struct work w = {.arena = {.limit_bytes = ARENA_BYTES}};
  struct blx__buf *const bufs[] = {&w.in, &w.name, &w.out, &w.json};
  for (size_t i = 0; i < BLX__COUNT(bufs); i++) blx__buf_init(bufs[i], BUF_BYTES);
  int rc = 2;
  if (argc == 2 && strcmp(argv[1], "pass") == 0) rc = pass(&w);
  uint64_t rounds;
  if (argc == 4 && strcmp(argv[1], "gen") == 0 && blx__parse_u64(argv[2], 0, UINT64_MAX, &w.random.state) &&
      blx__parse_u64(argv[3], 1, 1000000, &rounds)) {
    for (uint64_t i = 0; i < rounds; i++) blx__desc_each(gen_one, &w);
    rc = 0;
  }
  if (rc == 2) fprintf(stderr, "usage: filter gen SEED N | pass\n");
  for (size_t i = 0; i < BLX__COUNT(bufs); i++) blx__buf_free(bufs[i]);
  blx__arena_free(&w.arena);
  return rc;
}
