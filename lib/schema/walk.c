#include "schema/schema_int.h"

#include <stdio.h>

static const char origin_name[] = "schema";

static void path_add(const struct blx__path *path, char *out, size_t *used) {
  if (path->up) path_add(path->up, out, used);
  if (*used + 1 >= BLX__PATH_BYTES) return;
  size_t room = BLX__PATH_BYTES - *used;
  const char *dot = *used > 0 ? "." : "";
  int n = path->at == SIZE_MAX ? snprintf(out + *used, room, "%s%s", dot, path->field->name)
                               : snprintf(out + *used, room, "%s%s[%zu]", dot, path->field->name, path->at);
  *used += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

const char *blx__schema_path(const struct blx__msg_desc *desc, const struct blx__path *path,
                             char out[BLX__PATH_BYTES]) {
  if (!path) return desc->name;
  size_t used = 0;
  out[0] = '\0';
  path_add(path, out, &used);
  return out;
}

const char *blx__schema_quote(const void *bytes, size_t n, char out[BLX__QUOTE_BYTES * 4]) {
  enum { QUOTED_MAX = 64 };
  const uint8_t *s = bytes;
  size_t used = 0, room = BLX__QUOTE_BYTES * 4, shown = n < QUOTED_MAX ? n : QUOTED_MAX;
  /* Not into the middle of a character. */
  while (shown < n && shown > 0 && (s[shown] & 0xc0) == 0x80) shown--;
  bool utf8 = blx__utf8_ok(s, shown);
  out[used++] = '"';
  for (size_t i = 0; i < shown; i++) {
    bool c1 = utf8 && s[i] == 0xc2 && i + 1 < shown && s[i + 1] < 0xa0;
    bool plain = s[i] >= 0x20 && s[i] != 0x7f && s[i] != '"' && s[i] != '\\' && (s[i] < 0x80 || utf8) && !c1;
    if (plain) {
      out[used++] = (char)s[i];
    } else if (s[i] == '"' || s[i] == '\\') {
      out[used++] = '\\';
      out[used++] = (char)s[i];
    } else if (c1) {
      used += (size_t)snprintf(out + used, room - used, "\\x%02x\\x%02x", s[i], s[i + 1]);
      i++;
    } else {
      used += (size_t)snprintf(out + used, room - used, "\\x%02x", s[i]);
    }
  }
  BLX__ASSERT(used + 5 <= room);
  (void)blx__str_copy(out + used, room - used, shown < n ? "...\"" : "\"");
  return out;
}

blx__rc blx__schema_full(const struct blx__arena *arena, size_t need, const char *origin, blx_error *err) {
  size_t left = arena->limit_bytes - arena->used_bytes;
  if (left >= 16 && need <= left - 16)
    return blx__fail(err, BLX_E_NOMEM, origin, "out of memory for a message; try again later");
  return blx__fail(err, BLX_E_INVALID, origin, "the message needs more than the %zu bytes of memory allowed for it",
                   arena->limit_bytes);
}

blx__rc blx__schema_no_bytes(const struct blx__field *f, size_t n, const char *origin, blx_error *err) {
  return blx__fail(err, BLX_E_INVALID, origin, "%s: is NULL and has %zu bytes", f->name, n);
}

blx__rc blx__schema_unknown(const struct blx__msg_desc *root, uint32_t id, const struct blx__path *path,
                            const char *origin, blx_error *err) {
  char where[BLX__PATH_BYTES];
  return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                   "%s: this version does not know its field %u; upgrade the cluster, or leave it out",
                   blx__schema_path(root, path, where), id);
}

blx__rc blx__schema_too_deep(const struct blx__msg_desc *desc, const char *origin, blx_error *err) {
  return blx__fail(err, BLX_E_INVALID, origin, "%s: nested deeper than %d messages", desc->name, BLX__MSG_DEPTH_MAX);
}

blx__rc blx__schema_head_ok(const struct blx__msg_desc *desc, const void *msg, const char *origin, blx_error *err) {
  enum { NEWER_MAX_BYTES = 4096 };
  size_t size = blx__struct_size(msg);
  if (size == desc->size) return BLX__OK;
  if (size < sizeof(struct blx__msg_head) || size > desc->size + NEWER_MAX_BYTES)
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "struct blx_%s: struct_size is %zu; begin with BLX_X_INIT (%zu here)", desc->name, size,
                     desc->size);
  for (size_t i = desc->size; i < size; i++) {
    if (((const uint8_t *)msg)[i] != 0)
      return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                       "struct blx_%s: byte %zu is set, this version knows %zu; link a newer library or leave it zero",
                       desc->name, i, desc->size);
  }
  return BLX__OK;
}

size_t blx__schema_element_size(enum blx__kind kind) {
  switch (kind) {
  case BLX__KIND_BOOL:
  case BLX__KIND_U32:
  case BLX__KIND_I32:
  case BLX__KIND_ENUM: return sizeof(uint32_t);
  case BLX__KIND_U64:
  case BLX__KIND_I64: return sizeof(uint64_t);
  case BLX__KIND_STR:
  case BLX__KIND_MSG: return sizeof(void *);
  case BLX__KIND_BYTES: return sizeof(struct blx_bytes);
  }
  BLX__ASSERT(false);
  return 0;
}

/* Eight bytes at a time while they are ASCII and none is zero: a byte below 1 borrows into its top bit. */
bool blx__schema_text_ok(const void *bytes, size_t n) {
  const uint8_t *s = bytes;
  const uint64_t top = UINT64_C(0x8080808080808080), ones = UINT64_C(0x0101010101010101);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t w;
    memcpy(&w, s + i, sizeof w);
    if ((w | (w - ones)) & top) break;
  }
  return blx__utf8_ok(s + i, n - i);
}

blx__rc blx__schema_slot(const struct blx__msg_desc *desc, const struct blx__field *f, void *msg,
                         struct blx__arena *arena, const struct blx__path *path, void **slot, blx_error *err) {
  enum { FIRST_SLOTS = 4 };
  char where[BLX__PATH_BYTES];
  size_t n = blx__field_count(f, msg), each = blx__schema_element_size(f->kind), more = n + 1;
  BLX__ASSERT(f->card == BLX__CARD_REP && f->cap > 0);
  if (n >= f->cap)
    return blx__fail(err, BLX_E_INVALID, origin_name, "%s: more than %zu elements", blx__schema_path(desc, path, where),
                     f->cap);
  uint8_t *at = (uint8_t *)msg + f->offset;
  uint8_t *elements = (uint8_t *)(uintptr_t)blx__load_ptr(at);
  if (n == 0 || (n >= FIRST_SLOTS && (n & (n - 1)) == 0)) {
    size_t want = n ? 2 * n * each : FIRST_SLOTS * each;
    elements = blx__arena_grow(arena, elements, n * each, want);
    if (!elements) return blx__schema_full(arena, want, origin_name, err);
    blx__store_ptr(at, elements);
  }
  memcpy((uint8_t *)msg + f->aux, &more, sizeof more);
  *slot = elements + n * each;
  return BLX__OK;
}
