/* Changes to messages that are framed by their length: one field, or the order and number of the frames. Bytes changed
 * at random seldom get past the lengths. */
#include "fuzz.h"
#include "schema/schema_int.h"

enum { FRAMES_MAX = 256, ARENA_BYTES = 8 << 20 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

struct frames {
  struct blx__slice at[FRAMES_MAX];
  size_t n;
};

static uint64_t draw(uint64_t *random, uint64_t below) {
  *random = blx__mix64(*random + 1);
  return *random % below;
}

/* False unless all of @data are frames. */
static bool frames_of(struct frames *f, const uint8_t *data, size_t size, size_t head) {
  f->n = 0;
  while (size > 0) {
    size_t n = 0;
    if (size < head || f->n == FRAMES_MAX) return false;
    for (size_t i = 0; i < head; i++) n |= (size_t)data[i] << (8 * i);
    if (n > size - head) return false;
    f->at[f->n++] = (struct blx__slice){data + head, n};
    data += head + n;
    size -= head + n;
  }
  return f->n > 0;
}

static void change_value(const struct blx__field *f, uint8_t *at, uint64_t *random) {
  static const char *const texts[] = {"", "web", "web-1", "web-2", "node1", "node2", "db", "default", "-", "\n"};
  if (f->kind == BLX__KIND_STR) {
    blx__store_ptr(at, texts[draw(random, BLX__COUNT(texts))]);
  } else if (f->kind == BLX__KIND_BYTES) {
    struct blx_bytes b;
    memcpy(&b, at, sizeof b);
    b.len = b.len ? (size_t)draw(random, b.len) : 0;
    memcpy(at, &b, sizeof b);
  } else if (f->kind == BLX__KIND_MSG) {
    blx__store_ptr(at, NULL);
  } else {
    uint64_t v = blx__load_number(f->kind, at);
    const uint64_t values[] = {0, 1, 2, v + 1, v - 1, UINT64_MAX, INT64_MAX, 1 + draw(random, 16)};
    blx__store_number(f->kind, at, values[draw(random, BLX__COUNT(values))]);
  }
}

static void change_field(const struct blx__msg_desc *desc, void *msg, uint64_t *random) {
  for (;;) {
    if (desc->field_count == 0) return;
    const struct blx__field *f = &desc->fields[draw(random, desc->field_count)];
    uint8_t *at = (uint8_t *)msg + f->offset;
    size_t n = f->card == BLX__CARD_REP ? blx__field_count(f, msg) : 0;
    if (f->card == BLX__CARD_REP) {
      if (n == 0) continue;
      uint8_t *elements = (uint8_t *)(uintptr_t)blx__load_ptr(at);
      at = elements + draw(random, n) * blx__schema_element_size(f->kind);
    }
    void *sub = f->kind == BLX__KIND_MSG ? (void *)(uintptr_t)blx__load_ptr(at) : NULL;
    if (sub && draw(random, 4) != 0) {
      desc = f->msg();
      msg = sub;
      continue;
    }
    if (f->kind == BLX__KIND_MSG && !sub && draw(random, 8) != 0) continue;
    if (f->card == BLX__CARD_REP && (f->kind == BLX__KIND_MSG || draw(random, 2))) {
      size_t fewer = (size_t)draw(random, n);
      memcpy((uint8_t *)msg + f->aux, &fewer, sizeof fewer);
    } else {
      change_value(f, at, random);
      if (f->card == BLX__CARD_OPT && f->kind != BLX__KIND_MSG)
        memcpy((uint8_t *)msg + f->aux, &(uint32_t){(uint32_t)draw(random, 2)}, sizeof(uint32_t));
    }
    return;
  }
}

static bool put_frame(struct blx__buf *out, size_t head, const void *bytes, size_t n) {
  uint8_t length[8];
  for (size_t i = 0; i < head; i++) length[i] = (uint8_t)(n >> (8 * i));
  return blx__buf_add(out, length, head) && blx__buf_add(out, bytes, n);
}

static bool put_changed(struct blx__buf *out, size_t head, const struct blx__msg_desc *desc, struct blx__slice frame,
                        uint64_t *random) {
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  struct blx__buf bytes;
  void *msg;
  blx__buf_init(&bytes, out->max);
  bool ok = blx__msg_decode(desc, &arena, frame, &msg, NULL).code == 0;
  if (ok) change_field(desc, msg, random);
  ok = ok && blx__msg_encode(desc, msg, &bytes, NULL).code == 0 && put_frame(out, head, bytes.data, bytes.len);
  blx__buf_free(&bytes);
  blx__arena_free(&arena);
  return ok;
}

size_t fuzz_mutate_frames(uint8_t *data, size_t size, size_t max_size, unsigned seed, size_t head,
                          const struct blx__msg_desc *desc) {
  struct frames f;
  struct blx__buf out;
  uint64_t random = seed;
  if (draw(&random, 4) == 0 || max_size == 0 || !frames_of(&f, data, size, head))
    return LLVMFuzzerMutate(data, size, max_size);
  size_t chosen = (size_t)draw(&random, f.n), other = (size_t)draw(&random, f.n);
  uint64_t how = draw(&random, 8);
  bool ok = true;
  blx__buf_init(&out, max_size);
  for (size_t i = 0; i < f.n && ok; i++) {
    if (i == chosen && how == 0) continue;
    if (i == chosen && how == 1) ok = put_frame(&out, head, f.at[other].data, f.at[other].len);
    if (i == chosen && how > 1)
      ok = put_changed(&out, head, desc, f.at[i], &random);
    else if (ok)
      ok = put_frame(&out, head, f.at[i].data, f.at[i].len);
  }
  ok = ok && out.len > 0;
  if (ok) memcpy(data, out.data, out.len);
  size = ok ? out.len : LLVMFuzzerMutate(data, size, max_size);
  blx__buf_free(&out);
  return size;
}
