/* The real disk: raft_uv on a directory that one process at a time may use, and that knows whose it is. raft_uv's own
 * network is never opened: its transport accepts nothing and connects nowhere. */
#include "consensus/consensus_int.h"
#include "consensus/mark_int.h"

#include "io/file.h"
#include "io/loop.h"
#include "io/timer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <raft/uv.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum {
  MEMBER_FILE_MAX = 256,
  MARK_MS = 1000, /* so often it is noted how far the log reaches */
  PATH_SIZE = 1024,
  QUIET_TURNS_MIN = 4,
  QUIET_TURNS_MAX = 100000,
};

struct disk {
  struct blx__consensus *c;
  struct raft_io io, real; /* with ours in front of raft_uv's functions, and as it was */
  struct raft_uv_transport transport;
  struct mark mark;
  struct blx__timer *mark_timer;
  bool fits; /* what was loaded is what the mark says, and every term and vote was written since */
  struct blx__defer defer;
  int dir_fd;
  unsigned turns;
};

/* ---- the transport that is none */

static int transport_init(struct raft_uv_transport *t, raft_id id, const char *address) {
  (void)t;
  (void)id;
  (void)address;
  return 0;
}

static int transport_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb) {
  (void)t;
  (void)cb;
  return 0;
}

static int transport_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id, const char *address,
                             raft_uv_connect_cb cb) {
  (void)t;
  (void)req;
  (void)id;
  (void)address;
  (void)cb;
  return RAFT_NOCONNECTION;
}

static void transport_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb) {
  cb(t);
}

static const struct raft_uv_transport no_transport = {
    .init = transport_init, .listen = transport_listen, .connect = transport_connect, .close = transport_close};

/* ---- whose directory it is */

static blx__rc lock_dir(const char *dir, int *out, blx_error *err) {
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

static bool has_raft_data(int dir_fd) {
  return in_dir(dir_fd, "metadata1") || in_dir(dir_fd, "metadata2");
}

static blx__rc member_path(const char *dir, char out[PATH_SIZE], blx_error *err) {
  if (blx__str_format(out, PATH_SIZE, "%s/member", dir)) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "consensus", "the path of the data directory is longer than %d bytes",
                   PATH_SIZE - 8);
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

static blx__rc write_member(const char *dir, uint64_t uid, const uint8_t *cluster_id, blx_error *err) {
  char path[PATH_SIZE], text[MEMBER_FILE_MAX];
  BLX__TRY(member_path(dir, path, err));
  member_text(uid, cluster_id, text);
  return blx__file_write_atomic(path, text, strlen(text), 0600, err);
}

/* The directory must be this member's, or empty and about to join. */
static blx__rc claim_dir(const struct blx__consensus_options *o, int dir_fd, blx_error *err) {
  if (!in_dir(dir_fd, "member")) {
    if (has_raft_data(dir_fd))
      return blx__fail(err, BLX_E_CORRUPT, "consensus",
                       "'%s' holds a log but its file 'member' is missing: restore it, or use an empty directory",
                       o->dir);
    BLX__TRY(mark_create(o->dir, 0, 0, err));
    return write_member(o->dir, o->uid, o->cluster_id, err);
  }
  char path[PATH_SIZE], want[MEMBER_FILE_MAX];
  BLX__TRY(member_path(o->dir, path, err));
  member_text(o->uid, o->cluster_id, want);
  struct blx__buf have;
  blx__buf_init(&have, MEMBER_FILE_MAX);
  blx__rc rc = blx__file_read(path, MEMBER_FILE_MAX - 1, &have, err);
  bool same = rc.code == 0 && have.len == strlen(want) && memcmp(have.data, want, have.len) == 0;
  bool whole = rc.code == 0 && digest_holds(&have);
  blx__buf_free(&have);
  if (rc.code != 0 || same) return rc;
  if (!whole)
    return blx__fail(err, BLX_E_CORRUPT, "consensus",
                     "'%s' is damaged: restore it from a backup, or empty the data directory and join as a new node",
                     path);
  return blx__fail(err, BLX_E_CONFLICT, "consensus",
                   "'%s' is not the directory of member %llu of this cluster, see '%s': were two directories swapped?",
                   o->dir, (unsigned long long)o->uid, path);
}

blx__rc blx__consensus_probe(const char *dir, bool *out, blx_error *err) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) {
    *out = false;
    return BLX__OK;
  }
  if (fd < 0) return blx__fail_errno(err, errno, "consensus", "cannot open the directory '%s'", dir);
  bool member = in_dir(fd, "member"), data = has_raft_data(fd);
  (void)close(fd);
  if (data && !member)
    return blx__fail(err, BLX_E_CORRUPT, "consensus",
                     "'%s' holds a log but its file 'member' is missing: restore it, or use an empty directory", dir);
  *out = member;
  return BLX__OK;
}

