#include "blixardd_flags.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const char default_data_dir[] = "/var/lib/blixard";

/* A flag: how it is written, what takes its value (false: it is none of the allowed, told by @allowed), its help. */
struct row {
  const char *name;
  const char *value; /* NULL: takes none */
  bool (*take)(struct daemon_config *config, char *value);
  const char *allowed;
  const char *doc;
};

static bool parse_u64(const char *text, uint64_t lo, uint64_t hi, uint64_t *out) {
  char *end = NULL;
  if (!isdigit((unsigned char)*text)) return false;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0' || value < lo || value > hi) return false;
  *out = value;
  return true;
}

static bool parse_u32(const char *text, uint32_t lo, uint32_t hi, uint32_t *out) {
  uint64_t value = 0;
  if (!parse_u64(text, lo, hi, &value)) return false;
  *out = (uint32_t)value;
  return true;
}

static bool take_data_dir(struct daemon_config *config, char *value) {
  config->options.data_dir = value;
  return *value != '\0';
}

static bool take_name(struct daemon_config *config, char *value) {
  config->options.name = value;
  return *value != '\0';
}

static bool take_socket(struct daemon_config *config, char *value) {
  config->options.socket_path = strncmp(value, "unix:", 5) == 0 ? value + 5 : value;
  return *config->options.socket_path != '\0';
}

static bool take_bootstrap(struct daemon_config *config, char *value) {
  (void)value;
  config->options.bootstrap = 1;
  return true;
}

static bool take_simulate(struct daemon_config *config, char *value) {
  (void)value;
  config->options.simulate_vms = 1;
  return true;
}

static bool take_capacity(struct daemon_config *config, char *value) {
  bool vcpus = false, memory = false;
  char *part = NULL;
  while ((part = strsep(&value, ",")) != NULL) {
    if (strncmp(part, "vcpus=", 6) == 0)
      vcpus = parse_u32(part + 6, 1, 65536, &config->capacity.vcpus);
    else if (strncmp(part, "memory_mib=", 11) == 0)
      memory = parse_u64(part + 11, 32, 1073741824, &config->capacity.memory_mib);
    else
      return false;
  }
  config->options.capacity = &config->capacity;
  return vcpus && memory;
}

static bool take_label(struct daemon_config *config, char *value) {
  char *equals = strchr(value, '=');
  size_t n = config->options.n_labels;
  if (equals == NULL || equals == value || n == DAEMON_LABELS_MAX) return false;
  *equals = '\0';
  config->labels[n] = (struct blx_label)BLX_LABEL_INIT;
  config->labels[n].key = value;
  config->labels[n].value = equals + 1;
  config->label_list[n] = &config->labels[n];
  config->options.n_labels = n + 1;
  return true;
}

static bool take_log_level(struct daemon_config *config, char *value) {
  static const char *const levels[] = {"error", "warning", "info", "debug"};
  for (size_t i = 0; i < COUNT(levels); i++) {
    if (strcmp(levels[i], value) != 0) continue;
    config->options.log_level = (int32_t)i;
    return true;
  }
  return false;
}

static bool take_shim(struct daemon_config *config, char *value) {
  config->options.shim_path = value;
  return *value != '\0';
}

static bool take_guest(struct daemon_config *config, char *value) {
  config->options.guest_path = value;
  return *value != '\0';
}

static bool take_runner(struct daemon_config *config, char *value) {
  config->options.runner_dir = value;
  return *value != '\0';
}

static bool take_kernel(struct daemon_config *config, char *value) {
  config->options.kernel_dir = value;
  return *value != '\0';
}

static bool take_store(struct daemon_config *config, char *value) {
  config->options.nix_store_dir = value;
  return *value != '\0';
}

static bool take_heartbeat(struct daemon_config *config, char *value) {
  return parse_u32(value, 10, 1000, &config->options.heartbeat_ms);
}

static bool take_election(struct daemon_config *config, char *value) {
  return parse_u32(value, 50, 10000, &config->options.election_ms);
}

static bool take_unsafe_fs(struct daemon_config *config, char *value) {
  (void)value;
  config->options.unsafe_fs = 1;
  return true;
}

