#include "vm/proto_guest.h"
#include "../harness.h"

#include <string.h>

static size_t frame(uint8_t *out, enum blx__guest_type type, uint64_t value, const char *text) {
  struct blx__guest_msg msg = {.type = type, .value = value};
  strncpy(msg.text, text, sizeof msg.text - 1);
  return blx__guest_write(&msg, out);
}

START_TEST(guest_frame__has_the_bytes_of_version_1) {
  uint8_t out[BLX__GUEST_FRAME_MAX];
  const uint8_t want[] = {0xb1, 0x17, 1, 0, 10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'h', 'i'};
  ck_assert_uint_eq(frame(out, BLX__GUEST_HELLO, 1, "hi"), sizeof want);
  uint8_t check = (uint8_t)((1 + 10 + 1 + 'h' + 'i') & 0xff) ^ 0x5a;
  ck_assert_uint_eq(out[3], check);
  out[3] = 0;
  ck_assert_mem_eq(out, want, sizeof want);
}
END_TEST

START_TEST(guest_reader__fed_byte_by_byte__gives_the_message_once) {
  uint8_t bytes[BLX__GUEST_FRAME_MAX];
  size_t n = frame(bytes, BLX__GUEST_PONG, UINT64_C(0x1122334455667788), "x");
  struct blx__guest_reader r = {0};
  struct blx__guest_msg msg;
  unsigned seen = 0;
  for (size_t i = 0; i < n; i++) {
    size_t taken = 0;
    bool got = blx__guest_read(&r, bytes + i, 1, &taken, &msg);
    ck_assert_uint_eq(taken, 1);
    if (got) seen++;
  }
  /* The last byte completes it: one more call with nothing gives nothing. */
  size_t taken;
  ck_assert(!blx__guest_read(&r, NULL, 0, &taken, &msg));
  ck_assert_uint_eq(seen, 1);
  ck_assert_uint_eq(msg.type, BLX__GUEST_PONG);
  ck_assert(msg.value == UINT64_C(0x1122334455667788));
  ck_assert_str_eq(msg.text, "x");
}
END_TEST

START_TEST(guest_reader__after_garbage_and_a_torn_frame__finds_the_next_one) {
  uint8_t stream[1024];
  size_t n = 0;
  for (; n < 40; n++) stream[n] = (uint8_t)(n * 37);
  uint8_t whole[BLX__GUEST_FRAME_MAX];
  size_t len = frame(whole, BLX__GUEST_HELLO, 1, "old");
  memcpy(stream + n, whole, len / 2);
  n += len / 2;
  len = frame(whole, BLX__GUEST_READY, 0, "");
  for (int i = 0; i < 3; i++, n += len) memcpy(stream + n, whole, len);
  struct blx__guest_reader r = {0};
  struct blx__guest_msg msg;
  unsigned ready = 0;
  for (size_t at = 0, taken = 0; at < n; at += taken)
    if (blx__guest_read(&r, stream + at, n - at, &taken, &msg)) ready += msg.type == BLX__GUEST_READY;
  ck_assert_uint_ge(ready, 2);
  ck_assert(r.skipped_bytes >= 40);
}
END_TEST

START_TEST(guest_reader__absurd_length_or_wrong_check__is_skipped) {
  uint8_t bad[] = {0xb1, 0x17, 1, 0, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  struct blx__guest_reader r = {0};
  struct blx__guest_msg msg;
  size_t taken;
  ck_assert(!blx__guest_read(&r, bad, sizeof bad, &taken, &msg));
  ck_assert_uint_eq(taken, sizeof bad);
  uint8_t whole[BLX__GUEST_FRAME_MAX];
  size_t len = frame(whole, BLX__GUEST_READY, 0, "");
  whole[3] ^= 1;
  ck_assert(!blx__guest_read(&r, whole, len, &taken, &msg));
  whole[3] ^= 1;
  ck_assert(blx__guest_read(&r, whole, len, &taken, &msg));
}
END_TEST

START_TEST(guest_reader__unknown_type__is_dropped_and_control_bytes_are_masked) {
  uint8_t bytes[2 * BLX__GUEST_FRAME_MAX];
  size_t n = frame(bytes, (enum blx__guest_type)99, 0, "later");
  n += frame(bytes + n, BLX__GUEST_HELLO, 1, "a\x1b[2Jb");
  struct blx__guest_reader r = {0};
  struct blx__guest_msg msg;
  size_t taken;
  ck_assert(blx__guest_read(&r, bytes, n, &taken, &msg));
  ck_assert_uint_eq(taken, n);
  ck_assert_str_eq(msg.text, "a?[2Jb");
  ck_assert(r.skipped_bytes == 0);
}
END_TEST

START_TEST(guest_reader__ten_million_random_bytes__never_leaves_its_bounds) {
  struct blx__guest_reader r = {0};
  struct blx__guest_msg msg;
  uint64_t x = 42;
  for (int i = 0; i < 10 * 1000 * 1000 / 64; i++) {
    uint8_t bytes[64];
    for (unsigned k = 0; k < sizeof bytes; k++) {
      x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
      /* Many beginnings of frames, so that the deeper checks are met. */
      bytes[k] = (uint8_t)((x >> 33) % 5 == 0 ? 0xb1 : (x >> 33) % 5 == 1 ? 0x17 : x >> 40);
    }
    for (size_t at = 0, taken = 0; at < sizeof bytes; at += taken) {
      bool got = blx__guest_read(&r, bytes + at, sizeof bytes - at, &taken, &msg);
      ck_assert(got || at + taken == sizeof bytes);
      ck_assert_uint_lt(r.len, sizeof r.frame);
      if (got) ck_assert_uint_lt(strlen(msg.text), sizeof msg.text);
    }
  }
}
END_TEST

BLX_TEST_MAIN("vm/proto_guest", guest_frame__has_the_bytes_of_version_1,
              guest_reader__fed_byte_by_byte__gives_the_message_once,
              guest_reader__after_garbage_and_a_torn_frame__finds_the_next_one,
              guest_reader__absurd_length_or_wrong_check__is_skipped,
              guest_reader__unknown_type__is_dropped_and_control_bytes_are_masked,
              guest_reader__ten_million_random_bytes__never_leaves_its_bounds)
