#include "output.h"

#include <string.h>

static int print_names(const json_t *document, const struct cli_view *view) {
  const json_t *rows = view->name_rows != NULL ? cli_path(document, view->name_rows) : NULL;
  size_t n = view->name_rows != NULL ? json_array_size(rows) : 1;
  for (size_t i = 0; i < n; i++) {
    const json_t *row = view->name_rows != NULL ? json_array_get(rows, i) : document;
    const char *name = json_string_value(cli_path(row, view->name_path));
    printf("%s/%s\n", view->kind, name != NULL ? name : "");
  }
  return CLI_EXIT_OK;
}

int cli_document_print(const struct cli_args *args, const json_t *document, const struct cli_view *view) {
  switch ((enum cli_output)args->output) {
  case CLI_OUT_JSON:
    if (json_dumpf(document, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF) return CLI_EXIT_OK;
    break;
  case CLI_OUT_YAML:
    if (cli_yaml_print(stdout, document)) return CLI_EXIT_OK;
    break;
  case CLI_OUT_NAME: return print_names(document, view);
  case CLI_OUT_PLAIN:
  case CLI_OUT_TABLE:
  case CLI_OUT_WIDE:
    if (cli_blocks_print(stdout, document, view->blocks, view->n_blocks)) return CLI_EXIT_OK;
    break;
  }
  if (ferror(stdout) != 0) return CLI_EXIT_OK; /* main() tells a closed pipe from a full disk */
  fputs("blixard: out of memory while printing [NOMEM]\n", stderr);
  return CLI_EXIT_INTERNAL;
}

json_t *cli_document(const char *type, const void *message, int *status) {
  blx_error err = {0};
  json_error_t why;
  char *text = NULL;
  if (blx_to_json(type, message, &text, &err) != 0) {
    *status = cli_fail(&err);
    return NULL;
  }
  json_t *document = json_loads(text, 0, &why);
  blx_string_free(text);
  if (document == NULL) {
    fprintf(stderr, "blixard: the library's JSON does not parse: %s [INTERNAL]\n", why.text);
    *status = CLI_EXIT_INTERNAL;
  }
  return document;
}

/* JSON is written by the library: to parse and print it again takes ten times as long. */
static int show_json(const char *type, const void *message) {
  blx_error err = {0};
  char *text = NULL;
  if (blx_to_json_pretty(type, message, &text, &err) != 0) return cli_fail(&err);
  fputs(text, stdout);
  putchar('\n');
  blx_string_free(text);
  return CLI_EXIT_OK; /* main() looks whether it could be written */
}

int cli_show(const struct cli_args *args, const char *type, const void *message, const struct cli_view *view) {
  int status = CLI_EXIT_OK;
  if (args->output == CLI_OUT_JSON) return show_json(type, message);
  json_t *document = cli_document(type, message, &status);
  if (document == NULL) return status;
  status = cli_document_print(args, document, view);
  json_decref(document);
  return status;
}

int cli_show_change(const struct cli_args *args, const char *type, const void *message, const struct cli_view *view,
                    const char *what) {
  if (args->output != CLI_OUT_PLAIN) return cli_show(args, type, message, view);
  int status = CLI_EXIT_OK;
  json_t *document = cli_document(type, message, &status);
  if (document == NULL) return status;
  const char *name = json_string_value(cli_path(document, view->name_path));
  printf("%s/%s %s\n", view->kind, name != NULL ? name : "", what);
  json_decref(document);
  return CLI_EXIT_OK;
}
