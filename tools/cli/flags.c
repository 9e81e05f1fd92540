#include "flags.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Where an argument of argv is read. */
struct cursor {
  int argc, at;
  char **argv;
  const struct cli_verb *verb;
  struct cli_args *args;
};

bool cli_parse_number(const char *text, uint64_t lo, uint64_t hi, uint64_t *out) {
  uint64_t value = 0;
  if (*text == '\0') return false;
  for (const char *p = text; *p != '\0'; p++) {
    if (*p < '0' || *p > '9') return false;
    if (__builtin_mul_overflow(value, 10U, &value)) return false;
    if (__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) return false;
  }
  if (value < lo || value > hi) return false;
  *out = value;
  return true;
}

bool cli_parse_duration(const char *text, uint64_t lo_ms, uint64_t hi_ms, uint64_t *out_ms) {
  static const struct {
    const char *unit;
    uint64_t ms;
  } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
  char digits[24];
  size_t n = strspn(text, "0123456789");
  if (n == 0 || n >= sizeof digits) return false;
  memcpy(digits, text, n);
  digits[n] = '\0';
  uint64_t value = 0;
  if (!cli_parse_number(digits, 0, UINT64_MAX, &value)) return false;
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    if (strcmp(text + n, units[i].unit) != 0) continue;
    if (__builtin_mul_overflow(value, units[i].ms, &value) || value < lo_ms || value > hi_ms) return false;
    *out_ms = value;
    return true;
  }
  return false;
}

static void *target_of(const struct cursor *c, size_t offset) {
  return (char *)c->args + offset;
}

static const struct cli_flag *row_by_name(const struct cli_flag *rows, size_t n, const char *name, size_t len) {
  for (size_t i = 0; i < n; i++) {
    if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0) return &rows[i];
    if (rows[i].also != NULL && strlen(rows[i].also) == len && memcmp(rows[i].also, name, len) == 0) return &rows[i];
  }
  return NULL;
}

static const struct cli_flag *row_by_letter(const struct cli_flag *rows, size_t n, char letter) {
  for (size_t i = 0; i < n; i++)
    if (rows[i].letter == letter) return &rows[i];
  return NULL;
}

static const struct cli_flag *find_flag(const struct cursor *c, const char *name, size_t len) {
  size_t n_global = 0;
  const struct cli_flag *global = cli_global_flags(&n_global);
  const struct cli_flag *row = row_by_name(c->verb->flags, c->verb->n_flags, name, len);
  return row != NULL ? row : row_by_name(global, n_global, name, len);
}

static const struct cli_flag *find_letter(const struct cursor *c, char letter) {
  size_t n_global = 0;
  const struct cli_flag *global = cli_global_flags(&n_global);
  const struct cli_flag *row = row_by_letter(c->verb->flags, c->verb->n_flags, letter);
  return row != NULL ? row : row_by_letter(global, n_global, letter);
}

/* "blixard vm create", or "blixard version" for a command of one word. */
static const char *help_of(const struct cli_verb *verb, char *buf, size_t size) {
  snprintf(buf, size, "blixard %s%s%s --help", verb->group, *verb->group != '\0' ? " " : "", verb->name);
  return buf;
}

static int unknown_flag(const struct cursor *c, const char *arg) {
  char quoted[CLI_QUOTE_SIZE], help[96];
  struct cli_nearest nearest = {.word = arg + strspn(arg, "-")};
  size_t n_global = 0;
  const struct cli_flag *global = cli_global_flags(&n_global);
  for (size_t i = 0; i < c->verb->n_flags; i++) cli_nearest_offer(&nearest, c->verb->flags[i].name);
  for (size_t i = 0; i < n_global; i++) cli_nearest_offer(&nearest, global[i].name);
  cli_quote(quoted, sizeof quoted, arg);
  help_of(c->verb, help, sizeof help);
  if (arg[1] == '-' && nearest.best != NULL)
    return cli_usage("there is no flag %s; did you mean --%s?", quoted, nearest.best);
  return cli_usage("there is no flag %s; see `%s`", quoted, help);
}

static int set_number(const struct cursor *c, const struct cli_flag *flag, const char *value) {
  char quoted[CLI_QUOTE_SIZE];
  uint64_t number = 0;
  if (!cli_parse_number(value, flag->lo, flag->hi, &number))
    return cli_usage("--%s: %s is not a whole number from %" PRIu64 " to %" PRIu64 " (%s)", flag->name,
                     cli_quote(quoted, sizeof quoted, value), flag->lo, flag->hi, flag->unit);
  if (flag->kind == CLI_U64)
    *(uint64_t *)target_of(c, flag->at) = number;
  else
    *(uint32_t *)target_of(c, flag->at) = (uint32_t)number;
  return 0;
}

static int set_ms(const struct cursor *c, const struct cli_flag *flag, const char *value) {
  char quoted[CLI_QUOTE_SIZE];
  uint64_t ms = 0;
  if (!cli_parse_duration(value, flag->lo, flag->hi, &ms))
    return cli_usage("--%s: %s is not a duration from %" PRIu64 "ms to %" PRIu64 "s, written 500ms, 30s, 2m or 1h",
                     flag->name, cli_quote(quoted, sizeof quoted, value), flag->lo, flag->hi / 1000);
  *(uint32_t *)target_of(c, flag->at) = (uint32_t)ms;
  return 0;
}

/* '-' and '_' are the same in a label. */
static bool same_label(const char *a, const char *b) {
  for (; *a != '\0' && *b != '\0'; a++, b++)
    if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) return false;
  return *a == *b;
}

