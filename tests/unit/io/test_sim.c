#include "../harness.h"
#include "io/sim.h"

#include <string.h>

enum { SECTOR = BLX__SIM_SECTOR_BYTES, SOME = 400 };

static struct blx__slice text(const char *s) {
  return (struct blx__slice){.data = (const uint8_t *)s, .len = strlen(s)};
}

/* ---- a world with two machines; what arrives is written down */

struct diary {
  struct blx__sim s;
  unsigned count, events;
  uint64_t at_us[4 * SOME];
  uint8_t first[4 * SOME]; /* bytes of the messages */
};

static void note_message(void *user, unsigned from, unsigned to, struct blx__slice message) {
  struct diary *d = user;
  ck_assert_uint_ne(from, to);
  ck_assert_uint_lt(d->count, 4 * SOME);
  d->at_us[d->count] = d->s.now_us;
  d->first[d->count++] = message.data[0];
}

static struct diary *diary_new(uint64_t seed, const struct blx__sim_link *link) {
  struct diary *d = calloc(1, sizeof *d);
  ck_assert_ptr_nonnull(d);
  blx__sim_init(&d->s, seed);
  d->s.deliver = note_message;
  d->s.user = d;
  blx__sim_node_start(&d->s, 1);
  blx__sim_node_start(&d->s, 2);
  blx__sim_net_set(&d->s, link);
  return d;
}

static void diary_free(struct diary *d) {
  blx__sim_free(&d->s);
  free(d);
}

static void send_some(struct diary *d) {
  for (unsigned i = 0; i < SOME; i++) {
    uint8_t byte = (uint8_t)i;
    blx__sim_send(&d->s, 1, 2, (struct blx__slice){.data = &byte, .len = 1});
    blx__sim_run(&d->s, 100);
  }
  blx__sim_run(&d->s, 1000000);
}

static void note_event(void *arg, uint64_t a, uint64_t b) {
  struct diary *d = arg;
  ck_assert_uint_eq(a, b);
  ck_assert_uint_eq(d->events++, a);
}

static struct blx__sim_call noting(struct diary *d, uint64_t nth) {
  return (struct blx__sim_call){.fn = note_event, .arg = d, .a = nth, .b = nth};
}

static const struct blx__sim_link rough = {.loss_percent = 20,
                                           .double_percent = 20,
                                           .late_percent = 20,
                                           .delay_min_us = 100,
                                           .delay_max_us = 900,
                                           .late_max_us = 20000};
static const struct blx__sim_link straight = {.delay_min_us = 100, .delay_max_us = 100};

START_TEST(one_seed__is_one_run_and_another_is_another) {
  struct diary *d[3];
  for (unsigned i = 0; i < 3; i++) {
    d[i] = diary_new(i == 2 ? 8 : 7, &rough);
    send_some(d[i]);
  }
  ck_assert_uint_eq(d[0]->count, d[1]->count);
  ck_assert_mem_eq(d[0]->at_us, d[1]->at_us, sizeof d[0]->at_us);
  ck_assert_mem_eq(d[0]->first, d[1]->first, sizeof d[0]->first);
  ck_assert_mem_ne(d[0]->at_us, d[2]->at_us, sizeof d[0]->at_us);
  for (unsigned i = 0; i < 3; i++) diary_free(d[i]);
}
END_TEST

START_TEST(events__happen_in_order_of_time_then_of_scheduling) {
  struct diary *d = diary_new(1, &straight);
  blx__sim_after(&d->s, 0, 50, noting(d, 3));
  blx__sim_after(&d->s, 0, 20, noting(d, 0));
  blx__sim_after(&d->s, 1, 20, noting(d, 1));
  blx__sim_after(&d->s, 0, 20, noting(d, 2));
  ck_assert_uint_eq(blx__sim_due_us(&d->s), 20);
  unsigned node = 9;
  ck_assert(blx__sim_step(&d->s, &node));
  ck_assert_uint_eq(node, 0);
  ck_assert(blx__sim_step(&d->s, &node));
  ck_assert_uint_eq(node, 1);
  blx__sim_run(&d->s, 100);
  ck_assert_uint_eq(d->events, 4);
  ck_assert_uint_eq(d->s.now_us, 120);
  ck_assert_uint_eq(blx__sim_due_us(&d->s), UINT64_MAX);
  ck_assert(!blx__sim_step(&d->s, NULL));
  diary_free(d);
}
END_TEST

