/* Sessions: each is a connection to the control socket on one side, a command in the guest or the monitor's console on
 * the other. What each side may be ahead of the other is bounded; a side that does not read stops its own session only.
 */
#include "shim.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum kind { NONE, NEW, EXEC, CONSOLE };

struct session {
  enum kind kind;
  int fd;      /* the agent; -1: it left, and the guest has not said yet that the command ended */
  uint32_t id; /* in the guest */
  bool opened; /* EXEC: the guest was told */
  bool exited; /* and has said that it ended, or is gone */
  bool eof, kill, resize;
  bool ended; /* the agent gets the last word, then this is over */
  unsigned flags;
  uint32_t size;
  uint64_t deadline_ms; /* for OPEN, then for the guest's HELLO */
  uint8_t words[BLX__SESSION_DATA_MAX];
  size_t words_len;
  uint8_t in[SHIM_SESSION_IN_MAX]; /* to the command or console */
  size_t in_len;
  uint32_t credit;                   /* what the guest takes */
  uint8_t out[SHIM_SESSION_OUT_MAX]; /* frames, to the agent */
  size_t out_len;
  uint32_t out_cost; /* what the guest paid for these */
  size_t dropped;    /* bytes of a console that its reader was too slow for */
  struct blx__session_reader reader;
};

/* Untouched pages take no memory: a shim without sessions stays as small as it was. */
static struct session sessions[SHIM_SESSIONS_MAX];
static uint32_t ids;

static void session_free(struct session *t) {
  if (t->fd >= 0) (void)close(t->fd);
  t->kind = NONE;
  t->fd = -1;
}

/* The agent is gone. A command that runs is killed; its place is free when the guest said that it ended. */
static void left(struct session *t) {
  if (t->kind != EXEC || !t->opened || t->exited) {
    session_free(t);
    return;
  }
  (void)close(t->fd);
  t->fd = -1;
  t->kill = true;
  t->in_len = t->out_len = 0;
  t->eof = t->resize = t->ended = false;
}

static void flush(struct session *t) {
  while (t->fd >= 0 && t->out_len > 0) {
    ssize_t n = send(t->fd, t->out, t->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
      left(t);
      return;
    }
    t->out_len -= (size_t)n;
    memmove(t->out, t->out + n, t->out_len);
  }
  if (t->ended && t->out_len == 0 && t->kind != NONE) left(t);
}

static bool add(struct session *t, const struct blx__session_msg *m) {
  if (4 + BLX__SESSION_FIXED_BYTES + m->data_len > sizeof t->out - t->out_len) return false;
  t->out_len += blx__session_write(m, t->out + t->out_len);
  return true;
}

/* The last word. SHIM_SESSION_OUT_MAX leaves room for it. */
static void end(struct session *t, int code, const char *text, int32_t exit_status, int32_t signal) {
  struct blx__session_msg m = {.type = BLX__SESSION_END,
                               .a = code,
                               .b = exit_status,
                               .c = signal,
                               .data = (const uint8_t *)text,
                               .data_len = strnlen(text, BLX__SESSION_TEXT_MAX)};
  if (t->fd < 0) {
    session_free(t);
    return;
  }
  bool fits = add(t, &m);
  BLX__ASSERT(fits);
  t->ended = true;
  t->in_len = 0;
  flush(t);
}

/* ---- beginning */

void shim_session_accept(int fd, uint64_t now) {
  struct session *t = NULL;
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX && !t; i++)
    if (sessions[i].kind == NONE) t = &sessions[i];
  if (!t) {
    static const char text[] = "too many sessions of this VM are open: try again when one has ended";
    uint8_t frame[4 + BLX__SESSION_FIXED_BYTES + sizeof text];
    struct blx__session_msg m = {
        .type = BLX__SESSION_END, .a = BLX_E_BUSY, .b = -1, .data = (const uint8_t *)text, .data_len = sizeof text - 1};
    (void)send(fd, frame, blx__session_write(&m, frame), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)close(fd);
    return;
  }
  t->kind = NEW;
  t->fd = fd;
  t->id = ++ids;
  t->opened = t->eof = t->kill = t->resize = t->ended = t->exited = false;
  t->in_len = t->out_len = t->words_len = t->dropped = 0;
  t->out_cost = 0;
  t->credit = BLX__GUEST_WINDOW;
  t->deadline_ms = now + SHIM_GUEST_WAIT_MS;
  t->reader.len = 0;
  t->reader.given = false;
}

/* Whose agent is there. */
static unsigned count(enum kind kind) {
  unsigned n = 0;
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++) n += sessions[i].kind == kind && sessions[i].fd >= 0;
  return n;
}

