/* What a member lacks and another one has: given out from a record down, and taken in the same way. Each record is
 * taken for what the one after it says that it is, so that nothing has to be taken back later. */
#include "history/history_int.h"

#include "schema/codec.h"

#include <string.h>

static const char component[] = "history";

static struct blx_bytes bytes_copy(struct blx__arena *arena, const uint8_t *data, size_t len) {
  uint8_t *copy = blx__arena_alloc(arena, len + 1);
  if (!copy) return (struct blx_bytes){0};
  memcpy(copy, data, len);
  return (struct blx_bytes){copy, len};
}

static bool add_link(struct blx__arena *arena, const struct row *row, struct blx_audit_part *out) {
  struct blx_audit_link *link = blx__arena_alloc(arena, sizeof *link);
  if (!link) return false;
  *link = (struct blx_audit_link){.struct_size = sizeof *link};
  link->prev = bytes_copy(arena, row->prev, BLX__SHA256_BYTES);
  link->record = bytes_copy(arena, row->record.data, row->record.len);
  out->links[out->n_links++] = link;
  if (row->message.len > 0) link->message = blx__arena_strdup(arena, (const char *)row->message.data);
  return link->prev.len > 0 && link->record.len > 0 && (row->message.len == 0 || link->message);
}

blx__rc blx__history_part(struct blx__history *h, const struct blx_audit_fetch_request *request,
                          struct blx__arena *arena, struct blx_audit_part *out, blx_error *err) {
  size_t limit = request->limit > 0 && request->limit < BLX__HISTORY_PAGE_MAX ? request->limit : BLX__HISTORY_PAGE_MAX;
  blx_error why = {.code = BLX_E_IO};
  struct row row;
  size_t bytes = 0;
  uint64_t wanted = request->upto_seq;
  bool room = true;
  int n = 0;
  out->links = blx__arena_alloc(arena, limit * sizeof *out->links);
  if (!out->links) return blx__fail(err, BLX_E_NOMEM, component, "no memory for records");
  BLX__TRY(history_flush(h, err));
  pthread_mutex_lock(&h->db_lock);
  out->last_seq = h->tip.seq;
  sqlite3_stmt *s = store_sql(h, SQL_DOWN, wanted, limit);
  while (room && bytes < BLX__HISTORY_PAGE_BYTES_MAX && (n = store_step(h, s, &why)) == 1) {
    if (!store_row(s, &row) || row.seq != wanted) break;
    room = add_link(arena, &row, out);
    bytes += row.record.len + row.message.len + BLX__SHA256_BYTES;
    wanted--;
  }
  (void)sqlite3_reset(s);
  pthread_mutex_unlock(&h->db_lock);
  if (!room) return blx__fail(err, BLX_E_NOMEM, component, "no memory for records");
  return n < 0 ? blx__fail_as(err, &why) : BLX__OK;
}

/* The row of that gap as it is now. */
static blx__rc find_gap(struct blx__history *h, struct blx__history_gap gap, struct missing *m, blx_error *err) {
  blx_error why = {.code = BLX_E_IO};
  sqlite3_stmt *s = store_sql(h, SQL_MISSING_AT, gap.last, 0);
  int n = store_step(h, s, &why);
  bool there = n == 1 && store_missing(s, m) && m->last == gap.last && m->fetching;
  (void)sqlite3_reset(s);
  if (n < 0) return blx__fail_as(err, &why);
  return there ? BLX__OK : blx__fail(err, BLX_E_CONFLICT, component, "the gap is not there any more");
}

/* Hash of the record, or of the end of the cut, below @first; zeros below the first of all. False: neither is known. */
static bool hash_below(struct blx__history *h, uint64_t first, uint8_t out[BLX__SHA256_BYTES]) {
  struct row row;
  struct missing m;
  memset(out, 0, BLX__SHA256_BYTES);
  if (first == 1) return true;
  sqlite3_stmt *s = store_sql(h, SQL_GET, first - 1, 0);
  bool found = store_step(h, s, NULL) == 1 && store_row(s, &row);
  if (found) memcpy(out, row.hash, BLX__SHA256_BYTES);
  (void)sqlite3_reset(s);
  if (found) return true;
  s = store_sql(h, SQL_MISSING_AT, first - 1, 0);
  found = store_step(h, s, NULL) == 1 && store_missing(s, &m) && m.last == first - 1;
  if (found) memcpy(out, m.hash, BLX__SHA256_BYTES);
  (void)sqlite3_reset(s);
  return found;
}

