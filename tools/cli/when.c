#include "when.h"

#include "flags.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t cli_wall_ms(void) {
  struct timespec now = {0};
  (void)clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Parts like 1h and 30m, added up. */
static bool parse_ago(const char *text, uint64_t *out_ms) {
  uint64_t sum = 0;
  if (*text == '\0') return false;
  while (*text != '\0') {
    char part[32];
    uint64_t ms = 0;
    size_t digits = strspn(text, "0123456789"), unit = strspn(text + digits, "dhms");
    if (digits == 0 || unit == 0 || digits + unit >= sizeof part) return false;
    memcpy(part, text, digits + unit);
    part[digits + unit] = '\0';
    bool days = unit == 1 && part[digits] == 'd';
    if (days) part[digits] = 'h';
    if (!cli_parse_duration(part, 0, UINT64_MAX, &ms)) return false;
    if (__builtin_mul_overflow(ms, days ? 24U : 1U, &ms) || __builtin_add_overflow(sum, ms, &sum)) return false;
    text += digits + unit;
  }
  *out_ms = sum;
  return true;
}

/* @n digits at *text, which moves on, as a number lo..hi. */
static bool take_digits(const char **text, size_t n, int lo, int hi, int *out) {
  int value = 0;
  for (size_t i = 0; i < n; i++, (*text)++) {
    if (**text < '0' || **text > '9') return false;
    value = value * 10 + (**text - '0');
  }
  *out = value;
  return value >= lo && value <= hi;
}

static bool take_one_of(const char **text, const char *set) {
  if (**text == '\0' || strchr(set, **text) == NULL) return false;
  (*text)++;
  return true;
}

/* "Z", "+01:00" or "-01:00", as minutes to take away. */
static bool take_zone(const char **text, int *minutes) {
  int hours = 0, rest = 0;
  *minutes = 0;
  if (take_one_of(text, "Zz")) return true;
  int sign = **text == '-' ? -1 : 1;
  if (!take_one_of(text, "+-") || !take_digits(text, 2, 0, 23, &hours) || !take_one_of(text, ":") ||
      !take_digits(text, 2, 0, 59, &rest))
    return false;
  *minutes = sign * (hours * 60 + rest);
  return true;
}

static bool parse_date(const char *text, uint64_t *out_ms) {
  struct tm t = {0}, back;
  int year = 0, month = 0, minutes = 0;
  uint64_t ms = 0;
  if (!take_digits(&text, 4, 1970, 9999, &year) || !take_one_of(&text, "-") || !take_digits(&text, 2, 1, 12, &month) ||
      !take_one_of(&text, "-") || !take_digits(&text, 2, 1, 31, &t.tm_mday) || !take_one_of(&text, "Tt") ||
      !take_digits(&text, 2, 0, 23, &t.tm_hour) || !take_one_of(&text, ":") ||
      !take_digits(&text, 2, 0, 59, &t.tm_min) || !take_one_of(&text, ":") ||
      !take_digits(&text, 2, 0, 60, &t.tm_sec)) /* 60: a leap second */
    return false;
  if (take_one_of(&text, ".")) {
    size_t n = strspn(text, "0123456789");
    if (n == 0) return false;
    for (size_t i = 0; i < 3; i++) ms = ms * 10 + (i < n ? (uint64_t)(text[i] - '0') : 0);
    text += n;
  }
  if (!take_zone(&text, &minutes) || *text != '\0') return false;
  t.tm_year = year - 1900;
  t.tm_mon = month - 1;
  int day = t.tm_mday, second = t.tm_sec;
  t.tm_sec = 0;
  time_t at = timegm(&t);
  if (gmtime_r(&at, &back) == NULL || back.tm_mday != day) return false; /* February 30 */
  at += second - (time_t)minutes * 60;
  if (at < 0) return false;
  *out_ms = (uint64_t)at * 1000 + ms;
  return true;
}

bool cli_parse_when(const char *text, uint64_t now_ms, uint64_t *out_ms) {
  uint64_t ago = 0;
  if (parse_date(text, out_ms)) return true;
  if (!parse_ago(text, &ago)) return false;
  *out_ms = ago < now_ms ? now_ms - ago : 0;
  return true;
}

const char *cli_time_text(uint64_t ms, char buf[CLI_TIME_SIZE]) {
  struct tm t;
  time_t at = (time_t)(ms / 1000);
  char date[CLI_TIME_SIZE] = "";
  bool known = ms != 0 && gmtime_r(&at, &t) != NULL && strftime(date, sizeof date - 6, "%Y-%m-%dT%H:%M:%S", &t) > 0;
  if (known)
    snprintf(buf, CLI_TIME_SIZE, "%.19s.%03uZ", date, (unsigned)(ms % 1000));
  else
    snprintf(buf, CLI_TIME_SIZE, "unknown");
  return buf;
}
