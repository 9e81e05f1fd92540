/* The fleet as the engine was told it: a cache of the state, and of what the leader hears. What did not change by the
 * revisions is not told again; whatever goes wrong, all of it is dropped and told anew with the next step. */
#include "control/control_int.h"
#include "base/digest.h"
#include "schema/closure.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 8 };

static blx__rc no_memory(blx_error *err) {
  return blx__fail(err, BLX_E_NOMEM, "control", "no memory for the view of the fleet");
}

/* One more place in an array of @n; false: no memory. */
static bool room_for(void **array, size_t *room, size_t n, size_t size) {
  if (n < *room) return true;
  size_t more = *room ? *room * 2 : ROOM_MIN;
  void *grown = realloc(*array, more * size);
  if (!grown) return false;
  *array = grown;
  *room = more;
  return true;
}

/* ---- VMs and tenants */

static struct view_tenant *tenant_of(struct blx__control *c, const char *name) {
  if (!name || !name[0]) name = "default";
  struct view_tenant *t = blx__map_get_str(&c->tenants, name);
  if (t) return t;
  t = calloc(1, sizeof *t);
  bool kept = t && blx__str_copy(t->name, sizeof t->name, name) && blx__map_set_str(&c->tenants, name, t, NULL);
  if (kept) return t;
  free(t);
  return NULL;
}

static void leave_tenant(struct blx__control *c, struct view_tenant *t) {
  BLX__ASSERT(t->vms > 0);
  if (--t->vms > 0) return;
  (void)blx__map_remove_str(&c->tenants, t->name);
  free(t);
}

static void drop_vm(struct blx__control *c, struct view_vm *vm) {
  BLX__ASSERT(vm->placed == 0);
  (void)blx__fleet_drop_vm(c->fleet, vm->uid);
  (void)blx__map_remove_u64(&c->vms, vm->uid);
  leave_tenant(c, vm->tenant);
  free(vm);
}

static struct view_vm *new_vm(struct blx__control *c, uint64_t uid, const char *tenant) {
  struct view_vm *vm = calloc(1, sizeof *vm);
  struct view_tenant *t = vm ? tenant_of(c, tenant) : NULL;
  if (!t || !blx__map_set_u64(&c->vms, uid, vm, NULL)) {
    if (t && t->vms == 0) {
      (void)blx__map_remove_str(&c->tenants, t->name);
      free(t);
    }
    free(vm);
    return NULL;
  }
  vm->uid = uid;
  vm->tenant = t;
  t->vms++;
  return vm;
}

enum { DATA_MAX = 16, CLOSURE_BYTES = 1 << 30 /* whatever its real size: one is as good as another */ };

/* With what its runner is made of among its data: a node that has built it need not again. */
static blx__rc set_vm(struct blx__control *c, const struct blx_vm *as, const char *tenant,
                      const struct blx_quota *quota, blx_error *err) {
  struct blx_vm_spec spec = *as->spec;
  struct blx_data_item *data[DATA_MAX + 1], closure = BLX_DATA_ITEM_INIT;
  char key[BLX__CLOSURE_KEY_BYTES];
  bool looks = spec.strategy == BLX_STRATEGY_DATA_LOCALITY || spec.strategy == BLX_STRATEGY_COMBINED;
  if (looks && spec.n_data < DATA_MAX) {
    for (size_t i = 0; i < spec.n_data; i++) data[i] = spec.data[i];
    blx__closure_key(&spec, key);
    closure.key = key;
    closure.bytes = CLOSURE_BYTES;
    data[spec.n_data++] = &closure;
    spec.data = data;
  }
  return blx__fleet_set_vm(c->fleet, as->uid, tenant, &spec, quota, err);
}

/* Those that were told for a request, and are gone since; but not @except, which is being told. */
static void drop_gone(struct blx__control *c, const struct blx__state *st, uint64_t except) {
  uint64_t uid = 0;
  for (;;) {
    uint8_t key[8];
    for (int i = 0; i < 8; i++) key[i] = (uint8_t)((uid + 1) >> (56 - 8 * i));
    struct blx__map_pos pos = blx__map_seek(&c->vms, key, sizeof key);
    if (!pos.node) return;
    struct view_vm *vm = blx__map_value(pos);
    uid = vm->uid;
    if (vm->placed == 0 && uid != except && uid != CONTROL_UID && !blx__state_vm(st, uid)) drop_vm(c, vm);
  }
}

