/* The real disk: a directory that one process at a time may use, and that knows whose it is; the log in it is
 * logio.c's.
 */
#include "consensus/consensus_int.h"
#include "consensus/disk_int.h"
#include "consensus/logio_int.h"

#include "base/digest.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/timer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum {
  MEMBER_FILE_MAX = 256,
  PATH_SIZE = 1024,
  CLOSE_POLL_MS = 2,
};

static const char recovered_name[] = "recovered";

struct disk {
  struct blx__consensus *c;
  struct raft_io io;
  struct logio log;
  struct blx__disk files;
  struct blx__timer *tick_timer;
  raft_io_tick_cb tick;
  bool closing;    /* the timer looks whether everybody has let go */
  uint64_t random; /* splitmix64's state: election timeouts */
  struct blx__defer defer;
  int dir_fd;
};

/* ---- whose directory it is */

blx__rc disk_lock_dir(const char *dir, int *out, blx_error *err) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return blx__fail_errno(err, errno, "consensus", "cannot open the directory '%s'", dir);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
    *out = fd;
    return BLX__OK;
  }
  int e = errno;
  (void)close(fd);
  if (e == EWOULDBLOCK) return blx__fail(err, BLX_E_BUSY, "consensus", "another process uses '%s': stop it first", dir);
  return blx__fail_errno(err, e, "consensus", "cannot lock the directory '%s'", dir);
}

static bool in_dir(int dir_fd, const char *name) {
  return faccessat(dir_fd, name, F_OK, 0) == 0;
}

static bool has_log(int dir_fd) {
  return in_dir(dir_fd, "meta-1") || in_dir(dir_fd, "meta-2") || in_dir(dir_fd, store_mark_name);
}

static blx__rc path_of(const char *dir, const char *name, char out[PATH_SIZE], blx_error *err) {
  if (blx__str_format(out, PATH_SIZE, "%s/%s", dir, name)) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "consensus", "the path of the data directory is longer than %d bytes",
                   PATH_SIZE - 12);
}

/* So that damage is not taken for another member's file. */
static void add_digest(char text[MEMBER_FILE_MAX]) {
  size_t len = strlen(text);
  uint8_t digest[BLX__SHA256_BYTES];
  char hex[BLX__SHA256_HEX];
  const struct blx__slice all = {(const uint8_t *)text, len};
  blx__sha256(&all, 1, digest);
  blx__sha256_hex(digest, hex);
  bool fits = blx__str_format(text + len, MEMBER_FILE_MAX - len, "sha256 %s\n", hex);
  BLX__ASSERT(fits);
}

static bool digest_holds(const struct blx__buf *file) {
  char text[MEMBER_FILE_MAX] = "";
  const char *at = file->len < sizeof text ? memmem(file->data, file->len, "sha256 ", 7) : NULL;
  if (!at) return false;
  memcpy(text, file->data, (size_t)(at - (const char *)file->data));
  if (strlen(text) + 8 + BLX__SHA256_HEX > sizeof text) return false;
  add_digest(text);
  return strlen(text) == file->len && memcmp(text, file->data, file->len) == 0;
}

static void member_text(uint64_t uid, const uint8_t *cluster_id, char out[MEMBER_FILE_MAX]) {
  static const char digits[] = "0123456789abcdef";
  char hex[2 * BLX__CONSENSUS_CLUSTER_ID_BYTES + 1] = "";
  for (size_t i = 0; i < BLX__CONSENSUS_CLUSTER_ID_BYTES; i++) {
    hex[2 * i] = digits[cluster_id[i] >> 4];
    hex[2 * i + 1] = digits[cluster_id[i] & 15];
  }
  bool fits =
      blx__str_format(out, MEMBER_FILE_MAX, "blixard member 1\nuid %llu\ncluster %s\n", (unsigned long long)uid, hex);
  BLX__ASSERT(fits);
  add_digest(out);
}

blx__rc disk_write_member(const char *dir, uint64_t uid, const uint8_t *cluster_id, blx_error *err) {
  char path[PATH_SIZE], text[MEMBER_FILE_MAX];
  BLX__TRY(path_of(dir, "member", path, err));
  member_text(uid, cluster_id, text);
  return blx__file_write_atomic(path, text, strlen(text), 0600, err);
}

static blx__rc damaged(const char *path, blx_error *err) {
  return blx__fail(err, BLX_E_CORRUPT, "consensus",
                   "'%s' is damaged: restore it from a backup, or empty the data directory and join as a new node",
                   path);
}

