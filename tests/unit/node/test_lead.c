/* Cluster time, whatever the clocks on the walls say. */
#include "../harness.h"

#include "node/node_int.h"

enum { WALL_MS = 1700000000, HOUR_MS = 3600000, DAY_MS = 24 * HOUR_MS };

static struct blx__lead_median at(uint64_t wall_ms, uint64_t now_ms) {
  int64_t off = (int64_t)wall_ms - (int64_t)now_ms;
  return (struct blx__lead_median){true, off, off};
}

static const struct blx__lead_median unknown;

START_TEST(cluster_time__goes_on_when_the_walls_were_set_back) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, unknown);
  struct blx__lead_median wall = at(WALL_MS - HOUR_MS, 1000);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 1000, wall), WALL_MS);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 11000, wall), WALL_MS + 9000);
}
END_TEST

START_TEST(cluster_time__comes_to_walls_set_forward_a_tenth_faster) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, unknown);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 11000, at(WALL_MS + HOUR_MS, 11000)), WALL_MS + 11000);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 11000, at(WALL_MS + 10500, 11000)), WALL_MS + 10500);
}
END_TEST

START_TEST(cluster_time__does_not_lose_what_commits_take) {
  struct blx__lead_clock c = {0};
  struct blx__lead_median wall = at(WALL_MS, 1000);
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, unknown);
  /* Always one entry under way, 5 ms each: proposed when the one before is applied. */
  for (uint64_t now = 1000; now < 61000; now += 5) {
    uint64_t stamp = blx__lead_clock_read(&c, now, wall);
    blx__lead_clock_seen(&c, true, stamp, now + 5, wall);
  }
  ck_assert_uint_eq(blx__lead_clock_read(&c, 61000, wall), WALL_MS + 60000);
}
END_TEST

START_TEST(walls_set_after_a_day__do_not_count_for_the_day) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, unknown);
  blx__lead_clock_seen(&c, true, WALL_MS + DAY_MS, 1000 + DAY_MS, at(WALL_MS, 1000));
  uint64_t now = 1000 + DAY_MS + 500;
  ck_assert_uint_le(blx__lead_clock_read(&c, now, at(WALL_MS + DAY_MS + HOUR_MS, now)), WALL_MS + DAY_MS + 550);
}
END_TEST

START_TEST(follower__takes_the_leaders_time_as_it_is_and_its_own_wall_for_nothing) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, unknown);
  blx__lead_clock_seen(&c, false, WALL_MS + 60000, 61000, unknown);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 61000, unknown), WALL_MS + 60000);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 71000, unknown), WALL_MS + 70000);
}
END_TEST

/* ---- the median */

static struct blx__lead_median of(size_t voters, size_t count, const int64_t *walls) {
  int64_t copy[8];
  for (size_t i = 0; i < count; i++) copy[i] = walls[i];
  return blx__lead_median(copy, count, voters);
}

#define OF(voters, ...) of(voters, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__})

#define IS(median, low, high)                        \
  do {                                               \
    struct blx__lead_median is_ = (median);          \
    ck_assert(is_.known);                            \
    ck_assert_int_eq((int)is_.low_ms, (int)(low));   \
    ck_assert_int_eq((int)is_.high_ms, (int)(high)); \
  } while (0)

START_TEST(median__of_an_odd_number_is_the_middle_one_and_of_an_even_one_both) {
  IS(OF(1, 70), 70, 70);
  IS(OF(3, 100, -5, 70), 70, 70);
  IS(OF(5, 1, 5, 2, 4, 3), 3, 3);
  IS(OF(2, 9, 7), 7, 9);
  IS(OF(4, 8, 2, 6, 4), 4, 6);
}
END_TEST

START_TEST(median__is_not_known_before_a_majority_is_heard_from) {
  ck_assert(!OF(3, 70).known);
  IS(OF(3, 70, 70), 70, 70);
  ck_assert(!OF(4, 1, 2).known);
  ck_assert(!OF(5, 1, 2).known);
  ck_assert(!blx__lead_median(NULL, 0, 1).known);
}
END_TEST