static void sweep(struct blx__control *c, const struct blx__state *st) {
  enum { SLACK = 1024 };
  if (c->vms.count > 2 * (size_t)blx__state_counts(st).vms + SLACK) drop_gone(c, st, 0);
}

/* The levels that gone ones named may be in the way. */
static blx__rc set_vm_with_room(struct blx__control *c, const struct blx__state *st, const struct blx_vm *as,
                                const struct blx_quota *quota, blx_error *err) {
  blx_error why = {0};
  const struct view_vm *vm = blx__map_get_u64(&c->vms, as->uid);
  BLX__ASSERT(vm != NULL);
  blx__rc rc = set_vm(c, as, vm->tenant->name, quota, &why);
  if (rc.code != BLX_E_BUSY) return rc.code == 0 ? BLX__OK : blx__fail_as(err, &why);
  drop_gone(c, st, as->uid);
  return set_vm(c, as, vm->tenant->name, quota, err);
}

/* Tell it, unless that is what was told. @spec_revision 0: never told again. */
static struct view_vm *tell_vm(struct blx__control *c, const struct blx__state *st, const struct blx_vm *as,
                               const struct blx_quota *quota, blx_error *err) {
  struct view_vm *vm = blx__map_get_u64(&c->vms, as->uid);
  uint64_t quota_revision = quota ? quota->revision : 0;
  if (vm && vm->spec_revision == as->spec_revision && vm->quota_revision == quota_revision) return vm;
  bool fresh = vm == NULL;
  if (fresh) vm = new_vm(c, as->uid, as->tenant);
  if (!vm) {
    (void)no_memory(err);
    return NULL;
  }
  if (set_vm_with_room(c, st, as, quota, err).code != 0) {
    if (fresh) drop_vm(c, vm);
    return NULL;
  }
  struct blx__placement_need need = blx__placement_need_of(as->spec, quota);
  /* What its instances have is counted with what one has; the size of a VM does not change while it lives. */
  BLX__ASSERT(vm->placed == 0 || (vm->cpu_milli == need.cpu_milli && vm->memory_mib == need.memory_mib));
  vm->cpu_milli = need.cpu_milli;
  vm->memory_mib = need.memory_mib;
  vm->spec_revision = as->spec_revision;
  vm->quota_revision = quota_revision;
  return vm;
}

struct view_vm *blx__view_vm(struct blx__control *c, const struct blx__state *st, const struct blx_vm *vm,
                             blx_error *err) {
  return tell_vm(c, st, vm, blx__state_limits(st, vm->tenant), err);
}

struct view_vm *blx__view_guest(struct blx__control *c, const struct blx__state *st, const char *tenant,
                                const struct blx_vm_spec *spec, blx_error *err) {
  BLX__ASSERT(!blx__map_get_u64(&c->vms, CONTROL_UID));
  struct blx_vm as = {.struct_size = sizeof as, .uid = CONTROL_UID, .tenant = tenant, .spec_revision = 1};
  struct blx_vm_spec unnamed = *spec;
  unnamed.name = "a shape"; /* no VM's name: `near` finds VMs by theirs */
  as.spec = &unnamed;
  return blx__view_vm(c, st, &as, err);
}

void blx__view_drop_guest(struct blx__control *c) {
  struct view_vm *vm = blx__map_get_u64(&c->vms, CONTROL_UID);
  if (vm) drop_vm(c, vm);
}

/* ---- instances */

static blx__rc place(struct blx__control *c, struct view_vm *vm, const struct blx__fleet_instance *i, blx_error *err) {
  BLX__TRY(blx__fleet_place(c->fleet, i, err));
  vm->placed++;
  vm->tenant->cpu_milli += vm->cpu_milli;
  vm->tenant->memory_mib += vm->memory_mib;
  return BLX__OK;
}

