/* The queue, and the thread that writes it: what came meanwhile goes into one transaction. A disk that is full is tried
 * again, loudly; any other failure is the end, for nothing that was written after it could be believed. */
#include "history/history_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RETRY_MS = 1000, SAY_EVERY = 10 };

static const char component[] = "history";

/* pthread's conditions wait until a time of CLOCK_MONOTONIC here. */
static struct timespec after_ms(unsigned ms) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  t.tv_sec += ms / 1000;
  t.tv_nsec += (long)(ms % 1000) * 1000000;
  if (t.tv_nsec >= 1000000000) {
    t.tv_sec++;
    t.tv_nsec -= 1000000000;
  }
  return t;
}

static void drop(struct blx__history *h, struct blx__list *list) {
  for (struct blx__list *at; (at = blx__list_first(list)) != NULL;) {
    struct item *item = BLX__CONTAINER(at, struct item, link);
    blx__list_remove(at);
    h->count--;
    h->bytes -= item->len;
    struct block *block = item->block;
    if (--block->live == 0 && !block->open) free(block);
  }
}

/* With `lock` held. */
static void fail(struct blx__history *h, const blx_error *err) {
  if (h->failed) return;
  h->failed = true;
  drop(h, &h->queue);
  (void)pthread_cond_broadcast(&h->done);
  if (h->o.on_fatal) h->o.on_fatal(h->o.user, err->code, err->message);
}

/* ---- the writer */

static blx__rc write_batch(struct blx__history *h, blx_error *err) {
  const struct tip tip = h->tip, denied = h->denied;
  const struct events_kept kept = h->kept;
  uint64_t bytes = h->record_bytes;
  blx__rc rc = store_run(h, SQL_BEGIN, 0, 0, err);
  if (rc.code != 0) return rc;
  for (struct blx__list *at = h->writing.next; at != &h->writing && rc.code == 0; at = at->next)
    rc = write_item(h, BLX__CONTAINER(at, struct item, link), err);
  if (rc.code == 0) rc = write_trim(h, err);
  if (rc.code == 0) rc = events_written(h, &kept, err);
  if (rc.code == 0) rc = store_run(h, SQL_COMMIT, 0, 0, err);
  if (rc.code == 0) return rc;
  store_rollback(h);
  h->tip = tip;
  h->denied = denied;
  h->kept = kept;
  h->record_bytes = bytes;
  blx__rc gap = store_gap(h, NULL);
  return gap.code != 0 && rc.code == 0 ? gap : rc;
}

/* As many as a transaction takes; waits for more to come, unless somebody waits for them. False: it is time to end. */
static bool take_batch(struct blx__history *h) {
  while (blx__list_empty(&h->queue) && !h->stopping) (void)pthread_cond_wait(&h->wake, &h->lock);
  const struct timespec until = after_ms(BLX__HISTORY_DELAY_MS);
  while (!h->urgent && !h->stopping && h->count < BATCH_MAX)
    if (pthread_cond_timedwait(&h->wake, &h->lock, &until) == ETIMEDOUT) break;
  for (unsigned n = 0; n < BATCH_MAX && !blx__list_empty(&h->queue); n++) {
    struct blx__list *at = blx__list_first(&h->queue);
    blx__list_remove(at);
    blx__list_push(&h->writing, at);
  }
  if (blx__list_empty(&h->queue)) h->urgent = false;
  return !blx__list_empty(&h->writing);
}

/* With `lock` held: a failure that may go away is waited for. False: the batch was given up. */
static bool try_again(struct blx__history *h, const blx_error *err, unsigned attempt) {
  bool may = err->code == BLX_E_NOSPACE || err->code == BLX_E_BUSY;
  if (!may) {
    fail(h, err);
    return false;
  }
  h->full = true;
  (void)pthread_cond_broadcast(&h->done);
  if (attempt % SAY_EVERY == 0)
    blx__log(h->o.log, BLX_LOG_ERROR, component,
             "%s: %zu records wait, the log is kept meanwhile and grows; make room, it is tried each second",
             err->message, h->count);
  const struct timespec until = after_ms(RETRY_MS);
  while (!h->stopping && pthread_cond_timedwait(&h->wake, &h->lock, &until) != ETIMEDOUT) {}
  return !h->stopping;
}