/* A whole second each time, an hour of them. */
static int64_t drift(size_t voters, size_t count, const int64_t *walls) {
  struct blx__lead_clock c = {.ms = WALL_MS, .at_ms = 1000};
  struct blx__lead_median wall = of(voters, count, walls);
  uint64_t now = 1000;
  for (int i = 0; i < 3600; i++) {
    now += 1000;
    blx__lead_clock_seen(&c, true, c.ms, now, wall);
  }
  return (int64_t)blx__lead_clock_read(&c, now, wall) - (WALL_MS + HOUR_MS);
}

START_TEST(one_of_three_that_lies__moves_nothing_nor_does_it_when_only_one_other_is_heard_from) {
  const int64_t right = WALL_MS - 1000, late = right + DAY_MS, early = right - DAY_MS;
  ck_assert_int_eq(drift(3, 3, (int64_t[]){right, late, right}), 0);
  ck_assert_int_eq(drift(3, 3, (int64_t[]){early, right, right}), 0);
  ck_assert_int_eq(drift(3, 2, (int64_t[]){right, late}), 0);
  ck_assert_int_eq(drift(3, 2, (int64_t[]){early, right}), 0);
  ck_assert_int_eq(drift(3, 1, (int64_t[]){late}), 0);
  ck_assert_int_eq(drift(5, 5, (int64_t[]){late, right, late, right, right}), 0);
  /* Two of three are right by definition. */
  ck_assert_int_eq(drift(3, 3, (int64_t[]){late, right, late}), HOUR_MS / 10);
}
END_TEST

/* ---- what is heard of the voters */

static void apply(struct blx__state *st, uint64_t index, const struct blx_op *op) {
  struct blx__buf bytes, result;
  blx_error err;
  blx__buf_init(&bytes, 1 << 20);
  blx__buf_init(&result, 1 << 20);
  ck_assert_int_eq(blx__msg_encode(blx__desc_op(), op, &bytes, &err).code, 0);
  blx__state_begin(st, index, WALL_MS);
  blx__state_apply(st, (struct blx__slice){bytes.data, bytes.len}, &result);
  blx__state_end(st);
  blx__buf_free(&bytes);
  blx__buf_free(&result);
}

/* Nodes n1..n4 of incarnation 1; all but n4 vote. */
static struct blx__state *state_of_four(void) {
  struct blx__state_options options = {0};
  struct blx__state *st = blx__state_new(&options);
  struct blx_op_cluster_init init = BLX_OP_CLUSTER_INIT_INIT;
  struct blx_op op = BLX_OP_INIT;
  uint64_t index = 1;
  ck_assert_ptr_nonnull(st);
  init.id = "00112233445566778899aabbccddeeff";
  init.name = "test";
  op.cluster_init = &init;
  apply(st, index++, &op);
  for (uint64_t uid = 1; uid <= 4; uid++) {
    char name[8], address[16];
    struct blx_node_info info = BLX_NODE_INFO_INIT;
    struct blx_op_node_join join = BLX_OP_NODE_JOIN_INIT;
    struct blx_op_node_voter voter = BLX_OP_NODE_VOTER_INIT;
    (void)blx__str_format(name, sizeof name, "n%d", (int)uid);
    (void)blx__str_format(address, sizeof address, "unix:/n%d", (int)uid);
    info.name = name;
    info.address = info.peer_address = address;
    info.incarnation = 1;
    join.node = &info;
    voter.uid = uid;
    voter.voter = 1;
    struct blx_op op_join = BLX_OP_INIT, op_voter = BLX_OP_INIT;
    op_join.node_join = &join;
    op_voter.node_voter = &voter;
    apply(st, index++, &op_join);
    if (uid < 4) apply(st, index++, &op_voter);
    ck_assert_ptr_nonnull(blx__state_node(st, uid));
  }
  return st;
}

