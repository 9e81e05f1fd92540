/* What an agent and a blixard-shim say to each other over the control socket of an instance, and the record that a shim
 * leaves when its monitor has ended. Bytes in, messages out; no I/O.
 *
 * Frame: length (u32, little-endian, 2..BLX__SHIM_BODY_MAX), body. The body begins with type and version (u8 each) in
 * every version. Version 1 continues with uid, epoch, at_ms (u64), deadline_ms (u32), vmm_pid, exit_status, signal
 * (i32), state, flags (u8), then text up to the end. The agent begins with HELLO, the shim answers STATE, or REFUSED
 * and closes; each change of state is pushed as STATE to every agent that said HELLO. A shim serves agents of its own
 * version and of the one before and after, since daemons are replaced while their guests run. Thread: one at a time.
 * Since 0.1.
 */
#ifndef BLX__VM_PROTO_SHIM_H
#define BLX__VM_PROTO_SHIM_H

#include "base/buf.h"

/* Tests build programs of the version before and after: none of these is ever defined otherwise. */
#ifndef BLX__PROTOCOL_STEP
#define BLX__PROTOCOL_STEP 0
#endif

enum {
  BLX__SHIM_VERSION = 1 + BLX__PROTOCOL_STEP,
  BLX__SHIM_TEXT_MAX = 384,
  BLX__SHIM_FIXED_BYTES = 2 + 3 * 8 + 4 * 4 + 2,
  BLX__SHIM_BODY_MAX = BLX__SHIM_FIXED_BYTES + BLX__SHIM_TEXT_MAX,
  BLX__SHIM_FRAME_MAX = 4 + BLX__SHIM_BODY_MAX,
  BLX__SHIM_RECORD_MAX = 2048, /* bytes of an exit record */
};

enum blx__shim_type {
  BLX__SHIM_HELLO = 1,     /* agent: uid and epoch of the instance it means */
  BLX__SHIM_STATE = 2,     /* shim: everything below */
  BLX__SHIM_REFUSED = 3,   /* shim: text says why */
  BLX__SHIM_STOP = 4,      /* agent: power off in order, kill at deadline_ms from now */
  BLX__SHIM_KILL = 5,      /* agent: kill now */
  BLX__SHIM_PROTOCOL = 6,  /* shim: the monitor answered what it should not; text says what */
  BLX__SHIM_PAUSE = 7,     /* agent: let the virtual CPUs stand still; STATE says when they do */
  BLX__SHIM_RESUME = 8,    /* agent: let them go on */
  BLX__SHIM_ASK = 9,       /* agent: ask monitor and guest for their counters; only a shim that said COUNTS knows it */
  BLX__SHIM_COUNTERS = 10, /* shim: the answer; text as measure/usage.h has it */
};

enum blx__shim_state {
  BLX__SHIM_RUNNING = 1, /* the monitor runs */
  BLX__SHIM_READY = 2,   /* and the guest said ready */
  BLX__SHIM_EXITED = 3,  /* exit_status, signal and text say how */
};

enum {
  BLX__SHIM_STOPPING = 1,  /* flag: a stop or kill was asked for */
  BLX__SHIM_NO_LIMITS = 2, /* flag: no cgroup holds it; text of RUNNING says why */
  BLX__SHIM_DEADLINED = 4, /* flag: the stop's deadline passed and it was killed */
  BLX__SHIM_PAUSED = 16,   /* flag: the virtual CPUs stand still */
  BLX__SHIM_COUNTS = 64,   /* flag: this shim answers ASK */
  BLX__SHIM_RESET = 8,     /* flag: status 0, but the guest rebooted or panicked: it did not power off */
};

struct blx__shim_msg {
  enum blx__shim_type type;
  unsigned version;
  uint64_t uid, epoch;
  uint64_t at_ms; /* of the last change, ms since 1970 */
  uint32_t deadline_ms;
  int32_t vmm_pid;
  int32_t exit_status; /* 0..255, or -1 */
  int32_t signal;      /* 0: none */
  enum blx__shim_state state;
  unsigned flags;
  char text[BLX__SHIM_TEXT_MAX + 1];
};

/* Zero-initialise. */
struct blx__shim_reader {
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  size_t len;
};

/* Take bytes until a message is complete or they are used up; @got tells which, @taken how many were taken (0..@n).
 * A body of another version gives only type, version and what version 1 has at its place.
 * Errors: VMM_PROTOCOL (a length, type or state that cannot be): the connection is of no more use. */
blx__rc blx__shim_read(struct blx__shim_reader *r, const uint8_t *data, size_t n, size_t *taken, bool *got,
                       struct blx__shim_msg *msg, blx_error *err) BLX__MUST;

/* Write @msg, with our version, as a frame. Returns its length. */
size_t blx__shim_write(const struct blx__shim_msg *msg, uint8_t out[BLX__SHIM_FRAME_MAX]);

/* The exit record as text: uid, epoch, at_ms, exit_status, signal, flags and text of @msg. False: no room. */
bool blx__shim_record_write(const struct blx__shim_msg *msg, struct blx__buf *out) BLX__MUST;

/* The opposite; @msg becomes a STATE of EXITED. Errors: CORRUPT. */
blx__rc blx__shim_record_read(struct blx__slice text, struct blx__shim_msg *msg, blx_error *err) BLX__MUST;

/* ---- sessions
 *
 * What the two say to each other about one session: a command in the guest, or the guest's serial
 * console. A connection of its own to the shim's control socket for each; the agent's first frame is OPEN, which tells
 * the shim that this is one.
 *
 * Frame: length (u32, little-endian, BLX__SESSION_FIXED_BYTES..BLX__SESSION_BODY_MAX), body: type, version, flags (u8
 * each), a, b, c (i32), uid, epoch (u64), data up to the end. The types do not meet those above: a shim that
 * knows nothing of sessions answers OPEN with REFUSED as above and closes, which is read as
 * BLX__SESSION_REFUSED; one that does answers with END, whatever is wrong. The agent closes the connection to end a
 * session; what it runs is killed. Each direction's flow is the socket's own. */
enum {
  BLX__SESSION_VERSION = 1 + BLX__PROTOCOL_STEP,
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
