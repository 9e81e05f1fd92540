/* Streams. One that a thread of the caller's reads has a bounded queue between the client's thread, which fills it and
 * stops the server when it is full, and the reader. One that is told by a function has as many items, each in the order
 * of what else the client has to tell; without a queue of the client's, the function itself is what the server waits
 * for. */
#include "api/api_int.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct blx__reader {
  struct blx__api_client *client;
  const struct blx__rpc_row *row;
  struct blx__buf body;
  void (*tell)(blx__api_fn on, void *user, const blx_error *err, void *message); /* NULL: it is read */
  blx__api_fn on;
  void *user;
  atomic_uint refs; /* the handle's, and the stream's until its end is told */
  /* The client's thread alone. */
  struct blx__client_call *call;
  /* Under the lock. */
  pthread_mutex_t lock;
  pthread_cond_t cond;
  void *queue[BLX__API_QUEUE_MAX]; /* of one that is read */
  size_t head, count;              /* count: also of items that were not told yet */
  size_t most;                     /* as many items */
  bool paused, want_resume;        /* a resume is on its way to the client's thread */
  bool ended, closed;
  struct blx__buf out;   /* of one that is written to, too: a message that was not sent yet */
  blx__sent_fn *on_sent; /* who is told about that; NULL: nobody, or a thread that waits */
  void *sent_user;
  bool sent; /* of one that is told: it was handed over, rather than dropped */
  struct blx__api_item sent_item;
  int code; /* why it ended; 0: well */
  blx_error err;
  struct blx__api_item end;
};

/* A message on its way to the function. */
struct told {
  struct blx__api_item item;
  struct blx__reader *reader;
  void *message;
};

static void reader_unref(struct blx__reader *r) {
  if (atomic_fetch_sub(&r->refs, 1) > 1) return;
  for (; !r->tell && r->count > 0; r->count--) {
    blx__msg_free_owned(r->queue[r->head]);
    r->head = (r->head + 1) % BLX__API_QUEUE_MAX;
  }
  pthread_mutex_destroy(&r->lock);
  pthread_cond_destroy(&r->cond);
  blx__buf_free(&r->body);
  blx__buf_free(&r->out);
  blx__api_unref(r->client);
  free(r);
}

static void end_locked(struct blx__reader *r, const blx_error *err) {
  if (r->ended) return;
  r->ended = true;
  r->code = err ? err->code : 0;
  if (err) r->err = *err;
  pthread_cond_broadcast(&r->cond);
}

/* ---- what a function is told, where the client's completions run */

static bool is_closed(struct blx__reader *r) {
  pthread_mutex_lock(&r->lock);
  bool closed = r->closed;
  pthread_mutex_unlock(&r->lock);
  return closed;
}

/* After a close only the end is told, as cancelled or as what came before. */
static void tell(struct blx__reader *r, void *message) {
  if (is_closed(r))
    blx__msg_free_owned(message);
  else
    r->tell(r->on, r->user, NULL, message);
}

/* No callback of the stream comes any more, so that code and err are the last. */
static void tell_end(struct blx__reader *r) {
  if (r->tell) r->tell(r->on, r->user, r->code != 0 ? &r->err : NULL, NULL);
  reader_unref(r);
}

static void resume_when_low(struct blx__reader *r);

static void told_run(struct blx__api_item *item) {
  struct told *t = BLX__CONTAINER(item, struct told, item);
  struct blx__reader *r = t->reader;
  void *message = t->message;
  free(t);
  pthread_mutex_lock(&r->lock);
  r->count--;
  resume_when_low(r);
  pthread_mutex_unlock(&r->lock);
  tell(r, message);
}

static void end_run(struct blx__api_item *item) {
  tell_end(BLX__CONTAINER(item, struct blx__reader, end));
}

/* What was written was handed over, or the session ended before that. */
static void tell_sent(struct blx__reader *r) {
  blx_error err;
  pthread_mutex_lock(&r->lock);
  blx__sent_fn *fn = r->on_sent;
  void *user = r->sent_user;
  bool sent = r->sent, closed = r->closed;
  r->on_sent = NULL; /* it may write again */
  pthread_mutex_unlock(&r->lock);
  if (!sent && closed) (void)blx__fail(&err, BLX_E_CANCELLED, "client", "it was closed before this was sent");
  if (!sent && !closed)
    (void)blx__fail(&err, BLX_E_CONFLICT, "client", "it has ended: nobody reads any more; how, is told");
  fn(user, sent ? NULL : &err);
  reader_unref(r);
}

