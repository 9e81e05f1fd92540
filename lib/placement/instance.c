/* Instances of a fleet, and what they use of their nodes. */
#include "placement/index.h"

#include <stdlib.h>

static void move(uint64_t *amount, uint64_t by, bool used) {
  BLX__ASSERT(used || *amount >= by);
  *amount = used ? *amount + by : *amount - by;
}

void fleet_use(struct blx__fleet *f, uint32_t node, const struct fleet_class *c, bool used) {
  struct fleet_node *n = &f->nodes[node];
  move(&n->view.allocated_cpu_milli, c->need.cpu_milli, used);
  move(&n->view.allocated_memory_mib, c->need.memory_mib, used);
  for (size_t i = 0; i < c->need.n_named; i++) {
    for (size_t k = 0; k < n->view.n_named; k++)
      if (blx__str_eq(n->named[k].name, c->need.named[i]->name))
        move(&n->named[k].allocated, c->need.named[i]->amount, used);
  }
  n->autos += used && c->is_auto;
  n->autos -= !used && c->is_auto;
  ((struct fleet_class *)c)->instances += used ? 1 : UINT32_MAX;
  fleet_index_note(f, node, false);
}

void fleet_attach(struct blx__fleet *f, uint32_t instance, uint32_t node) {
  struct fleet_instance *e = &f->instances[instance];
  struct fleet_node *n = &f->nodes[node];
  struct fleet_vm *vm = &f->vms[e->vm];
  BLX__ASSERT(e->node == FLEET_NONE && n->view.uid != 0);
  e->node = node;
  e->prev_on_node = e->prev_of_vm = FLEET_NONE;
  e->next_on_node = n->first;
  e->next_of_vm = vm->first;
  if (n->first != FLEET_NONE) f->instances[n->first].prev_on_node = instance;
  if (vm->first != FLEET_NONE) f->instances[vm->first].prev_of_vm = instance;
  n->first = vm->first = instance;
  n->n++;
  if (vm->n < FLEET_VM_ON) vm->on[vm->n] = node;
  vm->n++;
  fleet_count_rules(vm->class, node, 1);
  fleet_use(f, node, vm->class, true);
}

/* What comes next lies anywhere: it is asked for before the first of it is waited for. */
static void fetch_neighbours(const struct blx__fleet *f, const struct fleet_instance *e) {
  const uint32_t next[] = {e->next_on_node, e->prev_on_node, e->next_of_vm, e->prev_of_vm};
  for (size_t i = 0; i < BLX__COUNT(next); i++)
    if (next[i] != FLEET_NONE) __builtin_prefetch(&f->instances[next[i]], 1);
}

/* One left @node; the list is without it already. */
static void vm_left(const struct blx__fleet *f, struct fleet_vm *vm, uint32_t node) {
  uint32_t at = 0;
  if (vm->n-- > FLEET_VM_ON) {
    if (vm->n > FLEET_VM_ON) return;
    for (uint32_t i = vm->first; i != FLEET_NONE; i = f->instances[i].next_of_vm) vm->on[at++] = f->instances[i].node;
    return;
  }
  while (at < vm->n && vm->on[at] != node) at++;
  BLX__ASSERT(vm->on[at] == node);
  vm->on[at] = vm->on[vm->n];
}

void fleet_detach(struct blx__fleet *f, uint32_t instance) {
  struct fleet_instance *e = &f->instances[instance];
  BLX__ASSERT(e->node != FLEET_NONE);
  struct fleet_node *n = &f->nodes[e->node];
  struct fleet_vm *vm = &f->vms[e->vm];
  fetch_neighbours(f, e);
  fleet_use(f, e->node, vm->class, false);
  fleet_count_rules(vm->class, e->node, -1);
  if (e->prev_on_node != FLEET_NONE)
    f->instances[e->prev_on_node].next_on_node = e->next_on_node;
  else
    n->first = e->next_on_node;
  if (e->next_on_node != FLEET_NONE) f->instances[e->next_on_node].prev_on_node = e->prev_on_node;
  if (e->prev_of_vm != FLEET_NONE)
    f->instances[e->prev_of_vm].next_of_vm = e->next_of_vm;
  else
    vm->first = e->next_of_vm;
  if (e->next_of_vm != FLEET_NONE) f->instances[e->next_of_vm].prev_of_vm = e->prev_of_vm;
  n->n--;
  vm_left(f, vm, e->node);
  e->node = FLEET_NONE;
}

