#include "consensus/store_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL /* the header alone: no library to link */
#include <xxhash.h>

const char store_snapshot_new[] = "snapshot.new", store_snapshot_name[] = "snapshot", store_mark_name[] = "mark";
const char store_spare_names[STORE_SPARES_MAX][16] = {"log.spare-1", "log.spare-2", "log.spare-3", "log.spare-4",
                                                      "log.spare-5", "log.spare-6", "log.spare-7", "log.spare-8"};
static const char *const meta_names[] = {"meta-1", "meta-2"};
#define MAGIC UINT64_C(0x3130474f4c584c42) /* "BLXLOG01", little-endian: what it is, and its format */

/* All heads are words, the first one a checksum (XXH3, 64 bits) of the others. */
struct meta {
  uint64_t sum, magic, version, term, vote;
};
struct mark_slot {
  uint64_t sum, magic, seq, meta_version, generation, last_index;
};
struct segment_head {
  uint64_t sum, magic, generation, first;
};
struct record_head {
  uint64_t sum, index, term, type, batch, len; /* the sum is of the head */
  uint64_t data_sum;                           /* of the data, zeros to whole words, xor the head's */
};

_Static_assert(sizeof(struct record_head) == STORE_RECORD_HEAD_BYTES, "as the header says");

enum { MARK_SLOTS = 2, DATA_MAX = 1 << 20, READ_MAX = 1 << 30, LOOKED_AT_MAX = 1 << 30 };

static uint64_t head_sum(const void *head, size_t len) {
  return XXH3_64bits_withSeed((const uint8_t *)head + sizeof(uint64_t), len - sizeof(uint64_t), len);
}

static size_t padded(uint64_t len) {
  return (size_t)(len + 7) & ~(size_t)7;
}

static struct blx__slice slice_of(const void *p, size_t len) {
  return (struct blx__slice){.data = p, .len = len};
}

static bool head_read(struct blx__slice file, size_t at, void *head, size_t len) {
  uint64_t words[2] = {0};
  if (at > file.len || file.len - at < len) return false;
  memcpy(head, file.data + at, len);
  memcpy(words, head, sizeof words);
  return words[0] == head_sum(head, len) && words[1] == MAGIC;
}

static blx__rc disk_write(const struct blx__disk *d, const char *name, uint64_t at, const void *p, size_t len) {
  return d->ops->write(d->self, name, at, slice_of(p, len));
}

/* The bytes of a file; none if there is none. False: it cannot be read. */
static bool file_of(const struct blx__disk *d, const char *name, struct blx__buf *out) {
  blx__buf_init(out, READ_MAX);
  int code = d->ops->read(d->self, name, out).code;
  return code == 0 || code == BLX_E_NOT_FOUND;
}

/* The file was written; so was its name, if it is new. */
static blx__rc sync_named(const struct blx__disk *d, const char *name, bool *has) {
  BLX__TRY(d->ops->sync_now(d->self, name));
  if (!*has) BLX__TRY(d->ops->sync_now(d->self, NULL));
  *has = true;
  return BLX__OK;
}

/* ---- term and vote, and the mark */

blx__rc store_mark_write(struct store *st, uint64_t index) {
  struct mark_slot m = {.magic = MAGIC,
                        .seq = st->mark_seq + 1,
                        .meta_version = st->meta_version,
                        .generation = st->generation,
                        .last_index = index};
  m.sum = head_sum(&m, sizeof m);
  BLX__TRY(disk_write(st->d, store_mark_name, m.seq % MARK_SLOTS * STORE_MARK_BYTES, &m, sizeof m));
  st->mark_seq = m.seq;
  st->marked_meta = m.meta_version;
  st->marked_generation = m.generation;
  st->marked_index = m.last_index;
  return BLX__OK;
}

blx__rc store_mark(struct store *st, uint64_t index) {
  BLX__TRY(store_mark_write(st, index));
  return sync_named(st->d, store_mark_name, &st->has_mark);
}

