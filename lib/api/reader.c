/* Streams read by a thread of the caller's: a bounded queue between the client's thread, which fills it and stops the
 * server when it is full, and the reader. */
#include "api/api_int.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct blx__reader {
  blx_client *client;
  const struct blx__rpc_row *row;
  struct blx__buf body;
  /* The client's thread alone. */
  struct blx__client_call *call;
  bool paused;
  /* Under the lock. */
  pthread_mutex_t lock;
  pthread_cond_t cond;
  void *queue[BLX__API_QUEUE_MAX];
  size_t head, count;
  bool want_resume; /* a resume is on its way to the client's thread */
  bool ended, closed;
  int code; /* why it ended; 0: well */
  blx_error err;
};

static void reader_free(struct blx__reader *r) {
  while (r->count > 0) {
    blx__msg_free_owned(r->queue[r->head]);
    r->head = (r->head + 1) % BLX__API_QUEUE_MAX;
    r->count--;
  }
  pthread_mutex_destroy(&r->lock);
  pthread_cond_destroy(&r->cond);
  blx__buf_free(&r->body);
  blx__api_unref(r->client);
  free(r);
}

static void end_locked(struct blx__reader *r, const blx_error *err) {
  r->ended = true;
  r->code = err ? err->code : 0;
  if (err) r->err = *err;
  pthread_cond_signal(&r->cond);
}

/* ---- on the client's thread */

static bool on_message(void *user, struct blx__slice message) {
  struct blx__reader *r = user;
  void *owned = NULL;
  blx_error err;
  blx__rc rc = blx__msg_decode_owned(r->row->response(), message, &owned, &err);
  pthread_mutex_lock(&r->lock);
  if (rc.code != 0) {
    if (!r->ended) end_locked(r, &err);
  } else {
    BLX__ASSERT(r->count < BLX__API_QUEUE_MAX);
    r->queue[(r->head + r->count) % BLX__API_QUEUE_MAX] = owned;
    r->count++;
    pthread_cond_signal(&r->cond);
  }
  r->paused = rc.code == 0 && r->count == BLX__API_QUEUE_MAX;
  bool go_on = !r->paused;
  pthread_mutex_unlock(&r->lock);
  if (rc.code != 0) blx__client_cancel(r->call);
  return go_on;
}

static void on_done(void *user, const struct blx__rpc_result *result) {
  struct blx__reader *r = user;
  r->call = NULL;
  pthread_mutex_lock(&r->lock);
  if (!r->ended) end_locked(r, result->err);
  bool last = r->closed;
  pthread_mutex_unlock(&r->lock);
  if (last) reader_free(r);
}

static const struct blx__client_stream_ops ops = {.on_message = on_message, .on_done = on_done};

