/* What a creation or a change of scale would do: each new instance is placed on paper, one after another. */
#include "control/control_int.h"

enum { TEXT_BYTES = 480 };

struct plan {
  struct blx__control *c;
  const struct blx__control_input *in;
  struct blx__arena *arena;
  struct blx_vm_plan *out;
  size_t most; /* nodes in the report */
  struct blx_vm vm;
  const char *held; /* why none of them would be placed now; NULL: they would */
  bool reported_none;
};

static blx__rc no_memory(const struct plan *p, blx_error *err) {
  return blx__fail(err, BLX_E_NOMEM, "control", "a plan does not fit into %zu bytes", p->arena->limit_bytes);
}

static struct blx_planned_instance *add(struct plan *p, const char *name) {
  struct blx_planned_instance *i = blx__arena_alloc(p->arena, sizeof *i);
  if (!i) return NULL;
  *i = (struct blx_planned_instance)BLX_PLANNED_INSTANCE_INIT;
  i->instance = name;
  i->node = "";
  p->out->instances[p->out->n_instances++] = i;
  p->out->changes++;
  return i;
}

static bool set_text(const struct plan *p, struct blx_planned_instance *i, const char *text) {
  i->text = blx__arena_strdup(p->arena, text);
  return i->text != NULL;
}

static const char *node_name(const struct plan *p, uint64_t uid) {
  const struct blx_node_info *n = blx__state_node(p->in->st, uid);
  return n ? n->name : "";
}

/* Of the first that finds none, or else of the first. */
static blx__rc report(void *user, const struct blx_instance *i, const struct blx__fleet_request *r, bool found,
                      blx_error *err) {
  struct plan *p = user;
  if (p->out->report && (found || p->reported_none)) return BLX__OK;
  struct blx_placement_report *report = blx__arena_alloc(p->arena, sizeof *report);
  if (!report) return no_memory(p, err);
  *report = (struct blx_placement_report)BLX_PLACEMENT_REPORT_INIT;
  BLX__TRY(blx__fleet_explain(p->c->fleet, r, p->most, p->arena, report, err));
  report->instance = i->name;
  report->node = "";
  report->index = blx__state_index(p->in->st);
  p->out->report = report;
  p->reported_none = !found;
  return BLX__OK;
}

/* ---- what becomes of each */

/* "web-1"; of another tenant "acme/web-1", unless that is too long. NULL: no memory. */
static const char *shown_name(const struct plan *p, const struct blx_instance *i) {
  const char *tenant = blx__state_vm(p->in->st, i->vm_uid)->tenant;
  char name[64];
  if (blx__str_eq(tenant, p->vm.tenant)) return i->name;
  if (!blx__str_format(name, sizeof name, "%s/%s", tenant, i->name)) return i->name;
  return blx__arena_strdup(p->arena, name);
}

static blx__rc plan_preempt(struct plan *p, const struct blx__fleet_preemption *how, struct blx_planned_instance *out,
                            blx_error *err) {
  char text[TEXT_BYTES];
  out->node = node_name(p, how->node_uid);
  out->action = how->n > 0 ? "preempt" : "wait";
  out->victims = blx__arena_alloc(p->arena, (how->n + 1) * sizeof *out->victims);
  if (how->n > 0)
    (void)blx__str_format(text, sizeof text, "%zu instance%s of lower priority would end on %s to make room for it",
                          how->n, how->n == 1 ? "" : "s", out->node);
  else
    (void)blx__str_format(text, sizeof text, "would wait for the room of instances that end on %s", out->node);
  if (!out->victims || !set_text(p, out, text)) return no_memory(p, err);
  for (size_t v = 0; v < how->n; v++) {
    const struct blx_instance *victim = blx__state_instance(p->in->st, how->victims[v]);
    BLX__ASSERT(victim != NULL);
    out->victims[out->n_victims] = shown_name(p, victim);
    if (!out->victims[out->n_victims]) return no_memory(p, err);
    out->n_victims++;
    p->out->changes++;
  }
  return BLX__OK;
}

