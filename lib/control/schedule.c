/* The scheduler: instances that wait and are due get a node, or room is made for them, or they are told what is
 * missing. Everything that is given in a step is given on paper first, so that the next instance of the step finds it
 * taken. A plan is the same with nothing but paper: instances that are not there yet, its guests, have their turn among
 * those that wait. */
#include "control/control_int.h"
#include "base/digest.h"

enum { TEXT_BYTES = BLX__FLEET_NEAREST_BYTES, SOON_MAX = 16 };

/* A node that is kept: for one that instances end for there, or for one that has waited for long. */
struct hold {
  uint64_t node_uid, instance_uid;
  uint32_t priority;
  bool patient;
};

struct pass {
  struct blx__control *c;
  const struct blx__control_input *in;
  struct blx__arena *arena;
  struct blx__control_out *out;
  struct queue *queue;
  struct hold holds[BLX__CONTROL_HOLDS_MAX];
  size_t n_holds, reserved;
  struct blx__map hopeless; /* VM uid and whether survival counts -> the text; what no node could take in this step */
  struct blx__map ended;    /* uids of VMs of which an instance is to end for another one, by this step */
  size_t explained, nearest, preempted, soon;
  bool cut, look_again;
  const struct blx__guests *guests; /* of a plan: nothing is proposed, and nobody but they is told anything */
  struct blx__guest_did *did;       /* the one of them that has its turn; NULL: none of them */
  const struct blx_instance *first; /* of a plan: the first that was given a node and is no guest, */
  size_t given;                     /* and how many were */
  bool no_way;                      /* of a plan: nothing can end for any guest */
};

/* One instance that has its turn. */
struct turn {
  const struct blx_instance *i;
  const struct blx_vm *vm;
  struct view_vm *view;
  struct blx__fleet_request request;
  uint64_t barred[CONTROL_BARRED_MAX], reserved[BLX__CONTROL_HOLDS_MAX];
};

/* ---- operations */

static const char *tenant_of(const struct pass *p, const struct blx_instance *i) {
  const struct blx_vm *vm = blx__state_vm(p->in->st, i->vm_uid);
  return vm ? vm->tenant : p->guests->vm->tenant;
}

static blx__rc propose(struct pass *p, const struct blx_op *op, blx_error *err) {
  if (p->guests) return BLX__OK;
  return blx__control_propose(p->out, p->arena, op, err);
}

static blx__rc propose_assign(struct pass *p, const struct blx_instance *i, uint64_t node_uid, blx_error *err) {
  struct blx_op_assign o = BLX_OP_ASSIGN_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.instance_uid = i->uid;
  o.node_uid = node_uid;
  o.expected_epoch = i->epoch;
  o.by_tenant = blx__state_tombstone_named(p->in->st, i->name, node_uid);
  op.assign = &o;
  op.tenant = tenant_of(p, i);
  op.source = "scheduler"; /* it leaves a record in the audit log; an explanation decides nothing */
  return propose(p, &op, err);
}

static blx__rc propose_preempt(struct pass *p, const struct blx_instance *i, const struct blx__fleet_preemption *how,
                               blx_error *err) {
  struct blx_preempt_victim victims[BLX__FLEET_VICTIMS_MAX], *list[BLX__FLEET_VICTIMS_MAX];
  struct blx_op_preempt o = BLX_OP_PREEMPT_INIT;
  struct blx_op op = BLX_OP_INIT;
  BLX__ASSERT(how->n <= BLX__COUNT(victims));
  for (size_t v = 0; v < how->n; v++) {
    victims[v] = (struct blx_preempt_victim)BLX_PREEMPT_VICTIM_INIT;
    victims[v].uid = how->victims[v];
    victims[v].epoch = how->epochs[v];
    list[v] = &victims[v];
  }
  o.instance_uid = i->uid;
  o.expected_epoch = i->epoch;
  o.node_uid = how->node_uid;
  o.victims = list;
  o.n_victims = how->n;
  o.by_tenant = blx__state_tombstone_named(p->in->st, i->name, how->node_uid);
  op.preempt = &o;
  op.tenant = tenant_of(p, i);
  op.source = "scheduler";
  return propose(p, &op, err);
}

