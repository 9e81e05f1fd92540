#include "list.h"
#include "events.h"
#include "select.h"

#include <stdio.h>
#include <string.h>

/* One `list`, `get` or `events`. */
struct listing {
  const struct cli_args *args;
  const struct cli_object_kind *kind;
  const char *const *names;
  size_t n_names;
  blx_client *client;
  struct cli_selection selection;
  struct cli_table table;
  int status;    /* of what is gone on from: a name that is not there */
  json_t *shown; /* with --watch and --filter: names of rows that were printed, whose end is told */
};

static int no_memory(void) {
  fputs("blixard: no memory for the list [NOMEM]\n", stderr);
  return CLI_EXIT_INTERNAL;
}

static bool is_table(const struct cli_args *args) {
  return args->output == CLI_OUT_PLAIN || args->output == CLI_OUT_TABLE || args->output == CLI_OUT_WIDE;
}

static int print_rows(struct listing *l, const json_t *rows) {
  if (cli_table_add(stdout, &l->table, rows) || ferror(stdout) != 0) return CLI_EXIT_OK;
  return no_memory();
}

static const char *name_in(const struct listing *l, const json_t *row) {
  const char *name = json_string_value(cli_path(row, l->kind->view->name_path));
  return name != NULL ? name : "";
}

static void print_name(const struct listing *l, const json_t *row) {
  bool event = l->kind == &cli_kind_event;
  const char *kind = event ? json_string_value(json_object_get(row, "kind")) : l->kind->name;
  printf("%s/%s\n", kind != NULL ? kind : "", name_in(l, row));
}

/* ---- once */

static json_t *rows_of(const struct listing *l, json_t *document) {
  return json_object_get(document, l->kind->view->name_rows);
}

static int print_list(struct listing *l, json_t *document) {
  size_t i;
  json_t *rows = rows_of(l, document), *row;
  if (!cli_selection_apply(&l->selection, rows)) return no_memory();
  if (is_table(l->args)) return print_rows(l, rows);
  if (l->args->output != CLI_OUT_NAME) return cli_document_print(l->args, document, l->kind->view);
  json_array_foreach(rows, i, row) {
    print_name(l, row);
  }
  return CLI_EXIT_OK;
}

/* The list as the library has it goes out as it is, if nobody wants another. */
static int print_fetched(struct listing *l, struct cli_list *list) {
  int status = CLI_EXIT_OK;
  bool as_is = list->type != NULL && !l->selection.given;
  if (l->args->output == CLI_OUT_JSON && as_is) return cli_show(l->args, list->type, list->message, l->kind->view);
  if (l->args->output == CLI_OUT_NAME && as_is) {
    const char *name;
    for (size_t i = 0; (name = cli_list_name(list, i)) != NULL; i++) printf("%s/%s\n", l->kind->name, name);
    return CLI_EXIT_OK;
  }
  json_t *document = cli_list_document(list, &status);
  return document != NULL ? print_list(l, document) : status;
}

static int list_all(struct listing *l) {
  struct cli_list list = {0};
  int status = l->kind->fetch(l->args, l->client, &list);
  if (status == 0) status = print_fetched(l, &list);
  cli_list_free(&list);
  return status;
}

/* ---- those that were named */

/* "vm/web" is web, if it is VMs that are asked for. */
static const char *bare_name(const struct cli_object_kind *kind, const char *word) {
  size_t n = strlen(kind->name);
  return strncmp(word, kind->name, n) == 0 && word[n] == '/' ? word + n + 1 : word;
}

/* One that is not there is said, and the others are shown all the same. */
static int fetch_named(struct listing *l, json_t *rows) {
  for (size_t i = 0; i < l->n_names; i++) {
    const char *name = bare_name(l->kind, l->names[i]);
    json_t *one = NULL;
    blx_error err = {0};
    int rc = l->kind->fetch_one(l->args, l->client, NULL, name, &one, &err);
    if (rc == 0 && json_array_append_new(rows, one) != 0) return no_memory();
    if (rc == 0) continue;
    int status = cli_fail(&err);
    if (rc != BLX_E_NOT_FOUND) return status;
    l->status = status;
  }
  return CLI_EXIT_OK;
}

/* One name alone is shown as the object, not as a list of one. */
static int print_single(struct listing *l, const json_t *one) {
  switch ((enum cli_output)l->args->output) {
  case CLI_OUT_JSON:
  case CLI_OUT_YAML: return cli_document_print(l->args, one, l->kind->view);
  case CLI_OUT_NAME: print_name(l, one); return CLI_EXIT_OK;
  case CLI_OUT_PLAIN:
  case CLI_OUT_TABLE:
  case CLI_OUT_WIDE: break;
  }
  return CLI_EXIT_OK;
}

static int list_named(struct listing *l) {
  json_t *rows = json_array(), *document = json_pack("{s:o}", l->kind->view->name_rows, rows);
  int status = document != NULL ? fetch_named(l, rows) : no_memory();
  size_t n = json_array_size(rows);
  if (status == 0 && l->n_names == 1 && n == 1 && !is_table(l->args) && !l->selection.given)
    status = print_single(l, json_array_get(rows, 0));
  else if (status == 0 && (n > 0 || l->n_names > 1))
    status = print_list(l, document);
  json_decref(document);
  return status != 0 ? status : l->status;
}

