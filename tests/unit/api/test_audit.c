/* The audit log as a program sees it: its own reasons, the records of what it changed, the check of the chain. */
#include "../harness.h"
#include "support.h"

#include <string.h>

static blx_node *node;
static blx_client *client;

static void open_all(void) {
  blx_error err = {0};
  node = api_open_node(BLX_COMPLETIONS_THREAD);
  ck_assert_int_eq(blx_node_client(node, &client, &err), 0);
}

static int stop(const char *name, blx_error *err) {
  struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  request.name = name;
  int rc = blx_vm_stop(client, &request, &vm, err);
  blx_vm_free(vm);
  return rc;
}

static struct blx_audit_list *list(const char *object) {
  struct blx_audit_list_request request = BLX_AUDIT_LIST_REQUEST_INIT;
  struct blx_audit_list *out = NULL;
  blx_error err = {0};
  request.object = object;
  ck_assert_msg(blx_audit_list_get(client, &request, &out, &err) == 0, "%s", err.message);
  return out;
}

START_TEST(a_reason__goes_with_the_changes_that_come_after_it) {
  blx_error err = {0};
  open_all();
  ck_assert_int_eq(stop("none1", &err), BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx_client_set_reason(client, "because \xc3\xbc", &err), 0);
  ck_assert_int_eq(stop("none2", &err), BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx_client_set_reason(client, "two\nlines", &err), BLX_E_INVALID);
  ck_assert_int_eq(blx_client_set_reason(client, "\xff", &err), BLX_E_INVALID);
  ck_assert_int_eq(stop("none3", &err), BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx_client_set_reason(client, NULL, &err), 0);
  ck_assert_int_eq(stop("none4", &err), BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx_client_set_reason(NULL, "x", &err), BLX_E_MISUSE);
  static const char *const names[] = {"none1", "none2", "none3", "none4"};
  static const char *const reasons[] = {"", "because \xc3\xbc", "because \xc3\xbc", ""};
  for (unsigned i = 0; i < 4; i++) {
    struct blx_audit_list *out = list(names[i]);
    ck_assert_uint_eq(out->n_records, 1);
    const char *reason = out->records[0]->reason;
    ck_assert_str_eq(reason ? reason : "", reasons[i]);
    ck_assert_int_eq(out->records[0]->code, BLX_E_NOT_FOUND);
    blx_audit_list_free(out);
  }
  api_close(node, client);
}
END_TEST

/* The option is the newest member: a program built before it hands over less. */
START_TEST(the_option__is_the_first_reason_and_may_be_absent) {
  struct blx_client_options o = BLX_CLIENT_OPTIONS_INIT;
  blx_error err = {0};
  open_all();
  blx_client *own = client;
  const char *address = blx_node_address(node);
  o.addresses = &address;
  o.n_addresses = 1;
  o.reason = "from the beginning";
  ck_assert_int_eq(blx_client_open(&o, &client, &err), 0);
  ck_assert_int_eq(stop("none1", &err), BLX_E_NOT_FOUND);
  blx_client_close(client);
  o.struct_size = offsetof(struct blx_client_options, reason);
  ck_assert_int_eq(blx_client_open(&o, &client, &err), 0);
  ck_assert_int_eq(stop("none2", &err), BLX_E_NOT_FOUND);
  blx_client_close(client);
  o.struct_size = sizeof o;
  char endless[400];
  memset(endless, 'a', sizeof endless);
  endless[sizeof endless - 1] = '\0';
  o.reason = endless;
  ck_assert_int_eq(blx_client_open(&o, &client, &err), BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "reason"));
  client = own;
  struct blx_audit_list *out = list("none1");
  ck_assert_str_eq(out->records[0]->reason, "from the beginning");
  blx_audit_list_free(out);
  out = list("none2");
  ck_assert(!out->records[0]->reason || !*out->records[0]->reason);
  blx_audit_list_free(out);
  api_close(node, client);
}
END_TEST

START_TEST(verify__tells_what_it_looked_at) {
  struct blx_audit_verify_request request = BLX_AUDIT_VERIFY_REQUEST_INIT;
  struct blx_audit_verdict *verdict = NULL;
  blx_error err = {0};
  open_all();
  for (int i = 0; i < 5; i++) ck_assert_int_eq(stop("none", &err), BLX_E_NOT_FOUND);
  ck_assert_msg(blx_audit_verify(client, &request, &verdict, &err) == 0, "%s", err.message);
  ck_assert(verdict->ok);
  ck_assert_uint_ge(verdict->records, 5);
  ck_assert_uint_eq(verdict->records, verdict->last_seq);
  ck_assert_uint_eq(strlen(verdict->head), 64);
  blx_audit_verdict_free(verdict);
  ck_assert_int_eq(blx_audit_verify(client, NULL, &verdict, &err), BLX_E_MISUSE);
  blx_audit_verdict_free(NULL);
  blx_audit_list_free(NULL);
  api_close(node, client);
}
END_TEST

BLX_TEST_MAIN("api/audit", a_reason__goes_with_the_changes_that_come_after_it,
              the_option__is_the_first_reason_and_may_be_absent, verify__tells_what_it_looked_at)
