#include "shim.h"

#include "base/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char origin[] = "shim/control", ctl_name[] = "ctl.sock";

blx__rc shim_ctl_open(struct shim *s, blx_error *err) {
  /* We hold the lock, so a socket that is there belongs to a shim that died. */
  if (unlinkat(s->dir_fd, ctl_name, 0) != 0 && errno != ENOENT)
    return blx__fail_errno(err, errno, origin, "%s cannot be replaced", ctl_name);
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  (void)blx__str_format(addr.sun_path, sizeof addr.sun_path, "/proc/self/fd/%d/%s", s->dir_fd, ctl_name);
  s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (s->listen_fd < 0 || bind(s->listen_fd, (const struct sockaddr *)&addr, sizeof addr) != 0 ||
      listen(s->listen_fd, SHIM_CLIENTS_MAX) != 0)
    return blx__fail_errno(err, errno, origin, "the control socket cannot be opened");
  return BLX__OK;
}

static void client_close(struct shim_client *c) {
  (void)close(c->fd);
  *c = (struct shim_client){.fd = -1};
}

/* The file's permissions keep others out already (umask 0077); who is there says so too. */
static bool may_control(int fd) {
  struct ucred cred;
  socklen_t size = sizeof cred;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) != 0) return false;
  return cred.uid == 0 || cred.uid == geteuid();
}

/* A free place, else that of one who never said HELLO, else that of the one who came first: whoever comes last is most
 * likely the agent that lives, and one that was cut comes again. */
static struct shim_client *place_for_one_more(struct shim *s) {
  struct shim_client *oldest = &s->client[0];
  for (unsigned i = 0; i < SHIM_CLIENTS_MAX; i++) {
    struct shim_client *c = &s->client[i];
    if (c->fd < 0) return c;
    bool older = c->came < oldest->came;
    if (c->greeted == oldest->greeted ? older : !c->greeted) oldest = c;
  }
  client_close(oldest);
  return oldest;
}

void shim_ctl_accept(struct shim *s) {
  int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  if (!may_control(fd)) {
    (void)close(fd);
    return;
  }
  struct shim_client *c = place_for_one_more(s);
  c->fd = fd;
  c->came = ++s->clients_seen;
}

/* A message is far smaller than a socket's buffer: an agent that lets it fill up is gone or stuck, and can come again.
 */
