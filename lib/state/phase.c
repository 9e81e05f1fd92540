/* What a VM shows of its instances. */
#include "state/state_int.h"

struct blx_reason blx__state_reason(int32_t code, const char *text, const char *unblock) {
  struct blx_reason r = BLX_REASON_INIT;
  r.code = code;
  r.text = text;
  r.unblock = unblock;
  return r;
}

int32_t blx__state_reason_code(const struct blx_reason *r) {
  return r ? r->code : BLX_REASON_CODE_NONE;
}

static const char *text_or_empty(const char *s) {
  return s ? s : "";
}

bool blx__state_reason_eq(const struct blx_reason *a, const struct blx_reason *b) {
  static const struct blx_reason none = BLX_REASON_INIT;
  a = a ? a : &none;
  b = b ? b : &none;
  return a->code == b->code && blx__str_eq(text_or_empty(a->text), text_or_empty(b->text)) &&
         blx__str_eq(text_or_empty(a->unblock), text_or_empty(b->unblock));
}

/* The lowest is the furthest from done. */
static unsigned distance(int32_t phase) {
  switch ((enum blx_phase)phase) {
  case BLX_PHASE_FAILED: return 0;
  case BLX_PHASE_UNREACHABLE: return 1;
  case BLX_PHASE_PENDING: return 2;
  case BLX_PHASE_CREATING: return 3;
  case BLX_PHASE_STARTING: return 4;
  case BLX_PHASE_MIGRATING: return 5;
  case BLX_PHASE_STOPPING: return 6;
  case BLX_PHASE_RUNNING: return 7;
  case BLX_PHASE_STOPPED: return 8;
  case BLX_PHASE_DELETING: return 9;
  case BLX_PHASE_WIDTH_: break;
  }
  return 0;
}

/* Of those that are to stay. */
static const struct blx_instance *furthest(const struct state_vm *vm) {
  const struct blx_instance *worst = NULL;
  BLX__MAP_FOREACH(pos, &vm->instances) {
    const struct blx_instance *i = ((const struct state_instance *)blx__map_value(pos))->rec;
    if (blx__state_scaled_away(vm->rec, i)) continue;
    if (!worst || distance(i->phase) < distance(worst->phase)) worst = i;
  }
  return worst;
}

/* Of VMs that this one depends on: what waited for it to stop goes on. */
static void release(struct blx__state *st, const struct state_vm *e) {
  for (size_t n = 0; n < e->rec->spec->n_depends_on; n++) {
    const struct state_vm *on = blx__state_vm_named(st, e->rec->tenant, e->rec->spec->depends_on[n]);
    if (!on || on->rec->desired != BLX_DESIRED_STOPPED || blx__state_stops_first(on)) continue;
    BLX__MAP_FOREACH(pos, &on->instances) {
      const struct state_instance *i = blx__map_value(pos);
      bool waits = blx__state_reason_code(i->rec->reason) == BLX_REASON_CODE_WAITS_FOR_STOP;
      if (!i->rec->dead && waits) blx__state_stop_now(st, i);
    }
  }
}

static void settle_one(struct blx__state *st, struct state_vm *e) {
  release(st, e);
  if (e->rec->deleting && e->instances.count == 0) {
    blx__state_drop_vm(st, e);
    return;
  }
  const struct blx_instance *i = furthest(e);
  struct blx_vm draft = *e->rec;
  struct blx_reason none = blx__state_reason(BLX_REASON_CODE_NONE, "it has no replicas", NULL);
  draft.phase = i ? i->phase : draft.desired == BLX_DESIRED_RUNNING ? BLX_PHASE_RUNNING : BLX_PHASE_STOPPED;
  draft.reason = i ? i->reason : &none;
  char nodes[STATE_NODES_TEXT_BYTES], text[STATE_NODES_TEXT_BYTES + 64];
  struct blx_reason unconfirmed = blx__state_reason(BLX_REASON_CODE_DELETE_REQUESTED, text, NULL);
  if (draft.deleting) {
    (void)blx__state_unconfirmed_nodes(st, e, nodes);
    blx__str_format(text, sizeof text, "was deleted; its name is free when %s confirmed that it is gone", nodes);
    draft.phase = BLX_PHASE_DELETING;
    draft.reason = &unconfirmed;
  }
  if (draft.phase == e->rec->phase && blx__state_reason_eq(draft.reason, e->rec->reason)) return;
  blx__state_put_vm(st, &draft);
}

void blx__state_settle(struct blx__state *st) {
  struct blx__map *m = &st->data.unsettled;
  while (m->count > 0) {
    struct state_vm *e = blx__map_value(blx__map_seek(m, NULL, 0));
    blx__map_remove_u64(m, e->rec->uid);
    settle_one(st, e);
  }
}
