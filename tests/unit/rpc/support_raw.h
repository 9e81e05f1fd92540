/* A connection that speaks what it likes, for the tests of lib/rpc. */
#ifndef BLX_TESTS_RPC_RAW_H
#define BLX_TESTS_RPC_RAW_H

#include "io/stream.h"
#include "support_service.h"

enum { RAW_FRAME_MAX = 16384 };

struct raw {
  struct world *w;
  struct blx__stream *stream;
  size_t got;          /* bytes */
  unsigned frames[10]; /* that came, by type; only whole ones in one piece */
  bool closed;
  int *open; /* when it falls to 0, the loop stops */
};

/* Connect to the world's server. */
void raw_open(struct world *w, struct raw *r, int *open);

/* What a client says first, with empty SETTINGS. */
void raw_hello(struct raw *r);

/* One frame of HTTP/2 with @len bytes of @payload, NULL: of zeroes. */
void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream_id, const void *payload, size_t len);

/* HEADERS that begin a call of @path. */
void raw_call(struct raw *r, uint32_t stream_id, const char *path);

struct blx__rpc_server_stats stats_of(struct world *w);

/* The world's own caller is served. */
void still_answers(struct world *w);

#endif
