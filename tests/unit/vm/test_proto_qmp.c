#include "../harness.h"

#include "vm/proto_qmp.h"

#include <string.h>

static const char greeting[] = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, "
                               "\"capabilities\": [\"oob\"]}}\r\n";

static char letter(enum blx__qmp_kind kind) {
  switch (kind) {
  case BLX__QMP_GREETING: return 'g';
  case BLX__QMP_RETURN: return 'r';
  case BLX__QMP_ERROR: return 'f';
  case BLX__QMP_EVENT: return 'e';
  }
  return '?';
}

/* Feed all of @text in pieces of @step bytes; the kinds that came, as letters; 'x' ends it on an error. */
static void feed(struct blx__qmp_reader *r, const char *text, size_t len, size_t step, char *kinds, size_t size,
                 struct blx__qmp_msg *last, blx_error *err) {
  size_t n = 0;
  for (size_t at = 0; at < len;) {
    size_t piece = len - at < step ? len - at : step;
    for (size_t used = 0, taken = 0; used < piece; used += taken) {
      bool got = false;
      ck_assert_uint_lt(n + 1, size);
      if (blx__qmp_read(r, (const uint8_t *)text + at + used, piece - used, &taken, &got, last, err).code != 0) {
        kinds[n++] = 'x';
        kinds[n] = '\0';
        return;
      }
      if (got) kinds[n++] = letter(last->kind);
    }
    at += piece;
  }
  kinds[n] = '\0';
}

START_TEST(qmp__session__is_read_the_same_in_pieces_of_any_size) {
  char text[1024];
  ck_assert(blx__str_format(text, sizeof text, "%s%s", greeting,
                            "{\"return\": {}}\r\n"
                            "{\"return\": {\"status\": \"running\", \"singlestep\": false, \"running\": true}}\r\n"
                            "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such command\"}}\r\n"
                            "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"SHUTDOWN\", "
                            "\"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\r\n"));
  for (size_t step = 1; step < 200; step++) {
    struct blx__qmp_reader r;
    struct blx__qmp_msg m = {0};
    blx_error err;
    char kinds[16];
    blx__qmp_init(&r);
    feed(&r, text, strlen(text), step, kinds, sizeof kinds, &m, &err);
    ck_assert_str_eq(kinds, "grrfe");
    ck_assert_str_eq(m.name, "SHUTDOWN");
    ck_assert_str_eq(m.text, "guest-reset");
    blx__qmp_free(&r);
  }
}
END_TEST

static struct blx__qmp_msg answer(const char *line) {
  struct blx__qmp_reader r;
  struct blx__qmp_msg m = {0};
  blx_error err;
  char text[4096], kinds[16];
  ck_assert(blx__str_format(text, sizeof text, "%s%s\r\n", greeting, line));
  blx__qmp_init(&r);
  feed(&r, text, strlen(text), 4096, kinds, sizeof kinds, &m, &err);
  ck_assert_msg(kinds[0] == 'g' && (kinds[1] == 'r' || kinds[1] == 'f') && kinds[2] == '\0', "%s: %s", kinds, line);
  blx__qmp_free(&r);
  return m;
}

START_TEST(qmp__counters_of_balloon_and_disks__are_taken_and_added_up) {
  struct blx__qmp_msg m = answer("{\"return\": {\"actual\": 134217728}, \"id\": \"balloon\"}");
  ck_assert_str_eq(m.id, "balloon");
  ck_assert(m.counters.has_balloon && m.counters.balloon_bytes == 134217728 && !m.counters.has_read);
  m = answer("{\"id\": \"blocks\", \"return\": ["
             "{\"device\": \"a\", \"stats\": {\"rd_bytes\": 1000, \"wr_bytes\": 5, \"rd_operations\": 9},"
             " \"parent\": {\"stats\": {\"rd_bytes\": 77, \"wr_bytes\": 77}}},"
             "{\"device\": \"b\", \"stats\": {\"rd_bytes\": 24, \"wr_bytes\": 9223372036854775807}}]}");
  ck_assert_str_eq(m.id, "blocks");
  ck_assert(!m.counters.has_balloon && m.counters.has_read && m.counters.read_bytes == 1024);
  ck_assert(m.counters.has_written && m.counters.written_bytes == 9223372036854775812U);
  m = answer("{\"id\": \"balloon\", \"error\": {\"class\": \"DeviceNotActive\", \"desc\": \"No balloon\"}}");
  ck_assert_str_eq(m.id, "balloon");
  struct blx__qmp_msg none = answer("{\"return\": [], \"id\": \"blocks\"}"); /* a guest without disks */
  ck_assert(none.counters.has_read && none.counters.read_bytes == 0 && none.counters.has_written);
  ck_assert(m.kind == BLX__QMP_ERROR && !m.counters.has_balloon);
}
END_TEST

