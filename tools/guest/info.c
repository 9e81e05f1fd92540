/* The guest's clock and figures. */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *slurp(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;
  if (fd >= 0) (void)close(fd);
  text[n > 0 ? n : 0] = '\0';
  return text;
}

/* "1.25" in thousandths. */
static uint64_t thousandths(const char *text) {
  char *end;
  uint64_t v = strtoull(text, &end, 10) * 1000, unit = 100;
  if (*end != '.') return v;
  for (end++; *end >= '0' && *end <= '9' && unit > 0; end++, unit /= 10) v += (uint64_t)(*end - '0') * unit;
  return v;
}

static uint64_t kib_of(const char *text, const char *name) {
  const char *at = strstr(text, name);
  return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static uint32_t count_processes(void) {
  uint32_t n = 0;
  DIR *dir = opendir("/proc");
  const struct dirent *e;
  while (dir && (e = readdir(dir))) n += e->d_name[0] >= '1' && e->d_name[0] <= '9';
  if (dir) (void)closedir(dir);
  return n;
}

void guest_stats(struct guest_agent *a, uint32_t tag) {
  char text[2048];
  uint8_t bytes[BLX__GUEST_STATS_BYTES];
  struct blx__guest_stats s = {.processes = count_processes()};
  s.uptime_ms = thousandths(slurp("/proc/uptime", text, sizeof text));
  s.load_milli = (uint32_t)thousandths(slurp("/proc/loadavg", text, sizeof text));
  (void)slurp("/proc/meminfo", text, sizeof text);
  s.memory_kib = kib_of(text, "MemTotal:");
  s.available_kib = kib_of(text, "MemAvailable:");
  blx__guest_stats_write(&s, bytes);
  struct blx__guest_msg msg = {.type = BLX__GUEST_STATS_REPLY, .session = tag, .data = bytes, .data_len = sizeof bytes};
  (void)guest_queue(a, &msg); /* full: the host asks again */
}

/* A guest that stood still, or booted without a clock, is brought to the host's time in one step. */
void guest_clock(const struct blx__guest_msg *msg) {
  struct timespec now;
  uint64_t ns;
  if (!blx__guest_clock_read(msg, &ns) || ns > INT64_MAX) return;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  int64_t off_ms = (int64_t)(ns / 1000000) - ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
  if (msg->arg == 0 && off_ms > -1000 && off_ms < 1000) return;
  struct timespec then = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
  if (clock_settime(CLOCK_REALTIME, &then) != 0) guest_say("setting the clock: %s", strerror(errno));
}
