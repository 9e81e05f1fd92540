/* What the walkers of this folder share: how a struct is looked into by its description. */
#ifndef BLX__SCHEMA_INT_H
#define BLX__SCHEMA_INT_H

#include "schema/codec.h"

#include <string.h>

/* A run of consecutive fields that this version does not know, with their tags. The list hangs at a message's
 * `unknown`, highest id first, of one id the last first: the encoder writes from the end. */
struct blx__unknown {
  const struct blx__unknown *next;
  uint32_t id;
  size_t len;
  const uint8_t *data;
};

/* The two members that every message begins with. */
struct blx__msg_head {
  size_t struct_size;
  const void *unknown;
};

/* Where a walker is, for messages: "spec.labels[2].key". Lives on the stacks of the walkers. */
struct blx__path {
  const struct blx__path *up; /* NULL: the message itself */
  const struct blx__field *field;
  size_t at; /* element; SIZE_MAX: the field as such */
};

enum { BLX__PATH_BYTES = 192, BLX__QUOTE_BYTES = 80 };

/* Path as text, cut if need be; the message's own name where @path is NULL. */
const char *blx__schema_path(const struct blx__msg_desc *desc, const struct blx__path *path, char out[BLX__PATH_BYTES]);

/* @n bytes in double quotes, controls escaped, at most 64 bytes of them. */
const char *blx__schema_quote(const void *bytes, size_t n, char out[BLX__QUOTE_BYTES * 4]);

/* The arena gave NULL for @need bytes: say whether its limit or the memory is at its end. */
blx__rc blx__schema_full(const struct blx__arena *arena, size_t need, const char *origin, blx_error *err);

/* struct_size is one of those codec.h allows. */
blx__rc blx__schema_head_ok(const struct blx__msg_desc *desc, const void *msg, const char *origin,
                            blx_error *err) BLX__MUST;

/* Bytes of one element of a kind. */
size_t blx__schema_element_size(enum blx__kind kind);

/* UTF-8 without NUL; fast on ASCII. */
bool blx__schema_text_ok(const void *bytes, size_t n);

/* A count of bytes without the bytes. */
blx__rc blx__schema_no_bytes(const struct blx__field *f, size_t n, const char *origin, blx_error *err);

/* blx__jsonw_str of a text that is known to be UTF-8. */
struct blx__jsonw;
void blx__schema_json_text(struct blx__jsonw *w, const char *s);

/* blx__jsonw_key of a field's name, in which nothing is to be escaped. */
void blx__schema_json_key(struct blx__jsonw *w, const char *name);

/* How deep a walker is: counts up to BLX__MSG_DEPTH_MAX. */
blx__rc blx__schema_too_deep(const struct blx__msg_desc *desc, const char *origin, blx_error *err);

/* A message at @path has field @id of a newer version, where that may not be. */
blx__rc blx__schema_unknown(const struct blx__msg_desc *root, uint32_t id, const struct blx__path *path,
                            const char *origin, blx_error *err);

/* -- Loads and stores. memcpy, because a struct blx_label ** is not a void ** to the compiler. -- */

static inline const void *blx__load_ptr(const void *at) {
  const void *p;
  memcpy(&p, at, sizeof p);
  return p;
}

static inline void blx__store_ptr(void *at, const void *p) {
  memcpy(at, &p, sizeof p);
}

static inline size_t blx__load_size(const void *at) {
  size_t n;
  memcpy(&n, at, sizeof n);
  return n;
}

static inline const uint8_t *blx__field_at(const struct blx__field *f, const void *msg) {
  return (const uint8_t *)msg + f->offset;
}

static inline size_t blx__struct_size(const void *msg) {
  return ((const struct blx__msg_head *)msg)->struct_size;
}

/* The field lies inside the struct that the caller was built with. */
static inline bool blx__field_inside(const struct blx__field *f, const void *msg) {
  size_t size = blx__struct_size(msg), aux_size = f->card == BLX__CARD_REP ? sizeof(size_t) : sizeof(uint32_t);
  return f->offset + f->size <= size && (f->aux == 0 || f->aux + aux_size <= size);
}

/* n_x of a REP field; 0 if outside the struct. */
static inline size_t blx__field_count(const struct blx__field *f, const void *msg) {
  return blx__field_inside(f, msg) ? blx__load_size((const uint8_t *)msg + f->aux) : 0;
}

/* has_x of an OPT field that is no message. */
static inline bool blx__field_has(const struct blx__field *f, const void *msg) {
  uint32_t has;
  memcpy(&has, (const uint8_t *)msg + f->aux, sizeof has);
  return has != 0;
}

/* Any number as the 64 bits that a varint carries: signed ones extended. */
static inline uint64_t blx__load_number(enum blx__kind kind, const void *at) {
  if (kind == BLX__KIND_U64 || kind == BLX__KIND_I64) {
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
  }
  uint32_t v;
  memcpy(&v, at, sizeof v);
  if (kind == BLX__KIND_BOOL) return v != 0;
  return kind == BLX__KIND_U32 ? v : (uint64_t)(int64_t)(int32_t)v;
}

static inline void blx__store_number(enum blx__kind kind, void *at, uint64_t v) {
  if (kind == BLX__KIND_U64 || kind == BLX__KIND_I64) {
    memcpy(at, &v, sizeof v);
    return;
  }
  uint32_t v32 = kind == BLX__KIND_BOOL ? v != 0 : (uint32_t)v;
  memcpy(at, &v32, sizeof v32);
}

static inline bool blx__kind_is_number(enum blx__kind kind) {
  return kind != BLX__KIND_STR && kind != BLX__KIND_BYTES && kind != BLX__KIND_MSG;
}

/* The number fits its C type. */
static inline bool blx__number_fits(enum blx__kind kind, uint64_t v) {
  if (kind == BLX__KIND_U32) return v <= UINT32_MAX;
  if (kind == BLX__KIND_I32 || kind == BLX__KIND_ENUM) return (int64_t)v >= INT32_MIN && (int64_t)v <= INT32_MAX;
  return true;
}

/* A slot for one more element of a REP field, zeroed, its count raised; capacity is implied by the count: 4, 8, 16...
 * Refuses what is above the cap. @path for the message. */
blx__rc blx__schema_slot(const struct blx__msg_desc *desc, const struct blx__field *f, void *msg,
                         struct blx__arena *arena, const struct blx__path *path, void **slot, blx_error *err) BLX__MUST;

#endif
