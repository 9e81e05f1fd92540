/* Decisions of lib/placement's fleet: place where it says, remove what was placed longest ago, on a fleet that stays as
 * full as it is; beside the plain scan that judges every node, whose answers must be the same. One core, no threads;
 * means are of processor time, percentiles of the clock on the wall.
 * Prints a table, writes it as CSV, and ends with 1 if a demanded figure is missed.
 *
 * usage: placement [RESULTS.csv [DECISIONS [PASS]]], PASS: decisions after which the fleet is refreshed */
#include "placement/fleet.h"
#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  SHAPES = 150,
  REPLICAS = 4,
  RESIDENT_PER_NODE = 10,
  DECISIONS = 200000,
  SCANS = 50,
  EXPLANATIONS = 9,
  EXPLAINED_NODES = 5000,
  PASS = 4096,
  ROUND = 4 * PASS,
  ROUNDS = 31,
};

static size_t pass = PASS;

struct bench {
  struct blx__fleet *f;
  uint32_t nodes, resident, vms;
  uint64_t drawn, next_uid;
  uint64_t *queue; /* resident instances, the oldest at @head */
  size_t head;
  uint32_t *ns;
};

struct figures {
  uint32_t nodes, resident;
  double per_second, mean_us, p50_us, p99_us, max_us, scan_us, explain_ms;
  size_t refused, node_bytes, instance_bytes;
};

