#include "blixardd_config.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef BLX__PREFIX
#define BLX__PREFIX "/usr/local"
#endif

#define OPTION(field) offsetof(struct daemon_config, options.field)
#define PATH_ROW(name, field, value, preset, doc) \
  { name, DAEMON_PATH, OPTION(field), 1, PATH_MAX - 1, "", value, preset, NULL, doc }
#define ORDER_ROW(name, value, doc) \
  { name, DAEMON_ORDER, 0, 0, 0, "", value, NULL, NULL, doc }

const struct daemon_row daemon_rows[] = {
    {"data-dir", DAEMON_PATH, OPTION(data_dir), 1, DAEMON_DATA_DIR_MAX, "", "DIR", "/var/lib/blixard", NULL,
     "where the node keeps what it is"},
    {"name", DAEMON_NAME, OPTION(name), 1, 63, "", "NAME", NULL, "the host's", "name of the node"},
    {"socket", DAEMON_PATH, OPTION(socket_path), 1, DAEMON_SOCKET_PATH_MAX, "", "PATH", NULL, "DIR/blixard.sock",
     "where the API answers"},
    {"bootstrap", DAEMON_SWITCH, OPTION(bootstrap), 0, 1, "", NULL, "false", NULL,
     "make a cluster of this node if the data directory is in none yet"},
    {"simulate-vms", DAEMON_SWITCH, OPTION(simulate_vms), 0, 1, "", NULL, "false", NULL,
     "virtual machines are simulated; everything else is real"},
    {"capacity", DAEMON_CAPACITY, 0, 0, 0, "", "vcpus=N,memory_mib=N", NULL, "what the machine has, less a reserve,",
     "what instances may use"},
    {"reserve-vcpus", DAEMON_NUMBER, OPTION(reserve_vcpus), 0, 65535, "processors", "N", "0", NULL,
     "processors that the host keeps for itself, without capacity"},
    {"reserve-memory", DAEMON_NUMBER, OPTION(reserve_memory_mib), 0, 1073741824, "MiB", "MIB", "0", NULL,
     "and memory; 0: the larger of 512 and an eighth"},
    {"label", DAEMON_LABELS, 0, 0, DAEMON_LABELS_MAX, "", "KEY=VALUE", NULL, NULL,
     "a label of the node; may be repeated"},
    {"log-level", DAEMON_LEVEL, OPTION(log_level), 0, BLX_LOG_DEBUG, "", "LEVEL", "info", NULL, "what is logged"},
    PATH_ROW("shim", shim_path, "PATH", BLX__PREFIX "/bin/blixard-shim", "the blixard-shim program"),
    PATH_ROW("guest", guest_path, "PATH", BLX__PREFIX "/bin/blixard-guest", "the static blixard-guest program"),
    PATH_ROW("runner-dir", runner_dir, "DIR", BLX__PREFIX "/share/blixard/debian-runner",
             "what builds runners from .nix modules"),
    {"kernel-dir", DAEMON_PATH, OPTION(kernel_dir), 1, PATH_MAX - 1, "", "DIR", NULL, "kernel in the runner directory",
     "the guests' kernel"},
    {"nix-store-dir", DAEMON_PATH, OPTION(nix_store_dir), 1, PATH_MAX - 1, "", "DIR", NULL, "the machine's",
     "an own Nix store"},
    {"nixpkgs-ref", DAEMON_PIN, OPTION(nixpkgs_ref), 1, DAEMON_PIN_MAX, "", "REF", NULL, "none",
     "nixpkgs for guests of nix/vm-template, a pinned flake reference"},
    {"microvm-ref", DAEMON_PIN, OPTION(microvm_ref), 1, DAEMON_PIN_MAX, "", "REF", NULL, "none",
     "microvm.nix for them, a pinned flake reference"},
    {"share-paths", DAEMON_PATHS, OPTION(share_paths), 1, DAEMON_PATHS_MAX, "", "DIR:DIR", NULL, "/nix/store alone",
     "below these lies what a VM may share with this host"},
    {"virtiofsd", DAEMON_PATH, OPTION(virtiofsd_path), 1, PATH_MAX - 1, "", "PATH", NULL, "the one that is found",
     "the program that serves shares"},
    {"heartbeat-ms", DAEMON_NUMBER, OPTION(heartbeat_ms), 10, 1000, "ms", "MS", "200", NULL,
     "how often the leader says that it lives"},
    {"election-ms", DAEMON_NUMBER, OPTION(election_ms), 50, 10000, "ms", "MS", "2000", NULL,
     "silence after which another leader is chosen; at least 5 heartbeats"},
    {"unsafe-fs", DAEMON_SWITCH, OPTION(unsafe_fs), 0, 1, "", NULL, "false", NULL,
     "run on a file system other than ext4, XFS or tmpfs, where a crash may cost the log"},
    {"audit-max-age", DAEMON_NUMBER, OPTION(audit_max_age_days), 1, 36500, "days", "DAYS", "365", NULL,
     "audit records that are so much older than the newest are removed"},
    {"audit-max-size", DAEMON_NUMBER, OPTION(audit_max_size_mib), 1, 65536, "MiB", "MIB", "256", NULL,
     "what the audit log may take; the oldest records are removed"},
    {"events-max-age", DAEMON_NUMBER, OPTION(events_max_age_days), 1, 36500, "days", "DAYS", "30", NULL,
     "events that are so much older than the newest are removed"},
    {"events-max-size", DAEMON_NUMBER, OPTION(events_max_size_mib), 1, 65536, "MiB", "MIB", "128", NULL,
     "what events may take; the oldest are removed"},
    PATH_ROW("watchdog", watchdog_path, "PATH", BLX__PREFIX "/bin/blixard-watchdog", "the blixard-watchdog program"),
    {"watchdog-device", DAEMON_PATH, OPTION(watchdog_device), 1, 128, "", "PATH", NULL, "none",
     "resets the machine when that program hangs"},
    {"no-watchdog", DAEMON_SWITCH, OPTION(no_watchdog), 0, 1, "", NULL, "false", NULL,
     "run instances with ha=auto here without such a device and without a fence command"},
    ORDER_ROW("config", "FILE", "a YAML file with flags as keys; /etc/blixard/blixardd.yaml, if there, without it"),
    ORDER_ROW("check-config", NULL, "say what is wrong with the file, the flags and the paths, and end"),
    ORDER_ROW("print-config", NULL, "print the configuration with where each value came from, and end"),
    ORDER_ROW("help", NULL, "this text"),
    ORDER_ROW("version", NULL, "version of the daemon and its library"),
};
const size_t daemon_rows_count = DAEMON_COUNT(daemon_rows);
_Static_assert(DAEMON_COUNT(daemon_rows) <= DAEMON_ROWS_MAX, "a row more than there is room for its source");

