/* The page that an agent and its watchdog process have in common. */
#include "../harness.h"

#include "lease/page.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], path[128];

static void setup(void) {
  memcpy(dir, "/tmp/blx-page-XXXXXX", 21);
  ck_assert_ptr_nonnull(mkdtemp(dir));
  (void)blx__str_format(path, sizeof path, "%s/page", dir);
}

static void teardown(void) {
  (void)unlink(path);
  ck_assert_int_eq(rmdir(dir), 0);
}

static struct blx__lease_page *opened(void) {
  struct blx__lease_page *page = NULL;
  blx_error err = {0};
  ck_assert_msg(blx__lease_page_open(path, &page, &err).code == 0, "%s", err.message);
  return page;
}

START_TEST(a_new_page__wants_everything_dead_and_is_watched_by_nobody) {
  setup();
  struct blx__lease_page *page = opened();
  ck_assert_uint_eq(blx__lease_page_kill_at(page), 0);
  ck_assert(!blx__lease_page_watched(page, blx__lease_boot_ms()));
  struct stat st;
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 0777, 0600);
  blx__lease_page_close(page);
  teardown();
}
END_TEST

START_TEST(what_one_says__the_other_sees_and_finds_again) {
  setup();
  struct blx__lease_page *agent = opened(), *process = opened();
  blx__lease_page_set_kill_at(agent, 12345);
  blx__lease_page_owned(agent, 77);
  blx__lease_page_looked(process, 5000, false);
  ck_assert_uint_eq(blx__lease_page_kill_at(process), 12345);
  ck_assert_uint_eq(blx__lease_page_owned_at(process), 77);
  ck_assert(blx__lease_page_watched(agent, 5000 + BLX__LEASE_LOOKS_MS - 1));
  ck_assert(!blx__lease_page_watched(agent, 5000 + BLX__LEASE_LOOKS_MS));
  ck_assert_uint_eq(blx__lease_page_device_s(agent), 0);
  blx__lease_page_set_device(process, 10);
  ck_assert_uint_eq(blx__lease_page_device_s(agent), 10);
  blx__lease_page_looked(process, 6000, true);
  ck_assert(!blx__lease_page_watched(agent, 6000));
  blx__lease_page_close(agent);
  agent = opened();
  ck_assert_uint_eq(blx__lease_page_kill_at(agent), 12345);
  blx__lease_page_close(agent);
  blx__lease_page_close(process);
  teardown();
}
END_TEST

START_TEST(the_process_s_place__is_taken_once) {
  setup();
  struct blx__lease_page *one = opened(), *two = opened();
  ck_assert(blx__lease_page_take_watch(one));
  ck_assert(!blx__lease_page_take_watch(two));
  blx__lease_page_close(one);
  ck_assert(blx__lease_page_take_watch(two));
  blx__lease_page_close(two);
  teardown();
}
END_TEST

static void put(const void *bytes, size_t n, off_t at) {
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(pwrite(fd, bytes, n, at), (ssize_t)n);
  (void)close(fd);
}

START_TEST(a_page_of_another_boot__begins_anew) {
  setup();
  struct blx__lease_page *page = opened();
  blx__lease_page_set_kill_at(page, UINT64_MAX);
  blx__lease_page_close(page);
  put("0", 1, 8 + 3); /* a digit of the boot's id */
  put("f", 1, 8 + 4);
  page = opened();
  ck_assert_uint_eq(blx__lease_page_kill_at(page), 0);
  blx__lease_page_close(page);
  teardown();
}
END_TEST

START_TEST(something_else__is_refused_and_left_as_it_is) {
  setup();
  struct blx__lease_page *page = NULL;
  blx_error err = {0};
  put("a letter", 8, 0);
  ck_assert_int_eq(blx__lease_page_open(path, &page, &err).code, BLX_E_CORRUPT);
  ck_assert_ptr_nonnull(strstr(err.message, "is not a lease page"));
  struct stat st;
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_int_eq(st.st_size, 8);
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(symlink("/etc/passwd", path), 0);
  ck_assert_int_eq(blx__lease_page_open(path, &page, &err).code, BLX_E_IO);
  teardown();
}
END_TEST

BLX_TEST_MAIN("lease/page", a_new_page__wants_everything_dead_and_is_watched_by_nobody,
              what_one_says__the_other_sees_and_finds_again, the_process_s_place__is_taken_once,
              a_page_of_another_boot__begins_anew, something_else__is_refused_and_left_as_it_is)