/* ---- bootstrap */

static blx__rc raft_error(int rv, const char *dir, const char *detail, blx_error *err) {
  switch (rv) {
  case RAFT_CANTBOOTSTRAP: return blx__fail(err, BLX_E_EXISTS, "consensus", "'%s' holds a member already", dir);
  case RAFT_NAMETOOLONG: return blx__fail(err, BLX_E_INVALID, "consensus", "the path '%.200s' is too long", dir);
  case RAFT_UNAUTHORIZED: return blx__fail(err, BLX_E_DENIED, "consensus", "'%s' may not be written", dir);
  case RAFT_NOSPACE: return blx__fail(err, BLX_E_NOSPACE, "consensus", "the disk of '%s' is full", dir);
  case RAFT_NOMEM: return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory for the log of '%s'", dir);
  case RAFT_CORRUPT:
  case RAFT_MALFORMED: return blx__fail(err, BLX_E_CORRUPT, "consensus", "'%s' is damaged: %s", dir, detail);
  default: return blx__fail(err, BLX_E_IO, "consensus", "'%s' cannot be used: %s: %s", dir, raft_strerror(rv), detail);
  }
}

static void on_bootstrap_closed(struct raft_io *io) {
  (void)io; /* it comes twice (R17); the private loop ends when its handles are gone */
}

static int bootstrap_io(struct raft_io *io, uint64_t uid) {
  struct raft_configuration conf;
  char address[ADDRESS_SIZE];
  address_of(uid, address);
  raft_configuration_init(&conf);
  int rv = raft_configuration_add(&conf, uid, address, RAFT_VOTER);
  if (rv == 0) rv = io->bootstrap(io, &conf);
  raft_configuration_close(&conf);
  return rv;
}

static blx__rc bootstrap_raft(const char *dir, uint64_t uid, blx_error *err) {
  struct uv_loop_s loop;
  struct raft_io io = {0};
  struct raft_uv_transport transport = no_transport;
  char address[ADDRESS_SIZE];
  address_of(uid, address);
  int e = uv_loop_init(&loop);
  if (e != 0) return blx__fail_errno(err, -e, "consensus", "cannot make an event loop");
  blx__rc rc = BLX__OK;
  int rv = raft_uv_init(&io, &loop, dir, &transport);
  if (rv != 0) {
    rc = raft_error(rv, dir, io.errmsg, err);
    goto out;
  }
  raft_uv_set_auto_recovery(&io, false);
  rv = io.init(&io, uid, address);
  if (rv != 0) {
    rc = raft_error(rv, dir, io.errmsg, err);
  } else {
    rv = bootstrap_io(&io, uid);
    if (rv != 0) rc = raft_error(rv, dir, io.errmsg, err);
    io.close(&io, on_bootstrap_closed);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
  }
  raft_uv_close(&io);
out:
  e = uv_loop_close(&loop);
  BLX__ASSERT(e == 0);
  return rc;
}

