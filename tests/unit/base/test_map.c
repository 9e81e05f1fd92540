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

/* Keys of zeros and ones, of all lengths up to twelve: one may be another's beginning, filled up with zeros or not. */
START_TEST(keys_that_begin_alike__are_in_the_order_of_their_bytes_and_lengths) {
  struct blx__map m = {0};
  static char value[1];
  uint64_t r = 3;
  size_t distinct = 0;
  for (unsigned i = 0; i < 4000; i++) {
    uint8_t key[12];
    r = blx__mix64(r);
    size_t n = 1 + r % sizeof key;
    for (size_t k = 0; k < n; k++) key[k] = r >> (k + 8) & 1;
    distinct += blx__map_get(&m, key, n) == NULL;
    ck_assert(blx__map_set(&m, key, n, value, NULL));
    ck_assert_ptr_eq(blx__map_get(&m, key, n), value);
  }
  ck_assert_uint_eq(m.count, distinct);
  uint8_t last[12] = {0};
  size_t last_n = 0, seen = 0;
  BLX__MAP_FOREACH(pos, &m) {
    size_t n = 0;
    const uint8_t *key = blx__map_key(pos, &n);
    int c = memcmp(last, key, last_n < n ? last_n : n);
    ck_assert(c < 0 || (c == 0 && last_n < n));
    memcpy(last, key, n);
    last_n = n;
    seen++;
  }
  ck_assert_uint_eq(seen, distinct);
  blx__map_clear(&m);
}
END_TEST

BLX_TEST_MAIN("base/map", keys_that_begin_alike__are_in_the_order_of_their_bytes_and_lengths,
              iteration__is_in_key_order_and_complete, set_and_remove__agree_with_a_plain_array,
              seek__finds_the_first_key_not_below)
