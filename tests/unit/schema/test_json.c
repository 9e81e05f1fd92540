#include "../harness.h"
#include "schema/json.h"
#include "support_random.h"

#include <string.h>

enum { ARENA_BYTES = 4 << 20, BUF_BYTES = 4 << 20 };

static struct blx__slice slice_of(const struct blx__buf *b) {
  return (struct blx__slice){b->data, b->len};
}

static void writes(const struct blx__msg_desc *desc, const void *msg, unsigned flags, const char *want) {
  struct blx__buf out;
  blx__buf_init(&out, BUF_BYTES);
  ck_assert_int_eq(blx__json_write(desc, msg, flags, &out, NULL).code, 0);
  ck_assert_str_eq(blx__buf_cstr(&out), want);
  blx__buf_free(&out);
}

/* The text is refused, within @limit bytes of arena, and the message begins so. */
static void refused(const struct blx__msg_desc *desc, const void *text, size_t n, const char *says) {
  struct blx__arena arena = {.limit_bytes = 65536};
  blx_error err = {0};
  void *out = NULL;
  blx__rc rc = blx__json_read(desc, &arena, (struct blx__slice){text, n}, &out, &err);
  ck_assert_msg(rc.code == BLX_E_INVALID, "%s", says);
  ck_assert_ptr_null(out);
  ck_assert_msg(strncmp(err.message, says, strlen(says)) == 0, "%s", err.message);
  blx__arena_free(&arena);
}

static void refused_text(const struct blx__msg_desc *desc, const char *text, const char *says) {
  refused(desc, text, strlen(text), says);
}

START_TEST(write__names_fields_as_the_tables_do_and_leaves_zeroes_out) {
  struct blx_label label = BLX_LABEL_INIT, *labels[] = {&label};
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  label.key = "k\"\n";
  spec.name = "web";
  spec.vcpus = 2;
  spec.has_replicas = 1;
  spec.labels = labels;
  spec.n_labels = 1;
  spec.strategy = BLX_STRATEGY_LOAD_BALANCED;
  spec.restart_policy = 77;
  spec.ready_none = 1;
  writes(blx__desc_vm_spec(), &spec, 0,
         "{\"name\":\"web\",\"vcpus\":2,\"replicas\":0,\"restart_policy\":77,\"labels\":[{\"key\":\"k\\\"\\n\"}],"
         "\"strategy\":\"LoadBalanced\",\"ready_none\":true}");
  spec.n_labels = 0;
  writes(blx__desc_label(), &label, BLX__JSON_PRETTY | BLX__JSON_DEFAULTS,
         "{\n  \"key\": \"k\\\"\\n\",\n  \"value\": \"\"\n}");
}
END_TEST

START_TEST(write__with_defaults__shows_zeroes_but_not_what_is_absent) {
  struct blx_node_info node = BLX_NODE_INFO_INIT;
  node.name = "n1";
  struct blx__buf out;
  blx__buf_init(&out, BUF_BYTES);
  ck_assert_int_eq(blx__json_write(blx__desc_node_info(), &node, BLX__JSON_DEFAULTS, &out, NULL).code, 0);
  const char *text = blx__buf_cstr(&out);
  ck_assert_ptr_nonnull(strstr(text, "\"uid\":0"));
  ck_assert_ptr_nonnull(strstr(text, "\"labels\":[]"));
  ck_assert_ptr_nonnull(strstr(text, "\"status\":\"Unknown\""));
  ck_assert_ptr_nonnull(strstr(text, "\"leader\":false"));
  ck_assert_ptr_null(strstr(text, "capacity"));
  blx__buf_free(&out);
}
END_TEST

START_TEST(numbers_beyond_2_to_the_53__are_text_and_come_back) {
  struct blx_vm vm = BLX_VM_INIT;
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  void *out;
  static const char text[] = "{\"uid\":\"18446744073709551615\",\"revision\":9007199254740992,\"created_ms\":1e3,"
                             "\"running\":\"7\"}";
  vm.uid = UINT64_MAX;
  vm.revision = UINT64_C(1) << 53;
  writes(blx__desc_vm(), &vm, 0, "{\"uid\":\"18446744073709551615\",\"revision\":9007199254740992}");
  struct blx__slice in = {(const uint8_t *)text, sizeof text - 1};
  ck_assert_int_eq(blx__json_read(blx__desc_vm(), &arena, in, &out, NULL).code, 0);
  const struct blx_vm *got = out;
  ck_assert(got->uid == UINT64_MAX && got->revision == UINT64_C(1) << 53 && got->created_ms == 1000);
  ck_assert_uint_eq(got->running, 7);
  blx__arena_free(&arena);
}
END_TEST

