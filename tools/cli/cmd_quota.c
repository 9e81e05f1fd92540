/* What tenants may have: quota set, get, list and delete. What is not named in a `set` stays, so the quota is read
 * first and sent whole, for the revision that was read. */
#include "flags.h"
#include "list.h"
#include "select.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const char default_tenant[] = "default";
static const char *const limits[] = {"vms",        "instances",      "vcpus", "memory_mib", "node_instances",
                                     "node_vcpus", "node_memory_mib"};

static const struct cli_column fields[] = {
    {"Tenant:", "{tenant}"},
    {"VMs:", "{used_vms} of {vms:limit}"},
    {"Instances:", "{used_instances} of {instances:limit}"},
    {"vCPUs:", "{used.vcpus} of {vcpus:limit}"},
    {"Memory:", "{used.memory_mib} of {memory_mib:limit} MiB"},
    {"Resources:", "{used.named:amounts}"},
    {"  at most:", "{named:amounts}"},
    {"On one node:", "{node_instances:limit} instances, {node_vcpus:limit} vCPUs, {node_memory_mib:limit} MiB"},
    {"Nodes:", "{nodes:matches}"},
    {"Revision:", "{revision:some}"},
};
static const struct cli_block blocks[] = {{CLI_FIELDS, NULL, fields, COUNT(fields)}};
static const struct cli_view view = {"quota", NULL, "tenant", blocks, COUNT(blocks)};

static const char *tenant_of(const struct cli_args *args) {
  const char *given = cli_tenant(args), *word = given != NULL ? given : default_tenant;
  if (args->n_words > 0) word = args->words[0];
  return cli_vm_name(strncmp(word, "quota/", 6) == 0 ? word + 6 : word, 56);
}

/* The present quota of @tenant, the caller's: without limits when it has none. NULL: @status says why. */
static json_t *present(const struct cli_args *args, blx_client *client, const char *tenant, int *status) {
  json_t *document = NULL;
  blx_error err = {0};
  int rc = cli_kind_quota.fetch_one(args, client, NULL, tenant, &document, &err);
  if (rc == BLX_E_NOT_FOUND) return json_pack("{s:s}", "tenant", tenant);
  if (rc != 0) *status = cli_fail(&err);
  return document;
}

/* ---- set */

static int unknown_key(const char *key) {
  char quoted[CLI_QUOTE_SIZE], known[256] = "";
  for (size_t i = 0; i < COUNT(limits); i++) {
    size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s, ", limits[i]);
  }
  return cli_usage("there is no limit %s; there are %snamed.RESOURCE", cli_quote(quoted, sizeof quoted, key), known);
}

static int not_a_limit(const char *word) {
  char quoted[CLI_QUOTE_SIZE];
  return cli_usage("%s is not LIMIT=NUMBER, nor LIMIT- for none", cli_quote(quoted, sizeof quoted, word));
}

static void drop_named(json_t *quota, const char *name) {
  json_t *rows = json_object_get(quota, "named");
  for (size_t i = json_array_size(rows); i-- > 0;) {
    const char *own = json_string_value(json_object_get(json_array_get(rows, i), "name"));
    if (own != NULL && strcmp(own, name) == 0) json_array_remove(rows, i);
  }
}

/* "named.gpu=4", "named.disk/ssd=100GiB": @text is what follows the dot. */
static int set_named(json_t *quota, const char *word, const char *text) {
  char name[128];
  struct blx_amount amount;
  size_t n = strlen(text);
  if (n >= sizeof name) return not_a_limit(word);
  snprintf(name, sizeof name, "%s", text);
  if (n > 1 && strchr(name, '=') == NULL && name[n - 1] == '-') {
    name[n - 1] = '\0';
    drop_named(quota, name);
    return 0;
  }
  if (!cli_parse_amount(name, &amount)) return not_a_limit(word);
  drop_named(quota, amount.name);
  if (json_object_get(quota, "named") == NULL) json_object_set_new(quota, "named", json_array());
  json_array_append_new(json_object_get(quota, "named"),
                        json_pack("{s:s, s:I}", "name", amount.name, "amount", (json_int_t)amount.amount));
  return 0;
}

static int set_limit(json_t *quota, const char *word) {
  char key[64];
  uint64_t number = 0;
  size_t n = strcspn(word, "=");
  bool none = word[n] == '\0' && n > 1 && word[n - 1] == '-';
  if (strncmp(word, "named.", 6) == 0) return set_named(quota, word, word + 6);
  snprintf(key, sizeof key, "%.*s", (int)(n - none < sizeof key ? n - none : sizeof key - 1), word);
  if (word[n] == '\0' && !none) return not_a_limit(word);
  for (size_t i = 0; i < COUNT(limits); i++) {
    if (strcmp(limits[i], key) != 0) continue;
    if (none)
      json_object_del(quota, key);
    else if (cli_parse_number(word + n + 1, 0, UINT32_MAX, &number))
      json_object_set_new(quota, key, json_integer((json_int_t)number));
    else
      return not_a_limit(word);
    return 0;
  }
  return unknown_key(key);
}

