#include "../harness.h"

#include "base/digest.h"
#include "rpc/rpc_int.h"

/* Feed @n bytes in pieces of 1..piece_max; counts messages and checks that message i has i bytes of value i. */
static size_t feed(struct reader *r, const uint8_t *p, size_t n, size_t piece_max, uint64_t seed, blx__rc *rc) {
  size_t seen = 0;
  while (n > 0) {
    seed = blx__mix64(seed);
    size_t k = 1 + seed % piece_max;
    if (k > n) k = n;
    struct blx__slice m;
    ck_assert(reader_begin(r, p, k));
    while (reader_next(r, &m, rc, NULL)) {
      ck_assert_uint_eq(m.len, seen);
      for (size_t i = 0; i < m.len; i++) ck_assert_uint_eq(m.data[i], (uint8_t)seen);
      seen++;
    }
    ck_assert(reader_end(r));
    if (rc->code != 0) return seen;
    p += k;
    n -= k;
  }
  return seen;
}

START_TEST(messages__are_found_whatever_the_pieces) {
  enum { MESSAGES = 300 };
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  for (size_t i = 0; i < MESSAGES; i++) {
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head(head, i);
    ck_assert(blx__buf_add(&b, head, sizeof head));
    for (size_t k = 0; k < i; k++) ck_assert(blx__buf_add_byte(&b, (uint8_t)i));
  }
  for (size_t piece = 1; piece < 2000; piece += piece < 20 ? 1 : 97) {
    struct reader r;
    blx__rc rc = BLX__OK;
    reader_init(&r);
    ck_assert_uint_eq(feed(&r, b.data, b.len, piece, piece, &rc), MESSAGES);
    ck_assert(!reader_is_partial(&r));
    ck_assert_uint_eq(feed(&r, b.data, 3, piece, piece, &rc), 0);
    ck_assert(reader_is_partial(&r));
    reader_free(&r);
  }
  blx__buf_free(&b);
}
END_TEST

START_TEST(head__that_is_compressed_or_too_long_is_refused_before_its_bytes_come) {
  const struct {
    uint8_t head[5];
    int code;
  } cases[] = {{{1, 0, 0, 0, 1}, BLX_E_UNSUPPORTED},
               {{0, 0xff, 0xff, 0xff, 0xff}, BLX_E_INVALID},
               {{0, 0, 0x40, 0, 1}, BLX_E_INVALID},
               {{0, 0, 0x40, 0, 0}, 0}};
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    struct reader r;
    blx__rc rc = BLX__OK;
    reader_init(&r);
    ck_assert_uint_eq(feed(&r, cases[i].head, 5, 5, 1, &rc), 0);
    ck_assert_int_eq(rc.code, cases[i].code);
    ck_assert_uint_le(r.kept.cap, 256);
    reader_free(&r);
  }
}
END_TEST

START_TEST(timeout__is_read_in_every_unit_and_written_so_that_it_reads_back) {
  const struct {
    const char *text;
    uint64_t ms;
    bool ok;
  } cases[] = {{"1H", 3600000, true},    {"2M", 120000, true}, {"3S", 3000, true}, {"4m", 4, true},
               {"5001u", 6, true},       {"1n", 1, true},      {"0S", 0, true},    {"99999999H", 31536000000, true},
               {"", 0, false},           {"S", 0, false},      {"1", 0, false},    {"-1S", 0, false},
               {"123456789S", 0, false}, {"1x", 0, false}};
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    uint64_t ms = 0;
    ck_assert(timeout_parse((const uint8_t *)cases[i].text, strlen(cases[i].text), &ms) == cases[i].ok);
    if (cases[i].ok) ck_assert_uint_eq(ms, cases[i].ms);
  }
  const uint64_t values[] = {1, 99999999, 100000000, 31536000000};
  for (size_t i = 0; i < BLX__COUNT(values); i++) {
    char text[TIMEOUT_TEXT_BYTES];
    uint64_t ms = 0;
    timeout_format(values[i], text);
    ck_assert(timeout_parse((const uint8_t *)text, strlen(text), &ms));
    ck_assert_uint_eq(ms, values[i]);
  }
}
END_TEST

START_TEST(error__of_every_code_survives_its_header_fields) {
#define CODE(name, number, retryable, exit_status, grpc, text) {BLX_E_##name, grpc},
  static const struct { int code, grpc; } codes[] = {BLX_ERR_MAP(CODE)};
  for (size_t i = 0; i < BLX__COUNT(codes); i++) {
    blx_error err = {0};
    (void)blx__fail(&err, codes[i].code, "o", "100%% \xe2\x82\xac\n\x7f");
    struct status_fields f;
    status_fields(&f, &err);
    struct status_seen s = {.status = -1};
    for (size_t k = 0; k < f.count; k++) {
      for (size_t j = 0; j < f.nv[k].valuelen; j++) ck_assert(f.nv[k].value[j] >= 0x20 && f.nv[k].value[j] < 0x7f);
      status_seen(&s, f.nv[k].name, f.nv[k].namelen, f.nv[k].value, f.nv[k].valuelen);
    }
    ck_assert_int_eq(s.status, codes[i].grpc);
    ck_assert_int_eq(s.err.code, err.code);
    ck_assert_str_eq(s.err.message, err.message);
    ck_assert_int_lt(code_of_grpc(s.status), 0);
  }
}
END_TEST

START_TEST(decoded_text__is_utf8_and_fits_whatever_comes) {
  char out[32];
  uint8_t in[64];
  for (uint64_t seed = 0; seed < 20000; seed++) {
    uint64_t x = seed;
    size_t n = seed % sizeof in;
    for (size_t i = 0; i < n; i++) {
      x = blx__mix64(x + i);
      in[i] = x % 3 == 0 ? '%' : (uint8_t)(x >> 8);
    }
    percent_decode(in, n, out, sizeof out);
    ck_assert(blx__utf8_ok(out, strlen(out)));
  }
  percent_decode((const uint8_t *)"%e2%82%ac%", 10, out, sizeof out);
  ck_assert_str_eq(out, "\xe2\x82\xac%");
  percent_decode((const uint8_t *)"ab%c3%a4", 8, out, 4);
  ck_assert_str_eq(out, "ab");
}
END_TEST

BLX_TEST_MAIN("rpc/wire", messages__are_found_whatever_the_pieces,
              head__that_is_compressed_or_too_long_is_refused_before_its_bytes_come,
              timeout__is_read_in_every_unit_and_written_so_that_it_reads_back,
              error__of_every_code_survives_its_header_fields, decoded_text__is_utf8_and_fits_whatever_comes)
