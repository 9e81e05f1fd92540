/* Plans, explanations and capacity as a program asks for them: nothing is changed by a question. */
#include "../harness.h"
#include "support.h"

#include <stdbool.h>
#include <unistd.h>

static blx_node *node;
static blx_client *client;

/* A node that leads has yet to register itself. */
static bool is_there(void) {
  struct blx_node_list_request request = BLX_NODE_LIST_REQUEST_INIT;
  struct blx_node_list *list = NULL;
  blx_error err = {0};
  ck_assert_msg(blx_node_list_get(client, &request, &list, &err) == 0, "%s", err.message);
  bool there = list->n_nodes == 1 && list->nodes[0]->status == BLX_NODE_STATUS_READY;
  blx_node_list_free(list);
  return there;
}

static void open_all(void) {
  node = api_open_node(BLX_COMPLETIONS_THREAD);
  client = api_client_of(node);
  for (unsigned tries = 0; !is_there(); tries++) {
    ck_assert_uint_lt(tries, 1000);
    usleep(10000);
  }
}

static struct blx_vm_plan *plan(const char *rack, uint32_t replicas) {
  struct blx_vm_plan_request request = BLX_VM_PLAN_REQUEST_INIT;
  struct blx_vm_create_request create = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_label label = BLX_LABEL_INIT, *labels[] = {&label};
  struct blx_vm_plan *out = NULL;
  blx_error err = {0};
  spec.name = "web";
  spec.flake = "x#y";
  spec.memory_mib = 64;
  spec.replicas = replicas;
  spec.has_replicas = 1;
  label.key = "rack";
  label.value = rack;
  spec.node_selector = labels;
  spec.n_node_selector = rack ? 1 : 0;
  create.spec = &spec;
  request.create = &create;
  ck_assert_msg(blx_vm_plan(client, &request, &out, &err) == 0, "%s", err.message);
  return out;
}

static int explain(const char *name, struct blx_placement_report **out, blx_error *err) {
  struct blx_vm_explain_request request = BLX_VM_EXPLAIN_REQUEST_INIT;
  request.name = name;
  return blx_vm_explain(client, &request, out, err);
}

START_TEST(plan__of_a_creation_names_the_nodes_and_creates_nothing) {
  struct blx_placement_report *report = NULL;
  blx_error err = {0};
  open_all();
  struct blx_vm_plan *out = plan(NULL, 2);
  ck_assert_uint_eq(out->n_instances, 2);
  ck_assert_str_eq(out->instances[1]->instance, "web-2");
  ck_assert_str_eq(out->instances[1]->action, "place");
  ck_assert(out->instances[1]->node && *out->instances[1]->node);
  ck_assert_uint_gt(out->changes, 0);
  ck_assert_uint_eq(out->waiting, 0);
  blx_vm_plan_free(out);
  ck_assert_int_eq(explain("web", &report, &err), BLX_E_NOT_FOUND);
  ck_assert_ptr_null(report);
  api_close(node, client);
}
END_TEST

START_TEST(plan__of_what_fits_nowhere_waits_and_says_why) {
  open_all();
  struct blx_vm_plan *out = plan("r9", 1);
  ck_assert_uint_eq(out->waiting, 1);
  ck_assert_str_eq(out->instances[0]->action, "wait");
  ck_assert_uint_eq(out->report->n_nodes, 1);
  const struct blx_node_verdict *verdict = out->report->nodes[0];
  ck_assert(!verdict->fits);
  ck_assert_int_eq(verdict->obstacles[0]->code, BLX_OBSTACLE_CODE_LABEL);
  ck_assert_ptr_nonnull(strstr(verdict->obstacles[0]->text, "rack=r9"));
  blx_vm_plan_free(out);
  api_close(node, client);
}
END_TEST

START_TEST(plan__of_nothing_or_of_both_is_refused) {
  struct blx_vm_plan_request request = BLX_VM_PLAN_REQUEST_INIT;
  struct blx_vm_create_request create = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_scale_request scale = BLX_VM_SCALE_REQUEST_INIT;
  struct blx_vm_plan *out = NULL;
  open_all();
  REFUSED(BLX_E_INVALID, blx_vm_plan(client, &request, &out, &err));
  scale.name = "nosuch";
  request.scale = &scale;
  REFUSED(BLX_E_NOT_FOUND, blx_vm_plan(client, &request, &out, &err));
  request.create = &create;
  REFUSED(BLX_E_INVALID, blx_vm_plan(client, &request, &out, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_plan(client, NULL, &out, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_plan(client, &request, NULL, &err));
  blx_vm_plan_free(NULL);
  api_close(node, client);
}
END_TEST

START_TEST(capacity__is_counted_for_the_shape_that_is_given) {
  struct blx_capacity_request request = BLX_CAPACITY_REQUEST_INIT;
  struct blx_capacity_report *half = NULL, *whole = NULL;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  blx_error err = {0};
  open_all();
  ck_assert_int_eq(blx_capacity_get(client, &request, &whole, &err), BLX_E_INVALID);
  spec.vcpus = 1;
  spec.memory_mib = 65536;
  request.spec = &spec;
  ck_assert_msg(blx_capacity_get(client, &request, &whole, &err) == 0, "%s", err.message);
  spec.memory_mib = 32768;
  ck_assert_msg(blx_capacity_get(client, &request, &half, &err) == 0, "%s", err.message);
  ck_assert_uint_ge(half->fits, 2 * whole->fits);
  ck_assert_uint_eq(half->n_nodes, 1);
  ck_assert_uint_eq(half->nodes[0]->fits, half->fits);
  blx_capacity_report_free(half);
  blx_capacity_report_free(whole);
  blx_capacity_report_free(NULL);
  api_close(node, client);
}
END_TEST

BLX_TEST_MAIN("api/plan", plan__of_a_creation_names_the_nodes_and_creates_nothing,
              plan__of_what_fits_nowhere_waits_and_says_why, plan__of_nothing_or_of_both_is_refused,
              capacity__is_counted_for_the_shape_that_is_given)
