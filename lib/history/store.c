/* The database: its tables, its statements, and what SQLite's results mean. WAL, and a sync with each commit: what is
 * committed is on the disk. Nothing is read or written outside of these statements. */
#include "history/history_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { FORMAT = 2, BUSY_MS = 5000, ROW_BESIDE_BYTES = 96 };

static const char component[] = "history";

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, prev BLOB NOT NULL,"
    " hash BLOB NOT NULL, record BLOB NOT NULL, message TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS denied (seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, prev BLOB NOT NULL,"
    " hash BLOB NOT NULL, record BLOB NOT NULL, message TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS missing (first INTEGER NOT NULL, last INTEGER PRIMARY KEY, hash BLOB NOT NULL,"
    " why TEXT NOT NULL, fetching INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, events BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS events_kept (one INTEGER PRIMARY KEY, upto INTEGER NOT NULL, begins INTEGER NOT NULL,"
    " begins_ms INTEGER NOT NULL, bytes INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;";

/* What SQLite says now, as ours: NOSPACE and BUSY may go away; CORRUPT says the way back. */
static blx__rc store_fail(struct blx__history *h, blx_error *err, const char *doing) {
  int code = sqlite3_errcode(h->db), os = sqlite3_system_errno(h->db);
  const char *why = sqlite3_errmsg(h->db);
  switch (code & 0xff) {
  case SQLITE_FULL:
    return blx__fail(err, BLX_E_NOSPACE, component, "%s cannot be %s: the disk is full", h->path, doing);
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    return blx__fail(err, BLX_E_BUSY, component, "%s cannot be %s: another process holds it locked", h->path, doing);
  case SQLITE_NOMEM: return blx__fail(err, BLX_E_NOMEM, component, "no memory for %s", h->path);
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
  case SQLITE_SCHEMA:
  case SQLITE_ERROR:
    return blx__fail(err, BLX_E_CORRUPT, component,
                     "%s is damaged (%s): move it away with its -wal and -shm and start again; what other members have "
                     "of the audit log is fetched from them, and what nobody has is noted as a cut",
                     h->path, why);
  default: break;
  }
  if (os == ENOSPC || os == EDQUOT)
    return blx__fail(err, BLX_E_NOSPACE, component, "%s cannot be %s: the disk is full", h->path, doing);
  return blx__fail(err, BLX_E_IO, component, "%s cannot be %s: %s", h->path, doing, why);
}

sqlite3_stmt *store_sql(struct blx__history *h, enum history_sql which, uint64_t one, uint64_t two) {
  sqlite3_stmt *s = h->sql[which];
  (void)sqlite3_reset(s);
  (void)sqlite3_clear_bindings(s);
  int n = sqlite3_bind_parameter_count(s);
  if (n >= 1) (void)sqlite3_bind_int64(s, 1, (sqlite3_int64)(one > INT64_MAX ? INT64_MAX : one));
  if (n >= 2) (void)sqlite3_bind_int64(s, 2, (sqlite3_int64)(two > INT64_MAX ? INT64_MAX : two));
  return s;
}

int store_step(struct blx__history *h, sqlite3_stmt *s, blx_error *err) {
  int rc = sqlite3_step(s);
  if (rc == SQLITE_ROW) return 1;
  if (rc != SQLITE_DONE) (void)store_fail(h, err, sqlite3_stmt_readonly(s) ? "read" : "written");
  (void)sqlite3_reset(s);
  return rc == SQLITE_DONE ? 0 : -1;
}

blx__rc store_run(struct blx__history *h, enum history_sql which, uint64_t one, uint64_t two, blx_error *err) {
  blx_error why = {.code = BLX_E_INTERNAL};
  return store_step(h, store_sql(h, which, one, two), &why) == 0 ? BLX__OK : blx__fail_as(err, &why);
}

void store_rollback(struct blx__history *h) {
  if (!sqlite3_get_autocommit(h->db)) (void)store_step(h, store_sql(h, SQL_ROLLBACK, 0, 0), NULL);
}

static bool blob_at(sqlite3_stmt *s, int column, size_t min, size_t max, struct blx__slice *out) {
  if (sqlite3_column_type(s, column) != SQLITE_BLOB) return false;
  out->data = sqlite3_column_blob(s, column);
  out->len = (size_t)sqlite3_column_bytes(s, column);
  return out->data && out->len >= min && out->len <= max;
}

bool store_row(sqlite3_stmt *s, struct row *out) {
  struct blx__slice prev, hash;
  bool ok = blob_at(s, 2, BLX__SHA256_BYTES, BLX__SHA256_BYTES, &prev) &&
            blob_at(s, 3, BLX__SHA256_BYTES, BLX__SHA256_BYTES, &hash) &&
            blob_at(s, 4, 1, BLX__HISTORY_RECORD_MAX, &out->record);
  out->seq = (uint64_t)sqlite3_column_int64(s, 0);
  out->time_ms = (uint64_t)sqlite3_column_int64(s, 1);
  out->prev = ok ? prev.data : NULL;
  out->hash = ok ? hash.data : NULL;
  out->message.data = sqlite3_column_text(s, 5);
  out->message.len = out->message.data ? (size_t)sqlite3_column_bytes(s, 5) : 0;
  return ok;
}