/* ---- --watch */

/* A line for a row that changed. @type: what happened to it. */
static int print_change(struct listing *l, const char *type, json_t *row) {
  bool event = l->kind == &cli_kind_event;
  json_t *shown = event ? json_pack("[O]", row) : json_pack("[{s:s, s:O}]", "type", type, l->kind->name, row);
  json_t *rows = json_pack("[O]", row);
  int status = shown != NULL && rows != NULL ? CLI_EXIT_OK : no_memory();
  if (status == 0 && is_table(l->args)) {
    status = print_rows(l, rows);
  } else if (status == 0 && l->args->output == CLI_OUT_NAME) {
    print_name(l, row);
  } else if (status == 0 && l->args->output == CLI_OUT_JSON) {
    json_dumpf(json_array_get(shown, 0), stdout, JSON_COMPACT);
    putchar('\n');
  } else if (status == 0) {
    puts("---");
    cli_yaml_print(stdout, json_array_get(shown, 0));
  }
  json_decref(shown);
  json_decref(rows);
  return status;
}

enum { KEY_SIZE = 160 };

/* Names of two tenants are two. */
static const char *key_in(const struct listing *l, const json_t *row, char key[KEY_SIZE]) {
  const char *tenant = json_string_value(json_object_get(row, "tenant"));
  snprintf(key, KEY_SIZE, "%s/%s", tenant != NULL ? tenant : "", name_in(l, row));
  return key;
}

static void note_shown(struct listing *l, const json_t *row) {
  char key[KEY_SIZE];
  if (l->shown != NULL) json_object_set_new(l->shown, key_in(l, row, key), json_true());
}

/* The rows as they are at first: of a table all at once, for its widths. */
static int print_first(struct listing *l, json_t *document) {
  json_t *rows = rows_of(l, document), *row;
  size_t i;
  int status = CLI_EXIT_OK;
  if (!cli_selection_apply(&l->selection, rows)) return no_memory();
  json_array_foreach(rows, i, row) {
    note_shown(l, row);
  }
  if (is_table(l->args)) return print_rows(l, rows);
  json_array_foreach(rows, i, row) {
    if (status == 0) status = print_change(l, "created", row);
  }
  return status;
}

static bool is_of_vms(const struct listing *l) {
  return l->kind->fetch == cli_kind_vm.fetch;
}

/* The object that a row is about which the event tells of; NULL: none. */
static const char *object_of(const struct listing *l, const struct blx_event *event) {
  if (is_of_vms(l) && event->kind == BLX_EVENT_KIND_INSTANCE) return event->vm;
  return event->kind == (int32_t)l->kind->event ? event->name : NULL;
}

static bool is_named(const struct listing *l, const char *name) {
  for (size_t i = 0; i < l->n_names; i++)
    if (strcmp(bare_name(l->kind, l->names[i]), name) == 0) return true;
  return l->n_names == 0;
}

/* What is left of an object that is gone: enough for a row. */
static json_t *gone_row(const struct listing *l, const struct blx_event *event) {
  json_int_t uid = (json_int_t)event->uid;
  const char *tenant = event->tenant != NULL ? event->tenant : "";
  if (is_of_vms(l))
    return json_pack("{s:I, s:s, s:{s:s, s:i}, s:s, s:i}", "uid", uid, "tenant", tenant, "spec", "name", event->name,
                     "replicas", 0, "phase", "Deleted", "running", 0);
  return json_pack("{s:I, s:s, s:s, s:s, s:s}", "uid", uid, "name", event->name, "tenant", tenant, "phase", "Deleted",
                   "status", "Deleted");
}

/* A row is printed if the filters let it through; its end, if it was ever printed. */
static bool is_shown(struct listing *l, const json_t *row, bool gone) {
  bool all = l->selection.n_filters == 0, has = cli_selection_has(&l->selection, row);
  char key[KEY_SIZE];
  if (gone) return all || json_object_del(l->shown, key_in(l, row, key)) == 0;
  if (has && !all) note_shown(l, row);
  return has;
}

/* @last: the row before, so that two events of one change are one line. */
static int show_event(struct listing *l, const struct blx_event *event, json_t **last) {
  const char *name = object_of(l, event);
  bool gone = event->type == BLX_EVENT_TYPE_DELETED && name != NULL && event->kind == (int32_t)l->kind->event;
  json_t *row = NULL;
  blx_error err = {0};
  int status = CLI_EXIT_OK;
  if (name == NULL || !is_named(l, name)) return CLI_EXIT_OK;
  int rc = gone ? 0 : l->kind->fetch_one(l->args, l->client, event->tenant, name, &row, &err);
  if (rc == BLX_E_NOT_FOUND) return CLI_EXIT_OK; /* the event of its end is on its way */
  if (rc != 0) return cli_fail(&err);
  if (gone) row = gone_row(l, event);
  if (row == NULL) return no_memory();
  bool created = event->type == BLX_EVENT_TYPE_CREATED && event->kind == (int32_t)l->kind->event;
  if (!json_equal(row, *last) && is_shown(l, row, gone))
    status = print_change(l, gone ? "deleted" : created ? "created" : "changed", row);
  json_decref(*last);
  *last = row;
  return status;
}