static uint32_t instance_slot(struct blx__fleet *f) {
  uint32_t slot = f->instances_free;
  if (slot != FLEET_NONE) {
    f->instances_free = f->instances[slot].next_on_node;
    return slot;
  }
  if (f->instances_used == f->instances_room) {
    uint32_t room = f->instances_room ? f->instances_room + f->instances_room / 2 : 256;
    struct fleet_term *terms = realloc(f->terms, room * sizeof *terms);
    if (!terms) return FLEET_NONE;
    f->terms = terms;
    struct fleet_instance *more = fleet_grow(f->instances, f->instances_used * sizeof *more, room * sizeof *more);
    if (!more) return FLEET_NONE;
    f->instances = more;
    f->instances_room = room;
    fleet_ids_of(&f->instance_ids, more, sizeof *more);
  }
  return f->instances_used++;
}

void fleet_instance_free(struct blx__fleet *f, uint32_t instance) {
  BLX__ASSERT(f->instances[instance].node == FLEET_NONE);
  fleet_ids_remove(&f->instance_ids, f->instances[instance].uid);
  f->instances[instance] = (struct fleet_instance){.node = FLEET_NONE, .next_on_node = f->instances_free};
  f->instances_free = instance;
  f->instances_count--;
}

blx__rc blx__fleet_place(struct blx__fleet *f, const struct blx__fleet_instance *i, blx_error *err) {
  fleet_ids_fetch(&f->instance_ids, i->uid);
  uint32_t node = fleet_ids_get(&f->node_ids, i->node_uid), vm = fleet_ids_get(&f->vm_ids, i->vm_uid);
  uint32_t at = fleet_ids_get(&f->instance_ids, i->uid);
  if (i->uid == 0) return blx__fail(err, BLX_E_INVALID, "placement", "the uid of an instance is 0");
  if (node == FLEET_NONE || vm == FLEET_NONE)
    return blx__fail(err, BLX_E_NOT_FOUND, "placement", "instance %llu: %s %llu is not known",
                     (unsigned long long)i->uid, vm == FLEET_NONE ? "VM" : "node",
                     (unsigned long long)(vm == FLEET_NONE ? i->vm_uid : i->node_uid));
  if (at == FLEET_NONE) {
    if (f->instances_count == f->options.instances_max)
      return blx__fail(err, BLX_E_BUSY, "placement", "%u instances are known, which is the most", f->instances_count);
    at = instance_slot(f);
    if (at == FLEET_NONE) return blx__fail(err, BLX_E_NOMEM, "placement", "no memory for an instance");
    f->instances[at] = (struct fleet_instance){.uid = i->uid, .vm = vm, .node = FLEET_NONE};
    f->instances_count++;
    if (!fleet_ids_set(&f->instance_ids, i->uid, at)) {
      fleet_instance_free(f, at);
      return blx__fail(err, BLX_E_NOMEM, "placement", "no memory for an instance");
    }
  }
  struct fleet_instance *e = &f->instances[at];
  f->terms[at] = (struct fleet_term){.epoch = i->epoch, .ending = i->ending};
  if (e->node == node && e->vm == vm) return BLX__OK;
  bool came = e->node == FLEET_NONE;
  if (!came) fleet_detach(f, at);
  e->vm = vm;
  fleet_attach(f, at, node);
  if (came) fleet_arrived(f, f->vms[vm].class);
  return BLX__OK;
}

bool blx__fleet_unplace(struct blx__fleet *f, uint64_t instance_uid) {
  uint32_t at = fleet_ids_get(&f->instance_ids, instance_uid);
  if (at == FLEET_NONE) return false;
  fleet_detach(f, at);
  fleet_instance_free(f, at);
  return true;
}
