/* What becomes of an item of the queue, and what goes by age and size. In a transaction, under db_lock. */
#include "history/history_int.h"

#include <string.h>

static const char component[] = "history";
static const char way_back[] = "move it away with its -wal and -shm and start again; the records come from the log and "
                               "from other members";

/* One that was there before comes again, from the log; one in a gap or a cut is not asked for. */
static blx__rc compare(struct blx__history *h, const struct item *item, blx_error *err) {
  blx_error why = {.code = BLX_E_INTERNAL};
  struct row row;
  sqlite3_stmt *s = store_sql(h, SQL_GET, item->seq, 0);
  int n = store_step(h, s, &why);
  bool same = n == 1 && store_row(s, &row) && memcmp(row.hash, item->hash, sizeof item->hash) == 0;
  (void)sqlite3_reset(s);
  if (n < 0) return blx__fail_as(err, &why);
  if (n == 0 || same) return BLX__OK;
  return blx__fail(err, BLX_E_CORRUPT, component,
                   "record %llu of the audit log in %s is not the one that this member's log gives: %s",
                   (unsigned long long)item->seq, h->path, way_back);
}

static blx__rc note_gap(struct blx__history *h, uint64_t last, const uint8_t hash[BLX__SHA256_BYTES], blx_error *err) {
  struct missing m = {.first = h->tip.seq + 1, .last = last, .fetching = true};
  memcpy(m.hash, hash, sizeof m.hash);
  BLX__TRY(store_missing_put(h, &m, err));
  h->tip.seq = last;
  memcpy(h->tip.hash, hash, sizeof h->tip.hash);
  blx__log(h->o.log, BLX_LOG_INFO, component,
           "records %llu to %llu of the audit log are not here: other members are asked", (unsigned long long)m.first,
           (unsigned long long)last);
  return store_gap(h, err);
}

static blx__rc write_record(struct blx__history *h, const struct item *item, blx_error *err) {
  if (item->seq <= h->tip.seq) return compare(h, item, err);
  if (item->seq > h->tip.seq + 1) BLX__TRY(note_gap(h, item->seq - 1, item->prev, err));
  if (memcmp(item->prev, h->tip.hash, sizeof item->prev) != 0)
    return blx__fail(err, BLX_E_CORRUPT, component,
                     "record %llu of the audit log in %s is not the one that comes before the next in this member's "
                     "log: %s",
                     (unsigned long long)h->tip.seq, h->path, way_back);
  size_t len = item->len - item->message_len;
  struct row row = {item->seq,  item->time_ms,      item->prev,
                    item->hash, {item->bytes, len}, {item->bytes + len, item->message_len}};
  BLX__TRY(store_add(h, SQL_ADD, &row, err));
  h->tip.seq = item->seq;
  h->tip.time_ms = item->time_ms;
  memcpy(h->tip.hash, item->hash, sizeof h->tip.hash);
  return BLX__OK;
}

static blx__rc write_head(struct blx__history *h, const struct item *item, blx_error *err) {
  if (item->seq > h->tip.seq) return note_gap(h, item->seq, item->hash, err);
  return item->seq > 0 ? compare(h, item, err) : BLX__OK;
}

static blx__rc write_denied(struct blx__history *h, const struct item *item, blx_error *err) {
  struct row row = {h->denied.seq + 1, item->time_ms, h->denied.hash, NULL, {item->bytes, item->len}, {NULL, 0}};
  const struct blx__slice parts[] = {{h->denied.hash, sizeof h->denied.hash}, row.record};
  uint8_t hash[BLX__SHA256_BYTES];
  blx__sha256(parts, BLX__COUNT(parts), hash);
  row.hash = hash;
  BLX__TRY(store_add(h, SQL_DENIED_ADD, &row, err));
  h->denied.seq = row.seq;
  memcpy(h->denied.hash, hash, sizeof hash);
  if (row.seq <= BLX__HISTORY_DENIED_MAX) return BLX__OK;
  return store_run(h, SQL_DENIED_DROP, row.seq - BLX__HISTORY_DENIED_MAX, 0, err);
}

blx__rc write_item(struct blx__history *h, const struct item *item, blx_error *err) {
  BLX__TRY(events_item(h, item, err));
  switch (item->kind) {
  case ITEM_RECORD: return write_record(h, item, err);
  case ITEM_HEAD: return write_head(h, item, err);
  case ITEM_DENIED: return write_denied(h, item, err);
  case ITEM_EVENTS:
  case ITEM_EVENTS_BEGIN:
  case ITEM_EVENTS_UPTO: break;
  }
  return BLX__OK;
}

/* ---- what is too old, or too much */

static bool too_old(const struct blx__history *h, uint64_t time_ms) {
  return h->o.max_age_ms > 0 && h->tip.time_ms > h->o.max_age_ms && time_ms < h->tip.time_ms - h->o.max_age_ms;
}

/* The oldest records that have to go, up to TRIM_ROWS: @cut->last is the last of them, 0: none. */
static blx__rc find_oldest(struct blx__history *h, struct missing *cut, uint64_t *bytes, blx_error *err) {
  blx_error why = {.code = BLX_E_INTERNAL};
  sqlite3_stmt *s = store_sql(h, SQL_UP, 1, TRIM_ROWS);
  struct row row;
  int n = 0;
  while ((n = store_step(h, s, &why)) == 1 && store_row(s, &row) && row.seq < h->tip.seq) {
    bool much = h->o.max_bytes > 0 && h->record_bytes - *bytes > h->o.max_bytes;
    if (!much && !too_old(h, row.time_ms)) break;
    *bytes += row_bytes(&row);
    cut->last = row.seq;
    memcpy(cut->hash, row.hash, sizeof cut->hash);
  }
  (void)sqlite3_reset(s);
  return n < 0 ? blx__fail_as(err, &why) : BLX__OK;
}

blx__rc write_trim(struct blx__history *h, blx_error *err) {
  struct missing cut = {.first = 1, .why = "removed by this member's limits of age and size"};
  uint64_t bytes = 0;
  BLX__TRY(find_oldest(h, &cut, &bytes, err));
  if (cut.last > 0) {
    BLX__TRY(store_run(h, SQL_DROP, cut.last, 0, err));
    BLX__TRY(store_run(h, SQL_MISSING_DROP_UPTO, cut.last, 0, err));
    BLX__TRY(store_missing_put(h, &cut, err));
    h->record_bytes = h->record_bytes > bytes ? h->record_bytes - bytes : 0;
    BLX__TRY(store_gap(h, err));
  }
  return store_run(h, SQL_BYTES_PUT, h->record_bytes, 0, err);
}
