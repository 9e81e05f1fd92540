#include "../harness.h"

#include "vm/proto_shim.h"

#include <string.h>

static const struct blx__shim_msg sample = {.type = BLX__SHIM_STATE,
                                            .uid = UINT64_C(0x0102030405060708),
                                            .epoch = 9,
                                            .at_ms = 1700000000123,
                                            .deadline_ms = 30000,
                                            .vmm_pid = 4711,
                                            .exit_status = -1,
                                            .signal = 9,
                                            .state = BLX__SHIM_EXITED,
                                            .flags = BLX__SHIM_STOPPING | BLX__SHIM_DEADLINED,
                                            .text = "it was killed"};

START_TEST(shim_message__comes_back_whole_from_single_bytes) {
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  size_t n = blx__shim_write(&sample, frame);
  ck_assert_uint_eq(n, 4 + BLX__SHIM_FIXED_BYTES + strlen(sample.text));
  ck_assert_uint_eq(frame[4], BLX__SHIM_STATE);
  ck_assert_uint_eq(frame[5], 1);
  ck_assert_uint_eq(frame[6], 8); /* uid, little-endian */
  struct blx__shim_reader r = {0};
  struct blx__shim_msg m = {0};
  bool got = false;
  for (size_t i = 0; i < n; i++) {
    size_t taken;
    ck_assert(!got);
    ck_assert_int_eq(blx__shim_read(&r, frame + i, 1, &taken, &got, &m, NULL).code, 0);
    ck_assert_uint_eq(taken, 1);
  }
  ck_assert(got);
  ck_assert(m.uid == sample.uid && m.epoch == 9 && m.at_ms == sample.at_ms && m.deadline_ms == 30000);
  ck_assert(m.vmm_pid == 4711 && m.exit_status == -1 && m.signal == 9 && m.flags == sample.flags);
  ck_assert_int_eq(m.state, BLX__SHIM_EXITED);
  ck_assert_str_eq(m.text, sample.text);
}
END_TEST

START_TEST(shim_message__absurd_length_type_or_state__is_refused) {
  const uint8_t huge[] = {0xff, 0xff, 0xff, 0x7f, 1}, small[] = {1, 0, 0, 0, 1};
  struct blx__shim_msg m, odd = sample;
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  size_t taken;
  bool got;
  blx_error err;
  struct blx__shim_reader r = {0};
  ck_assert_int_eq(blx__shim_read(&r, huge, sizeof huge, &taken, &got, &m, &err).code, BLX_E_VMM_PROTOCOL);
  r = (struct blx__shim_reader){0};
  ck_assert_int_eq(blx__shim_read(&r, small, sizeof small, &taken, &got, &m, &err).code, BLX_E_VMM_PROTOCOL);
  odd.type = (enum blx__shim_type)(BLX__SHIM_COUNTERS + 1);
  r = (struct blx__shim_reader){0};
  ck_assert_int_eq(blx__shim_read(&r, frame, blx__shim_write(&odd, frame), &taken, &got, &m, &err).code,
                   BLX_E_VMM_PROTOCOL);
  odd = sample;
  odd.state = (enum blx__shim_state)77;
  r = (struct blx__shim_reader){0};
  ck_assert_int_eq(blx__shim_read(&r, frame, blx__shim_write(&odd, frame), &taken, &got, &m, &err).code,
                   BLX_E_VMM_PROTOCOL);
}
END_TEST

START_TEST(shim_message__of_a_later_version_with_more_or_less__tells_type_and_version) {
  const uint8_t shorter[] = {2, 0, 0, 0, BLX__SHIM_HELLO, 9};
  struct blx__shim_reader r = {0};
  struct blx__shim_msg m;
  size_t taken;
  bool got;
  ck_assert_int_eq(blx__shim_read(&r, shorter, sizeof shorter, &taken, &got, &m, NULL).code, 0);
  ck_assert(got);
  ck_assert_int_eq(m.type, BLX__SHIM_HELLO);
  ck_assert_uint_eq(m.version, 9);
}
END_TEST

START_TEST(shim_reader__random_bytes__stays_in_its_bounds) {
  struct blx__shim_reader r = {0};
  uint64_t x = 7;
  for (int i = 0; i < 200000; i++) {
    uint8_t bytes[32];
    for (unsigned k = 0; k < sizeof bytes; k++) {
      x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
      bytes[k] = (uint8_t)((x >> 33) % 3 == 0 ? x >> 40 : 0);
    }
    for (size_t at = 0, taken = 0; at < sizeof bytes; at += taken) {
      struct blx__shim_msg m;
      bool got;
      if (blx__shim_read(&r, bytes + at, sizeof bytes - at, &taken, &got, &m, NULL).code != 0) {
        r = (struct blx__shim_reader){0};
        break;
      }
      ck_assert_uint_le(r.len, sizeof r.frame);
    }
  }
}
END_TEST

START_TEST(exit_record__written_and_read__says_the_same_in_one_line_of_text) {
  struct blx__buf b;
  struct blx__shim_msg m, odd = sample;
  blx__buf_init(&b, BLX__SHIM_RECORD_MAX);
  odd.uid = 17;
  ck_assert(blx__shim_record_write(&odd, &b));
  ck_assert_int_eq(blx__shim_record_read((struct blx__slice){b.data, b.len}, &m, NULL).code, 0);
  ck_assert(m.uid == 17 && m.epoch == 9 && m.exit_status == -1 && m.signal == 9 && m.flags == sample.flags);
  ck_assert_int_eq(m.state, BLX__SHIM_EXITED);
  ck_assert_str_eq(m.text, sample.text);
  /* Cut anywhere, or with a byte changed: refused or read, never beyond its bounds. */
  for (size_t n = 0; n + strlen(sample.text) + 2 < b.len; n++) {
    blx_error err;
    ck_assert_int_eq(blx__shim_record_read((struct blx__slice){b.data, n}, &m, &err).code, BLX_E_CORRUPT);
  }
  for (size_t i = 0; i < b.len; i++) {
    b.data[i] ^= 0x20;
    (void)(blx__shim_record_read((struct blx__slice){b.data, b.len}, &m, NULL).code == 0);
    b.data[i] ^= 0x20;
  }
  blx__buf_free(&b);
}
END_TEST

BLX_TEST_MAIN("vm/proto_shim", shim_message__comes_back_whole_from_single_bytes,
              shim_message__absurd_length_type_or_state__is_refused,
              shim_message__of_a_later_version_with_more_or_less__tells_type_and_version,
              shim_reader__random_bytes__stays_in_its_bounds,
              exit_record__written_and_read__says_the_same_in_one_line_of_text)
