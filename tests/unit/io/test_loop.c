#include "../harness.h"

#include "io/io_int.h"
#include "io/loop.h"
#include "io/timer.h"
#include "io/work.h"

#include <pthread.h>
#include <stdatomic.h>

struct seen {
  struct blx__loop *loop;
  int calls, until;
  struct blx__defer defer;
  struct blx__timer *timer;
};

static void count_and_stop(void *arg) {
  struct seen *s = arg;
  if (++s->calls == s->until) blx__loop_stop(s->loop);
}

static struct blx__loop *loop_new(void) {
  struct blx__loop *loop = NULL;
  ck_assert_int_eq(blx__loop_new(&loop, NULL).code, 0);
  return loop;
}

static void *post_many(void *arg) {
  struct seen *s = arg;
  for (int i = 0; i < 1000; i++)
    if (blx__loop_post(s->loop, count_and_stop, s, NULL).code != 0) return arg;
  return NULL;
}

START_TEST(posts__from_other_threads_all_arrive_on_the_loop) {
  struct seen s = {.loop = loop_new(), .until = 4000};
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, post_many, &s), 0);
  blx__loop_run(s.loop);
  for (int i = 0; i < 4; i++) {
    void *failed = NULL;
    pthread_join(threads[i], &failed);
    ck_assert_ptr_null(failed);
  }
  ck_assert_int_eq(s.calls, 4000);
  blx__loop_free(s.loop);
}
END_TEST

START_TEST(post__over_the_maximum_is_refused_as_busy) {
  struct seen s = {.loop = loop_new(), .until = -1};
  for (int i = 0; i < BLX__LOOP_POSTS_MAX; i++)
    ck_assert_int_eq(blx__loop_post(s.loop, count_and_stop, &s, NULL).code, 0);
  blx_error err;
  ck_assert_int_eq(blx__loop_post(s.loop, count_and_stop, &s, &err).code, BLX_E_BUSY);
  ck_assert_int_eq(err.code, BLX_E_BUSY);
  blx__loop_free(s.loop);
  ck_assert_int_eq(s.calls, BLX__LOOP_POSTS_MAX);
}
END_TEST

static void defer_again(void *arg) {
  struct seen *s = arg;
  if (++s->calls == s->until)
    blx__loop_stop(s->loop);
  else
    blx__loop_defer(s->loop, &s->defer);
}

START_TEST(defer__runs_once_a_turn_and_not_inside_the_call) {
  struct seen s = {.loop = loop_new(), .until = 3};
  blx__defer_init(&s.defer, defer_again, &s);
  blx__loop_defer(s.loop, &s.defer);
  blx__loop_defer(s.loop, &s.defer);
  ck_assert_int_eq(s.calls, 0);
  blx__loop_run(s.loop);
  ck_assert_int_eq(s.calls, 3);
  struct seen gone = {.loop = s.loop};
  blx__defer_init(&gone.defer, defer_again, &gone);
  blx__loop_defer(s.loop, &gone.defer);
  blx__loop_undefer(&gone.defer);
  blx__loop_free(s.loop);
  ck_assert_int_eq(gone.calls, 0);
}
END_TEST

static void fire_and_free(void *arg) {
  struct seen *s = arg;
  blx__timer_free(s->timer);
  count_and_stop(arg);
}

START_TEST(timer__may_free_itself_and_repeats_until_stopped) {
  struct seen once = {.loop = loop_new(), .until = 1}, often = {.loop = once.loop, .until = 5};
  once.timer = blx__timer_new(once.loop, fire_and_free, &once);
  blx__timer_start(once.timer, 1, 1);
  blx__loop_run(once.loop);
  ck_assert_int_eq(once.calls, 1);
  often.timer = blx__timer_new(often.loop, count_and_stop, &often);
  blx__timer_start(often.timer, 0, 1);
  blx__loop_run(often.loop);
  ck_assert_int_eq(often.calls, 5);
  blx__timer_free(often.timer);
  blx__timer_free(NULL);
  blx__loop_free(once.loop);
}
END_TEST

START_TEST(now__does_not_go_back_and_wall_is_this_century) {
  struct blx__loop *loop = loop_new();
  uint64_t a = blx__loop_now_ms(loop);
  ck_assert_uint_gt(a, 0);
  ck_assert_uint_le(a, blx__loop_now_ms(loop));
  ck_assert_uint_gt(blx__loop_wall_ms(loop), UINT64_C(1600000000000));
  blx__loop_free(loop);
}
END_TEST

