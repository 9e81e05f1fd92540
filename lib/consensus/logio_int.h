/* libraft's disk: struct raft_io over the files of store_int.h. The log's writes are done one after the other, each
 * told when it is synced; a member's own snapshot is written beside. Who uses it fills in `start`, `time` and `random`.
 */
#ifndef BLX__CONSENSUS_LOGIO_INT_H
#define BLX__CONSENSUS_LOGIO_INT_H

#include "base/list.h"
#include "base/log.h"
#include "consensus/libraft_int.h"
#include "consensus/store_int.h"

enum {
  LOGIO_QUEUE_MAX = 4096,
  LOGIO_BATCH_BYTES_MAX = 64 << 20,
  SPARE_PART_BYTES = 64 << 10,
  SPARE_PARTS_MAX = STORE_SEGMENT_BYTES_MAX / SPARE_PART_BYTES,
};

enum logio_kind { LOGIO_APPEND, LOGIO_TRUNCATE, LOGIO_SNAPSHOT };

/* A write on its way: a few steps, with syncs between them. */
struct logio_op;

struct logio {
  struct raft_io *io;
  struct blx__disk disk;
  struct store store;
  struct blx__list queue; /* struct logio_op, the first one under way */
  struct blx__list gets;  /* snapshots being read */
  unsigned queue_count, appends_count, appends_max_seen;
  struct blx__buf kept; /* a write's memory, for the next one: what the system gave once it need not find again */
  bool writing;
  uint64_t next_index;   /* of the next entry that libraft appends */
  uint64_t acked_index;  /* what libraft was told is on the disk */
  uint64_t no_spare_for; /* first index of the segment during which none could be made: not again before the next */
  struct blx__slice spare_parts[SPARE_PARTS_MAX];
  bool marking, loaded, unmarked; /* R13 is off: what the mark says is not looked at */
  int broken;                     /* after a failed write nothing is written until the next start */
  struct logio_op *own_snapshot;  /* not in the queue: it does not hold up the log */
  raft_io_close_cb close_cb;      /* waits until a thread no longer looks at a snapshot */
  /* For scripts: a write begins. NULL allowed. */
  void (*before)(void *user, enum logio_kind kind);
  void *user;
};

/* @io gets its functions. @disk is copied; it is the caller's to free after the close. */
void logio_init(struct logio *l, struct raft_io *io, struct blx__disk disk, uint32_t segment_bytes);
void logio_free(struct logio *l);

/* Note how far the log reaches, so that its end cannot go missing without a word. Each second. */
void logio_mark(struct logio *l);

/* After io->close: the close callback may run inside. False: ask again in a later turn. */
bool logio_closed(struct logio *l);

/* An empty directory becomes that of the first member of a new group. Blocks. */
int logio_bootstrap(struct logio *l, const struct raft_configuration *conf);

#endif
