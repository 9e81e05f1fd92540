/* A growing byte buffer with a maximum set at birth (the idea of curl's dynbuf). Thread: one at a time. */
#ifndef BLX__BASE_BUF_H
#define BLX__BASE_BUF_H

#include "base/rc.h"

struct blx__buf {
  uint8_t *data;
  size_t len, cap, max;
};

/* A borrowed run of bytes. */
struct blx__slice {
  const uint8_t *data;
  size_t len;
};

/* @max 1..SIZE_MAX/4 bytes; nothing is allocated yet. */
void blx__buf_init(struct blx__buf *b, size_t max);
void blx__buf_free(struct blx__buf *b);
void blx__buf_clear(struct blx__buf *b);

/* False, and nothing added, when the maximum would be passed or memory is out. */
bool blx__buf_add(struct blx__buf *b, const void *data, size_t n) BLX__MUST;
bool blx__buf_add_str(struct blx__buf *b, const char *s) BLX__MUST;
bool blx__buf_add_byte(struct blx__buf *b, uint8_t byte) BLX__MUST;
bool blx__buf_addf(struct blx__buf *b, const char *fmt, ...) BLX__MUST BLX__PRINTF(2, 3);

/* Room for @n more bytes at data+len (the caller then raises len); false as above. */
bool blx__buf_reserve(struct blx__buf *b, size_t n) BLX__MUST;

/* Drop the first @n bytes. */
void blx__buf_consume(struct blx__buf *b, size_t n);

/* Terminated view of the content; NULL when there is no room for the NUL. The NUL is not counted in len. */
const char *blx__buf_cstr(struct blx__buf *b);

#endif
