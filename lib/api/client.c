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

static bool on_own_thread(const blx_client *c) {
  return pthread_equal(pthread_self(), c->thread);
}

int blx__api_check(const blx_client *client, int blocking, blx_error *reterr) {
  if (!client) return blx__api_misuse(reterr, "the client is NULL");
  if (client->pid != getpid())
    return blx__api_misuse(reterr, "the client was opened before a fork and works in its parent only: open one here");
  if (atomic_load(&client->closing)) return blx__api_misuse(reterr, "the client is being closed");
  if (blocking && on_own_thread(client))
    return blx__api_misuse(reterr, "a blocking call from a completion would wait for itself: use the _async one");
  return 0;
}

/* ---- open and close */

static void *thread_main(void *arg) {
  blx_client *c = arg;
  blx__loop_run(c->loop);
  return NULL;
}

static blx__rc start(blx_client *c, const struct blx_client_options *o, blx_error *err) {
  c->log = (struct blx__log){o->log, o->log_user, o->log_level};
  c->timeout_ms = o->timeout_ms ? o->timeout_ms : BLX__API_TIMEOUT_MS;
  c->pid = getpid();
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
  blx_client *c = user;
  c->client = NULL;
  blx__loop_stop(c->loop);
}

static void begin_close(void *arg) {
  blx_client *c = arg;
  blx__client_close(c->client, client_closed, c);
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
  return BLX__OK;
}

static void loop_free(blx_client *c) {
  struct blx__loop *loop = c->loop;
  pthread_mutex_lock(&c->lock);
  c->loop = NULL;
  pthread_mutex_unlock(&c->lock);
  /* Runs what was posted before; none of it finds a client. */
  blx__loop_free(loop);
}

void blx__api_ref(blx_client *c) {
  atomic_fetch_add(&c->refs, 1);
}

void blx__api_unref(blx_client *c) {
  if (atomic_fetch_sub(&c->refs, 1) > 1) return;
  pthread_mutex_destroy(&c->lock);
  free(c);
}

int blx_client_open(const struct blx_client_options *options, blx_client **out, blx_error *reterr) {
  if (!options || !out) return blx__api_misuse(reterr, "the options or the place for the client is NULL");
  if (options->struct_size != sizeof *options)
    return blx__api_misuse(reterr, "struct_size of the options is not set: begin with BLX_CLIENT_OPTIONS_INIT");
  blx__rc rc = check_options(options, reterr);
  if (rc.code != 0) return rc.code;
  blx_client *c = calloc(1, sizeof *c);
  if (!c) return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a client").code;
  pthread_mutex_init(&c->lock, NULL);
  blx__api_ref(c);
  rc = start(c, options, reterr);
  if (rc.code == 0) {
    *out = c;
    return 0;
  }
  if (c->client) {
    begin_close(c);
    blx__loop_run(c->loop);
  }
  loop_free(c);
  blx__api_unref(c);
  return rc.code;
}

blx__rc blx__api_post(blx_client *c, void (*fn)(void *arg), void *arg, blx_error *reterr) {
  pthread_mutex_lock(&c->lock);
  blx__rc rc = c->loop ? blx__loop_post(c->loop, fn, arg, reterr)
                       : blx__fail(reterr, BLX_E_MISUSE, "client", "the client was closed");
  pthread_mutex_unlock(&c->lock);
  return rc;
}

void blx_client_close(blx_client *client) {
  if (!client || client->pid != getpid() || on_own_thread(client)) return;
  if (atomic_exchange(&client->closing, true)) return;
  while (blx__loop_post(client->loop, begin_close, client, NULL).code != 0) usleep(1000);
  pthread_join(client->thread, NULL);
  loop_free(client);
  blx__api_unref(client);
}

/* ---- a unary call */

struct call {
  blx_client *client;
  const struct blx__rpc_row *row;
  struct blx__buf body;
  blx__api_done done;
  void *user;
};

static void call_free(struct call *call) {
  blx__buf_free(&call->body);
  free(call);
}

