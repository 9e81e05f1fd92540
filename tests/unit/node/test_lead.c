/* Cluster time, whatever the clock on the wall says. */
#include "../harness.h"

#include "node/node_int.h"

enum { WALL_MS = 1700000000 };

START_TEST(cluster_time__begins_with_the_wall) {
  struct blx__lead_clock c = {0};
  ck_assert_uint_eq(blx__lead_clock_read(&c, 5, WALL_MS), WALL_MS);
}
END_TEST

START_TEST(cluster_time__goes_on_when_the_wall_was_set_back) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, WALL_MS);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 1000, WALL_MS - 3600000), WALL_MS);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 11000, WALL_MS - 3600000), WALL_MS + 9000);
}
END_TEST

START_TEST(cluster_time__comes_to_a_wall_set_forward_a_tenth_faster) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, WALL_MS);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 11000, WALL_MS + 3600000), WALL_MS + 11000);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 11000, WALL_MS + 10500), WALL_MS + 10500);
}
END_TEST

START_TEST(cluster_time__does_not_lose_what_commits_take) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, WALL_MS);
  /* Always one entry under way, 5 ms each: proposed when the one before is applied. */
  for (uint64_t now = 1000; now < 61000; now += 5) {
    uint64_t stamp = blx__lead_clock_read(&c, now, WALL_MS + (now - 1000));
    blx__lead_clock_seen(&c, true, stamp, now + 5, WALL_MS + (now - 995));
  }
  ck_assert_uint_eq(blx__lead_clock_read(&c, 61000, WALL_MS + 60000), WALL_MS + 60000);
}
END_TEST

START_TEST(wall_set_after_a_day__does_not_count_for_the_day) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, WALL_MS);
  uint64_t day = 86400000, wall = WALL_MS + day;
  blx__lead_clock_seen(&c, true, wall, 1000 + day, wall);
  ck_assert_uint_le(blx__lead_clock_read(&c, 1000 + day + 500, wall + 3600000), wall + 550);
}
END_TEST

START_TEST(follower__takes_the_leaders_time_as_it_is) {
  struct blx__lead_clock c = {0};
  blx__lead_clock_seen(&c, false, WALL_MS, 1000, WALL_MS + 3600000);
  blx__lead_clock_seen(&c, false, WALL_MS + 60000, 61000, WALL_MS + 3660000);
  ck_assert_uint_eq(blx__lead_clock_read(&c, 61000, WALL_MS + 3660000), WALL_MS + 60000);
}
END_TEST

BLX_TEST_MAIN("lead", cluster_time__begins_with_the_wall, cluster_time__goes_on_when_the_wall_was_set_back,
              cluster_time__comes_to_a_wall_set_forward_a_tenth_faster, cluster_time__does_not_lose_what_commits_take,
              wall_set_after_a_day__does_not_count_for_the_day, follower__takes_the_leaders_time_as_it_is)
