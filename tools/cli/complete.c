#include "cli.h"

#include <stdio.h>
#include <string.h>

static bool offered(const struct cli_verb *verb) {
  return verb->run != NULL;
}

static void put_flag_names(const struct cli_flag *flags, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (flags[i].kind != CLI_ABSENT) printf(" --%s", flags[i].name);
}

/* Words at the first place: groups once, and commands of one word. */
static void put_first_words(const struct cli_verb *verbs, size_t n) {
  const char *last = "";
  for (size_t i = 0; i < n; i++) {
    if (!offered(&verbs[i])) continue;
    const char *word = *verbs[i].group != '\0' ? verbs[i].group : verbs[i].name;
    if (strcmp(word, last) != 0) printf(" %s", word);
    last = word;
  }
}

static void put_second_words(const struct cli_verb *verbs, size_t n) {
  const char *last = "";
  for (size_t i = 0; i < n; i++) {
    if (!offered(&verbs[i]) || *verbs[i].group == '\0') continue;
    if (strcmp(verbs[i].group, last) != 0) printf("%s    %s) words='", *last != '\0' ? "' ;;\n" : "", verbs[i].group);
    printf(" %s", verbs[i].name);
    last = verbs[i].group;
  }
  puts("' ;;");
}

static void put_flag_values(const struct cli_flag *flags, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (flags[i].kind != CLI_CHOICE) continue;
    printf("    --%s", flags[i].name);
    if (flags[i].also != NULL) printf("|--%s", flags[i].also);
    if (flags[i].letter != 0) printf("|-%c", flags[i].letter);
    fputs(") words='", stdout);
    for (size_t c = 0; c < flags[i].n_choices; c++) printf(" %s", flags[i].choices[c].label);
    puts("' ;;");
  }
}

static void put_verbs(const struct cli_verb *verbs, size_t n) {
  size_t n_global = 0;
  const struct cli_flag *global = cli_global_flags(&n_global);
  for (size_t i = 0; i < n; i++) {
    if (!offered(&verbs[i])) continue;
    bool grouped = *verbs[i].group != '\0';
    if (grouped && verbs[i].also != NULL)
      printf("    '%s %s'|'%s %s') words='", verbs[i].group, verbs[i].name, verbs[i].group, verbs[i].also);
    else if (grouped)
      printf("    '%s %s') words='", verbs[i].group, verbs[i].name);
    else
      printf("    '%s '*) words='", verbs[i].name);
    put_flag_names(verbs[i].flags, verbs[i].n_flags);
    put_flag_names(global, n_global);
    puts("' ;;");
  }
}

static void put_script(const struct cli_verb *verbs, size_t n) {
  size_t n_global = 0;
  const struct cli_flag *global = cli_global_flags(&n_global);
  puts("# Completion of blixard(1) for bash: source <(blixard completion bash)\n"
       "_blixard() {\n"
       "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''\n"
       "  local verb=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\"\n"
       "  case $prev in");
  put_flag_values(global, n_global);
  for (size_t i = 0; i < n; i++) put_flag_values(verbs[i].flags, verbs[i].n_flags);
  puts("    --microvm-config|--socket) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
       "  esac\n"
       "  if [ -n \"$words\" ]; then :\n"
       "  elif [ \"$COMP_CWORD\" = 1 ]; then");
  fputs("    words='", stdout);
  put_first_words(verbs, n);
  puts("'\n"
       "  elif [ \"$COMP_CWORD\" = 2 ]; then case ${COMP_WORDS[1]} in");
  put_second_words(verbs, n);
  puts("    completion) words=bash ;;\n"
       "  esac\n"
       "  elif [ \"${cur#-}\" != \"$cur\" ]; then case $verb in");
  put_verbs(verbs, n);
  puts("  esac\n"
       "  elif [ \"${COMP_WORDS[1]}\" = vm ] && [ \"$COMP_CWORD\" = 3 ]; then\n"
       "    words=$(blixard vm list --timeout 2s -o name 2>/dev/null)\n"
       "    words=${words//vm\\//}\n"
       "  fi\n"
       "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
       "}\n"
       "complete -F _blixard blixard");
}

int cmd_completion(struct cli_args *args) {
  char quoted[CLI_QUOTE_SIZE];
  size_t n = 0;
  const struct cli_verb *verbs = cli_verbs(&n);
  if (strcmp(args->words[0], "bash") != 0)
    return cli_usage("there is no completion for %s; there is one for bash",
                     cli_quote(quoted, sizeof quoted, args->words[0]));
  put_script(verbs, n);
  return CLI_EXIT_OK;
}
