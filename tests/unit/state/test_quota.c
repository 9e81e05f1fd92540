/* What tenants may have, and what they have. */
#include "../harness.h"
#include "support.h"

#include <string.h>

static struct blx_quota limits(uint32_t vms, uint32_t instances, uint32_t vcpus, uint64_t memory_mib) {
  struct blx_quota q = BLX_QUOTA_INIT;
  q.vms = vms;
  q.instances = instances;
  q.vcpus = vcpus;
  q.memory_mib = memory_mib;
  q.has_vms = vms > 0;
  q.has_instances = instances > 0;
  q.has_vcpus = vcpus > 0;
  q.has_memory_mib = memory_mib > 0;
  return q;
}

START_TEST(usage__counts_what_is_defined_running_or_not) {
  struct t t;
  t_open_cluster(&t, 1);
  ck_assert_ptr_null(blx__state_quota(t.st, NULL));
  struct blx_vm_spec spec = t_spec("web", 2);
  struct blx_amount gpu = {.struct_size = sizeof gpu, .name = "gpu", .amount = 3}, *list = &gpu;
  spec.vcpus = 2;
  spec.cpu_milli = 500;
  spec.resources = &list;
  spec.n_resources = 1;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_STOPPED));
  T_SHALL(0, t_create_named(&t, "db", 1));
  const struct blx_quota *q = blx__state_quota(t.st, "");
  ck_assert_str_eq(q->tenant, "default");
  ck_assert_uint_eq(q->revision, 0);
  ck_assert_uint_eq(q->used_vms, 2);
  ck_assert_uint_eq(q->used_instances, 3);
  ck_assert_uint_eq(q->used->vcpus, 5);
  ck_assert_uint_eq(q->used->cpu_milli, 2000);
  ck_assert_uint_eq(q->used->memory_mib, 3 * 128);
  ck_assert_uint_eq(q->used->n_named, 1);
  ck_assert_str_eq(q->used->named[0]->name, "gpu");
  ck_assert_uint_eq(q->used->named[0]->amount, 6);
  t_check_indexes(&t);
  T_SHALL(0, t_delete(&t, "web"));
  T_SHALL(0, t_delete(&t, "db"));
  ck_assert_ptr_null(blx__state_quota(t.st, NULL));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(tenants__come_by_name) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_quota q = limits(1, 0, 0, 0);
  q.tenant = "z";
  T_SHALL(0, t_quota(&t, &q));
  T_SHALL(0, t_create_named(&t, "web", 1));
  ck_assert_str_eq(blx__state_quota_after(t.st, NULL)->tenant, "default");
  ck_assert_str_eq(blx__state_quota_after(t.st, "default")->tenant, "z");
  ck_assert_ptr_null(blx__state_quota_after(t.st, "z"));
  T_SHALL(0, t_quota_remove(&t, "z"));
  ck_assert_ptr_null(blx__state_quota_after(t.st, "default"));
  t_close(&t);
}
END_TEST

START_TEST(each_limit__stops_a_new_vm_with_its_numbers) {
  struct t t;
  static const struct {
    uint32_t vms, instances, vcpus;
    uint64_t memory_mib;
    const char *says;
  } cases[] = {
      {1, 0, 0, 0,
       "tenant default has 1 of 1 VMs and new needs 1 more: delete what is not needed, or have the quota raised"},
      {2, 4, 0, 0,
       "tenant default has 2 of 4 instances and new needs 3 more: delete what is not needed, or have the quota raised"},
      {0, 5, 4, 0,
       "tenant default has 2 of 4 vCPUs and new needs 3 more: delete what is not needed, or have the quota raised"},
      {0, 0, 5, 639,
       "tenant default has 256 of 639 MiB of memory and new needs 384 more: delete what is not needed, or have the "
       "quota "
       "raised"},
  };
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 2));
  for (unsigned i = 0; i < BLX__COUNT(cases); i++) {
    struct blx_quota q = limits(cases[i].vms, cases[i].instances, cases[i].vcpus, cases[i].memory_mib);
    T_SHALL(0, t_quota(&t, &q));
    T_SHALL(BLX_E_QUOTA, t_create_named(&t, "new", 3));
    T_SAYS(cases[i].says);
  }
  struct blx_quota enough = limits(2, 5, 5, 640);
  T_SHALL(0, t_quota(&t, &enough));
  T_SHALL(0, t_create_named(&t, "new", 3));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_named_resource__has_a_limit_of_its_own) {
  struct t t;
  struct blx_amount most = {.struct_size = sizeof most, .name = "disk/ssd", .amount = 100}, *limit = &most;
  struct blx_amount amount = {.struct_size = sizeof amount, .name = "disk/ssd", .amount = 40}, *list = &amount;
  struct blx_quota q = BLX_QUOTA_INIT;
  q.named = &limit;
  q.n_named = 1;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_quota(&t, &q));
  struct blx_vm_spec spec = t_spec("web", 2);
  spec.resources = &list;
  spec.n_resources = 1;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  T_SHALL(BLX_E_QUOTA, t_scale(&t, "web", 3));
  T_SAYS("tenant default has 80 of 100 disk/ssd and web needs 40 more: delete what is not needed, or have the quota "
         "raised");
  T_SHALL(0, t_create_named(&t, "other", 5));
  t_close(&t);
}
END_TEST

