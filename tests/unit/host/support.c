#include "support.h"

#include "base/rc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void path_of(const struct place *p, const char *name, char out[PATH_MAX]) {
  ck_assert(blx__str_format(out, PATH_MAX, "%s/%s", p->dir, name));
}

static void make_above(char *path) {
  for (char *at = path + 1; (at = strchr(at, '/')); at++) {
    *at = '\0';
    ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
    *at = '/';
  }
}

void place_dir(const struct place *p, const char *name) {
  char path[PATH_MAX];
  path_of(p, name, path);
  make_above(path);
  ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
}

void place_open(struct place *p) {
  *p = (struct place){.top = "/tmp/blx-host-XXXXXX"};
  ck_assert_ptr_nonnull(mkdtemp(p->top));
  ck_assert_int_eq(chmod(p->top, 0755), 0);
  (void)blx__str_format(p->dir, sizeof p->dir, "%s/vms/web-1-7", p->top);
  place_dir(p, SHARE);
  place_dir(p, "work");
  p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ck_assert_int_ge(p->fd, 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
  (void)st, (void)type, (void)ftw;
  return remove(path);
}

void place_close(struct place *p) {
  (void)close(p->fd);
  ck_assert_int_eq(nftw(p->top, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void place_apart(const struct place *p) {
  char path[PATH_MAX];
  ck_assert_int_eq(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
  ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
  ck_assert_int_eq(mount("sysfs", "/sys", "sysfs", 0, NULL), 0);
  path_of(p, "tun", path);
  ck_assert_int_eq(mknod(path, S_IFCHR | 0600, makedev(10, 200)), 0);
  ck_assert_int_eq(chmod(path, 0666), 0);
  ck_assert_int_eq(mount(path, "/dev/net/tun", NULL, MS_BIND, NULL), 0);
}

void place_apart_end(void) {
  ck_assert_int_eq(umount("/dev/net/tun"), 0);
  ck_assert_int_eq(umount("/sys"), 0);
}

void place_put(const struct place *p, const char *name, const char *text) {
  char path[PATH_MAX];
  path_of(p, name, path);
  make_above(path);
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
  ck_assert_int_eq(fclose(f), 0);
}

void place_get(const struct place *p, const char *name, char *text, size_t size) {
  char path[PATH_MAX];
  path_of(p, name, path);
  FILE *f = fopen(path, "r");
  ck_assert_msg(f != NULL, "%s is missing", name);
  size_t n = fread(text, 1, size - 1, f);
  text[n] = '\0';
  ck_assert_int_eq(fclose(f), 0);
}

bool place_has(const struct place *p, const char *name) {
  struct stat st;
  return fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
