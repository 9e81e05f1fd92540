#include "vm/proto_shim.h"

#include <stdlib.h>
#include <string.h>

static const char origin[] = "vm/shim";

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

static void fields(struct cursor *c, struct blx__shim_msg *m, uint8_t bytes[4]) {
  field(c, &bytes[0], 1);
  field(c, &bytes[1], 1);
  field(c, &m->uid, 8);
  field(c, &m->epoch, 8);
  field(c, &m->at_ms, 8);
  field(c, &m->deadline_ms, 4);
  field(c, &m->vmm_pid, 4);
  field(c, &m->exit_status, 4);
  field(c, &m->signal, 4);
  field(c, &bytes[2], 1);
  field(c, &bytes[3], 1);
}

size_t blx__shim_write(const struct blx__shim_msg *msg, uint8_t out[BLX__SHIM_FRAME_MAX]) {
  struct blx__shim_msg m = *msg;
  size_t text_len = strnlen(m.text, BLX__SHIM_TEXT_MAX);
  uint32_t body_len = (uint32_t)(BLX__SHIM_FIXED_BYTES + text_len);
  uint8_t bytes[4] = {(uint8_t)m.type, BLX__SHIM_VERSION, (uint8_t)m.state, (uint8_t)m.flags};
  struct cursor c = {.at = out, .writing = true};
  field(&c, &body_len, 4);
  fields(&c, &m, bytes);
  BLX__ASSERT(c.at == out + 4 + BLX__SHIM_FIXED_BYTES);
  memcpy(c.at, m.text, text_len);
  return 4 + body_len;
}

/* Text from the other side ends up in logs and on terminals. */
static void text_take(char *out, const uint8_t *text, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = (char)(text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i]);
  out[n] = '\0';
  blx__utf8_mend(out);
}

static blx__rc body_parse(const uint8_t *body, size_t n, struct blx__shim_msg *msg, blx_error *err) {
  uint8_t whole[BLX__SHIM_FIXED_BYTES] = {0}, bytes[4];
  memcpy(whole, body, n < sizeof whole ? n : sizeof whole);
  struct blx__shim_msg m = {0};
  struct cursor c = {.at = whole, .writing = false};
  fields(&c, &m, bytes);
  if (bytes[0] < BLX__SHIM_HELLO || bytes[0] > BLX__SHIM_COUNTERS)
    return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "a message of the unknown type %d came over the control socket",
                     bytes[0]);
  m.type = (enum blx__shim_type)bytes[0];
  m.version = bytes[1];
  if (m.type == BLX__SHIM_STATE && (bytes[2] < BLX__SHIM_RUNNING || bytes[2] > BLX__SHIM_EXITED))
    return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "the shim claims the unknown state %d", bytes[2]);
  m.state = (enum blx__shim_state)bytes[2];
  m.flags = bytes[3];
  if (n > sizeof whole) text_take(m.text, body + sizeof whole, n - sizeof whole);
  *msg = m;
  return BLX__OK;
}

blx__rc blx__shim_read(struct blx__shim_reader *r, const uint8_t *data, size_t n, size_t *taken, bool *got,
                       struct blx__shim_msg *msg, blx_error *err) {
  *taken = 0;
  *got = false;
  for (;;) {
    size_t want = 4;
    if (r->len >= 4) {
      uint32_t body_len = 0;
      struct cursor c = {.at = r->frame, .writing = false};
      field(&c, &body_len, 4);
      if (body_len < 2 || body_len > BLX__SHIM_BODY_MAX)
        return blx__fail(err, BLX_E_VMM_PROTOCOL, origin,
                         "a message of %u bytes was announced over the control socket; 2 to %d are allowed", body_len,
                         BLX__SHIM_BODY_MAX);
      want = 4 + body_len;
    }
    if (r->len == want && want > 4) {
      size_t body_len = r->len - 4;
      r->len = 0;
      BLX__TRY(body_parse(r->frame + 4, body_len, msg, err));
      *got = true;
      return BLX__OK;
    }
    if (*taken == n) return BLX__OK;
    size_t take = want - r->len < n - *taken ? want - r->len : n - *taken;
    memcpy(r->frame + r->len, data + *taken, take);
    r->len += take;
    *taken += take;
  }
}

static const char record_head[] = "blixard-exit 1\n";

