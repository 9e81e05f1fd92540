/* Figures of lib/state at its largest: 100,000 instances of 1,000 VMs on 100 nodes, all running. How long the loop
 * stands still while a snapshot is begun and ended, and what one costs beside it. */
#include "schema/codec.h"
#include "state/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { NODES = 100, VMS = 1000, REPLICAS = 100, TIMES = 5, REPORTS = 64, MIB = 1 << 20 };
#define SNAPSHOT_MAX ((size_t)1 << 30)

struct work {
  struct blx__state *st;
  struct blx__buf op;
  uint64_t index;
};

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void fail(const char *what) {
  fprintf(stderr, "bench: %s\n", what);
  exit(1);
}

static void apply(struct work *w, const struct blx_op *op) {
  struct blx__buf out;
  blx__buf_init(&out, MIB);
  blx__buf_clear(&w->op);
  if (blx__msg_encode(blx__desc_op(), op, &w->op, NULL).code != 0) fail("an operation cannot be encoded");
  w->index++;
  blx__state_begin(w->st, w->index, 1000000 + w->index);
  blx__state_apply(w->st, (struct blx__slice){w->op.data, w->op.len}, &out);
  blx__state_end(w->st);
  if (blx__state_fatal(w->st)) fail(blx__state_fatal(w->st));
  blx__buf_free(&out);
}

static void nodes(struct work *w) {
  struct blx_op_cluster_init init = BLX_OP_CLUSTER_INIT_INIT;
  struct blx_op op = BLX_OP_INIT;
  init.id = "00112233445566778899aabbccddeeff";
  init.name = "bench";
  op.cluster_init = &init;
  apply(w, &op);
  for (int i = 0; i < NODES; i++) {
    char name[32];
    int32_t qemu = BLX_HYPERVISOR_QEMU;
    struct blx_resources room = BLX_RESOURCES_INIT;
    struct blx_node_info node = BLX_NODE_INFO_INIT;
    struct blx_op_node_join join = BLX_OP_NODE_JOIN_INIT;
    struct blx_op one = BLX_OP_INIT;
    (void)blx__str_format(name, sizeof name, "node%d", i);
    room.vcpus = 65536;
    room.memory_mib = 1 << 30;
    node.name = name;
    node.capacity = &room;
    node.hypervisors = &qemu;
    node.n_hypervisors = 1;
    join.node = &node;
    one.node_join = &join;
    apply(w, &one);
  }
}

static void vms(struct work *w) {
  for (int i = 0; i < VMS; i++) {
    char name[32];
    struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
    struct blx_op_vm_create create = BLX_OP_VM_CREATE_INIT;
    struct blx_op op = BLX_OP_INIT;
    (void)blx__str_format(name, sizeof name, "service-%d", i);
    spec.name = name;
    spec.flake = "git+file:///etc/blixard/flake?dir=vms#service";
    spec.vcpus = 1;
    spec.memory_mib = 128;
    spec.has_replicas = 1;
    spec.replicas = REPLICAS;
    spec.stop_timeout_ms = 30000;
    create.spec = &spec;
    op.vm_create = &create;
    apply(w, &op);
  }
}

static void report(struct work *w, uint64_t node, const struct blx_instance *const *list, size_t n) {
  struct blx_instance_report reports[REPORTS], *pointers[REPORTS];
  struct blx_op_report body = BLX_OP_REPORT_INIT;
  struct blx_op op = BLX_OP_INIT;
  for (size_t i = 0; i < n; i++) {
    reports[i] = (struct blx_instance_report)BLX_INSTANCE_REPORT_INIT;
    reports[i].instance_uid = list[i]->uid;
    reports[i].epoch = list[i]->epoch;
    reports[i].seq = 1;
    reports[i].phase = BLX_PHASE_RUNNING;
    pointers[i] = &reports[i];
  }
  body.node_uid = node;
  body.reports = pointers;
  body.n_reports = n;
  op.report = &body;
  apply(w, &op);
}

static void run_all(struct work *w) {
  uint64_t turn = 0;
  for (const struct blx_instance *i; (i = blx__state_waiting_after(w->st, 0, 0)) != NULL; turn++) {
    struct blx_op_assign body = BLX_OP_ASSIGN_INIT;
    struct blx_op op = BLX_OP_INIT;
    body.instance_uid = i->uid;
    body.node_uid = 1 + turn % NODES;
    body.expected_epoch = i->epoch;
    op.assign = &body;
    apply(w, &op);
    if (turn > (uint64_t)2 * VMS * REPLICAS) fail("instances stay without a node");
  }
  for (uint64_t node = 1; node <= NODES; node++) {
    uint64_t after = 0;
    for (;;) {
      const struct blx_instance *list[REPORTS], *i = blx__state_instance_on_node_after(w->st, node, after);
      size_t n = 0;
      for (; i && n < REPORTS; i = blx__state_instance_on_node_after(w->st, node, i->uid)) list[n++] = i;
      if (n == 0) break;
      after = list[n - 1]->uid;
      report(w, node, list, n);
    }
  }
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double median(double *list) {
  qsort(list, TIMES, sizeof *list, by_value);
  return list[TIMES / 2];
}

static void snapshots(struct work *w) {
  double freeze[TIMES], write[TIMES], thaw[TIMES], restore[TIMES];
  size_t bytes = 0;
  for (int i = 0; i < TIMES; i++) {
    struct blx__buf out;
    blx__buf_init(&out, SNAPSHOT_MAX);
    double at = now_ms();
    struct blx__state_frozen *z = blx__state_freeze(w->st, NULL);
    freeze[i] = now_ms() - at;
    if (!z) fail("it cannot be frozen");
    at = now_ms();
    if (blx__state_write(z, &out, NULL).code != 0) fail("it cannot be written");
    write[i] = now_ms() - at;
    at = now_ms();
    blx__state_thaw(w->st, z);
    thaw[i] = now_ms() - at;
    struct blx__state *copy = blx__state_new(NULL);
    if (!copy) fail("no memory");
    at = now_ms();
    if (blx__state_restore(copy, (struct blx__slice){out.data, out.len}, NULL).code != 0) fail("it cannot be restored");
    restore[i] = now_ms() - at;
    bytes = out.len;
    blx__state_free(copy);
    blx__buf_free(&out);
  }
  printf(
      "state: a snapshot of %u instances: %.1f MiB; frozen in %.2f ms and thawed in %.2f, which is all that the loop "
      "waits for; written beside it in %.0f ms; restored in %.0f ms\n",
      blx__state_counts(w->st).instances, (double)bytes / MIB, median(freeze), median(thaw), median(write),
      median(restore));
}

int main(void) {
  struct work w = {.st = blx__state_new(NULL)};
  if (!w.st) fail("no memory");
  blx__buf_init(&w.op, MIB);
  nodes(&w);
  double at = now_ms();
  vms(&w);
  run_all(&w);
  printf("state: %u instances made, assigned and reported in %.0f ms, %llu operations\n",
         blx__state_counts(w.st).running, now_ms() - at, (unsigned long long)w.index);
  snapshots(&w);
  blx__buf_free(&w.op);
  blx__state_free(w.st);
  return 0;
}
