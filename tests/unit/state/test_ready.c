#include "../harness.h"
#include "support.h"

static void create(struct t *t, const char *name, uint32_t replicas, uint32_t priority) {
  struct blx_vm_spec spec = t_spec(name, replicas);
  spec.priority = priority;
  ck_assert_int_eq(t_create(t, &spec, BLX_DESIRED_RUNNING), 0);
}

/* Their names with a blank before each. */
static void names(const struct t *t, uint64_t now_ms, char out[256]) {
  struct blx__state_ready at = {0};
  const struct blx_instance *i;
  out[0] = '\0';
  for (size_t n = 0; (i = blx__state_ready_next(t->st, now_ms, &at)) != NULL; n += strlen(out + n))
    ck_assert(blx__str_format(out + n, 256 - n, " %s", i->name));
}

START_TEST(those_that_wait__come_by_priority_then_by_uid) {
  struct t t;
  char seen[256];
  t_open_cluster(&t, 1);
  names(&t, t.time_ms, seen);
  ck_assert_str_eq(seen, "");
  create(&t, "low", 2, 0);
  create(&t, "high", 1, 1000);
  create(&t, "mid", 2, 7);
  names(&t, t.time_ms, seen);
  ck_assert_str_eq(seen, " high-1 mid-1 mid-2 low-1 low-2");
  T_SHALL(0, t_assign(&t, "mid-1", 1));
  names(&t, t.time_ms, seen);
  ck_assert_str_eq(seen, " high-1 mid-2 low-1 low-2");
  t_close(&t);
}
END_TEST

START_TEST(those_that_back_off__come_when_they_are_due_and_only_then) {
  struct t t;
  char seen[256];
  t_open_cluster(&t, 1);
  create(&t, "high", 2, 9);
  create(&t, "low", 1, 0);
  T_SHALL(0, t_assign(&t, "high-1", 1));
  T_SHALL(0, t_report(&t, "high-1", (struct t_seen){.phase = BLX_PHASE_FAILED, .dead = true}));
  uint64_t due_ms = t_instance(&t, "high-1")->not_before_ms;
  ck_assert_uint_gt(due_ms, t.time_ms);
  names(&t, t.time_ms, seen);
  ck_assert_str_eq(seen, " high-2 low-1");
  ck_assert_uint_eq(blx__state_next_due_ms(t.st, t.time_ms), due_ms);
  ck_assert_uint_eq(blx__state_next_due_ms(t.st, due_ms), 0);
  names(&t, due_ms - 1, seen);
  ck_assert_str_eq(seen, " high-2 low-1");
  names(&t, due_ms, seen);
  ck_assert_str_eq(seen, " high-2 high-1 low-1");
  t_close(&t);
}
END_TEST

START_TEST(a_place__stays_good_while_those_before_it_are_placed) {
  struct t t;
  struct blx__state_ready at = {0};
  t_open_cluster(&t, 1);
  create(&t, "web", 3, 5);
  create(&t, "job", 1, 4);
  ck_assert_str_eq(blx__state_ready_next(t.st, t.time_ms, &at)->name, "web-1");
  T_SHALL(0, t_assign(&t, "web-1", 1));
  ck_assert_str_eq(blx__state_ready_next(t.st, t.time_ms, &at)->name, "web-2");
  T_SHALL(0, t_delete(&t, "web"));
  ck_assert_str_eq(blx__state_ready_next(t.st, t.time_ms, &at)->name, "job-1");
  ck_assert_ptr_null(blx__state_ready_next(t.st, t.time_ms, &at));
  ck_assert_ptr_null(blx__state_ready_next(t.st, t.time_ms, &at));
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/ready", those_that_wait__come_by_priority_then_by_uid,
              those_that_back_off__come_when_they_are_due_and_only_then,
              a_place__stays_good_while_those_before_it_are_placed)
