/* The guest's port: what is said to blixard-guest waits in one bounded queue. Sessions put data there only while it has
 * room for more than that, so that the rest always gets through. */
#include "shim.h"

#include "base/failpoint.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint8_t out[SHIM_GUEST_OUT_MAX];
static size_t out_len;

static void port_close(struct shim *s, const char *why) {
  if (s->guest_fd >= 0) (void)close(s->guest_fd);
  s->guest_fd = -1;
  s->guest_version = 0;
  out_len = 0;
  shim_session_guest_gone(s, why);
}

void shim_guest_opened(struct shim *s) {
  s->guest = (struct blx__guest_reader){.len = 0};
  s->next_hello_ms = 0;
  out_len = 0;
}

bool shim_guest_room(void) {
  return out_len + BLX__GUEST_FRAME_MAX + SHIM_GUEST_RESERVE <= sizeof out;
}

bool shim_guest_waits(void) {
  return out_len > 0;
}

bool shim_guest_queue(struct shim *s, const struct blx__guest_msg *msg) {
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  size_t n = blx__guest_write(msg, frame);
  if (s->guest_fd < 0 || n > sizeof out - out_len) return false;
  memcpy(out + out_len, frame, n);
  out_len += n;
  return true;
}

void shim_guest_flush(struct shim *s) {
  if (s->guest_fd < 0 || out_len == 0) return;
  ssize_t n = send(s->guest_fd, out, out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) {
    port_close(s, "the monitor closed the guest's port");
    return;
  }
  out_len -= (size_t)n;
  memmove(out, out + n, out_len);
}

bool shim_guest_send(struct shim *s, enum blx__guest_type type, const char *text) {
  struct blx__guest_msg msg = {.type = type, .value = BLX__GUEST_VERSION};
  (void)blx__str_copy(msg.text, sizeof msg.text, text);
  return shim_guest_queue(s, &msg);
}

void shim_guest_clock(struct shim *s) {
  uint8_t bytes[8];
  struct timespec t;
  if (s->guest_version < 2) return;
  (void)clock_gettime(CLOCK_REALTIME, &t);
  blx__guest_clock_write((uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec, bytes);
  (void)shim_guest_queue(s, &(struct blx__guest_msg){
                                .type = BLX__GUEST_CLOCK, .data = bytes, .data_len = sizeof bytes}); /* or next time */
}

/* An agent that has another name than before is another: it knows of no session. */
static void on_hello(struct shim *s, const struct blx__guest_msg *msg) {
  s->guest_known = true;
  if (s->guest_version != 0 && !blx__str_eq(s->guest_hello, msg->text))
    shim_session_guest_gone(s, "the guest's agent ended and was started again");
  if (s->guest_version == 0) s->next_clock_ms = 0;
  (void)blx__str_copy(s->guest_hello, sizeof s->guest_hello, msg->text);
  s->guest_version = msg->value < 1 ? 1 : msg->value > 255 ? 255 : (unsigned)msg->value;
}

static void on_message(struct shim *s, const struct blx__guest_msg *msg) {
  switch (msg->type) {
  case BLX__GUEST_HELLO: on_hello(s, msg); return;
  case BLX__GUEST_READY:
    if (s->state.state != BLX__SHIM_RUNNING) return;
    blx__failpoint(BLX__FAILPOINT_SHIM_READY);
    shim_set_state(s, BLX__SHIM_READY, "the guest said ready");
    return;
  case BLX__GUEST_EXEC_OUT:
  case BLX__GUEST_EXEC_ERR:
  case BLX__GUEST_EXEC_EXIT:
  case BLX__GUEST_EXEC_CREDIT: shim_session_guest_message(s, msg); return;
  case BLX__GUEST_STATS_REPLY: shim_stats_guest(s, msg); return;
  case BLX__GUEST_PING:
  case BLX__GUEST_PONG:
  case BLX__GUEST_SHUTDOWN:
  case BLX__GUEST_STOPPING:
  case BLX__GUEST_EXEC:
  case BLX__GUEST_EXEC_STDIN:
  case BLX__GUEST_EXEC_EOF:
  case BLX__GUEST_EXEC_RESIZE:
  case BLX__GUEST_EXEC_KILL:
  case BLX__GUEST_CLOCK:
  case BLX__GUEST_STATS: return;
  }
}

void shim_guest_readable(struct shim *s) {
  uint8_t bytes[8192];
  ssize_t n = recv(s->guest_fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    port_close(s, "the monitor closed the guest's port");
    return;
  }
  struct blx__guest_msg msg;
  for (size_t at = 0, taken = 0; blx__guest_read(&s->guest, bytes + at, (size_t)n - at, &taken, &msg);) {
    at += taken;
    on_message(s, &msg);
  }
}
