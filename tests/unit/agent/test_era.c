/* The cluster was recovered, and a part of its log is lost: what runs here is told anew, and nothing is begun by word
 * of before. */
#include "support.h"

static struct world w;
#define R (&w.cluster.records[0])

enum { ERA = 7 };

static bool is_running(struct world *x) {
  return x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}
static bool is_dead(struct world *x) {
  return x->cluster.records[0].dead;
}
static bool is_told(struct world *x) {
  return x->cluster.records[0].era == ERA && blx__agent_unreported(x->agent) == 0;
}
static bool is_building(struct world *x) {
  return x->host.pending == 1 && x->host.prepares == 1;
}
static bool is_clear(struct world *x) {
  return blx__agent_is_clear(x->agent);
}
static bool is_absent(struct world *x) {
  return x->host.guests[0].status.state == BLX__VM_ABSENT && x->host.pending == 0;
}

static void recovered(void) {
  blx__agent_era(w.agent, ERA, true);
  share(&w);
}

START_TEST(what_runs__runs_on_and_is_told_anew_though_held) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  run_until(&w, is_clear);
  uint64_t seq = R->seq;
  R->held = true;
  recovered();
  run_until(&w, is_told);
  ck_assert_uint_eq(R->seq, seq); /* nothing happened: it is told under the number it had */
  ck_assert(host_runs(&w, 0) && host_starts(&w, 0) == 1 && is_clear(&w));
  R->era = 0;
  recovered(); /* of the same era all was told */
  ck_assert_uint_eq(blx__agent_unreported(w.agent), 0);
  world_close(&w);
}
END_TEST

START_TEST(what_is_held_and_does_not_run__is_reported_dead_and_not_started) {
  world_open(&w);
  assign(&w, 0);
  R->held = true;
  recovered();
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_RECOVERED);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  run_until(&w, is_clear);
  R->held = false;
  assign(&w, 0); /* a later epoch is another thing */
  share(&w);
  run_until(&w, is_running);
  world_close(&w);
}
END_TEST

START_TEST(what_is_being_built__is_not_started_when_it_is_held_meanwhile) {
  world_open(&w);
  w.host.hold_prepare = true;
  assign(&w, 0);
  share(&w);
  run_until(&w, is_building);
  R->held = true;
  recovered();
  w.host.hold_prepare = false;
  run_until(&w, is_dead);
  ck_assert_uint_eq(host_starts(&w, 0), 0);
  world_close(&w);
}
END_TEST

START_TEST(a_node__is_clear_when_what_is_not_in_its_share_does_not_run_any_more) {
  world_open(&w);
  assign(&w, 0);
  share(&w);
  ck_assert(!blx__agent_is_clear(w.agent) || !host_runs(&w, 0));
  run_until(&w, is_running);
  w.host.hold_stop = true;
  R->assigned = false;
  recovered();
  ck_assert(!is_clear(&w));
  w.host.hold_stop = false;
  run_until(&w, is_clear);
  ck_assert(!host_runs(&w, 0));
  run_until(&w, is_absent);
  world_close(&w);
}
END_TEST

START_TEST(a_node__is_not_clear_while_it_runs_under_a_later_epoch_than_its_share_says) {
  world_open(&w);
  assign(&w, 0);
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  R->epoch--;
  recovered();
  ck_assert(host_runs(&w, 0) && !is_clear(&w)); /* the cluster learns of it first */
  R->epoch++;
  share(&w);
  run_until(&w, is_clear);
  R->epoch--;
  R->dead = true; /* as far as the cluster knows */
  share(&w);
  ck_assert(!is_clear(&w));
  world_close(&w);
}
END_TEST

START_TEST(a_lease_of_before__ends_with_the_news) {
  world_open(&w);
  R->ha = BLX_HA_POLICY_AUTO;
  assign(&w, 0);
  lease(&w);
  share(&w);
  run_until(&w, is_running);
  R->held = true;
  recovered();
  ck_assert_uint_eq(blx__agent_lease_left_ms(w.agent), 0);
  run_until(&w, is_dead);
  ck_assert(!host_runs(&w, 0));
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("agent era", what_runs__runs_on_and_is_told_anew_though_held,
              what_is_held_and_does_not_run__is_reported_dead_and_not_started,
              what_is_being_built__is_not_started_when_it_is_held_meanwhile,
              a_node__is_clear_when_what_is_not_in_its_share_does_not_run_any_more,
              a_node__is_not_clear_while_it_runs_under_a_later_epoch_than_its_share_says,
              a_lease_of_before__ends_with_the_news)
