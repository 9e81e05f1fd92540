/* The container of consensus' snapshots. No mutation guesses a SHA-256, so every input is tried a second time with the
 * digest that belongs to it. */
#include "consensus/bytes_int.h"
#include "consensus/consensus_int.h"
#include "fuzz.h"

enum { AT_DIGEST = 80 };

static void digest(uint8_t *bytes, size_t size) {
  const struct blx__slice parts[] = {{bytes, AT_DIGEST}, {bytes + SNAPSHOT_HEAD_BYTES, size - SNAPSHOT_HEAD_BYTES}};
  blx__sha256(parts, BLX__COUNT(parts), bytes + AT_DIGEST);
}

static void check(const uint8_t *bytes, size_t size) {
  struct snapshot_head head;
  struct blx__slice payload = {0};
  if (snapshot_check((struct blx__slice){bytes, size}, &head, &payload)) return;
  FUZZ_SHALL(payload.len == head.payload_len && payload.data == bytes + SNAPSHOT_HEAD_BYTES);
  FUZZ_SHALL(payload.len <= size - SNAPSHOT_HEAD_BYTES);
  FUZZ_SHALL(head.index == get_u64(bytes + 16) && head.term == get_u64(bytes + 24));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  check(data, size);
  if (size < SNAPSHOT_HEAD_BYTES) return 0;
  uint8_t *copy = malloc(size);
  FUZZ_SHALL(copy);
  memcpy(copy, data, size);
  digest(copy, size);
  check(copy, size);
  free(copy);
  return 0;
}

void fuzz_seeds(void) {
  uint8_t bytes[SNAPSHOT_HEAD_BYTES + 64] = {'B', 'L', 'X', 'S', 'N', 'A', 'P', '\n', SNAPSHOT_VERSION};
  for (size_t payload = 0; payload <= 64; payload += 20) {
    size_t size = (SNAPSHOT_HEAD_BYTES + payload + 7) & ~(size_t)7;
    put_u64(bytes + 16, 5);
    put_u64(bytes + 24, 2);
    put_u64(bytes + 40, payload);
    digest(bytes, size);
    fuzz_seed(bytes, size);
  }
}
