#include "blixardd_config.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum daemon_parsed print_help(void) {
  enum { COLUMN = 34 };
  puts("blixardd: a node of a Blixard cluster\n\nusage: blixardd [flags]\n       blixardd recover|restore --help\n");
  for (size_t i = 0; i < daemon_rows_count; i++) {
    const struct daemon_row *row = &daemon_rows[i];
    const char *value = row->value != NULL ? row->value : "";
    const char *preset = row->kind == DAEMON_SWITCH ? NULL : row->preset != NULL ? row->preset : row->without;
    int used = printf("  --%s%s%s", row->name, *value != '\0' ? " " : "", value);
    if (used >= COLUMN) used = printf("\n") - 1;
    printf("%*s%s", COLUMN - used, "", row->doc);
    if (preset != NULL) printf("; %s without it", preset);
    putchar('\n');
  }
  puts("\nEach flag that sets something is a key of the file, with '_' for '-'; a flag wins. It stays in the "
       "foreground\n"
       "and logs to standard error. SIGTERM and SIGINT end it; its VMs run on and are found again at the next start.\n"
       "Exit status: 0 ended on request, 70 the node stopped itself, else as blixard(1).");
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

static enum daemon_parsed no_flag(const char *given) {
  char name[DAEMON_NAME_SIZE], near[DAEMON_NAME_SIZE];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(given + strspn(given, "-"), "="), given + strspn(given, "-"));
  if (strncmp(given, "--", 2) == 0 && daemon_row_nearest(name, false, near) != NULL)
    return bad("there is no flag %s, --%s is near; see `blixardd --help`", given, near);
  return bad("there is no flag %s; see `blixardd --help`", given);
}

static enum daemon_parsed take_order(const struct daemon_row *row, struct daemon_config *config, const char *value) {
  if (strcmp(row->name, "help") == 0) return print_help();
  if (strcmp(row->name, "version") == 0) {
    printf("blixardd %s\n", blx_version());
    return DAEMON_DONE;
  }
  if (strcmp(row->name, "check-config") == 0) config->check = true;
  if (strcmp(row->name, "print-config") == 0) config->print = true;
  if (strcmp(row->name, "config") == 0) {
    if (*value == '\0') return bad("--config: \"\" is not a path");
    config->file_wanted = value;
  }
  return DAEMON_RUN;
}

/* A record or map is written KEY=VALUE,KEY=VALUE; a label's value may hold commas, so that it is one pair. */
static enum daemon_parsed take_parts(const struct daemon_row *row, struct daemon_config *config, char *value) {
  struct daemon_source *source = &config->sources[row - daemon_rows];
  char shown[96], why[DAEMON_WHY_SIZE], allowed[DAEMON_WHY_SIZE];
  bool again = row->kind == DAEMON_LABELS && source->from == DAEMON_FROM_FLAG;
  snprintf(shown, sizeof shown, "%s", value);
  if (!again) daemon_set_begin(config, row);
  source->from = DAEMON_FROM_FLAG;
  for (char *part = value; part != NULL;) {
    char *next = row->kind == DAEMON_LABELS ? NULL : strchr(part, ',');
    char *equals = strchr(part, '=');
    if (next != NULL) *next++ = '\0';
    equals = equals != NULL && equals > part && (next == NULL || equals < next) ? equals : NULL;
    if (equals == NULL) return bad("--%s: \"%s\" is not %s", row->name, shown, daemon_row_allowed(row, allowed));
    *equals = '\0';
    if (!daemon_set_part(config, row, part, equals + 1, why)) return bad("--%s: %s", row->name, why);
    part = next;
  }
  return daemon_set_end(config, row, why) ? DAEMON_RUN : bad("--%s: %s", row->name, why);
}

static enum daemon_parsed take_row(const struct daemon_row *row, struct daemon_config *config, char *value) {
  char why[DAEMON_WHY_SIZE];
  if (row->kind == DAEMON_ORDER) return take_order(row, config, value);
  if (row->kind == DAEMON_LABELS || row->kind == DAEMON_CAPACITY) return take_parts(row, config, value);
  if (!daemon_set(config, row, value != NULL ? value : "true", why)) return bad("--%s: %s", row->name, why);
  config->sources[row - daemon_rows].from = DAEMON_FROM_FLAG;
  return DAEMON_RUN;
}

enum daemon_parsed daemon_flags_parse(int argc, char **argv, struct daemon_config *config) {
  struct option options[DAEMON_ROWS_MAX + 1] = {0};
  for (size_t i = 0; i < daemon_rows_count; i++) {
    /* A switch takes one after '=', so that a flag can win over the file there, too. */
    int takes = daemon_rows[i].kind == DAEMON_SWITCH ? optional_argument
                : daemon_rows[i].value != NULL       ? required_argument
                                                     : no_argument;
    options[i] = (struct option){daemon_rows[i].name, takes, NULL, 0};
  }
  opterr = 0;
  for (;;) {
    int at = -1;
    int tried = optind;
    int found = getopt_long(argc, argv, "+:", options, &at);
    if (found == -1) break;
    if (found == ':') return bad("%s needs a value; see `blixardd --help`", argv[tried]);
    if (found != 0 || at < 0) return no_flag(argv[tried]);
    enum daemon_parsed parsed = take_row(&daemon_rows[at], config, optarg);
    if (parsed != DAEMON_RUN) return parsed;
  }
  if (optind < argc) return bad("\"%s\" is no flag; see `blixardd --help`", argv[optind]);
  return DAEMON_RUN;
}
