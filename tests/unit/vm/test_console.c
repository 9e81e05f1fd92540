/* Readers of consoles, on files that the test writes: no guest is needed. */
#include "../harness.h"
#include "support.h"

#include "io/file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static const struct blx__vm_key key = {.instance = "web-1", .uid = 3, .epoch = 1};

static void setup(struct bench *b) {
  char vm[128];
  memcpy(dir, "/tmp/blx-cons-XXXXXX", 21);
  ck_assert_ptr_nonnull(mkdtemp(dir));
  (void)blx__str_format(vm, sizeof vm, "%s/vms/web-1-3", dir);
  ck_assert_int_eq(blx__dir_make(vm, 0755, NULL).code, 0);
  bench_open(b);
  struct blx__vm_options o = {.state_dir = dir,
                              .host_tag = "blixard-unit-test-2",
                              .shim_path = "/bin/false",
                              .on_event = bench_event,
                              .user = b};
  ck_assert_int_eq(blx__vm_microvm_open(b->loop, &o, &b->driver, NULL).code, 0);
}

static void teardown(struct bench *b) {
  bench_close(b);
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}

static void path_of(const char *name, char out[160]) {
  (void)blx__str_format(out, 160, "%s/vms/web-1-3/%s", dir, name);
}

static void append(const char *name, const char *text) {
  char path[160];
  path_of(name, path);
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
  (void)close(fd);
}

static struct blx__vm_logs *reader(struct bench *b, struct reading *r, uint32_t lines, bool follow) {
  struct blx__vm_logs *logs = NULL;
  unsigned refuse = r->refuse;
  *r = (struct reading){.bench = b, .refuse = refuse};
  blx__buf_init(&r->text, 4 << 20);
  ck_assert_int_eq(
      b->driver->ops->logs(b->driver, &key, lines, follow, bench_log_bytes, bench_log_end, r, &logs, NULL).code, 0);
  return logs;
}

static void expect(struct bench *b, uint32_t lines, const char *text) {
  struct reading r = {0};
  (void)reader(b, &r, lines, false);
  bench_wait_end(b, &r);
  ck_assert_str_eq(blx__buf_cstr(&r.text), text);
  blx__buf_free(&r.text);
}

START_TEST(tail__counts_lines_over_both_files) {
  struct bench b;
  setup(&b);
  expect(&b, 10, "");
  append("console.log.1", "one\ntwo\nthree\n");
  append("console.log", "four\nfive\nsix");
  expect(&b, 0, "");
  expect(&b, 1, "six");
  expect(&b, 2, "five\nsix");
  expect(&b, 3, "four\nfive\nsix");
  expect(&b, 4, "three\nfour\nfive\nsix");
  expect(&b, 5, "two\nthree\nfour\nfive\nsix");
  expect(&b, 100, "one\ntwo\nthree\nfour\nfive\nsix");
  expect(&b, BLX__VM_LOG_LINES_ALL, "one\ntwo\nthree\nfour\nfive\nsix");
  append("console.log", "\n");
  expect(&b, 1, "six\n");
  expect(&b, 4, "three\nfour\nfive\nsix\n");
  teardown(&b);
}
END_TEST

START_TEST(tail__of_long_files__is_found_beyond_one_block) {
  struct bench b;
  setup(&b);
  char line[64];
  for (int i = 0; i < 3000; i++) {
    (void)blx__str_format(line, sizeof line, "line number %d of many\n", i);
    append("console.log", line);
  }
  struct reading r = {0};
  (void)reader(&b, &r, 1000, false);
  bench_wait_end(&b, &r);
  const char *text = blx__buf_cstr(&r.text);
  ck_assert(strncmp(text, "line number 2000 of many\n", 25) == 0);
  ck_assert_uint_eq(r.text.len, 1000 * 25);
  blx__buf_free(&r.text);
  teardown(&b);
}
END_TEST

