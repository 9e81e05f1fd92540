#include "measure/usage.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 8192 };

/* ---- numbers */

/* Decimal digits at *@at, which moves behind them. */
static bool digits(const char **at, uint64_t *out) {
  uint64_t value = 0;
  const char *c = *at;
  for (; *c >= '0' && *c <= '9'; c++)
    if (__builtin_mul_overflow(value, 10U, &value) || __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value))
      return false;
  if (c == *at) return false;
  *at = c;
  *out = value;
  return true;
}

bool blx__usage_number(const char *text, uint64_t *out) {
  uint64_t value;
  if (!digits(&text, &value) || (*text != '\0' && *text != '\n')) return false;
  *out = value;
  return true;
}

bool blx__usage_line(const char *text, const char *key, uint64_t *out) {
  size_t n = strlen(key);
  for (const char *at = text; at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
    if (strncmp(at, key, n) == 0 && at[n] == ' ') return blx__usage_number(at + n + 1, out);
  return false;
}

/* proc(5): utime and stime are the 14th and 15th field, starttime the 22nd. The second, the name, may hold anything. */
bool blx__usage_stat(const char *text, uint64_t *cpu_ticks, uint64_t *start_ticks) {
  const char *at = strrchr(text, ')');
  uint64_t user = 0, system = 0, start = 0;
  if (!at) return false;
  for (unsigned field = 2; field < 22; field++) {
    at = strchr(at, ' ');
    if (!at) return false;
    at++;
    const char *number = at;
    if (field + 1 == 14 && !digits(&number, &user)) return false;
    if (field + 1 == 15 && !digits(&number, &system)) return false;
    if (field + 1 == 22 && !digits(&number, &start)) return false;
  }
  if (__builtin_add_overflow(user, system, cpu_ticks)) return false;
  *start_ticks = start;
  return true;
}

/* The second field. Pages of files that are mapped are in it, the monitor's own program for one. */
bool blx__usage_statm(const char *text, uint64_t *pages) {
  uint64_t size, resident;
  if (!digits(&text, &size) || *text++ != ' ' || !digits(&text, &resident) || *text != ' ') return false;
  *pages = resident;
  return true;
}

/* ---- counters */

static bool put_counter(char out[BLX__COUNTERS_TEXT_MAX], const char *key, bool has, uint64_t value) {
  size_t n = strlen(out);
  return !has || blx__str_format(out + n, BLX__COUNTERS_TEXT_MAX - n, "%s%s=%llu", n > 0 ? " " : "", key,
                                 (unsigned long long)value);
}

bool blx__counters_write(const struct blx__usage *u, char out[BLX__COUNTERS_TEXT_MAX]) {
  out[0] = '\0';
  return put_counter(out, "balloon", u->has_balloon, u->balloon_bytes) &&
         put_counter(out, "read", u->has_read, u->read_bytes) &&
         put_counter(out, "written", u->has_written, u->written_bytes);
}

static bool take_counter(const char *text, const char *key, uint64_t *out) {
  size_t n = strlen(key);
  uint64_t value;
  for (const char *at = text; at; at = strchr(at, ' '), at = at ? at + 1 : NULL) {
    if (strncmp(at, key, n) != 0 || at[n] != '=') continue;
    at += n + 1;
    if (!digits(&at, &value) || (*at != '\0' && *at != ' ')) return false;
    *out = value;
    return true;
  }
  return false;
}

void blx__counters_take(struct blx__usage *u, const char *text) {
  u->has_balloon = take_counter(text, "balloon", &u->balloon_bytes);
  u->has_read = take_counter(text, "read", &u->read_bytes);
  u->has_written = take_counter(text, "written", &u->written_bytes);
}

void blx__counters_copy(struct blx__usage *to, const struct blx__usage *from) {
  to->has_balloon = from->has_balloon;
  to->balloon_bytes = from->balloon_bytes;
  to->has_read = from->has_read;
  to->read_bytes = from->read_bytes;
  to->has_written = from->has_written;
  to->written_bytes = from->written_bytes;
}

/* ---- files */

static bool read_file(const char *dir, const char *name, char out[FILE_MAX_BYTES]) {
  char path[PATH_MAX];
  if (!blx__str_format(path, sizeof path, "%s/%s", dir, name)) return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  size_t len = 0;
  for (ssize_t n; len < FILE_MAX_BYTES - 1 && (n = read(fd, out + len, FILE_MAX_BYTES - 1 - len)) > 0;)
    len += (size_t)n;
  (void)close(fd);
  out[len] = '\0';
  return len > 0;
}

/* Version 2 says cpu.stat and "anon", "shmem"; version 1 cpuacct.usage and "total_rss", "total_shmem", in hierarchies
 * of their own. Page cache is the host's to take back, and not counted. */
static void read_cgroup(struct blx__usage *u, const char *dir) {
  char text[FILE_MAX_BYTES];
  uint64_t value, shared = 0;
  if (!u->has_cpu && read_file(dir, "cpu.stat", text) && blx__usage_line(text, "usage_usec", &value)) {
    u->has_cpu = true;
    u->cpu_us = value;
  }
  if (!u->has_cpu && read_file(dir, "cpuacct.usage", text) && blx__usage_number(text, &value)) {
    u->has_cpu = true;
    u->cpu_us = value / 1000;
  }
  if (u->has_memory || !read_file(dir, "memory.stat", text)) return;
  if (blx__usage_line(text, "total_rss", &value))
    (void)blx__usage_line(text, "total_shmem", &shared);
  else if (blx__usage_line(text, "anon", &value))
    (void)blx__usage_line(text, "shmem", &shared);
  else
    return;
  u->has_memory = !__builtin_add_overflow(value, shared, &u->memory_bytes);
}

static void read_proc(struct blx__usage *u, int32_t pid) {
  char dir[32], text[FILE_MAX_BYTES];
  uint64_t cpu, start, pages, hz = (uint64_t)sysconf(_SC_CLK_TCK);
  if (!blx__str_format(dir, sizeof dir, "/proc/%d", pid)) return;
  if (read_file(dir, "stat", text) && blx__usage_stat(text, &cpu, &start)) {
    uint64_t start_us = start * (1000000 / hz);
    u->has_uptime = start_us <= u->at_us;
    u->uptime_ms = u->has_uptime ? (u->at_us - start_us) / 1000 : 0;
    if (!u->has_cpu) u->cpu_us = cpu * (1000000 / hz);
    u->has_cpu = true;
  }
  if (u->has_memory || !read_file(dir, "statm", text) || !blx__usage_statm(text, &pages)) return;
  u->has_memory = true;
  u->memory_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void blx__usage_read(struct blx__usage *u, const char *const *cgroups, unsigned count, int32_t pid) {
  struct timespec t = {0};
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  u->at_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
  u->has_cpu = u->has_memory = u->has_uptime = false;
  for (unsigned i = 0; i < count; i++) read_cgroup(u, cgroups[i]);
  if (pid > 0) read_proc(u, pid);
}
