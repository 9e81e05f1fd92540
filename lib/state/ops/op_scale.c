/* Another number of replicas. More: new instances behind the last ordinal. Fewer: those with the highest ordinals are
 * removed, each as the instances of a deleted VM are: its node ends it and confirms. Which ones these are follows from
 * the VM's spec alone (blx__state_scaled_away). */
#include "state/state_int.h"

/* The first above @ordinal that is still there: its name is not free. NULL: none up to @upto. */
static const struct blx_instance *still_there(const struct blx__state *st, const struct state_vm *e, uint32_t ordinal,
                                              uint32_t upto) {
  const struct blx_instance *i = blx__state_instance_after(st, e->rec->uid, ordinal);
  return i && i->ordinal <= upto ? i : NULL;
}

static blx__rc may_grow(const struct blx__state *st, const struct blx_op *op, const struct state_vm *e, uint32_t from,
                        uint32_t to, blx_error *err) {
  const char *name = e->rec->spec->name;
  const struct blx_instance *i = still_there(st, e, from, to);
  if (i) {
    const struct blx_node_info *n = blx__state_node(st, i->node_uid);
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s is being deleted since %s was scaled to %u: its name is free when %s confirmed", i->name, name,
                     from, n ? n->name : "its node");
  }
  if (st->data.instances.count + (to - from) > BLX__STATE_INSTANCES_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %zu of %d instances: %u more do not fit",
                     st->data.instances.count, (int)BLX__STATE_INSTANCES_MAX, to - from);
  BLX__TRY(blx__state_quota_allows(st, op->tenant, e->rec->spec, 0, to - from, err));
  return blx__state_replica_names_free(st, op->tenant, name, from + 1, to, err);
}

static void grow(struct blx__state *st, const struct state_vm *e, uint32_t from, uint32_t to) {
  bool run = e->rec->desired == BLX_DESIRED_RUNNING;
  struct blx_reason reason = run ? blx__state_unplaced() : blx__state_not_started();
  struct blx_vm like = *e->rec;
  like.phase = run ? BLX_PHASE_PENDING : BLX_PHASE_STOPPED;
  like.reason = &reason;
  for (uint32_t ordinal = from + 1; ordinal <= to; ordinal++) blx__state_create_instance(st, &like, ordinal);
}

/* The highest goes first. */
static void shrink(struct blx__state *st, const struct state_vm *e, uint32_t from, uint32_t to) {
  for (uint32_t ordinal = from; ordinal > to; ordinal--) {
    struct state_instance *i = blx__map_get_u64(&e->instances, ordinal);
    BLX__ASSERT(i != NULL);
    blx__state_want_removed(st, i);
  }
}

static blx__rc may_scale(const struct blx__state *st, const struct blx_op *op, struct state_vm **out, blx_error *err) {
  const struct blx_op_vm_scale *o = op->vm_scale;
  struct state_vm *e = NULL;
  BLX__TRY(blx__state_vm_find(st, op, o->name, o->if_revision, &e, err));
  BLX__TRY(blx__state_vm_stays(e, err));
  uint32_t from = blx__state_replicas(e->rec->spec), to = o->replicas;
  if (to > STATE_REPLICAS_MAX)
    return blx__fail(err, BLX_E_INVALID, "state", "replicas: %u is above %d", to, (int)STATE_REPLICAS_MAX);
  if (to > from) BLX__TRY(may_grow(st, op, e, from, to, err));
  if (to < from) BLX__TRY(blx__state_none_held(st, e, to, err));
  *out = e;
  return BLX__OK;
}

blx__rc blx__state_may_scale(const struct blx__state *st, const struct blx_vm_scale_request *req, blx_error *err) {
  struct blx_op_vm_scale scale = BLX_OP_VM_SCALE_INIT;
  struct blx_op op = BLX_OP_INIT;
  struct state_vm *e = NULL;
  scale.name = req->name;
  scale.if_revision = req->if_revision;
  scale.replicas = req->has_replicas ? req->replicas : 1;
  op.tenant = req->tenant;
  op.vm_scale = &scale;
  return may_scale(st, &op, &e, err);
}

blx__rc blx__state_op_vm_scale(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                               blx_error *err) {
  struct state_vm *e = NULL;
  BLX__TRY(may_scale(st, op, &e, err));
  uint32_t from = blx__state_replicas(e->rec->spec), to = op->vm_scale->replicas;
  out->uid = e->rec->uid;
  if (to == from) return BLX__OK;
  struct blx_vm_spec spec = *e->rec->spec;
  struct blx_vm draft = *e->rec;
  spec.has_replicas = 1;
  spec.replicas = to;
  draft.spec = &spec; /* its revision stays: what runs is as it would be started now */
  blx__state_put_vm(st, &draft);
  if (to > from)
    grow(st, e, from, to);
  else
    shrink(st, e, from, to);
  BLX__ASSERT(e->instances.count >= to);
  STATE_MUST(blx__map_set_u64(&st->data.unsettled, e->rec->uid, e, NULL));
  return BLX__OK;
}

blx__rc blx__state_give_up(struct blx__state *st, const struct blx_op *op, struct state_instance *e, bool silent,
                           blx_error *err) {
  const char *vm = e->vm->rec->spec->name, *name = e->rec->name;
  const struct blx_node_info *n = blx__state_node(st, e->rec->node_uid);
  if (!blx__state_leaving(e))
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s is an instance of the VM %s, which is to have it: scale %s to fewer replicas first", name, vm,
                     vm);
  if (!n) { /* no operation leaves it so: what is nowhere goes at once */
    blx__state_drop_instance(st, e);
    return BLX__OK;
  }
  if (!silent)
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s is heard from and removes %s by itself; a node is Suspect after %u ms of silence "
                     "(lease.suspect_ms)",
                     n->name, name, blx__state_settings(st)->lease->suspect_ms);
  if (st->data.tombstones.count >= BLX__STATE_TOMBSTONES_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state",
                     "the cluster remembers %zu instances that silent nodes must still remove, %d is the most: bring "
                     "back a node that `blixard node list` shows as Suspect",
                     st->data.tombstones.count, (int)BLX__STATE_TOMBSTONES_MAX);
  uint64_t node_uid = n->uid;
  blx__state_bury(st, e, op->principal);
  blx__state_fence_lift(st, node_uid);
  return BLX__OK;
}
