/* blixardd: one node as a process of its own. Everything it does is in the library; this file gives it a log, signals
 * and an end. */
#include "blixardd_config.h"
#include "blixardd_offline.h"
#include "blixardd_service.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum {
  EXIT_FATAL = 70,
  STOP_MS = 9000,   /* from the first signal to the end at the latest; the service manager allows more */
  REPORT_MS = 2000, /* how often a log line says what is waited for */
  EXTEND_US = 20000000,
  HEAP_STEP_BYTES = 1 << 20, /* by which the heap grows */
  HEAP_KEPT_BYTES = 8 << 20, /* free at its end, before the system gets it back */
};

struct daemon {
  struct daemon_config *config;
  blx_node *node;
  int open_code; /* of blx_node_open() */
  blx_error open_err;
  int signal_fd;       /* SIGTERM or SIGINT came */
  int wake_fd;         /* an eventfd: the node stopped itself, or what runs beside the main thread is done */
  atomic_bool fatal;   /* the node stopped itself */
  atomic_bool done;    /* the job is */
  uint64_t stop_at_ms; /* 0: no end was asked for */
};

static uint64_t now_ms(void) {
  struct timespec now = {0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* One write for each line, so that lines of two threads never mix. What cannot be written is lost: there is nobody to
 * tell. */
static void log_line(void *user, int level, const char *component, const char *message) {
  char line[1280], when[32] = "";
  struct timespec now = {0};
  struct tm utc;
  (void)user;
  clock_gettime(CLOCK_REALTIME, &now);
  if (gmtime_r(&now.tv_sec, &utc) != NULL) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
  int n = snprintf(line, sizeof line, "%s.%03ldZ %-7s %s: %s\n", when, now.tv_nsec / 1000000, daemon_level_name(level),
                   component, message);
  if (n >= (int)sizeof line) {
    n = (int)sizeof line - 1;
    line[n - 1] = '\n';
  }
  if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) errno = 0;
}

void daemon_log(int level, const char *message) {
  log_line(NULL, level, "daemon", message);
}

static void say(const struct daemon *d, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void say(const struct daemon *d, int level, const char *fmt, ...) {
  char line[1024];
  va_list ap;
  if (level > d->config->options.log_level) return;
  va_start(ap, fmt);
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  daemon_log(level, line);
}

static void wake(const struct daemon *d) {
  uint64_t one = 1;
  if (write(d->wake_fd, &one, sizeof one) < 0) errno = 0; /* an eventfd that is full has woken already */
}

static void on_fatal(void *user, int code, const char *text) {
  struct daemon *d = user;
  say(d, BLX_LOG_ERROR, "the node stopped itself: %s [%s]", text, blx_error_name(code));
  atomic_store(&d->fatal, true);
  wake(d);
}

/* Before any thread exists, so that all of them inherit the blocked signals. */
static int prepare_signals(struct daemon *d) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  signal(SIGPIPE, SIG_IGN);
  if (sigprocmask(SIG_BLOCK, &ends, NULL) != 0) return -1;
  d->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return d->signal_fd < 0 || d->wake_fd < 0 ? -1 : 0;
}

static int end_status(const struct daemon *d) {
  return atomic_load(&d->fatal) ? EXIT_FATAL : EXIT_SUCCESS;
}

/* Take what poll found. The first signal asks for the end; the second is not waited with: a node survives the death of
 * its process at any line. */
static void take_wakes(struct daemon *d, const char *doing) {
  struct signalfd_siginfo info;
  uint64_t count = 0;
  if (read(d->wake_fd, &count, sizeof count) < 0) errno = 0; /* nothing there: it was the signal */
  while (read(d->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    const char *name = info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM";
    if (d->stop_at_ms != 0) {
      say(d, BLX_LOG_INFO, "%s again: ends without waiting for %s", name, doing);
      _exit(end_status(d));
    }
    d->stop_at_ms = now_ms() + STOP_MS;
    say(d, BLX_LOG_INFO, "%s: ends after %s, its VMs run on", name, doing);
    service_notify("STOPPING=1\nSTATUS=ends after %s", doing);
  }
}

/* ---- opening and closing, beside the main thread, which hears signals meanwhile */

static void *open_node(void *arg) {
  struct daemon *d = arg;
  d->open_code = blx_node_open(&d->config->options, &d->node, &d->open_err);
  atomic_store(&d->done, true);
  wake(d);
  return NULL;
}

static void *close_node(void *arg) {
  struct daemon *d = arg;
  blx_node_close(d->node);
  atomic_store(&d->done, true);
  wake(d);
  return NULL;
}

/* Too late for an orderly end, which only saves the next start some work. */
static void check_overdue(const struct daemon *d, const char *doing) {
  if (d->stop_at_ms == 0 || now_ms() < d->stop_at_ms) return;
  say(d, BLX_LOG_WARNING, "%s takes longer than %d s: ends without it, nothing acknowledged is lost", doing,
      STOP_MS / 1000);
  _exit(end_status(d));
}

static bool run_job(struct daemon *d, void *(*job)(void *), const char *doing) {
  pthread_t thread;
  uint64_t began_ms = now_ms(), told_ms = began_ms;
  atomic_store(&d->done, false);
  int why = pthread_create(&thread, NULL, job, d);
  if (why != 0) {
    fprintf(stderr, "blixardd: no thread for %s: %s [IO]\n", doing, strerror(why));
    return false;
  }
  while (!atomic_load(&d->done)) {
    struct pollfd fds[] = {{.fd = d->wake_fd, .events = POLLIN}, {.fd = d->signal_fd, .events = POLLIN}};
    if (poll(fds, 2, 250) > 0) take_wakes(d, doing);
    check_overdue(d, doing);
    if (now_ms() - told_ms < REPORT_MS) continue;
    told_ms = now_ms();
    say(d, BLX_LOG_INFO, "waits for %s, %llu s so far", doing, (unsigned long long)(told_ms - began_ms) / 1000);
    service_notify("EXTEND_TIMEOUT_USEC=%d\nSTATUS=waits for %s", EXTEND_US, doing);
  }
  pthread_join(thread, NULL);
  return true;
}

/* ---- between them */

static void serve(struct daemon *d) {
  struct service_watch watch;
  blx_error err = {0};
  say(d, BLX_LOG_INFO, "node %s answers at %.160s", d->config->options.name, blx_node_address(d->node));
  service_notify("READY=1");
  if (service_watch_open(&watch, d->node, &err) != 0)
    say(d, BLX_LOG_WARNING, "the service manager hears nothing of this node's state: %s", err.message);
  uint64_t ask_at_ms = 0;
  while (d->stop_at_ms == 0 && !atomic_load(&d->fatal)) {
    struct pollfd fds[] = {{.fd = d->wake_fd, .events = POLLIN},
                           {.fd = d->signal_fd, .events = POLLIN},
                           {.fd = watch.answer_fd, .events = POLLIN}};
    uint64_t now = now_ms();
    if (watch.client != NULL && now >= ask_at_ms) {
      service_watch_ask(&watch);
      ask_at_ms = now + watch.every_ms;
    }
    int wait_ms = watch.client != NULL ? (int)(ask_at_ms - now) : -1;
    if (poll(fds, 3, wait_ms) <= 0) continue;
    if ((fds[0].revents | fds[1].revents) != 0) take_wakes(d, "closing the node");
    if ((fds[2].revents & POLLIN) != 0) service_watch_tell(&watch);
  }
  service_watch_close(&watch);
}

static int run(struct daemon *d) {
  d->config->options.log = log_line;
  d->config->options.on_fatal = on_fatal;
  d->config->options.fatal_user = d;
  if (!run_job(d, open_node, "opening the node")) return EXIT_FAILURE;
  if (d->open_code != 0) {
    fprintf(stderr, "blixardd: %s [%s]\n", d->open_err.message, blx_error_name(d->open_code));
    int status = d->open_code == BLX_E_FATAL ? EXIT_FATAL : blx_error_exit_status(d->open_code);
    return status != 0 ? status : EXIT_FAILURE;
  }
  if (d->stop_at_ms == 0) serve(d);
  if (d->stop_at_ms == 0) {
    /* It stopped itself. What it cannot close in time is left to the kernel. */
    d->stop_at_ms = now_ms() + STOP_MS;
    service_notify("STOPPING=1\nSTATUS=the node stopped itself; its log says why");
  }
  if (!run_job(d, close_node, "closing the node")) return EXIT_FAILURE;
  return end_status(d);
}

static int refuse_config(const struct daemon_config *config) {
  const char *whose = config->file != NULL ? config->file : "blixardd";
  if (config->findings > DAEMON_FINDINGS_MAX)
    fprintf(stderr, "%s: and %u more\n", whose, config->findings - DAEMON_FINDINGS_MAX);
  return 2;
}

/* What the command line and the file say, as far as it takes no node. -1: go on; else the exit status. */
static int prepare(int argc, char **argv, struct daemon_config *config) {
  daemon_config_init(config);
  enum daemon_parsed parsed = daemon_flags_parse(argc, argv, config);
  if (parsed != DAEMON_RUN) return parsed == DAEMON_DONE ? EXIT_SUCCESS : 2;
  bool read = daemon_file_read(config);
  daemon_config_finish(config);
  if (config->check && daemon_check(config))
    printf("blixardd: nothing wrong with %s\n", config->file != NULL ? config->file : "the command line");
  if (config->check && config->findings == 0) return EXIT_SUCCESS;
  if (config->check || !read) return refuse_config(config);
  if (!config->print) {
    int status = daemon_check_start(config);
    return status != 0 ? status : -1;
  }
  daemon_print(config);
  return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* One heap for all threads, for nearly everything is done by one of them. A thread's own heap would grow a page at a
 * time, with a system call for each. */
static void tune_heap(void) {
  (void)mallopt(M_ARENA_MAX, 1);
  (void)mallopt(M_TOP_PAD, HEAP_STEP_BYTES);
  (void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
}

int main(int argc, char **argv) {
  static struct daemon_config config; /* it and what it points to live as long as the process */
  struct daemon d = {.config = &config, .signal_fd = -1, .wake_fd = -1};
  tune_heap();
  int offline = daemon_offline(argc, argv);
  if (offline >= 0) return offline;
  /* First of all: a stop that comes while the file is read is a stop like any other. */
  if (prepare_signals(&d) != 0) {
    fprintf(stderr, "blixardd: signals could not be set up: %s [IO]\n", strerror(errno));
    return EXIT_FAILURE;
  }
  int status = prepare(argc, argv, &config);
  if (status < 0) status = run(&d);
  close(d.signal_fd);
  close(d.wake_fd);
  return status;
}
