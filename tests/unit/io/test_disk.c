/* The real files of a directory: what is seen through the table, and what the file system shows. Large files and the
 * end: test_disk_large.c. */
#include "../harness.h"
#include "support_disk.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- before the first sync */

START_TEST(before_the_first_sync__everything_is_done_at_once) {
  struct box b;
  box_open(&b, true);
  write_text(&b, "a", "one");
  check_text(&b, "a", "one");
  ck_assert_int_eq(write_code(&b, "a", 5, "two"), 0);
  check_file(&b, "a", "one\0\0two", 8);
  ck_assert_int_eq(write_code(&b, "empty", 0, ""), 0);
  check_text(&b, "empty", "");
  ck_assert_int_eq(b.d.ops->truncate(b.d.self, "a", 2).code, 0);
  check_text(&b, "a", "on");
  ck_assert_int_eq(b.d.ops->rename(b.d.self, "a", "empty").code, 0);
  ck_assert(!is_there(&b, "a"));
  check_text(&b, "empty", "on");
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, "empty").code, 0);
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, NULL).code, 0);
  ck_assert_int_eq(b.d.ops->remove(b.d.self, "empty").code, 0);
  ck_assert(!is_there(&b, "empty"));
  box_free(&b);
}
END_TEST

START_TEST(before_the_first_sync__an_error_is_told_at_once_and_ends_nothing) {
  struct box b;
  struct blx__buf out;
  box_open(&b, true);
  ck_assert_int_eq(b.d.ops->rename(b.d.self, "none", "a").code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(b.d.ops->remove(b.d.self, "none").code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(b.d.ops->truncate(b.d.self, "none", 1).code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, "none").code, BLX_E_NOT_FOUND);
  blx__buf_init(&out, 10);
  ck_assert_int_eq(b.d.ops->read(b.d.self, "none", &out).code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(mkdirat(b.fd, "dir", 0700), 0);
  ck_assert_int_ne(b.d.ops->read(b.d.self, "dir", &out).code, 0);
  write_text(&b, "large", "eleven byte");
  ck_assert_int_eq(b.d.ops->read(b.d.self, "large", &out).code, BLX_E_NOMEM);
  ck_assert_uint_eq(out.len, 0);
  blx__buf_free(&out);
  ck_assert_int_eq(sync_code(&b, "large"), 0);
  check_text(&b, "large", "eleven byte");
  box_free(&b);
}
END_TEST

START_TEST(without_a_loop__a_directory_is_filled_and_no_thread_is_started) {
  struct box b;
  size_t threads = count_in("/proc/self/task");
  box_open(&b, false);
  write_text(&b, "new", "first");
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, "new").code, 0);
  ck_assert_int_eq(b.d.ops->rename(b.d.self, "new", "name").code, 0);
  ck_assert_int_eq(b.d.ops->reserve(b.d.self, "log", 10).code, 0);
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, NULL).code, 0);
  check_text(&b, "name", "first");
  check_file(&b, "log", "\0\0\0\0\0\0\0\0\0", 10);
  char name[BLX__DISK_NAME_MAX + 1] = "log";
  ck_assert_int_eq(b.d.ops->next(b.d.self, name).code, 0);
  ck_assert_str_eq(name, "name");
  ck_assert_uint_eq(count_in("/proc/self/task"), threads);
  ck_assert(!b.d.ops->busy(b.d.self));
  box_free(&b);
}
END_TEST

/* ---- on the thread */

START_TEST(after_the_first_sync__everything_is_done_in_order) {
  struct box b;
  box_open(&b, true);
  start_thread(&b);
  write_text(&b, "a", "1");
  ck_assert_int_eq(b.d.ops->rename(b.d.self, "a", "b").code, 0);
  write_text(&b, "a", "2"); /* not into the file that was called so */
  write_text(&b, "c", "3");
  ck_assert_int_eq(b.d.ops->rename(b.d.self, "a", "c").code, 0); /* replaces */
  ck_assert_int_eq(write_code(&b, "c", 1, "+"), 0);
  write_text(&b, "d", "4");
  ck_assert_int_eq(b.d.ops->remove(b.d.self, "d").code, 0);
  write_text(&b, "e", "old and long");
  ck_assert_int_eq(b.d.ops->remove(b.d.self, "e").code, 0);
  write_text(&b, "e", "new");
  for (char digit[] = "0"; digit[0] <= '9'; digit[0]++) write_text(&b, "f", digit);
  ck_assert_int_eq(sync_code(&b, NULL), 0);
  ck_assert(!is_there(&b, "a") && !is_there(&b, "d"));
  check_text(&b, "b", "1");
  check_text(&b, "c", "2+");
  check_text(&b, "e", "new");
  check_text(&b, "f", "9");
  box_free(&b);
}
END_TEST

