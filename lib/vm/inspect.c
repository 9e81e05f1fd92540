/* What blocks: looking at an instance's directory, cleaning up after a shim that died, removing everything. On a
 * worker. */
#include "vm/vm_int.h"

#include "base/failpoint.h"
#include "host/devices.h"
#include "io/file.h"
#include "io/work.h"
#include "vm/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char origin[] = "vm";

enum { ROOTS_SCAN_MAX = 1 << 20, LOCK_ROUNDS = 200 /* of 10 ms */ };

struct job {
  struct vm_instance *in;
  struct blx__list held;
  void (*fn)(void *), (*done)(void *);
  void (*viewed)(struct vm_instance *in, const struct vm_view *v, const blx_error *err);
  void (*removed)(struct vm_instance *in, const blx_error *err);
  struct vm_view view;
  blx__rc rc;
  blx_error err;
  /* The instance lives on the loop: the worker gets copies. */
  char dir[PATH_MAX], cgroup[2][VM_ID_MAX + VM_TAG_MAX + 1],
      /* as one that is highly available, too */ boot_root[PATH_MAX], auto_roots[PATH_MAX], work[PATH_MAX];
  char name[64];
  uint64_t uid, epoch;
  bool patient; /* the lock is about to be free */
};

void vm_nix_state(const struct microvm *m, char out[PATH_MAX]) {
  bool fits = blx__str_format(out, PATH_MAX, "%s/var/nix", m->opt.nix_store_dir ? m->opt.nix_store_dir : "/nix");
  BLX__ASSERT(fits);
}

static void boot_root_path(const struct vm_instance *in, char out[PATH_MAX]) {
  char state[PATH_MAX];
  vm_nix_state(in->m, state);
  bool fits = blx__str_format(out, PATH_MAX, "%s/gcroots/%s/booted-%s", state, in->m->opt.host_tag, in->id);
  BLX__ASSERT(fits);
}

static blx__rc relink(const char *target, const char *path, blx_error *err) {
  char part[PATH_MAX];
  if (!blx__str_format(part, sizeof part, "%s.part", path))
    return blx__fail(err, BLX_E_INVALID, origin, "the path %.200s is too long", path);
  if (unlink(part) != 0 && errno != ENOENT) return blx__fail_errno(err, errno, origin, "%s cannot be replaced", part);
  if (symlink(target, part) != 0 || rename(part, path) != 0)
    return blx__fail_errno(err, errno, origin, "the link %s cannot be made", path);
  return BLX__OK;
}

/* What a runner says of itself; older ones of microvm.nix say it only by their name, HASH-microvm-HYPERVISOR-HOST,
 * which a runner of another make may have for other reasons. */
static blx__rc runner_check(struct vm_instance *in, const char *target, blx_error *err) {
  static const char key[] = "-microvm-", longest[] = "cloud-hypervisor";
  char path[PATH_MAX], name[64] = "";
  struct blx__buf text;
  blx__buf_init(&text, sizeof name - 1);
  blx__rc rc = blx__file_read(vm_path(in, "current/share/microvm/hypervisor", path), sizeof name - 1, &text, err);
  (void)blx__str_format(name, sizeof name, "%.*s", (int)text.len, text.data ? (const char *)text.data : "");
  blx__buf_free(&text);
  if (rc.code == 0) {
    name[strcspn(name, " \n")] = '\0';
    return blx__vm_hypervisor_check(name, in->vcpus, in->memory_mib, err);
  }
  if (rc.code != BLX_E_NOT_FOUND) return rc;
  const char *at = strstr(target, key);
  if (!at) return BLX__OK;
  at += strlen(key);
  size_t n = strncmp(at, longest, strlen(longest)) == 0 ? strlen(longest) : strcspn(at, "-");
  (void)blx__str_format(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : 0), at);
  rc = blx__vm_hypervisor_check(name, in->vcpus, in->memory_mib, err);
  return rc.code == BLX_E_UNSUPPORTED ? rc : BLX__OK;
}

blx__rc vm_boot_link(struct vm_instance *in, blx_error *err) {
  char current[PATH_MAX], booted[PATH_MAX], root[PATH_MAX], target[PATH_MAX];
  ssize_t n = readlink(vm_path(in, "current", current), target, sizeof target - 1);
  if (n < 0) return blx__fail(err, BLX_E_NOT_FOUND, origin, "%s was not prepared on this node", in->name);
  target[n] = '\0';
  BLX__TRY(runner_check(in, target, err));
  boot_root_path(in, root);
  char *slash = strrchr(root, '/');
  *slash = '\0';
  BLX__TRY(blx__dir_make(root, 0755, err));
  *slash = '/';
  /* The root first: a collection between the two must not find the runner unused. */
  BLX__TRY(relink(vm_path(in, "booted", booted), root, err));
  blx__failpoint(BLX__FAILPOINT_START_ROOT);
  BLX__TRY(relink(target, booted, err));
  blx__failpoint(BLX__FAILPOINT_START_LINKED);
  return BLX__OK;
}

