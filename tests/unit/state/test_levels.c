/* The levels that affinity and spread name: so many in a cluster, and no more. */
#include "../harness.h"
#include "state/state_int.h"
#include "support.h"

enum { MOST = BLX__PLACEMENT_LEVELS_MAX };

/* A VM whose affinity and spread name level<from>, one after another, @n of them. */
static int create(struct t *t, const char *name, unsigned from, unsigned n) {
  struct blx_vm_affinity rules[BLX__PLACEMENT_AFFINITY_MAX], *affinity[BLX__PLACEMENT_AFFINITY_MAX];
  struct blx_vm_spread more[BLX__PLACEMENT_SPREAD_MAX], *spread[BLX__PLACEMENT_SPREAD_MAX];
  char names[BLX__PLACEMENT_AFFINITY_MAX + BLX__PLACEMENT_SPREAD_MAX][16];
  struct blx_vm_spec spec = t_spec(name, 1);
  for (unsigned i = 0; i < n; i++) {
    blx__str_format(names[i], sizeof names[i], "level%u", from + i);
    if (i < BLX__PLACEMENT_SPREAD_MAX) {
      more[i] = (struct blx_vm_spread)BLX_VM_SPREAD_INIT;
      more[i].level = names[i];
      more[i].max_skew = 1;
      spread[spec.n_spread++] = &more[i];
    } else {
      struct blx_vm_affinity *rule = &rules[spec.n_affinity];
      *rule = (struct blx_vm_affinity)BLX_VM_AFFINITY_INIT;
      rule->level = names[i];
      rule->weight = i % 2; /* hard, and preferred */
      affinity[spec.n_affinity++] = rule;
    }
  }
  spec.spread = spread;
  spec.affinity = affinity;
  return t_create(t, &spec, BLX_DESIRED_RUNNING);
}

/* All there can be, of VMs level0, level8, ... with eight each. */
static void open_full(struct t *t) {
  t_open_cluster(t, 2);
  for (unsigned at = 0; at < MOST; at += 8) {
    char name[16];
    blx__str_format(name, sizeof name, "vm%u", at);
    ck_assert_int_eq(create(t, name, at, 8), 0);
  }
}

START_TEST(a_level_above_the_most__is_refused_with_the_numbers_until_one_is_free) {
  struct t t;
  open_full(&t);
  T_SHALL(BLX_E_QUOTA, create(&t, "new", MOST - 1, 2));
  T_SAYS("the affinity and spread of the cluster's VMs name 64 levels, 64 is the most, and new needs 1 more (level64): "
         "name one that another VM names, or delete the VMs that name one of them");
  blx_error err = {0};
  struct blx_vm_spec plain = t_spec("plain", 1);
  ck_assert_int_eq(blx__state_may_create(t.st, NULL, &plain, &err).code, 0);
  T_SHALL(0, create(&t, "same", 0, 12)); /* of those that there are */
  T_SHALL(0, t_delete(&t, "vm8"));       /* whose first four are named by another one */
  T_SHALL(BLX_E_QUOTA, create(&t, "new", MOST, 5));
  T_SHALL(0, create(&t, "new", MOST, 4));
  T_SHALL(BLX_E_QUOTA, create(&t, "more", 200, 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

/* A host without a name is `host`, and one rule is enough for a level. */
START_TEST(a_level_that_is_named_twice__counts_once) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_vm_spread rules[2] = {BLX_VM_SPREAD_INIT, BLX_VM_SPREAD_INIT}, *spread[] = {&rules[0], &rules[1]};
  struct blx_vm_spec spec = t_spec("web", 1);
  rules[0].level = "";
  rules[1].level = "host";
  rules[0].max_skew = rules[1].max_per_domain = 1;
  spec.spread = spread;
  spec.n_spread = 2;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  ck_assert_uint_eq(t.st->data.levels.count, 1);
  T_SHALL(0, t_delete(&t, "web"));
  ck_assert_uint_eq(t.st->data.levels.count, 0);
  t_close(&t);
}
END_TEST

/* Those of its affinity, which holds as long as it may run. */
START_TEST(what_was_deleted_by_force__names_its_levels_until_it_is_dead) {
  struct t t;
  static const struct t_seen gone = {.dead = true, .gone = true};
  open_full(&t);
  T_SHALL(0, t_assign(&t, "vm0-1", 2));
  uint64_t uid = t_instance(&t, "vm0-1")->uid;
  T_SHALL(0, t_delete_force(&t, "vm0", 2));
  T_SHALL(BLX_E_QUOTA, create(&t, "new", MOST, 5));
  T_SAYS("the affinity and spread of the cluster's VMs name 60 levels, 64 is the most, and new needs 5 more (level68): "
         "name one that another VM names, or delete the VMs that name one of them");
  t_check_indexes(&t);
  T_SHALL(0, t_report_as(&t, 2, uid, 1, 1, gone));
  T_SHALL(0, create(&t, "new", MOST, 8));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/levels", a_level_above_the_most__is_refused_with_the_numbers_until_one_is_free,
              a_level_that_is_named_twice__counts_once, what_was_deleted_by_force__names_its_levels_until_it_is_dead)
