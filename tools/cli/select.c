#include "select.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_SIZE = 720 };

json_t *cli_schema(const char *type) {
  char *text = NULL;
  if (blx_describe(type, &text, NULL) != 0) return NULL;
  json_t *document = json_loads(text, 0, NULL);
  blx_string_free(text);
  return document;
}

static json_t *field_named(const json_t *type, const char *name, size_t len) {
  json_t *fields = json_object_get(type, "fields"), *field;
  size_t i;
  json_array_foreach(fields, i, field) {
    const char *own = json_string_value(json_object_get(field, "name"));
    if (own != NULL && strlen(own) == len && memcmp(own, name, len) == 0) return field;
  }
  return NULL;
}

static const char *text_of(const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  return text != NULL ? text : "";
}

json_t *cli_schema_field(const char *type, const char *path) {
  json_t *document = cli_schema(type), *field = NULL;
  while (document != NULL) {
    size_t len = strcspn(path, ".");
    field = json_incref(field_named(document, path, len));
    json_decref(document);
    path += len;
    if (field == NULL || *path == '\0') return field;
    document = strcmp(text_of(field, "of"), "message") == 0 ? cli_schema(text_of(field, "type")) : NULL;
    json_decref(field);
    path++;
  }
  return NULL;
}

/* ---- from a name to a field */

/* Case, and which of ' ', '-' and '_' it is, makes no difference. */
static bool same_title(const char *title, const char *name) {
  for (; *title != '\0' && *name != '\0'; title++, name++) {
    int a = *title == ' ' || *title == '-' ? '_' : tolower((unsigned char)*title);
    int b = *name == ' ' || *name == '-' ? '_' : tolower((unsigned char)*name);
    if (a != b) return false;
  }
  return *title == *name;
}

/* Column @i of the table, -o wide's behind the others; NULL behind the last. */
static const struct cli_column *column_at(const struct cli_object_kind *kind, size_t i) {
  const struct cli_block *block = &kind->view->blocks[0];
  if (i < block->n_columns) return &block->columns[i];
  return i - block->n_columns < kind->n_wide ? &kind->wide[i - block->n_columns] : NULL;
}

/* The path in a template that is one slot and nothing else, and says no more than the value does. */
static void path_of(const char *text, char path[CLI_FIELD_SIZE], bool first_slot) {
  size_t n = strcspn(text + 1, ":?!}");
  const char *end = strchr(text, '}');
  path[0] = '\0';
  if (*text != '{' || end == NULL || n >= CLI_FIELD_SIZE) return;
  bool as_is = text[1 + n] == '}' || strncmp(text + 1 + n, ":some", 5) == 0;
  if (!first_slot && (end[1] != '\0' || !as_is)) return;
  snprintf(path, CLI_FIELD_SIZE, "%.*s", (int)n, text + 1);
}

static bool find_column(const struct cli_object_kind *kind, const char *name, bool sorting, struct cli_field *out) {
  const struct cli_column *column;
  for (size_t i = 0; (column = column_at(kind, i)) != NULL; i++) {
    if (!same_title(column->title, name)) continue;
    snprintf(out->title, sizeof out->title, "%s", column->title);
    snprintf(out->text, sizeof out->text, "%s", column->text);
    path_of(column->text, out->path, sorting);
    return true;
  }
  return false;
}

static bool find_label(const struct cli_object_kind *kind, const char *name, struct cli_field *out) {
  if (kind->labels == NULL || strncmp(name, "label.", 6) != 0 || name[6] == '\0') return false;
  snprintf(out->title, sizeof out->title, "%s", name);
  int n = snprintf(out->path, sizeof out->path, "%s.=%s", kind->labels, name + 6);
  snprintf(out->text, sizeof out->text, "{%s.=%.64s}", kind->labels, name + 6);
  return n > 0 && (size_t)n < sizeof out->path && strpbrk(name, ":?!{}") == NULL;
}

