#include "vm/proto_session.h"

#include <string.h>

static const char origin[] = "vm/session";

/* A place in a body; the layout is written once, for both directions. */
struct cursor {
  uint8_t *at;
  bool writing;
};

static void field(struct cursor *c, void *value, size_t size) {
  uint8_t *v = value;
  for (size_t i = 0; i < size; i++) {
    size_t k = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? i : size - 1 - i;
    if (c->writing)
      c->at[i] = v[k];
    else
      v[k] = c->at[i];
  }
  c->at += size;
}

static void fields(struct cursor *c, struct blx__session_msg *m, uint8_t bytes[3]) {
  for (unsigned i = 0; i < 3; i++) field(c, &bytes[i], 1);
  field(c, &m->a, 4);
  field(c, &m->b, 4);
  field(c, &m->c, 4);
  field(c, &m->uid, 8);
  field(c, &m->epoch, 8);
}

size_t blx__session_write(const struct blx__session_msg *msg, uint8_t *out) {
  struct blx__session_msg m = *msg;
  BLX__ASSERT(m.data_len <= BLX__SESSION_DATA_MAX);
  uint32_t body_len = (uint32_t)(BLX__SESSION_FIXED_BYTES + m.data_len);
  uint8_t bytes[3] = {(uint8_t)m.type, BLX__SESSION_VERSION, (uint8_t)m.flags};
  struct cursor c = {.at = out, .writing = true};
  field(&c, &body_len, 4);
  fields(&c, &m, bytes);
  BLX__ASSERT(c.at == out + 4 + BLX__SESSION_FIXED_BYTES);
  if (m.data_len > 0) memcpy(c.at, m.data, m.data_len);
  return 4 + body_len;
}

static uint32_t body_len_of(const struct blx__session_reader *r) {
  uint32_t n = 0;
  for (unsigned i = 0; i < 4; i++) n |= (uint32_t)r->frame[i] << (8 * i);
  return n;
}

static blx__rc body_parse(struct blx__session_reader *r, size_t n, struct blx__session_msg *msg, blx_error *err) {
  struct blx__session_msg m = {.data = r->frame + r->len};
  uint8_t bytes[3];
  if (r->frame[4] == BLX__SESSION_REFUSED) {
    m.type = BLX__SESSION_REFUSED;
    m.version = r->frame[5];
    *msg = m;
    return BLX__OK;
  }
  if (n < BLX__SESSION_FIXED_BYTES || r->frame[4] < BLX__SESSION_OPEN || r->frame[4] > BLX__SESSION_END)
    return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "a message of type %d and %zu bytes is none of a session",
                     r->frame[4], n);
  struct cursor c = {.at = r->frame + 4, .writing = false};
  fields(&c, &m, bytes);
  m.type = (enum blx__session_type)bytes[0];
  m.version = bytes[1];
  m.flags = bytes[2];
  m.data = c.at;
  m.data_len = n - BLX__SESSION_FIXED_BYTES;
  *msg = m;
  return BLX__OK;
}

size_t blx__session_want(const struct blx__session_reader *r) {
  if (r->given || r->len < 4) return r->given ? 4 : 4 - r->len;
  return 4 + body_len_of(r) - r->len;
}

blx__rc blx__session_read(struct blx__session_reader *r, const uint8_t *data, size_t n, size_t *taken, bool *got,
                          struct blx__session_msg *msg, blx_error *err) {
  *taken = 0;
  *got = false;
  if (r->given) r->len = 0;
  r->given = false;
  while (*taken < n) {
    size_t want = blx__session_want(r);
    size_t take = want < n - *taken ? want : n - *taken;
    memcpy(r->frame + r->len, data + *taken, take);
    r->len += take;
    *taken += take;
    if (r->len < 4) return BLX__OK;
    uint32_t body_len = body_len_of(r);
    if (body_len < 2 || body_len > BLX__SESSION_BODY_MAX) {
      r->len = 0;
      return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "a message of %u bytes was announced; 2 to %d are allowed",
                       body_len, BLX__SESSION_BODY_MAX);
    }
    if (r->len < 4 + (size_t)body_len) continue;
    r->given = *got = true;
    return body_parse(r, body_len, msg, err);
  }
  return BLX__OK;
}

void blx__session_text(const struct blx__session_msg *msg, char out[BLX__SESSION_TEXT_MAX + 1]) {
  size_t n = msg->data_len < BLX__SESSION_TEXT_MAX ? msg->data_len : BLX__SESSION_TEXT_MAX;
  for (size_t i = 0; i < n; i++) out[i] = (char)(msg->data[i] < 0x20 || msg->data[i] == 0x7f ? ' ' : msg->data[i]);
  out[n] = '\0';
  blx__utf8_mend(out);
}
