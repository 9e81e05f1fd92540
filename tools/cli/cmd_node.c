/* The commands about one node: describe, cordon, uncordon, label, taint, remove. */
#include "output.h"

#include <stdio.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

enum { TAINT_SIZE = 340, TAINT_KEY_MAX = 63, TAINT_VALUE_MAX = 253 };

static const struct cli_column node_fields[] = {
    {"Name:", "{node.name}"},
    {"Status:", "{node.status}{node.cordoned?, cordoned}{node.unclear?, unclear}"},
    {"Since:", "{node.status_since_ms:time}"},
    {"Means:", "{node.reason.text:text}"},
    {"Unblock:", "{node.reason.unblock}"},
    {"Changes in:", "{node.status_left_ms:span}"},
    {"Lease left:", "{node.lease_left_ms:span}"},
    {"Fenced:", "{node.fence_since_ms:time}"},
    {"Fence reason:", "{node.fence_reason}"},
    {"Fence proof:", "{node.fence_proof}"},
    {"Fence command:", "{node.fence_command}"},
    {"Cordoned:", "{node.cordoned_ms:time}{node.cordoned_by? by }{node.cordoned_by}"},
    {"Cordon reason:", "{node.cordon_reason}"},
    {"Roles:", "{node.role},{node.leader?leader,}{node.voter?voter,}{node.simulated?simulated,}"},
    {"Capacity:", "{node.capacity.vcpus} vCPUs, {node.capacity.memory_mib} MiB"},
    {"Allocated:", "{node.allocated.vcpus} vCPUs, {node.allocated.memory_mib} MiB"},
    {"Free:", "{free:cpus} vCPUs, {free.memory_mib} MiB"},
    {"Resources:", "{node:named}"},
    {"Load:", "{node:load}"},
    {"Taints:", "{node.taints:taints}"},
    {"HA:",
     "{node.ha_ready?ends instances in time}{node.ha_ready!cannot end instances in time}{node.virtualized?, is a "
     "virtual machine}{node.no_watchdog?, --no-watchdog}"},
    {"Watchdog:", "{node.watchdog}"},
    {"Hypervisors:", "{node.hypervisors[]}"},
    {"CPU features:", "{node.cpu_features:names}"},
    {"Stored there:", "{node.stored:data}"},
    {"Labels:", "{node.labels:labels}"},
    {"  the daemon's:", "{node.daemon_labels:labels}"},
    {"  set:", "{node.set_labels:labels}"},
    {"Address:", "{node.address}"},
    {"Peer address:", "{node.peer_address}"},
    {"Version:", "{node.version}"},
    {"Joined:", "{node.joined_ms:time}"},
    {"Uid:", "{node.uid}"},
    {"Revision:", "{node.revision}"},
};

static const struct cli_column instance_columns[] = {
    {"TENANT", "{tenant}"},
    {"INSTANCE", "{name}"},
    {"PHASE", "{phase}"},
    {"SINCE", "{phase_since_ms:age}"},
    {"EPOCH", "{epoch}"},
    {"RESTARTS", "{restarts}"},
    {"REASON", "{reason.code:some}"},
    {"WHY", "{reason.text:line}"},
};

static const struct cli_column tombstone_columns[] = {
    {"TENANT", "{tenant}"},
    {"TO REMOVE", "{instance}"},
    {"UID", "{instance_uid}"},
    {"EPOCH", "{epoch}"},
    {"DELETED", "{since_ms:age}"},
    {"BY", "{deleted_by}"},
    {"MAY RUN", "{dead?no}{dead!yes}"},
};

static const struct cli_block describe_blocks[] = {
    {CLI_FIELDS, NULL, node_fields, COUNT(node_fields)},
    {CLI_TABLE, "instances", instance_columns, COUNT(instance_columns)},
    {CLI_TABLE, "tombstones", tombstone_columns, COUNT(tombstone_columns)},
};
static const struct cli_view describe_view = {"node", NULL, "node.name", describe_blocks, COUNT(describe_blocks)};

static const struct cli_column changed_columns[] = {
    {"NAME", "{name}"},
    {"STATUS", "{status}{cordoned?, cordoned}{unclear?, unclear}"},
    {"LABELS", "{labels:labels}"},
    {"TAINTS", "{taints:taints}"},
};
static const struct cli_block changed_blocks[] = {{CLI_TABLE, NULL, changed_columns, COUNT(changed_columns)}};
static const struct cli_view changed_view = {"node", NULL, "name", changed_blocks, COUNT(changed_blocks)};

