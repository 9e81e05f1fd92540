#include "support.h"

#define BIT(code) (1u << BLX_OBSTACLE_CODE_##code)

START_TEST(best_fit__fills_the_fullest_node_and_load_balanced_takes_the_emptiest) {
  struct p p;
  p_open(&p, 3);
  struct blx_vm_spec web = p_spec("web"), other = p_spec("other"), even = p_spec("even");
  even.strategy = BLX_STRATEGY_LOAD_BALANCED;
  p_vm(&p, 1, &web);
  p_vm(&p, 2, &other);
  p_vm(&p, 3, &even);
  p_place(&p, 2, 2);
  ck_assert_uint_eq(p_choose(&p, 1), 2);
  p_place(&p, 2, 1);
  ck_assert_uint_eq(p_choose(&p, 3), 3);
  p_close(&p);
}
END_TEST

START_TEST(replicas__spread_before_the_strategy_is_asked_and_never_wait_for_it) {
  struct p p;
  p_open(&p, 2);
  struct blx_vm_spec web = p_spec("web");
  p_vm(&p, 1, &web);
  uint64_t first = p_choose(&p, 1);
  p_place(&p, 1, first);
  uint64_t second = p_choose(&p, 1);
  ck_assert_uint_ne(first, second);
  p_place(&p, 1, second);
  ck_assert_uint_ne(p_choose(&p, 1), 0);
  p_close(&p);
}
END_TEST

START_TEST(a_hard_apart_rule__holds_for_the_one_that_comes_later_too) {
  struct p p;
  p_open(&p, 2);
  struct blx_label db_label = {.struct_size = sizeof db_label, .key = "app", .value = "db"};
  struct blx_label *labels[] = {&db_label};
  struct blx_vm_affinity rule = BLX_VM_AFFINITY_INIT;
  struct blx_vm_affinity *rules[] = {&rule};
  rule.selector = labels;
  rule.n_selector = 1;
  rule.apart = 1;
  struct blx_vm_spec web = p_spec("web"), db = p_spec("db");
  web.affinity = rules;
  web.n_affinity = 1;
  db.labels = labels;
  db.n_labels = 1;
  p_vm(&p, 1, &web);
  p_vm(&p, 2, &db);
  uint64_t instance = p_place(&p, 1, 1);
  ck_assert_uint_eq(p_obstacles(&p, 2, 1), BIT(ANTI_AFFINITY));
  ck_assert_uint_eq(p_choose(&p, 2), 2);
  p_place(&p, 2, 2);
  ck_assert_uint_eq(p_obstacles(&p, 1, 2), BIT(ANTI_AFFINITY));
  ck_assert_str_eq(p_nearest(&p, 2), "node2 has room; node1 is in one domain with web, which wants no such instance "
                                     "near");
  ck_assert(blx__fleet_unplace(p.f, instance));
  ck_assert_uint_eq(p_obstacles(&p, 2, 1), 0);
  p_close(&p);
}
END_TEST

START_TEST(a_preemption__ends_the_least_important_that_is_enough) {
  struct p p;
  p_open(&p, 2);
  struct blx_vm_spec low = p_spec("low"), middle = p_spec("middle"), kept = p_spec("kept"), high = p_spec("high");
  low.memory_mib = middle.memory_mib = kept.memory_mib = 512;
  middle.priority = 10;
  kept.has_preemptible = 1;
  high.priority = 20;
  high.memory_mib = 400;
  p_vm(&p, 1, &low);
  p_vm(&p, 2, &middle);
  p_vm(&p, 3, &kept);
  p_vm(&p, 4, &high);
  uint64_t victim = p_place(&p, 1, 1);
  p_place(&p, 2, 1);
  p_place(&p, 2, 2);
  p_place(&p, 3, 2);
  struct blx__fleet_preemption out;
  struct blx__fleet_request r = {.vm_uid = 4};
  ck_assert_uint_eq(p_choose(&p, 4), 0);
  ck_assert(blx__fleet_preempt(p.f, &r, &out));
  ck_assert_uint_eq(out.node_uid, 1);
  ck_assert_uint_eq(out.n, 1);
  ck_assert_uint_eq(out.victims[0], victim);
  struct blx__fleet_instance ends = {.uid = victim, .vm_uid = 1, .node_uid = 1, .epoch = 1, .ending = true};
  ck_assert_int_eq(blx__fleet_place(p.f, &ends, NULL).code, 0);
  ck_assert(blx__fleet_preempt(p.f, &r, &out));
  ck_assert_uint_eq(out.n, 0);
  r.vm_uid = 1;
  ck_assert(!blx__fleet_preempt(p.f, &r, &out) || out.n == 0);
  p_close(&p);
}
END_TEST

