/* How busy a machine is, of texts as /proc has them. */
#include "../harness.h"

#include "measure/load.h"

START_TEST(processors__are_busy_as_much_as_since_the_look_before) {
  struct blx__load l = {0};
  blx__load_take_stat(&l, "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n");
  ck_assert(!l.has_cpu); /* nothing to compare with */
  blx__load_take_stat(&l, "cpu  130 0 120 730 120 0 0 0 50 0\n");
  ck_assert(l.has_cpu);
  ck_assert_uint_eq(l.cpu_permille, 500); /* 50 of 100 ticks */
  blx__load_take_stat(&l, "cpu  130 0 120 830 120 0 0 0 50 0\n");
  ck_assert_uint_eq(l.cpu_permille, 0);
}
END_TEST

START_TEST(processors__that_tell_nothing_new_or_nothing_at_all__are_not_known) {
  static const char *const texts[] = {
      "", "cpu ", "cpu  1 2 3", "cpux 1 2 3 4 5 6 7 8", "cpu  1 2 3 4 x 6 7 8", "cpu  100 0 100 700 100 0 0 0"};
  for (unsigned i = 0; i < BLX__COUNT(texts); i++) {
    struct blx__load l = {0};
    blx__load_take_stat(&l, "cpu  100 0 100 700 100 0 0 0\n");
    blx__load_take_stat(&l, texts[i]);
    ck_assert_msg(!l.has_cpu, "%s", texts[i]);
  }
}
END_TEST

START_TEST(memory__in_use_is_what_is_not_available) {
  struct blx__load l = {0};
  blx__load_take_meminfo(&l, "MemTotal:       16384000 kB\nMemFree:  100 kB\nMemAvailable:    8192000 kB\n");
  ck_assert(l.has_memory);
  ck_assert_uint_eq(l.memory_mib, 8000);
  blx__load_take_meminfo(&l, "MemTotal:       16384000 kB\n");
  ck_assert(!l.has_memory);
  blx__load_take_meminfo(&l, "MemTotal: 10 kB\nMemAvailable: 11 kB\n");
  ck_assert(!l.has_memory);
}
END_TEST

START_TEST(this_machine__tells_what_it_has_in_use) {
  struct blx__load l = {0};
  blx__load_read(&l);
  ck_assert(l.has_memory && l.total > 0);
  ck_assert_uint_gt(l.memory_mib, 0);
}
END_TEST

BLX_TEST_MAIN("measure/load", processors__are_busy_as_much_as_since_the_look_before,
              processors__that_tell_nothing_new_or_nothing_at_all__are_not_known,
              memory__in_use_is_what_is_not_available, this_machine__tells_what_it_has_in_use)
