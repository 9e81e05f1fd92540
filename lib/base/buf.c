#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAP_MIN = 256 };

void blx__buf_init(struct blx__buf *b, size_t max) {
  BLX__ASSERT(max > 0 && max <= SIZE_MAX / 4);
  *b = (struct blx__buf){.max = max};
}

void blx__buf_free(struct blx__buf *b) {
  free(b->data);
  b->data = NULL;
  b->len = b->cap = 0;
}

void blx__buf_clear(struct blx__buf *b) {
  b->len = 0;
}

/* One byte more than the maximum may be allocated, for the NUL of blx__buf_cstr. */
static bool grow_to(struct blx__buf *b, size_t need) {
  if (need <= b->cap) return true;
  size_t cap = b->cap ? b->cap : CAP_MIN;
  while (cap < need) cap *= 2;
  if (cap > b->max + 1) cap = b->max + 1;
  uint8_t *p = realloc(b->data, cap);
  if (!p) return false;
  b->data = p;
  b->cap = cap;
  return true;
}

bool blx__buf_reserve(struct blx__buf *b, size_t n) {
  BLX__ASSERT(b->max > 0 && b->len <= b->max);
  if (n > b->max - b->len) return false;
  return grow_to(b, b->len + n);
}

bool blx__buf_add(struct blx__buf *b, const void *data, size_t n) {
  if (!blx__buf_reserve(b, n)) return false;
  if (n) memcpy(b->data + b->len, data, n);
  b->len += n;
  return true;
}

bool blx__buf_add_str(struct blx__buf *b, const char *s) {
  return blx__buf_add(b, s, strlen(s));
}

bool blx__buf_add_byte(struct blx__buf *b, uint8_t byte) {
  return blx__buf_add(b, &byte, 1);
}

bool blx__buf_addf(struct blx__buf *b, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  bool ok = n >= 0 && (size_t)n <= b->max - b->len && grow_to(b, b->len + (size_t)n + 1);
  if (ok) {
    int wrote = vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
    BLX__ASSERT(wrote == n);
    b->len += (size_t)n;
  }
  va_end(again);
  return ok;
}

void blx__buf_consume(struct blx__buf *b, size_t n) {
  BLX__ASSERT(n <= b->len);
  if (n == 0) return;
  memmove(b->data, b->data + n, b->len - n);
  b->len -= n;
}

const char *blx__buf_cstr(struct blx__buf *b) {
  if (!grow_to(b, b->len + 1)) return NULL;
  b->data[b->len] = '\0';
  return (const char *)b->data;
}
