#include "state/state_int.h"

#include <stdlib.h>
#include <string.h>

const char *blx__state_tenant(const char *tenant) {
  return tenant && tenant[0] ? tenant : "default";
}

size_t blx__state_name_key(uint8_t key[STATE_NAME_KEY_MAX], const char *tenant, const char *name) {
  const char *t = blx__state_tenant(tenant);
  size_t tn = strnlen(t, STATE_TENANT_MAX + 1), nn = name ? strnlen(name, 128) : 0;
  BLX__ASSERT(tn + 1 + nn <= STATE_NAME_KEY_MAX);
  memcpy(key, t, tn);
  key[tn] = 0;
  if (nn) memcpy(key + tn + 1, name, nn);
  return tn + 1 + nn;
}

size_t blx__state_pair_key(uint8_t key[16], uint64_t a, uint64_t b) {
  for (unsigned i = 0; i < 8; i++) {
    key[i] = (uint8_t)(a >> (56 - 8 * i));
    key[8 + i] = (uint8_t)(b >> (56 - 8 * i));
  }
  return 16;
}

/* ---- look up */

struct state_node *blx__state_node_get(const struct blx__state *st, uint64_t uid) {
  return blx__map_get_u64(&st->data.nodes, uid);
}

struct state_vm *blx__state_vm_get(const struct blx__state *st, uint64_t uid) {
  return blx__map_get_u64(&st->data.vms, uid);
}

struct state_instance *blx__state_instance_get(const struct blx__state *st, uint64_t uid) {
  return blx__map_get_u64(&st->data.instances, uid);
}

static void *named(const struct blx__map *m, const char *tenant, const char *name) {
  uint8_t key[STATE_NAME_KEY_MAX];
  size_t n = blx__state_name_key(key, tenant, name);
  return blx__map_get(m, key, n);
}

struct state_vm *blx__state_vm_named(const struct blx__state *st, const char *tenant, const char *name) {
  return named(&st->data.vm_names, tenant, name);
}

struct state_instance *blx__state_instance_named(const struct blx__state *st, const char *tenant, const char *name) {
  return named(&st->data.instance_names, tenant, name);
}

static void set_named(struct blx__map *m, const char *tenant, const char *name, void *value) {
  uint8_t key[STATE_NAME_KEY_MAX];
  size_t n = blx__state_name_key(key, tenant, name);
  void *old = NULL;
  STATE_MUST(blx__map_set(m, key, n, value, &old));
  BLX__ASSERT(old == NULL);
}

static void remove_named(struct blx__map *m, const char *tenant, const char *name, const void *value) {
  uint8_t key[STATE_NAME_KEY_MAX];
  size_t n = blx__state_name_key(key, tenant, name);
  BLX__ASSERT(blx__map_remove(m, key, n) == value);
}

static void set_uid(struct blx__map *m, uint64_t uid, void *value) {
  STATE_MUST(blx__map_set_u64(m, uid, value, NULL));
}

static void *zeroed(size_t n) {
  void *p = calloc(1, n);
  STATE_MUST(p != NULL);
  return p;
}

static void *owned(const struct blx__msg_desc *desc, const void *draft) {
  void *rec = NULL;
  STATE_MUST(blx__msg_own(desc, draft, &rec, NULL).code == 0);
  return rec;
}

/* ---- indexes of instances */

bool blx__state_wants_node(const struct blx_instance *i, const struct blx_vm *vm) {
  if (!i->dead || vm->desired != BLX_DESIRED_RUNNING || vm->deleting || blx__state_scaled_away(vm, i)) return false;
  return i->phase == BLX_PHASE_PENDING || (i->phase == BLX_PHASE_FAILED && i->not_before_ms != 0);
}

bool blx__state_is_ha(const struct blx_vm *vm) {
  return vm->spec->ha != BLX_HA_POLICY_OFF;
}

static bool counts_as_ha(const struct state_instance *e) {
  return !e->rec->dead && blx__state_is_ha(e->vm->rec);
}