bool blx__shim_record_write(const struct blx__shim_msg *m, struct blx__buf *out) {
  return blx__buf_addf(out, "%suid %llu\nepoch %llu\nat_ms %llu\nstatus %d\nsignal %d\nflags %u\nwhy %s\n", record_head,
                       (unsigned long long)m->uid, (unsigned long long)m->epoch, (unsigned long long)m->at_ms,
                       m->exit_status, m->signal, m->flags, m->text);
}

/* The value of the line "@key VALUE" as a number in [@lo, @hi]. */
static bool record_number(const char *text, const char *key, long long lo, long long hi, long long *out) {
  char line[32];
  if (!blx__str_format(line, sizeof line, "\n%s ", key)) return false;
  const char *at = strstr(text, line);
  if (!at) return false;
  char *end = NULL;
  long long v = strtoll(at + strlen(line), &end, 10);
  if (*end != '\n' || v < lo || v > hi) return false;
  *out = v;
  return true;
}

blx__rc blx__shim_record_read(struct blx__slice bytes, struct blx__shim_msg *msg, blx_error *err) {
  char text[BLX__SHIM_RECORD_MAX + 1];
  size_t n = bytes.len < BLX__SHIM_RECORD_MAX ? bytes.len : BLX__SHIM_RECORD_MAX;
  if (n > 0) memcpy(text, bytes.data, n);
  text[n] = '\0';
  struct blx__shim_msg m = {.type = BLX__SHIM_STATE, .version = BLX__SHIM_VERSION, .state = BLX__SHIM_EXITED};
  long long uid, epoch, at_ms, status, signal, flags;
  const char *why = strstr(text, "\nwhy ");
  bool ok = strncmp(text, record_head, strlen(record_head)) == 0 && why &&
            record_number(text, "uid", 0, INT64_MAX, &uid) && record_number(text, "epoch", 0, INT64_MAX, &epoch) &&
            record_number(text, "at_ms", 0, INT64_MAX, &at_ms) && record_number(text, "status", -1, 255, &status) &&
            record_number(text, "signal", 0, 64, &signal) && record_number(text, "flags", 0, 255, &flags);
  if (!ok)
    return blx__fail(err, BLX_E_CORRUPT, origin, "the exit record of %zu bytes is no record of version 1", bytes.len);
  m.uid = (uint64_t)uid;
  m.epoch = (uint64_t)epoch;
  m.at_ms = (uint64_t)at_ms;
  m.exit_status = (int32_t)status;
  m.signal = (int32_t)signal;
  m.flags = (unsigned)flags;
  why += strlen("\nwhy ");
  size_t why_len = strcspn(why, "\n");
  text_take(m.text, (const uint8_t *)why, why_len < BLX__SHIM_TEXT_MAX ? why_len : BLX__SHIM_TEXT_MAX);
  *msg = m;
  return BLX__OK;
}

/* ---- sessions */

static void session_fields(struct cursor *c, struct blx__session_msg *m, uint8_t bytes[3]) {
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
  session_fields(&c, &m, bytes);
  BLX__ASSERT(c.at == out + 4 + BLX__SESSION_FIXED_BYTES);
  if (m.data_len > 0) memcpy(c.at, m.data, m.data_len);
  return 4 + body_len;
}

static uint32_t session_body_len(const struct blx__session_reader *r) {
  uint32_t n = 0;
  for (unsigned i = 0; i < 4; i++) n |= (uint32_t)r->frame[i] << (8 * i);
  return n;
}

static blx__rc session_parse(struct blx__session_reader *r, size_t n, struct blx__session_msg *msg, blx_error *err) {
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
  session_fields(&c, &m, bytes);
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
  return 4 + session_body_len(r) - r->len;
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
    uint32_t body_len = session_body_len(r);
    if (body_len < 2 || body_len > BLX__SESSION_BODY_MAX) {
      r->len = 0;
      return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "a message of %u bytes was announced; 2 to %d are allowed",
                       body_len, BLX__SESSION_BODY_MAX);
    }
    if (r->len < 4 + (size_t)body_len) continue;
    r->given = *got = true;
    return session_parse(r, body_len, msg, err);
  }
  return BLX__OK;
}

void blx__session_text(const struct blx__session_msg *msg, char out[BLX__SESSION_TEXT_MAX + 1]) {
  text_take(out, msg->data, msg->data_len < BLX__SESSION_TEXT_MAX ? msg->data_len : BLX__SESSION_TEXT_MAX);
}
