/* The calls about VMs. A handler runs on the leader (WRITE, READ) with the request decoded; see serve.c for the way
 * there. */
#include "node/node_int.h"

#include "base/digest.h"
#include "schema/validate.h"

#include <string.h>

const char *blx__call_tenant(const char *tenant) {
  return tenant && *tenant ? tenant : "default";
}

const char *blx__call_in_tenant(const char *tenant, char out[BLX__IN_TENANT_BYTES]) {
  bool named = strcmp(blx__call_tenant(tenant), "default") != 0;
  (void)blx__str_format(out, BLX__IN_TENANT_BYTES, "%s%.56s", named ? " in tenant " : "", named ? tenant : "");
  return out;
}

const char *blx__call_tenant_flag(const char *tenant, char out[BLX__IN_TENANT_BYTES]) {
  bool named = strcmp(blx__call_tenant(tenant), "default") != 0;
  (void)blx__str_format(out, BLX__IN_TENANT_BYTES, "%s%.56s", named ? " --tenant " : "", named ? tenant : "");
  return out;
}

/* A copy with another next step: the view points into the state, which is not ours to write. NULL: no memory. */
static struct blx_reason *reason_with(struct blx__arena *arena, const struct blx_reason *reason, const char *unblock) {
  struct blx_reason *copy = blx__arena_alloc(arena, sizeof *copy);
  if (!copy) return NULL;
  *copy = *reason;
  copy->unblock = blx__arena_strdup(arena, unblock);
  return copy->unblock ? copy : NULL;
}

/* A deleted VM waits for its nodes: whether the one that has not confirmed is silent, only the leader knows. */
static blx__rc add_silence(struct blx__call *call, struct blx_vm *vm, blx_error *err) {
  const struct blx__node *n = call->node;
  for (size_t i = 0; n->lead.leading && i < vm->n_instances; i++) {
    struct blx_instance *in = vm->instances[i];
    bool scaled_away = blx__state_scaled_away(vm, in);
    if ((!vm->deleting && !scaled_away) || in->node_uid == 0 ||
        blx__lead_status(n, in->node_uid) != BLX_NODE_STATUS_SUSPECT)
      continue;
    char text[320], flag[BLX__IN_TENANT_BYTES];
    (void)blx__str_format(text, sizeof text,
                          "%s is not heard from: start its daemon, or `blixard vm delete %s%s --force`", in->node,
                          vm->deleting ? vm->spec->name : in->name, blx__call_tenant_flag(vm->tenant, flag));
    struct blx_reason *why = in->reason ? reason_with(&call->arena, in->reason, text) : NULL;
    struct blx_reason *whole = vm->reason && vm->deleting ? reason_with(&call->arena, vm->reason, text) : NULL;
    if ((in->reason && !why) || (vm->reason && vm->deleting && !whole))
      return blx__fail(err, BLX_E_NOMEM, "node", "no memory for the reason of %s", in->name);
    in->reason = why;
    if (whole) vm->reason = whole;
  }
  return BLX__OK;
}

/* Answer with the VM as it is now, which is right after the apply that this call waited for. */
static void answer_vm(struct blx__call *call, const struct blx_vm *vm) {
  struct blx_vm *view = NULL;
  blx_error err;
  blx__rc rc = blx__state_view_vm(call->node->state, vm->uid, &call->arena, &view, &err);
  if (rc.code == 0) rc = add_silence(call, view, &err);
  if (rc.code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, view);
}

/* The VM that the operation was about, and no other one that has its name since. It may be gone, with the very entry
 * that deleted it or when an old request is repeated: then the answer says that much. */
static void answer_result(struct blx__call *call, const struct blx_op_result *result, const char *tenant,
                          const char *name) {
  const struct blx_vm *vm = blx__state_vm(call->node->state, result->uid);
  if (vm) {
    answer_vm(call, vm);
    return;
  }
  struct blx_vm_spec spec = {.struct_size = sizeof spec, .name = name};
  struct blx_vm gone = {.struct_size = sizeof gone, .uid = result->uid, .spec = &spec, .deleting = 1};
  gone.tenant = blx__call_tenant(tenant);
  gone.phase = BLX_PHASE_DELETING;
  gone.revision = result->index;
  blx__call_answer(call, &gone);
}

static void after_named(struct blx__call *call, const struct blx_op_result *result) {
  const struct blx_vm_name_request *req = call->request;
  answer_result(call, result, req->tenant, req->name);
}

static void after_create(struct blx__call *call, const struct blx_op_result *result) {
  const struct blx_vm_create_request *req = call->request;
  answer_result(call, result, req->tenant, req->spec->name);
}