START_TEST(truncate__cuts_and_lengthens_with_zeros) {
  struct box b;
  box_open(&b, true);
  for (unsigned on_thread = 0; on_thread < 2; on_thread++) {
    if (on_thread) start_thread(&b);
    write_text(&b, "a", "abcdef");
    ck_assert_int_eq(b.d.ops->truncate(b.d.self, "a", 3).code, 0);
    ck_assert_int_eq(b.d.ops->truncate(b.d.self, "a", 8).code, 0);
    ck_assert_int_eq(b.d.ops->sync_now(b.d.self, "a").code, 0);
    check_file(&b, "a", "abc\0\0\0\0", 8);
  }
  box_free(&b);
}
END_TEST

START_TEST(syncs__are_told_once_each_in_the_order_they_were_asked_for) {
  enum { SYNCS = 60 };
  struct box b;
  struct answer a[SYNCS] = {0};
  box_open(&b, true);
  for (unsigned i = 0; i < SYNCS; i++) {
    char name[8];
    ck_assert(blx__str_format(name, sizeof name, "f%u", i % 7));
    write_text(&b, name, name);
    a[i].b = &b;
    b.d.ops->sync(b.d.self, i % 5 == 4 ? NULL : name, on_done, &a[i]);
  }
  ck_assert_uint_eq(b.told, 0);
  await(&b, SYNCS);
  for (unsigned i = 0; i < SYNCS; i++) {
    ck_assert_uint_eq(a[i].calls, 1);
    ck_assert_int_eq(a[i].code, 0);
    ck_assert_uint_eq(a[i].place, i + 1);
  }
  box_free(&b);
}
END_TEST

/* Small: the buffer is used again at once. Large: until the sync. */
START_TEST(write__copies_what_is_small_and_borrows_what_is_large) {
  static const size_t sizes[] = {1, SMALL - 1, SMALL, SMALL + 1, 3 * MIB + 5};
  struct box b;
  box_open(&b, true);
  start_thread(&b);
  for (unsigned i = 0; i < BLX__COUNT(sizes); i++) {
    uint8_t *bytes = pattern(sizes[i], i), *same = pattern(sizes[i], i);
    ck_assert_int_eq(b.d.ops->write(b.d.self, "f", 0, (struct blx__slice){bytes, sizes[i]}).code, 0);
    if (sizes[i] <= SMALL) {
      memset(bytes, 0xee, sizes[i]);
      free(bytes);
    }
    ck_assert_int_eq(sync_code(&b, "f"), 0);
    if (sizes[i] > SMALL) free(bytes);
    check_file(&b, "f", same, sizes[i]);
    free(same);
  }
  box_free(&b);
}
END_TEST

START_TEST(sync_now__waits_for_everything_that_was_asked_for_before) {
  enum { WRITES = 64, EACH = 64 << 10 };
  struct box b;
  struct answer a = {.b = &b};
  box_open(&b, true);
  start_thread(&b);
  uint8_t *bytes = pattern(WRITES * EACH, 3), *same = pattern(WRITES * EACH, 3);
  for (size_t i = 0; i < WRITES; i++)
    ck_assert_int_eq(b.d.ops->write(b.d.self, "f", i * EACH, (struct blx__slice){bytes + i * EACH, EACH}).code, 0);
  b.d.ops->sync(b.d.self, "f", on_done, &a);
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, "f").code, 0);
  free(bytes);
  check_file(&b, "f", same, WRITES * EACH);
  ck_assert_uint_eq(a.calls, 0); /* the loop had no turn yet */
  await(&b, 1);
  ck_assert_int_eq(a.code, 0);
  write_text(&b, "g", "made");
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, NULL).code, 0);
  check_text(&b, "g", "made");
  free(same);
  box_free(&b);
}
END_TEST

/* More than are kept open, in turn. */
START_TEST(many_files__are_written_while_few_are_open) {
  enum { FILES = 30, OPEN_MAX = 8, ROUNDS = 3 };
  struct box b;
  box_open(&b, true);
  start_thread(&b);
  size_t before = count_in("/proc/self/fd");
  for (unsigned i = 0; i < FILES * ROUNDS; i++) {
    char name[8], text[2] = {(char)('a' + i % FILES), '\0'};
    ck_assert(blx__str_format(name, sizeof name, "f%u", i % FILES));
    ck_assert_int_eq(write_code(&b, name, i / FILES, text), 0);
  }
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, NULL).code, 0);
  ck_assert_uint_le(count_in("/proc/self/fd"), before + OPEN_MAX);
  for (unsigned i = 0; i < FILES; i++) {
    char name[8], text[ROUNDS + 1] = "";
    memset(text, (int)('a' + i), ROUNDS);
    ck_assert(blx__str_format(name, sizeof name, "f%u", i));
    check_text(&b, name, text);
  }
  box_free(&b);
}
END_TEST

