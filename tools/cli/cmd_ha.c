/* The commands about fencing: ha status, disarm and arm; node fence and fence-command. */
#include "output.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct cli_column ha_fields[] = {
    {"Fencing:", "{armed?armed}{armed!disarmed until }{disarmed_until_ms:time}{disarmed_by? by }{disarmed_by}"},
    {"Reason:", "{disarm_reason}"},
    {"Long leases until:", "{extended_until_ms:time}"},
    {"Lease:", "{lease.lease_ms:span}, asked for again every {lease.renew_ms:span}"},
    {"Proved dead after:", "{t_safe_ms:span} without an answer"},
    {"Instances:", "{instances}"},
};

static const struct cli_column ha_columns[] = {
    {"NODE", "{node.name}"},
    {"STATUS", "{node.status}"},
    {"CHANGES IN", "{node.status_left_ms:span}"},
    {"LEASE LEFT", "{node.lease_left_ms:span}"},
    {"INSTANCES", "{instances}"},
    {"TAKES", "{auto_missing!auto,}{manual_missing!manual,}"},
    {"WHY NOT", "{auto_missing}"},
};

static const struct cli_block ha_blocks[] = {
    {CLI_FIELDS, NULL, ha_fields, COUNT(ha_fields)},
    {CLI_TABLE, "nodes", ha_columns, COUNT(ha_columns)},
};
static const struct cli_view status_view = {"node", "nodes", "node.name", ha_blocks, COUNT(ha_blocks)};
static const struct cli_view disarm_view = {"node", "nodes", "node.name", ha_blocks, 1};

int cmd_ha_status(struct cli_args *args) {
  struct blx_ha_status_request request = BLX_HA_STATUS_REQUEST_INIT;
  struct blx_ha_status *result = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  request.stale = args->stale;
  if (blx_ha_status_get(client, &request, &result, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show(args, "ha_status", result, &status_view);
  blx_ha_status_free(result);
  blx_client_close(client);
  return status;
}

static int set_armed(struct cli_args *args, uint32_t for_ms) {
  struct blx_ha_disarm_request request = BLX_HA_DISARM_REQUEST_INIT;
  struct blx_ha_status *result = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  if (cli_request_id(args) == NULL) return CLI_EXIT_INTERNAL;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  request.for_ms = for_ms;
  request.reason = args->reason;
  request.request_id = args->request_id;
  if (blx_ha_disarm(client, &request, &result, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    status = cli_show(args, "ha_status", result, &disarm_view);
  blx_ha_status_free(result);
  blx_client_close(client);
  return status;
}

int cmd_ha_disarm(struct cli_args *args) {
  if (args->for_ms == 0) return cli_usage("--for is missing: how long no node is fenced by itself, 24h at most");
  return set_armed(args, args->for_ms);
}

int cmd_ha_arm(struct cli_args *args) {
  return set_armed(args, 0);
}

/* ---- one node */

static const struct cli_column fence_columns[] = {
    {"NAME", "{name}"},
    {"STATUS", "{status}"},
    {"CHANGES IN", "{status_left_ms:span}"},
    {"PROOF", "{fence_proof}"},
};
static const struct cli_block fence_blocks[] = {{CLI_TABLE, NULL, fence_columns, COUNT(fence_columns)}};
static const struct cli_view fence_view = {"node", NULL, "name", fence_blocks, COUNT(fence_blocks)};

static const struct cli_column command_columns[] = {{"NAME", "{name}"}, {"FENCE COMMAND", "{fence_command}"}};
static const struct cli_block command_blocks[] = {{CLI_TABLE, NULL, command_columns, COUNT(command_columns)}};
static const struct cli_view command_view = {"node", NULL, "name", command_blocks, COUNT(command_blocks)};

int cli_confirm_name(const struct cli_args *args, const char *name, const char *what) {
  char typed[128] = "";
  if (args->yes_name != NULL)
    return strcmp(args->yes_name, name) == 0 ? 0 : cli_usage("--yes-name is not %s: nothing was done", name);
  if (isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0)
    return cli_usage("%s: say that you mean it with --yes-name %s", what, name);
  fprintf(stderr, "%s.\nType its name to go on: ", what);
  if (fgets(typed, sizeof typed, stdin) == NULL) typed[0] = '\0';
  typed[strcspn(typed, "\n")] = '\0';
  return strcmp(typed, name) == 0 ? 0 : cli_usage("that is not %s: nothing was done", name);
}

int cmd_node_fence(struct cli_args *args) {
  struct blx_node_fence_request request = BLX_NODE_FENCE_REQUEST_INIT;
  struct blx_node_info *node = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  char what[192];
  request.name = cli_node_name(args->words[0]);
  if (request.name == NULL) return CLI_EXIT_USAGE;
  if (args->proved != NULL && *args->proved == '\0')
    return cli_usage("--proved needs words: how it is known that the machine is off");
  snprintf(what, sizeof what, "what is highly available on %s ends there%s", request.name,
           args->proved != NULL ? ", and starts elsewhere at once: if its machine is on, it runs twice" : "");
  int status = cli_confirm_name(args, request.name, what);
  if (status != 0) return status;
  if (cli_request_id(args) == NULL) return CLI_EXIT_INTERNAL;
  status = cli_connect(args, &client);
  if (status != 0) return status;
  request.request_id = args->request_id;
  request.reason = args->reason;
  request.proved = args->proved;
  if (blx_node_fence(client, &request, &node, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    status = cli_show_change(args, "node_info", node, &fence_view,
                             node->fence == BLX_FENCE_BEGUN ? "is being fenced: what it had starts elsewhere when that "
                                                              "is proved, see `blixard ha status`"
                             : node->fence == BLX_FENCE_DONE ? "is fenced: what it had starts elsewhere"
                                                             : "was fenced, and is back");
  blx_node_info_free(node);
  blx_client_close(client);
  return status;
}

static int show_command(const struct cli_args *args, blx_client *client, const char *name) {
  struct blx_node_name_request request = BLX_NODE_NAME_REQUEST_INIT;
  struct blx_node_detail *detail = NULL;
  blx_error err = {0};
  int status;
  request.name = name;
  if (blx_node_get(client, &request, &detail, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show(args, "node_info", detail->node, &command_view);
  blx_node_detail_free(detail);
  return status;
}

static int set_command(struct cli_args *args, blx_client *client, const char *name) {
  struct blx_node_fence_command_request request = BLX_NODE_FENCE_COMMAND_REQUEST_INIT;
  struct blx_node_info *node = NULL;
  blx_error err = {0};
  int status;
  if (cli_request_id(args) == NULL) return CLI_EXIT_INTERNAL;
  request.name = name;
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  request.command = args->command;
  if (blx_node_fence_command(client, &request, &node, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    status = cli_show_change(args, "node_info", node, &command_view,
                             args->command != NULL ? "has a fence command" : "has no fence command");
  blx_node_info_free(node);
  return status;
}

int cmd_node_fence_command(struct cli_args *args) {
  blx_client *client = NULL;
  const char *name = cli_node_name(args->words[0]);
  if (name == NULL) return CLI_EXIT_USAGE;
  if (args->command != NULL && args->unset != 0) return cli_usage("give either --set or --unset");
  if (args->command != NULL && args->command[0] != '/')
    return cli_usage("--set: the program needs its whole path, for it may run on any server");
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  status =
      args->command != NULL || args->unset != 0 ? set_command(args, client, name) : show_command(args, client, name);
  blx_client_close(client);
  return status;
}
