/* What a member keeps of the past beside the log, in a database of its own (data_dir/history.db, SQLite): the records
 * of the audit log, those of requests that it refused itself, and events. State makes the records and carries the head
 * of their chain alone (state.h: on_audit); here they are written in order, on a thread of this folder's, many in one
 * transaction, and synced with it.
 *
 * A record that was not synced when the process died comes again: the log's entries are applied again from the last
 * snapshot on, and no snapshot takes their place before blx__history_may_truncate says so. One that is there already is
 * compared and left. What a member never saw, because another's snapshot stood for it, is a gap; whoever has the
 * records hands them in from the newest down, so that each is checked against a hash that is known. What nobody has, or
 * what went by age and size, is a cut: it is written down, with the hash at its end, and the chain goes on over it.
 *
 * Events are in no chain and are fetched from nobody: they are whole from an index on, where this member began, where
 * another's snapshot brought it to, or up to where they went by age and size. */
#ifndef BLX__HISTORY_HISTORY_H
#define BLX__HISTORY_HISTORY_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/log.h"
#include "schema/internal.h"

enum {
  BLX__HISTORY_QUEUE_MAX = 65536,             /* records that wait to be written */
  BLX__HISTORY_QUEUE_BYTES_MAX = 64 << 20,    /* of them together */
  BLX__HISTORY_RECORD_MAX = 4096,             /* bytes of one */
  BLX__HISTORY_PAGE_MAX = 1000,               /* records in one answer */
  BLX__HISTORY_PAGE_BYTES_MAX = 1 << 20,      /* of them together */
  BLX__HISTORY_SCAN_MAX = 20000,              /* records that one step of a list or a check looks at */
  BLX__HISTORY_DENIED_MAX = 10000,            /* records of refused requests; older ones go */
  BLX__HISTORY_EVENTS_MAX = 16 << 10,         /* bytes of events that are given together */
  BLX__HISTORY_EVENTS_PAGE = 256,             /* events in one part that is read */
  BLX__HISTORY_EVENTS_PAGE_BYTES = 128 << 10, /* of them together, before the last */
  BLX__HISTORY_DELAY_MS = 200,                /* the longest that a record waits for others to be written with */
  BLX__HISTORY_WAIT_MS = 10000,               /* for room in the queue, or for the writer */
};

#define BLX__HISTORY_INDEX_MAX (UINT64_C(1) << 46)

struct blx__history;

struct blx__history_options {
  const char *path;           /* of the database; made with mode 0600 when missing */
  const struct blx__log *log; /* borrowed, NULL: silent */
  uint64_t max_age_ms;        /* older records than the newest less this go; 0: none */
  uint64_t max_bytes;         /* of records, with what SQLite needs beside them; the oldest go; 0: no limit */
  uint64_t events_max_age_ms, events_max_bytes; /* of events, the same */
  void *user;
  /* Nothing more can be written, for a cause that does not go away; once, on any thread. */
  void (*on_fatal)(void *user, int code, const char *text);
};

/* Errors: CORRUPT (it is no database of ours, or damaged; says the way back), UNSUPPORTED (of a newer version),
 * DENIED, NOSPACE, NOMEM, IO. Blocks for a few reads and a sync. */
blx__rc blx__history_open(const struct blx__history_options *options, struct blx__history **out,
                          blx_error *err) BLX__MUST;

/* Write what waits, as far as there is room for it, and end the thread. NULL allowed. Nothing else is called then. */
void blx__history_close(struct blx__history *h);

/* ---- on the thread that applies */

struct blx__history_record {
  uint64_t seq, index, time_ms;
  const uint8_t *prev, *hash; /* BLX__SHA256_BYTES each */
  struct blx__slice record;   /* an audit_record, encoded, without its message */
  const char *message;        /* which is not hashed; NULL: none */
};

/* The next record; copied. When the queue is full it waits for the writer, at most BLX__HISTORY_WAIT_MS; then, or at
 * once when the writer finds no room on the disk, it is fatal. */
void blx__history_add(struct blx__history *h, const struct blx__history_record *r);

/* The state was replaced by a snapshot: there are @seq records, the last has @hash. What lacks is a gap. */
void blx__history_head(struct blx__history *h, uint64_t seq, const uint8_t hash[BLX__SHA256_BYTES]);

/* A request that was refused here, an audit_record without seq; copied. Left out when the queue is full. */
void blx__history_deny(struct blx__history *h, uint64_t time_ms, struct blx__slice record);

/* Events of the entry @index, each with its length before it (blx__history_events_put); an entry's parts come in order,
 * from 0 on, none above BLX__HISTORY_EVENTS_MAX. Copied; waits as add does. What is there already is left. */