START_TEST(leader__takes_the_median_of_the_voters_it_hears_from) {
  struct blx__node n = {.uid = 1, .registered = true, .closing = true /* no controllers */};
  blx_error err;
  n.state = state_of_four();
  ck_assert_int_eq(blx__loop_new(&n.loop, &err).code, 0);
  blx__lead_init(&n);
  n.lead.clock = (struct blx__lead_clock){.ms = WALL_MS, .at_ms = blx__loop_now_ms(n.loop)};
  blx__lead_begin(&n);
  uint64_t wall = blx__loop_wall_ms(n.loop);
  blx__lead_tick(&n);
  ck_assert(!n.lead.wall.known);
  blx__lead_seen(&n, 4, 1, wall + DAY_MS); /* has no vote */
  blx__lead_seen(&n, 2, 7, wall + DAY_MS); /* another life of it */
  blx__lead_seen(&n, 3, 1, 0);             /* does not say */
  blx__lead_tick(&n);
  ck_assert(!n.lead.wall.known);
  blx__lead_seen(&n, 2, 1, wall + DAY_MS);
  blx__lead_seen(&n, 3, 1, wall + 500);
  blx__lead_tick(&n);
  ck_assert(n.lead.wall.known);
  int64_t off = n.lead.wall.low_ms - ((int64_t)wall - (int64_t)blx__loop_now_ms(n.loop));
  ck_assert_msg(off >= 400 && off <= 600, "%d", (int)off);
  ck_assert_int_eq((int)(n.lead.wall.high_ms - n.lead.wall.low_ms), 0);
  ck_assert_uint_lt(blx__lead_time_ms(&n), WALL_MS + 60000);
  blx__lead_end(&n);
  ck_assert(!n.lead.wall.known);
  blx__lead_close(&n);
  blx__state_free(n.state);
  blx__loop_free(n.loop);
}
END_TEST

static struct blx_lease_grant grant(struct blx__node *n, uint64_t uid, uint64_t incarnation) {
  struct blx_lease_ask ask = BLX_LEASE_ASK_INIT;
  struct blx_lease_grant out = BLX_LEASE_GRANT_INIT;
  ask.node_uid = uid;
  ask.incarnation = incarnation;
  ask.seq = 77;
  blx__lead_seen(n, uid, incarnation, 0);
  blx__lead_grant(n, &ask, &out);
  ck_assert_uint_eq(out.node_uid, uid);
  ck_assert_uint_eq(out.seq, 77);
  return out;
}

static struct blx__control_soft soft(const struct blx__node *n, uint64_t uid) {
  struct blx__control_soft out;
  blx__lead_soft(n, uid, &out);
  return out;
}

static void open_leader(struct blx__node *n) {
  *n = (struct blx__node){.uid = 1, .registered = true, .closing = true /* no controllers */};
  n->state = state_of_four();
  ck_assert_int_eq(blx__loop_new(&n->loop, NULL).code, 0);
  blx__lead_init(n);
  n->lead.clock = (struct blx__lead_clock){.ms = WALL_MS, .at_ms = blx__loop_now_ms(n->loop)};
  blx__lead_begin(n);
}

static void close_leader(struct blx__node *n) {
  blx__lead_close(n);
  blx__state_free(n->state);
  blx__loop_free(n->loop);
}

START_TEST(lease__is_given_to_the_incarnation_that_state_knows_and_to_no_other) {
  struct blx__node n;
  open_leader(&n);
  struct blx_lease_grant g = grant(&n, 2, 1);
  ck_assert_int_eq(g.answer, BLX_LEASE_ANSWER_GRANTED);
  ck_assert_uint_eq(g.lease_ms, 20000);
  ck_assert_uint_eq(g.settings->renew_ms, 3000);
  ck_assert_int_eq(grant(&n, 2, 7).answer, BLX_LEASE_ANSWER_UNKNOWN);
  ck_assert_int_eq(grant(&n, 9, 1).answer, BLX_LEASE_ANSWER_UNKNOWN);
  blx__lead_end(&n);
  ck_assert_int_eq(grant(&n, 2, 1).answer, BLX_LEASE_ANSWER_LATER);
  close_leader(&n);
}
END_TEST

