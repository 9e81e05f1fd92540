/* The commands that ask placement: vm explain, vm create --plan, vm scale, cluster capacity. */
#include "plan.h"
#include "vm_common.h"

#include <stdio.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct cli_column report_fields[] = {
    {"Instance:", "{instance}"},
    {"Is on:", "{node}{node!no node}"},
    {"Reason:", "{reason.code:some}"},
    {"Why:", "{reason.text:text}"},
    {"Needs:", "{need:cpus} CPUs, {need.memory_mib} MiB, {need.named:amounts}"},
    {"Would go to:", "{chosen}{chosen!no node}"},
    {"Because:", "{text:text}"},
    {"Can take it:", "{nodes_fit} of {nodes_total} nodes"},
};
static const struct cli_column group_columns[] = {
    {"OBSTACLE", "{code}"}, {"NODES", "{nodes}"}, {"FOR EXAMPLE", "{examples:names}"}};
static const struct cli_column fits_columns[] = {
    {"RANK", "{rank:some}"}, {"NODE", "{node}"},      {"REPLICAS", "{replicas}"},
    {"COST", "{cost}"},      {"OF", "{parts:parts}"}, {"OBSTACLES", "{obstacles:obstacles}"},
};
static const struct cli_block report_blocks[] = {
    {CLI_FIELDS, NULL, report_fields, COUNT(report_fields)},
    {CLI_TABLE, "nodes", fits_columns, COUNT(fits_columns)},
    {CLI_TABLE, "groups", group_columns, COUNT(group_columns)},
};
static const struct cli_view report_view = {"node", "nodes", "node", report_blocks, COUNT(report_blocks)};

static const struct cli_column plan_columns[] = {
    {"INSTANCE", "{instance}"},  {"ACTION", "{action}"}, {"NODE", "{node}"},
    {"ENDS", "{victims:names}"}, {"WHY", "{text}"},
};
static const struct cli_block plan_blocks[] = {
    {CLI_TABLE, "instances", plan_columns, COUNT(plan_columns)},
    {CLI_TABLE, "report.nodes", fits_columns, COUNT(fits_columns)},
    {CLI_TABLE, "report.groups", group_columns, COUNT(group_columns)},
};
static const struct cli_view plan_view = {"instance", "instances", "instance", plan_blocks, 1};
static const struct cli_view waiting_view = {"instance", "instances", "instance", plan_blocks, COUNT(plan_blocks)};

static const struct cli_column capacity_fields[] = {
    {"Fit:", "{fits} more"}, {"Then short:", "{limit}"}, {"That is:", "{text:text}"}};
static const struct cli_column capacity_columns[] = {
    {"NODE", "{node}"},
    {"FIT", "{fits}"},
    {"CPUS FREE", "{free:cpus}"},
    {"MEMORY MIB FREE", "{free.memory_mib}"},
    {"RESOURCES FREE", "{free.named:amounts}"},
    {"THE NEXT ONE", "{limit}"},
};
static const struct cli_block capacity_blocks[] = {
    {CLI_FIELDS, NULL, capacity_fields, COUNT(capacity_fields)},
    {CLI_TABLE, "nodes", capacity_columns, COUNT(capacity_columns)},
    {CLI_TABLE, "groups", group_columns, COUNT(group_columns)},
};
static const struct cli_view capacity_view = {"node", "nodes", "node", capacity_blocks, COUNT(capacity_blocks)};

static bool for_people(const struct cli_args *args) {
  return args->output == CLI_OUT_PLAIN || args->output == CLI_OUT_TABLE || args->output == CLI_OUT_WIDE;
}

