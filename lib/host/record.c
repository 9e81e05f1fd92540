#include "host/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char origin[] = "host";

blx__rc host_read_at(int dir, const char *name, char text[HOST_TEXT_MAX], blx_error *err) {
  text[0] = '\0';
  int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return BLX__OK;
  if (fd < 0) return blx__fail_errno(err, errno, origin, "%s cannot be read", name);
  ssize_t n = read(fd, text, HOST_TEXT_MAX);
  int errnum = errno;
  (void)close(fd);
  text[n > 0 && n < HOST_TEXT_MAX ? n : 0] = '\0';
  if (n < 0) return blx__fail_errno(err, errnum, origin, "%s cannot be read", name);
  if (n == HOST_TEXT_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "%s is longer than %d bytes", name, HOST_TEXT_MAX - 1);
  return BLX__OK;
}

bool host_boot_id(char out[HOST_BOOT_ID_MAX]) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, out, HOST_BOOT_ID_MAX - 1);
  if (fd >= 0) (void)close(fd);
  if (n <= 0) return false;
  out[n] = '\0';
  out[strcspn(out, "\n")] = '\0';
  return true;
}

blx__rc host_record_begin(int dir, const char *name, int *out, blx_error *err) {
  char now[HOST_BOOT_ID_MAX];
  if (!host_boot_id(now)) return blx__fail_errno(err, errno, origin, "the kernel's boot_id cannot be read");
  int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return blx__fail_errno(err, errno, origin, "the record %s cannot be made", name);
  if (dprintf(fd, "%s\n", now) < 0) {
    int errnum = errno;
    (void)close(fd);
    return blx__fail_errno(err, errnum, origin, "the record %s cannot be written", name);
  }
  *out = fd;
  return BLX__OK;
}

blx__rc host_record_lines(int dir, const char *name, char text[HOST_TEXT_MAX], char **lines, blx_error *err) {
  char now[HOST_BOOT_ID_MAX];
  BLX__TRY(host_read_at(dir, name, text, err));
  size_t first = strcspn(text, "\n");
  *lines = text + first + (text[first] == '\n');
  text[first] = '\0';
  if (!host_boot_id(now) || strcmp(text, now) != 0) *lines = text + strlen(text);
  return BLX__OK;
}

blx__rc host_record_remove(int dir, const char *name, blx_error *err) {
  if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
    return blx__fail_errno(err, errno, origin, "the record %s cannot be removed", name);
  return BLX__OK;
}

int host_put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  size_t n = strlen(text);
  int errnum = write(fd, text, n) == (ssize_t)n ? 0 : errno;
  (void)close(fd);
  return errnum;
}
