#include "../harness.h"

#include "placement/fit.h"

static struct blx__fit_node node(uint64_t cpu_milli, uint64_t memory_mib, uint64_t free_cpu, uint64_t free_memory) {
  return (struct blx__fit_node){cpu_milli, memory_mib, free_cpu, free_memory};
}

START_TEST(without_shapes_or_nodes__there_is_nothing_to_go_by) {
  struct blx__fit *m = blx__fit_new(64, 16);
  struct blx__fit_shape one[] = {{1000, 1024, 1}};
  struct blx__fit_node n = node(8000, 8192, 8000, 8192), nothing = node(0, 0, 0, 0);
  ck_assert(!blx__fit_refresh(m, &n, 1));
  blx__fit_learn(m, one, 1);
  ck_assert(!blx__fit_ready(m));
  ck_assert(!blx__fit_refresh(m, NULL, 0));
  ck_assert(!blx__fit_refresh(m, &nothing, 1));
  ck_assert(blx__fit_refresh(m, &n, 1));
  blx__fit_learn(m, NULL, 0);
  ck_assert(!blx__fit_refresh(m, &n, 1));
  blx__fit_free(m);
}
END_TEST

START_TEST(a_gap_that_is_filled_to_the_end__costs_less_than_one_that_leaves_a_rest_for_nobody) {
  struct blx__fit *m = blx__fit_new(1024, 128);
  struct blx__fit_shape shapes[] = {{4000, 4096, 10}, {3000, 3072, 10}};
  struct blx__fit_node all[] = {node(16000, 16384, 4000, 4096), node(16000, 16384, 5000, 5120),
                                node(16000, 16384, 16000, 16384)};
  blx__fit_learn(m, shapes, 2);
  ck_assert(blx__fit_refresh(m, all, 3));
  ck_assert_uint_lt(blx__fit_cost(m, &all[0], 4000, 4096), blx__fit_cost(m, &all[1], 4000, 4096));
  ck_assert_uint_eq(blx__fit_cost(m, &all[0], 4001, 4096), BLX__FIT_COST_MAX);
  blx__fit_free(m);
}
END_TEST

START_TEST(costs_of_many_rooms__are_those_of_each_node) {
  enum { NODES = 300 };
  struct blx__fit *m = blx__fit_new(64, 16);
  struct blx__fit_shape shapes[] = {{500, 2048, 7}, {4000, 1024, 3}, {9000, 20000, 1}};
  struct blx__fit_node all[NODES];
  struct blx__fit_room rooms[NODES];
  uint32_t backwards[NODES];
  int32_t costs[NODES], least[NODES / BLX__FIT_GROUP + 1];
  bool attained[NODES / BLX__FIT_GROUP + 1] = {false};
  size_t full = 0;
  for (uint32_t i = 0; i < NODES; i++) {
    all[i] = node(32000, 65536, 32000 - i % 50 * 640, 65536 - i % 7 * 9362);
    backwards[i] = NODES - 1 - i;
  }
  blx__fit_learn(m, shapes, 3);
  ck_assert(blx__fit_refresh(m, all, NODES));
  struct blx__fit_ask ask = blx__fit_ask_of(m, 9000, 20000);
  for (size_t i = 0; i < NODES; i++) rooms[i] = blx__fit_room_of(m, &all[i]);
  blx__fit_costs(m, rooms, backwards, NODES, &ask, costs);
  blx__fit_least(m, rooms, NODES, &ask, least);
  for (size_t i = 0; i < NODES; i++) {
    bool fits = all[i].free_cpu_milli >= 9000 && all[i].free_memory_mib >= 20000;
    int32_t cost = costs[NODES - 1 - i];
    ck_assert_uint_eq(blx__fit_cost(m, &all[i], 9000, 20000), fits ? (uint64_t)cost : BLX__FIT_COST_MAX);
    ck_assert_int_eq(cost == BLX__FIT_FULL, !fits);
    ck_assert_int_ge(cost, least[i / BLX__FIT_GROUP]);
    attained[i / BLX__FIT_GROUP] |= cost == least[i / BLX__FIT_GROUP];
    full += !fits;
  }
  for (size_t i = 0; i < NODES; i++) ck_assert(attained[i / BLX__FIT_GROUP]);
  ck_assert(full > 0 && full < NODES);
  blx__fit_free(m);
}
END_TEST

START_TEST(the_largest_there_can_be__overflows_nothing) {
  const uint64_t cpu = UINT64_C(65536000) * 20, memory = UINT64_C(1) << 32;
  struct blx__fit *m = blx__fit_new(256, 64);
  struct blx__fit_shape shapes[] = {{512000, 1048576, UINT64_MAX}, {1, 32, UINT64_MAX}, {cpu, memory, 1}};
  static struct blx__fit_node all[20000];
  for (size_t i = 0; i < 20000; i++) all[i] = node(cpu, memory, cpu - i * 1000, memory - i * 7);
  blx__fit_learn(m, shapes, 3);
  ck_assert(blx__fit_refresh(m, all, 20000));
  for (size_t i = 0; i < 20000; i += 777) {
    ck_assert_uint_le(blx__fit_cost(m, &all[i], 1, 32), BLX__FIT_COST_MAX);
    ck_assert_uint_le(blx__fit_cost(m, &all[i], 512000, 1048576), BLX__FIT_COST_MAX);
  }
  blx__fit_free(m);
}
END_TEST

START_TEST(many_shapes__are_merged_and_the_order_they_are_told_in_is_no_matter) {
  enum { MANY = 1000 };
  static struct blx__fit_shape up[MANY], down[MANY];
  struct blx__fit *a = blx__fit_new(128, 32), *b = blx__fit_new(128, 32);
  struct blx__fit_node n[] = {node(64000, 65536, 64000, 65536), node(32000, 65536, 12345, 23456)};
  for (size_t i = 0; i < MANY; i++) up[i] = (struct blx__fit_shape){100 + 37 * i, 64 + 61 * i, 1 + i % 17};
  for (size_t i = 0; i < MANY; i++) down[i] = up[MANY - 1 - i];
  blx__fit_learn(a, up, MANY);
  blx__fit_learn(b, down, MANY);
  ck_assert(blx__fit_refresh(a, n, 2) && blx__fit_refresh(b, n, 2));
  for (uint64_t i = 1; i < 12; i++)
    ck_assert_uint_eq(blx__fit_cost(a, &n[1], i * 1000, i * 1500), blx__fit_cost(b, &n[1], i * 1000, i * 1500));
  blx__fit_free(a);
  blx__fit_free(b);
}
END_TEST

BLX_TEST_MAIN("placement/fit", without_shapes_or_nodes__there_is_nothing_to_go_by,
              a_gap_that_is_filled_to_the_end__costs_less_than_one_that_leaves_a_rest_for_nobody,
              costs_of_many_rooms__are_those_of_each_node, the_largest_there_can_be__overflows_nothing,
              many_shapes__are_merged_and_the_order_they_are_told_in_is_no_matter)
