/* Events on the disk: a row holds the events of one log entry, or a part of them, so that an entry that changed much
 * costs little. They are whole between two indexes, and a gap ends what was before it. */
#include "history/history_int.h"

#include "schema/codec.h"

#include <string.h>

enum { ROW_BESIDE_BYTES = 24, LENGTH_BYTES = 4, EVENT_ARENA = 64 << 10 };

static const char component[] = "history";

/* ---- one event's bytes, with their length before them */

blx__rc blx__history_events_put(struct blx__buf *out, const struct blx_event *event, blx_error *err) {
  static const uint8_t room[LENGTH_BYTES];
  size_t at = out->len;
  if (!blx__buf_add(out, room, sizeof room)) return blx__fail(err, BLX_E_NOMEM, component, "no memory for an event");
  blx__rc rc = blx__msg_encode(blx__desc_event(), event, out, err);
  if (rc.code != 0) {
    out->len = at;
    return rc;
  }
  size_t len = out->len - at - LENGTH_BYTES;
  BLX__ASSERT(len <= UINT32_MAX);
  for (unsigned i = 0; i < LENGTH_BYTES; i++) out->data[at + i] = (uint8_t)(len >> (8 * i));
  return rc;
}

/* The next of @rest. False: there is none, or it is cut off. */
static bool next_event(struct blx__slice *rest, struct blx__slice *out) {
  if (rest->len < LENGTH_BYTES) return false;
  size_t len = 0;
  for (unsigned i = 0; i < LENGTH_BYTES; i++) len |= (size_t)rest->data[i] << (8 * i);
  if (len > rest->len - LENGTH_BYTES) return false;
  *out = (struct blx__slice){rest->data + LENGTH_BYTES, len};
  *rest = (struct blx__slice){out->data + len, rest->len - LENGTH_BYTES - len};
  return true;
}

/* ---- rows */

struct event_row {
  uint64_t id, time_ms;
  struct blx__slice events;
};

static uint64_t index_of(uint64_t id) {
  return id >> EVENT_PARTS_BITS;
}

static bool row_of(sqlite3_stmt *s, struct event_row *out) {
  out->id = (uint64_t)sqlite3_column_int64(s, 0);
  out->time_ms = (uint64_t)sqlite3_column_int64(s, 1);
  out->events.data = sqlite3_column_blob(s, 2);
  out->events.len = (size_t)sqlite3_column_bytes(s, 2);
  return sqlite3_column_type(s, 2) == SQLITE_BLOB && out->events.data && out->events.len <= BLX__HISTORY_EVENTS_MAX;
}

blx__rc events_open(struct blx__history *h, blx_error *err) {
  struct events_kept *k = &h->kept;
  blx_error why = {.code = BLX_E_IO};
  sqlite3_stmt *s = store_sql(h, SQL_EVENTS_KEPT, 0, 0);
  int n = store_step(h, s, &why);
  if (n == 1) {
    k->upto = (uint64_t)sqlite3_column_int64(s, 0);
    k->begins = (uint64_t)sqlite3_column_int64(s, 1);
    k->begins_ms = (uint64_t)sqlite3_column_int64(s, 2);
    k->bytes = (uint64_t)sqlite3_column_int64(s, 3);
  }
  (void)sqlite3_reset(s);
  if (n < 0) return blx__fail_as(err, &why);
  k->last_id = event_id(k->begins, EVENT_PARTS_MASK);
  s = store_sql(h, SQL_EVENTS_LAST, 0, 0);
  n = store_step(h, s, &why);
  if (n == 1 && (uint64_t)sqlite3_column_int64(s, 0) > k->last_id) {
    k->last_id = (uint64_t)sqlite3_column_int64(s, 0);
    k->last_ms = (uint64_t)sqlite3_column_int64(s, 1);
  }
  (void)sqlite3_reset(s);
  return n < 0 ? blx__fail_as(err, &why) : BLX__OK;
}

static blx__rc add_row(struct blx__history *h, const struct item *item, blx_error *err) {
  struct events_kept *k = &h->kept;
  if (item->seq <= k->last_id) return BLX__OK; /* the log gave it again */
  sqlite3_stmt *s = store_sql(h, SQL_EVENTS_ADD, item->seq, item->time_ms);
  blx_error why = {.code = BLX_E_INTERNAL};
  (void)sqlite3_bind_blob(s, 3, item->bytes, (int)item->len, SQLITE_STATIC);
  if (store_step(h, s, &why) != 0) return blx__fail_as(err, &why);
  k->last_id = item->seq;
  k->last_ms = item->time_ms;
  k->bytes += item->len + ROW_BESIDE_BYTES;
  return BLX__OK;
}