static void unplace(struct blx__control *c, const struct blx__state *st, uint64_t uid, uint64_t vm_uid) {
  struct view_vm *vm = blx__map_get_u64(&c->vms, vm_uid);
  BLX__ASSERT(vm != NULL && vm->placed > 0);
  (void)blx__fleet_unplace(c->fleet, uid);
  vm->placed--;
  vm->tenant->cpu_milli -= vm->cpu_milli;
  vm->tenant->memory_mib -= vm->memory_mib;
  if (vm->placed == 0 && st && !blx__state_vm(st, vm_uid)) drop_vm(c, vm);
}

static struct view_told told_of(const struct blx__state *st, const struct blx_instance *i) {
  return (struct view_told){i->uid, i->vm_uid, i->epoch, blx__state_is_ending(blx__state_vm(st, i->vm_uid), i)};
}

/* What was deleted by force and may run counts as a VM of its own, for its own is gone. */
static struct view_told told_of_tombstone(const struct blx_tombstone *t) {
  return (struct view_told){t->instance_uid, t->instance_uid, t->epoch, true};
}

static bool same_told(const struct view_told *a, const struct view_told *b) {
  return a->uid == b->uid && a->vm_uid == b->vm_uid && a->epoch == b->epoch && a->ending == b->ending;
}

/* The instances that count on a node after @uid: first those of VMs, then what was deleted by force. */
struct walk {
  const struct blx__state *st;
  uint64_t node_uid, uid;
  bool buried;
};

static bool next_told(struct walk *w, struct view_told *out) {
  while (!w->buried) {
    const struct blx_instance *i = blx__state_instance_on_node_after(w->st, w->node_uid, w->uid);
    w->uid = i ? i->uid : 0;
    w->buried = !i;
    if (!i || i->dead) continue;
    *out = told_of(w->st, i);
    return true;
  }
  for (;;) {
    const struct blx_tombstone *t = blx__state_tombstone_on_node_after(w->st, w->node_uid, w->uid);
    if (!t) return false;
    w->uid = t->instance_uid;
    if (t->dead) continue;
    *out = told_of_tombstone(t);
    return true;
  }
}

/* What is there no more, or as another one. @n->told keeps what stays as it is. */
static void take_away(struct blx__control *c, const struct blx__state *st, struct view_node *n) {
  size_t kept = 0;
  for (size_t i = 0; i < n->n_told; i++) {
    struct view_told is = n->told[i], now = {0};
    const struct blx_instance *in = blx__state_instance(st, is.uid);
    const struct blx_tombstone *t = in ? NULL : blx__state_tombstone_on_node_after(st, n->uid, is.uid - 1);
    if (in && !in->dead && in->node_uid == n->uid) now = told_of(st, in);
    if (t && !t->dead && t->instance_uid == is.uid) now = told_of_tombstone(t);
    if (same_told(&is, &now))
      n->told[kept++] = is;
    else
      unplace(c, st, is.uid, is.vm_uid);
  }
  n->n_told = kept;
}

static struct view_vm *vm_of_told(struct blx__control *c, const struct blx__state *st, uint64_t node_uid,
                                  const struct view_told *told, blx_error *err) {
  const struct blx_vm *vm = blx__state_vm(st, told->vm_uid);
  if (vm) return blx__view_vm(c, st, vm, err);
  const struct blx_tombstone *t = blx__state_tombstone_on_node_after(st, node_uid, told->uid - 1);
  BLX__ASSERT(t != NULL && t->instance_uid == told->uid);
  struct blx_vm_spec spec = *t->spec;
  spec.name = "a VM that was deleted by force";
  struct blx_vm as = {.struct_size = sizeof as, .uid = told->uid, .spec = &spec, .spec_revision = 1};
  as.tenant = t->tenant;
  return tell_vm(c, st, &as, NULL, err);
}

