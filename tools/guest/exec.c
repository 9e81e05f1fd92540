/* Sessions: what the host asks of them, and what moves between their commands and the port. */
#include "guest.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TERMINAL = 1, END_OF_FILE_KEY = 4 };

static struct guest_session *find(struct guest_agent *a, uint32_t id) {
  for (int i = 0; i < BLX__GUEST_SESSIONS_MAX; i++)
    if (a->session[i].used && a->session[i].id == id) return &a->session[i];
  return NULL;
}

static void close_fd(int *fd) {
  if (*fd >= 0) (void)close(*fd);
  *fd = -1;
}

static bool tell(struct guest_agent *a, enum blx__guest_type type, uint32_t id, uint32_t arg) {
  return guest_queue(a, &(struct blx__guest_msg){.type = type, .session = id, .arg = arg});
}

/* ---- the host's wishes */

static void refuse(struct guest_agent *a, uint32_t id, int why) {
  if (!tell(a, BLX__GUEST_EXEC_EXIT, id, BLX__GUEST_NOT_STARTED | (uint32_t)why))
    guest_say("no room to refuse session %u", id);
}

/* The words lie in @text, each with its NUL. 0: there are none, too many, or the last one is cut. */
static size_t split(char *text, size_t n, char *words[GUEST_WORDS_MAX + 1]) {
  size_t count = 0;
  if (n == 0 || text[n - 1] != '\0') return 0;
  for (size_t at = 0; at < n; at += strlen(text + at) + 1) {
    if (count == GUEST_WORDS_MAX) return 0;
    words[count++] = text + at;
  }
  words[count] = NULL;
  return count;
}

static void begin(struct guest_agent *a, const struct blx__guest_msg *msg) {
  char text[BLX__GUEST_DATA_MAX], *words[GUEST_WORDS_MAX + 1];
  struct guest_session *s = NULL;
  if (find(a, msg->session)) return; /* the host numbers them: it is the same once more */
  for (int i = 0; i < BLX__GUEST_SESSIONS_MAX && !s; i++)
    if (!a->session[i].used) s = &a->session[i];
  if (!s) {
    refuse(a, msg->session, EAGAIN);
    return;
  }
  size_t n = msg->data_len > 0 ? msg->data_len - 1 : 0;
  if (n > 0) memcpy(text, msg->data + 1, n);
  if (split(text, n, words) == 0) {
    refuse(a, msg->session, EINVAL);
    return;
  }
  s->used = true;
  s->id = msg->session;
  s->pid = 0;
  s->in_fd = s->out_fd = s->err_fd = -1;
  s->tty = (msg->data[0] & TERMINAL) != 0;
  s->in_len = 0;
  s->in_end = s->killed = false;
  s->in_cost = 0;
  s->credit = BLX__GUEST_WINDOW;
  s->drain_at = 0;
  if (guest_spawn(s, words, msg->arg)) return;
  s->used = false;
  refuse(a, msg->session, errno);
}

/* A host that sends more than it was allowed loses the session, not the others. */
static void take_input(struct guest_session *s, const struct blx__guest_msg *msg) {
  s->in_cost += (uint32_t)msg->data_len + BLX__GUEST_FRAME_COST;
  if (s->in_fd < 0 || s->in_end) return;
  if (s->in_cost > BLX__GUEST_WINDOW) {
    s->killed = true;
    return;
  }
  memcpy(s->in + s->in_len, msg->data, msg->data_len);
  s->in_len += msg->data_len;
}

/* The signal first: a command that learns from its pipe that nobody reads ends in a way of its own. */
static void kill_session(struct guest_session *s) {
  s->killed = true;
  if (s->pid > 0) (void)kill(-s->pid, SIGKILL);
  close_fd(&s->in_fd);
  close_fd(&s->out_fd);
  close_fd(&s->err_fd);
}

void guest_exec_message(struct guest_agent *a, const struct blx__guest_msg *msg) {
  if (msg->type == BLX__GUEST_EXEC) {
    begin(a, msg);
    return;
  }
  struct guest_session *s = find(a, msg->session);
  if (!s) return;
  if (msg->type == BLX__GUEST_EXEC_STDIN) take_input(s, msg);
  if (msg->type == BLX__GUEST_EXEC_EOF) s->in_end = true;
  if (msg->type == BLX__GUEST_EXEC_RESIZE) guest_resize(s, msg->arg);
  if (msg->type == BLX__GUEST_EXEC_KILL || s->killed) kill_session(s);
  if (msg->type == BLX__GUEST_EXEC_CREDIT && msg->arg <= BLX__GUEST_WINDOW - s->credit) s->credit += msg->arg;
}

void guest_exec_kill_all(struct guest_agent *a) {
  for (int i = 0; i < BLX__GUEST_SESSIONS_MAX; i++)
    if (a->session[i].used) kill_session(&a->session[i]);
}

/* ---- moving */