/* What the capacity names, and how much of it is allocated. A resource that is not named there is not there. */
static void offer(struct state_node *n) {
  const struct blx_resources *has = n->rec->capacity;
  n->n_offered = has ? has->n_named : 0;
  if (n->n_offered == 0) return;
  n->offered = reallocarray(n->offered, n->n_offered, sizeof *n->offered);
  STATE_MUST(n->offered != NULL);
  for (size_t i = 0; i < n->n_offered; i++) {
    const struct blx_amount *a = has->named[i];
    n->offered[i] = (struct blx__placement_amount){a->name, a->amount, blx__state_amount(&n->named, a->name)};
  }
}

static void use_node(struct state_node *n, const struct blx_vm_spec *spec, bool in) {
  uint64_t cpu_milli = blx__placement_cpu_milli(spec);
  n->vcpus = in ? n->vcpus + spec->vcpus : n->vcpus - spec->vcpus;
  n->cpu_milli = in ? n->cpu_milli + cpu_milli : n->cpu_milli - cpu_milli;
  n->memory_mib = in ? n->memory_mib + spec->memory_mib : n->memory_mib - spec->memory_mib;
  if (spec->n_resources == 0) return;
  blx__state_amounts_count(&n->named, spec->resources, spec->n_resources, in);
  offer(n);
}

static void link_instance(struct blx__state *st, struct state_instance *e) {
  const struct blx_instance *i = e->rec;
  const struct blx_vm_spec *spec = e->vm->rec->spec;
  if (i->node_uid) {
    struct state_node *n = blx__state_node_get(st, i->node_uid);
    BLX__ASSERT(n != NULL);
    set_uid(&n->instances, i->uid, e);
    if (!i->dead) use_node(n, spec, true);
    if (!i->dead) blx__state_around_instance(st, e, n, true);
    n->live += i->dead ? 0 : 1;
    n->ha += counts_as_ha(e) ? 1 : 0;
    st->data.ha += counts_as_ha(e) ? 1 : 0;
  }
  if (blx__state_wants_node(i, e->vm->rec)) blx__state_waiting_put(st, e);
  if (i->room_on_uid) {
    uint8_t key[16];
    STATE_MUST(blx__map_set(&st->data.rooms, key, blx__state_pair_key(key, i->room_on_uid, i->uid), e, NULL));
  }
  st->data.running += i->phase == BLX_PHASE_RUNNING;
}

static void unlink_instance(struct blx__state *st, struct state_instance *e) {
  const struct blx_instance *i = e->rec;
  const struct blx_vm_spec *spec = e->vm->rec->spec;
  if (i->node_uid) {
    struct state_node *n = blx__state_node_get(st, i->node_uid);
    BLX__ASSERT(n != NULL && (i->dead || (n->live > 0 && n->memory_mib >= spec->memory_mib)));
    blx__map_remove_u64(&n->instances, i->uid);
    if (!i->dead) use_node(n, spec, false);
    if (!i->dead) blx__state_around_instance(st, e, n, false);
    n->live -= i->dead ? 0 : 1;
    n->ha -= counts_as_ha(e) ? 1 : 0;
    st->data.ha -= counts_as_ha(e) ? 1 : 0;
  }
  blx__state_waiting_drop(st, e);
  if (i->room_on_uid) {
    uint8_t key[16];
    blx__map_remove(&st->data.rooms, key, blx__state_pair_key(key, i->room_on_uid, i->uid));
  }
  st->data.running -= i->phase == BLX_PHASE_RUNNING;
}

void blx__state_set_aside(struct blx__state *st, struct state_instance *e) {
  BLX__ASSERT(!e->aside);
  unlink_instance(st, e);
  e->aside = true;
}

void blx__state_put_back(struct blx__state *st, struct state_instance *e) {
  BLX__ASSERT(e->aside);
  e->aside = false;
  link_instance(st, e);
}

void blx__state_touch_share(struct blx__state *st, uint64_t node_uid) {
  struct state_node *n = node_uid ? blx__state_node_get(st, node_uid) : NULL;
  if (!n) return;
  n->share_revision = ++st->share_counter;
  n->share_index = st->data.index;
  if (st->options.on_share) st->options.on_share(st->options.user, node_uid);
}

