/* A virtiofsd for each directory that the runner shares with its guest. We hand it a socket that listens already, which
 * the monitor's user may connect to, and a view of the file system in which the directory lies where it looks; it shuts
 * itself in there, in namespaces of its own. */
#include "shim.h"

#include "host/share.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char origin[] = "shim/share", place[] = "mnt";
static const char waits[] = "Waiting for vhost-user socket connection"; /* as every virtiofsd says when it is up */

enum { LISTEN_FD = 3, OUTPUT_MAX = 240 };

struct served {
  struct blx__host_share share;
  pid_t pid; /* 0: it ended, or was never there */
  int pid_fd, out;
  bool up;
  char said[OUTPUT_MAX + 1]; /* the end of its output, printable */
  size_t said_len;
  bool cut; /* there was more before */
};

static struct served served[BLX__HOST_SHARES_MAX];
static unsigned served_count;
static char broken[BLX__SHIM_TEXT_MAX + 1]; /* why one ended while the monitor ran; empty: none did */
static bool broken_badly;                   /* by a signal or with a status, not because the monitor was gone */
static bool broken_killed;                  /* and the monitor was killed for it */
static uint64_t broken_due_ms;              /* the monitor, which has lost a file system, is killed then; 0: no */

/* ---- beginning */

static bool find_program(const struct shim_options *opt, char out[PATH_MAX]) {
  static const char *const known[] = {"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"};
  if (opt->virtiofsd) return blx__str_copy(out, PATH_MAX, opt->virtiofsd) && access(out, X_OK) == 0;
  for (const char *at = getenv("PATH"); at && *at;) {
    size_t n = strcspn(at, ":");
    if (*at == '/' && blx__str_format(out, PATH_MAX, "%.*s/virtiofsd", (int)n, at) && access(out, X_OK) == 0)
      return true;
    at += n + (at[n] == ':');
  }
  for (size_t i = 0; i < BLX__COUNT(known); i++)
    if (blx__str_copy(out, PATH_MAX, known[i]) && access(out, X_OK) == 0) return true;
  return false;
}

static blx__rc listen_at(const struct shim *s, const struct blx__host_share *share, int *out, blx_error *err) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  bool fits = blx__str_format(addr.sun_path, sizeof addr.sun_path, "/proc/self/fd/%d/%s", s->work_fd, share->socket);
  int fd = fits ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
  bool ok =
      fd >= 0 && (unlinkat(s->work_fd, share->socket, 0) == 0 || errno == ENOENT) &&
      bind(fd, (const struct sockaddr *)&addr, sizeof addr) == 0 &&
      fchownat(s->work_fd, share->socket, (uid_t)s->opt.vmm_uid, (gid_t)s->opt.vmm_gid, AT_SYMLINK_NOFOLLOW) == 0 &&
      listen(fd, 1) == 0;
  if (ok) {
    *out = fd;
    return BLX__OK;
  }
  int errnum = errno;
  if (fd >= 0) (void)close(fd);
  return blx__fail_errno(err, errnum, origin, "the socket %s of share %s cannot be made", share->socket, share->tag);
}

static _Noreturn void fail(const char *step) {
  dprintf(2, "%s: %s\n", step, strerror(errno));
  _exit(127);
}

/* The directory at DIR/mnt, for nobody else to see; what lies there can give no privileges and open no device. */
static void mount_source(const char *at, const struct blx__host_share *share) {
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
  if (share->read_only) attr.attr_set |= MOUNT_ATTR_RDONLY;
  /* Detached first: a descriptor of the mounts that are left behind cannot be mounted. */
  int tree = open_tree(share->source, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
  if (tree < 0) fail("opening the source");
  if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) != 0) fail("restricting the source");
  if (unshare(CLONE_NEWNS) != 0) fail("taking mounts of its own");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail("keeping its mounts to itself");
  if (move_mount(tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) != 0) fail("mounting the source");
}

