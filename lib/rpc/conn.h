/* The caller's end of gRPC: one connection to one address, made when first needed and again after it broke. No retries
 * here: those are lib/client's. Everything runs on the loop's thread. */
#ifndef BLX__RPC_CONN_H
#define BLX__RPC_CONN_H

#include "io/loop.h"
#include "rpc/rpc.h"

enum {
  BLX__RPC_PENDING_MAX = 4096,           /* calls at a time on one connection */
  BLX__RPC_PENDING_BYTES_MAX = 64 << 20, /* of their requests together */
  BLX__RPC_BIDI_MAX = 64,                /* bidirectional calls among them: each may queue a message and 1 MiB more */
};

struct blx__rpc_conn;
struct blx__rpc_pending; /* a call under way; valid until its done function returns */

struct blx__rpc_request {
  const char *path;                 /* "/blixard.v1.Node/VmCreate" */
  struct blx__slice body;           /* copied */
  uint64_t deadline_ms;             /* from now; 0: none */
  const struct blx__rpc_meta *meta; /* copied */
  size_t meta_count;                /* 0..BLX__RPC_META_MAX */
};

/* How a call ended. */
struct blx__rpc_result {
  const blx_error *err;       /* NULL: good */
  struct blx__slice response; /* of a unary call that ended well; valid during the callback */
  bool maybe_done;            /* with an error: the request was sent, so it may have been carried out */
};

typedef void blx__rpc_done_fn(void *user, const struct blx__rpc_result *result);

struct blx__rpc_stream_ops {
  /* One message, valid during the call. False: pause; nothing more comes until blx__rpc_resume. */
  bool (*on_message)(void *user, struct blx__slice message);
  blx__rpc_done_fn *on_done;
};

/* @address: "unix:/path" or a path; copied. Nothing is connected yet. Errors: INVALID, NOMEM. */
blx__rc blx__rpc_conn_new(struct blx__loop *loop, const char *address, struct blx__rpc_conn **out,
                          blx_error *err) BLX__MUST;

/* One request, one response. @done is called exactly once, on a later turn, also when nobody answers (UNAVAILABLE), the
 * deadline passes (TIMEOUT) or it is cancelled (CANCELLED). @out may be NULL.
 * Errors, then without a callback: INVALID (too long), BUSY (BLX__RPC_PENDING_MAX), NOMEM, CANCELLED (closing). */
blx__rc blx__rpc_unary(struct blx__rpc_conn *c, const struct blx__rpc_request *request, blx__rpc_done_fn *done,
                       void *user, struct blx__rpc_pending **out, blx_error *err) BLX__MUST;

/* One request, any number of messages. @ops is borrowed until on_done, which comes exactly once, last, on a later turn;
 * while paused it waits for blx__rpc_resume unless the call is cancelled. Errors as above. */
blx__rc blx__rpc_stream(struct blx__rpc_conn *c, const struct blx__rpc_request *request,
                        const struct blx__rpc_stream_ops *ops, void *user, struct blx__rpc_pending **out,
                        blx_error *err) BLX__MUST;

struct blx__rpc_bidi_ops {
  struct blx__rpc_stream_ops in;   /* as of a stream */
  void (*on_writable)(void *user); /* after a send that took nothing: there is room now; on a later turn */
};

/* Messages both ways, the two independent of each other; request->body stays empty. @ops is borrowed until on_done, as
 * above. The answer may end before the caller's messages do: the call is over then, and what was not sent is dropped.
 * Errors as above, and BUSY (BLX__RPC_BIDI_MAX). */
blx__rc blx__rpc_bidi(struct blx__rpc_conn *c, const struct blx__rpc_request *request,
                      const struct blx__rpc_bidi_ops *ops, void *user, struct blx__rpc_pending **out,
                      blx_error *err) BLX__MUST;

/* One message of a bidirectional call, copied; 0 to BLX__RPC_MESSAGE_MAX_BYTES, a longer one ends the call with
 * INVALID. False: the queue (BLX__RPC_SEND_QUEUE_MAX_BYTES) is full, because the other side pauses or is slow; nothing
 * was taken and on_writable follows. Dropped, with true, once the call has ended. Not after blx__rpc_half_close. */
bool blx__rpc_send(struct blx__rpc_pending *p, const void *message, size_t size);

/* No more messages from here; what is queued goes out first, and answers go on. Twice is harmless. */
void blx__rpc_half_close(struct blx__rpc_pending *p);

/* Go on after a pause; messages follow on a later turn. */
void blx__rpc_resume(struct blx__rpc_pending *p);

/* End it with CANCELLED; no message comes any more. Twice is harmless. */
void blx__rpc_cancel(struct blx__rpc_pending *p);

/* Look each @look_ms (1..60000) instead of BLX__RPC_LOOK_MS whether the other side lives. */
void blx__rpc_conn_look(struct blx__rpc_conn *c, uint32_t look_ms);

/* No call is under way. */
bool blx__rpc_conn_is_idle(const struct blx__rpc_conn *c);

/* End every call with CANCELLED, then @closed(@user), once, on a later turn (NULL allowed). */
void blx__rpc_conn_close(struct blx__rpc_conn *c, void (*closed)(void *user), void *user);

#endif
