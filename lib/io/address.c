#include "io/address_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { NAME_BYTES_MAX = 80 };

blx__rc address_open(const char *path, struct address *a, blx_error *err) {
  *a = (struct address){.dir_fd = -1};
  a->sa.sun_family = AF_UNIX;
  size_t n = path ? strnlen(path, BLX__STREAM_PATH_MAX + 1) : 0;
  if (n == 0 || n > BLX__STREAM_PATH_MAX)
    return blx__fail(err, BLX_E_INVALID, "io", "a socket's path has 1 to %d bytes", BLX__STREAM_PATH_MAX);
  a->sa_len = (socklen_t)sizeof a->sa;
  if (blx__str_copy(a->sa.sun_path, sizeof a->sa.sun_path, path)) return BLX__OK;
  /* The kernel takes 107 bytes; the directory's descriptor stands in for a long way to it. */
  const char *slash = strrchr(path, '/');
  const char *last = slash ? slash + 1 : path;
  if (!slash || strlen(last) > NAME_BYTES_MAX)
    return blx__fail(err, BLX_E_INVALID, "io", "the last part of a socket's long path has at most %d bytes: %s",
                     NAME_BYTES_MAX, last);
  char dir[BLX__STREAM_PATH_MAX + 1];
  memcpy(dir, path, (size_t)(slash - path));
  dir[slash - path] = '\0';
  a->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (a->dir_fd < 0) return blx__fail_errno(err, errno, "io", "cannot open the directory of the socket %s", path);
  bool fits = blx__str_format(a->sa.sun_path, sizeof a->sa.sun_path, "/proc/self/fd/%d/%s", a->dir_fd, last);
  BLX__ASSERT(fits);
  return BLX__OK;
}

void address_close(struct address *a) {
  if (a->dir_fd >= 0) (void)close(a->dir_fd);
  a->dir_fd = -1;
}