/* `member` is written last: without it an earlier bootstrap was cut, and nothing in there was ever used. */
static blx__rc remove_half_made(int dir_fd, const char *dir, blx_error *err) {
  DIR *d = opendir(dir);
  if (!d) return blx__fail_errno(err, errno, "consensus", "cannot list '%s'", dir);
  blx__rc rc = BLX__OK;
  for (const struct dirent *e; rc.code == 0 && (e = readdir(d)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    if (unlinkat(dir_fd, e->d_name, 0) != 0)
      rc = blx__fail_errno(err, errno, "consensus", "cannot remove '%s' of '%s'", e->d_name, dir);
  }
  (void)closedir(d);
  return rc;
}

blx__rc blx__consensus_bootstrap(const char *dir, const uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES],
                                 uint64_t uid, blx_error *err) {
  if (uid == 0) return blx__fail(err, BLX_E_INVALID, "consensus", "a member's uid is at least 1");
  int fd = -1;
  BLX__TRY(lock_dir(dir, &fd, err));
  const struct blx__consensus on = {.o = {.dir = dir}};
  blx__rc rc = host_check_fs(&on, fd, err);
  if (rc.code == 0 && !in_dir(fd, "member")) rc = host_probe_aio(&on, fd, err);
  if (rc.code != 0) {
    (void)close(fd);
    return rc;
  }
  if (in_dir(fd, "member")) {
    rc = blx__fail(err, BLX_E_EXISTS, "consensus", "'%s' holds a member already", dir);
  } else {
    rc = remove_half_made(fd, dir, err);
    if (rc.code == 0) rc = bootstrap_raft(dir, uid, err);
    if (rc.code == 0) rc = mark_create(dir, 1, 1, err);
    if (rc.code == 0) rc = write_member(dir, uid, cluster_id, err);
  }
  (void)close(fd);
  return rc;
}

/* ---- raft_uv's functions with the mark in front (mark_int.h) */

static struct disk *disk_of(struct raft_io *io) {
  const struct raft *r = io->data;
  const struct blx__consensus *c = r->data;
  return c->disk;
}

/* What does not fit poisons this member here, before libraft writes anything. */
static int disk_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                     raft_index *start_index, struct raft_entry *entries[], size_t *n_entries) {
  struct disk *d = disk_of(io);
  char text[FATAL_TEXT_SIZE];
  int rv = d->real.load(io, term, voted_for, snapshot, start_index, entries, n_entries);
  if (rv != 0) return rv;
  uint64_t last = *snapshot ? (*snapshot)->index : 0;
  if (*n_entries > 0 && *start_index + *n_entries - 1 > last) last = *start_index + *n_entries - 1;
  d->fits = !consensus_rule(d->c, BLX__RULE_R13_MARK) ||
            mark_fits(&d->mark, d->c->o.dir, *term, *voted_for, last, text, sizeof text);
  if (d->fits)
    blx__timer_start(d->mark_timer, MARK_MS, MARK_MS);
  else
    blx__consensus_poison(d->c, BLX_E_CORRUPT, text);
  return 0;
}

static int disk_set_term(struct raft_io *io, raft_term term) {
  struct disk *d = disk_of(io);
  int rv = mark_vote(&d->mark, term, 0) ? d->real.set_term(io, term) : RAFT_IOERR;
  d->fits = d->fits && rv == 0;
  return rv;
}

static int disk_set_vote(struct raft_io *io, raft_id id) {
  struct disk *d = disk_of(io);
  int rv = mark_vote(&d->mark, d->mark.now.term, id) ? d->real.set_vote(io, id) : RAFT_IOERR;
  d->fits = d->fits && rv == 0;
  return rv;
}

static int disk_truncate(struct raft_io *io, raft_index index) {
  struct disk *d = disk_of(io);
  return mark_lower(&d->mark, index - 1) ? d->real.truncate(io, index) : RAFT_IOERR;
}

/* Without trailing entries it is a leader's snapshot, and replaces the log. */
static int disk_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                             const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb) {
  struct disk *d = disk_of(io);
  if (trailing == 0 && !mark_lower(&d->mark, 0)) return RAFT_IOERR;
  return d->real.snapshot_put(io, trailing, req, snapshot, cb);
}

static void on_mark_timer(void *arg) {
  struct disk *d = arg;
  if (!consensus_stopped(d->c) && !d->c->guard.put_install) mark_raise(&d->mark, d->c->raft.last_stored);
}

static void put_mark_in_front(struct disk *d) {
  d->real = d->io;
  d->io.load = disk_load;
  d->io.set_term = disk_set_term;
  d->io.set_vote = disk_set_vote;
  d->io.truncate = disk_truncate;
  d->io.snapshot_put = disk_snapshot_put;
}

static void disk_free(struct disk *d) {
  blx__timer_free(d->mark_timer);
  mark_close(&d->mark);
  (void)close(d->dir_fd);
  free(d);
}