/* What it says of itself; what it has built only now and then. */
static void say(struct blx__node *n, uint64_t incarnation, uint32_t permille, const char *built) {
  struct blx_lease_ask ask = BLX_LEASE_ASK_INIT;
  struct blx_data_item item = BLX_DATA_ITEM_INIT, *list[] = {&item};
  ask.node_uid = 2;
  ask.incarnation = incarnation;
  ask.has_load_cpu_permille = ask.has_load_memory_mib = 1;
  ask.load_cpu_permille = permille;
  ask.load_memory_mib = 1000;
  item.key = built;
  ask.stored = list;
  ask.n_stored = ask.stored_now = built != NULL;
  blx__soft_take(n, &ask);
}

START_TEST(load__is_kept_as_the_node_said_it_last_and_shown_and_told_to_placement) {
  struct blx__node n;
  open_leader(&n);
  struct blx_node_info view = *blx__state_node(n.state, 2);
  blx__soft_view(&n, &view, true);
  ck_assert(!view.has_load_cpu_permille && !soft(&n, 2).has_load);
  say(&n, 1, 333, "closure/a");
  struct blx__control_soft first = soft(&n, 2);
  ck_assert(first.has_load);
  ck_assert_uint_eq(first.load_cpu_permille, 300); /* in steps */
  ck_assert_uint_eq(first.n_stored, 1);
  ck_assert_str_eq(first.stored[0]->key, "closure/a");
  say(&n, 1, 340, NULL); /* has built what it had */
  struct blx__control_soft same = soft(&n, 2);
  ck_assert_uint_eq(same.load_cpu_permille, first.load_cpu_permille);
  ck_assert_uint_eq(same.stored_seq, first.stored_seq);
  say(&n, 7, 999, "closure/b"); /* another life of it */
  view = *blx__state_node(n.state, 2);
  blx__soft_view(&n, &view, true);
  ck_assert_uint_eq(view.load_cpu_permille, 340);
  ck_assert_uint_eq(view.load_memory_mib, 1000);
  ck_assert_str_eq(view.stored[0]->key, "closure/a");
  say(&n, 1, 340, "closure/b");
  ck_assert_uint_ne(soft(&n, 2).stored_seq, first.stored_seq);
  blx__lead_end(&n);
  ck_assert(!soft(&n, 2).has_load);
  close_leader(&n);
}
END_TEST

START_TEST(lease__is_refused_for_ever_to_an_incarnation_that_was_fenced) {
  struct blx__node n;
  struct blx_op_fence_begin begin = BLX_OP_FENCE_BEGIN_INIT;
  struct blx_op op = BLX_OP_INIT;
  open_leader(&n);
  begin.node_uid = 2;
  begin.incarnation = 1;
  begin.by_operator = 1;
  begin.reason = "test";
  op.fence_begin = &begin;
  apply(n.state, 50, &op);
  ck_assert_int_eq(grant(&n, 2, 1).answer, BLX_LEASE_ANSWER_FENCED);
  ck_assert_int_eq(grant(&n, 2, 2).answer, BLX_LEASE_ANSWER_UNKNOWN);
  struct blx_op_node_return back = BLX_OP_NODE_RETURN_INIT;
  struct blx_node_info info = *blx__state_node(n.state, 2);
  info.incarnation = 2;
  back.node = &info;
  struct blx_op op_back = BLX_OP_INIT;
  op_back.node_return = &back;
  apply(n.state, 51, &op_back);
  ck_assert_int_eq(grant(&n, 2, 2).answer, BLX_LEASE_ANSWER_GRANTED);
  ck_assert_int_eq(grant(&n, 2, 1).answer, BLX_LEASE_ANSWER_FENCED);
  close_leader(&n);
}
END_TEST