START_TEST(reserve__makes_zeros_that_have_their_room) {
  enum { SIZE = 200001 };
  struct box b;
  struct stat st;
  box_open(&b, true);
  uint8_t *want = calloc(1, SIZE);
  ck_assert_ptr_nonnull(want);
  for (unsigned on_thread = 0; on_thread < 2; on_thread++) {
    if (on_thread) start_thread(&b);
    const char *name = on_thread ? "f" : "g";
    memset(want, 0, 9);
    ck_assert_int_eq(b.d.ops->reserve(b.d.self, name, SIZE).code, 0);
    ck_assert_int_eq(b.d.ops->sync_now(b.d.self, name).code, 0);
    check_file(&b, name, want, SIZE);
    ck_assert_int_eq(fstatat(b.fd, name, &st, 0), 0);
    ck_assert_int_ge(st.st_blocks * 512, SIZE);
    /* What is there stays, and no file gets shorter. */
    memcpy(want, "some data", 9);
    write_text(&b, name, "some data");
    ck_assert_int_eq(b.d.ops->truncate(b.d.self, name, 9).code, 0);
    ck_assert_int_eq(b.d.ops->reserve(b.d.self, name, SIZE).code, 0);
    ck_assert_int_eq(b.d.ops->reserve(b.d.self, name, 10).code, 0);
    ck_assert_int_eq(b.d.ops->sync_now(b.d.self, name).code, 0);
    check_file(&b, name, want, SIZE);
  }
  free(want);
  box_free(&b);
}
END_TEST

/* ---- errors on the thread */

static void check_dead(struct box *b, int code) {
  write_text(b, "later", "this never happens");
  ck_assert_int_eq(sync_code(b, "later"), code);
  ck_assert_int_eq(sync_code(b, NULL), code);
  ck_assert_int_eq(b->d.ops->sync_now(b->d.self, NULL).code, code);
  ck_assert(!is_there(b, "later"));
}

START_TEST(an_error__comes_with_the_next_sync_and_nothing_is_done_after_it) {
  struct box b;
  box_open(&b, true);
  start_thread(&b);
  write_text(&b, "before", "this is there");
  ck_assert_int_eq(b.d.ops->rename(b.d.self, "none", "a").code, 0);
  ck_assert_int_eq(b.d.ops->remove(b.d.self, "before").code, 0);
  ck_assert_int_eq(sync_code(&b, "before"), BLX_E_NOT_FOUND);
  check_text(&b, "before", "this is there");
  check_dead(&b, BLX_E_NOT_FOUND);
  box_free(&b);
}
END_TEST

START_TEST(a_sync__of_a_missing_file_fails_and_so_does_all_after_it) {
  struct box b;
  box_open(&b, true);
  ck_assert_int_eq(sync_code(&b, "none"), BLX_E_NOT_FOUND);
  check_dead(&b, BLX_E_NOT_FOUND);
  box_free(&b);
}
END_TEST

/* The limit is the process's: it is lifted before anything is checked. */
START_TEST(a_file_over_the_limit__is_an_error_of_write_reserve_and_put) {
  struct box b;
  struct rlimit old, tiny;
  box_open(&b, true);
  uint8_t *bytes = pattern(MIB, 1);
  const struct blx__slice part = {bytes, MIB};
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
  tiny = (struct rlimit){.rlim_cur = MIB / 2, .rlim_max = old.rlim_max};
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &tiny), 0);
  int at_once = b.d.ops->write(b.d.self, "f", 0, part).code;
  int reserved = b.d.ops->reserve(b.d.self, "g", MIB).code;
  int put = put_code(&b, "h", &part, 1); /* that starts the thread */
  int later = b.d.ops->write(b.d.self, "f", 0, part).code;
  int synced = sync_code(&b, "f");
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
  (void)signal(SIGXFSZ, handler);
  ck_assert_int_eq(at_once, BLX_E_IO);
  ck_assert_int_eq(reserved, BLX_E_IO);
  ck_assert_int_eq(put, BLX_E_IO);
  ck_assert_int_eq(later, 0);
  ck_assert_int_eq(synced, BLX_E_IO);
  check_dead(&b, BLX_E_IO);
  free(bytes);
  box_free(&b);
}
END_TEST

