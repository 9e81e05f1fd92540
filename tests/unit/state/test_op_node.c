#include "../harness.h"
#include "support.h"

#include <string.h>

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

static int cordon_as(struct t *t, const char *reason, bool cordoned, uint64_t if_revision, const char *principal) {
  struct blx_op_node_cordon o = BLX_OP_NODE_CORDON_INIT;
  o.name = "node1";
  o.cordoned = cordoned;
  o.reason = reason;
  o.if_revision = if_revision;
  struct blx_op op = BLX_OP_INIT;
  op.node_cordon = &o;
  op.principal = principal;
  return t_apply(t, &op);
}

START_TEST(a_registration__that_comes_too_late_is_refused) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_node_info me = BLX_NODE_INFO_INIT;
  me.uid = 1;
  struct blx_op_node_register reg = BLX_OP_NODE_REGISTER_INIT;
  reg.node = &me;
  struct blx_op op = BLX_OP_INIT;
  op.node_register = &reg;
  me.incarnation = 70; /* whatever was before */
  T_SHALL(0, t_apply(&t, &op));
  me.incarnation = 80;
  reg.replaces = 70;
  T_SHALL(0, t_apply(&t, &op));
  T_SHALL(0, t_apply(&t, &op)); /* twice is harmless */
  me.incarnation = 75;
  T_SHALL(BLX_E_STALE, t_apply(&t, &op));
  ck_assert_uint_eq(blx__state_node(t.st, 1)->incarnation, 80);
  t_close(&t);
}
END_TEST

START_TEST(a_worker__stays_one_and_never_votes) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_node_info me = BLX_NODE_INFO_INIT;
  me.name = "w1";
  me.role = BLX_NODE_ROLE_WORKER;
  struct blx_op_node_join join = BLX_OP_NODE_JOIN_INIT;
  join.node = &me;
  struct blx_op op = BLX_OP_INIT;
  op.node_join = &join;
  T_SHALL(0, t_apply(&t, &op));
  const uint64_t uid = blx__state_node_by_name(t.st, "w1")->uid;
  ck_assert_int_eq(blx__state_node(t.st, uid)->role, BLX_NODE_ROLE_WORKER);
  struct blx_op_node_voter voter = BLX_OP_NODE_VOTER_INIT;
  voter.uid = uid;
  voter.voter = 1;
  op = (struct blx_op)BLX_OP_INIT;
  op.node_voter = &voter;
  T_SHALL(BLX_E_CONFLICT, t_apply(&t, &op));
  me.uid = uid;
  me.role = BLX_NODE_ROLE_SERVER; /* what it says at a start does not make a server of it */
  struct blx_op_node_register reg = BLX_OP_NODE_REGISTER_INIT;
  reg.node = &me;
  op = (struct blx_op)BLX_OP_INIT;
  op.node_register = &reg;
  T_SHALL(0, t_apply(&t, &op));
  ck_assert_int_eq(blx__state_node(t.st, uid)->role, BLX_NODE_ROLE_WORKER);
  ck_assert(!blx__state_node(t.st, uid)->voter);
  t_close(&t);
}
END_TEST

START_TEST(a_cordon__keeps_who_when_and_why_until_it_is_lifted) {
  struct t t;
  t_open_cluster(&t, 1);
  const struct blx_node_info *n = blx__state_node(t.st, 1);
  T_SHALL(BLX_E_STALE, cordon_as(&t, "disk", true, n->revision + 1, "uid:7"));
  T_SAYS("the node node1 has revision 2, not 3: read it again");
  T_SHALL(0, cordon_as(&t, "disk", true, n->revision, "uid:7"));
  n = blx__state_node(t.st, 1);
  ck_assert_uint_eq(n->cordoned_ms, t.time_ms);
  ck_assert_str_eq(n->cordoned_by, "uid:7");
  ck_assert_str_eq(n->cordon_reason, "disk");
  uint64_t revision = n->revision, since = n->cordoned_ms;
  t.time_ms += 1000;
  T_SHALL(0, cordon_as(&t, "", true, 0, "uid:8"));
  ck_assert_uint_eq(blx__state_node(t.st, 1)->revision, revision);
  T_SHALL(0, cordon_as(&t, "disk and fan", true, 0, "uid:8"));
  n = blx__state_node(t.st, 1);
  ck_assert_uint_eq(n->cordoned_ms, since);
  ck_assert_str_eq(n->cordoned_by, "uid:8");
  ck_assert_str_eq(n->cordon_reason, "disk and fan");
  T_SHALL(0, cordon_as(&t, "", false, 0, "uid:8"));
  n = blx__state_node(t.st, 1);
  ck_assert(!n->cordoned && n->cordoned_ms == 0 && !n->cordoned_by && !n->cordon_reason);
  t_close(&t);
}
END_TEST