/* What the caller left out is filled in and checked here, once; apply stores the result. */
blx__rc blx__call_admit_create(struct blx__call *call, struct blx_vm_create_request *req, blx_error *err) {
  if (!req->spec) return blx__fail(err, BLX_E_INVALID, "api", "spec: is required");
  bool has_config = req->config.len > 0, has_flake = req->spec->flake && *req->spec->flake;
  BLX__TRY(blx__msg_defaults(blx__desc_vm_create_request(), &call->arena, req, err));
  BLX__TRY(blx__msg_validate(blx__desc_vm_create_request(), req, err));
  if (has_config == has_flake)
    return blx__fail(err, BLX_E_INVALID, "api",
                     has_config ? "a VM has either a flake or a config, not both: leave one out"
                                : "a VM needs spec.flake (REF#NAME) or config (the text of a microvm.nix module)");
  if (has_flake) BLX__TRY(blx__vm_flake_check(req->spec->flake, err));
  BLX__TRY(blx__placement_spec_check(req->spec, err));
  const char *hypervisor = blx__enum_label(blx__enum_hypervisor(), req->spec->hypervisor);
  return blx__vm_hypervisor_check(hypervisor, req->spec->vcpus, req->spec->memory_mib, err);
}

static blx__rc name_config(struct blx__call *call, struct blx_vm_create_request *req, blx_error *err) {
  struct blx__slice text = {req->config.data, req->config.len};
  uint8_t digest[BLX__SHA256_BYTES];
  char *hex = blx__arena_alloc(&call->arena, BLX__SHA256_HEX);
  if (!hex) return blx__fail(err, BLX_E_NOMEM, "api", "no memory for the digest of the config");
  blx__sha256(&text, 1, digest);
  blx__sha256_hex(digest, hex);
  req->spec->config_sha256 = hex;
  return BLX__OK;
}

static blx__rc put_config(struct blx__call *call, const struct blx_vm_create_request *req, blx_error *err) {
  struct blx_op_config_put put = {.struct_size = sizeof put, .sha256 = req->spec->config_sha256, .text = req->config};
  struct blx_op op = {.struct_size = sizeof op, .config_put = &put, .tenant = req->tenant};
  op.principal = call->principal;
  op.source = call->source;
  op.reason = call->reason;
  return blx__node_propose(call->node, &op, NULL, NULL, err);
}

static void create(struct blx__call *call) {
  const struct blx_vm_create_request *req = call->request;
  struct blx_op_vm_create vm = {.struct_size = sizeof vm, .spec = req->spec};
  vm.desired = req->stopped ? BLX_DESIRED_STOPPED : BLX_DESIRED_RUNNING;
  struct blx_op op = {.struct_size = sizeof op, .vm_create = &vm, .tenant = req->tenant};
  blx__call_propose(call, &op, req->request_id, after_create);
}

/* The config goes in front of the VM in the same batch: batches keep the order of proposals. */
static void create_with_config(struct blx__call *call) {
  blx_error err;
  call->stale = NULL;
  if (put_config(call, call->request, &err).code != 0)
    blx__call_fail(call, &err);
  else
    create(call);
}

void blx__handle_vm_create(struct blx__call *call) {
  struct blx_vm_create_request *req = (struct blx_vm_create_request *)(uintptr_t)call->request;
  blx_error err;
  blx__rc rc = blx__call_admit_create(call, req, &err);
  if (rc.code == 0 && req->config.len > 0) rc = name_config(call, req, &err);
  /* One that the cluster holds may be gone, with the last VM that used it, when this is applied: it is put then. */
  call->stale = req->config.len > 0 ? create_with_config : NULL;
  if (rc.code != 0)
    blx__call_fail(call, &err);
  else if (req->config.len > 0 && !blx__state_config(call->node->state, req->spec->config_sha256))
    create_with_config(call);
  else
    create(call);
}

void blx__handle_vm_get(struct blx__call *call) {
  const struct blx_vm_name_request *req = call->request;
  const struct blx_vm *vm = blx__state_vm_lookup(call->node->state, req->tenant, req->name);
  char in_tenant[BLX__IN_TENANT_BYTES], flag[BLX__IN_TENANT_BYTES];
  if (vm)
    answer_vm(call, vm);
  else
    blx__call_failf(call, BLX_E_NOT_FOUND, "there is no VM \"%.64s\"%s: `blixard vm list%s` shows those there are",
                    req->name, blx__call_in_tenant(req->tenant, in_tenant), blx__call_tenant_flag(req->tenant, flag));
}

