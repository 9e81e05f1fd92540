#include "cli.h"

#include <stdio.h>
#include <string.h>

enum { COLUMN = 28, WIDTH = 100 };

/* @text from column COLUMN on, broken at spaces before WIDTH; @used: what is on the line already. */
static void put_wrapped(const char *text, int used) {
  if (used >= COLUMN - 1) {
    putchar('\n');
    used = 0;
  }
  printf("%*s", COLUMN - used, "");
  int at = COLUMN;
  while (*text != '\0') {
    int len = (int)strcspn(text, " ");
    if (at > COLUMN && at + 1 + len > WIDTH) {
      printf("\n%*s", COLUMN, "");
      at = COLUMN;
    } else if (at > COLUMN) {
      putchar(' ');
      at++;
    }
    printf("%.*s", len, text);
    at += len;
    text += len;
    text += strspn(text, " ");
  }
  putchar('\n');
}

static void put_verb(const struct cli_verb *verb) {
  int used = printf("  %s%s%s%s%s", verb->group, *verb->group != '\0' ? " " : "", verb->name,
                    *verb->words != '\0' ? " " : "", verb->words);
  if (verb->also != NULL) used += printf(" (%s)", verb->also);
  put_wrapped(verb->doc, used);
}

static void put_flag(const struct cli_flag *flag) {
  char letter[] = {'-', flag->letter, ',', ' ', '\0'};
  int used = printf("  %s--%s%s%s", flag->letter != 0 ? letter : "", flag->name, flag->value != NULL ? " " : "",
                    flag->value != NULL ? flag->value : "");
  put_wrapped(flag->doc, used);
}

static void put_flags(const char *title, const struct cli_flag *flags, size_t n) {
  if (n == 0) return;
  printf("\n%s\n", title);
  for (size_t i = 0; i < n; i++)
    if (flags[i].kind != CLI_ABSENT) put_flag(&flags[i]);
}

static void put_global_flags(void) {
  size_t n = 0;
  const struct cli_flag *flags = cli_global_flags(&n);
  put_flags("Flags of every command:", flags, n);
}

/* Commands of @group, or all when it is NULL. Returns how many there are. */
static unsigned put_verbs(const char *group) {
  size_t n = 0;
  unsigned shown = 0;
  const struct cli_verb *verbs = cli_verbs(&n);
  for (size_t i = 0; i < n; i++) {
    if (verbs[i].run == NULL || (group != NULL && strcmp(verbs[i].group, group) != 0)) continue;
    put_verb(&verbs[i]);
    shown++;
  }
  return shown;
}

static int help_verb(const struct cli_verb *verb) {
  printf("%s\n\n", verb->doc);
  printf("usage: blixard %s%s%s%s%s%s\n", verb->group, *verb->group != '\0' ? " " : "", verb->name,
         *verb->words != '\0' ? " " : "", verb->words, cli_verb_runs_command(verb) ? "" : " [flags]");
  if (verb->also != NULL) printf("also:  blixard %s%s%s\n", verb->group, *verb->group != '\0' ? " " : "", verb->also);
  if (verb->more != NULL) printf("\n%s", verb->more);
  put_flags("Flags:", verb->flags, verb->n_flags);
  put_global_flags();
  return CLI_EXIT_OK;
}

static int help_group(const char *group) {
  printf("usage: blixard %s COMMAND [flags]\n\nCommands:\n", group);
  if (put_verbs(group) == 0) puts("  none is supported yet");
  printf("\n`blixard %s COMMAND --help` tells more of one.\n", group);
  return CLI_EXIT_OK;
}

static int help_program(void) {
  puts("blixard: run microVMs across a cluster\n\nusage: blixard COMMAND [flags]\n\nCommands:");
  put_verbs(NULL);
  put_global_flags();
  puts("\nExit status: 0 done, 1 internal, 2 usage, 3 not found, 4 denied, 5 conflict, 6 unavailable or retry, 7 "
       "corrupt."
       "\n`blixard COMMAND --help` tells more of one.");
  return CLI_EXIT_OK;
}

static bool has_group(const char *group) {
  size_t n = 0;
  const struct cli_verb *verbs = cli_verbs(&n);
  for (size_t i = 0; i < n; i++)
    if (*group != '\0' && strcmp(verbs[i].group, group) == 0) return true;
  return false;
}

int cli_help(const char *group, const char *verb) {
  if (group == NULL) return help_program();
  if (verb == NULL && has_group(group)) return help_group(group);
  const struct cli_verb *row = verb != NULL ? cli_verb_find(group, verb) : cli_verb_find("", group);
  if (row != NULL && row->run != NULL) return help_verb(row);
  char quoted[CLI_QUOTE_SIZE];
  return cli_usage("there is no command %s; `blixard help` lists them",
                   cli_quote(quoted, sizeof quoted, verb != NULL ? verb : group));
}

int cmd_help(struct cli_args *args) {
  return cli_help(args->n_words > 0 ? args->words[0] : NULL, args->n_words > 1 ? args->words[1] : NULL);
}
