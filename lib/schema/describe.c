#include "schema/desc.h"
#include "schema/json.h"
#include "schema/jsonval.h"
#include "schema/schema_int.h"

#include <string.h>

static const char origin_name[] = "schema";

/* What is public: lib/schema/internal.def is the members' own. */
static const struct blx__msg_desc *(*const messages[])(void) = {
#define MSG(NAME, PROTO, DOC) blx__desc_##NAME,
#include "schema/macros.h"
#include "schema/types.def"
#include "schema/api.def"
#include "schema/macros_end.h"
};
static const struct blx__enum_desc *(*const enums[])(void) = {
#define ENUM(NAME, PROTO, DOC) blx__enum_##NAME,
#include "schema/macros.h"
#include "schema/types.def"
#include "schema/api.def"
#include "schema/macros_end.h"
};

static void put_str(struct blx__jsonw *w, const char *key, const char *value) {
  blx__jsonw_key(w, key);
  blx__jsonw_str(w, value);
}

static const char *type_of(const struct blx__field *f) {
  switch (f->kind) {
  case BLX__KIND_BOOL: return "bool";
  case BLX__KIND_U32: return "u32";
  case BLX__KIND_I32: return "i32";
  case BLX__KIND_U64: return "u64";
  case BLX__KIND_I64: return "i64";
  case BLX__KIND_STR: return "text";
  case BLX__KIND_BYTES: return "bytes";
  case BLX__KIND_ENUM: return f->enumeration()->name;
  case BLX__KIND_MSG: return f->msg()->name;
  }
  BLX__ASSERT(false);
  return "";
}

/* DESIGN: a name ends with its unit. */
static const char *unit_of(const char *name) {
  static const char *const units[][2] = {{"_ms", "ms"}, {"_mib", "MiB"}, {"_gib", "GiB"}, {"_bytes", "bytes"}};
  for (size_t i = 0; i < BLX__COUNT(units); i++) {
    size_t n = strlen(name), end = strlen(units[i][0]);
    if (n > end && strcmp(name + n - end, units[i][0]) == 0) return units[i][1];
  }
  return "";
}

/* Numbers: from min to max. Text and bytes: their lengths. An enum's default is a label. */
static void put_limits(struct blx__jsonw *w, const struct blx__field *f) {
  bool counts = f->kind != BLX__KIND_BOOL && f->kind != BLX__KIND_ENUM && f->kind != BLX__KIND_MSG;
  if (counts && (f->min != 0 || f->max != 0)) {
    blx__jsonw_key(w, "min");
    blx__jsonw_i64(w, f->min);
    blx__jsonw_key(w, "max");
    blx__jsonw_u64(w, f->max);
  }
  if (f->cap > 0) {
    blx__jsonw_key(w, "elements_max");
    blx__jsonw_u64(w, f->cap);
  }
  if (f->kind == BLX__KIND_STR && f->def_text && *f->def_text) put_str(w, "default", f->def_text);
  if (f->kind == BLX__KIND_ENUM && f->card != BLX__CARD_REP)
    put_str(w, "default", blx__enum_label(f->enumeration(), (int32_t)f->def_number));
  if (counts && f->def_number != 0) {
    blx__jsonw_key(w, "default");
    blx__jsonw_i64(w, f->def_number);
  }
}

static void put_field(struct blx__jsonw *w, const struct blx__field *f) {
  const char *unit = unit_of(f->name);
  blx__jsonw_object(w);
  put_str(w, "name", f->name);
  put_str(w, "type", type_of(f));
  if (f->kind == BLX__KIND_MSG || f->kind == BLX__KIND_ENUM)
    put_str(w, "of", f->kind == BLX__KIND_MSG ? "message" : "enum");
  if (*unit) put_str(w, "unit", unit);
  if (f->card != BLX__CARD_ONE) {
    blx__jsonw_key(w, f->card == BLX__CARD_REP ? "repeated" : "optional");
    blx__jsonw_bool(w, true);
  }
  put_limits(w, f);
  put_str(w, "doc", f->doc);
  blx__jsonw_close(w);
}

static void put_message(struct blx__jsonw *w, const struct blx__msg_desc *desc) {
  blx__jsonw_object(w);
  put_str(w, "name", desc->name);
  put_str(w, "kind", "message");
  put_str(w, "doc", desc->doc);
  blx__jsonw_key(w, "fields");
  blx__jsonw_array(w);
  for (unsigned i = 0; i < desc->field_count; i++) put_field(w, &desc->fields[i]);
  blx__jsonw_close(w);
  blx__jsonw_close(w);
}

static void put_enum(struct blx__jsonw *w, const struct blx__enum_desc *desc) {
  blx__jsonw_object(w);
  put_str(w, "name", desc->name);
  put_str(w, "kind", "enum");
  put_str(w, "doc", desc->doc);
  blx__jsonw_key(w, "values");
  blx__jsonw_array(w);
  for (unsigned i = 0; i < desc->value_count; i++) {
    blx__jsonw_object(w);
    put_str(w, "name", desc->values[i].label);
    blx__jsonw_key(w, "number");
    blx__jsonw_i64(w, desc->values[i].number);
    put_str(w, "doc", desc->values[i].doc);
    blx__jsonw_close(w);
  }
  blx__jsonw_close(w);
  blx__jsonw_close(w);
}

static void put_entry(struct blx__jsonw *w, const char *name, const char *kind, const char *doc) {
  blx__jsonw_object(w);
  put_str(w, "name", name);
  put_str(w, "kind", kind);
  put_str(w, "doc", doc);
  blx__jsonw_close(w);
}

static void put_all(struct blx__jsonw *w) {
  blx__jsonw_object(w);
  blx__jsonw_key(w, "types");
  blx__jsonw_array(w);
  for (size_t i = 0; i < BLX__COUNT(messages); i++) put_entry(w, messages[i]()->name, "message", messages[i]()->doc);
  for (size_t i = 0; i < BLX__COUNT(enums); i++) put_entry(w, enums[i]()->name, "enum", enums[i]()->doc);
  blx__jsonw_close(w);
  blx__jsonw_close(w);
}

static bool put_named(struct blx__jsonw *w, const char *name) {
  for (size_t i = 0; i < BLX__COUNT(messages); i++) {
    if (strcmp(messages[i]()->name, name) != 0) continue;
    put_message(w, messages[i]());
    return true;
  }
  for (size_t i = 0; i < BLX__COUNT(enums); i++) {
    if (strcmp(enums[i]()->name, name) != 0) continue;
    put_enum(w, enums[i]());
    return true;
  }
  return false;
}

blx__rc blx__json_describe(const char *name, struct blx__buf *out, blx_error *err) {
  struct blx__jsonw w;
  size_t before = out->len;
  char quoted[BLX__QUOTE_BYTES * 4];
  blx__jsonw_init(&w, out, false);
  if (!name)
    put_all(&w);
  else if (!put_named(&w, name))
    return blx__fail(err, BLX_E_NOT_FOUND, origin_name, "there is no type %s",
                     blx__schema_quote(name, strlen(name), quoted));
  if (blx__jsonw_end(&w)) return BLX__OK;
  out->len = before;
  return blx__fail(err, BLX_E_NOMEM, origin_name, "no memory for a description of %zu bytes", out->max);
}
