#include "../harness.h"
#include "schema/validate.h"

#include <string.h>

static struct blx_vm_spec good_spec(void) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  spec.name = "web";
  spec.vcpus = 1;
  spec.memory_mib = 128;
  spec.stop_timeout_ms = 30000;
  return spec;
}

static void refused(const struct blx_vm_spec *spec, const char *says) {
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  blx_error err = {0};
  request.spec = (struct blx_vm_spec *)(uintptr_t)spec;
  ck_assert_int_eq(blx__msg_validate(blx__desc_vm_create_request(), &request, &err).code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, says);
  ck_assert_int_eq(err.code, BLX_E_INVALID);
}

START_TEST(defaults__fill_what_is_zero_empty_or_absent_and_nothing_else) {
  struct blx__arena arena = {.limit_bytes = 4096};
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  request.spec = &spec;
  spec.vcpus = 7;
  ck_assert_int_eq(blx__msg_defaults(blx__desc_vm_create_request(), &arena, &request, NULL).code, 0);
  ck_assert_str_eq(request.tenant, "default");
  ck_assert_uint_eq(spec.vcpus, 7);
  ck_assert_uint_eq(spec.memory_mib, 128);
  ck_assert_uint_eq(spec.has_replicas, 1);
  ck_assert_uint_eq(spec.replicas, 1);
  ck_assert_ptr_null(spec.name);
  spec.replicas = 0;
  request.tenant = "mine";
  ck_assert_int_eq(blx__msg_defaults(blx__desc_vm_create_request(), &arena, &request, NULL).code, 0);
  ck_assert_uint_eq(spec.replicas, 0);
  ck_assert_str_eq(request.tenant, "mine");
  spec.struct_size -= 8;
  ck_assert_int_eq(blx__msg_defaults(blx__desc_vm_create_request(), &arena, &request, NULL).code, BLX_E_MISUSE);
  blx__arena_free(&arena);
}
END_TEST

START_TEST(numbers__outside_their_limits__are_refused_with_path_bound_and_unit) {
  struct blx_vm_spec spec = good_spec();
  ck_assert_int_eq(blx__msg_validate(blx__desc_vm_spec(), &spec, NULL).code, 0);
  spec.memory_mib = 16;
  refused(&spec, "spec.memory_mib: 16 is below 32 (MiB)");
  spec.memory_mib = 1048577;
  refused(&spec, "spec.memory_mib: 1048577 is above 1048576 (MiB)");
  spec.memory_mib = 32;
  spec.vcpus = 0;
  refused(&spec, "spec.vcpus: 0 is below 1");
  spec.vcpus = 513;
  refused(&spec, "spec.vcpus: 513 is above 512");
  spec.vcpus = 512;
  spec.stop_timeout_ms = 999;
  refused(&spec, "spec.stop_timeout_ms: 999 is below 1000 (ms)");
  spec.stop_timeout_ms = 1000;
  spec.replicas = 5000;
  ck_assert_int_eq(blx__msg_validate(blx__desc_vm_spec(), &spec, NULL).code, 0);
  spec.has_replicas = 1;
  refused(&spec, "spec.replicas: 5000 is above 1000");
  spec.has_replicas = 0;
  spec.hypervisor = 9;
  refused(&spec, "spec.hypervisor: 9 is none of qemu, cloud_hypervisor, firecracker, crosvm, kvmtool, stratovirt");
}
END_TEST

START_TEST(names__that_are_hostile__are_refused_with_the_pattern_and_escaped) {
  static const struct {
    const char *name, *says;
  } cases[] = {
      {"", "spec.name: is required"},
      {NULL, "spec.name: is required"},
      {"Web", "spec.name: \"Web\" does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 56 characters"},
      {"../x", "spec.name: \"../x\" does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 56 characters"},
      {"-rf", "spec.name: \"-rf\" does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 56 characters"},
      {"a\nb\"", "spec.name: \"a\\x0ab\\\"\" does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 56 characters"},
      {"\x1b[2J\xff",
       "spec.name: \"\\x1b[2J\\xff\" does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 56 characters"},
      {"\xf0\x9f\x98\x80",
       "spec.name: \"\xf0\x9f\x98\x80\" does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 56 characters"},
  };
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    struct blx_vm_spec spec = good_spec();
    spec.name = cases[i].name;
    refused(&spec, cases[i].says);
  }
}
END_TEST

