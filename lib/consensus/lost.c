/* R23: a log that went back behind what it had acknowledged, because an older copy of it was put there or its disk lost
 * what it had synced. libraft takes what it refuses for late answers and sends it nothing any more; and what it had
 * acknowledged may be nowhere else, so that it must not vote and count again under its old name. The leader, who knows
 * what was acknowledged in its term, says so; only the member itself knows what it has. */
#include "consensus/consensus_int.h"

static uint64_t match_of(const struct raft *r, uint64_t uid) {
  for (unsigned i = 0; i < r->configuration.n; i++)
    if (r->configuration.servers[i].id == uid) return r->leader_state.progress[i].match_index;
  return 0;
}

void lost_refused(struct blx__consensus *c, uint64_t uid, const struct raft_append_entries_result *refusal) {
  const struct raft *r = &c->raft;
  if (r->state != RAFT_LEADER || refusal->rejected == 0 || refusal->term != r->current_term) return;
  uint64_t acknowledged = match_of(r, uid);
  /* It may be an old refusal that was long on its way: the member compares. */
  if (refusal->last_log_index >= acknowledged || !consensus_rule(c, BLX__RULE_R23_LOST)) return;
  uint8_t bytes[LOST_BYTES];
  message_encode_lost(bytes, r->current_term, acknowledged);
  (void)c->o.send(c->o.user, uid, (struct blx__slice){.data = bytes, .len = sizeof bytes});
}

void lost_told(struct blx__consensus *c, uint64_t from, uint64_t term, uint64_t acknowledged) {
  struct raft *r = &c->raft;
  if (r->state != RAFT_FOLLOWER || term != r->current_term || from != blx__consensus_leader(c)) return;
  uint64_t last = raft_last_index(r);
  if (last >= acknowledged || c->guard.put_install || !consensus_rule(c, BLX__RULE_R23_LOST)) return;
  char text[FATAL_TEXT_SIZE];
  (void)blx__str_format(text, sizeof text,
                        "'%s' ends at index %llu, but member %llu had acknowledged index %llu: an older copy was put "
                        "there, or its disk lost data. Put back the newest one if there is one, or empty the data "
                        "directory and join as a new node",
                        c->o.dir ? c->o.dir : "the simulated disk", (unsigned long long)last,
                        (unsigned long long)c->o.uid, (unsigned long long)acknowledged);
  blx__consensus_poison(c, BLX_E_CORRUPT, text);
}
