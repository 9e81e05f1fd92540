#include "watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int watchdog_device_open(const char *path, unsigned timeout_s) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) {
    fprintf(stderr, "blixard-watchdog: %s: %s\n", path, strerror(errno));
    return -1;
  }
  int wanted = (int)timeout_s, got = wanted;
  if (ioctl(fd, WDIOC_SETTIMEOUT, &got) != 0 && ioctl(fd, WDIOC_GETTIMEOUT, &got) != 0) {
    fprintf(stderr, "blixard-watchdog: %s is not a watchdog device: %s\n", path, strerror(errno));
    (void)close(fd); /* what it is was not written to */
    return -1;
  }
  /* One that waits longer than was asked would reset the machine when its instances run elsewhere already. */
  if (got > wanted) {
    fprintf(stderr, "blixard-watchdog: %s waits %d s at least, more than the %d s of the cluster's settings\n", path,
            got, wanted);
    watchdog_device_release(fd);
    return -1;
  }
  watchdog_device_pet(fd);
  return fd;
}

void watchdog_device_pet(int fd) {
  ssize_t n = write(fd, "", 1);
  (void)n; /* not petted: the machine is reset, which is what a dead watchdog device is to do */
}

void watchdog_device_release(int fd) {
  ssize_t n = write(fd, "V", 1);
  (void)n;
  (void)close(fd);
}
