/* Blixard's own placement, through the public header. Each request is a VM of its own: replicas of one would spread. */
#include "quality.h"

#include <stdlib.h>

struct engine {
  blx_placement *placement;
  size_t n_nodes;
  uint64_t arrived;
};

void describe(struct described *d, size_t number, const struct amount *has) {
  d->room = (struct blx_resources)BLX_RESOURCES_INIT;
  d->node = (struct blx_node_info)BLX_NODE_INFO_INIT;
  d->qemu = BLX_HYPERVISOR_QEMU;
  (void)snprintf(d->name, sizeof d->name, "node%zu", number);
  d->room.cpu_milli = (uint32_t)has->cpu_milli;
  d->room.memory_mib = has->memory_mib;
  d->node.name = d->name;
  d->node.uid = number + 1;
  d->node.capacity = &d->room;
  d->node.hypervisors = &d->qemu;
  d->node.n_hypervisors = 1;
}

static void tell(struct engine *e, size_t number, const struct amount *has) {
  struct described d;
  blx_error err = {0};
  describe(&d, number, has);
  if (blx_placement_set_node(e->placement, &d.node, &err) != 0) fail(d.name, err.message);
}

struct engine *engine_open(const struct trial *t) {
  struct engine *e = calloc(1, sizeof *e);
  blx_error err = {0};
  if (!e) fail("engine", "no memory");
  if (blx_placement_open(NULL, &e->placement, &err) != 0) fail("blx_placement_open", err.message);
  e->n_nodes = t->n_nodes;
  for (size_t i = 0; i < t->n_nodes; i++) tell(e, i, &t->nodes[i]);
  return e;
}

size_t engine_place(struct engine *e, const struct amount *need) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_placement_vm vm = BLX_PLACEMENT_VM_INIT;
  struct blx_placement_request request = BLX_PLACEMENT_REQUEST_INIT;
  blx_error err = {0};
  uint64_t uid = 0;
  spec.cpu_milli = (uint32_t)need->cpu_milli;
  spec.memory_mib = (uint32_t)need->memory_mib;
  spec.hypervisor = BLX_HYPERVISOR_QEMU;
  spec.strategy = BLX_STRATEGY_BEST_FIT;
  vm.uid = request.vm_uid = request.instance_uid = ++e->arrived;
  vm.spec = &spec;
  request.reserve = 1;
  int rc = blx_placement_set_vm(e->placement, &vm, &err);
  if (rc == 0) rc = blx_placement_choose(e->placement, &request, &uid, &err);
  if (rc != 0 && rc != BLX_E_NO_CAPACITY) fail("blx_placement_choose", err.message);
  return rc == 0 ? uid - 1 : e->n_nodes;
}

void engine_close(struct engine *e) {
  blx_placement_close(e->placement);
  free(e);
}
