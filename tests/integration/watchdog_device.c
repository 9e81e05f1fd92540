/* Preloaded into blixard-watchdog by its tests: the file that BLX_WATCHDOG_FILE names is a watchdog device. What is
 * written to it stays in the file. BLX_WATCHDOG_LEAST_S: it waits so long at least. */
#include <linux/watchdog.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...) {
  char link[64], name[512];
  va_list args;
  va_start(args, request);
  int *seconds = va_arg(args, int *);
  va_end(args);
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, name, sizeof name - 1);
  const char *file = getenv("BLX_WATCHDOG_FILE"), *least = getenv("BLX_WATCHDOG_LEAST_S");
  if (n < 0 || file == NULL || strncmp(name, file, (size_t)n) != 0) return -1;
  if (request != WDIOC_SETTIMEOUT) return -1;
  long least_s = least != NULL ? strtol(least, NULL, 10) : 0;
  if (*seconds < least_s) *seconds = (int)least_s;
  return 0;
}
