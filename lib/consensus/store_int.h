/* What a member keeps, as bytes in the files of one directory (io/disk.h); it knows nothing of libraft.
 *
 *   meta-1, meta-2      term and vote, written in turn and synced at once; the newer one counts
 *   log-GEN-FIRST       a segment: a head, then records, then zeros: its room is taken when it is made
 *   log.spare-N         what a next segment will be, by a rename: zeros, or one that was dropped. The records in that
 *                       are of lower indexes than any that are still to come, and so do not count where it is used
 *                       again
 *   snapshot            made as snapshot.new, synced, renamed. Data, then a head, so that the data begin the file. The
 * head has a checksum; the data have their own, see fsm.c mark                what must be found: which meta, and how
 * far the log was written. Two slots, written in turn, each second and whenever the log gets shorter
 *
 * A snapshot that replaces the log begins a new generation: its rename makes every older segment void, in one step.
 * Every length and index is under a checksum, and one flipped bit changes it for certain. Only the last segment may end
 * in something unreadable, which is then cut, as never acknowledged: unless the mark or a later batch shows that it
 * was. Batches are synced one after the other, so what stands behind a damaged one proves that it was whole once. */
#ifndef BLX__CONSENSUS_STORE_INT_H
#define BLX__CONSENSUS_STORE_INT_H

#include "io/disk.h"

enum {
  STORE_MEMBERS_MAX = 64,
  STORE_SEGMENT_BYTES = 16 << 20, /* when it is as long, a new one begins; one batch may be longer */
  STORE_SEGMENT_BYTES_MAX = 64 << 20,
  STORE_SPARES_MAX = 8, /* what is dropped above that is removed */
  STORE_RECORD_HEAD_BYTES = 56,
  STORE_MARK_BYTES = 4096, /* a slot of the mark: it is never half overwritten with the other */
};

struct store_segment {
  uint64_t first, next; /* indexes: of its first record, and behind its last */
  uint32_t *ends;       /* where each of its records ends in the file */
  size_t ends_cap;
  uint64_t bytes, room; /* used, and taken */
};

struct store {
  const struct blx__disk *d;
  uint32_t segment_bytes;
  enum store_spare { STORE_SPARE_NONE, STORE_SPARE_COMING, STORE_SPARE_READY } spares[STORE_SPARES_MAX];
  bool unmarked; /* R13 is off: the end of the log is believed */
  uint64_t meta_version, term, vote;
  bool has_meta[2], has_mark, has_snapshot, has_log; /* the names are there */
  uint64_t mark_seq, marked_index, marked_generation, marked_meta;
  uint64_t generation;
  uint64_t snapshot_index, snapshot_term; /* 0: none */
  struct store_segment *segments;         /* in order, without gaps */
  size_t segments_count, segments_cap;
  uint64_t start;  /* index of the first record, or that it would have */
  blx__rc cleaned; /* by the load: if it failed, nothing is damaged, but the disk does not take what must be written */
};

struct store_record {
  uint64_t index, term, type;
  uint64_t batch; /* index of the first record that was written together with it */
  size_t len;
  const uint8_t *data;
};

struct store_member {
  uint64_t uid, role;
};

struct store_snapshot {
  uint64_t index, term, conf_index, members_count;
  struct store_member members[STORE_MEMBERS_MAX];
};

/* Its head, as it stands behind the data. */
struct store_snapshot_head {
  uint64_t sum, magic, generation, index, term, conf_index, len, members_count;
  struct store_member members[STORE_MEMBERS_MAX];
};

typedef void store_look_fn(void *arg, const struct store_record *r);

/* @segment_bytes 0: STORE_SEGMENT_BYTES. @d is borrowed. */
void store_init(struct store *st, const struct blx__disk *d, uint32_t segment_bytes);
void store_free(struct store *st);

/* Read everything, give each record to @look (NULL allowed; valid during the call), cut what was never acknowledged.
 * NULL, or why this directory must be refused: it was not touched then, unless @cleaned says that the disk failed. An
 * empty one is a member without anything. */