static bool mark_read(struct store *st) {
  struct blx__buf file;
  bool any = false, readable = file_of(st->d, store_mark_name, &file);
  for (size_t i = 0; readable && i < MARK_SLOTS; i++) {
    struct mark_slot m;
    if (!head_read(slice_of(file.data, file.len), i * STORE_MARK_BYTES, &m, sizeof m)) continue;
    if (any && m.seq < st->mark_seq) continue;
    any = true;
    st->mark_seq = m.seq;
    st->marked_meta = m.meta_version;
    st->marked_generation = m.generation;
    st->marked_index = m.last_index;
  }
  blx__buf_free(&file);
  return any;
}

/* False: neither is whole. */
static bool meta_read(const struct blx__disk *d, struct meta *best) {
  bool any = false;
  for (unsigned i = 0; i < BLX__COUNT(meta_names); i++) {
    struct meta m;
    struct blx__buf file;
    bool whole = file_of(d, meta_names[i], &file) && head_read(slice_of(file.data, file.len), 0, &m, sizeof m);
    blx__buf_free(&file);
    if (!whole || (any && m.version < best->version)) continue;
    *best = m;
    any = true;
  }
  return any;
}

blx__rc store_set_meta(struct store *st, uint64_t term, uint64_t vote) {
  struct meta m = {.magic = MAGIC, .version = st->meta_version + 1, .term = term, .vote = vote};
  m.sum = head_sum(&m, sizeof m);
  BLX__TRY(disk_write(st->d, meta_names[m.version % 2], 0, &m, sizeof m));
  BLX__TRY(sync_named(st->d, meta_names[m.version % 2], &st->has_meta[m.version % 2]));
  st->meta_version = m.version;
  st->term = term;
  st->vote = vote;
  return store_mark(st, st->marked_index);
}

/* ---- records */

static void segment_name(uint64_t generation, uint64_t first, char name[BLX__DISK_NAME_MAX + 1]) {
  bool fits = blx__str_format(name, BLX__DISK_NAME_MAX + 1, "log-%010" PRIu64 "-%020" PRIu64, generation, first);
  BLX__ASSERT(fits);
}

void store_segment_name(const struct store *st, uint64_t first, char name[BLX__DISK_NAME_MAX + 1]) {
  segment_name(st->generation, first, name);
}

/* Of what the head says; the data's sum goes on from it. */
static uint64_t record_head_sum(const struct record_head *h) {
  const size_t len = offsetof(struct record_head, data_sum) - offsetof(struct record_head, index);
  return XXH3_64bits_withSeed(&h->index, len, sizeof *h);
}

void store_seal(uint8_t *record) {
  struct record_head h;
  memcpy(&h, record, sizeof h);
  h.sum = record_head_sum(&h);
  h.data_sum = h.sum ^ XXH3_64bits(record + sizeof h, padded(h.len));
  memcpy(record, &h, sizeof h);
}

bool store_encode(struct blx__buf *out, const struct store_record *r) {
  struct record_head h = {.index = r->index, .term = r->term, .type = r->type, .batch = r->batch, .len = r->len};
  size_t data = padded(r->len);
  if (r->len > DATA_MAX || !blx__buf_reserve(out, sizeof h + data)) return false;
  uint8_t *at = out->data + out->len;
  if (data > r->len) memset(at + sizeof h + data - 8, 0, 8);
  if (r->len) memcpy(at + sizeof h, r->data, r->len);
  memcpy(at, &h, sizeof h);
  store_seal(at);
  out->len += sizeof h + data;
  return true;
}

