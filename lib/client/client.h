/* The caller's side of a cluster: several addresses, one of which answers. Retries while there is no leader or nobody
 * answers, follows the leader's hint, resumes streams. Everything runs on the thread of the loop it was given. */
#ifndef BLX__CLIENT_CLIENT_H
#define BLX__CLIENT_CLIENT_H

#include "base/log.h"
#include "io/loop.h"
#include "rpc/conn.h"

enum {
  BLX__CLIENT_ADDRESSES_MAX = 16,   /* given, and learned from hints */
  BLX__CLIENT_CALLS_MAX = 1024,     /* at a time */
  BLX__CLIENT_BYTES_MAX = 64 << 20, /* of their requests together */
  BLX__CLIENT_DEADLINE_MS = 30000,  /* of a unary call that names none */
  BLX__CLIENT_NOBODY_MS = 2000,     /* a call that reached nobody at any address gives up then */
  BLX__CLIENT_BACKOFF_MIN_MS = 25,
  BLX__CLIENT_BACKOFF_MAX_MS = 1000,
};

struct blx__client;
struct blx__client_call; /* valid until its done function returns */

/* What happens to a stream. */
struct blx__client_stream_ops {
  /* One message, valid during the call. False: pause until blx__client_resume. */
  bool (*on_message)(void *user, struct blx__slice message);
  /* The stream broke with a retryable @why: put the request that goes on where it stopped into the empty @request and
   * return true, or return false to end with @why. NULL: never resume. */
  bool (*on_resume)(void *user, const blx_error *why, struct blx__buf *request);
  void (*on_writable)(void *user); /* of a bidirectional one, after a send that took nothing: there is room now */
  blx__rpc_done_fn *on_done;       /* once, last */
};

/* @addresses: @count strings (1..BLX__CLIENT_ADDRESSES_MAX) "unix:/path" or paths, copied; the first is asked first.
 * @log: borrowed until closed, may be NULL. Nothing is connected yet. Errors: INVALID, NOMEM. */
blx__rc blx__client_new(struct blx__loop *loop, const char *const *addresses, size_t count, const struct blx__log *log,
                        struct blx__client **out, blx_error *err) BLX__MUST;

/* A unary call; request->deadline_ms covers all attempts (0: BLX__CLIENT_DEADLINE_MS), and BLX__CLIENT_NOBODY_MS those
 * that reach nobody: where no daemon runs, none will answer by being asked for longer. The same bytes are sent again on
 * NO_LEADER and UNAVAILABLE, also when an earlier attempt may have been carried out: a request that changes something
 * carries a request_id. @done: exactly once, on a later turn; result->maybe_done tells of any attempt. @out may be
 * NULL. Errors, then without a callback: INVALID, BUSY, NOMEM, CANCELLED (closing). */
blx__rc blx__client_call(struct blx__client *c, const struct blx__rpc_request *request, blx__rpc_done_fn *done,
                         void *user, struct blx__client_call **out, blx_error *err) BLX__MUST;

/* A stream; request->deadline_ms covers all attempts, 0: none. @ops is borrowed until on_done. Errors as above. */
blx__rc blx__client_stream(struct blx__client *c, const struct blx__rpc_request *request,
                           const struct blx__client_stream_ops *ops, void *user, struct blx__client_call **out,
                           blx_error *err) BLX__MUST;

/* A stream with messages of the caller's too, of which request->body is the first. Another address is asked while that
 * one was not sent; on_resume is not called. Errors as above. */
blx__rc blx__client_bidi(struct blx__client *c, const struct blx__rpc_request *request,
                         const struct blx__client_stream_ops *ops, void *user, struct blx__client_call **out,
                         blx_error *err) BLX__MUST;

/* One more message of a bidirectional stream, as blx__rpc_send. None is taken before the other side's first message, so
 * that an attempt can be made again. */
bool blx__client_send(struct blx__client_call *call, const void *message, size_t size);

/* Go on after a pause. */
void blx__client_resume(struct blx__client_call *call);

/* End it with CANCELLED, on a later turn. Twice is harmless. */
void blx__client_cancel(struct blx__client_call *call);

/* End every call with CANCELLED, then @closed(@user), once, on a later turn (NULL allowed). */
void blx__client_close(struct blx__client *c, void (*closed)(void *user), void *user);

#endif