static void feed(struct guest_agent *a, struct guest_session *s) {
  while (s->in_fd >= 0 && s->in_len > 0) {
    ssize_t n = write(s->in_fd, s->in, s->in_len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      close_fd(&s->in_fd); /* nobody reads it any more */
      break;
    }
    s->in_len -= (size_t)n;
    memmove(s->in, s->in + n, s->in_len);
  }
  if (s->in_fd < 0) s->in_len = 0;
  if (s->in_cost > 0 && tell(a, BLX__GUEST_EXEC_CREDIT, s->id, s->in_cost)) s->in_cost = 0;
  if (!s->in_end || s->in_fd < 0) return;
  /* A terminal has no end: its key for that says so, and it stays open. */
  const char key = END_OF_FILE_KEY;
  if (!s->tty)
    close_fd(&s->in_fd);
  else if (write(s->in_fd, &key, 1) == 1)
    s->in_end = false;
}

static bool may_send(const struct guest_agent *a, const struct guest_session *s) {
  return s->credit > BLX__GUEST_FRAME_COST && a->out_len + BLX__GUEST_FRAME_MAX + GUEST_OUT_RESERVE <= GUEST_OUT_MAX;
}

/* True: it ended, or there is nothing to read now. */
static bool drain(struct guest_agent *a, struct guest_session *s, int *fd, enum blx__guest_type type) {
  uint8_t bytes[BLX__GUEST_DATA_MAX];
  while (*fd >= 0 && may_send(a, s)) {
    size_t most = s->credit - BLX__GUEST_FRAME_COST;
    ssize_t n = read(*fd, bytes, most < sizeof bytes ? most : sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    if (n <= 0) {
      close_fd(fd); /* EIO is a terminal's end */
      break;
    }
    s->credit -= (uint32_t)n + BLX__GUEST_FRAME_COST;
    struct blx__guest_msg msg = {.type = type, .session = s->id, .data = bytes, .data_len = (size_t)n};
    (void)guest_queue(a, &msg); /* may_send saw the room */
  }
  return *fd < 0;
}

static void reap(struct guest_agent *a) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (int i = 0; i < BLX__GUEST_SESSIONS_MAX; i++) {
      struct guest_session *s = &a->session[i];
      if (!s->used || s->pid != pid) continue;
      s->pid = 0;
      s->status = status;
    }
  }
}

/* What its children may still write is not waited for; what it wrote itself is all there, but in a terminal, where it
 * comes a little later and then an end. */
static bool drained(struct guest_agent *a, struct guest_session *s, uint64_t now) {
  bool out = drain(a, s, &s->out_fd, BLX__GUEST_EXEC_OUT);
  bool err = drain(a, s, &s->err_fd, BLX__GUEST_EXEC_ERR);
  if (s->pid > 0) return false;
  if (s->killed || !s->tty) return s->killed || (out && err);
  if (s->drain_at == 0) s->drain_at = now + GUEST_DRAIN_MS;
  return out && (s->out_fd < 0 || now >= s->drain_at);
}

static void end(struct guest_agent *a, struct guest_session *s) {
  uint32_t how = WIFSIGNALED(s->status) ? BLX__GUEST_SIGNALED | (uint32_t)WTERMSIG(s->status)
                                        : BLX__GUEST_EXITED | (uint32_t)WEXITSTATUS(s->status);
  if (!tell(a, BLX__GUEST_EXEC_EXIT, s->id, how)) return; /* again on the next step */
  close_fd(&s->in_fd);
  close_fd(&s->out_fd);
  close_fd(&s->err_fd);
  s->used = false;
}

int guest_exec_step(struct guest_agent *a) {
  uint64_t now = guest_now_ms();
  int wait = -1;
  reap(a);
  for (int i = 0; i < BLX__GUEST_SESSIONS_MAX; i++) {
    struct guest_session *s = &a->session[i];
    if (!s->used) continue;
    feed(a, s);
    if (drained(a, s, now))
      end(a, s);
    else if (s->drain_at != 0)
      wait = GUEST_DRAIN_MS / 10;
  }
  return wait;
}

nfds_t guest_exec_polled(struct guest_agent *a, struct pollfd *p, nfds_t n) {
  for (int i = 0; i < BLX__GUEST_SESSIONS_MAX; i++) {
    struct guest_session *s = &a->session[i];
    if (!s->used) continue;
    if (s->in_fd >= 0 && (s->in_len > 0 || s->in_end)) p[n++] = (struct pollfd){.fd = s->in_fd, .events = POLLOUT};
    bool may = may_send(a, s) && s->drain_at == 0;
    if (may && s->out_fd >= 0) p[n++] = (struct pollfd){.fd = s->out_fd, .events = POLLIN};
    if (may && s->err_fd >= 0) p[n++] = (struct pollfd){.fd = s->err_fd, .events = POLLIN};
  }
  return n;
}
