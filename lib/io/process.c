#include "io/process.h"
#include "io/io_int.h"
#include "io/spawn_int.h"
#include "io/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READS_AT_EXIT_MAX = 64 }; /* a grandchild may hold the pipe and write for ever */

struct blx__process {
  struct blx__loop *loop;
  uv_poll_t exit_poll, output_poll;
  bool has_exit_poll, has_output_poll;
  unsigned closing; /* handles whose close has not been confirmed */
  int pidfd, output_fd;
  pid_t pid; /* 0 once it was awaited: the number may then be anybody's */
  struct blx__timer *deadline;
  struct blx__defer lost; /* its end was taken from us before we could watch */
  bool timed_out, ended;
  uint8_t *tail; /* a ring of tail_max bytes; tail_seen counts all that came */
  size_t tail_max;
  uint64_t tail_seen;
  blx__process_exit_fn *on_exit;
  void *user;
};

static void tail_add(struct blx__process *p, const uint8_t *bytes, size_t n) {
  if (n > p->tail_max) {
    p->tail_seen += n - p->tail_max;
    bytes += n - p->tail_max;
    n = p->tail_max;
  }
  size_t at = (size_t)(p->tail_seen % p->tail_max);
  size_t first = p->tail_max - at < n ? p->tail_max - at : n;
  memcpy(p->tail + at, bytes, first);
  memcpy(p->tail, bytes + first, n - first);
  p->tail_seen += n;
}

/* Turn the ring so that the oldest byte comes first: three reversals, no second buffer. */
static void reverse(uint8_t *p, size_t n) {
  for (size_t i = 0; i < n / 2; i++) {
    uint8_t c = p[i];
    p[i] = p[n - 1 - i];
    p[n - 1 - i] = c;
  }
}

static struct blx__slice tail_slice(struct blx__process *p) {
  if (p->tail_seen <= p->tail_max) return (struct blx__slice){p->tail, (size_t)p->tail_seen};
  size_t at = (size_t)(p->tail_seen % p->tail_max);
  reverse(p->tail, at);
  reverse(p->tail + at, p->tail_max - at);
  reverse(p->tail, p->tail_max);
  return (struct blx__slice){p->tail, p->tail_max};
}

/* False at the end of the output. */
static bool output_read(struct blx__process *p, int reads_max) {
  for (int i = 0; i < reads_max; i++) {
    ssize_t n = read(p->output_fd, p->loop->read_buf, READ_BUF_BYTES);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    if (n <= 0) return false;
    tail_add(p, p->loop->read_buf, (size_t)n);
  }
  return true;
}

static void on_output(uv_poll_t *h, int status, int events) {
  struct blx__process *p = h->data;
  (void)events;
  if (!output_read(p, 4) || status < 0) (void)uv_poll_stop(&p->output_poll);
}

static void process_free(struct blx__process *p) {
  free(p->tail);
  free(p);
}

static void on_handle_closed(uv_handle_t *h) {
  struct blx__process *p = h->data;
  if (--p->closing == 0) process_free(p);
}

static void process_close(struct blx__process *p) {
  blx__timer_free(p->deadline);
  blx__loop_undefer(&p->lost);
  p->closing = (unsigned)p->has_exit_poll + (unsigned)p->has_output_poll;
  bool now = p->closing == 0;
  if (p->has_exit_poll) uv_close((uv_handle_t *)&p->exit_poll, on_handle_closed);
  if (p->has_output_poll) uv_close((uv_handle_t *)&p->output_poll, on_handle_closed);
  if (p->pidfd >= 0) (void)close(p->pidfd);
  if (p->output_fd >= 0) (void)close(p->output_fd);
  if (now) process_free(p);
}

static void ended(struct blx__process *p, int exit_status, int signal) {
  BLX__ASSERT(!p->ended);
  p->ended = true;
  p->pid = 0;
  if (p->output_fd >= 0) (void)output_read(p, READS_AT_EXIT_MAX);
  p->on_exit(p->user, exit_status, signal, p->timed_out, tail_slice(p));
  process_close(p);
}

static void on_pidfd(uv_poll_t *h, int status, int events) {
  struct blx__process *p = h->data;
  (void)status;
  (void)events;
  siginfo_t si = {0};
  if (waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == 0) return;
  /* Not awaited yet, so the number is still its own: the last moment to reach what it left behind. */
  if (p->timed_out) (void)kill(-p->pid, SIGKILL);
  si.si_pid = 0;
  if (waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED | WNOHANG) != 0 || si.si_pid == 0) {
    ended(p, -1, 0);
    return;
  }
  if (si.si_code == CLD_EXITED)
    ended(p, si.si_status, 0);
  else
    ended(p, -1, si.si_status);
}

static void on_lost(void *arg) {
  ended(arg, -1, 0);
}

static void on_deadline(void *arg) {
  struct blx__process *p = arg;
  blx__process_kill(p, p->timed_out ? SIGKILL : SIGTERM);
  if (p->timed_out) return;
  p->timed_out = true;
  blx__timer_start(p->deadline, BLX__PROCESS_KILL_AFTER_MS, 0);
}