START_TEST(events_of_a_machine__do_not_outlive_its_crash) {
  struct diary *d = diary_new(1, &straight);
  blx__sim_after(&d->s, 1, 20, noting(d, 99));
  blx__sim_after(&d->s, 0, 30, noting(d, 0));
  blx__sim_node_stop(&d->s, 1);
  blx__sim_node_start(&d->s, 1); /* it is another life */
  blx__sim_after(&d->s, 1, 40, noting(d, 1));
  blx__sim_run(&d->s, 100);
  ck_assert_uint_eq(d->events, 2);
  diary_free(d);
}
END_TEST

START_TEST(a_clock__has_its_own_rate_and_never_goes_back) {
  struct diary *d = diary_new(1, &straight);
  blx__sim_run(&d->s, 1000000);
  blx__sim_clock_rate(&d->s, 1, 1100000);
  ck_assert_uint_eq(blx__sim_clock_us(&d->s, 1), 1000000); /* a new rate is no jump */
  blx__sim_run(&d->s, 1000000);
  ck_assert_uint_eq(blx__sim_clock_us(&d->s, 1), 2100000);
  ck_assert_uint_eq(blx__sim_clock_us(&d->s, 2), 2000000);
  ck_assert_uint_eq(blx__sim_true_us(&d->s, 1, 1100000), 1000000);
  blx__sim_clock_rate(&d->s, 1, 500000);
  blx__sim_run(&d->s, 1000000);
  ck_assert_uint_eq(blx__sim_clock_us(&d->s, 1), 2600000);
  diary_free(d);
}
END_TEST

START_TEST(a_clock_that_jumps__takes_the_one_on_the_wall_along) {
  struct diary *d = diary_new(1, &straight);
  blx__sim_run(&d->s, 1000000);
  blx__sim_clock_jump(&d->s, 1, 5000000);
  ck_assert_uint_eq(blx__sim_clock_us(&d->s, 1), 6000000);
  ck_assert_int_eq(blx__sim_wall_ms(&d->s, 1), 6000);
  blx__sim_wall_set(&d->s, 1, -7000);
  ck_assert_int_eq(blx__sim_wall_ms(&d->s, 1), -1000);
  ck_assert_uint_eq(blx__sim_clock_us(&d->s, 1), 6000000);
  ck_assert_uint_eq(blx__sim_clock_us(&d->s, 2), 1000000);
  diary_free(d);
}
END_TEST

START_TEST(a_cut__is_one_way_and_takes_what_is_under_way) {
  struct diary *d = diary_new(1, &straight);
  blx__sim_send(&d->s, 1, 2, text("a"));
  d->s.links[1][2].cut = true;
  blx__sim_send(&d->s, 1, 2, text("b"));
  blx__sim_send(&d->s, 2, 1, text("c"));
  blx__sim_run(&d->s, 1000);
  ck_assert_uint_eq(d->count, 1);
  ck_assert_uint_eq(d->first[0], 'c');
  blx__sim_net_isolate(&d->s, 2, true);
  blx__sim_net_set(&d->s, &straight); /* which mends nothing */
  blx__sim_send(&d->s, 2, 1, text("d"));
  blx__sim_net_mend(&d->s);
  blx__sim_send(&d->s, 1, 2, text("e"));
  blx__sim_run(&d->s, 1000);
  ck_assert_uint_eq(d->count, 2);
  ck_assert_uint_eq(d->first[1], 'e');
  diary_free(d);
}
END_TEST

START_TEST(a_message__arrives_at_a_machine_that_is_up_only) {
  struct diary *d = diary_new(1, &straight);
  blx__sim_send(&d->s, 1, 2, text("a"));
  blx__sim_node_stop(&d->s, 2);
  blx__sim_run(&d->s, 1000);
  ck_assert_uint_eq(d->count, 0);
  blx__sim_send(&d->s, 1, 2, text("b"));
  blx__sim_node_start(&d->s, 2); /* a new life may get what was sent before it */
  blx__sim_run(&d->s, 1000);
  ck_assert_uint_eq(d->count, 1);
  blx__sim_send(&d->s, 1, 2, text("never delivered, and freed"));
  diary_free(d);
}
END_TEST

