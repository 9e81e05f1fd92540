/* Inside lib/history: the queue, the database, and who holds which lock. */
#ifndef BLX__HISTORY_INT_H
#define BLX__HISTORY_INT_H

#include "base/list.h"
#include "history/history.h"

#include <pthread.h>
#include <sqlite3.h>

/* Items of a transaction, and rows that go with it at most: more than come, so that what is kept goes down to its
 * limits however fast it comes. */
enum { BATCH_MAX = 4096, TRIM_ROWS = 2 * BATCH_MAX };

enum item_kind { ITEM_RECORD, ITEM_HEAD, ITEM_DENIED, ITEM_EVENTS, ITEM_EVENTS_BEGIN, ITEM_EVENTS_UPTO };

/* A row of events is found by the index of its entry, and its part of that. */
enum { EVENT_PARTS_BITS = 16, EVENT_PARTS_MASK = (1 << EVENT_PARTS_BITS) - 1 };
static inline uint64_t event_id(uint64_t index, uint64_t part) {
  return index << EVENT_PARTS_BITS | part;
}

/* Memory of many items: one for each would be given and taken by two threads, and cost more than the rest. */
enum { BLOCK_BYTES = 64 << 10 };
struct block {
  size_t used;   /* of the thread that applies */
  unsigned live; /* items of it that are queued; under the lock */
  bool open;     /* more come into it; under the lock */
  _Alignas(16) uint8_t bytes[BLOCK_BYTES];
};

struct item {
  struct blx__list link;
  struct block *block;
  enum item_kind kind;
  uint64_t seq, index, time_ms;
  uint8_t prev[BLX__SHA256_BYTES], hash[BLX__SHA256_BYTES];
  size_t len, message_len; /* the message is behind the record, and counted in len */
  uint8_t bytes[];
};

/* Statements that are prepared once. */
#define HISTORY_SQL_MAP(X)                                                                                           \
  X(BEGIN, "BEGIN IMMEDIATE")                                                                                        \
  X(COMMIT, "COMMIT")                                                                                                \
  X(ROLLBACK, "ROLLBACK")                                                                                            \
  X(ADD, "INSERT INTO audit VALUES (?1,?2,?3,?4,?5,?6)")                                                             \
  X(GET, "SELECT seq,time_ms,prev,hash,record,message FROM audit WHERE seq=?1")                                      \
  X(LAST, "SELECT seq,time_ms,prev,hash,record,message FROM audit ORDER BY seq DESC LIMIT 1")                        \
  X(UP, "SELECT seq,time_ms,prev,hash,record,message FROM audit WHERE seq>=?1 ORDER BY seq LIMIT ?2")                \
  X(DOWN, "SELECT seq,time_ms,prev,hash,record,message FROM audit WHERE seq<=?1 ORDER BY seq DESC LIMIT ?2")         \
  X(DROP, "DELETE FROM audit WHERE seq<=?1")                                                                         \
  X(MISSING_PUT, "INSERT OR REPLACE INTO missing VALUES (?1,?2,?3,?4,?5)")                                           \
  X(MISSING_DROP, "DELETE FROM missing WHERE last=?1")                                                               \
  X(MISSING_DROP_UPTO, "DELETE FROM missing WHERE last<=?1")                                                         \
  X(MISSING_AT, "SELECT first,last,hash,why,fetching FROM missing WHERE last>=?1 AND first<=?1 LIMIT 1")             \
  X(MISSING_ALL, "SELECT first,last,hash,why,fetching FROM missing ORDER BY last DESC LIMIT 1000")                   \
  X(GAP, "SELECT first,last,hash,why,fetching FROM missing WHERE fetching=1 ORDER BY last DESC LIMIT 1")             \
  X(MISSING_LAST, "SELECT first,last,hash,why,fetching FROM missing ORDER BY last DESC LIMIT 1")                     \
  X(BYTES_GET, "SELECT value FROM meta WHERE key='bytes'")                                                           \
  X(BYTES_PUT, "INSERT OR REPLACE INTO meta VALUES ('bytes',?1)")                                                    \
  X(DENIED_ADD, "INSERT INTO denied VALUES (?1,?2,?3,?4,?5,?6)")                                                     \
  X(DENIED_LAST, "SELECT seq,time_ms,prev,hash,record,message FROM denied ORDER BY seq DESC LIMIT 1")                \
  X(DENIED_UP, "SELECT seq,time_ms,prev,hash,record,message FROM denied WHERE seq>=?1 ORDER BY seq LIMIT ?2")        \
  X(DENIED_DOWN, "SELECT seq,time_ms,prev,hash,record,message FROM denied WHERE seq<=?1 ORDER BY seq DESC LIMIT ?2") \
  X(DENIED_DROP, "DELETE FROM denied WHERE seq<=?1")                                                                 \
  X(EVENTS_ADD, "INSERT INTO events VALUES (?1,?2,?3)")                                                              \
  X(EVENTS_LAST, "SELECT id,time_ms,events FROM events ORDER BY id DESC LIMIT 1")                                    \
  X(EVENTS_UP, "SELECT id,time_ms,events FROM events WHERE id>=?1 ORDER BY id LIMIT ?2")                             \
  X(EVENTS_DROP, "DELETE FROM events WHERE id<=?1")                                                                  \
  X(EVENTS_CLEAR, "DELETE FROM events")                                                                              \
  X(EVENTS_KEPT, "SELECT upto,begins,begins_ms,bytes FROM events_kept")                                              \
  X(EVENTS_KEPT_PUT, "INSERT OR REPLACE INTO events_kept VALUES (1,?1,?2,?3,?4)")
