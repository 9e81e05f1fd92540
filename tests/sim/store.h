/* What a member keeps, as bytes on a simulated disk; it knows nothing of libraft.
 *
 *   meta-1, meta-2      term and vote, written in turn and synced at once; the newer one counts
 *   log-GEN-FIRST       a segment: a head, then records. Appended to; cut at the end, removed from either end
 *   snapshot            made as snapshot.new, synced, renamed. Its head has a checksum; its data has none here, as in
 *                       raft_uv: lib/consensus has its own
 *   mark                what must be found: which meta, and how far the log was acknowledged. Two slots, written in
 * turn
 *
 * A snapshot that replaces the log begins a new generation: its rename makes every older segment void, in one step.
 * Every length and index is under a checksum, and one flipped bit changes it for certain. Only the last segment may end
 * in something unreadable, which is then cut, unless it was acknowledged: the mark is synced before anyone is told. */
#ifndef BLX_TESTS_SIM_STORE_H
#define BLX_TESTS_SIM_STORE_H

#include "io/sim.h"

enum { STORE_MEMBERS_MAX = 8, STORE_SEGMENT_BYTES = 2048 };

struct store_segment {
  uint64_t first, next; /* indexes: of its first record, and behind its last */
  size_t bytes;
};

struct store {
  struct blx__sim_disk *d;
  uint64_t meta_version, term, vote;
  uint64_t mark_seq, marked_index, marked_generation, marked_meta;
  uint64_t generation;
  uint64_t snapshot_index, snapshot_term; /* 0: none */
  struct store_segment *segments;         /* in order, without gaps */
  size_t segments_count, segments_cap;
  uint64_t start; /* index of the first record, or that it would have */
};

struct store_record {
  uint64_t index, term, type;
  size_t len;
  uint8_t *data;
};

struct store_snapshot {
  uint64_t index, term, conf_index, members_count;
  struct {
    uint64_t uid, role;
  } members[STORE_MEMBERS_MAX];
  struct blx__slice data;
};

void store_init(struct store *st, struct blx__sim_disk *d);
void store_free(struct store *st);

/* Read everything, cut what was never acknowledged. NULL, or why this disk must be refused: it was not touched then. An
 * empty disk is a member without anything. */
const char *store_load(struct store *st);

/* The last index of log and snapshot together. */
uint64_t store_last(const struct store *st);

/* Term and vote, on the platter when it returns. */
blx__rc store_set_meta(struct store *st, uint64_t term, uint64_t vote) BLX__MUST;

/* The log counts as acknowledged up to @index, no further; on the platter when it returns. */
blx__rc store_mark(struct store *st, uint64_t index) BLX__MUST;

/* Append a record's bytes to @out. */
void store_encode(struct blx__buf *out, const struct store_record *r);

/* Write @records behind the last one, @count of them from @first on. @name: the file to be synced then; @made: its name
 * too. */
blx__rc store_append(struct store *st, struct blx__slice records, uint64_t first, uint64_t count,
                     char name[BLX__SIM_NAME_MAX + 1], bool *made) BLX__MUST;

/* To cut the log before @index: first remove the segments behind, @any: their names are to be synced then; after that
 * shorten the last one, @name: the file to be synced, "": none was shortened. */
blx__rc store_remove_from(struct store *st, uint64_t index, bool *any) BLX__MUST;
blx__rc store_cut(struct store *st, uint64_t index, char name[BLX__SIM_NAME_MAX + 1]) BLX__MUST;

/* A snapshot goes to disk in three steps; the second must not begin before the file `snapshot.new` is synced, nor the
 * third before the names are. @replaces: the log, which then begins behind it; else what is at least @trailing entries
 * before it is dropped, in whole segments. */
extern const char store_snapshot_new[];
blx__rc store_snapshot_write(struct store *st, const struct store_snapshot *s, bool replaces) BLX__MUST;
blx__rc store_snapshot_rename(struct store *st) BLX__MUST;
blx__rc store_snapshot_done(struct store *st, const struct store_snapshot *s, bool replaces,
                            uint64_t trailing) BLX__MUST;

/* False: there is none. @out->data is valid until the file changes. */
bool store_snapshot_read(const struct store *st, struct store_snapshot *out);

/* Each record in order; @r is valid during the call. */
void store_each(const struct store *st, void (*look)(void *arg, struct store_record *r), void *arg);

/* The same, of a member that is down; the data, not its length, may be changed: the record is then sealed again,
 * synced. */
void store_edit(struct blx__sim_disk *d, void (*look)(void *arg, struct store_record *r), void *arg);

/* A place whose damage must be refused, of a member that is down: in the meta that counts, the snapshot, or a record
 * that was acknowledged. False: there is none. */
bool store_spot(struct blx__sim_disk *d, struct blx__sim_rng *r, char name[BLX__SIM_NAME_MAX + 1], size_t *offset);

#endif