START_TEST(messages__are_lost_doubled_and_overtaken_about_as_often_as_asked) {
  struct diary *d = diary_new(3, &rough);
  send_some(d);
  unsigned seen[256] = {0}, doubled = 0, lost = 0, overtaken = 0;
  for (unsigned i = 0; i < d->count; i++) seen[d->first[i]]++;
  for (unsigned i = 0; i < 256; i++) {
    unsigned sent = i < SOME - 256 ? 2 : 1;
    if (seen[i] < sent) lost++;
    if (seen[i] > sent) doubled++;
  }
  for (unsigned i = 1; i < d->count; i++) overtaken += (int8_t)(d->first[i] - d->first[i - 1]) < 0;
  ck_assert_uint_gt(lost, 20);
  ck_assert_uint_gt(doubled, 20);
  ck_assert_uint_gt(overtaken, 50);
  diary_free(d);

  d = diary_new(3, &straight);
  send_some(d);
  ck_assert_uint_eq(d->count, SOME);
  for (unsigned i = 0; i < SOME; i++) {
    ck_assert_uint_eq(d->first[i], (uint8_t)i);
    ck_assert_uint_eq(d->at_us[i], 100 * (i + 1));
  }
  diary_free(d);
}
END_TEST

/* ---- a disk */

struct box {
  struct blx__sim s;
  struct blx__sim_disk d;
  unsigned syncs;
  int code;
};

static struct box *box_new(uint64_t seed) {
  struct box *b = calloc(1, sizeof *b);
  ck_assert_ptr_nonnull(b);
  blx__sim_init(&b->s, seed);
  blx__sim_node_start(&b->s, 1);
  blx__sim_disk_init(&b->d, &b->s, 1);
  b->d.min_us = 1000;
  b->d.max_us = 2000;
  return b;
}

static void box_free(struct box *b) {
  blx__sim_disk_free(&b->d);
  blx__sim_free(&b->s);
  free(b);
}

static void box_crash(struct box *b) {
  blx__sim_disk_crash(&b->d);
  blx__sim_disk_start(&b->d);
}

static void on_sync(void *arg, blx__rc rc) {
  struct box *b = arg;
  b->syncs++;
  b->code = rc.code;
}

/* @count bytes of @byte. */
static int put(struct box *b, const char *name, size_t at, uint8_t byte, size_t count) {
  uint8_t bytes[64 * SECTOR];
  ck_assert_uint_le(count, sizeof bytes);
  memset(bytes, byte, count);
  return blx__sim_disk_write(&b->d, name, at, (struct blx__slice){.data = bytes, .len = count}).code;
}

static struct blx__slice get(struct box *b, const char *name) {
  struct blx__slice s = {0};
  ck_assert_int_eq(blx__sim_disk_read(&b->d, name, &s).code, 0);
  return s;
}

static bool has(struct box *b, const char *name) {
  struct blx__slice s;
  return blx__sim_disk_read(&b->d, name, &s).code == 0;
}

static void sync_all(struct box *b, const char *name) {
  ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, name).code, 0);
  ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, NULL).code, 0);
}

/* How many bytes of the file are @byte. */
static size_t count_of(struct box *b, const char *name, uint8_t byte) {
  struct blx__slice s = get(b, name);
  size_t n = 0;
  for (size_t i = 0; i < s.len; i++) n += s.data[i] == byte;
  return n;
}

