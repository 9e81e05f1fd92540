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

static size_t frame_2(uint8_t *out, enum blx__guest_type type, const void *data, size_t n) {
  struct blx__guest_msg msg = {.type = type, .session = 0x01020304, .arg = 0xa0b0c0d0, .data = data, .data_len = n};
  return blx__guest_write(&msg, out);
}

START_TEST(guest_frame__of_version_2__has_a_check_of_its_head_and_a_crc) {
  uint8_t out[BLX__GUEST_FRAME_MAX];
  const uint8_t want[] = {0xb1, 0x17, 33,  (33 + 14) ^ 0x5a, 14, 0, 4, 3, 2, 1, 0xd0, 0xc0, 0xb0, 0xa0, 'h', 'i', 0xc7,
                          0x48, 0xf2, 0xfa};
  ck_assert_uint_eq(frame_2(out, BLX__GUEST_EXEC_STDIN, "hi", 2), sizeof want);
  ck_assert_mem_eq(out, want, sizeof want);
}
END_TEST

START_TEST(guest_messages__of_version_2__come_back_whole_from_single_bytes) {
  static uint8_t data[BLX__GUEST_DATA_MAX + 1];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
  const size_t sizes[] = {0, 1, 100, BLX__GUEST_DATA_MAX, BLX__GUEST_DATA_MAX + 1};
  struct blx__guest_reader r = {0};
  for (int type = BLX__GUEST_EXEC; type <= BLX__GUEST_STATS_REPLY; type++) {
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
      uint8_t bytes[BLX__GUEST_FRAME_MAX];
      size_t n = frame_2(bytes, (enum blx__guest_type)type, data, sizes[k]), taken;
      size_t len = sizes[k] < BLX__GUEST_DATA_MAX ? sizes[k] : BLX__GUEST_DATA_MAX;
      struct blx__guest_msg msg;
      for (size_t i = 0; i + 1 < n; i++) ck_assert(!blx__guest_read(&r, bytes + i, 1, &taken, &msg));
      ck_assert(blx__guest_read(&r, bytes + n - 1, 1, &taken, &msg));
      ck_assert(msg.type == (enum blx__guest_type)type && msg.session == 0x01020304 && msg.arg == 0xa0b0c0d0);
      ck_assert_uint_eq(msg.data_len, len);
      ck_assert_mem_eq(msg.data, data, len);
    }
  }
  ck_assert(r.skipped_bytes == 0);
}
END_TEST

START_TEST(guest_reader__version_2_with_a_byte_changed_anywhere__is_skipped_and_the_next_is_found) {
  uint8_t bytes[2 * BLX__GUEST_FRAME_MAX];
  size_t n = frame_2(bytes, BLX__GUEST_EXEC_OUT, "some output", 11);
  size_t all = n + frame_2(bytes + n, BLX__GUEST_EXEC_ERR, "next", 4);
  for (size_t i = 0; i < n; i++) {
    struct blx__guest_reader r = {0};
    struct blx__guest_msg msg;
    size_t taken;
    bytes[i] ^= 0x41;
    bool got = blx__guest_read(&r, bytes, all, &taken, &msg);
    bytes[i] ^= 0x41;
    /* A length that became larger waits for what will not come; a reader never takes the changed one for whole. */
    if (got) ck_assert(msg.type == BLX__GUEST_EXEC_ERR && memcmp(msg.data, "next", 4) == 0);
    ck_assert(got);
  }
}
END_TEST

START_TEST(guest_reader__frames_swallowed_by_a_broken_one__are_all_given) {
  /* The head of a message of version 1 with 250 bytes, of which 20 whole frames follow instead. */
  uint8_t bytes[1024 + BLX__GUEST_FRAME_MAX] = {0xb1, 0x17, 1, 0, 250, 0};
  size_t n = 6, taken;
  for (unsigned i = 0; i < 20; i++) n += frame(bytes + n, BLX__GUEST_PONG, i, "");
  struct blx__guest_reader r = {0};
  struct blx__guest_msg msg;
  unsigned seen = 0;
  for (size_t at = 0; blx__guest_read(&r, bytes + at, n - at, &taken, &msg); seen++) {
    at += taken;
    ck_assert(msg.value == seen && msg.text[0] == '\0');
  }
  ck_assert_uint_eq(seen, 20);
  ck_assert_uint_eq(r.skipped_bytes, 6);
}
END_TEST

