/* Generic JSON for drivers (QMP, hypervisor APIs): values that were parsed, and a writer. Thread: one at a time. */
#ifndef BLX__SCHEMA_JSONVAL_H
#define BLX__SCHEMA_JSONVAL_H

#include "base/buf.h"

struct blx__jsonval;

/* Parse one value, object, array or scalar; the bounds of json.h hold. Free the result with blx__jsonval_free.
 * Errors: BLX_E_INVALID with the line and column, BLX_E_NOMEM. */
blx__rc blx__jsonval_parse(struct blx__slice text, struct blx__jsonval **out, blx_error *err) BLX__MUST;
void blx__jsonval_free(struct blx__jsonval *value); /* NULL allowed */

/* The readers below take NULL and values of another kind and then answer NULL, false or 0, so that they can be nested;
 * what they return belongs to the value that was parsed. */

/* A member of an object. */
const struct blx__jsonval *blx__jsonval_get(const struct blx__jsonval *object, const char *key);
/* Through nested objects: "return.status". At most 64 bytes a key. */
const struct blx__jsonval *blx__jsonval_path(const struct blx__jsonval *object, const char *path);
/* Elements of an array, members of an object. */
size_t blx__jsonval_len(const struct blx__jsonval *value);
const struct blx__jsonval *blx__jsonval_at(const struct blx__jsonval *array, size_t i);
/* The text; NULL if it is no string. */
const char *blx__jsonval_str(const struct blx__jsonval *value);
bool blx__jsonval_int(const struct blx__jsonval *value, int64_t *out);
bool blx__jsonval_real(const struct blx__jsonval *value, double *out); /* integers too */
bool blx__jsonval_bool(const struct blx__jsonval *value, bool *out);
bool blx__jsonval_is_object(const struct blx__jsonval *value);
bool blx__jsonval_is_array(const struct blx__jsonval *value);
bool blx__jsonval_is_null(const struct blx__jsonval *value);

/* Append @s (NULL: "") quoted and escaped; @out is unchanged on failure. Errors: BLX_E_INVALID (not UTF-8),
 * BLX_E_NOMEM (no room). */
blx__rc blx__json_str(struct blx__buf *out, const char *s) BLX__MUST;

/* A streaming writer: commas, nesting and escapes. After a failure it ignores everything and blx__jsonw_end tells.
 *   struct blx__jsonw w; blx__jsonw_init(&w, &buf, false);
 *   blx__jsonw_object(&w); blx__jsonw_key(&w, "execute"); blx__jsonw_str(&w, "quit"); blx__jsonw_close(&w);
 *   if (!blx__jsonw_end(&w)) ... */
enum { BLX__JSONW_DEPTH_MAX = 64 };

struct blx__jsonw {
  struct blx__buf *out;
  bool pretty, failed, after_key;
  unsigned depth;
  struct {
    bool array, used;
  } level[BLX__JSONW_DEPTH_MAX];
};

void blx__jsonw_init(struct blx__jsonw *w, struct blx__buf *out, bool pretty);
void blx__jsonw_object(struct blx__jsonw *w);
void blx__jsonw_array(struct blx__jsonw *w);
void blx__jsonw_close(struct blx__jsonw *w); /* the innermost open object or array */
void blx__jsonw_key(struct blx__jsonw *w, const char *key);
void blx__jsonw_str(struct blx__jsonw *w, const char *s); /* NULL: null */
void blx__jsonw_i64(struct blx__jsonw *w, int64_t v);
void blx__jsonw_u64(struct blx__jsonw *w, uint64_t v);
void blx__jsonw_bool(struct blx__jsonw *w, bool v);
void blx__jsonw_null(struct blx__jsonw *w);
void blx__jsonw_bytes(struct blx__jsonw *w, const void *bytes, size_t n); /* base64 */
/* True if all of it is in the buffer and everything is closed. */
bool blx__jsonw_end(const struct blx__jsonw *w) BLX__MUST;

#endif
