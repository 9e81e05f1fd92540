/* The event loop that the core's thread runs. Everything in lib/io belongs to one loop and is called on the thread that
 * runs it, except where a comment says "any thread". */
#ifndef BLX__IO_LOOP_H
#define BLX__IO_LOOP_H

#include "base/list.h"
#include "base/rc.h"

enum { BLX__LOOP_POSTS_MAX = 65536 }; /* functions waiting from other threads */

struct blx__loop;

/* A function to run on the next turn. Owned by the caller, who keeps it alive until it ran or was cancelled; begin with
 * blx__defer_init. */
struct blx__defer {
  void (*fn)(void *arg);
  void *arg;
  struct blx__list link; /* linked to itself when not scheduled */
};

/* @out receives the loop; free with blx__loop_free. It opens an epoll descriptor and an eventfd, starts no thread and
 * touches no signal. Errors: NOMEM, IO. */
blx__rc blx__loop_new(struct blx__loop **out, blx_error *err) BLX__MUST;

/* Run until blx__loop_stop. A stop that came before makes it return at once. May be called again afterwards. */
void blx__loop_run(struct blx__loop *loop);

/* Ask the loop to return from blx__loop_run after the current turn. Thread: any. */
void blx__loop_stop(struct blx__loop *loop);

/* Finish the work that is queued, run what is posted, deferred and closing, then free. Everything opened on the loop
 * must have been closed before: what is left open is a bug and traps. NULL is allowed. Not from a callback of the loop.
 */
void blx__loop_free(struct blx__loop *loop);

/* CLOCK_BOOTTIME in ms: it goes on while the machine sleeps. One value per turn of the loop. */
uint64_t blx__loop_now_ms(const struct blx__loop *loop);

/* The same clock read anew, for what must not be taken for earlier than it is: within a turn this process may have
 * stood still for any time. */
uint64_t blx__loop_boot_ms(const struct blx__loop *loop);

/* CLOCK_REALTIME in ms since 1970; may jump. */
uint64_t blx__loop_wall_ms(const struct blx__loop *loop);

/* Run @fn(@arg) on the loop's thread, in order of posting. Thread: any. Errors: BUSY when BLX__LOOP_POSTS_MAX wait,
 * NOMEM.
 */
blx__rc blx__loop_post(struct blx__loop *loop, void (*fn)(void *arg), void *arg, blx_error *err) BLX__MUST;

/* Give @d its function; it is not scheduled yet. */
void blx__defer_init(struct blx__defer *d, void (*fn)(void *arg), void *arg);

/* Run @d's function before the loop waits again, never inside this call; scheduling it twice runs it once. What is
 * deferred by a deferred function runs one turn later. */
void blx__loop_defer(struct blx__loop *loop, struct blx__defer *d);

/* Take it back; harmless when it is not scheduled. */
void blx__loop_undefer(struct blx__defer *d);

/* Something is expected sooner than a thread that sleeps would be woken: for at most @us microseconds, 1..1000, look
 * for what comes without sleeping. blx__loop_look_end says that it came. Looks that were in vain make the next ones
 * fewer. */
void blx__loop_look(struct blx__loop *loop, unsigned us);
void blx__loop_look_end(struct blx__loop *loop);

/* The uv_loop_t inside, for what knows libuv only: libraft's own disk in the benchmark. */
void *blx__loop_uv(struct blx__loop *loop);

#endif