/* What stayed is in the order of the walk: what is between is new. */
static blx__rc put_there(struct blx__control *c, const struct blx__state *st, struct view_node *n, blx_error *err) {
  struct walk w = {.st = st, .node_uid = n->uid};
  struct view_told now;
  for (size_t at = 0; next_told(&w, &now); at++) {
    if (at < n->n_told && n->told[at].uid == now.uid) continue;
    struct view_vm *vm = vm_of_told(c, st, n->uid, &now, err);
    if (!vm) return (blx__rc){BLX_E_NOMEM};
    if (!room_for((void **)&n->told, &n->told_room, n->n_told, sizeof *n->told)) return no_memory(err);
    const struct blx__fleet_instance i = {now.uid, now.vm_uid, n->uid, now.epoch, now.ending};
    BLX__TRY(place(c, vm, &i, err));
    memmove(&n->told[at + 1], &n->told[at], (n->n_told - at) * sizeof *n->told);
    n->told[at] = now;
    n->n_told++;
  }
  return BLX__OK;
}

/* ---- nodes */

static const char silent[] = "has not been heard from";
static const char unclear[] = "has not said since the recovery what runs there";

static bool same_soft(const struct blx__control_soft *a, const struct blx__control_soft *b) {
  bool usable = a->status == BLX_NODE_STATUS_READY;
  return usable == (b->status == BLX_NODE_STATUS_READY) && a->has_load == b->has_load &&
         a->load_cpu_permille == b->load_cpu_permille && a->load_memory_mib == b->load_memory_mib &&
         a->stored_seq == b->stored_seq;
}

static blx__rc tell_node(struct blx__control *c, const struct blx_node_info *record, struct view_node *n,
                         const struct blx__control_soft *soft, blx_error *err) {
  bool heard = soft->status == BLX_NODE_STATUS_READY;
  const struct blx__fleet_soft s = {.usable = heard && !n->unclear,
                                    .why_not = n->unclear ? unclear
                                               : heard    ? NULL
                                                          : silent,
                                    .has_load = soft->has_load,
                                    .load_cpu_permille = soft->load_cpu_permille,
                                    .load_memory_mib = soft->load_memory_mib,
                                    .stored = soft->stored,
                                    .n_stored = soft->n_stored};
  BLX__TRY(blx__fleet_set_node(c->fleet, record, NULL, &s, err));
  c->stale = true;
  c->cpu_milli -= n->cpu_milli;
  c->memory_mib -= n->memory_mib;
  const struct blx_resources *has = record->capacity;
  n->cpu_milli = !has ? 0 : has->cpu_milli ? has->cpu_milli : (uint64_t)has->vcpus * 1000;
  n->memory_mib = has ? has->memory_mib : 0;
  c->cpu_milli += n->cpu_milli;
  c->memory_mib += n->memory_mib;
  n->revision = record->revision;
  return BLX__OK;
}

static void drop_node(struct blx__control *c, size_t at) {
  struct view_node *n = &c->nodes[at];
  for (size_t i = 0; i < n->n_told; i++) unplace(c, NULL, n->told[i].uid, n->told[i].vm_uid);
  (void)blx__fleet_drop_node(c->fleet, n->uid);
  c->stale = true;
  c->unknown -= n->soft.status == BLX_NODE_STATUS_UNKNOWN;
  c->cpu_milli -= n->cpu_milli;
  c->memory_mib -= n->memory_mib;
  free(n->told);
  c->n_nodes--;
  memmove(n, n + 1, (c->n_nodes - at) * sizeof *n);
}

static blx__rc insert_node(struct blx__control *c, size_t at, uint64_t uid, blx_error *err) {
  if (!room_for((void **)&c->nodes, &c->nodes_room, c->n_nodes, sizeof *c->nodes)) return no_memory(err);
  memmove(&c->nodes[at + 1], &c->nodes[at], (c->n_nodes - at) * sizeof *c->nodes);
  c->nodes[at] = (struct view_node){.uid = uid, .soft = {.status = BLX_NODE_STATUS_READY}};
  c->n_nodes++;
  return BLX__OK;
}

