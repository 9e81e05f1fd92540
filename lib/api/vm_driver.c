/* A table of the embedder's as the driver of a node (vm/driver.h). Calls and readers that it holds are handles, so that
 * an answer that comes twice or too late is found out; answers and events come by the loop's posts, in one order. */
#include "api/vm_driver.h"

#include "api/api_int.h"
#include "base/buf.h"
#include "io/timer.h"

#include <blixard/sys/vm_driver.h>
#include <stdlib.h>
#include <string.h>

enum { LOGS_RETRY_MS = 20, SIGNAL_MAX = 64, EXIT_STATUS_MAX = 255 };

_Static_assert((int)BLX_VM_DRIVER_TEXT_MAX == (int)BLX__VM_TEXT_MAX, "as the header says");
_Static_assert((int)BLX_VM_DRIVER_LOG_LINES_ALL == (int)BLX__VM_LOG_LINES_ALL, "as the header says");
_Static_assert((int)BLX_VM_DRIVER_EVENT_PROTOCOL == (int)BLX__VM_EVENT_PROTOCOL + 1, "one order of events");
_Static_assert((int)BLX_VM_DRIVER_EXITED == (int)BLX__VM_EXITED, "one numbering of states");

static const char origin[] = "vm driver";

struct driver {
  struct blx__vm_driver base;
  const struct blx_vm_driver_ops *ops;
  struct blx__loop *loop;
  blx_vm_driver *handle;
  blx__vm_event_fn *on_event;
  void *event_user;
  struct blx__list calls, logs;
  size_t logs_count;
  atomic_uint posted; /* events on their way to the loop */
  bool closing;
  struct blx__defer closed;
  void (*on_close)(void *user);
  void *close_user;
};

/* Under way, or with its answer on its way to the loop. */
struct call {
  struct blx__list link;
  struct driver *driver;
  const struct blx_vm_driver_ops *ops;
  struct blx_vm_driver_key key; /* while the table is called */
  blx_vm_driver_call *handle;   /* NULL: the table does not have it, or no more */
  struct blx__defer defer;
  blx__vm_done_fn *done;
  blx__vm_adopt_fn *adopted;
  void *user;
  atomic_bool answered; /* who sets it fills in the answer */
  bool failed;
  blx_error err;
  struct blx__vm_status status;
};

struct event {
  struct driver *driver;
  char instance[64];
  uint64_t uid, epoch;
  enum blx__vm_event event;
  struct blx__vm_status status;
};

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

static struct driver *driver_of(struct blx__vm_driver *d) {
  return BLX__CONTAINER(d, struct driver, base);
}

/* Nobody finds @handle any more, and nobody is inside. */
static void retire(const void *handle, enum blx__api_kind kind) {
  bool mine = blx__api_handle_take(handle, kind, NULL) != NULL && blx__api_handle_kill(handle);
  BLX__ASSERT(mine);
  blx__api_handle_put(handle);
  blx__api_handle_drop(handle);
}

static struct blx_vm_driver_key key_of(const struct blx__vm_key *key) {
  return (struct blx_vm_driver_key){
      .struct_size = sizeof(struct blx_vm_driver_key), .instance = key->instance, .uid = key->uid, .epoch = key->epoch};
}

static void close_if_idle(struct driver *d) {
  if (d->closing && blx__list_empty(&d->calls) && blx__list_empty(&d->logs) && atomic_load(&d->posted) == 0)
    blx__loop_defer(d->loop, &d->closed);
}

/* ---- what the embedder hands over */

/* What a function of the table returned, or an answer says: UTF-8, cut, with a code of ours, never without a sentence.
 */
static blx__rc told(int code, const blx_error *said, blx_error *err) {
  if (code == 0) return BLX__OK;
  if (code > 0 || blx__str_eq(blx_error_name(code), "UNKNOWN"))
    return blx__fail(err, BLX_E_INTERNAL, origin, "the driver's code is %d, which is none of BLX_E_*", code);
  if (!said->message[0]) return blx__fail(err, code, origin, "the driver said only: %s", blx_error_text(code));
  return blx__fail(err, code, origin, "%.*s", (int)sizeof said->message - 1, said->message);
}

