/* The protocol between a shim and blixard-guest over the virtio-serial port `org.blixard.guest.0`. Bytes in, messages
 * out; no I/O, no allocation, libc's string functions only, since the guest's side is a small static program.
 *
 * Frame: 0xb1 0x17, type (u8), check (u8), length (u16, little-endian, at most BLX__GUEST_PAYLOAD_MAX), payload. The
 * check is the low byte of the sum of type, both length bytes and the payload, xor 0x5a. A reader that meets anything
 * else skips to the next 0xb1 0x17: either side may have been replaced in the middle of a frame (a guest that rebooted,
 * a shim that came later).
 *
 * The host speaks first and repeats HELLO until it hears READY; the guest answers each HELLO with HELLO and, once its
 * system is up, READY. So nothing depends on who opened the port first.
 * Thread: one at a time. Since 0.1. */
#ifndef BLX__VM_PROTO_GUEST_H
#define BLX__VM_PROTO_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLX__GUEST_PORT_NAME "org.blixard.guest.0"

enum {
  BLX__GUEST_VERSION = 1,
  BLX__GUEST_PAYLOAD_MAX = 256,
  BLX__GUEST_HEADER_BYTES = 6,
  BLX__GUEST_FRAME_MAX = BLX__GUEST_HEADER_BYTES + BLX__GUEST_PAYLOAD_MAX,
};

enum blx__guest_type {
  BLX__GUEST_HELLO = 1,    /* both ways: value = version; text = the instance's name (host), the agent's name (guest) */
  BLX__GUEST_READY = 2,    /* guest: its system is up */
  BLX__GUEST_PING = 3,     /* host: value = anything */
  BLX__GUEST_PONG = 4,     /* guest: value = the ping's */
  BLX__GUEST_SHUTDOWN = 5, /* host: power off in order */
  BLX__GUEST_STOPPING = 6, /* guest: it began to */
};

struct blx__guest_msg {
  enum blx__guest_type type;
  uint64_t value;
  char text[BLX__GUEST_PAYLOAD_MAX - 8 + 1]; /* terminated; at most 248 bytes */
};

/* Zero-initialise. */
struct blx__guest_reader {
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  size_t len;
  uint64_t skipped_bytes; /* what was not a frame, since the beginning */
};

/* Take bytes of @data, at most @n, until a message is complete or they are used up.
 * @taken  out: how many were taken (0..@n)
 * True: @msg holds a message, and more may be waiting: call again with the rest. A frame of a type that this version
 * does not know is dropped in silence, so that a newer peer can say more. */
bool blx__guest_read(struct blx__guest_reader *r, const uint8_t *data, size_t n, size_t *taken,
                     struct blx__guest_msg *msg);

/* Write @msg as a frame. @text longer than 248 bytes is cut. Returns the frame's length. */
size_t blx__guest_write(const struct blx__guest_msg *msg, uint8_t out[BLX__GUEST_FRAME_MAX]);

#endif
