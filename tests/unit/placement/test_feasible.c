#include "../harness.h"

#include "placement/feasible.h"

static const int32_t qemu_only[] = {BLX_HYPERVISOR_QEMU};

static struct blx__placement_node node2(void) {
  return (struct blx__placement_node){
      .uid = 2, .name = "node2", .cpu_milli = 4000, .memory_mib = 1024, .hypervisors = qemu_only, .n_hypervisors = 1};
}

static const struct blx__placement_need small = {
    .cpu_milli = 1000, .vcpus = 1, .memory_mib = 128, .hypervisor = BLX_HYPERVISOR_QEMU};

static const char *sentence(const struct blx__placement_node *n, const struct blx__placement_need *need) {
  static char text[256];
  struct blx__placement_verdict v;
  blx__placement_feasible(n, need, NULL, &v);
  struct blx__placement_case c = {.node = n, .need = need, .verdict = &v};
  blx__placement_sentence(&c, blx__placement_worst(v.obstacles), text, sizeof text);
  return text;
}

START_TEST(a_node_with_room__takes_exactly_what_is_left_and_no_mib_more) {
  struct blx__placement_node n = node2();
  n.allocated_memory_mib = 896;
  ck_assert(blx__placement_feasible(&n, &small, NULL, NULL));
  n.allocated_memory_mib = 897;
  ck_assert(!blx__placement_feasible(&n, &small, NULL, NULL));
}
END_TEST

START_TEST(a_full_node__is_refused_with_the_missing_memory) {
  struct blx__placement_node n = node2();
  n.allocated_memory_mib = 928;
  ck_assert_str_eq(sentence(&n, &small), "node2 has 96 MiB free, 128 needed: 32 MiB short");
}
END_TEST

START_TEST(a_full_node__is_refused_with_the_missing_vcpus) {
  struct blx__placement_node n = node2();
  n.allocated_cpu_milli = 4000;
  ck_assert_str_eq(sentence(&n, &small), "node2 has 0 vCPUs free, 1 needed: 1 vCPUs short");
  n.allocated_memory_mib = 1000;
  ck_assert_str_eq(sentence(&n, &small),
                   "node2 has 24 MiB and 0 vCPUs free, 128 and 1 needed: 104 MiB and 1 vCPUs short");
}
END_TEST

START_TEST(a_node_whose_capacity_was_lowered__has_nothing_free) {
  struct blx__placement_node n = node2();
  n.allocated_memory_mib = 4096;
  struct blx__placement_verdict v;
  ck_assert(!blx__placement_feasible(&n, &small, NULL, &v));
  ck_assert_uint_eq(v.free_memory_mib, 0);
  ck_assert_uint_eq(v.short_memory_mib, 128);
}
END_TEST

START_TEST(a_cordoned_node__is_refused_as_such) {
  struct blx__placement_node n = node2();
  n.cordoned = true;
  ck_assert_str_eq(sentence(&n, &small), "node2 is cordoned");
}
END_TEST

START_TEST(a_missing_hypervisor__is_named) {
  struct blx__placement_node n = node2();
  struct blx__placement_need need = small;
  need.hypervisor = BLX_HYPERVISOR_FIRECRACKER;
  ck_assert_str_eq(sentence(&n, &need), "node2 cannot run Firecracker");
}
END_TEST

START_TEST(a_selector__needs_every_label_with_its_value) {
  struct blx_label zone = {.key = "zone", .value = "a"}, disk = {.key = "disk", .value = "ssd"};
  struct blx_label other = {.key = "disk", .value = "hdd"}, bare = {.key = "gpu"};
  struct blx_label *carried[] = {&zone, &other, &bare}, *wanted[] = {&zone, &disk}, *gpu[] = {&bare};
  struct blx__placement_node n = node2();
  n.labels = carried;
  n.n_labels = 3;
  struct blx__placement_need need = small;
  need.selector = wanted;
  need.n_selector = 1;
  ck_assert(blx__placement_feasible(&n, &need, NULL, NULL));
  need.n_selector = 2;
  ck_assert_str_eq(sentence(&n, &need), "node2 does not carry the label disk=ssd");
  need.selector = gpu;
  need.n_selector = 1;
  ck_assert(blx__placement_feasible(&n, &need, NULL, NULL));
}
END_TEST

