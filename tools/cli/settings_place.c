#include "cmd_settings.h"
#include "flags.h"

#include <stdlib.h>
#include <string.h>

enum { CPU_MIN = 100, CPU_MAX = 2000, MEMORY_MIN = 100, MEMORY_MAX = 400, US_MAX = 10000000 };

static const char none[] = "none";

bool cli_settings_flags(const struct cli_args *args) {
  return args->overcommit.count > 0 || args->distances.count > 0 || args->has_survive_nodes != 0 ||
         args->survive_level != NULL;
}

/* "400" behind "cpu=" in "cpu=400,memory=150". */
static bool take_percent(const char *text, const char *name, uint64_t lo, uint64_t hi, json_t *row, const char *key) {
  char digits[8];
  const char *at = strstr(text, name);
  uint64_t percent = 0;
  if (at == NULL) return true;
  at += strlen(name);
  size_t n = strcspn(at, ",");
  if (n >= sizeof digits) return false;
  snprintf(digits, sizeof digits, "%.*s", (int)n, at);
  if (!cli_parse_number(digits, lo, hi, &percent)) return false;
  return json_object_set_new(row, key, json_integer((json_int_t)percent)) == 0;
}

/* Nothing but cpu=N and memory=N, each once at most. */
static bool are_percents(const char *text) {
  unsigned cpu = 0, memory = 0;
  for (; *text != '\0'; text += strcspn(text, ",")) {
    text += *text == ',';
    cpu += strncmp(text, "cpu=", 4) == 0;
    memory += strncmp(text, "memory=", 7) == 0;
    if (strncmp(text, "cpu=", 4) != 0 && strncmp(text, "memory=", 7) != 0) return false;
  }
  return cpu <= 1 && memory <= 1 && cpu + memory > 0;
}

/* "class=burst:cpu=400,memory=150" or "cpu=150". */
static int take_overcommit(const char *word, json_t *rows) {
  char quoted[CLI_QUOTE_SIZE];
  json_t *row = json_object();
  const char *colon = strrchr(word, ':'), *equals = strchr(word, '='), *percents = colon != NULL ? colon + 1 : word;
  bool ok = are_percents(percents) && (colon == NULL || (equals > word && equals < colon));
  if (ok && colon != NULL)
    json_object_set_new(row, "nodes",
                        json_pack("{s:s%, s:s%}", "key", word, (size_t)(equals - word), "value", equals + 1,
                                  (size_t)(colon - equals - 1)));
  ok = ok && take_percent(percents, "cpu=", CPU_MIN, CPU_MAX, row, "cpu_percent") &&
       take_percent(percents, "memory=", MEMORY_MIN, MEMORY_MAX, row, "memory_percent");
  if (!ok) {
    json_decref(row);
    return cli_usage("--overcommit: %s is not [KEY=VALUE:]cpu=N,memory=N with %d to %d and %d to %d percent, nor none",
                     cli_quote(quoted, sizeof quoted, word), CPU_MIN, CPU_MAX, MEMORY_MIN, MEMORY_MAX);
  }
  json_array_append_new(rows, row);
  return 0;
}

/* "500us", or a duration of the other flags. */
static bool take_us(const char *text, uint64_t *us) {
  char digits[16];
  uint64_t ms = 0;
  size_t n = strspn(text, "0123456789");
  if (n == 0 || n >= sizeof digits) return false;
  snprintf(digits, sizeof digits, "%.*s", (int)n, text);
  if (strcmp(text + n, "us") == 0) return cli_parse_number(digits, 0, US_MAX, us);
  if (!cli_parse_duration(text, 0, US_MAX / 1000, &ms)) return false;
  *us = ms * 1000;
  return true;
}