static void client_send(struct shim_client *c, const struct blx__shim_msg *msg) {
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  size_t n = blx__shim_write(msg, frame);
  if (send(c->fd, frame, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n) client_close(c);
}

void shim_ctl_push(struct shim *s, const struct blx__shim_msg *msg) {
  for (unsigned i = 0; i < SHIM_CLIENTS_MAX; i++)
    if (s->client[i].fd >= 0 && s->client[i].greeted) client_send(&s->client[i], msg);
}

void shim_ctl_push_counters(struct shim *s, const char *text) {
  struct blx__shim_msg m = s->state;
  m.type = BLX__SHIM_COUNTERS;
  (void)blx__str_copy(m.text, sizeof m.text, text);
  for (unsigned i = 0; i < SHIM_CLIENTS_MAX; i++) {
    if (s->client[i].fd < 0 || !s->client[i].asks) continue;
    s->client[i].asks = false;
    client_send(&s->client[i], &m);
  }
}

static void refuse(struct shim *s, struct shim_client *c, const char *why) {
  struct blx__shim_msg m = s->state;
  m.type = BLX__SHIM_REFUSED;
  (void)blx__str_copy(m.text, sizeof m.text, why);
  client_send(c, &m);
  if (c->fd >= 0) client_close(c);
}

static void on_hello(struct shim *s, struct shim_client *c, const struct blx__shim_msg *m) {
  char why[BLX__SHIM_TEXT_MAX];
  if ((int)m->version < BLX__SHIM_VERSION - 1 || (int)m->version > BLX__SHIM_VERSION + 1) {
    (void)blx__str_format(why, sizeof why, "the shim speaks version %d and one more or less, the agent %u",
                          BLX__SHIM_VERSION, m->version);
    refuse(s, c, why);
    return;
  }
  if (m->uid != s->opt.uid) {
    (void)blx__str_format(why, sizeof why, "this is instance %llu, not %llu", (unsigned long long)s->opt.uid,
                          (unsigned long long)m->uid);
    refuse(s, c, why);
    return;
  }
  c->greeted = true;
  client_send(c, &s->state);
  if (c->fd < 0 || !s->protocol[0]) return;
  struct blx__shim_msg breach = s->state;
  breach.type = BLX__SHIM_PROTOCOL;
  (void)blx__str_copy(breach.text, sizeof breach.text, s->protocol);
  client_send(c, &breach);
}

void shim_ctl_stop(struct shim *s, uint32_t deadline_ms) {
  uint64_t now = shim_now_ms();
  /* A second stop may shorten the time, never lengthen it. */
  uint64_t deadline = now + deadline_ms;
  if (s->stop_at_ms == 0) s->stop_at_ms = now;
  if (s->stop_deadline_ms == 0 || deadline < s->stop_deadline_ms) {
    s->stop_deadline_ms = deadline;
    s->state.deadline_ms = (uint32_t)(deadline - s->stop_at_ms);
  }
  s->stop_half_ms = s->stop_at_ms + (s->stop_deadline_ms - s->stop_at_ms) / 2;
  s->state.flags |= BLX__SHIM_STOPPING;
  if (s->state.flags & BLX__SHIM_PAUSED) shim_qmp_pause(s, false); /* else the guest hears nothing */
  shim_ctl_push(s, &s->state);
}

static void on_message(struct shim *s, struct shim_client *c, const struct blx__shim_msg *m) {
  if (!c->greeted && m->type != BLX__SHIM_HELLO) {
    refuse(s, c, "the first message must be HELLO");
    return;
  }
  switch (m->type) {
  case BLX__SHIM_HELLO: on_hello(s, c, m); return;
  case BLX__SHIM_STOP:
    blx__failpoint(BLX__FAILPOINT_SHIM_STOPPING);
    shim_ctl_stop(s, m->deadline_ms);
    return;
  case BLX__SHIM_KILL:
    s->state.flags |= BLX__SHIM_STOPPING;
    shim_vmm_kill(s);
    return;
  case BLX__SHIM_PAUSE: shim_qmp_pause(s, true); return;
  case BLX__SHIM_RESUME: shim_qmp_pause(s, false); return;
  case BLX__SHIM_ASK:
    c->asks = true;
    shim_stats_ask(s);
    return;
  case BLX__SHIM_COUNTERS:
  case BLX__SHIM_STATE:
  case BLX__SHIM_REFUSED:
  case BLX__SHIM_PROTOCOL: refuse(s, c, "agents send HELLO, STOP, KILL, PAUSE, RESUME and ASK only"); return;
  }
}

/* Whether the first frame says that this connection is a session's: it is the sessions' then. A frame's beginning comes
 * whole, since its sender writes it at once. */
static bool is_session(struct shim_client *c) {
  uint8_t head[5];
  if (c->greeted || c->reader.len > 0 || recv(c->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT) != sizeof head ||
      head[4] != BLX__SESSION_OPEN)
    return false;
  shim_session_accept(c->fd, shim_now_ms());
  *c = (struct shim_client){.fd = -1};
  return true;
}

void shim_ctl_readable(struct shim *s, struct shim_client *c) {
  uint8_t bytes[BLX__SHIM_FRAME_MAX];
  if (is_session(c)) return;
  ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    client_close(c);
    return;
  }
  for (size_t at = 0, taken = 0; at < (size_t)n && c->fd >= 0; at += taken) {
    struct blx__shim_msg m;
    bool got = false;
    blx_error err;
    if (blx__shim_read(&c->reader, bytes + at, (size_t)n - at, &taken, &got, &m, &err).code != 0) {
      refuse(s, c, err.message);
      return;
    }
    if (got) on_message(s, c, &m);
  }
}