START_TEST(a_cordoned_node__keeps_what_runs_and_takes_nothing_new) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 2);
  T_SHALL(0, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_cordon(&t, "node1", true));
  T_SHALL(BLX_E_CONFLICT, t_assign(&t, "web-2", 1));
  T_SAYS("web-2 cannot go there: node1 is cordoned");
  T_SHALL(0, t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_RUNNING}));
  ck_assert_int_eq(t_instance(&t, "web-1")->phase, BLX_PHASE_RUNNING);
  T_SHALL(0, t_cordon(&t, "node1", false));
  T_SHALL(0, t_assign(&t, "web-2", 1));
  t_close(&t);
}
END_TEST

/* The node's labels as "k=v k=v". */
static const char *labels_of(const struct t *t, uint64_t uid) {
  static char out[512];
  const struct blx_node_info *n = blx__state_node(t->st, uid);
  out[0] = '\0';
  for (size_t i = 0; i < n->n_labels; i++)
    blx__str_format(out + strlen(out), sizeof out - strlen(out), "%s%s=%s", i ? " " : "", n->labels[i]->key,
                    n->labels[i]->value ? n->labels[i]->value : "");
  return out;
}

static int reg_labelled(struct t *t, const char *key, const char *value) {
  struct blx_label l = BLX_LABEL_INIT, *list[] = {&l};
  l.key = key;
  l.value = value;
  struct blx_node_info n = BLX_NODE_INFO_INIT;
  n.uid = 1;
  n.labels = list;
  n.n_labels = key != NULL;
  struct blx_op_node_register o = BLX_OP_NODE_REGISTER_INIT;
  o.node = &n;
  struct blx_op op = BLX_OP_INIT;
  op.node_register = &o;
  return t_apply(t, &op);
}

START_TEST(labels__of_users_win_over_the_daemons_and_stay_when_it_restarts) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, reg_labelled(&t, "zone", "a"));
  ck_assert_str_eq(labels_of(&t, 1), "zone=a");
  T_SHALL(0, t_label(&t, "node1", "disk=ssd zone=b"));
  ck_assert_str_eq(labels_of(&t, 1), "disk=ssd zone=b");
  T_SHALL(0, reg_labelled(&t, "rack", "7"));
  ck_assert_str_eq(labels_of(&t, 1), "disk=ssd zone=b rack=7");
  T_SHALL(0, reg_labelled(&t, "zone", "c"));
  T_SHALL(0, t_label(&t, "node1", "zone- nothing-"));
  ck_assert_str_eq(labels_of(&t, 1), "disk=ssd zone=c");
  T_SHALL(0, reg_labelled(&t, NULL, NULL));
  ck_assert_str_eq(labels_of(&t, 1), "disk=ssd");
  uint64_t revision = blx__state_node(t.st, 1)->revision;
  T_SHALL(0, t_label(&t, "node1", "disk=ssd"));
  ck_assert_uint_eq(blx__state_node(t.st, 1)->revision, revision);
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_label_that_cannot_be__is_refused_with_what_would_help) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, reg_labelled(&t, "zone", "a"));
  T_SHALL(BLX_E_NOT_FOUND, t_label(&t, "node7", "zone=b"));
  T_SAYS("there is no node named node7: `blixard node list` shows those there are");
  T_SHALL(BLX_E_INVALID, t_label(&t, "node1", "zone=b zone-"));
  T_SAYS("the label zone is named twice: name it once");
  T_SHALL(BLX_E_INVALID, t_label(&t, "node1", "x=1 x=2"));
  T_SHALL(BLX_E_CONFLICT, t_label(&t, "node1", "zone-"));
  T_SAYS("the label zone of node1 is given by its daemon: start that without --label zone=..., or set another value "
         "here");
  for (unsigned i = 0; i < 64; i++) {
    char one[16];
    blx__str_format(one, sizeof one, "k%u=v", i);
    T_SHALL(0, t_label(&t, "node1", one));
  }
  ck_assert_uint_eq(blx__state_node(t.st, 1)->n_labels, 64);
  ck_assert_uint_eq(blx__state_node(t.st, 1)->n_daemon_labels, 1);
  T_SHALL(BLX_E_QUOTA, t_label(&t, "node1", "more=1"));
  T_SAYS("node1 would have 65 labels set on it, 64 is the most: take some away");
  T_SHALL(0, t_label(&t, "node1", "more=1 k0- k1-"));
  t_check_rebuilt(&t);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/op_node", cluster_init__comes_first_and_once, a_joining_node__gets_the_next_uid_and_the_first_is_1,
              register__updates_what_a_node_says_of_itself_and_nothing_else,
              voter_and_cordon__set_their_bit_and_change_nothing_when_it_is_set,
              a_registration__that_comes_too_late_is_refused, a_worker__stays_one_and_never_votes,
              a_cordon__keeps_who_when_and_why_until_it_is_lifted,
              a_cordoned_node__keeps_what_runs_and_takes_nothing_new,
              labels__of_users_win_over_the_daemons_and_stay_when_it_restarts,
              a_label_that_cannot_be__is_refused_with_what_would_help)
