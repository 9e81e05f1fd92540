#include "measure/load.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_BYTES = 4096, COLUMNS = 8, IDLE = 3, IOWAIT = 4, KIB_PER_MIB = 1024 };

/* user nice system idle iowait irq softirq steal; what guests use is within the first two. */
void blx__load_take_stat(struct blx__load *load, const char *text) {
  uint64_t total = 0, idle = 0;
  load->has_cpu = false;
  if (strncmp(text, "cpu ", 4) != 0) return;
  const char *at = text + 4;
  for (int column = 0; column < COLUMNS; column++) {
    while (*at == ' ') at++;
    if (*at < '0' || *at > '9') return;
    char *end = NULL;
    uint64_t ticks = strtoull(at, &end, 10);
    total += ticks;
    if (column == IDLE || column == IOWAIT) idle += ticks;
    at = end;
  }
  uint64_t busy = total - idle, was_busy = load->busy, was_total = load->total;
  load->busy = busy;
  load->total = total;
  /* The kernel's count of waiting may go back a little. */
  if (was_total == 0 || total <= was_total || busy < was_busy) return;
  uint64_t permille = (busy - was_busy) * 1000 / (total - was_total);
  load->has_cpu = true;
  load->cpu_permille = permille < 1000 ? (uint32_t)permille : 1000;
}

/* The number behind a key at the beginning of a line. */
static bool line(const char *text, const char *key, uint64_t *out) {
  for (const char *at = text; at; at = strchr(at, '\n'), at = at ? at + 1 : NULL) {
    if (strncmp(at, key, strlen(key)) != 0) continue;
    at += strlen(key);
    while (*at == ' ') at++;
    if (*at < '0' || *at > '9') return false;
    *out = strtoull(at, NULL, 10);
    return true;
  }
  return false;
}

void blx__load_take_meminfo(struct blx__load *load, const char *text) {
  uint64_t total_kib = 0, available_kib = 0;
  load->has_memory =
      line(text, "MemTotal:", &total_kib) && line(text, "MemAvailable:", &available_kib) && available_kib <= total_kib;
  if (load->has_memory) load->memory_mib = (total_kib - available_kib) / KIB_PER_MIB;
}

/* "" when it cannot be read. */
static void read_text(const char *path, char text[TEXT_BYTES]) {
  size_t len = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  while (fd >= 0 && len < TEXT_BYTES - 1) {
    ssize_t n = read(fd, text + len, TEXT_BYTES - 1 - len);
    if (n <= 0) break;
    len += (size_t)n;
  }
  if (fd >= 0) (void)close(fd);
  text[len] = '\0';
}

void blx__load_read(struct blx__load *load) {
  char text[TEXT_BYTES];
  read_text("/proc/stat", text);
  blx__load_take_stat(load, text);
  read_text("/proc/meminfo", text);
  blx__load_take_meminfo(load, text);
}