const char *cli_node_name(const char *word) {
  return cli_vm_name(strncmp(word, "node/", 5) == 0 ? word + 5 : word, CLI_NODE_NAME_MAX);
}

int cmd_node_describe(struct cli_args *args) {
  struct blx_node_name_request request = BLX_NODE_NAME_REQUEST_INIT;
  struct blx_node_detail *detail = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  request.name = cli_node_name(args->words[0]);
  request.stale = args->stale;
  if (request.name == NULL) return CLI_EXIT_USAGE;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (blx_node_get(client, &request, &detail, &err) != 0)
    status = cli_fail(&err);
  else
    status = cli_show(args, "node_detail", detail, &describe_view);
  blx_node_detail_free(detail);
  blx_client_close(client);
  return status;
}

/* The words after the name, KEY=VALUE or KEY-, as rows of the request. */
struct label_words {
  struct blx_label rows[CLI_WORDS_MAX];
  struct blx_label *set[CLI_WORDS_MAX], *unset[CLI_WORDS_MAX];
  char keys[CLI_WORDS_MAX][64];
  size_t n_set, n_unset;
};

/* The same of taints: KEY=VALUE:EFFECT, KEY:EFFECT, KEY=VALUE or KEY-. */
struct taint_words {
  struct blx_taint rows[CLI_WORDS_MAX];
  struct blx_taint *set[CLI_WORDS_MAX], *unset[CLI_WORDS_MAX];
  char text[CLI_WORDS_MAX][TAINT_SIZE];
  size_t n_set, n_unset;
};

/* A change of one node: the call, what else it needs, what to say when it is committed. */
struct change {
  int (*call)(blx_client *client, const struct cli_args *args, const struct change *change, struct blx_node_info **out,
              blx_error *err);
  struct label_words *labels;
  struct taint_words *taints;
  const char *done;
};

