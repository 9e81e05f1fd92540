/* What a member asks of the machine besides its log's files: a file system that keeps its word (R15), and room on it
 * (R12), looked at once a second on a worker, never on the loop. */
#include "consensus/consensus_int.h"
#include "consensus/store_int.h"

#include "io/work.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
  DIR_SIZE = 1024,
  EVERY_MS = 1000,
  RESERVE_MIN = 2 * STORE_SEGMENT_BYTES, /* room for the next segment of the log, and a snapshot beside */
  RESERVE_MAX = 512 << 20,               /* bytes that must stay free, when a tenth of the file system is more */
  STUCK_LOOKS = 60,                      /* looks, one a second, that a write may take */
  STUCK_LEADER_LOOKS = 3, /* and a leader's, before another member is to lead: nothing commits meanwhile */
  XFS_MAGIC = 0x58465342,
};

struct host {
  struct blx__consensus *c;
  char dir[DIR_SIZE];
  bool in_flight;
  void (*closed)(void *arg);
  void *closed_arg;
  /* What the worker takes and brings. */
  uint64_t free_bytes, size_bytes;
};

/* ---- R15 */

static const char *file_system_name(long type) {
  switch (type) {
  case 0x9123683e: return "btrfs";
  case 0x2fc12fc1: return "ZFS";
  case NFS_SUPER_MAGIC: return "NFS";
  case OVERLAYFS_SUPER_MAGIC: return "overlayfs";
  case RAMFS_MAGIC: return "ramfs";
  case PROC_SUPER_MAGIC: return "proc";
  default: return "unknown";
  }
}

blx__rc host_check_fs(const struct blx__consensus *c, int dir_fd, blx_error *err) {
  struct statfs fs;
  if (fstatfs(dir_fd, &fs) != 0)
    return blx__fail_errno(err, errno, "consensus", "cannot look at the file system of '%s'", c->o.dir);
  long type = (long)fs.f_type;
  bool known = type == EXT4_SUPER_MAGIC || type == XFS_MAGIC || type == TMPFS_MAGIC;
  if (known || c->o.unsafe_fs || !consensus_rule(c, BLX__RULE_R15_FILE_SYSTEM)) return BLX__OK;
  return blx__fail(err, BLX_E_UNSUPPORTED, "consensus",
                   "'%s' is on a file system (%s, type 0x%lx) on which a log is not known to survive a crash: use a "
                   "directory on ext4, XFS or tmpfs, or allow it (unsafe_fs, `blixardd --unsafe-fs`)",
                   c->o.dir, file_system_name(type), (unsigned long)type);
}

/* ---- R12 */

static void space_set(struct blx__consensus *c, uint64_t free_bytes, uint64_t size_bytes) {
  uint64_t limit = c->o.reserve_bytes;
  if (limit == 0) {
    limit = size_bytes / 10 < RESERVE_MAX ? size_bytes / 10 : RESERVE_MAX;
    if (limit < RESERVE_MIN) limit = RESERVE_MIN;
  }
  bool was = c->space_low;
  c->space_free = free_bytes;
  c->space_limit = limit;
  c->space_taken = 0;
  c->space_low = free_bytes < limit && consensus_rule(c, BLX__RULE_R12_SPACE);
  if (c->space_low != was)
    blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "%s: %llu bytes are free, the reserve is %llu",
             c->space_low ? "the disk is nearly full and proposals are refused" : "there is room on the disk again",
             (unsigned long long)free_bytes, (unsigned long long)limit);
}

static bool space_read(const char *dir, uint64_t *free_bytes, uint64_t *size_bytes) {
  struct statvfs v;
  if (statvfs(dir, &v) != 0) return false;
  *free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
  *size_bytes = (uint64_t)v.f_blocks * v.f_frsize;
  return true;
}

blx__rc host_refuse_when_full(const struct blx__consensus *c, blx_error *err) {
  /* A small disk can fill between two looks. */
  bool low = c->space_low || (c->space_limit != 0 && consensus_rule(c, BLX__RULE_R12_SPACE) &&
                              c->space_free < c->space_limit + c->space_taken);
  if (!low) return BLX__OK;
  BLX_SOMETIMES(c, NOSPACE);
  return blx__fail(err, BLX_E_NOSPACE, "consensus",
                   "'%s' has %llu bytes free, fewer than the %llu kept in reserve: make room there, then try again",
                   c->o.dir ? c->o.dir : "the simulated disk",
                   (unsigned long long)(c->space_free > c->space_taken ? c->space_free - c->space_taken : 0),
                   (unsigned long long)c->space_limit);
}

