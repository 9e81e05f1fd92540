/* New messages, deep copies, and messages in one allocation of their own. */
#include "schema/schema_int.h"

#include <stdlib.h>

static const char origin_name[] = "copy";

void *blx__msg_new(const struct blx__msg_desc *desc, struct blx__arena *arena) {
  struct blx__msg_head *head = blx__arena_alloc(arena, desc->size);
  if (head) head->struct_size = desc->size;
  return head;
}

/* Without an arena the walk only counts what it would allocate: the same code decides both, so they cannot differ. */
struct copier {
  struct blx__arena *arena;
  size_t need;
  unsigned depth;
  blx_error *err;
};

/* What blx__arena_alloc takes for @n bytes. */
static size_t arena_cost(size_t n) {
  return ((n ? n : 1) + 15) & ~(size_t)15;
}

/* @out NULL after success: only counted. */
static blx__rc copy_run(struct copier *c, const void *data, size_t n, size_t zeroes, void **out) {
  *out = NULL;
  if (n > SIZE_MAX / 4 - c->need)
    return blx__fail(c->err, BLX_E_INVALID, origin_name, "a length of %zu bytes cannot be", n);
  c->need += arena_cost(n + zeroes);
  if (!c->arena) return BLX__OK;
  void *p = blx__arena_alloc(c->arena, n + zeroes);
  if (!p) return blx__schema_full(c->arena, n + zeroes, origin_name, c->err);
  if (n) memcpy(p, data, n);
  *out = p;
  return BLX__OK;
}

static blx__rc copy_msg(struct copier *c, const struct blx__msg_desc *desc, const void *from, void **out);

/* Replace the pointer in @to (a copy of the value at @at; NULL when only counting) by one to a copy of what it points
 * to. */
static blx__rc copy_value(struct copier *c, const struct blx__field *f, const void *at, void *to) {
  void *copy = NULL;
  if (f->kind == BLX__KIND_STR) {
    const char *s = blx__load_ptr(at);
    if (!s) return BLX__OK;
    BLX__TRY(copy_run(c, s, strlen(s), 1, &copy));
  } else if (f->kind == BLX__KIND_BYTES) {
    struct blx_bytes b;
    memcpy(&b, at, sizeof b);
    if (b.len && !b.data) return blx__schema_no_bytes(f, b.len, origin_name, c->err);
    if (b.len) BLX__TRY(copy_run(c, b.data, b.len, 0, &copy));
    b.data = copy;
    if (to) memcpy(to, &b, sizeof b);
    return BLX__OK;
  } else if (f->kind == BLX__KIND_MSG) {
    const void *sub = blx__load_ptr(at);
    if (!sub) return BLX__OK;
    BLX__TRY(copy_msg(c, f->msg(), sub, &copy));
  } else {
    return BLX__OK;
  }
  if (to) blx__store_ptr(to, copy);
  return BLX__OK;
}

static blx__rc copy_repeated(struct copier *c, const struct blx__msg_desc *desc, const struct blx__field *f,
                             const void *from, void *to) {
  size_t n = blx__field_count(f, from), each = blx__schema_element_size(f->kind);
  const uint8_t *elements = blx__load_ptr(blx__field_at(f, from));
  void *copy = NULL;
  if (n == 0) {
    if (to) blx__store_ptr((uint8_t *)to + f->offset, NULL);
    return BLX__OK;
  }
  if (n > f->cap || !elements)
    return blx__fail(c->err, BLX_E_INVALID, origin_name, "%s.%s: %zu elements, more than the %zu allowed", desc->name,
                     f->name, n, elements ? f->cap : 0);
  BLX__TRY(copy_run(c, elements, n * each, 0, &copy));
  if (to) blx__store_ptr((uint8_t *)to + f->offset, copy);
  if (blx__kind_is_number(f->kind)) return BLX__OK;
  for (size_t i = 0; i < n; i++)
    BLX__TRY(copy_value(c, f, elements + i * each, copy ? (uint8_t *)copy + i * each : NULL));
  return BLX__OK;
}