static void sent_run(struct blx__api_item *item) {
  tell_sent(BLX__CONTAINER(item, struct blx__reader, sent_item));
}

/* ---- on the client's thread */

/* Under the lock. */
static bool keep(struct blx__reader *r, void *message) {
  BLX__ASSERT(r->count < r->most);
  if (r->tell) {
    struct told *t = malloc(sizeof *t);
    if (!t) return false;
    *t = (struct told){.item = {.run = told_run, .owner = r->client}, .reader = r, .message = message};
    blx__api_queue_push(r->client->queue, &t->item);
  } else {
    r->queue[(r->head + r->count) % BLX__API_QUEUE_MAX] = message;
    pthread_cond_broadcast(&r->cond); /* who writes may wait, too */
  }
  r->count++;
  return true;
}

static bool on_message(void *user, struct blx__slice message) {
  struct blx__reader *r = user;
  void *owned = NULL;
  blx_error err;
  blx__rc rc = blx__msg_decode_owned(r->row->response(), message, &owned, &err);
  if (rc.code == 0 && r->tell && !r->client->queue) {
    tell(r, owned);
    return true;
  }
  pthread_mutex_lock(&r->lock);
  if (rc.code == 0 && !keep(r, owned)) {
    rc = blx__fail(&err, BLX_E_NOMEM, "client", "no memory for a message of the stream");
    blx__msg_free_owned(owned);
  }
  if (rc.code != 0) end_locked(r, &err);
  r->paused = rc.code == 0 && r->count == r->most;
  bool go_on = !r->paused;
  pthread_mutex_unlock(&r->lock);
  if (rc.code != 0) blx__client_cancel(r->call);
  return go_on;
}

/* What a thread of the caller's has written, if there is room for it, or nobody to send it to any more. */
static void push_out(void *arg) {
  struct blx__reader *r = arg;
  pthread_mutex_lock(&r->lock);
  bool over = !r->call, done = r->out.len > 0 && (over || blx__client_send(r->call, r->out.data, r->out.len));
  bool told = done && r->on_sent;
  if (done) {
    r->sent = !over;
    blx__buf_clear(&r->out);
    pthread_cond_broadcast(&r->cond);
  }
  pthread_mutex_unlock(&r->lock);
  if (told && r->client->queue)
    blx__api_queue_push(r->client->queue, &r->sent_item);
  else if (told)
    tell_sent(r);
}

/* The stream is over, or never was. */
static void end(struct blx__reader *r, const blx_error *err) {
  r->call = NULL;
  pthread_mutex_lock(&r->lock);
  end_locked(r, err);
  pthread_mutex_unlock(&r->lock);
  push_out(r);
  if (r->tell && r->client->queue)
    blx__api_queue_push(r->client->queue, &r->end);
  else
    tell_end(r);
}

static void on_done(void *user, const struct blx__rpc_result *result) {
  end(user, result->err);
}

static const struct blx__client_stream_ops ops = {
    .on_message = on_message, .on_done = on_done, .on_writable = push_out};

static void start(void *arg) {
  struct blx__reader *r = arg;
  struct blx__rpc_request request = {.path = r->row->path, .body = {r->body.data, r->body.len}};
  blx_error err;
  blx__rc rc = !r->client->client ? blx__fail(&err, BLX_E_CANCELLED, "client", "the client was closed")
               : r->row->bidi     ? blx__client_bidi(r->client->client, &request, &ops, r, &r->call, &err)
                                  : blx__client_stream(r->client->client, &request, &ops, r, &r->call, &err);
  if (rc.code != 0) end(r, &err);
}

static void resume(void *arg) {
  struct blx__reader *r = arg;
  pthread_mutex_lock(&r->lock);
  r->want_resume = false;
  bool go = r->paused && r->call;
  r->paused = false;
  pthread_mutex_unlock(&r->lock);
  if (go) blx__client_resume(r->call);
}

