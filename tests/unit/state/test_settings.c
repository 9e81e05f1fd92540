/* What holds for the whole cluster. */
#include "../harness.h"
#include "support.h"

#include "lease/lease.h"

#include <string.h>

static int set(struct t *t, const struct blx_lease_settings *lease, const char *nixpkgs, uint64_t if_revision) {
  struct blx_lease_settings copy = lease ? *lease : blx__lease_defaults();
  struct blx_op_settings_set o = BLX_OP_SETTINGS_SET_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.lease = lease ? &copy : NULL;
  o.nixpkgs_ref = nixpkgs;
  o.set_nixpkgs = nixpkgs != NULL;
  o.if_revision = if_revision;
  op.settings_set = &o;
  return t_apply(t, &op);
}

START_TEST(unset__they_are_the_defaults_and_not_in_a_snapshot) {
  struct t t;
  t_open_cluster(&t, 1);
  const struct blx_settings *s = blx__state_settings(t.st);
  ck_assert_uint_eq(s->revision, 0);
  ck_assert_uint_eq(s->lease->lease_ms, 20000);
  t_close(&t);
}
END_TEST

START_TEST(set__changes_what_is_given_and_nothing_else) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, set(&t, NULL, "github:NixOS/nixpkgs/abc", 0));
  const struct blx_settings *s = blx__state_settings(t.st);
  ck_assert_str_eq(s->nixpkgs_ref, "github:NixOS/nixpkgs/abc");
  ck_assert_uint_eq(s->lease->lease_ms, 20000);
  ck_assert_ptr_null(s->lease_before);
  uint64_t revision = s->revision;
  ck_assert_uint_eq(revision, t.index);
  T_SHALL(BLX_E_STALE, set(&t, NULL, "", revision - 1));
  T_SHALL(0, set(&t, NULL, "", revision));
  ck_assert_str_eq(blx__state_settings(t.st)->nixpkgs_ref ? blx__state_settings(t.st)->nixpkgs_ref : "", "");
  t_close(&t);
}
END_TEST

START_TEST(leases__change_again_only_when_those_of_two_changes_ago_have_ended) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_lease_settings fast = blx__lease_scaled(2000), slow = blx__lease_scaled(40000);
  T_SHALL(0, set(&t, &fast, NULL, 0));
  ck_assert_uint_eq(blx__state_settings(t.st)->lease_before->lease_ms, 20000);
  T_SHALL(0, set(&t, &fast, NULL, 0));
  T_SHALL(BLX_E_BUSY, set(&t, &slow, NULL, 0));
  ck_assert_ptr_nonnull(strstr(t.result.message, "change them again in "));
  t.time_ms += 33150ULL * 9 / 8 + 1;
  T_SHALL(0, set(&t, &slow, NULL, 0));
  ck_assert_uint_eq(blx__state_settings(t.st)->lease_before->lease_ms, 2000);
  t_close(&t);
}
END_TEST

START_TEST(leases__that_contradict_themselves_are_refused) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_lease_settings bad = blx__lease_defaults();
  bad.kill_ms = 20000;
  T_SHALL(BLX_E_INVALID, set(&t, &bad, NULL, 0));
  ck_assert_uint_eq(blx__state_settings(t.st)->revision, 0);
  t_close(&t);
}
END_TEST

START_TEST(a_snapshot__keeps_them) {
  struct t t, back;
  struct blx__buf b;
  blx_error err;
  t_open_cluster(&t, 1);
  struct blx_lease_settings fast = blx__lease_scaled(2000);
  T_SHALL(0, set(&t, &fast, "x:y", 0));
  blx__buf_init(&b, 1 << 20);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, &err).code, 0);
  t_open(&back, 0);
  ck_assert_int_eq(blx__state_restore(back.st, (struct blx__slice){b.data, b.len}, &err).code, 0);
  const struct blx_settings *s = blx__state_settings(back.st);
  ck_assert_uint_eq(s->lease->lease_ms, 2000);
  ck_assert_uint_eq(s->lease_before->lease_ms, 20000);
  ck_assert_str_eq(s->nixpkgs_ref, "x:y");
  ck_assert_uint_eq(s->revision, blx__state_settings(t.st)->revision);
  blx__buf_free(&b);
  t_close(&back);
  t_close(&t);
}
END_TEST

