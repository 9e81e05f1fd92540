#include "../harness.h"
#include "support_real.h"

#include "io/stream.h"

#include <string.h>
#include <sys/stat.h>

/* Again while a busy machine costs elections: the call goes on where it stopped. */
static void add(struct real *r, uint64_t uid) {
  struct outcome x = {.code = BLX_E_TIMEOUT};
  while (x.code == BLX_E_TIMEOUT) {
    real_until(r, real_has_leader, NULL);
    x = (struct outcome){0};
    if (blx__consensus_add_member(real_leader(r)->c, uid, outcome_cb, &x, NULL).code == 0)
      real_until(r, real_fired, &x);
    else
      x.code = BLX_E_TIMEOUT;
  }
  ck_assert_int_eq(x.code, 0);
}

static bool all_have(struct real *r, void *id) {
  for (unsigned i = 0; i < REAL_MAX; i++)
    if (r->m[i].c && !sim_fsm_log.has(r->m[i].fsm, *(uint64_t *)id)) return false;
  return true;
}

static void three(struct real *r) {
  real_init(r);
  for (unsigned i = 0; i < 3; i++) {
    real_make(r, i, i == 0);
    ck_assert_int_eq(real_open(r, i, NULL), 0);
  }
  add(r, 2);
  add(r, 3);
}

static void all_acknowledged_are_there(struct real *r, uint64_t last) {
  real_until(r, all_have, &last);
  for (unsigned i = 0; i < REAL_MAX; i++)
    for (uint64_t id = 1; r->m[i].c && id <= last; id++)
      ck_assert_msg(sim_fsm_log.has(r->m[i].fsm, id), "operation %u is not on n%u", (unsigned)id, i + 1);
}

START_TEST(three_members__lose_their_leader_and_nothing_else) {
  struct real r;
  three(&r);
  uint64_t id = 0;
  for (unsigned round = 0; round < 5; round++) {
    for (unsigned k = 0; k < 20; k++) real_commit(&r, ++id);
    real_until(&r, real_has_leader, NULL);
    unsigned leader = (unsigned)(real_leader(&r)->uid - 1);
    real_close(&r, leader);
    for (unsigned k = 0; k < 5; k++) real_commit(&r, ++id);
    ck_assert_int_eq(real_open(&r, leader, NULL), 0);
  }
  all_acknowledged_are_there(&r, id);
  real_free(&r);
}
END_TEST

START_TEST(three_members__all_stopped_come_back_as_they_were) {
  struct real r;
  three(&r);
  for (uint64_t id = 1; id <= 30; id++) real_commit(&r, id);
  for (unsigned i = 0; i < 3; i++) real_close(&r, i);
  for (unsigned i = 0; i < 3; i++) ck_assert_int_eq(real_open(&r, i, NULL), 0);
  real_commit(&r, 31);
  all_acknowledged_are_there(&r, 31);
  struct blx__consensus_status a, b;
  blx__consensus_status(r.m[0].c, &a);
  blx__consensus_status(r.m[1].c, &b);
  ck_assert_uint_eq(a.members_count, 3);
  if (a.applied_index == b.applied_index) ck_assert_mem_eq(a.chain, b.chain, sizeof a.chain);
  real_free(&r);
}
END_TEST

START_TEST(a_fourth_member__joins_through_a_snapshot) {
  struct real r;
  three(&r);
  for (unsigned i = 0; i < 3; i++) real_close(&r, i);
  r.snapshot_entries = 10;
  for (unsigned i = 0; i < 3; i++) ck_assert_int_eq(real_open(&r, i, NULL), 0);
  for (uint64_t id = 1; id <= 60; id++) real_commit(&r, id);
  real_make(&r, 3, false);
  ck_assert_int_eq(real_open(&r, 3, NULL), 0);
  add(&r, 4);
  real_commit(&r, 61);
  all_acknowledged_are_there(&r, 61);
  struct blx__consensus_status s;
  blx__consensus_status(r.m[3].c, &s);
  ck_assert_uint_gt(s.snapshot_index, 0);
  real_close(&r, 3);
  ck_assert_int_eq(real_open(&r, 3, NULL), 0);
  real_commit(&r, 62);
  all_acknowledged_are_there(&r, 62);
  real_free(&r);
}
END_TEST

START_TEST(leadership__moves_on_request) {
  struct real r;
  three(&r);
  uint64_t to = 0;
  struct outcome x = {.code = BLX_E_TIMEOUT};
  while (x.code == BLX_E_TIMEOUT) { /* on a busy machine the other one may be slower than an election timeout */
    real_until(&r, real_has_leader, NULL);
    to = real_leader(&r)->uid % 3 + 1;
    x = (struct outcome){0};
    ck_assert_int_eq(blx__consensus_transfer(real_leader(&r)->c, to, outcome_cb, &x, NULL).code, 0);
    real_until(&r, real_fired, &x);
  }
  ck_assert_int_eq(x.code, 0);
  real_commit(&r, 1);
  ck_assert_uint_eq(real_leader(&r)->uid, to);
  real_free(&r);
}
END_TEST