/* What is before a gap would be taken for all that there was. */
static blx__rc begin_anew(struct blx__history *h, const struct item *item, blx_error *err) {
  struct events_kept *k = &h->kept;
  if (item->index <= k->upto) return BLX__OK;
  BLX__TRY(store_run(h, SQL_EVENTS_CLEAR, 0, 0, err));
  *k = (struct events_kept){.upto = item->index, .begins = item->index, .begins_ms = item->time_ms};
  k->last_id = event_id(item->index, EVENT_PARTS_MASK);
  k->last_ms = item->time_ms;
  blx__log(h->o.log, BLX_LOG_INFO, component,
           "events are kept here from index %llu on: those before it did not come here",
           (unsigned long long)item->index);
  return BLX__OK;
}

blx__rc events_item(struct blx__history *h, const struct item *item, blx_error *err) {
  struct events_kept *k = &h->kept;
  if (item->kind == ITEM_EVENTS_BEGIN) return begin_anew(h, item, err);
  /* Items come in order: whatever belongs to an entry ends those before it. */
  uint64_t done = item->kind == ITEM_EVENTS_UPTO ? item->index : item->index > 0 ? item->index - 1 : 0;
  if (done > k->upto) k->upto = done;
  return item->kind == ITEM_EVENTS ? add_row(h, item, err) : BLX__OK;
}

/* ---- what is too old, or too much */

static bool must_go(const struct blx__history *h, const struct event_row *row, uint64_t gone_bytes) {
  const struct events_kept *k = &h->kept;
  uint64_t age = h->o.events_max_age_ms, most = h->o.events_max_bytes;
  if (most > 0 && k->bytes - gone_bytes > most) return true;
  return age > 0 && k->last_ms > age && row->time_ms < k->last_ms - age;
}

static blx__rc trim(struct blx__history *h, blx_error *err) {
  struct events_kept *k = &h->kept;
  struct event_row row, last = {0};
  uint64_t gone = 0;
  blx_error why = {.code = BLX_E_INTERNAL};
  int n = 0;
  sqlite3_stmt *s = store_sql(h, SQL_EVENTS_UP, 0, TRIM_ROWS);
  while ((n = store_step(h, s, &why)) == 1) {
    bool shaped = row_of(s, &row), same = last.id != 0 && index_of(row.id) == index_of(last.id);
    if (index_of(row.id) >= index_of(k->last_id) || (!same && !must_go(h, &row, gone))) break;
    gone += (shaped ? row.events.len : 0) + ROW_BESIDE_BYTES;
    last = row;
  }
  (void)sqlite3_reset(s);
  if (n < 0) return blx__fail_as(err, &why);
  if (last.id == 0) return BLX__OK;
  /* The rest of that entry, if there is any, goes with it. */
  BLX__TRY(store_run(h, SQL_EVENTS_DROP, event_id(index_of(last.id), EVENT_PARTS_MASK), 0, err));
  k->begins = index_of(last.id);
  k->begins_ms = last.time_ms;
  k->bytes = k->bytes > gone ? k->bytes - gone : 0;
  return BLX__OK;
}

blx__rc events_written(struct blx__history *h, const struct events_kept *before, blx_error *err) {
  struct events_kept *k = &h->kept;
  BLX__TRY(trim(h, err));
  if (memcmp(k, before, sizeof *k) == 0) return BLX__OK;
  sqlite3_stmt *s = store_sql(h, SQL_EVENTS_KEPT_PUT, k->upto, k->begins);
  blx_error why = {.code = BLX_E_INTERNAL};
  (void)sqlite3_bind_int64(s, 3, (sqlite3_int64)k->begins_ms);
  (void)sqlite3_bind_int64(s, 4, (sqlite3_int64)k->bytes);
  return store_step(h, s, &why) == 0 ? BLX__OK : blx__fail_as(err, &why);
}

/* ---- reading */

struct reading {
  struct blx__history *h;
  struct blx__history_events *e;
  struct blx__arena *arena, one;
  size_t bytes, looked;
};

/* The first row to look at. Afterwards index and done say from where on, whatever was asked for. */
static blx__rc find_begin(struct blx__history *h, struct blx__history_events *e, uint64_t *id, blx_error *err) {
  const struct events_kept *k = &h->kept;
  bool placed = !e->oldest && e->since_ms == 0;
  e->begins = k->begins;
  e->begins_ms = k->begins_ms;
  e->cut = !placed && k->begins > 0 && (e->oldest || k->begins_ms >= e->since_ms);
  uint64_t known = e->done > 0 && e->index > 0 ? e->index - 1 : e->index;
  if (placed && known < k->begins)
    return blx__fail(err, BLX_E_STALE, component,
                     "events after index %llu are asked for, and this member has those after %llu: ask for these, or "
                     "another member, which may have older ones",
                     (unsigned long long)known, (unsigned long long)k->begins);
  *id = event_id(e->index, e->done > 0 ? 0 : EVENT_PARTS_MASK) + (e->done > 0 ? 0 : 1);
  if (placed) return BLX__OK;
  *id = event_id(k->begins, EVENT_PARTS_MASK) + 1;
  if (!e->oldest) {
    uint64_t first = 0;
    BLX__TRY(store_first_since(h, SQL_EVENTS_UP, e->since_ms, k->last_id + 1, &first, err));
    if (first > *id) *id = first;
  }
  e->oldest = false;
  e->since_ms = 0;
  e->index = index_of(*id - 1);
  e->done = 0;
  return BLX__OK;
}

