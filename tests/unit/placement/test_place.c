#include "../harness.h"

#include "placement/place.h"

#include <string.h>

static const int32_t qemu_only[] = {BLX_HYPERVISOR_QEMU};

enum { NODES = 3 };

static void fleet(struct blx__place_node nodes[NODES]) {
  static const char *const names[NODES] = {"node1", "node2", "node3"};
  for (size_t i = 0; i < NODES; i++) {
    nodes[i] = (struct blx__place_node){
        .node = {.uid = i + 1,
                 .name = names[i],
                 .cpu_milli = 8000,
                 .memory_mib = 1024,
                 .hypervisors = qemu_only,
                 .n_hypervisors = 1},
        .usable = true,
    };
  }
}

static struct blx__place_request request(int32_t strategy) {
  return (struct blx__place_request){
      .need = {.cpu_milli = 1000, .vcpus = 1, .memory_mib = 128}, .strategy = strategy, .seed = 42};
}

START_TEST(fullness__is_both_shares_rounded_down_and_added) {
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  struct blx__placement_node n = {
      .cpu_milli = 3000, .allocated_cpu_milli = 1000, .memory_mib = 1000, .allocated_memory_mib = 100};
  ck_assert_uint_eq(blx__place_fullness(&n, &r.need), 6666 + 2280);
  n.allocated_cpu_milli = 2000;
  n.allocated_memory_mib = 872;
  ck_assert_uint_eq(blx__place_fullness(&n, &r.need), 20000);
  n.memory_mib = n.allocated_memory_mib = 1 << 30; /* the most that a node may have */
  ck_assert_uint_eq(blx__place_fullness(&n, &r.need), 10000 + 10000);
  n.cpu_milli = n.memory_mib = 0;
  ck_assert_uint_eq(blx__place_fullness(&n, &r.need), 0);
}
END_TEST

START_TEST(best_fit__fills_the_fullest_node_that_has_room) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  nodes[0].node.allocated_memory_mib = 1000;
  nodes[1].node.allocated_memory_mib = 512;
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), 1);
}
END_TEST

START_TEST(load_balanced__takes_the_emptiest_node) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  nodes[0].node.allocated_memory_mib = 512;
  nodes[2].node.allocated_cpu_milli = 2000;
  struct blx__place_request r = request(BLX_STRATEGY_LOAD_BALANCED);
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), 1);
}
END_TEST

START_TEST(load_balanced__counts_shares_not_mib) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  nodes[2].node.memory_mib = 16384;
  nodes[2].node.allocated_memory_mib = 2048;
  nodes[0].node.allocated_memory_mib = nodes[1].node.allocated_memory_mib = 512;
  struct blx__place_request r = request(BLX_STRATEGY_LOAD_BALANCED);
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), 2);
}
END_TEST

START_TEST(replicas_of_one_vm__spread_before_the_strategy_is_asked) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  unsigned seen = 0;
  for (int i = 0; i < NODES; i++) {
    int32_t at = blx__place_choose(nodes, NODES, &r);
    ck_assert_int_ge(at, 0);
    nodes[at].same_vm_count++;
    nodes[at].node.allocated_memory_mib += 128;
    seen |= 1u << at;
  }
  ck_assert_uint_eq(seen, 7);
}
END_TEST

START_TEST(spread__is_a_preference_and_never_keeps_a_replica_waiting) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  nodes[0].same_vm_count = 5;
  nodes[1].node.allocated_memory_mib = nodes[2].node.allocated_memory_mib = 1024;
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), 0);
}
END_TEST

START_TEST(the_node_it_was_on__is_preferred_while_it_is_usable_and_feasible) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  struct blx__place_request r = request(BLX_STRATEGY_LOAD_BALANCED);
  r.sticky_uid = 2;
  nodes[1].node.allocated_memory_mib = 896;
  nodes[1].same_vm_count = 2;
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), 1);
  nodes[1].usable = false;
  ck_assert_int_ne(blx__place_choose(nodes, NODES, &r), 1);
  nodes[1].usable = true;
  nodes[1].node.allocated_memory_mib = 897;
  ck_assert_int_ne(blx__place_choose(nodes, NODES, &r), 1);
}
END_TEST

