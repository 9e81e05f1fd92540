#include "vm_common.h"

#include <stdio.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct cli_column vm_fields[] = {
    {"Name:", "{spec.name}"},
    {"Tenant:", "{tenant}"},
    {"Wanted:", "{desired}{paused?, paused}{deleting?, deleted}"},
    {"Phase:", "{phase}"},
    {"Reason:", "{reason.code:some}"},
    {"Why:", "{reason.text:text}"},
    {"Unblock:", "{reason.unblock}"},
    {"Replicas:", "{running} of {spec.replicas} run"},
    {"vCPUs:", "{spec.vcpus}"},
    {"CPU reserved:", "{spec.cpu_milli:milli}"},
    {"Memory:", "{spec.memory_mib} MiB"},
    {"Resources:", "{spec.resources:amounts}"},
    {"Flake:", "{spec.flake}"},
    {"Config:", "{spec.config_name} {spec.config_sha256}"},
    {"Hypervisor:", "{spec.hypervisor}"},
    {"Restart:", "{spec.restart_policy}"},
    {"HA:", "{spec.ha}"},
    {"Priority:", "{spec.priority:some}"},
    {"Preemptible:", "{spec.preemptible!no}"},
    {"Strategy:", "{spec.strategy}{spec.strategies:strategies}"},
    {"Near:", "{spec.near:near}"},
    {"Data:", "{spec.data:data}"},
    {"Depends on:", "{spec.depends_on:names}"},
    {"Stop timeout:", "{spec.stop_timeout_ms} ms"},
    {"Labels:", "{spec.labels:labels}"},
    {"Node selector:", "{spec.node_selector:labels}"},
    {"Constraints:", "{spec.constraints:matches}"},
    {"Preferences:", "{spec.preferences:matches}"},
    {"Tolerates:", "{spec.tolerations:tolerations}"},
    {"Other VMs:", "{spec.affinity:affinity}"},
    {"Spread:", "{spec.spread:spread}"},
    {"CPU features:", "{spec.cpu_features:names}"},
    {"Created:", "{created_ms:time}"},
    {"Uid:", "{uid}"},
    {"Revision:", "{revision}, its spec's {spec_revision}"},
};

static const struct cli_column instance_fields[] = {
    {"Instance:", "{name}"},
    {"  Node:", "{node}{node!none yet}"},
    {"  Phase:", "{phase}{paused?, paused}"},
    {"  Since:", "{phase_since_ms:time}"},
    {"  Epoch:", "{epoch}"},
    {"  Reason:", "{reason.code:some}"},
    {"  Why:", "{reason.text:text}"},
    {"  Unblock:", "{reason.unblock}"},
    {"  Disk there:", "{local_data?yes}"},
    {"  Restarts:", "{restarts:some}"},
    {"  Not before:", "{not_before_ms:time}"},
    {"  Last exit:", "{exit_status}"},
};

static const struct cli_block describe_blocks[] = {
    {CLI_FIELDS, NULL, vm_fields, COUNT(vm_fields)},
    {CLI_FIELDS, "instances", instance_fields, COUNT(instance_fields)},
};
static const struct cli_view describe_view = {"vm", NULL, "spec.name", describe_blocks, COUNT(describe_blocks)};

