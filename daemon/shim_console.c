#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char file_name[] = "console.log", old_name[] = "console.log.1";

blx__rc shim_console_open(struct shim_console *c, int dir_fd, blx_error *err) {
  *c = (struct shim_console){.dir_fd = dir_fd, .fd = -1, .times = {.fd = -1}};
  c->fd = openat(dir_fd, file_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
  struct stat st;
  if (c->fd < 0 || fstat(c->fd, &st) != 0) return blx__fail_errno(err, errno, "shim", "console.log cannot be opened");
  c->size = (size_t)st.st_size;
  blx__times_open(&c->times, dir_fd, c->fd, (uint32_t)c->size);
  return BLX__OK;
}

static void rotate(struct shim_console *c) {
  if (renameat(c->dir_fd, file_name, c->dir_fd, old_name) != 0) return;
  /* Before the new log is made, which may get the inode of the one that went. */
  (void)renameat(c->dir_fd, BLX__TIMES_NAME, c->dir_fd, BLX__TIMES_OLD_NAME);
  int fd = openat(c->dir_fd, file_name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd < 0) return;
  (void)close(c->fd);
  c->fd = fd;
  c->size = 0;
  blx__times_close(&c->times);
  blx__times_open(&c->times, c->dir_fd, fd, 0);
}

static uint64_t wall_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void note_line(struct shim_console *c, const char *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (bytes[i] == '\n' || bytes[i] == '\r') {
      c->line_ended = true;
      continue;
    }
    if (c->line_ended) c->line_len = 0;
    c->line_ended = false;
    if (c->line_len < SHIM_LAST_LINE_MAX) c->line[c->line_len++] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : ' ';
    c->line[c->line_len] = '\0';
  }
}

/* When the disk is full the guest's words are lost, not the guest. */
static void put(struct shim_console *c, const char *bytes, size_t n) {
  note_line(c, bytes, n);
  shim_session_console(bytes, n);
  if (c->size + n > SHIM_CONSOLE_MAX || blx__times_full(&c->times)) rotate(c);
  if (c->size + n > SHIM_CONSOLE_MAX) return;
  blx__times_note(&c->times, (uint32_t)c->size, wall_ms());
  ssize_t wrote = write(c->fd, bytes, n);
  if (wrote > 0) c->size += (size_t)wrote;
}

bool shim_console_drain(struct shim_console *c, int from) {
  char bytes[16 << 10];
  /* One round of the poll loop takes at most 16 chunks, so that a chatty guest does not starve a stop. */
  for (unsigned i = 0; i < 16; i++) {
    ssize_t n = read(from, bytes, sizeof bytes);
    if (n == 0) return false;
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    put(c, bytes, (size_t)n);
  }
  return true;
}
