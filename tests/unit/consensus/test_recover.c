/* The only survivor of a group: what its directory says of itself, and what becomes of it. */
#include "../harness.h"
#include "support_real.h"

#include "consensus/recover.h"
#include "io/file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BELOW = 4 };

static const uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES] = "a test cluster";

static bool added(struct real *r, void *outcome) {
  (void)r;
  return ((struct outcome *)outcome)->fired > 0;
}

static void add(struct real *r, unsigned i) {
  for (;;) {
    struct outcome o = {0};
    real_until(r, real_has_leader, NULL);
    blx_error err = {0};
    if (blx__consensus_add_member(real_leader(r)->c, r->m[i].uid, outcome_cb, &o, &err).code != 0) continue;
    real_until(r, added, &o);
    if (o.code == 0) return;
  }
}

/* Three members, operations 1..@last, all closed. */
static void three(struct real *r, uint64_t last) {
  real_init(r);
  for (unsigned i = 0; i < 3; i++) {
    real_make(r, i, i == 0);
    ck_assert_int_eq(real_open(r, i, NULL), 0);
    if (i > 0) add(r, i);
  }
  for (uint64_t id = 1; id <= last; id++) real_commit(r, id);
  for (unsigned i = 0; i < 3; i++) real_close(r, i);
}

static void look(struct real *r, unsigned i, struct blx__consensus_found *out) {
  blx_error err = {0};
  ck_assert_msg(blx__consensus_look(r->m[i].dir, NULL, out, &err).code == 0, "%s", err.message);
}

static uint64_t recover(struct real *r, unsigned i, uint64_t term) {
  struct blx__consensus_found found;
  blx_error err = {0};
  uint64_t got = 0;
  look(r, i, &found);
  const struct blx__consensus_recovery how = {
      .term = term, .below = BELOW, .last_index = found.last_index, .last_term = found.last_term};
  ck_assert_msg(blx__consensus_recover(r->m[i].dir, &how, &got, &err).code == 0, "%s", err.message);
  ck_assert(got > term && got > found.term);
  return got;
}

static bool serves(struct real *r, void *member) {
  (void)r;
  struct blx__consensus_status s;
  blx__consensus_status(((struct real_member *)member)->c, &s);
  return s.role == BLX__ROLE_LEADER;
}

static bool later(struct real *r, void *at_ms) {
  return blx__loop_now_ms(r->loop) >= *(uint64_t *)at_ms;
}

static void run_for(struct real *r, uint64_t ms) {
  uint64_t at = blx__loop_now_ms(r->loop) + ms;
  real_until(r, later, &at);
}

static void commit_on(struct real *r, unsigned i, uint64_t id) {
  uint8_t op[16] = {0};
  struct outcome o = {0};
  blx_error err = {0};
  memcpy(op, &id, sizeof id);
  ck_assert_msg(blx__consensus_propose(r->m[i].c, (struct blx__slice){op, sizeof op}, outcome_cb, &o, &err).code == 0,
                "%s", err.message);
  real_until(r, real_fired, &o);
  ck_assert_int_eq(o.code, 0);
}

static void has_all(struct real *r, unsigned i, uint64_t last) {
  for (uint64_t id = 1; id <= last; id++)
    ck_assert_msg(sim_fsm_log.has(r->m[i].fsm, id), "operation %u is gone", (unsigned)id);
}

START_TEST(a_look__says_what_the_directory_holds_and_changes_nothing) {
  struct real r;
  struct blx__consensus_found a, b;
  three(&r, 30);
  look(&r, 0, &a);
  look(&r, 0, &b);
  ck_assert_mem_eq(&a, &b, sizeof a);
  ck_assert_uint_eq(a.uid, 1);
  ck_assert_mem_eq(a.cluster_id, cluster_id, sizeof a.cluster_id);
  ck_assert_uint_eq(a.members_count, 3);
  for (unsigned i = 0; i < 3; i++) {
    ck_assert_uint_eq(a.members[i].uid, i + 1);
    ck_assert_int_eq(a.members[i].membership, BLX__MEMBER_VOTER);
  }
  ck_assert(a.last_index > 30 && a.term >= a.last_term && a.last_term > 0 && a.time_ms > 0);
  real_free(&r);
}
END_TEST

START_TEST(a_look__gives_all_that_a_snapshot_and_the_log_hold) {
  struct real r;
  struct blx__consensus_found found;
  real_init(&r);
  r.snapshot_entries = 20;
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  for (uint64_t id = 1; id <= 90; id++) real_commit(&r, id);
  real_close(&r, 0);
  void *state = sim_fsm_log.create();
  struct blx__fsm fsm;
  sim_fsm_log.bind(state, &fsm);
  blx_error err = {0};
  ck_assert_msg(blx__consensus_look(r.m[0].dir, &fsm, &found, &err).code == 0, "%s", err.message);
  ck_assert_uint_gt(found.snapshot_index, 0);
  for (uint64_t id = 1; id <= 90; id++) ck_assert(sim_fsm_log.has(state, id));
  sim_fsm_log.destroy(state);
  ck_assert_uint_eq(found.members_count, 1);
  real_free(&r);
}
END_TEST

