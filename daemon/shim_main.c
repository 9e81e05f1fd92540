#include "shim.h"

#include "base/failpoint.h"
#include "host/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

uint64_t shim_now_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void shim_set_state(struct shim *s, enum blx__shim_state state, const char *text) {
  struct timespec t;
  (void)clock_gettime(CLOCK_REALTIME, &t);
  s->state.state = state;
  s->state.at_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
  (void)blx__str_copy(s->state.text, sizeof s->state.text, text);
  shim_ctl_push(s, &s->state);
}

const char *shim_dir_name(const struct shim *s) {
  const char *slash = strrchr(s->opt.dir, '/');
  BLX__ASSERT(slash);
  return slash + 1;
}

void shim_breach(struct shim *s, const char *sentence) {
  if (s->protocol[0]) return;
  (void)blx__str_copy(s->protocol, sizeof s->protocol, sentence);
  struct blx__shim_msg m = s->state;
  m.type = BLX__SHIM_PROTOCOL;
  (void)blx__str_copy(m.text, sizeof m.text, s->protocol);
  shim_ctl_push(s, &m);
}

/* ---- the poll loop */

enum {
  FD_VMM,
  FD_OUT,
  FD_IN,
  FD_QMP,
  FD_GUEST,
  FD_LISTEN,
  FD_CLIENTS,
  FD_SESSIONS = FD_CLIENTS + SHIM_CLIENTS_MAX,
  FD_SHARES = FD_SESSIONS + SHIM_SESSIONS_MAX,
  FDS = FD_SHARES + 2 * BLX__HOST_SHARES_MAX
};

static uint64_t soonest(uint64_t a, uint64_t b) {
  return b != 0 && b < a ? b : a;
}

/* Until the guest says ready; and later, if somebody wants of it what only a guest does that answered. */
static bool wants_hello(const struct shim *s) {
  if (s->guest_fd < 0) return false;
  return s->state.state == BLX__SHIM_RUNNING || (s->guest_version == 0 && shim_session_wants_hello());
}

/* Milliseconds until something is due; a second at most, which costs nothing measurable. */
static int wait_ms(const struct shim *s, uint64_t now) {
  uint64_t at = now + 1000;
  bool peers_missing = (s->qmp_fd < 0 && !s->qmp_broken) || s->guest_fd < 0;
  if (peers_missing) at = soonest(at, s->next_connect_ms);
  if (wants_hello(s)) at = soonest(at, s->next_hello_ms);
  if (s->stop_half_ms > now) at = soonest(at, s->stop_half_ms);
  at = soonest(at, s->stop_deadline_ms);
  at = soonest(at, shim_shares_due());
  at = soonest(at, s->stats_due_ms);
  return at <= now ? 0 : (int)(at - now);
}

static void stop_step(struct shim *s, uint64_t now) {
  if (s->guest_known && !s->guest_asked && s->guest_fd >= 0) {
    s->guest_asked = shim_guest_send(s, BLX__GUEST_SHUTDOWN, "");
  }
  /* The power button: at once for a guest without our agent, and for any that took half its time. */
  bool press = s->qmp_ready && !s->powerdown_sent && (!s->guest_known || now >= s->stop_half_ms);
  if (press) {
    s->powerdown_sent = true;
    shim_qmp_powerdown(s);
  }
  if (now < s->stop_deadline_ms) return;
  /* Again each second, should a process have been forked meanwhile. */
  s->state.flags |= BLX__SHIM_DEADLINED;
  shim_vmm_kill(s);
  s->stop_deadline_ms = now + 1000;
}

