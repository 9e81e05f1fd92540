/* What a worker makes of what servers tell it of its share: one is behind, one is of a group that was given up. */
#include "../agent/support.h"

#include "node/node_int.h"
#include "schema/codec.h"

#include <string.h>

static struct world w;
static struct blx__node node;
static struct blx_node_info self = BLX_NODE_INFO_INIT, one = BLX_NODE_INFO_INIT, two = BLX_NODE_INFO_INIT;
static struct blx_node_info *servers[] = {&one, &two};
static struct blx_identity identity = BLX_IDENTITY_INIT;

enum { UID = 7 };

static void open_worker(void) {
  world_open(&w);
  node = (struct blx__node){.loop = w.loop, .agent = w.agent, .self = &self, .uid = UID, .identity = &identity};
  self.uid = UID;
  self.name = "w1";
  self.incarnation = 70;
  one.uid = 1;
  one.address = "unix:/one";
  two.uid = 2;
  two.address = "unix:/two";
  identity.peers = servers;
  identity.n_peers = 2;
  identity.standing = BLX_STANDING_MEMBER;
  ck_assert_int_eq(blx__worker_new(&node, NULL).code, 0);
}

static void close_worker(void) {
  blx__worker_free(node.worker);
  world_close(&w);
}

/* The whole share, or, without @whole, what is new: instance 1 if @epoch is not 0, and nothing else. True: taken. */
static bool tell_share(uint64_t index, uint64_t era, bool whole, uint64_t epoch) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_assignment a = BLX_ASSIGNMENT_INIT, *list[] = {&a};
  struct blx_share_part part = BLX_SHARE_PART_INIT;
  struct blx__buf b;
  spec.name = w.cluster.records[0].name;
  spec.vcpus = 1;
  spec.memory_mib = 128;
  a.instance = w.cluster.records[0].name;
  a.instance_uid = w.cluster.records[0].uid;
  a.epoch = epoch;
  a.spec = &spec;
  a.config = (struct blx_bytes){(const uint8_t *)"{ }", 3};
  part.known = 1;
  part.index = index;
  part.era = era;
  part.whole = whole;
  part.assignments = list;
  part.n_assignments = epoch != 0;
  blx__buf_init(&b, 1 << 16);
  ck_assert_int_eq(blx__msg_encode(blx__desc_share_part(), &part, &b, NULL).code, 0);
  const char *asked = blx__worker_server(&node);
  blx__worker_take(&node, (struct blx__slice){b.data, b.len});
  blx__buf_free(&b);
  w.cluster.records[0].assigned = epoch != 0; /* as the sink of its reports judges them */
  w.cluster.records[0].epoch = epoch;
  return strcmp(blx__worker_server(&node), asked) == 0; /* else the next server is asked */
}

static bool is_running(struct world *x) {
  return x->cluster.records[0].phase == BLX_PHASE_RUNNING;
}
static bool is_ended(struct world *x) {
  return !host_runs(x, 0);
}
static bool is_still(struct world *x) {
  return x->host.pending == 0 && blx__agent_unreported(x->agent) == 0;
}

START_TEST(a_server_that_is_behind__is_not_believed_and_the_next_one_is_asked) {
  open_worker();
  ck_assert(tell_share(100, 0, true, 1));
  run_until(&w, is_running);
  ck_assert(!tell_share(99, 0, true, 0)); /* before that was assigned here */
  w.cluster.records[0].assigned = true;
  w.cluster.records[0].epoch = 1;
  run_until(&w, is_still);
  ck_assert(host_runs(&w, 0));
  ck_assert(tell_share(101, 0, true, 0));
  run_until(&w, is_ended);
  ck_assert(!tell_share(100, 0, true, 1)); /* it went elsewhere since */
  run_until(&w, is_still);
  ck_assert_uint_eq(host_starts(&w, 0), 1);
  close_worker();
}
END_TEST

START_TEST(a_lower_index_of_a_new_era__counts_and_one_of_the_era_before_does_not) {
  open_worker();
  ck_assert(tell_share(100, 0, true, 1));
  run_until(&w, is_running);
  ck_assert(!tell_share(50, 9, false, 0)); /* what is new in what it does not have */
  ck_assert(tell_share(50, 9, true, 1));
  run_until(&w, is_still);
  ck_assert(host_runs(&w, 0) && host_starts(&w, 0) == 1);
  ck_assert(!tell_share(200, 0, true, 0)); /* of the group that was given up */
  w.cluster.records[0].assigned = true;
  w.cluster.records[0].epoch = 1;
  run_until(&w, is_still);
  ck_assert(host_runs(&w, 0));
  ck_assert(tell_share(51, 9, true, 0));
  run_until(&w, is_ended);
  close_worker();
}
END_TEST

BLX_TEST_MAIN("node/worker", a_server_that_is_behind__is_not_believed_and_the_next_one_is_asked,
              a_lower_index_of_a_new_era__counts_and_one_of_the_era_before_does_not)
