#include "../harness.h"
#include "schema/jsonval.h"

#include <string.h>

static struct blx__slice slice_of(const char *text) {
  return (struct blx__slice){(const uint8_t *)text, strlen(text)};
}

START_TEST(values__are_found_by_key_path_and_index) {
  struct blx__jsonval *v = NULL;
  int64_t i = 0;
  double d = 0;
  bool b = false;
  ck_assert_int_eq(blx__jsonval_parse(slice_of("{\"return\":{\"status\":\"running\",\"n\":-3,\"ok\":true,\"r\":1.5,"
                                               "\"list\":[1,null]},\"a\":[]}"),
                                      &v, NULL)
                       .code,
                   0);
  ck_assert_str_eq(blx__jsonval_str(blx__jsonval_path(v, "return.status")), "running");
  ck_assert(blx__jsonval_int(blx__jsonval_path(v, "return.n"), &i) && i == -3);
  ck_assert(blx__jsonval_bool(blx__jsonval_path(v, "return.ok"), &b) && b);
  ck_assert(blx__jsonval_real(blx__jsonval_path(v, "return.r"), &d) && d > 1.4 && d < 1.6);
  const struct blx__jsonval *list = blx__jsonval_path(v, "return.list");
  ck_assert(blx__jsonval_is_array(list) && blx__jsonval_len(list) == 2);
  ck_assert(blx__jsonval_int(blx__jsonval_at(list, 0), &i) && i == 1);
  ck_assert(blx__jsonval_is_null(blx__jsonval_at(list, 1)));
  ck_assert_ptr_null(blx__jsonval_at(list, 2));
  ck_assert(blx__jsonval_is_object(v) && blx__jsonval_len(v) == 2);
  blx__jsonval_free(v);
}
END_TEST

START_TEST(readers__of_what_is_not_there__answer_nothing) {
  struct blx__jsonval *v = NULL;
  int64_t i = 7;
  bool b = true;
  ck_assert_int_eq(blx__jsonval_parse(slice_of("\"text\""), &v, NULL).code, 0);
  ck_assert_str_eq(blx__jsonval_str(v), "text");
  ck_assert_ptr_null(blx__jsonval_get(v, "a"));
  ck_assert_ptr_null(blx__jsonval_path(v, "a.b"));
  ck_assert_ptr_null(blx__jsonval_str(blx__jsonval_get(NULL, "a")));
  ck_assert(!blx__jsonval_int(v, &i) && i == 7);
  ck_assert(!blx__jsonval_bool(NULL, &b) && b);
  ck_assert_uint_eq(blx__jsonval_len(v), 0);
  ck_assert_uint_eq(blx__jsonval_len(NULL), 0);
  ck_assert_ptr_null(blx__jsonval_at(NULL, 0));
  blx__jsonval_free(v);
  blx__jsonval_free(NULL);
}
END_TEST

START_TEST(parse__of_garbage__is_refused_without_its_control_characters) {
  static const char *const texts[] = {"", "{", "{\"a\":1,\"a\":2}", "\x1b[31m", "nul", "{} {}", "'a'"};
  for (size_t k = 0; k < BLX__COUNT(texts); k++) {
    struct blx__jsonval *v = NULL;
    blx_error err;
    ck_assert_int_eq(blx__jsonval_parse(slice_of(texts[k]), &v, &err).code, BLX_E_INVALID);
    ck_assert_ptr_null(v);
    for (const char *s = err.message; *s; s++) ck_assert(*s >= 0x20 && *s < 0x7f);
  }
}
END_TEST

START_TEST(writer__places_commas_and_escapes) {
  struct blx__buf out;
  struct blx__jsonw w;
  blx__buf_init(&out, 4096);
  blx__jsonw_init(&w, &out, false);
  blx__jsonw_object(&w);
  blx__jsonw_key(&w, "execute");
  blx__jsonw_str(&w, "a\"b\\\x01\x7f\t");
  blx__jsonw_key(&w, "list");
  blx__jsonw_array(&w);
  blx__jsonw_i64(&w, INT64_MIN);
  blx__jsonw_u64(&w, UINT64_MAX);
  blx__jsonw_bool(&w, false);
  blx__jsonw_null(&w);
  blx__jsonw_object(&w);
  blx__jsonw_close(&w);
  blx__jsonw_close(&w);
  ck_assert(!blx__jsonw_end(&w));
  blx__jsonw_close(&w);
  ck_assert(blx__jsonw_end(&w));
  ck_assert_str_eq(blx__buf_cstr(&out), "{\"execute\":\"a\\\"b\\\\\\u0001\\u007f\\t\",\"list\":[-9223372036854775808,"
                                        "18446744073709551615,false,null,{}]}");
  blx__buf_free(&out);
}
END_TEST

START_TEST(writer__that_runs_out_of_room_or_text__says_so_at_its_end) {
  struct blx__buf out;
  struct blx__jsonw w;
  blx__buf_init(&out, 8);
  blx__jsonw_init(&w, &out, true);
  blx__jsonw_array(&w);
  for (int i = 0; i < 10; i++) blx__jsonw_str(&w, "text");
  blx__jsonw_close(&w);
  ck_assert(!blx__jsonw_end(&w));
  blx__buf_clear(&out);
  blx__jsonw_init(&w, &out, false);
  blx__jsonw_str(&w, "\xff");
  ck_assert(!blx__jsonw_end(&w));
  blx__buf_clear(&out);
  ck_assert_int_eq(blx__json_str(&out, "toolong").code, BLX_E_NOMEM);
  ck_assert_uint_eq(out.len, 0);
  ck_assert_int_eq(blx__json_str(&out, "\xff").code, BLX_E_INVALID);
  ck_assert_int_eq(blx__json_str(&out, NULL).code, 0);
  ck_assert_str_eq(blx__buf_cstr(&out), "\"\"");
  blx__buf_free(&out);
}
END_TEST

BLX_TEST_MAIN("jsonval", values__are_found_by_key_path_and_index, readers__of_what_is_not_there__answer_nothing,
              parse__of_garbage__is_refused_without_its_control_characters, writer__places_commas_and_escapes,
              writer__that_runs_out_of_room_or_text__says_so_at_its_end)
