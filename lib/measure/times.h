/* When a console's bytes came: a file beside console.log, which stays what the guest wrote. The shim writes it, readers
 * of consoles look things up in it. Numbers are little-endian:
 *   head    "BLXTIME1", inode of the log that it is about
 *   record  offset in the log (u32), check (u32), ms since 1970 (u64): what stands from there on came then
 * Records rise by offset; ms may jump back, as the host's clock may; 0 means that it is not known. What is missing,
 * torn, damaged or about another file says nothing, and is no error: the bytes are what matters. */
#ifndef BLX__MEASURE_TIMES_H
#define BLX__MEASURE_TIMES_H

#include "base/rc.h"

#include <sys/types.h>

enum {
  BLX__TIMES_RECORDS_MAX = 1 << 16, /* of one file; then the log begins another */
  BLX__TIMES_STEP_MS = 100,         /* what comes within this time of a record is under it */
};

#define BLX__TIMES_NAME "console.times"
#define BLX__TIMES_OLD_NAME "console.times.1"

/* The shim's end. Zeroed with fd -1: none, and nothing is recorded. */
struct blx__times {
  int fd;
  uint32_t count;   /* records */
  uint64_t last_ms; /* of the last one; 0: the next bytes get one of their own */
  bool gap;         /* a record could not be written: what stands from gap_at on came nobody knows when */
  uint32_t gap_at;
};

/* Go on with the file in @dir_fd if it is about the log @log_fd of @log_bytes bytes; else begin it anew. */
void blx__times_open(struct blx__times *t, int dir_fd, int log_fd, uint32_t log_bytes);
void blx__times_close(struct blx__times *t);

/* Bytes will be written at @at of the log now. Costs a write for each BLX__TIMES_STEP_MS at most. */
void blx__times_note(struct blx__times *t, uint32_t at, uint64_t now_ms);

static inline bool blx__times_full(const struct blx__times *t) {
  return t->count >= BLX__TIMES_RECORDS_MAX;
}

/* The reader's end: the file in @dir that is about the log @log_fd, -1: there is none. Close it with close(). */
int blx__times_find(const char *dir, int log_fd);

/* When the byte at @at came, ms since 1970; 0: not known. @until receives where the answer ends. @fd may be -1. */
uint64_t blx__times_at(int fd, uint64_t at, uint64_t *until);

#endif
