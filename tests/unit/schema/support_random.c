#include "support_random.h"

#include "schema/schema_int.h"

enum { DEPTH_MAX = 4, ELEMENTS_MAX = 6, RUN_MAX = 40 };

uint64_t random_next(struct random_source *r) {
  uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

uint64_t random_below(struct random_source *r, uint64_t below) {
  return random_next(r) % below;
}

static uint64_t random_number(enum blx__kind kind, struct random_source *r) {
  static const uint64_t edges[] = {0,
                                   1,
                                   127,
                                   128,
                                   INT32_MAX,
                                   UINT32_MAX,
                                   UINT64_C(1) << 53,
                                   (UINT64_C(1) << 53) + 1,
                                   INT64_MAX,
                                   UINT64_C(1) << 63,
                                   UINT64_MAX};
  uint64_t v = random_below(r, 3) ? random_next(r) >> random_below(r, 64) : edges[random_below(r, BLX__COUNT(edges))];
  if (kind == BLX__KIND_U32) return (uint32_t)v;
  if (kind == BLX__KIND_I32) return (uint64_t)(int64_t)(int32_t)v;
  return v;
}

static uint64_t random_enum(const struct blx__enum_desc *e, struct random_source *r) {
  if (random_below(r, 10) == 0) return (uint64_t)(int64_t)(int32_t)random_next(r);
  return (uint64_t)(int64_t)e->values[random_below(r, e->value_count)].number;
}

static const char *random_text(size_t max, struct blx__arena *arena, struct random_source *r) {
  static const char *const pieces[] = {"a",
                                       "Z",
                                       "0",
                                       "-",
                                       "_",
                                       "\"",
                                       "\\",
                                       "/",
                                       "\n",
                                       "\t",
                                       "\x01",
                                       "\x7f",
                                       " ",
                                       "\xc3\xa9",
                                       "\xe4\xb8\xad",
                                       "\xf0\x9f\x98\x80",
                                       "\xe2\x80\xa8",
                                       "<",
                                       "plain text"};
  char text[RUN_MAX + 1];
  size_t n = 0, room = max < RUN_MAX ? max : RUN_MAX, want = random_below(r, room + 1);
  while (n < want) {
    const char *piece = pieces[random_below(r, BLX__COUNT(pieces))];
    if (n + strlen(piece) > room) break;
    memcpy(text + n, piece, strlen(piece));
    n += strlen(piece);
  }
  char *copy = blx__arena_strndup(arena, text, n);
  BLX__ASSERT(copy);
  return copy;
}

static void *fill_message(const struct blx__msg_desc *desc, struct blx__arena *arena, struct random_source *r,
                          unsigned depth);

static void fill_value(const struct blx__field *f, void *at, struct blx__arena *arena, struct random_source *r,
                       unsigned depth) {
  if (f->kind == BLX__KIND_STR) {
    blx__store_ptr(at, random_text((size_t)f->max, arena, r));
  } else if (f->kind == BLX__KIND_BYTES) {
    size_t n = random_below(r, (f->max < RUN_MAX ? f->max : RUN_MAX) + 1);
    uint8_t *data = n ? blx__arena_alloc(arena, n) : NULL;
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)random_next(r);
    struct blx_bytes bytes = {data, n};
    memcpy(at, &bytes, sizeof bytes);
  } else if (f->kind == BLX__KIND_MSG) {
    blx__store_ptr(at, fill_message(f->msg(), arena, r, depth + 1));
  } else if (f->kind == BLX__KIND_ENUM) {
    blx__store_number(f->kind, at, random_enum(f->enumeration(), r));
  } else {
    blx__store_number(f->kind, at, random_number(f->kind, r));
  }
}

static void fill_field(const struct blx__msg_desc *desc, const struct blx__field *f, void *msg,
                       struct blx__arena *arena, struct random_source *r, unsigned depth) {
  if (random_below(r, 3) == 0) return;
  if (f->kind == BLX__KIND_MSG && depth >= DEPTH_MAX) return;
  if (f->card != BLX__CARD_REP) {
    fill_value(f, (uint8_t *)msg + f->offset, arena, r, depth);
    if (f->card == BLX__CARD_OPT && f->kind != BLX__KIND_MSG)
      memcpy((uint8_t *)msg + f->aux, &(uint32_t){1}, sizeof(uint32_t));
    return;
  }
  uint64_t n = random_below(r, ELEMENTS_MAX + 1);
  for (uint64_t i = 0; i < n && i < f->cap; i++) {
    void *slot;
    blx__rc rc = blx__schema_slot(desc, f, msg, arena, NULL, &slot, NULL);
    BLX__ASSERT(rc.code == 0);
    fill_value(f, slot, arena, r, depth);
  }
}

static void *fill_message(const struct blx__msg_desc *desc, struct blx__arena *arena, struct random_source *r,
                          unsigned depth) {
  void *msg = blx__msg_new(desc, arena);
  BLX__ASSERT(msg);
  for (unsigned i = 0; i < desc->field_count; i++) fill_field(desc, &desc->fields[i], msg, arena, r, depth);
  return msg;
}

void *random_message(const struct blx__msg_desc *desc, struct blx__arena *arena, struct random_source *r) {
  return fill_message(desc, arena, r, 0);
}
