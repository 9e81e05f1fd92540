#include "control/control_int.h"

blx__rc blx__control_fleet_build(const struct blx__state *st, blx__control_soft_fn soft, void *user,
                                 struct blx__arena *arena, struct control_fleet *out, blx_error *err) {
  *out = (struct control_fleet){0};
  size_t room = blx__state_counts(st).nodes;
  out->nodes = blx__arena_alloc(arena, (room + 1) * sizeof *out->nodes);
  out->unknown = blx__arena_alloc(arena, (room + 1) * sizeof *out->unknown);
  if (!out->nodes || !out->unknown)
    return blx__fail(err, BLX_E_NOMEM, "control", "a view of %zu nodes does not fit into %zu bytes", room,
                     arena->limit_bytes);
  for (const struct blx_node_info *n = blx__state_node_after_uid(st, 0); n; n = blx__state_node_after_uid(st, n->uid)) {
    BLX__ASSERT(out->n < room);
    struct blx__place_node *view = &out->nodes[out->n];
    BLX__ASSERT(blx__state_placement_node(st, n->uid, &view->node));
    struct blx__control_soft s = {0};
    soft(user, n->uid, &s);
    view->usable = s.status == BLX_NODE_STATUS_READY;
    view->why_not = view->usable ? NULL : "has not been heard from";
    if (blx__state_is_unclear(st, n->uid)) {
      view->usable = false;
      view->why_not = "has not said since the recovery what runs there";
    }
    out->unknown[out->n] = s.status == BLX_NODE_STATUS_UNKNOWN;
    out->any_unknown = out->any_unknown || out->unknown[out->n];
    out->n++;
  }
  return BLX__OK;
}

struct blx__place_node *blx__control_fleet_find(const struct control_fleet *f, uint64_t uid) {
  size_t lo = 0, hi = f->n;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (f->nodes[mid].node.uid < uid)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo < f->n && f->nodes[lo].node.uid == uid ? &f->nodes[lo] : NULL;
}

void blx__control_fleet_count(struct control_fleet *f, const struct blx__state *st, uint64_t vm_uid) {
  if (f->counted_vm_uid == vm_uid) return;
  for (size_t i = 0; i < f->n; i++) f->nodes[i].same_vm_count = 0;
  const struct blx_instance *i = blx__state_instance_after(st, vm_uid, 0);
  for (; i; i = blx__state_instance_after(st, vm_uid, i->ordinal)) {
    struct blx__place_node *n = i->node_uid ? blx__control_fleet_find(f, i->node_uid) : NULL;
    if (n) n->same_vm_count++;
  }
  f->counted_vm_uid = vm_uid;
}