/* Under the lock. Posts keep their order, so a resume that is on its way runs before the finish of a close. */
static void resume_when_low(struct blx__reader *r) {
  if (r->paused && !r->want_resume && !r->closed && r->count <= r->most / 4)
    r->want_resume = blx__api_post(r->client, resume, r, NULL).code == 0;
}

static void finish(void *arg) {
  struct blx__reader *r = arg;
  if (r->call) blx__client_cancel(r->call);
  reader_unref(r);
}

/* ---- on the caller's thread */

static struct blx__reader *reader_new(struct blx__api_client *client, const struct blx__reader_options *o) {
  struct blx__reader *r = calloc(1, sizeof *r);
  if (!r) return NULL;
  r->client = client;
  blx__api_ref(client);
  r->row = &blx__rpc_rows()[o->id];
  r->tell = o->tell;
  r->on = o->on;
  r->user = o->user;
  r->most = o->most ? o->most : r->row->bidi ? BLX__API_SESSION_QUEUE_MAX : BLX__API_QUEUE_MAX;
  BLX__ASSERT(r->most <= BLX__API_QUEUE_MAX);
  atomic_init(&r->refs, 1);
  r->end = (struct blx__api_item){.run = end_run, .owner = client};
  r->sent_item = (struct blx__api_item){.run = sent_run, .owner = client};
  blx__buf_init(&r->body, BLX__API_REQUEST_MAX);
  blx__buf_init(&r->out, BLX__API_REQUEST_MAX);
  pthread_mutex_init(&r->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&r->cond, &attr);
  pthread_condattr_destroy(&attr);
  return r;
}

int blx__reader_open(blx_client *client, const struct blx__reader_options *options, void **out, blx_error *reterr) {
  struct blx__api_client *c = blx__api_client_take(client, !options->tell, reterr);
  if (!c) return BLX_E_MISUSE;
  if (!options->request) {
    blx__api_handle_put(client);
    return blx__api_misuse(reterr, "the request is NULL");
  }
  struct blx__reader *r = reader_new(c, options);
  char tenant[BLX__API_TENANT_MAX + 1];
  blx__api_tenant(c, tenant);
  blx__api_handle_put(client);
  if (!r) return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a reader").code;
  blx__rc rc = blx__api_encode(r->row, options->request, tenant, &r->body, reterr);
  if (rc.code == 0) *out = blx__api_handle_new(options->kind, r, reterr);
  if (rc.code == 0 && *out) return 0;
  reader_unref(r);
  return rc.code != 0 ? rc.code : BLX_E_BUSY;
}

/* Nobody else knows the handle yet, so that taking and killing it cannot fail. */
int blx__reader_start(const void *handle, enum blx__api_kind kind, blx_error *reterr) {
  struct blx__reader *r = blx__api_handle_take(handle, kind, reterr);
  BLX__ASSERT(r != NULL);
  atomic_fetch_add(&r->refs, 1);
  blx__rc rc = blx__api_post(r->client, start, r, reterr);
  bool dead = rc.code != 0 && blx__api_handle_kill(handle);
  blx__api_handle_put(handle);
  if (rc.code == 0) return 0;
  BLX__ASSERT(dead);
  blx__api_handle_drop(handle);
  reader_unref(r);
  reader_unref(r);
  return rc.code;
}

static struct timespec after(uint32_t ms) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  t.tv_sec += ms / 1000;
  t.tv_nsec += (long)(ms % 1000) * 1000000;
  if (t.tv_nsec >= 1000000000) {
    t.tv_sec++;
    t.tv_nsec -= 1000000000;
  }
  return t;
}

static int next(struct blx__reader *r, uint32_t timeout_ms, void **out, blx_error *reterr) {
  struct timespec at = after(timeout_ms);
  pthread_mutex_lock(&r->lock);
  int why = 0, rc;
  while (r->count == 0 && !r->ended && !r->closed && why != ETIMEDOUT)
    why = pthread_cond_timedwait(&r->cond, &r->lock, &at);
  if (r->closed) {
    rc = blx__fail(reterr, BLX_E_CANCELLED, "client", "another thread closed what was being read").code;
  } else if (r->count > 0) {
    *out = r->queue[r->head];
    r->head = (r->head + 1) % BLX__API_QUEUE_MAX;
    r->count--;
    rc = 1;
    resume_when_low(r);
  } else if (r->ended) {
    rc = r->code == 0 ? 0 : blx__fail_as(reterr, &r->err).code;
  } else {
    rc = blx__fail(reterr, BLX_E_TIMEOUT, "client", "nothing came within %u ms", timeout_ms).code;
  }
  pthread_mutex_unlock(&r->lock);
  return rc;
}