void blx__history_add_events(struct blx__history *h, uint64_t index, uint32_t part, uint64_t time_ms,
                             struct blx__slice events);

/* The state was replaced by a snapshot of @index: if not all events up to there are here, they begin after it. */
void blx__history_begin_events(struct blx__history *h, uint64_t index, uint64_t time_ms);

/* True if every record and event of entries up to @index is synced. Else it will be soon, if the disk allows. */
bool blx__history_may_truncate(struct blx__history *h, uint64_t index);

/* ---- these block, for the disk and for what waits to be written: on any thread but a loop's */

/* Up to request->limit records that match, into @out, in @arena. Errors: INVALID, CORRUPT, TIMEOUT, IO, NOMEM. */
blx__rc blx__history_list(struct blx__history *h, const struct blx_audit_list_request *request,
                          struct blx__arena *arena, struct blx_audit_list *out, blx_error *err) BLX__MUST;

/* Events, a part at a time. Zero it, say from where on, and call until `more` is false: what comes after that is
 * state's to tell, from (index, done) on. */
struct blx__history_events {
  uint64_t index; /* all events up to it are done, if `done` is 0; else that many of its own, and all before it */
  size_t done;
  uint64_t since_ms; /* not 0: from this cluster time on instead */
  bool oldest;       /* from the oldest on instead */
  /* On the thread that calls; NULL: all are wanted. */
  bool (*wanted)(const void *user, const struct blx_event *event);
  const void *user;
  struct blx_event **events; /* out, in the arena */
  size_t count;
  bool more;
  bool cut;                   /* older ones were asked for by since_ms or oldest than there are, */
  uint64_t begins, begins_ms; /* which begin after this index, of that time; begins 0: with the cluster */
};
/* Up to BLX__HISTORY_EVENTS_PAGE events; index and done are moved on, oldest and since_ms are reset. Errors: STALE
 * (older than what is kept: says from where on it is), CORRUPT, TIMEOUT, IO, NOMEM. */
blx__rc blx__history_read_events(struct blx__history *h, struct blx__history_events *e, struct blx__arena *arena,
                                 blx_error *err) BLX__MUST;

/* Append @event with its length. Errors: as encode. */
blx__rc blx__history_events_put(struct blx__buf *out, const struct blx_event *event, blx_error *err) BLX__MUST;

/* A check of a chain, in steps. Zero it, say what state has, and call until it is done. */
struct blx__history_check {
  bool denied;        /* of refused requests, about which state knows nothing */
  uint64_t state_seq; /* what state said before the first step */
  uint8_t state_head[BLX__SHA256_BYTES];
  bool done, ok;
  uint64_t records; /* looked at */
  uint64_t seq;     /* the last good one, or one that is known to be absent, and its hash */
  uint8_t hash[BLX__SHA256_BYTES];
  uint64_t bad_seq; /* the first bad one; 0: none */
  char text[200];   /* what is wrong with it */
};
/* Errors: TIMEOUT, NOMEM; what cannot be read is a bad record. */
blx__rc blx__history_check(struct blx__history *h, struct blx__history_check *c, blx_error *err) BLX__MUST;

/* What is not here, newest first, at most 1000. Errors: CORRUPT, IO, NOMEM. */
blx__rc blx__history_cuts(struct blx__history *h, struct blx__arena *arena, struct blx_audit_cut ***out, size_t *n,
                          blx_error *err) BLX__MUST;

/* Records from @upto_seq down without a gap, as far as there are such. Errors: as list. */
blx__rc blx__history_part(struct blx__history *h, const struct blx_audit_fetch_request *request,
                          struct blx__arena *arena, struct blx_audit_part *out, blx_error *err) BLX__MUST;

/* The newest gap that is to be filled. False: there is none. Any thread; does not block. */
struct blx__history_gap {
  uint64_t first, last;
};
bool blx__history_gap(struct blx__history *h, struct blx__history_gap *out);

/* Records for the newest gap, from gap.last down. Errors: CONFLICT (one is not what the chain says; those before it are
 * kept), CORRUPT (what is below the gap here is of another chain), NOSPACE, IO. */
blx__rc blx__history_fill(struct blx__history *h, struct blx__history_gap gap, const struct blx_audit_part *part,
                          blx_error *err) BLX__MUST;

/* Nobody has them: the gap is a cut from now on. */
blx__rc blx__history_give_up(struct blx__history *h, struct blx__history_gap gap, blx_error *err) BLX__MUST;

#endif