static json_t *conditions(const struct cli_matches *matches) {
  json_t *rows = json_array();
  for (size_t i = 0; i < matches->count; i++) {
    int status = 0;
    json_t *row = cli_document("node_match", &matches->rows[i], &status);
    if (row != NULL) json_array_append_new(rows, row);
  }
  return rows;
}

/* What the command line says, put over @quota. */
static int change(const struct cli_args *args, json_t *quota) {
  int status = 0;
  for (unsigned i = 1; i < args->n_words && status == 0; i++) status = set_limit(quota, args->words[i]);
  if (args->place.constraints.count > 0)
    json_object_set_new(quota, "nodes", conditions(&args->place.constraints));
  else if (args->unset != 0)
    json_object_del(quota, "nodes");
  return status;
}

/* A message of what is only read is not sent. */
static void drop_read(json_t *quota) {
  static const char *const read[] = {"revision", "used_vms", "used_instances", "used"};
  for (size_t i = 0; i < COUNT(read); i++) json_object_del(quota, read[i]);
}

static int send(struct cli_args *args, blx_client *client, json_t *quota, uint64_t revision) {
  struct blx_quota_set_request request = BLX_QUOTA_SET_REQUEST_INIT;
  struct blx_quota *after = NULL;
  void *message = NULL;
  blx_error err = {0};
  char *text = json_dumps(quota, 0);
  int status = CLI_EXIT_OK;
  if (text == NULL || blx_from_json("quota", text, strlen(text), &message, &err) != 0) status = cli_fail(&err);
  free(text);
  request.quota = message;
  request.if_revision = revision;
  request.request_id = args->request_id;
  if (status == 0 && blx_quota_set(client, &request, &after, &err) != 0)
    status = cli_fail_change(args, &err);
  else if (status == 0)
    status = cli_show_change(args, "quota", after, &view, "set");
  blx_message_free(message);
  blx_quota_free(after);
  return status;
}

/* The same again, as after an answer that was lost, finds it so already. */
static int set(struct cli_args *args, blx_client *client, const char *tenant) {
  int status = CLI_EXIT_OK;
  json_t *before = present(args, client, tenant, &status), *after = json_deep_copy(before);
  uint64_t revision = (uint64_t)json_integer_value(json_object_get(before, "revision"));
  if (status == 0) status = change(args, after);
  if (status == 0 && revision > 0 && json_equal(before, after) && args->if_revision == 0) {
    if (args->output == CLI_OUT_PLAIN)
      printf("quota/%s is so already\n", tenant);
    else
      status = cli_document_print(args, before, &view);
  } else if (status == 0) {
    drop_read(after);
    status = send(args, client, after, args->if_revision != 0 ? args->if_revision : revision);
  }
  json_decref(before);
  json_decref(after);
  return status;
}

int cmd_quota_set(struct cli_args *args) {
  blx_client *client = NULL;
  const char *tenant = tenant_of(args);
  json_t *nothing = json_object();
  if (tenant == NULL) return CLI_EXIT_USAGE;
  int status = change(args, nothing); /* a wrong word is told before anything is asked */
  json_decref(nothing);
  if (status == 0 && args->n_words < 2 && args->place.constraints.count == 0 && args->unset == 0)
    status = cli_usage("a limit is missing; see `blixard quota set --help`");
  if (status == 0 && args->place.constraints.count > 0 && args->unset != 0)
    status = cli_usage("give either --node or --any-node");
  if (status == 0 && cli_request_id(args) == NULL) status = CLI_EXIT_INTERNAL;
  if (status == 0) status = cli_connect(args, &client);
  if (status != 0) return status;
  status = set(args, client, tenant);
  blx_client_close(client);
  return status;
}

/* ---- the others */

int cmd_quota_get(struct cli_args *args) {
  blx_client *client = NULL;
  json_t *quota = NULL;
  blx_error err = {0};
  const char *tenant = tenant_of(args);
  if (tenant == NULL) return CLI_EXIT_USAGE;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (cli_kind_quota.fetch_one(args, client, NULL, tenant, &quota, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_document_print(args, quota, &view);
  json_decref(quota);
  blx_client_close(client);
  return status;
}

int cmd_quota_list(struct cli_args *args) {
  return cli_list(args, &cli_kind_quota, NULL, 0);
}

int cmd_quota_delete(struct cli_args *args) {
  struct blx_quota_set_request request = BLX_QUOTA_SET_REQUEST_INIT;
  struct blx_quota quota = BLX_QUOTA_INIT, *after = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  quota.tenant = tenant_of(args);
  if (quota.tenant == NULL) return CLI_EXIT_USAGE;
  if (cli_request_id(args) == NULL) return CLI_EXIT_INTERNAL;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  request.quota = &quota;
  request.remove = 1;
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  if (blx_quota_set(client, &request, &after, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    status = cli_show_change(args, "quota", after, &view, "is gone: no limits");
  blx_quota_free(after);
  blx_client_close(client);
  return status;
}
