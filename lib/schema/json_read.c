#include "schema/json.h"
#include "schema/json_int.h"
#include "schema/schema_int.h"
#include "schema/validate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char origin_name[] = "json";

struct reader {
  const struct blx__msg_desc *root;
  struct blx__arena *arena;
  blx_error *err;
};

enum { SHOWN_BYTES = BLX__QUOTE_BYTES * 4 };

static blx__rc read_msg(struct reader *r, const struct blx__msg_desc *desc, json_t *json, void *msg,
                        const struct blx__path *path);

/* A value for people: short, and nothing in it that a terminal would obey. */
static const char *shown(json_t *json, char out[SHOWN_BYTES]) {
  switch (json_typeof(json)) {
  case JSON_OBJECT: return "an object";
  case JSON_ARRAY: return "an array";
  case JSON_TRUE: return "true";
  case JSON_FALSE: return "false";
  case JSON_NULL: return "null";
  case JSON_STRING: return blx__schema_quote(json_string_value(json), json_string_length(json), out);
  case JSON_INTEGER: (void)blx__str_format(out, SHOWN_BYTES, "%lld", (long long)json_integer_value(json)); break;
  case JSON_REAL: (void)blx__str_format(out, SHOWN_BYTES, "%.17g", json_real_value(json)); break;
  }
  return out;
}

static blx__rc wrong(struct reader *r, const struct blx__path *path, json_t *json, const char *want) {
  char where[BLX__PATH_BYTES], value[SHOWN_BYTES];
  return blx__fail(r->err, BLX_E_INVALID, origin_name, "%s: %s is not %s", blx__schema_path(r->root, path, where),
                   shown(json, value), want);
}

/* ---- numbers */

/* Decimal text of the whole range of 64 bits, as a varint would carry it. */
static bool number_of_text(const char *s, bool is_signed, uint64_t *out) {
  bool minus = *s == '-';
  if (minus && !is_signed) return false;
  uint64_t v;
  if (!blx__parse_u64(s + minus, 0, is_signed ? (uint64_t)INT64_MAX + minus : UINT64_MAX, &v)) return false;
  *out = minus ? 0 - v : v;
  return true;
}

static bool number_of(json_t *json, enum blx__kind kind, uint64_t *out) {
  bool is_signed = kind == BLX__KIND_I32 || kind == BLX__KIND_I64 || kind == BLX__KIND_ENUM;
  if (json_is_string(json)) return number_of_text(json_string_value(json), is_signed, out);
  if (json_is_integer(json)) {
    json_int_t i = json_integer_value(json);
    *out = (uint64_t)i;
    return i >= 0 || is_signed;
  }
  if (!json_is_real(json)) return false;
  double v = json_real_value(json);
  /* Up to 2^53 a double is the number that was written. */
  if (!(v >= -9007199254740992.0 && v <= 9007199254740992.0) || v != floor(v)) return false;
  *out = (uint64_t)(int64_t)v;
  return v >= 0 || is_signed;
}

static blx__rc read_number(struct reader *r, const struct blx__field *f, json_t *json, void *slot,
                           const struct blx__path *path) {
  char range[96];
  uint64_t v = 0;
  if (!number_of(json, f->kind, &v) || !blx__number_fits(f->kind, v)) {
    (void)blx__field_range(f, range, sizeof range);
    return wrong(r, path, json, range);
  }
  blx__store_number(f->kind, slot, v);
  return BLX__OK;
}

static blx__rc read_enum(struct reader *r, const struct blx__field *f, json_t *json, void *slot,
                         const struct blx__path *path) {
  const struct blx__enum_desc *e = f->enumeration();
  char list[320] = "one of ";
  size_t used = strlen(list);
  int32_t number;
  uint64_t v;
  if (json_is_string(json) && blx__enum_value(e, json_string_value(json), &number)) {
    blx__store_number(f->kind, slot, (uint64_t)(int64_t)number);
    return BLX__OK;
  }
  if (json_is_number(json) && number_of(json, f->kind, &v) && blx__number_fits(f->kind, v)) {
    blx__store_number(f->kind, slot, v);
    return BLX__OK;
  }
  for (unsigned i = 0; i < e->value_count; i++)
    if (blx__str_format(list + used, sizeof list - used, "%s%s", i ? ", " : "", e->values[i].label))
      used += strlen(list + used);
  return wrong(r, path, json, list);
}