static void tick(struct shim *s, uint64_t now) {
  if (now >= s->next_connect_ms) {
    shim_peers_connect(s);
    /* Soon while it boots; later only a runner without our sockets is still asked. */
    s->next_connect_ms = now + (now < s->started_ms + SHIM_BOOT_MS ? SHIM_CONNECT_RETRY_MS : SHIM_CONNECT_LATE_MS);
  }
  if (wants_hello(s) && now >= s->next_hello_ms) {
    (void)shim_guest_send(s, BLX__GUEST_HELLO, s->opt.instance); /* full: the next one */
    s->next_hello_ms = now + SHIM_HELLO_RETRY_MS;
  }
  if (s->guest_version > 1 && now >= s->next_clock_ms) {
    shim_guest_clock(s);
    s->next_clock_ms = now + SHIM_CLOCK_MS;
  }
  shim_qmp_silence(s, now);
  if (s->stop_at_ms != 0) stop_step(s, now);
  shim_session_step(s, now);
  shim_shares_step(s, now);
  shim_stats_step(s, now);
  shim_guest_flush(s);
}

/* Set by SIGTERM, which a host sends to everybody when it goes down. */
static volatile sig_atomic_t terminated;

static void on_term(int signal_number) {
  (void)signal_number;
  terminated = 1;
}

static void set_polled(const struct shim *s, struct pollfd p[FDS]) {
  bool console = shim_session_polled(p + FD_SESSIONS);
  shim_shares_polled(p + FD_SHARES);
  p[FD_VMM] = (struct pollfd){.fd = s->vmm_fd, .events = POLLIN};
  p[FD_OUT] = (struct pollfd){.fd = s->vmm_out, .events = POLLIN};
  p[FD_IN] = (struct pollfd){.fd = console ? s->vmm_in : -1, .events = POLLOUT};
  p[FD_QMP] = (struct pollfd){.fd = s->qmp_fd, .events = POLLIN};
  p[FD_GUEST] = (struct pollfd){.fd = s->guest_fd, .events = POLLIN};
  p[FD_LISTEN] = (struct pollfd){.fd = s->listen_fd, .events = POLLIN};
  if (shim_guest_waits()) p[FD_GUEST].events |= POLLOUT;
  for (unsigned i = 0; i < SHIM_CLIENTS_MAX; i++)
    p[FD_CLIENTS + i] = (struct pollfd){.fd = s->client[i].fd, .events = POLLIN};
}

/* Returns when the monitor has ended and all is told. */
static void run(struct shim *s) {
  for (;;) {
    uint64_t now = shim_now_ms();
    if (terminated) shim_ctl_stop(s, SHIM_TERM_DEADLINE_MS);
    terminated = 0;
    tick(s, now);
    struct pollfd p[FDS];
    set_polled(s, p);
    if (poll(p, FDS, wait_ms(s, now)) < 0) continue;
    if (p[FD_OUT].revents && !shim_console_drain(&s->console, s->vmm_out)) {
      (void)close(s->vmm_out);
      s->vmm_out = -1;
    }
    if (p[FD_QMP].revents) shim_qmp_readable(s);
    if (p[FD_GUEST].revents & ~POLLOUT && s->guest_fd >= 0) shim_guest_readable(s);
    for (unsigned i = 0; i < SHIM_CLIENTS_MAX; i++)
      if (p[FD_CLIENTS + i].revents && s->client[i].fd >= 0) shim_ctl_readable(s, &s->client[i]);
    shim_session_events(s, p + FD_SESSIONS);
    if (p[FD_LISTEN].revents) shim_ctl_accept(s);
    shim_shares_events(p + FD_SHARES, now);
    if (p[FD_VMM].revents) {
      shim_vmm_reap(s);
      return;
    }
  }
}

/* ---- beginning */

