/* The records of a backup: what a restore makes of them is a state as good as any, or it is refused. */
#include "fuzz.h"
#include "support_state.h"

enum { OUT_MAX_BYTES = 16 << 20 };

static bool reseed(const uint8_t *data, size_t size, struct blx__buf *out) {
  struct blx__state_reseed r = {.cluster_id = "ffeeddccbbaa99887766554433221100", .node_name = "new"};
  bool ok = true;
  for (size_t at = 0; ok && size - at >= 4;) {
    uint32_t n =
        (uint32_t)data[at] | (uint32_t)data[at + 1] << 8 | (uint32_t)data[at + 2] << 16 | (uint32_t)data[at + 3] << 24;
    at += 4;
    if (n > size - at) n = (uint32_t)(size - at);
    ok = blx__state_reseed_take(&r, (struct blx__slice){data + at, n}, out, NULL).code == 0;
    at += n;
  }
  ok = ok && blx__state_reseed_end(&r, out, NULL).code == 0;
  blx__state_reseed_free(&r);
  return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct blx__buf out;
  blx__buf_init(&out, OUT_MAX_BYTES);
  if (reseed(data, size, &out)) {
    struct t t;
    t_open(&t, 0);
    FUZZ_SHALL(blx__state_restore(t.st, (struct blx__slice){out.data, out.len}, NULL).code == 0);
    FUZZ_SHALL(blx__state_counts(t.st).nodes == 1 && blx__state_counts(t.st).running == 0);
    t.index = blx__state_index(t.st);
    fuzz_state_check(&t);
    t_close(&t);
  }
  blx__buf_free(&out);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned random) {
  return fuzz_mutate_frames(data, size, max_size, random, 4, blx__desc_snapshot_record());
}

static void seed(const struct t *t) {
  struct blx__state_cursor at = {0};
  struct blx__buf b;
  bool done = false;
  blx__buf_init(&b, 1 << 20);
  struct blx__state_frozen *z = blx__state_freeze(t->st, NULL);
  FUZZ_SHALL(z && blx__state_write_part(z, &at, SIZE_MAX, &b, &done, NULL).code == 0 && done);
  blx__state_thaw(t->st, z);
  fuzz_seed(b.data, b.len);
  blx__buf_free(&b);
}

void fuzz_seeds(void) {
  struct t t;
  t_open_cluster(&t, 1);
  seed(&t);
  t_close(&t);
  fuzz_state_open(&t);
  seed(&t);
  FUZZ_SHALL(t_create_named(&t, "db", 1) == 0);
  FUZZ_SHALL(t_delete(&t, "web") != BLX_E_INTERNAL);
  seed(&t);
  FUZZ_SHALL(t_delete_force(&t, "web", 1) == 0);
  seed(&t);
  t_close(&t);
}
