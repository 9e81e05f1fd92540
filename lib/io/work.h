/* Blocking work off the loop, on BLX__WORK_THREADS threads of our own; libuv's pool is not used. */
#ifndef BLX__IO_WORK_H
#define BLX__IO_WORK_H

#include "io/loop.h"

enum { BLX__WORK_THREADS = 2, BLX__WORK_QUEUE_MAX = 256 };

/* Run @fn(@arg) on a worker, then @done(@arg) on the loop. The threads start with the first call and end with the loop;
 * they block every signal. @fn must not touch the loop, except by calls that say "any thread".
 * Errors: BUSY (BLX__WORK_QUEUE_MAX wait already), NOMEM, IO (no thread could be started). */
blx__rc blx__work(struct blx__loop *loop, void (*fn)(void *arg), void (*done)(void *arg), void *arg,
                  blx_error *err) BLX__MUST;

#endif