START_TEST(disarmed__for_a_while_and_leases_given_meanwhile_are_waited_for) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_disarm(&t, 0));
  ck_assert_uint_eq(blx__state_settings(t.st)->revision, 0);
  uint64_t until = t.time_ms + 1800000;
  T_SHALL(0, t_disarm(&t, 1800000));
  const struct blx_settings *s = blx__state_settings(t.st);
  ck_assert_uint_eq(s->disarmed_until_ms, until);
  ck_assert_str_eq(s->disarmed_by, "uid:1000");
  ck_assert_str_eq(s->disarm_reason, "a new switch");
  ck_assert_uint_eq(s->extended_until_ms, until + 33150 + 225000);
  t.time_ms += 1000;
  T_SHALL(0, t_disarm(&t, 60000)); /* shorter: the leases that are out stay as long as they are */
  s = blx__state_settings(t.st);
  ck_assert_uint_eq(s->disarmed_until_ms, t.time_ms + 60000);
  ck_assert_uint_eq(s->extended_until_ms, until + 33150 + 225000);
  T_SHALL(0, t_disarm(&t, 0));
  s = blx__state_settings(t.st);
  ck_assert_uint_eq(s->disarmed_until_ms, 0);
  ck_assert_ptr_null(s->disarm_reason);
  ck_assert_uint_eq(s->extended_until_ms, until + 33150 + 225000);
  t_close(&t);
}
END_TEST

START_TEST(leases__made_longer_while_disarmed_are_waited_for_after_that) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_lease_settings slow = blx__lease_scaled(400000), fast = blx__lease_scaled(2000);
  uint64_t until = t.time_ms + 1800000;
  T_SHALL(0, t_disarm(&t, 1800000));
  ck_assert_uint_eq(blx__state_settings(t.st)->extended_until_ms, until + 33150 + 225000);
  t.time_ms += 800000;
  T_SHALL(0, set(&t, &slow, NULL, 0));
  uint64_t waits = until + blx__lease_t_safe_ms(&slow, 0) + (until - t.time_ms) / 8;
  ck_assert_uint_gt(waits, until + 33150 + 225000);
  ck_assert_uint_eq(blx__state_settings(t.st)->extended_until_ms, waits);
  t.time_ms += blx__lease_t_safe_ms(&slow, 0) * 9 / 8 + 1;
  T_SHALL(0, set(&t, &fast, NULL, 0)); /* those that are out stay as long as they are */
  ck_assert_uint_eq(blx__state_settings(t.st)->extended_until_ms, waits);
  t.time_ms = waits;
  T_SHALL(0, set(&t, &slow, NULL, 0)); /* armed again: it is another's affair */
  ck_assert_uint_eq(blx__state_settings(t.st)->extended_until_ms, waits);
  t_close(&t);
}
END_TEST

START_TEST(t_safe__is_the_longer_of_the_settings_and_of_those_before) {
  struct t t;
  t_open_cluster(&t, 1);
  ck_assert_uint_eq(blx__state_t_safe_ms(t.st, 0), 33150);
  struct blx_lease_settings fast = blx__lease_scaled(2000);
  T_SHALL(0, set(&t, &fast, NULL, 0));
  ck_assert_uint_eq(blx__state_t_safe_ms(t.st, 0), 33150);
  ck_assert_uint_eq(blx__state_t_safe_ms(t.st, 100000), 113550);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/settings", unset__they_are_the_defaults_and_not_in_a_snapshot,
              set__changes_what_is_given_and_nothing_else,
              leases__change_again_only_when_those_of_two_changes_ago_have_ended,
              leases__that_contradict_themselves_are_refused, a_snapshot__keeps_them,
              disarmed__for_a_while_and_leases_given_meanwhile_are_waited_for,
              leases__made_longer_while_disarmed_are_waited_for_after_that,
              t_safe__is_the_longer_of_the_settings_and_of_those_before)