START_TEST(ha__needs_a_killer_and_for_auto_something_that_resets_the_machine) {
  static const char watchdog[] = "node2 has no --watchdog-device: ha=auto needs it, `blixard node fence-command` or "
                                 "--no-watchdog there";
  struct blx__placement_node n = node2();
  struct blx__placement_need manual = small, automatic = small;
  manual.ha = BLX_HA_POLICY_MANUAL;
  automatic.ha = BLX_HA_POLICY_AUTO;
  ck_assert_str_eq(sentence(&n, &manual), "node2 cannot end highly available instances itself: no watchdog process or "
                                          "control groups");
  n.watchdog = n.fence_command = n.no_watchdog = true;
  ck_assert(!blx__placement_feasible(&n, &automatic, NULL, NULL));
  ck_assert(blx__placement_feasible(&n, &small, NULL, NULL));
  n = node2();
  n.ha_ready = true;
  ck_assert(blx__placement_feasible(&n, &manual, NULL, NULL));
  ck_assert_str_eq(sentence(&n, &automatic), watchdog);
  n.watchdog = true;
  ck_assert(blx__placement_feasible(&n, &automatic, NULL, NULL));
  n.virtualized = true;
  ck_assert_str_eq(sentence(&n, &automatic),
                   "node2 is a virtual machine: ha=auto needs `blixard node fence-command` or "
                   "--no-watchdog there");
  ck_assert(blx__placement_feasible(&n, &manual, NULL, NULL));
  n.fence_command = true;
  ck_assert(blx__placement_feasible(&n, &automatic, NULL, NULL));
  n.fence_command = false;
  n.no_watchdog = true;
  ck_assert(blx__placement_feasible(&n, &automatic, NULL, NULL));
}
END_TEST

START_TEST(a_fenced_node__takes_nothing_at_all) {
  struct blx__placement_node n = node2();
  n.fenced = true;
  ck_assert_str_eq(sentence(&n, &small), "node2 is fenced");
}
END_TEST

#define BIT(code) (1u << BLX_OBSTACLE_CODE_##code)

static uint32_t obstacles(const struct blx__placement_node *n, const struct blx__placement_need *need,
                          const struct blx__placement_around *around) {
  struct blx__placement_verdict v;
  bool fits = blx__placement_feasible(n, need, around, &v);
  ck_assert(fits == (v.obstacles == 0) && fits == blx__placement_feasible(n, need, around, NULL));
  return v.obstacles;
}

START_TEST(every_obstacle__is_said_not_only_the_first) {
  struct blx__placement_node n = node2();
  struct blx__placement_need need = small;
  need.hypervisor = BLX_HYPERVISOR_CROSVM;
  need.memory_mib = 2048;
  n.cordoned = n.fenced = true;
  ck_assert_uint_eq(obstacles(&n, &need, NULL), BIT(HYPERVISOR) | BIT(FENCED) | BIT(CORDONED) | BIT(ROOM));
}
END_TEST

START_TEST(conditions__compare_labels_as_their_names_say) {
  static const struct {
    int32_t op;
    const char *key, *value;
    bool holds;
  } cases[] = {{BLX_MATCH_OP_IN, "zone", "a", true},          {BLX_MATCH_OP_IN, "zone", "b", false},
               {BLX_MATCH_OP_IN, "rack", "a", false},         {BLX_MATCH_OP_NOT_IN, "zone", "a", false},
               {BLX_MATCH_OP_NOT_IN, "rack", "a", true},      {BLX_MATCH_OP_EXISTS, "zone", NULL, true},
               {BLX_MATCH_OP_EXISTS, "rack", NULL, false},    {BLX_MATCH_OP_NOT_EXISTS, "rack", NULL, true},
               {BLX_MATCH_OP_GREATER, "size", "9", true},     {BLX_MATCH_OP_GREATER, "size", "10", false},
               {BLX_MATCH_OP_LESS, "size", "11", true},       {BLX_MATCH_OP_LESS, "size", "-1", false},
               {BLX_MATCH_OP_LESS, "zone", "11", false},      {BLX_MATCH_OP_GREATER, "rack", "-5", false},
               {BLX_MATCH_OP_IN, "node.name", "node2", true}, {BLX_MATCH_OP_IN, "host", "node2", true}};
  struct blx_label zone = {.key = "zone", .value = "a"}, size = {.key = "size", .value = "10"};
  struct blx_label *labels[] = {&zone, &size};
  struct blx__placement_node n = node2();
  n.labels = labels;
  n.n_labels = 2;
  for (size_t i = 0; i < BLX__COUNT(cases); i++) {
    const char *values[] = {"x", cases[i].value};
    bool list = cases[i].op == BLX_MATCH_OP_IN || cases[i].op == BLX_MATCH_OP_NOT_IN;
    struct blx_node_match m = {.key = cases[i].key, .op = cases[i].op, .values = list ? values : values + 1};
    m.n_values = !cases[i].value ? 0 : list ? 2 : 1;
    ck_assert_msg(blx__placement_matches(&n, &m) == cases[i].holds, "case %zu", i);
  }
}
END_TEST