static blx__rc damaged(const struct blx__history *h, uint64_t id, blx_error *err) {
  return blx__fail(err, BLX_E_CORRUPT, component,
                   "the events of index %llu in %s cannot be read: begin after it, or ask another member",
                   (unsigned long long)index_of(id), h->path);
}

/* @at: the place of the row's first event among those of its entry. */
static blx__rc read_row(struct reading *r, const struct event_row *row, size_t *at, blx_error *err) {
  struct blx__history_events *e = r->e;
  struct blx__slice rest = row->events, bytes;
  while (rest.len > 0) {
    void *msg = NULL, *copy = NULL;
    if (!next_event(&rest, &bytes)) return damaged(r->h, row->id, err);
    if ((*at)++ < e->done) continue;
    if (e->count == BLX__HISTORY_EVENTS_PAGE) {
      (*at)--;
      e->more = true;
      return BLX__OK;
    }
    blx__arena_reset(&r->one);
    if (blx__msg_decode(blx__desc_event(), &r->one, bytes, &msg, NULL).code != 0) return damaged(r->h, row->id, err);
    r->looked++;
    if (!e->wanted || e->wanted(e->user, msg)) {
      BLX__TRY(blx__msg_copy(blx__desc_event(), r->arena, msg, &copy, err));
      e->events[e->count++] = copy;
      r->bytes += bytes.len;
    }
    e->done = *at;
  }
  return BLX__OK;
}

static blx__rc read_rows(struct reading *r, uint64_t id, blx_error *err) {
  struct blx__history *h = r->h;
  struct blx__history_events *e = r->e;
  sqlite3_stmt *s = store_sql(h, SQL_EVENTS_UP, id, INT64_MAX);
  blx_error why = {.code = BLX_E_IO};
  blx__rc rc = BLX__OK;
  struct event_row row;
  size_t at = 0;
  int n = 0;
  while (rc.code == 0 && !e->more && (n = store_step(h, s, &why)) == 1) {
    bool full = e->count == BLX__HISTORY_EVENTS_PAGE || r->bytes >= BLX__HISTORY_EVENTS_PAGE_BYTES ||
                r->looked >= BLX__HISTORY_SCAN_MAX;
    bool shaped = row_of(s, &row);
    if (full) {
      e->more = true;
      break;
    }
    if (index_of(row.id) > e->index) {
      e->index = index_of(row.id);
      e->done = at = 0;
    }
    rc = shaped ? read_row(r, &row, &at, err) : damaged(h, row.id, err);
  }
  (void)sqlite3_reset(s);
  if (n < 0) return blx__fail_as(err, &why);
  if (rc.code == 0 && !e->more && h->kept.upto > e->index) {
    e->index = h->kept.upto;
    e->done = 0;
  }
  return rc;
}

static blx__rc read_part(struct reading *r, blx_error *err) {
  struct blx__history *h = r->h;
  uint64_t id = 0;
  pthread_mutex_lock(&h->db_lock);
  blx__rc rc = find_begin(h, r->e, &id, err);
  if (rc.code == 0) rc = read_rows(r, id, err);
  pthread_mutex_unlock(&h->db_lock);
  return rc;
}

blx__rc blx__history_read_events(struct blx__history *h, struct blx__history_events *e, struct blx__arena *arena,
                                 blx_error *err) {
  struct reading r = {.h = h, .e = e, .arena = arena, .one = {.limit_bytes = EVENT_ARENA}};
  bool placed = !e->oldest && e->since_ms == 0;
  uint64_t index = e->index;
  size_t done = e->done;
  e->count = 0;
  e->more = false;
  e->events = blx__arena_alloc(arena, BLX__HISTORY_EVENTS_PAGE * sizeof *e->events);
  if (!e->events) return blx__fail(err, BLX_E_NOMEM, component, "no memory for events");
  if (!placed) BLX__TRY(history_flush(h, err));
  blx__rc rc = read_part(&r, err);
  /* State has what is not written yet, unless it has dropped that already: then the caller came for it. */
  if (rc.code == 0 && placed && e->index == index && e->done == done) {
    rc = history_flush(h, err);
    if (rc.code == 0) rc = read_part(&r, err);
  }
  blx__arena_free(&r.one);
  return rc;
}
