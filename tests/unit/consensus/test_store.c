/* The simulator's own files: if they forgave what a disk must not lose, its runs would prove nothing. */
#include "../harness.h"
#include "support.h"

#include <string.h>

struct box {
  struct blx__sim s;
  struct blx__sim_disk d;
  struct store st;
};

static struct box *box_new(uint64_t seed) {
  struct box *b = calloc(1, sizeof *b);
  ck_assert_ptr_nonnull(b);
  blx__sim_init(&b->s, seed);
  blx__sim_disk_init(&b->d, &b->s, 0);
  store_init(&b->st, &b->d);
  ck_assert_ptr_null(store_load(&b->st));
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
  return store_load(&b->st);
}

static void sync_now(struct box *b, const char *name) {
  ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, name).code, 0);
}

/* Records of term @term, their data full of their index; not synced. */
static void write_some(struct box *b, uint64_t first, uint64_t count, uint64_t term, char name[BLX__SIM_NAME_MAX + 1]) {
  struct blx__buf bytes;
  blx__buf_init(&bytes, 1 << 20);
  for (uint64_t i = first; i < first + count; i++) {
    uint8_t data[150];
    memset(data, (int)i, sizeof data);
    store_encode(&bytes, &(struct store_record){.index = i, .term = term, .type = 1, .len = 150, .data = data});
  }
  bool made = false;
  const struct blx__slice slice = {.data = bytes.data, .len = bytes.len};
  ck_assert_int_eq(store_append(&b->st, slice, first, count, name, &made).code, 0);
  blx__buf_free(&bytes);
}

/* As many calls as there are records, so that segments come to their end. */
static void append_some(struct box *b, uint64_t first, uint64_t count, uint64_t term) {
  for (uint64_t i = first; i < first + count; i++) {
    char name[BLX__SIM_NAME_MAX + 1];
    write_some(b, i, 1, term, name);
    sync_now(b, name);
  }
  sync_now(b, NULL);
  ck_assert_int_eq(store_mark(&b->st, first + count - 1).code, 0);
}

static void begin_snapshot(struct box *b, struct store_snapshot *s, bool replaces) {
  static const uint8_t data[1000] = {7};
  s->members_count = 1;
  s->members[0].uid = s->members[0].role = 1;
  s->data = (struct blx__slice){.data = data, .len = sizeof data};
  ck_assert_int_eq(store_snapshot_write(&b->st, s, replaces).code, 0);
}

static void take_snapshot(struct box *b, uint64_t index, bool replaces, uint64_t trailing) {
  struct store_snapshot s = {.index = index, .term = 1};
  begin_snapshot(b, &s, replaces);
  sync_now(b, store_snapshot_new);
  ck_assert_int_eq(store_snapshot_rename(&b->st).code, 0);
  sync_now(b, NULL);
  ck_assert_int_eq(store_snapshot_done(&b->st, &s, replaces, trailing).code, 0);
}

static void check_record(void *arg, struct store_record *r) {
  ck_assert_uint_eq(r->index, ++*(uint64_t *)arg);
  ck_assert_uint_eq(r->len, 150);
  bool whole = true;
  for (size_t i = 0; i < r->len; i++) whole = whole && r->data[i] == (uint8_t)r->index;
  ck_assert(whole);
}

/* The log is whole from its start to the last index, which is returned. */
static uint64_t check_log(struct box *b) {
  uint64_t index = b->st.start - 1;
  store_each(&b->st, check_record, &index);
  return index;
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
  ck_assert(store_snapshot_read(&b->st, &s));
  ck_assert_uint_eq(s.index, 150);
  ck_assert_uint_eq(s.data.len, 1000);
  append_some(b, 201, 3, 6);
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(check_log(b), 203);
  box_free(b);
}
END_TEST

