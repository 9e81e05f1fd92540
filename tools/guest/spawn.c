/* A command as a child: with pipes, or with a terminal of its own. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_pair(int fd[2]) {
  for (int i = 0; i < 2; i++)
    if (fd[i] >= 0) (void)close(fd[i]);
}

static void set_size(int terminal, uint32_t size) {
  struct winsize w = {.ws_row = size & 0xffff ? size & 0xffff : 24, .ws_col = size >> 16 ? (uint16_t)(size >> 16) : 80};
  (void)ioctl(terminal, TIOCSWINSZ, &w);
}

void guest_resize(const struct guest_session *s, uint32_t size) {
  if (s->tty && s->out_fd >= 0) set_size(s->out_fd, size);
}

/* Master in fd[0], the command's end in fd[1]. */
static bool open_terminal(int fd[2]) {
  char path[32];
  int number, unlock = 0;
  fd[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd[0] < 0 || ioctl(fd[0], TIOCSPTLCK, &unlock) != 0 || ioctl(fd[0], TIOCGPTN, &number) != 0) return false;
  (void)snprintf(path, sizeof path, "/dev/pts/%d", number);
  fd[1] = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  return fd[1] >= 0;
}

/* Where programs are, when nobody told us. */
static const char paths[] =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin:/run/wrappers/bin";

static _Noreturn void become(char *const *words, bool tty, int in, int out, int err, int report) {
  sigset_t none;
  (void)sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL);
  (void)signal(SIGPIPE, SIG_DFL);
  (void)setsid();
  bool ok = dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2 && (!tty || ioctl(0, TIOCSCTTY, 0) == 0) &&
            chdir("/") == 0 && setenv("PATH", paths, 0) == 0 && setenv("HOME", "/root", 0) == 0 &&
            (!tty || setenv("TERM", "xterm", 1) == 0);
  if (ok) (void)execvp(words[0], words);
  int why = errno;
  if (write(report, &why, sizeof why) < 0) _exit(126);
  _exit(127);
}

/* Whether the child became its command, which closes the pipe without a word. */
static bool became(struct guest_session *s, int report) {
  int why = 0;
  ssize_t n;
  do n = read(report, &why, sizeof why);
  while (n < 0 && errno == EINTR);
  if (n == 0) return true;
  (void)waitpid(s->pid, NULL, 0);
  s->pid = 0;
  errno = n == (ssize_t)sizeof why ? why : EIO;
  return false;
}

static bool no_wait(int fd) {
  return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

/* Our ends: with a terminal one descriptor for each way, so that each is closed alone. */
static bool take_ends(struct guest_session *s, int in[2], int out[2], int err[2]) {
  s->in_fd = s->tty ? fcntl(in[0], F_DUPFD_CLOEXEC, 3) : in[1];
  s->out_fd = out[0];
  s->err_fd = err[0];
  if (!s->tty) in[1] = -1;
  out[0] = err[0] = -1;
  if (s->tty) in[0] = -1;
  return s->in_fd >= 0 && no_wait(s->in_fd) && no_wait(s->out_fd) && (s->tty || no_wait(s->err_fd));
}

static void close_ends(struct guest_session *s) {
  int *fds[] = {&s->in_fd, &s->out_fd, &s->err_fd};
  for (int i = 0; i < 3; i++) {
    if (*fds[i] >= 0) (void)close(*fds[i]);
    *fds[i] = -1;
  }
}

bool guest_spawn(struct guest_session *s, char *const *words, uint32_t size) {
  int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, report[2] = {-1, -1};
  bool ok = pipe2(report, O_CLOEXEC) == 0;
  if (ok && s->tty) {
    ok = open_terminal(in);
    if (ok) set_size(in[0], size);
    out[0] = in[0];
  } else if (ok) {
    ok = pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0;
  }
  if (ok) ok = (s->pid = fork()) >= 0;
  if (ok && s->pid == 0) {
    if (s->tty)
      become(words, true, in[1], in[1], in[1], report[1]);
    else
      become(words, false, in[0], out[1], err[1], report[1]);
  }
  int why = errno;
  if (report[1] >= 0) (void)close(report[1]);
  report[1] = -1;
  if (ok) {
    ok = became(s, report[0]) && take_ends(s, in, out, err);
    why = errno;
    if (!ok && s->pid > 0) (void)kill(-s->pid, SIGKILL);
    if (!ok) close_ends(s);
  }
  if (s->tty) out[0] = -1; /* the same as in[0] */
  close_pair(in);
  close_pair(out);
  close_pair(err);
  close_pair(report);
  errno = why;
  return ok;
}
