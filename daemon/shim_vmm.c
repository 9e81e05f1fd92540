#include "shim.h"

#include "base/failpoint.h"
#include "host/devices.h"
#include "host/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char origin[] = "shim/vmm";

/* What the child tells when it cannot become the monitor: the step, and errno. */
struct child_failure {
  char step[64];
  int errnum;
};

static void child_fail(int report, const char *step) {
  struct child_failure f = {.errnum = errno};
  (void)blx__str_copy(f.step, sizeof f.step, step);
  if (write(report, &f, sizeof f) < 0) _exit(126);
  _exit(127);
}

static void drop_privileges(const struct shim_options *opt, int report) {
  if (opt->vmm_uid != 0) {
    gid_t gid = (gid_t)opt->vmm_gid;
    uid_t uid = (uid_t)opt->vmm_uid;
    if (setgroups(0, NULL) != 0) child_fail(report, "giving up groups");
    if (setresgid(gid, gid, gid) != 0) child_fail(report, "taking the group of the monitors");
    if (setresuid(uid, uid, uid) != 0) child_fail(report, "taking the user of the monitors");
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) child_fail(report, "giving up new privileges");
}

/* The parent's death must end the monitor: unseen, it could run twice. The signal is set after the change of user,
 * which would clear it; and a parent that died before that is noticed by its pid. */
static void follow_parent(pid_t parent, int report) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) child_fail(report, "following the shim");
  if (getppid() != parent) _exit(126);
}

void shim_child_begin(void) {
  sigset_t none;
  (void)sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL);
  (void)signal(SIGPIPE, SIG_DFL);
  (void)signal(SIGTERM, SIG_DFL);
  (void)setsid();
}

static _Noreturn void become_vmm(struct shim *s, pid_t parent, int in, int out, int report) {
  char run[PATH_MAX];
  if (!blx__str_format(run, sizeof run, "%s/booted/bin/microvm-run", s->opt.dir)) {
    errno = ENAMETOOLONG;
    child_fail(report, "naming microvm-run");
  }
  shim_child_begin();
  (void)umask(0077);
  if (!blx__vm_cgroup_join(&s->cgroup)) child_fail(report, "joining the cgroup");
  /* Only now is there somebody to be killed when the lease ends: until then the watchdog process saw an empty group,
   * and may have ended. Who was held up before this line is too late. */
  if (s->opt.start_before_ms != 0 && shim_now_ms() >= s->opt.start_before_ms) {
    errno = ETIME;
    child_fail(report, "under its node's lease, which has ended");
  }
  if (fchdir(s->work_fd) != 0) child_fail(report, "entering the working directory");
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) child_fail(report, "setting up its input and output");
  struct rlimit core = {0, 0};
  (void)setrlimit(RLIMIT_CORE, &core);
  /* What a device of the host may write to must stay where it is: all of the guest's memory. */
  struct rlimit pinned = {RLIM_INFINITY, RLIM_INFINITY};
  if (blx__host_pci_wanted(s->dir_fd) && setrlimit(RLIMIT_MEMLOCK, &pinned) != 0)
    child_fail(report, "letting it pin its memory");
  drop_privileges(&s->opt, report);
  follow_parent(parent, report);
  char *argv[] = {run, NULL};
  char *env[] = {"PATH=/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
  (void)execve(run, argv, env);
  child_fail(report, run + strlen(s->opt.dir) + 1);
  _exit(127);
}

static blx__rc await_exec(struct shim *s, int report, blx_error *err) {
  struct child_failure f;
  ssize_t n;
  do n = read(report, &f, sizeof f);
  while (n < 0 && errno == EINTR);
  if (n == 0) return BLX__OK;
  (void)waitpid(s->vmm, NULL, 0);
  if (n != (ssize_t)sizeof f) return blx__fail(err, BLX_E_IO, origin, "the monitor died before it was started");
  f.step[sizeof f.step - 1] = '\0';
  if (s->opt.vmm_uid != 0 && f.errnum == EACCES)
    return blx__fail(
        err, BLX_E_DENIED, origin,
        "user %llu cannot reach %s in %s: let others enter the directories above it, or run monitors as root",
        (unsigned long long)s->opt.vmm_uid, f.step, s->opt.dir);
  return blx__fail_errno(err, f.errnum, origin, "the monitor could not be started (%s)", f.step);
}