static blx__rc take_status(const struct blx_vm_driver_status *given, struct blx__vm_status *out, blx_error *err) {
  struct blx_vm_driver_status s;
  BLX__TRY(blx__api_take_struct(&s, sizeof s, sizeof(size_t), given, origin, err));
  if (s.state < BLX_VM_DRIVER_ABSENT || s.state > BLX_VM_DRIVER_EXITED)
    return blx__fail(err, BLX_E_INVALID, origin, "state: %d is none of BLX_VM_DRIVER_ABSENT to _EXITED", s.state);
  if (s.exit_status < -1 || s.exit_status > EXIT_STATUS_MAX || s.signal < 0 || s.signal > SIGNAL_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "exit_status, signal: %d and %d; they are -1 to %d and 0 to %d",
                     s.exit_status, s.signal, EXIT_STATUS_MAX, SIGNAL_MAX);
  if (s.paused > 1 || s.reset > 1)
    return blx__fail(err, BLX_E_INVALID, origin, "paused, reset: %u and %u; each is 0 or 1", s.paused, s.reset);
  *out = (struct blx__vm_status){.state = (enum blx__vm_state)s.state,
                                 .epoch = s.epoch,
                                 .exit_status = s.exit_status,
                                 .signal = s.signal,
                                 .paused = s.paused != 0,
                                 .reset = s.reset != 0};
  (void)blx__str_copy(out->text, sizeof out->text, s.text ? s.text : "");
  blx__utf8_mend(out->text);
  return BLX__OK;
}

/* ---- calls: given to the table, answered from any thread, completed on the loop */

static void complete(void *arg) {
  struct call *c = arg;
  struct driver *d = c->driver;
  if (c->handle) retire(c->handle, BLX__API_VM_CALL);
  blx__list_remove(&c->link);
  const blx_error *err = c->failed ? &c->err : NULL;
  if (c->adopted)
    c->adopted(c->user, err, err ? NULL : &c->status);
  else
    c->done(c->user, err);
  free(c);
  close_if_idle(d);
}

/* Of our own, without the table: told on a later turn. */
static void refuse(struct call *c, const blx_error *why) {
  atomic_store(&c->answered, true);
  c->failed = true;
  c->err = *why;
  blx__loop_defer(c->driver->loop, &c->defer);
}

/* NULL: refused. */
static struct call *begin(struct blx__vm_driver *base, const struct blx__vm_key *key, blx__vm_done_fn *done,
                          blx__vm_adopt_fn *adopted, void *user) {
  struct driver *d = driver_of(base);
  struct call *c = calloc(1, sizeof *c);
  BLX__ASSERT(c); /* a completion that cannot be delivered would hang its caller for ever */
  blx_error why;
  c->driver = d;
  c->ops = d->ops;
  c->key = key_of(key);
  c->done = done;
  c->adopted = adopted;
  c->user = user;
  blx__defer_init(&c->defer, complete, c);
  blx__list_push(&d->calls, &c->link);
  if (d->closing)
    (void)blx__fail(&why, BLX_E_CANCELLED, origin, "the driver is closing");
  else
    c->handle = blx__api_handle_new(BLX__API_VM_CALL, c, &why);
  if (c->handle) return c;
  refuse(c, &why);
  return NULL;
}

/* It is not the table's. */
static void take_back(struct call *c, const blx_error *why) {
  retire(c->handle, BLX__API_VM_CALL);
  c->handle = NULL;
  refuse(c, why);
}

