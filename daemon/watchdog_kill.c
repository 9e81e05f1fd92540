#include "watchdog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  DEPTH_MAX = 8,      /* instances' groups are one or two levels down */
  ROUNDS_MAX = 20,    /* in one turn: what forks meanwhile is met again */
  READ_BYTES = 16384, /* of a directory or a list of processes at a time */
};

/* One word into @name of the group; a file that is not there belongs to the other version. */
static bool put(int dir, const char *name, const char *word) {
  int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  size_t n = strlen(word);
  bool ok = write(fd, word, n) == (ssize_t)n;
  (void)close(fd);
  return ok;
}

/* The processes of one group. True: there was none. @deadly false: only look. A process that is only half gone is
 * listed until it is reaped, and counts. */
static bool one_group(int dir, bool deadly) {
  char text[READ_BYTES];
  int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || errno == ENODEV;
  bool none = true;
  long pid = 0;
  for (;;) {
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) none = none && errno == ENODEV;
    if (n <= 0) break;
    none = false;
    for (ssize_t i = 0; deadly && i < n; i++) {
      if (text[i] >= '0' && text[i] <= '9') {
        pid = pid * 10 + (text[i] - '0');
      } else {
        if (pid > 1) (void)kill((pid_t)pid, SIGKILL);
        pid = 0;
      }
    }
  }
  (void)close(fd);
  return none;
}

static bool tree(int dir, bool deadly, unsigned depth);

/* The groups below. getdents64 on our own stack: opendir would allocate. */
static bool below(int dir, bool deadly, unsigned depth) {
  _Alignas(struct dirent64) char entries[READ_BYTES];
  bool none = true;
  if (depth == DEPTH_MAX) return true;
  for (;;) {
    ssize_t n = getdents64(dir, entries, sizeof entries);
    if (n < 0) return errno == ENOENT || errno == ENODEV ? none : false;
    if (n == 0) return none;
    for (ssize_t at = 0; at < n;) {
      const struct dirent64 *e = (const struct dirent64 *)(const void *)(entries + at);
      at += e->d_reclen;
      if (e->d_type != DT_DIR || e->d_name[0] == '.') continue;
      int child = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (child < 0) {
        none = none && errno == ENOENT;
        continue;
      }
      none = tree(child, deadly, depth + 1) && none;
      (void)close(child);
    }
  }
}

static bool tree(int dir, bool deadly, unsigned depth) {
  if (deadly) {
    /* Version 2 does the whole tree at once; version 1's freezer would keep a signal from its process. */
    (void)put(dir, "cgroup.kill", "1");
    (void)put(dir, "freezer.state", "THAWED");
  }
  bool none = one_group(dir, deadly);
  return below(dir, deadly, depth) && none;
}

static bool look(const char *dir, bool deadly) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT;
  bool none = tree(fd, deadly, 0);
  (void)close(fd);
  return none;
}

bool watchdog_is_empty(const char *dir) {
  return look(dir, false);
}

bool watchdog_kill(const char *dir) {
  for (int round = 0; round < ROUNDS_MAX; round++) {
    if (look(dir, true)) return true;
    (void)poll(NULL, 0, 1); /* who was killed needs a processor to go, and this process has the right of way */
  }
  return false;
}