static _Noreturn void become_virtiofsd(const struct shim *s, const struct blx__host_share *share, char *program,
                                       pid_t parent, int listener, int out) {
  char at[PATH_MAX], source[PATH_MAX + 16], fd[16];
  struct rlimit files;
  shim_child_begin();
  int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(126);
  if (!blx__vm_cgroup_join(&s->cgroup)) fail("joining the cgroup");
  if (!blx__str_format(at, sizeof at, "%s/%s", s->opt.dir, place)) fail("naming the source");
  mount_source(at, share);
  /* The highest number is whatever it may have: what it may not have it must not try to get. */
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("giving up new privileges");
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) fail("following the shim");
  if (getppid() != parent) _exit(126);
  if (chdir("/") != 0) fail("leaving its directory");
  /* dup2 onto itself would leave it to be closed. */
  if (listener == LISTEN_FD ? fcntl(LISTEN_FD, F_SETFD, 0) != 0 : dup2(listener, LISTEN_FD) < 0) fail("its socket");
  (void)blx__str_format(fd, sizeof fd, "--fd=%d", LISTEN_FD);
  (void)blx__str_format(source, sizeof source, "source=%s", at);
  char *argv[] = {program, fd,      "-f", "--rlimit-nofile=0", "-o", source, "-o", "sandbox=namespace",
                  "-o",    "xattr", "-o", "modcaps=-mknod",    NULL};
  char *env[] = {"PATH=/usr/bin:/bin", NULL};
  (void)execve(program, argv, env);
  fail("running it");
}

static blx__rc spawn(struct shim *s, struct served *v, char *program, blx_error *err) {
  int listener = -1, out[2] = {-1, -1};
  pid_t self = getpid();
  BLX__TRY(listen_at(s, &v->share, &listener, err));
  bool piped = pipe2(out, O_CLOEXEC) == 0 && fcntl(out[0], F_SETFL, O_NONBLOCK) == 0;
  pid_t pid = piped ? fork() : -1;
  if (pid == 0) become_virtiofsd(s, &v->share, program, self, listener, out[1]);
  int errnum = errno;
  (void)close(listener);
  if (out[1] >= 0) (void)close(out[1]);
  v->out = out[0];
  if (pid < 0) return blx__fail_errno(err, errnum, origin, "no process for the virtiofsd of share %s", v->share.tag);
  v->pid = pid;
  v->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
  return v->pid_fd >= 0
             ? BLX__OK
             : blx__fail_errno(err, errno, origin, "the virtiofsd of share %s cannot be watched", v->share.tag);
}

/* ---- its output and its end */

static void keep(struct served *v, const char *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (v->said_len == OUTPUT_MAX) {
      memmove(v->said, v->said + OUTPUT_MAX / 2, OUTPUT_MAX / 2);
      v->said_len = OUTPUT_MAX / 2;
      v->cut = true;
    }
    char c = bytes[i] >= ' ' && bytes[i] < 127 ? bytes[i] : ' ';
    if (c != ' ' || (v->said_len > 0 && v->said[v->said_len - 1] != ' ')) v->said[v->said_len++] = c;
  }
  v->said[v->said_len] = '\0';
  if (strstr(v->said, waits)) v->up = true;
}

static void drain(struct served *v) {
  char bytes[512];
  ssize_t n = -1;
  for (unsigned i = 0; i < 16 && v->out >= 0 && (n = read(v->out, bytes, sizeof bytes)) > 0; i++)
    keep(v, bytes, (size_t)n);
  if (v->out >= 0 && n == 0) {
    (void)close(v->out);
    v->out = -1;
  }
}

/* It has ended: how, as a sentence. False: as it should. */
static bool reap(struct served *v, char *text, size_t size) {
  char how[48];
  int status = 0;
  while (waitpid(v->pid, &status, 0) < 0 && errno == EINTR) continue;
  v->pid = 0;
  (void)close(v->pid_fd);
  v->pid_fd = -1;
  drain(v);
  while (v->said_len > 0 && v->said[v->said_len - 1] == ' ') v->said[--v->said_len] = '\0';
  if (WIFSIGNALED(status))
    (void)blx__str_format(how, sizeof how, "was killed by signal %d", WTERMSIG(status));
  else
    (void)blx__str_format(how, sizeof how, "ended with status %d", WEXITSTATUS(status));
  (void)blx__str_format(text, size, "the virtiofsd of share %s %s: %s%s", v->share.tag, how, v->cut ? "..." : "",
                        v->said[0] ? v->said : "it said nothing");
  return WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
}

/* Until each is up, or has lived for so long that its silence means nothing: its socket listens since before. */
static blx__rc await_all(blx_error *err) {
  char text[BLX__SHIM_TEXT_MAX + 1];
  uint64_t until = shim_now_ms() + SHIM_SHARE_WAIT_MS;
  for (uint64_t now = until - SHIM_SHARE_WAIT_MS; now < until; now = shim_now_ms()) {
    struct pollfd p[2 * BLX__HOST_SHARES_MAX];
    unsigned missing = 0;
    for (unsigned i = 0; i < served_count; i++) missing += !served[i].up;
    if (missing == 0) return BLX__OK;
    shim_shares_polled(p);
    if (poll(p, 2 * served_count, (int)(until - now)) < 0) continue;
    for (unsigned i = 0; i < served_count; i++) {
      drain(&served[i]);
      if (p[2 * i].revents == 0) continue;
      (void)reap(&served[i], text, sizeof text);
      return blx__fail(err, BLX_E_IO, origin, "%s", text);
    }
  }
  return BLX__OK;
}