static void write_until_done(struct blx__history *h) {
  for (unsigned attempt = 0;; attempt++) {
    blx_error err = {0};
    pthread_mutex_unlock(&h->lock);
    pthread_mutex_lock(&h->db_lock);
    blx__rc rc = write_batch(h, &err);
    uint64_t upto = h->kept.upto;
    pthread_mutex_unlock(&h->db_lock);
    pthread_mutex_lock(&h->lock);
    h->synced_upto = upto;
    if (rc.code == 0 && h->full) blx__log(h->o.log, BLX_LOG_INFO, component, "%s is written again", h->path);
    if (rc.code == 0) break;
    err.code = rc.code;
    if (!try_again(h, &err, attempt)) {
      drop(h, &h->writing);
      drop(h, &h->queue);
      return;
    }
  }
  h->full = false;
  for (const struct blx__list *at = h->writing.next; at != &h->writing; at = at->next) h->written++;
  drop(h, &h->writing);
  (void)pthread_cond_broadcast(&h->done);
}

static void *thread_main(void *arg) {
  struct blx__history *h = arg;
  pthread_mutex_lock(&h->lock);
  while (take_batch(h)) {
    write_until_done(h);
    if (h->failed) break;
  }
  pthread_mutex_unlock(&h->lock);
  return NULL;
}

/* ---- items */

/* Room for @size bytes in a block that is open. */
static struct block *block_for(struct blx__history *h, size_t size) {
  struct block *old = h->block;
  if (old && old->used + size <= BLOCK_BYTES) return old;
  struct block *block = malloc(sizeof *block);
  if (!block) return NULL;
  block->used = 0;
  block->live = 0;
  block->open = true;
  pthread_mutex_lock(&h->lock);
  if (old) old->open = false;
  bool over = old && old->live == 0;
  pthread_mutex_unlock(&h->lock);
  if (over) free(old);
  h->block = block;
  return block;
}

/* It is nobody's until it is put; its room is lost if it is not. */
static struct item *item_new(struct blx__history *h, enum item_kind kind, struct blx__slice bytes,
                             struct blx__slice message) {
  size_t len = bytes.len + message.len;
  BLX__ASSERT(len <= (kind == ITEM_EVENTS ? BLX__HISTORY_EVENTS_MAX : BLX__HISTORY_RECORD_MAX + 1024));
  size_t size = (sizeof(struct item) + len + 15) & ~(size_t)15;
  struct block *block = block_for(h, size);
  if (!block) return NULL;
  struct item *item = (struct item *)(void *)(block->bytes + block->used);
  block->used += size;
  memset(item, 0, sizeof *item);
  blx__list_init(&item->link);
  item->block = block;
  item->kind = kind;
  item->len = len;
  item->message_len = message.len;
  if (bytes.len > 0) memcpy(item->bytes, bytes.data, bytes.len);
  if (message.len > 0) memcpy(item->bytes + bytes.len, message.data, message.len);
  return item;
}

static bool has_room(const struct blx__history *h) {
  return h->count < BLX__HISTORY_QUEUE_MAX && h->bytes < BLX__HISTORY_QUEUE_BYTES_MAX;
}

/* With `lock` held. False: there is none, and there will not be. */
static bool wait_for_room(struct blx__history *h) {
  const struct timespec until = after_ms(BLX__HISTORY_WAIT_MS);
  h->urgent = true;
  (void)pthread_cond_signal(&h->wake);
  while (!h->failed && !h->full && !has_room(h))
    if (pthread_cond_timedwait(&h->done, &h->lock, &until) == ETIMEDOUT) break;
  if (h->failed) return false;
  if (has_room(h)) return true;
  blx_error err;
  (void)blx__fail(&err, h->full ? BLX_E_NOSPACE : BLX_E_IO, component,
                  "%zu records of the audit log wait to be written to %s, and no more can: %s, then start this node "
                  "again; nothing is lost, the log has them",
                  h->count, h->path, h->full ? "make room on its disk" : "see to its disk, which is too slow");
  fail(h, &err);
  return false;
}

