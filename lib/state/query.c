#include "state/state_int.h"

bool blx__state_node_was_removed(const struct blx__state *st, uint64_t uid) {
  return uid > 0 && uid < st->data.next_node_uid && !blx__state_node_get(st, uid);
}

#include <string.h>

uint64_t blx__state_index(const struct blx__state *st) {
  return st->data.index;
}

uint64_t blx__state_time_ms(const struct blx__state *st) {
  return st->data.time_ms;
}

const char *blx__state_cluster_id(const struct blx__state *st) {
  return st->data.cluster_id;
}

const char *blx__state_cluster_name(const struct blx__state *st) {
  return st->data.cluster_name;
}

struct blx__state_counts blx__state_counts(const struct blx__state *st) {
  const struct state_data *d = &st->data;
  return (struct blx__state_counts){.nodes = (uint32_t)d->nodes.count,
                                    .vms = (uint32_t)d->vms.count,
                                    .instances = (uint32_t)d->instances.count,
                                    .running = d->running,
                                    .waiting = (uint32_t)d->waiting.count,
                                    .ha = d->ha,
                                    .fencing = d->fencing};
}

/* ---- one record */

static const struct blx_node_info *node_rec(const struct state_node *e) {
  return e ? e->rec : NULL;
}

static const struct blx_vm *vm_rec(const struct state_vm *e) {
  return e ? e->rec : NULL;
}

static const struct blx_instance *instance_rec(const struct state_instance *e) {
  return e ? e->rec : NULL;
}

const struct blx_node_info *blx__state_node(const struct blx__state *st, uint64_t uid) {
  return node_rec(blx__state_node_get(st, uid));
}

const struct blx_node_info *blx__state_node_by_name(const struct blx__state *st, const char *name) {
  uint8_t key[STATE_NAME_KEY_MAX];
  size_t n = blx__state_name_key(key, NULL, name);
  return node_rec(blx__map_get(&st->data.node_names, key, n));
}

const struct blx_vm *blx__state_vm(const struct blx__state *st, uint64_t uid) {
  return vm_rec(blx__state_vm_get(st, uid));
}

const struct blx_vm *blx__state_vm_by_name(const struct blx__state *st, const char *tenant, const char *name) {
  return vm_rec(blx__state_vm_named(st, tenant, name));
}

const struct blx_instance *blx__state_instance(const struct blx__state *st, uint64_t uid) {
  return instance_rec(blx__state_instance_get(st, uid));
}

const struct blx_instance *blx__state_instance_by_name(const struct blx__state *st, const char *tenant,
                                                       const char *name) {
  return instance_rec(blx__state_instance_named(st, tenant, name));
}

const struct blx_config *blx__state_config(const struct blx__state *st, const char *sha256) {
  if (!sha256 || !sha256[0]) return NULL;
  const struct state_config *c = blx__map_get_str(&st->data.configs, sha256);
  return c ? c->rec : NULL;
}

const struct blx_vm *blx__state_vm_lookup(const struct blx__state *st, const char *tenant, const char *name) {
  const struct blx_vm *vm = blx__state_vm_by_name(st, tenant, name);
  if (vm) return vm;
  const struct state_instance *i = blx__state_instance_named(st, tenant, name);
  return i ? i->vm->rec : NULL;
}

/* ---- dependencies */

const struct blx_vm *blx__state_awaits(const struct blx__state *st, const struct blx_vm *vm) {
  for (size_t i = 0; i < vm->spec->n_depends_on; i++) {
    const struct blx_vm *on = blx__state_vm_by_name(st, vm->tenant, vm->spec->depends_on[i]);
    if (on && (on->desired != BLX_DESIRED_RUNNING || on->phase != BLX_PHASE_RUNNING)) return on;
  }
  return NULL;
}

enum { DEPENDED_MAX = 256 };