int blx__reader_next(const void *handle, enum blx__api_kind kind, uint32_t timeout_ms, void **out, blx_error *reterr) {
  struct blx__reader *r = blx__api_handle_take(handle, kind, reterr);
  if (!r) return BLX_E_MISUSE;
  int rc = blx__api_check(r->client, true, reterr);
  if (rc == 0 && r->tell)
    rc = blx__api_misuse(reterr, "this was opened with a function that is told: nothing is left to be read");
  if (rc == 0) rc = next(r, timeout_ms, out, reterr);
  blx__api_handle_put(handle);
  return rc;
}

static bool is_over(const struct blx__reader *r) {
  return r->ended || r->closed;
}

/* Under the lock, when there is room. */
static blx__rc put_out(struct blx__reader *r, struct blx__slice message, blx_error *reterr) {
  if (!blx__buf_add(&r->out, message.data, message.len))
    return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a message");
  blx__rc rc = blx__api_post(r->client, push_out, r, reterr);
  if (rc.code != 0) blx__buf_clear(&r->out);
  return rc;
}

/* Under the lock. */
static blx__rc check_open(const struct blx__reader *r, blx_error *reterr) {
  if (r->closed) return blx__fail(reterr, BLX_E_CANCELLED, "client", "another thread closed what was being written to");
  if (!r->ended) return BLX__OK;
  return blx__fail(reterr, BLX_E_CONFLICT, "client", "it has ended: nobody reads any more; read how it ended");
}

/* Waits for the message before to go out, so that at most one is held. */
static int write_one(struct blx__reader *r, struct blx__slice message, uint32_t timeout_ms, blx_error *reterr) {
  struct timespec at = after(timeout_ms);
  pthread_mutex_lock(&r->lock);
  int why = 0;
  while (r->out.len > 0 && !is_over(r) && why != ETIMEDOUT) why = pthread_cond_timedwait(&r->cond, &r->lock, &at);
  blx__rc rc = check_open(r, reterr);
  if (rc.code == 0 && r->out.len > 0)
    rc = blx__fail(reterr, BLX_E_TIMEOUT, "client", "there was no room within %u ms: try again", timeout_ms);
  if (rc.code == 0) rc = put_out(r, message, reterr);
  pthread_mutex_unlock(&r->lock);
  return rc.code;
}

int blx__reader_write(const void *handle, enum blx__api_kind kind, struct blx__slice message, uint32_t timeout_ms,
                      blx_error *reterr) {
  struct blx__reader *r = blx__api_handle_take(handle, kind, reterr);
  if (!r) return BLX_E_MISUSE;
  int rc = blx__api_check(r->client, true, reterr);
  if (rc == 0) rc = write_one(r, message, timeout_ms, reterr);
  blx__api_handle_put(handle);
  return rc;
}

static int send_one(struct blx__reader *r, struct blx__slice message, blx__sent_fn *fn, void *user, blx_error *reterr) {
  pthread_mutex_lock(&r->lock);
  blx__rc rc = check_open(r, reterr);
  if (rc.code == 0 && (r->out.len > 0 || r->on_sent))
    rc = blx__fail(reterr, BLX_E_BUSY, "client", "what was written before was not sent yet: again when that is told");
  if (rc.code == 0) {
    r->on_sent = fn;
    r->sent_user = user;
    atomic_fetch_add(&r->refs, 1); /* more than the handle's: it is not the last that goes below */
    rc = put_out(r, message, reterr);
    if (rc.code != 0) {
      r->on_sent = NULL;
      atomic_fetch_sub(&r->refs, 1);
    }
  }
  pthread_mutex_unlock(&r->lock);
  return rc.code;
}

