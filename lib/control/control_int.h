/* Inside lib/control: the fleet as one step sees it, with what the step itself gave away. */
#ifndef BLX__CONTROL_CONTROL_INT_H
#define BLX__CONTROL_CONTROL_INT_H

#include "control/control.h"
#include "placement/place.h"

struct control_fleet {
  struct blx__place_node *nodes; /* by uid */
  bool *unknown;                 /* beside it: not heard from since this leader was elected */
  size_t n;
  bool any_unknown;
  uint64_t counted_vm_uid; /* the VM whose replicas are counted in same_vm_count; 0: none */
};

blx__rc blx__control_fleet_build(const struct blx__state *st, blx__control_soft_fn soft, void *user,
                                 struct blx__arena *arena, struct control_fleet *out, blx_error *err) BLX__MUST;

/* Count the replicas of that VM on each node, unless they are counted already. */
void blx__control_fleet_count(struct control_fleet *f, const struct blx__state *st, uint64_t vm_uid);

/* The node of that uid, or NULL. */
struct blx__place_node *blx__control_fleet_find(const struct control_fleet *f, uint64_t uid);

/* ---- step.c */
/* Encode @op into the arena, as the next of @out, which has room. Errors: NOMEM. */
blx__rc blx__control_propose(struct blx__control_out *out, struct blx__arena *arena, const struct blx_op *op,
                             blx_error *err) BLX__MUST;
/* Step again at @at_ms, or earlier. */
void blx__control_due(struct blx__control_out *out, uint64_t at_ms);

/* ---- fence.c */
blx__rc blx__control_fence(const struct blx__state *st, blx__control_soft_fn soft, void *user, uint64_t now_ms,
                           struct blx__arena *arena, struct blx__control_out *out, blx_error *err) BLX__MUST;

/* ---- schedule.c */
blx__rc blx__control_schedule(const struct blx__state *st, blx__control_soft_fn soft, void *user, uint64_t now_ms,
                              struct blx__arena *arena, struct blx__control_out *out, blx_error *err) BLX__MUST;

#endif
