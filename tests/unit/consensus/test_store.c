/* What a member keeps on its disk, on the simulated one: crashes at every step, torn writes, flipped bits. */
#include "../harness.h"
#include "support.h"

#include <string.h>

enum { SEGMENT_BYTES = 8192, SNAPSHOT_BYTES = 1000 };

struct box {
  struct blx__sim s;
  struct blx__sim_disk d;
  struct blx__disk table;
  struct store st;
};

static struct box *box_new(uint64_t seed) {
  struct box *b = calloc(1, sizeof *b);
  ck_assert_ptr_nonnull(b);
  blx__sim_init(&b->s, seed);
  blx__sim_disk_init(&b->d, &b->s, 0);
  b->table = blx__sim_disk_table(&b->d);
  store_init(&b->st, &b->table, SEGMENT_BYTES);
  ck_assert_ptr_null(store_load(&b->st, NULL, NULL));
  return b;
}

static void box_free(struct box *b) {
  store_free(&b->st);
  blx__sim_disk_free(&b->d);
  blx__sim_free(&b->s);
  free(b);
}

static const char *crash(struct box *b) {
  blx__sim_disk_crash(&b->d);
  blx__sim_disk_start(&b->d);
  return store_load(&b->st, NULL, NULL);
}

static void sync_now(struct box *b, const char *name) {
  ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, name).code, 0);
}

/* Records of term @term, their data full of their index; not synced. */
static void write_some(struct box *b, uint64_t first, uint64_t count, uint64_t term,
                       char name[BLX__DISK_NAME_MAX + 1]) {
  struct blx__buf bytes;
  blx__buf_init(&bytes, 1 << 20);
  for (uint64_t i = first; i < first + count; i++) {
    uint8_t data[150];
    memset(data, (int)i, sizeof data);
    const struct store_record r = {.index = i, .term = term, .type = 1, .batch = first, .len = 150, .data = data};
    ck_assert(store_encode(&bytes, &r));
  }
  bool made = false;
  const struct blx__slice slice = {.data = bytes.data, .len = bytes.len};
  ck_assert_int_eq(store_append(&b->st, slice, first, count, name, &made).code, 0);
  blx__buf_free(&bytes);
}

/* As many calls as there are records, so that segments come to their end. */
static void append_some(struct box *b, uint64_t first, uint64_t count, uint64_t term) {
  for (uint64_t i = first; i < first + count; i++) {
    char name[BLX__DISK_NAME_MAX + 1];
    write_some(b, i, 1, term, name);
    sync_now(b, name);
  }
  sync_now(b, NULL);
  ck_assert_int_eq(store_mark(&b->st, first + count - 1).code, 0);
}

static void begin_snapshot(struct box *b, struct store_snapshot *s, bool replaces) {
  static const uint8_t data[SNAPSHOT_BYTES] = {7};
  struct store_snapshot_head head;
  s->members_count = 1;
  s->members[0].uid = s->members[0].role = 1;
  store_snapshot_make(&b->st, s, sizeof data, replaces, &head);
  const struct blx__slice parts[] = {{data, sizeof data}, {(const uint8_t *)&head, sizeof head}};
  for (size_t i = 0, at = 0; i < 2; at += parts[i].len, i++)
    ck_assert_int_eq(blx__sim_disk_write(&b->d, store_snapshot_new, at, parts[i]).code, 0);
}

static void take_snapshot(struct box *b, uint64_t index, bool replaces, uint64_t trailing) {
  struct store_snapshot s = {.index = index, .term = 1};
  begin_snapshot(b, &s, replaces);
  sync_now(b, store_snapshot_new);
  ck_assert_int_eq(store_snapshot_rename(&b->st).code, 0);
  sync_now(b, NULL);
  unsigned spared = 0;
  ck_assert_int_eq(store_snapshot_done(&b->st, &s, replaces, trailing, &spared).code, 0);
  if (spared) sync_now(b, NULL);
  store_spares_ready(&b->st, spared);
}

static unsigned spares(const struct box *b) {
  unsigned n = 0;
  for (unsigned i = 0; i < STORE_SPARES_MAX; i++) n += b->st.spares[i] == STORE_SPARE_READY;
  return n;
}