bool store_record_at(struct blx__slice file, size_t at, uint64_t index, struct store_record *r, size_t *end) {
  struct record_head h;
  if (at == 0) at = sizeof(struct segment_head);
  if (at > file.len || file.len - at < sizeof h) return false;
  memcpy(&h, file.data + at, sizeof h);
  if ((index != 0 && h.index != index) || h.index == 0 || h.batch > h.index || h.len > DATA_MAX) return false;
  if (padded(h.len) > file.len - at - sizeof h || h.sum != record_head_sum(&h)) return false;
  const uint8_t *data = file.data + at + sizeof h;
  if (h.data_sum != (h.sum ^ XXH3_64bits(data, padded(h.len)))) return false;
  *r = (struct store_record){
      .index = h.index, .term = h.term, .type = h.type, .batch = h.batch, .len = (size_t)h.len, .data = data};
  *end = at + sizeof h + padded(h.len);
  return true;
}

/* ---- segments */

static struct store_segment *last_segment(struct store *st) {
  return st->segments_count ? &st->segments[st->segments_count - 1] : NULL;
}

static uint64_t next_of(const struct store *st) {
  return st->segments_count ? st->segments[st->segments_count - 1].next : st->start;
}

uint64_t store_last(const struct store *st) {
  uint64_t last = next_of(st) - 1;
  return last < st->snapshot_index ? st->snapshot_index : last;
}

/* NULL: no memory. */
static struct store_segment *segment_push(struct store *st, uint64_t first) {
  if (st->segments_count == st->segments_cap) {
    size_t cap = st->segments_cap ? 2 * st->segments_cap : 16;
    struct store_segment *more = realloc(st->segments, cap * sizeof *more);
    if (!more) return NULL;
    st->segments = more;
    st->segments_cap = cap;
  }
  struct store_segment *s = &st->segments[st->segments_count++];
  *s = (struct store_segment){.first = first, .next = first, .bytes = sizeof(struct segment_head)};
  return s;
}

static void segment_pop(struct store *st) {
  free(st->segments[--st->segments_count].ends);
}

static bool segment_end(struct store_segment *s, uint64_t end) {
  size_t at = (size_t)(s->next - s->first);
  if (at == s->ends_cap) {
    size_t cap = s->ends_cap ? 2 * s->ends_cap : 64;
    uint32_t *more = realloc(s->ends, cap * sizeof *more);
    if (!more) return false;
    s->ends = more;
    s->ends_cap = cap;
  }
  BLX__ASSERT(end <= UINT32_MAX);
  s->ends[at] = (uint32_t)end;
  s->bytes = end;
  s->next++;
  return true;
}

/* The records are known to be whole: they were made a moment ago. */
static bool note_ends(struct store_segment *s, struct blx__slice records) {
  uint64_t base = s->bytes;
  for (size_t at = 0; at < records.len;) {
    struct record_head h;
    memcpy(&h, records.data + at, sizeof h);
    at += sizeof h + padded(h.len);
    if (!segment_end(s, base + at)) return false;
  }
  return true;
}

static blx__rc segment_make(struct store *st, uint64_t first, const char *name, size_t needed) {
  struct segment_head h = {.magic = MAGIC, .generation = st->generation, .first = first};
  struct store_segment *s = segment_push(st, first);
  if (!s) return (blx__rc){BLX_E_NOMEM};
  h.sum = head_sum(&h, sizeof h);
  s->room = st->segment_bytes > needed + sizeof h ? st->segment_bytes : needed + sizeof h;
  unsigned i = store_spare(st, STORE_SPARE_READY);
  bool spare = i < STORE_SPARES_MAX && s->room == st->segment_bytes;
  if (spare) st->spares[i] = STORE_SPARE_NONE;
  BLX__TRY(spare ? st->d->ops->rename(st->d->self, store_spare_names[i], name)
                 : st->d->ops->reserve(st->d->self, name, s->room));
  return disk_write(st->d, name, 0, &h, sizeof h);
}

blx__rc store_append(struct store *st, struct blx__slice records, uint64_t first, uint64_t count,
                     char name[BLX__DISK_NAME_MAX + 1], bool *made) {
  BLX__ASSERT(count > 0 && first == next_of(st));
  struct store_segment *s = last_segment(st);
  *made = !s || s->bytes + records.len > s->room;
  store_segment_name(st, *made ? first : s->first, name);
  if (*made) BLX__TRY(segment_make(st, first, name, records.len));
  s = last_segment(st);
  BLX__TRY(st->d->ops->write(st->d->self, name, s->bytes, records));
  if (!note_ends(s, records)) return (blx__rc){BLX_E_NOMEM};
  BLX__ASSERT(s->next == first + count);
  return BLX__OK;
}

