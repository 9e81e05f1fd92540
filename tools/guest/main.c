/* blixard-guest: runs inside a guest and tells the host, over a virtio-serial port, that the system is up; answers
 * pings; powers off when asked. Static, no threads, no allocation.
 *
 * usage: blixard-guest [--port PATH] [--name-host] [--power-off]
 *   --port PATH   the port; otherwise it is found by its name
 *   --name-host   take the instance's name as the host name
 *   --power-off   when asked to shut down, sync and power off directly; otherwise run `poweroff`, which a full system
 * has */
#include "vm/proto_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

enum { PORTS_MAX = 32, RETRY_MS = 200, WRITE_WAIT_MS = 2000 };

struct options {
  const char *port;
  bool name_host, power_off;
};

struct agent {
  struct options opt;
  int fd;
  bool named;
};

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...) {
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

static void open_port(struct agent *a) {
  char found[96];
  bool told = false;
  for (;;) {
    const char *path = a->opt.port;
    if (!path && find_port(found, sizeof found)) path = found;
    a->fd = path ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
    if (a->fd >= 0) return;
    if (!told) say("waiting for the port " BLX__GUEST_PORT_NAME);
    told = true;
    pause_ms(RETRY_MS);
  }
}

/* A write to the port would block for ever while nobody reads on the host: it is given a little time, then the
 * message is dropped; the host asks again. */
static void send_msg(struct agent *a, enum blx__guest_type type, uint64_t value, const char *text) {
  struct blx__guest_msg msg = {.type = type, .value = value};
  (void)snprintf(msg.text, sizeof msg.text, "%s", text);
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  size_t len = blx__guest_write(&msg, frame), at = 0;
  while (at < len) {
    ssize_t n = write(a->fd, frame + at, len - at);
    if (n > 0) {
      at += (size_t)n;
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    struct pollfd p = {.fd = a->fd, .events = POLLOUT};
    if (n == 0 || errno != EAGAIN || poll(&p, 1, WRITE_WAIT_MS) <= 0 || !(p.revents & POLLOUT)) return;
  }
}

static void shut_down(struct agent *a) {
  say("shutting down, as the host asks");
  send_msg(a, BLX__GUEST_STOPPING, 0, "");
  sync();
  if (!a->opt.power_off) {
    pid_t child = fork();
    if (child == 0) {
      (void)execlp("poweroff", "poweroff", (char *)NULL);
      _exit(127);
    }
    return;
  }
  (void)reboot(RB_POWER_OFF);
  say("power off failed: %s", strerror(errno));
}

static void on_msg(struct agent *a, const struct blx__guest_msg *msg) {
  switch (msg->type) {
  case BLX__GUEST_HELLO:
    if (!a->named && msg->text[0] != '\0') {
      a->named = true;
      if (a->opt.name_host && sethostname(msg->text, strlen(msg->text)) != 0) say("host name: %s", strerror(errno));
      say("this is %s", msg->text);
    }
    send_msg(a, BLX__GUEST_HELLO, BLX__GUEST_VERSION, "blixard-guest");
    send_msg(a, BLX__GUEST_READY, 0, "");
    return;
  case BLX__GUEST_PING: send_msg(a, BLX__GUEST_PONG, msg->value, ""); return;
  case BLX__GUEST_SHUTDOWN: shut_down(a); return;
  case BLX__GUEST_READY:
  case BLX__GUEST_PONG:
  case BLX__GUEST_STOPPING: return;
  }
}

/* Until the port fails. */
static void serve(struct agent *a) {
  struct blx__guest_reader reader = {0};
  for (;;) {
    struct pollfd p = {.fd = a->fd, .events = POLLIN};
    if (poll(&p, 1, -1) < 0 && errno != EINTR) return;
    uint8_t bytes[512];
    ssize_t n = read(a->fd, bytes, sizeof bytes);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return;
    if (n <= 0) {
      /* Nobody is connected on the host: poll answers POLLHUP at once until somebody is. */
      pause_ms(RETRY_MS);
      continue;
    }
    struct blx__guest_msg msg;
    for (size_t at = 0, taken = 0; at < (size_t)n; at += taken)
      if (blx__guest_read(&reader, bytes + at, (size_t)n - at, &taken, &msg)) on_msg(a, &msg);
  }
}

static bool parse_options(int argc, char **argv, struct options *opt) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--name-host") == 0)
      opt->name_host = true;
    else if (strcmp(argv[i], "--power-off") == 0)
      opt->power_off = true;
    else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
      opt->port = argv[++i];
    else
      return false;
  }
  return true;
}

int main(int argc, char **argv) {
  struct agent a = {.fd = -1};
  if (!parse_options(argc, argv, &a.opt)) {
    say("usage: blixard-guest [--port PATH] [--name-host] [--power-off]");
    return 2;
  }
  for (;;) {
    open_port(&a);
    serve(&a);
    say("the port failed: %s", strerror(errno));
    (void)close(a.fd);
    pause_ms(RETRY_MS);
  }
}
