/* The caller's connections and calls; for lib/rpc/conn.c and pending.c only. */
#ifndef BLX__RPC_CONN_INT_H
#define BLX__RPC_CONN_INT_H

#include "io/timer.h"
#include "rpc/conn.h"
#include "rpc/rpc_int.h"

/* One HTTP/2 connection. A blx__rpc_conn has one for new calls at most; one that got GOAWAY or broke lives on,
 * detached, until its calls have ended. */
struct link {
  struct h2 h2;
  struct blx__list in_conn; /* in blx__rpc_conn.links */
  struct blx__rpc_conn *conn;
  struct blx__list calls; /* struct blx__rpc_pending, by in_link */
};

struct blx__rpc_conn {
  struct blx__loop *loop;
  char path[BLX__STREAM_PATH_MAX + 1];
  struct link *link;         /* for new calls, or NULL */
  struct blx__list links;    /* all */
  struct blx__list pendings; /* all calls, by in_conn */
  size_t pending_count, pending_bytes, bidi_count;
  struct blx__timer *look; /* runs while there are calls */
  uint32_t look_ms;
  bool closing;
  struct blx__defer closed_defer;
  void (*closed)(void *user);
  void *closed_user;
};

struct blx__rpc_pending {
  struct blx__list in_conn, in_link;
  struct blx__rpc_conn *conn;
  struct link *link; /* NULL once the stream is closed or was never opened */
  int32_t stream_id;
  bool unary, paused, ended, is_grpc;
  bool drop; /* messages that wait are not delivered any more */
  int messages;
  uint8_t *body; /* framed request */
  size_t body_len, body_at;
  struct reader reader;
  size_t unacked; /* bytes not given back to the stream's window */
  uint8_t *response;
  size_t response_len;
  struct status_seen seen;
  int http_status;
  struct blx__timer *timer;
  struct blx__defer turn; /* to resume, or to tell the end */
  blx__rpc_done_fn *done;
  const struct blx__rpc_stream_ops *ops;
  void *user;
  const struct blx__rpc_bidi_ops *bidi; /* NULL: not bidirectional, and what follows is unused */
  struct writer out;
  bool half_closed, writable; /* writable: to be told on the next turn */
  bool failed, maybe_done;
  blx_error err;
};

/* The link for new calls, connected if need be. Errors: those of blx__stream_connect. */
blx__rc conn_link(struct blx__rpc_conn *c, struct link **out, blx_error *err) BLX__MUST;

/* There is a first call: see that its connection lives. */
void conn_watch(struct blx__rpc_conn *c);

/* After a call or a link is gone: closing may be over. */
void conn_maybe_closed(struct blx__rpc_conn *c);

void pendings_set_callbacks(nghttp2_session_callbacks *cbs);

/* End the call with @err (copied; NULL: as the other side's status says). It is told on a later turn. */
void pending_end(struct blx__rpc_pending *p, const blx_error *err);

#endif
