#include "io/work.h"
#include "io/io_int.h"

#include <signal.h>
#include <stdlib.h>

static void *worker_main(void *arg) {
  struct blx__loop *loop = arg;
  struct workers *w = &loop->work;
  pthread_mutex_lock(&w->lock);
  for (;;) {
    struct blx__list *n = blx__list_first(&w->todo);
    if (!n) {
      if (w->stopping) break;
      pthread_cond_wait(&w->wake, &w->lock);
      continue;
    }
    struct job *j = BLX__CONTAINER(n, struct job, link);
    blx__list_remove(n);
    w->waiting--;
    pthread_mutex_unlock(&w->lock);
    j->fn(j->arg);
    pthread_mutex_lock(&w->lock);
    blx__list_push(&w->done, &j->link);
    (void)uv_async_send(&loop->async);
  }
  pthread_mutex_unlock(&w->lock);
  return NULL;
}

void workers_init(struct blx__loop *loop) {
  struct workers *w = &loop->work;
  _Static_assert(BLX__COUNT(w->threads) == BLX__WORK_THREADS, "room for each thread");
  pthread_mutex_init(&w->lock, NULL);
  pthread_cond_init(&w->wake, NULL);
  blx__list_init(&w->todo);
  blx__list_init(&w->done);
}

void workers_stop(struct blx__loop *loop) {
  struct workers *w = &loop->work;
  pthread_mutex_lock(&w->lock);
  w->stopping = true;
  pthread_cond_broadcast(&w->wake);
  pthread_mutex_unlock(&w->lock);
  for (unsigned i = 0; i < w->started; i++) (void)pthread_join(w->threads[i], NULL);
  w->started = 0;
  BLX__ASSERT(blx__list_empty(&w->todo));
}

void workers_free(struct blx__loop *loop) {
  pthread_mutex_destroy(&loop->work.lock);
  pthread_cond_destroy(&loop->work.wake);
}

void workers_finish(struct blx__loop *loop, struct job *j) {
  pthread_mutex_lock(&loop->work.lock);
  blx__list_push(&loop->work.done, &j->link);
  pthread_mutex_unlock(&loop->work.lock);
  (void)uv_async_send(&loop->async);
}

/* Only what is done by now: what ends while others are told of waits for the next turn, so that who works without end
 * cannot keep the loop from its sockets and timers. */
void workers_deliver(struct blx__loop *loop) {
  struct workers *w = &loop->work;
  struct blx__list batch;
  blx__list_init(&batch);
  pthread_mutex_lock(&w->lock);
  blx__list_take(&batch, &w->done);
  pthread_mutex_unlock(&w->lock);
  for (struct blx__list *n; (n = blx__list_first(&batch)) != NULL;) {
    struct job *j = BLX__CONTAINER(n, struct job, link);
    bool embedded = j->embedded; /* @j may be gone after this */
    blx__list_remove(n);
    j->done(j->arg);
    if (!embedded) free(j);
  }
}

/* With every signal blocked: the embedder's handlers must not find themselves on a thread of ours. Under the lock.
 * One thread is enough to go on. */
static bool threads_start(struct blx__loop *loop) {
  struct workers *w = &loop->work;
  sigset_t all, old;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &old);
  while (w->started < BLX__WORK_THREADS && pthread_create(&w->threads[w->started], NULL, worker_main, loop) == 0)
    w->started++;
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  return w->started > 0;
}

static void push(struct workers *w, struct job *j) {
  blx__list_push(&w->todo, &j->link);
  w->waiting++;
  pthread_cond_signal(&w->wake);
}

bool workers_give(struct blx__loop *loop, struct job *j) {
  struct workers *w = &loop->work;
  pthread_mutex_lock(&w->lock);
  BLX__ASSERT(!w->stopping);
  bool ok = w->started > 0 || threads_start(loop);
  if (ok) push(w, j);
  pthread_mutex_unlock(&w->lock);
  return ok;
}

blx__rc blx__work(struct blx__loop *loop, void (*fn)(void *arg), void (*done)(void *arg), void *arg, blx_error *err) {
  struct workers *w = &loop->work;
  struct job *j = malloc(sizeof *j);
  if (!j) return blx__fail(err, BLX_E_NOMEM, "io", "no memory to queue work");
  *j = (struct job){.fn = fn, .done = done, .arg = arg};
  pthread_mutex_lock(&w->lock);
  BLX__ASSERT(!w->stopping);
  blx__rc rc = BLX__OK;
  if (w->waiting >= BLX__WORK_QUEUE_MAX)
    rc = blx__fail(err, BLX_E_BUSY, "io", "%d pieces of work wait already: try again later", BLX__WORK_QUEUE_MAX);
  else if (w->started == 0 && !threads_start(loop))
    rc = blx__fail(err, BLX_E_IO, "io", "cannot start a worker thread: check the limit on threads (ulimit -u)");
  if (rc.code == 0) push(w, j);
  pthread_mutex_unlock(&w->lock);
  if (rc.code != 0) free(j);
  return rc;
}
