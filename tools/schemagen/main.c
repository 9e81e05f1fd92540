/* schemagen DIR: write the outputs below DIR. schemagen --check DIR: compare them with what is there. schemagen
 * --unlock DIR: write, and let lines of the lock go (for tables that no release has carried yet). */
#include "schemagen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUT_MAX_BYTES = 4 << 20, PATH_MAX_BYTES = 4096 };

static const struct output {
  const char *path;
  void (*write)(struct blx__buf *out);
} outputs[] = {
    {"include/blixard/types.h", out_types_h},    {"include/blixard/calls.h", out_calls_h},
    {"lib/schema/internal.h", out_internal_h},   {"lib/schema/rpc_ids.h", out_rpc_ids_h},
    {"lib/schema/blixard.proto", out_proto},     {"lib/schema/blixard_member.proto", out_member_proto},
    {"docs/reference/schema.md", out_reference}, {"lib/schema/layout.h", out_layout_h},
    {"lib/schema/schema.lock", out_lock},
};
static const char lock_path[] = "lib/schema/schema.lock";

/* An absent file reads as empty. */
static bool read_file(const char *path, struct blx__buf *out) {
  FILE *f = fopen(path, "rb");
  if (!f) return true;
  char part[4096];
  size_t n;
  bool ok = true;
  while (ok && (n = fread(part, 1, sizeof part, f)) > 0) ok = blx__buf_add(out, part, n);
  ok = ok && !ferror(f);
  fclose(f);
  return ok;
}

static bool write_file(const char *path, const struct blx__buf *in) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  bool ok = fwrite(in->data, 1, in->len, f) == in->len;
  return fclose(f) == 0 && ok;
}

static bool has_line(const char *text, const char *line, size_t n) {
  for (const char *at = text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
    if (strncmp(at, line, n) == 0 && at[n] == '\n') return true;
  return false;
}

/* Every line of @old must still be in @now. */
static bool lock_keeps(const char *old, const char *now) {
  bool ok = true;
  while (*old) {
    size_t n = strcspn(old, "\n");
    if (!has_line(now, old, n)) {
      fprintf(stderr, "schemagen: the tables no longer have this line of %s: %.*s\n", lock_path, (int)n, old);
      ok = false;
    }
    old += n + (old[n] == '\n');
  }
  if (!ok)
    fprintf(stderr, "schemagen: what was released is never changed: add a row with a new id instead. Only what no "
                    "release has carried may go: make schema UNLOCK=--unlock\n");
  return ok;
}

enum mode { WRITE_ALL, CHECK_ALL, UNLOCK_ALL };

static bool one_output(const struct output *o, const char *dir, enum mode mode) {
  char path[PATH_MAX_BYTES];
  struct blx__buf was, now;
  blx__buf_init(&was, OUTPUT_MAX_BYTES);
  blx__buf_init(&now, OUTPUT_MAX_BYTES);
  o->write(&now);
  bool ok = blx__str_format(path, sizeof path, "%s/%s", dir, o->path) && read_file(path, &was);
  const char *old = ok ? blx__buf_cstr(&was) : NULL, *text = blx__buf_cstr(&now);
  ok = old && text;
  if (!ok) fprintf(stderr, "schemagen: cannot read %s\n", path);
  if (ok && mode != UNLOCK_ALL && strcmp(o->path, lock_path) == 0) ok = lock_keeps(old, text);
  bool same = ok && was.len == now.len && memcmp(was.data, now.data, now.len) == 0;
  if (ok && !same && mode == CHECK_ALL) {
    fprintf(stderr, "schemagen: %s does not follow from the tables: run `make schema` and commit it\n", o->path);
    ok = false;
  } else if (ok && !same) {
    ok = write_file(path, &now);
    fprintf(stderr, ok ? "schemagen: wrote %s\n" : "schemagen: cannot write %s\n", path);
  }
  blx__buf_free(&was);
  blx__buf_free(&now);
  return ok;
}

/* What was released decides where new rows of a struct begin. */
static bool lock_load(const char *dir) {
  char path[PATH_MAX_BYTES];
  struct blx__buf text;
  blx__buf_init(&text, OUTPUT_MAX_BYTES);
  bool ok = blx__str_format(path, sizeof path, "%s/%s", dir, lock_path) && read_file(path, &text);
  const char *lock = ok ? blx__buf_cstr(&text) : NULL;
  ok = lock && layout_load(lock) && layout_check();
  if (!lock) fprintf(stderr, "schemagen: cannot read %s\n", path);
  blx__buf_free(&text);
  return ok;
}

int main(int argc, char **argv) {
  enum mode mode = WRITE_ALL;
  if (argc == 3 && strcmp(argv[1], "--check") == 0) mode = CHECK_ALL;
  if (argc == 3 && strcmp(argv[1], "--unlock") == 0) mode = UNLOCK_ALL;
  if (argc != (mode == WRITE_ALL ? 2 : 3)) {
    fprintf(stderr, "usage: schemagen [--check | --unlock] DIR\n");
    return 2;
  }
  if (!rows_check() || (mode != UNLOCK_ALL && !lock_load(argv[argc - 1]))) return 1;
  bool ok = true;
  for (size_t i = 0; i < BLX__COUNT(outputs); i++) ok = one_output(&outputs[i], argv[argc - 1], mode) && ok;
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
