/* Fencing: a node's incarnation gets no lease any more, the epochs of what must not run there rise, and when it is
 * proved that nothing runs under the old ones, they start elsewhere. The argument is in ARCHITECTURE.md. */
#include "state/state_int.h"

typedef unsigned long long ull;

enum { TEXT_BYTES = 256, UNBLOCK_BYTES = 256 };

/* ---- begin */

/* Whether it has a disk there, or may have: an agent that looks for disks has not said yet. */
static bool has_disk(const struct blx__state *st, const struct state_instance *e) {
  const struct blx_node_info *n = blx__state_node(st, e->rec->node_uid);
  return e->rec->local_data || (n && n->tells_disks && !e->rec->data_known);
}

/* Whether an instance's epoch rises. A disk keeps it on its node, whatever its policy; and a VM that was deleted waits
 * for the node or for --force. */
static bool moves(const struct blx__state *st, const struct state_instance *e, bool by_operator) {
  const struct blx_vm *vm = e->vm->rec;
  if (e->rec->dead || e->rec->fenced || has_disk(st, e) || blx__state_leaving(e)) return false;
  return vm->spec->ha == BLX_HA_POLICY_AUTO || (vm->spec->ha == BLX_HA_POLICY_MANUAL && by_operator);
}

static void cut(struct blx__state *st, const struct state_instance *e, const char *node) {
  char text[TEXT_BYTES];
  struct blx_reason reason = blx__state_reason(BLX_REASON_CODE_NODE_FENCING, text, NULL);
  struct blx_instance i = *e->rec;
  blx__str_format(text, sizeof text, "%s is being fenced: starts elsewhere when it is proved not to run there", node);
  i.epoch = blx__state_next_epoch(st, &i);
  i.fenced = 1;
  i.report_seq = 0;
  i.paused = 0;
  i.phase = BLX_PHASE_UNREACHABLE;
  i.reason = &reason;
  blx__state_put_instance(st, &i);
}

static void stays(const struct blx__state *st, const struct state_instance *e, const char *node,
                  struct blx_reason *reason, char text[TEXT_BYTES], char unblock[UNBLOCK_BYTES]) {
  const char *vm = e->vm->rec->spec->name;
  *reason = blx__state_reason(BLX_REASON_CODE_HA_OFF, text, unblock);
  blx__str_format(unblock, UNBLOCK_BYTES, "it goes on when %s comes back; `blixard vm delete %s --force` gives it up",
                  node, vm);
  if (!blx__state_is_ha(e->vm->rec)) {
    blx__str_format(text, TEXT_BYTES, "%s is gone, and with ha=off it starts nowhere else", node);
  } else if (has_disk(st, e)) {
    reason->code = BLX_REASON_CODE_LOCAL_DISK;
    blx__str_format(text, TEXT_BYTES, "%s is gone, %s", node,
                    e->rec->local_data ? "and its disk is there" : "before it was known whether a disk of it is there");
  } else {
    reason->code = BLX_REASON_CODE_HA_MANUAL;
    blx__str_format(text, TEXT_BYTES, "%s is gone, and with ha=manual it starts elsewhere only when told", node);
    blx__str_format(unblock, UNBLOCK_BYTES, "`blixard node fence %s`", node);
  }
}

/* What is on its way out keeps the words for that: its agent is told by them what was asked. */
static bool leaves(const struct state_instance *e) {
  return blx__state_leaving(e) || e->vm->rec->desired != BLX_DESIRED_RUNNING || e->rec->ending != BLX_ENDING_NONE;
}

static void strand(struct blx__state *st, const struct state_instance *e, const char *node) {
  char text[TEXT_BYTES], unblock[UNBLOCK_BYTES];
  struct blx_reason reason;
  if (e->rec->dead || e->rec->fenced || leaves(e)) return;
  stays(st, e, node, &reason, text, unblock);
  if (e->rec->phase == BLX_PHASE_UNREACHABLE && blx__state_reason_eq(e->rec->reason, &reason)) return;
  struct blx_instance i = *e->rec;
  i.phase = BLX_PHASE_UNREACHABLE;
  i.reason = &reason;
  blx__state_put_instance(st, &i);
}

