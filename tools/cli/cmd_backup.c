#include "kinds.h"

#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct cli_column backup_fields[] = {
    {"Cluster:", "{cluster_name} {cluster_id}"},
    {"Index:", "{index}"},
    {"Time:", "{time_ms:time}"},
    {"Saved by:", "{saved_by}, version {version}"},
    {"VMs:", "{vms}"},
    {"Instances:", "{instances}"},
    {"Configs:", "{configs}"},
    {"Nodes:", "{nodes}, not part of a restore"},
    {"File:", "{bytes} bytes, {records} records, format {format}"},
    {"SHA-256:", "{sha256}"},
};
static const struct cli_block backup_blocks[] = {{CLI_FIELDS, NULL, backup_fields, COUNT(backup_fields)}};
static const struct cli_view backup_view = {"backup", NULL, "cluster_name", backup_blocks, COUNT(backup_blocks)};

static int show(const struct cli_args *args, struct blx_backup_info *info) {
  int status = cli_show(args, "backup_info", info, &backup_view);
  blx_backup_info_free(info);
  return status;
}

static int save(struct cli_args *args, const char *path) {
  struct blx_backup_info *info = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  uint32_t flags = args->force != 0 ? BLX_BACKUP_REPLACE : 0;
  int rc = blx_cluster_backup_save(client, path, flags, args->timeout_ms, &info, &err);
  blx_client_close(client);
  return rc != 0 ? cli_fail(&err) : show(args, info);
}

static int inspect(const struct cli_args *args, const char *path) {
  struct blx_backup_info *info = NULL;
  blx_error err = {0};
  if (args->force != 0) return cli_usage("--force: belongs to `blixard cluster backup save`");
  return blx_backup_inspect(path, &info, &err) != 0 ? cli_fail(&err) : show(args, info);
}

int cmd_cluster_backup(struct cli_args *args) {
  char quoted[CLI_QUOTE_SIZE];
  if (args->words[1][0] == '\0') return cli_usage("FILE is empty: give the path of a backup");
  if (strcmp(args->words[0], "save") == 0) return save(args, args->words[1]);
  if (strcmp(args->words[0], "inspect") == 0) return inspect(args, args->words[1]);
  if (strcmp(args->words[0], "restore") == 0)
    return cli_usage("a restore makes a new cluster of an empty data directory: run `blixardd restore` on its host");
  return cli_usage("%s is neither save nor inspect", cli_quote(quoted, sizeof quoted, args->words[0]));
}
