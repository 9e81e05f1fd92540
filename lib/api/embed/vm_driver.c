/* A table of the embedder's as the driver of a node (vm/driver.h). Calls, readers and sessions that it holds are
 * handles, so that an answer that comes twice or too late is found out; answers and events come by the loop's posts, in
 * one order. */
#include "api/vm_driver_int.h"

#include <stdlib.h>

_Static_assert((int)BLX_VM_DRIVER_TEXT_MAX == (int)BLX__VM_TEXT_MAX, "as the header says");
_Static_assert((int)BLX_VM_DRIVER_LOG_LINES_ALL == (int)BLX__VM_LOG_LINES_ALL, "as the header says");
_Static_assert((int)BLX_VM_DRIVER_EVENT_PROTOCOL == (int)BLX__VM_EVENT_PROTOCOL + 1, "one order of events");
_Static_assert((int)BLX_VM_DRIVER_EXITED == (int)BLX__VM_EXITED, "one numbering of states");

static const char origin[] = OWN_ORIGIN;

struct event {
  struct driver *driver;
  char instance[64];
  uint64_t uid, epoch;
  enum blx__vm_event event;
  struct blx__vm_status status;
};

void own_close_if_idle(struct driver *d) {
  if (d->closing && blx__list_empty(&d->calls) && blx__list_empty(&d->logs) && blx__list_empty(&d->sessions) &&
      atomic_load(&d->posted) == 0)
    blx__loop_defer(d->loop, &d->closed);
}

void own_retire(const void *handle, enum blx__api_kind kind) {
  bool mine = blx__api_handle_take(handle, kind, NULL) != NULL && blx__api_handle_kill(handle);
  BLX__ASSERT(mine);
  blx__api_handle_put(handle);
  blx__api_handle_drop(handle);
}

/* ---- what the embedder hands over */

blx__rc own_told(int code, const blx_error *said, blx_error *err) {
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
  if (s.exit_status < -1 || s.exit_status > OWN_EXIT_STATUS_MAX || s.signal < 0 || s.signal > OWN_SIGNAL_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "exit_status, signal: %d and %d; they are -1 to %d and 0 to %d",
                     s.exit_status, s.signal, OWN_EXIT_STATUS_MAX, OWN_SIGNAL_MAX);
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
  if (c->handle) own_retire(c->handle, BLX__API_VM_CALL);
  blx__list_remove(&c->link);
  const blx_error *err = c->failed ? &c->err : NULL;
  d->stats_count -= c->measured != NULL;
  if (c->measured)
    c->measured(c->user, err, c->rows, err ? 0 : c->count);
  else if (c->adopted)
    c->adopted(c->user, err, err ? NULL : &c->status);
  else
    c->done(c->user, err);
  free(c->rows);
  free(c);
  own_close_if_idle(d);
}

/* Of our own, without the table: told on a later turn. */
static void refuse(struct call *c, const blx_error *why) {
  atomic_store(&c->answered, true);
  c->failed = true;
  c->err = *why;
  blx__loop_defer(c->driver->loop, &c->defer);
}

static void begin_call(struct call *c, struct driver *d, void *user) {
  c->driver = d;
  c->ops = d->ops;
  c->user = user;
  blx__defer_init(&c->defer, complete, c);
  blx__list_push(&d->calls, &c->link);
}

/* NULL: refused. */
static struct call *begin(struct blx__vm_driver *base, const struct blx__vm_key *key, blx__vm_done_fn *done,
                          blx__vm_adopt_fn *adopted, void *user) {
  struct driver *d = driver_of(base);
  struct call *c = calloc(1, sizeof *c);
  BLX__ASSERT(c); /* a completion that cannot be delivered would hang its caller for ever */
  blx_error why;
  c->key = key_of(key);
  c->done = done;
  c->adopted = adopted;
  begin_call(c, d, user);
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
  own_retire(c->handle, BLX__API_VM_CALL);
  c->handle = NULL;
  refuse(c, why);
}

enum answer_kind { ANSWER_DONE, ANSWER_FOUND, ANSWER_MEASURED };

/* What an answer brings, beside an error. */
struct answer {
  enum answer_kind kind;
  struct blx__vm_status status;
  struct blx__vm_stats *rows; /* given away when it is taken */
  size_t count;
};

static enum answer_kind wanted(const struct call *c) {
  return c->measured ? ANSWER_MEASURED : c->adopted ? ANSWER_FOUND : ANSWER_DONE;
}

static blx__rc answer_take(struct call *c, struct answer *a, const blx_error *said, blx_error *err) {
  if (!said && a->kind != wanted(c))
    return blx__fail(err, BLX_E_MISUSE, origin,
                     "blx_vm_driver_found() is for an adopt that succeeded, blx_vm_driver_measured() for stats, and "
                     "blx_vm_driver_done() for all else");
  if (atomic_exchange(&c->answered, true)) return blx__fail(err, BLX_E_MISUSE, origin, "the call was answered already");
  c->failed = said != NULL;
  if (said) c->err = *said;
  c->status = a->status;
  c->rows = a->rows;
  c->count = a->count;
  blx__rc rc = blx__loop_post(c->driver->loop, complete, c, err);
  if (rc.code == 0) {
    a->rows = NULL; /* the call may be gone already */
    return rc;
  }
  c->rows = NULL;
  atomic_store(&c->answered, false);
  return rc;
}

