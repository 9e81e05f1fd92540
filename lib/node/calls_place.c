/* The calls that only look at placement: why an instance is where it is, what a creation would do, how many more fit.
 */
#include "node/node_int.h"

static const char *tenant_of(const char *tenant) {
  return tenant && *tenant ? tenant : "default";
}

/* A member that does not lead hears nobody: by its state, all nodes are there. */
static void all_ready(void *user, uint64_t uid, struct blx__control_soft *out) {
  (void)user;
  (void)uid;
  *out = (struct blx__control_soft){.status = BLX_NODE_STATUS_READY};
}

struct look {
  struct blx__control *control, *own;
  struct blx__control_input in;
};

static blx__rc look_begin(struct blx__call *call, struct look *l, blx_error *err) {
  struct blx__node *n = call->node;
  *l = (struct look){.in = blx__lead_input(n)};
  if (n->lead.leading && !n->lead.control) n->lead.control = blx__control_new();
  if (!n->lead.leading) {
    l->own = blx__control_new();
    l->in.soft = all_ready;
  }
  l->control = n->lead.leading ? n->lead.control : l->own;
  return l->control ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "node", "no memory for a view of the fleet");
}

static void look_end(struct look *l) {
  blx__control_free(l->own);
}

void blx__handle_vm_explain(struct blx__call *call) {
  struct blx_placement_report report = BLX_PLACEMENT_REPORT_INIT;
  struct look l;
  blx_error err;
  blx__rc rc = look_begin(call, &l, &err);
  if (rc.code == 0) rc = blx__control_explain(l.control, &l.in, call->request, &call->arena, &report, &err);
  if (rc.code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &report);
  look_end(&l);
}

/* Exactly one of the two, complete. */
static blx__rc admit_plan(struct blx__call *call, struct blx_vm_plan_request *req, blx_error *err) {
  if (!req->create == !req->scale)
    return blx__fail(err, BLX_E_INVALID, "api", "a plan is either of a create or of a scale: leave one out");
  if (req->create) return blx__call_admit_create(call, req->create, err);
  BLX__TRY(blx__msg_validate(blx__desc_vm_plan_request(), req, err));
  req->scale->tenant = tenant_of(req->scale->tenant);
  return BLX__OK;
}

void blx__handle_vm_plan(struct blx__call *call) {
  struct blx_vm_plan_request *req = (struct blx_vm_plan_request *)(uintptr_t)call->request;
  struct blx_vm_plan plan = BLX_VM_PLAN_INIT;
  struct look l = {0};
  blx_error err;
  blx__rc rc = admit_plan(call, req, &err);
  if (rc.code == 0) rc = look_begin(call, &l, &err);
  if (rc.code == 0) rc = blx__control_plan(l.control, &l.in, req, &call->arena, &plan, &err);
  if (rc.code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &plan);
  look_end(&l);
}

/* A shape has no name and nothing to run. */
static blx__rc admit_shape(struct blx__call *call, struct blx_capacity_request *req, blx_error *err) {
  if (!req->spec) return blx__fail(err, BLX_E_INVALID, "api", "spec: is required: a shape, as 2 vCPUs with 4096 MiB");
  if (!req->spec->name || !*req->spec->name) req->spec->name = "shape";
  BLX__TRY(blx__msg_defaults(blx__desc_capacity_request(), &call->arena, req, err));
  BLX__TRY(blx__msg_validate(blx__desc_capacity_request(), req, err));
  return blx__placement_spec_check(req->spec, err);
}

void blx__handle_capacity(struct blx__call *call) {
  struct blx_capacity_request *req = (struct blx_capacity_request *)(uintptr_t)call->request;
  struct blx_capacity_report report = BLX_CAPACITY_REPORT_INIT;
  struct look l = {0};
  blx_error err;
  blx__rc rc = admit_shape(call, req, &err);
  if (rc.code == 0) rc = look_begin(call, &l, &err);
  if (rc.code == 0) rc = blx__control_capacity(l.control, &l.in, req, &call->arena, &report, &err);
  if (rc.code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &report);
  look_end(&l);
}