static bool guest_full(void) {
  unsigned n = 0;
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++)
    n += sessions[i].kind == EXEC && sessions[i].opened && !sessions[i].exited;
  return n >= BLX__GUEST_SESSIONS_MAX;
}

static uint32_t size_of(const struct blx__session_msg *m) {
  return blx__guest_size((uint16_t)m->a, (uint16_t)m->b);
}

static void on_open(struct shim *s, struct session *t, const struct blx__session_msg *m) {
  char why[BLX__SESSION_TEXT_MAX];
  if (m->version != BLX__SESSION_VERSION) {
    (void)blx__str_format(why, sizeof why, "the shim speaks version %d of sessions, the agent %u: restart the VM",
                          BLX__SESSION_VERSION, m->version);
    end(t, BLX_E_UNSUPPORTED, why, -1, 0);
  } else if (m->uid != s->opt.uid) {
    (void)blx__str_format(why, sizeof why, "this is instance %llu, not %llu", (unsigned long long)s->opt.uid,
                          (unsigned long long)m->uid);
    end(t, BLX_E_CONFLICT, why, -1, 0);
  } else if (m->data_len == 0 && count(CONSOLE) >= SHIM_CONSOLES_MAX) {
    (void)blx__str_format(why, sizeof why, "%d others are at this console already: try again when one has left",
                          SHIM_CONSOLES_MAX);
    end(t, BLX_E_BUSY, why, -1, 0);
  } else if (m->data_len == 0) {
    t->kind = CONSOLE;
  } else if (count(EXEC) >= BLX__GUEST_SESSIONS_MAX) {
    (void)blx__str_format(why, sizeof why, "%d commands run in this guest already: try again when one has ended",
                          BLX__GUEST_SESSIONS_MAX);
    end(t, BLX_E_BUSY, why, -1, 0);
  } else if (m->data_len > sizeof t->words - 64 || m->data[m->data_len - 1] != '\0') {
    end(t, BLX_E_INVALID, "the command is too long, or its last word has no end", -1, 0);
  } else {
    t->kind = EXEC;
    t->words[0] = m->flags & BLX__SESSION_TTY ? 1 : 0;
    memcpy(t->words + 1, m->data, m->data_len);
    t->words_len = m->data_len + 1;
    t->size = size_of(m);
  }
}

/* ---- from the agent */

static void on_message(struct shim *s, struct session *t, const struct blx__session_msg *m) {
  if ((t->kind == NEW) != (m->type == BLX__SESSION_OPEN)) {
    end(t, BLX_E_VMM_PROTOCOL, "the first message of a session, and only that, must be OPEN", -1, 0);
    return;
  }
  switch (m->type) {
  case BLX__SESSION_OPEN: on_open(s, t, m); return;
  case BLX__SESSION_INPUT:
    BLX__ASSERT(m->data_len <= sizeof t->in - t->in_len);
    if (!t->eof) {
      memcpy(t->in + t->in_len, m->data, m->data_len);
      t->in_len += m->data_len;
    }
    return;
  case BLX__SESSION_EOF: t->eof = t->kind == EXEC; return; /* a console has no end */
  case BLX__SESSION_RESIZE:
    t->size = size_of(m);
    t->resize = t->kind == EXEC;
    return;
  case BLX__SESSION_REFUSED:
  case BLX__SESSION_OUTPUT:
  case BLX__SESSION_ERRORS:
  case BLX__SESSION_END: end(t, BLX_E_VMM_PROTOCOL, "only the shim sends this", -1, 0); return;
  }
}

static bool wants(const struct session *t) {
  return !t->ended && sizeof t->in - t->in_len >= BLX__SESSION_DATA_MAX;
}

/* Never more than one frame ahead, so that what comes has its place. */
static void readable(struct shim *s, struct session *t) {
  uint8_t bytes[BLX__SESSION_FRAME_MAX];
  while (t->kind != NONE && t->fd >= 0 && wants(t)) {
    struct blx__session_msg m;
    size_t taken;
    bool got = false;
    blx_error err;
    ssize_t n = recv(t->fd, bytes, blx__session_want(&t->reader), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      left(t);
      return;
    }
    if (blx__session_read(&t->reader, bytes, (size_t)n, &taken, &got, &m, &err).code != 0)
      end(t, err.code, err.message, -1, 0);
    else if (got)
      on_message(s, t, &m);
  }
}

/* ---- to and from the guest */

static bool tell(struct shim *s, const struct session *t, enum blx__guest_type type, uint32_t arg) {
  return shim_guest_queue(s, &(struct blx__guest_msg){.type = type, .session = t->id, .arg = arg});
}

