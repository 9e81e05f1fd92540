#include "schema/jsonval.h"

#include "schema/json.h"
#include "schema/json_int.h"
#include "schema/schema_int.h"

#include <stdio.h>

/* ---- values: a blx__jsonval is jansson's json_t under a name of ours */

static const json_t *in(const struct blx__jsonval *value) {
  return (const json_t *)(const void *)value;
}

static const struct blx__jsonval *as_value(const json_t *json) {
  return (const struct blx__jsonval *)(const void *)json;
}

blx__rc blx__jsonval_parse(struct blx__slice text, struct blx__jsonval **out, blx_error *err) {
  json_t *value;
  BLX__TRY(blx__json_parse(text, true, &value, err));
  *out = (struct blx__jsonval *)(void *)value;
  return BLX__OK;
}

void blx__jsonval_free(struct blx__jsonval *value) {
  json_decref((json_t *)(void *)value);
}

const struct blx__jsonval *blx__jsonval_get(const struct blx__jsonval *object, const char *key) {
  return as_value(json_object_get(in(object), key));
}

const struct blx__jsonval *blx__jsonval_path(const struct blx__jsonval *object, const char *path) {
  char key[65];
  while (object) {
    size_t n = strcspn(path, ".");
    if (n >= sizeof key) return NULL;
    memcpy(key, path, n);
    key[n] = '\0';
    object = blx__jsonval_get(object, key);
    if (path[n] == '\0') break;
    path += n + 1;
  }
  return object;
}

size_t blx__jsonval_len(const struct blx__jsonval *value) {
  return json_is_object(in(value)) ? json_object_size(in(value)) : json_array_size(in(value));
}

const struct blx__jsonval *blx__jsonval_at(const struct blx__jsonval *array, size_t i) {
  return as_value(json_array_get(in(array), i));
}

const char *blx__jsonval_str(const struct blx__jsonval *value) {
  return json_string_value(in(value));
}

bool blx__jsonval_int(const struct blx__jsonval *value, int64_t *out) {
  if (!json_is_integer(in(value))) return false;
  *out = json_integer_value(in(value));
  return true;
}

bool blx__jsonval_real(const struct blx__jsonval *value, double *out) {
  if (!json_is_number(in(value))) return false;
  *out = json_number_value(in(value));
  return true;
}

bool blx__jsonval_bool(const struct blx__jsonval *value, bool *out) {
  if (!json_is_boolean(in(value))) return false;
  *out = json_is_true(in(value));
  return true;
}

bool blx__jsonval_is_object(const struct blx__jsonval *value) {
  return json_is_object(in(value));
}

bool blx__jsonval_is_array(const struct blx__jsonval *value) {
  return json_is_array(in(value));
}

bool blx__jsonval_is_null(const struct blx__jsonval *value) {
  return json_is_null(in(value));
}

/* ---- writer */

