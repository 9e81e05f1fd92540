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

BLX_TEST_MAIN("placement/feasible", a_node_with_room__takes_exactly_what_is_left_and_no_mib_more,
              a_full_node__is_refused_with_the_missing_memory, a_full_node__is_refused_with_the_missing_vcpus,
              a_node_whose_capacity_was_lowered__has_nothing_free, a_cordoned_node__is_refused_as_such,
              a_missing_hypervisor__is_named, a_selector__needs_every_label_with_its_value,
              ha__needs_a_killer_and_for_auto_something_that_resets_the_machine, a_fenced_node__takes_nothing_at_all)