START_TEST(bytes__are_base64_of_every_length) {
  static const uint8_t data[] = {0xfb, 0xff, 0, 1};
  static const char *const want[] = {"{}", "{\"data\":\"+w==\"}", "{\"data\":\"+/8=\"}", "{\"data\":\"+/8A\"}",
                                     "{\"data\":\"+/8AAQ==\"}"};
  static const char *const alike[] = {"{\"data\":\"+/8AAQ\"}", "{\"data\":\"-_8AAQ==\"}"};
  for (size_t n = 0; n <= sizeof data; n++) {
    struct blx_log_chunk chunk = BLX_LOG_CHUNK_INIT;
    chunk.data = (struct blx_bytes){data, n};
    writes(blx__desc_log_chunk(), &chunk, 0, want[n]);
  }
  for (size_t i = 0; i < BLX__COUNT(alike); i++) {
    struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
    struct blx__slice in = {(const uint8_t *)alike[i], strlen(alike[i])};
    void *out;
    ck_assert_int_eq(blx__json_read(blx__desc_log_chunk(), &arena, in, &out, NULL).code, 0);
    const struct blx_log_chunk *chunk = out;
    ck_assert_uint_eq(chunk->data.len, 4);
    ck_assert_mem_eq(chunk->data.data, data, 4);
    blx__arena_free(&arena);
  }
  refused_text(blx__desc_log_chunk(), "{\"data\":\"+w=\"}", "data: \"+w=\" is not base64 text");
  refused_text(blx__desc_log_chunk(), "{\"data\":\"+x\"}", "data: \"+x\" is not base64 text");
  refused_text(blx__desc_log_chunk(), "{\"data\":\"a\"}", "data: \"a\" is not base64 text");
  refused_text(blx__desc_log_chunk(), "{\"data\":7}", "data: 7 is not base64 text");
}
END_TEST

struct trip {
  struct random_source random;
  struct blx__arena arena;
  struct blx__buf bytes, json, again;
};

static void round_trip(void *user, const struct blx__msg_desc *desc) {
  struct trip *t = user;
  for (int i = 0; i < 40; i++) {
    void *msg, *back;
    blx_error err = {0};
    unsigned flags = (unsigned)random_below(&t->random, 4);
    blx__arena_reset(&t->arena);
    blx__buf_clear(&t->bytes);
    blx__buf_clear(&t->json);
    blx__buf_clear(&t->again);
    msg = random_message(desc, &t->arena, &t->random);
    ck_assert_int_eq(blx__msg_encode(desc, msg, &t->bytes, &err).code, 0);
    ck_assert_int_eq(blx__json_write(desc, msg, flags, &t->json, &err).code, 0);
    ck_assert_msg(blx__json_read(desc, &t->arena, slice_of(&t->json), &back, &err).code == 0, "%s", err.message);
    ck_assert_int_eq(blx__msg_encode(desc, back, &t->again, &err).code, 0);
    ck_assert_msg(t->bytes.len == t->again.len &&
                      (t->bytes.len == 0 || memcmp(t->bytes.data, t->again.data, t->bytes.len) == 0),
                  "%s: %s", desc->name, blx__buf_cstr(&t->json));
  }
}

/* Damaged text is refused or read; nothing else may happen. */
static void damage(void *user, const struct blx__msg_desc *desc) {
  struct trip *t = user;
  static const char spice[] = "{}[]\":,\\0-eE.tfn\x80\xff u";
  for (int i = 0; i < 60; i++) {
    void *back;
    blx_error err = {0};
    blx__arena_reset(&t->arena);
    blx__buf_clear(&t->json);
    void *msg = random_message(desc, &t->arena, &t->random);
    ck_assert_int_eq(blx__json_write(desc, msg, BLX__JSON_DEFAULTS, &t->json, &err).code, 0);
    for (uint64_t k = random_below(&t->random, 3); k < 3; k++)
      t->json.data[random_below(&t->random, t->json.len)] = (uint8_t)spice[random_below(&t->random, sizeof spice - 1)];
    if (random_below(&t->random, 4) == 0) t->json.len = random_below(&t->random, t->json.len) + 1;
    blx__rc rc = blx__json_read(desc, &t->arena, slice_of(&t->json), &back, &err);
    ck_assert(rc.code == 0 || (rc.code == BLX_E_INVALID && err.message[0]));
    ck_assert(blx__utf8_ok(err.message, strlen(err.message)));
  }
}

