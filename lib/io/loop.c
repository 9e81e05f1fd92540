#include "io/io_int.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum { LOOK_MISSES_MAX = 8 };

static uint64_t clock_ms(clockid_t clock) {
  struct timespec ts;
  int e = clock_gettime(clock, &ts);
  BLX__ASSERT(e == 0);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void run_posts(struct blx__loop *loop) {
  struct blx__list batch;
  blx__list_init(&batch);
  pthread_mutex_lock(&loop->posts_lock);
  blx__list_take(&batch, &loop->posts);
  loop->posts_count = 0;
  pthread_mutex_unlock(&loop->posts_lock);
  for (struct blx__list *n; (n = blx__list_first(&batch)) != NULL;) {
    struct post *p = BLX__CONTAINER(n, struct post, link);
    blx__list_remove(n);
    p->fn(p->arg);
    free(p);
  }
}

static void on_async(uv_async_t *h) {
  struct blx__loop *loop = h->data;
  run_posts(loop);
  workers_deliver(loop);
  if (atomic_load(&loop->stop)) uv_stop(&loop->uv);
}

static uint64_t now_ns(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void blx__loop_look(struct blx__loop *loop, unsigned us) {
  BLX__ASSERT(us >= 1 && us <= 1000);
  if (loop->look_skips > 0)
    loop->look_skips--;
  else
    loop->look_until_ns = now_ns() + (uint64_t)us * 1000;
}

void blx__loop_look_end(struct blx__loop *loop) {
  if (loop->look_until_ns != 0) loop->look_misses = 0;
  loop->look_until_ns = 0;
}

/* After n misses in a row the next 2^n looks are left out. */
static void look_missed(struct blx__loop *loop) {
  loop->look_until_ns = 0;
  if (loop->look_misses < LOOK_MISSES_MAX) loop->look_misses++;
  loop->look_skips = 1u << loop->look_misses;
}

/* Whoever is to answer may need this processor. */
static void on_idle(uv_idle_t *h) {
  const struct blx__loop *loop = h->data;
  if (loop->look_until_ns != 0) (void)sched_yield();
}

/* Runs right before the loop waits. Only what was deferred before is run, so a function that defers itself cannot keep
 * the loop from its sockets. */
static void on_prepare(uv_prepare_t *h) {
  struct blx__loop *loop = h->data;
  struct blx__list batch;
  blx__list_init(&batch);
  blx__list_take(&batch, &loop->deferred);
  for (struct blx__list *n; (n = blx__list_first(&batch)) != NULL;) {
    struct blx__defer *d = BLX__CONTAINER(n, struct blx__defer, link);
    blx__list_remove(n);
    d->fn(d->arg);
  }
  if (loop->look_until_ns != 0 && now_ns() >= loop->look_until_ns) look_missed(loop);
  if (blx__list_empty(&loop->deferred) && loop->look_until_ns == 0)
    uv_idle_stop(&loop->idle);
  else
    uv_idle_start(&loop->idle, on_idle);
}

blx__rc blx__loop_new(struct blx__loop **out, blx_error *err) {
  struct blx__loop *loop = calloc(1, sizeof *loop);
  if (!loop) return blx__fail(err, BLX_E_NOMEM, "io", "no memory for an event loop");
  int e = uv_loop_init(&loop->uv);
  if (e != 0) {
    free(loop);
    return blx__fail_errno(err, -e, "io", "cannot make an event loop");
  }
  e = uv_async_init(&loop->uv, &loop->async, on_async);
  if (e != 0) {
    (void)uv_loop_close(&loop->uv);
    free(loop);
    return blx__fail_errno(err, -e, "io", "cannot make the wake-up descriptor of an event loop");
  }
  (void)uv_prepare_init(&loop->uv, &loop->prepare);
  (void)uv_idle_init(&loop->uv, &loop->idle);
  loop->async.data = loop->prepare.data = loop->idle.data = loop;
  (void)uv_prepare_start(&loop->prepare, on_prepare);
  blx__list_init(&loop->deferred);
  blx__list_init(&loop->posts);
  pthread_mutex_init(&loop->posts_lock, NULL);
  workers_init(loop);
  *out = loop;
  return BLX__OK;
}

void blx__loop_run(struct blx__loop *loop) {
  while (!atomic_exchange(&loop->stop, false)) (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void blx__loop_stop(struct blx__loop *loop) {
  atomic_store(&loop->stop, true);
  (void)uv_async_send(&loop->async);
}

static void count_open(uv_handle_t *h, void *arg) {
  unsigned *open = arg;
  if (!uv_is_closing(h)) ++*open;
}

/* Turns of the loop until only its own handles are open. What closes does so within a few; a chain of deferred closes
 * may need more, one that never ends is a bug. */
static void settle(struct blx__loop *loop) {
  enum { TURNS_MAX = 10000, TURNS_MIN = 3 };
  for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
    (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    unsigned open = 0;
    uv_walk(&loop->uv, count_open, &open);
    bool idle = open == 3 && blx__list_empty(&loop->deferred) && loop->posts_count == 0;
    if (idle && turn >= TURNS_MIN) return;
  }
  bool everything_is_closed = false;
  BLX__ASSERT(everything_is_closed);
}

void blx__loop_free(struct blx__loop *loop) {
  if (!loop) return;
  workers_stop(loop);
  workers_deliver(loop);
  settle(loop);
  uv_close((uv_handle_t *)&loop->async, NULL);
  uv_close((uv_handle_t *)&loop->prepare, NULL);
  uv_close((uv_handle_t *)&loop->idle, NULL);
  (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
  int e = uv_loop_close(&loop->uv);
  BLX__ASSERT(e == 0);
  workers_free(loop);
  pthread_mutex_destroy(&loop->posts_lock);
  free(loop);
}

uint64_t blx__loop_now_ms(const struct blx__loop *loop) {
  struct blx__loop *l = (struct blx__loop *)(uintptr_t)loop; /* the cache is no part of the loop's visible state */
  uint64_t uv_ms = uv_now(&loop->uv);
  if (l->now_ms == 0 || uv_ms != l->now_uv_ms) {
    l->now_ms = clock_ms(CLOCK_BOOTTIME);
    l->now_uv_ms = uv_ms;
  }
  return l->now_ms;
}

uint64_t blx__loop_boot_ms(const struct blx__loop *loop) {
  (void)loop;
  return clock_ms(CLOCK_BOOTTIME);
}

uint64_t blx__loop_wall_ms(const struct blx__loop *loop) {
  (void)loop;
  return clock_ms(CLOCK_REALTIME);
}

blx__rc blx__loop_post(struct blx__loop *loop, void (*fn)(void *arg), void *arg, blx_error *err) {
  struct post *p = malloc(sizeof *p);
  if (!p) return blx__fail(err, BLX_E_NOMEM, "io", "no memory to pass a call to the node's thread");
  *p = (struct post){.fn = fn, .arg = arg};
  pthread_mutex_lock(&loop->posts_lock);
  bool full = loop->posts_count >= BLX__LOOP_POSTS_MAX;
  if (!full) {
    blx__list_push(&loop->posts, &p->link);
    loop->posts_count++;
  }
  pthread_mutex_unlock(&loop->posts_lock);
  if (full) {
    free(p);
    return blx__fail(err, BLX_E_BUSY, "io", "%d calls wait for the node's thread already: try again later",
                     BLX__LOOP_POSTS_MAX);
  }
  (void)uv_async_send(&loop->async);
  return BLX__OK;
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
  /* Deferred from a timer or a close callback, the turn's prepare may be over. */
  (void)uv_idle_start(&loop->idle, on_idle);
}

void blx__loop_undefer(struct blx__defer *d) {
  blx__list_remove(&d->link);
}

void *blx__loop_uv(struct blx__loop *loop) {
  return &loop->uv;
}