/* ---- open and close */

static void wake(void *user) {
  struct disk *d = user;
  blx__loop_defer(d->c->o.loop, &d->defer);
}

static void turn(void *arg) {
  struct disk *d = arg;
  blx__consensus_turn(d->c);
}

blx__rc disk_open(struct blx__consensus *c, blx_error *err) {
  struct disk *d = calloc(1, sizeof *d);
  if (!d) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory to open '%s'", c->o.dir);
  blx__rc rc = lock_dir(c->o.dir, &d->dir_fd, err);
  if (rc.code != 0) {
    free(d);
    return rc;
  }
  rc = host_check_fs(c, d->dir_fd, err);
  if (rc.code == 0 && !in_dir(d->dir_fd, "member")) rc = host_probe_aio(c, d->dir_fd, err);
  if (rc.code == 0) rc = claim_dir(&c->o, d->dir_fd, err);
  if (rc.code == 0) rc = mark_open(&d->mark, c->o.dir, c->o.loop, c->o.log, err);
  if (rc.code != 0) {
    (void)close(d->dir_fd);
    free(d);
    return rc;
  }
  d->transport = no_transport;
  d->mark_timer = blx__timer_new(c->o.loop, on_mark_timer, d);
  int rv = d->mark_timer ? raft_uv_init(&d->io, blx__loop_uv(c->o.loop), c->o.dir, &d->transport) : RAFT_NOMEM;
  if (rv != 0) {
    rc = raft_error(rv, c->o.dir, d->io.errmsg, err);
    disk_free(d);
    return rc;
  }
  put_mark_in_front(d);
  raft_uv_set_auto_recovery(&d->io, false); /* its default renames a damaged segment and starts without it */
  (void)raft_uv_set_snapshot_compression(&d->io, false);
  d->c = c;
  blx__defer_init(&d->defer, turn, d);
  c->disk = d;
  c->io = &d->io;
  c->seam.wake = wake;
  c->seam.user = d;
  return BLX__OK;
}

void disk_abandon(struct blx__consensus *c) {
  struct disk *d = c->disk;
  raft_uv_close(&d->io);
  disk_free(d);
  c->disk = NULL;
}

/* raft_uv's writers each have a poll and a check handle; nothing else on the loop has a check handle. */
static void look_for_writer(uv_handle_t *h, void *arg) {
  bool *busy = arg;
  if (h->type == UV_CHECK && (uv_is_active(h) || uv_is_closing(h))) *busy = true;
  if (h->type == UV_POLL && uv_is_closing(h)) *busy = true;
}

/* R17: raft_uv says "closed" before its segment writers are, and they still look at what raft_uv_close frees. */
static void wait_until_quiet(void *arg) {
  struct disk *d = arg;
  struct blx__consensus *c = d->c;
  bool busy = !c->raft_closed || d->mark.job || c->snapshot_job;
  uv_walk(blx__loop_uv(c->o.loop), look_for_writer, &busy);
  d->turns++;
  if ((busy && d->turns < QUIET_TURNS_MAX) || d->turns < QUIET_TURNS_MIN) {
    if (!c->raft_closed || d->mark.job || c->snapshot_job) d->turns = 0;
    blx__loop_defer(c->o.loop, &d->defer);
    return;
  }
  if (busy) {
    /* Better to leave the memory behind than to free it under a writer. */
    blx__log(c->o.log, BLX_LOG_ERROR, "consensus", "the log's writers did not end; their memory is left behind");
    blx__timer_stop(d->mark_timer);
    (void)close(d->dir_fd);
    if (c->close_done) c->close_done(c->close_user);
    return;
  }
  if (d->fits && !c->guard.put_install) mark_settle(&d->mark, c->raft.last_stored);
  raft_uv_close(&d->io);
  disk_free(d);
  consensus_finalize(c);
}

static void wait_for_writers(void *arg) {
  struct disk *d = arg;
  blx__defer_init(&d->defer, wait_until_quiet, d);
  blx__loop_defer(d->c->o.loop, &d->defer);
}

void disk_close(struct blx__consensus *c) {
  struct disk *d = c->disk;
  blx__loop_undefer(&d->defer);
  host_close(c, wait_for_writers, d); /* its file is in the directory too */
}