/* ---- text and bytes */

static blx__rc too_long(struct reader *r, const struct blx__field *f, size_t n, const struct blx__path *path) {
  char where[BLX__PATH_BYTES];
  return blx__fail(r->err, BLX_E_INVALID, origin_name, "%s: %zu bytes, more than the %llu allowed",
                   blx__schema_path(r->root, path, where), n, (unsigned long long)f->max);
}

static blx__rc read_text(struct reader *r, const struct blx__field *f, json_t *json, void *slot,
                         const struct blx__path *path) {
  if (!json_is_string(json)) return wrong(r, path, json, "text");
  size_t n = json_string_length(json);
  if (n > f->max) return too_long(r, f, n, path);
  char *copy = blx__arena_strndup(r->arena, json_string_value(json), n);
  if (!copy) return blx__schema_full(r->arena, n + 1, origin_name, r->err);
  blx__store_ptr(slot, copy);
  return BLX__OK;
}

static int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* @n digits without padding. False when one is none of base64, or bits are left over. */
static bool base64_decode(const char *s, size_t n, uint8_t *out) {
  uint32_t bits = 0;
  unsigned have = 0;
  for (size_t i = 0; i < n; i++) {
    int d = base64_digit(s[i]);
    if (d < 0) return false;
    bits = bits << 6 | (uint32_t)d;
    have += 6;
    if (have < 8) continue;
    have -= 8;
    *out++ = (uint8_t)(bits >> have);
  }
  return n % 4 != 1 && (bits & ((1u << have) - 1)) == 0;
}

static blx__rc read_bytes(struct reader *r, const struct blx__field *f, json_t *json, void *slot,
                          const struct blx__path *path) {
  if (!json_is_string(json)) return wrong(r, path, json, "base64 text");
  const char *s = json_string_value(json);
  size_t n = json_string_length(json), pad = 0;
  while (pad < 2 && pad < n && n % 4 == 0 && s[n - 1 - pad] == '=') pad++;
  n -= pad;
  size_t len = n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0);
  if (len > f->max) return too_long(r, f, len, path);
  uint8_t *data = len ? blx__arena_alloc(r->arena, len) : NULL;
  if (len && !data) return blx__schema_full(r->arena, len, origin_name, r->err);
  uint8_t none[1] = {0};
  if (!base64_decode(s, n, data ? data : none)) return wrong(r, path, json, "base64 text");
  struct blx_bytes b = {data, len};
  memcpy(slot, &b, sizeof b);
  return BLX__OK;
}

/* ---- messages */

static blx__rc read_sub(struct reader *r, const struct blx__field *f, json_t *json, void *slot,
                        const struct blx__path *path) {
  const struct blx__msg_desc *sub = f->msg();
  if (!json_is_object(json)) return wrong(r, path, json, "an object");
  void *msg = blx__msg_new(sub, r->arena);
  if (!msg) return blx__schema_full(r->arena, sub->size, origin_name, r->err);
  blx__store_ptr(slot, msg);
  return read_msg(r, sub, json, msg, path);
}

static blx__rc read_value(struct reader *r, const struct blx__field *f, json_t *json, void *slot,
                          const struct blx__path *path) {
  switch (f->kind) {
  case BLX__KIND_BOOL:
    if (!json_is_boolean(json)) return wrong(r, path, json, "true or false");
    blx__store_number(f->kind, slot, json_is_true(json));
    return BLX__OK;
  case BLX__KIND_U32:
  case BLX__KIND_I32:
  case BLX__KIND_U64:
  case BLX__KIND_I64: return read_number(r, f, json, slot, path);
  case BLX__KIND_ENUM: return read_enum(r, f, json, slot, path);
  case BLX__KIND_STR: return read_text(r, f, json, slot, path);
  case BLX__KIND_BYTES: return read_bytes(r, f, json, slot, path);
  case BLX__KIND_MSG: return read_sub(r, f, json, slot, path);
  }
  return BLX__OK;
}

