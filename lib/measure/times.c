#include "measure/times.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_BYTES = 16, RECORD_BYTES = 16 };

static const char magic[8] = {'B', 'L', 'X', 'T', 'I', 'M', 'E', '1'};

struct record {
  uint32_t at;
  uint64_t ms;
};

static void put_number(uint8_t *to, uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; i++) to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_number(const uint8_t *from, unsigned bytes) {
  uint64_t value = 0;
  for (unsigned i = bytes; i > 0; i--) value = value << 8 | from[i - 1];
  return value;
}

static uint32_t check_of(struct record r) {
  uint64_t mixed = (r.ms ^ (uint64_t)r.at << 32 ^ 0x626c697861726421U) * 0x9e3779b97f4a7c15U;
  return (uint32_t)(mixed >> 32);
}

static bool record_read(int fd, uint64_t index, struct record *out) {
  uint8_t bytes[RECORD_BYTES];
  if (pread(fd, bytes, sizeof bytes, (off_t)(HEAD_BYTES + index * RECORD_BYTES)) != RECORD_BYTES) return false;
  *out = (struct record){.at = (uint32_t)get_number(bytes, 4), .ms = get_number(bytes + 8, 8)};
  return get_number(bytes + 4, 4) == check_of(*out);
}

static bool is_about(int fd, int log_fd) {
  struct stat st;
  uint8_t head[HEAD_BYTES];
  return fstat(log_fd, &st) == 0 && pread(fd, head, sizeof head, 0) == HEAD_BYTES &&
         memcmp(head, magic, sizeof magic) == 0 && get_number(head + 8, 8) == (uint64_t)st.st_ino;
}

static uint64_t records_of(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0 || st.st_size < HEAD_BYTES) return 0;
  uint64_t n = (uint64_t)(st.st_size - HEAD_BYTES) / RECORD_BYTES;
  return n < BLX__TIMES_RECORDS_MAX ? n : BLX__TIMES_RECORDS_MAX;
}

/* ---- the shim's end */

static bool begin(int fd, int log_fd) {
  struct stat st;
  uint8_t head[HEAD_BYTES];
  if (fstat(log_fd, &st) != 0 || ftruncate(fd, 0) != 0) return false;
  memcpy(head, magic, sizeof magic);
  put_number(head + 8, (uint64_t)st.st_ino, 8);
  return pwrite(fd, head, sizeof head, 0) == HEAD_BYTES;
}

void blx__times_open(struct blx__times *t, int dir_fd, int log_fd, uint32_t log_bytes) {
  *t = (struct blx__times){.fd = -1};
  int fd = openat(dir_fd, BLX__TIMES_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd < 0) return;
  if (is_about(fd, log_fd)) {
    /* A record whose bytes were never written, or were lost, would give its time to others. */
    struct record r;
    t->count = (uint32_t)records_of(fd);
    while (t->count > 0 && (!record_read(fd, t->count - 1, &r) || r.at >= log_bytes)) t->count--;
    if (ftruncate(fd, HEAD_BYTES + (off_t)t->count * RECORD_BYTES) == 0) t->fd = fd;
  } else if (begin(fd, log_fd)) {
    t->fd = fd;
  }
  if (t->fd < 0) (void)close(fd);
}

void blx__times_close(struct blx__times *t) {
  if (t->fd >= 0) (void)close(t->fd);
  *t = (struct blx__times){.fd = -1};
}

/* Over what a write that failed may have left. */
static bool record_add(struct blx__times *t, struct record r) {
  uint8_t bytes[RECORD_BYTES];
  put_number(bytes, r.at, 4);
  put_number(bytes + 4, check_of(r), 4);
  put_number(bytes + 8, r.ms, 8);
  off_t to = HEAD_BYTES + (off_t)t->count * RECORD_BYTES;
  if (pwrite(t->fd, bytes, sizeof bytes, to) != RECORD_BYTES) return false;
  t->count++;
  return true;
}

void blx__times_note(struct blx__times *t, uint32_t at, uint64_t now_ms) {
  bool near = t->last_ms != 0 && now_ms >= t->last_ms && now_ms - t->last_ms < BLX__TIMES_STEP_MS;
  if (t->fd < 0 || near || blx__times_full(t)) return;
  bool told = !t->gap || record_add(t, (struct record){.at = t->gap_at});
  if (told) t->gap = false;
  if (told && record_add(t, (struct record){.at = at, .ms = now_ms})) {
    t->last_ms = now_ms;
    return;
  }
  if (!t->gap) t->gap_at = at;
  t->gap = true;
  t->last_ms = 0;
}

/* ---- the reader's end */

int blx__times_find(const char *dir, int log_fd) {
  static const char *const names[] = {BLX__TIMES_NAME, BLX__TIMES_OLD_NAME};
  for (unsigned i = 0; i < 2; i++) {
    char path[PATH_MAX];
    if (!blx__str_format(path, sizeof path, "%s/%s", dir, names[i])) return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) continue;
    if (is_about(fd, log_fd)) return fd;
    (void)close(fd);
  }
  return -1;
}

uint64_t blx__times_at(int fd, uint64_t at, uint64_t *until) {
  *until = UINT64_MAX;
  uint64_t count = fd >= 0 ? records_of(fd) : 0, lo = 0, hi = count;
  struct record r = {0};
  while (lo < hi) { /* lo: the first record after @at */
    uint64_t mid = lo + (hi - lo) / 2;
    if (!record_read(fd, mid, &r)) return 0;
    if (r.at > at)
      hi = mid;
    else
      lo = mid + 1;
  }
  if (lo < count && record_read(fd, lo, &r)) *until = r.at;
  if (lo == 0 || !record_read(fd, lo - 1, &r) || r.at > at) return 0;
  return r.ms;
}
