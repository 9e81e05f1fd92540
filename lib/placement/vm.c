/* VMs of a fleet, and the classes of what they need. */
#include "base/digest.h"
#include "placement/index.h"
#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>

enum { CLASS_BYTES_MAX = 4 << 20 };

static blx__rc no_memory(blx_error *err) {
  return blx__fail(err, BLX_E_NOMEM, "placement", "no memory for the fleet");
}

/* What of a spec says nothing about placement, or is the VM's own, is left out. */
static struct blx_vm_spec bare_of(const struct blx_vm_spec *s) {
  struct blx_vm_spec bare = *s;
  bare.name = "vm";
  bare.flake = bare.config_sha256 = bare.config_name = NULL;
  bare.replicas = bare.has_replicas = 0;
  bare.restart_policy = 0;
  bare.stop_timeout_ms = bare.ready_none = bare.ha_max_restart = 0;
  bare.depends_on = NULL;
  bare.n_depends_on = 0;
  bare.unknown = NULL;
  return bare;
}

static blx__rc class_key(const char *tenant, const struct blx_vm_spec *spec, const struct blx_quota *quota,
                         uint8_t key[BLX__SHA256_BYTES], blx_error *err) {
  struct blx__buf said, limits;
  blx__buf_init(&said, CLASS_BYTES_MAX);
  blx__buf_init(&limits, CLASS_BYTES_MAX);
  blx__rc rc = blx__msg_encode(blx__desc_vm_spec(), spec, &said, err);
  if (rc.code == 0 && quota) rc = blx__msg_encode(blx__desc_quota(), quota, &limits, err);
  uint8_t kind = quota != NULL;
  struct blx__slice parts[] = {{.data = (const uint8_t *)tenant, .len = strlen(tenant) + 1},
                               {.data = &kind, .len = 1},
                               {.data = limits.data, .len = limits.len},
                               {.data = said.data, .len = said.len}};
  if (rc.code == 0) blx__sha256(parts, BLX__COUNT(parts), key);
  blx__buf_free(&said);
  blx__buf_free(&limits);
  return rc;
}

/* ---- tenants */

static struct fleet_tenant *tenant_ref(struct blx__fleet *f, const char *name) {
  struct fleet_tenant *t = blx__map_get_str(&f->tenants, name);
  if (!t) {
    t = calloc(1, sizeof *t);
    if (t) t->name = strdup(name);
    if (!t || !t->name || !blx__map_set_str(&f->tenants, name, t, NULL)) {
      if (t) free(t->name);
      free(t);
      return NULL;
    }
  }
  t->refs++;
  return t;
}

void fleet_tenant_unref(struct blx__fleet *f, struct fleet_tenant *t) {
  if (!t || --t->refs > 0) return;
  BLX__ASSERT(t->classes == NULL && t->vms.count == 0 && t->rules.count == 0);
  blx__map_remove_str(&f->tenants, t->name);
  blx__map_clear(&t->vms);
  blx__map_clear(&t->rules);
  free(t->name);
  free(t);
}

/* ---- classes */

static void class_free(struct blx__fleet *f, struct fleet_class *c) {
  struct fleet_tenant *t = c->tenant;
  fleet_class_rules_drop(f, c);
  fleet_index_drop(f, c);
  if (c->prev)
    c->prev->next = c->next;
  else
    t->classes = c->next;
  if (c->next) c->next->prev = c->prev;
  f->record_bytes -= blx__msg_owned_bytes(c->spec);
  blx__msg_free_owned(c->spec);
  blx__msg_free_owned(c->quota);
  free(c);
  fleet_tenant_unref(f, t);
}

void fleet_class_unref(struct blx__fleet *f, struct fleet_class *c) {
  BLX__ASSERT(c->refs > 0);
  if (--c->refs > 0) return;
  BLX__ASSERT(c->instances == 0);
  blx__map_remove(&f->classes, c->key, sizeof c->key);
  class_free(f, c);
}

static bool asks(const struct blx_vm_spec *s, int32_t strategy) {
  bool does = s->strategy == strategy;
  for (size_t i = 0; i < s->n_strategies; i++) does |= s->strategies[i]->strategy == strategy;
  return does;
}

