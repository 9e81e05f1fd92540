/* What the scheduler proposes. Whatever it saw may have changed since: everything is checked again here. */
#include "state/state_int.h"

#include <string.h>

typedef unsigned long long ull;

enum { REFUSAL_BYTES = 420 };

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

/* What says how much is missing: the rest says what the node is. */
static bool is_short(uint32_t obstacles) {
  const uint32_t amounts = 1u << BLX_OBSTACLE_CODE_ROOM | 1u << BLX_OBSTACLE_CODE_RESOURCE |
                           1u << BLX_OBSTACLE_CODE_NODE_QUOTA | 1u << BLX_OBSTACLE_CODE_SURVIVE;
  return (obstacles & ~amounts) == 0;
}

/* Each obstacle as its sentence, as many as there is room for. */
static void word_obstacles(const struct state_judgement *j, char out[REFUSAL_BYTES]) {
  const struct blx__placement_case c = {&j->node, &j->need, &j->around, &j->verdict};
  size_t n = 0;
  for (int32_t code = 0; code < BLX__PLACEMENT_OBSTACLES; code++) {
    char text[BLX__PLACEMENT_SENTENCE_BYTES];
    if (!(j->verdict.obstacles & 1u << code)) continue;
    blx__placement_sentence(&c, code, text, sizeof text);
    blx__str_format(out + n, REFUSAL_BYTES - n, "%s%s", n ? "; " : "", text);
    n += strlen(out + n);
  }
}

/* Without @by_tenant as members say it that know of one tenant alone: all decide the same. */
static bool is_barred(const struct blx__state *st, const struct state_instance *e, uint64_t node_uid, bool by_tenant) {
  BLX__ASSERT(node_uid > 0);
  if (!by_tenant) return blx__state_tombstone_named(st, e->rec->name, node_uid);
  return blx__state_tombstone_node_after(st, e->vm->rec->tenant, e->rec->name, node_uid - 1) == node_uid;
}

static blx__rc may_be_there(const struct blx__state *st, const struct state_instance *e, uint64_t node_uid,
                            bool by_tenant, blx_error *err) {
  struct blx__placement_node node;
  if (!blx__state_placement_node(st, node_uid, &node))
    return blx__fail(err, BLX_E_NOT_FOUND, "state", "the cluster has no node with uid %llu", (ull)node_uid);
  if (is_barred(st, e, node_uid, by_tenant))
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s cannot go to %s: an earlier instance of that name was deleted by force, and %s has not "
                     "confirmed that it is gone",
                     e->rec->name, node.name, node.name);
  if (blx__state_is_unclear(st, node_uid))
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s cannot go to %s, which has not said since the recovery what runs there", e->rec->name,
                     node.name);
  return BLX__OK;
}

static blx__rc has_room(struct blx__state *st, const struct state_instance *e, uint64_t node_uid, blx_error *err) {
  struct state_judgement j;
  if (blx__state_judge(st, e, node_uid, &j)) return BLX__OK;
  char text[REFUSAL_BYTES];
  word_obstacles(&j, text);
  int code = is_short(j.verdict.obstacles) ? BLX_E_NO_CAPACITY : BLX_E_CONFLICT;
  return blx__fail(err, code, "state", "%s cannot go there: %s", e->rec->name, text);
}

blx__rc blx__state_op_assign(struct blx__state *st, const struct blx_op *op, struct state_answer *out, blx_error *err) {
  const struct blx_op_assign *o = op->assign;
  struct state_instance *e = NULL;
  BLX__TRY(find(st, o->instance_uid, o->expected_epoch, &e, err));
  BLX__TRY(may_start(st, e, err));
  BLX__TRY(may_be_there(st, e, o->node_uid, o->by_tenant, err));
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
  i.room_on_uid = i.preempted_for_uid = 0;
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
  bool room = e->rec->room_on_uid == 0 || blx__state_reason_code(o->reason) == BLX_REASON_CODE_WAITS_FOR_ROOM;
  if (room && blx__state_reason_eq(e->rec->reason, o->reason)) return BLX__OK;
  struct blx_instance i = *e->rec;
  i.phase = BLX_PHASE_PENDING;
  i.reason = o->reason;
  if (blx__state_reason_code(o->reason) != BLX_REASON_CODE_WAITS_FOR_ROOM) i.room_on_uid = 0;
  blx__state_put_instance(st, &i);
  return BLX__OK;
}