#define HISTORY_SQL_ENUM(name, text) SQL_##name,
enum history_sql { HISTORY_SQL_MAP(HISTORY_SQL_ENUM) SQL_COUNT };
#undef HISTORY_SQL_ENUM

/* The end of a chain. */
struct tip {
  uint64_t seq, time_ms;
  uint8_t hash[BLX__SHA256_BYTES];
};

/* Events are kept of all entries after `begins` and up to `upto`, without a gap. */
struct events_kept {
  uint64_t upto, begins, begins_ms; /* begins_ms: cluster time at `begins` */
  uint64_t bytes;                   /* of all rows */
  uint64_t last_id, last_ms;        /* of the last row, or where the next is to be above */
};

struct blx__history {
  struct blx__history_options o;
  char path[256];

  pthread_mutex_t lock;            /* of the queue; never held while the disk is waited for */
  pthread_cond_t wake;             /* the writer: there is work */
  pthread_cond_t done;             /* those who wait for the writer, or for room */
  struct block *block;             /* of the thread that applies: where the next item goes */
  struct blx__list queue, writing; /* struct item: waiting, and in the transaction under way */
  size_t count, bytes;             /* of both */
  uint64_t added, written;         /* items so far */
  uint64_t synced_upto;            /* kept.upto as it is on the disk */
  uint64_t marked_upto;            /* of the thread that applies: asked to be */
  bool urgent, stopping, started;
  bool full;   /* no room on the disk: the writer tries again and again */
  bool failed; /* for good; nothing is taken any more */
  bool has_gap;
  struct blx__history_gap gap;
  pthread_t thread;

  pthread_mutex_t db_lock; /* taken before `lock`, when both are */
  sqlite3 *db;
  sqlite3_stmt *sql[SQL_COUNT];
  struct tip tip, denied; /* what the tables end with, a gap at the end counted */
  uint64_t record_bytes;  /* of all records */
  struct events_kept kept;
};

/* ---- store.c: the database; all under db_lock */
blx__rc store_open(struct blx__history *h, blx_error *err) BLX__MUST;
void store_close(struct blx__history *h);
/* The statement, reset, with integers bound to ?1 and ?2. */
sqlite3_stmt *store_sql(struct blx__history *h, enum history_sql which, uint64_t one, uint64_t two);
/* 1: a row; 0: no more; -1: @err says why. */
int store_step(struct blx__history *h, sqlite3_stmt *s, blx_error *err);
blx__rc store_run(struct blx__history *h, enum history_sql which, uint64_t one, uint64_t two, blx_error *err) BLX__MUST;

/* Cluster time only rises with seq, and with id: *@at goes on to the first row of @since_ms or later, or to @end, if it
 * is before that. @up: UP or EVENTS_UP. */
blx__rc store_first_since(struct blx__history *h, enum history_sql up, uint64_t since_ms, uint64_t end, uint64_t *at,
                          blx_error *err) BLX__MUST;

/* The transaction, if one is open. */
void store_rollback(struct blx__history *h);

struct row {
  uint64_t seq, time_ms;
  const uint8_t *prev, *hash;
  struct blx__slice record, message; /* which is not hashed */
};
/* A row of audit or denied, borrowed until the next step. False: it has not the shape of one. */
bool store_row(sqlite3_stmt *s, struct row *out);

struct missing {
  uint64_t first, last;
  uint8_t hash[BLX__SHA256_BYTES];
  char why[200];
  bool fetching;
};
bool store_missing(sqlite3_stmt *s, struct missing *out);
blx__rc store_missing_put(struct blx__history *h, const struct missing *m, blx_error *err) BLX__MUST;
/* What it takes, as the limit of size counts it. */
uint64_t row_bytes(const struct row *r);
/* A record into the table, and counted. */
blx__rc store_add(struct blx__history *h, enum history_sql into, const struct row *r, blx_error *err) BLX__MUST;
/* h->gap anew. */
blx__rc store_gap(struct blx__history *h, blx_error *err) BLX__MUST;
bool history_link_ok(const uint8_t prev[BLX__SHA256_BYTES], struct blx__slice record,
                     const uint8_t hash[BLX__SHA256_BYTES]);

/* ---- write.c: items become rows */
blx__rc write_item(struct blx__history *h, const struct item *item, blx_error *err) BLX__MUST;
blx__rc write_trim(struct blx__history *h, blx_error *err) BLX__MUST;

/* ---- events.c */
blx__rc events_open(struct blx__history *h, blx_error *err) BLX__MUST;
/* An item of any kind: what it says of events. */
blx__rc events_item(struct blx__history *h, const struct item *item, blx_error *err) BLX__MUST;
/* At the end of a transaction: what is too old or too much goes, and what changed since @before is noted. */
blx__rc events_written(struct blx__history *h, const struct events_kept *before, blx_error *err) BLX__MUST;

/* ---- history.c */
/* Wait until all that was given is written. Errors: TIMEOUT, FATAL. */
blx__rc history_flush(struct blx__history *h, blx_error *err) BLX__MUST;

#endif
