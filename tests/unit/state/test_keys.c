#include "../harness.h"
#include "support.h"

#include <string.h>

START_TEST(the_same_request_again__gets_the_same_answer_and_does_nothing) {
  struct t t;
  t_open_cluster(&t, 1);
  t.request_id = "r1";
  t.digest = "one";
  T_SHALL(0, t_create_named(&t, "web", 2));
  uint64_t uid = t.result.uid, index = t.result.index;
  T_SHALL(0, t_create_named(&t, "web", 2));
  ck_assert_uint_eq(t.result.uid, uid);
  ck_assert_uint_eq(t.result.index, index);
  ck_assert_uint_lt(index, t.index);
  ck_assert_uint_eq(blx__state_counts(t.st).vms, 1);
  t_close(&t);
}
END_TEST

START_TEST(a_refusal__is_kept_too) {
  struct t t;
  t_open_cluster(&t, 1);
  t.request_id = "r1";
  t.digest = "one";
  T_SHALL(BLX_E_NOT_FOUND, t_delete(&t, "web"));
  t.request_id = NULL;
  T_SHALL(0, t_create_named(&t, "web", 1));
  t.request_id = "r1";
  T_SHALL(BLX_E_NOT_FOUND, t_delete(&t, "web"));
  T_SAYS("there is no VM named web");
  t_close(&t);
}
END_TEST

/* Whoever proposes a VM may leave out a config that the cluster holds, and it may be gone when its turn comes. */
START_TEST(a_config_that_is_missing__is_put_and_the_same_request_goes_through) {
  struct t t;
  char sha256[65], none[65];
  t_open_cluster(&t, 1);
  memset(none, 'a', 64);
  none[64] = '\0';
  T_SHALL(0, t_config(&t, "{ }", sha256));
  t.request_id = "r1";
  t.digest = "one";
  struct blx_vm_spec spec = t_spec("web", 1);
  spec.config_sha256 = none;
  T_SHALL(BLX_E_STALE, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  spec.config_sha256 = sha256;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  uint64_t uid = t.result.uid;
  spec.config_sha256 = none;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  ck_assert_uint_eq(t.result.uid, uid);
  t_close(&t);
}
END_TEST

START_TEST(another_request_under_a_used_key__is_a_conflict) {
  struct t t;
  t_open_cluster(&t, 1);
  t.request_id = "r1";
  t.digest = "one";
  T_SHALL(0, t_create_named(&t, "web", 1));
  t.digest = "two";
  T_SHALL(BLX_E_CONFLICT, t_create_named(&t, "db", 1));
  T_SAYS("request id r1 was used for a different request: choose a new one for this request");
  ck_assert_ptr_null(t_vm(&t, "db"));
  t.tenant = "blue";
  T_SHALL(0, t_create_named(&t, "db", 1));
  t_close(&t);
}
END_TEST

static int create_with_key(struct t *t, const char *key) {
  t->request_id = key;
  t->digest = "same";
  return t_create_named(t, key, 0);
}

static void open_small(struct t *t) {
  t_open(t, 2);
  ck_assert_int_eq(t_init(t), 0);
}

START_TEST(a_full_table__gives_up_its_oldest_key_only_after_ten_minutes) {
  struct t t;
  open_small(&t);
  T_SHALL(0, create_with_key(&t, "a"));
  t.time_ms += 1000;
  T_SHALL(0, create_with_key(&t, "b"));
  T_SHALL(BLX_E_BUSY, create_with_key(&t, "c"));
  T_SHALL(0, create_with_key(&t, "a"));
  ck_assert_ptr_null(t_vm(&t, "c"));
  t.time_ms += BLX__STATE_KEY_SAFE_MS - 1001;
  T_SHALL(BLX_E_BUSY, create_with_key(&t, "c"));
  t.time_ms += 1;
  T_SHALL(0, create_with_key(&t, "c"));
  T_SHALL(0, create_with_key(&t, "b"));
  T_SHALL(BLX_E_BUSY, create_with_key(&t, "a"));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_key__is_kept_a_day) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, create_with_key(&t, "a"));
  t.time_ms += BLX__STATE_KEY_KEPT_MS - 1;
  T_SHALL(0, create_with_key(&t, "b"));
  T_SHALL(0, create_with_key(&t, "a"));
  t.time_ms += 1;
  T_SHALL(0, create_with_key(&t, "c"));
  T_SHALL(BLX_E_EXISTS, create_with_key(&t, "a"));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(keys__survive_a_snapshot) {
  struct t t, u;
  t_open_cluster(&t, 1);
  T_SHALL(0, create_with_key(&t, "a"));
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  t_open(&u, 0);
  ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  u.index = t.index;
  ck_assert_int_eq(create_with_key(&u, "a"), 0);
  ck_assert_uint_eq(u.result.index, t.result.index);
  blx__buf_free(&b);
  t_close(&u);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/keys", the_same_request_again__gets_the_same_answer_and_does_nothing, a_refusal__is_kept_too,
              a_config_that_is_missing__is_put_and_the_same_request_goes_through,
              another_request_under_a_used_key__is_a_conflict,
              a_full_table__gives_up_its_oldest_key_only_after_ten_minutes, a_key__is_kept_a_day,
              keys__survive_a_snapshot)
