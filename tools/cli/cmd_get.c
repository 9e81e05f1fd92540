#include "list.h"
#include "select.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* With --pending: those of which an instance waits. */
int cmd_vm_list(struct cli_args *args) {
  struct cli_labels *filters = &args->filters;
  if (args->pending == 0) return cli_list(args, &cli_kind_vm, NULL, 0);
  if (filters->count == CLI_FILTERS_MAX)
    return cli_usage("--pending is a filter, too: one less of %d", CLI_FILTERS_MAX);
  struct blx_label *row = &filters->rows[filters->count];
  *row = (struct blx_label)BLX_LABEL_INIT;
  row->key = "instances.phase";
  row->value = "Pending";
  filters->list[filters->count++] = row;
  return cli_list(args, &cli_kind_pending, NULL, 0);
}

int cmd_node_list(struct cli_args *args) {
  return cli_list(args, &cli_kind_node, NULL, 0);
}

/* `events --for` is checked before anything is asked. */
int cmd_events(struct cli_args *args) {
  args->watch |= args->follow;
  return cli_list(args, &cli_kind_event, NULL, 0);
}

static int unknown_kind(const char *word, size_t len) {
  char quoted[CLI_QUOTE_SIZE], name[64], known[160] = "";
  snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), word);
  const struct cli_object_kind *kind;
  for (size_t i = 0; (kind = cli_kind_at(i)) != NULL; i++) {
    size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", kind->name);
  }
  return cli_usage("there is no kind %s; there are %s", cli_quote(quoted, sizeof quoted, name), known);
}

int cmd_get(struct cli_args *args) {
  const char *word = args->words[0];
  size_t len = strcspn(word, "/");
  const struct cli_object_kind *kind = cli_kind_find(word, len);
  if (kind == NULL) return unknown_kind(word, len);
  if (word[len] == '\0') return cli_list(args, kind, args->words + 1, args->n_words - 1);
  args->words[0] = word + len + 1;
  return cli_list(args, kind, args->words, args->n_words);
}

/* ---- explain */

static const struct cli_column type_fields[] = {{"Name:", "{name}"}, {"About:", "{doc}"}};
static const struct cli_column field_columns[] = {
    {"FIELD", "{name}"}, {"TYPE", "{shown}"}, {"RANGE", "{range}"}, {"DEFAULT", "{default}"}, {"ABOUT", "{doc}"}};
static const struct cli_column value_columns[] = {{"VALUE", "{name}"}, {"ABOUT", "{doc}"}};
static const struct cli_column one_field[] = {{"Field:", "{path}"}, {"Type:", "{shown}"},      {"Range:", "{range}"},
                                              {"Unit:", "{unit}"},  {"Default:", "{default}"}, {"About:", "{doc}"}};
static const struct cli_column kind_columns[] = {{"TYPE", "{name}"}, {"IS", "{kind}"}, {"ABOUT", "{doc}"}};

static const struct cli_block message_blocks[] = {{CLI_FIELDS, NULL, type_fields, COUNT(type_fields)},
                                                  {CLI_TABLE, "fields", field_columns, COUNT(field_columns)}};
static const struct cli_block enum_blocks[] = {{CLI_FIELDS, NULL, type_fields, COUNT(type_fields)},
                                               {CLI_TABLE, "values", value_columns, COUNT(value_columns)}};
static const struct cli_block field_blocks[] = {{CLI_FIELDS, NULL, one_field, COUNT(one_field)},
                                                {CLI_TABLE, "fields", field_columns, COUNT(field_columns)},
                                                {CLI_TABLE, "values", value_columns, COUNT(value_columns)}};
static const struct cli_block all_blocks[] = {{CLI_TABLE, "types", kind_columns, COUNT(kind_columns)}};

static const struct cli_view message_view = {"field", "fields", "name", message_blocks, COUNT(message_blocks)};
static const struct cli_view enum_view = {"value", "values", "name", enum_blocks, COUNT(enum_blocks)};
static const struct cli_view field_view = {"field", NULL, "path", field_blocks, COUNT(field_blocks)};
static const struct cli_view all_view = {"type", "types", "name", all_blocks, COUNT(all_blocks)};

