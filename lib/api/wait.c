/* Waiting for a VM: one look, then the server's events, a look again only when one says that something changed. All of
 * it on the client's thread; the blocking call waits for the end of the same. */
#include "api/api_int.h"

#include "io/timer.h"

#include <stdlib.h>
#include <string.h>

enum {
  SLICE_MS = 250, /* how soon a wait notices that it was cancelled, and how long it rests when nobody answered */
  TIMEOUT_MAX_MS = 86400000,
  CALLS = 2, /* a look and a watch */
};

struct wait {
  struct blx__api_client *client;
  int phase;
  uint32_t timeout_ms;
  const volatile int *cancel;
  blx__api_done done;
  void *user;
  bool at_once; /* a thread waits for it: not through the queue */
  /* On the client's thread. */
  struct blx__list link; /* in client->waits */
  struct blx__timer *timer;
  uint64_t end_ms, retry_ms; /* loop time; retry_ms 0: nothing to be tried again */
  struct blx__client_call *look, *watch;
  bool changed, ending; /* since the look began; the outcome is known, look and watch are cancelled */
  struct blx_vm *vm;    /* as last seen, owned */
  blx_error last;       /* why nothing is known at the moment; code 0: something is */
  /* How it ended. */
  int code;
  blx_error err;
  struct blx__api_item item;
  char tenant[BLX__API_TENANT_MAX + 1]; /* "": none was named */
  char name[];
};

static bool instance_reached(const struct blx_instance *i, int phase) {
  if (phase == BLX_VM_WAIT_PAUSED) return i->paused;
  if (phase == BLX_VM_WAIT_RESUMED) return i->phase == BLX_PHASE_RUNNING && !i->paused;
  return i->phase == phase;
}

/* It is being removed, for its VM is to have fewer replicas: nobody waits for it. */
static bool scaled_away(const struct blx_vm *vm, const struct blx_instance *i) {
  return !vm->deleting && vm->spec && vm->spec->has_replicas && i->ordinal > vm->spec->replicas;
}

static bool reached(const struct blx_vm *vm, int phase) {
  if (phase == BLX_VM_WAIT_GONE) return false;
  size_t staying = 0;
  for (size_t i = 0; i < vm->n_instances; i++) {
    if (scaled_away(vm, vm->instances[i])) continue;
    if (!instance_reached(vm->instances[i], phase)) return false;
    staying++;
  }
  if (staying > 0) return true;
  return phase >= 0 ? vm->phase == phase : !vm->paused == (phase == BLX_VM_WAIT_RESUMED);
}

static const char *label_of(int phase) {
  if (phase == BLX_VM_WAIT_GONE) return "gone";
  if (phase == BLX_VM_WAIT_PAUSED) return "paused";
  return phase == BLX_VM_WAIT_RESUMED ? "resumed" : blx__enum_label(blx__enum_phase(), phase);
}

/* ---- the end */

static void wait_free(struct wait *w) {
  blx_vm_free(w->vm);
  free(w);
}

/* It counts no more when its completion begins, so that this one may submit the next. */
static void tell(struct wait *w) {
  struct blx_vm *vm = w->code == 0 && w->phase != BLX_VM_WAIT_GONE ? w->vm : NULL;
  if (vm) w->vm = NULL;
  atomic_fetch_sub(&w->client->calls, CALLS);
  w->done(w->user, w->code != 0 ? &w->err : NULL, vm);
  wait_free(w);
}

static void tell_item(struct blx__api_item *item) {
  tell(BLX__CONTAINER(item, struct wait, item));
}

/* Its last callback came. */
static void complete(struct wait *w) {
  if (w->look || w->watch) return;
  blx__list_remove(&w->link);
  blx__timer_free(w->timer);
  if (!w->client->queue || w->at_once)
    tell(w);
  else
    blx__api_queue_push(w->client->queue, &w->item);
}

/* @err NULL: it is as was waited for. */
static void finish(struct wait *w, const blx_error *err) {
  if (w->ending) return;
  w->ending = true;
  if (err) w->err = *err;
  w->code = err ? err->code : 0;
  if (w->look) blx__client_cancel(w->look);
  if (w->watch) blx__client_cancel(w->watch);
  complete(w);
}

static void cancelled(struct wait *w, const char *why) {
  blx_error err;
  (void)blx__fail(&err, BLX_E_CANCELLED, "client", "%s", why);
  finish(w, &err);
}

static void timed_out(struct wait *w) {
  blx_error err;
  const char *want = label_of(w->phase);
  const struct blx_reason *why = w->vm ? w->vm->reason : NULL;
  if (w->last.code != 0)
    err = w->last;
  else if (!w->vm)
    (void)blx__fail(&err, BLX_E_TIMEOUT, "client", "%s is not %s yet", w->name, want);
  else
    (void)blx__fail(&err, BLX_E_TIMEOUT, "client", "%s is not %s yet: it is %s%s%.300s", w->name, want,
                    blx__enum_label(blx__enum_phase(), w->vm->phase), why && why->text && *why->text ? ", " : "",
                    why && why->text ? why->text : "");
  finish(w, &err);
}

