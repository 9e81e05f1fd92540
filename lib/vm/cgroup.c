#include "vm/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char origin[] = "vm/cgroup";

enum { KILL_ROUNDS = 500 }; /* of 10 ms */

static bool put_file(const char *dir, const char *name, const char *text) {
  char path[PATH_MAX + 64];
  if (!blx__str_format(path, sizeof path, "%s/%s", dir, name)) return false;
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  size_t n = strlen(text);
  bool ok = write(fd, text, n) == (ssize_t)n;
  return close(fd) == 0 && ok;
}

/* Make @root/@name, and its parents, of which the last two components are ours. */
static bool make_dirs(const char *root, const char *name, char path[PATH_MAX]) {
  if (!blx__str_format(path, PATH_MAX, "%s/%s", root, name)) {
    errno = ENAMETOOLONG;
    return false;
  }
  for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
    *at = '\0';
    bool ok = mkdir(path, 0755) == 0 || errno == EEXIST;
    /* Version 2 hands controllers down one level at a time; version 1 has no such file. */
    (void)put_file(path, "cgroup.subtree_control", "+memory +cpu +pids");
    *at = '/';
    if (!ok) return false;
  }
  return mkdir(path, 0755) == 0 || errno == EEXIST;
}

struct limits {
  char memory[32], cpu_quota[32], cpu_max[48], pids[16];
};

static void limits_of(const struct blx__vm_limits *want, struct limits *l) {
  uint64_t quota_us = want->vcpus * 100000 + 50000; /* half a processor for the monitor's own threads */
  uint64_t memory_bytes = (want->memory_mib + BLX__VM_MEMORY_EXTRA_MIB) << 20;
  (void)blx__str_format(l->memory, sizeof l->memory, "%llu", (unsigned long long)memory_bytes);
  (void)blx__str_format(l->cpu_quota, sizeof l->cpu_quota, "%llu", (unsigned long long)quota_us);
  (void)blx__str_format(l->cpu_max, sizeof l->cpu_max, "%llu 100000", (unsigned long long)quota_us);
  (void)blx__str_format(l->pids, sizeof l->pids, "%d", BLX__VM_PIDS_MAX);
}

/* One hierarchy: directory, then its limit. Memory's must hold; the others are a courtesy among guests. */
static bool add(struct blx__vm_cgroup *g, const char *root, const char *name, const char *file, const char *value) {
  BLX__ASSERT(g->count < BLX__VM_CGROUPS_MAX);
  if (!make_dirs(root, name, g->path[g->count])) return false;
  g->count++;
  return put_file(g->path[g->count - 1], file, value);
}

struct roots {
  char memory[256], cpu[256], pids[256], unified[256];
};

static void find_roots(struct roots *r) {
  FILE *mounts = setmntent("/proc/self/mounts", "r");
  if (!mounts) return;
  struct mntent *m;
  while ((m = getmntent(mounts))) {
    bool one = blx__str_eq(m->mnt_type, "cgroup");
    if (one && hasmntopt(m, "memory")) (void)blx__str_copy(r->memory, sizeof r->memory, m->mnt_dir);
    if (one && hasmntopt(m, "cpu")) (void)blx__str_copy(r->cpu, sizeof r->cpu, m->mnt_dir);
    if (one && hasmntopt(m, "pids")) (void)blx__str_copy(r->pids, sizeof r->pids, m->mnt_dir);
    if (blx__str_eq(m->mnt_type, "cgroup2")) (void)blx__str_copy(r->unified, sizeof r->unified, m->mnt_dir);
  }
  (void)endmntent(mounts);
}

static blx__rc make_unified(struct blx__vm_cgroup *g, const char *root, const char *name, const struct limits *l,
                            blx_error *err) {
  g->unified = true;
  (void)put_file(root, "cgroup.subtree_control", "+memory +cpu +pids");
  if (!add(g, root, name, "memory.max", l->memory))
    return blx__fail_errno(err, errno, origin, "no memory limit can be set in %s/%s", root, name);
  (void)put_file(g->path[0], "cpu.max", l->cpu_max);
  (void)put_file(g->path[0], "pids.max", l->pids);
  return BLX__OK;
}

