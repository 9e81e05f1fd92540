#include "api/dispatch.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct blx__api_queue {
  atomic_uint refs;
  int fd;
  pthread_mutex_t lock;
  pthread_cond_t idle;
  struct blx__list items;
  size_t count;
  bool running; /* some thread is in run or drain */
  pthread_t runner;
};

blx__rc blx__api_queue_new(struct blx__api_queue **out, blx_error *err) {
  struct blx__api_queue *q = calloc(1, sizeof *q);
  if (!q) return blx__fail(err, BLX_E_NOMEM, "client", "no memory for a queue of completions");
  q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (q->fd < 0) {
    int why = errno;
    free(q);
    return blx__fail_errno(err, why, "client", "cannot make the descriptor that tells of completions");
  }
  atomic_init(&q->refs, 1);
  pthread_mutex_init(&q->lock, NULL);
  pthread_cond_init(&q->idle, NULL);
  blx__list_init(&q->items);
  *out = q;
  return BLX__OK;
}

void blx__api_queue_ref(struct blx__api_queue *q) {
  atomic_fetch_add(&q->refs, 1);
}

void blx__api_queue_unref(struct blx__api_queue *q) {
  if (!q || atomic_fetch_sub(&q->refs, 1) > 1) return;
  BLX__ASSERT(!q->running);
  pthread_mutex_destroy(&q->lock);
  pthread_cond_destroy(&q->idle);
  close(q->fd);
  free(q);
}

int blx__api_queue_fd(const struct blx__api_queue *q) {
  return q->fd;
}

/* The descriptor is readable exactly while the queue is not empty. It is not at its maximum and does not block. */
static void ring(struct blx__api_queue *q) {
  uint64_t one = 1;
  ssize_t n = write(q->fd, &one, sizeof one);
  BLX__ASSERT(n == (ssize_t)sizeof one);
}

static void hush(struct blx__api_queue *q) {
  uint64_t count;
  ssize_t n = read(q->fd, &count, sizeof count);
  BLX__ASSERT(n == (ssize_t)sizeof count || (n < 0 && errno == EAGAIN)); /* the embedder may read it too */
}

void blx__api_queue_push(struct blx__api_queue *q, struct blx__api_item *item) {
  BLX__ASSERT(item->run != NULL);
  pthread_mutex_lock(&q->lock);
  blx__list_push(&q->items, &item->link);
  if (q->count++ == 0) ring(q);
  pthread_mutex_unlock(&q->lock);
}

/* Under the lock, which is let go while the item runs. */
static void run_one(struct blx__api_queue *q, struct blx__api_item *item) {
  blx__list_remove(&item->link);
  if (--q->count == 0) hush(q);
  pthread_mutex_unlock(&q->lock);
  item->run(item);
  pthread_mutex_lock(&q->lock);
}

static void begin_locked(struct blx__api_queue *q) {
  q->running = true;
  q->runner = pthread_self();
}

/* Rung anew when something is left: the embedder may have read the descriptor, or be told of its edges only. */
static void end_locked(struct blx__api_queue *q) {
  if (q->count > 0) ring(q);
  q->running = false;
  pthread_cond_broadcast(&q->idle);
}

bool blx__api_queue_inside(struct blx__api_queue *q) {
  if (!q) return false;
  pthread_mutex_lock(&q->lock);
  bool inside = q->running && pthread_equal(q->runner, pthread_self());
  pthread_mutex_unlock(&q->lock);
  return inside;
}

int blx__api_queue_run(struct blx__api_queue *q, uint32_t max, blx_error *reterr) {
  pthread_mutex_lock(&q->lock);
  if (q->running) {
    bool own = pthread_equal(q->runner, pthread_self());
    pthread_mutex_unlock(&q->lock);
    return blx__fail(reterr, BLX_E_MISUSE, "client", "%s",
                     own ? "dispatching from a completion would run the next one inside of it: return first"
                         : "another thread is dispatching: one does at a time")
        .code;
  }
  begin_locked(q);
  size_t todo = max != 0 && max < q->count ? max : q->count;
  int done = 0;
  for (; todo > 0; todo--, done++) run_one(q, BLX__CONTAINER(q->items.next, struct blx__api_item, link));
  end_locked(q);
  pthread_mutex_unlock(&q->lock);
  return done;
}

static struct blx__api_item *first_of(struct blx__api_queue *q, const void *owner) {
  BLX__LIST_FOREACH (n, &q->items) {
    struct blx__api_item *item = BLX__CONTAINER(n, struct blx__api_item, link);
    if (item->owner == owner) return item;
  }
  return NULL;
}

void blx__api_queue_drain(struct blx__api_queue *q, const void *owner) {
  pthread_mutex_lock(&q->lock);
  BLX__ASSERT(!q->running || !pthread_equal(q->runner, pthread_self()));
  while (q->running) pthread_cond_wait(&q->idle, &q->lock);
  begin_locked(q);
  for (struct blx__api_item *item; (item = first_of(q, owner)) != NULL;) run_one(q, item);
  end_locked(q);
  pthread_mutex_unlock(&q->lock);
}
