/* The wire codec: the first byte chooses the message. What is decoded encodes, and encodes to the same bytes again
 * after another turn, as a copy, and as far as JSON goes through JSON. */
#include "../unit/schema/support_random.h"
#include "fuzz.h"
#include "schema/json.h"
#include "schema/validate.h"

enum { ARENA_BYTES = 8 << 20, BUF_BYTES = 4 << 20, DESCS_MAX = 256 };

struct list {
  const struct blx__msg_desc *desc[DESCS_MAX];
  size_t n;
};

static void add_desc(void *user, const struct blx__msg_desc *desc) {
  struct list *l = user;
  FUZZ_SHALL(l->n < DESCS_MAX);
  l->desc[l->n++] = desc;
}

static void same(const struct blx__msg_desc *desc, const void *msg, const struct blx__buf *want) {
  struct blx__buf got;
  blx__buf_init(&got, BUF_BYTES);
  FUZZ_SHALL(blx__msg_encode(desc, msg, &got, NULL).code == 0);
  FUZZ_SHALL(got.len == want->len && (got.len == 0 || memcmp(got.data, want->data, got.len) == 0));
  blx__buf_free(&got);
}

/* Unknown fields have no JSON: compared when there are none. */
static void through_json(const struct blx__msg_desc *desc, const void *msg, const struct blx__buf *bytes) {
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  struct blx__buf json;
  blx__buf_init(&json, BUF_BYTES);
  void *again;
  FUZZ_SHALL(blx__json_write(desc, msg, 0, &json, NULL).code == 0);
  FUZZ_SHALL(blx__json_read(desc, &arena, (struct blx__slice){json.data, json.len}, &again, NULL).code == 0);
  if (blx__msg_refuse_unknown(desc, msg, NULL).code == 0) same(desc, again, bytes);
  blx__buf_free(&json);
  blx__arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct list list = {.n = 0};
  if (size < 1) return 0;
  blx__desc_each(add_desc, &list);
  const struct blx__msg_desc *desc = list.desc[data[0] % list.n];
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  struct blx__buf bytes;
  blx__buf_init(&bytes, BUF_BYTES);
  blx_error err;
  void *msg, *again;
  if (blx__msg_decode(desc, &arena, (struct blx__slice){data + 1, size - 1}, &msg, &err).code == 0) {
    FUZZ_SHALL(blx__msg_encode(desc, msg, &bytes, &err).code == 0);
    struct blx__slice in = {bytes.data, bytes.len};
    FUZZ_SHALL(blx__msg_decode(desc, &arena, in, &again, &err).code == 0);
    same(desc, again, &bytes);
    FUZZ_SHALL(blx__msg_own(desc, msg, &again, &err).code == 0);
    same(desc, again, &bytes);
    blx__msg_free_owned(again);
    through_json(desc, msg, &bytes);
    (void)!blx__msg_validate(desc, msg, &err).code;
    FUZZ_SHALL(blx__msg_defaults(desc, &arena, msg, &err).code == 0);
  }
  blx__buf_free(&bytes);
  blx__arena_free(&arena);
  return 0;
}

void fuzz_seeds(void) {
  struct list list = {.n = 0};
  blx__desc_each(add_desc, &list);
  struct random_source r = {.state = 7};
  for (size_t i = 0; i < list.n; i++) {
    struct blx__arena arena = {.limit_bytes = 64 << 20};
    struct blx__buf bytes;
    blx__buf_init(&bytes, 16 << 20);
    FUZZ_SHALL(blx__buf_add_byte(&bytes, (uint8_t)i));
    FUZZ_SHALL(blx__msg_encode(list.desc[i], random_message(list.desc[i], &arena, &r), &bytes, NULL).code == 0);
    if (bytes.len <= 4096) fuzz_seed(bytes.data, bytes.len);
    blx__buf_free(&bytes);
    blx__arena_free(&arena);
  }
}
