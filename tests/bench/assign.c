/* What one assignment costs the leader, without the log: a state of 5,000 nodes whose instances wait, steps of control,
 * and what they propose applied. Processor time, split by who uses it. usage: assign [NODES INSTANCES] */
#include "control/control.h"
#include "schema/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { NODES_MAX = 5000, REPLICAS = 500, MIB = 1 << 20 };

static struct {
  struct blx__state *st;
  struct blx__buf op;
  uint64_t index;
} w;

static double cpu_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void fail(const char *what) {
  (void)fprintf(stderr, "assign: %s\n", what);
  exit(1);
}

static void begin(void) {
  w.index++;
  blx__state_begin(w.st, w.index, 1000000 + w.index);
}

/* As a member applies it whose caller waits. */
static void apply_bytes(struct blx__slice op) {
  struct blx__buf out;
  blx__buf_init(&out, MIB);
  blx__state_apply(w.st, op, &out);
  if (blx__state_fatal(w.st)) fail(blx__state_fatal(w.st));
  blx__buf_free(&out);
}

static void apply(const struct blx_op *op) {
  blx__buf_clear(&w.op);
  if (blx__msg_encode(blx__desc_op(), op, &w.op, NULL).code != 0) fail("an operation cannot be encoded");
  begin();
  apply_bytes((struct blx__slice){w.op.data, w.op.len});
  blx__state_end(w.st);
}

static void make_cluster(uint64_t nodes) {
  struct blx_op_cluster_init init = BLX_OP_CLUSTER_INIT_INIT;
  struct blx_op op = BLX_OP_INIT;
  init.id = "00112233445566778899aabbccddeeff";
  init.name = "bench";
  op.cluster_init = &init;
  apply(&op);
  for (uint64_t i = 0; i < nodes; i++) {
    char name[32];
    int32_t qemu = BLX_HYPERVISOR_QEMU;
    struct blx_resources room = BLX_RESOURCES_INIT;
    struct blx_node_info node = BLX_NODE_INFO_INIT;
    struct blx_op_node_join join = BLX_OP_NODE_JOIN_INIT;
    (void)blx__str_format(name, sizeof name, "node%u", (unsigned)i);
    room.vcpus = 96;
    room.memory_mib = 384 << 10;
    node.name = name;
    node.capacity = &room;
    node.hypervisors = &qemu;
    node.n_hypervisors = 1;
    join.node = &node;
    op = (struct blx_op)BLX_OP_INIT;
    op.node_join = &join;
    apply(&op);
  }
}

static void make_vms(uint64_t instances) {
  for (uint64_t i = 0; i < instances / REPLICAS; i++) {
    char name[32];
    struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
    struct blx_op_vm_create create = BLX_OP_VM_CREATE_INIT;
    struct blx_op op = BLX_OP_INIT;
    (void)blx__str_format(name, sizeof name, "vm%u", (unsigned)i);
    spec.name = name;
    spec.flake = "path:/bench#none";
    spec.vcpus = 1 + (uint32_t)(i % 4);
    spec.memory_mib = 512 << i % 4;
    spec.has_replicas = 1;
    spec.replicas = REPLICAS;
    spec.priority = (uint32_t)(i % 3);
    create.spec = &spec;
    create.desired = BLX_DESIRED_RUNNING;
    op.vm_create = &create;
    apply(&op);
  }
}

static void all_ready(void *user, uint64_t uid, struct blx__control_soft *out) {
  (void)user;
  (void)uid;
  *out = (struct blx__control_soft){.status = BLX_NODE_STATUS_READY};
}

int main(int argc, char **argv) {
  uint64_t nodes = NODES_MAX, instances = 20000, assigned = 0, steps = 0;
  if (argc == 3 && !(blx__parse_u64(argv[1], 1, NODES_MAX, &nodes) && blx__parse_u64(argv[2], 1, 100000, &instances)))
    fail("usage: assign [NODES INSTANCES]");
  w.st = blx__state_new(NULL);
  struct blx__control *control = blx__control_new();
  blx__buf_init(&w.op, MIB);
  if (!w.st || !control) fail("no memory");
  make_cluster(nodes);
  make_vms(instances);
  double step_ms = 0, apply_ms = 0, first_ms = 0;
  struct blx__control_out *out = malloc(sizeof *out);
  if (!out) fail("no memory");
  for (;; steps++) {
    struct blx__arena arena = {.limit_bytes = 32 << 20};
    const struct blx__control_input in = {w.st, all_ready, NULL, blx__state_time_ms(w.st)};
    blx_error err;
    double at = cpu_ms();
    if (blx__control_step(control, &in, &arena, out, &err).code != 0) fail(err.message);
    double after = cpu_ms();
    if (steps == 0)
      first_ms = after - at;
    else
      step_ms += after - at;
    if (out->op_count == 0) break;
    begin();
    for (size_t i = 0; i < out->op_count; i++) apply_bytes(out->ops[i]);
    blx__state_end(w.st);
    assigned += out->op_count;
    apply_ms += cpu_ms() - after;
    blx__arena_free(&arena);
  }
  (void)printf(
      "{\"nodes\": %llu, \"assigned\": %llu, \"steps\": %llu, \"first_step_ms\": %.1f, \"step_us_each\": %.1f, "
      "\"apply_us_each\": %.1f, \"per_second_of_one_core\": %.0f}\n",
      (unsigned long long)nodes, (unsigned long long)assigned, (unsigned long long)steps, first_ms,
      step_ms * 1e3 / (double)assigned, apply_ms * 1e3 / (double)assigned,
      (double)assigned * 1e3 / (step_ms + apply_ms));
  free(out);
  blx__control_free(control);
  blx__state_free(w.st);
  blx__buf_free(&w.op);
  return 0;
}
