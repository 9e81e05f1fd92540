/* Is what callers saw explained by one order of operations that respects real time? The replicated log gives each
 * operation its place, so the order need not be searched for: it is only compared with who ended before whom began. */
#ifndef BLX_TESTS_SIM_HISTORY_H
#define BLX_TESTS_SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HISTORY_TEXT = 160 };

struct history_event {
  uint64_t began, ended; /* logical times, all different; ended UINT64_MAX: the caller never learned */
  uint64_t place;        /* a write: its index, a write of one place only once; a read: the index it saw */
  bool write;
};

/* True if the events are linearizable (Herlihy and Wing 1990): whenever one ended before another began, the other's
 * place is not before it, and for a write it is behind it. Else false and @why. Sorts @events. */
bool history_check(struct history_event *events, size_t count, char why[HISTORY_TEXT]);

#endif
