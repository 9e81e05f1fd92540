/* One log entry: a head, then operations as length and bytes, zeros to a multiple of 8 (libraft 0.15 corrupts its log
 * with any other length).
 *   0 version u8, 3 zeros | 4 operations u32 | 8 time_ms u64 | 16 proposer u64 | 24 serial u64 | 32 bytes u32, 4 zeros
 */
#include "consensus/bytes_int.h"
#include "consensus/consensus_int.h"

size_t entry_size(size_t ops_count, size_t ops_bytes) {
  size_t n = ENTRY_HEAD_BYTES + ops_count * ENTRY_OP_HEAD_BYTES + ops_bytes;
  return (n + 7) & ~(size_t)7;
}

void entry_begin(uint8_t *at, size_t size, const struct entry_head *head) {
  BLX__ASSERT(size % 8 == 0 && size >= ENTRY_HEAD_BYTES);
  memset(at, 0, size);
  at[0] = ENTRY_VERSION;
  put_u32(at + 4, head->ops_count);
  put_u64(at + 8, head->time_ms);
  put_u64(at + 16, head->proposer);
  put_u64(at + 24, head->serial);
  put_u32(at + 32, (uint32_t)(size - ENTRY_HEAD_BYTES));
}

uint8_t *entry_put_op(uint8_t *at, const uint8_t *op, size_t size) {
  put_u32(at, (uint32_t)size);
  memcpy(at + ENTRY_OP_HEAD_BYTES, op, size);
  return at + ENTRY_OP_HEAD_BYTES + size;
}

/* Walk the operations once, so that taking them later cannot fail half-way through an entry. */
static bool ops_are_sound(const uint8_t *at, const uint8_t *end, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (end - at < ENTRY_OP_HEAD_BYTES) return false;
    uint32_t n = get_u32(at);
    at += ENTRY_OP_HEAD_BYTES;
    if (n == 0 || n > BLX__CONSENSUS_OP_MAX || n > (size_t)(end - at)) return false;
    at += n;
  }
  if (end - at >= 8) return false;
  for (; at < end; at++)
    if (*at) return false;
  return true;
}

bool entry_open(struct entry_reader *r, struct entry_head *head, const void *bytes, size_t size) {
  const uint8_t *p = bytes;
  if (size < ENTRY_HEAD_BYTES || size % 8 != 0 ||
      size > entry_size(BLX__CONSENSUS_BATCH_OPS_MAX, BLX__CONSENSUS_BATCH_BYTES_MAX))
    return false;
  if (p[0] != ENTRY_VERSION || p[1] || p[2] || p[3] || get_u32(p + 36) != 0) return false;
  if (get_u32(p + 32) != size - ENTRY_HEAD_BYTES) return false;
  *head = (struct entry_head){
      .time_ms = get_u64(p + 8), .proposer = get_u64(p + 16), .serial = get_u64(p + 24), .ops_count = get_u32(p + 4)};
  if (head->ops_count == 0 || head->ops_count > BLX__CONSENSUS_BATCH_OPS_MAX) return false;
  *r = (struct entry_reader){.at = p + ENTRY_HEAD_BYTES, .end = p + size, .left = head->ops_count};
  return ops_are_sound(r->at, r->end, head->ops_count);
}

bool entry_next(struct entry_reader *r, struct blx__slice *op) {
  if (r->left == 0) return false;
  uint32_t n = get_u32(r->at);
  BLX__ASSERT(n <= (size_t)(r->end - r->at) - ENTRY_OP_HEAD_BYTES);
  *op = (struct blx__slice){.data = r->at + ENTRY_OP_HEAD_BYTES, .len = n};
  r->at += ENTRY_OP_HEAD_BYTES + n;
  r->left--;
  return true;
}
