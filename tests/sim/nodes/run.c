/* One run: a cluster is made, used and troubled, left in peace, and reckoned with. */
#include "nodes.h"

#include "lease/lease.h"

enum {
  JOIN_WITHIN_MS = 180000, /* under faults, in part of the runs: two voters of two may be down time and again */
  CHAOS_MS = 30000,
  LEADER_WITHIN_MS = 10000,
  ANSWERS_WITHIN_MS = 60000,
  SETTLED_WITHIN_MS = 60000,
  AUDIT_WITHIN_MS = 30000,
};

/* Leases that are over, and nodes that are fenced, within what the faults last. */
static bool lease_is_short(void) {
  const struct node *leader = cluster_leader();
  if (!leader || leader->m->paused_until_us > twin.sim.now_us) return false;
  if (blx__state_settings(leader->n->state)->revision != 0) return true;
  if (twin.sim.now_us < cluster.settings_us) return false;
  cluster.settings_us = twin.sim.now_us + 300000;
  struct blx_lease_settings lease = blx__lease_scaled((uint32_t)cluster_rng(20, 35) * 100);
  struct blx_op_settings_set set = {.struct_size = sizeof set, .lease = &lease};
  struct blx_op op = {.struct_size = sizeof op, .settings_set = &set};
  blx_error err;
  if (blx__node_propose(leader->n, &op, NULL, NULL, &err).code != 0) cluster_log("settings: %s", err.message);
  return false;
}

static bool has_leader(void) {
  return cluster_leader() != NULL;
}

static bool is_settled(void) {
  return check_settled() == NULL;
}

static bool is_empty(void) {
  return check_empty() == NULL;
}

static void reckon(void) {
  chaos_end();
  users_end();
  if (!cluster_until(has_leader, LEADER_WITHIN_MS)) cluster_fail("I13 a leader was not there within 10 s");
  if (cluster.storm && !cluster_until(storm_is_over, LEADER_WITHIN_MS)) cluster_fail("I13 a cordon was not lifted");
  if (!cluster_until(users_idle, ANSWERS_WITHIN_MS)) cluster_fail("I13 the operations were not answered within 60 s");
  if (!cluster_until(is_settled, SETTLED_WITHIN_MS))
    cluster_fail("I13 the desired state was not reached within 60 s: %s", check_settled());
  if (cluster.failed) return;
  if (!cluster_until(check_audit, AUDIT_WITHIN_MS)) cluster_fail("I9 a server %s", check_audit_why());
  users_check();
  check_equal();
  users_delete_all();
  if (!cluster_until(is_empty, SETTLED_WITHIN_MS))
    cluster_fail("I13 the desired state, nothing, was not reached within 60 s: %s", check_empty());
  if (!cluster_until(watch_has_all, ANSWERS_WITHIN_MS)) cluster_fail("I12 the watch did not see all of it");
}

bool nodes_run(const struct cluster_options *o, uint64_t *reached, char why[WHY_SIZE]) {
  cluster_init(o);
  users_open();
  users_join_all();
  bool early = cluster_chance(30);
  if (early) chaos_begin();
  if (!cluster_until(users_joined, JOIN_WITHIN_MS * (1 + (cluster.count - cluster.servers) / 4)))
    cluster_fail("I13 the cluster was not made within 180 s, and as long for each four workers");
  (void)cluster_until(lease_is_short, LEADER_WITHIN_MS);
  if (cluster.storm) (void)cluster_until(storm_is_set, LEADER_WITHIN_MS);
  cluster.used = true;
  cluster.peace_us = twin.sim.now_us + (uint64_t)CHAOS_MS * 1000;
  watch_begin();
  users_begin();
  storm_blow();
  if (!early) chaos_begin();
  (void)cluster_until(NULL, CHAOS_MS);
  if (!cluster.failed) reckon();
  watch_end();
  users_close();
  users_free();
  bool good = !cluster.failed;
  (void)blx__str_copy(why, WHY_SIZE, cluster.why);
  *reached |= cluster.reached;
  cluster_free();
  return good;
}