/* The VMs that must run before one of @spec starts, each once, those behind them too. */
static size_t depended_on(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                          uint64_t uids[DEPENDED_MAX]) {
  size_t n = 0;
  for (size_t at = 0;; at++) {
    for (size_t d = 0; d < spec->n_depends_on && n < DEPENDED_MAX; d++) {
      const struct blx_vm *on = blx__state_vm_by_name(st, tenant, spec->depends_on[d]);
      size_t k = 0;
      while (on && k < n && uids[k] != on->uid) k++;
      if (on && k == n) uids[n++] = on->uid;
    }
    if (at == n) return n;
    spec = blx__state_vm(st, uids[at])->spec;
  }
}

const struct blx_instance *blx__state_needed_victim(const struct blx__state *st, const char *tenant,
                                                    const struct blx_vm_spec *spec, const uint64_t *victims, size_t n) {
  uint64_t uids[DEPENDED_MAX];
  size_t needed = n > 0 && spec->n_depends_on > 0 ? depended_on(st, tenant, spec, uids) : 0;
  for (size_t v = 0; v < n && needed > 0; v++) {
    const struct blx_instance *victim = blx__state_instance(st, victims[v]);
    BLX__ASSERT(victim != NULL);
    for (size_t i = 0; i < needed; i++)
      if (uids[i] == victim->vm_uid) return victim;
  }
  return NULL;
}

static bool lives(const struct state_vm *vm) {
  BLX__MAP_FOREACH(pos, &vm->instances) {
    if (!((const struct state_instance *)blx__map_value(pos))->rec->dead) return true;
  }
  return false;
}

const struct blx_vm *blx__state_stops_first(const struct state_vm *vm) {
  BLX__MAP_FOREACH(pos, &vm->dependents) {
    const struct state_vm *by = blx__map_value(pos);
    bool leaves = by->rec->deleting || by->rec->desired == BLX_DESIRED_STOPPED;
    if (leaves && lives(by)) return by->rec;
  }
  return NULL;
}

/* ---- iteration */

/* The first value with a key above @key; the shortest key above one is that key and a NUL. */
void *blx__state_after(const struct blx__map *m, const uint8_t *key, size_t n) {
  struct blx__map_pos pos = blx__map_seek(m, key, n);
  if (!pos.node) return NULL;
  size_t found_n = 0;
  const void *found = blx__map_key(pos, &found_n);
  if (found_n == n && memcmp(found, key, n) == 0) pos = blx__map_next(m, pos);
  return pos.node ? blx__map_value(pos) : NULL;
}

static void *after_uid(const struct blx__map *m, uint64_t uid) {
  uint8_t key[16];
  blx__state_pair_key(key, uid, 0);
  return blx__state_after(m, key, 8);
}

const struct blx_node_info *blx__state_node_after(const struct blx__state *st, const char *name) {
  uint8_t key[STATE_NAME_KEY_MAX];
  size_t n = blx__state_name_key(key, NULL, name);
  return node_rec(blx__state_after(&st->data.node_names, key, n));
}

const struct blx_node_info *blx__state_node_after_uid(const struct blx__state *st, uint64_t uid) {
  return node_rec(after_uid(&st->data.nodes, uid));
}

const struct blx_vm *blx__state_vm_after(const struct blx__state *st, const char *tenant, const char *name) {
  uint8_t key[STATE_NAME_KEY_MAX];
  size_t n = blx__state_name_key(key, tenant, name);
  const struct blx_vm *vm = vm_rec(blx__state_after(&st->data.vm_names, key, n));
  return vm && blx__str_eq(vm->tenant, blx__state_tenant(tenant)) ? vm : NULL;
}

const struct blx_vm *blx__state_vm_of_any_after(const struct blx__state *st, const char *tenant, const char *name) {
  uint8_t key[STATE_NAME_KEY_MAX];
  size_t n = tenant ? blx__state_name_key(key, tenant, name) : 0;
  return vm_rec(blx__state_after(&st->data.vm_names, key, n));
}

const struct blx_vm *blx__state_vm_after_uid(const struct blx__state *st, uint64_t uid) {
  return vm_rec(after_uid(&st->data.vms, uid));
}