/* One step of find_field: "instances" becomes "instances[]" where it is repeated. */
static bool add_step(const json_t *field, struct cli_field *out) {
  size_t used = strlen(out->path);
  bool repeated = json_is_true(json_object_get(field, "repeated"));
  if (repeated && strstr(out->path, "[]") != NULL) return false;
  int n = snprintf(out->path + used, sizeof out->path - used, "%s%s%s", used > 0 ? "." : "", text_of(field, "name"),
                   repeated ? "[]" : "");
  return n > 0 && (size_t)n < sizeof out->path - used;
}

/* A field of the schema by its path. Labels are printed as such, other messages are no values. */
static bool find_field(const struct cli_object_kind *kind, const char *name, struct cli_field *out) {
  char prefix[CLI_FIELD_SIZE];
  const char *end = name;
  bool ok = strlen(name) < sizeof prefix && *name != '\0', labels = false;
  *out = (struct cli_field){0};
  while (ok) {
    end += strcspn(end, ".");
    snprintf(prefix, sizeof prefix, "%.*s", (int)(end - name), name);
    json_t *field = cli_schema_field(kind->type, prefix);
    ok = field != NULL && add_step(field, out);
    if (ok && *end == '\0') {
      labels = strcmp(text_of(field, "type"), "label") == 0;
      ok = labels || strcmp(text_of(field, "of"), "message") != 0;
    }
    json_decref(field);
    if (*end == '\0') break;
    end++;
  }
  if (!ok) return false;
  if (labels) out->path[strlen(out->path) - 2] = '\0';
  for (size_t i = 0; name[i] != '\0'; i++) out->title[i] = (char)toupper((unsigned char)name[i]);
  int n = snprintf(out->text, sizeof out->text, "{%.120s%s}", out->path, labels ? ":labels" : "");
  if (labels) out->path[0] = '\0';
  return n > 0 && (size_t)n < sizeof out->text;
}

/* ---- names that there are, for messages */

static void add_name(char *names, const char *prefix, const char *name) {
  size_t used = strlen(names);
  int n = snprintf(names + used, NAMES_SIZE - used, "%s%s%s", used > 0 ? ", " : "", prefix, name);
  if (n < 0 || (size_t)n >= NAMES_SIZE - used) names[used] = '\0';
}

/* Fields of @type, and of the messages in it; those of repeated ones are left to `blixard explain`. */
static void add_fields(char *names, const char *type, const char *prefix) {
  json_t *document = cli_schema(type), *field;
  size_t i;
  json_array_foreach(json_object_get(document, "fields"), i, field) {
    char below[CLI_FIELD_SIZE];
    const char *name = text_of(field, "name");
    bool message = strcmp(text_of(field, "of"), "message") == 0 && strcmp(text_of(field, "type"), "label") != 0;
    snprintf(below, sizeof below, "%s%s.", prefix, name);
    if (!message)
      add_name(names, prefix, name);
    else if (*prefix == '\0' && !json_is_true(json_object_get(field, "repeated")))
      add_fields(names, text_of(field, "type"), below);
  }
  json_decref(document);
}

static int unknown(const struct cli_object_kind *kind, const char *flag, const char *name) {
  char quoted[CLI_QUOTE_SIZE], columns[NAMES_SIZE] = "", fields[NAMES_SIZE] = "", lower[64];
  const struct cli_column *column;
  for (size_t i = 0; (column = column_at(kind, i)) != NULL; i++) {
    size_t n = 0;
    for (; column->title[n] != '\0' && n + 1 < sizeof lower; n++)
      lower[n] = column->title[n] == ' ' ? '-' : (char)tolower((unsigned char)column->title[n]);
    lower[n] = '\0';
    add_name(columns, "", lower);
  }
  add_fields(fields, kind->type, "");
  if (kind->labels != NULL) add_name(fields, "", "label.KEY");
  return cli_usage("%s: %s is no column or field of %s; columns: %s; fields: %s", flag,
                   cli_quote(quoted, sizeof quoted, name), kind->also, columns, fields);
}

