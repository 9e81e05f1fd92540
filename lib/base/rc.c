#include "base/rc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct err_row {
  const char *name;
  int code, retryable, exit_status;
  const char *text;
};

static const struct err_row err_rows[] = {
#define ROW(name, number, retryable, exit_status, grpc, text) {#name, number, retryable, exit_status, text},
    BLX_ERR_MAP(ROW)
#undef ROW
};

static const struct err_row *err_find(int code) {
  for (size_t i = 0; i < BLX__COUNT(err_rows); i++)
    if (err_rows[i].code == code) return &err_rows[i];
  return NULL;
}

const char *blx_error_name(int code) {
  const struct err_row *row = err_find(code);
  return code == 0 ? "OK" : row ? row->name : "UNKNOWN";
}

const char *blx_error_text(int code) {
  const struct err_row *row = err_find(code);
  return code == 0 ? "done" : row ? row->text : "an unknown error";
}

int blx_error_retryable(int code) {
  const struct err_row *row = err_find(code);
  return row ? row->retryable : 0;
}

int blx_error_exit_status(int code) {
  const struct err_row *row = err_find(code);
  return code >= 0 ? 0 : row ? row->exit_status : 1;
}

/* Bytes of the character at @s, of which @n are there; 0: it is none. RFC 3629: no overlong forms, no surrogates,
 * nothing above U+10FFFF; and no NUL. */
static size_t utf8_one(const uint8_t *s, size_t n) {
  uint8_t c = n > 0 ? s[0] : 0;
  if (c < 0x80) return c != 0;
  if (c < 0xc2 || c > 0xf4) return 0;
  size_t more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
  if (n <= more) return 0;
  uint32_t v = (uint32_t)(c & (0x3f >> more));
  for (size_t k = 1; k <= more; k++) {
    if ((s[k] & 0xc0) != 0x80) return 0;
    v = v << 6 | (s[k] & 0x3fu);
  }
  if (more == 2 && (v < 0x800 || (v >= 0xd800 && v < 0xe000))) return 0;
  if (more == 3 && (v < 0x10000 || v > 0x10ffff)) return 0;
  return more + 1;
}

/* A cut must not leave half a character behind. */
static void cut_at_character(char *s) {
  size_t n = strlen(s), back = 0;
  while (back < 3 && back < n && ((uint8_t)s[n - 1 - back] & 0xc0) == 0x80) back++;
  if (back == n || (uint8_t)s[n - 1 - back] < 0xc0) return;
  if (utf8_one((const uint8_t *)s + n - 1 - back, back + 1) == 0) s[n - 1 - back] = '\0';
}

void blx__utf8_mend(char *s) {
  size_t n = strlen(s);
  for (size_t i = 0, one; i < n; i += one ? one : 1) {
    one = utf8_one((const uint8_t *)s + i, n - i);
    if (one == 0) s[i] = '?';
  }
}

static void err_set(blx_error *err, int code, const char *origin, const char *fmt, va_list ap) {
  BLX__ASSERT(code < 0);
  if (!err) return;
  err->code = code;
  err->leader[0] = '\0';
  (void)blx__str_copy(err->origin, sizeof err->origin, origin);
  int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
  if (n < 0) err->message[0] = '\0';
  if (n >= (int)sizeof err->message) cut_at_character(err->message);
  /* What it quotes came from anywhere, and was perhaps cut by its format: unmended it could not be sent or stored. */
  blx__utf8_mend(err->message);
}

blx__rc blx__fail(blx_error *err, int code, const char *origin, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  err_set(err, code, origin, fmt, ap);
  va_end(ap);
  return (blx__rc){code};
}

static int code_of_errno(int errnum) {
  switch (errnum) {
  case ENOSPC:
  case EDQUOT: return BLX_E_NOSPACE;
  case ENOMEM: return BLX_E_NOMEM;
  case EACCES:
  case EPERM: return BLX_E_DENIED;
  case ENOENT: return BLX_E_NOT_FOUND;
  default: return BLX_E_IO;
  }
}

blx__rc blx__fail_errno(blx_error *err, int errnum, const char *origin, const char *fmt, ...) {
  int code = code_of_errno(errnum);
  va_list ap;
  va_start(ap, fmt);
  err_set(err, code, origin, fmt, ap);
  va_end(ap);
  if (err) {
    size_t used = strlen(err->message);
    char why[128];
    const char *text = strerror_r(errnum, why, sizeof why);
    (void)blx__str_format(err->message + used, sizeof err->message - used, ": %s", text);
  }
  return (blx__rc){code};
}

blx__rc blx__fail_as(blx_error *to, const blx_error *from) {
  BLX__ASSERT(from->code < 0);
  if (to) *to = *from;
  return (blx__rc){from->code};
}

void blx__assert_failed(const char *cond, const char *file, int line) {
  /* Kept in registers and on the stack for the core file; the library never prints. */
  volatile const char *what = cond, *where = file;
  volatile int at = line;
  (void)what;
  (void)where;
  (void)at;
  __builtin_trap();
}

bool blx__str_copy(char *dst, size_t dst_size, const char *src) {
  BLX__ASSERT(dst_size > 0);
  size_t n = strlen(src);
  bool fits = n < dst_size;
  if (!fits) n = dst_size - 1;
  memmove(dst, src, n);
  dst[n] = '\0';
  if (!fits) cut_at_character(dst);
  return fits;
}

bool blx__str_format(char *dst, size_t dst_size, const char *fmt, ...) {
  BLX__ASSERT(dst_size > 0);
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(dst, dst_size, fmt, ap);
  va_end(ap);
  bool fits = n >= 0 && (size_t)n < dst_size;
  if (!fits) cut_at_character(dst);
  return fits;
}

bool blx__str_eq(const char *a, const char *b) {
  if (!a || !b) return a == b;
  return strcmp(a, b) == 0;
}

bool blx__parse_u64(const char *text, uint64_t lo, uint64_t hi, uint64_t *out) {
  if (!text || *text < '0' || *text > '9') return false;
  errno = 0;
  char *end = NULL;
  unsigned long long v = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0' || v < lo || v > hi) return false;
  *out = v;
  return true;
}

bool blx__name_ok(const char *name, size_t max) {
  if (!name) return false;
  size_t n = strnlen(name, max + 1);
  if (n == 0 || n > max || name[0] == '-' || name[n - 1] == '-') return false;
  for (size_t i = 0; i < n; i++) {
    char c = name[i];
    bool ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    if (!ok) return false;
  }
  return true;
}

bool blx__utf8_ok(const void *bytes, size_t n) {
  const uint8_t *s = bytes;
  for (size_t i = 0, one; i < n; i += one) {
    one = utf8_one(s + i, n - i);
    if (one == 0) return false;
  }
  return true;
}