START_TEST(unanswered__counts_from_the_last_lease_and_before_one_from_the_barrier) {
  struct blx__node n;
  open_leader(&n);
  n.lead.barrier_ms -= 5000;
  struct blx__control_soft s = soft(&n, 2);
  ck_assert_uint_ge(s.unanswered_ms, 5000);
  ck_assert_uint_eq(s.lease_ms, 0); /* not known: as the settings say */
  (void)grant(&n, 2, 7);
  ck_assert_uint_ge(soft(&n, 2).unanswered_ms, 5000);
  (void)grant(&n, 2, 1);
  s = soft(&n, 2);
  ck_assert_uint_lt(s.unanswered_ms, 5000);
  ck_assert_uint_eq(s.lease_ms, 20000);
  ck_assert_uint_ge(soft(&n, 3).unanswered_ms, 5000);
  close_leader(&n);
}
END_TEST

START_TEST(a_lease_that_was_longer__is_waited_for_although_a_shorter_one_was_given_after_it) {
  struct blx__node n;
  struct blx_op_ha_disarm disarm = BLX_OP_HA_DISARM_INIT, arm = BLX_OP_HA_DISARM_INIT;
  struct blx_op op = BLX_OP_INIT, op_arm = BLX_OP_INIT;
  open_leader(&n);
  disarm.for_ms = 600000;
  op.ha_disarm = &disarm;
  apply(n.state, 50, &op);
  struct blx_lease_grant g = grant(&n, 2, 1);
  ck_assert_uint_gt(g.lease_ms, 610000);
  ck_assert_uint_le(g.lease_ms, 620000);
  op_arm.ha_disarm = &arm;
  apply(n.state, 51, &op_arm);
  ck_assert_uint_eq(grant(&n, 2, 1).lease_ms, 20000);
  ck_assert_uint_gt(soft(&n, 2).lease_ms, 610000);
  close_leader(&n);
}
END_TEST

START_TEST(a_leader_that_stood_still__does_not_take_that_for_silence) {
  ck_assert_uint_eq(blx__lead_heard_ms(5000, 9000, 10000), 5000);
  ck_assert_uint_eq(blx__lead_heard_ms(5000, 9000, 11499), 5000); /* a tick that is late */
  ck_assert_uint_eq(blx__lead_heard_ms(5000, 9000, 39000), 35000);
  ck_assert_uint_eq(blx__lead_heard_ms(9900, 9000, 39000), 39000); /* heard since: not later than now */
}
END_TEST

BLX_TEST_MAIN("lead", cluster_time__goes_on_when_the_walls_were_set_back,
              cluster_time__comes_to_walls_set_forward_a_tenth_faster, cluster_time__does_not_lose_what_commits_take,
              walls_set_after_a_day__do_not_count_for_the_day,
              follower__takes_the_leaders_time_as_it_is_and_its_own_wall_for_nothing,
              median__of_an_odd_number_is_the_middle_one_and_of_an_even_one_both,
              median__is_not_known_before_a_majority_is_heard_from,
              one_of_three_that_lies__moves_nothing_nor_does_it_when_only_one_other_is_heard_from,
              leader__takes_the_median_of_the_voters_it_hears_from,
              lease__is_given_to_the_incarnation_that_state_knows_and_to_no_other,
              load__is_kept_as_the_node_said_it_last_and_shown_and_told_to_placement,
              lease__is_refused_for_ever_to_an_incarnation_that_was_fenced,
              unanswered__counts_from_the_last_lease_and_before_one_from_the_barrier,
              a_lease_that_was_longer__is_waited_for_although_a_shorter_one_was_given_after_it,
              a_leader_that_stood_still__does_not_take_that_for_silence)
