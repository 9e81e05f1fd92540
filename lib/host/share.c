#include "host/share.h"

#include "host/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char origin[] = "host/share", shares_dir[] = "booted/share/microvm/virtiofs", store[] = "/nix/store";

/* What neither a file system, nor an option of QEMU or virtiofsd reads as anything else. */
static bool word_ok(const char *text, size_t max) {
  size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
  return n > 0 && n <= max && text[n] == '\0' && text[0] != '.' && text[0] != '-';
}

static blx__rc read_line(int dir, const char *tag, const char *what, char text[HOST_TEXT_MAX], blx_error *err) {
  char path[128];
  bool fits = blx__str_format(path, sizeof path, "%s/%s/%s", shares_dir, tag, what);
  BLX__ASSERT(fits);
  BLX__TRY(host_read_at(dir, path, text, err));
  text[strcspn(text, "\n")] = '\0';
  return BLX__OK;
}

/* ---- sources */

/* One step down, made if missing. A link there would lead wherever a monitor that was broken into wanted. */
static blx__rc step(int *at, const char *name, const char *tag, uint32_t uid, uint32_t gid, blx_error *err) {
  if (strcmp(name, "..") == 0)
    return blx__fail(err, BLX_E_INVALID, origin,
                     "the source of share %s leads out of the VM's directory by \"..\": name the directory from /, and "
                     "list it in share_paths",
                     tag);
  bool made = mkdirat(*at, name, 0755) == 0;
  if (!made && errno != EEXIST)
    return blx__fail_errno(err, errno, origin, "the directory %s of share %s cannot be made", name, tag);
  int fd = openat(*at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return blx__fail(err, BLX_E_DENIED, origin,
                     "the source of share %s is no directory, or lies behind a link: %s in the VM's directory", tag,
                     name);
  (void)close(*at);
  *at = fd;
  if (made && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0)
    return blx__fail_errno(err, errno, origin, "the directory %s of share %s cannot be given to user %u", name, tag,
                           uid);
  return BLX__OK;
}

static blx__rc open_relative(int dir, struct blx__host_share *s, char *source, uint32_t uid, uint32_t gid,
                             blx_error *err) {
  char *rest = NULL;
  int at = openat(dir, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (at < 0) return blx__fail_errno(err, errno, origin, "the working directory cannot be entered");
  blx__rc rc = BLX__OK;
  unsigned steps = 0;
  for (const char *name = strtok_r(source, "/", &rest); name && rc.code == 0; name = strtok_r(NULL, "/", &rest)) {
    if (strcmp(name, ".") == 0) continue;
    rc = step(&at, name, s->tag, uid, gid, err);
    steps++;
  }
  if (rc.code == 0 && steps == 0)
    rc = blx__fail(err, BLX_E_INVALID, origin, "the source of share %s is the VM's directory itself: name one below it",
                   s->tag);
  if (rc.code != 0)
    (void)close(at);
  else
    s->source = at;
  return rc;
}

static bool lies_below(const char *path, const char *dir) {
  char real[PATH_MAX];
  if (!realpath(dir, real)) return false;
  size_t n = strlen(real);
  if (n == 1) return true; /* the root */
  return strncmp(path, real, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_allowed(const char *path, const char *allowed) {
  char dir[PATH_MAX];
  for (const char *at = allowed; at && *at;) {
    size_t n = strcspn(at, ":");
    if (n > 0 && n < sizeof dir) {
      (void)blx__str_format(dir, sizeof dir, "%.*s", (int)n, at);
      if (dir[0] == '/' && lies_below(path, dir)) return true;
    }
    at += n + (at[n] == ':');
  }
  return false;
}

/* Opened first and judged by where it is then, so that no link can be changed in between. */
static blx__rc open_absolute(struct blx__host_share *s, const char *source, const char *allowed, blx_error *err) {
  char self[32], real[PATH_MAX];
  int fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return blx__fail(err, errno == ENOENT ? BLX_E_NOT_FOUND : BLX_E_DENIED, origin,
                     "the source of share %s, %.200s, is no directory of this host: make it, or give the VM another "
                     "node",
                     s->tag, source);
  (void)blx__str_format(self, sizeof self, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(self, real, sizeof real - 1);
  real[n > 0 ? n : 0] = '\0';
  s->read_only = lies_below(real, store);
  if (s->read_only || (n > 0 && is_allowed(real, allowed))) {
    s->source = fd;
    return BLX__OK;
  }
  (void)close(fd);
  return blx__fail(err, BLX_E_DENIED, origin,
                   "the source of share %s, %.200s, is not below a directory that this node shares with VMs (%.150s): "
                   "add one to share_paths in the daemon's configuration and start it anew, or name a relative source",
                   s->tag, real, allowed && allowed[0] ? allowed : "none but /nix/store");
}

/* ---- all of them */

static blx__rc open_one(int dir, const char *tag, const char *allowed, uint32_t uid, uint32_t gid,
                        struct blx__host_share *s, blx_error *err) {
  char text[HOST_TEXT_MAX];
  *s = (struct blx__host_share){.source = -1};
  if (!word_ok(tag, BLX__HOST_TAG_MAX))
    return blx__fail(err, BLX_E_INVALID, origin, "\"%.40s\" is no tag of a share: 1 to %d of A-Z, a-z, 0-9, _, - and .",
                     tag, BLX__HOST_TAG_MAX);
  (void)blx__str_copy(s->tag, sizeof s->tag, tag);
  BLX__TRY(read_line(dir, tag, "socket", text, err));
  if (!word_ok(text, BLX__HOST_SHARE_SOCKET_MAX))
    return blx__fail(err, BLX_E_INVALID, origin,
                     "the socket of share %s, \"%.60s\", must be a name in the VM's directory: 1 to %d of A-Z, a-z, "
                     "0-9, _, - and .",
                     tag, text, BLX__HOST_SHARE_SOCKET_MAX);
  (void)blx__str_copy(s->socket, sizeof s->socket, text);
  BLX__TRY(read_line(dir, tag, "source", text, err));
  if (text[0] == '/') return open_absolute(s, text, allowed, err);
  return open_relative(dir, s, text, uid, gid, err);
}

static DIR *open_list(int dir) {
  int fd = openat(dir, shares_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *d = fd < 0 ? NULL : fdopendir(fd);
  if (!d && fd >= 0) (void)close(fd);
  return d;
}

blx__rc blx__host_shares_open(int dir, const char *allowed, uint32_t uid, uint32_t gid,
                              struct blx__host_share shares[BLX__HOST_SHARES_MAX], unsigned *out, blx_error *err) {
  unsigned count = 0;
  blx__rc rc = BLX__OK;
  struct dirent *e;
  DIR *d = open_list(dir);
  if (!d && errno != ENOENT) return blx__fail_errno(err, errno, origin, "the runner's shares cannot be read");
  while (d && rc.code == 0 && (e = readdir(d))) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    if (count == BLX__HOST_SHARES_MAX)
      rc = blx__fail(err, BLX_E_INVALID, origin, "the runner names more than %d shares", BLX__HOST_SHARES_MAX);
    else
      rc = open_one(dir, e->d_name, allowed, uid, gid, &shares[count], err);
    if (rc.code == 0) count++;
  }
  if (d) (void)closedir(d);
  if (rc.code != 0)
    blx__host_shares_close(shares, count);
  else
    *out = count;
  return rc;
}

void blx__host_shares_close(struct blx__host_share *shares, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    if (shares[i].source >= 0) (void)close(shares[i].source);
    shares[i].source = -1;
  }
}

void blx__host_shares_unlink(int dir) {
  char text[HOST_TEXT_MAX];
  struct dirent *e;
  struct stat st;
  DIR *d = open_list(dir);
  int work = openat(dir, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  while (d && work >= 0 && (e = readdir(d))) {
    bool named = word_ok(e->d_name, BLX__HOST_TAG_MAX) && read_line(dir, e->d_name, "socket", text, NULL).code == 0 &&
                 word_ok(text, BLX__HOST_SHARE_SOCKET_MAX);
    if (named && fstatat(work, text, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
      (void)unlinkat(work, text, 0);
  }
  if (d) (void)closedir(d);
  if (work >= 0) (void)close(work);
}