static blx__rc class_fill(struct fleet_class *c, const struct blx_vm_spec *bare, const struct blx_quota *quota,
                          blx_error *err) {
  void *copy = NULL;
  BLX__TRY(blx__msg_own(blx__desc_vm_spec(), bare, &copy, err));
  c->spec = copy;
  if (quota) BLX__TRY(blx__msg_own(blx__desc_quota(), quota, &copy, err));
  if (quota) c->quota = copy;
  c->need = blx__placement_need_of(c->spec, c->quota);
  c->node_quota = quota && (quota->has_node_instances || quota->has_node_vcpus || quota->has_node_memory_mib);
  c->is_auto = c->spec->ha == BLX_HA_POLICY_AUTO;
  c->proximity = asks(c->spec, BLX_STRATEGY_NETWORK_PROXIMITY);
  c->moves = c->proximity;
  c->fits = asks(c->spec, BLX_STRATEGY_BEST_FIT);
  for (size_t i = 0; i < c->spec->n_affinity; i++) c->moves |= c->spec->affinity[i]->weight > 0;
  for (size_t i = 0; i < c->spec->n_spread; i++) c->moves |= c->spec->spread[i]->max_skew > 0;
  return BLX__OK;
}

static struct fleet_class *class_new(struct blx__fleet *f, const char *tenant, const struct blx_vm_spec *bare,
                                     const struct blx_quota *quota, blx_error *err) {
  struct fleet_class *c = calloc(1, sizeof *c);
  struct fleet_tenant *t = tenant_ref(f, tenant);
  if (!c || !t || class_fill(c, bare, quota, err).code != 0) {
    if (c) blx__msg_free_owned(c->spec);
    free(c);
    fleet_tenant_unref(f, t);
    (void)no_memory(err);
    return NULL;
  }
  f->record_bytes += blx__msg_owned_bytes(c->spec);
  c->tenant = t;
  c->next = t->classes;
  if (c->next) c->next->prev = c;
  t->classes = c;
  if (fleet_class_rules(f, c, err).code == 0 && fleet_index_class(f, c, err).code == 0) return c;
  class_free(f, c);
  return NULL;
}

struct fleet_class *fleet_class_ref(struct blx__fleet *f, const char *tenant, const struct blx_vm_spec *spec,
                                    const struct blx_quota *quota, blx_error *err) {
  struct blx_vm_spec bare = bare_of(spec);
  uint8_t key[BLX__SHA256_BYTES];
  _Static_assert(sizeof key == sizeof((struct fleet_class *)0)->key, "a digest");
  if (class_key(tenant, &bare, quota, key, err).code != 0) return NULL;
  struct fleet_class *c = blx__map_get(&f->classes, key, sizeof key);
  if (!c) {
    c = class_new(f, tenant, &bare, quota, err);
    if (!c) return NULL;
    memcpy(c->key, key, sizeof key);
    if (!blx__map_set(&f->classes, key, sizeof key, c, NULL)) {
      class_free(f, c);
      (void)no_memory(err);
      return NULL;
    }
  }
  c->refs++;
  return c;
}

/* ---- VMs */

static uint32_t vm_slot(struct blx__fleet *f) {
  if (f->vms_free != FLEET_NONE) {
    uint32_t slot = f->vms_free;
    f->vms_free = f->vms[slot].first;
    return slot;
  }
  if (f->vms_used == f->vms_room) {
    uint32_t room = f->vms_room ? f->vms_room * 2 : 64;
    struct fleet_vm *more = fleet_grow(f->vms, f->vms_used * sizeof *more, room * sizeof *more);
    if (!more) return FLEET_NONE;
    f->vms = more;
    f->vms_room = room;
    fleet_ids_of(&f->vm_ids, more, sizeof *more);
  }
  return f->vms_used++;
}

static void vm_unname(struct blx__fleet *f, uint32_t slot) {
  struct fleet_vm *vm = &f->vms[slot];
  struct fleet_tenant *t = vm->class->tenant;
  if (blx__map_get_str(&t->vms, vm->name) == (void *)(uintptr_t)(slot + 1)) blx__map_remove_str(&t->vms, vm->name);
  free(vm->name);
  vm->name = NULL;
}

/* Its instances stay, and count for the new class from now on. */
static void vm_reclass(struct blx__fleet *f, uint32_t slot, struct fleet_class *to) {
  struct fleet_vm *vm = &f->vms[slot];
  struct fleet_class *from = vm->class;
  for (uint32_t i = vm->first; i != FLEET_NONE; i = f->instances[i].next_of_vm) {
    uint32_t node = f->instances[i].node;
    fleet_use(f, node, from, false);
    fleet_count_rules(from, node, -1);
    fleet_use(f, node, to, true);
    fleet_count_rules(to, node, 1);
  }
  vm->class = to;
}

