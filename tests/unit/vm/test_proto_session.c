#include "../harness.h"

#include "vm/proto_shim.h"
#include "vm/proto_shim.h"

#include <string.h>

static const struct blx__session_msg sample = {.type = BLX__SESSION_END,
                                               .flags = 1,
                                               .a = BLX_E_NOT_FOUND,
                                               .b = -1,
                                               .c = 9,
                                               .uid = UINT64_C(0x0102030405060708),
                                               .epoch = 5,
                                               .data = (const uint8_t *)"no\tprogram\x1b",
                                               .data_len = 11};

START_TEST(session_message__comes_back_whole_from_single_bytes) {
  uint8_t frame[BLX__SESSION_FRAME_MAX];
  char text[BLX__SESSION_TEXT_MAX + 1];
  size_t n = blx__session_write(&sample, frame), taken;
  ck_assert_uint_eq(n, 4 + BLX__SESSION_FIXED_BYTES + 11);
  ck_assert_uint_eq(frame[4], BLX__SESSION_END);
  ck_assert_uint_eq(frame[5], BLX__SESSION_VERSION);
  struct blx__session_reader r = {0};
  struct blx__session_msg m = {0};
  bool got = false;
  for (unsigned round = 0; round < 2; round++) {
    for (size_t i = 0; i < n; i++) {
      ck_assert(!got || i == 0);
      ck_assert_int_eq(blx__session_read(&r, frame + i, 1, &taken, &got, &m, NULL).code, 0);
      ck_assert_uint_eq(taken, 1);
    }
    ck_assert(got);
    ck_assert(m.type == BLX__SESSION_END && m.flags == 1 && m.a == BLX_E_NOT_FOUND && m.b == -1 && m.c == 9);
    ck_assert(m.uid == sample.uid && m.epoch == 5 && m.version == BLX__SESSION_VERSION);
    ck_assert_uint_eq(m.data_len, 11);
    blx__session_text(&m, text);
    ck_assert_str_eq(text, "no program ");
  }
}
END_TEST

START_TEST(session_reader__given_what_it_wants__never_holds_more_than_one_frame) {
  uint8_t bytes[3 * BLX__SESSION_FRAME_MAX], data[BLX__SESSION_DATA_MAX] = {0};
  struct blx__session_msg m = {.type = BLX__SESSION_INPUT, .data = data};
  const size_t sizes[] = {BLX__SESSION_DATA_MAX, 0, 17};
  size_t all = 0, at = 0, taken;
  for (unsigned i = 0; i < 3; i++) {
    m.data_len = sizes[i];
    all += blx__session_write(&m, bytes + all);
  }
  struct blx__session_reader r = {0};
  for (unsigned i = 0; i < 3; i++) {
    bool got = false;
    while (!got) {
      size_t want = blx__session_want(&r);
      ck_assert_int_eq(blx__session_read(&r, bytes + at, want, &taken, &got, &m, NULL).code, 0);
      ck_assert_uint_eq(taken, want);
      at += want;
    }
    ck_assert_uint_eq(m.data_len, sizes[i]);
  }
  ck_assert_uint_eq(at, all);
}
END_TEST

START_TEST(session_message__absurd_length_or_type__is_refused) {
  const uint8_t bad[][6] = {
      {0xff, 0xff, 0xff, 0x7f, 16, 1}, {1, 0, 0, 0, 16, 1}, {2, 0, 0, 0, 16, 1}, {2, 0, 0, 0, 99, 1}};
  for (size_t i = 0; i < BLX__COUNT(bad); i++) {
    struct blx__session_reader r = {0};
    struct blx__session_msg m;
    size_t taken;
    bool got;
    blx_error err;
    ck_assert_int_eq(blx__session_read(&r, bad[i], 6, &taken, &got, &m, &err).code, BLX_E_VMM_PROTOCOL);
  }
}
END_TEST

/* What a shim without sessions does, and how it is understood. */
START_TEST(open__to_a_shim_of_before__is_refused_and_its_answer_is_understood) {
  uint8_t frame[BLX__SESSION_FRAME_MAX];
  struct blx__session_msg open = {.type = BLX__SESSION_OPEN, .data = (const uint8_t *)"sh", .data_len = 3}, m;
  struct blx__shim_reader old = {0};
  struct blx__shim_msg heard, answer = {.type = BLX__SHIM_REFUSED, .state = BLX__SHIM_READY, .text = "unknown"};
  struct blx__session_reader r = {0};
  size_t taken, n = blx__session_write(&open, frame);
  bool got = false;
  blx_error err;
  ck_assert_int_eq(blx__shim_read(&old, frame, n, &taken, &got, &heard, &err).code, BLX_E_VMM_PROTOCOL);
  n = blx__shim_write(&answer, frame);
  ck_assert_int_eq(blx__session_read(&r, frame, n, &taken, &got, &m, &err).code, 0);
  ck_assert(got && m.type == BLX__SESSION_REFUSED);
}
END_TEST

BLX_TEST_MAIN("vm/proto_session", session_message__comes_back_whole_from_single_bytes,
              session_reader__given_what_it_wants__never_holds_more_than_one_frame,
              session_message__absurd_length_or_type__is_refused,
              open__to_a_shim_of_before__is_refused_and_its_answer_is_understood)
