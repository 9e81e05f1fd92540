/* The table of uids: what is found, what went, and two uids of one hash. */
#include "../harness.h"

#include "base/digest.h"
#include "placement/fleet_int.h"

#include <stdlib.h>

enum { MANY = 200000 };

struct record {
  uint64_t uid, other;
};

static struct record *records;
static struct fleet_ids ids;

static void open_records(void) {
  records = calloc(MANY, sizeof *records);
  ck_assert(records != NULL);
  ids = (struct fleet_ids){.room = 0};
  fleet_ids_of(&ids, records, sizeof *records);
}

static void close_records(void) {
  fleet_ids_free(&ids);
  free(records);
}

static void put(uint32_t slot, uint64_t uid) {
  records[slot].uid = uid;
  ck_assert(fleet_ids_set(&ids, uid, slot));
}

static int by_size(const void *left, const void *right) {
  const uint32_t *a = left, *b = right;
  return *a < *b ? -1 : *a > *b;
}

/* How many of the uids up to MANY have a hash that another one has. */
static size_t hashes_twice(void) {
  uint32_t *hashes = calloc(MANY, sizeof *hashes);
  size_t twice = 0;
  ck_assert(hashes != NULL);
  for (uint32_t i = 0; i < MANY; i++) hashes[i] = (uint32_t)blx__mix64(i + 1);
  qsort(hashes, MANY, sizeof *hashes, by_size);
  for (uint32_t i = 1; i < MANY; i++) twice += hashes[i] == hashes[i - 1];
  free(hashes);
  return twice;
}

START_TEST(without_any__nothing_is_found) {
  open_records();
  ck_assert_uint_eq(fleet_ids_get(&ids, 1), FLEET_NONE);
  fleet_ids_remove(&ids, 1);
  ck_assert(fleet_ids_reserve(&ids, 1));
  fleet_ids_remove(&ids, 1);
  ck_assert_uint_eq(fleet_ids_get(&ids, 0), FLEET_NONE);
  ck_assert_uint_eq(ids.count, 0);
  close_records();
}
END_TEST

/* Uids of one hash are told apart by their records. */
START_TEST(of_many__each_is_found_and_those_that_went_are_not) {
  open_records();
  ck_assert_uint_gt(hashes_twice(), 0);
  for (uint32_t i = 0; i < MANY; i++) put(i, i + 1);
  for (uint32_t i = 0; i < MANY; i++) ck_assert_uint_eq(fleet_ids_get(&ids, i + 1), i);
  ck_assert_uint_eq(fleet_ids_get(&ids, MANY + 1), FLEET_NONE);
  for (uint32_t i = 0; i < MANY; i += 2) {
    fleet_ids_remove(&ids, i + 1);
    records[i].uid = 0;
  }
  ck_assert_uint_eq(ids.count, MANY / 2);
  for (uint32_t i = 0; i < MANY; i++) ck_assert_uint_eq(fleet_ids_get(&ids, i + 1), i % 2 ? i : FLEET_NONE);
  fleet_ids_clear(&ids);
  ck_assert_uint_eq(fleet_ids_get(&ids, 2), FLEET_NONE);
  close_records();
}
END_TEST

START_TEST(records_may_move) {
  struct record moved[2];
  open_records();
  put(0, 7);
  put(1, 9);
  moved[0] = records[0];
  moved[1] = records[1];
  records[0].uid = records[1].uid = 0;
  fleet_ids_of(&ids, moved, sizeof *moved);
  ck_assert_uint_eq(fleet_ids_get(&ids, 7), 0);
  ck_assert_uint_eq(fleet_ids_get(&ids, 9), 1);
  close_records();
}
END_TEST

START_TEST(what_was_reserved__is_there) {
  open_records();
  ck_assert(fleet_ids_reserve(&ids, 1000));
  size_t room = ids.room;
  for (uint32_t i = 0; i < 1000; i++) put(i, i + 1);
  ck_assert_uint_eq(ids.room, room);
  close_records();
}
END_TEST

BLX_TEST_MAIN("placement/ids", without_any__nothing_is_found, of_many__each_is_found_and_those_that_went_are_not,
              records_may_move, what_was_reserved__is_there)