/* The newest first, so that a crash leaves no gap. */
blx__rc store_remove_from(struct store *st, uint64_t index, bool *any) {
  char name[BLX__DISK_NAME_MAX + 1];
  *any = false;
  while (st->segments_count && last_segment(st)->first >= index) {
    store_segment_name(st, last_segment(st)->first, name);
    BLX__TRY(st->d->ops->remove(st->d->self, name));
    segment_pop(st);
    *any = true;
  }
  return BLX__OK;
}

/* What is cut off must read as zeros: it would count again behind records of the same lengths. */
static blx__rc zero_from(struct store *st, const char *name, uint64_t at, uint64_t room) {
  BLX__TRY(st->d->ops->truncate(st->d->self, name, at));
  return room > at ? st->d->ops->reserve(st->d->self, name, room) : BLX__OK;
}

blx__rc store_cut(struct store *st, uint64_t index, char name[BLX__DISK_NAME_MAX + 1]) {
  struct store_segment *s = last_segment(st);
  name[0] = '\0';
  if (!s || s->next <= index) return BLX__OK;
  s->bytes = index > s->first ? s->ends[index - s->first - 1] : sizeof(struct segment_head);
  s->next = index;
  store_segment_name(st, s->first, name);
  return zero_from(st, name, s->bytes, s->room);
}

/* ---- snapshots */

void store_snapshot_make(const struct store *st, const struct store_snapshot *s, uint64_t len, bool replaces,
                         struct store_snapshot_head *head) {
  BLX__ASSERT(s->members_count <= STORE_MEMBERS_MAX);
  *head = (struct store_snapshot_head){.magic = MAGIC,
                                       .generation = st->generation + replaces,
                                       .index = s->index,
                                       .term = s->term,
                                       .conf_index = s->conf_index,
                                       .len = len,
                                       .members_count = s->members_count};
  memcpy(head->members, s->members, sizeof head->members);
  head->sum = head_sum(head, sizeof *head);
}

/* The oldest first, so that a crash leaves no gap; never the one that is written to. */
static blx__rc drop_prefix(struct store *st, uint64_t last, unsigned *spared) {
  size_t n = 0;
  blx__rc rc = BLX__OK;
  for (; n + 1 < st->segments_count && st->segments[n].next <= last + 1; n++) {
    char name[BLX__DISK_NAME_MAX + 1];
    store_segment_name(st, st->segments[n].first, name);
    unsigned i = store_spare(st, STORE_SPARE_NONE);
    bool keeps = i < STORE_SPARES_MAX && st->segments[n].room == st->segment_bytes;
    rc = keeps ? st->d->ops->rename(st->d->self, name, store_spare_names[i]) : st->d->ops->remove(st->d->self, name);
    if (rc.code != 0) break;
    if (keeps) st->spares[i] = STORE_SPARE_COMING;
    if (keeps) *spared |= 1u << i;
    free(st->segments[n].ends);
  }
  if (n == 0) return rc;
  st->segments_count -= n;
  memmove(st->segments, st->segments + n, st->segments_count * sizeof *st->segments);
  if (st->segments_count) st->start = st->segments[0].first;
  return rc;
}

blx__rc store_snapshot_done(struct store *st, const struct store_snapshot *s, bool replaces, uint64_t trailing,
                            unsigned *spared) {
  *spared = 0;
  st->snapshot_index = s->index;
  st->snapshot_term = s->term;
  if (!replaces) return s->index > trailing ? drop_prefix(st, s->index - trailing, spared) : BLX__OK;
  bool any = false;
  BLX__TRY(store_remove_from(st, 0, &any));
  st->generation++;
  st->start = s->index + 1;
  return store_mark(st, s->index);
}