static int answer(blx_vm_driver_call *call, const blx_error *given, const struct blx_vm_driver_status *found,
                  blx_error *reterr) {
  blx_error said;
  struct blx__vm_status status = {0};
  bool failed = given && told(given->code, given, &said).code != 0;
  blx__rc rc = found ? take_status(found, &status, reterr) : BLX__OK;
  if (rc.code != 0) return rc.code;
  struct call *c = blx__api_handle_take(call, BLX__API_VM_CALL, NULL);
  if (!c)
    return blx__fail(reterr, BLX_E_MISUSE, origin, "there is no such call: it was answered, or its node is closed")
        .code;
  if (!failed && (c->adopted != NULL) != (found != NULL)) {
    rc = blx__fail(reterr, BLX_E_MISUSE, origin, "blx_vm_driver_found() is for an adopt that succeeded, and only that");
  } else if (atomic_exchange(&c->answered, true)) {
    rc = blx__fail(reterr, BLX_E_MISUSE, origin, "the call was answered already");
  } else {
    c->failed = failed;
    if (failed) c->err = said;
    c->status = status;
    rc = blx__loop_post(c->driver->loop, complete, c, reterr);
    if (rc.code != 0) atomic_store(&c->answered, false);
  }
  blx__api_handle_put(call);
  return rc.code;
}

int blx_vm_driver_done(blx_vm_driver_call *call, const blx_error *err, blx_error *reterr) {
  return answer(call, err, NULL, reterr);
}

int blx_vm_driver_found(blx_vm_driver_call *call, const struct blx_vm_driver_status *status, blx_error *reterr) {
  if (!status) return blx__fail(reterr, BLX_E_MISUSE, origin, "the status is NULL").code;
  return answer(call, NULL, status, reterr);
}

/* ---- events */

static void deliver(void *arg) {
  struct event *e = arg;
  struct driver *d = e->driver;
  const struct blx__vm_key key = {.instance = e->instance, .uid = e->uid, .epoch = e->epoch};
  atomic_fetch_sub(&d->posted, 1);
  if (!d->closing) d->on_event(d->event_user, &key, e->event, &e->status);
  free(e);
  close_if_idle(d);
}

static blx__rc take_event(struct event *e, const struct blx_vm_driver_key *key, int32_t event,
                          const struct blx_vm_driver_status *status, blx_error *err) {
  static const enum blx__vm_state states[] = {BLX__VM_READY, BLX__VM_EXITED, BLX__VM_RUNNING};
  struct blx_vm_driver_key k;
  if (!key) return blx__fail(err, BLX_E_MISUSE, origin, "the key is NULL");
  BLX__TRY(blx__api_take_struct(&k, sizeof k, sizeof(size_t), key, origin, err));
  if (!k.instance || !blx__str_copy(e->instance, sizeof e->instance, k.instance))
    return blx__fail(err, BLX_E_INVALID, origin, "instance: a name of 1 to 63 bytes is required");
  if (event < BLX_VM_DRIVER_EVENT_READY || event > BLX_VM_DRIVER_EVENT_PROTOCOL)
    return blx__fail(err, BLX_E_INVALID, origin, "event: %d is none of BLX_VM_DRIVER_EVENT_*", event);
  e->status.exit_status = -1;
  if (status) BLX__TRY(take_status(status, &e->status, err));
  e->uid = k.uid;
  e->epoch = e->status.epoch = k.epoch;
  e->event = (enum blx__vm_event)(event - BLX_VM_DRIVER_EVENT_READY);
  e->status.state = states[e->event];
  return BLX__OK;
}

static blx__rc post_event(struct driver *d, struct event *e, blx_error *err) {
  e->driver = d;
  bool room = atomic_fetch_add(&d->posted, 1) < BLX_VM_DRIVER_EVENTS_MAX;
  blx__rc rc = room ? blx__loop_post(d->loop, deliver, e, err)
                    : blx__fail(err, BLX_E_BUSY, origin, "%d events wait for the node: try again a little later",
                                BLX_VM_DRIVER_EVENTS_MAX);
  if (rc.code != 0) atomic_fetch_sub(&d->posted, 1);
  return rc;
}

