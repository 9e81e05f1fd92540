#include "watchdog.h"

#include "lease/page.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_TAKEN = 5, PRIORITY = 50 };

struct options {
  const char *page, *device;
  const char *group[WATCHDOG_GROUPS_MAX];
  unsigned groups;
  uint64_t device_s;
};

struct watchdog {
  struct options opt;
  struct blx__lease_page *page;
  int device; /* negative: none */
};

static volatile sig_atomic_t terminated;

static void on_term(int signal_number) {
  (void)signal_number;
  terminated = 1;
}

static bool all(const struct watchdog *w, bool (*each)(const char *dir)) {
  bool ok = true;
  for (unsigned i = 0; i < w->opt.groups; i++) ok = each(w->opt.group[i]) && ok;
  return ok;
}

/* Nobody needs it: it was asked to go, or has been without an agent for long; and nothing is left to be killed. */
static bool may_end(const struct watchdog *w, uint64_t now) {
  uint64_t owned = blx__lease_page_owned_at(w->page);
  bool wanted = !terminated && now < owned + BLX__LEASE_OWNER_MS;
  return !wanted && all(w, watchdog_is_empty);
}

/* Past the time, at every turn anew: an agent that starts something then does not get away with it. */
static bool turn(struct watchdog *w, uint64_t now) {
  bool over = now >= blx__lease_page_kill_at(w->page);
  bool stuck = over && !all(w, watchdog_kill);
  if (w->device >= 0 && !stuck) watchdog_device_pet(w->device);
  blx__lease_page_looked(w->page, now, stuck);
  return !over || stuck || !may_end(w, now);
}

static void run(struct watchdog *w) {
  while (turn(w, blx__lease_boot_ms())) (void)poll(NULL, 0, BLX__LEASE_TURN_MS);
  blx__lease_page_looked(w->page, 0,
                         false); /* nobody looks from now on: an agent that goes on just now sees it at once */
  if (w->device >= 0) watchdog_device_release(w->device);
}

/* What keeps it running when the machine is short of memory or time. What is refused is said, not fatal: in a container
 * it still does its work. */
static void hold_on(struct watchdog *w) {
  static const char sure[] = "-1000";
  struct sched_param priority = {.sched_priority = PRIORITY};
  if (!blx__lease_page_pin(w->page) || mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
    fprintf(stderr, "blixard-watchdog: its memory cannot be locked: %s\n", strerror(errno));
  if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) != 0)
    fprintf(stderr, "blixard-watchdog: no real-time priority: %s\n", strerror(errno));
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, sure, sizeof sure - 1) < 0)
    fprintf(stderr, "blixard-watchdog: it may be killed when memory is short: %s\n", strerror(errno));
  if (fd >= 0) (void)close(fd);
}

/* The process that goes on. It says over @report that it looks: one byte. */
static int serve(struct watchdog *w, int report) {
  blx_error err;
  (void)setsid();
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGTERM, on_term);
  (void)signal(SIGINT, SIG_IGN);
  (void)signal(SIGHUP, SIG_IGN);
  if (blx__lease_page_open(w->opt.page, &w->page, &err).code != 0) {
    fprintf(stderr, "blixard-watchdog: %s\n", err.message);
    return 1;
  }
  if (!blx__lease_page_take_watch(w->page)) return EXIT_TAKEN;
  if (w->opt.device) {
    w->device = watchdog_device_open(w->opt.device, (unsigned)w->opt.device_s);
    if (w->device < 0) return 1;
  }
  blx__lease_page_set_device(w->page, w->device >= 0 ? w->opt.device_s : 0);
  hold_on(w);
  /* An agent that starts it has it for a while. */
  blx__lease_page_owned(w->page, blx__lease_boot_ms());
  (void)turn(w, blx__lease_boot_ms());
  if (chdir("/") != 0 || write(report, "", 1) != 1) return 1;
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; null_fd >= 0 && fd < 3; fd++) (void)dup2(null_fd, fd);
  (void)close(null_fd);
  (void)close(report);
  run(w);
  blx__lease_page_close(w->page);
  return 0;
}

static const struct option long_options[] = {
    {"page", required_argument, NULL, 'p'},
    {"group", required_argument, NULL, 'g'},
    {"device", required_argument, NULL, 'd'},
    {"device-s", required_argument, NULL, 's'},
    {NULL, 0, NULL, 0},
};

static bool parse_options(int argc, char **argv, struct options *o) {
  int c;
  bool ok = true;
  while (ok && (c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
    switch (c) {
    case 'p': o->page = optarg; break;
    case 'g':
      ok = o->groups < WATCHDOG_GROUPS_MAX && optarg[0] == '/';
      if (ok) o->group[o->groups++] = optarg;
      break;
    case 'd': o->device = optarg; break;
    case 's': ok = blx__parse_u64(optarg, 1, 300, &o->device_s); break;
    default: ok = false;
    }
  }
  return ok && optind == argc && o->page && o->page[0] == '/' && o->groups > 0 && !o->device == !o->device_s;
}

int main(int argc, char **argv) {
  struct watchdog w = {.device = -1};
  int report[2];
  char looked;
  if (!parse_options(argc, argv, &w.opt)) {
    fputs("usage: blixard-watchdog --page FILE --group DIR... [--device PATH --device-s SECONDS]\n"
          "  kills what is in the control groups when the page says so; goes on in the background\n",
          stderr);
    return EXIT_USAGE;
  }
  if (pipe2(report, O_CLOEXEC) != 0) {
    perror("blixard-watchdog: pipe");
    return 1;
  }
  pid_t child = fork();
  if (child < 0) {
    perror("blixard-watchdog: fork");
    return 1;
  }
  if (child == 0) {
    (void)close(report[0]);
    return serve(&w, report[1]);
  }
  (void)close(report[1]);
  ssize_t n;
  do n = read(report[0], &looked, 1);
  while (n < 0 && errno == EINTR);
  if (n == 1) return 0;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
}
