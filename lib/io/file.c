#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char origin[] = "io";

static blx__rc read_all(int fd, const char *path, size_t max, struct blx__buf *out, blx_error *err) {
  struct stat st;
  if (fstat(fd, &st) != 0) return blx__fail_errno(err, errno, origin, "cannot read %s", path);
  if (!S_ISREG(st.st_mode)) return blx__fail(err, BLX_E_INVALID, origin, "%s is not a regular file", path);
  size_t start = out->len;
  for (;;) {
    uint8_t piece[16384];
    ssize_t n = read(fd, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return blx__fail_errno(err, errno, origin, "cannot read %s", path);
    if (n == 0) return BLX__OK;
    if (out->len - start + (size_t)n > max)
      return blx__fail(err, BLX_E_INVALID, origin, "%s is longer than the %zu bytes allowed", path, max);
    if (!blx__buf_add(out, piece, (size_t)n))
      return blx__fail(err, BLX_E_NOMEM, origin, "no room to read %s (%zu bytes so far)", path, out->len - start);
  }
}

blx__rc blx__file_read(const char *path, size_t max, struct blx__buf *out, blx_error *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return blx__fail_errno(err, errno, origin, "cannot open %s", path);
  size_t start = out->len;
  blx__rc rc = read_all(fd, path, max, out, err);
  if (rc.code != 0) out->len = start;
  (void)close(fd);
  return rc;
}

static int write_all(int fd, const uint8_t *p, size_t n) {
  while (n > 0) {
    ssize_t w = write(fd, p, n);
    if (w < 0 && errno == EINTR) continue;
    if (w < 0) return -1;
    p += w;
    n -= (size_t)w;
  }
  return 0;
}

/* The directory of @path, opened; and the last component. */
static int open_parent(const char *path, const char **last) {
  const char *slash = strrchr(path, '/');
  *last = slash ? slash + 1 : path;
  if (!slash) return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (slash == path) return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  char dir[PATH_MAX];
  size_t n = (size_t)(slash - path);
  if (n >= sizeof dir) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(dir, path, n);
  dir[n] = '\0';
  return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static blx__rc write_temp(int dir, const char *temp, const char *path, const void *bytes, size_t size, unsigned mode,
                          blx_error *err) {
  int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, (mode_t)mode);
  if (fd < 0) return blx__fail_errno(err, errno, origin, "cannot make a file beside %s", path);
  blx__rc rc = BLX__OK;
  if (fchmod(fd, (mode_t)mode) != 0 || write_all(fd, bytes, size) != 0 || fsync(fd) != 0)
    rc = blx__fail_errno(err, errno, origin, "cannot write %s (%zu bytes)", path, size);
  if (close(fd) != 0 && rc.code == 0) rc = blx__fail_errno(err, errno, origin, "cannot write %s", path);
  return rc;
}

blx__rc blx__file_write_atomic(const char *path, const void *bytes, size_t size, unsigned mode, blx_error *err) {
  const char *last = NULL;
  int dir = open_parent(path, &last);
  if (dir < 0) return blx__fail_errno(err, errno, origin, "cannot open the directory of %s", path);
  uint64_t salt = 0;
  char temp[NAME_MAX + 1];
  blx__rc rc = blx__random_bytes(&salt, sizeof salt, err);
  if (rc.code == 0 && !blx__str_format(temp, sizeof temp, ".%.200s.%016llx", last, (unsigned long long)salt))
    rc = blx__fail(err, BLX_E_INVALID, origin, "the name of %s is too long", path);
  if (rc.code == 0) {
    rc = write_temp(dir, temp, path, bytes, size, mode, err);
    if (rc.code == 0 && renameat(dir, temp, dir, last) != 0)
      rc = blx__fail_errno(err, errno, origin, "cannot replace %s", path);
    if (rc.code != 0) (void)unlinkat(dir, temp, 0);
  }
  if (rc.code == 0 && fsync(dir) != 0)
    rc = blx__fail_errno(err, errno, origin, "cannot flush the directory of %s", path);
  (void)close(dir);
  return rc;
}

static blx__rc make_one(const char *path, unsigned mode, blx_error *err) {
  if (mkdir(path, (mode_t)mode) == 0) return BLX__OK;
  int why = errno;
  struct stat st;
  if (stat(path, &st) == 0) {
    if (S_ISDIR(st.st_mode)) return BLX__OK;
    return blx__fail(err, BLX_E_EXISTS, origin, "%s is in the way: it is not a directory", path);
  }
  return blx__fail_errno(err, why, origin, "cannot make the directory %s", path);
}

blx__rc blx__dir_make(const char *path, unsigned mode, blx_error *err) {
  char part[PATH_MAX];
  if (!*path || !blx__str_copy(part, sizeof part, path))
    return blx__fail(err, BLX_E_INVALID, origin, "a directory's path has 1 to %d bytes", PATH_MAX - 1);
  for (char *p = part + 1; *p; p++) {
    if (*p != '/') continue;
    *p = '\0';
    BLX__TRY(make_one(part, mode, err));
    *p = '/';
  }
  return make_one(part, mode, err);
}

/* Relative to @dir, without leaving its mount and without following a link. */
static int open_below(int dir, const char *name) {
  struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                         .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH};
  return (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
}

static blx__rc empty_dir(int fd, const char *path, unsigned depth, blx_error *err);

static blx__rc remove_entry(int dir, const char *name, const char *path, unsigned depth, blx_error *err) {
  if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return BLX__OK;
  if (errno != EISDIR && errno != EPERM)
    return blx__fail_errno(err, errno, origin, "cannot remove %s in %s", name, path);
  int sub = open_below(dir, name);
  if (sub < 0 && errno == EXDEV)
    return blx__fail(err, BLX_E_INVALID, origin, "%s below %s is a mount: unmount it first", name, path);
  if (sub < 0) return blx__fail_errno(err, errno, origin, "cannot remove %s below %s", name, path);
  BLX__TRY(empty_dir(sub, path, depth + 1, err));
  if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
    return blx__fail_errno(err, errno, origin, "cannot remove the directory %s below %s", name, path);
  return BLX__OK;
}

/* Takes @fd. The depth is bounded, and so is the stack. */
static blx__rc empty_dir(int fd, const char *path, unsigned depth, blx_error *err) {
  if (depth > BLX__DIR_DEPTH_MAX) {
    (void)close(fd);
    return blx__fail(err, BLX_E_INVALID, origin, "%s is more than %d directories deep: remove it by hand", path,
                     BLX__DIR_DEPTH_MAX);
  }
  DIR *d = fdopendir(fd);
  if (!d) {
    int why = errno;
    (void)close(fd);
    return blx__fail_errno(err, why, origin, "cannot list %s", path);
  }
  blx__rc rc = BLX__OK;
  errno = 0;
  for (struct dirent *e; rc.code == 0 && (e = readdir(d)) != NULL; errno = 0)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
      rc = remove_entry(dirfd(d), e->d_name, path, depth, err);
  if (rc.code == 0 && errno != 0) rc = blx__fail_errno(err, errno, origin, "cannot list %s", path);
  (void)closedir(d);
  return rc;
}

blx__rc blx__dir_remove_tree(const char *path, blx_error *err) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return BLX__OK;
  if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
    if (unlink(path) == 0 || errno == ENOENT) return BLX__OK;
    return blx__fail_errno(err, errno, origin, "cannot remove %s", path);
  }
  if (fd < 0) return blx__fail_errno(err, errno, origin, "cannot open %s to remove it", path);
  BLX__TRY(empty_dir(fd, path, 1, err));
  if (rmdir(path) != 0 && errno != ENOENT) return blx__fail_errno(err, errno, origin, "cannot remove %s", path);
  return BLX__OK;
}

blx__rc blx__random_bytes(void *out, size_t size, blx_error *err) {
  uint8_t *p = out;
  while (size > 0) {
    ssize_t n = getrandom(p, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return blx__fail_errno(err, errno, origin, "the kernel gave no random bytes");
    p += n;
    size -= (size_t)n;
  }
  return BLX__OK;
}
