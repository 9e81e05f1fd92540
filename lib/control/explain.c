/* Why an instance is where it is, or nowhere. */
#include "control/control_int.h"

static const char *tenant_of(const char *tenant) {
  return tenant && tenant[0] ? tenant : "default";
}

static bool waits(const struct blx_instance *i) {
  return i->dead && i->phase == BLX_PHASE_PENDING;
}

static blx__rc find(const struct blx__state *st, const struct blx_vm_explain_request *req,
                    const struct blx_instance **out, blx_error *err) {
  const char *name = req->name ? req->name : "";
  const struct blx_vm *vm = blx__state_vm_by_name(st, tenant_of(req->tenant), name);
  *out = vm ? NULL : blx__state_instance_by_name(st, tenant_of(req->tenant), name);
  if (*out) return BLX__OK;
  bool named = !blx__str_eq(tenant_of(req->tenant), tenant_of(NULL));
  const char *tenant = named ? req->tenant : "", *flag = named ? " --tenant " : "";
  if (!vm)
    return blx__fail(
        err, BLX_E_NOT_FOUND, "control",
        "there is no VM and no instance named %.64s%s%.56s: `blixard vm list%s%.56s` shows those there are", name,
        named ? " in tenant " : "", tenant, flag, tenant);
  const struct blx_instance *i = blx__state_instance_after(st, vm->uid, 0);
  *out = i;
  for (; i && !waits(*out); i = blx__state_instance_after(st, vm->uid, i->ordinal))
    if (waits(i)) *out = i;
  if (*out) return BLX__OK;
  return blx__fail(err, BLX_E_CONFLICT, "control", "the VM %s has no instances: `blixard vm scale %s%s%s --replicas 1`",
                   name, name, flag, tenant);
}

static const char *name_of(const struct blx__state *st, uint64_t node_uid) {
  const struct blx_node_info *n = blx__state_node(st, node_uid);
  return n ? n->name : "";
}

blx__rc blx__control_explain(struct blx__control *c, const struct blx__control_input *in,
                             const struct blx_vm_explain_request *req, struct blx__arena *arena,
                             struct blx_placement_report *out, blx_error *err) {
  const struct blx_instance *i = NULL;
  uint64_t barred[CONTROL_BARRED_MAX];
  BLX__TRY(find(in->st, req, &i, err));
  BLX__TRY(blx__view_update(c, in, err));
  const struct blx_vm *vm = blx__state_vm(in->st, i->vm_uid);
  BLX__ASSERT(vm != NULL);
  if (!blx__view_vm(c, in->st, vm, err)) return (blx__rc){BLX_E_NOMEM};
  const struct blx__fleet_request r = blx__control_request(in->st, i, vm, barred);
  BLX__TRY(blx__fleet_explain(c->fleet, &r, req->all ? 0 : CONTROL_MOST_NODES, arena, out, err));
  out->instance = i->name;
  out->node = name_of(in->st, i->node_uid);
  out->reason = i->reason;
  out->index = blx__state_index(in->st);
  return BLX__OK;
}