static bool snapshot_head(struct blx__slice file, struct store_snapshot_head *h) {
  if (file.len < sizeof *h || !head_read(file, file.len - sizeof *h, h, sizeof *h)) return false;
  return h->members_count <= STORE_MEMBERS_MAX && h->len == file.len - sizeof *h;
}

bool store_snapshot_parse(struct blx__slice file, struct store_snapshot *out, size_t *len) {
  struct store_snapshot_head h;
  if (!snapshot_head(file, &h)) return false;
  *out = (struct store_snapshot){
      .index = h.index, .term = h.term, .conf_index = h.conf_index, .members_count = h.members_count};
  memcpy(out->members, h.members, sizeof out->members);
  *len = (size_t)h.len;
  return true;
}

/* ---- what is found at a start */

struct finding {
  store_look_fn *look;
  void *arg;
  char torn[BLX__DISK_NAME_MAX + 1]; /* the file that ends in something unreadable, "": none */
  bool torn_whole;                   /* nothing of it can be read */
};

static const char *find_snapshot(struct store *st) {
  struct store_snapshot_head h;
  struct blx__buf file;
  st->generation = 1;
  if (!st->has_snapshot) return st->marked_generation > 1 ? "the snapshot is missing" : NULL;
  bool whole = file_of(st->d, store_snapshot_name, &file) && snapshot_head(slice_of(file.data, file.len), &h);
  blx__buf_free(&file);
  if (!whole) return "the snapshot's head is damaged, or it cannot be read";
  st->generation = h.generation;
  st->snapshot_index = h.index;
  st->snapshot_term = h.term;
  return h.generation < st->marked_generation ? "the snapshot is an older one" : NULL;
}

static bool is_zero(struct blx__slice file, size_t at) {
  for (; at < file.len; at++)
    if (file.data[at]) return false;
  return true;
}

/* A record of a batch that was written after the one at @at was synced. What somebody put into an operation may look
 * like many heads: the work is bounded, and the mark is left then. */
static bool has_later_batch(struct blx__slice file, size_t at, uint64_t index) {
  struct store_record r;
  uint64_t summed = 0;
  for (size_t end = 0; at + sizeof(struct record_head) <= file.len && summed < LOOKED_AT_MAX; at += 8) {
    struct record_head h;
    memcpy(&h, file.data + at, sizeof h);
    if (h.batch <= index || h.index < h.batch || h.sum != record_head_sum(&h)) continue;
    if (store_record_at(file, at, 0, &r, &end)) return true;
    summed += h.len;
  }
  return false;
}

/* As far as it can be read. */
static const char *find_records(struct store *st, const char *name, uint64_t first, struct blx__slice file,
                                struct finding *f) {
  struct segment_head h;
  struct store_record r;
  /* One that was used before may still show its old head: then nothing of the new one was synced. */
  bool whole = head_read(file, 0, &h, sizeof h) && h.first == first && h.generation == st->generation;
  /* What ended the one before was no record of it, if this one was made to go on where it ended. */
  bool goes_on = !f->torn_whole && first == next_of(st);
  if (f->torn[0] && !goes_on) return "a segment of the log that is not the last one is damaged";
  f->torn[0] = '\0';
  if (whole && st->segments_count && h.first != next_of(st)) return "a segment of the log is missing or damaged";
  size_t at = sizeof h;
  struct store_segment *s = NULL;
  for (uint64_t index = whole ? h.first : 0; whole && store_record_at(file, at, index, &r, &at); index++) {
    if (!s) s = segment_push(st, h.first);
    if (!s || !segment_end(s, at)) return "there is no memory for it";
    if (f->look) f->look(f->arg, &r);
  }
  if (s) s->room = file.len;
  if (s && is_zero(file, at)) return NULL;
  if (has_later_batch(file, at, s ? s->next : first)) return "the middle of the log is damaged";
  (void)blx__str_copy(f->torn, sizeof f->torn, name);
  f->torn_whole = !s;
  return NULL;
}