/* One that is new, or as the record or the leader's ear says it is now. Whether its instances changed is noted only. */
static blx__rc look_at_node(struct blx__control *c, const struct blx__control_input *in,
                            const struct blx_node_info *record, struct view_node *n, blx_error *err) {
  struct blx__control_soft soft = {0};
  in->soft(in->user, n->uid, &soft);
  bool fresh = n->share == 0, was_unclear = n->unclear;
  uint64_t share = blx__state_share_revision(in->st, n->uid);
  n->unclear = blx__state_is_unclear(in->st, n->uid);
  if (fresh || n->revision != record->revision || n->unclear != was_unclear || !same_soft(&n->soft, &soft))
    BLX__TRY(tell_node(c, record, n, &soft, err));
  c->unknown -= n->soft.status == BLX_NODE_STATUS_UNKNOWN;
  c->unknown += soft.status == BLX_NODE_STATUS_UNKNOWN;
  n->soft = soft;
  n->changed = n->share != share;
  c->stale = c->stale || n->changed;
  n->share = share;
  BLX__ASSERT(share > 0);
  return BLX__OK;
}

static blx__rc look_at_nodes(struct blx__control *c, const struct blx__control_input *in, size_t *changed,
                             blx_error *err) {
  size_t at = 0;
  const struct blx_node_info *record = blx__state_node_after_uid(in->st, 0);
  for (; record; record = blx__state_node_after_uid(in->st, record->uid), at++) {
    while (at < c->n_nodes && c->nodes[at].uid < record->uid) drop_node(c, at);
    if (at == c->n_nodes || c->nodes[at].uid > record->uid) BLX__TRY(insert_node(c, at, record->uid, err));
    BLX__TRY(look_at_node(c, in, record, &c->nodes[at], err));
    *changed += c->nodes[at].changed;
  }
  while (c->n_nodes > at) drop_node(c, at);
  return BLX__OK;
}

/* First all that left, then all that came: what moved is never at two places, nor at none for good. */
static blx__rc look_at_instances(struct blx__control *c, const struct blx__state *st, blx_error *err) {
  for (size_t i = 0; i < c->n_nodes; i++)
    if (c->nodes[i].changed) take_away(c, st, &c->nodes[i]);
  for (size_t i = 0; i < c->n_nodes; i++) {
    if (!c->nodes[i].changed) continue;
    BLX__TRY(put_there(c, st, &c->nodes[i], err));
    c->nodes[i].changed = false;
  }
  return BLX__OK;
}

struct view_node *blx__view_node(const struct blx__control *c, uint64_t uid) {
  size_t lo = 0, hi = c->n_nodes;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (c->nodes[mid].uid < uid)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo < c->n_nodes && c->nodes[lo].uid == uid ? &c->nodes[lo] : NULL;
}

/* ---- the whole */

struct blx__control *blx__control_new(void) {
  return calloc(1, sizeof(struct blx__control));
}

void blx__control_forget(struct blx__control *c) {
  for (size_t i = 0; i < c->n_nodes; i++) free(c->nodes[i].told);
  free(c->nodes);
  free(c->paper);
  BLX__MAP_FOREACH(pos, &c->vms) free(blx__map_value(pos));
  BLX__MAP_FOREACH(pos, &c->tenants) free(blx__map_value(pos));
  blx__map_clear(&c->vms);
  blx__map_clear(&c->tenants);
  blx__fleet_free(c->fleet);
  *c = (struct blx__control){0};
}

void blx__control_free(struct blx__control *c) {
  if (!c) return;
  blx__control_forget(c);
  free(c);
}

static uint64_t seed_of(const struct blx__state *st) {
  uint64_t seed = 0;
  for (const char *id = blx__state_cluster_id(st); *id; id++) seed = blx__mix64(seed ^ (uint8_t)*id);
  return seed;
}

static blx__rc begin(struct blx__control *c, const struct blx__state *st, blx_error *err) {
  const struct blx__fleet_options o = {.nodes_max = BLX__STATE_NODES_MAX,
                                       .instances_max = BLX__STATE_INSTANCES_MAX + BLX__STATE_TOMBSTONES_MAX,
                                       .seed = seed_of(st)};
  BLX__TRY(blx__fleet_new(&o, &c->fleet, err));
  c->settings_revision = UINT64_MAX;
  return BLX__OK;
}