START_TEST(a_limit_below_what_there_is__only_stops_more) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 3));
  struct blx_quota q = limits(0, 2, 0, 0);
  T_SHALL(0, t_quota(&t, &q));
  T_SHALL(0, t_assign(&t, "web-3", 1));
  T_SHALL(BLX_E_QUOTA, t_scale(&t, "web", 4));
  T_SAYS(
      "tenant default has 3 of 2 instances and web needs 1 more: delete what is not needed, or have the quota raised");
  T_SHALL(0, t_scale(&t, "web", 2));
  T_SHALL(BLX_E_CONFLICT, t_scale(&t, "web", 3)); /* it goes, but is not gone */
  T_SAYS("web-3 is being deleted since web was scaled to 2: its name is free when node1 confirmed");
  T_SHALL(0, t_create_named(&t, "none", 0));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_quota__is_one_tenants_and_can_be_taken_away) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_quota q = limits(1, 0, 0, 0);
  q.tenant = "a";
  T_SHALL(0, t_quota(&t, &q));
  uint64_t revision = blx__state_quota(t.st, "a")->revision;
  ck_assert_uint_eq(revision, t.index);
  ck_assert_uint_eq(blx__state_quota(t.st, "a")->vms, 1);
  t.tenant = "a";
  T_SHALL(0, t_create_named(&t, "web", 1));
  T_SHALL(BLX_E_QUOTA, t_create_named(&t, "two", 1));
  t.tenant = "b";
  T_SHALL(0, t_create_named(&t, "web", 1));
  T_SHALL(0, t_create_named(&t, "two", 1));
  T_SHALL(0, t_quota_remove(&t, "a"));
  T_SHALL(0, t_quota_remove(&t, "a"));
  ck_assert_uint_eq(blx__state_quota(t.st, "a")->revision, 0);
  t.tenant = "a";
  T_SHALL(0, t_create_named(&t, "two", 1));
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_quota_that_cannot_be__is_refused) {
  struct t t;
  t_open_cluster(&t, 1);
  struct blx_amount one = {.struct_size = sizeof one, .name = "gpu", .amount = 1}, *twice[] = {&one, &one};
  struct blx_quota q = BLX_QUOTA_INIT;
  q.named = twice;
  q.n_named = 2;
  T_SHALL(BLX_E_INVALID, t_quota(&t, &q));
  T_SAYS("quota.named: gpu is named twice");
  q = (struct blx_quota)BLX_QUOTA_INIT;
  q.tenant = "Not A Name";
  T_SHALL(BLX_E_INVALID, t_quota(&t, &q));
  struct blx_op_quota_set o = BLX_OP_QUOTA_SET_INIT;
  struct blx_op op = BLX_OP_INIT;
  op.quota_set = &o;
  T_SHALL(BLX_E_INVALID, t_apply(&t, &op));
  q = limits(1, 0, 0, 0);
  o.quota = &q;
  o.if_revision = 7;
  T_SHALL(BLX_E_STALE, t_apply(&t, &op));
  T_SAYS("the quota of default has revision 0, not 7: read it again");
  ck_assert_ptr_null(blx__state_quota(t.st, NULL));
  t_close(&t);
}
END_TEST