/* The directory must be this member's, or empty and about to join. */
static blx__rc claim_dir(const struct blx__consensus_options *o, int dir_fd, blx_error *err) {
  if (!in_dir(dir_fd, "member")) {
    if (has_log(dir_fd))
      return blx__fail(err, BLX_E_CORRUPT, "consensus",
                       "'%s' holds a log but its file 'member' is missing: restore it, or use an empty directory",
                       o->dir);
    return disk_write_member(o->dir, o->uid, o->cluster_id, err);
  }
  char path[PATH_SIZE], want[MEMBER_FILE_MAX];
  BLX__TRY(path_of(o->dir, "member", path, err));
  member_text(o->uid, o->cluster_id, want);
  struct blx__buf have;
  blx__buf_init(&have, MEMBER_FILE_MAX);
  blx__rc rc = blx__file_read(path, MEMBER_FILE_MAX - 1, &have, err);
  bool same = rc.code == 0 && have.len == strlen(want) && memcmp(have.data, want, have.len) == 0;
  bool whole = rc.code == 0 && digest_holds(&have);
  blx__buf_free(&have);
  if (rc.code != 0 || same) return rc;
  if (!whole) return damaged(path, err);
  return blx__fail(err, BLX_E_CONFLICT, "consensus",
                   "'%s' is not the directory of member %llu of this cluster, see '%s': were two directories swapped?",
                   o->dir, (unsigned long long)o->uid, path);
}

/* A file that ends in its digest, as a string without that. */
static blx__rc read_sealed(const char *path, char out[MEMBER_FILE_MAX], blx_error *err) {
  struct blx__buf have;
  blx__buf_init(&have, MEMBER_FILE_MAX);
  blx__rc rc = blx__file_read(path, MEMBER_FILE_MAX - 1, &have, err);
  if (rc.code == 0 && !digest_holds(&have)) rc = damaged(path, err);
  if (rc.code == 0) {
    memcpy(out, have.data, have.len);
    out[have.len] = '\0';
  }
  blx__buf_free(&have);
  return rc;
}

blx__rc disk_read_member(const char *dir, int dir_fd, uint64_t *uid, uint8_t *cluster_id, blx_error *err) {
  char path[PATH_SIZE], text[MEMBER_FILE_MAX];
  if (!in_dir(dir_fd, "member")) {
    int code = has_log(dir_fd) ? BLX_E_CORRUPT : BLX_E_NOT_FOUND;
    return blx__fail(err, code, "consensus",
                     code == BLX_E_CORRUPT ? "'%s' holds a log but its file 'member' is missing"
                                           : "'%s' holds no member of a cluster",
                     dir);
  }
  BLX__TRY(path_of(dir, "member", path, err));
  BLX__TRY(read_sealed(path, text, err));
  unsigned long long number = 0;
  int at = 0;
  bool ok = sscanf(text, "blixard member 1\nuid %llu\ncluster %n", &number, &at) == 1 && at > 0;
  for (unsigned i = 0; ok && i < BLX__CONSENSUS_CLUSTER_ID_BYTES; i++)
    ok = sscanf(text + at + 2 * (size_t)i, "%2hhx", &cluster_id[i]) == 1;
  *uid = number;
  return ok && number > 0 ? BLX__OK : damaged(path, err);
}

/* ---- after a recovery (recover.c) */

blx__rc disk_write_recovered(const char *dir, uint64_t below, uint64_t index, blx_error *err) {
  char path[PATH_SIZE], text[MEMBER_FILE_MAX];
  BLX__TRY(path_of(dir, recovered_name, path, err));
  bool fits = blx__str_format(text, sizeof text, "blixard recovered 1\nbelow %llu\nindex %llu\n",
                              (unsigned long long)below, (unsigned long long)index);
  BLX__ASSERT(fits);
  add_digest(text);
  return blx__file_write_atomic(path, text, strlen(text), 0600, err);
}

static blx__rc read_recovered(struct blx__consensus *c, int dir_fd, blx_error *err) {
  char path[PATH_SIZE], text[MEMBER_FILE_MAX];
  unsigned long long below = 0, index = 0;
  if (!in_dir(dir_fd, recovered_name)) return BLX__OK;
  BLX__TRY(path_of(c->o.dir, recovered_name, path, err));
  BLX__TRY(read_sealed(path, text, err));
  if (sscanf(text, "blixard recovered 1\nbelow %llu\nindex %llu\n", &below, &index) != 2) return damaged(path, err);
  c->gone_below = below;
  c->gone_index = index;
  return BLX__OK;
}

void disk_started(struct blx__consensus *c) {
  if (c->gone_below == 0 || raft_last_index(&c->raft) >= c->gone_index) return;
  c->gone_below = 0;
  blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "a recovery of '%s' was cut off and has not taken place", c->o.dir);
  if (unlinkat(c->disk->dir_fd, recovered_name, 0) == 0 && fsync(c->disk->dir_fd) == 0) return;
  blx__consensus_poison(c, BLX_E_IO, "the file 'recovered' of a recovery that was cut off cannot be removed");
}