/* Rows as they change, until nobody wants more. BLX_E_STALE: begin again with the list. */
static int follow_rows(struct listing *l, uint64_t index) {
  struct cli_events_want want = {.request = BLX_WATCH_REQUEST_INIT};
  struct cli_events events;
  json_t *last = NULL;
  int status = CLI_EXIT_OK, rc = 1;
  want.request.since_index = index;
  want.request.all_tenants = l->args->all_tenants != 0 || l->kind == &cli_kind_quota; /* as the list is */
  cli_events_begin(&events, l->args, l->client, &want);
  while (status == 0 && rc == 1) {
    struct blx_event *event = NULL;
    fflush(stdout);
    rc = cli_events_next(&events, true, &event);
    if (rc == 1) status = show_event(l, event, &last);
    blx_event_free(event);
  }
  json_decref(last);
  cli_events_end(&events);
  if (rc < 0 && rc != BLX_E_STALE) return cli_fail(&events.err);
  return rc == BLX_E_STALE ? BLX_E_STALE : status;
}

static int watch_list(struct listing *l) {
  int status = BLX_E_STALE;
  l->shown = l->selection.n_filters > 0 ? json_object() : NULL;
  while (status == BLX_E_STALE) {
    struct cli_list list = {0};
    status = l->kind->fetch(l->args, l->client, &list);
    uint64_t index = list.index;
    json_t *document = cli_list_document(&list, &status);
    if (status == 0) status = print_first(l, document);
    cli_list_free(&list);
    if (status == 0) status = follow_rows(l, index);
  }
  json_decref(l->shown);
  return status;
}

/* Events are rows themselves. What is there already goes into the table at once, for its widths. */
static int follow_events(struct listing *l) {
  enum { BATCH_MAX = 1000 };
  struct cli_events_want want;
  struct cli_events events;
  json_t *batch = json_array();
  int status = cli_events_wanted(l->args, &want), rc = 1;
  if (status == 0) cli_events_begin(&events, l->args, l->client, &want);
  while (status == 0 && batch != NULL && (rc == 1 || rc == BLX_E_TIMEOUT)) {
    struct blx_event *event = NULL;
    size_t n = json_array_size(batch);
    rc = cli_events_next(&events, n == 0, &event);
    json_t *row = rc == 1 ? cli_event_document(event, &status) : NULL;
    if (row != NULL && cli_selection_has(&l->selection, row)) json_array_append(batch, row);
    json_decref(row);
    blx_event_free(event);
    if (rc == 1 && n + 1 < BATCH_MAX) continue;
    json_t *document = json_pack("{s:O}", l->kind->view->name_rows, batch);
    if (status == 0) status = print_first(l, document);
    json_decref(document);
    json_array_clear(batch);
    fflush(stdout);
  }
  json_decref(batch);
  if (want.request.struct_size > 0 && status == 0) cli_events_end(&events);
  return rc < 0 && rc != BLX_E_TIMEOUT ? cli_fail(&events.err) : status;
}

/* ---- which of them */

static int run(struct listing *l) {
  if (l->args->watch != 0 && l->kind == &cli_kind_event) return follow_events(l);
  if (l->args->watch != 0) return watch_list(l);
  return l->n_names > 0 ? list_named(l) : list_all(l);
}

/* What can be said without asking anybody. */
static int check(const struct listing *l) {
  const struct cli_args *args = l->args;
  struct cli_events_want want;
  if (l->n_names > 0 && l->kind->fetch_one == NULL)
    return cli_usage("events have no names; `blixard events --for vm/NAME` shows those of a VM");
  if (args->watch != 0 && args->sort_by != NULL)
    return cli_usage("--sort-by does not go with --watch or --follow: rows come as they change");
  if (l->n_names > 0 && args->all_tenants != 0 && l->kind->of_tenant)
    return cli_usage("--all-tenants is for lists: a name is one tenant's, say whose with --tenant");
  for (size_t i = 0; i < l->n_names; i++)
    if (cli_vm_name(bare_name(l->kind, l->names[i]), 63) == NULL) return CLI_EXIT_USAGE;
  return l->kind == &cli_kind_event ? cli_events_wanted(args, &want) : CLI_EXIT_OK;
}

int cli_list(const struct cli_args *args, const struct cli_object_kind *kind, const char *const *names,
             size_t n_names) {
  struct listing l = {.args = args, .kind = kind, .names = names, .n_names = n_names};
  int status = check(&l);
  if (status == 0) status = cli_selection_make(args, kind, &l.selection);
  if (status == 0) status = cli_connect(args, &l.client);
  if (status != 0) return status;
  l.table = (struct cli_table){.columns = l.selection.columns, .n_columns = l.selection.n_columns};
  l.table.headed = args->no_headers != 0;
  status = run(&l);
  blx_client_close(l.client);
  return status;
}