static bool same_assignment(const struct blx_instance *a, const struct blx_instance *b) {
  return a->node_uid == b->node_uid && a->epoch == b->epoch && !a->dead == !b->dead && a->ending == b->ending &&
         a->seen_era == b->seen_era;
}

/* ---- put */

/* Nothing about what is near what changes. */
static bool same_labels(const struct blx_node_info *a, const struct blx_node_info *b) {
  if (a->n_labels != b->n_labels) return false;
  for (size_t i = 0; i < a->n_labels; i++)
    if (!blx__str_eq(a->labels[i]->key, b->labels[i]->key) || !blx__str_eq(a->labels[i]->value, b->labels[i]->value))
      return false;
  return true;
}

void blx__state_put_node(struct blx__state *st, const struct blx_node_info *draft) {
  struct blx_node_info copy = *draft;
  if (!st->quiet) copy.revision = st->data.index;
  struct blx_node_info *rec = owned(blx__desc_node_info(), &copy);
  struct state_node *e = blx__state_node_get(st, rec->uid);
  bool fresh = e == NULL, moved = false;
  if (fresh) {
    e = zeroed(sizeof *e);
    set_uid(&st->data.nodes, rec->uid, e);
    set_named(&st->data.node_names, NULL, rec->name, e);
    blx__state_touch_share(st, rec->uid);
  } else {
    BLX__ASSERT(blx__str_eq(e->rec->name, rec->name));
    st->data.fencing -= e->rec->fence == BLX_FENCE_BEGUN;
    st->data.unclear -= blx__state_unclear_rec(st, e->rec);
    moved = !same_labels(e->rec, rec);
    if (moved) blx__state_around_node(st, e, false);
    blx__state_release(st, e->rec);
  }
  e->rec = rec;
  if (moved) blx__state_around_node(st, e, true);
  offer(e);
  st->data.fencing += rec->fence == BLX_FENCE_BEGUN;
  st->data.unclear += blx__state_unclear_rec(st, rec);
  blx__state_event_node(st, fresh ? BLX_EVENT_TYPE_CREATED : BLX_EVENT_TYPE_CHANGED, rec);
}

static void use_config(struct blx__state *st, const struct blx_vm *vm, bool used) {
  const char *sha256 = vm->spec->config_sha256;
  if (!sha256 || !sha256[0]) return;
  struct state_config *c = blx__map_get_str(&st->data.configs, sha256);
  BLX__ASSERT(c != NULL && (used || c->vms > 0));
  c->vms += used ? 1 : 0;
  c->vms -= used ? 0 : 1;
  if (c->vms > 0) return;
  blx__map_remove_str(&st->data.configs, sha256);
  blx__state_release(st, c->rec);
  free(c);
}

/* What it depends on was there before it, and stays as long as it is. */
static void link_dependencies(struct blx__state *st, struct state_vm *e, bool linked) {
  const struct blx_vm_spec *spec = e->rec->spec;
  for (size_t i = 0; i < spec->n_depends_on; i++) {
    struct state_vm *on = blx__state_vm_named(st, e->rec->tenant, spec->depends_on[i]);
    BLX__ASSERT(on != NULL && on != e);
    if (linked)
      set_uid(&on->dependents, e->rec->uid, e);
    else
      blx__map_remove_u64(&on->dependents, e->rec->uid);
  }
}

static void put_new_vm(struct blx__state *st, struct blx_vm *rec) {
  struct state_vm *e = zeroed(sizeof *e);
  e->rec = rec;
  set_uid(&st->data.vms, rec->uid, e);
  set_named(&st->data.vm_names, rec->tenant, rec->spec->name, e);
  use_config(st, rec, true);
  link_dependencies(st, e, true);
  blx__state_count_vm(st, rec, true);
  blx__state_around_vm(st, e, true);
  blx__state_event_vm(st, BLX_EVENT_TYPE_CREATED, rec);
}

