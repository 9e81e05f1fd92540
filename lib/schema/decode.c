#include "schema/schema_int.h"

static const char origin_name[] = "decode";

struct dec {
  struct blx__arena *arena;
  unsigned depth;
  blx_error *err;
  const struct blx__msg_desc *root; /* for paths */
  bool known_only;
};

struct bytes_at {
  const uint8_t *p, *end;
};

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_LEN = 2, WIRE_32 = 5 };

static blx__rc dec_fail(struct dec *d, const struct blx__path *path, const char *what) {
  char where[BLX__PATH_BYTES];
  return blx__fail(d->err, BLX_E_INVALID, origin_name, "%s: %s", blx__schema_path(d->root, path, where), what);
}

static bool take_varint(struct bytes_at *b, uint64_t *out) {
  if (b->p < b->end && *b->p < 0x80) {
    *out = *b->p++;
    return true;
  }
  uint64_t v = 0;
  const uint8_t *p = b->p;
  for (unsigned shift = 0; shift < 70 && p < b->end; shift += 7) {
    uint8_t byte = *p++;
    if (shift == 63 && byte > 1) return false;
    v |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      b->p = p;
      *out = v;
      return true;
    }
  }
  return false;
}

/* Length prefix, checked against what is there. */
static bool take_length(struct bytes_at *b, size_t *out) {
  uint64_t n;
  if (!take_varint(b, &n) || n > (size_t)(b->end - b->p)) return false;
  *out = (size_t)n;
  return true;
}

static bool take_tag(struct bytes_at *b, uint32_t *id, unsigned *wire) {
  uint64_t tag;
  if (!take_varint(b, &tag) || tag > UINT32_MAX || tag >> 3 == 0) return false;
  *id = (uint32_t)(tag >> 3);
  *wire = (unsigned)(tag & 7);
  return true;
}

/* Past the value of a field that is not known. Groups (3, 4) went out with proto2. */
static bool skip_value(struct bytes_at *b, unsigned wire) {
  uint64_t v;
  size_t n;
  if (wire == WIRE_VARINT) return take_varint(b, &v);
  if (wire == WIRE_LEN) {
    if (!take_length(b, &n)) return false;
  } else if (wire == WIRE_64 || wire == WIRE_32) {
    n = wire == WIRE_64 ? 8 : 4;
    if ((size_t)(b->end - b->p) < n) return false;
  } else {
    return false;
  }
  b->p += n;
  return true;
}

/* Ids mostly rise, so the search goes on where the last one ended; the sentinel ends it. */
static const struct blx__field *find_field(const struct blx__msg_desc *desc, unsigned *hint, uint32_t id) {
  unsigned i = *hint;
  if (desc->fields[i].id > id) i = 0;
  while (desc->fields[i].id < id) i++;
  if (i >= desc->field_count || desc->fields[i].id != id) return NULL;
  *hint = i;
  return &desc->fields[i];
}

static blx__rc dec_msg(struct dec *d, const struct blx__msg_desc *desc, void *msg, struct bytes_at b,
                       const struct blx__path *path);

/* Text and bytes: the length is held against the maximum before anything is allocated. */
static blx__rc dec_run(struct dec *d, const struct blx__field *f, void *slot, const uint8_t *data, size_t n,
                       const struct blx__path *path) {
  char where[BLX__PATH_BYTES];
  if (n > f->max)
    return blx__fail(d->err, BLX_E_INVALID, origin_name, "%s: %zu bytes, more than the %llu allowed",
                     blx__schema_path(d->root, path, where), n, (unsigned long long)f->max);
  if (f->kind == BLX__KIND_STR && !blx__schema_text_ok(data, n))
    return dec_fail(d, path, "is not UTF-8, or has a NUL in it");
  char *copy = n ? blx__arena_alloc(d->arena, n + 1) : NULL;
  if (n && !copy) return blx__schema_full(d->arena, n + 1, origin_name, d->err);
  if (n) memcpy(copy, data, n);
  if (f->kind == BLX__KIND_STR) {
    blx__store_ptr(slot, n || f->card == BLX__CARD_ONE ? copy : "");
    return BLX__OK;
  }
  struct blx_bytes bytes = {(const uint8_t *)copy, n};
  memcpy(slot, &bytes, sizeof bytes);
  return BLX__OK;
}

/* A nested message that comes twice is merged, as protobuf does. */
static blx__rc dec_sub(struct dec *d, const struct blx__field *f, void *slot, const uint8_t *data, size_t n,
                       const struct blx__path *path) {
  const struct blx__msg_desc *sub = f->msg();
  void *msg = (void *)(uintptr_t)blx__load_ptr(slot);
  if (!msg) {
    msg = blx__msg_new(sub, d->arena);
    if (!msg) return blx__schema_full(d->arena, sub->size, origin_name, d->err);
    blx__store_ptr(slot, msg);
  }
  return dec_msg(d, sub, msg, (struct bytes_at){data, data + n}, path);
}

static blx__rc dec_number(struct dec *d, const struct blx__field *f, void *slot, struct bytes_at *b,
                          const struct blx__path *path) {
  uint64_t v;
  if (!take_varint(b, &v)) return dec_fail(d, path, "is cut off or no number");
  if (!blx__number_fits(f->kind, v)) return dec_fail(d, path, "is out of its type's range");
  blx__store_number(f->kind, slot, v);
  return BLX__OK;
}

static blx__rc dec_packed(struct dec *d, const struct blx__msg_desc *desc, const struct blx__field *f, void *msg,
                          struct bytes_at b, const struct blx__path *path) {
  while (b.p < b.end) {
    void *slot;
    BLX__TRY(blx__schema_slot(desc, f, msg, d->arena, path, &slot, d->err));
    BLX__TRY(dec_number(d, f, slot, &b, path));
  }
  return BLX__OK;
}

