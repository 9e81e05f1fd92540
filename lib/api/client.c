/* The client handle: its own thread and loop, and the hop of each call onto it. */
#include "api/api_int.h"

#include "io/file.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int blx__api_misuse(blx_error *reterr, const char *sentence) {
  return blx__fail(reterr, BLX_E_MISUSE, "client", "%s", sentence).code;
}

blx__rc blx__api_take_struct(void *to, size_t size, size_t min, const void *from, const char *origin, blx_error *err) {
  size_t given;
  memcpy(&given, from, sizeof given);
  if (given < min || given > BLX__API_STRUCT_MAX)
    return blx__fail(err, BLX_E_MISUSE, origin, "struct_size is not set: begin with the struct's _INIT");
  for (size_t i = size; i < given; i++)
    if (((const uint8_t *)from)[i] != 0)
      return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                       "a struct of %zu bytes has something that this library, which knows %zu, does not support",
                       given, size);
  memset(to, 0, size);
  memcpy(to, from, given < size ? given : size);
  memcpy(to, &size, sizeof size);
  return BLX__OK;
}

static bool on_own_thread(const struct blx__api_client *c) {
  return pthread_equal(pthread_self(), c->thread);
}

/* Where its completions run, or its log. */
static bool is_inside(struct blx__api_client *c) {
  return on_own_thread(c) || blx__api_queue_inside(c->queue);
}

int blx__api_check(struct blx__api_client *c, bool blocking, blx_error *reterr) {
  if (atomic_load(&c->closing)) return blx__api_misuse(reterr, "the client is being closed");
  if (blocking && is_inside(c))
    return blx__api_misuse(reterr, "a blocking call from a completion would wait for itself: use the _async one");
  return 0;
}

struct blx__api_client *blx__api_client_take(const blx_client *handle, bool blocking, blx_error *reterr) {
  struct blx__api_client *c = blx__api_handle_take(handle, BLX__API_CLIENT, reterr);
  if (!c || blx__api_check(c, blocking, reterr) == 0) return c;
  blx__api_handle_put(handle);
  return NULL;
}

/* ---- open and close */

static void *thread_main(void *arg) {
  struct blx__api_client *c = arg;
  blx__loop_run(c->loop);
  return NULL;
}

static blx__rc start(struct blx__api_client *c, const struct blx_client_options *o, blx_error *err) {
  c->log = (struct blx__log){o->log, o->log_user, o->log_level};
  c->timeout_ms = o->timeout_ms ? o->timeout_ms : BLX__API_TIMEOUT_MS;
  (void)blx__str_copy(c->reason, sizeof c->reason, o->reason ? o->reason : "");
  (void)blx__str_copy(c->tenant, sizeof c->tenant, o->tenant ? o->tenant : "");
  BLX__TRY(blx__loop_new(&c->loop, err));
  BLX__TRY(blx__client_new(c->loop, o->addresses, o->n_addresses, &c->log, &c->client, err));
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int why = pthread_create(&c->thread, NULL, thread_main, c);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (why != 0) return blx__fail_errno(err, why, "client", "cannot start the client's thread");
  return BLX__OK;
}

static void client_closed(void *user) {
  struct blx__api_client *c = user;
  c->client = NULL;
  blx__loop_stop(c->loop);
}

static void begin_close(void *arg) {
  struct blx__api_client *c = arg;
  blx__api_waits_close(c);
  blx__client_close(c->client, client_closed, c);
}

static void stop_thread(struct blx__api_client *c) {
  /* The queue is bounded; a client is closed even when it is full. */
  while (blx__loop_post(c->loop, begin_close, c, NULL).code != 0) usleep(1000);
  pthread_join(c->thread, NULL);
}

/* One line, as the audit log keeps it. */
static blx__rc check_reason(const char *reason, blx_error *err) {
  size_t n = reason ? strlen(reason) : 0;
  if (n > BLX__API_REASON_MAX)
    return blx__fail(err, BLX_E_INVALID, "client", "reason: it has %zu bytes, at most %d are kept", n,
                     BLX__API_REASON_MAX);
  if (n > 0 && !blx__utf8_ok(reason, n)) return blx__fail(err, BLX_E_INVALID, "client", "reason: it is not UTF-8");
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)reason[i] < 0x20 || reason[i] == 0x7f)
      return blx__fail(err, BLX_E_INVALID, "client", "reason: it has to be one line without control characters");
  return BLX__OK;
}