static blx__rc prepare(struct blx__process *p, const struct blx__process_spec *spec, int *write_end, blx_error *err) {
  if (spec->deadline_ms > 0 && (p->deadline = blx__timer_new(p->loop, on_deadline, p)) == NULL)
    return blx__fail(err, BLX_E_NOMEM, "io", "no memory to run %s", spec->argv[0]);
  if (spec->output_max == 0) return BLX__OK;
  BLX__ASSERT(spec->output_max <= BLX__PROCESS_OUTPUT_MAX_BYTES);
  p->tail_max = spec->output_max;
  p->tail = malloc(p->tail_max);
  if (!p->tail) return blx__fail(err, BLX_E_NOMEM, "io", "no memory to keep the output of %s", spec->argv[0]);
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return blx__fail_errno(err, errno, "io", "cannot make a pipe");
  p->output_fd = fds[0];
  *write_end = fds[1];
  if (uv_poll_init(&p->loop->uv, &p->output_poll, p->output_fd) != 0)
    return blx__fail(err, BLX_E_IO, "io", "cannot watch the output of %s", spec->argv[0]);
  p->output_poll.data = p;
  p->has_output_poll = true;
  return BLX__OK;
}

static void watch(struct blx__process *p) {
  p->pidfd = pidfd_open(p->pid, 0);
  if (p->pidfd < 0 || uv_poll_init(&p->loop->uv, &p->exit_poll, p->pidfd) != 0) {
    /* Somebody else in this process awaited it already. */
    blx__loop_defer(p->loop, &p->lost);
    return;
  }
  p->exit_poll.data = p;
  p->has_exit_poll = true;
  (void)uv_poll_start(&p->exit_poll, UV_READABLE, on_pidfd);
}

blx__rc blx__process_spawn(struct blx__loop *loop, const struct blx__process_spec *spec, blx__process_exit_fn *on_exit,
                           void *user, struct blx__process **out, blx_error *err) {
  if (!spec->argv || !spec->argv[0] || !*spec->argv[0])
    return blx__fail(err, BLX_E_INVALID, "io", "a program to run needs a name");
  struct blx__process *p = calloc(1, sizeof *p);
  if (!p) return blx__fail(err, BLX_E_NOMEM, "io", "no memory to run %s", spec->argv[0]);
  *p = (struct blx__process){.loop = loop, .pidfd = -1, .output_fd = -1, .on_exit = on_exit, .user = user};
  blx__defer_init(&p->lost, on_lost, p);
  int write_end = -1;
  blx__rc rc = prepare(p, spec, &write_end, err);
  if (rc.code == 0) rc = spawn(spec, write_end, &p->pid, err);
  if (write_end >= 0) (void)close(write_end);
  if (rc.code != 0) {
    process_close(p);
    return rc;
  }
  watch(p);
  if (p->has_output_poll) (void)uv_poll_start(&p->output_poll, UV_READABLE, on_output);
  if (p->deadline) blx__timer_start(p->deadline, spec->deadline_ms, 0);
  *out = p;
  return BLX__OK;
}

int32_t blx__process_pid(const struct blx__process *p) {
  return p->pid;
}

void blx__process_kill(struct blx__process *p, int signal) {
  if (p->pid > 0) (void)kill(-p->pid, signal);
}

struct blx__pidwatch {
  uv_poll_t poll;
  int pidfd;
  void (*on_exit)(void *user);
  void *user;
  bool closing;
};

static void on_watched_exit(uv_poll_t *h, int status, int events) {
  struct blx__pidwatch *w = h->data;
  (void)status;
  (void)events;
  (void)uv_poll_stop(&w->poll);
  w->on_exit(w->user);
}

blx__rc blx__pidwatch_open(struct blx__loop *loop, int32_t pid, void (*on_exit)(void *user), void *user,
                           struct blx__pidwatch **out, blx_error *err) {
  BLX__ASSERT(pid > 0);
  struct blx__pidwatch *w = calloc(1, sizeof *w);
  if (!w) return blx__fail(err, BLX_E_NOMEM, "io", "no memory to watch process %d", pid);
  w->on_exit = on_exit;
  w->user = user;
  w->pidfd = pidfd_open(pid, 0);
  if (w->pidfd < 0) {
    int why = errno;
    free(w);
    if (why == ESRCH) return blx__fail(err, BLX_E_NOT_FOUND, "io", "process %d has ended", pid);
    return blx__fail_errno(err, why, "io", "cannot watch process %d", pid);
  }
  int e = uv_poll_init(&loop->uv, &w->poll, w->pidfd);
  if (e != 0) {
    (void)close(w->pidfd);
    free(w);
    return blx__fail_errno(err, -e, "io", "cannot watch process %d", pid);
  }
  w->poll.data = w;
  (void)uv_poll_start(&w->poll, UV_READABLE, on_watched_exit);
  *out = w;
  return BLX__OK;
}

static void on_watch_closed(uv_handle_t *h) {
  free(h->data);
}

void blx__pidwatch_close(struct blx__pidwatch *w) {
  if (!w || w->closing) return;
  w->closing = true;
  uv_close((uv_handle_t *)&w->poll, on_watch_closed);
  (void)close(w->pidfd);
}
