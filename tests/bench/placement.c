/* Decisions of lib/placement's fleet: place where it says, remove what was placed longest ago, on a fleet that stays as
 * full as it is. One JSON line per size. */
#include "placement/fleet.h"
#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SHAPES = 150, REPLICAS = 4, SAMPLES = 1 << 20 };

struct bench {
  struct blx__fleet *f;
  uint32_t nodes, resident, vms;
  uint64_t drawn, next_uid;
  uint64_t *queue; /* resident instances, the oldest at @head */
  size_t head;
  uint32_t *ns;
  size_t n_ns;
};

static uint64_t draw(struct bench *b, uint64_t n) {
  return blx__mix64(++b->drawn) % n;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(blx__rc rc, const blx_error *err) {
  if (rc.code == 0) return;
  fprintf(stderr, "placement: %s\n", err->message);
  exit(1);
}

static void add_nodes(struct bench *b) {
  static int32_t qemu[] = {BLX_HYPERVISOR_QEMU};
  for (uint32_t i = 0; i < b->nodes; i++) {
    struct blx_node_info n = BLX_NODE_INFO_INIT;
    struct blx_resources has = BLX_RESOURCES_INIT;
    struct blx_label zone = BLX_LABEL_INIT, rack = BLX_LABEL_INIT, disk = BLX_LABEL_INIT;
    struct blx_label *labels[] = {&zone, &rack, &disk};
    char name[32], rack_name[32];
    blx_error err = {0};
    snprintf(name, sizeof name, "node%u", i + 1);
    snprintf(rack_name, sizeof rack_name, "rack%u", i / 40);
    zone.key = "zone";
    zone.value = i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c";
    rack.key = "rack";
    rack.value = rack_name;
    disk.key = "disk";
    disk.value = i % 10 == 0 ? "nvme" : i % 2 ? "ssd" : "hdd";
    n.name = name;
    n.uid = i + 1;
    has.vcpus = 32 << i % 3;
    has.memory_mib = 131072u << (i / 3) % 3;
    n.capacity = &has;
    n.labels = labels;
    n.n_labels = 3;
    n.hypervisors = qemu;
    n.n_hypervisors = 1;
    must(blx__fleet_set_node(b->f, &n, NULL, NULL, &err), &err);
  }
}

/* A third of the shapes is bound: to labels, apart from their like by host or rack, spread over racks. */
static void add_vms(struct bench *b) {
  for (uint32_t i = 0; i < b->vms; i++) {
    uint32_t shape = i % SHAPES;
    struct blx_vm_spec s = BLX_VM_SPEC_INIT;
    struct blx_node_match match = BLX_NODE_MATCH_INIT, *matches[] = {&match};
    struct blx_vm_affinity apart = BLX_VM_AFFINITY_INIT, *rules[] = {&apart};
    struct blx_vm_spread spread = BLX_VM_SPREAD_INIT, *spreads[] = {&spread};
    struct blx_label app = BLX_LABEL_INIT, *labels[] = {&app};
    const char *value = shape % 2 ? "nvme" : "ssd";
    char name[32], app_name[32];
    blx_error err = {0};
    snprintf(name, sizeof name, "vm%u", i);
    snprintf(app_name, sizeof app_name, "app%u", shape);
    s.name = name;
    s.cpu_milli = 500 + 250 * (shape % 15);
    s.vcpus = 1 + s.cpu_milli / 1000;
    s.memory_mib = 1024 * (1 + shape / 15);
    s.labels = labels;
    s.n_labels = 1;
    app.key = "app";
    app.value = app_name;
    match.key = shape % 4 < 2 ? "disk" : "zone";
    match.values = &value;
    match.n_values = 1;
    if (shape % 4 >= 2) value = shape % 2 ? "a" : "b";
    apart.level = "host";
    apart.apart = 1;
    spread.level = "rack";
    spread.max_per_domain = 1;
    if (shape % 9 == 0 || shape % 9 == 3) s.n_constraints = 1;
    if (shape % 9 == 6 && shape % 2) s.n_affinity = 1;
    if (shape % 9 == 6 && !(shape % 2)) s.n_spread = 1;
    s.constraints = matches;
    s.affinity = rules;
    s.spread = spreads;
    if (shape % 5 == 1) s.strategy = BLX_STRATEGY_LOAD_BALANCED;
    must(blx__fleet_set_vm(b->f, i + 1, NULL, &s, NULL, &err), &err);
  }
}

static bool place_one(struct bench *b, size_t at) {
  struct blx__fleet_request r = {.vm_uid = 1 + draw(b, b->vms), .keep_survive = true};
  struct blx__fleet_choice c;
  blx_error err = {0};
  if (!blx__fleet_choose(b->f, &r, &c)) return false;
  struct blx__fleet_instance i = {.uid = b->next_uid++, .vm_uid = r.vm_uid, .node_uid = c.node_uid, .epoch = 1};
  must(blx__fleet_place(b->f, &i, &err), &err);
  b->queue[at] = i.uid;
  return true;
}

static int by_size(const void *left, const void *right) {
  const uint32_t *a = left, *b = right;
  return *a < *b ? -1 : *a > *b;
}

static double explain_ms(struct bench *b) {
  struct blx__arena arena = {.limit_bytes = 256u << 20};
  struct blx_placement_report report;
  struct blx__fleet_request r = {.vm_uid = 7, .keep_survive = true};
  blx_error err = {0};
  uint64_t begin = now_ns();
  must(blx__fleet_explain(b->f, &r, 20, &arena, &report, &err), &err);
  double ms = (double)(now_ns() - begin) / 1e6;
  blx__arena_free(&arena);
  return ms;
}

static void run(uint32_t nodes, uint32_t resident, size_t decisions) {
  struct bench b = {.nodes = nodes, .resident = resident, .vms = resident / REPLICAS, .next_uid = 1};
  struct blx__fleet_options o = {.nodes_max = nodes, .instances_max = resident + 1, .seed = 1};
  blx_error err = {0};
  size_t refused = 0;
  b.queue = calloc(resident, sizeof *b.queue);
  b.ns = calloc(decisions, sizeof *b.ns);
  must(blx__fleet_new(&o, &b.f, &err), &err);
  add_nodes(&b);
  add_vms(&b);
  uint64_t begin = now_ns();
  for (size_t i = 0; i < resident; i++)
    while (!place_one(&b, i)) refused++;
  double fill = (double)(now_ns() - begin) / 1e9;
  begin = now_ns();
  for (size_t i = 0; i < decisions; i++) {
    uint64_t one = now_ns();
    blx__fleet_unplace(b.f, b.queue[b.head]);
    while (!place_one(&b, b.head)) refused++;
    b.head = (b.head + 1) % resident;
    b.ns[i] = (uint32_t)(now_ns() - one);
  }
  double seconds = (double)(now_ns() - begin) / 1e9;
  struct blx__fleet_memory m = blx__fleet_memory(b.f);
  qsort(b.ns, decisions, sizeof *b.ns, by_size);
  printf("{\"nodes\": %u, \"resident\": %u, \"decisions_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
         "\"max_us\": %.1f, \"fill_per_s\": %.0f, \"refused\": %zu, \"index_bytes_per_node\": %zu, "
         "\"bytes_per_instance\": %zu, \"explain_ms\": %.2f}\n",
         nodes, resident, (double)decisions / seconds, b.ns[decisions / 2] / 1e3, b.ns[decisions * 99 / 100] / 1e3,
         b.ns[decisions - 1] / 1e3, (double)resident / fill, refused, m.index_bytes / nodes,
         m.instance_bytes / resident, explain_ms(&b));
  blx__fleet_free(b.f);
  free(b.queue);
  free(b.ns);
}

int main(int argc, char **argv) {
  size_t decisions = argc > 1 ? strtoul(argv[1], NULL, 10) : 200000;
  static const uint32_t nodes[] = {1000, 5000, 10000, 20000};
  for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) run(nodes[i], nodes[i] * 10, decisions);
  return 0;
}
