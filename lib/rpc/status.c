#include "rpc/rpc_int.h"

struct row {
  int code, grpc;
  const char *name;
};

static const struct row rows[] = {
#define ROW(name, number, retryable, exit_status, grpc, text) {number, grpc, #name},
    BLX_ERR_MAP(ROW)
#undef ROW
};

int grpc_of_code(int code) {
  if (code == 0) return 0;
  for (size_t i = 0; i < BLX__COUNT(rows); i++)
    if (rows[i].code == code) return rows[i].grpc;
  return 2;
}

/* Of a server that sends no code of ours. Several codes share a status, so this picks the plainest. */
int code_of_grpc(int status) {
  static const int codes[] = {0,
                              BLX_E_CANCELLED,
                              BLX_E_INTERNAL,
                              BLX_E_INVALID,
                              BLX_E_TIMEOUT,
                              BLX_E_NOT_FOUND,
                              BLX_E_EXISTS,
                              BLX_E_DENIED,
                              BLX_E_BUSY,
                              BLX_E_CONFLICT,
                              BLX_E_CONFLICT,
                              BLX_E_STALE,
                              BLX_E_UNSUPPORTED,
                              BLX_E_INTERNAL,
                              BLX_E_UNAVAILABLE,
                              BLX_E_CORRUPT,
                              BLX_E_DENIED};
  if (status < 0 || (size_t)status >= BLX__COUNT(codes)) return BLX_E_INTERNAL;
  return codes[status];
}

int code_of_name(const uint8_t *name, size_t n) {
  for (size_t i = 0; i < BLX__COUNT(rows); i++)
    if (bytes_are(name, n, rows[i].name)) return rows[i].code;
  return 0;
}

size_t percent_encode(const char *text, char *out, size_t out_size) {
  static const char hex[] = "0123456789ABCDEF";
  size_t n = 0;
  for (const char *p = text; *p && n + 3 <= out_size; p++) {
    unsigned char c = (unsigned char)*p;
    if (c >= 0x20 && c <= 0x7e && c != '%') {
      out[n++] = (char)c;
      continue;
    }
    out[n++] = '%';
    out[n++] = hex[c >> 4];
    out[n++] = hex[c & 15];
  }
  return n;
}

static int hex_value(uint8_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

void percent_decode(const uint8_t *p, size_t n, char *out, size_t out_size) {
  BLX__ASSERT(out_size > 0);
  size_t len = 0, i = 0;
  for (; i < n && len + 1 < out_size; i++) {
    uint8_t c = p[i];
    if (c == '%' && n - i > 2 && hex_value(p[i + 1]) >= 0 && hex_value(p[i + 2]) >= 0) {
      c = (uint8_t)(hex_value(p[i + 1]) << 4 | hex_value(p[i + 2]));
      i += 2;
    }
    out[len++] = c ? (char)c : '?';
  }
  out[len] = '\0';
  /* The cut may have split a character: at most three bytes of it are left. */
  for (int k = 0; i < n && k < 3 && len > 0 && !blx__utf8_ok(out, len); k++) out[--len] = '\0';
  if (blx__utf8_ok(out, len)) return;
  for (char *c = out; *c; c++)
    if ((unsigned char)*c >= 0x80) *c = '?';
}

void blx__rpc_text_encode(const char *text, char *out, size_t out_size) {
  BLX__ASSERT(out_size > 0);
  out[percent_encode(text, out, out_size - 1)] = '\0';
}

void blx__rpc_text_decode(const char *value, char *out, size_t out_size) {
  percent_decode((const uint8_t *)value, strlen(value), out, out_size);
}

bool timeout_parse(const uint8_t *p, size_t n, uint64_t *ms) {
  const uint64_t year_ms = UINT64_C(365) * 24 * 3600 * 1000;
  if (n < 2 || n > 9) return false;
  uint64_t v = 0;
  for (size_t i = 0; i + 1 < n; i++) {
    if (p[i] < '0' || p[i] > '9') return false;
    v = v * 10 + (uint64_t)(p[i] - '0');
  }
  switch (p[n - 1]) {
  case 'H': v *= 3600 * 1000; break;
  case 'M': v *= 60 * 1000; break;
  case 'S': v *= 1000; break;
  case 'm': break;
  case 'u': v = (v + 999) / 1000; break;
  case 'n': v = (v + 999999) / 1000000; break;
  default: return false;
  }
  *ms = v < year_ms ? v : year_ms;
  return true;
}

/* At most eight digits are allowed. */
void timeout_format(uint64_t ms, char out[TIMEOUT_TEXT_BYTES]) {
  bool in_ms = ms <= 99999999;
  uint64_t v = in_ms ? ms : ms / 1000;
  if (v > 99999999) v = 99999999;
  (void)blx__str_format(out, TIMEOUT_TEXT_BYTES, "%llu%c", (unsigned long long)v, in_ms ? 'm' : 'S');
}

void status_fields(struct status_fields *f, const blx_error *err) {
  f->count = 0;
  (void)blx__str_format(f->status, sizeof f->status, "%d", err ? grpc_of_code(err->code) : 0);
  f->nv[f->count++] = nv_of("grpc-status", f->status, strlen(f->status));
  if (!err) return;
  f->nv[f->count++] = nv_of("grpc-message", f->message, percent_encode(err->message, f->message, sizeof f->message));
  const char *name = blx_error_name(err->code);
  f->nv[f->count++] = nv_of("blixard-code", name, strlen(name));
  if (err->origin[0])
    f->nv[f->count++] = nv_of("blixard-origin", f->origin, percent_encode(err->origin, f->origin, sizeof f->origin));
  if (err->leader[0])
    f->nv[f->count++] = nv_of("blixard-leader", f->leader, percent_encode(err->leader, f->leader, sizeof f->leader));
}

void status_seen(struct status_seen *s, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len) {
  if (bytes_are(name, name_len, "grpc-status")) {
    char text[STATUS_TEXT_BYTES] = "";
    uint64_t v = 2;
    if (value_len < sizeof text) memcpy(text, value, value_len);
    (void)blx__parse_u64(text, 0, 1000, &v);
    s->status = (int)v;
  } else if (bytes_are(name, name_len, "grpc-message")) {
    percent_decode(value, value_len, s->err.message, sizeof s->err.message);
  } else if (bytes_are(name, name_len, "blixard-code")) {
    s->err.code = code_of_name(value, value_len);
    s->has_code = s->err.code != 0;
  } else if (bytes_are(name, name_len, "blixard-origin")) {
    percent_decode(value, value_len, s->err.origin, sizeof s->err.origin);
  } else if (bytes_are(name, name_len, "blixard-leader")) {
    percent_decode(value, value_len, s->err.leader, sizeof s->err.leader);
  }
}

bool is_grpc_type(const uint8_t *value, size_t n) {
  static const char type[] = "application/grpc";
  const size_t len = sizeof type - 1;
  return n >= len && memcmp(value, type, len) == 0 && (n == len || value[len] == '+' || value[len] == ';');
}
