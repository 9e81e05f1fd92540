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
  BLX__CONTROL_LOOK_MAX = 4096,      /* instances looked at in one step */
  BLX__CONTROL_SEARCH_MAX = 256,     /* searches through the fleet in one step */
  BLX__CONTROL_LOOK_AGAIN_MS = 1000, /* when a node not heard from yet may change the answer */
};

/* What the leader knows of a node right now. Called during blx__control_step only, once per node. */
typedef enum blx_node_status (*blx__control_status_fn)(void *user, uint64_t node_uid);

struct blx__control_out {
  struct blx__slice ops[BLX__CONTROL_OPS_MAX]; /* encoded `op`s, in the arena */
  size_t op_count;
  uint64_t next_due_ms; /* cluster time at which to step again although nothing was applied; 0: no need */
};

/* One step: choose nodes for the instances that wait and are due, or say why there is none.
 * Step after each apply, when a node's status changes, and at next_due_ms; not while operations of an earlier step are
 * outstanding.
 * @now_ms  cluster time, at least the state's
 * @arena   scratch and the operations
 * @out     overwritten
 * Errors: NOMEM (the arena is full). */
blx__rc blx__control_step(const struct blx__state *st, blx__control_status_fn status, void *user, uint64_t now_ms,
                          struct blx__arena *arena, struct blx__control_out *out, blx_error *err) BLX__MUST;

#endif