/* One occurrence of a known field. */
static blx__rc dec_field(struct dec *d, const struct blx__msg_desc *desc, const struct blx__field *f, unsigned wire,
                         void *msg, struct bytes_at *b, const struct blx__path *up) {
  bool number = blx__kind_is_number(f->kind), rep = f->card == BLX__CARD_REP;
  struct blx__path path = {up, f, rep ? blx__field_count(f, msg) : SIZE_MAX};
  void *slot = (uint8_t *)msg + f->offset;
  size_t n = 0;
  if (wire == WIRE_LEN && !take_length(b, &n)) return dec_fail(d, &path, "its length goes past the end");
  const uint8_t *data = b->p;
  if (wire == WIRE_LEN) b->p += n;
  if (number && rep && wire == WIRE_LEN) return dec_packed(d, desc, f, msg, (struct bytes_at){data, data + n}, &path);
  if (wire != (number ? WIRE_VARINT : WIRE_LEN)) return dec_fail(d, &path, "has another wire type than this field's");
  if (rep) BLX__TRY(blx__schema_slot(desc, f, msg, d->arena, &path, &slot, d->err));
  if (number)
    BLX__TRY(dec_number(d, f, slot, b, &path));
  else if (f->kind == BLX__KIND_MSG)
    BLX__TRY(dec_sub(d, f, slot, data, n, &path));
  else
    BLX__TRY(dec_run(d, f, slot, data, n, &path));
  if (f->card == BLX__CARD_OPT && f->kind != BLX__KIND_MSG) {
    uint32_t has = 1;
    memcpy((uint8_t *)msg + f->aux, &has, sizeof has);
  }
  return BLX__OK;
}

/* Keep the run of bytes with this id. The list falls in id, so fields that rise are put at its head at once. */
static blx__rc keep_unknown(struct dec *d, void *msg, uint32_t id, const uint8_t *data, size_t n,
                            const struct blx__path *path) {
  struct blx__msg_head *head = msg;
  struct blx__unknown *u = blx__arena_alloc(d->arena, sizeof *u);
  uint8_t *copy = blx__arena_alloc(d->arena, n);
  if (!u || !copy) return blx__schema_full(d->arena, sizeof *u + n, origin_name, d->err);
  memcpy(copy, data, n);
  *u = (struct blx__unknown){.id = id, .len = n, .data = copy};
  const struct blx__unknown *after = NULL, *it = head->unknown;
  size_t count = 0;
  for (; it; it = it->next, count++)
    if (it->id > id) after = it;
  if (count >= BLX__MSG_UNKNOWN_MAX) return dec_fail(d, path, "has too many fields that this version does not know");
  u->next = after ? after->next : head->unknown;
  if (after)
    ((struct blx__unknown *)(uintptr_t)after)->next = u;
  else
    head->unknown = u;
  return BLX__OK;
}

/* Consecutive unknown fields of one id are one run: a repeated field of a newer version costs one entry. */
static blx__rc dec_unknown(struct dec *d, void *msg, uint32_t id, unsigned wire, const uint8_t *start,
                           struct bytes_at *b, const struct blx__path *path) {
  for (;;) {
    if (!skip_value(b, wire)) return dec_fail(d, path, "an unknown field is damaged");
    struct bytes_at ahead = *b;
    uint32_t next_id;
    if (ahead.p == ahead.end || !take_tag(&ahead, &next_id, &wire) || next_id != id) break;
    b->p = ahead.p;
  }
  if (d->known_only) return blx__schema_unknown(d->root, id, path, origin_name, d->err);
  return keep_unknown(d, msg, id, start, (size_t)(b->p - start), path);
}

static blx__rc dec_msg(struct dec *d, const struct blx__msg_desc *desc, void *msg, struct bytes_at b,
                       const struct blx__path *path) {
  unsigned hint = 0;
  if (++d->depth > BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, d->err);
  while (b.p < b.end) {
    const uint8_t *start = b.p;
    uint32_t id;
    unsigned wire;
    if (!take_tag(&b, &id, &wire)) return dec_fail(d, path, "a field's tag is damaged");
    const struct blx__field *f = find_field(desc, &hint, id);
    if (f)
      BLX__TRY(dec_field(d, desc, f, wire, msg, &b, path));
    else
      BLX__TRY(dec_unknown(d, msg, id, wire, start, &b, path));
  }
  d->depth--;
  return BLX__OK;
}

static blx__rc decode(struct dec *d, struct blx__slice bytes, void **out) {
  void *msg = blx__msg_new(d->root, d->arena);
  if (!msg) return blx__schema_full(d->arena, d->root->size, origin_name, d->err);
  if (bytes.len) BLX__TRY(dec_msg(d, d->root, msg, (struct bytes_at){bytes.data, bytes.data + bytes.len}, NULL));
  *out = msg;
  return BLX__OK;
}

blx__rc blx__msg_decode(const struct blx__msg_desc *desc, struct blx__arena *arena, struct blx__slice bytes, void **out,
                        blx_error *err) {
  struct dec d = {.arena = arena, .err = err, .root = desc};
  return decode(&d, bytes, out);
}

blx__rc blx__msg_decode_known(const struct blx__msg_desc *desc, struct blx__arena *arena, struct blx__slice bytes,
                              void **out, blx_error *err) {
  struct dec d = {.arena = arena, .err = err, .root = desc, .known_only = true};
  return decode(&d, bytes, out);
}