START_TEST(follow__goes_on_over_a_rotation_and_ends_with_the_instance) {
  struct bench b;
  char from[160], to[160];
  setup(&b);
  append("console.log", "old\nlast\n");
  struct reading r = {0};
  (void)reader(&b, &r, 1, true);
  bench_wait_text(&b, &r, "last\n");
  append("console.log", "more\n");
  path_of("console.log", from);
  path_of("console.log.1", to);
  ck_assert_int_eq(rename(from, to), 0);
  append("console.log", "new\n");
  bench_wait_text(&b, &r, "last\nmore\nnew\n");
  ck_assert(!r.ended);
  ck_assert(!bench_destroy(&b, &key).failed);
  bench_wait_end(&b, &r);
  ck_assert_str_eq(blx__buf_cstr(&r.text), "last\nmore\nnew\n");
  blx__buf_free(&r.text);
  teardown(&b);
}
END_TEST

START_TEST(bytes_that_are_not_taken__are_offered_again) {
  struct bench b;
  setup(&b);
  append("console.log", "a\nb\n");
  struct reading r = {.refuse = 2};
  (void)reader(&b, &r, 10, false);
  bench_wait_end(&b, &r);
  ck_assert_str_eq(blx__buf_cstr(&r.text), "a\nb\n");
  ck_assert_uint_eq(r.refuse, 0);
  blx__buf_free(&r.text);
  teardown(&b);
}
END_TEST

START_TEST(reader__of_what_is_not_here_or_one_too_many__is_refused) {
  struct bench b;
  setup(&b);
  struct blx__vm_key other = {.instance = "web-2", .uid = 3}, bad = {.instance = "../web", .uid = 3};
  struct blx__vm_logs *logs[BLX__VM_LOGS_MAX], *more;
  struct reading r = {.bench = &b};
  blx_error err;
  const struct blx__vm_ops *ops = b.driver->ops;
  blx__rc rc = ops->logs(b.driver, &other, 1, true, bench_log_bytes, bench_log_end, &r, &more, &err);
  ck_assert_int_eq(rc.code, BLX_E_NOT_FOUND);
  rc = ops->logs(b.driver, &bad, 1, true, bench_log_bytes, bench_log_end, &r, &more, &err);
  ck_assert_int_eq(rc.code, BLX_E_INVALID);
  for (unsigned i = 0; i < BLX__VM_LOGS_MAX; i++)
    ck_assert_int_eq(ops->logs(b.driver, &key, 1, true, bench_log_bytes, bench_log_end, &r, &logs[i], NULL).code, 0);
  rc = ops->logs(b.driver, &key, 1, true, bench_log_bytes, bench_log_end, &r, &more, &err);
  ck_assert_int_eq(rc.code, BLX_E_BUSY);
  for (unsigned i = 0; i < BLX__VM_LOGS_MAX; i++) ops->logs_close(b.driver, logs[i]);
  ck_assert(!r.ended);
  teardown(&b);
}
END_TEST

START_TEST(driver__with_options_that_cannot_be__is_refused) {
  struct bench b;
  bench_open(&b);
  struct blx__vm_options o = {.state_dir = "relative", .host_tag = "blixard-1", .shim_path = "/bin/false"};
  blx_error err;
  ck_assert_int_eq(blx__vm_microvm_open(b.loop, &o, &b.driver, &err).code, BLX_E_INVALID);
  o.state_dir = "/tmp";
  o.host_tag = "../x";
  ck_assert_int_eq(blx__vm_microvm_open(b.loop, &o, &b.driver, &err).code, BLX_E_INVALID);
  o.host_tag = NULL;
  ck_assert_int_eq(blx__vm_microvm_open(b.loop, &o, &b.driver, &err).code, BLX_E_INVALID);
  bench_close(&b);
}
END_TEST

BLX_TEST_MAIN("vm/console", tail__counts_lines_over_both_files, tail__of_long_files__is_found_beyond_one_block,
              follow__goes_on_over_a_rotation_and_ends_with_the_instance, bytes_that_are_not_taken__are_offered_again,
              reader__of_what_is_not_here_or_one_too_many__is_refused, driver__with_options_that_cannot_be__is_refused)