static unsigned count_files(const struct box *b) {
  char name[BLX__DISK_NAME_MAX + 1] = "";
  unsigned n = 0;
  while (b->table.ops->next(b->table.self, name).code == 0) n++;
  return n;
}

static void check_record(void *arg, const struct store_record *r) {
  uint64_t *last = arg;
  ck_assert(*last == 0 || r->index == *last + 1);
  *last = r->index;
  ck_assert_uint_eq(r->len, 150);
  bool whole = true;
  for (size_t i = 0; i < r->len; i++) whole = whole && r->data[i] == (uint8_t)r->index;
  ck_assert(whole);
}

/* The log is whole from its start to the last index, which is returned. */
static uint64_t check_log(struct box *b) {
  uint64_t index = 0;
  ck_assert_ptr_null(store_load(&b->st, check_record, &index));
  return b->st.segments_count ? index : b->st.snapshot_index;
}

START_TEST(a_store__is_found_again_as_it_was) {
  struct box *b = box_new(1);
  b->d.reach_percent = 0;
  ck_assert_int_eq(store_set_meta(&b->st, 5, 2).code, 0);
  append_some(b, 1, 200, 1);
  take_snapshot(b, 150, false, 50);
  ck_assert_int_eq(store_set_meta(&b->st, 6, 0).code, 0);
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(b->st.term, 6);
  ck_assert_uint_eq(b->st.vote, 0);
  ck_assert_uint_eq(b->st.snapshot_index, 150);
  ck_assert_uint_gt(b->st.segments_count, 1);
  ck_assert_uint_eq(check_log(b), 200);
  struct store_snapshot s;
  size_t len = 0;
  ck_assert(sim_disk_snapshot(&b->d, &s, &len));
  ck_assert_uint_eq(s.index, 150);
  ck_assert_uint_eq(len, SNAPSHOT_BYTES);
  append_some(b, 201, 3, 6);
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(check_log(b), 203);
  box_free(b);
}
END_TEST

/* Of a file's bytes @from..@to, every @step-th is damaged: the store is refused, and untouched. */
static void refuse_each_flip(struct box *b, const char *name, size_t from, size_t to, size_t step) {
  struct store st;
  store_init(&st, &b->table, SEGMENT_BYTES);
  ck_assert_uint_gt(to, from);
  for (size_t i = from; i < to; i += step) {
    bool flipped = blx__sim_disk_flip(&b->d, name, i, i % 8);
    store_free(&st);
    store_init(&st, &b->table, SEGMENT_BYTES);
    bool refused = store_look(&st, NULL, NULL) != NULL;
    flipped = flipped && blx__sim_disk_flip(&b->d, name, i, i % 8);
    if (!flipped || !refused) ck_abort_msg("byte %zu of '%s' does not matter", i, name); /* an assertion costs more */
  }
  store_free(&st);
  store_init(&st, &b->table, SEGMENT_BYTES);
  ck_assert_ptr_null(store_look(&st, NULL, NULL));
  store_free(&st);
}

static size_t size_of(struct box *b, const char *name) {
  struct blx__slice file = {0};
  ck_assert_int_eq(blx__sim_disk_read(&b->d, name, &file).code, 0);
  return file.len;
}

START_TEST(a_flipped_bit__in_what_was_acknowledged_is_refused) {
  struct box *b = box_new(1);
  ck_assert_int_eq(store_set_meta(&b->st, 5, 2).code, 0);
  append_some(b, 1, 100, 1);
  take_snapshot(b, 100, false, 50);
  ck_assert_uint_gt(b->st.segments_count, 1);
  unsigned segments = 0;
  for (char name[BLX__DISK_NAME_MAX + 1] = ""; blx__sim_disk_next(&b->d, name);) {
    if (strncmp(name, "log-", 4) != 0) continue;
    refuse_each_flip(b, name, 0, (size_t)b->st.segments[segments].bytes, 1);
    segments++;
  }
  ck_assert_uint_eq(segments, b->st.segments_count);
  refuse_each_flip(b, "snapshot", SNAPSHOT_BYTES, size_of(b, "snapshot"), 1); /* the data are for who reads them */
  refuse_each_flip(b, "meta-2", 0, size_of(b, "meta-2"), 1);
  box_free(b);
}
END_TEST

