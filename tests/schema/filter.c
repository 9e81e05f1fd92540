/* The codec as a filter, for cross.py.
 *   filter gen SEED N   random messages of all types: frames of name, bytes, JSON
 *   filter pass         reads frames of operation ("p": bytes to bytes, "j": bytes to JSON, "J": JSON to bytes), name
 * and data; answers each with "K" and the result or "E" and the sentence filter bench        nanoseconds of encode,
 * decode and JSON of a spec with two labels A frame's parts are a little-endian u32 length and so many bytes. */
#include "../unit/schema/support_random.h"
#include "schema/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* One of the four measured actions on a spec of 12 fields with two labels. */
static blx__rc bench_one(struct work *w, int action, const void *msg, struct blx__slice bytes, struct blx__slice json) {
  const struct blx__msg_desc *desc = blx__desc_vm_spec();
  void *out = NULL;
  blx__rc rc = BLX__OK;
  blx__arena_reset(&w->arena);
  blx__buf_clear(&w->in);
  if (action == 0) rc = blx__msg_encode(desc, msg, &w->in, NULL);
  if (action == 1) rc = blx__msg_decode(desc, &w->arena, bytes, &out, NULL);
  if (action == 2) rc = blx__json_write(desc, msg, 0, &w->in, NULL);
  if (action == 3) rc = blx__json_read(desc, &w->arena, json, &out, NULL);
  if (action == 4) rc = blx__msg_own(desc, msg, &out, NULL);
  if (action == 4) blx__msg_free_owned(out);
  return rc;
}

static int bench(struct work *w) {
  static const char *const names[] = {"encode", "decode", "JSON out", "JSON in", "own+free"};
  struct blx_label a = BLX_LABEL_INIT, b = BLX_LABEL_INIT, *labels[] = {&a, &b};
  struct blx_vm_spec s = BLX_VM_SPEC_INIT;
  a.key = "tier";
  a.value = "front";
  b.key = "team";
  b.value = "web";
  s.name = "nginx";
  s.flake = "git+file:///etc/blixard/flake?dir=vms#nginx";
  s.config_name = "nginx.nix";
  s.vcpus = 4;
  s.memory_mib = 512;
  s.has_replicas = s.replicas = 3;
  s.restart_policy = 1;
  s.strategy = 1;
  s.stop_timeout_ms = 30000;
  s.hypervisor = 2;
  s.labels = labels;
  s.n_labels = 2;
  if (blx__msg_encode(blx__desc_vm_spec(), &s, &w->out, NULL).code != 0) return 1;
  if (blx__json_write(blx__desc_vm_spec(), &s, 0, &w->json, NULL).code != 0) return 1;
  struct blx__slice bytes = {w->out.data, w->out.len}, json = {w->json.data, w->json.len};
  for (int action = 0; action < (int)BLX__COUNT(names); action++) {
    enum { ROUNDS = 200000 };
    double from = now_ns();
    for (int i = 0; i < ROUNDS; i++)
      if (bench_one(w, action, &s, bytes, json).code != 0) return 1;
    printf("%-9s %6.0f ns (%zu bytes, %zu as JSON)\n", names[action], (now_ns() - from) / ROUNDS, bytes.len, json.len);
  }
  return 0;
}

int main(int argc, char **argv) {
  struct work w = {.arena = {.limit_bytes = ARENA_BYTES}};
  struct blx__buf *const bufs[] = {&w.in, &w.name, &w.out, &w.json};
  for (size_t i = 0; i < BLX__COUNT(bufs); i++) blx__buf_init(bufs[i], BUF_BYTES);
  int rc = 2;
  if (argc == 2 && strcmp(argv[1], "pass") == 0) rc = pass(&w);
  if (argc == 2 && strcmp(argv[1], "bench") == 0) rc = bench(&w);
  uint64_t rounds;
  if (argc == 4 && strcmp(argv[1], "gen") == 0 && blx__parse_u64(argv[2], 0, UINT64_MAX, &w.random.state) &&
      blx__parse_u64(argv[3], 1, 1000000, &rounds)) {
    for (uint64_t i = 0; i < rounds; i++) blx__desc_each(gen_one, &w);
    rc = 0;
  }
  if (rc == 2) fprintf(stderr, "usage: filter gen SEED N | pass | bench\n");
  for (size_t i = 0; i < BLX__COUNT(bufs); i++) blx__buf_free(bufs[i]);
  blx__arena_free(&w.arena);
  return rc;
}