/* The host's name up to its first dot, in small letters. */
static void take_hostname(struct daemon_config *config) {
  if (gethostname(config->hostname, sizeof config->hostname - 1) != 0) return;
  config->hostname[strcspn(config->hostname, ".")] = '\0';
  for (char *p = config->hostname; *p != '\0'; p++) *p = (char)tolower((unsigned char)*p);
  config->options.name = config->hostname;
}

void daemon_config_init(struct daemon_config *config) {
  char why[DAEMON_WHY_SIZE];
  *config = (struct daemon_config){.options = BLX_NODE_OPTIONS_INIT, .capacity = BLX_RESOURCES_INIT};
  config->options.labels = config->label_list;
  take_hostname(config);
  for (size_t i = 0; i < daemon_rows_count; i++)
    if (daemon_rows[i].preset != NULL) (void)daemon_set(config, &daemon_rows[i], daemon_rows[i].preset, why);
}

void daemon_config_finish(struct daemon_config *config) {
  if (config->options.socket_path != NULL) return;
  int n = snprintf(config->socket, sizeof config->socket, "%s/blixard.sock", config->options.data_dir);
  if (n > 0 && (size_t)n < sizeof config->socket) config->options.socket_path = config->socket;
}

const char *daemon_row_key(const struct daemon_row *row, char out[DAEMON_NAME_SIZE]) {
  snprintf(out, DAEMON_NAME_SIZE, "%s", row->name);
  for (char *p = out; *p != '\0'; p++)
    if (*p == '-') *p = '_';
  return out;
}

bool daemon_row_is_text(const struct daemon_row *row) {
  return row->kind == DAEMON_PATH || row->kind == DAEMON_PATHS || row->kind == DAEMON_NAME || row->kind == DAEMON_PIN;
}

