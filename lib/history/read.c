/* What is asked of the database: lists, and the check of a chain, a step at a time. */
#include "history/history_int.h"

#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>

enum { LIMIT_PRESET = 100, RECORD_ARENA = 16 << 10 };

static const char component[] = "history";

/* ---- lists */

struct filter {
  const struct blx_audit_list_request *r;
  bool any, ok, refused;
};

static blx__rc filter_init(struct filter *f, const struct blx_audit_list_request *r, blx_error *err) {
  const char *result = r->result ? r->result : "";
  *f = (struct filter){.r = r, .any = !*result};
  f->ok = strcmp(result, "ok") == 0 || strcmp(result, "OK") == 0;
  f->refused = strcmp(result, "refused") == 0;
  if (f->any || f->ok || f->refused) return BLX__OK;
#define IS_CODE(name, number, retryable, exit_status, grpc, text) \
  if (strcmp(result, #name) == 0) return BLX__OK;
  BLX_ERR_MAP(IS_CODE)
#undef IS_CODE
  return blx__fail(err, BLX_E_INVALID, "api", "result: \"%.40s\" is not ok, refused or the name of a code as CONFLICT",
                   result);
}

static bool is_given(const char *wanted) {
  return wanted && *wanted;
}

/* "vm" is every verb that begins with "vm.". */
static bool verb_is(const char *verb, const char *wanted) {
  size_t n = strlen(wanted);
  return strncmp(verb, wanted, n) == 0 && (verb[n] == '\0' || verb[n] == '.');
}

/* "web" is every kind's object of that name. */
static bool object_is(const char *object, const char *wanted) {
  const char *name = strchr(object, '/');
  return strcmp(object, wanted) == 0 || (!strchr(wanted, '/') && name && strcmp(name + 1, wanted) == 0);
}

static bool matches(const struct filter *f, const struct blx_audit_record *a) {
  const struct blx_audit_list_request *r = f->r;
  if (is_given(r->tenant) && !(a->tenant && blx__str_eq(a->tenant, r->tenant))) return false;
  if (is_given(r->principal) && !blx__str_eq(a->principal, r->principal)) return false;
  if (is_given(r->verb) && !(a->verb && verb_is(a->verb, r->verb))) return false;
  if (is_given(r->object) && !(a->object && object_is(a->object, r->object))) return false;
  if (f->any) return true;
  if (f->ok || f->refused) return f->ok == (a->code == 0);
  return strcmp(blx_error_name(a->code), r->result) == 0;
}

static const char *hex_of(struct blx__arena *arena, const uint8_t hash[BLX__SHA256_BYTES]) {
  char hex[BLX__SHA256_HEX];
  blx__sha256_hex(hash, hex);
  return blx__arena_strdup(arena, hex);
}

static blx__rc decode(struct blx__history *h, const struct row *row, struct blx__arena *arena,
                      struct blx_audit_record **out, blx_error *err) {
  void *msg = NULL;
  blx_error why = {0};
  blx__rc rc = blx__msg_decode(blx__desc_audit_record(), arena, row->record, &msg, &why);
  if (rc.code == BLX_E_NOMEM) return blx__fail_as(err, &why);
  if (rc.code != 0)
    return blx__fail(err, BLX_E_CORRUPT, component,
                     "record %llu in %s cannot be read: run `blixard audit verify` at this member",
                     (unsigned long long)row->seq, h->path);
  struct blx_audit_record *a = msg;
  a->seq = row->seq;
  a->time_ms = row->time_ms;
  if (row->message.len > 0) a->message = blx__arena_strdup(arena, (const char *)row->message.data);
  a->prev = hex_of(arena, row->prev);
  a->hash = hex_of(arena, row->hash);
  *out = a;
  bool whole = a->prev && a->hash && (row->message.len == 0 || a->message);
  return whole ? BLX__OK : blx__fail(err, BLX_E_NOMEM, component, "no memory for a record");
}

struct scan {
  struct filter f;
  struct blx__arena *arena, one;
  struct blx_audit_list *out;
  size_t limit, bytes;
  unsigned looked;
};

/* False: the list ends here, before this record. */
static bool goes_on(const struct scan *scan, const struct row *row) {
  const struct blx_audit_list_request *r = scan->f.r;
  if (r->denied) return true;
  return r->backward ? row->time_ms >= r->since_ms : r->until_ms == 0 || row->time_ms < r->until_ms;
}

static blx__rc scan_row(struct blx__history *h, struct scan *scan, const struct row *row, blx_error *err) {
  const struct blx_audit_list_request *r = scan->f.r;
  struct blx_audit_record *a = NULL;
  if (row->time_ms < r->since_ms || (r->until_ms > 0 && row->time_ms >= r->until_ms)) return BLX__OK;
  blx__arena_reset(&scan->one);
  BLX__TRY(decode(h, row, &scan->one, &a, err));
  if (!matches(&scan->f, a)) return BLX__OK;
  void *copy = NULL;
  BLX__TRY(blx__msg_copy(blx__desc_audit_record(), scan->arena, a, &copy, err));
  scan->out->records[scan->out->n_records++] = copy;
  scan->bytes += row->record.len + row->message.len + 256;
  return BLX__OK;
}

static blx__rc scan_rows(struct blx__history *h, struct scan *scan, uint64_t from, blx_error *err) {
  const struct blx_audit_list_request *r = scan->f.r;
  enum history_sql up = r->denied ? SQL_DENIED_UP : SQL_UP, down = r->denied ? SQL_DENIED_DOWN : SQL_DOWN;
  sqlite3_stmt *s = store_sql(h, r->backward ? down : up, from, BLX__HISTORY_SCAN_MAX + 1);
  blx_error why = {.code = BLX_E_IO};
  blx__rc rc = BLX__OK;
  struct row row;
  int n = 0;
  while (rc.code == 0 && (n = store_step(h, s, &why)) == 1) {
    if (!store_row(s, &row)) {
      rc = blx__fail(err, BLX_E_CORRUPT, component,
                     "record %llu in %s has not the shape of one: run `blixard audit verify`",
                     (unsigned long long)row.seq, h->path);
      break;
    }
    if (!goes_on(scan, &row)) break;
    if (scan->out->n_records == scan->limit || scan->bytes >= BLX__HISTORY_PAGE_BYTES_MAX ||
        scan->looked++ == BLX__HISTORY_SCAN_MAX) {
      scan->out->next_seq = row.seq;
      break;
    }
    rc = scan_row(h, scan, &row, err);
  }
  (void)sqlite3_reset(s);
  return n < 0 ? blx__fail_as(err, &why) : rc;
}

blx__rc blx__history_list(struct blx__history *h, const struct blx_audit_list_request *request,
                          struct blx__arena *arena, struct blx_audit_list *out, blx_error *err) {
  struct scan scan = {.arena = arena, .one = {.limit_bytes = RECORD_ARENA}, .out = out};
  BLX__TRY(filter_init(&scan.f, request, err));
  scan.limit = request->limit > 0 ? request->limit : LIMIT_PRESET;
  if (scan.limit > BLX__HISTORY_PAGE_MAX) scan.limit = BLX__HISTORY_PAGE_MAX;
  out->records = blx__arena_alloc(arena, scan.limit * sizeof *out->records);
  if (!out->records) return blx__fail(err, BLX_E_NOMEM, component, "no memory for a list");
  BLX__TRY(history_flush(h, err));
  pthread_mutex_lock(&h->db_lock);
  uint64_t from = request->from_seq;
  blx__rc rc = BLX__OK;
  if (request->backward && from == 0) from = INT64_MAX;
  if (!request->backward && !request->denied && request->since_ms > 0) {
    if (from == 0) from = 1;
    rc = store_first_since(h, SQL_UP, request->since_ms, h->tip.seq + 1, &from, err);
  }
  if (rc.code == 0) rc = scan_rows(h, &scan, from, err);
  pthread_mutex_unlock(&h->db_lock);
  blx__arena_free(&scan.one);
  return rc;
}

/* ---- the check of a chain */

static void bad(struct blx__history_check *c, uint64_t seq, const char *text) {
  c->done = true;
  c->ok = false;
  c->bad_seq = seq;
  (void)blx__str_copy(c->text, sizeof c->text, text);
}

/* What the record says of itself against the columns it is found by. */
static const char *look_at_record(const struct blx__history_check *c, const struct row *row) {
  struct blx__arena arena = {.limit_bytes = RECORD_ARENA};
  void *msg = NULL;
  const char *why = NULL;
  if (blx__msg_decode(blx__desc_audit_record(), &arena, row->record, &msg, NULL).code != 0) {
    why = "its bytes are no audit record";
  } else {
    const struct blx_audit_record *a = msg;
    if (!c->denied && a->seq != row->seq) why = "it stands in the place of another";
    if (a->time_ms != row->time_ms) why = "the time that it is found by is not its own";
  }
  blx__arena_free(&arena);
  return why;
}

/* The state's head, where the chain comes by it. */
static bool passes_head(struct blx__history_check *c) {
  if (c->denied || c->seq != c->state_seq || c->seq == 0) return true;
  if (memcmp(c->hash, c->state_head, sizeof c->hash) == 0) return true;
  bad(c, c->seq,
      "the chain leads to another head than the cluster's state has: records were replaced, and hashed anew");
  return false;
}

static void check_row(struct blx__history_check *c, sqlite3_stmt *s) {
  struct row row;
  const char *why = NULL;
  if (!store_row(s, &row))
    why = "it has not the shape of a record";
  else if (memcmp(row.prev, c->hash, sizeof c->hash) != 0)
    why = "it does not follow the record before it: one of the two was changed, or one between them removed";
  else if (!history_link_ok(row.prev, row.record, row.hash))
    why = "its bytes are not those that were hashed: it was changed";
  else
    why = look_at_record(c, &row);
  if (why) {
    bad(c, row.seq, why);
    return;
  }
  c->records++;
  c->seq = row.seq;
  memcpy(c->hash, row.hash, sizeof c->hash);
  (void)passes_head(c);
}

/* Records after c->seq are not there: that is known, or it is a fault. */
static blx__rc check_missing(struct blx__history *h, struct blx__history_check *c, blx_error *err) {
  blx_error why = {.code = BLX_E_IO};
  struct missing m;
  sqlite3_stmt *s = store_sql(h, SQL_MISSING_AT, c->seq + 1, 0);
  int n = store_step(h, s, &why);
  bool known = n == 1 && store_missing(s, &m) && m.first == c->seq + 1;
  (void)sqlite3_reset(s);
  if (n < 0 && why.code == BLX_E_NOMEM) return blx__fail_as(err, &why);
  if (!known) {
    bad(c, c->seq + 1, "it is not there, and no cut says so: it was removed");
    return BLX__OK;
  }
  c->seq = m.last;
  memcpy(c->hash, m.hash, sizeof c->hash);
  (void)passes_head(c);
  return BLX__OK;
}

/* Of refused requests the oldest go without a cut: the first that is there is taken at its word. */
static bool begin_denied(struct blx__history_check *c, sqlite3_stmt *s) {
  struct row row;
  if (!store_row(s, &row)) return false;
  c->seq = row.seq - 1;
  memcpy(c->hash, row.prev, sizeof c->hash);
  return true;
}

static blx__rc check_end(struct blx__history *h, struct blx__history_check *c, blx_error *err) {
  uint64_t end = c->denied ? h->denied.seq : h->tip.seq;
  if (!c->denied && c->seq < end) return check_missing(h, c, err);
  if (!c->denied && c->seq < c->state_seq) {
    bad(c, c->seq + 1, "it and what comes after it are not there, and the cluster's state has them: they were removed");
    return BLX__OK;
  }
  c->done = true;
  c->ok = true;
  return BLX__OK;
}

static blx__rc check_some(struct blx__history *h, struct blx__history_check *c, blx_error *err) {
  sqlite3_stmt *s = store_sql(h, c->denied ? SQL_DENIED_UP : SQL_UP, c->seq + 1, BLX__HISTORY_SCAN_MAX);
  blx_error why = {.code = BLX_E_IO};
  bool first = c->denied && c->records == 0, some = false;
  int n = 0;
  while (!c->done && (n = store_step(h, s, &why)) == 1) {
    uint64_t seq = (uint64_t)sqlite3_column_int64(s, 0);
    if (first && begin_denied(c, s)) first = false;
    some = true;
    if (seq != c->seq + 1) break; /* over what is missing in a step of its own */
    check_row(c, s);
  }
  bool jumps = !c->done && n == 1;
  (void)sqlite3_reset(s);
  if (n < 0 && why.code == BLX_E_NOMEM) return blx__fail_as(err, &why);
  if (n < 0)
    bad(c, c->seq + 1, why.message);
  else if (jumps)
    return check_missing(h, c, err);
  else if (!c->done && !some)
    return check_end(h, c, err);
  return BLX__OK;
}

blx__rc blx__history_check(struct blx__history *h, struct blx__history_check *c, blx_error *err) {
  if (c->seq == 0) BLX__TRY(history_flush(h, err));
  pthread_mutex_lock(&h->db_lock);
  blx__rc rc = check_some(h, c, err);
  pthread_mutex_unlock(&h->db_lock);
  return rc;
}

blx__rc blx__history_cuts(struct blx__history *h, struct blx__arena *arena, struct blx_audit_cut ***out, size_t *n,
                          blx_error *err) {
  enum { MOST = 1000 };
  blx_error why = {.code = BLX_E_IO};
  struct missing m;
  int got = 0;
  *n = 0;
  *out = blx__arena_alloc(arena, MOST * sizeof **out);
  if (!*out) return blx__fail(err, BLX_E_NOMEM, component, "no memory for a list of cuts");
  pthread_mutex_lock(&h->db_lock);
  sqlite3_stmt *s = store_sql(h, SQL_MISSING_ALL, 0, 0);
  bool room = true;
  while (room && (got = store_step(h, s, &why)) == 1 && store_missing(s, &m) && *n < MOST) {
    struct blx_audit_cut *cut = blx__arena_alloc(arena, sizeof *cut);
    const char *hash = hex_of(arena, m.hash), *text = blx__arena_strdup(arena, m.why);
    room = cut && hash && text;
    if (!room) break;
    *cut = (struct blx_audit_cut){.struct_size = sizeof *cut, .first_seq = m.first, .last_seq = m.last};
    cut->hash = hash;
    cut->why = m.fetching ? "being fetched from other members" : text;
    cut->fetching = m.fetching;
    (*out)[(*n)++] = cut;
  }
  (void)sqlite3_reset(s);
  pthread_mutex_unlock(&h->db_lock);
  if (!room) return blx__fail(err, BLX_E_NOMEM, component, "no memory for a list of cuts");
  return got < 0 ? blx__fail_as(err, &why) : BLX__OK;
}
