#include "../harness.h"
#include "schema/codec.h"
#include "schema/validate.h"
#include "support_random.h"

#include <string.h>

enum { ARENA_BYTES = 4 << 20, BUF_BYTES = 1 << 20 };

static struct blx__slice slice_of(const struct blx__buf *b) {
  return (struct blx__slice){b->data, b->len};
}

/* Decode @n bytes; the code, the error in @err. */
static int decode_code(const struct blx__msg_desc *desc, const void *bytes, size_t n, blx_error *err) {
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  void *out = NULL;
  memset(err, 0, sizeof *err);
  blx__rc rc = blx__msg_decode(desc, &arena, (struct blx__slice){bytes, n}, &out, err);
  ck_assert((rc.code == 0) == (out != NULL));
  blx__arena_free(&arena);
  return rc.code;
}

static void same_bytes(const struct blx__buf *a, const struct blx__buf *b, const char *what) {
  ck_assert_msg(a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0), "%s", what);
}

START_TEST(encode__of_a_small_spec__gives_the_bytes_of_protobuf) {
  /* The empty value of the label is left out, the label is not; an optional zero is written. */
  static const uint8_t want[] = {0x0a, 3, 'w', 'e', 'b', 0x30, 2, 0x38, 0x80, 4, 0x40, 0, 0x52, 3, 0x0a, 1, 'k'};
  struct blx_label label = BLX_LABEL_INIT, *labels[] = {&label};
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx__buf out;
  label.key = "k";
  label.value = NULL;
  spec.name = "web";
  spec.vcpus = 2;
  spec.memory_mib = 512;
  spec.has_replicas = 1;
  spec.labels = labels;
  spec.n_labels = 1;
  blx__buf_init(&out, BUF_BYTES);
  ck_assert(blx__buf_add(&out, "before", 6));
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &out, NULL).code, 0);
  ck_assert_mem_eq(out.data, "before", 6);
  ck_assert_uint_eq(out.len, 6 + sizeof want);
  ck_assert_mem_eq(out.data + 6, want, sizeof want);
  blx__buf_free(&out);
}
END_TEST

struct trip {
  struct random_source random;
  struct blx__arena arena;
  struct blx__buf first, again;
};

static void round_trip(void *user, const struct blx__msg_desc *desc) {
  struct trip *t = user;
  for (int i = 0; i < 40; i++) {
    blx_error err = {0};
    void *decoded, *copied, *owned, *both;
    blx__arena_reset(&t->arena);
    blx__buf_clear(&t->first);
    void *msg = random_message(desc, &t->arena, &t->random);
    ck_assert_msg(blx__msg_encode(desc, msg, &t->first, &err).code == 0, "%s", err.message);
    ck_assert_msg(blx__msg_decode(desc, &t->arena, slice_of(&t->first), &decoded, &err).code == 0, "%s", err.message);
    ck_assert_int_eq(blx__msg_copy(desc, &t->arena, decoded, &copied, &err).code, 0);
    ck_assert_int_eq(blx__msg_own(desc, copied, &owned, &err).code, 0);
    ck_assert_int_eq(blx__msg_decode_owned(desc, slice_of(&t->first), &both, &err).code, 0);
    const void *const all[] = {decoded, copied, owned, both};
    for (size_t k = 0; k < BLX__COUNT(all); k++) {
      blx__buf_clear(&t->again);
      ck_assert_int_eq(blx__msg_encode(desc, all[k], &t->again, &err).code, 0);
      same_bytes(&t->first, &t->again, desc->name);
    }
    ck_assert_uint_ge(blx__msg_owned_bytes(owned), desc->size);
    blx__msg_free_owned(owned);
    blx__msg_free_owned(both);
  }
}

static void trip_init(struct trip *t, uint64_t seed) {
  *t = (struct trip){.random = {seed}, .arena = {.limit_bytes = ARENA_BYTES}};
  blx__buf_init(&t->first, BUF_BYTES);
  blx__buf_init(&t->again, BUF_BYTES);
}

static void trip_free(struct trip *t) {
  blx__arena_free(&t->arena);
  blx__buf_free(&t->first);
  blx__buf_free(&t->again);
}

START_TEST(round_trip__of_random_messages_of_every_type__changes_nothing) {
  struct trip t;
  trip_init(&t, 1);
  blx__desc_each(round_trip, &t);
  trip_free(&t);
  blx__msg_free_owned(NULL);
}
END_TEST

