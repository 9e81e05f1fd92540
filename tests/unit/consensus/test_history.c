#include "../harness.h"
#include "../../sim/history.h"

#include "base/rc.h"

static bool sound(struct history_event *events, size_t count) {
  char why[HISTORY_TEXT] = "";
  bool ok = history_check(events, count, why);
  ck_assert(ok == (why[0] == '\0'));
  return ok;
}
#define SOUND(...) sound((struct history_event[]){__VA_ARGS__}, BLX__COUNT(((struct history_event[]){__VA_ARGS__})))

START_TEST(a_history__in_order_is_linearizable) {
  ck_assert(SOUND({1, 2, 10, true}, {3, 4, 10, false}, {5, 6, 11, true}, {7, 8, 11, false}));
  ck_assert(sound(NULL, 0));
}
END_TEST

START_TEST(a_history__of_overlapping_operations_may_go_either_way) {
  ck_assert(SOUND({1, 10, 5, true}, {2, 3, 5, false})); /* the read saw it before it was acknowledged */
  ck_assert(SOUND({1, 10, 5, true}, {2, 3, 4, false})); /* or did not */
  ck_assert(SOUND({1, 10, 6, true}, {2, 9, 5, true}));  /* the later one first */
  ck_assert(SOUND({1, UINT64_MAX, 9, true}, {2, 3, 4, false}, {4, 5, 9, false})); /* unknown, and took place */
}
END_TEST

START_TEST(a_history__with_a_stale_read_is_rejected) {
  ck_assert(!SOUND({1, 2, 10, true}, {3, 4, 9, false}));
}
END_TEST

START_TEST(a_history__whose_reads_go_back_is_rejected) {
  ck_assert(!SOUND({1, 20, 10, true}, {2, 3, 10, false}, {4, 5, 9, false}));
}
END_TEST

START_TEST(a_history__with_a_write_before_one_that_was_answered_is_rejected) {
  ck_assert(!SOUND({1, 2, 10, true}, {3, 4, 8, true}));
  ck_assert(!SOUND({1, 2, 10, false}, {3, 4, 10, true})); /* a read saw it before it was asked for */
  ck_assert(!SOUND({1, 2, 10, true}, {3, UINT64_MAX, 7, true}));
}
END_TEST

START_TEST(a_history__given_in_any_order_is_checked_the_same) {
  ck_assert(!SOUND({3, 4, 9, false}, {1, 2, 10, true}));
  ck_assert(SOUND({3, 4, 10, false}, {1, 2, 10, true}));
}
END_TEST

BLX_TEST_MAIN("consensus/history", a_history__in_order_is_linearizable,
              a_history__of_overlapping_operations_may_go_either_way, a_history__with_a_stale_read_is_rejected,
              a_history__whose_reads_go_back_is_rejected,
              a_history__with_a_write_before_one_that_was_answered_is_rejected,
              a_history__given_in_any_order_is_checked_the_same)