static bool says(const struct blx_reason *r, const struct blx_reason *wanted) {
  return r && r->code == wanted->code && blx__str_eq(r->text, wanted->text) && blx__str_eq(r->unblock, wanted->unblock);
}

static blx__rc propose_explain(struct pass *p, const struct blx_instance *i, struct blx_reason *reason,
                               blx_error *err) {
  struct blx_op_explain o = BLX_OP_EXPLAIN_INIT;
  struct blx_op op = BLX_OP_INIT;
  if (says(i->reason, reason)) return BLX__OK;
  if (p->explained == BLX__CONTROL_EXPLAIN_MAX) {
    p->cut = true;
    return BLX__OK;
  }
  p->explained++;
  o.instance_uid = i->uid;
  o.expected_epoch = i->epoch;
  o.reason = reason;
  op.explain = &o;
  return propose(p, &op, err);
}

static blx__rc propose_no_room(struct pass *p, const struct blx_instance *i, const char *text, blx_error *err) {
  struct blx_reason reason = BLX_REASON_INIT;
  reason.code = BLX_REASON_CODE_NO_ROOM;
  reason.text = text;
  reason.unblock = "it starts as soon as a node can take it";
  return propose_explain(p, i, &reason, err);
}

/* Nothing that changes often stands in the sentences: each change would be an operation. */
static blx__rc propose_wait(struct pass *p, const struct blx_instance *i, const struct blx_vm *on, blx_error *err) {
  struct blx_reason reason = BLX_REASON_INIT;
  char text[160], unblock[160];
  bool runs = on->desired == BLX_DESIRED_RUNNING;
  (void)blx__str_format(text, sizeof text, "waits for the VM %s, on which it depends and which %s", on->spec->name,
                        runs ? "does not run yet" : "is stopped");
  (void)blx__str_format(unblock, sizeof unblock, runs ? "it starts when all instances of %s run" : "start the VM %s",
                        on->spec->name);
  reason.code = BLX_REASON_CODE_WAITS_FOR_START;
  reason.text = text;
  reason.unblock = unblock;
  return propose_explain(p, i, &reason, err);
}

/* Who is waited for changes with each node, and is not said here, but by `node list`. */
static blx__rc propose_held(struct pass *p, const struct blx_instance *i, blx_error *err) {
  struct blx_reason reason = BLX_REASON_INIT;
  reason.code = BLX_REASON_CODE_RECOVERED;
  reason.text =
      "a part of the log was lost in a recovery: by that it may run on a node that has not said what runs there";
  reason.unblock =
      "start each node's daemon; one whose machine is off: `blixard node fence NODE --proved 'HOW YOU KNOW'`";
  return propose_explain(p, i, &reason, err);
}

/* ---- nodes that are kept */

static const struct hold *hold_of(const struct pass *p, uint64_t instance_uid) {
  for (size_t h = 0; h < p->n_holds; h++)
    if (p->holds[h].instance_uid == instance_uid) return &p->holds[h];
  return NULL;
}

static void add_hold(struct pass *p, const struct turn *t, uint64_t node_uid, bool patient) {
  if (p->n_holds == BLX__CONTROL_HOLDS_MAX || hold_of(p, t->i->uid)) return;
  p->holds[p->n_holds++] = (struct hold){node_uid, t->i->uid, t->vm->spec->priority, patient};
  p->reserved += patient;
}

/* Something ends there, and it waits for that. */
static bool room_is_made(const struct blx__state *st, const struct blx_instance *i) {
  const struct blx_instance *v = i->room_on_uid ? blx__state_instance_on_node_after(st, i->room_on_uid, 0) : NULL;
  for (; v; v = blx__state_instance_on_node_after(st, i->room_on_uid, v->uid))
    if (!v->dead && blx__state_is_ending(blx__state_vm(st, v->vm_uid), v)) return true;
  return false;
}

/* Those that are kept for others of its priority or a higher one. */
static void keep_off(const struct pass *p, struct turn *t) {
  size_t n = 0;
  for (size_t h = 0; h < p->n_holds; h++) {
    const struct hold *hold = &p->holds[h];
    if (hold->instance_uid != t->i->uid && hold->priority >= t->vm->spec->priority) t->reserved[n++] = hold->node_uid;
  }
  t->request.reserved = t->reserved;
  t->request.n_reserved = n;
}

