#include "support.h"

#include <stdio.h>

static int32_t qemu[] = {BLX_HYPERVISOR_QEMU};
static struct blx_resources eight = {.struct_size = sizeof eight, .vcpus = 8, .memory_mib = 1024};

struct blx_node_info p_node(uint64_t uid) {
  static char names[32][16];
  struct blx_node_info n = BLX_NODE_INFO_INIT;
  char *name = names[uid % 32];
  (void)snprintf(name, sizeof names[0], "node%llu", (unsigned long long)uid);
  n.name = name;
  n.uid = uid;
  n.capacity = &eight;
  n.hypervisors = qemu;
  n.n_hypervisors = 1;
  return n;
}

void p_tell(struct p *p, const struct blx_node_info *n) {
  blx_error err = {0};
  ck_assert_msg(blx__fleet_set_node(p->f, n, NULL, NULL, &err).code == 0, "%s", err.message);
}

void p_open(struct p *p, uint32_t nodes) {
  struct blx__fleet_options o = {.nodes_max = nodes > 64 ? nodes : 64, .instances_max = 20000, .seed = P_SEED};
  *p = (struct p){.next_uid = 1000};
  ck_assert_int_eq(blx__fleet_new(&o, &p->f, NULL).code, 0);
  for (uint64_t uid = 1; uid <= nodes; uid++) {
    struct blx_node_info n = p_node(uid);
    p_tell(p, &n);
  }
}

void p_close(struct p *p) {
  blx__fleet_free(p->f);
}

struct blx_vm_spec p_spec(const char *name) {
  struct blx_vm_spec s = BLX_VM_SPEC_INIT;
  s.name = name;
  s.vcpus = 1;
  s.memory_mib = 128;
  return s;
}

void p_vm(struct p *p, uint64_t uid, const struct blx_vm_spec *spec) {
  blx_error err = {0};
  ck_assert_msg(blx__fleet_set_vm(p->f, uid, NULL, spec, NULL, &err).code == 0, "%s", err.message);
}

uint64_t p_place(struct p *p, uint64_t vm_uid, uint64_t node_uid) {
  struct blx__fleet_instance i = {.uid = p->next_uid++, .vm_uid = vm_uid, .node_uid = node_uid, .epoch = 1};
  ck_assert_int_eq(blx__fleet_place(p->f, &i, NULL).code, 0);
  return i.uid;
}

uint64_t p_choose(struct p *p, uint64_t vm_uid) {
  struct blx__fleet_request r = {.vm_uid = vm_uid, .keep_survive = true};
  struct blx__fleet_choice c;
  return blx__fleet_choose(p->f, &r, &c) ? c.node_uid : 0;
}

uint32_t p_obstacles(struct p *p, uint64_t vm_uid, uint64_t node_uid) {
  static struct blx__fleet_verdict v;
  struct blx__fleet_request r = {.vm_uid = vm_uid, .keep_survive = true};
  ck_assert(blx__fleet_judge(p->f, &r, node_uid, &v));
  return v.v.obstacles;
}

const char *p_nearest(struct p *p, uint64_t vm_uid) {
  static char text[BLX__FLEET_NEAREST_BYTES];
  struct blx__fleet_request r = {.vm_uid = vm_uid, .keep_survive = true};
  blx__fleet_nearest(p->f, &r, text, sizeof text);
  return text;
}