static blx__rc may_begin(const struct blx__state *st, const struct blx_node_info *n, const struct blx_op_fence_begin *o,
                         blx_error *err) {
  const struct blx_settings *s = blx__state_settings(st);
  if (n->incarnation != o->incarnation)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the node %s was started anew meanwhile", n->name);
  if (o->by_operator) return BLX__OK;
  if (n->fence != BLX_FENCE_NONE)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the node %s is fenced already", n->name);
  if (st->data.time_ms < s->disarmed_until_ms)
    return blx__fail(err, BLX_E_CONFLICT, "state", "fencing is disarmed for another %llu s",
                     (ull)((s->disarmed_until_ms - st->data.time_ms + 999) / 1000));
  return BLX__OK;
}

/* To change an instance takes it out of the node's map for a moment: the place is found anew each time. */
static struct state_instance *next_on(const struct blx__state *st, uint64_t node_uid, const struct state_instance *e) {
  const struct blx_instance *i = blx__state_instance_on_node_after(st, node_uid, e ? e->rec->uid : 0);
  return i ? blx__state_instance_get(st, i->uid) : NULL;
}

/* How many instances a fence that goes on would take along. */
static size_t joins(const struct blx__state *st, const struct state_node *e, bool by_operator) {
  size_t n = 0;
  BLX__MAP_FOREACH(pos, &e->instances) n += moves(st, blx__map_value(pos), by_operator);
  return n;
}

/* Whether time proves it dead is decided by what it was: when it comes back it may describe itself otherwise. */
static void note_what_it_had(const struct blx__state *st, struct blx_node_info *draft, bool again) {
  struct blx__placement_node node;
  BLX__ASSERT(blx__state_placement_node(st, draft->uid, &node));
  node.fence_command = false;
  bool ready = !blx__placement_ha_missing(&node, BLX_HA_POLICY_MANUAL);
  bool timed = !blx__placement_ha_missing(&node, BLX_HA_POLICY_AUTO);
  draft->fence_ready = ready && (!again || draft->fence_ready);
  draft->fence_timed = timed && (!again || draft->fence_timed);
}

blx__rc blx__state_op_fence_begin(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                  blx_error *err) {
  const struct blx_op_fence_begin *o = op->fence_begin;
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, o->node_uid, &e, err));
  BLX__TRY(may_begin(st, e->rec, o, err));
  bool by_operator = o->by_operator != 0;
  out->uid = o->node_uid;
  /* After a recovery an operator's word is for more than is known here: it is asked for, whatever else was proved. */
  bool doubt = by_operator && blx__state_unclear_rec(st, e->rec);
  if (e->rec->fence != BLX_FENCE_NONE && joins(st, e, by_operator) == 0 && !doubt) return BLX__OK;
  struct blx_node_info draft = *e->rec;
  /* One that came back and fell silent again is cut off as what it is now: neither life of it got a lease since. */
  draft.fence = BLX_FENCE_BEGUN;
  draft.fence_incarnation = o->incarnation;
  draft.fence_since_ms = st->data.time_ms;
  draft.fence_reason = o->reason;
  draft.fence_proof = NULL;
  note_what_it_had(st, &draft, e->rec->fence != BLX_FENCE_NONE);
  blx__state_put_node(st, &draft);
  for (struct state_instance *i = NULL; (i = next_on(st, o->node_uid, i));) {
    if (moves(st, i, by_operator))
      cut(st, i, e->rec->name);
    else
      strand(st, i, e->rec->name);
  }
  blx__state_forget_rooms(st, o->node_uid);
  return BLX__OK;
}

/* ---- done */

