#include "../harness.h"
#include "support.h"

START_TEST(vms__come_in_the_order_of_their_names_within_the_tenant) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web-a", 0);
  t_create_named(&t, "web", 0);
  t_create_named(&t, "db", 0);
  t.tenant = "z";
  t_create_named(&t, "aaa", 0);
  const char *const want[] = {"db", "web", "web-a"};
  const struct blx_vm *vm = blx__state_vm_after(t.st, NULL, NULL);
  for (unsigned i = 0; i < 3; i++, vm = blx__state_vm_after(t.st, NULL, vm->spec->name)) {
    ck_assert_ptr_nonnull(vm);
    ck_assert_str_eq(vm->spec->name, want[i]);
  }
  ck_assert_ptr_null(vm);
  ck_assert_str_eq(blx__state_vm_after(t.st, "z", "")->spec->name, "aaa");
  ck_assert_ptr_null(blx__state_vm_after(t.st, "nobody", ""));
  unsigned all = 0;
  for (vm = blx__state_vm_after_uid(t.st, 0); vm; vm = blx__state_vm_after_uid(t.st, vm->uid)) all++;
  ck_assert_uint_eq(all, 4);
  t_close(&t);
}
END_TEST

START_TEST(vms_of_all_tenants__come_by_tenant_and_name) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 0);
  t_create_named(&t, "db", 0);
  t.tenant = "z";
  t_create_named(&t, "web", 0);
  t.tenant = "acme";
  t_create_named(&t, "web", 0);
  t_create_named(&t, "zoo", 0);
  static const char *const want[][2] = {
      {"acme", "web"}, {"acme", "zoo"}, {"default", "db"}, {"default", "web"}, {"z", "web"}};
  const struct blx_vm *vm = blx__state_vm_of_any_after(t.st, NULL, NULL);
  for (unsigned i = 0; i < BLX__COUNT(want); i++) {
    ck_assert_ptr_nonnull(vm);
    ck_assert_str_eq(vm->tenant, want[i][0]);
    ck_assert_str_eq(vm->spec->name, want[i][1]);
    vm = blx__state_vm_of_any_after(t.st, vm->tenant, vm->spec->name);
  }
  ck_assert_ptr_null(vm);
  ck_assert_str_eq(blx__state_vm_of_any_after(t.st, "acme", "zebra")->spec->name, "zoo");
  t_close(&t);
}
END_TEST

START_TEST(nodes__come_by_name_and_by_uid) {
  struct t t;
  t_open(&t, 0);
  t_init(&t);
  t_join(&t, "b", 1, 1);
  t_join(&t, "a", 1, 1);
  ck_assert_str_eq(blx__state_node_after(t.st, NULL)->name, "a");
  ck_assert_str_eq(blx__state_node_after(t.st, "a")->name, "b");
  ck_assert_ptr_null(blx__state_node_after(t.st, "b"));
  ck_assert_str_eq(blx__state_node_after_uid(t.st, 0)->name, "b");
  ck_assert_uint_eq(blx__state_node_after_uid(t.st, 1)->uid, 2);
  ck_assert_ptr_null(blx__state_node_after_uid(t.st, 2));
  t_close(&t);
}
END_TEST

START_TEST(a_vm__is_found_by_the_name_of_an_instance) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 2);
  ck_assert_ptr_eq(blx__state_vm_lookup(t.st, NULL, "web-2"), t_vm(&t, "web"));
  ck_assert_ptr_eq(blx__state_vm_lookup(t.st, "default", "web"), t_vm(&t, "web"));
  ck_assert_ptr_null(blx__state_vm_lookup(t.st, NULL, "web-3"));
  ck_assert_ptr_null(blx__state_vm_lookup(t.st, "other", "web"));
  t_close(&t);
}
END_TEST

START_TEST(instances__come_by_ordinal_by_node_and_by_due_time) {
  struct t t;
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 12);
  uint64_t vm_uid = t_vm(&t, "web")->uid;
  uint32_t ordinal = 0;
  for (const struct blx_instance *i; (i = blx__state_instance_after(t.st, vm_uid, ordinal)); ordinal = i->ordinal)
    ck_assert_uint_eq(i->ordinal, ordinal + 1);
  ck_assert_uint_eq(ordinal, 12);
  t_assign(&t, "web-2", 1);
  t_assign(&t, "web-1", 1);
  t_report(&t, "web-2", (struct t_seen){.phase = BLX_PHASE_FAILED, .dead = true});
  const struct blx_instance *i = blx__state_instance_on_node_after(t.st, 1, 0);
  ck_assert_str_eq(i->name, "web-1");
  i = blx__state_instance_on_node_after(t.st, 1, i->uid);
  ck_assert_str_eq(i->name, "web-2");
  ck_assert_ptr_null(blx__state_instance_on_node_after(t.st, 1, i->uid));
  unsigned waiting = 0;
  uint64_t due = 0, uid = 0;
  while ((i = blx__state_waiting_after(t.st, due, uid))) {
    ck_assert(i->not_before_ms > due || i->uid > uid);
    due = i->not_before_ms;
    uid = i->uid;
    waiting++;
  }
  ck_assert_uint_eq(waiting, 11);
  ck_assert_uint_eq(uid, t_instance(&t, "web-2")->uid);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/query", vms__come_in_the_order_of_their_names_within_the_tenant,
              vms_of_all_tenants__come_by_tenant_and_name, nodes__come_by_name_and_by_uid,
              a_vm__is_found_by_the_name_of_an_instance, instances__come_by_ordinal_by_node_and_by_due_time)
