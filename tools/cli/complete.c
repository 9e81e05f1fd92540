/* Completion: the shells' scripts hand the words over, everything else is decided here, by the tables. */
#include "kinds.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NAMES_MS = 300 };

static const char bash_script[] =
    "# Completion of blixard(1) for bash: source <(blixard completion bash)\n"
    "_blixard() {\n"
    "  local IFS=$'\\n' cur=${COMP_WORDS[COMP_CWORD]} found\n"
    "  [ \"$cur\" = '=' ] && cur=''\n"
    "  found=$(blixard __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "  if [ \"$found\" = :files ]; then COMPREPLY=($(compgen -f -- \"$cur\")); return; fi\n"
    "  COMPREPLY=($(compgen -W \"$found\" -- \"$cur\"))\n"
    "}\n"
    "complete -F _blixard blixard\n";

static const char zsh_script[] =
    "#compdef blixard\n"
    "# Completion of blixard(1) for zsh: source <(blixard completion zsh), or as _blixard in a directory of $fpath\n"
    "_blixard() {\n"
    "  local -a found\n"
    "  found=(${(f)\"$(blixard __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
    "  if [[ \"$found\" == :files ]]; then _files; return; fi\n"
    "  compadd -a found\n"
    "}\n"
    "if [[ \"$funcstack[1]\" == _blixard ]]; then _blixard \"$@\"; else compdef _blixard blixard; fi\n";

int cmd_completion(struct cli_args *args) {
  char quoted[CLI_QUOTE_SIZE];
  if (strcmp(args->words[0], "bash") != 0 && strcmp(args->words[0], "zsh") != 0)
    return cli_usage("there is no completion for %s; there is one for bash and one for zsh",
                     cli_quote(quoted, sizeof quoted, args->words[0]));
  fputs(args->words[0][0] == 'b' ? bash_script : zsh_script, stdout);
  return CLI_EXIT_OK;
}

/* ---- what the words before the last one are */

struct words {
  const char *plain[3]; /* the first that are no flags */
  unsigned n_plain;
  const struct cli_flag *flag; /* the last word is its value */
  const char *socket, *tenant, *last;
  bool only_words; /* "--" came */
  const struct cli_verb *verb;
};

static const struct cli_flag *flag_in(const struct cli_flag *flags, size_t n, const char *word) {
  for (size_t i = 0; i < n; i++) {
    if (word[1] != '-' && flags[i].letter != 0 && word[1] == flags[i].letter && word[2] == '\0') return &flags[i];
    if (word[1] != '-') continue;
    if (strcmp(word + 2, flags[i].name) == 0) return &flags[i];
    if (flags[i].also != NULL && strcmp(word + 2, flags[i].also) == 0) return &flags[i];
  }
  return NULL;
}

static const struct cli_flag *flag_of(const struct words *w, const char *word) {
  size_t n = 0;
  const struct cli_flag *global = cli_global_flags(&n);
  const struct cli_flag *flag = w->verb != NULL ? flag_in(w->verb->flags, w->verb->n_flags, word) : NULL;
  return flag != NULL ? flag : flag_in(global, n, word);
}

static void take_plain(struct words *w, const char *word) {
  if (w->n_plain < 3) w->plain[w->n_plain] = word;
  w->n_plain++;
  if (w->n_plain == 1) w->verb = cli_verb_find("", word);
  if (w->n_plain == 2 && w->verb == NULL) w->verb = cli_verb_find(w->plain[0], word);
}

static struct words read_words(int argc, char **argv) {
  struct words w = {.last = argc > 0 ? argv[argc - 1] : ""};
  for (int i = 0; i + 1 < argc; i++) {
    const char *word = argv[i];
    if (strcmp(word, "--") == 0 && w.flag == NULL) w.only_words = true;
    if (strcmp(word, "=") == 0) continue; /* bash makes three words of --output=json */
    if (w.flag != NULL && strcmp(w.flag->name, "socket") == 0) w.socket = word;
    if (w.flag != NULL && strcmp(w.flag->name, "tenant") == 0) w.tenant = word;
    bool value = w.flag != NULL;
    w.flag = NULL;
    if (value) continue;
    if (word[0] != '-' || word[1] == '\0') {
      take_plain(&w, word);
      continue;
    }
    const struct cli_flag *flag = flag_of(&w, word);
    if (flag != NULL && flag->kind != CLI_BOOL && flag->kind != CLI_ABSENT) w.flag = flag;
  }
  return w;
}

/* ---- what it may become */

static void put_flags(const struct cli_flag *flags, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (flags[i].kind != CLI_ABSENT) printf("--%s\n", flags[i].name);
}

static void put_all_flags(const struct cli_verb *verb) {
  size_t n = 0;
  const struct cli_flag *global = cli_global_flags(&n);
  if (verb != NULL) put_flags(verb->flags, verb->n_flags);
  put_flags(global, n);
}

static void put_value(const struct cli_flag *flag) {
  bool file = strcmp(flag->name, "microvm-config") == 0 || strcmp(flag->name, "socket") == 0;
  if (file) puts(":files");
  for (size_t i = 0; i < flag->n_choices; i++) puts(flag->choices[i].label);
}

/* "--output=j", which zsh leaves in one word. */
static void put_attached(const struct words *w) {
  char name[64];
  size_t len = strcspn(w->last, "=");
  snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), w->last);
  const struct cli_flag *flag = flag_of(w, name);
  for (size_t i = 0; flag != NULL && i < flag->n_choices; i++) printf("%s=%s\n", name, flag->choices[i].label);
}