static blx__rc plan_none(struct plan *p, const struct blx__guest_did *did, struct blx_planned_instance *out,
                         blx_error *err) {
  char text[TEXT_BYTES], first[TEXT_BYTES / 4] = "";
  const char *ahead = did->before > 0 ? shown_name(p, did->first) : "";
  out->action = "wait";
  p->out->waiting++;
  if (!ahead) return no_memory(p, err);
  if (did->before == 1)
    (void)blx__str_format(first, sizeof first, "when %s, which waits already, has its node, ", ahead);
  if (did->before > 1)
    (void)blx__str_format(first, sizeof first, "when %zu that wait already, %s first, have their nodes, ", did->before,
                          ahead);
  (void)blx__str_format(text, sizeof text, "%s%s", first, did->text);
  return set_text(p, out, text) ? BLX__OK : no_memory(p, err);
}

static blx__rc plan_one(void *user, const struct blx__guest_did *did, blx_error *err) {
  struct plan *p = user;
  struct blx_planned_instance *out = add(p, did->i->name);
  char text[TEXT_BYTES];
  if (!out) return no_memory(p, err);
  if (did->node_uid == 0 && did->room.node_uid != 0) return plan_preempt(p, &did->room, out, err);
  if (did->node_uid == 0) return plan_none(p, did, out, err);
  out->action = "place";
  out->node = node_name(p, did->node_uid);
  (void)blx__str_format(text, sizeof text, "%s costs the least of those that can take it", out->node);
  return set_text(p, out, text) ? BLX__OK : no_memory(p, err);
}

/* Nobody is given anything: none of them is started now. */
static blx__rc plan_held(struct plan *p, const struct blx__guests *guests, blx_error *err) {
  uint64_t barred[CONTROL_BARRED_MAX];
  for (size_t k = 0; k < guests->n; k++) {
    const struct blx_instance *i = &guests->list[k];
    struct blx_planned_instance *out = add(p, i->name);
    if (!out || !set_text(p, out, p->held)) return no_memory(p, err);
    out->action = "wait";
    const struct blx__fleet_request r = blx__control_request(p->in->st, i, &p->vm, barred);
    struct blx__fleet_choice choice;
    if (!p->reported_none) BLX__TRY(report(p, i, &r, blx__fleet_choose(p->c->fleet, &r, &choice), err));
  }
  return BLX__OK;
}

/* The instances of these ordinals: now, and with no past. */
static blx__rc plan_all(struct plan *p, uint32_t from, uint32_t to, blx_error *err) {
  struct blx__guests guests = {.vm = &p->vm, .user = p, .looked = report, .done = plan_one};
  struct blx_instance *list = blx__arena_alloc(p->arena, ((size_t)to + 2 - from) * sizeof *list);
  if (!list) return no_memory(p, err);
  guests.list = list;
  for (uint32_t ordinal = from; ordinal <= to; ordinal++) {
    struct blx_instance *i = &list[guests.n++];
    char name[80];
    *i = (struct blx_instance)BLX_INSTANCE_INIT;
    (void)blx__str_format(name, sizeof name, "%s-%u", p->vm.spec->name, ordinal);
    i->name = blx__arena_strdup(p->arena, name);
    i->uid = CONTROL_UID + ordinal;
    i->vm_uid = p->vm.uid;
    i->ordinal = ordinal;
    i->dead = 1;
    i->phase_since_ms = p->in->now_ms;
    if (!i->name) return no_memory(p, err);
  }
  return p->held ? plan_held(p, &guests, err) : blx__control_seat(p->c, p->in, p->arena, &guests, err);
}

static blx__rc plan_removals(struct plan *p, const struct blx_vm *vm, uint32_t replicas, blx_error *err) {
  const struct blx_instance *i = blx__state_instance_after(p->in->st, vm->uid, replicas);
  for (; i; i = blx__state_instance_after(p->in->st, vm->uid, i->ordinal)) {
    if (blx__state_scaled_away(vm, i)) continue; /* it goes already */
    struct blx_planned_instance *out = add(p, i->name);
    char text[TEXT_BYTES];
    if (!out) return no_memory(p, err);
    out->action = "remove";
    (void)blx__str_format(text, sizeof text, "it is removed%s%s: the highest ordinals go first",
                          i->node_uid ? " from " : "", i->node_uid ? node_name(p, i->node_uid) : "");
    if (!set_text(p, out, text)) return no_memory(p, err);
  }
  return BLX__OK;
}

