/* A fleet of equal nodes to ask. */
#ifndef BLX_TESTS_PLACEMENT_SUPPORT_H
#define BLX_TESTS_PLACEMENT_SUPPORT_H

#include "../harness.h"

#include "placement/fleet.h"

enum { P_SEED = 7 };

struct p {
  struct blx__fleet *f;
  uint64_t next_uid; /* of instances */
};

/* Nodes node1 .. of 8 vCPUs and 1024 MiB, with uids from 1. */
void p_open(struct p *p, uint32_t nodes);
void p_close(struct p *p);
struct blx_node_info p_node(uint64_t uid); /* such a node, to be changed and told; borrows static text */
void p_tell(struct p *p, const struct blx_node_info *n);
struct blx_vm_spec p_spec(const char *name); /* 1 vCPU, 128 MiB */
void p_vm(struct p *p, uint64_t uid, const struct blx_vm_spec *spec);
uint64_t p_place(struct p *p, uint64_t vm_uid, uint64_t node_uid); /* the instance's uid */
uint64_t p_choose(struct p *p, uint64_t vm_uid);                   /* 0: none */
uint32_t p_obstacles(struct p *p, uint64_t vm_uid, uint64_t node_uid);
const char *p_nearest(struct p *p, uint64_t vm_uid);

#endif
