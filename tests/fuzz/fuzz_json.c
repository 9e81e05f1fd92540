/* JSON in: as a value of any kind, and as the message that the first byte chooses. What is read is written, and what is
 * written reads as the same. */
#include "../unit/schema/support_random.h"
#include "fuzz.h"
#include "schema/json.h"
#include "schema/jsonval.h"

enum { ARENA_BYTES = 16 << 20, BUF_BYTES = 16 << 20, DESCS_MAX = 256 };

struct list {
  const struct blx__msg_desc *desc[DESCS_MAX];
  size_t n;
};

static void add_desc(void *user, const struct blx__msg_desc *desc) {
  struct list *l = user;
  FUZZ_SHALL(l->n < DESCS_MAX);
  l->desc[l->n++] = desc;
}

static void write_twice(const struct blx__msg_desc *desc, struct blx__arena *arena, const void *msg) {
  struct blx__buf one, two;
  blx__buf_init(&one, BUF_BYTES);
  blx__buf_init(&two, BUF_BYTES);
  void *again;
  FUZZ_SHALL(blx__json_write(desc, msg, BLX__JSON_PRETTY, &one, NULL).code == 0);
  FUZZ_SHALL(blx__json_read(desc, arena, (struct blx__slice){one.data, one.len}, &again, NULL).code == 0);
  FUZZ_SHALL(blx__json_write(desc, again, BLX__JSON_PRETTY, &two, NULL).code == 0);
  FUZZ_SHALL(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
  blx__buf_free(&one);
  blx__buf_free(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct list list = {.n = 0};
  if (size < 1) return 0;
  blx__desc_each(add_desc, &list);
  const struct blx__msg_desc *desc = list.desc[data[0] % list.n];
  struct blx__slice text = {data + 1, size - 1};
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  struct blx__jsonval *value = NULL;
  blx_error err;
  void *msg;
  if (blx__jsonval_parse(text, &value, &err).code == 0) {
    (void)blx__jsonval_len(blx__jsonval_path(value, "spec.labels"));
    blx__jsonval_free(value);
  }
  if (blx__json_read(desc, &arena, text, &msg, &err).code == 0) write_twice(desc, &arena, msg);
  blx__arena_free(&arena);
  return 0;
}

void fuzz_seeds(void) {
  struct list list = {.n = 0};
  blx__desc_each(add_desc, &list);
  struct random_source r = {.state = 11};
  for (size_t i = 0; i < list.n; i++) {
    struct blx__arena arena = {.limit_bytes = 64 << 20};
    struct blx__buf text;
    blx__buf_init(&text, 16 << 20);
    FUZZ_SHALL(blx__buf_add_byte(&text, (uint8_t)i));
    FUZZ_SHALL(blx__json_write(list.desc[i], random_message(list.desc[i], &arena, &r), 0, &text, NULL).code == 0);
    if (text.len <= 4096) fuzz_seed(text.data, text.len);
    blx__buf_free(&text);
    blx__arena_free(&arena);
  }
}
