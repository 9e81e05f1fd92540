/* A log entry read back from disk. What is taken is written again to the same bytes. */
#include "consensus/consensus_int.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct entry_reader r;
  struct entry_head head;
  if (!entry_open(&r, &head, data, size)) return 0;
  uint8_t *again = malloc(size), *at = again + ENTRY_HEAD_BYTES;
  FUZZ_SHALL(again);
  entry_begin(again, size, &head);
  uint32_t n = 0;
  for (struct blx__slice op; entry_next(&r, &op); n++) {
    FUZZ_SHALL(op.len > 0 && op.data >= data && op.data + op.len <= data + size);
    at = entry_put_op(at, op.data, op.len);
  }
  FUZZ_SHALL(n == head.ops_count);
  FUZZ_SHALL(memcmp(again, data, size) == 0);
  free(again);
  return 0;
}

static void seed(uint32_t ops) {
  static const uint8_t op[] = {0x52, 3, 'a', 'b', 'c'};
  uint8_t bytes[1024];
  size_t size = entry_size(ops, ops * sizeof op);
  FUZZ_SHALL(size <= sizeof bytes);
  const struct entry_head head = {.time_ms = 1700000000000, .proposer = 1, .serial = 9, .ops_count = ops};
  entry_begin(bytes, size, &head);
  uint8_t *at = bytes + ENTRY_HEAD_BYTES;
  for (uint32_t i = 0; i < ops; i++) at = entry_put_op(at, op, sizeof op);
  fuzz_seed(bytes, size);
}

void fuzz_seeds(void) {
  seed(1);
  seed(2);
  seed(64);
}
