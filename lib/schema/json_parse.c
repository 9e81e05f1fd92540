/* What stands between a hostile text and the parser. */
#include "schema/json.h"
#include "schema/json_int.h"

#include <string.h>

static const char origin_name[] = "json";

static blx__rc check_encoding(struct blx__slice text, blx_error *err) {
  static const uint8_t bom[] = {0xef, 0xbb, 0xbf};
  if (text.len >= sizeof bom && memcmp(text.data, bom, sizeof bom) == 0)
    return blx__fail(err, BLX_E_INVALID, origin_name,
                     "the JSON text begins with a byte-order mark; save it without one");
  bool wide = text.len >= 2 &&
              ((text.data[0] == 0xfe && text.data[1] == 0xff) || (text.data[0] == 0xff && text.data[1] == 0xfe));
  size_t head = text.len < 4 ? text.len : 4;
  if (wide || memchr(text.data, 0, head))
    return blx__fail(err, BLX_E_INVALID, origin_name, "the JSON text is UTF-16 or UTF-32; save it as UTF-8");
  return BLX__OK;
}

/* Depth and number of values outside of strings. Malformed text passes: the parser finds that. */
static blx__rc check_shape(struct blx__slice text, blx_error *err) {
  size_t depth = 0, values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.data[i];
    if (in_string) {
      if (c == '\\') i++;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{' || c == ',' || c == ':') values++;
    if (c == '[' || c == '{') depth++;
    if ((c == ']' || c == '}') && depth > 0) depth--;
    if (depth > BLX__JSON_DEPTH_MAX)
      return blx__fail(err, BLX_E_INVALID, origin_name, "the JSON text is nested deeper than %d levels",
                       BLX__JSON_DEPTH_MAX);
    if (values > BLX__JSON_VALUES_MAX)
      return blx__fail(err, BLX_E_INVALID, origin_name, "the JSON text has more than %d values", BLX__JSON_VALUES_MAX);
  }
  return BLX__OK;
}

static blx__rc check_text(struct blx__slice text, blx_error *err) {
  if (text.len > BLX__JSON_BYTES_MAX)
    return blx__fail(err, BLX_E_INVALID, origin_name, "the JSON text has %zu bytes, more than the %d allowed", text.len,
                     BLX__JSON_BYTES_MAX);
  if (text.len == 0) return blx__fail(err, BLX_E_INVALID, origin_name, "the JSON text is empty");
  BLX__TRY(check_encoding(text, err));
  return check_shape(text, err);
}

/* The parser quotes the input in its message; nothing of it may reach a terminal unescaped. */
static blx__rc parse_failed(const json_error_t *why, blx_error *err) {
  char clean[JSON_ERROR_TEXT_LENGTH];
  size_t n = 0;
  if (json_error_code(why) == json_error_out_of_memory)
    return blx__fail(err, BLX_E_NOMEM, origin_name, "out of memory for a JSON text; try again later");
  for (const char *s = why->text; *s && n + 1 < sizeof clean; s++) clean[n++] = *s >= 0x20 && *s < 0x7f ? *s : '?';
  clean[n] = '\0';
  return blx__fail(err, BLX_E_INVALID, origin_name, "JSON, line %d, column %d: %s", why->line, why->column, clean);
}

blx__rc blx__json_parse(struct blx__slice text, bool any, json_t **out, blx_error *err) {
  size_t flags = JSON_REJECT_DUPLICATES | (any ? JSON_DECODE_ANY : 0);
  json_error_t why;
  BLX__TRY(check_text(text, err));
  json_t *value = json_loadb((const char *)text.data, text.len, flags, &why);
  if (!value && json_error_code(&why) == json_error_numeric_overflow)
    value = json_loadb((const char *)text.data, text.len, flags | JSON_DECODE_INT_AS_REAL, &why);
  if (!value) return parse_failed(&why, err);
  if (!any && !json_is_object(value)) {
    json_decref(value);
    return blx__fail(err, BLX_E_INVALID, origin_name, "the JSON text is an array; an object is needed");
  }
  *out = value;
  return BLX__OK;
}