int daemon_row_find(const char *name, bool key) {
  char own[DAEMON_NAME_SIZE];
  for (size_t i = 0; i < daemon_rows_count; i++) {
    if (key && daemon_rows[i].kind == DAEMON_ORDER) continue;
    if (strcmp(key ? daemon_row_key(&daemon_rows[i], own) : daemon_rows[i].name, name) == 0) return (int)i;
  }
  return -1;
}

/* Levenshtein's distance, of words that are short. */
static size_t distance(const char *a, const char *b) {
  size_t row[DAEMON_NAME_SIZE], n = strlen(b);
  for (size_t j = 0; j <= n; j++) row[j] = j;
  for (size_t i = 1; a[i - 1] != '\0'; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= n; j++) {
      size_t changed = diagonal + (a[i - 1] != b[j - 1]);
      size_t added = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
      diagonal = row[j];
      row[j] = changed < added ? changed : added;
    }
  }
  return row[n];
}

const char *daemon_row_nearest(const char *name, bool key, char out[DAEMON_NAME_SIZE]) {
  size_t len = strlen(name), best = len / 2 < 4 ? len / 2 + 1 : 5; /* farther is a guess that misleads */
  const struct daemon_row *nearest = NULL;
  char own[DAEMON_NAME_SIZE];
  if (len >= DAEMON_NAME_SIZE) return NULL;
  for (size_t i = 0; i < daemon_rows_count; i++) {
    if (key && daemon_rows[i].kind == DAEMON_ORDER) continue;
    size_t far = distance(name, key ? daemon_row_key(&daemon_rows[i], own) : daemon_rows[i].name);
    if (far >= best) continue;
    best = far;
    nearest = &daemon_rows[i];
  }
  if (nearest == NULL) return NULL;
  if (key) return daemon_row_key(nearest, out);
  snprintf(out, DAEMON_NAME_SIZE, "%s", nearest->name);
  return out;
}

const char *daemon_row_allowed(const struct daemon_row *row, char out[DAEMON_WHY_SIZE]) {
  unsigned long long lo = row->lo, hi = row->hi;
  switch (row->kind) {
  case DAEMON_PATH: snprintf(out, DAEMON_WHY_SIZE, "a path of %llu to %llu bytes", lo, hi); break;
  case DAEMON_PATHS:
    snprintf(out, DAEMON_WHY_SIZE, "a list of paths that begin with /, with : between, of at most %llu bytes", hi);
    break;
  case DAEMON_NAME:
    snprintf(out, DAEMON_WHY_SIZE, "a name: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most %llu characters", hi);
    break;
  case DAEMON_PIN:
    snprintf(out, DAEMON_WHY_SIZE,
             "a pinned flake reference: with rev= or narHash=, or github:OWNER/REPO/REV, of at most %llu bytes", hi);
    break;
  case DAEMON_SWITCH: snprintf(out, DAEMON_WHY_SIZE, "true or false"); break;
  case DAEMON_NUMBER: snprintf(out, DAEMON_WHY_SIZE, "a whole number from %llu to %llu (%s)", lo, hi, row->unit); break;
  case DAEMON_LEVEL: snprintf(out, DAEMON_WHY_SIZE, "error, warning, info or debug"); break;
  case DAEMON_CAPACITY: snprintf(out, DAEMON_WHY_SIZE, "vcpus=1..65536,memory_mib=32..1073741824"); break;
  case DAEMON_LABELS: snprintf(out, DAEMON_WHY_SIZE, "KEY=VALUE, %llu times at most", hi); break;
  case DAEMON_ORDER: snprintf(out, DAEMON_WHY_SIZE, "a path"); break;
  }
  return out;
}

void daemon_find(struct daemon_config *config, const char *row, const char *fmt, ...) {
  char text[DAEMON_WHY_SIZE + 128], key[DAEMON_NAME_SIZE];
  int at = daemon_row_find(row, false);
  const struct daemon_source *source = at >= 0 ? &config->sources[at] : &(const struct daemon_source){0};
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (++config->findings > DAEMON_FINDINGS_MAX) return;
  if (source->from == DAEMON_FROM_FILE)
    fprintf(stderr, "%s:%zu:%zu: %s: %s\n", config->file, source->line, source->column,
            daemon_row_key(&daemon_rows[at], key), text);
  else
    fprintf(stderr, "blixardd: --%s: %s [INVALID]\n", row, text);
}