/* ---- the command line */

static int add_column(const struct cli_object_kind *kind, const char *name, struct cli_selection *out) {
  if (out->n_columns == CLI_COLUMNS_MAX) return cli_usage("--columns takes %d columns at most", CLI_COLUMNS_MAX);
  struct cli_field *field = &out->fields[out->n_columns];
  if (!find_column(kind, name, false, field) && !find_label(kind, name, field) && !find_field(kind, name, field))
    return unknown(kind, "--columns", name);
  out->columns[out->n_columns++] = (struct cli_column){field->title, field->text};
  return 0;
}

static int take_columns(const struct cli_args *args, const struct cli_object_kind *kind, struct cli_selection *out) {
  const char *at = args->columns;
  const struct cli_column *column;
  size_t n = args->output == CLI_OUT_WIDE ? SIZE_MAX : kind->view->blocks[0].n_columns;
  if (at == NULL && args->all_tenants != 0 && kind->of_tenant)
    out->columns[out->n_columns++] = (struct cli_column){"TENANT", "{tenant}"};
  for (size_t i = 0; at == NULL && i < n && (column = column_at(kind, i)) != NULL; i++)
    out->columns[out->n_columns++] = *column;
  if (at != NULL && args->output != CLI_OUT_PLAIN && args->output != CLI_OUT_TABLE && args->output != CLI_OUT_WIDE)
    return cli_usage("--columns is for tables; json and yaml have all fields");
  while (at != NULL) {
    char name[CLI_FIELD_SIZE];
    size_t len = strcspn(at, ",");
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), at);
    int status = add_column(kind, name, out);
    if (status != 0) return status;
    at = at[len] == ',' ? at + len + 1 : NULL;
  }
  return 0;
}

/* A value is looked for in the schema first: `running` is the number there, and "2/2" in the table. */
static bool find_value(const struct cli_object_kind *kind, const char *name, bool sorting, struct cli_field *out) {
  return find_field(kind, name, out) || find_label(kind, name, out) || find_column(kind, name, sorting, out);
}

static int take_filters(const struct cli_args *args, const struct cli_object_kind *kind, struct cli_selection *out) {
  for (size_t i = 0; i < args->filters.count && i < CLI_FILTERS_MAX; i++) {
    const struct blx_label *given = &args->filters.rows[i];
    struct cli_filter *filter = &out->filters[out->n_filters++];
    char name[CLI_FIELD_SIZE];
    snprintf(name, sizeof name, "%s", given->key);
    size_t len = strlen(name);
    filter->negated = name[len - 1] == '!';
    if (filter->negated) name[len - 1] = '\0';
    filter->value = given->value + (*given->value == '=' && !filter->negated); /* "==" as kubectl takes it */
    if (!find_value(kind, name, false, &filter->field)) return unknown(kind, "--filter", name);
  }
  return 0;
}

int cli_selection_make(const struct cli_args *args, const struct cli_object_kind *kind, struct cli_selection *out) {
  *out = (struct cli_selection){.given = args->filters.count > 0 || args->sort_by != NULL};
  int status = take_columns(args, kind, out);
  if (status == 0) status = take_filters(args, kind, out);
  if (status != 0 || args->sort_by == NULL) return status;
  out->sorted = true;
  out->backwards = args->sort_by[0] == '-';
  if (find_value(kind, args->sort_by + out->backwards, true, &out->sort)) return 0;
  return unknown(kind, "--sort-by", args->sort_by);
}

/* ---- filtering */

static bool value_matches(const json_t *value, const char *pattern) {
  char number[32];
  if (json_is_boolean(value))
    return fnmatch(pattern, json_is_true(value) ? "true" : "false", FNM_CASEFOLD) == 0 ||
           fnmatch(pattern, json_is_true(value) ? "yes" : "no", FNM_CASEFOLD) == 0;
  snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
  const char *text = json_is_integer(value) ? number : json_string_value(value);
  return fnmatch(pattern, text != NULL ? text : "", FNM_CASEFOLD) == 0;
}