/* Tell the guest of it, once there is one that can; or the agent that there is none. */
static void try_open(struct shim *s, struct session *t, uint64_t now) {
  if (s->guest_version == 1) {
    end(t, BLX_E_UNSUPPORTED, "its blixard-guest is too old to run commands: restart the VM with a newer one", -1, 0);
  } else if (s->guest_version > 1 && guest_full()) {
    /* One that was killed makes room in a moment. */
    if (now >= t->deadline_ms)
      end(t, BLX_E_BUSY, "commands that were killed in this guest do not end: try again later", -1, 0);
  } else if (s->guest_version > 1) {
    struct blx__guest_msg m = {
        .type = BLX__GUEST_EXEC, .session = t->id, .arg = t->size, .data = t->words, .data_len = t->words_len};
    t->opened = shim_guest_room() && shim_guest_queue(s, &m);
  } else if (now >= t->deadline_ms && s->state.state == BLX__SHIM_READY && !s->guest_known) {
    end(t, BLX_E_UNSUPPORTED, "no blixard-guest answers in this VM: commands run in guests that have one", -1, 0);
  } else if (now >= t->deadline_ms) {
    end(t, BLX_E_UNAVAILABLE, "its blixard-guest does not answer: try again later", -1, 0);
  }
}

static void send_input(struct shim *s, struct session *t) {
  while (t->in_len > 0 && t->credit > BLX__GUEST_FRAME_COST && shim_guest_room()) {
    size_t n = t->credit - BLX__GUEST_FRAME_COST;
    if (n > t->in_len) n = t->in_len;
    if (n > BLX__GUEST_DATA_MAX) n = BLX__GUEST_DATA_MAX;
    struct blx__guest_msg m = {.type = BLX__GUEST_EXEC_STDIN, .session = t->id, .data = t->in, .data_len = n};
    if (!shim_guest_queue(s, &m)) return;
    t->credit -= (uint32_t)n + BLX__GUEST_FRAME_COST;
    t->in_len -= n;
    memmove(t->in, t->in + n, t->in_len);
  }
}

static void step_exec(struct shim *s, struct session *t, uint64_t now) {
  if (!t->opened) try_open(s, t, now);
  if (t->kind != EXEC || !t->opened || t->ended) return;
  if (t->kill) {
    if (tell(s, t, BLX__GUEST_EXEC_KILL, 0)) t->kill = false;
    return;
  }
  if (t->resize && tell(s, t, BLX__GUEST_EXEC_RESIZE, t->size)) t->resize = false;
  send_input(s, t);
  if (t->eof && t->in_len == 0 && tell(s, t, BLX__GUEST_EXEC_EOF, 0)) t->eof = false;
  if (t->out_len == 0 && t->out_cost > 0 && tell(s, t, BLX__GUEST_EXEC_CREDIT, t->out_cost)) t->out_cost = 0;
}

static void step_console(struct shim *s, struct session *t) {
  if (s->vmm_in < 0) t->in_len = 0;
  ssize_t n = t->in_len > 0 ? write(s->vmm_in, t->in, t->in_len) : 0;
  if (n < 0 && errno != EAGAIN && errno != EINTR) {
    (void)close(s->vmm_in);
    s->vmm_in = -1;
  }
  if (n <= 0) return;
  t->in_len -= (size_t)n;
  memmove(t->in, t->in + n, t->in_len);
}

void shim_session_step(struct shim *s, uint64_t now) {
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++) {
    struct session *t = &sessions[i];
    if (t->kind == NEW && now >= t->deadline_ms) left(t);
    if (t->kind == EXEC) step_exec(s, t, now);
    if (t->kind == CONSOLE) step_console(s, t);
    if (t->kind != NONE) flush(t);
  }
}

bool shim_session_wants_hello(void) {
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++)
    if (sessions[i].kind == EXEC && !sessions[i].opened && !sessions[i].ended) return true;
  return false;
}

static void output(struct session *t, const struct blx__guest_msg *msg) {
  struct blx__session_msg m = {
      .type = msg->type == BLX__GUEST_EXEC_OUT ? BLX__SESSION_OUTPUT : BLX__SESSION_ERRORS,
      .data = msg->data,
      .data_len = msg->data_len,
  };
  uint64_t cost = (uint64_t)t->out_cost + msg->data_len + BLX__GUEST_FRAME_COST;
  if (t->fd < 0 || t->ended) return;
  if (cost > BLX__GUEST_WINDOW || !add(t, &m)) {
    /* The agent hears of it and leaves; the guest is told to kill it then. */
    end(t, BLX_E_VMM_PROTOCOL, "the guest sent more than it was allowed to", -1, 0);
    return;
  }
  t->out_cost = (uint32_t)cost;
  flush(t);
}

