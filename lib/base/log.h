/* The logger handed down from the embedder. Thread: the node's thread, except where a worker says it locks. */
#ifndef BLX__BASE_LOG_H
#define BLX__BASE_LOG_H

#include "base/rc.h"
#include <blixard/log.h>

struct blx__log {
  blx_log_fn fn; /* NULL: silent */
  void *user;
  int level_max; /* lines above this level are dropped before they are formatted */
};

/* @log may be NULL. @component: static. The line is cut at 1023 bytes. */
void blx__log(const struct blx__log *log, int level, const char *component, const char *fmt, ...) BLX__PRINTF(4, 5);

#endif
