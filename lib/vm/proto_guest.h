/* The protocol between a shim and blixard-guest over the virtio-serial port `org.blixard.guest.0`. Bytes in, messages
 * out; no I/O, no allocation, libc's string functions only, since the guest's side is a small static program.
 *
 * Frame: 0xb1 0x17, type (u8), check (u8), length (u16, little-endian), payload. A reader that meets anything else
 * skips to the next 0xb1 0x17: either side may have been replaced in the middle of a frame (a guest that rebooted, a
 * shim that came later). types of version 1: at most BLX__GUEST_PAYLOAD_MAX bytes of payload: value (u64), text. The
 * check is the low byte of the sum of type, both length bytes and the payload, xor 0x5a. types of version 2, from 32
 * on: at most BLX__GUEST_PAYLOAD_2_MAX: session (u32), arg (u32), data, CRC-32 of type, length and all before it. The
 * check covers type and length alone, so that a wrong length is seen at once.
 *
 * The host speaks first and repeats HELLO until it hears READY; the guest answers each HELLO with HELLO and, once its
 * system is up, READY; it says HELLO by itself too when it opens its port. So nothing depends on who opened the port
 * first. HELLO's value is the version; a side that heard 1, or nothing, sends nothing of version 2. The text of a
 * guest's HELLO differs from one life of the agent to the next: what the host held of the one before is gone.
 *
 * Sessions (version 2): a command in the guest with its own streams, by a number that the host chooses. Data of a
 * session costs its bytes and BLX__GUEST_FRAME_COST for each frame; either side begins with BLX__GUEST_WINDOW of
 * credit, never sends data beyond it, and gets it back by EXEC_CREDIT as the other side gets rid of what it holds. So
 * whoever does not read stops its own session only. Each EXEC ends with one EXEC_EXIT, also after EXEC_KILL; then the
 * number is free. Thread: one at a time. Since 0.1. */
#ifndef BLX__VM_PROTO_GUEST_H
#define BLX__VM_PROTO_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLX__GUEST_PORT_NAME "org.blixard.guest.0"

#ifndef BLX__PROTOCOL_STEP /* as in proto_shim.h */
#define BLX__PROTOCOL_STEP 0
#endif

enum {
  BLX__GUEST_VERSION = 2 + BLX__PROTOCOL_STEP,
  BLX__GUEST_PAYLOAD_MAX = 256,
  BLX__GUEST_PAYLOAD_2_MAX = 4096,
  BLX__GUEST_HEADER_BYTES = 6,
  BLX__GUEST_FRAME_MAX = BLX__GUEST_HEADER_BYTES + BLX__GUEST_PAYLOAD_2_MAX,
  BLX__GUEST_DATA_MAX = BLX__GUEST_PAYLOAD_2_MAX - 12, /* of one frame */
  BLX__GUEST_SESSIONS_MAX = 8,                         /* of one guest at the same time */
  BLX__GUEST_WINDOW = 32 << 10,                        /* each way, of a session */
  BLX__GUEST_FRAME_COST = 64,
  BLX__GUEST_STATS_BYTES = 32,
};

enum blx__guest_type {
  BLX__GUEST_HELLO = 1,    /* both ways: value = version; text = the instance's name (host), the agent's name (guest) */
  BLX__GUEST_READY = 2,    /* guest: its system is up */
  BLX__GUEST_PING = 3,     /* host: value = anything */
  BLX__GUEST_PONG = 4,     /* guest: value = the ping's */
  BLX__GUEST_SHUTDOWN = 5, /* host: power off in order */
  BLX__GUEST_STOPPING = 6, /* guest: it began to */

  BLX__GUEST_EXEC = 32,        /* host: arg = size; data = a byte, 1: with a terminal, and words, each with its NUL */
  BLX__GUEST_EXEC_STDIN = 33,  /* host: data */
  BLX__GUEST_EXEC_EOF = 34,    /* host: its standard input ends after what was sent */
  BLX__GUEST_EXEC_RESIZE = 35, /* host: arg = size */
  BLX__GUEST_EXEC_KILL = 36,   /* host: kill it, and what it holds may be dropped */
  BLX__GUEST_EXEC_CREDIT = 37, /* both ways: arg = what may be sent again */
  BLX__GUEST_EXEC_OUT = 38,    /* guest: data */
  BLX__GUEST_EXEC_ERR = 39,    /* guest: data of its standard error */
  BLX__GUEST_EXEC_EXIT = 40,   /* guest: arg = how it ended, see below */
  BLX__GUEST_CLOCK = 41,       /* host: data = ns since 1970 (u64); arg 1: set it, 0: if it is off by a second */
  BLX__GUEST_STATS = 42,       /* host: tell; session = anything, comes back */
  BLX__GUEST_STATS_REPLY = 43, /* guest: data = blx__guest_stats */
};

/* EXEC_EXIT: one of these, or a number: a status 0..255, a signal 1..64, an errno. */
enum { BLX__GUEST_EXITED = 0 << 16, BLX__GUEST_SIGNALED = 1 << 16, BLX__GUEST_NOT_STARTED = 2 << 16 };

struct blx__guest_msg {
  enum blx__guest_type type;
  uint64_t value;                            /* version 1 */
  char text[BLX__GUEST_PAYLOAD_MAX - 8 + 1]; /* version 1: terminated; at most 248 bytes */
  uint32_t session, arg;                     /* version 2, as is what follows */
  const uint8_t *data;                       /* read: inside the reader, until its next call */
  size_t data_len;                           /* 0..BLX__GUEST_DATA_MAX */
};

/* Zero-initialise. */
struct blx__guest_reader {
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  size_t len;
  bool given;             /* the frame is a message that was given: it goes first */
  uint64_t skipped_bytes; /* what was not a frame, since the beginning */
};

/* How a guest is. */
struct blx__guest_stats {
  uint64_t uptime_ms, memory_kib, available_kib;
  uint32_t load_milli; /* of the last minute, in thousandths */
  uint32_t processes;
};

/* Take bytes of @data, at most @n, until a message is complete or they are used up.
 * @taken  out: how many were taken (0..@n)
 * True: @msg holds a message, and more may be waiting, also inside: call again with the rest, until false. A frame of a
 * type that this version does not know is dropped in silence, so that a newer peer can say more. */
bool blx__guest_read(struct blx__guest_reader *r, const uint8_t *data, size_t n, size_t *taken,
                     struct blx__guest_msg *msg);

/* Write @msg as a frame. @text longer than 248 bytes is cut, and so are @data longer than BLX__GUEST_DATA_MAX. Returns
 * the frame's length. */
size_t blx__guest_write(const struct blx__guest_msg *msg, uint8_t out[BLX__GUEST_FRAME_MAX]);

/* The size of a terminal as an arg. */
uint32_t blx__guest_size(uint16_t rows, uint16_t columns);

/* The data of STATS_REPLY and CLOCK; reading: false, they are too short. */
void blx__guest_stats_write(const struct blx__guest_stats *stats, uint8_t out[BLX__GUEST_STATS_BYTES]);
bool blx__guest_stats_read(const struct blx__guest_msg *msg, struct blx__guest_stats *stats);
void blx__guest_clock_write(uint64_t ns, uint8_t out[8]);
bool blx__guest_clock_read(const struct blx__guest_msg *msg, uint64_t *ns);

#endif