START_TEST(a_torn_tail__is_cut_and_never_comes_back) {
  unsigned cut = 0, whole = 0;
  for (uint64_t seed = 0; seed < 100; seed++) {
    struct box *b = box_new(seed);
    char name[BLX__DISK_NAME_MAX + 1];
    append_some(b, 1, 10, 1);
    write_some(b, 11, 10, 2, name);
    ck_assert_ptr_null(crash(b));
    uint64_t last = check_log(b);
    ck_assert(last >= 10 && last <= 20);
    cut += last < 20;
    whole += last == 20;
    /* Records of the same lengths come over what was cut: what is behind them must not count again. */
    append_some(b, last + 1, 1, 3);
    b->d.reach_percent = 100;
    ck_assert_ptr_null(crash(b));
    ck_assert_uint_eq(check_log(b), last + 1);
    box_free(b);
  }
  ck_assert_uint_gt(cut, 50);
  ck_assert_uint_lt(whole, 50);
}
END_TEST

/* The segment that should have gone on was made, but nothing of it is whole. */
START_TEST(a_torn_tail__is_cut_though_a_segment_behind_it_is_void) {
  static const uint8_t void_bytes[512] = {1};
  char name[BLX__DISK_NAME_MAX + 1];
  struct box *b = box_new(1);
  append_some(b, 1, 3, 1);
  const size_t end = b->st.segments[0].bytes;
  write_some(b, 4, 2, 1, name);
  sync_now(b, name);
  ck_assert(blx__sim_disk_flip(&b->d, name, end + STORE_RECORD_HEAD_BYTES, 0));
  store_segment_name(&b->st, 4, name);
  const struct blx__slice bytes = {void_bytes, sizeof void_bytes};
  ck_assert_int_eq(blx__sim_disk_write(&b->d, name, 0, bytes).code, 0);
  sync_now(b, name);
  sync_now(b, NULL);
  ck_assert_uint_eq(check_log(b), 3);
  append_some(b, 4, 1, 1);
  ck_assert_uint_eq(check_log(b), 4);
  box_free(b);
}
END_TEST

/* Nothing was marked: but a batch that was written after it proves that this one was synced. */
START_TEST(a_damaged_batch_before_another__is_refused_without_the_mark) {
  struct box *b = box_new(1);
  char name[BLX__DISK_NAME_MAX + 1];
  append_some(b, 1, 1, 1);
  for (uint64_t i = 2; i < 12; i += 5) {
    write_some(b, i, 5, 1, name);
    sync_now(b, name);
  }
  ck_assert_uint_eq(b->st.marked_index, 1);
  refuse_each_flip(b, name, 0, b->st.segments[0].ends[5], 3);                     /* the first two */
  ck_assert(blx__sim_disk_flip(&b->d, name, b->st.segments[0].ends[6] + 100, 1)); /* the last one may be torn */
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(check_log(b), 7);
  box_free(b);
}
END_TEST

/* Segments are used again: what stands in them from before never counts, whatever a crash leaves. */
START_TEST(a_segment_that_is_used_again__shows_nothing_of_before) {
  unsigned used = 0;
  for (uint64_t seed = 0; seed < 40; seed++) {
    struct box *b = box_new(seed);
    uint64_t last = 0;
    for (unsigned round = 0; round < 8; round++) {
      unsigned had = spares(b);
      append_some(b, last + 1, 60, 1 + round);
      last += 60;
      used += had - spares(b);
      take_snapshot(b, last - 10, false, 5);
      if (round % 3 == 2) {
        char name[BLX__DISK_NAME_MAX + 1];
        write_some(b, last + 1, 3, 1 + round, name);
        ck_assert_ptr_null(crash(b));
        uint64_t found = check_log(b);
        ck_assert(found >= last && found <= last + 3);
        last = found;
      }
    }
    ck_assert_uint_eq(check_log(b), last);
    box_free(b);
  }
  ck_assert_uint_gt(used, 0);
}
END_TEST

