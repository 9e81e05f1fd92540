/* Messages out of the bytes of a gRPC stream, in chunks whose size the first byte gives: what comes out does not depend
 * on the chunks. */
#include "fuzz.h"
#include "rpc/rpc_int.h"

struct seen {
  size_t n, bytes;
  uint64_t sum;
  int failed;
};

static void feed(const uint8_t *data, size_t n, size_t each, struct seen *s) {
  struct reader r;
  reader_init(&r);
  while (n > 0 && !s->failed) {
    size_t k = n < each ? n : each;
    struct blx__slice m;
    blx__rc rc = BLX__OK;
    blx_error err;
    FUZZ_SHALL(reader_begin(&r, data, k));
    while (reader_next(&r, &m, &rc, &err)) {
      s->n++;
      s->bytes += m.len;
      for (size_t i = 0; i < m.len; i++) s->sum = s->sum * 31 + m.data[i];
    }
    s->failed = rc.code;
    FUZZ_SHALL(reader_end(&r));
    data += k;
    n -= k;
  }
  reader_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct seen whole = {0}, cut = {0};
  if (size < 1) return 0;
  feed(data + 1, size - 1, size, &whole);
  feed(data + 1, size - 1, (size_t)data[0] + 1, &cut);
  FUZZ_SHALL(whole.n == cut.n && whole.bytes == cut.bytes && whole.sum == cut.sum && whole.failed == cut.failed);
  return 0;
}

void fuzz_seeds(void) {
  uint8_t bytes[64] = {6};
  size_t n = 1;
  for (size_t len = 0; len < 12; len += 5) {
    frame_head(bytes + n, len);
    memset(bytes + n + FRAME_HEAD_BYTES, (int)len, len);
    n += FRAME_HEAD_BYTES + len;
    fuzz_seed(bytes, n);
  }
}
