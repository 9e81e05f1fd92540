#include "store.h"

#include "base/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char store_snapshot_new[] = "snapshot.new";
static const char snapshot_name[] = "snapshot", mark_name[] = "mark";
static const char *const meta_names[] = {"meta-1", "meta-2"};

/* All heads are words, the first one a checksum of the others. */
struct meta {
  uint64_t sum, version, term, vote;
};
struct mark_slot {
  uint64_t sum, seq, meta_version, generation, last_index;
};
struct segment_head {
  uint64_t sum, generation, first;
};
struct record_head {
  uint64_t sum, index, term, type, len; /* the sum is of the data too, which is filled up with zeros to whole words */
};
struct snapshot_file {
  uint64_t sum, generation, index, term, conf_index, len, members_count;
  struct {
    uint64_t uid, role;
  } members[STORE_MEMBERS_MAX];
};

enum { MARK_SLOTS = 2, DATA_MAX = 64 << 20 };

/* Each step is one to one in both arguments, so a change in one word cannot be lost. */
static uint64_t sum_of(uint64_t sum, const void *bytes, size_t len) {
  BLX__ASSERT(len % sizeof(uint64_t) == 0);
  for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
    uint64_t word = 0;
    memcpy(&word, (const uint8_t *)bytes + i, sizeof word);
    sum = blx__mix64((sum ^ word) + UINT64_C(0x9e3779b97f4a7c15));
  }
  return sum;
}

static uint64_t head_sum(const void *head, size_t len) {
  return sum_of(len, (const uint8_t *)head + sizeof(uint64_t), len - sizeof(uint64_t));
}

static size_t padded(uint64_t len) {
  return (size_t)(len + 7) & ~(size_t)7;
}

static struct blx__slice slice_of(const void *p, size_t len) {
  return (struct blx__slice){.data = p, .len = len};
}

/* The bytes of a file; empty if there is none. */
static struct blx__slice file_of(const struct blx__sim_disk *d, const char *name) {
  struct blx__slice s = {0};
  return blx__sim_disk_read(d, name, &s).code == 0 ? s : (struct blx__slice){0};
}

static bool has_file(const struct blx__sim_disk *d, const char *name) {
  struct blx__slice s;
  return blx__sim_disk_read(d, name, &s).code == 0;
}

static bool head_read(struct blx__slice file, size_t at, void *head, size_t len) {
  uint64_t sum = 0;
  if (at > file.len || file.len - at < len) return false;
  memcpy(head, file.data + at, len);
  memcpy(&sum, head, sizeof sum);
  return sum == head_sum(head, len);
}

static blx__rc write_synced(struct blx__sim_disk *d, const char *name, size_t at, const void *p, size_t len) {
  bool made = !has_file(d, name);
  BLX__TRY(blx__sim_disk_write(d, name, at, slice_of(p, len)));
  BLX__TRY(blx__sim_disk_sync_now(d, name));
  return made ? blx__sim_disk_sync_now(d, NULL) : BLX__OK;
}

/* ---- term and vote, and the mark */

static blx__rc mark_write(struct store *st, uint64_t index) {
  struct mark_slot m = {
      .seq = st->mark_seq + 1, .meta_version = st->meta_version, .generation = st->generation, .last_index = index};
  m.sum = head_sum(&m, sizeof m);
  size_t at = (size_t)(m.seq % MARK_SLOTS) * BLX__SIM_SECTOR_BYTES;
  BLX__TRY(write_synced(st->d, mark_name, at, &m, sizeof m));
  st->mark_seq = m.seq;
  st->marked_meta = m.meta_version;
  st->marked_generation = m.generation;
  st->marked_index = m.last_index;
  return BLX__OK;
}