static blx__rc vm_name(struct blx__fleet *f, uint32_t slot, struct fleet_tenant *t, const char *name, blx_error *err) {
  char *copy = strdup(name && name[0] ? name : "unnamed");
  if (!copy || !blx__map_set_str(&t->vms, copy, (void *)(uintptr_t)(slot + 1), NULL)) {
    free(copy);
    return no_memory(err);
  }
  f->vms[slot].name = copy;
  return BLX__OK;
}

static blx__rc vm_add(struct blx__fleet *f, uint64_t uid, struct fleet_class *c, const char *name, blx_error *err) {
  if (f->vm_ids.count >= BLX__FLEET_VMS_MAX)
    return blx__fail(err, BLX_E_BUSY, "placement", "%d VMs are known, the most there can be", BLX__FLEET_VMS_MAX);
  uint32_t slot = vm_slot(f);
  if (slot == FLEET_NONE) return no_memory(err);
  f->vms[slot] = (struct fleet_vm){.uid = uid, .class = c, .first = FLEET_NONE};
  blx__rc rc = vm_name(f, slot, c->tenant, name, err);
  if (rc.code == 0 && !fleet_ids_set(&f->vm_ids, uid, slot)) {
    vm_unname(f, slot);
    rc = no_memory(err);
  }
  if (rc.code == 0) return rc;
  f->vms[slot] = (struct fleet_vm){.first = f->vms_free};
  f->vms_free = slot;
  return rc;
}

static bool strategy_known(const struct blx__fleet *f, int32_t strategy) {
  return strategy >= BLX__FLEET_STRATEGY_FIRST && (size_t)(strategy - BLX__FLEET_STRATEGY_FIRST) < f->n_strategies;
}

static blx__rc spec_check(const struct blx__fleet *f, const struct blx_vm_spec *spec, blx_error *err) {
  struct blx_vm_spec known = *spec;
  if (strategy_known(f, spec->strategy)) known.strategy = BLX_STRATEGY_BEST_FIT;
  return blx__placement_spec_check(&known, err);
}

blx__rc blx__fleet_set_vm(struct blx__fleet *f, uint64_t vm_uid, const char *tenant, const struct blx_vm_spec *spec,
                          const struct blx_quota *quota, blx_error *err) {
  if (vm_uid == 0) return blx__fail(err, BLX_E_INVALID, "placement", "the uid of a VM is 0");
  BLX__TRY(spec_check(f, spec, err));
  blx_error why = {0};
  struct fleet_class *c = fleet_class_ref(f, tenant && tenant[0] ? tenant : "default", spec, quota, &why);
  if (!c) return why.code ? blx__fail_as(err, &why) : no_memory(err);
  uint32_t slot = fleet_ids_get(&f->vm_ids, vm_uid);
  if (slot == FLEET_NONE) {
    blx__rc rc = vm_add(f, vm_uid, c, spec->name, err);
    if (rc.code != 0) fleet_class_unref(f, c);
    return rc;
  }
  struct fleet_class *old = f->vms[slot].class;
  vm_unname(f, slot);
  vm_reclass(f, slot, c);
  blx__rc rc = vm_name(f, slot, c->tenant, spec->name, err);
  fleet_class_unref(f, old);
  if (rc.code != 0) (void)blx__fleet_drop_vm(f, vm_uid);
  return rc;
}

bool blx__fleet_drop_vm(struct blx__fleet *f, uint64_t vm_uid) {
  uint32_t slot = fleet_ids_get(&f->vm_ids, vm_uid);
  if (slot == FLEET_NONE) return false;
  struct fleet_vm *vm = &f->vms[slot];
  while (vm->first != FLEET_NONE) {
    uint32_t instance = vm->first;
    fleet_detach(f, instance);
    fleet_instance_free(f, instance);
  }
  if (vm->name) vm_unname(f, slot);
  fleet_class_unref(f, vm->class);
  fleet_ids_remove(&f->vm_ids, vm_uid);
  f->vms[slot] = (struct fleet_vm){.first = f->vms_free};
  f->vms_free = slot;
  return true;
}

void fleet_vms_free(struct blx__fleet *f) {
  for (uint32_t slot = 0; slot < f->vms_used; slot++)
    if (f->vms[slot].uid != 0) (void)blx__fleet_drop_vm(f, f->vms[slot].uid);
  BLX__ASSERT(f->tenants.count == 0 && f->classes.count == 0);
  blx__map_clear(&f->tenants);
  blx__map_clear(&f->classes);
  fleet_ids_free(&f->vm_ids);
  free(f->vms);
}
