/* The tenant of a client: of what its calls are about where they name none. */
#include "support.h"

#include <stdbool.h>
#include <stdio.h>

#define OK(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, why.message)

static int create_as(blx_client *c, const char *tenant, const char *name, uint32_t replicas, blx_error *err) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  spec.name = name;
  spec.flake = "path:/nowhere#web";
  spec.has_replicas = 1;
  spec.replicas = replicas;
  req.spec = &spec;
  req.tenant = tenant;
  int rc = blx_vm_create(c, &req, &vm, err);
  blx_vm_free(vm);
  return rc;
}

static int delete_own(blx_client *c, const char *name, blx_error *err) {
  struct blx_vm_name_request req = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  req.name = name;
  int rc = blx_vm_delete(c, &req, &vm, err);
  blx_vm_free(vm);
  return rc;
}

/* "TENANT/NAME TENANT/NAME", read in parts of one VM. */
static const char *listed(blx_client *c, bool all, char *out, size_t size) {
  struct blx_vm_list_request req = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *part = NULL, *last = NULL;
  blx_error why = {0};
  req.limit = 1;
  req.all_tenants = all;
  *out = '\0';
  do {
    OK(blx_vm_list_get(c, &req, &part, &why));
    blx_vm_list_free(last);
    last = part;
    for (size_t i = 0; i < part->n_vms; i++) {
      size_t n = strlen(out);
      (void)snprintf(out + n, size - n, "%s%s/%s", n > 0 ? " " : "", part->vms[i]->tenant, part->vms[i]->spec->name);
    }
    req.after = part->next;
    req.after_tenant = part->next_tenant;
  } while (req.after && *req.after);
  blx_vm_list_free(last);
  return out;
}

START_TEST(a_client_of_a_tenant__sees_and_changes_what_is_its_own) {
  blx_node *node = api_open_node(0);
  blx_client *c = api_client_of(node);
  blx_error why = {0};
  struct blx_vm *vm = NULL;
  char text[256];
  OK(create_as(c, NULL, "web", 1, &why));
  OK(blx_client_set_tenant(c, "acme", &why));
  OK(create_as(c, NULL, "web", 2, &why));
  OK(create_as(c, "other", "web", 0, &why)); /* a request that names one is of that one */
  OK(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, 10000, NULL, &vm, &why));
  ck_assert_str_eq(vm->tenant, "acme");
  ck_assert_uint_eq(vm->n_instances, 2);
  ck_assert_str_eq(vm->instances[1]->tenant, "acme");
  blx_vm_free(vm);
  ck_assert_str_eq(listed(c, false, text, sizeof text), "acme/web");
  ck_assert_str_eq(listed(c, true, text, sizeof text), "acme/web default/web other/web");
  OK(delete_own(c, "web", &why));
  OK(blx_vm_wait(c, "web", BLX_VM_WAIT_GONE, 10000, NULL, NULL, &why));
  ck_assert_str_eq(listed(c, true, text, sizeof text), "default/web other/web");
  OK(blx_client_set_tenant(c, NULL, &why));
  ck_assert_str_eq(listed(c, false, text, sizeof text), "default/web");
  api_close(node, c);
}
END_TEST

START_TEST(requests_in_a_request__are_of_the_tenant_and_lists_of_quotas_of_all) {
  blx_node *node = api_open_node(0);
  blx_client *c = api_client_of(node);
  blx_error why = {0};
  struct blx_quota quota = BLX_QUOTA_INIT, *set = NULL;
  struct blx_quota_set_request put = BLX_QUOTA_SET_REQUEST_INIT;
  struct blx_quota_get_request get = BLX_QUOTA_GET_REQUEST_INIT;
  struct blx_quota_list *list = NULL;
  struct blx_vm_scale_request scale = BLX_VM_SCALE_REQUEST_INIT;
  struct blx_vm_plan_request ask = BLX_VM_PLAN_REQUEST_INIT;
  struct blx_vm_plan *plan = NULL;
  OK(create_as(c, NULL, "web", 1, &why));
  OK(blx_client_set_tenant(c, "acme", &why));
  OK(create_as(c, NULL, "web", 3, &why));
  quota.has_instances = 1;
  quota.instances = 4;
  put.quota = &quota;
  OK(blx_quota_set(c, &put, &set, &why));
  ck_assert_str_eq(set->tenant, "acme");
  ck_assert_uint_eq(set->used_instances, 3);
  blx_quota_free(set);
  OK(blx_quota_get(c, &get, &list, &why));
  ck_assert_uint_eq(list->n_quotas, 2);
  blx_quota_list_free(list);
  scale.name = "web";
  scale.replicas = 4;
  scale.has_replicas = 1;
  ask.scale = &scale;
  OK(blx_vm_plan(c, &ask, &plan, &why));
  ck_assert_uint_eq(plan->changes, 1); /* of acme's: default's would have three more */
  blx_vm_plan_free(plan);
  scale.replicas = 5;
  REFUSED(BLX_E_QUOTA, blx_vm_plan(c, &ask, &plan, &err));
  ck_assert_ptr_null(scale.tenant); /* the caller's request is as it was */
  api_close(node, c);
}
END_TEST

START_TEST(a_tenant_of_no_name__is_refused_and_the_one_before_stays) {
  static const char *const bad[] = {
      "Acme", "a/b", "-a", "a-", "../x", "a b", "123456789012345678901234567890123456789012345678901234567"};
  blx_node *node = api_open_node(0);
  blx_client *c = api_client_of(node), *other = NULL;
  const char *address = blx_node_address(node);
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  blx_error why = {0};
  char text[256];
  options.addresses = &address;
  options.n_addresses = 1;
  OK(blx_client_set_tenant(c, "acme", &why));
  OK(create_as(c, NULL, "web", 0, &why));
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    REFUSED(BLX_E_INVALID, blx_client_set_tenant(c, bad[i], &err));
    options.tenant = bad[i];
    ck_assert_int_eq(blx_client_open(&options, &other, &why), BLX_E_INVALID);
    ck_assert_ptr_nonnull(strstr(why.message, "tenant"));
    REFUSED(BLX_E_INVALID, create_as(c, bad[i], "web", 0, &err));
  }
  ck_assert_str_eq(listed(c, false, text, sizeof text), "acme/web");
  REFUSED(BLX_E_MISUSE, blx_client_set_tenant(NULL, "acme", &err));
  options.tenant = "acme";
  OK(blx_client_open(&options, &other, &why));
  ck_assert_str_eq(listed(other, false, text, sizeof text), "acme/web");
  blx_client_close(other);
  api_close(node, c);
}
END_TEST

BLX_TEST_MAIN("api/tenants", a_client_of_a_tenant__sees_and_changes_what_is_its_own,
              requests_in_a_request__are_of_the_tenant_and_lists_of_quotas_of_all,
              a_tenant_of_no_name__is_refused_and_the_one_before_stays)
