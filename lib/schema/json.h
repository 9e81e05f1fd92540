/* Messages as JSON: proto3's JSON form with the tables' own field names.
 *
 * Enums are their labels; a number without a label is written as a number, and both are read (in a label '-' and '_'
 * are the same). bytes are base64 (read: with or without padding, either alphabet). 64-bit numbers are JSON numbers up
 * to 2^53 and text beyond it; both are read, of every number. Fields that are zero, empty or absent are left out.
 * Unknown fields of the wire have no JSON form and are left out. Reading: null means absent, an unknown key is an error
 * that names the nearest known one. Thread: any. */
#ifndef BLX__SCHEMA_JSON_H
#define BLX__SCHEMA_JSON_H

#include "schema/codec.h"

enum {
  BLX__JSON_DEFAULTS = 1, /* write zero values too; not absent messages and absent OPT fields */
  BLX__JSON_PRETTY = 2    /* a line for each value, two spaces a level; no newline at the end */
};

enum {
  BLX__JSON_BYTES_MAX = 2 * 1048576,
  BLX__JSON_DEPTH_MAX = 32,
  BLX__JSON_VALUES_MAX = 131072 /* values in one text: bounds the parser's memory */
};

/* Append @msg as JSON to @out; on failure @out is as it was.
 * @flags  BLX__JSON_* or 0
 * Errors: BLX_E_INVALID (does not fit @out->max; text that is not UTF-8), BLX_E_UNSUPPORTED (struct_size), BLX_E_NOMEM.
 */
blx__rc blx__json_write(const struct blx__msg_desc *desc, const void *msg, unsigned flags, struct blx__buf *out,
                        blx_error *err) BLX__MUST;

/* Read one JSON object. Size, depth and number of values are checked before the parser sees it; a byte-order mark,
 * UTF-16, duplicate keys and anything after the object are refused. Lengths and caps are checked as in decoding; the
 * rest is blx__msg_validate's. @out is untouched on failure. Errors: BLX_E_INVALID with the line, or with the path, the
 * value and what is allowed there; BLX_E_NOMEM. */
blx__rc blx__json_read(const struct blx__msg_desc *desc, struct blx__arena *arena, struct blx__slice text, void **out,
                       blx_error *err) BLX__MUST;

/* Append what the tables say of the public message or enum @name, NULL: of all their names, as JSON (the form:
 * blx_describe() in blixard/client.h). Errors: BLX_E_NOT_FOUND, BLX_E_NOMEM. */
blx__rc blx__json_describe(const char *name, struct blx__buf *out, blx_error *err) BLX__MUST;

#endif