/* ---- looking */

static bool exists_at(int dir, const char *name) {
  struct stat st;
  return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A shim holds the lock as long as it lives; the file tells the epoch that it was started for. */
static bool lock_is_held(int dir, uint64_t *epoch) {
  char text[32];
  int fd = openat(dir, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  *epoch = 0;
  if (fd < 0) return errno != ENOENT; /* not known to be free: nobody is dead for want of a descriptor */
  bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
  ssize_t n = pread(fd, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = '\0';
  if (!blx__parse_u64(text, 0, INT64_MAX, epoch)) *epoch = 0;
  (void)close(fd);
  return held;
}

/* Taken before the shim begins, so that there is no moment in which an agent that was started anew could hold it for
 * dead, or remove everything under it. */
blx__rc vm_lock_take(struct vm_instance *in, int *out, blx_error *err) {
  char path[PATH_MAX], epoch[32];
  int fd = open(vm_path(in, "lock", path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return blx__fail_errno(err, errno, origin, "the lock %s cannot be opened", path);
  (void)blx__str_format(epoch, sizeof epoch, "%llu", (unsigned long long)in->op_epoch);
  blx__rc rc = BLX__OK;
  if (flock(fd, LOCK_EX | LOCK_NB) != 0)
    rc = blx__fail(err, BLX_E_CONFLICT, origin, "%s runs already", in->name);
  else if (ftruncate(fd, 0) != 0 || pwrite(fd, epoch, strlen(epoch), 0) < 0)
    rc = blx__fail_errno(err, errno, origin, "the lock %s cannot be written", path);
  if (rc.code != 0)
    (void)close(fd);
  else
    *out = fd;
  return rc;
}

/* A shim that has just told of its monitor's end holds the lock for a moment more. */
static bool lock_stays_held(int dir, uint64_t *epoch) {
  bool held = true;
  for (unsigned i = 0; held && i < LOCK_ROUNDS; i++) {
    held = lock_is_held(dir, epoch);
    if (held) (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  return held;
}

static blx__rc read_record(struct job *j) {
  char path[PATH_MAX];
  if (!blx__str_format(path, sizeof path, "%s/exit", j->dir)) return BLX__OK;
  struct blx__buf text;
  blx__buf_init(&text, BLX__SHIM_RECORD_MAX);
  blx__rc rc = blx__file_read(path, BLX__SHIM_RECORD_MAX, &text, &j->err);
  if (rc.code == 0) rc = blx__shim_record_read((struct blx__slice){text.data, text.len}, &j->view.record, &j->err);
  blx__buf_free(&text);
  return rc;
}

/* The monitor died with its shim, or the machine went down under both: nobody took its status. */
static const char lost_shim[] = "its shim is gone, and the monitor with it: it was killed, or the host went down";
static const char lost_record[] = "it has ended; the record of how was damaged";

static blx__rc write_lost_record(struct job *j, const char *why) {
  struct blx__shim_msg *m = &j->view.record;
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  *m = (struct blx__shim_msg){.type = BLX__SHIM_STATE,
                              .version = BLX__SHIM_VERSION,
                              .uid = j->uid,
                              .epoch = j->epoch,
                              .exit_status = -1,
                              .state = BLX__SHIM_EXITED};
  m->at_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  (void)blx__str_copy(m->text, sizeof m->text, why);
  char path[PATH_MAX];
  struct blx__buf text;
  blx__buf_init(&text, BLX__SHIM_RECORD_MAX);
  bool fits = blx__str_format(path, sizeof path, "%s/exit", j->dir) && blx__shim_record_write(m, &text);
  BLX__ASSERT(fits);
  blx__rc rc = blx__file_write_atomic(path, text.data, text.len, 0640, &j->err);
  blx__buf_free(&text);
  return rc;
}

/* @dir: its directory, or -1. */
static blx__rc kill_leftovers(struct job *j, int dir) {
  struct blx__vm_cgroup g;
  for (int ha = 0; ha < 2; ha++) {
    blx__vm_cgroup_find(&g, j->cgroup[ha]);
    if (!blx__vm_cgroup_remove(&g))
      return blx__fail(&j->err, BLX_E_IO, origin, "a process of %s in the cgroup %s does not die", j->name,
                       j->cgroup[ha]);
  }
  return dir < 0 ? BLX__OK : blx__host_devices_remove(dir, strrchr(j->dir, '/') + 1, &j->err);
}

static bool has_ha_cgroup(const struct job *j) {
  struct blx__vm_cgroup g;
  blx__vm_cgroup_find(&g, j->cgroup[1]);
  return g.count > 0;
}

static blx__rc look(struct job *j) {
  int dir = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0 && errno == ENOENT) return BLX__OK;
  if (dir < 0) return blx__fail_errno(&j->err, errno, origin, "%s cannot be read", j->dir);
  struct vm_view *v = &j->view;
  v->dir = true;
  v->prepared = exists_at(dir, "current");
  v->started = exists_at(dir, "booted");
  v->locked = j->patient ? lock_stays_held(dir, &j->epoch) : lock_is_held(dir, &j->epoch);
  v->recorded = !v->locked && exists_at(dir, "exit");
  v->ha = v->locked && has_ha_cgroup(j);
  v->local_data = vm_has_data(dir);
  blx__rc rc = BLX__OK;
  if (!v->locked && v->started) rc = kill_leftovers(j, dir);
  (void)close(dir);
  if (v->locked || !v->started || rc.code != 0) return rc;
  if (v->recorded && read_record(j).code == 0) return BLX__OK;
  /* Nothing holds the lock and nothing is left: it is dead, whatever can be read of its end. Refused, it could be
   * neither started again nor removed. */
  BLX__TRY(write_lost_record(j, v->recorded ? lost_record : lost_shim));
  v->recorded = true;
  return BLX__OK;
}

static void view_work(void *arg) {
  struct job *j = arg;
  j->rc = look(j);
}

static void job_drop(struct job *j) {
  j->in->holds--;
  j->in->m->jobs--;
}

/* A node that is started again looks at all its instances at once, and the workers' queue is shorter than that. */
static blx__rc job_begin(struct job *j, void (*fn)(void *), void (*done)(void *), blx_error *err) {
  struct microvm *m = j->in->m;
  j->fn = fn;
  j->done = done;
  blx__rc rc = blx__work(m->loop, fn, done, j, err);
  if (rc.code == BLX_E_BUSY && m->looks > 0) {
    blx__list_push(&m->held, &j->held);
    return BLX__OK;
  }
  if (rc.code == 0) m->looks++;
  return rc;
}

/* One is done: there is room for the next. */
static void job_end(struct job *j) {
  struct microvm *m = j->in->m;
  struct blx__list *first;
  job_drop(j);
  m->looks--;
  while ((first = blx__list_first(&m->held))) {
    struct job *next = BLX__CONTAINER(first, struct job, held);
    blx__rc rc = blx__work(m->loop, next->fn, next->done, next, &next->err);
    if (rc.code != 0 && m->looks > 0) return;
    blx__list_remove(first);
    m->looks++;
    if (rc.code == 0) continue;
    /* The workers are full of others' work, and none of ours would come back to try again. */
    next->rc = rc;
    next->done(next);
    return;
  }
}

static void view_done(void *arg) {
  struct job *j = arg;
  job_end(j);
  j->viewed(j->in, &j->view, j->rc.code == 0 ? NULL : &j->err);
  free(j);
}

static struct job *job_new(struct vm_instance *in) {
  struct job *j = calloc(1, sizeof *j);
  if (!j) return NULL;
  j->in = in;
  blx__list_init(&j->held);
  j->uid = in->uid;
  (void)blx__str_copy(j->dir, sizeof j->dir, in->dir);
  (void)blx__str_copy(j->name, sizeof j->name, in->name);
  for (int ha = 0; ha < 2; ha++) vm_cgroup_name(in, ha, j->cgroup[ha]);
  boot_root_path(in, j->boot_root);
  vm_nix_state(in->m, j->auto_roots);
  bool fits = blx__str_format(j->work, sizeof j->work, "%s/builds/%s", in->m->state_dir, in->id);
  BLX__ASSERT(fits);
  in->holds++;
  in->m->jobs++;
  return j;
}

void vm_inspect(struct vm_instance *in,
                void (*done)(struct vm_instance *in, const struct vm_view *v, const blx_error *err)) {
  blx_error err;
  struct vm_view none = {0};
  struct job *j = job_new(in);
  if (!j) {
    (void)blx__fail(&err, BLX_E_NOMEM, origin, "no memory to look at %s", in->name);
    done(in, &none, &err);
    return;
  }
  j->viewed = done;
  j->patient = in->op == VM_OP_START && !in->spawned;
  if (job_begin(j, view_work, view_done, &err).code == 0) return;
  job_drop(j);
  free(j);
  done(in, &none, &err);
}

/* ---- removing */

/* `nix build -o` leaves a root HASH -> DIR/current; it would only dangle, but somebody would wonder. */
static void remove_auto_root(const struct job *j) {
  char path[PATH_MAX], want[PATH_MAX + 16], target[PATH_MAX];
  if (!blx__str_format(path, sizeof path, "%s/gcroots/auto", j->auto_roots)) return;
  (void)blx__str_format(want, sizeof want, "%s/current", j->dir);
  DIR *dir = opendir(path);
  if (!dir) return;
  struct dirent *e;
  for (unsigned i = 0; i < ROOTS_SCAN_MAX && (e = readdir(dir)); i++) {
    ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);
    if (n < 0) continue;
    target[n] = '\0';
    if (strcmp(target, want) == 0) (void)unlinkat(dirfd(dir), e->d_name, 0);
  }
  (void)closedir(dir);
}

static blx__rc remove_all(struct job *j) {
  blx__failpoint(BLX__FAILPOINT_REMOVE_BEGUN);
  int dir = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0 && errno != ENOENT) return blx__fail_errno(&j->err, errno, origin, "%s cannot be read", j->dir);
  bool held = dir >= 0 && lock_stays_held(dir, &j->epoch);
  blx__rc rc =
      held ? blx__fail(&j->err, BLX_E_CONFLICT, origin, "%s runs: stop it first", j->name) : kill_leftovers(j, dir);
  if (dir >= 0) (void)close(dir);
  if (rc.code != 0) return rc;
  remove_auto_root(j);
  BLX__TRY(blx__dir_remove_tree(j->work, &j->err)); /* of a build that our death interrupted */
  BLX__TRY(blx__dir_remove_tree(j->dir, &j->err));
  blx__failpoint(BLX__FAILPOINT_REMOVE_HALF);
  if (unlink(j->boot_root) != 0 && errno != ENOENT)
    return blx__fail_errno(&j->err, errno, origin, "the root %s cannot be removed", j->boot_root);
  /* The node's directory of roots goes with its last instance. */
  char *slash = strrchr(j->boot_root, '/');
  *slash = '\0';
  (void)rmdir(j->boot_root);
  blx__failpoint(BLX__FAILPOINT_REMOVE_DONE);
  return BLX__OK;
}

static void remove_work(void *arg) {
  struct job *j = arg;
  j->rc = remove_all(j);
}

static void remove_done(void *arg) {
  struct job *j = arg;
  job_end(j);
  j->removed(j->in, j->rc.code == 0 ? NULL : &j->err);
  free(j);
}

void vm_remove(struct vm_instance *in, void (*done)(struct vm_instance *in, const blx_error *err)) {
  blx_error err;
  struct job *j = job_new(in);
  if (!j) {
    (void)blx__fail(&err, BLX_E_NOMEM, origin, "no memory to remove %s", in->name);
    done(in, &err);
    return;
  }
  j->removed = done;
  if (job_begin(j, remove_work, remove_done, &err).code == 0) return;
  job_drop(j);
  free(j);
  done(in, &err);
}

/* ---- whether an instance has a disk on this node: what would be lost, or older, if it started elsewhere. It is looked
 * for in its working directory, where runners make their volumes: a regular file of 1 MiB or more, or one that is named
 * as an image, at most four directories down. A runner may take its time to make one, so it is looked for more than
 * once. */

enum { DATA_SIZE_MIN = 1 << 20, DATA_DEPTH_MAX = 4, DATA_ENTRIES_MAX = 4096 };

static const uint32_t looks_ms[] = {0, 500, 2000, 10000, 60000}; /* after it runs */
enum { LOOKS_KNOWN = 2 }; /* after so many it is known: a runner makes its images before it begins the monitor */

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
    found = S_ISREG(st.st_mode) && (st.st_size >= DATA_SIZE_MIN || is_image(e->d_name));
    if (!found && S_ISDIR(st.st_mode) && depth < DATA_DEPTH_MAX)
      found = walk(openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), depth + 1, left);
  }
  (void)closedir(d);
  return found;
}

bool vm_has_data(int dir) {
  unsigned left = DATA_ENTRIES_MAX;
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
  bool known = vm_runs(in) && !in->status.data_known && (l->found || in->looks >= LOOKS_KNOWN);
  free(l);
  in->holds--;
  m->jobs--;
  in->status.local_data = in->status.local_data || found;
  in->status.data_known = in->status.data_known || known;
  if (found || known) vm_emit(in, BLX__VM_EVENT_DATA);
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
