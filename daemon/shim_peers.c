#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char qmp_name[] = "blixard-qmp.sock", guest_name[] = "blixard-guest.sock";

/* Connect to a socket in the working directory, which belongs to the monitor: a link there is not followed, and the
 * path goes through a descriptor, since the directory's own may be longer than a socket address holds. */
static int connect_at(int dir_fd, const char *name) {
  int file = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (file < 0) return -1;
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  (void)blx__str_format(addr.sun_path, sizeof addr.sun_path, "/proc/self/fd/%d", file);
  struct stat st;
  int fd = fstat(file, &st) == 0 && S_ISSOCK(st.st_mode)
               ? socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
               : -1;
  if (fd >= 0 && connect(fd, (const struct sockaddr *)&addr, sizeof addr) != 0) {
    (void)close(fd);
    fd = -1;
  }
  (void)close(file);
  return fd;
}

static void close_fd(int *fd) {
  if (*fd >= 0) (void)close(*fd);
  *fd = -1;
}

/* A runner that was not made for us has one QMP socket, HOST.sock, and may be using it itself: it is borrowed only to
 * stop the guest. */
static int connect_foreign_qmp(int work_fd) {
  int copy = openat(work_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
  DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
  if (!dir) {
    close_fd(&copy);
    return -1;
  }
  struct dirent *e;
  for (unsigned i = 0; fd < 0 && i < 256 && (e = readdir(dir)); i++) {
    size_t n = strlen(e->d_name);
    if (n > 5 && blx__str_eq(e->d_name + n - 5, ".sock") && strncmp(e->d_name, "blixard-", 8) != 0)
      fd = connect_at(work_fd, e->d_name);
  }
  (void)closedir(dir);
  return fd;
}

void shim_peers_connect(struct shim *s) {
  if (s->qmp_fd < 0 && !s->qmp_broken) {
    s->qmp_fd = connect_at(s->work_fd, qmp_name);
    if (s->qmp_fd >= 0 && s->qmp_due_ms == 0) s->qmp_due_ms = shim_now_ms() + SHIM_BOOT_MS;
    if (s->qmp_fd < 0 && s->stop_at_ms != 0) s->qmp_fd = connect_foreign_qmp(s->work_fd);
    if (s->qmp_fd >= 0) {
      s->qmp_ready = false;
      shim_stats_monitor_gone(s);
      blx__qmp_free(&s->qmp);
      blx__qmp_init(&s->qmp);
    }
  }
  if (s->guest_fd < 0) {
    s->guest_fd = connect_at(s->work_fd, guest_name);
    if (s->guest_fd >= 0) shim_guest_opened(s);
  }
}

void shim_qmp_send(struct shim *s, const char *line) {
  size_t n = strlen(line);
  if (send(s->qmp_fd, line, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n) close_fd(&s->qmp_fd);
}

static void stands_still(struct shim *s, bool paused) {
  unsigned flags = (s->state.flags & ~(unsigned)BLX__SHIM_PAUSED) | (paused ? BLX__SHIM_PAUSED : 0);
  if (flags == s->state.flags) return;
  s->state.flags = flags;
  if (!paused) s->next_clock_ms = 0; /* the guest's stood still too */
  shim_ctl_push(s, &s->state);
}

static void qmp_message(struct shim *s, const struct blx__qmp_msg *msg) {
  switch (msg->kind) {
  case BLX__QMP_GREETING:
    s->qmp_due_ms = 0;
    shim_qmp_send(s, BLX__QMP_CAPABILITIES);
    return;
  case BLX__QMP_RETURN:
    s->qmp_ready = true;
    shim_stats_monitor(s, msg);
    return;
  case BLX__QMP_ERROR: shim_stats_monitor(s, msg); return;
  case BLX__QMP_EVENT:
    if (blx__str_eq(msg->name, "SHUTDOWN")) (void)blx__str_copy(s->qmp_shutdown, sizeof s->qmp_shutdown, msg->text);
    if (blx__str_eq(msg->name, "STOP")) stands_still(s, true);
    if (blx__str_eq(msg->name, "RESUME")) stands_still(s, false);
    return;
  }
}

void shim_qmp_readable(struct shim *s) {
  uint8_t bytes[4096];
  for (unsigned round = 0; round < 16 && s->qmp_fd >= 0; round++) {
    ssize_t n = recv(s->qmp_fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      close_fd(&s->qmp_fd);
      shim_stats_monitor_gone(s);
      return;
    }
    for (size_t at = 0, taken = 0; at < (size_t)n && s->qmp_fd >= 0; at += taken) {
      struct blx__qmp_msg msg;
      bool got = false;
      blx_error err;
      if (blx__qmp_read(&s->qmp, bytes + at, (size_t)n - at, &taken, &got, &msg, &err).code != 0) {
        s->qmp_broken = true;
        close_fd(&s->qmp_fd);
        shim_stats_monitor_gone(s);
        shim_breach(s, err.message);
        return;
      }
      if (got) qmp_message(s, &msg);
    }
  }
}

void shim_qmp_silence(struct shim *s, uint64_t now) {
  if (s->qmp_due_ms == 0 || now < s->qmp_due_ms || s->qmp_broken) return;
  s->qmp_broken = true;
  close_fd(&s->qmp_fd);
  char sentence[BLX__SHIM_TEXT_MAX + 1];
  (void)blx__str_format(sentence, sizeof sentence, "QMP: the monitor was reached and did not greet within %d s",
                        SHIM_BOOT_MS / 1000);
  shim_breach(s, sentence);
}

void shim_qmp_powerdown(struct shim *s) {
  if (s->qmp_fd >= 0 && s->qmp_ready) shim_qmp_send(s, BLX__QMP_POWERDOWN);
}

void shim_qmp_pause(struct shim *s, bool paused) {
  if (s->qmp_fd >= 0 && s->qmp_ready) shim_qmp_send(s, paused ? BLX__QMP_STOP : BLX__QMP_CONT);
}