static void ended(struct session *t, uint32_t how) {
  char why[160];
  uint32_t n = how & 0xffff;
  if (how >> 16 == BLX__GUEST_EXITED >> 16 && n <= 255) {
    end(t, 0, "", (int32_t)n, 0);
  } else if (how >> 16 == BLX__GUEST_SIGNALED >> 16 && n >= 1 && n <= 64) {
    end(t, 0, "", -1, (int32_t)n);
  } else if (how >> 16 != BLX__GUEST_NOT_STARTED >> 16) {
    end(t, BLX_E_VMM_PROTOCOL, "the guest says of the command's end what cannot be", -1, 0);
  } else {
    bool absent = n == ENOENT || n == ENOTDIR;
    int code = absent ? BLX_E_NOT_FOUND : n == EACCES ? BLX_E_DENIED : n == EAGAIN ? BLX_E_BUSY : BLX_E_IO;
    (void)blx__str_format(why, sizeof why, "%.64s: %s", (const char *)t->words + 1,
                          absent ? "there is no such program in the guest" : strerror((int)n));
    end(t, code, why, -1, 0);
  }
}

void shim_session_guest_message(struct shim *s, const struct blx__guest_msg *msg) {
  struct session *t = NULL;
  (void)s;
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX && !t; i++)
    if (sessions[i].kind == EXEC && sessions[i].opened && sessions[i].id == msg->session) t = &sessions[i];
  if (!t) return;
  if (msg->type == BLX__GUEST_EXEC_CREDIT) {
    if (msg->arg <= BLX__GUEST_WINDOW - t->credit) t->credit += msg->arg;
  } else if (msg->type == BLX__GUEST_EXEC_EXIT) {
    t->exited = true;
    if (!t->ended) ended(t, msg->arg);
  } else {
    output(t, msg);
  }
}

void shim_session_guest_gone(struct shim *s, const char *why) {
  (void)s;
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++)
    if (sessions[i].kind == EXEC && sessions[i].opened) {
      sessions[i].exited = true;
      if (!sessions[i].ended) end(&sessions[i], BLX_E_UNAVAILABLE, why, -1, 0);
    }
}

/* ---- the console */

/* A reader that is too slow misses something, and is told; the guest does not wait for it. */
static bool show(struct session *t, const char *bytes, size_t n) {
  struct blx__session_msg m = {.type = BLX__SESSION_OUTPUT, .data = (const uint8_t *)bytes, .data_len = n};
  return t->out_len + n + 2 * SHIM_SESSION_RESERVE <= sizeof t->out && add(t, &m);
}

void shim_session_console(const char *bytes, size_t n) {
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++) {
    struct session *t = &sessions[i];
    if (t->kind != CONSOLE || t->ended) continue;
    for (size_t at = 0, k; at < n; at += k) {
      char note[80];
      k = n - at < BLX__SESSION_DATA_MAX ? n - at : BLX__SESSION_DATA_MAX;
      (void)blx__str_format(note, sizeof note, "\r\n[%zu bytes of the console were missed]\r\n", t->dropped);
      if (t->dropped > 0 && show(t, note, strlen(note))) t->dropped = 0;
      if (t->dropped > 0 || !show(t, bytes + at, k)) t->dropped += k;
    }
    flush(t);
  }
}

void shim_session_end_all(struct shim *s) {
  char why[BLX__SESSION_TEXT_MAX];
  (void)blx__str_format(why, sizeof why, "its VM ended: %s", s->state.text);
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++) {
    struct session *t = &sessions[i];
    if (t->kind == NONE || t->ended) continue;
    t->exited = true;
    if (t->kind == CONSOLE)
      end(t, 0, "", s->state.exit_status, s->state.signal);
    else
      end(t, BLX_E_UNAVAILABLE, why, -1, 0);
  }
}

/* ---- polling */

bool shim_session_polled(struct pollfd p[SHIM_SESSIONS_MAX]) {
  bool console = false;
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++) {
    const struct session *t = &sessions[i];
    bool there = t->kind != NONE && t->fd >= 0;
    p[i] = (struct pollfd){.fd = there ? t->fd : -1};
    if (there && wants(t)) p[i].events |= POLLIN;
    if (there && t->out_len > 0) p[i].events |= POLLOUT;
    console = console || (t->kind == CONSOLE && t->in_len > 0);
  }
  return console;
}

void shim_session_events(struct shim *s, const struct pollfd p[SHIM_SESSIONS_MAX]) {
  for (unsigned i = 0; i < SHIM_SESSIONS_MAX; i++) {
    struct session *t = &sessions[i];
    if (!p[i].revents || t->kind == NONE || t->fd != p[i].fd) continue;
    if (p[i].revents & POLLOUT) flush(t);
    if (t->kind == NONE || t->fd < 0) continue;
    if (p[i].revents & POLLIN)
      readable(s, t);
    else if (p[i].revents & (POLLHUP | POLLERR))
      left(t);
  }
}