static const struct row rows[] = {
    {"data-dir", "DIR", take_data_dir, "a path", "where the node keeps what it is; /var/lib/blixard without it"},
    {"name", "NAME", take_name, "a name", "name of the node; the host's without it"},
    {"socket", "PATH", take_socket, "a path", "where the API answers; DIR/blixard.sock without it"},
    {"bootstrap", NULL, take_bootstrap, "", "make a cluster of this node if the data directory is in none yet"},
    {"simulate-vms", NULL, take_simulate, "", "virtual machines are simulated; everything else is real"},
    {"capacity", "vcpus=N,memory_mib=N", take_capacity, "vcpus=1..65536,memory_mib=32..1073741824",
     "what instances may use; what the machine has, less a reserve, without it"},
    {"label", "KEY=VALUE", take_label, "KEY=VALUE, 64 times at most", "a label of the node; may be repeated"},
    {"log-level", "LEVEL", take_log_level, "error, warning, info or debug", "what is logged; info without it"},
    {"shim", "PATH", take_shim, "a path", "the blixard-shim program"},
    {"guest", "PATH", take_guest, "a path", "the static blixard-guest program"},
    {"runner-dir", "DIR", take_runner, "a path", "what builds runners from .nix modules; the installed one without it"},
    {"kernel-dir", "DIR", take_kernel, "a path", "the guests' kernel; the runner directory's without it"},
    {"nix-store-dir", "DIR", take_store, "a path", "an own Nix store; the machine's without it"},
    {"heartbeat-ms", "MS", take_heartbeat, "a whole number from 10 to 1000 (ms)",
     "how often the leader says that it lives; 200 without it"},
    {"election-ms", "MS", take_election, "a whole number from 50 to 10000 (ms)",
     "silence after which another leader is chosen; at least 5 heartbeats; 2000 without it"},
    {"unsafe-fs", NULL, take_unsafe_fs, "",
     "run on a file system other than ext4, XFS or tmpfs, where a crash may cost the log"},
    {"help", NULL, NULL, "", "this text"},
    {"version", NULL, NULL, "", "version of the daemon and its library"},
};

static enum daemon_parsed print_help(void) {
  enum { COLUMN = 34 };
  puts("blixardd: a node of a Blixard cluster\n\nusage: blixardd [flags]\n");
  for (size_t i = 0; i < COUNT(rows); i++) {
    const char *value = rows[i].value != NULL ? rows[i].value : "";
    int used = printf("  --%s%s%s", rows[i].name, *value != '\0' ? " " : "", value);
    if (used >= COLUMN) used = printf("\n") - 1;
    printf("%*s%s\n", COLUMN - used, "", rows[i].doc);
  }
  puts("\nIt stays in the foreground and logs to standard error. SIGTERM and SIGINT end it; its VMs run on and are "
       "found\n"
       "again at the next start. Exit status: 0 ended on request, 70 the node stopped itself, else as blixard(1).");
  return DAEMON_DONE;
}

static enum daemon_parsed bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static enum daemon_parsed bad(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fputs("blixardd: ", stderr);
  vfprintf(stderr, fmt, ap);
  fputs(" [INVALID]\n", stderr);
  va_end(ap);
  return DAEMON_BAD;
}

/* The host's name up to its first dot, in small letters. */
static void take_hostname(struct daemon_config *config) {
  if (gethostname(config->hostname, sizeof config->hostname - 1) != 0) return;
  config->hostname[strcspn(config->hostname, ".")] = '\0';
  for (char *p = config->hostname; *p != '\0'; p++) *p = (char)tolower((unsigned char)*p);
  config->options.name = config->hostname;
}

static void set_defaults(struct daemon_config *config) {
  *config = (struct daemon_config){.options = BLX_NODE_OPTIONS_INIT, .capacity = BLX_RESOURCES_INIT};
  config->options.data_dir = default_data_dir;
  config->options.log_level = BLX_LOG_INFO;
  config->options.labels = config->label_list;
  take_hostname(config);
}

static enum daemon_parsed take_row(const struct row *row, struct daemon_config *config, char *value) {
  char shown[96];
  if (strcmp(row->name, "help") == 0) return print_help();
  if (strcmp(row->name, "version") == 0) {
    printf("blixardd %s\n", blx_version());
    return DAEMON_DONE;
  }
  snprintf(shown, sizeof shown, "%s", value != NULL ? value : "");
  if (!row->take(config, value)) return bad("--%s: \"%s\" is not %s", row->name, shown, row->allowed);
  return DAEMON_RUN;
}

enum daemon_parsed daemon_flags_parse(int argc, char **argv, struct daemon_config *config) {
  struct option options[COUNT(rows) + 1] = {0};
  set_defaults(config);
  for (size_t i = 0; i < COUNT(rows); i++)
    options[i] = (struct option){rows[i].name, rows[i].value != NULL ? required_argument : no_argument, NULL, 0};
  opterr = 0;
  for (;;) {
    int at = -1;
    int tried = optind;
    int found = getopt_long(argc, argv, ":", options, &at);
    if (found == -1) break;
    if (found == ':') return bad("%s needs a value; see `blixardd --help`", argv[tried]);
    if (found != 0 || at < 0) return bad("there is no flag %s; see `blixardd --help`", argv[tried]);
    enum daemon_parsed parsed = take_row(&rows[at], config, optarg);
    if (parsed != DAEMON_RUN) return parsed;
  }
  if (optind < argc) return bad("\"%s\" is no flag; see `blixardd --help`", argv[optind]);
  return DAEMON_RUN;
}
