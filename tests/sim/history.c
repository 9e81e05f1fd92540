#include "history.h"

#include "base/rc.h"

#include <stdlib.h>

static int by_began(const void *a, const void *b) {
  const struct history_event *x = a, *y = b;
  return (x->began > y->began) - (x->began < y->began);
}

static int by_ended(const void *a, const void *b) {
  const struct history_event *const *x = a, *const *y = b;
  return ((*x)->ended > (*y)->ended) - ((*x)->ended < (*y)->ended);
}

static bool tell(char why[HISTORY_TEXT], const struct history_event *e, uint64_t seen) {
  (void)blx__str_format(why, HISTORY_TEXT,
                        "a %s at %llu..%llu has place %llu, though place %llu was answered before it began",
                        e->write ? "write" : "read", (unsigned long long)e->began, (unsigned long long)e->ended,
                        (unsigned long long)e->place, (unsigned long long)seen);
  return false;
}

bool history_check(struct history_event *events, size_t count, char why[HISTORY_TEXT]) {
  if (count == 0) return true;
  const struct history_event **ends = calloc(count, sizeof *ends);
  BLX__ASSERT(ends != NULL);
  qsort(events, count, sizeof *events, by_began);
  for (size_t i = 0; i < count; i++) ends[i] = &events[i];
  qsort(ends, count, sizeof(struct history_event *), by_ended);
  uint64_t seen = 0; /* the furthest place of all that ended before events[i] began */
  size_t ended = 0;
  bool ok = true;
  for (size_t i = 0; ok && i < count; i++) {
    const struct history_event *e = &events[i];
    for (; ended < count && ends[ended]->ended < e->began; ended++)
      if (ends[ended]->place > seen) seen = ends[ended]->place;
    if (e->place < seen || (e->write && e->place == seen)) ok = tell(why, e, seen);
  }
  free(ends);
  return ok;
}
