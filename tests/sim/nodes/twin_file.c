/* Files of simulated machines, and the system calls that are made above lib/io. */
#include "twin.h"

#include "io/disk.h"
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { FD_BASE = 1 << 20 };

bool twin_path(const char *path, struct machine **m, enum machine_dir *dir, const char **name) {
  static const char *const below[DIR_COUNT] = {[DIR_DATA] = "", [DIR_RAFT] = "raft", [DIR_AGENT] = "agent"};
  if (strncmp(path, "/n", 2) != 0) return false;
  char *end = NULL;
  unsigned long number = strtoul(path + 2, &end, 10);
  if (number < 1 || number >= MACHINES_MAX || (*end != '/' && *end != '\0')) return false;
  *m = &twin.machines[number];
  *dir = DIR_DATA;
  *name = *end == '/' ? end + 1 : end;
  for (unsigned i = DIR_RAFT; i < DIR_COUNT; i++) {
    size_t len = strlen(below[i]);
    if (strncmp(*name, below[i], len) != 0 || ((*name)[len] != '/' && (*name)[len] != '\0')) continue;
    *dir = (enum machine_dir)i;
    *name += (*name)[len] == '/' ? len + 1 : len;
    break;
  }
  return strchr(*name, '/') == NULL;
}

/* NULL: it is on no machine. */
static struct blx__sim_disk *disk_at(const char *path, const char **name) {
  struct machine *m = NULL;
  enum machine_dir dir = DIR_DATA;
  return twin_path(path, &m, &dir, name) ? &m->disks[dir] : NULL;
}

/* ---- file.h */

blx__rc blx__file_read(const char *path, size_t max, struct blx__buf *out, blx_error *err) {
  const char *name = NULL;
  struct blx__slice file = {0};
  const struct blx__sim_disk *d = disk_at(path, &name);
  /* What a machine says of itself: nothing. */
  if (strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0)
    return blx__fail(err, BLX_E_NOT_FOUND, "io", "no file %s", path);
  BLX__ASSERT(d != NULL);
  if (blx__sim_disk_read(d, name, &file).code != 0) return blx__fail(err, BLX_E_NOT_FOUND, "io", "no file %s", path);
  if (file.len > max || !blx__buf_add(out, file.data, file.len))
    return blx__fail(err, BLX_E_INVALID, "io", "%s is too long", path);
  return BLX__OK;
}

static blx__rc write_atomic(struct blx__sim_disk *d, const char *name, struct blx__slice bytes) {
  char temporary[BLX__DISK_NAME_MAX + 1];
  bool fits = blx__str_format(temporary, sizeof temporary, ".%s.new", name);
  BLX__ASSERT(fits);
  struct blx__slice old;
  if (blx__sim_disk_read(d, temporary, &old).code == 0) BLX__TRY(blx__sim_disk_truncate(d, temporary, 0));
  BLX__TRY(blx__sim_disk_write(d, temporary, 0, bytes));
  BLX__TRY(blx__sim_disk_sync_now(d, temporary));
  BLX__TRY(blx__sim_disk_rename(d, temporary, name));
  return blx__sim_disk_sync_now(d, NULL);
}

blx__rc blx__file_write_atomic(const char *path, const void *bytes, size_t size, unsigned mode, blx_error *err) {
  (void)mode;
  const char *name = NULL;
  struct blx__sim_disk *d = disk_at(path, &name);
  BLX__ASSERT(d != NULL);
  blx__rc rc = write_atomic(d, name, (struct blx__slice){bytes, size});
  return rc.code == 0 ? rc : blx__fail(err, rc.code, "io", "cannot write %s", path);
}

/* They are there from the beginning. */
blx__rc blx__dir_make(const char *path, unsigned mode, blx_error *err) {
  const char *name = NULL;
  (void)mode;
  (void)err;
  BLX__ASSERT(disk_at(path, &name) != NULL);
  return BLX__OK;
}

blx__rc blx__random_bytes(void *out, size_t size, blx_error *err) {
  uint8_t *p = out;
  (void)err;
  for (size_t i = 0; i < size; i++) p[i] = (uint8_t)blx__sim_rng_next(&twin.sim.rng);
  return BLX__OK;
}

/* ---- disk.h */

static struct blx__sim_disk *disk_of_fd(int fd) {
  unsigned at = (unsigned)(fd - FD_BASE);
  BLX__ASSERT(fd >= FD_BASE && at / DIR_COUNT <= MACHINES_MAX);
  return &twin.machines[at / DIR_COUNT].disks[at % DIR_COUNT];
}

blx__rc blx__disk_open(struct blx__loop *loop, int dir_fd, struct blx__disk *out, blx_error *err) {
  (void)loop;
  (void)err;
  *out = blx__sim_disk_table(disk_of_fd(dir_fd));
  return BLX__OK;
}