static const struct hold *hold_on(const struct pass *p, const struct turn *t, uint64_t node_uid) {
  for (size_t h = 0; h < p->n_holds; h++) {
    const struct hold *hold = &p->holds[h];
    if (hold->node_uid == node_uid && hold->instance_uid != t->i->uid && hold->priority >= t->vm->spec->priority)
      return hold;
  }
  return NULL;
}

/* ---- one instance */

struct blx__fleet_request blx__control_request(const struct blx__state *st, const struct blx_instance *i,
                                               const struct blx_vm *vm, uint64_t barred[CONTROL_BARRED_MAX]) {
  size_t n = 0;
  uint64_t uid = blx__state_tombstone_node_after(st, vm->tenant, i->name, 0);
  for (; uid != 0 && n < CONTROL_BARRED_MAX; uid = blx__state_tombstone_node_after(st, vm->tenant, i->name, uid))
    barred[n++] = uid;
  struct blx__fleet_request r = {.vm_uid = i->vm_uid,
                                 .instance_uid = i->uid,
                                 .sticky_uid = i->node_uid,
                                 .barred = barred,
                                 .n_barred = n,
                                 .keep_survive = i->spec_revision == 0};
  /* What failed there so often may run elsewhere: its data are not on that node alone. */
  if (vm->spec->ha != BLX_HA_POLICY_OFF && i->failures > 0 && i->failures >= vm->spec->ha_max_restart)
    r.avoid_uid = i->node_uid;
  return r;
}

/* What was promised in earlier steps, unless somebody of higher priority has it now. */
static blx__rc find_holds(struct pass *p, blx_error *err) {
  const struct blx_instance *i;
  for (size_t at = 0; (i = blx__queue_look(p->queue, at)) != NULL; at++) {
    if (i->room_on_uid == 0 || !blx__view_node(p->c, i->room_on_uid)) continue;
    struct turn t = {.i = i, .vm = blx__state_vm(p->in->st, i->vm_uid)};
    struct blx__fleet_verdict v;
    blx_error why = {0};
    if (!blx__view_vm(p->c, p->in->st, t.vm, &why)) {
      if (why.code == BLX_E_BUSY) continue; /* its turn says so */
      return blx__fail_as(err, &why);
    }
    t.request = blx__control_request(p->in->st, i, t.vm, t.barred);
    bool fits = blx__fleet_judge(p->c->fleet, &t.request, i->room_on_uid, &v) && v.v.obstacles == 0;
    if (fits || room_is_made(p->in->st, i)) add_hold(p, &t, i->room_on_uid, false);
  }
  return BLX__OK;
}

static blx__rc give(struct pass *p, const struct turn *t, uint64_t node_uid, blx_error *err) {
  const struct blx__fleet_instance to = {t->i->uid, t->i->vm_uid, node_uid, t->i->epoch + 1, false};
  BLX__TRY(blx__view_give(p->c, t->view, &to, err));
  if (blx__queue_is_patient(p->queue)) blx__queue_content(p->queue);
  if (p->did) p->did->node_uid = node_uid;
  if (!p->did && p->given++ == 0) p->first = t->i;
  return propose_assign(p, t->i, node_uid, err);
}

/* A node that has not been heard from by this leader yet could take it. */
static bool may_change_soon(struct pass *p, const struct turn *t) {
  struct blx__fleet_request r = t->request;
  r.keep_survive = false; /* weighs the whole fleet for each node */
  if (p->c->unknown == 0) return false;
  if (p->soon++ == SOON_MAX) {
    p->soon--;
    return true;
  }
  for (size_t n = 0; p->c->unknown > 0 && n < p->c->n_nodes; n++) {
    struct blx__fleet_verdict v;
    if (p->c->nodes[n].soft.status != BLX_NODE_STATUS_UNKNOWN) continue;
    if (blx__fleet_judge(p->c->fleet, &r, p->c->nodes[n].uid, &v) && v.v.obstacles == UINT32_C(1)
                                                                                          << BLX_OBSTACLE_CODE_SILENT)
      return true;
  }
  return false;
}

enum { PREEMPT_TRIES = 8 };

