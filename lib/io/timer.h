/* Timers, in ms of the loop's monotonic clock. */
#ifndef BLX__IO_TIMER_H
#define BLX__IO_TIMER_H

#include "io/loop.h"

struct blx__timer;

/* A stopped timer that will call @fn(@arg). NULL when memory is out. Free with blx__timer_free. */
struct blx__timer *blx__timer_new(struct blx__loop *loop, void (*fn)(void *arg), void *arg);

/* Fire after @after_ms (0: next turn), then every @repeat_ms (0: once). Starting again replaces what was set. */
void blx__timer_start(struct blx__timer *t, uint64_t after_ms, uint64_t repeat_ms);
void blx__timer_stop(struct blx__timer *t);

/* @fn never runs again. NULL is allowed, and so is a call from @fn itself. */
void blx__timer_free(struct blx__timer *t);

#endif
