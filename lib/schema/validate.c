#include "schema/validate.h"

#include "schema/schema_int.h"

#include <stdio.h>

static const char origin_name[] = "validate";

const char *blx__field_unit(const struct blx__field *field) {
  static const struct {
    const char *ending, *unit;
  } units[] = {{"_mib", "MiB"}, {"_gib", "GiB"},     {"_kib", "KiB"},
               {"_ms", "ms"},   {"_bytes", "bytes"}, {"_percent", "%"}};
  size_t n = strlen(field->name);
  for (size_t i = 0; i < BLX__COUNT(units); i++) {
    size_t k = strlen(units[i].ending);
    if (n > k && strcmp(field->name + n - k, units[i].ending) == 0) return units[i].unit;
  }
  return "";
}

static bool is_signed(enum blx__kind kind) {
  return kind == BLX__KIND_I32 || kind == BLX__KIND_I64;
}

static uint64_t type_max(enum blx__kind kind) {
  switch (kind) {
  case BLX__KIND_BOOL: return 1;
  case BLX__KIND_U32: return UINT32_MAX;
  case BLX__KIND_I32:
  case BLX__KIND_ENUM: return INT32_MAX;
  case BLX__KIND_U64: return UINT64_MAX;
  case BLX__KIND_I64: return INT64_MAX;
  case BLX__KIND_STR:
  case BLX__KIND_BYTES:
  case BLX__KIND_MSG: break;
  }
  return 0;
}

/* The limits as they hold: what the row leaves open is the type's. */
static void limits_of(const struct blx__field *f, int64_t *min, uint64_t *max) {
  bool open = f->min == 0 && f->max == 0;
  *min = !open ? f->min : f->kind == BLX__KIND_I32 ? INT32_MIN : f->kind == BLX__KIND_I64 ? INT64_MIN : 0;
  *max = f->max ? f->max : type_max(f->kind);
}

bool blx__field_range(const struct blx__field *field, char *out, size_t out_size) {
  int64_t min;
  uint64_t max;
  const char *unit = blx__field_unit(field);
  limits_of(field, &min, &max);
  return blx__str_format(out, out_size, "a whole number from %lld to %llu%s%s%s", (long long)min,
                         (unsigned long long)max, unit[0] ? " (" : "", unit, unit[0] ? ")" : "");
}

/* ---- defaults */

static blx__rc defaults_msg(const struct blx__msg_desc *desc, void *msg, unsigned depth, blx_error *err);

static void default_one(const struct blx__field *f, void *msg) {
  uint8_t *at = (uint8_t *)msg + f->offset;
  bool opt = f->card == BLX__CARD_OPT;
  if (opt && blx__field_has(f, msg)) return;
  if (f->kind == BLX__KIND_STR) {
    const char *s = blx__load_ptr(at);
    if (!f->def_text[0] || (!opt && s && *s)) return;
    blx__store_ptr(at, f->def_text);
  } else {
    if (f->def_number == 0 || (!opt && blx__load_number(f->kind, at) != 0)) return;
    blx__store_number(f->kind, at, (uint64_t)f->def_number);
  }
  if (opt) memcpy((uint8_t *)msg + f->aux, &(uint32_t){1}, sizeof(uint32_t));
}

static blx__rc defaults_field(const struct blx__field *f, void *msg, unsigned depth, blx_error *err) {
  uint8_t *at = (uint8_t *)msg + f->offset;
  if (f->kind == BLX__KIND_BYTES) return BLX__OK;
  if (f->kind != BLX__KIND_MSG) {
    if (f->card != BLX__CARD_REP) default_one(f, msg);
    return BLX__OK;
  }
  size_t n = f->card == BLX__CARD_REP ? blx__field_count(f, msg) : 1;
  const uint8_t *elements = f->card == BLX__CARD_REP ? blx__load_ptr(at) : at;
  for (size_t i = 0; elements && i < n; i++) {
    void *sub = (void *)(uintptr_t)blx__load_ptr(elements + i * sizeof(void *));
    if (sub) BLX__TRY(defaults_msg(f->msg(), sub, depth, err));
  }
  return BLX__OK;
}

static blx__rc defaults_msg(const struct blx__msg_desc *desc, void *msg, unsigned depth, blx_error *err) {
  if (depth >= BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, err);
  if (blx__struct_size(msg) != desc->size)
    return blx__fail(err, BLX_E_MISUSE, origin_name,
                     "struct blx_%s: defaults need the whole struct of %zu bytes, not %zu", desc->name, desc->size,
                     blx__struct_size(msg));
  for (unsigned i = 0; i < desc->field_count; i++) BLX__TRY(defaults_field(&desc->fields[i], msg, depth + 1, err));
  return BLX__OK;
}

