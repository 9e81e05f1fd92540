/* What a shim hears from its guest. In two pieces it reads as in one, and each message is written so that it reads the
 * same. */
#include "fuzz.h"
#include "vm/proto_guest.h"

struct seen {
  size_t n;
  uint64_t sum;
};

static void note(struct seen *s, const struct blx__guest_msg *m) {
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  struct blx__guest_reader r = {.len = 0};
  struct blx__guest_msg again;
  size_t taken, n = blx__guest_write(m, frame);
  FUZZ_SHALL(n <= sizeof frame && strlen(m->text) < sizeof m->text);
  FUZZ_SHALL(blx__guest_read(&r, frame, n, &taken, &again) && taken == n);
  FUZZ_SHALL(again.type == m->type && again.value == m->value && strcmp(again.text, m->text) == 0);
  FUZZ_SHALL(again.session == m->session && again.arg == m->arg && again.data_len == m->data_len);
  FUZZ_SHALL(m->data_len <= BLX__GUEST_DATA_MAX && memcmp(again.data, m->data, m->data_len) == 0);
  struct blx__guest_stats stats;
  uint64_t ns;
  FUZZ_SHALL(blx__guest_stats_read(m, &stats) == (m->data_len >= BLX__GUEST_STATS_BYTES));
  FUZZ_SHALL(blx__guest_clock_read(m, &ns) == (m->data_len >= 8));
  s->n++;
  s->sum = blx__mix64(s->sum ^ m->value ^ (uint64_t)m->type << 56 ^ strlen(m->text) ^ m->session ^ m->arg ^
                      m->data_len << 32);
}

static void feed(struct blx__guest_reader *r, const uint8_t *data, size_t n, struct seen *s) {
  for (bool got = true; got;) {
    struct blx__guest_msg m;
    size_t taken = 0;
    got = blx__guest_read(r, data, n, &taken, &m);
    FUZZ_SHALL(taken <= n && (got || taken == n));
    if (got) note(s, &m);
    data += taken;
    n -= taken;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct blx__guest_reader one = {.len = 0}, two = {.len = 0};
  struct seen whole = {0}, cut = {0};
  size_t at = size ? data[0] % size : 0;
  feed(&one, data, size, &whole);
  feed(&two, data, at, &cut);
  feed(&two, data + at, size - at, &cut);
  FUZZ_SHALL(whole.n == cut.n && whole.sum == cut.sum && one.skipped_bytes == two.skipped_bytes);
  return 0;
}

/* What an honest guest would not send: an end twice, of a session that never was; statistics cut short; a length that
 * is too large, and one that is not there; a frame within another. */
static void lies(void) {
  static const uint8_t half[BLX__GUEST_STATS_BYTES / 2] = {0xff};
  uint8_t all[4 * BLX__GUEST_FRAME_MAX];
  struct blx__guest_msg end = {.type = BLX__GUEST_EXEC_EXIT, .session = UINT32_MAX, .arg = 7 << 16};
  struct blx__guest_msg stats = {.type = BLX__GUEST_STATS_REPLY, .session = 1, .data = half, .data_len = sizeof half};
  struct blx__guest_msg credit = {.type = BLX__GUEST_EXEC_CREDIT, .session = 3, .arg = UINT32_MAX};
  size_t n = blx__guest_write(&end, all);
  n += blx__guest_write(&end, all + n);
  n += blx__guest_write(&stats, all + n);
  n += blx__guest_write(&credit, all + n);
  fuzz_seed(all, n);
  size_t k = blx__guest_write(&end, all);
  all[4] = all[5] = 0xff;
  fuzz_seed(all, k);
  all[4] = all[5] = 0;
  fuzz_seed(all, k);
  uint8_t inner[BLX__GUEST_FRAME_MAX];
  const struct blx__guest_msg outer = {
      .type = BLX__GUEST_EXEC_OUT, .session = 3, .data = inner, .data_len = blx__guest_write(&credit, inner)};
  n = blx__guest_write(&outer, all);
  fuzz_seed(all, n);
  all[n - 1] ^= 1; /* its check is wrong: what is inside is a frame then */
  fuzz_seed(all, n);
}

void fuzz_seeds(void) {
  static const uint8_t data[] = "\1sh\0-c\0echo hi, said the guest to whoever would read it";
  uint8_t all[4 * BLX__GUEST_FRAME_MAX];
  size_t n = 0;
  for (int type = BLX__GUEST_HELLO; type <= BLX__GUEST_STATS_REPLY; type++) {
    if (type > BLX__GUEST_STOPPING && type < BLX__GUEST_EXEC) continue;
    struct blx__guest_msg m = {.type = (enum blx__guest_type)type, .value = 1, .text = "web-1"};
    m.session = 3;
    m.data = data;
    m.data_len = sizeof data;
    size_t k = blx__guest_write(&m, all + n);
    fuzz_seed(all + n, k);
    n += k;
    FUZZ_SHALL(n + BLX__GUEST_FRAME_MAX <= sizeof all);
  }
  fuzz_seed(all, n);
  lies();
}
