/* A snapshot of the state: what is restored is as good as any state, what is refused leaves the state as it was. */
#include "fuzz.h"
#include "support_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct t t;
  uint8_t was[BLX__SHA256_BYTES], is[BLX__SHA256_BYTES];
  fuzz_state_open(&t);
  FUZZ_SHALL(blx__state_digest(t.st, was, NULL).code == 0);
  blx_error err;
  if (blx__state_restore(t.st, (struct blx__slice){data, size}, &err).code != 0) {
    FUZZ_SHALL(blx__state_digest(t.st, is, NULL).code == 0);
    FUZZ_SHALL(memcmp(was, is, sizeof is) == 0);
  }
  fuzz_state_check(&t);
  t_close(&t);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned random) {
  return fuzz_mutate_frames(data, size, max_size, random, 4, blx__desc_snapshot_record());
}

static void seed(const struct t *t) {
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  FUZZ_SHALL(blx__state_snapshot(t->st, &b, NULL).code == 0);
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
  t.request_id = "key";
  FUZZ_SHALL(t_create_named(&t, "db", 1) == 0);
  FUZZ_SHALL(t_delete(&t, "web") != BLX_E_INTERNAL);
  seed(&t);
  t.request_id = NULL;
  FUZZ_SHALL(t_delete_force(&t, "web", 1) == 0);
  seed(&t);
  t_close(&t);
}