/* The agent's descriptor, if that is our lock: then it was never free since before this process began. */
static void take_lent_lock(struct shim *s) {
  struct stat ours, lent;
  int fd = (int)s->opt.lock_fd;
  if (fd == 0 || fstat(s->lock_fd, &ours) != 0 || fstat(fd, &lent) != 0) return;
  if (ours.st_dev != lent.st_dev || ours.st_ino != lent.st_ino || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return;
  (void)close(s->lock_fd);
  s->lock_fd = fd;
}

static blx__rc open_dir(struct shim *s, blx_error *err) {
  s->dir_fd = open(s->opt.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (s->dir_fd < 0) return blx__fail_errno(err, errno, "shim", "%s cannot be entered", s->opt.dir);
  s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (s->lock_fd < 0) return blx__fail_errno(err, errno, "shim", "the lock of %s cannot be opened", s->opt.dir);
  take_lent_lock(s);
  /* A shim that has just told of its monitor's end holds the lock for a moment more. */
  bool locked = false;
  for (unsigned i = 0; !locked && i < SHIM_LOCK_ROUNDS; i++) {
    locked = flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0;
    if (!locked) (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  if (!locked) return blx__fail(err, BLX_E_CONFLICT, "shim", "another shim runs %s already", s->opt.dir);
  blx__failpoint(BLX__FAILPOINT_SHIM_LOCKED);
  /* The driver reads it when we die without a record. */
  char epoch[32];
  (void)blx__str_format(epoch, sizeof epoch, "%llu", (unsigned long long)s->opt.epoch);
  if (ftruncate(s->lock_fd, 0) != 0 || pwrite(s->lock_fd, epoch, strlen(epoch), 0) < 0)
    return blx__fail_errno(err, errno, "shim", "the lock of %s cannot be written", s->opt.dir);
  if (mkdirat(s->dir_fd, "work", 0700) != 0 && errno != EEXIST)
    return blx__fail_errno(err, errno, "shim", "the working directory cannot be made");
  s->work_fd = openat(s->dir_fd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (s->work_fd < 0) return blx__fail_errno(err, errno, "shim", "the working directory cannot be entered");
  if (s->opt.vmm_uid != 0 && fchown(s->work_fd, (uid_t)s->opt.vmm_uid, (gid_t)s->opt.vmm_gid) != 0)
    return blx__fail_errno(err, errno, "shim", "the working directory cannot be given to user %llu",
                           (unsigned long long)s->opt.vmm_uid);
  if (unlinkat(s->dir_fd, "exit", 0) != 0 && errno != ENOENT)
    return blx__fail_errno(err, errno, "shim", "the record of the last exit cannot be removed");
  (void)fsync(s->dir_fd);
  /* Sockets of the last run would be taken for this one's. */
  (void)unlinkat(s->work_fd, "blixard-qmp.sock", 0);
  (void)unlinkat(s->work_fd, "blixard-guest.sock", 0);
  return BLX__OK;
}

static blx__rc start_vmm(struct shim *s, char *text, size_t size, blx_error *err) {
  BLX__TRY(
      blx__host_devices_make(s->dir_fd, shim_dir_name(s), (uint32_t)s->opt.vmm_uid, (uint32_t)s->opt.vmm_gid, err));
  BLX__TRY(shim_shares_start(s, err));
  blx__rc rc = shim_vmm_spawn(s, err);
  bool as_self = rc.code == BLX_E_DENIED && s->opt.vmm_uid != 0 && s->opt.vmm_user_optional;
  if (!as_self || fchown(s->work_fd, 0, 0) != 0) return rc;
  (void)blx__str_format(text, size, "the monitor runs as user %u: user %llu cannot reach its runner", geteuid(),
                        (unsigned long long)s->opt.vmm_uid);
  s->opt.vmm_uid = 0;
  return shim_vmm_spawn(s, err);
}

static blx__rc begin(struct shim *s, blx_error *err) {
  BLX__TRY(open_dir(s, err));
  BLX__TRY(shim_console_open(&s->console, s->dir_fd, err));
  BLX__TRY(shim_ctl_open(s, err));
  char text[BLX__SHIM_TEXT_MAX + 1] = "the monitor runs";
  blx_error why;
  struct blx__vm_limits limits = {.memory_mib = s->opt.memory_mib, .vcpus = s->opt.vcpus};
  if (s->opt.cgroup) {
    /* What an earlier shim, killed, may have left must be dead before this monitor starts: never twice. */
    blx__vm_cgroup_find(&s->cgroup, s->opt.cgroup);
    if (!blx__vm_cgroup_remove(&s->cgroup))
      return blx__fail(err, BLX_E_CONFLICT, "shim", "an earlier monitor in the cgroup %s does not die", s->opt.cgroup);
  }
  if (s->opt.cgroup && blx__vm_cgroup_make(&s->cgroup, s->opt.cgroup, &limits, &why).code != 0) {
    if (s->opt.cgroup_required) {
      (void)blx__vm_cgroup_remove(&s->cgroup);
      return blx__fail_as(err, &why);
    }
    s->state.flags |= BLX__SHIM_NO_LIMITS;
    (void)blx__str_format(text, sizeof text, "the monitor runs without limits: %s", why.message);
  }
  blx__failpoint(BLX__FAILPOINT_SHIM_CGROUP);
  blx__rc rc = {0};
  if (s->opt.start_before_ms != 0 && shim_now_ms() >= s->opt.start_before_ms)
    rc = blx__fail(err, BLX_E_TIMEOUT, "shim", "its node's lease ended before the monitor was started");
  if (rc.code == 0) rc = start_vmm(s, text, sizeof text, err);
  if (rc.code != 0) {
    shim_shares_stop(s);
    (void)blx__vm_cgroup_remove(&s->cgroup);
    (void)unlinkat(s->dir_fd, "ctl.sock", 0);
    blx__rc devices = blx__host_devices_remove(s->dir_fd, shim_dir_name(s), &why);
    (void)devices; /* what stays is noted: the driver tries again, and says so */
    return rc;
  }
  blx__failpoint(BLX__FAILPOINT_SHIM_SPAWNED);
  s->started_ms = shim_now_ms();
  shim_set_state(s, s->opt.ready_none ? BLX__SHIM_READY : BLX__SHIM_RUNNING, text);
  return BLX__OK;
}

struct failure {
  int code;
  char message[512];
};

/* The process that goes on: it tells its parent over @report how it went: nothing is success. */
static int serve(struct shim *s, int report) {
  blx_error err;
  (void)setsid();
  (void)umask(0077);
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGTERM, on_term);
  if (chdir("/") != 0) return 1;
  if (begin(s, &err).code != 0) {
    struct failure f = {.code = err.code};
    (void)blx__str_copy(f.message, sizeof f.message, err.message);
    return write(report, &f, sizeof f) == (ssize_t)sizeof f ? 0 : 1;
  }
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; null_fd >= 0 && fd < 3; fd++) (void)dup2(null_fd, fd);
  (void)close(null_fd);
  (void)close(report);
  run(s);
  blx__failpoint(BLX__FAILPOINT_SHIM_TOLD);
  (void)unlinkat(s->dir_fd, "ctl.sock", 0);
  return 0;
}

static bool number_option(const char *text, uint64_t *out) {
  return blx__parse_u64(text, 0, INT64_MAX, out);
}

static const struct option long_options[] = {
    {"dir", required_argument, NULL, 'd'},
    {"instance", required_argument, NULL, 'i'},
    {"uid", required_argument, NULL, 'u'},
    {"epoch", required_argument, NULL, 'e'},
    {"lock-fd", required_argument, NULL, 'l'},
    {"memory-mib", required_argument, NULL, 'm'},
    {"vcpus", required_argument, NULL, 'c'},
    {"vmm-uid", required_argument, NULL, 'U'},
    {"vmm-gid", required_argument, NULL, 'G'},
    {"cgroup", required_argument, NULL, 'g'},
    {"cgroup-required", no_argument, NULL, 'r'},
    {"ready-none", no_argument, NULL, 'n'},
    {"vmm-user-optional", no_argument, NULL, 'o'},
    {"start-before-ms", required_argument, NULL, 'b'},
    {"share-paths", required_argument, NULL, 'p'},
    {"virtiofsd", required_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

static bool parse_options(int argc, char **argv, struct shim_options *o) {
  int c;
  bool ok = true;
  while (ok && (c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
    switch (c) {
    case 'd': o->dir = optarg; break;
    case 'i': o->instance = optarg; break;
    case 'g': o->cgroup = optarg; break;
    case 'u': ok = number_option(optarg, &o->uid); break;
    case 'e': ok = number_option(optarg, &o->epoch); break;
    case 'l': ok = number_option(optarg, &o->lock_fd) && o->lock_fd > 2 && o->lock_fd < 1024; break;
    case 'm': ok = number_option(optarg, &o->memory_mib) && o->memory_mib <= 1 << 24; break;
    case 'c': ok = number_option(optarg, &o->vcpus) && o->vcpus <= 4096; break;
    case 'b': ok = number_option(optarg, &o->start_before_ms); break;
    case 'U': ok = number_option(optarg, &o->vmm_uid) && o->vmm_uid < UINT32_MAX; break;
    case 'G': ok = number_option(optarg, &o->vmm_gid) && o->vmm_gid < UINT32_MAX; break;
    case 'r': o->cgroup_required = true; break;
    case 'n': o->ready_none = true; break;
    case 'o': o->vmm_user_optional = true; break;
    case 'p': o->share_paths = optarg; break;
    case 'v': o->virtiofsd = optarg; break;
    default: ok = false;
    }
  }
  return ok && optind == argc && o->dir && o->dir[0] == '/' && o->instance && o->memory_mib > 0 && o->vcpus > 0;
}

int main(int argc, char **argv) {
  struct shim s = {
      .dir_fd = -1, .vmm_fd = -1, .vmm_out = -1, .vmm_in = -1, .qmp_fd = -1, .guest_fd = -1, .listen_fd = -1};
  for (unsigned i = 0; i < SHIM_CLIENTS_MAX; i++) s.client[i].fd = -1;
  if (!parse_options(argc, argv, &s.opt)) {
    fputs("usage: blixard-shim --dir DIR --instance NAME --uid N --epoch N --memory-mib N --vcpus N\n"
          "  [--vmm-uid N --vmm-gid N [--vmm-user-optional]] [--cgroup NAME [--cgroup-required]] [--ready-none]\n"
          "  [--lock-fd N] [--start-before-ms BOOTTIME] [--share-paths DIR:DIR] [--virtiofsd PATH]\n",
          stderr);
    return 2;
  }
  s.state = (struct blx__shim_msg){.type = BLX__SHIM_STATE,
                                   .uid = s.opt.uid,
                                   .epoch = s.opt.epoch,
                                   .exit_status = -1,
                                   .state = BLX__SHIM_RUNNING,
                                   .flags = BLX__SHIM_COUNTS};
  blx__qmp_init(&s.qmp);
  blx_error err;
  blx__rc armed = blx__failpoint_arm(&err);
  if (armed.code != 0) {
    fprintf(stderr, "blixard-shim: %s\n", err.message);
    return 2;
  }
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    perror("blixard-shim: pipe");
    return 1;
  }
  pid_t child = fork();
  if (child < 0) {
    perror("blixard-shim: fork");
    return 1;
  }
  if (child == 0) return serve(&s, report[1]);
  (void)close(report[1]);
  struct failure f;
  ssize_t n;
  do n = read(report[0], &f, sizeof f);
  while (n < 0 && errno == EINTR);
  if (n == 0) return 0;
  if (n != (ssize_t)sizeof f) return 1;
  f.message[sizeof f.message - 1] = '\0';
  fprintf(stderr, "%s\n", f.message);
  return SHIM_CODE_BASE - f.code;
}
