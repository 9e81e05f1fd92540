/* Inside lib/api: argument checks, the hop onto the client's thread, and what the public functions share. */
#ifndef BLX__API_INT_H
#define BLX__API_INT_H

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
  BLX__API_REQUEST_MAX = 4 << 20, /* bytes of one request */
  BLX__API_QUEUE_MAX = 1024,      /* messages a reader holds before it stops the server */
};

struct blx_client {
  struct blx__log log;
  struct blx__loop *loop;     /* under the lock; NULL: closed, and kept for readers that are still open */
  struct blx__client *client; /* on its thread; NULL: closed */
  pthread_t thread;
  pid_t pid; /* a child of fork has the memory, but not the thread */
  uint32_t timeout_ms;
  atomic_bool closing;
  atomic_uint refs; /* the handle's, and one of each reader */
  pthread_mutex_t lock;
};

typedef void (*blx__api_done)(void *user, const blx_error *err, void *result);

/* Misuse with one sentence. */
int blx__api_misuse(blx_error *reterr, const char *sentence);

/* 0, or MISUSE: @client is NULL, closing or another process's, or the caller is on its thread and @blocking. */
int blx__api_check(const blx_client *client, int blocking, blx_error *reterr);

/* Run @fn(@arg) on the client's thread. Errors: MISUSE (closed), BUSY, NOMEM. Thread: any. */
blx__rc blx__api_post(blx_client *client, void (*fn)(void *arg), void *arg, blx_error *reterr) BLX__MUST;

/* What keeps the handle's memory beyond its close; the last to let go frees it. Thread: any. */
void blx__api_ref(blx_client *client);
void blx__api_unref(blx_client *client);

/* Send @request on the client's thread; @done there, exactly once, with an owned result. Thread: any. */
int blx__api_submit(blx_client *client, enum blx__rpc_id id, const void *request, blx__api_done done, void *user,
                    blx_error *reterr);

/* The same and wait. @out: an owned result. Thread: any but the client's. */
int blx__api_call(blx_client *client, enum blx__rpc_id id, const void *request, void **out, blx_error *reterr);

/* A stream read by a thread of the caller's. */
struct blx__reader;
int blx__reader_open(blx_client *client, enum blx__rpc_id id, const void *request, struct blx__reader **out,
                     blx_error *reterr);
/* 1 and an owned message, 0 at the end, or an error. */
int blx__reader_next(struct blx__reader *reader, uint32_t timeout_ms, void **out, blx_error *reterr);
void blx__reader_close(struct blx__reader *reader);

#endif
