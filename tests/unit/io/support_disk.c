#include "support_disk.h"

#include "io/file.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *path_of(const struct box *b, char out[128], const char *name) {
  ck_assert(blx__str_format(out, 128, "%s/%s", b->dir, name));
  return out;
}

void box_open(struct box *b, bool with_loop) {
  *b = (struct box){.dir = "/tmp/blx-disk-XXXXXX"};
  ck_assert_ptr_nonnull(mkdtemp(b->dir));
  b->fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ck_assert_int_ge(b->fd, 0);
  if (with_loop) ck_assert_int_eq(blx__loop_new(&b->loop, NULL).code, 0);
  ck_assert_int_eq(blx__disk_open(b->loop, b->fd, &b->d, NULL).code, 0);
}

static void stop_when_quiet(void *arg) {
  struct box *b = arg;
  if (b->d.ops->busy(b->d.self))
    blx__loop_defer(b->loop, &b->defer);
  else
    blx__loop_stop(b->loop);
}

void box_close(struct box *b) {
  if (b->loop) {
    blx__defer_init(&b->defer, stop_when_quiet, b);
    blx__loop_defer(b->loop, &b->defer);
    blx__loop_run(b->loop);
  }
  ck_assert(!b->d.ops->busy(b->d.self));
  blx__disk_free(&b->d);
  ck_assert_ptr_null(b->d.self);
}

void box_free(struct box *b) {
  if (b->d.self) {
    b->d.ops->quit(b->d.self);
    box_close(b);
  }
  blx__disk_free(&b->d);
  blx__loop_free(b->loop);
  ck_assert_int_eq(close(b->fd), 0);
  ck_assert_int_eq(blx__dir_remove_tree(b->dir, NULL).code, 0);
}

void on_done(void *arg, blx__rc rc) {
  struct answer *a = arg;
  a->calls++;
  a->code = rc.code;
  a->place = ++a->b->told;
  if (a->b->told == a->b->until) blx__loop_stop(a->b->loop);
}

void on_bytes(void *arg, blx__rc rc, uint8_t *bytes, size_t len) {
  struct answer *a = arg;
  a->bytes = bytes;
  a->len = len;
  on_done(arg, rc);
}

void await(struct box *b, unsigned n) {
  b->until = b->told + n;
  blx__loop_run(b->loop);
}

int sync_code(struct box *b, const char *name) {
  struct answer a = {.b = b};
  b->d.ops->sync(b->d.self, name, on_done, &a);
  ck_assert_uint_eq(a.calls, 0);
  await(b, 1);
  ck_assert_uint_eq(a.calls, 1);
  return a.code;
}

void start_thread(struct box *b) {
  ck_assert_int_eq(sync_code(b, NULL), 0);
}

int fetch_code(struct box *b, const char *name, uint8_t **bytes, size_t *len) {
  struct answer a = {.b = b};
  b->d.ops->fetch(b->d.self, name, on_bytes, &a);
  ck_assert_uint_eq(a.calls, 0);
  await(b, 1);
  *bytes = a.bytes;
  *len = a.len;
  return a.code;
}

int put_code(struct box *b, const char *name, const struct blx__slice *parts, size_t n) {
  struct answer a = {.b = b};
  b->d.ops->put(b->d.self, name, parts, n, on_done, &a);
  ck_assert_uint_eq(a.calls, 0);
  await(b, 1);
  ck_assert_int_eq(sync_code(b, NULL), 0); /* a second answer would come by now */
  ck_assert_uint_eq(a.calls, 1);
  return a.code;
}

int write_code(struct box *b, const char *name, uint64_t at, const char *text) {
  return b->d.ops->write(b->d.self, name, at, (struct blx__slice){(const uint8_t *)text, strlen(text)}).code;
}

void write_text(struct box *b, const char *name, const char *text) {
  ck_assert_int_eq(write_code(b, name, 0, text), 0);
}

uint8_t *pattern(size_t len, unsigned salt) {
  uint8_t *p = malloc(len ? len : 1);
  ck_assert_ptr_nonnull(p);
  for (size_t i = 0; i < len; i++) p[i] = (uint8_t)(salt + i + i / 251);
  return p;
}

void check_file(struct box *b, const char *name, const void *bytes, size_t len) {
  char path[128];
  struct blx__buf by_path, by_table;
  blx__buf_init(&by_path, FILE_MAX);
  blx__buf_init(&by_table, FILE_MAX);
  ck_assert_int_eq(blx__file_read(path_of(b, path, name), FILE_MAX, &by_path, NULL).code, 0);
  ck_assert(blx__buf_add_str(&by_table, "before"));
  ck_assert_int_eq(b->d.ops->read(b->d.self, name, &by_table).code, 0);
  ck_assert_uint_eq(by_path.len, len);
  ck_assert_uint_eq(by_table.len, 6 + len);
  ck_assert(len == 0 || memcmp(by_path.data, bytes, len) == 0);
  ck_assert_int_eq(memcmp(by_table.data, "before", 6), 0);
  ck_assert(len == 0 || memcmp(by_table.data + 6, bytes, len) == 0);
  blx__buf_free(&by_path);
  blx__buf_free(&by_table);
}

void check_text(struct box *b, const char *name, const char *text) {
  check_file(b, name, text, strlen(text));
}

bool is_there(const struct box *b, const char *name) {
  return faccessat(b->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

size_t count_in(const char *dir) {
  DIR *d = opendir(dir);
  size_t n = 0;
  ck_assert_ptr_nonnull(d);
  while (readdir(d)) n++;
  (void)closedir(d);
  return n;
}