static blx__rc read_field(struct reader *r, const struct blx__msg_desc *desc, const struct blx__field *f, json_t *json,
                          void *msg, const struct blx__path *up) {
  struct blx__path path = {up, f, SIZE_MAX};
  if (json_is_null(json)) return BLX__OK;
  if (f->card == BLX__CARD_REP) {
    if (!json_is_array(json)) return wrong(r, &path, json, "an array");
    for (path.at = 0; path.at < json_array_size(json); path.at++) {
      void *slot;
      BLX__TRY(blx__schema_slot(desc, f, msg, r->arena, &path, &slot, r->err));
      BLX__TRY(read_value(r, f, json_array_get(json, path.at), slot, &path));
    }
    return BLX__OK;
  }
  BLX__TRY(read_value(r, f, json, (uint8_t *)msg + f->offset, &path));
  if (f->card == BLX__CARD_OPT && f->kind != BLX__KIND_MSG)
    memcpy((uint8_t *)msg + f->aux, &(uint32_t){1}, sizeof(uint32_t));
  return BLX__OK;
}

enum { NEAR_KEY_MAX = 48 };

/* Levenshtein's distance of two texts of at most NEAR_KEY_MAX bytes. */
static size_t distance(const char *a, const char *b) {
  size_t row[NEAR_KEY_MAX + 1], nb = strlen(b);
  for (size_t j = 0; j <= nb; j++) row[j] = j;
  for (size_t i = 1; a[i - 1]; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= nb; j++) {
      size_t best = diagonal + (a[i - 1] != b[j - 1]);
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      diagonal = row[j];
      row[j] = best;
    }
  }
  return row[nb];
}

/* The field that was probably meant, or NULL. */
static const char *nearest(const struct blx__msg_desc *desc, const char *key) {
  size_t n = strlen(key), limit = 1 + n / 3;
  const char *found = NULL;
  if (n > NEAR_KEY_MAX) return NULL;
  for (unsigned i = 0; i < desc->field_count; i++) {
    const char *name = desc->fields[i].name;
    if (strlen(name) > NEAR_KEY_MAX) continue;
    bool prefix = n >= 3 && (strncmp(name, key, n) == 0 || strncmp(name, key, strlen(name)) == 0);
    size_t far = prefix ? 1 : distance(key, name);
    if (far > limit) continue;
    found = name;
    limit = far ? far - 1 : 0;
  }
  return found;
}

static blx__rc unknown_key(struct reader *r, const struct blx__msg_desc *desc, const char *key,
                           const struct blx__path *path) {
  char where[BLX__PATH_BYTES], quoted[SHOWN_BYTES], list[200] = "";
  const char *near = nearest(desc, key);
  size_t used = 0;
  blx__schema_quote(key, strlen(key), quoted);
  if (near)
    return blx__fail(r->err, BLX_E_INVALID, origin_name, "%s: there is no field %s; did you mean \"%s\"?",
                     blx__schema_path(r->root, path, where), quoted, near);
  for (unsigned i = 0; i < desc->field_count; i++) {
    if (!blx__str_format(list + used, sizeof list - used, "%s%s", i ? ", " : "", desc->fields[i].name)) {
      list[used] = '\0';
      break;
    }
    used += strlen(list + used);
  }
  return blx__fail(r->err, BLX_E_INVALID, origin_name, "%s: there is no field %s; there are %s",
                   blx__schema_path(r->root, path, where), quoted, list);
}

/* The depth is bounded by blx__json_parse. */
static blx__rc read_msg(struct reader *r, const struct blx__msg_desc *desc, json_t *json, void *msg,
                        const struct blx__path *path) {
  const char *key;
  json_t *value;
  json_object_foreach(json, key, value) {
    const struct blx__field *f = blx__desc_field(desc, key);
    if (!f) return unknown_key(r, desc, key, path);
    BLX__TRY(read_field(r, desc, f, value, msg, path));
  }
  return BLX__OK;
}

blx__rc blx__json_read(const struct blx__msg_desc *desc, struct blx__arena *arena, struct blx__slice text, void **out,
                       blx_error *err) {
  struct reader r = {.root = desc, .arena = arena, .err = err};
  json_t *json = NULL;
  BLX__TRY(blx__json_parse(text, false, &json, err));
  void *msg = blx__msg_new(desc, arena);
  blx__rc rc = msg ? read_msg(&r, desc, json, msg, NULL) : blx__schema_full(arena, desc->size, origin_name, err);
  json_decref(json);
  if (rc.code == 0) *out = msg;
  return rc;
}