static void put(struct blx__history *h, struct item *item) {
  pthread_mutex_lock(&h->lock);
  if (h->failed || (!has_room(h) && !wait_for_room(h))) {
    pthread_mutex_unlock(&h->lock);
    return;
  }
  bool first = blx__list_empty(&h->queue);
  blx__list_push(&h->queue, &item->link);
  item->block->live++;
  h->count++;
  h->bytes += item->len;
  h->added++;
  if (first || h->count == BATCH_MAX) (void)pthread_cond_signal(&h->wake);
  pthread_mutex_unlock(&h->lock);
}

static void no_memory(struct blx__history *h) {
  blx_error err;
  (void)blx__fail(&err, BLX_E_NOMEM, component, "no memory for what is to be kept of the past");
  pthread_mutex_lock(&h->lock);
  fail(h, &err);
  pthread_mutex_unlock(&h->lock);
}

void blx__history_add(struct blx__history *h, const struct blx__history_record *r) {
  const struct blx__slice message = {(const uint8_t *)r->message, r->message ? strlen(r->message) : 0};
  struct item *item = item_new(h, ITEM_RECORD, r->record, message);
  if (!item) {
    no_memory(h);
    return;
  }
  item->seq = r->seq;
  item->index = r->index;
  item->time_ms = r->time_ms;
  memcpy(item->prev, r->prev, sizeof item->prev);
  memcpy(item->hash, r->hash, sizeof item->hash);
  put(h, item);
}

void blx__history_head(struct blx__history *h, uint64_t seq, const uint8_t hash[BLX__SHA256_BYTES]) {
  struct item *item = item_new(h, ITEM_HEAD, (struct blx__slice){0}, (struct blx__slice){0});
  if (!item) {
    no_memory(h);
    return;
  }
  item->seq = seq;
  memcpy(item->hash, hash, sizeof item->hash);
  put(h, item);
}

void blx__history_deny(struct blx__history *h, uint64_t time_ms, struct blx__slice record) {
  pthread_mutex_lock(&h->lock);
  bool room = !h->failed && has_room(h);
  pthread_mutex_unlock(&h->lock);
  struct item *item = room ? item_new(h, ITEM_DENIED, record, (struct blx__slice){0}) : NULL;
  if (!item) return;
  item->time_ms = time_ms;
  put(h, item);
}

void blx__history_add_events(struct blx__history *h, uint64_t index, uint32_t part, uint64_t time_ms,
                             struct blx__slice events) {
  BLX__ASSERT(index > 0 && index <= BLX__HISTORY_INDEX_MAX && part <= EVENT_PARTS_MASK && events.len > 0);
  struct item *item = item_new(h, ITEM_EVENTS, events, (struct blx__slice){0});
  if (!item) {
    no_memory(h);
    return;
  }
  item->seq = event_id(index, part);
  item->index = index;
  item->time_ms = time_ms;
  put(h, item);
}

void blx__history_begin_events(struct blx__history *h, uint64_t index, uint64_t time_ms) {
  struct item *item = item_new(h, ITEM_EVENTS_BEGIN, (struct blx__slice){0}, (struct blx__slice){0});
  if (!item) {
    no_memory(h);
    return;
  }
  item->index = index;
  item->time_ms = time_ms;
  put(h, item);
}

/* That all events of entries up to @index were given is written behind them: after a start a snapshot's index alone
 * does not say whether entries were applied here or came with another's snapshot. */
static void mark_upto(struct blx__history *h, uint64_t index) {
  pthread_mutex_lock(&h->lock);
  bool wanted = !h->failed && has_room(h) && h->synced_upto < index;
  pthread_mutex_unlock(&h->lock);
  if (!wanted || h->marked_upto >= index) return;
  struct item *item = item_new(h, ITEM_EVENTS_UPTO, (struct blx__slice){0}, (struct blx__slice){0});
  if (!item) return; /* it is asked again */
  item->index = h->marked_upto = index;
  put(h, item);
}

