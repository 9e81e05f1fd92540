/* Whether an instance has a disk on this node: what would be lost, or older, if it started elsewhere. It is looked for
 * in its working directory, where runners make their volumes: a regular file of 1 MiB or more, or one that is named as
 * an image, at most four directories down. A runner may take its time to make one, so it is looked for more than once.
 */
#include "vm/vm_int.h"

#include "io/work.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE_MIN = 1 << 20, DEPTH_MAX = 4, ENTRIES_MAX = 4096 };

static const uint32_t looks_ms[] = {0, 2000, 10000, 60000}; /* after it runs */

struct look {
  struct vm_instance *in;
  char dir[PATH_MAX];
  bool found;
};

static bool is_image(const char *name) {
  static const char *const ends[] = {".img", ".raw", ".qcow2"};
  for (size_t i = 0; i < BLX__COUNT(ends); i++) {
    size_t n = strlen(name), m = strlen(ends[i]);
    if (n > m && strcmp(name + n - m, ends[i]) == 0) return true;
  }
  return false;
}

/* @fd is closed. */
static bool walk(int fd, unsigned depth, unsigned *left) {
  DIR *d = fd < 0 ? NULL : fdopendir(fd);
  const struct dirent *e;
  bool found = false;
  if (!d) {
    if (fd >= 0) (void)close(fd);
    return false;
  }
  while (!found && *left > 0 && (e = readdir(d))) {
    struct stat st;
    --*left;
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    found = S_ISREG(st.st_mode) && (st.st_size >= SIZE_MIN || is_image(e->d_name));
    if (!found && S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
      found = walk(openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), depth + 1, left);
  }
  (void)closedir(d);
  return found;
}

bool vm_has_data(int dir) {
  unsigned left = ENTRIES_MAX;
  return walk(openat(dir, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), 0, &left);
}

static void look_work(void *arg) {
  struct look *l = arg;
  int dir = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  l->found = dir >= 0 && vm_has_data(dir);
  if (dir >= 0) (void)close(dir);
}

static void look_done(void *arg) {
  struct look *l = arg;
  struct vm_instance *in = l->in;
  struct microvm *m = in->m;
  bool found = l->found && vm_runs(in) && !in->status.local_data;
  free(l);
  in->holds--;
  m->jobs--;
  if (found) {
    in->status.local_data = true;
    vm_emit(in, BLX__VM_EVENT_DATA);
  }
  if (m->closing)
    vm_close_check(m);
  else
    vm_data_look(in);
}

void vm_on_data_timer(void *arg) {
  struct vm_instance *in = arg;
  if (in->m->closing || !vm_runs(in)) return;
  struct look *l = calloc(1, sizeof *l);
  if (l) {
    l->in = in;
    (void)blx__str_copy(l->dir, sizeof l->dir, in->dir);
  }
  if (!l || blx__work(in->m->loop, look_work, look_done, l, NULL).code != 0) {
    free(l); /* no room: with the next look */
    vm_data_look(in);
    return;
  }
  in->holds++;
  in->m->jobs++;
}

void vm_data_begin(struct vm_instance *in) {
  in->looks = 0;
  vm_data_look(in);
}

void vm_data_look(struct vm_instance *in) {
  if (in->status.local_data || !vm_runs(in) || in->looks >= BLX__COUNT(looks_ms)) {
    vm_instance_settle(in);
    return;
  }
  blx__timer_start(in->data_timer, looks_ms[in->looks++], 0);
}
