/* What a creation or a change of scale would do: each new instance is placed on paper, one after another. */
#include "control/control_int.h"

enum { TEXT_BYTES = 480 };

struct plan {
  struct blx__control *c;
  const struct blx__control_input *in;
  struct blx__arena *arena;
  struct blx_vm_plan *out;
  size_t most; /* nodes in the report */
  struct view_vm *vm;
  const char *name, *tenant;
  const struct blx_vm_spec *spec;
  const char *held;      /* why none of them would be placed now; NULL: they would */
  const char *none_text; /* why no node takes one now, of one that no node is barred for; NULL: not looked for yet */
  bool reported_none;
  uint64_t kept[BLX__CONTROL_HOLDS_MAX]; /* nodes where room is made */
  size_t n_kept;
};

static blx__rc no_memory(const struct plan *p, blx_error *err) {
  return blx__fail(err, BLX_E_NOMEM, "control", "a plan does not fit into %zu bytes", p->arena->limit_bytes);
}

static struct blx_planned_instance *add(struct plan *p, uint32_t ordinal) {
  struct blx_planned_instance *i = blx__arena_alloc(p->arena, sizeof *i);
  char name[80];
  if (!i) return NULL;
  *i = (struct blx_planned_instance)BLX_PLANNED_INSTANCE_INIT;
  (void)blx__str_format(name, sizeof name, "%s-%u", p->name, ordinal);
  i->instance = blx__arena_strdup(p->arena, name);
  if (!i->instance) return NULL;
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
static blx__rc report(struct plan *p, const struct blx__fleet_request *r, const char *instance, bool none,
                      blx_error *err) {
  if (p->out->report && (!none || p->reported_none)) return BLX__OK;
  struct blx_placement_report *report = blx__arena_alloc(p->arena, sizeof *report);
  if (!report) return no_memory(p, err);
  *report = (struct blx_placement_report)BLX_PLACEMENT_REPORT_INIT;
  BLX__TRY(blx__fleet_explain(p->c->fleet, r, p->most, p->arena, report, err));
  report->instance = instance;
  report->node = "";
  report->index = blx__state_index(p->in->st);
  p->out->report = report;
  p->reported_none = none;
  return BLX__OK;
}

static blx__rc take(struct plan *p, const struct blx__fleet_request *r, uint64_t node_uid, blx_error *err) {
  const struct blx__fleet_instance to = {r->instance_uid, r->vm_uid, node_uid, 1, false};
  return blx__view_give(p->c, p->vm, &to, err);
}

/* "web-1"; of another tenant "acme/web-1", unless that is too long. NULL: no memory. */
static const char *victim_name(const struct plan *p, const struct blx_instance *victim) {
  const char *tenant = blx__state_vm(p->in->st, victim->vm_uid)->tenant;
  char name[64];
  if (blx__str_eq(tenant, p->tenant && p->tenant[0] ? p->tenant : "default")) return victim->name;
  if (!blx__str_format(name, sizeof name, "%s/%s", tenant, victim->name)) return victim->name;
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
  p->kept[p->n_kept++] = how->node_uid;
  if (!out->victims || !set_text(p, out, text)) return no_memory(p, err);
  for (size_t v = 0; v < how->n; v++) {
    const struct blx_instance *victim = blx__state_instance(p->in->st, how->victims[v]);
    BLX__ASSERT(victim != NULL);
    out->victims[out->n_victims] = victim_name(p, victim);
    if (!out->victims[out->n_victims]) return no_memory(p, err);
    out->n_victims++;
    BLX__TRY(blx__view_end(p->c, victim, err));
    p->out->changes++;
  }
  return BLX__OK;
}

static blx__rc plan_none(struct plan *p, struct blx__fleet_request *r, struct blx_planned_instance *out,
                         blx_error *err) {
  struct blx__fleet_preemption how;
  char text[TEXT_BYTES];
  bool alike = p->none_text && r->n_barred == 0; /* as the one before it, for which the whole fleet was looked at */
  bool may = !alike && p->spec->priority > 0 && p->n_kept < BLX__CONTROL_HOLDS_MAX;
  struct blx_vm as = {.struct_size = sizeof as, .tenant = p->tenant, .spec = (struct blx_vm_spec *)(uintptr_t)p->spec};
  if (may && blx__control_preempt(p->c, p->in->st, &as, r, &how)) return plan_preempt(p, &how, out, err);
  out->action = "wait";
  out->node = "";
  p->out->waiting++;
  if (alike) return set_text(p, out, p->none_text) ? BLX__OK : no_memory(p, err);
  blx__fleet_nearest(p->c->fleet, r, text, sizeof text);
  if (r->n_barred == 0) p->none_text = blx__arena_strdup(p->arena, text);
  return set_text(p, out, text) ? BLX__OK : no_memory(p, err);
}

static blx__rc plan_one(struct plan *p, uint32_t ordinal, blx_error *err) {
  struct blx__fleet_request r = {.vm_uid = p->vm->uid, .instance_uid = CONTROL_UID + ordinal, .keep_survive = true};
  struct blx__fleet_choice choice;
  uint64_t barred[CONTROL_BARRED_MAX];
  struct blx_planned_instance *out = add(p, ordinal);
  if (!out) return no_memory(p, err);
  uint64_t uid = blx__state_tombstone_node_after(p->in->st, p->tenant, out->instance, 0);
  for (; uid != 0 && r.n_barred < CONTROL_BARRED_MAX;
       uid = blx__state_tombstone_node_after(p->in->st, p->tenant, out->instance, uid))
    barred[r.n_barred++] = uid;
  r.barred = barred;
  r.reserved = p->kept;
  r.n_reserved = p->n_kept;
  bool found = blx__fleet_choose(p->c->fleet, &r, &choice);
  BLX__TRY(report(p, &r, out->instance, !found, err));
  if (p->held) {
    out->action = "wait";
    out->node = "";
    return set_text(p, out, p->held) ? BLX__OK : no_memory(p, err);
  }
  if (!found) return plan_none(p, &r, out, err);
  char text[TEXT_BYTES];
  out->action = "place";
  out->node = node_name(p, choice.node_uid);
  (void)blx__str_format(text, sizeof text, "%s costs the least of those that can take it", out->node);
  if (!set_text(p, out, text)) return no_memory(p, err);
  return take(p, &r, choice.node_uid, err);
}

static blx__rc plan_removals(struct plan *p, const struct blx_vm *vm, uint32_t replicas, blx_error *err) {
  const struct blx_instance *i = blx__state_instance_after(p->in->st, vm->uid, replicas);
  for (; i; i = blx__state_instance_after(p->in->st, vm->uid, i->ordinal)) {
    if (blx__state_scaled_away(vm, i)) continue; /* it goes already */
    struct blx_planned_instance *out = add(p, i->ordinal);
    char text[TEXT_BYTES];
    if (!out) return no_memory(p, err);
    out->action = "remove";
    out->node = "";
    (void)blx__str_format(text, sizeof text, "it is removed%s%s: the highest ordinals go first",
                          i->node_uid ? " from " : "", i->node_uid ? node_name(p, i->node_uid) : "");
    if (!set_text(p, out, text)) return no_memory(p, err);
  }
  return BLX__OK;
}

static blx__rc hold_for_dependency(struct plan *p, const struct blx_vm *as, blx_error *err) {
  const struct blx_vm *on = blx__state_awaits(p->in->st, as);
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
  p->name = spec->name;
  p->tenant = req->tenant;
  p->spec = spec;
  p->out->changes = 1; /* the VM itself */
  if (req->stopped) p->held = "is defined, and not started";
  struct blx_vm as = {.struct_size = sizeof as, .tenant = req->tenant, .spec = req->spec};
  BLX__TRY(hold_for_dependency(p, &as, err));
  p->vm = blx__view_guest(p->c, p->in->st, req->tenant, spec, err);
  if (!p->vm) return (blx__rc){BLX_E_NOMEM};
  blx__rc rc = BLX__OK;
  for (uint32_t ordinal = 1; ordinal <= replicas && rc.code == 0; ordinal++) rc = plan_one(p, ordinal, err);
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
  p->name = vm->spec->name;
  p->tenant = vm->tenant;
  p->spec = vm->spec;
  if (vm->desired != BLX_DESIRED_RUNNING) p->held = "is defined, and starts when the VM is started";
  BLX__TRY(hold_for_dependency(p, vm, err));
  p->vm = blx__view_vm(p->c, p->in->st, vm, err);
  if (!p->vm) return (blx__rc){BLX_E_NOMEM};
  blx__rc rc = replicas < now ? plan_removals(p, vm, replicas, err) : BLX__OK;
  for (uint32_t ordinal = now + 1; ordinal <= replicas && rc.code == 0; ordinal++) rc = plan_one(p, ordinal, err);
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