/* What a decoder accepts of damaged bytes it can write, and what it wrote it reads to the same again. */
static void damage(void *user, const struct blx__msg_desc *desc) {
  struct trip *t = user;
  for (int i = 0; i < 300; i++) {
    void *msg;
    blx_error err;
    blx__arena_reset(&t->arena);
    blx__buf_clear(&t->first);
    ck_assert_int_eq(blx__msg_encode(desc, random_message(desc, &t->arena, &t->random), &t->first, NULL).code, 0);
    for (uint64_t k = random_below(&t->random, 4); k < 4 && t->first.len > 0; k++) {
      uint8_t *at = t->first.data + random_below(&t->random, t->first.len);
      if (random_below(&t->random, 4) == 0)
        t->first.len = (size_t)(at - t->first.data);
      else
        *at = (uint8_t)random_next(&t->random);
    }
    if (blx__msg_decode(desc, &t->arena, slice_of(&t->first), &msg, &err).code != 0) {
      ck_assert(err.message[0] != '\0' && blx__utf8_ok(err.message, strlen(err.message)));
      continue;
    }
    blx__buf_clear(&t->again);
    ck_assert_int_eq(blx__msg_encode(desc, msg, &t->again, &err).code, 0);
    blx__buf_clear(&t->first);
    ck_assert_int_eq(blx__msg_decode(desc, &t->arena, slice_of(&t->again), &msg, &err).code, 0);
    ck_assert_int_eq(blx__msg_encode(desc, msg, &t->first, &err).code, 0);
    same_bytes(&t->first, &t->again, desc->name);
    ck_assert(blx__msg_validate(desc, msg, &err).code == 0 || err.message[0] != 0);
  }
}

START_TEST(decode__of_damaged_bytes__refuses_or_reaches_a_fixed_point) {
  struct trip t;
  trip_init(&t, 2);
  blx__desc_each(damage, &t);
  trip_free(&t);
}
END_TEST

START_TEST(decode__of_hostile_bytes__is_refused_with_a_sentence) {
  static const struct {
    const char *bytes;
    size_t n;
    const char *says;
  } cases[] = {
      {"\x0a\x05"
       "ab",
       4, "name: its length goes past the end"},
      {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10, "name: its length goes past the end"},
      {"\x0a\x02"
       "a\xff",
       4, "name: is not UTF-8"},
      {"\x0a\x02"
       "a\0",
       4, "name: is not UTF-8, or has a NUL in it"},
      {"\x08\x01", 2, "name: has another wire type"},
      {"\x30\xff\xff\xff\xff\x1f", 6, "vcpus: is out of its type's range"},
      {"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "vcpus: is cut off or no number"},
      {"\x30", 1, "vcpus: is cut off or no number"},
      {"\x00\x01", 2, "vm_spec: a field's tag is damaged"},
      {"\xff\xff\xff\xff\x7f", 5, "vm_spec: a field's tag is damaged"},
      {"\xfb\x01", 2, "vm_spec: an unknown field is damaged"},
      {"\xfa\x01\x05", 3, "vm_spec: an unknown field is damaged"},
      {"\x52\x03\x0a\x05"
       "a",
       5, "labels[0].key: its length goes past the end"},
  };
  blx_error err;
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    ck_assert_int_eq(decode_code(blx__desc_vm_spec(), cases[i].bytes, cases[i].n, &err), BLX_E_INVALID);
    ck_assert_msg(strncmp(err.message, cases[i].says, strlen(cases[i].says)) == 0, "%zu: %s", i, err.message);
  }
}
END_TEST

START_TEST(decode__of_text_above_its_maximum__is_refused_before_it_is_allocated) {
  struct blx__arena arena = {.limit_bytes = 1024};
  struct blx__buf in;
  blx_error err;
  void *out = NULL;
  blx__buf_init(&in, BUF_BYTES);
  ck_assert(blx__buf_add(&in, "\x0a\xa0\x8d\x06", 4) && blx__buf_reserve(&in, 100000));
  memset(in.data + in.len, 'a', 100000);
  in.len += 100000;
  ck_assert_int_eq(blx__msg_decode(blx__desc_vm_spec(), &arena, slice_of(&in), &out, &err).code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, "name: 100000 bytes, more than the 56 allowed");
  ck_assert_uint_lt(arena.used_bytes, 512);
  ck_assert_ptr_null(out);
  blx__arena_free(&arena);
  blx__buf_free(&in);
}
END_TEST

START_TEST(decode__that_needs_more_than_the_arena_allows__says_so) {
  struct blx__arena arena = {.limit_bytes = 1024};
  uint8_t in[64 * 2];
  blx_error err;
  void *out;
  for (size_t i = 0; i < sizeof in; i += 2) memcpy(in + i, "\x52", 2);
  ck_assert_int_eq(blx__msg_decode(blx__desc_vm_spec(), &arena, (struct blx__slice){in, sizeof in}, &out, &err).code,
                   BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "1024 bytes"));
  blx__arena_free(&arena);
}
END_TEST