START_TEST(a_name_of_300_characters__is_refused_in_one_short_sentence) {
  struct blx_vm_spec spec = good_spec();
  char name[301];
  blx_error err;
  memset(name, 'a', 300);
  name[300] = '\0';
  spec.name = name;
  ck_assert_int_eq(blx__msg_validate(blx__desc_vm_spec(), &spec, &err).code, BLX_E_INVALID);
  ck_assert_uint_lt(strlen(err.message), 200);
  ck_assert_ptr_nonnull(strstr(err.message, "at most 56 characters"));
  name[56] = '\0';
  ck_assert_int_eq(blx__msg_validate(blx__desc_vm_spec(), &spec, &err).code, 0);
}
END_TEST

START_TEST(lines_and_lists__are_checked_with_their_place) {
  struct blx_vm_spec spec = good_spec();
  struct blx_label ok = BLX_LABEL_INIT, bad = BLX_LABEL_INIT, *labels[] = {&ok, &ok, &bad};
  static char long_value[300];
  ok.key = "k";
  spec.labels = labels;
  spec.n_labels = 3;
  refused(&spec, "spec.labels[2].key: is required");
  bad.key = "key";
  bad.value = "two\nlines";
  refused(&spec, "spec.labels[2].value: \"two\\x0alines\" has a control character; one line of plain text is needed");
  bad.value = "c1 \xc2\x9b";
  refused(&spec, "spec.labels[2].value: \"c1 \\xc2\\x9b\" has a control character; one line of plain text is needed");
  bad.value = "half \xc3";
  refused(&spec, "spec.labels[2].value: \"half \\xc3\" is not UTF-8");
  memset(long_value, 'v', sizeof long_value - 1);
  bad.value = long_value;
  refused(&spec, "spec.labels[2].value: 299 bytes, more than the 253 allowed");
  labels[2] = NULL;
  refused(&spec, "spec.labels[2]: is NULL");
  spec.n_labels = 65;
  refused(&spec, "spec.labels: 65 elements, more than the 64 allowed");
  spec.labels = NULL;
  spec.n_labels = 1;
  refused(&spec, "spec.labels: is NULL and has 1 elements");
}
END_TEST

START_TEST(numbers_with_a_sign__take_their_whole_type_without_limits) {
  struct blx_instance instance = BLX_INSTANCE_INIT;
  instance.name = "web-1";
  instance.vm = "web";
  instance.has_exit_status = 1;
  instance.exit_status = -9;
  ck_assert_int_eq(blx__msg_validate(blx__desc_instance(), &instance, NULL).code, 0);
}
END_TEST

START_TEST(bytes__above_their_maximum__are_refused) {
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  static const uint8_t text[49153];
  blx_error err;
  spec.name = "web";
  spec.vcpus = 1;
  spec.memory_mib = 128;
  spec.stop_timeout_ms = 30000;
  request.spec = &spec;
  request.config = (struct blx_bytes){text, sizeof text};
  ck_assert_int_eq(blx__msg_validate(blx__desc_vm_create_request(), &request, &err).code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, "config: 49153 bytes, more than the 49152 allowed");
}
END_TEST

START_TEST(a_range__is_told_with_its_unit) {
  char out[96];
  ck_assert(blx__field_range(blx__desc_field(blx__desc_vm_spec(), "memory_mib"), out, sizeof out));
  ck_assert_str_eq(out, "a whole number from 32 to 1048576 (MiB)");
  ck_assert(blx__field_range(blx__desc_field(blx__desc_instance(), "exit_status"), out, sizeof out));
  ck_assert_str_eq(out, "a whole number from -2147483648 to 2147483647");
  ck_assert(blx__field_range(blx__desc_field(blx__desc_vm(), "uid"), out, sizeof out));
  ck_assert_str_eq(out, "a whole number from 0 to 18446744073709551615");
}
END_TEST

BLX_TEST_MAIN("validate", defaults__fill_what_is_zero_empty_or_absent_and_nothing_else,
              numbers__outside_their_limits__are_refused_with_path_bound_and_unit,
              names__that_are_hostile__are_refused_with_the_pattern_and_escaped,
              a_name_of_300_characters__is_refused_in_one_short_sentence, lines_and_lists__are_checked_with_their_place,
              numbers_with_a_sign__take_their_whole_type_without_limits, bytes__above_their_maximum__are_refused,
              a_range__is_told_with_its_unit)