static void each_trip(void (*visit)(void *user, const struct blx__msg_desc *desc), uint64_t seed) {
  struct trip t = {.random = {seed}, .arena = {.limit_bytes = ARENA_BYTES}};
  blx__buf_init(&t.bytes, BUF_BYTES);
  blx__buf_init(&t.json, BUF_BYTES);
  blx__buf_init(&t.again, BUF_BYTES);
  blx__desc_each(visit, &t);
  blx__arena_free(&t.arena);
  blx__buf_free(&t.bytes);
  blx__buf_free(&t.json);
  blx__buf_free(&t.again);
}

START_TEST(round_trip__of_random_messages_of_every_type__changes_nothing) {
  each_trip(round_trip, 11);
}
END_TEST

START_TEST(read__of_damaged_text__refuses_or_reads) {
  each_trip(damage, 12);
}
END_TEST

START_TEST(read__of_numbers_that_are_none__says_range_and_unit) {
  static const char *const numbers[][2] = {
      {"-1", "-1"},
      {"1e99", "9.9999999999999997e+98"},
      {"\"512 MB\"", "\"512 MB\""},
      {"18446744073709551616", "1.8446744073709552e+19"},
      {"4294967296", "4294967296"},
      {"1.5", "1.5"},
      {"\"-1\"", "\"-1\""},
      {"\"\"", "\"\""},
      {"true", "true"},
      {"[32]", "an array"},
      {"{}", "an object"},
  };
  for (size_t i = 0; i < BLX__COUNT(numbers); i++) {
    char text[96], says[160];
    ck_assert(blx__str_format(text, sizeof text, "{\"spec\":{\"memory_mib\":%s}}", numbers[i][0]));
    ck_assert(blx__str_format(says, sizeof says, "spec.memory_mib: %s is not a whole number from 32 to 1048576 (MiB)",
                              numbers[i][1]));
    refused_text(blx__desc_vm_create_request(), text, says);
  }
  refused_text(blx__desc_vm_spec(), "{\"memory_mib\":NaN}", "JSON, line 1, column");
  refused_text(blx__desc_vm_spec(), "{\"memory_mib\":1e999}", "JSON, line 1, column");
}
END_TEST

START_TEST(read__of_hostile_text__is_refused) {
  const struct blx__msg_desc *desc = blx__desc_vm_spec();
  static char deep[200000];
  refused(desc, "", 0, "the JSON text is empty");
  refused_text(desc, "{\"name\":\"we", "JSON, line 1, column");
  refused_text(desc, "{\"name\":\"web\"} x", "JSON, line 1, column");
  refused_text(desc, "{\"name\":\"a\",\"name\":\"b\"}", "JSON, line 1, column 18: duplicate object key");
  refused_text(desc, "\xef\xbb\xbf{}", "the JSON text begins with a byte-order mark");
  refused(desc, "\xff\xfe{\0}\0", 6, "the JSON text is UTF-16");
  refused(desc, "{\0}\0", 4, "the JSON text is UTF-16");
  refused_text(desc, "{\"name\":\"a\\u0000b\"}", "JSON, line 1");
  refused_text(desc, "{\"name\":\"\xc3\"}", "JSON, line 1");
  refused_text(desc, "[]", "the JSON text is an array");
  refused_text(desc, "7", "JSON, line 1");
  memset(deep, '[', sizeof deep);
  refused(desc, deep, sizeof deep, "the JSON text is nested deeper than 32 levels");
  memset(deep, ',', sizeof deep);
  refused(desc, deep, sizeof deep, "the JSON text has more than 131072 values");
  /* The size alone decides: not one byte of it is looked at. */
  refused(desc, deep, (size_t)1 << 30, "the JSON text has 1073741824 bytes, more than the 2097152 allowed");
}
END_TEST