int blx_vm_driver_event(blx_vm_driver *driver, const struct blx_vm_driver_key *key, int32_t event,
                        const struct blx_vm_driver_status *status, blx_error *reterr) {
  struct driver *d = blx__api_handle_take(driver, BLX__API_VM_DRIVER, reterr);
  if (!d) return BLX_E_MISUSE;
  struct event *e = calloc(1, sizeof *e);
  blx__rc rc =
      e ? take_event(e, key, event, status, reterr) : blx__fail(reterr, BLX_E_NOMEM, origin, "no memory for an event");
  if (rc.code == 0) rc = post_event(d, e, reterr);
  if (rc.code != 0) free(e);
  blx__api_handle_put(driver);
  return rc.code;
}

/* ---- the table as blx__vm_ops */

static struct blx_vm_driver_desc desc_of(const struct blx__vm_desc *desc) {
  struct blx_vm_driver_desc out = {.struct_size = sizeof out, .flake = desc->flake, .config_name = desc->config_name};
  out.vcpus = desc->vcpus, out.memory_mib = desc->memory_mib;
  out.hypervisor = desc->hypervisor ? desc->hypervisor : "qemu";
  out.config = (struct blx_bytes){desc->config, desc->config_len};
  out.ready_none = desc->ready_none;
  out.nixpkgs_ref = desc->nixpkgs_ref;
  out.microvm_ref = desc->microvm_ref;
  return out;
}

static blx__rc own_supported(struct blx__vm_driver *base, const struct blx__vm_desc *desc, blx_error *err) {
  const struct blx_vm_driver_ops *ops = driver_of(base)->ops;
  if (!ops->supported) return BLX__OK;
  const struct blx_vm_driver_key key = key_of(&desc->key);
  const struct blx_vm_driver_desc what = desc_of(desc);
  blx_error said = {0};
  return told(ops->supported(ops->user, &key, &what, &said), &said, err);
}

static void own_prepare(struct blx__vm_driver *base, const struct blx__vm_desc *desc, blx__vm_done_fn *done,
                        void *user) {
  struct call *c = begin(base, &desc->key, done, NULL, user);
  const struct blx_vm_driver_desc what = desc_of(desc);
  blx_error why;
  if (c && own_supported(base, desc, &why).code != 0)
    take_back(c, &why);
  else if (c)
    c->ops->prepare(c->ops->user, c->handle, &c->key, &what);
}

static void own_start(struct blx__vm_driver *base, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user) {
  struct call *c = begin(base, &desc->key, done, NULL, user);
  const struct blx_vm_driver_desc what = desc_of(desc);
  if (c) c->ops->start(c->ops->user, c->handle, &c->key, &what);
}

static void own_stop(struct blx__vm_driver *base, const struct blx__vm_key *key, uint32_t deadline_ms,
                     blx__vm_done_fn *done, void *user) {
  struct call *c = begin(base, key, done, NULL, user);
  if (c) c->ops->stop(c->ops->user, c->handle, &c->key, deadline_ms);
}

static void own_kill(struct blx__vm_driver *base, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  struct call *c = begin(base, key, done, NULL, user);
  if (c) c->ops->kill(c->ops->user, c->handle, &c->key);
}

static void own_pause(struct blx__vm_driver *base, const struct blx__vm_key *key, bool paused, blx__vm_done_fn *done,
                      void *user) {
  struct call *c = begin(base, key, done, NULL, user);
  blx_error why;
  if (c && c->ops->pause) {
    c->ops->pause(c->ops->user, c->handle, &c->key, paused);
  } else if (c) {
    (void)blx__fail(&why, BLX_E_UNSUPPORTED, origin, "this node's own driver cannot pause %s", key->instance);
    take_back(c, &why);
  }
}

static void own_destroy(struct blx__vm_driver *base, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  struct call *c = begin(base, key, done, NULL, user);
  if (c) c->ops->destroy(c->ops->user, c->handle, &c->key);
}

static void own_adopt(struct blx__vm_driver *base, const struct blx__vm_key *key, blx__vm_adopt_fn *done, void *user) {
  struct call *c = begin(base, key, NULL, done, user);
  if (c) c->ops->adopt(c->ops->user, c->handle, &c->key);
}

/* ---- consoles */

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
  close_if_idle(d);
}

