/* blixardd: one node as a process of its own. Everything it does is in the library; this file gives it flags, a log,
 * signals and a word to the service manager. */
#include "blixardd_flags.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_FATAL = 70 };

/* What wakes the main thread. */
struct daemon {
  int signal_fd; /* SIGTERM or SIGINT came */
  int fatal_fd;  /* an eventfd: the node stopped itself */
};

/* One write for each line, so that lines of two threads never mix. What cannot be written is lost: there is nobody to
 * tell. */
static void log_line(void *user, int level, const char *component, const char *message) {
  static const char *const levels[] = {"error", "warning", "info", "debug"};
  char line[1280], when[32] = "";
  struct timespec now = {0};
  struct tm utc;
  (void)user;
  clock_gettime(CLOCK_REALTIME, &now);
  if (gmtime_r(&now.tv_sec, &utc) != NULL) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
  const char *name = level >= 0 && level <= BLX_LOG_DEBUG ? levels[level] : "debug";
  int n = snprintf(line, sizeof line, "%s.%03ldZ %-7s %s: %s\n", when, now.tv_nsec / 1000000, name, component, message);
  if (n >= (int)sizeof line) {
    n = (int)sizeof line - 1;
    line[n - 1] = '\n';
  }
  if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) errno = 0;
}

static void on_fatal(void *user, int code, const char *text) {
  const struct daemon *daemon = user;
  char line[640];
  uint64_t one = 1;
  snprintf(line, sizeof line, "the node stopped itself: %s [%s]", text, blx_error_name(code));
  log_line(NULL, BLX_LOG_ERROR, "daemon", line);
  if (write(daemon->fatal_fd, &one, sizeof one) < 0) errno = 0; /* an eventfd that is full has woken already */
}

/* sd_notify(3)'s protocol: one datagram to the socket that the service manager names. */
static void notify(const char *state) {
  const char *path = getenv("NOTIFY_SOCKET");
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (path == NULL || (path[0] != '/' && path[0] != '@')) return;
  size_t len = strlen(path);
  if (len >= sizeof to.sun_path) return;
  memcpy(to.sun_path, path, len);
  if (path[0] == '@') to.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to, size) < 0)
    log_line(NULL, BLX_LOG_WARNING, "daemon", "the service manager could not be told");
  close(fd);
}

/* Before any thread exists, so that all of them inherit the blocked signals. */
static int prepare_signals(struct daemon *daemon, sigset_t *ends) {
  sigemptyset(ends);
  sigaddset(ends, SIGTERM);
  sigaddset(ends, SIGINT);
  signal(SIGPIPE, SIG_IGN);
  if (sigprocmask(SIG_BLOCK, ends, NULL) != 0) return -1;
  daemon->signal_fd = signalfd(-1, ends, SFD_CLOEXEC);
  daemon->fatal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return daemon->signal_fd < 0 || daemon->fatal_fd < 0 ? -1 : 0;
}

/* Until a signal asks for the end (0) or the node stopped itself (EXIT_FATAL). */
static int wait_for_end(const struct daemon *daemon) {
  struct pollfd fds[] = {{.fd = daemon->fatal_fd, .events = POLLIN}, {.fd = daemon->signal_fd, .events = POLLIN}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) continue;
  if ((fds[0].revents & POLLIN) != 0) return EXIT_FATAL;
  struct signalfd_siginfo info;
  char line[96];
  if (read(daemon->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    snprintf(line, sizeof line, "%s: closing the node, its VMs run on",
             info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
    log_line(NULL, BLX_LOG_INFO, "daemon", line);
  }
  return EXIT_SUCCESS;
}

static int run(struct daemon *daemon, struct daemon_config *config, const sigset_t *ends) {
  blx_node *node = NULL;
  blx_error err = {0};
  char line[256];
  config->options.log = log_line;
  config->options.on_fatal = on_fatal;
  config->options.fatal_user = daemon;
  if (blx_node_open(&config->options, &node, &err) != 0) {
    fprintf(stderr, "blixardd: %s [%s]\n", err.message, blx_error_name(err.code));
    int status = blx_error_exit_status(err.code);
    return status != 0 ? status : EXIT_FAILURE;
  }
  snprintf(line, sizeof line, "node %s answers at %.160s", config->options.name, blx_node_address(node));
  if (config->options.log_level >= BLX_LOG_INFO) log_line(NULL, BLX_LOG_INFO, "daemon", line);
  notify("READY=1");
  int status = wait_for_end(daemon);
  notify("STOPPING=1");
  /* A second signal ends the process at once: a node survives that at any line. */
  sigprocmask(SIG_UNBLOCK, ends, NULL);
  blx_node_close(node);
  return status;
}

int main(int argc, char **argv) {
  static struct daemon_config config;
  struct daemon daemon = {-1, -1};
  sigset_t ends;
  switch (daemon_flags_parse(argc, argv, &config)) {
  case DAEMON_RUN: break;
  case DAEMON_DONE: return EXIT_SUCCESS;
  case DAEMON_BAD: return 2;
  }
  if (prepare_signals(&daemon, &ends) != 0) {
    fprintf(stderr, "blixardd: signals could not be set up: %s [IO]\n", strerror(errno));
    return EXIT_FAILURE;
  }
  int status = run(&daemon, &config, &ends);
  close(daemon.signal_fd);
  close(daemon.fatal_fd);
  return status;
}
