/* New messages, deep copies, and messages in one allocation of their own. */
#include "schema/schema_int.h"

#include <stdlib.h>

static const char origin_name[] = "copy";

void *blx__msg_new(const struct blx__msg_desc *desc, struct blx__arena *arena) {
  struct blx__msg_head *head = blx__arena_alloc(arena, desc->size);
  if (head) head->struct_size = desc->size;
  return head;
}

enum { DRAFT_BYTES = 2048, DRAFT_POINTERS = 96 };

/* A message that is to move into an allocation of its own, of the size it turns out to have. */
struct draft {
  _Alignas(16) uint8_t bytes[DRAFT_BYTES];
  size_t used;
  unsigned count;
  uint16_t pointers[DRAFT_POINTERS]; /* where in `bytes` they are */
};

/* Into an arena or a draft; with neither, or in a draft that is full, the walk only counts what it would allocate: the
 * same code decides both, so they cannot differ. */
struct copier {
  struct blx__arena *arena;
  struct draft *draft;
  size_t need;
  unsigned depth;
  blx_error *err;
};

/* What blx__arena_alloc takes for @n bytes. */
static size_t arena_cost(size_t n) {
  return ((n ? n : 1) + 15) & ~(size_t)15;
}

static void *draft_room(struct copier *c, size_t cost) {
  struct draft *d = c->draft;
  if (cost > DRAFT_BYTES - d->used) {
    c->draft = NULL;
    return NULL;
  }
  void *p = &d->bytes[d->used];
  d->used += cost;
  memset((uint8_t *)p + cost - 16, 0, 16); /* what rounding adds */
  return p;
}

/* @out NULL after success: only counted. */
static blx__rc copy_run(struct copier *c, const void *data, size_t n, size_t zeroes, void **out) {
  *out = NULL;
  if (n > SIZE_MAX / 4 - c->need)
    return blx__fail(c->err, BLX_E_INVALID, origin_name, "a length of %zu bytes cannot be", n);
  size_t cost = arena_cost(n + zeroes);
  c->need += cost;
  if (!c->arena && !c->draft) return BLX__OK;
  uint8_t *p = c->arena ? blx__arena_alloc(c->arena, n + zeroes) : draft_room(c, cost);
  if (!p && c->arena) return blx__schema_full(c->arena, n + zeroes, origin_name, c->err);
  if (!p) return BLX__OK;
  if (n) memcpy(p, data, n);
  if (zeroes && c->draft) memset(p + n, 0, zeroes);
  *out = p;
  return BLX__OK;
}

/* Have the pointer at @at, NULL when only counting, point to @to. */
static void set_pointer(struct copier *c, void *at, const void *to) {
  if (!at) return;
  blx__store_ptr(at, to);
  if (!c->draft || !to) return;
  if (c->draft->count == DRAFT_POINTERS)
    c->draft = NULL;
  else
    c->draft->pointers[c->draft->count++] = (uint16_t)((uint8_t *)at - c->draft->bytes);
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
    if (to) memcpy(to, &b, sizeof b);
    set_pointer(c, to ? (uint8_t *)to + offsetof(struct blx_bytes, data) : NULL, copy);
    return BLX__OK;
  } else if (f->kind == BLX__KIND_MSG) {
    const void *sub = blx__load_ptr(at);
    if (!sub) return BLX__OK;
    BLX__TRY(copy_msg(c, f->msg(), sub, &copy));
  } else {
    return BLX__OK;
  }
  set_pointer(c, to, copy);
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
  set_pointer(c, to ? (uint8_t *)to + f->offset : NULL, copy);
  if (blx__kind_is_number(f->kind)) return BLX__OK;
  for (size_t i = 0; i < n; i++)
    BLX__TRY(copy_value(c, f, elements + i * each, copy ? (uint8_t *)copy + i * each : NULL));
  return BLX__OK;
}

/* @at: of the pointer to the first, NULL when only counting. */
static blx__rc copy_unknown(struct copier *c, const struct blx__unknown *u, void *at) {
  if (at) blx__store_ptr(at, NULL);
  for (; u; u = u->next) {
    void *node, *data;
    BLX__TRY(copy_run(c, u, sizeof *u, 0, &node));
    BLX__TRY(copy_run(c, u->data, u->len, 0, &data));
    if (!node || !at) continue;
    struct blx__unknown *copy = node;
    copy->next = NULL;
    set_pointer(c, &copy->data, data);
    set_pointer(c, at, node);
    at = &copy->next;
  }
  return BLX__OK;
}

static bool has_pointer(const struct blx__field *f) {
  return f->card == BLX__CARD_REP || !blx__kind_is_number(f->kind);
}

static blx__rc copy_msg(struct copier *c, const struct blx__msg_desc *desc, const void *from, void **out) {
  if (++c->depth > BLX__MSG_DEPTH_MAX) return blx__schema_too_deep(desc, origin_name, c->err);
  BLX__TRY(blx__schema_head_ok(desc, from, origin_name, c->err));
  size_t had = blx__struct_size(from) < desc->size ? blx__struct_size(from) : desc->size;
  void *to = NULL;
  BLX__TRY(copy_run(c, from, had, desc->size - had, &to));
  struct blx__msg_head *head = to;
  if (head) *head = (struct blx__msg_head){.struct_size = desc->size};
  BLX__TRY(copy_unknown(c, ((const struct blx__msg_head *)from)->unknown, head ? (void *)&head->unknown : NULL));
  for (unsigned i = 0; i < desc->field_count; i++) {
    const struct blx__field *f = &desc->fields[i];
    if (had < desc->size && !blx__field_inside(f, from)) {
      /* A part of it may lie in the smaller struct: a pointer without its count. */
      if (to) memset((uint8_t *)to + f->offset, 0, f->size);
      continue;
    }
    if (!has_pointer(f)) continue;
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

/* The draft, moved. */
static void settle_draft(const struct draft *d, uint8_t *to) {
  memcpy(to, d->bytes, d->used);
  for (unsigned i = 0; i < d->count; i++) {
    const uint8_t *drafted = blx__load_ptr(d->bytes + d->pointers[i]);
    blx__store_ptr(to + d->pointers[i], to + (drafted - d->bytes));
  }
}

blx__rc blx__msg_own(const struct blx__msg_desc *desc, const void *msg, void **out, blx_error *err) {
  struct draft draft;
  draft.used = 0;
  draft.count = 0;
  struct copier first = {.draft = &draft, .err = err};
  void *copy;
  BLX__TRY(copy_msg(&first, desc, msg, &copy));
  struct owned *o = malloc(sizeof *o + first.need);
  if (!o) return blx__fail(err, BLX_E_NOMEM, origin_name, "out of memory for a message; try again later");
  o->bytes = sizeof *o + first.need;
  *out = o->msg;
  if (first.draft) {
    BLX__ASSERT(draft.used == first.need);
    settle_draft(&draft, o->msg);
    return BLX__OK;
  }
  /* An arena that is exactly this block: it never needs a chunk of its own. */
  struct blx__arena block = {.at = o->msg, .end = o->msg + first.need, .limit_bytes = first.need};
  struct copier second = {.arena = &block, .err = err};
  blx__rc rc = copy_msg(&second, desc, msg, &copy);
  BLX__ASSERT(rc.code == 0 && block.chunk == NULL && copy == o->msg && block.used_bytes == first.need);
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
