/* The other body of lib/history: a machine's audit log in memory, whose last records are synced later and lost with the
 * process that wrote them. It watches I9: a record is the same on every member, each follows the one before it, and
 * what a start begins with is what was kept. */
#include "nodes.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

enum { SYNC_MAX_MS = 1500, GAPS_MAX = 64, GIVEN_MAX = 50 };

struct rec {
  struct blx__list link; /* of what is not synced */
  uint64_t seq, index, synced_us;
  bool head; /* no record: a snapshot says where the chain is */
  uint8_t prev[BLX__SHA256_BYTES], hash[BLX__SHA256_BYTES];
  size_t len;
  uint8_t bytes[];
};

struct gap {
  struct blx__history_gap at;
  uint8_t hash[BLX__SHA256_BYTES]; /* of its last */
};

/* What is on a machine's disk, whatever process runs. */
static struct store {
  struct blx__map recs; /* seq -> struct rec */
  uint64_t tip;
  uint8_t tip_hash[BLX__SHA256_BYTES];
  struct gap gaps[GAPS_MAX];
  size_t n_gaps;
  uint64_t lost; /* records that nobody had */
} stores[MACHINES_MAX + 1];

static struct blx__map hashes; /* seq -> the beginning of its hash, on all members */

struct blx__history {
  struct machine *m;
  struct store *s;
  struct blx__list queue;
};

static struct rec *rec_new(uint64_t seq, const uint8_t *prev, const uint8_t *hash, struct blx__slice bytes) {
  struct rec *r = calloc(1, sizeof *r + bytes.len + 1);
  BLX__ASSERT(r != NULL);
  blx__list_init(&r->link);
  r->seq = seq;
  if (prev) memcpy(r->prev, prev, sizeof r->prev);
  memcpy(r->hash, hash, sizeof r->hash);
  r->len = bytes.len;
  if (bytes.len > 0) memcpy(r->bytes, bytes.data, bytes.len);
  return r;
}

/* ---- I9 */

static bool links(const uint8_t *prev, struct blx__slice record, const uint8_t *hash) {
  const struct blx__slice parts[] = {{prev, BLX__SHA256_BYTES}, record};
  uint8_t mine[BLX__SHA256_BYTES];
  blx__sha256(parts, BLX__COUNT(parts), mine);
  return memcmp(mine, hash, sizeof mine) == 0;
}

static void check_same(const struct blx__history *h, const struct blx__history_record *r) {
  uint64_t begin = 0;
  memcpy(&begin, r->hash, sizeof begin);
  void *mine = (void *)(uintptr_t)(begin | 1), *seen = blx__map_get_u64(&hashes, r->seq);
  if (!links(r->prev, r->record, r->hash)) cluster_fail("I9 n%u made a record that is not hashed", h->m->number);
  if (seen && seen != mine)
    cluster_fail("I9 record %llu is another one on n%u than on another member", (ull)r->seq, h->m->number);
  bool kept = seen || blx__map_set_u64(&hashes, r->seq, mine, NULL);
  BLX__ASSERT(kept);
}

/* ---- the store */

static void keep(struct store *s, struct rec *r) {
  bool kept = blx__map_set_u64(&s->recs, r->seq, r, NULL);
  BLX__ASSERT(kept);
}

static void note_gap(struct store *s, uint64_t last, const uint8_t *hash) {
  BLX__ASSERT(s->n_gaps < GAPS_MAX);
  struct gap *g = &s->gaps[s->n_gaps++];
  g->at = (struct blx__history_gap){s->tip + 1, last};
  memcpy(g->hash, hash, sizeof g->hash);
  s->tip = last;
  memcpy(s->tip_hash, hash, sizeof s->tip_hash);
  cluster_sometimes(SOME_AUDIT_GAP);
}

static void settle_one(struct blx__history *h, struct rec *r) {
  struct store *s = h->s;
  const struct rec *known = blx__map_get_u64(&s->recs, r->seq);
  if (r->seq <= s->tip && known && memcmp(known->hash, r->hash, sizeof r->hash) != 0)
    cluster_fail("I9 record %llu comes again to n%u as another one", (ull)r->seq, h->m->number);
  if (r->seq <= s->tip || r->head) {
    if (r->seq > s->tip) note_gap(s, r->seq, r->hash);
    free(r);
    return;
  }
  if (r->seq > s->tip + 1) note_gap(s, r->seq - 1, r->prev);
  if (memcmp(r->prev, s->tip_hash, sizeof r->prev) != 0)
    cluster_fail("I9 record %llu does not follow the one before it on n%u", (ull)r->seq, h->m->number);
  s->tip = r->seq;
  memcpy(s->tip_hash, r->hash, sizeof r->hash);
  keep(s, r);
}

