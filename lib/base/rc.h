/* Result codes inside the library, assertions and small helpers. Thread: any. */
#ifndef BLX__BASE_RC_H
#define BLX__BASE_RC_H

#include <blixard/error.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLX__MUST __attribute__((warn_unused_result))
#define BLX__PRINTF(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))
#define BLX__COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BLX__CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* 0 or a BLX_E_* code. A struct, so that a count is never taken for an error. */
typedef struct blx__rc {
  int code;
} blx__rc;

#define BLX__OK ((blx__rc){0})

/* Fill @err (may be NULL) and return @code as a result. @origin and @fmt: static strings. The message is cut at 511
 * bytes, at a character, and is UTF-8 whatever it quotes. */
blx__rc blx__fail(blx_error *err, int code, const char *origin, const char *fmt, ...) BLX__PRINTF(4, 5);

/* Same, "SENTENCE: strerror(@errnum)", code NOSPACE for ENOSPC, NOMEM for ENOMEM, DENIED for EACCES and EPERM,
 * NOT_FOUND for ENOENT, else IO. */
blx__rc blx__fail_errno(blx_error *err, int errnum, const char *origin, const char *fmt, ...) BLX__PRINTF(4, 5);

/* Copy @from to @to unless @to is NULL. Returns from->code as a result. */
blx__rc blx__fail_as(blx_error *to, const blx_error *from);

/* Return from the calling function, which returns blx__rc, when @expr failed. */
#define BLX__TRY(expr)                     \
  do {                                     \
    blx__rc try_rc_ = (expr);              \
    if (try_rc_.code != 0) return try_rc_; \
  } while (0)

/* A condition that only a bug in this library can break. It traps: going on would act on a broken invariant. */
#define BLX__ASSERT(cond)                                                            \
  do {                                                                               \
    if (__builtin_expect(!(cond), 0)) blx__assert_failed(#cond, __FILE__, __LINE__); \
  } while (0)
__attribute__((noreturn)) void blx__assert_failed(const char *cond, const char *file, int line);

/* Copy @src into @dst of @dst_size bytes (>= 1), always terminated. False if it did not fit (it is cut, at a
 * character).
 */
bool blx__str_copy(char *dst, size_t dst_size, const char *src);

/* snprintf that tells: false if the text did not fit (it is cut, at a character, and terminated). */
bool blx__str_format(char *dst, size_t dst_size, const char *fmt, ...) BLX__PRINTF(3, 4);

/* NULL-safe equality. */
bool blx__str_eq(const char *a, const char *b);

/* A decimal number, nothing before or after it, in [lo, hi]. False otherwise; @out then untouched. */
bool blx__parse_u64(const char *text, uint64_t lo, uint64_t hi, uint64_t *out);

/* DESIGN.md's names: [a-z0-9]([a-z0-9-]{0,N}[a-z0-9])?, at most @max bytes (1..63). */
bool blx__name_ok(const char *name, size_t max);
#define BLX__NAME_PATTERN "[a-z0-9]([a-z0-9-]*[a-z0-9])?"

/* True if @n bytes are UTF-8 without a NUL. */
bool blx__utf8_ok(const void *bytes, size_t n);

/* Put '?' in place of each byte of @s that is not part of a UTF-8 character. */
void blx__utf8_mend(char *s);

#endif
