/* blixard: the command line of a cluster. It finds the row, parses by the row, runs the row's function. */
#include "cli.h"
#include "flags.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct cli_verb *cli_verb_find(const char *group, const char *name) {
  size_t n = 0;
  const struct cli_verb *verbs = cli_verbs(&n);
  for (size_t i = 0; i < n; i++) {
    if (strcmp(verbs[i].group, group) != 0) continue;
    if (strcmp(verbs[i].name, name) == 0) return &verbs[i];
    if (verbs[i].also != NULL && strcmp(verbs[i].also, name) == 0) return &verbs[i];
  }
  return NULL;
}

bool cli_verb_runs_command(const struct cli_verb *verb) {
  return strstr(verb->words, " -- ") != NULL;
}

static bool group_exists(const char *group) {
  size_t n = 0;
  const struct cli_verb *verbs = cli_verbs(&n);
  for (size_t i = 0; i < n; i++)
    if (*group != '\0' && strcmp(verbs[i].group, group) == 0) return true;
  return false;
}

static int unknown_command(const char *group, const char *word) {
  char quoted[CLI_QUOTE_SIZE];
  struct cli_nearest nearest = {.word = word};
  size_t n = 0;
  const struct cli_verb *verbs = cli_verbs(&n);
  for (size_t i = 0; i < n; i++) {
    if (*group == '\0') cli_nearest_offer(&nearest, *verbs[i].group != '\0' ? verbs[i].group : verbs[i].name);
    if (*group != '\0' && strcmp(verbs[i].group, group) == 0) cli_nearest_offer(&nearest, verbs[i].name);
  }
  const char *gap = *group != '\0' ? " " : "";
  cli_quote(quoted, sizeof quoted, word);
  if (nearest.best != NULL)
    return cli_usage("there is no command %s; did you mean `blixard %s%s%s`?", quoted, group, gap, nearest.best);
  return cli_usage("there is no command %s; `blixard help%s%s` lists them", quoted, gap, group);
}

static int run_verb(const struct cli_verb *verb, int argc, char **argv) {
  struct cli_args args = {.spec = BLX_VM_SPEC_INIT};
  if (verb->run == NULL) return cli_unsupported("%s %s is not supported: %s", verb->group, verb->name, verb->doc);
  int status = cli_flags_parse(verb, argc, argv, &args);
  if (status != 0) return status;
  if (args.help != 0) return cli_help(verb->group, verb->name);
  return verb->run(&args);
}

static bool is_help(const char *word) {
  return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static bool takes_next(const char *arg) {
  size_t n = 0;
  const struct cli_flag *rows = cli_global_flags(&n);
  for (size_t i = 0; i < n; i++) {
    if (rows[i].kind == CLI_BOOL) continue;
    if (rows[i].letter != 0 && arg[1] == rows[i].letter && arg[2] == '\0') return true;
    if (arg[1] != '-') continue;
    if (strcmp(arg + 2, rows[i].name) == 0 || (rows[i].also != NULL && strcmp(arg + 2, rows[i].also) == 0)) return true;
  }
  return false;
}

/* Flags before the command ("blixard -o json vm list") go behind it: its row knows them all. */
static int leading_flags(int argc, char **argv) {
  int at = 1;
  while (at < argc && argv[at][0] == '-' && !is_help(argv[at]) && strcmp(argv[at], "--version") != 0)
    at += takes_next(argv[at]) ? 2 : 1;
  return at > argc ? argc : at;
}

static int run(int argc, char **argv) {
  if (argc < 2) return cli_help(NULL, NULL);
  if (is_help(argv[1])) return cli_help(NULL, NULL);
  if (strcmp(argv[1], "--version") == 0) return run_verb(cli_verb_find("", "version"), 0, NULL);
  const char *word = argv[1];
  if (strcmp(word, "__complete") == 0) return cli_complete(argc - 2, argv + 2);
  const struct cli_verb *verb = cli_verb_find("", word);
  if (verb != NULL) return run_verb(verb, argc - 2, argv + 2);
  if (!group_exists(word)) return unknown_command("", word);
  if (argc < 3 || is_help(argv[2])) return cli_help(word, NULL);
  verb = cli_verb_find(word, argv[2]);
  if (verb == NULL) return unknown_command(word, argv[2]);
  return run_verb(verb, argc - 3, argv + 3);
}

/* Run with the first @leading arguments moved behind the command and before its own. */
static int run_reordered(int argc, char **argv, int leading) {
  bool grouped = leading < argc && group_exists(argv[leading]);
  int command = grouped && leading + 1 < argc ? 2 : 1;
  if (leading >= argc) return cli_usage("a command is missing; see `blixard help`");
  char **moved = calloc((size_t)argc + 1, sizeof *moved);
  if (moved == NULL) return cli_usage("out of memory");
  int n = 0;
  moved[n++] = argv[0];
  for (int i = leading; i < leading + command; i++) moved[n++] = argv[i];
  for (int i = 1; i < leading; i++) moved[n++] = argv[i];
  for (int i = leading + command; i < argc; i++) moved[n++] = argv[i];
  int status = run(n, moved);
  free(moved);
  return status;
}

/* A descriptor 0, 1 or 2 that is closed would be taken by the connection, and output written into it. */
static void fill_standard_descriptors(void) {
  int fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO) fd = dup(fd);
  if (fd > STDERR_FILENO) close(fd);
}

/* Output that nobody reads any more is no failure; output that a full disk refused is one. */
static int finish_output(int status) {
  bool lost = fflush(stdout) != 0 || ferror(stdout) != 0;
  if (!lost || status != CLI_EXIT_OK || cli_output_closed()) return status;
  fputs("blixard: the output could not be written [IO]\n", stderr);
  return CLI_EXIT_INTERNAL;
}

int main(int argc, char **argv) {
  fill_standard_descriptors();
  signal(SIGPIPE, SIG_IGN);
  if (argc < 1) return CLI_EXIT_USAGE;
  int leading = leading_flags(argc, argv);
  return finish_output(leading > 1 ? run_reordered(argc, argv, leading) : run(argc, argv));
}
