#include "../harness.h"

#include "base/digest.h"
#include "base/map.h"

#include <stdio.h>
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

/* Beginnings that many keys share, and that some do not; the numbers behind them make up the rest. */
static size_t make_key(char out[40], unsigned n) {
  static const char *const beginnings[] = {"default", "default-2", "default0", "defaults", "other", "d", "defaul", ""};
  return (size_t)snprintf(out, 40, "%s/many-%06u", beginnings[n / 4096], n % 4096 * 7919 % 4096);
}

static void check_order(const struct blx__map *m, const bool *present, const char *values) {
  char last[40] = "";
  size_t seen = 0;
  BLX__MAP_FOREACH(pos, m) {
    size_t n = 0;
    char key[40] = "", next[40] = "";
    const void *bytes = blx__map_key(pos, &n);
    ck_assert_uint_lt(n, sizeof key);
    memcpy(key, bytes, n);
    ck_assert_int_lt(strcmp(last, key), 0);
    memcpy(last, key, sizeof last);
    size_t which = (size_t)((const char *)blx__map_value(pos) - values);
    ck_assert(present[which]);
    ck_assert_uint_eq(make_key(next, (unsigned)which), n);
    ck_assert_str_eq(next, key);
    ck_assert_ptr_eq(blx__map_value(blx__map_seek(m, key, n)), blx__map_value(pos));
    seen++;
  }
  ck_assert_uint_eq(seen, m->count);
}

/* Grows to thousands, shrinks to none, and again, from other beginnings on. */
START_TEST(long_keys__come_and_go_by_the_thousand) {
  enum { KEYS = 8 * 4096 };
  static char values[KEYS];
  static bool present[KEYS];
  struct blx__map m = {0};
  uint64_t r = 11;
  size_t count = 0;
  for (unsigned phase = 0; phase < 12; phase++) {
    unsigned from = phase * 5 % 8 * 4096, range = phase < 4 ? 4096 : KEYS - from;
    for (unsigned step = 0; step < 12000; step++) {
      char key[40];
      r = blx__mix64(r);
      unsigned k = from + (unsigned)(r % range);
      size_t n = make_key(key, k);
      bool grows = (r >> 40) % 10 < (phase % 2 ? 1u : 8u);
      ck_assert_ptr_eq(blx__map_get(&m, key, n), present[k] ? &values[k] : NULL);
      if (grows)
        ck_assert(blx__map_set(&m, key, n, &values[k], NULL));
      else
        ck_assert_ptr_eq(blx__map_remove(&m, key, n), present[k] ? &values[k] : NULL);
      count = count + (grows && !present[k]) - (!grows && present[k]);
      present[k] = grows;
      ck_assert_uint_eq(m.count, count);
    }
    check_order(&m, present, values);
    for (unsigned k = 0; k < KEYS && phase % 4 == 3; k++) { /* to the last */
      char key[40];
      size_t n = make_key(key, k);
      ck_assert_ptr_eq(blx__map_remove(&m, key, n), present[k] ? &values[k] : NULL);
      count -= present[k];
      present[k] = false;
    }
    ck_assert_uint_eq(m.count, count);
    if (count == 0) ck_assert_ptr_null(blx__map_seek(&m, NULL, 0).node);
  }
  blx__map_clear(&m);
}
END_TEST

/* In a map whose keys all begin alike: what is below, above, as long as, or shorter than what they share. */
START_TEST(seek__of_a_key_that_begins_otherwise_is_before_or_behind_all) {
  struct blx__map m = {0};
  static char values[100];
  for (int i = 0; i < 100; i++) {
    char key[40];
    size_t n = (size_t)snprintf(key, sizeof key, "tenant/some-name-%02d", i);
    ck_assert(blx__map_set(&m, key, n, &values[i], NULL));
  }
  static const char *const below[] = {"a", "tenant", "tenant/some-name-", "tenant/some-mane-5", "tenant/some-name-00"};
  for (size_t i = 0; i < BLX__COUNT(below); i++)
    ck_assert_ptr_eq(blx__map_value(blx__map_seek(&m, below[i], strlen(below[i]))), &values[0]);
  static const char *const above[] = {"u", "tenant0", "tenant/some-name-99x", "tenant/some-name-A",
                                      "tenant/tome-name-00"};
  for (size_t i = 0; i < BLX__COUNT(above); i++) ck_assert_ptr_null(blx__map_seek(&m, above[i], strlen(above[i])).node);
  ck_assert_ptr_eq(blx__map_value(blx__map_seek(&m, "tenant/some-name-41x", 20)), &values[42]);
  ck_assert_ptr_null(blx__map_get_str(&m, "tenant/some-name-"));
  ck_assert_ptr_null(blx__map_get_str(&m, ""));
  blx__map_clear(&m);
}
END_TEST

BLX_TEST_MAIN("base/map", long_keys__come_and_go_by_the_thousand,
              seek__of_a_key_that_begins_otherwise_is_before_or_behind_all,
              keys_that_begin_alike__are_in_the_order_of_their_bytes_and_lengths,
              iteration__is_in_key_order_and_complete, set_and_remove__agree_with_a_plain_array,
              seek__finds_the_first_key_not_below)
