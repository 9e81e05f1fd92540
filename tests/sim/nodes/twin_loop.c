/* Loops, timers, deferred functions and workers of simulated machines. */
#include "twin.h"

#include "io/work.h"

#include <stdlib.h>
#include <string.h>

enum { EPOCH_S = 1700000000, DRAIN_MAX = 200000, KEY_BYTES = 16 };

struct blx__timer {
  struct blx__loop *loop;
  void (*fn)(void *arg);
  void *arg;
  uint64_t at_us, seq, repeat_ms;
  bool armed;
};

uint64_t twin_loop_now_us(const struct blx__loop *loop) {
  return twin.sim.now_us + loop->skew_us;
}

/* ---- when the world wakes it */

static void on_wake(void *arg, uint64_t at_us, uint64_t unused);

static void wake_at(struct blx__loop *loop, uint64_t at_us) {
  if (at_us >= loop->wake_us) return;
  loop->wake_us = at_us;
  uint64_t after_us = at_us > twin.sim.now_us ? at_us - twin.sim.now_us : 0;
  blx__sim_after(&twin.sim, loop->m->number, after_us, (struct blx__sim_call){.fn = on_wake, .arg = loop, .a = at_us});
}

static void key_of(uint64_t at_us, uint64_t seq, uint8_t key[KEY_BYTES]) {
  for (int i = 0; i < 8; i++) {
    key[i] = (uint8_t)(at_us >> (56 - 8 * i));
    key[8 + i] = (uint8_t)(seq >> (56 - 8 * i));
  }
}

static struct blx__timer *first_due(const struct blx__loop *loop) {
  struct blx__map_pos pos = blx__map_seek(&loop->due, NULL, 0);
  return pos.node ? blx__map_value(pos) : NULL;
}

static void arm(struct blx__timer *t, uint64_t after_us) {
  struct blx__loop *loop = t->loop;
  uint8_t key[KEY_BYTES];
  blx__timer_stop(t);
  t->at_us = twin_loop_now_us(loop) + after_us;
  t->seq = ++loop->seq;
  t->armed = true;
  key_of(t->at_us, t->seq, key);
  bool kept = blx__map_set(&loop->due, key, sizeof key, t, NULL);
  BLX__ASSERT(kept);
  wake_at(loop, t->at_us);
}

static void fire(struct blx__timer *t) {
  blx__timer_stop(t);
  if (t->repeat_ms) arm(t, blx__sim_true_us(&twin.sim, t->loop->m->number, t->repeat_ms * 1000));
  t->fn(t->arg); /* which may free it */
}

/* Only what was deferred before: what defers itself does not keep the loop from its sockets. */
static void run_deferred(struct blx__loop *loop) {
  struct blx__list batch;
  blx__list_init(&batch);
  for (struct blx__list *n; (n = blx__list_first(&loop->deferred)) != NULL;) {
    blx__list_remove(n);
    blx__list_push(&batch, n);
  }
  for (struct blx__list *n; (n = blx__list_first(&batch)) != NULL;) {
    struct blx__defer *d = BLX__CONTAINER(n, struct blx__defer, link);
    blx__list_remove(n);
    d->fn(d->arg);
  }
}

static void turn(struct blx__loop *loop) {
  uint64_t now_us = twin_loop_now_us(loop), last = loop->seq;
  for (struct blx__timer *t; (t = first_due(loop)) != NULL && t->at_us <= now_us && t->seq <= last;) fire(t);
  run_deferred(loop);
}

static void on_wake(void *arg, uint64_t at_us, uint64_t unused) {
  struct blx__loop *loop = arg;
  (void)unused;
  if (at_us != loop->wake_us) return; /* it was to be woken earlier meanwhile */
  loop->wake_us = UINT64_MAX;
  if (loop->m->paused_until_us > twin.sim.now_us) {
    wake_at(loop, loop->m->paused_until_us);
    return;
  }
  turn(loop);
  const struct blx__timer *t = first_due(loop);
  if (t) wake_at(loop, t->at_us);
  if (!blx__list_empty(&loop->deferred)) wake_at(loop, twin.sim.now_us);
}

/* ---- loop.h */

blx__rc blx__loop_new(struct blx__loop **out, blx_error *err) {
  (void)err;
  struct blx__loop *loop = calloc(1, sizeof *loop);
  BLX__ASSERT(loop && twin.current);
  loop->m = twin.current;
  loop->wake_us = UINT64_MAX;
  blx__list_init(&loop->deferred);
  *out = loop;
  return BLX__OK;
}

/* One more turn of its own. False: nothing is left to do. */
static bool drain_step(struct blx__loop *loop) {
  const struct blx__timer *t = first_due(loop);
  if (!t && blx__list_empty(&loop->deferred)) return false;
  uint64_t now_us = twin_loop_now_us(loop);
  if (blx__list_empty(&loop->deferred) && t->at_us > now_us) loop->skew_us += t->at_us - now_us;
  turn(loop);
  return true;
}

void twin_drain(struct blx__loop *loop) {
  for (unsigned i = 0; !loop->stop; i++) {
    bool goes_on = drain_step(loop);
    BLX__ASSERT(goes_on && i < DRAIN_MAX); /* else it waits for what never comes */
  }
}

