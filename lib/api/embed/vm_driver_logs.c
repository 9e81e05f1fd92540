/* Consoles of a driver of the embedder's. */
#include "api/vm_driver_int.h"

#include <stdlib.h>

static const char origin[] = OWN_ORIGIN;

/* A reader. What the embedder adds waits in `in`, what is offered to the reader is in `out`. */
struct blx__vm_logs {
  struct blx__list link;
  struct driver *driver;
  blx_vm_driver_logs *handle; /* NULL: over for the embedder */
  blx__vm_log_bytes_fn *on_bytes;
  blx__vm_log_end_fn *on_end;
  void *user;
  struct blx__timer *retry;
  struct blx__buf out;
  uint64_t out_ms;      /* when that came */
  bool offering, gone;  /* on the loop: inside on_bytes; nobody reads any more */
  pthread_mutex_t lock; /* of what follows */
  struct blx__buf in;
  bool posted, ended, failed;
  blx_error err;
};

static void logs_free_if_idle(struct blx__vm_logs *l) {
  struct driver *d = l->driver;
  pthread_mutex_lock(&l->lock);
  bool busy = l->offering || l->posted;
  pthread_mutex_unlock(&l->lock);
  if (!l->gone || busy) return;
  blx__list_remove(&l->link);
  blx__timer_free(l->retry);
  blx__buf_free(&l->in);
  blx__buf_free(&l->out);
  pthread_mutex_destroy(&l->lock);
  free(l);
  own_close_if_idle(d);
}

/* Nobody reads any more. True: the embedder did not end it. */
static bool logs_over(struct blx__vm_logs *l) {
  own_retire(l->handle, BLX__API_VM_LOGS);
  l->handle = NULL;
  l->gone = true;
  l->driver->logs_count--;
  blx__timer_stop(l->retry);
  return !l->ended;
}

static bool refill(struct blx__vm_logs *l) {
  pthread_mutex_lock(&l->lock);
  const struct blx__buf empty = l->out;
  l->out = l->in;
  l->in = empty;
  l->out_ms = blx__loop_wall_ms(l->driver->loop);
  bool ended = l->ended;
  pthread_mutex_unlock(&l->lock);
  return l->out.len > 0 || !ended;
}

static void logs_offer(void *arg) {
  struct blx__vm_logs *l = arg;
  while (!l->gone) {
    if (l->out.len == 0 && !refill(l)) {
      blx__vm_log_end_fn *on_end = l->on_end;
      (void)logs_over(l);
      on_end(l->user, l->failed ? &l->err : NULL);
      break;
    }
    if (l->out.len == 0) break;
    l->offering = true;
    bool taken = l->on_bytes(l->user, l->out_ms, l->out.data, l->out.len);
    l->offering = false;
    if (l->gone) break;
    if (!taken) {
      blx__timer_start(l->retry, OWN_RETRY_MS, 0);
      break;
    }
    blx__buf_clear(&l->out);
  }
  logs_free_if_idle(l);
}

static void logs_pump(void *arg) {
  struct blx__vm_logs *l = arg;
  pthread_mutex_lock(&l->lock);
  l->posted = false;
  pthread_mutex_unlock(&l->lock);
  logs_offer(l);
}

/* Under the lock. */
static blx__rc logs_post(struct blx__vm_logs *l, blx_error *err) {
  if (l->ended) return blx__fail(err, BLX_E_MISUSE, origin, "the reader's end was told already");
  if (l->posted) return BLX__OK;
  BLX__TRY(blx__loop_post(l->driver->loop, logs_pump, l, err));
  l->posted = true;
  return BLX__OK;
}