START_TEST(a_survivor__leads_alone_with_all_of_its_log_in_a_term_above_all) {
  struct real r;
  three(&r, 40);
  uint64_t term = recover(&r, 2, 1000);
  struct blx__consensus_found found;
  look(&r, 2, &found);
  ck_assert_uint_eq(found.members_count, 1);
  ck_assert_uint_eq(found.members[0].uid, 3);
  ck_assert_uint_eq(found.last_term, term);
  blx_error err = {0};
  ck_assert_msg(real_open(&r, 2, &err) == 0, "%s", err.message); /* the mark does not refuse it */
  real_until(&r, serves, &r.m[2]);
  struct blx__consensus_status s;
  blx__consensus_status(r.m[2].c, &s);
  ck_assert_uint_gt(s.term, term);
  ck_assert_uint_eq(blx__consensus_gone_below(r.m[2].c), BELOW);
  commit_on(&r, 2, 41); /* what is before it is applied when that is answered */
  has_all(&r, 2, 41);
  real_make(&r, 3, false); /* a wiped one, under a new uid */
  ck_assert_int_eq(real_open(&r, 3, NULL), 0);
  add(&r, 3);
  commit_on(&r, 2, 42);
  real_close(&r, 2);
  real_close(&r, 3);
  look(&r, 3, &found);
  ck_assert_uint_eq(found.members_count, 2);
  real_free(&r);
}
END_TEST

/* All of the old group come back, and are a majority among themselves. */
static bool stays_leader(bool barred) {
  struct real r;
  three(&r, 20);
  recover(&r, 0, 0);
  char path[REAL_PATH + 16];
  ck_assert(blx__str_format(path, sizeof path, "%s/recovered", r.m[0].dir));
  if (!barred) ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  real_until(&r, serves, &r.m[0]);
  struct blx__consensus_status before, after;
  blx__consensus_status(r.m[0].c, &before);
  bool kept = true;
  for (unsigned round = 0; round < 6 && kept; round++) { /* each of their elections raises their term */
    for (unsigned i = 1; i < 3; i++) ck_assert_int_eq(real_open(&r, i, NULL), 0);
    run_for(&r, 900);
    for (unsigned i = 1; i < 3; i++) real_close(&r, i);
    blx__consensus_status(r.m[0].c, &after);
    kept = after.role == BLX__ROLE_LEADER && after.term == before.term && r.m[0].fatal_code == 0;
  }
  if (kept) {
    commit_on(&r, 0, 21);
    has_all(&r, 0, 21);
  }
  real_free(&r);
  return kept;
}

START_TEST(old_members_that_come_back__disturb_nothing) {
  ck_assert(stays_leader(true));
}
END_TEST

/* Why the file is needed: to be no member of the group does not keep anybody out. */
START_TEST(old_members_that_come_back__would_take_over_without_the_list) {
  ck_assert(!stays_leader(false));
}
END_TEST

START_TEST(a_recovery_that_was_cut_off__has_not_taken_place) {
  struct real r;
  struct blx__consensus_found found;
  char copy[REAL_PATH + 32], line[600];
  three(&r, 10);
  ck_assert(blx__str_format(copy, sizeof copy, "%s.before", r.m[0].dir));
  ck_assert(blx__str_format(line, sizeof line, "cp -a '%s' '%s'", r.m[0].dir, copy));
  ck_assert_int_eq(system(line), 0);
  recover(&r, 0, 0);
  /* Only its first file came to the disk. */
  ck_assert(blx__str_format(line, sizeof line, "cp '%s/recovered' '%s/' && rm -r '%s' && mv '%s' '%s'", r.m[0].dir,
                            copy, r.m[0].dir, copy, r.m[0].dir));
  ck_assert_int_eq(system(line), 0);
  for (unsigned i = 0; i < 3; i++) ck_assert_int_eq(real_open(&r, i, NULL), 0);
  for (uint64_t id = 11; id <= 15; id++) real_commit(&r, id);
  struct blx__consensus_status s;
  blx__consensus_status(r.m[0].c, &s);
  ck_assert_uint_eq(blx__consensus_gone_below(r.m[0].c), 0);
  ck_assert_uint_eq(s.members_count, 3);
  for (unsigned i = 0; i < 3; i++) real_close(&r, i);
  ck_assert(blx__str_format(line, sizeof line, "%s/recovered", r.m[0].dir));
  ck_assert_int_ne(access(line, F_OK), 0);
  look(&r, 0, &found);
  ck_assert_uint_eq(found.members_count, 3);
  real_free(&r);
}
END_TEST

