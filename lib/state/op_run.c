/* What the scheduler proposes. Whatever it saw may have changed since: everything is checked again here. */
#include "state/state_int.h"

typedef unsigned long long ull;

static blx__rc find(const struct blx__state *st, uint64_t uid, uint64_t expected_epoch, struct state_instance **out,
                    blx_error *err) {
  struct state_instance *e = blx__state_instance_get(st, uid);
  if (!e) return blx__fail(err, BLX_E_NOT_FOUND, "state", "there is no instance with uid %llu", (ull)uid);
  if (e->rec->epoch != expected_epoch)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s is at epoch %llu, not %llu: it was assigned meanwhile",
                     e->rec->name, (ull)e->rec->epoch, (ull)expected_epoch);
  *out = e;
  return BLX__OK;
}

static blx__rc may_start(const struct blx__state *st, const struct state_instance *e, blx_error *err) {
  const struct blx_instance *i = e->rec;
  const struct blx_vm *vm = e->vm->rec;
  if (vm->deleting) return blx__fail(err, BLX_E_CONFLICT, "state", "the VM %s is being deleted", vm->spec->name);
  if (blx__state_scaled_away(vm, i))
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s is being deleted: the VM %s has fewer replicas now", i->name,
                     vm->spec->name);
  if (vm->desired != BLX_DESIRED_RUNNING)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the VM %s shall be stopped", vm->spec->name);
  if (!i->dead) {
    const struct blx_node_info *n = blx__state_node(st, i->node_uid);
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s is not confirmed dead on %s in epoch %llu: an instance never runs twice", i->name,
                     n ? n->name : "its node", (ull)i->epoch);
  }
  if (blx__state_is_held(st, i))
    return blx__fail(
        err, BLX_E_CONFLICT, "state",
        "%s may run where a part of the log that is lost had put it: %u nodes have not said what runs there", i->name,
        blx__state_unclear(st));
  if (!blx__state_wants_node(i, vm))
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s does not wait for a node: its restart policy leaves it",
                     i->name);
  const struct blx_vm *awaited = blx__state_awaits(st, vm);
  if (awaited)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s waits for the VM %s, which does not run", i->name,
                     awaited->spec->name);
  if (st->data.time_ms < i->not_before_ms)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s is not started again for another %llu ms", i->name,
                     (ull)(i->not_before_ms - st->data.time_ms));
  return BLX__OK;
}

static blx__rc has_room(const struct blx__state *st, const struct state_instance *e, uint64_t node_uid,
                        blx_error *err) {
  struct blx__placement_node node;
  if (!blx__state_placement_node(st, node_uid, &node))
    return blx__fail(err, BLX_E_NOT_FOUND, "state", "the cluster has no node with uid %llu", (ull)node_uid);
  if (node_uid > 0 && blx__state_tombstone_node_after(st, e->rec->name, node_uid - 1) == node_uid)
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s cannot go to %s: an earlier instance of that name was deleted by force, and %s has not "
                     "confirmed that it is gone",
                     e->rec->name, node.name, node.name);
  if (blx__state_is_unclear(st, node_uid))
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s cannot go to %s, which has not said since the recovery what runs there", e->rec->name,
                     node.name);
  struct blx__placement_need need = blx__state_need(e->vm->rec);
  struct blx__placement_verdict v;
  if (blx__placement_feasible(&node, &need, NULL, &v)) return BLX__OK;
  char text[BLX__PLACEMENT_SENTENCE_BYTES];
  struct blx__placement_case c = {.node = &node, .need = &need, .verdict = &v};
  blx__placement_sentence(&c, blx__placement_worst(v.obstacles), text, sizeof text);
  int code = v.obstacles == 1u << BLX_OBSTACLE_CODE_ROOM ? BLX_E_NO_CAPACITY : BLX_E_CONFLICT;
  return blx__fail(err, code, "state", "%s cannot go there: %s", e->rec->name, text);
}

blx__rc blx__state_op_assign(struct blx__state *st, const struct blx_op *op, struct state_answer *out, blx_error *err) {
  const struct blx_op_assign *o = op->assign;
  struct state_instance *e = NULL;
  BLX__TRY(find(st, o->instance_uid, o->expected_epoch, &e, err));
  BLX__TRY(may_start(st, e, err));
  BLX__TRY(has_room(st, e, o->node_uid, err));
  char text[128];
  blx__str_format(text, sizeof text, "%s builds its runner", blx__state_node(st, o->node_uid)->name);
  struct blx_reason reason = blx__state_reason(BLX_REASON_CODE_BUILDING, text, NULL);
  struct blx_instance i = *e->rec;
  if (i.spec_revision > 0) i.restarts++; /* it was assigned before */
  i.epoch = blx__state_next_epoch(st, e->rec);
  /* What made no disk once makes none elsewhere: its spec is the same. */
  if (i.node_uid != o->node_uid && i.local_data) i.local_data = i.data_known = 0;
  i.node_uid = o->node_uid;
  i.dead = 0;
  i.fenced = 0;
  i.phase = BLX_PHASE_CREATING;
  i.reason = &reason;
  i.report_seq = 0;
  i.not_before_ms = 0;
  i.ending = BLX_ENDING_NONE;
  i.paused = 0;
  i.spec_revision = e->vm->rec->spec_revision;
  blx__state_put_instance(st, &i);
  out->uid = i.uid;
  return BLX__OK;
}

blx__rc blx__state_op_explain(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                              blx_error *err) {
  const struct blx_op_explain *o = op->explain;
  struct state_instance *e = NULL;
  BLX__TRY(find(st, o->instance_uid, o->expected_epoch, &e, err));
  if (!blx__state_wants_node(e->rec, e->vm->rec))
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s does not wait for a node", e->rec->name);
  out->uid = e->rec->uid;
  if (blx__state_reason_eq(e->rec->reason, o->reason)) return BLX__OK;
  struct blx_instance i = *e->rec;
  i.phase = BLX_PHASE_PENDING;
  i.reason = o->reason;
  blx__state_put_instance(st, &i);
  return BLX__OK;
}
