/* Scripted worlds: who may campaign, what is cut, and what became of a call. */
#ifndef BLX_TESTS_CONSENSUS_SUPPORT_H
#define BLX_TESTS_CONSENSUS_SUPPORT_H

#include "../../sim/sim.h"

/* What became of one call. */
struct outcome {
  unsigned fired;
  int code;
  uint64_t index;
  size_t result_len;
};
void outcome_cb(void *user, const blx_error *err, uint64_t index, struct blx__slice result);

/* Three members (or as @options says), started, no faults on the way. @options may be NULL. */
struct world *script_new(const struct sim_options *options);
void script_free(struct world *w); /* checks that nothing failed */

/* Only @i is heard standing for election, until it leads and serves. */
void script_elect(struct world *w, unsigned i);
/* Propose @id on @i; @o is zeroed first. The code of propose. */
int script_propose(struct world *w, unsigned i, uint64_t id, struct outcome *o);
bool script_has(struct world *w, unsigned i, uint64_t id);
const struct raft *script_raft(struct world *w, unsigned i);
bool script_fired(struct world *w, void *outcome); /* for world_until */

/* Propose each of @from..@to on @i and wait until it is acknowledged. */
void script_commit(struct world *w, unsigned i, uint64_t from, uint64_t to);
/* Run @scenario(@mask) in a process of its own: true if that did not end well. */
bool script_ends_badly(int (*scenario)(unsigned mask), unsigned mask);

#endif
