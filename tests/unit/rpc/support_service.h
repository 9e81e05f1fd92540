/* A small service of bytes that the tests of lib/rpc talk to. */
#ifndef BLX_TESTS_RPC_SUPPORT_H
#define BLX_TESTS_RPC_SUPPORT_H

#include "rpc/conn.h"
#include "rpc/server.h"

/* /t.T/Echo   the request
 * /t.T/Big    so many bytes as the request's number says
 * /t.T/Meta   the value of blixard-principal
 * /t.T/Left   the deadline left, in ms
 * /t.T/Fail   EXISTS with origin, leader and a message that needs escaping
 * /t.T/Never  nothing
 * /t.T/Count  "N SIZE": N messages of SIZE bytes that begin with their number
 * /t.T/Break  three messages, then STALE
 * /t.T/Talk   each message back, then "N BYTES" of them once the caller sends no more
 * /t.T/Hear   takes messages, pausing after each hear_until; at the caller's end "N BYTES"
 * /t.T/Enough one message, then STALE, whatever the caller still sends */
struct service {
  struct blx__rpc_service table;
  struct blx__loop *loop;
  int gone_cancelled, gone_good; /* of Never and Count */
  int waiting;                   /* calls of Never */
  int stop_at_waiting, stop_at_cancelled;
  uint64_t sent; /* messages of Count */
  /* Of the last Talk, Hear or Enough. */
  struct blx__rpc_call *talk; /* NULL once it is over */
  uint64_t heard, hear_until; /* messages; 0: never pause */
  bool half_closed;
};

struct world {
  char dir[64], path[96];
  struct blx__loop *loop;
  struct service service;
  struct blx__rpc_server *server;
  struct blx__rpc_conn *conn;
};

void world_open(struct world *w);

/* The same; both ends look each @look_ms whether the other lives. */
void world_open_looking(struct world *w, uint32_t look_ms);

/* Let everything that can move, move. */
void settle(struct world *w);
void world_close(struct world *w);

/* One unary call that runs the loop until it is done. */
struct answer {
  struct blx__loop *loop;
  int calls;
  bool failed, maybe_done;
  blx_error err;
  size_t len;
  uint8_t *bytes; /* free it */
};
void answer_done(void *user, const struct blx__rpc_result *result);
struct answer ask(struct world *w, const char *path, const void *body, size_t len, uint64_t deadline_ms);

extern const char tricky_message[];

#endif