int blx_client_set_reason(blx_client *client, const char *reason, blx_error *reterr) {
  struct blx__api_client *c = blx__api_client_take(client, false, reterr);
  if (!c) return BLX_E_MISUSE;
  blx__rc rc = check_reason(reason, reterr);
  if (rc.code == 0) {
    pthread_mutex_lock(&c->lock);
    (void)blx__str_copy(c->reason, sizeof c->reason, reason ? reason : "");
    pthread_mutex_unlock(&c->lock);
  }
  blx__api_handle_put(client);
  return rc.code;
}

static blx__rc check_options(const struct blx_client_options *o, blx_error *err) {
  if (!o->addresses || o->n_addresses < 1 || o->n_addresses > BLX__API_ADDRESSES_MAX)
    return blx__fail(err, BLX_E_INVALID, "client", "a client needs 1 to %d addresses", BLX__API_ADDRESSES_MAX);
  for (size_t i = 0; i < o->n_addresses; i++)
    if (!o->addresses[i] || !*o->addresses[i])
      return blx__fail(err, BLX_E_INVALID, "client", "addresses[%zu] is empty: give unix:PATH", i);
  if (o->timeout_ms > BLX__API_TIMEOUT_MAX_MS)
    return blx__fail(err, BLX_E_INVALID, "client", "timeout_ms: %u is above %d", o->timeout_ms,
                     BLX__API_TIMEOUT_MAX_MS);
  if (o->completions != BLX_COMPLETIONS_THREAD && o->completions != BLX_COMPLETIONS_DISPATCH)
    return blx__fail(err, BLX_E_INVALID, "client", "completions: %d is none of BLX_COMPLETIONS_*", o->completions);
  BLX__TRY(blx__api_check_tenant(o->tenant, err));
  return check_reason(o->reason, err);
}

static void loop_free(struct blx__api_client *c) {
  struct blx__loop *loop = c->loop;
  pthread_mutex_lock(&c->lock);
  c->loop = NULL;
  pthread_mutex_unlock(&c->lock);
  /* Runs what was posted before; none of it finds a client. */
  blx__loop_free(loop);
}

void blx__api_ref(struct blx__api_client *c) {
  atomic_fetch_add(&c->refs, 1);
}

