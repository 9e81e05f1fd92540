#include "base/log.h"

#include <stdio.h>

void blx__log(const struct blx__log *log, int level, const char *component, const char *fmt, ...) {
  if (!log || !log->fn || level > log->level_max) return;
  char line[1024];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (n < 0) return;
  /* One event, one line: a hostile name must not forge a second one. */
  for (char *c = line; *c; c++)
    if ((unsigned char)*c < 0x20) *c = ' ';
  log->fn(log->user, level, component, line);
}