blx__rc blx__vm_cgroup_make(struct blx__vm_cgroup *g, const char *name, const struct blx__vm_limits *want,
                            blx_error *err) {
  *g = (struct blx__vm_cgroup){0};
  struct roots r = {0};
  struct limits l;
  limits_of(want, &l);
  find_roots(&r);
  if (r.memory[0]) {
    if (!add(g, r.memory, name, "memory.limit_in_bytes", l.memory))
      return blx__fail_errno(err, errno, origin, "no memory limit can be set in %s/%s", r.memory, name);
    if (r.pids[0]) (void)add(g, r.pids, name, "pids.max", l.pids);
    if (r.cpu[0]) (void)add(g, r.cpu, name, "cpu.cfs_quota_us", l.cpu_quota);
    return BLX__OK;
  }
  if (r.unified[0]) return make_unified(g, r.unified, name, &l, err);
  return blx__fail(err, BLX_E_UNSUPPORTED, origin, "this host mounts no cgroup with the memory controller");
}

blx__rc blx__vm_cgroup_parent(const char *parent, char out[PATH_MAX], blx_error *err) {
  struct roots r = {0};
  find_roots(&r);
  const char *root = r.memory[0] ? r.memory : r.unified;
  if (!root[0])
    return blx__fail(err, BLX_E_UNSUPPORTED, origin, "this host mounts no cgroup with the memory controller");
  if (make_dirs(root, parent, out)) {
    (void)rmdir(out); /* refused while there are any */
    return BLX__OK;
  }
  return blx__fail_errno(err, errno, origin, "the cgroup %s/%s cannot be made", root, parent);
}

bool blx__vm_cgroup_join(const struct blx__vm_cgroup *g) {
  for (unsigned i = 0; i < g->count; i++)
    if (!put_file(g->path[i], "cgroup.procs", "0")) return false;
  return true;
}

/* Kill every process of one hierarchy's directory; false when there was none. */
static bool kill_procs(const char *dir) {
  char path[PATH_MAX + 64];
  if (!blx__str_format(path, sizeof path, "%s/cgroup.procs", dir)) return false;
  FILE *f = fopen(path, "re");
  if (!f) return false;
  bool any = false;
  int pid;
  while (fscanf(f, "%d", &pid) == 1) {
    if (pid > 1) (void)kill(pid, SIGKILL);
    any = true;
  }
  (void)fclose(f);
  return any;
}

/* One that forks faster than it is killed gets no more children. */
static void stop_forks(const struct blx__vm_cgroup *g) {
  for (unsigned i = 0; i < g->count; i++) (void)put_file(g->path[i], "pids.max", "0");
}

void blx__vm_cgroup_kill(const struct blx__vm_cgroup *g) {
  if (g->count == 0) return;
  stop_forks(g);
  if (g->unified && put_file(g->path[0], "cgroup.kill", "1")) return;
  (void)kill_procs(g->path[0]);
}

bool blx__vm_cgroup_remove(struct blx__vm_cgroup *g) {
  bool empty = g->count == 0;
  stop_forks(g);
  for (unsigned round = 0; !empty && round < KILL_ROUNDS; round++) {
    empty = !kill_procs(g->path[0]);
    if (!empty) (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  for (unsigned i = 0; i < g->count; i++) {
    (void)rmdir(g->path[i]);
    /* The node's own directory goes with its last instance; it stays while another is in it. */
    char *slash = strrchr(g->path[i], '/');
    *slash = '\0';
    (void)rmdir(g->path[i]);
  }
  g->count = 0;
  return empty;
}

static void find_one(struct blx__vm_cgroup *g, const char *root, const char *name) {
  char *path = g->path[g->count];
  if (root[0] && blx__str_format(path, PATH_MAX, "%s/%s", root, name) && access(path, F_OK) == 0) g->count++;
}

void blx__vm_cgroup_find(struct blx__vm_cgroup *g, const char *name) {
  *g = (struct blx__vm_cgroup){0};
  struct roots r = {0};
  find_roots(&r);
  find_one(g, r.memory, name);
  find_one(g, r.pids, name);
  find_one(g, r.cpu, name);
  if (g->count == 0) find_one(g, r.unified, name);
  g->unified = g->count == 1 && !r.memory[0];
}