const struct blx_instance *blx__state_instance_after(const struct blx__state *st, uint64_t vm_uid, uint32_t ordinal) {
  const struct state_vm *vm = blx__state_vm_get(st, vm_uid);
  return vm ? instance_rec(after_uid(&vm->instances, ordinal)) : NULL;
}

const struct blx_instance *blx__state_instance_on_node_after(const struct blx__state *st, uint64_t node_uid,
                                                             uint64_t instance_uid) {
  const struct state_node *n = blx__state_node_get(st, node_uid);
  return n ? instance_rec(after_uid(&n->instances, instance_uid)) : NULL;
}

/* ---- those that wait for the scheduler, by when they are due, and by priority before that */

enum { READY_KEY_BYTES = 2 + 16 };

static uint32_t priority_of(uint32_t priority) {
  return priority < BLX__STATE_PRIORITY_MAX ? priority : BLX__STATE_PRIORITY_MAX;
}

/* The highest priority has the lowest key. */
static size_t ready_key(uint8_t key[READY_KEY_BYTES], uint32_t priority, uint64_t due_ms, uint64_t uid) {
  BLX__ASSERT(priority <= BLX__STATE_PRIORITY_MAX);
  uint32_t rank = BLX__STATE_PRIORITY_MAX - priority;
  key[0] = (uint8_t)(rank >> 8);
  key[1] = (uint8_t)rank;
  return 2 + blx__state_pair_key(key + 2, due_ms, uid);
}

void blx__state_waiting_put(struct blx__state *st, struct state_instance *e) {
  uint8_t due[16], ready[READY_KEY_BYTES];
  BLX__ASSERT(!e->waiting);
  e->waiting = true;
  e->due_ms = e->rec->not_before_ms;
  e->priority = priority_of(e->vm->rec->spec->priority);
  STATE_MUST(blx__map_set(&st->data.waiting, due, blx__state_pair_key(due, e->due_ms, e->rec->uid), e, NULL));
  STATE_MUST(blx__map_set(&st->data.ready, ready, ready_key(ready, e->priority, e->due_ms, e->rec->uid), e, NULL));
}

void blx__state_waiting_drop(struct blx__state *st, struct state_instance *e) {
  uint8_t due[16], ready[READY_KEY_BYTES];
  if (!e->waiting) return;
  e->waiting = false;
  const void *one = blx__map_remove(&st->data.waiting, due, blx__state_pair_key(due, e->due_ms, e->rec->uid));
  const void *two = blx__map_remove(&st->data.ready, ready, ready_key(ready, e->priority, e->due_ms, e->rec->uid));
  BLX__ASSERT(one == e && two == e);
}

static const struct state_instance *waiting_after(const struct blx__state *st, uint64_t due_ms, uint64_t uid) {
  uint8_t key[16];
  return blx__state_after(&st->data.waiting, key, blx__state_pair_key(key, due_ms, uid));
}

const struct blx_instance *blx__state_waiting_after(const struct blx__state *st, uint64_t due_ms, uint64_t uid) {
  const struct state_instance *e = waiting_after(st, due_ms, uid);
  return e ? e->rec : NULL;
}

uint64_t blx__state_next_due_ms(const struct blx__state *st, uint64_t now_ms) {
  const struct state_instance *e = waiting_after(st, now_ms, UINT64_MAX);
  return e ? e->due_ms : 0;
}

const struct blx_instance *blx__state_ready_next(const struct blx__state *st, uint64_t now_ms,
                                                 struct blx__state_ready *at) {
  uint8_t key[READY_KEY_BYTES];
  if (!at->begun) *at = (struct blx__state_ready){.begun = true, .priority = BLX__STATE_PRIORITY_MAX};
  for (;;) {
    size_t n = ready_key(key, priority_of(at->priority), at->due_ms, at->uid);
    const struct state_instance *e = blx__state_after(&st->data.ready, key, n);
    if (!e) return NULL;
    bool due = e->due_ms <= now_ms;
    *at = (struct blx__state_ready){.begun = true, .priority = e->priority};
    /* What follows in its priority is due later still: on to the next one. */
    at->due_ms = due ? e->due_ms : UINT64_MAX;
    at->uid = due ? e->rec->uid : UINT64_MAX;
    if (due) return e->rec;
  }
}