void blx__disk_free(struct blx__disk *d) {
  *d = (struct blx__disk){0};
}

/* ---- system calls: the linker sends those of the library here */

int __wrap_open(const char *path, int flags, ...);
int __wrap_close(int fd);
int __wrap_flock(int fd, int operation);
int __wrap_fstatfs(int fd, struct statfs *out);
int __wrap_statvfs(const char *path, struct statvfs *out);
int __wrap_stat(const char *path, struct stat *out);
int __wrap_faccessat(int fd, const char *name, int mode, int flags);
int __wrap_unlink(const char *path);
int __wrap_unlinkat(int fd, const char *name, int flags);
DIR *__wrap_opendir(const char *path);
struct dirent *__wrap_readdir(DIR *dir);
int __wrap_closedir(DIR *dir);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_join(pthread_t thread, void **out);

int __wrap_open(const char *path, int flags, ...) {
  struct machine *m = NULL;
  enum machine_dir dir = DIR_DATA;
  const char *name = NULL;
  (void)flags;
  bool known = twin_path(path, &m, &dir, &name);
  BLX__ASSERT(known && (*name == '\0' || strcmp(name, "lock") == 0));
  return FD_BASE + (int)(m->number * DIR_COUNT + dir);
}

int __wrap_close(int fd) {
  (void)disk_of_fd(fd);
  return 0;
}

int __wrap_flock(int fd, int operation) {
  (void)operation;
  (void)disk_of_fd(fd);
  return 0;
}

int __wrap_fstatfs(int fd, struct statfs *out) {
  (void)disk_of_fd(fd);
  *out = (struct statfs){.f_type = EXT4_SUPER_MAGIC};
  return 0;
}

int __wrap_statvfs(const char *path, struct statvfs *out) {
  struct machine *m = NULL;
  enum machine_dir dir = DIR_DATA;
  const char *name = NULL;
  bool known = twin_path(path, &m, &dir, &name);
  BLX__ASSERT(known);
  *out = (struct statvfs){.f_frsize = 1, .f_blocks = m->size_bytes, .f_bavail = m->free_bytes};
  return 0;
}

int __wrap_stat(const char *path, struct stat *out) {
  const char *name = NULL;
  BLX__ASSERT(disk_at(path, &name) != NULL);
  *out = (struct stat){.st_mode = S_IFDIR | 0711, .st_uid = geteuid()};
  return 0;
}

int __wrap_faccessat(int fd, const char *name, int mode, int flags) {
  struct blx__slice file;
  (void)mode;
  (void)flags;
  if (strcmp(name, ".") == 0 || blx__sim_disk_read(disk_of_fd(fd), name, &file).code == 0) return 0;
  errno = ENOENT;
  return -1;
}

static int removed(blx__rc rc) {
  if (rc.code == 0) return 0;
  errno = rc.code == BLX_E_NOT_FOUND ? ENOENT : EIO;
  return -1;
}

int __wrap_unlink(const char *path) {
  const char *name = NULL;
  struct blx__sim_disk *d = disk_at(path, &name);
  BLX__ASSERT(d != NULL);
  return removed(blx__sim_disk_remove(d, name));
}

int __wrap_unlinkat(int fd, const char *name, int flags) {
  (void)flags;
  return removed(blx__sim_disk_remove(disk_of_fd(fd), name));
}

/* What opendir gives is ours, and never the C library's. */
struct listing {
  const struct blx__sim_disk *disk;
  char name[BLX__DISK_NAME_MAX + 1];
  struct dirent entry;
};

DIR *__wrap_opendir(const char *path) {
  const char *name = NULL;
  struct listing *l = calloc(1, sizeof *l);
  BLX__ASSERT(l != NULL);
  l->disk = disk_at(path, &name);
  BLX__ASSERT(l->disk && *name == '\0');
  return (DIR *)(void *)l;
}

struct dirent *__wrap_readdir(DIR *dir) {
  struct listing *l = (struct listing *)(void *)dir;
  if (!blx__sim_disk_next(l->disk, l->name)) return NULL;
  l->entry.d_type = DT_REG;
  (void)blx__str_copy(l->entry.d_name, sizeof l->entry.d_name, l->name);
  return &l->entry;
}

int __wrap_closedir(DIR *dir) {
  free(dir);
  return 0;
}

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
  (void)attr;
  struct machine *m = twin.current;
  BLX__ASSERT(m && !m->thread);
  m->thread = fn;
  m->thread_arg = arg;
  *out = (pthread_t)m->number;
  return 0;
}

int __wrap_pthread_join(pthread_t thread, void **out) {
  struct machine *m = &twin.machines[thread];
  (void)out;
  BLX__ASSERT(m->thread != NULL);
  (void)m->thread(m->thread_arg);
  m->thread = NULL;
  return 0;
}