bool blx__control_preempt(const struct blx__control *c, const struct blx__state *st, const struct blx_vm *as,
                          const struct blx__fleet_request *request, struct blx__fleet_preemption *out) {
  uint64_t reserved[BLX__CONTROL_HOLDS_MAX + PREEMPT_TRIES];
  struct blx__fleet_request r = *request;
  BLX__ASSERT(r.n_reserved <= BLX__CONTROL_HOLDS_MAX);
  for (size_t i = 0; i < r.n_reserved; i++) reserved[i] = r.reserved[i];
  r.reserved = reserved;
  for (unsigned tries = 0; tries < PREEMPT_TRIES && blx__fleet_preempt(c->fleet, &r, out); tries++) {
    if (!blx__state_needed_victim(st, as->tenant, as->spec, out->victims, out->n)) return true;
    reserved[r.n_reserved++] = out->node_uid;
  }
  return false;
}

/* Each search looks at all instances: a step has so many. For guests those of the steps that would follow count too,
 * but what found nothing for one of them finds nothing for the next. */
static bool may_search(struct pass *p, const struct turn *t) {
  if (p->did) return !p->no_way || t->request.n_barred > 0;
  p->cut = p->cut || p->preempted == BLX__CONTROL_PREEMPT_MAX;
  return p->preempted < BLX__CONTROL_PREEMPT_MAX;
}

/* Instances of lower priority end for it; true: that is on its way now. */
static blx__rc make_room(struct pass *p, const struct turn *t, bool *made, blx_error *err) {
  struct blx__fleet_preemption how;
  *made = false;
  if (t->vm->spec->priority == 0 || p->n_holds == BLX__CONTROL_HOLDS_MAX) return BLX__OK;
  if (!may_search(p, t)) return BLX__OK;
  p->preempted += !p->did;
  *made = blx__control_preempt(p->c, p->in->st, t->vm, &t->request, &how);
  if (!*made) p->no_way = p->no_way || (p->did && t->request.n_barred == 0);
  if (!*made) return BLX__OK;
  if (p->did) p->did->room = how;
  add_hold(p, t, how.node_uid, false);
  for (size_t v = 0; v < how.n; v++) {
    const struct blx_instance *victim = blx__state_instance(p->in->st, how.victims[v]);
    BLX__TRY(blx__view_end(p->c, victim, err));
    if (!blx__map_set_u64(&p->ended, victim->vm_uid, p, NULL))
      return blx__fail(err, BLX_E_NOMEM, "control", "no memory for a step");
  }
  return propose_preempt(p, t->i, &how, err);
}

/* It would go there if the node were empty. */
static bool could_ever(const struct pass *p, const struct turn *t, uint64_t node_uid) {
  struct blx__placement_node node;
  struct blx__placement_amount named[32];
  if (!blx__state_placement_node(p->in->st, node_uid, &node)) return false;
  node.allocated_cpu_milli = node.allocated_memory_mib = 0;
  if (node.n_named > BLX__COUNT(named)) return false;
  for (size_t i = 0; i < node.n_named; i++)
    named[i] = (struct blx__placement_amount){.name = node.named[i].name, .capacity = node.named[i].capacity};
  node.named = named;
  struct blx__placement_need need = blx__placement_need_of(t->vm->spec, blx__state_limits(p->in->st, t->vm->tenant));
  return blx__placement_feasible(&node, &need, NULL, NULL);
}

/* It has waited for long: the node that is nearest to having room for it is given to none that came later. */
static void reserve(struct pass *p, const struct turn *t) {
  if (p->reserved == BLX__CONTROL_RESERVED_MAX) return;
  uint64_t node_uid = blx__fleet_nearest_node(p->c->fleet, &t->request);
  if (node_uid == 0 || !could_ever(p, t, node_uid)) return;
  add_hold(p, t, node_uid, true);
  blx__queue_content(p->queue);
}

/* Words cost a look at every node: a step has so many. */
static bool may_say(struct pass *p, const struct turn *t) {
  bool said = t->i->reason && t->i->reason->code == BLX_REASON_CODE_NO_ROOM;
  size_t waiting = blx__state_counts(p->in->st).waiting;
  if (p->guests) return p->did != NULL;
  /* Which ones are worked out again is drawn from the time, so that each has its turn. */
  bool drawn = waiting <= BLX__CONTROL_NEAREST_MAX ||
               blx__mix64(p->in->now_ms ^ blx__mix64(t->vm->uid)) % waiting < BLX__CONTROL_NEAREST_MAX;
  if ((said && !drawn) || p->nearest == BLX__CONTROL_NEAREST_MAX || p->explained == BLX__CONTROL_EXPLAIN_MAX) {
    p->cut = true;
    return false;
  }
  p->nearest++;
  return true;
}