void blx__state_put_vm(struct blx__state *st, const struct blx_vm *draft) {
  struct blx_vm copy = *draft;
  if (!st->quiet) copy.revision = st->data.index;
  struct blx_vm *rec = owned(blx__desc_vm(), &copy);
  struct state_vm *e = blx__state_vm_get(st, rec->uid);
  if (!e) {
    put_new_vm(st, rec);
    return;
  }
  struct blx_vm *old = e->rec;
  uint32_t replicas = blx__state_replicas(rec->spec), before = blx__state_replicas(old->spec);
  bool told = old->desired != rec->desired || !old->deleting != !rec->deleting || !old->paused != !rec->paused;
  bool intent = told || replicas != before;
  /* Whether an instance waits depends on the VM: take them out under the old record, back in under the new one. */
  if (intent) {
    BLX__MAP_FOREACH(pos, &e->instances) unlink_instance(st, blx__map_value(pos));
  }
  e->rec = rec;
  if (intent) {
    BLX__MAP_FOREACH(pos, &e->instances) {
      struct state_instance *i = blx__map_value(pos);
      link_instance(st, i);
      if (told || (i->rec->ordinal > replicas) != (i->rec->ordinal > before))
        blx__state_touch_share(st, i->rec->node_uid);
    }
  }
  blx__state_release(st, old);
  blx__state_event_vm(st, BLX_EVENT_TYPE_CHANGED, rec);
}

static struct state_instance *new_instance(struct blx__state *st, struct blx_instance *rec) {
  struct state_instance *e = zeroed(sizeof *e);
  e->rec = rec;
  e->vm = blx__state_vm_get(st, rec->vm_uid);
  BLX__ASSERT(e->vm != NULL);
  set_uid(&st->data.instances, rec->uid, e);
  set_named(&st->data.instance_names, e->vm->rec->tenant, rec->name, e);
  set_uid(&e->vm->instances, rec->ordinal, e);
  blx__state_count_instance(st, e->vm->rec, true);
  blx__state_touch_share(st, rec->node_uid);
  return e;
}

void blx__state_put_instance(struct blx__state *st, const struct blx_instance *draft) {
  struct state_instance *e = blx__state_instance_get(st, draft->uid);
  struct blx_instance copy = *draft;
  if (!st->quiet) {
    copy.revision = st->data.index;
    if (!e || e->rec->phase != draft->phase) copy.phase_since_ms = st->data.time_ms;
  }
  const struct state_vm *vm = blx__state_vm_get(st, draft->vm_uid);
  BLX__ASSERT(vm != NULL);
  if (!blx__state_wants_node(&copy, vm->rec)) copy.room_on_uid = 0;
  struct blx_instance *rec = owned(blx__desc_instance(), &copy);
  bool fresh = e == NULL;
  if (fresh) {
    e = new_instance(st, rec);
  } else {
    struct blx_instance *old = e->rec;
    BLX__ASSERT(rec->epoch >= old->epoch);
    unlink_instance(st, e);
    e->rec = rec;
    if (!same_assignment(old, rec)) {
      blx__state_touch_share(st, old->node_uid);
      blx__state_touch_share(st, rec->node_uid);
    }
    blx__state_release(st, old);
  }
  link_instance(st, e);
  set_uid(&st->data.unsettled, e->vm->rec->uid, e->vm);
  blx__state_event_instance(st, fresh ? BLX_EVENT_TYPE_CREATED : BLX_EVENT_TYPE_CHANGED, e);
}

void blx__state_put_instance_seq(struct blx__state *st, struct state_instance *e, uint64_t seq) {
  struct blx_instance copy = *e->rec;
  copy.report_seq = seq;
  struct blx_instance *rec = owned(blx__desc_instance(), &copy);
  blx__state_release(st, e->rec);
  e->rec = rec;
}

void blx__state_put_settings(struct blx__state *st, const struct blx_settings *draft) {
  struct blx_settings copy = *draft;
  if (!st->quiet) copy.revision = st->data.index;
  struct blx_settings *rec = owned(blx__desc_settings(), &copy);
  if (st->data.settings) blx__state_release(st, st->data.settings);
  st->data.settings = rec;
  blx__state_event_settings(st);
}

