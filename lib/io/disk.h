/* The files of one directory as a log keeps them: bytes that are written, synced and renamed. A table, so that the
 * simulated twin (sim.h) can stand in for the real one. Names have 1..BLX__DISK_NAME_MAX bytes and no slash.
 *
 * What is written is seen by reads at once; it survives a power cut when a sync that began afterwards has succeeded.
 * Names survive when a sync of the directory (name NULL) has. After a failed sync nobody knows what of the file is
 * there: the caller stops. */
#ifndef BLX__IO_DISK_H
#define BLX__IO_DISK_H

#include "base/buf.h"

struct blx__loop;

enum { BLX__DISK_NAME_MAX = 47 };

typedef void blx__disk_fn(void *arg, blx__rc rc);
/* @bytes of malloc, the callee's, NULL on failure. */
typedef void blx__disk_bytes_fn(void *arg, blx__rc rc, uint8_t *bytes, size_t len);

/* Errors of all: NOSPACE, IO, DENIED, NOMEM; of those that need the file, NOT_FOUND. They may come with the next sync:
 * the real one does everything in order on a thread of its own, and nothing after a failure. Thread: the loop's. */
struct blx__disk_ops {
  /* At @offset of @name, which is made, and lengthened with zeros, where needed. @bytes stay until a sync of @name that
   * began afterwards is done. */
  blx__rc (*write)(void *self, const char *name, uint64_t offset, struct blx__slice bytes);
  /* Lengthen it to @size bytes with zeros that are on the platter: what is written over them later needs no new room.
   */
  blx__rc (*reserve)(void *self, const char *name, uint64_t size);
  blx__rc (*truncate)(void *self, const char *name, uint64_t size);
  blx__rc (*rename)(void *self, const char *from, const char *to); /* @to is replaced */
  blx__rc (*remove)(void *self, const char *name);
  /* Append the whole file to @out. Blocks: at the start, or of small files. */
  blx__rc (*read)(void *self, const char *name, struct blx__buf *out);
  /* Put the name that comes after @name, "" before the first, into @name, in the order of memcmp. Directories, and
   * files whose names are too long, are passed over. NOT_FOUND: none is left. */
  blx__rc (*next)(void *self, char name[BLX__DISK_NAME_MAX + 1]);
  /* Sync @name, NULL: the names. @done runs once, later, in order among the syncs; not after the disk was freed. */
  void (*sync)(void *self, const char *name, blx__disk_fn *done, void *arg);
  /* The same before it returns. */
  blx__rc (*sync_now)(void *self, const char *name);
  /* Make @name anew with @parts, of any size, and sync it, but not its name. @parts and what they point to stay until
   * @done, which runs once, later, in no order. Not for a file that is written in pieces, too: those may go to the old
   * one. */
  void (*put)(void *self, const char *name, const struct blx__slice *parts, size_t n, blx__disk_fn *done, void *arg);
  /* Read the whole file, of any size. @done runs once, later. */
  void (*fetch)(void *self, const char *name, blx__disk_bytes_fn *done, void *arg);
  /* Once, at the end: no @done runs any more. */
  void (*quit)(void *self);
  /* After quit: a thread still looks at what `put` was given, or at the files. Ask again in a later turn. */
  bool (*busy)(void *self);
};

struct blx__disk {
  const struct blx__disk_ops *ops;
  void *self;
};

/* The real one. @dir_fd: open, kept by the caller until the free. @loop NULL: no sync, put or fetch is asked for. Until
 * the first sync everything is done at once; put and fetch run on the loop's workers. Errors: NOMEM, IO. */
blx__rc blx__disk_open(struct blx__loop *loop, int dir_fd, struct blx__disk *out, blx_error *err) BLX__MUST;

void blx__disk_free(struct blx__disk *d); /* after quit, when it is no longer busy; @self NULL: nothing */

#endif