/* One record at the gap's end; the gap ends below it then. */
static blx__rc take_link(struct blx__history *h, struct missing *m, const struct blx_audit_link *link, blx_error *err) {
  const struct blx__slice record = {link->record.data, link->record.len};
  if (link->prev.len != BLX__SHA256_BYTES || record.len == 0 || record.len > BLX__HISTORY_RECORD_MAX ||
      !history_link_ok(link->prev.data, record, m->hash))
    return blx__fail(err, BLX_E_CONFLICT, component, "record %llu is not the one that the chain has there",
                     (unsigned long long)m->last);
  struct blx__arena arena = {.limit_bytes = 16 << 10};
  void *msg = NULL;
  blx__rc rc = blx__msg_decode(blx__desc_audit_record(), &arena, record, &msg, err);
  struct row row = {m->last,         rc.code == 0 ? ((struct blx_audit_record *)msg)->time_ms : 0,
                    link->prev.data, m->hash,
                    record,          {(const uint8_t *)link->message, link->message ? strlen(link->message) : 0}};
  if (rc.code == 0) rc = store_add(h, SQL_ADD, &row, err);
  blx__arena_free(&arena);
  if (rc.code != 0) return rc;
  m->last--;
  memcpy(m->hash, link->prev.data, sizeof m->hash);
  return rc;
}

static blx__rc take_links(struct blx__history *h, struct missing *m, const struct blx_audit_part *part,
                          blx_error *err) {
  BLX__TRY(store_run(h, SQL_MISSING_DROP, m->last, 0, err));
  blx_error why = {0};
  blx__rc rc = BLX__OK;
  for (size_t i = 0; i < part->n_links && m->last >= m->first && rc.code == 0; i++)
    rc = take_link(h, m, part->links[i], &why);
  if (rc.code != 0 && rc.code != BLX_E_CONFLICT) return blx__fail_as(err, &why);
  if (m->last >= m->first) {
    BLX__TRY(store_missing_put(h, m, err));
    return rc.code == 0 ? rc : blx__fail_as(err, &why);
  }
  uint8_t below[BLX__SHA256_BYTES];
  if (hash_below(h, m->first, below) && memcmp(below, m->hash, sizeof below) == 0) return BLX__OK;
  return blx__fail(
      err, BLX_E_CORRUPT, component,
      "record %llu of the audit log in %s is not the one that comes before those of other members: move it "
      "away with its -wal and -shm and start again",
      (unsigned long long)(m->first - 1), h->path);
}

/* @m is changed as the database is; CONFLICT leaves what was taken before it. */
static blx__rc commit(struct blx__history *h, blx__rc rc, uint64_t bytes_before, blx_error *err) {
  if (rc.code == 0 || rc.code == BLX_E_CONFLICT) {
    blx__rc put = store_run(h, SQL_BYTES_PUT, h->record_bytes, 0, err);
    if (put.code == 0) put = store_run(h, SQL_COMMIT, 0, 0, err);
    if (put.code != 0) rc = put;
  }
  if (!sqlite3_get_autocommit(h->db)) {
    store_rollback(h);
    h->record_bytes = bytes_before;
  }
  blx__rc gap = store_gap(h, NULL);
  return rc.code == 0 && gap.code != 0 ? blx__fail(err, gap.code, component, "%s cannot be read", h->path) : rc;
}

blx__rc blx__history_fill(struct blx__history *h, struct blx__history_gap gap, const struct blx_audit_part *part,
                          blx_error *err) {
  struct missing m;
  pthread_mutex_lock(&h->db_lock);
  uint64_t bytes = h->record_bytes;
  blx__rc rc = store_run(h, SQL_BEGIN, 0, 0, err);
  if (rc.code == 0) {
    rc = find_gap(h, gap, &m, err);
    if (rc.code == 0) rc = take_links(h, &m, part, err);
    rc = commit(h, rc, bytes, err);
  }
  pthread_mutex_unlock(&h->db_lock);
  return rc;
}

blx__rc blx__history_give_up(struct blx__history *h, struct blx__history_gap gap, blx_error *err) {
  struct missing m;
  pthread_mutex_lock(&h->db_lock);
  blx__rc rc = store_run(h, SQL_BEGIN, 0, 0, err);
  if (rc.code == 0) {
    rc = find_gap(h, gap, &m, err);
    m.fetching = false;
    (void)blx__str_copy(m.why, sizeof m.why, "never came to this member, and no other one has them");
    if (rc.code == 0) rc = store_missing_put(h, &m, err);
    rc = commit(h, rc, h->record_bytes, err);
  }
  pthread_mutex_unlock(&h->db_lock);
  return rc;
}