/* ---- tombstones */

const struct blx_tombstone *blx__state_tombstone_on_node_after(const struct blx__state *st, uint64_t node_uid,
                                                               uint64_t instance_uid) {
  const struct state_node *n = blx__state_node_get(st, node_uid);
  return n ? after_uid(&n->tombstones, instance_uid) : NULL;
}

uint64_t blx__state_tombstone_node_after(const struct blx__state *st, const char *tenant, const char *instance,
                                         uint64_t node_uid) {
  uint8_t key[STATE_NAME_KEY_MAX + 1 + 16];
  if (st->data.tombstones.count == 0) return 0;
  size_t n = blx__state_name_key(key, tenant, instance);
  key[n++] = 0;
  const struct blx_tombstone *t =
      blx__state_after(&st->data.tombstone_names, key, n + blx__state_pair_key(key + n, node_uid, UINT64_MAX));
  bool its =
      t && blx__str_eq(t->instance, instance) && blx__str_eq(blx__state_tenant(t->tenant), blx__state_tenant(tenant));
  return its ? t->node_uid : 0;
}

bool blx__state_tombstone_named(const struct blx__state *st, const char *instance, uint64_t node_uid) {
  const struct state_node *n = st->data.tombstones.count > 0 ? blx__state_node_get(st, node_uid) : NULL;
  if (!n) return false;
  BLX__MAP_FOREACH(pos, &n->tombstones) {
    if (blx__str_eq(((const struct blx_tombstone *)blx__map_value(pos))->instance, instance)) return true;
  }
  return false;
}

/* ---- for placement */

bool blx__state_is_ending(const struct blx_vm *vm, const struct blx_instance *i) {
  if (i->node_uid == 0 || i->dead) return false;
  return i->ending != BLX_ENDING_NONE || vm->deleting || vm->desired != BLX_DESIRED_RUNNING ||
         blx__state_scaled_away(vm, i);
}

const struct blx_instance *blx__state_room_after(const struct blx__state *st, uint64_t node_uid, uint64_t uid) {
  uint8_t key[16];
  const struct state_instance *e = blx__state_after(&st->data.rooms, key, blx__state_pair_key(key, node_uid, uid));
  return e && e->rec->room_on_uid == node_uid ? e->rec : NULL;
}

bool blx__state_scaled_away(const struct blx_vm *vm, const struct blx_instance *i) {
  BLX__ASSERT(i->vm_uid == vm->uid);
  return i->ordinal > blx__state_replicas(vm->spec);
}

bool blx__state_placement_node(const struct blx__state *st, uint64_t uid, struct blx__placement_node *out) {
  const struct state_node *e = blx__state_node_get(st, uid);
  if (!e) return false;
  *out = blx__placement_node_of(e->rec);
  blx__placement_overcommit(st->data.settings ? st->data.settings->placement : NULL, out);
  out->allocated_cpu_milli = e->cpu_milli;
  out->allocated_memory_mib = e->memory_mib;
  out->named = e->offered;
  out->n_named = e->n_offered;
  return true;
}

uint32_t blx__state_ha_on_node(const struct blx__state *st, uint64_t uid) {
  const struct state_node *e = blx__state_node_get(st, uid);
  return e ? e->ha : 0;
}

bool blx__state_time_proves(const struct blx__state *st, uint64_t node_uid) {
  const struct state_node *e = blx__state_node_get(st, node_uid);
  if (!e) return false;
  BLX__MAP_FOREACH(pos, &e->instances) {
    const struct state_instance *i = blx__map_value(pos);
    bool may_run = i->rec->fenced && !i->rec->dead, is_auto = i->vm->rec->spec->ha == BLX_HA_POLICY_AUTO;
    if (may_run && !(is_auto ? e->rec->fence_timed : e->rec->fence_ready)) return false;
  }
  return true;
}

struct blx__placement_need blx__state_need(const struct blx_vm *vm) {
  return blx__placement_need_of(vm->spec, NULL);
}