/* Whatever happens, the file system is taken away again before it is judged. */
START_TEST(a_full_disk__is_told_as_such) {
  if (geteuid() != 0) return;
  struct box b;
  char path[128];
  box_open(&b, true);
  uint8_t *bytes = pattern(MIB, 1);
  const struct blx__slice part = {bytes, MIB};
  ck_assert_int_eq(mkdirat(b.fd, "small", 0700), 0);
  if (mount("none", path_of(&b, path, "small"), "tmpfs", 0, "size=128k") == 0) {
    struct box in = {.loop = b.loop, .fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    int opened = blx__disk_open(b.loop, in.fd, &in.d, NULL).code;
    int reserved = in.d.ops->reserve(in.d.self, "f", MIB).code;
    int at_once = in.d.ops->write(in.d.self, "f", 0, part).code;
    int removed = in.d.ops->remove(in.d.self, "f").code;
    int put = put_code(&in, "f", &part, 1);
    int later = in.d.ops->write(in.d.self, "g", 0, part).code;
    int synced = sync_code(&in, "g");
    in.d.ops->quit(in.d.self);
    while (in.d.ops->busy(in.d.self)) (void)sched_yield();
    blx__disk_free(&in.d);
    (void)close(in.fd);
    ck_assert_int_eq(umount(path), 0);
    ck_assert(opened == 0 && removed == 0 && later == 0);
    ck_assert_int_eq(reserved, BLX_E_NOSPACE);
    ck_assert_int_eq(at_once, BLX_E_NOSPACE);
    ck_assert_int_eq(put, BLX_E_NOSPACE);
    ck_assert_int_eq(synced, BLX_E_NOSPACE);
  }
  free(bytes);
  box_free(&b);
}
END_TEST

/* ---- names */

START_TEST(next__gives_names_in_order_without_directories_and_too_long_ones) {
  static const char *const names[] = {"\xc3\xa9", "ab", "a", "a.b", "B", "-", ".hidden", "a-b"};
  static const char *const sorted[] = {"-", ".hidden", "B", "a", "a-b", "a.b", "ab", NULL, "\xc3\xa9"};
  struct box b;
  char longest[BLX__DISK_NAME_MAX + 2] = "", name[BLX__DISK_NAME_MAX + 1] = "";
  box_open(&b, true);
  ck_assert_int_eq(b.d.ops->next(b.d.self, name).code, BLX_E_NOT_FOUND);
  ck_assert_str_eq(name, "");
  for (unsigned i = 0; i < BLX__COUNT(names); i++) write_text(&b, names[i], names[i]);
  memset(longest, 'x', BLX__DISK_NAME_MAX + 1);
  int fd = openat(b.fd, longest, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ck_assert_int_ge(fd, 0);
  (void)close(fd);
  longest[BLX__DISK_NAME_MAX] = '\0';
  write_text(&b, longest, "fits");
  ck_assert_int_eq(mkdirat(b.fd, "aa", 0700), 0);
  for (unsigned i = 0; i < BLX__COUNT(sorted); i++) {
    ck_assert_int_eq(b.d.ops->next(b.d.self, name).code, 0);
    ck_assert_str_eq(name, sorted[i] ? sorted[i] : longest);
  }
  ck_assert_int_eq(b.d.ops->next(b.d.self, name).code, BLX_E_NOT_FOUND);
  ck_assert_str_eq(name, "\xc3\xa9");
  memcpy(name, "aa", 3); /* none of this name has to be there */
  ck_assert_int_eq(b.d.ops->next(b.d.self, name).code, 0);
  ck_assert_str_eq(name, "ab");
  box_free(&b);
}
END_TEST

BLX_TEST_MAIN("io/disk", before_the_first_sync__everything_is_done_at_once,
              before_the_first_sync__an_error_is_told_at_once_and_ends_nothing,
              without_a_loop__a_directory_is_filled_and_no_thread_is_started,
              after_the_first_sync__everything_is_done_in_order, truncate__cuts_and_lengthens_with_zeros,
              syncs__are_told_once_each_in_the_order_they_were_asked_for,
              write__copies_what_is_small_and_borrows_what_is_large,
              sync_now__waits_for_everything_that_was_asked_for_before, many_files__are_written_while_few_are_open,
              reserve__makes_zeros_that_have_their_room,
              an_error__comes_with_the_next_sync_and_nothing_is_done_after_it,
              a_sync__of_a_missing_file_fails_and_so_does_all_after_it,
              a_file_over_the_limit__is_an_error_of_write_reserve_and_put, a_full_disk__is_told_as_such,
              next__gives_names_in_order_without_directories_and_too_long_ones)