void blx__api_unref(struct blx__api_client *c) {
  if (atomic_fetch_sub(&c->refs, 1) > 1) return;
  blx__api_queue_unref(c->queue);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

/* Everything that an open made, in the other order; @c->thread does not run. */
static void undo_open(struct blx__api_client *c) {
  if (c->client) {
    begin_close(c);
    blx__loop_run(c->loop);
  }
  loop_free(c);
  blx__api_unref(c);
}

/* The handle is the last to come: nobody can use what is not whole. */
int blx__api_client_open(const struct blx_client_options *options, struct blx__api_queue *queue, blx_client **out,
                         blx_error *reterr) {
  blx__rc rc = check_options(options, reterr);
  if (rc.code != 0) return rc.code;
  struct blx__api_client *c = calloc(1, sizeof *c);
  if (!c) return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a client").code;
  pthread_mutex_init(&c->lock, NULL);
  blx__list_init(&c->waits);
  blx__api_ref(c);
  c->queue = queue;
  if (queue)
    blx__api_queue_ref(queue);
  else if (options->completions == BLX_COMPLETIONS_DISPATCH)
    rc = blx__api_queue_new(&c->queue, reterr);
  if (rc.code == 0) rc = start(c, options, reterr);
  if (rc.code != 0) {
    undo_open(c);
    return rc.code;
  }
  blx_client *handle = blx__api_handle_new(BLX__API_CLIENT, c, reterr);
  if (handle) {
    *out = handle;
    return 0;
  }
  stop_thread(c);
  undo_open(c);
  return BLX_E_BUSY;
}

int blx_client_open(const struct blx_client_options *options, blx_client **out, blx_error *reterr) {
  struct blx_client_options whole;
  if (!options || !out) return blx__api_misuse(reterr, "the options or the place for the client is NULL");
  size_t min = offsetof(struct blx_client_options, timeout_ms);
  blx__rc rc = blx__api_take_struct(&whole, sizeof whole, min, options, "client", reterr);
  return rc.code != 0 ? rc.code : blx__api_client_open(&whole, NULL, out, reterr);
}

blx__rc blx__api_post(struct blx__api_client *c, void (*fn)(void *arg), void *arg, blx_error *reterr) {
  pthread_mutex_lock(&c->lock);
  blx__rc rc = c->loop ? blx__loop_post(c->loop, fn, arg, reterr)
                       : blx__fail(reterr, BLX_E_MISUSE, "client", "the client was closed");
  pthread_mutex_unlock(&c->lock);
  return rc;
}

/* Calls that are in the library on other threads are completed by the loop's end, then leave; what they and the
 * embedder still have to hear is told here, where nobody will dispatch it any more. */
void blx_client_close(blx_client *client) {
  struct blx__api_client *c = client ? blx__api_handle_take(client, BLX__API_CLIENT, NULL) : NULL;
  if (!c) return;
  bool mine = !is_inside(c) && blx__api_handle_kill(client);
  blx__api_handle_put(client);
  if (!mine) return;
  atomic_store(&c->closing, true);
  stop_thread(c);
  loop_free(c);
  blx__api_handle_drop(client);
  if (c->queue) blx__api_queue_drain(c->queue, c);
  blx__api_unref(c);
}

/* ---- completions on a thread of the embedder's */

static struct blx__api_client *take_dispatched(const blx_client *client, blx_error *reterr) {
  struct blx__api_client *c = blx__api_client_take(client, false, reterr);
  if (!c || c->queue) return c;
  (void)blx__api_misuse(reterr, "the client was not opened with completions = BLX_COMPLETIONS_DISPATCH");
  blx__api_handle_put(client);
  return NULL;
}

int blx_client_fd(blx_client *client, blx_error *reterr) {
  struct blx__api_client *c = take_dispatched(client, reterr);
  if (!c) return BLX_E_MISUSE;
  int fd = blx__api_queue_fd(c->queue);
  blx__api_handle_put(client);
  return fd;
}

/* The queue is held, not the client: a close that comes meanwhile waits for the completion, not for this call. */
int blx_client_dispatch(blx_client *client, uint32_t max, blx_error *reterr) {
  struct blx__api_client *c = take_dispatched(client, reterr);
  if (!c) return BLX_E_MISUSE;
  struct blx__api_queue *queue = c->queue;
  blx__api_queue_ref(queue);
  blx__api_handle_put(client);
  int done = blx__api_queue_run(queue, max, reterr);
  blx__api_queue_unref(queue);
  return done;
}

/* ---- a unary call */

struct call {
  struct blx__api_client *client;
  const struct blx__rpc_row *row;
  struct blx__buf body;
  blx__api_done done;
  void *user;
  char *reason; /* NULL: none; encoded */
  bool at_once; /* a thread waits for it: not through the queue */
  struct blx__api_item item;
  int code; /* how it ended */
  blx_error err;
  void *result;
};

static void call_free(struct call *call) {
  blx__buf_free(&call->body);
  free(call->reason);
  free(call);
}

/* It counts no more when its completion begins, so that this one may submit the next. */
static void call_tell(struct call *call) {
  atomic_fetch_sub(&call->client->calls, 1);
  call->done(call->user, call->code != 0 ? &call->err : NULL, call->result);
  call_free(call);
}

static void call_run(struct blx__api_item *item) {
  call_tell(BLX__CONTAINER(item, struct call, item));
}

static void call_end(struct call *call, const blx_error *err, void *result) {
  if (err) call->err = *err;
  call->code = err ? err->code : 0;
  call->result = result;
  if (!call->client->queue || call->at_once)
    call_tell(call);
  else
    blx__api_queue_push(call->client->queue, &call->item);
}

static void call_done(void *user, const struct blx__rpc_result *result) {
  struct call *call = user;
  void *owned = NULL;
  blx_error err;
  const blx_error *why = result->err;
  if (!why && blx__msg_decode_owned(call->row->response(), result->response, &owned, &err).code != 0) why = &err;
  call_end(call, why, owned);
}

static void call_start(void *arg) {
  struct call *call = arg;
  struct blx__rpc_request request = {.path = call->row->path, .body = {call->body.data, call->body.len}};
  const struct blx__rpc_meta meta = {"blixard-reason", call->reason};
  request.deadline_ms = call->client->timeout_ms;
  if (call->reason) {
    request.meta = &meta;
    request.meta_count = 1;
  }
  blx_error err;
  blx__rc rc = call->client->client ? blx__client_call(call->client->client, &request, call_done, call, NULL, &err)
                                    : blx__fail(&err, BLX_E_CANCELLED, "client", "the client was closed");
  if (rc.code != 0) call_end(call, &err, NULL);
}

blx__rc blx__api_count(struct blx__api_client *c, unsigned n, blx_error *err) {
  if (atomic_fetch_add(&c->calls, n) + n <= BLX_CLIENT_CALLS_MAX) return BLX__OK;
  atomic_fetch_sub(&c->calls, n);
  return blx__fail(err, BLX_E_BUSY, "client", "%d calls of this client are not completed yet: wait for one%s",
                   BLX_CLIENT_CALLS_MAX, c->queue ? ", and dispatch" : "");
}

/* With what changes something goes why. */
static blx__rc take_reason(struct call *call, blx_error *err) {
  enum { ENCODED = 3 * BLX__API_REASON_MAX + 1 };
  struct blx__api_client *c = call->client;
  char reason[BLX__API_REASON_MAX + 1];
  bool changes = call->row->route == BLX__ROUTE_WRITE || call->row->id == BLX__RPC_CLUSTER_INIT ||
                 call->row->id == BLX__RPC_CLUSTER_JOIN;
  if (!changes) return BLX__OK;
  pthread_mutex_lock(&c->lock);
  memcpy(reason, c->reason, sizeof reason);
  pthread_mutex_unlock(&c->lock);
  if (!*reason) return BLX__OK;
  call->reason = malloc(ENCODED);
  if (!call->reason) return blx__fail(err, BLX_E_NOMEM, "client", "no memory for a call");
  blx__rpc_text_encode(reason, call->reason, ENCODED);
  return BLX__OK;
}

static int submit(struct blx__api_client *c, const struct call *with, const void *request, blx_error *reterr) {
  if (!request) return blx__api_misuse(reterr, "the request is NULL");
  char tenant[BLX__API_TENANT_MAX + 1];
  blx__rc rc = blx__api_count(c, 1, reterr);
  if (rc.code != 0) return rc.code;
  struct call *call = malloc(sizeof *call);
  if (call) {
    *call = *with;
    call->client = c;
    call->item = (struct blx__api_item){.run = call_run, .owner = c};
    blx__buf_init(&call->body, BLX__API_REQUEST_MAX);
    rc = take_reason(call, reterr);
    blx__api_tenant(c, tenant);
    if (rc.code == 0) rc = blx__api_encode(call->row, request, tenant, &call->body, reterr);
    if (rc.code == 0) rc = blx__api_post(c, call_start, call, reterr);
  } else {
    rc = blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a call");
  }
  if (rc.code == 0) return 0;
  atomic_fetch_sub(&c->calls, 1);
  if (call) call_free(call);
  return rc.code;
}

int blx__api_submit(blx_client *client, enum blx__rpc_id id, const void *request, blx__api_done done, void *user,
                    blx_error *reterr) {
  struct blx__api_client *c = blx__api_client_take(client, false, reterr);
  if (!c) return BLX_E_MISUSE;
  int rc = submit(c, &(struct call){.row = &blx__rpc_rows()[id], .done = done, .user = user}, request, reterr);
  blx__api_handle_put(client);
  return rc;
}

/* ---- and wait for it */

void blx__api_waiter_done(void *user, const blx_error *err, void *result) {
  struct blx__api_waiter *w = user;
  pthread_mutex_lock(&w->lock);
  if (err) w->err = *err;
  w->code = err ? err->code : 0;
  w->result = result;
  w->done = true;
  pthread_cond_signal(&w->cond);
  pthread_mutex_unlock(&w->lock);
}

int blx__api_waiter_wait(struct blx__api_waiter *w, void **out, blx_error *reterr) {
  pthread_mutex_lock(&w->lock);
  while (!w->done) pthread_cond_wait(&w->cond, &w->lock);
  pthread_mutex_unlock(&w->lock);
  pthread_mutex_destroy(&w->lock);
  pthread_cond_destroy(&w->cond);
  if (w->code != 0) return blx__fail_as(reterr, &w->err).code;
  *out = w->result;
  return 0;
}

int blx__api_call(blx_client *client, enum blx__rpc_id id, const void *request, void **out, blx_error *reterr) {
  struct blx__api_client *c = blx__api_client_take(client, true, reterr);
  if (!c) return BLX_E_MISUSE;
  struct blx__api_waiter w = BLX__API_WAITER_INIT;
  struct call call = {.row = &blx__rpc_rows()[id], .done = blx__api_waiter_done, .user = &w, .at_once = true};
  int rc = submit(c, &call, request, reterr);
  if (rc == 0) rc = blx__api_waiter_wait(&w, out, reterr);
  blx__api_handle_put(client);
  return rc;
}
