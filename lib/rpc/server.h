/* A gRPC server on one local socket. Only root and the server's own user may connect. Everything here runs on the
 * loop's thread. */
#ifndef BLX__RPC_SERVER_H
#define BLX__RPC_SERVER_H

#include "base/log.h"
#include "io/stream.h"
#include "rpc/rpc.h"

struct blx__rpc_server;
struct blx__rpc_call;

enum blx__rpc_kind { BLX__RPC_UNARY, BLX__RPC_SERVER_STREAM, BLX__RPC_BIDI };

/* A row of the service's table. */
struct blx__rpc_method {
  const char *path; /* "/blixard.v1.Node/VmCreate" */
  enum blx__rpc_kind kind;
  void *user;
};

struct blx__rpc_service {
  void *user;
  /* The method of @path, or NULL: the caller is told that it is not supported. */
  const struct blx__rpc_method *(*find)(void *user, const char *path);
  /* A whole request came; @request is valid during the call. Answer now, or take a reference and answer later. A call
   * of a BIDI method has only begun, and @request is empty: its messages wait for blx__rpc_call_receive. */
  void (*on_call)(void *user, struct blx__rpc_call *call, struct blx__slice request);
};

struct blx__rpc_server_options {
  const char *path;                       /* of the socket */
  unsigned mode;                          /* its permissions, 0660 */
  const struct blx__rpc_service *service; /* borrowed until closed */
  const struct blx__log *log;             /* borrowed until closed; may be NULL */
  uint32_t look_ms;                       /* 0: BLX__RPC_LOOK_MS */
};

/* What a server counted since it was opened; connections and calls: open now. */
struct blx__rpc_server_stats {
  uint64_t connections, calls;
  uint64_t accepted, refused_user, refused_full;
  uint64_t cut_preface; /* said nothing in time */
  uint64_t noise;       /* broke the rules of HTTP/2, or flooded us */
  uint64_t cut_silent;  /* stopped to answer while calls were open */
  uint64_t closed_idle; /* had no call for BLX__RPC_IDLE_LOOKS */
  uint64_t calls_seen, calls_cancelled, calls_late;
};

/* Errors: those of blx__listener_open. */
blx__rc blx__rpc_server_open(struct blx__loop *loop, const struct blx__rpc_server_options *options,
                             struct blx__rpc_server **out, blx_error *err) BLX__MUST;

void blx__rpc_server_stats(const struct blx__rpc_server *s, struct blx__rpc_server_stats *out);

/* Accept nothing more, end open calls with UNAVAILABLE, send what is due for at most 2 s; then @closed(@user), once, on
 * a later turn. The server is gone after it. */
void blx__rpc_server_close(struct blx__rpc_server *s, void (*closed)(void *user), void *user);

/* ---- one call, as its method sees it */

struct blx__rpc_call_ops {
  void (*on_writable)(void *user); /* after a send that took nothing: there is room now; NULL allowed */
  /* Once, the last callback: the answer was delivered (false), or the caller went away or its deadline passed (true).
   * Never from inside a function of this header. NULL allowed. */
  void (*on_gone)(void *user, bool cancelled);
};

/* Watch the call; a call that is over already tells nothing any more (blx__rpc_call_is_over). */
void blx__rpc_call_watch(struct blx__rpc_call *c, const struct blx__rpc_call_ops *ops, void *user);

/* Keep the pointer valid; each ref needs its unref. On a call that is over every function below is harmless. */
struct blx__rpc_call *blx__rpc_call_ref(struct blx__rpc_call *c);
void blx__rpc_call_unref(struct blx__rpc_call *c);

/* One message and the good end of the call. At most BLX__RPC_MESSAGE_MAX_BYTES, else the caller gets an error. */
void blx__rpc_call_reply(struct blx__rpc_call *c, const void *message, size_t size);

/* One message of a streaming answer, copied. False: the queue is full and nothing was taken; on_writable follows. */
bool blx__rpc_call_send(struct blx__rpc_call *c, const void *message, size_t size);

/* What the caller of a BIDI method sends. */
struct blx__rpc_receive_ops {
  /* One message, valid during the call. False: pause; nothing more comes until blx__rpc_call_resume. Meanwhile at most
   * a window (1 MiB) is held here: a caller that goes on finds its own queue full. */
  bool (*on_message)(void *user, struct blx__slice message);
  void (*on_half_close)(void *user); /* after the last message: the caller sends no more; NULL allowed */
};

/* Hear the caller of a BIDI method, once; @ops is borrowed until on_gone. Messages come on later turns, none after the
 * method has finished the call. */
void blx__rpc_call_receive(struct blx__rpc_call *c, const struct blx__rpc_receive_ops *ops, void *user);

/* Go on after a pause; messages follow on a later turn. */
void blx__rpc_call_resume(struct blx__rpc_call *c);

/* The end: NULL is good, else the caller gets this error, with its origin and leader. Only the first end counts. */
void blx__rpc_call_finish(struct blx__rpc_call *c, const blx_error *err);

const struct blx__rpc_method *blx__rpc_call_method(const struct blx__rpc_call *c);
bool blx__rpc_call_is_over(const struct blx__rpc_call *c);

/* What is left of the caller's time in ms, at least 1; 0: it set no deadline. */
uint64_t blx__rpc_call_deadline_ms(const struct blx__rpc_call *c);

/* Who connected, by the kernel's word. */
struct blx__cred blx__rpc_call_cred(const struct blx__rpc_call *c);

/* Value of the request's metadata @name (lower case), or NULL. Borrowed from the call. */
const char *blx__rpc_call_meta(const struct blx__rpc_call *c, const char *name);

#endif