START_TEST(a_tie__depends_on_the_seed_and_nothing_else) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  unsigned seen = 0;
  for (uint64_t seed = 0; seed < 64; seed++) {
    r.seed = seed;
    int32_t at = blx__place_choose(nodes, NODES, &r);
    ck_assert_int_eq(at, blx__place_choose(nodes, NODES, &r));
    seen |= 1u << at;
  }
  ck_assert_uint_eq(seen, 7);
}
END_TEST

START_TEST(no_usable_node__gives_none) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  for (size_t i = 0; i < NODES; i++) nodes[i].usable = false;
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), BLX__PLACEMENT_NONE);
  ck_assert_int_eq(blx__place_choose(NULL, 0, &r), BLX__PLACEMENT_NONE);
}
END_TEST

START_TEST(an_explanation__names_the_nearest_miss_first) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  nodes[0].node.cordoned = true;
  nodes[1].usable = false;
  nodes[1].why_not = "has not been heard from";
  nodes[2].node.allocated_memory_mib = 928;
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  char text[BLX__PLACEMENT_EXPLAIN_BYTES];
  blx__place_explain(nodes, NODES, &r, text, sizeof text);
  ck_assert_str_eq(text, "node3 lacks 32 MiB; node2 has not been heard from; node1 is cordoned");
  nodes[1].usable = true;
  nodes[1].node.allocated_memory_mib = 912;
  nodes[1].node.allocated_cpu_milli = 8000;
  nodes[0].node.hypervisors = NULL;
  nodes[0].node.n_hypervisors = 0;
  blx__place_explain(nodes, NODES, &r, text, sizeof text);
  ck_assert_str_eq(text, "node3 lacks 32 MiB; node2 lacks 16 MiB and 1 vCPU; node1 cannot run QEMU");
}
END_TEST

START_TEST(an_explanation_of_a_large_fleet__names_a_few_and_counts_the_rest) {
  enum { MANY = 50 };
  struct blx__place_node nodes[MANY];
  for (size_t i = 0; i < MANY; i++)
    nodes[i] = (struct blx__place_node){.node = {.uid = i + 1,
                                                 .name = "n",
                                                 .memory_mib = i,
                                                 .cpu_milli = 8000,
                                                 .hypervisors = qemu_only,
                                                 .n_hypervisors = 1},
                                        .usable = true};
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  char text[BLX__PLACEMENT_EXPLAIN_BYTES];
  blx__place_explain(nodes, MANY, &r, text, sizeof text);
  ck_assert_str_eq(text, "n lacks 79 MiB; n lacks 80 MiB; n lacks 81 MiB; n lacks 82 MiB; n lacks 83 MiB; "
                         "n lacks 84 MiB; and 44 more nodes");
  char cut[16];
  blx__place_explain(nodes, MANY, &r, cut, sizeof cut);
  ck_assert_uint_lt(strlen(cut), sizeof cut);
  blx__place_explain(NULL, 0, &r, text, sizeof text);
  ck_assert_str_eq(text, "the cluster has no nodes");
}
END_TEST

START_TEST(the_node_to_avoid__is_taken_only_if_no_other_can) {
  struct blx__place_node nodes[NODES];
  fleet(nodes);
  struct blx__place_request r = request(BLX_STRATEGY_BEST_FIT);
  r.sticky_uid = r.avoid_uid = 2;
  nodes[0].same_vm_count = 3;
  nodes[2].usable = false;
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), 0);
  nodes[0].usable = false;
  ck_assert_int_eq(blx__place_choose(nodes, NODES, &r), 1);
}
END_TEST

BLX_TEST_MAIN("placement/place", fullness__is_both_shares_rounded_down_and_added,
              best_fit__fills_the_fullest_node_that_has_room, load_balanced__takes_the_emptiest_node,
              load_balanced__counts_shares_not_mib, replicas_of_one_vm__spread_before_the_strategy_is_asked,
              spread__is_a_preference_and_never_keeps_a_replica_waiting,
              the_node_it_was_on__is_preferred_while_it_is_usable_and_feasible,
              a_tie__depends_on_the_seed_and_nothing_else, no_usable_node__gives_none,
              an_explanation__names_the_nearest_miss_first,
              an_explanation_of_a_large_fleet__names_a_few_and_counts_the_rest,
              the_node_to_avoid__is_taken_only_if_no_other_can)
