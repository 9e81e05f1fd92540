#include "../harness.h"
#include "schema/desc.h"
#include "schema/rpc_table.h"

#include <string.h>

static void check_one(void *user, const struct blx__msg_desc *desc) {
  unsigned *count = user;
  size_t end = 2 * sizeof(void *);
  ++*count;
  ck_assert_ptr_eq(blx__desc_find(desc->name), desc);
  for (unsigned i = 0; i < desc->field_count; i++) {
    const struct blx__field *f = &desc->fields[i];
    ck_assert_msg(i == 0 || f->id > f[-1].id, "%s.%s", desc->name, f->name);
    ck_assert_msg(f->offset >= end && f->offset + f->size <= desc->size, "%s.%s", desc->name, f->name);
    ck_assert_ptr_eq(blx__desc_field(desc, f->name), f);
    ck_assert_msg((f->kind == BLX__KIND_MSG) == (f->msg != NULL), "%s.%s", desc->name, f->name);
    ck_assert_msg((f->kind == BLX__KIND_ENUM) == (f->enumeration != NULL), "%s.%s", desc->name, f->name);
    end = f->offset + f->size;
  }
}

START_TEST(descriptions__of_all_messages__follow_the_structs) {
  unsigned count = 0;
  blx__desc_each(check_one, &count);
  ck_assert_uint_gt(count, 20);
  ck_assert_ptr_eq(blx__desc_find("vm_spec"), blx__desc_vm_spec());
  ck_assert_ptr_null(blx__desc_find("vm_specs"));
  ck_assert_ptr_null(blx__desc_field(blx__desc_vm_spec(), "memory"));
}
END_TEST

START_TEST(enum_labels__are_found_both_ways) {
  int32_t v = -7;
  ck_assert_str_eq(blx__enum_label(blx__enum_phase(), BLX_PHASE_RUNNING), "Running");
  ck_assert_str_eq(blx__enum_label(blx__enum_phase(), 77), "unknown");
  ck_assert(blx__enum_value(blx__enum_hypervisor(), "cloud-hypervisor", &v));
  ck_assert_int_eq(v, BLX_HYPERVISOR_CLOUD_HYPERVISOR);
  ck_assert(blx__enum_value(blx__enum_hypervisor(), "cloud_hypervisor", &v));
  v = -7;
  ck_assert(!blx__enum_value(blx__enum_phase(), "running", &v));
  ck_assert(!blx__enum_value(blx__enum_phase(), "Run", &v));
  ck_assert(!blx__enum_value(blx__enum_phase(), "", &v));
  ck_assert_int_eq(v, -7);
}
END_TEST

START_TEST(rpc_rows__lie_at_their_id_and_are_found_by_path) {
  const struct blx__rpc_row *rows = blx__rpc_rows();
  for (unsigned i = 0; i < BLX__RPC_COUNT; i++) {
    ck_assert_uint_eq(rows[i].id, i);
    ck_assert_ptr_eq(blx__rpc_find_path(rows[i].path), &rows[i]);
    ck_assert(rows[i].request() && rows[i].response());
  }
  const struct blx__rpc_row *create = &rows[BLX__RPC_VM_CREATE], *report = &rows[BLX__RPC_REPORT];
  ck_assert_str_eq(create->path, "/blixard.v1.Blixard/VmCreate");
  ck_assert(create->route == BLX__ROUTE_WRITE && !create->member_only && !create->stream);
  ck_assert_ptr_eq(create->request(), blx__desc_vm_create_request());
  ck_assert_str_eq(report->path, "/blixard.v1.Member/Report");
  ck_assert(report->member_only);
  ck_assert(rows[BLX__RPC_VM_LOGS].stream && rows[BLX__RPC_VM_LOGS].route == BLX__ROUTE_LOCAL);
  ck_assert_ptr_null(blx__rpc_find_path("/blixard.v1.Blixard/vm_create"));
}
END_TEST

BLX_TEST_MAIN("desc", descriptions__of_all_messages__follow_the_structs, enum_labels__are_found_both_ways,
              rpc_rows__lie_at_their_id_and_are_found_by_path)
