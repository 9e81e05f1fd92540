/* blixard-guest: runs inside a guest and tells the host, over a virtio-serial port, that the system is up; answers
 * pings; runs commands for it; keeps to its clock; powers off when asked. Static, no threads, no allocation.
 *
 * usage: blixard-guest [--port PATH] [--name-host] [--power-off]
 *   --port PATH   the port; otherwise it is found by its name
 *   --name-host   take the instance's name as the host name
 *   --power-off   when asked to shut down, sync and power off directly; otherwise run `poweroff`, which a full system
 * has */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { PORTS_MAX = 32, RETRY_MS = 200, READ_BYTES = 4096 };

void guest_say(const char *fmt, ...) {
  char line[400] = "blixard-guest: ";
  size_t used = strlen(line);
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(line + used, sizeof line - used - 1, fmt, ap);
  va_end(ap);
  if (n < 0) return;
  used = strlen(line);
  line[used++] = '\n';
  /* The console may be gone; there is nobody else to tell. */
  if (write(STDOUT_FILENO, line, used) < 0) return;
}

uint64_t guest_now_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_ms(long ms) {
  struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  (void)nanosleep(&t, NULL);
}

/* Udev's links are not there in a small guest, so the names in sysfs decide. */
static bool find_port(char *path, size_t size) {
  for (int bus = 0; bus < PORTS_MAX; bus++) {
    for (int port = 0; port < PORTS_MAX; port++) {
      char name[80] = "", file[96];
      (void)snprintf(file, sizeof file, "/sys/class/virtio-ports/vport%dp%d/name", bus, port);
      int fd = open(file, O_RDONLY | O_CLOEXEC);
      if (fd < 0) continue;
      ssize_t n = read(fd, name, sizeof name - 1);
      (void)close(fd);
      if (n <= 0) continue;
      name[strcspn(name, "\n")] = '\0';
      if (strcmp(name, BLX__GUEST_PORT_NAME) != 0) continue;
      (void)snprintf(path, size, "/dev/vport%dp%d", bus, port);
      return true;
    }
  }
  return false;
}

static void open_port(struct guest_agent *a) {
  char found[96];
  bool told = false;
  for (;;) {
    const char *path = a->port;
    if (!path && find_port(found, sizeof found)) path = found;
    a->fd = path ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
    if (a->fd >= 0) return;
    if (!told) guest_say("waiting for the port " BLX__GUEST_PORT_NAME);
    told = true;
    pause_ms(RETRY_MS);
  }
}

bool guest_queue(struct guest_agent *a, const struct blx__guest_msg *msg) {
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  size_t n = blx__guest_write(msg, frame);
  if (n > GUEST_OUT_MAX - a->out_len) return false;
  memcpy(a->out + a->out_len, frame, n);
  a->out_len += n;
  return true;
}