static const char *find_segment(struct store *st, const char *name, uint64_t first, struct finding *f) {
  struct blx__buf file;
  bool readable = file_of(st->d, name, &file);
  const char *why = readable ? find_records(st, name, first, slice_of(file.data, file.len), f)
                             : "a segment of the log cannot be read";
  blx__buf_free(&file);
  return why;
}

static bool is_segment(const char *name, uint64_t *generation, uint64_t *first) {
  char ours[BLX__DISK_NAME_MAX + 1];
  if (sscanf(name, "log-%10" SCNu64 "-%20" SCNu64, generation, first) != 2) return false;
  segment_name(*generation, *first, ours);
  return strcmp(name, ours) == 0;
}

static const char *find_log(struct store *st, struct finding *f) {
  static const char end_text[] = "the end of the log is damaged or missing: this member had more of it";
  const char *why = NULL;
  uint64_t generation = 0, first = 0;
  bool marked = st->marked_generation == st->generation && !st->unmarked;
  char name[BLX__DISK_NAME_MAX + 1] = "";
  blx__rc rc = BLX__OK;
  while (!why && (rc = st->d->ops->next(st->d->self, name)).code == 0) {
    if (!is_segment(name, &generation, &first) || generation < st->generation) continue;
    why = generation > st->generation ? "a segment of the log is of another generation"
                                      : find_segment(st, name, first, f);
    if (!why && f->torn_whole && marked && first <= st->marked_index) why = end_text;
  }
  if (!why && rc.code != BLX_E_NOT_FOUND) why = "the directory cannot be listed";
  if (why) return why;
  st->start = st->segments_count ? st->segments[0].first : st->snapshot_index + 1;
  if (st->start > st->snapshot_index + 1) return "the beginning of the log is missing";
  return marked && next_of(st) <= st->marked_index ? end_text : NULL;
}

/* After a sync that failed, the cache shows what the disk does not have, and no later sync brings it there: what
 * follows the mark is written again. */
static blx__rc write_end_again(struct store *st) {
  const struct store_segment *s = last_segment(st);
  uint64_t acked = st->marked_generation == st->generation && !st->unmarked ? st->marked_index : 0;
  size_t from = acked >= s->first ? s->ends[acked - s->first] : 0;
  char name[BLX__DISK_NAME_MAX + 1];
  store_segment_name(st, s->first, name);
  struct blx__buf file;
  blx__rc rc = file_of(st->d, name, &file) && file.len >= s->bytes ? BLX__OK : (blx__rc){BLX_E_IO};
  if (rc.code == 0) rc = disk_write(st->d, name, from, file.data + from, s->bytes - from);
  if (rc.code == 0) rc = st->d->ops->sync_now(st->d->self, name);
  blx__buf_free(&file);
  return rc;
}

/* What was void or never acknowledged must not come back behind what is written from now on. */
static blx__rc clean(struct store *st, const struct finding *f) {
  const struct blx__disk *d = st->d;
  uint64_t generation = 0, first = 0;
  char name[BLX__DISK_NAME_MAX + 1] = "";
  if (f->torn[0] && f->torn_whole) BLX__TRY(d->ops->remove(d->self, f->torn));
  /* The tail that is cut may belong to the segment before the one that is removed whole. */
  if (f->torn[0] && st->segments_count) {
    store_segment_name(st, last_segment(st)->first, name);
    BLX__TRY(zero_from(st, name, last_segment(st)->bytes, last_segment(st)->room));
    name[0] = '\0';
  }
  blx__rc rc;
  while ((rc = d->ops->next(d->self, name)).code == 0)
    if (strcmp(name, store_snapshot_new) == 0 || strncmp(name, "log.spare", 9) == 0 ||
        (is_segment(name, &generation, &first) && generation < st->generation))
      BLX__TRY(d->ops->remove(d->self, name));
  if (rc.code != BLX_E_NOT_FOUND) return rc;
  /* A log that ends before its snapshot is of no use. */
  if (next_of(st) <= st->snapshot_index) {
    for (size_t i = 0; i < st->segments_count; i++) { /* the oldest first: the end stays where the mark says */
      store_segment_name(st, st->segments[i].first, name);
      BLX__TRY(d->ops->remove(d->self, name));
    }
    while (st->segments_count) segment_pop(st);
    st->start = st->snapshot_index + 1;
  }
  /* A process that was killed leaves them in the cache only: nobody may act on what a power cut takes back. */
  if (st->meta_version > 0) BLX__TRY(store_set_meta(st, st->term, st->vote));
  BLX__TRY(d->ops->sync_now(d->self, NULL));
  if (st->segments_count) BLX__TRY(write_end_again(st));
  return store_mark(st, next_of(st) - 1); /* what is loaded is acknowledged from now on */
}

