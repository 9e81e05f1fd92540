#include "../harness.h"

#include "base/digest.h"
#include "base/map.h"

#include <string.h>

START_TEST(iteration__is_in_key_order_and_complete) {
  struct blx__map m = {0};
  static char value[1];
  for (uint64_t i = 0; i < 1000; i++) ck_assert(blx__map_set_u64(&m, blx__mix64(i), value, NULL));
  ck_assert_uint_eq(m.count, 1000);
  size_t seen = 0;
  uint8_t last[8] = {0};
  BLX__MAP_FOREACH(pos, &m) {
    size_t n = 0;
    const void *key = blx__map_key(pos, &n);
    ck_assert_uint_eq(n, 8);
    if (seen++) ck_assert_int_lt(memcmp(last, key, 8), 0);
    memcpy(last, key, 8);
  }
  ck_assert_uint_eq(seen, 1000);
  blx__map_clear(&m);
}
END_TEST

START_TEST(set_and_remove__agree_with_a_plain_array) {
  struct blx__map m = {0};
  enum { KEYS = 64 };
  static char values[KEYS];
  bool present[KEYS] = {false};
  uint64_t r = 7;
  for (int step = 0; step < 20000; step++) {
    r = blx__mix64(r);
    size_t k = r % KEYS;
    if (r >> 40 & 1) {
      void *old = NULL;
      ck_assert(blx__map_set_u64(&m, k, &values[k], &old));
      ck_assert_ptr_eq(old, present[k] ? &values[k] : NULL);
      present[k] = true;
    } else {
      ck_assert_ptr_eq(blx__map_remove_u64(&m, k), present[k] ? &values[k] : NULL);
      present[k] = false;
    }
    ck_assert_ptr_eq(blx__map_get_u64(&m, k), present[k] ? &values[k] : NULL);
  }
  size_t n = 0;
  for (size_t k = 0; k < KEYS; k++) n += present[k];
  ck_assert_uint_eq(m.count, n);
  blx__map_clear(&m);
}
END_TEST

START_TEST(seek__finds_the_first_key_not_below) {
  struct blx__map m = {0};
  static char a, b;
  ck_assert(blx__map_set_str(&m, "apple", &a, NULL));
  ck_assert(blx__map_set_str(&m, "pear", &b, NULL));
  ck_assert_ptr_eq(blx__map_value(blx__map_seek(&m, "b", 1)), &b);
  ck_assert_ptr_eq(blx__map_value(blx__map_seek(&m, "apple", 5)), &a);
  ck_assert_ptr_null(blx__map_seek(&m, "q", 1).node);
  blx__map_clear(&m);
}
END_TEST

BLX_TEST_MAIN("base/map", iteration__is_in_key_order_and_complete, set_and_remove__agree_with_a_plain_array,
              seek__finds_the_first_key_not_below)
