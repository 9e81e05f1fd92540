#include "io/timer.h"
#include "io/io_int.h"

#include <stdlib.h>

struct blx__timer {
  uv_timer_t uv;
  void (*fn)(void *arg);
  void *arg;
};

static void on_fire(uv_timer_t *h) {
  struct blx__timer *t = h->data;
  t->fn(t->arg);
}

static void on_closed(uv_handle_t *h) {
  free(h->data);
}

struct blx__timer *blx__timer_new(struct blx__loop *loop, void (*fn)(void *arg), void *arg) {
  struct blx__timer *t = calloc(1, sizeof *t);
  if (!t) return NULL;
  t->fn = fn;
  t->arg = arg;
  (void)uv_timer_init(&loop->uv, &t->uv);
  t->uv.data = t;
  return t;
}

void blx__timer_start(struct blx__timer *t, uint64_t after_ms, uint64_t repeat_ms) {
  int e = uv_timer_start(&t->uv, on_fire, after_ms, repeat_ms);
  BLX__ASSERT(e == 0);
}

void blx__timer_stop(struct blx__timer *t) {
  (void)uv_timer_stop(&t->uv);
}

void blx__timer_free(struct blx__timer *t) {
  if (!t) return;
  (void)uv_timer_stop(&t->uv);
  uv_close((uv_handle_t *)&t->uv, on_closed);
}