START_TEST(the_boot_clock__goes_on_within_a_turn) {
  struct blx__loop *loop = loop_new();
  uint64_t turn = blx__loop_now_ms(loop), a = blx__loop_boot_ms(loop);
  ck_assert_uint_le(turn, a);
  (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
  ck_assert_uint_ge(blx__loop_boot_ms(loop), a + 5);
  ck_assert_uint_eq(blx__loop_now_ms(loop), turn);
  blx__loop_free(loop);
}
END_TEST

struct gate {
  pthread_mutex_t lock;
  struct seen seen;
  atomic_int worked;
  pthread_t loop_thread;
  bool elsewhere;
};

static void work_behind_gate(void *arg) {
  struct gate *g = arg;
  pthread_mutex_lock(&g->lock);
  g->elsewhere = !pthread_equal(pthread_self(), g->loop_thread);
  pthread_mutex_unlock(&g->lock);
  atomic_fetch_add(&g->worked, 1);
}

static void gate_done(void *arg) {
  struct gate *g = arg;
  count_and_stop(&g->seen);
}

START_TEST(work__runs_elsewhere_completes_on_the_loop_and_is_bounded) {
  struct gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .loop_thread = pthread_self()};
  g.seen.loop = loop_new();
  pthread_mutex_lock(&g.lock);
  int taken = 0;
  blx_error err = {0};
  while (taken < 1000 && blx__work(g.seen.loop, work_behind_gate, gate_done, &g, &err).code == 0) taken++;
  ck_assert_int_eq(err.code, BLX_E_BUSY);
  ck_assert_int_ge(taken, BLX__WORK_QUEUE_MAX);
  ck_assert_int_le(taken, BLX__WORK_QUEUE_MAX + BLX__WORK_THREADS);
  pthread_mutex_unlock(&g.lock);
  g.seen.until = taken;
  blx__loop_run(g.seen.loop);
  ck_assert_int_eq(g.seen.calls, taken);
  ck_assert_int_eq(atomic_load(&g.worked), taken);
  ck_assert(g.elsewhere);
  blx__loop_free(g.seen.loop);
}
END_TEST

START_TEST(free__finishes_queued_work_first) {
  struct gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .loop_thread = pthread_self()};
  g.seen.loop = loop_new();
  for (int i = 0; i < 50; i++) ck_assert_int_eq(blx__work(g.seen.loop, work_behind_gate, gate_done, &g, NULL).code, 0);
  blx__loop_free(g.seen.loop);
  ck_assert_int_eq(g.seen.calls, 50);
}
END_TEST

struct chain {
  struct seen seen;
  int posted_after;
};

static void chain_work(void *arg) {
  (void)arg;
}

static void chain_posted(void *arg) {
  struct chain *c = arg;
  c->posted_after = c->seen.calls;
}

/* Each completion begins the next piece of work and does not return before it has most likely ended. */
static void chain_done(void *arg) {
  struct chain *c = arg;
  if (c->seen.calls == 0) ck_assert_int_eq(blx__loop_post(c->seen.loop, chain_posted, c, NULL).code, 0);
  if (c->seen.calls + 1 < c->seen.until)
    ck_assert_int_eq(blx__work(c->seen.loop, chain_work, chain_done, c, NULL).code, 0);
  (void)usleep(2000);
  count_and_stop(&c->seen);
}

START_TEST(work__that_begins_more_work_without_end_does_not_keep_the_loop_from_its_other_tasks) {
  struct chain c = {.seen = {.until = 50}};
  c.seen.loop = loop_new();
  ck_assert_int_eq(blx__work(c.seen.loop, chain_work, chain_done, &c, NULL).code, 0);
  blx__loop_run(c.seen.loop);
  ck_assert_int_eq(c.seen.calls, 50);
  ck_assert_int_ge(c.posted_after, 1);
  ck_assert_int_le(c.posted_after, 2);
  blx__loop_free(c.seen.loop);
}
END_TEST

static void run_for(struct blx__loop *loop, uint64_t ms) {
  struct seen s = {.loop = loop, .until = 1};
  s.timer = blx__timer_new(loop, count_and_stop, &s);
  blx__timer_start(s.timer, ms, 0);
  blx__loop_run(loop);
  blx__timer_free(s.timer);
}

/* Looks in vain end by themselves, and the next ones are left out: one, two, four ... */
START_TEST(looks__in_vain_become_fewer_and_one_that_was_worth_it_brings_them_back) {
  struct blx__loop *loop = loop_new();
  blx__loop_look(loop, 100);
  ck_assert_uint_ne(loop->look_until_ns, 0);
  run_for(loop, 5);
  ck_assert_uint_eq(loop->look_until_ns, 0);
  ck_assert_uint_eq(loop->look_misses, 1);
  for (unsigned skipped = 0; skipped < 2; skipped++) {
    blx__loop_look(loop, 100);
    ck_assert_uint_eq(loop->look_until_ns, 0);
  }
  blx__loop_look(loop, 1000);
  ck_assert_uint_ne(loop->look_until_ns, 0);
  blx__loop_look_end(loop);
  ck_assert_uint_eq(loop->look_misses, 0);
  blx__loop_look(loop, 1000);
  ck_assert_uint_ne(loop->look_until_ns, 0);
  blx__loop_look_end(loop);
  run_for(loop, 1);
  blx__loop_free(loop);
}
END_TEST

BLX_TEST_MAIN("io/loop", looks__in_vain_become_fewer_and_one_that_was_worth_it_brings_them_back,
              posts__from_other_threads_all_arrive_on_the_loop, post__over_the_maximum_is_refused_as_busy,
              defer__runs_once_a_turn_and_not_inside_the_call, timer__may_free_itself_and_repeats_until_stopped,
              now__does_not_go_back_and_wall_is_this_century, the_boot_clock__goes_on_within_a_turn,
              work__runs_elsewhere_completes_on_the_loop_and_is_bounded,
              work__that_begins_more_work_without_end_does_not_keep_the_loop_from_its_other_tasks,
              free__finishes_queued_work_first)
