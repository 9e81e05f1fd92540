/* What this member knows of its own disk, beside raft_uv's files: raft_uv has no checksum over term and vote, and takes
 * a damaged batch in an open segment for one that was never acknowledged, with everything behind it. The file `mark`
 * says what must be found there. Two slots, written in turn and in place: it needs no room on a full disk, and a torn
 * write leaves the older slot. */
#ifndef BLX__CONSENSUS_MARK_INT_H
#define BLX__CONSENSUS_MARK_INT_H

#include "base/log.h"
#include "base/rc.h"

#include <pthread.h>

struct blx__loop;

struct mark_values {
  uint64_t seq;                  /* rises with each write */
  uint64_t term, vote;           /* as they are on disk, or */
  uint64_t prev_term, prev_vote; /* were before the write that may have been cut */
  uint64_t last_index;           /* the log reaches at least so far */
};

struct mark {
  int fd;
  struct mark_values now;
  struct blx__loop *loop;
  const struct blx__log *log;
  pthread_mutex_t lock; /* the file and the next two: the loop's thread and a worker */
  uint64_t written_seq;
  unsigned written_slot;
  struct mark_job *job; /* under way on a worker, or NULL */
};

/* A new file in @dir for a member whose disk holds @term, no vote, and the log up to @last_index. Blocks. */
blx__rc mark_create(const char *dir, uint64_t term, uint64_t last_index, blx_error *err) BLX__MUST;

/* Errors: CORRUPT (missing, or both slots damaged), IO. */
blx__rc mark_open(struct mark *m, const char *dir, struct blx__loop *loop, const struct blx__log *log,
                  blx_error *err) BLX__MUST;
void mark_close(struct mark *m); /* no job under way */

/* Whether what raft_uv loaded is what was there; if not, @text says what is wrong. */
bool mark_fits(struct mark *m, const char *dir, uint64_t term, uint64_t vote, uint64_t last_index, char *text,
               size_t text_size);

/* Before raft_uv writes them. False: the disk refused. Blocks for one small write. */
bool mark_vote(struct mark *m, uint64_t term, uint64_t vote);
/* Before the log is cut to @last_index. */
bool mark_lower(struct mark *m, uint64_t last_index);
/* The log reaches to @last_index now, and term and vote are written. On a worker; what fails is tried again with the
 * next call. */
void mark_raise(struct mark *m, uint64_t last_index);
/* The same, at once: at the end. */
void mark_settle(struct mark *m, uint64_t last_index);

#endif
