/* Stream sockets in the file system (AF_UNIX). A write never raises SIGPIPE and never changes a signal's disposition.
 * Paths longer than the kernel's 107 bytes work as long as their last component has at most 80. */
#ifndef BLX__IO_STREAM_H
#define BLX__IO_STREAM_H

#include "base/buf.h"
#include "io/loop.h"

enum {
  BLX__STREAM_QUEUE_MAX_BYTES = 8 << 20, /* default maximum of what waits to be sent */
  BLX__STREAM_FINISH_MS = 1000,          /* how long blx__stream_finish lets the other side read on */
  BLX__STREAM_PATH_MAX = 1023,           /* bytes of a path */
  BLX__STREAM_PARTS_MAX = 4,             /* of one write */
};

struct blx__stream;
struct blx__listener;

/* Who is at the other end, as the kernel recorded it when the connection was made. */
struct blx__cred {
  uint32_t uid, gid;
  int32_t pid;
};

/* What a stream tells its user; any of them may close the stream. */
struct blx__stream_ops {
  void (*on_open)(void *user);                                     /* a connect is done; NULL allowed */
  void (*on_bytes)(void *user, const uint8_t *bytes, size_t size); /* valid during the call */
  void (*on_writable)(void *user); /* the queue fell below half its maximum; NULL allowed */
  void (*on_closed)(void *user,
                    const blx_error *why); /* the last call, once; NULL: closed by us, or the other side ended */
};

/* Listen at @path, whose socket gets the permissions @mode (0660). A socket file that nobody answers on is replaced.
 * @on_accept gets each connection: it attaches or closes it before it returns.
 * Errors: BUSY (another process answers there), INVALID (path empty or too long), EXISTS (a file that is no socket),
 *         DENIED, NOT_FOUND (no such directory), IO, NOMEM. */
blx__rc blx__listener_open(struct blx__loop *loop, const char *path, unsigned mode,
                           void (*on_accept)(void *user, struct blx__stream *s), void *user, struct blx__listener **out,
                           blx_error *err) BLX__MUST;

/* Accept nothing more and remove the socket file if it is still ours. NULL is allowed. */
void blx__listener_close(struct blx__listener *l);

/* Give an accepted stream its user; it begins to read. @ops is borrowed until on_closed. */
void blx__stream_attach(struct blx__stream *s, const struct blx__stream_ops *ops, void *user);

/* Connect to @path; on_open follows on a later turn, bytes may be written at once.
 * Errors: UNAVAILABLE (no socket there, nobody answers, or the other side's queue is full), DENIED, INVALID, IO, NOMEM.
 */
blx__rc blx__stream_connect(struct blx__loop *loop, const char *path, const struct blx__stream_ops *ops, void *user,
                            struct blx__stream **out, blx_error *err) BLX__MUST;

/* Copy @size bytes to the queue and send what the kernel takes. False: the queue would pass its maximum and nothing was
 * taken (on_writable follows once there is room). On a stream that broke or is closing: true, the bytes are dropped. */
bool blx__stream_write(struct blx__stream *s, const void *bytes, size_t size);

/* The same for @n parts, at most BLX__STREAM_PARTS_MAX, as one write: all of them are taken or none is. */
bool blx__stream_write_parts(struct blx__stream *s, const struct blx__slice *parts, size_t n);
size_t blx__stream_queued(const struct blx__stream *s);

/* @max_bytes >= 1; what is already queued stays. */
void blx__stream_queue_max(struct blx__stream *s, size_t max_bytes);

/* Stop or go on reading; while stopped, the other side's bytes wait in the kernel. */
void blx__stream_pause(struct blx__stream *s, bool paused);

/* Errors: IO. */
blx__rc blx__stream_cred(struct blx__stream *s, struct blx__cred *out, blx_error *err) BLX__MUST;

/* Drop what is queued and close; on_closed follows on a later turn. Twice is harmless. */
void blx__stream_close(struct blx__stream *s);

/* Close once the queue is sent, after BLX__STREAM_FINISH_MS at the latest; on_bytes is not called any more. */
void blx__stream_finish(struct blx__stream *s);

#endif
