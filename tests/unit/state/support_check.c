/* The indexes of a state against those that a restore builds from its records alone. */
#include "support.h"

#include "state/state_int.h"
#include <string.h>

static void same_keys(const struct blx__map *a, const struct blx__map *b, const char *what) {
  ck_assert_msg(a->count == b->count, "%s: %zu entries, %zu from the records", what, a->count, b->count);
  struct blx__map_pos other = blx__map_seek(b, NULL, 0);
  BLX__MAP_FOREACH(pos, a) {
    size_t an = 0, bn = 0;
    const void *ak = blx__map_key(pos, &an), *bk = blx__map_key(other, &bn);
    ck_assert_msg(an == bn && memcmp(ak, bk, an) == 0, "%s: a key differs", what);
    other = blx__map_next(b, other);
  }
}

static void same_amounts(const struct state_amounts *a, const struct state_amounts *b) {
  ck_assert_uint_eq(a->n, b->n);
  for (size_t i = 0; i < a->n; i++) {
    ck_assert_str_eq(a->list[i].name, b->list[i].name);
    ck_assert_uint_eq(a->list[i].amount, b->list[i].amount);
  }
}

/* What a tenant has, counted one by one. */
static void recount_tenant(const struct t *t, const struct state_tenant *e) {
  uint64_t vms = 0, instances = 0, vcpus = 0, cpu_milli = 0, memory_mib = 0;
  struct state_amounts named = {0};
  const struct blx_vm *vm = blx__state_vm_after(t->st, e->name, NULL);
  for (; vm; vm = blx__state_vm_after(t->st, e->name, vm->spec->name), vms++) {
    const struct blx_instance *i = blx__state_instance_after(t->st, vm->uid, 0);
    for (; i; i = blx__state_instance_after(t->st, vm->uid, i->ordinal), instances++) {
      vcpus += vm->spec->vcpus;
      cpu_milli += blx__placement_cpu_milli(vm->spec);
      memory_mib += vm->spec->memory_mib;
      blx__state_amounts_count(&named, vm->spec->resources, vm->spec->n_resources, true);
    }
  }
  ck_assert_msg(vms > 0 || e->rec, "%s has nothing, and is known", e->name);
  ck_assert_uint_eq(e->vms, vms);
  ck_assert_uint_eq(e->instances, instances);
  ck_assert_uint_eq(e->vcpus, vcpus);
  ck_assert_uint_eq(e->cpu_milli, cpu_milli);
  ck_assert_uint_eq(e->memory_mib, memory_mib);
  same_amounts(&e->named, &named);
  blx__state_amounts_free(&named);
}

static void recount_shapes(const struct t *t) {
  struct blx__state_shape shapes[256];
  size_t n = blx__state_shapes(t->st, shapes, BLX__COUNT(shapes));
  uint64_t all = 0, last = UINT64_MAX;
  for (size_t k = 0; k < n; k++) {
    uint64_t count = 0;
    const struct blx_vm *vm = blx__state_vm_after_uid(t->st, 0);
    for (; vm; vm = blx__state_vm_after_uid(t->st, vm->uid)) {
      uint64_t milli = blx__placement_cpu_milli(vm->spec);
      if (milli == shapes[k].cpu_milli && vm->spec->memory_mib == shapes[k].memory_mib)
        count += blx__state_vm_get(t->st, vm->uid)->instances.count;
    }
    ck_assert_uint_eq(shapes[k].count, count);
    ck_assert_uint_le(count, last);
    all += last = count;
  }
  ck_assert_uint_eq(all, blx__state_counts(t->st).instances);
}

static void same_nodes(const struct blx__state *a, const struct blx__state *b) {
  BLX__MAP_FOREACH(pos, &a->data.nodes) {
    const struct state_node *x = blx__map_value(pos);
    const struct state_node *y = blx__map_get_u64(&b->data.nodes, x->rec->uid);
    ck_assert_uint_eq(x->vcpus, y->vcpus);
    ck_assert_uint_eq(x->memory_mib, y->memory_mib);
    ck_assert_uint_eq(x->cpu_milli, y->cpu_milli);
    same_amounts(&x->named, &y->named);
    ck_assert_uint_eq(x->autos, y->autos);
    ck_assert_uint_eq(x->n_offered, y->n_offered);
    for (size_t i = 0; i < x->n_offered; i++) {
      ck_assert_str_eq(x->offered[i].name, y->offered[i].name);
      ck_assert_uint_eq(x->offered[i].capacity, y->offered[i].capacity);
      ck_assert_uint_eq(x->offered[i].allocated, y->offered[i].allocated);
    }
    ck_assert_uint_eq(x->live, y->live);
    ck_assert_uint_eq(x->ha, y->ha);
    same_keys(&x->instances, &y->instances, "instances of a node");
    same_keys(&x->tombstones, &y->tombstones, "tombstones of a node");
  }
}