/* ---- looks and events */

static void arm(struct wait *w) {
  uint64_t now = blx__loop_now_ms(w->client->loop), next = w->end_ms;
  if (w->cancel && now + SLICE_MS < next) next = now + SLICE_MS;
  if (w->retry_ms && w->retry_ms < next) next = w->retry_ms;
  blx__timer_start(w->timer, next > now ? next - now : 0, 0);
}

/* A member that went away is not the end of the wait: the next one is asked. */
static void failed(struct wait *w, const blx_error *err) {
  bool again = err->code == BLX_E_UNAVAILABLE || err->code == BLX_E_NO_LEADER || err->code == BLX_E_STALE ||
               err->code == BLX_E_BUSY || err->code == BLX_E_TIMEOUT;
  if (!again) {
    finish(w, err);
    return;
  }
  w->last = *err;
  w->retry_ms = blx__loop_now_ms(w->client->loop) + SLICE_MS;
  arm(w);
}

static void look(struct wait *w);

static bool on_event(void *user, struct blx__slice message) {
  struct wait *w = user;
  (void)message; /* whatever it says: the leader knows how it is */
  if (!w->ending) look(w);
  return true;
}

static void on_watch_end(void *user, const struct blx__rpc_result *result) {
  struct wait *w = user;
  blx_error over;
  w->watch = NULL;
  if (w->ending) {
    complete(w);
    return;
  }
  (void)blx__fail(&over, BLX_E_UNAVAILABLE, "client", "the server ended the watch");
  failed(w, result->err ? result->err : &over);
}

static const struct blx__client_stream_ops watch_ops = {.on_message = on_event, .on_done = on_watch_end};

/* From now on. */
static blx__rc open_watch(struct wait *w, blx_error *err) {
  const struct blx__rpc_row *row = &blx__rpc_rows()[BLX__RPC_WATCH];
  struct blx_watch_request message = BLX_WATCH_REQUEST_INIT;
  struct blx__buf body;
  blx__buf_init(&body, BLX__API_REQUEST_MAX);
  message.vm = w->vm->spec ? w->vm->spec->name : w->name; /* the name may be an instance's */
  message.tenant = w->tenant;
  blx__rc rc = blx__msg_encode(row->request(), &message, &body, err);
  struct blx__rpc_request request = {.path = row->path, .body = {body.data, body.len}};
  if (rc.code == 0) rc = blx__client_stream(w->client->client, &request, &watch_ops, w, &w->watch, err);
  blx__buf_free(&body);
  return rc;
}

/* With a watch open no change between a look and an event is missed: so there is one more look after it opened. */
static void looked(struct wait *w, struct blx_vm *vm) {
  blx_error err;
  blx_vm_free(w->vm);
  w->vm = vm;
  w->last.code = 0;
  if (reached(vm, w->phase)) {
    finish(w, NULL);
    return;
  }
  if (!w->watch) {
    if (open_watch(w, &err).code != 0) {
      failed(w, &err);
      return;
    }
    w->changed = true;
  }
  if (w->changed) look(w);
}

static void on_look(void *user, const struct blx__rpc_result *result) {
  struct wait *w = user;
  void *vm = NULL;
  blx_error err;
  const blx_error *why = result->err;
  w->look = NULL;
  if (w->ending) {
    complete(w);
    return;
  }
  if (!why && blx__msg_decode_owned(blx__rpc_rows()[BLX__RPC_VM_GET].response(), result->response, &vm, &err).code != 0)
    why = &err;
  if (!why)
    looked(w, vm);
  else if (why->code == BLX_E_NOT_FOUND && w->phase == BLX_VM_WAIT_GONE)
    finish(w, NULL);
  else
    failed(w, why);
}

/* One at a time; what changes meanwhile is looked at once more. */
static void look(struct wait *w) {
  w->changed = w->look != NULL;
  if (w->look) return;
  const struct blx__rpc_row *row = &blx__rpc_rows()[BLX__RPC_VM_GET];
  struct blx_vm_name_request message = BLX_VM_NAME_REQUEST_INIT;
  struct blx__buf body;
  blx_error err;
  blx__buf_init(&body, BLX__API_REQUEST_MAX);
  message.name = w->name;
  message.tenant = w->tenant;
  w->retry_ms = 0;
  blx__rc rc = blx__msg_encode(row->request(), &message, &body, &err);
  struct blx__rpc_request request = {.path = row->path, .body = {body.data, body.len}};
  request.deadline_ms = w->client->timeout_ms;
  if (rc.code == 0) rc = blx__client_call(w->client->client, &request, on_look, w, &w->look, &err);
  blx__buf_free(&body);
  if (rc.code != 0) failed(w, &err);
}

