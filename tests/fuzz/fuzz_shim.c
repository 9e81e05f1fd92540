/* What an agent hears from a shim and a shim from an agent, and the exit record on disk. In two pieces it reads as in
 * one; each message and record is written so that it reads the same. And what both say of a session. */
#include "fuzz.h"
#include "vm/proto_shim.h"

struct seen {
  size_t n;
  uint64_t sum;
  bool failed;
};

static bool equal(const struct blx__shim_msg *a, const struct blx__shim_msg *b) {
  return a->type == b->type && a->uid == b->uid && a->epoch == b->epoch && a->at_ms == b->at_ms &&
         a->deadline_ms == b->deadline_ms && a->vmm_pid == b->vmm_pid && a->exit_status == b->exit_status &&
         a->signal == b->signal && a->state == b->state && a->flags == b->flags && strcmp(a->text, b->text) == 0;
}

static void note(struct seen *s, const struct blx__shim_msg *m) {
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  struct blx__shim_reader r = {.len = 0};
  struct blx__shim_msg again;
  bool got = false;
  size_t taken;
  s->n++;
  s->sum = blx__mix64(s->sum ^ m->uid ^ m->epoch << 8 ^ (uint64_t)m->type << 56 ^ strlen(m->text));
  if (m->version != BLX__SHIM_VERSION) return;
  size_t n = blx__shim_write(m, frame);
  FUZZ_SHALL(n <= sizeof frame);
  FUZZ_SHALL(blx__shim_read(&r, frame, n, &taken, &got, &again, NULL).code == 0 && got && taken == n);
  FUZZ_SHALL(equal(m, &again));
}

static void feed(struct blx__shim_reader *r, const uint8_t *data, size_t n, struct seen *s) {
  while (n > 0 && !s->failed) {
    struct blx__shim_msg m;
    blx_error err;
    size_t taken = 0;
    bool got = false;
    s->failed = blx__shim_read(r, data, n, &taken, &got, &m, &err).code != 0;
    if (s->failed) return;
    FUZZ_SHALL(taken <= n && (got || taken == n));
    if (got) note(s, &m);
    data += taken;
    n -= taken;
  }
}

static void record(const uint8_t *data, size_t size) {
  struct blx__shim_msg m, again;
  blx_error err;
  if (blx__shim_record_read((struct blx__slice){data, size}, &m, &err).code != 0) return;
  struct blx__buf text;
  blx__buf_init(&text, BLX__SHIM_RECORD_MAX);
  FUZZ_SHALL(blx__shim_record_write(&m, &text));
  FUZZ_SHALL(blx__shim_record_read((struct blx__slice){text.data, text.len}, &again, &err).code == 0);
  FUZZ_SHALL(equal(&m, &again));
  blx__buf_free(&text);
}

/* Of a session: what is read is written so that it reads the same, and given just what the reader wants, it never holds
 * more than one frame. */
static void session(const uint8_t *data, size_t n) {
  static struct blx__session_reader r, second;
  static uint8_t frame[BLX__SESSION_FRAME_MAX];
  struct blx__session_msg m, again;
  char text[BLX__SESSION_TEXT_MAX + 1];
  r.len = second.len = 0;
  r.given = second.given = false;
  while (n > 0) {
    size_t want = blx__session_want(&r), taken;
    bool got = false;
    FUZZ_SHALL(want >= 1 && want <= sizeof frame);
    if (want > n) want = n;
    if (blx__session_read(&r, data, want, &taken, &got, &m, NULL).code != 0) return;
    FUZZ_SHALL(taken == want);
    data += taken;
    n -= taken;
    if (!got || m.type == BLX__SESSION_REFUSED) continue;
    blx__session_text(&m, text);
    FUZZ_SHALL(m.data_len <= BLX__SESSION_DATA_MAX && strlen(text) <= BLX__SESSION_TEXT_MAX);
    size_t k = blx__session_write(&m, frame);
    FUZZ_SHALL(blx__session_read(&second, frame, k, &taken, &got, &again, NULL).code == 0 && got && taken == k);
    FUZZ_SHALL(again.type == m.type && again.flags == m.flags && again.a == m.a && again.b == m.b && again.c == m.c);
    FUZZ_SHALL(again.uid == m.uid && again.epoch == m.epoch && again.data_len == m.data_len);
    FUZZ_SHALL(memcmp(again.data, m.data, m.data_len) == 0);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct blx__shim_reader one = {.len = 0}, two = {.len = 0};
  struct seen whole = {0}, cut = {0};
  size_t at = size ? data[size - 1] % size : 0;
  feed(&one, data, size, &whole);
  feed(&two, data, at, &cut);
  feed(&two, data + at, size - at, &cut);
  FUZZ_SHALL(whole.n == cut.n && whole.sum == cut.sum && whole.failed == cut.failed);
  record(data, size);
  session(data, size);
  return 0;
}

void fuzz_seeds(void) {
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  for (int type = BLX__SHIM_HELLO; type <= BLX__SHIM_PROTOCOL; type++) {
    struct blx__shim_msg m = {.type = (enum blx__shim_type)type,
                              .uid = 7,
                              .epoch = 2,
                              .at_ms = 1700000000000,
                              .vmm_pid = 4711,
                              .exit_status = -1,
                              .state = BLX__SHIM_RUNNING,
                              .text = "why"};
    fuzz_seed(frame, blx__shim_write(&m, frame));
  }
  struct blx__shim_msg end = {
      .type = BLX__SHIM_STATE, .uid = 7, .epoch = 2, .exit_status = 3, .state = BLX__SHIM_EXITED, .text = "status 3"};
  struct blx__buf text;
  blx__buf_init(&text, BLX__SHIM_RECORD_MAX);
  FUZZ_SHALL(blx__shim_record_write(&end, &text));
  fuzz_seed(text.data, text.len);
  blx__buf_free(&text);
  static const uint8_t words[] = "sh\0-c\0echo hi";
  static uint8_t session_frame[BLX__SESSION_FRAME_MAX];
  for (int type = BLX__SESSION_OPEN; type <= BLX__SESSION_END; type++) {
    struct blx__session_msg m = {
        .type = (enum blx__session_type)type, .uid = 7, .data = words, .data_len = sizeof words};
    fuzz_seed(session_frame, blx__session_write(&m, session_frame));
  }
}