START_TEST(a_file__reads_as_it_was_written) {
  struct box *b = box_new(1);
  ck_assert_int_eq(put(b, "f", 0, 'a', 10), 0);
  ck_assert_int_eq(put(b, "f", 20, 'b', 10), 0);
  ck_assert_int_eq(put(b, "f", 5, 'c', 10), 0);
  ck_assert_uint_eq(get(b, "f").len, 30);
  ck_assert_mem_eq(get(b, "f").data, "aaaaacccccccccc\0\0\0\0\0bbbbbbbbbb", 30);
  ck_assert_int_eq(blx__sim_disk_truncate(&b->d, "f", 8).code, 0);
  ck_assert_int_eq(blx__sim_disk_truncate(&b->d, "f", 12).code, 0);
  ck_assert_mem_eq(get(b, "f").data, "aaaaaccc\0\0\0\0", 12);
  ck_assert_int_eq(put(b, "empty", 0, 'x', 0), 0);
  ck_assert_uint_eq(get(b, "empty").len, 0);
  ck_assert_int_eq(blx__sim_disk_rename(&b->d, "f", "empty").code, 0);
  ck_assert(!has(b, "f"));
  ck_assert_uint_eq(get(b, "empty").len, 12);
  ck_assert_int_eq(blx__sim_disk_remove(&b->d, "empty").code, 0);
  ck_assert_int_eq(blx__sim_disk_remove(&b->d, "empty").code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx__sim_disk_rename(&b->d, "empty", "f").code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx__sim_disk_truncate(&b->d, "empty", 0).code, BLX_E_NOT_FOUND);
  box_free(b);
}
END_TEST

START_TEST(names__are_listed_in_order) {
  struct box *b = box_new(1);
  static const char *const names[] = {"b", "a", "ab", "a.1"}, *const sorted[] = {"a", "a.1", "ab", "b"};
  for (unsigned i = 0; i < 4; i++) ck_assert_int_eq(put(b, names[i], 0, 1, 1), 0);
  unsigned n = 0;
  for (char name[BLX__SIM_NAME_MAX + 1] = ""; blx__sim_disk_next(&b->d, name); n++) ck_assert_str_eq(name, sorted[n]);
  ck_assert_uint_eq(n, 4);
  box_free(b);
}
END_TEST

START_TEST(a_sync__takes_its_time_and_a_disk_that_is_held_never_ends_it) {
  struct box *b = box_new(1);
  ck_assert_int_eq(put(b, "f", 0, 1, 10), 0);
  blx__sim_disk_sync(&b->d, "f", on_sync, b);
  ck_assert_uint_eq(b->syncs, 0);
  blx__sim_run(&b->s, 999);
  ck_assert_uint_eq(b->syncs, 0);
  blx__sim_run(&b->s, 1001);
  ck_assert_uint_eq(b->syncs, 1);
  b->d.held = true;
  blx__sim_disk_sync(&b->d, "f", on_sync, b);
  blx__sim_disk_sync(&b->d, NULL, on_sync, b);
  blx__sim_run(&b->s, 60000000);
  ck_assert_uint_eq(b->syncs, 1);
  blx__sim_disk_release(&b->d);
  ck_assert_uint_eq(b->syncs, 1);
  blx__sim_run(&b->s, 2000);
  ck_assert_uint_eq(b->syncs, 3);
  blx__sim_disk_sync(&b->d, "nothing", on_sync, b);
  blx__sim_run(&b->s, 2000);
  ck_assert_int_eq(b->code, BLX_E_NOT_FOUND);
  blx__sim_disk_sync(&b->d, "f", on_sync, b);
  blx__sim_disk_forget(&b->d);
  blx__sim_run(&b->s, 2000);
  ck_assert_uint_eq(b->syncs, 4);
  box_free(b);
}
END_TEST

START_TEST(bytes_that_were_not_synced__are_sometimes_lost_and_those_that_were_never) {
  unsigned lost = 0, there = 0;
  for (uint64_t seed = 0; seed < 100; seed++) {
    struct box *b = box_new(seed);
    ck_assert_int_eq(put(b, "f", 0, 'a', 100), 0);
    sync_all(b, "f");
    ck_assert_int_eq(put(b, "f", 100, 'b', 100), 0);
    box_crash(b);
    ck_assert_uint_eq(count_of(b, "f", 'a'), 100);
    if (count_of(b, "f", 'b') == 100)
      there++;
    else
      lost++;
    box_crash(b); /* what one crash left is there for good */
    ck_assert_uint_eq(count_of(b, "f", 'a'), 100);
    box_free(b);
  }
  ck_assert_uint_gt(lost, 10);
  ck_assert_uint_gt(there, 10);
}
END_TEST