static bool add_escaped(struct blx__buf *out, uint8_t c) {
  switch (c) {
  case '"': return blx__buf_add_str(out, "\\\"");
  case '\\': return blx__buf_add_str(out, "\\\\");
  case '\b': return blx__buf_add_str(out, "\\b");
  case '\f': return blx__buf_add_str(out, "\\f");
  case '\n': return blx__buf_add_str(out, "\\n");
  case '\r': return blx__buf_add_str(out, "\\r");
  case '\t': return blx__buf_add_str(out, "\\t");
  default: {
    static const char hex[] = "0123456789abcdef";
    const char six[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    return blx__buf_add(out, six, sizeof six);
  }
  }
}

static bool is_plain(uint8_t c) {
  return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
}

static bool add_quoted(struct blx__buf *out, const char *s) {
  size_t plain = 0;
  while (is_plain((uint8_t)s[plain])) plain++;
  if (s[plain] == '\0') { /* nearly always */
    if (!blx__buf_reserve(out, plain + 2)) return false;
    uint8_t *at = out->data + out->len;
    at[0] = at[plain + 1] = '"';
    memcpy(at + 1, s, plain);
    out->len += plain + 2;
    return true;
  }
  bool ok = blx__buf_add_byte(out, '"');
  while (ok && *s) {
    for (plain = 0; is_plain((uint8_t)s[plain]);) plain++;
    ok = blx__buf_add(out, s, plain);
    s += plain;
    if (ok && *s) ok = add_escaped(out, (uint8_t)*s++);
  }
  return ok && blx__buf_add_byte(out, '"');
}

blx__rc blx__json_str(struct blx__buf *out, const char *s) {
  size_t before = out->len;
  if (!s) s = "";
  if (!blx__schema_text_ok(s, strlen(s))) return (blx__rc){BLX_E_INVALID};
  if (add_quoted(out, s)) return BLX__OK;
  out->len = before;
  return (blx__rc){BLX_E_NOMEM};
}

void blx__jsonw_init(struct blx__jsonw *w, struct blx__buf *out, bool pretty) {
  *w = (struct blx__jsonw){.out = out, .pretty = pretty};
}

static void keep(struct blx__jsonw *w, bool ok) {
  if (!ok) w->failed = true;
}

/* A comma, a line's end and its indent, as one piece of text: half of a document's values have it in front. */
static void break_line(struct blx__jsonw *w, bool comma, unsigned depth) {
  static const char text[] = ",\n                                                                "
                             "                                                                ";
  _Static_assert(sizeof text - 1 >= 2 + 2 * BLX__JSONW_DEPTH_MAX, "room for the deepest line");
  size_t n = w->pretty ? 1 + 2 * (size_t)depth : 0;
  keep(w, blx__buf_add(w->out, comma ? text : text + 1, comma ? n + 1 : n));
}

/* What comes before a key, or before a value that has none. */
static void lead(struct blx__jsonw *w) {
  if (w->failed || w->after_key) {
    w->after_key = false;
    return;
  }
  if (w->depth == 0) return;
  break_line(w, w->level[w->depth - 1].used, w->depth);
  w->level[w->depth - 1].used = true;
}

static void open_level(struct blx__jsonw *w, bool array) {
  lead(w);
  if (w->depth == BLX__JSONW_DEPTH_MAX) w->failed = true;
  if (w->failed) return;
  keep(w, blx__buf_add_byte(w->out, array ? '[' : '{'));
  w->level[w->depth].array = array;
  w->level[w->depth].used = false;
  w->depth++;
}

void blx__jsonw_object(struct blx__jsonw *w) {
  open_level(w, false);
}

void blx__jsonw_array(struct blx__jsonw *w) {
  open_level(w, true);
}

void blx__jsonw_close(struct blx__jsonw *w) {
  if (w->failed) return;
  BLX__ASSERT(w->depth > 0 && !w->after_key);
  w->depth--;
  if (w->level[w->depth].used) break_line(w, false, w->depth);
  keep(w, blx__buf_add_byte(w->out, w->level[w->depth].array ? ']' : '}'));
}

void blx__jsonw_key(struct blx__jsonw *w, const char *key) {
  BLX__ASSERT(w->failed || (w->depth > 0 && !w->level[w->depth - 1].array && !w->after_key));
  lead(w);
  if (w->failed) return;
  keep(w, blx__json_str(w->out, key).code == 0 && blx__buf_add_str(w->out, w->pretty ? ": " : ":"));
  w->after_key = true;
}

void blx__schema_json_key(struct blx__jsonw *w, const char *name) {
  lead(w);
  if (w->failed) return;
  size_t n = strlen(name), end = w->pretty ? 3 : 2;
  w->after_key = true;
  keep(w, blx__buf_reserve(w->out, n + 4));
  if (w->failed) return;
  uint8_t *at = w->out->data + w->out->len;
  memcpy(at + 1, name, n + 1);
  at[0] = at[n + 1] = '"';
  at[n + 2] = ':';
  at[n + 3] = ' '; /* counted only where it is wanted */
  w->out->len += 1 + n + end;
}

void blx__jsonw_str(struct blx__jsonw *w, const char *s) {
  if (!s) {
    blx__jsonw_null(w);
    return;
  }
  lead(w);
  if (!w->failed) keep(w, blx__json_str(w->out, s).code == 0);
}

void blx__schema_json_text(struct blx__jsonw *w, const char *s) {
  lead(w);
  if (!w->failed) keep(w, add_quoted(w->out, s));
}

/* By hand: half of a message's values are numbers, and printf takes most of the time of writing one. */
static void number(struct blx__jsonw *w, bool negative, uint64_t v) {
  char text[21]; /* a sign, and 20 digits */
  size_t at = sizeof text;
  lead(w);
  if (w->failed) return;
  do {
    text[--at] = (char)('0' + v % 10);
    v /= 10;
  } while (v);
  if (negative) text[--at] = '-';
  keep(w, blx__buf_add(w->out, text + at, sizeof text - at));
}

void blx__jsonw_i64(struct blx__jsonw *w, int64_t v) {
  number(w, v < 0, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void blx__jsonw_u64(struct blx__jsonw *w, uint64_t v) {
  number(w, false, v);
}

static void word(struct blx__jsonw *w, const char *text) {
  lead(w);
  if (!w->failed) keep(w, blx__buf_add_str(w->out, text));
}

void blx__jsonw_bool(struct blx__jsonw *w, bool v) {
  word(w, v ? "true" : "false");
}

void blx__jsonw_null(struct blx__jsonw *w) {
  word(w, "null");
}

void blx__jsonw_bytes(struct blx__jsonw *w, const void *bytes, size_t n) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const uint8_t *p = bytes;
  word(w, "\"");
  for (size_t i = 0; i < n && !w->failed; i += 3) {
    size_t have = n - i < 3 ? n - i : 3;
    uint32_t v = (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0u);
    char four[4] = {digits[v >> 18], digits[v >> 12 & 63], have > 1 ? digits[v >> 6 & 63] : '=',
                    have > 2 ? digits[v & 63] : '='};
    keep(w, blx__buf_add(w->out, four, sizeof four));
  }
  if (!w->failed) keep(w, blx__buf_add_byte(w->out, '"'));
}

bool blx__jsonw_end(const struct blx__jsonw *w) {
  return !w->failed && w->depth == 0 && !w->after_key;
}
