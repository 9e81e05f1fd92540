#include "../harness.h"
#include "support.h"

START_TEST(cluster_init__comes_first_and_once) {
  struct t t;
  t_open(&t, 0);
  T_SHALL(BLX_E_CONFLICT, t_join(&t, "node1", 8, 1024));
  T_SHALL(0, t_init(&t));
  ck_assert_str_eq(blx__state_cluster_name(t.st), "test");
  T_SHALL(BLX_E_CONFLICT, t_init(&t));
  T_SAYS("the cluster test was initialised before");
  t_close(&t);
}
END_TEST

START_TEST(a_joining_node__gets_the_next_uid_and_the_first_is_1) {
  struct t t;
  t_open(&t, 0);
  t_init(&t);
  T_SHALL(0, t_join(&t, "a", 8, 1024));
  ck_assert_uint_eq(t.result.uid, 1);
  T_SHALL(BLX_E_EXISTS, t_join(&t, "a", 8, 1024));
  T_SHALL(0, t_join(&t, "b", 8, 1024));
  ck_assert_uint_eq(t.result.uid, 2);
  T_SHALL(BLX_E_INVALID, t_join(&t, "../x", 8, 1024));
  ck_assert_uint_eq(blx__state_counts(t.st).nodes, 2);
  t_close(&t);
}
END_TEST

static int reg(struct t *t, uint64_t uid, uint64_t incarnation, uint64_t memory_mib) {
  struct blx_resources capacity = BLX_RESOURCES_INIT;
  capacity.vcpus = 4;
  capacity.memory_mib = memory_mib;
  struct blx_node_info n = BLX_NODE_INFO_INIT;
  n.uid = uid;
  n.name = "ignored";
  n.incarnation = incarnation;
  n.address = "unix:/run/new";
  n.version = "0.1.1";
  n.capacity = &capacity;
  n.cordoned = 1;
  struct blx_op_node_register o = BLX_OP_NODE_REGISTER_INIT;
  o.node = &n;
  struct blx_op op = BLX_OP_INIT;
  op.node_register = &o;
  return t_apply(t, &op);
}

START_TEST(register__updates_what_a_node_says_of_itself_and_nothing_else) {
  struct t t;
  t_open_cluster(&t, 2);
  T_SHALL(BLX_E_NOT_FOUND, reg(&t, 7, 1, 10));
  T_SHALL(0, reg(&t, 2, 77, 4096));
  const struct blx_node_info *n = blx__state_node(t.st, 2);
  ck_assert_str_eq(n->name, "node2");
  ck_assert_uint_eq(n->incarnation, 77);
  ck_assert_str_eq(n->address, "unix:/run/new");
  ck_assert_str_eq(n->version, "0.1.1");
  ck_assert_uint_eq(n->capacity->memory_mib, 4096);
  ck_assert_uint_eq(n->n_hypervisors, 0);
  ck_assert(!n->cordoned);
  ck_assert_uint_eq(n->revision, t.index);
  t_close(&t);
}
END_TEST

START_TEST(voter_and_cordon__set_their_bit_and_change_nothing_when_it_is_set) {
  struct t t;
  t_open_cluster(&t, 2);
  struct blx_op_node_voter o = BLX_OP_NODE_VOTER_INIT;
  o.uid = 2;
  o.voter = 1;
  struct blx_op op = BLX_OP_INIT;
  op.node_voter = &o;
  T_SHALL(0, t_apply(&t, &op));
  ck_assert(blx__state_node(t.st, 2)->voter);
  uint64_t revision = blx__state_node(t.st, 2)->revision;
  T_SHALL(0, t_apply(&t, &op));
  ck_assert_uint_eq(blx__state_node(t.st, 2)->revision, revision);
  T_SHALL(0, t_cordon(&t, "node2", true));
  ck_assert(blx__state_node_by_name(t.st, "node2")->cordoned);
  T_SHALL(BLX_E_NOT_FOUND, t_cordon(&t, "node9", true));
  T_SHALL(0, t_cordon(&t, "node2", false));
  ck_assert(!blx__state_node_by_name(t.st, "node2")->cordoned);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/op_node", cluster_init__comes_first_and_once, a_joining_node__gets_the_next_uid_and_the_first_is_1,
              register__updates_what_a_node_says_of_itself_and_nothing_else,
              voter_and_cordon__set_their_bit_and_change_nothing_when_it_is_set)