/* Nobody reads any more. True: the embedder did not end it. */
static bool logs_over(struct blx__vm_logs *l) {
  retire(l->handle, BLX__API_VM_LOGS);
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
      blx__timer_start(l->retry, LOGS_RETRY_MS, 0);
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
  bool failed = err && told(err->code, err, &said).code != 0;
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

static blx__rc own_logs(struct blx__vm_driver *base, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                        blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user,
                        struct blx__vm_logs **out, blx_error *err) {
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
  blx__rc rc = told(d->ops->logs(d->ops->user, l->handle, &k, tail_lines, follow, &said), &said, err);
  if (rc.code == 0) {
    *out = l;
    return rc;
  }
  (void)logs_over(l);
  logs_free_if_idle(l);
  return rc;
}

static void own_logs_close(struct blx__vm_driver *base, struct blx__vm_logs *l) {
  const struct blx_vm_driver_ops *ops = driver_of(base)->ops;
  blx_vm_driver_logs *handle = l->handle;
  BLX__ASSERT(!l->gone);
  if (logs_over(l)) ops->logs_close(ops->user, handle);
  logs_free_if_idle(l);
}

/* ---- life */

static void on_closed(void *arg) {
  struct driver *d = arg;
  void (*on_close)(void *) = d->on_close;
  void *user = d->close_user;
  free(d);
  if (on_close) on_close(user);
}

/* After a retire nobody is in an answer any more: it is on its way, or there will be none. */
static void cancel_calls(struct driver *d) {
  blx_error why;
  (void)blx__fail(&why, BLX_E_CANCELLED, origin, "the driver was closed");
  BLX__LIST_FOREACH (it, &d->calls) {
    struct call *c = BLX__CONTAINER(it, struct call, link);
    if (!c->handle) continue;
    retire(c->handle, BLX__API_VM_CALL);
    c->handle = NULL;
    if (!atomic_load(&c->answered)) refuse(c, &why);
  }
}

static void cancel_logs(struct driver *d) {
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

static void own_close(struct blx__vm_driver *base, void (*done)(void *user), void *user) {
  struct driver *d = driver_of(base);
  BLX__ASSERT(!d->closing);
  d->closing = true;
  d->on_close = done;
  d->close_user = user;
  retire(d->handle, BLX__API_VM_DRIVER);
  cancel_calls(d);
  cancel_logs(d);
  if (d->ops->close) d->ops->close(d->ops->user);
  close_if_idle(d);
}

static const struct blx__vm_ops own_ops = {.name = "the embedder's",
                                           .supported = own_supported,
                                           .prepare = own_prepare,
                                           .start = own_start,
                                           .stop = own_stop,
                                           .kill = own_kill,
                                           .pause = own_pause,
                                           .destroy = own_destroy,
                                           .adopt = own_adopt,
                                           .logs = own_logs,
                                           .logs_close = own_logs_close,
                                           .close = own_close};

blx__rc blx__api_vm_driver_open(void *ops, struct blx__loop *loop, blx__vm_event_fn *on_event, void *event_user,
                                struct blx__vm_driver **out, blx_error *err) {
  struct driver *d = calloc(1, sizeof *d);
  if (!d) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a driver");
  d->base.ops = &own_ops;
  d->ops = ops;
  d->loop = loop;
  d->on_event = on_event;
  d->event_user = event_user;
  blx__list_init(&d->calls);
  blx__list_init(&d->logs);
  blx__defer_init(&d->closed, on_closed, d);
  blx_error said = {0};
  d->handle = blx__api_handle_new(BLX__API_VM_DRIVER, d, err);
  blx__rc rc = {BLX_E_BUSY};
  if (d->handle) rc = told(d->ops->open(d->ops->user, d->handle, &said), &said, err);
  if (rc.code == 0) {
    *out = &d->base;
    return rc;
  }
  if (d->handle) retire(d->handle, BLX__API_VM_DRIVER);
  d->closing = true; /* events of it may be on their way */
  close_if_idle(d);
  return rc;
}