START_TEST(a_list_above_its_cap__is_refused_on_both_ways) {
  uint8_t in[65 * 2];
  struct blx_label label = BLX_LABEL_INIT, *labels[65];
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx__buf out;
  blx_error err;
  for (size_t i = 0; i < 65; i++) {
    memcpy(in + 2 * i, "\x52", 2);
    labels[i] = &label;
  }
  ck_assert_int_eq(decode_code(blx__desc_vm_spec(), in, 64 * 2, &err), 0);
  ck_assert_int_eq(decode_code(blx__desc_vm_spec(), in, sizeof in, &err), BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "more than 64 elements"));
  spec.labels = labels;
  spec.n_labels = 65;
  blx__buf_init(&out, BUF_BYTES);
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &out, &err).code, BLX_E_INVALID);
  ck_assert_uint_eq(out.len, 0);
  spec.n_labels = 2;
  labels[1] = NULL;
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &out, &err).code, BLX_E_INVALID);
  blx__buf_free(&out);
}
END_TEST

START_TEST(decode__of_a_field_that_comes_twice__merges_as_protobuf_does) {
  /* vm.spec with vcpus 1 then memory 64; vm.uid 5 then 6. */
  static const uint8_t in[] = {0x1a, 2, 0x30, 1, 0x08, 5, 0x1a, 2, 0x38, 64, 0x08, 6};
  struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
  void *out;
  ck_assert_int_eq(blx__msg_decode(blx__desc_vm(), &arena, (struct blx__slice){in, sizeof in}, &out, NULL).code, 0);
  const struct blx_vm *vm = out;
  ck_assert_uint_eq(vm->uid, 6);
  ck_assert_uint_eq(vm->spec->vcpus, 1);
  ck_assert_uint_eq(vm->spec->memory_mib, 64);
  blx__arena_free(&arena);
}
END_TEST

START_TEST(numbers__are_read_packed_and_one_by_one) {
  static const uint8_t packed[] = {0x4a, 2, 0, 2}, single[] = {0x48, 0, 0x48, 2};
  const uint8_t *const both[] = {packed, single};
  for (size_t i = 0; i < 2; i++) {
    struct blx__arena arena = {.limit_bytes = ARENA_BYTES};
    void *out;
    ck_assert_int_eq(blx__msg_decode(blx__desc_node_info(), &arena, (struct blx__slice){both[i], 4}, &out, NULL).code,
                     0);
    const struct blx_node_info *node = out;
    ck_assert_uint_eq(node->n_hypervisors, 2);
    ck_assert_int_eq(node->hypervisors[0], 0);
    ck_assert_int_eq(node->hypervisors[1], BLX_HYPERVISOR_FIRECRACKER);
    blx__arena_free(&arena);
  }
}
END_TEST

START_TEST(unknown_fields__are_written_again_byte_for_byte_in_order_of_id) {
  /* label: key, unknown 3 (varint) twice, value, unknown 9 (64 bit), unknown 4 (text). */
  static const uint8_t in[] = {0x0a, 1, 'k', 0x18, 0x81, 0, 0x18, 2, 0x12, 1, 'v', 0x49,
                               1,    2, 3,   4,    5,    6, 7,    8, 0x22, 1, 'x'};
  static const uint8_t want[] = {0x0a, 1,   'k',  0x12, 1, 'v', 0x18, 0x81, 0, 0x18, 2, 0x22,
                                 1,    'x', 0x49, 1,    2, 3,   4,    5,    6, 7,    8};
  struct trip t;
  void *out, *copy;
  blx_error err;
  trip_init(&t, 3);
  ck_assert_int_eq(blx__msg_decode(blx__desc_label(), &t.arena, (struct blx__slice){in, sizeof in}, &out, &err).code,
                   0);
  ck_assert_int_eq(blx__msg_encode(blx__desc_label(), out, &t.first, &err).code, 0);
  ck_assert_uint_eq(t.first.len, sizeof want);
  ck_assert_mem_eq(t.first.data, want, sizeof want);
  ck_assert_int_eq(blx__msg_own(blx__desc_label(), out, &copy, &err).code, 0);
  ck_assert_int_eq(blx__msg_encode(blx__desc_label(), copy, &t.again, &err).code, 0);
  same_bytes(&t.first, &t.again, "owned");
  ck_assert_int_eq(blx__msg_refuse_unknown(blx__desc_label(), copy, &err).code, BLX_E_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(err.message, "label: this version does not know its field 9"));
  blx__msg_free_owned(copy);
  struct blx__slice all = {in, sizeof in}, known = {in, 3};
  ck_assert_int_eq(blx__msg_decode_known(blx__desc_label(), &t.arena, all, &out, &err).code, BLX_E_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(err.message, "label: this version does not know its field 3"));
  ck_assert_int_eq(blx__msg_decode_known(blx__desc_label(), &t.arena, known, &out, &err).code, 0);
  trip_free(&t);
}
END_TEST