/* Of a file's first @len bytes, every @step-th is damaged: the store is refused, and untouched. */
static void refuse_each_flip(struct box *b, const char *name, size_t len, size_t step) {
  struct store st;
  store_init(&st, &b->d);
  ck_assert_uint_gt(len, 0);
  for (size_t i = 0; i < len; i += step) {
    bool flipped = blx__sim_disk_flip(&b->d, name, i, i % 8);
    bool refused = store_load(&st) != NULL;
    flipped = flipped && blx__sim_disk_flip(&b->d, name, i, i % 8);
    if (!flipped || !refused) ck_abort_msg("byte %zu of '%s' does not matter", i, name); /* an assertion costs more */
  }
  ck_assert_ptr_null(store_load(&st));
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
  for (char name[BLX__SIM_NAME_MAX + 1] = ""; blx__sim_disk_next(&b->d, name);) {
    if (strncmp(name, "log-", 4) != 0) continue;
    refuse_each_flip(b, name, size_of(b, name), 1);
    segments++;
  }
  ck_assert_uint_eq(segments, b->st.segments_count);
  refuse_each_flip(b, "snapshot", size_of(b, "snapshot") - 1000, 1); /* the data are for who reads them */
  refuse_each_flip(b, "meta-2", size_of(b, "meta-2"), 1);
  box_free(b);
}
END_TEST

START_TEST(a_torn_tail__is_cut_and_never_comes_back) {
  unsigned cut = 0, whole = 0;
  for (uint64_t seed = 0; seed < 100; seed++) {
    struct box *b = box_new(seed);
    char name[BLX__SIM_NAME_MAX + 1];
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

START_TEST(what_was_loaded__counts_as_acknowledged) {
  struct box *b = box_new(1);
  char name[BLX__SIM_NAME_MAX + 1];
  append_some(b, 1, 10, 1);
  b->d.reach_percent = 100;
  write_some(b, 11, 10, 2, name);
  ck_assert_ptr_null(crash(b));
  ck_assert_uint_eq(check_log(b), 20);
  refuse_each_flip(b, name, size_of(b, name), 7);
  box_free(b);
}
END_TEST

START_TEST(a_log_that_is_cut__has_no_gap_wherever_it_crashes) {
  unsigned seen[3] = {0};
  for (uint64_t seed = 0; seed < 90; seed++) {
    struct box *b = box_new(seed);
    char name[BLX__SIM_NAME_MAX + 1];
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
      ck_assert_int_eq(store_snapshot_done(&b->st, &s, true, 0).code, 0);
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
    char name[BLX__SIM_NAME_MAX + 1];
    ck_assert_int_eq(store_set_meta(&b->st, 5, 2).code, 0);
    append_some(b, 1, 10 + seed % 90, 1);
    if (seed % 2) take_snapshot(b, 5 + seed % 90, false, 3);
    write_some(b, 11 + seed % 90, 5, 1, name);
    blx__sim_disk_crash(&b->d);
    size_t offset = 0, head = 0;
    if (store_spot(&b->d, &b->s.rng, name, &offset)) {
      found++;
      bool is_snapshot = strcmp(name, "snapshot") == 0;
      if (is_snapshot) head = size_of(b, name) - 1000;
      ck_assert(blx__sim_disk_flip(&b->d, name, offset, seed % 8));
      blx__sim_disk_start(&b->d);
      if (!is_snapshot || offset < head) ck_assert_ptr_nonnull(store_load(&b->st));
      ck_assert(blx__sim_disk_flip(&b->d, name, offset, seed % 8));
      ck_assert_ptr_null(store_load(&b->st));
    }
    box_free(b);
  }
  ck_assert_uint_gt(found, 200);
}
END_TEST

BLX_TEST_MAIN("consensus/store", a_store__is_found_again_as_it_was, a_flipped_bit__in_what_was_acknowledged_is_refused,
              a_torn_tail__is_cut_and_never_comes_back, what_was_loaded__counts_as_acknowledged,
              a_log_that_is_cut__has_no_gap_wherever_it_crashes, a_snapshot_that_replaces_the_log__does_so_in_one_step,
              a_spot_for_damage__is_one_that_is_refused)
