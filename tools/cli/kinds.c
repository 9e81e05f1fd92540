#include "kinds.h"
#include "events.h"
#include "vm_common.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* A list is read in parts of so many VMs: an answer has a maximum, a list has none. */
enum { PART_VMS = 10000, PARTS_MAX = 4096 };

static const struct cli_column vm_wide[] = {
    {"RESTART", "{spec.restart_policy}"}, {"HYPERVISOR", "{spec.hypervisor}"}, {"STRATEGY", "{spec.strategy}"},
    {"PRIORITY", "{spec.priority}"},      {"LABELS", "{spec.labels:labels}"},  {"UID", "{uid}"},
    {"WHY", "{reason.text:line}"},
};

static const struct cli_column node_wide[] = {
    {"UID", "{uid}"},
    {"HYPERVISORS", "{hypervisors[]}"},
    {"PEER ADDRESS", "{peer_address}"},
    {"JOINED", "{joined_ms:time}"},
    {"TAINTS", "{taints:taints}"},
    {"LOAD", "{:load}"},
    {"RESOURCES", "{:named}"},
    {"CPU FEATURES", "{cpu_features[]}"},
};

static const struct cli_column instance_columns[] = {
    {"NAME", "{name}"},
    {"VM", "{vm}"},
    {"NODE", "{node}"},
    {"PHASE", "{phase}"},
    {"SINCE", "{phase_since_ms:age}"},
    {"RESTARTS", "{restarts}"},
    {"REASON", "{reason.code:some}"},
};

static const struct cli_column instance_wide[] = {
    {"EPOCH", "{epoch}"},
    {"EXIT", "{exit_status}"},
    {"UID", "{uid}"},
    {"WHY", "{reason.text:line}"},
};

static const struct cli_column event_columns[] = {
    {"INDEX", "{index}"}, {"TIME", "{time_ms:time}"},       {"KIND", "{kind}"}, {"NAME", "{name}"}, {"WHAT", "{type}"},
    {"PHASE", "{phase}"}, {"REASON", "{reason.code:some}"}, {"NODE", "{node}"},
};

static const struct cli_column event_wide[] = {
    {"EPOCH", "{epoch:some}"},
    {"UID", "{uid}"},
    {"WHY", "{reason.text:line}"},
};

static const struct cli_column pending_columns[] = {
    {"NAME", "{spec.name}"},     {"PRIORITY", "{spec.priority}"},
    {"PHASE", "{phase}"},        {"RUNNING", "{running}/{spec.replicas}"},
    {"AGE", "{created_ms:age}"}, {"REASON", "{reason.code:some}"},
    {"WHY", "{reason.text}"},
};

static const struct cli_column quota_columns[] = {
    {"TENANT", "{tenant}"},
    {"VMS", "{used_vms}/{vms:limit}"},
    {"INSTANCES", "{used_instances}/{instances:limit}"},
    {"VCPUS", "{used.vcpus}/{vcpus:limit}"},
    {"MEMORY MIB", "{used.memory_mib}/{memory_mib:limit}"},
    {"RESOURCES", "{named:amounts}"},
};

static const struct cli_column quota_wide[] = {
    {"USED RESOURCES", "{used.named:amounts}"}, {"NODE INSTANCES", "{node_instances}"}, {"NODE VCPUS", "{node_vcpus}"},
    {"NODE MEMORY MIB", "{node_memory_mib}"},   {"NODES", "{nodes:matches}"},           {"REVISION", "{revision:some}"},
};

static const struct cli_block pending_blocks[] = {{CLI_TABLE, "vms", pending_columns, COUNT(pending_columns)}};
static const struct cli_view pending_view = {"vm", "vms", "spec.name", pending_blocks, 1};

static const struct cli_block quota_blocks[] = {{CLI_TABLE, "quotas", quota_columns, COUNT(quota_columns)}};
static const struct cli_view quota_view = {"quota", "quotas", "tenant", quota_blocks, 1};

static const struct cli_block instance_blocks[] = {{CLI_TABLE, "instances", instance_columns, COUNT(instance_columns)}};
static const struct cli_view instance_view = {"instance", "instances", "name", instance_blocks, 1};

static const struct cli_block event_blocks[] = {{CLI_TABLE, "events", event_columns, COUNT(event_columns)}};
static const struct cli_view event_view = {"event", "events", "name", event_blocks, 1};

/* ---- VMs */

static bool keep_part(struct cli_list *list, struct blx_vm_list *part) {
  struct blx_vm_list **parts = reallocarray(list->parts, list->n_parts + 1, sizeof *parts);
  struct blx_vm_list *whole = &list->whole;
  if (parts == NULL) return false;
  list->parts = parts;
  parts[list->n_parts++] = part;
  struct blx_vm **vms = reallocarray(whole->vms, whole->n_vms + part->n_vms + 1, sizeof(struct blx_vm *));
  if (vms == NULL) return false;
  whole->vms = vms;
  if (part->n_vms > 0) memcpy(vms + whole->n_vms, part->vms, part->n_vms * sizeof(struct blx_vm *));
  whole->n_vms += part->n_vms;
  return true;
}

