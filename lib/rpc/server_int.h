/* The server's connections and calls; for lib/rpc/server.c and call.c only. */
#ifndef BLX__RPC_SERVER_INT_H
#define BLX__RPC_SERVER_INT_H

#include "io/timer.h"
#include "rpc/rpc_int.h"
#include "rpc/server.h"

enum {
  HELD_MAX_BYTES = 256 << 20,   /* half-received requests and metadata of all connections together */
  QUEUED_MAX_BYTES = 256 << 20, /* answers that wait to be sent, likewise */
  PATH_MAX_BYTES = 256,
};

struct connection {
  struct h2 h2;
  struct blx__list link; /* in server.connections */
  struct blx__rpc_server *server;
  struct blx__list calls;     /* struct blx__rpc_call, by link */
  struct blx__list idle_link; /* in server.fresh or idle, while there is a session without a call */
  struct blx__list writable;  /* those to tell that there is room, by writable_link */
  struct blx__timer *timer;   /* of the preface, then of the close */
  struct blx__cred cred;
  bool settled, noisy;
  bool used; /* it has had a call */
};

struct blx__rpc_server {
  struct blx__loop *loop;
  const struct blx__rpc_service *service;
  const struct blx__log *log;
  struct blx__listener *listener;
  struct blx__list connections;
  struct blx__list fresh, idle; /* connections that never had a call, and those between calls, the oldest first */
  size_t idle_count;
  struct blx__timer *look;
  size_t held_bytes, queued_bytes;
  struct blx__rpc_server_stats stats;
  bool closing;
  struct blx__defer closed_defer;
  void (*closed)(void *user);
  void *closed_user;
};

struct blx__rpc_call {
  unsigned refs;
  struct blx__list link, writable_link;
  struct connection *conn; /* NULL once the stream is closed */
  int32_t stream_id;
  const struct blx__rpc_method *method;
  char path[PATH_MAX_BYTES];
  struct blx__cred cred;
  struct blx__buf meta; /* name NUL value NUL, again and again */
  size_t header_bytes;
  bool is_post, is_grpc, path_long, headers_done, asked, headers_sent, finished, gone;
  bool cut;             /* we ended it, not its method */
  bool due_is_deadline; /* what the timer is set to */
  struct reader reader;
  size_t held, queued; /* what reader and meta keep, and what out keeps, as counted in the server */
  struct writer out;
  int end_code;
  blx_error *end; /* NULL: end_code says all */
  struct blx__timer *timer;
  uint64_t deadline_at_ms; /* 0: none */
  const struct blx__rpc_call_ops *ops;
  void *user;
  /* Of a BIDI method only. */
  const struct blx__rpc_receive_ops *receive;
  void *receive_user;
  bool in_paused, in_ended, end_told;
  size_t unacked; /* bytes not given back to the stream's window */
  struct blx__defer turn;
};

/* It has its first call; its last call has ended. */
void conn_busy(struct connection *conn);
void conn_idle(struct connection *conn);

/* Callbacks of nghttp2 that are about calls. */
void calls_set_callbacks(nghttp2_session_callbacks *cbs);

/* The stream is closed: tell the user, drop our reference. */
void call_end(struct blx__rpc_call *c, bool cancelled);

/* A frame went out. */
void calls_frame_sent(struct h2 *h, const nghttp2_frame *frame);

/* Tell those who wait for room. */
void calls_tell_writable(struct connection *conn);

#endif
