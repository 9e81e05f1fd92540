/* The agent on the simulated driver that `--simulate-vms` uses: they keep the same contract. */
#include "support.h"

#include <string.h>

static struct world w;
static struct blx__vm_driver *sim;
static bool sim_closed;
#define R (&w.cluster.records[0])

static void on_event(void *user, const struct blx__vm_key *key, enum blx__vm_event event,
                     const struct blx__vm_status *status) {
  (void)user;
  if (w.agent) blx__agent_event(w.agent, key, event, status);
}

static bool is_running(struct world *x) {
  return x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}
static bool is_dead(struct world *x) {
  return x->cluster.records[0].dead;
}
static bool is_forgotten(struct world *x) {
  return blx__agent_instances(x->agent) == 0;
}
static bool is_sim_closed(struct world *x) {
  (void)x;
  return sim_closed;
}
static void closed(void *user) {
  *(bool *)user = true;
}

static void open_on_sim(struct blx__vm_sim_options options) {
  world_open(&w);
  agent_close(&w);
  options.on_event = on_event;
  ck_assert_int_eq(blx__vm_sim_open(w.loop, &options, &sim, NULL).code, 0);
  w.driver = sim;
  agent_open(&w);
}

static void close_all(void) {
  agent_close(&w);
  sim_closed = false;
  sim->ops->close(sim, closed, &sim_closed);
  run_until(&w, is_sim_closed);
  world_close(&w);
}

START_TEST(simulated_vm__lives_is_adopted_stops_and_goes) {
  open_on_sim((struct blx__vm_sim_options){.ready_ms = 5, .stop_ms = 5});
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  agent_close(&w);
  R->phase = BLX_PHASE_PENDING;
  R->seq = 0;
  agent_open(&w);
  share(&w);
  run_until(&w, is_running);
  ck_assert_uint_eq(blx__vm_sim_running(sim), 1);
  R->desired = BLX_DESIRED_STOPPED;
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_STOPPED_BY_USER);
  ck_assert_uint_eq(blx__vm_sim_running(sim), 0);
  R->remove = true;
  share(&w);
  run_until(&w, is_forgotten);
  close_all();
}
END_TEST

START_TEST(simulated_crash__comes_with_its_status_and_restarts_under_the_next_epoch) {
  open_on_sim((struct blx__vm_sim_options){0});
  assign(&w, 0);
  share(&w);
  run_until(&w, is_running);
  struct blx__vm_key key = {R->name, R->uid, R->epoch};
  ck_assert(blx__vm_sim_end(sim, &key, 3, 0));
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_CRASHED);
  ck_assert_int_eq(R->exit_status, 3);
  assign(&w, 0);
  R->phase = BLX_PHASE_PENDING;
  share(&w);
  run_until(&w, is_running);
  close_all();
}
END_TEST

START_TEST(simulated_failures__are_reported_as_what_they_are) {
  open_on_sim((struct blx__vm_sim_options){.fail_prepare_every = 1});
  assign(&w, 0);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_BUILD_FAILED);
  close_all();
  open_on_sim((struct blx__vm_sim_options){.fail_start_every = 1});
  assign(&w, 0);
  share(&w);
  run_until(&w, is_dead);
  ck_assert_int_eq(R->code, BLX_REASON_CODE_START_FAILED);
  close_all();
}
END_TEST

BLX_TEST_MAIN("agent on the simulated driver", simulated_vm__lives_is_adopted_stops_and_goes,
              simulated_crash__comes_with_its_status_and_restarts_under_the_next_epoch,
              simulated_failures__are_reported_as_what_they_are)