/* @any: something of ours is there. False: that cannot be told, which must not pass for nothing. */
static bool find_names(struct store *st, bool *any) {
  uint64_t generation = 0, first = 0;
  char name[BLX__DISK_NAME_MAX + 1] = "";
  blx__rc rc;
  while ((rc = st->d->ops->next(st->d->self, name)).code == 0) {
    for (unsigned i = 0; i < BLX__COUNT(meta_names); i++)
      st->has_meta[i] = st->has_meta[i] || strcmp(name, meta_names[i]) == 0;
    st->has_mark = st->has_mark || strcmp(name, store_mark_name) == 0;
    st->has_snapshot = st->has_snapshot || strcmp(name, store_snapshot_name) == 0;
    st->has_log = st->has_log || is_segment(name, &generation, &first);
  }
  *any = st->has_log || st->has_meta[0] || st->has_meta[1] || st->has_mark || st->has_snapshot;
  return rc.code == BLX_E_NOT_FOUND;
}

static const char *find_all(struct store *st, struct finding *f) {
  struct meta m = {0};
  bool any = false;
  if (!find_names(st, &any)) return "the directory cannot be listed";
  if (!any) return NULL;
  if (!mark_read(st)) {
    /* The very first mark, cut before its sync: nothing else was ever written. */
    bool only_mark = !st->has_log && !st->has_meta[0] && !st->has_meta[1] && !st->has_snapshot;
    return only_mark ? NULL : "the mark is damaged or missing";
  }
  if (!meta_read(st->d, &m) && st->marked_meta > 0) return "term and vote are damaged or missing";
  if (m.version < st->marked_meta) return "term and vote are older than they were: their newest file is damaged";
  st->meta_version = m.version;
  st->term = m.term;
  st->vote = m.vote;
  const char *why = find_snapshot(st);
  return why ? why : find_log(st, f);
}

const char *store_look(struct store *st, store_look_fn *look, void *arg) {
  struct finding f = {.look = look, .arg = arg};
  return find_all(st, &f);
}

const char *store_load(struct store *st, store_look_fn *look, void *arg) {
  struct finding f = {.look = look, .arg = arg};
  const struct blx__disk *d = st->d;
  uint32_t segment_bytes = st->segment_bytes;
  bool unmarked = st->unmarked;
  store_free(st);
  store_init(st, d, segment_bytes);
  st->unmarked = unmarked;
  const char *why = find_all(st, &f);
  if (!why) st->cleaned = clean(st, &f);
  return st->cleaned.code != 0 ? "what a crash left behind cannot be removed: see to its disk" : why;
}

void store_init(struct store *st, const struct blx__disk *d, uint32_t segment_bytes) {
  *st = (struct store){.d = d, .segment_bytes = segment_bytes, .generation = 1, .start = 1};
  if (!segment_bytes) st->segment_bytes = STORE_SEGMENT_BYTES;
  BLX__ASSERT(st->segment_bytes <= STORE_SEGMENT_BYTES_MAX);
}

void store_free(struct store *st) {
  while (st->segments_count) segment_pop(st);
  free(st->segments);
  st->segments = NULL;
  st->segments_cap = 0;
}