void blx__state_forget_rooms(struct blx__state *st, uint64_t node_uid) {
  for (const struct blx_instance *i; (i = blx__state_room_after(st, node_uid, 0)) != NULL;) {
    struct blx_reason reason = blx__state_unplaced();
    struct blx_instance draft = *i;
    draft.room_on_uid = 0;
    draft.reason = &reason;
    blx__state_put_instance(st, &draft);
  }
}

/* ---- preemption: instances of lower priority end on a node, so that one that waits fits there */

enum { VICTIMS_MAX = 64 };

struct eviction {
  struct state_instance *for_whom;
  const struct blx_node_info *node;
  struct state_instance *victims[VICTIMS_MAX];
  size_t n;
  struct state_instance **ending; /* on that node, which count as gone */
  size_t n_ending;
};

/* Not one of those before it, there, of lower priority, and not on its way out anyhow. */
static blx__rc may_evict(const struct eviction *v, const struct state_instance *e, blx_error *err) {
  const struct blx_vm_spec *spec = e->vm->rec->spec, *by = v->for_whom->vm->rec->spec;
  for (size_t i = 0; i < v->n; i++)
    if (v->victims[i] == e) return blx__fail(err, BLX_E_INVALID, "state", "victims: %s is named twice", e->rec->name);
  if (e->rec->dead || e->rec->fenced || e->rec->node_uid != v->node->uid)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s does not run on %s", e->rec->name, v->node->name);
  if (blx__state_is_ending(e->vm->rec, e->rec))
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s ends already", e->rec->name);
  if (spec->priority >= by->priority)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s has priority %u, which is not below the %u of %s", e->rec->name,
                     spec->priority, by->priority, v->for_whom->rec->name);
  if (spec->has_preemptible && !spec->preemptible)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s is not preemptible", e->rec->name);
  return BLX__OK;
}

/* None of what it depends on. */
static blx__rc may_lose(const struct blx__state *st, const struct eviction *v, blx_error *err) {
  const struct blx_vm *vm = v->for_whom->vm->rec;
  uint64_t uids[VICTIMS_MAX];
  for (size_t i = 0; i < v->n; i++) uids[i] = v->victims[i]->rec->uid;
  const struct blx_instance *needed = blx__state_needed_victim(st, vm->tenant, vm->spec, uids, v->n);
  if (!needed) return BLX__OK;
  return blx__fail(err, BLX_E_CONFLICT, "state", "%s cannot end for %s, which depends on the VM %s", needed->name,
                   v->for_whom->rec->name, needed->vm);
}

static blx__rc find_victims(const struct blx__state *st, const struct blx_op_preempt *o, struct eviction *v,
                            blx_error *err) {
  if (o->n_victims > VICTIMS_MAX)
    return blx__fail(err, BLX_E_INVALID, "state", "victims: %zu are above %d", o->n_victims, (int)VICTIMS_MAX);
  for (size_t i = 0; i < o->n_victims; i++) {
    struct state_instance *e = NULL;
    BLX__TRY(find(st, o->victims[i]->uid, o->victims[i]->epoch, &e, err));
    BLX__TRY(may_evict(v, e, err));
    v->victims[v->n++] = e;
  }
  return may_lose(st, v, err);
}

static void find_ending(struct blx__state *st, struct eviction *v) {
  const struct state_node *n = blx__state_node_get(st, v->node->uid);
  v->ending = blx__arena_alloc(&st->scratch, (n->instances.count + 1) * sizeof(struct state_instance *));
  STATE_MUST(v->ending != NULL);
  BLX__MAP_FOREACH(pos, &n->instances) {
    struct state_instance *e = blx__map_value(pos);
    if (blx__state_is_ending(e->vm->rec, e->rec)) v->ending[v->n_ending++] = e;
  }
}

/* Without all of them it fits, and with any one of them it does not. */
static blx__rc judge_without(struct blx__state *st, const struct eviction *v, blx_error *err) {
  struct state_judgement j;
  char text[REFUSAL_BYTES];
  const char *name = v->for_whom->rec->name;
  if (!blx__state_judge(st, v->for_whom, v->node->uid, &j)) {
    word_obstacles(&j, text);
    return blx__fail(err, BLX_E_NO_CAPACITY, "state", "%s does not fit there without them either: %s", name, text);
  }
  for (size_t i = 0; i < v->n; i++) {
    blx__state_put_back(st, v->victims[i]);
    bool fits = blx__state_judge(st, v->for_whom, v->node->uid, &j);
    blx__state_set_aside(st, v->victims[i]);
    if (fits)
      return blx__fail(err, BLX_E_CONFLICT, "state", "%s need not end: %s fits on %s beside it",
                       v->victims[i]->rec->name, name, v->node->name);
  }
  return BLX__OK;
}