START_TEST(unknown_fields__of_one_id_cost_one_entry_and_of_many_ids_are_refused) {
  uint8_t in[5000 * 3];
  blx_error err;
  for (size_t i = 0; i < 5000; i++) memcpy(in + 3 * i, "\xa2\x06", 3);
  ck_assert_int_eq(decode_code(blx__desc_label(), in, sizeof in, &err), 0);
  for (size_t i = 0; i < 65; i++) {
    in[3 * i] = (uint8_t)(0x80 | (i << 3 & 0x78));
    in[3 * i + 1] = (uint8_t)(0x10 | i >> 4);
    in[3 * i + 2] = 0;
  }
  ck_assert_int_eq(decode_code(blx__desc_label(), in, 64 * 3, &err), 0);
  ck_assert_int_eq(decode_code(blx__desc_label(), in, 65 * 3, &err), BLX_E_INVALID);
}
END_TEST

START_TEST(a_struct_of_an_older_header__is_read_as_if_the_rest_were_zero) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct trip t;
  void *copy;
  trip_init(&t, 4);
  spec.name = "web";
  spec.vcpus = 2;
  /* Ends in the middle of labels: the pointer is inside, its count is not. */
  spec.labels = (struct blx_label **)(uintptr_t)1;
  spec.n_labels = SIZE_MAX;
  spec.stop_timeout_ms = 77;
  spec.struct_size = offsetof(struct blx_vm_spec, n_labels);
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &t.first, NULL).code, 0);
  ck_assert_uint_eq(t.first.len, 7);
  ck_assert_int_eq(blx__msg_copy(blx__desc_vm_spec(), &t.arena, &spec, &copy, NULL).code, 0);
  const struct blx_vm_spec *whole = copy;
  ck_assert_uint_eq(whole->struct_size, sizeof spec);
  ck_assert_ptr_null(whole->labels);
  ck_assert_uint_eq(whole->n_labels, 0);
  ck_assert_uint_eq(whole->stop_timeout_ms, 0);
  ck_assert_uint_eq(whole->vcpus, 2);
  trip_free(&t);
}
END_TEST

START_TEST(a_struct_of_a_newer_header__is_taken_only_while_its_tail_is_zero) {
  struct {
    struct blx_label label;
    uint8_t tail[16];
  } newer = {.label = {.struct_size = sizeof newer, .key = "k"}};
  struct trip t;
  blx_error err;
  void *copy;
  trip_init(&t, 5);
  ck_assert_int_eq(blx__msg_encode(blx__desc_label(), &newer, &t.first, &err).code, 0);
  ck_assert_int_eq(blx__msg_copy(blx__desc_label(), &t.arena, &newer, &copy, &err).code, 0);
  newer.tail[15] = 1;
  ck_assert_int_eq(blx__msg_encode(blx__desc_label(), &newer, &t.first, &err).code, BLX_E_UNSUPPORTED);
  ck_assert_int_eq(blx__msg_copy(blx__desc_label(), &t.arena, &newer, &copy, &err).code, BLX_E_UNSUPPORTED);
  ck_assert_int_eq(blx__msg_validate(blx__desc_label(), &newer, &err).code, BLX_E_UNSUPPORTED);
  newer.label.struct_size = 0;
  ck_assert_int_eq(blx__msg_encode(blx__desc_label(), &newer, &t.first, &err).code, BLX_E_UNSUPPORTED);
  newer.label.struct_size = SIZE_MAX;
  ck_assert_int_eq(blx__msg_encode(blx__desc_label(), &newer, &t.first, &err).code, BLX_E_UNSUPPORTED);
  trip_free(&t);
}
END_TEST

START_TEST(encode__that_does_not_fit__leaves_the_buffer_as_it_was) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx__buf out;
  blx_error err;
  spec.name = "a-name-of-some-length";
  blx__buf_init(&out, 24);
  ck_assert(blx__buf_add(&out, "ab", 2));
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &out, &err).code, BLX_E_INVALID);
  ck_assert_uint_eq(out.len, 2);
  ck_assert_mem_eq(out.data, "ab", 2);
  spec.name++;
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &out, &err).code, 0);
  ck_assert_uint_eq(out.len, 24);
  spec.name = "not \xff text";
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &out, &err).code, BLX_E_INVALID);
  spec.name = "a name that is far longer than the fifty-six bytes a name may have";
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_spec(), &spec, &out, &err).code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, "vm_spec.name: 66 bytes, more than the 56 allowed");
  blx__buf_free(&out);
}
END_TEST