static void start(void *arg) {
  struct blx__reader *r = arg;
  struct blx__rpc_request request = {.path = r->row->path, .body = {r->body.data, r->body.len}};
  blx_error err;
  blx__rc rc = r->client->client ? blx__client_stream(r->client->client, &request, &ops, r, &r->call, &err)
                                 : blx__fail(&err, BLX_E_CANCELLED, "client", "the client was closed");
  if (rc.code == 0) return;
  r->call = NULL;
  pthread_mutex_lock(&r->lock);
  end_locked(r, &err);
  bool last = r->closed;
  pthread_mutex_unlock(&r->lock);
  if (last) reader_free(r);
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

/* The reader is freed here, or, when the stream has not ended, by its last callback. Posts keep their order, so a start
 * or resume that is on its way ran before this. */
static void finish(void *arg) {
  struct blx__reader *r = arg;
  pthread_mutex_lock(&r->lock);
  r->closed = true;
  pthread_mutex_unlock(&r->lock);
  if (r->call)
    blx__client_cancel(r->call);
  else
    reader_free(r);
}

/* ---- on the caller's thread */

int blx__reader_open(blx_client *client, enum blx__rpc_id id, const void *request, struct blx__reader **out,
                     blx_error *reterr) {
  int bad = blx__api_check(client, 1, reterr);
  if (bad != 0) return bad;
  if (!request || !out) return blx__api_misuse(reterr, "the request or the place for the reader is NULL");
  struct blx__reader *r = calloc(1, sizeof *r);
  if (!r) return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a reader").code;
  r->client = client;
  blx__api_ref(client);
  r->row = &blx__rpc_rows()[id];
  blx__buf_init(&r->body, BLX__API_REQUEST_MAX);
  pthread_mutex_init(&r->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&r->cond, &attr);
  pthread_condattr_destroy(&attr);
  blx__rc rc = blx__msg_encode(r->row->request(), request, &r->body, reterr);
  if (rc.code == 0) rc = blx__api_post(client, start, r, reterr);
  if (rc.code != 0) {
    reader_free(r);
    return rc.code;
  }
  *out = r;
  return 0;
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

int blx__reader_next(struct blx__reader *r, uint32_t timeout_ms, void **out, blx_error *reterr) {
  if (!r || !out) return blx__api_misuse(reterr, "the reader or the place for the result is NULL");
  int bad = blx__api_check(r->client, 1, reterr);
  if (bad != 0) return bad;
  struct timespec end = after(timeout_ms);
  pthread_mutex_lock(&r->lock);
  int why = 0;
  while (r->count == 0 && !r->ended && why != ETIMEDOUT) why = pthread_cond_timedwait(&r->cond, &r->lock, &end);
  int rc;
  if (r->count > 0) {
    *out = r->queue[r->head];
    r->head = (r->head + 1) % BLX__API_QUEUE_MAX;
    r->count--;
    rc = 1;
    if (r->paused && !r->want_resume && r->count <= BLX__API_QUEUE_MAX / 4)
      r->want_resume = blx__api_post(r->client, resume, r, NULL).code == 0;
  } else if (r->ended) {
    rc = r->code == 0 ? 0 : blx__fail_as(reterr, &r->err).code;
  } else {
    rc = blx__fail(reterr, BLX_E_TIMEOUT, "client", "nothing came within %u ms", timeout_ms).code;
  }
  pthread_mutex_unlock(&r->lock);
  return rc;
}

void blx__reader_close(struct blx__reader *r) {
  if (!r || r->client->pid != getpid()) return;
  for (;;) {
    int rc = blx__api_post(r->client, finish, r, NULL).code;
    if (rc == 0) return;
    if (rc == BLX_E_MISUSE) break;
    struct timespec t = {.tv_nsec = 1000000};
    nanosleep(&t, NULL);
  }
  /* Its client was closed first: that ended the stream and its thread. */
  reader_free(r);
}

/* ---- the two streams there are */

struct blx_watch {
  struct blx__reader *reader;
};

struct blx_vm_logs {
  struct blx__reader *reader;
};

#define STREAM(NAME, HANDLE, ID, REQUEST, MESSAGE)                                                      \
  int NAME##_open(blx_client *client, const struct REQUEST *request, HANDLE **out, blx_error *reterr) { \
    if (!out) return blx__api_misuse(reterr, "the place for the result is NULL");                       \
    HANDLE *h = malloc(sizeof *h);                                                                      \
    if (!h) return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for a reader").code;             \
    int rc = blx__reader_open(client, ID, request, &h->reader, reterr);                                 \
    if (rc != 0)                                                                                        \
      free(h);                                                                                          \
    else                                                                                                \
      *out = h;                                                                                         \
    return rc;                                                                                          \
  }                                                                                                     \
  int NAME##_next(HANDLE *h, uint32_t timeout_ms, struct MESSAGE **out, blx_error *reterr) {            \
    void *message = NULL;                                                                               \
    if (!out) return blx__api_misuse(reterr, "the place for the result is NULL");                       \
    int rc = blx__reader_next(h ? h->reader : NULL, timeout_ms, &message, reterr);                      \
    if (rc == 1) *out = message;                                                                        \
    return rc;                                                                                          \
  }                                                                                                     \
  void NAME##_close(HANDLE *h) {                                                                        \
    if (!h) return;                                                                                     \
    blx__reader_close(h->reader);                                                                       \
    free(h);                                                                                            \
  }

STREAM(blx_watch, blx_watch, BLX__RPC_WATCH, blx_watch_request, blx_event)
STREAM(blx_vm_logs, blx_vm_logs, BLX__RPC_VM_LOGS, blx_vm_logs_request, blx_log_chunk)