static int set_choice(const struct cursor *c, const struct cli_flag *flag, const char *value) {
  char quoted[CLI_QUOTE_SIZE], known[256] = "";
  size_t used = 0;
  for (size_t i = 0; i < flag->n_choices; i++) {
    if (same_label(flag->choices[i].label, value)) {
      *(int32_t *)target_of(c, flag->at) = flag->choices[i].value;
      return 0;
    }
    int n = snprintf(known + used, sizeof known - used, "%s%s", i == 0 ? "" : ", ", flag->choices[i].label);
    if (n > 0 && (size_t)n < sizeof known - used) used += (size_t)n;
  }
  return cli_usage("--%s: %s is not one of %s", flag->name, cli_quote(quoted, sizeof quoted, value), known);
}

static int set_label(const struct cursor *c, const struct cli_flag *flag, char *value) {
  char quoted[CLI_QUOTE_SIZE];
  struct cli_labels *labels = target_of(c, flag->at);
  char *equals = strchr(value, '=');
  if (equals == NULL || equals == value)
    return cli_usage("--%s: %s is not %s", flag->name, cli_quote(quoted, sizeof quoted, value), flag->value);
  if (labels->count >= flag->hi || labels->count >= CLI_LABELS_MAX)
    return cli_usage("--%s may be given %" PRIu64 " times at most", flag->name, flag->hi);
  *equals = '\0';
  struct blx_label *row = &labels->rows[labels->count];
  *row = (struct blx_label){.struct_size = sizeof *row};
  row->key = value;
  row->value = equals + 1;
  labels->list[labels->count++] = row;
  return 0;
}

static int set_name(const struct cursor *c, const struct cli_flag *flag, const char *value) {
  struct cli_names *names = target_of(c, flag->at);
  if (names->count >= flag->hi || names->count >= CLI_NAMES_MAX)
    return cli_usage("--%s may be given %" PRIu64 " times at most", flag->name, flag->hi);
  names->list[names->count++] = value;
  return 0;
}

static int set_value(const struct cursor *c, const struct cli_flag *flag, char *value) {
  if (flag->has_at != 0) *(uint32_t *)target_of(c, flag->has_at) = 1;
  switch (flag->kind) {
  case CLI_BOOL: *(uint32_t *)target_of(c, flag->at) = 1; return 0;
  case CLI_U32:
  case CLI_U64: return set_number(c, flag, value);
  case CLI_MS: return set_ms(c, flag, value);
  case CLI_TEXT: *(const char **)target_of(c, flag->at) = value; return 0;
  case CLI_CHOICE: return set_choice(c, flag, value);
  case CLI_LABEL: return set_label(c, flag, value);
  case CLI_NAME: return set_name(c, flag, value);
  case CLI_OWN: return flag->parse(c->args, flag, value);
  case CLI_ABSENT: return cli_unsupported("--%s is not supported: %s", flag->name, flag->doc);
  }
  return 0;
}

/* @attached: the value in the same argument, or NULL: it is the next one, whatever it looks like ("--memory -1"). */
static int take_flag(struct cursor *c, const struct cli_flag *flag, char *attached) {
  if (flag->kind == CLI_BOOL || flag->kind == CLI_ABSENT) {
    if (flag->kind == CLI_BOOL && attached != NULL) return cli_usage("--%s takes no value", flag->name);
    return set_value(c, flag, attached);
  }
  if (attached == NULL) {
    if (c->at + 1 >= c->argc) return cli_usage("--%s needs a value: --%s %s", flag->name, flag->name, flag->value);
    attached = c->argv[++c->at];
  }
  return set_value(c, flag, attached);
}

static int take_long(struct cursor *c, char *arg) {
  char *equals = strchr(arg, '=');
  size_t len = equals != NULL ? (size_t)(equals - (arg + 2)) : strlen(arg + 2);
  const struct cli_flag *flag = find_flag(c, arg + 2, len);
  if (flag == NULL) return unknown_flag(c, arg);
  return take_flag(c, flag, equals != NULL ? equals + 1 : NULL);
}

/* "-f", "-o json", "-ojson", "-fo json". */
static int take_short(struct cursor *c, char *arg) {
  for (char *p = arg + 1; *p != '\0'; p++) {
    const struct cli_flag *flag = find_letter(c, *p);
    if (flag == NULL) return unknown_flag(c, arg);
    bool last = flag->kind != CLI_BOOL;
    int status = take_flag(c, flag, last && p[1] != '\0' ? p + 1 : NULL);
    if (status != 0 || last) return status;
  }
  return 0;
}

static int take_word(struct cursor *c, const char *arg) {
  char quoted[CLI_QUOTE_SIZE], help[96];
  if (c->args->n_words >= c->verb->words_max || c->args->n_words >= CLI_WORDS_MAX)
    return cli_usage("%s is one word too many; see `%s`", cli_quote(quoted, sizeof quoted, arg),
                     help_of(c->verb, help, sizeof help));
  c->args->words[c->args->n_words++] = arg;
  return 0;
}

int cli_flags_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_args *args) {
  struct cursor c = {.argc = argc, .argv = argv, .verb = verb, .args = args};
  bool words_only = false;
  for (c.at = 0; c.at < argc; c.at++) {
    char *arg = argv[c.at];
    int status = 0;
    if (words_only || arg[0] != '-' || arg[1] == '\0')
      status = take_word(&c, arg);
    else if (strcmp(arg, "--") == 0)
      words_only = true;
    else if (arg[1] == '-')
      status = take_long(&c, arg);
    else
      status = take_short(&c, arg);
    if (status != 0) return status;
    if (args->n_words > 1 && cli_verb_runs_command(verb)) words_only = true;
  }
  if (args->help == 0 && args->n_words < verb->words_min) {
    char help[96];
    return cli_usage("%s is missing; see `%s`", verb->words, help_of(verb, help, sizeof help));
  }
  return 0;
}
