/* The tables as programs read them at run time. */
#include "../harness.h"

#include "schema/json.h"
#include "schema/jsonval.h"

#include <string.h>

static struct blx__jsonval *describe(const char *name) {
  struct blx__buf out;
  struct blx__jsonval *root = NULL;
  blx_error err = {0};
  blx__buf_init(&out, 4 << 20);
  ck_assert_msg(blx__json_describe(name, &out, &err).code == 0, "%s", err.message);
  ck_assert_msg(blx__jsonval_parse((struct blx__slice){out.data, out.len}, &root, &err).code == 0, "%s", err.message);
  blx__buf_free(&out);
  return root;
}

static const char *described(const char *name, char *out, size_t size) {
  struct blx__buf b;
  blx__buf_init(&b, 4 << 20);
  ck_assert_int_eq(blx__json_describe(name, &b, NULL).code, 0);
  ck_assert(blx__str_copy(out, size, blx__buf_cstr(&b)));
  blx__buf_free(&b);
  return out;
}

START_TEST(a_message__is_told_with_the_range_default_unit_and_doc_of_each_field) {
  char text[16384];
  blx__jsonval_free(describe("vm_spec"));
  described("vm_spec", text, sizeof text);
  const char *memory = strstr(text, "\"memory_mib\"");
  ck_assert_ptr_nonnull(memory);
  ck_assert_ptr_nonnull(strstr(memory, "32"));
  ck_assert_ptr_nonnull(strstr(memory, "1048576"));
  ck_assert_ptr_nonnull(strstr(memory, "MiB"));
  ck_assert_ptr_nonnull(strstr(text, "VMs that must run before it starts"));
}
END_TEST

START_TEST(an_enum__is_told_with_its_labels) {
  char text[8192];
  blx__jsonval_free(describe("phase"));
  described("phase", text, sizeof text);
  ck_assert_ptr_nonnull(strstr(text, "Unreachable"));
}
END_TEST

START_TEST(without_a_name__all_public_names_are_told_and_no_internal_one) {
  char text[65536];
  blx__jsonval_free(describe(NULL));
  described(NULL, text, sizeof text);
  ck_assert_ptr_nonnull(strstr(text, "vm_spec"));
  ck_assert_ptr_nonnull(strstr(text, "phase"));
  ck_assert_ptr_null(strstr(text, "op_assign"));
}
END_TEST

START_TEST(what_is_not_public__is_not_found_and_a_full_buffer_is_told) {
  struct blx__buf out;
  blx_error err = {0};
  blx__buf_init(&out, 4096);
  ck_assert_int_eq(blx__json_describe("op_assign", &out, &err).code, BLX_E_NOT_FOUND);
  blx__buf_free(&out);
  blx__buf_init(&out, 16);
  ck_assert_int_ne(blx__json_describe("vm_spec", &out, &err).code, 0);
  blx__buf_free(&out);
}
END_TEST

BLX_TEST_MAIN("schema/describe", a_message__is_told_with_the_range_default_unit_and_doc_of_each_field,
              an_enum__is_told_with_its_labels, without_a_name__all_public_names_are_told_and_no_internal_one,
              what_is_not_public__is_not_found_and_a_full_buffer_is_told)
