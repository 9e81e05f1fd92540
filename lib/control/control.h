/* The leader's controllers: they look at the state and at who was heard from, and say which operations to propose.
 * The same state, soft view and time give the same operations: what is kept between steps is a cache of the state, so
 * a new leader goes on where the old one stopped. A proposal that turns out late is refused by apply, and the next step
 * sees why. Thread: one at a time. */
#ifndef BLX__CONTROL_CONTROL_H
#define BLX__CONTROL_CONTROL_H

#include "base/arena.h"
#include "state/state.h"

#include <blixard/calls.h>

enum {
  BLX__CONTROL_OPS_MAX = 256,        /* operations of one step: one entry of the log */
  BLX__CONTROL_EXPLAIN_MAX = 32,     /* of them explanations, so that those never keep an assignment waiting */
  BLX__CONTROL_FENCE_MAX = 16,       /* and of them about fencing */
  BLX__CONTROL_LOOK_MAX = 4096,      /* instances looked at in one step */
  BLX__CONTROL_NEAREST_MAX = 64,     /* explanations worked out in one step */
  BLX__CONTROL_PREEMPT_MAX = 16,     /* searches for room that can be made */
  BLX__CONTROL_HOLDS_MAX = 64,       /* nodes kept for an instance that waits for room there */
  BLX__CONTROL_RESERVED_MAX = 4,     /* of them for those that have waited for long */
  BLX__CONTROL_PATIENT_MS = 60000,   /* as long as this */
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
  bool has_load;
  uint32_t load_cpu_permille;
  uint64_t load_memory_mib;
  struct blx_data_item *const *stored; /* data that it has. Borrowed until the step returns. */
  size_t n_stored;
  uint64_t stored_seq; /* rises when that changes */
};
/* Called during a step only, a few times per node at most. Fills in all of @out. */
typedef void (*blx__control_soft_fn)(void *user, uint64_t node_uid, struct blx__control_soft *out);

/* What a step looks at. */
struct blx__control_input {
  const struct blx__state *st;
  blx__control_soft_fn soft;
  void *user;
  uint64_t now_ms; /* cluster time, at least the state's */
};

struct blx__control_out {
  struct blx__slice ops[BLX__CONTROL_OPS_MAX]; /* encoded `op`s, in the arena */
  size_t op_count;
  uint64_t next_due_ms; /* cluster time at which to step again although nothing was applied; 0: no need */
};

/* The fleet as the placement engine was told it: brought up to date by each call below, node by node as their revisions
 * say. It may be of any state, older or newer, or freed at any time: then it is built anew. */
struct blx__control;
struct blx__control *blx__control_new(void);    /* NULL: no memory */
void blx__control_free(struct blx__control *c); /* NULL allowed */
/* The state became another one (a restore): everything is told anew. */
void blx__control_forget(struct blx__control *c);

/* One step: cut off nodes whose lease has ended, and say what is proved of those that are; then choose nodes for the
 * instances that wait and are due, or say why there is none.
 * Step after each apply, when a node's status changes, and at next_due_ms; not while operations of an earlier step are
 * outstanding.
 * @arena   scratch and the operations
 * @out     overwritten
 * Errors: NOMEM (the arena is full). */
blx__rc blx__control_step(struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
                          struct blx__control_out *out, blx_error *err) BLX__MUST;

/* ---- what would be. Nothing changes by it; what is tried on paper is taken back. What is returned is in @arena, and
 * borrows from the state. */

/* How every node stands to an instance, or to the first of a VM that waits, else its first.
 * Errors: NOT_FOUND, CONFLICT (the VM has no instances), NOMEM. */
blx__rc blx__control_explain(struct blx__control *c, const struct blx__control_input *in,
                             const struct blx_vm_explain_request *req, struct blx__arena *arena,
                             struct blx_placement_report *out, blx_error *err) BLX__MUST;

/* What a creation or a change of scale would do, by what is free now: those that wait already have their turn before
 * and among the new ones, as in a step of the scheduler, which looks at BLX__CONTROL_LOOK_MAX of them.
 * @req->create is complete: defaults filled in, admitted; what apply would refuse is refused as it would.
 * Errors: those of blx__state_may_create() and blx__state_may_scale(), NOMEM. */
blx__rc blx__control_plan(struct blx__control *c, const struct blx__control_input *in,
                          const struct blx_vm_plan_request *req, struct blx__arena *arena, struct blx_vm_plan *out,
                          blx_error *err) BLX__MUST;

/* How many more instances of a shape fit, on the nodes and into the tenant's quota. @req->spec is complete but for its
 * name, flake and config. Errors: NOMEM. */
blx__rc blx__control_capacity(struct blx__control *c, const struct blx__control_input *in,
                              const struct blx_capacity_request *req, struct blx__arena *arena,
                              struct blx_capacity_report *out, blx_error *err) BLX__MUST;

#endif