void blx__loop_run(struct blx__loop *loop) {
  twin_drain(loop);
  loop->stop = false;
}

void blx__loop_stop(struct blx__loop *loop) {
  loop->stop = true;
}

void blx__loop_free(struct blx__loop *loop) {
  if (!loop) return;
  for (unsigned i = 0; drain_step(loop); i++) BLX__ASSERT(i < DRAIN_MAX); /* else a timer was not freed */
  blx__map_clear(&loop->due);
  free(loop);
}

uint64_t blx__loop_now_ms(const struct blx__loop *loop) {
  return (blx__sim_clock_us(&twin.sim, loop->m->number) + loop->skew_us) / 1000 + 1;
}

uint64_t twin_boot_ms(const struct machine *m, uint64_t at_us) {
  return 1 + m->boot_ahead_ms + at_us / 1000 * m->boot_ppm / 1000000;
}

uint64_t blx__loop_boot_ms(const struct blx__loop *loop) {
  return twin_boot_ms(loop->m, twin_loop_now_us(loop));
}

uint64_t blx__loop_wall_ms(const struct blx__loop *loop) {
  return (uint64_t)(INT64_C(1000) * EPOCH_S + blx__sim_wall_ms(&twin.sim, loop->m->number)) + loop->skew_us / 1000;
}

void blx__defer_init(struct blx__defer *d, void (*fn)(void *arg), void *arg) {
  d->fn = fn;
  d->arg = arg;
  blx__list_init(&d->link);
}

void blx__loop_defer(struct blx__loop *loop, struct blx__defer *d) {
  BLX__ASSERT(d->fn && d->link.next);
  if (!blx__list_empty(&d->link)) return;
  blx__list_push(&loop->deferred, &d->link);
  wake_at(loop, twin.sim.now_us);
}

void blx__loop_undefer(struct blx__defer *d) {
  blx__list_remove(&d->link);
}

/* Time passes in steps here: nobody sleeps. */
void blx__loop_look(struct blx__loop *loop, unsigned us) {
  (void)loop;
  (void)us;
}

void blx__loop_look_end(struct blx__loop *loop) {
  (void)loop;
}

/* ---- timer.h */

struct blx__timer *blx__timer_new(struct blx__loop *loop, void (*fn)(void *arg), void *arg) {
  struct blx__timer *t = calloc(1, sizeof *t);
  BLX__ASSERT(t != NULL);
  t->loop = loop;
  t->fn = fn;
  t->arg = arg;
  return t;
}

void blx__timer_start(struct blx__timer *t, uint64_t after_ms, uint64_t repeat_ms) {
  t->repeat_ms = repeat_ms;
  arm(t, blx__sim_true_us(&twin.sim, t->loop->m->number, after_ms * 1000));
}

void twin_timer_start_us(struct blx__timer *t, uint64_t after_us) {
  t->repeat_ms = 0;
  arm(t, after_us);
}

void blx__timer_stop(struct blx__timer *t) {
  if (!t->armed) return;
  uint8_t key[KEY_BYTES];
  key_of(t->at_us, t->seq, key);
  (void)blx__map_remove(&t->loop->due, key, sizeof key);
  t->armed = false;
}

void blx__timer_free(struct blx__timer *t) {
  if (!t) return;
  blx__timer_stop(t);
  free(t);
}

/* ---- posts, and work: both are a timer of their own */

struct job {
  struct blx__timer *timer;
  void (*fn)(void *arg);
  void (*done)(void *arg);
  void *arg;
};

static void job_new(struct blx__loop *loop, struct job with, void (*step)(void *arg), uint64_t after_us) {
  struct job *j = malloc(sizeof *j);
  BLX__ASSERT(j != NULL);
  *j = with;
  j->timer = blx__timer_new(loop, step, j);
  arm(j->timer, after_us);
}

static void on_done(void *arg) {
  struct job j = *(struct job *)arg;
  blx__timer_free(j.timer);
  free(arg);
  j.done(j.arg);
}

/* What it did is there from now on; who asked for it hears of that later, or never when it dies meanwhile. */
static void on_work(void *arg) {
  struct job *j = arg;
  j->fn(j->arg);
  j->timer->fn = on_done;
  arm(j->timer, blx__sim_rng_in(&twin.sim.rng, 20, 500));
}

blx__rc blx__work(struct blx__loop *loop, void (*fn)(void *arg), void (*done)(void *arg), void *arg, blx_error *err) {
  (void)err;
  const struct blx__sim_disk *disk = &loop->m->disks[DIR_DATA];
  uint64_t after_us = blx__sim_rng_in(&twin.sim.rng, disk->min_us, disk->max_us);
  job_new(loop, (struct job){.fn = fn, .done = done, .arg = arg}, on_work, after_us);
  return BLX__OK;
}

blx__rc blx__loop_post(struct blx__loop *loop, void (*fn)(void *arg), void *arg, blx_error *err) {
  (void)err;
  job_new(loop, (struct job){.done = fn, .arg = arg}, on_done, 0);
  return BLX__OK;
}
