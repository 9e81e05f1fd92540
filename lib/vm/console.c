/* Readers of an instance's console: console.log.1, then console.log, then what comes. Files and a timer: a reader works
 * the same for the living, the adopted and the dead. */
#include "measure/times.h"
#include "vm/vm_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char origin[] = "vm/logs";

struct blx__vm_logs {
  struct blx__list link;
  struct microvm *m;
  char id[VM_ID_MAX], dir[VM_PATH_MAX + 128];
  bool follow;
  blx__vm_log_bytes_fn *on_bytes;
  blx__vm_log_end_fn *on_end;
  void *user;
  struct blx__timer *timer;
  bool *gone; /* set when it is freed inside its own callback */
  int fd;     /* what is read now; -1: nothing yet */
  int times;  /* when its bytes came; -1: nothing was found that says so */
  bool old;   /* and that is console.log.1 as it was at the beginning: console.log follows */
  off_t at;
};

static int open_in(const struct blx__vm_logs *l, const char *name) {
  char path[PATH_MAX];
  if (!blx__str_format(path, sizeof path, "%s/%s", l->dir, name)) return -1;
  return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* Go back from the end of @fd over @lines lines; *lines becomes what is still missing. Returns where to begin. */
static off_t seek_tail(int fd, uint32_t *lines) {
  struct stat st;
  char bytes[8192];
  if (fstat(fd, &st) != 0) return 0;
  off_t end = st.st_size, at = end;
  while (at > 0) {
    size_t n = at < (off_t)sizeof bytes ? (size_t)at : sizeof bytes;
    at -= (off_t)n;
    if (pread(fd, bytes, n, at) != (ssize_t)n) return 0;
    for (size_t i = n; i > 0; i--) {
      /* The end of the last line does not begin another. */
      if (bytes[i - 1] != '\n' || at + (off_t)i == end) continue;
      if (--*lines == 0) return at + (off_t)i;
    }
  }
  if (end > 0) --*lines;
  return 0;
}

static void begin_at(struct blx__vm_logs *l, uint32_t lines) {
  struct stat st;
  l->fd = open_in(l, "console.log");
  if (l->fd < 0) return;
  if (lines == 0) {
    l->at = fstat(l->fd, &st) == 0 ? st.st_size : 0;
    return;
  }
  l->at = seek_tail(l->fd, &lines);
  int old = lines > 0 && l->at == 0 ? open_in(l, "console.log.1") : -1;
  if (old < 0) return;
  (void)close(l->fd);
  l->fd = old;
  l->old = true;
  l->at = seek_tail(old, &lines);
}

void vm_logs_free(struct blx__vm_logs *l) {
  if (l->gone) *l->gone = true;
  blx__list_remove(&l->link);
  l->m->logs_open--;
  blx__timer_free(l->timer);
  if (l->fd >= 0) (void)close(l->fd);
  if (l->times >= 0) (void)close(l->times);
  free(l);
}

static void end(struct blx__vm_logs *l, const blx_error *err) {
  blx__vm_log_end_fn *on_end = l->on_end;
  void *user = l->user;
  vm_logs_free(l);
  on_end(user, err);
}

/* The file at its end: is there another to go on with? It was rotated if console.log is now a different file. */
static bool next_file(struct blx__vm_logs *l) {
  struct stat now, then;
  int fd = open_in(l, "console.log");
  if (fd < 0) return false;
  bool same = l->fd >= 0 && fstat(fd, &now) == 0 && fstat(l->fd, &then) == 0 && now.st_ino == then.st_ino &&
              now.st_dev == then.st_dev;
  if (same) {
    (void)close(fd);
    return false;
  }
  if (l->fd >= 0) (void)close(l->fd);
  if (l->times >= 0) (void)close(l->times);
  l->fd = fd;
  l->times = -1;
  l->old = false;
  l->at = 0;
  return true;
}

/* When what is at l->at came. @n, of bytes that were read there, becomes how many of them came then. */
static uint64_t time_of(struct blx__vm_logs *l, ssize_t *n) {
  uint64_t until;
  /* A shim of now begins it before the log's first byte: one that is not there yet may still come. */
  if (l->times < 0) l->times = blx__times_find(l->dir, l->fd);
  uint64_t ms = blx__times_at(l->times, (uint64_t)l->at, &until);
  if (until - (uint64_t)l->at < (uint64_t)*n) *n = (ssize_t)(until - (uint64_t)l->at);
  return ms;
}

/* One chunk a turn: a reader of megabytes does not hold the loop up. */
static void on_timer(void *arg) {
  struct blx__vm_logs *l = arg;
  uint8_t bytes[VM_CONSOLE_CHUNK_BYTES];
  ssize_t n = l->fd >= 0 ? pread(l->fd, bytes, sizeof bytes, l->at) : 0;
  if (n < 0) {
    blx_error err;
    (void)blx__fail_errno(&err, errno, origin, "the console in %s cannot be read", l->dir);
    end(l, &err);
    return;
  }
  if (n > 0) {
    bool gone = false;
    uint64_t at_ms = time_of(l, &n);
    l->gone = &gone;
    bool taken = l->on_bytes(l->user, at_ms, bytes, (size_t)n);
    if (gone) return;
    l->gone = NULL;
    if (taken) l->at += n;
    blx__timer_start(l->timer, taken ? 0 : VM_CONSOLE_POLL_MS, 0);
    return;
  }
  if (next_file(l)) {
    blx__timer_start(l->timer, 0, 0);
    return;
  }
  if (!l->follow) {
    end(l, NULL);
    return;
  }
  blx__timer_start(l->timer, VM_CONSOLE_POLL_MS, 0);
}

blx__rc vm_logs_open(struct microvm *m, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                     blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user, struct blx__vm_logs **out,
                     blx_error *err) {
  struct stat st;
  if (m->logs_open >= BLX__VM_LOGS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%d readers of logs are connected already: try again later",
                     BLX__VM_LOGS_MAX);
  if (!blx__name_ok(key->instance, 63))
    return blx__fail(err, BLX_E_INVALID, origin, "an instance's name must match " BLX__NAME_PATTERN);
  struct blx__vm_logs *l = calloc(1, sizeof *l);
  if (!l) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a reader of logs");
  *l = (struct blx__vm_logs){
      .m = m, .follow = follow, .on_bytes = on_bytes, .on_end = on_end, .user = user, .fd = -1, .times = -1};
  bool fits = blx__str_format(l->id, sizeof l->id, "%s-%llu", key->instance, (unsigned long long)key->uid) &&
              blx__str_format(l->dir, sizeof l->dir, "%s/vms/%s", m->state_dir, l->id);
  BLX__ASSERT(fits);
  if (stat(l->dir, &st) != 0) {
    free(l);
    return blx__fail(err, BLX_E_NOT_FOUND, origin, "%s is not on this node", key->instance);
  }
  l->timer = blx__timer_new(m->loop, on_timer, l);
  if (!l->timer) {
    free(l);
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a reader of logs");
  }
  blx__list_push(&m->logs, &l->link);
  m->logs_open++;
  begin_at(l, tail_lines < BLX__VM_LOG_LINES_ALL ? tail_lines : BLX__VM_LOG_LINES_ALL);
  blx__timer_start(l->timer, 0, 0);
  *out = l;
  return BLX__OK;
}

void vm_logs_end_all(struct microvm *m, const char *id) {
  for (struct blx__list *it = m->logs.next, *next; it != &m->logs; it = next) {
    next = it->next;
    struct blx__vm_logs *l = BLX__CONTAINER(it, struct blx__vm_logs, link);
    if (!id || blx__str_eq(l->id, id)) end(l, NULL);
  }
}