static bool may_run(const struct state_node *e) {
  BLX__MAP_FOREACH(pos, &e->instances) {
    const struct blx_instance *i = ((const struct state_instance *)blx__map_value(pos))->rec;
    if (i->fenced && !i->dead) return true;
  }
  return false;
}

/* The incarnation that was cut off stays noted: it never registers again. */
static void lift(struct blx_node_info *draft) {
  draft->fence = BLX_FENCE_NONE;
  draft->fence_since_ms = 0;
  draft->fence_reason = NULL;
  draft->fence_proof = NULL;
  draft->fence_ready = draft->fence_timed = 0;
}

void blx__state_fence_lift(struct blx__state *st, uint64_t node_uid) {
  struct state_node *e = blx__state_node_get(st, node_uid);
  if (!e || e->rec->fence == BLX_FENCE_NONE || e->rec->incarnation == e->rec->fence_incarnation || may_run(e)) return;
  struct blx_node_info draft = *e->rec;
  lift(&draft);
  blx__state_put_node(st, &draft);
}

blx__rc blx__state_op_fence_done(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_fence_done *o = op->fence_done;
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, o->node_uid, &e, err));
  if (e->rec->fence != BLX_FENCE_BEGUN || e->rec->fence_incarnation != o->incarnation)
    return blx__fail(err, BLX_E_CONFLICT, "state", "no fence of that incarnation of %s is under way", e->rec->name);
  /* Said while it was silent, and overtaken: what ran there may run until its agent, which is back, has ended it. */
  if (o->word && e->rec->incarnation != e->rec->fence_incarnation)
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "the node %s has come back, so its machine is not off: what is to end there is proved by itself",
                     e->rec->name);
  if (!o->proof || !o->proof[0])
    return blx__fail(err, BLX_E_INVALID, "state", "proof: say what proves that nothing runs on %s any more",
                     e->rec->name);
  struct blx_node_info draft = *e->rec;
  draft.fence = BLX_FENCE_DONE;
  draft.fence_proof = o->proof;
  bool clears = o->whole && blx__state_unclear_rec(st, e->rec);
  if (clears) draft.clear_era = st->data.era;
  blx__state_put_node(st, &draft);
  if (clears) blx__state_cleared(st, o->node_uid);
  for (struct state_instance *i = NULL; (i = next_on(st, o->node_uid, i));)
    if (i->rec->fenced && !i->rec->dead) blx__state_confirm_dead(st, i);
  blx__state_fence_lift(st, o->node_uid);
  out->uid = o->node_uid;
  return BLX__OK;
}

/* ---- return */

/* Its agent may have nothing new to say of what went on: it is asked. */
static void ask_again(struct blx__state *st, const struct state_node *e) {
  BLX__MAP_FOREACH(pos, &e->instances) {
    struct state_instance *i = blx__map_value(pos);
    if (!i->rec->dead && i->rec->phase == BLX_PHASE_UNREACHABLE) blx__state_put_instance_seq(st, i, 0);
  }
  blx__state_touch_share(st, e->rec->uid);
}

blx__rc blx__state_op_node_return(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                  blx_error *err) {
  const struct blx_node_info *o = op->node_return->node;
  if (!o) return blx__fail(err, BLX_E_INVALID, "state", "node: the registration is empty");
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, o->uid, &e, err));
  if (e->rec->fence == BLX_FENCE_NONE)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the node %s is not fenced: it registers", e->rec->name);
  if (o->incarnation == 0 || o->incarnation == e->rec->fence_incarnation)
    return blx__fail(err, BLX_E_CONFLICT, "state", "this incarnation of %s was fenced: it comes back as a new one",
                     e->rec->name);
  struct blx_node_info draft = *e->rec;
  struct blx_label *labels[STATE_LABELS_MAX];
  blx__state_take_description(&draft, o, labels);
  if (!may_run(e)) lift(&draft);
  blx__state_put_node(st, &draft);
  ask_again(st, e);
  out->uid = o->uid;
  return BLX__OK;
}
