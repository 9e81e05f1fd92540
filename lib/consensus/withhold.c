/* R2: what a new leader must not count yet. Until its own barrier is on its disk, a follower's result says that the
 * follower lives, and no more; what it said besides is kept, and counts when the barrier is there, so that a group is
 * not without service for two more heartbeats. */
#include "consensus/consensus_int.h"

static bool may_count(const struct blx__consensus *c) {
  if (!consensus_rule(c, BLX__RULE_R2_BARRIER)) return true;
  return c->led_term == c->raft.current_term && c->barrier_accepted && c->raft.last_stored >= c->barrier.index;
}

/* The newest of each follower. A group larger than the table is served a little later. */
static void keep(struct guard *g, const struct raft_message *m) {
  unsigned at = 0;
  if (g->withheld_count > 0 && g->withheld[0].append_entries_result.term != m->append_entries_result.term)
    g->withheld_count = 0;
  while (at < g->withheld_count && g->withheld[at].server_id != m->server_id) at++;
  if (at == BLX__COUNT(g->withheld)) return;
  if (at == g->withheld_count) g->withheld_count++;
  g->withheld[at] = *m;
  g->withheld[at].server_address = ""; /* not looked at, and the caller's */
}

void withhold_result(struct blx__consensus *c, struct raft_message *m) {
  if (c->raft.state != RAFT_LEADER || m->append_entries_result.rejected != 0 || may_count(c)) return;
  if (m->append_entries_result.term == c->raft.current_term) keep(&c->guard, m);
  m->append_entries_result.last_log_index = 0;
  BLX_SOMETIMES(c, WITHHELD);
}

void withhold_release(struct blx__consensus *c) {
  struct guard *g = &c->guard;
  if (g->withheld_count == 0 || consensus_stopped(c) || c->raft.state != RAFT_LEADER || !may_count(c)) return;
  unsigned n = g->withheld_count;
  g->withheld_count = 0;
  for (unsigned i = 0; i < n && c->raft.state == RAFT_LEADER; i++) {
    struct raft_message m = g->withheld[i];
    if (m.append_entries_result.term == c->raft.current_term) g->recv(c->io, &m);
  }
}