START_TEST(a_sync__covers_what_was_written_before_it_began_and_no_more) {
  struct box *b = box_new(1);
  b->d.reach_percent = 0;
  ck_assert_int_eq(put(b, "f", 0, 'a', 10), 0);
  blx__sim_disk_sync(&b->d, "f", on_sync, b);
  blx__sim_disk_sync(&b->d, NULL, on_sync, b);
  ck_assert_int_eq(put(b, "f", 10, 'b', 10), 0);
  ck_assert_int_eq(put(b, "g", 0, 'b', 10), 0);
  blx__sim_run(&b->s, 2000);
  ck_assert_uint_eq(b->syncs, 2);
  ck_assert_uint_eq(get(b, "f").len, 20);
  box_crash(b);
  ck_assert_uint_eq(get(b, "f").len, 10);
  ck_assert(!has(b, "g"));
  box_free(b);
}
END_TEST

START_TEST(a_torn_write__leaves_a_mixture_of_whole_sectors) {
  unsigned mixed = 0;
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct box *b = box_new(seed);
    ck_assert_int_eq(put(b, "f", 0, 'a', 8 * SECTOR), 0);
    sync_all(b, "f");
    ck_assert_int_eq(put(b, "f", 100, 'b', 6 * SECTOR), 0); /* it begins and ends inside of one */
    box_crash(b);
    struct blx__slice s = get(b, "f");
    ck_assert_uint_eq(s.len, 8 * SECTOR);
    for (unsigned k = 0; k < 8; k++) {
      size_t from = k == 0 ? 100 : 0, to = k < 6 ? SECTOR : k == 6 ? 100 : 0;
      const uint8_t *sector = s.data + (size_t)k * SECTOR;
      bool whole = true;
      for (size_t i = 0; i < SECTOR; i++) whole = whole && sector[i] == (i >= from && i < to ? sector[from] : 'a');
      ck_assert(whole);
    }
    size_t written = count_of(b, "f", 'b');
    bool torn = written > 0 && written < 6 * SECTOR;
    ck_assert_uint_eq(b->d.torn_count, torn);
    mixed += torn;
    box_free(b);
  }
  ck_assert_uint_gt(mixed, 40);
}
END_TEST

START_TEST(a_longer_file__may_keep_its_length_without_its_bytes_and_the_reverse) {
  unsigned zeros = 0, short_file = 0;
  for (uint64_t seed = 0; seed < 100; seed++) {
    struct box *b = box_new(seed);
    ck_assert_int_eq(put(b, "f", 0, 'a', SECTOR), 0);
    sync_all(b, "f");
    ck_assert_int_eq(put(b, "f", SECTOR, 'b', SECTOR), 0);
    box_crash(b);
    zeros += count_of(b, "f", 0) == SECTOR;
    bool cut = get(b, "f").len == SECTOR;
    short_file += cut;
    ck_assert_int_eq(blx__sim_disk_truncate(&b->d, "f", 2 * SECTOR).code, 0);
    if (cut) ck_assert_uint_eq(count_of(b, "f", 0), SECTOR); /* what arrived without it is gone for good */
    box_free(b);
  }
  ck_assert_uint_gt(zeros, 10);
  ck_assert_uint_gt(short_file, 10);
}
END_TEST

START_TEST(a_truncate__happens_wholly_or_not_at_all) {
  unsigned whole = 0;
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct box *b = box_new(seed);
    ck_assert_int_eq(put(b, "f", 0, 'a', 10 * SECTOR), 0);
    sync_all(b, "f");
    ck_assert_int_eq(blx__sim_disk_truncate(&b->d, "f", 100).code, 0);
    box_crash(b);
    size_t len = get(b, "f").len;
    ck_assert(len == 100 || len == 10 * SECTOR);
    ck_assert_uint_eq(count_of(b, "f", 'a'), len);
    whole += len == 100;
    box_free(b);
  }
  ck_assert(whole > 5 && whole < 45);
}
END_TEST