static void settle(struct blx__history *h, bool all) {
  for (struct blx__list *at; (at = blx__list_first(&h->queue)) != NULL;) {
    struct rec *r = BLX__CONTAINER(at, struct rec, link);
    if (!all && r->synced_us > twin.sim.now_us) return;
    blx__list_remove(at);
    settle_one(h, r);
  }
}

static void push(struct blx__history *h, struct rec *r) {
  r->synced_us = twin.sim.now_us + 1000 * (1 + blx__mix64(r->seq ^ twin.sim.now_us) % SYNC_MAX_MS);
  struct blx__list *last = h->queue.prev;
  /* Synced in order. */
  if (last != &h->queue && BLX__CONTAINER(last, struct rec, link)->synced_us > r->synced_us)
    r->synced_us = BLX__CONTAINER(last, struct rec, link)->synced_us;
  blx__list_push(&h->queue, &r->link);
}

/* ---- history.h */

blx__rc blx__history_open(const struct blx__history_options *options, struct blx__history **out, blx_error *err) {
  const char *name = NULL;
  enum machine_dir dir = DIR_DATA;
  struct blx__history *h = calloc(1, sizeof *h);
  BLX__ASSERT(h != NULL && twin_path(options->path, &h->m, &dir, &name));
  (void)err;
  blx__list_init(&h->queue);
  h->s = &stores[h->m->number];
  *out = h;
  return BLX__OK;
}

void blx__history_close(struct blx__history *h) {
  if (!h) return;
  settle(h, !h->m->muted);
  for (struct blx__list *at; (at = blx__list_first(&h->queue)) != NULL;) {
    blx__list_remove(at);
    free(BLX__CONTAINER(at, struct rec, link));
    cluster_sometimes(SOME_AUDIT_LOST);
  }
  free(h);
}

void blx__history_add(struct blx__history *h, const struct blx__history_record *r) {
  if (!h->m->muted) check_same(h, r);
  struct rec *copy = rec_new(r->seq, r->prev, r->hash, r->record);
  copy->index = r->index;
  push(h, copy);
}

void blx__history_head(struct blx__history *h, uint64_t seq, const uint8_t hash[BLX__SHA256_BYTES]) {
  struct rec *r = rec_new(seq, NULL, hash, (struct blx__slice){0});
  r->head = true;
  push(h, r);
}

void blx__history_deny(struct blx__history *h, uint64_t time_ms, struct blx__slice record) {
  (void)h;
  (void)time_ms;
  (void)record;
}

void blx__history_add_events(struct blx__history *h, uint64_t index, uint32_t part, uint64_t time_ms,
                             struct blx__slice events) {
  (void)h;
  (void)index;
  (void)part;
  (void)time_ms;
  (void)events;
}

void blx__history_begin_events(struct blx__history *h, uint64_t index, uint64_t time_ms) {
  (void)h;
  (void)index;
  (void)time_ms;
}

blx__rc blx__history_events_put(struct blx__buf *out, const struct blx_event *event, blx_error *err) {
  (void)out;
  (void)event;
  (void)err;
  return BLX__OK;
}

blx__rc blx__history_read_events(struct blx__history *h, struct blx__history_events *e, struct blx__arena *arena,
                                 blx_error *err) {
  (void)h;
  (void)e;
  (void)arena;
  return blx__fail(err, BLX_E_STALE, "sim", "no events are kept here");
}

bool blx__history_may_truncate(struct blx__history *h, uint64_t index) {
  settle(h, false);
  const struct blx__list *first = blx__list_first(&h->queue);
  bool may = !first || BLX__CONTAINER(first, struct rec, link)->index > index;
  if (!may) cluster_sometimes(SOME_AUDIT_WAITED);
  return may || cluster.o.broken == BROKEN_AUDIT;
}

blx__rc blx__history_list(struct blx__history *h, const struct blx_audit_list_request *request,
                          struct blx__arena *arena, struct blx_audit_list *out, blx_error *err) {
  (void)h;
  (void)request;
  (void)arena;
  (void)out;
  return blx__fail(err, BLX_E_UNSUPPORTED, "sim", "nobody reads the audit log here");
}

blx__rc blx__history_check(struct blx__history *h, struct blx__history_check *c, blx_error *err) {
  (void)h;
  (void)c;
  return blx__fail(err, BLX_E_UNSUPPORTED, "sim", "nobody checks the audit log here");
}