int blx_vm_driver_logs_add(blx_vm_driver_logs *logs, const void *bytes, size_t len, blx_error *reterr) {
  if (len > BLX_VM_DRIVER_LOG_BYTES_MAX || (len > 0 && !bytes))
    return blx__fail(reterr, BLX_E_INVALID, origin, "bytes: %zu bytes, of which there may be %d, or NULL", len,
                     BLX_VM_DRIVER_LOG_BYTES_MAX)
        .code;
  struct blx__vm_logs *l = blx__api_handle_take(logs, BLX__API_VM_LOGS, reterr);
  if (!l) return BLX_E_MISUSE;
  pthread_mutex_lock(&l->lock);
  bool full = !l->ended && l->in.len + len > BLX_VM_DRIVER_LOG_BYTES_MAX;
  blx__rc rc = full ? blx__fail(reterr, BLX_E_BUSY, origin, "the reader is slow: the same bytes again a little later")
                    : logs_post(l, reterr);
  if (rc.code == 0 && len > 0 && !blx__buf_add(&l->in, bytes, len))
    rc = blx__fail(reterr, BLX_E_NOMEM, origin, "no memory for a console's bytes");
  pthread_mutex_unlock(&l->lock);
  blx__api_handle_put(logs);
  return rc.code;
}

int blx_vm_driver_logs_end(blx_vm_driver_logs *logs, const blx_error *err, blx_error *reterr) {
  blx_error said = {0};
  bool failed = err && own_told(err->code, err, &said).code != 0;
  struct blx__vm_logs *l = blx__api_handle_take(logs, BLX__API_VM_LOGS, reterr);
  if (!l) return BLX_E_MISUSE;
  pthread_mutex_lock(&l->lock);
  blx__rc rc = logs_post(l, reterr);
  if (rc.code == 0) {
    l->ended = true;
    l->failed = failed;
    l->err = said;
  }
  pthread_mutex_unlock(&l->lock);
  blx__api_handle_put(logs);
  return rc.code;
}

/* NULL: no memory, or too many handles. */
static struct blx__vm_logs *logs_new(struct driver *d) {
  struct blx__vm_logs *l = calloc(1, sizeof *l);
  if (!l) return NULL;
  blx__buf_init(&l->in, BLX_VM_DRIVER_LOG_BYTES_MAX);
  blx__buf_init(&l->out, BLX_VM_DRIVER_LOG_BYTES_MAX);
  pthread_mutex_init(&l->lock, NULL);
  l->driver = d;
  blx__list_push(&d->logs, &l->link);
  l->retry = blx__timer_new(d->loop, logs_offer, l);
  if (l->retry) l->handle = blx__api_handle_new(BLX__API_VM_LOGS, l, NULL);
  l->gone = !l->handle;
  if (l->handle) return l;
  logs_free_if_idle(l);
  return NULL;
}

blx__rc own_logs(struct blx__vm_driver *base, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                 blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user, struct blx__vm_logs **out,
                 blx_error *err) {
  struct driver *d = driver_of(base);
  blx_error said = {0};
  if (!d->ops->logs) return blx__fail(err, BLX_E_UNSUPPORTED, origin, "this node's own driver keeps no consoles");
  if (d->logs_count >= BLX__VM_LOGS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%d readers of logs are connected already", BLX__VM_LOGS_MAX);
  struct blx__vm_logs *l = logs_new(d);
  if (!l) return blx__fail(err, BLX_E_NOMEM, origin, "no memory, or no handle, for a reader of consoles");
  d->logs_count++;
  l->on_bytes = on_bytes;
  l->on_end = on_end;
  l->user = user;
  const struct blx_vm_driver_key k = key_of(key);
  blx__rc rc = own_told(d->ops->logs(d->ops->user, l->handle, &k, tail_lines, follow, &said), &said, err);
  if (rc.code == 0) {
    *out = l;
    return rc;
  }
  (void)logs_over(l);
  logs_free_if_idle(l);
  return rc;
}

void own_logs_close(struct blx__vm_driver *base, struct blx__vm_logs *l) {
  const struct blx_vm_driver_ops *ops = driver_of(base)->ops;
  blx_vm_driver_logs *handle = l->handle;
  BLX__ASSERT(!l->gone);
  if (logs_over(l)) ops->logs_close(ops->user, handle);
  logs_free_if_idle(l);
}

void own_logs_cancel(struct driver *d) {
  for (struct blx__list *it = d->logs.next, *next; it != &d->logs; it = next) {
    next = it->next;
    struct blx__vm_logs *l = BLX__CONTAINER(it, struct blx__vm_logs, link);
    if (l->gone) continue;
    blx__vm_log_end_fn *on_end = l->on_end;
    void *user = l->user;
    own_logs_close(&d->base, l);
    on_end(user, NULL);
  }
}