/* One VM behind those in @out, as a list of one: the bytes of lists one after another are those of one list. */
static blx__rc add_vm(const struct blx__state *st, uint64_t uid, struct blx__arena *arena, struct blx__buf *out,
                      blx_error *err) {
  struct blx_vm *view = NULL;
  blx__arena_reset(arena);
  BLX__TRY(blx__state_view_vm(st, uid, arena, &view, err));
  struct blx_vm_list one = {.struct_size = sizeof one, .vms = &view, .n_vms = 1};
  return blx__msg_encode(blx__desc_vm_list(), &one, out, err);
}

static const struct blx_vm *vm_behind(const struct blx__state *st, const struct blx_vm_list_request *req,
                                      const struct blx_vm *vm) {
  if (req->all_tenants) return blx__state_vm_of_any_after(st, vm->tenant, vm->spec->name);
  return blx__state_vm_after(st, vm->tenant, vm->spec->name);
}

static const struct blx_vm *first_vm(const struct blx__state *st, const struct blx_vm_list_request *req) {
  const char *after = req->after && *req->after ? req->after : NULL;
  if (!req->all_tenants) return blx__state_vm_after(st, blx__call_tenant(req->tenant), after);
  return blx__state_vm_of_any_after(st, after ? blx__call_tenant(req->after_tenant) : NULL, after);
}

/* The VMs after req->after, as many as an answer holds. @tail: after which to go on, if there are more. */
static blx__rc add_vms(const struct blx__state *st, const struct blx_vm_list_request *req, struct blx__buf *out,
                       struct blx_vm_list *tail, blx_error *err) {
  struct blx__arena arena = {.limit_bytes = BLX__NODE_CALL_ARENA};
  const struct blx_vm *last = NULL, *vm = first_vm(st, req);
  blx__rc rc = BLX__OK;
  for (uint32_t n = 0; vm && (req->limit == 0 || n < req->limit); n++) {
    rc = add_vm(st, vm->uid, &arena, out, err);
    if (rc.code != 0) break;
    last = vm;
    vm = vm_behind(st, req, vm);
  }
  /* What did not fit begins the next part; what does not fit alone never will. */
  if (req->limit > 0 && last) rc = BLX__OK;
  tail->next = vm && last ? last->spec->name : NULL;
  tail->next_tenant = tail->next && req->all_tenants ? last->tenant : NULL;
  blx__arena_free(&arena);
  return rc;
}

void blx__handle_vm_list(struct blx__call *call) {
  enum { TAIL_BYTES = 192 }; /* index and next */
  const struct blx__state *st = call->node->state;
  struct blx_vm_list tail = {.struct_size = sizeof tail, .index = blx__state_index(st)};
  struct blx__buf out;
  blx_error err;
  blx__buf_init(&out, BLX__NODE_ANSWER_MAX - TAIL_BYTES);
  blx__rc rc = add_vms(st, call->request, &out, &tail, &err);
  out.max = BLX__NODE_ANSWER_MAX;
  if (rc.code == 0) rc = blx__msg_encode(blx__desc_vm_list(), &tail, &out, &err);
  if (rc.code == 0)
    blx__call_answer_bytes(call, (struct blx__slice){out.data, out.len});
  else
    blx__call_failf(call, BLX_E_INVALID,
                    "the list of VMs does not fit into one answer of %d bytes: ask for parts of it, with limit, and go "
                    "on after the name in next",
                    BLX__NODE_ANSWER_MAX);
  blx__buf_free(&out);
}

static void desire(struct blx__call *call, enum blx_desired desired) {
  const struct blx_vm_name_request *req = call->request;
  struct blx_op_vm_desire want = {.struct_size = sizeof want, .name = req->name, .desired = (int32_t)desired};
  want.if_revision = req->if_revision;
  struct blx_op op = {.struct_size = sizeof op, .vm_desire = &want};
  op.tenant = blx__call_tenant(req->tenant);
  blx__call_propose(call, &op, req->request_id, after_named);
}

void blx__handle_vm_start(struct blx__call *call) {
  desire(call, BLX_DESIRED_RUNNING);
}

void blx__handle_vm_stop(struct blx__call *call) {
  desire(call, BLX_DESIRED_STOPPED);
}

void blx__handle_vm_restart(struct blx__call *call) {
  const struct blx_vm_name_request *req = call->request;
  struct blx_op_vm_restart restart = {.struct_size = sizeof restart, .name = req->name};
  restart.if_revision = req->if_revision;
  restart.ending = req->force ? BLX_ENDING_KILL : BLX_ENDING_SHUT_DOWN;
  struct blx_op op = {.struct_size = sizeof op, .vm_restart = &restart};
  op.tenant = blx__call_tenant(req->tenant);
  blx__call_propose(call, &op, req->request_id, after_named);
}