bool store_missing(sqlite3_stmt *s, struct missing *out) {
  struct blx__slice hash;
  const char *why = (const char *)sqlite3_column_text(s, 3);
  out->first = (uint64_t)sqlite3_column_int64(s, 0);
  out->last = (uint64_t)sqlite3_column_int64(s, 1);
  out->fetching = sqlite3_column_int(s, 4) != 0;
  (void)blx__str_copy(out->why, sizeof out->why, why ? why : "");
  if (!blob_at(s, 2, BLX__SHA256_BYTES, BLX__SHA256_BYTES, &hash)) return false;
  memcpy(out->hash, hash.data, sizeof out->hash);
  return out->first >= 1 && out->first <= out->last;
}

blx__rc store_missing_put(struct blx__history *h, const struct missing *m, blx_error *err) {
  sqlite3_stmt *s = store_sql(h, SQL_MISSING_PUT, m->first, m->last);
  blx_error why = {.code = BLX_E_INTERNAL};
  (void)sqlite3_bind_blob(s, 3, m->hash, sizeof m->hash, SQLITE_STATIC);
  (void)sqlite3_bind_text(s, 4, m->why, -1, SQLITE_STATIC);
  (void)sqlite3_bind_int(s, 5, m->fetching);
  return store_step(h, s, &why) == 0 ? BLX__OK : blx__fail_as(err, &why);
}

uint64_t row_bytes(const struct row *r) {
  return r->record.len + r->message.len + ROW_BESIDE_BYTES;
}

blx__rc store_add(struct blx__history *h, enum history_sql into, const struct row *r, blx_error *err) {
  sqlite3_stmt *s = store_sql(h, into, r->seq, r->time_ms);
  blx_error why = {.code = BLX_E_INTERNAL};
  (void)sqlite3_bind_blob(s, 3, r->prev, BLX__SHA256_BYTES, SQLITE_STATIC);
  (void)sqlite3_bind_blob(s, 4, r->hash, BLX__SHA256_BYTES, SQLITE_STATIC);
  (void)sqlite3_bind_blob(s, 5, r->record.data, (int)r->record.len, SQLITE_STATIC);
  const char *message = r->message.len > 0 ? (const char *)r->message.data : "";
  (void)sqlite3_bind_text(s, 6, message, (int)r->message.len, SQLITE_STATIC);
  if (store_step(h, s, &why) != 0) return blx__fail_as(err, &why);
  if (into == SQL_ADD) h->record_bytes += row_bytes(r);
  return BLX__OK;
}

blx__rc store_gap(struct blx__history *h, blx_error *err) {
  struct missing m = {0};
  sqlite3_stmt *s = store_sql(h, SQL_GAP, 0, 0);
  int n = store_step(h, s, err);
  bool ok = n == 1 && store_missing(s, &m);
  (void)sqlite3_reset(s);
  if (n < 0) return (blx__rc){BLX_E_IO};
  pthread_mutex_lock(&h->lock);
  h->has_gap = ok;
  h->gap = (struct blx__history_gap){m.first, m.last};
  pthread_mutex_unlock(&h->lock);
  return BLX__OK;
}

bool history_link_ok(const uint8_t prev[BLX__SHA256_BYTES], struct blx__slice record,
                     const uint8_t hash[BLX__SHA256_BYTES]) {
  const struct blx__slice parts[] = {{prev, BLX__SHA256_BYTES}, record};
  uint8_t mine[BLX__SHA256_BYTES];
  blx__sha256(parts, BLX__COUNT(parts), mine);
  return memcmp(mine, hash, sizeof mine) == 0;
}

/* ---- open */

static blx__rc read_tip(struct blx__history *h, enum history_sql which, struct tip *tip, blx_error *err) {
  sqlite3_stmt *s = store_sql(h, which, 0, 0);
  struct row row;
  int n = store_step(h, s, err);
  if (n < 0) return (blx__rc){err && err->code ? err->code : BLX_E_IO};
  bool ok = n == 0 || store_row(s, &row);
  if (n == 1 && ok) {
    tip->seq = row.seq;
    tip->time_ms = row.time_ms;
    memcpy(tip->hash, row.hash, sizeof tip->hash);
  }
  (void)sqlite3_reset(s);
  if (ok) return BLX__OK;
  return blx__fail(err, BLX_E_CORRUPT, component,
                   "%s is damaged (its last record has not the shape of one): move it away with its -wal and -shm and "
                   "start again; what other members have of the audit log is fetched from them",
                   h->path);
}