START_TEST(a_taint__keeps_away_what_does_not_tolerate_it) {
  struct blx_taint spot = {.key = "spot", .value = "yes"}, *taints[] = {&spot};
  struct blx_toleration t = {.key = "spot"}, *tolerations[] = {&t};
  struct blx__placement_node n = node2();
  struct blx__placement_need need = small;
  n.taints = taints;
  n.n_taints = 1;
  ck_assert_str_eq(sentence(&n, &need), "node2 has the taint spot=yes, which is not tolerated");
  need.tolerations = tolerations;
  need.n_tolerations = 1;
  ck_assert_uint_eq(obstacles(&n, &need, NULL), 0);
  t.has_value = 1;
  t.value = "no";
  ck_assert_uint_eq(obstacles(&n, &need, NULL), BIT(TAINT));
  t.key = "";
  t.has_value = 0;
  ck_assert_uint_eq(obstacles(&n, &need, NULL), 0);
  spot.effect = BLX_TAINT_EFFECT_AVOID;
  need.n_tolerations = 0;
  ck_assert_uint_eq(obstacles(&n, &need, NULL), 0);
  ck_assert_ptr_eq(blx__placement_taint(&n, &need, BLX_TAINT_EFFECT_AVOID), &spot);
}
END_TEST

START_TEST(a_named_resource__must_be_there_and_free) {
  struct blx__placement_amount has[] = {{"gpu", 4, 3}};
  struct blx_amount wants = {.name = "gpu", .amount = 2}, *wanted[] = {&wants};
  struct blx__placement_node n = node2();
  struct blx__placement_need need = small;
  need.named = wanted;
  need.n_named = 1;
  ck_assert_str_eq(sentence(&n, &need), "node2 has no gpu");
  n.named = has;
  n.n_named = 1;
  ck_assert_str_eq(sentence(&n, &need), "node2 has 1 gpu free, 2 needed: 1 short");
  has[0].allocated = 2;
  ck_assert_uint_eq(obstacles(&n, &need, NULL), 0);
  wants.name = "disk/fast"; /* a pool that is asked for without a measure must be reached */
  wants.amount = 0;
  ck_assert_uint_eq(obstacles(&n, &need, NULL), BIT(RESOURCE));
}
END_TEST

START_TEST(what_is_around__counts_for_affinity_spread_quota_and_survival) {
  struct blx_vm_affinity near = {.level = "host"}, *rules[] = {&near};
  struct blx_vm_spread spread = {.level = "host", .max_per_domain = 2}, *spreads[] = {&spread};
  struct blx_quota quota = {.has_node_instances = 1, .node_instances = 3};
  struct blx__placement_around a = {.itself = {true}};
  struct blx__placement_node n = node2();
  struct blx__placement_need need = small;
  need.affinity = rules;
  need.n_affinity = 1;
  need.spread = spreads;
  need.n_spread = 1;
  need.quota = &quota;
  ck_assert_uint_eq(obstacles(&n, &need, &a), 0); /* the first of its kind */
  a.anywhere[0] = 1;
  ck_assert_uint_eq(obstacles(&n, &need, &a), BIT(AFFINITY));
  a.near[0] = 1;
  ck_assert_uint_eq(obstacles(&n, &need, &a), 0);
  near.apart = 1;
  a.replicas[0] = 2;
  a.tenant_instances = 3;
  a.short_places = 4;
  ck_assert_uint_eq(obstacles(&n, &need, &a), BIT(ANTI_AFFINITY) | BIT(DOMAIN_FULL) | BIT(NODE_QUOTA) | BIT(SURVIVE));
  a = (struct blx__placement_around){.unwanted_by = "db"};
  ck_assert_uint_eq(obstacles(&n, &need, &a), BIT(ANTI_AFFINITY));
  near.weight = 50;
  a = (struct blx__placement_around){.near = {3}};
  ck_assert_uint_eq(obstacles(&n, &need, &a), 0);
}
END_TEST