START_TEST(read__of_the_wrong_shape__names_the_place) {
  const struct blx__msg_desc *desc = blx__desc_vm_spec();
  refused_text(desc, "{\"name\":7}", "name: 7 is not text");
  refused_text(desc, "{\"labels\":{}}", "labels: an object is not an array");
  refused_text(desc, "{\"labels\":[{},7]}", "labels[1]: 7 is not an object");
  refused_text(desc, "{\"labels\":[{\"key\":[]}]}", "labels[0].key: an array is not text");
  refused_text(desc, "{\"labels\":[null]}", "labels[0]: null is not an object");
  refused_text(desc, "{\"ready_none\":1}", "ready_none: 1 is not true or false");
  refused_text(desc, "{\"hypervisor\":\"xen\"}",
               "hypervisor: \"xen\" is not one of qemu, cloud_hypervisor, firecracker, crosvm, kvmtool, stratovirt");
  refused_text(desc, "{\"hypervisor\":1.5}", "hypervisor: 1.5 is not one of qemu");
  refused_text(
      desc, "{\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
      "name: 90 bytes, more than the 56 allowed");
}
END_TEST

START_TEST(read__of_an_unknown_field__names_the_nearest_known_one) {
  const struct blx__msg_desc *desc = blx__desc_vm_create_request();
  refused_text(desc, "{\"spec\":{\"memory\":1}}", "spec: there is no field \"memory\"; did you mean \"memory_mib\"?");
  refused_text(desc, "{\"spec\":{\"memoryMib\":1}}",
               "spec: there is no field \"memoryMib\"; did you mean \"memory_mib\"?");
  refused_text(desc, "{\"spec\":{\"vcpu\":1}}", "spec: there is no field \"vcpu\"; did you mean \"vcpus\"?");
  refused_text(desc, "{\"tenat\":\"a\"}", "vm_create_request: there is no field \"tenat\"; did you mean \"tenant\"?");
  refused_text(desc, "{\"\x1b]0;x\":1}", "JSON, line 1");
  refused_text(desc, "{\"\\u001b\":1}", "vm_create_request: there is no field \"\\x1b\"; there are spec, config,");
}
END_TEST

START_TEST(read__takes_null_as_absent_and_both_spellings_of_labels) {
  static const char text[] = "{\"name\":null,\"replicas\":null,\"labels\":null,\"hypervisor\":\"cloud-hypervisor\","
                             "\"restart_policy\":2,\"node_selector\":[],\"vcpus\":4.0}";
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  struct blx__slice in = {(const uint8_t *)text, sizeof text - 1};
  void *out;
  ck_assert_int_eq(blx__json_read(blx__desc_vm_spec(), &arena, in, &out, NULL).code, 0);
  const struct blx_vm_spec *spec = out;
  ck_assert(!spec->name && !spec->has_replicas && spec->n_labels == 0 && spec->n_node_selector == 0);
  ck_assert_int_eq(spec->hypervisor, BLX_HYPERVISOR_CLOUD_HYPERVISOR);
  ck_assert_int_eq(spec->restart_policy, BLX_RESTART_POLICY_NEVER);
  ck_assert_uint_eq(spec->vcpus, 4);
  blx__arena_free(&arena);
}
END_TEST

START_TEST(write__that_fails__leaves_the_buffer_as_it_was) {
  struct blx_label label = BLX_LABEL_INIT;
  struct blx__buf out;
  blx_error err;
  blx__buf_init(&out, 16);
  label.key = "a-long-key";
  ck_assert(blx__buf_add(&out, "ab", 2));
  ck_assert_int_eq(blx__json_write(blx__desc_label(), &label, 0, &out, &err).code, BLX_E_INVALID);
  ck_assert_uint_eq(out.len, 2);
  label.key = "\xff";
  ck_assert_int_eq(blx__json_write(blx__desc_label(), &label, 0, &out, &err).code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, "label.key: is not UTF-8");
  ck_assert_uint_eq(out.len, 2);
  blx__buf_free(&out);
}
END_TEST

BLX_TEST_MAIN("json", write__names_fields_as_the_tables_do_and_leaves_zeroes_out,
              write__with_defaults__shows_zeroes_but_not_what_is_absent,
              numbers_beyond_2_to_the_53__are_text_and_come_back, bytes__are_base64_of_every_length,
              round_trip__of_random_messages_of_every_type__changes_nothing, read__of_damaged_text__refuses_or_reads,
              read__of_numbers_that_are_none__says_range_and_unit, read__of_hostile_text__is_refused,
              read__of_the_wrong_shape__names_the_place, read__of_an_unknown_field__names_the_nearest_known_one,
              read__takes_null_as_absent_and_both_spellings_of_labels, write__that_fails__leaves_the_buffer_as_it_was)
