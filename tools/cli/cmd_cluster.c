#include "kinds.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct cli_column status_fields[] = {
    {"Cluster:", "{name} {id}"},
    {"Leader:", "{leader}{leader!none at the moment}"},
    {"Nodes:", "{nodes:count}"},
    {"VMs:", "{vms}"},
    {"Instances:", "{running} of {instances} run"},
    {"Index:", "{index} in term {term}"},
    {"Time:", "{time_ms:time}"},
    {"Answered by:", "{answered_by}"},
};

static const struct cli_column node_columns[] = {
    {"NAME", "{name}"},
    {"STATUS", "{status}"},
    {"ROLES", "{role},{leader?leader,}{voter?voter,}{cordoned?cordoned,}{simulated?simulated,}"},
    {"VCPUS", "{allocated.vcpus}/{capacity.vcpus}"},
    {"MEMORY MIB", "{allocated.memory_mib}/{capacity.memory_mib}"},
    {"INSTANCES", "{instances}"},
    {"LABELS", "{labels:labels}"},
    {"VERSION", "{version}"},
    {"ADDRESS", "{address}"},
};

static const struct cli_block status_blocks[] = {
    {CLI_FIELDS, NULL, status_fields, COUNT(status_fields)},
    {CLI_TABLE, "nodes", node_columns, COUNT(node_columns)},
};
static const struct cli_view status_view = {"cluster", NULL, "name", status_blocks, 1};
static const struct cli_view verbose_view = {"cluster", NULL, "name", status_blocks, COUNT(status_blocks)};

static const struct cli_block node_blocks[] = {{CLI_TABLE, "nodes", node_columns, COUNT(node_columns)}};
const struct cli_view node_view = {"node", "nodes", "name", node_blocks, COUNT(node_blocks)};

int cmd_cluster_init(struct cli_args *args) {
  struct blx_cluster_init_request request = BLX_CLUSTER_INIT_REQUEST_INIT;
  struct blx_cluster_status *result = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  request.name = args->name;
  if (blx_cluster_init(client, &request, &result, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show_change(args, "cluster_status", result, &verbose_view, "made");
  blx_cluster_status_free(result);
  blx_client_close(client);
  return status;
}

/* The daemon resolves nothing against this shell's directory: a path is made absolute here. */
static const char *absolute_address(const char *address, char *buf, size_t size) {
  const char *path = strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
  char cwd[256];
  if (path[0] == '/' && path != address) return address;
  if (path == address && strchr(path, '/') == NULL) return address;
  const char *dir = "", *gap = "";
  if (path[0] != '/') {
    dir = getcwd(cwd, sizeof cwd);
    gap = "/";
    if (dir == NULL) return address;
  }
  int n = snprintf(buf, size, "unix:%s%s%s", dir, gap, path);
  return n > 0 && (size_t)n < size ? buf : address;
}

int cmd_cluster_join(struct cli_args *args) {
  struct blx_cluster_join_request request = BLX_CLUSTER_JOIN_REQUEST_INIT;
  struct blx_cluster_status *result = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  char address[1024], quoted[CLI_QUOTE_SIZE];
  if (args->address == NULL || *args->address == '\0')
    return cli_usage("--address is missing: where another daemon answers, as unix:PATH");
  if (strchr(args->address, '/') == NULL)
    return cli_unsupported("--address: %s is not unix:PATH; other addresses are not supported yet",
                           cli_quote(quoted, sizeof quoted, args->address));
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  request.node_id = args->node_id;
  request.role = args->worker ? BLX_NODE_ROLE_WORKER : BLX_NODE_ROLE_SERVER;
  request.address = absolute_address(args->address, address, sizeof address);
  if (blx_cluster_join(client, &request, &result, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show_change(args, "cluster_status", result, &verbose_view, "joined");
  blx_cluster_status_free(result);
  blx_client_close(client);
  return status;
}

int cmd_cluster_transfer(struct cli_args *args) {
  struct blx_cluster_transfer_request request = BLX_CLUSTER_TRANSFER_REQUEST_INIT;
  struct blx_cluster_status *result = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  if (args->n_words > 0 && (request.node = cli_vm_name(args->words[0], CLI_NODE_NAME_MAX)) == NULL)
    return CLI_EXIT_USAGE;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (blx_cluster_transfer(client, &request, &result, &err) != 0)
    status = cli_fail(&err);
  else if (args->output == CLI_OUT_PLAIN)
    printf("%s leads\n", result->leader != NULL && *result->leader != '\0' ? result->leader : "another server");
  else
    status = cli_show(args, "cluster_status", result, &verbose_view);
  blx_cluster_status_free(result);
  blx_client_close(client);
  return status;
}

int cmd_cluster_leave(struct cli_args *args) {
  struct blx_cluster_leave_request request = BLX_CLUSTER_LEAVE_REQUEST_INIT;
  struct blx_cluster_status *result = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  request.request_id = cli_request_id(args);
  request.force = args->force;
  if (request.request_id == NULL) return CLI_EXIT_INTERNAL;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (blx_cluster_leave(client, &request, &result, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    printf("node/%s has left its cluster and stops now. To use it again empty its data directory, start its daemon,\n"
           "then `blixard cluster join` or `blixard cluster init`.\n",
           result->answered_by != NULL ? result->answered_by : "");
  if (status == 0 && args->force)
    puts("What ran there has ended. If its cluster was not there to be told: `blixard node fence` with --proved, then\n"
         "`blixard node remove`, once it is.");
  blx_cluster_status_free(result);
  blx_client_close(client);
  return status;
}

int cmd_cluster_status(struct cli_args *args) {
  struct blx_cluster_status_request request = BLX_CLUSTER_STATUS_REQUEST_INIT;
  struct blx_cluster_status *result = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  request.stale = args->stale;
  bool people = args->output == CLI_OUT_PLAIN || args->output == CLI_OUT_TABLE || args->output == CLI_OUT_WIDE;
  if (blx_cluster_status_get(client, &request, &result, &err) != 0)
    status = cli_fail(&err);
  else if (people && (result->id == NULL || *result->id == '\0'))
    puts("This daemon is in no cluster yet. Make one with `blixard cluster init`, or join one with\n"
         "`blixard cluster join --address unix:PATH`.");
  else
    status = cli_show(args, "cluster_status", result, args->verbose != 0 ? &verbose_view : &status_view);
  blx_cluster_status_free(result);
  blx_client_close(client);
  return status;
}