/* Weights that divide nothing: what is cut off of one share is given to a later one. */
START_TEST(a_combined_cost__is_shown_part_by_part_and_adds_up_exactly) {
  static struct blx__fleet_verdict v;
  static const struct {
    uint32_t weight[3];
    const char *names[3];
    uint64_t cost[3];
  } cases[] = {
      /* an empty node of 8 vCPUs and 1024 MiB: 1 vCPU and 128 MiB are 2500/10000, 125000 of LoadBalanced */
      {{3, 3, 1},
       {"Combined BestFit 3/7 of 875000", "Combined LoadBalanced 3/7 of 125000", "Combined DataLocality 1/7 of 666666"},
       {375000, 53571, 95238}}, /* 375000.0, 428571.4, 523809.4 so far */
      {{1, 0, 2}, {"Combined BestFit 1/3 of 875000", "Combined DataLocality 2/3 of 666666"}, {291666, 444444}},
      {{0, 7, 0}, {"Combined LoadBalanced 7/7 of 125000"}, {125000}},
  };
  struct p p;
  p_open(&p, 1);
  struct blx_data_item there = {.struct_size = sizeof there, .key = "volume/a", .bytes = 1},
                       far = {.struct_size = sizeof far, .key = "volume/b", .bytes = 2}, *stored[] = {&there},
                       *data[] = {&there, &far};
  const struct blx__fleet_soft soft = {.usable = true, .stored = stored, .n_stored = 1};
  struct blx_node_info n = p_node(1);
  ck_assert_int_eq(blx__fleet_set_node(p.f, &n, NULL, &soft, NULL).code, 0);
  for (size_t k = 0; k < BLX__COUNT(cases); k++) {
    struct blx_strategy_weight parts[3], *list[3];
    struct blx_vm_spec web = p_spec("web");
    for (size_t i = 0; i < 3; i++) {
      parts[i] = (struct blx_strategy_weight)BLX_STRATEGY_WEIGHT_INIT;
      parts[i].strategy = (int32_t)i;
      parts[i].weight = cases[k].weight[i];
      list[i] = &parts[i];
    }
    web.strategy = BLX_STRATEGY_COMBINED;
    web.strategies = list;
    web.n_strategies = 3;
    web.data = data;
    web.n_data = 2;
    p_vm(&p, 1, &web);
    const struct blx__fleet_request r = {.vm_uid = 1};
    ck_assert(blx__fleet_judge(p.f, &r, 1, &v));
    uint64_t sum = 0;
    for (size_t i = 0; i < v.n_parts; i++) {
      ck_assert_str_eq(v.parts[i].name, cases[k].names[i]);
      ck_assert_uint_eq(v.parts[i].cost, cases[k].cost[i]);
      sum += v.parts[i].cost;
    }
    ck_assert(v.n_parts == 3 || cases[k].names[v.n_parts] == NULL);
    ck_assert_uint_eq(sum, v.cost);
  }
  p_close(&p);
}
END_TEST

BLX_TEST_MAIN("placement/fleet", best_fit__fills_the_fullest_node_and_load_balanced_takes_the_emptiest,
              replicas__spread_before_the_strategy_is_asked_and_never_wait_for_it,
              a_hard_apart_rule__holds_for_the_one_that_comes_later_too,
              a_preemption__ends_the_least_important_that_is_enough,
              a_combined_cost__is_shown_part_by_part_and_adds_up_exactly)