/* Parts are read at rising indexes; the list is said to be of the first, from which a watch misses nothing. */
static int fetch_vms(const struct cli_args *args, blx_client *client, struct cli_list *list) {
  struct blx_vm_list_request request = BLX_VM_LIST_REQUEST_INIT;
  blx_error err = {0};
  request.stale = args->stale;
  request.limit = PART_VMS;
  request.all_tenants = args->all_tenants;
  blx_vm_list_init(&list->whole);
  do {
    struct blx_vm_list *part = NULL;
    if (blx_vm_list_get(client, &request, &part, &err) != 0) return cli_fail(&err);
    if (list->n_parts == 0) list->whole.index = part->index;
    if (list->n_parts == PARTS_MAX || !keep_part(list, part)) {
      blx_vm_list_free(part);
      fputs("blixard: no memory for the list [NOMEM]\n", stderr);
      return CLI_EXIT_INTERNAL;
    }
    request.after = part->next;
    request.after_tenant = part->next_tenant;
  } while (request.after != NULL && *request.after != '\0');
  list->type = "vm_list";
  list->message = &list->whole;
  list->index = list->whole.index;
  return 0;
}

static int failed(int code, const char *message, blx_error *err) {
  *err = (blx_error){.code = code};
  snprintf(err->message, sizeof err->message, "%s", message);
  return code;
}

static int vm_document(const struct cli_args *args, blx_client *client, const char *tenant, const char *name,
                       json_t **out, blx_error *err) {
  struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  int status = 0;
  request.name = name;
  request.tenant = tenant;
  request.stale = args->stale;
  int rc = blx_vm_get(client, &request, &vm, err);
  if (rc != 0) return rc;
  *out = cli_document("vm", vm, &status);
  blx_vm_free(vm);
  return *out != NULL ? 0 : failed(BLX_E_NOMEM, "no memory for a VM", err);
}

/* ---- nodes */

static int fetch_nodes(const struct cli_args *args, blx_client *client, struct cli_list *list) {
  struct blx_node_list_request request = BLX_NODE_LIST_REQUEST_INIT;
  blx_error err = {0};
  request.stale = args->stale;
  if (blx_node_list_get(client, &request, &list->nodes, &err) != 0) return cli_fail(&err);
  list->type = "node_list";
  list->message = list->nodes;
  list->index = list->nodes->index;
  return 0;
}

/* The row of @name in @rows, with a reference of its own. */
static int pick_by(const json_t *rows, const char *key, const char *kind, const char *name, json_t **out,
                   blx_error *err) {
  char quoted[CLI_QUOTE_SIZE], text[CLI_QUOTE_SIZE + 64];
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const char *own = json_string_value(json_object_get(json_array_get(rows, i), key));
    if (own == NULL || strcmp(own, name) != 0) continue;
    *out = json_incref(json_array_get(rows, i));
    return 0;
  }
  snprintf(text, sizeof text, "there is no %s %s: `blixard get %s` shows those there are", kind,
           cli_quote(quoted, sizeof quoted, name), kind);
  return failed(BLX_E_NOT_FOUND, text, err);
}

static int pick(const json_t *rows, const char *kind, const char *name, json_t **out, blx_error *err) {
  return pick_by(rows, "name", kind, name, out, err);
}

static int node_document(const struct cli_args *args, blx_client *client, const char *tenant, const char *name,
                         json_t **out, blx_error *err) {
  struct blx_node_list_request request = BLX_NODE_LIST_REQUEST_INIT;
  struct blx_node_list *nodes = NULL;
  int status = 0;
  (void)tenant;
  request.stale = args->stale;
  int rc = blx_node_list_get(client, &request, &nodes, err);
  if (rc != 0) return rc;
  json_t *document = cli_document("node_list", nodes, &status);
  blx_node_list_free(nodes);
  if (document == NULL) return failed(BLX_E_NOMEM, "no memory for the nodes", err);
  rc = pick(json_object_get(document, "nodes"), "node", name, out, err);
  json_decref(document);
  return rc;
}

/* ---- instances: they come with their VMs */

static int fetch_instances(const struct cli_args *args, blx_client *client, struct cli_list *list) {
  int status = fetch_vms(args, client, list);
  json_t *vms = status == 0 ? cli_list_document(list, &status) : NULL;
  json_t *all = json_array(), *vm;
  size_t i;
  json_array_foreach(json_object_get(vms, "vms"), i, vm) {
    json_array_extend(all, json_object_get(vm, "instances"));
  }
  json_t *document = json_pack("{s:o, s:I}", "instances", all, "index", (json_int_t)list->index);
  json_decref(list->document);
  list->document = document;
  list->type = NULL;
  if (status == 0 && document == NULL) {
    fputs("blixard: no memory for the list [NOMEM]\n", stderr);
    status = CLI_EXIT_INTERNAL;
  }
  return status;
}

static int instance_document(const struct cli_args *args, blx_client *client, const char *tenant, const char *name,
                             json_t **out, blx_error *err) {
  json_t *vm = NULL;
  int rc = vm_document(args, client, tenant, name, &vm, err);
  if (rc != 0) return rc;
  rc = pick(json_object_get(vm, "instances"), "instance", name, out, err);
  json_decref(vm);
  return rc;
}

