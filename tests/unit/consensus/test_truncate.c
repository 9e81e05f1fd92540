/* A snapshot waits for what somebody else keeps of the entries before it. */
#include "../harness.h"
#include "support_real.h"

#include "io/file.h"

#include <string.h>

static bool allowed;
static uint64_t asked_index;

static bool may_truncate(void *member, uint64_t index) {
  (void)member;
  asked_index = index;
  return allowed;
}

static bool was_asked(struct real *r, void *arg) {
  (void)r;
  (void)arg;
  return asked_index > 0;
}

static bool has_snapshot(struct real *r, void *arg) {
  char path[REAL_PATH + 16];
  struct blx__buf bytes;
  (void)arg;
  blx__buf_init(&bytes, 1 << 20);
  ck_assert(blx__str_format(path, sizeof path, "%s/snapshot", r->m[0].dir));
  bool there = blx__file_read(path, 1 << 20, &bytes, NULL).code == 0 && bytes.len > 0;
  blx__buf_free(&bytes);
  return there;
}

static void fill(struct real *r, uint64_t from, uint64_t to) {
  for (uint64_t id = from; id <= to; id++) real_commit(r, id);
}

static void begin(struct real *r) {
  real_init(r);
  r->snapshot_entries = 10;
  r->may_truncate = may_truncate;
  allowed = false;
  asked_index = 0;
  real_make(r, 0, true);
  ck_assert_int_eq(real_open(r, 0, NULL), 0);
}

START_TEST(a_snapshot__is_put_on_the_disk_when_it_may_and_not_before) {
  struct real r;
  begin(&r);
  fill(&r, 1, 20);
  real_until(&r, was_asked, NULL);
  ck_assert(!has_snapshot(&r, NULL));
  fill(&r, 21, 60); /* the log grows, and nothing else stops */
  ck_assert(!has_snapshot(&r, NULL));
  real_close(&r, 0); /* as after a crash: all comes from the log */
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  real_until(&r, real_has_leader, NULL);
  for (uint64_t id = 1; id <= 60; id++) ck_assert(sim_fsm_log.has(r.m[0].fsm, id));
  fill(&r, 61, 80);
  real_until(&r, was_asked, NULL);
  ck_assert(!has_snapshot(&r, NULL));
  allowed = true;
  real_until(&r, has_snapshot, NULL);
  real_close(&r, 0);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  real_until(&r, real_has_leader, NULL);
  for (uint64_t id = 1; id <= 80; id++) ck_assert(sim_fsm_log.has(r.m[0].fsm, id));
  real_free(&r);
}
END_TEST

START_TEST(a_member_that_stops_itself__closes_though_its_snapshot_waits) {
  struct real r;
  begin(&r);
  fill(&r, 1, 20);
  real_until(&r, was_asked, NULL);
  blx__consensus_poison(r.m[0].c, BLX_E_IO, "the test says so");
  real_close(&r, 0);
  real_free(&r);
}
END_TEST

BLX_TEST_MAIN("consensus/truncate", a_snapshot__is_put_on_the_disk_when_it_may_and_not_before,
              a_member_that_stops_itself__closes_though_its_snapshot_waits)