static const struct blx_instance *instance_of(const struct pass *p, uint64_t uid) {
  for (size_t k = 0; p->guests && k < p->guests->n; k++)
    if (p->guests->list[k].uid == uid) return &p->guests->list[k];
  return blx__state_instance(p->in->st, uid);
}

/* Why there is none; kept for its other replicas. NULL: not worked out in this step. */
static const char *text_of(struct pass *p, struct turn *t, bool share) {
  char text[TEXT_BYTES];
  struct blx__fleet_choice choice;
  uint64_t key = t->vm->uid * 2 + t->request.keep_survive;
  const char *known = share ? blx__map_get_u64(&p->hopeless, key) : NULL;
  if (known && known[0]) return known;
  if (!may_say(p, t)) return NULL;
  size_t reserved = t->request.n_reserved;
  t->request.n_reserved = 0;
  const struct hold *kept = NULL;
  if (reserved > 0 && blx__fleet_choose(p->c->fleet, &t->request, &choice)) kept = hold_on(p, t, choice.node_uid);
  const struct blx_instance *other = kept ? instance_of(p, kept->instance_uid) : NULL;
  const struct blx_node_info *node = kept ? blx__state_node(p->in->st, kept->node_uid) : NULL;
  const char *whose = other ? tenant_of(p, other) : "";
  bool foreign = !blx__str_eq(whose, t->vm->tenant);
  if (other && node)
    (void)blx__str_format(text, sizeof text, "%s has room that is kept for %s%s%s, which %s", node->name, other->name,
                          foreign ? " of tenant " : "", foreign ? whose : "",
                          kept->patient ? "waits longer" : "other instances end for there");
  else
    blx__fleet_nearest(p->c->fleet, &t->request, text, sizeof text);
  t->request.n_reserved = reserved;
  const char *copy = blx__arena_strdup(p->arena, text);
  if (share && copy && !blx__map_set_u64(&p->hopeless, key, (void *)(uintptr_t)copy, NULL)) return copy;
  return copy;
}

/* What it depends on runs, and is to end by this very step. */
static bool needs_ended(const struct pass *p, const struct blx_vm *vm) {
  for (size_t d = 0; p->ended.count > 0 && d < vm->spec->n_depends_on; d++) {
    const struct blx_vm *on = blx__state_vm_by_name(p->in->st, vm->tenant, vm->spec->depends_on[d]);
    if (on && blx__map_get_u64(&p->ended, on->uid)) return true;
  }
  return false;
}

static bool is_guest(const struct pass *p, const struct blx_instance *i) {
  return p->guests && i->uid > CONTROL_UID;
}

/* Nothing takes it, as far as is known. */
static blx__rc find_way(struct pass *p, struct turn *t, bool share, blx_error *err) {
  bool made = false;
  if (!p->did && may_change_soon(p, t)) {
    /* A new leader knows nobody yet: it says nothing that the next second may prove wrong. */
    p->look_again = true;
    return BLX__OK;
  }
  if (room_is_made(p->in->st, t->i)) return BLX__OK;
  BLX__TRY(make_room(p, t, &made, err));
  if (made) return BLX__OK;
  if (blx__queue_is_patient(p->queue)) reserve(p, t);
  const char *text = text_of(p, t, share);
  if (p->did) p->did->text = text;
  return text ? propose_no_room(p, t->i, text, err) : BLX__OK;
}

