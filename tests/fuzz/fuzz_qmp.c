/* What a virtual machine monitor says. In two pieces it reads as in one. */
#include "fuzz.h"
#include "vm/proto_qmp.h"

struct seen {
  size_t n;
  uint64_t sum;
  bool failed;
};

static void feed(struct blx__qmp_reader *r, const uint8_t *data, size_t n, struct seen *s) {
  while (n > 0 && !s->failed) {
    struct blx__qmp_msg m;
    blx_error err;
    size_t taken = 0;
    bool got = false;
    s->failed = blx__qmp_read(r, data, n, &taken, &got, &m, &err).code != 0;
    if (s->failed) return;
    FUZZ_SHALL(taken <= n && (got || taken == n));
    if (got) {
      FUZZ_SHALL(memchr(m.name, 0, sizeof m.name) && memchr(m.text, 0, sizeof m.text));
      s->n++;
      s->sum = blx__mix64(s->sum ^ (uint64_t)m.kind << 32 ^ strlen(m.name) << 16 ^ strlen(m.text));
    }
    data += taken;
    n -= taken;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct blx__qmp_reader one, two;
  struct seen whole = {0}, cut = {0};
  size_t at = size ? data[size - 1] % size : 0;
  blx__qmp_init(&one);
  blx__qmp_init(&two);
  feed(&one, data, size, &whole);
  feed(&two, data, at, &cut);
  feed(&two, data + at, size - at, &cut);
  FUZZ_SHALL(whole.n == cut.n && whole.sum == cut.sum && whole.failed == cut.failed);
  blx__qmp_free(&one);
  blx__qmp_free(&two);
  return 0;
}

void fuzz_seeds(void) {
  static const char greeting[] = "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":2,\"major\":7}},"
                                 "\"capabilities\":[\"oob\"]}}\r\n";
  static const char shutdown[] = "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"SHUTDOWN\","
                                 "\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}}\r\n";
  const char *const rest[] = {
      "{\"return\":{}}\r\n",
      "{\"return\":{\"status\":\"running\",\"running\":true},\"id\":1}\r\n",
      "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\r\n",
      shutdown,
      "{\"event\":\"GUEST_PANICKED\",\"data\":{\"action\":\"pause\"}}\r\n",
  };
  char text[1024];
  fuzz_seed(greeting, sizeof greeting - 1);
  for (size_t i = 0; i < BLX__COUNT(rest); i++) {
    FUZZ_SHALL(blx__str_format(text, sizeof text, "%s%s", greeting, rest[i]));
    fuzz_seed(text, strlen(text));
  }
}