/* The port takes nothing while nobody reads on the host: it waits in the queue then. */
static void flush(struct guest_agent *a) {
  size_t at = 0;
  while (at < a->out_len) {
    ssize_t n = write(a->fd, a->out + at, a->out_len - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    at += (size_t)n;
  }
  a->out_len -= at;
  memmove(a->out, a->out + at, a->out_len);
}

/* When the queue is full the message is dropped; the host asks again. */
static void send_msg(struct guest_agent *a, enum blx__guest_type type, uint64_t value, const char *text) {
  struct blx__guest_msg msg = {.type = type, .value = value};
  (void)snprintf(msg.text, sizeof msg.text, "%s", text);
  (void)guest_queue(a, &msg);
}

static void shut_down(struct guest_agent *a) {
  guest_say("shutting down, as the host asks");
  send_msg(a, BLX__GUEST_STOPPING, 0, "");
  flush(a);
  sync();
  if (!a->power_off) {
    pid_t child = fork();
    if (child == 0) {
      sigset_t none;
      (void)sigemptyset(&none);
      (void)sigprocmask(SIG_SETMASK, &none, NULL);
      (void)signal(SIGPIPE, SIG_DFL);
      (void)execlp("poweroff", "poweroff", (char *)NULL);
      _exit(127);
    }
    return;
  }
  (void)reboot(RB_POWER_OFF);
  guest_say("power off failed: %s", strerror(errno));
}

static void on_msg(struct guest_agent *a, const struct blx__guest_msg *msg) {
  switch (msg->type) {
  case BLX__GUEST_HELLO:
    if (!a->named && msg->text[0] != '\0') {
      a->named = true;
      if (a->name_host && sethostname(msg->text, strlen(msg->text)) != 0) guest_say("host name: %s", strerror(errno));
      guest_say("this is %s", msg->text);
    }
    send_msg(a, BLX__GUEST_HELLO, BLX__GUEST_VERSION, a->hello);
    send_msg(a, BLX__GUEST_READY, 0, "");
    return;
  case BLX__GUEST_PING: send_msg(a, BLX__GUEST_PONG, msg->value, ""); return;
  case BLX__GUEST_SHUTDOWN: shut_down(a); return;
  case BLX__GUEST_EXEC:
  case BLX__GUEST_EXEC_STDIN:
  case BLX__GUEST_EXEC_EOF:
  case BLX__GUEST_EXEC_RESIZE:
  case BLX__GUEST_EXEC_KILL:
  case BLX__GUEST_EXEC_CREDIT: guest_exec_message(a, msg); return;
  case BLX__GUEST_CLOCK: guest_clock(msg); return;
  case BLX__GUEST_STATS: guest_stats(a, msg->session); return;
  case BLX__GUEST_READY:
  case BLX__GUEST_PONG:
  case BLX__GUEST_STOPPING:
  case BLX__GUEST_EXEC_OUT:
  case BLX__GUEST_EXEC_ERR:
  case BLX__GUEST_EXEC_EXIT:
  case BLX__GUEST_STATS_REPLY: return;
  }
}

/* False: the port failed. */
static bool take(struct guest_agent *a, struct blx__guest_reader *reader) {
  uint8_t bytes[READ_BYTES];
  ssize_t n = read(a->fd, bytes, sizeof bytes);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) {
    /* Nobody is connected on the host: poll answers POLLHUP at once until somebody is. */
    guest_exec_kill_all(a);
    pause_ms(RETRY_MS);
    return true;
  }
  struct blx__guest_msg msg;
  for (size_t at = 0, taken = 0; blx__guest_read(reader, bytes + at, (size_t)n - at, &taken, &msg);) {
    at += taken;
    on_msg(a, &msg);
  }
  return true;
}

/* Until the port fails. */
static void serve(struct guest_agent *a) {
  static struct blx__guest_reader reader;
  reader = (struct blx__guest_reader){.len = 0};
  send_msg(a, BLX__GUEST_HELLO, BLX__GUEST_VERSION, a->hello);
  for (;;) {
    int wait = guest_exec_step(a);
    flush(a);
    struct pollfd p[GUEST_POLLED] = {
        {.fd = a->fd, .events = (short)(a->out_len > 0 ? POLLIN | POLLOUT : POLLIN)},
        {.fd = a->signal_fd, .events = POLLIN},
    };
    nfds_t count = guest_exec_polled(a, p, 2);
    if (poll(p, count, wait) < 0 && errno != EINTR) return;
    struct signalfd_siginfo ignored;
    if (p[1].revents && read(a->signal_fd, &ignored, sizeof ignored) < 0) continue;
    if ((p[0].revents & (POLLIN | POLLHUP | POLLERR)) && !take(a, &reader)) return;
  }
}

static bool parse_options(int argc, char **argv, struct guest_agent *a) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--name-host") == 0)
      a->name_host = true;
    else if (strcmp(argv[i], "--power-off") == 0)
      a->power_off = true;
    else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
      a->port = argv[++i];
    else
      return false;
  }
  return true;
}

int main(int argc, char **argv) {
  static struct guest_agent a = {.fd = -1};
  sigset_t child;
  if (!parse_options(argc, argv, &a)) {
    guest_say("usage: blixard-guest [--port PATH] [--name-host] [--power-off]");
    return 2;
  }
  (void)signal(SIGPIPE, SIG_IGN);
  (void)sigemptyset(&child);
  (void)sigaddset(&child, SIGCHLD);
  (void)sigprocmask(SIG_BLOCK, &child, NULL);
  a.signal_fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
  if (a.signal_fd < 0) {
    guest_say("signals: %s", strerror(errno));
    return 1;
  }
  (void)snprintf(a.hello, sizeof a.hello, "blixard-guest %d.%llu", getpid(), (unsigned long long)guest_now_ms());
  for (;;) {
    open_port(&a);
    a.out_len = 0;
    serve(&a);
    guest_say("the port failed: %s", strerror(errno));
    guest_exec_kill_all(&a);
    (void)close(a.fd);
    pause_ms(RETRY_MS);
  }
}