const char *store_load(struct store *st, store_look_fn *look, void *arg);

/* The same without touching anything. */
const char *store_look(struct store *st, store_look_fn *look, void *arg);

/* The last index of log and snapshot together. */
uint64_t store_last(const struct store *st);

/* Term and vote, on the platter when it returns. */
blx__rc store_set_meta(struct store *st, uint64_t term, uint64_t vote) BLX__MUST;

/* The log counts as written up to @index, no further: put down, to be synced as store_mark_name; or on the platter when
 * it returns. */
extern const char store_mark_name[];
blx__rc store_mark_write(struct store *st, uint64_t index) BLX__MUST;
blx__rc store_mark(struct store *st, uint64_t index) BLX__MUST;

/* Append a record's bytes to @out. False: no memory, or too large. */
bool store_encode(struct blx__buf *out, const struct store_record *r) BLX__MUST;

/* Write @records behind the last one, @count of them from @first on, all of one batch. @name: the file to be synced
 * then;
 * @made: its name too. */
blx__rc store_append(struct store *st, struct blx__slice records, uint64_t first, uint64_t count,
                     char name[BLX__DISK_NAME_MAX + 1], bool *made) BLX__MUST;

/* To cut the log before @index: first remove the segments behind, @any: their names are to be synced then; after that
 * shorten the last one, @name: the file to be synced, "": none was shortened. */
blx__rc store_remove_from(struct store *st, uint64_t index, bool *any) BLX__MUST;
blx__rc store_cut(struct store *st, uint64_t index, char name[BLX__DISK_NAME_MAX + 1]) BLX__MUST;

/* A snapshot goes to disk in three steps: data and then @head are put into store_snapshot_new and synced; it is
 * renamed, and the names are synced; done. @replaces: the log, which then begins behind it; else what is at least
 * @trailing entries before it is dropped, in whole segments. */
extern const char store_snapshot_new[], store_snapshot_name[];
void store_snapshot_make(const struct store *st, const struct store_snapshot *s, uint64_t len, bool replaces,
                         struct store_snapshot_head *head);
static inline blx__rc store_snapshot_rename(struct store *st) {
  return st->d->ops->rename(st->d->self, store_snapshot_new, store_snapshot_name);
}
blx__rc store_snapshot_done(struct store *st, const struct store_snapshot *s, bool replaces, uint64_t trailing,
                            unsigned *spared) BLX__MUST; /* @spared: these are ready when the names are synced */

/* Spare segments. What is written over needs no new room, and costs neither the zeros of a new file nor the removal of
 * an old one, which hold up whoever syncs beside them. One is ready when it may be taken: it is synced, and so is its
 * name if it was another's. The first in such a state; STORE_SPARES_MAX: none. */
extern const char store_spare_names[STORE_SPARES_MAX][16];
static inline unsigned store_spare(const struct store *st, enum store_spare state) {
  unsigned i = 0;
  while (i < STORE_SPARES_MAX && st->spares[i] != state) i++;
  return i;
}
static inline void store_spares_ready(struct store *st, unsigned spared) {
  for (unsigned i = 0; i < STORE_SPARES_MAX; i++)
    if (spared & 1u << i) st->spares[i] = STORE_SPARE_READY;
}

/* What stands in the file: its data are the first @len bytes. False: it is damaged. */
bool store_snapshot_parse(struct blx__slice file, struct store_snapshot *out, size_t *len);

/* For tests: the record at @at of a segment's bytes, behind the head if @at is 0; false: there is none that is whole.
 * @end: behind it. And seal one again whose data were changed. */
bool store_record_at(struct blx__slice file, size_t at, uint64_t index, struct store_record *r, size_t *end);
void store_seal(uint8_t *record);
void store_segment_name(const struct store *st, uint64_t first, char name[BLX__DISK_NAME_MAX + 1]);

#endif