blx__rc shim_vmm_spawn(struct shim *s, blx_error *err) {
  int in[2] = {-1, -1}, out[2] = {-1, -1}, report[2] = {-1, -1};
  blx__rc rc = BLX__OK;
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(report, O_CLOEXEC) != 0 ||
      fcntl(in[1], F_SETFL, O_NONBLOCK) != 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) != 0) {
    rc = blx__fail_errno(err, errno, origin, "no pipe for the monitor");
    goto out;
  }
  pid_t self = getpid();
  s->vmm = fork();
  if (s->vmm == 0) become_vmm(s, self, in[0], out[1], report[1]);
  if (s->vmm < 0) {
    rc = blx__fail_errno(err, errno, origin, "no process for the monitor");
    goto out;
  }
  (void)close(report[1]);
  report[1] = -1;
  rc = await_exec(s, report[0], err);
  if (rc.code != 0) goto out;
  s->vmm_fd = (int)syscall(SYS_pidfd_open, s->vmm, 0);
  if (s->vmm_fd < 0) {
    rc = blx__fail_errno(err, errno, origin, "the monitor cannot be watched");
    (void)kill(s->vmm, SIGKILL);
    (void)waitpid(s->vmm, NULL, 0);
    goto out;
  }
  s->vmm_out = out[0];
  s->vmm_in = in[1];
  in[1] = out[0] = -1;
  s->state.vmm_pid = s->vmm;
out:
  for (unsigned i = 0; i < 2; i++) {
    if (in[i] >= 0) (void)close(in[i]);
    if (out[i] >= 0) (void)close(out[i]);
    if (report[i] >= 0) (void)close(report[i]);
  }
  return rc;
}

void shim_vmm_kill(struct shim *s) {
  (void)kill(s->vmm, SIGKILL);
  blx__vm_cgroup_kill(&s->cgroup);
}

/* One sentence for people about how it ended. */
static void exit_sentence(const struct shim *s, int status, char *out, size_t size) {
  bool deadlined = s->state.flags & BLX__SHIM_DEADLINED, stopping = s->state.flags & BLX__SHIM_STOPPING;
  bool failed = WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
  const char *blamed = failed && !stopping ? shim_shares_blamed(WIFSIGNALED(status)) : NULL;
  if (blamed) {
    (void)blx__str_copy(out, size, blamed);
    return;
  }
  if (WIFSIGNALED(status) && deadlined)
    (void)blx__str_format(out, size, "the guest did not shut down within %u ms and was killed", s->state.deadline_ms);
  else if (WIFSIGNALED(status))
    (void)blx__str_format(out, size, "the monitor was killed by signal %d (%s)%s", WTERMSIG(status),
                          strsignal(WTERMSIG(status)), s->state.flags & BLX__SHIM_STOPPING ? ", as was asked" : "");
  else if (WEXITSTATUS(status) != 0)
    (void)blx__str_format(out, size, "the monitor ended with status %d: %s", WEXITSTATUS(status), s->console.line);
  else if (s->state.flags & BLX__SHIM_RESET)
    (void)blx__str_format(out, size, "the guest rebooted, or its kernel panicked: %s", s->console.line);
  else
    (void)blx__str_format(out, size, "the guest powered off%s",
                          s->state.flags & BLX__SHIM_STOPPING ? ", as was asked" : "");
}

/* Whole or absent, and on the disk before an agent hears of it. */
static void leave_record(struct shim *s) {
  struct blx__buf text;
  blx__buf_init(&text, BLX__SHIM_RECORD_MAX);
  int fd = -1;
  if (blx__shim_record_write(&s->state, &text))
    fd = openat(s->dir_fd, "exit.part", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd >= 0) {
    bool ok = write(fd, text.data, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    if (close(fd) == 0 && ok && renameat(s->dir_fd, "exit.part", s->dir_fd, "exit") == 0) (void)fsync(s->dir_fd);
  }
  blx__buf_free(&text);
}

void shim_vmm_reap(struct shim *s) {
  int status = 0;
  while (waitpid(s->vmm, &status, 0) < 0 && errno == EINTR) continue;
  if (s->qmp_fd >= 0) shim_qmp_readable(s); /* its last words say why */
  shim_shares_stop(s);
  blx__failpoint(BLX__FAILPOINT_SHIM_ENDED);
  /* Whatever it left behind goes first, so that the console's end is its end; the pipe holds at most 1 MiB. */
  (void)blx__vm_cgroup_remove(&s->cgroup);
  blx_error ignored;
  blx__rc devices = blx__host_devices_remove(s->dir_fd, shim_dir_name(s), &ignored);
  (void)devices; /* what stays is noted: the driver tries again, and says so */
  for (unsigned i = 0; i < 8 && shim_console_drain(&s->console, s->vmm_out); i++) continue;
  s->state.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  s->state.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  /* microvm.nix's monitors end instead of booting again, and a kernel that panics is told to reboot. */
  bool reset = blx__str_eq(s->qmp_shutdown, "guest-reset") || blx__str_eq(s->qmp_shutdown, "guest-panic");
  if (s->state.exit_status == 0 && reset) s->state.flags |= BLX__SHIM_RESET;
  char sentence[BLX__SHIM_TEXT_MAX + 1];
  exit_sentence(s, status, sentence, sizeof sentence);
  s->state.state = BLX__SHIM_EXITED;
  (void)blx__str_copy(s->state.text, sizeof s->state.text, sentence);
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  s->state.at_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  blx__failpoint(BLX__FAILPOINT_SHIM_RECORD);
  leave_record(s);
  blx__failpoint(BLX__FAILPOINT_SHIM_RECORDED);
  shim_session_end_all(s);
  shim_ctl_push(s, &s->state);
}
