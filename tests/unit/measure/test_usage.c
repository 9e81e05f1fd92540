/* What a monitor uses, of files that the test writes, and of this process. */
#include "../harness.h"

#include "measure/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void setup(void) {
  memcpy(dir, "/tmp/blx-usage-XXXXXX", 22);
  ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void put(const char *name, const char *text) {
  char path[128];
  (void)blx__str_format(path, sizeof path, "%s/%s", dir, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
  (void)close(fd);
}

static void teardown(void) {
  static const char *const names[] = {"cpu.stat", "cpuacct.usage", "memory.stat"};
  for (unsigned i = 0; i < BLX__COUNT(names); i++) {
    char path[128];
    (void)blx__str_format(path, sizeof path, "%s/%s", dir, names[i]);
    (void)unlink(path);
  }
  ck_assert_int_eq(rmdir(dir), 0);
}

static struct blx__usage usage_of(int32_t pid) {
  struct blx__usage u = {0};
  const char *const dirs[] = {"/nowhere", dir};
  blx__usage_read(&u, dirs, 2, pid);
  return u;
}

START_TEST(numbers__that_are_none_or_too_large__are_refused) {
  static const char *const bad[] = {"", "x", "-1", " 1", "1 ", "1x", "18446744073709551616", "0x10", "1.5", "\n"};
  uint64_t v = 7;
  for (unsigned i = 0; i < BLX__COUNT(bad); i++) ck_assert_msg(!blx__usage_number(bad[i], &v), "%s", bad[i]);
  ck_assert_uint_eq(v, 7);
  ck_assert(blx__usage_number("0\n", &v) && v == 0);
  ck_assert(blx__usage_number("18446744073709551615", &v) && v == UINT64_MAX);
}
END_TEST

START_TEST(lines__are_found_by_their_whole_key) {
  uint64_t v = 7;
  const char *text = "user_usec 5\nusage_usec_x 6\nnice usage_usec 9\nusage_usec 1234\nsystem_usec 3\n";
  ck_assert(blx__usage_line(text, "usage_usec", &v) && v == 1234);
  ck_assert(!blx__usage_line(text, "usage", &v) && !blx__usage_line(text, "idle", &v) && !blx__usage_line("", "a", &v));
  ck_assert(!blx__usage_line("anon -5\n", "anon", &v) && !blx__usage_line("anon ", "anon", &v));
  ck_assert_uint_eq(v, 1234);
}
END_TEST

START_TEST(stat_of_a_process__is_read_behind_a_name_that_holds_anything) {
  uint64_t cpu = 1, start = 1;
  ck_assert(blx__usage_stat("77 (a) b ) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 4242 1 1\n", &cpu, &start));
  ck_assert_uint_eq(cpu, 300);
  ck_assert_uint_eq(start, 4242);
  static const char *const bad[] = {
      "",
      "77 (a",
      "77 (a) S 1 2 3",
      "77 (a) S 1 2 3 4 5 6 7 8 9 10 x 50 0 0 20 0 1 0 4242 1",
      "77 (a) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 ",
      "77 (a) S 1 2 3 4 5 6 7 8 9 10 18446744073709551615 1 0 0 20 0 1 0 4242 1",
  };
  for (unsigned i = 0; i < BLX__COUNT(bad); i++) ck_assert_msg(!blx__usage_stat(bad[i], &cpu, &start), "%s", bad[i]);
  uint64_t pages = 7;
  ck_assert(blx__usage_statm("1000 250 30 4 0 5 0\n", &pages) && pages == 250);
  ck_assert(!blx__usage_statm("1000", &pages) && !blx__usage_statm("a b c", &pages) && !blx__usage_statm("", &pages));
}
END_TEST

START_TEST(cgroups_of_both_versions__give_processor_and_memory) {
  setup();
  put("cpu.stat", "usage_usec 2500000\nuser_usec 1\n");
  put("memory.stat", "anon 1000\nfile 999999\nshmem 24\n");
  struct blx__usage u = usage_of(0);
  ck_assert(u.has_cpu && u.cpu_us == 2500000 && u.has_memory && u.memory_bytes == 1024 && !u.has_uptime);
  put("cpu.stat", "nr_periods 0\nnr_throttled 0\n"); /* of version 1 */
  put("cpuacct.usage", "7000000\n");
  put("memory.stat", "rss 1\nanon 5\ntotal_cache 500\ntotal_rss 4096\n");
  u = usage_of(0);
  ck_assert(u.has_cpu && u.cpu_us == 7000 && u.has_memory && u.memory_bytes == 4096);
  put("cpuacct.usage", "garbage");
  put("memory.stat", "\xff\xff\n");
  u = usage_of(0);
  ck_assert(!u.has_cpu && !u.has_memory);
  teardown();
}
END_TEST

START_TEST(process_without_a_cgroup__is_read_off_proc) {
  setup();
  struct blx__usage u = usage_of(getpid()), later;
  ck_assert(u.has_cpu && u.has_memory && u.has_uptime && !u.has_balloon && !u.has_read);
  ck_assert_uint_gt(u.memory_bytes, 100000);
  do later = usage_of(getpid()); /* which is work */
  while (later.cpu_us < u.cpu_us + 50000);
  ck_assert_uint_ge(later.at_us - u.at_us, 10000);
  ck_assert_uint_ge(later.uptime_ms, u.uptime_ms);
  ck_assert_uint_lt(later.uptime_ms, 3600000);
  u = usage_of(INT32_MAX);
  ck_assert(!u.has_cpu && !u.has_memory && !u.has_uptime);
  teardown();
}
END_TEST

START_TEST(counters__come_back_as_they_were_told__and_garbage_is_absent) {
  char text[BLX__COUNTERS_TEXT_MAX];
  struct blx__usage u = {.has_balloon = true,
                         .balloon_bytes = UINT64_MAX,
                         .has_read = true,
                         .read_bytes = UINT64_MAX,
                         .has_written = true,
                         .written_bytes = UINT64_MAX};
  struct blx__usage back = {.has_cpu = true, .cpu_us = 5};
  ck_assert(blx__counters_write(&u, text));
  blx__counters_take(&back, text);
  ck_assert(back.has_balloon && back.has_read && back.has_written && back.balloon_bytes == UINT64_MAX);
  ck_assert(back.read_bytes == UINT64_MAX && back.written_bytes == UINT64_MAX && back.has_cpu && back.cpu_us == 5);
  u.has_balloon = u.has_written = false;
  u.read_bytes = 0;
  ck_assert(blx__counters_write(&u, text));
  ck_assert_str_eq(text, "read=0");
  blx__counters_take(&back, text);
  ck_assert(!back.has_balloon && back.has_read && back.read_bytes == 0 && !back.has_written);
  u.has_read = false;
  ck_assert(blx__counters_write(&u, text));
  ck_assert_str_eq(text, "");
  static const char *const bad[] = {
      "", "read", "read=", "read=x", "read=1x", "read=-1", "read=99999999999999999999", "xread=1", "read 1"};
  for (unsigned i = 0; i < BLX__COUNT(bad); i++) {
    blx__counters_take(&back, bad[i]);
    ck_assert_msg(!back.has_read, "%s", bad[i]);
  }
}
END_TEST

START_TEST(counters__of_a_guest__are_known_all_together_or_not_at_all) {
  char text[BLX__COUNTERS_TEXT_MAX];
  struct blx__usage u = {.has_balloon = true,
                         .balloon_bytes = UINT64_MAX,
                         .has_read = true,
                         .read_bytes = UINT64_MAX,
                         .has_written = true,
                         .written_bytes = UINT64_MAX,
                         .has_guest = true,
                         .guest_memory_bytes = UINT64_MAX,
                         .guest_available_bytes = UINT64_MAX - 1,
                         .guest_uptime_ms = UINT64_MAX,
                         .guest_load_milli = UINT32_MAX,
                         .guest_processes = UINT32_MAX};
  struct blx__usage back = {0}, copy = {.has_cpu = true};
  ck_assert(blx__counters_write(&u, text)); /* the longest there is */
  blx__counters_take(&back, text);
  blx__counters_copy(&copy, &back);
  ck_assert(copy.has_cpu && copy.has_guest && copy.guest_memory_bytes == UINT64_MAX && copy.guest_load_milli > 0);
  ck_assert(copy.guest_available_bytes == UINT64_MAX - 1 && copy.guest_processes == UINT32_MAX && copy.has_written);
  static const char *const partial[] = {
      "guest_memory=1 guest_available=1 guest_uptime=1 guest_load=1",
      "guest_available=1 guest_uptime=1 guest_load=1 guest_processes=1",
      "guest_memory=1 guest_available=1 guest_uptime=1 guest_load=4294967296 guest_processes=1",
      "guest_memory=1 guest_available=x guest_uptime=1 guest_load=1 guest_processes=1",
  };
  for (unsigned i = 0; i < BLX__COUNT(partial); i++) {
    blx__counters_take(&back, partial[i]);
    ck_assert_msg(!back.has_guest, "%s", partial[i]);
  }
  blx__counters_take(&back, "guest_load=4 guest_memory=1 later=9 guest_available=1 guest_uptime=1 guest_processes=2");
  ck_assert(back.has_guest && back.guest_load_milli == 4 && back.guest_processes == 2 && !back.has_read);
}
END_TEST

BLX_TEST_MAIN("measure/usage", numbers__that_are_none_or_too_large__are_refused, lines__are_found_by_their_whole_key,
              stat_of_a_process__is_read_behind_a_name_that_holds_anything,
              cgroups_of_both_versions__give_processor_and_memory, process_without_a_cgroup__is_read_off_proc,
              counters__come_back_as_they_were_told__and_garbage_is_absent,
              counters__of_a_guest__are_known_all_together_or_not_at_all)