START_TEST(qmp__counters_that_are_no_numbers__are_absent) {
  static const char *const odd[] = {
      "{\"return\": {}, \"id\": \"balloon\"}",
      "{\"return\": {\"actual\": -1}, \"id\": \"balloon\"}",
      "{\"return\": {\"actual\": \"12\"}, \"id\": \"balloon\"}",
      "{\"return\": {\"actual\": 1.5}, \"id\": [1, 2]}",
      "{\"return\": [1, null, [], {}, {\"stats\": 3}, {\"stats\": {\"rd_bytes\": {}}}], \"id\": \"blocks\"}",
      "{\"return\": [{\"stats\": {\"rd_bytes\": -5, \"wr_bytes\": null}}], \"id\": 7}",
  };
  for (unsigned i = 0; i < BLX__COUNT(odd); i++) {
    struct blx__qmp_msg m = answer(odd[i]);
    ck_assert_msg(!m.counters.has_balloon && !m.counters.has_read && !m.counters.has_written, "%s", odd[i]);
  }
}
END_TEST

static void refused(const char *text, size_t len, const char *kinds_wanted, const char *words) {
  struct blx__qmp_reader r;
  struct blx__qmp_msg m = {0};
  blx_error err = {0};
  char kinds[16];
  blx__qmp_init(&r);
  feed(&r, text, len, 4096, kinds, sizeof kinds, &m, &err);
  ck_assert_str_eq(kinds, kinds_wanted);
  ck_assert_int_eq(err.code, BLX_E_VMM_PROTOCOL);
  ck_assert_msg(strstr(err.message, words), "%s", err.message);
  blx__qmp_free(&r);
}

START_TEST(qmp__garbage_half_json_or_no_greeting__is_a_breach_of_protocol) {
  const char *half = "{\"QMP\": {\r\n";
  const char *other = "[1, 2]\r\n";
  const char *early = "{\"return\": {}}\r\n";
  const char *odd = "{\"event\": 7}\r\n";
  const char nul[] = "\0\0\0\n";
  refused("SSH-2.0-x\r\n", 11, "x", "no JSON");
  refused(half, strlen(half), "x", "no JSON");
  refused(other, strlen(other), "x", "no message of QMP");
  refused(early, strlen(early), "x", "did not greet");
  refused(odd, strlen(odd), "x", "no message of QMP");
  refused(nul, sizeof nul - 1, "x", "no JSON");
}
END_TEST

START_TEST(qmp__endless_line__is_refused_before_it_is_kept) {
  struct blx__qmp_reader r;
  struct blx__qmp_msg m;
  blx_error err;
  uint8_t bytes[4096];
  size_t fed = 0;
  blx__rc rc = BLX__OK;
  memset(bytes, 'a', sizeof bytes);
  blx__qmp_init(&r);
  while (rc.code == 0 && fed < 1 << 20) {
    size_t taken;
    bool got;
    rc = blx__qmp_read(&r, bytes, sizeof bytes, &taken, &got, &m, &err);
    fed += sizeof bytes;
  }
  ck_assert_int_eq(rc.code, BLX_E_VMM_PROTOCOL);
  ck_assert_uint_le(r.line.cap, BLX__QMP_LINE_MAX + 1);
  ck_assert_uint_le(fed, BLX__QMP_LINE_MAX + sizeof bytes);
  blx__qmp_free(&r);
}
END_TEST

START_TEST(qmp__names_and_texts__are_cut_and_masked) {
  char text[2048], long_name[600];
  memset(long_name, 'N', sizeof long_name - 1);
  long_name[sizeof long_name - 1] = '\0';
  ck_assert(blx__str_format(text, sizeof text, "%s{\"event\": \"%s\", \"data\": {\"reason\": \"a\\u001b[31mb\\n\"}}\n",
                            greeting, long_name));
  struct blx__qmp_reader r;
  struct blx__qmp_msg m = {0};
  blx_error err;
  char kinds[16];
  blx__qmp_init(&r);
  feed(&r, text, strlen(text), 4096, kinds, sizeof kinds, &m, &err);
  ck_assert_str_eq(kinds, "ge");
  ck_assert_uint_eq(strlen(m.name), sizeof m.name - 1);
  ck_assert_str_eq(m.text, "a [31mb ");
  blx__qmp_free(&r);
}
END_TEST

START_TEST(qmp__a_session_with_any_byte_flipped__never_goes_wrong) {
  char text[512];
  ck_assert(blx__str_format(text, sizeof text, "%s%s", greeting,
                            "{\"return\": {\"status\": \"running\"}}\r\n{\"event\": \"RESET\", \"data\": {}}\r\n"));
  size_t len = strlen(text);
  for (size_t at = 0; at < len; at++) {
    for (unsigned bit = 0; bit < 8; bit++) {
      char kinds[64];
      struct blx__qmp_reader r;
      struct blx__qmp_msg m = {0};
      blx_error err;
      text[at] = (char)(text[at] ^ (1 << bit));
      blx__qmp_init(&r);
      feed(&r, text, len, 33, kinds, sizeof kinds, &m, &err);
      ck_assert_uint_le(strlen(kinds), 4);
      blx__qmp_free(&r);
      text[at] = (char)(text[at] ^ (1 << bit));
    }
  }
}
END_TEST

BLX_TEST_MAIN("vm/proto_qmp", qmp__session__is_read_the_same_in_pieces_of_any_size,
              qmp__counters_of_balloon_and_disks__are_taken_and_added_up, qmp__counters_that_are_no_numbers__are_absent,
              qmp__garbage_half_json_or_no_greeting__is_a_breach_of_protocol,
              qmp__endless_line__is_refused_before_it_is_kept, qmp__names_and_texts__are_cut_and_masked,
              qmp__a_session_with_any_byte_flipped__never_goes_wrong)
