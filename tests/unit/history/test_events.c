/* Events on the disk: what is read from a place on, what comes twice, where they begin, and what goes. */
#include "../harness.h"

#include "history/history.h"
#include "schema/codec.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64], path[96];
static struct blx__arena arena;
static struct blx__history *h;
static int fatal_code;

static void on_fatal(void *user, int code, const char *text) {
  (void)user;
  (void)text;
  fatal_code = code;
}

static struct blx__history_options options = {.path = path, .on_fatal = on_fatal};

static void must_open(void) {
  blx_error err = {0};
  ck_assert_msg(blx__history_open(&options, &h, &err).code == 0, "%s", err.message);
}

static void begin(void) {
  fatal_code = 0;
  options.events_max_age_ms = options.events_max_bytes = 0;
  arena = (struct blx__arena){.limit_bytes = 64 << 20};
  ck_assert(blx__str_format(dir, sizeof dir, "/tmp/blx-events-XXXXXX"));
  ck_assert_ptr_nonnull(mkdtemp(dir));
  ck_assert(blx__str_format(path, sizeof path, "%s/history.db", dir));
  must_open();
}

static void reopen(void) {
  blx__history_close(h);
  must_open();
}

static void end(void) {
  static const char *const tails[] = {"", "-wal", "-shm"};
  blx__history_close(h);
  ck_assert_int_eq(fatal_code, 0);
  blx__arena_free(&arena);
  for (unsigned i = 0; i < BLX__COUNT(tails); i++) {
    char name[128];
    (void)blx__str_format(name, sizeof name, "%s%s", path, tails[i]);
    (void)unlink(name);
  }
  ck_assert_int_eq(rmdir(dir), 0);
}

static void sql(const char *text) {
  sqlite3 *db = NULL;
  char *why = NULL;
  ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
  ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, &why) == SQLITE_OK, "%s", why);
  ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* An entry with @count events, whose uids are 1, 2, ..., in parts of at most @each. Its time is ten times its index. */
static void entry_in_parts(uint64_t index, unsigned count, unsigned each) {
  uint32_t part = 0;
  struct blx__buf b;
  blx__buf_init(&b, BLX__HISTORY_EVENTS_MAX);
  for (unsigned i = 1; i <= count; i++) {
    struct blx_event e = BLX_EVENT_INIT;
    e.index = index;
    e.time_ms = index * 10;
    e.kind = i % 2 ? BLX_EVENT_KIND_VM : BLX_EVENT_KIND_INSTANCE;
    e.name = "web";
    e.uid = i;
    ck_assert_int_eq(blx__history_events_put(&b, &e, NULL).code, 0);
    if (i % each != 0 && i != count) continue;
    blx__history_add_events(h, index, part++, index * 10, (struct blx__slice){b.data, b.len});
    blx__buf_clear(&b);
  }
  blx__buf_free(&b);
}

static void entry(uint64_t index, unsigned count) {
  entry_in_parts(index, count, 1000);
}

static void entries(uint64_t from, uint64_t to) {
  for (uint64_t i = from; i <= to; i++) entry(i, 2);
}

/* Wait until all is written. */
static void written(void) {
  struct blx_audit_list_request r = BLX_AUDIT_LIST_REQUEST_INIT;
  struct blx_audit_list out = BLX_AUDIT_LIST_INIT;
  blx_error err = {0};
  ck_assert_msg(blx__history_list(h, &r, &arena, &out, &err).code == 0, "%s", err.message);
}

static int read_code(struct blx__history_events *e, blx_error *err) {
  return blx__history_read_events(h, e, &arena, err).code;
}

/* Everything from there on, a part at a time: each entry's events are 1, 2, ... without a gap. How many. */
static unsigned read_all(struct blx__history_events *e) {
  unsigned count = 0;
  uint64_t index = e->index, uid = e->done;
  written();
  do {
    blx_error err = {0};
    ck_assert_msg(read_code(e, &err) == 0, "%s", err.message);
    ck_assert_uint_le(e->count, BLX__HISTORY_EVENTS_PAGE);
    for (size_t i = 0; i < e->count; i++) {
      const struct blx_event *v = e->events[i];
      if (v->index != index) uid = 0;
      ck_assert_uint_ge(v->index, index);
      ck_assert_uint_eq(v->uid, ++uid);
      ck_assert_uint_eq(v->time_ms, v->index * 10);
      index = v->index;
    }
    count += (unsigned)e->count;
  } while (e->more);
  return count;
}

static unsigned after(uint64_t index, size_t done) {
  struct blx__history_events e = {.index = index, .done = done};
  return read_all(&e);
}

static unsigned since(uint64_t since_ms) {
  struct blx__history_events e = {.since_ms = since_ms};
  return read_all(&e);
}

