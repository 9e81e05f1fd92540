/* The layout of the public structs over time. schema.lock keeps a line for each size that a struct ever had: programs
 * built then hand over structs of that size, with whatever their padding holds at the end. A row added later must begin
 * behind it, or the padding would be read as its value; where it would not, an unused member goes in front of it. */
#include "schemagen.h"

#include <stdio.h>
#include <string.h>

enum { GENERATIONS_MAX = 4096, HEAD_BYTES = 16, NAME_MAX_BYTES = 128, LINE_BYTES = 256 };

/* One line "layout NAME LAST_ID ROWS BYTES". */
struct generation {
  char name[NAME_MAX_BYTES];
  unsigned long last_id, row_count, bytes;
};

static struct generation generations[GENERATIONS_MAX];
static size_t generation_count;

static size_t line_of(const char *text, char out[LINE_BYTES]) {
  size_t n = strcspn(text, "\n");
  (void)blx__str_format(out, LINE_BYTES, "%.*s", (int)(n < LINE_BYTES ? n : LINE_BYTES - 1), text);
  return n + (text[n] == '\n');
}

bool layout_load(const char *lock) {
  char line[LINE_BYTES];
  generation_count = 0;
  for (size_t n; *lock; lock += n) {
    n = line_of(lock, line);
    if (strncmp(line, "layout ", 7) != 0) continue;
    struct generation *g = &generations[generation_count];
    if (generation_count + 1 == GENERATIONS_MAX ||
        sscanf(line, "layout %127s %lu %lu %lu", g->name, &g->last_id, &g->row_count, &g->bytes) != 4) {
      fprintf(stderr, "schemagen: a line of the lock cannot be read: %s\n", line);
      return false;
    }
    generation_count++;
  }
  return true;
}

static bool is(const char *column, const char *word) {
  return strcmp(column, word) == 0;
}

static size_t align(size_t at, size_t to) {
  return (at + to - 1) & ~(to - 1);
}

/* Size of a row's first member, which is also its alignment, with 64-bit pointers; @all: with what belongs to it. */
static size_t row_size(const struct row *f, size_t *all) {
  bool rep = is(f->card, "REP"), msg = is(f->kind, "MSG"), run = is(f->kind, "BYTES");
  bool wide = rep || msg || run || is(f->kind, "STR") || is(f->kind, "U64") || is(f->kind, "I64");
  size_t size = wide ? 8 : 4;
  *all = run && !rep ? 16 : size;
  if (rep)
    *all += 8; /* n_x */
  else if (is(f->card, "OPT") && !msg)
    *all += 4; /* has_x */
  return size;
}

/* The largest recorded size of @msg whose last row is that of @id; 0: none. */
static size_t recorded(const struct row *msg, unsigned long id) {
  size_t most = 0;
  for (size_t i = 0; i < generation_count; i++)
    if (is(generations[i].name, msg->name) && generations[i].last_id == id && generations[i].bytes > most)
      most = generations[i].bytes;
  return most;
}

static bool one_pad(const struct row *msg, const struct row *f, size_t at) {
  size_t all, size = row_size(f, &all);
  return f[-1].tag == T_FIELD && align(at, size) < recorded(msg, (unsigned long)f[-1].id);
}

/* Where the row after @last begins to look for room, and the size of a struct that ends with @last. */
static size_t layout_to(const struct row *msg, unsigned long last_id, size_t *rows_seen) {
  size_t at = HEAD_BYTES, all;
  *rows_seen = 0;
  for (const struct row *f = msg + 1; f->tag == T_FIELD && (unsigned long)f->id <= last_id; f++) {
    if (one_pad(msg, f, at)) at = recorded(msg, (unsigned long)f[-1].id);
    at = align(at, row_size(f, &all)) + all;
    ++*rows_seen;
  }
  return at;
}

bool layout_pad_before(const struct row *msg, const struct row *f) {
  size_t seen;
  if (msg->source == FROM_INTERNAL || f[-1].tag != T_FIELD) return false;
  return one_pad(msg, f, layout_to(msg, (unsigned long)f[-1].id, &seen));
}

bool layout_check(void) {
  bool ok = true;
  for (size_t i = 0; i < generation_count; i++) {
    const struct generation *g = &generations[i];
    const struct row *msg = row_find(T_MSG, g->name);
    if (!msg) continue; /* its other lines of the lock are missed already */
    size_t seen, bytes = align(layout_to(msg, g->last_id, &seen), 8);
    if (seen == g->row_count && bytes == g->bytes) continue;
    fprintf(stderr,
            "schemagen: %s: programs are built with %lu rows up to id %lu in %lu bytes, now these are %zu in %zu: put "
            "new rows at the end, with the highest ids\n",
            g->name, g->row_count, g->last_id, g->bytes, seen, bytes);
    ok = false;
  }
  return ok;
}

static const struct row *last_row(const struct row *msg) {
  const struct row *last = NULL;
  for (const struct row *f = msg + 1; f->tag == T_FIELD; f++) last = f;
  return last;
}

void out_layout_lock(struct blx__buf *out, const struct row *msg) {
  const struct row *last = last_row(msg);
  if (msg->source == FROM_INTERNAL || !last) return;
  size_t seen, bytes = align(layout_to(msg, (unsigned long)last->id, &seen), 8);
  bool known = false;
  for (size_t i = 0; i < generation_count; i++) {
    const struct generation *g = &generations[i];
    if (!is(g->name, msg->name)) continue;
    put(out, "layout %s %lu %lu %lu\n", g->name, g->last_id, g->row_count, g->bytes);
    known = known || g->last_id == (unsigned long)last->id;
  }
  if (!known) put(out, "layout %s %ld %zu %zu\n", msg->name, last->id, seen, bytes);
}

/* The compiler has the last word on what was computed here. */
void out_layout_h(struct blx__buf *out) {
  put(out, "/* Sizes of the public structs, old and new, as programs are built with them. Made by schemagen from the\n"
           " * tables and schema.lock; run `make schema`. Included by desc.c. No guard is needed: it only asserts. */\n"
           "/* clang-format off */\n#if UINTPTR_MAX == UINT64_MAX\n");
  for (size_t i = 0; i < row_count; i++) {
    const struct row *msg = &rows[i], *last = msg->tag == T_MSG ? last_row(msg) : NULL;
    if (!last || msg->source == FROM_INTERNAL) continue;
    size_t seen, bytes = align(layout_to(msg, (unsigned long)last->id, &seen), 8);
    put(out, "_Static_assert(sizeof(struct blx_%s) == %zu, \"%s\");\n", msg->name, bytes, msg->name);
    for (const struct row *f = msg + 1; f->tag == T_FIELD; f++) {
      size_t old = f[-1].tag == T_FIELD ? recorded(msg, (unsigned long)f[-1].id) : 0;
      if (old)
        put(out, "_Static_assert(offsetof(struct blx_%s, %s) >= %zu, \"%s.%s\");\n", msg->name, f->name, old, msg->name,
            f->name);
    }
  }
  put(out, "#endif\n");
}
