#include "../harness.h"
#include "support.h"

#include <string.h>

static void fill(struct t *t) {
  char sha256[65];
  struct blx_quota quota = BLX_QUOTA_INIT;
  t_open_cluster(t, 2);
  ck_assert_int_eq(t_config(t, "{ }", sha256), 0);
  quota.has_instances = 1;
  quota.instances = 5;
  ck_assert_int_eq(t_quota(t, &quota), 0);
  struct blx_vm_spec spec = t_spec("web", 3);
  spec.config_sha256 = sha256;
  t->request_id = "r1";
  t->digest = "d";
  ck_assert_int_eq(t_create(t, &spec, BLX_DESIRED_RUNNING), 0);
  t->request_id = NULL;
  ck_assert_int_eq(t_assign(t, "web-1", 1), 0);
  ck_assert_int_eq(t_assign(t, "web-2", 2), 0);
  ck_assert_int_eq(t_report(t, "web-2", (struct t_seen){.phase = BLX_PHASE_FAILED, .dead = true}), 0);
}

static void take(const struct t *t, struct blx__buf *b) {
  blx__buf_init(b, 1 << 20);
  ck_assert_int_eq(blx__state_snapshot(t->st, b, NULL).code, 0);
}

START_TEST(a_restored_state__is_the_same_and_goes_on_the_same) {
  struct t t, u;
  fill(&t);
  struct blx__buf b;
  take(&t, &b);
  t_open(&u, 0);
  ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  u.index = t.index;
  u.time_ms = t.time_ms += 5000;
  for (int turn = 0; turn < 2; turn++) {
    uint8_t x[BLX__SHA256_BYTES], y[BLX__SHA256_BYTES];
    ck_assert_int_eq(blx__state_digest(t.st, x, NULL).code, 0);
    ck_assert_int_eq(blx__state_digest(u.st, y, NULL).code, 0);
    ck_assert_mem_eq(x, y, sizeof x);
    ck_assert_int_eq(t_assign(&t, "web-2", 1), 0);
    ck_assert_int_eq(t_assign(&u, "web-2", 1), 0);
    ck_assert_int_eq(t_scale(&u, "web", 6), BLX_E_QUOTA);
    ck_assert_int_eq(t_scale(&t, "web", 6), BLX_E_QUOTA);
    ck_assert_int_eq(t_report(&t, "web-2", (struct t_seen){.phase = BLX_PHASE_FAILED, .dead = true}), 0);
    ck_assert_int_eq(t_report(&u, "web-2", (struct t_seen){.phase = BLX_PHASE_FAILED, .dead = true}), 0);
    t.time_ms = u.time_ms += 5000;
  }
  t_check_indexes(&u);
  blx__buf_free(&b);
  t_close(&u);
  t_close(&t);
}
END_TEST

/* All that can be replaced or dropped is, while it is frozen. */
START_TEST(what_is_frozen__is_written_as_it_was_whatever_comes_after) {
  struct t t;
  fill(&t);
  struct blx__buf then, later, after;
  take(&t, &then);
  struct blx__state_frozen *z = blx__state_freeze(t.st, NULL), *second = blx__state_freeze(t.st, NULL);
  ck_assert(z && second);
  t.time_ms += 5000;
  ck_assert_int_eq(t_assign(&t, "web-2", 1), 0);
  ck_assert_int_eq(t_report(&t, "web-2", (struct t_seen){.phase = BLX_PHASE_RUNNING}), 0);
  ck_assert_int_eq(t_desire(&t, "web", BLX_DESIRED_STOPPED), 0);
  ck_assert_int_eq(t_delete(&t, "web"), 0);
  ck_assert_int_eq(t_quota_remove(&t, NULL), 0);
  blx__state_thaw(t.st, second);
  blx__buf_init(&later, 1 << 20);
  ck_assert_int_eq(blx__state_write(z, &later, NULL).code, 0);
  ck_assert_uint_eq(later.len, then.len);
  ck_assert_mem_eq(later.data, then.data, then.len);
  blx__state_thaw(t.st, z);
  take(&t, &after);
  ck_assert(after.len != then.len || memcmp(after.data, then.data, then.len) != 0);
  blx__buf_free(&then);
  blx__buf_free(&later);
  blx__buf_free(&after);
  t_close(&t);
}
END_TEST

START_TEST(a_damaged_snapshot__is_corrupt_or_refused_and_leaves_the_state_alone) {
  struct t t, u;
  fill(&t);
  struct blx__buf b;
  take(&t, &b);
  t_open_cluster(&u, 1);
  uint8_t before[BLX__SHA256_BYTES], after[BLX__SHA256_BYTES];
  ck_assert_int_eq(blx__state_digest(u.st, before, NULL).code, 0);
  for (size_t cut = 0; cut < b.len; cut++) {
    blx_error err = {0};
    ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, cut}, &err).code, BLX_E_CORRUPT);
  }
  ck_assert(blx__buf_add_byte(&b, 0));
  ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code, BLX_E_CORRUPT);
  ck_assert_int_eq(blx__state_digest(u.st, after, NULL).code, 0);
  ck_assert_mem_eq(before, after, sizeof before);
  t_check_indexes(&u);
  blx__buf_free(&b);
  t_close(&u);
  t_close(&t);
}
END_TEST

/* The file's checksum is the consensus layer's; here a flipped bit may give another legal state, never a crash. */
START_TEST(a_flipped_bit__never_crashes_a_restore) {
  struct t t, u;
  fill(&t);
  struct blx__buf b;
  take(&t, &b);
  t_open(&u, 0);
  unsigned refused = 0;
  for (size_t bit = 0; bit < b.len * 8; bit += 3) {
    b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    refused += blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code != 0;
    b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  ck_assert_uint_gt(refused, 0);
  ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  blx__buf_free(&b);
  t_close(&u);
  t_close(&t);
}
END_TEST

START_TEST(a_snapshot_that_does_not_fit__is_busy_and_adds_nothing) {
  struct t t;
  fill(&t);
  struct blx__buf b;
  blx__buf_init(&b, 300);
  ck_assert(blx__buf_add_str(&b, "abc"));
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, BLX_E_BUSY);
  ck_assert_uint_eq(b.len, 3);
  blx__buf_free(&b);
  t_close(&t);
}
END_TEST

START_TEST(an_empty_state__can_be_snapshot_and_restored) {
  struct t t, u;
  t_open(&t, 0);
  struct blx__buf b;
  take(&t, &b);
  fill(&u);
  ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  ck_assert_uint_eq(blx__state_counts(u.st).nodes, 0);
  ck_assert_str_eq(blx__state_cluster_id(u.st), "");
  blx__buf_free(&b);
  t_close(&u);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/snapshot", what_is_frozen__is_written_as_it_was_whatever_comes_after,
              a_restored_state__is_the_same_and_goes_on_the_same,
              a_damaged_snapshot__is_corrupt_or_refused_and_leaves_the_state_alone,
              a_flipped_bit__never_crashes_a_restore, a_snapshot_that_does_not_fit__is_busy_and_adds_nothing,
              an_empty_state__can_be_snapshot_and_restored)
