/* Inside lib/api: argument checks, the hop onto the client's thread, and what the public functions share. */
#ifndef BLX__API_INT_H
#define BLX__API_INT_H

#include "api/dispatch.h"
#include "api/handle.h"
#include "base/arena.h"
#include "base/log.h"
#include "client/client.h"
#include "io/loop.h"
#include "schema/codec.h"
#include "schema/desc.h"
#include "schema/json.h"
#include "schema/rpc_table.h"
#include <blixard/blixard.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
  BLX__API_TIMEOUT_MS = 30000,
  BLX__API_TIMEOUT_MAX_MS = 3600000,
  BLX__API_ADDRESSES_MAX = 16,
  BLX__API_REQUEST_MAX = 4 << 20,  /* bytes of one request */
  BLX__API_QUEUE_MAX = 1024,       /* messages a reader holds before it stops the server */
  BLX__API_SESSION_QUEUE_MAX = 64, /* the same of one that is written to, too */
  BLX__API_REASON_MAX = 256,       /* bytes of a reason */
  BLX__API_TENANT_MAX = 56,        /* bytes of a tenant's name */
  BLX__API_STRUCT_MAX = 4096,      /* bytes of a struct_size that can be meant */
};

/* What is behind a blx_client. */
struct blx__api_client {
  struct blx__log log;
  struct blx__loop *loop;       /* under the lock; NULL: closed, and kept for readers that are still open */
  struct blx__client *client;   /* on its thread; NULL: closed */
  struct blx__api_queue *queue; /* NULL: completions on its thread */
  pthread_t thread;
  uint32_t timeout_ms;
  char reason[BLX__API_REASON_MAX + 1]; /* under the lock */
  char tenant[BLX__API_TENANT_MAX + 1]; /* under the lock; empty: none was named */
  atomic_bool closing;
  atomic_uint calls; /* whose completion has not begun, at most BLX_CLIENT_CALLS_MAX */
  atomic_uint refs;  /* the handle's, and one of each reader */
  pthread_mutex_t lock;
  struct blx__list waits; /* on its thread */
};

typedef void (*blx__api_done)(void *user, const blx_error *err, void *result);

/* Misuse with one sentence. */
int blx__api_misuse(blx_error *reterr, const char *sentence);

/* @from, a struct of the embedder's that may be of an older or a newer header, into @to of @size bytes; what is missing
 * is zero. Errors: MISUSE (struct_size is below @min bytes or absurd), UNSUPPORTED (the tail beyond @size is not zero).
 */
blx__rc blx__api_take_struct(void *to, size_t size, size_t min, const void *from, const char *origin,
                             blx_error *err) BLX__MUST;

/* As blx_client_open(), @options whole; completions go through @queue unless it is NULL. */
int blx__api_client_open(const struct blx_client_options *options, struct blx__api_queue *queue, blx_client **out,
                         blx_error *reterr);

/* 0, or MISUSE: the client is closing, or the caller is where its completions run and @blocking. */
int blx__api_check(struct blx__api_client *client, bool blocking, blx_error *reterr);

/* The client behind @handle, checked so, until blx__api_handle_put(@handle). NULL: MISUSE. */
struct blx__api_client *blx__api_client_take(const blx_client *handle, bool blocking, blx_error *reterr);

/* Run @fn(@arg) on the client's thread. Errors: MISUSE (closed), BUSY, NOMEM. Thread: any. */
blx__rc blx__api_post(struct blx__api_client *client, void (*fn)(void *arg), void *arg, blx_error *reterr) BLX__MUST;

/* What keeps the object's memory beyond its close; the last to let go frees it. Thread: any. */
void blx__api_ref(struct blx__api_client *client);
void blx__api_unref(struct blx__api_client *client);

/* Send @request on the client's thread; @done where its completions run, exactly once, with an owned result.
 * Errors, then without @done: MISUSE, BUSY (BLX_CLIENT_CALLS_MAX), INVALID, NOMEM. Thread: any. */
int blx__api_submit(blx_client *client, enum blx__rpc_id id, const void *request, blx__api_done done, void *user,
                    blx_error *reterr);

/* The tenant that a client's calls are of where they name none, as it is now; "": none. */
void blx__api_tenant(struct blx__api_client *client, char out[BLX__API_TENANT_MAX + 1]);
/* Errors: INVALID. */
blx__rc blx__api_check_tenant(const char *tenant, blx_error *err) BLX__MUST;

/* @request as it is sent: of @tenant unless that is "" or it names one, and with a key if it changes something. */
blx__rc blx__api_encode(const struct blx__rpc_row *row, const void *request, const char *tenant, struct blx__buf *out,
                        blx_error *err) BLX__MUST;

/* A call that was submitted with blx__api_waiter_done, and the thread that waits for it. */
struct blx__api_waiter {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool done;
  int code;
  blx_error err;
  void *result;
};
#define BLX__API_WAITER_INIT \
  { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER }
void blx__api_waiter_done(void *user, const blx_error *err, void *result);
/* Until it is done; @w is used up. @out: an owned result. */
int blx__api_waiter_wait(struct blx__api_waiter *w, void **out, blx_error *reterr);

/* Room for @n more calls whose completion has not begun: what waits in a queue is bounded by this too. Error: BUSY. */
blx__rc blx__api_count(struct blx__api_client *client, unsigned n, blx_error *err) BLX__MUST;

/* Every wait for a VM ends with CANCELLED. On the client's thread. */
void blx__api_waits_close(struct blx__api_client *client);

/* The same and wait. @out: an owned result. Thread: any but where completions run. */
int blx__api_call(blx_client *client, enum blx__rpc_id id, const void *request, void **out, blx_error *reterr);

/* A stream. With @tell, each message is told where the client's completions run, and at last, exactly once, that none
 * will follow: @tell(@on, @user, why or NULL, NULL). Without, a thread of the caller's reads it. */
typedef void (*blx__api_fn)(void);
struct blx__reader_options {
  enum blx__api_kind kind;
  enum blx__rpc_id id;
  const void *request;
  void (*tell)(blx__api_fn on, void *user, const blx_error *err, void *message); /* gives @on its type back */
  blx__api_fn on;
  void *user;
  size_t most; /* messages that are held, at most BLX__API_QUEUE_MAX; 0: that many */
};
/* @out: its handle, on which nothing happens until it is started. */
int blx__reader_open(blx_client *client, const struct blx__reader_options *options, void **out, blx_error *reterr);
/* An error: the handle is closed. */
int blx__reader_start(const void *handle, enum blx__api_kind kind, blx_error *reterr);
/* 1 and an owned message, 0 at the end, or an error. */
int blx__reader_next(const void *handle, enum blx__api_kind kind, uint32_t timeout_ms, void **out, blx_error *reterr);
/* One encoded message to a stream that takes some; it is sent when there is room. 0, CONFLICT (it has ended), TIMEOUT
 * (the message before was not sent yet), or another error; then nothing was taken. */
int blx__reader_write(const void *handle, enum blx__api_kind kind, struct blx__slice message, uint32_t timeout_ms,
                      blx_error *reterr);
/* The same without waiting: 0, and @fn where the client's completions run, exactly once, when it was sent, or with an
 * error; BUSY: the one before was not sent and told yet. */
typedef void blx__sent_fn(void *user, const blx_error *err);
int blx__reader_send(const void *handle, enum blx__api_kind kind, struct blx__slice message, blx__sent_fn *fn,
                     void *user, blx_error *reterr);
void blx__reader_close(const void *handle, enum blx__api_kind kind);

#endif
