/* The files of lib/client only. */
#ifndef BLX__CLIENT_INT_H
#define BLX__CLIENT_INT_H

#include "base/list.h"
#include "client/client.h"
#include "io/timer.h"

struct target {
  struct blx__rpc_conn *conn;
  char *address;
};

struct blx__client {
  struct blx__loop *loop;
  const struct blx__log *log;
  struct target targets[BLX__CLIENT_ADDRESSES_MAX];
  size_t target_count;
  size_t current; /* whom to ask */
  struct blx__list calls;
  size_t call_count, call_bytes;
  uint64_t salt; /* for jitter */
  bool closing;
  size_t conns_open;
  struct blx__defer closed_defer;
  void (*closed)(void *user);
  void *closed_user;
};

struct blx__client_call {
  struct blx__list link;
  struct blx__client *client;
  char *path;
  uint8_t *body;
  size_t body_len;
  struct blx__rpc_meta *meta; /* strings owned, in one block after the array */
  size_t meta_count;
  uint64_t deadline_at_ms; /* 0: none */
  struct blx__rpc_pending *pending;
  size_t target;            /* that pending goes to */
  struct blx__timer *timer; /* the wait before the next attempt */
  struct blx__defer told;
  unsigned attempts, failures; /* failures: in a row */
  bool stream, cancelled, maybe_done, ended;
  bool bidi, begun, writable; /* begun: the other side said something; writable: it is to be told then */
  bool reached;               /* somebody answered, if only with an error */
  uint64_t began_ms;          /* when the first attempt was made */
  blx_error last;
  blx__rpc_done_fn *done;
  const struct blx__client_stream_ops *ops;
  void *user;
};

/* Ask someone else than @failed from now on; @hint (may be empty) names whom. */
void client_move(struct blx__client *c, size_t failed, const char *hint);

void client_call_gone(struct blx__client_call *call);

/* Give up waiting or asking: the call ends with CANCELLED. */
void call_cancel(struct blx__client_call *call);

#endif