/* So many are kept, and used before anything new is made; what is above that is removed; a start removes all. */
START_TEST(segments_that_are_dropped__are_kept_up_to_a_number_and_come_back) {
  enum { DROPPED = STORE_SPARES_MAX + 3 };
  struct box *b = box_new(1);
  char name[BLX__DISK_NAME_MAX + 1] = "";
  uint64_t last = 0;
  while (b->st.segments_count <= DROPPED) append_some(b, ++last, 1, 1);
  take_snapshot(b, last, false, 1);
  ck_assert_uint_eq(b->st.segments_count, 1);
  ck_assert_uint_eq(spares(b), STORE_SPARES_MAX);
  ck_assert_uint_eq(count_files(b), STORE_SPARES_MAX + 3); /* with the segment, the snapshot and the mark */
  unsigned most = count_files(b);
  while (spares(b) > 0) {
    append_some(b, ++last, 1, 1);
    ck_assert_uint_eq(count_files(b), most);
  }
  ck_assert_uint_eq(b->st.segments_count, 1 + STORE_SPARES_MAX);
  take_snapshot(b, last, false, 1);
  ck_assert_uint_gt(spares(b), 0);
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(spares(b), 0);
  while (b->table.ops->next(b->table.self, name).code == 0) ck_assert_ptr_null(strstr(name, "spare"));
  ck_assert_uint_eq(check_log(b), last);
  box_free(b);
}
END_TEST

/* Power is cut in the first start of a member that is about to join. */
START_TEST(a_first_mark_that_was_cut__is_nothing_yet) {
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct box *b = box_new(seed);
    blx__sim_disk_free(&b->d);
    blx__sim_disk_init(&b->d, &b->s, 0);
    store_init(&b->st, &b->table, SEGMENT_BYTES);
    ck_assert_int_eq(store_mark_write(&b->st, 0).code, 0);
    ck_assert_ptr_null(crash(b));
    ck_assert_uint_eq(store_last(&b->st), 0);
    box_free(b);
  }
}
END_TEST

/* A process that was killed leaves its vote in the cache only. Who starts from it must not be without it later. */
START_TEST(a_vote_that_was_loaded__is_on_the_platter) {
  struct box *b = box_new(1), *other = box_new(2);
  struct blx__slice file = {0};
  b->d.reach_percent = 0;
  ck_assert_int_eq(store_set_meta(&b->st, 5, 1).code, 0);
  ck_assert_int_eq(store_set_meta(&other->st, 5, 1).code, 0);
  ck_assert_int_eq(store_set_meta(&other->st, 6, 2).code, 0);
  ck_assert_int_eq(blx__sim_disk_read(&other->d, "meta-1", &file).code, 0);
  ck_assert_int_eq(blx__sim_disk_write(&b->d, "meta-1", 0, file).code, 0);
  ck_assert_ptr_null(store_load(&b->st, NULL, NULL));
  ck_assert_uint_eq(b->st.term, 6);
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(b->st.term, 6);
  ck_assert_uint_eq(b->st.vote, 2);
  box_free(b);
  box_free(other);
}
END_TEST

/* As Linux has it: the member that stopped itself for it is started again, and then the power fails. */
START_TEST(what_a_failed_sync_left_in_the_cache__is_on_the_platter_once_loaded) {
  struct box *b = box_new(1);
  char name[BLX__DISK_NAME_MAX + 1];
  bool made = false;
  struct blx__buf record;
  blx__buf_init(&record, 4096);
  b->d.reach_percent = 0;
  ck_assert_int_eq(store_set_meta(&b->st, 5, 1).code, 0);
  for (uint64_t index = 1; index <= 3; index++) {
    blx__buf_clear(&record);
    const struct store_record r = {
        .index = index, .term = 5, .type = 1, .batch = index, .len = 8, .data = (const uint8_t *)"12345678"};
    ck_assert(store_encode(&record, &r));
    ck_assert_int_eq(store_append(&b->st, (struct blx__slice){record.data, record.len}, index, 1, name, &made).code, 0);
    if (index == 3) blx__sim_disk_fail(&b->d, BLX__SIM_DISK_SYNC, BLX_E_IO);
    ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, name).code, index == 3 ? BLX_E_IO : 0);
    if (made) ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, NULL).code, 0);
    if (index == 2) ck_assert_int_eq(store_mark(&b->st, 2).code, 0);
  }
  blx__sim_disk_fail(&b->d, BLX__SIM_DISK_SYNC, BLX_E_IO);
  ck_assert_int_eq(store_set_meta(&b->st, 6, 2).code, BLX_E_IO);
  ck_assert_ptr_null(store_load(&b->st, NULL, NULL));
  ck_assert_uint_eq(store_last(&b->st), 3);
  uint64_t term = b->st.term, vote = b->st.vote;
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(store_last(&b->st), 3);
  ck_assert_uint_eq(b->st.term, term);
  ck_assert_uint_eq(b->st.vote, vote);
  blx__buf_free(&record);
  box_free(b);
}
END_TEST

