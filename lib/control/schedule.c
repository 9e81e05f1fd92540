/* The scheduler: instances that wait and are due get a node, or a sentence that says what is missing. */
#include "control/control_int.h"
#include "base/digest.h"

enum { SHAPES_MAX = 32 };

/* What no node could take earlier in this step. A step only gives room away, so the answer stays. */
struct shape {
  struct blx__placement_need need;
  char text[BLX__PLACEMENT_EXPLAIN_BYTES];
  bool may_change_soon; /* a node not heard from yet could take it */
};

struct pass {
  const struct blx__state *st;
  struct blx__arena *arena;
  struct blx__control_out *out;
  uint64_t now_ms;
  struct control_fleet fleet;
  struct shape *shapes; /* SHAPES_MAX, the oldest is overwritten; then one for an instance that nodes are barred for */
  size_t shape_count, explained, searches;
  bool cut, look_again;
};

/* ---- operations */

static blx__rc propose(struct pass *p, const struct blx_op *op, blx_error *err) {
  return blx__control_propose(p->out, p->arena, op, err);
}

static blx__rc propose_assign(struct pass *p, const struct blx_instance *i, uint64_t node_uid, blx_error *err) {
  struct blx_op_assign o = BLX_OP_ASSIGN_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.instance_uid = i->uid;
  o.node_uid = node_uid;
  o.expected_epoch = i->epoch;
  op.assign = &o;
  op.source = "scheduler"; /* it leaves a record in the audit log; an explanation decides nothing */
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

/* Nothing that changes often stands in the sentence: each change would be an operation. */
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

/* ---- what was found impossible */

static bool same_need(const struct blx__placement_need *a, const struct blx__placement_need *b) {
  if (a->cpu_milli != b->cpu_milli || a->memory_mib != b->memory_mib || a->hypervisor != b->hypervisor ||
      a->ha != b->ha || a->n_selector != b->n_selector)
    return false;
  for (size_t i = 0; i < a->n_selector; i++) {
    if (!blx__str_eq(a->selector[i]->key, b->selector[i]->key) ||
        !blx__str_eq(a->selector[i]->value, b->selector[i]->value))
      return false;
  }
  return true;
}

static const struct shape *known_impossible(const struct pass *p, const struct blx__placement_need *need) {
  size_t n = p->shape_count < SHAPES_MAX ? p->shape_count : SHAPES_MAX;
  for (size_t i = 0; i < n; i++) {
    if (same_need(&p->shapes[i].need, need)) return &p->shapes[i];
  }
  return NULL;
}

/* @barred: true of this instance only, so not kept for others of its shape. */
static const struct shape *note_impossible(struct pass *p, const struct blx__place_request *request, bool barred) {
  struct shape *s = barred ? &p->shapes[SHAPES_MAX] : &p->shapes[p->shape_count++ % SHAPES_MAX];
  s->need = request->need;
  s->may_change_soon = false;
  for (size_t i = 0; p->fleet.any_unknown && i < p->fleet.n; i++) {
    if (p->fleet.unknown[i] && blx__placement_feasible(&p->fleet.nodes[i].node, &request->need, NULL, NULL))
      s->may_change_soon = true;
  }
  blx__place_explain(p->fleet.nodes, p->fleet.n, request, s->text, sizeof s->text);
  return s;
}

/* ---- one instance */

/* Take the room on paper, so that the next instance of this step does not get it too. */
static void give(struct blx__place_node *to, const struct blx__placement_need *need) {
  BLX__ASSERT(to->usable);
  to->node.allocated_cpu_milli += need->cpu_milli;
  to->node.allocated_memory_mib += need->memory_mib;
  to->same_vm_count++;
}

/* @at: the chosen node, or NULL. False: this step has searched enough. */
static bool search(struct pass *p, const struct blx_instance *i, const struct blx__place_request *request,
                   struct blx__place_node **at) {
  *at = NULL;
  if (p->searches++ >= BLX__CONTROL_SEARCH_MAX) {
    p->cut = true;
    return false;
  }
  blx__control_fleet_count(&p->fleet, p->st, i->vm_uid);
  struct blx__place_node *home = i->node_uid ? blx__control_fleet_find(&p->fleet, i->node_uid) : NULL;
  BLX__ASSERT(!home || home->same_vm_count > 0);
  if (home) home->same_vm_count--; /* itself */
  int32_t chosen = blx__place_choose(p->fleet.nodes, p->fleet.n, request);
  if (chosen != BLX__PLACEMENT_NONE)
    *at = &p->fleet.nodes[chosen];
  else if (home)
    home->same_vm_count++;
  return true;
}

/* A node that must still remove an earlier instance of this name is out for it. True: there is such a node. */
static bool bar(struct pass *p, const struct blx_instance *i, bool on) {
  static const char why[] = "has not confirmed that an earlier instance of that name is gone";
  bool any = false;
  uint64_t uid = blx__state_tombstone_node_after(p->st, i->name, 0);
  for (; uid != 0; uid = blx__state_tombstone_node_after(p->st, i->name, uid)) {
    struct blx__place_node *n = blx__control_fleet_find(&p->fleet, uid);
    BLX__ASSERT(n != NULL);
    any = true;
    if (on ? !n->usable : n->why_not != why) continue;
    n->usable = !on;
    n->why_not = on ? why : NULL;
  }
  return any;
}

static blx__rc place_free(struct pass *p, const struct blx_instance *i, const struct blx_vm *vm, bool barred,
                          blx_error *err) {
  struct blx__place_request request = {.need = blx__state_need(vm),
                                       .strategy = vm->spec->strategy,
                                       .sticky_uid = i->node_uid,
                                       .seed = blx__mix64(i->uid ^ blx__mix64(i->epoch))};
  /* What failed there so often may run elsewhere: its data are not on that node alone. */
  if (vm->spec->ha != BLX_HA_POLICY_OFF && i->failures > 0 && i->failures >= vm->spec->ha_max_restart)
    request.avoid_uid = i->node_uid;
  const struct blx_vm *awaited = blx__state_awaits(p->st, vm);
  if (awaited) return propose_wait(p, i, awaited, err);
  const struct shape *impossible = barred ? NULL : known_impossible(p, &request.need);
  if (!impossible) {
    struct blx__place_node *at = NULL;
    if (!search(p, i, &request, &at)) return BLX__OK;
    if (at) {
      give(at, &request.need);
      return propose_assign(p, i, at->node.uid, err);
    }
    impossible = note_impossible(p, &request, barred);
  }
  if (impossible->may_change_soon) {
    /* A new leader knows nobody yet: it says nothing that the next second may prove wrong. */
    p->look_again = true;
    return BLX__OK;
  }
  return propose_no_room(p, i, impossible->text, err);
}

static blx__rc place(struct pass *p, const struct blx_instance *i, const struct blx_vm *vm, blx_error *err) {
  bool barred = bar(p, i, true);
  blx__rc rc = place_free(p, i, vm, barred, err);
  if (barred) (void)bar(p, i, false);
  return rc;
}

/* ---- all of them */

/* The highest uid, or nearly, among those that are due since ever; halving steps find it without a walk. */
static uint64_t last_uid_due_at_once(const struct blx__state *st) {
  uint64_t last = 0;
  for (uint64_t step = UINT64_C(1) << 62; step > 0; step /= 2) {
    const struct blx_instance *i = blx__state_waiting_after(st, 0, last + step);
    if (i && i->not_before_ms == 0) last = i->uid;
  }
  return last;
}

/* Where the look begins. When more wait than one step looks at, it begins at a place drawn from the time, so that the
 * turn of each comes without anything being remembered. */
static const struct blx_instance *first(const struct pass *p, const struct blx_instance *head) {
  if (blx__state_counts(p->st).waiting <= BLX__CONTROL_LOOK_MAX) return head;
  uint64_t draw = blx__mix64(p->now_ms);
  const struct blx_instance *timed = blx__state_waiting_after(p->st, 0, UINT64_MAX), *drawn;
  if ((draw & 1) != 0 && timed && timed->not_before_ms <= p->now_ms) {
    uint64_t span_ms = p->now_ms - timed->not_before_ms + 1;
    drawn = blx__state_waiting_after(p->st, timed->not_before_ms + (draw >> 1) % span_ms, 0);
  } else {
    drawn = blx__state_waiting_after(p->st, 0, (draw >> 1) % (last_uid_due_at_once(p->st) + 1));
  }
  return drawn ? drawn : head;
}

static blx__rc place_due(struct pass *p, blx_error *err) {
  const struct blx_instance *head = blx__state_waiting_after(p->st, 0, 0);
  const struct blx_instance *begin = first(p, head), *i = begin;
  bool wrapped = begin == head;
  for (size_t looked = 0;; looked++) {
    if ((!i || i->not_before_ms > p->now_ms) && !wrapped) {
      wrapped = true;
      i = head;
    }
    if (!i || i->not_before_ms > p->now_ms || (looked > 0 && i == begin)) return BLX__OK;
    if (looked == BLX__CONTROL_LOOK_MAX || p->out->op_count == BLX__CONTROL_OPS_MAX) {
      p->cut = true;
      return BLX__OK;
    }
    BLX__TRY(place(p, i, blx__state_vm(p->st, i->vm_uid), err));
    i = blx__state_waiting_after(p->st, i->not_before_ms, i->uid);
  }
}

/* The first that is not due yet: the key just after (now, any uid) finds it. */
static void note_due(const struct pass *p) {
  const struct blx_instance *i = blx__state_waiting_after(p->st, p->now_ms, UINT64_MAX);
  if (i) blx__control_due(p->out, i->not_before_ms);
  if (p->cut || p->look_again) blx__control_due(p->out, p->now_ms + BLX__CONTROL_LOOK_AGAIN_MS);
}

blx__rc blx__control_schedule(const struct blx__state *st, blx__control_soft_fn soft, void *user, uint64_t now_ms,
                              struct blx__arena *arena, struct blx__control_out *out, blx_error *err) {
  if (blx__state_counts(st).waiting == 0) return BLX__OK;
  struct pass p = {.st = st, .arena = arena, .out = out, .now_ms = now_ms};
  p.shapes = blx__arena_alloc(arena, (SHAPES_MAX + 1) * sizeof *p.shapes);
  if (!p.shapes)
    return blx__fail(err, BLX_E_NOMEM, "control", "a step does not fit into %zu bytes", arena->limit_bytes);
  BLX__TRY(blx__control_fleet_build(st, soft, user, arena, &p.fleet, err));
  BLX__TRY(place_due(&p, err));
  note_due(&p);
  return BLX__OK;
}
