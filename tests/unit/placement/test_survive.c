#include "../harness.h"

#include "placement/survive.h"

#include <string.h>

static const struct blx__survive_shape two = {2000, 1024};

/* Of a node with so many places of the shape free and so many instances. */
static struct blx__survive_node with(uint64_t places, uint32_t instances, uint32_t domain) {
  return (struct blx__survive_node){2000 * places + 1999, 1024 * places + 1023, instances, domain};
}

START_TEST(the_smaller_of_both_resources__says_how_many_places_there_are) {
  struct blx__survive_node n = {.free_cpu_milli = 9000, .free_memory_mib = 2048};
  ck_assert_uint_eq(blx__survive_places(&n, two), 2);
  n.free_memory_mib = 1 << 20;
  ck_assert_uint_eq(blx__survive_places(&n, two), 4);
}
END_TEST

START_TEST(the_loss_of_the_worst_node__counts_its_instances_and_its_places) {
  struct blx__survive_node n[] = {with(0, 3, 0), with(2, 0, 1), with(1, 0, 2)};
  ck_assert_uint_eq(blx__survive_nodes_missing(n, 3, two, 1), 0);
  n[0].ha_instances = 4;
  ck_assert_uint_eq(blx__survive_nodes_missing(n, 3, two, 1), 1);
  ck_assert_uint_eq(blx__survive_nodes_missing(n, 3, two, 2), 3); /* and the two places of the second */
  ck_assert_uint_eq(blx__survive_nodes_missing(n, 3, two, 16), 4);
  ck_assert_uint_eq(blx__survive_nodes_missing(n, 3, two, 0), 0);
}
END_TEST

START_TEST(the_loss_of_the_worst_domain__counts_all_of_its_nodes) {
  struct blx__survive_node n[] = {with(0, 2, 0), with(0, 2, 0), with(3, 0, 1), with(0, 0, 2)};
  uint64_t scratch[4];
  ck_assert_uint_eq(blx__survive_domain_missing(n, 4, two, scratch), 1);
  n[1].domain = 2;
  ck_assert_uint_eq(blx__survive_domain_missing(n, 4, two, scratch), 0);
}
END_TEST

START_TEST(without_such_instances__everything_survives) {
  struct blx__survive_node n[] = {with(0, 0, 0)};
  const struct blx__survive_shape none = {0, 0};
  uint64_t scratch[1];
  ck_assert_uint_eq(blx__survive_nodes_missing(n, 1, none, 1), 0);
  ck_assert_uint_eq(blx__survive_domain_missing(n, 1, none, scratch), 0);
}
END_TEST

/* By trying every set of lost nodes. */
START_TEST(random_fleets__agree_with_every_set_of_nodes_that_may_be_lost) {
  uint64_t x = 1;
  for (int round = 0; round < 2000; round++) {
    struct blx__survive_node n[6];
    uint64_t worst = 0;
    for (int i = 0; i < 6; i++) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      n[i] = with(x >> 60 & 3, (uint32_t)(x >> 50 & 3), 0);
    }
    for (unsigned lost = 0; lost < 64; lost++) {
      uint64_t asked = 0, places = 0;
      if (__builtin_popcount(lost) > 2) continue;
      for (int i = 0; i < 6; i++) {
        asked += lost >> i & 1 ? n[i].ha_instances : 0;
        places += lost >> i & 1 ? 0 : blx__survive_places(&n[i], two);
      }
      if (asked > places + worst) worst = asked - places;
    }
    ck_assert_uint_eq(blx__survive_nodes_missing(n, 6, two, 2), worst);
  }
}
END_TEST

BLX_TEST_MAIN("placement/survive", the_smaller_of_both_resources__says_how_many_places_there_are,
              the_loss_of_the_worst_node__counts_its_instances_and_its_places,
              the_loss_of_the_worst_domain__counts_all_of_its_nodes, without_such_instances__everything_survives,
              random_fleets__agree_with_every_set_of_nodes_that_may_be_lost)