int cmd_vm_explain(struct cli_args *args) {
  struct blx_vm_explain_request request = BLX_VM_EXPLAIN_REQUEST_INIT;
  struct blx_placement_report *report = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  request.name = cli_vm_name(args->words[0], INSTANCE_NAME_MAX);
  request.all = args->all;
  if (request.name == NULL) return CLI_EXIT_USAGE;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (blx_vm_explain(client, &request, &report, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show(args, "placement_report", report, &report_view);
  if (status == 0 && for_people(args) && report->n_nodes < report->nodes_total)
    printf("\nThe nearest %zu of %u nodes are shown, with --all every one.\n", report->n_nodes, report->nodes_total);
  blx_placement_report_free(report);
  blx_client_close(client);
  return status;
}

/* ---- plans */

/* Status 1 says that something would change: a failure must not look like it. */
static int plan_failed(int status) {
  return status == CLI_EXIT_INTERNAL ? CLI_EXIT_PLAN_INTERNAL : status;
}

static void put_summary(const struct blx_vm_plan *plan) {
  const char *many = plan->changes == 1 ? "" : "s";
  if (plan->changes == 0)
    puts("nothing would change");
  else if (plan->waiting == 0)
    printf("%u change%s; nothing was done\n", plan->changes, many);
  else
    printf("%u change%s, and %u instance%s would wait for a node; nothing was done\n", plan->changes, many,
           plan->waiting, plan->waiting == 1 ? "" : "s");
}

static int show_plan(const struct cli_args *args, const struct blx_vm_plan *plan) {
  bool rows = plan->n_instances > 0 || !for_people(args);
  const struct cli_view *view = plan->waiting > 0 || args->all != 0 ? &waiting_view : &plan_view;
  int status = rows ? cli_show(args, "vm_plan", plan, view) : CLI_EXIT_OK;
  if (status == 0 && for_people(args)) put_summary(plan);
  if (status == 0 && (fflush(stdout) != 0 || ferror(stdout) != 0) && !cli_output_closed()) {
    fputs("blixard: the output could not be written [IO]\n", stderr);
    status = CLI_EXIT_PLAN_INTERNAL;
  }
  if (status != 0) return plan_failed(status);
  return plan->changes > 0 ? CLI_EXIT_CHANGES : CLI_EXIT_OK;
}

int cli_plan(const struct cli_args *args, blx_client *client, struct blx_vm_plan_request *request) {
  struct blx_vm_plan *plan = NULL;
  blx_error err = {0};
  request->all = args->all;
  int status = blx_vm_plan(client, request, &plan, &err) != 0 ? plan_failed(cli_fail(&err)) : show_plan(args, plan);
  blx_vm_plan_free(plan);
  return status;
}

static int scaled(struct cli_args *args, blx_client *client, const struct blx_vm_scale_request *request,
                  uint64_t started_ms) {
  struct blx_vm *vm = NULL;
  blx_error err = {0};
  char done[64];
  int status;
  if (blx_vm_scale(client, request, &vm, &err) != 0) {
    status = cli_fail_change(args, &err);
  } else {
    bool stopped = vm->desired == BLX_DESIRED_STOPPED;
    snprintf(done, sizeof done, "will have %u replica%s", request->replicas, request->replicas == 1 ? "" : "s");
    status = cli_vm_changed(args, client, vm, done, stopped ? BLX_PHASE_STOPPED : BLX_PHASE_RUNNING, started_ms);
  }
  blx_vm_free(vm);
  return status;
}

int cmd_vm_scale(struct cli_args *args) {
  struct blx_vm_scale_request request = BLX_VM_SCALE_REQUEST_INIT;
  struct blx_vm_plan_request plan = BLX_VM_PLAN_REQUEST_INIT;
  blx_client *client = NULL;
  uint64_t started_ms = cli_now_ms();
  request.name = cli_vm_name(args->words[0], VM_NAME_MAX);
  if (request.name == NULL) return CLI_EXIT_USAGE;
  if (args->spec.has_replicas == 0) return cli_usage("--replicas is missing: how many there are to be");
  if (args->plan != 0 && args->wait != 0) return cli_usage("--plan changes nothing: there is nothing to --wait for");
  request.replicas = args->spec.replicas;
  request.has_replicas = 1;
  request.if_revision = args->if_revision;
  request.request_id = cli_request_id(args);
  if (request.request_id == NULL) return CLI_EXIT_INTERNAL;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  plan.scale = &request;
  status = args->plan != 0 ? cli_plan(args, client, &plan) : scaled(args, client, &request, started_ms);
  blx_client_close(client);
  return status;
}

/* ---- capacity */

int cmd_cluster_capacity(struct cli_args *args) {
  struct blx_capacity_request request = BLX_CAPACITY_REQUEST_INIT;
  struct blx_capacity_report *report = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  if (args->spec.vcpus == 0 || args->spec.memory_mib == 0)
    return cli_usage("the size is missing: --shape 2c4g, or --vcpus 2 --memory 4096");
  cli_place_fill(args);
  args->spec.name = "shape";
  request.spec = &args->spec;
  request.has_survive = args->place.has_survive;
  request.survive = args->place.survive;
  request.stale = args->stale;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (blx_capacity_get(client, &request, &report, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show(args, "capacity_report", report, &capacity_view);
  blx_capacity_report_free(report);
  blx_client_close(client);
  return status;
}