static void call_done(void *user, const struct blx__rpc_result *result) {
  struct call *call = user;
  void *owned = NULL;
  blx_error err;
  const blx_error *why = result->err;
  if (!why && blx__msg_decode_owned(call->row->response(), result->response, &owned, &err).code != 0) why = &err;
  call->done(call->user, why, owned);
  call_free(call);
}

static void call_start(void *arg) {
  struct call *call = arg;
  struct blx__rpc_request request = {.path = call->row->path, .body = {call->body.data, call->body.len}};
  request.deadline_ms = call->client->timeout_ms;
  blx_error err;
  blx__rc rc = call->client->client ? blx__client_call(call->client->client, &request, call_done, call, NULL, &err)
                                    : blx__fail(&err, BLX_E_CANCELLED, "client", "the client was closed");
  if (rc.code == 0) return;
  call->done(call->user, &err, NULL);
  call_free(call);
}

/* A change is sent with a key, so that the client may send it again when an answer is lost. */
static blx__rc encode(const struct blx__rpc_row *row, const void *request, struct blx__buf *out, blx_error *err) {
  const struct blx__field *field = blx__desc_field(row->request(), "request_id");
  if (row->route != BLX__ROUTE_WRITE || !field) return blx__msg_encode(row->request(), request, out, err);
  struct blx__arena arena = {.limit_bytes = 2 * BLX__API_REQUEST_MAX};
  void *copy = NULL;
  blx__rc rc = blx__msg_copy(row->request(), &arena, request, &copy, err);
  char id[40];
  const char *given = NULL;
  if (rc.code == 0) memcpy(&given, (char *)copy + field->offset, sizeof given);
  if (rc.code == 0 && (!given || !*given)) {
    uint64_t random[2] = {0};
    rc = blx__random_bytes(random, sizeof random, err);
    (void)blx__str_format(id, sizeof id, "%016llx%016llx", (unsigned long long)random[0],
                          (unsigned long long)random[1]);
    const char *fresh = id;
    memcpy((char *)copy + field->offset, &fresh, sizeof fresh);
  }
  if (rc.code == 0) rc = blx__msg_encode(row->request(), copy, out, err);
  blx__arena_free(&arena);
  return rc;
}

int blx__api_submit(blx_client *client, enum blx__rpc_id id, const void *request, blx__api_done done, void *user,
                    blx_error *reterr) {
  int bad = blx__api_check(client, 0, reterr);
  if (bad != 0) return bad;
  if (!request) return blx__api_misuse(reterr, "the request is NULL");
  struct call *call = calloc(1, sizeof *call);
  if (!call) return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a call").code;
  *call = (struct call){.client = client, .row = &blx__rpc_rows()[id], .done = done, .user = user};
  blx__buf_init(&call->body, BLX__API_REQUEST_MAX);
  blx__rc rc = encode(call->row, request, &call->body, reterr);
  if (rc.code == 0) rc = blx__api_post(client, call_start, call, reterr);
  if (rc.code != 0) call_free(call);
  return rc.code;
}

/* ---- and wait for it */

struct waiter {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool done;
  int code;
  blx_error err;
  void *result;
};

static void waiter_done(void *user, const blx_error *err, void *result) {
  struct waiter *w = user;
  pthread_mutex_lock(&w->lock);
  if (err) w->err = *err;
  w->code = err ? err->code : 0;
  w->result = result;
  w->done = true;
  pthread_cond_signal(&w->cond);
  pthread_mutex_unlock(&w->lock);
}

int blx__api_call(blx_client *client, enum blx__rpc_id id, const void *request, void **out, blx_error *reterr) {
  int rc = blx__api_check(client, 1, reterr);
  if (rc != 0) return rc;
  struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
  rc = blx__api_submit(client, id, request, waiter_done, &w, reterr);
  if (rc != 0) return rc;
  pthread_mutex_lock(&w.lock);
  while (!w.done) pthread_cond_wait(&w.cond, &w.lock);
  pthread_mutex_unlock(&w.lock);
  pthread_mutex_destroy(&w.lock);
  pthread_cond_destroy(&w.cond);
  if (w.code != 0) return blx__fail_as(reterr, &w.err).code;
  *out = w.result;
  return 0;
}
