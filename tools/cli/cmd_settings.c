/* The cluster's settings: shown, and changed by KEY=VALUE. Which keys there are is the schema's to say: the fields of
 * settings_change, and of the messages in it. */
#include "cmd_settings.h"
#include "flags.h"
#include "output.h"
#include "select.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

enum { KEY_SIZE = 96, NAMES_SIZE = 512, FAST_LEASE_MS = 2000 };

static const char change_type[] = "settings_change";

static const struct cli_column columns[] = {{"KEY", "{key}"}, {"VALUE", "{value}"}, {"ABOUT", "{about}"}};
static const struct cli_block blocks[] = {{CLI_TABLE, "rows", columns, COUNT(columns)}};
static const struct cli_view view = {"settings", "rows", "key", blocks, COUNT(blocks)};
static const struct cli_view whole_view = {"settings", NULL, "name", NULL, 0};

static const char *text_of(const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  return text != NULL ? text : "";
}

/* Run @each for every key that can be set, with its row of the schema. */
static void each_key(const char *type, const char *prefix, void (*each)(void *user, const char *key, const json_t *row),
                     void *user) {
  json_t *document = cli_schema(type), *row;
  size_t i;
  json_array_foreach(json_object_get(document, "fields"), i, row) {
    char key[KEY_SIZE], below[KEY_SIZE];
    snprintf(key, sizeof key, "%.40s%.40s", prefix, text_of(row, "name"));
    snprintf(below, sizeof below, "%.90s.", key);
    bool list = json_is_true(json_object_get(row, "repeated"));
    if (strcmp(text_of(row, "of"), "message") == 0 && !list)
      each_key(text_of(row, "type"), below, each, user);
    else
      each(user, key, row);
  }
  json_decref(document);
}

/* ---- shown */

struct shown {
  const json_t *settings;
  json_t *rows;
};

static void add_row(json_t *rows, const char *key, json_t *value, const char *about) {
  json_t *row = json_object();
  json_object_set_new(row, "key", json_string(key));
  json_object_set_new(row, "value", value);
  json_object_set_new(row, "about", json_string(about));
  json_array_append_new(rows, row);
}

static void show_key(void *user, const char *key, const json_t *row) {
  const struct shown *shown = user;
  if (json_is_true(json_object_get(row, "repeated"))) {
    add_row(shown->rows, key, cli_settings_list(shown->settings, key), text_of(row, "doc"));
    return;
  }
  json_t *value = (json_t *)(uintptr_t)cli_path(shown->settings, key);
  add_row(shown->rows, key, json_incref(value), text_of(row, "doc"));
}

/* In JSON and YAML it is the message; for people a line for each key, and what follows from them. */
static int show(const struct cli_args *args, const struct blx_settings_detail *detail) {
  if (args->output == CLI_OUT_JSON || args->output == CLI_OUT_YAML)
    return cli_show(args, "settings_detail", detail, &whole_view);
  int status = CLI_EXIT_OK;
  json_t *document = cli_document("settings_detail", detail, &status), *rows = json_array(), *table = json_object();
  if (document == NULL) {
    json_decref(rows);
    json_decref(table);
    return status;
  }
  struct shown shown = {json_object_get(document, "settings"), rows};
  each_key(change_type, "", show_key, &shown);
  add_row(
      rows, "T_safe", json_sprintf("%llu", (unsigned long long)detail->t_safe_ms),
      "ms without an answer after which a node runs no highly available instance any more; follows from the leases");
  add_row(rows, "revision", json_incref(json_object_get(shown.settings, "revision")), "for --if-revision");
  json_object_set_new(table, "rows", rows);
  status = cli_document_print(args, table, &view);
  json_decref(table);
  json_decref(document);
  return status;
}

/* ---- changed */

static void add_name(void *user, const char *key, const json_t *row) {
  char *names = user;
  size_t used = strlen(names);
  if (json_is_true(json_object_get(row, "repeated"))) return; /* a flag sets it */
  snprintf(names + used, NAMES_SIZE - used, "%s%s", used > 0 ? ", " : "", key);
}

static int unknown_key(const char *word) {
  char quoted[CLI_QUOTE_SIZE], names[NAMES_SIZE] = "";
  each_key(change_type, "", add_name, names);
  return cli_usage("there is no setting %s; there are %s, and the flags --overcommit and --distance",
                   cli_quote(quoted, sizeof quoted, word), names);
}

/* The object of @change that holds @key, "lease.lease_ms"; @name is the key there. */
static json_t *holder(json_t *change, const char *key, const char **name) {
  char top[KEY_SIZE];
  const char *dot = strchr(key, '.');
  *name = dot != NULL ? dot + 1 : key;
  if (dot == NULL) return change;
  snprintf(top, sizeof top, "%.*s", (int)(dot - key), key);
  if (json_object_get(change, top) == NULL) json_object_set_new(change, top, json_object());
  return json_object_get(change, top);
}

/* Put @value at @key of @change. */
static int set_key(json_t *change, const char *key, const char *value) {
  char quoted[CLI_QUOTE_SIZE];
  const char *name = NULL;
  json_t *row = cli_schema_field(change_type, key);
  bool leaf = row != NULL && strcmp(text_of(row, "of"), "message") != 0;
  bool text = row != NULL && strcmp(text_of(row, "type"), "text") == 0;
  uint64_t lo = (uint64_t)json_integer_value(json_object_get(row, "min"));
  uint64_t hi = (uint64_t)json_integer_value(json_object_get(row, "max")), number = 0;
  json_decref(row);
  if (!leaf) return unknown_key(key);
  if (!text && !cli_parse_number(value, lo, hi, &number))
    return cli_usage("%s: %s is not a whole number from %llu to %llu", key, cli_quote(quoted, sizeof quoted, value),
                     (unsigned long long)lo, (unsigned long long)hi);
  json_t *to = holder(change, key, &name);
  json_object_set_new(to, name, text ? json_string(value) : json_integer((json_int_t)number));
  return 0;
}

