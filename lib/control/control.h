/* The leader's controllers: they look at the state and at who was heard from, and say which operations to propose.
 * Pure: the same arguments give the same operations; nothing is remembered between steps, so a new leader goes on where
 * the old one stopped. A proposal that turns out late is refused by apply, and the next step sees why. Thread: one at a
 * time. */
#ifndef BLX__CONTROL_CONTROL_H
#define BLX__CONTROL_CONTROL_H

#include "base/arena.h"
#include "state/state.h"

enum {
  BLX__CONTROL_OPS_MAX = 64,         /* operations of one step */
  BLX__CONTROL_EXPLAIN_MAX = 32,     /* of them explanations, so that those never keep an assignment waiting */
  BLX__CONTROL_FENCE_MAX = 16,       /* and of them about fencing */
  BLX__CONTROL_LOOK_MAX = 4096,      /* instances looked at in one step */
  BLX__CONTROL_SEARCH_MAX = 256,     /* searches through the fleet in one step */
  BLX__CONTROL_LOOK_AGAIN_MS = 1000, /* when a node may change the answer by what it says, or does not say */
};

/* What the leader knows of a node right now. Durations are by CLOCK_BOOTTIME: no clock that is set has a say in them.
 */
struct blx__control_soft {
  enum blx_node_status status; /* UNKNOWN, READY or SUSPECT: what was heard */
  uint64_t unanswered_ms;  /* since the last moment at which any leader may have given it a lease: this leader's last
                              grant to it, else this leader's first committed barrier */
  uint64_t lease_ms;       /* the longest lease that may be out from then; 0: as the settings say */
  const char *powered_off; /* its fence command proved that it is off: the end of what that said; NULL: it did not.
                              Borrowed until the step returns. */
};
/* Called during blx__control_step only, twice per node at most. Fills in all of @out. */
typedef void (*blx__control_soft_fn)(void *user, uint64_t node_uid, struct blx__control_soft *out);

struct blx__control_out {
  struct blx__slice ops[BLX__CONTROL_OPS_MAX]; /* encoded `op`s, in the arena */
  size_t op_count;
  uint64_t next_due_ms; /* cluster time at which to step again although nothing was applied; 0: no need */
};

/* One step: cut off nodes whose lease has ended, and say what is proved of those that are; then choose nodes for the
 * instances that wait and are due, or say why there is none.
 * Step after each apply, when a node's status changes, and at next_due_ms; not while operations of an earlier step are
 * outstanding.
 * @now_ms  cluster time, at least the state's
 * @arena   scratch and the operations
 * @out     overwritten
 * Errors: NOMEM (the arena is full). */
blx__rc blx__control_step(const struct blx__state *st, blx__control_soft_fn soft, void *user, uint64_t now_ms,
                          struct blx__arena *arena, struct blx__control_out *out, blx_error *err) BLX__MUST;

#endif