START_TEST(events__survive_and_those_that_the_log_gives_again_are_there_once) {
  begin();
  entries(5, 30);
  ck_assert_uint_eq(after(0, 0), 52);
  reopen();
  ck_assert_uint_eq(after(0, 0), 52);
  entries(20, 40); /* the log is applied again from a snapshot on */
  ck_assert_uint_eq(after(0, 0), 72);
  ck_assert_uint_eq(after(38, 0), 4);
  ck_assert_uint_eq(after(40, 0), 0);
  end();
}
END_TEST

START_TEST(a_place_within_an_entry__is_gone_on_from) {
  begin();
  entry_in_parts(7, 600, 50);
  entry(8, 3);
  ck_assert_uint_eq(after(7, 599), 4);
  ck_assert_uint_eq(after(7, 600), 3);
  ck_assert_uint_eq(after(7, 120), 483);
  ck_assert_uint_eq(after(6, 0), 603);
  end();
}
END_TEST

START_TEST(parts_that_end_between_entries__lose_none) {
  begin();
  entries(1, 700);
  entry(701, 1);
  entries(702, 1100);
  ck_assert_uint_eq(after(0, 0), 2199);
  ck_assert_uint_eq(after(9, 0), 2181);
  ck_assert_uint_eq(after(9, 1), 2182);
  end();
}
END_TEST

START_TEST(the_place_after_the_last__is_one_from_which_state_goes_on) {
  begin();
  entry(9, 2);
  struct blx__history_record r = {.seq = 1, .index = 15, .record = {(const uint8_t *)"x", 1}};
  uint8_t zeros[BLX__SHA256_BYTES] = {0}, one[BLX__SHA256_BYTES] = {1};
  r.prev = zeros;
  r.hash = one;
  blx__history_add(h, &r); /* so that nothing more comes of entries up to 14 */
  struct blx__history_events e = {.index = 3};
  (void)blx__history_may_truncate(h, 9);
  struct blx_audit_list_request none = BLX_AUDIT_LIST_REQUEST_INIT;
  struct blx_audit_list out = BLX_AUDIT_LIST_INIT;
  none.since_ms = UINT64_MAX;
  ck_assert_int_eq(blx__history_list(h, &none, &arena, &out, NULL).code, 0);
  ck_assert_int_eq(read_code(&e, NULL), 0);
  ck_assert_uint_eq(e.count, 2);
  ck_assert(!e.more);
  ck_assert_uint_eq(e.index, 14);
  ck_assert_uint_eq(e.done, 0);
  end();
}
END_TEST

START_TEST(a_time__is_found_and_what_is_before_it_is_not_told) {
  begin();
  entries(1, 50);
  ck_assert_uint_eq(since(1), 100);
  ck_assert_uint_eq(since(300), 42);
  ck_assert_uint_eq(since(301), 40);
  ck_assert_uint_eq(since(500), 2);
  struct blx__history_events e = {.since_ms = 501};
  ck_assert_uint_eq(read_all(&e), 0);
  ck_assert_uint_eq(e.index, 50); /* state does not tell the last one either */
  ck_assert(!e.cut);
  end();
}
END_TEST

static bool is_instance(const void *user, const struct blx_event *event) {
  (void)user;
  return event->kind == BLX_EVENT_KIND_INSTANCE;
}

START_TEST(what_is_not_wanted__is_left_out_and_gone_past) {
  begin();
  entries(1, 40);
  written();
  struct blx__history_events e = {.oldest = true, .wanted = is_instance};
  ck_assert_int_eq(read_code(&e, NULL), 0);
  ck_assert_uint_eq(e.count, 40);
  ck_assert(e.index == 40 && e.done == 2);
  end();
}
END_TEST

START_TEST(a_member_that_a_snapshot_brings_in__begins_there_and_says_so) {
  blx_error err = {0};
  begin();
  blx__history_begin_events(h, 100, 1000);
  entries(101, 110);
  struct blx__history_events e = {.oldest = true};
  ck_assert_uint_eq(read_all(&e), 20);
  ck_assert(e.begins == 100 && e.begins_ms == 1000);
  e = (struct blx__history_events){.since_ms = 500};
  ck_assert_int_eq(read_code(&e, NULL), 0);
  ck_assert(e.cut);
  e = (struct blx__history_events){.since_ms = 1001};
  ck_assert_int_eq(read_code(&e, NULL), 0);
  ck_assert(!e.cut);
  e = (struct blx__history_events){.index = 99};
  ck_assert_int_eq(read_code(&e, &err), BLX_E_STALE);
  ck_assert_ptr_nonnull(strstr(err.message, "after index 99 "));
  ck_assert_ptr_nonnull(strstr(err.message, "after 100:"));
  ck_assert_uint_eq(after(100, 0), 20);
  reopen();
  ck_assert_uint_eq(after(100, 0), 20);
  e = (struct blx__history_events){.index = 99};
  ck_assert_int_eq(read_code(&e, &err), BLX_E_STALE);
  end();
}
END_TEST

