#include "vm/proto_guest.h"

#include <string.h>

enum { MAGIC_0 = 0xb1, MAGIC_1 = 0x17, VALUE_BYTES = 8, CRC_BYTES = 4, CHECK_XOR = 0x5a, VERSION_2_TYPE = 32 };

static void put(uint8_t *at, uint64_t v, unsigned n) {
  for (unsigned i = 0; i < n; i++) at[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t *at, unsigned n) {
  uint64_t v = 0;
  for (unsigned i = 0; i < n; i++) v |= (uint64_t)at[i] << (8 * i);
  return v;
}

/* CRC-32 (ISO 3309), four bits at a time. */
static uint32_t crc_of(uint32_t crc, const uint8_t *at, size_t n) {
  static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                     0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                     0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
  crc = ~crc;
  for (size_t i = 0; i < n; i++) {
    crc ^= at[i];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return ~crc;
}

/* Of a whole frame but its last bytes: the magic is the same in all, and the check follows from the rest. */
static uint32_t frame_crc(const uint8_t *frame, size_t payload_len) {
  uint8_t head[3] = {frame[2], frame[4], frame[5]};
  return crc_of(crc_of(0, head, sizeof head), frame + BLX__GUEST_HEADER_BYTES, payload_len - CRC_BYTES);
}

static uint8_t check_of(const uint8_t *frame, size_t payload_len) {
  unsigned sum = (unsigned)frame[2] + frame[4] + frame[5];
  if (frame[2] < VERSION_2_TYPE)
    for (size_t i = 0; i < payload_len; i++) sum += frame[BLX__GUEST_HEADER_BYTES + i];
  return (uint8_t)((sum & 0xff) ^ CHECK_XOR);
}

size_t blx__guest_write(const struct blx__guest_msg *msg, uint8_t out[BLX__GUEST_FRAME_MAX]) {
  uint8_t *payload = out + BLX__GUEST_HEADER_BYTES;
  bool second = (unsigned)msg->type >= VERSION_2_TYPE;
  size_t payload_len = VALUE_BYTES;
  if (second) {
    size_t n = msg->data_len < BLX__GUEST_DATA_MAX ? msg->data_len : BLX__GUEST_DATA_MAX;
    put(payload, msg->session, 4);
    put(payload + 4, msg->arg, 4);
    if (n > 0) memcpy(payload + VALUE_BYTES, msg->data, n);
    payload_len += n + CRC_BYTES;
  } else {
    size_t n = strnlen(msg->text, BLX__GUEST_PAYLOAD_MAX - VALUE_BYTES);
    put(payload, msg->value, VALUE_BYTES);
    memcpy(payload + VALUE_BYTES, msg->text, n);
    payload_len += n;
  }
  out[0] = MAGIC_0;
  out[1] = MAGIC_1;
  out[2] = (uint8_t)msg->type;
  put(out + 4, payload_len, 2);
  out[3] = check_of(out, payload_len);
  if (second) put(payload + payload_len - CRC_BYTES, frame_crc(out, payload_len), CRC_BYTES);
  return BLX__GUEST_HEADER_BYTES + payload_len;
}

/* Of the frame that begins what is held. */
static size_t frame_len(const struct blx__guest_reader *r) {
  return BLX__GUEST_HEADER_BYTES + (size_t)get(r->frame + 4, 2);
}

/* What the bytes held so far can become. */
enum shape { SHAPE_MORE, SHAPE_WHOLE, SHAPE_BAD };

static enum shape shape_of(const struct blx__guest_reader *r) {
  const uint8_t *f = r->frame;
  if (r->len > 0 && f[0] != MAGIC_0) return SHAPE_BAD;
  if (r->len > 1 && f[1] != MAGIC_1) return SHAPE_BAD;
  if (r->len < BLX__GUEST_HEADER_BYTES) return SHAPE_MORE;
  size_t payload_len = (size_t)get(f + 4, 2);
  bool second = f[2] >= VERSION_2_TYPE;
  size_t least = second ? VALUE_BYTES + CRC_BYTES : VALUE_BYTES;
  size_t most = second ? BLX__GUEST_PAYLOAD_2_MAX : BLX__GUEST_PAYLOAD_MAX;
  if (payload_len < least || payload_len > most) return SHAPE_BAD;
  if (second && check_of(f, payload_len) != f[3]) return SHAPE_BAD;
  if (r->len < BLX__GUEST_HEADER_BYTES + payload_len) return SHAPE_MORE;
  bool good = second
                  ? get(f + BLX__GUEST_HEADER_BYTES + payload_len - CRC_BYTES, CRC_BYTES) == frame_crc(f, payload_len)
                  : check_of(f, payload_len) == f[3];
  return good ? SHAPE_WHOLE : SHAPE_BAD;
}

/* The first byte cannot begin a frame: drop it and what follows up to the next that can. */
static void skip_to_magic(struct blx__guest_reader *r) {
  size_t at = 1;
  while (at < r->len && (r->frame[at] != MAGIC_0 || (at + 1 < r->len && r->frame[at + 1] != MAGIC_1))) at++;
  r->skipped_bytes += at;
  r->len -= at;
  memmove(r->frame, r->frame + at, r->len);
}

/* What was held behind a frame, when that was found among skipped bytes, comes next. */
static void drop_frame(struct blx__guest_reader *r) {
  size_t n = frame_len(r);
  r->len -= n;
  memmove(r->frame, r->frame + n, r->len);
}

static bool known(uint8_t type) {
  return (type >= BLX__GUEST_HELLO && type <= BLX__GUEST_STOPPING) ||
         (type >= BLX__GUEST_EXEC && type <= BLX__GUEST_STATS_REPLY);
}

/* The text is the host's to print: only printable ASCII is kept. */
static void parse(const struct blx__guest_reader *r, struct blx__guest_msg *msg) {
  const uint8_t *payload = r->frame + BLX__GUEST_HEADER_BYTES;
  size_t n = frame_len(r) - BLX__GUEST_HEADER_BYTES - VALUE_BYTES;
  msg->type = (enum blx__guest_type)r->frame[2];
  msg->value = 0;
  msg->text[0] = '\0';
  msg->session = msg->arg = 0;
  msg->data = payload + VALUE_BYTES;
  msg->data_len = 0;
  if ((unsigned)msg->type >= VERSION_2_TYPE) {
    msg->session = (uint32_t)get(payload, 4);
    msg->arg = (uint32_t)get(payload + 4, 4);
    msg->data_len = n - CRC_BYTES;
    return;
  }
  msg->value = get(payload, VALUE_BYTES);
  for (size_t i = 0; i < n; i++) {
    uint8_t c = payload[VALUE_BYTES + i];
    msg->text[i] = (char)(c >= 0x20 && c < 0x7f ? c : '?');
  }
  msg->text[n] = '\0';
}

bool blx__guest_read(struct blx__guest_reader *r, const uint8_t *data, size_t n, size_t *taken,
                     struct blx__guest_msg *msg) {
  *taken = 0;
  if (r->given) drop_frame(r);
  r->given = false;
  for (;;) {
    enum shape shape = shape_of(r);
    if (shape == SHAPE_BAD) {
      skip_to_magic(r);
      continue;
    }
    if (shape == SHAPE_WHOLE) {
      r->given = known(r->frame[2]);
      if (r->given) {
        parse(r, msg);
        return true;
      }
      drop_frame(r);
      continue;
    }
    if (*taken == n) return false;
    r->frame[r->len++] = data[(*taken)++];
  }
}

uint32_t blx__guest_size(uint16_t rows, uint16_t columns) {
  return (uint32_t)rows | (uint32_t)columns << 16;
}

void blx__guest_stats_write(const struct blx__guest_stats *s, uint8_t out[BLX__GUEST_STATS_BYTES]) {
  put(out, s->uptime_ms, 8);
  put(out + 8, s->memory_kib, 8);
  put(out + 16, s->available_kib, 8);
  put(out + 24, s->load_milli, 4);
  put(out + 28, s->processes, 4);
}

bool blx__guest_stats_read(const struct blx__guest_msg *msg, struct blx__guest_stats *s) {
  if (msg->data_len < BLX__GUEST_STATS_BYTES) return false;
  *s = (struct blx__guest_stats){.uptime_ms = get(msg->data, 8),
                                 .memory_kib = get(msg->data + 8, 8),
                                 .available_kib = get(msg->data + 16, 8),
                                 .load_milli = (uint32_t)get(msg->data + 24, 4),
                                 .processes = (uint32_t)get(msg->data + 28, 4)};
  return true;
}

void blx__guest_clock_write(uint64_t ns, uint8_t out[8]) {
  put(out, ns, 8);
}

bool blx__guest_clock_read(const struct blx__guest_msg *msg, uint64_t *ns) {
  if (msg->data_len < 8) return false;
  *ns = get(msg->data, 8);
  return true;
}