static void same_vms(const struct blx__state *a, const struct blx__state *b) {
  BLX__MAP_FOREACH(pos, &a->data.vms) {
    const struct state_vm *x = blx__map_value(pos);
    const struct state_vm *y = blx__map_get_u64(&b->data.vms, x->rec->uid);
    same_keys(&x->instances, &y->instances, "instances of a VM");
    same_keys(&x->dependents, &y->dependents, "dependents of a VM");
    ck_assert_msg(!x->rec->deleting || x->instances.count > 0, "a deleted VM without instances stayed");
  }
}

void t_check_rebuilt(const struct t *t) {
  struct blx__buf bytes;
  blx__buf_init(&bytes, 64 << 20);
  ck_assert_int_eq(blx__state_snapshot(t->st, &bytes, NULL).code, 0);
  struct blx__state *fresh = blx__state_new(NULL);
  blx_error err = {0};
  ck_assert_msg(blx__state_restore(fresh, (struct blx__slice){bytes.data, bytes.len}, &err).code == 0, "%s",
                err.message);
  const struct state_data *a = &t->st->data, *b = &fresh->data;
  same_keys(&a->nodes, &b->nodes, "nodes");
  same_keys(&a->vms, &b->vms, "vms");
  same_keys(&a->instances, &b->instances, "instances");
  same_keys(&a->node_names, &b->node_names, "node names");
  same_keys(&a->vm_names, &b->vm_names, "vm names");
  same_keys(&a->instance_names, &b->instance_names, "instance names");
  same_keys(&a->configs, &b->configs, "configs");
  same_keys(&a->keys, &b->keys, "request ids");
  same_keys(&a->keys_by_age, &b->keys_by_age, "request ids by age");
  same_keys(&a->waiting, &b->waiting, "waiting");
  same_keys(&a->ready, &b->ready, "ready");
  same_keys(&a->rooms, &b->rooms, "those that wait for room");
  same_keys(&a->levels, &b->levels, "levels");
  BLX__MAP_FOREACH(pos, &a->levels) {
    size_t n = 0;
    const void *level = blx__map_key(pos, &n);
    ck_assert_ptr_eq(blx__map_value(pos), blx__map_get(&b->levels, level, n)); /* which are numbers */
  }
  same_keys(&a->auto_cpu, &b->auto_cpu, "processors of ha=auto");
  same_keys(&a->auto_memory, &b->auto_memory, "memory of ha=auto");
  same_keys(&a->tombstones, &b->tombstones, "tombstones");
  same_keys(&a->tombstone_names, &b->tombstone_names, "names of tombstones");
  ck_assert_uint_eq(a->unsettled.count, 0);
  ck_assert_uint_eq(a->running, b->running);
  ck_assert_uint_eq(a->ha, b->ha);
  ck_assert_uint_eq(a->fencing, b->fencing);
  ck_assert_uint_eq(a->unclear, b->unclear);
  same_keys(&a->tenants, &b->tenants, "tenants");
  same_keys(&a->quotas, &b->quotas, "quotas");
  same_keys(&a->shapes, &b->shapes, "shapes");
  same_keys(&a->frequent, &b->frequent, "shapes by frequency");
  BLX__MAP_FOREACH(pos, &a->tenants) recount_tenant(t, blx__map_value(pos));
  recount_shapes(t);
  same_nodes(t->st, fresh);
  same_vms(t->st, fresh);
  BLX__MAP_FOREACH(pos, &a->configs) {
    const struct state_config *c = blx__map_value(pos);
    ck_assert_uint_eq(c->vms, ((const struct state_config *)blx__map_get_str(&b->configs, c->rec->sha256))->vms);
  }
  blx__state_free(fresh);
  blx__buf_free(&bytes);
}

void t_check_indexes(const struct t *t) {
  t_check_rebuilt(t);
  BLX__MAP_FOREACH(pos, &t->st->data.nodes) {
    const struct state_node *x = blx__map_value(pos);
    ck_assert_uint_le(x->memory_mib, x->rec->capacity->memory_mib);
    ck_assert_uint_le(x->vcpus, x->rec->capacity->vcpus);
  }
}