START_TEST(a_recovery__is_refused_when_in_use_changed_damaged_or_nobodys) {
  struct real r;
  struct blx__consensus_found found;
  blx_error err = {0};
  uint64_t term = 0;
  char path[REAL_PATH + 16];
  three(&r, 10);
  look(&r, 0, &found);
  struct blx__consensus_recovery how = {.below = BELOW, .last_index = found.last_index, .last_term = found.last_term};
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  ck_assert_int_eq(blx__consensus_look(r.m[0].dir, NULL, &found, &err).code, BLX_E_BUSY);
  ck_assert_int_eq(blx__consensus_recover(r.m[0].dir, &how, &term, &err).code, BLX_E_BUSY);
  real_close(&r, 0);
  how.last_index++;
  ck_assert_int_eq(blx__consensus_recover(r.m[0].dir, &how, &term, &err).code, BLX_E_CONFLICT);
  ck_assert_int_eq(blx__consensus_look(r.root, NULL, &found, &err).code, BLX_E_NOT_FOUND);
  ck_assert(blx__str_format(path, sizeof path, "%s/mark", r.m[0].dir));
  ck_assert_int_eq(truncate(path, 0), 0);
  ck_assert_int_eq(blx__consensus_look(r.m[0].dir, NULL, &found, &err).code, BLX_E_CORRUPT);
  ck_assert_int_eq(blx__consensus_recover(r.m[0].dir, &how, &term, &err).code, BLX_E_CORRUPT);
  real_free(&r);
}
END_TEST

START_TEST(a_damaged_list_of_who_is_gone__refuses_the_start) {
  struct real r;
  char path[REAL_PATH + 16];
  blx_error err = {0};
  three(&r, 5);
  recover(&r, 0, 0);
  ck_assert(blx__str_format(path, sizeof path, "%s/recovered", r.m[0].dir));
  FILE *f = fopen(path, "r+");
  ck_assert_ptr_nonnull(f);
  ck_assert_int_eq(fseek(f, 28, SEEK_SET), 0);
  ck_assert_int_ne(fputc('9', f), EOF);
  ck_assert_int_eq(fclose(f), 0);
  ck_assert_int_eq(real_open(&r, 0, &err), BLX_E_CORRUPT);
  ck_assert_ptr_nonnull(strstr(err.message, "recovered"));
  real_free(&r);
}
END_TEST

static bool has_the_last(struct real *r, void *member) {
  (void)r;
  return sim_fsm_log.has(((struct real_member *)member)->fsm, 32);
}

START_TEST(a_group_that_begins_with_a_state__has_it_and_goes_on) {
  struct real r;
  struct blx__fsm fsm;
  struct blx__buf payload;
  blx_error err = {0};
  real_init(&r);
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  for (uint64_t id = 1; id <= 30; id++) real_commit(&r, id);
  sim_fsm_log.bind(r.m[0].fsm, &fsm);
  blx__buf_init(&payload, 1 << 20);
  void *frozen = fsm.freeze(fsm.user, &err);
  ck_assert_int_eq(fsm.write(frozen, &payload, &err).code, 0);
  fsm.thaw(fsm.user, frozen);
  real_close(&r, 0);

  real_make(&r, 1, false);
  struct blx__consensus_seed seed = {.uid = 2, .index = 500, .time_ms = 77, .payload = {payload.data, payload.len}};
  memcpy(seed.cluster_id, cluster_id, sizeof cluster_id);
  ck_assert_msg(blx__consensus_bootstrap_from(r.m[1].dir, &seed, &err).code == 0, "%s", err.message);
  ck_assert_int_eq(blx__consensus_bootstrap_from(r.m[1].dir, &seed, &err).code, BLX_E_EXISTS);
  ck_assert_int_eq(real_open(&r, 1, &err), 0);
  real_until(&r, serves, &r.m[1]);
  has_all(&r, 1, 30);
  commit_on(&r, 1, 31);
  struct blx__consensus_status s;
  blx__consensus_status(r.m[1].c, &s);
  ck_assert_uint_gt(s.applied_index, 500);
  ck_assert_uint_eq(s.members_count, 1);
  real_close(&r, 1);
  ck_assert_int_eq(real_open(&r, 1, &err), 0); /* and after a restart, and on a later member */
  real_make(&r, 2, false);
  ck_assert_int_eq(real_open(&r, 2, &err), 0);
  add(&r, 2);
  commit_on(&r, 1, 32);
  real_until(&r, has_the_last, &r.m[2]);
  has_all(&r, 2, 32);
  blx__buf_free(&payload);
  real_free(&r);
}
END_TEST

BLX_TEST_MAIN("consensus/recover", a_look__says_what_the_directory_holds_and_changes_nothing,
              a_look__gives_all_that_a_snapshot_and_the_log_hold,
              a_survivor__leads_alone_with_all_of_its_log_in_a_term_above_all,
              old_members_that_come_back__disturb_nothing, old_members_that_come_back__would_take_over_without_the_list,
              a_recovery_that_was_cut_off__has_not_taken_place,
              a_recovery__is_refused_when_in_use_changed_damaged_or_nobodys,
              a_damaged_list_of_who_is_gone__refuses_the_start, a_group_that_begins_with_a_state__has_it_and_goes_on)
