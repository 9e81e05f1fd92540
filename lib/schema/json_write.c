#include "schema/json.h"
#include "schema/jsonval.h"
#include "schema/schema_int.h"

static const char origin_name[] = "json";

/* Beyond this a double, and so many a JSON reader, loses digits. */
#define EXACT_MAX (INT64_C(1) << 53)

struct writer {
  struct blx__jsonw json;
  unsigned flags, depth;
  blx_error *err;
};

static blx__rc write_msg(struct writer *w, const struct blx__msg_desc *desc, const void *msg);

static void write_number(struct writer *w, enum blx__kind kind, uint64_t v) {
  char text[24];
  bool is_u64 = kind == BLX__KIND_U64;
  int64_t i = (int64_t)v;
  bool exact = is_u64 ? v <= (uint64_t)EXACT_MAX : i <= EXACT_MAX && i >= -EXACT_MAX;
  if (exact) {
    blx__jsonw_i64(&w->json, i);
    return;
  }
  bool fits = is_u64 ? blx__str_format(text, sizeof text, "%llu", (unsigned long long)v)
                     : blx__str_format(text, sizeof text, "%lld", (long long)i);
  BLX__ASSERT(fits);
  blx__jsonw_str(&w->json, text);
}

static void write_enum(struct writer *w, const struct blx__enum_desc *e, int32_t number) {
  for (unsigned i = 0; i < e->value_count; i++) {
    if (e->values[i].number != number) continue;
    blx__schema_json_text(&w->json, e->values[i].label);
    return;
  }
  blx__jsonw_i64(&w->json, number);
}

static blx__rc write_value(struct writer *w, const struct blx__msg_desc *desc, const struct blx__field *f,
                           const void *at) {
  switch (f->kind) {
  case BLX__KIND_BOOL: blx__jsonw_bool(&w->json, blx__load_number(f->kind, at) != 0); break;
  case BLX__KIND_U32:
  case BLX__KIND_I32:
  case BLX__KIND_U64:
  case BLX__KIND_I64: write_number(w, f->kind, blx__load_number(f->kind, at)); break;
  case BLX__KIND_ENUM: write_enum(w, f->enumeration(), (int32_t)blx__load_number(f->kind, at)); break;
  case BLX__KIND_STR: {
    const char *s = blx__load_ptr(at);
    if (s && !blx__schema_text_ok(s, strlen(s)))
      return blx__fail(w->err, BLX_E_INVALID, origin_name, "%s.%s: is not UTF-8", desc->name, f->name);
    blx__schema_json_text(&w->json, s ? s : "");
    break;
  }
  case BLX__KIND_BYTES: {
    struct blx_bytes b;
    memcpy(&b, at, sizeof b);
    blx__jsonw_bytes(&w->json, b.data, b.len);
    break;
  }
  case BLX__KIND_MSG: {
    const void *sub = blx__load_ptr(at);
    if (!sub) return blx__fail(w->err, BLX_E_INVALID, origin_name, "%s.%s: an element is NULL", desc->name, f->name);
    return write_msg(w, f->msg(), sub);
  }
  }
  return BLX__OK;
}

static bool value_is_zero(const struct blx__field *f, const void *at) {
  if (f->kind == BLX__KIND_STR) {
    const char *s = blx__load_ptr(at);
    return !s || !*s;
  }
  if (f->kind == BLX__KIND_BYTES) {
    struct blx_bytes b;
    memcpy(&b, at, sizeof b);
    return b.len == 0;
  }
  return blx__load_number(f->kind, at) == 0;
}

static blx__rc write_repeated(struct writer *w, const struct blx__msg_desc *desc, const struct blx__field *f,
                              const void *msg) {
  size_t n = blx__field_count(f, msg), each = blx__schema_element_size(f->kind);
  const uint8_t *elements = n ? blx__load_ptr(blx__field_at(f, msg)) : NULL;
  if (n > 0 && (n > f->cap || !elements))
    return blx__fail(w->err, BLX_E_INVALID, origin_name, "%s.%s: %zu elements, more than the %zu allowed", desc->name,
                     f->name, n, elements ? f->cap : 0);
  if (n == 0 && !(w->flags & BLX__JSON_DEFAULTS)) return BLX__OK;
  blx__schema_json_key(&w->json, f->name);
  blx__jsonw_array(&w->json);
  for (size_t i = 0; i < n; i++) BLX__TRY(write_value(w, desc, f, elements + i * each));
  blx__jsonw_close(&w->json);
  return BLX__OK;
}

static blx__rc write_field(struct writer *w, const struct blx__msg_desc *desc, const struct blx__field *f,
                           const void *msg) {
  static const uint8_t zeroes[sizeof(struct blx_bytes)];
  if (f->card == BLX__CARD_REP) return write_repeated(w, desc, f, msg);
  bool inside = blx__field_inside(f, msg);
  const void *at = inside ? blx__field_at(f, msg) : zeroes;
  if (f->kind == BLX__KIND_MSG) {
    if (!blx__load_ptr(at)) return BLX__OK;
  } else if (f->card == BLX__CARD_OPT) {
    if (!inside || !blx__field_has(f, msg)) return BLX__OK;
  } else if (!(w->flags & BLX__JSON_DEFAULTS) && value_is_zero(f, at)) {
    return BLX__OK;
  }
  blx__schema_json_key(&w->json, f->name);
  return write_value(w, desc, f, at);
}

static blx__rc write_msg(struct writer *w, const struct blx__msg_desc *desc, const void *msg) {
  if (++w->depth > BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, w->err);
  BLX__TRY(blx__schema_head_ok(desc, msg, origin_name, w->err));
  blx__jsonw_object(&w->json);
  for (unsigned i = 0; i < desc->field_count; i++) BLX__TRY(write_field(w, desc, &desc->fields[i], msg));
  blx__jsonw_close(&w->json);
  w->depth--;
  return BLX__OK;
}

blx__rc blx__json_write(const struct blx__msg_desc *desc, const void *msg, unsigned flags, struct blx__buf *out,
                        blx_error *err) {
  struct writer w = {.flags = flags, .err = err};
  size_t before = out->len;
  BLX__ASSERT(desc && msg);
  blx__jsonw_init(&w.json, out, (flags & BLX__JSON_PRETTY) != 0);
  blx__rc rc = write_msg(&w, desc, msg);
  if (rc.code == 0 && !blx__jsonw_end(&w.json))
    rc = blx__fail(err, BLX_E_INVALID, origin_name, "%s: as JSON it does not fit the %zu bytes allowed", desc->name,
                   out->max);
  if (rc.code != 0) out->len = before;
  return rc;
}