static int answer(blx_vm_driver_call *call, const blx_error *given, struct answer *a, blx_error *reterr) {
  blx_error said;
  bool failed = given && own_told(given->code, given, &said).code != 0;
  struct call *c = blx__api_handle_take(call, BLX__API_VM_CALL, NULL);
  if (!c)
    return blx__fail(reterr, BLX_E_MISUSE, origin, "there is no such call: it was answered, or its node is closed")
        .code;
  int code = answer_take(c, a, failed ? &said : NULL, reterr).code;
  blx__api_handle_put(call);
  return code;
}

int blx_vm_driver_done(blx_vm_driver_call *call, const blx_error *err, blx_error *reterr) {
  return answer(call, err, &(struct answer){.kind = ANSWER_DONE}, reterr);
}

int blx_vm_driver_found(blx_vm_driver_call *call, const struct blx_vm_driver_status *status, blx_error *reterr) {
  struct answer a = {.kind = ANSWER_FOUND};
  if (!status) return blx__fail(reterr, BLX_E_MISUSE, origin, "the status is NULL").code;
  blx__rc rc = take_status(status, &a.status, reterr);
  return rc.code != 0 ? rc.code : answer(call, NULL, &a, reterr);
}

int blx_vm_driver_measured(blx_vm_driver_call *call, const struct blx_instance_stats *const *stats, size_t count,
                           blx_error *reterr) {
  struct answer a = {.kind = ANSWER_MEASURED, .count = count};
  blx__rc rc = own_stats_take(stats, count, &a.rows, reterr);
  int code = rc.code != 0 ? rc.code : answer(call, NULL, &a, reterr);
  free(a.rows);
  return code;
}

/* ---- events */

static void deliver(void *arg) {
  struct event *e = arg;
  struct driver *d = e->driver;
  const struct blx__vm_key key = {.instance = e->instance, .uid = e->uid, .epoch = e->epoch};
  atomic_fetch_sub(&d->posted, 1);
  if (!d->closing) d->on_event(d->event_user, &key, e->event, &e->status);
  free(e);
  own_close_if_idle(d);
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
  return own_told(ops->supported(ops->user, &key, &what, &said), &said, err);
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

static blx__rc own_stats(struct blx__vm_driver *base, blx__vm_stats_fn *done, void *user, blx_error *err) {
  struct driver *d = driver_of(base);
  if (d->closing || d->stats_count >= BLX__VM_STATS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%zu snapshots of statistics are being taken: try again later",
                     d->stats_count);
  struct call *c = calloc(1, sizeof *c);
  if (c) c->handle = blx__api_handle_new(BLX__API_VM_CALL, c, NULL);
  if (!c || !c->handle) {
    free(c);
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory, or no handle, for statistics");
  }
  c->measured = done;
  begin_call(c, d, user);
  d->stats_count++;
  d->ops->stats(d->ops->user, c->handle);
  return BLX__OK;
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
    own_retire(c->handle, BLX__API_VM_CALL);
    c->handle = NULL;
    if (!atomic_load(&c->answered)) refuse(c, &why);
  }
}

static void own_close(struct blx__vm_driver *base, void (*done)(void *user), void *user) {
  struct driver *d = driver_of(base);
  BLX__ASSERT(!d->closing);
  d->closing = true;
  d->on_close = done;
  d->close_user = user;
  own_retire(d->handle, BLX__API_VM_DRIVER);
  cancel_calls(d);
  own_logs_cancel(d);
  own_sessions_cancel(d);
  if (d->ops->close) d->ops->close(d->ops->user);
  own_close_if_idle(d);
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
                                           .session_open = own_session_open,
                                           .session_write = own_session_write,
                                           .session_resize = own_session_resize,
                                           .session_close = own_session_close,
                                           .stats = own_stats,
                                           .close = own_close};

blx__rc blx__api_vm_driver_open(void *ops, struct blx__loop *loop, blx__vm_event_fn *on_event, void *event_user,
                                struct blx__vm_driver **out, blx_error *err) {
  struct driver *d = calloc(1, sizeof *d);
  if (!d) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a driver");
  d->ops = ops;
  d->table = own_ops;
  if (!d->ops->session_open) d->table.session_open = NULL;
  if (!d->ops->stats) d->table.stats = NULL;
  d->base.ops = &d->table;
  d->loop = loop;
  d->on_event = on_event;
  d->event_user = event_user;
  blx__list_init(&d->calls);
  blx__list_init(&d->logs);
  blx__list_init(&d->sessions);
  blx__defer_init(&d->closed, on_closed, d);
  blx_error said = {0};
  d->handle = blx__api_handle_new(BLX__API_VM_DRIVER, d, err);
  blx__rc rc = {BLX_E_BUSY};
  if (d->handle) rc = own_told(d->ops->open(d->ops->user, d->handle, &said), &said, err);
  if (rc.code == 0) {
    *out = &d->base;
    return rc;
  }
  if (d->handle) own_retire(d->handle, BLX__API_VM_DRIVER);
  d->closing = true; /* events of it may be on their way */
  own_close_if_idle(d);
  return rc;
}