static blx__rc turn(struct pass *p, const struct blx_instance *i, blx_error *err) {
  struct turn t = {.i = i, .vm = is_guest(p, i) ? p->guests->vm : blx__state_vm(p->in->st, i->vm_uid)};
  struct blx__fleet_choice choice;
  BLX__ASSERT(t.vm != NULL && t.vm->uid == i->vm_uid);
  if (blx__state_is_held(p->in->st, i)) return propose_held(p, i, err);
  const struct blx_vm *awaited = blx__state_awaits(p->in->st, t.vm);
  if (awaited) return propose_wait(p, i, awaited, err);
  if (needs_ended(p, t.vm)) return BLX__OK; /* and says so in the next step */
  blx_error why = {0};
  t.view = blx__view_vm(p->c, p->in->st, t.vm, &why);
  if (!t.view && why.code == BLX_E_BUSY && !p->did) return propose_no_room(p, i, why.message, err);
  if (!t.view) return blx__fail_as(err, &why);
  t.request = blx__control_request(p->in->st, i, t.vm, t.barred);
  keep_off(p, &t);
  /* What holds for it alone says nothing about the others of its VM, nor they about it. */
  bool share = t.request.n_barred == 0 && !hold_of(p, i->uid);
  uint64_t key = t.vm->uid * 2 + t.request.keep_survive;
  bool hopeless = share && blx__map_get_u64(&p->hopeless, key) != NULL;
  bool found = !hopeless && blx__fleet_choose(p->c->fleet, &t.request, &choice);
  if (p->did) BLX__TRY(p->guests->looked(p->guests->user, i, &t.request, found, err));
  if (found) return give(p, &t, choice.node_uid, err);
  if (!hopeless && share && !blx__map_set_u64(&p->hopeless, key, (void *)(uintptr_t) "", NULL))
    return blx__fail(err, BLX_E_NOMEM, "control", "no memory for a step");
  return find_way(p, &t, share, err);
}

static blx__rc guest_turn(struct pass *p, const struct blx_instance *i, blx_error *err) {
  struct blx__guest_did did = {.i = i,
                               .before = p->given,
                               .first = p->first,
                               .text = "waits for a VM that it depends on, which ends for another"};
  p->did = &did;
  blx__rc rc = turn(p, i, err);
  p->did = NULL;
  if (rc.code != 0) return rc;
  if (!did.text) return blx__fail(err, BLX_E_NOMEM, "control", "no memory for a plan");
  return p->guests->done(p->guests->user, &did, err);
}

/* ---- all of them */

static blx__rc take_turns(struct pass *p, blx_error *err) {
  const struct blx_instance *i;
  size_t guests = p->guests ? p->guests->n : 1;
  while (guests > 0 && (i = blx__queue_next(p->queue)) != NULL) {
    if (p->out && p->out->op_count == BLX__CONTROL_OPS_MAX) {
      p->cut = true;
      return BLX__OK;
    }
    bool guest = is_guest(p, i);
    BLX__TRY(guest ? guest_turn(p, i, err) : turn(p, i, err));
    guests -= guest;
  }
  p->cut = p->cut || blx__queue_cut(p->queue);
  return BLX__OK;
}

static blx__rc run(struct pass *p, blx_error *err) {
  blx__rc rc = blx__queue_new(p->c, p->in, p->guests, p->arena, &p->queue, err);
  if (rc.code == 0) rc = find_holds(p, err);
  if (rc.code == 0) rc = take_turns(p, err);
  blx__map_clear(&p->hopeless);
  blx__map_clear(&p->ended);
  return rc;
}

static void note_due(const struct pass *p) {
  uint64_t due_ms = blx__state_next_due_ms(p->in->st, p->in->now_ms);
  if (due_ms > 0) blx__control_due(p->out, due_ms);
  if (p->cut || p->look_again) blx__control_due(p->out, p->in->now_ms + BLX__CONTROL_LOOK_AGAIN_MS);
}

blx__rc blx__control_schedule(struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
                              struct blx__control_out *out, blx_error *err) {
  if (blx__state_counts(in->st).waiting == 0) return BLX__OK;
  struct pass p = {.c = c, .in = in, .arena = arena, .out = out};
  BLX__TRY(blx__view_update(c, in, err));
  blx__rc rc = run(&p, err);
  if (p.queue) note_due(&p);
  if (rc.code == 0)
    blx__view_undo(c);
  else
    blx__control_forget(c);
  return rc;
}

blx__rc blx__control_seat(struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
                          const struct blx__guests *guests, blx_error *err) {
  struct pass p = {.c = c, .in = in, .arena = arena, .guests = guests};
  BLX__ASSERT(guests->n == 0 || guests->list[0].uid > CONTROL_UID);
  return run(&p, err);
}
