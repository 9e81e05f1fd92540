/* Encoding goes backwards, from the last field to the first, so that the length of a nested message is known when its
 * prefix is written. It works at the end of the room reserved behind the buffer's content and is moved down once. */
#include "schema/schema_int.h"

static const char origin_name[] = "encode";

struct enc {
  struct blx__buf *out;
  size_t room; /* bytes reserved behind out->len */
  size_t at;   /* first byte written, counted from out->len; room: nothing yet */
  unsigned depth;
  blx_error *err;
};

/* Room for @n bytes in front of what is written. */
static blx__rc enc_need(struct enc *e, size_t n, const struct blx__msg_desc *desc) {
  enum { ROOM_MIN = 256 };
  if (n <= e->at) return BLX__OK;
  size_t done = e->room - e->at, left = e->out->max - e->out->len, room = e->room;
  if (n > left || done > left - n)
    return blx__fail(e->err, BLX_E_INVALID, origin_name, "%s: does not fit the %zu bytes allowed", desc->name,
                     e->out->max);
  if (room < ROOM_MIN) room = ROOM_MIN;
  while (room < done + n) room *= 2;
  if (room > left) room = left;
  if (!blx__buf_reserve(e->out, room))
    return blx__fail(e->err, BLX_E_NOMEM, origin_name, "out of memory for a message; try again later");
  uint8_t *base = e->out->data + e->out->len;
  memmove(base + room - done, base + e->at, done);
  e->room = room;
  e->at = room - done;
  return BLX__OK;
}

static blx__rc enc_bytes(struct enc *e, const struct blx__msg_desc *desc, const void *data, size_t n) {
  BLX__TRY(enc_need(e, n, desc));
  e->at -= n;
  if (n) memcpy(e->out->data + e->out->len + e->at, data, n);
  return BLX__OK;
}

static blx__rc enc_varint(struct enc *e, const struct blx__msg_desc *desc, uint64_t v) {
  uint8_t bytes[10];
  size_t n = 0;
  while (v >= 0x80) {
    bytes[n++] = (uint8_t)(v | 0x80);
    v >>= 7;
  }
  bytes[n++] = (uint8_t)v;
  return enc_bytes(e, desc, bytes, n);
}

static blx__rc enc_tag(struct enc *e, const struct blx__msg_desc *desc, const struct blx__field *f, bool length) {
  return enc_varint(e, desc, (uint64_t)f->id << 3 | (length ? 2 : 0));
}

static blx__rc enc_msg(struct enc *e, const struct blx__msg_desc *desc, const void *msg);

static blx__rc enc_too_long(struct enc *e, const struct blx__msg_desc *desc, const struct blx__field *f, size_t n) {
  return blx__fail(e->err, BLX_E_INVALID, origin_name, "%s.%s: %zu bytes, more than the %llu allowed", desc->name,
                   f->name, n, (unsigned long long)f->max);
}

/* One value with its length or number, without its tag. @at: the value in the struct or array. */
static blx__rc enc_value(struct enc *e, const struct blx__msg_desc *desc, const struct blx__field *f, const void *at) {
  if (f->kind == BLX__KIND_STR) {
    const char *s = blx__load_ptr(at);
    size_t n = s ? strnlen(s, (size_t)f->max + 1) : 0;
    if (n > f->max) return enc_too_long(e, desc, f, strlen(s));
    if (n && !blx__schema_text_ok(s, n))
      return blx__fail(e->err, BLX_E_INVALID, origin_name, "%s.%s: is not UTF-8", desc->name, f->name);
    BLX__TRY(enc_bytes(e, desc, s, n));
    return enc_varint(e, desc, n);
  }
  if (f->kind == BLX__KIND_BYTES) {
    struct blx_bytes b;
    memcpy(&b, at, sizeof b);
    if (b.len > f->max) return enc_too_long(e, desc, f, b.len);
    if (b.len && !b.data) return blx__schema_no_bytes(f, b.len, origin_name, e->err);
    BLX__TRY(enc_bytes(e, desc, b.data, b.len));
    return enc_varint(e, desc, b.len);
  }
  if (f->kind == BLX__KIND_MSG) {
    const void *sub = blx__load_ptr(at);
    if (!sub) return blx__fail(e->err, BLX_E_INVALID, origin_name, "%s.%s: an element is NULL", desc->name, f->name);
    size_t end = e->room - e->at;
    BLX__TRY(enc_msg(e, f->msg(), sub));
    return enc_varint(e, desc, e->room - e->at - end);
  }
  return enc_varint(e, desc, blx__load_number(f->kind, at));
}