/* The tables hold no message that nests itself, so here is one. */
struct chain {
  size_t struct_size;
  const void *unknown;
  struct chain *next;
};

static const struct blx__msg_desc *chain_desc(void) {
  static const struct blx__field fields[] = {{.id = 1,
                                              .kind = BLX__KIND_MSG,
                                              .offset = offsetof(struct chain, next),
                                              .size = sizeof(struct chain *),
                                              .msg = chain_desc,
                                              .name = "next"},
                                             {.id = UINT32_MAX}};
  static const struct blx__msg_desc desc = {"chain", "Chain", "", fields, 1, sizeof(struct chain)};
  return &desc;
}

START_TEST(bytes__that_are_counted_but_not_there__are_refused_everywhere) {
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  struct blx__buf out;
  void *copy = NULL;
  blx_error err;
  spec.name = "web";
  spec.vcpus = spec.memory_mib = 64;
  spec.stop_timeout_ms = 1000;
  req.spec = &spec;
  req.config = (struct blx_bytes){NULL, 100};
  blx__buf_init(&out, 1 << 20);
  ck_assert_int_eq(blx__msg_encode(blx__desc_vm_create_request(), &req, &out, &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_copy(blx__desc_vm_create_request(), &arena, &req, &copy, &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_own(blx__desc_vm_create_request(), &req, &copy, &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_validate(blx__desc_vm_create_request(), &req, &err).code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, "config: is NULL and has 100 bytes");
  blx__buf_free(&out);
  blx__arena_free(&arena);
}
END_TEST

START_TEST(nesting__deeper_than_its_maximum__is_refused_everywhere) {
  struct chain links[BLX__MSG_DEPTH_MAX + 1];
  struct trip t;
  void *copy;
  blx_error err;
  trip_init(&t, 6);
  for (size_t i = 0; i < BLX__COUNT(links); i++)
    links[i] = (struct chain){sizeof links[i], NULL, i + 1 < BLX__COUNT(links) ? &links[i + 1] : NULL};
  const struct blx__msg_desc *desc = chain_desc();
  ck_assert_int_eq(blx__msg_encode(desc, &links[1], &t.first, &err).code, 0);
  ck_assert_int_eq(blx__msg_encode(desc, &links[0], &t.again, &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_copy(desc, &t.arena, &links[0], &copy, &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_own(desc, &links[0], &copy, &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_validate(desc, &links[0], &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_validate(desc, &links[1], &err).code, 0);
  ck_assert_int_eq(blx__msg_defaults(desc, &t.arena, &links[0], &err).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__msg_defaults(desc, &t.arena, &links[1], &err).code, 0);
  ck_assert_int_eq(decode_code(desc, t.first.data, t.first.len, &err), 0);
  uint8_t deeper[256] = {0x0a, (uint8_t)t.first.len};
  memcpy(deeper + 2, t.first.data, t.first.len);
  ck_assert_int_eq(decode_code(desc, deeper, t.first.len + 2, &err), BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "nested deeper than 32"));
  trip_free(&t);
}
END_TEST

BLX_TEST_MAIN("codec", bytes__that_are_counted_but_not_there__are_refused_everywhere,
              encode__of_a_small_spec__gives_the_bytes_of_protobuf,
              round_trip__of_random_messages_of_every_type__changes_nothing,
              decode__of_damaged_bytes__refuses_or_reaches_a_fixed_point,
              decode__of_hostile_bytes__is_refused_with_a_sentence,
              decode__of_text_above_its_maximum__is_refused_before_it_is_allocated,
              decode__that_needs_more_than_the_arena_allows__says_so, a_list_above_its_cap__is_refused_on_both_ways,
              decode__of_a_field_that_comes_twice__merges_as_protobuf_does, numbers__are_read_packed_and_one_by_one,
              unknown_fields__are_written_again_byte_for_byte_in_order_of_id,
              unknown_fields__of_one_id_cost_one_entry_and_of_many_ids_are_refused,
              a_struct_of_an_older_header__is_read_as_if_the_rest_were_zero,
              a_struct_of_a_newer_header__is_taken_only_while_its_tail_is_zero,
              encode__that_does_not_fit__leaves_the_buffer_as_it_was,
              nesting__deeper_than_its_maximum__is_refused_everywhere)