static void handed_over(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  const struct blx__consensus *c = user;
  (void)index;
  (void)result;
  if (err) blx__log(c->o.log, BLX_LOG_DEBUG, "consensus", "leadership was not handed over: %s", err->message);
}

/* Its heartbeats would keep the others from electing one whose disk works. Tried again at each look: a follower that is
 * behind takes none over. */
static void hand_over(struct blx__consensus *c) {
  blx_error err;
  if (c->raft.state != RAFT_LEADER || blx__consensus_transfer(c, 0, handed_over, c, &err).code != 0) return;
  if (c->stuck_looks == STUCK_LEADER_LOOKS)
    blx__log(c->o.log, BLX_LOG_WARNING, "consensus",
             "writing the log has not been answered for %u seconds: another member is asked to lead", c->stuck_looks);
}

/* R3, where the failure is silence. Counted in looks: a process that was paused has not waited for its disk. */
static void watch_writes(struct blx__consensus *c) {
  uint64_t oldest = guard_oldest_append(c);
  c->stuck_looks = oldest != 0 && oldest == c->stuck_append ? c->stuck_looks + 1 : 0;
  c->stuck_append = oldest;
  if (c->stuck_looks >= STUCK_LEADER_LOOKS) hand_over(c);
  if (c->stuck_looks < STUCK_LOOKS || !consensus_rule(c, BLX__RULE_R3_FAIL_STOP)) return;
  char text[FATAL_TEXT_SIZE];
  (void)blx__str_format(text, sizeof text,
                        "writing the log has not been answered for %u seconds, with %llu bytes free on its disk: this "
                        "member stopped itself; see to the disk, then start it again",
                        c->stuck_looks, (unsigned long long)c->space_free);
  blx__consensus_poison(c, BLX_E_IO, text);
}

/* ---- once a second */

static void work(void *arg) {
  struct host *h = arg;
  if (!space_read(h->dir, &h->free_bytes, &h->size_bytes)) h->size_bytes = 0;
}

static void worked(void *arg) {
  struct host *h = arg;
  struct blx__consensus *c = h->c;
  h->in_flight = false;
  if (h->closed) {
    void (*closed)(void *) = h->closed;
    void *closed_arg = h->closed_arg;
    free(h);
    closed(closed_arg);
    return;
  }
  if (h->size_bytes != 0) space_set(c, h->free_bytes, h->size_bytes);
}

void host_tick(struct blx__consensus *c) {
  uint64_t now = c->io->time(c->io);
  if (consensus_stopped(c) || (c->host_ticked && now >= c->host_at_ms && now - c->host_at_ms < EVERY_MS)) return;
  watch_writes(c);
  if (consensus_stopped(c)) return;
  if (c->seam.mark) c->seam.mark(c->seam.user);
  struct host *h = c->host;
  if (!h) {
    uint64_t free_bytes = 0, size_bytes = 0;
    if (c->seam.space && c->seam.space(c->seam.user, &free_bytes, &size_bytes)) space_set(c, free_bytes, size_bytes);
  } else if (!h->in_flight) {
    h->in_flight = true;
    if (blx__work(c->o.loop, work, worked, h, NULL).code != 0) {
      h->in_flight = false;
      return; /* the workers are busy: the next tick tries again */
    }
  }
  c->host_ticked = true;
  c->host_at_ms = now;
}

blx__rc host_open(struct blx__consensus *c, blx_error *err) {
  if (!c->o.dir) return BLX__OK;
  struct host *h = calloc(1, sizeof *h);
  if (!h) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory to open '%s'", c->o.dir);
  h->c = c;
  blx__rc rc = BLX__OK;
  if (!blx__str_copy(h->dir, sizeof h->dir, c->o.dir))
    rc = blx__fail(err, BLX_E_INVALID, "consensus", "the path of the data directory is longer than %d bytes", DIR_SIZE);
  if (rc.code != 0) {
    free(h);
    return rc;
  }
  uint64_t free_bytes = 0, size_bytes = 0;
  if (space_read(h->dir, &free_bytes, &size_bytes)) space_set(c, free_bytes, size_bytes);
  c->host = h;
  c->o.dir = h->dir; /* the caller's was borrowed for the open only */
  return BLX__OK;
}

void host_close(struct blx__consensus *c, void (*closed)(void *arg), void *arg) {
  struct host *h = c->host;
  c->host = NULL;
  c->o.dir = NULL;
  if (h && h->in_flight) {
    h->closed = closed;
    h->closed_arg = arg;
    return;
  }
  free(h);
  if (closed) closed(arg);
}