START_TEST(a_start_from_an_own_snapshot__loses_nothing_and_one_of_another_member_ends_what_was) {
  struct blx__history_events e = {.index = 5};
  begin();
  entries(1, 10);
  /* Entries 11 to 20 make no event, so that only the mark says that none is missing. */
  ck_assert(!blx__history_may_truncate(h, 20));
  written();
  ck_assert(blx__history_may_truncate(h, 20));
  reopen();
  blx__history_begin_events(h, 20, 200);
  entries(21, 22);
  ck_assert_uint_eq(after(0, 0), 24);
  blx__history_begin_events(h, 30, 300);
  written();
  ck_assert_int_eq(read_code(&e, NULL), BLX_E_STALE);
  e = (struct blx__history_events){.oldest = true};
  ck_assert_uint_eq(read_all(&e), 0);
  ck_assert(e.begins == 30 && e.index == 30);
  entries(31, 31);
  ck_assert_uint_eq(after(30, 0), 2);
  end();
}
END_TEST

START_TEST(the_oldest__go_by_size_whole_entries_at_a_time) {
  enum { LIMIT = 4000 };
  begin();
  options.events_max_bytes = LIMIT;
  reopen();
  for (uint64_t at = 1; at <= 300; at++) {
    entry_in_parts(at, 4, 2);
    if (at % 20 == 0) written();
  }
  struct blx__history_events e = {.oldest = true};
  unsigned kept = read_all(&e);
  uint64_t begins = e.begins;
  ck_assert_uint_eq(kept % 4, 0);
  ck_assert_uint_ge(kept, 40);
  ck_assert_uint_lt(kept, 400);
  ck_assert_uint_eq(begins, 300 - kept / 4);
  ck_assert_uint_eq(after(begins, 0), kept);
  reopen();
  entries(begins - 5, begins); /* the log gives them again: they stay gone */
  ck_assert_uint_eq(after(begins, 0), kept);
  e = (struct blx__history_events){.index = begins - 1};
  ck_assert_int_eq(read_code(&e, NULL), BLX_E_STALE);
  end();
}
END_TEST

/* So many come at once that transactions are full. */
START_TEST(the_oldest__go_as_fast_as_others_come) {
  begin();
  options.events_max_bytes = 4000;
  reopen();
  entries(1, 12000);
  struct blx__history_events e = {.oldest = true};
  unsigned kept = read_all(&e);
  ck_assert_uint_gt(kept, 10);
  ck_assert_uint_lt(kept, 400);
  ck_assert_uint_eq(e.index, 12000);
  end();
}
END_TEST

START_TEST(the_oldest__go_by_age_of_cluster_time) {
  begin();
  options.events_max_age_ms = 100;
  reopen();
  entries(1, 40);
  struct blx__history_events e = {.oldest = true};
  ck_assert_uint_eq(read_all(&e), 22); /* of 300 to 400 */
  ck_assert(e.begins == 29 && e.begins_ms == 290);
  end();
}
END_TEST

START_TEST(bytes_that_are_no_events__are_refused_with_their_index) {
  static const char *const changes[] = {
      "UPDATE events SET events=substr(events,1,length(events)-1) WHERE id>>16=4",
      "UPDATE events SET events=x'02000000ffff' WHERE id>>16=4",
      "UPDATE events SET events='text' WHERE id>>16=4",
  };
  for (unsigned i = 0; i < BLX__COUNT(changes); i++) {
    blx_error err = {0};
    begin();
    entries(1, 9);
    written();
    sql(changes[i]);
    struct blx__history_events e = {.oldest = true};
    ck_assert_int_eq(read_code(&e, &err), BLX_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(err.message, "index 4 "));
    ck_assert_uint_eq(after(4, 0), 10);
    end();
  }
}
END_TEST

BLX_TEST_MAIN("history/events", events__survive_and_those_that_the_log_gives_again_are_there_once,
              a_place_within_an_entry__is_gone_on_from, parts_that_end_between_entries__lose_none,
              the_place_after_the_last__is_one_from_which_state_goes_on,
              a_time__is_found_and_what_is_before_it_is_not_told, what_is_not_wanted__is_left_out_and_gone_past,
              a_member_that_a_snapshot_brings_in__begins_there_and_says_so,
              a_start_from_an_own_snapshot__loses_nothing_and_one_of_another_member_ends_what_was,
              the_oldest__go_by_size_whole_entries_at_a_time, the_oldest__go_as_fast_as_others_come,
              the_oldest__go_by_age_of_cluster_time, bytes_that_are_no_events__are_refused_with_their_index)
