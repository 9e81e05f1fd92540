/* The real files of a directory. */
#include "io/disk.h"
#include "io/io_int.h"
#include "io/work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  FILES_MAX = 8,         /* kept open: the ones that are written again and again */
  PIECE_BYTES = 1 << 20, /* of a large file, at a time, */
  SYNC_EVERY = 8 << 20,  /* and synced: others who sync must not wait for all of it */
  SPIN_NS = 60000,       /* how long the thread looks for more before it sleeps */
  COPIED_MAX = 4096,     /* bytes of a write; more are borrowed until the sync */
};

struct file {
  char name[BLX__DISK_NAME_MAX + 1]; /* "": none */
  int fd;
  uint64_t used;
};

enum act_kind { ACT_WRITE, ACT_RESERVE, ACT_TRUNCATE, ACT_RENAME, ACT_REMOVE, ACT_SYNC };

/* One thing to do, in order. */
struct act {
  struct blx__list link; /* in todo */
  struct job job;        /* back to the loop */
  struct real *r;
  enum act_kind kind;
  char name[BLX__DISK_NAME_MAX + 1], to[BLX__DISK_NAME_MAX + 1]; /* name "": the directory */
  uint64_t at;                                                   /* offset or size */
  struct blx__slice bytes;
  int e;
  blx__disk_fn *done;    /* ACT_SYNC */
  bool waited, answered; /* somebody stands there until it is done */
  void *arg;
  uint8_t copy[];
};

/* A large file on a worker. */
struct large {
  struct job job;
  struct real *r;
  char name[BLX__DISK_NAME_MAX + 1];
  const struct blx__slice *parts; /* put */
  size_t n;
  blx__disk_fn *done;
  uint8_t *bytes; /* fetch */
  size_t len;
  blx__disk_bytes_fn *fetched;
  void *arg;
  int e;
};

struct real {
  struct blx__loop *loop;
  int dir_fd;
  atomic_bool quit;
  unsigned large; /* put and fetch under way */
  unsigned syncs; /* under way */
  /* What is done at once before the first sync that is not waited for, and on the thread from then on. */
  pthread_t thread;
  bool started;
  pthread_mutex_t lock;
  pthread_cond_t wake, answer;
  bool stopping, idle;
  atomic_bool more;      /* something was put into todo */
  bool spins;            /* the thread's */
  struct blx__list todo; /* struct act; under the lock */
  /* The thread's, once it runs. */
  struct file files[FILES_MAX];
  uint64_t clock;
  int failed; /* an errno: nothing is done after it, every sync tells */
};

static struct real *real_of(void *self) {
  return self;
}

/* What a failure means to the caller; the text is lost, the code is not. */
static blx__rc rc_of(int e) {
  if (e == 0) return BLX__OK;
  return blx__fail_errno(NULL, e, "disk", "%s", "");
}

/* ---- files kept open */

static void file_forget(struct real *r, const char *name) {
  for (unsigned i = 0; i < FILES_MAX; i++) {
    struct file *f = &r->files[i];
    if (!f->name[0] || strcmp(f->name, name) != 0) continue;
    (void)close(f->fd);
    f->name[0] = '\0';
  }
}

static struct file *file_slot(struct real *r) {
  struct file *oldest = &r->files[0];
  for (unsigned i = 0; i < FILES_MAX; i++) {
    if (!r->files[i].name[0]) return &r->files[i];
    if (r->files[i].used < oldest->used) oldest = &r->files[i];
  }
  (void)close(oldest->fd);
  oldest->name[0] = '\0';
  return oldest;
}