static int stand_by(struct real *r, uint64_t uid) {
  struct outcome x = {.code = BLX_E_TIMEOUT};
  while (x.code == BLX_E_TIMEOUT) {
    real_until(r, real_has_leader, NULL);
    x = (struct outcome){0};
    blx_error err;
    blx__rc rc = blx__consensus_stand_by(real_leader(r)->c, uid, outcome_cb, &x, &err);
    if (rc.code != 0) return rc.code;
    real_until(r, real_fired, &x);
  }
  return x.code;
}

static enum blx__consensus_membership membership(struct real *r, uint64_t uid) {
  struct blx__consensus_status s;
  real_until(r, real_has_leader, NULL);
  blx__consensus_status(real_leader(r)->c, &s);
  for (uint32_t i = 0; i < s.members_count; i++)
    if (s.members[i].uid == uid) return s.members[i].membership;
  ck_abort_msg("no member %u", (unsigned)uid);
}

START_TEST(a_voter__stands_by_has_the_log_and_votes_again) {
  struct real r;
  three(&r);
  real_until(&r, real_has_leader, NULL);
  uint64_t leader = real_leader(&r)->uid, third = leader % 3 + 1;
  ck_assert_int_eq(stand_by(&r, leader), BLX_E_CONFLICT);
  ck_assert_int_eq(stand_by(&r, third), 0);
  ck_assert_int_eq(membership(&r, third), BLX__MEMBER_STANDBY);
  ck_assert_int_eq(stand_by(&r, third), 0);
  for (uint64_t id = 1; id <= 10; id++) real_commit(&r, id);
  all_acknowledged_are_there(&r, 10);
  real_close(&r, (unsigned)(third - 1));
  real_commit(&r, 11);
  ck_assert_int_eq(real_open(&r, (unsigned)(third - 1), NULL), 0);
  add(&r, third);
  ck_assert_int_eq(membership(&r, third), BLX__MEMBER_VOTER);
  real_commit(&r, 12);
  all_acknowledged_are_there(&r, 12);
  real_free(&r);
}
END_TEST

START_TEST(a_new_member__may_come_to_stand_by) {
  struct real r;
  three(&r);
  real_make(&r, 3, false);
  ck_assert_int_eq(real_open(&r, 3, NULL), 0);
  ck_assert_int_eq(stand_by(&r, 4), 0);
  ck_assert_int_eq(membership(&r, 4), BLX__MEMBER_STANDBY);
  real_commit(&r, 1);
  all_acknowledged_are_there(&r, 1);
  real_close(&r, 3);
  real_commit(&r, 2);
  ck_assert_int_eq(real_open(&r, 3, NULL), 0);
  all_acknowledged_are_there(&r, 2);
  real_free(&r);
}
END_TEST

/* ---- the sockets themselves */

struct probe {
  struct blx__stream *stream;
  bool closed;
};

static void probe_bytes(void *user, const uint8_t *bytes, size_t size) {
  (void)user;
  (void)bytes;
  (void)size;
}

static void probe_closed(void *user, const blx_error *why) {
  (void)why;
  ((struct probe *)user)->closed = true;
}

static const struct blx__stream_ops probe_ops = {.on_bytes = probe_bytes, .on_closed = probe_closed};

static bool probe_is_closed(struct real *r, void *probe) {
  (void)r;
  return ((struct probe *)probe)->closed;
}

START_TEST(peers__cut_who_speaks_wrongly_or_not_at_all) {
  struct real r;
  real_init(&r);
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  struct stat st;
  ck_assert_int_eq(stat(r.m[0].socket, &st), 0);
  ck_assert_uint_eq(st.st_mode & 07777, 0660);
  static const uint8_t wrong[64] = "GET / HTTP/1.1\r\n";
  static const uint8_t one[1] = "B";
  const struct blx__slice said[] = {{wrong, sizeof wrong}, {one, sizeof one}};
  for (unsigned i = 0; i < 2; i++) {
    struct probe p = {0};
    ck_assert_int_eq(blx__stream_connect(r.loop, r.m[0].socket, &probe_ops, &p, &p.stream, NULL).code, 0);
    ck_assert(blx__stream_write(p.stream, said[i].data, said[i].len));
    real_until(&r, probe_is_closed, &p);
  }
  real_commit(&r, 1);
  real_free(&r);
}
END_TEST

START_TEST(peers__with_an_absurd_length_are_cut) {
  struct real r;
  real_init(&r);
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  uint8_t bytes[44 + 8] = "BLXPEER1\1\0\0\0a test cluster";
  bytes[28] = 2; /* from */
  bytes[36] = 1; /* to */
  memset(bytes + 44, 0xff, 4);
  bytes[48] = 1;
  bytes[49] = RAFT_IO_INSTALL_SNAPSHOT;
  struct probe p = {0};
  ck_assert_int_eq(blx__stream_connect(r.loop, r.m[0].socket, &probe_ops, &p, &p.stream, NULL).code, 0);
  ck_assert(blx__stream_write(p.stream, bytes, sizeof bytes));
  real_until(&r, probe_is_closed, &p);
  real_free(&r);
}
END_TEST

BLX_TEST_MAIN("consensus/members", three_members__lose_their_leader_and_nothing_else,
              three_members__all_stopped_come_back_as_they_were, a_fourth_member__joins_through_a_snapshot,
              leadership__moves_on_request, a_voter__stands_by_has_the_log_and_votes_again,
              a_new_member__may_come_to_stand_by, peers__cut_who_speaks_wrongly_or_not_at_all,
              peers__with_an_absurd_length_are_cut)