static void on_timer(void *arg) {
  struct wait *w = arg;
  uint64_t now = blx__loop_now_ms(w->client->loop);
  if (w->ending) return;
  if (w->cancel && __atomic_load_n(w->cancel, __ATOMIC_RELAXED) != 0) {
    cancelled(w, "the wait was cancelled");
    return;
  }
  if (now >= w->end_ms) {
    timed_out(w);
    return;
  }
  bool again = w->retry_ms && now >= w->retry_ms;
  if (again) w->retry_ms = 0;
  arm(w);
  if (again) look(w);
}

static void start(void *arg) {
  struct wait *w = arg;
  struct blx__api_client *c = w->client;
  blx_error err;
  blx__list_push(&c->waits, &w->link);
  if (!c->client) {
    cancelled(w, "the client was closed");
    return;
  }
  w->timer = blx__timer_new(c->loop, on_timer, w);
  if (!w->timer) {
    (void)blx__fail(&err, BLX_E_NOMEM, "client", "no memory for a wait");
    finish(w, &err);
    return;
  }
  w->end_ms = blx__loop_now_ms(c->loop) + w->timeout_ms;
  arm(w);
  look(w);
}

/* A wait that has calls stays in the list until they ended. */
void blx__api_waits_close(struct blx__api_client *c) {
  struct blx__list *next;
  for (struct blx__list *at = c->waits.next; at != &c->waits; at = next) {
    next = at->next;
    cancelled(BLX__CONTAINER(at, struct wait, link), "the client was closed during the wait");
  }
}

/* ---- on any thread */

static blx__rc can_be_waited_for(int phase, blx_error *err) {
  const struct blx__enum_desc *phases = blx__enum_phase();
  bool known = phase < 0 && phase >= BLX_VM_WAIT_RESUMED;
  for (unsigned i = 0; i < phases->value_count; i++) known = known || phases->values[i].number == phase;
  return known ? BLX__OK
               : blx__fail(err, BLX_E_INVALID, "client", "phase: %d is none of enum blx_phase, nor of BLX_VM_WAIT_*",
                           phase);
}

static int submit(struct blx__api_client *c, const struct wait *with, const char *name, blx_error *reterr) {
  if (!name || with->timeout_ms < 1 || with->timeout_ms > TIMEOUT_MAX_MS)
    return blx__api_misuse(reterr, "a wait needs a name and a time of 1 to 86400000 ms");
  size_t len = strnlen(name, BLX__API_REQUEST_MAX / 2);
  blx__rc rc = can_be_waited_for(with->phase, reterr);
  if (rc.code == 0) rc = blx__api_count(c, CALLS, reterr);
  if (rc.code != 0) return rc.code;
  struct wait *w = malloc(sizeof *w + len + 1);
  if (w) {
    *w = *with;
    w->client = c;
    w->item = (struct blx__api_item){.run = tell_item, .owner = c};
    blx__api_tenant(c, w->tenant);
    memcpy(w->name, name, len);
    w->name[len] = '\0';
    rc = blx__api_post(c, start, w, reterr);
  } else {
    rc = blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a wait");
  }
  if (rc.code == 0) return 0;
  atomic_fetch_sub(&c->calls, CALLS);
  free(w);
  return rc.code;
}

int blx_vm_wait(blx_client *client, const char *name, int phase, uint32_t timeout_ms, const volatile int *cancel,
                struct blx_vm **out, blx_error *reterr) {
  struct blx__api_client *c = blx__api_client_take(client, true, reterr);
  if (!c) return BLX_E_MISUSE;
  struct blx__api_waiter waiter = BLX__API_WAITER_INIT;
  struct wait w = {.phase = phase, .timeout_ms = timeout_ms, .cancel = cancel, .at_once = true};
  void *vm = NULL;
  w.done = blx__api_waiter_done;
  w.user = &waiter;
  int rc = submit(c, &w, name, reterr);
  if (rc == 0) rc = blx__api_waiter_wait(&waiter, &vm, reterr);
  blx__api_handle_put(client);
  if (vm && out)
    *out = vm;
  else
    blx_vm_free(vm);
  return rc;
}

struct told {
  blx_vm_fn done;
  void *user;
};

static void tell_public(void *user, const blx_error *err, void *vm) {
  struct told told = *(struct told *)user;
  free(user);
  told.done(told.user, err, vm);
}

int blx_vm_wait_async(blx_client *client, const char *name, int phase, uint32_t timeout_ms, const volatile int *cancel,
                      blx_vm_fn done, void *user, blx_error *reterr) {
  if (!done) return blx__api_misuse(reterr, "the completion is NULL");
  struct blx__api_client *c = blx__api_client_take(client, false, reterr);
  if (!c) return BLX_E_MISUSE;
  struct told *told = malloc(sizeof *told);
  struct wait w = {.phase = phase, .timeout_ms = timeout_ms, .cancel = cancel, .done = tell_public, .user = told};
  if (told) *told = (struct told){done, user};
  int rc = told ? submit(c, &w, name, reterr) : blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a wait").code;
  if (rc != 0) free(told);
  blx__api_handle_put(client);
  return rc;
}