/* The words of the commands: groups once, or the verbs of @group. */
static void put_commands(const char *group) {
  size_t n = 0;
  const struct cli_verb *verbs = cli_verbs(&n);
  const char *before = "";
  for (size_t i = 0; i < n; i++) {
    if (verbs[i].run == NULL || (group != NULL && strcmp(verbs[i].group, group) != 0)) continue;
    const char *word = group == NULL && *verbs[i].group != '\0' ? verbs[i].group : verbs[i].name;
    if (strcmp(word, before) != 0) puts(word);
    before = word;
  }
}

static void put_kinds(void) {
  const struct cli_object_kind *kind;
  for (size_t i = 0; (kind = cli_kind_at(i)) != NULL; i++) puts(kind->name);
}

/* Names from the daemon, if it answers while a finger is still on the key. Errors are nobody's business here. */
static void put_names(const struct words *w, const struct cli_object_kind *kind) {
  struct cli_args args = {.socket = w->socket, .tenant = w->tenant, .timeout_ms = NAMES_MS, .stale = 1};
  struct cli_list list = {0};
  blx_client *client = NULL;
  if (kind == NULL || kind->fetch_one == NULL || cli_connect(&args, &client) != 0) return;
  int status = kind->fetch(&args, client, &list);
  bool plain = status == 0 && list.type != NULL;
  const json_t *rows = plain ? NULL : json_object_get(list.document, kind->view->name_rows);
  const char *name;
  for (size_t i = 0; plain && (name = cli_list_name(&list, i)) != NULL; i++) puts(name);
  for (size_t i = 0; i < json_array_size(rows); i++) {
    name = json_string_value(cli_path(json_array_get(rows, i), kind->view->name_path));
    if (name != NULL) puts(name);
  }
  cli_list_free(&list);
  blx_client_close(client);
}

/* "[vms|nodes]": one of these. */
static void put_choices(const char *takes) {
  for (const char *at = takes + 1; *at != '\0' && *at != ']'; at += *at == '|') {
    size_t n = strcspn(at, "|]");
    printf("%.*s\n", (int)n, at);
    at += n;
  }
}

/* Words behind the command: what @verb says it takes. */
static void put_arguments(const struct words *w) {
  const char *takes = w->verb->words;
  unsigned before = w->n_plain - (*w->verb->group != '\0' ? 2 : 1);
  const struct cli_object_kind *kind = cli_kind_find(w->verb->group, strlen(w->verb->group));
  if (kind != NULL && before < w->verb->words_max && strcmp(w->verb->name, "create") != 0)
    put_names(w, kind);
  else if (strncmp(takes, "KIND", 4) == 0 && before > 0)
    put_names(w, cli_kind_find(w->plain[1], strlen(w->plain[1])));
  else if (strstr(takes, "KIND") != NULL && before == 0)
    put_kinds();
  else if (strcmp(takes, "SHELL") == 0)
    puts("bash\nzsh");
  else if (takes[0] == '[' && strchr(takes, '|') != NULL && before == 0)
    put_choices(takes);
  else if (strncmp(takes, "[COMMAND", 8) == 0)
    put_commands(before > 0 ? w->plain[1] : NULL);
}

/* Words and flags of a command in a guest: nobody here knows them. */
static bool is_of_command(const struct words *w) {
  if (w->verb == NULL || !cli_verb_runs_command(w->verb)) return false;
  return w->only_words || w->n_plain > 3 || (w->n_plain == 3 && w->last[0] != '-');
}

int cli_complete(int argc, char **argv) {
  struct words w = read_words(argc, argv);
  int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
  bool known = !is_of_command(&w);
  if (w.flag != NULL)
    put_value(w.flag);
  else if (known && w.last[0] == '-' && strchr(w.last, '=') != NULL)
    put_attached(&w);
  else if (known && w.last[0] == '-')
    put_all_flags(w.verb);
  else if (w.n_plain == 0)
    put_commands(NULL);
  else if (known && w.verb != NULL && w.verb->run != NULL)
    put_arguments(&w);
  else if (w.n_plain == 1)
    put_commands(w.plain[0]);
  if (nowhere >= 0) close(nowhere);
  return CLI_EXIT_OK;
}
