/* A caller of the bidirectional methods of the tests' services. */
#ifndef BLX_TESTS_RPC_CALLER_H
#define BLX_TESTS_RPC_CALLER_H

#include "support_service.h"

/* A caller that sends @until messages of @size bytes, as fast as it may, and half-closes. */
struct caller {
  struct blx__loop *loop;
  struct blx__rpc_pending *pending;
  uint64_t sent, until;
  size_t size;
  uint8_t *bytes;
  int refused; /* sends that found the queue full */
  uint64_t messages, received_bytes, pause_at, cancel_at;
  bool paused, out_of_order, keep_open;
  char last[64]; /* the last message, cut */
  int done;
  bool failed, maybe_done;
  blx_error err;
};

extern const struct blx__rpc_bidi_ops caller_ops;

/* Call @path on w->conn and begin to send. */
void caller_begin(struct world *w, struct caller *c, const char *path, uint64_t deadline_ms);

/* Run the loop until the call is over. */
void caller_run(struct caller *c);

#endif
