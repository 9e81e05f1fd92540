/* Readers of consoles, on files that the test writes: no guest is needed. */
#include "../harness.h"
#include "support.h"

#include "io/file.h"
#include "measure/times.h"

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

/* ---- times */

/* Of a log file, as the shim keeps them; closed again. */
struct writer {
  int dir_fd, log_fd;
  struct blx__times times;
};

static struct writer writer_open(void) {
  char path[160];
  struct stat st;
  path_of("", path);
  struct writer w = {.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  w.log_fd = openat(w.dir_fd, "console.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  ck_assert_int_eq(fstat(w.log_fd, &st), 0);
  blx__times_open(&w.times, w.dir_fd, w.log_fd, (uint32_t)st.st_size);
  ck_assert_int_ge(w.times.fd, 0);
  return w;
}

static void writer_close(struct writer *w) {
  blx__times_close(&w->times);
  (void)close(w->log_fd);
  (void)close(w->dir_fd);
}

static void put_at(struct writer *w, uint64_t ms, const char *text) {
  blx__times_note(&w->times, (uint32_t)lseek(w->log_fd, 0, SEEK_END), ms);
  ck_assert_int_eq(write(w->log_fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void rotate_files(void) {
  static const char *const names[] = {"console.log", "console.times"};
  for (unsigned i = 0; i < 2; i++) {
    char from[160], to[160], old[32];
    (void)blx__str_format(old, sizeof old, "%s.1", names[i]);
    path_of(names[i], from);
    path_of(old, to);
    ck_assert_int_eq(rename(from, to), 0);
  }
}

/* What a reader is told, as "MS:BYTES " for each piece. */
static void expect_pieces(struct bench *b, uint32_t lines, const char *wanted) {
  struct reading r = {0};
  char got[1024] = "";
  (void)reader(b, &r, lines, false);
  bench_wait_end(b, &r);
  for (unsigned i = 0; i < r.pieces; i++) {
    size_t used = strlen(got);
    (void)blx__str_format(got + used, sizeof got - used, "%llu:%zu ", (unsigned long long)r.piece[i].at_ms,
                          r.piece[i].n);
  }
  ck_assert_str_eq(got, wanted);
  blx__buf_free(&r.text);
}

START_TEST(bytes__come_with_the_times_that_were_noted__also_after_a_rotation_and_a_restart) {
  struct bench b;
  setup(&b);
  struct writer w = writer_open();
  put_at(&w, 5000, "one\n");
  put_at(&w, 5099, "two\n"); /* within the step of the one before */
  put_at(&w, 5100, "three\n");
  expect_pieces(&b, 10, "5000:8 5100:6 ");
  expect_pieces(&b, 2, "5000:4 5100:6 ");
  writer_close(&w);
  w = writer_open();
  put_at(&w, 5101, "four\n");
  put_at(&w, 2000, "five\n"); /* the clock was set back */
  expect_pieces(&b, 10, "5000:8 5100:6 5101:5 2000:5 ");
  rotate_files();
  writer_close(&w);
  w = writer_open();
  put_at(&w, 9000, "six\n");
  expect_pieces(&b, 10, "5000:8 5100:6 5101:5 2000:5 9000:4 ");
  writer_close(&w);
  teardown(&b);
}
END_TEST

START_TEST(log_of_before_times__has_none__and_what_is_added_has) {
  struct bench b;
  setup(&b);
  append("console.log.1", "old\n");
  append("console.log", "older\n");
  expect_pieces(&b, 10, "0:4 0:6 ");
  struct writer w = writer_open();
  put_at(&w, 7000, "new\n");
  expect_pieces(&b, 10, "0:4 0:6 7000:4 ");
  writer_close(&w);
  teardown(&b);
}
END_TEST

/* Overwrite @n bytes of console.times at @at. */
static void damage(off_t at, const char *bytes, size_t n) {
  char path[160];
  path_of("console.times", path);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  ck_assert_int_eq(pwrite(fd, bytes, n, at), (ssize_t)n);
  (void)close(fd);
}

START_TEST(times__that_are_torn_damaged_or_of_another_file__are_not_known) {
  struct bench b;
  char path[160];
  struct stat st;
  setup(&b);
  struct writer w = writer_open();
  put_at(&w, 1000, "a\n");
  put_at(&w, 2000, "b\n");
  put_at(&w, 3000, "c\n");
  writer_close(&w);
  expect_pieces(&b, 10, "1000:2 2000:2 3000:2 ");
  path_of("console.times", path);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_int_eq(truncate(path, st.st_size - 1), 0);
  expect_pieces(&b, 10, "1000:2 2000:4 "); /* the last one is torn: nobody can tell that it was there */
  w = writer_open();
  put_at(&w, 4000, "d\n");
  writer_close(&w);
  expect_pieces(&b, 10, "1000:2 2000:4 4000:2 ");
  damage(16 + 16 + 9, "\xff", 1);
  expect_pieces(&b, 3, "0:6 "); /* nor can others be found past it */
  damage(0, "garbage!", 8);
  expect_pieces(&b, 10, "0:8 ");
  ck_assert_int_eq(truncate(path, 3), 0);
  expect_pieces(&b, 10, "0:8 ");
  w = writer_open(); /* begins it anew */
  put_at(&w, 5000, "e\n");
  writer_close(&w);
  expect_pieces(&b, 10, "0:8 5000:2 ");
  path_of("console.log", path);
  ck_assert_int_eq(unlink(path), 0);
  append("console.log.1", "keeps the inode from being used again");
  append("console.log", "another file\n");
  expect_pieces(&b, 1, "0:13 ");
  teardown(&b);
}
END_TEST

START_TEST(record_whose_bytes_were_never_written__gives_its_time_to_no_others) {
  struct bench b;
  setup(&b);
  struct writer w = writer_open();
  put_at(&w, 1000, "a\n");
  blx__times_note(&w.times, 2, 2000);
  blx__times_note(&w.times, 50, 3000);
  writer_close(&w);
  w = writer_open();
  ck_assert_uint_eq(w.times.count, 1);
  put_at(&w, 9000, "0123456789012345678901234567890123456789012345678901234567890123456789\n");
  writer_close(&w);
  expect_pieces(&b, 10, "1000:2 9000:71 ");
  teardown(&b);
}
END_TEST

START_TEST(times_that_could_not_be_written__are_a_gap__and_their_number_has_an_end) {
  struct bench b;
  setup(&b);
  struct writer w = writer_open();
  int fd = w.times.fd, none = open("/dev/full", O_WRONLY | O_CLOEXEC);
  put_at(&w, 1000, "a\n");
  w.times.fd = none;
  put_at(&w, 2000, "b\n");
  put_at(&w, 3000, "c\n");
  w.times.fd = fd;
  put_at(&w, 4000, "d\n");
  (void)close(none);
  expect_pieces(&b, 10, "1000:2 0:4 4000:2 ");
  ck_assert(!blx__times_full(&w.times));
  for (uint32_t i = w.times.count; i < BLX__TIMES_RECORDS_MAX; i++) blx__times_note(&w.times, 8, 5000 + i * 1000ULL);
  ck_assert(blx__times_full(&w.times));
  blx__times_note(&w.times, 8, UINT64_MAX);
  ck_assert_uint_eq(w.times.count, BLX__TIMES_RECORDS_MAX);
  writer_close(&w);
  teardown(&b);
}
END_TEST

BLX_TEST_MAIN("vm/console", tail__counts_lines_over_both_files, tail__of_long_files__is_found_beyond_one_block,
              follow__goes_on_over_a_rotation_and_ends_with_the_instance, bytes_that_are_not_taken__are_offered_again,
              reader__of_what_is_not_here_or_one_too_many__is_refused,
              bytes__come_with_the_times_that_were_noted__also_after_a_rotation_and_a_restart,
              log_of_before_times__has_none__and_what_is_added_has,
              times__that_are_torn_damaged_or_of_another_file__are_not_known,
              record_whose_bytes_were_never_written__gives_its_time_to_no_others,
              times_that_could_not_be_written__are_a_gap__and_their_number_has_an_end,
              driver__with_options_that_cannot_be__is_refused)