START_TEST(shapes__come_by_how_many_instances_have_them) {
  struct t t;
  struct blx__state_shape s[4];
  t_open_cluster(&t, 1);
  ck_assert_uint_eq(blx__state_shapes(t.st, s, 4), 0);
  struct blx_vm_spec big = t_spec("big", 2);
  big.vcpus = 4;
  big.memory_mib = 4096;
  T_SHALL(0, t_create(&t, &big, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_create_named(&t, "web", 2));
  T_SHALL(0, t_create_named(&t, "db", 1));
  struct blx_vm_spec tiny = t_spec("tiny", 2);
  tiny.cpu_milli = 250;
  T_SHALL(0, t_create(&t, &tiny, BLX_DESIRED_STOPPED));
  ck_assert_uint_eq(blx__state_shapes(t.st, s, 4), 3);
  ck_assert(s[0].cpu_milli == 1000 && s[0].memory_mib == 128 && s[0].count == 3);
  ck_assert(s[1].cpu_milli == 4000 && s[1].memory_mib == 4096 && s[1].count == 2);
  ck_assert(s[2].cpu_milli == 250 && s[2].memory_mib == 128 && s[2].count == 2);
  T_SHALL(0, t_scale(&t, "web", 0));
  ck_assert_uint_eq(blx__state_shapes(t.st, s, 2), 2);
  ck_assert(s[0].cpu_milli == 4000 && s[1].cpu_milli == 250);
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(taints__are_set_in_place_of_their_like_and_taken_away_by_key) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_taint(&t, "node1", "gpu", "a", BLX_TAINT_EFFECT_NO_PLACE));
  T_SHALL(0, t_taint(&t, "node1", "gpu", "b", BLX_TAINT_EFFECT_AVOID));
  T_SHALL(0, t_taint(&t, "node1", "gpu", "c", BLX_TAINT_EFFECT_NO_PLACE));
  const struct blx_node_info *n = blx__state_node(t.st, 1);
  ck_assert_uint_eq(n->n_taints, 2);
  ck_assert_str_eq(n->taints[1]->value, "c");
  uint64_t revision = n->revision;
  T_SHALL(0, t_taint(&t, "node1", "gpu", "c", BLX_TAINT_EFFECT_NO_PLACE));
  T_SHALL(0, t_untaint(&t, "node1", "disk"));
  ck_assert_uint_eq(blx__state_node(t.st, 1)->revision, revision);
  T_SHALL(0, t_untaint(&t, "node1", "gpu"));
  ck_assert_uint_eq(blx__state_node(t.st, 1)->n_taints, 0);
  T_SHALL(BLX_E_INVALID, t_taint(&t, "node1", "", "", BLX_TAINT_EFFECT_AVOID));
  T_SHALL(BLX_E_INVALID, t_taint(&t, "node1", "x", "", 7));
  T_SHALL(BLX_E_NOT_FOUND, t_taint(&t, "node9", "x", "", BLX_TAINT_EFFECT_AVOID));
  for (unsigned i = 0; i < 16; i++) {
    char key[16];
    blx__str_format(key, sizeof key, "k%u", i);
    T_SHALL(0, t_taint(&t, "node1", key, "", BLX_TAINT_EFFECT_AVOID));
  }
  T_SHALL(BLX_E_QUOTA, t_taint(&t, "node1", "more", "", BLX_TAINT_EFFECT_AVOID));
  T_SAYS("node1 would have 17 taints, 16 is the most: take some away");
  t_check_indexes(&t);
  t_close(&t);
}
END_TEST

START_TEST(a_node_that_registers__keeps_its_taints) {
  struct t t;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_taint(&t, "node1", "gpu", "a", BLX_TAINT_EFFECT_NO_PLACE));
  T_SHALL(0, t_register_ha(&t, 1, 9));
  ck_assert_uint_eq(blx__state_node(t.st, 1)->n_taints, 1);
  t_close(&t);
}
END_TEST

/* As much as the room says is accepted, and one more is not, whatever stops it. */
START_TEST(the_room_of_a_quota__is_what_a_create_finds) {
  struct t t;
  struct blx_amount most = {.struct_size = sizeof most, .name = "gpu", .amount = 0}, *limit = &most;
  struct blx_amount gpu = {.struct_size = sizeof gpu, .name = "gpu", .amount = 3}, *list = &gpu;
  t_open_cluster(&t, 1);
  T_SHALL(0, t_create_named(&t, "web", 2));
  struct blx_vm_spec spec = t_spec("new", 1);
  spec.vcpus = 2;
  spec.resources = &list;
  spec.n_resources = 1;
  ck_assert_uint_eq(blx__state_quota_room(t.st, NULL, &spec).instances, UINT64_MAX);
  for (uint32_t n = 0; n < 200; n++) {
    struct blx_quota q = limits(0, n % 7, n % 5 * 3, n % 11 * 150);
    most.amount = n % 13;
    q.named = &limit;
    q.n_named = n % 3 != 0;
    T_SHALL(0, t_quota(&t, &q));
    struct blx__state_quota_room room = blx__state_quota_room(t.st, NULL, &spec);
    if (room.instances == UINT64_MAX) continue;
    blx_error err = {0};
    spec.replicas = (uint32_t)room.instances;
    ck_assert_int_eq(blx__state_may_create(t.st, NULL, &spec, &err).code, 0);
    spec.replicas++;
    ck_assert_int_eq(blx__state_may_create(t.st, NULL, &spec, &err).code, BLX_E_QUOTA);
    ck_assert_msg(strstr(err.message, room.of) != NULL, "%s stops it, not %s", err.message, room.of);
  }
  struct blx_quota q = limits(1, 0, 0, 0);
  T_SHALL(0, t_quota(&t, &q));
  ck_assert_uint_eq(blx__state_quota_room(t.st, NULL, &spec).instances, 0);
  q.vms = 3;
  T_SHALL(0, t_quota(&t, &q));
  ck_assert_uint_eq(blx__state_quota_room(t.st, NULL, &spec).instances, 2000); /* two VMs of a thousand */
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/quota", usage__counts_what_is_defined_running_or_not, tenants__come_by_name,
              each_limit__stops_a_new_vm_with_its_numbers, a_named_resource__has_a_limit_of_its_own,
              a_limit_below_what_there_is__only_stops_more, a_quota__is_one_tenants_and_can_be_taken_away,
              a_quota_that_cannot_be__is_refused, shapes__come_by_how_many_instances_have_them,
              taints__are_set_in_place_of_their_like_and_taken_away_by_key, a_node_that_registers__keeps_its_taints,
              the_room_of_a_quota__is_what_a_create_finds)