static int change_node(struct cli_args *args, const struct change *change) {
  struct blx_node_info *node = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  args->words[0] = cli_node_name(args->words[0]);
  if (args->words[0] == NULL) return CLI_EXIT_USAGE;
  if (cli_request_id(args) == NULL) return CLI_EXIT_INTERNAL;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  if (change->call(client, args, change, &node, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    status = cli_show_change(args, "node_info", node, &changed_view, change->done);
  blx_node_info_free(node);
  blx_client_close(client);
  return status;
}

static int call_cordon(blx_client *client, const struct cli_args *args, const struct change *change,
                       struct blx_node_info **out, blx_error *err) {
  (void)change;
  struct blx_node_cordon_request request = BLX_NODE_CORDON_REQUEST_INIT;
  request.name = args->words[0];
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  request.reason = args->reason;
  return blx_node_cordon(client, &request, out, err);
}

static int call_remove(blx_client *client, const struct cli_args *args, const struct change *change,
                       struct blx_node_info **out, blx_error *err) {
  (void)change;
  struct blx_node_remove_request request = BLX_NODE_REMOVE_REQUEST_INIT;
  request.name = args->words[0];
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  return blx_node_remove(client, &request, out, err);
}

int cmd_node_remove(struct cli_args *args) {
  static const struct change remove = {call_remove, NULL, NULL, "is removed"};
  static const char what[] =
      "it is removed from the cluster for good, and can come back only with an empty data directory";
  const char *name = cli_node_name(args->words[0]);
  int status = name == NULL ? CLI_EXIT_USAGE : cli_confirm_name(args, name, what);
  return status != 0 ? status : change_node(args, &remove);
}

int cmd_node_cordon(struct cli_args *args) {
  static const struct change cordon = {call_cordon, NULL, NULL, "is cordoned: nothing new is placed there"};
  return change_node(args, &cordon);
}

static int call_uncordon(blx_client *client, const struct cli_args *args, const struct change *change,
                         struct blx_node_info **out, blx_error *err) {
  (void)change;
  struct blx_node_name_request request = BLX_NODE_NAME_REQUEST_INIT;
  request.name = args->words[0];
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  return blx_node_uncordon(client, &request, out, err);
}

int cmd_node_uncordon(struct cli_args *args) {
  static const struct change uncordon = {call_uncordon, NULL, NULL, "is not cordoned"};
  return change_node(args, &uncordon);
}

static int take_word(struct label_words *to, size_t at, const char *word) {
  char quoted[CLI_QUOTE_SIZE];
  struct blx_label *row = &to->rows[at];
  const char *equals = strchr(word, '=');
  size_t n = equals != NULL ? (size_t)(equals - word) : strlen(word), key_max = sizeof to->keys[at] - 1;
  bool take_away = equals == NULL && n > 0 && word[n - 1] == '-';
  n -= take_away;
  if (n == 0 || n > key_max || (equals == NULL && !take_away))
    return cli_usage("%s is neither KEY=VALUE nor KEY-, with a key of 1 to %zu bytes",
                     cli_quote(quoted, sizeof quoted, word), key_max);
  memcpy(to->keys[at], word, n);
  *row = (struct blx_label)BLX_LABEL_INIT;
  row->key = to->keys[at];
  row->value = equals != NULL ? equals + 1 : "";
  if (take_away)
    to->unset[to->n_unset++] = row;
  else
    to->set[to->n_set++] = row;
  return 0;
}

static int call_label(blx_client *client, const struct cli_args *args, const struct change *change,
                      struct blx_node_info **out, blx_error *err) {
  struct blx_node_label_request request = BLX_NODE_LABEL_REQUEST_INIT;
  request.name = args->words[0];
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  request.set = change->labels->set;
  request.n_set = change->labels->n_set;
  request.unset = change->labels->unset;
  request.n_unset = change->labels->n_unset;
  return blx_node_label(client, &request, out, err);
}

int cmd_node_label(struct cli_args *args) {
  struct label_words words = {0};
  for (unsigned i = 1; i < args->n_words; i++)
    if (take_word(&words, i, args->words[i]) != 0) return CLI_EXIT_USAGE;
  const struct change label = {call_label, &words, NULL, "is labelled"};
  return change_node(args, &label);
}

/* Cuts ":NoPlace" or ":Avoid" off @text. False: there is another word. */
static bool take_effect(char *text, int32_t *out) {
  char *colon = strrchr(text, ':');
  *out = BLX_TAINT_EFFECT_NO_PLACE;
  if (colon == NULL) return true;
  if (strcmp(colon + 1, "Avoid") == 0)
    *out = BLX_TAINT_EFFECT_AVOID;
  else if (strcmp(colon + 1, "NoPlace") != 0)
    return false;
  *colon = '\0';
  return true;
}

static int take_taint(struct taint_words *to, size_t at, const char *word) {
  char quoted[CLI_QUOTE_SIZE], *text = to->text[at];
  struct blx_taint *row = &to->rows[at];
  size_t n = strlen(word);
  bool take_away = n > 1 && word[n - 1] == '-' && strpbrk(word, "=:") == NULL, ok = n < TAINT_SIZE;
  snprintf(text, TAINT_SIZE, "%.*s", (int)(n - take_away), word);
  *row = (struct blx_taint)BLX_TAINT_INIT;
  bool bare = strpbrk(word, "=:") == NULL;
  ok = ok && (take_away || !bare) && take_effect(text, &row->effect);
  char *equals = ok ? strchr(text, '=') : NULL;
  if (equals != NULL) *equals = '\0';
  row->key = text;
  row->value = equals != NULL ? equals + 1 : "";
  if (!ok || *text == '\0' || strlen(text) > TAINT_KEY_MAX || strlen(row->value) > TAINT_VALUE_MAX)
    return cli_usage("%s is neither KEY=VALUE:NoPlace, KEY=VALUE:Avoid, KEY:NoPlace, KEY:Avoid nor KEY-",
                     cli_quote(quoted, sizeof quoted, word));
  if (take_away)
    to->unset[to->n_unset++] = row;
  else
    to->set[to->n_set++] = row;
  return 0;
}

static int call_taint(blx_client *client, const struct cli_args *args, const struct change *change,
                      struct blx_node_info **out, blx_error *err) {
  struct blx_node_taint_request request = BLX_NODE_TAINT_REQUEST_INIT;
  request.name = args->words[0];
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  request.set = change->taints->set;
  request.n_set = change->taints->n_set;
  request.unset = change->taints->unset;
  request.n_unset = change->taints->n_unset;
  return blx_node_taint(client, &request, out, err);
}

int cmd_node_taint(struct cli_args *args) {
  struct taint_words words = {0};
  for (unsigned i = 1; i < args->n_words; i++)
    if (take_taint(&words, i, args->words[i]) != 0) return CLI_EXIT_USAGE;
  const struct change taint = {call_taint, NULL, &words, "is tainted as asked"};
  return change_node(args, &taint);
}
