/* Blixard's placement as the leader of a cluster has it: a grid of 256 x 64 cells, and the shapes told by the state,
 * the 128 that most instances have, at the begin of each step of at most 256 assignments. */
#include "placement/fleet.h"
#include "quality.h"

#include <stdlib.h>

enum { STEP = 256, TOLD_MAX = 128 };

struct cluster {
  struct blx__fleet *fleet;
  struct blx__fleet_shape *shapes; /* REQUESTS_MAX */
  size_t n_nodes, n_shapes;
  uint64_t arrived;
};

static void must(blx__rc rc, const blx_error *err) {
  if (rc.code != 0) fail("placement", err->message);
}

static void add_node(struct cluster *c, size_t number, const struct amount *has) {
  struct described d;
  blx_error err = {0};
  describe(&d, number, has);
  must(blx__fleet_set_node(c->fleet, &d.node, NULL, NULL, &err), &err);
}

struct cluster *cluster_open(const struct trial *t) {
  struct cluster *c = calloc(1, sizeof *c);
  struct blx__fleet_options o = {.nodes_max = (uint32_t)t->n_nodes, .instances_max = REQUESTS_MAX, .seed = 1};
  blx_error err = {0};
  if (!c) fail("cluster", "no memory");
  c->shapes = calloc(REQUESTS_MAX, sizeof *c->shapes);
  if (!c->shapes) fail("cluster", "no memory");
  must(blx__fleet_new(&o, &c->fleet, &err), &err);
  c->n_nodes = t->n_nodes;
  for (size_t i = 0; i < t->n_nodes; i++) add_node(c, i, &t->nodes[i]);
  return c;
}

static void count(struct cluster *c, const struct amount *need) {
  size_t i = 0;
  while (i < c->n_shapes && (c->shapes[i].cpu_milli != need->cpu_milli || c->shapes[i].memory_mib != need->memory_mib))
    i++;
  if (i == REQUESTS_MAX) fail("cluster", "more shapes than are counted here");
  if (i == c->n_shapes) c->shapes[c->n_shapes++] = (struct blx__fleet_shape){need->cpu_milli, need->memory_mib, 0};
  c->shapes[i].count++;
}

static int by_count(const void *left, const void *right) {
  const struct blx__fleet_shape *a = left, *b = right;
  if (a->count != b->count) return a->count > b->count ? -1 : 1;
  if (a->cpu_milli != b->cpu_milli) return a->cpu_milli > b->cpu_milli ? -1 : 1;
  return a->memory_mib > b->memory_mib ? -1 : a->memory_mib < b->memory_mib;
}

static void begin_step(struct cluster *c) {
  blx_error err = {0};
  qsort(c->shapes, c->n_shapes, sizeof *c->shapes, by_count);
  must(blx__fleet_shapes(c->fleet, c->shapes, c->n_shapes < TOLD_MAX ? c->n_shapes : TOLD_MAX, &err), &err);
  blx__fleet_refresh(c->fleet);
}

size_t cluster_place(struct cluster *c, const struct amount *need) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx__fleet_request request = {.vm_uid = ++c->arrived, .keep_survive = true};
  struct blx__fleet_choice choice;
  blx_error err = {0};
  count(c, need);
  if (c->arrived % STEP == 0 || (c->arrived & (c->arrived - 1)) == 0) begin_step(c);
  spec.cpu_milli = (uint32_t)need->cpu_milli;
  spec.memory_mib = (uint32_t)need->memory_mib;
  spec.hypervisor = BLX_HYPERVISOR_QEMU;
  spec.strategy = BLX_STRATEGY_BEST_FIT;
  must(blx__fleet_set_vm(c->fleet, c->arrived, NULL, &spec, NULL, &err), &err);
  if (!blx__fleet_choose(c->fleet, &request, &choice)) return c->n_nodes;
  struct blx__fleet_instance i = {.uid = c->arrived, .vm_uid = c->arrived, .node_uid = choice.node_uid, .epoch = 1};
  must(blx__fleet_place(c->fleet, &i, &err), &err);
  return choice.node_uid - 1;
}

void cluster_close(struct cluster *c) {
  blx__fleet_free(c->fleet);
  free(c->shapes);
  free(c);
}