START_TEST(processors__count_in_thousandths_and_are_said_in_vcpus) {
  struct blx__placement_node n = node2();
  struct blx__placement_need need = small;
  need.cpu_milli = 2250;
  n.allocated_cpu_milli = 1750;
  ck_assert_uint_eq(obstacles(&n, &need, NULL), 0);
  n.allocated_cpu_milli = 2500;
  ck_assert_str_eq(sentence(&n, &need), "node2 has 1.5 vCPUs free, 2.25 needed: 0.75 vCPUs short");
}
END_TEST

START_TEST(a_spec__is_refused_when_its_parts_mean_nothing_together) {
  struct blx_strategy_weight part = {.strategy = BLX_STRATEGY_BEST_FIT, .weight = 1}, *parts[] = {&part, &part};
  struct blx_near near = {.vm = "db", .node = "node1"}, *nears[] = {&near};
  struct blx_node_match m = {.key = "zone", .op = BLX_MATCH_OP_GREATER}, *matches[] = {&m};
  struct blx_vm_spec s = BLX_VM_SPEC_INIT;
  blx_error err;
  s.strategy = BLX_STRATEGY_COMBINED;
  ck_assert_int_eq(blx__placement_spec_check(&s, &err).code, BLX_E_INVALID);
  s.strategies = parts;
  s.n_strategies = 1;
  ck_assert_int_eq(blx__placement_spec_check(&s, &err).code, 0);
  s.n_strategies = 2;
  ck_assert_int_eq(blx__placement_spec_check(&s, &err).code, BLX_E_INVALID);
  s.n_strategies = 1;
  s.strategy = BLX_STRATEGY_BEST_FIT;
  ck_assert_int_eq(blx__placement_spec_check(&s, &err).code, BLX_E_INVALID);
  s.n_strategies = 0;
  s.near = nears;
  s.n_near = 1;
  ck_assert_int_eq(blx__placement_spec_check(&s, &err).code, BLX_E_INVALID);
  near.node = NULL;
  ck_assert_int_eq(blx__placement_spec_check(&s, &err).code, 0);
  s.constraints = matches;
  s.n_constraints = 1;
  ck_assert_int_eq(blx__placement_spec_check(&s, &err).code, BLX_E_INVALID);
  ck_assert_str_eq(err.message, "constraints[0].values: Greater and Less need one whole number");
}
END_TEST

BLX_TEST_MAIN("placement/feasible", every_obstacle__is_said_not_only_the_first,
              conditions__compare_labels_as_their_names_say, a_taint__keeps_away_what_does_not_tolerate_it,
              a_named_resource__must_be_there_and_free, what_is_around__counts_for_affinity_spread_quota_and_survival,
              processors__count_in_thousandths_and_are_said_in_vcpus,
              a_spec__is_refused_when_its_parts_mean_nothing_together,
              a_node_with_room__takes_exactly_what_is_left_and_no_mib_more,
              a_full_node__is_refused_with_the_missing_memory, a_full_node__is_refused_with_the_missing_vcpus,
              a_node_whose_capacity_was_lowered__has_nothing_free, a_cordoned_node__is_refused_as_such,
              a_missing_hypervisor__is_named, a_selector__needs_every_label_with_its_value,
              ha__needs_a_killer_and_for_auto_something_that_resets_the_machine, a_fenced_node__takes_nothing_at_all)
