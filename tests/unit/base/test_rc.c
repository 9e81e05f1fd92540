#include "../harness.h"

#include "base/arena.h"
#include "base/buf.h"

#include <string.h>

START_TEST(fail__cuts_a_long_message_at_a_character) {
  char text[700];
  memset(text, 'a', sizeof text);
  for (size_t i = 0; i + 1 < sizeof text; i += 2) memcpy(text + i, "\xc3\xa9", 2);
  text[sizeof text - 1] = '\0';
  blx_error err;
  blx__rc rc = blx__fail(&err, BLX_E_INVALID, "test", "x%s", text);
  ck_assert_int_eq(rc.code, BLX_E_INVALID);
  ck_assert_uint_le(strlen(err.message), sizeof err.message - 1);
  ck_assert(blx__utf8_ok(err.message, strlen(err.message)));
}
END_TEST

START_TEST(fail__quotes_bytes_of_any_kind_as_text) {
  static const char *const bad[] = {"\xff",    "a\xc3", "\xe2\x82", "\xed\xa0\x80", "\xc0\xaf", "\xf5\x80\x80\x80",
                                    "\x80\x80"};
  for (size_t i = 0; i < BLX__COUNT(bad); i++) {
    blx_error err;
    ck_assert_int_eq(blx__fail(&err, BLX_E_INVALID, "test", "it is \"%s\", \xc3\xa9", bad[i]).code, BLX_E_INVALID);
    ck_assert_msg(blx__utf8_ok(err.message, strlen(err.message)), "%zu: %s", i, err.message);
    ck_assert_str_eq(err.message + strlen(err.message) - 4, ", \xc3\xa9");
  }
  /* A precision cuts bytes, not characters. */
  blx_error err;
  ck_assert_int_eq(blx__fail(&err, BLX_E_INVALID, "test", "%.3s|", "\xc3\xa9\xc3\xa9").code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, "\xc3\xa9?|");
}
END_TEST

START_TEST(texts__that_are_cut_end_with_a_whole_character) {
  static const char euros[] = "\xe2\x82\xac\xe2\x82\xac\xf0\x9f\x98\x80";
  for (size_t size = 1; size <= sizeof euros; size++) {
    char copied[16], formatted[16];
    bool fits = size == sizeof euros;
    ck_assert(blx__str_copy(copied, size, euros) == fits);
    ck_assert(blx__str_format(formatted, size, "%s", euros) == fits);
    ck_assert(blx__utf8_ok(copied, strlen(copied)));
    ck_assert_str_eq(copied, formatted);
    ck_assert_uint_eq(strlen(copied), size > 10 ? 10 : size > 6 ? 6 : size > 3 ? 3 : 0);
  }
}
END_TEST

START_TEST(names__outside_the_pattern_are_refused) {
  static const char *const bad[] = {"", "-rf", "a-", "../x", "A", "a b", "a\n", "\xf0\x9f\x98\x80", "a_b"};
  for (size_t i = 0; i < BLX__COUNT(bad); i++) ck_assert_msg(!blx__name_ok(bad[i], 56), "%s", bad[i]);
  char longest[80];
  memset(longest, 'a', sizeof longest);
  longest[57] = '\0';
  ck_assert(!blx__name_ok(longest, 56));
  longest[56] = '\0';
  ck_assert(blx__name_ok(longest, 56));
  ck_assert(blx__name_ok("web-1", 56));
}
END_TEST

START_TEST(numbers__that_are_not_wholly_decimal_or_in_range_are_refused) {
  static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1e9", "0x10", "512 MB", "18446744073709551616", "NaN"};
  uint64_t v = 42;
  for (size_t i = 0; i < BLX__COUNT(bad); i++) ck_assert_msg(!blx__parse_u64(bad[i], 0, UINT64_MAX, &v), "%s", bad[i]);
  ck_assert_uint_eq(v, 42);
  ck_assert(blx__parse_u64("18446744073709551615", 0, UINT64_MAX, &v));
  ck_assert_uint_eq(v, UINT64_MAX);
}
END_TEST

START_TEST(buffers__never_pass_their_maximum) {
  struct blx__buf b;
  blx__buf_init(&b, 10);
  ck_assert(blx__buf_add_str(&b, "12345678"));
  ck_assert(!blx__buf_add_str(&b, "abc"));
  ck_assert(!blx__buf_addf(&b, "%d", 123));
  ck_assert(blx__buf_addf(&b, "%d", 12));
  ck_assert_str_eq(blx__buf_cstr(&b), "1234567812");
  blx__buf_consume(&b, 8);
  ck_assert_str_eq(blx__buf_cstr(&b), "12");
  blx__buf_free(&b);
}
END_TEST

START_TEST(arenas__stop_at_their_limit_and_grow_in_place) {
  struct blx__arena a = {.limit_bytes = 8192};
  char *p = blx__arena_alloc(&a, 100);
  memset(p, 'x', 100);
  ck_assert_ptr_eq(blx__arena_grow(&a, p, 100, 200), p);
  ck_assert_ptr_null(blx__arena_alloc(&a, 8192));
  ck_assert_ptr_null(blx__arena_alloc(&a, SIZE_MAX));
  ck_assert_ptr_nonnull(blx__arena_alloc(&a, 4000));
  blx__arena_free(&a);
}
END_TEST

BLX_TEST_MAIN("base/rc", fail__cuts_a_long_message_at_a_character, fail__quotes_bytes_of_any_kind_as_text,
              texts__that_are_cut_end_with_a_whole_character, names__outside_the_pattern_are_refused,
              numbers__that_are_not_wholly_decimal_or_in_range_are_refused, buffers__never_pass_their_maximum,
              arenas__stop_at_their_limit_and_grow_in_place)
