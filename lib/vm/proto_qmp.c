#include "vm/proto_qmp.h"

#include "schema/jsonval.h"

#include <string.h>

static const char origin[] = "vm/qmp";

void blx__qmp_init(struct blx__qmp_reader *r) {
  *r = (struct blx__qmp_reader){0};
  blx__buf_init(&r->line, BLX__QMP_LINE_MAX);
}

void blx__qmp_free(struct blx__qmp_reader *r) {
  blx__buf_free(&r->line);
}

/* A string of the monitor's, for our logs: cut to fit, control characters masked. */
static void take_text(char *out, size_t size, const struct blx__jsonval *value) {
  const char *s = value ? blx__jsonval_str(value) : NULL;
  (void)blx__str_copy(out, size, s ? s : "");
  for (char *c = out; *c; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
  size_t n = strlen(out);
  while (n > 0 && !blx__utf8_ok(out, n)) out[--n] = '\0';
}

/* A number of bytes: no monitor means a negative one. */
static bool bytes_at(const struct blx__jsonval *value, const char *path, uint64_t *out) {
  int64_t n = 0;
  if (!blx__jsonval_int(blx__jsonval_path(value, path), &n) || n < 0) return false;
  *out = (uint64_t)n;
  return true;
}

/* A balloon's answer is an object with "actual", the block devices' an array; no other command's has either. */
static void take_counters(struct blx__usage *u, const struct blx__jsonval *result) {
  u->has_balloon = bytes_at(result, "actual", &u->balloon_bytes);
  if (!blx__jsonval_is_array(result)) return;
  u->has_read = u->has_written = true;
  for (size_t i = 0; i < blx__jsonval_len(result); i++) {
    uint64_t n = 0;
    const struct blx__jsonval *device = blx__jsonval_at(result, i);
    if (!bytes_at(device, "stats.rd_bytes", &n) || __builtin_add_overflow(u->read_bytes, n, &u->read_bytes))
      u->has_read = false;
    if (!bytes_at(device, "stats.wr_bytes", &n) || __builtin_add_overflow(u->written_bytes, n, &u->written_bytes))
      u->has_written = false;
  }
}

static bool classify(const struct blx__jsonval *root, struct blx__qmp_msg *m) {
  const struct blx__jsonval *v;
  if (blx__jsonval_get(root, "QMP")) {
    m->kind = BLX__QMP_GREETING;
    return true;
  }
  if ((v = blx__jsonval_get(root, "event"))) {
    if (!blx__jsonval_str(v)) return false;
    m->kind = BLX__QMP_EVENT;
    take_text(m->name, sizeof m->name, v);
    const struct blx__jsonval *data = blx__jsonval_get(root, "data");
    const struct blx__jsonval *reason = data ? blx__jsonval_get(data, "reason") : NULL;
    if (data && !reason) reason = blx__jsonval_get(data, "action");
    take_text(m->text, sizeof m->text, reason);
    return true;
  }
  take_text(m->id, sizeof m->id, blx__jsonval_get(root, "id"));
  if ((v = blx__jsonval_get(root, "error"))) {
    m->kind = BLX__QMP_ERROR;
    take_text(m->name, sizeof m->name, blx__jsonval_get(v, "class"));
    take_text(m->text, sizeof m->text, blx__jsonval_get(v, "desc"));
    return true;
  }
  if ((v = blx__jsonval_get(root, "return"))) {
    m->kind = BLX__QMP_RETURN;
    take_text(m->text, sizeof m->text, blx__jsonval_get(v, "status"));
    take_counters(&m->counters, v);
    return true;
  }
  return false;
}

static blx__rc line_parse(struct blx__qmp_reader *r, struct blx__qmp_msg *msg, blx_error *err) {
  struct blx__jsonval *root = NULL;
  blx_error why;
  blx__rc rc = blx__jsonval_parse((struct blx__slice){r->line.data, r->line.len}, &root, &why);
  if (rc.code == BLX_E_NOMEM) return blx__fail_as(err, &why);
  if (rc.code != 0)
    return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "the monitor sent a line of %zu bytes that is no JSON: %s",
                     r->line.len, why.message);
  struct blx__qmp_msg m = {0};
  bool known = classify(root, &m);
  blx__jsonval_free(root);
  if (!known)
    return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "the monitor sent a line of %zu bytes that is no message of QMP",
                     r->line.len);
  if (!r->greeted && m.kind != BLX__QMP_GREETING)
    return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "the monitor did not greet first");
  r->greeted = true;
  *msg = m;
  return BLX__OK;
}

blx__rc blx__qmp_read(struct blx__qmp_reader *r, const uint8_t *data, size_t n, size_t *taken, bool *got,
                      struct blx__qmp_msg *msg, blx_error *err) {
  *taken = 0;
  *got = false;
  while (*taken < n) {
    const uint8_t *from = data + *taken;
    const uint8_t *end = memchr(from, '\n', n - *taken);
    size_t len = end ? (size_t)(end - from) : n - *taken;
    if (len > r->line.max - r->line.len)
      return blx__fail(err, BLX_E_VMM_PROTOCOL, origin, "the monitor sent a line of more than %d bytes",
                       BLX__QMP_LINE_MAX);
    if (!blx__buf_add(&r->line, from, len))
      return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a monitor's line");
    *taken += len + (end ? 1 : 0);
    if (!end) return BLX__OK;
    while (r->line.len > 0 && r->line.data[r->line.len - 1] == '\r') r->line.len--;
    if (r->line.len == 0) continue;
    blx__rc rc = line_parse(r, msg, err);
    blx__buf_clear(&r->line);
    *got = rc.code == 0;
    return rc;
  }
  return BLX__OK;
}