/* Nobody is to restore a backup because a sync failed. */
START_TEST(a_disk_that_fails_at_the_load__is_not_taken_for_damage) {
  struct box *b = box_new(1);
  ck_assert_int_eq(store_set_meta(&b->st, 5, 1).code, 0);
  ck_assert_ptr_null(crash(b));
  blx__sim_disk_fail(&b->d, BLX__SIM_DISK_SYNC, BLX_E_IO);
  ck_assert_ptr_nonnull(store_load(&b->st, NULL, NULL));
  ck_assert_int_eq(b->st.cleaned.code, BLX_E_IO);
  ck_assert_ptr_null(store_load(&b->st, NULL, NULL));
  ck_assert_int_eq(b->st.cleaned.code, 0);
  ck_assert_uint_eq(b->st.term, 5);
  box_free(b);
}
END_TEST

static blx__rc next_fails(void *self, char name[BLX__DISK_NAME_MAX + 1]) {
  (void)self;
  (void)name;
  return (blx__rc){BLX_E_IO};
}

START_TEST(a_directory_that_cannot_be_listed__is_not_an_empty_one) {
  struct box *b = box_new(1);
  ck_assert_int_eq(store_set_meta(&b->st, 5, 2).code, 0);
  append_some(b, 1, 10, 1);
  const struct blx__disk_ops *whole = b->table.ops;
  struct blx__disk_ops blind = *whole;
  blind.next = next_fails;
  b->table.ops = &blind;
  ck_assert_ptr_nonnull(store_load(&b->st, NULL, NULL));
  b->table.ops = whole;
  ck_assert_uint_eq(check_log(b), 10);
  box_free(b);
}
END_TEST

START_TEST(what_was_loaded__counts_as_acknowledged) {
  struct box *b = box_new(1);
  char name[BLX__DISK_NAME_MAX + 1];
  append_some(b, 1, 10, 1);
  b->d.reach_percent = 100;
  write_some(b, 11, 10, 2, name);
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(check_log(b), 20);
  refuse_each_flip(b, name, 0, (size_t)b->st.segments[0].bytes, 7);
  box_free(b);
}
END_TEST

START_TEST(a_log_that_is_cut__has_no_gap_wherever_it_crashes) {
  unsigned seen[3] = {0};
  for (uint64_t seed = 0; seed < 90; seed++) {
    struct box *b = box_new(seed);
    char name[BLX__DISK_NAME_MAX + 1];
    bool any = false;
    append_some(b, 1, 200, 1);
    ck_assert_int_eq(store_mark(&b->st, 9).code, 0);
    ck_assert_int_eq(store_remove_from(&b->st, 10, &any).code, 0);
    ck_assert(any);
    if (seed % 3 > 0) {
      sync_now(b, NULL);
      ck_assert_int_eq(store_cut(&b->st, 10, name).code, 0);
      if (seed % 3 > 1) sync_now(b, name);
    }
    ck_assert_ptr_null(crash(b));
    uint64_t last = check_log(b);
    if (seed % 3 == 2) ck_assert_uint_eq(last, 9);
    ck_assert(last >= 9 && last <= 200);
    seen[last == 9 ? 0 : last < 200 ? 1 : 2]++;
    append_some(b, last + 1, 2, 2);
    ck_assert_ptr_null(crash(b));
    ck_assert_uint_eq(check_log(b), last + 2);
    box_free(b);
  }
  for (unsigned i = 0; i < 3; i++) ck_assert_uint_gt(seen[i], 3);
}
END_TEST