blx__rc blx__history_cuts(struct blx__history *h, struct blx__arena *arena, struct blx_audit_cut ***out, size_t *n,
                          blx_error *err) {
  (void)h;
  (void)arena;
  (void)out;
  (void)n;
  return blx__fail(err, BLX_E_UNSUPPORTED, "sim", "nobody asks for cuts here");
}

blx__rc blx__history_part(struct blx__history *h, const struct blx_audit_fetch_request *request,
                          struct blx__arena *arena, struct blx_audit_part *out, blx_error *err) {
  (void)err;
  settle(h, true);
  out->last_seq = h->s->tip;
  out->links = blx__arena_alloc(arena, GIVEN_MAX * sizeof *out->links);
  BLX__ASSERT(out->links != NULL);
  const struct rec *r = blx__map_get_u64(&h->s->recs, request->upto_seq);
  for (; r && out->n_links < GIVEN_MAX; r = blx__map_get_u64(&h->s->recs, r->seq - 1)) {
    if (cluster.o.broken == BROKEN_AUDIT) break;
    struct blx_audit_link *link = blx__arena_alloc(arena, sizeof *link);
    uint8_t *prev = blx__arena_alloc(arena, sizeof r->prev), *bytes = blx__arena_alloc(arena, r->len);
    BLX__ASSERT(link && prev && bytes);
    *link = (struct blx_audit_link){.struct_size = sizeof *link};
    link->prev = (struct blx_bytes){memcpy(prev, r->prev, sizeof r->prev), sizeof r->prev};
    link->record = (struct blx_bytes){memcpy(bytes, r->bytes, r->len), r->len};
    out->links[out->n_links++] = link;
  }
  return BLX__OK;
}

static struct gap *newest_gap(struct blx__history *h) {
  struct store *s = h->s;
  settle(h, false);
  return s->n_gaps > 0 ? &s->gaps[s->n_gaps - 1] : NULL;
}

bool blx__history_gap(struct blx__history *h, struct blx__history_gap *out) {
  const struct gap *g = newest_gap(h);
  if (g) *out = g->at;
  return g != NULL;
}

blx__rc blx__history_fill(struct blx__history *h, struct blx__history_gap gap, const struct blx_audit_part *part,
                          blx_error *err) {
  struct gap *g = newest_gap(h);
  if (!g || g->at.last != gap.last) return blx__fail(err, BLX_E_CONFLICT, "sim", "the gap is another one now");
  for (size_t i = 0; i < part->n_links && g->at.last >= g->at.first; i++) {
    const struct blx_audit_link *link = part->links[i];
    const struct blx__slice record = {link->record.data, link->record.len};
    if (link->prev.len != BLX__SHA256_BYTES || !links(link->prev.data, record, g->hash))
      return blx__fail(err, BLX_E_CONFLICT, "sim", "a record that does not belong there");
    keep(h->s, rec_new(g->at.last, link->prev.data, g->hash, record));
    memcpy(g->hash, link->prev.data, sizeof g->hash);
    g->at.last--;
    cluster_sometimes(SOME_AUDIT_FETCHED);
  }
  if (g->at.last < g->at.first) h->s->n_gaps--;
  return BLX__OK;
}

blx__rc blx__history_give_up(struct blx__history *h, struct blx__history_gap gap, blx_error *err) {
  struct gap *g = newest_gap(h);
  if (!g || g->at.last != gap.last) return blx__fail(err, BLX_E_CONFLICT, "sim", "the gap is another one now");
  h->s->lost += g->at.last - g->at.first + 1;
  h->s->n_gaps--;
  return BLX__OK;
}

/* ---- in the end */

const char *twin_history_lacks(unsigned machine, uint64_t seq) {
  static char why[128];
  const struct store *s = &stores[machine];
  if (s->n_gaps > 0) return "has a gap in its audit log";
  if (s->lost > 0 || s->tip < seq || s->recs.count + s->lost < seq) {
    (void)blx__str_format(why, sizeof why, "has %zu of %llu records of the audit log, and %llu were found nowhere",
                          s->recs.count, (ull)seq, (ull)s->lost);
    return why;
  }
  return NULL;
}

void twin_history_settle(struct blx__history *h) {
  settle(h, false);
}

void twin_history_free(void) {
  for (unsigned i = 0; i <= MACHINES_MAX; i++) {
    BLX__MAP_FOREACH(pos, &stores[i].recs) free(blx__map_value(pos));
    blx__map_clear(&stores[i].recs);
    stores[i] = (struct store){0};
  }
  blx__map_clear(&hashes);
}