static uint64_t draw(struct bench *b, uint64_t n) {
  return blx__mix64(++b->drawn) % n;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What this process used, whatever else runs on the machine. */
static uint64_t used_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
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

static uint32_t cpu_of(uint32_t shape) {
  return 500 + 750 * (shape % 15);
}

static uint32_t memory_of(uint32_t shape) {
  return 2048 * (1 + shape / 15);
}

/* Four fifths of what there is are taken in the end. A third of the shapes is bound: to labels, apart from their like
 * by host or rack, spread over racks. */
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
    s.cpu_milli = cpu_of(shape);
    s.vcpus = 1 + s.cpu_milli / 1000;
    s.memory_mib = memory_of(shape);
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

static void tell_shapes(struct bench *b) {
  struct blx__fleet_shape shapes[SHAPES];
  blx_error err = {0};
  for (uint32_t i = 0; i < SHAPES; i++)
    shapes[i] = (struct blx__fleet_shape){cpu_of(i), memory_of(i), b->resident / SHAPES};
  must(blx__fleet_shapes(b->f, shapes, SHAPES, &err), &err);
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

/* ---- the plain scan */

/* Whether @v ranks before @best. Ties of all of these are not looked at: costs must agree, not hashes. */
static bool before(const struct blx__fleet_verdict *v, const struct blx__fleet_verdict *best) {
  if (v->avoids != best->avoids) return !v->avoids;
  if (v->replicas != best->replicas) return v->replicas < best->replicas;
  return v->cost < best->cost;
}

static uint64_t scan(struct bench *b, const struct blx__fleet_request *r, struct blx__fleet_verdict *best) {
  static struct blx__fleet_verdict v;
  uint64_t found = 0;
  for (uint64_t uid = 1; uid <= b->nodes; uid++) {
    if (!blx__fleet_judge(b->f, r, uid, &v) || v.v.obstacles != 0) continue;
    if (found && !before(&v, best)) continue;
    *best = v;
    found = uid;
  }
  return found;
}

static double scan_us(struct bench *b) {
  static struct blx__fleet_verdict best;
  uint64_t spent = 0;
  for (int i = 0; i < SCANS; i++) {
    struct blx__fleet_request r = {.vm_uid = 1 + draw(b, b->vms), .keep_survive = true};
    struct blx__fleet_choice c;
    uint64_t begin = used_ns(), found = scan(b, &r, &best);
    spent += used_ns() - begin;
    bool chosen = blx__fleet_choose(b->f, &r, &c);
    if (chosen != (found != 0) || (chosen && (c.cost != best.cost || c.replicas != best.replicas))) {
      fprintf(stderr, "placement: the engine and the scan differ\n");
      exit(1);
    }
  }
  return (double)spent / SCANS / 1e3;
}

/* ---- runs */

static int by_size(const void *left, const void *right) {
  const uint32_t *a = left, *b = right;
  return *a < *b ? -1 : *a > *b;
}

/* The median; with the reason of every node, not of the first few. */
static double explain_ms(struct bench *b) {
  uint32_t us[EXPLANATIONS];
  for (uint64_t i = 0; i < EXPLANATIONS; i++) {
    struct blx__arena arena = {.limit_bytes = 256u << 20};
    struct blx_placement_report report;
    struct blx__fleet_request r = {.vm_uid = 1 + i, .keep_survive = true};
    blx_error err = {0};
    uint64_t begin = used_ns();
    must(blx__fleet_explain(b->f, &r, 0, &arena, &report, &err), &err);
    us[i] = (uint32_t)((used_ns() - begin) / 1000);
    blx__arena_free(&arena);
  }
  qsort(us, EXPLANATIONS, sizeof us[0], by_size);
  return us[EXPLANATIONS / 2] / 1e3;
}

static void fill(struct bench *b, struct figures *out) {
  for (size_t i = 0; i < b->resident; i++) {
    if (i % pass == 0) blx__fleet_refresh(b->f);
    while (!place_one(b, i)) out->refused++;
  }
}

static void decide(struct bench *b, size_t decisions, struct figures *out) {
  uint64_t begin = used_ns();
  for (size_t i = 0; i < decisions; i++) {
    uint64_t one = now_ns();
    if (i % pass == 0) blx__fleet_refresh(b->f);
    blx__fleet_unplace(b->f, b->queue[b->head]);
    while (!place_one(b, b->head)) out->refused++;
    b->head = (b->head + 1) % b->resident;
    b->ns[i] = (uint32_t)(now_ns() - one);
  }
  double ns = (double)(used_ns() - begin);
  qsort(b->ns, decisions, sizeof *b->ns, by_size);
  out->mean_us = ns / (double)decisions / 1e3;
  out->per_second = (double)decisions / ns * 1e9;
  out->p50_us = b->ns[decisions / 2] / 1e3;
  out->p99_us = b->ns[decisions * 99 / 100] / 1e3;
  out->max_us = b->ns[decisions - 1] / 1e3;
}

/* As full as it will be. @decisions: at most so many are timed at once. */
static struct bench begin(uint32_t nodes, size_t decisions, struct figures *out) {
  struct bench b = {.nodes = nodes, .resident = nodes * RESIDENT_PER_NODE, .next_uid = 1};
  struct blx__fleet_options o = {.nodes_max = nodes, .instances_max = b.resident + 1, .seed = 1};
  blx_error err = {0};
  b.vms = b.resident / REPLICAS;
  b.queue = calloc(b.resident, sizeof *b.queue);
  b.ns = calloc(decisions, sizeof *b.ns);
  if (!b.queue || !b.ns) exit(1);
  must(blx__fleet_new(&o, &b.f, &err), &err);
  *out = (struct figures){.nodes = nodes, .resident = b.resident};
  add_nodes(&b);
  add_vms(&b);
  tell_shapes(&b);
  fill(&b, out);
  return b;
}

static void end(struct bench *b) {
  blx__fleet_free(b->f);
  free(b->queue);
  free(b->ns);
}

static int by_value(const void *left, const void *right) {
  const double *a = left, *b = right;
  return *a < *b ? -1 : *a > *b;
}

/* How many times as much a decision costs on a large fleet: in turns, for what else the machine does differs from one
 * second to the next; the median of the rounds. */
static double growth(uint32_t small_nodes, uint32_t large_nodes) {
  struct figures small, large;
  struct bench a = begin(small_nodes, ROUND, &small), b = begin(large_nodes, ROUND, &large);
  double times[ROUNDS];
  for (int i = 0; i < ROUNDS; i++) {
    decide(&a, ROUND, &small);
    decide(&b, ROUND, &large);
    times[i] = large.mean_us / small.mean_us;
  }
  end(&a);
  end(&b);
  qsort(times, ROUNDS, sizeof times[0], by_value);
  printf("a decision on %u nodes over one on %u: %.2f to %.2f times in %d rounds, median %.2f\n", large_nodes,
         small_nodes, times[0], times[ROUNDS - 1], ROUNDS, times[ROUNDS / 2]);
  return times[ROUNDS / 2];
}

static struct figures run(uint32_t nodes, size_t decisions) {
  struct figures out;
  struct bench b = begin(nodes, decisions, &out);
  decide(&b, decisions, &out);
  struct blx__fleet_memory m = blx__fleet_memory(b.f);
  out.node_bytes = m.index_bytes / nodes;
  out.instance_bytes = m.instance_bytes / b.resident;
  out.scan_us = scan_us(&b);
  out.explain_ms = explain_ms(&b);
  end(&b);
  return out;
}

static void print(FILE *csv, const struct figures *f) {
  printf("%8u %9u %11.0f %7.1f %7.1f %7.1f %8.1f %10.1f %8zu %9zu %11.2f\n", f->nodes, f->resident, f->per_second,
         f->mean_us, f->p50_us, f->p99_us, f->max_us, f->scan_us, f->node_bytes, f->instance_bytes, f->explain_ms);
  if (csv)
    fprintf(csv, "%u,%u,%.0f,%.2f,%.2f,%.2f,%.2f,%.2f,%zu,%zu,%.3f\n", f->nodes, f->resident, f->per_second, f->mean_us,
            f->p50_us, f->p99_us, f->max_us, f->scan_us, f->node_bytes, f->instance_bytes, f->explain_ms);
}

/* ---- what is demanded */

static int check(const char *what, double is, double demanded, bool at_least) {
  bool holds = at_least ? is >= demanded : is <= demanded;
  printf("%s  %s: %.2f, at %s %.0f\n", holds ? "pass" : "FAIL", what, is, at_least ? "least" : "most", demanded);
  return !holds;
}

int main(int argc, char **argv) {
  static const uint32_t sizes[] = {1000, 2000, EXPLAINED_NODES, 10000, 20000};
  enum { SMALLEST = 0, EXPLAINED = 2, DEMANDED = 3, LARGEST = 4, SIZES = 5 };
  struct figures f[SIZES];
  size_t decisions = argc > 2 ? strtoul(argv[2], NULL, 10) : DECISIONS;
  if (argc > 3) pass = strtoul(argv[3], NULL, 10);
  FILE *csv = argc > 1 ? fopen(argv[1], "w") : NULL;
  int missed = 0;
  if (decisions < 1 || pass < 1 || (argc > 1 && !csv)) return 2;
  (void)setvbuf(stdout, NULL, _IOLBF, 0);
  if (csv)
    fprintf(csv,
            "nodes,resident,per_second,mean_us,p50_us,p99_us,max_us,scan_us,node_bytes,instance_bytes,explain_ms\n");
  printf("   nodes  resident decisions/s mean us  p50 us  p99 us   max us scan, mean  B/node B/instance explain, ms\n");
  for (size_t i = 0; i < SIZES; i++) {
    f[i] = run(sizes[i], decisions);
    print(csv, &f[i]);
  }
  if (csv && fclose(csv) != 0) return 2;
  double times = growth(sizes[SMALLEST], sizes[LARGEST]);
  missed += check("decisions a second, 10,000 nodes", f[DEMANDED].per_second, 50000, true);
  missed += check("p99 of a decision there, us", f[DEMANDED].p99_us, 1000, false);
  missed += check("cost of a decision, 20,000 nodes over 1,000, times", times, 2, false);
  missed += check("index, bytes a node, 10,000 nodes", (double)f[DEMANDED].node_bytes, 1024, false);
  missed += check("bytes an instance", (double)f[DEMANDED].instance_bytes, 128, false);
  missed += check("explanation of all of 5,000 nodes, ms", f[EXPLAINED].explain_ms, 20, false);
  return missed ? 1 : 0;
}