/* ---- quotas */

static int ask_quotas(const struct cli_args *args, blx_client *client, const char *tenant, struct blx_quota_list **out,
                      blx_error *err) {
  struct blx_quota_get_request request = BLX_QUOTA_GET_REQUEST_INIT;
  request.tenant = tenant;
  request.stale = args->stale;
  return blx_quota_get(client, &request, out, err);
}

static int fetch_quotas(const struct cli_args *args, blx_client *client, struct cli_list *list) {
  blx_error err = {0};
  if (ask_quotas(args, client, NULL, &list->quotas, &err) != 0) return cli_fail(&err);
  list->type = "quota_list";
  list->message = list->quotas;
  list->index = list->quotas->index;
  return 0;
}

static int quota_document(const struct cli_args *args, blx_client *client, const char *tenant, const char *name,
                          json_t **out, blx_error *err) {
  struct blx_quota_list *quotas = NULL;
  int status = 0;
  (void)tenant; /* it is the name */
  int rc = ask_quotas(args, client, name, &quotas, err);
  if (rc != 0) return rc;
  json_t *document = cli_document("quota_list", quotas, &status);
  blx_quota_list_free(quotas);
  if (document == NULL) return failed(BLX_E_NOMEM, "no memory for the quotas", err);
  rc = pick_by(json_object_get(document, "quotas"), "tenant", "quota", name, out, err);
  json_decref(document);
  return rc;
}

/* ---- events */

static int fetch_events(const struct cli_args *args, blx_client *client, struct cli_list *list) {
  int status = CLI_EXIT_OK;
  list->document = cli_events_kept(args, client, &status);
  return status;
}

const struct cli_object_kind cli_kind_vm = {
    "vm",      "vms",       "vm", "spec.labels", &vm_list_view, vm_wide, COUNT(vm_wide), BLX_EVENT_KIND_VM,
    fetch_vms, vm_document, true};
const struct cli_object_kind cli_kind_node = {
    "node",      "nodes",       "node_info", "labels", &node_view, node_wide, COUNT(node_wide), BLX_EVENT_KIND_NODE,
    fetch_nodes, node_document, false};
const struct cli_object_kind cli_kind_instance = {"instance",
                                                  "instances",
                                                  "instance",
                                                  NULL,
                                                  &instance_view,
                                                  instance_wide,
                                                  COUNT(instance_wide),
                                                  BLX_EVENT_KIND_INSTANCE,
                                                  fetch_instances,
                                                  instance_document,
                                                  true};
const struct cli_object_kind cli_kind_event = {
    "event",           "events",          "event",      NULL, &event_view, event_wide,
    COUNT(event_wide), BLX_EVENT_KIND_VM, fetch_events, NULL, true};

const struct cli_object_kind cli_kind_quota = {
    "quota",      "quotas",       "quota", NULL, &quota_view, quota_wide, COUNT(quota_wide), BLX_EVENT_KIND_QUOTA,
    fetch_quotas, quota_document, false};
const struct cli_object_kind cli_kind_pending = {
    "vm",      "vms",       "vm", "spec.labels", &pending_view, vm_wide, COUNT(vm_wide), BLX_EVENT_KIND_VM,
    fetch_vms, vm_document, true};

static const struct cli_object_kind *const kinds[] = {&cli_kind_vm, &cli_kind_node, &cli_kind_instance, &cli_kind_event,
                                                      &cli_kind_quota};

const struct cli_object_kind *cli_kind_at(size_t i) {
  return i < COUNT(kinds) ? kinds[i] : NULL;
}

static bool same(const char *own, const char *name, size_t len) {
  return strlen(own) == len && memcmp(own, name, len) == 0;
}

const struct cli_object_kind *cli_kind_find(const char *name, size_t len) {
  for (size_t i = 0; i < COUNT(kinds); i++)
    if (same(kinds[i]->name, name, len) || same(kinds[i]->also, name, len)) return kinds[i];
  return NULL;
}

json_t *cli_list_document(struct cli_list *list, int *status) {
  if (list->document == NULL && *status == 0) list->document = cli_document(list->type, list->message, status);
  return list->document;
}

const char *cli_list_name(const struct cli_list *list, size_t i) {
  if (list->nodes != NULL) return i < list->nodes->n_nodes ? list->nodes->nodes[i]->name : NULL;
  if (list->quotas != NULL) return i < list->quotas->n_quotas ? list->quotas->quotas[i]->tenant : NULL;
  return i < list->whole.n_vms && list->whole.vms[i]->spec != NULL ? list->whole.vms[i]->spec->name : NULL;
}

void cli_list_free(struct cli_list *list) {
  for (size_t i = 0; i < list->n_parts; i++) blx_vm_list_free(list->parts[i]);
  free(list->parts);
  free(list->whole.vms);
  blx_node_list_free(list->nodes);
  blx_quota_list_free(list->quotas);
  json_decref(list->document);
  *list = (struct cli_list){0};
}
