/* The promise that the settings keep together, and the times that follow from them. */
#include "../harness.h"

#include "lease/lease.h"

#include <string.h>

START_TEST(the_defaults__are_those_of_the_schema_and_keep_the_promise) {
  struct blx_lease_settings s = blx__lease_defaults();
  blx_error err;
  ck_assert_int_eq(blx__lease_check(&s, &err).code, 0);
  ck_assert_uint_eq(blx__lease_t_safe_ms(&s, 0), 33150);
  ck_assert_uint_eq(blx__lease_t_safe_ms(&s, 80000), 93450);
  ck_assert_uint_eq(blx__lease_pause_ms(&s, 0), 15000);
  ck_assert_uint_eq(blx__lease_kill_ms(&s, 0), 18000);
  ck_assert_uint_eq(blx__lease_kill_ms(&s, 80000), 78000);
}
END_TEST

START_TEST(scaled__keep_the_promise_at_every_length) {
  for (uint32_t ms = 2000; ms <= 400000; ms += 37) {
    struct blx_lease_settings s = blx__lease_scaled(ms);
    blx_error err = {0};
    ck_assert_msg(blx__lease_check(&s, &err).code == 0, "%u: %s", ms, err.message);
  }
  struct blx_lease_settings fast = blx__lease_scaled(2000);
  ck_assert_uint_eq(fast.renew_ms, 300);
  ck_assert_uint_eq(blx__lease_t_safe_ms(&fast, 0), 3315);
}
END_TEST

/* In this order for every node: it asks, is suspect, is paused, killed, its lease ends, it is fenced, it is safe. */
START_TEST(its_times__come_in_order) {
  for (uint32_t ms = 2000; ms <= 400000; ms += 997) {
    struct blx_lease_settings s = blx__lease_scaled(ms);
    ck_assert_uint_lt(s.renew_ms, s.suspect_ms);
    ck_assert_uint_lt(s.suspect_ms, blx__lease_pause_ms(&s, 0));
    ck_assert_uint_lt(blx__lease_pause_ms(&s, 0), blx__lease_kill_ms(&s, 0));
    ck_assert_uint_lt(blx__lease_kill_ms(&s, 0), s.lease_ms);
    ck_assert_uint_lt(s.lease_ms, blx__lease_fence_ms(&s));
    ck_assert_uint_lt(blx__lease_fence_ms(&s), blx__lease_t_safe_ms(&s, 0));
  }
}
END_TEST

static void refused(struct blx_lease_settings s, const char *word) {
  blx_error err = {0};
  ck_assert_int_eq(blx__lease_check(&s, &err).code, BLX_E_INVALID);
  ck_assert_msg(strstr(err.message, word) != NULL, "%s", err.message);
}

START_TEST(a_contradiction__is_refused_with_both_numbers) {
  struct blx_lease_settings s = blx__lease_defaults();
  s.renew_ms = 5001;
  refused(s, "three times renew_ms (5001)");
  s = blx__lease_defaults();
  s.kill_ms = 20000;
  refused(s, "lease_ms less kill_ms (20000 - 20000)");
  s = blx__lease_defaults();
  s.kill_ms = 499;
  refused(s, "kill_ms: 499 is below 500");
  s = blx__lease_defaults();
  s.suspect_ms = 5999;
  refused(s, "suspect_ms: 5999");
  s = blx__lease_defaults();
  s.suspect_ms = 20001;
  refused(s, "suspect_ms: 20001");
  s = blx__lease_defaults();
  s.rate_ppm = 99;
  refused(s, "rate_ppm");
}
END_TEST

BLX_TEST_MAIN("lease/lease", the_defaults__are_those_of_the_schema_and_keep_the_promise,
              scaled__keep_the_promise_at_every_length, its_times__come_in_order,
              a_contradiction__is_refused_with_both_numbers)