/* The words behind "set". NULL: @status says why. */
static json_t *change_of(const struct cli_args *args, int *status) {
  json_t *change = json_object();
  for (unsigned i = 1; i < args->n_words && *status == 0; i++) {
    char key[KEY_SIZE], quoted[CLI_QUOTE_SIZE];
    const char *word = args->words[i], *equals = strchr(word, '=');
    if (equals == NULL || equals == word) {
      *status = cli_usage("%s is not KEY=VALUE", cli_quote(quoted, sizeof quoted, word));
    } else {
      snprintf(key, sizeof key, "%.*s", (int)(equals - word), word);
      *status = set_key(change, key, equals + 1);
    }
  }
  if (*status == 0) return change;
  json_decref(change);
  return NULL;
}

/* As the library's message. */
static int read_change(const json_t *words, void **out) {
  blx_error err = {0};
  int status = 0;
  char *text = json_dumps(words, 0);
  if (text == NULL || blx_from_json(change_type, text, strlen(text), out, &err) != 0) status = cli_fail(&err);
  free(text);
  return status;
}

static int set(struct cli_args *args, blx_client *client, const struct blx_settings_change *change) {
  struct blx_settings_set_request request = BLX_SETTINGS_SET_REQUEST_INIT;
  struct blx_settings_detail *after = NULL;
  blx_error err = {0};
  int status = CLI_EXIT_OK;
  request.change = (struct blx_settings_change *)(uintptr_t)change;
  request.has_leases_of_ms = args->leases_of_ms > 0;
  request.leases_of_ms = args->leases_of_ms;
  request.request_id = args->request_id;
  request.if_revision = args->if_revision;
  if (blx_settings_set(client, &request, &after, &err) != 0)
    status = cli_fail_change(args, &err);
  else if (args->output == CLI_OUT_PLAIN)
    printf("settings changed; T_safe is %llu ms\n", (unsigned long long)after->t_safe_ms);
  else
    status = show(args, after);
  blx_settings_detail_free(after);
  return status;
}

static int get(struct cli_args *args, blx_client *client) {
  struct blx_settings_request request = BLX_SETTINGS_REQUEST_INIT;
  struct blx_settings_detail *now = NULL;
  blx_error err = {0};
  request.stale = args->stale;
  int status = blx_settings_get(client, &request, &now, &err) != 0 ? cli_fail(&err) : show(args, now);
  blx_settings_detail_free(now);
  return status;
}

static int check_words(struct cli_args *args) {
  char quoted[CLI_QUOTE_SIZE];
  if (args->fast_leases != 0 && args->leases_of_ms != 0)
    return cli_usage("--fast-leases and --leases-of exclude each other");
  if (args->fast_leases != 0) args->leases_of_ms = FAST_LEASE_MS;
  if (args->n_words > 0 && strcmp(args->words[0], "set") != 0)
    return cli_usage("%s is not \"set\"; see `blixard cluster settings --help`",
                     cli_quote(quoted, sizeof quoted, args->words[0]));
  bool change = args->n_words > 1 || args->leases_of_ms != 0 || cli_settings_flags(args);
  if (args->n_words == 1 && !change) return cli_usage("KEY=VALUE is missing; see `blixard cluster settings --help`");
  if (args->n_words == 0 && (change || args->if_revision != 0 || args->request_id != NULL))
    return cli_usage("only `blixard cluster settings set` changes something");
  return 0;
}

/* Placement is sent whole: what is not named is as it was read. */
static int complete(struct cli_args *args, blx_client *client, json_t *words) {
  struct blx_settings_request request = BLX_SETTINGS_REQUEST_INIT;
  struct blx_settings_detail *now = NULL;
  blx_error err = {0};
  int status = CLI_EXIT_OK;
  json_t *placement = json_object_get(words, "placement");
  if (placement == NULL) return CLI_EXIT_OK;
  if (blx_settings_get(client, &request, &now, &err) != 0) return cli_fail(&err);
  json_t *document = cli_document("settings_detail", now, &status);
  if (document != NULL) cli_settings_complete(placement, json_object_get(document, "settings"));
  if (args->if_revision == 0) args->if_revision = now->settings->revision;
  json_decref(document);
  blx_settings_detail_free(now);
  return status;
}

static int change_settings(struct cli_args *args, blx_client *client, json_t *words) {
  void *change = NULL;
  int status = complete(args, client, words);
  if (status == 0) status = read_change(words, &change);
  if (status == 0) status = set(args, client, change);
  blx_message_free(change);
  return status;
}

int cmd_cluster_settings(struct cli_args *args) {
  blx_client *client = NULL;
  bool sets = args->n_words > 0;
  int status = check_words(args);
  json_t *words = status == 0 && sets ? change_of(args, &status) : NULL;
  if (words != NULL) status = cli_settings_take(args, words);
  if (status == 0 && sets && cli_request_id(args) == NULL) status = CLI_EXIT_INTERNAL;
  if (status == 0) status = cli_connect(args, &client);
  if (status == 0) status = sets ? change_settings(args, client, words) : get(args, client);
  json_decref(words);
  blx_client_close(client);
  return status;
}
