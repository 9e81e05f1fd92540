/* Addresses of sockets in the file system, of any length; for lib/io only. */
#ifndef BLX__IO_ADDRESS_INT_H
#define BLX__IO_ADDRESS_INT_H

#include "io/stream.h"

#include <sys/socket.h>
#include <sys/un.h>

struct address {
  struct sockaddr_un sa;
  socklen_t sa_len;
  int dir_fd; /* must stay open while sa is used; -1: not needed */
};

/* Errors: INVALID, NOT_FOUND, DENIED. On success address_close is due. */
blx__rc address_open(const char *path, struct address *a, blx_error *err) BLX__MUST;
void address_close(struct address *a);

/* Wrap a connected, non-blocking socket; takes @fd, also on failure (NULL: no memory, or uv refused it). */
struct blx__stream *stream_wrap(struct blx__loop *loop, int fd);

#endif