void blx__handle_vm_kill(struct blx__call *call) {
  const struct blx_vm_name_request *req = call->request;
  struct blx_op_vm_kill kill = {.struct_size = sizeof kill, .name = req->name, .if_revision = req->if_revision};
  struct blx_op op = {.struct_size = sizeof op, .vm_kill = &kill};
  op.tenant = blx__call_tenant(req->tenant);
  blx__call_propose(call, &op, req->request_id, after_named);
}

static void after_scale(struct blx__call *call, const struct blx_op_result *result) {
  const struct blx_vm_scale_request *req = call->request;
  answer_result(call, result, req->tenant, req->name);
}

void blx__handle_vm_scale(struct blx__call *call) {
  const struct blx_vm_scale_request *req = call->request;
  struct blx_op_vm_scale scale = {.struct_size = sizeof scale, .name = req->name, .if_revision = req->if_revision};
  struct blx_op op = {.struct_size = sizeof op, .vm_scale = &scale};
  blx_error err;
  scale.replicas = req->has_replicas ? req->replicas : 1;
  op.tenant = blx__call_tenant(req->tenant);
  if (blx__msg_validate(blx__desc_vm_scale_request(), req, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_propose(call, &op, req->request_id, after_scale);
}

static void pause_or_resume(struct blx__call *call, bool paused) {
  const struct blx_vm_name_request *req = call->request;
  struct blx_op_vm_pause pause = {.struct_size = sizeof pause, .name = req->name, .if_revision = req->if_revision};
  pause.paused = paused;
  struct blx_op op = {.struct_size = sizeof op, .vm_pause = &pause};
  op.tenant = blx__call_tenant(req->tenant);
  blx__call_propose(call, &op, req->request_id, after_named);
}

void blx__handle_vm_pause(struct blx__call *call) {
  pause_or_resume(call, true);
}

void blx__handle_vm_resume(struct blx__call *call) {
  pause_or_resume(call, false);
}

void blx__handle_vm_delete(struct blx__call *call) {
  const struct blx_vm_name_request *req = call->request;
  struct blx_op_vm_delete del = {.struct_size = sizeof del, .name = req->name, .if_revision = req->if_revision};
  struct blx_op op = {.struct_size = sizeof op, .vm_delete = &del};
  op.tenant = blx__call_tenant(req->tenant);
  blx__call_propose(call, &op, req->request_id, after_named);
}

/* The nodes of the VM's instances that this leader does not hear from. Whether there are any is for apply to say: a
 * request that is repeated gets its first answer, though the VM is gone since. */
static blx__rc find_silent(struct blx__call *call, const struct blx_vm *vm, struct blx_op_vm_delete_force *out,
                           blx_error *err) {
  const struct blx__node *n = call->node;
  enum { MOST = 1000 };
  uint64_t *uids = blx__arena_alloc(&call->arena, MOST * sizeof *uids);
  if (!uids) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a list of nodes");
  const struct blx_instance *i = vm ? blx__state_instance_after(n->state, vm->uid, 0) : NULL;
  for (; i; i = blx__state_instance_after(n->state, vm->uid, i->ordinal)) {
    bool known = i->node_uid == 0 || blx__lead_status(n, i->node_uid) == BLX_NODE_STATUS_READY;
    for (size_t at = 0; at < out->n_silent_nodes; at++) known = known || uids[at] == i->node_uid;
    if (known) continue;
    BLX__ASSERT(out->n_silent_nodes < MOST); /* a VM has at most so many instances */
    uids[out->n_silent_nodes++] = i->node_uid;
  }
  out->silent_nodes = uids;
  return BLX__OK;
}

void blx__handle_vm_delete_force(struct blx__call *call) {
  const struct blx_vm_name_request *req = call->request;
  struct blx_op_vm_delete_force del = {.struct_size = sizeof del, .name = req->name, .if_revision = req->if_revision};
  struct blx_op op = {.struct_size = sizeof op, .vm_delete_force = &del};
  blx_error err;
  op.tenant = blx__call_tenant(req->tenant);
  if (find_silent(call, blx__state_vm_lookup(call->node->state, op.tenant, req->name), &del, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_propose(call, &op, req->request_id, after_named);
}

/* ---- what would be: why an instance is where it is, what a creation would do, how many more fit */

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
  req->scale->tenant = blx__call_tenant(req->scale->tenant);
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
