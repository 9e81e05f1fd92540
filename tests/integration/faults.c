/* Preloaded into a daemon by tests: its disk and its lock do what BLX_FAULT_DIR holds a file for.
 *   nfs    the file system says that it is NFS
 *   lock   taking the lock of a data directory takes as long as the file is there
 *   accept taking a connection takes as long as the file is there: the node's loop stands still
 *   hang   a sync to the disk takes as long as the file is there
 *   eio    a sync to the disk fails
 *   wall   the clock on the wall is an hour ahead, or as many seconds as the file says; less than 0 for behind */
#include <dlfcn.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static bool wanted(const char *fault) {
  char path[512];
  const char *dir = getenv("BLX_FAULT_DIR");
  snprintf(path, sizeof path, "%s/%s", dir != NULL ? dir : "/nowhere", fault);
  return access(path, F_OK) == 0;
}

static void wait_while(const char *fault) {
  while (wanted(fault)) usleep(20000);
}

int statfs(const char *path, struct statfs *out) {
  int (*real)(const char *, struct statfs *) = (int (*)(const char *, struct statfs *))dlsym(RTLD_NEXT, "statfs");
  int rc = real(path, out);
  if (rc == 0 && wanted("nfs")) out->f_type = NFS_SUPER_MAGIC;
  return rc;
}

int flock(int fd, int operation) {
  int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
  wait_while("lock");
  return real(fd, operation);
}

int accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags) {
  int (*real)(int, struct sockaddr *, socklen_t *, int) =
      (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
  wait_while("accept");
  return real(fd, peer, size, flags);
}

static int sync_with(const char *name, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  wait_while("hang");
  if (!wanted("eio")) return real(fd);
  errno = EIO;
  return -1;
}

int fdatasync(int fd) {
  return sync_with("fdatasync", fd);
}

int fsync(int fd) {
  return sync_with("fsync", fd);
}

/* Seconds that the wall is off: what the file says, an hour if it is empty. */
static time_t wall_offset(void) {
  char path[512], text[32] = "";
  const char *dir = getenv("BLX_FAULT_DIR");
  snprintf(path, sizeof path, "%s/wall", dir != NULL ? dir : "/nowhere");
  FILE *file = fopen(path, "re");
  if (file == NULL) return 0;
  if (fgets(text, sizeof text, file) == NULL) text[0] = '\0';
  fclose(file);
  return text[0] != '\0' ? (time_t)strtoll(text, NULL, 10) : 3600;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  static int (*real)(clockid_t, struct timespec *);
  if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int rc = real(clock, out);
  if (rc == 0 && clock == CLOCK_REALTIME && wanted("wall")) out->tv_sec += wall_offset();
  return rc;
}