START_TEST(a_snapshot_that_replaces_the_log__does_so_in_one_step) {
  unsigned before = 0, after = 0;
  for (uint64_t seed = 0; seed < 90; seed++) {
    struct box *b = box_new(seed);
    append_some(b, 1, 100, 1);
    struct store_snapshot s = {.index = 40, .term = 2}; /* of another history: not even its own entry 41 fits */
    begin_snapshot(b, &s, true);
    if (seed % 3 > 0) {
      sync_now(b, store_snapshot_new);
      ck_assert_int_eq(store_snapshot_rename(&b->st).code, 0);
    }
    if (seed % 3 > 1) {
      sync_now(b, NULL);
      unsigned spared = 0;
      ck_assert_int_eq(store_snapshot_done(&b->st, &s, true, 0, &spared).code, 0);
      ck_assert_uint_eq(spared, 0);
    }
    ck_assert_ptr_null(crash(b));
    bool done = b->st.snapshot_index == 40;
    ck_assert_uint_eq(store_last(&b->st), done ? 40 : 100);
    ck_assert_uint_eq(check_log(b), done ? 40 : 100);
    ck_assert(seed % 3 == 1 || done == (seed % 3 == 2));
    before += !done;
    after += done;
    append_some(b, store_last(&b->st) + 1, 3, 3);
    ck_assert_ptr_null(crash(b));
    ck_assert_uint_eq(check_log(b), done ? 43 : 103);
    box_free(b);
  }
  ck_assert(before > 35 && after > 35);
}
END_TEST

START_TEST(a_spot_for_damage__is_one_that_is_refused) {
  unsigned found = 0;
  for (uint64_t seed = 0; seed < 300; seed++) {
    struct box *b = box_new(seed);
    char name[BLX__DISK_NAME_MAX + 1];
    ck_assert_int_eq(store_set_meta(&b->st, 5, 2).code, 0);
    append_some(b, 1, 10 + seed % 90, 1);
    if (seed % 2) take_snapshot(b, 5 + seed % 90, false, 3);
    write_some(b, 11 + seed % 90, 5, 1, name);
    blx__sim_disk_crash(&b->d);
    size_t offset = 0;
    if (sim_disk_spot(&b->d, &b->s.rng, name, &offset)) {
      found++;
      bool is_snapshot = strcmp(name, "snapshot") == 0;
      ck_assert(blx__sim_disk_flip(&b->d, name, offset, seed % 8));
      blx__sim_disk_start(&b->d);
      if (!is_snapshot || offset >= SNAPSHOT_BYTES) ck_assert_ptr_nonnull(store_load(&b->st, NULL, NULL));
      ck_assert(blx__sim_disk_flip(&b->d, name, offset, seed % 8));
      ck_assert_ptr_null(store_load(&b->st, NULL, NULL));
    }
    box_free(b);
  }
  ck_assert_uint_gt(found, 200);
}
END_TEST

BLX_TEST_MAIN("consensus/store", a_store__is_found_again_as_it_was, a_flipped_bit__in_what_was_acknowledged_is_refused,
              a_torn_tail__is_cut_and_never_comes_back, a_damaged_batch_before_another__is_refused_without_the_mark,
              a_torn_tail__is_cut_though_a_segment_behind_it_is_void,
              a_segment_that_is_used_again__shows_nothing_of_before,
              segments_that_are_dropped__are_kept_up_to_a_number_and_come_back,
              a_first_mark_that_was_cut__is_nothing_yet, a_vote_that_was_loaded__is_on_the_platter,
              a_disk_that_fails_at_the_load__is_not_taken_for_damage,
              what_a_failed_sync_left_in_the_cache__is_on_the_platter_once_loaded,
              a_directory_that_cannot_be_listed__is_not_an_empty_one, what_was_loaded__counts_as_acknowledged,
              a_log_that_is_cut__has_no_gap_wherever_it_crashes, a_snapshot_that_replaces_the_log__does_so_in_one_step,
              a_spot_for_damage__is_one_that_is_refused)
