#include "io/spawn_int.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char default_path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"
                                   "/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin";

enum { REPORT_MS = 100, LENT_FD = 3 };

/* All that the child needs, made before: between vfork and exec it shares the parent's memory. */
struct child {
  const char *file;
  const char *const *argv, *const *env;
  const char *cwd;
  bool new_session, with_us;
  pid_t parent;
  uint32_t uid, gid;
  int null_fd, output_fd, lend_fd; /* lend_fd: -1: none */
  int report_fd;                   /* closed by exec; else takes a struct report */
};

/* Why the child did not come to exec. By a pipe, not by the shared memory: sanitizers make a fork of vfork. */
struct report {
  int errnum;
  const char *step; /* a static string, at the same place in parent and child */
};

static void give_up(const struct child *c, const char *step) {
  struct report r = {errno, step};
  ssize_t n = write(c->report_fd, &r, sizeof r);
  (void)n;
  (void)syscall(SYS_exit_group, 127);
}

#define STEP(child, what, expr)               \
  do {                                        \
    if ((expr) < 0) give_up((child), (what)); \
  } while (0)

/* Direct system calls for the ids: libc's setuid would make the parent's other threads change theirs too. */
__attribute__((noinline)) static void child_main(struct child *c) {
  struct sigaction dfl = {.sa_handler = SIG_DFL};
  for (int sig = 1; sig < NSIG; sig++) (void)sigaction(sig, &dfl, NULL);
  if (c->new_session)
    STEP(c, "start a session", setsid());
  else
    STEP(c, "make a process group", setpgid(0, 0));
  STEP(c, "set stdin", dup2(c->null_fd, 0));
  STEP(c, "set stdout", dup2(c->output_fd, 1));
  STEP(c, "set stderr", dup2(c->output_fd, 2));
  if (c->lend_fd >= 0) STEP(c, "set the descriptor it is lent", dup2(c->lend_fd, LENT_FD));
  unsigned first = c->lend_fd >= 0 ? LENT_FD + 1 : LENT_FD;
  STEP(c, "close descriptors", syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC));
  if (c->uid != 0 || c->gid != 0) {
    STEP(c, "drop groups", syscall(SYS_setgroups, (size_t)0, NULL));
    STEP(c, "set the group", syscall(SYS_setresgid, c->gid, c->gid, c->gid));
    STEP(c, "set the user", syscall(SYS_setresuid, c->uid, c->uid, c->uid));
  }
  if (c->with_us) {
    /* After the change of user, which would clear it. A parent that died before that is not our parent any more. */
    STEP(c, "follow its parent", prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0));
    if (getppid() != c->parent) (void)syscall(SYS_exit_group, 127);
  }
  if (c->cwd) STEP(c, "enter the directory", chdir(c->cwd));
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL);
  STEP(c, "execute", execve(c->file, (char *const *)(uintptr_t)c->argv, (char *const *)(uintptr_t)c->env));
}

static const char *path_of(const char *const *env) {
  for (; *env; env++)
    if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
  return default_path + 5;
}

static blx__rc look_up(const char *name, const char *const *env, char *out, size_t out_size, blx_error *err) {
  if (strchr(name, '/')) {
    if (blx__str_copy(out, out_size, name)) return BLX__OK;
    return blx__fail(err, BLX_E_INVALID, "io", "the path of a program has at most %zu bytes", out_size - 1);
  }
  for (const char *p = path_of(env); *p;) {
    size_t n = strcspn(p, ":");
    if (n > 0 && n < PATH_MAX && blx__str_format(out, out_size, "%.*s/%s", (int)n, p, name) && access(out, X_OK) == 0)
      return BLX__OK;
    p += n + (p[n] == ':');
  }
  return blx__fail(err, BLX_E_NOT_FOUND, "io", "the program %s is not installed (looked in %s)", name, path_of(env));
}

/* Every signal is blocked across vfork: a handler of the embedder must not run in the child, on the parent's stack. */
static pid_t vfork_child(struct child *c) {
  sigset_t all, old;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &old);
  pid_t pid = vfork();
  if (pid == 0) {
    child_main(c);
    (void)syscall(SYS_exit_group, 127);
  }
  int why = errno;
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  errno = why;
  return pid;
}

/* Start and wait for exec, or for the report that there was none. */
static blx__rc start(struct child *c, int report_fd, pid_t *pid, blx_error *err) {
  struct report report = {0};
  pid_t child = vfork_child(c);
  int why = errno;
  (void)close(c->report_fd);
  c->report_fd = -1;
  if (child < 0) return blx__fail_errno(err, why, "io", "cannot start a process for %s", c->file);
  /* After vfork the report is there, or the pipe is at its end, unless another thread forked meanwhile and its child
   * holds the pipe open: hence the bound. */
  struct pollfd ready = {.fd = report_fd, .events = POLLIN};
  bool told = poll(&ready, 1, REPORT_MS) > 0 && read(report_fd, &report, sizeof report) == (ssize_t)sizeof report;
  if (!told) {
    *pid = child;
    return BLX__OK;
  }
  siginfo_t ignored;
  (void)waitid(P_PID, (id_t)child, &ignored, WEXITED);
  return blx__fail_errno(err, report.errnum, "io", "cannot %s: %s", report.step, c->file);
}

blx__rc spawn(const struct blx__process_spec *spec, int output_fd, pid_t *pid, blx_error *err) {
  const char *const minimal_env[] = {default_path, NULL};
  struct child c = {.argv = spec->argv,
                    .env = spec->env ? spec->env : minimal_env,
                    .cwd = spec->cwd,
                    .new_session = spec->new_session,
                    .with_us = spec->with_us,
                    .parent = getpid(),
                    .lend_fd = -1,
                    .uid = spec->uid,
                    .gid = spec->gid};
  char file[PATH_MAX];
  BLX__TRY(look_up(spec->argv[0], c.env, file, sizeof file, err));
  c.file = file;
  /* Above 3, or dup2 onto 0..3 would overwrite one with another. */
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  c.null_fd = null_fd < 0 ? -1 : fcntl(null_fd, F_DUPFD_CLOEXEC, LENT_FD + 1);
  c.output_fd = output_fd >= 0 ? fcntl(output_fd, F_DUPFD_CLOEXEC, LENT_FD + 1) : c.null_fd;
  if (spec->lend_fd > 2) c.lend_fd = fcntl(spec->lend_fd, F_DUPFD_CLOEXEC, LENT_FD + 1);
  int report[2] = {-1, -1};
  blx__rc rc;
  if (c.null_fd < 0 || c.output_fd < 0 || (spec->lend_fd > 2 && c.lend_fd < 0) || pipe2(report, O_CLOEXEC) != 0) {
    rc = blx__fail_errno(err, errno, "io", "cannot prepare the descriptors of %s", file);
  } else {
    c.report_fd = fcntl(report[1], F_DUPFD_CLOEXEC, LENT_FD + 1);
    (void)close(report[1]);
    rc = c.report_fd < 0 ? blx__fail_errno(err, errno, "io", "cannot prepare the descriptors of %s", file)
                         : start(&c, report[0], pid, err);
    (void)close(report[0]);
  }
  if (output_fd >= 0 && c.output_fd >= 0) (void)close(c.output_fd);
  if (c.lend_fd >= 0) (void)close(c.lend_fd);
  if (c.null_fd >= 0) (void)close(c.null_fd);
  if (null_fd >= 0) (void)close(null_fd);
  return rc;
}