void blx__state_put_config(struct blx__state *st, const struct blx_config *draft) {
  struct state_config *e = zeroed(sizeof *e);
  struct blx_config copy = *draft;
  if (!st->quiet) copy.revision = st->data.index;
  e->rec = owned(blx__desc_config(), &copy);
  void *old = NULL;
  STATE_MUST(blx__map_set_str(&st->data.configs, e->rec->sha256, e, &old));
  BLX__ASSERT(old == NULL);
}

enum { TOMBSTONE_KEY_MAX = STATE_NAME_KEY_MAX + 1 + 16 };

static size_t tombstone_key(uint8_t key[TOMBSTONE_KEY_MAX], const struct blx_tombstone *t) {
  size_t n = blx__state_name_key(key, t->tenant, t->instance);
  key[n++] = 0;
  return n + blx__state_pair_key(key + n, t->node_uid, t->instance_uid);
}

/* Into the indexes, or out of them; what may still run there keeps its room. */
static void count_tombstone(struct blx__state *st, struct blx_tombstone *t, bool in) {
  struct state_node *n = blx__state_node_get(st, t->node_uid);
  uint8_t key[TOMBSTONE_KEY_MAX];
  size_t key_len = tombstone_key(key, t);
  BLX__ASSERT(n != NULL && (in || t->dead || n->memory_mib >= t->spec->memory_mib));
  if (in && !t->dead) blx__state_around_tombstone(st, t, n, true);
  if (in) {
    set_uid(&st->data.tombstones, t->instance_uid, t);
    set_uid(&n->tombstones, t->instance_uid, t);
    STATE_MUST(blx__map_set(&st->data.tombstone_names, key, key_len, t, NULL));
  } else {
    blx__map_remove_u64(&st->data.tombstones, t->instance_uid);
    blx__map_remove_u64(&n->tombstones, t->instance_uid);
    blx__map_remove(&st->data.tombstone_names, key, key_len);
    if (!t->dead) blx__state_around_tombstone(st, t, n, false);
  }
  if (!t->dead) use_node(n, t->spec, in);
  blx__state_touch_share(st, t->node_uid);
}

void blx__state_set_buried_aside(struct blx__state *st, struct state_node *n, bool aside) {
  BLX__ASSERT(n->buried_aside != aside);
  n->buried_aside = aside;
  blx__state_around_buried(st, n, !aside);
  BLX__MAP_FOREACH(pos, &n->tombstones) {
    const struct blx_tombstone *t = blx__map_value(pos);
    if (!t->dead) use_node(n, t->spec, !aside);
  }
}

void blx__state_put_tombstone(struct blx__state *st, const struct blx_tombstone *draft) {
  struct blx_tombstone copy = *draft;
  if (!st->quiet) copy.revision = st->data.index;
  struct blx_tombstone *rec = owned(blx__desc_tombstone(), &copy);
  struct blx_tombstone *old = blx__map_get_u64(&st->data.tombstones, rec->instance_uid);
  if (old) blx__state_drop_tombstone(st, old);
  count_tombstone(st, rec, true);
}

/* ---- drop */

void blx__state_drop_tombstone(struct blx__state *st, struct blx_tombstone *t) {
  count_tombstone(st, t, false);
  blx__state_release(st, t);
}

void blx__state_drop_instance(struct blx__state *st, struct state_instance *e) {
  struct state_vm *vm = e->vm;
  blx__state_event_instance(st, BLX_EVENT_TYPE_DELETED, e);
  unlink_instance(st, e);
  blx__state_touch_share(st, e->rec->node_uid);
  blx__map_remove_u64(&st->data.instances, e->rec->uid);
  remove_named(&st->data.instance_names, vm->rec->tenant, e->rec->name, e);
  blx__map_remove_u64(&vm->instances, e->rec->ordinal);
  blx__state_count_instance(st, vm->rec, false);
  set_uid(&st->data.unsettled, vm->rec->uid, vm);
  blx__state_release(st, e->rec);
  free(e);
}

