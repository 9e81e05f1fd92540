#include "vm/proto_guest.h"

#include <string.h>

enum { MAGIC_0 = 0xb1, MAGIC_1 = 0x17, VALUE_BYTES = 8, CHECK_XOR = 0x5a };

static uint8_t check_of(const uint8_t *frame, size_t payload_len) {
  unsigned sum = (unsigned)frame[2] + frame[4] + frame[5];
  for (size_t i = 0; i < payload_len; i++) sum += frame[BLX__GUEST_HEADER_BYTES + i];
  return (uint8_t)((sum & 0xff) ^ CHECK_XOR);
}

size_t blx__guest_write(const struct blx__guest_msg *msg, uint8_t out[BLX__GUEST_FRAME_MAX]) {
  size_t text_len = strnlen(msg->text, BLX__GUEST_PAYLOAD_MAX - VALUE_BYTES);
  size_t payload_len = VALUE_BYTES + text_len;
  out[0] = MAGIC_0;
  out[1] = MAGIC_1;
  out[2] = (uint8_t)msg->type;
  out[4] = (uint8_t)(payload_len & 0xff);
  out[5] = (uint8_t)(payload_len >> 8);
  for (unsigned i = 0; i < VALUE_BYTES; i++) out[BLX__GUEST_HEADER_BYTES + i] = (uint8_t)(msg->value >> (8 * i));
  memcpy(out + BLX__GUEST_HEADER_BYTES + VALUE_BYTES, msg->text, text_len);
  out[3] = check_of(out, payload_len);
  return BLX__GUEST_HEADER_BYTES + payload_len;
}

/* What the bytes held so far can become. */
enum shape { SHAPE_MORE, SHAPE_WHOLE, SHAPE_BAD };

static enum shape shape_of(const struct blx__guest_reader *r) {
  const uint8_t *f = r->frame;
  if (r->len > 0 && f[0] != MAGIC_0) return SHAPE_BAD;
  if (r->len > 1 && f[1] != MAGIC_1) return SHAPE_BAD;
  if (r->len < BLX__GUEST_HEADER_BYTES) return SHAPE_MORE;
  size_t payload_len = (size_t)f[4] | (size_t)f[5] << 8;
  if (payload_len < VALUE_BYTES || payload_len > BLX__GUEST_PAYLOAD_MAX) return SHAPE_BAD;
  if (r->len < BLX__GUEST_HEADER_BYTES + payload_len) return SHAPE_MORE;
  return check_of(f, payload_len) == f[3] ? SHAPE_WHOLE : SHAPE_BAD;
}

/* The first byte cannot begin a frame: drop it and what follows up to the next byte that can. */
static void skip_to_magic(struct blx__guest_reader *r) {
  size_t at = 1;
  while (at < r->len && r->frame[at] != MAGIC_0) at++;
  r->skipped_bytes += at;
  r->len -= at;
  memmove(r->frame, r->frame + at, r->len);
}

/* False for a type that this version does not know. The text is the host's to print: only printable ASCII is kept. */
static bool parse(const struct blx__guest_reader *r, struct blx__guest_msg *msg) {
  const uint8_t *payload = r->frame + BLX__GUEST_HEADER_BYTES;
  size_t text_len = r->len - BLX__GUEST_HEADER_BYTES - VALUE_BYTES;
  if (r->frame[2] < BLX__GUEST_HELLO || r->frame[2] > BLX__GUEST_STOPPING) return false;
  msg->type = (enum blx__guest_type)r->frame[2];
  msg->value = 0;
  for (unsigned i = 0; i < VALUE_BYTES; i++) msg->value |= (uint64_t)payload[i] << (8 * i);
  for (size_t i = 0; i < text_len; i++) {
    uint8_t c = payload[VALUE_BYTES + i];
    msg->text[i] = (char)(c >= 0x20 && c < 0x7f ? c : '?');
  }
  msg->text[text_len] = '\0';
  return true;
}

bool blx__guest_read(struct blx__guest_reader *r, const uint8_t *data, size_t n, size_t *taken,
                     struct blx__guest_msg *msg) {
  *taken = 0;
  for (;;) {
    enum shape shape = shape_of(r);
    if (shape == SHAPE_BAD) {
      skip_to_magic(r);
      continue;
    }
    if (shape == SHAPE_WHOLE) {
      bool known = parse(r, msg);
      r->len = 0;
      if (known) return true;
      continue;
    }
    if (*taken == n) return false;
    r->frame[r->len++] = data[(*taken)++];
  }
}