blx__rc blx__consensus_probe(const char *dir, bool *out, blx_error *err) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) {
    *out = false;
    return BLX__OK;
  }
  if (fd < 0) return blx__fail_errno(err, errno, "consensus", "cannot open the directory '%s'", dir);
  bool member = in_dir(fd, "member"), data = has_log(fd);
  (void)close(fd);
  if (data && !member)
    return blx__fail(err, BLX_E_CORRUPT, "consensus",
                     "'%s' holds a log but its file 'member' is missing: restore it, or use an empty directory", dir);
  *out = member;
  return BLX__OK;
}

/* ---- bootstrap */

/* What a bootstrap that was cut leaves: `member` is written last, and without it nothing in there was ever used. */
static bool is_half_made(const char *name) {
  static const char *const prefixes[] = {"meta-", "mark", "log-", "log.", "member", ".member."};
  for (unsigned i = 0; i < BLX__COUNT(prefixes); i++)
    if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
  return false;
}

static blx__rc remove_half_made(int dir_fd, const char *dir, blx_error *err) {
  DIR *d = opendir(dir);
  if (!d) return blx__fail_errno(err, errno, "consensus", "cannot list '%s'", dir);
  blx__rc rc = BLX__OK;
  for (const struct dirent *e; rc.code == 0 && (e = readdir(d)) != NULL;) {
    if (e->d_type == DT_SOCK || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    if (!is_half_made(e->d_name))
      rc = blx__fail(err, BLX_E_CONFLICT, "consensus",
                     "'%s' holds '%s', which is nobody's here: use an empty directory", dir, e->d_name);
    else if (unlinkat(dir_fd, e->d_name, 0) != 0)
      rc = blx__fail_errno(err, errno, "consensus", "cannot remove '%s' of '%s'", e->d_name, dir);
  }
  (void)closedir(d);
  return rc;
}

/* A bootstrap that was cut has one entry at the most. */
static blx__rc check_unused(const char *dir, int dir_fd, blx_error *err) {
  struct blx__disk files = {0};
  struct store st;
  BLX__TRY(blx__disk_open(NULL, dir_fd, &files, err));
  store_init(&st, &files, 0);
  const char *why = store_look(&st, NULL, NULL);
  bool used = st.snapshot_index > 0 || store_last(&st) > 1;
  (void)why; /* damage is what a cut looks like */
  store_free(&st);
  blx__disk_free(&files);
  if (!used) return BLX__OK;
  return blx__fail(err, BLX_E_CORRUPT, "consensus",
                   "'%s' holds a log but its file 'member' is missing: restore it, or use an empty directory", dir);
}

static blx__rc bootstrap_log(const char *dir, int dir_fd, uint64_t uid, blx_error *err) {
  struct raft_configuration conf;
  struct blx__disk files = {0};
  struct raft_io io;
  struct logio log;
  char address[ADDRESS_SIZE];
  BLX__TRY(blx__disk_open(NULL, dir_fd, &files, err));
  logio_init(&log, &io, files, 0);
  address_of(uid, address);
  raft_configuration_init(&conf);
  int rv = raft_configuration_add(&conf, uid, address, RAFT_VOTER);
  if (rv == 0) rv = logio_bootstrap(&log, &conf);
  raft_configuration_close(&conf);
  logio_free(&log);
  blx__disk_free(&files);
  switch (rv) {
  case 0: return BLX__OK;
  case RAFT_NOSPACE: return blx__fail(err, BLX_E_NOSPACE, "consensus", "the disk of '%s' is full", dir);
  case RAFT_NOMEM: return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory for the log of '%s'", dir);
  default: return blx__fail(err, BLX_E_IO, "consensus", "'%s' cannot be written", dir);
  }
}

blx__rc disk_make_ready(const char *dir, int dir_fd, blx_error *err) {
  const struct blx__consensus on = {.o = {.dir = dir}};
  BLX__TRY(host_check_fs(&on, dir_fd, err));
  if (in_dir(dir_fd, "member")) return blx__fail(err, BLX_E_EXISTS, "consensus", "'%s' holds a member already", dir);
  BLX__TRY(check_unused(dir, dir_fd, err));
  return remove_half_made(dir_fd, dir, err);
}

blx__rc blx__consensus_bootstrap(const char *dir, const uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES],
                                 uint64_t uid, blx_error *err) {
  if (uid == 0) return blx__fail(err, BLX_E_INVALID, "consensus", "a member's uid is at least 1");
  int fd = -1;
  BLX__TRY(disk_lock_dir(dir, &fd, err));
  blx__rc rc = disk_make_ready(dir, fd, err);
  if (rc.code == 0) rc = bootstrap_log(dir, fd, uid, err);
  if (rc.code == 0) rc = disk_write_member(dir, uid, cluster_id, err);
  (void)close(fd);
  return rc;
}