static blx__rc check_room(struct blx__state *st, const struct eviction *v, blx_error *err) {
  struct state_node *n = blx__state_node_get(st, v->node->uid);
  blx__state_set_buried_aside(st, n, true);
  for (size_t i = 0; i < v->n_ending; i++) blx__state_set_aside(st, v->ending[i]);
  for (size_t i = 0; i < v->n; i++) blx__state_set_aside(st, v->victims[i]);
  blx__rc rc = judge_without(st, v, err);
  for (size_t i = 0; i < v->n; i++) blx__state_put_back(st, v->victims[i]);
  for (size_t i = 0; i < v->n_ending; i++) blx__state_put_back(st, v->ending[i]);
  blx__state_set_buried_aside(st, n, false);
  return rc;
}

/* "web-1"; "web-1 of tenant acme", to those of another. */
static const char *name_to(const struct state_instance *to, const struct state_instance *e, char out[160]) {
  const char *tenant = e->vm->rec->tenant;
  if (blx__str_eq(tenant, to->vm->rec->tenant)) return e->rec->name;
  blx__str_format(out, 160, "%s of tenant %s", e->rec->name, tenant);
  return out;
}

static void evict(struct blx__state *st, const struct state_instance *e, const struct state_instance *by) {
  char text[256], name[160];
  uint32_t grace_ms = e->vm->rec->spec->stop_timeout_ms;
  blx__str_format(text, sizeof text, "shuts down to make room for %s of priority %u; it is killed after %u s",
                  name_to(e, by, name), by->vm->rec->spec->priority, (grace_ms + 999) / 1000);
  struct blx_reason reason = blx__state_reason(BLX_REASON_CODE_PREEMPTED, text, NULL);
  struct blx_instance i = *e->rec;
  i.phase = BLX_PHASE_STOPPING;
  i.reason = &reason;
  i.ending = BLX_ENDING_SHUT_DOWN;
  i.preempted_for_uid = by->rec->uid;
  blx__state_put_instance(st, &i);
}

static void let_wait(struct blx__state *st, const struct eviction *v) {
  char text[320], name[160];
  size_t n = v->n + v->n_ending;
  const struct state_instance *first = v->n ? v->victims[0] : v->n_ending ? v->ending[0] : NULL;
  const char *whom = first ? name_to(v->for_whom, first, name) : "";
  if (!first)
    blx__str_format(text, sizeof text, "is placed on %s as soon as the leader has looked at it", v->node->name);
  else if (n == 1)
    blx__str_format(text, sizeof text, "waits for room on %s until %s has ended", v->node->name, whom);
  else
    blx__str_format(text, sizeof text, "waits for room on %s until %s and %zu more instance%s have ended",
                    v->node->name, whom, n - 1, n == 2 ? "" : "s");
  struct blx_reason reason = blx__state_reason(BLX_REASON_CODE_WAITS_FOR_ROOM, text, NULL);
  struct blx_instance i = *v->for_whom->rec;
  i.phase = BLX_PHASE_PENDING;
  i.reason = &reason;
  i.room_on_uid = v->node->uid;
  blx__state_put_instance(st, &i);
}

blx__rc blx__state_op_preempt(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                              blx_error *err) {
  const struct blx_op_preempt *o = op->preempt;
  struct eviction v = {.node = blx__state_node(st, o->node_uid)};
  BLX__TRY(find(st, o->instance_uid, o->expected_epoch, &v.for_whom, err));
  BLX__TRY(may_start(st, v.for_whom, err));
  BLX__TRY(may_be_there(st, v.for_whom, o->node_uid, o->by_tenant, err));
  BLX__TRY(find_victims(st, o, &v, err));
  find_ending(st, &v);
  BLX__TRY(check_room(st, &v, err));
  let_wait(st, &v);
  for (size_t i = 0; i < v.n; i++) evict(st, v.victims[i], v.for_whom);
  out->uid = v.for_whom->rec->uid;
  return BLX__OK;
}