blx__rc blx__msg_defaults(const struct blx__msg_desc *desc, struct blx__arena *arena, void *msg, blx_error *err) {
  (void)arena; /* texts filled in are static */
  return defaults_msg(desc, msg, 0, err);
}

/* ---- limits */

struct val {
  const struct blx__msg_desc *root;
  unsigned depth;
  blx_error *err;
};

static blx__rc val_msg(struct val *v, const struct blx__msg_desc *desc, const void *msg, const struct blx__path *path);

static blx__rc val_fail(struct val *v, const struct blx__path *path, const char *fmt, ...) BLX__PRINTF(3, 4);
static blx__rc val_fail(struct val *v, const struct blx__path *path, const char *fmt, ...) {
  char where[BLX__PATH_BYTES], what[448];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(what, sizeof what, fmt, ap);
  va_end(ap);
  return blx__fail(v->err, BLX_E_INVALID, origin_name, "%s: %s", blx__schema_path(v->root, path, where),
                   n < 0 ? "is not allowed" : what);
}

static blx__rc val_enum(struct val *v, const struct blx__field *f, int32_t number, const struct blx__path *path) {
  const struct blx__enum_desc *e = f->enumeration();
  char list[320] = "";
  size_t used = 0;
  for (unsigned i = 0; i < e->value_count; i++) {
    if (e->values[i].number == number) return BLX__OK;
    if (blx__str_format(list + used, sizeof list - used, "%s%s", i ? ", " : "", e->values[i].label))
      used += strlen(list + used);
  }
  return val_fail(v, path, "%d is none of %s", number, list);
}

static blx__rc val_number(struct val *v, const struct blx__field *f, uint64_t number, const struct blx__path *path) {
  const char *unit = blx__field_unit(f);
  const char *open = unit[0] ? " (" : "", *shut = unit[0] ? ")" : "";
  int64_t min;
  uint64_t max;
  limits_of(f, &min, &max);
  if (is_signed(f->kind)) {
    long long n = (long long)(int64_t)number;
    if (n < min) return val_fail(v, path, "%lld is below %lld%s%s%s", n, (long long)min, open, unit, shut);
    if (n > (int64_t)max) return val_fail(v, path, "%lld is above %lld%s%s%s", n, (long long)max, open, unit, shut);
    return BLX__OK;
  }
  unsigned long long n = number;
  if (n < (uint64_t)min) return val_fail(v, path, "%llu is below %lld%s%s%s", n, (long long)min, open, unit, shut);
  if (n > max) return val_fail(v, path, "%llu is above %llu%s%s%s", n, (unsigned long long)max, open, unit, shut);
  return BLX__OK;
}

/* C0, DEL, and C1 as UTF-8 writes it. */
static bool has_control(const char *s) {
  for (const uint8_t *p = (const uint8_t *)s; *p; p++)
    if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0)) return true;
  return false;
}

static blx__rc val_text(struct val *v, const struct blx__field *f, const char *s, const struct blx__path *path) {
  char quoted[BLX__QUOTE_BYTES * 4];
  size_t max = (size_t)f->max, n = s ? strnlen(s, max + 1) : 0;
  if (n == 0) return f->min > 0 ? val_fail(v, path, "is required") : BLX__OK;
  if (f->form == BLX__FORM_NAME && !blx__name_ok(s, max))
    return val_fail(v, path, "%s does not match " BLX__NAME_PATTERN ", at most %zu characters",
                    blx__schema_quote(s, n, quoted), max);
  if (n > max) return val_fail(v, path, "%zu bytes, more than the %zu allowed", strlen(s), max);
  if (n < (size_t)f->min) return val_fail(v, path, "%zu bytes, fewer than the %zu needed", n, (size_t)f->min);
  if (!blx__schema_text_ok(s, n)) return val_fail(v, path, "%s is not UTF-8", blx__schema_quote(s, n, quoted));
  if (f->form == BLX__FORM_LINE && has_control(s))
    return val_fail(v, path, "%s has a control character; one line of plain text is needed",
                    blx__schema_quote(s, n, quoted));
  return BLX__OK;
}

