/* Jansson, seen by this folder only. */
#ifndef BLX__SCHEMA_JSON_INT_H
#define BLX__SCHEMA_JSON_INT_H

#include "base/buf.h"

#include <jansson.h>

/* Check @text against the bounds of json.h, then parse it. @any: the top may be any value, else an object. A number too
 * large for 64 bits becomes a real, so that the field it belongs to can say what it takes; @reals then is true and
 * every number of the text is a real. Errors: BLX_E_INVALID, BLX_E_NOMEM. The caller json_decref()s *out. */
blx__rc blx__json_parse(struct blx__slice text, bool any, json_t **out, blx_error *err) BLX__MUST;

#endif