/* What a reader of version 1 takes for a frame at @f. 0: none. */
static size_t old_frame(const uint8_t *f, size_t n) {
  if (n < 14 || f[0] != 0xb1 || f[1] != 0x17) return 0;
  size_t len = (size_t)f[4] | (size_t)f[5] << 8;
  if (len < 8 || len > 256 || n < 6 + len) return 0;
  unsigned sum = (unsigned)f[2] + f[4] + f[5];
  for (size_t i = 0; i < len; i++) sum += f[6 + i];
  return ((sum & 0xff) ^ 0x5a) == f[3] ? 6 + len : 0;
}

START_TEST(version_1__hears_nothing_of_version_2_that_it_would_act_on) {
  uint8_t bytes[2 * BLX__GUEST_FRAME_MAX];
  for (int type = BLX__GUEST_EXEC; type <= BLX__GUEST_STATS_REPLY; type++) {
    size_t n = frame_2(bytes, (enum blx__guest_type)type, "some data of it", 15);
    n += frame(bytes + n, BLX__GUEST_READY, 0, "");
    unsigned ready = 0;
    for (size_t at = 0; at < n;) {
      size_t len = old_frame(bytes + at, n - at);
      if (len > 0 && bytes[at + 2] <= BLX__GUEST_STOPPING) ready += bytes[at + 2] == BLX__GUEST_READY;
      if (len > 0 && bytes[at + 2] <= BLX__GUEST_STOPPING) ck_assert_uint_eq(bytes[at + 2], BLX__GUEST_READY);
      at += len > 0 ? len : 1;
    }
    ck_assert_uint_eq(ready, 1);
  }
}
END_TEST

START_TEST(stats_and_clock__come_back_as_they_were_and_not_from_too_little) {
  const struct blx__guest_stats stats = {
      .uptime_ms = 1ull << 40, .memory_kib = 93924, .available_kib = 70000, .load_milli = 1250, .processes = 42};
  struct blx__guest_stats again;
  uint8_t bytes[BLX__GUEST_STATS_BYTES];
  struct blx__guest_msg msg = {.type = BLX__GUEST_STATS_REPLY, .data = bytes, .data_len = sizeof bytes};
  uint64_t ns = 0;
  blx__guest_stats_write(&stats, bytes);
  ck_assert(blx__guest_stats_read(&msg, &again));
  ck_assert(again.uptime_ms == stats.uptime_ms && again.memory_kib == 93924 && again.available_kib == 70000);
  ck_assert(again.load_milli == 1250 && again.processes == 42);
  msg.data_len--;
  ck_assert(!blx__guest_stats_read(&msg, &again));
  blx__guest_clock_write(UINT64_C(1700000000123456789), bytes);
  ck_assert(blx__guest_clock_read(&msg, &ns) && ns == UINT64_C(1700000000123456789));
  msg.data_len = 7;
  ck_assert(!blx__guest_clock_read(&msg, &ns));
}
END_TEST

BLX_TEST_MAIN("vm/proto_guest", guest_frame__has_the_bytes_of_version_1,
              guest_reader__fed_byte_by_byte__gives_the_message_once,
              guest_reader__after_garbage_and_a_torn_frame__finds_the_next_one,
              guest_reader__absurd_length_or_wrong_check__is_skipped,
              guest_reader__unknown_type__is_dropped_and_control_bytes_are_masked,
              guest_reader__ten_million_random_bytes__never_leaves_its_bounds,
              guest_frame__of_version_2__has_a_check_of_its_head_and_a_crc,
              guest_messages__of_version_2__come_back_whole_from_single_bytes,
              guest_reader__version_2_with_a_byte_changed_anywhere__is_skipped_and_the_next_is_found,
              guest_reader__frames_swallowed_by_a_broken_one__are_all_given,
              version_1__hears_nothing_of_version_2_that_it_would_act_on,
              stats_and_clock__come_back_as_they_were_and_not_from_too_little)