static bool mark_read(struct store *st) {
  struct blx__slice file = file_of(st->d, mark_name);
  bool any = false;
  for (unsigned i = 0; i < MARK_SLOTS; i++) {
    struct mark_slot m;
    if (!head_read(file, (size_t)i * BLX__SIM_SECTOR_BYTES, &m, sizeof m) || (any && m.seq < st->mark_seq)) continue;
    any = true;
    st->mark_seq = m.seq;
    st->marked_meta = m.meta_version;
    st->marked_generation = m.generation;
    st->marked_index = m.last_index;
  }
  return any;
}

/* Which of the two counts; -1: neither is whole. */
static int meta_read(const struct blx__sim_disk *d, struct meta *best) {
  int which = -1;
  for (int i = 0; i < 2; i++) {
    struct meta m;
    if (!head_read(file_of(d, meta_names[i]), 0, &m, sizeof m)) continue;
    if (which >= 0 && m.version < best->version) continue;
    *best = m;
    which = i;
  }
  return which;
}

blx__rc store_set_meta(struct store *st, uint64_t term, uint64_t vote) {
  struct meta m = {.version = st->meta_version + 1, .term = term, .vote = vote};
  m.sum = head_sum(&m, sizeof m);
  BLX__TRY(write_synced(st->d, meta_names[m.version % 2], 0, &m, sizeof m));
  st->meta_version = m.version;
  st->term = term;
  st->vote = vote;
  return mark_write(st, st->marked_index);
}

blx__rc store_mark(struct store *st, uint64_t index) {
  return mark_write(st, index);
}

/* ---- records */

static void name_of(uint64_t generation, uint64_t first, char name[BLX__SIM_NAME_MAX + 1]) {
  bool fits = blx__str_format(name, BLX__SIM_NAME_MAX + 1, "log-%08" PRIu64 "-%012" PRIu64, generation, first);
  BLX__ASSERT(fits);
}

static uint64_t record_sum(const struct record_head *h, const uint8_t *data) {
  return sum_of(head_sum(h, sizeof *h), data, padded(h->len));
}

void store_encode(struct blx__buf *out, const struct store_record *r) {
  struct record_head h = {.index = r->index, .term = r->term, .type = r->type, .len = r->len};
  size_t at = out->len;
  bool fits = r->len <= DATA_MAX && blx__buf_reserve(out, sizeof h + padded(r->len));
  BLX__ASSERT(fits);
  memset(out->data + at, 0, sizeof h + padded(r->len));
  if (r->len) memcpy(out->data + at + sizeof h, r->data, r->len);
  h.sum = record_sum(&h, out->data + at + sizeof h);
  memcpy(out->data + at, &h, sizeof h);
  out->len += sizeof h + padded(r->len);
}

/* The record at @at of @file; false: there is none that is whole. @end: behind it. */
static bool record_read(struct blx__slice file, size_t at, uint64_t index, struct store_record *r, size_t *end) {
  struct record_head h;
  if (at > file.len || file.len - at < sizeof h) return false;
  memcpy(&h, file.data + at, sizeof h);
  if (h.index != index || h.len > DATA_MAX || padded(h.len) > file.len - at - sizeof h) return false;
  uint8_t *data = (uint8_t *)(uintptr_t)file.data + at + sizeof h;
  if (h.sum != record_sum(&h, data)) return false;
  *r = (struct store_record){.index = h.index, .term = h.term, .type = h.type, .len = (size_t)h.len, .data = data};
  *end = at + sizeof h + padded(h.len);
  return true;
}

static void each_of_segment(const struct store *st, const struct store_segment *s,
                            void (*look)(void *arg, struct store_record *r), void *arg) {
  char name[BLX__SIM_NAME_MAX + 1];
  name_of(st->generation, s->first, name);
  struct blx__slice file = file_of(st->d, name);
  struct store_record r;
  size_t at = sizeof(struct segment_head);
  for (uint64_t index = s->first; index < s->next; index++) {
    bool whole = record_read(file, at, index, &r, &at);
    BLX__ASSERT(whole);
    look(arg, &r);
  }
}

