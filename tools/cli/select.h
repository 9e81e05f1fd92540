/* --columns, --filter and --sort-by of a list: names of the table's columns, or of the schema's fields. */
#ifndef BLX_CLI_SELECT_H
#define BLX_CLI_SELECT_H

#include "kinds.h"

enum { CLI_FIELD_SIZE = 160, CLI_FILTERS_MAX = 16 };

/* A name, looked up. */
struct cli_field {
  char title[CLI_FIELD_SIZE];
  char text[CLI_FIELD_SIZE]; /* template of its cell; empty: it has none */
  char path[CLI_FIELD_SIZE]; /* where the value is; empty: the cell is the value */
};

struct cli_filter {
  struct cli_field field;
  const char *value; /* a shell pattern */
  bool negated;
};

struct cli_selection {
  bool given; /* --filter or --sort-by: the list is not printed as it came */
  struct cli_column columns[CLI_COLUMNS_MAX];
  struct cli_field fields[CLI_COLUMNS_MAX]; /* that columns point into */
  size_t n_columns;
  struct cli_filter filters[CLI_FILTERS_MAX];
  size_t n_filters;
  struct cli_field sort;
  bool sorted, backwards;
};

/* What the command line asks for. 0, or the exit status after saying what is wrong. */
int cli_selection_make(const struct cli_args *args, const struct cli_object_kind *kind, struct cli_selection *out);

bool cli_selection_has(const struct cli_selection *selection, const json_t *row);

/* Leave in the array @rows what is wanted, in the order that is wanted. False: out of memory. */
bool cli_selection_apply(const struct cli_selection *selection, json_t *rows);

/* The field of @type ("vm") at @path ("spec.vcpus") as blx_describe() has it, the caller's. NULL: there is none. */

json_t *cli_schema_field(const char *type, const char *path);

/* blx_describe() as a document, the caller's; NULL: there is no such type, or no memory. */
json_t *cli_schema(const char *type);

#endif