static blx__rc copy_unknown(struct copier *c, const struct blx__unknown *u, const void **out) {
  const struct blx__unknown *first = NULL;
  struct blx__unknown *last = NULL;
  for (; u; u = u->next) {
    void *node, *data;
    BLX__TRY(copy_run(c, u, sizeof *u, 0, &node));
    BLX__TRY(copy_run(c, u->data, u->len, 0, &data));
    if (!node) continue;
    struct blx__unknown *copy = node;
    copy->data = data;
    copy->next = NULL;
    if (last)
      last->next = copy;
    else
      first = copy;
    last = copy;
  }
  *out = first;
  return BLX__OK;
}

static blx__rc copy_msg(struct copier *c, const struct blx__msg_desc *desc, const void *from, void **out) {
  if (++c->depth > BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, c->err);
  BLX__TRY(blx__schema_head_ok(desc, from, origin_name, c->err));
  size_t had = blx__struct_size(from) < desc->size ? blx__struct_size(from) : desc->size;
  void *to = NULL;
  const void *unknown = NULL;
  BLX__TRY(copy_run(c, from, had, desc->size - had, &to));
  BLX__TRY(copy_unknown(c, ((const struct blx__msg_head *)from)->unknown, &unknown));
  if (to) *(struct blx__msg_head *)to = (struct blx__msg_head){desc->size, unknown};
  for (unsigned i = 0; i < desc->field_count; i++) {
    const struct blx__field *f = &desc->fields[i];
    if (!blx__field_inside(f, from)) {
      /* A part of it may lie in the smaller struct: a pointer without its count. */
      if (to) memset((uint8_t *)to + f->offset, 0, f->size);
      continue;
    }
    if (f->card == BLX__CARD_REP)
      BLX__TRY(copy_repeated(c, desc, f, from, to));
    else
      BLX__TRY(copy_value(c, f, blx__field_at(f, from), to ? (uint8_t *)to + f->offset : NULL));
  }
  c->depth--;
  *out = to;
  return BLX__OK;
}

blx__rc blx__msg_copy(const struct blx__msg_desc *desc, struct blx__arena *arena, const void *msg, void **out,
                      blx_error *err) {
  struct copier c = {.arena = arena, .err = err};
  void *copy;
  BLX__TRY(copy_msg(&c, desc, msg, &copy));
  *out = copy;
  return BLX__OK;
}

/* In front of every owned message. */
struct owned {
  size_t bytes;
  _Alignas(16) uint8_t msg[];
};

static struct owned *owned_of(const void *msg) {
  return BLX__CONTAINER((uintptr_t)msg, struct owned, msg);
}

blx__rc blx__msg_own(const struct blx__msg_desc *desc, const void *msg, void **out, blx_error *err) {
  struct copier count = {.err = err};
  void *nothing;
  BLX__TRY(copy_msg(&count, desc, msg, &nothing));
  struct owned *o = malloc(sizeof *o + count.need);
  if (!o) return blx__fail(err, BLX_E_NOMEM, origin_name, "out of memory for a message; try again later");
  o->bytes = sizeof *o + count.need;
  /* An arena that is exactly this block: it never needs a chunk of its own. */
  struct blx__arena block = {.at = o->msg, .end = o->msg + count.need, .limit_bytes = count.need};
  struct copier c = {.arena = &block, .err = err};
  void *copy = NULL;
  blx__rc rc = copy_msg(&c, desc, msg, &copy);
  BLX__ASSERT(block.chunk == NULL && (rc.code != 0 || (copy == o->msg && block.used_bytes == count.need)));
  if (rc.code != 0)
    free(o);
  else
    *out = copy;
  return rc;
}

blx__rc blx__msg_decode_owned(const struct blx__msg_desc *desc, struct blx__slice bytes, void **out, blx_error *err) {
  struct blx__arena arena = {.limit_bytes = BLX__MSG_OWNED_BYTES_MAX};
  void *msg = NULL;
  blx__rc rc = blx__msg_decode(desc, &arena, bytes, &msg, err);
  if (rc.code == 0) rc = blx__msg_own(desc, msg, out, err);
  blx__arena_free(&arena);
  return rc;
}

void blx__msg_free_owned(void *owned) {
  if (owned) free(owned_of(owned));
}

size_t blx__msg_owned_bytes(const void *owned) {
  return owned_of(owned)->bytes;
}