/* What kinds of instances there are, for the look ahead. */
static blx__rc tell_shapes(struct blx__control *c, const struct blx__state *st, blx_error *err) {
  struct blx__state_shape is[CONTROL_SHAPES_MAX];
  struct blx__fleet_shape shapes[CONTROL_SHAPES_MAX];
  size_t n = blx__state_shapes(st, is, CONTROL_SHAPES_MAX);
  for (size_t i = 0; i < n; i++) shapes[i] = (struct blx__fleet_shape){is[i].cpu_milli, is[i].memory_mib, is[i].count};
  if (c->shapes_told && c->n_shapes == n && (n == 0 || memcmp(c->shapes, shapes, n * sizeof *shapes) == 0))
    return BLX__OK;
  BLX__TRY(blx__fleet_shapes(c->fleet, shapes, n, err));
  if (n > 0) memcpy(c->shapes, shapes, n * sizeof *shapes);
  c->n_shapes = n;
  c->shapes_told = true;
  return BLX__OK;
}

static blx__rc update(struct blx__control *c, const struct blx__control_input *in, blx_error *err) {
  if (!c->fleet) BLX__TRY(begin(c, in->st, err));
  blx__view_undo(c);
  const struct blx_settings *settings = blx__state_settings(in->st);
  if (c->settings_revision != settings->revision) {
    BLX__TRY(blx__fleet_settings(c->fleet, settings->placement, err));
    c->settings_revision = settings->revision;
    c->stale = true;
  }
  size_t changed = 0;
  BLX__TRY(look_at_nodes(c, in, &changed, err));
  if (changed > 0) BLX__TRY(look_at_instances(c, in->st, err));
  sweep(c, in->st);
  BLX__TRY(tell_shapes(c, in->st, err));
  /* What the engine looks ahead by is what is so now, whatever was so before. */
  if (c->stale) blx__fleet_refresh(c->fleet);
  c->stale = false;
  return BLX__OK;
}

blx__rc blx__view_update(struct blx__control *c, const struct blx__control_input *in, blx_error *err) {
  blx__rc rc = update(c, in, err);
  if (rc.code != 0) blx__control_forget(c);
  return rc;
}

/* ---- on paper */

static blx__rc write_down(struct blx__control *c, const struct paper *p, blx_error *err) {
  if (!room_for((void **)&c->paper, &c->paper_room, c->n_paper, sizeof *c->paper)) return no_memory(err);
  c->paper[c->n_paper++] = *p;
  return BLX__OK;
}

blx__rc blx__view_give(struct blx__control *c, struct view_vm *vm, const struct blx__fleet_instance *to,
                       blx_error *err) {
  BLX__ASSERT(to->node_uid != 0 && to->vm_uid == vm->uid);
  const struct paper p = {.is = *to};
  BLX__TRY(write_down(c, &p, err));
  blx__rc rc = place(c, vm, to, err);
  if (rc.code != 0) c->n_paper--;
  return rc;
}

blx__rc blx__view_end(struct blx__control *c, const struct blx_instance *victim, blx_error *err) {
  struct paper p = {.was = {victim->uid, victim->vm_uid, victim->node_uid, victim->epoch, false}};
  BLX__ASSERT(victim->node_uid != 0 && !victim->dead);
  p.is = p.was;
  p.is.ending = true;
  BLX__TRY(write_down(c, &p, err));
  return blx__fleet_place(c->fleet, &p.is, err);
}

void blx__view_undo(struct blx__control *c) {
  while (c->n_paper > 0) {
    const struct paper *p = &c->paper[--c->n_paper];
    if (p->was.node_uid == 0) {
      unplace(c, NULL, p->is.uid, p->is.vm_uid);
      continue;
    }
    blx_error err;
    /* It was told so before: there is room for it. */
    blx__rc rc = blx__fleet_place(c->fleet, &p->was, &err);
    BLX__ASSERT(rc.code == 0);
  }
}

static uint64_t millionths(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : part / whole * 1000000 + part % whole * 1000000 / whole;
}

uint64_t blx__view_share(const struct blx__control *c, const struct view_tenant *t) {
  uint64_t cpu = millionths(t->cpu_milli, c->cpu_milli), memory = millionths(t->memory_mib, c->memory_mib);
  return cpu > memory ? cpu : memory;
}