/* An errno. */
static int file_get(struct real *r, const char *name, bool create, int *fd) {
  struct file *f = NULL;
  for (unsigned i = 0; i < FILES_MAX && !f; i++)
    if (r->files[i].name[0] && strcmp(r->files[i].name, name) == 0) f = &r->files[i];
  if (!f) {
    f = file_slot(r);
    f->fd = openat(r->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
    if (f->fd < 0) return errno;
    bool fits = blx__str_copy(f->name, sizeof f->name, name);
    BLX__ASSERT(fits);
  }
  f->used = ++r->clock;
  *fd = f->fd;
  return 0;
}

/* ---- one thing, by whose turn it is */

static int write_all(int fd, const uint8_t *bytes, size_t len, uint64_t offset) {
  while (len > 0) {
    ssize_t n = pwrite(fd, bytes, len, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    bytes += n;
    len -= (size_t)n;
    offset += (uint64_t)n;
  }
  return 0;
}

static int act_on_names(struct real *r, const struct act *a) {
  file_forget(r, a->name);
  if (a->kind == ACT_REMOVE) return unlinkat(r->dir_fd, a->name, 0) == 0 ? 0 : errno;
  file_forget(r, a->to);
  return renameat(r->dir_fd, a->name, r->dir_fd, a->to) == 0 ? 0 : errno;
}

/* Zeros are written, not only promised: to sync what overwrites them takes about half as long as to sync what is the
 * first to come to its place, for the file system then changes nothing of its own. */
static int reserve(int fd, uint64_t size) {
  static const uint8_t zeros[64 << 10];
  struct stat st;
  if (fstat(fd, &st) != 0) return errno;
  uint64_t at = (uint64_t)st.st_size;
  int e = at < size ? posix_fallocate(fd, (off_t)at, (off_t)(size - at)) : 0;
  for (; e == 0 && at < size; at += sizeof zeros)
    e = write_all(fd, zeros, size - at < sizeof zeros ? (size_t)(size - at) : sizeof zeros, at);
  if (e == 0 && fdatasync(fd) != 0) e = errno;
  return e;
}

static int act_do(struct real *r, const struct act *a) {
  int fd = -1, e = 0;
  if (a->kind == ACT_RENAME || a->kind == ACT_REMOVE) return act_on_names(r, a);
  if (a->kind == ACT_SYNC && !a->name[0]) return fsync(r->dir_fd) == 0 ? 0 : errno;
  e = file_get(r, a->name, a->kind == ACT_WRITE || a->kind == ACT_RESERVE, &fd);
  if (e != 0) return e;
  switch (a->kind) {
  case ACT_WRITE: return write_all(fd, a->bytes.data, a->bytes.len, a->at);
  case ACT_RESERVE: return reserve(fd, a->at);
  case ACT_TRUNCATE: return ftruncate(fd, (off_t)a->at) == 0 ? 0 : errno;
  case ACT_SYNC: return fdatasync(fd) == 0 ? 0 : errno;
  case ACT_RENAME:
  case ACT_REMOVE: break;
  }
  return EINVAL;
}

/* ---- the thread */

static void act_done(void *arg) {
  struct act *a = arg;
  struct real *r = a->r;
  r->syncs--;
  if (!r->quit) a->done(a->arg, rc_of(a->e));
  free(a);
}

/* Where the answer goes. @a may be gone after this. */
static void act_end(struct real *r, struct act *a) {
  if (a->done) {
    workers_finish(r->loop, &a->job);
  } else if (a->waited) {
    pthread_mutex_lock(&r->lock);
    a->answered = true;
    pthread_cond_broadcast(&r->answer);
    pthread_mutex_unlock(&r->lock);
  } else {
    free(a);
  }
}

static uint64_t now_ns(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Under the lock. To wake a thread whose processor sleeps takes a good part of the time that a disk takes to sync. So
 * it looks for a moment whether more comes, while the last time showed that this pays. */
static void wait_for_work(struct real *r) {
  uint64_t began = now_ns();
  if (r->spins) {
    pthread_mutex_unlock(&r->lock);
    while (!atomic_load(&r->more) && now_ns() - began < SPIN_NS) (void)sched_yield();
    pthread_mutex_lock(&r->lock);
  }
  while (blx__list_empty(&r->todo) && !r->stopping) pthread_cond_wait(&r->wake, &r->lock);
  r->spins = now_ns() - began < 2 * SPIN_NS;
  atomic_store(&r->more, false);
}

static void *thread_main(void *arg) {
  struct real *r = arg;
  pthread_mutex_lock(&r->lock);
  for (;;) {
    struct blx__list *n = blx__list_first(&r->todo);
    r->idle = n == NULL;
    if (!n && r->stopping) break;
    if (!n) {
      wait_for_work(r);
      continue;
    }
    blx__list_remove(n);
    pthread_mutex_unlock(&r->lock);
    struct act *a = BLX__CONTAINER(n, struct act, link);
    if (r->failed == 0 && !r->quit) r->failed = act_do(r, a);
    a->e = r->quit && r->failed == 0 ? ECANCELED : r->failed;
    act_end(r, a);
    pthread_mutex_lock(&r->lock);
  }
  pthread_mutex_unlock(&r->lock);
  return NULL;
}

static int start_thread(struct real *r) {
  sigset_t all, old;
  if (r->started) return 0;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &old);
  int e = pthread_create(&r->thread, NULL, thread_main, r);
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  r->started = e == 0;
  return e;
}

static void act_queue(struct real *r, struct act *a) {
  pthread_mutex_lock(&r->lock);
  blx__list_push(&r->todo, &a->link);
  r->idle = false;
  atomic_store(&r->more, true);
  pthread_cond_signal(&r->wake);
  pthread_mutex_unlock(&r->lock);
}

/* @like, copied with the bytes it may not borrow. */
static blx__rc act_give(struct real *r, const struct act *like) {
  if (!r->started) return rc_of(act_do(r, like));
  bool copies = like->bytes.len <= COPIED_MAX;
  struct act *a = malloc(sizeof *a + (copies ? like->bytes.len : 0));
  if (!a) return rc_of(ENOMEM);
  *a = *like;
  a->r = r;
  if (copies && like->bytes.len) memcpy(a->copy, like->bytes.data, like->bytes.len);
  if (copies) a->bytes.data = a->copy;
  blx__list_init(&a->link);
  act_queue(r, a);
  return BLX__OK;
}

static blx__rc act_named(void *self, enum act_kind kind, const char *name, uint64_t at, struct blx__slice bytes) {
  struct act a = {.kind = kind, .at = at, .bytes = bytes};
  bool fits = blx__str_copy(a.name, sizeof a.name, name);
  BLX__ASSERT(fits && name[0]);
  return act_give(self, &a);
}

static blx__rc real_write(void *self, const char *name, uint64_t offset, struct blx__slice bytes) {
  return act_named(self, ACT_WRITE, name, offset, bytes);
}

static blx__rc real_reserve(void *self, const char *name, uint64_t size) {
  return act_named(self, ACT_RESERVE, name, size, (struct blx__slice){0});
}

static blx__rc real_truncate(void *self, const char *name, uint64_t size) {
  return act_named(self, ACT_TRUNCATE, name, size, (struct blx__slice){0});
}

static blx__rc real_remove(void *self, const char *name) {
  return act_named(self, ACT_REMOVE, name, 0, (struct blx__slice){0});
}

static blx__rc real_rename(void *self, const char *from, const char *to) {
  struct act a = {.kind = ACT_RENAME};
  bool fits = blx__str_copy(a.name, sizeof a.name, from) && blx__str_copy(a.to, sizeof a.to, to);
  BLX__ASSERT(fits);
  return act_give(self, &a);
}

static blx__rc real_sync_now(void *self, const char *name) {
  struct real *r = real_of(self);
  struct act a = {.r = r, .kind = ACT_SYNC, .waited = true};
  (void)blx__str_copy(a.name, sizeof a.name, name ? name : "");
  if (!r->started) return rc_of(act_do(r, &a));
  blx__list_init(&a.link);
  act_queue(r, &a);
  pthread_mutex_lock(&r->lock);
  while (!a.answered) pthread_cond_wait(&r->answer, &r->lock);
  pthread_mutex_unlock(&r->lock);
  return rc_of(a.e);
}

/* What cannot be begun is told through the same door. */
static void real_sync(void *self, const char *name, blx__disk_fn *done, void *arg) {
  struct real *r = real_of(self);
  struct act *a = calloc(1, sizeof *a);
  BLX__ASSERT(a != NULL && r->loop && !r->quit); /* a sync that nobody hears of would hang its caller for ever */
  *a = (struct act){.r = r, .kind = ACT_SYNC, .done = done, .arg = arg};
  (void)blx__str_copy(a->name, sizeof a->name, name ? name : "");
  a->job = (struct job){.done = act_done, .arg = a, .embedded = true};
  blx__list_init(&a->link);
  r->syncs++;
  a->e = start_thread(r);
  if (a->e == 0)
    act_queue(r, a);
  else
    workers_finish(r->loop, &a->job);
}

/* ---- reading, at once */

static int read_all(int fd, uint8_t *to, size_t len) {
  for (size_t at = 0; at < len;) {
    ssize_t n = pread(fd, to + at, len - at, (off_t)at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO; /* shorter than it was said to be */
    at += (size_t)n;
  }
  return 0;
}

static int open_to_read(const struct real *r, const char *name, size_t *size) {
  int fd = openat(r->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat st;
  if (fd < 0) return -errno;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
    *size = (size_t)st.st_size;
    return fd;
  }
  (void)close(fd);
  return -EIO;
}

static blx__rc real_read(void *self, const char *name, struct blx__buf *out) {
  size_t size = 0;
  int fd = open_to_read(self, name, &size);
  if (fd < 0) return rc_of(-fd);
  int e = blx__buf_reserve(out, size) ? read_all(fd, out->data + out->len, size) : ENOMEM;
  if (e == 0) out->len += size;
  (void)close(fd);
  return rc_of(e);
}

/* Not every file system tells with the name. */
static bool is_directory(const struct real *r, const struct dirent *e) {
  struct stat st;
  if (e->d_type != DT_UNKNOWN) return e->d_type == DT_DIR;
  return fstatat(r->dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static blx__rc real_next(void *self, char name[BLX__DISK_NAME_MAX + 1]) {
  const struct real *r = real_of(self);
  char best[BLX__DISK_NAME_MAX + 1] = "";
  int fd = openat(r->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return rc_of(errno);
  DIR *d = fdopendir(fd);
  if (!d) {
    int e = errno;
    (void)close(fd);
    return rc_of(e);
  }
  const struct dirent *e = NULL;
  while (errno = 0, (e = readdir(d)) != NULL) {
    bool usable = strlen(e->d_name) <= BLX__DISK_NAME_MAX && !is_directory(r, e);
    if (!usable || strcmp(e->d_name, name) <= 0 || (best[0] && strcmp(e->d_name, best) >= 0)) continue;
    (void)blx__str_copy(best, sizeof best, e->d_name);
  }
  int why = errno;
  (void)closedir(d);
  if (why != 0) return rc_of(why);
  if (!best[0]) return rc_of(ENOENT);
  (void)blx__str_copy(name, BLX__DISK_NAME_MAX + 1, best);
  return BLX__OK;
}

/* ---- large files, on a worker */

static int put_part(const struct large *l, int fd, struct blx__slice part, uint64_t *at, uint64_t *synced) {
  int e = 0;
  for (size_t done = 0; e == 0 && done < part.len && !l->r->quit;) {
    size_t n = part.len - done < PIECE_BYTES ? part.len - done : PIECE_BYTES;
    e = write_all(fd, part.data + done, n, *at);
    done += n;
    *at += n;
    if (e == 0 && *at - *synced >= SYNC_EVERY) {
      if (fdatasync(fd) != 0) e = errno;
      *synced = *at;
    }
  }
  return e;
}

static void put_work(void *arg) {
  struct large *l = arg;
  uint64_t at = 0, synced = 0;
  (void)unlinkat(l->r->dir_fd, l->name, 0);
  int fd = openat(l->r->dir_fd, l->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    l->e = errno;
    return;
  }
  for (size_t i = 0; l->e == 0 && i < l->n; i++) l->e = put_part(l, fd, l->parts[i], &at, &synced);
  if (l->e == 0 && fsync(fd) != 0) l->e = errno;
  if (close(fd) != 0 && l->e == 0) l->e = errno;
  if (l->e != 0) (void)unlinkat(l->r->dir_fd, l->name, 0); /* half of it is of no use, and takes room */
}

static void put_done(void *arg) {
  struct large *l = arg;
  l->r->large--;
  if (!l->r->quit) l->done(l->arg, rc_of(l->e));
  free(l);
}

static void fetch_work(void *arg) {
  struct large *l = arg;
  int fd = open_to_read(l->r, l->name, &l->len);
  if (fd < 0) {
    l->e = -fd;
    return;
  }
  l->bytes = malloc(l->len ? l->len : 1);
  l->e = l->bytes ? read_all(fd, l->bytes, l->len) : ENOMEM;
  (void)close(fd);
}

static void fetch_done(void *arg) {
  struct large *l = arg;
  l->r->large--;
  if (l->e != 0 || l->r->quit) {
    free(l->bytes);
    l->bytes = NULL;
    l->len = 0;
  }
  if (!l->r->quit) l->fetched(l->arg, rc_of(l->e), l->bytes, l->len);
  free(l);
}

/* Never refused: the log has a few such pieces at a time, and a member that cannot put one stops. */
static void large_begin(struct real *r, const char *name, struct large *l, void (*fn)(void *), void (*done)(void *)) {
  BLX__ASSERT(l != NULL && r->loop && !r->quit);
  bool fits = blx__str_copy(l->name, sizeof l->name, name);
  BLX__ASSERT(fits);
  l->r = r;
  l->job = (struct job){.fn = fn, .done = done, .arg = l, .embedded = true};
  blx__list_init(&l->job.link);
  r->large++;
  if (workers_give(r->loop, &l->job)) return;
  l->e = EAGAIN; /* there is no thread at all */
  workers_finish(r->loop, &l->job);
}

static void real_put(void *self, const char *name, const struct blx__slice *parts, size_t n, blx__disk_fn *done,
                     void *arg) {
  struct real *r = real_of(self);
  struct large *l = calloc(1, sizeof *l);
  BLX__ASSERT(l != NULL);
  *l = (struct large){.parts = parts, .n = n, .done = done, .arg = arg};
  large_begin(r, name, l, put_work, put_done);
}

static void real_fetch(void *self, const char *name, blx__disk_bytes_fn *done, void *arg) {
  struct large *l = calloc(1, sizeof *l);
  BLX__ASSERT(l != NULL);
  *l = (struct large){.fetched = done, .arg = arg};
  large_begin(self, name, l, fetch_work, fetch_done);
}

/* ---- open and close */

static void real_quit(void *self) {
  real_of(self)->quit = true;
}

static bool real_busy(void *self) {
  struct real *r = real_of(self);
  pthread_mutex_lock(&r->lock);
  bool working = r->started && !r->idle;
  pthread_mutex_unlock(&r->lock);
  return working || r->syncs > 0 || r->large > 0;
}

static const struct blx__disk_ops real_ops = {
    .write = real_write,
    .reserve = real_reserve,
    .truncate = real_truncate,
    .rename = real_rename,
    .remove = real_remove,
    .read = real_read,
    .next = real_next,
    .sync = real_sync,
    .sync_now = real_sync_now,
    .put = real_put,
    .fetch = real_fetch,
    .quit = real_quit,
    .busy = real_busy,
};

blx__rc blx__disk_open(struct blx__loop *loop, int dir_fd, struct blx__disk *out, blx_error *err) {
  struct real *r = calloc(1, sizeof *r);
  if (!r) return blx__fail(err, BLX_E_NOMEM, "disk", "no memory for a directory's files");
  r->loop = loop;
  r->dir_fd = dir_fd;
  blx__list_init(&r->todo);
  pthread_mutex_init(&r->lock, NULL);
  pthread_cond_init(&r->wake, NULL);
  pthread_cond_init(&r->answer, NULL);
  *out = (struct blx__disk){.ops = &real_ops, .self = r};
  return BLX__OK;
}

void blx__disk_free(struct blx__disk *d) {
  struct real *r = d->self;
  if (!r) return;
  BLX__ASSERT(!real_busy(r));
  if (r->started) {
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    (void)pthread_join(r->thread, NULL);
  }
  for (unsigned i = 0; i < FILES_MAX; i++)
    if (r->files[i].name[0]) (void)close(r->files[i].fd);
  pthread_mutex_destroy(&r->lock);
  pthread_cond_destroy(&r->wake);
  pthread_cond_destroy(&r->answer);
  free(r);
  *d = (struct blx__disk){0};
}