START_TEST(names__change_in_order_and_last_with_the_directory_only) {
  unsigned seen[4] = {0};
  for (uint64_t seed = 0; seed < 200; seed++) {
    struct box *b = box_new(seed);
    ck_assert_int_eq(put(b, "old", 0, 'o', 10), 0);
    sync_all(b, "old");
    ck_assert_int_eq(put(b, "new", 0, 'n', 10), 0);
    ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, "new").code, 0);
    ck_assert_int_eq(blx__sim_disk_rename(&b->d, "new", "old").code, 0);
    ck_assert_int_eq(blx__sim_disk_remove(&b->d, "old").code, 0);
    box_crash(b);
    unsigned state = !has(b, "old") ? 3 : count_of(b, "old", 'n') ? 2 : has(b, "new") ? 1 : 0;
    if (has(b, "new")) {
      ck_assert_uint_eq(state, 1);
      ck_assert_uint_eq(count_of(b, "new", 'n'), 10); /* it was synced, whatever it is called */
    }
    seen[state]++;
    box_free(b);
  }
  for (unsigned i = 0; i < 4; i++) ck_assert_uint_gt(seen[i], 5);
}
END_TEST

START_TEST(a_full_disk__takes_nothing_more_and_keeps_what_it_has) {
  struct box *b = box_new(1);
  b->d.size_max = 4 * SECTOR;
  ck_assert_int_eq(put(b, "f", 0, 'a', 3 * SECTOR), 0);
  ck_assert_int_eq(put(b, "g", 0, 'b', SECTOR + 1), BLX_E_NOSPACE);
  ck_assert(!has(b, "g"));
  ck_assert_int_eq(put(b, "g", 0, 'b', SECTOR), 0);
  ck_assert_int_eq(put(b, "f", 3 * SECTOR - 1, 'c', 2), BLX_E_NOSPACE);
  ck_assert_uint_eq(count_of(b, "f", 'a'), 3 * SECTOR);
  ck_assert_int_eq(put(b, "f", SECTOR, 'c', SECTOR), 0); /* what is there can be written again */
  ck_assert_int_eq(blx__sim_disk_truncate(&b->d, "g", SECTOR + 1).code, BLX_E_NOSPACE);
  ck_assert_int_eq(blx__sim_disk_remove(&b->d, "g").code, 0);
  ck_assert_int_eq(put(b, "f", 3 * SECTOR, 'd', SECTOR), 0);
  box_free(b);
}
END_TEST

START_TEST(a_write_that_fails__changes_nothing) {
  struct box *b = box_new(1);
  ck_assert_int_eq(put(b, "f", 0, 'a', 10), 0);
  blx__sim_disk_fail(&b->d, BLX__SIM_DISK_WRITE, BLX_E_IO);
  ck_assert_int_eq(put(b, "f", 0, 'b', 20), BLX_E_IO);
  ck_assert_uint_eq(count_of(b, "f", 'a'), 10);
  ck_assert_int_eq(put(b, "f", 0, 'b', 20), 0); /* once */
  blx__sim_disk_fail(&b->d, BLX__SIM_DISK_WRITE, BLX_E_NOSPACE);
  ck_assert_int_eq(blx__sim_disk_rename(&b->d, "f", "g").code, BLX_E_NOSPACE);
  blx__sim_disk_fail(&b->d, BLX__SIM_DISK_WRITE, BLX_E_IO);
  blx__sim_disk_fail(&b->d, BLX__SIM_DISK_WRITE, 0);
  ck_assert_int_eq(blx__sim_disk_remove(&b->d, "f").code, 0);
  b->d.fail_percent = 50;
  unsigned failed = 0;
  for (unsigned i = 0; i < 100; i++) failed += put(b, "f", 0, 'c', 1) == BLX_E_IO;
  ck_assert(failed > 20 && failed < 80);
  box_free(b);
}
END_TEST

START_TEST(a_sync_that_fails__is_told_and_no_later_one_makes_up_for_it) {
  unsigned lost = 0;
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct box *b = box_new(seed);
    ck_assert_int_eq(put(b, "f", 0, 'a', 10), 0);
    sync_all(b, "f");
    ck_assert_int_eq(put(b, "f", 10, 'b', 10), 0);
    blx__sim_disk_fail(&b->d, BLX__SIM_DISK_SYNC, BLX_E_IO);
    blx__sim_disk_sync(&b->d, "f", on_sync, b);
    blx__sim_run(&b->s, 2000);
    ck_assert_int_eq(b->code, BLX_E_IO);
    ck_assert_uint_eq(count_of(b, "f", 'b'), 10); /* so it still seems */
    sync_all(b, "f");
    box_crash(b);
    ck_assert_uint_eq(count_of(b, "f", 'a'), 10);
    lost += count_of(b, "f", 'b') == 0;
    box_free(b);
  }
  ck_assert(lost > 10 && lost < 50);
}
END_TEST