blx__rc shim_shares_start(struct shim *s, blx_error *err) {
  struct blx__host_share shares[BLX__HOST_SHARES_MAX];
  char program[PATH_MAX];
  unsigned count = 0;
  BLX__ASSERT(served_count == 0);
  BLX__TRY(blx__host_shares_open(s->dir_fd, s->opt.share_paths, (uint32_t)s->opt.vmm_uid, (uint32_t)s->opt.vmm_gid,
                                 shares, &count, err));
  if (count == 0) return BLX__OK;
  blx__rc rc = BLX__OK;
  if (geteuid() != 0)
    rc = blx__fail(err, BLX_E_DENIED, origin, "only root can share directories with a VM: run the daemon as root");
  else if (!find_program(&s->opt, program))
    rc = blx__fail(err, BLX_E_UNSUPPORTED, origin,
                   "this host has no virtiofsd, which shares need%s%s: install qemu-system-common or virtiofsd, or set "
                   "virtiofsd in the daemon's configuration to where it is",
                   s->opt.virtiofsd ? " at " : "", s->opt.virtiofsd ? s->opt.virtiofsd : "");
  else if (strchr(s->opt.dir, ','))
    rc = blx__fail(err, BLX_E_INVALID, origin, "virtiofsd cannot share below a path with a comma: %s", s->opt.dir);
  else if (mkdirat(s->dir_fd, place, 0700) != 0 && errno != EEXIST)
    rc = blx__fail_errno(err, errno, origin, "the directory %s cannot be made", place);
  if (rc.code != 0) {
    blx__host_shares_close(shares, count);
    return rc;
  }
  for (unsigned i = 0; i < count; i++) served[i] = (struct served){.share = shares[i], .pid_fd = -1, .out = -1};
  served_count = count;
  for (unsigned i = 0; i < count && rc.code == 0; i++) rc = spawn(s, &served[i], program, err);
  if (rc.code == 0) rc = await_all(err);
  for (unsigned i = 0; i < count; i++) blx__host_shares_close(&served[i].share, 1);
  if (rc.code != 0) shim_shares_stop(s);
  return rc;
}

/* ---- while the monitor runs */

void shim_shares_polled(struct pollfd p[2 * BLX__HOST_SHARES_MAX]) {
  for (unsigned i = 0; i < BLX__HOST_SHARES_MAX; i++) {
    bool there = i < served_count;
    p[2 * i] = (struct pollfd){.fd = there ? served[i].pid_fd : -1, .events = POLLIN};
    p[2 * i + 1] = (struct pollfd){.fd = there ? served[i].out : -1, .events = POLLIN};
  }
}

void shim_shares_events(const struct pollfd p[2 * BLX__HOST_SHARES_MAX], uint64_t now) {
  char text[BLX__SHIM_TEXT_MAX + 1];
  for (unsigned i = 0; i < served_count; i++) {
    if (p[2 * i + 1].revents) drain(&served[i]);
    if (!p[2 * i].revents || served[i].pid == 0) continue;
    bool badly = reap(&served[i], text, sizeof text);
    if (broken[0]) continue;
    broken_badly = badly;
    (void)blx__str_copy(broken, sizeof broken, text);
    /* Each ends when its monitor does, and that may be told to us first. */
    broken_due_ms = now + SHIM_SHARE_GRACE_MS;
  }
}

uint64_t shim_shares_due(void) {
  return broken_due_ms;
}

void shim_shares_step(struct shim *s, uint64_t now) {
  if (broken_due_ms == 0 || now < broken_due_ms) return;
  broken_killed = true;
  shim_vmm_kill(s);
  broken_due_ms = now + SHIM_SHARE_GRACE_MS;
}

const char *shim_shares_blamed(bool monitor_signalled) {
  /* A monitor that cannot go on without it ends by itself, with a status; one that dies takes it along. */
  return broken_killed || (broken_badly && !monitor_signalled) ? broken : NULL;
}

void shim_shares_stop(struct shim *s) {
  char ignored[BLX__SHIM_TEXT_MAX + 1];
  for (unsigned i = 0; i < served_count; i++) {
    struct served *v = &served[i];
    if (v->pid > 0) (void)kill(v->pid, SIGKILL);
    if (v->pid > 0) (void)reap(v, ignored, sizeof ignored);
    if (v->out >= 0) (void)close(v->out);
    (void)unlinkat(s->work_fd, v->share.socket, 0);
  }
  served_count = 0;
  broken_due_ms = 0;
}