/* One value that is there. */
static blx__rc val_value(struct val *v, const struct blx__field *f, const void *at, const struct blx__path *path) {
  switch (f->kind) {
  case BLX__KIND_BOOL: return BLX__OK;
  case BLX__KIND_U32:
  case BLX__KIND_I32:
  case BLX__KIND_U64:
  case BLX__KIND_I64: return val_number(v, f, blx__load_number(f->kind, at), path);
  case BLX__KIND_ENUM: return val_enum(v, f, (int32_t)blx__load_number(f->kind, at), path);
  case BLX__KIND_STR: return val_text(v, f, blx__load_ptr(at), path);
  case BLX__KIND_BYTES: {
    struct blx_bytes b;
    memcpy(&b, at, sizeof b);
    if (b.len > f->max)
      return val_fail(v, path, "%zu bytes, more than the %llu allowed", b.len, (unsigned long long)f->max);
    if (b.len && !b.data) return blx__schema_no_bytes(f, b.len, origin_name, v->err);
    if (b.len < (size_t)f->min) return val_fail(v, path, b.len ? "is too short" : "is required");
    return BLX__OK;
  }
  case BLX__KIND_MSG: {
    const void *sub = blx__load_ptr(at);
    if (sub) return val_msg(v, f->msg(), sub, path);
    if (f->card == BLX__CARD_REP) return val_fail(v, path, "is NULL");
    return f->min > 0 ? val_fail(v, path, "is required") : BLX__OK;
  }
  }
  return BLX__OK;
}

static blx__rc val_field(struct val *v, const struct blx__field *f, const void *msg, const struct blx__path *up) {
  struct blx__path path = {up, f, SIZE_MAX};
  if (f->card == BLX__CARD_REP) {
    size_t n = blx__field_count(f, msg), each = blx__schema_element_size(f->kind);
    if (n > f->cap) return val_fail(v, &path, "%zu elements, more than the %zu allowed", n, f->cap);
    const uint8_t *elements = n ? blx__load_ptr(blx__field_at(f, msg)) : NULL;
    if (n && !elements) return val_fail(v, &path, "is NULL and has %zu elements", n);
    for (path.at = 0; path.at < n; path.at++) BLX__TRY(val_value(v, f, elements + path.at * each, &path));
    return BLX__OK;
  }
  static const uint8_t zeroes[sizeof(struct blx_bytes)];
  bool inside = blx__field_inside(f, msg);
  if (f->card == BLX__CARD_OPT && f->kind != BLX__KIND_MSG && (!inside || !blx__field_has(f, msg))) return BLX__OK;
  return val_value(v, f, inside ? blx__field_at(f, msg) : zeroes, &path);
}

static blx__rc val_msg(struct val *v, const struct blx__msg_desc *desc, const void *msg, const struct blx__path *path) {
  if (++v->depth > BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, v->err);
  BLX__TRY(blx__schema_head_ok(desc, msg, origin_name, v->err));
  for (unsigned i = 0; i < desc->field_count; i++) BLX__TRY(val_field(v, &desc->fields[i], msg, path));
  v->depth--;
  return BLX__OK;
}

blx__rc blx__msg_validate(const struct blx__msg_desc *desc, const void *msg, blx_error *err) {
  struct val v = {.root = desc, .err = err};
  return val_msg(&v, desc, msg, NULL);
}

/* ---- unknown fields */

static blx__rc refuse_msg(struct val *v, const struct blx__msg_desc *desc, const void *msg,
                          const struct blx__path *up) {
  if (++v->depth > BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, v->err);
  BLX__TRY(blx__schema_head_ok(desc, msg, origin_name, v->err));
  const struct blx__unknown *u = ((const struct blx__msg_head *)msg)->unknown;
  if (u) return blx__schema_unknown(v->root, u->id, up, origin_name, v->err);
  for (unsigned i = 0; i < desc->field_count; i++) {
    const struct blx__field *f = &desc->fields[i];
    if (f->kind != BLX__KIND_MSG || !blx__field_inside(f, msg)) continue;
    bool rep = f->card == BLX__CARD_REP;
    size_t n = rep ? blx__field_count(f, msg) : 1;
    const uint8_t *elements = rep ? blx__load_ptr(blx__field_at(f, msg)) : blx__field_at(f, msg);
    for (size_t k = 0; elements && k < n; k++) {
      struct blx__path path = {up, f, rep ? k : SIZE_MAX};
      const void *sub = blx__load_ptr(elements + k * sizeof(void *));
      if (sub) BLX__TRY(refuse_msg(v, f->msg(), sub, &path));
    }
  }
  v->depth--;
  return BLX__OK;
}

blx__rc blx__msg_refuse_unknown(const struct blx__msg_desc *desc, const void *msg, blx_error *err) {
  struct val v = {.root = desc, .err = err};
  return refuse_msg(&v, desc, msg, NULL);
}