static blx__rc hold_for_dependency(struct plan *p, blx_error *err) {
  const struct blx_vm *on = blx__state_awaits(p->in->st, &p->vm);
  char text[TEXT_BYTES];
  if (!on || p->held) return BLX__OK;
  (void)blx__str_format(text, sizeof text, "waits for the VM %s, on which it depends", on->spec->name);
  p->held = blx__arena_strdup(p->arena, text);
  return p->held ? BLX__OK : no_memory(p, err);
}

static blx__rc begin(struct plan *p, uint32_t instances, blx_error *err) {
  p->out->index = blx__state_index(p->in->st);
  p->out->instances = blx__arena_alloc(p->arena, (instances + 1) * sizeof(struct blx_planned_instance *));
  if (!p->out->instances) return no_memory(p, err);
  return blx__view_update(p->c, p->in, err);
}

static blx__rc plan_create(struct plan *p, const struct blx_vm_create_request *req, blx_error *err) {
  const struct blx_vm_spec *spec = req->spec;
  uint32_t replicas = spec->has_replicas ? spec->replicas : 1;
  BLX__TRY(blx__state_may_create(p->in->st, req->tenant, spec, err));
  BLX__TRY(begin(p, replicas, err));
  p->vm.tenant = req->tenant && req->tenant[0] ? req->tenant : "default";
  p->vm.spec = req->spec;
  p->out->changes = 1; /* the VM itself */
  if (req->stopped) p->held = "is defined, and not started";
  BLX__TRY(hold_for_dependency(p, err));
  const struct view_vm *view = blx__view_guest(p->c, p->in->st, req->tenant, spec, err);
  if (!view) return (blx__rc){BLX_E_NOMEM};
  p->vm.uid = view->uid;
  p->vm.spec_revision = view->spec_revision;
  blx__rc rc = plan_all(p, 1, replicas, err);
  blx__view_undo(p->c);
  blx__view_drop_guest(p->c);
  return rc;
}

static blx__rc plan_scale(struct plan *p, const struct blx_vm_scale_request *req, blx_error *err) {
  uint32_t replicas = req->has_replicas ? req->replicas : 1;
  BLX__TRY(blx__state_may_scale(p->in->st, req, err));
  const struct blx_vm *vm = blx__state_vm_by_name(p->in->st, req->tenant, req->name);
  BLX__ASSERT(vm != NULL);
  uint32_t now = vm->spec->has_replicas ? vm->spec->replicas : 1;
  BLX__TRY(begin(p, replicas > now ? replicas - now : now, err));
  p->vm = *vm;
  if (vm->desired != BLX_DESIRED_RUNNING) p->held = "is defined, and starts when the VM is started";
  BLX__TRY(hold_for_dependency(p, err));
  if (!blx__view_vm(p->c, p->in->st, vm, err)) return (blx__rc){BLX_E_NOMEM};
  blx__rc rc = BLX__OK;
  if (replicas < now) rc = plan_removals(p, vm, replicas, err);
  if (replicas > now) rc = plan_all(p, now + 1, replicas, err);
  blx__view_undo(p->c);
  return rc;
}

blx__rc blx__control_plan(struct blx__control *c, const struct blx__control_input *in,
                          const struct blx_vm_plan_request *req, struct blx__arena *arena, struct blx_vm_plan *out,
                          blx_error *err) {
  struct plan p = {.c = c, .in = in, .arena = arena, .out = out, .most = req->all ? 0 : CONTROL_MOST_NODES};
  *out = (struct blx_vm_plan)BLX_VM_PLAN_INIT;
  BLX__ASSERT(!req->create != !req->scale);
  blx__rc rc = req->create ? plan_create(&p, req->create, err) : plan_scale(&p, req->scale, err);
  if (rc.code == BLX_E_NOMEM) blx__control_forget(c);
  return rc;
}