static bool is_true(const json_t *field, const char *key) {
  return json_is_true(json_object_get(field, key));
}

static bool is_text(const json_t *field) {
  const char *type = json_string_value(json_object_get(field, "type"));
  return type != NULL && (strcmp(type, "text") == 0 || strcmp(type, "bytes") == 0);
}

/* What people read instead of a handful of members. */
static void add_shown(json_t *field) {
  const char *type = json_string_value(json_object_get(field, "type"));
  const json_t *min = json_object_get(field, "min"), *max = json_object_get(field, "max");
  json_int_t most = json_integer_value(json_object_get(field, "elements_max"));
  char shown[96], range[96] = "";
  snprintf(shown, sizeof shown, "%s%s%s", is_true(field, "repeated") ? "list of " : "", type != NULL ? type : "",
           is_true(field, "optional") ? ", optional" : "");
  json_object_set_new(field, "shown", json_string(shown));
  if (max != NULL)
    snprintf(range, sizeof range, "%" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT "%s", json_integer_value(min),
             json_integer_value(max), is_text(field) ? " bytes" : "");
  else if (most > 0)
    snprintf(range, sizeof range, "at most %" JSON_INTEGER_FORMAT, most);
  if (range[0] != '\0') json_object_set_new(field, "range", json_string(range));
}

static void add_all_shown(const json_t *type) {
  json_t *field;
  size_t i;
  json_array_foreach(json_object_get(type, "fields"), i, field) {
    add_shown(field);
  }
}

static bool for_people(const struct cli_args *args) {
  return args->output != CLI_OUT_JSON && args->output != CLI_OUT_YAML;
}

static int explain_type(const struct cli_args *args, json_t *type, const struct cli_view *other) {
  bool message = json_object_get(type, "fields") != NULL, values = json_object_get(type, "values") != NULL;
  if (for_people(args)) add_all_shown(type);
  return cli_document_print(args, type, message ? &message_view : values ? &enum_view : other);
}

/* A field, and below it what its type has. */
static int explain_field(const struct cli_args *args, json_t *field, const char *path) {
  const char *of = json_string_value(json_object_get(field, "type"));
  json_object_set_new(field, "path", json_string(path));
  json_t *type = json_object_get(field, "of") != NULL && of != NULL ? cli_schema(of) : NULL;
  if (for_people(args)) {
    add_shown(field);
    add_all_shown(type);
  }
  if (json_object_get(type, "fields") != NULL) json_object_set(field, "fields", json_object_get(type, "fields"));
  if (json_object_get(type, "values") != NULL) json_object_set(field, "values", json_object_get(type, "values"));
  json_decref(type);
  return cli_document_print(args, field, &field_view);
}

int cmd_explain(struct cli_args *args) {
  char quoted[CLI_QUOTE_SIZE], type[64];
  const char *word = args->n_words > 0 ? args->words[0] : NULL;
  size_t len = word != NULL ? strcspn(word, ".") : 0;
  const struct cli_object_kind *kind = word != NULL ? cli_kind_find(word, len) : NULL;
  snprintf(type, sizeof type, "%.*s", (int)(len < sizeof type ? len : sizeof type - 1), word != NULL ? word : "");
  const char *name = kind != NULL ? kind->type : type;
  json_t *document = cli_schema(word != NULL ? name : NULL);
  if (document == NULL)
    return cli_usage("there is no kind or type %s; `blixard explain` lists them",
                     cli_quote(quoted, sizeof quoted, type));
  if (word == NULL || word[len] == '\0') {
    int status = explain_type(args, document, &all_view);
    json_decref(document);
    return status;
  }
  json_decref(document);
  document = cli_schema_field(name, word + len + 1);
  if (document == NULL)
    return cli_usage("there is no field %s in %s; `blixard explain %s` lists them",
                     cli_quote(quoted, sizeof quoted, word + len + 1), name, type);
  int status = explain_field(args, document, word);
  json_decref(document);
  return status;
}
