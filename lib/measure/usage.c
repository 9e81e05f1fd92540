#include "measure/usage.h"

#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
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

/* Rows that share a flag are known together. */
static const struct counter {
  const char *key;
  size_t has, value;
  uint64_t most;
} counters[] = {
    {"balloon", offsetof(struct blx__usage, has_balloon), offsetof(struct blx__usage, balloon_bytes), UINT64_MAX},
    {"read", offsetof(struct blx__usage, has_read), offsetof(struct blx__usage, read_bytes), UINT64_MAX},
    {"written", offsetof(struct blx__usage, has_written), offsetof(struct blx__usage, written_bytes), UINT64_MAX},
    {"guest_memory", offsetof(struct blx__usage, has_guest), offsetof(struct blx__usage, guest_memory_bytes),
     UINT64_MAX},
    {"guest_available", offsetof(struct blx__usage, has_guest), offsetof(struct blx__usage, guest_available_bytes),
     UINT64_MAX},
    {"guest_uptime", offsetof(struct blx__usage, has_guest), offsetof(struct blx__usage, guest_uptime_ms), UINT64_MAX},
    {"guest_load", offsetof(struct blx__usage, has_guest), offsetof(struct blx__usage, guest_load_milli), UINT32_MAX},
    {"guest_processes", offsetof(struct blx__usage, has_guest), offsetof(struct blx__usage, guest_processes),
     UINT32_MAX},
};

static bool *has_of(struct blx__usage *u, const struct counter *c) {
  return (bool *)((char *)u + c->has);
}

static uint64_t *value_of(struct blx__usage *u, const struct counter *c) {
  return (uint64_t *)(void *)((char *)u + c->value);
}

bool blx__counters_write(const struct blx__usage *usage, char out[BLX__COUNTERS_TEXT_MAX]) {
  struct blx__usage u = *usage;
  size_t n = 0;
  out[0] = '\0';
  for (size_t i = 0; i < BLX__COUNT(counters); i++, n += strlen(out + n))
    if (*has_of(&u, &counters[i]) &&
        !blx__str_format(out + n, BLX__COUNTERS_TEXT_MAX - n, "%s%s=%llu", n > 0 ? " " : "", counters[i].key,
                         (unsigned long long)*value_of(&u, &counters[i])))
      return false;
  return true;
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
  for (size_t i = 0; i < BLX__COUNT(counters); i++) *has_of(u, &counters[i]) = true;
  for (size_t i = 0; i < BLX__COUNT(counters); i++) {
    uint64_t value = 0;
    bool known = take_counter(text, counters[i].key, &value) && value <= counters[i].most;
    *has_of(u, &counters[i]) &= known;
    if (known) *value_of(u, &counters[i]) = value;
  }
}

void blx__counters_copy(struct blx__usage *to, const struct blx__usage *from) {
  struct blx__usage f = *from;
  for (size_t i = 0; i < BLX__COUNT(counters); i++) {
    *has_of(to, &counters[i]) = *has_of(&f, &counters[i]);
    *value_of(to, &counters[i]) = *value_of(&f, &counters[i]);
  }
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