/* ---- what libraft asks of a clock */

static struct disk *disk_of(struct raft_io *io) {
  return BLX__CONTAINER(io, struct disk, io);
}

static void wait_until_quiet(void *arg);

static void on_tick(void *arg) {
  struct disk *d = arg;
  if (d->closing)
    wait_until_quiet(d);
  else
    d->tick(&d->io);
}

static int disk_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv) {
  struct disk *d = disk_of(io);
  (void)recv; /* messages come by blx__consensus_deliver */
  d->tick = tick;
  blx__timer_start(d->tick_timer, msecs, msecs);
  return 0;
}

static raft_time disk_time(struct raft_io *io) {
  return blx__loop_now_ms(disk_of(io)->c->o.loop);
}

/* In [@min, @max). */
static int disk_random(struct raft_io *io, int min, int max) {
  struct disk *d = disk_of(io);
  d->random += UINT64_C(0x9e3779b97f4a7c15);
  return max > min ? min + (int)(blx__mix64(d->random) % (uint64_t)(max - min)) : min;
}

/* ---- open and close */

static void disk_free(struct disk *d) {
  blx__timer_free(d->tick_timer);
  logio_free(&d->log);
  blx__disk_free(&d->files);
  if (d->dir_fd >= 0) (void)close(d->dir_fd);
  free(d);
}

static void wake(void *user) {
  struct disk *d = user;
  blx__loop_defer(d->c->o.loop, &d->defer);
}

static void mark(void *user) {
  struct disk *d = user;
  logio_mark(&d->log);
}

static void turn(void *arg) {
  struct disk *d = arg;
  blx__consensus_turn(d->c);
}

static blx__rc open_files(struct blx__consensus *c, struct disk *d, blx_error *err) {
  BLX__TRY(disk_lock_dir(c->o.dir, &d->dir_fd, err));
  BLX__TRY(host_check_fs(c, d->dir_fd, err));
  if (faccessat(d->dir_fd, ".", W_OK, AT_EACCESS) != 0)
    return blx__fail_errno(err, errno, "consensus", "the directory '%s' cannot be written", c->o.dir);
  BLX__TRY(claim_dir(&c->o, d->dir_fd, err));
  BLX__TRY(read_recovered(c, d->dir_fd, err));
  BLX__TRY(blx__random_bytes(&d->random, sizeof d->random, err));
  d->tick_timer = blx__timer_new(c->o.loop, on_tick, d);
  if (!d->tick_timer) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory for a timer");
  return blx__disk_open(c->o.loop, d->dir_fd, &d->files, err);
}

blx__rc disk_open(struct blx__consensus *c, blx_error *err) {
  struct disk *d = calloc(1, sizeof *d);
  if (!d) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory to open '%s'", c->o.dir);
  d->c = c;
  d->dir_fd = -1;
  blx__rc rc = open_files(c, d, err);
  if (rc.code != 0) {
    disk_free(d);
    return rc;
  }
  logio_init(&d->log, &d->io, d->files, c->o.segment_bytes);
  d->log.unmarked = !consensus_rule(c, BLX__RULE_R13_MARK);
  d->io.start = disk_start;
  d->io.time = disk_time;
  d->io.random = disk_random;
  blx__defer_init(&d->defer, turn, d);
  c->disk = d;
  c->io = &d->io;
  c->seam.wake = wake;
  c->seam.mark = mark;
  c->seam.user = d;
  return BLX__OK;
}

void disk_abandon(struct blx__consensus *c) {
  disk_free(c->disk);
  c->disk = NULL;
}

/* The log's last thread has let go, and so has the worker that writes a snapshot. */
static void wait_until_quiet(void *arg) {
  struct disk *d = arg;
  struct blx__consensus *c = d->c;
  if (!logio_closed(&d->log) || d->files.ops->busy(d->files.self) || !c->raft_closed || c->snapshot_job) {
    blx__timer_start(d->tick_timer, CLOSE_POLL_MS, 0);
    return;
  }
  disk_free(d);
  consensus_finalize(c);
}

static void wait_for_writers(void *arg) {
  struct disk *d = arg;
  blx__timer_stop(d->tick_timer);
  d->closing = true;
  blx__defer_init(&d->defer, wait_until_quiet, d);
  blx__loop_defer(d->c->o.loop, &d->defer);
}

void disk_close(struct blx__consensus *c) {
  struct disk *d = c->disk;
  blx__loop_undefer(&d->defer);
  host_close(c, wait_for_writers, d); /* its file is in the directory too */
}