void blx__state_drop_vm(struct blx__state *st, struct state_vm *e) {
  BLX__ASSERT(e->instances.count == 0);
  blx__state_event_vm(st, BLX_EVENT_TYPE_DELETED, e->rec);
  blx__map_remove_u64(&st->data.vms, e->rec->uid);
  blx__map_remove_u64(&st->data.unsettled, e->rec->uid);
  remove_named(&st->data.vm_names, e->rec->tenant, e->rec->spec->name, e);
  use_config(st, e->rec, false);
  BLX__ASSERT(e->dependents.count == 0);
  link_dependencies(st, e, false);
  blx__state_around_vm(st, e, false);
  blx__state_count_vm(st, e->rec, false);
  blx__state_release(st, e->rec);
  free(e);
}

void blx__state_drop_node(struct blx__state *st, struct state_node *e) {
  BLX__ASSERT(e->instances.count == 0 && e->tombstones.count == 0 && e->live == 0);
  BLX__ASSERT(!blx__state_unclear_rec(st, e->rec));
  blx__state_touch_share(st, e->rec->uid);
  blx__state_event_node(st, BLX_EVENT_TYPE_DELETED, e->rec);
  st->data.fencing -= e->rec->fence == BLX_FENCE_BEGUN;
  blx__map_remove_u64(&st->data.nodes, e->rec->uid);
  remove_named(&st->data.node_names, NULL, e->rec->name, e);
  blx__state_amounts_free(&e->named);
  free(e->offered);
  blx__state_release(st, e->rec);
  free(e);
}

bool blx__state_drop_unused_config(struct blx__state *st) {
  struct state_config *oldest = NULL;
  BLX__MAP_FOREACH(pos, &st->data.configs) {
    struct state_config *c = blx__map_value(pos);
    if (c->vms == 0 && (!oldest || c->rec->revision < oldest->rec->revision)) oldest = c;
  }
  if (!oldest) return false;
  blx__map_remove_str(&st->data.configs, oldest->rec->sha256);
  blx__state_release(st, oldest->rec);
  free(oldest);
  return true;
}

void blx__state_data_free(struct state_data *d) {
  BLX__MAP_FOREACH(pos, &d->nodes) {
    struct state_node *n = blx__map_value(pos);
    blx__map_clear(&n->instances);
    blx__map_clear(&n->tombstones);
    blx__state_amounts_free(&n->named);
    free(n->offered);
    blx__msg_free_owned(n->rec);
    free(n);
  }
  BLX__MAP_FOREACH(pos, &d->vms) {
    struct state_vm *vm = blx__map_value(pos);
    blx__map_clear(&vm->instances);
    blx__map_clear(&vm->dependents);
    free(vm->matched);
    blx__msg_free_owned(vm->rec);
    free(vm);
  }
  BLX__MAP_FOREACH(pos, &d->instances) {
    struct state_instance *i = blx__map_value(pos);
    blx__msg_free_owned(i->rec);
    free(i);
  }
  BLX__MAP_FOREACH(pos, &d->configs) {
    struct state_config *c = blx__map_value(pos);
    blx__msg_free_owned(c->rec);
    free(c);
  }
  BLX__MAP_FOREACH(pos, &d->tenants) blx__state_tenant_free(blx__map_value(pos));
  blx__state_shapes_free(d);
  blx__state_rules_free(d);
  BLX__MAP_FOREACH(pos, &d->keys) blx__msg_free_owned(blx__map_value(pos));
  BLX__MAP_FOREACH(pos, &d->tombstones) blx__msg_free_owned(blx__map_value(pos));
  if (d->settings) blx__msg_free_owned(d->settings);
  d->settings = NULL;
  struct blx__map *maps[] = {
      &d->nodes,   &d->vms,        &d->instances,   &d->node_names,     &d->vm_names,       &d->configs,
      &d->keys,    &d->tombstones, &d->keys_by_age, &d->waiting,        &d->ready,          &d->rooms,
      &d->tenants, &d->quotas,     &d->unsettled,   &d->instance_names, &d->tombstone_names};
  for (size_t m = 0; m < BLX__COUNT(maps); m++) blx__map_clear(maps[m]);
}
