/* What an agent and a blixard-shim say to each other about one session: a command in the guest, or the guest's serial
 * console. A connection of its own to the shim's control socket for each; the agent's first frame is OPEN, which tells
 * the shim that this is one. Bytes in, messages out; no I/O, no allocation.
 *
 * Frame: length (u32, little-endian, BLX__SESSION_FIXED_BYTES..BLX__SESSION_BODY_MAX), body: type, version, flags (u8
 * each), a, b, c (i32), uid, epoch (u64), data up to the end. The types do not meet those of proto_shim.h: a shim that
 * knows nothing of sessions answers OPEN with REFUSED of that protocol and closes, which is read as
 * BLX__SESSION_REFUSED; one that does answers with END, whatever is wrong. The agent closes the connection to end a
 * session; what it runs is killed. Each direction's flow is the socket's own. Thread: one at a time. Since 0.1. */
#ifndef BLX__VM_PROTO_SESSION_H
#define BLX__VM_PROTO_SESSION_H

#include "base/rc.h"

enum {
  BLX__SESSION_VERSION = 1,
  BLX__SESSION_FIXED_BYTES = 3 + 3 * 4 + 2 * 8,
  BLX__SESSION_DATA_MAX = 4096,
  BLX__SESSION_BODY_MAX = BLX__SESSION_FIXED_BYTES + BLX__SESSION_DATA_MAX,
  BLX__SESSION_FRAME_MAX = 4 + BLX__SESSION_BODY_MAX,
  BLX__SESSION_TEXT_MAX = 384, /* of an END */
};

enum blx__session_type {
  BLX__SESSION_REFUSED = 3, /* shim, of a version without sessions */
  BLX__SESSION_OPEN = 16,   /* agent: flags TTY, a rows, b columns, uid, epoch; data: words with their NULs, none: the
                             * console */
  BLX__SESSION_INPUT = 17,  /* agent: data */
  BLX__SESSION_EOF = 18,    /* agent: no input comes after this */
  BLX__SESSION_RESIZE = 19, /* agent: a rows, b columns */
  BLX__SESSION_OUTPUT = 20, /* shim: data */
  BLX__SESSION_ERRORS = 21, /* shim: data of standard error */
  BLX__SESSION_END = 22,    /* shim: a 0: it ended, with b exit status or -1, c signal; a an error's code: data says
                             * what; then it closes */
};

enum { BLX__SESSION_TTY = 1 };

struct blx__session_msg {
  enum blx__session_type type;
  unsigned version, flags;
  int32_t a, b, c;
  uint64_t uid, epoch;
  const uint8_t *data; /* read: inside the reader, until its next call */
  size_t data_len;     /* 0..BLX__SESSION_DATA_MAX */
};

/* Zero-initialise. */
struct blx__session_reader {
  uint8_t frame[BLX__SESSION_FRAME_MAX];
  size_t len;
  bool given;
};

/* How many bytes the reader wants next, 1..BLX__SESSION_FRAME_MAX; given just these, it never has any left. */
size_t blx__session_want(const struct blx__session_reader *r);

/* Take bytes until a message is complete or they are used up; @got tells which, @taken how many were taken (0..@n).
 * Errors: VMM_PROTOCOL (a length or type that cannot be): the connection is of no more use. */
blx__rc blx__session_read(struct blx__session_reader *r, const uint8_t *data, size_t n, size_t *taken, bool *got,
                          struct blx__session_msg *msg, blx_error *err) BLX__MUST;

/* Write @msg, with our version, as a frame; returns its length: 4 + BLX__SESSION_FIXED_BYTES and its data. */
size_t blx__session_write(const struct blx__session_msg *msg, uint8_t *out);

/* The data of an END as text, terminated, without control characters. */
void blx__session_text(const struct blx__session_msg *msg, char out[BLX__SESSION_TEXT_MAX + 1]);

#endif