/* Numbers of a repeated field go packed, the rest one by one, the last first. */
static blx__rc enc_repeated(struct enc *e, const struct blx__msg_desc *desc, const struct blx__field *f,
                            const void *msg) {
  size_t n = blx__field_count(f, msg), each = blx__schema_element_size(f->kind);
  if (n == 0) return BLX__OK;
  const uint8_t *elements = blx__load_ptr(blx__field_at(f, msg));
  if (n > f->cap || !elements)
    return blx__fail(e->err, BLX_E_INVALID, origin_name, "%s.%s: %zu elements, more than the %zu allowed", desc->name,
                     f->name, n, elements ? f->cap : 0);
  bool packed = blx__kind_is_number(f->kind);
  size_t end = e->room - e->at;
  for (size_t i = n; i-- > 0;) {
    BLX__TRY(enc_value(e, desc, f, elements + i * each));
    if (!packed) BLX__TRY(enc_tag(e, desc, f, true));
  }
  if (!packed) return BLX__OK;
  BLX__TRY(enc_varint(e, desc, e->room - e->at - end));
  return enc_tag(e, desc, f, true);
}

/* True if a ONE field has nothing to say. */
static bool one_is_empty(const struct blx__field *f, const uint8_t *at) {
  switch (f->kind) {
  case BLX__KIND_STR: {
    const char *s = blx__load_ptr(at);
    return !s || !*s;
  }
  case BLX__KIND_MSG: return !blx__load_ptr(at);
  case BLX__KIND_BYTES: {
    struct blx_bytes b;
    memcpy(&b, at, sizeof b);
    return b.len == 0;
  }
  case BLX__KIND_BOOL:
  case BLX__KIND_U32:
  case BLX__KIND_I32:
  case BLX__KIND_U64:
  case BLX__KIND_I64:
  case BLX__KIND_ENUM: return blx__load_number(f->kind, at) == 0;
  }
  return true;
}

static blx__rc enc_field(struct enc *e, const struct blx__msg_desc *desc, const struct blx__field *f, const void *msg) {
  if (!blx__field_inside(f, msg)) return BLX__OK;
  if (f->card == BLX__CARD_REP) return enc_repeated(e, desc, f, msg);
  const uint8_t *at = blx__field_at(f, msg);
  bool absent = f->card == BLX__CARD_OPT && f->kind != BLX__KIND_MSG ? !blx__field_has(f, msg) : one_is_empty(f, at);
  if (absent) return BLX__OK;
  BLX__TRY(enc_value(e, desc, f, at));
  return enc_tag(e, desc, f, !blx__kind_is_number(f->kind));
}

static blx__rc enc_msg(struct enc *e, const struct blx__msg_desc *desc, const void *msg) {
  if (++e->depth > BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, e->err);
  BLX__TRY(blx__schema_head_ok(desc, msg, origin_name, e->err));
  const struct blx__unknown *u = ((const struct blx__msg_head *)msg)->unknown;
  for (unsigned i = desc->field_count; i-- > 0;) {
    const struct blx__field *f = &desc->fields[i];
    for (; u && u->id > f->id; u = u->next) BLX__TRY(enc_bytes(e, desc, u->data, u->len));
    BLX__TRY(enc_field(e, desc, f, msg));
  }
  for (; u; u = u->next) BLX__TRY(enc_bytes(e, desc, u->data, u->len));
  e->depth--;
  return BLX__OK;
}

blx__rc blx__msg_encode(const struct blx__msg_desc *desc, const void *msg, struct blx__buf *out, blx_error *err) {
  struct enc e = {.out = out, .err = err};
  BLX__ASSERT(desc && msg && out->max > 0);
  BLX__TRY(enc_msg(&e, desc, msg));
  size_t n = e.room - e.at;
  BLX__ASSERT(n <= out->max - out->len);
  if (n) memmove(out->data + out->len, out->data + out->len + e.at, n);
  out->len += n;
  return BLX__OK;
}