void store_each(const struct store *st, void (*look)(void *arg, struct store_record *r), void *arg) {
  for (size_t i = 0; i < st->segments_count; i++) each_of_segment(st, &st->segments[i], look, arg);
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

static struct store_segment *segment_push(struct store *st, uint64_t first) {
  if (st->segments_count == st->segments_cap) {
    st->segments_cap = st->segments_cap ? 2 * st->segments_cap : 16;
    st->segments = realloc(st->segments, st->segments_cap * sizeof *st->segments);
    BLX__ASSERT(st->segments != NULL);
  }
  struct store_segment *s = &st->segments[st->segments_count++];
  *s = (struct store_segment){.first = first, .next = first, .bytes = sizeof(struct segment_head)};
  return s;
}

blx__rc store_append(struct store *st, struct blx__slice records, uint64_t first, uint64_t count,
                     char name[BLX__SIM_NAME_MAX + 1], bool *made) {
  BLX__ASSERT(count > 0 && first == next_of(st));
  struct store_segment *s = last_segment(st);
  *made = !s || s->bytes >= STORE_SEGMENT_BYTES;
  name_of(st->generation, *made ? first : s->first, name);
  if (*made) {
    struct segment_head h = {.generation = st->generation, .first = first};
    h.sum = head_sum(&h, sizeof h);
    BLX__TRY(blx__sim_disk_write(st->d, name, 0, slice_of(&h, sizeof h)));
    s = segment_push(st, first);
  }
  BLX__TRY(blx__sim_disk_write(st->d, name, s->bytes, records));
  s->bytes += records.len;
  s->next += count;
  return BLX__OK;
}

/* The newest first, so that a crash leaves no gap. */
static blx__rc remove_last(struct store *st) {
  char name[BLX__SIM_NAME_MAX + 1];
  name_of(st->generation, last_segment(st)->first, name);
  BLX__TRY(blx__sim_disk_remove(st->d, name));
  st->segments_count--;
  return BLX__OK;
}

blx__rc store_remove_from(struct store *st, uint64_t index, bool *any) {
  *any = false;
  BLX__ASSERT(index >= st->start);
  while (st->segments_count && last_segment(st)->first >= index) {
    BLX__TRY(remove_last(st));
    *any = true;
  }
  return BLX__OK;
}

blx__rc store_cut(struct store *st, uint64_t index, char name[BLX__SIM_NAME_MAX + 1]) {
  struct store_segment *s = last_segment(st);
  name[0] = '\0';
  if (!s || s->next <= index) return BLX__OK;
  char file_name[BLX__SIM_NAME_MAX + 1];
  name_of(st->generation, s->first, file_name);
  struct blx__slice file = file_of(st->d, file_name);
  size_t at = sizeof(struct segment_head);
  for (uint64_t i = s->first; i < index; i++) {
    struct store_record r;
    bool whole = record_read(file, at, i, &r, &at);
    BLX__ASSERT(whole);
  }
  BLX__TRY(blx__sim_disk_truncate(st->d, file_name, at));
  (void)blx__str_copy(name, BLX__SIM_NAME_MAX + 1, file_name);
  s->bytes = at;
  s->next = index;
  return BLX__OK;
}

/* ---- snapshots */

blx__rc store_snapshot_write(struct store *st, const struct store_snapshot *s, bool replaces) {
  struct snapshot_file f = {.generation = st->generation + replaces,
                            .index = s->index,
                            .term = s->term,
                            .conf_index = s->conf_index,
                            .len = s->data.len,
                            .members_count = s->members_count};
  BLX__ASSERT(s->members_count <= STORE_MEMBERS_MAX);
  for (uint64_t i = 0; i < s->members_count; i++) {
    f.members[i].uid = s->members[i].uid;
    f.members[i].role = s->members[i].role;
  }
  f.sum = head_sum(&f, sizeof f);
  if (has_file(st->d, store_snapshot_new)) BLX__TRY(blx__sim_disk_remove(st->d, store_snapshot_new));
  BLX__TRY(blx__sim_disk_write(st->d, store_snapshot_new, 0, slice_of(&f, sizeof f)));
  return blx__sim_disk_write(st->d, store_snapshot_new, sizeof f, s->data);
}

blx__rc store_snapshot_rename(struct store *st) {
  return blx__sim_disk_rename(st->d, store_snapshot_new, snapshot_name);
}

/* The oldest first, so that a crash leaves no gap; never the one that is written to. */
static blx__rc drop_prefix(struct store *st, uint64_t last) {
  size_t n = 0;
  blx__rc rc = BLX__OK;
  for (; n + 1 < st->segments_count && st->segments[n].next <= last + 1; n++) {
    char name[BLX__SIM_NAME_MAX + 1];
    name_of(st->generation, st->segments[n].first, name);
    rc = blx__sim_disk_remove(st->d, name);
    if (rc.code != 0) break;
  }
  st->segments_count -= n;
  memmove(st->segments, st->segments + n, st->segments_count * sizeof *st->segments);
  if (st->segments_count) st->start = st->segments[0].first;
  return rc;
}

blx__rc store_snapshot_done(struct store *st, const struct store_snapshot *s, bool replaces, uint64_t trailing) {
  st->snapshot_index = s->index;
  st->snapshot_term = s->term;
  if (!replaces) return s->index > trailing ? drop_prefix(st, s->index - trailing) : BLX__OK;
  while (st->segments_count) BLX__TRY(remove_last(st));
  st->generation++;
  st->start = s->index + 1;
  return mark_write(st, s->index);
}

static bool snapshot_head(const struct blx__sim_disk *d, struct snapshot_file *f, struct blx__slice *data) {
  struct blx__slice file = file_of(d, snapshot_name);
  if (!head_read(file, 0, f, sizeof *f)) return false;
  *data = slice_of(file.data + sizeof *f, file.len - sizeof *f);
  return f->members_count <= STORE_MEMBERS_MAX && f->len == data->len;
}

bool store_snapshot_read(const struct store *st, struct store_snapshot *out) {
  struct snapshot_file f;
  struct blx__slice data;
  if (!snapshot_head(st->d, &f, &data)) return false;
  *out = (struct store_snapshot){
      .index = f.index, .term = f.term, .conf_index = f.conf_index, .members_count = f.members_count, .data = data};
  for (uint64_t i = 0; i < f.members_count; i++) {
    out->members[i].uid = f.members[i].uid;
    out->members[i].role = f.members[i].role;
  }
  return true;
}

/* ---- what is found at a start */

struct found {
  char torn[BLX__SIM_NAME_MAX + 1]; /* the file that ends in something unreadable, "": none */
  bool torn_whole;                  /* nothing of it can be read */
};

static const char *find_snapshot(struct store *st) {
  struct snapshot_file f;
  struct blx__slice data;
  st->generation = 1;
  if (!has_file(st->d, snapshot_name)) return st->marked_generation > 1 ? "the snapshot is missing" : NULL;
  if (!snapshot_head(st->d, &f, &data)) return "the snapshot's head is damaged";
  st->generation = f.generation;
  st->snapshot_index = f.index;
  st->snapshot_term = f.term;
  if (f.generation < st->marked_generation) return "the snapshot is an older one";
  return NULL;
}

/* As far as it can be read. */
static const char *find_segment(struct store *st, const char *name, struct found *f) {
  struct blx__slice file = file_of(st->d, name);
  struct segment_head h;
  struct store_record r;
  if (f->torn[0]) return "a segment of the log that is not the last one is damaged";
  bool whole = head_read(file, 0, &h, sizeof h);
  if (whole && h.generation != st->generation) return "a segment of the log is of another generation";
  if (whole && st->segments_count && h.first != next_of(st)) return "a segment of the log is missing";
  size_t at = sizeof h, begin = at;
  uint64_t index = whole ? h.first : 0;
  while (whole && record_read(file, at, index, &r, &at)) index++;
  if (!whole || at == begin || at < file.len) {
    (void)blx__str_copy(f->torn, sizeof f->torn, name);
    f->torn_whole = !whole || at == begin;
  }
  if (!whole || at == begin) return NULL;
  struct store_segment *s = segment_push(st, h.first);
  s->next = index;
  s->bytes = at;
  return NULL;
}

static bool is_segment(const char *name, uint64_t *generation, uint64_t *first) {
  return sscanf(name, "log-%" SCNu64 "-%" SCNu64, generation, first) == 2;
}

static const char *find_log(struct store *st, struct found *f) {
  static const char acknowledged_text[] = "the end of the log, which was acknowledged, is damaged or missing";
  const char *why = NULL;
  uint64_t generation = 0, first = 0;
  bool marked = st->marked_generation == st->generation;
  for (char name[BLX__SIM_NAME_MAX + 1] = ""; !why && blx__sim_disk_next(st->d, name);) {
    if (!is_segment(name, &generation, &first) || generation < st->generation) continue;
    why = generation > st->generation ? "a segment of the log is of another generation" : find_segment(st, name, f);
    if (!why && f->torn_whole && marked && first <= st->marked_index) why = acknowledged_text;
  }
  if (why) return why;
  st->start = st->segments_count ? st->segments[0].first : st->snapshot_index + 1;
  if (st->start > st->snapshot_index + 1) return "the beginning of the log is missing";
  return marked && next_of(st) <= st->marked_index ? acknowledged_text : NULL;
}

static void must_succeed(blx__rc rc) {
  BLX__ASSERT(rc.code == 0);
}

/* What was void or never acknowledged must not come back behind what is written from now on. */
static void clean(struct store *st, const struct found *f) {
  struct blx__sim_disk *d = st->d;
  uint64_t generation = 0, first = 0;
  if (f->torn[0] && f->torn_whole) must_succeed(blx__sim_disk_remove(d, f->torn));
  if (f->torn[0] && !f->torn_whole) must_succeed(blx__sim_disk_truncate(d, f->torn, last_segment(st)->bytes));
  for (char name[BLX__SIM_NAME_MAX + 1] = ""; blx__sim_disk_next(d, name);)
    if (strcmp(name, store_snapshot_new) == 0 || (is_segment(name, &generation, &first) && generation < st->generation))
      must_succeed(blx__sim_disk_remove(d, name));
  /* As raft_uv: a log that ends before its snapshot is of no use. */
  if (next_of(st) <= st->snapshot_index) {
    while (st->segments_count) must_succeed(remove_last(st));
    st->start = st->snapshot_index + 1;
  }
  must_succeed(blx__sim_disk_sync_now(d, NULL));
  if (st->segments_count) {
    char name[BLX__SIM_NAME_MAX + 1];
    name_of(st->generation, last_segment(st)->first, name);
    must_succeed(blx__sim_disk_sync_now(d, name));
  }
  must_succeed(mark_write(st, next_of(st) - 1)); /* what is loaded is acknowledged from now on */
}

static const char *find_all(struct store *st, struct found *f) {
  struct meta m = {0};
  char name[BLX__SIM_NAME_MAX + 1] = "";
  if (!blx__sim_disk_next(st->d, name)) {
    st->generation = st->start = 1;
    return NULL;
  }
  if (!mark_read(st)) return "the mark is damaged or missing";
  if (meta_read(st->d, &m) < 0 && st->marked_meta > 0) return "term and vote are damaged or missing";
  if (m.version < st->marked_meta) return "term and vote are older than they were, their newest file is damaged";
  st->meta_version = m.version;
  st->term = m.term;
  st->vote = m.vote;
  const char *why = find_snapshot(st);
  return why ? why : find_log(st, f);
}

const char *store_load(struct store *st) {
  struct blx__sim_disk *d = st->d;
  struct found f = {0};
  store_free(st);
  store_init(st, d);
  const char *why = find_all(st, &f);
  if (!why) clean(st, &f);
  return why;
}

void store_init(struct store *st, struct blx__sim_disk *d) {
  *st = (struct store){.d = d, .generation = 1, .start = 1};
}

void store_free(struct store *st) {
  free(st->segments);
  st->segments = NULL;
  st->segments_count = st->segments_cap = 0;
}

/* ---- from outside, of a member that is down */

/* On a copy: a disk does not notice what is changed behind its back. */
static void edit_segment(struct blx__sim_disk *d, const char *name, uint64_t first,
                         void (*look)(void *arg, struct store_record *r), void *arg) {
  struct blx__slice file = file_of(d, name);
  uint8_t *copy = malloc(file.len);
  BLX__ASSERT(copy != NULL);
  memcpy(copy, file.data, file.len);
  struct store_record r;
  size_t at = sizeof(struct segment_head), end = 0;
  for (uint64_t index = first; record_read(slice_of(copy, file.len), at, index, &r, &end); index++, at = end) {
    look(arg, &r);
    struct record_head h;
    memcpy(&h, copy + at, sizeof h);
    h.sum = record_sum(&h, r.data);
    memcpy(copy + at, &h, sizeof h);
  }
  must_succeed(write_synced(d, name, 0, copy, file.len));
  free(copy);
}

void store_edit(struct blx__sim_disk *d, void (*look)(void *arg, struct store_record *r), void *arg) {
  struct store st;
  store_init(&st, d);
  blx__sim_disk_start(d);
  const char *why = store_load(&st);
  BLX__ASSERT(!why);
  for (size_t i = 0; i < st.segments_count; i++) {
    char name[BLX__SIM_NAME_MAX + 1];
    name_of(st.generation, st.segments[i].first, name);
    edit_segment(d, name, st.segments[i].first, look, arg);
  }
  store_free(&st);
}

/* How many bytes of a segment were acknowledged. */
static size_t acknowledged(const struct store *st, const struct store_segment *s) {
  if (st->marked_generation != st->generation || s->first > st->marked_index) return 0;
  if (s->next <= st->marked_index + 1) return s->bytes;
  char name[BLX__SIM_NAME_MAX + 1];
  name_of(st->generation, s->first, name);
  struct blx__slice file = file_of(st->d, name);
  size_t at = sizeof(struct segment_head);
  struct store_record r;
  for (uint64_t index = s->first; index <= st->marked_index; index++) (void)record_read(file, at, index, &r, &at);
  return at;
}

bool store_spot(struct blx__sim_disk *d, struct blx__sim_rng *r, char name[BLX__SIM_NAME_MAX + 1], size_t *offset) {
  struct store st;
  struct found f = {0};
  struct meta m;
  size_t len = 0;
  store_init(&st, d);
  if (find_all(&st, &f) == NULL) {
    uint64_t kind = blx__sim_rng_in(r, 0, 5);
    int meta = meta_read(d, &m);
    if (kind == 0 && meta >= 0 && m.version == st.marked_meta) {
      (void)blx__str_copy(name, BLX__SIM_NAME_MAX + 1, meta_names[meta]);
      len = sizeof m;
    } else if (kind <= 2 && st.snapshot_index > 0) {
      (void)blx__str_copy(name, BLX__SIM_NAME_MAX + 1, snapshot_name);
      len = file_of(d, name).len;
    } else if (st.segments_count > 0) {
      const struct store_segment *s = &st.segments[blx__sim_rng_in(r, 0, st.segments_count - 1)];
      name_of(st.generation, s->first, name);
      len = acknowledged(&st, s);
    }
  }
  store_free(&st);
  if (len > 0) *offset = (size_t)blx__sim_rng_in(r, 0, len - 1);
  return len > 0;
}