/* "instances[].node": one of them is enough. */
static bool path_matches(const json_t *row, const char *path, const char *pattern) {
  char before[CLI_FIELD_SIZE];
  const char *brackets = strstr(path, "[]");
  if (brackets == NULL) return value_matches(cli_path(row, path), pattern);
  snprintf(before, sizeof before, "%.*s", (int)(brackets - path), path);
  const json_t *list = cli_path(row, before);
  for (size_t i = 0; i < json_array_size(list); i++)
    if (value_matches(cli_path(json_array_get(list, i), brackets + 2 + (brackets[2] == '.')), pattern)) return true;
  return false;
}

static bool filter_matches(const struct cli_filter *filter, const json_t *row) {
  if (filter->field.path[0] != '\0') return path_matches(row, filter->field.path, filter->value);
  char *cell = cli_template(row, filter->field.text);
  bool matches = cell != NULL && fnmatch(filter->value, cell, FNM_CASEFOLD) == 0;
  free(cell);
  return matches;
}

bool cli_selection_has(const struct cli_selection *selection, const json_t *row) {
  for (size_t i = 0; i < selection->n_filters; i++)
    if (filter_matches(&selection->filters[i], row) == selection->filters[i].negated) return false;
  return true;
}

/* ---- sorting */

struct sorted {
  json_t *row;
  const json_t *number; /* NULL: by the text */
  char *text;
  size_t at;
};

static int by_key(const void *left, const void *right, void *user) {
  const struct sorted *a = left, *b = right;
  const struct cli_selection *selection = user;
  int order = 0;
  if (a->number != NULL && b->number != NULL) {
    json_int_t x = json_integer_value(a->number), y = json_integer_value(b->number);
    order = (x > y) - (x < y);
  } else {
    order = strverscmp(a->text, b->text);
  }
  if (order != 0) return selection->backwards ? -order : order;
  return a->at < b->at ? -1 : 1;
}

static bool sort_key(const struct cli_selection *selection, json_t *row, size_t at, struct sorted *out) {
  const struct cli_field *field = &selection->sort;
  bool direct = field->path[0] != '\0' && strstr(field->path, "[]") == NULL;
  const json_t *value = direct ? cli_path(row, field->path) : NULL;
  *out = (struct sorted){.row = row, .at = at, .number = json_is_integer(value) ? value : NULL};
  out->text = json_is_string(value) ? strdup(json_string_value(value)) : cli_template(row, field->text);
  return out->text != NULL;
}

static bool sort_rows(const struct cli_selection *selection, json_t *rows) {
  size_t n = json_array_size(rows), made = 0;
  struct sorted *keys = calloc(n + 1, sizeof *keys);
  if (keys == NULL) return false;
  while (made < n && sort_key(selection, json_array_get(rows, made), made, &keys[made])) made++;
  bool ok = made == n;
  if (ok) qsort_r(keys, n, sizeof *keys, by_key, (void *)(uintptr_t)selection);
  for (size_t i = 0; i < n && ok; i++) json_incref(keys[i].row);
  for (size_t i = 0; i < n && ok; i++) json_array_set_new(rows, i, keys[i].row);
  for (size_t i = 0; i < made; i++) free(keys[i].text);
  free(keys);
  return ok;
}

bool cli_selection_apply(const struct cli_selection *selection, json_t *rows) {
  json_t *kept = json_array(), *row;
  size_t i;
  json_array_foreach(rows, i, row) {
    if (cli_selection_has(selection, row)) json_array_append(kept, row);
  }
  bool ok = kept != NULL && json_array_clear(rows) == 0 && json_array_extend(rows, kept) == 0;
  json_decref(kept);
  return ok && (!selection->sorted || sort_rows(selection, rows));
}