static int show_vm(struct cli_args *args, const struct cli_view *view) {
  struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  request.name = cli_vm_name(args->words[0], INSTANCE_NAME_MAX);
  request.stale = args->stale;
  if (request.name == NULL) return CLI_EXIT_USAGE;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (blx_vm_get(client, &request, &vm, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show(args, "vm", vm, view);
  blx_vm_free(vm);
  blx_client_close(client);
  return status;
}

int cmd_vm_get(struct cli_args *args) {
  return show_vm(args, &vm_view);
}

int cmd_vm_describe(struct cli_args *args) {
  return show_vm(args, &describe_view);
}

/* A change of one VM: the call, what to say when it is committed, the phase that --wait waits for. */
struct change {
  int (*call)(blx_client *client, const struct blx_vm_name_request *request, struct blx_vm **out, blx_error *reterr);
  const char *done;
  int phase;
};

static int change_vm(struct cli_args *args, const struct change *change) {
  struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  uint64_t started_ms = cli_now_ms();
  request.name = cli_vm_name(args->words[0], INSTANCE_NAME_MAX);
  request.force = args->force;
  if (request.name == NULL) return CLI_EXIT_USAGE;
  request.if_revision = args->if_revision;
  request.request_id = cli_request_id(args);
  if (request.request_id == NULL) return CLI_EXIT_INTERNAL;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (change->call(client, &request, &vm, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    status = cli_vm_changed(args, client, vm, change->done, change->phase, started_ms);
  blx_vm_free(vm);
  blx_client_close(client);
  return status;
}

int cmd_vm_start(struct cli_args *args) {
  static const struct change start = {blx_vm_start, "will be started", BLX_PHASE_RUNNING};
  return change_vm(args, &start);
}

int cmd_vm_stop(struct cli_args *args) {
  static const struct change stop = {blx_vm_stop, "will be stopped", BLX_PHASE_STOPPED};
  return change_vm(args, &stop);
}

int cmd_vm_restart(struct cli_args *args) {
  static const struct change restart = {blx_vm_restart, "will be restarted", BLX_PHASE_RUNNING};
  return change_vm(args, &restart);
}

int cmd_vm_kill(struct cli_args *args) {
  static const struct change kill = {blx_vm_kill, "will be killed", BLX_PHASE_STOPPED};
  return change_vm(args, &kill);
}

int cmd_vm_pause(struct cli_args *args) {
  static const struct change pause = {blx_vm_pause, "will be paused", BLX_VM_WAIT_PAUSED};
  return change_vm(args, &pause);
}

int cmd_vm_resume(struct cli_args *args) {
  static const struct change resume = {blx_vm_resume, "will be resumed", BLX_VM_WAIT_RESUMED};
  return change_vm(args, &resume);
}

int cmd_vm_delete(struct cli_args *args) {
  static const struct change delete = {blx_vm_delete, "will be deleted", BLX_VM_WAIT_GONE};
  static const struct change force = {blx_vm_delete_force, "is deleted; nodes that are not heard from clean up later",
                                      BLX_VM_WAIT_GONE};
  return change_vm(args, args->force != 0 ? &force : &delete);
}

/* "phase=Running" or "deleted". */
static int parse_until(const char *text, int *phase) {
  char quoted[CLI_QUOTE_SIZE];
  if (text == NULL) return cli_usage("--for is missing: --for phase=Running, or --for deleted");
  *phase = BLX_VM_WAIT_GONE;
  if (strcmp(text, "deleted") == 0 || strcmp(text, "delete") == 0) return 0;
  const char *label = strncmp(text, "phase=", 6) == 0 ? text + 6 : "";
  for (size_t i = 0; i < cli_n_phases; i++) {
    if (strcmp(cli_phases[i].label, label) != 0) continue;
    *phase = cli_phases[i].value;
    return 0;
  }
  return cli_usage("--for: %s is not deleted, nor phase= with Pending, Creating, Starting, Running, Stopping, Stopped, "
                   "Failed or Unreachable",
                   cli_quote(quoted, sizeof quoted, text));
}

int cmd_vm_wait(struct cli_args *args) {
  enum { WAIT_MS = 60000 };
  char what[32];
  struct blx_vm *vm = NULL;
  blx_client *client = NULL;
  int phase = BLX_VM_WAIT_GONE;
  uint64_t started_ms = cli_now_ms();
  const char *name = cli_vm_name(args->words[0], INSTANCE_NAME_MAX);
  if (name == NULL) return CLI_EXIT_USAGE;
  int status = parse_until(args->until, &phase);
  if (status == 0) status = cli_connect(args, &client);
  if (status != 0) return status;
  if (args->timeout_ms == 0) args->timeout_ms = WAIT_MS;
  status = cli_vm_wait(args, client, name, phase, started_ms, &vm);
  if (status == 0 && vm == NULL && args->output == CLI_OUT_PLAIN) printf("vm/%s is gone\n", name);
  if (status == 0 && vm != NULL) {
    snprintf(what, sizeof what, "is %s", cli_phase_label(phase));
    status = cli_show_change(args, "vm", vm, &vm_view, what);
  }
  blx_vm_free(vm);
  blx_client_close(client);
  return status;
}