bool blx__history_may_truncate(struct blx__history *h, uint64_t index) {
  mark_upto(h, index);
  pthread_mutex_lock(&h->lock);
  struct blx__list *at = blx__list_first(&h->writing);
  if (!at) at = blx__list_first(&h->queue);
  /* Heads and refused requests have no index: they hold nothing up, and what comes behind them is looked at next. */
  bool may = !h->failed && h->synced_upto >= index && (!at || BLX__CONTAINER(at, struct item, link)->index > index);
  if (!may) {
    h->urgent = true;
    (void)pthread_cond_signal(&h->wake);
  }
  pthread_mutex_unlock(&h->lock);
  return may;
}

bool blx__history_gap(struct blx__history *h, struct blx__history_gap *out) {
  pthread_mutex_lock(&h->lock);
  bool has = h->has_gap && !h->failed;
  *out = h->gap;
  pthread_mutex_unlock(&h->lock);
  return has;
}

blx__rc history_flush(struct blx__history *h, blx_error *err) {
  const struct timespec until = after_ms(BLX__HISTORY_WAIT_MS);
  pthread_mutex_lock(&h->lock);
  uint64_t wanted = h->added;
  h->urgent = true;
  (void)pthread_cond_signal(&h->wake);
  while (!h->failed && h->written < wanted)
    if (pthread_cond_timedwait(&h->done, &h->lock, &until) == ETIMEDOUT) break;
  bool failed = h->failed, done = h->written >= wanted;
  pthread_mutex_unlock(&h->lock);
  if (failed) return blx__fail(err, BLX_E_FATAL, component, "%s can no longer be written", h->path);
  if (!done)
    return blx__fail(err, BLX_E_TIMEOUT, component, "%s is not written in time: see to its disk, then try again",
                     h->path);
  return BLX__OK;
}

/* ---- open and close */

static void free_it(struct blx__history *h) {
  drop(h, &h->queue);
  drop(h, &h->writing);
  free(h->block);
  store_close(h);
  (void)pthread_cond_destroy(&h->wake);
  (void)pthread_cond_destroy(&h->done);
  (void)pthread_mutex_destroy(&h->lock);
  (void)pthread_mutex_destroy(&h->db_lock);
  free(h);
}

static void init(struct blx__history *h, const struct blx__history_options *options) {
  pthread_condattr_t attr;
  h->o = *options;
  blx__list_init(&h->queue);
  blx__list_init(&h->writing);
  (void)pthread_mutex_init(&h->lock, NULL);
  (void)pthread_mutex_init(&h->db_lock, NULL);
  (void)pthread_condattr_init(&attr);
  (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  (void)pthread_cond_init(&h->wake, &attr);
  (void)pthread_cond_init(&h->done, &attr);
  (void)pthread_condattr_destroy(&attr);
}

static blx__rc start(struct blx__history *h, blx_error *err) {
  sigset_t all, before;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  int why = pthread_create(&h->thread, NULL, thread_main, h);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (why != 0) return blx__fail_errno(err, why, component, "cannot start the thread that writes the audit log");
  h->started = true;
  return BLX__OK;
}

blx__rc blx__history_open(const struct blx__history_options *options, struct blx__history **out, blx_error *err) {
  struct blx__history *h = calloc(1, sizeof *h);
  if (!h) return blx__fail(err, BLX_E_NOMEM, component, "no memory for the audit log");
  init(h, options);
  blx__rc rc = BLX__OK;
  if (!blx__str_copy(h->path, sizeof h->path, options->path))
    rc = blx__fail(err, BLX_E_INVALID, component, "the path of the audit log is too long");
  h->o.path = h->path;
  if (rc.code == 0) rc = store_open(h, err);
  h->synced_upto = h->kept.upto;
  if (rc.code == 0) rc = start(h, err);
  if (rc.code != 0) {
    free_it(h);
    return rc;
  }
  *out = h;
  return BLX__OK;
}

void blx__history_close(struct blx__history *h) {
  if (!h) return;
  pthread_mutex_lock(&h->lock);
  h->stopping = true;
  (void)pthread_cond_signal(&h->wake);
  pthread_mutex_unlock(&h->lock);
  if (h->started) pthread_join(h->thread, NULL);
  free_it(h);
}