int blx__reader_send(const void *handle, enum blx__api_kind kind, struct blx__slice message, blx__sent_fn *fn,
                     void *user, blx_error *reterr) {
  struct blx__reader *r = blx__api_handle_take(handle, kind, reterr);
  if (!r) return BLX_E_MISUSE;
  int rc = blx__api_check(r->client, false, reterr);
  if (rc == 0) rc = send_one(r, message, fn, user, reterr);
  blx__api_handle_put(handle);
  return rc;
}

/* A thread that is in a read is sent away first. Where the client was closed, its thread is over, and so is the stream:
 * nothing of it is left but this. */
void blx__reader_close(const void *handle, enum blx__api_kind kind) {
  struct blx__reader *r = handle ? blx__api_handle_take(handle, kind, NULL) : NULL;
  if (!r) return;
  bool mine = blx__api_handle_kill(handle);
  if (mine) {
    pthread_mutex_lock(&r->lock);
    r->closed = true;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
  }
  blx__api_handle_put(handle);
  if (!mine) return;
  blx__api_handle_drop(handle);
  int rc;
  while ((rc = blx__api_post(r->client, finish, r, NULL).code) != 0 && rc != BLX_E_MISUSE) {
    struct timespec t = {.tv_nsec = 1000000};
    nanosleep(&t, NULL);
  }
  if (rc != 0) reader_unref(r);
}

/* ---- the three streams there are */

#define STREAM(NAME, KIND, ID, REQUEST, MESSAGE, FN)                                                             \
  static int NAME##_start(blx_client *client, const struct blx__reader_options *options, NAME **out,             \
                          blx_error *reterr) {                                                                   \
    NAME *before = *out;                                                                                         \
    void *handle = NULL;                                                                                         \
    int rc = blx__reader_open(client, options, &handle, reterr);                                                 \
    if (rc != 0) return rc;                                                                                      \
    *out = handle; /* where the function may look for it */                                                      \
    rc = blx__reader_start(handle, KIND, reterr);                                                                \
    if (rc != 0) *out = before;                                                                                  \
    return rc;                                                                                                   \
  }                                                                                                              \
  int NAME##_open(blx_client *client, const struct REQUEST *request, NAME **out, blx_error *reterr) {            \
    if (!out) return blx__api_misuse(reterr, "the place for the handle is NULL");                                \
    return NAME##_start(client, &(struct blx__reader_options){.kind = KIND, .id = ID, .request = request}, out,  \
                        reterr);                                                                                 \
  }                                                                                                              \
  static void NAME##_tell(blx__api_fn on, void *user, const blx_error *err, void *message) {                     \
    ((FN)on)(user, err, message);                                                                                \
  }                                                                                                              \
  int NAME##_open_async(blx_client *client, const struct REQUEST *request, FN on, void *user, NAME **out,        \
                        blx_error *reterr) {                                                                     \
    const struct blx__reader_options options = {KIND, ID, request, NAME##_tell, (blx__api_fn)on, user, 0};       \
    if (!out || !on) return blx__api_misuse(reterr, "the place for the handle or the function to tell is NULL"); \
    return NAME##_start(client, &options, out, reterr);                                                          \
  }                                                                                                              \
  int NAME##_next(NAME *handle, uint32_t timeout_ms, struct MESSAGE **out, blx_error *reterr) {                  \
    void *message = NULL;                                                                                        \
    if (!out) return blx__api_misuse(reterr, "the place for the result is NULL");                                \
    int rc = blx__reader_next(handle, KIND, timeout_ms, &message, reterr);                                       \
    if (rc == 1) *out = message;                                                                                 \
    return rc;                                                                                                   \
  }                                                                                                              \
  void NAME##_close(NAME *handle) {                                                                              \
    blx__reader_close(handle, KIND);                                                                             \
  }

STREAM(blx_watch, BLX__API_WATCH, BLX__RPC_WATCH, blx_watch_request, blx_event, blx_event_fn)
STREAM(blx_vm_logs, BLX__API_LOGS, BLX__RPC_VM_LOGS, blx_vm_logs_request, blx_log_chunk, blx_log_chunk_fn)
STREAM(blx_stats, BLX__API_STATS, BLX__RPC_STATS, blx_stats_request, blx_node_stats, blx_node_stats_fn)