/* A gap at the end, if there is one, is the end. */
static blx__rc read_ends(struct blx__history *h, blx_error *err) {
  blx_error why = {0};
  struct missing m;
  blx__rc rc = read_tip(h, SQL_LAST, &h->tip, &why);
  if (rc.code == 0) rc = read_tip(h, SQL_DENIED_LAST, &h->denied, &why);
  if (rc.code != 0) return blx__fail_as(err, &why);
  sqlite3_stmt *s = store_sql(h, SQL_MISSING_LAST, 0, 0);
  int n = store_step(h, s, &why);
  if (n == 1 && store_missing(s, &m) && m.last > h->tip.seq) {
    h->tip.seq = m.last;
    memcpy(h->tip.hash, m.hash, sizeof m.hash);
  }
  (void)sqlite3_reset(s);
  if (n < 0) return blx__fail_as(err, &why);
  s = store_sql(h, SQL_BYTES_GET, 0, 0);
  n = store_step(h, s, &why);
  if (n == 1) h->record_bytes = (uint64_t)sqlite3_column_int64(s, 0);
  (void)sqlite3_reset(s);
  return n < 0 ? blx__fail_as(err, &why) : store_gap(h, err);
}

blx__rc store_first_since(struct blx__history *h, enum history_sql up, uint64_t since_ms, uint64_t end, uint64_t *at,
                          blx_error *err) {
  uint64_t lo = *at, hi = end;
  blx_error why = {.code = BLX_E_IO};
  BLX__ASSERT(up == SQL_UP || up == SQL_EVENTS_UP);
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    sqlite3_stmt *s = store_sql(h, up, mid, 1);
    int n = store_step(h, s, &why);
    uint64_t time_ms = n == 1 ? (uint64_t)sqlite3_column_int64(s, 1) : UINT64_MAX;
    (void)sqlite3_reset(s);
    if (n < 0) return blx__fail_as(err, &why);
    if (time_ms >= since_ms)
      hi = mid;
    else
      lo = mid + 1;
  }
  *at = lo;
  return BLX__OK;
}

static blx__rc check_format(struct blx__history *h, blx_error *err) {
  sqlite3_stmt *s = NULL;
  if (sqlite3_prepare_v2(h->db, "PRAGMA user_version", -1, &s, NULL) != SQLITE_OK) return store_fail(h, err, "read");
  int rc = sqlite3_step(s), format = rc == SQLITE_ROW ? sqlite3_column_int(s, 0) : 0;
  blx__rc out = rc == SQLITE_ROW ? BLX__OK : store_fail(h, err, "read");
  (void)sqlite3_finalize(s);
  if (out.code != 0) return out;
  if (format > FORMAT)
    return blx__fail(err, BLX_E_UNSUPPORTED, component, "%s has format %d, this version reads %d: upgrade this node",
                     h->path, format, FORMAT);
  if (format > 0 && format < FORMAT)
    return blx__fail(err, BLX_E_UNSUPPORTED, component,
                     "%s has format %d, from before the first release: move it away with its -wal and -shm and start "
                     "again",
                     h->path, format);
  return BLX__OK;
}

static blx__rc open_file(struct blx__history *h, blx_error *err) {
  int fd = open(h->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return blx__fail_errno(err, errno, component, "%s cannot be opened", h->path);
  close(fd);
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  if (sqlite3_open_v2(h->path, &h->db, flags, NULL) == SQLITE_OK) return BLX__OK;
  return h->db ? store_fail(h, err, "opened") : blx__fail(err, BLX_E_NOMEM, component, "no memory for %s", h->path);
}

blx__rc store_open(struct blx__history *h, blx_error *err) {
  static const char *const texts[SQL_COUNT] = {
#define HISTORY_SQL_TEXT(name, text) [SQL_##name] = (text),
      HISTORY_SQL_MAP(HISTORY_SQL_TEXT)
#undef HISTORY_SQL_TEXT
  };
  BLX__TRY(open_file(h, err));
  (void)sqlite3_busy_timeout(h->db, BUSY_MS);
  BLX__TRY(check_format(h, err));
  static const char setup[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-512;"
                              "PRAGMA user_version=2;";
  if (sqlite3_exec(h->db, setup, NULL, NULL, NULL) != SQLITE_OK ||
      sqlite3_exec(h->db, tables, NULL, NULL, NULL) != SQLITE_OK)
    return store_fail(h, err, "opened");
  for (int i = 0; i < SQL_COUNT; i++)
    if (sqlite3_prepare_v3(h->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &h->sql[i], NULL) != SQLITE_OK)
      return store_fail(h, err, "read");
  BLX__TRY(read_ends(h, err));
  return events_open(h, err);
}

void store_close(struct blx__history *h) {
  for (int i = 0; i < SQL_COUNT; i++) (void)sqlite3_finalize(h->sql[i]);
  if (h->db) (void)sqlite3_close(h->db);
}
