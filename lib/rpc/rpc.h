/* gRPC over HTTP/2 on local sockets: what server and caller share. Messages are opaque bytes here; the schema gives
 * them their meaning. Source: gRPC over HTTP2 (grpc/doc/PROTOCOL-HTTP2.md), RFC 9113. */
#ifndef BLX__RPC_RPC_H
#define BLX__RPC_RPC_H

#include "base/buf.h"

enum {
  BLX__RPC_MESSAGE_MAX_BYTES = 4 << 20,    /* of one message, either way */
  BLX__RPC_STREAMS_MAX = 1024,             /* open calls on one connection */
  BLX__RPC_CONNECTIONS_MAX = 2048,         /* of one server */
  BLX__RPC_HEADERS_MAX_BYTES = 16384,      /* of the metadata of one call */
  BLX__RPC_META_MAX = 16,                  /* metadata entries a caller may add */
  BLX__RPC_SEND_QUEUE_MAX_BYTES = 1 << 20, /* of one streaming answer; a single larger message goes when it is empty */
  BLX__RPC_PREFACE_MS = 5000,              /* a connection that has not begun to speak HTTP/2 by then is cut */
  BLX__RPC_LOOK_MS = 2500,                 /* so often each end looks whether its connections live */
  BLX__RPC_PING_LOOKS = 4,     /* looks in a row, with calls open, without a byte: the other side is asked */
  BLX__RPC_CUT_LOOKS = 12,     /* and without any answer to that the connection is cut, 30 s in all */
  BLX__RPC_IDLE_LOOKS = 24,    /* a connection that had no call for so long, 60 s, is closed */
  BLX__RPC_IDLE_MAX = 128,     /* connections without a call; one more, and the longest idle is closed */
  BLX__RPC_REQUEST_MS = 30000, /* a request that has not arrived whole by then is refused */
};

/* One entry of metadata: a lower-case name and printable text, both borrowed. */
struct blx__rpc_meta {
  const char *name, *value;
};

/* Text of any characters as the value of metadata and back: percent-encoded, as gRPC's messages are. @out of three
 * bytes for each of the text's and one more takes all of it; it is terminated. What is decoded is UTF-8, cut to
 * @out_size. */
void blx__rpc_text_encode(const char *text, char *out, size_t out_size);
void blx__rpc_text_decode(const char *value, char *out, size_t out_size);

#endif