/* "a:b=500us", or "a:b-", whose row has no time. */
static int take_distance(const char *word, json_t *rows) {
  char quoted[CLI_QUOTE_SIZE];
  const char *colon = strchr(word, ':'), *equals = strchr(word, '=');
  size_t len = strlen(word);
  bool gone = equals == NULL && len > 0 && word[len - 1] == '-';
  const char *end = gone ? word + len - 1 : equals;
  uint64_t us = 0;
  if (colon == NULL || end == NULL || colon == word || end <= colon + 1 || (!gone && !take_us(equals + 1, &us)))
    return cli_usage("--distance: %s is not ZONE:ZONE=TIME, as a:b=500us or a:b=2ms, of at most 10s, nor ZONE:ZONE-",
                     cli_quote(quoted, sizeof quoted, word));
  json_t *row = json_pack("{s:s%, s:s%}", "a", word, (size_t)(colon - word), "b", colon + 1, (size_t)(end - colon - 1));
  if (!gone) json_object_set_new(row, "us", json_integer((json_int_t)us));
  json_array_append_new(rows, row);
  return 0;
}

static int take_list(const struct cli_names *words, int (*take)(const char *word, json_t *rows), json_t *rows) {
  int status = 0;
  if (words->count == 1 && strcmp(words->list[0], none) == 0) return 0;
  for (size_t i = 0; i < words->count && status == 0; i++) status = take(words->list[i], rows);
  return status;
}

int cli_settings_take(const struct cli_args *args, json_t *change) {
  int status = 0;
  if (!cli_settings_flags(args)) return 0;
  if (json_object_get(change, "placement") == NULL) json_object_set_new(change, "placement", json_object());
  json_t *placement = json_object_get(change, "placement");
  if (args->has_survive_nodes != 0)
    json_object_set_new(placement, "survive_nodes", json_integer((json_int_t)args->survive_nodes));
  if (args->survive_level != NULL)
    json_object_set_new(placement, "survive_level",
                        json_string(strcmp(args->survive_level, none) == 0 ? "" : args->survive_level));
  if (args->overcommit.count > 0) {
    json_object_set_new(placement, "overcommit", json_array());
    status = take_list(&args->overcommit, take_overcommit, json_object_get(placement, "overcommit"));
  }
  if (status == 0 && args->distances.count > 0) {
    json_object_set_new(placement, "distances", json_array());
    status = take_list(&args->distances, take_distance, json_object_get(placement, "distances"));
  }
  return status;
}

static const char *text_of(const json_t *row, const char *key) {
  const char *text = json_string_value(json_object_get(row, key));
  return text != NULL ? text : "";
}

static bool same_pair(const json_t *x, const json_t *y) {
  bool straight = strcmp(text_of(x, "a"), text_of(y, "a")) == 0 && strcmp(text_of(x, "b"), text_of(y, "b")) == 0;
  return straight || (strcmp(text_of(x, "a"), text_of(y, "b")) == 0 && strcmp(text_of(x, "b"), text_of(y, "a")) == 0);
}

/* @wanted over @had; rows without a time take theirs away. */
static json_t *merged(const json_t *had, const json_t *wanted) {
  json_t *rows = json_array(), *row;
  size_t i;
  json_array_foreach(had, i, row) {
    bool replaced = false;
    for (size_t k = 0; k < json_array_size(wanted); k++) replaced |= same_pair(row, json_array_get(wanted, k));
    if (!replaced) json_array_append(rows, row);
  }
  json_array_foreach(wanted, i, row) {
    if (json_object_get(row, "us") != NULL) json_array_append(rows, row);
  }
  return rows;
}

void cli_settings_complete(json_t *placement, const json_t *settings) {
  const json_t *had = json_object_get(settings, "placement"), *wanted = json_object_get(placement, "distances");
  if (json_array_size(wanted) > 0)
    json_object_set_new(placement, "distances", merged(json_object_get(had, "distances"), wanted));
  if (json_is_object(had)) json_object_update_missing(placement, (json_t *)(uintptr_t)had);
}

json_t *cli_settings_list(const json_t *settings, const char *key) {
  char slot[96];
  const char *dot = strrchr(key, '.');
  snprintf(slot, sizeof slot, "{%.40s:%.40s}", key, dot != NULL ? dot + 1 : key);
  char *text = cli_template(settings, slot);
  json_t *value = json_string(text != NULL ? text : "");
  free(text);
  return value;
}