START_TEST(a_flipped_bit__is_there_also_after_crashes_until_it_is_flipped_back) {
  struct box *b = box_new(1);
  ck_assert_int_eq(put(b, "f", 0, 0x40, 10), 0);
  sync_all(b, "f");
  blx__sim_disk_crash(&b->d);
  ck_assert(blx__sim_disk_flip(&b->d, "f", 3, 0));
  blx__sim_disk_start(&b->d);
  box_crash(b);
  ck_assert_uint_eq(get(b, "f").data[3], 0x41);
  ck_assert_uint_eq(count_of(b, "f", 0x40), 9);
  ck_assert(blx__sim_disk_flip(&b->d, "f", 3, 0));
  ck_assert_uint_eq(count_of(b, "f", 0x40), 10);
  ck_assert(!blx__sim_disk_flip(&b->d, "f", 10, 0));
  ck_assert(!blx__sim_disk_flip(&b->d, "g", 0, 0));
  box_free(b);
}
END_TEST

START_TEST(a_crash__with_writes_in_flight_tells_nobody_and_takes_nothing_more) {
  unsigned there = 0;
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct box *b = box_new(seed);
    for (unsigned i = 0; i < 5; i++) {
      ck_assert_int_eq(put(b, "f", i * SECTOR, (uint8_t)(i + 1), SECTOR), 0);
      blx__sim_disk_sync(&b->d, "f", on_sync, b);
    }
    blx__sim_disk_sync(&b->d, NULL, on_sync, b);
    blx__sim_run(&b->s, 1500); /* some are done, some are not */
    unsigned told = b->syncs;
    blx__sim_disk_crash(&b->d);
    blx__sim_node_stop(&b->s, 1);
    ck_assert_int_eq(put(b, "f", 0, 9, 1), BLX_E_IO);
    ck_assert_int_eq(blx__sim_disk_sync_now(&b->d, NULL).code, BLX_E_IO);
    blx__sim_run(&b->s, 10000);
    ck_assert_uint_eq(b->syncs, told);
    blx__sim_disk_start(&b->d);
    blx__sim_node_start(&b->s, 1);
    if (has(b, "f")) there++;
    ck_assert_int_eq(put(b, "f", 0, 9, SECTOR), 0);
    blx__sim_disk_sync(&b->d, "f", on_sync, b);
    blx__sim_run(&b->s, 2000);
    ck_assert_uint_eq(b->syncs, told + 1);
    box_free(b);
  }
  ck_assert(there > 10 && there < 50);
}
END_TEST

BLX_TEST_MAIN("io/sim", one_seed__is_one_run_and_another_is_another, events__happen_in_order_of_time_then_of_scheduling,
              events_of_a_machine__do_not_outlive_its_crash, a_clock__has_its_own_rate_and_never_goes_back,
              a_clock_that_jumps__takes_the_one_on_the_wall_along, a_cut__is_one_way_and_takes_what_is_under_way,
              a_message__arrives_at_a_machine_that_is_up_only,
              messages__are_lost_doubled_and_overtaken_about_as_often_as_asked, a_file__reads_as_it_was_written,
              names__are_listed_in_order, a_sync__takes_its_time_and_a_disk_that_is_held_never_ends_it,
              bytes_that_were_not_synced__are_sometimes_lost_and_those_that_were_never,
              a_sync__covers_what_was_written_before_it_began_and_no_more,
              a_torn_write__leaves_a_mixture_of_whole_sectors,
              a_longer_file__may_keep_its_length_without_its_bytes_and_the_reverse,
              a_truncate__happens_wholly_or_not_at_all, names__change_in_order_and_last_with_the_directory_only,
              a_full_disk__takes_nothing_more_and_keeps_what_it_has, a_write_that_fails__changes_nothing,
              a_sync_that_fails__is_told_and_no_later_one_makes_up_for_it,
              a_flipped_bit__is_there_also_after_crashes_until_it_is_flipped_back,
              a_crash__with_writes_in_flight_tells_nobody_and_takes_nothing_more)
